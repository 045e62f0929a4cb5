package org.teamtr.task;

import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.teamtr.task.math.MathAnswer;

/**
 * Answers that are a number.
 *
 * <p>In an answer that is marked, the marked place alone counts: the last complete {@code \boxed{...}}, otherwise the last line behind
 * {@code ####} that is no heading, otherwise that behind the last {@code Answer:}, otherwise that behind the last {@code answer is}. A
 * box must hold a number; words and units may follow it ({@code 18 dollars}), anything else makes it wrong ({@code 2x},
 * {@code \sqrt{2}}, {@code 5 or 6}, {@code 4 + 1}), so that a formula that holds the right number does not pass for it. A line may also
 * be a sentence with one number. Only a text in which nothing is marked is read by its last number.
 *
 * <p>Numbers are read and compared as {@link MathAnswer} does, exactly: 0.5 is 1/2, 1 1/2 is 1.5, 1,000 is 1e3, 3 million is 3,000,000,
 * 0.333 is not 1/3. Currency, percent and degrees mean nothing (28 % is 28, not 0.28). Decimal commas are not read.
 */
public final class NumberAnswer {
    private static final String DIGITS = "(?:\\d{1,3}(?:,\\d{3})++(?!\\d)|\\d++)(?:\\.\\d++)?|\\.\\d++";
    /** Where a number begins: with sign, currency and exponent, and as a fraction or mixed number. */
    private static final String NUMBER = "[-+\\u2212]?[$€£¥]?(?:" + DIGITS + ")(?:[eE][-+]?\\d{1,4}(?!\\d)"
            + "|\\s?(?:\\\\times|\\\\cdot|×|\\*)\\s?10\\^(?:\\{[-+\\u2212]?\\d{1,4}}|[-+\\u2212]?\\d{1,4}))?(?:\\s\\d{1,6}\\s?/\\s?\\d{1,6}|\\s?/\\s?(?:"
            + DIGITS + ")|[½¼¾⅓⅔])?";
    private static final String FRACTION = "[-+\\u2212]?(?:\\d{1,9}\\s?)?\\\\[dt]?frac\\s?(?:\\{[^{}]{1,40}}|\\d)\\s?(?:\\{[^{}]{1,40}}|\\d)";
    private static final String SPAN = "\\$\\$?(?!\\s?[$])[^$\\n]{1,200}+\\$\\$?|\\\\\\([^\\n]{1,200}?\\\\\\)|\\\\\\[[^\\n]{1,200}?\\\\]";
    private static final Pattern ITEM = Pattern.compile("(?<span>" + SPAN + ")|(?<number>" + FRACTION + "|" + NUMBER + ")");
    /** Behind a number: what makes it part of something else. */
    private static final Pattern MORE = Pattern.compile(
            "\\s?(?:[√π^_]|\\\\(?![%$!.,;\\s)\\]])|pi\\b|sqrt|\\*\\*\\d)|[\\p{IsLatin}\\p{IsGreek}\\p{IsCyrillic}\\p{N}]|[.,:/]\\d|!(?=[=^+*/(]|\\s?=)");
    private static final Pattern BEFORE = Pattern.compile("[\\p{IsLatin}\\p{IsGreek}\\p{IsCyrillic}_]");
    private static final Pattern MULTIPLE = Pattern.compile("[,;]?[\\s-]*(?i:hundred|thousand|million|billion|trillion|dozen)\\b|\\s?[十百千万萬亿億兆만억]");
    private static final Pattern SENTENCE = Pattern.compile("(?<=[^\\d\\s])[.!?](?:\\s|$)|(?<=\\d)\\.(?:\\s|$)|[。！？]|(?<=[$)\\d])\\.(?=\\s|$)");
    private static final Pattern REMARK = Pattern.compile("\\s[(（]|[,;，；:：]\\s?(?=\\p{L}{2})|\\s(?:since|because|as|which|so|where)\\b");
    private static final Pattern PLAIN_EXPONENT = Pattern.compile("(?<=\\d)e([-+]\\d{1,4})(?!\\d)");

    private NumberAnswer() {
    }

    /**
     * {@return whether a text gives this answer}
     *
     * @param gold a number, by itself or marked as in a text
     * @throws IllegalArgumentException if {@code gold} is no number
     */
    public static boolean same(String gold, String text) {
        final String box = MarkedAnswer.box(gold);
        final List<String> hashes = MarkedAnswer.hashes(gold);
        final String place = box != null ? box : !hashes.isEmpty() ? hashes.get(hashes.size() - 1) : gold;
        final String right = number(place);
        if (right == null) {
            throw new IllegalArgumentException("answer: expected a number, given \""
                    + (gold.length() > 80 ? gold.substring(0, 77) + "..." : gold) + "\"");
        }
        final String given = given(MarkedAnswer.narrow(text));
        return given != null && MathAnswer.isNumber(right, plain(given));
    }

