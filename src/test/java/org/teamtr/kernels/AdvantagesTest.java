package org.teamtr.kernels;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.Random;
import org.junit.jupiter.api.Test;

/** {@link Advantages}, Eq. 9. */
class AdvantagesTest {
    private static final double INF = Double.POSITIVE_INFINITY;

    /** {@return advantages and centred returns} */
    private static float[][] call(int groupSize, double epsNorm, double clip, boolean normalise, float... returns) {
        try (Floats r = Floats.ofFloats(returns);
                Floats a = Floats.allocate(returns.length);
                Floats c = Floats.allocate(returns.length)) {
            Advantages.groupNormalised(r, groupSize, epsNorm, clip, normalise, a, null);
            final float[] alone = a.toArray();
            Advantages.groupNormalised(r, groupSize, epsNorm, clip, normalise, a, c);
            assertArrayEquals(alone, a.toArray(), "without the centred output");
            assertArrayEquals(returns, r.toArray(), "the returns are only read");
            return new float[][] {a.toArray(), c.toArray()};
        }
    }

    /** Mean 2, population variance (4 + 1 + 1 + 4) / 4 = 2.5; with eps 1.5 inside the root sigma is 2. */
    @Test
    void byHand() {
        assertArrayEquals(new float[] {-1, -0.5f, 0.5f, 1}, call(4, 1.5, INF, true, 0, 1, 3, 4)[0], 0);
        assertArrayEquals(new float[] {-0.9f, -0.5f, 0.5f, 0.9f}, call(4, 1.5, (double) 0.9f, true, 0, 1, 3, 4)[0], 0);
        assertArrayEquals(new float[] {-2, -1, 1, 2}, call(4, 1.5, INF, true, 0, 1, 3, 4)[1], 0);
        assertArrayEquals(new float[] {-2, -1, 1, 2}, call(4, 1.5, INF, false, 0, 1, 3, 4)[0], 0);
        assertArrayEquals(new float[] {-1.5f, -1, 1, 1.5f}, call(4, 1.5, 1.5, false, 0, 1, 3, 4)[0], 0);
        assertArrayEquals(new float[] {-2, -1, 1, 2}, call(4, 1.5, 1.5, false, 0, 1, 3, 4)[1], 0, "centred is before the clip");
        // Not the sample's deviation (sqrt(10/3) = 1.826), and eps not outside the root (1.581 + 1.5).
        assertEquals(-2 / Math.sqrt(2.5), call(4, 0, INF, true, 0, 1, 3, 4)[0][0], 1e-7);
        // 0/1 rewards, one of four right: mu 1/4, sigma sqrt(3)/4.
        assertArrayEquals(new float[] {(float) Math.sqrt(3), (float) (-1 / Math.sqrt(3)), (float) (-1 / Math.sqrt(3)),
            (float) (-1 / Math.sqrt(3))}, call(4, 0, INF, true, 1, 0, 0, 0)[0], 1e-7f);
    }

    @Test
    void groupsStandAlone() {
        final float[] both = call(4, 0.01, 1.2, true, 0, 1, 3, 4, 5, 5, 5, 6)[0];
        assertArrayEquals(call(4, 0.01, 1.2, true, 0, 1, 3, 4)[0], Arrays.copyOf(both, 4));
        assertArrayEquals(call(4, 0.01, 1.2, true, 5, 5, 5, 6)[0], Arrays.copyOfRange(both, 4, 8));
    }

    @Test
    void equalReturnsAreExactlyZero() {
        for (float value : new float[] {0, 1, -1, 0.1f, 1e30f / 3, 1e-40f, 16777217, -3.3333333f}) {
            for (int size : new int[] {1, 2, 3, 7, 1000}) {
                for (double eps : new double[] {0, 1e-8}) {
                    final float[] returns = new float[2 * size];
                    Arrays.fill(returns, value);
                    returns[size] = value + 1; // the neighbour group is not equal (where the sum is another number)
                    for (boolean normalise : new boolean[] {true, false}) {
                        final float[][] out = call(size, eps, INF, normalise, returns);
                        assertArrayEquals(new float[size], Arrays.copyOf(out[0], size), value + ", " + size);
                        assertArrayEquals(new float[size], Arrays.copyOf(out[1], size), value + ", " + size);
                    }
                }
            }
        }
    }

