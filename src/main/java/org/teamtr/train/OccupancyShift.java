package org.teamtr.train;

/**
 * How far the episodes of a team have moved since some of them were played. With W = p_now(episode) / p_then(episode), the
 * product of the message ratios of the agents that were updated since, and episodes that were played then,
 *
 * <pre>
 *   1/2 mean |W - 1|   estimates   1/2 sum over episodes |p_now - p_then|,
 * </pre>
 *
 * the total variation of whole episodes. What an agent reads is a part of the episode, so the occupancy of no turn has shifted by
 * more: the left side of the occupancy bounds behind Proposition 3.3, measured instead of bounded.
 */
final class OccupancyShift {
    /** Beyond, W counts as e^20, as in the surrogate: one episode that is all but certain now must not make the mean infinite. */
    private static final double LARGEST = 20;

    private OccupancyShift() {
    }

    /** {@return W of an episode, at most e^20} */
    static double weight(double logWeight) {
        return Math.exp(Math.min(logWeight, LARGEST));
    }

    /** {@return half the mean of |W - 1|, 0 or more; 0 of no episodes} */
    static double of(double[] logWeights) {
        double sum = 0;
        for (double logWeight : logWeights) {
            sum += Math.abs(weight(logWeight) - 1);
        }
        return logWeights.length == 0 ? 0 : sum / 2 / logWeights.length;
    }
}
