package org.teamtr.kernels;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.function.Function;
import java.util.function.ToLongFunction;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.parallel.Isolated;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.teamtr.kernels.TestData.Matrix;
import org.teamtr.kernels.internal.Natives;

/** A decoder's layers against the formulas in double, and a row's bits in any company, at any place, thread count and CPU level. */
@Isolated("forces CPU levels and thread counts, which belong to the process")
class DecodingTest extends TestData.Scoped {
    private static final double EPS = 1e-6;

    @AfterEach
    void restore() {
        Natives.forceLevel(Backend.current().level());
        Natives.forceThreads(Backend.current().threads());
    }

    private static Matrix random(DType dtype, int rows, int columns, double size, long seed) {
        return spaced(dtype, rows, columns, columns, size, seed);
    }

    private static Matrix spaced(DType dtype, int rows, int columns, int stride, double size, long seed) {
        final Matrix m = new Matrix(dtype, 1, rows, columns, 0, stride, 0);
        for (int r = 0; r < rows; r++) {
            m.setRow(r, TestData.gaussian(1000 * seed + r, columns, size));
        }
        return m;
    }

    /** What one rounding of a sum of numbers of that size may lose. */
    private static double bound(DType dtype, double size) {
        return (dtype == DType.F32 ? 5e-6 : dtype == DType.BF16 ? 5e-3 : 8e-4) * (size + 1e-3);
    }

    private static void close(DType dtype, double expected, double size, double given, String what) {
        assertEquals(expected, given, bound(dtype, size), what);
    }

    @ParameterizedTest
    @EnumSource(DType.class)
    @CpuOnly("a device has a BLAS for products")
    void productsAreThoseOfTheFormula(DType dtype) {
        for (int[] shape : new int[][] {{1, 1, 1, 0}, {3, 7, 5, 0}, {5, 16, 13, 2}, {9, 100, 31, 3}, {70, 33, 26, 17}, {2, 1100, 40, 16},
            {24, 1030, 37, 5}, {200, 9, 17, 0}}) {
            final int rows = shape[0];
            final int in = shape[1];
            final int out = shape[2];
            final int rank = shape[3];
            final Matrix x = spaced(dtype, rows, in, in + 3, 1, 1);
            final Matrix w = random(dtype, out, in, 1 / Math.sqrt(in), 2);
            final Matrix bias = rows % 2 == 1 ? random(dtype, 1, out, 1, 3) : null;
            final Matrix a = rank == 0 ? null : random(dtype, rank, in, 1 / Math.sqrt(in), 4);
            final Matrix b = rank == 0 ? null : random(dtype, out, rank, 1, 5);
            for (int mode = 0; mode < 3; mode++) { // y written, added to, in f32
                final Matrix y = spaced(mode == 2 ? DType.F32 : dtype, rows, out, out + 5, 1, 6);
                final Matrix before = spaced(mode == 2 ? DType.F32 : dtype, rows, out, out + 5, 1, 6);
                Decoding.linear(x.logits, w.logits, bias == null ? null : bias.logits, a == null ? null : a.logits, b == null ? null : b.logits,
                        1.5, y.logits, mode == 1, Floats.allocate(Math.max(1, Decoding.work(dtype, rows, in, rank))));
                for (int r = 0; r < rows; r++) {
                    for (int o = 0; o < out; o++) {
                        double sum = bias == null ? 0 : bias.get(0, o);
                        double size = Math.abs(sum);
                        for (int i = 0; i < in; i++) {
                            sum += x.get(r, i) * w.get(o, i);
                            size += Math.abs(x.get(r, i) * w.get(o, i));
                        }
                        for (int k = 0; k < rank; k++) {
                            double low = 0;
                            for (int i = 0; i < in; i++) {
                                low += x.get(r, i) * a.get(k, i);
                                size += Math.abs(1.5 * x.get(r, i) * a.get(k, i) * b.get(o, k));
                            }
                            sum += 1.5 * low * b.get(o, k);
                        }
                        if (mode == 1) {
                            sum += before.get(r, o);
                            size += Math.abs(before.get(r, o));
                        }
                        close(mode == 2 ? DType.F32 : dtype, sum, size, y.get(r, o), Arrays.toString(shape) + ", mode " + mode);
                    }
                }
            }
        }
    }

