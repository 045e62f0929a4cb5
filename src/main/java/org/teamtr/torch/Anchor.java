package org.teamtr.torch;

import java.util.Arrays;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.function.UnaryOperator;
import java.util.stream.IntStream;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.NoGradGuard;
import org.bytedeco.pytorch.Tensor;
import org.teamtr.team.Utterance;
import org.teamtr.train.Batch;
import org.teamtr.train.Policy;

/** The policy from which an exact KL is measured: its parameters, and the prompts that it is given. */
class Anchor implements Policy.Snapshot {
    final Weights weights;
    private final ForwardPass forward;
    private final TrainingState state;
    private final UnaryOperator<Utterance> prompted;
    private final Map<Policy.Precision, HiddenStates> states = new EnumMap<>(Policy.Precision.class);

    /**
     * @param forward of the policy whose parameters they are
     * @param state of that policy, which has the frozen weights below adapters
     * @param prompted gives, for each message of a batch, the same tokens after the prompt that the anchor is given
     */
    Anchor(ForwardPass forward, TrainingState state, Weights weights, UnaryOperator<Utterance> prompted) {
        this.forward = forward;
        this.state = state;
        this.weights = weights;
        this.prompted = prompted;
    }

    /** {@return whether the parameters are those of the policy with this state} */
    boolean isOf(TrainingState other) {
        return state == other;
    }

    /** {@return the size of the vocabulary; columns of the head beyond it are left out} */
    int vocab() {
        return forward.vocab;
    }

    /** {@return the anchor's hidden states for a batch's micro-batches} Those of the latest batch are kept. */
    HiddenStates hiddenStates(Batch batch, List<PackedSequences> micros, Policy.Precision precision) {
        final HiddenStates known = states.get(precision);
        if (known != null && known.batch == batch) {
            return known;
        }
        if (known != null) {
            known.close();
        }
        states.put(precision, new HiddenStates(batch, forward.decoder(precision), precision, micros));
        return states.get(precision);
    }

    @Override
    public void close() {
        states.values().forEach(HiddenStates::close);
    }

    /** Hidden states of a batch under the parameters of an anchor. They are kept, since every inner step needs them. */
    final class HiddenStates {
        private final Batch batch;
        private final Decoder decoder;
        private final Policy.Precision precision;
        private final Tensor[] hidden;
        /** For each micro-batch, the number of rows whose logits may be kept, and these logits once they have been computed. */
        private final long[] rows;
        private final LinearLogProbs.Kept[] logits;
        /** Whether the hidden states of all micro-batches of this rank have been computed; the same on all ranks. */
        private boolean complete;
        /** The micro-batches with the anchor's prompts, for the caller of {@link #prepared}. */
        private List<PackedSequences> asked;

        HiddenStates(Batch batch, Decoder decoder, Policy.Precision precision, List<PackedSequences> micros) {
            this.batch = batch;
            this.decoder = decoder;
            this.precision = precision;
            this.hidden = new Tensor[micros.size()];
            this.logits = new LinearLogProbs.Kept[micros.size()];
            this.rows = new long[micros.size()];
            long left = forward.keptLogits / ((long) forward.vocab * Float.BYTES);
            for (int part = 0; part < rows.length; part++) {
                rows[part] = forward.isHere(part) ? Math.min(left, micros.get(part).micro.tokens()) : 0;
                left -= rows[part];
            }
        }

        /** {@return the kept logits of a micro-batch; null for none} Only one thread at a time may call this for a part. */
        LinearLogProbs.Kept logits(int part) {
            return logits[part];
        }

        /** {@return the same, allocated if they are not there yet} */
        LinearLogProbs.Kept keptLogits(int part) {
            if (logits[part] == null && rows[part] > 0) {
                try (PointerScope scope = new PointerScope()) {
                    logits[part] = new LinearLogProbs.Kept(rows[part], forward.vocab, forward.device);
                }
            }
            return logits[part];
        }

        /**
         * Must be called before the other methods, by every rank, since it gathers weights that are divided among ranks.
         *
         * @return the weight of the anchor's head, owned by the caller's PointerScope
         */
        Tensor prepared(List<PackedSequences> micros) {
            if (!state.divided()) {
                if (IntStream.range(0, hidden.length).anyMatch(part -> forward.isHere(part) && hidden[part] == null)) {
                    asked = asked(micros);
                }
                return state.all(weights, precision).get(decoder.head());
            }
            state.divide();
            final LayerPass.Units units = unit -> state.unit(weights, precision, unit);
            if (!complete) {
                final Tensor[] all = LayerPass.hidden(forward, decoder, units, asked(micros));
                System.arraycopy(all, 0, hidden, 0, all.length);
                complete = true;
            }
            return units.apply(decoder.headUnit()).get(decoder.head());
        }

        private List<PackedSequences> asked(List<PackedSequences> micros) {
            return forward.packed(micros.stream().map(packed -> packed.micro).toList(), prompted);
        }

        /** {@return the hidden states of a micro-batch, [tokens, hidden]} Only one thread at a time may call this for a part. */
        Tensor of(int part) {
            if (hidden[part] == null) {
                try (NoGradGuard guard = new NoGradGuard(); PointerScope scope = new PointerScope()) {
                    hidden[part] = Decoder.kept(forward.hidden(decoder, state.all(weights, precision), asked.get(part)));
                }
            }
            return forward.onDevice(hidden[part]);
        }

        /** Keeps the hidden states of a micro-batch that the learning policy has computed while its parameters equalled the anchor's. */
        void keep(int part, Tensor states) {
            if (hidden[part] == null) {
                hidden[part] = Decoder.kept(states.detach());
            }
        }

        /** Records that the hidden states of all micro-batches of this rank have been kept. */
        void keptAll() {
            complete = true;
        }

        private void close() {
            Arrays.stream(hidden).filter(Objects::nonNull).forEach(Tensor::close);
            Arrays.stream(logits).filter(Objects::nonNull).forEach(LinearLogProbs.Kept::close);
        }
    }
}
