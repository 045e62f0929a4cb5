package org.teamtr.kernels;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.teamtr.kernels.SamplingReference.NEVER;
import static org.teamtr.kernels.SamplingReference.chiSquare;
import static org.teamtr.kernels.SamplingReference.kept;
import static org.teamtr.kernels.SamplingReference.normal;

import java.util.Arrays;
import java.util.HashSet;
import java.util.Random;
import java.util.Set;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.teamtr.kernels.SamplingReference.Draws;
import org.teamtr.kernels.internal.Natives;

/** {@link Sampling}: what may be drawn, how often, and what a draw does and does not depend on. */
class SamplingTest {
    private static final int THREADS = Backend.current().threads();

    @AfterAll
    static void restoreThreads() {
        Natives.forceThreads(THREADS);
    }

    @Test
    void onlyKeptTokensAreDrawnAndAllThatMatter() {
        final Random random = new Random(17);
        final long[] topKs = {0, 1, 2, 5, 40, 3_000, Long.MAX_VALUE};
        final float[] topPs = {1, 0.95f, 0.8f, 0.3f, 1e-6f};
        final float[] minPs = {0, 0.02f, 0.3f, 1};
        int cases = 0;
        for (int vocab : new int[] {2, 9, 64, 257, 1_500, TestDevice.lockstep() ? 5_003 : 20_000}) {
            for (double temperature : new double[] {0.5, 1, 2}) {
                for (int i = 0; i < (vocab > 5_000 ? 10 : vocab > 1_000 ? 16 : 40) / (TestDevice.lockstep() ? 10 : 1); i++) {
                    final SamplingConfig config = new SamplingConfig(topKs[random.nextInt(7)], topPs[random.nextInt(5)],
                            minPs[random.nextInt(4)]);
                    final float[] x = normal(random, vocab, 1 + random.nextInt(3));
                    for (int v = 0; v < vocab; v++) {
                        x[v] = i % 2 == 0 ? Math.round(4 * x[v]) / 4f : x[v]; // half of the cases have ties everywhere
                        x[v] = v > 0 && random.nextInt(8) == 0 ? NEVER : x[v];
                    }
                    final Draws draws = Draws.repeated(vocab > 5_000 || TestDevice.lockstep() ? 16 : 128, x);
                    draws.config = config;
                    draws.temperature = Temperature.of((float) temperature);
                    draws.seed = random.nextLong();
                    checkKept(draws, x, temperature);
                    cases++;
                }
            }
        }
        System.out.printf("Sampling: %d kept sets, worst error of logProbsKept %.1e%n", cases, worstKept);
    }

    private static double worstKept;

    /** Some steps of draws from one distribution. At an edge a token may fall to either side if f32 cannot tell. */
    private static void checkKept(Draws draws, float[] x, double temperature) {
        final double[] widest = kept(x, temperature, draws.config, 1e-5);
        final double[] narrowest = kept(x, temperature, draws.config, -1e-5);
        final boolean[] seen = new boolean[x.length];
        for (draws.step = 0; draws.step < (TestDevice.lockstep() ? 3 : 8); draws.step++) {
            draws.call();
            for (int r = 0; r < draws.rows; r++) {
                final int token = draws.tokens[r];
                final String what = draws.config + ", T " + temperature + ", vocab " + x.length + ", token " + token;
                assertTrue(token >= 0 && token < x.length && widest[token] > 0, what + " is not kept");
                seen[token] = true;
                final double low = Math.log(widest[token]);
                final double high = Math.max(low, Math.log(narrowest[token]));
                final double error = Math.max(low - draws.logProbsKept[r], draws.logProbsKept[r] - high);
                assertTrue(error <= 2e-6 * (1 - low),
                        what + ": logProbsKept " + draws.logProbsKept[r] + ", expected " + low + " .. " + high);
                worstKept = Math.max(worstKept, error);
            }
        }
        draws.checkLogProbs(draws.temperature);
        final double likely = 20.0 / (8 * draws.rows); // never drawn by chance: exp(-20)
        for (int v = 0; v < x.length; v++) {
            assertTrue(seen[v] || narrowest[v] < likely, "never drew " + v + ", p " + narrowest[v] + ": " + draws.config);
        }
    }

