package org.teamtr.kernels;

import org.bytedeco.javacpp.Pointer;

/**
 * Memory of a CUDA device: a JavaCPP Pointer that holds a device address, for {@link Logits#of(Device, Pointer, DType, long,
 * long)} and for the JavaCPP Presets for CUDA. Java must not access its bytes: what {@link Pointer} offers to read or write on
 * the host (buffers, {@code fill}, {@code zero}, {@code put}, {@code memcpy}) would crash; {@code copyFrom} of the views copies.
 *
 * <pre>{@code
 * Device gpu = Device.cuda(0);
 * try (CudaMemory memory = CudaMemory.allocate(gpu, rows * vocab * 2)) {
 *     Logits onDevice = Logits.of(gpu, memory, DType.BF16, rows, vocab).copyFrom(onHost);
 * }
 * }</pre>
 *
 * <p>Device memory, copies, {@link CudaStream}s and {@link CudaEvent}s need {@code org.bytedeco:cuda} and its natives on the
 * class path and CUDA's libcudart on the machine; kernels on the memory of another framework need neither. What is missing is an
 * {@link IllegalStateException} that names it.
 *
 * <p>Freed by {@link #close()} or, failing that, by the collector; inside a JavaCPP {@code PointerScope} it belongs to the scope.
 * Freeing waits for the device's pending work. Immutable but for closing.
 */
public final class CudaMemory extends Pointer {
    private final Device device;

    private CudaMemory(Device device, long bytes) {
        this.device = device;
        this.address = Cudart.malloc(device, Math.max(bytes, 1));
        // While the capacity is 0: JavaCPP counts it against the Java heap's limit, which is none of the device's.
        try {
            deallocator(new Free(device.index(), address));
        } catch (OutOfMemoryError e) { // of the host
            throw Memory.outOfMemory(bytes, e);
        }
        this.limit = bytes;
        this.capacity = bytes;
    }

    /**
     * {@return new memory of zero bytes}
     *
     * @param device of a CUDA device; the memory may be used on any of its streams, once the zeros have been written on this one
     * @throws IllegalArgumentException if the device is the CPU, or {@code bytes} is negative
     * @throws DeviceException if the device has no such memory, or there is no device
     * @throws IllegalStateException if the presets or libcudart are missing, or the setting forbids CUDA ({@link Backend})
     */
    public static CudaMemory allocate(Device device, long bytes) {
        if (!Check.given(device, "device").isCuda()) {
            throw new IllegalArgumentException("device: expected a CUDA device, given " + device);
        }
        Check.notNegative(bytes, "bytes");
        Backend.require(device);
        final CudaMemory memory = new CudaMemory(device, bytes);
        if (bytes > 0) {
            Cudart.zero(device, memory.address, bytes);
        }
        return memory;
    }

    /** {@return the device it was allocated on} */
    public Device device() {
        return device;
    }

    /** {@return 1: sizes are in bytes} */
    @Override
    public int sizeof() {
        return 1;
    }

    /** Does not throw, since JavaCPP's collector thread calls it too and would end; an error of the device is reported by the next call. */
    private record Free(int device, long address) implements Deallocator {
        @Override
        public void deallocate() {
            try {
                Cudart.free(device, address);
            } catch (DeviceException e) {
                // as said
            }
        }
    }
}
