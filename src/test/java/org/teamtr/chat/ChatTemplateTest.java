package org.teamtr.chat;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.time.Clock;
import java.time.Duration;
import java.time.Instant;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.Assertions;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestFactory;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.teamtr.team.ChatTurn;

/** Against the strings that jinja2 makes, set up as transformers does; see the README next to them. */
class ChatTemplateTest {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final Clock CLOCK = Clock.fixed(Instant.parse("2024-09-05T15:04:09Z"), ZoneOffset.UTC);

    private static String resource(String name) {
        try (InputStream in = ChatTemplateTest.class.getResourceAsStream(name)) {
            return new String(in.readAllBytes(), StandardCharsets.UTF_8);
        } catch (IOException e) {
            throw new IllegalStateException(e);
        }
    }

    private static JsonNode json(String name) {
        try {
            return JSON.readTree(resource(name));
        } catch (IOException e) {
            throw new IllegalStateException(e);
        }
    }

    @SuppressWarnings("unchecked")
    private static Map<String, Object> map(JsonNode node) {
        return JSON.convertValue(node, Map.class);
    }

    @SuppressWarnings("unchecked")
    private static List<Map<String, Object>> list(JsonNode node) {
        return JSON.convertValue(node, List.class);
    }

    /** A template on its own: what it is given takes the place of a conversation. */
    private static String small(String template, Map<String, Object> given) {
        return ChatTemplate.compile(template).render(List.of(), given, CLOCK);
    }

    @TestFactory
    Stream<DynamicTest> conversations() {
        final JsonNode file = json("chat-cases.json");
        final List<DynamicTest> tests = new ArrayList<>();
        for (JsonNode c : file.get("cases")) {
            final String template = c.get("template").asText();
            final String said = c.get("conversation").asText();
            final String how = c.get("variables").asText();
            tests.add(DynamicTest.dynamicTest(template + ", " + said + ", " + how, () -> {
                final List<Map<String, Object>> messages = list(file.get("conversations").get(said));
                final Map<String, Object> variables = map(file.get("variables").get(how));
                final ChatTemplate compiled = ChatTemplate.compile(resource(template + ".jinja"));
                if (c.get("expected").isNull()) {
                    assertThrows(IllegalArgumentException.class, () -> compiled.render(messages, variables, CLOCK));
                } else {
                    assertEquals(c.get("expected").asText(), compiled.render(messages, variables, CLOCK));
                }
            }));
        }
        assertTrue(tests.size() > 300, "cases: " + tests.size());
        return tests.stream();
    }

    @TestFactory
    Stream<DynamicTest> expressions() {
        final JsonNode file = json("jinja-cases.json");
        final List<DynamicTest> tests = new ArrayList<>();
        for (JsonNode c : file.get("cases")) {
            final String template = c.get("template").asText();
            tests.add(DynamicTest.dynamicTest(template, () -> {
                if (c.get("expected").isNull()) {
                    assertThrows(IllegalArgumentException.class, () -> small(template, map(file.get("given"))));
                } else {
                    assertEquals(c.get("expected").asText(), small(template, map(file.get("given"))));
                }
            }));
        }
        assertTrue(tests.size() > 80, "cases: " + tests.size());
        return tests.stream();
    }

    @TestFactory
    Stream<DynamicTest> notSupportedIsAnError() {
        final JsonNode file = json("jinja-cases.json");
        final List<DynamicTest> tests = new ArrayList<>();
        for (JsonNode t : file.get("errors")) {
            tests.add(DynamicTest.dynamicTest(t.asText(), () -> {
                final IllegalArgumentException e = assertThrows(IllegalArgumentException.class,
                        () -> small("x\n\n" + t.asText(), map(file.get("given"))));
                assertTrue(e.getMessage().startsWith("chat template, line 3: ") || e.getMessage().startsWith("chat template: line 3: "),
                        e.getMessage());
            }));
        }
        return tests.stream();
    }

