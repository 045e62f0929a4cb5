package org.teamtr.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;

/** The closed form against its definition: feasible, tight where it binds, and no feasible distribution is nearer. */
class ProjectionTest {
    private static final double NEVER = Double.NEGATIVE_INFINITY;

    private static double[] logs(double... p) {
        return Arrays.stream(p).map(Math::log).toArray();
    }

    private static double[] random(SplittableRandom random, int n, double spread) {
        return logs(softmax(random.doubles(n, -spread, spread).toArray()));
    }

    private static double[] softmax(double[] x) {
        final double sum = Arrays.stream(x).map(Math::exp).sum();
        return Arrays.stream(x).map(v -> Math.exp(v) / sum).toArray();
    }

    /** KL(p || q) of log-probs, by the definition. */
    private static double kl(double[] p, double[] q) {
        double kl = 0;
        for (int a = 0; a < p.length; a++) {
            kl += p[a] == NEVER ? 0 : Math.exp(p[a]) * (p[a] - q[a]);
        }
        return kl;
    }

    @Test
    void aPolicyInsideStaysAsItIs() {
        final double[] pre = logs(0.5, 0.3, 0.2);
        final double[] inc = logs(0.45, 0.35, 0.2);
        final Projection p = Projection.of(pre, inc, 0.1);
        assertEquals(0, p.lambda());
        assertArrayEquals(pre, p.logProbs(), 1e-15);
        assertEquals(kl(pre, inc), p.kl(), 1e-15);
        assertEquals(0, Projection.of(inc, inc, 1e-9).lambda(), "equal policies");
        assertEquals(0, Projection.of(inc, inc, 1e-9).kl());
        final double[] far = logs(0.999, 0.0005, 0.0005);
        assertEquals(0, Projection.of(far, inc, 1e9).lambda(), "a huge radius");
        assertArrayEquals(far, Projection.of(far, inc, Double.POSITIVE_INFINITY).logProbs(), 1e-15);
    }

    /** Two actions: the tight distribution is the root of one equation, found here by stepping and not by lambda. */
    @Test
    void twoActionsByHand() {
        final Projection p = Projection.of(logs(0.9, 0.1), logs(0.5, 0.5), 0.05);
        double x = 0.5;
        while (x * Math.log(x / 0.5) + (1 - x) * Math.log((1 - x) / 0.5) < 0.05) {
            x += 1e-7;
        }
        assertEquals(x, Math.exp(p.logProbs()[0]), 1e-6);
        // x / (1 - x) = (0.9 / 0.1)^(1 / (1 + lambda))
        assertEquals(Math.log(9) / Math.log(x / (1 - x)) - 1, p.lambda(), 1e-5);
    }

    @Test
    void itIsTightAndNoFeasibleDistributionIsNearer() {
        final SplittableRandom random = new SplittableRandom(3);
        int beaten = 0;
        for (int c = 0; c < 200; c++) {
            final int n = random.nextInt(2, 9);
            final double[] pre = random(random, n, 3);
            final double[] inc = random(random, n, 3);
            final double delta0 = Math.pow(10, random.nextDouble(-4, 0));
            final Projection p = Projection.of(pre, inc, delta0);
            assertEquals(1, Arrays.stream(p.logProbs()).map(Math::exp).sum(), 1e-12);
            assertEquals(kl(p.logProbs(), inc), p.kl(), 1e-12);
            assertTrue(p.kl() <= delta0);
            if (kl(pre, inc) > delta0) {
                assertTrue(p.lambda() > 0);
                assertEquals(delta0, p.kl(), 1e-9 * delta0 + 1e-14);
                for (int a = 1; a < n; a++) { // the form, up to the normaliser
                    final double form = (pre[a] - pre[0] + p.lambda() * (inc[a] - inc[0])) / (1 + p.lambda());
                    assertEquals(form, p.logProbs()[a] - p.logProbs()[0], 1e-9);
                }
            } else {
                assertEquals(0, p.lambda());
            }
            for (int r = 0; r < 200; r++) { // near the projection, and pulled to the incumbent until feasible
                final double scale = Math.pow(10, random.nextDouble(-3, 0.5));
                double[] other = new double[n];
                for (int a = 0; a < n; a++) {
                    other[a] = p.logProbs()[a] + scale * (2 * random.nextDouble() - 1);
                }
                other = logs(softmax(other));
                while (kl(other, inc) > delta0) {
                    final double[] nearer = new double[n];
                    for (int a = 0; a < n; a++) {
                        nearer[a] = Math.log(0.9 * Math.exp(other[a]) + 0.1 * Math.exp(inc[a]));
                    }
                    other = nearer;
                }
                beaten += kl(other, pre) > kl(p.logProbs(), pre) ? 1 : 0;
                assertTrue(kl(other, pre) >= kl(p.logProbs(), pre) - 1e-12, "case " + c);
            }
        }
        assertTrue(beaten > 30_000, "the others are others: " + beaten);
    }

