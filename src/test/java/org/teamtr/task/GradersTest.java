package org.teamtr.task;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.teamtr.task.Rows.rows;

import com.fasterxml.jackson.core.type.TypeReference;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.TreeMap;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.teamtr.task.math.MathAnswer;
import org.teamtr.team.Context;
import org.teamtr.team.Prompt;
import org.teamtr.team.Verifier;

/** Verdicts on answers that others disputed or published, see {@code README.md} beside the files. */
class GradersTest {
    private static final ObjectMapper JSON = new ObjectMapper();

    private static Prompt prompt(String answer) {
        return new Prompt("p", "?", answer);
    }

    private static Prompt prompt(JsonNode row, String answer) {
        return new Prompt("p", "?", answer, null, JSON.convertValue(row, new TypeReference<Map<String, Object>>() {}));
    }

    private static Grader grader(String name, boolean lenient) {
        return Verifiers.grader(name, new Verifiers.Settings(1, 0, false, lenient, "python3"));
    }

    // ---- mathematics ----

    static List<JsonNode> mathCases() {
        return rows("math-cases.jsonl");
    }

    @ParameterizedTest
    @MethodSource("mathCases")
    void disputedMathematics(JsonNode row) {
        final boolean lenient = row.get("extraction").asText().equals("lenient");
        assertEquals(row.get("correct").asBoolean(), grader("math", lenient).grade(prompt(row.get("gold").asText()), row.get("prediction").asText())
                .correct(), () -> row.get("gold") + " ~ " + row.get("prediction") + ": " + row.get("note").asText());
    }

    /** What others' rules say of the same answers: 18 and 13 of 40 are right, as their own code has it. */
    @Test
    void publishedRulesHaveTheirKnownMistakes() {
        final Map<String, Integer> right = new TreeMap<>();
        for (JsonNode row : mathCases()) {
            for (String name : List.of("hendrycks", "dapo")) {
                final boolean verdict = grader(name, false).grade(prompt(row.get("gold").asText()), row.get("prediction").asText()).correct();
                right.merge(name, verdict == row.get("correct").asBoolean() ? 1 : 0, Integer::sum);
            }
        }
        assertEquals(Map.of("hendrycks", 18, "dapo", 13), right);
    }

    @Test
    void dapoReadsTheLastAnswerLine() {
        final Grader dapo = grader("dapo", false);
        assertTrue(dapo.grade(prompt("33"), "It is so.\nAnswer: $033$ ").answered());
        assertTrue(dapo.grade(prompt("1080"), "Answer: 5\nAnswer: $1,080$ meters").correct());
        assertTrue(dapo.grade(prompt("3"), "Answer: $x = 3$").correct());
        assertFalse(dapo.grade(prompt("3"), "Answer: 3" + " ".repeat(300)).answered(), "only the last 300 characters count");
    }

    /** Each reference answer of MATH-500 is equal to itself, and to no other but the same in another form. */
    @Test
    void referenceAnswersOfMath500() {
        final Grader math = grader("math", false);
        final List<String> golds = rows("math500-answers.jsonl").stream().map(r -> r.get("answer").asText()).distinct().toList();
        final List<String> same = new ArrayList<>();
        for (String a : golds) {
            math.check(prompt(a));
            assertTrue(math.grade(prompt(a), "so $\\boxed{ " + a + " }$.").correct(), a);
            final MathAnswer gold = MathAnswer.of(a);
            for (String b : golds) {
                if (a.compareTo(b) < 0 && gold.accepts(b)) {
                    same.add(a + " ~ " + b);
                }
            }
        }
        assertEquals(List.of("-2,1 ~ 1,-2", "10,\\!080 ~ 10080", "120 ~ 120^\\circ", "15 ~ 15\\mbox{ cm}^2", "2 \\sqrt{5} ~ 2\\sqrt{5}",
                "30 ~ 30^\\circ", "36 ~ 36^\\circ", "36 ~ \\$36", "36^\\circ ~ \\$36", "5 ~ x=5", "90 ~ 90^\\circ", "\\frac14 ~ \\frac{1}{4}")
                .stream().sorted().toList(), same.stream().sorted().toList());
    }

