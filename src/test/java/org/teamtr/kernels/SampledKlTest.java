package org.teamtr.kernels;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.teamtr.kernels.SampledKl.Estimator;

/** {@link SampledKl}: the four estimators, sums over messages, the direction, and what they are in expectation. */
class SampledKlTest {
    private static double formula(Estimator estimator, double logOld, double logNew) {
        final double d = logOld - logNew;
        return switch (estimator) {
            case K1 -> d;
            case K2 -> d * d / 2;
            case K3 -> Math.exp(-d) - 1 + d;
            case ABS -> Math.abs(d);
        };
    }

    private static float[] perToken(Estimator estimator, float[] old, float[] fresh) {
        try (Floats o = Floats.ofFloats(old); Floats n = Floats.ofFloats(fresh); Floats out = Floats.allocate(old.length)) {
            SampledKl.compute(estimator, o, n, null, out, null);
            return out.toArray();
        }
    }

    private static float[] perMessage(Estimator estimator, float[] old, float[] fresh, Indices cuSeqlens, boolean alone) {
        try (Floats o = Floats.ofFloats(old);
                Floats n = Floats.ofFloats(fresh);
                Floats tokens = Floats.allocate(old.length);
                Floats out = Floats.allocate(cuSeqlens.length() - 1)) {
            SampledKl.compute(estimator, o, n, cuSeqlens, alone ? null : tokens, out);
            if (!alone) {
                assertArrayEquals(perToken(estimator, old, fresh), tokens.toArray());
            }
            return out.toArray();
        }
    }

    @Test
    void everyEstimatorPerTokenAndPerMessage() {
        final Random random = new Random(1);
        final int[] lengths = {3, 0, 1, 0, 0, 700, 5, 0};
        final long[] bounds = new long[lengths.length + 1];
        for (int m = 0; m < lengths.length; m++) {
            bounds[m + 1] = bounds[m] + lengths[m];
        }
        final int tokens = (int) bounds[lengths.length];
        final float[] old = new float[tokens];
        final float[] fresh = new float[tokens];
        double worst = 0;
        for (double spread : new double[] {1e-4, 0.1, 3}) {
            for (int u = 0; u < tokens; u++) {
                old[u] = (float) (-3 + random.nextGaussian());
                fresh[u] = u % 10 == 0 ? old[u] : (float) (old[u] + spread * random.nextGaussian());
            }
            for (Estimator estimator : Estimator.values()) {
                final float[] each = perToken(estimator, old, fresh);
                final double[] sums = new double[lengths.length];
                for (int m = 0; m < lengths.length; m++) {
                    for (int u = (int) bounds[m]; u < bounds[m + 1]; u++) {
                        final double expected = formula(estimator, old[u], fresh[u]);
                        assertEquals(expected, each[u], 1e-7 * Math.abs(expected) + 3e-16, estimator + " " + spread + " token "
                                + u);
                        sums[m] += expected;
                    }
                }
                for (boolean alone : new boolean[] {false, true}) {
                    try (Indices longs = Indices.ofLongs(bounds);
                            Indices ints = Indices.ofInts(Arrays.stream(bounds).mapToInt(Math::toIntExact).toArray())) {
                        final float[] out = perMessage(estimator, old, fresh, longs, alone);
                        assertArrayEquals(out, perMessage(estimator, old, fresh, ints, alone), "int32 bounds");
                        for (int m = 0; m < lengths.length; m++) {
                            assertEquals(sums[m], out[m], 1e-7 * Math.abs(sums[m]) + 1e-13, estimator + " message " + m);
                            worst = sums[m] == 0 ? worst : Math.max(worst, Math.abs(out[m] / sums[m] - 1));
                        }
                        assertEquals(0f, out[1], "an empty message");
                    }
                }
            }
        }
        System.out.printf("SampledKl: worst relative error of a message's sum %.1e%n", worst);
    }

    /**
     * A categorical that can be enumerated: token v stands for a share old[v] of the samples. Then E[k1] = E[k3] = KL(old || new),
     * and KL(new || old), which differs by a third, is neither.
     */
    @Test
    void inExpectationK1AndK3AreTheExactKlOfOldToNew() {
        final double[] p = {0.5, 0.25, 0.125, 0.0625, 0.0625};
        final double[] q = {0.1, 0.2, 0.3, 0.15, 0.25};
        final float[] old = new float[p.length];
        final float[] fresh = new float[p.length];
        double oldNew = 0;
        double newOld = 0;
        for (int v = 0; v < p.length; v++) {
            old[v] = (float) Math.log(p[v]);
            fresh[v] = (float) Math.log(q[v]);
            oldNew += p[v] * Math.log(p[v] / q[v]);
            newOld += q[v] * Math.log(q[v] / p[v]);
        }
        assertTrue(Math.abs(oldNew / newOld - 1) > 0.05, "a case that tells the directions apart: " + oldNew + ", " + newOld);
        for (Estimator estimator : new Estimator[] {Estimator.K1, Estimator.K3}) {
            final float[] each = perToken(estimator, old, fresh);
            double expectation = 0;
            for (int v = 0; v < p.length; v++) {
                expectation += p[v] * each[v];
            }
            assertEquals(oldNew, expectation, 1e-7, estimator.toString());
        }
        // TokenKl on the same two distributions says the same.
        try (Floats a = Floats.ofFloats(old); Floats b = Floats.ofFloats(fresh); Floats kl = Floats.allocate(1)) {
            final Logits oldLogits = Logits.ofAddress(a.address(), 20, DType.F32, 1, 1, 5, 0, 5, a);
            final Logits newLogits = Logits.ofAddress(b.address(), 20, DType.F32, 1, 1, 5, 0, 5, b);
            TokenKl.oldNew(oldLogits, newLogits, kl);
            assertEquals(oldNew, kl.get(0), TestDevice.CUDA ? 1e-6 : 1e-7); // three roundings of f32 for a device's sum
        }
    }

