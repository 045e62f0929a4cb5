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
import org.teamtr.train.Unchanged;

/** A run in numbers, {@code summary.json}; docs/metrics.md explains every name. Null or NaN where nothing was measured. */
public record RunSummary(String version, String command, long seed, List<String> agents, int stages, int updates,
        double accuracyUntrained, double returnUntrained, double accuracyBefore, double accuracyBest, double accuracyLast, int bestStage,
        double returnBefore, double returnBest,
        double returnLast, int outOfRegionUpdates, double outOfRegionRate, double predictedGain, double realisedGain, double scoreGap,
        long episodes, long tokens, double tokensPerSecond, double seconds, double shareRollout, double shareUpdate,
        double shareMonitor, double shareEval, double monitorShareOfUpdate, Long peakResidentBytes, double klFloor,
        @JsonUnwrapped Unchanged.Counts unchanged,
        @JsonUnwrapped Certified certified, @JsonUnwrapped Bounded bounded, @JsonUnwrapped Diagnosed diagnosed) {

    /**
     * How the bound of docs/theory.md fared; NaN where there is none.
     *
     * @param boundAlarm whether stages gained less than their bound more often than its level allows
     */
    public record Bounded(double gainBound, double gainEstimate, double boundLevel, double boundRankCorrelation,
            double boundRankCorrelationUpdates, double boundViolationRate, double boundViolationRateUpdates,
            double boundClearViolationRateUpdates, double boundInformativeRate, double boundInformativeRateUpdates, int boundSkipped,
            boolean boundAlarm, long boundEpisodes, long boundTokens, double secondsBound) {
        private static Bounded of(List<RunLog.Update> updates, List<RunLog.Stage> stages) {
            final List<Tracking.Entry> entries = Tracking.horizon(stages);
            final List<Tracking.Entry> single = Tracking.updates(updates);
            final List<GainBound.Sum> sums = stages.stream().filter(s -> s.stage() > 0).map(s -> s.certified().horizon()).toList();
            return new Bounded(sums.isEmpty() ? Double.NaN : sums.stream().mapToDouble(GainBound.Sum::gainBound).sum(),
                    sums.isEmpty() ? Double.NaN : sums.stream().mapToDouble(GainBound.Sum::gainEstimate).sum(),
                    sums.stream().mapToDouble(GainBound.Sum::boundLevel).average().orElse(Double.NaN), Tracking.rankCorrelation(entries),
                    Tracking.rankCorrelation(single), Tracking.violationRate(entries), Tracking.violationRate(single),
                    Tracking.clearViolationRate(single), Tracking.informativeRate(entries), Tracking.informativeRate(single),
                    sums.stream().mapToInt(GainBound.Sum::skipped).sum(), Tracking.alarm(stages) != null,
                    sums.stream().mapToLong(GainBound.Sum::boundEpisodes).sum(), sums.stream().mapToLong(GainBound.Sum::boundTokens).sum(),
                    sums.stream().mapToDouble(GainBound.Sum::secondsBound).sum());
        }
    }

    /** How the paper's certificate fared; NaN where there is none. */
    public record Certified(double certificate, double certificateRankCorrelation, double certificateRankCorrelationStages,
            double certificateViolationRate, double vacuousRate) {
        private static Certified of(List<RunLog.Stage> stages) {
            final List<Tracking.Entry> entries = Tracking.paper(stages);
            final List<RunLog.Stage> updated = stages.stream().filter(s -> s.stage() > 0).toList();
            final double sum = updated.stream().mapToDouble(s -> s.certified().certificate()).sum();
            return new Certified(updated.isEmpty() ? Double.NaN : sum, Tracking.rankCorrelation(Tracking.cumulated(entries)),
                    Tracking.rankCorrelation(entries), Tracking.violationRate(entries),
                    updated.stream().mapToDouble(s -> s.certified().vacuousRate()).average().orElse(Double.NaN));
        }
    }

    /** What was diagnosed beside the training; NaN where it was not. */
    public record Diagnosed(double stability, double maxDrawdown, double coord, double coordHandOffs, double gap,
            double deltaStale, @JsonProperty("d_occ") double dOcc, @JsonProperty("monitor_error_25") double monitorError25,
            @JsonProperty("monitor_error_25_p90") double monitorError25P90,
            @JsonProperty("monitor_flip_rate_25") double monitorFlipRate25,
            @JsonProperty("monitor_error_50") double monitorError50,
            @JsonProperty("monitor_error_50_p90") double monitorError50P90,
            @JsonProperty("monitor_flip_rate_50") double monitorFlipRate50, long diagnosticEpisodes, long diagnosticTokens) {
        private static Diagnosed of(List<RunLog.Stage> measured, List<RunLog.Diagnosis> all) {
            final double[] accuracy = measured.stream().mapToDouble(RunLog.Stage::accuracy).toArray();
            final List<RunLog.Coordination> coords = measured.stream().map(RunLog.Stage::coordination).toList();
            final double stages = all.stream().mapToInt(RunLog.Diagnosis::stage).distinct().count();
            return new Diagnosed(Diagnostics.stability(accuracy), Diagnostics.maxDrawdown(accuracy),
                    coords.isEmpty() ? Double.NaN : coords.get(coords.size() - 1).coord(),
                    coords.isEmpty() ? Double.NaN : coords.get(coords.size() - 1).coordHandOffs(),
                    all.stream().filter(d -> d.step() > 1).mapToDouble(RunLog.Diagnosis::gap).average().orElse(Double.NaN),
                    all.stream().mapToDouble(RunLog.Diagnosis::deltaStale).sum() / stages,
                    all.stream().mapToDouble(RunLog.Diagnosis::dOcc).sum() / stages, error(all, RunLog.Diagnosis::monitor25, 0.5),
                    error(all, RunLog.Diagnosis::monitor25, 0.9), flips(all, RunLog.Diagnosis::monitor25),
                    error(all, RunLog.Diagnosis::monitor50, 0.5), error(all, RunLog.Diagnosis::monitor50, 0.9),
                    flips(all, RunLog.Diagnosis::monitor50), all.stream().mapToLong(RunLog.Diagnosis::episodes).sum(),
                    all.stream().mapToLong(RunLog.Diagnosis::tokens).sum());
        }

        private static double error(List<RunLog.Diagnosis> all, ToDoubleFunction<RunLog.Diagnosis> part, double quantile) {
            return Diagnostics.quantile(all.stream()
                    .mapToDouble(d -> Diagnostics.monitorError(part.applyAsDouble(d), d.klReached(), d.delta()))
                    .filter(Double::isFinite).toArray(), quantile);
        }

        private static double flips(List<RunLog.Diagnosis> all, ToDoubleFunction<RunLog.Diagnosis> part) {
            final List<RunLog.Diagnosis> there = all.stream().filter(d -> Double.isFinite(part.applyAsDouble(d))).toList();
            return Diagnostics.flipRate(there.stream().mapToDouble(part).toArray(),
                    there.stream().mapToDouble(RunLog.Diagnosis::klReached).toArray(),
                    there.stream().mapToDouble(RunLog.Diagnosis::delta).toArray());
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
        final List<RunLog.Stage> measured = stages.stream().filter(s -> s.heldOutEpisodes() > 0).toList();
        RunLog.Stage best = null;
        for (RunLog.Stage s : measured) {
            best = best == null || s.returnMean() > best.returnMean() ? s : best;
        }
        final RunLog.Stage first = measured.isEmpty() ? null : measured.get(0);
        final RunLog.Stage last = measured.isEmpty() ? null : measured.get(measured.size() - 1);
        final int out = (int) updates.stream().filter(RunLog.Update::outOfRegion).count();
        final double seconds = sum(stages, RunLog.Stage::seconds);
        final double rollout = sum(stages, RunLog.Stage::secondsRollout);
        final double update = sum(stages, RunLog.Stage::secondsUpdate);
        final double monitor = sum(stages, RunLog.Stage::secondsKl);
        final long tokens = stages.stream().mapToLong(RunLog.Stage::tokens).sum();
        final int done = (int) stages.stream().filter(s -> s.stage() > 0).count();
        final double scoreGap = updates.stream().mapToDouble(RunLog.Update::scoreGap).max().orElse(Double.NaN);
        return new RunSummary(version, command, seed, List.copyOf(agents), done, updates.size(), untrained[0], untrained[1],
                accuracy(first), accuracy(best), accuracy(last), best == null ? 0 : best.stage(), reward(first), reward(best),
                reward(last), out, Diagnostics.outOfRegionRate(updates.stream().mapToDouble(RunLog.Update::kl).toArray(),
                        updates.stream().mapToDouble(RunLog.Update::delta).toArray()), sum(stages, RunLog.Stage::predictedGain),
                sum(stages, RunLog.Stage::realisedGain), scoreGap, stages.stream().mapToLong(RunLog.Stage::episodes).sum(), tokens,
                tokens / rollout, seconds, rollout / seconds, update / seconds, monitor / seconds,
                sum(stages, RunLog.Stage::secondsEval) / seconds, monitor / (rollout + update + monitor),
                peakResident(Path.of("/proc/self/status")), updates.stream().mapToDouble(u -> u.outcome().klFloor())
                        .filter(Double::isFinite).max().orElse(Double.NaN), Unchanged.Counts.of(updates),
                Certified.of(stages), Bounded.of(updates, stages),
                Diagnosed.of(measured, diagnoses));
    }

    private static double accuracy(RunLog.Stage stage) {
        return stage == null ? Double.NaN : stage.accuracy();
    }

    private static double reward(RunLog.Stage stage) {
        return stage == null ? Double.NaN : stage.returnMean();
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
