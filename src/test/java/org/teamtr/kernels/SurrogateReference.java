package org.teamtr.kernels;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import org.teamtr.kernels.SurrogateConfig.AdvantagePer;
import org.teamtr.kernels.SurrogateConfig.Aggregation;
import org.teamtr.kernels.SurrogateConfig.KlTerm;
import org.teamtr.kernels.SurrogateConfig.Ratio;
import org.teamtr.kernels.internal.global.teamtr;

/**
 * The surrogate a second time: plain Java, doubles, written from the words of teamtr.h and not from the kernel. The loss is a
 * function of (log-probs, KL, entropy), so it can be differentiated by differences; {@link #gradients} differentiates by hand.
 */
final class SurrogateReference {
    private final SurrogateConfig c;
    private final double[] old;
    private final double[] advantages;
    private final double[] centred;
    /** The tokens that count, by message; an empty array is a message that does not count. */
    private final List<int[]> messages = new ArrayList<>();
    private final int tokens;
    private final int liveMessages;

    /** @param centred may be null */
    SurrogateReference(SurrogateConfig config, double[] old, double[] advantages, long[] cuSeqlens, boolean[] counts,
            double[] centred) {
        this.c = config;
        this.old = old;
        this.advantages = advantages;
        this.centred = centred;
        int all = 0;
        int live = 0;
        for (int m = 0; m + 1 < cuSeqlens.length; m++) {
            final List<Integer> message = new ArrayList<>();
            for (int u = (int) cuSeqlens[m]; u < cuSeqlens[m + 1]; u++) {
                if (counts[u]) {
                    message.add(u);
                }
            }
            messages.add(message.stream().mapToInt(Integer::intValue).toArray());
            all += message.size();
            live += message.isEmpty() ? 0 : 1;
        }
        tokens = all;
        liveMessages = live;
    }

    int tokens() {
        return tokens;
    }

    // ---- the pieces ----

    /** Weight of each token of a message with {@code length} live tokens in the aggregate. */
    private double weight(Aggregation how, int length) {
        final double n = c.totalTokens() > 0 ? c.totalTokens() : tokens;
        final double m = c.totalMessages() > 0 ? c.totalMessages() : liveMessages;
        return switch (how) {
            case TOKEN_MEAN -> 1 / n;
            case SEQ_MEAN_TOKEN_SUM -> 1 / m;
            case SEQ_MEAN_TOKEN_MEAN -> 1 / m / length;
            case FIXED_LENGTH -> 1 / (m * c.fixedLength());
        };
    }

    private double advantage(int message, int u) {
        return advantages[c.advantagePer() == AdvantagePer.TOKEN ? u : message];
    }

    private double logRatio(int[] message, int u, double[] fresh) {
        if (c.ratio() == Ratio.TOKEN) {
            return fresh[u] - old[u];
        }
        double sum = 0;
        for (int v : message) {
            sum += fresh[v] - old[v];
        }
        return c.ratio() == Ratio.MESSAGE ? sum : sum / message.length;
    }

    private static double bounded(double logRatio) {
        return Math.exp(Math.max(-20, Math.min(20, logRatio)));
    }

    /** min(w A, clip(w) A). */
    private double pessimistic(double w, double a) {
        return Math.min(w * a, Math.max(1 - c.epsLow(), Math.min(1 + c.epsHigh(), w)) * a);
    }

    private double term(double w, double a) {
        final double lower = pessimistic(w, a);
        return a < 0 && c.dualClip() < Double.POSITIVE_INFINITY ? Math.max(lower, c.dualClip() * a) : lower;
    }

    private double klValue(int u, double[] fresh, double[] kl) {
        final double d = old[u] - fresh[u];
        return switch (c.klTerm()) {
            case NONE -> 0;
            case K1 -> d;
            case K2 -> d * d / 2;
            case K3 -> Math.exp(-d) - 1 + d;
            case ABS -> Math.abs(d);
            case EXACT -> kl[u];
        };
    }

