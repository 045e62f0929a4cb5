package org.teamtr.train;

import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.function.Supplier;
import java.util.stream.IntStream;
import org.teamtr.kernels.SurrogateConfig;
import org.teamtr.team.Chance;

/**
 * Lines 6 and 7 of Algorithm 1, the update of one agent: steps up the surrogate of Eq. 10 until the KL of Eq. 11 leaves the radius δ,
 * then back to within it.
 */
final class TrustRegionUpdate implements AutoCloseable {
    private final Config config;
    private final Certificate certificate; // null where no bound on advantages is known
    private final Certifier certifier; // null unless asked for, and where nobody knows what returns can be
    private final Supplier<Estimate> realised;
    private final Monitor monitor;

    /** @param realised measures what the latest update gained on held-out episodes */
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
     * @param i which of the stage's, from 0 on
     * @param sigma the stage's learners in their order
     * @param probe to tell; null for none
     */
    RunLog.Update run(int stage, int i, List<Learner> sigma, Rollouts rollouts, Probe probe) {
        final Learner learner = sigma.get(i);
        final Policy policy = learner.policy;
        final Config.TrustRegion region = config.trustRegion();
        final double temperature = config.rollout().temperature();
        rollouts.checkVersions();
        final boolean fresh = rollouts.fresh();
        final Batch batch = rollouts.batch(learner);
        if (hasNothingToLearn(batch)) {
            return unchanged(stage, i, sigma, rollouts, fresh, batch, probe);
        }
        final long started = System.nanoTime();
        final SurrogateConfig loss = loss(config, learner.beta);
        final double delta = learner.delta;
        double scoreGap = 0;
        double gradNorm = 0;
        double largestNorm = 0;
        int steps = 0;
        int halvings = 0;
        int overflows = 0;
        Monitor.Measure now = null; // of the parameters as they are
        Policy.Snapshot inside = null; // the latest parameters within the region, and of them
        double klInside = 0;
        int stepsInside = 0;
        final boolean exact = monitor.exact() || loss.klTerm() == SurrogateConfig.KlTerm.EXACT;
        try (Policy.Snapshot before = probe != null || certifier != null ? policy.snapshot() : exact ? policy.anchor() : null) { // pi_cur of Eq. 11
            final Monitor.Watched watched = monitor.new Watched(policy, batch, watched(batch, stage, i), loss, before,
                    messagesPerEpisode(batch, rollouts));
            final Policy.Snapshot anchor = exact && !watched.apart || loss.klTerm() == SurrogateConfig.KlTerm.EXACT ? before : null;
            while (steps < config.optimiser().steps()) {
                if (watched.apart && steps > 0 && now == null && region.earlyStop()) {
                    now = watched.look();
                    if (leaves(now, delta)) {
                        break;
                    }
                }
                final Policy.Scores scores = policy.gradient(batch, temperature, loss, anchor); // Eq. 10, and Eq. 11 with it
                now = watched.apart ? now : watched.of(scores);
                scoreGap = steps == 0 ? gap(batch, scores) : scoreGap;
                if (steps > 0 && region.earlyStop() && leaves(now, delta)) {
                    break;
                }
                if (region.rollback()) {
                    close(inside);
                    inside = policy.snapshot();
                    klInside = now == null ? 0 : now.kl();
                    stepsInside = steps;
                }
                final double norm = step(learner, stage, steps + 1);
                if (Double.isNaN(norm)) {
                    overflows++; // no step was taken; the next gradient is computed with a smaller loss scale
                    continue;
                }
                gradNorm = norm;
                largestNorm = Math.max(largestNorm, norm);
                steps++;
                now = null;
            }
            if (now == null) { // the last step has not been looked at yet
                now = watched.look();
            }
            final double reached = now.kl();
            if (probe != null) {
                probe.reached(now.perMessage(), Chance.permutation(now.perMessage().length, config.seed(), Draw.MONITOR, stage, i, Draw.PROBE));
            }
            final boolean left = leaves(now, delta);
            while (region.rollback() && leaves(now, delta) && halvings < region.halvings()) {
                policy.shorten(inside, region.stepLength().share(klInside, now.kl(), delta, learner.floor == null ? 0 : learner.floor.kl()));
                halvings++;
                now = watched.look();
            }
            Unchanged unchanged = largestNorm == 0 ? Unchanged.ZERO_GRADIENT : null;
            if (region.rollback() && leaves(now, delta)) {
                policy.restore(inside);
                now = watched.look();
                unchanged = stepsInside == 0 ? Unchanged.ROLLED_BACK : unchanged;
            }
            GainBound gain = GainBound.NONE;
            final long apart = System.nanoTime(); // what is looked at beside the update is no part of its time
            if (certifier != null) {
                gain = certifier.judge(learner, i, before, rollouts.meanReturnLearnt());
                final boolean skipped = gain.decision() == GainBound.Decision.SKIPPED;
                if (skipped || gain.decision() == GainBound.Decision.SHORTENED) {
                    now = watched.look();
                    unchanged = skipped && unchanged == null ? Unchanged.NOT_CERTIFIED : unchanged;
                }
                gain = config.certificate().check() ? gain.realised(realised.get()) : gain;
            }
            final double beside = certifier == null ? 0 : seconds(apart);
            final int episodes = rollouts.episodes.size();
            final double predictedGain = rollouts.learnt() == episodes ? now.predictedGain()
                    : predictedGain(learner, rollouts.heldBack(learner), episodes - rollouts.learnt());
            final double beta = learner.beta;
            final Certificate.Terms bound = certify(now, delta, rollouts, batch).with(gain);
            adapt(learner, reached, now.kl());
            learner.moved(now.kl());
            if (rollouts.metered()) {
                rollouts.reweigh(learner);
            }
            if (probe != null) {
                probe.updated(learner, batch, before, rollouts.madeFor);
            }
            return new RunLog.Update(stage, i + 1, learner.name, Learner.names(sigma), rollouts.namedVersions(), rollouts.episodes.size(),
                    rollouts.madeFor == i ? rollouts.dropped : 0, batch.size(), rollouts.madeFor == i ? rollouts.tokens : 0,
                    batch.tokens(), rollouts.meanReturn(), rollouts.accuracy(), now.surrogate(), predictedGain,
                    now.objective(), now.kl(), now.klMax(), reached, delta, beta, learner.beta, steps,
                    left && region.earlyStop() ? "kl" : "steps", left && region.rollback(), halvings, now.kl() > delta,
                    now.clipFraction(), now.ess(), now.ratioMax(), scoreGap, now.entropy(), gradNorm, fresh,
                    rollouts.metered() ? rollouts.shift() : Double.NaN, rollouts.madeFor == i ? rollouts.seconds : 0,
                    seconds(started) - watched.seconds - beside, watched.seconds, bound,
                    new RunLog.Outcome(region.unit(), klFloor(learner), overflows, unchanged));
        } finally {
            close(inside);
        }
    }

