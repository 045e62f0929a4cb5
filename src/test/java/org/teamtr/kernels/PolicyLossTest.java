package org.teamtr.kernels;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.teamtr.kernels.PolicyLossReference.rows;

import java.util.Arrays;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.teamtr.kernels.PolicyLossReference.Batch;
import org.teamtr.kernels.PolicyLossReference.Composed;
import org.teamtr.kernels.PolicyLossReference.Dense;
import org.teamtr.kernels.PolicyLossReference.Matrix;
import org.teamtr.kernels.SurrogateConfig.AdvantagePer;
import org.teamtr.kernels.SurrogateConfig.Aggregation;
import org.teamtr.kernels.SurrogateConfig.KlTerm;
import org.teamtr.kernels.SurrogateConfig.Ratio;
import org.teamtr.kernels.internal.Natives;

/** {@link PolicyLoss} against the kernels it fuses, against doubles, and against differences of the loss by each logit. */
class PolicyLossTest {
    private static final int IGNORE = Indices.IGNORE;

    /** Of one rounding to the dtype, half of it allowed twice over. */
    private static double rounding(DType dtype) {
        return switch (dtype) {
            case F32 -> 0;
            case BF16 -> 0x1p-8;
            case F16 -> 0x1p-10;
        };
    }

    /** @return the worst error beyond one rounding to the dtype, relative to its row's maximum; rows of 0 must be exactly 0 */
    private static double compare(double[][] expected, Matrix actual, double tolerance, String what) {
        double worst = 0;
        // A gradient that is small since its terms cancel (k2 near d = 0) has the error of the f32 log-probs they are made of.
        final double floor = 1e-7 * Arrays.stream(expected).flatMapToDouble(Arrays::stream).map(Math::abs).max().orElse(0);
        for (int r = 0; r < expected.length; r++) {
            final double largest = Arrays.stream(expected[r]).map(Math::abs).max().orElse(0);
            for (int v = 0; v < actual.vocab; v++) {
                final double given = actual.get(r, v);
                final double error = Math.abs(given - expected[r][v]) - rounding(actual.dtype) * Math.abs(expected[r][v])
                        - (actual.dtype == DType.F16 ? 0x1p-24 : 0) - floor;
                if (!(largest == 0 ? given == 0 : error <= tolerance * largest)) {
                    throw new AssertionError(what + ", row " + r + ", column " + v + ": expected " + expected[r][v] + ", given "
                            + given
                            + ", the row's largest " + largest);
                }
                worst = largest == 0 ? worst : Math.max(worst, error / largest);
            }
        }
        return worst;
    }

    // ---- tests ----

    private static SurrogateConfig config(Ratio ratio, KlTerm kl, int variant) {
        final Aggregation[] hows = Aggregation.values();
        return new SurrogateConfig(ratio, 0.2, 0.28, variant % 5 == 0 ? 1.6 : Double.POSITIVE_INFINITY, kl, kl == KlTerm.NONE ? 0
                : 0.2, hows[variant / 2 % 4], variant % 2 * 0.01, hows[variant % 4], 9, 0, 0,
                variant % 3 == 0 ? AdvantagePer.TOKEN : AdvantagePer.MESSAGE);
    }

