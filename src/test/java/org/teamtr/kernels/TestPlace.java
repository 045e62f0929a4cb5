package org.teamtr.kernels;

import org.junit.jupiter.api.extension.BeforeAllCallback;
import org.junit.jupiter.api.extension.ExtensionContext;

/**
 * With {@code -Dteamtr.test.place=cuda} every view of host memory is one of {@code cuda:0}, so that the tests of the kernels, as
 * they are, test the CUDA kernels. The device must reach the JVM's memory:
 * <ul>
 * <li>CUDA kernels compiled for the host, which is what the second test run of the build does;
 * <li>a GPU whose cudaDevAttrPageableMemoryAccess is 1, with {@code CUDA_LAUNCH_BLOCKING=1}, since the tests look at results
 * without waiting.
 * </ul>
 */
public final class TestPlace implements BeforeAllCallback {
    static final boolean CUDA = "cuda".equals(System.getProperty("teamtr.test.place"));

    @Override
    public void beforeAll(ExtensionContext context) {
        if (CUDA) {
            Memory.hostPlace = Place.cuda(0);
        }
    }
}
