package org.teamtr.torch;

import org.bytedeco.pytorch.Context;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch;

/**
 * TF32, the format that NVIDIA's tensor cores round the inputs of an f32 product to: 8 bits of exponent, 10 of mantissa; sums are f32.
 * On CUDA libtorch's products use it where {@link #use} says so. The CPU has no such product and rounds the inputs itself, to see
 * on a CPU what a GPU would do; it is slower there than f32.
 */
final class Tf32 {
    private static final int DROPPED = 13; // of f32's 23 bits

    private Tf32() {
    }

    /** Says for all of libtorch how f32 products on CUDA are computed from here on. */
    static void use(boolean tf32) {
        try (Context context = torch.globalContext()) {
            context.setAllowTF32CuBLAS(tf32);
        }
    }

    /** {@return the numbers rounded to nearest, halves away from 0} Autograd sees the identity. Finite numbers stay finite but for the largest. */
    static Tensor rounded(Tensor x) {
        final Tensor flat = x.detach().contiguous();
        final Tensor bits = flat.view(torch.ScalarType.Int).add(new Scalar(1 << DROPPED - 1))
                .bitwise_and(new Scalar(-(1 << DROPPED)));
        final Tensor near = bits.view(torch.ScalarType.Float);
        return x.requires_grad() ? x.add(near.sub(flat)) : near; // x + (near - x) is near, to the bit
    }
}
