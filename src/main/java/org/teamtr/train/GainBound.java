package org.teamtr.train;

import com.fasterxml.jackson.annotation.JsonProperty;
import com.fasterxml.jackson.annotation.JsonUnwrapped;
import java.util.List;
import org.teamtr.team.Verifier;

/**
 * The lower bound on an update's gain, and what it was computed from, in units of return; docs/theory.md has the proof, docs/metrics.md
 * the names. NaN where there is none.
 *
 * @param decision null where an update is kept whatever the bound
 * @param boundTries number of step lengths for which a bound was computed
 */
public record GainBound(@JsonUnwrapped Bound bound, Decision decision, int boundTries, @JsonUnwrapped Realised realised,
        @JsonUnwrapped Cost cost) {
    /**
     * The bound and its data.
     *
     * @param gainBound a lower bound: the gain is less with probability {@code boundLevel} at most; 0 of an update that changed nothing
     * @param gainEstimate mean of X, without bias
     * @param gainError its standard error
     * @param boundPrompts N
     * @param messageTv total variation between what the agent writes in an episode before and after
     */
    public record Bound(double gainBound, double gainEstimate, double gainError, double boundLevel, int boundPrompts, double messageTv) {
    }

    /** The gain of this update alone on held-out episodes; NaN unless {@code certificate.check}. */
    public record Realised(double realisedGain, double realisedGainError) {
        static final Realised NONE = new Realised(Double.NaN, Double.NaN);
    }

    /** Episodes that were played for this, of both teams, tokens in them, and seconds for all of it. */
    public record Cost(int boundEpisodes, long boundTokens, double secondsBound) {
        static final Cost NONE = new Cost(0, 0, 0);
    }

    /** The decision about an update that is kept only if its bound is positive. */
    public enum Decision {
        /** As it was. */
        @JsonProperty("kept") KEPT,
        /** With a shorter step. */
        @JsonProperty("shortened") SHORTENED,
        /** Not: the policy is what it was before. */
        @JsonProperty("skipped") SKIPPED
    }

    /** Where no bound is computed. */
    public static final GainBound NONE = new GainBound(new Bound(Double.NaN, Double.NaN, Double.NaN, Double.NaN, 0, Double.NaN), null, 0,
            Realised.NONE, Cost.NONE);

    /** {@return the bound of an update that changed nothing: its gain is 0} */
    static GainBound unchanged(boolean checked) {
        return new GainBound(new Bound(0, 0, 0, 0, 0, 0), null, 0, checked ? new Realised(0, 0) : Realised.NONE, Cost.NONE);
    }

    /**
     * {@return the bound from one episode of the old team and one of the new for each prompt; docs/theory.md, Theorem 2}
     *
     * @param oldRatios [prompts] log new over old of what the updated agent wrote in the old team's episodes
     * @param oldReturns [prompts] of these episodes, within {@code range}
     * @param newRatios [prompts] the same of the new team's, likewise new over old
     * @param v about the mean return, not taken from these episodes
     * @param level probability with which the bound may be too large
     * @param planned how many prompts there were to be, known beforehand
     */
    public static GainBound of(double[] oldRatios, double[] oldReturns, double[] newRatios, double[] newReturns, double v,
            Verifier.Range range, double level, int planned) {
        final double centre = Math.max(range.least(), Math.min(range.most(), v));
        final double[] x = BalancedGain.of(oldRatios, oldReturns, newRatios, newReturns, centre);
        final Estimate mean = Estimate.of(x);
        return new GainBound(new Bound(MeanBound.lower(x, BalancedGain.least(range.least(), range.most(), centre), level, planned), mean.mean(),
                mean.error(), level, x.length, BalancedGain.totalVariation(oldRatios, newRatios)), null, 1, Realised.NONE, Cost.NONE);
    }

    GainBound decided(Decision what, int tries) {
        return new GainBound(what == Decision.SKIPPED ? new Bound(0, bound.gainEstimate, bound.gainError, bound.boundLevel, bound.boundPrompts,
                bound.messageTv) : bound, what, tries, realised, cost);
    }

    GainBound cost(int episodes, long tokens, double seconds) {
        return new GainBound(bound, decision, boundTries, realised, new Cost(episodes, tokens, seconds));
    }

    /** {@return the same with the realised gain} */
    public GainBound realised(Estimate gain) {
        return new GainBound(bound, decision, boundTries, new Realised(gain.mean(), gain.error()), cost);
    }

    /**
     * Sums over a stage's updates, and the probability that the sum of the bounds is more than the stage gains.
     *
     * @param informative updates with a bound of more than 0
     */
    public record Sum(double gainBound, double gainEstimate, double boundLevel, int informative, int skipped, int boundEpisodes,
            long boundTokens, double secondsBound) {
        /** Where there is none. */
        public static final Sum NONE = new Sum(Double.NaN, Double.NaN, Double.NaN, 0, 0, 0, 0, 0);

        /** {@return that of a stage's updates; none where one has no bound} */
        public static Sum of(List<GainBound> all, double level) {
            return all.isEmpty() || all.stream().anyMatch(b -> Double.isNaN(b.bound.gainBound)) ? NONE
                    : new Sum(all.stream().mapToDouble(b -> b.bound.gainBound).sum(), all.stream().mapToDouble(b -> b.bound.gainEstimate).sum(),
                            level, (int) all.stream().filter(b -> b.bound.gainBound > 0).count(),
                            (int) all.stream().filter(b -> b.decision == Decision.SKIPPED).count(),
                            all.stream().mapToInt(b -> b.cost.boundEpisodes).sum(), all.stream().mapToLong(b -> b.cost.boundTokens).sum(),
                            all.stream().mapToDouble(b -> b.cost.secondsBound).sum());
        }
    }
}
