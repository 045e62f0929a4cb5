package org.teamtr.task;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.teamtr.task.Rows.rows;

import com.fasterxml.jackson.core.type.TypeReference;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.lang.management.ThreadMXBean;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.TreeMap;
import org.junit.jupiter.api.Test;
import org.teamtr.task.environment.GuessNumber;
import org.teamtr.task.environment.ToolCalls;
import org.teamtr.team.Prompt;

/**
 * Answers that nobody would give: real ones, cut, mixed, repeated and spoilt. Each is judged, the same twice, and none breaks a grader.
 * {@code -Dteamtr.fuzz=100000} asks that often instead of 4,000 times and prints the most processor time of each kind.
 */
class FuzzedAnswersTest {
    private static final int ASKED = Integer.getInteger("teamtr.fuzz", 4_000);
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final String[] PIECES = {"\\boxed{", "}", "{", "\\frac", "\\sqrt[", "^", "_", "\\left(", "\\infty", "\\text{", "<think>",
        "</think>",
        "(", ")", ",", "[PLAN]", "[PLAN END]", "\n", " and ", "\u221a", "\u00bd", "\ud83d\ude00", "\ud83d", "9", "-", "e", "!", "$", "%", "|",
        "\\cup",
        "\\begin{pmatrix}", "\\\\", "&", "\"", "<tool_call>", "</tool_call>", "Action:", "Answer:", "####", "plan is invalid", "unmet goal condition",
        "unstack the red block from on top of the blue block", "0x", "10^{10^{10}}", "99999999999999999999", "\\binom{99}{50}", "!!!!", "\u0000"};

    private final SplittableRandom random = new SplittableRandom(17);
    private final List<String> seen = new ArrayList<>();

    /** A grader with prompts that it can judge. */
    private record Judged(String name, Grader grader, List<Prompt> prompts) {
    }

    private List<Judged> graders() throws IOException {
        final List<Prompt> math = new ArrayList<>();
        for (JsonNode row : rows("math500-answers.jsonl")) {
            math.add(new Prompt("m", "?", row.get("answer").asText()));
            seen.add("So it is $\\boxed{" + row.get("answer").asText() + "}$.");
        }
        for (JsonNode row : rows("math-cases.jsonl")) {
            math.add(new Prompt("m", "?", row.get("gold").asText()));
            seen.add(row.get("prediction").asText());
        }
        final List<Prompt> grids = new ArrayList<>();
        for (JsonNode row : rows("zebralogic-edges.jsonl")) {
            grids.add(new Prompt("z", "?", row.get("solution").toString()));
            seen.add(row.get("output").asText());
        }
        final List<Prompt> plans = new ArrayList<>();
        for (JsonNode row : rows("planbench-replies.jsonl")) {
            final Map<String, Object> meta = JSON.convertValue(row, new TypeReference<LinkedHashMap<String, Object>>() {});
            final JsonNode gold = row.path("ground_truth");
            plans.add(new Prompt("p", "?", gold.isMissingNode() ? null : gold.isTextual() ? gold.asText() : gold.toString(), null, meta));
            seen.add(row.get("response").asText());
        }
        final List<Prompt> integers = List.of(new Prompt("i", "?", "073"), new Prompt("i", "?", "0"));
        final List<Prompt> letters = List.of(new Prompt("c", "?", "C"));
        final List<Judged> all = new ArrayList<>();
        for (String name : List.of("math", "hendrycks", "dapo")) {
            all.add(new Judged(name, Verifiers.grader(name, Verifiers.Settings.DEFAULT), math));
        }
        all.add(new Judged("math, lenient", Verifiers.grader("math", new Verifiers.Settings(1, 0, false, true, "python3")), math));
        all.add(new Judged("integer", Verifiers.grader("integer", new Verifiers.Settings(1, 0, false, true, "python3")), integers));
        all.add(new Judged("number", Verifiers.grader("number", Verifiers.Settings.DEFAULT), integers));
        all.add(new Judged("choice", Verifiers.grader("choice", Verifiers.Settings.DEFAULT), letters));
        for (String name : List.of("zebralogic", "zebralogic_tolerant")) {
            all.add(new Judged(name, Verifiers.grader(name, Verifiers.Settings.DEFAULT), grids));
        }
        for (String name : List.of("planbench", "planbench_official")) {
            all.add(new Judged(name, Verifiers.grader(name, Verifiers.Settings.DEFAULT), plans));
        }
        all.add(new Judged("overlap", Verifiers.grader("overlap", Verifiers.Settings.DEFAULT), List.of(new Prompt("o", "?", "He was a diver."))));
        all.add(new Judged("detective", Verifiers.grader("detective", Verifiers.Settings.DEFAULT), List.of(new Prompt("d", "?", "1"))));
        return all;
    }

    private String any() {
        return seen.get(random.nextInt(seen.size()));
    }

    private String spoilt() {
        StringBuilder text = new StringBuilder(any());
        for (int changes = random.nextInt(8); changes > 0; changes--) {
            final int at = random.nextInt(text.length() + 1);
            switch (random.nextInt(6)) {
                case 0 -> text.insert(at, PIECES[random.nextInt(PIECES.length)]);
                case 1 -> text.setLength(at);
                case 2 -> text.insert(at, any());
                case 3 -> text.insert(at, PIECES[random.nextInt(PIECES.length)].repeat(random.nextInt(40)));
                case 4 -> text.delete(at, Math.min(text.length(), at + random.nextInt(12)));
                default -> text = new StringBuilder(text.substring(at)).append(text, 0, at);
            }
            if (text.length() > 20_000) {
                text.setLength(20_000);
            }
        }
        return text.toString();
    }

    @Test
    void noAnswerBreaksAGrader() throws IOException {
        final List<Judged> graders = graders();
        final Map<String, Long> slowest = new TreeMap<>();
        final ThreadMXBean thread = ManagementFactory.getThreadMXBean(); // other processes do not count
        int right = 0;
        for (int i = 0; i < ASKED; i++) {
            final Judged judged = graders.get(i % graders.size());
            final Prompt prompt = judged.prompts().get(random.nextInt(judged.prompts().size()));
            final String text = spoilt();
            final long started = thread.getCurrentThreadCpuTime();
            final Grader.Grade grade;
            try {
                grade = judged.grader().grade(prompt, text);
                judged.grader().answer(prompt, text);
                ToolCalls.of(text);
                GuessNumber.guess(text, 1 + i % 9);
            } catch (RuntimeException | StackOverflowError e) {
                throw new AssertionError(judged.name() + " of " + prompt.answer() + ": " + text, e);
            }
            slowest.merge(judged.name(), thread.getCurrentThreadCpuTime() - started, Math::max);
            assertTrue(grade.share() >= 0 && grade.share() <= 1 && (!grade.correct() || grade.share() == 1), judged.name() + ": " + grade);
            if (i % 10 == 0) {
                assertEquals(grade, judged.grader().grade(prompt, text), judged.name());
            }
            right += grade.correct() ? 1 : 0;
        }
        assertTrue(right > 0, "some are left as they were");
        if (ASKED > 4_000) {
            slowest.forEach((name, nanos) -> System.out.printf("%s: %.1f ms%n", name, nanos * 1e-6));
        }
    }
}
