package org.teamtr.torch;

import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Device;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch;
import org.bytedeco.pytorch.global.torch.ScalarType;

/**
 * Products with the weight of a head. Logits are f32 also for 16-bit inputs: a logit of 20 rounded to bf16 is wrong by up
 * to 0.06, and so is its log-prob.
 *
 * <p>On CUDA, cuBLAS multiplies 16-bit numbers and writes f32. On the CPU libtorch has no such product, so the weight is converted to
 * f32 part by part and multiplied in f32. The caller's PointerScope owns returned tensors. Thread-safe.
 */
final class HeadProduct {
    /** Elements of the weight that are converted at once: 16 MB of f32. */
    private static final long WIDENED = 4L << 20;

    private HeadProduct() {
    }

    /** {@return hidden weightᵀ, [n, vocab]}; f32, for f64 inputs f64. Differentiable by autograd for f32 and f64 inputs only. */
    static Tensor logits(Tensor hidden, Tensor weight) {
        if (!halves(hidden)) {
            return torch.linear(hidden, weight);
        }
        final Tensor logits;
        try (Device device = hidden.device()) {
            logits = Decoder.empty(new long[] {hidden.size(0), weight.size(0)}, ScalarType.Float, device);
        }
        logits(logits, hidden, weight);
        return logits;
    }

    /**
     * logits = hidden weightᵀ.
     *
     * @param logits [n, vocab], f32, written
     * @param hidden [n, H]
     * @param weight [vocab, H], of the dtype of {@code hidden}
     */
    static void logits(Tensor logits, Tensor hidden, Tensor weight) {
        if (!halves(hidden)) {
            torch.mm_out(logits, hidden, weight.t());
        } else if (hidden.is_cuda()) {
            torch.mm_out(logits, hidden, weight.t(), ScalarType.Float);
        } else {
            try (PointerScope scope = new PointerScope()) {
                final Tensor wide = hidden.to(ScalarType.Float);
                final long most = Math.max(1, WIDENED / weight.size(1));
                for (long v = 0; v < weight.size(0); v += most) {
                    try (PointerScope part = new PointerScope()) {
                        final long m = Math.min(most, weight.size(0) - v);
                        torch.mm_out(logits.narrow(1, v, m), wide, weight.narrow(0, v, m).to(ScalarType.Float).t());
                    }
                }
            }
        }
    }

    /**
     * dHidden = dLogits weight, summed in f32 and rounded once.
     *
     * @param dHidden [n, H], of the dtype of {@code weight}, written
     * @param dLogits [n, vocab], f32. On CUDA it is rounded to the dtype of the weight before it is multiplied
     * @param weight [vocab, H]
     */
    static void gradient(Tensor dHidden, Tensor dLogits, Tensor weight) {
        if (!halves(weight)) {
            torch.mm_out(dHidden, dLogits, weight);
        } else if (weight.is_cuda()) {
            torch.mm_out(dHidden, dLogits.to(weight.scalar_type()), weight);
        } else {
            try (PointerScope scope = new PointerScope()) {
                final Tensor sum = dHidden.to(ScalarType.Float).zero_();
                final long most = Math.max(1, WIDENED / weight.size(1));
                for (long v = 0; v < weight.size(0); v += most) {
                    try (PointerScope part = new PointerScope()) {
                        final long m = Math.min(most, weight.size(0) - v);
                        sum.addmm_(dLogits.narrow(1, v, m), weight.narrow(0, v, m).to(ScalarType.Float));
                    }
                }
                dHidden.copy_(sum);
            }
        }
    }

    private static boolean halves(Tensor tensor) {
        final ScalarType type = tensor.scalar_type().intern();
        return type == ScalarType.Half || type == ScalarType.BFloat16;
    }
}
