package org.teamtr.jmh;

import java.util.function.IntToDoubleFunction;
import org.openjdk.jmh.annotations.Param;
import org.teamtr.kernels.DType;
import org.teamtr.kernels.Indices;

/** A kernel over [rows, vocab] logits. */
public abstract class LogitsBenchmark extends KernelBenchmark {
    @Param({"F32", "BF16"})
    DType dtype;
    @Param("512")
    int rows;
    @Param("151936")
    int vocab;

    /** {@return the bytes of one matrix of logits} */
    final long matrix() {
        return (long) rows * vocab * dtype.bytes();
    }

    final int javaRows() {
        return Math.max(1, rows / JAVA_SHARE);
    }

    @Override
    double share(String side) {
        return side.equals("plainJava") ? (double) javaRows() / rows : 1;
    }

    /** The rows that {@link #check} looks at: doubles take their time. */
    final int checked() {
        return Math.min(javaRows(), 3);
    }

    /** {@return log softmax of the rows to check, in double, taken before a side writes over them} */
    final double[][] logSoftmax(Data data) {
        final double[][] logP = new double[checked()][];
        for (int r = 0; r < logP.length; r++) {
            logP[r] = data.logSoftmax(r);
        }
        return logP;
    }

    /** {@return the token of row {@code r}} */
    final int target(int r) {
        return r % vocab;
    }

    final Indices targets() {
        final Indices targets = Indices.allocateLongs(rows);
        for (int r = 0; r < rows; r++) {
            targets.set(r, target(r));
        }
        return targets;
    }

    /**
     * Compares a row of a gradient.
     *
     * @param stride 1 to compare every element, 2 for every second one, and so on
     * @param absolute added to {@link #tolerance}
     */
    final void compareGradient(String side, IntToDoubleFunction got, double[] expected, int stride, IntToDoubleFunction absolute) {
        double mean = 0;
        for (double e : expected) {
            mean += Math.abs(e) / vocab;
        }
        for (int v = 0; v < vocab; v += stride) {
            final double d = got.applyAsDouble(v);
            measured(Math.abs(d - expected[v]) / (Math.abs(expected[v]) + mean));
            require("gradient", d, expected[v], absolute.applyAsDouble(v) + tolerance(side, expected[v]));
        }
    }

    /** How far a side's gradient may be from this: libtorch's f32 sums lose a digit, and 16-bit numbers keep two or three. */
    final double tolerance(String side, double value) {
        final double relative = switch (dtype) {
            case F32 -> side.equals("libtorch") ? 3e-4 : 2e-5;
            case BF16 -> 1.0 / 64;
            case F16 -> 1.0 / 512;
        };
        return Math.abs(value) * relative;
    }
}
