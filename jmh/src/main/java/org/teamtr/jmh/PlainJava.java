package org.teamtr.jmh;

import java.util.function.IntConsumer;
import java.util.stream.IntStream;

/** What the scalar loops share. */
final class PlainJava {
    private PlainJava() {
    }

    /** Rows in parallel, on the common pool. */
    static void rows(int count, IntConsumer row) {
        IntStream.range(0, count).parallel().forEach(row);
    }

    static float max(float[] x) {
        float max = Float.NEGATIVE_INFINITY;
        for (float v : x) {
            max = Math.max(max, v);
        }
        return max;
    }

    static double sumExp(float[] x, float max) {
        double sum = 0;
        for (float v : x) {
            sum += Math.exp(v - max);
        }
        return sum;
    }
}
