package org.teamtr.torch;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import org.bytedeco.javacpp.Pointer;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.BoolOptional;
import org.bytedeco.pytorch.Device;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorArrayRefOptional;
import org.bytedeco.pytorch.global.torch.ScalarType;
import org.bytedeco.pytorch.global.torch;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.teamtr.kernels.Indices;
import org.teamtr.kernels.LogProbs;
import org.teamtr.kernels.Temperature;

/** Against loops in double that share nothing with it, and against itself at other chunk sizes. */
class LinearLogProbsTest {
    private static final int ROWS = 37;
    private static final int H = 24;
    private static final int VOCAB = 61;
    private static final int PADDED = 67;
    private static final int[] IGNORED = {0, 11, 36};

    private PointerScope scope;

    @BeforeEach
    void open() {
        scope = new PointerScope();
    }

    @AfterEach
    void close() {
        scope.close();
    }

    // ---- a problem, in double and as tensors ----

    private static double[][] matrix(SplittableRandom random, int rows, int columns, double size, ScalarType dtype) {
        final double[][] out = new double[rows][columns];
        for (double[] row : out) {
            for (int i = 0; i < columns; i++) {
                row[i] = rounded(size * random.nextGaussian(), dtype);
            }
        }
        return out;
    }

    private static double rounded(double x, ScalarType dtype) {
        if (dtype == ScalarType.Float) {
            return (float) x;
        }
        final int keep = dtype == ScalarType.BFloat16 ? 8 : 11; // bits of the significand
        final double unit = Math.scalb(1.0, Math.getExponent(x) - keep + 1);
        return Math.rint(x / unit) * unit;
    }

    private static Tensor tensor(double[][] values, ScalarType dtype) {
        final double[] flat = Arrays.stream(values).flatMapToDouble(Arrays::stream).toArray();
        return Tensor.create(flat, values.length, values[0].length).to(dtype);
    }

    private static Tensor tensor(double[] values) {
        return Tensor.create(values, values.length).to(ScalarType.Float);
    }

    /** Inputs, upstream gradients (0 where not given), and what follows from them. */
    private static final class Problem {
        final ScalarType dtype;
        final double[][] hidden;
        final double[][] weight;
        final double[][] oldHidden;
        final double[][] oldWeight;
        final int[] targets = new int[ROWS];
        final double[] temperatures = new double[ROWS];
        final double[] g;
        final double[] h;
        final double[] k;

        final double[] logProbs = new double[ROWS];
        final double[] lse = new double[ROWS];
        final double[] entropy = new double[ROWS];
        final double[] kl = new double[ROWS];
        final double[][] dHidden = new double[ROWS][H];
        final double[][] dWeight = new double[PADDED][H];

        Problem(ScalarType dtype, boolean perRow, String gradients) {
            this.dtype = dtype;
            final SplittableRandom random = new SplittableRandom(7);
            hidden = matrix(random, ROWS, H, 1, dtype);
            weight = matrix(random, PADDED, H, 0.5, dtype);
            oldHidden = moved(random, hidden);
            oldWeight = moved(random, weight);
            for (int v = VOCAB; v < PADDED; v++) { // what does not count may be anything
                Arrays.fill(weight[v], Double.NaN);
                Arrays.fill(oldWeight[v], Double.NaN);
            }
            for (int r = 0; r < ROWS; r++) {
                targets[r] = random.nextInt(VOCAB);
                temperatures[r] = (float) (perRow ? 0.5 + random.nextDouble() : 0.8);
            }
            for (int r : IGNORED) {
                targets[r] = Indices.IGNORE;
            }
            g = upstream(random, gradients.contains("g"));
            h = upstream(random, gradients.contains("h"));
            k = upstream(random, gradients.contains("k"));
            solve();
        }

        private double[][] moved(SplittableRandom random, double[][] from) {
            final double[][] to = new double[from.length][H];
            for (int r = 0; r < from.length; r++) {
                for (int i = 0; i < H; i++) {
                    to[r][i] = rounded(from[r][i] + 0.05 * random.nextGaussian(), dtype);
                }
            }
            return to;
        }

        private static double[] upstream(SplittableRandom random, boolean given) {
            return random.doubles(ROWS, -1, 1).map(x -> given ? (float) x : 0).toArray();
        }

        private static double[] logSoftmax(double[] h, double[][] w, double t) {
            final double[] x = new double[VOCAB];
            double sum = 0;
            for (int v = 0; v < VOCAB; v++) {
                for (int i = 0; i < H; i++) {
                    x[v] += h[i] * w[v][i] / t;
                }
                sum += Math.exp(x[v]);
            }
            final double lse = Math.log(sum);
            return Arrays.stream(x).map(y -> y - lse).toArray();
        }

