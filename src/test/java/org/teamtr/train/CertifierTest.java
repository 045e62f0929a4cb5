package org.teamtr.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Locale;
import java.util.SplittableRandom;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.teamtr.team.Agent;
import org.teamtr.team.KeyedRandom;
import org.teamtr.team.PromptTemplate;
import org.teamtr.team.Router;
import org.teamtr.team.Team;
import org.teamtr.team.Verifier;
import org.teamtr.team.View;

class CertifierTest {
    private static final Config.Bound HORIZON = bound(64, 0, 1, false);

    private static Config.Bound bound(int prompts, int budget, int halvings, boolean check) {
        return new Config.Bound(Config.BoundKind.HORIZON, 0.05, prompts, budget, halvings, -2.0, 6.0, check, 0.75, 2.0);
    }

    // ---- balanced weights, exactly ----

    /** What can be said in an episode of two agents that speak in turn, twice each: everything, with its probability. */
    private static void episodes(TabularPolicy[] team, int turns, List<int[]> said, double p, List<List<int[]>> all, List<Double> ps) {
        if (said.size() == turns) {
            all.add(List.copyOf(said));
            ps.add(p);
            return;
        }
        final TabularPolicy policy = team[said.size() % team.length];
        final int[] prompt = prompt(said);
        for (int[] message : policy.messages(1)) {
            final List<int[]> next = new ArrayList<>(said);
            next.add(message);
            episodes(team, turns, next, p * Math.exp(policy.logProb(prompt, message, 1)), all, ps);
        }
    }

    private static int[] prompt(List<int[]> said) {
        return IntStream.concat(IntStream.of(9), said.stream().flatMapToInt(IntStream::of)).toArray();
    }

    private static double logRatio(TabularPolicy old, TabularPolicy now, int agent, int agents, List<int[]> episode) {
        double sum = 0;
        for (int t = agent; t < episode.size(); t += agents) {
            final int[] prompt = prompt(episode.subList(0, t));
            sum += now.logProb(prompt, episode.get(t), 1) - old.logProb(prompt, episode.get(t), 1);
        }
        return sum;
    }

    private static double reward(List<int[]> episode, int key) {
        return KeyedRandom.of(key, episode.stream().mapToLong(m -> m[0]).reduce(1, (a, b) -> 31 * a + b)).nextDouble();
    }

    /** E X is the gain for every v, though the agent speaks twice, and X is never less than it is said to be. */
    @Test
    void theExpectationIsTheGain() {
        for (int t = 0; t < 50; t++) {
            final TabularPolicy first = new TabularPolicy(3, 100 + t, 1.5);
            final TabularPolicy other = new TabularPolicy(3, 200 + t, 1.5);
            final TabularPolicy changed = new TabularPolicy(3, 300 + t, 1.5);
            final double[] mean = new double[2];
            final double[] x = new double[2];
            for (int side = 0; side < 2; side++) {
                final List<List<int[]>> all = new ArrayList<>();
                final List<Double> p = new ArrayList<>();
                episodes(new TabularPolicy[] {side == 0 ? first : changed, other}, 4, List.of(), 1, all, p);
                for (int e = 0; e < all.size(); e++) {
                    final double reward = reward(all.get(e), t);
                    final double ratio = logRatio(first, changed, 0, 2, all.get(e));
                    mean[side] += p.get(e) * reward;
                    for (int k = 0; k < 2; k++) {
                        final double[] one = BalancedGain.of(new double[] {ratio}, new double[] {reward}, new double[] {ratio},
                                new double[] {reward}, k == 0 ? 0.2 : 0.7);
                        assertTrue(one[0] >= BalancedGain.least(0, 1, k == 0 ? 0.2 : 0.7));
                        x[k] += p.get(e) * one[0] / 2; // both episodes at once
                    }
                }
            }
            assertEquals(mean[1] - mean[0], x[0], 1e-12);
            assertEquals(mean[1] - mean[0], x[1], 1e-12);
        }
    }

