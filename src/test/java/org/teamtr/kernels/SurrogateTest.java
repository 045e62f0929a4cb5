package org.teamtr.kernels;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.teamtr.kernels.SurrogateReference.widen;

import java.util.Arrays;
import org.bytedeco.javacpp.BytePointer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.teamtr.kernels.SurrogateConfig.AdvantagePer;
import org.teamtr.kernels.SurrogateConfig.Aggregation;
import org.teamtr.kernels.SurrogateConfig.KlTerm;
import org.teamtr.kernels.SurrogateConfig.Ratio;
import org.teamtr.kernels.SurrogateReference.Batch;
import org.teamtr.kernels.internal.global.teamtr;

/** {@link Surrogate} against {@link SurrogateReference}, against differences of that loss, and against cases worked by hand. */
class SurrogateTest {
    private static final double INF = Double.POSITIVE_INFINITY;
    /** epsLow, epsHigh, dualClip: none, symmetric, asymmetric, asymmetric with dual clip, one-sided. */
    private static final double[][] CLIPS = {{INF, INF, INF}, {0.2, 0.2, INF}, {0.1, 0.35, INF}, {0.2, 0.28, 1.5}, {INF, 0.1, 3}};

    private static void close(double expected, double actual, double tolerance, String what) {
        if (!(Double.compare(expected, actual) == 0 || Math.abs(expected - actual) <= tolerance)) {
            throw new AssertionError(what + ": expected " + expected + ", given " + actual);
        }
    }

    // ---- the grid ----

    private static SurrogateConfig config(Ratio ratio, double[] clip, Aggregation how, KlTerm kl, Aggregation klHow,
            AdvantagePer per, boolean totals) {
        return new SurrogateConfig(ratio, clip[0], clip[1], clip[2], kl, 0.3, klHow, 0.05, how, 7.5, totals ? 50 : 0,
                totals ? 17 : 0, per);
    }

    @ParameterizedTest
    @EnumSource
    void everyCombinationAgreesWithTheReferenceAndWithDifferences(Ratio ratio) {
        int seed = 0;
        int slopes = 0;
        int kinks = 0;
        double worst = 0;
        for (double[] clip : CLIPS) {
            for (Aggregation how : Aggregation.values()) {
                for (KlTerm kl : KlTerm.values()) {
                    for (int variant = 0; variant < 4; variant++) {
                        seed++;
                        final SurrogateConfig config = config(ratio, clip, how, kl,
                                Aggregation.values()[(how.ordinal() + variant) % 4],
                                variant % 2 == 0 ? AdvantagePer.MESSAGE : AdvantagePer.TOKEN, seed % 3 == 0);
                        final Batch b = new Batch(config, 4, 0, 3, 1, 2, 5, 1, 0, 2, 6, 1, 3).random(seed,
                                variant >= 2).poisonMasked();
                        b.intBounds = seed % 2 == 0;
                        b.call();
                        final String what = config + " seed " + seed;
                        checkStatistics(b, what);
                        worst = Math.max(worst, checkClosedForm(b, what));
                        final int[] count = checkDifferences(b, what);
                        slopes += count[0];
                        kinks += count[1];
                    }
                }
            }
        }
        assertTrue(slopes > 20_000 && kinks < slopes / 500, slopes + " slopes, " + kinks + " kinks");
        System.out.printf("Surrogate %s: %d configurations, %d differences (%d at kinks left out), worst gradient error %.1e%n",
                ratio, seed, slopes, kinks, worst);
    }

    private static void checkStatistics(Batch b, String what) {
        final double[] expected = b.expectedStats();
        // Where w reaches exp(20), sums of both signs lose that many digits.
        final double size = Math.max(expected[teamtr.TEAMTR_STAT_RATIO_MAX], expected[teamtr.TEAMTR_STAT_ZETA_RATIO]);
        for (int i = 0; i < expected.length; i++) {
            close(expected[i], b.stats[i], 1e-13 * Math.max(size, 10 + Math.abs(expected[i])), "statistic " + i + " of " + what);
        }
    }