        private void solve() {
            for (int r = 0; r < ROWS; r++) {
                if (targets[r] == Indices.IGNORE) {
                    continue;
                }
                final double t = temperatures[r];
                final double[] q = logSoftmax(hidden[r], weight, t);
                final double[] p = logSoftmax(oldHidden[r], oldWeight, t);
                double x0 = 0;
                for (int i = 0; i < H; i++) {
                    x0 += hidden[r][i] * weight[0][i] / t;
                }
                lse[r] = x0 - q[0];
                logProbs[r] = q[targets[r]];
                for (int v = 0; v < VOCAB; v++) {
                    entropy[r] -= Math.exp(q[v]) * q[v];
                    kl[r] += Math.exp(p[v]) * (p[v] - q[v]);
                }
                for (int v = 0; v < VOCAB; v++) {
                    final double ofLogProb = (v == targets[r] ? 1 : 0) - Math.exp(q[v]);
                    final double ofEntropy = -Math.exp(q[v]) * (q[v] + entropy[r]);
                    final double ofKl = Math.exp(q[v]) - Math.exp(p[v]);
                    final double d = (g[r] * ofLogProb + h[r] * ofEntropy + k[r] * ofKl) / t;
                    for (int i = 0; i < H; i++) {
                        dHidden[r][i] += d * weight[v][i];
                        dWeight[v][i] += d * hidden[r][i];
                    }
                }
            }
        }

        LinearLogProbs open(boolean withOld, int chunkRows) {
            final long chunkBytes = (long) chunkRows * VOCAB * Float.BYTES;
            final Tensor then = withOld ? tensor(oldHidden, dtype) : null;
            final Tensor thenWeight = withOld ? tensor(oldWeight, dtype) : null;
            final Tensor x = tensor(hidden, dtype);
            final Tensor w = tensor(weight, dtype);
            final Tensor ids = Tensor.create(targets);
            return Arrays.stream(temperatures).allMatch(t -> t == temperatures[0])
                    ? new LinearLogProbs(x, w, then, thenWeight, VOCAB, ids, temperatures[0], chunkBytes)
                    : new LinearLogProbs(x, w, then, thenWeight, VOCAB, ids, tensor(temperatures), chunkBytes);
        }
    }

    /** What one object gave, on the heap. */
    private record Given(float[] logProbs, float[] lse, float[] entropy, float[] kl, float[] dHidden, float[] dWeight) {
        static Given of(LinearLogProbs rows, Tensor dHidden, Tensor dWeight) {
            return new Given(Tiny.floats(rows.logProbs()), Tiny.floats(rows.lse()), Tiny.floats(rows.entropy()),
                    rows.kl() == null ? null : Tiny.floats(rows.kl()), Tiny.floats(dHidden), Tiny.floats(dWeight));
        }

        static Given of(Problem problem, String gradients, boolean withOld, int chunkRows, boolean twoPasses) {
            final Tensor dHidden = torch.empty(ROWS, H).to(problem.dtype);
            final Tensor dWeight = torch.zeros(PADDED, H);
            try (LinearLogProbs rows = problem.open(withOld, chunkRows)) {
                if (twoPasses) {
                    rows.forward();
                }
                rows.backward(gradients.contains("g") ? tensor(problem.g) : null,
                        gradients.contains("h") ? tensor(problem.h) : null,
                        gradients.contains("k") ? tensor(problem.k) : null, dHidden, dWeight);
                return of(rows, dHidden, dWeight);
            }
        }

        List<Float> row(int r) {
            return List.of(logProbs[r], lse[r], entropy[r], kl[r]);
        }

        void assertEqualTo(Given other, String what) {
            assertArrayEquals(other.logProbs, logProbs, what);
            assertArrayEquals(other.lse, lse, what);
            assertArrayEquals(other.entropy, entropy, what);
            assertArrayEquals(other.kl, kl, what);
            assertArrayEquals(other.dHidden, dHidden, what);
        }
    }

    private static void assertNear(double[] expected, float[] given, double absolute, String what) {
        assertEquals(expected.length, given.length, what);
        for (int i = 0; i < given.length; i++) {
            assertEquals(expected[i], given[i], absolute, what + "[" + i + "]");
        }
    }

    /** Relative to the largest element. */
    private static void assertNear(double[][] expected, float[] given, double ofLargest, String what) {
        final double[] flat = Arrays.stream(expected).flatMapToDouble(Arrays::stream).toArray();
        final double largest = Arrays.stream(flat).map(Math::abs).max().orElseThrow();
        assertTrue(largest > 1e-3, what + ": a gradient that says something");
        assertNear(flat, given, ofLargest * largest, what);
    }

    // ---- double ----

