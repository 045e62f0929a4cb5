package org.teamtr.jmh;

import java.util.SplittableRandom;
import org.openjdk.jmh.annotations.Param;
import org.teamtr.kernels.Floats;
import org.teamtr.kernels.Indices;

/** A kernel over numbers per token, whose vectors mostly fit the caches: a batch of messages of equal length. */
public abstract class TokensBenchmark extends KernelBenchmark {
    @Param("262144")
    int tokens;

    static final int MESSAGE = 128;

    final int messages() {
        return (tokens + MESSAGE - 1) / MESSAGE;
    }

    /** {@return the message of token {@code u}} */
    static int message(int u) {
        return u / MESSAGE;
    }

    final Indices bounds() {
        final Indices bounds = Indices.allocateLongs(messages() + 1);
        for (int m = 1; m <= messages(); m++) {
            bounds.set(m, Math.min(tokens, (long) m * MESSAGE));
        }
        return bounds;
    }

    /** {@return seeded numbers of about N(mean, scale)} */
    static Floats normal(int length, long seed, double mean, double scale) {
        final SplittableRandom random = new SplittableRandom(seed);
        final Floats x = Floats.allocate(length);
        for (int i = 0; i < length; i++) {
            final double n = random.nextDouble() + random.nextDouble() + random.nextDouble() + random.nextDouble() - 2;
            x.set(i, (float) (mean + scale * 1.73 * n));
        }
        return x;
    }
}
