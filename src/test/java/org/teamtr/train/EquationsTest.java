package org.teamtr.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.teamtr.kernels.Floats;
import org.teamtr.kernels.Indices;
import org.teamtr.kernels.Surrogate;
import org.teamtr.kernels.SurrogateConfig;
import org.teamtr.kernels.SurrogateStats;
import org.teamtr.team.Utterance;

/**
 * Equations 10 and 11 and Lemma 3.2 on policies that can be enumerated. Every message that the old policy can say stands in the
 * batch once; its probability takes the place of the mean over samples, so expectations are exact.
 */
class EquationsTest {
    private static final int VOCAB = 3;
    private static final int LENGTH = 3;
    private static final double T = 0.8;
    private static final int[] PROMPT = {7};

    private final TabularPolicy old = new TabularPolicy(VOCAB, 1, 1.5);
    private final TabularPolicy now = moved(old);

    /** A policy some steps away from {@code from}, in logits that are not all moved alike. */
    private static TabularPolicy moved(TabularPolicy from) {
        final TabularPolicy to = new TabularPolicy(VOCAB, 1, 1.5);
        for (int[] m : from.messages(LENGTH)) {
            for (int u = 0; u < m.length; u++) {
                from.logits(PROMPT, m, u);
                final double[] row = to.logits(PROMPT, m, u);
                row[m[u]] += 0.11 * (m[u] + 1) / (u + 1.0);
            }
        }
        return to;
    }

    private Batch all(double[] probabilities, float... advantages) {
        final List<Utterance> messages = new ArrayList<>();
        for (int[] m : old.messages(LENGTH)) {
            probabilities[messages.size()] = Math.exp(old.logProb(PROMPT, m, T));
            messages.add(old.utterance(PROMPT, m, T));
        }
        final float[] a = new float[messages.size()];
        for (int m = 0; m < a.length; m++) {
            a[m] = advantages.length == 0 ? 0 : advantages[m % advantages.length];
        }
        return Batch.of(messages, a, a);
    }

    /** KL of whole messages, without any chain rule. */
    private static double kl(TabularPolicy p, TabularPolicy q) {
        double kl = 0;
        for (int[] m : p.messages(LENGTH)) {
            final double lp = p.logProb(PROMPT, m, T);
            kl += Math.exp(lp) * (lp - q.logProb(PROMPT, m, T));
        }
        return kl;
    }

    @Test
    void probabilitiesOfAllMessagesAddUpToOne() {
        final double[] p = new double[old.messages(LENGTH).size()];
        all(p);
        assertEquals(1, java.util.Arrays.stream(p).sum(), 1e-12);
    }

    /** Eq. 11: the monitor's expectation is KL(old || new) of messages; the other direction is another number. */
    @Test
    void monitorIsKlFromOldToNew() {
        final double forward = kl(old, now);
        final double backward = kl(now, old);
        assertTrue(Math.abs(forward - backward) > 0.1 * forward, "the case must tell the directions apart: " + forward + ", " + backward);
        final double[] p = new double[old.messages(LENGTH).size()];
        final Batch batch = all(p);
        try (Policy.Snapshot anchor = old.snapshot()) {
            final Policy.Scores scores = now.score(batch, T, anchor);
            double k1 = 0;
            double k3 = 0;
            double exact = 0;
            for (int m = 0; m < batch.size(); m++) {
                final Batch one = batch.subset(m);
                final Policy.Scores s = scores.of(batch, new int[] {m});
                try (SurrogateStats stats = new SurrogateStats(); Floats lpNew = Floats.ofFloats(s.logProbs());
                        Floats lpOld = Floats.ofFloats(one.logProbsOld()); Floats a = Floats.ofFloats(one.advantages());
                        Indices cu = Indices.ofLongs(one.cuSeqlens()); Floats kl = Floats.ofFloats(s.kl())) {
                    Surrogate.compute(SurrogateConfig.PAPER, lpNew, lpOld, a, cu, null, kl, null, null, null, null, null, stats);
                    k1 += p[m] * stats.monitorK1();
                    k3 += p[m] * stats.monitorK3();
                    exact += p[m] * stats.monitorExact();
                }
            }
            assertEquals(forward, k1, 1e-6);
            assertEquals(forward, k3, 1e-6);
            assertEquals(forward, exact, 1e-6); // Lemma 3.2: sums of the tokens' KL are the messages' KL
        }
    }

    /** Eq. 10 in expectation and its gradient with respect to every logit, against the definition in double. */
    @Test
    void surrogateAndItsGradient() {
        final double beta = 0.3;
        final double[] p = new double[old.messages(LENGTH).size()];
        final Batch batch = all(p, 1.5f, -0.7f, 0.4f, -1.1f, 0.9f);
        final SurrogateConfig loss = SurrogateConfig.PAPER.withKl(SurrogateConfig.KlTerm.K1, beta);
        int clipped = 0;
        for (int m = 0; m < batch.size(); m++) {
            final int[] message = batch.messages().get(m).tokens();
            final double a = batch.advantages()[m];
            final double w = ratio(message);
            clipped += a > 0 && w > 1.2 || a < 0 && w < 0.8 ? 1 : 0;
            now.gradient(batch.subset(m), T, loss, null);
            for (int u = 0; u < message.length; u++) {
                final double[] given = now.gradientAt(PROMPT, message, u);
                for (int v = 0; v < VOCAB; v++) {
                    assertEquals(slope(message, a, beta, u, v), given[v], 2e-5, "message " + m + ", token " + u + ", logit " + v);
                }
            }
        }
        assertTrue(clipped > 0 && clipped < batch.size(), clipped + " of " + batch.size() + " messages are clipped");
    }

    private double ratio(int[] message) {
        return Math.exp(now.logProb(PROMPT, message, T) - old.logProb(PROMPT, message, T));
    }

    private double loss(int[] message, double a, double beta) {
        final double w = ratio(message);
        final double clip = Math.max(0.8, Math.min(1.2, w));
        return -Math.min(w * a, clip * a) + beta * (old.logProb(PROMPT, message, T) - now.logProb(PROMPT, message, T));
    }

    /** Central difference of the loss of one message in one logit. */
    private double slope(int[] message, double a, double beta, int u, int v) {
        final double[] row = now.logits(PROMPT, message, u);
        final double h = 1e-3;
        final double at = row[v];
        row[v] = at + h;
        final double up = loss(message, a, beta);
        row[v] = at - h;
        final double down = loss(message, a, beta);
        row[v] = at;
        return (up - down) / (2 * h);
    }

    /** At the start w = 1, nothing is clipped, the monitor is 0, and the gradient is -A times that of log pi (no KL yet: its slope too is there). */
    @Test
    void startsAtRatioOne() {
        final double[] p = new double[old.messages(LENGTH).size()];
        final Batch batch = all(p, 1f);
        try (Policy.Snapshot anchor = old.snapshot()) {
            final Policy.Scores s = old.score(batch, T, anchor);
            for (int t = 0; t < batch.tokens(); t++) {
                assertEquals(batch.logProbsOld()[t], s.logProbs()[t], 0);
                assertEquals(0, s.kl()[t], 0);
            }
        }
    }
}
