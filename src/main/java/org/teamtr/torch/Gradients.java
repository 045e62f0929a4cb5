package org.teamtr.torch;

import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.function.UnaryOperator;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Device;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch;
import org.teamtr.kernels.Surrogate;
import org.teamtr.kernels.SurrogateConfig;
import org.teamtr.kernels.SurrogateStats;
import org.teamtr.team.Utterance;
import org.teamtr.train.Batch;
import org.teamtr.train.Policy;

/** Computes the gradient of a loss over a batch, one micro-batch after the other, and sums it in the {@link TrainingState}. */
final class Gradients {
    private final ForwardPass forward;
    private final TrainingState state;
    private final Scorer scorer;

    Gradients(ForwardPass forward, TrainingState state, Scorer scorer) {
        this.forward = forward;
        this.state = state;
        this.scorer = scorer;
    }

    /** Computes the gradient of the surrogate, Eq. 10. */
    Policy.Gradient surrogate(Batch batch, double temperature, SurrogateConfig loss, Policy.Snapshot anchor) {
        final SurrogateConfig whole = loss.withTotals(batch.tokens(), batch.size());
        final boolean klCounts = loss.klTerm() == SurrogateConfig.KlTerm.EXACT && loss.beta() != 0;
        final Decoder decoder = forward.decoder(Policy.Precision.SAME);
        try (PointerScope scope = new PointerScope()) {
            final List<PackedSequences> micros = forward.packed(batch.messages());
            final Anchor.HiddenStates anchorStates = forward.anchorStates(anchor, batch, micros, Policy.Precision.SAME);
            // Before the first step the policy equals the anchor: the KL and its gradient are 0, and the hidden states are the same.
            final boolean moved = anchor != null && !state.isAt(anchor);
            final Results results = new Results(micros, anchor != null, forward.device);
            final Sampled sampled = Sampled.of(batch, micros, forward.device);
            accumulate(decoder, micros, anchorStates, moved, temperature, (packed, head, dHidden, dWeight) -> {
                final SurrogateOfMessages messages = new SurrogateOfMessages(whole, packed, sampled, head);
                head.backward(packed.micro.cuSeqlens(), messages, messages.dLogProbs, loss.entropyCoef() == 0 ? null : messages.dEntropy,
                        klCounts && moved ? messages.dKl : null, dHidden, dWeight);
                results.put(packed, head);
            });
            return Policy.Gradient.of(batch, scorer.sum(results.scores(batch)), loss);
        }
    }

    /** Computes the gradient of the mean negative log-likelihood per token. {@return that mean} */
    double likelihood(List<Utterance> messages) {
        final long tokens = messages.stream().mapToLong(m -> m.tokens().length).sum();
        final Decoder decoder = forward.decoder(Policy.Precision.SAME);
        try (PointerScope scope = new PointerScope()) {
            final List<PackedSequences> micros = forward.packed(messages);
            final Results results = new Results(micros, false, forward.device);
            accumulate(decoder, micros, null, false, 1, (packed, head, dHidden, dWeight) -> {
                final Tensor slope = vector(packed.micro.tokens()).fill_(new Scalar(-1.0 / tokens));
                head.backward(scaled(slope), null, null, dHidden, dWeight);
                results.put(packed, head);
            });
            final float[] logProbs = results.logProbs();
            final double[] sums = new double[micros.size()];
            for (int part = 0; part < sums.length; part++) {
                final int from = micros.get(part).tokensBefore;
                for (int t = from; t < from + micros.get(part).micro.tokens(); t++) {
                    sums[part] -= logProbs[t];
                }
            }
            forward.sum("likelihoods", sums);
            return Arrays.stream(sums).sum() / tokens;
        }
    }

