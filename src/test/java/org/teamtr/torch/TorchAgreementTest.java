package org.teamtr.torch;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assertions.fail;

import java.util.Arrays;
import org.bytedeco.javacpp.DoublePointer;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.BoolOptional;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorArrayRefOptional;
import org.bytedeco.pytorch.TensorOptional;
import org.bytedeco.pytorch.global.torch.ScalarType;
import org.bytedeco.pytorch.global.torch;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.teamtr.kernels.Floats;
import org.teamtr.kernels.LogProbs;
import org.teamtr.kernels.Temperature;
import org.teamtr.kernels.TokenKl;

/**
 * The kernels against libtorch, which computes from the same numbers in double, through its own operators and its own autograd. A
 * second witness beside {@code Reference}.
 */
class TorchAgreementTest {
    private static final int ROWS = 24;
    private static final int VOCAB = 32_000;
    /** Half a unit in the last place of bf16 and f16, relative. */
    private static final double BF16 = 1.0 / 256;
    private static final double F16 = 1.0 / 2048;

    private PointerScope scope;

    @BeforeEach
    void open() {
        scope = new PointerScope();
        torch.manual_seed(5);
    }

    @AfterEach
    void close() {
        scope.close();
    }

    private static Tensor logits(ScalarType dtype) {
        return torch.randn(ROWS, VOCAB).mul(new Scalar(3.0)).to(dtype);
    }

    private static Tensor inDouble(Tensor tensor) {
        return tensor.detach().to(ScalarType.Double).clone();
    }

    private static Tensor targets() {
        return torch.randint(VOCAB, new long[] {ROWS}).to(ScalarType.Long);
    }

    private static Tensor logSoftmax(Tensor logits, double temperature) {
        return torch.log_softmax(logits.div(new Scalar(temperature)), 1);
    }

    private static double[] doubles(Tensor tensor) {
        final Tensor flat = tensor.detach().to(ScalarType.Double).contiguous();
        final double[] values = new double[(int) flat.numel()];
        new DoublePointer(flat.data_ptr_double()).get(values);
        return values;
    }

    private static void assertClose(Tensor expected, Floats given, double absolute, double relative) {
        final double[] values = doubles(expected);
        assertEquals(values.length, given.length());
        for (int r = 0; r < values.length; r++) {
            assertEquals(values[r], given.get(r), absolute + relative * Math.abs(values[r]), "row " + r);
        }
    }

    /** Each element relative to the largest of its row, and for narrow formats to its own rounding. */
    private static void assertGradient(Tensor expected, Tensor given, double ofLargest) {
        final double own = switch (given.scalar_type().intern()) {
            case BFloat16 -> BF16;
            case Half -> F16;
            default -> 0;
        };
        final double least = given.scalar_type().intern() == ScalarType.Half ? Math.pow(2, -25) : 0;
        final double[] a = doubles(expected);
        final double[] b = doubles(given);
        assertEquals(a.length, b.length);
        for (int r = 0; r < ROWS; r++) {
            double largest = 0;
            for (int v = 0; v < VOCAB; v++) {
                largest = Math.max(largest, Math.abs(a[r * VOCAB + v]));
            }
            for (int v = 0; v < VOCAB; v++) {
                final double x = a[r * VOCAB + v];
                final double error = Math.abs(x - b[r * VOCAB + v]);
                if (!(error <= ofLargest * largest + 1.001 * own * Math.abs(x) + least)) {
                    fail("row " + r + ", element " + v + ": expected " + x + ", given " + b[r * VOCAB + v] + ", largest " + largest);
                }
            }
        }
    }

