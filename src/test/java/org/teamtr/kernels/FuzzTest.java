package org.teamtr.kernels;

import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.BitSet;
import java.util.TreeMap;
import org.junit.jupiter.api.Test;
import org.teamtr.kernels.SurrogateConfig.AdvantagePer;
import org.teamtr.kernels.SurrogateConfig.KlTerm;

/**
 * Seeded calls of all kernels, good ones in which up to three arguments are made wrong. Each call is refused with a documented
 * exception and words, and has then written nothing; or it is accepted, has written its outputs' own elements only, and none of
 * its arguments was wrong in a way that must be noticed (a device does not see contents). All memory is one arena, compared byte
 * by byte.
 */
class FuzzTest extends FuzzArguments {
    private static final int CALLS = TestDevice.lockstep() ? 14_000 : 210_000;
    private static final long SEED = 20_260_517;
    private static final int[] VOCABS = {1, 2, 3, 7, 16, 33, 63, 64, 65, 130};
    private static final String[] KERNELS = {"LogProbs.forward", "LogProbs.backward", "TokenKl.oldNew", "TokenKl.newOld",
        "TokenKl.oldNewBackward", "TokenKl.newOldBackward", "SampledKl", "Surrogate", "PolicyLoss", "Advantages", "Sampling",
        "VocabParallel.parts", "VocabParallel.merge", "VocabParallel.backward"};

    private final SurrogateStats stats = new SurrogateStats();
    private final SurrogateStats closedStats = new SurrogateStats();
    private final PolicyLoss[] losses = {new PolicyLoss(0, true), new PolicyLoss(3, false), new PolicyLoss(6, true),
        new PolicyLoss(6, false)};
    private final PolicyLoss closedLoss = new PolicyLoss(6, true);

    FuzzTest() {
        closedStats.close();
        closedLoss.close();
    }

    @Test
    void everyCallIsRefusedInWordsOrStaysInItsBounds() {
        final TreeMap<String, int[]> counts = new TreeMap<>();
        int accepted = 0;
        for (int i = 0; i < CALLS; i++) {
            final String kernel = KERNELS[i % KERNELS.length];
            final boolean good;
            try {
                good = call(i, kernel);
            } catch (Throwable e) {
                throw new AssertionError("call " + i + ", " + kernel + ", wrong:" + what, e);
            }
            counts.computeIfAbsent(kernel, k -> new int[2])[good ? 0 : 1]++;
            accepted += good ? 1 : 0;
        }
        final StringBuilder table = new StringBuilder();
        counts.forEach((kernel, c) -> table.append(String.format("%n  %-24s %6d accepted %6d refused", kernel, c[0], c[1])));
        System.out.println("Fuzz: " + CALLS + " calls, " + accepted + " accepted, " + (CALLS - accepted) + " refused" + table);
        counts.forEach((kernel, c) -> assertTrue(Math.min(c[0], c[1]) > CALLS / KERNELS.length / 10, kernel + ": "
                + Arrays.toString(c)));
        assertTrue(accepted > CALLS / 4 && accepted < CALLS * 3 / 4, accepted + " of " + CALLS);
    }

    /** {@return whether the call was accepted} */
    private boolean call(int number, String kernel) {
        start(SEED + number);
        byte[] before = null;
        try {
            final Runnable run = prepare(kernel);
            before = bytes();
            run.run();
        } catch (IllegalArgumentException | IllegalStateException e) {
            assertTrue(e.getMessage() != null && !e.getMessage().isBlank(), "an exception without words");
            assertTrue(!what.isEmpty(), () -> "a good call was refused: " + e);
            assertTrue(before == null || Arrays.equals(before, bytes()), () -> "a refused call wrote: " + e);
            return false;
        }
        assertTrue(!mustBeRefused && (!wrongInside || TestDevice.CUDA || what.contains("overlap")), "accepted");
        final byte[] after = bytes();
        final BitSet own = new BitSet();
        for (Use use : uses) {
            if (use.output()) {
                final BitSet output = elements(use.view());
                for (Use other : uses) {
                    assertTrue(other == use || inPlace(use, other) || !output.intersects(elements(other.view())),
                            () -> "accepted " + use.name() + " over " + other.name());
                }
                own.or(output);
            }
        }
        for (int i = Arrays.mismatch(before, after); i >= 0 && i < before.length; i++) {
            if (before[i] != after[i] && !own.get(i)) {
                throw new AssertionError("byte " + i + " belongs to no output and was written; " + uses);
            }
        }
        return true;
    }

