package org.teamtr.torch;

import org.bytedeco.cuda.cudart.CUstream_st;
import org.bytedeco.pytorch.Device;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.cuda.CUDAStream;
import org.bytedeco.pytorch.global.torch;
import org.bytedeco.pytorch.global.torch_cuda;
import org.teamtr.kernels.DType;
import org.teamtr.kernels.Floats;
import org.teamtr.kernels.Indices;
import org.teamtr.kernels.Logits;
import org.teamtr.kernels.Mask;
import org.teamtr.kernels.SurrogateStats;

/**
 * libtorch tensors as arguments of the kernels. Nothing is copied: a kernel reads, or writes, the tensor's own memory.
 *
 * <p>A view keeps its Tensor object reachable; a kernel throws {@link IllegalStateException} if that Tensor has been closed.
 * A view refers to the memory that the tensor has when the view is made: do not resize the tensor or set its storage while using it.
 * Data is read and written whether or not the tensor requires a gradient; autograd does not record it. Gradients from the kernels
 * are passed on by {@code logits.backward(dLogits)}.
 *
 * <p>The view of a CUDA tensor uses the stream that is libtorch's current one for the tensor's device, in this thread, when the view
 * is made: a kernel runs after what libtorch has enqueued there before, and before libtorch's later operations. On any other
 * stream the caller must ensure the order, and tell libtorch's allocator (recordStream).
 *
 * <p>Every method throws {@link IllegalArgumentException} for a tensor that is undefined, neither on the CPU nor on CUDA, or of
 * another dtype, shape or layout than it says; and for a CUDA tensor what {@link Logits#ofAddress(org.teamtr.kernels.Device, long, long, DType, long,
 * long, long, long, long, Object)} throws. Views are immutable; any number of threads may use them.
 */
public final class TensorViews {
    /**
     * The device of tensors on the CPU. Only tests set it to a CUDA device, so that all kernel calls of the trainer run CUDA
     * kernels that were compiled for the host.
     */
    static org.teamtr.kernels.Device cpu = org.teamtr.kernels.Device.CPU;

    private TensorViews() {
    }

    /**
     * Logits or their gradient.
     *
     * @param tensor [rows, vocab] or [batch, length, vocab], float32, bfloat16 or float16, whose last dimension is contiguous; the
     *     others may have any stride of at least vocab, as {@code logits[:, :-1]} has
     */
    public static Logits logits(Tensor tensor) {
        check(tensor);
        final DType dtype = switch (type(tensor)) {
            case Float -> DType.F32;
            case BFloat16 -> DType.BF16;
            case Half -> DType.F16;
            default -> throw wrongType(tensor, "float32, bfloat16 or float16");
        };
        final int dim = (int) tensor.dim();
        if (dim != 2 && dim != 3) {
            throw new IllegalArgumentException("tensor: expected [rows, vocab] or [batch, length, vocab], given " + describe(tensor));
        }
        final long vocab = tensor.size(dim - 1);
        if (vocab > 1 && tensor.stride(dim - 1) != 1) {
            throw new IllegalArgumentException("tensor: expected a last dimension of stride 1, given " + describe(tensor)
                    + "; call tensor.contiguous()");
        }
        final long batch = dim == 3 ? tensor.size(0) : 1;
        final long batchStride = dim == 3 ? tensor.stride(0) : 0;
        final long length = tensor.size(dim - 2);
        final long rowStride = tensor.stride(dim - 2);
        if (length > 1 && rowStride < vocab || batch > 1 && batchStride < vocab) {
            throw new IllegalArgumentException("tensor: expected rows that do not share memory (an expanded tensor does), given "
                    + describe(tensor) + "; call tensor.contiguous()");
        }
        return Logits.ofAddress(device(tensor), address(tensor), bytes(tensor), dtype, batch, length, vocab, batchStride,
                rowStride, tensor);
    }

    /** {@return a float32 tensor of any shape, contiguous, as one vector in row-major order} */
    public static Floats floats(Tensor tensor) {
        checkContiguous(tensor);
        if (type(tensor) != torch.ScalarType.Float) {
            throw wrongType(tensor, "float32");
        }
        return Floats.ofAddress(device(tensor), address(tensor), bytes(tensor), tensor.numel(), tensor);
    }

    /** {@return an int32 or int64 tensor of any shape, contiguous, as one vector in row-major order} */
    public static Indices indices(Tensor tensor) {
        checkContiguous(tensor);
        final int width = switch (type(tensor)) {
            case Int -> Integer.BYTES;
            case Long -> Long.BYTES;
            default -> throw wrongType(tensor, "int32 or int64");
        };
        return Indices.ofAddress(device(tensor), address(tensor), bytes(tensor), width, tensor.numel(), tensor);
    }