    @Test
    void tiesAtAnEdgeGoToTheLowerId() {
        final float[] equal = new float[40];
        for (int v = 0; v < 40; v += 3) {
            equal[v] = -0.0f;
        }
        final Object[][] edges = {{new SamplingConfig(3, 1, 0), 3}, {new SamplingConfig(0, 0.5f, 0), 20},
            {new SamplingConfig(0, 0.51f, 0), 21},
            {new SamplingConfig(8, 0.5f, 0), 4}, {new SamplingConfig(0, 1, 1), 40}, {new SamplingConfig(5, 1, 1), 5},
            {new SamplingConfig(0, 1e-9f, 0), 1}};
        for (Object[] edge : edges) {
            final Draws draws = Draws.repeated(TestDevice.lockstep() ? 300 : 2_000, equal);
            draws.config = (SamplingConfig) edge[0];
            final Set<Integer> seen = new HashSet<>();
            Arrays.stream(draws.call().tokens).forEach(seen::add);
            assertEquals(IntStream.range(0, (int) edge[1]).boxed().collect(Collectors.toSet()), seen, edge[0].toString());
        }
    }

    /** Shifting a row changes nothing, also where its maximum becomes 0: log-probs and max-shifted logits are such rows. */
    @Test
    void theMaximumMayBeZero() {
        final float[] x = {-0.5f, 0, -1, -3, -4, -0.25f};
        for (SamplingConfig config : new SamplingConfig[] {new SamplingConfig(0, 0.7f, 0), new SamplingConfig(3, 1, 0),
            new SamplingConfig(0, 1, 0.3f), new SamplingConfig(4, 0.9f, 0.05f), new SamplingConfig(0, 0.3f, 0)}) {
            for (float shift : new float[] {0, 1, -1, -0.0f, 8}) {
                final float[] shifted = new float[x.length];
                for (int v = 0; v < x.length; v++) {
                    shifted[v] = Float.floatToIntBits(shift) == 0x80000000 && x[v] == 0 ? -0.0f : x[v] + shift;
                }
                final double[] expected = kept(shifted, 1, config, 0);
                final Draws draws = Draws.repeated(TestDevice.lockstep() ? 100 : 1_000, shifted);
                draws.config = config;
                draws.call();
                final long[] counts = new long[x.length];
                for (int r = 0; r < draws.rows; r++) {
                    final int token = draws.tokens[r];
                    assertEquals(Math.log(expected[token]), draws.logProbsKept[r], 1e-6, config + " shifted by " + shift);
                    counts[token]++;
                }
                for (int v = 0; v < x.length; v++) {
                    assertEquals(expected[v] > 0, counts[v] > 0, "token " + v + ", " + config + " shifted by " + shift);
                }
            }
        }
    }

    // ---- how often ----

    @Test
    @Tag("slow")
    void tokensAreDrawnAsOftenAsTheyAreLikely() {
        final Random random = new Random(3);
        for (int vocab : new int[] {24, 3_000}) {
            for (double temperature : new double[] {0.5, 1, 2}) {
                for (SamplingConfig config : new SamplingConfig[] {SamplingConfig.ALL,
                    new SamplingConfig(vocab / 2, 0.9f, 0.01f)}) {
                    final float[] x = normal(random, vocab, 0.7);
                    final double[] expected = kept(x, temperature, config, 0);
                    final Draws draws = Draws.repeated(200, x);
                    draws.temperature = Temperature.of((float) temperature);
                    draws.config = config;
                    draws.seed = 42;
                    final long[] counts = new long[vocab];
                    final int calls = vocab < 100 ? 500 : 100;
                    for (draws.step = 0; draws.step < calls; draws.step++) {
                        draws.tokensOnly = draws.step % 2 == 0;
                        Arrays.stream(draws.call().tokens).forEach(t -> counts[t]++);
                    }
                    System.out.printf("Sampling V %d, T %.1f, %s: %d draws, chi-square / df %.2f%n", vocab, temperature, config,
                            200 * calls, chiSquare(counts, expected, "T " + temperature + ", " + config));
                }
            }
        }
    }

