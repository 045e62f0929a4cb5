package org.teamtr.task;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTimeoutPreemptively;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.time.Duration;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.teamtr.team.Context;
import org.teamtr.team.Prompt;
import org.teamtr.team.Verifier;

class VerifiersTest {
    /** In the tables, which have a row on a line, the end of a line is a sign. */
    private static String lines(String text) {
        return text.replace('⏎', '\n');
    }

    /** The gold answer, then the text. */
    @ParameterizedTest
    @CsvSource(delimiter = '~', quoteCharacter = '"', value = {
        // where the answer stands
        "18 ~ \\boxed{18}", "18 ~ first \\boxed{17}, no: \\boxed{18}.", "18 ~ \\boxed{18} and then 19", "18 ~ #### 18",
        "18 ~ so 9 * 2 = 18⏎#### 18", "18 ~ #### 17⏎#### 18", "18 ~ Answer: 18", "18 ~ **Answer:** 18", "18 ~ **Final answer**: 18.",
        "18 ~ Answer:⏎18", "18 ~ #### 18⏎Answer: 19", "18 ~ \\boxed{18}⏎#### 19", "18 ~ She makes 18 dollars a day.",
        "18 ~ 16 - 3 - 4 = 9, and 9 * 2 = 18", "18 ~ 18", "18 ~ 9 * 2 = $18", "18 ~ \\boxed{\\boxed{18}}", "18 ~ \\boxed {18}",
        "18 ~ \\boxed{18} \\boxed{19", "1/2 ~ \\boxed{\\frac{1}{2}}", "18 ~ \\[ \\boxed{18} \\]", "18 ~ The answer is **18**.",
        "-3 ~ x = -3", "42 ~ - 42", "4 ~ a range of 3-4", "18 ~ \\(18\\)",
        // how the number is written
        "1000 ~ #### 1,000", "1,000 ~ 1000", "1000000 ~ \\boxed{1{,}000{,}000}", "1000 ~ \\boxed{1\\,000}", "18 ~ #### $18",
        "18 ~ \\boxed{\\$18}", "-18 ~ #### -$18", "28 ~ \\boxed{28\\%}", "28% ~ 28 %", "18 ~ #### 18.", "18 ~ #### 18.0", "18.50 ~ $18.5",
        "0.5 ~ 1/2", "1/2 ~ \\boxed{.5}", "0.5 ~ \\boxed{\\dfrac{1}{2}}", "0.5 ~ \\boxed{\\frac12}", "2/4 ~ 1 / 2",
        "-1/2 ~ \\boxed{-\\frac{1}{2}}", "-1/2 ~ \\boxed{\\frac{-1}{2}}", "0 ~ -0", "7 ~ 007", "5 ~ +5", "1500 ~ 1.5e3",
        "1500 ~ \\boxed{1.5 \\times 10^{3}}", "0.0015 ~ 1.5 × 10^-3", "0.1 ~ 1e-1", "-3 ~ #### \u22123", "18 ~ Answer: 18 dollars per day.",
        "18 ~ \\boxed{18\\text{ dollars}}", "18 ~ \\boxed{18\\text{ cm}^2}", "90 ~ \\boxed{90^\\circ}", "18 ~ \\boxed{x = 18}", "18 ~ \\boxed{18 }",
        "18 ~ #### 18 km/h", "123456789012345678901234567890 ~ 123456789012345678901234567890.0",
        // the gold answer as data sets have it
        "She makes 9 * 2 = $<<9*2=18>>18.⏎#### 18 ~ #### 18", "The sum is $\\boxed{18}$. ~ 18", "#### 1,234 ~ 1234", "#### -5 ~ -5.0"})
    void aRightNumberEarnsOne(String gold, String text) {
        assertTrue(NumberAnswer.same(lines(gold), lines(text)), gold + " ~ " + text);
    }