    @ParameterizedTest
    @EnumSource(DType.class)
    void normsAndGatesAreThoseOfTheFormula(DType dtype) {
        for (int n : new int[] {1, 15, 16, 70, 1500}) {
            final Matrix x = spaced(dtype, 4, n, n + 1, 2, 1);
            final Matrix w = random(dtype, 1, n, 1, 2);
            final Matrix y = spaced(dtype, 4, n, n + 2, 1, 3);
            Decoding.rmsNorm(x.logits, w.logits, EPS, y.logits, Floats.allocate(4L * n));
            for (int r = 0; r < 4; r++) {
                double squares = 0;
                for (int i = 0; i < n; i++) {
                    squares += x.get(r, i) * x.get(r, i);
                }
                for (int i = 0; i < n; i++) {
                    final double expected = x.get(r, i) / Math.sqrt(squares / n + EPS) * w.get(0, i);
                    close(dtype, expected, Math.abs(expected), y.get(r, i), "norm of " + n);
                }
            }
            Decoding.rmsNorm(x.logits, w.logits, EPS, x.logits, Floats.allocate(4L * n));
            for (int i = 0; i < n; i++) {
                assertEquals(y.bits(3, i), x.bits(3, i), "in place");
            }
            final Matrix both = spaced(dtype, 4, 2 * n, 2 * n + 1, 4, 4);
            both.setRow(0, TestData.gaussian(9, 2 * n, 60));
            Decoding.swiglu(both.logits, y.logits);
            for (int r = 0; r < 4; r++) {
                for (int i = 0; i < n; i++) {
                    final double expected = both.get(r, i) / (1 + Math.exp(-both.get(r, i))) * both.get(r, n + i);
                    close(dtype, expected, Math.abs(expected), y.get(r, i), "gate of " + n);
                }
            }
        }
    }

    // ---- attention ----

    /** One call. The columns of a row begin at {@code column - positions[row]}. */
    private static final class Attention {
        static final int TABLE = 2_500;
        final DType dtype;
        final int heads;
        final int kvHeads;
        final int d;
        final int room;
        final int column;
        final int window;
        final long[] positions;
        final long[] starts;
        final Matrix qkv;
        final Matrix qNorm;
        final Matrix kNorm;
        final Matrix keys;
        final Matrix values;
        final Matrix y;
        final Floats cosine;
        final Floats sine;

        Attention(DType dtype, int heads, int kvHeads, int d, boolean norms, int window, int room, int column, long... positions) {
            this.dtype = dtype;
            this.heads = heads;
            this.kvHeads = kvHeads;
            this.d = d;
            this.room = room;
            this.column = column;
            this.window = window;
            this.positions = positions;
            this.starts = Arrays.stream(positions).map(position -> column - position).toArray();
            final int rows = positions.length;
            qkv = spaced(dtype, rows, (heads + 2 * kvHeads) * d, (heads + 2 * kvHeads) * d + 4, 1, 1);
            qNorm = norms ? random(dtype, 1, d, 1, 2) : null;
            kNorm = norms ? random(dtype, 1, d, 1, 3) : null;
            keys = random(dtype, rows * kvHeads * room, d, 1, 4);
            values = random(dtype, rows * kvHeads * room, d, 1, 5);
            y = spaced(dtype, rows, heads * d, heads * d + 1, 1, 6);
            final float[] cos = new float[TABLE * d];
            final float[] sin = new float[TABLE * d];
            for (int p = 0; p < TABLE; p++) {
                for (int j = 0; j < d; j++) {
                    final double angle = p * Math.pow(100, -2.0 * (j % (d / 2)) / d);
                    cos[p * d + j] = (float) Math.cos(angle);
                    sin[p * d + j] = (float) (j < d / 2 ? -Math.sin(angle) : Math.sin(angle));
                }
            }
            cosine = Floats.ofFloats(cos);
            sine = Floats.ofFloats(sin);
        }

        void run() {
            Decoding.attend(qkv.logits, qNorm == null ? null : qNorm.logits, kNorm == null ? null : kNorm.logits, EPS, cosine, sine,
                    Indices.ofLongs(positions), Indices.ofLongs(starts), window, keys.logits, values.logits, y.logits);
        }

        private double[] turned(int row, int from, Matrix norm) {
            final double[] x = new double[d];
            double squares = 0;
            for (int j = 0; j < d; j++) {
                x[j] = qkv.get(row, from + j);
                squares += x[j] * x[j];
            }
            if (norm != null) {
                for (int j = 0; j < d; j++) {
                    x[j] *= norm.get(0, j) / Math.sqrt(squares / d + EPS);
                }
            }
            final double[] to = new double[d];
            for (int j = 0; j < d; j++) {
                final int at = (int) positions[row] * d + j;
                to[j] = x[j] * cosine.get(at) + x[(j + d / 2) % d] * sine.get(at);
            }
            return to;
        }