    /** What is not a number is not within the region either. */
    private static boolean leaves(Monitor.Measure now, double delta) {
        return !(now.kl() <= delta);
    }

    private static double klFloor(Learner learner) {
        return learner.floor == null ? Double.NaN : learner.floor.kl();
    }

    /**
     * Measures what the monitor makes of no step at all, unless that was done and neither the policy nor the length of its
     * messages has changed much since; and sees that δ is more.
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
        learner.floor = new Learner.Floor(monitor.floor(learner.policy, batch, config.seed(), Draw.FLOOR, stage, i), length, 0);
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

    /** β and δ for the learner's next update: PPO's doubling and halving, by the KL that was reached before any way back. */
    private void adapt(Learner learner, double reached, double kept) {
        final Config.TrustRegion region = config.trustRegion();
        if (region.betaRule().equals("adaptive")) {
            final double factor = reached > 1.5 * learner.delta ? 2 : reached < learner.delta / 1.5 ? 0.5 : 1;
            learner.beta = Math.min(region.betaMax(), Math.max(region.betaMin(), learner.beta * factor));
        }
        if (region.deltaRule().equals("adaptive")) {
            final double target = region.deltaTarget() > 0 ? region.deltaTarget() : learner.delta0;
            final double factor = Math.min(1.5, Math.max(1 / 1.5, target / Math.max(kept, 1e-12)));
            learner.delta = Math.min(10 * learner.delta0, Math.max(learner.delta0 / 10, learner.delta * factor));
        }
    }

    /** {@return the surrogate of Eq. 10, or what the configuration puts in its place} */
    static SurrogateConfig loss(Config config, double beta) {
        final Config.Loss c = config.loss();
        final boolean penalty = !config.trustRegion().betaRule().equals("none");
        return SurrogateConfig.PAPER.withRatio(SurrogateConfig.Ratio.valueOf(constant(c.ratio())))
                .withClip(c.clipLow(), c.clipHigh())
                .withAggregation(SurrogateConfig.Aggregation.valueOf(constant(c.aggregation())))
                .withKl(penalty ? SurrogateConfig.KlTerm.valueOf(constant(c.klTerm())) : SurrogateConfig.KlTerm.NONE, penalty ? beta : 0)
                .withKlAggregation(c.klAggregation().equals("unit") ? config.trustRegion().unit().aggregation()
                        : SurrogateConfig.Aggregation.valueOf(constant(c.klAggregation())))
                .withEntropyCoef(c.entropy());
    }

    private static String constant(String name) {
        return name.toUpperCase(Locale.ROOT);
    }

    // ---- Eq. 11 and what else there is to know about an update ----

