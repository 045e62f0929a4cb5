package org.teamtr.kernels;

import org.teamtr.kernels.internal.global.teamtr;

/**
 * The numbers of the trust-region surrogate (TeamTR, arXiv 2605.15207, Eq. 10):
 * <pre>
 *   loss = - agg( min(w A, clip(w, 1 - epsLow, 1 + epsHigh) A) ) + beta * klAgg( kl ) - entropyCoef * agg( entropy )
 * </pre>
 * Start from {@link #PAPER} and change what differs. Immutable.
 *
 * <pre>{@code
 * SurrogateConfig config = SurrogateConfig.PAPER.withClip(0.2, 0.28).withKl(SurrogateConfig.KlTerm.EXACT, 0.05);
 * }</pre>
 *
 * @param ratio the unit whose probability ratio w = new / old is clipped
 * @param epsLow how far below 1 the clip starts, 0 to 1; +inf for no clip on that side
 * @param epsHigh how far above 1 the clip starts, 0 or more; +inf for no clip on that side
 * @param dualClip for A &lt; 0, the w above which the objective stays at {@code dualClip * A}, more than 1; +inf for none
 * @param klTerm the KL term
 * @param beta weight of the KL term, 0 or more
 * @param klAggregation how the KL term's tokens are aggregated; the paper sums a message and averages messages (Eq. 11)
 * @param entropyCoef weight of the entropy bonus; not 0 needs the entropies
 * @param aggregation how the objective's (and the entropy's) tokens are aggregated
 * @param fixedLength the number of tokens that {@link Aggregation#FIXED_LENGTH} divides by for each message; not used otherwise
 * @param totalTokens tokens of the whole batch, so that micro-batches and ranks add up to its loss; 0 for this call's own
 * @param totalMessages messages of the whole batch, likewise
 * @param advantagePer whether advantages come one per message or one per token
 */
