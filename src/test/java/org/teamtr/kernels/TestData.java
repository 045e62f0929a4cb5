package org.teamtr.kernels;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.SplittableRandom;
import java.util.function.IntToDoubleFunction;
import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.javacpp.PointerScope;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Assertions;
import org.junit.jupiter.api.BeforeEach;

/** Native memory for tests, rows of numbers that are hard on the kernels, and a measure of errors. A function of its seeds. */
final class TestData {
    static final double MASKED = Double.NEGATIVE_INFINITY;
    /** Fills all bytes that belong to no row. Read as a logit of any dtype it is 60,000 or more and would spoil the row. */
    private static final byte SENTINEL = 0x7b;

    private TestData() {
    }

    /** Frees what a test allocated. */
    abstract static class Scoped {
        private PointerScope scope;

        @BeforeEach
        final void openScope() {
            scope = new PointerScope();
        }

        @AfterEach
        final void closeScope() {
            scope.close();
        }
    }

    // ---- rows in native memory ----

    /** Rows in one of the layouts that {@link Logits} knows, with sentinels before, between and behind them. */
    static final class Matrix {
        final DType dtype;
        final int rows;
        final int vocab;
        final Logits logits;
        private final int length;
        private final int batchStride;
        private final int rowStride;
        private final int first;
        private final ByteBuffer bytes;

        /** @param offset of the first element from an address that is a multiple of 64 bytes */
        Matrix(DType dtype, int batch, int length, int vocab, int batchStride, int rowStride, int offset) {
            this.dtype = dtype;
            this.rows = batch * length;
            this.vocab = vocab;
            this.length = length;
            this.batchStride = batchStride;
            this.rowStride = rowStride;
            final int elements = (batch - 1) * batchStride + (length - 1) * rowStride + vocab;
            final int size = (elements + offset) * dtype.bytes() + 256; // two cache lines of sentinels on either side, or more
            final BytePointer memory = new BytePointer(size);
            bytes = memory.asByteBuffer().order(ByteOrder.nativeOrder());
            first = (int) (64 + Math.floorMod(-memory.address(), 64L)) + offset * dtype.bytes();
            memory.fill(SENTINEL & 0xff);
            memory.position(first);
            logits = Logits.ofBatch(memory, dtype, batch, length, vocab, batchStride, rowStride);
        }

        private int at(int row, int v) {
            return first + (row / length * batchStride + row % length * rowStride + v) * dtype.bytes();
        }

        int bits(int row, int v) {
            return dtype == DType.F32 ? bytes.getInt(at(row, v)) : bytes.getShort(at(row, v)) & 0xffff;
        }

        double get(int row, int v) {
            return Reference.value(dtype, bits(row, v));
        }

        /** Stores the nearest number of the format. */
        void set(int row, int v, double value) {
            if (dtype == DType.F32) {
                bytes.putFloat(at(row, v), (float) value);
            } else {
                bytes.putShort(at(row, v), (short) Reference.bits(dtype, Reference.round(dtype, value)));
            }
        }

        void setRow(int row, double[] values) {
            for (int v = 0; v < vocab; v++) {
                set(row, v, values[v]);
            }
        }

        double[] row(int row) {
            final double[] values = new double[vocab];
            for (int v = 0; v < vocab; v++) {
                values[v] = get(row, v);
            }
            return values;
        }

        int[] rowBits(int row) {
            final int[] values = new int[vocab];
            for (int v = 0; v < vocab; v++) {
                values[v] = bits(row, v);
            }
            return values;
        }

        Reference.Softmax softmax(int row, double temperature) {
            return new Reference.Softmax(row(row), temperature);
        }

        Matrix copy() {
            final Matrix copy = like();
            for (int r = 0; r < rows; r++) {
                for (int v = 0; v < vocab; v++) {
                    copy.bytes.putShort(copy.at(r, v), bytes.getShort(at(r, v)));
                    if (dtype == DType.F32) {
                        copy.bytes.putInt(copy.at(r, v), bytes.getInt(at(r, v)));
                    }
                }
            }
            return copy;
        }

        /** {@return memory of the same shape and layout, all sentinels} */
        Matrix like() {
            return new Matrix(dtype, rows / length, length, vocab, batchStride, rowStride, 0);
        }

        void assertSentinelsUntouched() {
            final boolean[] covered = new boolean[bytes.capacity()];
            for (int r = 0; r < rows; r++) {
                Arrays.fill(covered, at(r, 0), at(r, 0) + vocab * dtype.bytes(), true);
            }
            for (int i = 0; i < covered.length; i++) {
                if (!covered[i] && bytes.get(i) != SENTINEL) {
                    Assertions.fail("byte " + (i - first) + " from the first row was written, and belongs to no row");
                }
            }
        }
    }

    /** {@return rows side by side, not yet filled} */
    static Matrix matrix(DType dtype, int rows, int vocab) {
        return new Matrix(dtype, 1, rows, vocab, 0, vocab, 0);
    }

    static Matrix matrix(DType dtype, double[]... rows) {
        return filled(matrix(dtype, rows.length, rows[0].length), rows);
    }

    static Matrix filled(Matrix matrix, double[]... rows) {
        for (int r = 0; r < rows.length; r++) {
            matrix.setRow(r, rows[r]);
        }
        return matrix;
    }

    static float[] constant(int length, double value) {
        final float[] values = new float[length];
        Arrays.fill(values, (float) value);
        return values;
    }