    @ParameterizedTest
    @ValueSource(strings = {"g", "h", "k", "gh", "gk", "ghk"})
    void f32IsWithin1e5OfDouble(String gradients) {
        for (boolean perRow : new boolean[] {false, true}) {
            final Problem problem = new Problem(ScalarType.Float, perRow, gradients);
            for (int chunkRows : new int[] {1, 5, 36, 37, 1000}) {
                for (boolean withOld : gradients.contains("k") ? new boolean[] {true} : new boolean[] {false, true}) {
                    final Given given = Given.of(problem, gradients, withOld, chunkRows, true);
                    final String what = gradients + ", " + chunkRows + " rows a chunk, per row " + perRow + ", old " + withOld;
                    assertNear(problem.logProbs, given.logProbs, 3e-6, what + ": logProbs");
                    assertNear(problem.lse, given.lse, 3e-6, what + ": lse");
                    assertNear(problem.entropy, given.entropy, 3e-6, what + ": entropy");
                    assertNear(problem.dHidden, given.dHidden, 1e-5, what + ": dHidden");
                    assertNear(problem.dWeight, given.dWeight, 1e-5, what + ": dWeight");
                    if (withOld) {
                        assertNear(problem.kl, given.kl, 1e-6, what + ": kl");
                    } else {
                        assertNull(given.kl);
                    }
                    Given.of(problem, gradients, withOld, chunkRows, false).assertEqualTo(given, what + ": in one pass");
                }
            }
        }
    }

    /** Of what is multiplied all is as in f32, logits too; only dHidden is rounded to the format, once: 8 bits, or 11. */
    @ParameterizedTest
    @EnumSource(value = ScalarType.class, names = {"BFloat16", "Half"})
    void narrowFormatsAreAsNearAsTheirBits(ScalarType dtype) {
        final double unit = dtype == ScalarType.BFloat16 ? 1.0 / 256 : 1.0 / 2048;
        final Problem problem = new Problem(dtype, true, "ghk");
        for (int chunkRows : new int[] {1, 7, 37}) {
            final Given given = Given.of(problem, "ghk", true, chunkRows, true);
            assertNear(problem.logProbs, given.logProbs, 3e-6, "logProbs");
            assertNear(problem.entropy, given.entropy, 3e-6, "entropy");
            assertNear(problem.kl, given.kl, 1e-6, "kl");
            assertNear(problem.dHidden, given.dHidden, 0.5 * unit + 1e-5, "dHidden");
            assertNear(problem.dWeight, given.dWeight, 1e-5, "dWeight");
        }
    }

    // ---- chunks ----

    /** Results depend on a row's logits alone, whatever chunk these were multiplied in; the rest differs by rounding. */
    @Test
    void chunksDoNotMatter() {
        for (ScalarType dtype : new ScalarType[] {ScalarType.Float, ScalarType.BFloat16}) {
            final Problem problem = new Problem(dtype, true, "ghk");
            final Given whole = Given.of(problem, "ghk", true, ROWS, true);
            final float[] logits = logits(problem, ROWS);
            final double unit = 1e-6;
            final double ofHidden = dtype == ScalarType.Float ? unit : 1.0 / 256;
            int same = 0;
            for (int chunkRows : new int[] {1, 2, 5, 8, 36}) {
                final Given parts = Given.of(problem, "ghk", true, chunkRows, true);
                final float[] again = logits(problem, chunkRows);
                final String what = dtype + ", " + chunkRows + " rows a chunk";
                for (int r = 0; r < ROWS; r++) {
                    if (Arrays.equals(logits, 2 * r * VOCAB, 2 * (r + 1) * VOCAB, again, 2 * r * VOCAB, 2 * (r + 1) * VOCAB)) {
                        assertEquals(whole.row(r), parts.row(r), what + ", row " + r + ", to the bit");
                        same++;
                    }
                }
                assertArrayEquals(whole.logProbs, parts.logProbs, (float) (10 * unit), what);
                assertArrayEquals(whole.kl, parts.kl, (float) (10 * unit), what);
                assertArrayEquals(whole.dHidden, parts.dHidden, (float) (10 * ofHidden), what);
                assertArrayEquals(whole.dWeight, parts.dWeight, (float) (20 * unit), what);
            }
            assertTrue(same > 0, "no row's logits are the same in another chunk");
        }
    }

    /** Those of both policies, row after row. */
    private static float[] logits(Problem problem, int chunkRows) {
        final Tensor both = torch.empty(ROWS, 2, VOCAB);
        final double[][][] heads = {problem.hidden, problem.weight, problem.oldHidden, problem.oldWeight};
        for (int from = 0; from < ROWS; from += chunkRows) {
            final int n = Math.min(chunkRows, ROWS - from);
            for (int policy = 0; policy < 2; policy++) {
                final Tensor logits = torch.empty(n, VOCAB);
                HeadProduct.logits(logits, tensor(heads[2 * policy], problem.dtype).narrow(0, from, n),
                        tensor(heads[2 * policy + 1], problem.dtype).narrow(0, 0, VOCAB));
                both.narrow(0, from, n).select(1, policy).copy_(logits);
            }
        }
        return Tiny.floats(both);
    }

