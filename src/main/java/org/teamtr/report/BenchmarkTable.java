package org.teamtr.report;

import com.fasterxml.jackson.annotation.JsonUnwrapped;
import com.fasterxml.jackson.annotation.JsonValue;
import com.fasterxml.jackson.databind.JsonNode;
import java.io.BufferedReader;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.teamtr.train.PassRates;

/** Results of benchmarks as a text, as CSV and as one HTML page, beside what the paper prints. */
public final class BenchmarkTable {
    /**
     * A figure of a benchmark, or of a part of its items.
     *
     * @param part {@code all}, or a column with its value: {@code level 3}
     * @param metric for example {@code avg@16}
     * @param share whether it is one, 0 to 1, and said in percent; else a mean of counts
     */
    public record Figure(String benchmark, String part, String metric, PassRates.Interval interval, int items, boolean share) {
        private String number(double value) {
            return Double.isNaN(value) ? "–" : String.format(Locale.ROOT, share ? "%.1f" : "%.2f", share ? 100 * value : value);
        }

        String value() {
            return number(interval.value()) + (share ? " %" : "");
        }

        String range() {
            return number(interval.low()) + " to " + number(interval.high());
        }
    }

    /**
     * One benchmark.
     *
     * @param title for people
     * @param counts what was counted, by name: items, episodes without answer, episodes that were cut, errors of verifiers, tokens, ...
     */
    public record Result(String benchmark, String title, @JsonUnwrapped Setting setting, Map<String, Long> counts, List<Figure> figures,
            @JsonUnwrapped Paper paper) {
        /** {@return what stands beside the paper's figures} */
        Figure main() {
            return figures.stream().filter(f -> f.part().equals("all") && f.metric().equals(paper.printed)).findFirst().orElse(figures.get(0));
        }
    }

    /**
     * Who writes, and which message of an episode counts.
     *
     * @param role of the agent that writes alone or judges; null for none
     */
    public record Mode(Kind kind, String role) {
        private static final Pattern TEXT = Pattern.compile("(chain|best-of|single|judge)(?::(.+))?");

        /** Of modes. */
        public enum Kind {
            /** The team as it is; its last message counts. */
            CHAIN,
            /** The best message of an episode counts, chosen by the reference answer. */
            BEST_OF,
            /** One agent writes, once. */
            SINGLE,
            /** The message counts that an agent chooses when the episode is over. */
            JUDGE
        }

        /**
         * {@return a mode}
         *
         * @param text chain, best-of, single:ROLE or judge:ROLE
         * @throws IllegalArgumentException if it is none of these
         */
        public static Mode of(String text) {
            final Matcher m = TEXT.matcher(text);
            final Kind kind = m.matches() ? Kind.valueOf(m.group(1).replace('-', '_').toUpperCase(Locale.ROOT)) : null;
            if (kind == null || (kind == Kind.SINGLE || kind == Kind.JUDGE) != (m.group(2) != null)) {
                throw new IllegalArgumentException("--mode: expected chain, best-of, single:ROLE or judge:ROLE, given " + text);
            }
            return new Mode(kind, m.group(2));
        }

        /** {@return the text of which {@link #of} makes it} */
        @Override
        @JsonValue
        public String toString() {
            return kind.name().toLowerCase(Locale.ROOT).replace('_', '-') + (role == null ? "" : ":" + role);
        }

        private String named() {
            return kind == Kind.BEST_OF ? "best of an episode's messages (chosen by the reference answer: an oracle)" : toString();
        }

        private String sentence() {
            return switch (kind) {
                case CHAIN -> "The team as it is; its last message counts.";
                case BEST_OF -> "The best message of each episode counts, chosen by the reference answer: an oracle.";
                case SINGLE -> role + " alone, with one message.";
                case JUDGE -> "The message counts that " + role + " chooses when the episode is over.";
            };
        }
    }

    /**
     * How a benchmark was played.
     *
     * @param k episodes of each item
     * @param seeds how often all of them were played
     */
    public record Setting(Mode mode, String verifier, int k, int seeds) {
    }

    /**
     * What the paper has of a benchmark.
     *
     * @param published percent, by method
     * @param printed the metric that stands beside these
     * @param caveat why these are not comparable
     */
    public record Paper(Map<String, Double> published, String printed, List<String> caveat) {
    }

    /** Wrong episodes, a line each: benchmark, item and messages. */
    public static final String FAILURES = "failures.jsonl";
    /** Wrong episodes of a benchmark that the page shows. */
    private static final int SHOWN = 8;

    private BenchmarkTable() {
    }

