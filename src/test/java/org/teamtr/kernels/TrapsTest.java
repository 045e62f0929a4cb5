package org.teamtr.kernels;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.sun.management.ThreadMXBean;
import java.lang.management.ManagementFactory;
import java.util.Arrays;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.teamtr.kernels.Reference.Softmax;
import org.teamtr.kernels.TestData.Forward;
import org.teamtr.kernels.TestData.Matrix;

/**
 * One test for each of the delicate points that other kernels of this kind have stumbled over. Trap 1, offsets beyond 2^31, is in
 * {@link LargeTest}.
 */
class TrapsTest extends TestData.Scoped {
    private static final double MASKED = TestData.MASKED;

    // ---- helpers ----

    private static Matrix backward(Matrix x, int[] targets, double temperature, float g, float h) {
        final Indices ids = Indices.ofInts(targets);
        final Temperature t = Temperature.of((float) temperature);
        final Forward f = Forward.of(x.logits, ids, t);
        final Matrix d = x.like();
        LogProbs.backward(x.logits, ids, t, Floats.ofFloats(f.logProbs()), Floats.ofFloats(f.lse()), Floats.ofFloats(f.entropy()),
                Floats.ofFloats(TestData.constant(x.rows, g)), Floats.ofFloats(TestData.constant(x.rows, h)), d.logits);
        return d;
    }

    private static float[] oldNew(Matrix old, Matrix fresh) {
        final Floats kl = Floats.allocate(old.rows);
        TokenKl.oldNew(old.logits, fresh.logits, kl);
        return kl.toArray();
    }

    /** Forward, both gradients and KL of every row with targets in the middle, against the reference. */
    private static void checkAll(Matrix x, Matrix y) {
        final int[] targets = new int[x.rows];
        for (int r = 0; r < x.rows; r++) {
            targets[r] = TestData.largest(x.row(r));
        }
        final Forward f = Forward.of(x.logits, Indices.ofInts(targets), Temperature.ONE);
        final Matrix d = backward(x, targets, 1, 1, 0.5f);
        final float[] kl = oldNew(x, y);
        final Matrix dKl = y.like();
        TokenKl.oldNewBackward(x.logits, y.logits, null, Temperature.ONE, Floats.ofFloats(TestData.constant(x.rows, 1)), dKl.logits);
        for (int r = 0; r < x.rows; r++) {
            final Softmax s = x.softmax(r, 1);
            final Softmax q = y.softmax(r, 1);
            assertEquals(s.logP[targets[r]], f.logProbs()[r], 1e-6 + 5e-7 * Math.abs(s.logP[targets[r]]));
            assertEquals(s.lse, f.lse()[r], 1e-6 + 5e-7 * Math.abs(s.lse));
            assertEquals(s.entropy, f.entropy()[r], 1e-5);
            final double expected = Reference.kl(s, q);
            assertEquals(expected, kl[r], 1e-12 + 1e-5 * (Double.isInfinite(expected) ? 0 : expected));
            assertRow(Reference.gradient(s, targets[r], 1, 0.5), d, r);
            assertRow(Reference.klGradientOfSecond(s, q, 1), dKl, r);
        }
    }

    private static void assertRow(double[] expected, Matrix d, int row) {
        for (int v = 0; v < expected.length; v++) {
            final double step = d.dtype == DType.F32 ? 0 : Reference.ulp(d.dtype, expected[v]);
            assertEquals(expected[v], d.get(row, v), 1e-6 + step, "row " + row + ", element " + v);
        }
    }

    private static void assertNaN(float... values) {
        for (float value : values) {
            assertTrue(Float.isNaN(value), () -> "expected NaN, given " + value);
        }
    }

    // ---- the traps ----