    /** The example of docs/metrics.md. */
    @Test
    void byHand() throws IOException {
        final double[] oldRatios = {Math.log(1.5), 0};
        final double[] newRatios = {-Math.log(3), Math.log(3)};
        final double[] x = BalancedGain.of(oldRatios, new double[] {1, 1}, newRatios, new double[] {0, 1}, 0.5);
        assertEquals(0.35, x[0], 1e-12);
        assertEquals(0.25, x[1], 1e-12);
        assertEquals(0.3, Estimate.of(x).mean(), 1e-12);
        assertEquals(0.05, Estimate.of(x).error(), 1e-12);
        assertEquals(0.3, BalancedGain.totalVariation(oldRatios, newRatios), 1e-12);
        final String bound = String.format(Locale.ROOT, "%.2f", MeanBound.lower(x, BalancedGain.least(0, 1, 0.5), 0.0125, 2)).replace('-', '\u2212');
        assertTrue(Files.readString(Path.of("docs/metrics.md")).contains("`gain_bound` at level\n0.0125 is " + bound + "."), bound);
    }

    /** The bound of samples is above the true gain no more often than its level says, over random prompts. */
    @Test
    void theBoundHoldsAsOftenAsItSays() {
        final int kinds = 16; // of prompts, each with policies and rewards of its own
        final TabularPolicy[][] policies = new TabularPolicy[kinds][3]; // before, after, another agent
        double gain = 0;
        final List<List<List<int[]>>> said = new ArrayList<>();
        final List<List<Double>> chances = new ArrayList<>();
        for (int k = 0; k < kinds; k++) {
            for (int j = 0; j < 3; j++) {
                policies[k][j] = new TabularPolicy(3, 1000 + 3 * k + j, j == 1 ? 1.2 : 0.8);
            }
            for (int side = 0; side < 2; side++) {
                final List<List<int[]>> all = new ArrayList<>();
                final List<Double> p = new ArrayList<>();
                episodes(new TabularPolicy[] {policies[k][side], policies[k][2]}, 2, List.of(), 1, all, p);
                for (int e = 0; e < all.size(); e++) {
                    gain += (side == 0 ? -1 : 1) * p.get(e) * reward(all.get(e), k) / kinds;
                }
                said.add(all);
                chances.add(p);
            }
        }
        for (int prompts : new int[] {16, 128}) {
            final int repeats = 1000;
            int above = 0;
            int aboveEstimate = 0;
            for (int r = 0; r < repeats; r++) {
                final SplittableRandom random = KeyedRandom.of(71, prompts, r);
                final double[][] ratios = new double[2][prompts];
                final double[][] returns = new double[2][prompts];
                for (int p = 0; p < prompts; p++) {
                    final int k = random.nextInt(kinds);
                    for (int side = 0; side < 2; side++) {
                        final List<Double> chance = chances.get(2 * k + side);
                        double left = random.nextDouble();
                        int e = -1;
                        while (left >= 0 && e < chance.size() - 1) {
                            left -= chance.get(++e);
                        }
                        final List<int[]> episode = said.get(2 * k + side).get(e);
                        ratios[side][p] = logRatio(policies[k][0], policies[k][1], 0, 2, episode);
                        returns[side][p] = reward(episode, k);
                    }
                }
                final double[] x = BalancedGain.of(ratios[0], returns[0], ratios[1], returns[1], 0.5);
                above += MeanBound.lower(x, BalancedGain.least(0, 1, 0.5), 0.05, prompts) > gain ? 1 : 0;
                aboveEstimate += Estimate.of(x).mean() > gain ? 1 : 0;
            }
            assertTrue(above <= 0.05 * repeats + 3 * Math.sqrt(0.05 * 0.95 * repeats), prompts + " prompts: " + above);
            assertTrue(aboveEstimate > 0.4 * repeats && aboveEstimate < 0.6 * repeats, "no bias: " + aboveEstimate);
        }
    }

    // ---- in the trainer ----

    private static final Config.Bound CERTIFIED = bound(64, 256, 1, false);

