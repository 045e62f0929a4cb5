package org.teamtr.task.environment;

import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.type.TypeReference;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Calls of tools in a message, in the forms that chat templates teach:
 * <ul>
 *   <li>Qwen, Hermes: {@code <tool_call>{"name": ..., "arguments": {...}}</tool_call>}, any number of them
 *   <li>Llama 3.1 and later: a message that is {@code {"name": ..., "parameters": {...}}}, with or without a python tag before it;
 *       several are separated by semicolons
 *   <li>text, for models without: what follows the last {@code Action:}, {@code {"name": ..., "arguments": {...}}}
 * </ul>
 */
public final class ToolCalls {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final Pattern TAGGED = Pattern.compile("<tool_call>(.*?)</tool_call>", Pattern.DOTALL);
    private static final TypeReference<Map<String, Object>> ARGUMENTS = new TypeReference<>() {};

    /**
     * One call.
     *
     * @param name null if the text is not a valid call; {@code fault} then says why
     * @param fault what is wrong with it, or null
     */
    public record Call(String name, Map<String, Object> arguments, String fault) {
    }

    private ToolCalls() {
    }

    /**
     * {@return the calls of a message, in their order; none if it has no mark of one} Calls within the reasoning before the answer do not
     * count.
     */
    public static List<Call> of(String message) {
        final int thought = message.lastIndexOf("</think>");
        final String text = thought < 0 ? message : message.substring(thought + "</think>".length());
        final List<Call> calls = new ArrayList<>();
        if (text.contains("<tool_call>")) {
            final Matcher m = TAGGED.matcher(text);
            while (m.find()) {
                calls.add(call(m.group(1)));
            }
            if (calls.isEmpty()) {
                calls.add(new Call(null, Map.of(), "a <tool_call> that is never closed"));
            }
            return calls;
        }
        final int action = text.lastIndexOf("Action:");
        if (action >= 0) {
            final Call call = call(text.substring(action + "Action:".length()));
            return call.name() == null ? List.of() : List.of(call);
        }
        final String plain = text.replace("<|python_tag|>", "").strip();
        if (plain.startsWith("{") && plain.contains("\"name\"")) {
            calls.addAll(several(plain));
        }
        return calls;
    }

    /** Objects one after the other, between which semicolons, commas and blanks may stand; other text ends them. */
    private static List<Call> several(String text) {
        final List<Call> calls = new ArrayList<>();
        int at = 0;
        while (at < text.length() && text.charAt(at) == '{') {
            try (JsonParser parser = JSON.createParser(text.substring(at))) {
                final JsonNode read = parser.readValueAsTree();
                calls.add(call(read));
                at += Math.toIntExact(parser.currentLocation().getCharOffset());
            } catch (IOException e) {
                calls.add(new Call(null, Map.of(), "no JSON: " + (e instanceof JsonProcessingException j ? j.getOriginalMessage() : e.getMessage())));
                return calls;
            }
            while (at < text.length() && (text.charAt(at) == ';' || text.charAt(at) == ',' || Character.isWhitespace(text.charAt(at)))) {
                at++;
            }
        }
        return calls;
    }

    private static Call call(String text) {
        final JsonNode read;
        try {
            read = JSON.readTree(text.strip());
        } catch (JsonProcessingException e) {
            return new Call(null, Map.of(), "no JSON: " + e.getOriginalMessage());
        }
        return call(read);
    }

    private static Call call(JsonNode read) {
        final JsonNode arguments = read == null ? null : read.has("arguments") ? read.get("arguments") : read.get("parameters");
        if (read == null || !read.path("name").isTextual() || arguments != null && !arguments.isObject()) {
            return new Call(null, Map.of(), "expected {\"name\": ..., \"arguments\": {...}}");
        }
        return new Call(read.get("name").textValue(), arguments == null ? Map.of() : JSON.convertValue(arguments, ARGUMENTS), null);
    }
}
