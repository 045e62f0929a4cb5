package org.teamtr.train;

import com.fasterxml.jackson.annotation.JsonUnwrapped;

/**
 * The improvement certificate of Theorems 3.4 and 3.6, as a training diagnostic: a lower bound on an update's gain, with estimates in the
 * place of expectations.
 *
 * <pre>
 *   c = sqrt(2) gamma A_max / (1 - gamma)^2
 *   J(new) - J(old) &gt;= L^seq - c sqrt(delta) - zeta / (1 - gamma)                       an update, Thm 3.4
 *   J(new) - J(old) &gt;= sum L_i^seq - c sum sqrt(delta_i) - sum zeta_i / (1 - gamma)     a stage, Thm 3.6
 * </pre>
 *
 * <p>Everything is in the units of A. Immutable.
 *
 * @param gamma discount, 0 or more and less than 1
 * @param aMax A_max, bound on |A|, more than 0
 */
public record Certificate(double gamma, double aMax) {
    /** @throws IllegalArgumentException if gamma or aMax is out of its range */
    public Certificate {
        if (!(gamma >= 0 && gamma < 1)) {
            throw new IllegalArgumentException("certificate.gamma: expected 0 or more and less than 1, given " + gamma
                    + ": c = sqrt(2) gamma A_max / (1 - gamma)^2 has no value at 1, and the bound none either");
        }
        if (!(aMax > 0) || Double.isInfinite(aMax)) {
            throw new IllegalArgumentException("certificate.a_max: expected a finite number more than 0, given " + aMax);
        }
    }

    /**
     * The bound of one update and its parts; see docs/metrics.md.
     *
     * @param gamma γ
     * @param c the penalty for one sqrt(nat)
     * @param lSeq estimate of L<sup>seq</sup>
     * @param advantageScale units of return in a unit of advantage
     * @param horizon the bound that takes the paper's place
     */
    public record Terms(double gamma, double c, double lSeq, @JsonUnwrapped Zetas zetas, @JsonUnwrapped Bounds bounds, double advantageScale,
            @JsonUnwrapped GainBound horizon) {
        /** Where there is no certificate: no bound on advantages is known. */
        public static final Terms NONE = new Terms(Double.NaN, Double.NaN, Double.NaN, new Zetas(Double.NaN, Double.NaN, Double.NaN),
                new Bounds(Double.NaN, Double.NaN, false), Double.NaN, GainBound.NONE);

        /** {@return the same with another bound in the paper's place} */
        public Terms with(GainBound bound) {
            return new Terms(gamma, c, lSeq, zetas, bounds, advantageScale, bound);
        }
    }

    /** Bias of the ratio clip, error of the ratios, bias of normalising advantages. */
    public record Zetas(double zetaClip, double zetaRatio, double zetaNorm) {
        /** {@return ζ, the sum of its parts} */
        public double sum() {
            return zetaClip + zetaRatio + zetaNorm;
        }
    }

    /**
     * The paper's bound.
     *
     * @param certificate with the KL that was measured, its positive part
     * @param certificateRadius with the radius δ
     * @param vacuous whether the penalty of the measured KL is larger than the largest gain there can be
     */
    public record Bounds(double certificate, double certificateRadius, boolean vacuous) {
    }

    /** {@return c = sqrt(2) γ A_max / (1 - γ)<sup>2</sup>: the penalty for one sqrt(nat)} */
    public double c() {
        return Math.sqrt(2) * gamma * aMax / ((1 - gamma) * (1 - gamma));
    }

    /** {@return the largest possible gain of an update, and its largest possible surrogate: A_max / (1 - γ)} */
    public double largestGain() {
        return aMax / (1 - gamma);
    }

    /**
     * {@return L<sup>seq</sup>, the finite-horizon form of 1 / (1 - γ) E[A]}
     *
     * @param surrogate mean over episodes of the sum over the updated agent's messages of (w - 1) A
     * @param turns mean number of messages of an episode, of all agents
     */
    public double lSeq(double surrogate, double turns) {
        return surrogate / turns / (1 - gamma);
    }

    /**
     * {@return the bound of one update, Thm 3.4; summed over a stage's updates, that of the stage, Thm 3.6}
     *
     * @param lSeq the surrogate
     * @param sumSqrt sqrt(δ) of the update. For old rollouts Prop. 3.3 adds those of the updates since they were made
     * @param zeta ζ
     */
    public double bound(double lSeq, double sumSqrt, double zeta) {
        return lSeq - c() * sumSqrt - zeta / (1 - gamma);
    }

    /**
     * {@return the bound of an update}
     *
     * @param surrogate as in {@link #lSeq}
     * @param turns as in {@link #lSeq}
     * @param zetas of the update
     * @param sumSqrtKl as in {@link #bound}, of the KL that was measured, its positive part
     * @param sumSqrtDelta the same of the radius δ
     * @param advantageScale units of return in a unit of advantage
     */
    Terms terms(double surrogate, double turns, Zetas zetas, double sumSqrtKl, double sumSqrtDelta, double advantageScale) {
        final double lSeq = lSeq(surrogate, turns);
        return new Terms(gamma, c(), lSeq, zetas, new Bounds(bound(lSeq, sumSqrtKl, zetas.sum()), bound(lSeq, sumSqrtDelta, zetas.sum()),
                vacuous(sumSqrtKl)), advantageScale, GainBound.NONE);
    }

    /**
     * {@return whether the penalty c {@code sumSqrt} is larger than the largest gain: the bound is then vacuous}
     */
    public boolean vacuous(double sumSqrt) {
        return c() * sumSqrt > largestGain();
    }
}
