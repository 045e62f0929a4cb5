package org.teamtr.kernels;

import org.bytedeco.javacpp.Pointer;
import org.junit.jupiter.api.extension.BeforeAllCallback;
import org.junit.jupiter.api.extension.ExtensionContext;
import org.teamtr.kernels.internal.global.teamtr;

/**
 * With {@code -Dteamtr.test.device=cuda} every view of host memory is one of {@code cuda:0}, so that the tests of the kernels, as
 * they are, test the CUDA kernels. The device must reach the JVM's memory:
 * <ul>
 * <li>CUDA kernels compiled for the host, which is what the second test run of the build does;
 * <li>a GPU whose cudaDevAttrPageableMemoryAccess is 1, with {@code CUDA_LAUNCH_BLOCKING=1}, since the tests look at results
 * without waiting:
 * <pre>
 * CUDA_LAUNCH_BLOCKING=1 ./mvnw test -Dcmake.cuda=ON -Dsimt.skip -Dteamtr.test.device=cuda \
 *     -Dtest.excludedGroups=large,cuda,cpu -Dtest='org/teamtr/kernels/*Test'
 * </pre>
 * </ul>
 * {@link CudaTest} needs no such GPU.
 */
public final class TestDevice implements BeforeAllCallback {
    static final boolean CUDA = "cuda".equals(System.getProperty("teamtr.test.device"));

    /** Whether the kernels run blocks of threads in lockstep: far slower than on either backend. */
    static boolean lockstep() {
        return CUDA && Backend.current().cudaDevices().get(0).startsWith("no GPU");
    }

    @Override
    public void beforeAll(ExtensionContext context) {
        if (!CUDA) {
            return;
        }
        if (!context.getRequiredTestClass().getPackageName().equals(TestDevice.class.getPackageName())) {
            Memory.hostDevice = Device.CPU; // the trainer's tests: see PolicyDevice
            return;
        }
        final String device = Backend.current().cudaDevices().stream().findFirst()
                .orElseThrow(() -> new IllegalStateException(Backend.current().whyNoCuda()));
        if (!lockstep() && !"1".equals(System.getenv("CUDA_LAUNCH_BLOCKING"))) {
            throw new IllegalStateException("set CUDA_LAUNCH_BLOCKING=1 in the environment, given " + device);
        }
        final Pointer memory = Pointer.malloc(64);
        Check.status(teamtr.teamtr_cuda_check(0, memory.address())); // its words say that the device does not reach it
        Pointer.free(memory);
        Memory.hostDevice = Device.cuda(0);
    }
}
