package org.teamtr.kernels;

/**
 * A point in the work of a CUDA stream: to wait for, and to measure time between two of them on the device.
 *
 * <pre>{@code
 * try (CudaEvent start = new CudaEvent(0); CudaEvent end = new CudaEvent(0)) {
 *     start.record(gpu);
 *     LogProbs.forward(logits, targets, Temperature.ONE, logProbs, null, null);
 *     end.record(gpu);
 *     System.out.println(end.elapsedMillis(start));
 * }
 * }</pre>
 *
 * <p>Owns the event until {@link #close()}. Any number of threads may use it. Needs what {@link CudaMemory} needs.
 */
public final class CudaEvent implements AutoCloseable {
    private final int device;
    private final long event;
    private boolean closed;

    /**
     * @throws IllegalArgumentException if there is no device of that number
     * @throws DeviceException if there is no device at all, or the event cannot be had
     * @throws IllegalStateException if the presets or libcudart are missing, or the setting forbids CUDA ({@link Backend})
     */
    public CudaEvent(int device) {
        Backend.require(Device.cuda(device));
        this.device = device;
        this.event = Cudart.createEvent(device);
    }

    /**
     * Records the point behind all work that is now on the stream.
     *
     * @throws IllegalArgumentException if it is not this event's device
     */
    public void record(Device device) {
        if (Check.given(device, "device").index() != this.device) {
            throw new IllegalArgumentException("device: expected a stream of cuda:" + this.device + ", given " + device);
        }
        Cudart.record(device, open());
    }

    /** Waits until the device has reached the point that was recorded last; returns at once if there is none. */
    public void synchronize() {
        Cudart.synchronizeEvent(device, open());
    }

    /**
     * {@return milliseconds of the device's clock from the other event's point to this one's; waits for both}
     *
     * @throws DeviceException if one of them was never recorded
     */
    public float elapsedMillis(CudaEvent start) {
        Check.given(start, "start").synchronize();
        synchronize();
        return Cudart.elapsedMillis(device, start.open(), open());
    }

    long open() {
        if (closed) {
            throw new IllegalStateException("event: it was closed");
        }
        return event;
    }

    /** Destroys the event, without waiting for it; the second time does nothing. */
    @Override
    public synchronized void close() {
        if (!closed) {
            closed = true;
            Cudart.destroyEvent(device, event);
        }
    }

    @Override
    public String toString() {
        return "CudaEvent[cuda:" + device + "]";
    }
}
