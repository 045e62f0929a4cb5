package org.teamtr.kernels;

import org.teamtr.kernels.internal.global.teamtr;

/**
 * The exact KL divergence of every row, over the whole vocabulary, in both directions and with its gradient.
 *
 * <p>The method names give the direction: {@code oldNew} is KL(old || new), {@code newOld} is KL(new || old). With
 * P = softmax(p / T) and Q = softmax(q / T),
 * <pre>
 *   KL(P || Q) = sum_v P_v (log P_v - log Q_v)      in nats
 * </pre>
 * TeamTR's trust region bounds KL(old || new) (arXiv 2605.15207, Lemma 3.2 and Eq. 11: old policy first, summed over the tokens
 * of a message); {@link SampledKl} estimates it from log-probs of sampled tokens alone.
 *
 * <p><b>Accuracy.</b> Summed term by term in a form that cannot cancel: never negative, exactly 0 for equal rows, relative error
 * at most 1e-4 down to a KL of 1e-6. Both logits are read from memory once.
 *
 * <p><b>Special values.</b> -inf is a masked token; where the first policy gives a token probability and the second none, the KL
 * is +inf. A row in which either side has a NaN, a +inf, or nothing but -inf is NaN; no other row changes. A target of
 * {@link Indices#IGNORE} gives 0 (and no gradient), without reading the row.
 *
 * <p><b>Bits and threads</b> are as in {@link LogProbs}. Calls allocate nothing and own no memory.
 *
 * <pre>{@code
 * try (Floats kl = Floats.allocate(newLogits.rows())) {
 *     TokenKl.oldNew(oldLogits, newLogits, kl); // nats per token
 *     TokenKl.oldNewBackward(oldLogits, newLogits, null, Temperature.ONE, gradKl, dLogits); // with respect to newLogits
 * }
 * }</pre>
 */
public final class TokenKl {
    private TokenKl() {
    }

    /** KL(old || new) at temperature 1, of all rows. See {@link #oldNew(Logits, Logits, Indices, Temperature, Floats, Floats,
     * Floats, Floats, Floats)}. */
    public static void oldNew(Logits oldLogits, Logits newLogits, Floats kl) {
        oldNew(oldLogits, newLogits, null, Temperature.ONE, kl, null, null, null, null);
    }

    /** KL(new || old) at temperature 1, of all rows. See {@link #newOld(Logits, Logits, Indices, Temperature, Floats, Floats,
     * Floats, Floats, Floats)}. */
    public static void newOld(Logits oldLogits, Logits newLogits, Floats kl) {
        newOld(oldLogits, newLogits, null, Temperature.ONE, kl, null, null, null, null);
    }

    /**
     * KL(old || new), the expectation of log old - log new under the old policy.
     *
     * @param oldLogits [rows, vocab]
     * @param newLogits the same shape and dtype; strides may differ
     * @param targets [rows]; null if no log-probs are wanted and no row is ignored
     * @param kl [rows], written
     * @param logProbsOld [rows], written, or null: log-probs of the targets under the old logits, as {@link LogProbs} gives them
     * @param logProbsNew [rows], written, or null: the same under the new logits
     * @param entropyOld [rows], written, or null
     * @param entropyNew [rows], written, or null
     * @throws IllegalArgumentException if shapes do not agree, an output overlaps anything, or a target or temperature is out of
     *     range
     * @throws IllegalStateException if memory of an argument was closed, or the kernels cannot be loaded
     */
    public static void oldNew(Logits oldLogits, Logits newLogits, Indices targets, Temperature temperature, Floats kl,
            Floats logProbsOld, Floats logProbsNew, Floats entropyOld, Floats entropyNew) {
        oldNew(oldLogits, newLogits, targets, temperature, kl, logProbsOld, logProbsNew, entropyOld, entropyNew, null);
    }

