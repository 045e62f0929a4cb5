package org.teamtr.kernels;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertDoesNotThrow;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.teamtr.kernels.KernelTable.CONFIG;
import static org.teamtr.kernels.KernelTable.KERNELS;
import static org.teamtr.kernels.KernelTable.REGION;
import static org.teamtr.kernels.KernelTable.ROWS;
import static org.teamtr.kernels.KernelTable.VOCAB;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.function.BiConsumer;
import java.util.function.Consumer;
import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.javacpp.PointerScope;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.teamtr.kernels.KernelTable.Arg;
import org.teamtr.kernels.KernelTable.Args;
import org.teamtr.kernels.KernelTable.Kernel;
import org.teamtr.kernels.KernelTable.Kind;
import org.teamtr.kernels.SurrogateConfig.KlTerm;

/**
 * What every kernel refuses, with which words, and that it has then written nothing. {@link KernelTable} says what each takes; from
 * it follow nulls, lengths, read-only memory, overlaps and closed memory for every argument of every kernel.
 */
class ErrorsTest {
    // ---- what follows from the table ----

    private interface Change {
        void apply(Args args, Arg arg);
    }

    private static int refusals;

    /** Changes one argument of a good call, which must then be refused in these words and write nothing. */
    private static void refused(Class<? extends Exception> type, Kernel kernel, Arg arg, Change change, String starts,
            String... contains) {
        final Args args = new Args(kernel);
        change.apply(args, arg);
        final byte[] before = args.bytes();
        final String what = kernel.name() + ", " + arg.name();
        final Exception e = assertThrows(type, () -> kernel.call().accept(args), what);
        assertTrue(e.getMessage() != null && e.getMessage().startsWith(starts), what + ": expected \"" + starts + "...\", given "
                + e);
        for (String part : contains) {
            assertTrue(e.getMessage().contains(part), what + ": expected \"..." + part + "...\", given " + e);
        }
        assertArrayEquals(before, args.bytes(), what + ": something was written");
        refusals++;
    }

    private static void forEach(BiConsumer<Kernel, Arg> body) {
        refusals = 0;
        KERNELS.forEach(kernel -> kernel.args().forEach(arg -> body.accept(kernel, arg)));
    }

    @Test
    void theCallsOfTheTableAreGood() {
        for (Kernel kernel : KERNELS) {
            final Args args = new Args(kernel);
            final byte[] before = args.bytes();
            kernel.call().accept(args);
            final byte[] after = args.bytes();
            for (Arg arg : kernel.args()) {
                final int at = args.regions.get(arg.name());
                final int end = at + arg.bytes();
                assertEquals(!arg.output(), Arrays.equals(before, at, end, after, at, end), kernel.name() + ": " + arg.name()
                        + " written");
                assertTrue(Arrays.equals(before, end, at + REGION, after, end, at + REGION), kernel.name() + ": behind "
                        + arg.name());
            }
        }
    }

    @Test
    void aNullThatIsNeeded() {
        forEach((kernel, arg) -> {
            if (arg.required() && !(kernel.name().equals("SampledKl") && arg == KernelTable.BOUNDS)) {
                refused(IllegalArgumentException.class, kernel, arg, (args, a) -> args.views.put(a.name(), null),
                        arg.name() + ": expected a value, given null");
            }
        });
        assertTrue(refusals >= 35, "only " + refusals);
    }

    @Test
    void aWrongLength() {
        forEach((kernel, arg) -> {
            if (arg.kind() != Kind.LOGITS && !arg.master()) {
                for (int wrong : new int[] {arg.length() + 1, arg.length() - 1, 0}) {
                    refused(IllegalArgumentException.class, kernel, arg,
                            (args, a) -> args.views.put(a.name(), args.view(a, wrong, args.regions.get(a.name()))),
                            arg.name() + ": expected length " + arg.length(), "given " + wrong);
                }
            }
        });
        assertTrue(refusals >= 150, "only " + refusals);
    }

