package org.teamtr.team;

/** A failure in an episode, of an environment, a verifier, a tool or an oracle. Its message begins with the prompt's id. */
public final class EpisodeException extends IllegalStateException {
    private static final long serialVersionUID = 1;

    /** A failure in an episode of this prompt. Where the cause has no message for users, the message says where it was thrown. */
    public EpisodeException(String prompt, Throwable cause) {
        super(message(prompt, cause), cause);
    }

    private static String message(String prompt, Throwable cause) {
        final String said = cause.getMessage();
        if (said != null && (cause.getClass() == IllegalArgumentException.class || cause.getClass() == IllegalStateException.class
                || cause instanceof Oracle.Failure)) {
            return said.startsWith(prompt) ? said : prompt + ": " + said;
        }
        final StackTraceElement[] trace = cause.getStackTrace();
        return prompt + ": " + cause + (trace.length == 0 ? "" : " in " + trace[0]);
    }
}
