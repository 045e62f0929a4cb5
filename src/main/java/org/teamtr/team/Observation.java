package org.teamtr.team;

import java.util.Objects;

/**
 * What an environment answers to a message. It is part of the context from then on, and no policy's: it is never trained on and counts
 * in no ratio and no KL.
 *
 * @param role what it is called in transcripts; {@code tool} for what a tool returned, which chat templates know
 * @param text verbatim, as the agents see it
 */
public record Observation(String role, String text) {
    /** @throws NullPointerException if something is null */
    public Observation {
        Objects.requireNonNull(role, "role");
        Objects.requireNonNull(text, "text");
    }

    /** {@return the observation with at most so many characters, the rest replaced by a note that says how many} */
    Observation cut(int most) {
        if (text.length() <= most) {
            return this;
        }
        final int end = Character.isHighSurrogate(text.charAt(most - 1)) ? most - 1 : most;
        return new Observation(role, text.substring(0, end) + "\n[" + (text.length() - end) + " characters cut]");
    }
}
