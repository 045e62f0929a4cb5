package org.teamtr.kernels;

import org.teamtr.kernels.internal.global.teamtr;

/**
 * Draws one token per row of logits.
 *
 * <p>The draw is one from softmax(x / T) restricted to the tokens that {@link SamplingConfig} keeps, by exponential races (Gumbel-max)
 * of blocks of the vocabulary, then of parts of the block drawn, then of tokens. The random numbers are a function of (seed,
 * row id, step) alone, so a row's token depends neither on its neighbours in the batch nor on threads, and a transcript can be
 * sampled again. The CPU and CUDA use the same numbers and draw the same tokens, but where the last bit of a sum decides.
 *
 * <p>Temperature 0, for all rows or in a per-row vector, takes the largest logit (the lowest id of equals); log-probs are then
 * those at T = 1.
 *
 * <p><b>Special values.</b> -inf is never drawn. A row with a NaN, with +inf, or with nothing but -inf gives token -1 and NaN
 * log-probs.
 *
 * <p><b>Threads.</b> Any number at once, on outputs of their own. Calls allocate nothing on the Java side and own no memory.
 *
 * <pre>{@code
 * try (Indices tokens = Indices.allocateInts(logits.rows()); Floats logProbs = Floats.allocate(logits.rows())) {
 *     for (int step = 0; step < 100; step++) {
 *         // ... the model writes the logits of the next token
 *         Sampling.sample(logits, Temperature.of(0.8f), SamplingConfig.ALL.withTopP(0.95f), 42, step, null, tokens, logProbs, null);
 *     }
 * }
 * }</pre>
 */
public final class Sampling {
    private Sampling() {
    }

    /**
     * @param logits [rows, vocab]
     * @param config which tokens may be drawn
     * @param seed of the run; all 64 bits count
     * @param step position in the sequence, 0 or more: another one for every token of a row
     * @param rowIds [rows] int64, what tells rows apart in the noise (say, an episode's number); null for 0, 1, 2, ...
     * @param tokens [rows], written, int32 or int64
     * @param logProbs [rows], written, or null: log-prob of the token under the whole softmax(x / T) in nats, equal to the bit to
     *     {@link LogProbs#forward} on the same device
     * @param logProbsKept [rows], written, or null: the same, renormalised over the tokens that were kept
     * @throws IllegalArgumentException if shapes do not agree, an output overlaps anything, or a number is out of range
     * @throws IllegalStateException if memory of an argument was closed, or the kernels cannot be loaded
     */
    public static void sample(Logits logits, Temperature temperature, SamplingConfig config, long seed, int step, Indices rowIds,
            Indices tokens, Floats logProbs, Floats logProbsKept) {
        final long rows = Check.given(logits, "logits").rows();
        Check.given(temperature, "temperature");
        Check.length(temperature.vector(), "temperature", rows, Check.ROWS);
        Check.given(config, "config");
        Check.notNegative(step, "step");
        Check.length(rowIds, "rowIds", rows, Check.ROWS);
        if (rowIds != null && rowIds.bytes() != Long.BYTES) {
            throw new IllegalArgumentException("rowIds: expected int64, given int32");
        }
        Check.length(Check.given(tokens, "tokens"), "tokens", rows, Check.ROWS);
        Check.writable(tokens, "tokens");
        Check.output(logProbs, "logProbs", rows, Check.ROWS);
        Check.output(logProbsKept, "logProbsKept", rows, Check.ROWS);
        Check.apart(tokens, "tokens", logits, "logits", rowIds, "rowIds", temperature);
        Check.apart(logProbs, "logProbs", logits, "logits", rowIds, "rowIds", temperature);
        Check.apart(logProbsKept, "logProbsKept", logits, "logits", rowIds, "rowIds", temperature);
        Check.allApart(tokens, "tokens", logProbs, "logProbs", logProbsKept, "logProbsKept");

        Backend.current();
        final Device device = logits.device();
        final int status = teamtr.teamtr_sample(device.index(), device.stream(),
                Check.address(logits, "logits", device), logits.dtype().code, rows, logits.vocab(),
                logits.rowStride(), logits.rowsPerBatch(), logits.batchStride(),
                temperature.scalar(), Check.address(temperature, device),
                config.topK(), config.topP(), config.minP(),
                seed, step, Check.address(rowIds, "rowIds", device),
                Check.address(tokens, "tokens", device), tokens.code(),
                Check.address(logProbs, "logProbs", device), Check.address(logProbsKept, "logProbsKept", device));
        Check.alive(logits, temperature, rowIds, tokens);
        Check.alive(logProbs, logProbsKept, null, null);
        Check.status(status);
    }
}
