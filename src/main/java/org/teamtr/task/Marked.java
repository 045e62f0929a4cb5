package org.teamtr.task;

import java.util.ArrayDeque;
import java.util.Deque;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Where a text says that its answer stands. */
final class Marked {
    private static final Pattern ANSWER = Pattern.compile("(?i)\\banswer[*_ ]{0,3}:[*_\\s]{0,8}+(.*)");
    private static final Pattern HASHES = Pattern.compile("(?<!#)####(?!#)(.*)");

    private Marked() {
    }

    /**
     * {@return the marked place, or null if nothing is marked}: the last complete {@code \boxed{...}}, otherwise the rest of the line
     * after the last {@code ####}, otherwise that after the last {@code Answer:}. A box that is never closed marks an empty place.
     */
    static String place(String text) {
        if (text.contains("\\boxed")) {
            return box(text);
        }
        final String line = last(HASHES, text);
        return line != null ? line : last(ANSWER, text);
    }

    private static String last(Pattern pattern, String text) {
        final Matcher m = pattern.matcher(text);
        String line = null;
        while (m.find()) {
            line = m.group(1);
        }
        return line;
    }

    /** One pass with a stack, so that a message of nothing but open boxes is no trouble. */
    private static String box(String text) {
        final Deque<Integer> open = new ArrayDeque<>();
        int from = -1;
        String inside = "";
        for (int i = 0; i < text.length(); i++) {
            final char c = text.charAt(i);
            if (c == '\\') {
                i++; // \{ and \} are no braces
            } else if (c == '{') {
                open.push(i);
            } else if (c == '}' && !open.isEmpty()) {
                final int start = open.pop();
                if (start > from && isBoxed(text, start)) {
                    from = start;
                    inside = text.substring(start + 1, i);
                }
            }
        }
        return inside;
    }

    private static boolean isBoxed(String text, int brace) {
        int end = brace;
        while (end > 0 && text.charAt(end - 1) == ' ') {
            end--;
        }
        return text.startsWith("\\boxed", end - "\\boxed".length());
    }
}