    @Test
    void anotherShapeOrDtypeOfLogits() {
        forEach((kernel, arg) -> {
            if (arg.kind() == Kind.LOGITS && !arg.master()) {
                final String expected = arg.name() + ": expected " + ROWS + " x " + VOCAB + " F32 (as ";
                refused(IllegalArgumentException.class, kernel, arg,
                        (args, a) -> args.views.put(a.name(), args.view(a, ROWS + 1, args.regions.get(a.name()))), expected,
                        "given 4 x 5 F32");
                refused(IllegalArgumentException.class, kernel, arg, (args, a) -> args.views.put(a.name(),
                        Logits.ofAddress(args.address + args.regions.get(a.name()), REGION, DType.F32, 1, ROWS, VOCAB + 1, 0,
                                VOCAB + 1, null)),
                        expected, "given 3 x 6 F32");
                refused(IllegalArgumentException.class, kernel, arg, (args, a) -> args.views.put(a.name(),
                        Logits.ofAddress(args.address + args.regions.get(a.name()), REGION, DType.F16, 1, ROWS, VOCAB, 0, VOCAB,
                                null)),
                        expected, "given 3 x 5 F16");
            }
        });
        assertTrue(refusals >= 24, "only " + refusals);
    }

    @Test
    void anOutputThatCannotBeWritten() {
        forEach((kernel, arg) -> {
            if (arg.output()) {
                refused(IllegalArgumentException.class, kernel, arg, (args, a) -> {
                    final ByteBuffer own = ByteBuffer.allocateDirect(a.bytes()).asReadOnlyBuffer().order(ByteOrder.nativeOrder());
                    args.views.put(a.name(), switch (a.kind()) {
                        case LOGITS -> Logits.of(own, DType.F32, ROWS, VOCAB);
                        case FLOATS -> Floats.of(own.asFloatBuffer());
                        case IDS -> Indices.of(own.asIntBuffer());
                        case LONGS -> Indices.of(own.asLongBuffer());
                        case MASK -> Mask.of(own);
                    });
                }, arg.name() + ": expected memory that can be written, given a read-only buffer");
            }
        });
        assertTrue(refusals >= 28, "only " + refusals);
    }

    /** Every output on every other argument: at its start, and one element into it. A gradient may lie exactly on its logits. */
    @Test
    void anOutputOverAnotherArgument() {
        forEach((kernel, output) -> {
            for (Arg other : kernel.args()) {
                for (int shift : new int[] {0, output.kind() == Kind.LONGS ? 8 : 4}) {
                    if (!output.output() || other == output || shift >= other.bytes()) {
                        continue;
                    }
                    final Change move = (args, a) -> args.views.put(a.name(),
                            args.view(a, a.length(), args.regions.get(other.name()) + shift));
                    final boolean gradient = output.kind() == Kind.LOGITS && other.kind() == Kind.LOGITS
                            && !(kernel.name().startsWith("PolicyLoss") && other.name().equals("oldLogits"));
                    if (gradient && shift == 0) {
                        final Args args = new Args(kernel);
                        move.apply(args, output);
                        kernel.call().accept(args);
                    } else { // of two outputs either may be the one that is named first
                        refused(IllegalArgumentException.class, kernel, output, move,
                                other.output() && kernel.args().indexOf(other) < kernel.args().indexOf(output) ? other.name()
                                        : output.name(),
                                ": expected memory apart from ", other.name(), output.name(), "given an overlap");
                    }
                }
            }
        });
        assertTrue(refusals >= 300, "only " + refusals);
    }

