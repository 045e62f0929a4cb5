package org.teamtr.kernels;

/**
 * A CUDA device is missing or has failed; the message names its error. Work on a device runs after the call that enqueued it has returned,
 * so the failure may be that of an earlier call. After most failures the device takes no more work from this process.
 *
 * <pre>{@code
 * Device device = Device.cuda(0);
 * try (Floats tried = Floats.allocate(device, 1)) {
 *     System.out.println("on " + tried.device());
 * } catch (DeviceException | IllegalStateException e) {
 *     device = Device.CPU; // e.getMessage() says why
 * }
 * }</pre>
 */
public final class DeviceException extends RuntimeException {
    private static final long serialVersionUID = 1;

    DeviceException(String message) {
        super(message);
    }
}
