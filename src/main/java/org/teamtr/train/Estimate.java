package org.teamtr.train;

import java.util.Arrays;

/**
 * A mean and its standard error, s / sqrt(N) with s² = Σ (x - mean)² / (N - 1).
 *
 * @param error NaN of fewer than two values
 */
public record Estimate(double mean, double error) {
    /** {@return the mean of values that are independent of each other; NaN of none} */
    public static Estimate of(double... values) {
        final double mean = Arrays.stream(values).average().orElse(Double.NaN);
        final double squares = Arrays.stream(values).map(x -> (x - mean) * (x - mean)).sum();
        return new Estimate(mean, values.length < 2 ? Double.NaN : Math.sqrt(squares / (values.length - 1) / values.length));
    }
}
