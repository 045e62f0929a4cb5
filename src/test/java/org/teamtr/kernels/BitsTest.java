package org.teamtr.kernels;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.function.IntFunction;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.parallel.Isolated;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.teamtr.kernels.TestData.Matrix;
import org.teamtr.kernels.internal.Natives;

/**
 * A row's bits are the row's alone. Every kernel over logits runs on the same rows in different company, places, layouts, thread
 * counts and CPU levels, and every number it writes is compared as an int.
 */
@Isolated("forces CPU levels and thread counts, which belong to the process")
class BitsTest extends TestData.Scoped {
    private static final SurrogateConfig CONFIG = SurrogateConfig.PAPER.withRatio(SurrogateConfig.Ratio.TOKEN)
            .withKl(SurrogateConfig.KlTerm.EXACT, 0.1).withEntropyCoef(0.01).withTotals(1000, 1000);
    private static final SamplingConfig SOME_TOKENS = SamplingConfig.ALL.withTopK(50).withTopP(0.9f).withMinP(0.01f);

    @AfterEach
    void restore() {
        Natives.forceLevel(Backend.current().level());
        Natives.forceThreads(Backend.current().threads());
    }

    // ---- rows and what the kernels say of them ----

    /** Old and new logits; the other arguments of a row follow from its number, which it keeps wherever it goes. */
    private record Rows(Matrix old, Matrix fresh, int[] numbers) {
        static Rows of(DType dtype, int vocab) {
            final double[][] x = TestData.shapes(vocab, 1);
            final double[][] y = TestData.shapes(vocab, 2);
            final double[] noise = TestData.gaussian(3, vocab, 0.01);
            for (int r = 0; r < x.length; r++) { // near pairs and others, which the KL goes about differently
                final double[] near = x[r];
                y[r] = r % 3 == 0 ? TestData.row(vocab, v -> near[v] + noise[v]) : y[r];
            }
            final int[] numbers = new int[x.length];
            Arrays.setAll(numbers, r -> r);
            return new Rows(TestData.matrix(dtype, x), TestData.matrix(dtype, y), numbers);
        }

        /** {@return these of the rows, in this order, in memory of another layout} */
        Rows in(int[] order, IntFunction<Matrix> memory) {
            final Matrix a = memory.apply(order.length);
            final Matrix b = memory.apply(order.length);
            final int[] names = new int[order.length];
            for (int r = 0; r < order.length; r++) {
                a.setRow(r, old.row(order[r]));
                b.setRow(r, fresh.row(order[r]));
                names[r] = numbers[order[r]];
            }
            return new Rows(a, b, names);
        }

        private float[] floats(float factor, float constant) {
            final float[] values = new float[numbers.length];
            for (int r = 0; r < values.length; r++) {
                values[r] = factor * numbers[r] + constant;
            }
            return values;
        }

        private int[] targets() {
            return Arrays.stream(numbers).map(n -> n % 5 == 4 ? fresh.vocab - 1 : n * fresh.vocab / 20).toArray();
        }

        private long[] ids() {
            return Arrays.stream(numbers).asLongStream().toArray();
        }
    }

    /** Collects the bits of each row. */
    private static final class Bits {
        private final List<int[]>[] ofRow;

        @SuppressWarnings({"unchecked", "rawtypes"})
        Bits(int rows) {
            ofRow = new List[rows];
            Arrays.setAll(ofRow, r -> new ArrayList<>());
        }

        void add(Floats... outputs) {
            for (Floats output : outputs) {
                final float[] values = output.toArray();
                final int width = values.length / ofRow.length;
                for (int r = 0; r < ofRow.length; r++) {
                    final int[] bits = new int[width];
                    for (int i = 0; i < width; i++) {
                        bits[i] = Float.floatToIntBits(values[r * width + i]);
                    }
                    ofRow[r].add(bits);
                }
            }
        }

        void add(Matrix gradient) {
            for (int r = 0; r < ofRow.length; r++) {
                ofRow[r].add(gradient.rowBits(r));
            }
        }

        void assertRow(int row, Bits other, int otherRow) {
            for (int i = 0; i < ofRow[row].size(); i++) {
                assertArrayEquals(ofRow[row].get(i), other.ofRow[otherRow].get(i), "output " + i + " of row " + row);
            }
        }

        void assertSame(Bits other) {
            for (int r = 0; r < ofRow.length; r++) {
                assertRow(r, other, r);
            }
        }
    }

