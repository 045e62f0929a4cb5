package org.teamtr.kernels;

import java.nio.Buffer;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.IntBuffer;
import java.nio.LongBuffer;
import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.javacpp.Pointer;
import org.teamtr.kernels.internal.Natives;
import org.teamtr.kernels.internal.global.teamtr;

/** A piece of native memory, where it is, and the object that keeps it alive. Frees only what it allocated itself. */
final class Memory {
    /** The address of memory without a single byte (an empty tensor has address 0); nothing ever reads it. */
    private static final long NOWHERE = 64;

    /**
     * The device of host memory. A CUDA device only in tests, which run every kernel on it this way; the device must then be able to access
     * host memory.
     */
    static Device hostDevice = Device.CPU;

    final Device device;
    /** Whether Java may access the bytes. */
    private final boolean onHost;
    final long address;
    final long bytes;
    final boolean writable;
    private final Object owner;
    /** The owner if it is a Pointer: closing it sets its address to 0, by which a closed owner is recognised. */
    private final Pointer guard;
    private final long guardAddress;
    /** The elements of the owner if it is a buffer: reading one tells whether it is that of an Arena that was closed. */
    private final Buffer buffer;
    private final boolean owned;

    /** @param device null for host memory */
    private Memory(Device device, long address, long bytes, boolean writable, Object owner, boolean owned) {
        this.device = device == null ? hostDevice : device;
        this.onHost = device == null;
        this.address = address;
        this.bytes = bytes;
        this.writable = writable;
        this.owner = owner;
        this.guard = owner instanceof Pointer pointer ? pointer : null;
        this.guardAddress = guard == null ? 0 : guard.address();
        this.buffer = owner instanceof Buffer elements ? elements.slice() : null; // its limit cannot be changed
        this.owned = owned;
    }

    static Memory of(Pointer data, int elementBytes) {
        return of(Device.CPU, data, elementBytes);
    }

    /** From the Pointer's position to its limit; its elements are single bytes or of {@code elementBytes}. */
    static Memory of(Device device, Pointer data, int elementBytes) {
        Check.given(device, "device");
        Check.given(data, "data");
        if (data.isNull()) {
            throw new IllegalArgumentException("data: the Pointer is null (never allocated, or closed)");
        }
        final int size = data.sizeof();
        if (size != 1 && size != elementBytes) {
            throw new IllegalArgumentException("data: expected elements of " + elementBytes + " bytes (or raw bytes), given a "
                    + data.getClass().getSimpleName() + " with elements of " + size);
        }
        if (data.limit() <= 0) {
            throw new IllegalArgumentException("data: the Pointer does not know its size (limit 0); state it with pointer.capacity(n)");
        }
        if (data.position() < 0 || data.position() > data.limit()) {
            throw new IllegalArgumentException("data: the Pointer's position " + data.position() + " is outside 0 .. its limit "
                    + data.limit());
        }
        if (data.limit() > Long.MAX_VALUE / size) {
            throw new IllegalArgumentException("data: expected a size in bytes that fits 64 bits, given a Pointer of " + data.limit()
                    + " elements of " + size);
        }
        final long bytes = (data.limit() - data.position()) * size;
        return at(device, data.address() + data.position() * size, bytes, elementBytes, data);
    }

    /** From the buffer's position to its limit. */
    static Memory of(Buffer data, ByteOrder order, int elementBytes) {
        Check.given(data, "data");
        if (!data.isDirect()) {
            throw new IllegalArgumentException(
                    "data: needs a direct buffer (ByteBuffer.allocateDirect), given a heap buffer, which the collector may move");
        }
        if (elementBytes > 1 && order != ByteOrder.nativeOrder()) {
            throw new IllegalArgumentException("data: expected byte order " + ByteOrder.nativeOrder() + ", given " + order
                    + "; call buffer.order(ByteOrder.nativeOrder())");
        }
        Natives.requireJavaCpp();
        final Buffer rest = data.slice(); // its address is that of the position, on every JavaCPP version
        // A typed buffer is not a Pointer: its elements' width follows from the view that asked.
        final int width = data instanceof ByteBuffer ? 1 : elementBytes;
        final long bytes = Math.multiplyExact((long) rest.capacity(), width);
        final long address = bytes == 0 ? NOWHERE : new Pointer(rest).address();
        final Memory memory = new Memory(null, address, bytes, !data.isReadOnly(), data, false);
        memory.check("data");
        return aligned(memory, elementBytes);
    }

    static Memory at(Device device, long address, long capacityBytes, int elementBytes, Object owner) {
        Check.given(device, "device");
        Check.notNegative(capacityBytes, "capacityBytes");
        if (address == 0 && capacityBytes > 0) {
            throw new IllegalArgumentException("address: expected the address of " + capacityBytes + " bytes, given 0");
        }
        if (owner instanceof Pointer pointer && pointer.isNull()) {
            throw new IllegalArgumentException("owner: the Pointer is null (never allocated, or closed)");
        }
        Natives.requireJavaCpp();
        final Memory memory = aligned(new Memory(device.isCuda() ? device : null, address == 0 ? NOWHERE : address, capacityBytes,
                true, owner, false), elementBytes);
        if (device.isCuda()) {
            Backend.require(device);
            if (capacityBytes > 0) {
                Check.status(teamtr.teamtr_cuda_check(device.index(), address));
            }
        }
        return memory;
    }

