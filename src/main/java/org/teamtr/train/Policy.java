package org.teamtr.train;

import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import org.teamtr.kernels.SurrogateConfig;
import org.teamtr.kernels.SurrogateStats;
import org.teamtr.team.Speaker;
import org.teamtr.team.Utterance;

/**
 * A policy that learns. {@code org.teamtr.torch.TorchPolicy} implements it on libtorch; a trainer of another framework implements this
 * interface and uses {@link Trainer} unchanged.
 *
 * <p>One thread at a time; a policy may use several inside a call.
 */
public interface Policy extends Speaker, AutoCloseable {
    /** The formats in which a policy can be evaluated: see {@link #score}. */
    enum Precision {
        /** The format in which the policy computes. */
        SAME,
        /** The f32 parameters, with the inputs of products rounded to TF32's 10 bits. */
        TF32,
        /** The f32 parameters. */
        F32
    }

    /** Parameters as they were at some moment, and the optimiser's state with them. Closing it frees its memory. */
    interface Snapshot extends AutoCloseable {
        @Override
        void close();
    }

    /**
     * The scores of a batch per token, in the batch's order.
     *
     * @param logProbs [tokens] under the current parameters
     * @param kl [tokens], exact full-vocabulary KL(anchor || current parameters); null without an anchor
     * @param entropy [tokens]
     */
    record Scores(float[] logProbs, float[] kl, float[] entropy) {
        /** {@return the scores of some messages of the batch these are of} */
        Scores of(Batch batch, int[] messages) {
            return new Scores(batch.pick(logProbs, messages), kl == null ? null : batch.pick(kl, messages),
                    batch.pick(entropy, messages));
        }
    }

    /**
     * What {@link #gradient} returns beside the gradient itself.
     *
     * @param scores of the batch that it was computed from
     * @param stats of the loss over the whole batch, with its {@link Batch#centredReturns}; a {@link SurrogateStats#copy}
     */
    record Gradient(Scores scores, SurrogateStats stats) {
        /** {@return the same with the statistics of a loss over the whole batch, computed from its scores} */
        public static Gradient of(Batch batch, Scores scores, SurrogateConfig loss) {
            return new Gradient(scores, batch.statistics(scores, loss));
        }
    }

    /**
     * Scores a batch at the sampling temperature.
     *
     * @param anchor whose distributions the exact KL is taken from, or null for none
     */
    Scores score(Batch batch, double temperature, Snapshot anchor);

    /**
     * Scores a batch as {@link #score(Batch, double, Snapshot)} does, but evaluates both policies, this one and the anchor, in another
     * format: in bf16 the measured KL between two policies a small step apart is mostly rounding.
     *
     * @throws UnsupportedOperationException where a policy has one format only; {@code trust_region.monitor_dtype} must then be same
     */
    default Scores score(Batch batch, double temperature, Snapshot anchor, Precision precision) {
        if (!computesIn(precision)) {
            throw new UnsupportedOperationException("trust_region.monitor_dtype: expected same with " + getClass().getName()
                    + ", which computes in its own numbers alone");
        }
        return score(batch, temperature, anchor);
    }

    /** {@return whether this is the format in which the policy computes} */
    default boolean computesIn(Precision precision) {
        return precision == Precision.SAME;
    }

    /** {@return whether the trained parameters are adapters beside frozen weights}: a small step is then lost in their rounding */
    default boolean hasFrozenWeights() {
        return false;
    }

    /**
     * Scores a batch and stores the gradient of the loss for {@link #step}, replacing an earlier one.
     *
     * @param loss Eq. 10 or a variant of it; its denominators are those of the whole batch, however the policy splits it
     * @param anchor needed where the loss has the exact KL term; otherwise as in {@link #score}
     */
    Gradient gradient(Batch batch, double temperature, SurrogateConfig loss, Snapshot anchor);

    /**
     * How far logits have moved, by the rank of their token before (the paper's Fig. 5): the mean over the batch's tokens of
     * |logit now − logit of the anchor|, for the tokens of rank 1, 2–3, 4–7, 8–15, ... under the anchor. The mean change over the
     * vocabulary of a position, which changes no probability, is subtracted. Temperature 1.
     *
     * @return as many numbers as the vocabulary has such ranks
     * @throws UnsupportedOperationException where a policy does not support it; {@code diagnostics.logits} must then be false
     */
    default double[] logitShift(Batch batch, Snapshot anchor) {
        throw new UnsupportedOperationException("diagnostics.logits: expected false with " + getClass().getName()
                + ", which does not measure the shift of logits");
    }

    /**
     * Stores the gradient of the mean negative log-likelihood per token, at temperature 1, replacing an earlier one.
     *
     * @param messages whose {@code logProbs} are not used
     * @return the mean negative log-likelihood per token in nats
     */
    double imitate(List<Utterance> messages);

    /** {@return the tokens of a message that says this, the end token included} */
    int[] encodeMessage(String text);

    /**
     * One optimiser step along the gradient.
     *
     * @return the gradient's norm before clipping; NaN where it overflowed and no step was taken. The policy has then reduced its loss
     * scale, and the gradient can be computed again
     * @throws ArithmeticException if the gradient is not finite and computing it again would not help
     */
    double step(double learningRate);

    /** {@return a copy of parameters and optimiser state, owned by the caller} */
    Snapshot snapshot();

    /**
     * {@return a copy of the parameters alone, for the exact KL, the logits' shifts and {@link #nudge}, owned by the caller} It cannot be
     * restored after a step.
     */
    default Snapshot anchor() {
        return snapshot();
    }

    /** Restores a snapshot, optimiser state included, to the bit; {@link #version} too. */
    void restore(Snapshot snapshot);

    /**
     * Moves the parameters towards a snapshot: then + share (now - then). The optimiser's state is not changed.
     *
     * @param share of the distance from the snapshot that is kept, 0 to 1
     */
    void shorten(Snapshot snapshot, double share);

    /**
     * Moves every trained parameter by {@code size}, up or down at random. The caller undoes it by {@link #restore} before anything else;
     * until then {@link #version} is -1.
     *
     * @param seed the same seed moves the same way
     */
    void nudge(double size, long seed);

    /** {@return a checksum of the parameters} */
    long fingerprint();

    /**
     * Writes everything that {@link #load} needs to continue with the same bits, and what other programs need to use the model.
     *
     * @param folder exists and is empty
     */
    void save(Path folder) throws IOException;

    /**
     * Called on the other ranks while one of them saves and takes the {@link #fingerprint}: they send it their part, where state is divided
     * among ranks.
     */
    default void sendParts() {
    }

    /**
     * Loads parameters and optimiser state that {@link #save} wrote.
     *
     * @throws IOException if a file is missing, unreadable or of another model, naming it
     */
    void load(Path folder) throws IOException;

    /** Frees parameters and everything else. */
    @Override
    void close();
}
