package org.teamtr.task.environment;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.teamtr.task.Grader;
import org.teamtr.task.Verifiers;
import org.teamtr.team.ChatTurn;
import org.teamtr.team.Context;
import org.teamtr.team.Environment;
import org.teamtr.team.Message;
import org.teamtr.team.Observation;
import org.teamtr.team.Oracle;
import org.teamtr.team.Prompt;

/**
 * AR-Bench's situation puzzles: an oracle that knows what happened, the reference answer, answers questions by Yes, No or Unknown, each
 * by itself. After {@code turns} of these comes the explanation, which is scored by its overlap with the reference answer. Figures:
 * {@code f1_char}, {@code f1_word}, {@code turns}.
 */
public final class SituationPuzzle implements Environment {
    private static final Grader GRADER = Verifiers.grader("overlap", Verifiers.Settings.DEFAULT);

    private final int turns;
    private final Oracle oracle;

    public SituationPuzzle(int turns, Oracle oracle) {
        this.turns = turns;
        this.oracle = oracle;
    }

    @Override
    public Oracle oracle() {
        return oracle;
    }

    @Override
    public Course start(Prompt prompt, long seed) {
        try {
            GRADER.check(prompt);
        } catch (IllegalArgumentException e) {
            throw new IllegalArgumentException(prompt.id() + ": " + e.getMessage(), e);
        }
        return new Course() {
            private int turn;

            @Override
            public Step step(Message message, Context context) {
                return turn >= turns ? Step.end(null) : Step.ask(List.of(new ChatTurn("system", "You are the referee of a riddle. What the players see: "
                        + prompt.text() + "\nWhat happened: " + prompt.answer() + "\nAnswer the question by Yes, No or Unknown alone, or say that it is no"
                        + " question."), new ChatTurn("user", message.text())));
            }

            @Override
            public Step answered(String answer) {
                turn++;
                return Step.of(new Observation("referee", answer.strip().replaceFirst("\\.$", "") + (turn < turns ? "" : "\nNow say what happened.")));
            }

            @Override
            public Score score(Context context) {
                final Grader.Grade grade = GRADER.grade(prompt, context.last() == null ? "" : context.last().text());
                final Map<String, Double> figures = new LinkedHashMap<>(grade.figures());
                figures.put("turns", (double) turn);
                return new Score(grade.share(), grade.correct(), figures);
            }
        };
    }
}
