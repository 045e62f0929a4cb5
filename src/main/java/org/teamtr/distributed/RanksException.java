package org.teamtr.distributed;

/** Ranks cannot continue together. The message names the rank concerned, and is meant for the user. */
public final class RanksException extends RuntimeException {
    private static final long serialVersionUID = 1;

    /** @param message a sentence that names the rank */
    public RanksException(String message) {
        super(message);
    }

    /** @param message a sentence that names the rank */
    public RanksException(String message, Throwable cause) {
        super(message, cause);
    }
}
