package org.teamtr.kernels;

import org.teamtr.kernels.internal.global.teamtr;

/**
 * {@link LogProbs} for a vocabulary that is spread over several ranks. Each rank calls {@link #parts} on its shard of columns,
 * the parts (16 bytes per row and shard) are gathered by the trainer's own means of communication, {@link #merge} gives every rank
 * the results of the whole, and {@link #backward} the gradient of its shard.
 *
 * <p>Parts are f32, [shards, rows, {@link #PARTS_PER_ROW}]: the shard's maximum m; sum_v exp((x_v - m)/T) - 1;
 * sum_v exp((x_v - m)/T) (x_v - m)/T; and the target's logit, -inf where the target lives in another shard. A shard of nothing
 * but -inf gives m = -inf and a sum of 0.
 *
 * <p>Special values, bits and threads are as in {@link LogProbs}. Calls allocate nothing and own no memory.
 *
 * <pre>{@code
 * long own = rows * VocabParallel.PARTS_PER_ROW;
 * try (Floats parts = Floats.allocate(2 * own)) { // two ranks, here within one process
 *     VocabParallel.parts(leftHalf, targets, 0, vocab, Temperature.ONE, parts.slice(0, own));
 *     VocabParallel.parts(rightHalf, targets, leftHalf.vocab(), vocab, Temperature.ONE, parts.slice(own, 2 * own));
 *     VocabParallel.merge(parts, 2, targets, Temperature.ONE, logProbs, lse, entropy);
 * }
 * }</pre>
 */
public final class VocabParallel {
    /** Numbers that describe one row of one shard. */
    public static final int PARTS_PER_ROW = 4;

    private VocabParallel() {
    }

    /**
     * The partial results of one shard for each row.
     *
     * @param logits [rows, vocab of the shard]: columns {@code vocabStart .. vocabStart + vocab} of {@code globalVocab}
     * @param targets [rows], ids in the global vocabulary, or null if no log-probs will be wanted
     * @param parts [rows, 4], written
     * @throws IllegalArgumentException if shapes do not agree, the shard lies outside the vocabulary, {@code parts} overlaps
     *     anything, or a target or temperature is out of range
     * @throws IllegalStateException if memory of an argument was closed, or the kernels cannot be loaded
     */
    public static void parts(Logits logits, Indices targets, long vocabStart, long globalVocab, Temperature temperature,
            Floats parts) {
        final long rows = Check.given(logits, "logits").rows();
        checkShard(logits, vocabStart, globalVocab);
        Check.length(targets, "targets", rows, Check.ROWS);
        Check.temperature(temperature, rows);
        final long expected = rows <= Long.MAX_VALUE / PARTS_PER_ROW ? rows * PARTS_PER_ROW : Long.MAX_VALUE;
        Check.output(Check.given(parts, "parts"), "parts", expected, "4 for each row of logits");
        Check.apart(parts, "parts", logits, "logits", targets, "targets", temperature);

        Backend.current();
        final Device device = logits.device();
        final int status = teamtr.teamtr_log_probs_parts(device.index(), device.stream(),
                Check.address(logits, "logits", device), logits.dtype().code, rows, logits.vocab(),
                logits.rowStride(), logits.rowsPerBatch(), logits.batchStride(),
                Check.address(targets, "targets", device), Check.type(targets), vocabStart, globalVocab,
                temperature.scalar(), Check.address(temperature, device),
                Check.address(parts, "parts", device));
        Check.alive(logits, targets, temperature, parts);
        Check.status(status);
    }

    /**
     * Merges the parts of all shards into the results of {@link LogProbs#forward} on the whole rows.
     *
     * @param parts [shards, rows, 4], every shard with the same rows, targets and temperature
     * @param shards 1 or more
     * @param targets [rows], only to ignore rows, or null
     * @param logProbs [rows], written, or null; makes sense only if the parts were computed with targets
     * @param lse [rows], written, or null
     * @param entropy [rows], written, or null
     * @throws IllegalArgumentException if lengths do not agree, an output overlaps anything, or all outputs are null
     * @throws IllegalStateException if memory of an argument was closed, or the kernels cannot be loaded
     */
    public static void merge(Floats parts, long shards, Indices targets, Temperature temperature, Floats logProbs, Floats lse,
            Floats entropy) {
        Check.given(parts, "parts");
        Check.positive(shards, "shards");
        final long rows = parts.length() / PARTS_PER_ROW / shards;
        if (rows * shards * PARTS_PER_ROW != parts.length()) {
            throw new IllegalArgumentException("parts: expected a length that is a multiple of 4 * " + shards
                    + " (numbers per row, shards), given " + parts.length());
        }
        final String meaning = "the rows of parts";
        Check.length(targets, "targets", rows, meaning);
        Check.temperature(temperature, rows);
        Check.output(logProbs, "logProbs", rows, meaning);
        Check.output(lse, "lse", rows, meaning);
        Check.output(entropy, "entropy", rows, meaning);
        if (logProbs == null && lse == null && entropy == null) {
            throw new IllegalArgumentException("logProbs, lse, entropy: expected at least one, given null for all");
        }
        Check.apart(logProbs, "logProbs", parts, "parts", targets, "targets", temperature);
        Check.apart(lse, "lse", parts, "parts", targets, "targets", temperature);
        Check.apart(entropy, "entropy", parts, "parts", targets, "targets", temperature);
        Check.allApart(logProbs, "logProbs", lse, "lse", entropy, "entropy");

        Backend.current();
        final Device device = parts.device();
        final int status = teamtr.teamtr_log_probs_merge(device.index(), device.stream(),
                Check.address(parts, "parts", device), shards, rows,
                Check.address(targets, "targets", device), Check.type(targets),
                temperature.scalar(), Check.address(temperature, device),
                Check.address(logProbs, "logProbs", device), Check.address(lse, "lse", device),
                Check.address(entropy, "entropy", device));
        Check.alive(parts, targets, temperature, logProbs);
        Check.alive(lse, entropy, null, null);
        Check.status(status);
    }

    /**
     * {@link LogProbs#backward} for one shard: the columns of the gradient that belong to it. No communication is needed.
     *
     * @param logits [rows, vocab of the shard]
     * @param targets [rows], ids in the global vocabulary
     * @param logProbs [rows] of {@link #merge}, as are {@code lse} and {@code entropy}
     * @param dLogits written; as in {@link LogProbs#backward}
     * @throws IllegalArgumentException as {@link LogProbs#backward}, or if the shard lies outside the vocabulary
     * @throws IllegalStateException if memory of an argument was closed, or the kernels cannot be loaded
     */
    public static void backward(Logits logits, Indices targets, long vocabStart, long globalVocab, Temperature temperature,
            Floats logProbs, Floats lse, Floats entropy, Floats gradLogProbs, Floats gradEntropy, Logits dLogits) {
        checkShard(Check.given(logits, "logits"), vocabStart, globalVocab);
        LogProbs.backward(logits, targets, vocabStart, globalVocab, temperature, logProbs, lse, entropy, gradLogProbs,
                gradEntropy, dLogits);
    }

    private static void checkShard(Logits logits, long vocabStart, long globalVocab) {
        Check.notNegative(vocabStart, "vocabStart");
        Check.vocab(globalVocab, "globalVocab");
        if (globalVocab < logits.vocab() || vocabStart > globalVocab - logits.vocab()) {
            throw new IllegalArgumentException("globalVocab: expected at least vocabStart + vocab = " + vocabStart + " + "
                    + logits.vocab() + ", given " + globalVocab);
        }
    }
}