    /** @return the worst error, relative to the batch's largest gradient */
    private static double checkClosedForm(Batch b, String what) {
        final double[][] expected = b.reference().gradients(widen(b.fresh));
        double worst = 0;
        for (int k = 0; k < 3; k++) {
            final double largest = Arrays.stream(expected[k]).map(Math::abs).max().orElse(0);
            for (int u = 0; u < b.tokens; u++) {
                final double tolerance = b.counts[u] ? 1.2e-7 * Math.abs(expected[k][u]) + 1e-14 * largest : 0;
                close(expected[k][u] + 0.0, b.gradients[k][u] + 0.0, tolerance, "gradient " + k + ", token " + u + " of " + what);
                worst = Math.max(worst, largest == 0 ? 0 : Math.abs(expected[k][u] - b.gradients[k][u]) / largest);
            }
        }
        return worst;
    }

    /** @return slopes compared, and slopes left out since a kink is near */
    private static int[] checkDifferences(Batch b, String what) {
        final SurrogateReference reference = b.reference();
        final double[][] x = {widen(b.fresh), widen(b.kl), widen(b.entropy)};
        final double h = 1e-5;
        final int[] count = new int[2];
        // Terms as large as exp(20) of both signs: what a difference of two such sums cannot see.
        final double noise = 1e-10 * (b.stats[teamtr.TEAMTR_STAT_RATIO_MAX] + Math.abs(b.stats[teamtr.TEAMTR_STAT_KL]));
        for (int k = 0; k < 3; k++) {
            for (int u = 0; u < b.tokens; u++) {
                if (!b.counts[u]) {
                    continue;
                }
                if (k == 0 && reference.kinkDistance(x[0], u) < 10 * h) {
                    count[1]++;
                    continue;
                }
                final double at = x[k][u];
                x[k][u] = at + h;
                final double right = reference.loss(x[0], x[1], x[2]);
                x[k][u] = at - h;
                final double left = reference.loss(x[0], x[1], x[2]);
                x[k][u] = at;
                final double slope = (right - left) / (2 * h);
                close(slope, b.gradients[k][u], 1e-6 * Math.abs(slope) + 1e-8 + noise, "difference " + k + ", token " + u
                        + " of " + what);
                count[0]++;
            }
        }
        return count;
    }

    @Test
    void longMessagesAndManyOfThem() {
        for (Ratio ratio : Ratio.values()) {
            final int[] lengths = new int[600];
            Arrays.setAll(lengths, m -> m % 7 == 3 ? 0 : m % 200 == 1 ? 2_500 : m % 13);
            final Batch b = new Batch(SurrogateConfig.PAPER.withRatio(ratio).withKl(KlTerm.K3, 0.1), lengths).random(5,
                    true).poisonMasked();
            for (int u = 0; u < b.tokens; u++) {
                b.fresh[u] = b.old[u] + (b.fresh[u] - b.old[u]) / 200; // keeps products of 2,500 within the clamp
            }
            b.call();
            checkStatistics(b, ratio + ", long");
            checkClosedForm(b, ratio + ", long");
            assertTrue(b.stats[teamtr.TEAMTR_STAT_RATIO_MAX] < Math.exp(20), "the case is about ratios that are not clamped");
        }
    }

    // ---- worked by hand ----

