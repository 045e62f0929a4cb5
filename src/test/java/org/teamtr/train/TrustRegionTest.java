package org.teamtr.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.function.DoubleUnaryOperator;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.teamtr.kernels.SurrogateConfig;
import org.teamtr.team.Agent;
import org.teamtr.team.PromptTemplate;
import org.teamtr.team.Router;
import org.teamtr.team.Team;
import org.teamtr.team.Utterance;
import org.teamtr.team.Verifier;
import org.teamtr.team.View;

/** How far an update may go: units, floor, step length, and updates that come to nothing. With a policy that is a single number. */
class TrustRegionTest {
    private static final double DELTA = 0.05;

    /**
     * A policy whose one parameter, the distance walked since the snapshot it is compared with, has any KL that a test likes. A
     * step walks 1; every token has the KL of the distance; the floor's nudge counts as a step of nothing with the KL {@link #noise}.
     */
    private static class Walker extends TabularPolicy {
        final DoubleUnaryOperator kl;
        double noise;
        double at;
        private boolean nudged;
        int overflows; // to come
        double norm = 1;
        final List<Double> accepted = new ArrayList<>();

        Walker(DoubleUnaryOperator kl) {
            super(4, 3, 0.7);
            this.kl = kl;
        }

        private record Position(Snapshot table, double at) implements Snapshot {
            @Override
            public void close() {
            }
        }

        @Override
        public Snapshot snapshot() {
            return new Position(super.snapshot(), at);
        }

        @Override
        public void restore(Snapshot snapshot) {
            super.restore(((Position) snapshot).table);
            at = ((Position) snapshot).at;
            nudged = false;
        }

        @Override
        public void shorten(Snapshot snapshot, double share) {
            assertTrue(share > 0 && share < 1, "share " + share);
            final double from = ((Position) snapshot).at;
            at = from + share * (at - from);
        }

        @Override
        public void nudge(double size, long seed) {
            nudged = true;
        }

        @Override
        public double step(double learningRate) {
            if (overflows > 0) {
                overflows--;
                return Double.NaN;
            }
            at += 1;
            return norm;
        }

        @Override
        public Scores score(Batch batch, double temperature, Snapshot anchor) {
            final Scores s = super.score(batch, temperature, null);
            if (anchor == null) {
                return s;
            }
            final float[] all = new float[batch.tokens()];
            Arrays.fill(all, (float) (nudged ? noise : at == ((Position) anchor).at ? 0 : noise + kl.applyAsDouble(at - ((Position) anchor).at)));
            return new Scores(s.logProbs(), all, s.entropy());
        }

        @Override
        public Gradient gradient(Batch batch, double temperature, SurrogateConfig loss, Snapshot anchor) {
            super.gradient(batch, temperature, loss, null);
            return Gradient.of(batch, score(batch, temperature, anchor), loss);
        }
    }

    /** What one agent's run says. */
    private static final class Run extends TrainerTest.Heard {
        final List<RunLog.Floor> floors = new ArrayList<>();
        final List<Double> at = new ArrayList<>();
        private final Walker walker;

        Run(TrainerTest.Settings s, Walker walker, Verifier verifier) {
            this.walker = walker;
            final Team team = new Team(List.of(new Agent("a", walker, new PromptTemplate(null, "{prompt}", "{text}"), View.NONE, false)),
                    s.router, 1, context -> false);
            final Trainer trainer = new Trainer(s.config(), team, List.of(new Learner("a", walker, List.of(0), s.delta, 0.1)),
                    TrainerTest.prompts(), TrainerTest.prompts(), verifier);
            trainer.train(0, null, this);
        }

        @Override
        public void floor(RunLog.Floor floor) {
            floors.add(floor);
        }

        @Override
        public void updated(RunLog.Update update) {
            super.updated(update);
            at.add(walker.at);
        }
    }

    private static TrainerTest.Settings settings() {
        final TrainerTest.Settings s = new TrainerTest.Settings();
        s.delta = DELTA;
        s.unit = Config.Unit.TOKEN; // the KL of a message is then that of the walker's place, whatever its length
        return s;
    }

    private static Run run(TrainerTest.Settings s, DoubleUnaryOperator kl) {
        return new Run(s, new Walker(kl), TrainerTest::score);
    }

    // ---- step length ----

