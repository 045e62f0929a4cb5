package org.teamtr.train;

/** How much is left of a step that went out of the trust region, on the way back from outside to the latest parameters inside. */
public enum StepLength {
    /** As much as the KL that was measured allows. */
    MEASURED,
    /** Half of it. */
    HALVING;

    /** Of δ, what a measured step aims at: short of it, since the KL is a square only nearly, and what lies outside is measured again. */
    private static final double AIM = 0.9;
    /** The shortest and the longest share, so that every try is shorter than the one before and none is nothing. */
    private static final double LEAST = 1.0 / 1024;
    private static final double MOST = 0.95;

    /**
     * {@return the share of the step to keep} Near the old policy the KL is the square of a distance d, and on a straight way from
     * the parameters inside to those outside d is at most (1 - t) d(inside) + t d(outside): t is chosen to make that the
     * distance whose square is 0.9 δ. The KL of no step at all is first taken off; where that is all there is of δ, half is kept.
     *
     * @param inside KL at the parameters inside
     * @param outside KL at the parameters outside; what is not finite says nothing and is taken for very far
     * @param delta the radius δ
     * @param floor KL of no step at all, 0 if it is not known
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