    /** Guards against a grid dimension of 65,535, or any 16-bit count: more rows, and more messages, than that. */
    @Test
    @Tag("slow")
    void trap02_moreThan65535RowsAndMessages() {
        final int rows = 70_001;
        final Matrix x = TestData.matrix(DType.F32, rows, 3);
        final int[] targets = new int[rows];
        final int[] bounds = new int[rows + 1];
        for (int r = 0; r < rows; r++) {
            x.set(r, 0, r % 17);
            x.set(r, 1, -(r % 13));
            x.set(r, 2, r % 11);
            targets[r] = r % 3;
            bounds[r + 1] = r + 1;
        }
        final Forward f = Forward.of(x.logits, Indices.ofInts(targets), Temperature.ONE);
        final Matrix d = backward(x, targets, 1, 1, 0);
        final Floats perMessage = Floats.allocate(rows);
        SampledKl.compute(SampledKl.Estimator.K1, Floats.ofFloats(f.logProbs()), Floats.ofFloats(f.lse()),
                Indices.ofInts(bounds), null, perMessage);
        final float[] sums = perMessage.toArray();
        for (int r = 0; r < rows; r++) {
            final Softmax s = x.softmax(r, 1);
            assertEquals(s.logP[targets[r]], f.logProbs()[r], 1e-6 + 5e-7 * Math.abs(s.logP[targets[r]]));
            assertEquals(-Math.expm1(s.logP[targets[r]]), d.get(r, targets[r]), 1e-6);
            assertEquals((float) ((double) f.logProbs()[r] - f.lse()[r]), sums[r]);
        }
    }

    /** Guards against exp(-inf - -inf) = NaN where a row starts with masked tokens: a vector, a block, two blocks of them. */
    @ParameterizedTest
    @EnumSource(DType.class)
    void trap03_aRowMayStartWithBlocksOfMaskedTokens(DType dtype) {
        final double[] x = TestData.gaussian(1, 6001, 2);
        final double[] y = TestData.gaussian(2, 6001, 2);
        final int[] starts = {1, 16, 64, 2048, 4096, 6000};
        final double[][] p = new double[starts.length][];
        final double[][] q = new double[starts.length][];
        for (int r = 0; r < starts.length; r++) {
            final int start = starts[r];
            p[r] = TestData.row(6001, v -> v < start ? MASKED : x[v]);
            q[r] = TestData.row(6001, v -> v < start ? MASKED : y[v]);
        }
        checkAll(TestData.matrix(dtype, p), TestData.matrix(dtype, q));
    }

    /** Guards against a maximum that starts at 0, or padding loaded as 0: rows far below 0, of lengths that fill no vector. */
    @ParameterizedTest
    @ValueSource(ints = {1, 7, 65, 2049})
    void trap04_rowsOfNegativeLogitsOnly(int vocab) {
        final double[] x = TestData.gaussian(3, vocab, 2);
        final double[] y = TestData.gaussian(4, vocab, 2);
        for (double below : new double[] {-50, -1000, -30000}) {
            checkAll(TestData.matrix(DType.F32, TestData.plus(x, below)), TestData.matrix(DType.F32, TestData.plus(y, below)));
        }
    }

    /** Guards against padded columns that count: between the rows lie sentinels of 1e36, and they are still there afterwards. */
    @ParameterizedTest
    @EnumSource(DType.class)
    void trap05_paddedColumnsDoNotCount(DType dtype) {
        for (int vocab : new int[] {5, 64, 1000}) {
            final double[][] x = {TestData.gaussian(5, vocab, 2), TestData.gaussian(6, vocab, 2), TestData.gaussian(7, vocab, 2)};
            final double[][] y = {x[1], x[2], x[0]};
            final Matrix a = TestData.filled(new Matrix(dtype, 1, 3, vocab, 0, vocab + 128 - vocab % 128, 0), x);
            final Matrix b = TestData.filled(new Matrix(dtype, 1, 3, vocab, 0, vocab + 1, 0), y);
            checkAll(a, b);
            a.assertSentinelsUntouched();
            b.assertSentinelsUntouched();
        }
    }

    /** Guards against 0 * -inf in entropy, KL and their gradients: masked tokens everywhere, in one policy or both. */
    @ParameterizedTest
    @EnumSource(DType.class)
    void trap06_maskedTokensAddNothing(DType dtype) {
        final double[] x = TestData.gaussian(8, 3000, 2);
        final double[] y = TestData.gaussian(9, 3000, 2);
        final double[] masked = TestData.row(3000, v -> v % 2 == 0 ? MASKED : x[v]);
        final double[] one = TestData.row(3000, v -> v == 1234 ? 3 : MASKED);
        final Matrix p = TestData.matrix(dtype, masked, masked, one, one);
        final Matrix q = TestData.matrix(dtype, TestData.row(3000, v -> v % 2 == 0 ? MASKED : y[v]), y, one, y);
        checkAll(p, q);
        final Forward f = Forward.of(p.logits, Indices.ofInts(0, 1, 1234, 0), Temperature.ONE);
        assertEquals(Float.NEGATIVE_INFINITY, f.logProbs()[0]);
        assertEquals(0, f.entropy()[2]);
        assertEquals(0, f.logProbs()[2]);
        final Matrix d = backward(p, new int[] {0, 1, 1234, 1234}, 1, 1, 1);
        for (int r = 0; r < 4; r++) {
            for (int v = 0; v < 3000; v++) {
                if (p.get(r, v) == MASKED && v != 0) {
                    assertTrue(d.get(r, v) == 0);
                }
            }
        }
    }

