package org.teamtr.task.math;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class MathAnswerTest {
    @ParameterizedTest
    @CsvSource(delimiter = '~', quoteCharacter = '"', value = {
        "1/3 ~ 0.33333333", "x \\in [-2,7] ~ [-2,7]", "x \\in [-2,7] ~ -2 \\le x \\le 7", "0<x<1 ~ 1>x>0", "x>3 ~ (3,\\infty)",
        "x<1 \\text{ or } x>2 ~ (-\\infty,1)\\cup(2,\\infty)", "y=2x+3 ~ 2x+3", "y=2x+3 ~ y-2x=3", "17 ~ x=17", "17 ~ (17)",
        "5.4 \\text{ cents} ~ 5.4", "5 cm ~ 5 \\text{ centimeters}", "\\frac{270}7\\text{ degrees} ~ \\frac{270}{7}^\\circ", "\\text{even} ~ even",
        "\\text{even} ~ \\textbf{Even}", "\\cot x ~ \\frac{\\cos x}{\\sin x}", "2k+2 ~ 2(k+1)", "x^3+3x-6 ~ -6+3x+x^3", "(a+5)(b+2) ~ ab+2a+5b+10",
        "\\frac{11+9a}{20} ~ 0.45a+0.55", "\\{1\\pm\\sqrt{5},-2\\} ~ -2, 1+\\sqrt5, 1-\\sqrt5", "1\\frac{4}{5} ~ 1.8", "137 \\frac{1}{2} ~ 137.5",
        ".0000672 ~ 6.72\\times10^{-5}", ".0000672 ~ 6.72e-5", "\\$32,\\!348 ~ 32348", "\\$32,\\!348 ~ \\$32,348.00",
        "11,\\! 111,\\! 111,\\! 100 ~ 11111111100", "\\frac 59 ~ 5/9", "120^\\circ ~ 120 degrees", "1/6 ~ 0.1\\overline{6}", "\\sqrt[3]{-8} ~ -2",
        "e^{i\\pi} ~ -1", "\\log_2 8 ~ 3", "\\ln e^2 ~ 2", "2\\sin x\\cos x ~ \\sin 2x", "|x| ~ \\sqrt{x^2}", "720 ~ 6!", "10 ~ \\binom{5}{2}",
        "\\text{June }20 ~ June 20", "3000000 ~ 3 million", "18 ~ 18 dollars", "18 ~ 18\\,\\mathrm{m/s}", "18 ~ 18 m/s", "18 ~ 18 km/h", "x=5 ~ 5",
        "5 ~ x = 5", "18 ~ 9*2=18", "18 ~ 9 \\cdot 2 = 18", "1000 ~ 1\\,000", "1000 ~ 1{,}000", "\\pi ~ 3.14159265358979",
        "\\begin{pmatrix} -1 & 0 \\\\ 0 & -1 \\end{pmatrix} ~ \\left[\\begin{array}{cc}-1&0\\\\0&-1\\end{array}\\right]",
        "\\begin{pmatrix}1\\\\2\\end{pmatrix} ~ \\begin{bmatrix}1\\\\2\\\\\\end{bmatrix}", "3R^2 ~ 3 R^{2}", "\\frac{20000}{\\pi} ~ 20000/\\pi",
        "\\sqrt{66} ~ √66", "3\\sqrt{13} ~ 3√13", "-\\frac{\\pi}{6} ~ -π/6", "2 ~ \\text{two: }2", "\\text{(B)} ~ B", "C ~ \\text{(C)}",
        "5r^5 ~ 5 r^5", "1 - 12i ~ -12i+1", "\\frac{x+2}{7} ~ (x+2)/7", "12\\pi ~ 12π cm^2", "864 \\mbox{ inches}^2 ~ 864 square inches",
        "12 ~ 12^{\\text{th}}", "12 ~ 12th", "9:00 ~ 9:00", "10^{12} ~ 10^12", "2^{100000} ~ 2^{100000}", "2^{100000} ~ 2^{50000}\\cdot 2^{50000}",
        "\\arctan 1 ~ \\pi/4", "\\sin^{-1}(1) ~ \\frac{\\pi}{2}", "\\emptyset ~ \\varnothing", "\\infty ~ infinity", "(-\\infty, 0] ~ (-∞,0]",
        "x^2+y^2=4 ~ 2x^2+2y^2=8", "\\text{no solution} ~ No solution.", "14 ~ \\angle ABC = 14^\\circ", "\\frac{1}{2} ~ P(A)=\\frac12",
        "(1,2),(3,4) ~ (3,4), (1,2)", "1,2 ~ \\{2,1\\}", "1,2 ~ x=1 \\text{ or } x=2", "x=1,2 ~ x=1, x=2", "y=-2x ~ -2x=y",
        "16+8\\sqrt{2} ~ 8(2+\\sqrt{2})", "2n^2 ~ 2 n^2", "\\lfloor 3.7\\rfloor ~ 3", "50\\% ~ 50"
    })
    void theSame(String gold, String answer) {
        assertTrue(MathAnswer.of(gold).accepts(answer), gold + " ~ " + answer);
    }

    @ParameterizedTest
    @CsvSource(delimiter = '~', quoteCharacter = '"', value = {
        "1/3 ~ 0.333", "(0,1) ~ 0<x<1", "y=2x+3 ~ z=2x+3", "17 ~ 17 \\text{ or } 19", "5 cm ~ 5 m", "\\text{even} ~ odd", "x^3+3x-6 ~ X^3+3X-6",
        "2516_8 ~ 2516_9", "|x| ~ x", "\\text{June }20 ~ 20", "18 ~ 18 or more", "0 ~ 3x-y+13=0", "\\pi ~ 3.14", "\\frac{\\pi}{2} ~ 90",
        "\\begin{pmatrix}1\\\\2\\end{pmatrix} ~ \\begin{pmatrix}1&2\\end{pmatrix}", "10^{12} ~ 10^1 2", "2^{100000} ~ 2^{100001}", "3 ~ 3\\pi",
        "4 ~ 4\\sqrt2", "AB ~ BA C", "50\\% ~ 0.5"
    })
    void notTheSame(String gold, String answer) {
        assertFalse(MathAnswer.of(gold).accepts(answer), gold + " ~ " + answer);
    }

    /** Against values to thirty digits that others computed. */
    @ParameterizedTest
    @CsvSource({"\\sqrt{2}, 1.41421356237309504880168872420", "\\ln 10, 2.30258509299404568401799145468", "e^{\\pi}, 23.1406926327792690057290863679",
        "\\sin 1, 0.841470984807896506652502321630", "\\arctan 2, 1.10714871779409050301706546018", "\\log_2 10, 3.32192809488736234787031942949",
        "2^{1/3}, 1.25992104989487316476721060728", "\\cos(100), 0.862318872287683934101938513951", "\\arcsin(1/3), 0.339836909454121937096392513392",
        "\\cosh 1, 1.54308063481524377847790562076", "\\sqrt[5]{7}, 1.47577316159455206927691669563", "\\ln(1/7), -1.94591014905531330510535274344"})
    void functionsToManyDigits(String formula, String value) {
        assertTrue(MathAnswer.of(formula).accepts(value), formula);
        final char last = value.charAt(value.length() - 1);
        assertFalse(MathAnswer.of(formula).accepts(value.substring(0, value.length() - 1) + (last < '5' ? (char) (last + 4) : (char) (last - 4))),
                "its last digit counts");
    }

    /** What is the same by the rules of algebra, from random numbers. */
    @Test
    void identities() {
        final SplittableRandom random = new SplittableRandom(4);
        for (int n = 0; n < 300; n++) {
            final int a = random.nextInt(1, 50);
            final int b = random.nextInt(1, 50);
            final int c = random.nextInt(2, 50);
            final int d = random.nextInt(2, 50);
            same("\\frac{" + a + "}{" + c + "}+\\frac{" + b + "}{" + d + "}", "\\frac{" + (a * d + b * c) + "}{" + c * d + "}");
            same("(x+" + a + ")(x-" + b + ")", "x^2+" + (a - b) + "x-" + a * b);
            same("\\sqrt{" + a * a * c + "}", a + "\\sqrt{" + c + "}");
            same("\\{" + a + "," + -b + "\\}", -b + ", " + a);
            same(a + "x+" + b + "y=" + c, -2 * a + "x-" + 2 * b + "y=" + -2 * c);
            same("(" + -a + "," + b + "]", -a + " < t \\le " + b);
            assertFalse(MathAnswer.of("\\frac{" + a + "}{" + c + "}").accepts("\\frac{" + (a + 1) + "}{" + c + "}"));
            assertFalse(MathAnswer.of(a + "x+" + b).accepts(a + "x-" + b));
            assertFalse(MathAnswer.of("\\sqrt{" + (a * a + 1) + "}").accepts(String.valueOf(a)));
        }
    }

    private static void same(String gold, String answer) {
        if (answer.contains("<")) {
            assertTrue(MathAnswer.of(answer).accepts(gold), gold + " ~ " + answer);
        } else {
            assertTrue(MathAnswer.of(gold).accepts(answer), gold + " ~ " + answer);
            assertTrue(MathAnswer.of(answer).accepts(gold), answer + " ~ " + gold);
        }
    }

    /** What costs most is cut off by its steps, and then no answer. */
    @ParameterizedTest
    @ValueSource(strings = {"9^{9^{9^9}}", "(((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((1", "2^{99999999}", "1e99999",
        "800!^{800!}",
        "\\sqrt[64]{\\sqrt[63]{\\sqrt[62]{10^{999}+1}}}", "\\binom{999999999}{999}", "x^{1000}+x^{999}+x^{998}", "1/0", "\\ln 0", "\\tan(10^{99})",
        "\\sin\\sin\\sin\\sin\\sin\\sin\\sin\\sin\\sin\\sin\\sin\\sin\\sin\\sin x",
        "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29"})
    void nothingTakesMoreThanItsSteps(String answer) {
        for (String gold : new String[] {"5", "\\sqrt{2}x+\\sin y", "1,2,3", "(0,1)\\cup(2,3)", "y=2x"}) {
            final MathAnswer right = MathAnswer.of(gold);
            assertFalse(right.accepts(answer));
            assertTrue(right.steps(answer) <= Steps.MOST);
        }
    }

    @Test
    void aHundredThousandOddAnswers() {
        final String[] parts = {"\\frac{", "}{", "}", "{", "1", "22", "x", "^", "_{", "(", ")", "[", "]", ",", "\\sqrt{", "\\pm ", "\\cup ", "=", "<",
            "\\le ", "\\infty", "-",
            "+", "\\text{and}", "\\text{ cm}", "!", "\\begin{pmatrix}", "\\end{pmatrix}", "\\\\", "&", " ", "$", "%", "\u03C0", "e", "i", "\\sin ",
            "\\log_", "999999999",
            "1e9", "^{99}", "/", "0.5", "\uD800", "\\left", "\\right", "|", "\\binom{5}", "y", "\\ln ", "^{x}", "\\{", "\\}", "\\in ", ";", "sin",
            "800!"};
        final SplittableRandom random = new SplittableRandom(2);
        final MathAnswer[] golds =
                {MathAnswer.of("\\frac{1}{2}"), MathAnswer.of("x^2+\\sqrt{3}"), MathAnswer.of("(1,2)"), MathAnswer.of("[0,1)\\cup(2,3)"),
                    MathAnswer.of("x=2y+1"), MathAnswer.of("0<x<1"), MathAnswer.of("1,2,3"), MathAnswer.of("\\begin{pmatrix}1\\\\2\\end{pmatrix}"),
                    MathAnswer.of("\\text{east}")};
        int right = 0;
        for (int n = 0; n < 100_000; n++) {
            final StringBuilder text = new StringBuilder();
            for (int k = random.nextInt(24); k >= 0; k--) {
                text.append(parts[random.nextInt(parts.length)]);
            }
            final String answer = text.toString();
            final MathAnswer gold = golds[n % golds.length];
            right += n % 10 == 0 && gold.accepts(answer) ? 1 : 0;
            assertTrue(gold.steps(answer) <= Steps.MOST);
        }
        assertTrue(right < 100, "nonsense is right " + right + " times");
    }

    @Test
    void numbersAsFractions() {
        assertEquals("-1/2", MathAnswer.number("-0.5"));
        assertEquals("3/2", MathAnswer.number("1\\frac{1}{2}"));
        assertEquals(null, MathAnswer.number("1+1"));
        assertEquals(null, MathAnswer.number("3!"));
    }
}
