package org.teamtr.kernels;

/**
 * A CUDA device is missing or has failed; the words name its error. Work on a device runs behind the call that enqueued it, so
 * the failure may be that of an earlier call. After most failures the device takes no more work from this process.
 *
 * <pre>{@code
 * Place place = Place.cuda(0);
 * try (Floats tried = Floats.allocate(place, 1)) {
 *     System.out.println("on " + tried.place());
 * } catch (DeviceException | IllegalStateException e) {
 *     place = Place.CPU; // e.getMessage() says why
 * }
 * }</pre>
 */
public final class DeviceException extends RuntimeException {
    private static final long serialVersionUID = 1;

    DeviceException(String message) {
        super(message);
    }
}