    @ParameterizedTest
    @EnumSource(value = ScalarType.class, names = {"Float", "BFloat16", "Half"})
    void logProbsLseAndEntropy(ScalarType dtype) {
        final Tensor logits = logits(dtype);
        final Tensor targets = targets();
        for (float t : new float[] {1, 0.7f}) {
            final Tensor expected = logSoftmax(inDouble(logits), t);
            final Floats logProbs = Floats.allocate(ROWS);
            final Floats lse = Floats.allocate(ROWS);
            final Floats entropy = Floats.allocate(ROWS);
            LogProbs.forward(TensorViews.logits(logits), TensorViews.indices(targets), Temperature.of(t), logProbs, lse, entropy);
            assertClose(expected.gather(1, targets.unsqueeze(1)), logProbs, 1e-6, 5e-7);
            assertClose(torch.logsumexp(inDouble(logits).div(new Scalar((double) t)), 1), lse, 1e-6, 5e-7);
            assertClose(expected.exp().mul(expected).sum(1).neg(), entropy, 1e-5, 0);
        }
    }

    /** libtorch's own f32 log_softmax is an f32 sum of 32,000 terms: it agrees with ours, to its own accuracy. */
    @Test
    void logProbsOfLibtorchInF32() {
        final Tensor logits = logits(ScalarType.Float);
        final Tensor targets = targets();
        final Floats logProbs = Floats.allocate(ROWS);
        LogProbs.forward(TensorViews.logits(logits), TensorViews.indices(targets), Temperature.ONE, logProbs, null, null);
        assertClose(torch.log_softmax(logits, 1).gather(1, targets.unsqueeze(1)), logProbs, 2e-5, 0);
    }

    @ParameterizedTest
    @EnumSource(value = ScalarType.class, names = {"Float", "BFloat16", "Half"})
    void exactKlInBothDirections(ScalarType dtype) {
        final Tensor old = logits(dtype);
        for (double size : new double[] {0.02, 1}) {
            final Tensor fresh = old.to(ScalarType.Float).add(torch.randn(ROWS, VOCAB).mul(new Scalar(size))).to(dtype);
            final Tensor p = logSoftmax(inDouble(old), 1);
            final Tensor q = logSoftmax(inDouble(fresh), 1);
            final Floats kl = Floats.allocate(ROWS);
            TokenKl.oldNew(TensorViews.logits(old), TensorViews.logits(fresh), kl);
            // kl_div(input, target) is KL(target || input)
            assertClose(torch.kl_div(q, p, 0, true).sum(1), kl, 0, 1e-5);
            TokenKl.newOld(TensorViews.logits(old), TensorViews.logits(fresh), kl);
            assertClose(torch.kl_div(p, q, 0, true).sum(1), kl, 0, 1e-5);
        }
    }

    /** The gradient of the summed cross-entropy is ours with -1 for every log-prob; -100 is ignored by both. */
    @ParameterizedTest
    @EnumSource(value = ScalarType.class, names = {"Float", "BFloat16", "Half"})
    void gradientOfCrossEntropy(ScalarType dtype) {
        final Tensor logits = logits(dtype);
        final Tensor targets = targets();
        targets.narrow(0, 3, 2).fill_(new Scalar(-100L));
        final Tensor x = inDouble(logits).set_requires_grad(true);
        final long sum = 2;
        final Tensor loss = torch.cross_entropy_loss(x, targets, new TensorOptional(), sum, -100, 0);
        loss.backward();

        final Floats logProbs = Floats.allocate(ROWS);
        final Floats lse = Floats.allocate(ROWS);
        LogProbs.forward(TensorViews.logits(logits), TensorViews.indices(targets), Temperature.ONE, logProbs, lse, null);
        double total = 0;
        final float[] minusOne = new float[ROWS];
        for (int r = 0; r < ROWS; r++) {
            total -= logProbs.get(r);
            minusOne[r] = -1;
        }
        assertEquals(loss.item_double(), total, 1e-4);
        final Tensor d = torch.empty(ROWS, VOCAB).to(dtype);
        LogProbs.backward(TensorViews.logits(logits), TensorViews.indices(targets), Temperature.ONE, logProbs, lse, null,
                Floats.ofFloats(minusOne), null, TensorViews.logits(d));
        assertGradient(x.grad(), d, 2e-6);
    }

