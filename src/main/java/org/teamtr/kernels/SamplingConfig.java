package org.teamtr.kernels;

/**
 * Which tokens may be drawn, applied in this order: of all tokens the {@code topK} likeliest; of these the smallest set of the
 * likeliest whose renormalised probability reaches {@code topP}; of these the ones at least {@code minP} times as likely as the
 * likeliest. Ties at an edge go to the lower token id. Immutable.
 *
 * <pre>{@code
 * SamplingConfig filtered = SamplingConfig.ALL.withTopK(50).withTopP(0.95f);
 * }</pre>
 *
 * @param topK 1 or more, or 0 for all
 * @param topP more than 0, at most 1; 1 for all
 * @param minP 0 to 1; 0 for all
 */
public record SamplingConfig(long topK, float topP, float minP) {
    /** Every token may be drawn. */
    public static final SamplingConfig ALL = new SamplingConfig(0, 1, 0);

    /** @throws IllegalArgumentException if a number is out of the range stated above */
    public SamplingConfig {
        Check.notNegative(topK, "topK");
        if (!(topP > 0 && topP <= 1)) {
            throw new IllegalArgumentException("topP: expected more than 0 and at most 1, given " + topP);
        }
        if (!(minP >= 0 && minP <= 1)) {
            throw new IllegalArgumentException("minP: expected 0 to 1, given " + minP);
        }
    }

    /** {@return a copy with this topK} */
    public SamplingConfig withTopK(long topK) {
        return new SamplingConfig(topK, topP, minP);
    }

    /** {@return a copy with this topP} */
    public SamplingConfig withTopP(float topP) {
        return new SamplingConfig(topK, topP, minP);
    }

    /** {@return a copy with this minP} */
    public SamplingConfig withMinP(float minP) {
        return new SamplingConfig(topK, topP, minP);
    }
}
