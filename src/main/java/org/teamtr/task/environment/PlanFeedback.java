package org.teamtr.task.environment;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.teamtr.task.Grader;
import org.teamtr.task.PlanBench;
import org.teamtr.task.plan.BlocksEnglish;
import org.teamtr.task.plan.Strips;
import org.teamtr.team.Context;
import org.teamtr.team.Environment;
import org.teamtr.team.Message;
import org.teamtr.team.Observation;
import org.teamtr.team.Prompt;

/**
 * Plans of PlanBench with validation: a plan that is not valid is answered by its first fault, the action and what it lacks, or by the
 * goals that were not reached. The episode ends with a valid plan, or after so many rounds.
 *
 * <p>Figures: those of {@link PlanBench}, and {@code rounds} that were used.
 */
public final class PlanFeedback implements Environment {
    private final int rounds;
    private final PlanBench grader;
    private final boolean dense;

    /**
     * @param rounds the number of plans that are checked, 1 or more
     * @param official see {@link PlanBench}
     */
    public PlanFeedback(int rounds, boolean official, boolean dense) {
        if (rounds < 1) {
            throw new IllegalArgumentException("turns: expected 1 or more, given " + rounds);
        }
        this.rounds = rounds;
        this.grader = new PlanBench(official);
        this.dense = dense;
    }

    @Override
    public Range range() {
        return new Range(0, 1);
    }

    @Override
    public Course start(Prompt prompt, long seed) {
        final Strips domain;
        final Strips.Problem problem;
        try {
            grader.check(prompt);
            domain = PlanBench.domain(prompt);
            problem = PlanBench.problem(prompt);
        } catch (IllegalArgumentException e) {
            throw new IllegalArgumentException(prompt.id() + ": " + e.getMessage(), e);
        }
        return new Course() {
            private int round;

            @Override
            public Step step(Message message, Context context) {
                round++;
                final List<String> plan = grader.read(prompt, message.text());
                final String fault = plan == null ? "The above plan is invalid. Every line is to be one action, as in the example."
                        : BlocksEnglish.fault(domain.run(problem, plan), plan);
                return fault == null || round >= rounds ? Step.end(null) : Step.of(new Observation("validator", fault));
            }

            @Override
            public Score score(Context context) {
                if (context.last() == null) {
                    return new Score(0, false, Map.of("rounds", 0.0));
                }
                final Grader.Grade grade = grader.grade(prompt, context.last().text());
                final Map<String, Double> figures = new LinkedHashMap<>(grade.figures());
                figures.put("rounds", (double) round);
                return new Score(grade.correct() ? 1 : dense ? grade.share() : 0, grade.correct(), figures);
            }
        };
    }
}
