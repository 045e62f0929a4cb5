package org.teamtr.kernels;

import org.teamtr.kernels.internal.global.teamtr;

/**
 * What a kernel's time is compared with: the same bytes read once, or read and written back, by the same threads, and
 * nothing done with them, on the CPU. A kernel that reads its logits once cannot be faster.
 *
 * <p>Threads: any number at once; {@link #readWrite} writes back what it reads, so nobody else may write meanwhile.
 *
 * <pre>{@code
 * long start = System.nanoTime();
 * BandwidthProbe.read(logits);
 * long atBest = System.nanoTime() - start;
 * }</pre>
 */
public final class BandwidthProbe {
    private BandwidthProbe() {
    }

    /**
     * Reads every byte between the first and the last element once.
     *
     * @throws IllegalStateException if the memory was closed or is a device's, or the kernels cannot be loaded
     */
    public static void read(Logits logits) {
        sweep(logits, 0);
    }

    /**
     * Reads every byte between the first and the last element once, and writes it back.
     *
     * @throws IllegalStateException if the memory was closed or is a device's, or the kernels cannot be loaded
     */
    public static void readWrite(Logits logits) {
        sweep(logits, 1);
    }

    private static void sweep(Logits logits, int write) {
        Check.given(logits, "logits");
        final long rows = logits.rows();
        final long batches = rows == 0 ? 0 : (rows - 1) / logits.rowsPerBatch();
        final long last = batches * logits.batchStride() + (rows - 1 - batches * logits.rowsPerBatch()) * logits.rowStride();
        final long bytes = rows == 0 ? 0 : (last + logits.vocab()) * logits.dtype().bytes();
        Backend.current();
        logits.memory.checkHost("logits");
        final long address = logits.open("logits");
        final int skip = (int) (-address & 3); // the sweep goes in words
        final int status = teamtr.teamtr_sweep(address + skip, Math.max(bytes - skip, 0), write, 0);
        Check.alive(logits, null, null, null);
        Check.status(status);
    }
}