    @Test
    void turnsAreMessages() {
        final ChatTemplate template = ChatTemplate.compile(resource("qwen3.jinja"));
        final String text = template.render(List.of(new ChatTurn("system", "Be brief."), new ChatTurn("user", "Hi")),
                Map.of("add_generation_prompt", true, "enable_thinking", false));
        assertEquals("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
                + "<think>\n\n</think>\n\n", text);
    }

    @Test
    void errorsNameWhatAndWhere() {
        assertMessage("chat template, line 2: filter 'sum' is not supported", "a\n{{ x|sum }}");
        assertMessage("chat template, line 2: tag 'include' is not supported here", "a\n{% include 'x' %}");
        assertMessage("chat template: line 3: the template says: roles must alternate",
                "a\n{% if true %}\n{{ raise_exception('roles must alternate') }}{% endif %}");
        assertMessage("chat template: line 1: 'x' is undefined", "{{ x.y }}");
        assertMessage("chat template: line 1: attribute 'y' of a map is undefined", "{{ {}.y.z }}");
        assertMessage("chat template, line 1: unexpected end of the template, expected {% elif %} or {% else %} or {% endif %}",
                "{% if x %}");
        assertMessage("chat template: variable 'o': expected strings, integers of 64 bits, doubles, booleans, nulls, lists and maps, given "
                + "java.lang.Object", "", Map.of("o", new Object()));
    }

    private static void assertMessage(String expected, String template) {
        assertMessage(expected, template, Map.of());
    }

    private static void assertMessage(String expected, String template, Map<String, Object> given) {
        assertEquals(expected, assertThrows(IllegalArgumentException.class, () -> small(template, given)).getMessage());
    }

    /** Loops without end, texts and lists that double, recursion, nesting: all end soon, as an error. */
    @ParameterizedTest
    @ValueSource(strings = {
        "{% set r = range(100000) %}{% for a in r %}{% for b in r %}{% for c in r %}{% endfor %}{% endfor %}{% endfor %}",
        "{% set ns = namespace(s='ab') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
        "{% set ns = namespace(s='ab') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "{% set ns = namespace(s='ab') %}{% for i in range(60) %}{% set ns.s = ns.s|replace('a', ns.s) %}{% endfor %}",
        "{% set ns = namespace(s='ab') %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s]|join(ns.s) %}{% endfor %}",
        "{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
        "{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s }}",
        "{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s|tojson }}",
        "{% set ns = namespace(s=[1], t=[1]) %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] %}{% set ns.t = [ns.t, ns.t] %}"
                + "{% endfor %}{{ ns.s == ns.t }}",
        "{% set ns = namespace(s=[1]) %}{% for i in range(9000) %}{% set ns.s = [ns.s] %}{% endfor %}{{ ns.s }}",
        "{{ 'a' * 9999999999 }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}",
        "{% set s = 'a' * 9000000 %}{{ (s ~ 'b') in (s ~ s) }}",
        "{% for x in range(99999999) %}{% endfor %}",
        "{{ '9'|replace('9', '9' * 1000)|int }}",
    })
    void hostileTemplatesEnd(String template) {
        final IllegalArgumentException e = Assertions.assertTimeout(Duration.ofSeconds(20),
                () -> assertThrows(IllegalArgumentException.class, () -> small(template, Map.of())));
        assertTrue(e.getMessage().startsWith("chat template"), e.getMessage());
    }

    @Test
    void deepTemplatesEnd() {
        final int n = 5_000;
        for (String template : new String[] {"{{ " + "(".repeat(n) + "1" + ")".repeat(n) + " }}", "{{ 1" + " + 1".repeat(n) + " }}",
            "{{ " + "not ".repeat(n) + "1 }}", "{{ a" + ".b".repeat(n) + " }}", "{% if a %}".repeat(n), "{{ " + "[".repeat(n)}) {
            try {
                small(template, Map.of());
            } catch (IllegalArgumentException e) {
                assertTrue(e.getMessage().startsWith("chat template"), e.getMessage());
            }
        }
    }
}
