package org.teamtr.train;

import java.util.List;

/** Sums up the updates of a stage and the held-out episodes before and after it. */
final class StageLog {
    private StageLog() {
    }

    /**
     * {@return the log of a stage}
     *
     * @param after null where held-out episodes were not played after it
     * @param before null before the first stage
     * @param gain from {@code before} to {@code after}; null where one of both is
     * @param level probability with which the stage's bounds may be wrong
     */
    static RunLog.Stage of(int stage, List<String> order, List<RunLog.Update> updates, Evaluation after, Evaluation before, Estimate gain,
            double level, double seconds) {
        final Evaluation now = after == null ? before : after;
        return new RunLog.Stage(stage, order, new RunLog.HeldOut(now.returnMean(), now.accuracy(), after == null ? 0 : now.scores().size(),
                after == null ? RunLog.Coordination.NONE : after.coordination()),
                new RunLog.Gain(updates.isEmpty() ? null : updates.stream().mapToDouble(RunLog.Update::predictedGain).sum(),
                        gain == null ? null : gain.mean(), gain == null || Double.isNaN(gain.error()) ? null : gain.error()),
                updates.stream().mapToDouble(u -> u.outOfRegion() ? 1 : 0).average().orElse(0),
                new RunLog.Spent(updates.stream().mapToLong(u -> u.secondsRollout() > 0 ? u.episodes() + u.dropped() : 0).sum(),
                        updates.stream().mapToLong(RunLog.Update::tokens).sum(),
                        updates.stream().mapToDouble(RunLog.Update::secondsRollout).sum(),
                        updates.stream().mapToDouble(RunLog.Update::secondsUpdate).sum(),
                        updates.stream().mapToDouble(RunLog.Update::secondsKl).sum(), after == null ? 0 : after.seconds(), seconds),
                UnchangedReason.Counts.of(updates), certified(updates, level));
    }

    /** Theorem 3.6, in units of return, and the bound that takes its place. */
    private static RunLog.Certified certified(List<RunLog.Update> updates, double level) {
        final List<Certificate.Terms> terms = updates.stream().map(RunLog.Update::bound).toList();
        return terms.isEmpty() ? RunLog.Certified.NONE : new RunLog.Certified(
                terms.stream().mapToDouble(t -> t.advantageScale() * t.lSeq()).sum(),
                terms.stream().mapToDouble(t -> t.advantageScale() * t.zetas().sum()).sum(),
                terms.stream().mapToDouble(t -> t.advantageScale() * t.bounds().certificate()).sum(),
                terms.stream().mapToDouble(t -> t.advantageScale() * t.bounds().certificateRadius()).sum(),
                terms.stream().mapToDouble(t -> t.bounds().vacuous() ? 1 : 0).average().orElseThrow(),
                GainBound.Sum.of(terms.stream().map(Certificate.Terms::horizon).toList(), level));
    }
}
