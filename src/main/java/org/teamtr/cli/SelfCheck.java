package org.teamtr.cli;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.function.IntToDoubleFunction;
import org.bytedeco.javacpp.FloatPointer;
import org.teamtr.kernels.Advantages;
import org.teamtr.kernels.DType;
import org.teamtr.kernels.Floats;
import org.teamtr.kernels.Indices;
import org.teamtr.kernels.LogProbs;
import org.teamtr.kernels.Logits;
import org.teamtr.kernels.PolicyLoss;
import org.teamtr.kernels.SampledKl;
import org.teamtr.kernels.Sampling;
import org.teamtr.kernels.SamplingConfig;
import org.teamtr.kernels.Surrogate;
import org.teamtr.kernels.SurrogateConfig;
import org.teamtr.kernels.SurrogateStats;
import org.teamtr.kernels.Temperature;
import org.teamtr.kernels.TokenKl;
import org.teamtr.kernels.VocabParallel;

/**
 * Runs each kernel once on a small problem and compares with the formula in plain double arithmetic: it tests that this build works on this
 * machine. The test suite has the full comparison, with every dtype and special shape.
 */
final class SelfCheck {
    static final int VOCAB = 5_003;
    private static final int ROWS = 6;
    private static final double T = 0.8f; // exactly what the kernels are given
    private static final int[] CU_SEQLENS = {0, 2, 6}; // two messages

    /** The largest error found, in the unit of its bound. */
    record Result(String kernel, double error, double bound, boolean ok) {
        Result(String kernel, double error, double bound) {
            this(kernel, error, bound, error <= bound); // NaN is not
        }
    }

    private final List<Result> results = new ArrayList<>();
    private final Temperature temperature = Temperature.of((float) T);
    private final FloatPointer oldMemory = new FloatPointer((long) ROWS * VOCAB);
    private final FloatPointer newMemory = new FloatPointer((long) ROWS * VOCAB);
    private final FloatPointer gradient = new FloatPointer((long) ROWS * VOCAB);
    private final Logits oldLogits = Logits.of(oldMemory, DType.F32, ROWS, VOCAB);
    private final Logits newLogits = Logits.of(newMemory, DType.F32, ROWS, VOCAB);
    private final Logits dLogits = Logits.of(gradient, DType.F32, ROWS, VOCAB);
    private final int[] tokens = new int[ROWS];
    private final double[][] logP = new double[ROWS][]; // old policy
    private final double[][] logQ = new double[ROWS][]; // new policy

    private SelfCheck() {
        final Random random = new Random(1);
        for (int r = 0; r < ROWS; r++) {
            final double[] p = new double[VOCAB];
            final double[] q = new double[VOCAB];
            for (int v = 0; v < VOCAB; v++) {
                final float x = (float) (3 * random.nextGaussian());
                final float y = (float) (x + 0.01 * random.nextGaussian());
                oldMemory.put((long) r * VOCAB + v, x);
                newMemory.put((long) r * VOCAB + v, y);
                p[v] = x / T;
                q[v] = y / T;
            }
            logP[r] = logSoftmax(p);
            logQ[r] = logSoftmax(q);
            tokens[r] = random.nextInt(VOCAB);
        }
    }

    static List<Result> run() {
        final SelfCheck check = new SelfCheck();
        try (check.oldMemory; check.newMemory; check.gradient) {
            check.logProbs();
            check.tokenKl();
            check.vocabParallel();
            check.sampling();
            check.perToken();
            check.policyLoss();
        }
        return check.results;
    }

    private void logProbs() {
        try (Floats logProbs = Floats.allocate(ROWS); Floats lse = Floats.allocate(ROWS); Floats entropy = Floats.allocate(ROWS);
                Floats ones = Floats.ofFloats(filled(1)); Indices targets = Indices.ofInts(tokens)) {
            LogProbs.forward(oldLogits, targets, temperature, logProbs, lse, entropy);
            add("log-probs", 1e-6, ROWS, r -> Math.abs(logProbs.get(r) - logP[r][tokens[r]]) / (1 + Math.abs(logP[r][tokens[r]])));
            add("entropy", 1e-5, ROWS, r -> Math.abs(entropy.get(r) - entropy(logP[r])));
            LogProbs.backward(oldLogits, targets, temperature, logProbs, lse, entropy, ones, ones, dLogits);
            final double[] h = Arrays.stream(logP).mapToDouble(SelfCheck::entropy).toArray();
            addGradient("log-probs and entropy, backward", logP, (r, v) -> {
                final double p = Math.exp(logP[r][v]);
                return ((v == tokens[r] ? 1 : 0) - p - p * (logP[r][v] + h[r])) / T;
            });
        }
    }

