package org.teamtr.train;

import java.util.List;

/**
 * The lower bound on what an update gains, and what it was found from, in units of return; docs/theory.md has the proof, docs/metrics.md
 * the names. NaN where there is none.
 *
 * @param gainBound that the gain is below with probability {@code boundLevel} at most; 0 of an update that changed nothing
 * @param gainEstimate mean of X, without bias
 * @param gainError its standard error
 * @param boundPrompts N
 * @param messageTv total variation between what the agent writes in an episode before and after
 * @param decision kept, shortened or skipped; null where an update is kept whatever the bound
 * @param boundTries steps of different lengths that were looked at
 * @param realisedGain of this update alone on held-out episodes; NaN unless {@code certificate.check}
 * @param boundEpisodes played for this, of both teams, tokens in them, and seconds for all of it
 */
public record GainBound(double gainBound, double gainEstimate, double gainError, double boundLevel, int boundPrompts, double messageTv,
        String decision, int boundTries, double realisedGain, double realisedGainError, int boundEpisodes, long boundTokens,
        double secondsBound) {
    /** Where none is asked for. */
    public static final GainBound NONE = new GainBound(Double.NaN, Double.NaN, Double.NaN, Double.NaN, 0, Double.NaN, null, 0, Double.NaN,
            Double.NaN, 0, 0, 0);

    /** {@return the bound of an update that left everything as it was: its gain is 0} */
    static GainBound unchanged(boolean checked) {
        final double realised = checked ? 0 : Double.NaN;
        return new GainBound(0, 0, 0, 0, 0, 0, null, 0, realised, realised, 0, 0, 0);
    }

    GainBound realised(Estimate gain) {
        return new GainBound(gainBound, gainEstimate, gainError, boundLevel, boundPrompts, messageTv, decision, boundTries, gain.mean(),
                gain.error(), boundEpisodes, boundTokens, secondsBound);
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

        static Sum of(List<GainBound> all, double level) {
            return all.isEmpty() || all.stream().anyMatch(b -> Double.isNaN(b.gainBound)) ? NONE
                    : new Sum(all.stream().mapToDouble(GainBound::gainBound).sum(), all.stream().mapToDouble(GainBound::gainEstimate).sum(),
                            level, (int) all.stream().filter(b -> b.gainBound > 0).count(),
                            (int) all.stream().filter(b -> "skipped".equals(b.decision)).count(),
                            all.stream().mapToInt(GainBound::boundEpisodes).sum(), all.stream().mapToLong(GainBound::boundTokens).sum(),
                            all.stream().mapToDouble(GainBound::secondsBound).sum());
        }
    }
}
