package org.teamtr.kernels;

/**
 * What the kernels should answer, in plain double arithmetic on the numbers as they are stored. Written from the formulas, one
 * row at a time, with nothing of the kernels' ways: no blocks, no base 2, no running maximum.
 */
final class Reference {
    private Reference() {
    }

    /** softmax(x / T) of one row. A row with a NaN, a +inf, or nothing but -inf has no distribution: all NaN. */
    static final class Softmax {
        final double temperature;
        final double[] logP;
        final double lse;
        final double entropy;

        /**
         * The sum of exponentials is taken without one occurrence of the maximum, which is 1, and log1p put around it: where the
         * others sum to 1e-9, the logarithm of 1 + 1e-9 would keep only seven digits.
         */
        Softmax(double[] x, double temperature) {
            this.temperature = temperature;
            this.logP = new double[x.length];
            int top = 0;
            boolean proper = true;
            for (int v = 0; v < x.length; v++) {
                proper &= x[v] < Double.POSITIVE_INFINITY;
                if (x[v] > x[top]) {
                    top = v;
                }
            }
            final double max = proper && x[top] > Double.NEGATIVE_INFINITY ? x[top] : Double.NaN;
            double others = 0;
            for (int v = 0; v < x.length; v++) {
                others += v == top ? 0 : Math.exp((x[v] - max) / temperature);
            }
            final double logSum = Math.log1p(others);
            double negated = 0;
            for (int v = 0; v < x.length; v++) {
                logP[v] = (x[v] - max) / temperature - logSum;
                negated += p(v) == 0 ? 0 : p(v) * logP[v];
            }
            lse = max / temperature + logSum;
            entropy = -negated;
        }

        double p(int v) {
            return Math.exp(logP[v]);
        }

        /** p_v for all v; {@link #p} computes it anew each time. */
        double[] p() {
            final double[] p = new double[logP.length];
            for (int v = 0; v < p.length; v++) {
                p[v] = p(v);
            }
            return p;
        }
    }

    /** (g (1[v = target] - p_v) - h p_v (log p_v + H)) / T, with 1 - p of the target as -expm1(log p): p may round to 1. */
    static double[] gradient(Softmax s, int target, double g, double h) {
        final double[] d = new double[s.logP.length];
        for (int v = 0; v < d.length; v++) {
            final double p = s.p(v);
            final double ofLogProb = v == target ? -Math.expm1(s.logP[v]) : -p;
            final double ofEntropy = p == 0 ? 0 : -p * (s.logP[v] + s.entropy);
            d[v] = (g * ofLogProb + h * ofEntropy) / s.temperature;
        }
        return d;
    }

    /** sum P (log P - log Q), as it is defined. Loses about 1e-15 to cancellation: for comparisons at a KL well above that. */
    static double klPlain(Softmax p, Softmax q) {
        double sum = 0;
        for (int v = 0; v < p.logP.length; v++) {
            sum += p.p(v) == 0 ? 0 : p.p(v) * (p.logP[v] - q.logP[v]);
        }
        return sum;
    }

    /**
     * The same with Q_v - P_v added to every term, which sums to 0: P (r + exp(-r) - 1) with r = log P - log Q. No term is
     * negative, so that a KL of 1e-12 still has its digits.
     */
    static double kl(Softmax p, Softmax q) {
        double sum = 0;
        for (int v = 0; v < p.logP.length; v++) {
            final double r = p.logP[v] - q.logP[v];
            final double mass = p.p(v);
            sum += mass == 0 ? q.p(v) : r == Double.POSITIVE_INFINITY ? r : mass * (r + Math.expm1(-r));
        }
        return sum;
    }

    /** d (g KL(P || Q)) / d logits of Q. */
    static double[] klGradientOfSecond(Softmax p, Softmax q, double g) {
        final double[] d = new double[p.logP.length];
        for (int v = 0; v < d.length; v++) {
            d[v] = g * (q.p(v) - p.p(v)) / p.temperature;
        }
        return d;
    }

    /** d (g KL(P || Q)) / d logits of P. */
    static double[] klGradientOfFirst(Softmax p, Softmax q, double g) {
        final double kl = kl(p, q);
        final double[] d = new double[p.logP.length];
        for (int v = 0; v < d.length; v++) {
            final double mass = p.p(v);
            d[v] = mass == 0 ? 0 : g * mass * (p.logP[v] - q.logP[v] - kl) / p.temperature;
        }
        return d;
    }

    // ---- number formats ----

    /** {@return the distance of the format's numbers around x} */
    static double ulp(DType dtype, double x) {
        final int least = dtype == DType.F16 ? -14 : Float.MIN_EXPONENT;
        final int digits = dtype == DType.F32 ? 23 : dtype == DType.BF16 ? 7 : 10;
        return Math.scalb(1.0, Math.max(Math.getExponent(x), least) - digits);
    }

    /** {@return the format's nearest number to x, the even one of two} */
    static double round(DType dtype, double x) {
        if (x == 0 || Double.isNaN(x) || Double.isInfinite(x)) {
            return x;
        }
        final double ulp = ulp(dtype, x);
        final double rounded = Math.rint(x / ulp) * ulp;
        final double largest = dtype == DType.F16 ? 65504 : Math.scalb(2 - ulp(dtype, 1), Float.MAX_EXPONENT);
        return Math.abs(rounded) > largest ? Math.copySign(Double.POSITIVE_INFINITY, x) : rounded;
    }

    /** {@return the number as the format stores it}, in the low bits; x is one of the format's numbers. */
    static int bits(DType dtype, double x) {
        if (dtype != DType.F16) {
            return Float.floatToRawIntBits((float) x) >>> (dtype == DType.BF16 ? 16 : 0);
        }
        final int sign = Double.doubleToRawLongBits(x) < 0 ? 0x8000 : 0;
        if (Double.isNaN(x) || Double.isInfinite(x)) {
            return sign | (Double.isNaN(x) ? 0x7e00 : 0x7c00);
        }
        final int exponent = Math.max(Math.getExponent(x), -14);
        final int steps = (int) Math.scalb(Math.abs(x), 10 - exponent); // 0 .. 2047, below 1024 only if subnormal
        return sign | (exponent + 14 << 10) + steps;
    }

    static double value(DType dtype, int bits) {
        if (dtype != DType.F16) {
            return Float.intBitsToFloat(dtype == DType.BF16 ? bits << 16 : bits);
        }
        final int exponent = bits >> 10 & 31;
        final int fraction = bits & 1023;
        final double size = exponent == 31 ? (fraction == 0 ? Double.POSITIVE_INFINITY : Double.NaN)
                : Math.scalb(exponent == 0 ? fraction : fraction + 1024, Math.max(exponent, 1) - 25);
        return (bits & 0x8000) == 0 ? size : -size;
    }
}
