package org.teamtr.kernels;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.Random;
import org.teamtr.kernels.SurrogateConfig.AdvantagePer;
import org.teamtr.kernels.SurrogateConfig.KlTerm;

/** What {@link PolicyLossTest} compares with: the same loss out of single kernels, and in doubles. */
final class PolicyLossReference {
    private PolicyLossReference() {
    }

    // ---- a matrix in native memory, read and written element by element from Java ----

    /** {@code batch} blocks of {@code length} rows; what is not an element of it is filled with 0x5a bytes. */
    static final class Matrix {
        final DType dtype;
        final int rows;
        final int vocab;
        final ByteBuffer data;
        final Logits view;

        Matrix(DType dtype, int batch, int length, int vocab, int rowStride, int batchStride) {
            this.dtype = dtype;
            this.rows = batch * length;
            this.vocab = vocab;
            data = ByteBuffer.allocateDirect(batch * batchStride * dtype.bytes()).order(ByteOrder.nativeOrder());
            for (int i = 0; i < data.capacity(); i++) {
                data.put(i, (byte) 0x5a);
            }
            view = Logits.ofBatch(data, dtype, batch, length, vocab, batchStride, rowStride);
        }

        /** Layout 0: no gaps; 1: padded rows; 2: a view like [:, :-1]; 3: both. */
        static Matrix layout(int layout, DType dtype, int batch, int length, int vocab) {
            final int rowStride = layout % 2 == 0 ? vocab : vocab + 3;
            return new Matrix(dtype, batch, length, vocab, rowStride, (layout < 2 ? length : length + 1) * rowStride);
        }

        Matrix random(Random random, double spread) {
            for (int r = 0; r < rows; r++) {
                for (int v = 0; v < vocab; v++) {
                    set(r, v, spread * random.nextGaussian());
                }
            }
            return this;
        }

        int element(int r, int v) {
            return Math.toIntExact(r / view.rowsPerBatch() * view.batchStride() + r % view.rowsPerBatch() * view.rowStride() + v);
        }

        double get(int r, int v) {
            final int i = element(r, v);
            return switch (dtype) {
                case F32 -> data.getFloat(4 * i);
                case BF16 -> Float.intBitsToFloat(data.getShort(2 * i) << 16);
                case F16 -> half(data.getShort(2 * i));
            };
        }

        void set(int r, int v, double x) {
            final int i = element(r, v);
            switch (dtype) {
                case F32 -> data.putFloat(4 * i, (float) x);
                case BF16 -> data.putShort(2 * i, bfloat16((float) x));
                case F16 -> data.putShort(2 * i, half(x));
            }
        }

        double[] row(int r) {
            final double[] row = new double[vocab];
            Arrays.setAll(row, v -> get(r, v));
            return row;
        }

        byte[] bytes() {
            final byte[] bytes = new byte[data.capacity()];
            data.duplicate().get(bytes);
            return bytes;
        }

        /** Fails if a byte between the rows is not what the constructor put there. */
        void checkGaps() {
            final boolean[] own = new boolean[data.capacity()];
            for (int r = 0; r < rows; r++) {
                Arrays.fill(own, element(r, 0) * dtype.bytes(), (element(r, vocab - 1) + 1) * dtype.bytes(), true);
            }
            for (int i = 0; i < own.length; i++) {
                assertTrue(own[i] || data.get(i) == 0x5a, "byte " + i + " lies in no row of " + view + " and was written");
            }
        }
    }

    static double half(short bits) {
        final int e = bits >> 10 & 31;
        final int m = bits & 0x3ff;
        final double size = e == 31 ? (m == 0 ? Double.POSITIVE_INFINITY : Double.NaN)
                : e == 0 ? Math.scalb(m, -24) : Math.scalb(1024 + m, e - 25);
        return bits < 0 ? -size : size;
    }

    static short half(double x) {
        final int sign = x < 0 ? 0x8000 : 0;
        if (Double.isNaN(x) || Double.isInfinite(x)) {
            return (short) (sign | (Double.isNaN(x) ? 0x7e00 : 0x7c00));
        }
        final int e = Math.max(Math.getExponent(x), -14);
        return (short) (sign | ((e + 14) << 10) + (int) Math.rint(Math.scalb(Math.abs(x), 10 - e))); // a carry moves e up by itself
    }

    static short bfloat16(float x) {
        final int bits = Float.floatToRawIntBits(x);
        return (short) (Float.isNaN(x) ? 0x7fc0 : bits + 0x7fff + (bits >> 16 & 1) >> 16);
    }

    // ---- a batch, the fused call, the composed calls ----

    static final class Batch implements AutoCloseable {
        final Matrix logits;
        final Matrix old;
        final Matrix d;
        final int rows;
        final int[] targets;
        final boolean[] counts;
        final long[] cuSeqlens;
        final float[] logProbsOld;
        final float[] advantages;
        SurrogateConfig config;
        Floats temperatures;
        float temperature = 0.8f;

