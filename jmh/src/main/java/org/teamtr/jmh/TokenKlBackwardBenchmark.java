package org.teamtr.jmh;

import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch;
import org.openjdk.jmh.annotations.Benchmark;
import org.teamtr.kernels.Floats;
import org.teamtr.kernels.Temperature;
import org.teamtr.kernels.TokenKl;

/**
 * The gradient of KL(old || new) with respect to the new logits, in their place. I/O: read both policies' logits, write one.
 *
 * <p>The policies are a trust-region step apart. libtorch's side is the closed form, faster than its autograd.
 */
public class TokenKlBackwardBenchmark extends LogitsBenchmark {
    private static final float SLOPE = 0.5f;

    private Data before;
    private Data after;
    private Floats slopes;
    private float[][] heapBefore;
    private float[][] heapAfter;
    private double[][] logQ; // of the rows to check, before any side has overwritten them

    @Override
    void prepare() {
        before = new Data(dtype, rows, vocab, 1, null);
        after = new Data(dtype, rows, vocab, 2, before);
        after.keep();
        slopes = Floats.allocate(rows);
        for (int r = 0; r < rows; r++) {
            slopes.set(r, SLOPE);
        }
        heapBefore = before.heap(javaRows());
        heapAfter = after.heap(javaRows());
        logQ = logSoftmax(after);
    }

    @Override
    void restore() {
        after.restore();
    }

    @Override
    void check(String side) {
        switch (side) {
            case "teamtr" -> teamtr();
            case "libtorch" -> libtorch();
            default -> plainJava();
        }
        for (int r = 0; r < checked(); r++) {
            final float[] d = side.equals("plainJava") ? heapAfter[r] : after.row(r);
            final double[] p = before.logSoftmax(r);
            final double[] expected = new double[vocab];
            for (int v = 0; v < vocab; v++) {
                expected[v] = SLOPE * (Math.exp(logQ[r][v]) - Math.exp(p[v]));
            }
            // A difference of two sums of f32: only the kernel keeps more of it.
            compareGradient(side, v -> d[v], expected, 1, v -> 1e-8 + (side.equals("teamtr") ? 0 : 1e-5 * Math.exp(p[v])));
        }
    }

    @Override
    long bytes() {
        return 3 * matrix();
    }

    @Benchmark
    public void teamtr() {
        TokenKl.oldNewBackward(before.logits, after.logits, null, Temperature.ONE, slopes, after.logits);
    }

    @Benchmark
    public void libtorch() {
        try (PointerScope scope = new PointerScope()) {
            final Tensor q = Libtorch.of(after);
            q.copy_(softmax(q).sub_(softmax(Libtorch.of(before))).mul_(Libtorch.of(slopes).unsqueeze(1)));
        }
    }

    private static Tensor softmax(Tensor logits) {
        return torch.softmax(Libtorch.f32(logits), -1);
    }

    @Benchmark
    public void plainJava() {
        PlainJava.rows(javaRows(), r -> {
            final float[] p = heapBefore[r];
            final float[] q = heapAfter[r];
            final float maxP = PlainJava.max(p);
            final float maxQ = PlainJava.max(q);
            final double perP = 1 / PlainJava.sumExp(p, maxP);
            final double perQ = 1 / PlainJava.sumExp(q, maxQ);
            final float g = slopes.get(r);
            for (int v = 0; v < vocab; v++) {
                q[v] = (float) (g * (Math.exp(q[v] - maxQ) * perQ - Math.exp(p[v] - maxP) * perP));
            }
        });
    }

    @Benchmark
    public void roofline() {
        Bandwidth.read(before);
        Bandwidth.readWrite(after);
    }
}