    /** The gradient of the f32 logits, taken apart, times hidden states in double: 500 chunks of one row lose nothing of the sum. */
    @Test
    void weightGradientsOfBf16AreSummedInF32() {
        final int rows = 500;
        final SplittableRandom random = new SplittableRandom(9);
        final double[][] h = matrix(random, rows, H, 1, ScalarType.BFloat16);
        final double[][] w = matrix(random, VOCAB, H, 0.3, ScalarType.BFloat16);
        final int[] targets = random.ints(rows, 0, 5).toArray();
        final Tensor hidden = tensor(h, ScalarType.BFloat16);
        final Tensor weight = tensor(w, ScalarType.BFloat16);
        final Tensor ones = torch.ones(rows);
        final Tensor logits = hidden.to(ScalarType.Float).mm(weight.to(ScalarType.Float).t());
        final Tensor logProbs = torch.empty(rows);
        final Tensor lse = torch.empty(rows);
        LogProbs.forward(TensorViews.logits(logits), TensorViews.indices(Tensor.create(targets)), Temperature.ONE,
                TensorViews.floats(logProbs), TensorViews.floats(lse), null);
        LogProbs.backward(TensorViews.logits(logits), TensorViews.indices(Tensor.create(targets)), Temperature.ONE,
                TensorViews.floats(logProbs), TensorViews.floats(lse), null, TensorViews.floats(ones), null,
                TensorViews.logits(logits));
        final float[] d = Tiny.floats(logits);
        final double[][] expected = new double[VOCAB][H];
        for (int r = 0; r < rows; r++) {
            for (int v = 0; v < VOCAB; v++) {
                for (int i = 0; i < H; i++) {
                    expected[v][i] += (double) d[r * VOCAB + v] * h[r][i];
                }
            }
        }
        for (long chunkBytes : new long[] {1, 100 * 4 * VOCAB, LinearLogProbs.CHUNK_BYTES}) {
            final Tensor dWeight = torch.zeros(VOCAB, H);
            try (LinearLogProbs linear = new LinearLogProbs(hidden, weight, null, null, VOCAB, Tensor.create(targets), 1,
                    chunkBytes)) {
                linear.backward(ones, null, null, null, dWeight);
            }
            assertNear(expected, Tiny.floats(dWeight), 2e-6, "dWeight, chunks of " + chunkBytes + " bytes");
        }
    }

    /** A second call has to multiply the logits again, since the first left gradients in their place. */
    @Test
    void aSecondBackwardGivesTheSame() {
        final Problem problem = new Problem(ScalarType.Float, false, "ghk");
        for (int chunkRows : new int[] {10, ROWS}) {
            try (LinearLogProbs rows = problem.open(true, chunkRows)) {
                final List<float[]> gradients = new ArrayList<>();
                for (int call = 0; call < 3; call++) {
                    final Tensor dHidden = torch.empty(ROWS, H);
                    rows.backward(tensor(problem.g), tensor(problem.h), tensor(problem.k), dHidden, null);
                    gradients.add(Tiny.floats(dHidden));
                    if (call == 1) {
                        rows.forward();
                    }
                }
                assertArrayEquals(gradients.get(0), gradients.get(1));
                assertArrayEquals(gradients.get(0), gradients.get(2));
            }
        }
    }

    // ---- logits that are kept ----

    /** With memory for the logits of all rows, some or none: the same bits; and another object takes them from there. */
    @ParameterizedTest
    @EnumSource(value = ScalarType.class, names = {"Float", "BFloat16"})
    void keptLogitsChangeNoBit(ScalarType dtype) {
        final Problem problem = new Problem(dtype, true, "ghk");
        final long[] bounds = {0, 3, 3, 10, 24, 36, 37};
        for (int chunkRows : new int[] {5, 13, ROWS}) {
            final List<Given> first = new ArrayList<>();
            final List<float[]> kls = new ArrayList<>();
            for (int keptRows : new int[] {0, 1, 12, 30, ROWS}) {
                final Tensor dHidden = torch.empty(ROWS, H).to(dtype);
                final Tensor dWeight = torch.zeros(PADDED, H);
                try (Device cpu = new Device("cpu");
                        LinearLogProbs.Kept kept = keptRows == 0 ? null : new LinearLogProbs.Kept(keptRows, VOCAB, cpu)) {
                    try (LinearLogProbs rows = problem.open(false, chunkRows)) {
                        rows.keep(kept);
                        rows.backward(bounds, (from, to) -> {}, tensor(problem.g), tensor(problem.h), null, dHidden, dWeight);
                        first.add(Given.of(rows, dHidden, dWeight));
                    }
                    final Tensor hidden = tensor(problem.hidden, dtype);
                    final Tensor weight = tensor(problem.weight, dtype);
                    try (LinearLogProbs rows = new LinearLogProbs(tensor(problem.oldHidden, dtype), tensor(problem.oldWeight, dtype), hidden, weight,
                            VOCAB, Tensor.create(problem.targets), tensor(problem.temperatures), (long) chunkRows * VOCAB * Float.BYTES)) {
                        rows.keepOld(kept);
                        if (keptRows == ROWS) {
                            weight.fill_(new Scalar(Double.NaN)); // not looked at again
                        }
                        rows.forward(bounds);
                        kls.add(Tiny.floats(rows.kl()));
                    }
                }
                final Given last = first.get(first.size() - 1);
                final String what = chunkRows + " rows a chunk, " + keptRows + " kept";
                assertArrayEquals(first.get(0).logProbs, last.logProbs, what);
                assertArrayEquals(first.get(0).entropy, last.entropy, what);
                assertArrayEquals(first.get(0).dHidden, last.dHidden, what);
                assertArrayEquals(first.get(0).dWeight, last.dWeight, what);
                assertArrayEquals(kls.get(0), kls.get(kls.size() - 1), what);
            }
        }
    }

