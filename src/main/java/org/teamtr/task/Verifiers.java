package org.teamtr.task;

import java.util.function.BiPredicate;
import org.teamtr.team.Context;
import org.teamtr.team.Message;
import org.teamtr.team.Verifier;

/** Verifiers by name. Ours compare the last message of an episode with the prompt's answer. */
public final class Verifiers {
    private Verifiers() {
    }

    /**
     * {@return a verifier}
     * <ul>
     *   <li>{@code number}: the same number, as {@link NumberAnswer} finds and compares it
     *   <li>{@code choice}: the same letter, as {@link ChoiceAnswer} finds it
     *   <li>otherwise the full name of a class that implements {@link Verifier} and has a public constructor without parameters; it
     *       gives its own rewards
     * </ul>
     *
     * @param wrong what ours give for a wrong answer, and for an episode without a message; for a right one they give 1
     * @throws IllegalArgumentException if there is no such verifier; from {@code score}, if a prompt's answer is none that could be
     *     compared
     */
    public static Verifier of(String name, double wrong) {
        return switch (name) {
            case "number" -> comparing(NumberAnswer::same, wrong);
            case "choice" -> comparing(ChoiceAnswer::same, wrong);
            default -> OwnClass.make(name, Verifier.class, "verifier");
        };
    }

    private static Verifier comparing(BiPredicate<String, String> same, double wrong) {
        return episode -> {
            final String gold = episode.prompt().answer();
            if (gold == null) {
                throw new IllegalArgumentException(episode.prompt().id() + ": expected an answer to compare with, given none");
            }
            final boolean right;
            try {
                right = same.test(gold, said(episode));
            } catch (IllegalArgumentException e) {
                throw new IllegalArgumentException(episode.prompt().id() + ": " + e.getMessage(), e);
            }
            return new Verifier.Score(right ? 1 : wrong, right);
        };
    }

    private static String said(Context episode) {
        final Message last = episode.last();
        return last == null ? "" : last.text();
    }
}
