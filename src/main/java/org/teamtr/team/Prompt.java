package org.teamtr.team;

import java.util.List;
import java.util.Map;
import java.util.Objects;

/**
 * The prompt of an episode.
 *
 * @param id names it in transcripts and errors, for example {@code train.jsonl:17}
 * @param text verbatim, as the agents see it
 * @param answer what the verifier compares with; null where the task needs none
 * @param source its data set, by which a verifier and an environment can be chosen; null where it is not known
 * @param meta the other columns of its row: texts, numbers, booleans, lists and maps of these
 * @param before the turns of a conversation whose next turn the text is; empty for a text of its own
 */
public record Prompt(String id, String text, String answer, String source, Map<String, Object> meta, List<ChatTurn> before) {
    /** @throws NullPointerException if id, text, meta or a turn is null */
    public Prompt {
        Objects.requireNonNull(id, "id");
        Objects.requireNonNull(text, "text");
        Objects.requireNonNull(meta, "meta");
        before = List.copyOf(before);
    }

    /** A prompt without earlier turns. */
    public Prompt(String id, String text, String answer, String source, Map<String, Object> meta) {
        this(id, text, answer, source, meta, List.of());
    }

    /** A prompt without earlier turns, source and meta. */
    public Prompt(String id, String text, String answer) {
        this(id, text, answer, null, Map.of());
    }
}
