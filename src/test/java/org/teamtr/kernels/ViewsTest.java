package org.teamtr.kernels;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.lang.ref.WeakReference;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.IntBuffer;
import java.nio.LongBuffer;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Supplier;
import org.bytedeco.javacpp.BoolPointer;
import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.javacpp.DoublePointer;
import org.bytedeco.javacpp.FloatPointer;
import org.bytedeco.javacpp.IntPointer;
import org.bytedeco.javacpp.LongPointer;
import org.bytedeco.javacpp.Pointer;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.javacpp.ShortPointer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.teamtr.kernels.SurrogateConfig.AdvantagePer;
import org.teamtr.kernels.SurrogateConfig.Aggregation;
import org.teamtr.kernels.SurrogateConfig.KlTerm;
import org.teamtr.kernels.SurrogateConfig.Ratio;

/** Views of memory: how they are made, what they refuse, whose memory they keep, and the values that configure a call. */
class ViewsTest {
    private static void says(String starts, Executable call) {
        final IllegalArgumentException e = assertThrows(IllegalArgumentException.class, call, starts);
        assertTrue(e.getMessage().startsWith(starts), "expected \"" + starts + "...\", given \"" + e.getMessage() + "\"");
    }

    private static void closed(String name, Executable call) {
        assertEquals(name + ": its memory was closed", assertThrows(IllegalStateException.class, call, name).getMessage());
    }

    private static ByteBuffer direct(int bytes) {
        return ByteBuffer.allocateDirect(bytes).order(ByteOrder.nativeOrder());
    }

    private static ByteOrder other() {
        return ByteOrder.nativeOrder() == ByteOrder.LITTLE_ENDIAN ? ByteOrder.BIG_ENDIAN : ByteOrder.LITTLE_ENDIAN;
    }

    /** {@return log softmax of the first column of each row: a kernel's look at a view} */
    private static float[] firstColumn(Logits logits) {
        try (Indices zeros = Indices.allocateInts(logits.rows()); Floats out = Floats.allocate(logits.rows())) {
            LogProbs.forward(logits, zeros, Temperature.ONE, out, null, null);
            return out.toArray();
        }
    }

    // ---- Logits ----

    @Test
    void logitsOfEverySourceReadTheSameNumbers() {
        final float[] x = {9, 1, 2, 3, 9, 4, 5, 6, 9, 7, 8, 9.5f, 9};
        final ByteBuffer bytes = direct(4 * x.length);
        bytes.asFloatBuffer().put(x);
        final FloatPointer pointer = new FloatPointer(x);
        final BytePointer raw = new BytePointer(pointer);
        final float[] expected = firstColumn(Logits.of(bytes.position(4), DType.F32, 3, 3, 4));
        assertEquals(-Math.log(1 + Math.exp(1) + Math.exp(2)), expected[0], 1e-6);
        bytes.position(4);
        final FloatBuffer floats = bytes.slice().order(ByteOrder.nativeOrder()).asFloatBuffer();
        final List<Supplier<Logits>> sources = List.of(
                () -> Logits.of(new FloatPointer(pointer).position(1), DType.F32, 3, 3, 4),
                () -> Logits.of(new BytePointer(raw).position(4).limit(4 * x.length), DType.F32, 3, 3, 4),
                () -> Logits.of(bytes.asReadOnlyBuffer().order(ByteOrder.nativeOrder()), DType.F32, 3, 3, 4),
                () -> Logits.of(floats, 3, 3, 4),
                () -> Logits.ofBatch(new FloatPointer(pointer).position(1), DType.F32, 3, 1, 3, 4, 0),
                () -> Logits.ofBatch(floats, 1, 3, 3, 0, 4),
                () -> Logits.ofBatch(bytes, DType.F32, 3, 1, 3, 4, 3),
                () -> Logits.ofAddress(pointer.address() + 4, 4 * (x.length - 1), DType.F32, 1, 3, 3, 0, 4, pointer));
        for (Supplier<Logits> source : sources) {
            final Logits view = source.get();
            assertArrayEquals(expected, firstColumn(view), view.toString());
            assertEquals(List.of(3L, 3L, 4L, 3L), List.of(view.rows(), view.vocab(), view.rowStride(), view.rowsPerBatch()));
        }
        assertArrayEquals(new float[] {expected[0], expected[1]}, firstColumn(Logits.of(floats, 3, 3, 4).rows(0, 2)));
    }