    /** What {@link LogProbs#forward} gives for all rows. */
    record Forward(float[] logProbs, float[] lse, float[] entropy) {
        static Forward of(Logits x, Indices targets, Temperature temperature) {
            final Floats logProbs = Floats.allocate(x.rows());
            final Floats lse = Floats.allocate(x.rows());
            final Floats entropy = Floats.allocate(x.rows());
            LogProbs.forward(x, targets, temperature, logProbs, lse, entropy);
            return new Forward(logProbs.toArray(), lse.toArray(), entropy.toArray());
        }
    }

    // ---- rows ----

    static double[] row(int vocab, IntToDoubleFunction value) {
        final double[] x = new double[vocab];
        Arrays.setAll(x, value);
        return x;
    }

    static double[] gaussian(long seed, int vocab, double scale) {
        final SplittableRandom random = new SplittableRandom(seed);
        return row(vocab, v -> scale * random.nextGaussian());
    }

    static double[] plus(double[] x, double constant) {
        return row(x.length, v -> x[v] + constant);
    }

    static double[] with(double[] x, int at, double value) {
        final double[] y = x.clone();
        y[at] = value;
        return y;
    }

    static int largest(double[] x) {
        int top = 0;
        for (int v = 1; v < x.length; v++) {
            top = x[v] > x[top] ? v : top;
        }
        return top;
    }

    /** Rows of every kind, each within 30 of its offset, which is 0 or 1000. */
    static double[][] shapes(int vocab, long seed) {
        final double[] plain = gaussian(seed, vocab, 3);
        final SplittableRandom random = new SplittableRandom(seed + 1);
        final int last = vocab - 1;
        final double spread = 60.0 / Math.max(1, last);
        return new double[][] {
            plain,
            row(vocab, v -> random.nextDouble(-30, 30)),
            row(vocab, v -> -30 + v * spread), // ascending: every block has a new maximum
            row(vocab, v -> 30 - v * spread), // descending
            row(vocab, v -> 2.5), // all equal
            row(vocab, v -> Math.min(plain[v], 1)), // a third of all elements tie for the maximum
            with(plain, 0, 25),
            with(plain, last, 25),
            with(plain, Math.max(0, last - last % 64 - 1), 25), // the last element before the tail
            row(vocab, v -> -25 + plain[v] / 3), // all negative
            with(row(vocab, v -> -20 + plain[v] / 3), last / 2, 30),
            with(row(vocab, v -> -Math.log(vocab)), last / 3, 0), // half of the mass far below the maximum
            row(vocab, v -> v % 3 == 1 ? MASKED : plain[v]),
            plus(plain, 1000),
            plus(plain, -1000),
        };
    }

    static double[] rounded(DType dtype, double[] x) {
        return row(x.length, v -> Reference.round(dtype, x[v]));
    }

    /** {@return a row of the dtype near {@code x} with KL(x || it) about {@code kl}} */
    static double[] near(DType dtype, double[] x, double kl, double temperature, long seed) {
        final double[] noise = gaussian(seed, x.length, 1);
        final Reference.Softmax p = new Reference.Softmax(x, temperature);
        double scale = temperature * Math.sqrt(2 * kl);
        if (dtype != DType.F32 && scale < 1.2 * Reference.ulp(dtype, 2)) {
            return nearBySteps(dtype, x, kl, p, noise);
        }
        for (int i = 0;; i++) {
            final double size = scale;
            final double[] y = row(x.length, v -> Reference.round(dtype, x[v] + size * noise[v]));
            final double share = Reference.kl(p, new Reference.Softmax(y, temperature)) / kl;
            if (share > 0.8 && share < 1.25 || i == 60) {
                return y;
            }
            scale *= Math.max(0.3, Math.min(3, Math.pow(share, i < 5 ? -0.5 : -0.2)));
        }
    }

    /** So near that most numbers would round to themselves: moves some of them by one step. */
    private static double[] nearBySteps(DType dtype, double[] x, double kl, Reference.Softmax p, double[] noise) {
        final double[] y = x.clone();
        double sum = 0;
        for (int v = 0; v < y.length && sum < kl; v++) {
            final int at = (int) (v * 7919L % y.length);
            final double step = Math.copySign(Reference.ulp(dtype, y[at]), noise[at]);
            final double more = p.p(at) * (1 - p.p(at)) * step * step / (2 * p.temperature * p.temperature);
            if (sum + more < 1.2 * kl) {
                sum += more;
                y[at] += step;
            }
        }
        return y;
    }

    // ---- errors ----

    /** The worst of many errors, each in units of its own limit. */
    static final class Worst {
        private final String what;
        private double share = -1;
        private String where = "nothing was compared";

        Worst(String what) {
            this.what = what;
        }

        void see(double actual, double expected, double limit, int row, int element) {
            final double error = Double.compare(actual, expected) == 0 || actual == expected ? 0 : Math.abs(actual - expected);
            final double now = error == 0 ? 0 : error <= Double.MAX_VALUE ? error / limit : Double.POSITIVE_INFINITY;
            if (now > share || Double.isNaN(now)) {
                share = now;
                where = String.format("%s: row %d, element %d: expected %.9g, given %.9g, off by %.3g, limit %.3g (%.3f of it)",
                        what, row, element, expected, actual, error, limit, now);
            }
        }

        /** Fails if an error was beyond its limit; prints the worst one with -Dorg.teamtr.test.errors=true. */
        void check() {
            if (Boolean.getBoolean("org.teamtr.test.errors")) {
                System.out.println(where);
            }
            Assertions.assertTrue(share >= 0 && share <= 1, where);
        }
    }
}
