package org.teamtr.jmh;

import java.util.concurrent.TimeUnit;
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
import org.teamtr.kernels.TokenKl;

/** Exact KL(old || new) of every token. I/O: read the logits of both policies. */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.MILLISECONDS)
@Warmup(iterations = 3, time = 1)
@Measurement(iterations = 5, time = 1)
@Fork(value = 3, jvmArgs = {"-Xms2g", "-Xmx2g", "-Dorg.bytedeco.javacpp.maxPhysicalBytes=0"})
public class TokenKlBenchmark {
    @Param({"F32", "BF16"})
    DType dtype;
    @Param("512")
    int rows;
    @Param("151936")
    int vocab;
    /** near: the new policy is a trust-region step away; far: it has nothing to do with the old one. */
    @Param({"near", "far"})
    String policies;

    private Data before;
    private Data after;
    private Floats kl;

    /** Fills the memory, and compares both sides with doubles before any time is taken. */
    @Setup(Level.Trial)
    public void check() {
        before = new Data(dtype, rows, vocab, 1, null);
        after = new Data(dtype, rows, vocab, 2, policies.equals("near") ? before : null);
        kl = Floats.allocate(rows);
        teamtr();
        for (int r = 0; r < Math.min(rows, 3); r++) {
            final double expected = kl(r);
            Data.require("KL", kl.get(r), expected, 1e-4 * expected);
        }
        try (PointerScope scope = new PointerScope()) {
            Data.require("libtorch", libtorch().select(0, 0).item_double(), kl(0), 1e-4 + 1e-2 * kl(0)); // cancels when small
        }
    }

    private double kl(int row) {
        final double[] p = before.logSoftmax(row);
        final double[] q = after.logSoftmax(row);
        double sum = 0;
        for (int v = 0; v < p.length; v++) {
            final double d = p[v] - q[v];
            sum += Math.exp(p[v]) * (d + Math.expm1(-d));
        }
        return sum;
    }

    @Benchmark
    public void teamtr() {
        TokenKl.oldNew(before.logits, after.logits, kl);
    }

    @Benchmark
    public double libtorchOps() {
        try (PointerScope scope = new PointerScope()) {
            return libtorch().select(0, 0).item_double();
        }
    }

    /** What is written today, with in-place operations where they are possible. */
    private Tensor libtorch() {
        final Tensor p = torch.log_softmax(before.tensor.to(torch.ScalarType.Float), -1);
        final Tensor q = torch.log_softmax(after.tensor.to(torch.ScalarType.Float), -1);
        return p.exp().mul_(p.sub(q)).sum(-1);
    }

    /** The same bytes read once with the same threads: no kernel can be faster. */
    @Benchmark
    public void floor() {
        Floor.read(before.logits);
        Floor.read(after.logits);
    }
}