    // ---- the kernels ----

    private Runnable prepare(String kernel) {
        final int rows = random.nextInt(7);
        final int vocab = chance(0.02) ? any(new Integer[] {2_100, 5_000}) : VOCABS[random.nextInt(VOCABS.length)];
        final DType dtype = any(DType.values());
        return switch (kernel) {
            case "LogProbs.forward" -> {
                final Logits x = logits("logits", rows, vocab, dtype, false, true);
                final Indices t = targets(rows, vocab, false, true);
                final Temperature temperature = temperature(rows, false);
                final Floats lp = floats("logProbs", rows, true, false, 0, 1);
                final Floats lse = maybe("lse", rows, true);
                final Floats h = maybe("entropy", rows, true);
                require((lp == null || t != null) && (lp != null || lse != null || h != null));
                yield () -> LogProbs.forward(x, t, temperature, lp, lse, h);
            }
            case "LogProbs.backward", "VocabParallel.backward" -> {
                final boolean parallel = kernel.startsWith("Vocab");
                final long start = parallel ? random.nextInt(50) : 0;
                long global = parallel ? start + vocab + random.nextInt(50) : vocab;
                final Logits x = logits("logits", rows, vocab, dtype, false, true);
                final Indices t = targets(rows, global, false, true);
                final Temperature temperature = temperature(rows, false);
                final Floats lp = floats("logProbs", rows, false, false, -3, 0);
                final Floats lse = floats("lse", rows, false, true, 0, 4);
                final Floats h = floats("entropy", rows, false, false, 0, 3);
                final Floats gl = floats("gradLogProbs", rows, false, false, -1, 1);
                final Floats gh = floats("gradEntropy", rows, false, false, -1, 1);
                final Logits d = gradient("dLogits", x, rows, vocab, dtype);
                require((gl != null || gh != null) && (gl == null || t != null && lp != null) && (gh == null || h != null));
                if (parallel && hit("globalVocab")) {
                    global = wrongSize(start + vocab - 1);
                }
                final long all = global;
                yield parallel ? () -> VocabParallel.backward(x, t, start, all, temperature, lp, lse, h, gl, gh, d)
                        : () -> LogProbs.backward(x, t, temperature, lp, lse, h, gl, gh, d);
            }
            case "TokenKl.oldNew", "TokenKl.newOld" -> {
                final Logits p = logits("oldLogits", rows, vocab, dtype, false, true);
                final Logits q = logits("newLogits", rows, vocab, dtype, false, true);
                final Indices t = targets(rows, vocab, false, true);
                final Temperature temperature = temperature(rows, false);
                final Floats kl = floats("kl", rows, true, true, 0, 1);
                final Floats a = maybe("logProbsOld", rows, true);
                final Floats b = maybe("logProbsNew", rows, true);
                final Floats c = maybe("entropyOld", rows, true);
                final Floats e = maybe("entropyNew", rows, true);
                require(a == null && b == null || t != null);
                yield kernel.endsWith("oldNew") ? () -> TokenKl.oldNew(p, q, t, temperature, kl, a, b, c, e)
                        : () -> TokenKl.newOld(p, q, t, temperature, kl, a, b, c, e);
            }
            case "TokenKl.oldNewBackward", "TokenKl.newOldBackward" -> {
                final Logits p = logits("oldLogits", rows, vocab, dtype, false, true);
                final Logits q = logits("newLogits", rows, vocab, dtype, false, true);
                final Indices t = chance(0.5) ? null : targets(rows, vocab, false, true);
                final Temperature temperature = temperature(rows, false);
                final Floats g = floats("gradKl", rows, false, true, -1, 1);
                final Logits d = gradient("dNew", chance(0.5) ? p : q, rows, vocab, dtype);
                yield kernel.startsWith("TokenKl.oldNew") ? () -> TokenKl.oldNewBackward(p, q, t, temperature, g, d)
                        : () -> TokenKl.newOldBackward(p, q, t, temperature, g, d);
            }
            case "SampledKl" -> {
                final int messages = rows == 0 ? random.nextInt(3) : 1 + random.nextInt(4);
                final Floats o = floats("logProbsOld", rows, false, true, -3, 0);
                final Floats n = floats("logProbsNew", rows, false, true, -3, 0);
                final Floats u = maybe("perToken", rows, true);
                final Floats m = floats("perMessage", messages, true, false, -3, 0);
                final Indices cu = bounds(rows, messages, m != null);
                final SampledKl.Estimator estimator = hit("estimator") ? null : any(SampledKl.Estimator.values());
                require(estimator != null && (u != null || m != null));
                yield () -> SampledKl.compute(estimator, o, n, cu, u, m);
            }
            case "Surrogate" -> {
                final int messages = rows == 0 ? random.nextInt(3) : 1 + random.nextInt(4);
                final SurrogateConfig c = config();
                final Floats n = floats("logProbsNew", rows, false, true, -3, 0);
                final Floats o = floats("logProbsOld", rows, false, true, -3, 0);
                final Floats a = floats("advantages", c.advantagePer() == AdvantagePer.TOKEN ? rows : messages, false, true, -1, 1);
                final Indices cu = bounds(rows, messages, true);
                final Mask mask = mask(rows);
                final Floats kl = floats("kl", rows, false, c.klTerm() == KlTerm.EXACT, 0, 1);
                final Floats h = floats("entropy", rows, false, c.entropyCoef() != 0, 0, 3);
                final Floats centred = maybe("centredReturns", messages, false);
                final Floats dl = maybe("dLogProbs", rows, true);
                final Floats dk = maybe("dKl", rows, true);
                final Floats dh = maybe("dEntropy", rows, true);
                final SurrogateStats s = hit("stats") ? (chance(0.5) ? null : closedStats) : stats;
                require(s == stats);
                yield () -> Surrogate.compute(c, n, o, a, cu, mask, kl, h, centred, dl, dk, dh, s);
            }
            case "PolicyLoss" -> {
                final int messages = rows == 0 ? random.nextInt(3) : 1 + random.nextInt(4);
                final SurrogateConfig c = config();
                final Logits x = logits("logits", rows, vocab, dtype, false, true);
                final boolean exact = c.klTerm() == KlTerm.EXACT;
                final Logits old = exact || chance(0.4) ? logits("oldLogits", rows, vocab, dtype, false, exact) : null;
                final Indices t = targets(rows, vocab, true, true);
                final Temperature temperature = temperature(rows, false);
                final Floats o = floats("logProbsOld", rows, false, true, -3, 0);
                final Floats a = floats("advantages", c.advantagePer() == AdvantagePer.TOKEN ? rows : messages, false, true, -1, 1);
                final Indices cu = bounds(rows, messages, true);
                final Mask mask = mask(rows);
                final Floats centred = maybe("centredReturns", messages, false);
                final Logits d = gradient("dLogits", x, rows, vocab, dtype);
                final PolicyLoss loss = hit("policyLoss") ? (chance(0.3) ? closedLoss : losses[random.nextInt(2)])
                        : losses[2 + random.nextInt(2)];
                require(loss != closedLoss);
                yield () -> loss.forwardBackward(c, x, old, t, temperature, o, a, cu, mask, centred, d);
            }
            case "Advantages" -> {
                final int groups = random.nextInt(4);
                final Floats r = floats("returns", groups * rows, false, true, -1, 1);
                final Floats a = floats("advantages", groups * rows, true, true, -1, 1);
                final Floats c = maybe("centred", groups * rows, true);
                final long size = hit("groupSize") ? wrongSize(rows) : Math.max(1, rows);
                final double eps = hit("epsNorm") ? WRONG_NUMBERS[random.nextInt(5)] : 1e-6;
                final double clip = hit("clip") ? WRONG_NUMBERS[random.nextInt(5)] : 1;
                require(eps == 1e-6 && clip == 1 && size >= 1);
                yield () -> Advantages.groupNormalised(r, size, eps, clip, chance(0.7), a, c);
            }
            case "Sampling" -> {
                final Logits x = logits("logits", rows, vocab, dtype, false, true);
                final Temperature temperature = temperature(rows, true);
                final long topK = hit("topK") ? wrongSize(3) : random.nextInt(vocab + 2);
                final float topP = hit("topP") ? (float) WRONG_NUMBERS[random.nextInt(5)]
                        : chance(0.5) ? 1 : 0.01f + 0.98f * (float) random.nextDouble();
                final float minP = hit("minP") ? (float) WRONG_NUMBERS[random.nextInt(4)]
                        : chance(0.5) ? 0 : (float) random.nextDouble();
                final int step = hit("step") ? (int) WRONG_IDS[random.nextInt(4)] : random.nextInt(1_000);
                require(step >= 0 && topK >= 0);
                final Indices rowIds = chance(0.5) ? null : ids("rowIds", rows, hit("width") ? 4 : 8, 1_000, false, false, false);
                require(rowIds == null || rowIds.bytes() == 8);
                final Indices tokens = ids("tokens", rows, width(), 9, true, true, false);
                final Floats lp = maybe("logProbs", rows, true);
                final Floats kept = maybe("logProbsKept", rows, true);
                final SamplingConfig c = hit("config") ? null : new SamplingConfig(topK, topP, minP);
                require(c != null);
                yield () -> Sampling.sample(x, temperature, c, random.nextLong(), step, rowIds, tokens, lp, kept);
            }
            case "VocabParallel.parts" -> {
                final long start = hit("vocabStart") ? wrongSize(100) : random.nextInt(50);
                final long global = hit("globalVocab") ? wrongSize(vocab) : 50 + vocab + random.nextInt(50);
                final Logits x = logits("logits", rows, vocab, dtype, false, true);
                require(start >= 0 && global >= 1 && global <= Integer.MAX_VALUE && x != null && start <= global - x.vocab());
                final Indices t = chance(0.3) ? null : targets(rows, Math.max(1, Math.min(global, 1_000)), false, global < 1_000);
                final Temperature temperature = temperature(rows, false);
                final Floats parts = floats("parts", 4L * rows, true, true, 0, 1);
                yield () -> VocabParallel.parts(x, t, start, global, temperature, parts);
            }
            case "VocabParallel.merge" -> {
                final int n = 1 + random.nextInt(3);
                final Floats parts = floats("parts", 4L * n * rows, false, true, 0, 1);
                final Indices t = chance(0.3) ? null : targets(rows, 9, false, false);
                final Temperature temperature = temperature(rows, false);
                final Floats lp = maybe("logProbs", rows, true);
                final Floats lse = floats("lse", rows, true, false, 0, 1);
                final Floats h = maybe("entropy", rows, true);
                final long shards = hit("shards") ? wrongSize(n) : n;
                require(shards >= 1);
                yield () -> VocabParallel.merge(parts, shards, t, temperature, lp, lse, h);
            }
            default -> throw new AssertionError(kernel);
        };
    }
}
