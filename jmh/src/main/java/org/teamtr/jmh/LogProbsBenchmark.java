package org.teamtr.jmh;

import java.util.concurrent.TimeUnit;
import org.bytedeco.javacpp.LongPointer;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Level;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.Warmup;
import org.teamtr.kernels.DType;
import org.teamtr.kernels.Floats;
import org.teamtr.kernels.Floor;
import org.teamtr.kernels.Indices;
import org.teamtr.kernels.LogProbs;
import org.teamtr.kernels.Temperature;
import org.teamtr.torch.TensorViews;

/** Log-probs and entropy of given tokens. I/O: read the logits. */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.MILLISECONDS)
@Warmup(iterations = 3, time = 1)
@Measurement(iterations = 5, time = 1)
@Fork(value = 3, jvmArgs = {"-Xms2g", "-Xmx2g", "-Dorg.bytedeco.javacpp.maxPhysicalBytes=0"})
public class LogProbsBenchmark {
    @Param({"F32", "BF16"})
    DType dtype;
    @Param("512")
    int rows;
    @Param("151936")
    int vocab;

    private Data data;
    private Tensor tokens;
    private Indices targets;
    private Floats logProbs;
    private Floats lse;
    private Floats entropy;

    /** Fills the memory, and compares both sides with doubles before any time is taken. */
    @Setup(Level.Trial)
    public void check() {
        data = new Data(dtype, rows, vocab, 1, null);
        tokens = torch.arange(new org.bytedeco.pytorch.Scalar((long) rows)).to(torch.ScalarType.Long);
        targets = TensorViews.indices(tokens);
        logProbs = Floats.allocate(rows);
        lse = Floats.allocate(rows);
        entropy = Floats.allocate(rows);
        teamtr();
        for (int r = 0; r < Math.min(rows, 3); r++) {
            final double[] expected = data.logSoftmax(r);
            double h = 0;
            for (double l : expected) {
                h -= l * Math.exp(l);
            }
            Data.require("log-prob", logProbs.get(r), expected[r], 1e-6 + 5e-7 * Math.abs(expected[r]));
            Data.require("entropy", entropy.get(r), h, 1e-5);
        }
        try (PointerScope scope = new PointerScope()) {
            Data.require("libtorch", libtorch().select(0, 0).item_double(), data.logSoftmax(0)[0], 1e-3);
        }
    }

    @Benchmark
    public void teamtr() {
        LogProbs.forward(data.logits, targets, Temperature.ONE, logProbs, lse, entropy);
    }

    @Benchmark
    public double libtorchOps() {
        try (PointerScope scope = new PointerScope()) {
            return libtorch().select(0, 0).item_double();
        }
    }

    /** What is written today: half-precision logits go to f32 first, since log_softmax in bf16 has three digits. */
    private Tensor libtorch() {
        final Tensor logP = torch.log_softmax(data.tensor.to(torch.ScalarType.Float), -1);
        final Tensor chosen = logP.gather(1, tokens.unsqueeze(1)).squeeze(1);
        final Tensor h = logP.exp().mul_(logP).sum(-1).neg();
        return chosen.add(h.mul(new org.bytedeco.pytorch.Scalar(0.0)));
    }

    /** The same bytes read once with the same threads: no kernel can be faster. */
    @Benchmark
    public void floor() {
        Floor.read(data.logits);
    }

    static long bytes(DType dtype, long rows, long vocab) {
        return rows * vocab * dtype.bytes();
    }
}