    /** |A| <= sqrt(G - 1), reached by one success among G; a clip above it never acts, one below it does. */
    @Test
    void theBoundIsReachedAndNeverPassed() {
        final Random random = new Random(4);
        for (int size : new int[] {2, 4, 8, 16, 64}) {
            final double bound = Math.sqrt(size - 1);
            final float[] one = new float[size];
            one[size / 2] = 1;
            final float[] extreme = call(size, 0, INF, true, one)[0];
            assertEquals(bound, extreme[size / 2], 1e-6);
            assertArrayEquals(extreme, call(size, 0, bound * 1.001, true, one)[0], "a clip above the bound");
            assertEquals((float) (bound * 0.9), call(size, 0, bound * 0.9, true, one)[0][size / 2]);
            for (int i = 0; i < 200; i++) {
                final float[] returns = new float[size];
                for (int g = 0; g < size; g++) {
                    returns[g] = (float) Math.exp(6 * random.nextGaussian());
                }
                for (float a : call(size, 0, INF, true, returns)[0]) {
                    assertTrue(Math.abs(a) <= bound * (1 + 1e-6), a + " in a group of " + size);
                }
            }
        }
    }

    @Test
    void agreesWithDoubles() {
        final Random random = new Random(9);
        double worst = 0;
        for (int size : new int[] {1, 2, 3, 5, 8, 33}) {
            for (double offset : new double[] {0, 1e4}) { // a common offset must not cost digits
                final float[] returns = new float[size * 20];
                for (int i = 0; i < returns.length; i++) {
                    returns[i] = (float) (offset + random.nextGaussian());
                }
                final float[][] out = call(size, 1e-6, 1.1, true, returns);
                for (int g = 0; g < returns.length; g += size) {
                    double mu = 0;
                    for (int i = g; i < g + size; i++) {
                        mu += returns[i] / (double) size;
                    }
                    double variance = 0;
                    for (int i = g; i < g + size; i++) {
                        variance += (returns[i] - mu) * (returns[i] - mu) / size;
                    }
                    for (int i = g; i < g + size; i++) {
                        final double a = Math.max(-1.1, Math.min(1.1, (returns[i] - mu) / Math.sqrt(variance + 1e-6)));
                        assertEquals(a, out[0][i], 2e-7, "group size " + size + ", element " + i);
                        assertEquals(returns[i] - mu, out[1][i], 1e-6 * Math.abs(returns[i] - mu) + 1e-11 * offset);
                        worst = Math.max(worst, Math.abs(a - out[0][i]));
                    }
                }
            }
        }
        System.out.printf("Advantages: worst absolute error %.1e%n", worst);
    }

    @Test
    void aGroupWithoutANumberKeepsItToItself() {
        for (float bad : new float[] {Float.NaN, Float.POSITIVE_INFINITY, Float.NEGATIVE_INFINITY}) {
            for (int at = 0; at < 3; at++) {
                final float[] returns = {1, 2, 4, 1, 2, 4, 1, 2, 4};
                returns[3 + at] = bad;
                for (boolean normalise : new boolean[] {true, false}) {
                    final float[][] out = call(3, 1e-6, 1, normalise, returns);
                    final float[][] clean = call(3, 1e-6, 1, normalise, 1, 2, 4);
                    for (int k = 0; k < 2; k++) {
                        assertArrayEquals(clean[k], Arrays.copyOf(out[k], 3), "the group before");
                        assertArrayEquals(clean[k], Arrays.copyOfRange(out[k], 6, 9), "the group behind");
                        for (int i = 3; i < 6; i++) {
                            assertTrue(Float.isNaN(out[k][i]), bad + " at " + at + ", output " + k + ", element " + i
                                    + ", normalise "
                                    + normalise + ": " + out[k][i]);
                        }
                    }
                }
            }
        }
    }

    @Test
    void noReturnsAtAll() {
        assertEquals(0, call(4, 0, 1, true)[0].length);
        assertFalse(Float.isNaN(call(1, 0, 1, true, 5)[0][0]), "a group of one");
    }
}
