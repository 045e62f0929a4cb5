package org.teamtr.team;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class PromptTemplateTest {
    private static final Prompt PROMPT = new Prompt("p", "What is 2+2?", "4");

    private static Context context(String... texts) {
        return Context.of(PROMPT, List.of(texts)); // spoken by agent1, agent2, ...
    }

    @Test
    void fieldsOfBothTurns() {
        final PromptTemplate t = new PromptTemplate("{role} {turn}: {prompt} / {transcript}", "[{transcript}{prompt}] {role} {turn}",
                "<{turn} {role}: {text}>");
        assertEquals(List.of(new ChatTurn("system", "judge 3: What is 2+2? / <1 agent1: 3><2 agent2: 5>"),
                new ChatTurn("user", "[<1 agent1: 3><2 agent2: 5>What is 2+2?] judge 3")),
                t.render(context("3", "5"), "judge", View.TRANSCRIPT));
    }

    @Test
    void withoutASystemTurnThereIsOnlyTheUsers() {
        assertEquals(List.of(new ChatTurn("user", "What is 2+2?")),
                new PromptTemplate(null, "{prompt}", "").render(context("3"), "judge", View.TRANSCRIPT));
    }

    @ParameterizedTest
    @CsvSource({"NONE, ''", "PREDECESSOR, c", "TRANSCRIPT, abc"})
    void views(View view, String seen) {
        final PromptTemplate t = new PromptTemplate(null, "{turn}:{transcript}", "{text}");
        assertEquals("4:" + seen, t.render(context("a", "b", "c"), "x", view).get(0).content());
        assertEquals("1:", t.render(context(), "x", view).get(0).content());
    }

    /** Texts are not templates, regular expressions or replacements, wherever they come from. */
    @ParameterizedTest
    @ValueSource(strings = {"{prompt}", "{text} {role} {transcript}", "$1 ${user}", "\\", "\\n \\\\ $0", "a{", "}b", "{}",
        "\uD83D\uDE00 \u0000"})
    void textsStayAsTheyAre(String text) {
        final Prompt prompt = new Prompt("p", text, null);
        final PromptTemplate t = new PromptTemplate("{role}", "{prompt}|{transcript}|{role}", "<{text}>");
        assertEquals(List.of(new ChatTurn("system", text), new ChatTurn("user", text + "|<" + text + "><x>|" + text)),
                t.render(Context.of(prompt, List.of(text, "x")), text, View.TRANSCRIPT));
    }

    /** What is no field is text: JSON, LaTeX, capital letters. */
    /** A conversation is kept: its system turn after the agent's own, the others before what the agent is asked. */
    @Test
    void turnsBeforeThePrompt() {
        final Prompt prompt =
                new Prompt("p", "And 3+3?", "6", null, Map.of(), List.of(new ChatTurn("system", "Be brief."), new ChatTurn("user", "2+2?"),
                        new ChatTurn("assistant", "4")));
        final List<ChatTurn> said = List.of(new ChatTurn("user", "2+2?"), new ChatTurn("assistant", "4"), new ChatTurn("user", "And 3+3?"));
        final List<ChatTurn> own = new ArrayList<>(said);
        own.add(0, new ChatTurn("system", "You judge.\n\nBe brief."));
        assertEquals(own, new PromptTemplate("You judge.", "{prompt}", "").render(Context.of(prompt, List.of()), "r", View.NONE));
        own.set(0, new ChatTurn("system", "Be brief."));
        assertEquals(own, new PromptTemplate(null, "{prompt}", "").render(Context.of(prompt, List.of()), "r", View.NONE));
    }

    @Test
    void bracesThatAreNoFields() {
        final String literal = "{\"answer\": 1} \\frac{1}{2} {Role} { role } {} $5 \\";
        assertEquals(literal + "What is 2+2?", new PromptTemplate(null, literal + "{prompt}", "").render(context(), "x", View.NONE).get(0)
                .content());
    }

    /** Doubled braces are braces, in a template; in a text they stay as they are. */
    @Test
    void doubledBraces() {
        final PromptTemplate t = new PromptTemplate("{{prompt}}", "\\boxed{{{prompt}}} {{}} {{{{ {transcript}", "{{{text}}}");
        assertEquals(List.of(new ChatTurn("system", "{prompt}"), new ChatTurn("user", "\\boxed{{{x}}} {} {{ {}}{{}")),
                t.render(Context.of(new Prompt("p", "{{x}}", null), List.of("}}{{")), "r", View.TRANSCRIPT));
    }

    @Test
    void halfASurrogatePairIsNoText() {
        final IllegalArgumentException e = assertThrows(IllegalArgumentException.class, () -> new PromptTemplate("\uD83D", "{prompt}", ""));
        assertTrue(e.getMessage().startsWith("system: expected text, given half a surrogate pair in "), e.getMessage());
    }

    @ParameterizedTest
    @CsvSource(delimiter = '|', value = {
        "{promt} | {prompt} | {text} | system: expected fields among [prompt, role, turn, transcript], given {promt} in \"{promt}\"",
        "'' | {text} | {text} | user: expected fields among [prompt, role, turn, transcript], given {text} in \"{text}\"",
        "'' | {prompt} | {prompt} | message: expected fields among [role, text, turn], given {prompt} in \"{prompt}\"",
        "'' | {prompt} | {transcript} | message: expected fields among [role, text, turn], given {transcript} in \"{transcript}\""})
    void aFieldThatDoesNotExistIsAnError(String system, String user, String message, String expected) {
        assertEquals(expected + "; braces that are only braces are written {{ and }}",
                assertThrows(IllegalArgumentException.class, () -> new PromptTemplate(system, user, message)).getMessage());
    }
}
