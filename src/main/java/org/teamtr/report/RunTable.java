package org.teamtr.report;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.function.ToDoubleFunction;
import java.util.stream.Collectors;

/** Several runs in numbers: a CSV line for each, and a Markdown table with a line for each label, over its seeds. */
public final class RunTable {
    private static final String BEGIN = "<!-- runs -->";
    private static final String END = "<!-- /runs -->";

    /** Columns of the CSV file beside label and seed; docs/metrics.md explains them. */
    private static final Map<String, ToDoubleFunction<RunSummary>> COLUMNS = columns();

    private RunTable() {
    }

    private static Map<String, ToDoubleFunction<RunSummary>> columns() {
        final Map<String, ToDoubleFunction<RunSummary>> c = new LinkedHashMap<>();
        c.put("stages", v -> v.run().stages());
        c.put("updates", v -> v.run().updates());
        c.put("accuracy_untrained", v -> v.accuracies().accuracyUntrained());
        c.put("accuracy_before", v -> v.accuracies().accuracyBefore());
        c.put("accuracy_best", v -> v.accuracies().accuracyBest());
        c.put("accuracy_last", v -> v.accuracies().accuracyLast());
        c.put("return_before", v -> v.returns().returnBefore());
        c.put("return_last", v -> v.returns().returnLast());
        c.put("out_of_region_updates", v -> v.monitored().outOfRegionUpdates());
        c.put("predicted_gain", v -> v.returns().predictedGain());
        c.put("realised_gain", v -> v.returns().realisedGain());
        c.put("score_gap", v -> v.monitored().scoreGap());
        c.put("episodes", v -> v.spent().episodes());
        c.put("tokens_per_second", v -> v.spent().tokensPerSecond());
        c.put("seconds", v -> v.spent().seconds());
        c.put("share_rollout", v -> v.spent().shares().shareRollout());
        c.put("share_update", v -> v.spent().shares().shareUpdate());
        c.put("monitor_share_of_update", v -> v.spent().shares().monitorShareOfUpdate());
        c.put("peak_resident_bytes", s -> s.spent().peakResidentBytes() == null ? Double.NaN : s.spent().peakResidentBytes());
        return c;
    }

    /** Writes one line for each run. */
    public static void csv(List<GainsPicture.Labelled> runs, Path file) throws IOException {
        final StringBuilder text = new StringBuilder("label,seed," + String.join(",", COLUMNS.keySet()) + ",command\n");
        for (GainsPicture.Labelled run : runs) {
            final RunSummary s = RunFiles.summary(run.run());
            text.append(quoted(run.label())).append(',').append(s.run().seed());
            for (ToDoubleFunction<RunSummary> column : COLUMNS.values()) {
                final double value = column.applyAsDouble(s);
                text.append(',').append(value == Math.rint(value) ? String.format(Locale.ROOT, "%.0f", value) : Double.toString(value));
            }
            text.append(',').append(quoted(s.run().command().replaceFirst(" --out \\S+", ""))).append('\n'); // where does not matter
        }
        RunWriter.replace(file, text.toString().getBytes(StandardCharsets.UTF_8));
    }

    private static String quoted(String text) {
        return '"' + text.replace("\"", "\"\"") + '"';
    }

    /**
     * Puts the table between the lines {@code <!-- runs -->} and {@code <!-- /runs -->} of a Markdown file.
     *
     * @throws IOException if the file cannot be read or has no such lines
     */
    public static void markdown(List<GainsPicture.Labelled> runs, Path file) throws IOException {
        final String text = Files.readString(file);
        final int begin = text.indexOf(BEGIN + "\n");
        final int end = text.indexOf(END + "\n");
        if (begin < 0 || end < begin) {
            throw new IOException(file + ": expected the lines " + BEGIN + " and " + END);
        }
        final Map<String, List<RunSummary>> byLabel = new LinkedHashMap<>();
        for (GainsPicture.Labelled run : runs) {
            byLabel.computeIfAbsent(run.label(), l -> new ArrayList<>()).add(RunFiles.summary(run.run()));
        }
        final StringBuilder table = new StringBuilder("| run | accuracy untrained | after warm start | after training | each seed | "
                + "predicted gain | realised gain | updates out of region | rollout / update / monitor |\n"
                + "|---|---|---|---|---|---|---|---|---|\n");
        byLabel.forEach((label, seeds) -> table.append(String.format(Locale.ROOT,
                "| %s | %.1f %% | %.1f %% | **%.1f %%** | %s | %.3f | %.3f | %d of %d | %.0f / %.0f / %.1f %% |%n", label,
                100 * mean(seeds, v -> v.accuracies().accuracyUntrained()), 100 * mean(seeds, v -> v.accuracies().accuracyBefore()),
                100 * mean(seeds, v -> v.accuracies().accuracyLast()),
                seeds.stream().map(s -> String.format(Locale.ROOT, "%.1f", 100 * s.accuracies().accuracyLast())).collect(Collectors.joining(", ")),
                mean(seeds, v -> v.returns().predictedGain()), mean(seeds, v -> v.returns().realisedGain()),
                seeds.stream().mapToInt(v -> v.monitored().outOfRegionUpdates()).sum(), seeds.stream().mapToInt(v -> v.run().updates()).sum(),
                100 * mean(seeds, s -> s.spent().shares().shareRollout() / busy(s)),
                100 * mean(seeds, s -> s.spent().shares().shareUpdate() / busy(s)),
                100 * mean(seeds, s -> s.spent().shares().shareMonitor() / busy(s)))));
        RunWriter.replace(file, (text.substring(0, begin + BEGIN.length() + 1) + table + text.substring(end)).getBytes(StandardCharsets.UTF_8));
    }

    /** Rollouts, updates and monitor together, of which the last column has the shares. */
    private static double busy(RunSummary s) {
        return s.spent().shares().shareRollout() + s.spent().shares().shareUpdate() + s.spent().shares().shareMonitor();
    }

    private static double mean(List<RunSummary> seeds, ToDoubleFunction<RunSummary> value) {
        return seeds.stream().mapToDouble(value).average().orElse(Double.NaN);
    }
}
