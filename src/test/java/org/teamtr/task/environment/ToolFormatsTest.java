package org.teamtr.task.environment;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.teamtr.chat.ChatTemplate;
import org.teamtr.kernels.SamplingConfig;
import org.teamtr.task.Verifiers;
import org.teamtr.team.Agent;
import org.teamtr.team.ChatTurn;
import org.teamtr.team.Environment;
import org.teamtr.team.Episode;
import org.teamtr.team.Generation;
import org.teamtr.team.Observation;
import org.teamtr.team.Prompt;
import org.teamtr.team.PromptTemplate;
import org.teamtr.team.Rollout;
import org.teamtr.team.ScriptedSpeaker;
import org.teamtr.team.Router;
import org.teamtr.team.Team;
import org.teamtr.team.Truncation;
import org.teamtr.team.View;

/** Tools as models with chat templates see and call them: Qwen's form, and Llama's. */
class ToolFormatsTest {
    private static final PromptTemplate PLAIN = new PromptTemplate("Be exact.", "{prompt}", "{role}: {text}");

    /** A speaker whose messages are given in advance; its prompts are made by a chat template. */
    private static final class Reader extends ScriptedSpeaker {
        private final ChatTemplate template;

        Reader(String template, String... script) throws IOException {
            super(script);
            this.template = template(template);
        }

        @Override
        public int[] encode(List<ChatTurn> turns, List<Map<String, Object>> tools) {
            return template.render(turns, variables(tools)).codePoints().toArray();
        }
    }

    /** One's own: knows what things cost, and counts in an episode how often it was asked. */
    public static final class Prices implements Tool {
        @Override
        public String name() {
            return "price";
        }

        @Override
        public String description() {
            return "What a thing costs in \u20ac.";
        }

        @Override
        public Map<String, Object> parameters() {
            return Map.of("type", "object", "properties", Map.of("thing", Map.of("type", "string"), "count", Map.of("type", "integer")));
        }

        @Override
        public Object start(Prompt prompt, long seed) {
            return new int[1];
        }

        @Override
        public String call(Map<String, Object> arguments, Object state) throws ToolException {
            if (!(arguments.get("thing") instanceof String thing) || !(arguments.get("count") instanceof Integer count)) {
                throw new ToolException("expected thing and count");
            }
            return count + " " + thing + ": " + 3 * count + " \u20ac, question " + ++((int[]) state)[0];
        }
    }

    private static ChatTemplate template(String name) throws IOException {
        try (InputStream in = ChatTemplate.class.getResourceAsStream(name + ".jinja")) {
            return ChatTemplate.compile(new String(in.readAllBytes(), StandardCharsets.UTF_8));
        }
    }

    private static Map<String, Object> variables(List<Map<String, Object>> tools) {
        final Map<String, Object> variables = new LinkedHashMap<>(Map.of("bos_token", "<s>", "add_generation_prompt", true));
        variables.put("tools", tools.isEmpty() ? null : tools);
        return variables;
    }

    private static Environment environment() {
        return Environments.of("tools", new Environments.Settings(9, false, List.of(Calculator.class.getName(), Prices.class.getName()), List.of(),
                null, null, null), Verifiers.Settings.DEFAULT, Verifiers.of("number", Verifiers.Settings.DEFAULT));
    }

    private static Episode play(Reader reader) {
        final Team team = new Team(List.of(new Agent("solver", reader, PLAIN, View.CONVERSATION, false)), Router.ROUND_ROBIN, 9, c -> false);
        return Rollout.play(team, List.of(new Prompt("p", "What are four pears and 2 euros?", "14")), 1,
                new Generation(1, SamplingConfig.ALL, 100, Truncation.ERROR), environment(), 1).get(0);
    }

    private static Map<String, Object> call(String name, Object... arguments) {
        final Map<String, Object> map = new LinkedHashMap<>();
        for (int i = 0; i < arguments.length; i += 2) {
            map.put((String) arguments[i], arguments[i + 1]);
        }
        return Map.of("type", "function", "function", Map.of("name", name, "arguments", map));
    }

    private static Map<String, Object> said(String role, String content, Object... calls) {
        final Map<String, Object> message = new LinkedHashMap<>(Map.of("role", role, "content", content));
        if (calls.length > 0) {
            message.put("tool_calls", List.of(calls));
        }
        return message;
    }