    @ParameterizedTest
    @ValueSource(strings = {"", "\\frac{1}{", "((", "\\boxed{}", "2 3", "x ="})
    void anAnswerThatNothingCanBeComparedWithIsAnError(String gold) {
        assertThrows(IllegalArgumentException.class, () -> grader("math", false).check(prompt(gold)));
    }

    @ParameterizedTest
    @ValueSource(strings = {"\\boxed{33}", "\\boxed{033}", "\\boxed{x=33}", "\\boxed{(33)}", "\\boxed{33.}", "\\boxed{33.0}", "\\boxed{\\text{33}}",
        "\\boxed{33^\\circ}",
        "\\boxed{32} no, \\boxed{33}", "<think>\\boxed{5}</think> \\boxed{33}", "put it in \\boxed as told: \\boxed{33}", "\\boxed{33} \\boxed{}",
        "\\fbox{33}"})
    void integers(String text) {
        assertTrue(grader("integer", false).grade(prompt("033"), text).correct(), text);
    }

    @ParameterizedTest
    @ValueSource(strings = {"33", "\\boxed{33 \\text{ or } 34}", "\\boxed{33}, \\boxed{34}", "\\boxed{33x}", "\\boxed{33", "<think>\\boxed{33}",
        "\\boxed{33.5}", "\\boxed{1 + 32}"})
    void noIntegers(String text) {
        assertFalse(grader("integer", false).grade(prompt("33"), text).correct(), text);
    }

    // ---- numbers and choices ----

    static List<JsonNode> answerCases() {
        return rows("answer-cases.jsonl");
    }

    @ParameterizedTest
    @MethodSource("answerCases")
    void answersInTheirText(JsonNode row) {
        assertEquals(row.get("want").asText().equals("right"),
                grader(row.get("kind").asText(), false).grade(prompt(row.get("gold").asText()), row.get("text").asText()).correct(), row::toString);
    }

    // ---- grids ----

    static List<JsonNode> grids() {
        return rows("zebralogic-edges.jsonl");
    }

    @ParameterizedTest
    @MethodSource("grids")
    void gridsAsPublished(JsonNode row) {
        final JsonNode expected = row.has("expected") ? row.get("expected") : row.get("recommended");
        final Grader.Grade grade = grader("zebralogic", false).grade(prompt(row.get("solution").toString()), row.get("output").asText());
        assertEquals(expected.get("correct_cells").asDouble(), grade.figures().get("cells_right"), row::toString);
        assertEquals(expected.get("solved").asBoolean(), grade.correct());
        assertEquals(expected.get("parsed").asBoolean(), grade.answered());
    }

    @Test
    void tolerantGrids() {
        final String grid = "{\"header\": [\"House\", \"Name\"], \"rows\": [[\"1\", \"Eric\"], [\"2\", \"Arnold\"]]}";
        final String right = "{\"reasoning\": \"a { b\", \"solution\": {\"House 1\": {\"Name\": \"Eric\"}, \"House 2\": {\"Name\": \"Arnold\"}}}";
        final Grader tolerant = grader("zebralogic_tolerant", false);
        assertTrue(tolerant.grade(prompt(grid), right + " and {1, 2}").correct());
        assertFalse(grader("zebralogic", false).grade(prompt(grid), right).correct());
        assertEquals(0, tolerant.grade(prompt(grid), right.replace("Arnold", "Eric")).share(), "a constant grid earns nothing");
        assertThrows(IllegalArgumentException.class, () -> tolerant.check(prompt("{\"header\": []}")));
        assertThrows(IllegalArgumentException.class, () -> tolerant.check(prompt("no JSON")));
    }

    // ---- plans ----

    static List<JsonNode> planReplies() {
        return rows("planbench-replies.jsonl");
    }

