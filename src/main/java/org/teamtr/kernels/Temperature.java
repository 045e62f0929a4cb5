package org.teamtr.kernels;

/**
 * The T of softmax(logits / T): one number for all rows, or one per row.
 *
 * <p>More than 0 and at most 1e30. {@link Sampling} alone also takes 0, for all rows or for single ones: the largest logit. Gradients
 * carry their 1/T. A per-row vector is read by the kernels, so its numbers are checked there and may change between calls.
 *
 * <p>Immutable; a per-row vector stays the caller's.
 *
 * <pre>{@code
 * LogProbs.forward(logits, targets, Temperature.of(0.8f), logProbs, null, null);
 * try (Floats temperatures = Floats.ofFloats(0.7f, 1)) { // one per row
 *     LogProbs.forward(logits.rows(0, 2), targets.slice(0, 2), Temperature.perRow(temperatures), logProbs.slice(0, 2), null, null);
 * }
 * }</pre>
 */
public final class Temperature {
    /** The logits as they are. */
    public static final Temperature ONE = new Temperature(1, null);
    /** 0: sampling takes the largest logit. No other kernel accepts it. */
    public static final Temperature GREEDY = new Temperature(0, null);

    /** The KL takes the logits of masked tokens for a large negative number, which has to be large after the division too. */
    private static final float MOST = 1e30f;

    private final float scalar;
    private final Floats vector;

    private Temperature(float scalar, Floats vector) {
        this.scalar = scalar;
        this.vector = vector;
    }

    /**
     * One temperature for all rows.
     *
     * @throws IllegalArgumentException if it is negative, more than 1e30 or NaN
     */
    public static Temperature of(float temperature) {
        if (!(temperature >= 0 && temperature <= MOST)) {
            throw new IllegalArgumentException("temperature: expected 0 to 1e30, given " + temperature);
        }
        return new Temperature(temperature, null);
    }

    /** {@return one temperature per row, read when a kernel runs} */
    public static Temperature perRow(Floats temperatures) {
        return new Temperature(1, Check.given(temperatures, "temperatures"));
    }

    /** The scalar for the native call, which a vector overrules. */
    float scalar() {
        return scalar;
    }

    Floats vector() {
        return vector;
    }

    boolean isGreedy() {
        return vector == null && scalar == 0;
    }

    @Override
    public String toString() {
        return vector == null ? "Temperature[" + scalar + "]" : "Temperature[one for each of " + vector.length() + " rows]";
    }
}