    /** Chain rule, exactly: two tokens of which the second depends on the first; the messages' sums have the joint KL as mean. */
    @Test
    void summedOverAMessageTheyAreTheKlOfTheMessage() {
        final double[] first = {0.7, 0.3};
        final double[] firstNew = {0.4, 0.6};
        final double[][] second = {{0.9, 0.1}, {0.2, 0.8}};
        final double[][] secondNew = {{0.5, 0.5}, {0.3, 0.7}};
        final float[] old = new float[8];
        final float[] fresh = new float[8];
        final double[] weight = new double[4];
        double joint = 0;
        for (int a = 0; a < 2; a++) {
            for (int b = 0; b < 2; b++) {
                final int m = 2 * a + b;
                old[2 * m] = (float) Math.log(first[a]);
                fresh[2 * m] = (float) Math.log(firstNew[a]);
                old[2 * m + 1] = (float) Math.log(second[a][b]);
                fresh[2 * m + 1] = (float) Math.log(secondNew[a][b]);
                weight[m] = first[a] * second[a][b];
                joint += weight[m] * Math.log(weight[m] / (firstNew[a] * secondNew[a][b]));
            }
        }
        for (Estimator estimator : new Estimator[] {Estimator.K1, Estimator.K3}) {
            try (Indices bounds = Indices.ofInts(0, 2, 4, 6, 8)) {
                final float[] sums = perMessage(estimator, old, fresh, bounds, true);
                double expectation = 0;
                for (int m = 0; m < 4; m++) {
                    expectation += weight[m] * sums[m];
                }
                assertEquals(joint, expectation, 2e-7, estimator.toString());
            }
        }
    }

    @Test
    void k3IsNeverNegativeAndDoesNotCancel() {
        for (double d = 1e-9; d < 1; d *= 1.5) {
            for (double signed : new double[] {d, -d}) {
                final float k3 = perToken(Estimator.K3, new float[] {0}, new float[] {(float) signed})[0];
                final double x = (float) signed;
                final double exact = x * x / 2 + x * x * x / 6 + x * x * x * x / 24 + x * x * x * x * x / 120;
                assertTrue(k3 >= 0, "k3 at " + signed);
                // last: expm1's own
                assertEquals(1, k3 / exact, 1e-2 * d * d * d * d + 2e-7 + 2e-16 / Math.abs(x), "k3 at " + signed);
            }
        }
        assertEquals(0f, perToken(Estimator.K3, new float[] {-7.3f}, new float[] {-7.3f})[0]);
    }

    @Test
    void infinitiesAndNaNReachTheirMessageOnly() {
        final float inf = Float.POSITIVE_INFINITY;
        final float[] old = {-1, -inf, -1, Float.NaN, -2, -inf};
        final float[] fresh = {-inf, -1, -2, -1, -2.5f, -inf};
        final float nan = Float.NaN;
        assertArrayEquals(new float[] {inf, -inf, 1, nan, 0.5f, nan}, perToken(Estimator.K1, old, fresh));
        assertArrayEquals(new float[] {inf, inf, 0.5f, nan, 0.125f, nan}, perToken(Estimator.K2, old, fresh));
        assertArrayEquals(new float[] {inf, inf, 1, nan, 0.5f, nan}, perToken(Estimator.ABS, old, fresh));
        final float[] k3 = perToken(Estimator.K3, old, fresh);
        assertArrayEquals(new float[] {inf, inf, nan, nan}, new float[] {k3[0], k3[1], k3[3], k3[5]});
        try (Indices bounds = Indices.ofInts(0, 2, 3, 4, 6)) {
            assertArrayEquals(new float[] {nan, 1, nan, nan}, perMessage(Estimator.K1, old, fresh, bounds, true));
            assertArrayEquals(new float[] {inf, 0.5f, nan, nan}, perMessage(Estimator.K2, old, fresh, bounds, true));
        }
    }

    @Test
    void noTokensAndNoMessages() {
        assertEquals(0, perToken(Estimator.K1, new float[0], new float[0]).length);
        try (Indices none = Indices.ofInts(0); Indices empties = Indices.ofLongs(0, 0, 0)) {
            assertEquals(0, perMessage(Estimator.K3, new float[0], new float[0], none, true).length);
            assertArrayEquals(new float[2], perMessage(Estimator.K3, new float[0], new float[0], empties, false));
        }
    }
}
