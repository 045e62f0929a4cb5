package org.teamtr.team;

/** Judges a finished episode. Called from one thread at a time. */
@FunctionalInterface
public interface Verifier {
    /**
     * @param reward the return of the episode, finite
     * @param correct whether the task was solved, for accuracy
     */
    record Score(double reward, boolean correct) {
        /** @throws IllegalArgumentException if the reward is not a finite number */
        public Score {
            if (!Double.isFinite(reward)) {
                throw new IllegalArgumentException("reward: expected a finite number, given " + reward);
            }
        }
    }

    /** {@return the score of an episode; sees the prompt and all messages} */
    Score score(Context episode);
}
