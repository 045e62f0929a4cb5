package org.teamtr.torch;

import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.BoolOptional;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorArrayRefOptional;
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

    /** Of the surrogate, Eq. 10; {@return the scores of the batch that it was computed from} */
    Policy.Scores surrogate(Batch batch, double temperature, SurrogateConfig loss, Policy.Snapshot anchor) {
        final Policy.Scores out = Scorer.scores(batch, anchor);
        final SurrogateConfig whole = loss.withTotals(batch.tokens(), batch.size());
        final boolean klCounts = loss.klTerm() == SurrogateConfig.KlTerm.EXACT && loss.beta() != 0;
        final List<MicroBatch> micros = forward.split(batch.messages());
        final Decoder decoder = forward.decoder(Policy.Precision.SAME);
        final Anchor.HiddenStates then = forward.anchorStates(anchor, batch, micros.size(), Policy.Precision.SAME);
        accumulate(forward.tasks(micros, (part, micro) -> backward(decoder, micro, then, part, temperature, (head, dHidden, dWeight) -> {
            head.forward(); // a message's ratio needs all of its log-probs
            Scorer.scatter(head, micro, batch, out);
            // The surrogate, a few numbers per token, is computed on the host.
            try (Floats logProbs = Floats.ofFloats(Host.floats(head.logProbs()));
                    Floats logProbsOld = Floats.ofFloats(micro.gather(batch.logProbsOld(), batch.cuSeqlens()));
                    Floats a = Floats.ofFloats(micro.ofMessages(batch.advantages()));
                    Indices cuSeqlens = Indices.ofLongs(micro.cuSeqlens());
                    Floats kl = then == null ? null : Floats.ofFloats(Host.floats(head.kl()));
                    Floats entropy = Floats.ofFloats(Host.floats(head.entropy()));
                    Floats dLogProbs = Floats.allocate(micro.tokens());
                    Floats dKl = Floats.allocate(micro.tokens());
                    Floats dEntropy = Floats.allocate(micro.tokens());
                    SurrogateStats stats = new SurrogateStats()) {
                Surrogate.compute(whole, logProbs, logProbsOld, a, cuSeqlens, null, kl, entropy, null, dLogProbs, dKl, dEntropy,
                        stats);
                head.backward(scaled(dLogProbs), loss.entropyCoef() == 0 ? null : scaled(dEntropy), klCounts ? scaled(dKl) : null,
                        dHidden, dWeight);
            }
        })));
        return scorer.sum(out);
    }

    /** Of the mean negative log-likelihood per token, which is returned. */
    double likelihood(List<Utterance> messages) {
        final long tokens = messages.stream().mapToLong(m -> m.tokens().length).sum();
        final List<MicroBatch> micros = forward.split(messages);
        final double[] sums = new double[micros.size()];
        final Decoder decoder = forward.decoder(Policy.Precision.SAME);
        accumulate(forward.tasks(micros, (part, micro) -> backward(decoder, micro, null, part, 1, (head, dHidden, dWeight) -> {
            final Tensor slope = Decoder.empty(new long[] {micro.tokens()}, torch.ScalarType.Float, forward.device)
                    .fill_(new Scalar(-1.0 / tokens));
            head.backward(scaled(slope), null, null, dHidden, dWeight);
            for (float lp : Host.floats(head.logProbs())) {
                sums[part] -= lp;
            }
        })));
        forward.sum("likelihoods", sums);
        return Arrays.stream(sums).sum() / tokens;
    }

    /** {@return gradients of the loss as they go back through the model: on its device, and multiplied by the loss scale} */
    private Tensor scaled(Floats vector) {
        return scaled(Tensor.create(vector.toArray()).to(forward.device, torch.ScalarType.Float));
    }

    private Tensor scaled(Tensor vector) {
        return state.lossScale == null ? vector : vector.mul_(new Scalar(state.lossScale.scale()));
    }

    /** Writes a loss's gradient with respect to hidden states, and adds that to the head's weight, unless it is null. */
    private interface HeadGradient {
        void compute(LinearLogProbs head, Tensor dHidden, Tensor dWeight);
    }

    /** Forward and backward over one micro-batch; the gradients, by name, belong to the caller. */
    private Map<String, Tensor> backward(Decoder decoder, MicroBatch micro, Anchor.HiddenStates then, int part, double temperature,
            HeadGradient loss) {
        try (PointerScope scope = new PointerScope()) {
            final Map<String, Tensor> leaves = state.weights.leaves();
            final Map<String, Tensor> w = state.all(leaves);
            final Tensor hidden = forward.hidden(decoder, w, micro);
            final Tensor dHidden = torch.empty_like(hidden);
            final Layout.Part trainedHead = state.weights.layout.parts.get(decoder.head());
            final Tensor dWeight = trainedHead == null ? null
                    : Decoder.empty(trainedHead.shape(), torch.ScalarType.Float, forward.device).zero_();
            try (LinearLogProbs head = forward.head(decoder, hidden, w, then, part, micro, temperature)) {
                loss.compute(head, dHidden, dWeight);
            }
            hidden.backward(dHidden, new BoolOptional(), false, new TensorArrayRefOptional());
            final Map<String, Tensor> gradients = new HashMap<>();
            leaves.forEach((name, leaf) -> {
                final Tensor grad = leaf.grad();
                if (name.equals(decoder.head())) {
                    gradients.put(name, Decoder.kept(grad.defined() ? dWeight.add_(grad) : dWeight)); // of a tied embedding
                } else if (grad.defined()) {
                    gradients.put(name, Decoder.kept(grad.detach())); // grad itself is a part of the leaf
                }
            });
            return gradients;
        }
    }

    private void accumulate(List<Callable<Map<String, Tensor>>> tasks) {
        state.clearGradient();
        forward.workers.run(OutOfMemory.LEARNING, tasks, state::addGradients);
        state.completeGradient();
    }
}
