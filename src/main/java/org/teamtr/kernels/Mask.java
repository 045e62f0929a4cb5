package org.teamtr.kernels;

import java.lang.ref.Reference;
import java.nio.ByteBuffer;
import org.bytedeco.javacpp.BoolPointer;
import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.javacpp.Pointer;

/**
 * A view of one byte per token: 0 excludes the token from all results (its log-probs are not read), any other value includes it. A message
 * without included tokens is excluded too.
 *
 * <p>Memory, devices and threads are as in {@link Floats}.
 *
 * <pre>{@code
 * try (Mask mask = Mask.ofBooleans(true, true, false)) { // the third token does not count
 *     Surrogate.compute(SurrogateConfig.PAPER, logProbsNew, logProbsOld, advantages, cuSeqlens, mask, null, null, null, gradLogProbs,
 *             null, null, stats);
 * }
 * }</pre>
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
        return of(Device.CPU, data);
    }

    /**
     * From the Pointer's position to its limit, on any device.
     *
     * @param data of raw bytes or bools
     * @see Logits#of(Device, Pointer, DType, long, long, long)
     */
    public static Mask of(Device device, Pointer data) {
        final Memory memory = Memory.of(device, data, 1);
        return view(memory, memory.bytes);
    }

    /**
     * From the Pointer's position to its limit.
     *
     * @throws IllegalArgumentException if the Pointer is null or of unknown size
     */
    public static Mask of(BoolPointer data) {
        return of(Device.CPU, data);
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
        return ofAddress(Device.CPU, address, capacityBytes, length, owner);
    }

    /**
     * Memory of another framework, on any device.
     *
     * @see Logits#ofAddress(Device, long, long, DType, long, long, long, long, long, Object)
     */
    public static Mask ofAddress(Device device, long address, long capacityBytes, long length, Object owner) {
        return view(Memory.at(device, address, capacityBytes, 1, owner), length);
    }

    /** {@return a new mask of zeros (nothing counts), to be closed} */
    public static Mask allocate(long length) {
        return allocate(Device.CPU, length);
    }

    /** {@return a new mask of zeros on any device, to be closed; see {@link Floats#allocate(Device, long)}} */
    public static Mask allocate(Device device, long length) {
        return view(Memory.allocate(device, length, 1), length);
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
        memory.checkHost("mask");
        final byte value = elements.get(i);
        Reference.reachabilityFence(memory);
        return value != 0;
    }

    /** Says whether token {@code i} counts. */
    public void set(long i, boolean counts) {
        Check.index(i, extent);
        memory.checkHost("mask");
        Check.writable(this, "mask");
        elements.put(i, (byte) (counts ? 1 : 0));
        Reference.reachabilityFence(memory);
    }

    /** {@return a copy on the heap} */
    public boolean[] toArray() {
        memory.checkHost("mask");
        final byte[] values = new byte[Check.arraySize(extent)];
        elements.get(values, 0, values.length);
        Reference.reachabilityFence(memory);
        final boolean[] counts = new boolean[values.length];
        for (int i = 0; i < counts.length; i++) {
            counts[i] = values[i] != 0;
        }
        return counts;
    }

    /**
     * Overwrites this mask with another one, as {@link Floats#copyFrom(Floats)}.
     *
     * @return this
     * @throws IllegalArgumentException if {@code source} has another length, or shares memory with this
     * @throws DeviceException if the copy, or earlier work on the device, failed
     */
    public Mask copyFrom(Mask source) {
        Check.length(Check.given(source, "source"), "source", extent, "that of this mask");
        copy(source, "mask");
        return this;
    }

    /** {@return a new mask in host memory with a copy of this one, to be closed} */
    public Mask toHost() {
        return allocate(extent).copyFrom(this);
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