    @ParameterizedTest
    @MethodSource("planReplies")
    void plansAsPublished(JsonNode row) {
        final Grader official = grader("planbench_official", false);
        final String gold = row.path("ground_truth").isTextual() ? row.get("ground_truth").asText() : row.path("ground_truth").toString();
        final Prompt prompt = prompt(row, gold.isEmpty() ? null : gold);
        official.check(prompt);
        final Grader.Grade grade = official.grade(prompt, row.get("response").asText());
        switch (row.get("task").asText()) {
            case "t3" -> {
                assertEquals(row.get("correct_binary").asBoolean(), grade.figures().get("binary") == 1, row::toString);
                assertEquals(row.get("correct_with_type").asBoolean(), grade.figures().get("type") == 1, row::toString);
                assertEquals(row.get("correct_with_explanation").asBoolean(), grade.correct(), row::toString);
            }
            case "t8_3" -> {
                assertEquals(row.get("correct_official").asBoolean(), grade.correct(), row::toString);
                assertEquals(row.get("correct_full_goal").asBoolean(), grade.figures().get("full_goal") == 1, row::toString);
            }
            default -> assertEquals(row.get("correct").asBoolean(), grade.correct(), row::toString);
        }
    }

    // ---- logic puzzles with a verifier of their own ----

    @Test
    void puzzlesByTheirOwnVerifiers() {
        final Grader autologi;
        try {
            autologi = grader("autologi", false);
        } catch (IllegalArgumentException e) {
            Assumptions.abort(e.getMessage());
            return;
        }
        final List<JsonNode> items = rows("autologi-items.jsonl");
        for (JsonNode reply : rows("autologi-replies.jsonl")) {
            final Prompt prompt = prompt(items.get(reply.get("item").asInt() - 1), null);
            final Grader.Grade grade = autologi.grade(prompt, reply.get("response").asText());
            assertEquals(reply.get("correct").asBoolean(), grade.correct(), reply::toString);
            assertEquals(!reply.get("extraction_failed").asBoolean(), grade.answered(), reply::toString);
        }
        for (String broken : List.of("def inputs_check(inputs):\n    return missing(inputs)", "def inputs_check(inputs:",
                "import socket\ninputs_check = lambda x: "
                        + "socket.socket() is None",
                "import os\ninputs_check = lambda x: os.system('true') == 0", "inputs_check = lambda x: open('/tmp/x', 'w')")) {
            final Prompt prompt = new Prompt("item 770", "?", null, null, Map.of("code", Map.of("Inputs_Check_code", broken, "Constraint_List_code",
                    "constraint_list = []")));
            final String fault = assertThrows(IllegalStateException.class, () -> autologi.grade(prompt, "```\n[1]\n```")).getMessage();
            assertTrue(fault.startsWith("item 770: the item's verifier is broken"), fault);
        }
        final Prompt endless =
                new Prompt("item 8", "?", null, null, Map.of("code", Map.of("Inputs_Check_code", "def inputs_check(x):\n    while True: pass",
                        "Constraint_List_code", "constraint_list = []")));
        final String late =
                assertThrows(IllegalStateException.class, () -> new AutoLogi("python3", 1, 512).grade(endless, "```\n[1]\n```")).getMessage();
        assertTrue(late.startsWith("item 8: the item's verifier took more than 1 s"), late);
    }

    @Test
    void withoutPythonThereIsNoVerifier() {
        final String error = assertThrows(IllegalArgumentException.class, () -> new AutoLogi("/nowhere/python3", 1, 512)).getMessage();
        assertEquals("verifier: expected CPython 3.8 or later for autologi, which runs each item's own verifier, given /nowhere/python3, which does"
                + " not start; task.files.python names another", error);
    }

    // ---- free answers of AR-Bench ----

    @Test
    void lettersOfDetectives() {
        for (JsonNode row : rows("detective-answers.jsonl")) {
            final String letter = row.get("letter").isNull() ? null : row.get("letter").asText();
            assertEquals(letter, grader("detective", false).answer(prompt("A"), row.get("text").asText()), row::toString);
        }
        assertTrue(grader("detective", false).grade(prompt("1"), "Answer: B").correct());
    }

    @Test
    void overlapOfTexts() {
        for (JsonNode row : rows("overlap.jsonl")) {
            final Map<String, Double> figures =
                    grader("overlap", false).grade(prompt(row.get("gold").asText()), row.get("prediction").asText()).figures();
            assertEquals(row.get("f1_char").asDouble(), figures.get("f1_char"), 1e-12, row::toString);
            assertEquals(row.get("f1_word").asDouble(), figures.get("f1_word"), 1e-12, row::toString);
        }
    }

    // ---- all together ----