public record SurrogateConfig(Ratio ratio, double epsLow, double epsHigh, double dualClip, KlTerm klTerm, double beta,
        Aggregation klAggregation, double entropyCoef, Aggregation aggregation, double fixedLength, long totalTokens,
        long totalMessages, AdvantagePer advantagePer) {

    /** The unit whose probability ratio is clipped. log w is clamped to [-20, 20], with gradient 0 outside. */
    public enum Ratio {
        /** One w per message, the product over its tokens: Eq. 10. */
        MESSAGE(teamtr.TEAMTR_RATIO_MESSAGE),
        /** One w per token, as in PPO and GRPO. */
        TOKEN(teamtr.TEAMTR_RATIO_TOKEN),
        /** One w per message, the geometric mean over its tokens. */
        MESSAGE_MEAN(teamtr.TEAMTR_RATIO_MESSAGE_MEAN);

        final int code;

        Ratio(int code) {
            this.code = code;
        }
    }

    /** How per-token terms are aggregated. Only tokens and messages that the mask includes are counted. */
    public enum Aggregation {
        /** Sum over all tokens / number of tokens. */
        TOKEN_MEAN(teamtr.TEAMTR_TOKEN_MEAN),
        /** Mean over messages of the sum over their tokens. */
        SEQ_MEAN_TOKEN_SUM(teamtr.TEAMTR_SEQ_MEAN_TOKEN_SUM),
        /** Mean over messages of the mean over their tokens. */
        SEQ_MEAN_TOKEN_MEAN(teamtr.TEAMTR_SEQ_MEAN_TOKEN_MEAN),
        /** Sum over all tokens / (number of messages * fixedLength). */
        FIXED_LENGTH(teamtr.TEAMTR_FIXED_LENGTH);

        final int code;

        Aggregation(int code) {
            this.code = code;
        }
    }

    /** The KL(old || new) term of the loss; K1 to ABS as in {@link SampledKl.Estimator}. */
    public enum KlTerm {
        /** No term. */
        NONE(teamtr.TEAMTR_KL_NONE),
        /** log old - log new. */
        K1(teamtr.TEAMTR_K1),
        /** Half its square. */
        K2(teamtr.TEAMTR_K2),
        /** new/old - 1 - log(new/old). */
        K3(teamtr.TEAMTR_K3),
        /** Its absolute value. */
        ABS(teamtr.TEAMTR_ABS),
        /** The exact per-token values, of {@link TokenKl#oldNew} or of {@link PolicyLoss} with old logits. */
        EXACT(teamtr.TEAMTR_KL_EXACT);

        final int code;

        KlTerm(int code) {
            this.code = code;
        }
    }

    /** What an advantage belongs to. */
    public enum AdvantagePer {
        /** One A per message, that of its episode: the paper. */
        MESSAGE,
        /** One A per token. With a ratio per message, a token's term is min(w A_u, clip(w) A_u) with its message's w. */
        TOKEN
    }

    /** One ratio per message clipped to 0.8 .. 1.2, mean over messages, no KL term. */
    public static final SurrogateConfig PAPER = new SurrogateConfig(Ratio.MESSAGE, 0.2, 0.2, Double.POSITIVE_INFINITY, KlTerm.NONE,
            0, Aggregation.SEQ_MEAN_TOKEN_SUM, 0, Aggregation.SEQ_MEAN_TOKEN_MEAN, 0, 0, 0, AdvantagePer.MESSAGE);

    /** @throws IllegalArgumentException if something is null or out of the range stated above */
    public SurrogateConfig {
        Check.given(ratio, "ratio");
        Check.given(klTerm, "klTerm");
        Check.given(klAggregation, "klAggregation");
        Check.given(aggregation, "aggregation");
        Check.given(advantagePer, "advantagePer");
        final double inf = Double.POSITIVE_INFINITY;
        require(epsLow >= 0 && epsLow <= 1 || epsLow == inf, "epsLow", "0 to 1, or +inf", epsLow);
        require(epsHigh >= 0, "epsHigh", "0 or more", epsHigh);
        require(dualClip > 1, "dualClip", "more than 1", dualClip);
        require(beta >= 0 && beta < inf, "beta", "0 or more and finite", beta);
        require(Double.isFinite(entropyCoef), "entropyCoef", "a finite number", entropyCoef);
        final boolean fixed = aggregation == Aggregation.FIXED_LENGTH || klAggregation == Aggregation.FIXED_LENGTH;
        require(fixedLength < inf && (fixed ? fixedLength > 0 : fixedLength >= 0), "fixedLength",
                fixed ? "more than 0 and finite, for FIXED_LENGTH" : "0 or more and finite", fixedLength);
        Check.notNegative(totalTokens, "totalTokens");
        Check.notNegative(totalMessages, "totalMessages");
    }

    private static void require(boolean holds, String name, String expected, double given) {
        if (!holds) {
            throw new IllegalArgumentException(name + ": expected " + expected + ", given " + given);
        }
    }

    /** {@return a copy with this ratio} */
    public SurrogateConfig withRatio(Ratio ratio) {
        return new SurrogateConfig(ratio, epsLow, epsHigh, dualClip, klTerm, beta, klAggregation, entropyCoef, aggregation,
                fixedLength, totalTokens, totalMessages, advantagePer);
    }

    /** {@return a copy with this clip range} */
    public SurrogateConfig withClip(double epsLow, double epsHigh) {
        return new SurrogateConfig(ratio, epsLow, epsHigh, dualClip, klTerm, beta, klAggregation, entropyCoef, aggregation,
                fixedLength, totalTokens, totalMessages, advantagePer);
    }

    /** {@return a copy with this dual clip} */
    public SurrogateConfig withDualClip(double dualClip) {
        return new SurrogateConfig(ratio, epsLow, epsHigh, dualClip, klTerm, beta, klAggregation, entropyCoef, aggregation,
                fixedLength, totalTokens, totalMessages, advantagePer);
    }

    /** {@return a copy with this KL term} */
    public SurrogateConfig withKl(KlTerm klTerm, double beta) {
        return new SurrogateConfig(ratio, epsLow, epsHigh, dualClip, klTerm, beta, klAggregation, entropyCoef, aggregation,
                fixedLength, totalTokens, totalMessages, advantagePer);
    }

    /** {@return a copy whose KL term is aggregated this way} */
    public SurrogateConfig withKlAggregation(Aggregation klAggregation) {
        return new SurrogateConfig(ratio, epsLow, epsHigh, dualClip, klTerm, beta, klAggregation, entropyCoef, aggregation,
                fixedLength, totalTokens, totalMessages, advantagePer);
    }

    /** {@return a copy with this entropy bonus} */
    public SurrogateConfig withEntropyCoef(double entropyCoef) {
        return new SurrogateConfig(ratio, epsLow, epsHigh, dualClip, klTerm, beta, klAggregation, entropyCoef, aggregation,
                fixedLength, totalTokens, totalMessages, advantagePer);
    }

    /** {@return a copy whose objective is aggregated this way} */
    public SurrogateConfig withAggregation(Aggregation aggregation) {
        return new SurrogateConfig(ratio, epsLow, epsHigh, dualClip, klTerm, beta, klAggregation, entropyCoef, aggregation,
                fixedLength, totalTokens, totalMessages, advantagePer);
    }

    /** {@return a copy whose objective is aggregated by {@link Aggregation#FIXED_LENGTH} with this length} */
    public SurrogateConfig withFixedLength(double fixedLength) {
        return new SurrogateConfig(ratio, epsLow, epsHigh, dualClip, klTerm, beta, klAggregation, entropyCoef,
                Aggregation.FIXED_LENGTH, fixedLength, totalTokens, totalMessages, advantagePer);
    }

    /** {@return a copy with the whole batch's counts as denominators} */
    public SurrogateConfig withTotals(long totalTokens, long totalMessages) {
        return new SurrogateConfig(ratio, epsLow, epsHigh, dualClip, klTerm, beta, klAggregation, entropyCoef, aggregation,
                fixedLength, totalTokens, totalMessages, advantagePer);
    }

    /** {@return a copy that takes advantages this way} */
    public SurrogateConfig withAdvantagePer(AdvantagePer advantagePer) {
        return new SurrogateConfig(ratio, epsLow, epsHigh, dualClip, klTerm, beta, klAggregation, entropyCoef, aggregation,
                fixedLength, totalTokens, totalMessages, advantagePer);
    }

    // ---- checks and arguments of calls ----

    int perToken() {
        return advantagePer == AdvantagePer.TOKEN ? 1 : 0;
    }

    void checkAdvantages(Floats advantages, long tokens, long messages) {
        Check.given(advantages, "advantages");
        if (advantagePer == AdvantagePer.TOKEN) {
            Check.length(advantages, "advantages", tokens, "the tokens, since advantagePer is TOKEN");
        } else {
            Check.length(advantages, "advantages", messages, "the messages of cuSeqlens, since advantagePer is MESSAGE");
        }
    }
}
