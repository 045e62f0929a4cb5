package org.teamtr.jmh;

import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.ScalarOptional;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch;
import org.openjdk.jmh.annotations.Benchmark;
import org.teamtr.kernels.Floats;
import org.teamtr.kernels.Indices;
import org.teamtr.kernels.Surrogate;
import org.teamtr.kernels.SurrogateConfig;
import org.teamtr.kernels.SurrogateStats;

/**
 * Eq. 10 with one clipped ratio per message, and its gradient. I/O: read both policies' log-probs, write the gradient.
 *
 * <p>The kernel also gives 20 statistics, of which the other sides compute none.
 */
public class SurrogateBenchmark extends TokensBenchmark {
    private Floats fresh;
    private Floats old;
    private Floats advantages;
    private Indices bounds;
    private Floats gradient;
    private SurrogateStats stats;
    private float[] heapFresh;
    private float[] heapOld;
    private float[] javaGradient;

    @Override
    void prepare() {
        fresh = normal(tokens, 1, -2, 0.5);
        old = normal(tokens, 2, 0, 0.01);
        for (int u = 0; u < tokens; u++) {
            old.set(u, fresh.get(u) + old.get(u));
        }
        advantages = normal(messages(), 3, 0, 1);
        bounds = bounds();
        gradient = Floats.allocate(tokens);
        stats = new SurrogateStats();
        heapFresh = fresh.toArray();
        heapOld = old.toArray();
        javaGradient = new float[tokens];
    }

    @Override
    void check(String side) {
        try (PointerScope scope = new PointerScope()) {
            Tensor tensor = null;
            switch (side) {
                case "teamtr" -> teamtr();
                case "libtorch" -> tensor = gradient();
                default -> plainJava();
            }
            for (int m = 0; m < messages(); m += Math.max(1, messages() / 100)) {
                double log = 0;
                int length = 0;
                for (int u = m * MESSAGE; u < Math.min(tokens, (m + 1) * MESSAGE); u++) {
                    log += (double) fresh.get(u) - old.get(u);
                    length++;
                }
                final double w = Math.exp(log);
                final double a = advantages.get(m);
                final double expected = (a > 0 ? w > 1.2 : w < 0.8) ? 0 : -w * a / messages();
                final int u = m * MESSAGE + length / 2;
                final double got = tensor != null ? Libtorch.at(tensor, u) : side.equals("teamtr") ? gradient.get(u)
                        : javaGradient[u];
                require("gradient", got, expected, 1e-9 + 1e-4 * Math.abs(expected));
            }
        }
    }

    @Override
    long bytes() {
        return 3L * tokens * Float.BYTES;
    }

    @Benchmark
    public void teamtr() {
        Surrogate.compute(SurrogateConfig.PAPER, fresh, old, advantages, bounds, null, null, null, null, gradient, null, null,
                stats);
    }

    @Benchmark
    public void libtorch() {
        try (PointerScope scope = new PointerScope()) {
            gradient();
        }
    }

    private Tensor gradient() {
        final Tensor leaf = Libtorch.of(fresh).requires_grad_(true);
        final Tensor a = Libtorch.of(advantages);
        final Tensor w = leaf.sub(Libtorch.of(old)).view(messages(), -1).sum(1).exp();
        final Tensor clipped = w.clamp(new ScalarOptional(new Scalar(0.8)), new ScalarOptional(new Scalar(1.2)));
        torch.minimum(w.mul(a), clipped.mul(a)).mean().neg().backward();
        return leaf.grad();
    }

    @Benchmark
    public void plainJava() {
        for (int m = 0; m < messages(); m++) {
            final int from = m * MESSAGE;
            final int to = Math.min(tokens, from + MESSAGE);
            double log = 0;
            for (int u = from; u < to; u++) {
                log += heapFresh[u] - heapOld[u];
            }
            final double w = Math.exp(log);
            final float a = advantages.get(m);
            final float d = (a > 0 ? w > 1.2 : w < 0.8) ? 0 : (float) (-w * a / messages());
            for (int u = from; u < to; u++) {
                javaGradient[u] = d;
            }
        }
    }

    @Benchmark
    public void roofline() {
        Bandwidth.read(fresh);
        Bandwidth.read(old);
        Bandwidth.readWrite(gradient);
    }
}
