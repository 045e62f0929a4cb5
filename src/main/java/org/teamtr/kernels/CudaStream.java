package org.teamtr.kernels;

/**
 * A stream of a CUDA device: work on it runs in order, beside that of other streams, the default stream included. Views on it
 * are made with its {@link #device()}.
 *
 * <p>Owns the stream until {@link #close()}. Any number of threads may use it. Needs what {@link CudaMemory} needs.
 *
 * <pre>{@code
 * try (CudaStream stream = new CudaStream(0); Floats onDevice = Floats.allocate(stream.device(), logProbs.length())) {
 *     onDevice.copyFrom(logProbs); // kernels that are handed this view run on the stream
 *     stream.synchronize();
 * }
 * }</pre>
 */
public final class CudaStream implements AutoCloseable {
    private final Device device;
    private boolean closed;

    /**
     * @throws IllegalArgumentException if there is no device of that number
     * @throws DeviceException if there is no device at all, or the stream cannot be had
     * @throws IllegalStateException if the presets or libcudart are missing, or the setting forbids CUDA ({@link Backend})
     */
    public CudaStream(int device) {
        Backend.require(Device.cuda(device));
        this.device = Device.cuda(device, Cudart.createStream(device));
    }

    /** {@return device and stream, for views on it} */
    public Device device() {
        return device;
    }

    /** Waits for all work on it, see {@link Device#synchronize}. */
    public void synchronize() {
        checkOpen();
        device.synchronize();
    }

    /** Lets work that is enqueued from now on wait, on the device, for what the event was last recorded behind. */
    public void waitFor(CudaEvent event) {
        checkOpen();
        Cudart.waitFor(device, Check.given(event, "event").open());
    }

    private void checkOpen() {
        if (closed) {
            throw new IllegalStateException("stream: it was closed");
        }
    }

    /** Destroys the stream as soon as its work is done, without waiting for that; the second time does nothing. */
    @Override
    public synchronized void close() {
        if (!closed) {
            closed = true;
            Cudart.destroyStream(device);
        }
    }

    @Override
    public String toString() {
        return "CudaStream[" + device + "]";
    }
}
