package org.teamtr.kernels;

import java.lang.ref.Reference;
import java.nio.FloatBuffer;
import org.bytedeco.javacpp.FloatPointer;
import org.bytedeco.javacpp.Pointer;

/**
 * A view of a contiguous f32 vector: log-probs, advantages, gradients, anything per token or per message.
 *
 * <p><b>Memory.</b> {@code of} and {@code ofAddress} view memory that another object owns, keep this owner reachable and never free
 * it; a Pointer or an Arena that is closed makes the view throw {@link IllegalStateException}. {@link #allocate} and {@link #ofFloats}
 * own new memory, freed by {@link #close()} or, failing that, by the collector. Inside a JavaCPP {@code PointerScope} it
 * belongs to the scope, as every Pointer made there. JavaCPP limits such memory, and all native memory of the process, in proportion to
 * the Java heap ({@code org.bytedeco.javacpp.maxBytes}, {@code maxPhysicalBytes}; 0 for no limit); beyond that it is an
 * {@link OutOfMemoryError}. A {@link #slice} is a view of the same memory.
 *
 * <p><b>Device.</b> Host memory, or with a {@link Device} as the first argument a CUDA device's. Java reaches single elements in
 * host memory only: elsewhere {@code get}, {@code set} and arrays are an {@link IllegalStateException}, and
 * {@link #copyFrom(Floats)} and {@link #toHost} copy.
 *
 * <p><b>Threads.</b> The view is immutable; access to its elements is not synchronised.
 *
 * <pre>{@code
 * try (Floats kl = Floats.allocate(newLogits.rows())) {
 *     TokenKl.oldNew(oldLogits, newLogits, kl);
 *     float[] first = kl.slice(0, 2).toArray();
 * }
 * }</pre>
 */
public final class Floats extends NativeView implements AutoCloseable {
    private final long length;
    private final FloatPointer elements;

    private Floats(Memory memory, long start, long length) {
        super(memory, start, length * Float.BYTES);
        this.length = length;
        this.elements = new FloatPointer(new Memory.Raw(start, length));
    }

    private static Floats view(Memory data, long length) {
        fit(data, length, Float.BYTES);
        return new Floats(data, data.address, length);
    }

    /**
     * From the Pointer's position to its limit.
     *
     * @throws IllegalArgumentException if the Pointer is null, of unknown size or misaligned
     */
    public static Floats of(FloatPointer data) {
        final Memory memory = Memory.of(data, Float.BYTES);
        return view(memory, memory.bytes / Float.BYTES);
    }

    /**
     * {@code length} floats from the Pointer's position on.
     *
     * @param data of raw bytes or of elements of 4 bytes
     * @throws IllegalArgumentException if the Pointer is null, too short, of unknown size or misaligned
     */
    public static Floats of(Pointer data, long length) {
        return of(Device.CPU, data, length);
    }

    /**
     * {@code length} floats from the Pointer's position on, on any device.
     *
     * @see Logits#of(Device, Pointer, DType, long, long, long)
     */
    public static Floats of(Device device, Pointer data, long length) {
        return view(Memory.of(device, data, Float.BYTES), length);
    }

    /**
     * From the buffer's position to its limit.
     *
     * @param data direct and in the machine's byte order; a read-only one can only be an input
     * @throws IllegalArgumentException if the buffer is on the heap, misaligned or of the other byte order
     */
    public static Floats of(FloatBuffer data) {
        final Memory memory = Memory.of(Check.given(data, "data"), data.order(), Float.BYTES);
        return view(memory, memory.bytes / Float.BYTES);
    }

    /**
     * Memory of another framework.
     *
     * @param owner kept reachable; see {@link Logits#ofAddress}
     * @throws IllegalArgumentException if {@code length} floats do not fit {@code capacityBytes}, or the address is misaligned
     */
    public static Floats ofAddress(long address, long capacityBytes, long length, Object owner) {
        return ofAddress(Device.CPU, address, capacityBytes, length, owner);
    }

    /**
     * Memory of another framework, on any device.
     *
     * @see Logits#ofAddress(Device, long, long, DType, long, long, long, long, long, Object)
     */
    public static Floats ofAddress(Device device, long address, long capacityBytes, long length, Object owner) {
        return view(Memory.at(device, address, capacityBytes, Float.BYTES, owner), length);
    }

    /** {@return a new vector of zeros, to be closed} */
    public static Floats allocate(long length) {
        return allocate(Device.CPU, length);
    }

    /**
     * {@return a new vector of zeros on any device, to be closed}
     *
     * @throws DeviceException if the device has no such memory
     * @throws IllegalStateException if device memory is requested and not available; see {@link CudaMemory}
     */
    public static Floats allocate(Device device, long length) {
        return view(Memory.allocate(device, length, Float.BYTES), length);
    }

    /** {@return a new vector with a copy of {@code values}, to be closed} */
    public static Floats ofFloats(float... values) {
        return allocate(Check.given(values, "values").length).copyFrom(values);
    }

    /** {@return the number of elements} */
    public long length() {
        return length;
    }

    /** {@return element {@code i}; {@link #toArray} is quicker for many} */
    public float get(long i) {
        Check.index(i, length);
        memory.checkHost("floats");
        final float value = elements.get(i);
        Reference.reachabilityFence(memory);
        return value;
    }

    /** Sets element {@code i}. */
    public void set(long i, float value) {
        Check.index(i, length);
        memory.checkHost("floats");
        Check.writable(this, "floats");
        elements.put(i, value);
        Reference.reachabilityFence(memory);
    }

    /** {@return a copy on the heap} */
    public float[] toArray() {
        memory.checkHost("floats");
        final float[] values = new float[Check.arraySize(length)];
        elements.get(values, 0, values.length);
        Reference.reachabilityFence(memory);
        return values;
    }

    /**
     * Overwrites all elements.
     *
     * @return this
     * @throws IllegalArgumentException if {@code values} has another length
     */
    public Floats copyFrom(float[] values) {
        Check.arrayLength(Check.given(values, "values").length, length);
        memory.checkHost("floats");
        Check.writable(this, "floats");
        elements.put(values, 0, values.length);
        Reference.reachabilityFence(memory);
        return this;
    }

    /**
     * Overwrites all elements with those of another vector. The two may be at different places; the call waits for what was
     * enqueued on their streams, and returns when the copy is done.
     *
     * @return this
     * @throws IllegalArgumentException if {@code source} has another length, or shares memory with this
     * @throws DeviceException if the copy, or earlier work on the device, failed
     */
    public Floats copyFrom(Floats source) {
        Check.length(Check.given(source, "source"), "source", length, "that of this vector");
        copy(source, "floats");
        return this;
    }

    /** {@return a new vector in host memory with a copy of this one, to be closed; waits as {@link #copyFrom(Floats)}} */
    public Floats toHost() {
        return allocate(length).copyFrom(this);
    }

    /** {@return a view of elements {@code from} .. {@code to}, the last one excluded} */
    public Floats slice(long from, long to) {
        checkRange(from, to, length);
        return new Floats(memory, start + from * Float.BYTES, to - from);
    }

    /**
     * {@return the address of the first element}
     *
     * @throws IllegalStateException if the memory was closed
     */
    public long address() {
        return open("floats");
    }

    /** Frees memory that {@link #allocate} or {@link #ofFloats} made, also under every slice; otherwise does nothing. */
    @Override
    public void close() {
        memory.close();
    }

    @Override
    public String toString() {
        return "Floats[" + length + "]";
    }
}
