package org.teamtr.task.math;

/** An answer that cannot be read, or that takes too many steps. Without a stack trace, since most wrong answers of an untrained policy throw it. */
final class Unreadable extends RuntimeException {
    private static final long serialVersionUID = 1;

    Unreadable(String message) {
        super(message, null, false, false);
    }
}
