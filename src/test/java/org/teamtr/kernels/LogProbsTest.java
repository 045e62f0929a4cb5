package org.teamtr.kernels;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.teamtr.kernels.TestData.Forward;
import org.teamtr.kernels.TestData.Matrix;
import org.teamtr.kernels.TestData.Worst;

/** Log-probs, log-normaliser, entropy and their gradient against {@link Reference}, over dtypes, shapes and temperatures. */
class LogProbsTest extends TestData.Scoped {
    private static final float[] TEMPERATURES = {0.3f, 1, 1.7f};

    static Stream<Arguments> dtypesAndVocabs() {
        return Stream.of(DType.values()).flatMap(dtype -> Stream.of(1, 7, 63, 50257, 151936, 151937, 262145)
                .filter(vocab -> dtype == DType.F32 || vocab <= 151937)
                .map(vocab -> Arguments.of(dtype, vocab)));
    }

    // ---- forward ----

    @ParameterizedTest(name = "{0}, vocabulary of {1}")
    @MethodSource("dtypesAndVocabs")
    void forwardAgreesWithDoubles(DType dtype, int vocab) {
        final double[][] shapes = TestData.shapes(vocab, 1);
        final Matrix x = TestData.matrix(dtype, shapes);
        for (float t : vocab < 100_000 || dtype == DType.F32 ? TEMPERATURES : new float[] {1}) {
            checkForward(x, Temperature.of(t), TestData.constant(x.rows, t), dtype + ", V = " + vocab + ", T = " + t);
        }
    }

    @ParameterizedTest
    @EnumSource(DType.class)
    void aTemperatureForEachRow(DType dtype) {
        final Matrix x = TestData.matrix(dtype, TestData.shapes(5003, 2));
        final float[] temperatures = new float[x.rows];
        for (int r = 0; r < x.rows; r++) {
            temperatures[r] = 0.25f + 0.15f * r;
        }
        checkForward(x, Temperature.perRow(Floats.ofFloats(temperatures)), temperatures, dtype + ", T per row");
    }

    private static void checkForward(Matrix x, Temperature temperature, float[] temperatures, String what) {
        final Worst logProb = new Worst("log-prob, " + what);
        final Worst lse = new Worst("lse, " + what);
        final Worst entropy = new Worst("entropy, " + what);
        final int last = x.vocab - 1;
        final int[][] targets = new int[4][x.rows];
        final Reference.Softmax[] expected = new Reference.Softmax[x.rows];
        for (int r = 0; r < x.rows; r++) {
            final double[] row = x.row(r);
            expected[r] = new Reference.Softmax(row, temperatures[r]);
            targets[0][r] = TestData.largest(row);
            targets[1][r] = 0;
            targets[2][r] = last;
            targets[3][r] = (int) (last * 0.7);
        }
        for (int[] ids : targets) {
            final Forward given = Forward.of(x.logits, Indices.ofInts(ids), temperature);
            for (int r = 0; r < x.rows; r++) {
                final double p = expected[r].logP[ids[r]];
                logProb.see(given.logProbs()[r], p, 1e-6 + 5e-7 * Math.abs(p), r, ids[r]);
                lse.see(given.lse()[r], expected[r].lse, 1e-6 + 5e-7 * Math.abs(expected[r].lse), r, 0);
                entropy.see(given.entropy()[r], expected[r].entropy, 1e-5, r, 0);
            }
        }
        logProb.check();
        lse.check();
        entropy.check();
    }

    /** 1 - p from 0.1 down to 1e-30: log p = log(1 - (1 - p)), and the entropy with it, keep their relative accuracy. */
    @ParameterizedTest
    @EnumSource(DType.class)
    void logProbsNearZeroKeepTheirDigits(DType dtype) {
        final Worst logProb = new Worst("log-prob near 0, " + dtype + ", relative");
        final Worst entropy = new Worst("entropy near 0, " + dtype + ", relative");
        for (float t : TEMPERATURES) {
            for (int vocab : new int[] {2, 63, 50257}) {
                final double[][] rows = new double[12][];
                final int target = vocab / 2;
                for (int r = 0; r < rows.length; r++) {
                    final double gap = -t * Math.log(Math.pow(10, r < 9 ? -1 - r : -10 * (r - 8)) / (vocab - 1));
                    rows[r] = TestData.with(TestData.gaussian(r, vocab, 0.05), target, gap);
                }
                final Matrix x = TestData.matrix(dtype, rows);
                final Forward given = Forward.of(x.logits, Indices.ofInts(repeat(target, rows.length)), Temperature.of(t));
                for (int r = 0; r < rows.length; r++) {
                    final Reference.Softmax s = x.softmax(r, t);
                    assertTrue(s.logP[target] < 0);
                    logProb.see(given.logProbs()[r], s.logP[target], 5e-6 * -s.logP[target], r, target);
                    entropy.see(given.entropy()[r], s.entropy, 1e-5 * s.entropy, r, 0);
                }
            }
        }
        logProb.check();
        entropy.check();
    }