    private static TrainerTest.Game play(Config.Bound bound, Config.Accept accept) {
        final TrainerTest.Settings s = new TrainerTest.Settings();
        s.certificate = bound;
        s.accept = accept;
        s.prompts = 4;
        s.delta = 0.2;
        s.stages = 3;
        return TrainerTest.Game.play(s, 0, 1);
    }

    /** The bound is only looked at: the team learns what it would have learnt, to the bit. */
    @Test
    void lookingChangesNothing() {
        final TrainerTest.Game with = play(HORIZON, Config.Accept.REGION);
        final TrainerTest.Game without = play(Config.Bound.paper(0.75, 2.0), Config.Accept.REGION);
        assertEquals(without.fingerprints, with.fingerprints);
        assertEquals(without.updates.stream().map(RunLog.Update::kl).toList(), with.updates.stream().map(RunLog.Update::kl).toList());
        for (RunLog.Update u : with.updates) {
            final GainBound b = u.bound().horizon();
            assertTrue(b.bound().gainBound() < b.bound().gainEstimate() && b.bound().gainError() > 0 && b.bound().boundPrompts() == 64, b.toString());
            assertEquals(0.025, b.bound().boundLevel(), 1e-12); // two updates
            assertEquals(u.step() == 1 ? 128 : 64, b.cost().boundEpisodes()); // the team after is the next one's team before
            assertNull(b.decision());
        }
        for (RunLog.Stage stage : with.stages.subList(1, 4)) {
            final double sum = with.updates.stream().filter(u -> u.stage() == stage.stage()).mapToDouble(u -> u.bound().horizon().bound().gainBound())
                    .sum();
            assertEquals(sum, stage.certified().horizon().gainBound(), 1e-12);
            assertEquals(0.05, stage.certified().horizon().boundLevel(), 0);
        }
        assertTrue(without.updates.stream().allMatch(u -> Double.isNaN(u.bound().horizon().bound().gainBound())));
    }

    /** A step that no bound certifies is tried shorter, then taken back, parameters and optimiser; the log says so. */
    @Test
    void whatIsNotCertifiedIsTakenBack() {
        final TrainerTest.Game game = play(bound(2, 8, 2, true), Config.Accept.CERTIFIED); // two to eight prompts certify nothing
        assertEquals(1, game.fingerprints.stream().distinct().count());
        for (RunLog.Update u : game.updates) {
            final GainBound b = u.bound().horizon();
            assertEquals(GainBound.Decision.SKIPPED, b.decision());
            assertEquals(3, b.boundTries());
            assertEquals(8, b.bound().boundPrompts());
            assertEquals(8 * (1 + 3), b.cost().boundEpisodes()); // once before, and after each of three steps
            assertEquals(0.05 / 2 / 3, b.bound().boundLevel(), 1e-12);
            assertEquals(0, b.bound().gainBound(), 0);
            assertEquals(0, b.realised().realisedGain(), 0);
            assertEquals(UnchangedReason.NOT_CERTIFIED, u.outcome().unchangedBy());
            assertEquals(0, u.kl(), 1e-9);
        }
        assertTrue(game.stages.stream().skip(1).allMatch(t -> t.unchanged().unchangedNotCertified() == 2 && t.certified().horizon().skipped() == 2));
    }

    /** A team that learns one word, which gains a lot: certified, and the bound is below what held-out episodes gain. */
    @Test
    void whatGainsALotIsKept() {
        final TrainerTest.Settings s = new TrainerTest.Settings();
        s.certificate = new Config.Bound(Config.BoundKind.HORIZON, 0.05, 400, 1600, 1, 0.0, 1.0, true, 0.75, 2.0);
        s.accept = Config.Accept.CERTIFIED;
        s.prompts = 8;
        s.delta = 0.3;
        s.stages = 2;
        s.learningRate = 4;
        s.steps = 8;
        final List<RunLog.Update> updates = one(s);
        assertTrue(updates.stream().anyMatch(u -> u.bound().horizon().decision() == GainBound.Decision.KEPT), updates.toString());
        for (RunLog.Update u : updates) {
            assertTrue(u.bound().horizon().bound().gainBound() >= 0);
        }
    }

