package org.teamtr.train;

import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import org.teamtr.kernels.SurrogateConfig;
import org.teamtr.kernels.SurrogateStats;
import org.teamtr.team.Speaker;
import org.teamtr.team.Utterance;

/**
 * A policy that learns. {@code org.teamtr.torch.TorchPolicy} is ours; a trainer of another framework implements this and uses
 * {@link Trainer} unchanged.
 *
 * <p>One thread at a time; a policy may use several inside a call.
 */
public interface Policy extends Speaker, AutoCloseable {
    /** In which numbers a policy is evaluated where it need not be those that it computes with: see {@link #score}. */
    enum Precision {
        /** Those that it computes with. */
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
     * What one look at a batch gives, per token, in the batch's order.
     *
     * @param logProbs [tokens] under the parameters as they are
     * @param kl [tokens], exact full-vocabulary KL(anchor || parameters as they are); null without an anchor
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
     * What {@link #gradient} gives beside the gradient itself.
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
     * Scores a batch as {@link #score(Batch, double, Snapshot)} does, but evaluates both policies, this one and the anchor, in
     * numbers of their own: in bf16 the KL between two policies a small step apart is rounding, not theirs.
     *
     * @throws UnsupportedOperationException where a policy has one precision alone; then {@code trust_region.monitor_dtype} is to
     *     be same
     */
    default Scores score(Batch batch, double temperature, Snapshot anchor, Precision precision) {
        if (!computesIn(precision)) {
            throw new UnsupportedOperationException("trust_region.monitor_dtype: expected same with " + getClass().getName()
                    + ", which computes in its own numbers alone");
        }
        return score(batch, temperature, anchor);
    }

    /** {@return whether those are the numbers that it computes with anyway} */
    default boolean computesIn(Precision precision) {
        return precision == Precision.SAME;
    }

    /**
     * Scores a batch and leaves the gradient of the loss for {@link #step}, replacing any that is there.
     *
     * @param loss Eq. 10 or a relative; its denominators are those of the whole batch, however the policy splits it
     * @param anchor needed where the loss has the exact KL term; otherwise as in {@link #score}
     */
    Gradient gradient(Batch batch, double temperature, SurrogateConfig loss, Snapshot anchor);

    /**
     * How far logits have moved, by the rank of their token before (the paper's Fig. 5): the mean over the batch's tokens of
     * |logit now − logit of the anchor|, for the tokens of rank 1, 2–3, 4–7, 8–15, ... under the anchor. A shift of all logits of
     * a position, which changes no probability, does not count: the mean over its vocabulary is taken off. Temperature 1.
     *
     * @return as many numbers as the vocabulary has such ranks
     * @throws UnsupportedOperationException where a policy has no such thing; then {@code diagnostics.logits} is to be false
     */
    default double[] logitShift(Batch batch, Snapshot anchor) {
        throw new UnsupportedOperationException("diagnostics.logits: expected false with " + getClass().getName()
                + ", which does not measure the shift of logits");
    }

    /**
     * Leaves the gradient of the mean negative log-likelihood per token, at temperature 1, replacing any that is there.
     *
     * @param messages whose {@code logProbs} are not looked at
     * @return the mean negative log-likelihood per token in nats
     */
    double imitate(List<Utterance> messages);

    /** {@return the tokens of a message that says this, the end token included} */
    int[] encodeMessage(String text);

    /**
     * One optimiser step along the gradient.
     *
     * @return the gradient's norm before clipping; NaN where it was too large for the numbers it is computed in and no step was
     *     taken. The policy has then seen to it that the gradient comes out smaller, and it can be computed again
     * @throws ArithmeticException if the gradient is not finite and computing it again would not help
     */
    double step(double learningRate);

    /** {@return a copy of parameters and optimiser state, owned by the caller} */
    Snapshot snapshot();

    /** {@return a copy of the parameters alone, to take exact KL and logits' shifts from, owned by the caller} Not to go back to. */
    default Snapshot anchor() {
        return snapshot();
    }

    /** Goes back to a snapshot, optimiser state included, to the bit; {@link #version} too. */
    void restore(Snapshot snapshot);

    /**
     * Goes back towards a snapshot in the parameters: then + share (now - then). The optimiser's state stays.
     *
     * @param share of the way from the snapshot that is left, 0 to 1
     */
    void shorten(Snapshot snapshot, double share);

    /**
     * Moves every parameter that is trained by {@code size}, up or down by chance: a step that goes nowhere. It is taken back by
     * {@link #restore} before anything else; until then {@link #version} is -1.
     *
     * @param seed the same seed moves the same way
     */
    void nudge(double size, long seed);

    /** {@return a checksum of the parameters, equal exactly if they are (but for chance)} */
    long fingerprint();

    /**
     * Writes everything that {@link #load} needs to go on to the same bits, and what other programs need to use the model.
     *
     * @param folder exists and is empty
     */
    void save(Path folder) throws IOException;

    /**
     * What the other ranks do while one of them saves and takes the {@link #fingerprint}: they give it their part, where state is
     * divided among ranks.
     */
    default void give() {
    }

    /**
     * Takes parameters and optimiser state from what {@link #save} wrote.
     *
     * @throws IOException if a file is missing, unreadable or of another model, naming it
     */
    void load(Path folder) throws IOException;

    /** Frees parameters and everything else. */
    @Override
    void close();
}