    /** The messages the monitor looks at: all, or a random share. */
    private int[] watched(Batch batch, int stage, int i) {
        final int count = (int) Math.ceil(config.trustRegion().fraction() * batch.size());
        final int[] some = Arrays.copyOf(Chance.permutation(batch.size(), config.seed(), Draw.MONITOR, stage, i), count);
        Arrays.sort(some);
        return some;
    }

    /** Theorem 3.4. Old rollouts are off by the updates since they were made, too: Prop. 3.3. */
    private Certificate.Terms certify(Monitor.Measure now, double delta, Rollouts rollouts, Batch batch) {
        // The bound is on messages. Of a mean over tokens, one has at most as many times that as the longest has tokens.
        rollouts.moved(now.klMessage(), delta * (config.trustRegion().unit() == Config.Unit.TOKEN ? batch.longest() : 1));
        if (certificate == null) {
            return Certificate.Terms.NONE;
        }
        double squares = 0;
        for (float a0 : batch.centredReturns()) {
            squares += (double) a0 * a0;
        }
        final double scale = config.loss().normalise() ? Math.sqrt(squares / Math.max(1, batch.size())) : 1;
        return certificate.terms(now.surrogate(), rollouts.meanTurns(), now.zetas(), rollouts.roots(), rollouts.radii(), scale);
    }

    private static double messagesPerEpisode(Batch batch, Rollouts rollouts) {
        return (double) batch.size() / rollouts.learnt();
    }

    /**
     * What the surrogate promises in units of return, from episodes of the same rollouts that the update has not seen. From those it has
     * seen it would promise too much: they chose the step.
     */
    private double predictedGain(Learner learner, Batch heldBack, int episodes) {
        if (heldBack.size() == 0) {
            return 0;
        }
        final float[] logProbs = learner.policy.score(heldBack, config.rollout().temperature(), null).logProbs();
        double sum = 0;
        for (int m = 0; m < heldBack.size(); m++) {
            sum += Monitor.gain(heldBack, logProbs, m) * heldBack.centredReturns()[m];
        }
        return sum / episodes;
    }

    /** Cached decoding and full scoring are the same function computed in another order: by how much they differ, at most. */
    private static double gap(Batch batch, Policy.Scores scores) {
        double gap = 0;
        for (int u = 0; u < batch.tokens(); u++) {
            gap = Math.max(gap, Math.abs((double) scores.logProbs()[u] - batch.logProbsOld()[u]));
        }
        return gap;
    }

    /**
     * Where no message is better than another, the objective's gradient is rounding noise, which AdamW would blow up to full steps.
     */
    private boolean hasNothingToLearn(Batch batch) {
        for (float advantage : batch.advantages()) {
            if (advantage != 0) {
                return false;
            }
        }
        return config.loss().entropy() == 0 || batch.size() == 0;
    }

    /** The log of an update that left everything as it was. */
    private RunLog.Update unchanged(int stage, int i, List<Learner> sigma, Rollouts rollouts, boolean fresh, Batch batch,
            Probe probe) {
        final Learner learner = sigma.get(i);
        final Monitor.Measure same = Monitor.Measure.unchanged(batch.size());
        if (probe != null) {
            try (Policy.Snapshot before = learner.policy.snapshot()) {
                probe.reached(same.perMessage(), IntStream.range(0, batch.size()).toArray());
                probe.updated(learner, batch, before, rollouts.madeFor);
            }
        }
        return new RunLog.Update(stage, i + 1, learner.name, Learner.names(sigma), rollouts.namedVersions(), rollouts.episodes.size(),
                rollouts.madeFor == i ? rollouts.dropped : 0, batch.size(), rollouts.madeFor == i ? rollouts.tokens : 0, 0,
                rollouts.meanReturn(), rollouts.accuracy(), 0, 0, 0, 0, 0, 0, learner.delta, learner.beta,
                learner.beta, 0, "none", false, 0, false, 0, 1, 1, 0, Double.NaN, 0, fresh,
                rollouts.metered() ? rollouts.shift() : Double.NaN, rollouts.madeFor == i ? rollouts.seconds : 0, 0, 0,
                certify(same, learner.delta, rollouts, batch).with(certifier == null ? GainBound.NONE
                        : GainBound.unchanged(config.certificate().check())), new RunLog.Outcome(config.trustRegion().unit(), klFloor(learner), 0,
                batch.size() == 0 ? Unchanged.SILENT : Unchanged.EQUAL_RETURNS));
    }

    private static double seconds(long since) {
        return (System.nanoTime() - since) * 1e-9;
    }

    private static void close(Policy.Snapshot snapshot) {
        if (snapshot != null) {
            snapshot.close();
        }
    }

    /** Frees its own memory; policies stay. */
    @Override
    public void close() {
        monitor.close();
    }
}