    /** [:, :-1] of [2, 3, 2]: blocks of two rows with one row left out, and its parts. */
    @Test
    void blocksOfRowsAndTheirParts() {
        final float[] x = {0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6}; // column 0 is 0, so log-probs tell column 1
        final FloatPointer data = new FloatPointer(x);
        final Logits view = Logits.ofBatch(data, DType.F32, 2, 2, 2, 6, 2);
        assertEquals(List.of(4L, 2L, 2L, 2L, 6L), List.of(view.rows(), view.vocab(), view.rowStride(), view.rowsPerBatch(),
                view.batchStride()));
        final float[] all = firstColumn(view);
        for (int r = 0; r < 4; r++) {
            assertEquals(-Math.log1p(Math.exp(new int[] {1, 2, 4, 5}[r])), all[r], 1e-6);
        }
        assertArrayEquals(new float[] {all[1]}, firstColumn(view.rows(1, 2)));
        assertArrayEquals(new float[] {all[2], all[3]}, firstColumn(view.rows(2, 4)));
        assertArrayEquals(new float[] {all[0], all[1], all[2]}, firstColumn(view.rows(0, 3)));
        assertArrayEquals(all, firstColumn(view.rows(0, 4)));
        assertEquals(0, view.rows(3, 3).rows());
        says("from: expected a multiple of 2 (the rows of a block) for a range over several blocks, given 1 .. 3", () -> view.rows(1, 3));
        for (long[] range : new long[][] {{-1, 2}, {0, 5}, {3, 2}, {Long.MIN_VALUE, Long.MAX_VALUE}}) {
            says("from, to: expected 0 <= from <= to <= 4, given " + range[0] + ", " + range[1], () -> view.rows(range[0], range[1]));
        }
        // Part of a block writes its rows and nothing else.
        try (Floats lse = Floats.ofFloats(1, 1, 1); Floats lp = Floats.ofFloats(-1, -1, -1); Floats g = Floats.ofFloats(1, 1, 1);
                Indices t = Indices.ofInts(0, 0, 0)) {
            LogProbs.backward(view.rows(0, 3), t, Temperature.ONE, lp, lse, null, g, null, view.rows(0, 3));
        }
        for (int i : new int[] {4, 5, 8, 9, 10, 11}) {
            assertEquals(x[i], data.get(i), "element " + i + " lies outside the three rows");
        }
        assertFalse(data.get(7) == 4f, "the third row was written");
    }

