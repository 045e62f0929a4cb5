package org.teamtr.report;

import java.awt.Color;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;
import java.util.function.Function;
import java.util.function.ToDoubleFunction;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.teamtr.train.Certificate;
import org.teamtr.train.Config;
import org.teamtr.train.Diagnostics;
import org.teamtr.train.GainBound;
import org.teamtr.train.RunLog;
import org.teamtr.train.UnchangedReason;

/** {@code report.html}: a run on one page that needs nothing but itself. */
public final class Report {
    /** Points of a line and bars of a chart; longer runs are averaged or summed down to this, so that a page stays small. */
    private static final int POINTS = 200;
    private static final int BARS = 40;
    /** Characters of transcripts; the file has all. */
    private static final int TRANSCRIPT_CHARACTERS = 400_000;

    private final List<RunLog.Update> updates;
    private final List<RunLog.Stage> stages;
    private final List<RunLog.Transcript> transcripts;
    private final List<RunLog.Diagnosis> diagnoses;
    private final List<RunLog.Replacement> replacements;
    private final List<RunLog.Ranks> ranks;
    private final RunSummary summary;
    private final String config;
    private final String name;
    private final String noCharts;
    private final Map<String, List<Integer>> byAgent = new LinkedHashMap<>(); // indices of updates
    private final Map<String, Color> colours = new LinkedHashMap<>();
    private final StringBuilder out = new StringBuilder();

    private Report(Path run, String noCharts) throws IOException {
        updates = RunFiles.updates(run);
        stages = RunFiles.stages(run);
        transcripts = RunFiles.transcripts(run);
        diagnoses = RunFiles.diagnoses(run);
        replacements = RunFiles.replacements(run);
        ranks = RunFiles.ranks(run);
        this.noCharts = noCharts;
        name = run.toAbsolutePath().normalize().getFileName().toString();
        config = Files.exists(run.resolve(RunFiles.CONFIG)) ? Files.readString(run.resolve(RunFiles.CONFIG)) : "";
        final RunSummary written = Files.exists(run.resolve(RunFiles.SUMMARY)) ? RunFiles.summary(run) : null;
        for (int i = 0; i < updates.size(); i++) {
            byAgent.computeIfAbsent(updates.get(i).agent(), a -> new ArrayList<>()).add(i);
        }
        // In the team's order where it is known, and those of the transcripts too: frozen agents write but are not updated.
        final List<String> roles = new ArrayList<>(written == null ? List.of() : written.run().agents());
        roles.addAll(byAgent.keySet());
        transcripts.forEach(t -> t.messages().forEach(m -> roles.add(m.role())));
        roles.stream().distinct().forEach(r -> colours.put(r, Charts.PALETTE.get(colours.size() % Charts.PALETTE.size())));
        summary = written != null ? written : RunSummary.of("", "", 0, List.copyOf(byAgent.keySet()),
                new double[] {Double.NaN, Double.NaN}, updates, stages, diagnoses);
    }

    /**
     * Writes {@code report.html} from the other files of a run, replacing one that is there. A run that was killed has a report
     * of what it got to. Without fonts on the machine the charts are missing, and a sentence says what to install.
     *
     * @param run the run directory
     * @return where the report is
     * @throws IOException if it is not a run directory or a line cannot be read, naming file and line
     */
    public static Path write(Path run) throws IOException {
        final Path file = run.resolve(RunFiles.REPORT);
        RunWriter.replace(file, new Report(run, Charts.missing()).page().getBytes(StandardCharsets.UTF_8));
        return file;
    }

    private String page() throws IOException {
        out.append(Html.head(name)).append("<header><p>TeamTR ").append(Html.escape(summary.run().version()))
                .append(" · run ")
                .append(Html.escape(name)).append("</p>\n<h1>").append(headline()).append("</h1></header>\n");
        for (String sentence : UnchangedReason.plainly(updates)) { // at the top, since such a run otherwise looks like one that trains
            out.append("<p class=\"note\">").append(Html.escape(sentence)).append("</p>\n");
        }
        if (summary.monitored().unchanged().overflows() > 0) {
            out.append("<p class=\"note\">").append(Html.escape(count(summary.monitored().unchanged().overflows(), "gradient")
                    + " overflowed f16 and were computed again with a smaller loss scale.")).append("</p>\n");
        }
        tiles();
        if (noCharts != null) {
            out.append("<p class=\"note\" style=\"margin-top:24px\">").append(Html.escape(noCharts)).append("</p>\n");
        } else if (updates.isEmpty()) {
            out.append("<p class=\"lead\" style=\"margin-top:24px\">Charts appear with the first updates.</p>\n");
        } else {
            progress();
            gains();
            certificate();
            trustRegion();
            health();
            diagnostics();
            time();
        }
        ranks();
        agents();
        replacements();
        transcripts();
        configuration();
        return out.append("</main>\n</body>\n</html>\n").toString();
    }

