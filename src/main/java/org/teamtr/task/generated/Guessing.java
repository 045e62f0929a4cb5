package org.teamtr.task.generated;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.SplittableRandom;
import org.teamtr.task.environment.GuessNumber;
import org.teamtr.team.KeyedRandom;
import org.teamtr.team.Context;
import org.teamtr.team.Message;
import org.teamtr.team.Prompt;

/**
 * A secret number of different digits from 1 on, for {@link GuessNumber}. A teacher who is right guesses a number that the answers so far
 * allow, one who is wrong any number. Every number can be the secret in training and in held-out episodes: otherwise the model would learn
 * that some numbers never are.
 */
final class Guessing extends GeneratedTask {
    private final int size;
    private final int choices;
    private final List<String> numbers = new ArrayList<>();

    Guessing(int size, int choices) {
        check("choices", choices, 2, 9, "guess_number");
        check("size", size, 1, Math.min(4, choices), "guess_number with " + choices + " digits to choose from");
        this.size = size;
        this.choices = choices;
        numbers("");
    }

    private void numbers(String start) {
        if (start.length() == size) {
            numbers.add(start);
            return;
        }
        for (char digit = '1'; digit < '1' + choices; digit++) {
            if (start.indexOf(digit) < 0) {
                numbers(start + digit);
            }
        }
    }

    @Override
    public List<String> phrases() {
        // The question and the referee's answers also have digits, which are not to be read as guesses.
        final List<String> phrases = new ArrayList<>(List.of(question(), "no guess found"));
        if (size > 1) {
            phrases.addAll(numbers);
        }
        for (int same = 0; same <= size; same++) {
            for (int elsewhere = 0; same + elsewhere <= size; elsewhere++) {
                phrases.add(GuessNumber.answer(same, elsewhere));
            }
        }
        return phrases;
    }

    @Override
    public String verifier() {
        return "number";
    }

    @Override
    protected boolean apart() {
        return false;
    }

    /**
     * All numbers in random order, then all in another order: if some were the secret more often by chance, a batch would teach the model
     * to guess these.
     */
    @Override
    protected Prompt draw(int number, long set, SplittableRandom random) {
        final int round = number / numbers.size();
        return new Prompt("", question(), numbers.get(KeyedRandom.permutation(numbers.size(), set, round)[number % numbers.size()]));
    }

    private String question() {
        return "Guess my number of " + size + " different digits from 1 to " + choices + ".";
    }

    private static String any(List<String> some, SplittableRandom random) {
        return some.get(random.nextInt(some.size()));
    }

    @Override
    protected String right(Context context, SplittableRandom random) {
        final String secret = context.prompt().answer();
        final List<String> guesses = context.messages().stream().map(Message::text).map(text -> GuessNumber.guess(text, size))
                .filter(guess -> guess != null).toList();
        return any(
                numbers.stream()
                        .filter(number -> guesses.stream()
                                .allMatch(guess -> Arrays.equals(GuessNumber.compare(number, guess), GuessNumber.compare(secret, guess))))
                        .toList(),
                random);
    }

    @Override
    protected String wrong(Context context, SplittableRandom random) {
        return any(numbers, random);
    }
}
