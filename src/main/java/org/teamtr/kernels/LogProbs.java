package org.teamtr.kernels;

import org.teamtr.kernels.internal.global.teamtr;

/**
 * Log-probabilities of given tokens, log-normaliser and entropy of every row of logits, and their gradient.
 *
 * <p>With x a row, T its temperature, p = softmax(x / T), in nats:
 * <pre>
 *   lse     = log sum_v exp(x_v / T)
 *   logProb = log p_target                  (formed as x_t/T - max - log sum: accurate where p_target is near 1)
 *   entropy = - sum_v p_v log p_v
 * </pre>
 * These are the log-probs that the message ratio of TeamTR (arXiv 2605.15207, Eq. 10) and its monitor (Eq. 11) are made of.
 *
 * <p><b>Special values.</b> -inf is a masked token of probability 0. A row with a NaN, with +inf, or with nothing but -inf has
 * no distribution: its results are NaN and no other row's change. A target of {@link Indices#IGNORE} gives 0, without reading
 * the row. A masked target's log-prob is -inf.
 *
 * <p><b>Bits.</b> A row's results depend on that row alone: not on the batch, its place there, alignment, or threads. AVX-512
 * and AVX2 agree to the bit.
 *
 * <p><b>Threads.</b> Any number at once, on outputs of their own. Calls allocate nothing and own no memory.
 *
 * <pre>{@code
 * LogProbs.forward(logits, targets, Temperature.of(0.8f), logProbs, lse, entropy);
 * // ... a loss, and its gradient with respect to the log-probs
 * LogProbs.backward(logits, targets, Temperature.of(0.8f), logProbs, lse, entropy, gradLogProbs, null, logits); // in place
 * }</pre>
 */
public final class LogProbs {
    private LogProbs() {
    }

    /**
     * Reads the logits once.
     *
     * @param logits [rows, vocab]
     * @param targets [rows], or null if no log-probs are wanted; see {@link Indices}
     * @param logProbs [rows], written, or null
     * @param lse [rows], written, or null
     * @param entropy [rows], written, or null
     * @throws IllegalArgumentException if shapes do not agree, an output overlaps anything, all outputs are null, or a target or
     *     temperature is out of range
     * @throws IllegalStateException if memory of an argument was closed, or the kernels cannot be loaded
     */
    public static void forward(Logits logits, Indices targets, Temperature temperature, Floats logProbs, Floats lse,
            Floats entropy) {
        final long rows = Check.given(logits, "logits").rows();
        Check.length(targets, "targets", rows, Check.ROWS);
        Check.temperature(temperature, rows);
        Check.output(logProbs, "logProbs", rows, Check.ROWS);
        Check.output(lse, "lse", rows, Check.ROWS);
        Check.output(entropy, "entropy", rows, Check.ROWS);
        if (logProbs != null) {
            Check.needed(targets, "targets", "logProbs are those of the targets");
        }
        if (logProbs == null && lse == null && entropy == null) {
            throw new IllegalArgumentException("logProbs, lse, entropy: expected at least one, given null for all");
        }
        Check.apart(logProbs, "logProbs", logits, "logits", targets, "targets", temperature);
        Check.apart(lse, "lse", logits, "logits", targets, "targets", temperature);
        Check.apart(entropy, "entropy", logits, "logits", targets, "targets", temperature);
        Check.allApart(logProbs, "logProbs", lse, "lse", entropy, "entropy");

        Backend.current();
        final Device device = logits.device();
        final int status = teamtr.teamtr_log_probs(device.index(), device.stream(),
                Check.address(logits, "logits", device), logits.dtype().code, rows, logits.vocab(),
                logits.rowStride(), logits.rowsPerBatch(), logits.batchStride(),
                Check.address(targets, "targets", device), Check.type(targets),
                temperature.scalar(), Check.address(temperature, device),
                Check.address(logProbs, "logProbs", device), Check.address(lse, "lse", device),
                Check.address(entropy, "entropy", device));
        Check.alive(logits, targets, temperature, logProbs);
        Check.alive(lse, entropy, null, null);
        Check.status(status);
    }