    /** The result of the run, in one sentence. */
    private String headline() {
        final RunSummary s = summary;
        final String left = updates.stream().noneMatch(u -> Double.isFinite(u.delta())) ? "without a trust region"
                : s.monitored().outOfRegionUpdates() == 0 ? "no update left its trust region"
                : s.monitored().outOfRegionUpdates() + " of " + s.run().updates() + " left the trust region";
        final String work = count(s.run().updates(), "update");
        if (s.run().updates() == 0) {
            return "Before the first update" + (Double.isFinite(s.returns().returnBefore()) ? ": accuracy " + percent(s.accuracies().accuracyBefore())
                    + ", return " + Charts.number(s.returns().returnBefore()) : "");
        }
        if (Double.isFinite(s.accuracies().accuracyBefore()) && Double.isFinite(s.accuracies().accuracyLast())) {
            return "Accuracy from " + percent(s.accuracies().accuracyBefore()) + " to " + percent(s.accuracies().accuracyLast()) + " over " + work
                    + "; "
                    + left;
        }
        return Double.isFinite(s.returns().returnBefore()) ? "Return from " + Charts.number(s.returns().returnBefore()) + " to "
                + Charts.number(s.returns().returnLast()) + " over " + work + "; " + left : "After " + work + ", " + left;
    }

    private void tiles() {
        final RunSummary s = summary;
        out.append("<dl class=\"tiles\">\n");
        tile("Accuracy", percent(s.accuracies().accuracyLast()), "before " + percent(s.accuracies().accuracyBefore()) + ", best "
                + percent(s.accuracies().accuracyBest()));
        tile("Return", Charts.number(s.returns().returnLast()), "before " + Charts.number(s.returns().returnBefore()) + ", best "
                + Charts.number(s.returns().returnBest()) + " in stage " + s.accuracies().bestStage());
        tile("Gain, realised", Charts.number(s.returns().realisedGain()), "predicted " + Charts.number(s.returns().predictedGain()));
        tile("Out of region", percent(s.monitored().outOfRegionRate()),
                s.monitored().outOfRegionUpdates() + " of " + count(s.run().updates(), "update"));
        tile("Updates", grouped(s.run().updates()), "in " + count(s.run().stages(), "stage") + ", " + count(s.run().agents().size(), "agent"));
        tile("Episodes", grouped(s.spent().episodes()), grouped(s.spent().tokens()) + " tokens");
        tile("Time", duration(s.spent().seconds()), Double.isFinite(s.spent().tokensPerSecond())
                ? grouped(Math.round(s.spent().tokensPerSecond())) + " tokens/s in rollouts" : "");
        tile("Monitor’s share", percent(s.spent().shares().monitorShareOfUpdate()), "of an update’s time, rollouts included");
        tile("Score gap", Charts.number(s.monitored().scoreGap()), "nats, scored less sampled, largest");
        if (s.spent().peakResidentBytes() != null) {
            tile("Memory", String.format(Locale.ROOT, "%.2f GiB", s.spent().peakResidentBytes() / 0x1p30), "largest resident");
        }
        out.append("</dl>\n");
    }

    private void tile(String what, String value, String more) {
        out.append(Html.tile(what, value, more));
    }

    private void progress() {
        section("Accuracy and return", "Held-out episodes after each stage, always of the same prompts; and the rollouts that each "
                + "update learnt from, averaged over a stage.");
        final List<RunLog.Stage> measured = stages.stream().filter(s -> s.heldOut().heldOutEpisodes() > 0).toList();
        final double[] stage = of(measured, s -> s.stage());
        final Map<Integer, List<RunLog.Update>> perStage =
                updates.stream().collect(Collectors.groupingBy(RunLog.Update::stage, TreeMap::new, Collectors.toList()));
        final double[] trained = perStage.keySet().stream().mapToDouble(k -> k).toArray();
        final List<Charts.Series> accuracy = new ArrayList<>(List.of(
                Charts.Series.line("held-out", stage, of(measured, s -> 100 * s.heldOut().accuracy()), Charts.PALETTE.get(0)),
                new Charts.Series("training", trained, means(perStage.values(), u -> 100 * u.accuracy()), null, Charts.GREY,
                        Charts.Look.DASHES)));
        final List<Charts.Series> returns = new ArrayList<>(List.of(
                Charts.Series.line("held-out", stage, of(measured, v -> v.heldOut().returnMean()), Charts.PALETTE.get(0)),
                new Charts.Series("training", trained, means(perStage.values(), RunLog.Update::returnMean), null, Charts.GREY,
                        Charts.Look.DASHES)));
        if (!replacements.isEmpty()) { // the stage itself is that of the old team
            final double[] swaps = of(replacements, r -> r.stage());
            accuracy.add(new Charts.Series("replaced", swaps, of(replacements, r -> 100 * r.moments().after().accuracy()), null, Charts.RED,
                    Charts.Look.POINTS));
            returns.add(new Charts.Series("replaced", swaps, of(replacements, r -> r.moments().after().returnMean()), null, Charts.RED,
                    Charts.Look.POINTS));
        }
        lines("Accuracy", "Right answers in percent", "stage", accuracy, Charts.Scale.LINEAR);
        lines("Return", "Mean reward of an episode", "stage", returns, Charts.Scale.LINEAR);
        end();
    }

