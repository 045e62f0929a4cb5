package org.teamtr.task.environment;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.teamtr.task.Rows.rows;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.teamtr.task.Verifiers;
import org.teamtr.team.Context;
import org.teamtr.team.Environment;
import org.teamtr.team.Message;
import org.teamtr.team.Prompt;
import org.teamtr.team.Utterance;
import org.teamtr.team.Verifier;

class EnvironmentsTest {
    private static Environment named(String name, String... tools) {
        return Environments.of(name, new Environments.Settings(5, false, List.of(tools), List.of(), null, null, null), Verifiers.Settings.DEFAULT,
                Verifiers.of("number", Verifiers.Settings.DEFAULT));
    }

    /** Plays messages; the observations' texts, "end" where the episode ended. */
    private static List<String> observations(Environment.Course course, Prompt prompt, String... said) {
        final List<String> seen = new ArrayList<>();
        for (int t = 0; t < said.length; t++) {
            final Context context = Context.of(prompt, List.of(said).subList(0, t + 1));
            final Environment.Step step = course.step(message(t, said[t]), context);
            seen.add((step.observation() == null ? "" : step.observation().text()) + (step.done() ? "end" : ""));
        }
        return seen;
    }

    private static Message message(int turn, String text) {
        return new Message(turn, 0, "agent1", new Utterance(new int[0], new int[0], new float[0], text, true, 0));
    }

    @Test
    void guessesAreFoundAndCompared() throws IOException {
        for (JsonNode row : rows("guess-feedback.jsonl")) {
            final String guess = GuessNumber.guess(row.get("message").asText(), 4);
            assertEquals(row.get("guess").isNull() ? null : row.get("guess").asText(), guess, row::toString);
            if (guess != null) {
                assertArrayEquals(new int[] {row.get("same").asInt(), row.get("diff").asInt()},
                        GuessNumber.compare(row.get("secret").asText(), guess), row::toString);
            }
        }
    }

    private static String answer(int same, int elsewhere) {
        return same + " digits are present in the answer and in the correct positions\n" + elsewhere
                + " digits are present in the answer but in the different positions";
    }

    @Test
    void gamesOfGuessing() throws IOException {
        for (JsonNode game : rows("guess-episodes.jsonl")) {
            final Prompt prompt = new Prompt("g", "?", game.get("secret").asText());
            final Environment.Course course = new GuessNumber(25, true, false).start(prompt, 0);
            final List<String> said = new ArrayList<>();
            final List<String> expected = new ArrayList<>();
            for (JsonNode turn : game.get("turns")) {
                said.add("Guess: " + turn.get("guess").asText());
                expected.add(turn.get("same").asInt() == 4 ? "end" : answer(turn.get("same").asInt(), turn.get("diff").asInt()));
            }
            assertEquals(expected, observations(course, prompt, said.toArray(String[]::new)));
            final double n = said.size();
            assertEquals(new Verifier.Score(1, true, Map.of("turns", n, "solved_at", n, "consistent", 1.0)), course.score(null));
        }
    }

    /** As published, only the last guess counts, and the right one before it ends nothing. */
    @Test
    void theFinalGuessCounts() {
        final Prompt prompt = new Prompt("g", "?", "0123");
        final Environment.Course course = new GuessNumber(2, false, true).start(prompt, 0);
        assertEquals(List.of(answer(4, 0), "no guess found", "end"), observations(course, prompt, "0123", "nothing", "0132"));
        final Verifier.Score score = course.score(null);
        assertEquals(0.75, score.reward());
        assertEquals(1.0, score.figures().get("solved_at"));
        assertEquals("g: answer: expected a secret of 1 to 18 digits, given x", assertThrows(IllegalArgumentException.class,
                () -> new GuessNumber(2, false, true).start(new Prompt("g", "?", "x"), 0)).getMessage());
    }

