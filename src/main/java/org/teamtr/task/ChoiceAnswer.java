package org.teamtr.task;

import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Answers that are a letter of a list of choices.
 *
 * <p>Where an answer is marked (see {@link NumberAnswer}), the marked place must start with the letter: {@code B}, {@code (b)},
 * {@code B) Paris}, {@code B, since ...}, {@code \text{B}}, or be a sentence such as {@code The correct option is B}. Otherwise the last
 * of these counts, in capitals: {@code (B)}, {@code answer is B}, {@code option is B}, a line that is nothing but {@code B}. Two letters
 * ({@code A or B}) are no answer.
 */
public final class ChoiceAnswer {
    private static final Pattern PLACE = Pattern.compile("[(\\[]?\\s*([A-Za-z])\\s*(?:[)\\].:,;。，、]+(?:\\s*(.*))?)?", Pattern.DOTALL);
    private static final Pattern BOLD = Pattern.compile("\\s{0,8}+(?:\\*\\*)?\\(?([A-Za-z])[).:]{0,2}+\\*\\*(?!\\s{0,3}(?:or|and|[,/&]))");
    private static final Pattern SECOND =
            Pattern.compile("(?:[,/&]|and\\b|or\\b)?\\s*[(\\[]?[A-Za-z][)\\]]?(?![\\p{L}\\p{N}'’ ]).*|(?:and|or)\\s.*", Pattern.DOTALL);
    private static final Pattern NOISE = Pattern.compile("\\\\(?:text|textbf|textrm|mathrm|mathbf|mbox)\\s?\\{|\\\\[,;! ()\\[\\]]|[$*_}]");
    private static final Pattern IN_TEXT = Pattern.compile("\\(([A-Z])\\)"
            + "|\\b(?:[Aa]nswer|[Oo]ption|[Cc]hoice)\\s+is:?[\\s*_$(]{0,8}+([A-Z])(?![\\p{L}\\p{N}_'’])"
            + "|(?:答案|选项|選項|選択肢|答え|正解|정답)(?:应该|應該)?(?:是|为|為|は|은)?[:：]?[\\s*_$(]{0,8}+([A-Z])(?![A-Za-z0-9])"
            + "|(?m:^[\\s*_#]{0,8}+([A-Z])[.)*_\\s]{0,8}+$)");

    private ChoiceAnswer() {
    }

    /**
     * {@return whether a text gives this answer}
     *
     * @param gold a letter, by itself or marked as in a text
     * @throws IllegalArgumentException if {@code gold} is no letter
     */
    public static boolean same(String gold, String text) {
        final char right = marked(MarkedAnswer.narrow(gold), true);
        if (right == 0) {
            throw new IllegalArgumentException("answer: expected a letter from A to Z, given \"" + (gold.length() > 80
                    ? gold.substring(0, 77) + "..." : gold) + "\"");
        }
        return marked(MarkedAnswer.narrow(text), false) == right;
    }

    private static char marked(String whole, boolean isGold) {
        final String text = MarkedAnswer.afterReasoning(whole);
        if (text == null) {
            return 0;
        }
        final String box = MarkedAnswer.box(text);
        if (box != null) {
            return start(box);
        }
        final List<String> hashes = MarkedAnswer.hashes(text);
        for (int i = hashes.size() - 1; i >= 0; i--) {
            final char letter = ofLine(hashes.get(i));
            if (letter != 0) { // otherwise a heading
                return letter;
            }
        }
        final String answer = MarkedAnswer.answer(text);
        if (answer != null) {
            return ofLine(answer);
        }
        return isGold ? start(text) : last(text);
    }

    private static char ofLine(String line) {
        final char start = start(line);
        return start != 0 ? start : last(line);
    }

    private static char start(String place) {
        final Matcher bold = BOLD.matcher(place);
        if (bold.lookingAt()) {
            return Character.toUpperCase(bold.group(1).charAt(0));
        }
        final Matcher m = PLACE.matcher(NOISE.matcher(place).replaceAll("").strip());
        return m.matches() && (m.group(2) == null || !SECOND.matcher(m.group(2)).matches()) ? Character.toUpperCase(m.group(1).charAt(0)) : 0;
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