    /** d klValue / d fresh[u]. */
    private double klSlope(int u, double[] fresh) {
        final double d = old[u] - fresh[u];
        return switch (c.klTerm()) {
            case NONE, EXACT -> 0;
            case K1 -> -1;
            case K2 -> -d;
            case K3 -> Math.exp(-d) - 1;
            case ABS -> -Math.signum(d);
        };
    }

    // ---- the loss and what differentiates it ----

    double loss(double[] fresh, double[] kl, double[] entropy) {
        return -objective(fresh) + c.beta() * kl(fresh, kl) - (c.entropyCoef() == 0 ? 0 : c.entropyCoef() * entropy(entropy));
    }

    private double objective(double[] fresh) {
        double sum = 0;
        for (int m = 0; m < messages.size(); m++) {
            for (int u : messages.get(m)) {
                sum += weight(c.aggregation(), messages.get(m).length)
                        * term(bounded(logRatio(messages.get(m), u, fresh)), advantage(m, u));
            }
        }
        return sum;
    }

    private double kl(double[] fresh, double[] kl) {
        double sum = 0;
        for (int[] message : messages) {
            for (int u : message) {
                sum += weight(c.klAggregation(), message.length) * klValue(u, fresh, kl);
            }
        }
        return sum;
    }

    private double entropy(double[] entropy) {
        double sum = 0;
        for (int[] message : messages) {
            for (int u : message) {
                sum += weight(c.aggregation(), message.length) * entropy[u];
            }
        }
        return sum;
    }

    /** d loss / d (log-probs, kl, entropy), by hand. */
    double[][] gradients(double[] fresh) {
        final double[][] d = new double[3][fresh.length];
        for (int m = 0; m < messages.size(); m++) {
            final int[] message = messages.get(m);
            final double weight = weight(c.aggregation(), message.length);
            final double klWeight = weight(c.klAggregation(), message.length);
            for (int u : message) {
                final double logW = logRatio(message, u, fresh);
                final double w = bounded(logW);
                final double a = advantage(m, u);
                final double slope = Math.abs(logW) > 20 || term(w, a) != w * a ? 0 : weight * w * a;
                if (c.ratio() == Ratio.TOKEN) {
                    d[0][u] -= slope;
                } else {
                    for (int v : message) {
                        d[0][v] -= slope / (c.ratio() == Ratio.MESSAGE_MEAN ? message.length : 1);
                    }
                }
                d[0][u] += c.beta() * klWeight * klSlope(u, fresh);
                d[1][u] = c.klTerm() == KlTerm.EXACT ? c.beta() * klWeight : 0;
                d[2][u] = -c.entropyCoef() * weight;
            }
        }
        return d;
    }

    /** How far, in log w (or log-prob), token u is from the nearest point where the loss has no derivative. */
    double kinkDistance(double[] fresh, int u) {
        double nearest = c.klTerm() == KlTerm.ABS ? Math.abs(old[u] - fresh[u]) : Double.POSITIVE_INFINITY;
        for (int[] message : messages) {
            for (int v : message) {
                if (v == u) {
                    final double logW = logRatio(message, u, fresh);
                    for (double kink : new double[] {Math.log(1 - c.epsLow()), Math.log(1 + c.epsHigh()), Math.log(c.dualClip()),
                        20, -20}) {
                        nearest = Double.isFinite(kink) ? Math.min(nearest, Math.abs(logW - kink)) : nearest;
                    }
                }
            }
        }
        return nearest;
    }

    // ---- the statistics, by their number in teamtr.h ----

