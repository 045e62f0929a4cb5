package org.teamtr.torch;

import java.util.Map;
import java.util.function.DoubleUnaryOperator;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.NoGradGuard;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.Tensor;

/**
 * Dynamic loss scaling (Micikevicius et al., 2018). In f16, gradients would fall below the smallest number, 6e-8, so the loss is
 * multiplied by a large scale. A gradient that exceeds the largest number, 65,504, is not used and the scale is halved;
 * after {@link #GROWTH} finite gradients it is doubled. All scales are powers of two, so that multiplying by them does not round.
 */
final class LossScale {
    static final String SCALE = "loss_scale";
    private static final String FINITE = "finite_gradients";
    private static final double FIRST = 0x1p16;
    private static final double LARGEST = 0x1p24;
    /** Number of consecutive finite gradients after which the scale is doubled: fewer than usual, since each is of a whole batch. */
    static final int GROWTH = 100;

    private double scale = FIRST;
    private int finite; // consecutive finite gradients

    /** {@return the number by which the loss must be multiplied} */
    double scale() {
        return scale;
    }

    /** Resets the scale to that of a new policy. */
    void clear() {
        scale = FIRST;
        finite = 0;
    }

    /**
     * Divides a gradient by the scale with which it was computed, and adjusts the scale for the next one.
     *
     * @return whether the gradient is finite; otherwise it must not be used
     * @throws ArithmeticException if it is not, and the scale is 1 already
     */
    boolean unscale(Tensor gradient) {
        return unscale(gradient, DoubleUnaryOperator.identity());
    }

    /** @param all returns a finite number if all parts of the gradient are finite, given the largest absolute value of this part */
    boolean unscale(Tensor gradient, DoubleUnaryOperator all) {
        try (NoGradGuard guard = new NoGradGuard(); PointerScope scope = new PointerScope()) {
            final double largest = gradient.numel() == 0 ? 0 : HostCopies.number(gradient.norm(new Scalar(Double.POSITIVE_INFINITY)));
            if (!Double.isFinite(all.applyAsDouble(largest))) {
                if (scale == 1) {
                    throw new ArithmeticException("gradient: expected finite numbers at a loss scale of 1, given others: this model passes "
                            + "f16's largest number, 65,504; policies.<name>.dtype bf16 or f32 holds it");
                }
                scale /= 2;
                finite = 0;
                return false;
            }
            gradient.mul_(new Scalar(1 / scale));
        }
        if (++finite == GROWTH) {
            scale = Math.min(LARGEST, 2 * scale);
            finite = 0;
        }
        return true;
    }

    /** {@return the state to store in a checkpoint} */
    Map<String, String> state() {
        return Map.of(SCALE, Double.toString(scale), FINITE, Integer.toString(finite));
    }

    /** Restores a state. @throws NumberFormatException if it is not one that {@link #state} has returned */
    void set(Map<String, String> state) {
        final double given = Double.parseDouble(state.getOrDefault(SCALE, ""));
        if (!(given >= 1 && given <= LARGEST)) {
            throw new NumberFormatException(SCALE + ": expected 1 to " + LARGEST + ", given " + given);
        }
        finite = Integer.parseInt(state.getOrDefault(FINITE, ""));
        scale = given;
    }
}