    @Test
    void logitsRefuse() {
        final FloatPointer data = new FloatPointer(12L);
        final ByteBuffer buffer = direct(48);
        says("data: expected a value, given null", () -> Logits.of((Pointer) null, DType.F32, 1, 1));
        says("data: expected a value, given null", () -> Logits.of((ByteBuffer) null, DType.F32, 1, 1));
        says("data: expected a value, given null", () -> Logits.of((FloatBuffer) null, 1, 1));
        says("dtype: expected a value, given null", () -> Logits.of(data, null, 1, 1));
        says("dtype: expected a value, given null", () -> Logits.of(buffer, null, 1, 1));
        says("dtype: expected a value, given null", () -> Logits.ofAddress(data.address(), 48, null, 1, 1, 1, 1, 1, null));
        says("data: the Pointer is null (never allocated, or closed)", () -> Logits.of(new FloatPointer((Pointer) null), DType.F32, 1, 1));
        final FloatPointer gone = new FloatPointer(4L);
        gone.close();
        says("data: the Pointer is null (never allocated, or closed)", () -> Logits.of(gone, DType.F32, 1, 4));
        says("data: expected elements of 4 bytes (or raw bytes), given a DoublePointer with elements of 8",
                () -> Logits.of(new DoublePointer(4L), DType.F32, 1, 4));
        says("data: expected elements of 2 bytes (or raw bytes), given a FloatPointer with elements of 4", () -> Logits.of(data, DType.BF16, 1, 4));
        says("data: expected elements of 4 bytes (or raw bytes), given a ShortPointer with elements of 2",
                () -> Logits.of(new ShortPointer(4L), DType.F32, 1, 2));
        says("data: the Pointer does not know its size (limit 0); state it with pointer.capacity(n)",
                () -> Logits.of(new FloatPointer(data).capacity(0), DType.F32, 1, 1));
        says("data: the Pointer's position 13 is outside 0 .. its limit 12", () -> Logits.of(new FloatPointer(data).position(13), DType.F32, 0, 1));
        says("data: the Pointer's position -1 is outside 0 .. its limit 12", () -> Logits.of(new FloatPointer(data).position(-1), DType.F32, 1, 1));
        says("data: expected an address that is a multiple of 4, given 0x",
                () -> Logits.of(new BytePointer(data).capacity(48).position(2), DType.F32, 1, 4));
        says("data: expected an address that is a multiple of 2, given 0x", () -> Logits.of(buffer.duplicate().order(ByteOrder.nativeOrder())
                .position(1), DType.F16, 1, 4));
        says("data: needs a direct buffer (ByteBuffer.allocateDirect), given a heap buffer",
                () -> Logits.of(ByteBuffer.allocate(48).order(ByteOrder.nativeOrder()), DType.F32, 1, 1));
        says("data: needs a direct buffer", () -> Logits.of(FloatBuffer.allocate(4), 1, 1));
        says("data: expected byte order " + ByteOrder.nativeOrder() + ", given " + other(),
                () -> Logits.of(buffer.duplicate().order(other()), DType.F32, 1, 1));
        says("data: expected byte order", () -> Logits.of(buffer.duplicate().order(other()).asFloatBuffer(), 1, 1));
        says("address: expected the address of 4 bytes, given 0", () -> Logits.ofAddress(0, 4, DType.F32, 1, 1, 1, 1, 1, null));
        says("capacityBytes: expected 0 or more, given -1", () -> Logits.ofAddress(data.address(), -1, DType.F32, 1, 1, 1, 1, 1,
                null));
        says("owner: the Pointer is null (never allocated, or closed)", () -> Logits.ofAddress(data.address(), 4, DType.F32, 1, 1, 1, 1, 1, gone));
        says("data: expected an address that is a multiple of 4", () -> Logits.ofAddress(data.address() + 1, 4, DType.F32, 1, 1,
                1, 1, 1, null));
        says("rows: expected 0 or more, given -1", () -> Logits.of(data, DType.F32, -1, 3));
        says("length: expected 0 or more, given -3", () -> Logits.ofBatch(data, DType.F32, 1, -3, 3, 9, 3));
        says("batch: expected 0 or more, given " + Long.MIN_VALUE, () -> Logits.ofBatch(data, DType.F32, Long.MIN_VALUE, 1, 3, 9, 3));
        says("vocab: expected 1 .. 2147483647, given 0", () -> Logits.of(data, DType.F32, 1, 0));
        says("vocab: expected 1 .. 2147483647, given 2147483648", () -> Logits.of(data, DType.F32, 0, 1L << 31));
        says("rowStride: expected at least vocab = 3, given 2", () -> Logits.of(data, DType.F32, 2, 3, 2));
        says("batchStride: expected at least vocab = 3, given -4", () -> Logits.ofBatch(data, DType.F32, 2, 1, 3, -4, 3));
        says("data: expected at least 52 bytes for 3 rows of 3 F32 with row stride 5, given 48", () -> Logits.of(data, DType.F32, 3, 3, 5));
        says("data: expected at least 56 bytes for 4 rows of 3 F32 with row stride 3 and batch stride 8, given 48",
                () -> Logits.ofBatch(data, DType.F32, 2, 2, 3, 8, 3));
        says("data: expected at least 48 bytes", () -> Logits.of(buffer.duplicate().order(ByteOrder.nativeOrder()).limit(47),
                DType.F32, 4, 3));
        for (long huge : new long[] {Long.MAX_VALUE, 1L << 62, 1L << 61, 1L << 40}) {
            says("data: ", () -> Logits.of(data, DType.F32, huge, 3));
            says("data: ", () -> Logits.of(data, DType.F32, 2, 3, huge));
            says("data: ", () -> Logits.ofBatch(data, DType.F32, huge, huge, 3, huge, huge));
            says("data: ", () -> Logits.ofBatch(data, DType.F32, 2, 2, 3, huge, 3));
        }
    }

