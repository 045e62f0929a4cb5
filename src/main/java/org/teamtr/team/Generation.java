package org.teamtr.team;

import java.util.Objects;
import org.teamtr.kernels.SamplingConfig;

/**
 * How messages are sampled.
 *
 * @param temperature 0 takes the likeliest token
 * @param filter which tokens may be drawn; log-probs stay those of the unfiltered softmax
 * @param maxNewTokens the longest message, 1 or more
 * @param truncation of prompts that leave no room for such a message
 */
public record Generation(double temperature, SamplingConfig filter, int maxNewTokens, Truncation truncation) {
    /** @throws IllegalArgumentException if a number is out of range */
    public Generation {
        Objects.requireNonNull(filter, "filter");
        Objects.requireNonNull(truncation, "truncation");
        if (!(temperature >= 0 && temperature < Double.POSITIVE_INFINITY)) {
            throw new IllegalArgumentException("temperature: expected 0 or more and finite, given " + temperature);
        }
        if (maxNewTokens < 1) {
            throw new IllegalArgumentException("max_new_tokens: expected 1 or more, given " + maxNewTokens);
        }
    }
}