    /** Of a surrogate, whose statistics may be in memory of another framework: their last number on each argument's first. */
    @Test
    @CpuOnly("a device's statistics are in memory of its own")
    void statisticsOverAnArgument() {
        final Kernel surrogate = KernelTable.named("Surrogate");
        for (Arg arg : surrogate.args()) {
            final Args args = new Args(surrogate);
            final byte[] before = args.bytes();
            final int room = SurrogateStats.COUNT * Double.BYTES;
            final long at = args.address + args.regions.get(arg.name()) + 8;
            final NativeView view = args.view(arg, arg.length(), args.regions.get(arg.name()) + room);
            args.views.put(arg.name(), view);
            if (arg.name().equals("cuSeqlens")) {
                args.arena.putInt(args.regions.get(arg.name()) + room, 0).putInt(args.regions.get(arg.name()) + room + 4, 1)
                        .putInt(args.regions.get(arg.name()) + room + 8, ROWS);
                System.arraycopy(args.bytes(), 0, before, 0, before.length);
            }
            for (long shift : new long[] {0, -8}) { // with the shift they end where the argument begins
                final SurrogateStats stats = SurrogateStats.ofAddress(Memory.hostDevice, at + shift, room, args.arena);
                final Executable call = () -> Surrogate.compute(CONFIG, args.floats("logProbsNew"), args.floats("logProbsOld"),
                        args.floats("advantages"), args.ids("cuSeqlens"), args.mask(), args.floats("kl"), args.floats("entropy"),
                        args.floats("centredReturns"), args.floats("dLogProbs"), args.floats("dKl"), args.floats("dEntropy"), stats);
                if (shift == 0) {
                    says("stats: expected memory apart from " + arg.name() + ", given an overlap", call);
                    assertArrayEquals(before, args.bytes(), arg.name());
                } else {
                    assertDoesNotThrow(call, arg.name());
                }
            }
        }
    }

    @Test
    void memoryThatWasClosedSinceTheViewWasMade() {
        forEach((kernel, arg) -> {
            for (boolean byScope : new boolean[] {false, true}) {
                refused(IllegalStateException.class, kernel, arg, (args, a) -> {
                    final PointerScope scope = new PointerScope();
                    final BytePointer memory = new BytePointer(Math.max(8, a.bytes()));
                    args.views.put(a.name(), switch (a.kind()) {
                        case LOGITS -> Logits.of(memory, DType.F32, ROWS, VOCAB);
                        case FLOATS -> Floats.of(memory, a.length());
                        case IDS -> Indices.ofAddress(memory.address(), memory.limit(), 4, a.length(), memory);
                        case LONGS -> Indices.ofAddress(memory.address(), memory.limit(), 8, a.length(), memory);
                        case MASK -> Mask.of(memory.limit(a.length()));
                    });
                    if (!byScope) {
                        memory.close();
                    }
                    scope.close();
                }, arg.name() + ": its memory was closed");
            }
        });
        assertTrue(refusals >= 180, "only " + refusals);
    }

    /** Memory that was closed is soon somebody else's: an overlap with what stands there now is not what is wrong. */
    @Test
    void closedMemoryThatSomebodyElseHasNow() {
        forEach((kernel, arg) -> {
            for (Arg other : kernel.args()) {
                if (arg != other && (arg.output() || other.output()) && arg.kind() == other.kind()) {
                    refused(IllegalStateException.class, kernel, arg, (args, a) -> {
                        final BytePointer owner = new BytePointer(8);
                        final long at = args.address + args.regions.get(other.name());
                        args.views.put(a.name(), switch (a.kind()) {
                            case LOGITS -> Logits.ofAddress(at, REGION, DType.F32, 1, ROWS, VOCAB, 0, VOCAB + 1, owner);
                            case FLOATS -> Floats.ofAddress(at, REGION, a.length(), owner);
                            case IDS, LONGS -> Indices.ofAddress(at, REGION, a.kind() == Kind.IDS ? 4 : 8, a.length(), owner);
                            case MASK -> Mask.ofAddress(at, REGION, a.length(), owner);
                        });
                        owner.close();
                    }, arg.name() + ": its memory was closed");
                }
            }
        });
        assertTrue(refusals >= 100, "only " + refusals);
    }

