package org.teamtr.kernels;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Random;
import org.bytedeco.javacpp.FloatPointer;
import org.bytedeco.javacpp.PointerScope;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;

/**
 * On a GPU: device memory, streams, events and copies as a program uses them, and the kernels behind them against the CPU's.
 *
 * <pre>
 * ./mvnw test -Dcmake.cuda=ON -Dsimt.skip -Pcuda -Dtest.excludedGroups=large -Dgroups=cuda
 * </pre>
 *
 * The other tests of the kernels run on a GPU that reaches the JVM's memory, see {@link TestDevice}.
 */
@Tag("cuda")
class CudaTest {
    private static final Device GPU = Device.cuda(0);
    private static final int ROWS = 300;
    private static final int VOCAB = 5_003;

    /** Old and new logits, near each other, and what else a step needs, on the host. */
    private static final class Batch {
        final FloatPointer oldMemory = new FloatPointer((long) ROWS * VOCAB);
        final FloatPointer newMemory = new FloatPointer((long) ROWS * VOCAB);
        final Logits old = Logits.of(oldMemory, DType.F32, ROWS, VOCAB);
        final Logits fresh = Logits.of(newMemory, DType.F32, ROWS, VOCAB);
        final Indices targets;
        final Indices bounds = Indices.ofLongs(0, 100, ROWS);
        final Floats advantages = Floats.ofFloats(1, -0.5f);
        final Floats logProbsOld = Floats.allocate(ROWS);

        Batch() {
            final Random random = new Random(5);
            for (long i = 0; i < (long) ROWS * VOCAB; i++) {
                oldMemory.put(i, (float) (3 * random.nextGaussian()));
                newMemory.put(i, (float) (oldMemory.get(i) + 0.01 * random.nextGaussian()));
            }
            targets = Indices.ofInts(random.ints(ROWS, 0, VOCAB).toArray());
            targets.set(7, Indices.IGNORE);
            LogProbs.forward(old, targets, Temperature.ONE, logProbsOld, null, null);
        }
    }

    private static void near(float[] expected, float[] given, double limit) {
        assertEquals(expected.length, given.length);
        for (int i = 0; i < expected.length; i++) {
            assertEquals(expected[i], given[i], limit * (1 + Math.abs(expected[i])), "element " + i);
        }
    }

    private static CudaMemory copy(Device device, Logits host) {
        final CudaMemory memory = CudaMemory.allocate(device, host.rows() * host.vocab() * host.dtype().bytes());
        Logits.of(device, memory, host.dtype(), host.rows(), host.vocab()).copyFrom(host);
        return memory;
    }

    private static float[] numbers(Logits device) {
        final FloatPointer host = new FloatPointer(device.rows() * device.vocab());
        Logits.of(host, DType.F32, device.rows(), device.vocab()).copyFrom(device);
        final float[] numbers = new float[(int) (device.rows() * device.vocab())];
        host.get(numbers);
        return numbers;
    }

    /**
     * How far two losses of these settings may be apart. The loss is a double sum that both sides make alike, of log-probs that
     * they sum in another order: f32 values, of which each may differ in its last places. With D_m the sum over message m's
     * tokens of the log-probs' differences, its ratio is w_m on one side and w_m exp(D_m) on the other. w A and clip(w) A, hence
     * their minimum, change by at most |A| w_m |exp(D_m) - 1|, and the loss is the mean over messages, so by at most the mean of
     * these. 1e-12 is for the doubles. The log-probs themselves are held to 1e-6 beside this.
     */
    private static double lossLimit(PolicyLoss onHost, PolicyLoss onDevice, Batch b) {
        final float[] expected = onHost.logProbs().toArray();
        final float[] given = onDevice.logProbs().toHost().toArray();
        near(expected, given, 1e-6);
        final int messages = (int) b.advantages.length();
        double sum = 0;
        for (int m = 0; m < messages; m++) {
            double logRatio = 0;
            double difference = 0;
            for (long u = b.bounds.get(m); u < b.bounds.get(m + 1); u++) {
                if (b.targets.get(u) != Indices.IGNORE) {
                    logRatio += (double) expected[(int) u] - b.logProbsOld.get(u);
                    difference += (double) given[(int) u] - expected[(int) u];
                }
            }
            sum += Math.abs(b.advantages.get(m)) * Math.exp(logRatio) * Math.expm1(Math.abs(difference));
        }
        return sum / messages + 1e-12;
    }