    // ---- losses of whole sequences ----

    /** Of ratios of messages: a row's gradient depends on all rows of its sequence. */
    private static void squares(LinearLogProbs rows, long[] bounds, int first, int last, Tensor g, Tensor k) {
        for (int s = first; s < last; s++) {
            final long n = bounds[s + 1] - bounds[s];
            if (n > 0) {
                final float sum = rows.logProbs().narrow(0, bounds[s], n).sum().item_float();
                g.narrow(0, bounds[s], n).fill_(new Scalar(sum / ROWS));
                k.narrow(0, bounds[s], n).copy_(rows.kl().narrow(0, bounds[s], n));
            }
        }
    }

    @Test
    void lossesOfSequencesAreThoseOfTwoPasses() {
        final Problem problem = new Problem(ScalarType.Float, true, "gk");
        final long[] bounds = {0, 3, 3, 10, 24, 36, 37};
        for (int chunkRows : new int[] {1, 5, 8, 13, 36, ROWS}) {
            final Tensor g = torch.empty(ROWS);
            final Tensor k = torch.empty(ROWS);
            final Tensor dHidden = torch.empty(ROWS, H);
            final Tensor dWeight = torch.zeros(PADDED, H);
            final Given expected;
            try (LinearLogProbs rows = problem.open(true, chunkRows)) {
                rows.forward();
                squares(rows, bounds, 0, bounds.length - 1, g, k);
                rows.backward(g, null, k, dHidden, dWeight);
                expected = Given.of(rows, dHidden, dWeight);
            }
            g.fill_(new Scalar(Double.NaN));
            k.fill_(new Scalar(Double.NaN));
            dWeight.zero_();
            final List<Integer> asked = new ArrayList<>();
            try (LinearLogProbs rows = problem.open(true, chunkRows)) {
                rows.backward(bounds, (first, last) -> {
                    for (int s = first; s < last; s++) {
                        asked.add(s);
                    }
                    assertTrue(last == first + 1 || bounds[last] - bounds[first] <= chunkRows, "no more than a chunk has room for");
                    squares(rows, bounds, first, last, g, k);
                }, g, null, k, dHidden, dWeight);
                final Given given = Given.of(rows, dHidden, dWeight);
                if (chunkRows == ROWS) {
                    given.assertEqualTo(expected, "in one chunk, to the bit");
                }
                assertArrayEquals(expected.logProbs, given.logProbs, 1e-5f, chunkRows + " rows a chunk");
                assertArrayEquals(expected.kl, given.kl, 1e-6f, chunkRows + " rows a chunk");
                assertArrayEquals(expected.dHidden, given.dHidden, 1e-5f, chunkRows + " rows a chunk");
                assertArrayEquals(expected.dWeight, given.dWeight, 1e-5f, chunkRows + " rows a chunk");
            }
            assertEquals(List.of(0, 1, 2, 3, 4, 5), asked);
        }
    }

    @Test
    void aLossThatThrowsLeavesNoResults() {
        final Problem problem = new Problem(ScalarType.Float, false, "g");
        try (LinearLogProbs rows = problem.open(false, 8)) {
            final Tensor g = torch.empty(ROWS);
            assertThrows(ArithmeticException.class, () -> rows.backward(new long[] {0, 10, ROWS}, (first, last) -> {
                throw new ArithmeticException("a loss of its own");
            }, g, null, null, torch.empty(ROWS, H), null));
            assertThrows(IllegalStateException.class, rows::logProbs);
            for (long[] wrong : new long[][] {{}, {0}, {1, ROWS}, {0, ROWS - 1}, {0, 20, 10, ROWS}, {0, ROWS + 1}}) {
                assertTrue(assertThrows(IllegalArgumentException.class, () -> rows.backward(wrong, (first, last) -> {}, g, null, null,
                        torch.empty(ROWS, H), null)).getMessage().startsWith("cuSeqlens: expected bounds from 0, rising, to the 37 rows"));
            }
        }
    }

