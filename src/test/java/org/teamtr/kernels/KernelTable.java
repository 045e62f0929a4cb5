package org.teamtr.kernels;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;
import org.bytedeco.javacpp.Pointer;

/** What each kernel takes, by name, and one good call of each; {@link ErrorsTest} changes one argument at a time. */
final class KernelTable {
    private KernelTable() {
    }

    static final int ROWS = 3;
    static final int VOCAB = 5;
    static final int MESSAGES = 2;
    static final int REGION = 512;
    static final SurrogateConfig CONFIG = SurrogateConfig.PAPER;
    private static final PolicyLoss POLICY_LOSS = new PolicyLoss(ROWS, true);
    private static final SurrogateStats STATS = new SurrogateStats();

    enum Kind { LOGITS, FLOATS, IDS, LONGS, MASK }

    /** flags: r required, o output, m sets the lengths of the others. */
    record Arg(String name, Kind kind, int length, String flags) {
        boolean required() {
            return flags.contains("r");
        }

        boolean output() {
            return flags.contains("o");
        }

        boolean master() {
            return flags.contains("m");
        }

        int bytes() {
            return switch (kind) {
                case LOGITS -> 4 * ROWS * VOCAB;
                case FLOATS, IDS -> 4 * length;
                case LONGS -> 8 * length;
                case MASK -> length;
            };
        }
    }

    record Kernel(String name, List<Arg> args, Consumer<Args> call) {
    }

    /** The views of one call, all in one arena, each in a region of its own. */
    static final class Args {
        final ByteBuffer arena = ByteBuffer.allocateDirect(16 * REGION).order(ByteOrder.nativeOrder());
        final long address = new Pointer(arena).address();
        final Map<String, NativeView> views = new HashMap<>();
        final Map<String, Integer> regions = new HashMap<>();

        Args(Kernel kernel) {
            for (Arg arg : kernel.args) {
                final int at = REGION * regions.size();
                regions.put(arg.name, at);
                for (int i = 0; i < REGION / 4; i++) {
                    arena.putFloat(at + 4 * i, arg.kind == Kind.FLOATS && arg.name.equals("temperature") ? 1 : -0.51f - i % 7);
                }
                switch (arg.name) {
                    case "targets" -> put(at, 0, VOCAB - 1, Indices.IGNORE, 0);
                    case "cuSeqlens" -> put(at, 0, 1, ROWS, ROWS);
                    default -> {}
                }
                views.put(arg.name, view(arg, arg.length, at));
            }
        }

        private void put(int at, int... values) {
            for (int i = 0; i < values.length; i++) {
                arena.putInt(at + 4 * i, values[i]);
            }
        }

        /** A view of an argument's kind anywhere in the arena. */
        NativeView view(Arg arg, int length, int at) {
            final long from = address + at;
            return switch (arg.kind) {
                case LOGITS -> Logits.ofAddress(from, REGION, DType.F32, 1, length, VOCAB, 0, VOCAB, arena);
                case FLOATS -> Floats.ofAddress(from, REGION, length, arena);
                case IDS -> Indices.ofAddress(from, REGION, 4, length, arena);
                case LONGS -> Indices.ofAddress(from, REGION, 8, length, arena);
                case MASK -> Mask.ofAddress(from, REGION, length, arena);
            };
        }

        Logits logits(String name) {
            return (Logits) views.get(name);
        }

        Floats floats(String name) {
            return (Floats) views.get(name);
        }

        Indices ids(String name) {
            return (Indices) views.get(name);
        }

        Mask mask() {
            return (Mask) views.get("mask");
        }

        Temperature temperature() {
            return floats("temperature") == null ? Temperature.ONE : Temperature.perRow(floats("temperature"));
        }

        byte[] bytes() {
            final byte[] bytes = new byte[arena.capacity()];
            arena.duplicate().get(bytes);
            return bytes;
        }
    }

    // ---- the table ----

    private static Arg logits(String name, String flags) {
        return new Arg(name, Kind.LOGITS, ROWS, flags);
    }

    private static Arg perRow(String name, String flags) {
        return new Arg(name, Kind.FLOATS, ROWS, flags);
    }

    private static Arg perMessage(String name, String flags) {
        return new Arg(name, Kind.FLOATS, MESSAGES, flags);
    }

