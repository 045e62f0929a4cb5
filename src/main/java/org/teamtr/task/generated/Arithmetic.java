package org.teamtr.task.generated;

import java.util.List;
import java.util.SplittableRandom;
import org.teamtr.task.math.MathAnswer;
import org.teamtr.team.Context;
import org.teamtr.team.Prompt;

/**
 * Numbers to add, subtract and multiply, for {@link org.teamtr.task.environment.ToolUse} with the calculator. A teacher that is right first
 * calls the tool and then says its result; one that is wrong says a number without a call, or another number than the tool's.
 */
final class Arithmetic extends GeneratedTask {
    /** A call in Qwen's form, before and behind its expression, which needs no escapes. */
    private static final String CALL = "<tool_call>\n{\"name\": \"calculate\", \"arguments\": {\"expression\": \"";
    private static final String END = "\"}}\n</tool_call>";

    private final int size;
    private final int choices;

    Arithmetic(int size, int choices) {
        check("size", size, 2, 6, "arithmetic");
        check("choices", choices, 2, 999, "arithmetic");
        this.size = size;
        this.choices = choices;
    }

    @Override
    public List<String> phrases() {
        return List.of(CALL, END, "Answer: ", " = ?", "calculate", "expression", "Error: ");
    }

    @Override
    public String verifier() {
        return "number";
    }

    @Override
    protected Prompt draw(int number, long set, SplittableRandom random) {
        final StringBuilder sum = new StringBuilder().append(number(random));
        for (int i = 1; i < size; i++) {
            sum.append("+-*".charAt(random.nextInt(3))).append(number(random));
        }
        return new Prompt("", sum + " = ?", MathAnswer.value(sum.toString()));
    }

    private int number(SplittableRandom random) {
        return 1 + random.nextInt(choices);
    }

    private static String expression(Context context) {
        return context.prompt().text().replace(" = ?", "");
    }

    /** What the tool returned to the latest message, or null. */
    private static String result(Context context) {
        return context.turn() == 0 || context.observation(context.turn() - 1) == null ? null : context.observation(context.turn() - 1).text();
    }

    @Override
    protected String right(Context context, SplittableRandom random) {
        final String result = result(context);
        if (result != null && !result.startsWith("Error")) {
            return "Answer: " + result;
        }
        return CALL + expression(context) + END;
    }

    @Override
    protected String wrong(Context context, SplittableRandom random) {
        return "Answer: " + (number(random) + number(random));
    }
}
