package example;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.util.Locale;
import org.teamtr.kernels.Floats;
import org.teamtr.kernels.Indices;
import org.teamtr.kernels.LogProbs;
import org.teamtr.kernels.Logits;
import org.teamtr.kernels.PolicyLoss;
import org.teamtr.kernels.SurrogateConfig;
import org.teamtr.kernels.Temperature;
import org.teamtr.kernels.TokenKl;

/**
 * One message of two tokens, 0 and 1, over a vocabulary of four. At both, the old policy has the probabilities 1/2, 1/4, 1/8, 1/8, and
 * the new one 1/8, 1/2, 1/4, 1/8: everything has a closed form.
 */
public final class DirectBuffers {
    private static final double LN2 = Math.log(2);

    private static boolean right = true;

    private DirectBuffers() {
    }

    public static void main(String[] args) {
        final FloatBuffer oldBuffer = direct(2 * 4);
        final FloatBuffer newBuffer = direct(2 * 4);
        for (int row = 0; row < 2; row++) {
            oldBuffer.put(logs(0.5, 0.25, 0.125, 0.125));
            newBuffer.put(logs(0.125, 0.5, 0.25, 0.125));
        }
        final Logits oldLogits = Logits.of(oldBuffer.flip(), 2, 4);
        final Logits newLogits = Logits.of(newBuffer.flip(), 2, 4);
        final FloatBuffer gradient = direct(2 * 4);

        try (Indices tokens = Indices.ofInts(0, 1);
                Floats logProbsOld = Floats.allocate(2);
                Floats entropyOld = Floats.allocate(2);
                Floats kl = Floats.allocate(2);
                Floats advantages = Floats.ofFloats(1);
                Indices messages = Indices.ofInts(0, 2);
                PolicyLoss loss = new PolicyLoss(2, false)) {
            LogProbs.forward(oldLogits, tokens, Temperature.ONE, logProbsOld, null, entropyOld);
            check("log-prob of token 0, old policy", logProbsOld.get(0), "-ln 2", -LN2);
            check("log-prob of token 1, old policy", logProbsOld.get(1), "-2 ln 2", -2 * LN2);
            check("entropy, old policy", entropyOld.get(0), "7/4 ln 2", 1.75 * LN2);

            TokenKl.oldNew(oldLogits, newLogits, kl);
            check("KL(old || new) of a token", kl.get(0), "5/8 ln 2", 0.625 * LN2);
            TokenKl.newOld(oldLogits, newLogits, kl);
            check("KL(new || old) of a token", kl.get(0), "1/2 ln 2", 0.5 * LN2);

            // The message has become half as likely: w = (1/8 : 1/2) (1/2 : 1/4) = 1/2. With A = 1 its objective is w A.
            loss.forwardBackward(SurrogateConfig.PAPER, newLogits, oldLogits, tokens, Temperature.ONE, logProbsOld, advantages,
                    messages, null, null, Logits.of(gradient, 2, 4));
            check("loss", loss.stats().loss(), "-w A = -1/2", -0.5);
            check("sampled KL of the message (k1)", loss.stats().monitorK1(), "-ln w = ln 2", LN2);
            check("gradient at the token's own logit", gradient.get(0), "-w A (1 - 1/8)", -0.4375);
            check("gradient at the logit beside it", gradient.get(1), "w A / 2", 0.25);
        }
        System.out.println(right ? "all as the closed forms say" : "NOT as the closed forms say");
        System.exit(right ? 0 : 1);
    }

    private static FloatBuffer direct(int floats) {
        return ByteBuffer.allocateDirect(floats * Float.BYTES).order(ByteOrder.nativeOrder()).asFloatBuffer();
    }

    private static float[] logs(double... probabilities) {
        final float[] logs = new float[probabilities.length];
        for (int i = 0; i < logs.length; i++) {
            logs[i] = (float) Math.log(probabilities[i]);
        }
        return logs;
    }

    private static void check(String what, double computed, String form, double expected) {
        right &= Math.abs(computed - expected) <= 1e-6 * Math.abs(expected);
        System.out.printf(Locale.ROOT, "%s: %.6f, %s = %.6f%n", what, computed, form, expected);
    }
}
