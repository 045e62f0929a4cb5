package org.teamtr.task.environment;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.teamtr.task.Rows.rows;

import com.fasterxml.jackson.core.type.TypeReference;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.teamtr.model.PythonText;
import org.teamtr.task.PlanBench;
import org.teamtr.team.Context;
import org.teamtr.team.Environment;
import org.teamtr.team.Message;
import org.teamtr.team.Prompt;
import org.teamtr.team.Utterance;
import org.teamtr.team.Verifier;

class RetailTest {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final TypeReference<Map<String, Object>> ROW = new TypeReference<>() {};
    private static RetailShop shop;

    @BeforeAll
    static void open(@TempDir Path folder) throws IOException {
        try (InputStream in = PlanBench.class.getResourceAsStream("retail-shop.json")) {
            shop = RetailShop.read(Files.write(folder.resolve("shop.json"), in.readAllBytes()));
        }
    }

    static List<JsonNode> tasks() {
        return rows("retail-tasks.jsonl");
    }

    /** What the published tools say, byte for byte, and what they change. */
    @ParameterizedTest
    @MethodSource("tasks")
    void toolsSayAndChangeWhatThePublishedOnesDo(JsonNode task) {
        final RetailShop own = shop.copy();
        for (int i = 0; i < task.get("actions").size(); i++) {
            final JsonNode action = task.get("actions").get(i);
            final JsonNode expected = task.get("expected_observations").get(i);
            final String said = own.call(action.get("name").asText(), JSON.convertValue(action.get("arguments"), ROW));
            if (!expected.isNull()) {
                assertEquals(expected.asText(), said, action::toString);
            }
        }
        task.get("expected_changes").properties().forEach(kind -> kind.getValue().properties().forEach(id -> id.getValue().properties().forEach(
                field -> assertEquals(field.getValue().toString(), JSON.valueToTree(own.at(kind.getKey(), id.getKey(), field.getKey())).toString(),
                        id.getKey() + " " + field.getKey()))));
        assertEquals(task.get("expected_changes").isEmpty(), own.sameAs(shop));
    }

    private static Verifier.Score play(JsonNode task, boolean says, int skipped, List<String> seen) {
        final Prompt prompt = new Prompt("t" + task.get("task_id"), "policy", null, null, JSON.convertValue(task, ROW));
        final Retail retail = new Retail(shop, List.of(), new ScriptedOracle(), 40);
        final Environment.Course course = retail.start(prompt, 0);
        seen.add(course.answered(retail.oracle().answer(List.of(course.openingQuestion()), 0, new long[] {0}).get(0)).observation().text());
        final List<String> messages = new ArrayList<>();
        for (int i = skipped; i < task.get("actions").size(); i++) {
            messages.add("<tool_call>" + task.get("actions").get(i) + "</tool_call>");
        }
        final StringBuilder outputs = new StringBuilder("It is done: ");
        task.get("outputs").forEach(o -> outputs.append(o.asText().replaceFirst("^(\\d)(?=\\d{3}\\.)", "$1,")).append("; "));
        messages.add(says ? outputs.toString() : "It is done.");
        messages.add("Anything else?");
        messages.add("Good bye.");
        boolean done = false;
        for (int t = 0; t < messages.size() && !done; t++) {
            Environment.Step step =
                    course.step(new Message(t, 0, "agent", new Utterance(new int[0], new int[0], new float[0], messages.get(t), true, 0)), null);
            if (step.question() != null) {
                step = course.answered(retail.oracle().answer(List.of(step.question()), 0, new long[] {0}).get(0));
            }
            done = step.done();
            seen.add(step.observation() == null ? "" : step.observation().text());
        }
        assertTrue(done);
        return course.score((Context) null);
    }

    /** The reference calls and outputs earn 1; without the last change, or without what has to be said, nothing. */
    @ParameterizedTest
    @MethodSource("tasks")
    void theReferenceEarnsOne(JsonNode task) {
        final List<String> seen = new ArrayList<>();
        final boolean endsEarly = task.get("actions").toString().contains("transfer_to_human_agents");
        final Verifier.Score score = play(task, true, 0, seen);
        assertEquals(task.get("instruction").asText(), seen.get(0));
        assertTrue(score.correct() || endsEarly && !task.get("outputs").isEmpty(), score::toString);
        if (!task.get("outputs").isEmpty() && !endsEarly) {
            assertFalse(play(task, false, 0, new ArrayList<>()).correct());
        }
        if (!task.get("expected_changes").isEmpty()) {
            assertFalse(play(task, true, task.get("actions").size(), new ArrayList<>()).correct());
        }
    }

    @Test
    void whatTheToolsRefuse() {
        final RetailShop own = shop.copy();
        assertEquals("Error: order not found", own.call("get_order_details", Map.of("order_id", "W1")));
        assertEquals("Error: user not found", own.call("find_user_id_by_email", Map.of("email", "nobody@example.com")));
        assertEquals("Error: expected a text order_id, given null", own.call("cancel_pending_order", Map.of()));
        assertEquals("12.0", own.call("calculate", Map.of("expression", "3 * 4")));
        assertEquals("0.33", own.call("calculate", Map.of("expression", "1 / 3")));
        assertEquals("Error: invalid characters in expression", own.call("calculate", Map.of("expression", "import os")));
        assertNull(own.call("fly", Map.of()));
        assertTrue(own.sameAs(shop));
    }

    /** As Python shows them. */
    @ParameterizedTest
    @CsvSource({"12, 12.0", "0.1, 0.1", "1e16, 1e+16", "123456789012345.6, 123456789012345.6", "1e-5, 1e-05", "-16.63, -16.63", "1.5e300, 1.5e+300",
        "0.0001, 0.0001",
        "1e15, 1000000000000000.0", "2e-3, 0.002"})
    void numbersAsPythonShowsThem(double value, String shown) {
        assertEquals(shown, PythonText.number(value, "Infinity", "NaN"));
    }

    @Test
    void roundingAsPythonDoes() {
        assertEquals(2.67, RetailShop.cents(2.675), "2.675 is a little less than that");
        assertEquals(0.12, RetailShop.cents(0.125), "half to even");
        assertEquals("{\"a\": [1, 2.5, null, true, \"\\u00e9\\n\"], \"b\": {}}", PythonJson.dumps(
                new java.util.TreeMap<>(Map.of("a", java.util.Arrays.asList(1, 2.5, null, true, "é\n"), "b", Map.of()))));
    }
}
