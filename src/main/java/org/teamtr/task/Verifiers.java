package org.teamtr.task;

import java.util.List;
import java.util.function.BiPredicate;
import org.teamtr.team.Message;
import org.teamtr.team.Verifier;

/** Verifiers by name. Ours compare the last messages of an episode with the prompt's answer. */
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
     * @param votes how many of the last messages ours look at, 1 or more: the answer is right if it stands in more than half of
     *     them; of fewer messages, all
     * @param wrong what ours give for a wrong answer, and for an episode without a message; for a right one they give 1
     * @throws IllegalArgumentException if there is no such verifier; from {@code score}, if a prompt's answer is none that could be
     *     compared
     */
    public static Verifier of(String name, int votes, double wrong) {
        return switch (name) {
            case "number" -> comparing(NumberAnswer::same, votes, wrong);
            case "choice" -> comparing(ChoiceAnswer::same, votes, wrong);
            default -> OwnClass.make(name, Verifier.class, "verifier");
        };
    }

    private static Verifier comparing(BiPredicate<String, String> same, int votes, double wrong) {
        return episode -> {
            final String gold = episode.prompt().answer();
            if (gold == null) {
                throw new IllegalArgumentException(episode.prompt().id() + ": expected an answer to compare with, given none");
            }
            final List<Message> all = episode.messages();
            final List<Message> last = all.subList(Math.max(0, all.size() - votes), all.size());
            final long right;
            try {
                same.test(gold, ""); // an answer that cannot be compared with is named, whatever was said
                right = last.stream().filter(message -> same.test(gold, message.text())).count();
            } catch (IllegalArgumentException e) {
                throw new IllegalArgumentException(episode.prompt().id() + ": " + e.getMessage(), e);
            }
            return 2 * right > last.size() ? new Verifier.Score(1, true) : new Verifier.Score(wrong, false);
        };
    }
}
