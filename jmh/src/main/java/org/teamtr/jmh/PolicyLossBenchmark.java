package org.teamtr.jmh;

import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Tensor;
import org.openjdk.jmh.annotations.Benchmark;
import org.teamtr.kernels.Floats;
import org.teamtr.kernels.Indices;
import org.teamtr.kernels.LogProbs;
import org.teamtr.kernels.PolicyLoss;
import org.teamtr.kernels.SurrogateConfig.Aggregation;
import org.teamtr.kernels.SurrogateConfig.Ratio;
import org.teamtr.kernels.SurrogateConfig;
import org.teamtr.kernels.Temperature;

/**
 * From logits to the loss and its gradient, in place of the logits. I/O: read the logits twice, write them once.
 *
 * <p>A clipped token's row has gradient 0 and is not read a second time. So that no row is spared, and all go on having a
 * gradient when the logits have become the gradients of the call before, the ratio here is each token's and never clipped.
 * libtorch's side is autograd, on logits that stay.
 */
public class PolicyLossBenchmark extends LogitsBenchmark {
    private static final SurrogateConfig CONFIG = SurrogateConfig.PAPER.withRatio(Ratio.TOKEN)
            .withAggregation(Aggregation.TOKEN_MEAN).withClip(Double.POSITIVE_INFINITY, Double.POSITIVE_INFINITY);
    private static final int MESSAGE = 64;

    private Data data;
    private Indices targets;
    private Indices bounds;
    private Floats old;
    private Floats advantages; // one for each message
    private Floats perToken; // the same, one for each token
    private PolicyLoss loss;
    private float[][] heap;
    private double[][] logP; // of the rows to check, before any side has overwritten them

    @Override
    void prepare() {
        data = new Data(dtype, rows, vocab, 1, null);
        data.keep();
        targets = targets();
        old = Floats.allocate(rows);
        LogProbs.forward(data.logits, targets, Temperature.ONE, old, null, null);
        final int messages = (rows + MESSAGE - 1) / MESSAGE;
        bounds = Indices.allocateLongs(messages + 1);
        advantages = Floats.allocate(messages);
        perToken = Floats.allocate(rows);
        for (int m = 0; m < messages; m++) {
            bounds.set(m + 1, Math.min(rows, (m + 1) * MESSAGE));
            advantages.set(m, m % 2 == 0 ? 0.7f : -0.4f);
        }
        for (int r = 0; r < rows; r++) {
            old.set(r, old.get(r) + 0.1f * (r % 5 - 2));
            perToken.set(r, advantages.get(r / MESSAGE));
        }
        loss = new PolicyLoss(rows, false);
        heap = data.heap(javaRows());
        logP = logSoftmax(data);
    }

    @Override
    void restore() {
        data.restore();
    }

    @Override
    void check(String side) {
        try (PointerScope scope = new PointerScope()) {
            Tensor gradient = null;
            switch (side) {
                case "teamtr" -> teamtr();
                case "libtorch" -> gradient = gradient();
                default -> plainJava();
            }
            for (int r = 0; r < checked(); r++) {
                final double w = Math.exp(logP[r][target(r)] - old.get(r));
                final float[] d = side.equals("plainJava") ? heap[r] : data.row(r);
                final double[] expected = new double[vocab];
                for (int v = 0; v < vocab; v++) {
                    expected[v] = -w * perToken.get(r) / rows * ((v == target(r) ? 1 : 0) - Math.exp(logP[r][v]));
                }
                final Tensor of = gradient;
                final int row = r;
                compareGradient(side, v -> of == null ? d[v] : Libtorch.at(of, row, v), expected,
                        of == null ? 1 : vocab / 64 + 1, v -> 1e-7); // an element of a tensor takes its time
            }
        }
    }

    @Override
    long bytes() {
        return 3 * matrix();
    }

    @Benchmark
    public void teamtr() {
        loss.forwardBackward(CONFIG, data.logits, null, targets, Temperature.ONE, old, advantages, bounds, null, null,
                data.logits);
    }

    @Benchmark
    public void libtorch() {
        try (PointerScope scope = new PointerScope()) {
            gradient();
        }
    }

    private Tensor gradient() {
        final Tensor leaf = Libtorch.of(data).requires_grad_(true);
        final Tensor logP = Libtorch.chosen(Libtorch.logSoftmax(leaf), Libtorch.of(targets));
        logP.sub(Libtorch.of(old)).exp().mul(Libtorch.of(perToken)).mean().neg().backward();
        return leaf.grad();
    }

    @Benchmark
    public void plainJava() {
        PlainJava.rows(javaRows(), r -> {
            final float[] x = heap[r];
            final float max = PlainJava.max(x);
            final double sum = PlainJava.sumExp(x, max);
            final double w = Math.exp(x[target(r)] - max - Math.log(sum) - old.get(r));
            final double g = -w * perToken.get(r) / rows;
            for (int v = 0; v < vocab; v++) {
                x[v] = (float) (-g / sum * Math.exp(x[v] - max));
            }
            x[target(r)] += g;
        });
    }

    @Benchmark
    public void roofline() {
        Bandwidth.read(data);
        Bandwidth.readWrite(data);
    }
}