    private void gains() {
        section("Predicted and realised gain", "Predicted gain is the gain that the surrogate objective predicts for an update, in "
                + "units of return; realised gain is that of held-out episodes with the same prompts and seeds. Where the predicted gain "
                + "is larger, the rollouts no longer have the distribution of the team's episodes.");
        final List<Gains.Entry> entries = Gains.predicted(stages);
        if (!entries.isEmpty()) {
            final int[] bins = Charts.bins(entries.size(), BARS);
            final List<String> labels = new ArrayList<>();
            final List<double[]> sums = new ArrayList<>();
            for (int b = 0; b + 1 < bins.length; b++) {
                final List<Gains.Entry> bin = entries.subList(bins[b], bins[b + 1]);
                labels.add(String.valueOf(bin.get(bin.size() - 1).stage()));
                sums.add(new double[] {bin.stream().mapToDouble(Gains.Entry::expected).sum(),
                    bin.stream().mapToDouble(Gains.Entry::realised).sum(),
                    Math.sqrt(bin.stream().mapToDouble(e -> e.error() * e.error()).sum())});
            }
            final double[] none = new double[labels.size()];
            final List<Charts.Series> bars = List.of(
                    new Charts.Series("predicted", none, column(sums, 0), null, Charts.PALETTE.get(1), Charts.Look.LINE),
                    new Charts.Series("realised", none, column(sums, 1), column(sums, 2), Charts.PALETTE.get(0), Charts.Look.LINE));
            figure("Gain per stage", "In units of return; with the standard error of the realised gain"
                    + (bins.length - 1 < entries.size() ? "; " + (bins[1] - bins[0]) + " stages to a bar" : ""), "stage", bars,
                    Charts.bars(labels, bars, false)::paint);
            final List<Gains.Entry> total = Gains.cumulated(entries);
            final double[] stage = of(total, e -> e.stage());
            lines("Gain so far", "Summed from the first stage on; errors added in squares", "stage", List.of(
                    thin(Charts.Series.line("predicted", stage, of(total, Gains.Entry::expected), Charts.PALETTE.get(1)), 60),
                    thin(new Charts.Series("realised", stage, of(total, Gains.Entry::realised), of(total, Gains.Entry::error),
                            Charts.PALETTE.get(0), Charts.Look.LINE), 60)),
                    Charts.Scale.LINEAR);
        } else {
            out.append("<p class=\"lead\">No stage was measured on held-out episodes before and after, so there is no realised gain.</p>");
        }
        end();
    }

    private void certificate() {
        final List<Gains.Entry> horizon = Gains.horizon(stages);
        final List<Gains.Entry> paper = Gains.paper(stages);
        if (horizon.isEmpty() && paper.isEmpty()) {
            return;
        }
        final RunSummary s = RunSummary.of("", "", 0, List.of(), new double[2], updates, stages, diagnoses);
        final List<String> paragraphs = new ArrayList<>();
        if (!horizon.isEmpty()) {
            paragraphs.add("The bound on an update’s gain (docs/theory.md) comes from prompts that no update learns from, played once by the "
                    + "team before and once by the team after it. All bounds of a stage hold together with a probability of "
                    + percent(1 - s.bounded().boundLevel()) + ". They say nothing about other kinds of prompts, greedy decoding, or every stage "
                    + "of a long run; an update that is not certified may still be an improvement.");
            paragraphs.add(horizon(s.bounded(), horizon));
        }
        if (!paper.isEmpty()) {
            paragraphs.add(paper(s.certified(), updates.get(updates.size() - 1).bound(), horizon.isEmpty()));
        }
        section("Certified gain", paragraphs.toArray(String[]::new));
        final List<Gains.Entry> entries = horizon.isEmpty() ? paper : horizon;
        if (!horizon.isEmpty()) {
            final List<RunLog.Update> bounded = updates.stream().filter(u -> u.bound().horizon().bound().boundPrompts() > 0).toList();
            final int[] bins = Charts.bins(bounded.size(), POINTS);
            final double[] x = Arrays.stream(bins, 0, bins.length - 1).mapToDouble(b -> b + 1).toArray();
            lines("Each update", "Bound and estimate; the gain that the surrogate predicted; the gain of held-out episodes, where measured", "update",
                    List.of(Charts.Series.line("bound", x, binned(bounded, bins, u -> u.bound().horizon().bound().gainBound()),
                            Charts.PALETTE.get(1)),
                            new Charts.Series("estimate", x, binned(bounded, bins, u -> u.bound().horizon().bound().gainEstimate()), null,
                                    Charts.GREY, Charts.Look.LINE),
                            new Charts.Series("predicted", x, binned(bounded, bins, RunLog.Update::predictedGain), null, Charts.GREY,
                                    Charts.Look.DASHES),
                            new Charts.Series("realised", x, binned(bounded, bins, u -> u.bound().horizon().realised().realisedGain()), null,
                                    Charts.PALETTE.get(0), Charts.Look.POINTS)),
                    Charts.Scale.LINEAR);
        }
        final List<Gains.Entry> total = Gains.cumulated(entries);
        final double[] stage = of(total, e -> e.stage());
        final List<Charts.Series> sums = new ArrayList<>(List.of(
                Charts.Series.line(horizon.isEmpty() ? "certificate" : "bound", stage, of(total, Gains.Entry::expected), Charts.PALETTE.get(1)),
                Charts.Series.line("realised", stage, of(total, Gains.Entry::realised), Charts.PALETTE.get(0))));
        lines("Certified and gained so far", "In units of return, summed from the first stage on", "stage", sums, Charts.Scale.LINEAR);
        lines("Calibration", "Realised gain of each stage over its bound", "bound", List.of(
                new Charts.Series("gained more", of(entries, Gains.Entry::expected),
                        of(entries, e -> e.violated() ? Double.NaN : e.realised()), null, Charts.PALETTE.get(0),
                        Charts.Look.POINTS),
                new Charts.Series("gained less", of(entries, Gains.Entry::expected),
                        of(entries, e -> e.violated() ? e.realised() : Double.NaN), null, Charts.RED, Charts.Look.POINTS)),
                Charts.Scale.LINEAR);
        end();
    }

