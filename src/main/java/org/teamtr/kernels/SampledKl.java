package org.teamtr.kernels;

import org.teamtr.kernels.internal.global.teamtr;

/**
 * Estimates of KL(old || new) from tokens that the old policy sampled, out of their log-probs alone.
 *
 * <p>Summed over a message's tokens, k1 is the monitor of TeamTR (arXiv 2605.15207, Eq. 11): the mean of {@code perMessage} over
 * messages is what the radius bounds, a sum over tokens and not their mean. The log-probs must be at the temperature the tokens
 * were sampled at. {@link TokenKl} gives the exact value where logits of both policies are at hand.
 *
 * <p>Sums are taken in double and in token order, results are f32, in nats. NaN or infinite log-probs reach the estimates they
 * belong to and their message's sum, nothing else.
 *
 * <p><b>Threads.</b> Any number at once, on outputs of their own. Calls allocate nothing and own no memory.
 *
 * <pre>{@code
 * try (Floats perMessage = Floats.allocate(cuSeqlens.length() - 1)) {
 *     SampledKl.compute(SampledKl.Estimator.K1, logProbsOld, logProbsNew, cuSeqlens, null, perMessage);
 * }
 * }</pre>
 */
public final class SampledKl {
    /** What to compute from d = log old - log new of a sampled token. */
    public enum Estimator {
        /** d: unbiased, may be negative on a finite sample. */
        K1(teamtr.TEAMTR_K1),
        /** d<sup>2</sup> / 2: never negative, low variance, biased. */
        K2(teamtr.TEAMTR_K2),
        /** exp(-d) - 1 + d: never negative, unbiased. */
        K3(teamtr.TEAMTR_K3),
        /** |d|: a distance for monitoring, not an estimate of the KL. */
        ABS(teamtr.TEAMTR_ABS);

        final int code;

        Estimator(int code) {
            this.code = code;
        }
    }

    private SampledKl() {
    }

    /**
     * @param logProbsOld [tokens] under the policy that sampled the tokens
     * @param logProbsNew [tokens]
     * @param cuSeqlens [messages + 1], see {@link Indices}; may be null without {@code perMessage}
     * @param perToken [tokens], written, or null
     * @param perMessage [messages], written with sums over tokens, or null; one of the two is needed
     * @throws IllegalArgumentException if lengths do not agree, an output overlaps anything, or {@code cuSeqlens} does not bound
     *     the tokens
     * @throws IllegalStateException if memory of an argument was closed, or the kernels cannot be loaded
     */
    public static void compute(Estimator estimator, Floats logProbsOld, Floats logProbsNew, Indices cuSeqlens, Floats perToken,
            Floats perMessage) {
        Check.given(estimator, "estimator");
        final long tokens = Check.given(logProbsOld, "logProbsOld").length();
        Check.length(Check.given(logProbsNew, "logProbsNew"), "logProbsNew", tokens, "that of logProbsOld");
        if (perMessage != null) {
            Check.needed(cuSeqlens, "cuSeqlens", "perMessage asks for it");
        } else if (perToken == null) {
            throw new IllegalArgumentException("perToken, perMessage: expected at least one, given null for both");
        }
        final long messages = cuSeqlens == null ? 0 : Check.messages(cuSeqlens);
        Check.output(perToken, "perToken", tokens, "that of logProbsOld");
        Check.output(perMessage, "perMessage", messages, "the messages of cuSeqlens");
        Check.apart(perToken, "perToken", logProbsOld, "logProbsOld");
        Check.apart(perToken, "perToken", logProbsNew, "logProbsNew");
        Check.apart(perToken, "perToken", cuSeqlens, "cuSeqlens");
        Check.apart(perToken, "perToken", perMessage, "perMessage");
        Check.apart(perMessage, "perMessage", logProbsOld, "logProbsOld");
        Check.apart(perMessage, "perMessage", logProbsNew, "logProbsNew");
        Check.apart(perMessage, "perMessage", cuSeqlens, "cuSeqlens");

        Backend.current();
        final Device device = logProbsOld.device();
        final int status = teamtr.teamtr_sampled_kl(device.index(), device.stream(),
                estimator.code,
                Check.address(logProbsOld, "logProbsOld", device), Check.address(logProbsNew, "logProbsNew", device), tokens,
                Check.address(cuSeqlens, "cuSeqlens", device), Check.type(cuSeqlens), messages,
                Check.address(perToken, "perToken", device), Check.address(perMessage, "perMessage", device));
        Check.alive(logProbsOld, logProbsNew, cuSeqlens, perToken);
        Check.alive(perMessage, null, null, null);
        Check.status(status);
    }
}
