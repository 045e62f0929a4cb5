package org.teamtr.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.function.ObjIntConsumer;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.teamtr.kernels.SamplingConfig;
import org.teamtr.team.Agent;
import org.teamtr.team.Context;
import org.teamtr.team.Generation;
import org.teamtr.team.Prompt;
import org.teamtr.team.PromptTemplate;
import org.teamtr.team.Prompts;
import org.teamtr.team.Rollout;
import org.teamtr.team.Router;
import org.teamtr.team.Team;
import org.teamtr.team.Truncation;
import org.teamtr.team.Utterance;
import org.teamtr.team.Verifier;
import org.teamtr.team.View;

/** Stage-0 on policies that are tables, whose KL of whole messages can be added up without any chain rule. */
class AlignmentTest {
    private static final int VOCAB = 3;
    private static final int LENGTH = 2;
    private static final double T = 0.5;
    private static final Generation SAMPLING = new Generation(T, SamplingConfig.ALL, LENGTH, Truncation.ERROR);
    private static final Verifier NONE = context -> new Verifier.Score(0, false);
    private static final ObjIntConsumer<Estimate> UNWATCHED = (kl, step) -> {};
    private static final Prompts THREE = Prompts.of(3, i -> new Prompt("p" + i, "xyz".substring(i, i + 1), null));

    private final TabularPolicy first = new TabularPolicy(VOCAB, 5, 1);
    private final TabularPolicy incumbent = new TabularPolicy(VOCAB, 6, 1.5);
    private final TabularPolicy fresh = new TabularPolicy(VOCAB, 7, 1.5);

    private static Agent agent(String role, TabularPolicy policy, View view) {
        return new Agent(role, policy, new PromptTemplate(null, "{prompt}{transcript}", "{text}."), view, false);
    }

    private Team team(TabularPolicy second, Router router, int turns) {
        return new Team(List.of(agent("one", first, View.NONE), agent("two", second, View.NONE)), router, turns,
                context -> false);
    }

    private List<Utterance> lessons(int n, boolean sameTokens) {
        final Agent two = team(fresh, Router.ROUND_ROBIN, 2).agents().get(1);
        return Alignment.probes(team(incumbent, Router.ROUND_ROBIN, 2), 1, THREE, n, SAMPLING, NONE, 9).stream()
                .map(probe -> Alignment.lesson(probe, two, SAMPLING, sameTokens)).toList();
    }

    private static Alignment.Settings settings(double delta0, int steps) {
        return new Alignment.Settings(delta0, Config.Unit.MESSAGE, steps, 30, 1, 4);
    }

    /** KL of whole messages at one prompt. */
    private static double kl(TabularPolicy p, TabularPolicy q, int[] prompt) {
        double kl = 0;
        for (int[] m : p.messages(LENGTH)) {
            kl += Math.exp(p.logProb(prompt, m, T)) * (p.logProb(prompt, m, T) - q.logProb(prompt, m, T));
        }
        return kl;
    }

    /** Eq. 11 over some messages, each token's KL in double. */
    private double monitor(List<Utterance> messages) {
        double sum = 0;
        for (Utterance m : messages) {
            for (int u = 0; u < m.tokens().length; u++) {
                final double[] p = incumbent.logProbs(m.prompt(), m.tokens(), u, T);
                final double[] q = fresh.logProbs(m.prompt(), m.tokens(), u, T);
                sum += IntStream.range(0, VOCAB).mapToDouble(v -> Math.exp(p[v]) * (p[v] - q[v])).sum();
            }
        }
        return sum / messages.size();
    }

    // ---- probes ----