    private static double[] binned(List<RunLog.Update> all, int[] bins, ToDoubleFunction<RunLog.Update> value) {
        return IntStream.range(0, bins.length - 1)
                .mapToDouble(b -> all.subList(bins[b], bins[b + 1]).stream().mapToDouble(value).filter(Double::isFinite).average()
                        .orElse(Double.NaN))
                .toArray();
    }

    private String horizon(RunSummary.Bounded s, List<Gains.Entry> entries) {
        final long below = entries.stream().filter(Gains.Entry::violated).count();
        final double[] interval = Diagnostics.wilson((int) below, entries.size());
        final List<GainBound> bounds = updates.stream().map(u -> u.bound().horizon()).filter(b -> b.bound().boundPrompts() > 0).toList();
        final String alarm = Gains.alarm(stages);
        return "Stages that gained less than their bound: " + percent(s.ofStages().boundViolationRate()) + " (" + below + " of " + entries.size()
                + "; 95 % interval " + percent(interval[0]) + " to " + percent(interval[1]) + "). Bounds above 0: "
                + percent(bounds.stream().mapToDouble(b -> b.bound().gainBound() > 0 ? 1 : 0).average().orElse(Double.NaN)) + " of the updates"
                + (Double.isFinite(s.ofUpdates().boundInformativeRateUpdates()) ? ", " + percent(s.ofUpdates().boundInformativeRateUpdates())
                        + " of those that helped on held-out episodes" : "")
                + ". Rank correlation (Spearman’s) with the realised gain: "
                + correlation(s.ofStages().boundRankCorrelation()) + " by stage" + (Double.isFinite(s.ofUpdates().boundRankCorrelationUpdates())
                        ? ", " + correlation(s.ofUpdates().boundRankCorrelationUpdates()) + " by update" : "")
                + "." + (s.boundSkipped() > 0 ? " " + count(s.boundSkipped(), "update") + " not certified and undone." : "")
                + (alarm == null ? "" : " An " + alarm + ".");
    }

    private static String paper(RunSummary.Certified s, Certificate.Terms terms, boolean alone) {
        return "Theorem 3.6 bounds a stage’s gain from below by the gain that the surrogates predict, less c √KL for each "
                + "update, less ζ / (1 − γ); computed here from estimates, it is a diagnostic and no guarantee. c = √2 γ A_max / (1 − γ)² = "
                + Charts.number(terms.c()) + " at γ = " + Charts.number(terms.gamma()) + (alone ? ". " : ", in all "
                        + Charts.number(s.certificate()) + ". ")
                + (s.vacuousRate() > 0 ? "The bound of " + percent(s.vacuousRate())
                        + " of the updates is vacuous: their penalty alone is "
                        + "larger than the largest possible gain, and the certificate says nothing about them. " : "")
                + "Rank correlation (Spearman’s) of certificate and gain: " + correlation(s.certificateRankCorrelation())
                + " summed from the first stage on, " + correlation(s.certificateRankCorrelationStages())
                + " stage by stage. Stages that "
                + "gained less than certified: " + percent(s.certificateViolationRate()) + ".";
    }

    private static String correlation(double rank) {
        return Double.isFinite(rank) ? String.format(Locale.ROOT, "%+.2f", rank) : "none, too few stages";
    }

