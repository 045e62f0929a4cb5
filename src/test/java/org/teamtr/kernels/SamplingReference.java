package org.teamtr.kernels;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.Random;
import java.util.stream.IntStream;

/** What {@link SamplingTest} draws and compares with: calls over rows, the kept set by sorting in doubles, a chi-square test. */
final class SamplingReference {
    static final float NEVER = Float.NEGATIVE_INFINITY;

    private SamplingReference() {
    }

    /** Rows in native memory, one call over them, and its results on the Java side. */
    static final class Draws {
        final ByteBuffer data;
        final int rows;
        final int vocab;
        final int stride;
        final DType dtype;
        Temperature temperature = Temperature.ONE;
        SamplingConfig config = SamplingConfig.ALL;
        long seed = 1;
        int step;
        long[] rowIds;
        boolean intTokens;
        boolean tokensOnly;
        int[] tokens;
        float[] logProbs;
        float[] logProbsKept;

        Draws(DType dtype, int stride, float[]... logits) {
            this.dtype = dtype;
            this.stride = stride;
            rows = logits.length;
            vocab = logits[0].length;
            data = ByteBuffer.allocateDirect(rows * stride * dtype.bytes()).order(ByteOrder.nativeOrder());
            for (int i = 0; i < data.capacity(); i++) {
                data.put(i, (byte) 0x7f); // between rows: a huge logit, should a kernel look there
            }
            for (int r = 0; r < rows; r++) {
                for (int v = 0; v < vocab; v++) {
                    final int i = r * stride + v;
                    if (dtype == DType.F32) {
                        data.putFloat(4 * i, logits[r][v]);
                    } else { // bf16: the upper half of values that have no lower one
                        assertEquals(0, (short) Float.floatToRawIntBits(logits[r][v]), "not a bf16 number");
                        data.putShort(2 * i, (short) (Float.floatToRawIntBits(logits[r][v]) >> 16));
                    }
                }
            }
        }

        static Draws of(float[]... logits) {
            return new Draws(DType.F32, logits[0].length, logits);
        }

        /** The same row over and over: draws from one distribution. */
        static Draws repeated(int rows, float[] logits) {
            final float[][] all = new float[rows][];
            Arrays.fill(all, logits);
            return of(all);
        }

        Logits view() {
            return Logits.of(data, dtype, rows, vocab, stride);
        }

        Draws call() {
            final byte[] before = bytes();
            try (Indices ids = rowIds == null ? null : Indices.ofLongs(rowIds);
                    Indices t = intTokens ? Indices.allocateInts(rows) : Indices.allocateLongs(rows);
                    Floats lp = Floats.allocate(rows);
                    Floats kept = Floats.allocate(rows)) {
                Sampling.sample(view(), temperature, config, seed, step, ids, t, null, null);
                final long[] alone = t.toArray();
                tokens = Arrays.stream(alone).mapToInt(Math::toIntExact).toArray();
                if (tokensOnly) {
                    return this;
                }
                Sampling.sample(view(), temperature, config, seed, step, ids, t, lp, kept);
                assertArrayEquals(alone, t.toArray(), "the same tokens, whatever else is asked for: " + config);
                logProbs = lp.toArray();
                logProbsKept = kept.toArray();
            }
            assertArrayEquals(before, bytes(), "the logits are only read");
            return this;
        }

        private byte[] bytes() {
            final byte[] bytes = new byte[data.capacity()];
            data.duplicate().get(bytes);
            return bytes;
        }

        /** Log-probs of the drawn tokens as LogProbs computes them, to the bit. */
        Draws checkLogProbs(Temperature asComputed) {
            final int[] targets = Arrays.stream(tokens).map(t -> t < 0 ? Indices.IGNORE : t).toArray();
            try (Indices t = Indices.ofInts(targets); Floats lp = Floats.allocate(rows)) {
                LogProbs.forward(view(), t, asComputed, lp, null, null);
                for (int r = 0; r < rows; r++) {
                    assertEquals(tokens[r] < 0 ? Float.NaN : lp.get(r), logProbs[r], "log-prob of row " + r);
                }
            }
            return this;
        }
    }

    static float[] normal(Random random, int vocab, double spread) {
        final float[] x = new float[vocab];
        for (int v = 0; v < vocab; v++) {
            x[v] = Float.intBitsToFloat(Float.floatToIntBits((float) (spread * random.nextGaussian())) & 0xffff0000);
        }
        return x;
    }

    // ---- the set that is kept, by sorting, in doubles ----

    /** {@return the kept tokens' probabilities, renormalised; 0 for the others} */
    static double[] kept(float[] x, double temperature, long topK, double topP, double minP) {
        final int[] order = IntStream.range(0, x.length).filter(v -> x[v] != NEVER).boxed()
                .sorted((a, b) -> x[a] != x[b] ? (x[a] > x[b] ? -1 : 1) : Integer.compare(a, b)).mapToInt(v -> v).toArray();
        final double max = x[order[0]];
        final double[] p = new double[x.length];
        final int n = topK == 0 ? order.length : (int) Math.min(topK, order.length);
        double total = 0;
        for (int i = 0; i < n; i++) {
            p[order[i]] = Math.exp((x[order[i]] - max) / temperature);
            total += p[order[i]];
        }
        double mass = 0;
        for (int i = 0; i < n; i++) {
            final double here = p[order[i]];
            p[order[i]] = topP < 1 && mass >= topP * total || here < minP ? 0 : here;
            mass += here;
        }
        final double sum = Arrays.stream(p).sum();
        return Arrays.stream(p).map(weight -> weight / sum).toArray();
    }

    /** Edges moved outwards by a little (the widest set that rounding may keep), or inwards (the narrowest). */
    static double[] kept(float[] x, double temperature, SamplingConfig c, double slack) {
        final double topP = c.topP() == 1 ? 1 : c.topP() * (1 + slack);
        return kept(x, temperature, c.topK(), topP, c.minP() == 1 ? 1 : c.minP() * (1 - slack));
    }

    // ---- how often ----

    /** Fails if counts are not those of {@code p}: the chi-square test at 1e-6 (Wilson-Hilferty), on fixed seeds. */
    static double chiSquare(long[] counts, double[] p, String what) {
        final double n = Arrays.stream(counts).sum();
        double chi = 0;
        int bins = 0;
        double restCount = 0;
        double restP = 0;
        for (int v = 0; v < p.length; v++) {
            if (p[v] * n < 10) {
                restCount += counts[v];
                restP += p[v];
            } else {
                chi += (counts[v] - n * p[v]) * (counts[v] - n * p[v]) / (n * p[v]);
                bins++;
            }
        }
        if (restP * n > 10) {
            chi += (restCount - n * restP) * (restCount - n * restP) / (n * restP);
            bins++;
        }
        final double df = bins - 1;
        final double limit = df * Math.pow(1 - 2 / (9 * df) + 4.75 * Math.sqrt(2 / (9 * df)), 3);
        assertTrue(chi < limit, what + ": chi-square " + chi + " for " + df + " degrees of freedom");
        return chi / df;
    }
}
