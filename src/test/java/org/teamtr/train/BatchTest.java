package org.teamtr.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;
import java.util.function.IntToDoubleFunction;
import org.junit.jupiter.api.Test;
import org.teamtr.kernels.SampledKl;
import org.teamtr.kernels.SurrogateConfig;
import org.teamtr.team.Utterance;

/** What scores say of a batch, against sums in double. */
class BatchTest {
    private static final int[] LENGTHS = {3, 1, 40, 700, 2};

    private final SplittableRandom random = new SplittableRandom(5);

    private float[] logProbs(int n) {
        final float[] logProbs = new float[n];
        for (int i = 0; i < n; i++) {
            logProbs[i] = (float) (-8 * random.nextDouble());
        }
        return logProbs;
    }

    private Batch batch() {
        final List<Utterance> messages = new ArrayList<>();
        final float[] advantages = new float[LENGTHS.length];
        final float[] centred = new float[LENGTHS.length];
        for (int m = 0; m < LENGTHS.length; m++) {
            messages.add(new Utterance(new int[] {1}, new int[LENGTHS[m]], logProbs(LENGTHS[m]), "", true, 0));
            advantages[m] = (float) (2 * random.nextDouble() - 1);
            centred[m] = (float) (2 * random.nextDouble() - 1);
        }
        return Batch.of(messages, advantages, centred);
    }

    private double[] perMessage(Batch batch, IntToDoubleFunction ofToken) {
        final double[] sums = new double[batch.size()];
        int u = 0;
        for (int m = 0; m < LENGTHS.length; m++) {
            for (int t = 0; t < LENGTHS[m]; t++, u++) {
                sums[m] += ofToken.applyAsDouble(u);
            }
        }
        return sums;
    }

    @Test
    void estimatesOfMessages() {
        final Batch batch = batch();
        final float[] now = batch.logProbsOld().clone();
        for (int u = 0; u < now.length; u++) {
            now[u] += (float) (0.2 * (random.nextDouble() - 0.5));
        }
        final double[] log = perMessage(batch, u -> (double) now[u] - batch.logProbsOld()[u]);
        assertClose(log, batch.logRatios(now));
        assertClose(perMessage(batch, u -> (double) batch.logProbsOld()[u] - now[u]), batch.sampledKl(SampledKl.Estimator.K1, now));
        assertClose(perMessage(batch, u -> {
            final double d = (double) now[u] - batch.logProbsOld()[u];
            return Math.expm1(d) - d;
        }), batch.sampledKl(SampledKl.Estimator.K3, now));
        assertArrayEquals(perMessage(batch, u -> now[u]), batch.sums(now), 1e-9);
        final double most = Math.sqrt(LENGTHS.length);
        final double[] gains = Monitor.gains(batch, now);
        for (int m = 0; m < gains.length; m++) {
            assertEquals(Math.min(most, Math.exp(log[m])) - 1, gains[m], 1e-6 * most);
        }
    }

    private static void assertClose(double[] expected, double[] given) {
        for (int m = 0; m < expected.length; m++) {
            assertEquals(expected[m], given[m], 1e-7 * (1 + Math.abs(expected[m])), "message " + m);
        }
    }

    /** Of log-probs that did not change every ratio is 1: no KL, no clip, and the objective is the mean advantage. */
    @Test
    void statisticsOfAPolicyAsItWas() {
        final Batch batch = batch();
        final Policy.Scores same = new Policy.Scores(batch.logProbsOld(), null, new float[batch.tokens()]);
        final Policy.Gradient gradient = Policy.Gradient.of(batch, same, SurrogateConfig.PAPER);
        assertEquals(0, gradient.stats().monitorK1());
        assertEquals(1, gradient.stats().ess());
        assertEquals(LENGTHS.length, gradient.stats().messages());
        assertEquals(batch.tokens(), gradient.stats().tokens());
        double mean = 0;
        for (float a : batch.advantages()) {
            mean += a / LENGTHS.length;
        }
        assertEquals(mean, gradient.stats().objective(), 1e-6);
    }

    /** Messages find their episodes, and go to those of the learner alone. */
    @Test
    void numbersOfEpisodesReachTheirMessages() {
        final Batch batch = batch();
        final SpokenMessages said = new SpokenMessages(batch.messages(), new int[] {0, 0, 2, 3, 3});
        assertArrayEquals(new float[] {1, 1, 3, 4, 4}, said.batch(new float[] {1, 2, 3, 4}, new float[4]).advantages());
        assertArrayEquals(new int[] {0, 0, 1, 1, 1}, said.promptOf(2));
        final double[] sums = new double[4];
        said.addTo(sums, new double[] {1, 2, 4, 8, 16});
        assertArrayEquals(new double[] {3, 0, 4, 24}, sums);
    }
}
