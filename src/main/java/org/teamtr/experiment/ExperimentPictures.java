package org.teamtr.experiment;

import java.awt.Color;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import org.knowm.xchart.CategoryChart;
import org.knowm.xchart.XYChart;
import org.knowm.xchart.style.Styler;
import org.teamtr.report.Charts;
import org.teamtr.report.Panels;

/** An experiment's charts, each beside the paper's where there are numbers of it. */
final class ExperimentPictures {
    /** More lines than this cannot be told apart. */
    private static final int LINES = 8;
    /** More names than this do not fit side by side under a chart. */
    private static final int ABREAST = 3;

    private final Experiment experiment;
    private final ExperimentData data;
    private final List<String> where;
    private final Color ink;
    private final Color paper;

    /** @param ink {@link Charts#INK} and a transparent {@code paper} for a page, dark on white for a picture */
    ExperimentPictures(Experiment experiment, ExperimentData data, Color ink, Color paper) {
        this.experiment = experiment;
        this.data = data;
        final boolean some = experiment.points().stream().anyMatch(p -> p.at().values().containsAll(experiment.pictures().where()));
        this.where = some ? experiment.pictures().where() : List.of(); // --quick may have left those out
        this.ink = ink;
        this.paper = paper;
    }

    /** A chart of the measurements and one of the paper's numbers; each may be null. */
    record Pair(String label, Charts.Drawing ours, Charts.Drawing papers) {
    }

    /** {@return a pair for each column that gets a picture, then one for each curve} */
    List<Pair> pairs() {
        final List<Pair> pairs = new ArrayList<>();
        for (String column : experiment.pictures().columns()) {
            final String label = experiment.columns().get(column).titled();
            pairs.add(experiment.pictures().x() == null ? new Pair(label, bars(column, label, false),
                    bars(column, "paper: " + label, true))
                    : new Pair(label, lines(column, label, false), lines(column, "paper: " + label, true)));
        }
        experiment.curves().forEach((name, curve) -> pairs.add(new Pair(curve.titled(), curves(name, curve), null)));
        return pairs;
    }

    /** {@return all charts for a picture of two columns} */
    List<Charts.Drawing> panels() {
        final List<Pair> pairs = pairs().stream().filter(pair -> pair.ours() != null).toList();
        final boolean beside = pairs.stream().anyMatch(pair -> pair.papers() != null);
        final List<Charts.Drawing> panels = new ArrayList<>();
        for (Pair pair : pairs) {
            panels.add(pair.ours());
            if (beside) {
                panels.add(pair.papers());
            }
        }
        return panels;
    }

    private List<Experiment.Point> shown() {
        return experiment.points().stream().filter(p -> p.at().values().containsAll(where)).toList();
    }

    private ExperimentData.Stat stat(String point, String column, boolean published) {
        return published ? new ExperimentData.Stat(experiment.published(point, column), Double.NaN, 1) : data.stat(point, column);
    }

    private Charts.Drawing bars(String column, String title, boolean published) {
        final List<Experiment.Point> points = shown().stream()
                .filter(p -> Double.isFinite(stat(p.name(), column, published).mean())).toList();
        final List<String> there = points.stream().map(Experiment.Point::name).toList();
        final List<String> labels = where.isEmpty() ? there : points.stream().map(p -> p.at().values().stream()
                .filter(value -> !where.contains(value)).collect(Collectors.joining("-"))).toList();
        if (there.isEmpty()) {
            return null;
        }
        final double[] y = there.stream().mapToDouble(p -> stat(p, column, published).mean()).toArray();
        final double[] error = there.stream().mapToDouble(p -> stat(p, column, published).deviation())
                .map(d -> Double.isFinite(d) ? d : 0).toArray();
        final CategoryChart chart = Charts.bars(labels, List.of(new Charts.Series(title, indices(there.size()), y, published ? null
                : error,
                published ? Charts.GREY : Charts.PALETTE.get(0), Charts.Look.LINE)), false);
        Panels.dress(chart.getStyler(), ink, paper);
        chart.setTitle(title);
        chart.getStyler().setLegendVisible(false);
        chart.getStyler().setXAxisMaxLabelCount(Math.max(2, there.size()));
        if (Arrays.stream(y).allMatch(d -> d == 0)) { // a scale of its own, or XChart makes none
            chart.getStyler().setYAxisMin(0.0).setYAxisMax(1.0);
        }
        if (there.size() > 4 || labels.stream().mapToInt(String::length).max().orElse(0) > 14) {
            chart.getStyler().setXAxisLabelRotation(there.size() > 8 ? 60 : 35);
        }
        return chart::paint;
    }

