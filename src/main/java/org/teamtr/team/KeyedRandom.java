package org.teamtr.team;

import java.util.SplittableRandom;

/**
 * Random numbers that depend on keys and not on a generator's state, so that a resumed run, or one that plays its episodes in another
 * order, draws the same numbers.
 */
public final class KeyedRandom {
    private KeyedRandom() {
    }

    /** {@return a seed made of these numbers; another order of them is another seed} */
    public static long seed(long... keys) {
        long h = 0x9E3779B97F4A7C15L;
        for (long key : keys) {
            h = mix(h ^ mix(key + 0x9E3779B97F4A7C15L));
        }
        return h;
    }

    /** {@return a generator that starts from {@link #seed}} */
    public static SplittableRandom of(long... keys) {
        return new SplittableRandom(seed(keys));
    }

    /** {@return 0 .. n - 1 in random order} */
    public static int[] permutation(int n, long... keys) {
        final SplittableRandom random = of(keys);
        final int[] p = new int[n];
        for (int i = 0; i < n; i++) {
            final int j = random.nextInt(i + 1);
            p[i] = p[j];
            p[j] = i;
        }
        return p;
    }

    /** The finaliser of splitmix64: every bit of the input reaches every bit of the output. */
    private static long mix(long z) {
        z = (z ^ (z >>> 30)) * 0xBF58476D1CE4E5B9L;
        z = (z ^ (z >>> 27)) * 0x94D049BB133111EBL;
        return z ^ (z >>> 31);
    }
}