    /** Noise may be made for many tokens at a time: rows with their mass in patterns, in one token and a flat rest, in a tail. */
    @Test
    @Tag("slow")
    void noShapeOfARowIsPreferred() {
        final int vocab = 4_096;
        for (int pace : new int[] {16, 32, 64, 100}) {
            final float[] x = new float[vocab];
            Arrays.fill(x, NEVER);
            for (int v = 5; v < vocab; v += pace) {
                x[v] = v % 7 / 4f;
            }
            checkFrequencies(x, 0, "every " + pace + "th token");
        }
        for (int at : new int[] {0, 17, 2_100, 4_095}) {
            for (double share : new double[] {0.1, 0.5, 0.9}) {
                final float[] x = new float[vocab];
                x[at] = (float) Math.log(share / (1 - share) * (vocab - 1));
                checkFrequencies(x, at, "a share of " + share + " at token " + at);
            }
        }
        final float[] tail = new float[vocab];
        for (int v = 0; v < vocab; v++) {
            tail[v * 1_237 % vocab] = (float) -Math.log1p(v);
        }
        checkFrequencies(tail, 0, "Zipf");
    }

    /** Over 40,000 draws; also of one token against all others, which a test of many small counts would not see. */
    private static void checkFrequencies(float[] x, int token, String what) {
        final double[] p = kept(x, 1, SamplingConfig.ALL, 0);
        final Draws draws = Draws.repeated(500, x);
        draws.tokensOnly = true;
        final long[] counts = new long[x.length];
        for (draws.step = 0; draws.step < 80; draws.step++) {
            Arrays.stream(draws.call().tokens).forEach(t -> counts[t]++);
        }
        chiSquare(counts, p, what);
        if (p[token] > 0.01) {
            chiSquare(new long[] {counts[token], 40_000 - counts[token]}, new double[] {p[token], 1 - p[token]}, what + ", that token");
        }
    }

    /** Draws of neighbouring rows, steps and seeds have nothing to do with each other: pairs of tokens are uniform. */
    @Test
    @Tag("slow")
    void drawsAreIndependent() {
        final double[] uniform = new double[64];
        Arrays.fill(uniform, 1.0 / 64);
        final long[][] pairs = new long[4][64];
        final Draws draws = Draws.repeated(2_000, new float[8]);
        int[] lastStep = null;
        for (draws.step = 0; draws.step < 30; draws.step++) {
            final int[] now = draws.call().tokens;
            draws.seed++;
            final int[] otherSeed = draws.call().tokens;
            draws.seed = 1;
            for (int r = 0; r < now.length; r++) {
                pairs[0][8 * now[r] + now[(r + 1) % now.length]]++;
                pairs[1][8 * now[r] + now[(r + 64) % now.length]]++;
                pairs[2][8 * now[r] + (lastStep == null ? otherSeed[r] : lastStep[r])]++;
                pairs[3][8 * now[r] + otherSeed[r]]++;
            }
            lastStep = now;
        }
        for (int k = 0; k < 4; k++) {
            chiSquare(pairs[k], uniform, "pairs of kind " + k);
        }
    }

