package org.teamtr.experiment;

/**
 * Drift index α: how a metric grows with the team, metric ≈ e<sup>intercept</sup> n<sup>α</sup>. The ordinary least-squares line
 * of log metric on log n.
 *
 * @param slope α
 * @param intercept of the line, log of the metric at n = 1
 * @param residual standard deviation of log metric about the line, sqrt(SSE / (k - 2)) of k points; NaN for two
 * @param low lower end of the 95 % confidence interval of α, by Student's t with k - 2 degrees of freedom; NaN for two points
 * @param high its upper end
 */
public record Drift(double slope, double intercept, double residual, double low, double high) {
    /** 97.5 % quantiles of Student's t with 1, 2, ... degrees of freedom. */
    private static final double[] T = {12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228};

    /**
     * {@return the line through (log n, log metric)}
     *
     * @param n team sizes, more than 0, not all equal
     * @param metric as many, more than 0
     * @throws IllegalArgumentException if there are fewer than two points, they are not as many, or one has no logarithm
     */
    public static Drift of(double[] n, double[] metric) {
        if (n.length != metric.length || n.length < 2) {
            throw new IllegalArgumentException("n, metric: expected two values or more, as many of each, given " + n.length
                    + " and "
                    + metric.length);
        }
        final int k = n.length;
        final double[] x = logs("n", n);
        final double[] y = logs("metric", metric);
        double meanX = 0;
        double meanY = 0;
        for (int i = 0; i < k; i++) {
            meanX += x[i] / k;
            meanY += y[i] / k;
        }
        double sxx = 0;
        double sxy = 0;
        for (int i = 0; i < k; i++) {
            sxx += (x[i] - meanX) * (x[i] - meanX);
            sxy += (x[i] - meanX) * (y[i] - meanY);
        }
        if (sxx <= 0) {
            throw new IllegalArgumentException("n: expected team sizes that differ, given " + n[0] + " alone");
        }
        final double slope = sxy / sxx;
        final double intercept = meanY - slope * meanX;
        double sse = 0;
        for (int i = 0; i < k; i++) {
            sse += Math.pow(y[i] - intercept - slope * x[i], 2);
        }
        final double residual = k == 2 ? Double.NaN : Math.sqrt(sse / (k - 2));
        final double half = k == 2 ? Double.NaN : t(k - 2) * residual / Math.sqrt(sxx);
        return new Drift(slope, intercept, residual, slope - half, slope + half);
    }

    private static double[] logs(String name, double[] values) {
        final double[] logs = new double[values.length];
        for (int i = 0; i < logs.length; i++) {
            if (!(values[i] > 0) || Double.isInfinite(values[i])) {
                throw new IllegalArgumentException(name + "[" + i
                        + "]: expected a finite number more than 0, which has a logarithm, given "
                        + values[i]);
            }
            logs[i] = Math.log(values[i]);
        }
        return logs;
    }

    /** From 11 degrees on, the expansion about the normal quantile (Cornish and Fisher) is right to three digits. */
    private static double t(int degrees) {
        final double z = 1.959964;
        return degrees <= T.length ? T[degrees - 1] : z + (Math.pow(z, 3) + z) / (4 * degrees)
                + (5 * Math.pow(z, 5) + 16 * Math.pow(z, 3) + 3 * z) / (96.0 * degrees * degrees);
    }
}