    @ParameterizedTest
    @CsvSource(delimiter = '~', quoteCharacter = '"', value = {
        "18 ~ 19", "18 ~ -18", "18 ~ #### 19", "18 ~ I do not know.", "18 ~ \\boxed{19} 18", "18 ~ #### 18⏎#### 19", "18 ~ 18 and 19",
        "18 ~ \\boxed{}", "18 ~ \\boxed{18", "18 ~ 18 is wrong \\boxed{", "18 ~ Answer: eighteen, not 18 but 17",
        // the right number inside something else
        "2 ~ \\boxed{\\sqrt{2}}", "2 ~ \\boxed{2x}", "2 ~ \\boxed{2^3}", "2 ~ \\boxed{\\frac{2}{x}}", "5 ~ \\boxed{5 or 6}", "5 ~ \\boxed{5,6}",
        "5 ~ Answer: 5 or 6", "5 ~ #### 4 + 1", "5 ~ \\boxed{(5, 6)}", "23 ~ \\boxed{2**3}", "53 ~ \\boxed{5$3}", "1 ~ \\boxed{1 1/2}",
        "3 ~ #### 3 million", "3 ~ it is 3 million", "12 ~ B12", "2 ~ 10^2", "1 ~ \\boxed{[1, 2)}", "2 ~ sqrt{2}", "2 ~ \\boxed{\\pm 2}",
        // near misses and other readings
        "1/3 ~ 0.333", "0.28 ~ 28%", "1000 ~ 1.000", "1234 ~ 12,34", "1 ~ 1/0", "10 ~ 1,0", "0.1 ~ 0.1000000000000000055511151231257827",
        "100000000000000000001 ~ 100000000000000000000", "1 ~ 1e999999999", "1 ~ 1e99999", "1 ~ \\boxed{1e-999999999}", "1 ~ 1.2.3"})
    void aWrongNumberEarnsNothing(String gold, String text) {
        assertFalse(NumberAnswer.same(lines(gold), lines(text)), gold + " ~ " + text);
    }

    @ParameterizedTest
    @CsvSource(delimiter = '~', quoteCharacter = '"', value = {
        "B ~ B", "B ~ (B)", "b ~ \\boxed{B}", "(B) ~ Answer: B", "B ~ Answer: (b)", "B ~ \\boxed{\\text{B}}", "B ~ \\boxed{\\text{(B)}}",
        "B ~ #### B",
        "B ~ Answer: B) Paris", "B ~ Answer: B. Paris, since A is wrong", "B) Paris ~ B.", "B ~ The answer is B.", "B ~ The answer is **(B)**",
        "B ~ (A) is too small, so (B)", "B ~ A dog has four legs.⏎B", "B ~ **B**", "G ~ Answer: g", "\\boxed{B} ~ #### B", "B ~ **Answer:** B"})
    void aRightChoiceEarnsOne(String gold, String text) {
        assertTrue(ChoiceAnswer.same(gold, lines(text)), gold + " ~ " + text);
    }

    @ParameterizedTest
    @CsvSource(delimiter = '~', quoteCharacter = '"', value = {
        "B ~ C", "B ~ \\boxed{A} (B)", "A ~ A dog has four legs.", "B ~ (B) is wrong, so (C)", "A ~ Answer: A dog", "B ~ Answer: Berlin",
        "B ~ b", "A ~ The answer is a dog", "B ~ The answer is B's neighbour", "B ~ \\boxed{AB}", "B ~ \\boxed{B", "B ~ nothing"})
    void aWrongChoiceEarnsNothing(String gold, String text) {
        assertFalse(ChoiceAnswer.same(gold, lines(text)), gold + " ~ " + text);
    }

    static List<String> hostile() {
        final int n = 100_000;
        return List.of("9".repeat(n), "1e" + "9".repeat(n), "\\boxed{".repeat(n / 7), "{".repeat(n) + "}".repeat(n), "#".repeat(n),
                "1" + ",000".repeat(n), "1/".repeat(n), "1 ".repeat(n), "answer:".repeat(n / 7), "answer: " + "\n ".repeat(n), " ".repeat(n) + "1",
                "\\text{".repeat(n / 6), "\\frac{1}{".repeat(n / 9), "(".repeat(n), "A".repeat(n), "a ".repeat(n), "5" + " ".repeat(n) + "x",
                "#### 5 " + "words - ".repeat(n / 8) + "6", "\n* _".repeat(n), "-".repeat(n), "\\".repeat(n), "1e9999 / 1e-9999");
    }

