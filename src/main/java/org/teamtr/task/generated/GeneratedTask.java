package org.teamtr.task.generated;

import java.util.List;
import java.util.Locale;
import java.util.SplittableRandom;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.teamtr.team.KeyedRandom;
import org.teamtr.team.Context;
import org.teamtr.team.Prompt;
import org.teamtr.team.Prompts;
import org.teamtr.team.Teacher;

/**
 * A task whose prompts a program generates. It comes with a teacher, from which an untrained model learns the form of messages and some of
 * their content. The teacher is deliberately wrong at times, so that training can improve on it.
 */
public abstract class GeneratedTask {
    /** All of them. */
    public enum Name {
        /** {@link Guessing}. */
        GUESS_NUMBER,
        /** {@link Blocksworld}. */
        BLOCKSWORLD,
        /** {@link Arithmetic}. */
        ARITHMETIC;

        /** {@return its name in files} */
        @Override
        public String toString() {
            return name().toLowerCase(Locale.ROOT);
        }
    }

    /**
     * {@return a task}
     *
     * @param size digits of the secret, blocks, or numbers of the sum
     * @param choices digits there are, names of blocks there are, or the largest number
     * @throws IllegalArgumentException if a number is out of range
     */
    public static GeneratedTask named(Name name, int size, int choices) {
        return switch (name) {
            case GUESS_NUMBER -> new Guessing(size, choices);
            case BLOCKSWORLD -> new Blocksworld(size, choices);
            case ARITHMETIC -> new Arithmetic(size, choices);
        };
    }

    /** The characters of prompts, messages and observations: the line break, and ASCII from blank to tilde. */
    public static final String CHARACTERS = IntStream.rangeClosed(' ', '~').mapToObj(Character::toString).collect(Collectors.joining("", "\n", ""));

    /** {@return phrases that are frequent in its texts: as tokens of the model they make the texts shorter} */
    public abstract List<String> phrases();

    /** {@return the verifier that scores messages where no environment does} */
    public abstract String verifier();

    /**
     * {@return a prompt} Its id is not used.
     *
     * @param number of the prompt in its set
     * @param set a seed of the set's own
     * @param random of this draw
     */
    protected abstract Prompt draw(int number, long set, SplittableRandom random);

    /** {@return whether training prompts and held-out prompts are disjoint; not where both need all possible prompts} */
    protected boolean apart() {
        return true;
    }

    /** {@return the message of a teacher that is right} */
    protected abstract String right(Context context, SplittableRandom random);

    /** {@return the message of a teacher that is wrong} It may be right by chance. */
    protected abstract String wrong(Context context, SplittableRandom random);

    /**
     * {@return prompts; of two sets of different names none are the same, except where {@link #apart} is false}
     *
     * @param heldOut whether they are the ones to evaluate on
     */
    public Prompts prompts(boolean heldOut, int size, long seed) {
        final String set = heldOut ? "held-out" : "train";
        return Prompts.of(size, i -> {
            final SplittableRandom random = KeyedRandom.of(seed, set.hashCode(), i);
            final long own = KeyedRandom.seed(seed, set.hashCode());
            Prompt p = draw(i, own, random);
            while (apart() && (Math.floorMod(KeyedRandom.seed(p.text().hashCode()), 4) == 0) != heldOut) { // a quarter is held out
                p = draw(i, own, random);
            }
            return new Prompt(set + ":" + i, p.text(), p.answer(), p.source(), p.meta());
        });
    }

    /**
     * {@return a teacher}
     *
     * @param mistakes the share of its messages that are wrong, 0 to 1
     */
    public Teacher teacher(double mistakes) {
        return (context, role, random) -> random.nextDouble() < mistakes ? wrong(context, random) : right(context, random);
    }

    static void check(String name, int given, int least, int most, String of) {
        if (given < least || given > most) {
            throw new IllegalArgumentException("task.generated." + name + ": expected " + least + " to " + most + " for " + of + ", given " + given);
        }
    }
}