    /** The prompts are those of the same conversation with calls and results as the template has them. */
    @Test
    void inQwensForm() throws IOException {
        final Reader qwen = new Reader("qwen3",
                "<tool_call>\n{\"name\": \"price\", \"arguments\": {\"thing\": \"pear\", \"count\": 4}}\n</tool_call>\n"
                        + "<tool_call>\n{\"name\": \"price\", \"arguments\": {\"thing\": \"plum\", \"count\": 1}}\n</tool_call>",
                "<tool_call>\n{\"name\": \"calculate\", \"arguments\": {\"expression\": \"12 + 2\"}}\n</tool_call>", "It is \\boxed{14}.");
        final Episode episode = play(qwen);
        assertTrue(episode.score().correct());
        assertEquals(Map.of("answered", 1.0, "calls", 3.0, "failed_calls", 0.0), episode.score().figures());
        assertEquals("4 pear: 12 \u20ac, question 1\n1 plum: 3 \u20ac, question 2", episode.context().observation(0).text());
        final List<Map<String, Object>> conversation = new ArrayList<>(List.of(said("system", "Be exact."),
                said("user", "What are four pears and 2 euros?")));
        final ChatTemplate template = template("qwen3");
        final Map<String, Object> tools = variables(environment().tools());
        assertEquals(template.renderMessages(conversation, tools), qwen.asked.get(0));
        for (Map<String, Object> tool : environment().tools()) {
            final String described = qwen.asked.get(0).substring(qwen.asked.get(0).indexOf("<tools>"));
            assertTrue(described.lines().anyMatch(line -> line.startsWith("{") && same(line, tool)), described);
        }
        conversation.add(said("assistant", "", call("price", "thing", "pear", "count", 4L), call("price", "thing", "plum", "count", 1L)));
        conversation.add(said("tool", "4 pear: 12 \u20ac, question 1"));
        conversation.add(said("tool", "1 plum: 3 \u20ac, question 2"));
        assertEquals(template.renderMessages(conversation, tools), qwen.asked.get(1));
        conversation.add(said("assistant", "", call("calculate", "expression", "12 + 2")));
        conversation.add(said("tool", "14"));
        assertEquals(template.renderMessages(conversation, tools), qwen.asked.get(2));
    }

    private static boolean same(String json, Map<String, Object> value) {
        try {
            return new ObjectMapper().readTree(json).equals(new ObjectMapper().valueToTree(value));
        } catch (IOException e) {
            return false;
        }
    }

    @Test
    void inLlamasForm() throws IOException {
        final Reader llama = new Reader("calls", "{\"name\": \"price\", \"parameters\": {\"thing\": \"pear; {4}\", \"count\": 4}}",
                "{\"name\": \"price\", \"parameters\": {\"thing\": \"pear\"}}", "Answer: 14");
        final Episode episode = play(llama);
        assertTrue(episode.score().correct());
        assertEquals(Map.of("answered", 1.0, "calls", 2.0, "failed_calls", 1.0), episode.score().figures());
        final List<Map<String, Object>> conversation = new ArrayList<>(List.of(said("system", "Be exact."),
                said("user", "What are four pears and 2 euros?"), said("assistant", "", call("price", "thing", "pear; {4}", "count", 4L)),
                said("tool", "4 pear; {4}: 12 \u20ac, question 1"), said("assistant", "", call("price", "thing", "pear")),
                said("tool", "Error: expected thing and count")));
        assertEquals(template("calls").renderMessages(conversation, variables(environment().tools())), llama.asked.get(2));
        assertTrue(llama.asked.get(2).contains("<|head|>ipython<|/head|>\n\n\"Error: expected thing and count\"<|turn|>"), llama.asked.get(2));
    }

    @Test
    void severalCallsOfLlama() {
        final String one = "{\"name\": \"price\", \"parameters\": {\"thing\": \"a}; {b\", \"count\": 1}}";
        final ToolCalls.Call call = new ToolCalls.Call("price", Map.of("thing", "a}; {b", "count", 1), null);
        for (String text : List.of(one + "; " + one, one + ";" + one, one + "\n" + one, one + ", " + one + " and that is it")) {
            assertEquals(List.of(call, call), ToolCalls.of(text), text);
        }
        assertEquals(List.of(call), ToolCalls.of(one + " is what I would call"));
        assertEquals(2, ToolCalls.of(one + "; {\"name\": ").size());
    }

    /** A model without a template for tools is refused; it would not know of them. */
    @Test
    void aModelThatCannotBeToldOfToolsIsRefused() {
        final Team team = Team.of(List.of(new Agent("solver", new ScriptedSpeaker(), PLAIN, View.CONVERSATION, false)));
        assertEquals("tools: expected a model whose chat template describes tools, given one without", assertThrows(IllegalArgumentException.class,
                () -> Rollout.play(team, List.of(new Prompt("p", "?", "1")), 1, new Generation(1, SamplingConfig.ALL, 9, Truncation.ERROR),
                        environment(), 1))
                .getMessage());
    }

    /** To others, and to those who do not see conversations, results are a text under the tool's name. */
    @Test
    void resultsOfSeveralTools() {
        final Observation o = Observation.tools(List.of("a", "b"));
        assertEquals("a\nb", o.text());
        assertEquals(List.of("a", "b"), o.results());
        assertEquals(List.of("a\nb"), new Observation("tool", "a\nb").results());
    }
}
