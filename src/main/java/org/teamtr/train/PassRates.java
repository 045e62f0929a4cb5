package org.teamtr.train;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.SplittableRandom;
import java.util.function.BiPredicate;
import java.util.function.ToDoubleFunction;
import org.teamtr.team.KeyedRandom;

/** Pass rates of items that are played several times each. All are shares, 0 to 1. */
public final class PassRates {
    private static final int RESAMPLES = 1000;

    private PassRates() {
    }

    /** A share with the interval that 95 percent of the resamples lie in. */
    public record Interval(double value, double low, double high) {
    }

    /**
     * {@return pass@k of one item, 1 - C(n - c, k) / C(n, k)} (Chen et al., 2021): how likely one of k is right
     *
     * @param n episodes, k or more
     * @param c those that are right
     * @throws IllegalArgumentException if n is less than k
     */
    public static double passAt(int n, int c, int k) {
        return 1 - allOf(n, n - c, k);
    }

    /** {@return pass^k of one item, C(c, k) / C(n, k)} (Yao et al., 2024): how likely all of k are right; parameters as in {@link #passAt} */
    public static double allOf(int n, int c, int k) {
        if (k < 1 || n < k || c < 0 || c > n) {
            throw new IllegalArgumentException("k: expected 1 to n = " + n + ", and 0 to n right, given k = " + k + ", " + c + " right");
        }
        double product = 1;
        for (int i = 0; i < k; i++) {
            product *= Math.max(0, (double) (c - i) / (n - i));
        }
        return product;
    }

    /**
     * {@return the place of the answer that most others are equal to, or -1 without answers} Of equally many, the first seen.
     *
     * @param answers null for none
     */
    public static int majority(List<String> answers, BiPredicate<String, String> same) {
        final List<Integer> first = new ArrayList<>();
        final List<Integer> counts = new ArrayList<>();
        for (int i = 0; i < answers.size(); i++) {
            if (answers.get(i) == null) {
                continue;
            }
            int at = 0;
            while (at < first.size() && !same.test(answers.get(first.get(at)), answers.get(i))) {
                at++;
            }
            if (at == first.size()) {
                first.add(i);
                counts.add(0);
            }
            counts.set(at, counts.get(at) + 1);
        }
        int best = -1;
        for (int at = 0; at < first.size(); at++) {
            best = best < 0 || counts.get(at) > counts.get(best) ? at : best;
        }
        return best < 0 ? -1 : first.get(best);
    }

    /**
     * {@return the mean over items of {@code of} an item's episodes, with its bootstrap interval}: items are drawn with
     * replacement, and of each its episodes
     *
     * @param right [items][episodes], items without episodes are left out
     * @param seed of the draws
     */
    public static Interval bootstrap(List<boolean[]> right, ToDoubleFunction<boolean[]> of, long seed) {
        final List<boolean[]> items = right.stream().filter(r -> r.length > 0).toList();
        if (items.isEmpty()) {
            return new Interval(Double.NaN, Double.NaN, Double.NaN);
        }
        final double[] means = new double[RESAMPLES];
        for (int b = 0; b < RESAMPLES; b++) {
            final SplittableRandom random = KeyedRandom.of(seed, b);
            for (int i = 0; i < items.size(); i++) {
                final boolean[] item = items.get(random.nextInt(items.size()));
                final boolean[] drawn = new boolean[item.length];
                for (int e = 0; e < drawn.length; e++) {
                    drawn[e] = item[random.nextInt(item.length)];
                }
                means[b] += of.applyAsDouble(drawn) / items.size();
            }
        }
        Arrays.sort(means);
        return new Interval(items.stream().mapToDouble(of).average().orElseThrow(), means[(int) (0.025 * RESAMPLES)],
                means[(int) (0.975 * RESAMPLES) - 1]);
    }

    /**
     * {@return the sum of what episodes have over the sum of what they could have, with its bootstrap interval}, drawn as in
     * {@link #bootstrap}; with {@code all} of ones the mean over episodes
     *
     * @param had [items][episodes], items without episodes are left out
     * @param all the same
     */
    public static Interval ratio(List<double[]> had, List<double[]> all, long seed) {
        final List<Integer> items = new ArrayList<>();
        double sum = 0;
        double of = 0;
        for (int i = 0; i < had.size(); i++) {
            if (had.get(i).length > 0) {
                items.add(i);
            }
            sum += Arrays.stream(had.get(i)).sum();
            of += Arrays.stream(all.get(i)).sum();
        }
        if (items.isEmpty()) {
            return new Interval(Double.NaN, Double.NaN, Double.NaN);
        }
        final double[] ratios = new double[RESAMPLES];
        for (int b = 0; b < RESAMPLES; b++) {
            final SplittableRandom random = KeyedRandom.of(seed, b);
            double drawn = 0;
            double from = 0;
            for (int i = 0; i < items.size(); i++) {
                final int item = items.get(random.nextInt(items.size()));
                final int episodes = had.get(item).length;
                for (int e = 0; e < episodes; e++) {
                    final int episode = random.nextInt(episodes);
                    drawn += had.get(item)[episode];
                    from += all.get(item)[episode];
                }
            }
            ratios[b] = drawn / from;
        }
        Arrays.sort(ratios);
        return new Interval(sum / of, ratios[(int) (0.025 * RESAMPLES)], ratios[(int) (0.975 * RESAMPLES) - 1]);
    }

    /** {@return how many are right} */
    public static int count(boolean[] right) {
        int count = 0;
        for (boolean r : right) {
            count += r ? 1 : 0;
        }
        return count;
    }
}