    /** More bytes than there are numbers is a wrong argument, not an ArithmeticException. */
    @Test
    void sizesBeyond64BitsAreRefusedInWords() {
        final FloatPointer data = new FloatPointer(12L);
        says("data: ", () -> Logits.of(new FloatPointer(data).capacity(Long.MAX_VALUE), DType.F32, Long.MAX_VALUE / 2, 3));
        says("data: ", () -> Floats.of(new FloatPointer(data).capacity(1L << 62)));
        final Logits endless = Logits.ofAddress(data.address(), Long.MAX_VALUE, DType.F16, 1, 1L << 61, 1, 0, 1, data);
        says("parts: expected length ", () -> VocabParallel.parts(endless, null, 0, 1, Temperature.ONE, Floats.of(data)));
    }

    @Test
    void noRowsNeedNoMemory() {
        assertEquals(0, Logits.ofAddress(0, 0, DType.F32, 1, 0, 7, 0, 7, null).rows());
        assertEquals(0, Logits.of(new FloatPointer(1L), DType.F32, 0, Integer.MAX_VALUE).rows());
        assertEquals(0, Logits.of(direct(0), DType.F16, 0, 5).rows());
        assertEquals(0, firstColumn(Logits.ofBatch(direct(4), DType.F32, 5, 0, 5, -9, -9)).length);
        assertEquals(0, Floats.ofAddress(0, 0, 0, null).length());
        assertEquals(0, Floats.ofFloats().toArray().length);
        assertEquals(0, Mask.allocate(0).length());
    }

    // ---- vectors ----

    @Test
    void vectorsReadAndWriteTheMemoryTheyView() {
        final FloatPointer data = new FloatPointer(1, 2, 3, 4);
        final Floats floats = Floats.of(new FloatPointer(data).position(1).limit(3));
        assertArrayEquals(new float[] {2, 3}, floats.toArray());
        floats.set(1, 30);
        assertEquals(30f, data.get(2));
        assertArrayEquals(new float[] {2, 30, 4}, Floats.of(new FloatPointer(data).position(1), 3).toArray());
        assertArrayEquals(new float[] {30, 4}, Floats.of(data, 4).slice(1, 4).slice(1, 3).toArray());
        assertSame(floats, floats.copyFrom(new float[] {-1, -2}));
        assertEquals(-2f, data.get(2));
        final ByteBuffer bytes = direct(32);
        bytes.putLong(8, -5L).putInt(24, 7);
        assertArrayEquals(new long[] {-5}, Indices.of(bytes.asLongBuffer().position(1).limit(2)).toArray());
        assertArrayEquals(new long[] {7, 0}, Indices.of(bytes.asIntBuffer().position(6)).toArray());
        assertEquals(8, Indices.of(new LongPointer(1, 2)).bytes());
        assertEquals(4, Indices.of(new IntPointer(1, 2)).bytes());
        assertArrayEquals(new long[] {Long.MIN_VALUE, Long.MAX_VALUE}, Indices.ofLongs(Long.MIN_VALUE, Long.MAX_VALUE).toArray());
        final Indices narrow = Indices.allocateInts(2);
        narrow.set(1, Integer.MIN_VALUE);
        assertEquals(Integer.MIN_VALUE, narrow.get(1));
        says("value: expected an int32, given 2147483648", () -> narrow.set(0, 1L << 31));
        assertArrayEquals(new boolean[] {true, false, true}, Mask.of(new BytePointer(new byte[] {1, 0, -1})).toArray());
        assertArrayEquals(new boolean[] {true, false}, Mask.of(new BoolPointer(2).put(0, true).put(1, false)).toArray());
        final Mask mask = Mask.ofBooleans(true, false, true);
        mask.slice(1, 3).set(0, true);
        assertArrayEquals(new boolean[] {true, true, true}, mask.toArray());
        assertTrue(Mask.of(direct(3).put(1, (byte) 9).order(other())).get(1), "bytes have no order");
    }