    /**
     * The same, which also leaves the rows' statistics for {@link #oldNewBackward(Logits, Logits, Indices, Temperature,
     * KlStatistics, Floats, Logits)}. The other results have the same bits.
     *
     * @param statistics written, P = old and Q = new; or null
     */
    public static void oldNew(Logits oldLogits, Logits newLogits, Indices targets, Temperature temperature, Floats kl,
            Floats logProbsOld, Floats logProbsNew, Floats entropyOld, Floats entropyNew, KlStatistics statistics) {
        forward(true, oldLogits, newLogits, targets, temperature, kl, logProbsOld, logProbsNew, entropyOld, entropyNew, statistics);
    }

    /**
     * KL(new || old): arguments, order and results as in {@link #oldNew(Logits, Logits, Indices, Temperature, Floats, Floats,
     * Floats, Floats, Floats)}; only {@code kl} differs.
     */
    public static void newOld(Logits oldLogits, Logits newLogits, Indices targets, Temperature temperature, Floats kl,
            Floats logProbsOld, Floats logProbsNew, Floats entropyOld, Floats entropyNew) {
        newOld(oldLogits, newLogits, targets, temperature, kl, logProbsOld, logProbsNew, entropyOld, entropyNew, null);
    }

    /**
     * The same, which also leaves the rows' statistics for {@link #newOldBackward(Logits, Logits, Indices, Temperature, Floats,
     * KlStatistics, Floats, Logits)}. The other results have the same bits.
     *
     * @param statistics written, P = new and Q = old; or null
     */
    public static void newOld(Logits oldLogits, Logits newLogits, Indices targets, Temperature temperature, Floats kl,
            Floats logProbsOld, Floats logProbsNew, Floats entropyOld, Floats entropyNew, KlStatistics statistics) {
        forward(false, oldLogits, newLogits, targets, temperature, kl, logProbsOld, logProbsNew, entropyOld, entropyNew, statistics);
    }

    /**
     * The gradient of {@code sum_r gradKl[r] * KL(old || new)[r]} with respect to the <b>new</b> logits:
     * {@code gradKl * (new_v - old_v) / T} in probabilities. Needs nothing from the forward call.
     *
     * @param targets [rows], only to ignore rows, or null
     * @param gradKl [rows]
     * @param dNew written; shape and dtype of the logits, apart from both or exactly one of them (then those are lost)
     * @throws IllegalArgumentException if shapes do not agree, {@code dNew} overlaps anything in part, or a temperature is out of
     *     range
     * @throws IllegalStateException if memory of an argument was closed, or the kernels cannot be loaded
     */
    public static void oldNewBackward(Logits oldLogits, Logits newLogits, Indices targets, Temperature temperature, Floats gradKl,
            Logits dNew) {
        oldNewBackward(oldLogits, newLogits, targets, temperature, null, gradKl, dNew);
    }

    /**
     * The same from the statistics that {@link #oldNew(Logits, Logits, Indices, Temperature, Floats, Floats, Floats, Floats,
     * Floats, KlStatistics)} has left for these rows: both logits are read once and {@code dNew} is written once. The statistics
     * are f32, so exponents may lack 6e-8 times the statistics' size.
     *
     * @param statistics [rows] each, or null: then they are computed again
     */
    public static void oldNewBackward(Logits oldLogits, Logits newLogits, Indices targets, Temperature temperature,
            KlStatistics statistics, Floats gradKl, Logits dNew) {
        backward(true, oldLogits, newLogits, targets, temperature, null, statistics, gradKl, dNew);
    }

    /**
     * The gradient of {@code sum_r gradKl[r] * KL(new || old)[r]} with respect to the <b>new</b> logits:
     * {@code gradKl * new_v * (log new_v - log old_v - KL) / T} in probabilities. Where the KL is +inf the gradient is NaN where
     * this formula has no value. Otherwise as {@link #oldNewBackward}.
     */
    public static void newOldBackward(Logits oldLogits, Logits newLogits, Indices targets, Temperature temperature, Floats gradKl,
            Logits dNew) {
        newOldBackward(oldLogits, newLogits, targets, temperature, null, null, gradKl, dNew);
    }