        void check(String what) {
            for (int row = 0; row < positions.length; row++) {
                for (int g = 0; g < kvHeads; g++) {
                    final int cache = (row * kvHeads + g) * room;
                    final double[] key = turned(row, (heads + g) * d, kNorm);
                    for (int j = 0; j < d; j++) {
                        close(dtype, key[j], 4, keys.get(cache + column, j), what + ", key");
                        assertEquals(qkv.bits(row, (heads + kvHeads + g) * d + j), values.bits(cache + column, j), what + ", value");
                    }
                    for (int h = g * heads / kvHeads; h < (g + 1) * heads / kvHeads; h++) {
                        final double[] query = turned(row, h * d, qNorm);
                        int first = column - (int) positions[row];
                        first = window > 0 ? Math.max(first, column + 1 - window) : first;
                        final double[] weights = new double[column + 1];
                        double total = 0;
                        for (int c = first; c <= column; c++) {
                            double score = 0;
                            for (int j = 0; j < d; j++) {
                                score += query[j] * keys.get(cache + c, j);
                            }
                            weights[c] = Math.exp(score / Math.sqrt(d));
                            total += weights[c];
                        }
                        for (int j = 0; j < d; j++) {
                            double sum = 0;
                            for (int c = first; c <= column; c++) {
                                sum += weights[c] / total * values.get(cache + c, j);
                            }
                            close(dtype, sum, 4, y.get(row, h * d + j), what);
                        }
                    }
                }
            }
        }
    }

    @ParameterizedTest
    @EnumSource(DType.class)
    void attentionIsThatOfTheFormula(DType dtype) {
        for (int[] heads : new int[][] {{1, 1, 2}, {4, 2, 10}, {4, 4, 16}, {6, 2, 40}, {7, 1, 64}, {2, 1, 80},
            {3, 1, 96}, {5, 1, 128}, {2, 1, 256}, {1, 1, 258}}) {
            for (int window : new int[] {0, 3, 70}) {
                final Attention a = new Attention(dtype, heads[0], heads[1], heads[2], window != 3, window, 210, 203, 203, 0, 5, 100, 64, 63);
                a.run();
                a.check(Arrays.toString(heads) + ", window " + window);
            }
        }
    }

    /** So many columns that a device shares them out among blocks. */
    @ParameterizedTest
    @EnumSource(DType.class)
    void longContexts(DType dtype) {
        for (int window : new int[] {0, 1_000}) {
            final Attention a = new Attention(dtype, 3, 1, 64, true, window, 2_410, 2_399, 2_399, 256, 255, 257, 1_790);
            a.run();
            a.check("long, window " + window);
        }
    }

    /** What a device computes again, from other contents of the same vectors. */
    @Test
    void aStepIsWhatPositionsSayWhenItRuns() {
        final Attention first = new Attention(DType.F32, 4, 2, 16, true, 0, 40, 20, 20, 7);
        final Attention second = new Attention(DType.F32, 4, 2, 16, true, 0, 40, 21, 21, 8);
        first.run();
        second.run();
        final Attention both = new Attention(DType.F32, 4, 2, 16, true, 0, 40, 20, 20, 7);
        try (Indices positions = Indices.ofLongs(20, 7); Indices starts = Indices.ofLongs(0, 13)) {
            final Runnable step = () -> Decoding.attend(both.qkv.logits, both.qNorm.logits, both.kNorm.logits, EPS, both.cosine, both.sine,
                    positions, starts, 0, both.keys.logits, both.values.logits, both.y.logits);
            step.run();
            assertEquals(bits(first.y, 1), bits(both.y, 1));
            for (int r = 0; r < both.keys.rows; r++) { // as the second step finds the cache
                both.keys.setRow(r, TestData.gaussian(1000 * 4 + r, 16, 1));
                both.values.setRow(r, TestData.gaussian(1000 * 5 + r, 16, 1));
            }
            positions.copyFrom(Indices.ofLongs(21, 8));
            step.run();
            assertEquals(bits(second.y, 0), bits(both.y, 0));
            assertEquals(bits(second.y, 1), bits(both.y, 1));
            assertEquals(bits(second.keys, 21), bits(both.keys, 21));
        }
    }