    // ---- what is read and written ----

    @Test
    void theWeightsGradientIsAddedToAndPaddingIsLeftAlone() {
        final Problem problem = new Problem(ScalarType.Float, false, "g");
        final Tensor dWeight = torch.full(new long[] {PADDED, H}, new Scalar(0.25f));
        try (LinearLogProbs rows = problem.open(false, 10)) {
            rows.backward(tensor(problem.g), null, null, null, dWeight);
        }
        final double[][] expected = problem.dWeight.clone();
        for (int v = 0; v < PADDED; v++) {
            expected[v] = Arrays.stream(problem.dWeight[v]).map(x -> x + 0.25).toArray();
        }
        assertNear(expected, Tiny.floats(dWeight), 1e-5, "dWeight");
        assertEquals(0.25f, Tiny.floats(dWeight)[PADDED * H - 1]);
    }

    @Test
    void ignoredRowsAreZero() {
        final Problem problem = new Problem(ScalarType.Float, false, "ghk");
        final Given given = Given.of(problem, "ghk", true, 8, true);
        for (int r : IGNORED) {
            for (float[] result : List.of(given.logProbs, given.lse, given.entropy, given.kl)) {
                assertEquals(0, result[r]);
            }
            assertArrayEquals(new float[H], Arrays.copyOfRange(given.dHidden, r * H, (r + 1) * H));
        }
    }

    @Test
    void nanStaysInItsRow() {
        final Problem problem = new Problem(ScalarType.Float, false, "g");
        final Given clean = Given.of(problem, "g", true, 10, true);
        problem.hidden[13][2] = Double.NaN;
        final Given given = Given.of(problem, "g", true, 10, true);
        for (int r = 0; r < ROWS; r++) {
            assertEquals(r == 13, Float.isNaN(given.logProbs[r]) && Float.isNaN(given.kl[r]), "row " + r);
            assertEquals(r == 13, Float.isNaN(given.dHidden[r * H]), "row " + r);
            if (r != 13) {
                assertEquals(clean.logProbs[r], given.logProbs[r]);
            }
        }
    }

    @Test
    void equalPoliciesHaveNoKl() {
        final Problem problem = new Problem(ScalarType.Float, false, "k");
        for (ScalarType dtype : new ScalarType[] {ScalarType.Float, ScalarType.BFloat16, ScalarType.Half}) {
            final Tensor hidden = tensor(problem.hidden, dtype);
            final Tensor weight = tensor(problem.weight, dtype);
            final Tensor dHidden = torch.empty(ROWS, H).to(dtype);
            try (LinearLogProbs rows = new LinearLogProbs(hidden, weight, hidden.clone(), weight.clone(), VOCAB,
                    Tensor.create(problem.targets), 0.8, 7 * 4 * VOCAB)) {
                rows.backward(null, null, tensor(problem.k), dHidden, null);
                assertArrayEquals(new float[ROWS], Tiny.floats(rows.kl()));
                assertArrayEquals(new float[ROWS * H], Tiny.floats(dHidden));
            }
        }
    }

    /** Parts of larger tensors, int64 targets, arguments that autograd watches and that are closed before the call. */
    @Test
    void argumentsMayBeViewsAndLeaves() {
        final Problem problem = new Problem(ScalarType.Float, true, "ghk");
        final Given expected = Given.of(problem, "ghk", true, 9, true);
        final Tensor wide = torch.zeros(ROWS, H + 3);
        wide.narrow(1, 2, H).copy_(tensor(problem.hidden, ScalarType.Float));
        final Tensor hidden = wide.narrow(1, 2, H);
        final Tensor weight = tensor(problem.weight, ScalarType.Float).t().contiguous().t().set_requires_grad(true);
        final Tensor targets = Tensor.create(problem.targets).to(ScalarType.Long);
        final Tensor flat = torch.zeros(PADDED * H + 5L);
        final Tensor dWeight = flat.narrow(0, 5, PADDED * H).view(PADDED, H);
        final Tensor dHidden = torch.empty(ROWS, H);
        try (LinearLogProbs rows = new LinearLogProbs(hidden, weight, tensor(problem.oldHidden, ScalarType.Float),
                tensor(problem.oldWeight, ScalarType.Float), VOCAB, targets, tensor(problem.temperatures), 9 * 4 * VOCAB)) {
            targets.close();
            weight.close();
            hidden.close();
            rows.backward(tensor(problem.g), tensor(problem.h), tensor(problem.k), dHidden, dWeight);
            final Given given = Given.of(rows, dHidden, dWeight);
            assertArrayEquals(expected.logProbs, given.logProbs, 2e-6f);
            assertArrayEquals(expected.dHidden, given.dHidden, 4e-6f);
            assertArrayEquals(expected.dWeight, given.dWeight, 1e-5f);
        }
    }

