package org.teamtr.kernels;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.teamtr.kernels.TestData.Forward;
import org.teamtr.kernels.TestData.Matrix;
import org.teamtr.kernels.TestData.Worst;

/** A vocabulary cut into shards gives what the whole one gives. */
class VocabParallelTest extends TestData.Scoped {
    /** Where shards end: of equal width, uneven, one of a single column, more than fit a vector. */
    private static int[][] cuts(int vocab) {
        return new int[][] {
            {0, vocab},
            {0, vocab / 3, vocab},
            {0, 1, vocab / 2, vocab},
            {0, vocab / 9, vocab / 8, vocab / 4, vocab / 3, vocab / 2, vocab - 65, vocab - 1, vocab},
        };
    }

    /** Columns {@code from .. to} of a matrix, as a rank would hold them. */
    private static Matrix shard(Matrix x, int from, int to) {
        final Matrix shard = TestData.matrix(x.dtype, x.rows, to - from);
        for (int r = 0; r < x.rows; r++) {
            shard.setRow(r, Arrays.copyOfRange(x.row(r), from, to));
        }
        return shard;
    }

    private static Forward forward(Matrix x, int[] cuts, Indices targets, Temperature temperature) {
        final int shards = cuts.length - 1;
        final Floats parts = Floats.allocate((long) shards * x.rows * VocabParallel.PARTS_PER_ROW);
        final int size = x.rows * VocabParallel.PARTS_PER_ROW;
        for (int s = 0; s < shards; s++) {
            VocabParallel.parts(shard(x, cuts[s], cuts[s + 1]).logits, targets, cuts[s], x.vocab, temperature,
                    parts.slice((long) s * size, (s + 1L) * size));
        }
        final Floats logProbs = Floats.allocate(x.rows);
        final Floats lse = Floats.allocate(x.rows);
        final Floats entropy = Floats.allocate(x.rows);
        VocabParallel.merge(parts, shards, targets, temperature, logProbs, lse, entropy);
        return new Forward(logProbs.toArray(), lse.toArray(), entropy.toArray());
    }

    private static int[] targets(Matrix x, int variant) {
        final int[] ids = new int[x.rows];
        for (int r = 0; r < x.rows; r++) {
            ids[r] = variant == 0 ? TestData.largest(x.row(r)) : (x.vocab - 1) * r / x.rows;
        }
        return ids;
    }

    @ParameterizedTest
    @EnumSource(DType.class)
    void mergedPartsAreTheUnshardedResult(DType dtype) {
        for (int vocab : new int[] {200, 20011}) {
            final Matrix x = TestData.matrix(dtype, TestData.shapes(vocab, 1));
            final float[] temperatures = new float[x.rows];
            for (int r = 0; r < x.rows; r++) {
                temperatures[r] = r % 2 == 0 ? 1 : 0.3f + 0.2f * r;
            }
            for (Temperature temperature : new Temperature[] {Temperature.ONE, Temperature.perRow(Floats.ofFloats(temperatures))}) {
                for (int variant = 0; variant < 2; variant++) {
                    final Indices targets = Indices.ofInts(targets(x, variant));
                    final Forward whole = Forward.of(x.logits, targets, temperature);
                    for (int[] cuts : cuts(vocab)) {
                        compare(whole, forward(x, cuts, targets, temperature), dtype + " in " + (cuts.length - 1) + " shards");
                    }
                }
            }
        }
    }

    private static void compare(Forward expected, Forward given, String what) {
        final Worst logProb = new Worst("merged log-prob, " + what);
        final Worst lse = new Worst("merged lse, " + what);
        final Worst entropy = new Worst("merged entropy, " + what);
        for (int r = 0; r < expected.lse().length; r++) {
            logProb.see(given.logProbs()[r], expected.logProbs()[r], 2e-6 + 5e-7 * Math.abs(expected.logProbs()[r]), r, 0);
            lse.see(given.lse()[r], expected.lse()[r], 2e-6 + 5e-7 * Math.abs(expected.lse()[r]), r, 0);
            entropy.see(given.entropy()[r], expected.entropy()[r], 2e-6 + 5e-7 * Math.abs(expected.entropy()[r]), r, 0);
        }
        logProb.check();
        lse.check();
        entropy.check();
    }

