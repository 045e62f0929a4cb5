package org.teamtr.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.teamtr.kernels.SurrogateConfig;
import org.teamtr.team.Agent;
import org.teamtr.team.Context;
import org.teamtr.team.Prompt;
import org.teamtr.team.PromptTemplate;
import org.teamtr.team.Prompts;
import org.teamtr.team.Router;
import org.teamtr.team.Team;
import org.teamtr.team.Truncation;
import org.teamtr.team.Verifier;
import org.teamtr.team.View;

/** Algorithm 1 with policies that are tables: who is updated, from whose rollouts, and how far. */
public class TrainerTest {
    private static final int VOCAB = 4;

    /** A configuration to vary; fields as the records have them. */
    public static final class Settings {
        public int stages = 3;
        int prompts = 3;
        public Object order = "fixed";
        public Config.Task task;
        boolean joint;
        int group = 4;
        double validation;
        public int resampleEvery = 1;
        double reuseShift;
        int dynamicSampling;
        boolean importanceWeighting;
        double importanceCap;
        String budget = "update";
        Config.Bound certificate = Config.Bound.paper(0.75, 2.0);
        Config.Diagnostics diagnostics = new Config.Diagnostics(false, false, false, false);
        double delta = 0.05;
        String deltaRule = "fixed";
        double deltaTarget = 0.01;
        String monitor = "exact";
        double fraction = 1;
        boolean earlyStop = true;
        boolean rollback = true;
        int halvings = 5;
        String betaRule = "adaptive";
        double learningRate = 1;
        int steps = 4;
        Config.Unit unit = Config.Unit.MESSAGE;
        Policy.Precision monitorDtype = Policy.Precision.SAME;
        Config.FloorRule floor = Config.FloorRule.REFUSE;
        StepLength stepLength = StepLength.MEASURED;
        int turns;
        int length = 3;
        long seed = 1;
        Config.Eval eval = new Config.Eval(1, 4, 2, 1, 1, 2);
        Router router = Router.ROUND_ROBIN;
        Config.Accept accept = Config.Accept.REGION;

        public Config config() {
            return new Config(seed, task, null, Map.of(), null, new Config.Train(stages, Config.Order.of(order), Config.Roles.ALL, joint),
                    new Config.Rollout(prompts, group, validation, 1, 0, 1, 0, length, Truncation.ERROR, resampleEvery, reuseShift,
                            dynamicSampling, importanceWeighting, importanceCap, Config.PromptsPer.valueOf(constant(budget))),
                    new Config.TrustRegion(Config.Radius.of(delta), 1, unit, Config.DeltaRule.valueOf(constant(deltaRule)), deltaTarget,
                            Config.KlEstimator.valueOf(constant(monitor)), monitorDtype, fraction, floor, earlyStop, rollback,
                            stepLength, halvings,
                            0.1, Config.BetaRule.valueOf(constant(betaRule)), 1e-4, 1e3, accept),
                    new Config.Loss(SurrogateConfig.Ratio.MESSAGE, 0.2, 0.2, SurrogateConfig.Aggregation.SEQ_MEAN_TOKEN_MEAN,
                            SurrogateConfig.KlTerm.K3, Config.KlAggregation.UNIT, 0, 2, 1e-6, true),
                    new Config.Optimiser(learningRate, steps, 0.9, 0.999, 1e-8, 0, 1, 1000), eval,
                    new Config.Checkpoint(1, 1), new Config.Hardware("cpu", 1, Matmul.F32, Config.Memory.DEFAULT),
                    certificate, diagnostics);
        }
    }

    private static String constant(String yaml) {
        return yaml.toUpperCase(Locale.ROOT);
    }

    /** All that a run says. */
    public static class Heard implements Trainer.Listener {
        public final List<RunLog.Update> updates = new ArrayList<>();
        public final List<RunLog.Stage> stages = new ArrayList<>();
        public final List<RunLog.Diagnosis> diagnoses = new ArrayList<>();

        @Override
        public void updated(RunLog.Update update) {
            updates.add(update);
        }

        @Override
        public void diagnosed(RunLog.Diagnosis diagnosis) {
            diagnoses.add(diagnosis);
        }

        @Override
        public void staged(RunLog.Stage stage, List<RunLog.Transcript> transcripts) {
            stages.add(stage);
        }
    }

