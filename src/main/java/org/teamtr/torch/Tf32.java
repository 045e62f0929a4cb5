package org.teamtr.torch;

import org.bytedeco.pytorch.Context;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch;

/**
 * TF32, the format to which NVIDIA's tensor cores round the inputs of an f32 product: 8 bits of exponent, 10 of mantissa; sums are f32.
 * On CUDA libtorch's products use it after {@link #use}. The CPU has no such product; there the inputs are rounded by this class, which
 * shows the effect of a GPU's rounding but is slower than f32.
 */
final class Tf32 {
    private static final int DROPPED = 13; // of f32's 23 bits

    private Tf32() {
    }

    /** Sets for all of libtorch whether f32 products on CUDA use TF32 from now on. */
    static void use(boolean tf32) {
        try (Context context = torch.globalContext()) {
            context.setAllowTF32CuBLAS(tf32);
        }
    }

    /** {@return the elements rounded to nearest, halves away from 0} For autograd it is the identity. Only the largest finite numbers overflow. */
    static Tensor rounded(Tensor x) {
        final Tensor flat = x.detach().contiguous();
        final Tensor bits = flat.view(torch.ScalarType.Int).add(new Scalar(1 << DROPPED - 1))
                .bitwise_and(new Scalar(-(1 << DROPPED)));
        final Tensor near = bits.view(torch.ScalarType.Float);
        return x.requires_grad() ? x.add(near.sub(flat)) : near; // x + (near - x) is near, to the bit
    }
}