    @Test
    void vectorsRefuse() {
        final FloatPointer data = new FloatPointer(4L);
        final ByteBuffer readOnly = direct(16).asReadOnlyBuffer().order(ByteOrder.nativeOrder());
        says("length: expected at most 4 (data has 16 bytes), given 5", () -> Floats.of(data, 5));
        says("length: expected 0 or more, given -1", () -> Floats.of(data, -1));
        says("length: expected 0 or more, given -1", () -> Floats.allocate(-1));
        says("length: expected a size in bytes that fits 64 bits, given " + Long.MAX_VALUE, () -> Floats.allocate(Long.MAX_VALUE));
        says("length: expected a size in bytes that fits 64 bits", () -> Indices.allocateLongs(1L << 61));
        says("length: expected at most 1 (data has 7 bytes), given 2", () -> Floats.ofAddress(data.address(), 7, 2, null));
        says("length: expected at most 7", () -> Mask.ofAddress(data.address(), 7, 8, null));
        says("length: expected at most", () -> Indices.ofAddress(data.address(), 16, 8, Long.MAX_VALUE, null));
        says("bytes: expected 4 or 8, given 2", () -> Indices.ofAddress(data.address(), 16, 2, 1, null));
        says("data: expected an address that is a multiple of 8", () -> Indices.ofAddress(data.address() + 4, 8, 8, 1, null));
        says("data: expected elements of 4 bytes (or raw bytes), given a DoublePointer", () -> Floats.of(new DoublePointer(2L), 1));
        for (Executable call : new Executable[] {() -> Floats.of((FloatPointer) null), () -> Floats.of((FloatBuffer) null),
            () -> Indices.of((IntPointer) null), () -> Indices.of((LongPointer) null), () -> Indices.of((IntBuffer) null),
            () -> Indices.of((LongBuffer) null), () -> Mask.of((BytePointer) null), () -> Mask.of((BoolPointer) null),
            () -> Mask.of((ByteBuffer) null)}) {
            says("data: expected a value, given null", call);
        }
        says("values: expected a value, given null", () -> Floats.ofFloats((float[]) null));
        says("values: expected a value, given null", () -> Indices.ofInts((int[]) null));
        says("values: expected a value, given null", () -> Indices.ofLongs((long[]) null));
        says("counts: expected a value, given null", () -> Mask.ofBooleans((boolean[]) null));
        says("values: expected a value, given null", () -> Floats.of(data).copyFrom((float[]) null));
        says("values: expected length 4, given 3", () -> Floats.of(data).copyFrom(new float[3]));
        for (Executable call : new Executable[] {() -> Floats.of(FloatBuffer.allocate(1)), () -> Indices.of(IntBuffer.allocate(1)),
            () -> Indices.of(LongBuffer.allocate(1)), () -> Mask.of(ByteBuffer.allocate(1))}) {
            says("data: needs a direct buffer", call);
        }
        says("data: expected byte order", () -> Floats.of(direct(8).order(other()).asFloatBuffer()));
        says("data: expected byte order", () -> Indices.of(direct(8).order(other()).asIntBuffer()));
        says("data: expected byte order", () -> Indices.of(direct(8).order(other()).asLongBuffer()));
        for (Executable call : new Executable[] {() -> Floats.of(new FloatPointer(data).capacity(0)),
            () -> Floats.of(new Pointer(data).capacity(0), 1),
            () -> Mask.of(new BytePointer(data).capacity(0))}) {
            says("data: the Pointer does not know its size", call);
        }
        says("floats: expected memory that can be written, given a read-only buffer", () -> Floats.of(readOnly.asFloatBuffer()).set(0, 1));
        says("floats: expected memory that can be written", () -> Floats.of(readOnly.asFloatBuffer()).copyFrom(new float[4]));
        says("indices: expected memory that can be written", () -> Indices.of(readOnly.asIntBuffer()).set(0, 1));
        says("mask: expected memory that can be written", () -> Mask.of(readOnly).set(0, true));
        final Floats floats = Floats.of(data);
        for (long[] range : new long[][] {{-1, 0}, {0, 5}, {3, 2}}) {
            says("from, to: expected 0 <= from <= to <= 4", () -> floats.slice(range[0], range[1]));
            says("from, to: expected 0 <= from <= to <= 4", () -> Indices.allocateInts(4).slice(range[0], range[1]));
            says("from, to: expected 0 <= from <= to <= 4", () -> Mask.allocate(4).slice(range[0], range[1]));
        }
        for (long i : new long[] {-1, 4, Long.MAX_VALUE, Long.MIN_VALUE}) {
            for (Executable call : new Executable[] {() -> floats.get(i), () -> floats.set(i, 0), () -> Indices.allocateInts(4).get(i),
                () -> Indices.allocateInts(4).set(i, 0), () -> Mask.allocate(4).get(i), () -> Mask.allocate(4).set(i, true)}) {
                final String message = assertThrows(IndexOutOfBoundsException.class, call).getMessage();
                assertEquals("index: expected 0 .. 3, given " + i, message);
            }
        }
        final Floats endless = Floats.ofAddress(data.address(), Long.MAX_VALUE, 1L << 32, null);
        says("length: expected at most 2147483639 for a Java array, given 4294967296; take a slice", endless::toArray);
    }

