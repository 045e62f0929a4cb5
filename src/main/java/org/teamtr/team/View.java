package org.teamtr.team;

/** How much of the messages so far an agent sees. */
public enum View {
    /** The prompt alone. */
    NONE,
    /** The prompt and the latest message. */
    PREDECESSOR,
    /** Everything. */
    TRANSCRIPT
}