    /** {@return a bool or uint8 tensor of any shape, contiguous, as one vector in row-major order; 0 does not count} */
    public static Mask mask(Tensor tensor) {
        checkContiguous(tensor);
        switch (type(tensor)) {
            case Bool, Byte -> {}
            default -> throw wrongType(tensor, "bool or uint8");
        }
        return Mask.ofAddress(device(tensor), address(tensor), bytes(tensor), tensor.numel(), tensor);
    }

    /** {@return statistics in a contiguous float64 tensor of {@link SurrogateStats#COUNT} elements} Close them before the tensor. */
    public static SurrogateStats statistics(Tensor tensor) {
        checkContiguous(tensor);
        if (type(tensor) != torch.ScalarType.Double || tensor.numel() != SurrogateStats.COUNT) {
            throw wrongType(tensor, SurrogateStats.COUNT + " float64 numbers");
        }
        return SurrogateStats.ofAddress(device(tensor), address(tensor), bytes(tensor), tensor);
    }

    private static void check(Tensor tensor) {
        if (tensor == null || tensor.isNull() || !tensor.defined()) {
            throw new IllegalArgumentException("tensor: expected a tensor, given "
                    + (tensor == null ? "null" : tensor.isNull() ? "one that was closed" : "an undefined one"));
        }
        if (!tensor.is_cpu() && !tensor.is_cuda() || tensor.layout().intern() != torch.Layout.Strided) {
            throw new IllegalArgumentException("tensor: expected a strided one on the CPU or on CUDA, given " + describe(tensor)
                    + "; call tensor.cpu().to_dense()");
        }
    }

    private static void checkContiguous(Tensor tensor) {
        check(tensor);
        if (!tensor.is_contiguous()) {
            throw new IllegalArgumentException("tensor: expected a contiguous one, given " + describe(tensor)
                    + "; call tensor.contiguous()");
        }
    }

    private static org.teamtr.kernels.Device device(Tensor tensor) {
        if (!tensor.is_cuda()) {
            return cpu;
        }
        try (Device device = tensor.device()) {
            return Cuda.current(device.index());
        }
    }

    /** A separate class, so that it is never loaded for CPU tensors: libtorch's natives for the CPU do not contain it. */
    static final class Cuda {
        private Cuda() {
        }

        static org.teamtr.kernels.Device current(byte device) {
            try (CUDAStream current = torch_cuda.getCurrentCUDAStream(device)) {
                final CUstream_st stream = current.stream();
                return org.teamtr.kernels.Device.cuda(device, stream == null ? 0 : stream.address()); // null: the default stream
            } catch (LinkageError e) {
                throw new IllegalStateException("tensor: libtorch's CUDA streams could not be loaded (" + e.getMessage()
                        + "). The class path needs org.bytedeco:pytorch with its linux-x86_64-gpu natives, and org.bytedeco:cuda"
                        + " with its linux-x86_64 natives", e);
            }
        }
    }

    private static torch.ScalarType type(Tensor tensor) {
        return tensor.scalar_type().intern();
    }

    private static long address(Tensor tensor) {
        return tensor.numel() == 0 ? 0 : tensor.data_ptr().address();
    }

    /** {@return the number of bytes from the first element to the end of the last}; libtorch ensures that strides stay in the storage. */
    private static long bytes(Tensor tensor) {
        if (tensor.numel() == 0) {
            return 0;
        }
        long last = 0;
        for (int d = 0; d < tensor.dim(); d++) {
            last += (tensor.size(d) - 1) * tensor.stride(d);
        }
        return (last + 1) * tensor.element_size();
    }

    private static IllegalArgumentException wrongType(Tensor tensor, String expected) {
        return new IllegalArgumentException("tensor: expected " + expected + ", given " + describe(tensor));
    }

    private static String describe(Tensor tensor) {
        final StringBuilder sizes = new StringBuilder();
        final StringBuilder strides = new StringBuilder();
        final boolean strided = tensor.layout().intern() == torch.Layout.Strided;
        for (int d = 0; d < tensor.dim(); d++) {
            sizes.append(d == 0 ? "" : ", ").append(tensor.size(d));
            if (strided) {
                strides.append(d == 0 ? "" : ", ").append(tensor.stride(d));
            }
        }
        return type(tensor) + " [" + sizes + "]" + (strided ? " with strides [" + strides + "]" : "");
    }
}
