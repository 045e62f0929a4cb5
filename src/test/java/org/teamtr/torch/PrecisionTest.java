package org.teamtr.torch;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.stream.IntStream;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch.ScalarType;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.teamtr.kernels.DType;
import org.teamtr.kernels.SurrogateConfig;
import org.teamtr.model.ModelConfig;
import org.teamtr.model.SafeTensors;
import org.teamtr.team.Utterance;
import org.teamtr.train.Batch;
import org.teamtr.train.Matmul;
import org.teamtr.train.Policy;

/** What the numbers that a policy computes with make of it: f16 with its loss scale, logits in f32, TF32, the monitor's own. */
class PrecisionTest {
    private static final double TEMPERATURE = 0.8;

    @TempDir
    private static Path folder;

    private static TorchPolicy policy(ModelConfig config, String dtype) throws IOException {
        return Tiny.policy(folder, config, Tiny.settings(dtype, 1, 0, 8192), 5);
    }

    private static TorchPolicy policy(ModelConfig config, DType dtype, Matmul matmul) throws IOException {
        return Tiny.policy(folder, config, Tiny.settings().with(dtype, matmul), 5);
    }

    // ---- loss scale ----

    private static Tensor vector(float... values) {
        return Tensor.create(values, values.length);
    }

    @ParameterizedTest
    @ValueSource(floats = {Float.POSITIVE_INFINITY, Float.NEGATIVE_INFINITY, Float.NaN})
    void anOverflowHalvesTheScaleAndOthersDoubleIt(float bad) {
        try (PointerScope scope = new PointerScope()) {
            final LossScale scale = new LossScale();
            assertEquals(65536, scale.scale());
            final Tensor good = vector(65536, -131072, 3);
            assertTrue(scale.unscale(good));
            assertArrayEquals(new float[] {1, -2, 3f / 65536}, Tiny.floats(good), "divided, exactly");
            assertFalse(scale.unscale(vector(1, bad, 2)));
            assertEquals(32768, scale.scale());
            for (int i = 1; i < LossScale.GROWTH; i++) {
                assertTrue(scale.unscale(vector(1)));
                assertEquals(32768, scale.scale(), "after " + i);
            }
            assertTrue(scale.unscale(vector(1)));
            assertEquals(65536, scale.scale());
            for (int i = 0; i < 16; i++) {
                assertFalse(scale.unscale(vector(bad)));
            }
            assertEquals(1, scale.scale());
            final String message = assertThrows(ArithmeticException.class, () -> scale.unscale(vector(bad))).getMessage();
            assertTrue(message.contains("65,504") && message.contains("dtype bf16 or f32"), message);
            for (int i = 0; i < 40 * LossScale.GROWTH; i++) {
                scale.unscale(vector(1));
            }
            assertEquals(0x1p24, scale.scale(), "there is a largest");
        }
    }

    @Test
    void theScaleComesBackFromItsState() {
        try (PointerScope scope = new PointerScope()) {
            final LossScale scale = new LossScale();
            scale.unscale(vector(Float.NaN));
            scale.unscale(vector(1));
            final LossScale other = new LossScale();
            other.set(scale.state());
            assertEquals(scale.state(), other.state());
            for (String wrong : List.of("", "0.5", "-1", "x", "NaN", "1e30")) {
                assertThrows(NumberFormatException.class, () -> other.set(Map.of("loss_scale", wrong, "finite_gradients", "1")), wrong);
            }
        }
    }

    /** Numbers that never were are not in the weights, the optimiser or the version; the next gradient is of use. */
    @Test
    void aStepWhoseGradientOverflowsIsNone() throws IOException {
        try (TorchPolicy policy = policy(Tiny.qwen3(2), "f16")) {
            final Batch batch = Tiny.batch(policy, 6, 12, 2);
            policy.state.lossScale.set(Map.of("loss_scale", Double.toString(0x1p24), "finite_gradients", "7"));
            final float[] master = Tiny.floats(policy.state.weights.master);
            int overflows = 0;
            double norm;
            do {
                policy.gradient(batch, TEMPERATURE, SurrogateConfig.PAPER, null);
                assertArrayEquals(master, Tiny.floats(policy.state.weights.master));
                assertNull(policy.state.optimiser.mean);
                assertEquals(0, policy.version());
                assertEquals(0, policy.state.optimiser.steps);
                norm = policy.step(1e-3);
                overflows += Double.isNaN(norm) ? 1 : 0;
            } while (Double.isNaN(norm));
            assertTrue(overflows > 2, overflows + " overflows");
            assertEquals(Math.scalb(1.0, 24 - overflows), policy.state.lossScale.scale());
            assertEquals(1, policy.state.optimiser.steps);
            assertFalse(Arrays.equals(master, Tiny.floats(policy.state.weights.master)));
            assertThrows(IllegalStateException.class, () -> policy.step(1e-3), "the gradient was used up");
        }
    }

