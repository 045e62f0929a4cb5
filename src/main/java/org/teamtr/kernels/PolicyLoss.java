package org.teamtr.kernels;

import org.teamtr.kernels.internal.global.teamtr;

/**
 * From logits to the loss of Eq. 10 and its gradient with respect to the logits, in two sweeps: {@link LogProbs} (and, with old
 * logits, {@link TokenKl#oldNew}), {@link Surrogate}, and the gradient, without a vector going through Java in between.
 *
 * <p>One object holds the working memory for up to {@code maxRows} rows and the per-token results of its last call; make one and
 * reuse it, so that a training step allocates nothing:
 * <pre>{@code
 * try (PolicyLoss loss = new PolicyLoss(4096, true)) {
 *     // for every batch of up to 4096 tokens:
 *     loss.forwardBackward(SurrogateConfig.PAPER, logits, null, targets, Temperature.of(0.8f), logProbsOld, advantages, cuSeqlens,
 *             mask, null, logits); // gradient in place
 *     System.out.println(loss.stats().loss() + ", KL about " + loss.stats().monitorK1());
 * }
 * }</pre>
 *
 * <p><b>Threads.</b> One object serves one call at a time; threads need one each. <b>Memory.</b> 36 bytes per row, freed by
 * {@link #close()}; inside a JavaCPP {@code PointerScope} it belongs to the scope. On a CUDA device all of it, also results and
 * statistics, is device memory; {@link SurrogateStats} says when statistics are copied to the host.
 */
public final class PolicyLoss implements AutoCloseable {
    /** f32 of scratch memory per row, see teamtr_policy_loss. */
    private static final long WORK = 5;

    private final long maxRows;
    private final boolean monitorEntropy;
    private final Floats logProbs;
    private final Floats lse;
    private final Floats entropy;
    private final Floats kl;
    private final Floats work;
    private final SurrogateStats stats;

    /** Of the last call; -1 before the first, or after one that failed. */
    private long rows = -1;
    private boolean hasEntropy;
    private boolean hasKl;

    /** On the CPU; see {@link #PolicyLoss(Device, long, boolean)}. */
    public PolicyLoss(long maxRows, boolean monitorEntropy) {
        this(Device.CPU, maxRows, monitorEntropy);
    }

    /**
     * @param device of its memory and of all arguments of its calls
     * @param maxRows the largest number of rows of a call
     * @param monitorEntropy whether to compute entropies even where entropyCoef is 0, for {@link SurrogateStats#entropy}
     * @throws IllegalArgumentException if {@code maxRows} is negative
     * @throws DeviceException if the device has no such memory
     * @throws IllegalStateException if the natives of JavaCPP cannot be loaded, or device memory is not available; see
     *     {@link CudaMemory}
     */
    public PolicyLoss(Device device, long maxRows, boolean monitorEntropy) {
        Check.notNegative(maxRows, "maxRows");
        if (maxRows > Long.MAX_VALUE / (WORK * Float.BYTES)) {
            throw new IllegalArgumentException("maxRows: expected a size in bytes that fits 64 bits, given " + maxRows);
        }
        this.maxRows = maxRows;
        this.monitorEntropy = monitorEntropy;
        this.logProbs = Floats.allocate(device, maxRows);
        this.lse = Floats.allocate(device, maxRows);
        this.entropy = Floats.allocate(device, maxRows);
        this.kl = Floats.allocate(device, maxRows);
        this.work = Floats.allocate(device, WORK * maxRows);
        this.stats = new SurrogateStats(device);
    }