    private void diagnostics() {
        if (diagnoses.isEmpty()) {
            return;
        }
        section("Staleness and locality",
                "Measured on separate episodes and messages; docs/metrics.md has the formulas.");
        final Map<Integer, List<RunLog.Diagnosis>> perStage =
                diagnoses.stream().collect(Collectors.groupingBy(RunLog.Diagnosis::stage, TreeMap::new, Collectors.toList()));
        final double[] stage = perStage.keySet().stream().mapToDouble(k -> k).toArray();
        lines("Staleness Δ", "Surrogate on the team it learnt from and on the team after, in units of return", "stage",
                List.of(Charts.Series.line("Δ stale", stage, sums(perStage.values(), v -> v.staleness().deltaStale()),
                        Charts.PALETTE.get(0)),
                        Charts.Series.line("gap to the stage’s start", stage, sums(perStage.values(), v -> v.staleness().gap()),
                                Charts.PALETTE.get(1))),
                Charts.Scale.FROM_ZERO);
        lines("Occupancy shift", "½ mean |W − 1|, summed over the stage’s updates", "stage",
                List.of(Charts.Series.line("D occ", stage, sums(perStage.values(), v -> v.staleness().dOcc()),
                        Charts.PALETTE.get(0))),
                Charts.Scale.FROM_ZERO);
        final List<Charts.Series> shifts = new ArrayList<>();
        diagnoses.stream().collect(Collectors.groupingBy(v -> v.monitored().outOfRegion(), TreeMap::new, Collectors.toList()))
                .forEach((out, some) -> {
                    final int ranks = some.stream().mapToInt(d -> d.logitShift().size()).max().orElse(0);
                    final double[] bucket = IntStream.range(0, ranks).mapToDouble(k -> k + 1).toArray();
                    shifts.add(Charts.Series.line(out ? "out of the region" : "in the region", bucket,
                            IntStream.range(0, ranks).mapToDouble(k -> some.stream().filter(d -> d.logitShift().size() > k)
                                    .mapToDouble(d -> d.logitShift().get(k)).average().orElse(Double.NaN)).toArray(),
                            out ? Charts.RED : Charts.PALETTE.get(0)));
                });
        lines("Shift of logits", "Mean |change| by rank before the update: bucket 1 is rank 1, 2 is 2–3, 3 is 4–7, …",
                "bucket of ranks", shifts, Charts.Scale.FROM_ZERO);
        end();
    }

    private static double[] sums(Collection<List<RunLog.Diagnosis>> stages, ToDoubleFunction<RunLog.Diagnosis> value) {
        return stages.stream().mapToDouble(all -> all.stream().mapToDouble(value).sum()).toArray();
    }

    private void trustRegion() {
        final boolean token = !updates.isEmpty() && updates.get(0).outcome().klUnit() == Config.Unit.TOKEN;
        section("Trust region", "KL(old ‖ new) of each update as measured by its monitor (Eq. 11: "
                + (token ? "mean" : "summed") + " over the tokens of a message, mean over messages, in nats), beside the radius δ. "
                + "Red is out of the region. The floor is the monitor’s value without a step, which is rounding.");
        byAgent.forEach((agent, all) -> {
            final int[] bins = Charts.bins(all.size(), POINTS);
            // One point for each bin: the update with the largest share of its radius, so that every one that left the region is shown.
            final List<Integer> worst = new ArrayList<>();
            for (int b = 0; b + 1 < bins.length; b++) {
                worst.add(all.subList(bins[b], bins[b + 1]).stream()
                        .max((i, j) -> Double.compare(used(updates.get(i)), used(updates.get(j)))).orElseThrow());
            }
            final double[] x = worst.stream().mapToDouble(i -> i + 1).toArray();
            final RunLog.Update[] u = worst.stream().map(updates::get).toArray(RunLog.Update[]::new);
            final List<Charts.Series> series = List.of(
                    new Charts.Series("δ", x, of(Arrays.asList(u), RunLog.Update::delta), null, Charts.GREY, Charts.Look.DASHES),
                    new Charts.Series("floor", x, of(Arrays.asList(u), r -> r.outcome().klFloor()), null, Charts.GREY, Charts.Look.LINE),
                    new Charts.Series("in the region", x, of(Arrays.asList(u), r -> r.outOfRegion() ? Double.NaN : r.kl()), null,
                            colours.get(agent), Charts.Look.POINTS),
                    new Charts.Series("out of it", x, of(Arrays.asList(u), r -> r.outOfRegion() ? r.kl() : Double.NaN), null,
                            Charts.RED, Charts.Look.POINTS));
            final String every = bins.length - 1 < all.size() ? "; the largest of every " + (bins[1] - bins[0]) : "";
            lines(agent, count(all.size(), "update") + every, "update", series, Charts.Scale.FROM_ZERO);
        });
        perAgent("Penalty β", "Weight of the KL term in Eq. 10", RunLog.Update::beta, Charts.Scale.LOGARITHMIC);
        perAgent("Radius δ", "The bound on KL, in nats", RunLog.Update::delta, Charts.Scale.FROM_ZERO);
        end();
    }

    private static double used(RunLog.Update u) {
        return u.outOfRegion() ? Double.MAX_VALUE : Double.isFinite(u.delta()) ? u.kl() / u.delta() : u.kl();
    }

