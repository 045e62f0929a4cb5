package org.teamtr.jmh;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.function.ToDoubleFunction;
import org.teamtr.report.RunFiles;
import org.teamtr.train.RunLog;

/**
 * One update of each run in numbers: docs/data/trainer.csv; and as tables, with that of the thread rule, between
 * {@code <!-- trainer -->} and {@code <!-- /trainer -->} of a page.
 */
public final class TrainerTables {
    private TrainerTables() {
    }

    /** Arguments: the CSV to write, those of {@code org.teamtr.torch.ThreadRule} without and with OMP_WAIT_POLICY=PASSIVE,
            the page, the machine in words, LABEL=RUN... */
    public static void main(String[] args) throws IOException {
        final List<String> lines =
                new ArrayList<>(List.of("run,updates,seconds_rollout,seconds_update,seconds_monitor,share_monitor,"
                        + "rollout_tokens_per_second,update_tokens_per_second,peak_resident_bytes,machine"));
        for (int i = 5; i < args.length; i++) {
            lines.add(line(args[i].substring(0, args[i].indexOf('=')), Path.of(args[i].substring(args[i].indexOf('=') + 1)),
                    args[4]));
        }
        Files.write(Path.of(args[0]), lines);
        final StringBuilder text = new StringBuilder(args[4]
                + ".\n\n| one update | rollout, s | update, s | monitor beside it, s | its share |"
                + " tokens/s, rollout | tokens/s, update | memory at most, GB |\n|---|---|---|---|---|---|---|---|\n");
        for (String line : lines.subList(1, lines.size())) {
            final String[] v = line.split(",");
            text.append(String.format(Locale.ROOT, "| %s | %.3f | %.3f | %.3f | %.1f %% | %.0f | %.0f | %.2f |%n", v[0],
                    number(v[2]),
                    number(v[3]), number(v[4]), 100 * number(v[5]), number(v[6]), number(v[7]), 1e-9 * number(v[8])));
        }
        text.append("\n| parameters | workers of one thread each, tokens/s | one worker of all threads, tokens/s"
                + " | workers, waiting passively | one worker, waiting passively |\n|---|---|---|---|---|\n");
        final List<String> passive = Files.readAllLines(Path.of(args[2]));
        for (String line : Files.readAllLines(Path.of(args[1])).stream().skip(1).toList()) {
            final String[] v = line.split(",");
            final String[] p = passive.stream().filter(l -> l.startsWith(v[0] + ",")).findFirst().orElseThrow().split(",");
            text.append(String.format(Locale.ROOT, "| %.1f M | %.0f | %.0f | %.0f | %.0f |%n", 1e-6 * number(v[0]),
                    number(v[2]) / number(v[3]), number(v[2]) / number(v[4]), number(p[2]) / number(p[3]), number(p[2])
                            / number(p[4])));
        }
        Tables.between(Path.of(args[3]), "trainer", text.toString());
    }

    private static double number(String text) {
        return Double.parseDouble(text);
    }

    /** Means over the updates that had fresh rollouts and learnt something; the first, which warms up, is left out. */
    private static String line(String label, Path run, String machine) throws IOException {
        final List<RunLog.Update> updates = RunFiles.updates(run)
                .stream().skip(1).filter(u -> u.secondsRollout() > 0 && u.innerSteps() > 0).toList();
        if (updates.isEmpty()) {
            throw new IOException(run + ": expected two updates or more that learnt something");
        }
        final double rollout = mean(updates, RunLog.Update::secondsRollout);
        final double update = mean(updates, RunLog.Update::secondsUpdate);
        final double monitor = mean(updates, RunLog.Update::secondsKl);
        return String.format(Locale.ROOT, "%s,%d,%.4f,%.4f,%.4f,%.4f,%.1f,%.1f,%d,%s", label, updates.size(), rollout, update,
                monitor,
                monitor / (rollout + update + monitor), mean(updates, u -> u.tokens()) / rollout,
                mean(updates, u -> (double) u.trainedTokens() * u.innerSteps()) / update,
                RunFiles.summary(run).spent().peakResidentBytes(),
                machine.replace(',', ';'));
    }

    private static double mean(List<RunLog.Update> updates, ToDoubleFunction<RunLog.Update> value) {
        return updates.stream().mapToDouble(value).average().orElseThrow();
    }
}
