package org.teamtr.train;

import java.util.Arrays;
import java.util.List;
import java.util.function.Supplier;
import java.util.stream.IntStream;
import org.teamtr.kernels.SurrogateConfig;
import org.teamtr.team.KeyedRandom;

/**
 * Lines 6 and 7 of Algorithm 1, the update of one agent: ascends the surrogate of Eq. 10 until the KL of Eq. 11 exceeds the radius δ, then
 * rolls back to within it.
 */
final class TrustRegionUpdate {
    private final Config config;
    private final Certificate certificate; // null where no bound on advantages is known
    private final Certifier certifier; // null unless configured, and where the range of returns is not known
    private final Supplier<Estimate> realised;
    private final Monitor monitor;

    /** @param realised measures the gain of the latest update on held-out episodes */
    TrustRegionUpdate(Config config, Certifier certifier, Supplier<Estimate> realised) {
        this.config = config;
        this.certifier = certifier;
        this.realised = realised;
        final Config.Bound bound = config.certificate();
        this.certificate = bound.gamma() == null || bound.aMax() == null ? null : new Certificate(bound.gamma(), bound.aMax());
        this.monitor = new Monitor(config, config.rollout().temperature());
    }

    /**
     * Updates a learner.
     *
     * @param i its number in the stage, from 0 on
     * @param sigma the stage's learners in their order
     * @param probe receives the update for diagnosis; null for none
     */
    RunLog.Update run(int stage, int i, List<Learner> sigma, Rollouts rollouts, Probe probe) {
        final Learner learner = sigma.get(i);
        rollouts.checkVersions();
        final Batch batch = rollouts.batch(learner); // Eq. 9
        final RunLog.Update.Builder log = log(stage, i, sigma, rollouts, batch);
        if (hasNothingToLearn(batch)) {
            leaveUnchanged(learner, rollouts, batch, probe, log);
        } else {
            update(stage, i, learner, rollouts, batch, probe, log);
        }
        log.betaNext = learner.beta;
        log.shift = rollouts.tracksWeights() ? rollouts.shift() : Double.NaN;
        return log.build();
    }

    /** What is known before the update. */
    private static RunLog.Update.Builder log(int stage, int i, List<Learner> sigma, Rollouts rollouts, Batch batch) {
        final RunLog.Update.Builder log = new RunLog.Update.Builder();
        log.stage = stage;
        log.step = i + 1;
        log.agent = sigma.get(i).name;
        log.order = Learner.names(sigma);
        log.policyVersions = rollouts.namedVersions();
        log.episodes = rollouts.episodes.size();
        if (rollouts.madeFor == i) { // otherwise another update has them in its log
            log.dropped = rollouts.dropped;
            log.tokens = rollouts.tokens;
            log.secondsRollout = rollouts.seconds;
        }
        log.messages = batch.size();
        log.returnMean = rollouts.meanReturn();
        log.accuracy = rollouts.accuracy();
        log.delta = sigma.get(i).delta;
        log.beta = sigma.get(i).beta;
        log.fresh = rollouts.fresh();
        return log;
    }

    private void update(int stage, int i, Learner learner, Rollouts rollouts, Batch batch, Probe probe, RunLog.Update.Builder log) {
        final long started = System.nanoTime();
        final SurrogateConfig loss = loss(config, learner.beta);
        final boolean exact = monitor.exact() || loss.klTerm() == SurrogateConfig.KlTerm.EXACT;
        final boolean goesBack = probe != null || certifier != null;
        try (Policy.Snapshot before = goesBack ? learner.policy.snapshot() : exact ? learner.policy.anchor() : null; // pi_cur of Eq. 11
                Ascent ascent = new Ascent(stage, i, learner, rollouts, batch, loss, before, log)) {
            ascent.ascend();
            log.klReached = ascent.now.kl();
            if (probe != null) {
                probe.reached(ascent.now.perMessage(),
                        KeyedRandom.permutation(ascent.now.perMessage().length, config.seed(), Draw.MONITOR, stage, i, Draw.PROBE));
            }
            ascent.rollBack();
            final long bounding = System.nanoTime(); // the bound is not part of the update's time
            final GainBound gain = certifier == null ? GainBound.NONE : boundGain(ascent, i, rollouts);
            final double secondsBound = certifier == null ? 0 : seconds(bounding);
            final Monitor.Measure now = ascent.now;
            log.trainedTokens = batch.tokens();
            log.surrogate = now.surrogate();
            log.predictedGain = rollouts.learnt() == log.episodes ? now.predictedGain() : predictedGain(learner, rollouts);
            log.objective = now.stats().objective();
            log.kl = now.kl();
            log.klMax = now.klMax();
            log.outOfRegion = now.kl() > log.delta;
            log.clipFraction = now.stats().clipLow() + now.stats().clipHigh();
            log.ess = now.stats().ess();
            log.ratioMax = now.stats().ratioMax();
            log.entropy = now.stats().entropy();
            rollouts.addUpdate(now.klMessage(), radiusOfMessage(log.delta, batch));
            log.bound = certify(now, rollouts, batch).with(gain);
            log.outcome = new RunLog.Outcome(config.trustRegion().unit(), klFloor(learner), ascent.overflows, ascent.unchanged);
            adapt(learner, log.klReached, log.kl);
            learner.addUpdate(log.kl);
            if (rollouts.tracksWeights()) {
                rollouts.updateWeights(learner);
            }
            if (probe != null) {
                probe.updated(learner, batch, before, rollouts.madeFor);
            }
            log.secondsKl = ascent.monitored.seconds;
            log.secondsUpdate = seconds(started) - log.secondsKl - secondsBound;
        }
    }