    /** Guards against p - 1 formed after p was rounded: with p = 1 - 1e-5 a bf16 p is 1, and the target would get no gradient. */
    @ParameterizedTest
    @EnumSource(DType.class)
    void trap07_oneMinusPAtTheTargetIsNotRoundedAway(DType dtype) {
        for (double gap : new double[] {4, 8, 12, 20}) {
            final Matrix x = TestData.matrix(dtype, TestData.with(new double[100], 31, gap + Math.log(99)));
            final Softmax s = x.softmax(0, 1);
            final double expected = Reference.gradient(s, 31, 1, 0)[31];
            assertTrue(expected > 0 && expected < 0.02);
            final double given = backward(x, new int[] {31}, 1, 1, 0).get(0, 31);
            assertEquals(expected, given, dtype == DType.F32 ? 2e-6 * expected : Reference.ulp(dtype, expected));
        }
    }

    /** Guards against -log(exp(x - max)) where exp underflows: the log-prob of a token 5,000 below the maximum is -5000. */
    @Test
    void trap08_logProbsOfTokensWhoseProbabilityUnderflows() {
        final Matrix x = TestData.matrix(DType.F32, new double[] {0, -200, -5000}, new double[] {1e30, -1e30, 0});
        assertEquals(-200, Forward.of(x.logits, Indices.ofInts(1, 1), Temperature.ONE).logProbs()[0]);
        final float[] far = Forward.of(x.logits, Indices.ofInts(2, 1), Temperature.ONE).logProbs();
        assertEquals(-5000, far[0]);
        assertEquals(-2e30f, far[1], 1e24f);
    }

    /** Guards against -100 used as an index: ignored rows first and last, next to memory that is not theirs. */
    @ParameterizedTest
    @EnumSource(DType.class)
    void trap09_ignoredTargetsAreNotIndices(DType dtype) {
        final double[] x = TestData.gaussian(10, 40, 1);
        final Matrix m = TestData.matrix(dtype, TestData.row(40, v -> Double.NaN), x, TestData.row(40, v -> Double.NaN));
        for (Indices targets : new Indices[] {Indices.ofInts(-100, 3, -100), Indices.ofLongs(-100, 3, -100)}) {
            final Forward f = Forward.of(m.logits, targets, Temperature.ONE);
            for (float[] output : new float[][] {f.logProbs(), f.lse(), f.entropy()}) {
                assertEquals(0, output[0]);
                assertEquals(0, output[2]);
            }
            assertEquals(m.softmax(1, 1).logP[3], f.logProbs()[1], 1e-6);
        }
        final Matrix d = backward(m, new int[] {-100, 3, -100}, 1, 1, 1);
        assertArrayEquals(new int[40], d.rowBits(0));
        assertArrayEquals(new int[40], d.rowBits(2));
        d.assertSentinelsUntouched();
    }

    /** Guards against rows taken to be contiguous: logits[:, :-1] of [B, L + 1, V], padded columns, and a gradient laid out otherwise. */
    @ParameterizedTest
    @EnumSource(DType.class)
    void trap10_viewsOfABatchAndPaddedRows(DType dtype) {
        final int vocab = 101;
        final double[][] rows = new double[6][];
        Arrays.setAll(rows, r -> TestData.gaussian(11 + r, vocab, 2));
        final Matrix x = TestData.filled(new Matrix(dtype, 3, 2, vocab, 3 * (vocab + 4), vocab + 4, 0), rows);
        final Matrix y = TestData.filled(new Matrix(dtype, 2, 3, vocab, 4 * vocab, vocab, 1), TestData.plus(rows[0], 0.5),
                rows[0], rows[1], rows[2], rows[3], rows[4]);
        checkAll(x, y);
        x.assertSentinelsUntouched();
        y.assertSentinelsUntouched();
    }