    private void tokenKl() {
        try (Floats kl = Floats.allocate(ROWS); Floats ones = Floats.ofFloats(filled(1))) {
            TokenKl.oldNew(oldLogits, newLogits, null, temperature, kl, null, null, null, null);
            add("exact token KL(old || new)", 1e-4, ROWS, r -> Math.abs(kl.get(r) / kl(logP[r], logQ[r]) - 1));
            TokenKl.newOld(oldLogits, newLogits, null, temperature, kl, null, null, null, null);
            add("exact token KL(new || old)", 1e-4, ROWS, r -> Math.abs(kl.get(r) / kl(logQ[r], logP[r]) - 1));
            TokenKl.oldNewBackward(oldLogits, newLogits, null, temperature, ones, dLogits);
            addGradient("KL(old || new), backward", logP, (r, v) -> Math.exp(logP[r][v]) * Math.expm1(logQ[r][v] - logP[r][v]) / T);
            TokenKl.newOldBackward(oldLogits, newLogits, null, temperature, ones, dLogits);
            final double[] newOld = new double[ROWS];
            Arrays.setAll(newOld, r -> kl(logQ[r], logP[r]));
            addGradient("KL(new || old), backward", logP,
                    (r, v) -> Math.exp(logQ[r][v]) * (logQ[r][v] - logP[r][v] - newOld[r]) / T);
        }
    }

    private void vocabParallel() {
        final int half = VOCAB / 2;
        try (Floats parts = Floats.allocate(2L * ROWS * VocabParallel.PARTS_PER_ROW); Floats logProbs = Floats.allocate(ROWS);
                Indices targets = Indices.ofInts(tokens)) {
            final FloatPointer right = new FloatPointer(oldMemory).position(half); // not closed: it would free oldMemory
            final long n = (long) ROWS * VocabParallel.PARTS_PER_ROW;
            VocabParallel.parts(Logits.of(oldMemory, DType.F32, ROWS, half, VOCAB), targets, 0, VOCAB, temperature, parts.slice(0, n));
            VocabParallel.parts(Logits.of(right, DType.F32, ROWS, VOCAB - half, VOCAB), targets, half, VOCAB, temperature,
                    parts.slice(n, 2 * n));
            VocabParallel.merge(parts, 2, targets, temperature, logProbs, null, null);
            add("vocab-parallel parts and merge", 1e-6, ROWS,
                    r -> Math.abs(logProbs.get(r) - logP[r][tokens[r]]) / (1 + Math.abs(logP[r][tokens[r]])));
        }
    }

    /** Draws many times from the three likeliest tokens of one row, and counts the likeliest. */
    private void sampling() {
        final int draws = 20_000;
        final SamplingConfig config = SamplingConfig.ALL.withTopK(3);
        final double[] kept = Arrays.stream(logP[0]).sorted().skip(VOCAB - 3).toArray();
        final double likeliest = Math.exp(kept[2]) / Arrays.stream(kept).map(Math::exp).sum();
        long hits = 0;
        try (Indices ids = Indices.allocateLongs(1); Indices token = Indices.allocateInts(1)) {
            for (int i = 0; i < draws; i++) {
                ids.set(0, i);
                Sampling.sample(oldLogits.rows(0, 1), temperature, config, 1, 0, ids, token, null, null);
                hits += logP[0][(int) token.get(0)] == kept[2] ? 1 : 0;
            }
        }
        // in standard deviations of the count
        final double deviation = Math.abs(hits - draws * likeliest) / Math.sqrt(draws * likeliest * (1 - likeliest));
        results.add(new Result("sampling, top-k (standard deviations)", deviation, 4));
    }

    private void perToken() {
        final float[] oldLp = new float[ROWS];
        final float[] newLp = new float[ROWS];
        for (int r = 0; r < ROWS; r++) {
            oldLp[r] = (float) logP[r][tokens[r]];
            newLp[r] = (float) logQ[r][tokens[r]];
        }
        try (Floats oldLogProbs = Floats.ofFloats(oldLp); Floats newLogProbs = Floats.ofFloats(newLp); Floats k3 = Floats.allocate(ROWS);
                Floats advantages = Floats.ofFloats(1, -1); Indices cuSeqlens = Indices.ofInts(CU_SEQLENS);
                Floats d = Floats.allocate(ROWS); SurrogateStats stats = new SurrogateStats();
                Floats returns = Floats.ofFloats(0, 1, 1, 4); Floats normalised = Floats.allocate(4)) {
            SampledKl.compute(SampledKl.Estimator.K3, oldLogProbs, newLogProbs, null, k3, null);
            add("sampled KL, k3", 1e-6, ROWS, r -> {
                final double x = (double) newLp[r] - oldLp[r];
                return Math.abs(k3.get(r) - (Math.expm1(x) - x));
            });
            Surrogate.compute(SurrogateConfig.PAPER, newLogProbs, oldLogProbs, advantages, cuSeqlens, null, null, null, null, d, null, null,
                    stats);
            add("surrogate (Eq. 10)", 1e-6, 1, i -> Math.abs(stats.loss() - equation10(oldLp, newLp)));
            add("surrogate, backward", 1e-6, ROWS, r -> Math.abs(d.get(r) - slopeOfEquation10(oldLp, newLp, r)));
            Advantages.groupNormalised(returns, 4, 0, 1.5, true, normalised, null);
            final double[] expected = {-1, -1 / 3.0, -1 / 3.0, 1.5}; // mean 1.5, population deviation 1.5, the last clipped from 5/3
            add("group advantages (Eq. 9)", 1e-6, 4, i -> Math.abs(normalised.get(i) - expected[i]));
        }
    }

