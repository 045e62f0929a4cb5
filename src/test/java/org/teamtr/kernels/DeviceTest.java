package org.teamtr.kernels;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.nio.ByteBuffer;
import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.javacpp.FloatPointer;
import org.bytedeco.javacpp.IntPointer;
import org.bytedeco.javacpp.LongPointer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;

/** {@link Device}: values, what views say of it, copies, and what is refused where there is no device. */
class DeviceTest {
    private static final Device HOST = Memory.hostDevice;
    private static final Device GPU = Device.cuda(0);

    private static void says(Class<? extends RuntimeException> type, String starts, Executable call) {
        final RuntimeException e = assertThrows(type, call, starts);
        assertTrue(e.getMessage().startsWith(starts), "expected \"" + starts + "...\", given \"" + e.getMessage() + "\"");
    }

    @Test
    void values() {
        assertEquals(new Device(-1, 0), Device.CPU);
        assertEquals(new Device(3, 0x1a), Device.cuda(3, 0x1a));
        assertEquals(Device.cuda(0, 0), Device.cuda(0));
        assertFalse(Device.cuda(0).equals(Device.cuda(0, 1)));
        assertFalse(Device.CPU.isCuda());
        assertTrue(GPU.isCuda());
        assertEquals("cpu", Device.CPU.toString());
        assertEquals("cuda:0", GPU.toString());
        assertEquals("cuda:2 stream 0xff", Device.cuda(2, 255).toString());
        says(IllegalArgumentException.class, "index: expected 0 or more, given -1", () -> Device.cuda(-1));
        says(IllegalArgumentException.class, "index: expected the number of a CUDA device, or -1 for the CPU, given -2",
                () -> new Device(-2, 0));
        says(IllegalArgumentException.class, "stream: expected 0 on the CPU, given 0x7", () -> new Device(-1, 7));
        Device.CPU.synchronize();
    }

    @Test
    void viewsAndTheirPartsKeepTheirDevice() {
        try (Floats floats = Floats.allocate(4); Indices ints = Indices.ofInts(1, 2);
                Indices longs = Indices.allocateLongs(Device.CPU, 2); Mask mask = Mask.allocate(2)) {
            final Logits logits = Logits.ofAddress(floats.address(), 16, DType.F32, 2, 1, 2, 2, 2, floats);
            for (NativeView view : new NativeView[] {floats, floats.slice(1, 2), ints, ints.slice(0, 1), longs, mask,
                mask.slice(0, 1), logits, logits.rows(1, 2), logits.rows(1, 1), Floats.of(Device.CPU, new FloatPointer(2L), 2),
                Floats.of(java.nio.ByteBuffer.allocateDirect(8).order(java.nio.ByteOrder.nativeOrder()).asFloatBuffer())}) {
                assertEquals(HOST, view.device(), view.toString());
            }
        }
    }

    @Test
    void copiesBetweenHostViews() {
        try (Floats a = Floats.ofFloats(1, 2, 3); Floats b = Floats.allocate(3); Indices i = Indices.ofInts(4, 5);
                Indices l = Indices.ofLongs(6, 7); Mask m = Mask.ofBooleans(true, false)) {
            assertSame(b, b.copyFrom(a));
            assertArrayEquals(new float[] {1, 2, 3}, b.toArray());
            b.slice(0, 1).copyFrom(a.slice(2, 3));
            assertArrayEquals(new float[] {3, 2, 3}, b.toArray());
            assertArrayEquals(new float[] {2, 3}, a.slice(1, 3).toHost().toArray());
            assertArrayEquals(new long[] {4, 5}, Indices.allocateInts(2).copyFrom(i).toArray());
            assertArrayEquals(new long[] {7}, l.slice(1, 2).toHost().toArray());
            assertArrayEquals(new boolean[] {true, false}, m.toHost().toArray());
            assertEquals(0, a.slice(1, 1).toHost().length());
            says(IllegalArgumentException.class, "source: expected length 3 (that of this vector), given 2",
                    () -> a.copyFrom(a.slice(0, 2)));
            says(IllegalArgumentException.class, "source: expected int32, given int64", () -> i.copyFrom(l));
            says(IllegalArgumentException.class, "source: expected length 2 (that of this mask), given 1",
                    () -> m.copyFrom(Mask.allocate(1)));
            says(IllegalArgumentException.class, "source: expected a value, given null", () -> a.copyFrom((Floats) null));
            says(IllegalArgumentException.class, "floats: expected memory apart from source, given an overlap",
                    () -> a.slice(0, 2).copyFrom(a.slice(1, 3)));
            says(IllegalArgumentException.class, "mask: expected memory that can be written",
                    () -> Mask.of(ByteBuffer.allocateDirect(2).asReadOnlyBuffer()).copyFrom(m));
            final Floats closed = Floats.allocate(3);
            closed.close();
            says(IllegalStateException.class, "source: its memory was closed", () -> a.copyFrom(closed));
            says(IllegalStateException.class, "floats: its memory was closed", () -> closed.copyFrom(a));
        }
    }

