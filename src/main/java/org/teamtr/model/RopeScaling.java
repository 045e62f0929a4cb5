package org.teamtr.model;

import com.fasterxml.jackson.databind.node.ObjectNode;

/**
 * How rotary positions are stretched beyond the length that a model was first trained with: a {@code rope_scaling} of
 * {@code config.json}, by the formulas of transformers' {@code modeling_rope_utils}. Immutable.
 */
public sealed interface RopeScaling {
    /** {@return the {@code rope_type} of {@code config.json}} */
    String type();

    /**
     * {@return the frequencies, in radians per position, [dim / 2]}
     *
     * @param plain those without scaling: theta^(-2i / dim)
     */
    double[] frequencies(double[] plain, double theta);

    /** {@return what cosine and sine are multiplied by} */
    default double attentionFactor() {
        return 1;
    }

    /** Writes the keys beside {@code rope_type}. */
    void write(ObjectNode json);

    private static void require(boolean holds, String name, String expected, Object given) {
        if (!holds) {
            throw new IllegalArgumentException("rope_scaling." + name + ": expected " + expected + ", given " + given);
        }
    }

    private static void requireFactor(double factor) {
        require(factor > 0 && factor < Double.POSITIVE_INFINITY, "factor", "more than 0", factor);
    }

    private static void requireOriginal(int originalPositions) {
        require(originalPositions >= 1, "original_max_position_embeddings", "1 or more", originalPositions);
    }

    /** All frequencies divided by the factor. */
    record Linear(double factor) implements RopeScaling {
        /** @throws IllegalArgumentException if the factor is out of range */
        public Linear {
            requireFactor(factor);
        }

        @Override
        public String type() {
            return "linear";
        }

        @Override
        public double[] frequencies(double[] plain, double theta) {
            final double[] f = plain.clone();
            for (int i = 0; i < f.length; i++) {
                f[i] /= factor;
            }
            return f;
        }

        @Override
        public void write(ObjectNode json) {
            json.put("factor", factor);
        }
    }

    /**
     * Frequencies that change once a text is longer than {@code max_position_embeddings}. No text here ever is, and until then they are
     * the plain ones.
     */
    record Dynamic(double factor) implements RopeScaling {
        /** @throws IllegalArgumentException if the factor is out of range */
        public Dynamic {
            requireFactor(factor);
        }

        @Override
        public String type() {
            return "dynamic";
        }

        @Override
        public double[] frequencies(double[] plain, double theta) {
            return plain.clone();
        }

        @Override
        public void write(ObjectNode json) {
            json.put("factor", factor);
        }
    }

    /** Llama 3.1's: short wavelengths stay, long ones are stretched by the factor, and those between go over smoothly. */
    record Llama3(double factor, double lowFrequency, double highFrequency, int originalPositions) implements RopeScaling {
        /** @throws IllegalArgumentException if a number is out of range */
        public Llama3 {
            requireFactor(factor);
            require(lowFrequency > 0, "low_freq_factor", "more than 0", lowFrequency);
            require(highFrequency > lowFrequency, "high_freq_factor", "more than low_freq_factor = " + lowFrequency, highFrequency);
            requireOriginal(originalPositions);
        }

        @Override
        public String type() {
            return "llama3";
        }

        @Override
        public double[] frequencies(double[] plain, double theta) {
            final double[] f = plain.clone();
            for (int i = 0; i < f.length; i++) {
                final double turns = originalPositions * f[i] / (2 * Math.PI);
                final double share = (turns - lowFrequency) / (highFrequency - lowFrequency);
                final double smooth = Math.min(1, Math.max(0, share));
                f[i] = (1 - smooth) * f[i] / factor + smooth * f[i];
            }
            return f;
        }

        @Override
        public void write(ObjectNode json) {
            json.put("factor", factor).put("low_freq_factor", lowFrequency).put("high_freq_factor", highFrequency)
                    .put("original_max_position_embeddings", originalPositions);
        }
    }

    /**
     * YaRN (arXiv 2309.00071): a frequency that turns {@code betaFast} times or more within the original length stays, one that turns
     * {@code betaSlow} times or less is divided by the factor, and between them, counted in dimensions, it goes over linearly.
     *
     * @param attentionFactor what cosine and sine are multiplied by, which sharpens the attention; 0.1 ln(factor) + 1 in the paper
     * @param truncate whether the two dimensions in between which it goes over are rounded outwards
     */
    record Yarn(double factor, int originalPositions, double attentionFactor, double betaFast, double betaSlow, boolean truncate)
            implements RopeScaling {
        /** @throws IllegalArgumentException if a number is out of range */
        public Yarn {
            requireFactor(factor);
            requireOriginal(originalPositions);
            require(attentionFactor > 0 && attentionFactor < Double.POSITIVE_INFINITY, "attention_factor", "more than 0",
                    attentionFactor);
            require(betaSlow > 0, "beta_slow", "more than 0", betaSlow);
            require(betaFast >= betaSlow, "beta_fast", "beta_slow = " + betaSlow + " or more", betaFast);
        }

        /** {@return 0.1 mscale ln(factor) + 1, or 1 for a factor of 1 or less} */
        static double mscale(double factor, double mscale) {
            return factor <= 1 ? 1 : 0.1 * mscale * Math.log(factor) + 1;
        }

        @Override
        public String type() {
            return "yarn";
        }

        @Override
        public double[] frequencies(double[] plain, double theta) {
            final int dim = 2 * plain.length;
            double low = dimension(betaFast, dim, theta);
            double high = dimension(betaSlow, dim, theta);
            if (truncate) {
                low = Math.floor(low);
                high = Math.ceil(high);
            }
            low = Math.max(low, 0);
            high = Math.min(high, dim - 1);
            if (low == high) {
                high += 0.001;
            }
            final double[] f = plain.clone();
            for (int i = 0; i < f.length; i++) {
                final double stretched = Math.min(1, Math.max(0, (i - low) / (high - low)));
                f[i] = f[i] / factor * stretched + f[i] * (1 - stretched);
            }
            return f;
        }

        /** The dimension that turns so many times within the original length. */
        private double dimension(double turns, int dim, double theta) {
            return dim * Math.log(originalPositions / (turns * 2 * Math.PI)) / (2 * Math.log(theta));
        }

        @Override
        public void write(ObjectNode json) {
            json.put("factor", factor).put("original_max_position_embeddings", originalPositions)
                    .put("attention_factor", attentionFactor).put("beta_fast", betaFast).put("beta_slow", betaSlow)
                    .put("truncate", truncate);
        }
    }
}
