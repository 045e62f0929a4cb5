package org.teamtr.train;


/**
 * Estimates an update's gain from one episode of the old team and one of the new for each prompt, with bounded weights (docs/theory.md,
 * Part 2). With l the log-ratio new over old of all tokens that the updated agent wrote in an episode and v any number
 * that does not depend on it,
 *
 * <pre>
 *   X = 1/2 (f(old episode) + f(new episode)),   f = 2 tanh(l / 2) (R - v),   E X = J(new) - J(old),   |f| &lt;= 2 |R - v|.
 * </pre>
 *
 * <p>2 tanh(l / 2) is the difference of both teams' weights in an even mixture of them. tanh(l / 2) averaged without its sign is their total
 * variation.
 */
final class BalancedGain {
    private BalancedGain() {
    }

    /**
     * {@return X of each prompt}
     *
     * @param oldRatios log new over old of the old team's episodes, one for each prompt
     * @param newRatios the same of the new team's
     * @param v about the mean return, for a small variance
     */
    static double[] of(double[] oldRatios, double[] oldReturns, double[] newRatios, double[] newReturns, double v) {
        final double[] x = new double[oldRatios.length];
        for (int p = 0; p < x.length; p++) {
            x[p] = Math.tanh(oldRatios[p] / 2) * (oldReturns[p] - v) + Math.tanh(newRatios[p] / 2) * (newReturns[p] - v);
        }
        return x;
    }

    /** {@return the smallest X there can be} */
    static double least(double returnMin, double returnMax, double v) {
        return -2 * Math.max(v - returnMin, returnMax - v);
    }

    /** {@return an estimate of the total variation between the episodes of both teams} */
    static double totalVariation(double[] oldRatios, double[] newRatios) {
        double sum = 0;
        for (int p = 0; p < oldRatios.length; p++) {
            sum += Math.abs(Math.tanh(oldRatios[p] / 2)) + Math.abs(Math.tanh(newRatios[p] / 2));
        }
        return oldRatios.length == 0 ? Double.NaN : sum / 2 / oldRatios.length;
    }
}
