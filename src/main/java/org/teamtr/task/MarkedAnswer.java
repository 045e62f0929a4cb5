package org.teamtr.task;

import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Finds the marked answer of a text, in one pass over the text. */
final class MarkedAnswer {
    private static final Pattern ANSWER = Pattern.compile(
            "(?i)(?:\\banswer|答案|答え|解答|정답)[*_ ]{0,3}[:：][*_\\s]{0,8}+(.*)");
    private static final Pattern ANSWER_IS = Pattern.compile("(?i)(?:\\banswer\\s{1,3}(?:is|would be|=)|答案(?:是|为|為)|答えは|답은)[:：]?[*_\\s]{0,8}+(.*)");
    private static final Pattern HASHES = Pattern.compile("(?<!#)####(?!#)(.*)");
    private static final Pattern BARE =
            Pattern.compile("\\\\f?boxed?\\s{0,3}+(?:([-+]?\\d[\\d.,/]{0,40}+)|([A-Za-z])(?![A-Za-z{])|(\\\\(?!f?box)[a-zA-Z]{1,20}+))");
    /** What may stand between two boxes of one answer. */
    private static final Pattern JOINED = Pattern.compile("(?:[\\s,;$.&]|\\\\[,;! ]|\\\\quad|\\\\text\\{\\s*(?:and|or)\\s*}|and|or|\\*){0,20}+");
    private static final Set<String> PLACEHOLDERS = Set.of("", "...", "\\ldots", "\\dots", "\\cdots", "answer", "\\text{answer}", "your answer",
            "\\text{your answer}", "\\text{final answer}", "final answer", "?", "\\,", "\\ ", "\\quad", "\\square", "\\cdot", "__", "___", "…");

    private MarkedAnswer() {
    }

    /** {@return what stands behind the last end of a model's reasoning; null if a reasoning was begun and never ended} */
    static String afterReasoning(String text) {
        final int end = text.lastIndexOf("</think>");
        final String rest = end < 0 ? text : text.substring(end + "</think>".length());
        return rest.contains("<think>") ? null : rest;
    }

    /**
     * {@return what stands in the last complete {@code \boxed{...}} or {@code \fbox{...}} that holds something; boxes beside it with
     * nothing but blanks, commas, and "and" between them belong to it. Null if there is no box; "" if one was opened and none closed}
     */
    static String box(String text) {
        if (!text.contains("\\boxed") && !text.contains("\\fbox")) {
            return null;
        }
        final List<Box> boxes = boxes(text);
        if (boxes.isEmpty()) {
            return isOpened(text) ? "" : null;
        }
        final Box last = boxes.get(boxes.size() - 1);
        final StringBuilder inside = new StringBuilder(last.inside);
        for (int i = boxes.size() - 2, from = last.from; i >= 0 && inside.length() < 10_000; i--) {
            final Box before = boxes.get(i);
            if (before.to > from || !JOINED.matcher(text.substring(before.to, from)).matches()) {
                break;
            }
            if (!before.inside.equals(last.inside)) {
                inside.insert(0, before.inside + ", ");
            }
            from = before.from;
        }
        return inside.toString();
    }

    private record Box(int from, int to, String inside) {
    }

    /** The innermost boxes that hold something, in the order they stand; with a stack, so that nothing but open boxes is no trouble. */
    private static List<Box> boxes(String text) {
        final List<Box> boxes = new ArrayList<>();
        final Deque<Integer> open = new ArrayDeque<>();
        final Matcher bare = BARE.matcher(text);
        int outer = -1; // where the last box that was taken starts: one around it is not taken again
        for (int i = 0; i < text.length(); i++) {
            final char c = text.charAt(i);
            if (c == '\\') {
                if (text.startsWith("\\boxed", i) || text.startsWith("\\fbox", i)) {
                    bare.region(i, text.length());
                    if (bare.lookingAt()) {
                        final String inside = bare.group(1) != null ? bare.group(1) : bare.group(2) != null ? bare.group(2) : bare.group(3);
                        boxes.add(new Box(i, bare.end(), inside));
                        outer = i;
                        i = bare.end() - 1;
                        continue;
                    }
                }
                i++; // \{ and \} are no braces
            } else if (c == '{') {
                open.push(i);
            } else if (c == '}' && !open.isEmpty()) {
                final int brace = open.pop();
                final int start = brace > outer ? startOfBox(text, brace) : -1;
                if (start >= 0) {
                    final String inside = text.substring(brace + 1, i);
                    if (!PLACEHOLDERS.contains(inside.strip())) {
                        boxes.add(new Box(start, i + 1, inside));
                        outer = brace;
                    }
                }
            }
        }
        return boxes;
    }

    private static int startOfBox(String text, int brace) {
        int end = brace;
        while (end > 0 && text.charAt(end - 1) == ' ') {
            end--;
        }
        return text.startsWith("\\boxed", end - 6) ? end - 6 : text.startsWith("\\fbox", end - 5) ? end - 5 : -1;
    }

    private static boolean isOpened(String text) {
        for (int i = text.indexOf('{'); i >= 0; i = text.indexOf('{', i + 1)) {
            if (startOfBox(text, i) >= 0) {
                return true;
            }
        }
        return false;
    }

    /** {@return the rests of lines behind {@code ####}, without "Answer:" at their start} */
    static List<String> hashes(String text) {
        final List<String> lines = all(HASHES, text);
        lines.replaceAll(line -> {
            final Matcher m = ANSWER.matcher(line);
            return m.find() ? m.group(1) : line;
        });
        return lines;
    }

    /** {@return the rest of the last line behind {@code Answer:}, or null} */
    static String answer(String text) {
        return last(ANSWER, text);
    }

    /** {@return the rest of the last line behind {@code the answer is}, or null} */
    static String answerIs(String text) {
        return last(ANSWER_IS, text);
    }

    private static String last(Pattern pattern, String text) {
        final List<String> all = all(pattern, text);
        return all.isEmpty() ? null : all.get(all.size() - 1);
    }

    private static List<String> all(Pattern pattern, String text) {
        final List<String> lines = new ArrayList<>();
        for (Matcher m = pattern.matcher(text); m.find();) {
            lines.add(m.group(1));
        }
        return lines;
    }

    /** Full-width letters, digits and signs as the usual ones. */
    static String narrow(String text) {
        StringBuilder out = null;
        for (int i = 0; i < text.length(); i++) {
            final char c = text.charAt(i);
            if (c >= '\uFF01' && c <= '\uFF5E') {
                out = out == null ? new StringBuilder(text) : out;
                out.setCharAt(i, (char) (c - 0xFEE0));
            }
        }
        return out == null ? text : out.toString();
    }
}