    /** Another device, another stream, or the host: whichever the other arguments are not of. */
    @Test
    void memoryOfAnotherPlace() {
        final Device here = Memory.hostDevice;
        for (Device elsewhere : new Device[] {Device.cuda(0, 0x10), Device.cuda(1), here.isCuda() ? Device.CPU : Device.cuda(0)}) {
            forEach((kernel, arg) -> {
                if (arg == kernel.args().get(0)) {
                    return; // the others are compared with it
                }
                refused(IllegalArgumentException.class, kernel, arg, (args, a) -> {
                    Memory.hostDevice = elsewhere;
                    args.views.put(a.name(), args.view(a, a.length(), args.regions.get(a.name())));
                    Memory.hostDevice = here;
                }, arg.name() + ": expected memory of " + here + ", as that of the other arguments, given " + elsewhere);
            });
            assertTrue(refusals >= 80, "only " + refusals);
        }
        Memory.hostDevice = Device.cuda(5);
        final PolicyLoss loss;
        final SurrogateStats stats;
        try {
            loss = new PolicyLoss(ROWS, true);
            stats = new SurrogateStats();
        } finally {
            Memory.hostDevice = here;
        }
        final Args p = new Args(KernelTable.named("PolicyLoss"));
        says("policyLoss: expected memory of " + here, () -> call(loss, CONFIG, p, null, p.floats("logProbsOld")));
        final Args s = new Args(KernelTable.named("Surrogate"));
        says("stats: expected memory of " + here, () -> Surrogate.compute(CONFIG, s.floats("logProbsNew"),
                s.floats("logProbsOld"), s.floats("advantages"), s.ids("cuSeqlens"), null, null, null, null, null, null, null,
                stats));
    }

    // ---- contents ----

    private static void refused(String name, String starts, Consumer<Args> change) {
        final Kernel kernel = KernelTable.named(name);
        refused(IllegalArgumentException.class, kernel, kernel.args().get(0), (args, a) -> change.accept(args), starts);
    }

    @Test
    @CpuOnly("a device cannot see contents before the call, see DeviceContractTest")
    void aTargetOutsideTheVocabularyCarriesItsNumber() {
        final List<String> ranging = new ArrayList<>();
        for (Kernel kernel : KERNELS) {
            if (kernel.args().stream().noneMatch(a -> a.name().equals("targets")) || kernel.name().endsWith("merge")) {
                continue; // merge has no vocabulary, and looks for ignored rows only
            }
            ranging.add(kernel.name());
            for (int row = 0; row < ROWS; row++) {
                for (long bad : new long[] {VOCAB, -1, -99, -101, Integer.MAX_VALUE, Integer.MIN_VALUE, Long.MAX_VALUE,
                    Long.MIN_VALUE,
                    1L << 32, (1L << 32) - 100}) {
                    final int r = row;
                    final Change change = (args, a) -> {
                        if (bad == (int) bad && r != 1) {
                            args.arena.putInt(args.regions.get("targets") + 4 * r, (int) bad);
                        } else {
                            final long[] wide = {0, 1, 2};
                            wide[r] = bad;
                            args.views.put("targets", Indices.ofLongs(wide));
                        }
                    };
                    refused(IllegalArgumentException.class, kernel, KernelTable.TARGETS, change,
                            "targets[" + row + "] is " + bad + ": expected 0.." + (VOCAB - 1), "-100");
                }
            }
        }
        assertEquals(10, ranging.size(), ranging.toString());
    }

    @Test
    @CpuOnly("a device cannot see contents before the call, see DeviceContractTest")
    void aTemperatureOutOfRangeCarriesItsNumber() {
        for (Kernel kernel : KERNELS) {
            if (kernel.args().contains(KernelTable.TEMPERATURE)) {
                for (float bad : new float[] {-1, Float.NaN, Float.POSITIVE_INFINITY, 2e30f, 0}) {
                    if (bad != 0 || !kernel.name().equals("Sampling")) {
                        refused(IllegalArgumentException.class, kernel, KernelTable.TEMPERATURE, (args, a) -> args.floats("temperature").set(2, bad),
                                "temperature[2] is ");
                    }
                }
            }
        }
    }