    private void health() {
        section("Clipping, sample size and entropy", "A rising clip fraction or a falling sample size shows that updates leave the region where "
                + "their data is informative; an entropy near zero shows that the agents have stopped exploring.");
        perAgent("Clip fraction", "Share of the messages whose ratio is clipped", RunLog.Update::clipFraction,
                Charts.Scale.FROM_ZERO);
        perAgent("Effective sample size", "As a share of the messages: 1 when all weights are equal", RunLog.Update::ess,
                Charts.Scale.FROM_ZERO);
        perAgent("Entropy", "Mean over tokens, in nats", RunLog.Update::entropy, Charts.Scale.FROM_ZERO);
        end();
    }

    private void time() {
        section("Time");
        final List<RunLog.Stage> timed = stages.stream().filter(s -> s.stage() > 0).toList();
        final int[] bins = Charts.bins(timed.size(), BARS);
        final List<String> labels = new ArrayList<>();
        final List<double[]> means = new ArrayList<>();
        for (int b = 0; b + 1 < bins.length; b++) {
            final List<RunLog.Stage> bin = timed.subList(bins[b], bins[b + 1]);
            labels.add(String.valueOf(bin.get(bin.size() - 1).stage()));
            means.add(new double[] {mean(bin, v -> v.spent().secondsRollout()), mean(bin, v -> v.spent().secondsUpdate()),
                mean(bin, v -> v.spent().secondsKl()), mean(bin, v -> v.spent().secondsEval())});
        }
        if (timed.isEmpty()) {
            out.append("<p class=\"lead\">No stage is finished yet.</p>");
            end();
            return;
        }
        final String[] parts = {"rollout", "update", "monitor", "held-out episodes"};
        final Color[] paint = {Charts.PALETTE.get(0), Charts.PALETTE.get(1), Charts.PALETTE.get(2), Charts.GREY};
        final List<Charts.Series> series = new ArrayList<>();
        for (int i = 0; i < parts.length; i++) {
            series.add(new Charts.Series(parts[i], new double[labels.size()], column(means, i), null, paint[i],
                    Charts.Look.LINE));
        }
        figure("Seconds per stage", "Wall-clock time" + (bins.length - 1 < timed.size() ? ", mean of " + (bins[1] - bins[0])
                + " stages to a bar" : ""), "stage", series, Charts.bars(labels, series, true)::paint);
        end();
    }

    /** Nothing where one process trained alone. */
    private void ranks() {
        final Map<Integer, List<RunLog.Rank>> byRank = ranks.stream().flatMap(u -> u.ranks().stream())
                .collect(Collectors.groupingBy(RunLog.Rank::rank, TreeMap::new, Collectors.toList()));
        if (byRank.isEmpty()) {
            return;
        }
        table("Processes", "Means over the updates. Exchange is sending to the other processes and waiting for them, in evaluations too.",
                "process", "updates", "rollout, s", "update, s", "exchange, s", "sent, MB");
        byRank.values().forEach(all -> row(Html.escape(all.get(all.size() - 1).name()), grouped(all.size()),
                Charts.number(mean(all, RunLog.Rank::secondsRollout)), Charts.number(mean(all, RunLog.Rank::secondsUpdate)),
                Charts.number(mean(all, RunLog.Rank::secondsExchange)), Charts.number(1e-6 * mean(all, RunLog.Rank::bytesSent))));
        out.append(END_OF_TABLE);
    }

    private void agents() {
        if (byAgent.isEmpty()) {
            return;
        }
        table("Agents", "An update stops when all its inner steps are done, or when the monitor exceeds δ.", "agent", "updates", "mean KL",
                "KL / δ, largest", "inner steps", "stopped by", "rolled back", "halvings", "out of region");
        byAgent.forEach((agent, all) -> {
            final List<RunLog.Update> us = all.stream().map(updates::get).toList();
            final Map<String, Long> stopped = us.stream()
                    .collect(Collectors.groupingBy(RunLog.Update::stoppedBy, TreeMap::new, Collectors.counting()));
            final long left = us.stream().filter(RunLog.Update::outOfRegion).count();
            row(chip(agent), grouped(us.size()), Charts.number(mean(us, RunLog.Update::kl)),
                    Charts.number(us.stream().mapToDouble(u -> u.kl() / u.delta()).max().orElse(Double.NaN)),
                    String.format(Locale.ROOT, "%.1f", mean(us, u -> u.innerSteps())),
                    stopped.entrySet().stream().map(e -> e.getKey() + " " + grouped(e.getValue()))
                            .collect(Collectors.joining(" · ")),
                    grouped(us.stream().filter(RunLog.Update::rolledBack).count()),
                    grouped(us.stream().mapToLong(RunLog.Update::halvings).sum()));
            out.append("<td").append(left > 0 ? " class=\"bad\">" : ">").append(grouped(left));
        });
        out.append(END_OF_TABLE);
    }

