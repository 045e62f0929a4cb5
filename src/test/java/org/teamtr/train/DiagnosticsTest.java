package org.teamtr.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.SplittableRandom;
import java.util.stream.DoubleStream;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.teamtr.experiment.Drift;
import org.teamtr.kernels.SamplingConfig;
import org.teamtr.team.Agent;
import org.teamtr.team.Context;
import org.teamtr.team.Generation;
import org.teamtr.team.Prompt;
import org.teamtr.team.PromptTemplate;
import org.teamtr.team.Rollout;
import org.teamtr.team.Team;
import org.teamtr.team.Truncation;
import org.teamtr.team.Utterance;
import org.teamtr.team.Verifier;
import org.teamtr.team.View;

/** The formulas, by the examples of docs/metrics.md and by brute force. */
class DiagnosticsTest {
    private static double[] logs(double... w) {
        return Arrays.stream(w).map(Math::log).toArray();
    }

    @Test
    void weights() {
        final Diagnostics.Weights w = Diagnostics.Weights.of(logs(1, 2, 1, 4));
        assertEquals(64.0 / 88, w.ess(), 1e-12);
        assertEquals(0.727, w.ess(), 5e-4);
        assertEquals(3.7, w.p95(), 1e-12);
        assertEquals(3.94, w.p99(), 1e-12);
        assertEquals(4, w.max(), 1e-12);
        assertEquals(0, w.over10(), 0);
        assertEquals(new Diagnostics.Weights(1, 1, 1, 1, 0), Diagnostics.Weights.of(new double[7]));
        assertEquals(0.25, Diagnostics.Weights.of(logs(1, 11, 2, 9)).over10(), 0);
    }

    @Test
    void weightsByBruteForce() {
        final SplittableRandom random = new SplittableRandom(3);
        for (int t = 0; t < 100; t++) {
            final double[] log = random.doubles(1 + random.nextInt(60), -4, 4).toArray();
            final Diagnostics.Weights w = Diagnostics.Weights.of(log);
            double sum = 0;
            double squares = 0;
            double over = 0;
            for (double l : log) {
                sum += Math.exp(l);
                squares += Math.exp(2 * l);
                over += Math.exp(l) > 10 ? 1.0 / log.length : 0;
            }
            assertEquals(sum * sum / log.length / squares, w.ess(), 1e-12);
            assertEquals(over, w.over10(), 1e-12);
            // As many lie above the 95th percentile as its place among the sorted says.
            final double above = Arrays.stream(log).map(Math::exp).filter(x -> x > w.p95() + 1e-9).count();
            assertEquals(Math.ceil(0.05 * (log.length - 1) - 1e-9), above, 0);
            assertTrue(w.p95() <= w.p99() && w.p99() <= w.max());
        }
    }

    @Test
    void differences() {
        final Diagnostics.Difference d = Diagnostics.Difference.of(new double[] {0.3, 0.1}, new double[] {0.1, 0.1});
        assertEquals(0.1, d.value(), 1e-12);
        assertEquals(0.1, d.error(), 1e-12);
        assertEquals(0.1, Diagnostics.Difference.of(new double[] {0.1, 0.1}, new double[] {0.3, 0.1}).value(), 1e-12);
        assertTrue(Double.isNaN(Diagnostics.Difference.of(new double[] {1}, new double[] {0}).error()));
        assertArrayEquals(new double[] {(0.5 * 3 - 0.5) / 2, 0}, Diagnostics.surrogates(logs(1.5, 1, 2), logs(1, 1.5, 2),
                new double[] {3, 1, 5}, new int[] {0, 0, 1}, 2, 2), 1e-12);
    }

