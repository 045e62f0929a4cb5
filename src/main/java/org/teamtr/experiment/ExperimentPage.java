package org.teamtr.experiment;

import java.awt.Color;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.stream.Collectors;
import org.teamtr.report.Charts;
import org.teamtr.report.Html;
import org.teamtr.report.Panels;
import org.teamtr.report.RunWriter;

/**
 * The results of an experiment: {@code NAME.html}, a page that needs nothing but itself, its charts as {@code NAME.png} and
 * {@code NAME.svg}, and a chapter of {@code docs/results.md}.
 */
public final class ExperimentPage {
    private static final Color NOTHING = new Color(255, 255, 255, 0);

    private final Experiment experiment;
    private final ExperimentData data;
    private final Map<Claim, Claim.Finding> findings = new LinkedHashMap<>();

    private ExperimentPage(Experiment experiment, ExperimentData data) {
        this.experiment = experiment;
        this.data = data;
        experiment.claims().forEach(claim -> findings.put(claim, claim.judge(experiment, data)));
    }

    /**
     * Writes page and pictures. Without fonts on the machine the charts are missing, and the page says what to install.
     *
     * @return where the page is
     */
    public static Path write(Experiment experiment, ExperimentData data, Path folder) throws IOException {
        final Path page = folder.resolve(experiment.name() + ".html");
        final String missing = Charts.missing();
        RunWriter.replace(page, new ExperimentPage(experiment, data).html(missing).getBytes(StandardCharsets.UTF_8));
        if (missing == null) {
            picture(experiment, data, folder.resolve(experiment.name() + ".png"));
            picture(experiment, data, folder.resolve(experiment.name() + ".svg"));
        }
        return page;
    }

    /** Draws the charts; nothing where there is nothing to see. */
    private static boolean picture(Experiment experiment, ExperimentData data, Path file) throws IOException {
        Panels.check(file);
        final List<Charts.Drawing> panels = new ExperimentPictures(experiment, data, Color.DARK_GRAY, Color.WHITE).panels();
        if (!panels.isEmpty()) {
            Panels.write(panels, 2, file);
        }
        return !panels.isEmpty();
    }

    // ---- text of both the page and the chapter ----

    /** {@return the verdict on the whole, from those on the claims that could be tested} */
    private String verdict() {
        final List<Claim.Verdict> tested = findings.values().stream().map(Claim.Finding::verdict)
                .filter(v -> v != Claim.Verdict.UNTESTABLE && v != Claim.Verdict.MISSING).toList();
        if (tested.isEmpty()) {
            return findings.values().stream().anyMatch(f -> f.verdict() == Claim.Verdict.UNTESTABLE)
                    ? "not testable at this scale" : "not measured";
        }
        final long agree = tested.stream().filter(v -> v == Claim.Verdict.AGREES).count();
        final long shape = tested.stream().filter(v -> v == Claim.Verdict.IN_SHAPE).count();
        return agree == tested.size() ? "reproduced" : agree + shape == tested.size() ? "reproduced in shape"
                : agree + shape > 0 ? "reproduced in part" : tested.contains(Claim.Verdict.DISAGREES) ? "not reproduced"
                : "not decided";
    }

    /** How many claims came out how. */
    private String tally() {
        final Map<Claim.Verdict, Long> counts = findings.values().stream()
                .collect(Collectors.groupingBy(Claim.Finding::verdict, java.util.TreeMap::new, Collectors.counting()));
        return counts.entrySet().stream().map(e -> e.getKey().text + ": " + e.getValue()).collect(Collectors.joining(", "));
    }

    private String measured() {
        final ExperimentData.Info i = data.info;
        final int stages = data.runs.stream().mapToInt(ExperimentData.Run::stages).max().orElse(0);
        final int seeds = (int) data.runs.stream().map(ExperimentData.Run::seed).distinct().count();
        return (i.extent().quick() ? "quick settings, " : "") + count(seeds, "seed") + ", " + count(stages, "stage") + ", "
                + count(data.runs.size(), "run")
                + (i.failed().isEmpty() ? "" : ", " + i.failed().size() + " failed,") + " in " + clock(i.seconds()) + " ("
                + count(i.extent().workers(), "worker")
                + "); " + i.origin().machine();
    }

    private static String count(long n, String what) {
        return n + " " + what + (n == 1 ? "" : "s");
    }

    static String clock(double seconds) {
        final long s = Math.round(seconds);
        return s < 3600 ? String.format(Locale.ROOT, "%d:%02d min", s / 60, s % 60)
                : String.format(Locale.ROOT, "%d:%02d:%02d h", s / 3600, s / 60 % 60, s % 60);
    }

