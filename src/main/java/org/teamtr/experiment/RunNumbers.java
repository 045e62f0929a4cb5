package org.teamtr.experiment;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.IntStream;
import org.teamtr.report.Json;
import org.teamtr.report.RunFiles;

/**
 * Numbers of a finished run by the names that docs/metrics.md explains. {@code summary.accuracy_last} is a number of summary.json;
 * {@code metrics.kl} the mean of a number over the lines of metrics.jsonl, likewise of stages, diagnostics and replacements;
 * {@code diagnostics.weight_ess@2} over the lines whose step is 2. Sums and differences, and one over another:
 * {@code summary.realised_gain / summary.predicted_gain}. True counts 1, false 0; what is null is left out of means.
 */
public final class RunNumbers {
    private static final Pattern TERM =
            Pattern.compile("(summary|metrics|stages|diagnostics|replacements)\\.([a-z][a-z0-9_]*)(?:@([1-9][0-9]*))?");

    private final Path run;
    private final Map<String, List<JsonNode>> files = new HashMap<>();

    /** Reads files when they are first needed. */
    public RunNumbers(Path run) {
        this.run = run;
    }

    /** {@return whether {@link #value} understands it} */
    public static boolean understands(String of) {
        final String[] sides = of.split(" / ", -1);
        if (sides.length > 2) {
            return false;
        }
        for (String side : sides) {
            for (String term : side.split(" [-+] ", -1)) {
                if (!TERM.matcher(term).matches() || term.startsWith("summary.") && term.contains("@")) {
                    return false;
                }
            }
        }
        return true;
    }

    /**
     * {@return the number; NaN where the run has none}
     *
     * @throws IOException if a file is missing or knows no such name, naming both
     */
    public double value(String of) throws IOException {
        final String[] sides = of.split(" / ", -1);
        return sides.length == 1 ? sum(of) : sum(sides[0]) / sum(sides[1]);
    }

    private double sum(String terms) throws IOException {
        if (!understands(terms)) {
            throw new IllegalArgumentException("of: expected FILE.NAME, given " + terms);
        }
        double sum = 0;
        final Matcher parts = TERM.matcher(terms);
        while (parts.find()) {
            final double sign = terms.startsWith("- ", Math.max(0, parts.start() - 2)) ? -1 : 1;
            final int step = parts.group(3) == null ? 0 : Integer.parseInt(parts.group(3));
            double total = 0;
            int count = 0;
            for (JsonNode line : lines(parts.group(1), parts.group(2))) {
                final double value = number(line.get(parts.group(2)));
                if ((step == 0 || line.path("step").asInt() == step) && Double.isFinite(value)) {
                    total += value;
                    count++;
                }
            }
            sum += count == 0 ? Double.NaN : sign * total / count;
        }
        return sum;
    }

    /**
     * {@return a number of stages.jsonl by stage, those that have it}
     *
     * @throws IOException as {@link #value}
     */
    public Map<Integer, Double> curve(String of) throws IOException {
        final Map<Integer, Double> curve = new TreeMap<>();
        final String name = of.substring("stages.".length());
        for (JsonNode line : lines("stages", name)) {
            final double value = number(line.get(name));
            if (Double.isFinite(value)) {
                curve.put(line.path("stage").asInt(), value);
            }
        }
        return curve;
    }

    /** Bins of a histogram; the last holds all that is beyond. */
    static final int BINS = 16;

    /**
     * {@return the share of a file's lines by bin: 0 for those from 0 to less than {@code bin}, 1 for the next, ...; where nothing is
     * below 0. What is null is left out}
     *
     * @param of a number of a line, or one over another
     * @throws IOException as {@link #value}
     */
    public Map<Integer, Double> histogram(String of, double bin) throws IOException {
        final List<double[]> sides = new ArrayList<>();
        for (String side : of.split(" / ")) {
            final String[] name = side.split("\\.");
            sides.add(lines(name[0], name[1]).stream().mapToDouble(line -> number(line.get(name[1]))).toArray());
        }
        final Map<Integer, Double> shares = new TreeMap<>();
        for (int b = 0; b < BINS; b++) {
            shares.put(b, 0.0);
        }
        final double[] values = IntStream.range(0, sides.get(0).length)
                .mapToDouble(i -> sides.size() == 1 ? sides.get(0)[i] : sides.get(0)[i] / sides.get(1)[i])
                .filter(Double::isFinite).toArray();
        for (double value : values) {
            shares.merge((int) Math.max(0, Math.min(BINS - 1, value / bin)), 1.0 / values.length, Double::sum);
        }
        return shares;
    }

    private static double number(JsonNode value) {
        return value == null || value.isNull() ? Double.NaN : value.isBoolean() ? (value.booleanValue() ? 1 : 0)
                : value.asDouble(Double.NaN);
    }

    private List<JsonNode> lines(String file, String name) throws IOException {
        final Path path = run.resolve(file.equals("summary") ? RunFiles.SUMMARY : file + ".jsonl");
        List<JsonNode> lines = files.get(file);
        if (lines == null) {
            if (!Files.exists(path)) {
                throw new IOException(path + ": no such file, of which " + name + " is asked for");
            }
            lines = new ArrayList<>();
            try {
                if (file.equals("summary")) {
                    lines.add(Json.MAPPER.readTree(path.toFile()));
                } else {
                    for (byte[] line : RunFiles.split(Files.readAllBytes(path))) {
                        lines.add(Json.MAPPER.readTree(line));
                    }
                }
            } catch (JsonProcessingException e) {
                throw new IOException(path + ": " + e.getOriginalMessage(), e);
            }
            files.put(file, lines);
        }
        if (lines.stream().noneMatch(line -> line.has(name))) {
            throw new IOException(path + ": expected a number " + name + ", found none");
        }
        return lines;
    }
}
