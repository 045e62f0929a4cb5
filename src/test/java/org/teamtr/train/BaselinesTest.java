package org.teamtr.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Proxy;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.teamtr.config.ConfigFile;
import org.teamtr.kernels.SurrogateConfig;
import org.teamtr.team.Agent;
import org.teamtr.team.PromptTemplate;
import org.teamtr.team.Team;
import org.teamtr.team.Utterance;
import org.teamtr.team.Verifier;
import org.teamtr.team.View;
import org.teamtr.train.TrainerTest.Settings;

/** What the trainer does for baselines and ablations alone: the meter of the shift, dynamic sampling, other update rules. */
class BaselinesTest {
    private static final int VOCAB = 4;
    private static final int LENGTH = 3;

    /** A team of tables that notes every batch that was learnt from, and keeps the tables as they were. */
    private static final class Game implements Trainer.Listener {
        final List<TabularPolicy> policies = new ArrayList<>();
        final List<Batch> batches = new ArrayList<>();
        final List<RunLog.Update> updates = new ArrayList<>();
        final List<List<TabularPolicy>> tables = new ArrayList<>(); // before the first update, after it, ...
        final List<RunLog.Stage> stages = new ArrayList<>();

        Game(Settings s, int agents, Verifier verifier) {
            final PromptTemplate template = new PromptTemplate(null, "{role}:{prompt}{transcript}", "[{text}]");
            final List<Agent> team = new ArrayList<>();
            final List<Learner> learners = new ArrayList<>();
            for (int a = 0; a < agents; a++) {
                final TabularPolicy table = new TabularPolicy(VOCAB, 17 + a, 0.7);
                final Policy policy = noting(table);
                policies.add(table);
                team.add(new Agent("agent" + a, policy, template, View.TRANSCRIPT, false));
                learners.add(new Learner("agent" + a, policy, List.of(a), s.delta, 0.1));
            }
            tables.add(copies());
            final Trainer trainer = new Trainer(s.config(), Team.of(team), learners, TrainerTest.prompts(), TrainerTest.prompts(),
                    verifier);
            trainer.train(0, null, this);
        }

        private Policy noting(TabularPolicy table) {
            final Class<?>[] type = {Policy.class};
            return (Policy) Proxy.newProxyInstance(Policy.class.getClassLoader(), type, (proxy, method, args) -> {
                if (method.getName().equals("gradient")) {
                    batches.add((Batch) args[0]);
                }
                try {
                    return method.invoke(table, args);
                } catch (InvocationTargetException e) {
                    throw e.getCause();
                }
            });
        }

        private List<TabularPolicy> copies() {
            return IntStream.range(0, policies.size()).mapToObj(a -> {
                final TabularPolicy copy = new TabularPolicy(VOCAB, 17 + a, 0.7);
                copy.restore(policies.get(a).snapshot());
                return copy;
            }).toList();
        }

        @Override
        public void updated(RunLog.Update update) {
            updates.add(update);
            tables.add(copies());
        }

        @Override
        public void staged(RunLog.Stage stage, List<RunLog.Transcript> transcripts) {
            stages.add(stage);
        }

        List<Long> fingerprints() {
            return tables.stream().flatMap(List::stream).map(TabularPolicy::fingerprint).toList();
        }
    }

    // ---- the meter of the occupancy shift ----

    @Test
    void theMeterByHand() {
        assertEquals(Double.NaN, Diagnostics.totalVariation(new double[0]), 0);
        assertEquals(0, Diagnostics.totalVariation(new double[] {0, 0}), 0);
        // the example of docs/metrics.md: four episodes, the ratios of the messages of two agents
        final double[] first = {1.2, 0.9, 1, 0.8};
        final double[] second = {1.1, 1, 0.7, 1.25};
        final double[] logs = IntStream.range(0, 4).mapToDouble(g -> Math.log(first[g]) + Math.log(second[g])).toArray();
        assertEquals(0.09, Diagnostics.totalVariation(logs), 1e-15);
        assertTrue(Double.isFinite(Diagnostics.totalVariation(new double[] {1e9})));
        assertEquals(0.5, Diagnostics.totalVariation(new double[] {Double.NEGATIVE_INFINITY}), 1e-8);
    }

