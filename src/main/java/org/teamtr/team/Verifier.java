package org.teamtr.team;

import java.util.Collections;
import java.util.Map;
import java.util.TreeMap;

/** Judges a finished episode. Called from one thread at a time. */
@FunctionalInterface
public interface Verifier {
    /**
     * @param reward the return of the episode, finite
     * @param correct whether the task was solved, for accuracy
     * @param figures further ones, by name, for evaluations
     */
    record Score(double reward, boolean correct, Map<String, Double> figures) {
        /** @throws IllegalArgumentException if the reward is not a finite number */
        public Score {
            if (!Double.isFinite(reward)) {
                throw new IllegalArgumentException("reward: expected a finite number, given " + reward);
            }
            figures = Collections.unmodifiableMap(new TreeMap<>(figures)); // in one order, so that files of equal runs are equal
        }

        /** A score without further figures. */
        public Score(double reward, boolean correct) {
            this(reward, correct, Map.of());
        }
    }

    /**
     * An interval that holds every reward.
     *
     * @param least finite
     * @param most finite and more
     */
    record Range(double least, double most) {
        /** @throws IllegalArgumentException if it is none */
        public Range {
            if (!(least < most) || Double.isInfinite(most - least)) {
                throw new IllegalArgumentException("range: expected two finite numbers, the second more than the first, given " + least + " and "
                        + most);
            }
        }

        /** {@return whether it holds a reward} */
        public boolean holds(double reward) {
            return reward >= least && reward <= most;
        }
    }

    /** {@return the score of an episode; sees the prompt and all messages} */
    Score score(Context episode);

    /** {@return the range of rewards, or null where it is not known; a bound on an update's gain needs it} */
    default Range range() {
        return null;
    }
}
