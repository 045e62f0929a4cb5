package org.teamtr.team;

import java.util.List;

/** A finished episode: its messages and its return. */
public record Episode(Context context, Verifier.Score score) {
    /** {@return its prompt} */
    public Prompt prompt() {
        return context.prompt();
    }

    /** {@return all messages, the oldest first} */
    public List<Message> messages() {
        return context.messages();
    }

    /** {@return the return R} */
    public double reward() {
        return score.reward();
    }

    /** {@return tokens that were generated} */
    public long tokens() {
        return messages().stream().mapToLong(m -> m.utterance().tokens().length).sum();
    }
}
