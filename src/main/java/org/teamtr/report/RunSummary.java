package org.teamtr.report;

import com.fasterxml.jackson.annotation.JsonProperty;
import com.fasterxml.jackson.annotation.JsonUnwrapped;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Objects;
import java.util.function.Function;
import java.util.function.ToDoubleFunction;
import java.util.stream.Stream;
import org.teamtr.train.Diagnostics;
import org.teamtr.train.GainBound;
import org.teamtr.train.RunLog;
import org.teamtr.train.UnchangedReason;

/** A run in numbers, {@code summary.json}; docs/metrics.md explains every name. Null or NaN where nothing was measured. */
public record RunSummary(@JsonUnwrapped Run run, @JsonUnwrapped Accuracies accuracies, @JsonUnwrapped Returns returns,
        @JsonUnwrapped Monitored monitored, @JsonUnwrapped Spent spent, @JsonUnwrapped Certified certified, @JsonUnwrapped Bounded bounded,
        @JsonUnwrapped Diagnosed diagnosed) {

    /** What was run, and how far. */
    public record Run(String version, String command, long seed, List<String> agents, int stages, int updates) {
    }

    /** Of held-out episodes. */
    public record Accuracies(double accuracyUntrained, double accuracyBefore, double accuracyBest, double accuracyLast, int bestStage) {
    }

    /** Returns of held-out episodes, and the sums of the stages' predicted and realised gains. */
    public record Returns(double returnUntrained, double returnBefore, double returnBest, double returnLast, double predictedGain,
            double realisedGain) {
    }

    /** Results of the monitor. */
    public record Monitored(int outOfRegionUpdates, double outOfRegionRate, double scoreGap, double klFloor,
            @JsonUnwrapped UnchangedReason.Counts unchanged) {
    }

    /** What the run has cost. */
    public record Spent(long episodes, long tokens, double tokensPerSecond, double seconds, Long peakResidentBytes,
            @JsonUnwrapped Shares shares) {
    }

    /** Shares of the run's time, and the monitor's share of the updates'. */
    public record Shares(double shareRollout, double shareUpdate, double shareMonitor, double shareEval, double monitorShareOfUpdate) {
    }

    /**
     * Statistics of the bound of docs/theory.md; NaN where there is none.
     *
     * @param boundAlarm whether stages gained less than their bound more often than its level allows
     */
    public record Bounded(double gainBound, double gainEstimate, double boundLevel, @JsonUnwrapped OfStages ofStages,
            @JsonUnwrapped OfUpdates ofUpdates, int boundSkipped, boolean boundAlarm, @JsonUnwrapped BoundSpent spent) {
        /** Bounds of stages beside what these gained. */
        public record OfStages(double boundRankCorrelation, double boundViolationRate, double boundInformativeRate) {
        }

        /** Bounds of updates beside what these gained. */
        public record OfUpdates(double boundRankCorrelationUpdates, double boundViolationRateUpdates, double boundClearViolationRateUpdates,
                double boundInformativeRateUpdates) {
        }

        /** What the bounds have cost. */
        public record BoundSpent(long boundEpisodes, long boundTokens, double secondsBound) {
        }

        private static Bounded of(List<RunLog.Update> updates, List<RunLog.Stage> stages) {
            final List<Gains.Entry> entries = Gains.horizon(stages);
            final List<Gains.Entry> single = Gains.updates(updates);
            final List<GainBound.Sum> sums = stages.stream().filter(s -> s.stage() > 0).map(s -> s.certified().horizon()).toList();
            return new Bounded(sums.isEmpty() ? Double.NaN : sums.stream().mapToDouble(GainBound.Sum::gainBound).sum(),
                    sums.isEmpty() ? Double.NaN : sums.stream().mapToDouble(GainBound.Sum::gainEstimate).sum(),
                    sums.stream().mapToDouble(GainBound.Sum::boundLevel).average().orElse(Double.NaN),
                    new OfStages(Gains.rankCorrelation(entries), Gains.violationRate(entries), Gains.informativeRate(entries)),
                    new OfUpdates(Gains.rankCorrelation(single), Gains.violationRate(single), Gains.clearViolationRate(single),
                            Gains.informativeRate(single)),
                    sums.stream().mapToInt(GainBound.Sum::skipped).sum(), Gains.alarm(stages) != null,
                    new BoundSpent(sums.stream().mapToLong(GainBound.Sum::boundEpisodes).sum(),
                            sums.stream().mapToLong(GainBound.Sum::boundTokens).sum(),
                            sums.stream().mapToDouble(GainBound.Sum::secondsBound).sum()));
        }
    }

    /** Statistics of the paper's certificate; NaN where there is none. */
    public record Certified(double certificate, double certificateRankCorrelation, double certificateRankCorrelationStages,
            double certificateViolationRate, double vacuousRate) {
        private static Certified of(List<RunLog.Stage> stages) {
            final List<Gains.Entry> entries = Gains.paper(stages);
            final List<RunLog.Stage> updated = stages.stream().filter(s -> s.stage() > 0).toList();
            final double sum = updated.stream().mapToDouble(s -> s.certified().certificate()).sum();
            return new Certified(updated.isEmpty() ? Double.NaN : sum, Gains.rankCorrelation(Gains.cumulated(entries)),
                    Gains.rankCorrelation(entries), Gains.violationRate(entries),
                    updated.stream().mapToDouble(s -> s.certified().vacuousRate()).average().orElse(Double.NaN));
        }
    }

    /** What was diagnosed beside the training; NaN where it was not. */
    public record Diagnosed(double stability, double maxDrawdown, @JsonUnwrapped RunLog.Coordination coordination, double gap,
            double deltaStale, @JsonProperty("d_occ") double dOcc, @JsonUnwrapped MonitorErrors monitorErrors,
            @JsonUnwrapped Played played) {
        /** Errors of the KL of a quarter and a half of the messages, compared with that of all. */
        public record MonitorErrors(@JsonProperty("monitor_error_25") double error25, @JsonProperty("monitor_error_25_p90") double error25P90,
                @JsonProperty("monitor_flip_rate_25") double flipRate25, @JsonProperty("monitor_error_50") double error50,
                @JsonProperty("monitor_error_50_p90") double error50P90, @JsonProperty("monitor_flip_rate_50") double flipRate50) {
        }

        /** What the diagnoses have cost. */
        public record Played(long diagnosticEpisodes, long diagnosticTokens) {
        }

        private static Diagnosed of(List<RunLog.Stage> measured, List<RunLog.Diagnosis> all) {
            final double[] accuracy = measured.stream().mapToDouble(RunSummary::accuracy).toArray();
            final double stages = all.stream().mapToInt(RunLog.Diagnosis::stage).distinct().count();
            final ToDoubleFunction<RunLog.Diagnosis> quarter = d -> d.monitored().monitor25();
            final ToDoubleFunction<RunLog.Diagnosis> half = d -> d.monitored().monitor50();
            return new Diagnosed(Diagnostics.stability(accuracy), Diagnostics.maxDrawdown(accuracy), measured.isEmpty()
                    ? RunLog.Coordination.NONE : measured.get(measured.size() - 1).heldOut().coordination(),
                    all.stream().filter(d -> d.step() > 1).mapToDouble(d -> d.staleness().gap()).average().orElse(Double.NaN),
                    all.stream().mapToDouble(d -> d.staleness().deltaStale()).sum() / stages,
                    all.stream().mapToDouble(d -> d.staleness().dOcc()).sum() / stages,
                    new MonitorErrors(error(all, quarter, 0.5), error(all, quarter, 0.9), flips(all, quarter), error(all, half, 0.5),
                            error(all, half, 0.9), flips(all, half)),
                    new Played(all.stream().mapToLong(d -> d.played().episodes()).sum(), all.stream().mapToLong(d -> d.played().tokens()).sum()));
        }

        private static double error(List<RunLog.Diagnosis> all, ToDoubleFunction<RunLog.Diagnosis> part, double quantile) {
            return Diagnostics.quantile(all.stream()
                    .mapToDouble(d -> Diagnostics.monitorError(part.applyAsDouble(d), d.monitored().klReached(), d.monitored().delta()))
                    .filter(Double::isFinite).toArray(), quantile);
        }

        private static double flips(List<RunLog.Diagnosis> all, ToDoubleFunction<RunLog.Diagnosis> part) {
            final List<RunLog.Diagnosis> there = all.stream().filter(d -> Double.isFinite(part.applyAsDouble(d))).toList();
            return Diagnostics.flipRate(there.stream().mapToDouble(part).toArray(),
                    there.stream().mapToDouble(v -> v.monitored().klReached()).toArray(),
                    there.stream().mapToDouble(v -> v.monitored().delta()).toArray());
        }
    }

    /**
     * {@return the summary of a run}
     *
     * @param version of the program
     * @param command the command line
     * @param agents roles, in the team's order
     * @param untrained accuracy and return before any training, warm start included; NaN where there was none
     * @param updates all of them, the oldest first
     * @param stages all of them, stage 0 first
     * @param diagnoses those there are
     */
    public static RunSummary of(String version, String command, long seed, List<String> agents, double[] untrained,
            List<RunLog.Update> updates, List<RunLog.Stage> stages, List<RunLog.Diagnosis> diagnoses) {
        final List<RunLog.Stage> measured = stages.stream().filter(s -> s.heldOut().heldOutEpisodes() > 0).toList();
        RunLog.Stage best = null;
        for (RunLog.Stage s : measured) {
            best = best == null || s.heldOut().returnMean() > best.heldOut().returnMean() ? s : best;
        }
        final RunLog.Stage first = measured.isEmpty() ? null : measured.get(0);
        final RunLog.Stage last = measured.isEmpty() ? null : measured.get(measured.size() - 1);
        final int out = (int) updates.stream().filter(RunLog.Update::outOfRegion).count();
        final double seconds = sum(stages, v -> v.spent().seconds());
        final double rollout = sum(stages, v -> v.spent().secondsRollout());
        final double update = sum(stages, v -> v.spent().secondsUpdate());
        final double monitor = sum(stages, v -> v.spent().secondsKl());
        final long tokens = stages.stream().mapToLong(v -> v.spent().tokens()).sum();
        final int done = (int) stages.stream().filter(s -> s.stage() > 0).count();
        final double scoreGap = updates.stream().mapToDouble(RunLog.Update::scoreGap).max().orElse(Double.NaN);
        return new RunSummary(new Run(version, command, seed, List.copyOf(agents), done, updates.size()),
                new Accuracies(untrained[0], accuracy(first), accuracy(best), accuracy(last), best == null ? 0 : best.stage()),
                new Returns(untrained[1], reward(first), reward(best), reward(last), sum(stages, s -> s.gain().predictedGain()),
                        sum(stages, s -> s.gain().realisedGain())),
                new Monitored(out, Diagnostics.outOfRegionRate(updates.stream().mapToDouble(RunLog.Update::kl).toArray(),
                        updates.stream().mapToDouble(RunLog.Update::delta).toArray()), scoreGap,
                        updates.stream()
                                .mapToDouble(u -> u.outcome().klFloor()).filter(Double::isFinite).max().orElse(Double.NaN),
                        UnchangedReason.Counts.of(updates)),
                new Spent(stages.stream().mapToLong(s -> s.spent().episodes()).sum(), tokens, tokens / rollout, seconds,
                        peakResident(Path.of("/proc/self/status")), new Shares(rollout / seconds, update / seconds, monitor / seconds,
                                sum(stages, s -> s.spent().secondsEval()) / seconds, monitor / (rollout + update + monitor))),
                Certified.of(stages), Bounded.of(updates, stages), Diagnosed.of(measured, diagnoses));
    }

    private static double accuracy(RunLog.Stage stage) {
        return stage == null ? Double.NaN : stage.heldOut().accuracy();
    }

    private static double reward(RunLog.Stage stage) {
        return stage == null ? Double.NaN : stage.heldOut().returnMean();
    }

    /** The sum of what is there, NaN where nothing is. */
    private static double sum(List<RunLog.Stage> stages, Function<RunLog.Stage, Double> value) {
        final List<Double> there = stages.stream().map(value).filter(Objects::nonNull).toList();
        return there.isEmpty() ? Double.NaN : there.stream().mapToDouble(d -> d).sum();
    }

    /** VmHWM in bytes, or null on systems without it. */
    static Long peakResident(Path status) {
        try (Stream<String> lines = Files.lines(status)) {
            return lines.filter(l -> l.startsWith("VmHWM:")).map(l -> 1024 * Long.parseLong(l.replaceAll("\\D", ""))).findFirst()
                    .orElse(null);
        } catch (IOException e) {
            return null;
        }
    }
}
