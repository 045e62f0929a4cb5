package org.teamtr.jmh;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;

/** Writes what was measured into the pages, between {@code <!-- speed -->} and {@code <!-- /speed -->}, and draws the picture. */
public final class Tables {
    private static final Map<String, String> NAMES = Map.ofEntries(Map.entry("LogProbs", "log-probs + entropy"),
            Map.entry("LogProbsBackward", "log-probs, gradient in place"), Map.entry("TokenKl", "exact token KL"),
            Map.entry("TokenKlBackward", "exact token KL, gradient in place"),
            Map.entry("PolicyLoss", "policy loss + gradient in place"),
            Map.entry("Sampling", "sampling"), Map.entry("VocabParallel", "vocab-parallel, two shards"),
            Map.entry("Surrogate", "surrogate + gradient"), Map.entry("SampledKl", "sampled KL (k3)"),
            Map.entry("Advantages", "advantages"));

    private final Results results;

    private Tables(Results results) {
        this.results = results;
    }

    /**
     * Arguments: the results, README.md, docs/kernels.md, the picture's file without .png and .svg, and the results of a processor with
     * AVX-512, whose tables stand between {@code <!-- avx512 -->} and {@code <!-- /avx512 -->} of docs/kernels.md.
     */
    public static void main(String[] args) throws IOException {
        final Tables tables = new Tables(Results.read(Path.of(args[0])));
        final String file = "jmh/results/" + Path.of(args[0]).getFileName();
        final String picture = "![GB/s of every kernel beside streaming bandwidth, libtorch and plain Java](%s)";
        between(Path.of(args[1]), "speed", String.join("\n", tables.where(file), tables.summary()));
        between(Path.of(args[2]), "speed", String.join("\n", tables.where("../" + file), tables.main(), text(picture + "%n",
                "roofline.png"),
                tables.levels(), tables.growth(), tables.tokens(), tables.linear(), tables.calls()));
        Roofline.draw(tables.results, args[3]);
        final Tables avx512 = new Tables(Results.read(Path.of(args[4])));
        between(Path.of(args[2]), "avx512", String.join("\n", avx512.where("../jmh/results/" + Path.of(args[4]).getFileName()), avx512.main(),
                avx512.levels()));
    }

    /** Replaces what stands between {@code <!-- name -->} and {@code <!-- /name -->} in a Markdown file. */
    static void between(Path page, String name, String text) throws IOException {
        final String begin = "<!-- " + name + " -->\n";
        final String end = "<!-- /" + name + " -->\n";
        final String old = Files.readString(page);
        final int from = old.indexOf(begin);
        final int to = old.indexOf(end);
        if (from < 0 || to < from) {
            throw new IOException(page + ": expected the lines " + begin.strip() + " and " + end.strip());
        }
        Files.writeString(page, old.substring(0, from + begin.length()) + text + old.substring(to));
    }

    private String where(String file) {
        return text("%s, %d threads, %s, JDK %s, libtorch %s, commit %s, %s, load %.1f before; [data](%s).%n", results.host().machine(),
                results.threads(),
                results.host().level(), results.host().jdk(), results.host().libtorch().replaceFirst("-.*", ""), results.commit(), results.date(),
                results.loadBefore(), file);
    }

    /** {@return the name of a kernel and of its case} */
    static String name(Run run) {
        final String policies = run.params().get("policies");
        final String topP = run.params().getOrDefault("topP", "1");
        return NAMES.get(run.kernel()) + (policies == null ? "" : ", " + policies) + (topP.equals("1") ? "" : ", top-p " + topP);
    }

    /** {@return the kernel's runs over logits of the main shape, by all threads at the best level} */
    static List<Run> mainRuns(Results results) {
        final List<Run> runs = new ArrayList<>();
        for (Run run : results.runs()) {
            if (run.side().equals("teamtr") && run.params().containsKey("dtype") && !linear(run) && plain(run)
                    && run.params().get("rows").equals(Integer.toString(results.shape()[0]))
                    && run.params().get("vocab").equals(Integer.toString(results.shape()[1]))) {
                runs.add(run);
            }
        }
        return runs;
    }