    /** hidden.backward(dHidden): on through libtorch's graph. */
    @Test
    void theGradientGoesBackThroughAGraph() {
        final Problem problem = new Problem(ScalarType.Float, false, "g");
        final Tensor x = torch.randn(ROWS, 7);
        final Tensor layer = torch.randn(7, H).set_requires_grad(true);
        final Tensor targets = torch.randint(VOCAB, new long[] {ROWS}).to(ScalarType.Long);
        final Tensor weight = tensor(problem.weight, ScalarType.Float).narrow(0, 0, VOCAB);
        torch.log_softmax(x.mm(layer).mm(weight.t()), 1).gather(1, targets.unsqueeze(1)).squeeze(1).mul(tensor(problem.g)).sum()
                .backward();
        final float[] expected = Tiny.floats(layer.grad());
        layer.mutable_grad().zero_();
        final Tensor hidden = x.mm(layer);
        final Tensor dHidden = torch.empty(ROWS, H);
        try (LinearLogProbs rows = new LinearLogProbs(hidden, weight, null, null, VOCAB, targets, 1, 1000)) {
            rows.backward(tensor(problem.g), null, null, dHidden, null);
        }
        hidden.backward(dHidden, new BoolOptional(), false, new TensorArrayRefOptional());
        assertArrayEquals(expected, Tiny.floats(layer.grad()), 1e-4f);
    }

    @Test
    void noRowsAreNoWork() {
        final Tensor hidden = torch.empty(0, H);
        final Tensor dWeight = torch.ones(VOCAB, H);
        final Tensor targets = Tensor.create(new int[0]);
        try (LinearLogProbs rows = new LinearLogProbs(hidden, torch.randn(VOCAB, H), null, null, VOCAB, targets, 1, 1)) {
            rows.forward();
            rows.backward(torch.empty(0), null, null, torch.empty(0, H), dWeight);
            assertEquals(0, rows.logProbs().numel());
        }
        assertEquals(VOCAB * H, dWeight.sum().item_double());
    }

    // ---- errors ----