    /** New memory, all zero bytes. */
    static Memory allocate(Device device, long count, int elementBytes) {
        Check.given(device, "device");
        Check.notNegative(count, "length");
        if (count > Long.MAX_VALUE / elementBytes) {
            throw new IllegalArgumentException("length: expected a size in bytes that fits 64 bits, given " + count + " elements of "
                    + elementBytes);
        }
        Natives.requireJavaCpp();
        final long bytes = count * elementBytes;
        if (device.isCuda()) {
            final CudaMemory memory = CudaMemory.allocate(device, bytes);
            return new Memory(device, memory.address(), bytes, true, memory, true);
        }
        final BytePointer memory;
        try {
            memory = new BytePointer(Math.max(bytes, elementBytes));
        } catch (OutOfMemoryError e) {
            throw outOfMemory(bytes, e);
        }
        memory.zero();
        return new Memory(null, memory.address(), bytes, true, memory, true);
    }

    /** The same with what to do about it: JavaCPP limits itself, and the whole process, by the size of the Java heap. */
    static OutOfMemoryError outOfMemory(long bytes, OutOfMemoryError error) {
        final String words = String.valueOf((error.getCause() == null ? error : error.getCause()).getMessage());
        final String remedy = !words.contains("maxBytes") && !words.contains("maxPhysicalBytes") ? ""
                : "; JavaCPP has these limits from the Java heap: raise -Xmx, or set -Dorg.bytedeco.javacpp.maxBytes=0 and"
                        + " -Dorg.bytedeco.javacpp.maxPhysicalBytes=0 for none";
        final OutOfMemoryError named = new OutOfMemoryError(bytes + " bytes of native memory: " + words + remedy);
        named.initCause(error);
        return named;
    }

    private static Memory aligned(Memory memory, int elementBytes) {
        if (memory.address % elementBytes != 0) {
            throw new IllegalArgumentException("data: expected an address that is a multiple of " + elementBytes + ", given 0x"
                    + Long.toHexString(memory.address));
        }
        return memory;
    }

    /** Throws if the memory was closed. */
    void check(String name) {
        if (guard != null && guard.address() != guardAddress) {
            throw new IllegalStateException(name + ": its memory was closed");
        }
        if (buffer != null) {
            checkOpen(name);
        }
    }

    /** Throws if the memory is that of an Arena (Java 22) that was closed. */
    private void checkOpen(String name) {
        try {
            if (buffer instanceof FloatBuffer floats) {
                floats.get(0);
            } else if (buffer instanceof IntBuffer ints) {
                ints.get(0);
            } else if (buffer instanceof LongBuffer longs) {
                longs.get(0);
            } else if (buffer instanceof ByteBuffer bytes) {
                bytes.get(0);
            }
        } catch (IllegalStateException e) {
            throw new IllegalStateException(name + ": its memory was closed", e);
        } catch (RuntimeException e) {
            // No element, or of an Arena of another thread, which that thread alone may read by Java's means, and close.
        }
    }

    /** Throws if the memory was closed, or Java cannot access it. */
    void checkHost(String name) {
        check(name);
        if (!onHost) {
            throw new IllegalStateException(name + ": expected host memory, given memory of " + device
                    + ", which Java cannot look at; copy it with toHost() or copyFrom(view)");
        }
    }

    /** The address of a view for a kernel that runs on that device. */
    long open(String name, Device expected, long start) {
        check(name);
        if (device != expected && !device.equals(expected)) {
            throw new IllegalArgumentException(name + ": expected memory of " + expected + ", as that of the other arguments,"
                    + " given " + device + "; copyFrom of the views copies from device to device");
        }
        return start;
    }

    /** Where copies from one to the other are enqueued, behind all work on either; the CPU if both are host memory. */
    static Device copier(Memory to, Memory from) {
        if (to.onHost) {
            return from.onHost ? Device.CPU : from.device;
        }
        if (!from.onHost && !from.device.equals(to.device)) {
            from.device.synchronize();
        }
        return to.device;
    }

    /** Done at once on the CPU, otherwise when the stream reaches it. */
    static void copy(Device copier, long to, long from, long bytes) {
        if (copier.isCuda()) {
            Cudart.copy(copier, to, from, bytes);
        } else {
            Pointer.memcpy(new Raw(to, bytes), new Raw(from, bytes), bytes);
        }
    }

    /** Frees the memory if it was allocated here; the second time does nothing. */
    void close() {
        if (owned) {
            guard.close();
        }
    }

    @Override
    public String toString() {
        return bytes + " bytes of " + (owner == null ? "foreign memory" : owner.getClass().getSimpleName());
    }

    /** A Pointer to an absolute address; owns nothing. */
    static final class Raw extends Pointer {
        Raw(long address, long elements) {
            this.address = address;
            this.limit = elements;
            this.capacity = elements;
        }
    }
}