    /** The text of the number that a text gives, or null. */
    static String given(String whole) {
        final String text = MarkedAnswer.afterReasoning(whole);
        if (text == null) {
            return null;
        }
        final String box = MarkedAnswer.box(text);
        if (box != null) {
            return box;
        }
        final List<String> hashes = MarkedAnswer.hashes(text);
        for (int i = hashes.size() - 1; i >= 0; i--) {
            if (hashes.get(i).chars().anyMatch(Character::isDigit)) { // otherwise a heading
                return ofLine(hashes.get(i));
            }
        }
        final String answer = MarkedAnswer.answer(text);
        if (answer != null) {
            return ofLine(answer);
        }
        final String is = MarkedAnswer.answerIs(text);
        if (is != null && is.chars().anyMatch(Character::isDigit)) {
            return ofLine(is);
        }
        return last(text, 0, text.length(), false);
    }

    /** {@return the last number of a text, or null} */
    static String lastNumber(String text) {
        return last(text, 0, text.length(), false);
    }

    /** A number, a number with a remark, or a sentence with one number. */
    private static String ofLine(String line) {
        if (line.length() > 2000) {
            return null;
        }
        if (number(line) != null) {
            return line;
        }
        final Matcher end = SENTENCE.matcher(line);
        final String sentence = end.find() ? line.substring(0, end.start()) : line;
        final Matcher remark = REMARK.matcher(sentence);
        if (remark.find() && number(sentence.substring(0, remark.start())) != null) {
            return sentence.substring(0, remark.start());
        }
        final String one = last(sentence, 0, sentence.length(), true);
        if (one != null) {
            return one;
        }
        final int is = Math.max(Math.max(sentence.lastIndexOf(" is "), sentence.lastIndexOf(" are ")), sentence.lastIndexOf('='));
        return is < 0 ? null : last(sentence, is + 1, sentence.length(), true);
    }

    /** The last number of a part of a text, or the only one; null if there is none, or it is part of something else. */
    private static String last(String text, int from, int to, boolean only) {
        final Matcher m = ITEM.matcher(text).region(from, to).useTransparentBounds(true);
        String last = null;
        int count = 0;
        int at = from;
        while (at < to && m.find(at)) {
            if (m.start() >= to) {
                break;
            }
            at = m.end();
            if (m.group("span") != null) {
                final String span = m.group();
                if (span.chars().noneMatch(Character::isDigit)) {
                    at = span.startsWith("$") && !isMath(span) ? m.start() + 1 : at;
                    continue;
                }
                if (span.startsWith("$") && !isMath(span)) { // from $5 to $6: signs of currency
                    at = m.start() + 1;
                    continue;
                }
                last = number(span) != null ? span : null;
            } else {
                if (m.start() > 0 && BEFORE.matcher(text.substring(m.start() - 1, m.start())).matches()) {
                    continue; // B12 is a name
                }
                last = whole(text, m.start(), m.end());
                at = Math.max(at, m.start() + 1);
            }
            count++;
        }
        return only && count != 1 ? null : last;
    }

    private static boolean isMath(String span) {
        final String inside = span.replace("$", "");
        return !Character.isWhitespace(inside.charAt(inside.length() - 1)) && !inside.matches(".*(?<![\\\\\\p{L}{])\\p{L}{2,}.*")
                || inside.indexOf('\\') >= 0;
    }

    /** A number with what multiplies it; null if what stands around it makes it part of something else. */
    private static String whole(String text, int from, int to) {
        int start = from;
        final char sign = text.charAt(start);
        if (start > 0 && "-+\u2212".indexOf(sign) >= 0
                && (Character.isLetterOrDigit(text.charAt(start - 1)) || ")]}".indexOf(text.charAt(start - 1)) >= 0)) {
            start++; // 3-4
        }
        if (start > 0 && "^_{\\".indexOf(text.charAt(start - 1)) >= 0 && text.charAt(start) != '$'
                || start > 1 && ".,".indexOf(text.charAt(start - 1)) >= 0
                        && Character.isDigit(text.charAt(start - 2))) {
            return null;
        }
        final Matcher multiple = MULTIPLE.matcher(text).region(to, text.length());
        if (multiple.lookingAt()) {
            final String word = multiple.group().strip();
            final String power = "十百千万萬亿億兆만억".indexOf(word) >= 0 && !word.isEmpty() ? power(word) : null;
            return power == null ? text.substring(start, multiple.end()) : text.substring(start, to).replace("$", "") + "*10^{" + power + "}";
        }
        return MORE.matcher(text).region(to, text.length()).lookingAt() ? null : text.substring(start, to);
    }

    private static String power(String sign) {
        return switch (sign) {
            case "十" -> "1";
            case "百" -> "2";
            case "千" -> "3";
            case "兆" -> "12";
            case "亿", "億", "억" -> "8";
            default -> "4";
        };
    }

    private static String number(String place) {
        return MathAnswer.number(plain(place));
    }

    /** 1e-1 is a number here, where it is 1 e - 1 in mathematics; #### and bold type around it are none of it. */
    private static String plain(String place) {
        return place.length() > 2000 ? place : PLAIN_EXPONENT.matcher(place).replaceAll("E$1");
    }
}
