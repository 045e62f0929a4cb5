package org.teamtr.jmh;

import java.util.function.IntToDoubleFunction;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Tensor;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.Param;
import org.teamtr.kernels.Floats;
import org.teamtr.kernels.TokenKl;

/** Exact KL(old || new) of every token. I/O: read the logits of both policies. */
public class TokenKlBenchmark extends LogitsBenchmark {
    /** near: the new policy is a trust-region step away; far: it has nothing to do with the old one. */
    @Param({"near", "far"})
    String policies;

    private Data before;
    private Data after;
    private Floats kl;
    private float[][] heapBefore;
    private float[][] heapAfter;
    private float[] javaKl;

    @Override
    void prepare() {
        before = new Data(dtype, rows, vocab, 1, null);
        after = new Data(dtype, rows, vocab, 2, policies.equals("near") ? before : null);
        kl = Floats.allocate(rows);
        heapBefore = before.heap(javaRows());
        heapAfter = after.heap(javaRows());
        javaKl = new float[rows];
    }

    @Override
    void check(String side) {
        switch (side) {
            case "teamtr" -> {
                teamtr();
                compare(kl::get, 1e-4, 0);
            }
            case "libtorch" -> {
                try (PointerScope scope = new PointerScope()) {
                    final Tensor result = tensor();
                    compare(r -> Libtorch.at(result, r), 1e-2, 1e-4); // cancels when the KL is small
                }
            }
            default -> {
                plainJava();
                compare(r -> javaKl[r], 1e-2, 1e-6);
            }
        }
    }

    private void compare(IntToDoubleFunction result, double relative, double absolute) {
        for (int r = 0; r < checked(); r++) {
            final double[] p = before.logSoftmax(r);
            final double[] q = after.logSoftmax(r);
            double expected = 0;
            for (int v = 0; v < vocab; v++) {
                final double d = p[v] - q[v];
                expected += Math.exp(p[v]) * (d + Math.expm1(-d));
            }
            final double got = result.applyAsDouble(r);
            measured(Math.abs(got - expected) / Math.max(expected, 1e-6));
            require("KL", got, expected, absolute + relative * expected);
        }
    }

    @Override
    long bytes() {
        return 2 * matrix();
    }

    @Benchmark
    public void teamtr() {
        TokenKl.oldNew(before.logits, after.logits, kl);
    }

    @Benchmark
    public void libtorch() {
        try (PointerScope scope = new PointerScope()) {
            tensor();
        }
    }

    /** In-place operations where they are possible. */
    private Tensor tensor() {
        final Tensor p = Libtorch.logSoftmax(Libtorch.of(before));
        final Tensor q = Libtorch.logSoftmax(Libtorch.of(after));
        return p.exp().mul_(p.sub(q)).sum(-1);
    }

    /** In double, where the usual formula does not cancel. */
    @Benchmark
    public void plainJava() {
        PlainJava.rows(javaRows(), r -> {
            final float[] p = heapBefore[r];
            final float[] q = heapAfter[r];
            final float maxP = PlainJava.max(p);
            final float maxQ = PlainJava.max(q);
            final double sumP = PlainJava.sumExp(p, maxP);
            final double offset = Math.log(PlainJava.sumExp(q, maxQ)) + maxQ - Math.log(sumP) - maxP;
            double sum = 0;
            for (int v = 0; v < vocab; v++) {
                sum += Math.exp(p[v] - maxP) * ((double) p[v] - q[v] + offset);
            }
            javaKl[r] = (float) (sum / sumP);
        });
    }

    @Benchmark
    public void roofline() {
        Bandwidth.read(before);
        Bandwidth.read(after);
    }
}
