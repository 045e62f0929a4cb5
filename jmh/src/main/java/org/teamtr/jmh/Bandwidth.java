package org.teamtr.jmh;

import java.util.stream.LongStream;
import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.javacpp.Pointer;
import org.teamtr.kernels.Floats;

/**
 * What a kernel's time is compared with: the same bytes read once, or read and written back, by as many threads (those of the common
 * pool), and nothing done with them. Read is what memcpy brings into a buffer that stays in the cache.
 */
final class Bandwidth {
    private static final int PIECE = 1 << 15;
    private static final ThreadLocal<BytePointer> BUFFER = ThreadLocal.withInitial(() -> new BytePointer(PIECE));

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
        LongStream.range(0, (bytes + PIECE - 1) / PIECE).parallel().forEach(i -> {
            final Pointer piece = new Data.Raw(address + i * PIECE);
            final long size = Math.min(PIECE, bytes - i * PIECE);
            Pointer.memcpy(BUFFER.get(), piece, size);
            if (write) {
                Pointer.memcpy(piece, BUFFER.get(), size);
            }
        });
    }
}
