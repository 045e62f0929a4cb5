package org.teamtr.jmh;

import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Tensor;
import org.openjdk.jmh.annotations.Benchmark;
import org.teamtr.kernels.Floats;
import org.teamtr.kernels.Indices;
import org.teamtr.kernels.SampledKl;

/** The k3 estimate per token and per message. I/O: read both policies' log-probs, write the estimate. */
public class SampledKlBenchmark extends TokensBenchmark {
    private Floats fresh;
    private Floats old;
    private Indices bounds;
    private Floats perToken;
    private Floats perMessage;
    private float[] heapFresh;
    private float[] heapOld;
    private float[] javaPerToken;
    private float[] javaPerMessage;

    @Override
    void prepare() {
        fresh = normal(tokens, 1, -2, 0.5);
        old = normal(tokens, 2, -2, 0.5);
        bounds = bounds();
        perToken = Floats.allocate(tokens);
        perMessage = Floats.allocate(messages());
        heapFresh = fresh.toArray();
        heapOld = old.toArray();
        javaPerToken = new float[tokens];
        javaPerMessage = new float[messages()];
    }

    @Override
    void check(String side) {
        try (PointerScope scope = new PointerScope()) {
            Tensor tensor = null;
            switch (side) {
                case "teamtr" -> teamtr();
                case "libtorch" -> tensor = perMessage();
                default -> plainJava();
            }
            for (int m = 0; m < messages(); m += Math.max(1, messages() / 100)) {
                double expected = 0;
                for (int u = m * MESSAGE; u < Math.min(tokens, (m + 1) * MESSAGE); u++) {
                    final double d = (double) old.get(u) - fresh.get(u);
                    expected += Math.expm1(-d) + d;
                }
                final double got = tensor != null ? Libtorch.at(tensor, m) : side.equals("teamtr") ? perMessage.get(m)
                        : javaPerMessage[m];
                require("k3 of a message", got, expected, 1e-5 + 1e-5 * expected);
            }
        }
    }

    @Override
    long bytes() {
        return 3L * tokens * Float.BYTES;
    }

    @Benchmark
    public void teamtr() {
        SampledKl.compute(SampledKl.Estimator.K3, old, fresh, bounds, perToken, perMessage);
    }

    @Benchmark
    public void libtorch() {
        try (PointerScope scope = new PointerScope()) {
            perMessage();
        }
    }

    private Tensor perMessage() {
        final Tensor d = Libtorch.of(old).sub(Libtorch.of(fresh));
        return d.neg().expm1_().add_(d).view(messages(), -1).sum(1);
    }

    @Benchmark
    public void plainJava() {
        for (int m = 0; m < messages(); m++) {
            double sum = 0;
            for (int u = m * MESSAGE; u < Math.min(tokens, (m + 1) * MESSAGE); u++) {
                final double d = heapOld[u] - heapFresh[u];
                final double k3 = Math.exp(-d) - 1 + d;
                javaPerToken[u] = (float) k3;
                sum += k3;
            }
            javaPerMessage[m] = (float) sum;
        }
    }

    @Benchmark
    public void roofline() {
        Bandwidth.read(fresh);
        Bandwidth.read(old);
        Bandwidth.readWrite(perToken);
    }
}
