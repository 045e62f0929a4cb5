package org.teamtr.experiment;

import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import org.teamtr.report.Charts;
import org.teamtr.train.Diagnostics;
import org.teamtr.train.Estimate;

/** A statement of the paper that runs can confirm or contradict. */
public sealed interface Claim {
    /** With fewer seeds a claim can at most agree in shape: two numbers say too little about their scatter. */
    int SEEDS = 3;

    /** From the best to the worst. */
    enum Verdict {
        AGREES("agrees"), IN_SHAPE("agrees in shape"), UNDECIDED("not decided"), DISAGREES("does not agree"),
        MISSING("not measured"), UNTESTABLE("not testable at this scale");

        final String text;

        Verdict(String text) {
            this.text = text;
        }
    }

    /** The verdict of the runs, with the numbers behind it. */
    record Finding(Verdict verdict, String detail) {
    }

    /** {@return the claim in a sentence} */
    String says();

    /** {@return the verdict of the runs} */
    Finding judge(Experiment experiment, ExperimentData data);

    /**
     * A column falls from the first of these points to the last. Compared seed by seed, neighbours only: agrees if every mean
     * difference is more than twice its standard error, agrees in shape if every one is in this direction, does not agree if one
     * is more than twice its standard error in the other.
     */
    record Order(String says, String column, List<String> points) implements Claim {
        @Override
        public Finding judge(Experiment experiment, ExperimentData data) {
            final List<String> there = points.stream().filter(p -> data.stat(p, column).n() > 0).toList();
            if (there.size() < 2) {
                return new Finding(Verdict.MISSING, "");
            }
            boolean clear = true;
            boolean all = true;
            boolean against = false;
            for (int i = 0; i + 1 < there.size(); i++) {
                final Map<Long, Double> more = data.bySeed(there.get(i), column);
                final Map<Long, Double> less = data.bySeed(there.get(i + 1), column);
                final double[] differences = more.keySet().stream().filter(less::containsKey)
                        .mapToDouble(seed -> more.get(seed) - less.get(seed)).toArray();
                final Estimate e = Estimate.of(differences);
                final boolean enough = differences.length >= SEEDS;
                clear &= enough && e.mean() > 2 * e.error();
                all &= e.mean() > 0;
                against |= enough && e.mean() < -2 * e.error();
            }
            return new Finding(clear ? Verdict.AGREES : against ? Verdict.DISAGREES : all ? Verdict.IN_SHAPE : Verdict.UNDECIDED,
                    said(data, there, column));
        }
    }

    /** A column's mean at each of these points is from {@code low} to {@code high}; in shape, from {@code least} to {@code most}.
     * */
    record Range(String says, String column, List<String> points, double low, double high, double least, double most)
            implements Claim {
        @Override
        public Finding judge(Experiment experiment, ExperimentData data) {
            final List<String> there = points.stream().filter(p -> data.stat(p, column).n() > 0).toList();
            final Verdict worst = there.stream().map(p -> data.stat(p, column)).map(s -> within(s.mean(),
                    s.n() > 1 ? 2 * s.error() : 0, s.n(), low, high, least, most)).max(Comparator.naturalOrder())
                    .orElse(Verdict.MISSING);
            return new Finding(worst, said(data, there, column));
        }
    }

    /**
     * The drift index of a column along an axis: the slope of log mean on log axis, at the points with these values on other
     * axes.
     */
    record Slope(String says, String column, String over, List<String> where, double low, double high, double least, double most)
            implements Claim {
        @Override
        public Finding judge(Experiment experiment, ExperimentData data) {
            final List<Experiment.Point> there = experiment.points().stream().filter(p -> p.at().values().containsAll(where)
                    && data.stat(p.name(), column).n() > 0).toList();
            final double[] x = there.stream().mapToDouble(p -> Double.parseDouble(p.at().get(over))).toArray();
            final double[] y = there.stream().mapToDouble(p -> data.stat(p.name(), column).mean()).toArray();
            final int seeds = there.stream().mapToInt(p -> data.stat(p.name(), column).n()).min().orElse(0);
            final Drift drift;
            try {
                drift = Drift.of(x, y);
            } catch (IllegalArgumentException e) { // fewer than two, or a mean that has no logarithm
                return new Finding(Verdict.MISSING, there.isEmpty() ? "" : e.getMessage());
            }
            final double half = Double.isNaN(drift.high()) ? 0 : drift.high() - drift.slope();
            return new Finding(within(drift.slope(), half, seeds, low, high, least, most), "α = " + Charts.number(drift.slope())
                    + (half == 0 ? " of two points" : " (95 %: " + Charts.number(drift.low()) + " to "
                            + Charts.number(drift.high())
                            + "; residual " + Charts.number(drift.residual()) + ")"));
        }
    }

    /**
     * The points stand in the paper's order of a column. Spearman's ρ of means and published numbers: agrees from 0.8 on, agrees
     * in shape from 0.5 on, does not agree at 0 and below.
     */
    record Ranks(String says, String column) implements Claim {
        @Override
        public Finding judge(Experiment experiment, ExperimentData data) {
            final List<String> there = experiment.points().stream().map(Experiment.Point::name)
                    .filter(p -> data.stat(p, column).n() > 0 && Double.isFinite(experiment.published(p, column))).toList();
            if (there.size() < 4) {
                return new Finding(Verdict.MISSING, "");
            }
            final double rho = Diagnostics.spearman(there.stream().mapToDouble(p -> data.stat(p, column).mean()).toArray(),
                    there.stream().mapToDouble(p -> experiment.published(p, column)).toArray());
            final int seeds = there.stream().mapToInt(p -> data.stat(p, column).n()).min().orElse(0);
            return new Finding(rho >= 0.8 && seeds >= SEEDS ? Verdict.AGREES : rho >= 0.5 ? Verdict.IN_SHAPE
                    : rho > 0 || seeds < SEEDS ? Verdict.UNDECIDED : Verdict.DISAGREES,
                    "ρ = " + Charts.number(rho) + " of " + there.size() + " points");
        }
    }

    /** Something that these runs cannot answer. */
    record Untestable(String says, String reason) implements Claim {
        @Override
        public Finding judge(Experiment experiment, ExperimentData data) {
            return new Finding(Verdict.UNTESTABLE, reason);
        }
    }

    private static Verdict within(double value, double error, int seeds, double low, double high, double least, double most) {
        if (value >= low && value <= high) {
            return seeds >= SEEDS ? Verdict.AGREES : Verdict.IN_SHAPE;
        }
        if (value >= least && value <= most) {
            return Verdict.IN_SHAPE;
        }
        return seeds < SEEDS || value + error >= least && value - error <= most ? Verdict.UNDECIDED : Verdict.DISAGREES;
    }

    private static String said(ExperimentData data, List<String> points, String column) {
        return points.stream().map(p -> p + " " + data.stat(p, column).text()).collect(Collectors.joining(", "));
    }
}