    double[] statistics(double[] fresh, double[] kl, double[] entropy) {
        final double[] s = new double[teamtr.TEAMTR_STATS];
        final List<Double> ratios = new ArrayList<>();
        final double[] bound = new double[3];
        double pairs = 0;
        double k1 = 0;
        double k3 = 0;
        double exact = 0;
        double largestK1 = Double.NEGATIVE_INFINITY;
        double w1 = 0;
        double wA = 0;
        double wClipped = 0;
        double wCentred = 0;
        double centredSquares = 0;
        double largestA = 0;
        for (int m = 0; m < messages.size(); m++) {
            final int[] message = messages.get(m);
            double messageK1 = 0;
            double meanA = 0;
            for (int i = 0; i < message.length; i++) {
                final int u = message[i];
                final double d = old[u] - fresh[u];
                messageK1 += d;
                k3 += Math.expm1(-d) + d;
                exact += kl == null ? 0 : kl[u];
                meanA += advantage(m, u) / message.length;
                final double w = bounded(logRatio(message, u, fresh));
                if (i == 0 || c.ratio() == Ratio.TOKEN) {
                    ratios.add(w);
                }
                if (i == 0 || c.ratio() == Ratio.TOKEN || c.advantagePer() == AdvantagePer.TOKEN) {
                    final double a = advantage(m, u);
                    pairs++;
                    bound[0] += a < 0 && w < 1 - c.epsLow() ? 1 : 0;
                    bound[1] += a > 0 && w > 1 + c.epsHigh() ? 1 : 0;
                    bound[2] += a < 0 && w > c.dualClip() ? 1 : 0;
                }
            }
            if (message.length > 0) {
                final double product = bounded(-messageK1);
                k1 += messageK1;
                largestK1 = Math.max(largestK1, messageK1);
                w1 += product;
                wA += product * meanA;
                wClipped += pessimistic(product, meanA);
                largestA = Math.max(largestA, Math.abs(meanA));
                wCentred += centred == null ? 0 : product * centred[m];
                centredSquares += centred == null ? 0 : centred[m] * centred[m];
            }
        }
        s[teamtr.TEAMTR_STAT_MESSAGES] = liveMessages;
        s[teamtr.TEAMTR_STAT_TOKENS] = tokens;
        s[teamtr.TEAMTR_STAT_ENTROPY] = entropy == null ? Double.NaN : entropy(entropy);
        s[teamtr.TEAMTR_STAT_MONITOR_EXACT] = kl == null ? Double.NaN : 0;
        s[teamtr.TEAMTR_STAT_ZETA_NORM] = centred == null ? Double.NaN : 0;
        if (tokens == 0) {
            return s;
        }
        final double n = liveMessages;
        final double sum = ratios.stream().mapToDouble(w -> w).sum();
        final double squares = ratios.stream().mapToDouble(w -> w * w).sum();
        s[teamtr.TEAMTR_STAT_LOSS] = loss(fresh, kl, entropy);
        s[teamtr.TEAMTR_STAT_OBJECTIVE] = objective(fresh);
        s[teamtr.TEAMTR_STAT_KL] = kl(fresh, kl);
        s[teamtr.TEAMTR_STAT_CLIP_LOW] = bound[0] / pairs;
        s[teamtr.TEAMTR_STAT_CLIP_HIGH] = bound[1] / pairs;
        s[teamtr.TEAMTR_STAT_CLIP_DUAL] = bound[2] / pairs;
        s[teamtr.TEAMTR_STAT_RATIO_MEAN] = sum / ratios.size();
        s[teamtr.TEAMTR_STAT_RATIO_MIN] = ratios.stream().mapToDouble(w -> w).min().orElseThrow();
        s[teamtr.TEAMTR_STAT_RATIO_MAX] = ratios.stream().mapToDouble(w -> w).max().orElseThrow();
        s[teamtr.TEAMTR_STAT_ESS] = sum * sum / (ratios.size() * squares);
        s[teamtr.TEAMTR_STAT_MONITOR_K1] = k1 / n;
        s[teamtr.TEAMTR_STAT_MONITOR_K3] = k3 / n;
        s[teamtr.TEAMTR_STAT_MONITOR_EXACT] += exact / n;
        s[teamtr.TEAMTR_STAT_MONITOR_MAX] = largestK1;
        s[teamtr.TEAMTR_STAT_ZETA_CLIP] = Math.abs(wA / n - wClipped / n);
        s[teamtr.TEAMTR_STAT_ZETA_RATIO] = Math.abs(w1 / n - 1) * largestA;
        s[teamtr.TEAMTR_STAT_ZETA_NORM] += Math.abs(wA / n - wCentred / n / Math.sqrt(centredSquares / n));
        return s;
    }