    /** What is logged estimates half the L1 distance of the distributions of whole episodes, which tables can enumerate. */
    @Test
    void theMeterIsTheTotalVariationOfEpisodes() {
        final Settings s = new Settings();
        s.stages = 1;
        s.prompts = 10; // each of them twice: once to learn from, and once held back
        s.validation = 0.5;
        s.group = 400;
        s.learningRate = 12; // contexts of the second agent are many, and each learns from few episodes
        s.delta = 1;
        s.reuseShift = Double.POSITIVE_INFINITY;
        final Game game = new Game(s, 2, TrainerTest::score);
        for (int i = 0; i < 2; i++) {
            final TabularPolicy[] then = game.tables.get(0).toArray(TabularPolicy[]::new);
            final TabularPolicy[] now = game.tables.get(i + 1).toArray(TabularPolicy[]::new);
            double exact = 0;
            double squares = 0; // of |W - 1| / 2
            for (int prompt = 0; prompt < 5; prompt++) {
                final int[] first = ("agent0:" + prompt).chars().toArray();
                for (int[] m : then[0].messages(LENGTH)) {
                    final String said = then[0].utterance(first, m, 1).text();
                    final int[] second = ("agent1:" + prompt + "[" + said + "]").chars().toArray();
                    for (int[] n : then[1].messages(LENGTH)) {
                        final double p = Math.exp(then[0].logProb(first, m, 1) + then[1].logProb(second, n, 1));
                        final double q = Math.exp(now[0].logProb(first, m, 1) + now[1].logProb(second, n, 1));
                        exact += Math.abs(q - p) / 2 / 5;
                        squares += p * (q / p - 1) * (q / p - 1) / 4 / 5;
                    }
                }
            }
            final double error = Math.sqrt((squares - exact * exact) / (5 * 400));
            final double shift = game.updates.get(i).shift();
            assertEquals(exact, shift, 4 * error, "update " + i);
            assertTrue(exact > 20 * error, "the case must be far from 0: " + exact + " +- " + error);
        }
        assertTrue(game.updates.get(1).shift() > game.updates.get(0).shift() + 0.01, "the second agent's part is in it: "
                + game.updates.stream().map(RunLog.Update::shift).toList());
    }

    /** Nothing is under 0 and everything under infinity: the fresh schedule and the stale one, to the bit. */
    @Test
    void theThresholdsEndsAreTheTwoSchedules() {
        final Settings s = new Settings();
        s.order = "random";
        final List<Long> fresh = new Game(s, 3, TrainerTest::score).fingerprints();
        s.reuseShift = Double.MIN_VALUE; // metered, and every update shifts by more
        final Game metered = new Game(s, 3, TrainerTest::score);
        assertEquals(fresh, metered.fingerprints());
        assertTrue(metered.updates.stream().allMatch(u -> u.fresh() && u.shift() > 0));
        s.reuseShift = Double.POSITIVE_INFINITY;
        final Game reused = new Game(s, 3, TrainerTest::score);
        s.reuseShift = 0;
        s.resampleEvery = 0;
        final Game stale = new Game(s, 3, TrainerTest::score);
        assertEquals(stale.fingerprints(), reused.fingerprints());
        assertNotEquals(fresh, stale.fingerprints());
        assertEquals(stale.updates.stream().map(RunLog.Update::tokens).toList(),
                reused.updates.stream().map(RunLog.Update::tokens).toList());
        assertTrue(stale.updates.stream().allMatch(u -> Double.isNaN(u.shift())), "not measured where nothing asks for it");
    }

    @Test
    void rolloutsServeWhileTheirShiftIsUnderTheThreshold() {
        final Settings s = new Settings();
        s.stages = 6;
        s.learningRate = 0.3;
        s.reuseShift = 0.12;
        final Game game = new Game(s, 4, TrainerTest::score);
        int reused = 0;
        int renewed = 0;
        for (int i = 0; i < game.updates.size(); i++) {
            final RunLog.Update u = game.updates.get(i);
            final boolean starts = u.step() == 1;
            final boolean played = u.tokens() > 0;
            assertEquals(starts || game.updates.get(i - 1).shift() >= 0.12, played, u.toString());
            assertEquals(played, u.fresh());
            reused += played ? 0 : 1;
            renewed += played && !starts ? 1 : 0;
        }
        assertTrue(reused > 3 && renewed > 3, reused + " updates used rollouts again, " + renewed + " renewed them in a stage");
        assertEquals(game.stages.get(0).spent().episodes(), 0);
        assertEquals((24 - reused) * 12, game.stages.stream().mapToLong(v -> v.spent().episodes()).sum());
    }