    /** The log of an update that changes nothing. */
    private void leaveUnchanged(Learner learner, Rollouts rollouts, Batch batch, Probe probe, RunLog.Update.Builder log) {
        final Monitor.Measure same = Monitor.Measure.unchanged(batch.size());
        if (probe != null) {
            try (Policy.Snapshot before = learner.policy.snapshot()) {
                probe.reached(same.perMessage(), IntStream.range(0, batch.size()).toArray());
                probe.updated(learner, batch, before, rollouts.madeFor);
            }
        }
        rollouts.addUpdate(0, radiusOfMessage(log.delta, batch));
        log.bound = certify(same, rollouts, batch)
                .with(certifier == null ? GainBound.NONE : GainBound.unchanged(config.certificate().check()));
        log.outcome = new RunLog.Outcome(config.trustRegion().unit(), klFloor(learner), 0,
                batch.size() == 0 ? UnchangedReason.SILENT : UnchangedReason.EQUAL_RETURNS);
    }

    /** The steps of one update and their result. */
    private final class Ascent implements AutoCloseable {
        private final int stage;
        private final Learner learner;
        private final Policy policy;
        private final Batch batch;
        private final SurrogateConfig loss;
        private final double delta;
        private final RunLog.Update.Builder log;
        /** The policy before the update; null where it is not needed. */
        private final Policy.Snapshot before;
        private final Policy.Snapshot anchor; // of gradients
        final Monitor.UpdateMonitor monitored;
        /** Of the current parameters; null where they have not been measured. */
        Monitor.Measure now;
        private Policy.Snapshot inside; // the latest parameters within the region, and of them
        private double klInside;
        private int stepsInside;
        int overflows;
        private double largestNorm;
        /** Why the policy has not changed; null if it has. */
        UnchangedReason unchanged;

        Ascent(int stage, int i, Learner learner, Rollouts rollouts, Batch batch, SurrogateConfig loss, Policy.Snapshot before,
                RunLog.Update.Builder log) {
            this.stage = stage;
            this.learner = learner;
            this.policy = learner.policy;
            this.batch = batch;
            this.loss = loss;
            this.delta = learner.delta;
            this.before = before;
            this.log = log;
            this.monitored = monitor.new UpdateMonitor(policy, batch, monitoredMessages(batch, stage, i), loss, before,
                    messagesPerEpisode(batch, rollouts));
            final boolean exactTerm = loss.klTerm() == SurrogateConfig.KlTerm.EXACT;
            this.anchor = monitor.exact() && !monitored.separate || exactTerm ? before : null;
        }

        /** Ascends the surrogate until the KL leaves the region or there are no steps left; the step that left it is kept here. */
        void ascend() {
            final Config.TrustRegion region = config.trustRegion();
            while (log.innerSteps < config.optimiser().steps()) {
                if (monitored.separate && log.innerSteps > 0 && now == null && region.earlyStop()) {
                    now = monitored.measure();
                    if (isOutside()) {
                        break;
                    }
                }
                final Policy.Gradient gradient = policy.gradient(batch, config.rollout().temperature(), loss, anchor); // Eq. 10
                now = monitored.separate ? now : monitored.of(gradient); // Eq. 11
                if (log.innerSteps == 0) {
                    log.scoreGap = gap(batch, gradient.scores());
                }
                if (log.innerSteps > 0 && region.earlyStop() && isOutside()) {
                    break;
                }
                if (region.rollback()) {
                    remember();
                }
                final double norm = step(learner, stage, log.innerSteps + 1);
                if (Double.isNaN(norm)) {
                    overflows++; // no step was taken; the next gradient is computed with a smaller loss scale
                    continue;
                }
                log.gradNorm = norm;
                largestNorm = Math.max(largestNorm, norm);
                log.innerSteps++;
                now = null;
            }
            if (now == null) { // the last step has not been measured yet
                now = monitored.measure();
            }
            unchanged = largestNorm == 0 ? UnchangedReason.ZERO_GRADIENT : null;
        }

