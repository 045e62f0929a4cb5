package org.teamtr.jmh;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.function.ToDoubleFunction;
import java.util.stream.Collectors;

/**
 * An update of TeamTR and one of TRL's GRPOTrainer, from the CSV of {@code jmh/trainer.sh trl}, as a table between {@code <!-- trl -->} and
 * {@code <!-- /trl -->} of a page.
 */
public final class TrlTable {
    private TrlTable() {
    }

    /** Arguments: the CSV, the page, the machine in words. */
    public static void main(String[] args) throws IOException {
        final Map<String, List<String[]>> updates = new LinkedHashMap<>();
        for (String line : Files.readAllLines(Path.of(args[0])).stream().skip(1).toList()) {
            final String[] v = line.split(",", -1);
            updates.computeIfAbsent(v[0], who -> new ArrayList<>()).add(v);
        }
        final StringBuilder text = new StringBuilder(args[2] + ":\n\n| | seconds, mean | each | rollouts | update | monitor | memory at most |\n"
                + "|---|---|---|---|---|---|---|\n");
        updates.forEach((who, of) -> text.append(String.format(Locale.ROOT, "| %s | %.1f | %s | %s | %s | %s | %.1f GB |%n", who, mean(of, 1),
                of.stream().map(v -> String.format(Locale.ROOT, "%.1f", Double.parseDouble(v[1]))).collect(Collectors.joining(", ")),
                part(of, 3), part(of, 4), part(of, 5), 1e-9 * of.stream().mapToDouble(v -> Double.parseDouble(v[2])).max().orElseThrow())));
        Tables.between(Path.of(args[1]), "trl", text.toString());
    }

    private static double mean(List<String[]> updates, int column) {
        final ToDoubleFunction<String[]> value = v -> Double.parseDouble(v[column]);
        return updates.stream().collect(Collectors.averagingDouble(value));
    }

    /** TRL's time is known as a whole. */
    private static String part(List<String[]> updates, int column) {
        return updates.get(0)[column].isEmpty() ? "" : String.format(Locale.ROOT, "%.1f", mean(updates, column));
    }
}