    /**
     * The log-probs with which a batch's messages were sampled, and their advantages, on the device, in the order of the micro-batches.
     *
     * @param logProbs [tokens]
     * @param advantages [messages]
     */
    private record Sampled(Tensor logProbs, Tensor advantages) {
        static Sampled of(Batch batch, List<PackedSequences> micros, Device device) {
            final float[] logProbs = new float[batch.tokens()];
            final float[] advantages = new float[batch.size()];
            for (PackedSequences packed : micros) {
                final MicroBatch micro = packed.micro;
                System.arraycopy(micro.gather(batch.logProbsOld(), batch.cuSeqlens()), 0, logProbs, packed.tokensBefore, micro.tokens());
                System.arraycopy(micro.ofMessages(batch.advantages()), 0, advantages, packed.messagesBefore, micro.messages().size());
            }
            return new Sampled(HostCopies.onDevice(logProbs, device), HostCopies.onDevice(advantages, device));
        }
    }

    /** The surrogate of a micro-batch, for some of its messages at a time; always whole messages, as a message's ratio needs all its log-probs. */
    private final class SurrogateOfMessages implements LinearLogProbs.SequenceLoss {
        final Tensor dLogProbs;
        final Tensor dKl;
        final Tensor dEntropy;
        private final SurrogateConfig loss;
        private final LinearLogProbs head;
        private final long[] cuSeqlens;
        private final PackedSequences packed;
        private final Tensor logProbsOld;
        private final Tensor advantages;
        private final Tensor noKl;
        private final Tensor statistics; // the kernel writes them; they are not read

        /** @param loss with the totals of the batch */
        SurrogateOfMessages(SurrogateConfig loss, PackedSequences packed, Sampled sampled, LinearLogProbs head) {
            final int tokens = packed.micro.tokens();
            this.loss = loss;
            this.head = head;
            this.packed = packed;
            this.cuSeqlens = packed.micro.cuSeqlens();
            this.logProbsOld = sampled.logProbs.narrow(0, packed.tokensBefore, tokens);
            this.advantages = sampled.advantages.narrow(0, packed.messagesBefore, packed.micro.messages().size());
            this.noKl = vector(tokens).zero_();
            this.dLogProbs = vector(tokens);
            this.dKl = vector(tokens);
            this.dEntropy = vector(tokens);
            this.statistics = Decoder.empty(new long[] {SurrogateStats.COUNT}, torch.ScalarType.Double, forward.device);
        }

        @Override
        public void gradients(int first, int last) {
            final long from = cuSeqlens[first];
            final long n = cuSeqlens[last] - from;
            try (PointerScope scope = new PointerScope(); SurrogateStats stats = TensorViews.statistics(statistics)) {
                final Tensor bounds = packed.messages.narrow(0, first, last - first + 1L).sub(new Scalar(from));
                final UnaryOperator<Tensor> own = vector -> vector.narrow(0, from, n);
                Surrogate.compute(loss, TensorViews.floats(own.apply(head.logProbs())), TensorViews.floats(own.apply(logProbsOld)),
                        TensorViews.floats(advantages.narrow(0, first, last - (long) first)), TensorViews.indices(bounds), null,
                        TensorViews.floats(own.apply(head.kl() == null ? noKl : head.kl())), TensorViews.floats(own.apply(head.entropy())), null,
                        TensorViews.floats(own.apply(dLogProbs)), TensorViews.floats(own.apply(dKl)), TensorViews.floats(own.apply(dEntropy)),
                        stats);
                for (Tensor gradient : new Tensor[] {dLogProbs, dKl, dEntropy}) {
                    scaled(own.apply(gradient));
                }
            }
        }
    }

    private Tensor vector(long size) {
        return Decoder.empty(new long[] {size}, torch.ScalarType.Float, forward.device);
    }

    /** {@return gradients of the loss, multiplied by the loss scale for the backward pass} */
    private Tensor scaled(Tensor vector) {
        return state.lossScale == null ? vector : vector.mul_(new Scalar(state.lossScale.scale()));
    }

    /** Writes the gradient of a loss with respect to the hidden states, and adds that of the head's weight to dWeight unless it is null. */
    private interface HeadGradient {
        void compute(PackedSequences packed, LinearLogProbs head, Tensor dHidden, Tensor dWeight);
    }

