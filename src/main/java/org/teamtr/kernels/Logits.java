package org.teamtr.kernels;

import java.nio.ByteBuffer;
import java.nio.FloatBuffer;
import org.bytedeco.javacpp.Pointer;

/**
 * A view of logits, [rows, vocab], or of their gradient: an address and how to walk it. Nothing is copied.
 *
 * <p>Row {@code r} starts at element {@code (r / rowsPerBatch) * batchStride + (r % rowsPerBatch) * rowStride}, and its
 * {@code vocab} elements lie side by side. So {@code logits[:, :-1]} of a [batch, length + 1, vocab] tensor is read in place,
 * and columns that pad a row ({@code rowStride > vocab}) are never read or written. All strides count elements, not bytes.
 * There may be 0 rows; {@code vocab} is 1 to 2<sup>31</sup> - 1, and {@code rows * vocab} may well exceed that.
 *
 * <p><b>Device.</b> Host memory, or with a {@link Device} as the first argument a CUDA device's, and then on one of its streams.
 *
 * <p><b>Memory.</b> The view keeps the Pointer, buffer or owner it was made from reachable. It never frees it. If a Pointer
 * is closed, or a buffer's Arena, the next kernel that is handed the view throws {@link IllegalStateException}. A Pointer's position and
 * limit count as they are when the view is made. Closing memory while a kernel runs on another thread is not guarded against.
 *
 * <p><b>Threads.</b> Immutable; any number of threads may use it as long as the memory lives.
 *
 * <pre>{@code
 * FloatBuffer buffer = ByteBuffer.allocateDirect(2 * 4 * Float.BYTES).order(ByteOrder.nativeOrder()).asFloatBuffer();
 * Logits twoRows = Logits.of(buffer.put(new float[] {1, 2, 3, 4, 0, 0, 0, 0}).flip(), 2, 4);
 * // logits[:, :-1] of a contiguous [batch, length + 1, vocab] tensor of another framework
 * Logits shifted = Logits.ofAddress(address, batch * (length + 1) * vocab * 2, DType.BF16, batch, length, vocab, (length + 1) * vocab,
 *         vocab, tensor);
 * }</pre>
 */
public final class Logits extends NativeView {
    private final DType dtype;
    private final long rows;
    private final long vocab;
    private final long rowStride;
    private final long rowsPerBatch;
    private final long batchStride;

    private Logits(Memory memory, long start, long extent, DType dtype, long rows, long vocab, long rowStride, long rowsPerBatch,
            long batchStride) {
        super(memory, start, extent);
        this.dtype = dtype;
        this.rows = rows;
        this.vocab = vocab;
        this.rowStride = rowStride;
        this.rowsPerBatch = rowsPerBatch;
        this.batchStride = batchStride;
    }

    // ---- from a JavaCPP Pointer ----

    /**
     * Rows that follow each other without a gap.
     *
     * @param data of raw bytes or of elements as wide as {@code dtype} (a {@code FloatPointer}, a {@code ShortPointer}), with a
     *     limit that covers the view
     * @throws IllegalArgumentException if the Pointer is null, too short, of unknown size or misaligned, or a number is out of range
     */
    public static Logits of(Pointer data, DType dtype, long rows, long vocab) {
        return of(data, dtype, rows, vocab, vocab);
    }

    /**
     * Rows {@code rowStride} elements apart.
     *
     * @see #of(Pointer, DType, long, long)
     */
    public static Logits of(Pointer data, DType dtype, long rows, long vocab, long rowStride) {
        return of(Device.CPU, data, dtype, rows, vocab, rowStride);
    }

    /**
     * Rows that follow each other without a gap, on any device.
     *
     * @see #of(Device, Pointer, DType, long, long, long)
     */
    public static Logits of(Device device, Pointer data, DType dtype, long rows, long vocab) {
        return of(device, data, dtype, rows, vocab, vocab);
    }

    /**
     * Rows {@code rowStride} elements apart, on any device.
     *
     * @param device if it is a CUDA device's, the Pointer holds an address of memory that the device reads and writes: a
     *     {@link CudaMemory}, or a device Pointer of the JavaCPP Presets
     * @throws IllegalStateException if kernels cannot run on CUDA devices for a setting ({@link Backend})
     * @throws DeviceException if there is no CUDA device, for the reason in its words
     * @see #of(Pointer, DType, long, long)
     */
    public static Logits of(Device device, Pointer data, DType dtype, long rows, long vocab, long rowStride) {
        return view(Memory.of(device, data, Check.given(dtype, "dtype").bytes()), dtype, 1, rows, "rows", vocab, 0, rowStride);
    }