    /** Where the KL is a square, the first measurement says all: one try, and nine tenths of the radius are used. */
    @ParameterizedTest
    @ValueSource(doubles = {0.051, 0.2, 3, 700})
    void oneMeasurementIsEnoughForASquare(double kl) {
        for (RunLog.Update u : run(settings(), x -> kl * x * x).updates) {
            assertEquals(1, u.halvings());
            final double share = Math.min(0.95, Math.sqrt(0.9 * DELTA / kl)); // of the step
            assertEquals(share == 0.95 ? 0.95 * 0.95 * kl : 0.9 * DELTA, u.kl(), 1e-5 * DELTA);
            assertEquals(kl, u.klReached(), 1e-6 * kl);
            assertNull(u.outcome().unchangedBy());
        }
    }

    /** From a point inside: distances add up at most, and on a straight line exactly. */
    @Test
    void aLaterStepIsShortenedToo() {
        final double c = 0.3 * DELTA; // 0.3, 1.2 of δ after one and two steps
        for (RunLog.Update u : run(settings(), x -> c * x * x).updates) {
            assertEquals(2, u.innerSteps());
            assertEquals(1, u.halvings());
            assertEquals(0.9 * DELTA, u.kl(), 1e-5 * DELTA);
        }
    }

    /** Rounding is in every measurement after a step, however short; it is not a part of the square. */
    @Test
    void theFloorIsTakenOffBeforeTheSquare() {
        final Walker walker = new Walker(x -> 4 * x * x);
        walker.noise = 0.4 * DELTA;
        final Run run = new Run(settings(), walker, TrainerTest::score);
        for (RunLog.Update u : run.updates) {
            assertEquals(0.4 * DELTA, u.outcome().klFloor(), 1e-6 * DELTA);
            assertEquals(1, u.halvings());
            assertEquals(0.9 * DELTA, u.kl(), 1e-5 * DELTA);
        }
    }

    /** The promise: whatever the KL does along the way, what is accepted was measured to be within. */
    @Test
    void noCurveGetsAnUpdateOutOfTheRegion() {
        final Map<String, DoubleUnaryOperator> curves = new LinkedHashMap<>();
        curves.put("a cliff", x -> x < 1e-3 ? 0 : 10);
        curves.put("a wall", x -> 1e-30 + DELTA * 1.001);
        curves.put("a root", x -> 2 * Math.sqrt(x));
        curves.put("linear", x -> 5 * x);
        curves.put("a fourth power", x -> 90 * x * x * x * x);
        curves.put("saturated", x -> 3 * (1 - Math.exp(-1e4 * x * x)));
        curves.put("waves", x -> 0.2 * (1 + Math.sin(1 / (x + 1e-3))));
        curves.put("infinite", x -> x > 0.1 ? Double.POSITIVE_INFINITY : x * x);
        curves.put("no number", x -> x > 0.1 ? Double.NaN : x * x);
        curves.put("no number at all", x -> Double.NaN);
        curves.put("backwards", x -> 1 - 0.5 * x);
        final SplittableRandom random = new SplittableRandom(5);
        for (int i = 0; i < 30; i++) {
            final long seed = random.nextLong();
            curves.put("noise " + i, x -> 0.3 * new SplittableRandom(seed ^ Double.doubleToLongBits(x)).nextDouble());
        }
        int kept = 0;
        int undone = 0;
        for (StepLength rule : StepLength.values()) {
            for (Map.Entry<String, DoubleUnaryOperator> curve : curves.entrySet()) {
                final TrainerTest.Settings s = settings();
                s.stepLength = rule;
                final Run run = run(s, curve.getValue());
                double before = 0;
                for (int i = 0; i < run.updates.size(); i++) {
                    final RunLog.Update u = run.updates.get(i);
                    final String what = rule + ", " + curve.getKey() + ": " + u;
                    assertTrue(u.kl() <= DELTA, what);
                    assertTrue(u.halvings() <= s.halvings, what);
                    assertEquals(u.outcome().unchangedBy() == UnchangedReason.ROLLED_BACK, run.at.get(i) == before, what);
                    final double walked = run.at.get(i) - before;
                    assertTrue(walked == 0 || (float) curve.getValue().applyAsDouble(walked) <= (float) DELTA, what);
                    kept += walked > 0 ? 1 : 0;
                    undone += walked == 0 ? 1 : 0;
                    before = run.at.get(i);
                }
            }
        }
        assertTrue(kept > 50 && undone > 10, kept + " kept, " + undone + " undone");
    }

