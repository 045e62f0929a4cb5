package org.teamtr.kernels;

import org.teamtr.kernels.internal.global.teamtr;

/**
 * Group-normalised, clipped advantages (TeamTR, arXiv 2605.15207, Eq. 9).
 *
 * <p>For each group of episodes that answered the same prompt, with returns R:
 * <pre>
 *   mu = mean R      sigma = sqrt( mean (R - mu)^2 + epsNorm )      A = clip( (R - mu) / sigma, -clip, +clip )
 * </pre>
 * sigma is the population's, epsNorm stands inside the root. A group of equal returns gives exactly 0. Since
 * |R - mu| / sigma &lt;= sqrt(groupSize - 1), a larger {@code clip} never acts. A NaN or infinite return makes its own group NaN,
 * and no other.
 *
 * <p><b>Threads.</b> Any number at once, on outputs of their own. Calls allocate nothing and own no memory.
 *
 * <pre>{@code
 * try (Floats returns = Floats.ofFloats(1, 0, 0, 1); Floats advantages = Floats.allocate(4)) {
 *     Advantages.groupNormalised(returns, 4, 1e-8, 10, true, advantages, null); // 1, -1, -1, 1
 * }
 * }</pre>
 */
public final class Advantages {
    private Advantages() {
    }

    /**
     * @param returns [groups * groupSize], groups one after the other
     * @param groupSize episodes per group, 1 or more
     * @param epsNorm 0 or more
     * @param clip more than 0; +inf for none
     * @param normalise false leaves out the division by sigma: A = clip(R - mu)
     * @param advantages as many, written
     * @param centred as many, written with R - mu, or null; {@link Surrogate} takes them per message
     * @throws IllegalArgumentException if lengths do not agree, an output overlaps anything, or a number is out of range
     * @throws IllegalStateException if memory of an argument was closed, or the kernels cannot be loaded
     */
    public static void groupNormalised(Floats returns, long groupSize, double epsNorm, double clip, boolean normalise,
            Floats advantages, Floats centred) {
        final long count = Check.given(returns, "returns").length();
        Check.positive(groupSize, "groupSize");
        if (count % groupSize != 0) {
            throw new IllegalArgumentException("returns: expected a length that is a multiple of groupSize = " + groupSize
                    + ", given " + count);
        }
        if (!(epsNorm >= 0 && epsNorm < Double.POSITIVE_INFINITY)) {
            throw new IllegalArgumentException("epsNorm: expected 0 or more and finite, given " + epsNorm);
        }
        if (!(clip > 0)) {
            throw new IllegalArgumentException("clip: expected more than 0, given " + clip);
        }
        Check.output(Check.given(advantages, "advantages"), "advantages", count, "that of returns");
        Check.output(centred, "centred", count, "that of returns");
        Check.apart(advantages, "advantages", returns, "returns");
        Check.apart(centred, "centred", returns, "returns");
        Check.apart(advantages, "advantages", centred, "centred");

        Backend.current();
        final Device device = returns.device();
        final int status = teamtr.teamtr_group_advantages(device.index(), device.stream(),
                Check.address(returns, "returns", device), count, groupSize, epsNorm, clip, normalise ? 1 : 0,
                Check.address(advantages, "advantages", device), Check.address(centred, "centred", device));
        Check.alive(returns, advantages, centred, null);
        Check.status(status);
    }
}
