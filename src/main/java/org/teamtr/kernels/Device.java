package org.teamtr.kernels;

import org.teamtr.kernels.internal.global.teamtr;

/**
 * Where memory lives, and so where a kernel that is handed it runs: in host memory, on the CPU; or in memory that a CUDA device
 * reads and writes, on that device, in the order of one of its streams.
 *
 * <p>Every view has a device, and all views of one call have the same one, also the same stream, or the call is refused: nothing is
 * ever copied on its own. {@code copyFrom} of the views copies, also from device to device. For the same device memory on another
 * stream make another view, from its address, once the work of the first stream is done ({@link #synchronize},
 * {@link CudaEvent}).
 *
 * <p><b>On a device</b> a call checks shapes, enqueues its work on the stream and returns. Before a result is read, the stream must be
 * waited for, which copies do by themselves. Contents of vectors, which the call cannot check, give errors row by row: a target out of
 * range or a
 * bad temperature makes its row's results and gradient NaN (token -1), and is never read through; message bounds that are wrong
 * make all results of the call NaN. A fault of the device is a {@link DeviceException}, of this call or a later one. As with
 * every CUDA program, memory must live until the work that was enqueued on it is done.
 *
 * <p>Immutable.
 *
 * <pre>{@code
 * Device gpu = Device.cuda(0);
 * try (CudaMemory memory = CudaMemory.allocate(gpu, logits.rows() * logits.vocab() * 4); Floats kl = Floats.allocate(gpu, logits.rows())) {
 *     Logits onDevice = Logits.of(gpu, memory, DType.F32, logits.rows(), logits.vocab()).copyFrom(logits);
 *     TokenKl.oldNew(onDevice, onDevice, kl); // runs on the device
 *     float[] values = kl.toHost().toArray(); // waits for it
 * }
 * }</pre>
 *
 * @param index -1 for the CPU, else the number of a CUDA device
 * @param stream a {@code cudaStream_t} as a number; 0 is the device's default stream
 */
public record Device(int index, long stream) {
    /** Host memory. */
    public static final Device CPU = new Device(teamtr.TEAMTR_CPU, 0);

    /** @throws IllegalArgumentException if the device is less than -1, or the CPU is given a stream */
    public Device {
        if (index < teamtr.TEAMTR_CPU) {
            throw new IllegalArgumentException("index: expected the number of a CUDA device, or -1 for the CPU, given "
                    + index);
        }
        if (index == teamtr.TEAMTR_CPU && stream != 0) {
            throw new IllegalArgumentException("stream: expected 0 on the CPU, given 0x" + Long.toHexString(stream));
        }
    }

    /** {@return the default stream of a CUDA device} */
    public static Device cuda(int index) {
        return cuda(index, 0);
    }

    /**
     * {@return a stream of a CUDA device, which must outlive the views on it}
     *
     * @param stream a {@code cudaStream_t} as a number, of a {@link CudaStream} or of any other library
     */
    public static Device cuda(int index, long stream) {
        Check.notNegative(index, "index");
        return new Device(index, stream);
    }

    /** {@return whether this is a CUDA device} */
    public boolean isCuda() {
        return index != teamtr.TEAMTR_CPU;
    }

    /**
     * Waits for all work on the stream; on the CPU, where calls return when they are done, at once.
     *
     * @throws DeviceException if some of that work failed, or there is no such device
     */
    public void synchronize() {
        if (isCuda()) {
            Backend.require(this);
            Check.status(teamtr.teamtr_cuda_synchronize(index, stream));
        }
    }

    /** {@return {@code cpu}, {@code cuda:0}, {@code cuda:0 stream 0x7f20c4001a40}} */
    @Override
    public String toString() {
        return !isCuda() ? "cpu" : "cuda:" + index + (stream == 0 ? "" : " stream 0x" + Long.toHexString(stream));
    }
}
