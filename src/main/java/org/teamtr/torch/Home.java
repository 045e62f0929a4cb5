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
 * Where the f32 weights and the optimiser's moments of a policy are while it does not learn: the device that it computes on, or the
 * host's memory, page-locked if so asked, from and to which a GPU copies without the driver's buffers between.
 *
 * <p>The way home waits for the copy to end: what is in the host's memory may be read at once. The way to the device, out of page-locked
 * memory, does not. What uses the copy there is behind it on the same stream, and libtorch gives page-locked memory that was let go of
 * to nobody else before the copies out of it have ended.
 *
 * @param device which
 * @param pinned whether it is page-locked memory of the host; libtorch rounds the size of such a vector up to a power of two
 */
record Home(Device device, boolean pinned) implements AutoCloseable {
    /** Not page-locked. */
    Home(Device device) {
        this(device, false);
    }

    /** {@return zeros} */
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