        Batch(long seed, int layout, DType dtype, int vocab, double step, SurrogateConfig config, int batch, int length,
                int... messages) {
            final Random random = new Random(seed);
            rows = batch * length;
            old = Matrix.layout(layout, dtype, batch, length, vocab).random(random, 1.5);
            logits = Matrix.layout(layout, dtype, batch, length, vocab);
            d = Matrix.layout(3 - layout, dtype, batch, length, vocab);
            targets = new int[rows];
            counts = new boolean[rows];
            logProbsOld = new float[rows];
            for (int r = 0; r < rows; r++) {
                targets[r] = random.nextInt(6) == 0 ? Indices.IGNORE : random.nextInt(vocab);
                counts[r] = random.nextInt(6) != 0;
                for (int v = 0; v < vocab; v++) {
                    logits.set(r, v, old.get(r, v) + step * random.nextGaussian());
                }
            }
            cuSeqlens = new long[messages.length + 1];
            for (int m = 0; m < messages.length; m++) {
                cuSeqlens[m + 1] = cuSeqlens[m] + messages[m];
            }
            assertEquals(rows, cuSeqlens[messages.length]);
            advantages = new float[config.advantagePer() == AdvantagePer.TOKEN ? rows : messages.length];
            for (int i = 0; i < advantages.length; i++) {
                advantages[i] = (float) random.nextGaussian();
            }
            this.config = config;
        }

        /** The old policy's log-probs at the batch's temperatures; garbage where a token does not count. */
        Batch sampledByOld() {
            for (int r = 0; r < rows; r++) {
                logProbsOld[r] = live(r) ? (float) Dense.logSoftmax(old.row(r), temperature(r))[targets[r]] : Float.NaN;
            }
            return this;
        }

        boolean live(int r) {
            return counts[r] && targets[r] != Indices.IGNORE;
        }

        double temperature(int r) {
            return temperatures == null ? temperature : temperatures.get(r);
        }

        Temperature temperature() {
            return temperatures == null ? Temperature.of(temperature) : Temperature.perRow(temperatures);
        }

        void fused(PolicyLoss loss, boolean withOld, Logits gradient) {
            try (Indices t = Indices.ofInts(targets);
                    Floats lp = Floats.ofFloats(logProbsOld);
                    Floats a = Floats.ofFloats(advantages);
                    Indices cu = Indices.ofLongs(cuSeqlens);
                    Mask m = Mask.ofBooleans(counts)) {
                loss.forwardBackward(config, logits.view, withOld ? old.view : null, t, temperature(), lp, a, cu, m, null,
                        gradient);
            }
        }

        /** The same out of single kernels. On whether entropies are computed depends the last bit of a KL. */
        Composed composed(boolean withOld, boolean monitorEntropy) {
            final Composed c = new Composed();
            final int[] effective = new int[rows];
            final boolean[] live = new boolean[rows];
            for (int r = 0; r < rows; r++) {
                effective[r] = live(r) ? targets[r] : Indices.IGNORE;
                live[r] = live(r);
            }
            final boolean exact = config.klTerm() == KlTerm.EXACT;
            final Matrix first = Matrix.layout(0, logits.dtype, 1, rows, logits.vocab);
            final Matrix second = Matrix.layout(0, logits.dtype, 1, rows, logits.vocab);
            try (Indices t = Indices.ofInts(effective);
                    Floats lpOld = Floats.ofFloats(logProbsOld);
                    Floats a = Floats.ofFloats(advantages);
                    Indices cu = Indices.ofLongs(cuSeqlens);
                    Mask m = Mask.ofBooleans(live);
                    Floats lp = Floats.allocate(rows);
                    Floats lse = Floats.allocate(rows);
                    Floats h = Floats.allocate(rows);
                    Floats kl = Floats.allocate(rows);
                    Floats dLp = Floats.allocate(rows);
                    Floats dKl = Floats.allocate(rows);
                    Floats dH = Floats.allocate(rows);
                    Floats ignored = Floats.allocate(rows);
                    SurrogateStats stats = new SurrogateStats()) {
                LogProbs.forward(logits.view, t, temperature(), lp, lse, h);
                if (withOld) {
                    TokenKl.oldNew(old.view, logits.view, t, temperature(), kl, null, null, null,
                            monitorEntropy || config.entropyCoef() != 0 ? ignored : null);
                }
                Surrogate.compute(config, lp, lpOld, a, cu, m, withOld ? kl : null, h, null, dLp, dKl, dH, stats);
                LogProbs.backward(logits.view, t, temperature(), lp, lse, h, dLp, dH, first.view);
                if (exact) {
                    TokenKl.oldNewBackward(old.view, logits.view, t, temperature(), dKl, second.view);
                }
                c.stats = stats.toString();
                c.loss = stats.loss();
                c.logProbs = lp.toArray();
                c.lse = lse.toArray();
                c.entropy = h.toArray();
                c.kl = kl.toArray();
                if (exact) {
                    final Floats entropy = monitorEntropy || config.entropyCoef() != 0 ? h : null;
                    final KlStatistics left = new KlStatistics(Floats.allocate(rows), Floats.allocate(rows), Floats.allocate(rows));
                    final Matrix d = Matrix.layout(0, logits.dtype, 1, rows, logits.vocab);
                    TokenKl.oldNew(old.view, logits.view, t, temperature(), kl, null, lp, null, entropy, left);
                    Surrogate.compute(config, lp, lpOld, a, cu, m, kl, h, null, dLp, dKl, dH, stats);
                    PolicyLoss.backward(logits.view, old.view, t, temperature(), lp, h, left, dLp, dH, dKl, d.view);
                    c.bySweeps = rows(d);
                }
                for (int r = 0; r < rows; r++) {
                    for (int v = 0; v < logits.vocab; v++) {
                        if (exact) { // the sum is rounded once in the fused kernel, its parts here: wide enough only in f32
                            first.set(r, v, first.get(r, v) + second.get(r, v));
                        }
                    }
                }
                c.gradient = first;
            }
            return c;
        }

