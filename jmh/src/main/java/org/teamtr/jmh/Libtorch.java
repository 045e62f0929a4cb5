package org.teamtr.jmh;

import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorOptions;
import org.bytedeco.pytorch.global.torch;
import org.teamtr.kernels.DType;
import org.teamtr.kernels.Floats;
import org.teamtr.kernels.Indices;

/** The kernels' memory as libtorch tensors; nothing is copied. Only the sides libtorch and roofline of a benchmark load libtorch. */
final class Libtorch {
    private Libtorch() {
    }

    static void threads(int threads) {
        torch.set_num_threads(threads);
    }

    static Tensor of(Data data) {
        return blob(data.address, type(data.dtype), data.rows, data.vocab);
    }

    static Tensor of(Floats floats, long... shape) {
        return blob(floats.address(), torch.ScalarType.Float, shape.length == 0 ? new long[] {floats.length()} : shape);
    }

    static Tensor of(Indices indices) {
        return blob(indices.address(), torch.ScalarType.Long, indices.length());
    }

    static Tensor ints(long address, long count) {
        return blob(address, torch.ScalarType.Int, count);
    }

    private static Tensor blob(long address, torch.ScalarType type, long... shape) {
        return torch.from_blob(new Data.Raw(address), shape, new TensorOptions(type));
    }

    static torch.ScalarType type(DType dtype) {
        return switch (dtype) {
            case F32 -> torch.ScalarType.Float;
            case BF16 -> torch.ScalarType.BFloat16;
            case F16 -> torch.ScalarType.Half;
        };
    }

    /** Half-precision logits go to f32 first, as everybody has them go: log_softmax in bf16 has three digits. */
    static Tensor f32(Tensor logits) {
        return logits.to(torch.ScalarType.Float);
    }

    static Tensor logSoftmax(Tensor logits) {
        return torch.log_softmax(f32(logits), -1);
    }

    /** {@return [rows], for each row the element its index names} */
    static Tensor chosen(Tensor rows, Tensor indices) {
        return rows.gather(1, indices.unsqueeze(1)).squeeze(1);
    }

    /** {@return an element as a Java number} */
    static double at(Tensor tensor, long... index) {
        Tensor t = tensor;
        for (long i : index) {
            t = t.select(0, i);
        }
        return t.item_double();
    }
}