    // ---- a batch and the kernel's answer to it ----

    /** One batch: inputs on the Java side, and one call of the kernel over copies of them. */
    static final class Batch {
        final int tokens;
        final long[] cuSeqlens;
        final float[] fresh;
        final float[] old;
        final float[] advantages;
        final float[] kl;
        final float[] entropy;
        final float[] centred;
        final boolean[] counts;
        SurrogateConfig config;
        boolean intBounds;
        boolean bare;
        final float[][] gradients = new float[3][];
        final double[] stats = new double[teamtr.TEAMTR_STATS];

        Batch(SurrogateConfig config, int... lengths) {
            this.config = config;
            cuSeqlens = new long[lengths.length + 1];
            for (int m = 0; m < lengths.length; m++) {
                cuSeqlens[m + 1] = cuSeqlens[m] + lengths[m];
            }
            tokens = (int) cuSeqlens[lengths.length];
            fresh = new float[tokens];
            old = new float[tokens];
            advantages = new float[config.advantagePer() == AdvantagePer.TOKEN ? tokens : lengths.length];
            kl = new float[tokens];
            entropy = new float[tokens];
            centred = new float[lengths.length];
            counts = new boolean[tokens];
            Arrays.fill(counts, true);
        }

        int messages() {
            return cuSeqlens.length - 1;
        }

        Batch random(long seed, boolean masked) {
            final Random random = new Random(seed);
            for (int m = 0; m < messages(); m++) {
                final double drift = (m % 6 == 5 ? 6 : 0.25) * random.nextGaussian(); // some reach the clamp at 20
                for (int u = (int) cuSeqlens[m]; u < cuSeqlens[m + 1]; u++) {
                    old[u] = (float) (-2 + random.nextGaussian());
                    fresh[u] = (float) (old[u] + drift + 0.2 * random.nextGaussian());
                    kl[u] = (float) Math.abs(random.nextGaussian());
                    entropy[u] = (float) Math.abs(random.nextGaussian());
                    counts[u] = !masked || random.nextInt(4) > 0;
                }
                centred[m] = (float) random.nextGaussian();
            }
            for (int i = 0; i < advantages.length; i++) {
                advantages[i] = i % 9 == 8 ? 0 : (float) random.nextGaussian();
            }
            return this;
        }

        /** Everything a token that does not count might be read for. */
        Batch poisonMasked() {
            for (int m = 0; m < messages(); m++) {
                boolean live = false;
                for (int u = (int) cuSeqlens[m]; u < cuSeqlens[m + 1]; u++) {
                    live |= counts[u];
                    if (!counts[u]) {
                        fresh[u] = kl[u] = Float.NaN;
                        old[u] = entropy[u] = Float.POSITIVE_INFINITY;
                        if (config.advantagePer() == AdvantagePer.TOKEN) {
                            advantages[u] = Float.NaN;
                        }
                    }
                }
                if (!live) {
                    centred[m] = Float.NaN;
                    if (config.advantagePer() == AdvantagePer.MESSAGE) {
                        advantages[m] = Float.NaN;
                    }
                }
            }
            return this;
        }

