package org.teamtr.task.environment;

import java.util.List;
import java.util.Map;
import org.teamtr.task.math.MathAnswer;

/** A calculator: {@code calculate(expression)} gives a number exactly, as a fraction where its decimals do not end. */
public final class Calculator implements Tool {
    @Override
    public String name() {
        return "calculate";
    }

    @Override
    public String description() {
        return "Calculates an expression of numbers with + - * / ^ and brackets.";
    }

    @Override
    public Map<String, Object> parameters() {
        return Map.of("type", "object", "properties", Map.of("expression", Map.of("type", "string", "description", "for example (2 + 3) * 4")),
                "required", List.of("expression"));
    }

    @Override
    public String call(Map<String, Object> arguments, Object state) throws ToolException {
        if (!(arguments.get("expression") instanceof String expression)) {
            throw new ToolException("expected a text named expression, given " + arguments.keySet());
        }
        final String value = MathAnswer.value(expression);
        if (value == null) {
            throw new ToolException("expected an expression of numbers, given " + expression);
        }
        return value;
    }
}
