package org.teamtr.task;

import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.function.BiPredicate;
import java.util.stream.Stream;
import org.teamtr.team.Context;
import org.teamtr.team.Message;
import org.teamtr.team.Prompt;
import org.teamtr.team.Verifier;

/**
 * Verifiers by name. Ours compare the last messages of an episode with what its prompt says of the answer.
 *
 * <table>
 *   <caption>Names</caption>
 *   <tr><td>{@code number}</td><td>the same number, as {@link NumberAnswer} finds and compares it</td></tr>
 *   <tr><td>{@code choice}</td><td>the same letter, as {@link ChoiceAnswer} finds it</td></tr>
 *   <tr><td>{@code math}</td><td>the same mathematics: {@link org.teamtr.task.math.MathAnswer} of the last box</td></tr>
 *   <tr><td>{@code integer}</td><td>the same integer in the last box, as in AIME</td></tr>
 *   <tr><td>{@code hendrycks}, {@code dapo}</td><td>the string rules of MATH and of DAPO, to reproduce figures</td></tr>
 *   <tr><td>{@code zebralogic}</td><td>the grid in the last JSON object; {@code zebralogic_tolerant} allows for braces inside texts</td></tr>
 *   <tr><td>{@code autologi}</td><td>the item's own verifier, in a Python process</td></tr>
 *   <tr><td>{@code planbench}</td><td>a plan, a verdict or a state: {@link PlanBench}; {@code planbench_official} reads plans as
 * published</td></tr>
 *   <tr><td>{@code detective}, {@code overlap}</td><td>AR-Bench's final answers: a letter behind Answer:, word F1</td></tr>
 *   <tr><td>{@code source}</td><td>by what {@link Prompt#source} says: one of these names, or of the data sets
 *       {@code aime24}, {@code aime25}, {@code math500}, {@code gsm8k} and so on</td></tr>
 *   <tr><td>a full class name</td><td>of a {@link Verifier} with a public constructor without parameters; it gives its own rewards</td></tr>
 * </table>
 */
public final class Verifiers {
    /** By which verifier data sets are judged, as verl, the reference implementation and the publishers call them. */
    private static final Map<String, String> SOURCES = new LinkedHashMap<>();

    static {
        for (String pair : new String[] {"aime24 integer", "aime25 integer", "aime integer", "math_dapo integer", "math500 math", "math-500 math",
            "lighteval/math math", "HuggingFaceH4/MATH-500 math", "DigitalLearningGmbH/MATH-lighteval math", "gsm8k number", "openai/gsm8k number",
            "zebra zebralogic", "allenai/ZebraLogicBench zebralogic", "WildEval/ZebraLogic zebralogic", "autologi_en autologi",
            "autologi_cn autologi",
            "blocksworld planbench", "arbench_dc detective", "arbench_sp overlap"}) {
            SOURCES.put(pair.split(" ")[0], pair.split(" ")[1]);
        }
    }

    private static final List<String> NAMES = List.of("number", "choice", "math", "integer", "hendrycks", "dapo", "zebralogic",
            "zebralogic_tolerant", "autologi", "planbench", "planbench_official", "detective", "overlap");

    private Verifiers() {
    }

    /**
     * Settings of the built-in verifiers.
     *
     * @param votes how many of the last messages they read, 1 or more: the answer is right if it is in more than half of them; all messages
     *     if there are fewer
     * @param wrong what they give for a wrong answer, and for an episode without a message; for a right one they give 1
     * @param dense whether the reward of a wrong answer grows with the share of it that is right, from {@code wrong} to 1
     * @param lenient whether {@code math} and {@code integer} also look for an answer outside of boxes
     * @param python the interpreter that {@code autologi} starts
     */
    public record Settings(int votes, double wrong, boolean dense, boolean lenient, String python) {
        /** The last message, 1 or 0, boxes alone. */
        public static final Settings DEFAULT = new Settings(1, 0, false, false, "python3");
    }

