package org.teamtr.experiment;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.teamtr.experiment.Claim.Verdict.AGREES;
import static org.teamtr.experiment.Claim.Verdict.DISAGREES;
import static org.teamtr.experiment.Claim.Verdict.IN_SHAPE;
import static org.teamtr.experiment.Claim.Verdict.MISSING;
import static org.teamtr.experiment.Claim.Verdict.UNDECIDED;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Numbers of runs, their means, and what claims make of them, against sums done by hand. */
class ExperimentDataTest {
    private static final ExperimentData.Info INFO = new ExperimentData.Info("mine",
            new ExperimentData.Origin("./teamtr experiment mine", "1", "a machine"), new ExperimentData.Extent(false, 3, 2), 12.5, 6, List.of());

    @TempDir
    private Path folder;

    // ---- numbers of a run ----

    @Test
    void numbersOfARun() throws Exception {
        Files.writeString(folder.resolve("summary.json"), "{\"realised_gain\": 0.3, \"predicted_gain\": 0.4, \"coord\": null}");
        Files.writeString(folder.resolve("metrics.jsonl"), """
                {"step": 1, "kl": 0.1, "out_of_region": true}
                {"step": 2, "kl": 0.3, "out_of_region": false}
                {"step": 2, "kl": null, "out_of_region": false}
                """);
        Files.writeString(folder.resolve("stages.jsonl"), """
                {"stage": 0, "accuracy": 0.25}
                {"stage": 1, "accuracy": null}
                {"stage": 2, "accuracy": 0.75}
                """);
        final RunNumbers numbers = new RunNumbers(folder);
        assertEquals(0.75, numbers.value("summary.realised_gain / summary.predicted_gain"), 1e-15);
        assertEquals(0.7, numbers.value("summary.realised_gain + summary.predicted_gain"), 1e-15);
        assertEquals(-0.2, numbers.value("metrics.kl@1 - metrics.kl@2"), 1e-15);
        assertEquals(0.2, numbers.value("metrics.kl"), 1e-15, "null is left out");
        assertEquals(0.3, numbers.value("metrics.kl@2"), 1e-15);
        assertTrue(Double.isNaN(numbers.value("metrics.kl@3")));
        assertEquals(1 / 3.0, numbers.value("metrics.out_of_region"), 1e-15);
        assertTrue(Double.isNaN(numbers.value("summary.coord")));
        assertEquals(Map.of(0, 0.25, 2, 0.75), numbers.curve("stages.accuracy"));
        assertEquals(folder.resolve("summary.json") + ": expected a number speed, found none",
                assertThrows(IOException.class, () -> numbers.value("summary.speed")).getMessage());
        assertTrue(assertThrows(IOException.class, () -> numbers.value("diagnostics.gap")).getMessage().contains("no such file"));
    }

    /** 0.4, 0.5, 0.5 of 0.9 / 1.8, 99 and nothing, in bins of 0.25. */
    @Test
    void histogramOfARun() throws Exception {
        Files.writeString(folder.resolve("metrics.jsonl"), """
                {"kl": 0.4, "delta": 1}
                {"kl": 0.5, "delta": 1}
                {"kl": 0.9, "delta": 1.8}
                {"kl": 99, "delta": 1}
                {"kl": 0.1, "delta": null}
                """);
        final Map<Integer, Double> shares = new RunNumbers(folder).histogram("metrics.kl / metrics.delta", 0.25);
        assertEquals(RunNumbers.BINS, shares.size());
        assertEquals(List.of(0.25, 0.5, 0.25), List.of(shares.get(1), shares.get(2), shares.get(RunNumbers.BINS - 1)));
        assertEquals(1, shares.values().stream().mapToDouble(s -> s).sum(), 1e-15);
        assertEquals(0.2, new RunNumbers(folder).histogram("metrics.kl", 0.25).get(0), 1e-15);
    }

    @Test
    void whatIsUnderstood() {
        assertTrue(RunNumbers.understands("metrics.kl@12 + metrics.a_2 / summary.x"));
        for (String wrong : List.of("", "kl", "metric.kl", "metrics.kl@0", "metrics.kl/summary.x",
                "summary.a / summary.b / summary.c",
                "summary.x@1", "metrics.kl -metrics.kl")) {
            assertFalse(RunNumbers.understands(wrong), wrong);
        }
    }

    // ---- means ----

    /** The example of docs/metrics.md, and one whose second denominator is nearly nothing. */
    @Test
    void ratioOfMeans() {
        final ExperimentData.Stat stat = ExperimentData.Stat.ofRatio(new double[] {1, 2, Double.NaN, 3}, new double[] {2, 2, 2, 2}, 100);
        assertEquals(100, stat.mean(), 1e-12);
        assertEquals(50, stat.deviation(), 1e-12);
        assertEquals(3, stat.n());
        assertEquals(1, ExperimentData.Stat.ofRatio(new double[] {1, 1}, new double[] {1.999, 0.001}, 1).mean(), 1e-12);
        assertTrue(Double.isNaN(ExperimentData.Stat.ofRatio(new double[0], new double[0], 1).mean()));
    }