    private void replacements() {
        if (replacements.isEmpty()) {
            return;
        }
        table("Replaced agents", "Accuracy of the same held-out episodes before the swap, right after it and after alignment, with standard errors"
                + " over the prompts; and KL(incumbent ‖ new), in nats per "
                + replacements.get(0).probing().klUnit().name().toLowerCase(Locale.ROOT) + " on probes that were not learnt from; alignment ends"
                + " when it is below δ₀.", "agent", "after stage", "new model", "align", "before", "swapped", "after", "shock", "KL, swapped",
                "KL, after", "δ₀", "steps");
        for (RunLog.Replacement r : replacements) {
            row(chip(r.agent()), grouped(r.stage()), r.models().replacement(), r.models().align(), measured(r.moments().before()),
                    measured(r.moments().swapped()), measured(r.moments().after()),
                    percent(r.moments().shock()) + " ± " + percent(r.moments().shockError()),
                    Charts.number(r.aligned().klSwapped()), Charts.number(r.aligned().kl()), Charts.number(r.probing().delta0()),
                    grouped(r.aligned().steps()));
        }
        out.append(END_OF_TABLE);
    }

    private static final String END_OF_TABLE = "\n</tbody></table></div>\n";

    private void table(String title, String text, String... columns) {
        out.append("<h2>").append(title).append("</h2>\n<p>").append(Html.escape(text)).append("</p>\n")
                .append("<div class=\"card scroll\"><table><thead><tr><th>").append(String.join("<th>", columns)).append("</tr></thead><tbody>");
    }

    /** A row without its end, which HTML does not need. @param first HTML; the other cells are text */
    private void row(String first, String... cells) {
        out.append("\n<tr><td>").append(first);
        for (String cell : cells) {
            out.append("<td>").append(Html.escape(cell));
        }
    }

    private static String measured(RunLog.Measured m) {
        return percent(m.accuracy()) + " ± " + percent(m.accuracyError());
    }

    private void transcripts() {
        if (transcripts.isEmpty()) {
            return;
        }
        final int first = transcripts.stream().mapToInt(RunLog.Transcript::stage).min().orElseThrow();
        final int last = transcripts.stream().mapToInt(RunLog.Transcript::stage).max().orElseThrow();
        final List<RunLog.Transcript> before = transcripts.stream().filter(t -> t.stage() == first).toList();
        final Map<String, ArrayDeque<RunLog.Transcript>> after = transcripts.stream()
                .filter(t -> t.stage() == last && last != first)
                .collect(Collectors.groupingBy(RunLog.Transcript::prompt, Collectors.toCollection(ArrayDeque::new)));
        out.append("<h2>Transcripts</h2>\n<p>Held-out episodes, ").append(last == first ? stageName(first)
                : "the same prompts " + stageName(first) + " and " + stageName(last)).append(".</p>\n");
        final int start = out.length();
        int shown = 0;
        for (RunLog.Transcript old : before) {
            if (out.length() - start > TRANSCRIPT_CHARACTERS) {
                break;
            }
            final ArrayDeque<RunLog.Transcript> left = after.get(old.prompt());
            final RunLog.Transcript now = left == null ? null : left.poll();
            out.append("<details class=\"card\"").append(shown < 3 ? " open" : "").append("><summary>")
                    .append(Html.escape(old.prompt()))
                    .append("<span>").append(mark(old)).append(now == null ? "" : " → " + mark(now)).append("</span></summary>\n")
                    .append("<div class=\"task text\" dir=\"auto\">").append(Html.escape(old.text())).append("</div>\n");
            if (old.answer() != null) {
                out.append("<div class=\"task\" style=\"padding-top:8px\">Answer: <code>").append(Html.escape(old.answer()))
                        .append("</code></div>\n");
            }
            out.append("<div class=\"pair\">\n");
            episode(old);
            if (now != null) {
                episode(now);
            }
            out.append("</div></details>\n");
            shown++;
        }
        if (shown < before.size()) {
            out.append("<p class=\"lead\">").append(before.size() - shown).append(" more in <code>").append(RunFiles.TRANSCRIPTS)
                    .append("</code>.</p>\n");
        }
    }

    private void episode(RunLog.Transcript t) {
        out.append("<section><h3>").append(capital(stageName(t.stage()))).append(" · reward ").append(Charts.number(t.reward()))
                .append(" ").append(mark(t)).append("</h3>\n");
        for (RunLog.Said said : t.messages()) {
            out.append("<div class=\"said\">").append(chip(said.role())).append("<small>").append(count(said.tokens(), "token"))
                    .append(said.ended() ? "" : ", cut off").append("</small><div class=\"text\" dir=\"auto\">")
                    .append(Html.escape(said.text())).append("</div>");
            if (said.observation() != null) {
                out.append("<small>answered by the environment</small><div class=\"text\" dir=\"auto\">")
                        .append(Html.escape(said.observation())).append("</div>");
            }
            out.append("</div>\n");
        }
        out.append("</section>\n");
    }

    private void configuration() {
        out.append("<h2>Configuration</h2>\n<p>All keys, including defaults.");
        if (!summary.run().command().isEmpty()) {
            out.append(" Started as <code>").append(Html.escape(summary.run().command())).append("</code>.");
        }
        out.append("</p>\n<details class=\"card\"><summary>").append(RunFiles.CONFIG).append("</summary><pre>")
                .append(Html.escape(config)).append("</pre></details>\n");
    }

    // Figures.

