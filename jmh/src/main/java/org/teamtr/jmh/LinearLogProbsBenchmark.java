package org.teamtr.jmh;

import java.util.function.IntToDoubleFunction;
import org.bytedeco.javacpp.DoublePointer;
import org.bytedeco.javacpp.FloatPointer;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.NoGradGuard;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.Param;
import org.teamtr.kernels.DType;
import org.teamtr.torch.LinearLogProbs;

/**
 * From hidden states and the weight of a head to log-probs and entropy. Its time is the matrix product's: here the roofline is the
 * product alone, by libtorch, into memory that is there. Plain Java computes a 64th of the rows.
 */
public class LinearLogProbsBenchmark extends KernelBenchmark {
    @Param({"F32", "BF16"})
    DType dtype;
    @Param("256")
    int rows;
    @Param("151936")
    int vocab;
    @Param("512")
    int hidden;

    private Tensor states;
    private Tensor weight;
    private Tensor targets;
    private Tensor logits;
    private float[] heapStates;
    private float[] heapWeight;
    private float[] javaLogProbs;
    private float[] javaEntropy;

    private int javaRows() {
        return Math.max(1, rows / 64);
    }

    @Override
    double share(String side) {
        return side.equals("plainJava") ? (double) javaRows() / rows : 1;
    }

    @Override
    void prepare() {
        Libtorch.threads(threads);
        torch.manual_seed(1);
        states = torch.randn(rows, hidden).to(Libtorch.type(dtype));
        weight = torch.randn(vocab, hidden).mul_(new Scalar(3 / Math.sqrt(hidden))).to(Libtorch.type(dtype));
        targets = torch.arange(new Scalar(rows)).to(torch.ScalarType.Long);
        logits = torch.mm(states, weight.t());
        heapStates = heap(states.narrow(0, 0, javaRows()));
        heapWeight = heap(weight);
        javaLogProbs = new float[rows];
        javaEntropy = new float[rows];
    }

    private static float[] heap(Tensor tensor) {
        final float[] values = new float[(int) tensor.numel()];
        try (Tensor f32 = tensor.to(torch.ScalarType.Float).contiguous()) {
            new FloatPointer(f32.data_ptr()).get(values);
        }
        return values;
    }

    @Override
    void check(String side) {
        try (PointerScope scope = new PointerScope(); NoGradGuard guard = new NoGradGuard()) {
            if (side.equals("teamtr")) {
                try (LinearLogProbs rows = call()) {
                    compare(r -> Libtorch.at(rows.logProbs(), r), r -> Libtorch.at(rows.entropy(), r), 1e-4);
                }
            } else if (side.equals("libtorch")) {
                final Tensor[] results = tensors();
                compare(r -> Libtorch.at(results[0], r), r -> Libtorch.at(results[1], r), 3e-4); // its sums are f32
            } else {
                plainJava();
                compare(r -> javaLogProbs[r], r -> javaEntropy[r], 1e-4);
            }
        }
    }

    private void compare(IntToDoubleFunction logProb, IntToDoubleFunction entropy, double f32Tolerance) {
        final double tolerance = dtype == DType.F32 ? f32Tolerance : 0.03; // the product's logits are bf16 as well
        for (int r = 0; r < Math.min(2, javaRows()); r++) {
            final double[] x = new double[vocab];
            final Tensor state = states.select(0, r).to(torch.ScalarType.Double);
            new DoublePointer(weight.to(torch.ScalarType.Double).mv(state).data_ptr()).get(x);
            double max = Double.NEGATIVE_INFINITY;
            for (double v : x) {
                max = Math.max(max, v);
            }
            double sum = 0;
            double weighted = 0;
            for (double v : x) {
                sum += Math.exp(v - max);
                weighted += Math.exp(v - max) * (v - max);
            }
            final double expected = x[r] - max - Math.log(sum);
            final double h = Math.log(sum) - weighted / sum;
            measured(Math.abs(logProb.applyAsDouble(r) - expected));
            measured(Math.abs(entropy.applyAsDouble(r) - h));
            require("log-prob", logProb.applyAsDouble(r), expected, tolerance);
            require("entropy", entropy.applyAsDouble(r), h, tolerance);
        }
    }

    @Override
    long bytes() {
        return ((long) rows + vocab) * hidden * dtype.bytes();
    }

    @Benchmark
    public void teamtr() {
        try (PointerScope scope = new PointerScope(); LinearLogProbs rows = call()) {
            rows.logProbs();
        }
    }

    private LinearLogProbs call() {
        final LinearLogProbs rows = new LinearLogProbs(states, weight, null, null, vocab, targets, 1.0,
                LinearLogProbs.CHUNK_BYTES);
        rows.forward();
        return rows;
    }

    @Benchmark
    public void libtorch() {
        try (PointerScope scope = new PointerScope(); NoGradGuard guard = new NoGradGuard()) {
            tensors();
        }
    }

    private Tensor[] tensors() {
        final Tensor logP = Libtorch.logSoftmax(torch.linear(states, weight));
        return new Tensor[] {Libtorch.chosen(logP, targets), logP.exp().mul_(logP).sum(-1).neg()};
    }

    @Benchmark
    public void plainJava() {
        PlainJava.rows(javaRows(), r -> {
            final float[] x = new float[vocab];
            for (int v = 0; v < vocab; v++) {
                float sum = 0;
                for (int h = 0; h < hidden; h++) {
                    sum += heapStates[r * hidden + h] * heapWeight[v * hidden + h];
                }
                x[v] = sum;
            }
            final float max = PlainJava.max(x);
            double sum = 0;
            double weighted = 0;
            for (float v : x) {
                final double e = Math.exp(v - max);
                sum += e;
                weighted += e * (v - max);
            }
            javaLogProbs[r] = (float) (x[r] - max - Math.log(sum));
            javaEntropy[r] = (float) (Math.log(sum) - weighted / sum);
        });
    }

    @Benchmark
    public void roofline() {
        try (PointerScope scope = new PointerScope(); NoGradGuard guard = new NoGradGuard()) {
            torch.mm_out(logits, states, weight.t());
        }
    }
}