    @Test
    void stability() {
        final double[] accuracies = {0.50, 0.60, 0.55, 0.70};
        assertEquals(10.41, Diagnostics.stability(accuracies), 5e-3);
        assertEquals(5, Diagnostics.maxDrawdown(accuracies), 1e-12);
        assertEquals(0, Diagnostics.stability(new double[] {0.1, 0.2, 0.3, 0.4}), 1e-12);
        assertEquals(0, Diagnostics.maxDrawdown(new double[] {0.1, 0.2}), 0);
        assertEquals(30, Diagnostics.maxDrawdown(new double[] {0.4, 0.9, 0.7, 0.6, 0.95}), 1e-12);
        assertTrue(Double.isNaN(Diagnostics.stability(new double[] {0.1, 0.2})));
    }

    @Test
    void coordination() {
        final List<boolean[]> right = List.of(new boolean[] {false, true, true}, new boolean[] {true, false, false},
                new boolean[3]);
        assertEquals(50, Diagnostics.coordination(right), 0);
        assertEquals(50, Diagnostics.handOffs(right), 0);
        assertEquals(100, Diagnostics.coordination(List.of(new boolean[] {true})), 0);
        assertTrue(Double.isNaN(Diagnostics.coordination(List.of(new boolean[2]))));
        assertTrue(Double.isNaN(Diagnostics.handOffs(List.of(new boolean[] {false, true}))));
    }

    @Test
    void outOfRegion() {
        final double[] delta = {0.01, 0.01, 0.01, 0.01};
        assertEquals(0.5, Diagnostics.outOfRegionRate(new double[] {0.008, 0.012, 0.010, 0.031}, delta), 0);
        assertTrue(Double.isNaN(Diagnostics.outOfRegionRate(new double[0], new double[0])));
    }

    /** 12 prompts and 3 updates a stage. */
    @Test
    void budgets() {
        for (int[] c : new int[][] {{1, 4}, {0, 12}, {2, 6}, {3, 12}}) {
            assertEquals(c[1], rollout("stage", c[0]).promptsEach(3), "every " + c[0]);
            assertEquals(12, rollout("update", c[0]).promptsEach(3));
        }
        assertEquals(1, rollout("stage", 1).promptsEach(20), "one at least");
    }

    private static Config.Rollout rollout(String budget, int every) {
        return new Config.Rollout(12, 8, 0, 1, 0, 1, 0, 8, Truncation.ERROR, every, 0, 0, false, 0,
                Config.PromptsPer.valueOf(budget.toUpperCase(Locale.ROOT)));
    }

    /** The examples of docs/metrics.md are those of these tests, to the digits it prints. */
    @Test
    void theDocumentHasTheseNumbers() throws IOException {
        final String document = Files.readString(Path.of("docs/metrics.md"));
        for (String number : List.of("/ (4 · 22) = 0.727", "2 to 4, 3.7, the 99th at 3.94", "standard deviation 10.41",
                "drawdown is 5 points", "coord = 50 %",
                "coord_hand_offs = 50 %", "0.031 at δ = 0.01", "slope 2.285", "residual of 0.027", "from 2.218 to 2.352",
                "0.06, 0.08, 0.04",
                "rank 1: 0.667", "(0.833 + 0.167) / 2 = 0.5", "= 0.949", "`gap` = 0.0625", "= 0.3125",
                "`weight_ess` = (1.5 + 0.5)² / (2 · (1.5² + 0.5²)) = 0.8",
                "0.141 / √2 = 0.1", "are of 4 prompts each and stale ones of 12",
                "`certificate` = 0.0375 − 0.0221 − 0.005 = 0.0104", "cost 21001")) {
            assertTrue(document.contains(number), number);
        }
    }

    @Test
    void partsOfTheMonitor() {
        final double delta = 0.01;
        final double[] full = {0.0100, 0.0104, 0.0020};
        final double[] part = {0.0106, 0.0096, 0.0024};
        assertArrayEquals(new double[] {0.06, 0.08, 0.04}, IntStream.range(0, 3)
                .mapToDouble(i -> Diagnostics.monitorError(part[i], full[i], delta)).toArray(), 1e-12);
        final double[] deltas = {delta, delta, delta};
        assertEquals(1, Diagnostics.flipRate(part, full, deltas), 0);
        assertEquals(0, Diagnostics.flipRate(full, full, deltas), 0);
        assertFalse(Diagnostics.nearThreshold(0.0020, delta));
        assertTrue(Double.isNaN(Diagnostics.flipRate(new double[] {1}, new double[] {1}, new double[] {delta})));
    }

