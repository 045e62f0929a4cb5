package org.teamtr.task;

import java.io.IOException;
import java.util.ArrayList;
import java.util.List;

/**
 * Collects the problems of a file's rows, so that all are reported at once: the reason for each of the first rows, and how many there are.
 * Not thread-safe.
 */
public final class RowProblems {
    /** Reasons that are written out. */
    private static final int SHOWN = 5;

    private final List<String> lines = new ArrayList<>();
    private int count;

    /** Adds a row's problem; {@code line} names file, row and reason. */
    public void add(String line) {
        count++;
        if (count <= SHOWN) {
            lines.add(line);
        }
    }

    /** {@return the number of rows with a problem} */
    public int count() {
        return count;
    }

    /**
     * {@return the only problem as it is; of several, how many and a line for each of the first}
     *
     * @param of how many rows there are
     * @param what the rows are, and what is wrong with them: {@code "lines of p.jsonl cannot be used"}
     */
    public String message(int of, String what) {
        if (count == 1) {
            return lines.get(0);
        }
        final String more = count > lines.size() ? System.lineSeparator() + "  and " + (count - lines.size()) + " more" : "";
        return count + " of " + of + " " + what + ":" + System.lineSeparator() + "  "
                + String.join(System.lineSeparator() + "  ", lines) + more;
    }

    /** Throws {@link #message} if there is a problem. */
    public void check(int of, String what) throws IOException {
        if (count > 0) {
            throw new IOException(message(of, what));
        }
    }
}