    /**
     * The gradient of a loss with respect to the logits, from its gradients with respect to log-probs (g) and entropy (h):
     * <pre>
     *   dLogits_v = ( g * (1[v = target] - p_v) - h * p_v * (log p_v + entropy) ) / T
     * </pre>
     * Reads the logits once. A row whose g and h are both 0 is not read, and its gradient is 0; so is that of an ignored row.
     * {@code logProbs} and {@code lse} are f32, so exponents may lack 6e-8 times the size of the smaller one.
     *
     * @param logits [rows, vocab], those of the forward call
     * @param targets [rows]; may be null without {@code gradLogProbs}
     * @param logProbs [rows] of the forward call; may be null without {@code gradLogProbs}
     * @param lse [rows] of the forward call
     * @param entropy [rows] of the forward call; may be null without {@code gradEntropy}
     * @param gradLogProbs [rows], g, or null for zeros
     * @param gradEntropy [rows], h, or null for zeros; one of the two is needed
     * @param dLogits written; shape and dtype of the logits, either apart from them or exactly them (then they are lost)
     * @throws IllegalArgumentException if shapes do not agree, {@code dLogits} overlaps anything in part, a vector that is needed
     *     is null, or a target or temperature is out of range
     * @throws IllegalStateException if memory of an argument was closed, or the kernels cannot be loaded
     */
    public static void backward(Logits logits, Indices targets, Temperature temperature, Floats logProbs, Floats lse,
            Floats entropy, Floats gradLogProbs, Floats gradEntropy, Logits dLogits) {
        Check.given(logits, "logits");
        backward(logits, targets, 0, logits.vocab(), temperature, logProbs, lse, entropy, gradLogProbs, gradEntropy, dLogits);
    }

    /** Also for a shard of the vocabulary, see {@link VocabParallel#backward}. */
    static void backward(Logits logits, Indices targets, long vocabStart, long globalVocab, Temperature temperature,
            Floats logProbs, Floats lse, Floats entropy, Floats gradLogProbs, Floats gradEntropy, Logits dLogits) {
        final long rows = logits.rows();
        Check.length(targets, "targets", rows, Check.ROWS);
        Check.temperature(temperature, rows);
        Check.given(lse, "lse");
        if (gradLogProbs != null) {
            Check.needed(targets, "targets", "gradLogProbs are those of the targets");
            Check.needed(logProbs, "logProbs", "gradLogProbs asks for them");
        }
        if (gradEntropy != null) {
            Check.needed(entropy, "entropy", "gradEntropy asks for it");
        }
        if (gradLogProbs == null && gradEntropy == null) {
            throw new IllegalArgumentException("gradLogProbs, gradEntropy: expected at least one, given null for both");
        }
        Check.gradient(dLogits, "dLogits", logits, "logits", targets, temperature);
        Check.gradientInput(logProbs, "logProbs", dLogits, "dLogits");
        Check.gradientInput(lse, "lse", dLogits, "dLogits");
        Check.gradientInput(entropy, "entropy", dLogits, "dLogits");
        Check.gradientInput(gradLogProbs, "gradLogProbs", dLogits, "dLogits");
        Check.gradientInput(gradEntropy, "gradEntropy", dLogits, "dLogits");

        Backend.current();
        final Device device = logits.device();
        final int status = teamtr.teamtr_log_probs_backward(device.index(), device.stream(),
                Check.address(logits, "logits", device), logits.dtype().code, rows, logits.vocab(),
                logits.rowStride(), logits.rowsPerBatch(), logits.batchStride(),
                Check.address(targets, "targets", device), Check.type(targets), vocabStart, globalVocab,
                temperature.scalar(), Check.address(temperature, device),
                Check.address(logProbs, "logProbs", device), Check.address(lse, "lse", device),
                Check.address(entropy, "entropy", device),
                Check.address(gradLogProbs, "gradLogProbs", device), Check.address(gradEntropy, "gradEntropy", device),
                Check.address(dLogits, "dLogits", device), dLogits.rowStride(), dLogits.rowsPerBatch(), dLogits.batchStride());
        Check.alive(logits, targets, temperature, logProbs);
        Check.alive(lse, entropy, gradLogProbs, gradEntropy);
        Check.alive(dLogits, null, null, null);
        Check.status(status);
    }
}