        Batch call() {
            final boolean all = !hasMasked();
            try (Floats fresh = Floats.ofFloats(this.fresh);
                    Floats old = Floats.ofFloats(this.old);
                    Floats advantages = Floats.ofFloats(this.advantages);
                    Indices cu = intBounds ? Indices.ofInts(Arrays.stream(cuSeqlens).mapToInt(Math::toIntExact).toArray())
                            : Indices.ofLongs(cuSeqlens);
                    Mask mask = all ? null : Mask.ofBooleans(counts);
                    Floats kl = bare ? null : Floats.ofFloats(this.kl);
                    Floats entropy = bare ? null : Floats.ofFloats(this.entropy);
                    Floats centred = bare ? null : Floats.ofFloats(this.centred);
                    Floats dLogProbs = filled();
                    Floats dKl = filled();
                    Floats dEntropy = filled();
                    SurrogateStats results = new SurrogateStats()) {
                Surrogate.compute(config, fresh, old, advantages, cu, mask, kl, entropy, centred, bare ? null : dLogProbs,
                        bare ? null : dKl, bare ? null : dEntropy, results);
                gradients[0] = dLogProbs.toArray();
                gradients[1] = dKl.toArray();
                gradients[2] = dEntropy.toArray();
                for (int i = 0; i < stats.length; i++) {
                    stats[i] = statistic(results, i);
                }
            }
            return this;
        }

        private boolean hasMasked() {
            for (boolean c : counts) {
                if (!c) {
                    return true;
                }
            }
            return false;
        }

        private Floats filled() {
            final float[] values = new float[tokens];
            Arrays.fill(values, -77);
            return Floats.ofFloats(values);
        }

        SurrogateReference reference() {
            return new SurrogateReference(config, widen(old), widen(advantages), cuSeqlens, counts, bare ? null : widen(centred));
        }

        double[] expectedStats() {
            return reference().statistics(widen(fresh), bare ? null : widen(kl), bare ? null : widen(entropy));
        }

        float loss() {
            return (float) stats[teamtr.TEAMTR_STAT_LOSS];
        }
    }

    private static double statistic(SurrogateStats s, int i) {
        return switch (i) {
            case teamtr.TEAMTR_STAT_LOSS -> s.loss();
            case teamtr.TEAMTR_STAT_OBJECTIVE -> s.objective();
            case teamtr.TEAMTR_STAT_KL -> s.kl();
            case teamtr.TEAMTR_STAT_ENTROPY -> s.entropy();
            case teamtr.TEAMTR_STAT_MESSAGES -> s.messages();
            case teamtr.TEAMTR_STAT_TOKENS -> s.tokens();
            case teamtr.TEAMTR_STAT_CLIP_LOW -> s.clipLow();
            case teamtr.TEAMTR_STAT_CLIP_HIGH -> s.clipHigh();
            case teamtr.TEAMTR_STAT_CLIP_DUAL -> s.clipDual();
            case teamtr.TEAMTR_STAT_RATIO_MEAN -> s.ratioMean();
            case teamtr.TEAMTR_STAT_RATIO_MIN -> s.ratioMin();
            case teamtr.TEAMTR_STAT_RATIO_MAX -> s.ratioMax();
            case teamtr.TEAMTR_STAT_ESS -> s.ess();
            case teamtr.TEAMTR_STAT_MONITOR_K1 -> s.monitorK1();
            case teamtr.TEAMTR_STAT_MONITOR_K3 -> s.monitorK3();
            case teamtr.TEAMTR_STAT_MONITOR_EXACT -> s.monitorExact();
            case teamtr.TEAMTR_STAT_MONITOR_MAX -> s.monitorMax();
            case teamtr.TEAMTR_STAT_ZETA_CLIP -> s.zetaClip();
            case teamtr.TEAMTR_STAT_ZETA_RATIO -> s.zetaRatio();
            case teamtr.TEAMTR_STAT_ZETA_NORM -> s.zetaNorm();
            default -> throw new AssertionError("a statistic without a getter: " + i);
        };
    }

    static double[] widen(float[] values) {
        final double[] wide = new double[values.length];
        for (int i = 0; i < wide.length; i++) {
            wide[i] = values[i];
        }
        return wide;
    }
}
