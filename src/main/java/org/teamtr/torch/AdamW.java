package org.teamtr.torch;

import java.util.function.DoubleUnaryOperator;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Device;
import org.bytedeco.pytorch.NoGradGuard;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.Tensor;

/**
 * AdamW (Loshchilov and Hutter, 2019) on one vector. libtorch's AdamW keeps its state in C++ objects, which can neither be rolled back
 * nor be saved other than in libtorch's archive format. On a single vector AdamW is six operations. The moments are made at
 * the first step: a policy that does not learn needs no memory for them.
 */
final class AdamW implements AutoCloseable {
    /** Elements of a piece; the temporary tensors of a step have this size. */
    private static final long CHUNK = 64L << 20;

    private final AdamWSettings settings;
    private final long length;
    /** Where the moments are kept, or will be made. */
    private Placement place;
    /** Null before the first step, as is {@link #square}: both are 0. */
    Tensor mean;
    Tensor square;
    long steps;
    private int owners = 1;
    private long changes;

    /** @param placement where the moments are kept until {@link #move}; the caller owns it, and those given to move */
    AdamW(AdamWSettings settings, long length, Placement placement) {
        this.settings = settings;
        this.length = length;
        this.place = placement;
    }

    AdamW copy(Placement placement) {
        final AdamW copy = new AdamW(settings, length, placement);
        if (mean != null) {
            copy.mean = placement.copied(mean);
            copy.square = placement.copied(square);
        }
        copy.steps = steps;
        copy.changes = changes;
        return copy;
    }

    /** {@return this, for another owner, who must close it as well} */
    AdamW shared() {
        owners++;
        return this;
    }

    /** {@return how often the moments have changed}: while it stays the same, so do they */
    long changes() {
        return changes;
    }

    /** {@return whether this copy has not been closed by all its owners, and {@code other} has not changed since it was copied} */
    boolean isStill(AdamW other) {
        return owners > 0 && changes == other.changes;
    }

    void move(Device to) {
        place = new Placement(to);
        if (mean != null) {
            mean = Weights.moved(mean, to);
            square = Weights.moved(square, to);
        }
    }

    void move(Placement to) {
        place = to;
        if (mean != null) {
            mean = Weights.moved(mean, to);
            square = Weights.moved(square, to);
        }
    }

    void set(AdamW other) {
        if (other.mean == null) {
            clear();
            return;
        }
        changes++;
        make();
        try (NoGradGuard guard = new NoGradGuard(); PointerScope scope = new PointerScope()) {
            mean.copy_(other.mean);
            square.copy_(other.square);
        }
        steps = other.steps;
    }

    /** Frees the moments, as before the first step. */
    void clear() {
        free();
        changes++;
        steps = 0;
    }

    /** Makes the moments, unless they are there. */
    void make() {
        if (mean == null) {
            mean = place.zeros(length);
            square = place.zeros(length);
        }
    }

    /**
     * Does one step: scales {@code gradient} to a norm of at most {@link AdamWSettings#maxGradNorm} and changes {@code weights}. Weights and
     * moments that are not on the gradient's device are copied to it and back, one piece after the other.
     *
     * @return the norm before scaling
     * @throws ArithmeticException if the norm is not finite; nothing has been changed
     */
    double step(Tensor weights, Tensor gradient, double learningRate) {
        return step(weights, gradient, learningRate, DoubleUnaryOperator.identity());
    }

    /** @param whole returns the norm of the whole gradient, given the norm of {@code gradient}, which is a part of it */
    double step(Tensor weights, Tensor gradient, double learningRate, DoubleUnaryOperator whole) {
        try (NoGradGuard guard = new NoGradGuard(); PointerScope scope = new PointerScope()) {
            final double norm = whole.applyAsDouble(HostCopies.number(gradient.norm()));
            if (!Double.isFinite(norm)) {
                throw new ArithmeticException("gradient: expected a finite norm, given " + norm);
            }
            if (norm > settings.maxGradNorm()) {
                gradient.mul_(new Scalar(settings.maxGradNorm() / norm));
            }
            make();
            changes++;
            steps++;
            for (long from = 0; from < weights.numel(); from += CHUNK) {
                try (PointerScope part = new PointerScope(); Device here = gradient.device()) {
                    final long n = Math.min(CHUNK, weights.numel() - from);
                    final Tensor[] own = {weights.narrow(0, from, n), mean.narrow(0, from, n), square.narrow(0, from, n)};
                    final Tensor[] near = new Tensor[own.length]; // on the gradient's device
                    for (int i = 0; i < own.length; i++) {
                        near[i] = Weights.isOn(own[i], here) ? own[i] : Weights.copied(own[i], here);
                    }
                    step(near[0], gradient.narrow(0, from, n), near[1], near[2], learningRate);
                    for (int i = 0; i < own.length; i++) {
                        if (near[i] != own[i]) {
                            own[i].copy_(near[i]);
                            near[i].close();
                        }
                    }
                }
            }
            return norm;
        }
    }

    private void step(Tensor weights, Tensor gradient, Tensor mean, Tensor square, double learningRate) {
        try (PointerScope scope = new PointerScope()) {
            mean.lerp_(gradient, new Scalar(1 - settings.beta1()));
            square.mul_(new Scalar(settings.beta2())).addcmul_(gradient, gradient, new Scalar(1 - settings.beta2()));
            final double correction1 = 1 - Math.pow(settings.beta1(), steps);
            final double correction2 = 1 - Math.pow(settings.beta2(), steps);
            final Tensor scale = square.sqrt().div_(new Scalar(Math.sqrt(correction2))).add_(new Scalar(settings.eps()));
            weights.mul_(new Scalar(1 - learningRate * settings.weightDecay()));
            weights.addcdiv_(mean, scale, new Scalar(-learningRate / correction1));
        }
    }

    private void free() {
        if (mean != null) {
            mean.close();
            square.close();
            mean = null;
            square = null;
        }
    }

    /** Frees the memory when the last owner calls it. */
    @Override
    public void close() {
        if (--owners == 0) {
            free();
        }
    }
}
