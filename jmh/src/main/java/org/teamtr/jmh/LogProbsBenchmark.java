package org.teamtr.jmh;

import java.util.function.IntToDoubleFunction;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Tensor;
import org.openjdk.jmh.annotations.Benchmark;
import org.teamtr.kernels.Floats;
import org.teamtr.kernels.Indices;
import org.teamtr.kernels.LogProbs;
import org.teamtr.kernels.Temperature;

/** Log-probs of given tokens and entropy. I/O: read the logits. */
public class LogProbsBenchmark extends LogitsBenchmark {
    Data data;
    Indices targets;
    Floats logProbs;
    Floats lse;
    Floats entropy;
    private float[][] heap;
    private float[] javaLogProbs;
    private float[] javaEntropy;

    @Override
    void prepare() {
        data = new Data(dtype, rows, vocab, 1, null);
        targets = targets();
        logProbs = Floats.allocate(rows);
        lse = Floats.allocate(rows);
        entropy = Floats.allocate(rows);
        heap = data.heap(javaRows());
        javaLogProbs = new float[rows];
        javaEntropy = new float[rows];
    }

    @Override
    void check(String side) {
        switch (side) {
            case "teamtr" -> {
                teamtr();
                compare(logProbs::get, entropy::get, 5e-7);
            }
            case "libtorch" -> {
                try (PointerScope scope = new PointerScope()) {
                    final Tensor[] results = tensors();
                    compare(r -> Libtorch.at(results[0], r), r -> Libtorch.at(results[1], r), 1e-4);
                }
            }
            default -> {
                plainJava();
                compare(r -> javaLogProbs[r], r -> javaEntropy[r], 1e-6);
            }
        }
    }

    private void compare(IntToDoubleFunction logProb, IntToDoubleFunction entropy, double tolerance) {
        for (int r = 0; r < checked(); r++) {
            final double[] expected = data.logSoftmax(r);
            double h = 0;
            for (double l : expected) {
                h -= l * Math.exp(l);
            }
            final double chosen = expected[target(r)];
            measured(Math.abs(logProb.applyAsDouble(r) - chosen));
            measured(Math.abs(entropy.applyAsDouble(r) - h));
            require("log-prob", logProb.applyAsDouble(r), chosen, tolerance * (2 + Math.abs(chosen)));
            require("entropy", entropy.applyAsDouble(r), h, 10 * tolerance * (2 + h));
        }
    }

    @Override
    long bytes() {
        return matrix();
    }

    @Benchmark
    public void teamtr() {
        call();
    }

    void call() {
        LogProbs.forward(data.logits, targets, Temperature.ONE, logProbs, lse, entropy);
    }

    @Benchmark
    public void libtorch() {
        try (PointerScope scope = new PointerScope()) {
            tensors();
        }
    }

    Tensor[] tensors() {
        final Tensor logP = Libtorch.logSoftmax(Libtorch.of(data));
        return new Tensor[] {Libtorch.chosen(logP, Libtorch.of(targets)), logP.exp().mul_(logP).sum(-1).neg()};
    }

    @Benchmark
    public void plainJava() {
        PlainJava.rows(javaRows(), r -> {
            final float[] x = heap[r];
            final float max = PlainJava.max(x);
            double sum = 0;
            double weighted = 0;
            for (float v : x) {
                final double e = Math.exp(v - max);
                sum += e;
                weighted += e * (v - max);
            }
            final double log = Math.log(sum);
            javaLogProbs[r] = (float) (x[target(r)] - max - log);
            javaEntropy[r] = (float) (log - weighted / sum);
        });
    }

    @Benchmark
    public void roofline() {
        Bandwidth.read(data);
    }
}