    private void policyLoss() {
        final float[] oldLp = new float[ROWS];
        for (int r = 0; r < ROWS; r++) {
            oldLp[r] = (float) logP[r][tokens[r]];
        }
        try (PolicyLoss loss = new PolicyLoss(ROWS, false); Floats oldLogProbs = Floats.ofFloats(oldLp);
                Floats advantages = Floats.ofFloats(1, -1); Indices cuSeqlens = Indices.ofInts(CU_SEQLENS);
                Indices targets = Indices.ofInts(tokens)) {
            loss.forwardBackward(SurrogateConfig.PAPER, newLogits, null, targets, temperature, oldLogProbs, advantages, cuSeqlens, null,
                    null, dLogits);
            final float[] newLp = loss.logProbs().toArray();
            add("policy loss", 1e-6, 1, i -> Math.abs(loss.stats().loss() - equation10(oldLp, newLp)));
            addGradient("policy loss, backward", logQ,
                    (r, v) -> slopeOfEquation10(oldLp, newLp, r) * ((v == tokens[r] ? 1 : 0) - Math.exp(logQ[r][v])) / T);
        }
    }

    // ---- the formulas, in double ----

    /** Minus the mean over messages of min(w A, clip(w) A), for advantages +1 and -1 and a clip of 0.2. */
    private static double equation10(float[] oldLp, float[] newLp) {
        final double w0 = ratio(oldLp, newLp, 0);
        final double w1 = ratio(oldLp, newLp, 1);
        return -(Math.min(w0, 1.2) + Math.min(-w1, -0.8)) / 2;
    }

    private static double slopeOfEquation10(float[] oldLp, float[] newLp, int token) {
        final int message = token < CU_SEQLENS[1] ? 0 : 1;
        final double w = ratio(oldLp, newLp, message);
        return message == 0 ? (w <= 1.2 ? -w / 2 : 0) : (w >= 0.8 ? w / 2 : 0);
    }

    private static double ratio(float[] oldLp, float[] newLp, int message) {
        double log = 0;
        for (int u = CU_SEQLENS[message]; u < CU_SEQLENS[message + 1]; u++) {
            log += (double) newLp[u] - oldLp[u];
        }
        return Math.exp(log);
    }

    private static double[] logSoftmax(double[] x) {
        final double max = Arrays.stream(x).max().orElseThrow();
        final double lse = max + Math.log(Arrays.stream(x).map(v -> Math.exp(v - max)).sum());
        return Arrays.stream(x).map(v -> v - lse).toArray();
    }

    private static double entropy(double[] logP) {
        return -Arrays.stream(logP).map(l -> l * Math.exp(l)).sum();
    }

    private static double kl(double[] logP, double[] logQ) {
        double sum = 0;
        for (int v = 0; v < logP.length; v++) {
            final double r = logP[v] - logQ[v];
            sum += Math.exp(logP[v]) * (r + Math.expm1(-r)); // sum p r, without cancellation
        }
        return sum;
    }

    private static float[] filled(float value) {
        final float[] a = new float[ROWS];
        Arrays.fill(a, value);
        return a;
    }

    // ---- comparing ----

    private interface Element {
        double at(int row, int v);
    }

    private void add(String kernel, double bound, int n, IntToDoubleFunction error) {
        double worst = 0;
        for (int i = 0; i < n; i++) {
            final double e = error.applyAsDouble(i);
            worst = e > worst || Double.isNaN(e) ? e : worst;
        }
        results.add(new Result(kernel, worst, bound));
    }

    /** Errors relative to the row's largest gradient. */
    private void addGradient(String kernel, double[][] rows, Element expected) {
        double worst = 0;
        for (int r = 0; r < rows.length; r++) {
            double error = 0;
            double scale = 0;
            final double[] want = new double[VOCAB];
            for (int v = 0; v < VOCAB; v++) {
                want[v] = expected.at(r, v);
                scale = Math.max(scale, Math.abs(want[v]));
                error = Math.max(error, Math.abs(gradient.get((long) r * VOCAB + v) - want[v]));
            }
            worst = Math.max(worst, error / scale);
        }
        results.add(new Result(kernel, worst, 1e-5));
    }
}