    /**
     * {@code batch} blocks of {@code length} rows, {@code batchStride} elements apart. For {@code logits[:, :-1]} of a
     * contiguous [B, L + 1, V] tensor: batch B, length L, batchStride (L + 1) V, rowStride V.
     *
     * @see #of(Pointer, DType, long, long)
     */
    public static Logits ofBatch(Pointer data, DType dtype, long batch, long length, long vocab, long batchStride,
            long rowStride) {
        return ofBatch(Device.CPU, data, dtype, batch, length, vocab, batchStride, rowStride);
    }

    /**
     * Blocks of rows on any device.
     *
     * @see #of(Device, Pointer, DType, long, long, long)
     * @see #ofBatch(Pointer, DType, long, long, long, long, long)
     */
    public static Logits ofBatch(Device device, Pointer data, DType dtype, long batch, long length, long vocab, long batchStride,
            long rowStride) {
        return view(Memory.of(device, data, Check.given(dtype, "dtype").bytes()), dtype, batch, length, "length", vocab,
                batchStride, rowStride);
    }

    // ---- from a direct buffer ----

    /**
     * Rows that follow each other without a gap, from the buffer's position on.
     *
     * @param data direct and in the machine's byte order; may be read-only for a view that is only read
     * @throws IllegalArgumentException if the buffer is on the heap, too short, misaligned or of the other byte order, or a number
     *     is out of range
     */
    public static Logits of(ByteBuffer data, DType dtype, long rows, long vocab) {
        return of(data, dtype, rows, vocab, vocab);
    }

    /**
     * Rows {@code rowStride} elements apart.
     *
     * @see #of(ByteBuffer, DType, long, long)
     */
    public static Logits of(ByteBuffer data, DType dtype, long rows, long vocab, long rowStride) {
        return view(bytes(data, dtype), dtype, 1, rows, "rows", vocab, 0, rowStride);
    }

    /**
     * Blocks of rows, as {@link #ofBatch(Pointer, DType, long, long, long, long, long)}.
     *
     * @see #of(ByteBuffer, DType, long, long)
     */
    public static Logits ofBatch(ByteBuffer data, DType dtype, long batch, long length, long vocab, long batchStride,
            long rowStride) {
        return view(bytes(data, dtype), dtype, batch, length, "length", vocab, batchStride, rowStride);
    }

    /**
     * f32 rows that follow each other without a gap.
     *
     * @see #of(ByteBuffer, DType, long, long)
     */
    public static Logits of(FloatBuffer data, long rows, long vocab) {
        return of(data, rows, vocab, vocab);
    }

    /**
     * f32 rows {@code rowStride} elements apart.
     *
     * @see #of(ByteBuffer, DType, long, long)
     */
    public static Logits of(FloatBuffer data, long rows, long vocab, long rowStride) {
        return view(floats(data), DType.F32, 1, rows, "rows", vocab, 0, rowStride);
    }

    /**
     * Blocks of f32 rows, as {@link #ofBatch(Pointer, DType, long, long, long, long, long)}.
     *
     * @see #of(ByteBuffer, DType, long, long)
     */
    public static Logits ofBatch(FloatBuffer data, long batch, long length, long vocab, long batchStride, long rowStride) {
        return view(floats(data), DType.F32, batch, length, "length", vocab, batchStride, rowStride);
    }

    // ---- from another framework ----

    /**
     * Memory of another framework.
     *
     * @param address of the first element, in host memory; 0 only if there is not a single row
     * @param capacityBytes how many bytes from there on belong to the tensor; the view must fit
     * @param owner kept reachable as long as the view is; if it is a JavaCPP {@link Pointer}, closing it invalidates the view. May
     *     be null where something else keeps the memory alive
     * @throws IllegalArgumentException if the view does not fit, or a number is out of range
     * @see #ofBatch(Pointer, DType, long, long, long, long, long)
     */
    public static Logits ofAddress(long address, long capacityBytes, DType dtype, long batch, long length, long vocab,
            long batchStride, long rowStride, Object owner) {
        return ofAddress(Device.CPU, address, capacityBytes, dtype, batch, length, vocab, batchStride, rowStride, owner);
    }