    @Test
    void everyOutputIsTheSameAloneAndTogether() {
        final Matrix x = TestData.matrix(DType.F32, TestData.shapes(4099, 3));
        final Indices targets = Indices.ofLongs(new long[x.rows]);
        final Forward together = Forward.of(x.logits, targets, Temperature.ONE);
        final Floats alone = Floats.allocate(x.rows);
        LogProbs.forward(x.logits, targets, Temperature.ONE, alone, null, null);
        assertArrayEquals(together.logProbs(), alone.toArray());
        LogProbs.forward(x.logits, null, Temperature.ONE, null, alone, null);
        assertArrayEquals(together.lse(), alone.toArray());
        LogProbs.forward(x.logits, null, Temperature.ONE, null, null, alone);
        assertArrayEquals(together.entropy(), alone.toArray());
    }

    @Test
    void targetsMayBeInt32OrInt64() {
        final Matrix x = TestData.matrix(DType.F32, TestData.shapes(70001, 4));
        final int[] ints = new int[x.rows];
        final long[] longs = new long[x.rows];
        for (int r = 0; r < x.rows; r++) {
            longs[r] = ints[r] = r == 2 ? Indices.IGNORE : r * 5000;
        }
        final float[] fromInts = Forward.of(x.logits, Indices.ofInts(ints), Temperature.ONE).logProbs();
        assertArrayEquals(Forward.of(x.logits, Indices.ofLongs(longs), Temperature.ONE).logProbs(), fromInts);
        assertEquals(x.softmax(14, 1).logP[70000], fromInts[14], 1e-3);
    }

    @Test
    void aMaskedTargetHasLogProbMinusInfinity() {
        final Matrix x = TestData.matrix(DType.F32, new double[] {1, TestData.MASKED, 1}, new double[] {0, 0, TestData.MASKED});
        final Forward given = Forward.of(x.logits, Indices.ofInts(1, 1), Temperature.ONE);
        assertEquals(Float.NEGATIVE_INFINITY, given.logProbs()[0]);
        assertEquals(-Math.log(2), given.logProbs()[1], 1e-7);
        assertEquals(Math.log(2), given.entropy()[0], 1e-7);
    }

    @Test
    void noRowsAreNoWork() {
        final Matrix x = TestData.matrix(DType.F32, 1, 5);
        final Floats none = Floats.allocate(0);
        LogProbs.forward(x.logits.rows(0, 0), Indices.ofInts(), Temperature.ONE, none, none.slice(0, 0), null);
    }

    // ---- backward ----

    /** A forward call, then gradients g and h of its log-probs and entropies. */
    private record Case(Matrix x, int[] targets, float[] temperatures, float[] g, float[] h) {
        static Case of(Matrix x, float temperature) {
            final int[] targets = new int[x.rows];
            final float[] g = new float[x.rows];
            final float[] h = new float[x.rows];
            for (int r = 0; r < x.rows; r++) {
                targets[r] = r % 3 == 0 ? TestData.largest(x.row(r)) : r % 3 == 1 ? x.vocab - 1 : x.vocab / 3;
                if (x.get(r, targets[r]) == TestData.MASKED) {
                    targets[r] = TestData.largest(x.row(r));
                }
                g[r] = r % 2 == 0 ? 1 : -0.37f;
                h[r] = r % 4 == 3 ? 0 : 0.11f * (r - 5);
            }
            return new Case(x, targets, TestData.constant(x.rows, temperature), g, h);
        }

        Matrix backward(Matrix d) {
            final Indices ids = Indices.ofInts(targets);
            final Temperature temperature = Temperature.perRow(Floats.ofFloats(temperatures));
            final Forward forward = Forward.of(x.logits, ids, temperature);
            LogProbs.backward(x.logits, ids, temperature, Floats.ofFloats(forward.logProbs()), Floats.ofFloats(forward.lse()),
                    Floats.ofFloats(forward.entropy()), Floats.ofFloats(g), Floats.ofFloats(h), d.logits);
            return d;
        }
    }