    @Test
    void aTemperatureOfAllRowsOutOfRange() {
        try (Floats lse = Floats.allocate(1)) {
            final Logits row = Logits.ofAddress(lse.address(), 4, DType.F32, 1, 1, 1, 0, 1, lse);
            says("temperature: expected more than 0, given 0", () -> LogProbs.forward(row, null, Temperature.GREEDY, null, lse,
                    null));
            says("temperature: expected a value, given null", () -> LogProbs.forward(row, null, null, null, lse, null));
            says("temperature: expected a value, given null", () -> Sampling.sample(row, null, SamplingConfig.ALL, 0, 0, null,
                    null, null, null));
        }
    }

    @Test
    @CpuOnly("a device cannot see contents before the call, see DeviceContractTest")
    void boundsThatDoNotBoundTheTokens() {
        for (String kernel : new String[] {"SampledKl", "Surrogate", "PolicyLoss"}) {
            refused(kernel, "cuSeqlens[0] is 1: expected 0", a -> a.ids("cuSeqlens").set(0, 1));
            refused(kernel, "cuSeqlens[2] is 3, less than the 4 before it", a -> a.ids("cuSeqlens").set(1, 4));
            refused(kernel, "cuSeqlens[1] is -1, less than the 0 before it", a -> a.ids("cuSeqlens").set(1, -1));
            refused(kernel, "cuSeqlens[2] is 2: expected the number of tokens, 3", a -> a.ids("cuSeqlens").set(2, 2));
            refused(kernel, "cuSeqlens[2] is 4: expected the number of tokens, 3", a -> a.ids("cuSeqlens").set(2, 4));
            refused(kernel, "cuSeqlens[2] is 9223372036854775807: expected", a -> a.views.put("cuSeqlens", Indices.ofLongs(0, 1, Long.MAX_VALUE)));
            refused(kernel, "cuSeqlens: expected length messages + 1, so at least 1, given 0",
                    a -> a.views.put("cuSeqlens", a.ids("cuSeqlens").slice(0, 0)));
        }
    }

    @Test
    @CpuOnly("a device cannot see contents before the call, see DeviceContractTest")
    void boundsThatNothingIsSummedOverAreCheckedAsWell() {
        refused("SampledKl", "cuSeqlens[0] is 1: expected 0", a -> {
            a.ids("cuSeqlens").set(0, 1);
            a.views.put("perMessage", null);
        });
    }

    // ---- what depends on other arguments ----

    private static void says(String starts, Executable call) {
        final IllegalArgumentException e = assertThrows(IllegalArgumentException.class, call, starts);
        assertTrue(e.getMessage().startsWith(starts), "expected \"" + starts + "...\", given \"" + e.getMessage() + "\"");
    }

    private static Consumer<Args> without(String... names) {
        return args -> {
            for (String name : names) {
                args.views.put(name, null);
            }
        };
    }

    @Test
    void argumentsThatNeedEachOther() {
        refused("LogProbs.forward", "logProbs, lse, entropy: expected at least one, given null for all",
                without("logProbs", "lse", "entropy"));
        refused("LogProbs.forward", "targets: expected a value, given null: logProbs", without("targets"));
        for (String kernel : new String[] {"LogProbs.backward", "VocabParallel.backward"}) {
            refused(kernel, "gradLogProbs, gradEntropy: expected at least one, given null for both",
                    without("gradLogProbs", "gradEntropy"));
            refused(kernel, "targets: expected a value, given null: gradLogProbs", without("targets"));
            refused(kernel, "logProbs: expected a value, given null: gradLogProbs", without("logProbs"));
            refused(kernel, "entropy: expected a value, given null: gradEntropy", without("entropy"));
        }
        refused("TokenKl.oldNew", "targets: expected a value, given null: log-probs", without("targets"));
        refused("TokenKl.newOld", "targets: expected a value, given null: log-probs", without("targets", "logProbsOld"));
        refused("SampledKl", "cuSeqlens: expected a value, given null: perMessage", without("cuSeqlens"));
        refused("SampledKl", "perToken, perMessage: expected at least one, given null for both", without("perToken", "perMessage"));
        refused("VocabParallel.merge", "logProbs, lse, entropy: expected at least one", without("logProbs", "lse", "entropy"));
        refused("VocabParallel.merge", "parts: expected a length that is a multiple of 4 * 2 (numbers per row, shards), given 23",
                a -> a.views.put("parts", a.floats("parts").slice(0, 23)));
        refused("Sampling", "rowIds: expected int64, given int32", a -> a.views.put("rowIds", Indices.ofInts(1, 2, 3)));
        refused("Advantages", "returns: expected a length that is a multiple of groupSize = 3, given 2",
                a -> a.views.put("returns", a.floats("returns").slice(0, 2)));
    }

