package org.teamtr.torch;

import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.BoolOptional;
import org.bytedeco.pytorch.Device;
import org.bytedeco.pytorch.DeviceOptional;
import org.bytedeco.pytorch.LayoutOptional;
import org.bytedeco.pytorch.MemoryFormatOptional;
import org.bytedeco.pytorch.NoGradGuard;
import org.bytedeco.pytorch.ScalarTypeOptional;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch;

/**
 * Where the f32 weights and the optimiser's moments of a policy are kept while it does not learn: on the device that it computes on, or in
 * host memory, which may be page-locked, so that a GPU copies from and to it without the driver's buffers.
 *
 * <p>Copies to the host wait until they are complete, so host memory may be read at once. Copies from page-locked memory to the device do
 * not wait: what uses the copy comes later on the same stream, and libtorch does not reuse freed page-locked memory before the
 * copies from it are complete.
 *
 * @param device the device, or the CPU
 * @param pinned whether it is page-locked host memory; libtorch rounds the size of such a vector up to a power of two
 */
record Placement(Device device, boolean pinned) implements AutoCloseable {
    /** Not page-locked. */
    Placement(Device device) {
        this(device, false);
    }

    /** {@return a new vector of zeros here} */
    Tensor zeros(long n) {
        try (PointerScope scope = new PointerScope()) {
            return Decoder.kept(empty(n, torch.ScalarType.Float).zero_());
        }
    }

    /** {@return a new vector here with the same numbers} */
    Tensor copied(Tensor tensor) {
        try (NoGradGuard guard = new NoGradGuard(); PointerScope scope = new PointerScope()) {
            return Decoder.kept(empty(tensor.numel(), tensor.scalar_type().intern()).copy_(tensor));
        }
    }

    private Tensor empty(long n, torch.ScalarType dtype) {
        return torch.empty(new long[] {n}, new ScalarTypeOptional(dtype), new LayoutOptional(), new DeviceOptional(device),
                pinned ? new BoolOptional(true) : new BoolOptional(), new MemoryFormatOptional());
    }

    @Override
    public void close() {
        device.close();
    }
}