    @Test
    void aPartIsTheFirstOfARandomOrder() {
        final Probe probe = new Probe(new Config.Diagnostics(false, true, false, false), 1, 2, () -> {
            throw new AssertionError("no episodes are needed");
        });
        probe.reached(new double[] {1, 2, 3, 4}, new int[] {2, 0, 3, 1});
        final RunLog.Diagnosis d = probe.diagnosis(SyntheticUpdate.OF);
        assertEquals(3, d.monitored().monitor25(), 0);
        assertEquals(2, d.monitored().monitor50(), 0);
        assertTrue(Double.isNaN(probe.diagnosis(SyntheticUpdate.OF).monitored().monitor25()), "each is said once");
    }

    @Test
    void shiftOfLogits() {
        final double[] shift = Diagnostics.logitShift(new float[] {1, 3, 2}, new float[] {1.5f, 4, 1.5f});
        assertArrayEquals(new double[] {2.0 / 3, 0.5}, shift, 1e-6);
        // A common shift is none; ranks are of the logits before, negative ones too.
        assertArrayEquals(new double[3], Diagnostics.logitShift(new float[] {-5, 0, 2, 1}, new float[] {-2, 3, 5, 4}), 1e-6);
        final float[] before = {-1, -3, 2, -2, 0.5f, -7, 1, 0};
        final float[] now = before.clone();
        now[1] += 8; // rank 7 of 8, in the bucket of ranks 4-7; the mean of the changes is 1
        assertArrayEquals(new double[] {1, 1, (1 + 1 + 1 + 7) / 4.0, 1}, Diagnostics.logitShift(before, now), 1e-6);
    }

    @Test
    void ranks() {
        assertEquals(0.949, Diagnostics.spearman(new double[] {1, 2, 2, 4}, new double[] {1, 3, 2, 4}), 5e-4);
        assertEquals(1, Diagnostics.spearman(new double[] {1, 2, 3}, new double[] {-1, 50, 51}), 1e-12);
        assertEquals(-1, Diagnostics.spearman(new double[] {1, 2, 3}, new double[] {3, 2, 1}), 1e-12);
        assertTrue(Double.isNaN(Diagnostics.spearman(new double[] {1, 2}, new double[] {1, 1})));
        assertTrue(Double.isNaN(Diagnostics.spearman(new double[0], new double[0])));
        final SplittableRandom random = new SplittableRandom(4);
        for (int t = 0; t < 50; t++) { // without ties: 1 - 6 sum d^2 / (n (n^2 - 1))
            final int n = 2 + random.nextInt(20);
            final double[] a = random.doubles(n).toArray();
            final double[] b = random.doubles(n).toArray();
            double squares = 0;
            for (int i = 0; i < n; i++) {
                final int at = i;
                squares += Math.pow(Arrays.stream(a).filter(x -> x < a[at]).count() - Arrays.stream(b).filter(x -> x < b[at])
                        .count(), 2);
            }
            assertEquals(1 - 6 * squares / (n * (n * n - 1.0)), Diagnostics.spearman(a, b), 1e-12);
        }
    }

    @Test
    void drift() {
        final double[] n = {2, 3, 4, 5, 6, 8};
        final Drift paper = Drift.of(n, new double[] {0.08, 0.21, 0.41, 0.68, 1.02, 1.89});
        assertEquals(2.285, paper.slope(), 5e-4);
        assertEquals(0.027, paper.residual(), 5e-4);
        assertEquals(2.218, paper.low(), 5e-4);
        assertEquals(2.352, paper.high(), 5e-4);
        final Drift square = Drift.of(n, DoubleStream.of(n).map(k -> 0.3 * k * k).toArray());
        assertEquals(2, square.slope(), 1e-12);
        assertEquals(0, square.residual(), 1e-12);
        assertEquals(Math.log(0.3), square.intercept(), 1e-12);
        assertTrue(Double.isNaN(Drift.of(new double[] {2, 4}, new double[] {1, 2}).low()));
        assertTrue(assertThrows(IllegalArgumentException.class, () -> Drift.of(n, new double[6])).getMessage()
                .contains("metric[0]"));
        assertThrows(IllegalArgumentException.class, () -> Drift.of(new double[] {2, 2}, new double[] {1, 2}));
        assertThrows(IllegalArgumentException.class, () -> Drift.of(n, new double[] {1}));
    }

