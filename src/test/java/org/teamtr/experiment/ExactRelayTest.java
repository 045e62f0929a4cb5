package org.teamtr.experiment;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.teamtr.task.Budget;
import org.teamtr.team.Context;
import org.teamtr.team.Prompt;
import org.teamtr.team.View;
import org.teamtr.train.Config;
import org.teamtr.train.RunLog;
import org.teamtr.train.TrainerTest;

class ExactRelayTest {
    private static final class Heard extends TrainerTest.Heard {
        double predicted() {
            return updates.stream().mapToDouble(RunLog.Update::predictedGain).sum();
        }

        double realised() {
            return stages.stream().skip(1).mapToDouble(v -> v.gain().realisedGain()).sum();
        }
    }

    private static Heard run(int agents, double delta, int resampleEvery, int stages, Object order) {
        return run("transcript", agents, delta, resampleEvery, stages, order);
    }

    private static Heard run(String view, int agents, double delta, int resampleEvery, int stages, Object order) {
        final TrainerTest.Settings s = new TrainerTest.Settings();
        s.resampleEvery = resampleEvery;
        s.stages = stages;
        s.order = order;
        s.task = new Config.Task(Config.TaskName.BUDGET, new Config.Budget(agents, View.valueOf(view.toUpperCase(Locale.ROOT)), 0, 1),
                null, null, null);
        final Heard heard = new Heard();
        new ExactRelay(s.config(), new Budget(agents, 0),
                IntStream.range(0, agents).mapToObj(Budget::role).toList(), delta).train(heard);
        return heard;
    }

    /** The team before training is one of teachers: as good as sampled lessons are. */
    @ParameterizedTest
    @ValueSource(ints = {2, 5})
    void startsFromTheTeachers(int agents) {
        final Budget budget = new Budget(agents, 0);
        final int goal = 4 * agents;
        final double[] p = budget.teacher(goal, 16);
        assertEquals(1, Arrays.stream(p).sum(), 1e-12);
        // Of the last turn of a lesson its predecessors are teachers' numbers for the same goal: whole episodes.
        final int lessons = 40_000;
        double reward = 0;
        double squares = 0;
        int count = 0;
        for (int j = 0; j < lessons; j++) {
            final Budget.Lesson lesson = budget.lesson(View.TRANSCRIPT, j);
            final String[] said = (lesson.asked().get(0).content() + lesson.answer()).split("[=+]");
            if (said.length == agents + 1) {
                final Prompt prompt = new Prompt("p", said[0] + "=", said[0]);
                final double r = budget.score(Context.of(prompt, List.of(said).subList(1, agents + 1))).reward();
                reward += r;
                squares += r * r;
                count++;
            }
        }
        final double mean = reward / count;
        final double error = Math.sqrt((squares / count - mean * mean) / count);
        assertTrue(error < 0.01, "error " + error);
        assertEquals(mean, run(agents, 0.1, 1, 0, "fixed").stages.get(0).heldOut().returnMean(), 4 * error);
    }

    /** Every agent speaks once, so the fresh surrogate is the gain, at any step size. */
    @ParameterizedTest
    @ValueSource(doubles = {0.001, 0.2, 5})
    void freshPromisesAreKeptToTheDigit(double delta) {
        for (int agents = 1; agents < 8; agents++) {
            final Heard fresh = run(agents % 2 == 0 ? "none" : "transcript", agents, delta, 1, 3, "random");
            for (int stage = 1; stage <= 3; stage++) {
                assertEquals(fresh.stages.get(stage).gain().predictedGain(), fresh.stages.get(stage).gain().realisedGain(), 1e-12);
                assertTrue(fresh.stages.get(stage).gain().realisedGain() > (stage == 1 ? 0.01 : -1e-12));
            }
            assertTrue(fresh.diagnoses.stream().allMatch(d -> d.staleness().deltaStale() < 1e-14));
        }
    }

    /** By the definitions: old ones miss by what the surrogate differs on the states the team really comes to. */
    @ParameterizedTest
    @ValueSource(strings = {"none", "transcript"})
    void staleShortfallIsTheGap(String view) {
        for (int agents : new int[] {3, 5, 8}) {
            final Heard stale = run(view, agents, 0.2, 0, 1, "random");
            final Heard fresh = run(view, agents, 0.2, 1, 1, "random");
            final double gaps = stale.diagnoses.stream().mapToDouble(v -> v.staleness().gap()).sum();
            final double missing = stale.predicted() - stale.realised();
            assertTrue(missing > 1e-3, agents + " agents: " + missing);
            assertTrue(missing <= gaps + 1e-12, missing + " of " + gaps);
            assertEquals(0, stale.diagnoses.get(0).staleness().gap(), 0);
            assertEquals(gaps, stale.diagnoses.stream().mapToDouble(v -> v.staleness().deltaStale()).sum(), 1e-12);
            assertEquals(stale.updates.get(0).predictedGain(), fresh.updates.get(0).predictedGain(), 0);
        }
    }