    @Test
    void halvingHalves() {
        final TrainerTest.Settings s = settings();
        s.stepLength = StepLength.HALVING;
        for (RunLog.Update u : run(s, x -> x * x).updates) {
            assertEquals(3, u.halvings()); // 1, 1/4, 1/16, 1/64
            assertEquals(1.0 / 64, u.kl(), 1e-9);
        }
        assertEquals(0.5, StepLength.HALVING.share(0.01, 0.3, 0.05, 0));
        assertEquals(0.5, StepLength.MEASURED.share(0.01, Double.NaN, 0.05, 0));
        assertEquals(0.5, StepLength.MEASURED.share(0.01, Double.POSITIVE_INFINITY, 0.05, 0));
        assertEquals(0.5, StepLength.MEASURED.share(0, 1, 0.05, 0.2), "more rounding than radius");
        assertEquals(1.0 / 1024, StepLength.MEASURED.share(0, 1e9, 0.05, 0), "never nothing");
        assertEquals((Math.sqrt(0.045) - 0.1) / (0.5 - 0.1), StepLength.MEASURED.share(0.01, 0.25, 0.05, 0), 1e-12);
    }

    // ---- units ----

    /** Every token has the same KL: its mean over a message is that, its sum that times the tokens. */
    @Test
    void aTokensMeanAndAMessagesSum() {
        final TrainerTest.Settings s = settings();
        s.steps = 1;
        s.delta = 1;
        s.diagnostics = new Config.Diagnostics(false, true, false, false);
        final RunLog.Update token = run(s, x -> 0.01).updates.get(0);
        assertEquals(Config.Unit.TOKEN, token.outcome().klUnit());
        assertEquals(0.01, token.kl(), 1e-9);
        s.unit = Config.Unit.MESSAGE;
        final Run messages = run(s, x -> 0.01);
        final RunLog.Update message = messages.updates.get(0);
        assertEquals(Config.Unit.MESSAGE, message.outcome().klUnit());
        assertEquals(0.01 * message.trainedTokens() / message.messages(), message.kl(), 1e-7);
        assertTrue(message.kl() > 1.2 * token.kl(), "messages of one token tell nothing apart");
        assertEquals(token.trainedTokens(), message.trainedTokens());
        // The theorem's KL is of messages in either unit, and so is its penalty.
        final Run again = run(settings(1), x -> 0.01);
        assertEquals(message.bound().bounds().certificate(), again.updates.get(0).bound().bounds().certificate(), 1e-12);
        assertTrue(again.updates.get(0).bound().bounds().certificateRadius() < again.updates.get(0).bound().bounds().certificate());
    }

    private static TrainerTest.Settings settings(double delta) {
        final TrainerTest.Settings s = settings();
        s.steps = 1;
        s.delta = delta;
        return s;
    }

    /** k1 and k3 of a mean over tokens, and the largest message, against sums in double. */
    @ParameterizedTest
    @ValueSource(strings = {"k1", "k3", "exact"})
    void theMonitorOfTokensAgainstDouble(String estimator) {
        final TrainerTest.Settings s = new TrainerTest.Settings();
        s.monitor = estimator;
        s.unit = Config.Unit.TOKEN;
        s.stages = 1;
        s.delta = 1e6;
        final List<Batch> batches = new ArrayList<>();
        final TabularPolicy policy = new TabularPolicy(4, 1, 0.7) {
            @Override
            public Gradient gradient(Batch batch, double temperature, SurrogateConfig loss, Snapshot anchor) {
                batches.add(batch);
                return super.gradient(batch, temperature, loss, anchor);
            }
        };
        final Team team = new Team(List.of(new Agent("a", policy, new PromptTemplate(null, "{prompt}", "{text}"), View.NONE, false)),
                Router.ROUND_ROBIN, 1, context -> false);
        final TrainerTest.Heard heard = new TrainerTest.Heard();
        final TabularPolicy old = new TabularPolicy(4, 1, 0.7);
        final Trainer trainer = new Trainer(s.config(), team, List.of(new Learner("a", policy, List.of(0), s.delta, 0.1)),
                TrainerTest.prompts(), TrainerTest.prompts(), TrainerTest::score);
        assertEquals(SurrogateConfig.Aggregation.SEQ_MEAN_TOKEN_MEAN, TrustRegionUpdate.loss(s.config(), 0.1).klAggregation());
        trainer.train(0, null, heard);
        final Batch batch = batches.get(0);
        double sum = 0;
        double most = Double.NEGATIVE_INFINITY;
        for (Utterance m : batch.messages()) {
            double mean = 0;
            double k1 = 0;
            for (int u = 0; u < m.tokens().length; u++) {
                final double[] now = policy.logProbs(m.prompt(), m.tokens(), u, 1);
                final double[] then = old.logProbs(m.prompt(), m.tokens(), u, 1);
                final double log = now[m.tokens()[u]] - then[m.tokens()[u]];
                double exact = 0;
                for (int v = 0; v < now.length; v++) {
                    exact += Math.exp(then[v]) * (then[v] - now[v]);
                }
                mean += (estimator.equals("k1") ? -log : estimator.equals("k3") ? Math.exp(log) - 1 - log : exact) / m.tokens().length;
                k1 -= log / m.tokens().length;
            }
            sum += mean / batch.size();
            most = Math.max(most, k1);
        }
        assertEquals(sum, heard.updates.get(0).kl(), 1e-6);
        assertEquals(most, heard.updates.get(0).klMax(), 1e-6);
        assertTrue(Math.abs(sum) > 1e-3);
    }