    /** From and to blocks of padded rows, which a copy leaves as it finds them. */
    @Test
    void copiesOfLogits() {
        final FloatPointer from = new FloatPointer(0, 1, 9, 2, 3, 9, 9, 9, 4, 5, 9, 6, 7, 9);
        final Logits source = Logits.ofBatch(from, DType.F32, 2, 2, 2, 8, 3);
        final FloatPointer dense = new FloatPointer(8L);
        final Logits d = Logits.of(dense, DType.F32, 4, 2);
        assertSame(d, d.copyFrom(source));
        final FloatPointer again = new FloatPointer(8L);
        Logits.of(again, DType.F32, 4, 2).copyFrom(d);
        final FloatPointer padded = new FloatPointer(-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
        Logits.of(padded, DType.F32, 4, 2, 3).copyFrom(d);
        for (int i = 0; i < 8; i++) {
            assertEquals(i, dense.get(i));
            assertEquals(i, again.get(i));
            assertEquals(i, padded.get(i / 2 * 3 + i % 2));
        }
        assertEquals(-1, padded.get(2));
        assertEquals(-1, padded.get(8));
        d.rows(0, 0).copyFrom(source.rows(4, 4));
        says(IllegalArgumentException.class, "source: expected 4 x 2 F32 (as these logits), given 3 x 2 F32", () -> d.copyFrom(source.rows(0, 3)));
        says(IllegalArgumentException.class, "logits: expected memory apart from source", () -> d.rows(0, 2).copyFrom(d.rows(1, 3)));
        final Logits interleaved = Logits.ofBatch(from, DType.F32, 2, 2, 3, 3, 6);
        assertFalse(interleaved.overlapsItself());
        final Logits overlapping = Logits.ofBatch(from, DType.F32, 2, 2, 3, 4, 4);
        says(IllegalArgumentException.class, "logits: expected rows that do not overlap", () -> overlapping.copyFrom(interleaved));
    }

    /** Every way to ask for a device says why there is none. */
    @Test
    void withoutADevice() {
        final String why = Backend.current().whyNoCuda();
        assumeTrue(why != null, "there is a CUDA device");
        final FloatPointer floats = new FloatPointer(4L);
        final BytePointer bytes = new BytePointer(8);
        final Executable[] asks = {
            () -> Floats.of(GPU, floats, 4), () -> Floats.allocate(GPU, 4), () -> Floats.ofAddress(GPU, 64, 16, 4, null),
            () -> Indices.of(GPU, new IntPointer(4L)), () -> Indices.of(GPU, new LongPointer(4L)),
            () -> Indices.allocateInts(GPU, 4), () -> Indices.allocateLongs(GPU, 4),
            () -> Indices.ofAddress(GPU, 64, 16, 4, 4, null),
            () -> Mask.of(GPU, bytes), () -> Mask.allocate(GPU, 4), () -> Mask.ofAddress(GPU, 64, 16, 4, null),
            () -> Logits.of(GPU, floats, DType.F32, 2, 2), () -> Logits.of(GPU, floats, DType.F32, 1, 2, 2),
            () -> Logits.ofBatch(GPU, floats, DType.F32, 1, 2, 2, 4, 2),
            () -> Logits.ofAddress(GPU, 64, 16, DType.F32, 1, 2, 2, 4, 2, null),
            () -> new SurrogateStats(GPU), () -> new PolicyLoss(GPU, 4, true), () -> CudaMemory.allocate(GPU, 4),
            () -> new CudaStream(0), () -> new CudaEvent(0), GPU::synchronize};
        for (Executable ask : asks) {
            says(DeviceException.class, "device: expected cpu, given cuda:0: " + why, ask);
        }
        assertTrue(Backend.current().cudaDevices().isEmpty());
        assertFalse(why.isBlank());
    }

    @Test
    void placesThatAreNoDevice() {
        says(IllegalArgumentException.class, "device: expected a value, given null", () -> Floats.allocate(null, 4));
        says(IllegalArgumentException.class, "device: expected a value, given null", () -> Floats.of(null, new FloatPointer(2L), 2));
        says(IllegalArgumentException.class, "device: expected a value, given null", () -> new PolicyLoss(null, 4, true));
        says(IllegalArgumentException.class, "device: expected a value, given null", () -> new SurrogateStats(null));
        says(IllegalArgumentException.class, "device: expected a CUDA device, given cpu", () -> CudaMemory.allocate(Device.CPU, 4));
        if (Backend.current().whyNoCuda() == null) {
            says(IllegalArgumentException.class, "device: expected cuda:0 to cuda:", () -> Floats.ofAddress(Device.cuda(99), 64, 4, 1, null));
            assertNotNull(Backend.current().cudaDevices().get(0));
        }
    }
}