    private static double[] indices(int size) {
        final double[] x = new double[size];
        for (int i = 0; i < size; i++) {
            x[i] = i;
        }
        return x;
    }

    private Charts.Drawing lines(String column, String title, boolean published) {
        final String axis = experiment.pictures().x();
        final Map<String, List<Experiment.Point>> byOthers = new LinkedHashMap<>();
        for (Experiment.Point p : shown()) {
            final String others = p.at().entrySet().stream()
                    .filter(e -> !e.getKey().equals(axis) && !where.contains(e.getValue()))
                    .map(e -> e.getValue().matches("[-+0-9.e]+") ? e.getKey() + " " + e.getValue() : e.getValue())
                    .collect(Collectors.joining(", "));
            byOthers.computeIfAbsent(others, o -> new ArrayList<>()).add(p);
        }
        final List<Charts.Series> series = new ArrayList<>();
        int colour = 0;
        for (var entry : byOthers.entrySet()) {
            final List<Experiment.Point> points = entry.getValue();
            final double[] x = points.stream().mapToDouble(p -> Double.parseDouble(p.at().get(axis))).toArray();
            final double[] y = points.stream().mapToDouble(p -> stat(p.name(), column, published).mean()).toArray();
            final double[] error = points.stream().mapToDouble(p -> stat(p.name(), column, published).deviation()).toArray();
            series.add(new Charts.Series(entry.getKey().isEmpty() ? title : entry.getKey(), x, y, published ? null : error,
                    Charts.PALETTE.get(colour++ % Charts.PALETTE.size()), Charts.Look.LINE));
        }
        return dressed(Charts.xy(series, Charts.Scale.LINEAR), title, axis, series.size());
    }

    private Charts.Drawing curves(String name, Experiment.Column curve) {
        final double width = curve.bin() > 0 ? curve.bin() : 1;
        final double first = curve.bin() / 2; // a bin's share stands over its middle
        final List<Charts.Series> series = new ArrayList<>();
        data.curves.forEach((point, curves) -> {
            final Map<Integer, ExperimentData.Stat> stages = curves.getOrDefault(name, Map.of());
            series.add(Charts.Series.line(point, stages.keySet().stream().mapToDouble(s -> first + width * s).toArray(),
                    stages.values().stream().mapToDouble(ExperimentData.Stat::mean).toArray(),
                    Charts.PALETTE.get(series.size() % Charts.PALETTE.size())));
        });
        final List<Charts.Series> shown = series.subList(0, Math.min(LINES, series.size()));
        final String axis = curve.bin() > 0 ? curve.of().replaceAll("[a-z]+\\.", "") : "stage";
        return dressed(Charts.xy(shown, Charts.Scale.LINEAR), curve.titled(), axis, shown.size());
    }

    private Charts.Drawing dressed(XYChart chart, String title, String axis, int lines) {
        if (chart != null) {
            Panels.dress(chart.getStyler(), ink, paper);
            chart.setTitle(title);
            chart.setXAxisTitle(axis);
            chart.getStyler().setYAxisTitleVisible(false).setLegendVisible(lines > 1);
            if (lines > ABREAST) {
                chart.getStyler().setLegendPosition(Styler.LegendPosition.OutsideE).setLegendLayout(Styler.LegendLayout.Vertical);
            }
        }
        return Charts.Drawing.of(chart);
    }
}