    /** Eq. 10: products 0.9 * 1.5 * 0.8 = 1.08 (inside), 2 (above), 0.5 (below), each with both signs of A. */
    @Test
    void equation10ByHand() {
        final Batch b = new Batch(SurrogateConfig.PAPER, 3, 1, 1, 1, 1);
        final double[] w = {0.9, 1.5, 0.8, 2, 0.5, 2, 0.5};
        for (int u = 0; u < w.length; u++) {
            b.old[u] = -2;
            b.fresh[u] = (float) (-2 + Math.log(w[u]));
        }
        System.arraycopy(new float[] {2, 1, 1, -1, -1}, 0, b.advantages, 0, 5);
        b.call();
        // min(w A, clip(w) A): 2.16, 1.2 (clipped), 0.5 (free), -2 (free), -0.8 (clipped)
        assertEquals((2.16 + 1.2 + 0.5 - 2 - 0.8) / 5, b.stats[teamtr.TEAMTR_STAT_OBJECTIVE], 1e-6);
        assertEquals(-(2.16 + 1.2 + 0.5 - 2 - 0.8) / 5, b.stats[teamtr.TEAMTR_STAT_LOSS], 1e-6);
        assertArrayEquals(new float[] {-2.16f / 5, -2.16f / 5, -2.16f / 5, 0, -0.5f / 5, 2f / 5, 0}, b.gradients[0], 1e-6f);
        assertEquals(0.2, b.stats[teamtr.TEAMTR_STAT_CLIP_LOW]);
        assertEquals(0.2, b.stats[teamtr.TEAMTR_STAT_CLIP_HIGH]);
        assertEquals(0.0, b.stats[teamtr.TEAMTR_STAT_CLIP_DUAL]);
        assertEquals((1.08 + 2 + 0.5 + 2 + 0.5) / 5, b.stats[teamtr.TEAMTR_STAT_RATIO_MEAN], 1e-6);
        assertEquals(0.5, b.stats[teamtr.TEAMTR_STAT_RATIO_MIN], 1e-6);
        assertEquals(2, b.stats[teamtr.TEAMTR_STAT_RATIO_MAX], 1e-6);
        assertEquals(6.08 * 6.08 / (5 * (1.08 * 1.08 + 8.5)), b.stats[teamtr.TEAMTR_STAT_ESS], 1e-6);
        assertEquals(Math.abs((2.16 + 2 + 0.5 - 2 - 0.5) - (2.16 + 1.2 + 0.5 - 2 - 0.8)) / 5,
                b.stats[teamtr.TEAMTR_STAT_ZETA_CLIP], 1e-6);
        assertEquals(Math.abs(6.08 / 5 - 1) * 2, b.stats[teamtr.TEAMTR_STAT_ZETA_RATIO], 1e-6);

        b.config = b.config.withDualClip(1.5); // w = 2, A = -1 is now held at -1.5
        b.call();
        assertEquals((2.16 + 1.2 + 0.5 - 1.5 - 0.8) / 5, b.stats[teamtr.TEAMTR_STAT_OBJECTIVE], 1e-6);
        assertEquals(0f, b.gradients[0][5]);
        assertEquals(0.2, b.stats[teamtr.TEAMTR_STAT_CLIP_DUAL]);

        b.config = SurrogateConfig.PAPER.withRatio(Ratio.TOKEN).withAggregation(Aggregation.TOKEN_MEAN);
        b.call(); // tokens of the first message: 0.9 (free), 1.2 (clipped), 0.8 (free), times A = 2
        assertEquals((1.8 + 2.4 + 1.6 + 1.2 + 0.5 - 2 - 0.8) / 7, b.stats[teamtr.TEAMTR_STAT_OBJECTIVE], 1e-6);
        assertEquals(2.0 / 7, b.stats[teamtr.TEAMTR_STAT_CLIP_HIGH], 1e-15);
        assertEquals(Math.abs(6.08 / 5 - 1) * 2, b.stats[teamtr.TEAMTR_STAT_ZETA_RATIO], 1e-6, "zetas stay with messages");

        b.config = SurrogateConfig.PAPER.withRatio(Ratio.MESSAGE_MEAN);
        b.call();
        assertEquals((2 * Math.cbrt(1.08) + 1.2 + 0.5 - 2 - 0.8) / 5, b.stats[teamtr.TEAMTR_STAT_OBJECTIVE], 1e-6);
        assertEquals(-2 * Math.cbrt(1.08) / 5 / 3, b.gradients[0][0], 1e-6);
    }

    /** Eq. 11: a sum over tokens, a mean over messages, log old - log new; and the same as the KL term of the loss. */
    @Test
    void equation11ByHand() {
        final Batch b = new Batch(SurrogateConfig.PAPER.withKl(KlTerm.K1, 2), 2, 0, 3, 1);
        System.arraycopy(new float[] {-1, -2, -1, -1, -1, -3}, 0, b.old, 0, 6);
        System.arraycopy(new float[] {-1.5f, -2.25f, -1, -0.5f, -1, -4}, 0, b.fresh, 0, 6);
        System.arraycopy(new float[] {0.1f, 0.2f, 0.3f, 0.4f, 0.5f, 0.6f}, 0, b.kl, 0, 6);
        b.call();
        assertEquals((0.75 - 0.5 + 1) / 3, b.stats[teamtr.TEAMTR_STAT_MONITOR_K1], 1e-15);
        assertEquals(1, b.stats[teamtr.TEAMTR_STAT_MONITOR_MAX], 1e-15);
        assertEquals((0.3 + 1.2 + 0.6) / 3, b.stats[teamtr.TEAMTR_STAT_MONITOR_EXACT], 1e-7);
        final double k3 = k3(0.5) + k3(0.25) + k3(-0.5) + k3(1);
        assertEquals(k3 / 3, b.stats[teamtr.TEAMTR_STAT_MONITOR_K3], 1e-15);
        assertEquals((0.75 - 0.5 + 1) / 3, b.stats[teamtr.TEAMTR_STAT_KL], 1e-15);
        assertEquals(2 * (0.75 - 0.5 + 1) / 3, b.stats[teamtr.TEAMTR_STAT_LOSS], 1e-15); // advantages are 0
        for (float d : b.gradients[0]) {
            assertEquals(-2f / 3, d, 1e-7f, "the pull of k1 towards the sampled tokens");
        }
        assertArrayEquals(new float[6], b.gradients[1], "d loss / d kl without the EXACT term");
        b.config = b.config.withKl(KlTerm.EXACT, 2).withKlAggregation(Aggregation.TOKEN_MEAN);
        b.call();
        assertEquals(2.1 / 6, b.stats[teamtr.TEAMTR_STAT_KL], 1e-7);
        assertEquals(2f / 6, b.gradients[1][3], 1e-7f);
        assertArrayEquals(new float[6], b.gradients[0], "the log-probs do not enter the exact KL");
    }

