package org.teamtr.kernels;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;
import static org.teamtr.kernels.KernelTable.KERNELS;
import static org.teamtr.kernels.KernelTable.ROWS;
import static org.teamtr.kernels.KernelTable.VOCAB;

import java.util.Arrays;
import java.util.function.Consumer;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.teamtr.kernels.KernelTable.Arg;
import org.teamtr.kernels.KernelTable.Args;
import org.teamtr.kernels.KernelTable.Kernel;
import org.teamtr.kernels.KernelTable.Kind;

/**
 * Where the contract of {@link Device} differs from the CPU's: contents that are wrong make their row NaN, leave every other row
 * as it was to the bit, and are never read through; and Java does not look at device memory.
 */
class DeviceContractTest {
    private static final long[] BAD_TARGETS = {VOCAB, -1, -99, -101, Integer.MAX_VALUE, Integer.MIN_VALUE, Long.MAX_VALUE,
        Long.MIN_VALUE, 1L << 32, (1L << 32) - 100};

    @BeforeEach
    void onADevice() {
        assumeTrue(TestDevice.CUDA, "the kernels of this test run are the CPU's");
    }

    private static float[] numbers(Args args, Arg arg) {
        final float[] numbers = new float[arg.bytes() / 4];
        for (int i = 0; i < numbers.length; i++) {
            numbers[i] = args.arena.getFloat(args.regions.get(arg.name()) + 4 * i);
        }
        return numbers;
    }

    /** One row of the contents is bad: its outputs are NaN (tokens: -1), the others' as without it, and nothing else changed. */
    private static void rowIsNaN(Kernel kernel, int row, String what, Consumer<Args> spoil) {
        final Args good = new Args(kernel);
        kernel.call().accept(good);
        final Args bad = new Args(kernel);
        spoil.accept(bad);
        final byte[] before = bad.bytes();
        kernel.call().accept(bad);
        final byte[] after = bad.bytes();
        for (Arg arg : kernel.args()) {
            final int at = bad.regions.get(arg.name());
            final int behind = at + (arg.output() ? arg.bytes() : 0);
            assertTrue(Arrays.equals(before, behind, at + KernelTable.REGION, after, behind, at + KernelTable.REGION),
                    kernel.name() + ", " + what + ": wrote at or behind " + arg.name());
            if (!arg.output()) {
                continue;
            }
            final float[] given = numbers(bad, arg);
            final float[] expected = numbers(good, arg);
            final int width = given.length / ROWS;
            for (int i = 0; i < given.length; i++) {
                final String where = kernel.name() + ", " + what + ": " + arg.name() + "[" + i + "] is " + given[i];
                final boolean sharesARatio = kernel.name().equals("PolicyLoss");
                if (i / width == row) {
                    assertTrue(arg.kind() == Kind.IDS ? Float.floatToRawIntBits(given[i]) == -1 : Float.isNaN(given[i]), where);
                } else if (!sharesARatio) {
                    assertEquals(Float.floatToRawIntBits(expected[i]), Float.floatToRawIntBits(given[i]), where);
                }
            }
        }
    }

    @Test
    void aTargetOutsideTheVocabulary() {
        int kernels = 0;
        for (Kernel kernel : KERNELS) {
            if (kernel.args().stream().anyMatch(a -> a.name().equals("targets")) && !kernel.name().endsWith("merge")) {
                kernels++;
                for (long bad : BAD_TARGETS) {
                    rowIsNaN(kernel, 0, "target " + bad, args -> args.views.put("targets", Indices.ofLongs(bad, VOCAB - 1, Indices.IGNORE)));
                    if (bad == (int) bad) {
                        rowIsNaN(kernel, 0, "target " + bad, args -> args.arena.putInt(args.regions.get("targets"), (int) bad));
                    }
                }
            }
        }
        assertEquals(10, kernels);
    }

    @Test
    void aTemperatureOutOfRange() {
        int kernels = 0;
        for (Kernel kernel : KERNELS) {
            if (kernel.args().contains(KernelTable.TEMPERATURE)) {
                kernels++;
                for (float bad : new float[] {-1, Float.NaN, Float.POSITIVE_INFINITY, Float.NEGATIVE_INFINITY, 2e30f, -0x1p-140f, 0}) {
                    if (bad != 0 || !kernel.name().equals("Sampling")) {
                        rowIsNaN(kernel, 1, "temperature " + bad, args -> args.floats("temperature").set(1, bad));
                    }
                }
            }
        }
        assertEquals(12, kernels);
    }

