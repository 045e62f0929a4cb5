package org.teamtr.train;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;
import org.teamtr.kernels.Floats;
import org.teamtr.kernels.Indices;
import org.teamtr.kernels.SampledKl;
import org.teamtr.kernels.Surrogate;
import org.teamtr.kernels.SurrogateConfig;
import org.teamtr.kernels.SurrogateStats;
import org.teamtr.team.Utterance;

/**
 * The messages that one update learns from, in ragged form: message {@code m} is tokens {@code cuSeqlens[m] .. cuSeqlens[m + 1]} of
 * every per-token vector.
 *
 * @param messages prompts and sampled tokens
 * @param advantages [messages], of Eq. 9
 * @param centredReturns [messages], R - mean R of the group, un-normalised
 * @param cuSeqlens [messages + 1]
 * @param logProbsOld [tokens], recorded when the tokens were sampled
 */
public record Batch(List<Utterance> messages, float[] advantages, float[] centredReturns, long[] cuSeqlens, float[] logProbsOld) {
    /** {@return the batch of these messages} */
    public static Batch of(List<Utterance> messages, float[] advantages, float[] centredReturns) {
        if (advantages.length != messages.size() || centredReturns.length != messages.size()) {
            throw new IllegalArgumentException("advantages, centredReturns: expected " + messages.size() + " of each, one per message, given "
                    + advantages.length + " and " + centredReturns.length);
        }
        final long[] cuSeqlens = new long[messages.size() + 1];
        for (int m = 0; m < messages.size(); m++) {
            cuSeqlens[m + 1] = cuSeqlens[m] + messages.get(m).tokens().length;
        }
        final float[] logProbsOld = new float[Math.toIntExact(cuSeqlens[messages.size()])];
        for (int m = 0; m < messages.size(); m++) {
            final float[] logProbs = messages.get(m).logProbs();
            System.arraycopy(logProbs, 0, logProbsOld, (int) cuSeqlens[m], logProbs.length);
        }
        return new Batch(List.copyOf(messages), advantages, centredReturns, cuSeqlens, logProbsOld);
    }

    /** {@return the number of messages} */
    public int size() {
        return messages.size();
    }

    /** {@return the number of tokens of all messages} */
    public int tokens() {
        return logProbsOld.length;
    }

    /** {@return the number of tokens of the longest message} */
    int longest() {
        return messages.stream().mapToInt(m -> m.tokens().length).max().orElse(0);
    }

    /** {@return the same messages with other log-probs of the old policy: not the recorded ones, but those of another evaluation} */
    Batch withLogProbsOld(float[] logProbs) {
        return new Batch(messages, advantages, centredReturns, cuSeqlens, logProbs);
    }

    /** {@return the batch of these of its messages} */
    public Batch subset(int... indices) {
        final List<Utterance> some = new ArrayList<>(indices.length);
        final float[] a = new float[indices.length];
        final float[] c = new float[indices.length];
        for (int i = 0; i < indices.length; i++) {
            some.add(messages.get(indices[i]));
            a[i] = advantages[indices[i]];
            c[i] = centredReturns[indices[i]];
        }
        final Batch subset = of(some, a, c);
        return subset.withLogProbsOld(pick(logProbsOld, indices));
    }

    // ---- what a policy's scores say of it ----

    /** {@return the statistics of a loss over the batch, its means over the batch's own tokens and messages} */
    public SurrogateStats statistics(Policy.Scores scores, SurrogateConfig loss) {
        try (Floats logProbsNew = Floats.ofFloats(scores.logProbs()); Floats logProbs = Floats.ofFloats(logProbsOld);
                Floats a = Floats.ofFloats(advantages); Indices bounds = Indices.ofLongs(cuSeqlens);
                Floats kl = scores.kl() == null ? null : Floats.ofFloats(scores.kl()); Floats entropy = Floats.ofFloats(scores.entropy());
                Floats centred = Floats.ofFloats(centredReturns); SurrogateStats stats = new SurrogateStats()) {
            Surrogate.compute(loss, logProbsNew, logProbs, a, bounds, null, kl, entropy, centred, null, null, null, stats);
            return stats.copy();
        }
    }

    /** {@return [messages] estimates of KL(old || new) from the log-probs that a policy gives the tokens, summed over each message} */
    double[] sampledKl(SampledKl.Estimator estimator, float[] logProbs) {
        try (Floats old = Floats.ofFloats(logProbsOld); Floats now = Floats.ofFloats(logProbs); Indices bounds = Indices.ofLongs(cuSeqlens);
                Floats perMessage = Floats.allocate(size())) {
            SampledKl.compute(estimator, old, now, bounds, null, perMessage);
            final float[] sums = perMessage.toArray();
            return IntStream.range(0, sums.length).mapToDouble(m -> sums[m]).toArray();
        }
    }

    /**
     * {@return [messages] KL(old || new) of each message}
     *
     * @param unit whether it is summed over a message's tokens or is their mean
     * @param logProbs [tokens] of the new policy
     * @param exact [tokens] KL over the full vocabulary; null unless {@code estimator} is exact
     */
    double[] kl(Config.KlEstimator estimator, Config.Unit unit, float[] logProbs, float[] exact) {
        final double[] kl = switch (estimator) {
            case K1 -> sampledKl(SampledKl.Estimator.K1, logProbs);
            case K3 -> sampledKl(SampledKl.Estimator.K3, logProbs);
            case EXACT -> sums(exact);
        };
        if (unit == Config.Unit.TOKEN) {
            Arrays.setAll(kl, m -> kl[m] / (cuSeqlens[m + 1] - cuSeqlens[m]));
        }
        return kl;
    }

    /** {@return [messages] log of w, a message's probability under a policy that gives its tokens these log-probs, new over old} */
    double[] logRatios(float[] logProbs) {
        return Arrays.stream(sampledKl(SampledKl.Estimator.K1, logProbs)).map(k1 -> 0 - k1).toArray();
    }

    /** {@return [messages] a per-token vector summed over each message} */
    double[] sums(float[] perToken) {
        final double[] sums = new double[size()];
        for (int m = 0; m < sums.length; m++) {
            for (int u = (int) cuSeqlens[m]; u < cuSeqlens[m + 1]; u++) {
                sums[m] += perToken[u];
            }
        }
        return sums;
    }

    /** {@return the part of a per-token vector of this batch that belongs to some of its messages} */
    float[] pick(float[] perToken, int[] indices) {
        int n = 0;
        for (int m : indices) {
            n += (int) (cuSeqlens[m + 1] - cuSeqlens[m]);
        }
        final float[] out = new float[n];
        int at = 0;
        for (int m : indices) {
            final int length = (int) (cuSeqlens[m + 1] - cuSeqlens[m]);
            System.arraycopy(perToken, (int) cuSeqlens[m], out, at, length);
            at += length;
        }
        return out;
    }
}