    /**
     * The same from the KL and the statistics that {@link #newOld(Logits, Logits, Indices, Temperature, Floats, Floats, Floats,
     * Floats, Floats, KlStatistics)} has left for these rows, as {@link #oldNewBackward(Logits, Logits, Indices, Temperature,
     * KlStatistics, Floats, Logits)}.
     *
     * @param kl [rows]; null without statistics
     * @param statistics [rows] each, or null: then they are computed again
     */
    public static void newOldBackward(Logits oldLogits, Logits newLogits, Indices targets, Temperature temperature, Floats kl,
            KlStatistics statistics, Floats gradKl, Logits dNew) {
        if (statistics != null) {
            Check.given(kl, "kl");
        }
        backward(false, oldLogits, newLogits, targets, temperature, kl, statistics, gradKl, dNew);
    }

    // ---- both directions ----

    private static void checkInputs(Logits oldLogits, Logits newLogits, Indices targets, Temperature temperature) {
        Check.given(oldLogits, "oldLogits");
        Check.sameShape(Check.given(newLogits, "newLogits"), "newLogits", oldLogits, "oldLogits");
        Check.length(targets, "targets", newLogits.rows(), Check.ROWS);
        Check.temperature(temperature, newLogits.rows());
    }

    /** @param oldFirst whether it is KL(old || new), so that P is the old policy */
    private static void forward(boolean oldFirst, Logits oldLogits, Logits newLogits, Indices targets, Temperature temperature, Floats kl,
            Floats logProbsOld, Floats logProbsNew, Floats entropyOld, Floats entropyNew, KlStatistics statistics) {
        checkInputs(oldLogits, newLogits, targets, temperature);
        Check.given(kl, "kl");
        if (logProbsOld != null || logProbsNew != null) {
            Check.needed(targets, "targets", "log-probs are those of the targets");
        }
        checkOutput(kl, "kl", oldLogits, newLogits, targets, temperature);
        checkOutput(logProbsOld, "logProbsOld", oldLogits, newLogits, targets, temperature);
        checkOutput(logProbsNew, "logProbsNew", oldLogits, newLogits, targets, temperature);
        checkOutput(entropyOld, "entropyOld", oldLogits, newLogits, targets, temperature);
        checkOutput(entropyNew, "entropyNew", oldLogits, newLogits, targets, temperature);
        Check.allApart(kl, "kl", logProbsOld, "logProbsOld", logProbsNew, "logProbsNew");
        Check.allApart(kl, "kl", entropyOld, "entropyOld", entropyNew, "entropyNew");
        Check.apart(logProbsOld, "logProbsOld", entropyOld, "entropyOld");
        Check.apart(logProbsOld, "logProbsOld", entropyNew, "entropyNew");
        Check.apart(logProbsNew, "logProbsNew", entropyOld, "entropyOld");
        Check.apart(logProbsNew, "logProbsNew", entropyNew, "entropyNew");
        if (statistics != null) {
            statistics.checkOutputs(oldLogits, newLogits, targets, temperature);
            statistics.checkApart(kl, "kl");
            statistics.checkApart(logProbsOld, "logProbsOld");
            statistics.checkApart(logProbsNew, "logProbsNew");
            statistics.checkApart(entropyOld, "entropyOld");
            statistics.checkApart(entropyNew, "entropyNew");
        }

        Backend.current();
        final Device device = oldLogits.device();
        final long oldAddress = Check.address(oldLogits, "oldLogits", device);
        final long newAddress = Check.address(newLogits, "newLogits", device);
        final long oldLogProbs = Check.address(logProbsOld, "logProbsOld", device);
        final long newLogProbs = Check.address(logProbsNew, "logProbsNew", device);
        final long oldEntropy = Check.address(entropyOld, "entropyOld", device);
        final long newEntropy = Check.address(entropyNew, "entropyNew", device);
        final Logits p = oldFirst ? oldLogits : newLogits;
        final Logits q = oldFirst ? newLogits : oldLogits;
        final int status = teamtr.teamtr_kl_with_statistics(device.index(), device.stream(),
                oldFirst ? oldAddress : newAddress, p.dtype().code, p.rows(), p.vocab(), p.rowStride(), p.rowsPerBatch(), p.batchStride(),
                oldFirst ? newAddress : oldAddress, q.rowStride(), q.rowsPerBatch(), q.batchStride(),
                Check.address(targets, "targets", device), Check.type(targets),
                temperature.scalar(), Check.address(temperature, device), Check.address(kl, "kl", device),
                oldFirst ? oldLogProbs : newLogProbs, oldFirst ? newLogProbs : oldLogProbs,
                oldFirst ? oldEntropy : newEntropy, oldFirst ? newEntropy : oldEntropy,
                statistics == null ? 0 : Check.address(statistics.lseP(), "lseP", device),
                statistics == null ? 0 : Check.address(statistics.lseQ(), "lseQ", device),
                statistics == null ? 0 : Check.address(statistics.logRatio(), "logRatio", device));
        Check.alive(oldLogits, newLogits, targets, temperature);
        Check.alive(kl, logProbsOld, logProbsNew, entropyOld);
        Check.alive(entropyNew, statistics, null, null);
        Check.status(status);
    }