    /** Gradients far below f16's smallest number come through by their scale, and do not depend on it. */
    @Test
    void smallGradientsAreThoseOfF32() throws IOException {
        try (TorchPolicy half = policy(Tiny.qwen3(2), "f16"); TorchPolicy whole = policy(Tiny.qwen3(2), "f32")) {
            final Batch batch = Tiny.batch(whole, 12, 12, 2);
            final float[] tiny = batch.advantages().clone();
            for (int m = 0; m < tiny.length; m++) {
                tiny[m] *= 1e-8f;
            }
            final Batch small = Batch.of(batch.messages(), tiny, tiny);
            whole.gradient(small, TEMPERATURE, SurrogateConfig.PAPER, null);
            final float[] expected = Tiny.floats(whole.state.gradient);
            double largest = 0;
            for (float x : expected) {
                largest = Math.max(largest, Math.abs(x));
            }
            assertTrue(largest < 6e-8, "f16 has no numbers for these: " + largest);
            final double unscaled = error(half, small, 1, expected);
            final double scaled = error(half, small, 65536, expected);
            System.out.printf(Locale.ROOT, "f16 gradients, of f32's: %.3g off at a loss scale of 65536, %.3g at 1%n", scaled, unscaled);
            assertTrue(scaled < 0.03, "given " + scaled);
            assertTrue(unscaled > 0.1, "given " + unscaled);
        }
    }

    /** Relative error of the gradient, as a vector. */
    private static double error(TorchPolicy policy, Batch batch, double scale, float[] expected) {
        policy.state.lossScale.set(Map.of("loss_scale", Double.toString(scale), "finite_gradients", "0"));
        policy.gradient(batch, TEMPERATURE, SurrogateConfig.PAPER, null);
        final float[] given = Tiny.floats(policy.state.gradient);
        double off = 0;
        double all = 0;
        for (int i = 0; i < given.length; i++) {
            off += Math.pow(given[i] / scale - expected[i], 2);
            all += (double) expected[i] * expected[i];
        }
        return Math.sqrt(off / all);
    }

    /** F14: a policy that was saved and loaded goes on to the same bits, overflows and growth of the scale included. */
    @Test
    void f16GoesOnFromAFolderToTheBit() throws IOException {
        final Path saved = Files.createDirectories(folder.resolve("saved-f16"));
        try (TorchPolicy policy = policy(Tiny.qwen3(2), "f16"); TorchPolicy other = policy(Tiny.qwen3(2), "f16")) {
            final Batch batch = Tiny.batch(policy, 6, 12, 2);
            policy.state.lossScale.set(Map.of("loss_scale", Double.toString(0x1p22), "finite_gradients", Integer.toString(LossScale.GROWTH - 2)));
            steps(policy, batch, 4);
            policy.save(saved);
            try (SafeTensors tensors = SafeTensors.open(saved)) {
                assertEquals("F16", tensors.entry("model.norm.weight").dtype());
            }
            assertTrue(Files.readString(saved.resolve("config.json")).contains("float16"));
            other.load(saved);
            assertEquals(policy.state.lossScale.state(), other.state.lossScale.state());
            steps(policy, batch, 6);
            steps(other, batch, 6);
            assertEquals(policy.fingerprint(), other.fingerprint());
            assertEquals(policy.state.lossScale.state(), other.state.lossScale.state());
            assertArrayEquals(policy.score(batch, 1, null).logProbs(), other.score(batch, 1, null).logProbs());
        }
    }

    private static void steps(TorchPolicy policy, Batch batch, int tries) {
        for (int i = 0; i < tries; i++) {
            policy.gradient(batch, TEMPERATURE, SurrogateConfig.PAPER, null);
            policy.step(1e-3);
        }
    }

    // ---- logits ----