    /** Guards against T in the normaliser but not at the target, or a gradient without its 1/T: all against slopes of the forward. */
    @Test
    void trap11_temperatureInEveryPlace() {
        final double[] row = {0.5, -1, 2, 0.25, 1.5};
        final Matrix x = TestData.matrix(DType.F32, row, row, row);
        final float[] temperatures = {0.25f, 1, 3};
        final Indices targets = Indices.ofInts(4, 4, 4);
        final Forward perRow = Forward.of(x.logits, targets, Temperature.perRow(Floats.ofFloats(temperatures)));
        for (int r = 0; r < 3; r++) {
            final float t = temperatures[r];
            final Forward scalar = Forward.of(x.logits, targets, Temperature.of(t));
            assertEquals(scalar.logProbs()[r], perRow.logProbs()[r]);
            assertEquals(scalar.lse()[r], perRow.lse()[r]);
            assertEquals(scalar.entropy()[r], perRow.entropy()[r]);
            assertEquals(new Softmax(row, t).logP[4], scalar.logProbs()[r], 1e-6);
            assertEquals(new Softmax(row, t).lse, scalar.lse()[r], 1e-6);
            final Matrix d = backward(x, new int[] {4, 4, 4}, t, 1, 0);
            final Matrix dEntropy = backward(x, new int[] {4, 4, 4}, t, 0, 1);
            for (int v = 0; v < row.length; v++) {
                final Softmax up = new Softmax(TestData.with(row, v, row[v] + 1e-5), t);
                final Softmax down = new Softmax(TestData.with(row, v, row[v] - 1e-5), t);
                assertEquals((up.logP[4] - down.logP[4]) / 2e-5, d.get(r, v), 2e-6);
                assertEquals((up.entropy - down.entropy) / 2e-5, dEntropy.get(r, v), 2e-6);
            }
        }
    }

    /** Guards against a swapped direction: KL((3/4, 1/4) || (1/2, 1/2)) by hand is 0.1308, the other way round 0.1438. */
    @Test
    void trap12_theDirectionIsTheOneInTheName() {
        final Matrix old = TestData.matrix(DType.F32, new double[] {Math.log(3), 0});
        final Matrix fresh = TestData.matrix(DType.F32, new double[] {0, 0});
        final Floats kl = Floats.allocate(1);
        TokenKl.oldNew(old.logits, fresh.logits, kl);
        assertEquals(0.13081204, kl.get(0), 1e-7);
        TokenKl.newOld(old.logits, fresh.logits, kl);
        assertEquals(0.14384104, kl.get(0), 1e-7);
    }

    /** Guards against a small KL that drowns in its own terms: at 1e-6 and at 1e-8 it is still right, and not negative. */
    @Test
    void trap13_smallKlsAreNeitherNoiseNorNegative() {
        for (int vocab : new int[] {1000, 151936}) {
            for (double size : new double[] {1.5e-3, 1.5e-4}) {
                final double[] x = TestData.gaussian(12, vocab, 3);
                final double[] noise = TestData.gaussian(13, vocab, size);
                final Matrix p = TestData.matrix(DType.F32, x);
                final Matrix q = TestData.matrix(DType.F32, TestData.row(vocab, v -> x[v] + noise[v]));
                final double expected = Reference.kl(p.softmax(0, 1), q.softmax(0, 1));
                assertTrue(expected > 1e-9 && expected < 3e-6);
                assertEquals(expected, oldNew(p, q)[0], 1e-4 * expected);
                assertEquals(expected, oldNew(q, p)[0], 1e-2 * expected); // the other direction is the same to first order
                assertTrue(oldNew(q, p)[0] >= 0);
            }
        }
    }

    /** Guards against sums kept in the logits' own format: 262,145 equal bf16 logits have an lse of log 262145, not of 256. */
    @ParameterizedTest
    @EnumSource(DType.class)
    void trap14_sumsAreNotKeptInTheDtypeOfTheLogits(DType dtype) {
        final int vocab = 262_145;
        final Matrix x = TestData.matrix(dtype, new double[vocab]);
        final Forward f = Forward.of(x.logits, Indices.ofInts(7), Temperature.ONE);
        assertEquals(Math.log(vocab), f.lse()[0], 1e-6);
        assertEquals(-Math.log(vocab), f.logProbs()[0], 1e-6);
        assertEquals(Math.log(vocab), f.entropy()[0], 1e-5);
    }

