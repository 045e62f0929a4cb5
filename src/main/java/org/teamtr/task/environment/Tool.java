package org.teamtr.task.environment;

import java.util.Map;
import org.teamtr.team.Prompt;

/**
 * A tool that messages may call. A user's own is a public class with a public constructor without parameters.
 *
 * <p>The same state and arguments give the same result, otherwise a resumed run would not play the same episodes.
 */
public interface Tool {
    /** {@return its name, letters, digits and underscores} */
    String name();

    /** {@return what it does, for the model} */
    String description();

    /** {@return the JSON schema of its arguments: {@code {type: object, properties: {...}, required: [...]}}} */
    Map<String, Object> parameters();

    /**
     * {@return the state of an episode that all calls of this tool share}, for example a copy of a database
     *
     * @param seed of anything random in it
     */
    default Object start(Prompt prompt, long seed) {
        return null;
    }

    /**
     * {@return what the model reads}
     *
     * @param arguments as the model wrote them: texts, numbers, booleans, lists and maps
     * @param state what {@link #start} gave
     * @throws ToolException with what the model is to read in place of a result, for example that an argument is missing
     */
    String call(Map<String, Object> arguments, Object state) throws ToolException;

    /** An error in a call that the model made. Any other exception is a fault and ends the run. */
    final class ToolException extends Exception {
        private static final long serialVersionUID = 1;

        /** @param message what the model reads */
        public ToolException(String message) {
            super(message);
        }
    }
}
