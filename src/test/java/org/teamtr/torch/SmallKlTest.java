package org.teamtr.torch;

import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Random;
import org.bytedeco.javacpp.FloatPointer;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch;
import org.junit.jupiter.api.Test;
import org.teamtr.kernels.Floats;
import org.teamtr.kernels.TokenKl;

/** Why the KL kernel exists: the formula everyone writes, beside it, as the policies come close. Prints the table of docs/kernels.md. */
class SmallKlTest {
    private static final int ROWS = 4;
    private static final int VOCAB = 151_936;

    @Test
    void theUsualFormulaIsNoiseWhereTrustRegionsLiveAndTheKernelIsNot() {
        System.out.println("| true KL | libtorch, f32: sum p (log p - log q) | TokenKl |");
        System.out.println("|---|---|---|");
        double usualAtTheEnd = 0;
        for (double size : new double[] {0.2, 0.05, 0.01, 2e-3, 5e-4}) {
            try (PointerScope scope = new PointerScope()) {
                final Tensor before = torch.empty(ROWS, VOCAB);
                final Tensor after = torch.empty(ROWS, VOCAB);
                final FloatPointer p = new FloatPointer(before.data_ptr()).capacity((long) ROWS * VOCAB);
                final FloatPointer q = new FloatPointer(after.data_ptr()).capacity((long) ROWS * VOCAB);
                final Random random = new Random(5);
                for (long i = 0; i < (long) ROWS * VOCAB; i++) {
                    // five likely tokens a row, as a language model has
                    final float x = (float) (3 * random.nextGaussian() + (i % VOCAB < 5 ? 18 : 0));
                    p.put(i, x);
                    q.put(i, (float) (x + size * random.nextGaussian()));
                }
                final Tensor logP = torch.log_softmax(before, -1);
                final Tensor logQ = torch.log_softmax(after, -1);
                final Tensor usual = logP.exp().mul(logP.sub(logQ)).sum(-1);
                final Tensor exactP = torch.log_softmax(before.to(torch.ScalarType.Double), -1);
                final Tensor r = exactP.sub(torch.log_softmax(after.to(torch.ScalarType.Double), -1));
                final Tensor exact = exactP.exp().mul(r.add(r.neg().expm1())).sum(-1);
                final Floats kl = Floats.allocate(ROWS);
                TokenKl.oldNew(TensorViews.logits(before), TensorViews.logits(after), kl);
                double usualWorst = 0;
                double ourWorst = 0;
                double largest = 0;
                for (int row = 0; row < ROWS; row++) {
                    final double want = exact.select(0, row).item_double();
                    largest = Math.max(largest, want);
                    usualWorst = Math.max(usualWorst, Math.abs(usual.select(0, row).item_double() / want - 1));
                    ourWorst = Math.max(ourWorst, Math.abs(kl.get(row) / want - 1));
                }
                System.out.printf(java.util.Locale.ROOT, "| %.1e | %.1e | %.1e |%n", largest, usualWorst, ourWorst);
                assertTrue(ourWorst < 1e-5, "relative error " + ourWorst + " at KL " + largest);
                usualAtTheEnd = usualWorst;
            }
        }
        assertTrue(usualAtTheEnd > 0.01, "the usual formula has become good: " + usualAtTheEnd);
    }
}