    @ParameterizedTest(name = "{0}, vocabulary of {1}")
    @MethodSource("dtypesAndVocabs")
    void backwardAgreesWithDoubles(DType dtype, int vocab) {
        final Matrix x = TestData.matrix(dtype, TestData.shapes(vocab, 5));
        for (float t : vocab < 10_000 ? TEMPERATURES : new float[] {1}) {
            final Case c = Case.of(x, t);
            checkBackward(c, c.backward(x.like()), dtype + ", V = " + vocab + ", T = " + t);
        }
    }

    /**
     * Each element against its closed form. The limit is relative to the terms the element is made of: g p and h p (|log p| + H),
     * and g (1 - p) at the target, so that neither the many small elements hide behind the few large ones nor 1 - p behind p. The
     * relative part is 2e-6, and an f32's two half ulps for each of the exponents that p_v is the exp of: |log p_v|, and the saved
     * log-prob or lse, whichever is smaller; |log (1 - p)| at the target. A p below 2^-126 may be 0. f16 and bf16 may be off by
     * one of their own steps.
     */
    private static void checkBackward(Case c, Matrix d, String what) {
        final Worst others = new Worst("gradient, " + what);
        final Worst targets = new Worst("gradient at targets, " + what);
        for (int r = 0; r < d.rows; r++) {
            final double t = c.temperatures[r];
            final double g = c.g[r];
            final double h = c.h[r];
            final Reference.Softmax s = c.x.softmax(r, t);
            final double[] expected = Reference.gradient(s, c.targets[r], g, h);
            final double saved = Math.min(Math.abs(s.lse), Math.abs(s.logP[c.targets[r]]));
            for (int v = 0; v < d.vocab; v++) {
                final boolean target = v == c.targets[r];
                final double p = s.p(v);
                final double size = p == 0 ? 0 : (Math.abs(g) * (target ? -Math.expm1(s.logP[v]) : p)
                        + Math.abs(h) * p * (Math.abs(s.logP[v]) + s.entropy)) / t;
                final double exponents = size == 0 ? 0 : target ? Math.abs(Math.log(-Math.expm1(s.logP[v])))
                        : Math.abs(s.logP[v]) + saved;
                final double limit = size * (2e-6 + 1.2e-7 * exponents) + 200 * Float.MIN_NORMAL / t;
                final double rounding = d.dtype == DType.F32 ? 0 : Reference.ulp(d.dtype, expected[v]);
                (target ? targets : others).see(d.get(r, v), Reference.round(d.dtype, expected[v]), limit + rounding, r, v);
            }
        }
        if (d.vocab > 1) {
            others.check();
        }
        targets.check();
    }

    @ParameterizedTest
    @EnumSource(DType.class)
    void backwardInPlaceGivesTheSameBits(DType dtype) {
        for (int vocab : new int[] {1, 7, 64, 5003}) {
            final Case apart = Case.of(TestData.matrix(dtype, TestData.shapes(vocab, 6)), 0.8f);
            final Matrix expected = apart.backward(apart.x.like());
            final Matrix given = apart.backward(apart.x);
            for (int r = 0; r < given.rows; r++) {
                assertArrayEquals(expected.rowBits(r), given.rowBits(r));
            }
        }
    }

    @Test
    void backwardIsTheSlopeOfTheForward() {
        final double[] x = {0.5, -1.25, 3, 0, 2.5, -4, 1};
        final Case c = new Case(TestData.matrix(DType.F32, x), new int[] {4}, new float[] {0.75f}, new float[] {0.7f},
                new float[] {-0.4f});
        final Matrix d = c.backward(c.x.like());
        final double step = 1e-5;
        for (int v = 0; v < x.length; v++) {
            final double slope = (loss(TestData.with(x, v, x[v] + step)) - loss(TestData.with(x, v, x[v] - step))) / (2 * step);
            assertEquals(slope, d.get(0, v), 1e-7);
        }
    }

    private static double loss(double[] x) {
        final Reference.Softmax s = new Reference.Softmax(x, 0.75f);
        return 0.7f * s.logP[4] - 0.4f * s.entropy;
    }