    /** Header and lines of the table of points; the paper's numbers behind ours where there are any. */
    private List<List<String>> table() {
        final List<String> columns = List.copyOf(experiment.columns().keySet());
        final List<List<String>> table = new ArrayList<>();
        final List<String> header = new ArrayList<>(List.of("point"));
        columns.forEach(c -> header.add(experiment.columns().get(c).titled()));
        table.add(header);
        for (Experiment.Point p : experiment.points()) {
            if (data.runs.stream().anyMatch(r -> r.point().equals(p.name()))) {
                final List<String> line = new ArrayList<>(List.of(p.name()));
                for (String c : columns) {
                    final double papers = experiment.published(p.name(), c);
                    line.add(data.stat(p.name(), c).text() + (Double.isFinite(papers) ? " [" + Charts.number(papers) + "]" : ""));
                }
                table.add(line);
            }
        }
        return table;
    }

    // ---- the page ----

    private String html(String noCharts) throws IOException {
        final StringBuilder out = new StringBuilder(Html.head(experiment.text().title()))
                .append("<header><p>TeamTR ").append(Html.escape(data.info.origin().version()))
                .append(" · experiment ").append(Html.escape(experiment.name())).append(" · ")
                .append(Html.escape(experiment.text().paper()))
                .append("</p>\n<h1>").append(Html.escape(experiment.text().title())).append(": ").append(verdict())
                .append("</h1></header>\n")
                .append("<p class=\"lead\">").append(Html.escape(experiment.text().question())).append("</p>\n<p class=\"lead\">")
                .append(Html.escape(measured())).append(". <code>").append(Html.escape(data.info.origin().command()))
                .append("</code></p>\n");
        if (data.info.extent().quick()) {
            note(out, "Quick settings: they show that the experiment runs. The claims are about the full settings.");
        }
        if (!data.info.failed().isEmpty()) {
            note(out, "Missing, because they failed: " + String.join(", ", data.info.failed()) + ".");
        }
        claims(out);
        if (noCharts != null) {
            note(out, noCharts.replace("./teamtr report RUN", "the command"));
        } else {
            charts(out);
        }
        out.append("<h2>Points</h2>\n<p>Mean ± standard deviation over the seeds, with the paper's number in brackets.</p>\n");
        html(out, table());
        out.append("<h2>Runs</h2>\n<p>Every run is a folder of that name beside this page, with a report of its own.</p>\n");
        final List<List<String>> runs = new ArrayList<>();
        final List<String> header = new ArrayList<>(List.of("run", "stages", "seconds"));
        experiment.columns().values().forEach(c -> header.add(c.titled()));
        runs.add(header);
        for (ExperimentData.Run r : data.runs) {
            final List<String> line = new ArrayList<>(List.of(r.point() + "-seed" + r.seed(), "" + r.stages(),
                    Charts.number(r.seconds())));
            experiment.columns().keySet().forEach(c -> line.add(Charts.number(r.values().getOrDefault(c, Double.NaN))));
            runs.add(line);
        }
        html(out, runs);
        out.append("<h2>The experiment</h2>\n<p>To copy and change; <code>./teamtr experiment FILE.yaml</code> runs it.</p>\n")
                .append("<details class=\"card\"><summary>").append(Html.escape(experiment.name()))
                .append(".yaml</summary>\n<pre>")
                .append(Html.escape(experiment.text().yaml())).append("</pre></details>\n");
        return out.append("</main>\n</body>\n</html>\n").toString();
    }

    private static void note(StringBuilder out, String text) {
        out.append("<p class=\"note\">").append(Html.escape(text)).append("</p>\n");
    }

    private void claims(StringBuilder out) {
        out.append("<h2>What agrees and what does not</h2>\n<p>").append(tally())
                .append(". Agrees: by more than twice the standard error, with ")
                .append(Claim.SEEDS)
                .append(" seeds or more. In shape: in this direction.</p>\n<div class=\"card scroll\"><table>\n");
        findings.forEach((claim, finding) -> out.append("<tr><td><span class=\"chip\" style=\"--c:")
                .append(switch (finding.verdict()) {
                    case AGREES -> "#1fa97a";
                    case IN_SHAPE -> "#3b82f6";
                    case DISAGREES -> "#e5484d";
                    default -> "#8a93a0";
                }).append("\">").append(finding.verdict().text).append("</span></td><td style=\"text-align:left;white-space:normal\">")
                .append(Html.escape(claim.says())).append("<br><small>").append(Html.escape(finding.detail()))
                .append("</small></td></tr>\n"));
        out.append("</table></div>\n");
    }

