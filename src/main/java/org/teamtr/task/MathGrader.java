package org.teamtr.task;

import java.util.List;
import org.teamtr.task.math.MathAnswer;
import org.teamtr.team.Prompt;

/**
 * Mathematical answers, compared by what they mean: {@link MathAnswer}. The answer stands in the last {@code \boxed{...}}; leniently,
 * where there is none, behind the last {@code Answer:} or {@code the answer is}, behind the last {@code ####}, or it is the last number.
 */
final class MathGrader implements Grader {
    private final boolean lenient;

    MathGrader(boolean lenient) {
        this.lenient = lenient;
    }

    @Override
    public void check(Prompt prompt) {
        gold(prompt);
    }

    private static MathAnswer gold(Prompt prompt) {
        final String gold = Verifiers.gold(prompt);
        final String box = MarkedAnswer.box(gold);
        return MathAnswer.of(box == null ? gold : box);
    }

    @Override
    public Grade grade(Prompt prompt, String text) {
        final MathAnswer gold = gold(prompt);
        final String answer = answer(prompt, text);
        return Grade.of(answer != null && gold.accepts(answer), answer != null);
    }

    @Override
    public String answer(Prompt prompt, String text) {
        final String rest = MarkedAnswer.afterReasoning(text);
        if (rest == null) {
            return null;
        }
        final String box = MarkedAnswer.box(rest);
        if (box != null || !lenient) {
            return box == null || box.isBlank() ? null : box;
        }
        final String line = line(rest);
        return line != null ? line : NumberAnswer.lastNumber(rest);
    }

    private static String line(String text) {
        String line = MarkedAnswer.answer(text);
        line = line == null ? MarkedAnswer.answerIs(text) : line;
        if (line == null) {
            final List<String> hashes = MarkedAnswer.hashes(text);
            line = hashes.isEmpty() ? null : hashes.get(hashes.size() - 1);
        }
        return line == null || line.isBlank() ? null : line.strip();
    }

    @Override
    public boolean same(String a, String b) {
        if (a.equals(b)) {
            return true;
        }
        try {
            return MathAnswer.of(a).accepts(b);
        } catch (IllegalArgumentException e) {
            return false; // nothing but itself is like it
        }
    }
}