    private static boolean linear(Run run) {
        return run.params().containsKey("hidden");
    }

    private static boolean plain(Run run) {
        return run.params().get("cpu").equals("best") && run.params().get("threads").equals("0");
    }

    private static String logits(Run run) {
        return run.params().get("dtype").toLowerCase(Locale.ROOT);
    }

    private String main() {
        final StringBuilder table =
                new StringBuilder(text("| kernel | logits [%d, %d] | ms | GB/s | of streaming bandwidth | largest error | against libtorch"
                        + " | its largest error | against plain Java |%n|---|---|---|---|---|---|---|---|---|%n", results.shape()[0],
                        results.shape()[1]));
        for (Run run : mainRuns(results)) {
            table.append(text("| %s | %s | %.2f ± %.0f %% | %.1f | %s | %s | %s | %s | %s |%n", name(run), logits(run), run.millis(),
                    50 * run.spread(), run.gigabytesPerSecond(), ratio(run, "roofline", "%.2f"), error(run), libtorch(run),
                    error(results.find(run, "libtorch")), ratio(run, "plainJava", "%.1f×")));
        }
        return table.toString();
    }

    /** A line for each kernel, f32 and bf16 beside each other. */
    private String summary() {
        final StringBuilder table = new StringBuilder(text("| kernel, logits [%d, %d] | f32, ms | of memory bandwidth | largest error"
                + " | against libtorch | its largest error | bf16, ms | against libtorch |%n|---|---|---|---|---|---|---|---|%n", results.shape()[0],
                results.shape()[1]));
        for (Run f32 : mainRuns(results)) {
            final Optional<Run> bf16 = results.find(with(f32, "dtype", "BF16"), "teamtr");
            if (logits(f32).equals("f32") && bf16.isPresent()) {
                table.append(text("| %s | %.1f | %s | %s | %s | %s | %.1f | %s |%n", name(f32), f32.millis(),
                        ratio(f32, "roofline", "%.2f"), error(f32), ratio(f32, "libtorch", "%.0f×"),
                        error(results.find(f32, "libtorch")), bf16.get().millis(), ratio(bf16.get(), "libtorch", "%.0f×")));
            }
        }
        return table.toString();
    }

    private static String error(Run run) {
        return Double.isNaN(run.error()) ? "–" : text("%.1e", run.error());
    }

    private static String error(Optional<Run> run) {
        return run.map(Tables::error).orElse("–");
    }

    private String libtorch(Run run) {
        final String autograd = ratio(run, "libtorchAutograd", "%.1f×");
        return ratio(run, "libtorch", "%.1f×") + (autograd.equals("–") ? "" : "; autograd " + autograd);
    }

    /** How many times as long another side took. */
    private String ratio(Run run, String side, String format) {
        return results.find(run, side).map(other -> text(format, run.against(other))).orElse("–");
    }

    private String levels() {
        final String level = results.host().level();
        final List<String> lower = Measure.lower(level);
        final StringBuilder table = new StringBuilder(text("| kernel | logits | %s, ms |", level));
        lower.forEach(l -> table.append(text(" %s, ms |", l)));
        table.append(text(" %s, one thread, ms | one thread, of streaming bandwidth | %d threads against one |%n", level, results.threads()))
                .append("|---".repeat(6 + lower.size())).append("|\n");
        for (Run run : mainRuns(results)) {
            final Optional<Run> alone = results.find(with(run, "threads", "1"), "teamtr");
            table.append(text("| %s | %s | %.2f |", name(run), logits(run), run.millis()));
            lower.forEach(l -> table.append(text(" %s |", millis(results.find(with(run, "cpu", l), "teamtr")))));
            table.append(text(" %s | %s | %s |%n", millis(alone), alone.map(a -> ratio(a, "roofline", "%.2f")).orElse("–"),
                    alone.map(a -> text("%.2f×", a.millis() / run.millis())).orElse("–")));
        }
        return table.toString();
    }