    /** A team of tables and all that happened to it. */
    static final class Game extends Heard {
        final List<TabularPolicy> policies = new ArrayList<>();
        final List<List<Long>> fingerprints = new ArrayList<>();
        final List<Learner> learners = new ArrayList<>();

        /** Agents 0 .. n - 1, agent i with policy {@code policyOf[i]}. */
        static Game play(Settings s, int... policyOf) {
            final Game game = new Game();
            final int count = IntStream.of(policyOf).max().orElseThrow() + 1;
            for (int p = 0; p < count; p++) {
                game.policies.add(new TabularPolicy(VOCAB, 17 + p, 0.7));
            }
            final PromptTemplate template = new PromptTemplate(null, "{role}:{prompt}{transcript}", "[{text}]");
            final List<Agent> agents = new ArrayList<>();
            for (int a = 0; a < policyOf.length; a++) {
                agents.add(new Agent("agent" + a, game.policies.get(policyOf[a]), template, View.TRANSCRIPT, false));
            }
            final Config config = s.config();
            for (int p = 0; p < count; p++) {
                final int policy = p;
                final List<Integer> own = IntStream.range(0, policyOf.length).filter(a -> policyOf[a] == policy).boxed().toList();
                game.learners.add(new Learner(String.join("+", own.stream().map(a -> "agent" + a).toList()), game.policies.get(p), own,
                        s.delta, 0.1));
            }
            final Team team = new Team(agents, s.router, s.turns > 0 ? s.turns : agents.size(), context -> false);
            final Trainer trainer = new Trainer(config, team, game.learners, prompts(), prompts(), TrainerTest::score);
            trainer.train(0, null, game);
            return game;
        }

        @Override
        public void updated(RunLog.Update update) {
            super.updated(update);
            fingerprints.add(policies.stream().map(TabularPolicy::fingerprint).toList());
        }
    }

    static Prompts prompts() {
        return Prompts.of(5, i -> new Prompt("p" + i, Integer.toString(i), null));
    }

    /** The more a's, the better; but no two messages in a row may be the same. */
    static Verifier.Score score(Context episode) {
        double reward = 0;
        String before = null;
        for (var m : episode.messages()) {
            reward += m.text().chars().filter(c -> c == 'a').count() - (m.text().equals(before) ? 1 : 0);
            before = m.text();
        }
        return new Verifier.Score(reward, reward > 2);
    }