    /** Every kernel over logits, forward and backward. */
    private static Bits run(Rows rows) {
        final int n = rows.numbers.length;
        final Logits x = rows.old.logits;
        final Logits y = rows.fresh.logits;
        final Indices targets = Indices.ofInts(rows.targets());
        final Temperature temperature = Temperature.perRow(Floats.ofFloats(rows.floats(0.07f, 0.5f)));
        final Floats g = Floats.ofFloats(rows.floats(-0.3f, 1.25f));
        final Floats h = Floats.ofFloats(rows.floats(0.1f, -0.7f));
        final Floats[] out = new Floats[6];
        Arrays.setAll(out, i -> Floats.allocate(n));
        final Matrix d = rows.fresh.like();
        final Bits bits = new Bits(n);

        LogProbs.forward(y, targets, temperature, out[0], out[1], out[2]);
        bits.add(out[0], out[1], out[2]);
        LogProbs.backward(y, targets, temperature, out[0], out[1], out[2], g, h, d.logits);
        bits.add(d);
        LogProbs.backward(y, targets, temperature, out[0], out[1], null, g, null, d.logits);
        bits.add(d);
        LogProbs.forward(x, targets, temperature, out[5], null, null);

        TokenKl.oldNew(x, y, targets, temperature, out[0], out[1], out[2], out[3], out[4]);
        bits.add(out[0], out[1], out[2], out[3], out[4]);
        TokenKl.oldNew(x, y, targets, temperature, out[0], out[1], out[2], null, null);
        bits.add(out[0], out[1], out[2]);
        TokenKl.newOld(x, y, null, temperature, out[0], null, null, null, null);
        bits.add(out[0]);
        TokenKl.oldNewBackward(x, y, null, temperature, g, d.logits);
        bits.add(d);
        TokenKl.newOldBackward(x, y, null, temperature, g, d.logits);
        bits.add(d);

        final Floats parts = Floats.allocate(4L * n);
        VocabParallel.parts(y, targets, 0, y.vocab(), temperature, parts);
        bits.add(parts);
        VocabParallel.merge(parts, 1, targets, temperature, out[0], out[1], out[2]);
        bits.add(out[0], out[1], out[2]);

        final int[] bounds = new int[n + 1];
        Arrays.setAll(bounds, i -> i);
        try (PolicyLoss loss = new PolicyLoss(n, true)) {
            loss.forwardBackward(CONFIG, y, x, targets, temperature, out[5], g, Indices.ofInts(bounds), null, null, d.logits);
            bits.add(loss.logProbs(), loss.lse(), loss.entropy(), loss.kl());
            bits.add(d);
        }

        final Indices tokens = Indices.allocateInts(n);
        for (SamplingConfig config : new SamplingConfig[] {SamplingConfig.ALL, SOME_TOKENS}) {
            Sampling.sample(y, temperature, config, 42, 7, Indices.ofLongs(rows.ids()), tokens, out[0], out[1]);
            bits.add(out[0], out[1]);
            final float[] drawn = new float[n];
            for (int r = 0; r < n; r++) {
                drawn[r] = tokens.get(r);
            }
            bits.add(Floats.ofFloats(drawn));
        }
        return bits;
    }

    private static int[] all(Rows rows) {
        return rows.numbers;
    }

    // ---- company, place, layout ----

    @ParameterizedTest
    @EnumSource(DType.class)
    void aRowAloneAndInALargeBatch(DType dtype) {
        final Rows rows = Rows.of(dtype, 2500); // two blocks and a tail
        final int[] order = new int[TestDevice.lockstep() ? 60 : 1000];
        Arrays.setAll(order, r -> (7 * r + 3) % rows.numbers.length);
        final Bits batch = run(rows.in(order, n -> TestData.matrix(dtype, n, 2500)));
        for (int number : all(rows)) {
            final Bits alone = run(rows.in(new int[] {number}, n -> TestData.matrix(dtype, n, 2500)));
            for (int r = 0; r < order.length; r++) {
                if (order[r] == number) {
                    alone.assertRow(0, batch, r);
                }
            }
        }
    }

    @ParameterizedTest
    @EnumSource(DType.class)
    void unalignedAddressesAndPaddedRows(DType dtype) {
        for (int vocab : new int[] {1, 7, 63, 129, 5003}) {
            final Rows rows = Rows.of(dtype, vocab);
            final Bits expected = run(rows);
            for (int offset : new int[] {1, 3, 17}) {
                for (int stride : new int[] {vocab, vocab + 1, vocab + 61}) {
                    expected.assertSame(run(rows.in(all(rows), n -> new Matrix(dtype, 1, n, vocab, 0, stride, offset))));
                }
            }
        }
    }

    /** logits[:, :-1] of a [batch, length + 1, vocab] tensor, and [length, batch, vocab] read as [batch, length, vocab]. */
    @ParameterizedTest
    @EnumSource(DType.class)
    void viewsOfABatch(DType dtype) {
        final int vocab = 2085;
        final Rows rows = Rows.of(dtype, vocab);
        final Bits expected = run(rows);
        expected.assertSame(run(rows.in(all(rows), n -> new Matrix(dtype, n / 5, 5, vocab, 6 * vocab, vocab, 1))));
        expected.assertSame(run(rows.in(all(rows), n -> new Matrix(dtype, n / 5, 5, vocab, vocab + 2, 3 * (vocab + 2), 0))));
    }

    // ---- threads ----