    private String growth() {
        final StringBuilder table = new StringBuilder(text("| kernel | f32 logits | ms | ns per 1,000 logits | of streaming bandwidth |%n"
                + "|---|---|---|---|---|%n"));
        for (Run run : results.runs()) {
            if (run.side().equals("teamtr") && plain(run) && run.params().getOrDefault("dtype", "").equals("F32")
                    && List.of("LogProbs", "TokenKl").contains(run.kernel()) && !"far".equals(run.params().get("policies"))
                    && !run.params().get("vocab").equals("8")) {
                final double logits = Double.parseDouble(run.params().get("rows"))
                        * Double.parseDouble(run.params().get("vocab"));
                table.append(text("| %s | [%s, %s] | %.2f | %.1f | %s |%n", name(run), run.params().get("rows"),
                        run.params().get("vocab"),
                        run.millis(), run.millis() * 1e9 / logits, ratio(run, "roofline", "%.2f")));
            }
        }
        return table.toString();
    }

    private String tokens() {
        final StringBuilder table =
                new StringBuilder(text("| kernel | tokens | µs | GB/s | against libtorch | against plain Java |%n"
                        + "|---|---|---|---|---|---|%n"));
        for (Run run : results.runs()) {
            final String tokens = run.params().get("tokens");
            if (run.side().equals("teamtr") && tokens != null && !tokens.equals("8")) {
                table.append(text("| %s | %s | %.0f | %.1f | %s | %s |%n", name(run), tokens, 1e3 * run.millis(),
                        run.gigabytesPerSecond(),
                        ratio(run, "libtorch", "%.1f×"), ratio(run, "plainJava", "%.1f×")));
            }
        }
        return table.toString();
    }

    private String linear() {
        final StringBuilder table =
                new StringBuilder(text("| hidden states × head to log-probs + entropy | ms | of the product alone"
                        + " | against libtorch | against plain Java |%n|---|---|---|---|---|%n"));
        for (Run run : results.runs()) {
            if (linear(run) && run.side().equals("teamtr")) {
                table.append(text("| %s [%s, %s] × [%s, %s]ᵀ | %.0f | %s | %s | %s |%n", logits(run), run.params().get("rows"),
                        run.params().get("hidden"), run.params().get("vocab"), run.params().get("hidden"), run.millis(),
                        ratio(run, "roofline", "%.2f"), ratio(run, "libtorch", "%.2f×"), ratio(run, "plainJava", "%.0f×")));
            }
        }
        return table.toString();
    }

    private String calls() {
        final StringBuilder table = new StringBuilder(text("| call | on | ns | bytes on the Java heap |%n|---|---|---|---|%n"));
        for (Run run : results.runs()) {
            final boolean tokens = "8".equals(run.params().get("tokens"));
            if (tokens || "8".equals(run.params().get("vocab"))) {
                final String side = run.side().equals("teamtr") ? "" : run.side().equals("plainJava") ? ", plain Java"
                        : ", libtorch";
                table.append(text("| %s%s | %s | %.0f | %.1f |%n", name(run), side, tokens ? "8 tokens" : "1 row of 8 f32 logits",
                        1e6 * run.millis(), run.allocated()));
            }
        }
        return table.toString();
    }

    private static Run with(Run run, String name, String value) {
        final Map<String, String> params = new TreeMap<>(run.params());
        params.put(name, value);
        return new Run(run.kernel(), run.side(), params, run.forks(), run.allocated(), run.error());
    }

    private static String millis(Optional<Run> run) {
        return run.map(r -> text("%.2f", r.millis())).orElse("–");
    }

    private static String text(String format, Object... values) {
        return String.format(Locale.ROOT, format, values).replace("\r\n", "\n");
    }
}
