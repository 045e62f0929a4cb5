package org.teamtr.report;

import java.awt.Color;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.knowm.xchart.XYChart;
import org.teamtr.train.RunLog;

/**
 * Predicted and realised gains of several runs side by side, summed over the stages. All panels have the same scale, so that they can be compared.
 */
public final class GainsPicture {
    private static final String HEADER = "label,stage,predicted_gain,realised_gain,realised_gain_error,predicted_total,realised_total,"
            + "realised_total_error";
    private static final Pattern ROW = Pattern.compile("\"(.+)\",(\\d+(?:,-?[0-9.]+(?:E-?\\d+)?){6})");
    private static final int COLUMNS = 3;
    private static final int POINTS = 60;

    private GainsPicture() {
    }

    /**
     * A run to compare.
     *
     * @param label names it in the picture, for example {@code n = 4, stale}; not empty, one line
     * @param run its directory
     */
    public record Labelled(String label, Path run) {
        /** @throws IllegalArgumentException if the label is empty or has line breaks */
        public Labelled {
            if (label.isBlank() || label.contains("\n") || label.contains("\r")) {
                throw new IllegalArgumentException("label: expected one line of text, given \"" + label + "\"");
            }
        }
    }

    /**
     * Writes the data of the picture: one line for each label and measured stage, with sums from the first stage on. Runs of the same
     * label, which should differ in their seeds alone, are averaged as far as all of them go.
     *
     * @throws IOException if a run cannot be read or has no stage with a realised gain, naming it
     */
    public static void csv(List<Labelled> runs, Path csv) throws IOException {
        final Map<String, List<List<Gains.Entry>>> gains = new LinkedHashMap<>();
        for (Labelled labelled : runs) {
            final List<RunLog.Stage> stages = RunFiles.stages(labelled.run());
            final List<Gains.Entry> entries = Gains.predicted(stages);
            if (entries.isEmpty()) {
                throw new IOException(labelled.run() + ": expected stages with a realised gain, given " + stages.size()
                        + " stages without one; eval.every decides how often it is measured");
            }
            gains.computeIfAbsent(labelled.label(), l -> new ArrayList<>()).add(entries);
        }
        final StringBuilder text = new StringBuilder(HEADER).append('\n');
        gains.forEach((label, seeds) -> {
            final List<Gains.Entry> entries = Gains.mean(seeds);
            final List<Gains.Entry> totals = Gains.cumulated(entries);
            for (int i = 0; i < entries.size(); i++) {
                final Gains.Entry e = entries.get(i);
                final Gains.Entry t = totals.get(i);
                text.append('"').append(label.replace("\"", "\"\"")).append("\",").append(e.stage());
                for (double value : new double[] {e.expected(), e.realised(), e.error(), t.expected(), t.realised(),
                    t.error()}) {
                    text.append(',').append(value);
                }
                text.append('\n');
            }
        });
        RunWriter.replace(csv, text.toString().getBytes(StandardCharsets.UTF_8));
    }

    /**
     * Draws the picture from what {@link #csv} wrote.
     *
     * @param picture its name ends in .svg or .png
     * @throws IOException if the CSV file is of another form, naming the line, or there are no fonts to draw with
     * @throws IllegalArgumentException if the picture's name ends otherwise
     */
    public static void draw(Path csv, Path picture) throws IOException {
        Panels.check(picture);
        final List<Charts.Drawing> panels = panels(read(csv));
        final int columns = panels.size() == 4 ? 2 : Math.min(COLUMNS, panels.size());
        Panels.write(panels, columns, picture);
    }

    /** Rows by label, in the file's order: stage, predicted total, realised total, its error. */
    private static Map<String, List<double[]>> read(Path csv) throws IOException {
        final List<String> lines = Files.readAllLines(csv);
        if (lines.isEmpty() || !lines.get(0).equals(HEADER)) {
            throw new IOException(csv + ", line 1: expected \"" + HEADER + "\", given \"" + (lines.isEmpty() ? "" : lines.get(0))
                    + "\"");
        }
        final Map<String, List<double[]>> runs = new LinkedHashMap<>();
        for (int i = 1; i < lines.size(); i++) {
            final Matcher row = ROW.matcher(lines.get(i));
            if (!row.matches()) {
                throw new IOException(csv + ", line " + (i + 1) + ": expected \"label\" and 7 numbers, given " + lines.get(i));
            }
            final double[] numbers = Arrays.stream(row.group(2).split(",")).mapToDouble(Double::parseDouble).toArray();
            runs.computeIfAbsent(row.group(1).replace("\"\"", "\""), l -> new ArrayList<>())
                    .add(new double[] {numbers[0], numbers[4], numbers[5], numbers[6]});
        }
        if (runs.isEmpty()) {
            throw new IOException(csv + ": expected one run or more, given none");
        }
        return runs;
    }

    private static List<Charts.Drawing> panels(Map<String, List<double[]>> runs) {
        final List<double[]> all = runs.values().stream().flatMap(List::stream).toList();
        final double least = Math.min(0, all.stream().mapToDouble(r -> Math.min(r[1], r[2] - r[3])).min().orElseThrow());
        final double most = Math.max(0, all.stream().mapToDouble(r -> Math.max(r[1], r[2] + r[3])).max().orElseThrow());
        final double last = all.stream().mapToDouble(r -> r[0]).max().orElseThrow();
        final double room = most > least ? 0.04 * (most - least) : 1;
        final List<Charts.Drawing> panels = new ArrayList<>();
        runs.forEach((label, rows) -> {
            final XYChart chart = new XYChart(Panels.WIDTH, Panels.HEIGHT);
            Panels.dress(chart.getStyler(), Color.DARK_GRAY, Color.WHITE);
            chart.setTitle(label);
            chart.setXAxisTitle("stage");
            chart.setYAxisTitle("gain so far");
            chart.getStyler().setYAxisMin(least - room).setYAxisMax(most + room).setXAxisMin(0.0).setXAxisMax(1.03 * last);
            // From the origin on: both gains are 0 before the first stage.
            final List<double[]> points = new ArrayList<>(List.of(new double[4]));
            final int[] bins = Charts.bins(rows.size(), POINTS);
            for (int b = 1; b < bins.length; b++) {
                points.add(rows.get(bins[b] - 1));
            }
            final double[] x = points.stream().mapToDouble(r -> r[0]).toArray();
            final Charts.Series predicted = Charts.Series.line("predicted", x, points.stream().mapToDouble(r -> r[1]).toArray(),
                    Charts.PALETTE.get(1));
            final Charts.Series realised = new Charts.Series("realised", x, points.stream().mapToDouble(r -> r[2]).toArray(),
                    points.stream().mapToDouble(r -> r[3]).toArray(), Charts.PALETTE.get(0), Charts.Look.LINE);
            Charts.add(chart, predicted);
            Charts.add(chart, realised);
            panels.add(chart::paint);
        });
        return panels;
    }
}