    static int[] separate(int n) {
        return IntStream.range(0, n).toArray();
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 2, 3, 5, 8})
    void everyUpdateChangesItsOwnAgentAlone(int n) {
        final Game game = Game.play(new Settings(), separate(n));
        assertEquals(3 * n, game.updates.size());
        List<Long> before = game.policies.stream().map(p -> 1L).toList(); // of a table that is as it was drawn
        for (int i = 0; i < game.updates.size(); i++) {
            final List<Long> after = game.fingerprints.get(i);
            final RunLog.Update u = game.updates.get(i);
            for (int p = 0; p < n; p++) {
                if (!u.agent().equals("agent" + p)) {
                    assertEquals(before.get(p), after.get(p), "policy " + p + " in the update of " + u.agent());
                } else if (u.klReached() > 0) {
                    assertNotEquals(before.get(p), after.get(p), "policy " + p + " in its own update");
                }
            }
            before = after;
        }
    }

    /**
     * F5: fresh rollouts come from the agents updated so far and the old ones of the others, stale ones from the stage's start.
     */
    @Test
    void versionsOfTheRollouts() {
        for (int every : new int[] {1, 0, 2}) {
            final Settings s = new Settings();
            s.resampleEvery = every;
            final Game game = Game.play(s, separate(4));
            final Map<String, Long> now = new HashMap<>(Map.of("agent0", 0L, "agent1", 0L, "agent2", 0L, "agent3", 0L));
            Map<String, Long> rollouts = null;
            final Map<String, Long> lastSeen = new HashMap<>(now);
            for (int i = 0; i < game.updates.size(); i++) {
                final RunLog.Update u = game.updates.get(i);
                final boolean resampled = i % 4 == 0 || every > 0 && (i % 4) % every == 0;
                if (resampled) {
                    rollouts = u.policyVersions();
                    assertTrue(u.fresh());
                    assertTrue(u.tokens() > 0);
                } else {
                    assertEquals(rollouts, u.policyVersions(), "every " + every + ", update " + i);
                    assertEquals(0, u.tokens());
                    assertFalse(u.fresh());
                }
                // Whoever was not updated between two rollouts has the same version in both; whoever was, a later one.
                for (String agent : lastSeen.keySet()) {
                    assertTrue(u.policyVersions().get(agent) >= lastSeen.get(agent), agent);
                    lastSeen.put(agent, u.policyVersions().get(agent));
                }
                if (every == 1 && i > 0) {
                    final RunLog.Update before = game.updates.get(i - 1);
                    for (String agent : now.keySet()) {
                        if (!agent.equals(before.agent())) {
                            assertEquals(before.policyVersions().get(agent), u.policyVersions().get(agent));
                        } else if (before.kl() != 0) {
                            assertTrue(u.policyVersions().get(agent) > before.policyVersions().get(agent));
                        }
                    }
                }
            }
        }
    }

    @Test
    void orders() {
        final Settings s = new Settings();
        s.stages = 12;
        final List<String> forward = List.of("agent0", "agent1", "agent2");
        assertTrue(Game.play(s, separate(3)).updates.stream().allMatch(u -> u.order().equals(forward)));
        s.order = "reversed";
        assertTrue(Game.play(s, separate(3)).updates.stream().allMatch(u -> u.order().equals(List.of("agent2", "agent1", "agent0"))));
        s.order = List.of("agent1", "agent2", "agent0");
        assertTrue(Game.play(s, separate(3)).updates.stream().allMatch(u -> u.order().equals(s.order)));
        s.order = "random";
        final Set<List<String>> met = new HashSet<>();
        for (RunLog.Update u : Game.play(s, separate(3)).updates) {
            assertEquals(Set.copyOf(forward), Set.copyOf(u.order()));
            assertEquals(u.order().get(u.step() - 1), u.agent());
            met.add(u.order());
        }
        assertTrue(met.size() > 2, "orders met: " + met);
    }

    /** The promise of the trust region, for every estimator, at steps far too large. */
    @Test
    void noUpdateLeavesTheRegionWithRollback() {
        int taken = 0;
        int left = 0;
        for (String monitor : List.of("k1", "k3", "exact")) {
            for (double fraction : new double[] {1, 0.5}) {
                for (double delta : new double[] {0.001, 0.03, 0.3}) {
                    final Settings s = new Settings();
                    s.monitor = monitor;
                    s.fraction = fraction;
                    s.delta = delta;
                    s.learningRate = 6; // of which k1's scatter is more than the least radius even where nothing is learnt
                    s.floor = Config.FloorRule.WARN;
                    s.seed = taken;
                    for (RunLog.Update u : Game.play(s, separate(3)).updates) {
                        assertTrue(u.kl() <= delta, monitor + ": " + u);
                        assertFalse(u.outOfRegion());
                        taken += u.rolledBack() ? 1 : 0;
                        assertEquals(u.klReached() > delta, u.rolledBack());
                        assertEquals(u.rolledBack() ? "kl" : "steps", u.stoppedBy());
                    }
                    s.rollback = false;
                    left += (int) Game.play(s, separate(3)).updates.stream().filter(RunLog.Update::outOfRegion).count();
                }
            }
        }
        assertTrue(taken > 30, taken + " roll-backs");
        assertTrue(left > 30, left + " updates out of the region without it");
    }

    /** What the monitor says of the parameters that were accepted is the exact KL of enumerated messages. */
    @Test
    void rollbackRestoresThePolicyToTheBit() {
        final Settings s = new Settings();
        s.halvings = 0;
        s.delta = 1e-9; // no step fits, not even the floor's
        s.floor = Config.FloorRule.WARN;
        s.stages = 1;
        final Game game = Game.play(s, separate(2));
        for (RunLog.Update u : game.updates) {
            assertTrue(u.rolledBack());
            assertEquals(0, u.kl(), 0);
        }
        assertEquals(List.of(1L, 1L), game.fingerprints.get(1));
        assertEquals(Map.of("agent0", 0L, "agent1", 0L), game.updates.get(1).policyVersions());
    }

    @Test
    void betaFollowsTheKlThatWasReached() {
        final Settings s = new Settings();
        s.stages = 6;
        s.learningRate = 6;
        int up = 0;
        for (RunLog.Update u : Game.play(s, separate(2)).updates) {
            final double factor = u.klReached() > 1.5 * u.delta() ? 2 : u.klReached() < u.delta() / 1.5 ? 0.5 : 1;
            assertEquals(u.beta() * factor, u.betaNext(), 1e-12);
            up += factor == 2 ? 1 : 0;
        }
        assertTrue(up > 0);
        s.betaRule = "fixed";
        assertTrue(Game.play(s, separate(2)).updates.stream().allMatch(u -> u.beta() == 0.1 && u.betaNext() == 0.1));
    }

    @Test
    void adaptiveDeltaAimsAtItsTargetAndStaysNear() {
        final Settings s = new Settings();
        s.deltaRule = "adaptive";
        s.stages = 12;
        s.delta = 0.2;
        double last = 0.2;
        for (RunLog.Update u : Game.play(s, separate(1)).updates) {
            assertEquals(last, u.delta(), 1e-12);
            last = Math.min(2, Math.max(0.02, u.delta() * Math.min(1.5, Math.max(1 / 1.5, 0.01 / Math.max(u.kl(), 1e-12)))));
        }
        assertTrue(last < 0.1);
    }

    /** With separate policies, all updates at once are the sequential ones from stale rollouts: nothing passes between them. */
    @Test
    void jointIsStale() {
        final Settings s = new Settings();
        s.resampleEvery = 0;
        final Game stale = Game.play(s, separate(3));
        s.resampleEvery = 1;
        s.joint = true;
        final Game joint = Game.play(s, separate(3));
        assertEquals(stale.fingerprints, joint.fingerprints);
        s.joint = false;
        assertNotEquals(stale.fingerprints, Game.play(s, separate(3)).fingerprints);
    }

    /** The first update of a stage is the same under every schedule: switches change nothing else. */
    @Test
    void schedulesAgreeUntilRolloutsDiffer() {
        final Settings fresh = new Settings();
        fresh.stages = 1;
        final Settings stale = new Settings();
        stale.stages = 1;
        stale.resampleEvery = 0;
        final Settings weighted = new Settings();
        weighted.stages = 1;
        weighted.resampleEvery = 0;
        weighted.importanceWeighting = true;
        final List<Long> first = Game.play(fresh, separate(3)).fingerprints.get(0);
        assertEquals(first, Game.play(stale, separate(3)).fingerprints.get(0));
        assertEquals(first, Game.play(weighted, separate(3)).fingerprints.get(0));
        assertNotEquals(Game.play(stale, separate(3)).fingerprints.get(1), Game.play(weighted, separate(3)).fingerprints.get(1));
    }

    /** Agents that share a policy are one learner; its messages are those of all of them. */
    @Test
    void sharedPolicy() {
        final Settings s = new Settings();
        s.router = Router.ROUND_ROBIN;
        s.turns = 6;
        final Game game = Game.play(s, 0, 1, 0);
        assertEquals(Set.of("agent0+agent2", "agent1"), game.updates.get(0).policyVersions().keySet());
        for (RunLog.Update u : game.updates) {
            assertEquals(12 * (u.agent().equals("agent1") ? 2 : 4), u.messages());
            assertEquals(12, u.episodes());
        }
    }

    @Test
    void sameSeedSameBits() {
        final Settings s = new Settings();
        s.order = "random";
        final Game one = Game.play(s, separate(3));
        final Game two = Game.play(s, separate(3));
        assertEquals(one.fingerprints, two.fingerprints);
        assertEquals(one.stages.stream().map(v -> v.heldOut().returnMean()).toList(),
                two.stages.stream().map(v -> v.heldOut().returnMean()).toList());
        s.seed = 2;
        assertNotEquals(one.fingerprints, Game.play(s, separate(3)).fingerprints);
    }

    /** No more episodes are generated than are asked for: prompts x group, each turn once. */
    @Test
    void everyEpisodeIsGeneratedOnce() {
        final Settings s = new Settings();
        s.stages = 1;
        final Game game = Game.play(s, separate(2));
        for (TabularPolicy policy : game.policies) {
            // held-out before (4 prompts x 2), two rollouts (3 x 4 each), held-out after
            assertEquals(List.of(8, 12, 12, 8), policy.generated);
        }
    }

    /**
     * Predicted gain, by hand: the mean over episodes of (w - 1)(R - mean R), which sums to the realised one over all messages.
     */
    @Test
    void gainsOfStages() {
        final Settings s = new Settings();
        final Game game = Game.play(s, separate(2));
        assertEquals(4, game.stages.size());
        assertEquals(null, game.stages.get(0).gain().predictedGain());
        for (int k = 1; k <= 3; k++) {
            final int stage = k;
            final RunLog.Stage log = game.stages.get(k);
            assertEquals(game.updates.stream().filter(u -> u.stage() == stage).mapToDouble(RunLog.Update::predictedGain).sum(),
                    log.gain().predictedGain(), 1e-12);
            assertEquals(log.heldOut().returnMean() - game.stages.get(k - 1).heldOut().returnMean(), log.gain().realisedGain(), 1e-6);
        }
    }

    /** Episodes that are held back are played and never learnt from; what they promise is measured on them alone. */
    @Test
    void validationEpisodes() {
        final Settings s = new Settings();
        s.stages = 1;
        s.validation = 1.0 / 3;
        s.delta = 0.5;
        final Game some = Game.play(s, separate(1));
        assertEquals(12, some.updates.get(0).episodes());
        assertEquals(8, some.updates.get(0).messages());
        // A table keeps contexts apart, and here every prompt is one: what is learnt of two prompts says nothing of the third.
        assertEquals(0, some.updates.get(0).predictedGain(), 0);
        assertTrue(some.updates.get(0).surrogate() > 0);
        s.validation = 0;
        final RunLog.Update all = Game.play(s, separate(1)).updates.get(0);
        assertEquals(12, all.messages());
        assertTrue(all.predictedGain() > 0);
        s.validation = 0.9;
        assertThrows(IllegalArgumentException.class, () -> Game.play(s, separate(1)));
    }

    /** Equal returns say nothing: the policy stays as it is, to the bit, and so do its version and β. */
    @Test
    void nothingToLearnLeavesEverythingAsItWas() {
        final TabularPolicy policy = new TabularPolicy(VOCAB, 1, 1);
        final Team team = Team.of(List.of(new Agent("a", policy, new PromptTemplate(null, "{prompt}", "{text}"), View.NONE, false)));
        final Game game = new Game();
        game.policies.add(policy);
        final Trainer trainer = new Trainer(new Settings().config(), team, List.of(new Learner("a", policy, List.of(0), 0.1, 0.1)), prompts(),
                prompts(), episode -> new Verifier.Score(0.5, false));
        trainer.train(0, null, game);
        assertEquals(3, game.updates.size());
        for (RunLog.Update u : game.updates) {
            assertEquals("none", u.stoppedBy());
            assertEquals(0, u.innerSteps());
            assertEquals(12, u.messages());
            assertEquals(0.1, u.betaNext(), 0);
        }
        assertEquals(1L, policy.fingerprint());
        assertEquals(0, policy.version());
    }

    // ---- certificate, diagnostics, budgets ----

    /** What is logged is the arithmetic of docs/metrics.md, per update and per stage, for fresh and for old rollouts. */
    @Test
    void certificatesAreTheArithmeticOfTheirLog() {
        for (int every : new int[] {1, 0, 2}) {
            final Settings s = new Settings();
            s.resampleEvery = every;
            final Game game = Game.play(s, separate(3));
            double roots = 0;
            double radii = 0;
            for (RunLog.Update u : game.updates) {
                final Certificate.Terms b = u.bound();
                roots = (u.fresh() ? 0 : roots) + Math.sqrt(Math.max(0, u.kl()));
                radii = (u.fresh() ? 0 : radii) + Math.sqrt(u.delta());
                assertEquals(Math.sqrt(2) * 0.75 * 2 / 0.0625, b.c(), 1e-12);
                assertEquals(u.surrogate() / 3 / 0.25, b.lSeq(), 1e-12); // three turns
                assertEquals(b.lSeq() - b.c() * roots - b.zetas().sum() / 0.25, b.bounds().certificate(),
                        1e-12);
                assertEquals(b.lSeq() - b.c() * radii - b.zetas().sum() / 0.25, b.bounds().certificateRadius(), 1e-12);
                assertEquals(b.c() * roots > 8, b.bounds().vacuous());
                assertTrue(b.bounds().certificate() < b.lSeq() && b.zetas().zetaRatio() >= 0 && b.advantageScale() >= 0);
            }
            for (RunLog.Stage stage : game.stages.subList(1, 4)) {
                assertEquals(game.updates.stream().filter(u -> u.stage() == stage.stage())
                        .mapToDouble(u -> u.bound().advantageScale() * u.bound().bounds().certificate()).sum(),
                        stage.certified()
                                .certificate(),
                        1e-12);
            }
        }
        final Settings unknown = new Settings();
        unknown.certificate = Config.Bound.paper(0.5, null);
        assertTrue(Double.isNaN(Game.play(unknown, separate(2)).updates.get(0).bound().bounds().certificate()));
        unknown.certificate = Config.Bound.paper(1.0, 2.0);
        assertTrue(assertThrows(IllegalArgumentException.class, () -> Game.play(unknown, separate(2))).getMessage()
                .contains("gamma"));
    }

    /** Diagnosing sees everything and changes nothing: the same run, bit for bit. */
    @Test
    void diagnosingChangesNothing() {
        for (int every : new int[] {1, 0, 2}) {
            final Settings s = new Settings();
            s.resampleEvery = every;
            s.order = "random";
            s.delta = 0.03;
            s.rollback = false;
            final Game plain = Game.play(s, 0, 1, 0, 2);
            s.diagnostics = new Config.Diagnostics(true, true, true, true);
            final Game seen = Game.play(s, 0, 1, 0, 2);
            assertEquals(plain.fingerprints, seen.fingerprints);
            assertEquals(plain.updates.stream().map(RunLog.Update::kl).toList(), seen.updates.stream().map(RunLog.Update::kl)
                    .toList());
            assertEquals(plain.stages.stream().map(v -> v.spent().episodes()).toList(), seen.stages.stream()
                    .map(v -> v.spent().episodes()).toList());
            assertEquals(List.of(), plain.diagnoses);
            assertEquals(seen.updates.size(), seen.diagnoses.size());
            double gaps = 0;
            for (int i = 0; i < seen.diagnoses.size(); i++) {
                final RunLog.Diagnosis d = seen.diagnoses.get(i);
                assertEquals(seen.updates.get(i).agent(), d.agent());
                assertEquals(d.step() == 1 ? 24 : 12, d.played().episodes());
                assertTrue(d.step() > 1 || d.staleness().gap() == 0 && d.weights().ess() == 1);
                assertTrue(d.staleness().dOcc() >= 0 && d.weights().ess() <= 1 + 1e-12 && d.weights().p95() <= d.weights().max());
                assertEquals(3, d.logitShift().size()); // ranks 1, 2-3, 4
                assertTrue(seen.updates.get(i).innerSteps() == 0 || d.logitShift().get(0) > 0);
                assertTrue(Double.isFinite(d.monitored().monitor25()) && Double.isFinite(d.monitored().monitor50()));
                gaps += d.staleness().gap();
            }
            assertTrue(gaps > 0);
            assertTrue(seen.stages.stream().allMatch(t -> t.heldOut().coordination().coord() >= 0 && t.heldOut().coordination().coord() <= 100));
        }
    }

    /** Of two messages a quarter is one, whose k1 is either the largest or what that leaves of the mean. */
    @Test
    void theMonitorsPartsAreOfItsMessages() {
        final Settings s = new Settings();
        s.diagnostics = new Config.Diagnostics(false, true, false, false);
        s.rollback = false;
        s.budget = "stage";
        s.group = 2;
        s.stages = 12;
        for (String monitor : List.of("k1", "k3", "exact")) {
            s.monitor = monitor;
            final Game game = Game.play(s, separate(3));
            int differ = 0;
            for (int i = 0; i < game.diagnoses.size(); i++) {
                final RunLog.Diagnosis d = game.diagnoses.get(i);
                final RunLog.Update u = game.updates.get(i);
                assertEquals(d.monitored().monitor25(), d.monitored().monitor50(), 0);
                final double other = 2 * u.kl() - d.monitored().monitor25();
                if (monitor.equals("k1")) {
                    assertEquals(u.klMax(), Math.max(d.monitored().monitor25(), other), 1e-6);
                } else {
                    assertTrue(d.monitored().monitor25() >= 0 && other >= -1e-6);
                }
                differ += Math.abs(d.monitored().monitor25() - u.kl()) > 0.01 * u.kl() ? 1 : 0;
                assertTrue(Double.isNaN(d.staleness().gap()) && d.logitShift().isEmpty() && d.played().episodes() == 0);
            }
            assertTrue(differ > 5, monitor + ": " + differ);
        }
    }

    /** At equal budgets, schedules play the same episodes in all. */
    @Test
    void schedulesOfEqualBudgets() {
        final Settings s = new Settings();
        s.budget = "stage";
        final Game fresh = Game.play(s, separate(3));
        assertTrue(fresh.updates.stream().allMatch(u -> u.episodes() == 4 && u.tokens() > 0)); // one prompt of three
        s.resampleEvery = 0;
        final Game stale = Game.play(s, separate(3));
        assertTrue(stale.updates.stream().allMatch(u -> u.episodes() == 12));
        assertEquals(fresh.stages.stream().map(v -> v.spent().episodes()).toList(), stale.stages.stream().map(v -> v.spent().episodes())
                .toList());
        assertEquals(12, fresh.stages.get(1).spent().episodes());
        s.resampleEvery = 1;
        s.joint = true;
        assertEquals(12, Game.play(s, separate(3)).stages.get(1).spent().episodes());
        s.joint = false;
        s.resampleEvery = 2; // two rollouts of one prompt: what does not divide is left out
        assertEquals(8, Game.play(s, separate(3)).stages.get(1).spent().episodes());
    }

    /** Costs are counted: what the log says was generated is what the verifier was shown between two lines of it. */
    @Test
    void tokensAreThoseThatWereGenerated() {
        final TabularPolicy policy = new TabularPolicy(VOCAB, 1, 1);
        final Team team = new Team(List.of(new Agent("a", policy, new PromptTemplate(null, "{prompt}{transcript}", "{text}"),
                View.TRANSCRIPT, false)), Router.ROUND_ROBIN, 2, context -> false);
        final long[] seen = new long[2];
        final Settings s = new Settings();
        s.diagnostics = new Config.Diagnostics(true, false, false, false);
        final Trainer trainer = new Trainer(s.config(), team, List.of(new Learner("a", policy, List.of(0), 0.1, 0.1)), prompts(),
                prompts(), episode -> {
                    seen[0]++;
                    seen[1] += episode.messages().stream().mapToInt(m -> m.utterance().tokens().length).sum();
                    return score(episode);
                });
        final List<RunLog.Update> updates = new ArrayList<>();
        trainer.train(0, null, new Trainer.Listener() {
            @Override
            public void updated(RunLog.Update u) {
                updates.add(u);
            }

            @Override
            public void diagnosed(RunLog.Diagnosis d) {
                final RunLog.Update u = updates.get(updates.size() - 1);
                assertEquals(seen[0], u.episodes() + d.played().episodes());
                assertEquals(seen[1], u.tokens() + d.played().tokens());
            }

            @Override
            public void staged(RunLog.Stage stage, List<RunLog.Transcript> transcripts) {
                seen[0] = 0;
                seen[1] = 0;
            }
        });
        assertEquals(3, updates.size());
    }

    @Test
    void aLearnerMustHoldTheAgentsOfItsPolicy() {
        final TabularPolicy policy = new TabularPolicy(VOCAB, 1, 1);
        final PromptTemplate template = new PromptTemplate(null, "{prompt}", "{text}");
        final Team team = Team.of(List.of(new Agent("a", policy, template, View.NONE, false), new Agent("b", policy, template, View.NONE, false)));
        final IllegalArgumentException e = assertThrows(IllegalArgumentException.class,
                () -> new Trainer(new Settings().config(), team, List.of(new Learner("a", policy, List.of(0), 0.1, 0.1)), prompts(), prompts(),
                        TrainerTest::score));
        assertTrue(e.getMessage().contains("agent 1 (b)"), e.getMessage());
    }
}