    /** Against sums in double of the very 16-bit numbers: rounded once to f32, not to 16 bits. */
    @ParameterizedTest
    @EnumSource(value = ScalarType.class, names = {"Half", "BFloat16"})
    void logitsLeaveTheProductInF32(ScalarType dtype) {
        try (PointerScope scope = new PointerScope()) {
            final SplittableRandom random = new SplittableRandom(3);
            final int n = 5;
            final int h = 700;
            final int vocab = 7001; // several parts of the weight
            final Tensor hidden = Tensor.create(random.doubles(n * h, -1, 1).toArray(), n, h).to(dtype);
            final Tensor weight = Tensor.create(random.doubles((long) vocab * h, -1, 1).toArray(), vocab, h).to(dtype);
            final Tensor expected = hidden.to(ScalarType.Double).mm(weight.to(ScalarType.Double).t());
            final Tensor logits = HeadProduct.logits(hidden, weight);
            assertEquals(ScalarType.Float, logits.scalar_type().intern());
            assertTrue(logits.to(ScalarType.Double).sub(expected).abs().max().item_double() < 1e-4);
            assertTrue(hidden.mm(weight.t()).to(ScalarType.Double).sub(expected).abs().max().item_double() > 5e-3,
                    "libtorch's own product of 16-bit numbers would be that far off");
            final Tensor slope = Tensor.create(random.doubles(n * vocab, -1, 1).toArray(), n, vocab).to(ScalarType.Float);
            final Tensor dHidden = hidden.clone();
            HeadProduct.gradient(dHidden, slope, weight);
            final Tensor exact = slope.to(ScalarType.Double).mm(weight.to(ScalarType.Double));
            final double ulp = dtype == ScalarType.Half ? 0x1p-11 : 0x1p-8; // half of one, of what is rounded once
            assertTrue(dHidden.to(ScalarType.Double).sub(exact).abs().sub(exact.abs().mul(new Scalar(1.01 * ulp))).max().item_double() < 1e-4);
        }
    }

    // ---- TF32 ----