    /** Both the statistics and the outputs, whichever bound is wrong and however far. */
    @Test
    void boundsThatDoNotBoundTheTokens() {
        final long[][] wrong = {{1, 1, ROWS}, {0, 4, ROWS}, {0, -1, ROWS}, {0, 1, 2}, {0, 1, 4}, {0, 2, 1}, {-1, 1, ROWS},
            {0, 1, Long.MAX_VALUE}, {0, Long.MIN_VALUE, ROWS}, {Long.MIN_VALUE, 0, ROWS}, {0, 1L << 32, ROWS}};
        for (long[] bounds : wrong) {
            final String what = Arrays.toString(bounds);
            final Args k = new Args(KernelTable.named("SampledKl"));
            k.views.put("cuSeqlens", Indices.ofLongs(bounds));
            KernelTable.named("SampledKl").call().accept(k);
            allNaN(k.floats("perMessage"), what);

            final Args s = new Args(KernelTable.named("Surrogate"));
            try (SurrogateStats stats = new SurrogateStats()) {
                Surrogate.compute(KernelTable.CONFIG, s.floats("logProbsNew"), s.floats("logProbsOld"), s.floats("advantages"),
                        Indices.ofLongs(bounds), s.mask(), s.floats("kl"), s.floats("entropy"), s.floats("centredReturns"),
                        s.floats("dLogProbs"), s.floats("dKl"), s.floats("dEntropy"), stats);
                allNaN(stats, what);
            }
            allNaN(s.floats("dLogProbs"), what);
            allNaN(s.floats("dKl"), what);
            allNaN(s.floats("dEntropy"), what);

            final Args p = new Args(KernelTable.named("PolicyLoss"));
            p.views.put("targets", Indices.ofInts(0, 1, 2));
            try (PolicyLoss loss = new PolicyLoss(ROWS, true)) {
                loss.forwardBackward(KernelTable.CONFIG, p.logits("logits"), p.logits("oldLogits"), p.ids("targets"),
                        p.temperature(), p.floats("logProbsOld"), p.floats("advantages"), Indices.ofLongs(bounds), null, null,
                        p.logits("dLogits"));
                allNaN(loss.stats(), what);
            }
            for (float gradient : numbers(p, KernelTable.named("PolicyLoss").args().stream()
                    .filter(a -> a.name().equals("dLogits")).findFirst().orElseThrow())) {
                assertTrue(Float.isNaN(gradient), what + ": a gradient of " + gradient);
            }
        }
    }

    private static void allNaN(Floats vector, String what) {
        for (float value : vector.toArray()) {
            assertTrue(Float.isNaN(value), () -> what + ": " + Arrays.toString(vector.toArray()));
        }
    }

    private static void allNaN(SurrogateStats s, String what) {
        for (double value : new double[] {s.loss(), s.objective(), s.kl(), s.clipLow(), s.clipHigh(), s.clipDual(), s.ratioMean(),
            s.ratioMin(), s.ratioMax(), s.ess(), s.monitorK1(), s.monitorK3(), s.monitorMax(), s.zetaClip(), s.zetaRatio()}) {
            assertTrue(Double.isNaN(value), what + ": " + s);
        }
    }

    /** What a program hears that has a device but not what device memory needs. */
    @Test
    void withoutThePresetsForCuda() {
        assumeTrue(getClass().getResource("/org/bytedeco/cuda/linux-x86_64/libjnicudart.so") == null, "they are there");
        final Device gpu = Device.cuda(0);
        for (Executable ask : new Executable[] {() -> CudaMemory.allocate(gpu, 4), () -> Floats.allocate(gpu, 4),
            () -> new CudaStream(0), () -> new CudaEvent(0), () -> new PolicyLoss(gpu, 4, true), () -> new SurrogateStats(gpu),
            () -> Floats.ofAddress(gpu, 64, 16, 4, null).toHost()}) {
            final IllegalStateException e = assertThrows(IllegalStateException.class, ask);
            assertTrue(e.getMessage().startsWith("CUDA memory, copies, streams and events: the JavaCPP Presets for CUDA could not"
                    + " be loaded (") && e.getMessage().contains("org.bytedeco:cuda:13.1-9.19-1.5.13:linux-x86_64"), e.getMessage());
            assertTrue(e.getCause() instanceof LinkageError);
        }
    }

    /** Of a view that was made as one of device memory; the address is the host's, which this device reaches, too. */
    @Test
    void javaDoesNotLookAtDeviceMemory() {
        final Device gpu = Device.cuda(0);
        final Floats memory = Floats.ofFloats(1, 2, 3, 4);
        final Floats floats = Floats.ofAddress(gpu, memory.address(), 16, 4, memory);
        final Indices ints = Indices.ofAddress(gpu, memory.address(), 16, 4, 4, memory);
        final Indices longs = Indices.ofAddress(gpu, memory.address(), 16, 8, 2, memory);
        final Mask mask = Mask.ofAddress(gpu, memory.address(), 16, 16, memory);
        for (Executable look : new Executable[] {() -> floats.get(0), () -> floats.set(0, 1), floats::toArray,
            () -> floats.slice(0, 1).toArray(), () -> floats.copyFrom(new float[4]), () -> ints.get(0), () -> ints.set(0, 1),
            ints::toArray, longs::toArray, () -> mask.get(0), () -> mask.set(0, true), mask::toArray}) {
            final String words = assertThrows(IllegalStateException.class, look).getMessage();
            assertTrue(words.endsWith(": expected host memory, given memory of cuda:0, which Java cannot look at; copy it with"
                    + " toHost() or copyFrom(view)"), words);
        }
        assertArrayEquals(new float[] {1, 2, 3, 4}, memory.toArray());
        try (Floats lse = Floats.allocate(1)) { // but kernels do
            LogProbs.forward(Logits.ofAddress(gpu, memory.address(), 16, DType.F32, 1, 1, 4, 0, 4, memory), null, Temperature.ONE,
                    null, lse, null);
            assertEquals(4.44019f, lse.get(0), 1e-5f);
        }
    }
}
