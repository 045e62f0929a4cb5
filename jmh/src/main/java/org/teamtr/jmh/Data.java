package org.teamtr.jmh;

import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.javacpp.FloatPointer;
import org.bytedeco.javacpp.Pointer;
import org.bytedeco.javacpp.ShortPointer;
import org.teamtr.kernels.DType;
import org.teamtr.kernels.Logits;

/** Seeded logits in native memory, aligned to 64 bytes as libtorch's are, which all sides read. */
final class Data {
    private static final int ALIGNMENT = 64;

    final DType dtype;
    final int rows;
    final int vocab;
    final Logits logits;
    final long address;
    private final BytePointer memory; // keeps it from being freed
    private BytePointer copy;

    /**
     * Logits of about N(0, 3), one token of each row 15 above it: as peaked as a language model's.
     *
     * @param near if given, its values plus a little noise: a policy a trust-region step away
     */
    Data(DType dtype, int rows, int vocab, long seed, Data near) {
        this.dtype = dtype;
        this.rows = rows;
        this.vocab = vocab;
        memory = new BytePointer(bytes() + ALIGNMENT);
        address = memory.address() + (-memory.address() & ALIGNMENT - 1);
        logits = columns(0, vocab);
        final float[] x = new float[vocab];
        long s = seed * 0x9E3779B97F4A7C15L + 1;
        for (int r = 0; r < rows; r++) {
            final float[] base = near == null ? null : near.row(r);
            final int likely = (int) (r * 7919L % vocab);
            for (int v = 0; v < vocab; v++) {
                s ^= s << 13;
                s ^= s >>> 7;
                s ^= s << 17;
                // the sum of four uniforms is near enough to a normal
                final float n = ((s & 0xffff) + (s >>> 16 & 0xffff) + (s >>> 32 & 0xffff) + (s >>> 48)) / 65536f - 2;
                x[v] = base == null ? 5.2f * n + (v == likely ? 15 : 0) : base[v] + 0.01f * n;
            }
            put(r, x);
        }
    }

    long bytes() {
        return (long) rows * vocab * dtype.bytes();
    }

    /** Keeps a copy for {@link #restore}. */
    void keep() {
        copy = new BytePointer(bytes());
        Pointer.memcpy(copy, new Raw(address), copy.capacity());
    }

    /** Writes the copy back. */
    void restore() {
        Pointer.memcpy(new Raw(address), copy, copy.capacity());
    }

    /** {@return a view of some columns of every row} */
    Logits columns(int from, int to) {
        final long skipped = (long) from * dtype.bytes();
        return Logits.ofAddress(address + skipped, bytes() - skipped, dtype, 1, rows, to - from, 0,
                vocab, memory);
    }

    private Raw at(int r) {
        return new Raw(address + (long) r * vocab * dtype.bytes());
    }

    /** Somebody else's memory. */
    static final class Raw extends Pointer {
        Raw(long address) {
            this.address = address;
        }
    }

    private void put(int r, float[] x) {
        if (dtype == DType.F32) {
            new FloatPointer(at(r)).put(x);
            return;
        }
        final short[] half = new short[vocab];
        for (int v = 0; v < vocab; v++) {
            half[v] = dtype == DType.BF16 ? Halves.toBf16(x[v]) : Halves.toF16(x[v]);
        }
        new ShortPointer(at(r)).put(half);
    }

    /** {@return a copy of a row} */
    float[] row(int r) {
        final float[] x = new float[vocab];
        if (dtype == DType.F32) {
            new FloatPointer(at(r)).get(x);
            return x;
        }
        final short[] half = new short[vocab];
        new ShortPointer(at(r)).get(half);
        for (int v = 0; v < vocab; v++) {
            x[v] = dtype == DType.BF16 ? Halves.ofBf16(half[v]) : Halves.ofF16(half[v]);
        }
        return x;
    }

    /** {@return copies of the first rows: plain Java's data} */
    float[][] heap(int count) {
        final float[][] copies = new float[count][];
        for (int r = 0; r < count; r++) {
            copies[r] = row(r);
        }
        return copies;
    }

    /** {@return log softmax of a row, in double} */
    double[] logSoftmax(int r) {
        final float[] x = row(r);
        double max = Double.NEGATIVE_INFINITY;
        for (float v : x) {
            max = Math.max(max, v);
        }
        double sum = 0;
        for (float v : x) {
            sum += Math.exp(v - max);
        }
        final double lse = max + Math.log(sum);
        final double[] log = new double[vocab];
        for (int v = 0; v < vocab; v++) {
            log[v] = x[v] - lse;
        }
        return log;
    }
}