    /** On the default stream and on one of its own: log-probs, exact KL, policy loss with its statistics, and the gradient. */
    @Test
    void aStepOnTheDevice() {
        final Batch b = new Batch();
        final Floats expected = Floats.allocate(ROWS);
        final Floats expectedKl = Floats.allocate(ROWS);
        LogProbs.forward(b.fresh, b.targets, Temperature.ONE, expected, null, null);
        TokenKl.oldNew(b.old, b.fresh, expectedKl);
        final FloatPointer gradient = new FloatPointer((long) ROWS * VOCAB);
        final Logits dHost = Logits.of(gradient, DType.F32, ROWS, VOCAB);
        final PolicyLoss onHost = new PolicyLoss(ROWS, true);
        onHost.forwardBackward(SurrogateConfig.PAPER, b.fresh, b.old, b.targets, Temperature.ONE, b.logProbsOld, b.advantages,
                b.bounds, null, null, dHost);
        try (CudaStream stream = new CudaStream(0)) {
            for (Device device : new Device[] {GPU, stream.device()}) {
                try (PointerScope scope = new PointerScope();
                        PolicyLoss loss = new PolicyLoss(device, ROWS, true)) {
                    final Logits old = Logits.of(device, copy(device, b.old), DType.F32, ROWS, VOCAB);
                    final Logits fresh = Logits.of(device, copy(device, b.fresh), DType.F32, ROWS, VOCAB);
                    final Indices targets = Indices.allocateInts(device, ROWS).copyFrom(b.targets);
                    final Floats logProbs = Floats.allocate(device, ROWS);
                    final Floats kl = Floats.allocate(device, ROWS);
                    LogProbs.forward(fresh, targets, Temperature.ONE, logProbs, null, null);
                    TokenKl.oldNew(old, fresh, kl);
                    near(expected.toArray(), logProbs.toHost().toArray(), 1e-6);
                    final float[] klHost = expectedKl.toArray();
                    final float[] klDevice = kl.toHost().toArray();
                    for (int r = 0; r < ROWS; r++) {
                        assertEquals(klHost[r], klDevice[r], 1e-4 * klHost[r]);
                    }
                    assertTrue(Double.isNaN(loss.stats().loss()), "before the first call");
                    final Floats logProbsOld = Floats.allocate(device, ROWS).copyFrom(b.logProbsOld);
                    final Floats advantages = Floats.allocate(device, 2).copyFrom(b.advantages);
                    final Indices bounds = Indices.allocateLongs(device, 3).copyFrom(b.bounds);
                    final CudaMemory gradients = CudaMemory.allocate(device, 4L * ROWS * VOCAB);
                    for (Logits d : new Logits[] {Logits.of(device, gradients, DType.F32, ROWS, VOCAB), fresh}) { // then in place
                        loss.forwardBackward(SurrogateConfig.PAPER, fresh, old, targets, Temperature.ONE, logProbsOld, advantages,
                                bounds, null, null, d);
                        assertEquals(onHost.stats().loss(), loss.stats().loss(), lossLimit(onHost, loss, b));
                        assertEquals(onHost.stats().monitorExact(), loss.stats().monitorExact(), 1e-4);
                        near(onHost.entropy().toArray(), loss.entropy().toHost().toArray(), 1e-5);
                    }
                    final float[] given = numbers(fresh);
                    for (int i = 0; i < given.length; i++) {
                        assertEquals(gradient.get(i), given[i], 1e-8 + 1e-5 * Math.abs(gradient.get(i)));
                    }
                }
            }
        }
    }

    @Test
    void memoryAndItsViews() {
        final CudaMemory memory = CudaMemory.allocate(GPU, 64);
        assertEquals(GPU, memory.device());
        assertEquals(64, memory.capacity());
        final Floats floats = Floats.of(GPU, memory, 16);
        assertArrayEquals(new float[16], floats.toHost().toArray(), "zeros");
        assertThrows(IllegalStateException.class, floats::toArray);
        floats.slice(2, 5).copyFrom(Floats.ofFloats(1, 2, 3));
        assertArrayEquals(new float[] {0, 1, 2, 3, 0}, floats.slice(1, 6).toHost().toArray());
        final Floats other = Floats.allocate(GPU, 16).copyFrom(floats);
        assertEquals(3, other.toHost().get(4));
        memory.close();
        memory.close();
        assertThrows(IllegalStateException.class, floats::toHost);
        assertThrows(IllegalArgumentException.class, () -> Floats.of(GPU, memory, 16));
        assertEquals(0, Floats.allocate(GPU, 0).toHost().length());
        final Mask mask = Mask.allocate(GPU, 3).copyFrom(Mask.ofBooleans(true, false, true));
        assertArrayEquals(new boolean[] {true, false, true}, mask.toHost().toArray());
        assertThrows(DeviceException.class, () -> CudaMemory.allocate(GPU, 1L << 50), "more than any device has");
        assertArrayEquals(new float[] {1, 2, 3}, other.slice(2, 5).toHost().toArray(), "a failed allocation spoils nothing");
    }

