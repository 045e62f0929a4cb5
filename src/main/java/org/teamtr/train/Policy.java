package org.teamtr.train;

import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import org.teamtr.kernels.SurrogateConfig;
import org.teamtr.team.Speaker;
import org.teamtr.team.Utterance;

/**
 * A policy that learns. {@code org.teamtr.torch.TorchPolicy} is ours; a trainer of another framework implements this and uses
 * {@link Trainer} unchanged.
 *
 * <p>One thread at a time; a policy may use several inside a call.
 */
public interface Policy extends Speaker, AutoCloseable {
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
     * Scores a batch at the sampling temperature.
     *
     * @param anchor whose distributions the exact KL is taken from, or null for none
     */
    Scores score(Batch batch, double temperature, Snapshot anchor);

    /**
     * Scores a batch and leaves the gradient of the loss for {@link #step}, replacing any that is there.
     *
     * @param loss Eq. 10 or a relative; its denominators are those of the whole batch, however the policy splits it
     * @param anchor needed where the loss has the exact KL term; otherwise as in {@link #score}
     */
    Scores gradient(Batch batch, double temperature, SurrogateConfig loss, Snapshot anchor);

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
     * @return the gradient's norm before clipping
     */
    double step(double learningRate);

    /** {@return a copy of parameters and optimiser state, owned by the caller} */
    Snapshot snapshot();

    /** Goes back to a snapshot, optimiser state included, to the bit; {@link #version} too. */
    void restore(Snapshot snapshot);

    /** Goes half the way back to a snapshot in the parameters: (now + then) / 2. The optimiser's state stays. */
    void halve(Snapshot snapshot);

    /** {@return a checksum of the parameters, equal exactly if they are (but for chance)} */
    long fingerprint();

    /**
     * Writes everything that {@link #load} needs to go on to the same bits, and what other programs need to use the model.
     *
     * @param folder exists and is empty
     */
    void save(Path folder) throws IOException;

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