    @Test
    void whatIsWrongIsNamed() {
        final Tensor hidden = torch.randn(4, H);
        final Tensor weight = torch.randn(VOCAB, H);
        final Tensor targets = Tensor.create(0, 60, -100, 5);
        final Map<String, Executable> calls = new LinkedHashMap<>();
        calls.put("hidden: expected a tensor, given null", () -> make(null, weight, null, null, VOCAB, targets));
        calls.put("hidden: expected a tensor, given one that was closed",
                () -> make(closed(), weight, null, null, VOCAB, targets));
        calls.put("weight: expected a tensor, given an undefined one",
                () -> make(hidden, new Tensor(), null, null, VOCAB, targets));
        calls.put("hidden: expected 2 dimensions of float32, bfloat16 or float16, given Float [4]",
                () -> make(torch.randn(4), weight, null, null, VOCAB, targets));
        calls.put("hidden: expected 2 dimensions of float32, bfloat16 or float16, given Double [4, 24]",
                () -> make(hidden.to(ScalarType.Double), weight, null, null, VOCAB, targets));
        calls.put("weight: expected Float [61, 24] on cpu, as hidden is, given Float [61, 23] on cpu",
                () -> make(hidden, torch.randn(VOCAB, H - 1), null, null, VOCAB, targets));
        calls.put("weight: expected Float [61, 24] on cpu, as hidden is, given BFloat16 [61, 24] on cpu",
                () -> make(hidden, weight.to(ScalarType.BFloat16), null, null, VOCAB, targets));
        calls.put("vocab: expected 1 to 61, the rows of weight, given 62",
                () -> make(hidden, weight, null, null, VOCAB + 1, targets));
        calls.put("vocab: expected 1 to 61, the rows of weight, given 0", () -> make(hidden, weight, null, null, 0, targets));
        calls.put("oldHidden, oldWeight: expected both or neither, given only oldHidden",
                () -> make(hidden, weight, hidden, null, VOCAB, targets));
        calls.put("oldHidden: expected Float [4, 24] on cpu, as hidden is, given Float [3, 24] on cpu",
                () -> make(hidden, weight, hidden.narrow(0, 0, 3), weight, VOCAB, targets));
        calls.put("vocab: expected 1 to 60, the rows of oldWeight, given 61",
                () -> make(hidden, weight, hidden, weight.narrow(0, 0, 60), VOCAB, targets));
        calls.put("targets: expected Long [4] on cpu, as hidden is, given Float [4] on cpu",
                () -> make(hidden, weight, null, null, VOCAB, torch.randn(4)));
        calls.put("targets: expected Int [4] on cpu, as hidden is, given Int [3] on cpu",
                () -> make(hidden, weight, null, null, VOCAB, Tensor.create(1, 2, 3)));
        calls.put("targets[3]: expected 0 to 60, or -100 for a row to ignore, given 61",
                () -> make(hidden, weight, null, null, VOCAB, Tensor.create(0, 1, 2, 61)));
        calls.put("targets[1]: expected 0 to 60, or -100 for a row to ignore, given -1",
                () -> make(hidden, weight, null, null, VOCAB, Tensor.create(0, -1, 2, 61)));
        calls.put("temperature: expected more than 0 and finite, given 0.0",
                () -> new LinearLogProbs(hidden, weight, null, null, VOCAB, targets, 0, 1));
        calls.put("temperature: expected more than 0 and finite, given NaN",
                () -> new LinearLogProbs(hidden, weight, null, null, VOCAB, targets, Double.NaN, 1));
        calls.put("temperatures[2]: expected more than 0 and finite, given -1.0",
                () -> new LinearLogProbs(hidden, weight, null, null, VOCAB, targets, Tensor.create(1f, 1f, -1f, 0f), 1));
        calls.put("temperatures: expected a tensor, given null",
                () -> new LinearLogProbs(hidden, weight, null, null, VOCAB, targets, null, 1));
        calls.put("chunkBytes: expected 1 or more, given 0",
                () -> new LinearLogProbs(hidden, weight, null, null, VOCAB, targets, 1, 0));
        final LinearLogProbs rows = make(hidden, weight, null, null, VOCAB, targets);
        final Tensor g = torch.ones(4);
        calls.put("gradLogProbs, gradEntropy, gradKl: expected at least one, given null for all",
                () -> rows.backward(null, null, null, torch.empty(4, H), null));
        calls.put("gradKl: expected null, since there are no old hidden states, given a tensor",
                () -> rows.backward(null, null, g, torch.empty(4, H), null));
        calls.put("gradEntropy: expected Float [4] on cpu, as hidden is, given Float [5] on cpu",
                () -> rows.backward(g, torch.ones(5), null, torch.empty(4, H), null));
        calls.put("gradLogProbs: expected a contiguous tensor, given Float [4]",
                () -> rows.backward(torch.ones(8, 2).select(1, 0).narrow(0, 0, 4), null, null, torch.empty(4, H), null));
        calls.put("dHidden: expected Float [4, 24] on cpu, as hidden is, given Float [4, 23] on cpu",
                () -> rows.backward(g, null, null, torch.empty(4, H - 1), null));
        calls.put("dWeight: expected Float [61, 24] on cpu, as hidden is, given BFloat16 [61, 24] on cpu",
                () -> rows.backward(g, null, null, null, weight.to(ScalarType.BFloat16)));
        calls.put("dWeight: expected a contiguous tensor, given Float [61, 24]",
                () -> rows.backward(g, null, null, null, torch.empty(H, VOCAB).t()));
        calls.put("dWeight: expected memory apart from weight, given an overlap",
                () -> rows.backward(g, null, null, null, weight));
        calls.put("dHidden: expected memory apart from hidden, given an overlap",
                () -> rows.backward(g, null, null, hidden, null));
        calls.forEach((message, call) -> assertEquals(message, assertThrows(IllegalArgumentException.class, call).getMessage()));

        assertThrows(IllegalStateException.class, rows::logProbs, "nothing has been computed");
        rows.forward();
        assertTrue(Tiny.floats(rows.logProbs())[0] < 0);
        rows.close();
        rows.close();
        assertEquals("linearLogProbs: closed", assertThrows(IllegalStateException.class, rows::forward).getMessage());
        assertThrows(IllegalStateException.class, () -> rows.backward(g, null, null, torch.empty(4, H), null));
        assertThrows(IllegalStateException.class, rows::logProbs);
    }

    private static LinearLogProbs make(Tensor hidden, Tensor weight, Tensor oldHidden, Tensor oldWeight, long vocab,
            Tensor targets) {
        return new LinearLogProbs(hidden, weight, oldHidden, oldWeight, vocab, targets, 1, LinearLogProbs.CHUNK_BYTES);
    }

    private static Tensor closed() {
        final Tensor tensor = torch.randn(4, H);
        tensor.close();
        return tensor;
    }

    @Test
    void everythingIsClosed() {
        final Problem problem = new Problem(ScalarType.BFloat16, true, "ghk");
        Given.of(problem, "ghk", true, 8, true); // loads classes
        final long before = Pointer.totalCount();
        try (PointerScope inner = new PointerScope()) {
            Given.of(problem, "ghk", true, 8, true);
        }
        assertFalse(Pointer.totalCount() > before, () -> Pointer.totalCount() - before + " native objects are left over");
    }
}