    /**
     * Memory of another framework, on any device.
     *
     * @param device if it is a CUDA device's, the address is checked to be memory that this device reads and writes
     * @throws IllegalArgumentException as without a device, or if the device cannot use the address, or does not exist
     * @throws IllegalStateException if kernels cannot run on CUDA devices for a setting ({@link Backend})
     * @throws DeviceException if there is no CUDA device, for the reason in its words
     * @see #ofAddress(long, long, DType, long, long, long, long, long, Object)
     */
    public static Logits ofAddress(Device device, long address, long capacityBytes, DType dtype, long batch, long length,
            long vocab, long batchStride, long rowStride, Object owner) {
        return view(Memory.at(device, address, capacityBytes, Check.given(dtype, "dtype").bytes(), owner), dtype, batch, length,
                "length", vocab, batchStride, rowStride);
    }

    private static Memory bytes(ByteBuffer data, DType dtype) {
        return Memory.of(Check.given(data, "data"), data.order(), Check.given(dtype, "dtype").bytes());
    }

    private static Memory floats(FloatBuffer data) {
        return Memory.of(Check.given(data, "data"), data.order(), Float.BYTES);
    }

    /**
     * Brings equal layouts to equal numbers: one row has no stride, one block no batch stride, and rows at an even pace are
     * one block.
     */
    private static Logits view(Memory data, DType dtype, long batch, long length, String lengthName, long vocab, long batchStride,
            long rowStride) {
        Check.notNegative(batch, "batch");
        Check.notNegative(length, lengthName);
        Check.vocab(vocab, "vocab");
        if (batch == 0 || length == 0) {
            return new Logits(data, data.address, 0, dtype, 0, vocab, vocab, 1, vocab);
        }
        if (length > 1 && rowStride < vocab) {
            throw new IllegalArgumentException("rowStride: expected at least vocab = " + vocab + ", given " + rowStride);
        }
        if (batch > 1 && batchStride < vocab) {
            throw new IllegalArgumentException("batchStride: expected at least vocab = " + vocab + ", given " + batchStride);
        }
        final long stride = length > 1 ? rowStride : batch > 1 ? batchStride : vocab;
        try {
            final long rows = Math.multiplyExact(batch, length);
            final boolean even = batch == 1 || length == 1 || batchStride == Math.multiplyExact(length, stride);
            final long rowsPerBatch = even ? rows : length;
            final long pace = even ? Math.multiplyExact(rows, stride) : batchStride;
            final long lastBlock = even ? 0 : Math.multiplyExact(batch - 1, pace);
            final long lastRow = Math.addExact(lastBlock, Math.multiplyExact(rowsPerBatch - 1, stride));
            final long bytes = Math.multiplyExact(Math.addExact(lastRow, vocab), dtype.bytes());
            if (bytes > data.bytes) {
                throw new IllegalArgumentException("data: expected at least " + bytes + " bytes for " + rows + " rows of " + vocab
                        + " " + dtype + " with row stride " + stride + (even ? "" : " and batch stride " + pace) + ", given "
                        + data.bytes);
            }
            return new Logits(data, data.address, bytes, dtype, rows, vocab, stride, rowsPerBatch, pace);
        } catch (ArithmeticException e) {
            throw new IllegalArgumentException("data: " + batch + " x " + length + " rows of " + vocab + " " + dtype
                    + " with row stride " + stride + " and batch stride " + batchStride + " do not fit 64-bit sizes", e);
        }
    }

    /**
     * Rows {@code from} .. {@code to}, the last one excluded, of the same memory.
     *
     * @throws IllegalArgumentException if the range lies outside the rows, or starts inside one block and ends in another
     *     (its rows are then not evenly spaced)
     */
    public Logits rows(long from, long to) {
        checkRange(from, to, rows);
        final long count = to - from;
        final long within = from % rowsPerBatch;
        final boolean oneBlock = within + count <= rowsPerBatch;
        if (!oneBlock && within != 0) {
            throw new IllegalArgumentException("from: expected a multiple of " + rowsPerBatch
                    + " (the rows of a block) for a range over several blocks, given " + from + " .. " + to);
        }
        if (count == 0) {
            return new Logits(memory, start, 0, dtype, 0, vocab, vocab, 1, vocab);
        }
        final long first = element(from);
        final long bytes = (element(to - 1) - first + vocab) * dtype.bytes();
        // A last block that is cut short ends before the block before it may: the extent covers both.
        final long wholeBlocks = count / rowsPerBatch;
        final long covered = oneBlock || wholeBlocks == 0 ? bytes
                : Math.max(bytes, (element(from + wholeBlocks * rowsPerBatch - 1) - first + vocab) * dtype.bytes());
        final long stride = count > 1 ? rowStride : vocab;
        return new Logits(memory, start + first * dtype.bytes(), covered, dtype, count, vocab, stride,
                oneBlock ? count : rowsPerBatch, oneBlock ? count * stride : batchStride);
    }