    @ParameterizedTest
    @EnumSource(value = ScalarType.class, names = {"Float", "BFloat16"})
    void gradientOfEntropyAtATemperature(ScalarType dtype) {
        final Tensor logits = logits(dtype);
        final Tensor x = inDouble(logits).set_requires_grad(true);
        final Tensor logP = logSoftmax(x, 0.7f);
        logP.exp().mul(logP).sum().neg().backward();

        final Floats lse = Floats.allocate(ROWS);
        final Floats entropy = Floats.allocate(ROWS);
        LogProbs.forward(TensorViews.logits(logits), null, Temperature.of(0.7f), null, lse, entropy);
        final Tensor d = torch.empty(ROWS, VOCAB).to(dtype);
        LogProbs.backward(TensorViews.logits(logits), null, Temperature.of(0.7f), null, lse, entropy, null, ones(),
                TensorViews.logits(d));
        assertGradient(x.grad(), d, 2e-6);
    }

    @ParameterizedTest
    @EnumSource(value = ScalarType.class, names = {"Float", "BFloat16"})
    void gradientsOfExactKl(ScalarType dtype) {
        final Tensor old = logits(dtype);
        final Tensor fresh = logits(dtype);
        final Tensor p = logSoftmax(inDouble(old), 0.7f);
        final Tensor d = torch.empty(ROWS, VOCAB).to(dtype);

        final Tensor x = inDouble(fresh).set_requires_grad(true);
        torch.kl_div(logSoftmax(x, 0.7f), p, 0, true).sum().backward();
        TokenKl.oldNewBackward(TensorViews.logits(old), TensorViews.logits(fresh), null, Temperature.of(0.7f), ones(),
                TensorViews.logits(d));
        assertGradient(x.grad(), d, 2e-6);

        final Tensor y = inDouble(fresh).set_requires_grad(true);
        torch.kl_div(p, logSoftmax(y, 0.7f), 0, true).sum().backward();
        TokenKl.newOldBackward(TensorViews.logits(old), TensorViews.logits(fresh), null, Temperature.of(0.7f), ones(),
                TensorViews.logits(d));
        assertGradient(y.grad(), d, 1e-5); // new (log-ratio - KL) is a difference of numbers around 10
    }

    /** logits.backward(dLogits): the kernel's gradient goes on through libtorch's graph to the weights. */
    @Test
    void theGradientGoesBackThroughAGraph() {
        final Tensor hidden = torch.randn(ROWS, 16);
        final Tensor weight = torch.randn(16, VOCAB).set_requires_grad(true);
        final Tensor targets = targets();
        torch.log_softmax(hidden.mm(weight), 1).gather(1, targets.unsqueeze(1)).sum().backward();
        final Tensor expected = weight.grad().clone();
        weight.mutable_grad().zero_();

        final Tensor logits = hidden.mm(weight);
        final Floats logProbs = Floats.allocate(ROWS);
        final Floats lse = Floats.allocate(ROWS);
        final Tensor d = torch.empty(ROWS, VOCAB);
        LogProbs.forward(TensorViews.logits(logits), TensorViews.indices(targets), Temperature.ONE, logProbs, lse, null);
        LogProbs.backward(TensorViews.logits(logits), TensorViews.indices(targets), Temperature.ONE, logProbs, lse, null, ones(),
                null, TensorViews.logits(d));
        logits.backward(d, new BoolOptional(), false, new TensorArrayRefOptional());
        final double worst = weight.grad().sub(expected).abs().max().item_double();
        assertTrue(worst <= 2e-5 * expected.abs().max().item_double(), () -> "off by " + worst);
    }

    private static Floats ones() {
        final float[] ones = new float[ROWS];
        Arrays.fill(ones, 1);
        return Floats.ofFloats(ones);
    }
}
