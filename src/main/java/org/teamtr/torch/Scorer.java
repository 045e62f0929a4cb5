package org.teamtr.torch;

import java.util.Arrays;
import java.util.List;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.NoGradGuard;
import org.bytedeco.pytorch.Tensor;
import org.teamtr.train.Batch;
import org.teamtr.train.Diagnostics;
import org.teamtr.train.Policy;

/** Scores a policy on the messages of a batch: log-probs, entropy, exact KL from an anchor, and the change of the logits. */
final class Scorer {
    private final ForwardPass forward;
    private final TrainingState state;

    Scorer(ForwardPass forward, TrainingState state) {
        this.forward = forward;
        this.state = state;
    }

    Policy.Scores score(Batch batch, double temperature, Policy.Snapshot anchor, Policy.Precision precision) {
        final Decoder decoder = forward.decoder(precision);
        try (PointerScope all = new PointerScope()) {
            final List<PackedSequences> micros = forward.packed(batch.messages());
            final Anchor.HiddenStates anchorStates = forward.anchorStates(anchor, batch, micros, precision);
            final Tensor anchorHead = anchorStates == null ? null : anchorStates.prepared(micros);
            final ForwardPass.States now = forward.states(decoder, state, state.weights, precision, micros);
            final Results results = new Results(micros, anchor != null, forward.device);
            forward.workers.run(OutOfMemory.LEARNING, forward.tasks(micros, (part, packed) -> {
                try (NoGradGuard guard = new NoGradGuard();
                        PointerScope scope = new PointerScope();
                        LinearLogProbs head = forward.head(decoder, now.hidden().of(part, packed), now.head(), anchorStates, anchorHead, part, packed,
                                temperature)) {
                    head.forward(packed.micro.cuSeqlens());
                    results.put(packed, head);
                }
                return null;
            }), nothing -> {});
            return sum(results.scores(batch));
        }
    }

    /** Adds the scores of other ranks; until then, what they have computed is zero on this one. */
    Policy.Scores sum(Policy.Scores scores) {
        if (scores.kl() == null) {
            forward.sum("scores", scores.logProbs(), scores.entropy());
        } else {
            forward.sum("scores", scores.logProbs(), scores.entropy(), scores.kl());
        }
        return scores;
    }

    double[] logitShift(Batch batch, Policy.Snapshot anchor) {
        final Decoder decoder = forward.decoder(Policy.Precision.SAME);
        final int columns = forward.vocab;
        final long chunk = Math.max(1, LinearLogProbs.CHUNK_BYTES / (4L * columns));
        final int ranks = 32 - Integer.numberOfLeadingZeros(columns);
        final double[] mean = new double[ranks];
        try (PointerScope all = new PointerScope()) {
            final List<PackedSequences> micros = forward.packed(batch.messages());
            final Anchor.HiddenStates anchorStates = ((Anchor) anchor).hiddenStates(batch, micros, Policy.Precision.SAME);
            final Tensor anchorHead = anchorStates.prepared(micros);
            final ForwardPass.States now = forward.states(decoder, state, state.weights, Policy.Precision.SAME, micros);
            forward.workers.run(OutOfMemory.LEARNING, forward.tasks(micros, (part, packed) -> {
                final double[] sums = new double[ranks];
                try (NoGradGuard guard = new NoGradGuard(); PointerScope scope = new PointerScope()) {
                    final Tensor hidden = now.hidden().of(part, packed);
                    for (long row = 0; row < packed.micro.tokens(); row += chunk) {
                        final long n = Math.min(chunk, packed.micro.tokens() - row);
                        final float[] before = logits(anchorStates.of(part).narrow(0, row, n), anchorHead);
                        final float[] after = logits(hidden.narrow(0, row, n), now.head());
                        for (int r = 0; r < n; r++) {
                            final int from = r * columns;
                            final double[] shift = Diagnostics.logitShift(Arrays.copyOfRange(before, from, from + columns),
                                    Arrays.copyOfRange(after, from, from + columns));
                            for (int k = 0; k < sums.length; k++) {
                                sums[k] += shift[k] / batch.tokens();
                            }
                        }
                    }
                }
                return sums;
            }), sums -> Arrays.setAll(mean, k -> mean[k] + sums[k]));
        }
        forward.sum("shifts of logits", mean);
        return mean;
    }

    /** [rows, vocab] */
    private float[] logits(Tensor hidden, Tensor head) {
        return HostCopies.floats(HeadProduct.logits(hidden, head.narrow(0, 0, forward.vocab)));
    }
}