    /** One agent that is paid for saying the end at once. */
    private static List<RunLog.Update> one(TrainerTest.Settings s) {
        final TabularPolicy policy = new TabularPolicy(4, 5, 0.1);
        final Agent agent = new Agent("a", policy, new PromptTemplate(null, "{prompt}", "{text}"), View.TRANSCRIPT, false);
        final Team team = new Team(List.of(agent), Router.ROUND_ROBIN, 1, context -> false);
        final TrainerTest.Heard heard = new TrainerTest.Heard();
        final Verifier verifier = context -> new Verifier.Score(context.last().text().isEmpty() ? 1 : 0, false);
        final Trainer trainer = new Trainer(s.config(), team, List.of(new Learner("a", policy, List.of(0), s.delta, 0.1)),
                TrainerTest.prompts(), TrainerTest.prompts(), verifier);
        trainer.train(0, null, heard);
        return heard.updates;
    }

    @Test
    void returnsOutsideOfTheirRangeEndTheRun() {
        final TrainerTest.Settings s = new TrainerTest.Settings();
        s.certificate = new Config.Bound(Config.BoundKind.HORIZON, 0.05, 16, 0, 0, 0.0, 0.5, false, 0.75, 2.0);
        final String message = assertThrows(IllegalStateException.class, () -> one(s)).getMessage();
        assertTrue(message.startsWith("certificate.return_min, certificate.return_max: expected returns from 0.0 to 0.5, given 1.0 of "), message);
    }

    /** Without a range there is no bound, and nothing to decide by. */
    @Test
    void withoutARangeThereIsNone() {
        final TrainerTest.Settings s = new TrainerTest.Settings();
        s.certificate = new Config.Bound(Config.BoundKind.HORIZON, 0.05, 16, 0, 0, null, null, false, 0.75, 2.0);
        assertTrue(one(s).stream().allMatch(u -> Double.isNaN(u.bound().horizon().bound().gainBound())));
        s.accept = Config.Accept.CERTIFIED;
        assertTrue(assertThrows(IllegalArgumentException.class, () -> one(s)).getMessage().startsWith("trust_region.accept: expected region"));
    }

    // ---- the alarm ----

    @Test
    void theAlarmIsRaisedWhereBoundsFailTooOften() {
        assertNull(LevelAlarm.of(Collections.nCopies(100, false), 0.05));
        assertNull(LevelAlarm.of(List.of(), 0.05));
        assertNull(LevelAlarm.of(List.of(true, false, false, false, false), 0.05));
        final List<Boolean> half = IntStream.range(0, 24).mapToObj(j -> j % 2 == 0).toList();
        final String alarm = LevelAlarm.of(half, 0.05);
        assertTrue(alarm.startsWith("alarm: 12 of 24 measured gains are below their bound, where 5.0 % may be"), alarm);
        int raised = 0;
        for (int r = 0; r < 1000; r++) { // as often as is allowed, looked at after every stage
            final SplittableRandom random = KeyedRandom.of(72, r);
            final List<Boolean> failed = new ArrayList<>();
            boolean ever = false;
            for (int k = 0; k < 60; k++) {
                failed.add(random.nextDouble() < 0.05);
                ever |= LevelAlarm.of(failed, 0.05) != null;
            }
            raised += ever ? 1 : 0;
        }
        assertTrue(raised <= 1000 * LevelAlarm.FALSE_ALARM + 3 * Math.sqrt(1000 * LevelAlarm.FALSE_ALARM), raised + " false alarms");
    }

    /** Prompts are those of the training set, and the context of an episode is what it was. */
    @Test
    void theSameSeedBoundsTheSame() {
        final List<Double> once = play(HORIZON, Config.Accept.REGION).updates.stream().map(u -> u.bound().horizon().bound().gainBound()).toList();
        assertEquals(once, play(HORIZON, Config.Accept.REGION).updates.stream().map(u -> u.bound().horizon().bound().gainBound()).toList());
        assertTrue(play(CERTIFIED, Config.Accept.CERTIFIED).updates.stream().allMatch(u -> u.bound().horizon().bound().boundPrompts() <= 256));
    }
}
