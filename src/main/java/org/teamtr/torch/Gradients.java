package org.teamtr.torch;

import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch;
import org.teamtr.kernels.Floats;
import org.teamtr.kernels.Indices;
import org.teamtr.kernels.Surrogate;
import org.teamtr.kernels.SurrogateConfig;
import org.teamtr.kernels.SurrogateStats;
import org.teamtr.team.Utterance;
import org.teamtr.train.Batch;
import org.teamtr.train.Policy;

/** Computes the gradient of a loss over a batch, micro-batch by micro-batch, and adds it up in the {@link TrainingState}. */
final class Gradients {
    private final ForwardPass forward;
    private final TrainingState state;
    private final Scorer scorer;

    Gradients(ForwardPass forward, TrainingState state, Scorer scorer) {
        this.forward = forward;
        this.state = state;
        this.scorer = scorer;
    }

    /** Of the surrogate, Eq. 10. */
    Policy.Gradient surrogate(Batch batch, double temperature, SurrogateConfig loss, Policy.Snapshot anchor) {
        final Policy.Scores out = Scorer.scores(batch, anchor);
        final SurrogateConfig whole = loss.withTotals(batch.tokens(), batch.size());
        final boolean klCounts = loss.klTerm() == SurrogateConfig.KlTerm.EXACT && loss.beta() != 0;
        final List<MicroBatch> micros = forward.split(batch.messages());
        final Decoder decoder = forward.decoder(Policy.Precision.SAME);
        final Anchor.HiddenStates anchorStates = forward.anchorStates(anchor, batch, micros, Policy.Precision.SAME);
        // Before the first step the policy is what the anchor is: the KL and its gradient are 0, and both have the same hidden states.
        final boolean moved = anchor != null && !state.isAt(anchor);
        accumulate(decoder, micros, anchorStates, moved, temperature, (part, micro, head, dHidden, dWeight) -> {
            final SurrogateOfMessages messages = new SurrogateOfMessages(whole, micro, batch, head);
            head.backward(micro.cuSeqlens(), messages, messages.dLogProbs, loss.entropyCoef() == 0 ? null : messages.dEntropy,
                    klCounts && moved ? messages.dKl : null, dHidden, dWeight);
            Scorer.scatter(head, micro, batch, out);
        });
        return Policy.Gradient.of(batch, scorer.sum(out), loss);
    }

    /** Of the mean negative log-likelihood per token, which is returned. */
    double likelihood(List<Utterance> messages) {
        final long tokens = messages.stream().mapToLong(m -> m.tokens().length).sum();
        final List<MicroBatch> micros = forward.split(messages);
        final double[] sums = new double[micros.size()];
        final Decoder decoder = forward.decoder(Policy.Precision.SAME);
        accumulate(decoder, micros, null, false, 1, (part, micro, head, dHidden, dWeight) -> {
            final Tensor slope = vector(micro.tokens()).fill_(new Scalar(-1.0 / tokens));
            head.backward(scaled(slope), null, null, dHidden, dWeight);
            for (float lp : Host.floats(head.logProbs())) {
                sums[part] -= lp;
            }
        });
        forward.sum("likelihoods", sums);
        return Arrays.stream(sums).sum() / tokens;
    }

    /**
     * The surrogate of some messages of a micro-batch at a time: the ratio of a message needs the log-probs of all its tokens. It is a
     * few numbers per token, and computed on the host.
     */
    private final class SurrogateOfMessages implements LinearLogProbs.SequenceLoss {
        final Tensor dLogProbs;
        final Tensor dKl;
        final Tensor dEntropy;
        private final SurrogateConfig loss;
        private final LinearLogProbs head;
        private final long[] cuSeqlens;
        private final float[] logProbsOld;
        private final float[] advantages;

        /** @param loss with the totals of the batch */
        SurrogateOfMessages(SurrogateConfig loss, MicroBatch micro, Batch batch, LinearLogProbs head) {
            this.loss = loss;
            this.head = head;
            this.cuSeqlens = micro.cuSeqlens();
            this.logProbsOld = micro.gather(batch.logProbsOld(), batch.cuSeqlens());
            this.advantages = micro.ofMessages(batch.advantages());
            this.dLogProbs = vector(micro.tokens());
            this.dKl = vector(micro.tokens());
            this.dEntropy = vector(micro.tokens());
        }

        @Override
        public void gradients(int first, int last) {
            final int from = (int) cuSeqlens[first];
            final int n = (int) cuSeqlens[last] - from;
            try (PointerScope scope = new PointerScope();
                    Floats logProbs = Floats.ofFloats(Host.floats(head.logProbs().narrow(0, from, n)));
                    Floats old = Floats.ofFloats(Arrays.copyOfRange(logProbsOld, from, from + n));
                    Floats a = Floats.ofFloats(Arrays.copyOfRange(advantages, first, last));
                    Indices bounds = Indices.ofLongs(Arrays.stream(cuSeqlens, first, last + 1).map(bound -> bound - from).toArray());
                    Floats kl = Floats.ofFloats(head.kl() == null ? new float[n] : Host.floats(head.kl().narrow(0, from, n)));
                    Floats entropy = Floats.ofFloats(Host.floats(head.entropy().narrow(0, from, n)));
                    Floats ofLogProbs = Floats.allocate(n);
                    Floats ofKl = Floats.allocate(n);
                    Floats ofEntropy = Floats.allocate(n);
                    SurrogateStats stats = new SurrogateStats()) {
                Surrogate.compute(loss, logProbs, old, a, bounds, null, kl, entropy, null, ofLogProbs, ofKl, ofEntropy, stats);
                put(ofLogProbs, dLogProbs, from);
                put(ofKl, dKl, from);
                put(ofEntropy, dEntropy, from);
            }
        }