    @Test
    void logitsWillDo() {
        final Projection p = Projection.of(logs(0.9, 0.1), logs(0.5, 0.5), 0.05);
        final Projection q = Projection.of(new double[] {Math.log(0.9) + 700, Math.log(0.1) + 700}, new double[] {-800, -800},
                0.05);
        assertArrayEquals(p.logProbs(), q.logProbs(), 1e-10);
    }

    @Test
    void whatOneNeverDoesIsNotDone() {
        final double[] inc = {Math.log(0.5), Math.log(0.5), NEVER};
        final Projection cut = Projection.of(logs(0.3, 0.3, 0.4), inc, 0.01);
        assertEquals(0, cut.lambda(), "all it takes is to leave out what the incumbent never does");
        assertArrayEquals(new double[] {0.5, 0.5, 0}, Arrays.stream(cut.logProbs()).map(Math::exp).toArray(), 1e-15);
        final Projection moved = Projection.of(logs(0.6, 0.01, 0.39), inc, 0.01);
        assertTrue(moved.lambda() > 0);
        assertEquals(0.01, moved.kl(), 1e-12);
        assertEquals(NEVER, moved.logProbs()[2]);
        // A new policy that never does what the incumbent does with 0.1 is at least -log 0.9 away.
        final double[] masked = {NEVER, Math.log(0.2), Math.log(0.8)};
        final double[] full = logs(0.1, 0.5, 0.4);
        final Projection far = Projection.of(masked, full, 0.2);
        assertEquals(0.2, far.kl(), 1e-12);
        assertEquals(NEVER, far.logProbs()[0]);
        assertEquals("delta0: expected " + -Math.log(Math.exp(Math.log(0.5)) + Math.exp(Math.log(0.4)))
                + " or more, the KL of what both policies do from the incumbent, given 0.1", message(masked, full, 0.1));
        assertTrue(message(new double[] {0, NEVER}, new double[] {NEVER, 0}, 1).startsWith("delta0: expected Infinity or more"));
    }

    @Test
    void whatItRefuses() {
        assertEquals("logPre, logInc: expected the same number of actions, 1 or more, given 2 and 1",
                message(new double[2], new double[1], 1));
        assertTrue(message(new double[0], new double[0], 1).contains("given 0 and 0"));
        assertEquals("delta0: expected more than 0, given 0.0", message(new double[1], new double[1], 0));
        assertEquals("delta0: expected more than 0, given NaN", message(new double[1], new double[1], Double.NaN));
        assertEquals("logPre: expected numbers or -inf, given NaN", message(new double[] {0, Double.NaN}, new double[2], 1));
        assertEquals("logInc: expected numbers or -inf, given Infinity",
                message(new double[1], new double[] {Double.POSITIVE_INFINITY}, 1));
        assertEquals("logInc: expected an action that is possible, given none", message(new double[1], new double[] {NEVER}, 1));
    }

    private static String message(double[] pre, double[] inc, double delta0) {
        return assertThrows(IllegalArgumentException.class, () -> Projection.of(pre, inc, delta0)).getMessage();
    }
}