    @Test
    void tf32KeepsTenBits() {
        try (PointerScope scope = new PointerScope()) {
            final float ulp = 0x1p-10f; // of 1
            final float[] given = {0, 1, 1 + ulp, 1 + ulp / 2, 1 + 0.49f * ulp, -1 - ulp / 2, 3e-39f, -7.25f, 65504, 1 + 1.5f * ulp};
            final float[] rounded = {0, 1, 1 + ulp, 1 + ulp, 1, -1 - ulp, 3e-39f, -7.25f, 65504, 1 + 2 * ulp};
            final float[] got = Tiny.floats(Tf32.rounded(vector(given)));
            for (int i = 0; i < given.length; i++) {
                assertEquals(rounded[i], got[i], i == 6 ? 1e-41f : 0, "number " + given[i]);
            }
            final Tensor leaf = vector(given).set_requires_grad(true);
            final Tensor out = Tf32.rounded(leaf);
            assertArrayEquals(got, Tiny.floats(out), "the same with a gradient");
            out.sum().backward();
            assertArrayEquals(new float[] {1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, Tiny.floats(leaf.grad()));
        }
    }

    // ---- what the monitor sees ----

    /** The f32 weights decide, of both policies, and not their rounded copies: to the bit as an f32 policy with the same weights. */
    @ParameterizedTest
    @ValueSource(strings = {"bf16", "f16"})
    void theMonitorEvaluatesTheF32Weights(String dtype) throws IOException {
        for (Matmul matmul : Matmul.values()) {
            final Policy.Precision precision = matmul == Matmul.F32 ? Policy.Precision.F32 : Policy.Precision.TF32;
            try (TorchPolicy coarse = policy(Tiny.qwen3(3), dtype); TorchPolicy fine = policy(Tiny.qwen3(3), DType.F32, matmul)) {
                assertFalse(coarse.computesIn(precision));
                assertTrue(fine.computesIn(precision) && coarse.computesIn(Policy.Precision.SAME));
                assertFalse(fine.computesIn(matmul == Matmul.F32 ? Policy.Precision.TF32 : Policy.Precision.F32));
                final Batch batch = Tiny.batch(coarse, 8, 12, 2);
                try (Policy.Snapshot before = coarse.snapshot(); Policy.Snapshot then = fine.snapshot()) {
                    coarse.nudge(1e-4, 3); // far below what bf16 resolves
                    fine.nudge(1e-4, 3);
                    final Policy.Scores seen = coarse.score(batch, TEMPERATURE, before, precision);
                    final Policy.Scores expected = fine.score(batch, TEMPERATURE, then);
                    assertArrayEquals(expected.logProbs(), seen.logProbs());
                    assertArrayEquals(expected.kl(), seen.kl());
                    assertFalse(Arrays.equals(expected.logProbs(), coarse.score(batch, TEMPERATURE, before).logProbs()));
                }
            }
        }
    }

    /** Adapters over frozen weights, too, of which only the rounded numbers are kept. */
    @Test
    void theMonitorEvaluatesAdaptersInF32() throws IOException {
        try (TorchPolicy coarse = Tiny.policy(folder, Tiny.qwen3(2), Tiny.settings("bf16", 1, 3, 8192), 5);
                TorchPolicy fine = Tiny.policy(folder, Tiny.qwen3(2), Tiny.settings("f32", 1, 3, 8192), 5)) {
            assertTrue(coarse.state.base.master == null);
            Tiny.write(fine.state.base, Tiny.floats(coarse.state.base.stored()));
            final Batch batch = Tiny.batch(coarse, 4, 12, 2);
            coarse.nudge(1e-3, 3);
            fine.nudge(1e-3, 3);
            assertArrayEquals(fine.score(batch, 1, null).logProbs(), coarse.score(batch, 1, null, Policy.Precision.F32).logProbs());
        }
    }

    @Test
    void aNudgeMovesEveryWeightAndIsTakenBack() throws IOException {
        try (TorchPolicy policy = policy(Tiny.qwen3(1), "f32"); Policy.Snapshot before = policy.snapshot()) {
            final float[] then = Tiny.floats(policy.state.weights.master);
            final long fingerprint = policy.fingerprint();
            policy.nudge(0.25, 9);
            final float[] now = Tiny.floats(policy.state.weights.master);
            int up = 0;
            for (int i = 0; i < now.length; i++) {
                assertEquals(0.25, Math.abs((double) now[i] - then[i]), 1e-6);
                up += now[i] > then[i] ? 1 : 0;
            }
            assertEquals(0.5, (double) up / now.length, 0.02);
            assertEquals(-1, policy.version());
            policy.restore(before);
            assertEquals(fingerprint, policy.fingerprint());
            assertEquals(0, policy.version());
            policy.nudge(0.25, 9);
            assertArrayEquals(now, Tiny.floats(policy.state.weights.master), "the same seed, the same way");
            policy.restore(before);
            policy.nudge(0.25, 10);
            assertFalse(Arrays.equals(now, Tiny.floats(policy.state.weights.master)));
        }
    }

    /**
     * A step of 1e-8 that any number format but f32 drowns in its own rounding. In f32 the KL is the step's: a hundred times as
     * long, ten thousand times as large. Otherwise it is what it is for no step at all, and each three bits divide it by 64.
     */
    @Test
    void theFloorOfADeepModel() throws IOException {
        final ModelConfig deep = ModelConfig.qwen3(Tiny.VOCAB, 32, 48, 28, 4, 2, 10, 96);
        final double bf16 = kl(deep, DType.BF16, Matmul.F32, 1e-8);
        final double f16 = kl(deep, DType.F16, Matmul.F32, 1e-8);
        final double tf32 = kl(deep, DType.F32, Matmul.TF32, 1e-8);
        final double f32 = kl(deep, DType.F32, Matmul.F32, 1e-6);
        System.out.printf(Locale.ROOT, "28 layers, KL of a step of 1e-8: bf16 %.2g, f16 %.2g, TF32 %.2g; f32, of 1e-6: %.2g%n", bf16, f16,
                tf32, f32);
        assertTrue(bf16 > 1e-5, "given " + bf16);
        assertTrue(bf16 / f16 > 20 && bf16 / f16 < 200, "given " + bf16 / f16);
        assertTrue(tf32 < f16 && tf32 > 1e2 * f32 / 1e4, "given " + tf32);
        assertTrue(f32 < 1e-3 * f16, "given " + f32);
        final double shallow = kl(Tiny.qwen3(2), DType.BF16, Matmul.F32, 1e-8);
        assertTrue(bf16 > 1.5 * shallow, "it grows with depth: " + shallow + " at 2 layers");
    }

    /** Mean exact KL of a token of a step in which every weight moves by so much. */
    private static double kl(ModelConfig config, DType dtype, Matmul matmul, double step) throws IOException {
        final SplittableRandom random = new SplittableRandom(8); // the same messages for all
        final List<Utterance> said = IntStream.range(0, 6).mapToObj(i -> new Utterance(random.ints(5, 2, Tiny.VOCAB).toArray(),
                random.ints(30, 2, Tiny.VOCAB).toArray(), new float[30], "", true, 0)).toList();
        final Batch batch = Batch.of(said, new float[6], new float[6]);
        try (TorchPolicy policy = policy(config, dtype, matmul); Policy.Snapshot before = policy.snapshot()) {
            policy.nudge(step, 1);
            double sum = 0;
            for (float kl : policy.score(batch, 1, before).kl()) {
                sum += kl / batch.tokens();
            }
            return sum;
        }
    }
}
