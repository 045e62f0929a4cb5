package org.teamtr.team;

import java.util.List;
import java.util.Map;
import java.util.Objects;

/**
 * An environment of a team: it reads messages and answers with observations, may end an episode, and scores it.
 *
 * <p>An environment holds no state of an episode; {@link #start} makes it. The same prompt, seed and messages give the same
 * observations and the same score, so that a resumed run plays the same episodes. All episodes of a group have
 * the same seed. A fault is an exception: it ends the run, names the prompt, and is never a score.
 *
 * <p>Called from one thread at a time.
 */
public interface Environment extends Verifier {
    /** One episode. */
    interface Course {
        /** {@return what the team reads after the prompt before it begins, or null} */
        default Observation opening() {
            return null;
        }

        /** {@return the question to the oracle before the first message, whose answer is then the opening; null for none} */
        default List<ChatTurn> openingQuestion() {
            return null;
        }

        /** {@return the answer to a message} It is in the context already. */
        Step step(Message message, Context context);

        /**
         * {@return the step after an oracle's answer to the question of the last step}
         *
         * @throws IllegalStateException if nothing was asked
         */
        default Step answered(String answer) {
            throw new IllegalStateException("an answer to no question");
        }

        /** {@return the score, after the end or when the team ran out of turns} */
        Score score(Context context);
    }

    /**
     * The reaction of an environment to a message.
     *
     * @param observation what the agents read next, or null
     * @param done whether the episode is over
     * @param question turns of a chat that the oracle has to answer first, or null; if it is not null, the other components are ignored
     */
    record Step(Observation observation, boolean done, List<ChatTurn> question) {
        /** No observation; the episode continues. */
        public static final Step NOTHING = new Step(null, false, null);

        /** {@return an observation after which the episode continues} */
        public static Step of(Observation observation) {
            return new Step(Objects.requireNonNull(observation, "observation"), false, null);
        }

        /** {@return the end, with an observation or null} */
        public static Step end(Observation observation) {
            return new Step(observation, true, null);
        }

        /** {@return a question to the oracle} */
        public static Step ask(List<ChatTurn> question) {
            return new Step(null, false, List.copyOf(question));
        }
    }

    /**
     * {@return an episode, or null for a prompt whose episodes have no environment}
     *
     * @param seed of everything random in it
     * @throws IllegalArgumentException if the prompt lacks what is needed
     */
    Course start(Prompt prompt, long seed);

    /** {@return the oracle that answers the questions of steps, or null where there are none} */
    default Oracle oracle() {
        return null;
    }

    /** {@return descriptions of the tools that messages may call, as chat templates take them; empty for none} */
    default List<Map<String, Object>> tools() {
        return List.of();
    }

    /** {@return the score of an episode, by playing it again} Where oracles answer, only what they answered then could be scored. */
    @Override
    default Score score(Context episode) {
        final Course course = start(episode.prompt(), episode.seed());
        if (course == null || oracle() != null) {
            throw new IllegalStateException(episode.prompt().id() + ": an episode " + (course == null ? "without environment"
                    : "with an oracle") + " cannot be played again");
        }
        course.opening();
        for (int t = 0; t < episode.turn(); t++) {
            course.step(episode.messages().get(t), episode.before(t + 1));
        }
        return course.score(episode);
    }
}
