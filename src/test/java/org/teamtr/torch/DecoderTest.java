package org.teamtr.torch;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.SplittableRandom;
import java.util.function.IntFunction;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Device;
import org.bytedeco.pytorch.NoGradGuard;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch.ScalarType;
import org.junit.jupiter.api.Test;
import org.teamtr.model.ModelConfig;
import org.teamtr.model.RopeScaling;

/** The decoder against {@link DecoderReference}. */
class DecoderTest {
    private static final int LENGTH = 24;

    private static void agree(ModelConfig config, long seed) {
        try (NoGradGuard guard = new NoGradGuard(); PointerScope scope = new PointerScope(); Device cpu = new Device("cpu");
                Decoder decoder = new Decoder(config, ScalarType.Float, cpu, 0);
                Weights weights = new Weights(Layout.of(config), ScalarType.Float, cpu, cpu, true)) {
            Tiny.scramble(weights, seed);
            final int[] ids = new SplittableRandom(seed).ints(2 * LENGTH, 0, config.embedding().vocab()).toArray();
            final Tensor tensor = Tensor.create(Arrays.stream(ids).asLongStream().toArray(), 2, LENGTH);
            final Tensor hidden = decoder.hidden(weights.compute(), tensor, null, null, null);
            final float[] given = Tiny.floats(decoder.logits(weights.compute(), hidden.view(2 * LENGTH, config.hidden())));
            final DecoderReference reference = new DecoderReference(config, Tiny.doubles(weights));
            double worst = 0;
            for (int b = 0; b < 2; b++) {
                final double[][] expected = reference.logits(Arrays.copyOfRange(ids, b * LENGTH, (b + 1) * LENGTH));
                for (int p = 0; p < LENGTH; p++) {
                    final double largest = Arrays.stream(expected[p]).map(Math::abs).max().orElseThrow();
                    assertTrue(largest > 0.1, "logits that say something");
                    for (int v = 0; v < config.embedding().vocab(); v++) {
                        final double error = Math.abs(given[((b * LENGTH) + p) * config.embedding().vocab() + v] - expected[p][v]) / largest;
                        assertTrue(error <= 1e-5, "row " + b + ", position " + p + ", column " + v + ": off by " + error);
                        worst = Math.max(worst, error);
                    }
                }
            }
            System.out.printf("%s, %d layers: logits differ by at most %.1e of the row's largest%n", config.modelType(),
                    config.layers(), worst);
        }
    }

    private static void everyDepth(IntFunction<ModelConfig> config) {
        for (int layers = 1; layers <= 3; layers++) {
            agree(config.apply(layers), 10 + layers);
        }
    }

    @Test
    void qwen3() {
        everyDepth(Tiny::qwen3);
    }

    @Test
    void qwen2() {
        everyDepth(Tiny::qwen2);
    }

    @Test
    void llama() {
        everyDepth(Tiny::llama);
    }

    @Test
    void mistralWithAWindowInAllLayers() {
        everyDepth(Tiny::mistral);
    }

    /** Every second layer sees the last five tokens alone. */
    @Test
    void windowInSomeLayers() {
        everyDepth(Tiny::sliding);
    }

    @Test
    void yarn() {
        agree(Tiny.yarn(true), 4);
        agree(Tiny.yarn(false), 5);
    }

    /** Within max_position_embeddings, dynamic scaling is none. */
    @Test
    void dynamicScaling() {
        final ModelConfig dynamic = Tiny.llama(2, new RopeScaling.Dynamic(4));
        agree(dynamic, 6);
        assertEquals(1, dynamic.rope().frequencies(8)[0]);
    }

    /** Rotary tables grow with the texts, and do not change by it. */
    @Test
    void positionsBeyondTheFirstTable() {
        final ModelConfig config = ModelConfig.qwen3(40, 32, 48, 1, 4, 2, 10, 1 << 30);
        try (NoGradGuard guard = new NoGradGuard(); PointerScope scope = new PointerScope(); Device cpu = new Device("cpu");
                Decoder decoder = new Decoder(config, ScalarType.Float, cpu, 0);
                Weights weights = new Weights(Layout.of(config), ScalarType.Float, cpu, cpu, true)) {
            Tiny.scramble(weights, 1);
            final long[] ids = new SplittableRandom(1).longs(300, 0, 40).toArray();
            for (int length : new int[] {1, 7, 8, 100, 300}) {
                final Tensor tensor = Tensor.create(Arrays.copyOf(ids, length), 1, length);
                final float[] grown = Tiny.floats(decoder.hidden(weights.compute(), tensor, null, null, null));
                try (Decoder fresh = new Decoder(config, ScalarType.Float, cpu, 0)) {
                    assertArrayEquals(Tiny.floats(fresh.hidden(weights.compute(), tensor, null, null, null)), grown, "length " + length);
                }
            }
        }
    }

    @Test
    void linearScalingAndOneHeadOfKeys() {
        agree(new ModelConfig("llama", new ModelConfig.Embedding(40, true), 20, 2,
                new ModelConfig.Attention(5, 1, 6, false, false, false, null), new ModelConfig.FeedForward(30, false),
                new ModelConfig.Rope(64, 1e4, new RopeScaling.Linear(4)), 1e-6), 3);
    }

    /** A frequency on each branch: untouched, in between, stretched. */
    @Test
    void llama3ScalingIsSeen() {
        final ModelConfig scaled = Tiny.llama(1);
        final double[] f = scaled.rope().frequencies(8);
        final double[] plain = {1, Math.pow(500, -0.25), Math.pow(500, -0.5), Math.pow(500, -0.75)};
        assertEquals(plain[0], f[0], 1e-12);
        assertTrue(f[1] < 0.99 * plain[1] && f[1] > 1.01 * plain[1] / 8, "in between: " + f[1] + " of " + plain[1]);
        assertEquals(plain[2] / 8, f[2], 1e-12);
        assertEquals(plain[3] / 8, f[3], 1e-12);
    }
}