    // ---- memory ----

    @Test
    void closedMemoryIsToldEverywhere() {
        final FloatPointer data = new FloatPointer(1, 2);
        final Logits logits = Logits.of(data, DType.F32, 1, 2);
        final Floats floats = Floats.of(data);
        final Floats slice = floats.slice(1, 2);
        final Logits byAddress = Logits.ofAddress(data.address(), 8, DType.F32, 1, 1, 2, 0, 2, data);
        floats.close();
        slice.close(); // does nothing: somebody else's memory
        assertEquals(2f, slice.get(0));
        data.close();
        closed("logits", logits::address);
        closed("logits", byAddress::address);
        closed("logits", () -> firstColumn(logits));
        closed("logits", () -> firstColumn(logits.rows(0, 1)));
        for (Executable call : new Executable[] {floats::address, slice::address, () -> floats.get(0), () -> floats.set(0, 1),
            floats::toArray,
            () -> floats.copyFrom(new float[2]), () -> floats.slice(0, 1).toArray()}) {
            closed("floats", call);
        }
        final Floats own = Floats.ofFloats(1, 2, 3);
        final Floats part = own.slice(1, 2);
        part.close(); // the slice of own memory closes all of it, twice does nothing
        own.close();
        closed("floats", own::toArray);
        closed("floats", part::toArray);
        final Indices indices = Indices.ofInts(1);
        indices.close();
        for (Executable call : new Executable[] {indices::address, () -> indices.get(0), () -> indices.set(0, 1),
            indices::toArray}) {
            closed("indices", call);
        }
        final Mask mask = Mask.ofBooleans(true);
        mask.close();
        for (Executable call : new Executable[] {mask::address, () -> mask.get(0), () -> mask.set(0, true), mask::toArray}) {
            closed("mask", call);
        }
    }