    /** The largest scores come last, so that the running maximum moves. */
    @Test
    void scoresThatGrowFromBlockToBlock() {
        final Attention a = new Attention(DType.F32, 2, 1, 16, false, 0, 300, 299, 299);
        final double[] query = a.turned(0, 0, null);
        for (int c = 0; c < 299; c++) {
            final double size = c;
            a.keys.setRow(c, TestData.row(16, j -> query[j] * size / 20));
        }
        a.run();
        a.check("growing");
    }

    // ---- bits ----

    private static List<Integer> bits(Matrix m, int row) {
        final List<Integer> bits = new ArrayList<>();
        for (int v = 0; v < m.vocab; v++) {
            bits.add(m.bits(row, v));
        }
        return bits;
    }

    @ParameterizedTest
    @EnumSource(DType.class)
    @CpuOnly("of products")
    void aRowHasTheSameBitsInAnyCompany(DType dtype) {
        final int in = 300;
        final int out = 500;
        final int rows = 67;
        final Matrix x = random(dtype, rows, in, 1, 1);
        final Matrix w = random(dtype, out, in, 1, 2);
        final Matrix a = random(dtype, 8, in, 1, 3);
        final Matrix b = random(dtype, out, 8, 1, 4);
        final List<List<Integer>> levels = new ArrayList<>();
        final List<List<Integer>> many = new ArrayList<>();
        for (String level : new String[] {"avx2", "avx512"}) {
            if (level.equals("avx512") && !Backend.current().level().equals("avx512") || Backend.current().level().equals("portable")) {
                continue;
            }
            Natives.forceLevel(level);
            for (int threads : new int[] {1, 3}) {
                Natives.forceThreads(threads);
                final Matrix y = random(dtype, rows, out, 1, 5);
                linear(x.logits, w, a, b, y.logits);
                for (int[] some : new int[][] {{0, 24}, {31, 59}, {3, 66}, {43, 67}}) { // in the order of many rows
                    final Matrix part = random(dtype, some[1] - some[0], out, 1, 5);
                    linear(x.logits.rows(some[0], some[1]), w, a, b, part.logits);
                    assertEquals(bits(y, some[1] - 1), bits(part, some[1] - some[0] - 1), "row " + some[1]);
                }
                final Matrix few = random(dtype, 23, out, 1, 5);
                linear(x.logits.rows(20, 43), w, a, b, few.logits);
                for (int r : new int[] {20, 21, 22, 23, 30, 41, 42}) { // and in that of few
                    final Matrix one = random(dtype, 1, out, 1, 5);
                    linear(x.logits.rows(r, r + 1), w, a, b, one.logits);
                    assertEquals(bits(one, 0), bits(few, r - 20), "row " + r);
                }
                levels.add(bits(few, 7));
                many.add(bits(y, 45));
            }
        }
        assertTrue(levels.stream().distinct().count() <= 1 && many.stream().distinct().count() <= 1, "levels and threads");
    }

    private static void linear(Logits x, Matrix w, Matrix a, Matrix b, Logits y) {
        Decoding.linear(x, w.logits, null, a.logits, b.logits, 2, y, false, Floats.allocate(Decoding.work(x.dtype(), x.rows(), x.vocab(), a.rows)));
    }

    @Test
    void whereARowsColumnsLieChangesNothing() {
        for (int headDim : new int[] {20, 22}) { // on a device, heads of whole vectors and others
            final Attention here = new Attention(DType.F32, 4, 2, headDim, true, 0, 200, 150, 150);
            final Attention there = new Attention(DType.F32, 4, 2, headDim, true, 0, 390, 380, 150, 3);
            for (int g = 0; g < 2; g++) {
                for (int c = 0; c <= 150; c++) {
                    there.keys.setRow(g * 390 + 230 + c, here.keys.row(g * 200 + c));
                    there.values.setRow(g * 390 + 230 + c, here.values.row(g * 200 + c));
                }
            }
            here.run();
            there.run();
            assertEquals(bits(here.y, 0), bits(there.y, 0));
        }
    }

