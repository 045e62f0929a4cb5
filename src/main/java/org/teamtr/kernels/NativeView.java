package org.teamtr.kernels;

/** A part of a {@link Memory}: what the kernels take. Immutable; keeps the memory's owner reachable. */
abstract sealed class NativeView permits Logits, Floats, Indices, Mask {
    final Memory memory;
    /** Where the view starts; only {@link #open} hands it to a kernel. */
    final long start;
    /** From the first byte of the view to behind its last one, gaps included. */
    final long extent;

    NativeView(Memory memory, long start, long extent) {
        this.memory = memory;
        this.start = start;
        this.extent = extent;
    }

    /** {@return where the memory is, and so where a kernel that is handed this view runs} */
    public final Device device() {
        return memory.device;
    }

    /** The address, after making sure that the memory is still there. */
    final long open(String name) {
        memory.check(name);
        return start;
    }

    /** Whether two views share a byte. */
    boolean overlaps(NativeView other) {
        return extent > 0 && other.extent > 0 && start < other.start + other.extent && other.start < start + extent;
    }

    /** Bytes of {@code count} elements from {@code data}, which must have them. */
    static long fit(Memory data, long count, int elementBytes) {
        Check.notNegative(count, "length");
        if (count > data.bytes / elementBytes) {
            throw new IllegalArgumentException("length: expected at most " + data.bytes / elementBytes + " (data has " + data.bytes
                    + " bytes), given " + count);
        }
        return count * elementBytes;
    }

    /** Overwrites the elements, which lie side by side in both, with those of a view of as many. */
    final void copy(NativeView source, String name) {
        Check.writable(this, name);
        Check.apart(this, name, source, "source");
        final long to = open(name);
        final long from = source.open("source");
        if (extent > 0) {
            final Device copier = Memory.copier(memory, source.memory);
            Memory.copy(copier, to, from, extent);
            copier.synchronize();
        }
        Check.alive(this, source, null, null);
    }

    static void checkRange(long from, long to, long length) {
        if (from < 0 || from > to || to > length) {
            throw new IllegalArgumentException("from, to: expected 0 <= from <= to <= " + length + ", given " + from + ", " + to);
        }
    }
}