    /**
     * Computes the loss (in {@link #stats()}) and its gradient with respect to {@code logits}. A row is one token; its target is
     * the token that was sampled there.
     *
     * @param config as for {@link Surrogate}; set {@link SurrogateConfig#withTotals} when this is one micro-batch of several
     * @param logits [rows, vocab] of the policy being trained
     * @param oldLogits the same shape and dtype, of the policy that sampled; needed by the KL term EXACT, otherwise may be null. If
     *     given, the exact KL(old || new) is monitored as well
     * @param targets [rows]; {@link Indices#IGNORE} takes a token out as a mask of 0 does, and its row is not read
     * @param temperature at which the tokens were sampled and {@code logProbsOld} computed
     * @param logProbsOld [rows]
     * @param advantages [messages] or [rows], as {@link SurrogateConfig#advantagePer} says
     * @param cuSeqlens [messages + 1], bounds of the messages among the rows
     * @param mask [rows], or null: every token counts
     * @param centredReturns [messages], for {@link SurrogateStats#zetaNorm}, or null
     * @param dLogits written; shape and dtype of the logits, either apart from them or exactly them (then they are lost)
     * @throws IllegalArgumentException if shapes do not agree, there are more than {@code maxRows} rows, {@code dLogits} overlaps
     *     anything in part, a vector that is needed is null, or a target, temperature or bound is out of range; nothing has
     *     then been written
     * @throws IllegalStateException if memory of an argument or this object was closed, or the kernels cannot be loaded
     */
    public void forwardBackward(SurrogateConfig config, Logits logits, Logits oldLogits, Indices targets, Temperature temperature,
            Floats logProbsOld, Floats advantages, Indices cuSeqlens, Mask mask, Floats centredReturns, Logits dLogits) {
        rows = -1;
        Check.given(config, "config");
        final long n = Check.given(logits, "logits").rows();
        if (n > maxRows) {
            throw new IllegalArgumentException("logits: expected at most " + maxRows + " rows (maxRows), given " + n);
        }
        if (oldLogits != null) {
            Check.sameShape(oldLogits, "oldLogits", logits, "logits");
        } else if (config.klTerm() == SurrogateConfig.KlTerm.EXACT) {
            Check.needed(null, "oldLogits", "the KL term is EXACT");
        }
        Check.length(Check.given(targets, "targets"), "targets", n, Check.ROWS);
        Check.temperature(temperature, n);
        Check.length(Check.given(logProbsOld, "logProbsOld"), "logProbsOld", n, Check.ROWS);
        final long messages = Check.messages(Check.given(cuSeqlens, "cuSeqlens"));
        config.checkAdvantages(advantages, n, messages);
        Check.length(mask, "mask", n, Check.ROWS);
        Check.length(centredReturns, "centredReturns", messages, "the messages of cuSeqlens");
        Check.gradient(dLogits, "dLogits", logits, "logits", targets, temperature);
        Check.apart(dLogits, "dLogits", oldLogits, "oldLogits");
        Check.apart(dLogits, "dLogits", logProbsOld, "logProbsOld");
        Check.apart(dLogits, "dLogits", advantages, "advantages");
        Check.apart(dLogits, "dLogits", cuSeqlens, "cuSeqlens");
        Check.apart(dLogits, "dLogits", mask, "mask");
        Check.apart(dLogits, "dLogits", centredReturns, "centredReturns");
        // A trainer's second step on a batch is tempted to pass logProbs() of the first as logProbsOld: it needs a copy.
        checkOwn(logProbsOld, "logProbsOld");
        checkOwn(advantages, "advantages");
        checkOwn(temperature.vector(), "temperature");
        checkOwn(centredReturns, "centredReturns");

        final boolean withEntropy = monitorEntropy || config.entropyCoef() != 0;
        final boolean withKl = oldLogits != null;
        Backend.current();
        final Device device = logits.device();
        final int status = teamtr.teamtr_policy_loss(device.index(), device.stream(),
                Check.address(logits, "logits", device), logits.dtype().code, n, logits.vocab(),
                logits.rowStride(), logits.rowsPerBatch(), logits.batchStride(),
                Check.address(oldLogits, "oldLogits", device), withKl ? oldLogits.rowStride() : 0,
                withKl ? oldLogits.rowsPerBatch() : 0, withKl ? oldLogits.batchStride() : 0,
                Check.address(targets, "targets", device), Check.type(targets),
                temperature.scalar(), Check.address(temperature, device),
                Check.address(logProbsOld, "logProbsOld", device), Check.address(advantages, "advantages", device),
                config.perToken(),
                Check.address(cuSeqlens, "cuSeqlens", device), Check.type(cuSeqlens), messages,
                Check.address(mask, "mask", device), Check.address(centredReturns, "centredReturns", device),
                config.ratio().code, config.epsLow(), config.epsHigh(), config.dualClip(),
                config.klTerm().code, config.beta(), config.klAggregation().code, config.entropyCoef(),
                config.aggregation().code, config.fixedLength(), config.totalTokens(), config.totalMessages(),
                Check.address(logProbs, "policyLoss", device), Check.address(lse, "policyLoss", device),
                withEntropy ? Check.address(entropy, "policyLoss", device) : 0,
                withKl ? Check.address(kl, "policyLoss", device) : 0,
                Check.address(work, "policyLoss", device),
                Check.address(dLogits, "dLogits", device), dLogits.rowStride(), dLogits.rowsPerBatch(), dLogits.batchStride(),
                stats.address(device));
        Check.alive(logits, oldLogits, targets, temperature);
        Check.alive(logProbsOld, advantages, cuSeqlens, mask);
        Check.alive(centredReturns, dLogits, this, null);
        Check.status(status);
        hasEntropy = withEntropy;
        hasKl = withKl;
        rows = n;
    }

