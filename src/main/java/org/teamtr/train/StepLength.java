package org.teamtr.train;

/** The share of a step out of the trust region that is kept when it is shortened towards the latest parameters inside. */
public enum StepLength {
    /** As much as the measured KL allows. */
    MEASURED,
    /** Half of it. */
    HALVING;

    /**
     * The share of δ that a measured step aims at: less than 1, since the KL is only approximately quadratic, and a step that is still
     * outside takes another measurement.
     */
    private static final double AIM = 0.9;
    /** The smallest and the largest share, so that every try is shorter than the one before and none is 0. */
    private static final double LEAST = 1.0 / 1024;
    private static final double MOST = 0.95;

    /**
     * {@return the share of the step to keep} Near the old policy the KL is the square of a distance d, and on the line from the parameters
     * inside to those outside d is at most (1 - t) d(inside) + t d(outside): t is chosen to make that the distance whose square is 0.9 δ.
     * The floor is first subtracted; where it is as large as δ, half of the step is kept.
     *
     * @param inside KL at the parameters inside
     * @param outside KL at the parameters outside; not finite counts as very large
     * @param delta the radius δ
     * @param floor the KL of rounding alone, 0 if it is not known
     */
    double share(double inside, double outside, double delta, double floor) {
        if (this == HALVING || !(outside < Double.POSITIVE_INFINITY) || floor >= AIM * delta) {
            return 0.5;
        }
        final double off = Math.max(0, Math.min(floor, outside));
        final double from = Math.sqrt(Math.max(0, inside - off));
        final double to = Math.sqrt(outside - off);
        final double aim = Math.sqrt(Math.max(0, AIM * delta - off));
        final double share = (aim - from) / (to - from);
        return share >= LEAST ? Math.min(MOST, share) : LEAST;
    }
}