    @ParameterizedTest
    @EnumSource(DType.class)
    void anyNumberOfThreadsAndASecondCall(DType dtype) {
        final Rows few = Rows.of(dtype, 20011); // a row a piece
        final int[] order = new int[TestDevice.lockstep() ? 60 : 600];
        Arrays.setAll(order, r -> r % few.numbers.length);
        final Rows narrow = Rows.of(dtype, 130);
        final Rows many = narrow.in(order, n -> TestData.matrix(dtype, n, 130)); // 126 rows a piece
        for (Rows rows : new Rows[] {few, many}) {
            Natives.forceThreads(1);
            final Bits expected = run(rows);
            expected.assertSame(run(rows));
            for (int threads : TestDevice.CUDA ? new int[0] : new int[] {2, 3}) { // a device takes no part of the pool
                Natives.forceThreads(threads);
                expected.assertSame(run(rows));
                expected.assertSame(run(rows));
            }
        }
    }

    /** One call has the pool, the others find it busy and work alone. */
    @Test
    void manyCallsAtOnce() throws Exception {
        Natives.forceThreads(2);
        final Rows rows = Rows.of(DType.F32, 5003);
        final Bits expected = run(rows);
        final ExecutorService callers = Executors.newFixedThreadPool(4);
        try {
            final Callable<Bits> call = () -> run(rows);
            for (Future<Bits> bits : callers.invokeAll(java.util.Collections.nCopies(TestDevice.lockstep() ? 4 : 24, call))) {
                expected.assertSame(bits.get());
            }
        } finally {
            callers.shutdown();
        }
    }

    // ---- CPU levels ----

    @CpuOnly("a device has no such levels")
    @ParameterizedTest
    @ValueSource(ints = {1, 2, 7, 16, 63, 64, 65, 2048, 2049, 5003, 50257})
    void avx512AndAvx2GiveTheSameBits(int vocab) {
        assumeTrue(has("avx512") && has("avx2"), "this machine has no AVX-512");
        for (DType dtype : DType.values()) {
            final Rows rows = Rows.of(dtype, vocab);
            Natives.forceLevel("avx512");
            final Bits wide = run(rows);
            Natives.forceLevel("avx2");
            wide.assertSame(run(rows));
        }
    }

    /**
     * The portable level multiplies and adds in two roundings where the others have one. It is as accurate: log-probs within 1e-6 +
     * 5e-7 |x|, entropy within 1e-5, KL within 1e-4 of its value, gradients within 1e-5 of the row's largest element, and for bf16
     * and f16 a step of the format.
     */
    @CpuOnly("a device has no such levels")
    @ParameterizedTest
    @EnumSource(DType.class)
    void portableAgreesWithinTheTolerances(DType dtype) {
        for (int vocab : new int[] {1, 7, 65, 5003}) {
            final Rows rows = Rows.of(dtype, vocab);
            final Matrix best = gradient(rows);
            final TestData.Forward expected = TestData.Forward.of(rows.fresh.logits, Indices.ofInts(rows.targets()), Temperature.ONE);
            final float[] kl = kl(rows);
            Natives.forceLevel("portable");
            final Matrix plain = gradient(rows);
            final TestData.Forward given = TestData.Forward.of(rows.fresh.logits, Indices.ofInts(rows.targets()), Temperature.ONE);
            final float[] plainKl = kl(rows);
            for (int r = 0; r < rows.numbers.length; r++) {
                assertEquals(expected.logProbs()[r], given.logProbs()[r], 1e-6f + 5e-7f * Math.abs(expected.logProbs()[r]));
                assertEquals(expected.lse()[r], given.lse()[r], 1e-6f + 5e-7f * Math.abs(expected.lse()[r]));
                assertEquals(expected.entropy()[r], given.entropy()[r], 1e-5f);
                assertEquals(kl[r], plainKl[r], 1e-12f + 1e-4f * (Float.isInfinite(kl[r]) ? 0 : kl[r]));
                final double[] row = best.row(r);
                final double largest = Arrays.stream(row).map(Math::abs).max().getAsDouble();
                for (int v = 0; v < vocab; v++) {
                    final double step = dtype == DType.F32 ? 0 : Reference.ulp(dtype, row[v]);
                    assertEquals(row[v], plain.get(r, v), 1e-5 * largest + step + 1e-38, "row " + r + ", element " + v);
                }
            }
            restore();
        }
    }

    private static Matrix gradient(Rows rows) {
        final Matrix d = rows.fresh.like();
        final Indices targets = Indices.ofInts(rows.targets());
        final TestData.Forward f = TestData.Forward.of(rows.fresh.logits, targets, Temperature.ONE);
        LogProbs.backward(rows.fresh.logits, targets, Temperature.ONE, Floats.ofFloats(f.logProbs()), Floats.ofFloats(f.lse()),
                Floats.ofFloats(f.entropy()), Floats.ofFloats(rows.floats(-0.3f, 1.25f)), Floats.ofFloats(rows.floats(0.1f, -0.7f)),
                d.logits);
        return d;
    }

    private static float[] kl(Rows rows) {
        final Floats kl = Floats.allocate(rows.numbers.length);
        TokenKl.oldNew(rows.old.logits, rows.fresh.logits, kl);
        return kl.toArray();
    }

    private static boolean has(String level) {
        try {
            Natives.forceLevel(level);
            return true;
        } catch (IllegalStateException e) {
            return false;
        }
    }
}