    @Test
    void numbersThatAreNoneStayInTheirRow() {
        final Attention good = new Attention(DType.F32, 2, 2, 16, false, 0, 70, 69, 69, 69);
        good.run();
        final Attention bad = new Attention(DType.F32, 2, 2, 16, false, 0, 70, 69, 69, 69);
        bad.qkv.setRow(0, TestData.row(bad.qkv.vocab, j -> Double.NaN));
        bad.run();
        assertTrue(Double.isNaN(bad.y.get(0, 0)) && Double.isNaN(bad.y.get(0, 31)));
        assertEquals(bits(good.y, 1), bits(bad.y, 1));
    }

    // ---- errors ----

    @Test
    @CpuOnly("of products too")
    void argumentsThatDoNotFitAreNamed() {
        final Matrix x = random(DType.F32, 2, 4, 1, 1);
        final Matrix w = random(DType.F32, 3, 4, 1, 2);
        final Matrix y = random(DType.F32, 2, 3, 1, 3);
        final Matrix half = random(DType.BF16, 2, 4, 1, 1);
        assertMessage("weight: expected any x 4 F32, given 2 x 3 F32",
                () -> Decoding.linear(x.logits, y.logits, null, null, null, 0, y.logits, false, null));
        assertMessage("y: expected 2 x 3 F32, given 2 x 4 F32",
                () -> Decoding.linear(x.logits, w.logits, null, null, null, 0, random(DType.F32, 2, 4, 1, 1).logits, false, null));
        assertMessage("loraA, loraB: expected both or neither, given one",
                () -> Decoding.linear(x.logits, w.logits, null, x.logits, null, 0, y.logits, false, null));
        assertMessage("work: expected at least 4 numbers, given null", () -> Decoding.linear(x.logits, w.logits, null,
                random(DType.F32, 2, 4, 1, 1).logits, random(DType.F32, 3, 2, 1, 1).logits, 0, y.logits, false, null));
        assertMessage("weight: expected any x 4 BF16, given 3 x 4 F32",
                () -> Decoding.linear(half.logits, w.logits, null, null, null, 0, y.logits, false, null));
        assertMessage("y: expected memory apart from x, given an overlap",
                () -> Decoding.linear(x.logits, random(DType.F32, 4, 4, 1, 2).logits, null, null, null, 0, x.logits, false, null));
        assertMessage("work: expected at least 8 numbers, given 7",
                () -> Decoding.rmsNorm(x.logits, w.logits.rows(0, 1), EPS, x.logits, Floats.allocate(7)));
        assertMessage("gateUp: expected 2 x 6 F32, given 2 x 4 F32", () -> Decoding.swiglu(x.logits, y.logits));
        final Attention a = new Attention(DType.F32, 2, 1, 4, true, 0, 8, 5, 5, 4);
        assertMessage("starts: expected length 2 (the rows of qkv), given 1", () -> Decoding.attend(a.qkv.logits, null, null, EPS, a.cosine,
                a.sine, Indices.ofLongs(1, 2), Indices.ofLongs(0), 0, a.keys.logits, a.values.logits, a.y.logits));
        assertMessage("positions: expected int64, given int32", () -> Decoding.attend(a.qkv.logits, null, null, EPS, a.cosine,
                a.sine, Indices.ofInts(1, 2), Indices.ofLongs(0, 0), 0, a.keys.logits, a.values.logits, a.y.logits));
        assertMessage("cosine: expected a length that is a multiple of headDim = 4, given 9999", () -> Decoding.attend(a.qkv.logits, null, null,
                EPS, a.cosine.slice(0, 9_999), a.sine.slice(0, 9_999), Indices.ofLongs(1, 2), Indices.ofLongs(0, 0), 0, a.keys.logits,
                a.values.logits, a.y.logits));
    }

    /** Every output over every other argument: at its start, and one element into it. A norm alone may lie exactly on its x. */
    @Test
    @CpuOnly("of products too")
    void anOutputOverAnotherArgumentIsRefused() {
        final Map<String, List<String>> calls = Map.of("linear", List.of("y", "work", "x", "weight", "bias", "loraA", "loraB"),
                "rmsNorm", List.of("y", "work", "x", "weight"), "swiglu", List.of("y", "gateUp"),
                "attend", List.of("y", "keys", "values", "qkv", "qNorm", "kNorm", "cosine", "sine", "positions", "starts"));
        final Map<String, Integer> outputs = Map.of("linear", 2, "rmsNorm", 2, "swiglu", 1, "attend", 3);
        calls.forEach((kernel, names) -> {
            call(kernel, names, "", "", 0);
            for (String output : names.subList(0, outputs.get(kernel))) {
                for (String other : names) {
                    for (int shift : new int[] {0, 4}) {
                        final String what = kernel + ", " + output + " over " + other + " + " + shift;
                        if (kernel.equals("rmsNorm") && output.equals("y") && other.equals("x") && shift == 0) {
                            call(kernel, names, output, other, shift);
                        } else if (!other.equals(output)) {
                            final String message = assertThrows(IllegalArgumentException.class, () -> call(kernel, names, output, other, shift),
                                    what).getMessage();
                            assertTrue(message.contains("expected memory apart from") && message.contains(output) && message.contains(other),
                                    what + ": " + message);
                        }
                    }
                }
            }
        });
    }

