package org.teamtr.task;

import java.math.BigInteger;
import org.teamtr.task.math.MathAnswer;
import org.teamtr.team.Prompt;

/**
 * Integers, as in AIME: leading zeros mean nothing. The answer stands in the last {@code \boxed{...}}; leniently, wherever
 * {@link NumberAnswer} finds one.
 */
final class IntegerGrader implements Grader {
    private final boolean lenient;

    IntegerGrader(boolean lenient) {
        this.lenient = lenient;
    }

    @Override
    public void check(Prompt prompt) {
        gold(prompt);
    }

    private static BigInteger gold(Prompt prompt) {
        final BigInteger gold = integer(Verifiers.gold(prompt));
        if (gold == null) {
            throw new IllegalArgumentException("answer: expected an integer, given \"" + Verifiers.shortened(prompt.answer()) + "\"");
        }
        return gold;
    }

    private static BigInteger integer(String place) {
        final String box = place == null ? null : MarkedAnswer.box(place);
        final String number = place == null ? null : MathAnswer.number(box == null ? place : box);
        return number == null || !number.endsWith("/1") ? null : new BigInteger(number.substring(0, number.length() - 2));
    }

    @Override
    public Grade grade(Prompt prompt, String text) {
        final BigInteger gold = gold(prompt);
        final String answer = answer(prompt, text);
        return Grade.of(answer != null && gold.toString().equals(answer), answer != null);
    }

    @Override
    public String answer(Prompt prompt, String text) {
        final String rest = MarkedAnswer.afterReasoning(text);
        final String place = rest == null ? null : lenient ? NumberAnswer.given(rest) : MarkedAnswer.box(rest);
        final BigInteger integer = integer(place);
        return integer == null ? null : integer.toString();
    }
}
