package org.teamtr.train;

import com.fasterxml.jackson.annotation.JsonProperty;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;

/**
 * The formulas of the diagnostics, of numbers alone; docs/metrics.md says what they are for and works an example of each. Where
 * there is nothing to take a mean of, the result is NaN. Pure functions.
 */
public final class Diagnostics {
    private Diagnostics() {
    }

    // ---- occupancy ----

    /**
     * {@return for each prompt, an estimate of L_i[ρ], the surrogate of an update on the states of another team ρ: mean over ρ's
     * episodes of the sum over the updated agent's messages of (new − old) (R − mean R)}
     *
     * @param after [messages] log of new over the policy that said it
     * @param before [messages] log of old over the policy that said it
     * @param centred [messages] R - mean R of its prompt
     * @param promptOf [messages] of which prompt it is
     * @param prompts how many there are
     * @param group episodes of each
     */
    public static double[] surrogates(double[] after, double[] before, double[] centred, int[] promptOf, int prompts, int group) {
        final double[] sums = new double[prompts];
        for (int m = 0; m < centred.length; m++) {
            sums[promptOf[m]] += (ratio(after[m]) - ratio(before[m])) * centred[m] / group;
        }
        return sums;
    }

    /**
     * The difference between two means over the same prompts.
     *
     * @param value |mean a − mean b|. Where nothing differs it is not 0 but about as large as its error
     * @param error s / √P, s the standard deviation of the P prompts' differences; NaN of one prompt
     */
    public record Difference(double value, double error) {
        /** {@return the difference of means over prompts, a and b in the same order} */
        public static Difference of(double[] a, double[] b) {
            final Estimate e = Estimate.of(IntStream.range(0, a.length).mapToDouble(p -> a[p] - b[p]).toArray());
            return new Difference(Math.abs(e.mean()), e.error());
        }
    }

    /**
     * {@return ½ mean |W − 1|, an estimate of the total variation ½ Σ |p_now − p_then| between the distributions of whole episodes of a
     * team before and now, from episodes that were played before} What an agent reads is a part of the episode, so the occupancy of no turn
     * has shifted by more: the left side of the occupancy bounds behind Proposition 3.3, measured instead of bounded.
     *
     * @param logWeights [episodes] log W, W the product of message ratios of the agents that changed
     */
    public static double totalVariation(double[] logWeights) {
        return Arrays.stream(logWeights).map(l -> Math.abs(ratio(l) - 1) / 2).average().orElse(Double.NaN);
    }

    /**
     * {@return a ratio from its logarithm, which as in the kernels does not count beyond ±20}: one episode that has become almost certain
     * must not make a mean infinite.
     */
    static double ratio(double log) {
        return Math.exp(Math.max(-20, Math.min(20, log)));
    }

    /**
     * How badly importance weights degenerate, as in the paper's Table 10.
     *
     * @param ess effective sample size as a share, (Σw)² / (B Σw²)
     * @param p95 95th percentile of w, linear between neighbours
     * @param p99 99th
     * @param max the largest
     * @param over10 share of w more than 10
     */
    public record Weights(@JsonProperty("weight_ess") double ess, @JsonProperty("weight_p95") double p95,
            @JsonProperty("weight_p99") double p99, @JsonProperty("weight_max") double max,
            @JsonProperty("weight_over_10") double over10) {
        public static final Weights NONE = new Weights(Double.NaN, Double.NaN, Double.NaN, Double.NaN, Double.NaN);

        /** {@return the statistics of weights w = exp(log)} */
        public static Weights of(double[] logWeights) {
            final double[] w = Arrays.stream(logWeights).map(Diagnostics::ratio).sorted().toArray();
            final double sum = Arrays.stream(w).sum();
            final double squares = Arrays.stream(w).map(x -> x * x).sum();
            return new Weights(sum * sum / (w.length * squares), quantile(w, 0.95), quantile(w, 0.99), quantile(w, 1),
                    Arrays.stream(w).map(x -> x > 10 ? 1 : 0).average().orElse(Double.NaN));
        }
    }

    /** {@return the quantile of values, linear between neighbours: at position q (N - 1) of the sorted ones} */
    public static double quantile(double[] values, double q) {
        if (values.length == 0) {
            return Double.NaN;
        }
        final double[] sorted = values.clone();
        Arrays.sort(sorted);
        final double at = q * (sorted.length - 1);
        final int below = (int) Math.floor(at);
        final int above = (int) Math.ceil(at);
        return sorted[below] + (at - below) * (sorted[above] - sorted[below]);
    }

    // ---- logits ----

    /**
     * {@return mean |change of a logit| of the tokens of rank 1, 2–3, 4–7, 8–15, ... by the logits before; the mean of the changes over the
     * vocabulary, which does not change any probability, is subtracted}
     *
     * @param before [vocab], of one position
     * @param now [vocab], of the same position; not finite where {@code before} is not
     */
    public static double[] logitShift(float[] before, float[] now) {
        final long[] order = new long[before.length];
        double mean = 0;
        for (int v = 0; v < order.length; v++) {
            final int bits = Float.floatToIntBits(-before[v]);
            order[v] = (long) (bits ^ (bits >> 31 & Integer.MAX_VALUE)) << 32 | v; // sorts as the floats do
            mean += ((double) now[v] - before[v]) / order.length;
        }
        Arrays.sort(order);
        final double[] shift = new double[32 - Integer.numberOfLeadingZeros(order.length)];
        for (int k = 0; k < shift.length; k++) {
            final int first = (1 << k) - 1;
            final int end = Math.min(order.length, 2 * first + 1);
            for (int rank = first; rank < end; rank++) {
                final int v = (int) order[rank];
                shift[k] += Math.abs((double) now[v] - before[v] - mean) / (end - first);
            }
        }
        return shift;
    }