    private static double k3(double d) {
        return Math.exp(-d) - 1 + d;
    }

    @Test
    void atTheStartEveryRatioIsOne() {
        for (Ratio ratio : Ratio.values()) {
            for (KlTerm kl : KlTerm.values()) {
                final Batch b = new Batch(SurrogateConfig.PAPER.withRatio(ratio).withKl(kl, 1), 3, 1, 0, 8).random(3, false);
                System.arraycopy(b.old, 0, b.fresh, 0, b.tokens);
                Arrays.fill(b.kl, 0);
                b.call();
                for (int one : new int[] {teamtr.TEAMTR_STAT_RATIO_MEAN, teamtr.TEAMTR_STAT_RATIO_MIN, teamtr.TEAMTR_STAT_RATIO_MAX,
                    teamtr.TEAMTR_STAT_ESS}) {
                    assertEquals(1.0, b.stats[one], "statistic " + one);
                }
                for (int zero : new int[] {teamtr.TEAMTR_STAT_KL, teamtr.TEAMTR_STAT_CLIP_LOW, teamtr.TEAMTR_STAT_CLIP_HIGH,
                    teamtr.TEAMTR_STAT_CLIP_DUAL, teamtr.TEAMTR_STAT_MONITOR_K1, teamtr.TEAMTR_STAT_MONITOR_K3,
                    teamtr.TEAMTR_STAT_MONITOR_EXACT, teamtr.TEAMTR_STAT_MONITOR_MAX, teamtr.TEAMTR_STAT_ZETA_CLIP,
                    teamtr.TEAMTR_STAT_ZETA_RATIO}) {
                    assertEquals(0.0, b.stats[zero] + 0.0, "statistic " + zero);
                }
                final double mean = ((double) b.advantages[0] + b.advantages[1] + b.advantages[3]) / 3;
                assertEquals(-mean, b.stats[teamtr.TEAMTR_STAT_LOSS], 1e-15);
                if (kl != KlTerm.K1) { // whose slope is not 0 there
                    final double share = ratio == Ratio.MESSAGE ? 1.0 / 3 : 1.0 / 9;
                    assertEquals(-b.advantages[0] * share, b.gradients[0][0], 1e-7, "plain policy gradient");
                }
            }
        }
    }

    /** w = bound is still free: the first step with eps = 0 has a gradient. */
    @Test
    void theEdgeOfTheClipIsFree() {
        final Batch b = new Batch(SurrogateConfig.PAPER.withClip(0, 0), 1, 1);
        b.advantages[0] = 1;
        b.advantages[1] = -1;
        b.call();
        assertArrayEquals(new float[] {-0.5f, 0.5f}, b.gradients[0]);
    }

    /** log w is clamped at 20, and w no longer moves with the log-probs; the KL term still does. */
    @Test
    void farRatiosAreClamped() {
        final Batch b = new Batch(SurrogateConfig.PAPER.withClip(INF, INF), 1, 1, 1, 1);
        System.arraycopy(new float[] {21, 19, -21, Float.NEGATIVE_INFINITY}, 0, b.fresh, 0, 4);
        Arrays.fill(b.advantages, 1);
        b.call();
        assertEquals(Math.exp(20), b.stats[teamtr.TEAMTR_STAT_RATIO_MAX], 1e-6);
        assertEquals(Math.exp(-20), b.stats[teamtr.TEAMTR_STAT_RATIO_MIN], 1e-20);
        assertArrayEquals(new float[] {0, (float) (-Math.exp(19) / 4), 0, 0}, b.gradients[0], 10f);
        assertEquals(INF, b.stats[teamtr.TEAMTR_STAT_MONITOR_MAX]);
        b.config = b.config.withKl(KlTerm.K1, 4);
        b.call();
        assertEquals(-1f, b.gradients[0][0]);
    }

