package org.teamtr.team;

import java.util.List;

/** Answers the questions of environments: a suspect, a referee, a customer. A model, an endpoint or a script. */
public interface Oracle {
    /**
     * {@return an answer to every question}
     *
     * @param questions conversations, each up to where the answer stands
     * @param seed of this turn
     * @param ids [questions], the keys of their random numbers
     * @throws Failure if there is no answer to one of them; it ends the run
     */
    List<String> answer(List<List<ChatTurn>> questions, long seed, long[] ids);

    /** Prepares for {@link #answer}, as {@link Speaker#ready} does. */
    default void ready() {
    }

    /** {@return a policy as an oracle}; it is prompted with its own chat template and is not trained */
    static Oracle of(Speaker speaker, Generation generation) {
        return new Oracle() {
            @Override
            public List<String> answer(List<List<ChatTurn>> questions, long seed, long[] ids) {
                return speaker.generate(questions.stream().map(speaker::encode).toList(), generation, seed, ids).stream().map(Utterance::text)
                        .toList();
            }

            @Override
            public void ready() {
                speaker.ready();
            }
        };
    }

    /** A question was not answered. */
    final class Failure extends RuntimeException {
        private static final long serialVersionUID = 1;
        private final int question;

        /** @param question its index among those asked */
        public Failure(int question, String message, Throwable cause) {
            super(message, cause);
            this.question = question;
        }

        /** {@return the index of the question} */
        public int question() {
            return question;
        }
    }
}