    @Test
    void theSourceChooses() {
        final Verifier verifier = Verifiers.of("source", Verifiers.Settings.DEFAULT);
        assertTrue(verifier.score(said(new Prompt("a", "?", "7", "aime24", Map.of()), "\\boxed{007}")).correct());
        assertTrue(verifier.score(said(new Prompt("a", "?", "1/2", "math500", Map.of()), "\\boxed{0.5}")).correct());
        for (String unknown : new String[] {"aime99", null}) {
            final String error = assertThrows(IllegalArgumentException.class,
                    () -> verifier.score(said(new Prompt("x:3", "?", "7", unknown, Map.of()), "7"))).getMessage();
            assertTrue(error.startsWith("x:3: source: expected one of number, choice, math, ") && error.endsWith(unknown == null ? "given nothing"
                    : "given aime99"), error);
        }
    }

    @Test
    void rewardsMayBeDense() {
        final String grid = "{\"header\": [\"House\", \"Name\"], \"rows\": [[\"1\", \"a\"], [\"2\", \"b\"], [\"3\", \"c\"]]}";
        final String two = "{\"solution\": {\"House 1\": {\"Name\": \"a\"}, \"House 2\": {\"Name\": \"b\"}, \"House 3\": {\"Name\": \"x\"}}}";
        final Context context = said(prompt(grid), two);
        assertEquals(-0.5, Verifiers.of("zebralogic", new Verifiers.Settings(1, -0.5, false, false, "python3")).score(context).reward());
        assertEquals(-0.5 + 1.5 * 0.5, Verifiers.of("zebralogic", new Verifiers.Settings(1, -0.5, true, false, "python3")).score(context).reward(),
                1e-15);
    }

    private static Context said(Prompt prompt, String text) {
        return Context.of(prompt, List.of(text));
    }

    /** Whatever a policy writes, there is a verdict. */
    @Test
    void noAnswerIsTooOdd() {
        final String[] parts =
                {"\\frac{", "}", "{", "\\boxed{", "1", "22", "x", "^", "_", "(", ")", "[", "]", ",", "\\sqrt", "\\pm ", "\\cup ", "=", "<", "\\le ",
                    "\\infty", "-", "+", "\\text{and}", "\\text{ cm}", "!", "\\begin{pmatrix}", "\\end{pmatrix}", "\\\\", "&", " ", "\n", "$", "%",
                    "π", "\u2212", "e", "i",
                    "sin", "\\sin ", "\\log_", "999999999", "1e9", "^{9999999}", "/", "0.5", "\uD800", "中", "#### ", "Answer: ",
                    "pick up the red block\n", "stack the red",
                    " block on top of the blue block", "{\"solution\": {", "\"House 1\": {\"Name\": \"a\"}}}", "|", "\\binom{", ".", "</think>",
                    "<think>", "[PLAN]", "(stack a b)"};
        final SplittableRandom random = new SplittableRandom(1);
        final List<Prompt> prompts =
                List.of(prompt("\\frac{1}{2}"), prompt("x^2+\\sqrt{3}"), prompt("(1,2)"), prompt("[0,1)\\cup(2,3)"), prompt("x=2y+1"));
        final Prompt grid = prompt("{\"header\": [\"House\", \"Name\"], \"rows\": [[\"1\", \"a\"]]}");
        final Prompt blocks = prompt(rows("planbench-instances.jsonl").get(0), null);
        for (int n = 0; n < 4_000; n++) {
            final StringBuilder text = new StringBuilder(n % 2 == 0 ? "\\boxed{" : "");
            for (int k = random.nextInt(25); k >= 0; k--) {
                text.append(parts[random.nextInt(parts.length)]);
            }
            final String answer = text.append(n % 4 == 0 ? "}" : "").toString();
            grader("math", n % 3 == 0).grade(prompts.get(n % prompts.size()), answer);
            grader("integer", n % 3 == 0).grade(prompt("7"), answer);
            grader("number", false).grade(prompt("7"), answer);
            grader("choice", false).grade(prompt("B"), answer);
            grader("hendrycks", false).grade(prompt("7"), answer);
            grader("dapo", false).grade(prompt("7"), answer);
            grader(n % 2 == 0 ? "zebralogic" : "zebralogic_tolerant", false).grade(grid, answer);
            grader(n % 2 == 0 ? "planbench" : "planbench_official", false).grade(blocks, answer);
        }
    }
}
