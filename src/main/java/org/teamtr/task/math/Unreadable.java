package org.teamtr.task.math;

/** An answer that cannot be read, or that takes too many steps. Without a stack trace: most wrong answers of a young policy end here. */
final class Unreadable extends RuntimeException {
    private static final long serialVersionUID = 1;

    Unreadable(String message) {
        super(message, null, false, false);
    }
}
