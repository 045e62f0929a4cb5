package org.teamtr.team;

import java.util.List;
import java.util.Objects;

/**
 * The answer of an environment to a message. It is part of the context from then on, but of no policy's messages: it is never trained on
 * and is in no ratio and no KL.
 *
 * @param role its name in transcripts; {@code tool} for what a tool returned, which chat templates know
 * @param text verbatim, as the agents see it
 * @param results of several tools that a message called, each by itself, where the role is {@code tool}: in a conversation each is a turn.
 *     Otherwise the text alone
 */
public record Observation(String role, String text, List<String> results) {
    /** @throws NullPointerException if something is null */
    public Observation {
        Objects.requireNonNull(role, "role");
        Objects.requireNonNull(text, "text");
        results = List.copyOf(results);
    }

    /** A text. */
    public Observation(String role, String text) {
        this(role, text, List.of(text));
    }

    /** {@return the results of tools; the text has them on lines} */
    public static Observation tools(List<String> results) {
        return new Observation("tool", String.join("\n", results), results);
    }

    /** {@return the observation with at most so many characters of every result, the rest replaced by a note that says how many} */
    Observation cut(int most) {
        if (results.stream().allMatch(result -> result.length() <= most)) {
            return this;
        }
        final List<String> shorter = results.stream().map(result -> cut(result, most)).toList();
        return new Observation(role, String.join("\n", shorter), shorter);
    }

    private static String cut(String text, int most) {
        if (text.length() <= most) {
            return text;
        }
        final int end = Character.isHighSurrogate(text.charAt(most - 1)) ? most - 1 : most;
        return text.substring(0, end) + "\n[" + (text.length() - end) + " characters cut]";
    }
}
