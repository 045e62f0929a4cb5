package org.teamtr.train;

import java.util.Arrays;

/**
 * What is left of a new policy's distribution in a ball around the incumbent's, at one state, in closed form:
 * <pre>
 *   pi_new = argmin_pi KL(pi || pi_pre)   subject to   KL(pi || pi_inc) &lt;= delta_0
 *   pi_new(a) is proportional to pi_pre(a)^(1/(1+lambda)) pi_inc(a)^(lambda/(1+lambda))
 * </pre>
 * with lambda = 0 where pi_pre is inside, and otherwise the lambda at which the constraint is tight (SAT, arXiv 2605.05216, the
 * only formula in print of TeamTR's Stage-0). Both divergences have the new policy first, Eq. 11 has it second: this projects one
 * distribution, {@link Alignment} trains a model under the monitor of training. In double; any number of threads.
 *
 * @param lambda multiplier of the constraint, 0 or more
 * @param logProbs [actions], natural logarithms, -inf for what is impossible
 * @param kl KL(pi_new || pi_inc) in nats, at most delta_0
 */
public record Projection(double lambda, double[] logProbs, double kl) {
    private static final int BISECTIONS = 100; // of an interval of doubles: it has no more than this to give

    /**
     * Projects.
     *
     * <p>What the incumbent never does the projection does not do either, since its KL would be infinite: it is taken out of the
     * new policy first, which costs no lambda. What the new policy never does, likewise.
     *
     * @param logPre [actions], log-probs of the new policy or its logits; -inf for what it never does
     * @param logInc [actions], the same of the incumbent
     * @param delta0 radius in nats, more than 0; +inf for none
     * @throws IllegalArgumentException if lengths differ, a value is NaN or +inf, delta0 is out of range, or no distribution
     *     within delta0 of the incumbent does only what both do: the least KL is then -log of the incumbent's probability of that
     */
    public static Projection of(double[] logPre, double[] logInc, double delta0) {
        if (logPre.length != logInc.length || logPre.length == 0) {
            throw new IllegalArgumentException("logPre, logInc: expected the same number of actions, 1 or more, given "
                    + logPre.length
                    + " and " + logInc.length);
        }
        if (!(delta0 > 0)) {
            throw new IllegalArgumentException("delta0: expected more than 0, given " + delta0);
        }
        final double[] inc = normalised(logInc, "logInc");
        final double[] pre = normalised(logPre, "logPre");
        double common = 0;
        for (int a = 0; a < pre.length; a++) {
            if (inc[a] == Double.NEGATIVE_INFINITY || pre[a] == Double.NEGATIVE_INFINITY) {
                pre[a] = Double.NEGATIVE_INFINITY;
            } else {
                common += Math.exp(inc[a]);
            }
        }
        final double least = Math.max(0, -Math.log(common)); // rounding may take the sum past 1
        if (!(least <= delta0)) {
            throw new IllegalArgumentException("delta0: expected " + least
                    + " or more, the KL of what both policies do from the incumbent, given " + delta0);
        }
        final double[] inside = mixture(pre, inc, 1);
        final double kl = kl(inside, inc);
        if (kl <= delta0) {
            return new Projection(0, inside, kl);
        }
        // KL(mixture || incumbent) falls with the new policy's share 1/(1+lambda), whose range is bounded; lambda's is not.
        double in = 0;
        double out = 1;
        for (int i = 0; i < BISECTIONS; i++) {
            final double share = (in + out) / 2;
            if (kl(mixture(pre, inc, share), inc) <= delta0) {
                in = share;
            } else {
                out = share;
            }
        }
        final double[] tight = mixture(pre, inc, in);
        return new Projection((1 - in) / in, tight, kl(tight, inc));
    }

    /** Log-probs in proportion to pre^share inc^(1 - share), of what both do. */
    private static double[] mixture(double[] pre, double[] inc, double share) {
        final double[] mix = new double[pre.length];
        for (int a = 0; a < mix.length; a++) {
            mix[a] = pre[a] == Double.NEGATIVE_INFINITY ? pre[a] : share * pre[a] + (1 - share) * inc[a];
        }
        return normalised(mix, "logPre, logInc");
    }

    private static double[] normalised(double[] logits, String name) {
        double most = Double.NEGATIVE_INFINITY;
        for (double x : logits) {
            if (Double.isNaN(x) || x == Double.POSITIVE_INFINITY) {
                throw new IllegalArgumentException(name + ": expected numbers or -inf, given " + x);
            }
            most = Math.max(most, x);
        }
        if (most == Double.NEGATIVE_INFINITY) {
            throw new IllegalArgumentException(name + ": expected an action that is possible, given none");
        }
        final double top = most;
        final double lse = top + Math.log(Arrays.stream(logits).map(x -> Math.exp(x - top)).sum());
        return Arrays.stream(logits).map(x -> x - lse).toArray();
    }

    /** KL(p || q) of normalised log-probs, q possible wherever p is; never negative. */
    private static double kl(double[] p, double[] q) {
        double kl = 0;
        for (int a = 0; a < p.length; a++) {
            kl += p[a] == Double.NEGATIVE_INFINITY ? 0 : Math.exp(p[a]) * (p[a] - q[a]);
        }
        return Math.max(0, kl);
    }
}