    @ParameterizedTest
    @EnumSource
    void isTheCompositionOfTheKernelsItFuses(DType dtype) {
        int seed = 0;
        double worstComposed = 0;
        double worstDense = 0;
        double worstLogProb = 0;
        try (PolicyLoss monitored = new PolicyLoss(20, true); PolicyLoss plain = new PolicyLoss(20, false)) {
            for (Ratio ratio : Ratio.values()) {
                for (KlTerm kl : KlTerm.values()) {
                    for (int layout = 0; layout < 4; layout++) {
                        for (boolean withOld : new boolean[] {false, true}) {
                            if (kl == KlTerm.EXACT && !withOld) {
                                continue;
                            }
                            seed++;
                            final boolean monitor = seed % 3 != 0;
                            final PolicyLoss loss = monitor ? monitored : plain;
                            final int vocab = new int[] {37, 64, 130, 301}[seed % 4];
                            try (Batch b = new Batch(seed, layout, dtype, vocab, 0.3, config(ratio, kl, seed), 3, 6, 4, 0, 7, 1,
                                    6)) {
                                if (seed % 2 == 0) {
                                    b.temperatures = Floats.allocate(18);
                                    for (int r = 0; r < 18; r++) {
                                        b.temperatures.set(r, 0.5f + r % 5 * 0.3f);
                                    }
                                }
                                b.sampledByOld();
                                final String what = dtype + ", layout " + layout + (withOld ? ", old logits, " : ", ") + b.config
                                        + ", seed " + seed;
                                final byte[] logitsBefore = b.logits.bytes();
                                final byte[] oldBefore = b.old.bytes();
                                b.fused(loss, withOld, b.d.view);
                                final Composed c = b.composed(withOld, monitor);
                                assertArrayEquals(logitsBefore, b.logits.bytes(), "logits are only read, " + what);
                                assertArrayEquals(oldBefore, b.old.bytes(), "old logits are only read, " + what);
                                b.d.checkGaps();
                                if (withOld) { // other formulas for the new policy's log-probs, the same numbers
                                    worstLogProb = Math.max(worstLogProb, worst(c.logProbs, loss.logProbs()));
                                    assertTrue(worst(c.logProbs, loss.logProbs()) < 1e-6 && worst(c.lse, loss.lse()) < 1e-6, what);
                                    assertEquals(c.loss, loss.stats().loss(), 3e-6 * (1 + Math.abs(c.loss)), what);
                                    assertArrayEquals(c.kl, loss.kl().toArray(), what);
                                } else {
                                    assertArrayEquals(c.logProbs, loss.logProbs().toArray(), what);
                                    assertArrayEquals(c.lse, loss.lse().toArray(), what);
                                    assertEquals(c.loss, loss.stats().loss(), what);
                                    assertTrue(!monitor || c.stats.equals(loss.stats().toString()), what);
                                    assertThrows(IllegalStateException.class, loss::kl);
                                }
                                if (monitor || b.config.entropyCoef() != 0) {
                                    assertTrue(worst(c.entropy, loss.entropy()) <= (withOld ? 1e-6 : 0), what);
                                }
                                final double tolerance = withOld ? 1e-5 : 1e-6; // w of a message has its log-probs' errors
                                worstComposed = Math.max(worstComposed, compare(rows(c.gradient), b.d, tolerance
                                        + (kl == KlTerm.EXACT ? rounding(dtype) : 0), "composed, " + what));
                                worstDense = Math.max(worstDense, compare(Dense.gradient(b), b.d, 1e-5, "in doubles, " + what));
                                final double[][] apart = rows(b.d);
                                assertTrue(c.bySweeps == null || Arrays.deepEquals(apart, c.bySweeps), "sweep by sweep, " + what);
                                b.fused(loss, withOld, b.logits.view);
                                assertTrue(Arrays.deepEquals(apart, rows(b.logits)), "in place, " + what);
                                b.logits.checkGaps();
                            }
                        }
                    }
                }
            }
        }
        System.out.printf("PolicyLoss %s: %d cases; worst gradient error (of its row's maximum, beyond the dtype's rounding)"
                + " against the kernels %.1e, against doubles %.1e; log-probs with old logits %.1e%n", dtype, seed, worstComposed,
                worstDense, worstLogProb);
    }

    private static double worst(float[] expected, Floats actual) {
        assertEquals(expected.length, actual.length());
        double worst = 0;
        for (int i = 0; i < expected.length; i++) {
            worst = Math.max(worst, Math.abs(expected[i] - actual.get(i)) / (1 + Math.abs(expected[i])));
        }
        return worst;
    }

    /** V = 11, two messages: the loss as a function of the logits, in doubles, and its central differences. */
    @Test
    void theGradientIsTheDifferenceOfTheLoss() {
        final double h = 1e-5;
        double worst = 0;
        int cases = 0;
        try (PolicyLoss loss = new PolicyLoss(7, false)) {
            for (Ratio ratio : Ratio.values()) {
                for (KlTerm kl : KlTerm.values()) {
                    for (int variant = 0; variant < 4; variant++) {
                        try (Batch b = new Batch(++cases + 1000, variant, DType.F32, 11, 0.15, config(ratio, kl, variant), 1, 7,
                                3, 4)) {
                            b.sampledByOld();
                            b.fused(loss, kl == KlTerm.EXACT, b.d.view);
                            final double[][] z = rows(b.logits);
                            assertEquals(Dense.loss(b, z), loss.stats().loss(), 1e-6);
                            final double[][] slopes = new double[7][11];
                            for (int r = 0; r < 7; r++) {
                                for (int v = 0; v < 11; v++) {
                                    final double at = z[r][v];
                                    z[r][v] = at + h;
                                    slopes[r][v] = Dense.loss(b, z);
                                    z[r][v] = at - h;
                                    slopes[r][v] = (slopes[r][v] - Dense.loss(b, z)) / (2 * h);
                                    z[r][v] = at;
                                    slopes[r][v] = Math.abs(slopes[r][v]) < 1e-10 ? 0 : slopes[r][v];
                                }
                            }
                            worst = Math.max(worst, compare(slopes, b.d, 1e-5, b.config.toString()));
                        }
                    }
                }
            }
        }
        System.out.printf("PolicyLoss: %d cases of differences, worst %.1e of the row's maximum%n", cases, worst);
    }