    private static Arg ids(String name, String flags) {
        return new Arg(name, Kind.IDS, ROWS, flags);
    }

    private static Arg parts(int shards, String flags) {
        return new Arg("parts", Kind.FLOATS, 4 * ROWS * shards, flags);
    }

    private static Kernel kernel(String name, Consumer<Args> call, Arg... args) {
        return new Kernel(name, List.of(args), call);
    }

    static final Arg TARGETS = ids("targets", "");
    static final Arg TEMPERATURE = perRow("temperature", "");
    /** Its length decides the number of messages, so a wrong one shows in another argument or in its contents. */
    static final Arg BOUNDS = new Arg("cuSeqlens", Kind.IDS, MESSAGES + 1, "mr");
    static final Arg MASK = new Arg("mask", Kind.MASK, ROWS, "");

    private static final Arg[] BACKWARD = {logits("logits", "mr"), TARGETS, TEMPERATURE, perRow("logProbs", ""), perRow("lse", "r"),
        perRow("entropy", ""), perRow("gradLogProbs", ""), perRow("gradEntropy", ""), logits("dLogits", "or")};
    private static final Arg[] KL = {logits("oldLogits", "mr"), logits("newLogits", "r"), TARGETS, TEMPERATURE, perRow("kl", "or"),
        perRow("logProbsOld", "o"), perRow("logProbsNew", "o"), perRow("entropyOld", "o"), perRow("entropyNew", "o")};
    private static final Arg[] KL_BACKWARD = {logits("oldLogits", "mr"), logits("newLogits", "r"), TARGETS, TEMPERATURE,
        perRow("gradKl", "r"), logits("dNew", "or")};