    /** The buffers of an Arena, which Java has had since 22, here by reflection; another thread may use them until it is closed. */
    @Test
    void aClosedArenaIsToldAsAClosedPointerIs() throws Exception {
        assumeTrue(Runtime.version().feature() >= 22, "no Arena in this Java");
        final Class<?> type = Class.forName("java.lang.foreign.Arena");
        for (String kind : new String[] {"ofConfined", "ofShared"}) {
            final AutoCloseable arena = (AutoCloseable) type.getMethod(kind).invoke(null);
            final Object segment = type.getMethod("allocate", long.class, long.class).invoke(arena, 64L, 8L);
            final ByteBuffer bytes = ((ByteBuffer) Class.forName("java.lang.foreign.MemorySegment").getMethod("asByteBuffer").invoke(segment))
                    .order(ByteOrder.nativeOrder());
            final Logits logits = Logits.of(bytes, DType.F32, 2, 2);
            final Floats floats = Floats.of(bytes.asFloatBuffer());
            final Indices ints = Indices.of(bytes.asIntBuffer());
            final Indices longs = Indices.of(bytes.asLongBuffer());
            final Mask mask = Mask.of(bytes);
            final List<Float> elsewhere = new ArrayList<>();
            final Thread thread = new Thread(() -> elsewhere.add(firstColumn(logits)[1]));
            thread.start();
            thread.join();
            assertEquals(List.of(-(float) Math.log(2)), elsewhere);
            arena.close();
            closed("logits", () -> firstColumn(logits));
            closed("logits", () -> firstColumn(logits.rows(0, 1)));
            closed("floats", floats::toArray);
            closed("floats", () -> floats.slice(1, 2).set(0, 1));
            closed("indices", ints::toArray);
            closed("indices", longs::toArray);
            closed("mask", mask::toArray);
            assertThrows(IllegalStateException.class, () -> Logits.of(bytes, DType.F32, 2, 2));
        }
    }

    @Test
    void aPointerScopeOwnsWhatIsAllocatedInIt() {
        final Floats inside;
        final PolicyLoss loss;
        final Floats outside = Floats.ofFloats(5);
        final Floats view;
        try (PointerScope scope = new PointerScope()) {
            assertSame(scope, PointerScope.getInnerScope());
            inside = Floats.ofFloats(1);
            loss = new PolicyLoss(3, false);
            view = Floats.of(new FloatPointer(1f, 2f));
            assertEquals(1f, inside.get(0));
        }
        closed("floats", () -> inside.get(0));
        closed("floats", () -> view.get(0));
        closed("stats", () -> loss.stats().loss());
        assertEquals(5f, outside.get(0));
    }

    @Test
    void positionAndLimitCountWhenTheViewIsMade() {
        final FloatPointer data = new FloatPointer(1, 2, 3, 4);
        data.position(2);
        final Floats two = Floats.of(data);
        final Logits row = Logits.of(data, DType.F32, 1, 2);
        final float before = firstColumn(row)[0];
        data.position(0).limit(1);
        assertArrayEquals(new float[] {3, 4}, two.toArray());
        assertEquals(before, firstColumn(row)[0]);
    }

    /** What a view is made from stays reachable as long as the view is, and no longer. */
    @Test
    void aViewKeepsItsOwnerReachable() throws InterruptedException {
        final WeakReference<?>[] owners = new WeakReference<?>[4];
        Object[] views = views(owners);
        for (int i = 0; i < 5; i++) {
            System.gc();
            Thread.sleep(10);
        }
        for (WeakReference<?> owner : owners) {
            assertFalse(owner.refersTo(null), "collected under a live view");
        }
        assertEquals(7f, ((Floats) views[0]).get(0));
        assertEquals(4, views.length);
        views = null;
        for (int i = 0; i < 100 && !(owners[0].refersTo(null) && owners[3].refersTo(null)); i++) {
            System.gc();
            Thread.sleep(10);
        }
        assertNull(owners[0].get(), "a view that is gone keeps nothing");
        assertNull(owners[3].get(), "a view that is gone keeps nothing");
    }

    private static Object[] views(WeakReference<?>[] owners) {
        final FloatPointer pointer = new FloatPointer(7, 8);
        final ByteBuffer buffer = direct(8);
        final FloatBuffer floats = direct(8).asFloatBuffer();
        final Object tensor = new Object();
        owners[0] = new WeakReference<>(pointer);
        owners[1] = new WeakReference<>(buffer);
        owners[2] = new WeakReference<>(floats);
        owners[3] = new WeakReference<>(tensor);
        return new Object[] {Floats.of(pointer).slice(0, 1), Logits.of(buffer, DType.F32, 1, 2).rows(0, 1),
            Floats.of(floats).slice(1, 2),
            Indices.ofAddress(new LongPointer(1L).address(), 8, 8, 1, tensor)};
    }

    // ---- what configures a call ----

