package org.teamtr.experiment;

import com.fasterxml.jackson.annotation.JsonUnwrapped;
import com.fasterxml.jackson.databind.SerializationFeature;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.IntStream;
import org.teamtr.report.Charts;
import org.teamtr.report.Json;
import org.teamtr.report.RunWriter;
import org.teamtr.train.Estimate;

/**
 * The results of the runs of an experiment. As files: {@code runs.csv} and {@code stages.csv}, which hold it all; {@code points.csv}, the
 * means of these; {@code experiment.json}, how it was measured. An empty field is a number that a run does not have.
 */
public final class ExperimentData {
    /** One line per run. */
    public static final String RUNS = "runs.csv";
    /** One line per point. */
    public static final String POINTS = "points.csv";
    /** One line per point and stage. */
    public static final String STAGES = "stages.csv";
    /** An {@link Info}. */
    public static final String INFO = "experiment.json";
    /** The first columns of {@code runs.csv}. An experiment's own columns have other names. */
    public static final List<String> OF_RUNS = List.of("point", "seed", "stages", "seconds");

    /**
     * How it was measured.
     *
     * @param seconds of wall clock, of all starts together that made runs
     * @param runs that were to be made
     * @param failed names of those that failed
     */
    public record Info(String name, @JsonUnwrapped Origin origin, @JsonUnwrapped Extent extent, double seconds, int runs,
            List<String> failed) {
    }

    /** What measured it. */
    public record Origin(String command, String version, String machine) {
    }

    /**
     * How much of it was measured.
     *
     * @param quick whether with the smaller settings
     * @param workers runs at a time
     */
    public record Extent(boolean quick, int seeds, int workers) {
    }

    /**
     * One run.
     *
     * @param seconds its stages', without start and warm start
     * @param values in the order of the experiment's columns, scaled; NaN where there is none
     */
    public record Run(String point, long seed, int stages, double seconds, Map<String, Double> values) {
    }

    /**
     * Numbers of several seeds.
     *
     * @param deviation s with s² = Σ (x - mean)² / (n - 1); NaN of fewer than two
     * @param n those that are numbers
     */
    public record Stat(double mean, double deviation, int n) {
        /** {@return that of the values that are numbers; a mean of NaN of none} */
        static Stat of(double... values) {
            final double[] there = Arrays.stream(values).filter(Double::isFinite).toArray();
            return new Stat(Arrays.stream(there).average().orElse(Double.NaN), Estimate.deviation(there), there.length);
        }

        /**
         * {@return a ratio of means and not the mean of ratios, which a single small denominator decides: scale Σa / Σb, with the
         * deviation of (a - r b) / mean b about 0, its first-order scatter}
         */
        static Stat ofRatio(double[] a, double[] b, double scale) {
            final int[] there = IntStream.range(0, a.length).filter(i -> Double.isFinite(a[i]) && Double.isFinite(b[i])).toArray();
            final double sum = Arrays.stream(there).mapToDouble(i -> b[i]).sum();
            final double r = Arrays.stream(there).mapToDouble(i -> a[i]).sum() / sum;
            final double squares = Arrays.stream(there).mapToDouble(i -> (a[i] - r * b[i]) * (a[i] - r * b[i])).sum();
            final int n = there.length;
            return new Stat(n == 0 ? Double.NaN : scale * r,
                    n < 2 ? Double.NaN : Math.abs(scale / (sum / n)) * Math.sqrt(squares / (n - 1)), n);
        }

        /** {@return the standard error of the mean} */
        double error() {
            return deviation / Math.sqrt(n);
        }

        /** {@return as text, mean ± standard deviation} */
        String text() {
            return !Double.isFinite(mean) ? "–" : number(mean) + (n > 1 ? " ± " + number(deviation) : "");
        }

        /** Counts in full, anything else with three digits. */
        private static String number(double value) {
            return value == Math.rint(value) && Math.abs(value) < 1e7 ? Long.toString((long) value).replace('-', '−')
                    : Charts.number(value);
        }
    }

    final Info info;
    final List<Run> runs;
    private final Map<String, Experiment.Column> columns;
    /** Point, curve, stage. */
    final Map<String, Map<String, Map<Integer, Stat>>> curves;

