package org.teamtr.kernels;

/**
 * What a {@link TokenKl} leaves of each row for its gradient, which then reads the logits once. With P the policy that the KL is
 * an expectation under (the first in the method's name) and Q the other one,
 * <pre>
 *   lseP = log sum_v exp(p_v / T)      lseQ = log sum_v exp(q_v / T)      logRatio = lseP - lseQ
 * </pre>
 * so that log P_v - log Q_v = (p_v - q_v) / T - logRatio. {@code logRatio} is kept beside the other two since it is more exact
 * than their difference. Rows of {@link Indices#IGNORE} give 0, rows without a distribution NaN.
 *
 * <p>Owns no memory, and may be used again; a forward call overwrites it.
 *
 * <pre>{@code
 * KlStatistics statistics = KlStatistics.allocate(Device.CPU, newLogits.rows());
 * TokenKl.oldNew(oldLogits, newLogits, targets, Temperature.ONE, kl, null, null, null, null, statistics);
 * TokenKl.oldNewBackward(oldLogits, newLogits, targets, Temperature.ONE, statistics, gradKl, dLogits);
 * }</pre>
 *
 * @param lseP [rows] f32
 * @param lseQ [rows] f32
 * @param logRatio [rows] f32
 */
public record KlStatistics(Floats lseP, Floats lseQ, Floats logRatio) {
    /**
     * @throws IllegalArgumentException if a vector is null or two of them overlap
     */
    public KlStatistics {
        Check.given(lseP, "lseP");
        Check.given(lseQ, "lseQ");
        Check.given(logRatio, "logRatio");
        Check.allApart(lseP, "lseP", lseQ, "lseQ", logRatio, "logRatio");
    }

    /** {@return statistics of so many rows, in memory of their own on that device} */
    public static KlStatistics allocate(Device device, long rows) {
        return new KlStatistics(Floats.allocate(device, rows), Floats.allocate(device, rows), Floats.allocate(device, rows));
    }

    /** As results: one value a row, apart from the inputs. */
    void checkOutputs(Logits oldLogits, Logits newLogits, Indices targets, Temperature temperature) {
        output(lseP, "lseP", oldLogits, newLogits, targets, temperature);
        output(lseQ, "lseQ", oldLogits, newLogits, targets, temperature);
        output(logRatio, "logRatio", oldLogits, newLogits, targets, temperature);
    }

    private static void output(Floats vector, String name, Logits oldLogits, Logits newLogits, Indices targets,
            Temperature temperature) {
        Check.output(vector, name, newLogits.rows(), Check.ROWS);
        Check.apart(vector, name, oldLogits, "oldLogits", targets, "targets", temperature);
        Check.apart(vector, name, newLogits, "newLogits");
    }

    void checkApart(Floats other, String name) {
        Check.apart(lseP, "lseP", other, name);
        Check.apart(lseQ, "lseQ", other, name);
        Check.apart(logRatio, "logRatio", other, name);
    }

    /** As inputs of a gradient that is written to d. */
    void checkInputs(Logits d, String name) {
        Check.gradientInput(lseP, "lseP", d, name);
        Check.gradientInput(lseQ, "lseQ", d, name);
        Check.gradientInput(logRatio, "logRatio", d, name);
    }
}