        private void remember() {
            if (inside != null) {
                inside.close();
            }
            inside = policy.snapshot();
            klInside = now == null ? 0 : now.kl();
            stepsInside = log.innerSteps;
        }

        /** A KL that is NaN is not within the region either. */
        private boolean isOutside() {
            return !(now.kl() <= delta);
        }

        /** Back into the region: the last step is shortened, up to so many times, then undone. */
        void rollBack() {
            final Config.TrustRegion region = config.trustRegion();
            final boolean left = isOutside();
            log.stoppedBy = left && region.earlyStop() ? "kl" : "steps";
            log.rolledBack = left && region.rollback();
            if (!region.rollback()) {
                return;
            }
            while (isOutside() && log.halvings < region.halvings()) {
                policy.shorten(inside, region.stepLength().share(klInside, now.kl(), delta, learner.floor == null ? 0 : learner.floor.kl()));
                log.halvings++;
                now = monitored.measure();
            }
            if (isOutside()) {
                policy.restore(inside);
                now = monitored.measure();
                unchanged = stepsInside == 0 ? UnchangedReason.ROLLED_BACK : unchanged;
            }
        }

        @Override
        public void close() {
            if (inside != null) {
                inside.close();
            }
        }
    }

    /** Bounds the gain, and where the bound decides, shortens or undoes the update. */
    private GainBound boundGain(Ascent ascent, int i, Rollouts rollouts) {
        final GainBound gain = certifier.judge(ascent.learner, i, ascent.before, rollouts.meanReturnLearnt());
        final boolean skipped = gain.decision() == GainBound.Decision.SKIPPED;
        if (skipped || gain.decision() == GainBound.Decision.SHORTENED) {
            ascent.now = ascent.monitored.measure();
            ascent.unchanged = skipped && ascent.unchanged == null ? UnchangedReason.NOT_CERTIFIED : ascent.unchanged;
        }
        return config.certificate().check() ? gain.realised(realised.get()) : gain;
    }

    private static double klFloor(Learner learner) {
        return learner.floor == null ? Double.NaN : learner.floor.kl();
    }

    /**
     * Measures the KL floor, unless that was done and neither the policy nor the length of its messages has changed much since; and checks
     * that δ is larger.
     */
    void measureFloor(int stage, int i, Learner learner, Rollouts rollouts, Trainer.Listener listener) {
        final Config.TrustRegion region = config.trustRegion();
        final Batch batch = rollouts.batch(learner);
        if (region.floor() == Config.FloorRule.IGNORE || Double.isInfinite(learner.delta) || hasNothingToLearn(batch) || batch.size() == 0) {
            return;
        }
        final double length = (double) batch.tokens() / batch.size();
        if (learner.floor != null && learner.floor.holds(length, learner.delta)) {
            return;
        }
        learner.floor = new Learner.Floor(monitor.floor(learner.policy, batch, learner.delta, config.seed(), Draw.FLOOR, stage, i), length, 0);
        final RunLog.Floor measured = new RunLog.Floor(stage, learner.name, learner.floor.kl(), learner.delta, region.unit(), length);
        listener.floor(measured);
        if (measured.kl() > measured.delta() && region.floor() == Config.FloorRule.REFUSE && (region.earlyStop() || region.rollback())) {
            throw new ArithmeticException(measured.plainly() + ". Expected less than delta: no update could be told from rounding. "
                    + "What helps: policies.<name>.dtype f16 or f32, trust_region.monitor_dtype f32, a larger trust_region.delta, or "
                    + "trust_region.unit token; with trust_region.floor warn it goes on all the same");
        }
    }

    private double step(Learner learner, int stage, int step) {
        try {
            return learner.policy.step(config.optimiser().learningRate());
        } catch (ArithmeticException e) {
            throw new ArithmeticException("stage " + stage + ", agent " + learner.name + ", step " + step + ": " + e.getMessage()
                    + "; the step was not taken. Try a smaller optimiser.learning_rate, dtype: f32 if it is bf16, and rewards that are"
                    + " finite");
        }
    }