    @Test
    @Tag("slow")
    void everyBitOfSeedRowIdAndStepCounts() {
        final float[] uniform = new float[1_000];
        final Draws a = Draws.repeated(200, uniform);
        a.rowIds = new long[200];
        Arrays.setAll(a.rowIds, r -> r * 3L);
        final int[] base = a.call().tokens.clone();
        assertArrayEquals(base, a.call().tokens, "the same call again");
        for (int bit = 0; bit < 64; bit++) {
            a.seed = 1 ^ 1L << bit;
            final int b = bit;
            assertTrue(equal(base, a.call().tokens) < 10, "seed bit " + bit);
            a.seed = 1;
            Arrays.setAll(a.rowIds, r -> r * 3L ^ 1L << b);
            assertTrue(equal(base, a.call().tokens) < 10, "row id bit " + bit);
            Arrays.setAll(a.rowIds, r -> r * 3L);
            if (bit < 31) {
                a.step = 1 << bit;
                assertTrue(equal(base, a.call().tokens) < 10, "step bit " + bit);
                a.step = 0;
            }
        }
        a.rowIds = new long[200];
        assertEquals(1, Arrays.stream(a.call().tokens).distinct().count(), "rows of one id draw alike");
    }

    private static int equal(int[] a, int[] b) {
        return (int) IntStream.range(0, a.length).filter(i -> a[i] == b[i]).count();
    }

    // ---- what a draw does not depend on ----

    @Test
    void aRowsDrawIsItsOwn() {
        final Random random = new Random(5);
        final float[][] x = new float[37][];
        Arrays.setAll(x, r -> normal(random, 700, 2));
        for (SamplingConfig config : new SamplingConfig[] {SamplingConfig.ALL, new SamplingConfig(50, 0.9f, 0.001f)}) {
            final Draws all = Draws.of(x);
            all.config = config;
            all.seed = -77;
            all.step = 9;
            all.rowIds = new long[37];
            Arrays.setAll(all.rowIds, r -> 1_000_000_007L * r);
            all.call();
            for (int threads : new int[] {1, 2, 5}) {
                Natives.forceThreads(threads);
                check(all, same(all, 0, 37, DType.F32, 700), 0, threads + " threads");
            }
            Natives.forceThreads(THREADS);
            for (int r = 0; r < 37; r++) {
                check(all, same(all, r, r + 1, DType.F32, 700), r, "alone");
            }
            check(all, same(all, 20, 37, DType.F32, 711), 20, "padded rows, other positions");
            final Draws narrow = same(all, 0, 37, DType.BF16, 703);
            assertArrayEquals(all.tokens, narrow.tokens, "the same numbers in bf16");
            if (TestDevice.CUDA) { // where LogProbs, whose bits these are, adds up f32 in another order
                assertArrayEquals(all.logProbs, narrow.logProbs, 4e-6f);
                assertArrayEquals(all.logProbsKept, narrow.logProbsKept, 4e-6f);
            } else {
                assertArrayEquals(all.logProbs, narrow.logProbs);
                assertArrayEquals(all.logProbsKept, narrow.logProbsKept);
            }
            all.rowIds = null;
            final int[] byNumber = all.call().tokens.clone();
            all.rowIds = IntStream.range(0, 37).mapToLong(r -> r).toArray();
            assertArrayEquals(byNumber, all.call().tokens, "row ids default to row numbers");
            all.intTokens = true;
            assertArrayEquals(byNumber, all.call().tokens, "int32 tokens");
        }
    }

    private static Draws same(Draws all, int from, int to, DType dtype, int stride) {
        final float[][] x = new float[to - from][all.vocab];
        for (int r = from; r < to; r++) {
            for (int v = 0; v < all.vocab; v++) {
                x[r - from][v] = all.data.getFloat(4 * (r * all.stride + v));
            }
        }
        final Draws part = new Draws(dtype, stride, x);
        part.config = all.config;
        part.seed = all.seed;
        part.step = all.step;
        part.rowIds = Arrays.copyOfRange(all.rowIds, from, to);
        return part.call();
    }

