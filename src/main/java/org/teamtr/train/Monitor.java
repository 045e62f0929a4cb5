package org.teamtr.train;

import java.util.Arrays;
import org.teamtr.kernels.SurrogateConfig;
import org.teamtr.kernels.SurrogateStats;
import org.teamtr.team.KeyedRandom;

/**
 * Measures Eq. 11, KL(old || new) of an update, and the update's other statistics, on the monitored messages; and the part of such a KL
 * that is rounding.
 */
final class Monitor {
    /** The share of δ from which on the floor causes a warning. */
    static final double WARNED = 0.25;
    /** Messages that the floor is measured on, at most. */
    private static final int FEW = 8;
    /** The floor's step as a share of an optimiser's, in which every parameter moves by about the learning rate. */
    private static final double TINY = 1e-3;
    /** How often, at most, the length of a step is divided by ten until its KL is within the radius. */
    private static final int SHORTER = 3;

    private final Config config;
    private final double temperature;

    Monitor(Config config, double temperature) {
        this.config = config;
        this.temperature = temperature;
    }

    /**
     * Measurements of the current parameters on the monitored messages of a batch.
     *
     * @param kl Eq. 11 in the unit of the trust region
     * @param klMessage the same summed over a message's tokens
     * @param surrogate mean over episodes of the sum over messages of (w - 1) A
     * @param predictedGain the same with the centred returns in the place of A
     * @param stats of the loss; null of a policy that is as it was
     * @param perMessage the contribution of each message to {@code kl}; empty where it is not needed
     */
    record Measure(double kl, double klMessage, double klMax, double surrogate, double predictedGain, SurrogateStats stats,
            double[] perMessage) {
        static Measure unchanged(int messages) {
            return new Measure(0, 0, 0, 0, 0, null, new double[messages]);
        }

        /** {@return bias of the clip, error of the ratios, bias of normalising} */
        Certificate.Zetas zetas() {
            return stats == null ? new Certificate.Zetas(0, 0, 0) : new Certificate.Zetas(stats.zetaClip(), stats.zetaRatio(), stats.zetaNorm());
        }
    }

    /** {@return whether the full distributions of the old policy are needed} */
    boolean exact() {
        return estimator() == Config.KlEstimator.EXACT;
    }

    /** The measurements of one update. */
    final class UpdateMonitor {
        private final Policy policy;
        private final SurrogateConfig loss;
        private final Policy.Snapshot anchor;
        private final int[] indices;
        private final double perEpisode;
        private final Batch batch;
        private final Batch some;
        /** Whether every measurement needs a separate pass, since gradients are computed in another format. */
        final boolean separate;
        /** Time of separate passes. */
        double seconds;

        /**
         * To be made before the first step.
         *
         * @param before the current policy, for the exact KL; null where it is not needed
         * @param indices of the monitored messages
         * @param perEpisode messages of the batch in an episode
         */
        UpdateMonitor(Policy policy, Batch batch, int[] indices, SurrogateConfig loss, Policy.Snapshot before, double perEpisode) {
            this.policy = policy;
            this.loss = loss;
            this.anchor = exact() || loss.klTerm() == SurrogateConfig.KlTerm.EXACT ? before : null;
            this.indices = indices;
            this.perEpisode = perEpisode;
            this.batch = batch;
            this.separate = !policy.computesIn(config.trustRegion().monitorDtype());
            final Batch sampled = indices.length == batch.size() ? batch : batch.subset(indices);
            if (separate) { // the recorded log-probs were computed in another format
                final long started = System.nanoTime();
                some = sampled.withLogProbsOld(score(policy, sampled, null).logProbs());
                seconds += (System.nanoTime() - started) * 1e-9;
            } else {
                some = sampled;
            }
        }

        /** From the scores of a gradient of the whole batch. */
        Measure of(Policy.Gradient gradient) {
            return some == batch ? Monitor.this.measured(some, gradient.scores(), gradient.stats(), perEpisode)
                    : measured(gradient.scores().of(batch, indices));
        }

