package org.teamtr.jmh;

import org.bytedeco.javacpp.DoublePointer;
import org.bytedeco.javacpp.FloatPointer;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch;
import org.teamtr.kernels.DType;
import org.teamtr.kernels.Logits;
import org.teamtr.torch.TensorViews;

/** Logits of a benchmark: one libtorch tensor that both sides read, and the double reference that must agree with both. */
final class Data {
    final Tensor tensor;
    final Logits logits;

    /**
     * Seeded logits, about N(0, 3), as peaked as a language model's once {@code spike} is added to one token of each row.
     *
     * @param near if given, its values plus a little noise: a policy a trust-region step away
     */
    Data(DType dtype, long rows, long vocab, long seed, Data near) {
        final Tensor f32 = torch.empty(rows, vocab);
        final FloatPointer p = new FloatPointer(f32.data_ptr()).capacity(rows * vocab);
        final Tensor base = near == null ? null : near.tensor.to(torch.ScalarType.Float);
        final FloatPointer b = near == null ? null : new FloatPointer(base.data_ptr()).capacity(rows * vocab);
        long s = seed * 0x9E3779B97F4A7C15L + 1;
        for (long i = 0; i < rows * vocab; i++) {
            s ^= s << 13;
            s ^= s >>> 7;
            s ^= s << 17;
            // the sum of four uniforms is near enough to a normal
            final float n = ((s & 0xffff) + (s >>> 16 & 0xffff) + (s >>> 32 & 0xffff) + (s >>> 48)) / 65536f - 2;
            p.put(i, near == null ? 5.2f * n + (i % vocab == i / vocab * 7919 % vocab ? 15 : 0) : b.get(i) + 0.01f * n);
        }
        tensor = f32.to(torchType(dtype)).contiguous();
        logits = TensorViews.logits(tensor);
        if (base != null) {
            base.close();
        }
        if (dtype != DType.F32) {
            f32.close();
        }
    }

    private static torch.ScalarType torchType(DType dtype) {
        return switch (dtype) {
            case F32 -> torch.ScalarType.Float;
            case BF16 -> torch.ScalarType.BFloat16;
            case F16 -> torch.ScalarType.Half;
        };
    }

    long bytes() {
        return logits.rows() * logits.vocab() * logits.dtype().bytes();
    }

    /** log softmax of one row, in double. */
    double[] logSoftmax(long row) {
        final double[] x = new double[(int) logits.vocab()];
        try (Tensor one = tensor.select(0, row).to(torch.ScalarType.Double).contiguous()) {
            new DoublePointer(one.data_ptr()).capacity(x.length).get(x);
        }
        double max = Double.NEGATIVE_INFINITY;
        for (double v : x) {
            max = Math.max(max, v);
        }
        double sum = 0;
        for (double v : x) {
            sum += Math.exp(v - max);
        }
        final double lse = max + Math.log(sum);
        for (int v = 0; v < x.length; v++) {
            x[v] -= lse;
        }
        return x;
    }

    static void require(String what, double got, double want, double tolerance) {
        if (!(Math.abs(got - want) <= tolerance)) {
            throw new IllegalStateException(what + ": expected " + want + ", given " + got);
        }
    }
}