    // ---- what does not count, what is not given, what is not finite ----

    @Test
    void nothingCounts() {
        for (int[] lengths : new int[][] {{}, {0}, {0, 0, 0}, {2, 3}}) {
            final Batch b = new Batch(SurrogateConfig.PAPER.withKl(KlTerm.EXACT, 1).withEntropyCoef(0.1), lengths);
            Arrays.fill(b.counts, false);
            b.poisonMasked().call();
            for (int i = 0; i < b.stats.length; i++) {
                assertEquals(0.0, b.stats[i], "statistic " + i + " of " + Arrays.toString(lengths));
            }
            for (float[] gradient : b.gradients) {
                assertArrayEquals(new float[b.tokens], gradient);
            }
        }
    }

    @Test
    void aMaskedTokenIsAsGoodAsAbsent() {
        final SurrogateConfig config = SurrogateConfig.PAPER.withKl(KlTerm.K2, 0.4).withEntropyCoef(0.2);
        final Batch with = new Batch(config, 4, 2, 3).random(8, false);
        with.counts[1] = with.counts[4] = with.counts[5] = false; // the second message goes altogether
        final Batch without = new Batch(config, 3, 3);
        for (int u = 0, v = 0; u < with.tokens; u++) {
            if (with.counts[u]) {
                without.fresh[v] = with.fresh[u];
                without.old[v] = with.old[u];
                without.kl[v] = with.kl[u];
                without.entropy[v++] = with.entropy[u];
            }
        }
        for (int m = 0; m < 2; m++) {
            without.advantages[m] = with.advantages[2 * m];
            without.centred[m] = with.centred[2 * m];
        }
        with.poisonMasked().call();
        without.call();
        assertArrayEquals(without.stats, with.stats);
        for (int k = 0; k < 3; k++) {
            final float[] all = with.gradients[k];
            assertArrayEquals(without.gradients[k], new float[] {all[0], all[2], all[3], all[6], all[7], all[8]});
            assertArrayEquals(new float[3], new float[] {all[1], all[4], all[5]});
        }
    }

    @Test
    void anyByteBut0Counts() {
        try (Floats fresh = Floats.ofFloats(-1, -1, -1, Float.NaN);
                Floats advantage = Floats.ofFloats(3);
                Indices bounds = Indices.ofInts(0, 4);
                SurrogateStats stats = new SurrogateStats()) {
            final Mask mask = Mask.of(new BytePointer(new byte[] {1, 2, -128, 0}));
            Surrogate.compute(SurrogateConfig.PAPER, fresh, fresh, advantage, bounds, mask, null, null, null, null, null, null, stats);
            assertEquals(3, stats.tokens());
            assertEquals(-3.0, stats.loss());
        }
    }

    @Test
    void whatIsNotGivenIsNaNAndChangesNothingElse() {
        for (Ratio ratio : Ratio.values()) {
            final Batch b = new Batch(SurrogateConfig.PAPER.withRatio(ratio).withKl(KlTerm.K3, 0.5), 4, 3, 1).random(11,
                    true).poisonMasked();
            final double[] full = b.call().stats.clone();
            b.bare = true;
            b.call();
            checkStatistics(b, "bare");
            for (int i = 0; i < full.length; i++) {
                final boolean missing = i == teamtr.TEAMTR_STAT_ENTROPY || i == teamtr.TEAMTR_STAT_MONITOR_EXACT
                        || i == teamtr.TEAMTR_STAT_ZETA_NORM;
                assertEquals(missing ? Double.NaN : full[i], b.stats[i], "statistic " + i);
                assertTrue(!missing || !Double.isNaN(full[i]), "statistic " + i + " when given");
            }
        }
    }