    /**
     * Forward and backward over a batch.
     *
     * @param anchorStates of the policy from which a KL is measured, or null for none
     * @param moved whether this policy differs from that one
     */
    private void accumulate(Decoder decoder, List<PackedSequences> micros, Anchor.HiddenStates anchorStates, boolean moved, double temperature,
            HeadGradient loss) {
        state.clearGradient();
        try (PointerScope scope = new PointerScope()) {
            final Tensor anchorHead = moved ? anchorStates.prepared(micros) : null;
            if (state.byLayer()) {
                try (LayerPass pass = new LayerPass(forward, decoder, unit -> state.unit(state.weights, Policy.Precision.SAME, unit), micros)) {
                    pass.forward(true);
                    pass.backward(state, List.of(Decoder.NORM, decoder.headUnit()), (w, x, part, packed) -> ofHead(decoder, w,
                            decoder.normed(w, x).index_select(0, packed.asked), packed, anchorStates, moved, anchorHead, part, temperature, loss));
                }
                if (anchorStates != null && !moved) {
                    anchorStates.keptAll();
                }
            } else {
                forward.workers.run(OutOfMemory.LEARNING, forward.tasks(micros, (part, packed) -> backward(decoder, packed, anchorStates, moved,
                        anchorHead, part, temperature, loss)), state::addGradients);
            }
        }
        state.completeGradient();
    }

    /** Forward and backward pass of one micro-batch; the caller owns the gradients, which are by name. */
    private Map<String, Tensor> backward(Decoder decoder, PackedSequences packed, Anchor.HiddenStates anchorStates, boolean moved, Tensor anchorHead,
            int part, double temperature, HeadGradient loss) {
        try (PointerScope scope = new PointerScope()) {
            final Map<String, Tensor> leaves = state.weights.leaves();
            final Map<String, Tensor> w = state.all(leaves);
            final Map<String, Tensor> ofHead = ofHead(decoder, w, forward.hidden(decoder, w, packed), packed, anchorStates, moved, anchorHead, part,
                    temperature, loss);
            final Map<String, Tensor> gradients = new HashMap<>();
            leaves.forEach((name, leaf) -> {
                final Tensor grad = leaf.grad();
                final Tensor dWeight = ofHead.get(name);
                if (dWeight != null) {
                    gradients.put(name, Decoder.kept(grad.defined() ? dWeight.add_(grad) : dWeight)); // a tied embedding
                } else if (grad.defined()) {
                    gradients.put(name, Decoder.kept(grad.detach())); // grad itself belongs to the leaf
                }
            });
            return gradients;
        }
    }

    /**
     * Computes the loss of one micro-batch from its hidden states, and backpropagates it through them.
     *
     * @return the gradient of the head's weight by its name; empty if that is not trained
     */
    private Map<String, Tensor> ofHead(Decoder decoder, Map<String, Tensor> w, Tensor hidden, PackedSequences packed,
            Anchor.HiddenStates anchorStates, boolean moved, Tensor anchorHead, int part, double temperature, HeadGradient loss) {
        final Tensor dHidden = torch.empty_like(hidden);
        final Layout.Part trainedHead = state.weights.layout.parts.get(decoder.head());
        final Tensor dWeight = trainedHead == null ? null : Decoder.empty(trainedHead.shape(), torch.ScalarType.Float, forward.device).zero_();
        if (anchorStates != null && !moved) {
            anchorStates.keep(part, hidden);
        }
        try (LinearLogProbs head = forward.head(decoder, hidden, w.get(decoder.head()), moved ? anchorStates : null, anchorHead, part, packed,
                temperature)) {
            if (moved) {
                head.keepOld(anchorStates.keptLogits(part));
            } else if (anchorStates != null) {
                head.keep(anchorStates.keptLogits(part));
            }
            loss.compute(packed, head, dHidden, dWeight);
        }
        LayerPass.backpropagate(hidden, dHidden);
        return dWeight == null ? Map.of() : Map.of(decoder.head(), dWeight);
    }
}
