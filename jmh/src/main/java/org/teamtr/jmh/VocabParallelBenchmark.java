package org.teamtr.jmh;

import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorVector;
import org.bytedeco.pytorch.global.torch;
import org.teamtr.kernels.Floats;
import org.teamtr.kernels.Logits;
import org.teamtr.kernels.Temperature;
import org.teamtr.kernels.VocabParallel;

/**
 * Log-probs and entropy from two shards of the vocabulary, one after the other in this process, and their merge. I/O: read the
 * logits. Plain Java and the roofline are those of the whole rows.
 */
public class VocabParallelBenchmark extends LogProbsBenchmark {
    private final Logits[] shards = new Logits[2];
    private Floats parts;
    private final Floats[] partsOf = new Floats[2];

    private int from(int shard) {
        return shard == 0 ? 0 : vocab / 2;
    }

    @Override
    void prepare() {
        super.prepare();
        parts = Floats.allocate(2L * rows * VocabParallel.PARTS_PER_ROW);
        for (int s = 0; s < 2; s++) {
            shards[s] = data.columns(from(s), s == 0 ? vocab / 2 : vocab);
            partsOf[s] = parts.slice((long) s * rows * VocabParallel.PARTS_PER_ROW, (s
                    + 1L) * rows * VocabParallel.PARTS_PER_ROW);
        }
    }

    @Override
    void call() {
        for (int s = 0; s < 2; s++) {
            VocabParallel.parts(shards[s], targets, from(s), vocab, Temperature.ONE, partsOf[s]);
        }
        VocabParallel.merge(parts, 2, targets, Temperature.ONE, logProbs, lse, entropy);
    }

    /** Each shard's maximum, sum and weighted sum; then their merge. The target's logit comes from the shard that has it. */
    @Override
    Tensor[] tensors() {
        final Tensor logits = Libtorch.of(data);
        final TensorVector maxima = new TensorVector();
        final TensorVector sums = new TensorVector();
        final TensorVector weighted = new TensorVector();
        for (int s = 0; s < 2; s++) {
            final Tensor x = Libtorch.f32(logits.narrow(1, from(s), shards[s].vocab()));
            final Tensor max = x.amax(new long[] {1}, true);
            final Tensor centred = x.sub(max);
            final Tensor e = centred.exp();
            maxima.push_back(max.squeeze(1));
            sums.push_back(e.sum(1));
            weighted.push_back(e.mul_(centred).sum(1));
        }
        final Tensor m = torch.stack(maxima);
        final Tensor max = m.amax(new long[] {0}, false);
        final Tensor scale = m.sub(max).exp();
        final Tensor n = torch.stack(sums).mul(scale);
        final Tensor sum = n.sum(0);
        final Tensor log = sum.log();
        final Tensor mean = torch.stack(weighted).mul(scale).add(n.mul(m.sub(max))).sum(0).div(sum);
        return new Tensor[] {Libtorch.f32(Libtorch.chosen(logits, Libtorch.of(targets))).sub(max).sub(log), log.sub(mean)};
    }
}