    /** {@return the results as lines of text} */
    public static String text(List<Result> results) {
        final StringBuilder out = new StringBuilder();
        for (Result r : results) {
            out.append(String.format(Locale.ROOT, "%s, %s, judged by %s, %d episodes for each item%s%n", r.benchmark(), r.setting().mode().named(),
                    r.setting().verifier(), r.setting().k(),
                    r.setting().seeds() > 1 ? ", " + r.setting().seeds() + " times" : ""));
            for (Figure f : r.figures()) {
                out.append(String.format(Locale.ROOT, "  %-22s %-13s %8s  [%s]  %,d items%n", f.part(), f.metric(), f.value(), f.range(), f.items()));
            }
            r.counts().forEach((name, count) -> out.append(String.format(Locale.ROOT, "  %s: %,d%n", name, count)));
            if (!r.paper().published().isEmpty()) {
                out.append("  the paper: ");
                r.paper().published().forEach((method, percent) -> out.append(String.format(Locale.ROOT, "%s %.1f; ", method, percent)));
                out.append(System.lineSeparator());
                r.paper().caveat().forEach(c -> out.append("  not comparable: ").append(c).append(System.lineSeparator()));
            }
        }
        return out.toString();
    }

    /**
     * Writes {@code eval.csv} and {@code eval.html}. Of the wrong episodes in {@code failures.jsonl}, if that is there, the page shows the
     * first of each benchmark.
     *
     * @param team what was evaluated, in a word: the run's name
     */
    public static void write(List<Result> results, String team, Path folder) throws IOException {
        Files.createDirectories(folder);
        final StringBuilder csv = new StringBuilder("benchmark,mode,verifier,k,seeds,part,metric,value,low,high,items\n");
        for (Result r : results) {
            for (Figure f : r.figures()) {
                csv.append(String.format(Locale.ROOT, "%s,%s,%s,%d,%d,\"%s\",%s,%s,%s,%s,%d%n", r.benchmark(), r.setting().mode(),
                        r.setting().verifier(), r.setting().k(), r.setting().seeds(),
                        f.part().replace("\"", "\"\""), f.metric(), f.interval().value(), f.interval().low(), f.interval().high(), f.items()));
            }
        }
        Files.writeString(folder.resolve("eval.csv"), csv);
        Files.writeString(folder.resolve("eval.html"), new Page(results, team, folder.resolve(FAILURES)).html());
    }

    /** The HTML page. */
    private static final class Page {
        private final List<Result> results;
        private final String team;
        private final Map<String, List<JsonNode>> failures = new HashMap<>(); // the first ones of each benchmark
        private final Map<String, Integer> wrong = new HashMap<>();
        private final StringBuilder out = new StringBuilder();

        Page(List<Result> results, String team, Path file) throws IOException {
            this.results = results;
            this.team = team;
            if (Files.exists(file)) {
                try (BufferedReader lines = Files.newBufferedReader(file)) {
                    for (String line = lines.readLine(); line != null; line = lines.readLine()) {
                        final JsonNode failure = Json.MAPPER.readTree(line);
                        final List<JsonNode> first = failures.computeIfAbsent(failure.path("benchmark").asText(), b -> new ArrayList<>());
                        wrong.merge(failure.path("benchmark").asText(), 1, Integer::sum);
                        if (first.size() < SHOWN) {
                            first.add(failure);
                        }
                    }
                }
            }
        }

        String html() throws IOException {
            out.append(Html.head("Benchmarks of " + team)).append("<header><p>TeamTR ").append(Html.escape(Version.read()))
                    .append(" · evaluation of ")
                    .append(Html.escape(team)).append("</p>\n<h1>").append(Html.escape(headline())).append("</h1></header>\n");
            tableOne();
            results.forEach(this::benchmark);
            return out.append("</main>\n</body>\n</html>\n").toString();
        }

        private String headline() {
            return String.join(", ", results.stream().map(r -> r.title() + " " + r.main().value()).toList());
        }

        /** The paper's Table 1 for these benchmarks, with our row below. */
        private void tableOne() {
            final List<Result> known = results.stream().filter(r -> !r.paper().published().isEmpty()).toList();
            if (known.isEmpty()) {
                return;
            }
            final Set<String> methods = new LinkedHashSet<>();
            known.forEach(r -> methods.addAll(r.paper().published().keySet()));
            out.append("<h2>Comparison with the paper’s Table 1</h2>\n<p>Percent. The paper’s rows are as it prints them; the list below says why"
                    + " ours may not be comparable.</p>\n<div class=\"card scroll\"><table>\n<tr><th>method</th>");
            known.forEach(r -> out.append("<th>").append(Html.escape(r.title())).append("</th>"));
            out.append("</tr>\n");
            for (String method : methods) {
                out.append("<tr><td>").append(Html.escape(method)).append("</td>");
                known.forEach(r -> out.append("<td>").append(r.paper().published().containsKey(method)
                        ? String.format(Locale.ROOT, "%.1f", r.paper().published().get(method)) : "").append("</td>"));
                out.append("</tr>\n");
            }
            out.append("<tr><td><b>").append(Html.escape(team)).append("</b></td>");
            known.forEach(r -> out.append("<td><b>").append(r.main().number(r.main().interval().value())).append("</b><br><small>")
                    .append(Html.escape(r.main().metric())).append(", ").append(r.main().range()).append("</small></td>"));
            out.append("</tr>\n</table></div>\n<ul>\n");
            final Map<String, List<String>> caveats = new LinkedHashMap<>(); // what holds for several is said once
            known.forEach(r -> r.paper().caveat().forEach(c -> caveats.computeIfAbsent(c, t -> new ArrayList<>()).add(r.title())));
            caveats.forEach((caveat, titles) -> out.append("<li>").append(Html.escape((titles.size() == known.size() && known.size() > 1 ? "all"
                    : String.join(", ", titles)) + ": " + caveat)).append("</li>\n"));
            out.append("</ul>\n");
        }