    /** Agents who do not see what the others said all mend the whole, and the team overshoots. Fresh rollouts tell them. */
    @Test
    void theBlindTeamOvershootsOnOldRollouts() {
        final double[] n = {3, 4, 5, 6, 7, 8};
        final double[] stale = new double[n.length];
        double more = 0;
        for (int k = 0; k < n.length; k++) {
            final Heard old = run("none", (int) n[k], 0.05, 0, 1, "fixed");
            stale[k] = old.diagnoses.stream().mapToDouble(v -> v.staleness().deltaStale()).sum();
            final double ahead = run("none", (int) n[k], 0.2, 1, 1, "fixed").realised()
                    - run("none", (int) n[k], 0.2, 0, 1, "fixed").realised();
            assertTrue(ahead > more, n[k] + " agents: " + ahead);
            more = ahead;
        }
        assertEquals(2, Drift.of(n, stale).slope(), 0.3);
    }

    @Test
    void everyUpdateGoesToItsRadiusOrHasNothingLeftToGain() {
        final Heard heard = run(3, 0.05, 1, 2, "reversed");
        assertEquals(List.of("critic", "solver", "planner"), heard.stages.get(1).order());
        for (RunLog.Update u : heard.updates) {
            assertEquals(0.05, u.kl(), 1e-9);
            assertTrue(u.kl() <= u.delta());
        }
        final Heard wide = run(2, 1000, 1, 3, "fixed");
        assertTrue(wide.updates.stream().allMatch(u -> u.kl() < 1000 && Double.isFinite(u.predictedGain())));
        assertEquals(1, wide.stages.get(3).heldOut().returnMean(), 1e-9);
        assertEquals(1, wide.stages.get(3).heldOut().accuracy(), 1e-9);
    }

    /** Two agents by hand: all 256 pairs of numbers of every goal. */
    @Test
    void returnByEnumeration() {
        final Budget budget = new Budget(2, 0);
        double reward = 0;
        double right = 0;
        final int goals = budget.goals()[1] - budget.goals()[0] + 1;
        for (int goal = budget.goals()[0]; goal <= budget.goals()[1]; goal++) {
            final double[] p = budget.teacher(goal, 16);
            for (int a = 0; a < 16; a++) {
                for (int b = 0; b < 16; b++) {
                    reward += p[a] * p[b] * Math.max(0, 1 - Math.abs(a + b - goal) / 3.0) / goals;
                    right += a + b == goal ? p[a] * p[b] / goals : 0;
                }
            }
        }
        final RunLog.Stage start = run(2, 0.1, 1, 0, "fixed").stages.get(0);
        assertEquals(reward, start.heldOut().returnMean(), 1e-12);
        assertEquals(right, start.heldOut().accuracy(), 1e-12);
        assertEquals(goals, start.heldOut().heldOutEpisodes());
    }

    /** A radius that is none would have no step to find. */
    @Test
    void badRadius() {
        for (double delta : new double[] {0, -1, Double.NaN, Double.POSITIVE_INFINITY}) {
            final String message = assertThrows(IllegalArgumentException.class, () -> run(2, delta, 1, 1, "fixed")).getMessage();
            assertEquals("delta: expected a finite number more than 0, given " + delta, message);
        }
    }

    @Test
    void badView() {
        final String message =
                assertThrows(IllegalArgumentException.class, () -> run("predecessor", 2, 1, 1, 1, "fixed")).getMessage();
        assertEquals("task.budget.view: expected none or transcript, given predecessor", message);
    }

    /** With an update or two in between, rollouts of the team before are used, and no others. */
    @Test
    void resamplesEverySecond() {
        final Heard heard = run(4, 0.1, 2, 1, "fixed");
        assertEquals(List.of(true, false, true, false), heard.updates.stream().map(RunLog.Update::fresh).toList());
        assertEquals(List.of(true, false, true, false),
                heard.diagnoses.stream().map(d -> d.staleness().deltaStale() < 1e-14).toList());
    }
}