    @Test
    void thePenaltyIsOfTheUnitUnlessItIsSaid() {
        for (Config.Unit unit : Config.Unit.values()) {
            final TrainerTest.Settings s = new TrainerTest.Settings();
            s.unit = unit;
            assertEquals(unit == Config.Unit.MESSAGE ? SurrogateConfig.Aggregation.SEQ_MEAN_TOKEN_SUM
                    : SurrogateConfig.Aggregation.SEQ_MEAN_TOKEN_MEAN, TrustRegionUpdate.loss(s.config(), 1).klAggregation());
        }
    }

    // ---- the floor ----

    @Test
    void moreRoundingThanRadiusIsRefused() {
        for (Config.FloorRule rule : Config.FloorRule.values()) {
            final TrainerTest.Settings s = settings();
            s.floor = rule;
            final Walker walker = new Walker(x -> x * x);
            walker.noise = 1.5 * DELTA;
            if (rule == Config.FloorRule.REFUSE) {
                final String message = assertThrows(ArithmeticException.class, () -> new Run(s, walker, TrainerTest::score)).getMessage();
                for (String part : List.of("a: delta 0.0500", "0.075", "dtype f16", "monitor_dtype f32", "trust_region.delta",
                        "trust_region.unit token", "trust_region.floor warn")) {
                    assertTrue(message.contains(part), message);
                }
                assertEquals(0, walker.at, "nothing was changed");
                s.earlyStop = false; // a radius that nobody keeps is a yardstick
                s.rollback = false;
                assertEquals(3, new Run(s, walker, TrainerTest::score).updates.size());
                continue;
            }
            final Run run = new Run(s, walker, TrainerTest::score);
            assertEquals(3, run.updates.size());
            assertTrue(run.updates.stream().allMatch(u -> u.outcome().unchangedBy() == UnchangedReason.ROLLED_BACK && u.kl() == 0));
            if (rule == Config.FloorRule.IGNORE) {
                assertEquals(List.of(), run.floors);
                assertTrue(run.updates.stream().allMatch(u -> Double.isNaN(u.outcome().klFloor())));
            } else {
                assertTrue(run.floors.get(0).warning().contains("150 % of delta"), run.floors.get(0).warning());
                assertTrue(UnchangedReason.plainly(run.updates).get(0).contains("Rounding alone"), UnchangedReason.plainly(run.updates).get(0));
            }
        }
    }

    @Test
    void aWarningFromAQuarterOfTheRadiusOn() {
        for (double share : new double[] {0.2, 0.3}) {
            final Walker walker = new Walker(x -> 1e-3 * x * x);
            walker.noise = share * DELTA;
            final RunLog.Floor floor = new Run(settings(), walker, TrainerTest::score).floors.get(0);
            assertEquals(share > 0.25, floor.warning() != null);
            assertTrue(floor.plainly().contains("delta 0.0500, KL floor " + (share > 0.25 ? "0.015" : "0.010") + " nat a token"), floor.plainly());
        }
    }

