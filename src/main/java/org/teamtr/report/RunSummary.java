package org.teamtr.report;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Objects;
import java.util.function.Function;
import java.util.stream.Stream;
import org.teamtr.train.RunLog;

/** A run in numbers, {@code summary.json}; docs/metrics.md explains every name. Null or NaN where nothing was measured. */
public record RunSummary(String version, String command, long seed, List<String> agents, int stages, int updates,
        double accuracyUntrained, double returnUntrained, double accuracyBefore, double accuracyBest, double accuracyLast, int bestStage, double returnBefore, double returnBest,
        double returnLast, int outOfRegionUpdates, double outOfRegionRate, double predictedGain, double realisedGain, double scoreGap,
        long episodes, long tokens, double tokensPerSecond, double seconds, double shareRollout, double shareUpdate,
        double shareMonitor, double shareEval, double monitorShareOfUpdate, Long peakResidentBytes) {

    /**
     * {@return the summary of a run}
     *
     * @param version of the program
     * @param command the command line
     * @param agents roles, in the team's order
     * @param untrained accuracy and return before any training, warm start included; NaN where there was none
     * @param updates all of them, the oldest first
     * @param stages all of them, stage 0 first
     */
    public static RunSummary of(String version, String command, long seed, List<String> agents, double[] untrained,
            List<RunLog.Update> updates, List<RunLog.Stage> stages) {
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
                reward(last), out, (double) out / updates.size(), sum(stages, RunLog.Stage::predictedGain),
                sum(stages, RunLog.Stage::realisedGain), scoreGap, stages.stream().mapToLong(RunLog.Stage::episodes).sum(), tokens,
                tokens / rollout, seconds, rollout / seconds, update / seconds, monitor / seconds,
                sum(stages, RunLog.Stage::secondsEval) / seconds, monitor / (rollout + update + monitor),
                peakResident(Path.of("/proc/self/status")));
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