        @Override
        public void close() {
            if (temperatures != null) {
                temperatures.close();
            }
        }
    }

    static final class Composed {
        /** The gradient by the two sweeps apart; null without the exact KL in the loss. */
        double[][] bySweeps;
        String stats;
        double loss;
        float[] logProbs;
        float[] lse;
        float[] entropy;
        float[] kl;
        Matrix gradient;
    }

    // ---- the same in doubles ----

    static final class Dense {
        private Dense() {
        }

        static double[] logSoftmax(double[] row, double temperature) {
            final double max = Arrays.stream(row).max().orElseThrow();
            double sum = 0;
            for (double x : row) {
                sum += Math.exp((x - max) / temperature);
            }
            final double logSum = Math.log(sum);
            return Arrays.stream(row).map(x -> (x - max) / temperature - logSum).toArray();
        }

        static double entropy(double[] logP) {
            return -Arrays.stream(logP).map(l -> Math.exp(l) * l).sum();
        }

        static double kl(double[] logP, double[] logQ) {
            double sum = 0;
            for (int v = 0; v < logP.length; v++) {
                sum += Math.exp(logP[v]) * (logP[v] - logQ[v]);
            }
            return sum;
        }

        static double[] widen(float[] values) {
            final double[] wide = new double[values.length];
            Arrays.setAll(wide, i -> values[i]);
            return wide;
        }

        static SurrogateReference reference(Batch b) {
            final boolean[] live = new boolean[b.rows];
            for (int r = 0; r < b.rows; r++) {
                live[r] = b.live(r);
            }
            return new SurrogateReference(b.config, widen(b.logProbsOld), widen(b.advantages), b.cuSeqlens, live, null);
        }

        /** Log-probs, KL and entropy of each row that counts. */
        static double[][] perToken(Batch b, double[][] logits) {
            final double[][] x = new double[3][b.rows];
            for (int r = 0; r < b.rows; r++) {
                if (b.live(r)) {
                    final double[] q = logSoftmax(logits[r], b.temperature(r));
                    x[0][r] = q[b.targets[r]];
                    x[1][r] = kl(logSoftmax(b.old.row(r), b.temperature(r)), q);
                    x[2][r] = entropy(q);
                }
            }
            return x;
        }

        static double loss(Batch b, double[][] logits) {
            final double[][] x = perToken(b, logits);
            return reference(b).loss(x[0], x[1], x[2]);
        }

        static double[][] gradient(Batch b) {
            final double[][] d = new double[b.rows][b.logits.vocab];
            final double[][] g = reference(b).gradients(perToken(b, rows(b.logits))[0]);
            for (int r = 0; r < b.rows; r++) {
                if (!b.live(r)) {
                    continue;
                }
                final double[] logQ = logSoftmax(b.logits.row(r), b.temperature(r));
                final double[] logP = logSoftmax(b.old.row(r), b.temperature(r));
                final double h = entropy(logQ);
                for (int v = 0; v < d[r].length; v++) {
                    final double q = Math.exp(logQ[v]);
                    d[r][v] = (g[0][r] * ((v == b.targets[r] ? 1 : 0) - q) + g[1][r] * (q - Math.exp(logP[v]))
                            - g[2][r] * q * (logQ[v] + h)) / b.temperature(r);
                }
            }
            return d;
        }
    }

    static double[][] rows(Matrix m) {
        final double[][] rows = new double[m.rows][];
        Arrays.setAll(rows, m::row);
        return rows;
    }
}