    /** The interval holds the truth in 95 % of many noisy fits. */
    @Test
    void theDriftsIntervalHoldsWhatItSays() {
        final SplittableRandom random = new SplittableRandom(5);
        for (int points : new int[] {4, 6, 14}) {
            int inside = 0;
            for (int t = 0; t < 4000; t++) {
                final double[] n = IntStream.range(0, points).mapToDouble(k -> k + 2).toArray();
                final Drift fit = Drift.of(n, DoubleStream.of(n).map(k -> Math.pow(k, 1.5)
                        * Math.exp(0.2 * random.nextGaussian())).toArray());
                inside += fit.low() <= 1.5 && 1.5 <= fit.high() ? 1 : 0;
            }
            assertEquals(0.95, inside / 4000.0, 0.015, points + " points");
        }
    }

    // ---- the probe, on a team whose episodes can all be listed ----

    /**
     * Says 0 or 1 with probabilities that are quarters; of 16 rows, each pair of quarters comes once, so means over them are
     * exact.
     */
    private static final class Quarters extends TabularPolicy {
        private final int divisor;

        Quarters(int divisor) {
            super(2, 1, 0);
            this.divisor = divisor;
        }

        void set(int[] prompt, int quarters) {
            logits(prompt, new int[0], 0)[0] = Math.log(quarters / 4.0);
            logits(prompt, new int[0], 0)[1] = Math.log(1 - quarters / 4.0);
        }

        double probability(int[] prompt, int token) {
            return Math.exp(logProbs(prompt, new int[0], 0, 1)[token]);
        }

        @Override
        public List<Utterance> generate(List<int[]> prompts, Generation generation, long key, long[] rowIds) {
            final List<Utterance> out = new ArrayList<>();
            for (int i = 0; i < rowIds.length; i++) {
                final long quarter = rowIds[i] / divisor % 4;
                final int token = quarter < Math.round(4 * probability(prompts.get(i), 0)) ? 0 : 1;
                out.add(utterance(prompts.get(i), new int[] {token}, 1));
            }
            return out;
        }
    }

    /** Updates of both agents as the probe sees them; the second learns from rollouts made for update {@code madeFor}. */
    private static List<RunLog.Diagnosis> probed(Verifier verifier, int madeFor, int... quarters) {
        final Quarters[] policies = {new Quarters(4), new Quarters(1)};
        final PromptTemplate template = new PromptTemplate(null, "{prompt}", "{text}");
        final Team team = Team.of(List.of(new Agent("first", policies[0], template, View.NONE, false),
                new Agent("second", policies[1], template, View.NONE, false)));
        final int[] prompt = {'p'};
        final Generation one = new Generation(1, SamplingConfig.ALL, 1, Truncation.ERROR);
        final Probe probe = new Probe(new Config.Diagnostics(true, false, false, false), 1, 16,
                () -> Rollout.play(team, List.of(new Prompt("p", "p", null)), 16, one, verifier, 1));
        final List<RunLog.Diagnosis> diagnoses = new ArrayList<>();
        for (int i = 0; i < 2; i++) {
            final Learner learner = new Learner("agent" + i, policies[i], List.of(i), 1, 0);
            try (Policy.Snapshot before = policies[i].snapshot()) {
                policies[i].set(prompt, quarters[i]);
                final long fingerprint = policies[i].fingerprint();
                probe.updated(learner, Batch.of(List.of(), new float[0], new float[0]), before, i == 0 ? 0 : madeFor);
                assertEquals(fingerprint, policies[i].fingerprint());
            }
            diagnoses.add(probe.diagnosis(SyntheticUpdate.OF));
        }
        return diagnoses;
    }

