package org.teamtr.kernels;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;

import java.util.Random;
import org.bytedeco.javacpp.FloatPointer;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** What else a call is asked for changes no bit of a result. */
class AskedForTest {
    private static final int ROWS = 50;
    private static final int VOCAB = 3_001;

    @ParameterizedTest
    @ValueSource(doubles = {1e-3, 0.1, 3})
    void klAndLogProbsAreTheSameWithAndWithoutEntropies(double size) {
        final Random random = new Random(3);
        final FloatPointer p = new FloatPointer((long) ROWS * VOCAB);
        final FloatPointer q = new FloatPointer((long) ROWS * VOCAB);
        for (long i = 0; i < (long) ROWS * VOCAB; i++) {
            p.put(i, (float) (3 * random.nextGaussian()));
            q.put(i, (float) (p.get(i) + size * random.nextGaussian()));
        }
        final Logits before = Logits.of(p, DType.F32, ROWS, VOCAB);
        final Logits after = Logits.of(q, DType.F32, ROWS, VOCAB);
        final Indices targets = Indices.ofInts(random.ints(ROWS, 0, VOCAB).toArray());
        final float[][] alone = call(before, after, targets, null, null);
        try (Floats entropyOld = Floats.allocate(ROWS); Floats entropyNew = Floats.allocate(ROWS)) {
            final float[][] withBoth = call(before, after, targets, entropyOld, entropyNew);
            for (int k = 0; k < alone.length; k++) {
                assertArrayEquals(alone[k], withBoth[k], 0);
            }
            try (Floats expected = Floats.allocate(ROWS)) {
                LogProbs.forward(after, targets, Temperature.ONE, null, null, expected);
                // A device's exact KL sums in an order of its own.
                assertArrayEquals(expected.toArray(), entropyNew.toArray(), TestDevice.CUDA ? 1e-5f : 0);
            }
        }
    }

    private static float[][] call(Logits before, Logits after, Indices targets, Floats entropyOld, Floats entropyNew) {
        try (Floats kl = Floats.allocate(ROWS); Floats logProbsOld = Floats.allocate(ROWS); Floats logProbsNew = Floats.allocate(ROWS)) {
            TokenKl.oldNew(before, after, targets, Temperature.ONE, kl, logProbsOld, logProbsNew, entropyOld, entropyNew);
            return new float[][] {kl.toArray(), logProbsOld.toArray(), logProbsNew.toArray()};
        }
    }
}
