package org.teamtr.task;

import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Answers that are a letter of a list of choices.
 *
 * <p>Where an answer is marked (see {@link NumberAnswer}), the marked place must start with the letter: {@code B}, {@code (b)},
 * {@code B) Paris}, {@code \text{B}}. Otherwise the last of these counts, in capitals: {@code (B)}, {@code answer is B}, a line
 * that is nothing but {@code B}.
 */
public final class ChoiceAnswer {
    private static final Pattern PLACE = Pattern.compile("[(\\[]?\\s*([A-Za-z])\\s*(?:[)\\].:]+(?:\\s.*)?)?", Pattern.DOTALL);
    private static final Pattern NOISE = Pattern.compile("\\\\(?:text|textbf|mathrm|mathbf)\\{|[$*_}]");
    private static final Pattern IN_TEXT = Pattern.compile(
            "\\(([A-Z])\\)|\\b[Aa]nswer\\s+is:?[\\s*_$]{0,8}+([A-Z])(?![\\p{L}\\p{N}_'’])|(?m:^[\\s*_]{0,8}+([A-Z])[.)*_\\s]{0,8}+$)");

    private ChoiceAnswer() {
    }

    /**
     * {@return whether a text gives this answer}
     *
     * @param gold a letter, by itself or marked as in a text
     * @throws IllegalArgumentException if {@code gold} is no letter
     */
    public static boolean same(String gold, String text) {
        final String place = Marked.place(gold);
        final char right = start(place == null ? gold : place);
        if (right == 0) {
            throw new IllegalArgumentException("answer: expected a letter from A to Z, given \"" + (gold.length() > 80
                    ? gold.substring(0, 77) + "..." : gold) + "\"");
        }
        final String marked = Marked.place(text);
        return (marked == null ? last(text) : start(marked)) == right;
    }

    private static char start(String place) {
        final Matcher m = PLACE.matcher(NOISE.matcher(place).replaceAll("").strip());
        return m.matches() ? Character.toUpperCase(m.group(1).charAt(0)) : 0;
    }

    private static char last(String text) {
        final Matcher m = IN_TEXT.matcher(text);
        char last = 0;
        while (m.find()) {
            for (int g = 1; g <= m.groupCount(); g++) {
                last = m.group(g) != null ? m.group(g).charAt(0) : last;
            }
        }
        return last;
    }
}