    /**
     * Overwrites all rows with those of another view of the same shape and dtype; strides may differ. The two may be at different
     * places; the call waits for what was enqueued on their streams, and returns when the copy is done.
     *
     * @return this
     * @throws IllegalArgumentException if {@code source} has another shape or dtype, or shares memory with this
     * @throws DeviceException if the copy, or earlier work on the device, failed
     */
    public Logits copyFrom(Logits source) {
        Check.sameShape(Check.given(source, "source"), "source", this, "these logits");
        if (overlapsItself()) {
            throw new IllegalArgumentException("logits: expected rows that do not overlap, given " + this);
        }
        final long rowBytes = vocab * dtype.bytes();
        if (extent == rows * rowBytes && source.extent == extent && rowStride == vocab && source.rowStride == vocab) {
            copy(source, "logits"); // no gaps in either
            return this;
        }
        Check.writable(this, "logits");
        Check.apart(this, "logits", source, "source");
        final long to = open("logits");
        final long from = source.open("source");
        final Device copier = Memory.copier(memory, source.memory);
        for (long r = 0; r < rows; r++) {
            Memory.copy(copier, to + element(r) * dtype.bytes(), from + source.element(r) * dtype.bytes(), rowBytes);
        }
        copier.synchronize();
        Check.alive(this, source, null, null);
        return this;
    }

    private long element(long row) {
        return row / rowsPerBatch * batchStride + row % rowsPerBatch * rowStride;
    }

    /**
     * {@return the address of the first element}
     *
     * @throws IllegalStateException if the memory was closed
     */
    public long address() {
        return open("logits");
    }

    /** {@return the number format} */
    public DType dtype() {
        return dtype;
    }

    /** {@return the number of rows, over all blocks} */
    public long rows() {
        return rows;
    }

    /** {@return the number of logits in a row} */
    public long vocab() {
        return vocab;
    }

    /** {@return elements from one row to the next within a block} */
    public long rowStride() {
        return rowStride;
    }

    /** {@return rows of a block; all rows where they are evenly spaced} */
    public long rowsPerBatch() {
        return rowsPerBatch;
    }

    /** {@return elements from one block to the next} */
    public long batchStride() {
        return batchStride;
    }

    boolean sameLayout(Logits other) {
        return start == other.start && dtype == other.dtype && rows == other.rows && vocab == other.vocab
                && rowStride == other.rowStride && rowsPerBatch == other.rowsPerBatch && batchStride == other.batchStride;
    }

    /** Blocks may follow each other or be interleaved row by row ([length, batch, vocab] read as [batch, length, vocab]). */
    boolean overlapsItself() {
        if (rows <= rowsPerBatch) {
            return false;
        }
        final long blocks = (rows - 1) / rowsPerBatch;
        return batchStride < (rowsPerBatch - 1) * rowStride + vocab && rowStride < blocks * batchStride + vocab;
    }

    /** Two ranges of columns of one padded matrix (the shards of a vocab-parallel layer) interleave but share nothing. */
    @Override
    boolean overlaps(NativeView view) {
        if (!super.overlaps(view)) {
            return false;
        }
        if (view instanceof Logits other && rowStride * dtype.bytes() == other.rowStride * other.dtype.bytes() && keepsColumns()
                && other.keepsColumns()) {
            final long stride = rowStride * dtype.bytes();
            final long shift = Math.floorMod(other.start - start, stride);
            return shift < vocab * dtype.bytes() || shift + other.vocab * other.dtype.bytes() > stride;
        }
        return true;
    }

    /** Whether every row starts a whole number of row strides behind the first. */
    private boolean keepsColumns() {
        return rows <= rowsPerBatch || batchStride % rowStride == 0;
    }

    String shape() {
        return rows + " x " + vocab + " " + dtype;
    }

    @Override
    public String toString() {
        return "Logits[" + shape() + ", row stride " + rowStride
                + (rows <= rowsPerBatch ? "" : ", " + rowsPerBatch + " rows per block, batch stride " + batchStride) + "]";
    }
}