    @Test
    void aNaNReachesWhatItBelongsToAndNothingElse() {
        for (Ratio ratio : Ratio.values()) {
            final Batch clean = new Batch(SurrogateConfig.PAPER.withRatio(ratio).withKl(KlTerm.K2, 1), 2, 2, 1).random(2,
                    false).call();
            final Batch b = new Batch(clean.config, 2, 2, 1).random(2, false);
            b.fresh[2] = Float.NaN;
            b.call();
            assertTrue(Double.isNaN(b.loss()) && Double.isNaN(b.stats[teamtr.TEAMTR_STAT_MONITOR_K1])
                    && Double.isNaN(b.stats[teamtr.TEAMTR_STAT_RATIO_MAX])
                    && Double.isNaN(b.stats[teamtr.TEAMTR_STAT_MONITOR_MAX]));
            for (int u = 0; u < 5; u++) {
                final boolean shares = u == 2 || u == 3 && ratio != Ratio.TOKEN;
                assertEquals(shares ? Float.NaN : clean.gradients[0][u], b.gradients[0][u], ratio + ", token " + u);
            }
        }
    }

    // ---- micro-batches ----

    @Test
    void microBatchesUnderTheWholesCountsAddUp() {
        int seed = 100;
        for (Ratio ratio : Ratio.values()) {
            for (Aggregation how : Aggregation.values()) {
                for (AdvantagePer per : AdvantagePer.values()) {
                    final SurrogateConfig config = config(ratio, CLIPS[3], how, KlTerm.EXACT, how, per, false);
                    final Batch whole = new Batch(config, 4, 2, 0, 7, 1).random(seed++, true).poisonMasked().call();
                    final SurrogateConfig totals = config.withTotals((long) whole.stats[teamtr.TEAMTR_STAT_TOKENS],
                            (long) whole.stats[teamtr.TEAMTR_STAT_MESSAGES]);
                    final Batch[] parts = {part(whole, totals, 0, 2, 4, 2), part(whole, totals, 2, 5, 0, 7, 1)};
                    for (int i = 0; i < 4; i++) {
                        assertEquals(whole.stats[i], parts[0].stats[i] + parts[1].stats[i], 1e-14, totals + ", statistic " + i);
                    }
                    for (int k = 0; k < 3; k++) {
                        final float[] joined = Arrays.copyOf(parts[0].gradients[k], whole.tokens);
                        System.arraycopy(parts[1].gradients[k], 0, joined, parts[0].tokens, parts[1].tokens);
                        assertArrayEquals(whole.gradients[k], joined, totals + ", gradient " + k);
                    }
                }
            }
        }
    }

    private static Batch part(Batch whole, SurrogateConfig config, int from, int to, int... lengths) {
        final Batch b = new Batch(config, lengths);
        final int u = (int) whole.cuSeqlens[from];
        System.arraycopy(whole.fresh, u, b.fresh, 0, b.tokens);
        System.arraycopy(whole.old, u, b.old, 0, b.tokens);
        System.arraycopy(whole.kl, u, b.kl, 0, b.tokens);
        System.arraycopy(whole.entropy, u, b.entropy, 0, b.tokens);
        System.arraycopy(whole.counts, u, b.counts, 0, b.tokens);
        System.arraycopy(whole.centred, from, b.centred, 0, to - from);
        System.arraycopy(whole.advantages, config.advantagePer() == AdvantagePer.TOKEN ? u : from, b.advantages, 0,
                b.advantages.length);
        return b.call();
    }

    /** A copy is of one call, and no call writes to it. */
    @Test
    void aCopyOfStatisticsStays() {
        try (Floats now = Floats.ofFloats(-1, -2); Floats old = Floats.ofFloats(-1, -2); Floats later = Floats.ofFloats(-1.5f, -2);
                Floats a = Floats.ofFloats(1); Indices bounds = Indices.ofLongs(0, 2); SurrogateStats stats = new SurrogateStats()) {
            Surrogate.compute(SurrogateConfig.PAPER, now, old, a, bounds, null, null, null, null, null, null, null, stats);
            final SurrogateStats copy = stats.copy();
            Surrogate.compute(SurrogateConfig.PAPER, later, old, a, bounds, null, null, null, null, null, null, null, stats);
            assertEquals(0, copy.monitorK1());
            assertEquals(0.5, stats.monitorK1(), 1e-7);
            assertEquals(2, copy.tokens());
            copy.close();
            assertEquals(1, copy.ratioMax());
            assertTrue(assertThrows(IllegalArgumentException.class, () -> Surrogate.compute(SurrogateConfig.PAPER, now, old, a, bounds, null,
                    null, null, null, null, null, null, copy)).getMessage().startsWith("stats: expected room"));
        }
    }
}