    // ---- stages ----

    /** {@return the standard deviation (of a sample) of the change of accuracy from one measurement to the next, in points} */
    public static double stability(double[] accuracies) {
        if (accuracies.length < 3) {
            return Double.NaN;
        }
        final double[] changes = new double[accuracies.length - 1];
        for (int k = 0; k < changes.length; k++) {
            changes[k] = 100 * (accuracies[k + 1] - accuracies[k]);
        }
        return Estimate.deviation(changes);
    }

    /** {@return the largest drop of accuracy below its best value so far, in points; 0 if it never fell} */
    public static double maxDrawdown(double[] accuracies) {
        double best = Double.NEGATIVE_INFINITY;
        double fall = accuracies.length == 0 ? Double.NaN : 0;
        for (double a : accuracies) {
            best = Math.max(best, a);
            fall = Math.max(fall, 100 * (best - a));
        }
        return fall;
    }

    /**
     * {@return coordination in percent: of the episodes in which some message held the right answer, those that end with it}
     *
     * @param right for each episode, whether the answer after its first, second, ... message is right
     */
    public static double coordination(List<boolean[]> right) {
        int held = 0;
        int kept = 0;
        for (boolean[] episode : right) {
            boolean any = false;
            for (boolean r : episode) {
                any |= r;
            }
            held += any ? 1 : 0;
            kept += any && episode[episode.length - 1] ? 1 : 0;
        }
        return held == 0 ? Double.NaN : 100.0 * kept / held;
    }

    /**
     * {@return the share in percent of the messages after a right answer that leave it right}
     *
     * @param right as in {@link #coordination}
     */
    public static double handOffs(List<boolean[]> right) {
        int given = 0;
        int kept = 0;
        for (boolean[] episode : right) {
            for (int t = 0; t + 1 < episode.length; t++) {
                given += episode[t] ? 1 : 0;
                kept += episode[t] && episode[t + 1] ? 1 : 0;
            }
        }
        return given == 0 ? Double.NaN : 100.0 * kept / given;
    }

    // ---- the monitor ----

    /** {@return the share of the updates whose KL is more than their radius} */
    public static double outOfRegionRate(double[] kl, double[] delta) {
        return IntStream.range(0, kl.length).mapToDouble(i -> kl[i] > delta[i] ? 1 : 0).average().orElse(Double.NaN);
    }

    /** {@return |part − full| / δ: the error of a monitor on a part of the messages} */
    public static double monitorError(double part, double full, double delta) {
        return Math.abs(part - full) / delta;
    }

    /**
     * {@return whether the monitor is within a quarter of δ of it: there, the decision on a part of the messages may differ from that on all}
     */
    public static boolean nearThreshold(double full, double delta) {
        return Math.abs(full - delta) <= 0.25 * delta;
    }

    /**
     * {@return of the updates near the threshold, the share for which the decision on a part of the messages differs from that on all}
     *
     * @param part [updates] the monitor on a part
     * @param full [updates] on all
     * @param delta [updates] the radius
     */
    public static double flipRate(double[] part, double[] full, double[] delta) {
        int near = 0;
        int flips = 0;
        for (int i = 0; i < full.length; i++) {
            if (nearThreshold(full[i], delta[i])) {
                near++;
                flips += part[i] > delta[i] != full[i] > delta[i] ? 1 : 0;
            }
        }
        return near == 0 ? Double.NaN : (double) flips / near;
    }

    // ---- the certificate ----

    /** {@return Wilson's 95 % interval of a rate of which {@code some} of {@code all} were seen; 0 to 1 of none} */
    public static double[] wilson(int some, int all) {
        if (all == 0) {
            return new double[] {0, 1};
        }
        final double z = 1.959964;
        final double p = (double) some / all;
        final double middle = (p + z * z / (2 * all)) / (1 + z * z / all);
        final double half = z / (1 + z * z / all) * Math.sqrt(p * (1 - p) / all + z * z / (4.0 * all * all));
        return new double[] {Math.max(0, middle - half), Math.min(1, middle + half)};
    }

    /** {@return Spearman's rank correlation; equal values share their mean rank. NaN where one of both does not vary} */
    public static double spearman(double[] a, double[] b) {
        if (a.length != b.length) {
            throw new IllegalArgumentException("a, b: expected as many of each, given " + a.length + " and " + b.length);
        }
        final double[] x = ranks(a);
        final double[] y = ranks(b);
        final double mean = (a.length + 1) / 2.0;
        double xx = 0;
        double yy = 0;
        double xy = 0;
        for (int i = 0; i < a.length; i++) {
            xx += (x[i] - mean) * (x[i] - mean);
            yy += (y[i] - mean) * (y[i] - mean);
            xy += (x[i] - mean) * (y[i] - mean);
        }
        return xx == 0 || yy == 0 ? Double.NaN : xy / Math.sqrt(xx * yy);
    }

    /** 1, 2, ...; equal values get the mean of theirs. */
    private static double[] ranks(double[] values) {
        final double[] ranks = new double[values.length];
        for (int i = 0; i < values.length; i++) {
            int less = 0;
            int equal = 0;
            for (double v : values) {
                less += v < values[i] ? 1 : 0;
                equal += v == values[i] ? 1 : 0;
            }
            ranks[i] = less + (equal + 1) / 2.0;
        }
        return ranks;
    }
}