    /** Far more than the limit that JavaCPP sets for memory of the host. */
    @Test
    void deviceMemoryIsNotCountedAgainstTheJavaHeap() {
        final long before = org.bytedeco.javacpp.Pointer.totalBytes();
        try (CudaMemory memory = CudaMemory.allocate(GPU, 256L << 20)) {
            assertTrue(org.bytedeco.javacpp.Pointer.totalBytes() - before < 1 << 20);
            assertEquals(256L << 20, memory.limit());
        }
    }

    /** A padded matrix and back: what pads the rows stays as it is. */
    @Test
    void copiesOfPaddedLogits() {
        final FloatPointer host = new FloatPointer(1, 2, -1, 3, 4, -1);
        try (CudaMemory memory = CudaMemory.allocate(GPU, 32)) {
            final Logits device = Logits.of(GPU, memory, DType.F32, 2, 2, 4).copyFrom(Logits.of(host, DType.F32, 2, 2, 3));
            assertArrayEquals(new float[] {1, 2, 0, 0, 3, 4, 0, 0}, Floats.of(GPU, memory, 8).toHost().toArray());
            final FloatPointer back = new FloatPointer(7, 7, 7, 7, 7, 7);
            Logits.of(back, DType.F32, 2, 2, 3).copyFrom(device);
            for (int i = 0; i < 6; i++) {
                assertEquals(i % 3 == 2 ? 7 : host.get(i), back.get(i));
            }
        }
    }

    @Test
    void streamsAndEvents() {
        try (CudaStream one = new CudaStream(0); CudaStream two = new CudaStream(0); CudaEvent start = new CudaEvent(0);
                CudaEvent end = new CudaEvent(0); CudaMemory memory = CudaMemory.allocate(one.device(), 64L << 20)) {
            assertNotEquals(one.device(), two.device());
            assertNotEquals(0, one.device().stream());
            final Logits logits = Logits.of(one.device(), memory, DType.F32, 1_024, 16_384);
            final Floats lse = Floats.allocate(one.device(), 1_024);
            LogProbs.forward(logits, null, Temperature.ONE, null, lse, null);
            start.record(one.device());
            LogProbs.forward(logits, null, Temperature.ONE, null, lse, null);
            end.record(one.device());
            final float millis = end.elapsedMillis(start);
            assertTrue(millis > 0 && millis < 1_000, millis + " ms");
            two.waitFor(end); // orders the other stream's copy behind the kernel
            final Floats elsewhere = Floats.ofAddress(two.device(), lse.address(), 4 * lse.length(), lse.length(), lse);
            assertEquals((float) Math.log(16_384), elsewhere.toHost().get(1_023), 1e-5f);
            one.synchronize();
            end.synchronize();
            one.device().synchronize();
            final IllegalArgumentException e =
                    assertThrows(IllegalArgumentException.class, () -> LogProbs.forward(logits, null, Temperature.ONE, null, elsewhere, null));
            assertTrue(e.getMessage().startsWith("lse: expected memory of " + one.device()), e.getMessage());
        }
        final CudaStream closed = new CudaStream(0);
        closed.close();
        closed.close();
        assertThrows(IllegalStateException.class, closed::synchronize);
        final CudaEvent event = new CudaEvent(0);
        event.close();
        event.close();
        assertThrows(IllegalStateException.class, event::synchronize);
        assertThrows(IllegalArgumentException.class, () -> new CudaStream(99));
    }

    @Test
    void addressesThatTheDeviceCannotUse() {
        assertFalse(Backend.current().cudaDevices().isEmpty());
        assertThrows(IllegalArgumentException.class, () -> Floats.allocate(Device.cuda(99), 1));
        final FloatPointer host = new FloatPointer(1L);
        try (Floats onHost = Floats.allocate(1); Floats onDevice = Floats.allocate(GPU, 1)) {
            final Logits logits = Logits.of(host, DType.F32, 1, 1);
            assertThrows(IllegalArgumentException.class, () -> LogProbs.forward(logits, null, Temperature.ONE, null, onDevice, null));
            LogProbs.forward(logits, null, Temperature.ONE, null, onHost, null);
        }
    }
}
