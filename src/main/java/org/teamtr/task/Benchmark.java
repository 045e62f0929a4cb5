package org.teamtr.task;

import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * A benchmark of the paper (arXiv 2605.15207, Table 1, and tau-bench): the verifier of its answers, how often each item is played, and the
 * paper's figures.
 *
 * @param name as on the command line
 * @param title as the paper has it
 * @param verifier see {@link Verifiers}; null where the environment alone scores
 * @param k episodes for each item in the paper
 * @param items how many the paper has
 * @param published percent, by method; whether it is avg@k or pass@k is not said
 * @param figure the figure of an episode that is averaged for that table; null for the share of right ones
 * @param caveat why figures may not be comparable
 */
public record Benchmark(String name, String title, String verifier, int k, int items, Map<String, Double> published, String figure, String caveat) {
    private static final String ALL = "the paper does not say whether it prints avg@k or pass@k";

    /** All of them, in the paper's order. */
    public static final List<Benchmark> PAPER = List.of(
            of("aime24", "AIME 2024", "integer", 64, 30, 39.1, 41.3, 68.7, 71.1, 69.9, 88.1, ALL),
            of("aime25", "AIME 2025", "integer", 64, 30, 27.9, 30.1, 59.1, 61.7, 60.5, 78.3, ALL),
            of("math500", "MATH-500", "math", 4, 500, 90.7, 91.5, 95.2, 95.9, 95.7, 99.3, ALL
                    + "; the paper's reference implementation compares answers as texts (verifier hendrycks), ours by what they mean"),
            of("zebralogic", "ZebraLogic", "zebralogic", 64, 1000, 35.4, 36.7, 84.1, 86.3, 85.1, 94.7, ALL),
            of("autologi", "AutoLogi", "autologi", 64, 345, 80.3, 80.9, 85.1, 85.9, 85.5, 90.5, ALL + "; which 345 items the paper uses is not said"),
            of("detective", "AR-Bench DC", "detective", 25, 500, 40.1, 40.7, 43.1, 44.3, 43.7, 46.7, ALL
                    + "; the paper counts training and test items together, and who answers the questions is not said"),
            of("situation", "AR-Bench SP", "overlap", 25, 500, 35.2, 35.9, 38.0, 39.4, 38.7, 43.1, ALL
                    + "; whether the paper's F1 is by characters or words (here: words), and who answers, is not said"),
            of("guess_number", "AR-Bench GN", "number", 25, 5040, 38.9, 39.3, 42.3, 43.5, 43.1, 45.3,
                    ALL + "; the paper counts training and test items together"),
            of("planbench", "PlanBench", "planbench_official", 8, 0, 33.1, 33.5, 38.3, 39.1, 38.7, 44.1, ALL
                    + "; which items of the eight abilities the paper uses is not said"),
            new Benchmark("retail", "tau-bench", null, 4, 115, ordered("naive sequential (3x8B)", 45.6, "TeamTR (3x8B)", 52.9), null,
                    "the paper's figures are pass@1; beside them it has 13.8 and 19.7 as pass@4, which are less and so can only be pass^4; whether it plays"
                            + " retail, airline or both, and who is the customer, is not said"));

    private static Benchmark of(String name, String title, String verifier, int k, int items, double grpo, double dapo, double debate, double judge,
            double play, double teamtr, String caveat) {
        return new Benchmark(name, title, verifier, k, items, ordered("GRPO (single, 8B)", grpo, "DAPO (single, 8B)", dapo, "Debate (3x8B)", debate,
                "Debate+Judge (3x8B)", judge, "Role-play (3x8B)", play, "TeamTR (3x8B)", teamtr), verifier.equals("overlap") ? "f1_word" : null,
                caveat);
    }

    /** @param methods names and figures by turns */
    private static Map<String, Double> ordered(Object... methods) {
        final Map<String, Double> published = new LinkedHashMap<>();
        for (int i = 0; i < methods.length; i += 2) {
            published.put((String) methods[i], (Double) methods[i + 1]);
        }
        return Collections.unmodifiableMap(published);
    }

    /**
     * {@return a benchmark by its name}
     *
     * @throws IllegalArgumentException if there is none, listing those there are
     */
    public static Benchmark named(String name) {
        return PAPER.stream().filter(b -> b.name().equals(name)).findFirst().orElseThrow(() -> new IllegalArgumentException(
                "benchmark: expected one of " + String.join(", ", PAPER.stream().map(Benchmark::name).toList()) + ", given " + name));
    }
}
