package org.teamtr.team;

/** Which of the earlier messages an agent sees. */
public enum View {
    /** The prompt alone. */
    NONE,
    /** The prompt and the latest message. */
    PREDECESSOR,
    /** Everything. */
    TRANSCRIPT,
    /**
     * Everything, as a conversation: its own messages as the assistant's turns, those of others as the user's, and what an environment
     * answered as the tool's or the user's. {@code {transcript}} is then empty.
     */
    CONVERSATION
}