    @Test
    void numbersOutOfRange() {
        try (Floats f = Floats.allocate(20);
                Floats out = Floats.allocate(5);
                Floats parts = Floats.allocate(4);
                Indices ids = Indices.ofInts(0)) {
            final Logits row = Logits.ofAddress(f.address(), 20, DType.F32, 1, 1, 5, 0, 5, f);
            final Floats five = f.slice(0, 5);
            says("groupSize: expected 1 or more, given 0", () -> Advantages.groupNormalised(five, 0, 0, 1, true, out, null));
            says("epsNorm: expected 0 or more and finite, given -1.0", () -> Advantages.groupNormalised(five, 5, -1, 1, true, out, null));
            says("epsNorm: expected 0 or more and finite, given NaN", () -> Advantages.groupNormalised(five, 5, Double.NaN, 1, true, out, null));
            says("clip: expected more than 0, given 0.0", () -> Advantages.groupNormalised(five, 5, 0, 0, true, out, null));
            says("clip: expected more than 0, given NaN", () -> Advantages.groupNormalised(five, 5, 0, Double.NaN, true, out,
                    null));
            says("step: expected 0 or more, given -1", () -> Sampling.sample(row, Temperature.ONE, SamplingConfig.ALL, 0, -1,
                    null, ids, null, null));
            says("config: expected a value", () -> Sampling.sample(row, Temperature.ONE, null, 0, 0, null, ids, null, null));
            says("vocabStart: expected 0 or more, given -1", () -> VocabParallel.parts(row, null, -1, 9, Temperature.ONE, parts));
            says("globalVocab: expected at least vocabStart + vocab = 5 + 5, given 9",
                    () -> VocabParallel.parts(row, null, 5, 9, Temperature.ONE, parts));
            says("globalVocab: expected at least vocabStart + vocab = 9223372036854775807 + 5, given 9",
                    () -> VocabParallel.parts(row, null, Long.MAX_VALUE, 9, Temperature.ONE, parts));
            says("globalVocab: expected 1 .. 2147483647, given 2147483648",
                    () -> VocabParallel.parts(row, null, 5, 1L << 31, Temperature.ONE, parts));
            says("shards: expected 1 or more, given 0", () -> VocabParallel.merge(parts, 0, null, Temperature.ONE, null, out,
                    null));
            says("estimator: expected a value", () -> SampledKl.compute(null, five, five, null, out, null));
        }
    }