    @Test
    void probesAreWhatTheIncumbentSaysAndWhere() {
        final Team team = new Team(List.of(agent("one", first, View.TRANSCRIPT), agent("two", incumbent, View.TRANSCRIPT)),
                Router.ROUND_ROBIN, 4, context -> false);
        final List<Alignment.Probe> probes = Alignment.probes(team, 1, THREE, 200, SAMPLING, NONE, 9);
        assertEquals(200, probes.size());
        for (Alignment.Probe probe : probes) {
            assertEquals(1, probe.context().turn() % 2, "the second agent speaks in every second turn");
            assertEquals(1 - probe.context().turn() % 2, probe.context().last().agent());
            assertArrayEquals(Rollout.ask(team.agents().get(1), probe.context(), SAMPLING), probe.said().prompt());
            double sum = 0;
            for (float logProb : probe.said().logProbs()) {
                sum += logProb;
            }
            assertEquals(incumbent.logProb(probe.said().prompt(), probe.said().tokens(), T), sum, 1e-5);
        }
        assertEquals(2, probes.stream().map(p -> p.context().turn()).distinct().count());
        final List<Alignment.Probe> again = Alignment.probes(team, 1, THREE, 200, SAMPLING, NONE, 9);
        for (int i = 0; i < 200; i++) {
            assertArrayEquals(probes.get(i).said().tokens(), again.get(i).said().tokens());
        }
    }

    @Test
    void anAgentThatNeverSpeaksIsNamed() {
        assertEquals("probes: expected two to speak 5 times, given 0 in 128 episodes",
                assertThrows(IllegalArgumentException.class, () -> Alignment.probes(team(incumbent, Router.sequence(0), 2), 1,
                        THREE, 5,
                        SAMPLING, NONE, 9)).getMessage());
    }

    @Test
    void lessonsOfOtherTokensKeepTheTextAndItsLikelihood() {
        final Alignment.Probe ended = new Alignment.Probe(Context.of(THREE.get(0), List.of("a")),
                new Utterance(new int[] {1}, new int[] {4, 5, 0}, new float[] {-1, -2, -0.5f}, "b", true, 3));
        final Agent two = agent("two", fresh, View.TRANSCRIPT);
        final Utterance lesson = Alignment.lesson(ended, two, SAMPLING, false);
        assertArrayEquals("xa.".chars().toArray(), lesson.prompt());
        assertArrayEquals(new int[] {2, 0}, lesson.tokens());
        assertArrayEquals(new float[] {-1.75f, -1.75f}, lesson.logProbs());
        final Utterance cut = new Utterance(new int[] {1}, new int[] {4, 5}, new float[] {-1, -2}, "b", false, 3);
        assertArrayEquals(new int[] {2}, Alignment.lesson(new Alignment.Probe(ended.context(), cut), two, SAMPLING,
                false).tokens());
        final Utterance nothing = new Utterance(new int[] {1}, new int[] {4}, new float[] {-1}, "", false, 3);
        assertNull(Alignment.lesson(new Alignment.Probe(ended.context(), nothing), two, SAMPLING, false));
        assertArrayEquals(new int[] {4, 5, 0}, Alignment.lesson(ended, two, SAMPLING, true).tokens());
    }

    // ---- aligning ----

    @Test
    void itStopsInsideTheRadius() {
        final List<Utterance> lessons = lessons(300, true);
        final List<Utterance> validation = lessons.subList(240, 300);
        final double before = monitor(validation);
        final List<Integer> measured = new ArrayList<>();
        final ObjIntConsumer<Estimate> watch = (kl, step) -> measured.add(step);
        final Alignment.Result r = Alignment.align(fresh, lessons, T, incumbent.snapshot(), settings(0.02, 2000), watch);
        assertEquals("delta0", r.stoppedBy());
        assertEquals(240, r.probes());
        assertEquals(60, r.validation());
        assertEquals(before, r.klSwapped().mean(), 1e-5);
        assertTrue(before > 0.1, "there is something to do: " + before);
        assertEquals(monitor(validation), r.kl().mean(), 1e-5);
        assertTrue(r.kl().mean() <= 0.02);
        assertTrue(r.kl().mean() > 0.005, "it stops when it is inside and goes no further: " + r);
        assertTrue(r.steps() > 0 && r.steps() < 2000, r.toString());
        assertEquals(IntStream.rangeClosed(0, r.steps() / 8).mapToObj(i -> 8 * i).toList(), measured, "after every round of 8");
        // The monitor's mean over sampled messages is the KL of whole messages, at the prompts as they were drawn.
        final double whole = validation.stream().mapToDouble(m -> kl(incumbent, fresh, m.prompt())).average().orElseThrow();
        assertEquals(whole, r.kl().mean(), 5 * r.kl().error());
    }

