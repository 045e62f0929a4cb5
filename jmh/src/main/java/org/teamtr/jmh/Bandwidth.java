package org.teamtr.jmh;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.stream.LongStream;
import org.bytedeco.javacpp.BytePointer;
import org.teamtr.kernels.Floats;

/**
 * What a kernel's time is compared with: the same bytes read once, or read and written back, by as many threads (those of the common
 * pool), and nothing done with them.
 */
final class Bandwidth {
    private static final int PIECE = 1 << 20;
    /** Keeps the compiler from leaving the reading out. */
    private static volatile long result;

    private Bandwidth() {
    }

    static void read(Data data) {
        sweep(data.address, data.bytes(), false);
    }

    static void readWrite(Data data) {
        sweep(data.address, data.bytes(), true);
    }

    static void read(Floats x) {
        sweep(x.address(), x.length() * Float.BYTES, false);
    }

    static void readWrite(Floats x) {
        sweep(x.address(), x.length() * Float.BYTES, true);
    }

    private static void sweep(long address, long bytes, boolean write) {
        result = LongStream.range(0, (bytes + PIECE - 1) / PIECE).parallel()
                .map(i -> piece(address + i * PIECE, (int) Math.min(PIECE, bytes - i * PIECE), write)).reduce(0, (a, b) -> a ^ b);
    }

    private static long piece(long address, int bytes, boolean write) {
        final ByteBuffer memory = new BytePointer(new Data.Raw(address)).capacity(bytes).asByteBuffer().order(ByteOrder.nativeOrder());
        long a = 0;
        long b = 0;
        long c = 0;
        long d = 0;
        for (int i = 0; i <= bytes - 32; i += 32) {
            final long p = memory.getLong(i);
            final long q = memory.getLong(i + 8);
            final long r = memory.getLong(i + 16);
            final long s = memory.getLong(i + 24);
            a ^= p;
            b ^= q;
            c ^= r;
            d ^= s;
            if (write) {
                memory.putLong(i, p);
                memory.putLong(i + 8, q);
                memory.putLong(i + 16, r);
                memory.putLong(i + 24, s);
            }
        }
        return a ^ b ^ c ^ d;
    }
}