    /** The largest element of a row is where 1 - p matters; its shard sends the sum without it, so nothing is lost. */
    @Test
    void logProbsNearZeroKeepTheirDigits() {
        final double[][] rows = new double[9][];
        for (int r = 0; r < rows.length; r++) {
            rows[r] = TestData.with(TestData.gaussian(r, 999, 0.1), 500, 8 + 3 * r);
        }
        final Matrix x = TestData.matrix(DType.F32, rows);
        final int[] ids = new int[rows.length];
        Arrays.fill(ids, 500);
        for (int[] cuts : cuts(999)) {
            final float[] given = forward(x, cuts, Indices.ofInts(ids), Temperature.ONE).logProbs();
            for (int r = 0; r < rows.length; r++) {
                final double expected = x.softmax(r, 1).logP[500];
                assertEquals(expected, given[r], 2e-6 * -expected);
            }
        }
    }

    @Test
    void shardsMayBeFullyMasked() {
        final double[] x = TestData.gaussian(2, 300, 3);
        final double[] masked = TestData.row(300, v -> TestData.MASKED);
        final Matrix m = TestData.matrix(DType.F32, TestData.row(300, v -> v < 100 ? TestData.MASKED : x[v]),
                TestData.row(300, v -> v >= 200 ? TestData.MASKED : x[v]), TestData.with(masked, 150, -7), masked);
        final Indices targets = Indices.ofInts(250, 20, 150, 0);
        final Forward whole = Forward.of(m.logits, targets, Temperature.ONE);
        final Forward given = forward(m, new int[] {0, 100, 200, 300}, targets, Temperature.ONE);
        compare(whole, given, "masked shards");
        assertEquals(0, given.logProbs()[2]);
        assertEquals(-7, given.lse()[2]);
        assertTrue(Float.isNaN(given.lse()[3]) && Float.isNaN(given.logProbs()[3]) && Float.isNaN(given.entropy()[3]));
    }

    /** A bad number in one shard is the whole row's, whatever the other shards hold; and that row's alone. */
    @ParameterizedTest
    @ValueSource(floats = {Float.NaN, Float.POSITIVE_INFINITY})
    void aBadLogitInAnyShardMakesItsRowNaN(float bad) {
        for (int at : new int[] {0, 99, 100, 250, 299}) {
            final Matrix m = TestData.matrix(DType.F32, TestData.gaussian(3, 300, 2),
                    TestData.with(TestData.gaussian(4, 300, 2), at, bad), TestData.row(300, v -> v == at ? bad : TestData.MASKED));
            final Indices targets = Indices.ofInts(7, 7, 7);
            final Forward whole = Forward.of(m.logits, targets, Temperature.ONE);
            final Forward given = forward(m, new int[] {0, 100, 200, 300}, targets, Temperature.ONE);
            compare(whole, given, "bad logit");
            for (int r = 1; r < 3; r++) {
                assertTrue(Float.isNaN(given.lse()[r]) && Float.isNaN(given.logProbs()[r]) && Float.isNaN(given.entropy()[r]));
            }
        }
    }

    /** Sums are moved to the larger maximum: whatever lies more than 700 below vanishes without a trace. */
    @Test
    void shardsMayDifferByThousands() {
        final double[] x = TestData.gaussian(5, 400, 1);
        final Matrix m = TestData.matrix(DType.F32, TestData.row(400, v -> x[v] - 3000 + 1000 * (v / 100)),
                TestData.row(400, v -> x[v] - 1000 * (v / 100)), TestData.row(400, v -> x[v] + 80 * (v / 100 % 2)));
        final Indices targets = Indices.ofInts(350, 50, 150);
        compare(Forward.of(m.logits, targets, Temperature.ONE),
                forward(m, new int[] {0, 100, 200, 300, 400}, targets, Temperature.ONE), "far apart");
    }