    /** A call of f32 views in one piece of memory, each in 128 bytes of its own, but for one that lies over another. */
    private static void call(String kernel, List<String> names, String moved, String over, int shift) {
        final Floats memory = Floats.allocate(32L * names.size());
        final ToLongFunction<String> at = name -> memory.address() + (name.equals(moved) ? 128L * names.indexOf(over) + shift
                : 128L * names.indexOf(name));
        final TriFunction matrix = (name, rows, columns) -> Logits.ofAddress(at.applyAsLong(name), 128, DType.F32, 1, rows, columns, 0, columns,
                memory);
        final Function<String, Floats> eight = name -> Floats.ofAddress(at.applyAsLong(name), 128, 8, memory);
        final Function<String, Indices> longs = name -> Indices.ofAddress(at.applyAsLong(name), 128, 8, 2, memory);
        switch (kernel) {
            case "linear" -> Decoding.linear(matrix.of("x", 2, 4), matrix.of("weight", 3, 4), matrix.of("bias", 1, 3), matrix.of("loraA", 2, 4),
                    matrix.of("loraB", 3, 2), 1, matrix.of("y", 2, 3), false, eight.apply("work"));
            case "rmsNorm" -> Decoding.rmsNorm(matrix.of("x", 2, 4), matrix.of("weight", 1, 4), EPS, matrix.of("y", 2, 4), eight.apply("work"));
            case "swiglu" -> Decoding.swiglu(matrix.of("gateUp", 2, 6), matrix.of("y", 2, 3));
            default -> Decoding.attend(matrix.of("qkv", 2, 6), matrix.of("qNorm", 1, 2), matrix.of("kNorm", 1, 2), EPS, eight.apply("cosine"),
                    eight.apply("sine"), longs.apply("positions"), longs.apply("starts"), 0, matrix.of("keys", 6, 2), matrix.of("values", 6, 2),
                    matrix.of("y", 2, 2));
        }
    }

    private interface TriFunction {
        Logits of(String name, long rows, long columns);
    }

    /** The CPU says so; a device, which does not look before it computes, gives such rows NaN. */
    @Test
    void columnsThatAreNotThereAreNeitherReadNorWritten() {
        final long[][] wrong = {{-1, 3}, {8, 0}, {2, 6}, {3, -1}, {Attention.TABLE, 0}, {Long.MAX_VALUE, 1}, {0, Long.MAX_VALUE}};
        final String[] words = {"positions[0] is -1: not in 0..2499", "starts[0] is 0: with position 8 not in 0..-1",
            "starts[0] is 6: with position 2 not in 0..5", "starts[0] is -1: with position 3 not in 0..4",
            "positions[0] is 2500: not in 0..2499", "positions[0] is 9223372036854775807: not in 0..2499",
            "starts[0] is 9223372036854775807: with position 0 not in 0..7"};
        for (int i = 0; i < wrong.length; i++) {
            final Attention a = new Attention(DType.F32, 2, 1, 4, true, 0, 8, 5, wrong[i][0], 4);
            a.starts[0] = wrong[i][1];
            a.starts[1] = 1;
            final List<Integer> before = bits(a.keys, 5);
            if (!TestDevice.CUDA) {
                assertMessage(words[i], a::run);
                continue;
            }
            a.run();
            assertTrue(IntStream.range(0, 8).allMatch(j -> Double.isNaN(a.y.get(0, j))), words[i]);
            assertTrue(IntStream.range(0, 8).noneMatch(j -> Double.isNaN(a.y.get(1, j))), words[i]);
            assertEquals(before, bits(a.keys, 5), "of row 0");
        }
    }

    private static void assertMessage(String expected, Runnable call) {
        assertEquals(expected, assertThrows(IllegalArgumentException.class, call::run).getMessage());
    }
}