    /**
     * {@return the grader of a name}
     *
     * @throws IllegalArgumentException if there is none, listing those there are, or it needs a Python that is not there
     */
    public static Grader grader(String name, Settings settings) {
        return switch (SOURCES.getOrDefault(name, name)) {
            case "number" -> comparing(NumberAnswer::same);
            case "choice" -> comparing(ChoiceAnswer::same);
            case "math" -> new MathGrader(settings.lenient());
            case "integer" -> new IntegerGrader(settings.lenient());
            case "hendrycks" -> new PublishedGraders.Hendrycks();
            case "dapo" -> new PublishedGraders.Dapo();
            case "zebralogic" -> new ZebraLogic(false);
            case "zebralogic_tolerant" -> new ZebraLogic(true);
            case "autologi" -> new AutoLogi(settings.python(), 20, 1024);
            case "planbench" -> new PlanBench(false);
            case "planbench_official" -> new PlanBench(true);
            case "detective" -> new ArBenchGraders.Detective();
            case "overlap" -> new ArBenchGraders.Overlap();
            default -> throw new IllegalArgumentException("source: expected one of " + String.join(", ", NAMES) + ", or of the data sets "
                    + String.join(", ", SOURCES.keySet()) + ", given " + name);
        };
    }

    /**
     * {@return a verifier}
     *
     * @throws IllegalArgumentException if there is no such verifier; from {@code score}, naming the prompt, if it lacks what is needed to
     *     judge its answers
     */
    public static Verifier of(String name, Settings settings) {
        if (name.equals("source")) {
            return new BySource(settings);
        }
        return name.contains(".") ? UserClass.make(name, Verifier.class, "task.files.verifier") : new Grading(grader(name, settings), settings);
    }

    /** {@return the names of ours} */
    public static List<String> names() {
        return Stream.concat(NAMES.stream(), Stream.of("source")).toList();
    }

    /** {@return whether a verifier reads more of a prompt's row than its answer: {@link Prompt#meta}} */
    public static boolean needsRows(String name) {
        return name.contains(".") || name.equals("source") || name.startsWith("autologi") || name.startsWith("planbench")
                || name.startsWith("zebralogic");
    }

    /** {@return the answer of a prompt}, which must have one */
    static String gold(Prompt prompt) {
        if (prompt.answer() == null) {
            throw new IllegalArgumentException("answer: expected an answer to compare with, given none");
        }
        return prompt.answer();
    }

    static String shortened(String text) {
        return text.length() > 80 ? text.substring(0, 77) + "..." : text;
    }

    private static Grader comparing(BiPredicate<String, String> same) {
        return new Grader() {
            @Override
            public void check(Prompt prompt) {
                final boolean unused = same.test(gold(prompt), ""); // reads the reference answer, or throws
            }

            @Override
            public Grade grade(Prompt prompt, String text) {
                return Grade.of(same.test(gold(prompt), text), true);
            }
        };
    }

    /** Scores the last messages by a grader. */
    private record Grading(Grader grader, Settings settings) implements Verifier {
        @Override
        public Range range() {
            return new Range(settings.wrong(), 1);
        }

        @Override
        public Score score(Context episode) {
            final Prompt prompt = episode.prompt();
            final List<Message> all = episode.messages();
            final List<Message> last = all.subList(Math.max(0, all.size() - settings.votes()), all.size());
            int right = 0;
            double share = 0;
            final Map<String, Double> figures = new LinkedHashMap<>();
            try {
                grader.check(prompt); // an answer that cannot be compared with is named, whatever was said
                for (Message message : last) {
                    final Grader.Grade grade = grader.grade(prompt, message.text());
                    right += grade.correct() ? 1 : 0;
                    share += grade.share() / last.size();
                    figures.putAll(grade.figures());
                    figures.put("answered", grade.answered() ? 1.0 : 0);
                }
            } catch (IllegalArgumentException e) {
                throw new IllegalArgumentException(prompt.id() + ": " + e.getMessage(), e);
            }
            if (2 * right > last.size()) {
                return new Score(1, true, figures);
            }
            return new Score(settings.dense() ? settings.wrong() + (1 - settings.wrong()) * share : settings.wrong(), false, figures);
        }
    }

    /** Scores each episode by the verifier of its prompt's source. */
    private static final class BySource implements Verifier {
        private final Settings settings;
        private final Map<String, Verifier> made = new HashMap<>();

        BySource(Settings settings) {
            this.settings = settings;
        }

        @Override
        public Range range() {
            return new Range(settings.wrong(), 1); // every source has one of ours
        }

        @Override
        public Score score(Context episode) {
            final Prompt prompt = episode.prompt();
            final String source = Objects.requireNonNullElse(prompt.source(), "nothing");
            Verifier verifier = made.get(source);
            if (verifier == null) {
                try {
                    verifier = of(source.equals("source") ? "nothing" : source, settings);
                } catch (IllegalArgumentException e) {
                    throw new IllegalArgumentException(prompt.id() + ": " + e.getMessage(), e);
                }
                made.put(source, verifier);
            }
            return verifier.score(episode);
        }
    }
}