        private Measure measured(Policy.Scores scores) {
            return Monitor.this.measured(some, scores, some.statistics(scores, loss), perEpisode);
        }

        /** Measures in a separate pass. */
        Measure measure() {
            final long started = System.nanoTime();
            final Measure now = measured(score(policy, some, anchor));
            seconds += (System.nanoTime() - started) * 1e-9;
            return now;
        }
    }

    private Policy.Scores score(Policy policy, Batch batch, Policy.Snapshot anchor) {
        return score(policy, batch, anchor, config.trustRegion().monitorDtype());
    }

    private Policy.Scores score(Policy policy, Batch batch, Policy.Snapshot anchor, Policy.Precision precision) {
        return policy.computesIn(precision) ? policy.score(batch, temperature, anchor)
                : policy.score(batch, temperature, anchor, precision);
    }

    private Measure measured(Batch batch, Policy.Scores scores, SurrogateStats stats, double messagesPerEpisode) {
        final double[] gains = gains(batch, scores.logProbs());
        double surrogate = 0;
        double predicted = 0;
        for (int m = 0; m < batch.size(); m++) {
            surrogate += gains[m] * batch.advantages()[m];
            predicted += gains[m] * batch.centredReturns()[m];
        }
        final double scale = messagesPerEpisode / batch.size();
        final double klMessage = switch (estimator()) {
            case K1 -> stats.monitorK1();
            case K3 -> stats.monitorK3();
            case EXACT -> stats.monitorExact();
        };
        final boolean token = config.trustRegion().unit() == Config.Unit.TOKEN;
        final double[] perMessage = token || config.diagnostics().monitor() ? perMessage(batch, scores.logProbs(), scores.kl(), estimator())
                : new double[0];
        return new Measure(token ? mean(perMessage) : klMessage, klMessage,
                token ? Arrays.stream(perMessage(batch, scores.logProbs(), null, Config.KlEstimator.K1)).max().orElse(0) : stats.monitorMax(),
                surrogate * scale, predicted * scale, stats, perMessage);
    }

    private Config.KlEstimator estimator() {
        return config.trustRegion().monitor();
    }

    private static double mean(double[] values) {
        return Arrays.stream(values).average().orElse(0);
    }

    /** The contribution of each message to the monitor, which is their mean. */
    private double[] perMessage(Batch batch, float[] logProbs, float[] exact, Config.KlEstimator estimator) {
        return batch.kl(estimator, config.trustRegion().unit(), logProbs, exact);
    }

    /**
     * {@return the monitor's value without a training step, in the unit of the trust region}: the larger of two measurements. In the first,
     * every parameter moves by a thousandth of the learning rate, up or down at random: the true KL of this step is about a millionth of an
     * optimiser step's, so that the measured value is rounding, which every step has; in f32 the move is shortened where its KL is larger. In the second, the same parameters score messages one
     * by one and together.
     *
     * <p>k1 of rounding has a mean of 0, so its standard error over the monitored messages is taken.
     *
     * @param policy is not changed, to the bit
     * @param batch some of its messages
     * @param delta the radius; a step that is also measured in f32 is shortened until its KL there is within it
     * @param keys of the random numbers
     */
    double floor(Policy policy, Batch batch, double delta, long... keys) {
        final int[] order = KeyedRandom.permutation(batch.size(), keys);
        final int[] few = Arrays.copyOf(order, Math.min(FEW, batch.size()));
        final Batch sampled = batch.subset(few);
        final Batch some = sampled.withLogProbsOld(score(policy, sampled, null).logProbs());
        final double monitored = Math.ceil(config.trustRegion().fraction() * batch.size());
        final double step = klOfTinyStep(policy, some, delta, keys);
        final float[] alone = new float[some.tokens()];
        for (int m = 0; m < some.size(); m++) {
            final float[] one = score(policy, some.subset(m), null).logProbs();
            System.arraycopy(one, 0, alone, (int) some.cuSeqlens()[m], one.length);
        }
        final boolean k1 = estimator() == Config.KlEstimator.K1;
        final double[] other = perMessage(some, alone, null, k1 ? Config.KlEstimator.K1 : Config.KlEstimator.K3);
        final double rounding = Math.max(step, Math.max(size(other), excessOverF32(policy, some, delta, keys)));
        return k1 ? rounding / Math.sqrt(monitored) : rounding;
    }

