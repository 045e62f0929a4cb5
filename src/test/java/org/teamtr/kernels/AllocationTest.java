package org.teamtr.kernels;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.sun.management.ThreadMXBean;
import java.lang.management.ManagementFactory;
import java.util.LinkedHashMap;
import java.util.Map;
import org.bytedeco.javacpp.FloatPointer;
import org.junit.jupiter.api.Test;
import org.teamtr.kernels.SurrogateConfig.AdvantagePer;
import org.teamtr.kernels.SurrogateConfig.KlTerm;

/** No call allocates a byte on the Java heap: 1,000 calls of each kernel, warm, and before that the first ones, interpreted. */
@CpuOnly("counts in Java, the same for every device, and calls half a million kernels for it")
class AllocationTest {
    private static final int ROWS = 8;
    private static final int VOCAB = 50;
    private static final ThreadMXBean THREADS = (ThreadMXBean) ManagementFactory.getThreadMXBean();

    private static final class Batch {
        final Logits logits = logits(1);
        final Logits old = logits(2);
        final Logits gradient = logits(3);
        final Indices targets = Indices.ofInts(0, 1, 2, Indices.IGNORE, 4, 49, 6, 7);
        final Indices tokens = Indices.allocateLongs(ROWS);
        final Indices rowIds = Indices.ofLongs(9, 8, 7, 6, 5, 4, 3, 2);
        final Indices bounds = Indices.ofLongs(0, 3, ROWS);
        final Mask mask = Mask.ofBooleans(true, true, false, true, true, true, true, true);
        final Temperature perRow = Temperature.perRow(Floats.ofFloats(1, 2, 1, 1, 1, 0.5f, 1, 1));
        final Temperature scalar = Temperature.of(0.7f);
        final Floats logProbs = Floats.ofFloats(-4, -4, -4, -4, -4, -4, -4, -4);
        final Floats logProbsOld = Floats.ofFloats(-4, -3.9f, -4.1f, -4, -4.05f, -4, -4, -4);
        final Floats advantages = Floats.ofFloats(1, -1);
        final Floats returns = Floats.ofFloats(1, 0, 0, 1, 0, 0, 0, 1);
        final Floats a = Floats.allocate(ROWS);
        final Floats b = Floats.allocate(ROWS);
        final Floats c = Floats.allocate(ROWS);
        final Floats d = Floats.allocate(ROWS);
        final Floats e = Floats.allocate(ROWS);
        final Floats perMessage = Floats.allocate(2);
        final Floats parts = Floats.allocate(4 * ROWS);
        final SurrogateStats stats = new SurrogateStats();
        final PolicyLoss policyLoss = new PolicyLoss(ROWS, true);
        final SurrogateConfig exact = SurrogateConfig.PAPER.withKl(KlTerm.EXACT, 0.1).withEntropyCoef(0.01);
        final SamplingConfig sampling = new SamplingConfig(20, 0.9f, 0.01f);
        double sink;

        private static Logits logits(int seed) {
            final FloatPointer data = new FloatPointer((long) ROWS * VOCAB);
            for (int i = 0; i < ROWS * VOCAB; i++) {
                data.put(i, (float) Math.sin(seed * i));
            }
            return Logits.of(data, DType.F32, ROWS, VOCAB);
        }

