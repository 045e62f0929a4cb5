package org.teamtr.jmh;

import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.ScalarOptional;
import org.bytedeco.pytorch.Tensor;
import org.openjdk.jmh.annotations.Benchmark;
import org.teamtr.kernels.Advantages;
import org.teamtr.kernels.Floats;

/** Group-normalised, clipped advantages of as many returns as there are tokens. I/O: read the returns, write the advantages. */
public class AdvantagesBenchmark extends TokensBenchmark {
    private static final int GROUP = 8;
    private static final double EPS = 1e-6;
    private static final double CLIP = 2;

    private Floats returns;
    private Floats advantages;
    private float[] heap;
    private float[] javaAdvantages;

    @Override
    void prepare() {
        returns = normal(tokens, 1, 0.5, 0.3);
        advantages = Floats.allocate(tokens);
        heap = returns.toArray();
        javaAdvantages = new float[tokens];
    }

    @Override
    void check(String side) {
        try (PointerScope scope = new PointerScope()) {
            Tensor tensor = null;
            switch (side) {
                case "teamtr" -> teamtr();
                case "libtorch" -> tensor = tensor();
                default -> plainJava();
            }
            for (int i = 0; i < tokens; i += Math.max(1, tokens / 100)) {
                final int from = i / GROUP * GROUP;
                double mean = 0;
                double square = 0;
                for (int j = from; j < from + GROUP; j++) {
                    mean += returns.get(j) / (double) GROUP;
                    square += returns.get(j) * (double) returns.get(j) / GROUP;
                }
                final double a = (returns.get(i) - mean) / Math.sqrt(square - mean * mean + EPS);
                final double got = tensor != null ? Libtorch.at(tensor, i / GROUP, i % GROUP)
                        : side.equals("teamtr") ? advantages.get(i) : javaAdvantages[i];
                require("advantage", got, Math.max(-CLIP, Math.min(CLIP, a)), 1e-4);
            }
        }
    }

    @Override
    long bytes() {
        return 2L * tokens * Float.BYTES;
    }

    @Benchmark
    public void teamtr() {
        Advantages.groupNormalised(returns, GROUP, EPS, CLIP, true, advantages, null);
    }

    @Benchmark
    public void libtorch() {
        try (PointerScope scope = new PointerScope()) {
            tensor();
        }
    }

    private Tensor tensor() {
        final Tensor r = Libtorch.of(returns, tokens / GROUP, GROUP);
        final Tensor centred = r.sub(r.sum(1).div(new Scalar(GROUP)).unsqueeze(1));
        final Tensor deviation = centred.mul(centred).sum(1).div(new Scalar(GROUP)).add(new Scalar(EPS)).sqrt().unsqueeze(1);
        return centred.div_(deviation).clamp_(new ScalarOptional(new Scalar(-CLIP)), new ScalarOptional(new Scalar(CLIP)));
    }

    @Benchmark
    public void plainJava() {
        for (int from = 0; from < tokens; from += GROUP) {
            double mean = 0;
            for (int i = from; i < from + GROUP; i++) {
                mean += heap[i];
            }
            mean /= GROUP;
            double variance = 0;
            for (int i = from; i < from + GROUP; i++) {
                variance += (heap[i] - mean) * (heap[i] - mean);
            }
            final double deviation = Math.sqrt(variance / GROUP + EPS);
            for (int i = from; i < from + GROUP; i++) {
                javaAdvantages[i] = (float) Math.max(-CLIP, Math.min(CLIP, (heap[i] - mean) / deviation));
            }
        }
    }

    @Benchmark
    public void roofline() {
        Bandwidth.read(returns);
        Bandwidth.readWrite(advantages);
    }
}
