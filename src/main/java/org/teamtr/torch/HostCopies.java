package org.teamtr.torch;

import java.util.concurrent.atomic.LongAdder;
import java.util.function.Consumer;
import org.bytedeco.javacpp.FloatPointer;
import org.bytedeco.javacpp.IntPointer;
import org.bytedeco.javacpp.LongPointer;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Device;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch;

/**
 * All copies between Java arrays and tensors. Each copy waits until the device has finished its work, so an
 * update makes few of them, and none within a micro-batch. {@link #WAITS} counts them.
 */
final class HostCopies {
    /** The number of copies in this process. */
    static final LongAdder WAITS = new LongAdder();

    private HostCopies() {
    }

    /** {@return [n] int64, owned by the caller's PointerScope} */
    static Tensor onDevice(long[] values, Device device) {
        return there(Tensor.create(values, values.length), device, torch.ScalarType.Long);
    }

    /** {@return [n] f32, owned by the caller's PointerScope} */
    static Tensor onDevice(float[] values, Device device) {
        return there(Tensor.create(values, values.length), device, torch.ScalarType.Float);
    }

    private static Tensor there(Tensor tensor, Device device, torch.ScalarType dtype) {
        WAITS.increment();
        return tensor.to(device, dtype);
    }

    /** {@return the element of a tensor that has one} */
    static double number(Tensor tensor) {
        WAITS.increment();
        return tensor.item().toDouble();
    }

    /** {@return the numbers of a float32 tensor, in row-major order} */
    static float[] floats(Tensor tensor) {
        final float[] values = new float[Math.toIntExact(tensor.numel())];
        read(tensor, here -> new FloatPointer(here.data_ptr_float()).get(values));
        return values;
    }

    /** {@return the numbers of an int32 tensor, in row-major order} */
    static int[] ints(Tensor tensor) {
        final int[] values = new int[Math.toIntExact(tensor.numel())];
        read(tensor, here -> new IntPointer(here.data_ptr_int()).get(values));
        return values;
    }

    /** {@return the numbers of an int64 tensor, in row-major order} */
    static long[] longs(Tensor tensor) {
        final long[] values = new long[Math.toIntExact(tensor.numel())];
        read(tensor, here -> new LongPointer(here.data_ptr_long()).get(values));
        return values;
    }

    private static void read(Tensor tensor, Consumer<Tensor> into) {
        if (tensor.numel() > 0) { // an empty tensor has no memory
            WAITS.increment();
            try (PointerScope scope = new PointerScope()) {
                into.accept(tensor.cpu().contiguous());
            }
        }
    }
}