    /** 1, 2, 6: mean 3, deviations -2, -1, 3, so s² = 14 / 2. */
    @Test
    void meanAndDeviation() {
        final ExperimentData.Stat stat = ExperimentData.Stat.of(1, Double.NaN, 2, 6);
        assertEquals(3, stat.mean(), 1e-15);
        assertEquals(Math.sqrt(7), stat.deviation(), 1e-14);
        assertEquals(3, stat.n());
        assertEquals(Math.sqrt(7 / 3.0), stat.error(), 1e-14);
        assertEquals("3 ± 2.65", stat.text());
        assertEquals("1024 ± 0", ExperimentData.Stat.of(1024, 1024).text());
        assertEquals("–", ExperimentData.Stat.of().text());
    }

    @Test
    void filesHoldWhatWasMeasured() throws Exception {
        final Experiment e = experiment(List.of(), "a", "b");
        final ExperimentData data = data(e, Map.of("a", new double[] {1, 2, 6}, "b", new double[] {4, Double.NaN, 5}));
        data.write(e, folder);
        assertEquals(List.of("point,seed,stages,seconds,x", "a,1,2,3.5,1.0", "a,2,2,3.5,2.0", "a,3,2,3.5,6.0", "b,1,2,3.5,4.0",
                "b,2,2,3.5,", "b,3,2,3.5,5.0"), Files.readAllLines(folder.resolve("runs.csv")));
        assertEquals(List.of("point,n,x_mean,x_sd", "a,3,3.0,2.6457513110645907", "b,3,4.5,0.7071067811865476"),
                Files.readAllLines(folder.resolve("points.csv")));
        assertEquals("point,curve,stage,mean,sd,n\na,y,0,2.0,1.0,3\na,y,2,7.0,,1\n",
                Files.readString(folder.resolve("stages.csv"))
                        .replaceAll("(?m)^b,.*\n", ""));
        final ExperimentData again = ExperimentData.load(e, folder);
        assertEquals(data.runs, again.runs);
        assertEquals(data.curves.toString(), again.curves.toString());
        assertEquals(INFO, again.info);
        assertEquals("""
                {
                  "name" : "mine",
                  "command" : "./teamtr experiment mine",
                  "version" : "1",
                  "machine" : "a machine",
                  "quick" : false,
                  "seeds" : 3,
                  "workers" : 2,
                  "seconds" : 12.5,
                  "runs" : 6,
                  "failed" : [ ]
                }""", Files.readString(folder.resolve(ExperimentData.INFO)));
        Files.writeString(folder.resolve("runs.csv"), "point,seed,stages,seconds,x\na,1,2\n");
        assertEquals(folder.resolve("runs.csv") + ", line 2: expected 5 fields, given 3",
                assertThrows(IOException.class, () -> ExperimentData.load(e, folder)).getMessage());
    }

    // ---- claims ----

    /** Compared seed by seed: 1.1 - 1, 2.1 - 2, 3.1 - 3 is 0.1 each, however far the seeds are apart. */
    @Test
    void orderIsOfPairs() throws Exception {
        final Map<String, double[]> values = Map.of("a", new double[] {1.1, 2.1, 3.1001}, "b", new double[] {1, 2, 3}, "c",
                new double[] {2, 2.2, 1.5}, "d", new double[] {1}, "e", new double[] {0.9});
        assertEquals(AGREES, judge(new Claim.Order("", "x", List.of("a", "b")), values));
        assertEquals(DISAGREES, judge(new Claim.Order("", "x", List.of("b", "a")), values));
        assertEquals(IN_SHAPE, judge(new Claim.Order("", "x", List.of("a", "c")), values),
                "2.1 and 1.9, but 0.9, 0.1, -1.6 apart");
        assertEquals(UNDECIDED, judge(new Claim.Order("", "x", List.of("c", "a")), values));
        assertEquals(IN_SHAPE, judge(new Claim.Order("", "x", List.of("d", "e")), values), "one seed settles nothing");
        assertEquals(MISSING, judge(new Claim.Order("", "x", List.of("a", "z")), values));
    }

