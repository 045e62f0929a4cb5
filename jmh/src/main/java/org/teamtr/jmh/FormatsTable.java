package org.teamtr.jmh;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import org.teamtr.report.RunFiles;
import org.teamtr.report.RunSummary;
import org.teamtr.train.RunLog;

/** What became of the same run in several number formats: a CSV, and a table between {@code <!-- deep -->} and its end. */
public final class FormatsTable {
    private FormatsTable() {
    }

    /** Arguments: the CSV to write, the page, LABEL=RUN... */
    public static void main(String[] args) throws IOException {
        final List<String> lines = new ArrayList<>(List.of("format,seed,delta,kl_floor_first,kl_floor_last,updates,accepted,rolled_back_to_nothing,"
                + "tries_to_shorten,kl_mean,overflows,score_gap,return_before,return_last,accuracy_before,accuracy_last"));
        final StringBuilder table = new StringBuilder("| format | seed | δ | floor, first and last | updates that changed the policy |"
                + " tries to shorten a step that left | mean KL of all updates | return | accuracy |\n|---|---|---|---|---|---|---|---|---|\n");
        for (int i = 2; i < args.length; i++) {
            final String label = args[i].substring(0, args[i].indexOf('='));
            final Path run = Path.of(args[i].substring(args[i].indexOf('=') + 1));
            final RunSummary s = RunFiles.summary(run);
            final List<RunLog.Update> updates = RunFiles.updates(run);
            final double[] floors = updates.stream().mapToDouble(u -> u.outcome().klFloor()).filter(Double::isFinite).toArray();
            final int accepted = s.run().updates() - s.monitored().unchanged().unchanged();
            final double kl = updates.stream().mapToDouble(RunLog.Update::kl).average().orElse(Double.NaN);
            final double tries = updates.stream().filter(RunLog.Update::rolledBack).mapToInt(RunLog.Update::halvings).average()
                    .orElse(Double.NaN);
            lines.add(String.format(Locale.ROOT, "%s,%d,%g,%.4g,%.4g,%d,%d,%d,%.3g,%.4g,%d,%.4g,%.5f,%.5f,%.5f,%.5f", label, s.run().seed(),
                    updates.get(0).delta(), floors[0], floors[floors.length - 1], s.run().updates(), accepted,
                    s.monitored().unchanged().unchangedRolledBack(), tries, kl, s.monitored().unchanged().overflows(), s.monitored().scoreGap(),
                    s.returns().returnBefore(),
                    s.returns().returnLast(), s.accuracies().accuracyBefore(), s.accuracies().accuracyLast()));
            System.out.println(lines.get(lines.size() - 1));
            table.append(String.format(Locale.ROOT, "| %s | %d | %s | %.1e, %.1e | %d of %d | %s | %.1e | %.3f → %.3f | %.1f → %.1f %% |%n",
                    label, s.run().seed(), updates.get(0).delta(), floors[0], floors[floors.length - 1], accepted, s.run().updates(),
                    Double.isNaN(tries) ? "none left" : String.format(Locale.ROOT, "%.1f", tries), kl, s.returns().returnBefore(),
                    s.returns().returnLast(),
                    100 * s.accuracies().accuracyBefore(), 100 * s.accuracies().accuracyLast()));
        }
        Files.write(Path.of(args[0]), lines);
        Tables.between(Path.of(args[1]), "deep", table.toString());
    }
}
