package org.teamtr.team;

import java.util.Objects;

/**
 * What an episode starts from.
 *
 * @param id names it in transcripts and errors, for example {@code train.jsonl:17}
 * @param text verbatim, as the agents see it
 * @param answer what the verifier compares with; null where the task needs none
 */
public record Prompt(String id, String text, String answer) {
    /** @throws NullPointerException if id or text is null */
    public Prompt {
        Objects.requireNonNull(id, "id");
        Objects.requireNonNull(text, "text");
    }
}
