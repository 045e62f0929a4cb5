package org.teamtr.task.environment;

import java.util.LinkedHashMap;
import java.util.Map;
import org.teamtr.task.Grader;
import org.teamtr.task.Verifiers;
import org.teamtr.team.Context;
import org.teamtr.team.Environment;
import org.teamtr.team.Message;
import org.teamtr.team.Observation;
import org.teamtr.team.Oracle;
import org.teamtr.team.Prompt;

/**
 * AR-Bench's games with an oracle: a number of turns in which questions are answered, then a final message that a grader scores. Figures: the
 * grader's, {@code turns}, and those of the game.
 */
abstract class Inquiry implements Environment {
    private final Grader grader;
    private final int turns;
    private final Oracle oracle;

    /** @param grader by name, see {@link Verifiers} */
    Inquiry(String grader, int turns, Oracle oracle) {
        this.grader = Verifiers.grader(grader, Verifiers.Settings.DEFAULT);
        this.turns = turns;
        this.oracle = oracle;
    }

    /** {@return the game of a prompt, which has a reference answer} */
    abstract Game game(Prompt prompt);

    @Override
    public Oracle oracle() {
        return oracle;
    }

    @Override
    public Range range() {
        return new Range(0, 1);
    }

    @Override
    public Course start(Prompt prompt, long seed) {
        try {
            grader.check(prompt);
        } catch (IllegalArgumentException e) {
            throw new IllegalArgumentException(prompt.id() + ": " + e.getMessage(), e);
        }
        return game(prompt);
    }

    /** One episode. */
    abstract class Game implements Course {
        private final Prompt prompt;
        private int turn;

        Game(Prompt prompt) {
            this.prompt = prompt;
        }

        /** {@return what follows from a message in a turn that is left} */
        abstract Step heard(Message message);

        /** {@return figures of one's own} */
        Map<String, Double> figures() {
            return Map.of();
        }

        @Override
        public Step step(Message message, Context context) {
            return turn >= turns ? Step.end(null) : heard(message);
        }

        /**
         * {@return what ends a turn}
         *
         * @param said the answer that agents see
         * @param next what follows it before another turn; {@code %d} stands for its number
         * @param last what follows it after the last
         */
        Step next(String role, String said, String next, String last) {
            turn++;
            return Step.of(new Observation(role, said + (turn < turns ? next.replace("%d", Integer.toString(turn + 1)) : last)));
        }

        @Override
        public Score score(Context context) {
            final Grader.Grade grade = grader.grade(prompt, context.last() == null ? "" : context.last().text());
            final Map<String, Double> figures = new LinkedHashMap<>(grade.figures());
            figures.put("turns", (double) turn);
            figures.put("answered", grade.answered() ? 1.0 : 0);
            figures.putAll(figures());
            return new Score(grade.share(), grade.correct(), figures);
        }
    }
}