    /** For the columns that a probe copies. */
    private static final class SyntheticUpdate {
        static final RunLog.Update OF = new RunLog.Update.Builder().build();
    }

    private static int said(Context c, int turn) {
        return c.messages().get(turn).utterance().tokens()[0];
    }

    @Test
    void stalenessOfTheExample() {
        final Verifier verifier = c -> new Verifier.Score(said(c, 0) == 0 && said(c, 1) == 1 ? 1 : 0, false);
        for (int madeFor = 0; madeFor < 2; madeFor++) {
            final RunLog.Diagnosis first = probed(verifier, madeFor, 3, 1).get(0);
            final RunLog.Diagnosis second = probed(verifier, madeFor, 3, 1).get(1);
            assertEquals(0, first.staleness().gap(), 1e-6);
            assertEquals(0, first.staleness().deltaStale(), 1e-6);
            assertEquals(0.25, first.staleness().dOcc(), 1e-6);
            assertEquals(new Diagnostics.Weights(1, 1, 1, 1, 0), first.weights());
            assertEquals(0.0625, second.staleness().gap(), 1e-6);
            assertEquals(madeFor == 0 ? 0.0625 : 0, second.staleness().deltaStale(), 1e-6);
            assertEquals(madeFor == 0 ? 0.3125 : 0.25, second.staleness().dOcc(), 1e-6);
            assertEquals(0.8, second.weights().ess(), 1e-6);
            assertEquals(1.5, second.weights().max(), 1e-6);
            assertEquals(32, first.played().episodes(), "the team before and the team after");
            assertEquals(16, second.played().episodes());
            assertEquals(32, second.played().tokens());
        }
    }

    /** L_i[rho] = sum over rho of the others of (new - old) R, summed by hand, for rewards and steps drawn at random. */
    @Test
    void stalenessByBruteForce() {
        final SplittableRandom random = new SplittableRandom(6);
        for (int t = 0; t < 40; t++) {
            final double[][] r = {random.doubles(2).toArray(), random.doubles(2).toArray()};
            final int[] quarters = {1 + random.nextInt(3), 1 + random.nextInt(3)};
            final int madeFor = random.nextInt(2);
            final RunLog.Diagnosis d = probed(c -> new Verifier.Score(r[said(c, 0)][said(c, 1)], false), madeFor, quarters)
                    .get(1);
            final double[] half = {0.5, 0.5};
            final double[] a = {quarters[0] / 4.0, 1 - quarters[0] / 4.0};
            final double[] b = {quarters[1] / 4.0, 1 - quarters[1] / 4.0};
            final double[] surrogates = new double[2];
            double tv = 0;
            for (int x = 0; x < 2; x++) {
                for (int y = 0; y < 2; y++) {
                    surrogates[0] += half[x] * (b[y] - half[y]) * r[x][y];
                    surrogates[1] += a[x] * (b[y] - half[y]) * r[x][y];
                    tv += Math.abs(a[x] * b[y] - (madeFor == 0 ? half[x] : a[x]) * half[y]) / 2;
                }
            }
            assertEquals(Math.abs(surrogates[1] - surrogates[0]), d.staleness().gap(), 1e-6);
            assertEquals(Math.abs(surrogates[madeFor] - surrogates[1]), d.staleness().deltaStale(), 1e-6);
            assertEquals(tv, d.staleness().dOcc(), 1e-6);
        }
    }

    @Test
    void nothingMovesWithoutUpdates() {
        for (RunLog.Diagnosis d : probed(c -> new Verifier.Score(said(c, 0) + said(c, 1), false), 0, 2, 2)) {
            assertEquals(0, d.staleness().gap(), 1e-12);
            assertEquals(0, d.staleness().deltaStale(), 1e-12);
            assertEquals(0, d.staleness().dOcc(), 1e-7);
            assertEquals(1, d.weights().ess(), 1e-6);
        }
    }
}
