package org.teamtr.jmh;

import java.util.Arrays;
import java.util.concurrent.ThreadLocalRandom;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.T_TensorTensor_T;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.Param;
import org.teamtr.kernels.Floats;
import org.teamtr.kernels.Indices;
import org.teamtr.kernels.Sampling;
import org.teamtr.kernels.SamplingConfig;
import org.teamtr.kernels.Temperature;

/**
 * A token for each row, and its log-prob under the unfiltered softmax. I/O: read the logits.
 *
 * <p>The logits are broader than a language model's mostly are: top-p 0.95 keeps thousands of tokens. libtorch and plain Java
 * sort; libtorch does so on a share of the rows, as plain Java does everywhere.
 */
public class SamplingBenchmark extends LogitsBenchmark {
    private static final float TEMPERATURE = 0.8f;

    /** 1: no filter. */
    @Param({"1", "0.95"})
    String topP;

    private Data data;
    private Temperature temperature;
    private SamplingConfig config;
    private Indices tokens;
    private Floats logProbs;
    private float[][] heap;
    private int[] javaTokens;
    private float[] javaLogProbs;
    private int step;

    @Override
    void prepare() {
        data = new Data(dtype, rows, vocab, 1, null);
        temperature = Temperature.of(TEMPERATURE);
        config = config();
        tokens = Indices.allocateLongs(rows);
        logProbs = Floats.allocate(rows);
        heap = data.heap(javaRows());
        javaTokens = new int[rows];
        javaLogProbs = new float[rows];
    }

    @Override
    double share(String side) {
        return side.equals("libtorch") && config().topP() < 1 ? (double) javaRows() / rows : super.share(side);
    }

    private SamplingConfig config() {
        return SamplingConfig.ALL.withTopP(Float.parseFloat(topP));
    }

    @Override
    void check(String side) {
        try (PointerScope scope = new PointerScope()) {
            Tensor[] drawn = null;
            switch (side) {
                case "teamtr" -> teamtr();
                case "libtorch" -> drawn = draw();
                default -> plainJava();
            }
            for (int r = 0; r < checked(); r++) {
                final int token = (int) (drawn != null ? Libtorch.at(drawn[0], r) : side.equals("teamtr") ? tokens.get(r)
                        : javaTokens[r]);
                final double logProb = drawn != null ? Libtorch.at(drawn[1], r) : side.equals("teamtr") ? logProbs.get(r)
                        : javaLogProbs[r];
                compare(r, token, logProb);
            }
        }
    }

    private void compare(int r, int token, double logProb) {
        final float[] x = data.row(r);
        double sum = 0;
        double likelier = 0;
        for (float v : x) {
            final double e = Math.exp((v - x[token]) / TEMPERATURE);
            sum += e;
            likelier += v > x[token] ? e : 0;
        }
        measured(Math.abs(logProb + Math.log(sum)));
        require("log-prob", logProb, -Math.log(sum), 1e-4 * (2 + Math.log(sum)));
        require("share of the likelier tokens", likelier / sum, 0, config.topP() + 1e-3);
    }

    @Override
    long bytes() {
        return matrix();
    }

    @Benchmark
    public void teamtr() {
        Sampling.sample(data.logits, temperature, config, 1, step++ & Integer.MAX_VALUE, null, tokens, logProbs, null);
    }

    @Benchmark
    public void libtorch() {
        try (PointerScope scope = new PointerScope()) {
            draw();
        }
    }

    private Tensor[] draw() {
        final Tensor some = config.topP() < 1 ? Libtorch.of(data).narrow(0, 0, javaRows()) : Libtorch.of(data);
        final Tensor p = torch.softmax(Libtorch.f32(some).div(new Scalar(TEMPERATURE)), -1);
        final Tensor token;
        if (config.topP() == 1) {
            token = torch.multinomial(p, 1);
        } else {
            final T_TensorTensor_T sorted = torch.sort(p, -1, true);
            final Tensor q = sorted.get0();
            final Tensor before = q.cumsum(-1).sub_(q);
            q.masked_fill_(before.gt(new Scalar(config.topP())), new Scalar(0.0));
            token = sorted.get1().gather(1, torch.multinomial(q, 1)); // which renormalises
        }
        return new Tensor[] {token.squeeze(1), p.gather(1, token).log().squeeze(1)};
    }

    @Benchmark
    public void plainJava() {
        PlainJava.rows(javaRows(), r -> {
            final float[] x = heap[r];
            final float max = PlainJava.max(x);
            final float[] e = new float[vocab];
            double sum = 0;
            for (int v = 0; v < vocab; v++) {
                e[v] = (float) Math.exp((x[v] - max) / TEMPERATURE);
                sum += e[v];
            }
            float least = 0;
            double kept = sum;
            if (config.topP() < 1) {
                final float[] sorted = e.clone();
                Arrays.sort(sorted);
                kept = 0;
                int v = vocab;
                while (kept < config.topP() * sum) {
                    kept += sorted[--v];
                }
                least = sorted[v];
            }
            double left = ThreadLocalRandom.current().nextDouble() * kept;
            int token = 0;
            for (int v = 0; v < vocab && left >= 0; v++) {
                if (e[v] >= least) {
                    left -= e[v];
                    token = v;
                }
            }
            javaTokens[r] = token;
            javaLogProbs[r] = (float) Math.log(e[token] / sum);
        });
    }

    @Benchmark
    public void roofline() {
        Bandwidth.read(data);
    }
}