    /**
     * {@return the KL of a step that is too short to change the policy} A KL that is large in f32 is not rounding: the learning rate is far too
     * large, or the policy very sensitive. Then it is the KL of a shorter step, if one of those that are tried has a small one.
     */
    private double klOfTinyStep(Policy policy, Batch some, double delta, long... keys) {
        final Policy.Precision own = config.trustRegion().monitorDtype();
        final double length = TINY * config.optimiser().learningRate();
        final double kl = klOfStep(policy, some, length, own, keys);
        if (!(kl > WARNED * delta) || !inF32(policy)) {
            return kl;
        }
        final Step shorter = stepWithin(0.01 * WARNED * delta, policy, some, length / 10, 2 * SHORTER - 1, own, keys);
        return shorter.kl > WARNED * delta ? kl : shorter.kl;
    }

    private record Step(double length, double kl) {
    }

    /** {@return the first of steps, each a tenth of the one before, whose KL is at most {@code most}; the last if there is none} */
    private Step stepWithin(double most, Policy policy, Batch some, double length, int shorter, Policy.Precision precision, long... keys) {
        double at = length;
        double kl = klOfStep(policy, some, at, precision, keys);
        for (int i = 0; i < shorter && kl > most; i++) {
            at /= 10;
            kl = klOfStep(policy, some, at, precision, keys);
        }
        return new Step(at, kl);
    }

    /** Whether the monitor computes in f32. */
    private boolean inF32(Policy policy) {
        final Policy.Precision own = config.trustRegion().monitorDtype();
        return own == Policy.Precision.F32 || own == Policy.Precision.SAME && policy.computesIn(Policy.Precision.F32);
    }

    /** The mean over messages; for k1 the root of the mean square, since the mean of rounding errors is 0. */
    private double size(double[] perMessage) {
        return estimator() == Config.KlEstimator.K1 ? scatter(perMessage) : mean(perMessage);
    }

    /** {@return how much larger the KL of a step is in the monitor's format than in f32}; 0 for policies without frozen weights. */
    private double excessOverF32(Policy policy, Batch some, double delta, long... keys) {
        if (!policy.hasFrozenWeights() || inF32(policy)) {
            return 0;
        }
        final Batch exactly = some.withLogProbsOld(policy.score(some, temperature, null, Policy.Precision.F32).logProbs());
        final Step exact = stepWithin(delta, policy, exactly, config.optimiser().learningRate(), SHORTER, Policy.Precision.F32, keys);
        return exact.kl > delta ? 0 : klOfStep(policy, some, exact.length, config.trustRegion().monitorDtype(), keys) - exact.kl;
    }

    /** {@return the KL after every parameter has moved by this length, up or down at random} The policy is restored. */
    private double klOfStep(Policy policy, Batch some, double length, Policy.Precision precision, long... keys) {
        try (Policy.Snapshot before = policy.anchor()) {
            policy.nudge(length, KeyedRandom.seed(keys));
            try {
                final Policy.Scores moved = score(policy, some, exact() ? before : null, precision);
                return size(perMessage(some, moved.logProbs(), moved.kl(), estimator()));
            } finally {
                policy.restore(before);
            }
        }
    }

    private static double scatter(double[] values) {
        return Math.sqrt(Arrays.stream(values).map(x -> x * x).average().orElse(0));
    }

    /**
     * {@return [messages] w - 1, w at most the root of the number of messages}: truncated importance sampling (Ionides, 2008). Without it,
     * a single message that was very unlikely before can outweigh all others of a batch.
     */
    static double[] gains(Batch batch, float[] logProbs) {
        final double most = Math.max(1, Math.sqrt(batch.size()));
        return Arrays.stream(batch.logRatios(logProbs)).map(log -> Math.min(Math.exp(log), most) - 1).toArray();
    }
}