    @Test
    void anIgnoredTargetActsAsAMaskOf0AndItsRowIsNotRead() {
        for (DType dtype : DType.values()) {
            try (Batch b = new Batch(3, 1, dtype, 50, 0.3, config(Ratio.MESSAGE, KlTerm.EXACT, 3), 1, 9, 4, 5);
                    Batch c = new Batch(3, 1, dtype, 50, 0.3, config(Ratio.MESSAGE, KlTerm.EXACT, 3), 1, 9, 4, 5);
                    PolicyLoss first = new PolicyLoss(9, true);
                    PolicyLoss second = new PolicyLoss(9, true)) {
                b.sampledByOld();
                c.sampledByOld();
                for (int r = 0; r < 9; r++) {
                    if (!b.live(r)) {
                        b.targets[r] = IGNORE; // one says it by targets alone, the other by the mask alone
                        c.targets[r] = 49;
                        c.counts[r] = false;
                        for (int v = 0; v < 50; v++) {
                            b.logits.set(r, v, Double.NaN);
                            c.old.set(r, v, Double.NaN);
                        }
                    }
                }
                Arrays.fill(b.counts, true);
                b.fused(first, true, b.d.view);
                c.fused(second, true, c.d.view);
                assertEquals(first.stats().toString(), second.stats().toString());
                assertTrue(Double.isFinite(first.stats().loss()));
                assertArrayEquals(first.logProbs().toArray(), second.logProbs().toArray());
                assertArrayEquals(b.d.bytes(), c.d.bytes());
                int zeroRows = 0;
                for (int r = 0; r < 9; r++) {
                    if (b.targets[r] == IGNORE) {
                        zeroRows++;
                        assertArrayEquals(new double[50], b.d.row(r));
                        assertEquals(0f, first.logProbs().get(r));
                        assertEquals(0f, first.lse().get(r));
                        assertEquals(0f, first.entropy().get(r));
                        assertEquals(0f, first.kl().get(r));
                    }
                }
                assertTrue(zeroRows > 0 && zeroRows < 9);
            }
        }
    }

    /** A message whose ratio is clipped, and one with A = 0, have gradients of exactly +0; NaN keeps to its row where it can. */
    @Test
    void rowsWithoutAGradientAreExactlyZero() {
        for (DType dtype : DType.values()) {
            try (Batch b = new Batch(5, 0, dtype, 200, 0, SurrogateConfig.PAPER, 1, 6, 2, 2,
                    2); PolicyLoss loss = new PolicyLoss(6, false)) {
                Arrays.fill(b.counts, true);
                Arrays.setAll(b.targets, r -> r);
                b.sampledByOld();
                b.logProbsOld[0] -= 0.5f; // w = exp(0.5) > 1.2 with A > 0
                b.advantages[0] = 1;
                b.advantages[1] = 0;
                b.advantages[2] = -1;
                b.fused(loss, false, b.d.view);
                final byte[] bytes = b.d.bytes();
                final int row = 200 * dtype.bytes(); // layout 3 - 0 pads rows
                for (int r = 0; r < 6; r++) {
                    boolean zero = true;
                    for (int i = 0; i < row; i++) {
                        zero &= bytes[b.d.element(r, 0) * dtype.bytes() + i] == 0;
                    }
                    assertEquals(r < 4, zero, dtype + " row " + r);
                }
                b.logits.set(5, 17, Double.NaN); // poisons its message and the loss, no other row
                b.fused(loss, false, b.d.view);
                assertTrue(Double.isNaN(loss.stats().loss()) && Float.isNaN(loss.logProbs().get(5))
                        && !Float.isNaN(loss.logProbs().get(4)));
                for (int r = 0; r < 6; r++) {
                    assertEquals(r >= 4, Double.isNaN(b.d.get(r, 3)), "row " + r);
                }
            }
        }
    }

