package org.teamtr.torch;

import java.util.List;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Device;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch;
import org.teamtr.train.Batch;
import org.teamtr.train.Policy;

/**
 * Log-probs, entropies and KLs of all tokens of a batch. They stay on the device until the last micro-batch, and are then copied to the
 * host in one copy. Values that other ranks compute are zero on this one. The caller's PointerScope owns the tensors.
 */
final class Results {
    private final List<PackedSequences> micros;
    private final int tokens;
    /** [3 with a KL, else 2, tokens]: log-probs, entropies, KLs. */
    private final Tensor values;

    Results(List<PackedSequences> micros, boolean kl, Device device) {
        this.micros = micros;
        this.tokens = micros.stream().mapToInt(packed -> packed.micro.tokens()).sum();
        this.values = Decoder.empty(new long[] {kl ? 3 : 2, tokens}, torch.ScalarType.Float, device).zero_();
    }

    /** Stores the results of a micro-batch. */
    void put(PackedSequences packed, LinearLogProbs head) {
        try (PointerScope scope = new PointerScope()) {
            final Tensor own = values.narrow(1, packed.tokensBefore, packed.micro.tokens());
            own.select(0, 0).copy_(head.logProbs());
            own.select(0, 1).copy_(head.entropy());
            if (head.kl() != null) {
                own.select(0, 2).copy_(head.kl());
            }
        }
    }

    /** {@return the log-probs of all tokens, in the order of the micro-batches} */
    float[] logProbs() {
        return HostCopies.floats(values.select(0, 0));
    }

    /** {@return all results, in the order of the batch} */
    Policy.Scores scores(Batch batch) {
        final float[] all = HostCopies.floats(values);
        final float[][] scores = new float[3][];
        for (int kind = 0; kind < all.length / Math.max(1, tokens); kind++) {
            scores[kind] = new float[tokens];
            for (PackedSequences packed : micros) {
                packed.micro.scatter(all, kind * tokens + packed.tokensBefore, scores[kind], batch.cuSeqlens());
            }
        }
        return new Policy.Scores(scores[0], scores[2], scores[1]);
    }
}