        private void benchmark(Result r) {
            out.append("<h2>").append(Html.escape(r.title())).append("</h2>\n<p>").append(Html.escape(r.setting().mode().sentence()))
                    .append(" Judged by <code>")
                    .append(Html.escape(r.setting().verifier())).append("</code>, ").append(r.setting().k())
                    .append(r.setting().k() == 1 ? " episode" : " episodes").append(" for each item")
                    .append(r.setting().seeds() > 1 ? ", " + r.setting().seeds() + " times" : "")
                    .append(". Intervals hold 95 % of 1,000 resamples of items and episodes.</p>\n")
                    .append("<dl class=\"tiles\">\n");
            for (Figure f : r.figures()) {
                if (f.part().equals("all")) {
                    out.append(Html.tile(f.metric(), f.value(), f.range()));
                }
            }
            out.append("</dl>\n<p class=\"lead\" style=\"margin-top:12px\">").append(String.join(" · ", r.counts().entrySet().stream()
                    .map(count -> Html.escape(count.getKey()) + String.format(Locale.ROOT, ": %,d", count.getValue())).toList())).append("</p>\n");
            parts(r);
            failures(r);
        }

        /** A table for each column that items are told apart by. */
        private void parts(Result r) {
            final Map<String, List<Figure>> tables = new LinkedHashMap<>();
            for (Figure f : r.figures()) {
                if (!f.part().equals("all")) {
                    tables.computeIfAbsent(f.part().substring(0, f.part().indexOf(' ')), c -> new ArrayList<>()).add(f);
                }
            }
            tables.forEach((column, figures) -> {
                out.append("<div class=\"card scroll\" style=\"margin-top:16px\"><table>\n<tr><th>").append(Html.escape(column)).append("</th><th>")
                        .append(Html.escape(figures.get(0).metric())).append("</th><th>95 % interval</th><th>items</th></tr>\n");
                figures.forEach(f -> out.append("<tr><td>").append(Html.escape(f.part().substring(column.length() + 1))).append("</td><td>")
                        .append(f.value()).append("</td><td>").append(f.range()).append("</td><td>")
                        .append(String.format(Locale.ROOT, "%,d", f.items())).append("</td></tr>\n"));
                out.append("</table></div>\n");
            });
        }

        private void failures(Result r) {
            final List<JsonNode> first = failures.getOrDefault(r.benchmark(), List.of());
            if (first.isEmpty()) {
                return;
            }
            out.append("<p style=\"margin:24px 0 10px\">Wrong episodes").append(wrong.get(r.benchmark()) > first.size()
                    ? String.format(Locale.ROOT, ", the first %d of %,d; <code>%s</code> has all", first.size(), wrong.get(r.benchmark()), FAILURES)
                    : "")
                    .append(":</p>\n");
            for (JsonNode failure : first) {
                out.append("<details class=\"card\"").append(failure == first.get(0) ? " open" : "").append("><summary>")
                        .append(text(failure.path("id"))).append("</summary>\n<div class=\"task text\" dir=\"auto\">")
                        .append(text(failure.path("prompt"))).append("</div>\n");
                if (!failure.path("answer").isNull()) {
                    out.append("<div class=\"task\" style=\"padding-top:8px\">Answer: <code>").append(text(failure.path("answer")))
                            .append("</code></div>\n");
                }
                for (JsonNode said : failure.path("messages")) {
                    out.append("<div class=\"said\" style=\"padding-top:10px\"><b>").append(text(said.path("role"))).append("</b><small>")
                            .append(said.path("ended").asBoolean() ? "" : "cut off").append("</small><div class=\"text\" dir=\"auto\">")
                            .append(text(said.path("text"))).append("</div>");
                    if (said.has("observation")) {
                        out.append("<small style=\"margin-left:0\">answered by the environment</small><div class=\"text\" dir=\"auto\">")
                                .append(text(said.path("observation")))
                                .append("</div>");
                    }
                    out.append("</div>\n");
                }
                out.append("</details>\n");
            }
        }

        private static String text(JsonNode node) {
            return Html.escape(node.asText());
        }
    }
}
