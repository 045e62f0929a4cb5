package org.teamtr.jmh;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.stream.Collectors;

/** What {@link TrainerSpeed} measured of two commits, as a table between {@code <!-- decoding -->} and {@code <!-- /decoding -->} of a page. */
public final class SpeedTable {
    private SpeedTable() {
    }

    /** Arguments: the CSV, the page, the older commit, the newer commit, the machine in words. */
    public static void main(String[] args) throws IOException {
        final Map<List<String>, Map<String, List<Double>>> measured = new LinkedHashMap<>(); // model, adapters, measure, rows; commit
        for (String line : Files.readAllLines(Path.of(args[0])).stream().skip(1).toList()) {
            final String[] v = line.split(",");
            measured.computeIfAbsent(List.of(v[1], v[2], v[3], v[4]), key -> new LinkedHashMap<>())
                    .computeIfAbsent(v[0], key -> new ArrayList<>()).add(Double.parseDouble(v[8]));
        }
        final StringBuilder text = new StringBuilder(args[4] + ". Tokens per second, the mean of all turns:\n\n"
                + "| parameters | adapters | | rows | " + args[2] + " | " + args[3] + " | times as many |\n|---|---|---|---|---|---|---|\n");
        measured.forEach((key, commits) -> {
            final double before = mean(commits.get(args[2]));
            final double now = mean(commits.get(args[3]));
            text.append(String.format(Locale.ROOT, "| %s | %s | %s | %s | %.1f | %.1f | %.1f |%n", key.get(0).toUpperCase(Locale.ROOT),
                    key.get(1).equals("0") ? "none, all weights learn" : "rank " + key.get(1), key.get(2), key.get(3), before, now, now / before));
        });
        Tables.between(Path.of(args[1]), "decoding", text.toString());
    }

    private static double mean(List<Double> values) {
        return values.stream().collect(Collectors.averagingDouble(v -> v));
    }
}