    @Test
    void plansAreAnsweredByTheirFirstFault() {
        final Prompt prompt = new Prompt("b", "?", null, null, Map.of("init", List.of("clear c", "handempty", "on b a", "on c b", "ontable a"),
                "goal", List.of("ontable c")));
        final String good = "unstack the orange block from on top of the blue block\nput down the orange block";
        assertEquals(List.of("end"), observations(new PlanFeedback(3, false, false).start(prompt, 0), prompt, good));
        final Environment.Course course = new PlanFeedback(3, false, false).start(prompt, 0);
        assertEquals(List.of("The above plan is invalid. The following action at step 1 has an unmet precondition:\npick up the red block\n"
                + "The unmet precondition is:\nthe red block is clear",
                "The above plan is invalid. Every line is to be one action, as in the example.",
                "end"), observations(course, prompt, "pick up the red block", "I do not know", "put down the red block"));
        final Verifier.Score score = course.score(Context.of(prompt, List.of("", "", "put down the red block")));
        assertEquals(0, score.reward());
        assertEquals(3.0, score.figures().get("rounds"));
    }

    @Test
    void callsAreReadInEveryForm() {
        final ToolCalls.Call sum = new ToolCalls.Call("calculate", Map.of("expression", "1+2"), null);
        final String arguments = "{\"name\": \"calculate\", \"arguments\": {\"expression\": \"1+2\"}}";
        final String parameters = arguments.replace("arguments", "parameters");
        for (String text : List.of("<tool_call>\n" + arguments + "\n</tool_call>", "I see. <tool_call>" + arguments + "</tool_call>", parameters,
                "<|python_tag|>" + parameters, "Thought: so\nAction: " + arguments, "<think>{\"name\": \"x\"}</think>" + parameters)) {
            assertEquals(List.of(sum), ToolCalls.of(text), text);
        }
        assertEquals(List.of(sum, sum), ToolCalls.of(parameters + "; " + parameters));
        for (String none : List.of("", "It is 3.", "\\boxed{3}", "Action: none", "{1, 2}")) {
            assertEquals(List.of(), ToolCalls.of(none), none);
        }
        for (String bad : List.of("<tool_call>{</tool_call>", "<tool_call>{\"name\": 1}</tool_call>", "<tool_call>{\"name\": \"calculate\"",
                "{\"name\": \"a\", \"parameters\": 3}")) {
            assertNull(ToolCalls.of(bad).get(0).name(), bad);
        }
    }

    @Test
    void toolsAnswerAndTheAnswerIsScored() {
        final Environment tools = named("tools", Calculator.class.getName());
        final Prompt prompt = new Prompt("t", "(3 + 4) * 5?", "35");
        final Environment.Course course = tools.start(prompt, 0);
        final String[] said = {"<tool_call>{\"name\": \"calculate\", \"arguments\": {\"expression\": \"(3+4)*5\"}}</tool_call>",
            "<tool_call>{\"name\": \"search\", \"arguments\": {}}</tool_call>",
            "<tool_call>{\"name\": \"calculate\", \"arguments\": {\"expression\": \"x\"}}</tool_call>",
            "Answer: 35"};
        assertEquals(
                List.of("35", "Error: unknown tool search, expected one of calculate", "Error: expected an expression of numbers, given x", "end"),
                observations(course, prompt, said));
        final Verifier.Score score = course.score(Context.of(prompt, List.of(said)));
        assertEquals(new Verifier.Score(1, true, Map.of("answered", 1.0, "calls", 3.0, "failed_calls", 2.0)), score);
        assertEquals("calculate", ((Map<?, ?>) tools.tools().get(0).get("function")).get("name"));
    }

    /** One's own tool, which breaks. */
    public static final class Broken implements Tool {
        @Override
        public String name() {
            return "broken";
        }

        @Override
        public String description() {
            return "breaks";
        }

        @Override
        public Map<String, Object> parameters() {
            return Map.of("type", "object", "properties", Map.of());
        }

        @Override
        public String call(Map<String, Object> arguments, Object state) {
            throw new ArithmeticException("/ by zero");
        }
    }