        private void put(Floats gradient, Tensor into, int from) {
            final float[] values = gradient.toArray();
            into.narrow(0, from, values.length).copy_(scaled(Tensor.create(values)));
        }
    }

    private Tensor vector(long size) {
        return Decoder.empty(new long[] {size}, torch.ScalarType.Float, forward.device);
    }

    /** {@return gradients of the loss as they go back through the model: multiplied by the loss scale} */
    private Tensor scaled(Tensor vector) {
        return state.lossScale == null ? vector : vector.mul_(new Scalar(state.lossScale.scale()));
    }

    /** Writes a loss's gradient with respect to hidden states, and adds that to the head's weight, unless it is null. */
    private interface HeadGradient {
        void compute(int part, MicroBatch micro, LinearLogProbs head, Tensor dHidden, Tensor dWeight);
    }

    /**
     * Forward and backward over a batch.
     *
     * @param anchorStates of the policy that a KL is taken from, or null for none
     * @param moved whether that is another than this one
     */
    private void accumulate(Decoder decoder, List<MicroBatch> micros, Anchor.HiddenStates anchorStates, boolean moved, double temperature,
            HeadGradient loss) {
        state.clearGradient();
        try (PointerScope scope = new PointerScope()) {
            final Tensor anchorHead = moved ? anchorStates.prepared(micros) : null;
            if (state.byLayer()) {
                try (LayerPass pass = new LayerPass(forward, decoder, unit -> state.unit(state.weights, Policy.Precision.SAME, unit), micros)) {
                    pass.forward(true);
                    pass.backward(state, List.of(Decoder.NORM, decoder.headUnit()), (w, x, part, micro) -> ofHead(decoder, w,
                            forward.selected(decoder.normed(w, x), micro), micro, anchorStates, moved, anchorHead, part, temperature, loss));
                }
                if (anchorStates != null && !moved) {
                    anchorStates.keptAll();
                }
            } else {
                forward.workers.run(OutOfMemory.LEARNING, forward.tasks(micros, (part, micro) -> backward(decoder, micro, anchorStates, moved,
                        anchorHead, part, temperature, loss)), state::addGradients);
            }
        }
        state.completeGradient();
    }

    /** Forward and backward over one micro-batch; the gradients, by name, belong to the caller. */
    private Map<String, Tensor> backward(Decoder decoder, MicroBatch micro, Anchor.HiddenStates anchorStates, boolean moved, Tensor anchorHead,
            int part, double temperature, HeadGradient loss) {
        try (PointerScope scope = new PointerScope()) {
            final Map<String, Tensor> leaves = state.weights.leaves();
            final Map<String, Tensor> w = state.all(leaves);
            final Map<String, Tensor> ofHead = ofHead(decoder, w, forward.hidden(decoder, w, micro), micro, anchorStates, moved, anchorHead, part,
                    temperature, loss);
            final Map<String, Tensor> gradients = new HashMap<>();
            leaves.forEach((name, leaf) -> {
                final Tensor grad = leaf.grad();
                final Tensor dWeight = ofHead.get(name);
                if (dWeight != null) {
                    gradients.put(name, Decoder.kept(grad.defined() ? dWeight.add_(grad) : dWeight)); // of a tied embedding
                } else if (grad.defined()) {
                    gradients.put(name, Decoder.kept(grad.detach())); // grad itself is a part of the leaf
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
    private Map<String, Tensor> ofHead(Decoder decoder, Map<String, Tensor> w, Tensor hidden, MicroBatch micro, Anchor.HiddenStates anchorStates,
            boolean moved, Tensor anchorHead, int part, double temperature, HeadGradient loss) {
        final Tensor dHidden = torch.empty_like(hidden);
        final Layout.Part trainedHead = state.weights.layout.parts.get(decoder.head());
        final Tensor dWeight = trainedHead == null ? null : Decoder.empty(trainedHead.shape(), torch.ScalarType.Float, forward.device).zero_();
        if (anchorStates != null && !moved) {
            anchorStates.keep(part, hidden);
        }
        try (LinearLogProbs head = forward.head(decoder, hidden, w.get(decoder.head()), moved ? anchorStates : null, anchorHead, part, micro,
                temperature)) {
            if (moved) {
                head.keepOld(anchorStates.keptLogits(part));
            } else if (anchorStates != null) {
                head.keep(anchorStates.keptLogits(part));
            }
            loss.compute(part, micro, head, dHidden, dWeight);
        }
        LayerPass.backpropagate(hidden, dHidden);
        return dWeight == null ? Map.of() : Map.of(decoder.head(), dWeight);
    }
}
