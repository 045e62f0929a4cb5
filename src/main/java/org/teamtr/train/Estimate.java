package org.teamtr.train;

import java.util.Arrays;
import java.util.Locale;

/**
 * A mean and its standard error, s / sqrt(N) with s² = Σ (x - mean)² / (N - 1).
 *
 * @param error NaN of fewer than two values
 */
public record Estimate(double mean, double error) {
    /** {@return the mean of values that are independent of each other; NaN of none} */
    public static Estimate of(double... values) {
        return new Estimate(Arrays.stream(values).average().orElse(Double.NaN), Math.sqrt(variance(values) / values.length));
    }

    /** {@return the mean in this format, and its standard error behind it unless that is NaN: {@code 1.20 +- 0.03}} */
    public String text(String format) {
        return String.format(Locale.ROOT, format, mean) + (Double.isNaN(error) ? "" : String.format(Locale.ROOT, " +- " + format, error));
    }

    /** {@return the standard deviation of a sample, s; NaN of fewer than two values} */
    public static double deviation(double... values) {
        return Math.sqrt(variance(values));
    }

    private static double variance(double... values) {
        final double mean = Arrays.stream(values).average().orElse(Double.NaN);
        return values.length < 2 ? Double.NaN : Arrays.stream(values).map(x -> (x - mean) * (x - mean)).sum() / (values.length - 1);
    }
}
