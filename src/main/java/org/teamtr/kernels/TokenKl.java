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
        check(oldLogits, newLogits, targets, temperature, kl, logProbsOld, logProbsNew, entropyOld, entropyNew, statistics);
        final int status = kl(oldLogits, newLogits, targets, temperature, kl, logProbsOld, logProbsNew, entropyOld, entropyNew,
                statistics);
        alive(oldLogits, newLogits, targets, temperature, kl, logProbsOld, logProbsNew, entropyOld, entropyNew, statistics);
        Check.status(status);
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
        check(oldLogits, newLogits, targets, temperature, kl, logProbsOld, logProbsNew, entropyOld, entropyNew, statistics);
        final int status = kl(newLogits, oldLogits, targets, temperature, kl, logProbsNew, logProbsOld, entropyNew, entropyOld,
                statistics);
        alive(oldLogits, newLogits, targets, temperature, kl, logProbsOld, logProbsNew, entropyOld, entropyNew, statistics);
        Check.status(status);
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
        check(oldLogits, newLogits, targets, temperature, null, statistics, gradKl, dNew);
        final int status = backward(oldLogits, newLogits, 1, targets, temperature, null, statistics, gradKl, dNew);
        alive(oldLogits, newLogits, targets, temperature, null, statistics, gradKl, dNew);
        Check.status(status);
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
        check(oldLogits, newLogits, targets, temperature, kl, statistics, gradKl, dNew);
        final int status = backward(newLogits, oldLogits, 0, targets, temperature, kl, statistics, gradKl, dNew);
        alive(oldLogits, newLogits, targets, temperature, kl, statistics, gradKl, dNew);
        Check.status(status);
    }

    // ---- checks ----

    private static void checkInputs(Logits oldLogits, Logits newLogits, Indices targets, Temperature temperature) {
        Check.given(oldLogits, "oldLogits");
        Check.sameShape(Check.given(newLogits, "newLogits"), "newLogits", oldLogits, "oldLogits");
        Check.length(targets, "targets", newLogits.rows(), Check.ROWS);
        Check.temperature(temperature, newLogits.rows());
    }

    private static void check(Logits oldLogits, Logits newLogits, Indices targets, Temperature temperature, Floats kl,
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
        Check.apart(kl, "kl", logProbsOld, "logProbsOld");
        Check.apart(kl, "kl", logProbsNew, "logProbsNew");
        Check.apart(kl, "kl", entropyOld, "entropyOld");
        Check.apart(kl, "kl", entropyNew, "entropyNew");
        Check.apart(logProbsOld, "logProbsOld", logProbsNew, "logProbsNew");
        Check.apart(logProbsOld, "logProbsOld", entropyOld, "entropyOld");
        Check.apart(logProbsOld, "logProbsOld", entropyNew, "entropyNew");
        Check.apart(logProbsNew, "logProbsNew", entropyOld, "entropyOld");
        Check.apart(logProbsNew, "logProbsNew", entropyNew, "entropyNew");
        Check.apart(entropyOld, "entropyOld", entropyNew, "entropyNew");
        if (statistics != null) {
            statistics.checkOutputs(oldLogits, newLogits, targets, temperature);
            statistics.checkApart(kl, "kl");
            statistics.checkApart(logProbsOld, "logProbsOld");
            statistics.checkApart(logProbsNew, "logProbsNew");
            statistics.checkApart(entropyOld, "entropyOld");
            statistics.checkApart(entropyNew, "entropyNew");
        }
        // Under the callers' names; the calls below know p and q only.
        final Device device = oldLogits.device();
        Check.address(oldLogits, "oldLogits", device);
        Check.address(newLogits, "newLogits", device);
        Check.address(logProbsOld, "logProbsOld", device);
        Check.address(logProbsNew, "logProbsNew", device);
        Check.address(entropyOld, "entropyOld", device);
        Check.address(entropyNew, "entropyNew", device);
    }

    private static void checkOutput(Floats output, String name, Logits oldLogits, Logits newLogits, Indices targets,
            Temperature temperature) {
        Check.output(output, name, newLogits.rows(), Check.ROWS);
        Check.apart(output, name, oldLogits, "oldLogits", targets, "targets", temperature);
        Check.apart(output, name, newLogits, "newLogits");
    }

    private static void check(Logits oldLogits, Logits newLogits, Indices targets, Temperature temperature, Floats kl,
            KlStatistics statistics, Floats gradKl, Logits dNew) {
        checkInputs(oldLogits, newLogits, targets, temperature);
        Check.length(Check.given(gradKl, "gradKl"), "gradKl", newLogits.rows(), Check.ROWS);
        Check.gradient(dNew, "dNew", newLogits, "newLogits");
        Check.apartOrSame(dNew, "dNew", oldLogits, "oldLogits");
        Check.apart(dNew, "dNew", targets, "targets");
        Check.apart(dNew, "dNew", temperature.vector(), "temperature");
        Check.apart(dNew, "dNew", gradKl, "gradKl");
        Check.length(kl, "kl", newLogits.rows(), Check.ROWS);
        Check.apart(dNew, "dNew", kl, "kl");
        if (statistics != null) {
            statistics.checkInputs(newLogits.rows(), dNew, "dNew");
        }
        final Device device = oldLogits.device();
        Check.address(oldLogits, "oldLogits", device);
        Check.address(newLogits, "newLogits", device);
    }

    // ---- calls: P first ----

    private static int kl(Logits p, Logits q, Indices targets, Temperature temperature, Floats kl, Floats logProbsP,
            Floats logProbsQ, Floats entropyP, Floats entropyQ, KlStatistics statistics) {
        Backend.current();
        final Device device = p.device();
        return teamtr.teamtr_kl_with_statistics(device.index(), device.stream(),
                Check.address(p, "p", device), p.dtype().code, p.rows(), p.vocab(),
                p.rowStride(), p.rowsPerBatch(), p.batchStride(),
                Check.address(q, "q", device), q.rowStride(), q.rowsPerBatch(), q.batchStride(),
                Check.address(targets, "targets", device), Check.type(targets),
                temperature.scalar(), Check.address(temperature, device),
                Check.address(kl, "kl", device),
                Check.address(logProbsP, "logProbsP", device), Check.address(logProbsQ, "logProbsQ", device),
                Check.address(entropyP, "entropyP", device), Check.address(entropyQ, "entropyQ", device),
                statistics == null ? 0 : Check.address(statistics.lseP(), "lseP", device),
                statistics == null ? 0 : Check.address(statistics.lseQ(), "lseQ", device),
                statistics == null ? 0 : Check.address(statistics.logRatio(), "logRatio", device));
    }

    private static int backward(Logits p, Logits q, int wrtQ, Indices targets, Temperature temperature, Floats kl,
            KlStatistics statistics, Floats gradKl, Logits d) {
        Backend.current();
        final Device device = p.device();
        return teamtr.teamtr_kl_backward_from_statistics(device.index(), device.stream(),
                Check.address(p, "p", device), p.dtype().code, p.rows(), p.vocab(),
                p.rowStride(), p.rowsPerBatch(), p.batchStride(),
                Check.address(q, "q", device), q.rowStride(), q.rowsPerBatch(), q.batchStride(),
                Check.address(targets, "targets", device), Check.type(targets),
                temperature.scalar(), Check.address(temperature, device),
                Check.address(kl, "kl", device),
                statistics == null ? 0 : Check.address(statistics.lseP(), "lseP", device),
                statistics == null ? 0 : Check.address(statistics.lseQ(), "lseQ", device),
                statistics == null ? 0 : Check.address(statistics.logRatio(), "logRatio", device),
                Check.address(gradKl, "gradKl", device), wrtQ,
                Check.address(d, "dNew", device), d.rowStride(), d.rowsPerBatch(), d.batchStride());
    }

    private static void alive(Logits oldLogits, Logits newLogits, Indices targets, Temperature temperature, Floats kl,
            Floats logProbsOld, Floats logProbsNew, Floats entropyOld, Floats entropyNew, KlStatistics statistics) {
        Check.alive(oldLogits, newLogits, targets, temperature);
        Check.alive(kl, logProbsOld, logProbsNew, entropyOld);
        Check.alive(entropyNew, statistics, null, null);
    }

    private static void alive(Logits oldLogits, Logits newLogits, Indices targets, Temperature temperature, Floats kl,
            KlStatistics statistics, Floats gradKl, Logits dNew) {
        Check.alive(oldLogits, newLogits, targets, temperature);
        Check.alive(kl, statistics, gradKl, dNew);
    }
}