    // ---- dynamic sampling ----

    @Test
    void groupsOfEqualReturnsAreReplacedAsOftenAsAllowed() {
        final Settings s = new Settings();
        s.stages = 2;
        s.validation = 1.0 / 3; // one of three groups
        s.dynamicSampling = 3;
        final Game game = new Game(s, 2, episode -> new Verifier.Score(1, true));
        for (RunLog.Update u : game.updates) {
            assertEquals(3 * 2 * 4, u.dropped(), "three rounds of the two groups that are learnt from");
            assertEquals(12, u.episodes());
            assertEquals("none", u.stoppedBy());
        }
        assertEquals(2 * (12 + 24), game.stages.get(1).spent().episodes(), "what was dropped was played too");
        // held-out episodes before (4 prompts x 2); in each update one batch and three times two groups; held-out episodes after
        assertEquals(List.of(8, 12, 8, 8, 8, 12, 8, 8, 8, 8), game.policies.get(0).generated.subList(0, 10));
    }

    /** Of prompts that teach nothing, each round replaces all but a share; what is left of the batch is of the one that does. */
    @ParameterizedTest
    @ValueSource(ints = {1, 60})
    void replacementsAreOfOtherPrompts(int rounds) {
        final Settings s = new Settings();
        s.stages = 3;
        s.group = 8;
        s.dynamicSampling = rounds;
        final Game game = new Game(s, 1, episode -> new Verifier.Score(
                episode.prompt().id().equals("p4") ? episode.last().text().length() : 1, true));
        final List<Utterance> learnt = game.batches.stream().flatMap(b -> b.messages().stream()).toList();
        final long useful = learnt.stream().filter(m -> m.prompt()[m.prompt().length - 1] == '4').count();
        if (rounds == 60) {
            assertEquals(learnt.size(), useful);
            assertTrue(game.batches.stream().allMatch(b -> b.size() == 24));
        } else {
            assertTrue(useful < learnt.size(), useful + " of " + learnt.size());
        }
        assertTrue(game.updates.stream().allMatch(u -> u.dropped() > 0 && u.dropped() % 8 == 0));
    }

    @Test
    void withoutEqualGroupsDynamicSamplingChangesNothing() {
        final Settings s = new Settings();
        final long[] count = {0};
        final Verifier different = episode -> new Verifier.Score(count[0]++ % 7, false);
        final List<Long> without = new Game(s, 2, different).fingerprints();
        count[0] = 0;
        s.dynamicSampling = 5;
        final Game game = new Game(s, 2, different);
        assertEquals(without, game.fingerprints());
        assertTrue(game.updates.stream().allMatch(u -> u.dropped() == 0));
    }

    // ---- no trust region ----

    /** Where nothing enforces δ, it is what updates are counted by and no more: the run is that of an infinite δ to the bit. */
    @Test
    void aRadiusThatNothingEnforcesOnlyCounts() {
        final Settings s = new Settings();
        s.learningRate = 6;
        s.earlyStop = false;
        s.rollback = false;
        s.betaRule = "none";
        final Game counted = new Game(s, 3, TrainerTest::score);
        s.delta = Double.POSITIVE_INFINITY;
        final Game free = new Game(s, 3, TrainerTest::score);
        assertEquals(free.fingerprints(), counted.fingerprints());
        assertTrue(free.updates.stream().noneMatch(RunLog.Update::outOfRegion));
        assertTrue(counted.updates.stream().anyMatch(RunLog.Update::outOfRegion));
        assertTrue(counted.updates.stream().allMatch(u -> u.innerSteps() == 4 && u.stoppedBy().equals("steps")));
    }

    /** A target of 0 is the radius that the learner started with. */
    @Test
    void adaptiveDeltaAimsAtItself() {
        final Settings s = new Settings();
        s.deltaRule = "adaptive";
        s.deltaTarget = 0;
        s.stages = 8;
        double last = s.delta;
        int moved = 0;
        for (RunLog.Update u : new Game(s, 1, TrainerTest::score).updates) {
            assertEquals(last, u.delta(), 1e-12);
            last = Math.min(10 * s.delta, Math.max(s.delta / 10,
                    u.delta() * Math.min(1.5, Math.max(1 / 1.5, s.delta / Math.max(u.kl(), 1e-12)))));
            moved += last == u.delta() ? 0 : 1;
        }
        assertTrue(moved > 4, moved + " of 8");
    }