    /**
     * Guards against hidden work in the hot path. On a GPU that is a wait for the device; here there is no device and no queue: when a
     * call returns its results are in memory. What is left to guard is garbage: calls allocate nothing on the Java heap.
     */
    @Test
    void trap15_callsReturnFinishedAndAllocateNothing() {
        final Matrix x = TestData.matrix(DType.F32, TestData.gaussian(14, 10, 1));
        final Matrix d = x.like();
        final Indices targets = Indices.ofInts(3);
        final Floats a = Floats.allocate(1);
        final Floats b = Floats.allocate(1);
        final Floats c = Floats.allocate(1);
        final Runnable calls = () -> {
            LogProbs.forward(x.logits, targets, Temperature.ONE, a, b, c);
            LogProbs.backward(x.logits, targets, Temperature.ONE, a, b, c, b, c, d.logits);
            TokenKl.oldNew(x.logits, x.logits, targets, Temperature.ONE, a, b, c, null, null);
            TokenKl.oldNewBackward(x.logits, x.logits, targets, Temperature.ONE, b, d.logits);
        };
        final ThreadMXBean threads = (ThreadMXBean) ManagementFactory.getThreadMXBean();
        final long self = Thread.currentThread().getId();
        for (int i = 0; i < 1000; i++) {
            calls.run();
        }
        final long before = threads.getThreadAllocatedBytes(self);
        for (int i = 0; i < 1000; i++) {
            calls.run();
        }
        final long allocated = threads.getThreadAllocatedBytes(self) - before;
        assertTrue(allocated < 4000, () -> allocated + " bytes by 4,000 calls"); // less than a byte a call: the counter's own
    }

    /** Guards against a bad row that spoils others: NaN, +inf and a fully masked row give NaN, their neighbours what they gave alone. */
    @ParameterizedTest
    @EnumSource(DType.class)
    void trap16_badRowsAreNaNAndStayAlone(DType dtype) {
        for (int vocab : new int[] {5, 4500}) {
            final double[] x = TestData.gaussian(15, vocab, 2);
            final int last = vocab - 1;
            final double[][] bad = {TestData.with(x, 0, Double.NaN), TestData.with(x, last, Double.NaN),
                TestData.with(x, 2, Double.POSITIVE_INFINITY), TestData.with(x, last, Double.POSITIVE_INFINITY),
                TestData.with(TestData.with(x, 0, Double.NEGATIVE_INFINITY), 3, Double.NaN), TestData.row(vocab, v -> MASKED),
                TestData.with(TestData.row(vocab, v -> MASKED), last, Double.NaN),
                TestData.with(TestData.with(x, 0, Double.POSITIVE_INFINITY), last, Double.NaN)};
            final double[][] rows = new double[2 * bad.length][];
            final double[][] good = new double[2 * bad.length][];
            for (int r = 0; r < rows.length; r++) {
                rows[r] = r % 2 == 0 ? x : bad[r / 2];
                good[r] = TestData.plus(x, r % 2 == 0 ? 0 : 1);
            }
            final Matrix m = TestData.matrix(dtype, rows);
            final Matrix other = TestData.matrix(dtype, good);
            final int[] targets = new int[rows.length];
            Arrays.fill(targets, 1);
            final Forward f = Forward.of(m.logits, Indices.ofInts(targets), Temperature.ONE);
            final Forward clean = Forward.of(other.logits, Indices.ofInts(targets), Temperature.ONE);
            final Matrix d = backward(m, targets, 1, 1, 1);
            final Matrix cleanD = backward(other, targets, 1, 1, 1);
            final float[] kl = oldNew(m, other);
            final float[] reverse = oldNew(other, m);
            final Matrix dKl = other.like();
            TokenKl.oldNewBackward(m.logits, other.logits, null, Temperature.ONE,
                    Floats.ofFloats(TestData.constant(m.rows, 1)), dKl.logits);
            for (int r = 0; r < rows.length; r++) {
                if (r % 2 == 0) {
                    assertEquals(clean.logProbs()[r], f.logProbs()[r]);
                    assertEquals(clean.entropy()[r], f.entropy()[r]);
                    assertArrayEquals(cleanD.rowBits(r), d.rowBits(r));
                    assertEquals(0, kl[r]);
                    assertEquals(0, reverse[r]);
                    assertTrue(Arrays.stream(dKl.row(r)).allMatch(v -> Math.abs(v) < 1e-9));
                } else {
                    assertNaN(f.logProbs()[r], f.lse()[r], f.entropy()[r], kl[r], reverse[r]);
                    assertTrue(Arrays.stream(d.row(r)).allMatch(Double::isNaN), "gradient of bad row " + r / 2);
                    assertTrue(Arrays.stream(dKl.row(r)).allMatch(Double::isNaN), "KL gradient of bad row " + r / 2);
                }
            }
        }
    }