    /**
     * Log-probs that are off by e after a nudge, or where a message is scored alone: k3 of a token is e^e - 1 - e; k1, whose mean is
     * 0 over many messages, scatters by e over the root of their number.
     */
    @Test
    void theFloorOfEstimatorsOfSampledTokens() {
        final double e = 0.02;
        for (String monitor : List.of("k1", "k3", "exact")) {
            for (boolean alone : new boolean[] {false, true}) {
                final TrainerTest.Settings s = settings();
                s.monitor = monitor;
                s.floor = Config.FloorRule.WARN;
                s.stages = 1;
                final Walker walker = new Walker(x -> 0) {
                    private boolean off;

                    @Override
                    public void nudge(double size, long seed) {
                        assertEquals(1e-3 * s.learningRate, size, 1e-12);
                        super.nudge(size, seed);
                        off = true;
                    }

                    @Override
                    public void restore(Snapshot snapshot) {
                        super.restore(snapshot);
                        off = false;
                    }

                    @Override
                    public Scores score(Batch batch, double temperature, Snapshot anchor) {
                        final Scores scores = super.score(batch, temperature, anchor);
                        for (int u = 0; u < batch.tokens() && (alone ? batch.size() == 1 && !off : off); u++) {
                            scores.logProbs()[u] += (float) e;
                        }
                        return scores;
                    }
                };
                final RunLog.Update u = new Run(s, walker, TrainerTest::score).updates.get(0);
                final double expected = monitor.equals("k1") ? e / Math.sqrt(u.messages())
                        : monitor.equals("k3") || alone ? Math.exp(e) - 1 - e : 0;
                assertEquals(expected, u.outcome().klFloor(), 1e-4 * Math.max(expected, 1e-6), monitor + ", alone " + alone);
            }
        }
    }

    /** Once, and again when the updates since come to ten times the radius. */
    @Test
    void theFloorIsMeasuredAgainWhenThePolicyHasMoved() {
        final TrainerTest.Settings s = settings();
        s.stages = 30;
        s.steps = 1;
        s.group = 64; // whose mean length hardly changes
        assertEquals(List.of(1), run(s, x -> 1e-4 * x * x).floors.stream().map(RunLog.Floor::stage).toList());
        final Run moving = run(s, x -> 0.9 * DELTA * x * x);
        assertEquals(List.of(1, 13, 25), moving.floors.stream().map(RunLog.Floor::stage).toList());
        assertTrue(moving.updates.stream().allMatch(u -> u.outcome().klFloor() < 1e-12), "a policy that computes in double has none");
    }

    @Test
    void theFloorIsMeasuredAgainWhenMessagesAreOfAnotherLength() {
        final Learner.Floor floor = new Learner.Floor(0.01, 100, 0.1);
        assertTrue(floor.holds(100, 0.01) && floor.holds(125, 0.01) && floor.holds(80, 0.01));
        assertTrue(!floor.holds(126, 0.01) && !floor.holds(79, 0.01) && !floor.holds(100, 0.0099));
    }

    @Test
    void withoutARadiusThereIsNothingToMeasure() {
        final TrainerTest.Settings s = settings();
        s.delta = Double.POSITIVE_INFINITY;
        assertEquals(List.of(), run(s, x -> x * x).floors);
    }

    // ---- other numbers for the monitor ----

    /** A monitor of its own numbers is asked before every step but the first, and its word alone counts. */
    @Test
    void theMonitorsOwnNumbersDecide() {
        final TrainerTest.Settings s = settings();
        s.monitorDtype = Policy.Precision.F32;
        final double c = 0.3 * DELTA;
        final List<Policy.Precision> asked = new ArrayList<>();
        final Walker walker = new Walker(x -> Double.NaN) {
            @Override
            public boolean computesIn(Precision precision) {
                return precision == Precision.SAME;
            }

            @Override
            public Scores score(Batch batch, double temperature, Snapshot anchor, Precision precision) {
                asked.add(precision);
                final Scores coarse = super.score(batch, temperature, anchor);
                if (anchor != null) {
                    final double walked = at - ((Walker.Position) anchor).at;
                    Arrays.fill(coarse.kl(), (float) (c * walked * walked));
                }
                return coarse;
            }
        };
        for (RunLog.Update u : new Run(s, walker, TrainerTest::score).updates) {
            assertEquals(2, u.innerSteps());
            assertEquals(1.2 * DELTA, u.klReached(), 1e-5 * DELTA);
            assertEquals(0.9 * DELTA, u.kl(), 1e-5 * DELTA);
        }
        assertTrue(asked.size() > 9 && asked.stream().allMatch(p -> p == Policy.Precision.F32));
    }

    @Test
    void aPolicyWithOnePrecisionSaysSo() {
        final TrainerTest.Settings s = settings();
        s.monitorDtype = Policy.Precision.F32;
        final UnsupportedOperationException e = assertThrows(UnsupportedOperationException.class, () -> run(s, x -> 0));
        assertTrue(e.getMessage().contains("trust_region.monitor_dtype: expected same"), e.getMessage());
    }