    private void charts(StringBuilder out) {
        out.append("<h2>Ours, and the paper's</h2>\n")
                .append("<p>Bars and marks are means over the seeds, whiskers a standard deviation either way.</p>\n")
                .append("<div class=\"figures\">\n");
        for (ExperimentPictures.Pair pair : new ExperimentPictures(experiment, data, Charts.INK, NOTHING).pairs()) {
            if (pair.ours() != null) {
                figure(out, pair.ours(), pair.label());
                if (pair.papers() != null) {
                    figure(out, pair.papers(), "paper: " + pair.label());
                }
            }
        }
        out.append("</div>\n");
    }

    private static void figure(StringBuilder out, Charts.Drawing chart, String label) {
        out.append("<figure>").append(Charts.svg(chart, label)).append("</figure>\n");
    }

    private static void html(StringBuilder out, List<List<String>> table) {
        out.append("<div class=\"card scroll\"><table>\n");
        for (int i = 0; i < table.size(); i++) {
            final String cell = i == 0 ? "th" : "td";
            out.append("<tr>");
            table.get(i).forEach(text -> out.append('<').append(cell).append('>').append(Html.escape(text)).append("</")
                    .append(cell).append('>'));
            out.append("</tr>\n");
        }
        out.append("</table></div>\n");
    }

    // ---- docs/results.md ----

    /**
     * Writes the page of all experiments, and their pictures into the folder {@code experiments} beside it.
     *
     * @param experiments in this order; those of which {@code data} has no folder are named as not measured
     * @param data holds for each experiment the files of {@link ExperimentData}
     */
    public static void results(List<Experiment> experiments, Path data, Path page) throws IOException {
        final StringBuilder out = new StringBuilder("""
                # Results

                Made by [docs/results.sh](results.sh) from [docs/data/experiments](data/experiments); do not edit. `docs/results.sh`
                makes the runs that are missing and writes this page again; `docs/results.sh --page` only writes the page.

                The paper's numbers are of teams of 8-billion-parameter models on mathematics and logic. Ours are of small models,
                trained from random weights, on the budget relay ([docs/method.md](method.md#the-built-in-task)). Levels cannot be
                compared; directions, orders, slopes and rates can. **Agrees**: by more than twice the standard error, over three seeds
                or more. **In shape**: in this direction, or nearly this number. Numbers are mean ± standard deviation over the seeds,
                with the paper's in brackets.

                """);
        final StringBuilder chapters = new StringBuilder();
        out.append("| experiment | in the paper | | claims | measured |\n|---|---|---|---|---|\n");
        for (Experiment e : experiments) {
            final Path folder = data.resolve(e.name());
            final String link = "[" + e.text().title() + "](#" + e.text().title().toLowerCase(Locale.ROOT).replaceAll("[^a-z0-9 -]", "")
                    .replace(' ', '-') + ")";
            if (ExperimentData.info(folder) == null) {
                out.append("| ").append(e.text().title()).append(" | ").append(e.text().paper()).append(" | not measured yet | | |\n");
                continue;
            }
            final ExperimentPage one = new ExperimentPage(e, ExperimentData.load(e, folder));
            final ExperimentData.Info info = one.data.info;
            out.append("| ").append(link).append(" | ").append(e.text().paper()).append(" | **").append(one.verdict()).append("** | ")
                    .append(one.tally()).append(" | ").append(info.extent().quick() ? "quick settings only" : "in full").append(", ")
                    .append(clock(info.seconds())).append(" |\n");
            one.chapter(chapters, page);
        }
        RunWriter.replace(page, out.append(chapters).toString().getBytes(StandardCharsets.UTF_8));
    }

    private void chapter(StringBuilder out, Path page) throws IOException {
        out.append("\n## ").append(experiment.text().title()).append("\n\n").append(experiment.text().question().strip()).append("\n\n`")
                .append(data.info.origin().command()).append("`: ").append(measured()).append(".\n\n");
        if (data.info.extent().quick()) {
            out.append("**Quick settings**: too few seeds and stages to decide a claim.\n\n");
        }
        findings.forEach((claim, f) -> out.append("- **").append(f.verdict().text).append("**: ").append(claim.says())
                .append(f.detail().isEmpty() ? "" : " (" + f.detail() + ")").append("\n"));
        if (!experiment.text().reading().isEmpty()) {
            out.append("\n").append(experiment.text().reading()).append("\n");
        }
        final Path picture = Path.of("experiments", experiment.name() + ".svg");
        final Path file = page.toAbsolutePath().resolveSibling(picture);
        Files.createDirectories(file.getParent());
        if (picture(experiment, data, file)) {
            out.append("\n![").append(experiment.text().title()).append("](").append(picture).append(")\n");
        }
        out.append('\n');
        final List<List<String>> table = table();
        for (int i = 0; i < table.size(); i++) {
            out.append("| ").append(String.join(" | ", table.get(i))).append(" |\n");
            if (i == 0) {
                out.append("|").append("---|".repeat(table.get(0).size())).append('\n');
            }
        }
    }
}