    @Test
    void rangeIsOfMeans() throws Exception {
        final Map<String, double[]> values = Map.of("a", new double[] {4, 5, 6}, "b", new double[] {4, 6});
        assertEquals(AGREES, judge(new Claim.Range("", "x", List.of("a"), 4.9, 5.1, 4.9, 5.1), values));
        assertEquals(IN_SHAPE, judge(new Claim.Range("", "x", List.of("a"), 5.1, 6, 4.5, 6), values));
        assertEquals(UNDECIDED, judge(new Claim.Range("", "x", List.of("a"), 6, 7, 6, 7), values), "two errors are 1.15");
        assertEquals(DISAGREES, judge(new Claim.Range("", "x", List.of("a"), 6.2, 7, 6.2, 7), values));
        assertEquals(IN_SHAPE, judge(new Claim.Range("", "x", List.of("b"), 4.9, 5.1, 4.9, 5.1), values), "two seeds");
        assertEquals(UNDECIDED, judge(new Claim.Range("", "x", List.of("b"), 60, 70, 60, 70), values), "two seeds");
        assertEquals(IN_SHAPE, judge(new Claim.Range("", "x", List.of("a", "b"), 4.9, 5.1, 4.9, 5.1), values),
                "the worst of both");
    }

    /** x = 3 n² at n = 2, 4, 8 with every seed the same. */
    @Test
    void slopeIsOfLogarithms() throws Exception {
        final Map<String, double[]> values = Map.of("n2", new double[] {12, 12, 12}, "n4", new double[] {48, 48, 48}, "n8",
                new double[] {192, 192, 192});
        assertEquals(AGREES, judge(new Claim.Slope("", "x", "n", List.of(), 1.99, 2.01, 1.99, 2.01), values));
        assertEquals(DISAGREES, judge(new Claim.Slope("", "x", "n", List.of(), 0.8, 1.2, 0.8, 1.9), values));
        assertEquals(MISSING, judge(new Claim.Slope("", "x", "n", List.of("other"), 1, 2, 1, 2), values));
    }

    /** Ranks 1 2 3 4 against 1 2 4 3: ρ = 1 - 6 · 2 / (4 · 15) = 0.8; against 4 3 1 2 it is -0.8. */
    @Test
    void ranksAreThePapers() throws Exception {
        final Map<String, double[]> values = Map.of("a", new double[] {1, 1, 1}, "b", new double[] {2, 2, 2}, "c",
                new double[] {3, 3, 3}, "d",
                new double[] {4, 4, 4});
        assertEquals(AGREES, ranks(values, 10, 20, 40, 30));
        assertEquals(DISAGREES, ranks(values, 40, 30, 10, 20));
    }

    private Claim.Verdict ranks(Map<String, double[]> values, double... published) throws IOException {
        final Map<String, Map<String, Double>> papers = new LinkedHashMap<>();
        for (int i = 0; i < published.length; i++) {
            papers.put(List.of("a", "b", "c", "d").get(i), Map.of("x", published[i]));
        }
        final Experiment e = experiment(List.of(), "a", "b", "c", "d");
        final Experiment with = new Experiment(e.name(), e.text(), e.points(), e.columns(), e.curves(), e.pictures(), papers, e.claims());
        return new Claim.Ranks("", "x").judge(with, data(with, values)).verdict();
    }

    private Claim.Verdict judge(Claim claim, Map<String, double[]> values) throws IOException {
        final Experiment e = experiment(List.of(claim), values.keySet().stream().sorted().toArray(String[]::new));
        return claim.judge(e, data(e, values)).verdict();
    }

    private static Experiment experiment(List<Claim> claims, String... points) {
        final List<Experiment.Point> all = new ArrayList<>();
        for (String p : points) {
            all.add(new Experiment.Point(p, Map.of("n", p.replaceAll("\\D", ""))));
        }
        return new Experiment("mine", new Experiment.Text("Mine", "Table 0", "Why?", "", ""), all,
                Map.of("x", new Experiment.Column("x", "summary.x", 1, "", 0)), Map.of("y", new Experiment.Column("y", "stages.y", 1, "", 0)),
                new Experiment.Pictures(null, List.of(), List.of("x")), Map.of(), claims);
    }

    /** Run directories with these values of x, and read again. */
    private ExperimentData data(Experiment experiment, Map<String, double[]> values) throws IOException {
        final List<ExperimentData.Made> made = new ArrayList<>();
        for (Experiment.Point p : experiment.points()) {
            final double[] x = values.get(p.name());
            for (int seed = 1; seed <= x.length; seed++) {
                final Path run = Files.createDirectories(folder.resolve(p.name() + seed));
                Files.writeString(run.resolve("summary.json"), "{\"stages\": 2, \"seconds\": 3.5, \"x\": "
                        + (Double.isNaN(x[seed - 1]) ? "null" : x[seed - 1]) + "}");
                Files.writeString(run.resolve("stages.jsonl"), "{\"stage\": 0, \"y\": " + seed + "}\n{\"stage\": 2, \"y\": "
                        + (seed == 1 ? "7" : "null") + "}\n");
                made.add(new ExperimentData.Made(p.name(), seed, run));
            }
        }
        return ExperimentData.read(experiment, INFO, made);
    }
}