    private static void check(Draws all, Draws part, int from, String what) {
        assertArrayEquals(Arrays.copyOfRange(all.tokens, from, from + part.rows), part.tokens, what);
        assertArrayEquals(Arrays.copyOfRange(all.logProbs, from, from + part.rows), part.logProbs, what);
        assertArrayEquals(Arrays.copyOfRange(all.logProbsKept, from, from + part.rows), part.logProbsKept, what);
    }

    // ---- greedy, special rows, extremes ----

    @Test
    void temperature0TakesTheLargestLogit() {
        final Random random = new Random(6);
        final float[][] x = new float[50][];
        final int[] best = new int[50];
        for (int r = 0; r < 50; r++) {
            x[r] = normal(random, 333, 3);
            for (int v = 0; v < 333; v++) {
                x[r][v] = r % 2 == 0 ? Math.round(x[r][v]) : x[r][v]; // many share the maximum
                best[r] = x[r][v] > x[r][best[r]] ? v : best[r];
            }
        }
        final Draws draws = Draws.of(x);
        draws.temperature = Temperature.GREEDY;
        for (SamplingConfig config : new SamplingConfig[] {SamplingConfig.ALL, new SamplingConfig(7, 0.3f, 0.2f)}) {
            draws.config = config;
            for (draws.seed = 0; draws.seed < 3; draws.seed++) {
                assertArrayEquals(best, draws.call().checkLogProbs(Temperature.ONE).tokens);
            }
        }
        draws.config = SamplingConfig.ALL;
        try (Floats mixed = Floats.allocate(50); Floats computed = Floats.allocate(50)) {
            for (int r = 0; r < 50; r++) {
                mixed.set(r, r % 3 == 0 ? 0 : 0.5f + r % 4);
                computed.set(r, r % 3 == 0 ? 1 : 0.5f + r % 4);
            }
            draws.temperature = Temperature.perRow(mixed);
            draws.call().checkLogProbs(Temperature.perRow(computed));
            final int[] tokens = draws.tokens.clone();
            int notBest = 0;
            for (int r = 0; r < 50; r++) {
                assertTrue(r % 3 != 0 || tokens[r] == best[r], "row " + r + " of temperature 0");
                notBest += tokens[r] != best[r] ? 1 : 0;
            }
            assertTrue(notBest > 10, "rows of another temperature are drawn");
            draws.temperature = Temperature.of(1.5f);
            draws.call();
            for (int r = 0; r < 50; r++) {
                assertTrue(mixed.get(r) != 1.5f || draws.tokens[r] == tokens[r], "per row or for all, the same draw");
            }
        }
    }

    @Test
    void aRowWithoutADistributionGivesMinus1AndNoOtherRowChanges() {
        final Random random = new Random(8);
        for (SamplingConfig config : new SamplingConfig[] {SamplingConfig.ALL, new SamplingConfig(5, 0.9f, 0.1f)}) {
            for (Temperature temperature : new Temperature[] {Temperature.ONE, Temperature.GREEDY}) {
                for (int vocab : new int[] {1, 5, 200, 3_000}) {
                    final float[][] x = new float[8][];
                    Arrays.setAll(x, r -> normal(random, vocab, 1));
                    final Draws clean = Draws.of(x);
                    clean.config = config;
                    clean.temperature = temperature;
                    clean.call();
                    x[1][random.nextInt(vocab)] = Float.NaN;
                    x[3][random.nextInt(vocab)] = Float.POSITIVE_INFINITY;
                    Arrays.fill(x[5], NEVER);
                    final int only = random.nextInt(vocab);
                    Arrays.fill(x[7], NEVER);
                    x[7][only] = -20;
                    final Draws draws = Draws.of(x);
                    draws.config = config;
                    draws.temperature = temperature;
                    draws.call();
                    for (int r = 0; r < 7; r++) {
                        final boolean special = r % 2 == 1;
                        assertEquals(special ? -1 : clean.tokens[r], draws.tokens[r], config + ", " + temperature + ", row " + r);
                        assertEquals(special ? Float.NaN : clean.logProbs[r], draws.logProbs[r], "row " + r);
                        assertEquals(special ? Float.NaN : clean.logProbsKept[r], draws.logProbsKept[r], "row " + r);
                    }
                    assertEquals(only, draws.tokens[7]);
                    assertEquals(0f, draws.logProbs[7] + 0f);
                    assertEquals(0f, draws.logProbsKept[7] + 0f);
                }
            }
        }
    }

