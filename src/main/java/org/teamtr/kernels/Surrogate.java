package org.teamtr.kernels;

import org.teamtr.kernels.internal.global.teamtr;

/**
 * The clipped trust-region surrogate on log-probs (TeamTR, arXiv 2605.15207, Eq. 10), its gradient and its statistics.
 *
 * <p>See {@link SurrogateConfig} for the formula and {@link SurrogateStats} for the results. Log-probs and entropies are in nats,
 * all vectors f32; sums are double, in token order, so the same numbers give the same bits at any thread count.
 *
 * <p>A token whose mask is 0 is excluded from all results and its log-probs are not read; its gradients are 0. NaN or
 * infinity in a token that counts reaches every sum it belongs to, and the gradients of the tokens that share its ratio.
 *
 * <p>{@link PolicyLoss} does this and the sweeps over the logits in one call.
 *
 * <p><b>Threads.</b> Any number at once, on outputs of their own. Calls allocate nothing.
 *
 * <pre>{@code
 * try (SurrogateStats stats = new SurrogateStats()) {
 *     Surrogate.compute(SurrogateConfig.PAPER, logProbsNew, logProbsOld, advantages, cuSeqlens, null, null, null, null, gradLogProbs,
 *             null, null, stats);
 *     System.out.println(stats.loss());
 *     LogProbs.backward(logits, targets, Temperature.ONE, logProbsNew, lse, null, gradLogProbs, null, dLogits);
 * }
 * }</pre>
 */
public final class Surrogate {
    private Surrogate() {
    }

    /**
     * @param logProbsNew [tokens] of the policy being trained
     * @param logProbsOld [tokens] of the policy that sampled the tokens, at the same temperature
     * @param advantages [messages] or [tokens], as {@link SurrogateConfig#advantagePer} says; see {@link Advantages}
     * @param cuSeqlens [messages + 1], see {@link Indices}
     * @param mask [tokens], or null: every token counts
     * @param kl [tokens], exact KL(old || new) of {@link TokenKl#oldNew}; may be null unless the KL term is EXACT
     * @param entropy [tokens]; may be null unless entropyCoef is not 0
     * @param centredReturns [messages], un-normalised R - mean R for {@link SurrogateStats#zetaNorm}, or null
     * @param dLogProbs [tokens], written with d loss / d logProbsNew, or null
     * @param dKl [tokens], written with d loss / d kl (0 unless the KL term is EXACT), or null
     * @param dEntropy [tokens], written with d loss / d entropy, or null
     * @param stats written; owned by the caller
     * @throws IllegalArgumentException if lengths do not agree, an output overlaps anything, a vector that is needed is null, or
     *     {@code cuSeqlens} does not bound the tokens
     * @throws IllegalStateException if memory of an argument was closed, or the kernels cannot be loaded
     */
    public static void compute(SurrogateConfig config, Floats logProbsNew, Floats logProbsOld, Floats advantages,
            Indices cuSeqlens, Mask mask, Floats kl, Floats entropy, Floats centredReturns, Floats dLogProbs, Floats dKl,
            Floats dEntropy, SurrogateStats stats) {
        Check.given(config, "config");
        final long tokens = Check.given(logProbsNew, "logProbsNew").length();
        final String meaning = "that of logProbsNew";
        Check.length(Check.given(logProbsOld, "logProbsOld"), "logProbsOld", tokens, meaning);
        final long messages = Check.messages(Check.given(cuSeqlens, "cuSeqlens"));
        config.checkAdvantages(advantages, tokens, messages);
        Check.length(mask, "mask", tokens, meaning);
        Check.length(kl, "kl", tokens, meaning);
        Check.length(entropy, "entropy", tokens, meaning);
        Check.length(centredReturns, "centredReturns", messages, "the messages of cuSeqlens");
        if (config.klTerm() == SurrogateConfig.KlTerm.EXACT) {
            Check.needed(kl, "kl", "the KL term is EXACT");
        }
        if (config.entropyCoef() != 0) {
            Check.needed(entropy, "entropy", "entropyCoef is not 0");
        }
        Check.given(stats, "stats");
        Check.output(dLogProbs, "dLogProbs", tokens, meaning);
        Check.output(dKl, "dKl", tokens, meaning);
        Check.output(dEntropy, "dEntropy", tokens, meaning);
        apart(dLogProbs, "dLogProbs", logProbsNew, logProbsOld, advantages, cuSeqlens, mask, kl, entropy, centredReturns);
        apart(dKl, "dKl", logProbsNew, logProbsOld, advantages, cuSeqlens, mask, kl, entropy, centredReturns);
        apart(dEntropy, "dEntropy", logProbsNew, logProbsOld, advantages, cuSeqlens, mask, kl, entropy, centredReturns);
        Check.allApart(dLogProbs, "dLogProbs", dKl, "dKl", dEntropy, "dEntropy");
        stats.checkApart(logProbsNew, "logProbsNew");
        stats.checkApart(logProbsOld, "logProbsOld");
        stats.checkApart(advantages, "advantages");
        stats.checkApart(cuSeqlens, "cuSeqlens");
        stats.checkApart(mask, "mask");
        stats.checkApart(kl, "kl");
        stats.checkApart(entropy, "entropy");
        stats.checkApart(centredReturns, "centredReturns");
        stats.checkApart(dLogProbs, "dLogProbs");
        stats.checkApart(dKl, "dKl");
        stats.checkApart(dEntropy, "dEntropy");

        Backend.current();
        final Device device = logProbsNew.device();
        final int status = teamtr.teamtr_surrogate(device.index(), device.stream(),
                Check.address(logProbsNew, "logProbsNew", device), Check.address(logProbsOld, "logProbsOld", device), tokens,
                Check.address(advantages, "advantages", device), config.perToken(),
                Check.address(cuSeqlens, "cuSeqlens", device), Check.type(cuSeqlens), messages,
                Check.address(mask, "mask", device),
                Check.address(kl, "kl", device), Check.address(entropy, "entropy", device),
                Check.address(centredReturns, "centredReturns", device),
                config.ratio().code, config.epsLow(), config.epsHigh(), config.dualClip(),
                config.klTerm().code, config.beta(), config.klAggregation().code, config.entropyCoef(),
                config.aggregation().code, config.fixedLength(), config.totalTokens(), config.totalMessages(),
                Check.address(dLogProbs, "dLogProbs", device), Check.address(dKl, "dKl", device),
                Check.address(dEntropy, "dEntropy", device),
                stats.address(device));
        Check.alive(logProbsNew, logProbsOld, advantages, cuSeqlens);
        Check.alive(mask, kl, entropy, centredReturns);
        Check.alive(dLogProbs, dKl, dEntropy, stats);
        Check.status(status);
    }

    private static void apart(Floats output, String name, Floats logProbsNew, Floats logProbsOld, Floats advantages,
            Indices cuSeqlens, Mask mask, Floats kl, Floats entropy, Floats centredReturns) {
        Check.apart(output, name, logProbsNew, "logProbsNew");
        Check.apart(output, name, logProbsOld, "logProbsOld");
        Check.apart(output, name, advantages, "advantages");
        Check.apart(output, name, cuSeqlens, "cuSeqlens");
        Check.apart(output, name, mask, "mask");
        Check.apart(output, name, kl, "kl");
        Check.apart(output, name, entropy, "entropy");
        Check.apart(output, name, centredReturns, "centredReturns");
    }
}
