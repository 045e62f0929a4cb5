package org.teamtr.torch;

import java.util.Arrays;
import java.util.Map;
import java.util.stream.IntStream;
import org.teamtr.model.ModelConfig;
import org.teamtr.model.RopeScaling;

/** A decoder of one sequence in double precision, one position after the other. */
final class DecoderReference {
    private final ModelConfig c;
    private final ModelConfig.Attention a;
    private final Map<String, double[]> weights;
    private double[] frequencies; // of each half dimension, once they have been asked for

    DecoderReference(ModelConfig config, Map<String, double[]> weights) {
        this.c = config;
        this.a = config.attention();
        this.weights = weights;
    }

    /** Logits at every position, [length][vocab]. */
    double[][] logits(int[] ids) {
        final int n = ids.length;
        final double[] embedding = weights.get("model.embed_tokens.weight");
        final double[][] x = new double[n][c.hidden()];
        for (int p = 0; p < n; p++) {
            System.arraycopy(embedding, ids[p] * c.hidden(), x[p], 0, c.hidden());
        }
        for (int i = 0; i < c.layers(); i++) {
            layer("model.layers." + i + ".", x, a.window() != null && a.window().layers().get(i));
        }
        final double[] head = c.embedding().tied() ? embedding : weights.get("lm_head.weight");
        final double[][] logits = new double[n][];
        for (int p = 0; p < n; p++) {
            logits[p] = times(head, rmsNorm(x[p], weights.get("model.norm.weight")), null);
        }
        return logits;
    }

    private void layer(String name, double[][] x, boolean slides) {
        final int n = x.length;
        final double[][] q = new double[n][];
        final double[][] k = new double[n][];
        final double[][] v = new double[n][];
        for (int p = 0; p < n; p++) {
            final double[] h = rmsNorm(x[p], weights.get(name + "input_layernorm.weight"));
            q[p] = linear(name + "self_attn.q_proj", h);
            k[p] = linear(name + "self_attn.k_proj", h);
            v[p] = linear(name + "self_attn.v_proj", h);
            heads(q[p], weights.get(name + "self_attn.q_norm.weight"), p);
            heads(k[p], weights.get(name + "self_attn.k_norm.weight"), p);
        }
        for (int p = 0; p < n; p++) {
            final int first = slides ? Math.max(0, p + 1 - a.window().tokens()) : 0;
            add(x[p], linear(name + "self_attn.o_proj", attend(q[p], k, v, p, first)));
        }
        for (int p = 0; p < n; p++) {
            final double[] h = rmsNorm(x[p], weights.get(name + "post_attention_layernorm.weight"));
            final double[] gate = linear(name + "mlp.gate_proj", h);
            final double[] up = linear(name + "mlp.up_proj", h);
            for (int i = 0; i < up.length; i++) {
                up[i] *= gate[i] / (1 + Math.exp(-gate[i]));
            }
            add(x[p], linear(name + "mlp.down_proj", up));
        }
    }

    /** Normalises every head where the model has weights for it, and turns it to its position. */
    private void heads(double[] vector, double[] norm, int position) {
        final int width = a.headDim();
        final double factor = c.rope().scaling() instanceof RopeScaling.Yarn s ? s.attentionFactor() : 1;
        for (int from = 0; from < vector.length; from += width) {
            double[] head = Arrays.copyOfRange(vector, from, from + width);
            if (norm != null) {
                head = rmsNorm(head, norm);
            }
            for (int i = 0; i < width / 2; i++) {
                final double angle = position * frequency(i);
                final double a = head[i];
                final double b = head[i + width / 2];
                vector[from + i] = factor * (a * Math.cos(angle) - b * Math.sin(angle));
                vector[from + i + width / 2] = factor * (b * Math.cos(angle) + a * Math.sin(angle));
            }
        }
    }

    private double frequency(int i) {
        if (frequencies == null) {
            frequencies = IntStream.range(0, a.headDim() / 2).mapToDouble(this::computedFrequency).toArray();
        }
        return frequencies[i];
    }

