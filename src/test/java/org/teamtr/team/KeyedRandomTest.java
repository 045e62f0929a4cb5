package org.teamtr.team;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;

class KeyedRandomTest {
    @Test
    void keysAndNothingElseDecide() {
        assertEquals(KeyedRandom.seed(1, 2, 3), KeyedRandom.seed(1, 2, 3));
        assertEquals(KeyedRandom.of(1, 2, 3).nextLong(), KeyedRandom.of(1, 2, 3).nextLong());
        assertArrayEquals(KeyedRandom.permutation(20, 1, 2), KeyedRandom.permutation(20, 1, 2));
    }

    /** Orders, lengths and neighbours of keys are seeds of their own. */
    @Test
    void differentKeysAreDifferentSeeds() {
        final Set<Long> seeds = new HashSet<>();
        int count = 0;
        for (long a = -12; a < 12; a++) {
            assertTrue(seeds.add(KeyedRandom.seed(a)));
            for (long b = -12; b < 12; b++) {
                assertTrue(seeds.add(KeyedRandom.seed(a, b)), a + ", " + b);
                for (long c = -12; c < 12; c++) {
                    assertTrue(seeds.add(KeyedRandom.seed(a, b, c)), a + ", " + b + ", " + c);
                    count++;
                }
            }
        }
        assertEquals(count + 24 * 24 + 24, seeds.size());
        assertNotEquals(KeyedRandom.seed(), KeyedRandom.seed(0));
    }

    /** First draws under keys 0, 1, 2, ...: mean 1/2, and no correlation from key to key. */
    @Test
    void neighbouringKeysAreNotAlike() {
        final int n = 20_000;
        final double[] u = IntStream.range(0, n).mapToDouble(i -> KeyedRandom.of(7, i).nextDouble() - 0.5).toArray();
        assertEquals(0, Arrays.stream(u).average().orElseThrow(), 5 / Math.sqrt(12 * n));
        double product = 0;
        for (int i = 1; i < n; i++) {
            product += u[i] * u[i - 1] * 12 / n;
        }
        assertEquals(0, product, 5 / Math.sqrt(n));
    }

    @Test
    void permutationsAreUniform() {
        final Map<String, Integer> counts = new HashMap<>();
        for (int i = 0; i < 24_000; i++) {
            counts.merge(Arrays.toString(KeyedRandom.permutation(4, 3, i)), 1, Integer::sum);
        }
        assertEquals(24, counts.size());
        // chi-squared with 23 degrees of freedom: mean 23, deviation 6.8
        assertTrue(counts.values().stream().mapToDouble(c -> (c - 1000.0) * (c - 1000.0) / 1000).sum() < 23 + 6 * 6.8, counts.toString());
    }

    @Test
    void permutationsHoldEveryNumberOnce() {
        for (int n : new int[] {0, 1, 2, 1000}) {
            final int[] p = KeyedRandom.permutation(n, 5);
            Arrays.sort(p);
            assertArrayEquals(IntStream.range(0, n).toArray(), p);
        }
    }
}
