package org.teamtr.kernels;

import java.lang.ref.Reference;
import java.nio.ByteBuffer;
import org.bytedeco.javacpp.BoolPointer;
import org.bytedeco.javacpp.BytePointer;

/**
 * A view of one byte per token: 0 takes the token out of everything (its log-probs are not even looked at), anything else
 * lets it count. A message with no token left does not count either.
 *
 * <p>Memory and threads are as in {@link Floats}.
 */
public final class Mask extends NativeView implements AutoCloseable {
    private final BytePointer elements;

    private Mask(Memory memory, long start, long length) {
        super(memory, start, length);
        this.elements = new BytePointer(new Memory.Raw(start, length));
    }

    private static Mask view(Memory data, long length) {
        return new Mask(data, data.address, fit(data, length, 1));
    }

    /**
     * From the Pointer's position to its limit.
     *
     * @throws IllegalArgumentException if the Pointer is null or of unknown size
     */
    public static Mask of(BytePointer data) {
        final Memory memory = Memory.of(data, 1);
        return view(memory, memory.bytes);
    }

    /**
     * From the Pointer's position to its limit.
     *
     * @throws IllegalArgumentException if the Pointer is null or of unknown size
     */
    public static Mask of(BoolPointer data) {
        final Memory memory = Memory.of(data, 1);
        return view(memory, memory.bytes);
    }

    /**
     * From the buffer's position to its limit.
     *
     * @param data direct; may be read-only
     * @throws IllegalArgumentException if the buffer is on the heap
     */
    public static Mask of(ByteBuffer data) {
        final Memory memory = Memory.of(Check.given(data, "data"), data.order(), 1);
        return view(memory, memory.bytes);
    }

    /**
     * Memory of another framework.
     *
     * @param owner kept reachable; see {@link Logits#ofAddress}
     * @throws IllegalArgumentException if {@code length} bytes do not fit {@code capacityBytes}
     */
    public static Mask ofAddress(long address, long capacityBytes, long length, Object owner) {
        return view(Memory.at(address, capacityBytes, 1, owner), length);
    }

    /** {@return a new mask of zeros (nothing counts), to be closed} */
    public static Mask allocate(long length) {
        return view(Memory.allocate(length, 1), length);
    }

    /** {@return a new mask in which the true tokens count, to be closed} */
    public static Mask ofBooleans(boolean... counts) {
        final Mask mask = allocate(Check.given(counts, "counts").length);
        for (int i = 0; i < counts.length; i++) {
            mask.set(i, counts[i]);
        }
        return mask;
    }

    /** {@return the number of tokens} */
    public long length() {
        return extent;
    }

    /** {@return whether token {@code i} counts} */
    public boolean get(long i) {
        Check.index(i, extent);
        memory.check("mask");
        final byte value = elements.get(i);
        Reference.reachabilityFence(memory);
        return value != 0;
    }

    /** Says whether token {@code i} counts. */
    public void set(long i, boolean counts) {
        Check.index(i, extent);
        memory.check("mask");
        Check.writable(this, "mask");
        elements.put(i, (byte) (counts ? 1 : 0));
        Reference.reachabilityFence(memory);
    }

    /** {@return a copy on the heap} */
    public boolean[] toArray() {
        memory.check("mask");
        final byte[] values = new byte[Check.arraySize(extent)];
        elements.get(values, 0, values.length);
        Reference.reachabilityFence(memory);
        final boolean[] counts = new boolean[values.length];
        for (int i = 0; i < counts.length; i++) {
            counts[i] = values[i] != 0;
        }
        return counts;
    }

    /** {@return a view of tokens {@code from} .. {@code to}, the last one excluded} */
    public Mask slice(long from, long to) {
        checkRange(from, to, extent);
        return new Mask(memory, start + from, to - from);
    }

    /**
     * {@return the address of the first byte}
     *
     * @throws IllegalStateException if the memory was closed
     */
    public long address() {
        return open("mask");
    }

    /** Frees memory that {@link #allocate} or {@link #ofBooleans} made; otherwise does nothing. */
    @Override
    public void close() {
        memory.close();
    }

    @Override
    public String toString() {
        return "Mask[" + extent + "]";
    }
}
