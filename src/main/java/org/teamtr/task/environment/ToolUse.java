package org.teamtr.task.environment;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.teamtr.team.Context;
import org.teamtr.team.Environment;
import org.teamtr.team.Message;
import org.teamtr.team.Observation;
import org.teamtr.team.Prompt;
import org.teamtr.team.Verifier;

/**
 * Tools that agents may call: a message with calls is answered by their results, under the role {@code tool}; one without is an answer,
 * ends the episode and is scored by a verifier. So does the last of so many messages.
 *
 * <p>A call of no tool, or with arguments that a tool refuses, is answered by what is wrong with it. Figures: those of the verifier,
 * {@code calls} and {@code failed_calls}.
 */
public final class ToolUse implements Environment {
    private final Map<String, Tool> tools = new LinkedHashMap<>();
    private final Verifier verifier;
    private final int turns;

    /**
     * @param turns messages at most, 1 or more
     * @throws IllegalArgumentException if two tools have one name
     */
    public ToolUse(List<Tool> tools, Verifier verifier, int turns) {
        for (Tool tool : tools) {
            if (!tool.name().matches("[A-Za-z0-9_]+") || this.tools.putIfAbsent(tool.name(), tool) != null) {
                throw new IllegalArgumentException("tools: expected names of letters, digits and underscores, each once, given " + tool.name());
            }
        }
        this.verifier = verifier;
        this.turns = turns;
    }

    @Override
    public List<Map<String, Object>> tools() {
        final List<Map<String, Object>> all = new ArrayList<>();
        for (Tool tool : tools.values()) {
            final Map<String, Object> function = new LinkedHashMap<>();
            function.put("name", tool.name());
            function.put("description", tool.description());
            function.put("parameters", ordered(tool.parameters()));
            final Map<String, Object> described = new LinkedHashMap<>();
            described.put("type", "function");
            described.put("function", function);
            all.add(described);
        }
        return all;
    }

    /** A map without an order of its own is sorted: the prompt is to be the same in every run. */
    private static Object ordered(Object value) {
        if (value instanceof Map<?, ?> map) {
            final Map<String, Object> copy = map instanceof LinkedHashMap ? new LinkedHashMap<>() : new TreeMap<>();
            map.forEach((key, inner) -> copy.put(key.toString(), ordered(inner)));
            return copy;
        }
        return value instanceof List<?> list ? list.stream().map(ToolUse::ordered).toList() : value;
    }

    @Override
    public Range range() {
        return verifier.range();
    }

    @Override
    public Course start(Prompt prompt, long seed) {
        final Map<String, Object> states = new LinkedHashMap<>();
        tools.forEach((name, tool) -> states.put(name, tool.start(prompt, seed)));
        return new Course() {
            private int messages;
            private int calls;
            private int failed;

            @Override
            public Step step(Message message, Context context) {
                final List<ToolCalls.Call> made = ToolCalls.of(message.text());
                if (made.isEmpty() || ++messages >= turns) {
                    return Step.end(null);
                }
                final List<String> results = new ArrayList<>();
                for (ToolCalls.Call call : made) {
                    results.add(result(call));
                }
                return Step.of(Observation.tools(results));
            }

            private String result(ToolCalls.Call call) {
                calls++;
                final Tool tool = call.name() == null ? null : tools.get(call.name());
                if (tool == null) {
                    failed++;
                    return call.name() == null ? "Error: " + call.fault() : "Error: unknown tool " + call.name() + ", expected one of "
                            + String.join(", ", tools.keySet());
                }
                try {
                    return tool.call(call.arguments(), states.get(call.name()));
                } catch (Tool.ToolException e) {
                    failed++;
                    return "Error: " + e.getMessage();
                } catch (RuntimeException e) {
                    throw new IllegalStateException("the tool " + call.name() + " failed: " + e, e);
                }
            }

            @Override
            public Score score(Context context) {
                final Score score = verifier.score(context);
                final Map<String, Double> figures = new LinkedHashMap<>(score.figures());
                figures.put("calls", (double) calls);
                figures.put("failed_calls", (double) failed);
                return new Score(score.reward(), score.correct(), figures);
            }
        };
    }
}