    /** β and δ for the learner's next update: PPO's doubling and halving, by the KL before any roll-back. */
    private void adapt(Learner learner, double reached, double kept) {
        final Config.TrustRegion region = config.trustRegion();
        if (region.betaRule() == Config.BetaRule.ADAPTIVE) {
            final double factor = reached > 1.5 * learner.delta ? 2 : reached < learner.delta / 1.5 ? 0.5 : 1;
            learner.beta = Math.min(region.betaMax(), Math.max(region.betaMin(), learner.beta * factor));
        }
        if (region.deltaRule() == Config.DeltaRule.ADAPTIVE) {
            final double target = region.deltaTarget() > 0 ? region.deltaTarget() : learner.delta0;
            final double factor = Math.min(1.5, Math.max(1 / 1.5, target / Math.max(kept, 1e-12)));
            learner.delta = Math.min(10 * learner.delta0, Math.max(learner.delta0 / 10, learner.delta * factor));
        }
    }

    /** {@return the surrogate of Eq. 10, or the one that the configuration puts in its place} */
    static SurrogateConfig loss(Config config, double beta) {
        final Config.Loss c = config.loss();
        final boolean penalty = config.trustRegion().betaRule() != Config.BetaRule.NONE;
        return SurrogateConfig.PAPER.withRatio(c.ratio())
                .withClip(c.clipLow(), c.clipHigh())
                .withAggregation(c.aggregation())
                .withKl(penalty ? c.klTerm() : SurrogateConfig.KlTerm.NONE, penalty ? beta : 0)
                .withKlAggregation(c.klAggregation().of(config.trustRegion().unit()))
                .withEntropyCoef(c.entropy());
    }

    // ---- Eq. 11 and what else there is to know about an update ----

    /** The monitored messages: all, or a random share. */
    private int[] monitoredMessages(Batch batch, int stage, int i) {
        final int count = (int) Math.ceil(config.trustRegion().fraction() * batch.size());
        final int[] some = Arrays.copyOf(KeyedRandom.permutation(batch.size(), config.seed(), Draw.MONITOR, stage, i), count);
        Arrays.sort(some);
        return some;
    }

    /** δ of a whole message: of a mean over tokens, a message has at most as many times that as the longest has tokens. */
    private double radiusOfMessage(double delta, Batch batch) {
        return config.trustRegion().unit() == Config.Unit.TOKEN ? delta * batch.longest() : delta;
    }

    /** Theorem 3.4. For old rollouts the updates since they were made count too: Prop. 3.3. */
    private Certificate.Terms certify(Monitor.Measure now, Rollouts rollouts, Batch batch) {
        if (certificate == null) {
            return Certificate.Terms.NONE;
        }
        double squares = 0;
        for (float a0 : batch.centredReturns()) {
            squares += (double) a0 * a0;
        }
        final double scale = config.loss().normalise() ? Math.sqrt(squares / Math.max(1, batch.size())) : 1;
        return certificate.terms(now.surrogate(), rollouts.meanTurns(), now.zetas(), rollouts.sumSqrtKl(), rollouts.sumSqrtDelta(), scale);
    }

    private static double messagesPerEpisode(Batch batch, Rollouts rollouts) {
        return (double) batch.size() / rollouts.learnt();
    }

    /**
     * The gain that the surrogate predicts in units of return, from the validation episodes of the same rollouts. On the episodes that
     * determined the step it would be biased upwards.
     */
    private double predictedGain(Learner learner, Rollouts rollouts) {
        final Batch validation = rollouts.validation(learner);
        if (validation.size() == 0) {
            return 0;
        }
        final double[] gains = Monitor.gains(validation, learner.policy.score(validation, config.rollout().temperature(), null).logProbs());
        double sum = 0;
        for (int m = 0; m < gains.length; m++) {
            sum += gains[m] * validation.centredReturns()[m];
        }
        return sum / (rollouts.episodes.size() - rollouts.learnt());
    }

    /** The largest difference between log-probs of cached decoding and of full scoring, which compute the same function in another order. */
    private static double gap(Batch batch, Policy.Scores scores) {
        double gap = 0;
        for (int u = 0; u < batch.tokens(); u++) {
            gap = Math.max(gap, Math.abs((double) scores.logProbs()[u] - batch.logProbsOld()[u]));
        }
        return gap;
    }

    /**
     * Where all advantages are equal, the objective's gradient is rounding noise, which AdamW would scale up to full steps.
     */
    private boolean hasNothingToLearn(Batch batch) {
        for (float advantage : batch.advantages()) {
            if (advantage != 0) {
                return false;
            }
        }
        return config.loss().entropy() == 0 || batch.size() == 0;
    }

    private static double seconds(long since) {
        return (System.nanoTime() - since) * 1e-9;
    }
}