    @Test
    void surrogateAndPolicyLossAndTheirConfiguration() {
        final Kernel kernel = KernelTable.named("Surrogate");
        final Args a = new Args(kernel);
        final Floats rows = a.floats("logProbsNew");
        final Floats messages = a.floats("advantages");
        final Indices bounds = a.ids("cuSeqlens");
        final SurrogateStats stats = new SurrogateStats();
        says("config: expected a value", () -> Surrogate.compute(null, rows, rows, messages, bounds, null, null, null, null,
                null, null, null, stats));
        says("stats: expected a value", () -> Surrogate.compute(CONFIG, rows, rows, messages, bounds, null, null, null, null,
                null, null, null, null));
        says("kl: expected a value, given null: the KL term is EXACT", () -> Surrogate.compute(CONFIG.withKl(KlTerm.EXACT, 1), rows, rows, messages,
                bounds, null, null, null, null, null, null, null, stats));
        says("entropy: expected a value, given null: entropyCoef", () -> Surrogate.compute(CONFIG.withEntropyCoef(1), rows, rows, messages, bounds,
                null, null, null, null, null, null, null, stats));
        says("advantages: expected length 3 (the tokens, since advantagePer is TOKEN), given 2",
                () -> Surrogate.compute(CONFIG.withAdvantagePer(SurrogateConfig.AdvantagePer.TOKEN), rows, rows, messages,
                        bounds, null, null, null, null, null, null, null, stats));
        assertTrue(Double.isNaN(stats.loss()), "no refused call wrote statistics");
        stats.close();
        stats.close();
        assertEquals("stats: its memory was closed", assertThrows(IllegalStateException.class, stats::loss).getMessage());
        assertEquals("stats: its memory was closed", assertThrows(IllegalStateException.class,
                () -> Surrogate.compute(CONFIG, rows, rows, messages, bounds, null, null, null, null, null, null, null,
                        stats))
                .getMessage());

        final Args p = new Args(KernelTable.named("PolicyLoss"));
        final PolicyLoss loss = new PolicyLoss(ROWS, false);
        final SurrogateConfig exact = CONFIG.withKl(KlTerm.EXACT, 1);
        says("oldLogits: expected a value, given null: the KL term is EXACT", () -> call(loss, exact, p, null, p.floats("logProbsOld")));
        final PolicyLoss small = new PolicyLoss(ROWS - 1, false);
        says("logits: expected at most 2 rows (maxRows), given 3", () -> call(small, CONFIG, p, null, p.floats("logProbsOld")));
        call(loss, CONFIG, p, null, p.floats("logProbsOld"));
        final double before = loss.stats().loss();
        final Floats results = loss.logProbs(); // of the first step, tempting as the old log-probs of the second
        says("logProbsOld: expected memory apart from this object's results", () -> call(loss, CONFIG, p, null, results));
        if (!TestDevice.CUDA) { // which answers with NaN
            p.ids("targets").set(0, 77);
            says("targets[0] is 77", () -> call(loss, CONFIG, p, null, p.floats("logProbsOld")));
            p.ids("targets").set(0, 0);
        }
        assertEquals(before, loss.stats().loss(), "statistics of a refused call");
        assertThrows(IllegalStateException.class, loss::logProbs, "results of a refused call");
        loss.close();
        assertThrows(IllegalStateException.class, () -> call(loss, CONFIG, p, null, p.floats("logProbsOld")));
        says("maxRows: expected 0 or more, given -1", () -> new PolicyLoss(-1, false));
        final long most = Long.MAX_VALUE / 20;
        says("maxRows: expected a size in bytes that fits 64 bits, given " + (most + 1), () -> new PolicyLoss(most + 1, false));
    }

    /** They are written before they would be read. */
    @Test
    void noVectorMayBeAPartOfThePolicyLosssOwnResults() {
        final Args p = new Args(KernelTable.named("PolicyLoss"));
        try (PolicyLoss loss = new PolicyLoss(ROWS, true)) {
            call(loss, CONFIG, p, p.logits("oldLogits"), p.floats("logProbsOld"));
            final Floats[] results = {loss.logProbs(), loss.lse(), loss.entropy(), loss.kl()};
            for (Floats result : results) {
                for (String name : new String[] {"logProbsOld", "advantages", "temperature", "centredReturns"}) {
                    final Args q = new Args(KernelTable.named("PolicyLoss"));
                    q.views.put(name, result.slice(0, q.floats(name).length()));
                    says(name + ": expected memory apart from this object's results", () -> loss.forwardBackward(CONFIG, q.logits("logits"), null,
                            q.ids("targets"), q.temperature(), q.floats("logProbsOld"), q.floats("advantages"),
                            q.ids("cuSeqlens"), null, q.floats("centredReturns"), q.logits("dLogits")));
                }
            }
        }
    }

    private static void call(PolicyLoss loss, SurrogateConfig config, Args p, Logits old, Floats logProbsOld) {
        loss.forwardBackward(config, p.logits("logits"), old, p.ids("targets"), Temperature.ONE, logProbsOld,
                p.floats("advantages"), p.ids("cuSeqlens"), null, null, p.logits("dLogits"));
    }
}
