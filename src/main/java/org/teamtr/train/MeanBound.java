package org.teamtr.train;

import java.util.Arrays;

/**
 * A lower confidence bound on a mean of bounded numbers, by betting (Waudby-Smith and Ramdas, JRSS-B 2024; docs/theory.md, Theorem 2).
 * The capital of a bettor who stakes the share lambda_j on number j being more than m,
 *
 * <pre>
 *   K(m) = prod over j of (1 + lambda_j (x_j - m)),   lambda_j = min(sqrt(2 ln(1 / level) / (N s_(j-1)^2)), 0.9 / (m - a)),
 * </pre>
 *
 * is a martingale where m is the true mean: it ever reaches 1 / level with probability level at most (Ville's inequality). The bound
 * is the largest m whose capital has reached that. s² is the variance of the numbers so far, so a stake depends on earlier numbers
 * alone. It holds at every length, so numbers may be added after looking at the bound. Pure functions.
 */
final class MeanBound {
    /** The largest share of the capital that is bet. */
    private static final double STAKE = 0.9;
    /** Until numbers are seen, their standard deviation is taken to be this share of |a|, the weight of one number. */
    private static final double FIRST_GUESS = 0.25;
    private static final int HALVINGS = 60;

    private MeanBound() {
    }

    /**
     * {@return a number that the mean is below with probability {@code level} at most; {@code least} where nothing more can be said}
     *
     * @param x independent and of one distribution
     * @param least a, which no number is less than; less than 0
     * @param level more than 0 and less than 1
     * @param planned N, how many numbers bets are made for, known beforehand; later ones are bet on as if N were their number
     */
    static double lower(double[] x, double least, double level, int planned) {
        final double[] bets = bets(x, least, level, planned);
        final double goal = -Math.log(level);
        double low = least;
        double high = Arrays.stream(x).average().orElse(least);
        for (int k = 0; k < HALVINGS && high > low; k++) {
            final double m = low + (high - low) / 2;
            if (logCapital(x, bets, m, least) >= goal) {
                low = m;
            } else {
                high = m;
            }
        }
        return low;
    }

    private static double[] bets(double[] x, double least, double level, int planned) {
        final double[] bets = new double[x.length];
        double squares = Math.pow(FIRST_GUESS * least, 2);
        double mean = 0;
        for (int j = 0; j < x.length; j++) {
            bets[j] = Math.sqrt(-2 * Math.log(level) / (Math.max(planned, j + 1) * squares / (j + 1)));
            final double off = x[j] - mean;
            mean += off / (j + 1);
            squares += j == 0 ? 0 : off * (x[j] - mean);
        }
        return bets;
    }

    private static double logCapital(double[] x, double[] bets, double m, double least) {
        double log = 0;
        for (int j = 0; j < x.length; j++) {
            log += Math.log1p(Math.min(bets[j], STAKE / (m - least)) * (x[j] - m));
        }
        return log;
    }
}