    static final List<Kernel> KERNELS = List.of(
            kernel("LogProbs.forward", a -> LogProbs.forward(a.logits("logits"), a.ids("targets"), a.temperature(),
                    a.floats("logProbs"), a.floats("lse"), a.floats("entropy")),
                    logits("logits", "mr"), TARGETS, TEMPERATURE, perRow("logProbs", "o"), perRow("lse", "o"),
                    perRow("entropy", "o")),

            kernel("LogProbs.backward", a -> LogProbs.backward(a.logits("logits"), a.ids("targets"), a.temperature(),
                    a.floats("logProbs"), a.floats("lse"), a.floats("entropy"), a.floats("gradLogProbs"), a.floats("gradEntropy"),
                    a.logits("dLogits")), BACKWARD),

            kernel("VocabParallel.backward", a -> VocabParallel.backward(a.logits("logits"), a.ids("targets"), 0, VOCAB,
                    a.temperature(), a.floats("logProbs"), a.floats("lse"), a.floats("entropy"), a.floats("gradLogProbs"),
                    a.floats("gradEntropy"), a.logits("dLogits")), BACKWARD),

            kernel("TokenKl.oldNew", a -> TokenKl.oldNew(a.logits("oldLogits"), a.logits("newLogits"), a.ids("targets"),
                    a.temperature(), a.floats("kl"), a.floats("logProbsOld"), a.floats("logProbsNew"), a.floats("entropyOld"),
                    a.floats("entropyNew")), KL),

            kernel("TokenKl.newOld", a -> TokenKl.newOld(a.logits("oldLogits"), a.logits("newLogits"), a.ids("targets"),
                    a.temperature(), a.floats("kl"), a.floats("logProbsOld"), a.floats("logProbsNew"), a.floats("entropyOld"),
                    a.floats("entropyNew")), KL),

            kernel("TokenKl.oldNewBackward", a -> TokenKl.oldNewBackward(a.logits("oldLogits"), a.logits("newLogits"),
                    a.ids("targets"), a.temperature(), a.floats("gradKl"), a.logits("dNew")), KL_BACKWARD),

            kernel("TokenKl.newOldBackward", a -> TokenKl.newOldBackward(a.logits("oldLogits"), a.logits("newLogits"),
                    a.ids("targets"), a.temperature(), a.floats("gradKl"), a.logits("dNew")), KL_BACKWARD),

            kernel("SampledKl", a -> SampledKl.compute(SampledKl.Estimator.K3, a.floats("logProbsOld"), a.floats("logProbsNew"),
                    a.ids("cuSeqlens"), a.floats("perToken"), a.floats("perMessage")),
                    perRow("logProbsOld", "mr"), perRow("logProbsNew", "r"), BOUNDS, perRow("perToken", "o"),
                    perMessage("perMessage", "o")),

            kernel("Surrogate", a -> Surrogate.compute(CONFIG, a.floats("logProbsNew"), a.floats("logProbsOld"),
                    a.floats("advantages"), a.ids("cuSeqlens"), a.mask(), a.floats("kl"), a.floats("entropy"),
                    a.floats("centredReturns"), a.floats("dLogProbs"), a.floats("dKl"), a.floats("dEntropy"), STATS),
                    perRow("logProbsNew", "mr"), perRow("logProbsOld", "r"), perMessage("advantages", "r"), BOUNDS, MASK,
                    perRow("kl", ""), perRow("entropy", ""), perMessage("centredReturns", ""), perRow("dLogProbs", "o"),
                    perRow("dKl", "o"), perRow("dEntropy", "o")),

            kernel("PolicyLoss", a -> POLICY_LOSS.forwardBackward(CONFIG, a.logits("logits"), a.logits("oldLogits"),
                    a.ids("targets"), a.temperature(), a.floats("logProbsOld"), a.floats("advantages"), a.ids("cuSeqlens"),
                    a.mask(), a.floats("centredReturns"), a.logits("dLogits")),
                    logits("logits", "mr"), logits("oldLogits", ""), ids("targets", "r"), TEMPERATURE, perRow("logProbsOld", "r"),
                    perMessage("advantages", "r"), BOUNDS, MASK, perMessage("centredReturns", ""), logits("dLogits", "or")),

            kernel("PolicyLoss.backward", a -> PolicyLoss.backward(a.logits("logits"), a.logits("oldLogits"), a.ids("targets"),
                    a.temperature(), a.floats("logProbs"), a.floats("entropy"),
                    new KlStatistics(a.floats("lseP"), a.floats("lseQ"), a.floats("logRatio")), a.floats("gradLogProbs"),
                    a.floats("gradEntropy"), a.floats("gradKl"), a.logits("dLogits")),
                    logits("logits", "mr"), logits("oldLogits", "r"), ids("targets", "r"), TEMPERATURE, perRow("logProbs", "r"),
                    perRow("entropy", ""), perRow("lseP", "r"), perRow("lseQ", "r"), perRow("logRatio", "r"),
                    perRow("gradLogProbs", ""), perRow("gradEntropy", ""), perRow("gradKl", "r"), logits("dLogits", "or")),

            kernel("Advantages", a -> Advantages.groupNormalised(a.floats("returns"), 3, 1e-6, 1, true, a.floats("advantages"),
                    a.floats("centred")),
                    perRow("returns", "mr"), perRow("advantages", "or"), perRow("centred", "o")),

            kernel("Sampling", a -> Sampling.sample(a.logits("logits"), a.temperature(), SamplingConfig.ALL, 1, 0, a.ids("rowIds"),
                    a.ids("tokens"), a.floats("logProbs"), a.floats("logProbsKept")),
                    logits("logits", "mr"), TEMPERATURE, new Arg("rowIds", Kind.LONGS, ROWS, ""), ids("tokens", "or"),
                    perRow("logProbs", "o"), perRow("logProbsKept", "o")),

            kernel("VocabParallel.parts", a -> VocabParallel.parts(a.logits("logits"), a.ids("targets"), 0, VOCAB, a.temperature(),
                    a.floats("parts")),
                    logits("logits", "mr"), TARGETS, TEMPERATURE, parts(1, "or")),

            kernel("VocabParallel.merge", a -> VocabParallel.merge(a.floats("parts"), 2, a.ids("targets"), a.temperature(),
                    a.floats("logProbs"), a.floats("lse"), a.floats("entropy")),
                    parts(2, "mr"), TARGETS, TEMPERATURE, perRow("logProbs", "o"), perRow("lse", "o"), perRow("entropy", "o")));

    /** {@return the kernel of that name} */
    static Kernel named(String name) {
        return KERNELS.stream().filter(kernel -> kernel.name.equals(name)).findFirst().orElseThrow();
    }
}