    @Test
    void aFaultOfAToolIsNoScore() {
        final Prompt prompt = new Prompt("t", "?", "3");
        final String call = "<tool_call>{\"name\": \"broken\"}</tool_call>";
        final Environment deaf =
                Environments.of("tools", new Environments.Settings(5, false, List.of(Broken.class.getName()), List.of("solver"), null, null, null),
                        Verifiers.Settings.DEFAULT, Verifiers.of("number", Verifiers.Settings.DEFAULT));
        assertEquals(List.of(""), observations(deaf.start(prompt, 0), prompt, call), "agent1 is not heard");
        final Environment all = named("tools", Broken.class.getName());
        assertEquals("the tool broken failed: java.lang.ArithmeticException: / by zero", assertThrows(IllegalStateException.class,
                () -> observations(all.start(prompt, 0), prompt, call)).getMessage());
    }

    /** Observations of an environment that asks; its oracle answers at once. */
    private static List<String> asked(Environment environment, Prompt prompt, String... said) {
        final Environment.Course course = environment.start(prompt, 0);
        final List<String> seen = new ArrayList<>();
        for (int t = 0; t < said.length; t++) {
            final Context context = Context.of(prompt, List.of(said).subList(0, t + 1));
            Environment.Step step = course.step(message(t, said[t]), context);
            if (step.question() != null) {
                step = course.answered(environment.oracle().answer(List.of(step.question()), 0, new long[] {0}).get(0));
            }
            seen.add((step.observation() == null ? "" : step.observation().text()) + (step.done() ? "end" : ""));
        }
        seen.add(String.valueOf(course.score(Context.of(prompt, List.of(said))).reward()));
        return seen;
    }

    @Test
    void suspectsAndReferees() {
        final Prompt dark = new Prompt("c", "?", "1", null, Map.of("suspects", List.of(Map.of("name", "Tilda Norr", "task", "Stay calm.", "story",
                "I came at six. I took the oar from the wall."), Map.of("name", "Jonas Vik", "task", "Help.", "story", "I saw nothing."))));
        assertEquals(List.of("Ask Tilda Norr one question.", "Tilda Norr: I took the oar from the wall.\nTurn 2: name the suspect to question.",
                "There is no suspect of that name.\nWho is it? Answer in the form\nReason: ...\nAnswer: [A-E]", "end", "1.0"),
                asked(new Detective(2, new ScriptedOracle()), dark, "[Tilda Norr]", "Who took it from the wall?", "Tilda",
                        "Reason: the oar.\nAnswer: B"));
        final Prompt riddle = new Prompt("s", "A man phones his empty flat.", "Burglars used his flat once.");
        assertEquals(List.of("Yes", "Unknown\nNow say what happened.", "end", "1.0"), asked(new SituationPuzzle(2, new ScriptedOracle()), riddle,
                "Did burglars use the flat once?", "Is it raining outside?", "Burglars used his flat once."));
    }

    /** Bounds on what an update gains rest on it. */
    @Test
    void returnsLieBetweenNothingAndOne() {
        for (Environment environment : List.of(new PlanFeedback(3, true, false), new Detective(2, new ScriptedOracle()),
                new SituationPuzzle(2, new ScriptedOracle()), named("guess_number"), named("tools", Calculator.class.getName()))) {
            assertEquals(new Verifier.Range(0, 1), environment.range());
        }
    }

    @Test
    void whatIsMissingIsSaid() {
        assertTrue(assertThrows(IllegalArgumentException.class, () -> named("chess")).getMessage()
                .startsWith("environment: expected one of guess_number, plan_feedback, tools, detective, situation, retail, or"));
        assertTrue(assertThrows(IllegalArgumentException.class, () -> named("detective")).getMessage()
                .startsWith("task.environment.oracle: expected the oracle that answers in detective"));
        assertTrue(assertThrows(IllegalArgumentException.class, () -> named("tools")).getMessage().startsWith("tools: expected the names"));
    }
}
