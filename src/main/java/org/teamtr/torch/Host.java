package org.teamtr.torch;

import org.bytedeco.javacpp.FloatPointer;
import org.bytedeco.javacpp.IntPointer;
import org.bytedeco.javacpp.LongPointer;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Tensor;

/**
 * Tensors of any device as arrays. The one way from a device to Java: it waits for the work that writes the tensor, and nothing
 * else in this package reads a tensor's memory as Java's.
 */
final class Host {
    private Host() {
    }

    /** {@return the numbers of a contiguous float32 tensor, in row-major order} */
    static float[] floats(Tensor tensor) {
        final float[] values = new float[Math.toIntExact(tensor.numel())];
        if (values.length > 0) { // an empty tensor has no memory
            try (PointerScope scope = new PointerScope()) {
                final Tensor here = tensor.cpu().contiguous();
                new FloatPointer(here.data_ptr_float()).get(values);
            }
        }
        return values;
    }

    /** {@return the numbers of an int32 tensor, in row-major order} */
    static int[] ints(Tensor tensor) {
        final int[] values = new int[Math.toIntExact(tensor.numel())];
        if (values.length > 0) {
            try (PointerScope scope = new PointerScope()) {
                final Tensor here = tensor.cpu().contiguous();
                new IntPointer(here.data_ptr_int()).get(values);
            }
        }
        return values;
    }

    /** {@return the numbers of an int64 tensor, in row-major order} */
    static long[] longs(Tensor tensor) {
        final long[] values = new long[Math.toIntExact(tensor.numel())];
        if (values.length > 0) {
            try (PointerScope scope = new PointerScope()) {
                final Tensor here = tensor.cpu().contiguous();
                new LongPointer(here.data_ptr_long()).get(values);
            }
        }
        return values;
    }
}
