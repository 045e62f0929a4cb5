package org.teamtr.jmh;

import java.util.stream.LongStream;
import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.javacpp.Pointer;
import org.bytedeco.javacpp.PointerScope;
import org.teamtr.kernels.Floats;

/**
 * What a kernel's time is compared with: the same bytes read once, or read and written back, by as many threads. Reading is memcpy into a
 * buffer that stays in the cache, on the common pool. Reading and writing back is libtorch's bitwise_not_: the C library's
 * memcpy back from such a buffer is slower than the kernels on some processors.
 */
final class Bandwidth {
    private static final int PIECE = 1 << 15;
    private static final ThreadLocal<BytePointer> BUFFER = ThreadLocal.withInitial(() -> new BytePointer(PIECE));

    private Bandwidth() {
    }

    static void read(Data data) {
        read(data.address, data.bytes());
    }

    static void readWrite(Data data) {
        readWrite(data.address, data.bytes());
    }

    static void read(Floats x) {
        read(x.address(), x.length() * Float.BYTES);
    }

    static void readWrite(Floats x) {
        readWrite(x.address(), x.length() * Float.BYTES);
    }

    private static void read(long address, long bytes) {
        LongStream.range(0, (bytes + PIECE - 1) / PIECE).parallel()
                .forEach(i -> Pointer.memcpy(BUFFER.get(), new Data.Raw(address + i * PIECE), Math.min(PIECE, bytes - i * PIECE)));
    }

    private static void readWrite(long address, long bytes) {
        try (PointerScope scope = new PointerScope()) {
            Libtorch.ints(address, bytes / Integer.BYTES).bitwise_not_();
        }
    }
}