    private double computedFrequency(int i) {
        final double wavelength = 2 * Math.PI * Math.pow(c.rope().theta(), 2.0 * i / a.headDim());
        if (c.rope().scaling() instanceof RopeScaling.Linear s) {
            return 2 * Math.PI / (wavelength * s.factor());
        }
        if (c.rope().scaling() instanceof RopeScaling.Llama3 s) {
            return llama3(s, wavelength);
        }
        if (c.rope().scaling() instanceof RopeScaling.Yarn s) {
            return 2 * Math.PI / wavelength * (1 - yarnStretched(s, i) + yarnStretched(s, i) / s.factor());
        }
        return 2 * Math.PI / wavelength;
    }

    /** By wavelength, as Llama 3.1 is described: the model's own rule has frequencies. */
    private static double llama3(RopeScaling.Llama3 s, double wavelength) {
        final double shortest = s.originalPositions() / s.highFrequency();
        final double longest = s.originalPositions() / s.lowFrequency();
        if (wavelength < shortest) {
            return 2 * Math.PI / wavelength;
        }
        if (wavelength > longest) {
            return 2 * Math.PI / (wavelength * s.factor());
        }
        final double smooth = (s.originalPositions() / wavelength - s.lowFrequency()) / (s.highFrequency() - s.lowFrequency());
        return 2 * Math.PI / wavelength * ((1 - smooth) / s.factor() + smooth);
    }

    /** The share of the factor in a dimension: found by looking for the dimensions that turn so often, not by the logarithm. */
    private double yarnStretched(RopeScaling.Yarn s, int i) {
        final double step = s.truncate() ? 1 : 1e-5;
        double low = 0;
        while (turns(s, low + step) >= s.betaFast()) {
            low += step;
        }
        double high = 0;
        while (turns(s, high) > s.betaSlow()) {
            high += step;
        }
        return Math.max(0, Math.min(1, (i - low) / (high - low)));
    }

    private double turns(RopeScaling.Yarn s, double i) {
        return s.originalPositions() / (2 * Math.PI * Math.pow(c.rope().theta(), 2 * i / a.headDim()));
    }

    private double[] attend(double[] q, double[][] k, double[][] v, int position, int first) {
        final int width = a.headDim();
        final double[] out = new double[a.heads() * width];
        for (int h = 0; h < a.heads(); h++) {
            final int shared = h / (a.heads() / a.kvHeads()) * width;
            final double[] p = new double[position + 1];
            double largest = Double.NEGATIVE_INFINITY;
            for (int t = first; t <= position; t++) {
                for (int i = 0; i < width; i++) {
                    p[t] += q[h * width + i] * k[t][shared + i] / Math.sqrt(width);
                }
                largest = Math.max(largest, p[t]);
            }
            double sum = 0;
            for (int t = first; t <= position; t++) {
                p[t] = Math.exp(p[t] - largest);
                sum += p[t];
            }
            for (int t = first; t <= position; t++) {
                for (int i = 0; i < width; i++) {
                    out[h * width + i] += p[t] / sum * v[t][shared + i];
                }
            }
        }
        return out;
    }

    private double[] rmsNorm(double[] x, double[] weight) {
        double sum = 0;
        for (double e : x) {
            sum += e * e;
        }
        final double scale = 1 / Math.sqrt(sum / x.length + c.normEps());
        final double[] out = new double[x.length];
        for (int i = 0; i < out.length; i++) {
            out[i] = x[i] * scale * weight[i];
        }
        return out;
    }

    private double[] linear(String name, double[] x) {
        return times(weights.get(name + ".weight"), x, weights.get(name + ".bias"));
    }

    private static double[] times(double[] matrix, double[] x, double[] bias) {
        final double[] out = new double[matrix.length / x.length];
        for (int o = 0; o < out.length; o++) {
            double sum = bias == null ? 0 : bias[o];
            for (int i = 0; i < x.length; i++) {
                sum += matrix[o * x.length + i] * x[i];
            }
            out[o] = sum;
        }
        return out;
    }

    private static void add(double[] to, double[] from) {
        for (int i = 0; i < to.length; i++) {
            to[i] += from[i];
        }
    }
}