    @Test
    void configurationsRefuse() {
        for (float bad : new float[] {-1, -0.001f, 2e30f, Float.NaN, Float.POSITIVE_INFINITY, Float.NEGATIVE_INFINITY}) {
            says("temperature: expected 0 to 1e30, given " + bad, () -> Temperature.of(bad));
        }
        says("temperatures: expected a value, given null", () -> Temperature.perRow(null));
        says("topK: expected 0 or more, given -1", () -> new SamplingConfig(-1, 1, 0));
        for (float bad : new float[] {0, -1, 1.0001f, Float.NaN, Float.POSITIVE_INFINITY}) {
            says("topP: expected more than 0 and at most 1, given " + bad, () -> SamplingConfig.ALL.withTopP(bad));
        }
        for (float bad : new float[] {-0.1f, 1.5f, Float.NaN}) {
            says("minP: expected 0 to 1, given " + bad, () -> SamplingConfig.ALL.withMinP(bad));
        }
        assertEquals(new SamplingConfig(5, 0.5f, 0.25f), SamplingConfig.ALL.withTopK(5).withTopP(0.5f).withMinP(0.25f));

        final SurrogateConfig c = SurrogateConfig.PAPER;
        final double inf = Double.POSITIVE_INFINITY;
        says("ratio: expected a value, given null", () -> c.withRatio(null));
        says("klTerm: expected a value, given null", () -> c.withKl(null, 0));
        says("klAggregation: expected a value, given null", () -> c.withKlAggregation(null));
        says("aggregation: expected a value, given null", () -> c.withAggregation(null));
        says("advantagePer: expected a value, given null", () -> c.withAdvantagePer(null));
        for (double bad : new double[] {-0.1, 1.1, Double.NaN, -inf}) {
            says("epsLow: expected 0 to 1, or +inf, given " + bad, () -> c.withClip(bad, 0));
        }
        for (double bad : new double[] {-0.1, Double.NaN, -inf}) {
            says("epsHigh: expected 0 or more, given " + bad, () -> c.withClip(0, bad));
            says("beta: expected 0 or more and finite, given " + bad, () -> c.withKl(KlTerm.K1, bad));
        }
        for (double bad : new double[] {1, 0, -3, Double.NaN}) {
            says("dualClip: expected more than 1, given " + bad, () -> c.withDualClip(bad));
        }
        says("beta: expected 0 or more and finite, given Infinity", () -> c.withKl(KlTerm.K1, inf));
        for (double bad : new double[] {inf, -inf, Double.NaN}) {
            says("entropyCoef: expected a finite number, given " + bad, () -> c.withEntropyCoef(bad));
        }
        for (double bad : new double[] {0, -1, inf, Double.NaN}) {
            says("fixedLength: expected more than 0 and finite, for FIXED_LENGTH, given " + bad, () -> c.withFixedLength(bad));
        }
        says("fixedLength: expected more than 0", () -> c.withKlAggregation(Aggregation.FIXED_LENGTH));
        says("totalTokens: expected 0 or more, given -1", () -> c.withTotals(-1, 0));
        says("totalMessages: expected 0 or more, given -1", () -> c.withTotals(0, -1));
    }

    /** Each "with" changes what it names and nothing else. */
    @Test
    void everyWithChangesItsOwnComponent() {
        final SurrogateConfig c = SurrogateConfig.PAPER.withRatio(Ratio.TOKEN).withClip(0.1,
                0.3).withDualClip(4).withKl(KlTerm.K3, 0.5)
                .withKlAggregation(Aggregation.TOKEN_MEAN).withEntropyCoef(0.7).withFixedLength(9).withTotals(11, 12)
                .withAdvantagePer(AdvantagePer.TOKEN);
        assertEquals(new SurrogateConfig(Ratio.TOKEN, 0.1, 0.3, 4, KlTerm.K3, 0.5, Aggregation.TOKEN_MEAN, 0.7,
                Aggregation.FIXED_LENGTH, 9, 11, 12, AdvantagePer.TOKEN), c);
        assertEquals(c, c.withAggregation(Aggregation.TOKEN_MEAN).withFixedLength(9).withAggregation(Aggregation.FIXED_LENGTH));
    }
}