    @ParameterizedTest
    @MethodSource("hostile")
    void noMessageHoldsTheVerifierUp(String text) {
        assertTimeoutPreemptively(Duration.ofSeconds(5), () -> {
            assertFalse(NumberAnswer.same("12345", text));
            assertFalse(ChoiceAnswer.same("Q", text));
            assertFalse(NumberAnswer.same("12345", "#### " + text));
            assertFalse(NumberAnswer.same("12345", "\\boxed{" + text + "}"));
        });
    }

    @ParameterizedTest
    @ValueSource(strings = {"", "twelve", "\\boxed{}", "#### ", "1/0"})
    void aGoldAnswerMustBeANumber(String gold) {
        assertThrows(IllegalArgumentException.class, () -> NumberAnswer.same(gold, "1"));
        final IllegalArgumentException e = assertThrows(IllegalArgumentException.class,
                () -> verifier("number", 1, 0).score(new Context(new Prompt("a.jsonl:7", "?", gold), 0)));
        assertTrue(e.getMessage().startsWith("a.jsonl:7: answer: expected a number, given \"" + gold), e.getMessage());
    }

    private static Verifier verifier(String name, int votes, double wrong) {
        final Verifier ours = Verifiers.of(name, new Verifiers.Settings(votes, wrong, false, false, "python3"));
        return episode -> {
            final Verifier.Score score = ours.score(episode);
            return new Verifier.Score(score.reward(), score.correct()); // without figures
        };
    }

    @Test
    void theLastMessageOfAnEpisodeIsScored() {
        final Verifier number = verifier("number", 1, -0.5);
        assertEquals(new Verifier.Score(1, true), number.score(episode("4", "it is 5", "no, 4")));
        assertEquals(new Verifier.Score(-0.5, false), number.score(episode("4", "it is 4", "no, 5")));
        assertEquals(new Verifier.Score(-0.5, false), number.score(new Context(new Prompt("p", "?", "4"), 0)));
        assertEquals(new Verifier.Score(1, true), verifier("choice", 1, 0).score(episode("B", "A", "B")));
        assertEquals(new Verifier.Score(0, false), verifier("choice", 1, 0).score(episode("B", "B", "A")));
        assertTrue(assertThrows(IllegalArgumentException.class, () -> number.score(episode(null, "4"))).getMessage()
                .contains("p: answer: expected an answer"));
    }

    /** More than half of the last messages, or of those there are. */
    @Test
    void theLastMessagesVote() {
        final Verifier three = verifier("number", 3, -1);
        assertTrue(three.score(episode("4", "5", "5", "4", "so 4", "5")).correct());
        assertFalse(three.score(episode("4", "4", "4", "5", "3", "4")).correct());
        assertTrue(three.score(episode("4", "4")).correct());
        assertEquals(-1, three.score(episode("4", "4", "5")).reward());
        assertEquals(-1, three.score(new Context(new Prompt("p", "?", "4"), 0)).reward());
        assertTrue(verifier("choice", 2, 0).score(episode("B", "A", "B", "(B)")).correct());
    }

    /** One's own verifier. */
    public static final class Polite implements Verifier {
        @Override
        public Score score(Context episode) {
            return new Score(episode.last().text().contains("please") ? 2 : 0, true);
        }
    }

    /** Not one: its constructor is private. */
    public static final class Shy implements Verifier {
        private Shy() {
        }

        @Override
        public Score score(Context episode) {
            return new Score(0, false);
        }
    }

    @Test
    void onesOwnVerifierIsFoundByItsName() {
        assertEquals(2, verifier(Polite.class.getName(), 1, 0).score(episode(null, "please")).reward());
        for (String[] bad : new String[][] {{"org.example.None", "no such class"}, {"java.lang.String", "which does not"},
            {Shy.class.getName(), "public constructor"}, {Verifier.class.getName(), "public constructor"}}) {
            final IllegalArgumentException e = assertThrows(IllegalArgumentException.class, () -> verifier(bad[0], 1, 0));
            assertTrue(e.getMessage().contains(bad[0]) && e.getMessage().contains(bad[1]), e.getMessage());
        }
    }

    /** An episode in which this was said, in this order. */
    private static Context episode(String answer, String... said) {
        return Context.of(new Prompt("p", "?", answer), List.of(said));
    }
}
