package org.teamtr.jmh;

import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.BoolOptional;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorVector;
import org.bytedeco.pytorch.global.torch;
import org.openjdk.jmh.annotations.Benchmark;
import org.teamtr.kernels.Floats;
import org.teamtr.kernels.Indices;
import org.teamtr.kernels.LogProbs;
import org.teamtr.kernels.Temperature;

/**
 * The gradient of a loss on log-probs with respect to the logits, in their place. I/O: read and write the logits.
 *
 * <p>libtorch's side is the closed form in place, f32 without a copy of the logits; libtorchAutograd is what its autograd does, given the log-probs
 * that it keeps from the forward pass.
 */
public class LogProbsBackwardBenchmark extends LogitsBenchmark {
    private static final float SLOPE = -0.25f;

    private Data data;
    private Indices targets;
    private Floats logProbs;
    private Floats lse;
    private Floats slopes;
    private float[][] heap;
    private Tensor leaf; // autograd's: the logits, and what it made of them in the forward pass
    private Tensor chosen;
    private double[][] logP; // of the rows to check, before any side has overwritten them

    @Override
    void prepare() {
        data = new Data(dtype, rows, vocab, 1, null);
        data.keep();
        targets = targets();
        logProbs = Floats.allocate(rows);
        lse = Floats.allocate(rows);
        slopes = Floats.allocate(rows);
        for (int r = 0; r < rows; r++) {
            slopes.set(r, SLOPE);
        }
        LogProbs.forward(data.logits, targets, Temperature.ONE, logProbs, lse, null);
        heap = data.heap(javaRows());
        logP = logSoftmax(data);
    }

    @Override
    void restore() {
        data.restore();
    }

    @Override
    void check(String side) {
        if (side.equals("libtorchAutograd")) {
            leaf = Libtorch.of(data).requires_grad_(true);
            chosen = Libtorch.chosen(Libtorch.logSoftmax(leaf), Libtorch.of(targets));
            final Tensor d = autograd();
            for (int r = 0; r < checked(); r++) {
                final double expected = SLOPE * (1 - Math.exp(logP[r][target(r)]));
                require("gradient at the target", Libtorch.at(d, r, target(r)), expected, 1e-8 + tolerance("libtorch", expected));
            }
            return;
        }
        switch (side) {
            case "teamtr" -> teamtr();
            case "libtorch" -> libtorch();
            default -> plainJava();
        }
        for (int r = 0; r < checked(); r++) {
            final float[] d = side.equals("plainJava") ? heap[r] : data.row(r);
            final double[] expected = new double[vocab];
            for (int v = 0; v < vocab; v++) {
                expected[v] = SLOPE * ((v == target(r) ? 1 : 0) - Math.exp(logP[r][v]));
            }
            compareGradient(side, v -> d[v], expected, 1, v -> 1e-8); // f16 has no numbers between 0 and 6e-8
        }
    }

    @Override
    long bytes() {
        return 2 * matrix();
    }

    @Benchmark
    public void teamtr() {
        LogProbs.backward(data.logits, targets, Temperature.ONE, logProbs, lse, null, slopes, null, data.logits);
    }

    @Benchmark
    public void libtorch() {
        try (PointerScope scope = new PointerScope()) {
            final Tensor logits = Libtorch.of(data);
            final Tensor slope = Libtorch.of(slopes).unsqueeze(1);
            final Tensor d = Libtorch.f32(logits).sub_(Libtorch.of(lse).unsqueeze(1)).exp_().mul_(slope.neg());
            d.scatter_add_(1, Libtorch.of(targets).unsqueeze(1), slope);
            logits.copy_(d); // of itself, in f32, which does nothing
        }
    }

    @Benchmark
    public void libtorchAutograd() {
        try (PointerScope scope = new PointerScope()) {
            autograd();
        }
    }

    /** The gradients of gather, of log_softmax and, in 16 bits, of the conversion to f32. The forward pass is kept. */
    private Tensor autograd() {
        return torch.grad(new TensorVector(chosen), new TensorVector(leaf), new TensorVector(Libtorch.of(slopes)),
                new BoolOptional(true), false, false).get(0);
    }

    @Benchmark
    public void plainJava() {
        PlainJava.rows(javaRows(), r -> {
            final float[] x = heap[r];
            final float normaliser = lse.get(r);
            final float g = slopes.get(r);
            for (int v = 0; v < vocab; v++) {
                x[v] = -g * (float) Math.exp(x[v] - normaliser);
            }
            x[target(r)] += g;
        });
    }

    @Benchmark
    public void roofline() {
        Bandwidth.readWrite(data);
    }
}