    /**
     * The second sweep alone, for a loss of more rows than there is room for logits: the gradient with respect to {@code logits} of
     * <pre>
     *   sum_r gradLogProbs[r] * logProb[r] + gradEntropy[r] * entropy[r] + gradKl[r] * KL(old || new)[r]
     * </pre>
     * from what {@link TokenKl#oldNew(Logits, Logits, Indices, Temperature, Floats, Floats, Floats, Floats, Floats, KlStatistics)} has
     * left of these rows. Reads both logits once, and writes {@code dLogits} once. Without a KL that is {@link LogProbs#backward}.
     *
     * @param targets [rows]; {@link Indices#IGNORE}: the row's gradient is 0
     * @param logProbs [rows] of the new policy
     * @param entropy [rows] of the new policy; may be null without {@code gradEntropy}
     * @param statistics [rows] each, P = old and Q = new
     * @param gradLogProbs [rows], or null for zeros
     * @param gradEntropy [rows], or null for zeros
     * @param gradKl [rows]
     * @param dLogits written; as for {@link #forwardBackward}
     * @throws IllegalArgumentException as {@link #forwardBackward}
     * @throws IllegalStateException as {@link #forwardBackward}
     */
    public static void backward(Logits logits, Logits oldLogits, Indices targets, Temperature temperature, Floats logProbs,
            Floats entropy, KlStatistics statistics, Floats gradLogProbs, Floats gradEntropy, Floats gradKl, Logits dLogits) {
        final long n = Check.given(logits, "logits").rows();
        Check.sameShape(Check.given(oldLogits, "oldLogits"), "oldLogits", logits, "logits");
        Check.length(Check.given(targets, "targets"), "targets", n, Check.ROWS);
        Check.temperature(temperature, n);
        Check.gradient(dLogits, "dLogits", logits, "logits", targets, temperature);
        Check.apart(dLogits, "dLogits", oldLogits, "oldLogits");
        Check.given(logProbs, "logProbs");
        Check.given(gradKl, "gradKl");
        if (gradEntropy != null) {
            Check.needed(entropy, "entropy", "gradEntropy is given");
        }
        Check.gradientInput(logProbs, "logProbs", dLogits, "dLogits");
        Check.gradientInput(entropy, "entropy", dLogits, "dLogits");
        Check.gradientInput(gradLogProbs, "gradLogProbs", dLogits, "dLogits");
        Check.gradientInput(gradEntropy, "gradEntropy", dLogits, "dLogits");
        Check.gradientInput(gradKl, "gradKl", dLogits, "dLogits");
        Check.given(statistics, "statistics").checkInputs(dLogits, "dLogits");
        Backend.current();
        final Device device = logits.device();
        final int status = teamtr.teamtr_policy_loss_backward(device.index(), device.stream(),
                Check.address(logits, "logits", device), logits.dtype().code, n, logits.vocab(),
                logits.rowStride(), logits.rowsPerBatch(), logits.batchStride(),
                Check.address(oldLogits, "oldLogits", device), oldLogits.rowStride(), oldLogits.rowsPerBatch(), oldLogits.batchStride(),
                Check.address(targets, "targets", device), Check.type(targets),
                temperature.scalar(), Check.address(temperature, device),
                Check.address(logProbs, "logProbs", device), Check.address(entropy, "entropy", device),
                Check.address(statistics.lseP(), "lseP", device), Check.address(statistics.lseQ(), "lseQ", device),
                Check.address(statistics.logRatio(), "logRatio", device),
                Check.address(gradLogProbs, "gradLogProbs", device), Check.address(gradEntropy, "gradEntropy", device),
                Check.address(gradKl, "gradKl", device),
                Check.address(dLogits, "dLogits", device), dLogits.rowStride(), dLogits.rowsPerBatch(), dLogits.batchStride());
        Check.alive(logits, oldLogits, targets, temperature);
        Check.alive(logProbs, entropy, statistics, gradLogProbs);
        Check.alive(gradEntropy, gradKl, dLogits, null);
        Check.status(status);
    }

    private void checkOwn(Floats argument, String name) {
        if (argument != null && (argument.overlaps(logProbs) || argument.overlaps(lse) || argument.overlaps(entropy)
                || argument.overlaps(kl))) {
            throw new IllegalArgumentException(name + ": expected memory apart from this object's results, given a part of them");
        }
    }

    /** {@return loss and statistics of the last call; the same object every time} */
    public SurrogateStats stats() {
        return stats;
    }

    /** {@return [rows] log-probs of the last call's targets; a view that the next call overwrites} */
    public Floats logProbs() {
        return logProbs.slice(0, lastRows());
    }

    /** {@return [rows] log-normalisers of the last call; a view that the next call overwrites} */
    public Floats lse() {
        return lse.slice(0, lastRows());
    }

    /**
     * {@return [rows] entropies of the last call; a view that the next call overwrites}
     *
     * @throws IllegalStateException if the last call computed none
     */
    public Floats entropy() {
        final long n = lastRows();
        if (!hasEntropy) {
            throw new IllegalStateException("entropy: not computed; construct with monitorEntropy, or set entropyCoef");
        }
        return entropy.slice(0, n);
    }

    /**
     * {@return [rows] exact KL(old || new) of the last call; a view that the next call overwrites}
     *
     * @throws IllegalStateException if the last call had no old logits
     */
    public Floats kl() {
        final long n = lastRows();
        if (!hasKl) {
            throw new IllegalStateException("kl: not computed; the last call had no oldLogits");
        }
        return kl.slice(0, n);
    }

    private long lastRows() {
        if (rows < 0) {
            throw new IllegalStateException("there is no result: no call of forwardBackward yet, or the last one failed");
        }
        return rows;
    }

    /** Frees the working memory, the results and the statistics. */
    @Override
    public void close() {
        logProbs.close();
        lse.close();
        entropy.close();
        kl.close();
        work.close();
        stats.close();
    }
}