    private ExperimentData(Experiment experiment, Info info, List<Run> runs,
            Map<String, Map<String, Map<Integer, Stat>>> curves) {
        this.columns = experiment.columns();
        this.info = info;
        this.runs = runs;
        this.curves = curves;
    }

    /** A finished run: its point, its seed and its directory. */
    public record Made(String point, long seed, Path folder) {
    }

    /**
     * {@return the results of finished runs}
     *
     * @throws IOException if one lacks a number of a column, naming it
     */
    public static ExperimentData read(Experiment experiment, Info info, List<Made> made) throws IOException {
        final List<Run> runs = new ArrayList<>();
        final Map<String, Map<String, Map<Integer, List<Double>>>> values = new LinkedHashMap<>();
        for (Made m : made) {
            final RunNumbers numbers = new RunNumbers(m.folder());
            final Map<String, Double> row = new LinkedHashMap<>();
            for (var entry : experiment.columns().entrySet()) {
                final Experiment.Column c = entry.getValue();
                row.put(entry.getKey(), c.scale() * (c.ratio() == null ? numbers.value(c.of())
                        : row.get(c.ratio().get(0)) / row.get(c.ratio().get(1))));
            }
            runs.add(new Run(m.point(), m.seed(), (int) numbers.value("summary.stages"), numbers.value("summary.seconds"), row));
            for (var curve : experiment.curves().entrySet()) {
                final Map<Integer, List<Double>> stages = values.computeIfAbsent(m.point(), p -> new LinkedHashMap<>())
                        .computeIfAbsent(curve.getKey(), c -> new TreeMap<>());
                final Experiment.Column c = curve.getValue();
                (c.bin() > 0 ? numbers.histogram(c.of(), c.bin()) : numbers.curve(c.of()))
                        .forEach((stage, value) -> stages.computeIfAbsent(stage, s -> new ArrayList<>()).add(c.scale() * value));
            }
        }
        final Map<String, Map<String, Map<Integer, Stat>>> curves = new LinkedHashMap<>();
        values.forEach((point, ofPoint) -> ofPoint.forEach((curve, stages) -> stages
                .forEach((stage, all) -> put(curves, point, curve, stage, Stat.of(all.stream().mapToDouble(d -> d).toArray())))));
        return new ExperimentData(experiment, info, runs, curves);
    }

    private static void put(Map<String, Map<String, Map<Integer, Stat>>> curves, String point, String curve, int stage,
            Stat stat) {
        curves.computeIfAbsent(point, p -> new LinkedHashMap<>()).computeIfAbsent(curve, c -> new TreeMap<>()).put(stage, stat);
    }

    /** {@return mean and deviation of a column over the seeds of a point} */
    Stat stat(String point, String column) {
        final Experiment.Column c = columns.get(column);
        final List<String> ratio = c == null ? null : c.ratio();
        return ratio == null ? Stat.of(values(point, column))
                : Stat.ofRatio(values(point, ratio.get(0)), values(point, ratio.get(1)), c.scale());
    }

    private double[] values(String point, String column) {
        return runs.stream().filter(r -> r.point().equals(point))
                .mapToDouble(r -> r.values().getOrDefault(column, Double.NaN)).toArray();
    }

    /** {@return a column of a point by seed, without what is no number} */
    Map<Long, Double> bySeed(String point, String column) {
        final Map<Long, Double> values = new TreeMap<>();
        runs.stream().filter(r -> r.point().equals(point) && Double.isFinite(r.values().getOrDefault(column, Double.NaN)))
                .forEach(r -> values.put(r.seed(), r.values().get(column)));
        return values;
    }

    // ---- files ----