    // ---- the update rules of PPO, GRPO and DAPO ----

    /** The gradient of each rule's loss in every logit, against the rule's formula in double, over a batch of all messages. */
    @ParameterizedTest
    @CsvSource({"sequential-ppo, false, 0.2, 0", "sequential-grpo, true, 0.2, 0.04", "sequential-dapo, false, 0.28, 0",
        "single-agent-grpo, true, 0.2, 0.04", "single-agent-dapo, false, 0.28, 0"})
    void tokenLevelRules(String variant, boolean messagesFirst, double high, double beta) throws Exception {
        final Config config = ConfigFile.load(null, variant, List.of());
        final TabularPolicy old = new TabularPolicy(3, 1, 1.5);
        final TabularPolicy now = new TabularPolicy(3, 1, 1.5);
        final int[] prompt = {7};
        final List<Utterance> messages = new ArrayList<>();
        for (int[] m : old.messages(LENGTH)) {
            messages.add(old.utterance(prompt, m, 1));
            for (int u = 0; u < m.length; u++) {
                final double[] row = now.logits(prompt, m, u);
                for (int v = 0; v < 3; v++) {
                    row[v] = old.logits(prompt, m, u)[v] + new double[] {-0.6, 0.1, 0.4}[v] / (u + 1);
                }
            }
        }
        final float[] a = new float[messages.size()];
        for (int m = 0; m < a.length; m++) {
            a[m] = new float[] {1.5f, -0.7f, 0.4f, -1.1f, 0.9f}[m % 5];
        }
        final Batch batch = Batch.of(messages, a, a);
        final SurrogateConfig loss = TrustRegionUpdate.loss(config, config.trustRegion().beta());
        now.gradient(batch, 1, loss, null);
        final double h = 1e-4;
        for (int[] m : old.messages(LENGTH)) {
            for (int u = 0; u < m.length; u++) {
                final double[] row = now.logits(prompt, m, u);
                final double[] given = now.gradientAt(prompt, m, u).clone();
                for (int v = 0; v < 3; v++) {
                    final double at = row[v];
                    row[v] = at + h;
                    final double up = rule(old, now, batch, messagesFirst, high, beta);
                    row[v] = at - h;
                    final double down = rule(old, now, batch, messagesFirst, high, beta);
                    row[v] = at;
                    assertEquals((up - down) / (2 * h), given[v], 2e-6, variant + ", token " + u + ", logit " + v);
                }
            }
        }
        int between = 0; // tokens that a clip at 1.2 holds and one at 1.28 does not
        int above = 0;
        int below = 0;
        for (int m = 0; m < batch.size(); m++) {
            for (int u = 0; u < messages.get(m).tokens().length; u++) {
                final double r = ratio(old, now, messages.get(m), u);
                between += a[m] > 0 && r > 1.2 && r < 1.28 ? 1 : 0;
                above += a[m] > 0 && r > 1.28 ? 1 : 0;
                below += a[m] < 0 && r < 0.8 ? 1 : 0;
            }
        }
        assertTrue(between > 0 && above > 0 && below > 0, between + ", " + above + ", " + below);
    }

    /** Minus the clipped objective, plus beta k3, by token: mean over all tokens, or over messages of their tokens' mean. */
    private static double rule(TabularPolicy old, TabularPolicy now, Batch batch, boolean messagesFirst, double high,
            double beta) {
        double loss = 0;
        for (int m = 0; m < batch.size(); m++) {
            final Utterance message = batch.messages().get(m);
            final double a = batch.advantages()[m];
            double sum = 0;
            for (int u = 0; u < message.tokens().length; u++) {
                final double r = ratio(old, now, message, u);
                sum += -Math.min(r * a, Math.min(Math.max(r, 1 - 0.2), 1 + high) * a) + beta * (r - 1 - Math.log(r));
            }
            loss += messagesFirst ? sum / message.tokens().length / batch.size() : sum / batch.tokens();
        }
        return loss;
    }

    private static double ratio(TabularPolicy old, TabularPolicy now, Utterance message, int u) {
        final int token = message.tokens()[u];
        return Math.exp(now.logProbs(message.prompt(), message.tokens(), u, 1)[token]
                - old.logProbs(message.prompt(), message.tokens(), u, 1)[token]);
    }
}