    @Test
    void withTooFewStepsItSaysSoAndKeepsTheBest() {
        final List<Utterance> lessons = lessons(300, true);
        final Alignment.Result r = Alignment.align(fresh, lessons, T, incumbent.snapshot(), settings(1e-6, 24), UNWATCHED);
        assertEquals("steps", r.stoppedBy());
        assertEquals(24, r.steps());
        assertTrue(r.kl().mean() < r.klSwapped().mean());
        assertEquals(monitor(lessons.subList(240, 300)), r.kl().mean(), 1e-5);
        // Steps that only make it worse are all taken back.
        final TabularPolicy other = new TabularPolicy(VOCAB, 8, 1.5);
        other.score(Batch.of(lessons, new float[300], new float[300]), T, null);
        final double[] logits = other.logits(lessons.get(0).prompt(), new int[0], 0).clone();
        final Alignment.Result wild = Alignment.align(other, lessons, T, incumbent.snapshot(),
                new Alignment.Settings(1e-6, Config.Unit.MESSAGE, 16, 30, 1e6, 4), UNWATCHED);
        assertEquals(wild.klSwapped(), wild.kl());
        assertArrayEquals(logits, other.logits(lessons.get(0).prompt(), new int[0], 0));
    }

    @Test
    void withoutStepsItOnlyMeasures() {
        final long before = fresh.fingerprint();
        final Alignment.Result r = Alignment.align(fresh, lessons(50, true), T, incumbent.snapshot(), settings(0.01, 0), UNWATCHED);
        assertEquals("none", r.stoppedBy());
        assertEquals(r.klSwapped(), r.kl());
        assertEquals(before, fresh.fingerprint());
        final Alignment.Result same = Alignment.align(incumbent, lessons(50, true), T, incumbent.snapshot(), settings(0.01, 5),
                UNWATCHED);
        assertEquals(0, same.kl().mean());
        assertEquals(0, same.steps(), "inside already");
        assertEquals("delta0", same.stoppedBy());
    }

    /** The incumbent's messages have to do: at the temperature they were sampled at, or the new policy gets too sharp. */
    @Test
    void textsAloneTeachTheSameDistribution() {
        final List<Utterance> lessons = lessons(4000, false);
        final int[] prompt = lessons.get(0).prompt();
        final double before = kl(incumbent, fresh, prompt);
        final Alignment.Result r = Alignment.align(fresh, lessons, T, null, settings(1e-7, 2000), UNWATCHED);
        final double after = kl(incumbent, fresh, prompt);
        assertTrue(before > 0.1 && after < 0.01, before + " to " + after);
        assertEquals(0, r.kl().mean(), 4 * r.kl().error() + 0.01);
        assertTrue(r.kl().mean() < r.klSwapped().mean());
    }

    @Test
    void theSameCallsGiveTheSamePolicy() {
        Alignment.align(fresh, lessons(100, true), T, incumbent.snapshot(), settings(0.01, 50), UNWATCHED);
        final TabularPolicy other = new TabularPolicy(VOCAB, 7, 1.5);
        Alignment.align(other, lessons(100, true), T, incumbent.snapshot(), settings(0.01, 50), UNWATCHED);
        assertEquals(fresh.fingerprint(), other.fingerprint());
    }

    @Test
    void whatItRefuses() {
        assertEquals("delta0: expected more than 0 and finite, given 0.0",
                assertThrows(IllegalArgumentException.class, () -> settings(0, 1)).getMessage());
        assertEquals("steps: expected 0 or more, given -1",
                assertThrows(IllegalArgumentException.class, () -> settings(1, -1)).getMessage());
        assertEquals("lessons: expected 2 or more, to learn from and to measure on, given 1",
                assertThrows(IllegalArgumentException.class, () -> Alignment.align(fresh, lessons(1, true), T, null, settings(1, 1),
                        UNWATCHED)).getMessage());
    }

    @Test
    void anEstimateByHand() {
        final Estimate e = Estimate.of(1, 2, 3, 6);
        assertEquals(3, e.mean());
        assertEquals(Math.sqrt((4 + 1 + 0 + 9) / 3.0 / 4), e.error(), 1e-15);
        assertTrue(Double.isNaN(Estimate.of(1).error()));
        assertTrue(Double.isNaN(Estimate.of().mean()));
    }
}
