package org.teamtr.torch;

import org.junit.jupiter.api.extension.BeforeAllCallback;
import org.junit.jupiter.api.extension.ExtensionContext;
import org.teamtr.kernels.Device;

/**
 * With {@code -Dteamtr.test.device=cuda}, tests of other packages than the kernels' run with every tensor that a kernel is handed
 * standing for memory of {@code cuda:0}, while vectors of the host stay what they are: a kernel call that mixes the two, which on a
 * GPU would fail, fails, and so does Java where it looks at what would be device memory. The kernels are CUDA's, compiled for the
 * host. libtorch itself computes on the CPU: operations of its own that mix tensors of two devices do not show.
 */
public final class PolicyDevice implements BeforeAllCallback {
    static final boolean CUDA = "cuda".equals(System.getProperty("teamtr.test.device"));

    @Override
    public void beforeAll(ExtensionContext context) {
        final boolean kernels = context.getRequiredTestClass().getPackageName().startsWith("org.teamtr.kernels");
        TensorViews.cpu = CUDA && !kernels ? Device.cuda(0) : Device.CPU;
    }
}