        Map<String, Runnable> calls() {
            final Map<String, Runnable> calls = new LinkedHashMap<>();
            calls.put("LogProbs.forward", () -> LogProbs.forward(logits, targets, scalar, a, b, c));
            calls.put("LogProbs.forward, T per row", () -> LogProbs.forward(logits, targets, perRow, a, null, null));
            calls.put("LogProbs.backward", () -> LogProbs.backward(logits, targets, scalar, logProbs, b, c, d, e, gradient));
            calls.put("TokenKl.oldNew", () -> TokenKl.oldNew(old, logits, targets, scalar, a, b, c, d, e));
            calls.put("TokenKl.oldNew, short", () -> TokenKl.oldNew(old, logits, a));
            calls.put("TokenKl.newOld", () -> TokenKl.newOld(old, logits, null, perRow, a, null, null, d, e));
            calls.put("TokenKl.oldNewBackward", () -> TokenKl.oldNewBackward(old, logits, targets, scalar, logProbs, gradient));
            calls.put("TokenKl.newOldBackward", () -> TokenKl.newOldBackward(old, logits, null, scalar, logProbs, gradient));
            calls.put("SampledKl", () -> SampledKl.compute(SampledKl.Estimator.K3, logProbsOld, logProbs, bounds, a, perMessage));
            calls.put("Surrogate", () -> Surrogate.compute(exact, logProbs, logProbsOld, advantages, bounds, mask, returns,
                    returns, advantages, a, b, c, stats));
            calls.put("SurrogateStats", () -> sink += stats.loss() + stats.ess() + stats.tokens() + stats.zetaNorm());
            calls.put("PolicyLoss", () -> policyLoss.forwardBackward(exact, logits, old, targets, scalar, logProbsOld,
                    advantages, bounds, mask, advantages, gradient));
            calls.put("PolicyLoss, per token", () -> policyLoss.forwardBackward(PER_TOKEN, logits, null, targets, perRow,
                    logProbsOld, returns, bounds, null, null, gradient));
            calls.put("Advantages", () -> Advantages.groupNormalised(returns, 4, 1e-6, 2, true, a, b));
            calls.put("Sampling", () -> Sampling.sample(logits, scalar, sampling, 7, 1, rowIds, tokens, a, b));
            calls.put("Sampling, greedy", () -> Sampling.sample(logits, Temperature.GREEDY, SamplingConfig.ALL, 7, 1, null,
                    tokens, null, null));
            calls.put("VocabParallel.parts", () -> VocabParallel.parts(logits, targets, 10, 100, scalar, parts));
            calls.put("VocabParallel.merge", () -> VocabParallel.merge(parts, 1, targets, scalar, a, b, c));
            calls.put("VocabParallel.backward", () -> VocabParallel.backward(logits, targets, 10, 100, scalar, logProbs, b, c, d,
                    e, gradient));
            calls.put("Backend.current", () -> sink += Backend.current().threads());
            calls.put("Floats, Indices, Mask", () -> {
                a.set(1, a.get(0));
                tokens.set(0, tokens.get(1));
                mask.set(0, mask.get(0));
                sink += a.address() + logits.address() + logits.rows();
            });
            return calls;
        }
    }

    private static final SurrogateConfig PER_TOKEN = SurrogateConfig.PAPER.withAdvantagePer(AdvantagePer.TOKEN);

    private static long allocated(Runnable call, int times) {
        final long before = THREADS.getCurrentThreadAllocatedBytes();
        for (int i = 0; i < times; i++) {
            call.run();
        }
        return THREADS.getCurrentThreadAllocatedBytes() - before;
    }

    @Test
    void noCallAllocatesOnTheJavaHeap() {
        final Runnable nothing = () -> {};
        allocated(nothing, 1);
        final long constant = allocated(nothing, 1_000); // what the measurement itself takes
        assertTrue(constant < 1_000, "the measurement takes " + constant + " bytes of its own");
        assertTrue(allocated(() -> CANARY[0] = new byte[16], 1_000) >= 1_000 * 16, "the measurement sees allocations");

        final Map<String, Runnable> calls = new Batch().calls();
        final StringBuilder wrong = new StringBuilder();
        long interpreted = 0;
        for (Map.Entry<String, Runnable> call : calls.entrySet()) {
            allocated(call.getValue(), 2); // classes are loaded and linked once
            final long cold = allocated(call.getValue(), 100) - constant;
            allocated(call.getValue(), 20_000);
            long warm = Long.MAX_VALUE; // the least of a few: the compiler's own work may once in a while leave an object
            for (int i = 0; i < 5 && warm != 0; i++) {
                warm = Math.min(warm, allocated(call.getValue(), 1_000) - constant);
            }
            if (cold >= 100 * 16 || warm != 0) { // the smallest object has 16 bytes
                wrong.append(call.getKey()).append(": ").append(warm).append(" bytes in 1,000 warm calls, ").append(cold)
                        .append(" in 100 of the first\n");
            }
            interpreted += cold;
        }
        assertEquals("", wrong.toString());
        System.out.printf("Allocation: %d calls, 0 bytes in 1,000 warm calls of each, %d in 100 cold ones of all%n", calls.size(),
                interpreted);
    }

    /** Where escape analysis cannot remove it. */
    private static final byte[][] CANARY = new byte[1][];
}