    // ---- nothing ----

    @ParameterizedTest
    @EnumSource(value = UnchangedReason.class, mode = EnumSource.Mode.EXCLUDE, names = "NOT_CERTIFIED")
    void anUpdateThatChangesNothingSaysWhy(UnchangedReason why) {
        final TrainerTest.Settings s = settings();
        final Walker walker = new Walker(why == UnchangedReason.ROLLED_BACK ? x -> 1 : x -> 0.01 * x);
        walker.norm = why == UnchangedReason.ZERO_GRADIENT ? 0 : 1;
        if (why == UnchangedReason.SILENT) {
            silent(s);
            return;
        }
        final Run run = new Run(s, walker, why == UnchangedReason.EQUAL_RETURNS ? c -> new Verifier.Score(1, true) : TrainerTest::score);
        assertEquals(3, run.updates.size());
        assertTrue(run.updates.stream().allMatch(u -> u.outcome().unchangedBy() == why));
        check(run, why);
    }

    private static void silent(TrainerTest.Settings s) {
        s.router = Router.sequence(0);
        s.turns = 1;
        final TrainerTest.Game game = TrainerTest.Game.play(s, 0, 1);
        final List<RunLog.Update> silent = game.updates.stream().filter(u -> u.agent().equals("agent1")).toList();
        assertEquals(3, silent.size());
        assertTrue(silent.stream().allMatch(u -> u.outcome().unchangedBy() == UnchangedReason.SILENT && u.messages() == 0));
        assertTrue(game.stages.stream().skip(1).allMatch(t -> t.unchanged().unchangedSilent() == 1));
    }

    private static void check(Run run, UnchangedReason why) {
        for (RunLog.Stage stage : run.stages) {
            final UnchangedReason.Counts n = stage.unchanged();
            final int one = stage.stage() > 0 ? 1 : 0;
            assertEquals(one, n.unchanged());
            assertEquals(one, switch (why) {
                case SILENT -> n.unchangedSilent();
                case EQUAL_RETURNS -> n.unchangedEqualReturns();
                case ZERO_GRADIENT -> n.unchangedZeroGradient();
                case ROLLED_BACK -> n.unchangedRolledBack();
                case NOT_CERTIFIED -> n.unchangedNotCertified();
            });
        }
        final List<String> sentences = UnchangedReason.plainly(run.updates);
        assertEquals(1, sentences.size());
        assertTrue(sentences.get(0).startsWith("3 of 3 updates changed nothing: "), sentences.get(0));
        assertTrue(sentences.get(0).contains("What may help: "), sentences.get(0));
    }

    /** A gradient that overflows is no step: it is computed again, and counted. */
    @Test
    void overflowsAreCountedAndCostNoStep() {
        final Walker walker = new Walker(x -> 1e-3 * x);
        walker.overflows = 5;
        final Run run = new Run(settings(), walker, TrainerTest::score);
        assertEquals(List.of(5, 0, 0), run.updates.stream().map(u -> u.outcome().overflows()).toList());
        assertTrue(run.updates.stream().allMatch(u -> u.innerSteps() == 4 && u.outcome().unchangedBy() == null));
        assertEquals(List.of(0, 5, 0, 0), run.stages.stream().map(t -> t.unchanged().overflows()).toList());
        assertEquals(List.of(), UnchangedReason.plainly(run.updates));
        assertEquals(12, walker.at);
    }

    /** A subset keeps the log-probs that were put in the place of the recorded ones. */
    @Test
    void aSubsetKeepsOtherOldLogProbs() {
        final TabularPolicy policy = new TabularPolicy(4, 1, 1);
        final Batch batch = Batch.of(List.of(policy.utterance(new int[] {1}, new int[] {1, 0}, 1), policy.utterance(new int[] {2},
                new int[] {2, 2, 0}, 1)), new float[2], new float[2]);
        final Batch other = batch.withLogProbsOld(new float[] {-1, -2, -3, -4, -5});
        assertEquals(List.of(-3f, -4f, -5f), List.of(other.subset(1).logProbsOld()[0], other.subset(1).logProbsOld()[1],
                other.subset(1).logProbsOld()[2]));
        assertNotEquals(-3f, batch.subset(1).logProbsOld()[0]);
        assertEquals(3, batch.longest());
    }
}
