package org.teamtr.kernels;

import org.bytedeco.cuda.cudart.CUevent_st;
import org.bytedeco.cuda.cudart.CUstream_st;
import org.bytedeco.cuda.global.cudart;
import org.bytedeco.javacpp.Loader;
import org.bytedeco.javacpp.Pointer;
import org.teamtr.kernels.internal.Natives;

/**
 * The CUDA runtime through the JavaCPP Presets for CUDA: memory, copies, streams, events. Only this class refers to those presets, which
 * are needed for nothing else; the kernels contain a runtime of their own. The two share a device's memory,
 * streams and events.
 *
 * <p>A thread's current device is not changed, since the caller's framework may rely on it.
 */
final class Cudart {
    private static final String PRESETS = "org.bytedeco:cuda:13.1-9.19-1.5.13";

    private Cudart() {
    }

    /** Separate from the calls, so that a class path without the presets gives a clear error. */
    private static final class Presets {
        static final LinkageError FAILURE = load();

        private static LinkageError load() {
            try {
                Natives.uninterrupted(() -> Loader.load(cudart.class));
                return null;
            } catch (LinkageError e) {
                return e;
            }
        }
    }

    private static void require() {
        Natives.requireJavaCpp();
        if (Presets.FAILURE != null) {
            final String reason = String.valueOf(Presets.FAILURE.getMessage());
            throw new IllegalStateException("CUDA memory, copies, streams and events: the JavaCPP Presets for CUDA could not be"
                    + " loaded (" + reason.replaceFirst("(java\\S*path): \\S+", "$1") + "). The class path needs " + PRESETS
                    + " and " + PRESETS + ":linux-x86_64, the machine CUDA 13's libcudart.so.13 (of the CUDA toolkit, or of"
                    + " org.bytedeco:cuda-redist)", Presets.FAILURE);
        }
    }

    private interface Call {
        int run();
    }

    private static void on(int device, String what, Call call) {
        require();
        final int[] before = new int[1];
        check(cudart.cudaGetDevice(before), "cudaGetDevice");
        check(cudart.cudaSetDevice(device), "cudaSetDevice to cuda:" + device);
        final int error = call.run();
        if (before[0] != device) {
            cudart.cudaSetDevice(before[0]);
        }
        check(error, what);
    }

    private static void check(int error, String what) {
        if (error != cudart.cudaSuccess) {
            cudart.cudaGetLastError(); // clears the error where possible: it has been reported
            throw new DeviceException(what + ": " + cudart.cudaGetErrorName(error).getString() + ", "
                    + cudart.cudaGetErrorString(error).getString());
        }
    }

    private static CUstream_st stream(Device device) {
        return new CUstream_st(new Memory.Raw(device.stream(), 0));
    }

    private static CUevent_st event(long event) {
        return new CUevent_st(new Memory.Raw(event, 0));
    }

    // ---- memory ----

    static long malloc(Device device, long bytes) {
        final Pointer memory = new Pointer();
        on(device.index(), device + ": " + bytes + " bytes", () -> cudart.cudaMalloc(memory, bytes));
        return memory.address();
    }

    /** Waits for the device's pending work. */
    static void free(int device, long address) {
        on(device, "cudaFree on cuda:" + device, () -> cudart.cudaFree(new Memory.Raw(address, 0)));
    }

    static void zero(Device device, long address, long bytes) {
        on(device.index(), device + ": cudaMemset",
                () -> cudart.cudaMemsetAsync(new Memory.Raw(address, bytes), 0, bytes, stream(device)));
    }

    static void copy(Device device, long to, long from, long bytes) {
        on(device.index(), device + ": a copy of " + bytes + " bytes", () -> cudart.cudaMemcpyAsync(new Memory.Raw(to, bytes),
                new Memory.Raw(from, bytes), bytes, cudart.cudaMemcpyDefault, stream(device)));
    }

    // ---- streams and events ----

    static long createStream(int device) {
        require();
        final CUstream_st stream = new CUstream_st();
        on(device, "cudaStreamCreate on cuda:" + device,
                () -> cudart.cudaStreamCreateWithFlags(stream, cudart.cudaStreamNonBlocking));
        return stream.address();
    }

    static void destroyStream(Device device) {
        on(device.index(), device + ": cudaStreamDestroy", () -> cudart.cudaStreamDestroy(stream(device)));
    }

    static void waitFor(Device device, long event) {
        on(device.index(), device + ": cudaStreamWaitEvent", () -> cudart.cudaStreamWaitEvent(stream(device), event(event), 0));
    }

    static long createEvent(int device) {
        require();
        final CUevent_st event = new CUevent_st();
        on(device, "cudaEventCreate on cuda:" + device, () -> cudart.cudaEventCreate(event));
        return event.address();
    }

    static void record(Device device, long event) {
        on(device.index(), device + ": cudaEventRecord", () -> cudart.cudaEventRecord(event(event), stream(device)));
    }

    static void synchronizeEvent(int device, long event) {
        on(device, "cuda:" + device + ": cudaEventSynchronize", () -> cudart.cudaEventSynchronize(event(event)));
    }

    static float elapsedMillis(int device, long start, long end) {
        final float[] millis = new float[1];
        on(device, "cuda:" + device + ": cudaEventElapsedTime",
                () -> cudart.cudaEventElapsedTime(millis, event(start), event(end)));
        return millis[0];
    }

    static void destroyEvent(int device, long event) {
        on(device, "cuda:" + device + ": cudaEventDestroy", () -> cudart.cudaEventDestroy(event(event)));
    }
}