    /** Writes all files. */
    public void write(Experiment experiment, Path folder) throws IOException {
        final List<String> columns = List.copyOf(experiment.columns().keySet());
        final StringBuilder byRun = new StringBuilder(String.join(",", OF_RUNS) + "," + String.join(",", columns) + "\n");
        for (Run r : runs) {
            byRun.append(r.point()).append(',').append(r.seed()).append(',').append(r.stages()).append(',')
                    .append(field(r.seconds()));
            columns.forEach(c -> byRun.append(',').append(field(r.values().getOrDefault(c, Double.NaN))));
            byRun.append('\n');
        }
        final StringBuilder byPoint = new StringBuilder("point,n");
        columns.forEach(c -> byPoint.append(',').append(c).append("_mean,").append(c).append("_sd"));
        byPoint.append('\n');
        for (Experiment.Point p : experiment.points()) {
            final long n = runs.stream().filter(r -> r.point().equals(p.name())).count();
            if (n > 0) {
                byPoint.append(p.name()).append(',').append(n);
                columns.forEach(c -> {
                    final Stat s = stat(p.name(), c);
                    byPoint.append(',').append(field(s.mean())).append(',').append(field(s.deviation()));
                });
                byPoint.append('\n');
            }
        }
        final StringBuilder byStage = new StringBuilder("point,curve,stage,mean,sd,n\n");
        curves.forEach((point,
                ofPoint) -> ofPoint.forEach((curve,
                        stages) -> stages.forEach((stage, s) -> byStage.append(point).append(',').append(curve).append(',').append(stage).append(',')
                                .append(field(s.mean()))
                                .append(',').append(field(s.deviation())).append(',').append(s.n()).append('\n'))));
        replace(folder.resolve(RUNS), byRun);
        replace(folder.resolve(POINTS), byPoint);
        replace(folder.resolve(STAGES), byStage);
        writeInfo(info, folder);
    }

    /** Writes {@code experiment.json} alone. */
    public static void writeInfo(Info info, Path folder) throws IOException {
        RunWriter.replace(folder.resolve(INFO), Json.MAPPER.writer().with(SerializationFeature.INDENT_OUTPUT)
                .writeValueAsBytes(info));
    }

    private static void replace(Path file, StringBuilder text) throws IOException {
        RunWriter.replace(file, text.toString().getBytes(StandardCharsets.UTF_8));
    }

    private static String field(double value) {
        return Double.isFinite(value) ? Double.toString(value) : "";
    }

    /** {@return how the experiment of this folder was measured, or null if it was not} */
    public static Info info(Path folder) throws IOException {
        final Path file = folder.resolve(INFO);
        return Files.exists(file) ? Json.MAPPER.readValue(Files.readAllBytes(file), Info.class) : null;
    }

    /**
     * {@return what {@link #write} wrote}
     *
     * @throws IOException if a file is missing or a line is of another form, naming it
     */
    public static ExperimentData load(Experiment experiment, Path folder) throws IOException {
        final List<Run> runs = new ArrayList<>();
        for (Map<String, String> line : table(folder.resolve(RUNS))) {
            final Map<String, Double> values = new LinkedHashMap<>();
            line.forEach((name, text) -> values.put(name, text.isEmpty() || name.equals("point") ? Double.NaN
                    : Double.parseDouble(text)));
            final Run run = new Run(line.get("point"), values.get("seed").longValue(), values.get("stages").intValue(),
                    values.get("seconds"), values);
            values.keySet().removeAll(OF_RUNS);
            runs.add(run);
        }
        final Map<String, Map<String, Map<Integer, Stat>>> curves = new LinkedHashMap<>();
        for (Map<String, String> line : table(folder.resolve(STAGES))) {
            put(curves, line.get("point"), line.get("curve"), Integer.parseInt(line.get("stage")),
                    new Stat(number(line.get("mean")),
                            number(line.get("sd")), Integer.parseInt(line.get("n"))));
        }
        return new ExperimentData(experiment, info(folder), runs, curves);
    }

    private static double number(String field) {
        return field.isEmpty() ? Double.NaN : Double.parseDouble(field);
    }

    /** The lines of a CSV file by the names in its first; names and numbers have no commas. */
    private static List<Map<String, String>> table(Path file) throws IOException {
        final List<String> lines = Files.readAllLines(file);
        final List<Map<String, String>> rows = new ArrayList<>();
        final String[] names = lines.isEmpty() ? new String[0] : lines.get(0).split(",", -1);
        for (int i = 1; i < lines.size(); i++) {
            final String[] fields = lines.get(i).split(",", -1);
            if (fields.length != names.length) {
                throw new IOException(file + ", line " + (i + 1) + ": expected " + names.length + " fields, given "
                        + fields.length);
            }
            final Map<String, String> row = new LinkedHashMap<>();
            for (int f = 0; f < names.length; f++) {
                row.put(names[f], fields[f]);
            }
            rows.add(row);
        }
        return rows;
    }
}
