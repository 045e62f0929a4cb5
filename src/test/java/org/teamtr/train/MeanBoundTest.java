package org.teamtr.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.SplittableRandom;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.teamtr.team.KeyedRandom;

class MeanBoundTest {
    private static final double LEVEL = 0.05;

    /** Maurer and Pontil, COLT 2009, Theorem 4, for numbers from -a to a. */
    private static double empiricalBernstein(double[] x, double a, double level) {
        final double mean = Arrays.stream(x).average().orElseThrow();
        final double variance = Arrays.stream(x).map(v -> (v - mean) * (v - mean)).sum() / (x.length - 1);
        return mean - Math.sqrt(2 * variance * Math.log(2 / level) / x.length) - 7 * 2 * a * Math.log(2 / level) / 3 / (x.length - 1);
    }

    private static double hoeffding(double[] x, double a, double level) {
        return Arrays.stream(x).average().orElseThrow() - 2 * a * Math.sqrt(-Math.log(level) / 2 / x.length);
    }

    /** Small numbers of mean 0 that now and then are as bad as can be, which is the worst for a bound: most samples do not show it. */
    private static double[] rare(int n, double often, SplittableRandom random) {
        return IntStream.range(0, n).mapToDouble(j -> random.nextDouble() < often ? -1 : often / (1 - often)).toArray();
    }

    private static double[] bell(int n, double mean, double deviation, SplittableRandom random) {
        return IntStream.range(0, n).mapToDouble(j -> Math.max(-1, Math.min(1, mean + deviation * random.nextGaussian()))).toArray();
    }

    /** It is above the true mean no more often than it says, of mean 0 and of every shape, looked at once and after every number. */
    @Test
    void itHoldsAsOftenAsItSays() {
        final int samples = 1000;
        for (int n : new int[] {20, 200}) {
            for (double shape : new double[] {0, 0.5, 0.1, 0.01}) {
                int above = 0;
                int everAbove = 0;
                for (int s = 0; s < samples; s++) {
                    final SplittableRandom random = KeyedRandom.of(61, n, (long) (1000 * shape), s);
                    final double[] x = shape == 0 ? bell(n, 0, 0.1, random) : rare(n, shape, random);
                    above += MeanBound.lower(x, -1, LEVEL, n) > 0 ? 1 : 0;
                    for (int k = 1; k <= 10; k++) {
                        if (MeanBound.lower(Arrays.copyOf(x, k * n / 10), -1, LEVEL, n / 10) > 0) {
                            everAbove++;
                            break;
                        }
                    }
                }
                final double most = samples * LEVEL + 3 * Math.sqrt(samples * LEVEL * (1 - LEVEL));
                assertTrue(above <= most, n + ", " + shape + ": " + above);
                assertTrue(everAbove <= most, n + ", " + shape + ", looked at ten times: " + everAbove);
            }
        }
    }

    /** And not for want of trying: of numbers like those of an update it says several times as much as the older bounds. */
    @Test
    void itIsTighterThanBernsteinsAndHoeffdings() {
        System.out.println("mean 0.02, deviation 0.1, from -1 to 1, level 0.0125: prompts, by betting, empirical Bernstein, Hoeffding");
        for (int n : new int[] {32, 128, 512, 2048, 8192}) {
            double betting = 0;
            double bernstein = 0;
            double hoeffding = 0;
            for (int s = 0; s < 20; s++) {
                final double[] x = bell(n, 0.02, 0.1, KeyedRandom.of(62, n, s));
                betting += MeanBound.lower(x, -1, 0.0125, n) / 20;
                bernstein += empiricalBernstein(x, 1, 0.0125) / 20;
                hoeffding += hoeffding(x, 1, 0.0125) / 20;
            }
            System.out.printf("%d %.4f %.4f %.4f%n", n, betting, bernstein, hoeffding);
            assertTrue(betting > bernstein && betting > hoeffding);
            assertTrue(n != 512 || betting > 0 && bernstein < 0);
        }
    }

    @Test
    void whereNothingCanBeSaidItIsTheLeast() {
        assertEquals(-1, MeanBound.lower(new double[0], -1, LEVEL, 10), 0);
        assertEquals(-2, MeanBound.lower(new double[] {-2, -2}, -2, LEVEL, 2), 0);
        assertTrue(MeanBound.lower(new double[] {0.5}, -1, LEVEL, 1) < 0);
    }

    /** Of a hundred equal numbers: by hand, every bet being the largest there may be. */
    @Test
    void byHand() {
        final double[] x = new double[100];
        Arrays.fill(x, 0.5);
        // (1 + 0.9 (0.5 - m) / (m + 1))^100 = 20 at m: 0.9 * 1.5 / (m + 1) = 0.1 - 1 + ... solved for m + 1
        final double root = Math.pow(20, 0.01);
        final double m = 0.9 * 1.5 / (root - 0.1) - 1;
        assertEquals(m, MeanBound.lower(x, -1, LEVEL, 1), 0.05);
        assertTrue(MeanBound.lower(x, -1, LEVEL, 1) <= 0.5);
    }
}