    private static void checkOutput(Floats output, String name, Logits oldLogits, Logits newLogits, Indices targets,
            Temperature temperature) {
        Check.output(output, name, newLogits.rows(), Check.ROWS);
        Check.apart(output, name, oldLogits, "oldLogits", targets, "targets", temperature);
        Check.apart(output, name, newLogits, "newLogits");
    }

    /** The gradient with respect to the new logits: to Q if {@code oldFirst}, else to P. */
    private static void backward(boolean oldFirst, Logits oldLogits, Logits newLogits, Indices targets, Temperature temperature, Floats kl,
            KlStatistics statistics, Floats gradKl, Logits dNew) {
        checkInputs(oldLogits, newLogits, targets, temperature);
        Check.given(gradKl, "gradKl");
        Check.gradient(dNew, "dNew", newLogits, "newLogits", targets, temperature);
        Check.apartOrSame(dNew, "dNew", oldLogits, "oldLogits");
        Check.gradientInput(gradKl, "gradKl", dNew, "dNew");
        Check.gradientInput(kl, "kl", dNew, "dNew");
        if (statistics != null) {
            statistics.checkInputs(dNew, "dNew");
        }

        Backend.current();
        final Device device = oldLogits.device();
        final long oldAddress = Check.address(oldLogits, "oldLogits", device);
        final long newAddress = Check.address(newLogits, "newLogits", device);
        final Logits p = oldFirst ? oldLogits : newLogits;
        final Logits q = oldFirst ? newLogits : oldLogits;
        final int status = teamtr.teamtr_kl_backward_from_statistics(device.index(), device.stream(),
                oldFirst ? oldAddress : newAddress, p.dtype().code, p.rows(), p.vocab(), p.rowStride(), p.rowsPerBatch(), p.batchStride(),
                oldFirst ? newAddress : oldAddress, q.rowStride(), q.rowsPerBatch(), q.batchStride(),
                Check.address(targets, "targets", device), Check.type(targets),
                temperature.scalar(), Check.address(temperature, device), Check.address(kl, "kl", device),
                statistics == null ? 0 : Check.address(statistics.lseP(), "lseP", device),
                statistics == null ? 0 : Check.address(statistics.lseQ(), "lseQ", device),
                statistics == null ? 0 : Check.address(statistics.logRatio(), "logRatio", device),
                Check.address(gradKl, "gradKl", device), oldFirst ? 1 : 0,
                Check.address(dNew, "dNew", device), dNew.rowStride(), dNew.rowsPerBatch(), dNew.batchStride());
        Check.alive(oldLogits, newLogits, targets, temperature);
        Check.alive(kl, statistics, gradKl, dNew);
        Check.status(status);
    }
}
