package org.teamtr.kernels;

import java.lang.ref.Reference;
import java.nio.IntBuffer;
import java.nio.LongBuffer;
import org.bytedeco.javacpp.IntPointer;
import org.bytedeco.javacpp.LongPointer;
import org.teamtr.kernels.internal.global.teamtr;

/**
 * A view of a contiguous int32 or int64 vector: targets, sampled tokens, {@code cuSeqlens}, row ids.
 *
 * <p>As <b>targets</b>, an element is a token id, or {@link #IGNORE}: such a row is not read, its results are 0 and so is its
 * gradient. Anything else outside the vocabulary is an {@link IllegalArgumentException} with the row's number, before
 * anything is written; on a device, where contents are not checked first, it gives NaN in its row ({@link Device}). As <b>{@code cuSeqlens}</b>,
 * message {@code m} is tokens {@code cuSeqlens[m] .. cuSeqlens[m + 1]}; the first element is 0, the last the number of tokens,
 * none is smaller than the one before it.
 *
 * <p>Memory, devices and threads are as in {@link Floats}.
 *
 * <pre>{@code
 * try (Indices targets = Indices.ofInts(3, 0, Indices.IGNORE); // the third row does not count
 *         Indices cuSeqlens = Indices.ofInts(0, 1, 3)) { // two messages: of token 0, and of tokens 1 and 2
 *     System.out.println(targets.get(0) + " of " + targets.length());
 * }
 * }</pre>
 */
public final class Indices extends NativeView implements AutoCloseable {
    /** The target of a row that does not count. */
    public static final int IGNORE = teamtr.TEAMTR_IGNORE;

    private final long length;
    private final IntPointer ints;
    private final LongPointer longs;

    private Indices(Memory memory, long start, long length, int bytes) {
        super(memory, start, length * bytes);
        this.length = length;
        this.ints = bytes == Integer.BYTES ? new IntPointer(new Memory.Raw(start, length)) : null;
        this.longs = bytes == Long.BYTES ? new LongPointer(new Memory.Raw(start, length)) : null;
    }

    private static Indices view(Memory data, long length, int bytes) {
        fit(data, length, bytes);
        return new Indices(data, data.address, length, bytes);
    }

    /**
     * int32, from the Pointer's position to its limit.
     *
     * @throws IllegalArgumentException if the Pointer is null, of unknown size or misaligned
     */
    public static Indices of(IntPointer data) {
        return of(Device.CPU, data);
    }

    /**
     * int32, from the Pointer's position to its limit, on any device.
     *
     * @see Logits#of(Device, org.bytedeco.javacpp.Pointer, DType, long, long, long)
     */
    public static Indices of(Device device, IntPointer data) {
        final Memory memory = Memory.of(device, data, Integer.BYTES);
        return view(memory, memory.bytes / Integer.BYTES, Integer.BYTES);
    }

    /**
     * int64, from the Pointer's position to its limit.
     *
     * @throws IllegalArgumentException if the Pointer is null, of unknown size or misaligned
     */
    public static Indices of(LongPointer data) {
        return of(Device.CPU, data);
    }

    /**
     * int64, from the Pointer's position to its limit, on any device.
     *
     * @see Logits#of(Device, org.bytedeco.javacpp.Pointer, DType, long, long, long)
     */
    public static Indices of(Device device, LongPointer data) {
        final Memory memory = Memory.of(device, data, Long.BYTES);
        return view(memory, memory.bytes / Long.BYTES, Long.BYTES);
    }

    /**
     * int32, from the buffer's position to its limit.
     *
     * @param data direct and in the machine's byte order; a read-only one can only be an input
     * @throws IllegalArgumentException if the buffer is on the heap, misaligned or of the other byte order
     */
    public static Indices of(IntBuffer data) {
        final Memory memory = Memory.of(Check.given(data, "data"), data.order(), Integer.BYTES);
        return view(memory, memory.bytes / Integer.BYTES, Integer.BYTES);
    }

    /**
     * int64, from the buffer's position to its limit.
     *
     * @see #of(IntBuffer)
     */
    public static Indices of(LongBuffer data) {
        final Memory memory = Memory.of(Check.given(data, "data"), data.order(), Long.BYTES);
        return view(memory, memory.bytes / Long.BYTES, Long.BYTES);
    }

    /**
     * Memory of another framework.
     *
     * @param bytes size of one element: 4 (int32) or 8 (int64)
     * @param owner kept reachable; see {@link Logits#ofAddress}
     * @throws IllegalArgumentException if {@code length} elements do not fit {@code capacityBytes}, or the address is misaligned
     */
    public static Indices ofAddress(long address, long capacityBytes, int bytes, long length, Object owner) {
        return ofAddress(Device.CPU, address, capacityBytes, bytes, length, owner);
    }