    /** Guards against results that change with the batch: chunks of 1 and of 8 rows, see {@link BitsTest} for all kernels. */
    @Test
    void trap17_aRowHasTheSameBitsInAnyBatch() {
        final Matrix x = TestData.matrix(DType.BF16, 64, 5000);
        for (int r = 0; r < 64; r++) {
            x.setRow(r, TestData.gaussian(16 + r, 5000, 2));
        }
        final int[] targets = new int[64];
        Arrays.setAll(targets, r -> 70 * r);
        final float[] whole = Forward.of(x.logits, Indices.ofInts(targets), Temperature.ONE).logProbs();
        for (int chunk : new int[] {1, 8}) {
            for (int r = 0; r < 64; r += chunk) {
                assertArrayEquals(Arrays.copyOfRange(whole, r, r + chunk), Forward.of(x.logits.rows(r, r + chunk),
                        Indices.ofInts(targets).slice(r, r + chunk), Temperature.ONE).logProbs());
            }
        }
    }

    /** Guards against lengths that fill no vector and bases that start none: every vocabulary from 1 to 200, at every offset. */
    @ParameterizedTest
    @EnumSource(DType.class)
    void trap18_oddVocabulariesAndUnalignedRows(DType dtype) {
        for (int vocab = 1; vocab <= 200; vocab++) {
            final double[] x = TestData.gaussian(vocab, vocab, 2);
            final double[] y = TestData.gaussian(-vocab, vocab, 2);
            final Matrix p = TestData.filled(new Matrix(dtype, 1, 2, vocab, 0, vocab, vocab % 37), x, y);
            final Matrix q = TestData.filled(new Matrix(dtype, 1, 2, vocab, 0, vocab, vocab % 11), y, x);
            checkAll(p, q);
        }
    }

    /** Guards against targets out of range: an error that names the row, before anything was written. Not even 2^32 + 3 is taken for 3. */
    @ParameterizedTest
    @ValueSource(longs = {-1, -99, -101, 10, 1L << 31, (1L << 32) + 3, Long.MIN_VALUE, Long.MAX_VALUE, (1L << 32) - 100})
    @CpuOnly("a device cannot see contents before the call, see DeviceContractTest")
    void trap19_targetsOutOfRangeAreErrors(long bad) {
        final double[] row = TestData.gaussian(17, 10, 1);
        final Matrix x = TestData.matrix(DType.F32, row, row, row);
        final Matrix d = x.like();
        final Floats out = Floats.ofFloats(5, 5, 5);
        final Floats in = Floats.ofFloats(1, 1, 1);
        final Floats parts = Floats.ofFloats(TestData.constant(12, 5));
        final Indices longs = Indices.ofLongs(3, bad, -100);
        expectError(bad, () -> LogProbs.forward(x.logits, longs, Temperature.ONE, out, null, null));
        expectError(bad, () -> LogProbs.backward(x.logits, longs, Temperature.ONE, in, in, in, in, in, d.logits));
        expectError(bad, () -> TokenKl.oldNew(x.logits, x.logits, longs, Temperature.ONE, out, null, null, null, null));
        expectError(bad, () -> TokenKl.newOld(x.logits, x.logits, longs, Temperature.ONE, out, null, null, null, null));
        expectError(bad, () -> TokenKl.oldNewBackward(x.logits, x.logits, longs, Temperature.ONE, in, d.logits));
        expectError(bad, () -> VocabParallel.parts(x.logits, longs, 0, 10, Temperature.ONE, parts));
        expectError(bad, () -> VocabParallel.backward(x.logits, longs, 0, 10, Temperature.ONE, in, in, in, in, in, d.logits));
        if (bad == (int) bad) {
            expectError(bad, () -> LogProbs.forward(x.logits, Indices.ofInts(3, (int) bad, -100), Temperature.ONE, out, null, null));
        }
        assertArrayEquals(TestData.constant(3, 5), out.toArray());
        assertArrayEquals(TestData.constant(12, 5), parts.toArray());
        for (int r = 0; r < 3; r++) {
            assertArrayEquals(x.like().rowBits(r), d.rowBits(r));
        }
    }

    private static void expectError(long bad, Executable call) {
        final String words = assertThrows(IllegalArgumentException.class, call).getMessage();
        assertTrue(words.contains("targets[1]") && words.contains(Long.toString(bad)), words);
    }
}
