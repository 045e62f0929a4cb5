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

/** Parameters that an exact KL is taken from, and the prompts that they are asked with. */
class Anchor implements Policy.Snapshot {
    final Weights weights;
    private final ForwardPass forward;
    private final TrainingState state;
    private final UnaryOperator<Utterance> prompted;
    private final Map<Policy.Precision, HiddenStates> states = new EnumMap<>(Policy.Precision.class);

    /**
     * @param forward of the policy whose parameters they are
     * @param state of that policy, which has the frozen weights below them
     * @param prompted for each message of a batch, the same tokens with the prompt that the anchor is asked with
     */
    Anchor(ForwardPass forward, TrainingState state, Weights weights, UnaryOperator<Utterance> prompted) {
        this.forward = forward;
        this.state = state;
        this.weights = weights;
        this.prompted = prompted;
    }

    /** {@return whether it was made of that policy} */
    boolean isOf(TrainingState other) {
        return state == other;
    }

    /** {@return how many logit columns count} */
    int vocab() {
        return forward.vocab;
    }

    /** {@return the anchor's hidden states of a batch's micro-batches} Those of the latest batch are kept. */
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

    /** Hidden states of a batch under the parameters of an anchor, kept since every inner step asks for them. */
    final class HiddenStates {
        private final Batch batch;
        private final Decoder decoder;
        private final Policy.Precision precision;
        private final Tensor[] hidden;
        /** Of each micro-batch, how many of its rows' logits may be kept, and those, once they were asked for. */
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

        /** {@return the logits of a micro-batch, as far as they are kept; null for none} Each part is asked for by one thread at a time. */
        LinearLogProbs.Kept logits(int part) {
            return logits[part];
        }

        /** {@return the same, with room for those that are not there yet} */
        LinearLogProbs.Kept keptLogits(int part) {
            if (logits[part] == null && rows[part] > 0) {
                try (PointerScope scope = new PointerScope()) {
                    logits[part] = new LinearLogProbs.Kept(rows[part], forward.vocab, forward.device);
                }
            }
            return logits[part];
        }

        /**
         * To be called before the others, by every rank, since weights that are divided are asked for here.
         *
         * @return the weight of the anchor's own head, for the caller's PointerScope: another policy's may have another name
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

        /** {@return those of a micro-batch, [tokens, hidden]} Each part is asked for by one thread at a time. */
        Tensor of(int part) {
            if (hidden[part] == null) {
                try (NoGradGuard guard = new NoGradGuard(); PointerScope scope = new PointerScope()) {
                    hidden[part] = Decoder.kept(forward.hidden(decoder, state.all(weights, precision), asked.get(part)));
                }
            }
            return forward.onDevice(hidden[part]);
        }

        /** Those of a micro-batch, computed by the policy itself while it was what the anchor is. */
        void keep(int part, Tensor states) {
            if (hidden[part] == null) {
                hidden[part] = Decoder.kept(states.detach());
            }
        }

        /** All have been kept that are computed here. */
        void keptAll() {
            complete = true;
        }

        private void close() {
            Arrays.stream(hidden).filter(Objects::nonNull).forEach(Tensor::close);
            Arrays.stream(logits).filter(Objects::nonNull).forEach(LinearLogProbs.Kept::close);
        }
    }
}