    @Test
    void ignoredRowsAreZero() {
        final Matrix m = TestData.matrix(DType.F32, TestData.row(10, v -> Double.NaN), TestData.gaussian(6, 10, 1));
        final Indices targets = Indices.ofLongs(Indices.IGNORE, 9);
        final Forward given = forward(m, new int[] {0, 4, 10}, targets, Temperature.ONE);
        assertArrayEquals(new float[] {0, (float) m.softmax(1, 1).lse}, given.lse(), 1e-6f);
        assertArrayEquals(new float[] {0, (float) m.softmax(1, 1).logP[9]}, given.logProbs(), 1e-6f);
        assertEquals(0, given.entropy()[0]);
    }

    @ParameterizedTest
    @EnumSource(DType.class)
    void gradientsOfShardsAreThoseOfTheWhole(DType dtype) {
        final int vocab = 3001;
        final Matrix x = TestData.matrix(dtype, TestData.shapes(vocab, 7));
        final Temperature temperature = Temperature.of(0.8f);
        final float[] g = new float[x.rows];
        final float[] h = new float[x.rows];
        for (int r = 0; r < x.rows; r++) {
            g[r] = r - 6;
            h[r] = r % 3 == 0 ? 0 : 0.2f * r - 1;
        }
        for (int variant = 0; variant < 2; variant++) {
            final int[] ids = targets(x, variant);
            final Indices targets = Indices.ofInts(ids);
            final Forward forward = Forward.of(x.logits, targets, temperature);
            final Floats logProbs = Floats.ofFloats(forward.logProbs());
            final Floats lse = Floats.ofFloats(forward.lse());
            final Floats entropy = Floats.ofFloats(forward.entropy());
            final Matrix whole = x.like();
            LogProbs.backward(x.logits, targets, temperature, logProbs, lse, entropy, Floats.ofFloats(g), Floats.ofFloats(h), whole.logits);
            final double[][] limits = limits(x, g, h, forward);
            for (int[] cuts : cuts(vocab)) {
                final Worst worst = new Worst("gradient in " + (cuts.length - 1) + " shards, " + dtype);
                for (int s = 0; s + 1 < cuts.length; s++) {
                    final Matrix part = shard(x, cuts[s], cuts[s + 1]);
                    VocabParallel.backward(part.logits, targets, cuts[s], vocab, temperature, logProbs, lse, entropy,
                            Floats.ofFloats(g), Floats.ofFloats(h), part.logits);
                    for (int r = 0; r < x.rows; r++) {
                        for (int v = 0; v < part.vocab; v++) {
                            final int at = cuts[s] + v;
                            final double limit = at == ids[r] ? 0 : limits[r][at]; // the target's is formed from the saved log-prob
                            worst.see(part.get(r, v), whole.get(r, at), limit, r, at);
                        }
                    }
                }
                worst.check();
            }
        }
    }

    /**
     * Relative to the terms of an element. A shard measures from lse, and from the log-prob only if it has the target: the two are
     * saved as f32, and differ by half an ulp of each.
     */
    private static double[][] limits(Matrix x, float[] g, float[] h, Forward forward) {
        final double[][] limits = new double[x.rows][];
        for (int r = 0; r < x.rows; r++) {
            final Reference.Softmax s = x.softmax(r, 0.8f);
            final double relative = 4e-6 + 1.2e-7 * (Math.abs(forward.lse()[r]) + Math.abs(forward.logProbs()[r]));
            final double ofG = Math.abs(g[r]) / 0.8;
            final double ofH = Math.abs(h[r]) / 0.8;
            limits[r] = TestData.row(x.vocab, v -> {
                final double size = s.p(v) == 0 ? 0 : s.p(v) * (ofG + ofH * (Math.abs(s.logP[v]) + s.entropy));
                return relative * size + 1e-36 + (x.dtype == DType.F32 ? 0 : Reference.ulp(x.dtype, size));
            });
        }
        return limits;
    }
}
