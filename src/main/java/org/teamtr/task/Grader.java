package org.teamtr.task;

import java.util.Map;
import org.teamtr.team.Prompt;

/**
 * Judges one answer to one prompt. Holds no state; any number of threads may ask. The same text always gets the same grade.
 *
 * <p>An answer that cannot be read is wrong. What goes wrong otherwise is an exception that names the prompt, never a grade.
 */
public interface Grader {
    /**
     * What an answer is worth.
     *
     * @param correct whether the task is solved
     * @param share how much of it is right, 0 to 1; 1 or 0 where there are no parts
     * @param answered whether an answer was found in the text at all
     * @param figures further ones, by name
     */
    record Grade(boolean correct, double share, boolean answered, Map<String, Double> figures) {
        /** {@return a grade without parts} */
        static Grade of(boolean correct, boolean answered) {
            return new Grade(correct, correct ? 1 : 0, answered, Map.of());
        }
    }

    /**
     * Checks that a prompt has what is needed to judge its answers.
     *
     * @throws IllegalArgumentException if it has not, saying what was expected
     */
    void check(Prompt prompt);

    /**
     * {@return what a text is worth}
     *
     * @throws IllegalArgumentException as {@link #check} does
     */
    Grade grade(Prompt prompt, String text);

    /** {@return the answer that a text gives, to count equal ones; null for none} */
    default String answer(Prompt prompt, String text) {
        return text.strip();
    }

    /** {@return whether two answers of {@link #answer} are the same} */
    default boolean same(String a, String b) {
        return a.equals(b);
    }
}
