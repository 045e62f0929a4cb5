package org.teamtr.report;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import org.teamtr.train.PassRates;

/** Results of benchmarks as a text, as CSV and as one HTML page, beside what the paper prints. */
public final class BenchmarkTable {
    /**
     * A figure of a benchmark, or of a part of its items.
     *
     * @param part {@code all}, or a column with its value: {@code level 3}
     * @param metric for example {@code avg@16}
     */
    public record Figure(String benchmark, String part, String metric, PassRates.Interval interval, int items) {
    }

    /**
     * One benchmark.
     *
     * @param mode chain, single:ROLE, judge:ROLE or best-of
     * @param k episodes of each item
     * @param seeds how often all of them were played
     * @param counts what was counted, by name: items, episodes without answer, episodes that were cut, errors of verifiers, tokens, ...
     * @param published percent, by method
     * @param caveat why these are not comparable
     */
    public record Result(String benchmark, String mode, String verifier, int k, int seeds, Map<String, Long> counts, List<Figure> figures,
            Map<String, Double> published, List<String> caveat) {
    }

    private BenchmarkTable() {
    }

    /** {@return the results as lines of text} */
    public static String text(List<Result> results) {
        final StringBuilder out = new StringBuilder();
        for (Result r : results) {
            out.append(String.format(Locale.ROOT, "%s, %s, judged by %s, %d episodes for each item%s%n", r.benchmark(), modeName(r.mode()), r.verifier(), r.k(),
                    r.seeds() > 1 ? ", " + r.seeds() + " times" : ""));
            for (Figure f : r.figures()) {
                out.append(String.format(Locale.ROOT, "  %-22s %-10s %6.2f %%  [%.2f, %.2f]  %,d items%n", f.part(), f.metric(), 100 * f.interval().value(),
                        100 * f.interval().low(), 100 * f.interval().high(), f.items()));
            }
            r.counts().forEach((name, count) -> out.append(String.format(Locale.ROOT, "  %s: %,d%n", name, count)));
            if (!r.published().isEmpty()) {
                out.append("  the paper: ");
                r.published().forEach((method, percent) -> out.append(String.format(Locale.ROOT, "%s %.1f; ", method, percent)));
                out.append(System.lineSeparator());
                r.caveat().forEach(c -> out.append("  not comparable: ").append(c).append(System.lineSeparator()));
            }
        }
        return out.toString();
    }

    private static String modeName(String mode) {
        return mode.equals("best-of") ? "best of an episode's messages (chosen by the reference answer: an oracle)" : mode;
    }

    /** Writes {@code eval.csv} and {@code eval.html}. */
    public static void write(List<Result> results, Path folder) throws IOException {
        Files.createDirectories(folder);
        final StringBuilder csv = new StringBuilder("benchmark,mode,verifier,k,seeds,part,metric,value,low,high,items\n");
        for (Result r : results) {
            for (Figure f : r.figures()) {
                csv.append(String.format(Locale.ROOT, "%s,%s,%s,%d,%d,\"%s\",%s,%s,%s,%s,%d%n", r.benchmark(), r.mode(), r.verifier(), r.k(), r.seeds(),
                        f.part().replace("\"", "\"\""), f.metric(), f.interval().value(), f.interval().low(), f.interval().high(), f.items()));
            }
        }
        Files.writeString(folder.resolve("eval.csv"), csv);
        Files.writeString(folder.resolve("eval.html"), html(results));
    }

    private static String html(List<Result> results) {
        final StringBuilder out = new StringBuilder("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>Benchmarks</title>\n<style>")
                .append("body{font:15px/1.5 sans-serif;max-width:72em;margin:2em auto;padding:0 1em}table{border-collapse:collapse;margin:1em 0}")
                .append("td,th{padding:.2em .8em;text-align:right;border-bottom:1px solid #ccc}td:first-child,th:first-child{text-align:left}</style>\n")
                .append("</head>\n<body>\n<h1>Benchmarks</h1>\n");
        tableOne(results, out);
        for (Result r : results) {
            out.append("<h2>").append(Html.escape(r.benchmark())).append("</h2>\n<p>").append(Html.escape(modeName(r.mode()))).append(", judged by ")
                    .append(Html.escape(r.verifier())).append(", ").append(r.k()).append(" episodes for each item");
            r.counts().forEach((name, count) -> out.append(String.format(Locale.ROOT, "; %s: %,d", Html.escape(name), count)));
            out.append("</p>\n<table>\n<tr><th>items</th><th>metric</th><th>%</th><th>95 % interval</th><th>n</th></tr>\n");
            for (Figure f : r.figures()) {
                out.append(String.format(Locale.ROOT, "<tr><td>%s</td><td>%s</td><td>%.2f</td><td>%.2f to %.2f</td><td>%,d</td></tr>%n", Html.escape(f.part()),
                        f.metric(), 100 * f.interval().value(), 100 * f.interval().low(), 100 * f.interval().high(), f.items()));
            }
            out.append("</table>\n");
        }
        return out.append("</body>\n</html>\n").toString();
    }

    /** The paper's Table 1 for these benchmarks, with our row below. */
    private static void tableOne(List<Result> results, StringBuilder out) {
        final List<Result> known = results.stream().filter(r -> !r.published().isEmpty()).toList();
        if (known.isEmpty()) {
            return;
        }
        final Set<String> methods = new LinkedHashSet<>();
        known.forEach(r -> methods.addAll(r.published().keySet()));
        out.append("<h2>In the form of the paper's Table 1</h2>\n<table>\n<tr><th>method</th>");
        known.forEach(r -> out.append("<th>").append(Html.escape(r.benchmark())).append("</th>"));
        out.append("</tr>\n");
        for (String method : methods) {
            out.append("<tr><td>").append(Html.escape(method)).append(", as printed</td>");
            known.forEach(r -> out.append(r.published().containsKey(method) ? String.format(Locale.ROOT, "<td>%.1f</td>", r.published().get(method)) : "<td></td>"));
            out.append("</tr>\n");
        }
        out.append("<tr><td><b>this team, avg@k</b></td>");
        known.forEach(r -> out.append(String.format(Locale.ROOT, "<td><b>%.1f</b></td>", 100 * r.figures().get(0).interval().value())));
        out.append("</tr>\n</table>\n<p>What keeps these from being compared:</p>\n<ul>\n");
        final List<String> said = new ArrayList<>();
        for (Result r : known) {
            for (String caveat : r.caveat()) {
                said.add("<li>" + Html.escape(r.benchmark() + ": " + caveat) + "</li>\n");
            }
        }
        said.forEach(out::append);
        out.append("</ul>\n");
    }
}
