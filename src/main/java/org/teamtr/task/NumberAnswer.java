package org.teamtr.task;

import java.math.BigDecimal;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Answers that are a number.
 *
 * <p>In an answer that is marked, the marked place alone counts: the last complete {@code \boxed{...}}, otherwise the line after the
 * last {@code ####}, otherwise that after the last {@code Answer:}. It must be a number; words of two letters and more may follow
 * ({@code 18 dollars}), anything else makes it wrong ({@code 2x}, {@code \sqrt{2}}, {@code 5 or 6}), so that a formula that
 * holds the right number does not pass for it. Only a text in which nothing is marked is read leniently, by its last number.
 *
 * <p>Numbers are compared exactly, as fractions of decimals: 0.5 is 1/2, 1,000 is 1e3, 0.333 is not 1/3. Read are signs, leading
 * zeros, thousands separated by commas, exponents up to four digits ({@code 1.5e3}, {@code 1.5 \times 10^3}), {@code a/b} and
 * {@code \frac{a}{b}}; currency and percent signs mean nothing (28 % is 28, not 0.28). Mixed numbers, decimal commas and words such
 * as million are not read.
 */
public final class NumberAnswer {
    /** Longer digits are no answer but an attack. */
    private static final int LONGEST = 1000;
    private static final String DECIMAL = "(?:(?:\\d{1,3}(?:,\\d{3})++(?!\\d)|\\d++)(?:\\.\\d++)?|\\.\\d++)"
            + "(?:[eE][-+]?\\d{1,4}(?!\\d)|\\s*(?:\\\\times|\\\\cdot|×|\\*)\\s*10\\^(?:\\{[-+]?\\d{1,4}}|[-+]?\\d{1,4}(?!\\d)))?";
    private static final String NUMBER = "[-+]?(?:\\\\[dt]?frac\\{([-+]?" + DECIMAL + ")}\\{([-+]?" + DECIMAL + ")}"
            + "|\\\\[dt]?frac(\\d)(\\d)|("
            + DECIMAL + ")(?:\\s*/\\s*(" + DECIMAL + "))?)";
    /** No word that makes it another number. */
    private static final String NO_MULTIPLE = "(?![,;]?[\\s-]*(?i:hundred|thousand|million|billion|trillion|dozen))";
    /** A number with words or a unit behind it at most. */
    private static final Pattern WHOLE = Pattern.compile("(?:[A-Za-z]\\s*=\\s*)?(" + NUMBER + ")" + NO_MULTIPLE
            + "(?:[,;]?[\\s-]+\\p{L}{2,}+[\\p{L}\\s'’.,;!/-]*+(?:\\^\\{?[23]}?)?)?[\\s.!]*+");
    private static final Pattern IN_TEXT = Pattern.compile("(?<![\\p{L}\\p{N}_^{})\\].,\\\\])(" + NUMBER
            + ")(?![\\p{L}\\p{N}_^]|[.,:/]\\d)" + NO_MULTIPLE);
    /** What stands around numbers and means nothing: signs of currency and percent, bold type, LaTeX's spaces and delimiters. */
    private static final Pattern NOISE = Pattern.compile("\\\\?[$%]|[€£¥°]|(?<![\\p{L}\\p{N})])\\*\\*|\\*\\*(?![\\p{L}\\p{N}(])"
            + "|\\\\[!;:,()\\[\\]]|\\\\(?:left|right)\\b|\\^\\{?\\\\circ}?");
    /** Such noise holds apart what it stands between. */
    private static final Pattern BETWEEN = Pattern.compile("(?<=\\d)(?:\\\\?[$%]|[€£¥°]|\\\\[()\\[\\]])(?=\\d)");
    private static final Pattern TEXT = Pattern.compile("\\\\(?:text|textbf|mathrm|mathbf)\\{([^{}]*)}");

    private NumberAnswer() {
    }

    /**
     * {@return whether a text gives this answer}
     *
     * @param gold a number, by itself or marked as in a text
     * @throws IllegalArgumentException if {@code gold} is no number
     */
    public static boolean same(String gold, String text) {
        final String place = Marked.place(gold);
        final Fraction right = whole(place == null ? gold : place);
        if (right == null) {
            throw new IllegalArgumentException("answer: expected a number, given \""
                    + (gold.length() > 80 ? gold.substring(0, 77) + "..." : gold) + "\"");
        }
        final String marked = Marked.place(text);
        final Fraction given = marked == null ? last(text) : whole(marked);
        return given != null && given.equalTo(right);
    }

    /** top / bottom, not reduced. */
    private record Fraction(BigDecimal top, BigDecimal bottom) {
        boolean equalTo(Fraction other) {
            return top.multiply(other.bottom).compareTo(other.top.multiply(bottom)) == 0;
        }
    }

    private static Fraction whole(String place) {
        final Matcher m = WHOLE.matcher(clean(place));
        return m.matches() ? fraction(m) : null;
    }

    private static Fraction last(String text) {
        final Matcher m = IN_TEXT.matcher(clean(text));
        int last = -1;
        while (m.find()) {
            last = m.start();
        }
        return last >= 0 && m.find(last) ? fraction(m) : null;
    }

    private static String clean(String text) {
        final String plain = text.replace('\u2212', '-').replace('\u00A0', ' ').replace('\u202F', ' ').replace("{,}", ",");
        final String apart = BETWEEN.matcher(TEXT.matcher(plain).replaceAll(" $1 ")).replaceAll(" ");
        return NOISE.matcher(apart).replaceAll("").strip();
    }

    /** Group 1 of both patterns is the number; 2 and 3, 4 and 5, 6 and 7 are its parts in its three forms. */
    private static Fraction fraction(Matcher m) {
        if (m.group(1).length() > LONGEST) {
            return null;
        }
        final int form = m.group(2) != null ? 2 : m.group(4) != null ? 4 : 6;
        final BigDecimal top = decimal(m.group(form));
        final BigDecimal bottom = m.group(form + 1) == null ? BigDecimal.ONE : decimal(m.group(form + 1));
        return bottom.signum() == 0 ? null : new Fraction(m.group(1).startsWith("-") ? top.negate() : top, bottom);
    }

    private static BigDecimal decimal(String text) {
        return new BigDecimal(text.replaceAll("[,\\s{}]", "").replaceAll("(?:\\\\times|\\\\cdot|×|\\*)10\\^", "e"));
    }
}