    @Test
    void extremesAreDrawnFromAsWell() {
        final float[] spread = {-1e30f, 3e38f, 2.9e38f, -3e38f};
        final float[] plain = {1, 3, 2, 3};
        for (float temperature : new float[] {1e-30f, 1e-6f, 1e-3f}) {
            final Draws draws = Draws.of(spread, new float[] {-5, -3.5f, -3, -4});
            draws.temperature = Temperature.of(temperature);
            assertArrayEquals(new int[] {1, 2}, draws.call().tokens, "T " + temperature + " is almost greedy");
            assertArrayEquals(new float[2], draws.logProbs);
        }
        final Draws hot = Draws.repeated(4_000, plain); // so hot that all are alike
        hot.temperature = Temperature.of(1e30f);
        final long[] counts = new long[4];
        Arrays.stream(hot.call().tokens).forEach(t -> counts[t]++);
        chiSquare(counts, new double[] {0.25, 0.25, 0.25, 0.25}, "T 1e30");
        final Draws one = Draws.repeated(3, new float[] {7});
        assertArrayEquals(new int[3], one.call().tokens, "V = 1");
        assertArrayEquals(new float[3], one.logProbs);
        assertArrayEquals(new float[3], one.logProbsKept);
        final Indices none = Indices.ofLongs();
        Sampling.sample(Logits.ofAddress(0, 0, DType.F16, 0, 1, 5, 0, 5, null), Temperature.ONE, SamplingConfig.ALL, 0, 0, null,
                none, null, null);
    }

    @Test
    void aRealVocabularyInBf16() {
        final int vocab = 151_936;
        final Random random = new Random(10);
        final float[][] x = new float[4][];
        Arrays.setAll(x, r -> normal(random, vocab, 2.5));
        final Draws draws = new Draws(DType.BF16, vocab, x);
        for (SamplingConfig config : new SamplingConfig[] {SamplingConfig.ALL, new SamplingConfig(50, 1, 0),
            new SamplingConfig(0, 0.9f, 0),
            new SamplingConfig(0, 1, 0.05f), new SamplingConfig(1_000, 0.8f, 0.02f)}) {
            draws.config = config;
            draws.temperature = Temperature.of(0.7f);
            final double[][] widest = new double[4][];
            Arrays.setAll(widest, r -> kept(x[r], 0.7f, config, 1e-5));
            for (draws.step = 0; draws.step < 5; draws.step++) {
                draws.call().checkLogProbs(draws.temperature);
                for (int r = 0; r < 4; r++) {
                    final double p = widest[r][draws.tokens[r]];
                    assertTrue(p > 0, config + ", row " + r + ", token " + draws.tokens[r] + " is not kept");
                    assertEquals(Math.log(p), draws.logProbsKept[r], 5e-5, config.toString()); // the widest set has more mass
                }
            }
        }
        if (TestDevice.lockstep()) {
            return;
        }
        // Where all are alike, no part of the vocabulary is preferred.
        final Draws flat = new Draws(DType.BF16, vocab, new float[4][vocab]);
        final long[] parts = new long[16];
        for (flat.step = 0; flat.step < 150; flat.step++) {
            Arrays.stream(flat.call().tokens).forEach(t -> parts[(int) (16L * t / vocab)]++);
        }
        final double[] uniform = new double[16];
        Arrays.fill(uniform, 1.0 / 16);
        chiSquare(parts, uniform, "sixteenths of the vocabulary");
    }
}
