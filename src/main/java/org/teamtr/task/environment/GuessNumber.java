package org.teamtr.task.environment;

import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.teamtr.team.Context;
import org.teamtr.team.Environment;
import org.teamtr.team.Message;
import org.teamtr.team.Observation;
import org.teamtr.team.Prompt;

/**
 * AR-Bench's guessing of numbers (Zhou et al., 2025): the prompt's answer is a secret number, and after every guess the referee says how
 * many digits are in their place and how many are in another.
 *
 * <p>The guess is the message's last run of as many digits as the secret has, runs taken from the left and not overlapping: 72945 is a
 * guess of 7294. A message without a guess uses up its turn. As published there are {@code turns} guesses with answers and then a final
 * one, which alone counts, whatever was guessed before; with {@code earlyStop} the right guess ends the episode and counts.
 *
 * <p>Figures: {@code turns} that were used, {@code solved_at} the first right guess (0 for none), {@code consistent} the share of
 * guesses that all answers before them allow. The reward of a wrong number may be dense: the share of digits that the final guess has
 * right, those in another place counting half.
 */
public final class GuessNumber implements Environment {
    private final int turns;
    private final boolean earlyStop;
    private final boolean dense;

    /**
     * @param turns guesses that are answered, 1 or more
     * @param earlyStop whether the right guess ends the episode
     */
    public GuessNumber(int turns, boolean earlyStop, boolean dense) {
        if (turns < 1) {
            throw new IllegalArgumentException("turns: expected 1 or more, given " + turns);
        }
        this.turns = turns;
        this.earlyStop = earlyStop;
        this.dense = dense;
    }

    /**
     * {@return the guess of a message, or null}
     *
     * @param digits how many it has
     */
    public static String guess(String message, int digits) {
        final Matcher m = Pattern.compile("(?U)\\d{" + digits + "}").matcher(message);
        String last = null;
        while (m.find()) {
            last = m.group();
        }
        if (last == null) {
            return null;
        }
        final StringBuilder plain = new StringBuilder();
        last.chars().forEach(c -> plain.append(Character.getNumericValue(c))); // full-width digits are digits
        return plain.toString();
    }

    /** {@return how many digits are in their place, and how many are in another} */
    public static int[] compare(String secret, String guess) {
        int same = 0;
        final int[] left = new int[10];
        for (int i = 0; i < secret.length(); i++) {
            same += secret.charAt(i) == guess.charAt(i) ? 1 : 0;
            left[secret.charAt(i) - '0']++;
        }
        int both = 0;
        for (int i = 0; i < guess.length(); i++) {
            both += left[guess.charAt(i) - '0']-- > 0 ? 1 : 0;
        }
        return new int[] {same, both - same};
    }

    /** {@return what the referee says to a guess, as published} */
    public static String answer(int same, int elsewhere) {
        return same + " digits are present in the answer and in the correct positions\n" + elsewhere
                + " digits are present in the answer but in the different positions";
    }

    @Override
    public Range range() {
        return new Range(0, 1);
    }

    @Override
    public Course start(Prompt prompt, long seed) {
        final String secret = prompt.answer();
        if (secret == null || !secret.matches("[0-9]{1,18}")) {
            throw new IllegalArgumentException(prompt.id() + ": answer: expected a secret of 1 to 18 digits, given " + secret);
        }
        return new Course() {
            private int turn;
            private int solvedAt;
            private int consistent;
            private int guesses;
            private String last;
            private final Map<String, int[]> answers = new LinkedHashMap<>();

            @Override
            public Step step(Message message, Context context) {
                turn++;
                final String guess = guess(message.text(), secret.length());
                last = guess;
                if (guess == null) {
                    return next("no guess found");
                }
                guesses++;
                final int[] answer = compare(secret, guess);
                consistent += answers.entrySet().stream().allMatch(e -> Arrays.equals(compare(guess, e.getKey()), e.getValue())) ? 1 : 0;
                answers.put(guess, answer);
                if (guess.equals(secret) && solvedAt == 0) {
                    solvedAt = turn;
                }
                return earlyStop && guess.equals(secret) ? Step.end(null)
                        : next(answer(answer[0], answer[1]));
            }

            private Step next(String answer) {
                return turn > turns ? Step.end(null) : Step.of(new Observation("referee", answer));
            }

            @Override
            public Score score(Context context) {
                final boolean right = secret.equals(last);
                final Map<String, Double> figures = new LinkedHashMap<>();
                figures.put("turns", (double) turn);
                figures.put("solved_at", (double) solvedAt);
                figures.put("consistent", guesses == 0 ? 0 : (double) consistent / guesses);
                final int[] places = last == null ? new int[2] : compare(secret, last);
                final double share = (places[0] + 0.5 * places[1]) / secret.length();
                return new Score(right ? 1 : dense ? share : 0, right, figures);
            }
        };
    }
}