    @Test
    void gradientRowsSumToZero() {
        final Case c = Case.of(TestData.matrix(DType.F32, TestData.shapes(50257, 7)), 1);
        final Matrix d = c.backward(c.x.like());
        for (int r = 0; r < d.rows; r++) {
            assertEquals(0, Arrays.stream(d.row(r)).sum(), 3e-6 * (Math.abs(c.g[r]) + 12 * Math.abs(c.h[r])), "row " + r);
        }
    }

    @Test
    void ignoredRowsAndRowsWithoutUpstreamAreZeroAndNotRead() {
        final Matrix x = TestData.matrix(DType.F32, TestData.gaussian(8, 131, 2), TestData.row(131, v -> Double.NaN),
                TestData.gaussian(9, 131, 2), TestData.row(131, v -> Double.NaN));
        final Case c = new Case(x, new int[] {3, Indices.IGNORE, 5, 6}, TestData.constant(4, 1), new float[] {1, 1, -1, 0},
                new float[] {0, 1, 0.5f, 0});
        final Matrix d = c.backward(x.like());
        for (int v = 0; v < 131; v++) {
            assertEquals(0, d.bits(1, v));
            assertEquals(0, d.bits(3, v));
        }
        checkBackward(new Case(TestData.matrix(DType.F32, x.row(0), x.row(2)), new int[] {3, 5}, c.temperatures,
                new float[] {1, -1}, new float[] {0, 0.5f}), TestData.matrix(DType.F32, d.row(0), d.row(2)), "between ignored rows");
    }

    @Test
    void eitherUpstreamMayBeLeftOut() {
        final Matrix x = TestData.matrix(DType.F32, TestData.shapes(777, 10));
        final Indices targets = Indices.ofInts(repeat(7, x.rows));
        final Forward forward = Forward.of(x.logits, targets, Temperature.ONE);
        final Floats logProbs = Floats.ofFloats(forward.logProbs());
        final Floats lse = Floats.ofFloats(forward.lse());
        final Floats entropy = Floats.ofFloats(forward.entropy());
        final Floats zeros = Floats.allocate(x.rows);
        final Floats ones = Floats.ofFloats(TestData.constant(x.rows, 1));
        final List<Matrix> d = List.of(x.like(), x.like(), x.like(), x.like());
        LogProbs.backward(x.logits, targets, Temperature.ONE, logProbs, lse, entropy, ones, zeros, d.get(0).logits);
        LogProbs.backward(x.logits, targets, Temperature.ONE, logProbs, lse, null, ones, null, d.get(1).logits);
        LogProbs.backward(x.logits, null, Temperature.ONE, null, lse, entropy, null, ones, d.get(2).logits);
        LogProbs.backward(x.logits, targets, Temperature.ONE, logProbs, lse, entropy, zeros, ones, d.get(3).logits);
        final Worst entropyOnly = new Worst("gradient of entropy, without log-probs");
        for (int r = 0; r < x.rows; r++) {
            assertArrayEquals(d.get(0).rowBits(r), d.get(1).rowBits(r));
            for (int v = 0; v < x.vocab; v++) { // lse alone is a coarser anchor than a log-prob, at an offset of 1000 above all
                entropyOnly.see(d.get(2).get(r, v), d.get(3).get(r, v), 4e-6 + 2e-7 * Math.abs(forward.lse()[r]), r, v);
            }
        }
        entropyOnly.check();
    }

    @ParameterizedTest
    @EnumSource(DType.class)
    void columnsThatPadARowAreLeftAlone(DType dtype) {
        for (int vocab : new int[] {1, 7, 64, 100, 2049}) {
            for (int offset = 0; offset < 3; offset++) {
                final double[][] rows = TestData.shapes(vocab, 11);
                final Matrix padded = TestData.filled(new Matrix(dtype, 1, rows.length, vocab, 0, vocab + 3, offset), rows);
                final Matrix d = new Matrix(dtype, 1, rows.length, vocab, 0, vocab + 5, 2 * offset);
                final Case c = Case.of(padded, 1);
                final Matrix expected = Case.of(TestData.matrix(dtype, rows), 1).backward(TestData.matrix(dtype, rows.length, vocab));
                c.backward(d);
                d.assertSentinelsUntouched();
                c.backward(padded);
                padded.assertSentinelsUntouched();
                for (int r = 0; r < rows.length; r++) {
                    assertArrayEquals(expected.rowBits(r), d.rowBits(r));
                    assertArrayEquals(expected.rowBits(r), padded.rowBits(r));
                }
            }
        }
    }

    private static int[] repeat(int value, int times) {
        final int[] values = new int[times];
        Arrays.fill(values, value);
        return values;
    }
}