    /**
     * Memory of another framework, on any device.
     *
     * @see Logits#ofAddress(Device, long, long, DType, long, long, long, long, long, Object)
     */
    public static Indices ofAddress(Device device, long address, long capacityBytes, int bytes, long length, Object owner) {
        if (bytes != Integer.BYTES && bytes != Long.BYTES) {
            throw new IllegalArgumentException("bytes: expected 4 or 8, given " + bytes);
        }
        return view(Memory.at(device, address, capacityBytes, bytes, owner), length, bytes);
    }

    /** {@return a new int32 vector of zeros, to be closed} */
    public static Indices allocateInts(long length) {
        return allocateInts(Device.CPU, length);
    }

    /** {@return a new int32 vector of zeros on any device, to be closed; see {@link Floats#allocate(Device, long)}} */
    public static Indices allocateInts(Device device, long length) {
        return view(Memory.allocate(device, length, Integer.BYTES), length, Integer.BYTES);
    }

    /** {@return a new int64 vector of zeros, to be closed} */
    public static Indices allocateLongs(long length) {
        return allocateLongs(Device.CPU, length);
    }

    /** {@return a new int64 vector of zeros on any device, to be closed; see {@link Floats#allocate(Device, long)}} */
    public static Indices allocateLongs(Device device, long length) {
        return view(Memory.allocate(device, length, Long.BYTES), length, Long.BYTES);
    }

    /** {@return a new int32 vector with a copy of {@code values}, to be closed} */
    public static Indices ofInts(int... values) {
        final Indices indices = allocateInts(Check.given(values, "values").length);
        indices.ints.put(values, 0, values.length);
        Reference.reachabilityFence(indices);
        return indices;
    }

    /** {@return a new int64 vector with a copy of {@code values}, to be closed} */
    public static Indices ofLongs(long... values) {
        final Indices indices = allocateLongs(Check.given(values, "values").length);
        indices.longs.put(values, 0, values.length);
        Reference.reachabilityFence(indices);
        return indices;
    }

    /** {@return the number of elements} */
    public long length() {
        return length;
    }

    /** {@return the size of one element: 4 (int32) or 8 (int64)} */
    public int bytes() {
        return ints != null ? Integer.BYTES : Long.BYTES;
    }

    int code() {
        return ints != null ? teamtr.TEAMTR_I32 : teamtr.TEAMTR_I64;
    }

    /** {@return element {@code i}} */
    public long get(long i) {
        Check.index(i, length);
        memory.checkHost("indices");
        final long value = ints != null ? ints.get(i) : longs.get(i);
        Reference.reachabilityFence(memory);
        return value;
    }

    /**
     * Sets element {@code i}.
     *
     * @throws IllegalArgumentException if the elements are int32 and {@code value} is not one
     */
    public void set(long i, long value) {
        Check.index(i, length);
        memory.checkHost("indices");
        Check.writable(this, "indices");
        if (longs != null) {
            longs.put(i, value);
        } else if (value == (int) value) {
            ints.put(i, (int) value);
        } else {
            throw new IllegalArgumentException("value: expected an int32, given " + value);
        }
        Reference.reachabilityFence(memory);
    }

    /** {@return a copy on the heap} */
    public long[] toArray() {
        memory.checkHost("indices");
        final int size = Check.arraySize(length);
        final long[] values = new long[size];
        if (longs != null) {
            longs.get(values, 0, size);
        } else {
            final int[] narrow = new int[size];
            ints.get(narrow, 0, size);
            for (int i = 0; i < size; i++) {
                values[i] = narrow[i];
            }
        }
        Reference.reachabilityFence(memory);
        return values;
    }

    /**
     * Overwrites all elements with those of another vector of the same width, as {@link Floats#copyFrom(Floats)}.
     *
     * @return this
     * @throws IllegalArgumentException if {@code source} has another length or width, or shares memory with this
     * @throws DeviceException if the copy, or earlier work on the device, failed
     */
    public Indices copyFrom(Indices source) {
        Check.length(Check.given(source, "source"), "source", length, "that of this vector");
        if (source.bytes() != bytes()) {
            throw new IllegalArgumentException("source: expected int" + 8 * bytes() + ", given int" + 8 * source.bytes());
        }
        copy(source, "indices");
        return this;
    }

    /** {@return a new vector in host memory with a copy of this one, to be closed} */
    public Indices toHost() {
        return (ints != null ? allocateInts(length) : allocateLongs(length)).copyFrom(this);
    }

    /** {@return a view of elements {@code from} .. {@code to}, the last one excluded} */
    public Indices slice(long from, long to) {
        checkRange(from, to, length);
        return new Indices(memory, start + from * bytes(), to - from, bytes());
    }

    /**
     * {@return the address of the first element}
     *
     * @throws IllegalStateException if the memory was closed
     */
    public long address() {
        return open("indices");
    }

    /** Frees memory that this class allocated, also under every slice; otherwise does nothing. */
    @Override
    public void close() {
        memory.close();
    }

    @Override
    public String toString() {
        return "Indices[" + length + " int" + 8 * bytes() + "]";
    }
}
