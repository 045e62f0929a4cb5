package org.teamtr.team;

import java.util.Arrays;

/** What happens to a prompt that leaves no room for a message. The newest messages stand at its end. */
public enum Truncation {
    /** Nothing is cut: it is an error. */
    ERROR,
    /** Tokens are cut at the start. */
    LEFT,
    /** Tokens are cut at the end. */
    RIGHT,
    /** Tokens are cut in the middle. */
    MIDDLE;

    /** {@return at most {@code room} of the tokens} Not for {@link #ERROR}. */
    public int[] cut(int[] tokens, int room) {
        final int n = tokens.length;
        if (n <= room) {
            return tokens;
        }
        return switch (this) {
            case LEFT -> Arrays.copyOfRange(tokens, n - room, n);
            case RIGHT -> Arrays.copyOf(tokens, room);
            case MIDDLE -> {
                final int[] kept = Arrays.copyOf(tokens, room);
                final int tail = room - room / 2;
                System.arraycopy(tokens, n - tail, kept, room / 2, tail);
                yield kept;
            }
            case ERROR -> throw new IllegalStateException();
        };
    }
}