    private void section(String title, String... paragraphs) {
        out.append("<h2>").append(Html.escape(title)).append("</h2>\n");
        for (String text : paragraphs) {
            out.append("<p class=\"lead\">").append(Html.escape(text)).append("</p>\n");
        }
        out.append("<div class=\"figures\">\n");
    }

    private void end() {
        out.append("</div>\n");
    }

    /** One line for each agent, over its own updates. */
    private void perAgent(String title, String caption, ToDoubleFunction<RunLog.Update> value, Charts.Scale scale) {
        final List<Charts.Series> series = new ArrayList<>();
        byAgent.forEach((agent, all) -> series.add(thin(Charts.Series.line(agent, all.stream().mapToDouble(i -> i + 1).toArray(),
                all.stream().mapToDouble(i -> value.applyAsDouble(updates.get(i))).toArray(), colours.get(agent)), POINTS)));
        lines(title, caption, "update", series, scale);
    }

    private void lines(String title, String caption, String axis, List<Charts.Series> series, Charts.Scale scale) {
        final List<Charts.Series> thinned = series.stream().map(s -> s.look() == Charts.Look.POINTS ? s : thin(s, POINTS))
                .toList();
        figure(title, caption, axis, series, Charts.Drawing.of(Charts.xy(thinned, scale)));
    }

    private void figure(String title, String caption, String axis, List<Charts.Series> series, Charts.Drawing chart) {
        if (chart == null) {
            return;
        }
        out.append("<figure><figcaption><b>").append(Html.escape(title)).append("</b>").append(Html.escape(caption))
                .append(legend(series))
                .append("</figcaption>\n").append(Charts.svg(chart, title + ": " + caption)).append("<footer>")
                .append(Html.escape(axis)).append("</footer></figure>\n");
    }

    private static String legend(List<Charts.Series> series) {
        final StringBuilder html = new StringBuilder("<ul class=\"legend\">");
        series.stream().filter(s -> s.x().length > 0).forEach(s -> html.append(s.look() == Charts.Look.DASHES ? "<li><i class=\"dashes\"" : "<li><i")
                .append(" style=\"--c:").append(css(s.color())).append("\"></i>").append(Html.escape(s.name())).append("</li>"));
        return html.append("</ul>").toString();
    }

    /** Means over bins of neighbouring points, so that at most {@code most} points are left. */
    private static Charts.Series thin(Charts.Series s, int most) {
        if (s.x().length <= most) {
            return s;
        }
        final int[] bins = Charts.bins(s.x().length, most);
        final Function<double[], double[]> means = values -> IntStream.range(0, bins.length - 1)
                .mapToDouble(b -> Arrays.stream(values, bins[b], bins[b + 1]).average().orElseThrow()).toArray();
        return new Charts.Series(s.name(), means.apply(s.x()), means.apply(s.y()),
                s.error() == null ? null : means.apply(s.error()), s.color(), s.look());
    }

    // Numbers and words.

    private static <T> double[] of(List<T> all, ToDoubleFunction<T> value) {
        return all.stream().mapToDouble(value).toArray();
    }

    private static <T> double mean(List<T> all, ToDoubleFunction<T> value) {
        return all.stream().mapToDouble(value).average().orElse(Double.NaN);
    }

    private static <T> double[] means(Collection<List<T>> groups, ToDoubleFunction<T> value) {
        return groups.stream().mapToDouble(g -> mean(g, value)).toArray();
    }

    private static double[] column(List<double[]> rows, int i) {
        return rows.stream().mapToDouble(r -> r[i]).toArray();
    }

    private String chip(String role) {
        return "<span class=\"chip\" style=\"--c:" + css(colours.getOrDefault(role, Charts.GREY)) + "\">" + Html.escape(role)
                + "</span>";
    }

    private static String css(Color colour) {
        return String.format(Locale.ROOT, "#%06x", colour.getRGB() & 0xffffff);
    }

    private static String mark(RunLog.Transcript t) {
        return t.correct() ? "<b class=\"good\">✓ right</b>" : "<b class=\"bad\">✗ wrong</b>";
    }

    private static String stageName(int stage) {
        return stage == 0 ? "before the first update" : "after stage " + stage;
    }

    private static String capital(String text) {
        return Character.toUpperCase(text.charAt(0)) + text.substring(1);
    }

    private static String percent(double share) {
        return Double.isFinite(share) ? String.format(Locale.ROOT, "%.1f %%", 100 * share) : "–";
    }

    private static String grouped(long count) {
        return String.format(Locale.ROOT, "%,d", count).replace(',', '\u202f');
    }

    private static String count(long count, String what) {
        return grouped(count) + " " + what + (count == 1 ? "" : "s");
    }

    private static String duration(double seconds) {
        if (!Double.isFinite(seconds)) {
            return "–";
        }
        final long s = Math.round(seconds);
        return s < 60 ? String.format(Locale.ROOT, "%.1f s", seconds) : s < 3600 ? s / 60 + " min " + s % 60 + " s"
                : s / 3600 + " h " + s % 3600 / 60 + " min";
    }
}