    @Test
    void maskedTokensOfTheVocabulary() {
        try (Batch b = new Batch(6, 0, DType.F32, 40, 0.2, config(Ratio.TOKEN, KlTerm.EXACT, 1), 1, 5,
                5); PolicyLoss loss = new PolicyLoss(5, true)) {
            Arrays.fill(b.counts, true);
            Arrays.setAll(b.targets, r -> r);
            b.sampledByOld();
            for (int r = 0; r < 5; r++) {
                for (int v = 30; v < 40; v++) {
                    b.old.set(r, v, Double.NEGATIVE_INFINITY);
                    b.logits.set(r, v, Double.NEGATIVE_INFINITY);
                }
            }
            b.sampledByOld();
            b.fused(loss, true, b.d.view);
            assertTrue(Double.isFinite(loss.stats().loss()));
            for (int r = 0; r < 5; r++) {
                double sum = 0;
                for (int v = 0; v < 40; v++) {
                    assertTrue(v < 30 ? b.d.get(r, v) != 0 : b.d.get(r, v) == 0, "row " + r + ", column " + v + ": "
                            + b.d.get(r, v));
                    sum += b.d.get(r, v);
                }
                assertEquals(0, sum, 1e-7, "a softmax does not move with all its logits");
            }
        }
    }

    @Test
    void aRealVocabulary() {
        for (DType dtype : DType.values()) {
            try (Batch b = new Batch(7, 1, dtype, 50_257, 0.05, config(Ratio.MESSAGE, KlTerm.EXACT, 1), 1, 6, 2, 4).sampledByOld();
                    PolicyLoss loss = new PolicyLoss(6, false)) {
                b.fused(loss, true, b.d.view);
                assertEquals(Dense.loss(b, rows(b.logits)), loss.stats().loss(), 1e-5 * Math.abs(loss.stats().loss()));
                System.out.printf("PolicyLoss %s, V = 50,257: worst %.1e of the row's maximum%n", dtype,
                        compare(Dense.gradient(b), b.d, 2e-5, dtype.toString()));
                b.d.checkGaps();
            }
        }
    }

    @Test
    void theSameBitsAtAnyNumberOfThreadsAndOnReuse() {
        final int threads = Backend.current().threads();
        try (Batch b = new Batch(8, 0, DType.BF16, 5_000, 0.2, config(Ratio.MESSAGE, KlTerm.EXACT, 1), 4, 10, 15,
                25).sampledByOld();
                PolicyLoss loss = new PolicyLoss(100, true)) {
            byte[] first = null;
            String stats = null;
            for (int n : new int[] {1, 2, 5, threads}) {
                Natives.forceThreads(n);
                b.fused(loss, true, b.d.view);
                first = first == null ? b.d.bytes() : first;
                stats = stats == null ? loss.stats().toString() : stats;
                assertArrayEquals(first, b.d.bytes(), n + " threads");
                assertEquals(stats, loss.stats().toString(), n + " threads");
            }
        } finally {
            Natives.forceThreads(threads);
        }
    }

    @Test
    void resultsAreThoseOfTheLastCall() {
        try (Batch big = new Batch(9, 0, DType.F32, 20, 0.1, SurrogateConfig.PAPER, 1, 8, 8).sampledByOld();
                Batch small = new Batch(10, 0, DType.F32, 20, 0.1, SurrogateConfig.PAPER.withEntropyCoef(0.1), 1, 3,
                        3).sampledByOld();
                PolicyLoss loss = new PolicyLoss(8, false)) {
            for (Executable result : new Executable[] {loss::logProbs, loss::lse, loss::entropy, loss::kl}) {
                assertThrows(IllegalStateException.class, result, "before the first call");
            }
            assertTrue(Double.isNaN(loss.stats().loss()), "before the first call");
            final SurrogateStats stats = loss.stats();
            big.fused(loss, true, big.d.view);
            assertEquals(8, loss.logProbs().length());
            assertEquals(8, loss.kl().length());
            assertThrows(IllegalStateException.class, loss::entropy, "neither monitored nor in the loss");
            assertTrue(Double.isNaN(stats.entropy()));
            small.fused(loss, false, small.d.view);
            assertEquals(3, loss.logProbs().length());
            assertEquals(3, loss.entropy().length());
            assertThrows(IllegalStateException.class, loss::kl);
            assertTrue(stats == loss.stats() && Double.isFinite(stats.entropy()) && Double.isNaN(stats.monitorExact()));
            assertThrows(IllegalArgumentException.class, () -> small.fused(loss, false, big.d.view));
            assertThrows(IllegalStateException.class, loss::logProbs, "after a call that failed");
        }
    }
}
