package org.teamtr.torch;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.stream.IntStream;
import org.bytedeco.javacpp.FloatPointer;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.NoGradGuard;
import org.bytedeco.pytorch.Tensor;
import org.teamtr.chat.Tokenizer;
import org.teamtr.kernels.DType;
import org.teamtr.kernels.SamplingConfig;
import org.teamtr.model.ModelConfig;
import org.teamtr.model.ModelConfig.Attention;
import org.teamtr.model.ModelConfig.Embedding;
import org.teamtr.model.ModelConfig.FeedForward;
import org.teamtr.model.ModelConfig.Rope;
import org.teamtr.model.RopeScaling;
import org.teamtr.team.Generation;
import org.teamtr.team.Truncation;
import org.teamtr.team.Utterance;
import org.teamtr.train.Batch;
import org.teamtr.train.Config;
import org.teamtr.train.Matmul;

/** Models that take no time, and a tokenizer of characters for them. */
public final class Tiny {
    /** Tokens of {@link #tokenizer}. */
    static final int VOCAB = 40;
    static final int END = 1;

    private Tiny() {
    }

    public static ModelConfig qwen3(int layers) {
        return ModelConfig.qwen3(VOCAB, 32, 48, layers, 4, 2, 10, 96);
    }

    public static ModelConfig qwen2(int layers) {
        return new ModelConfig("qwen2", new Embedding(VOCAB, true), 24, layers, new Attention(6, 2, 4, true, false, false, null),
                new FeedForward(40, false), new Rope(96, 1e4, null), 1e-5);
    }

    /** The scaling changes all of its frequencies but the first, on all three branches. */
    public static ModelConfig llama(int layers) {
        return llama(layers, new RopeScaling.Llama3(8, 1, 4, 32));
    }

    static ModelConfig llama(int layers, RopeScaling scaling) {
        return new ModelConfig("llama", new Embedding(VOCAB, false), 32, layers, new Attention(4, 4, 8, true, true, false, null),
                new FeedForward(56, true), new Rope(96, 500, scaling), 1e-5);
    }

    /** A window of three tokens in all layers. */
    public static ModelConfig mistral(int layers) {
        return new ModelConfig("mistral", new Embedding(VOCAB, false), 32, layers,
                new Attention(4, 2, 8, false, false, false, new ModelConfig.Window(3, Collections.nCopies(layers, true))),
                new FeedForward(48, false), new Rope(96, 1e4, null), 1e-5);
    }

    /** A window of five tokens in every second layer. */
    public static ModelConfig sliding(int layers) {
        final ModelConfig.Window window = new ModelConfig.Window(5, IntStream.range(0, layers).mapToObj(i -> i % 2 == 0).toList());
        return new ModelConfig("qwen3", new Embedding(VOCAB, true), 32, layers, new Attention(4, 2, 10, false, false, true, window),
                new FeedForward(48, false), new Rope(96, 1e6, null), 1e-6);
    }

    /** Frequencies that stay, go over and are stretched. */
    public static ModelConfig yarn(boolean truncate) {
        return new ModelConfig("qwen3", new Embedding(VOCAB, true), 32, 2, new Attention(4, 2, 16, false, false, true, null),
                new FeedForward(48, false), new Rope(96, 1e4, new RopeScaling.Yarn(4, 24, 1.2, 2, 0.5, truncate)), 1e-6);
    }

    /** {@return a folder with a random model of two layers in it, made by the first call} */
    static Path saved(Path folder) throws IOException {
        final Path model = folder.resolve("model");
        if (!Files.exists(model)) {
            Files.createDirectories(model);
            try (TorchPolicy policy = policy(folder, qwen3(2), settings(), 5)) {
                policy.save(model);
            }
        }
        return model;
    }

    static TorchPolicy.Settings settings() {
        return settings("f32", 1, 0, 8192);
    }

    static TorchPolicy.Settings settings(String dtype, int threads, int loraRank, int microBatchTokens) {
        return settings(dtype, threads, loraRank, microBatchTokens,
                List.of("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"));
    }

    static TorchPolicy.Settings lora(int rank, String... targets) {
        return settings("f32", 1, rank, 8192, List.of(targets));
    }

    private static TorchPolicy.Settings settings(String dtype, int threads, int loraRank, int microBatchTokens, List<String> targets) {
        return TorchPolicy.Settings.on("cpu", threads)
                .with(DType.valueOf(dtype.toUpperCase(Locale.ROOT)), Matmul.F32)
                .with(new Config.Lora(loraRank, 2 * loraRank, targets))
                .with(new AdamWSettings(0.9, 0.999, 1e-8, 0.01, 1))
                .with(new TorchPolicy.AtOnce(microBatchTokens, 0));
    }

    static Tokenizer tokenizer(Path folder) throws IOException {
        Tokenizer.writeCharacters(folder, "abcdefghijklmnopqrstuvwxyz .0123456789", List.of("<pad>", "<end>"), "<pad>", "<end>");
        return Tokenizer.open(folder);
    }

    static TorchPolicy policy(Path folder, ModelConfig config, TorchPolicy.Settings settings, long seed) throws IOException {
        final TorchPolicy policy = TorchPolicy.random(config, tokenizer(folder), settings, seed);
        scramble(policy.state.base == null ? policy.state.weights : policy.state.base, seed);
        return policy;
    }

    /** Random numbers for everything, norms and biases too, so that leaving one out shows. */
    static void scramble(Weights weights, long seed) {
        final SplittableRandom random = new SplittableRandom(seed);
        final float[] values = new float[(int) weights.layout.length()];
        weights.layout.parts.forEach((name, part) -> {
            for (long i = part.offset(); i < part.offset() + part.length(); i++) {
                final double g = random.nextGaussian();
                values[(int) i] = (float) (name.endsWith("norm.weight") ? 1 + 0.3 * g : name.endsWith(".bias") ? 0.3 * g
                        : name.startsWith("model.embed") || name.startsWith("lm_head") ? 0.3 * g
                        : g / Math.sqrt(part.shape()[1]));
            }
        });
        write(weights, values);
    }

    static void write(Weights weights, float[] values) {
        try (NoGradGuard guard = new NoGradGuard(); PointerScope scope = new PointerScope()) {
            weights.stored().copy_(Tensor.create(values, values.length));
        }
        weights.refresh();
    }

    static float[] floats(Tensor tensor) {
        try (PointerScope scope = new PointerScope()) {
            final Tensor flat = tensor.detach().to(org.bytedeco.pytorch.global.torch.ScalarType.Float).contiguous();
            final float[] values = new float[(int) flat.numel()];
            new FloatPointer(flat.data_ptr_float()).get(values);
            return values;
        }
    }

    /** What the decoder computes with, by name. */
    static Map<String, double[]> doubles(Weights weights) {
        final Map<String, double[]> map = new LinkedHashMap<>();
        weights.compute().forEach((name, tensor) -> {
            final float[] values = floats(tensor);
            final double[] wide = new double[values.length];
            for (int i = 0; i < wide.length; i++) {
                wide[i] = values[i];
            }
            map.put(name, wide);
        });
        return map;
    }

    static Generation generation(double temperature, int maxNewTokens) {
        return new Generation(temperature, SamplingConfig.ALL, maxNewTokens, Truncation.ERROR);
    }

    /** Prompts of lengths from 1 to 12, all of letters. */
    static List<int[]> prompts(int n, long seed) {
        final SplittableRandom random = new SplittableRandom(seed);
        final List<int[]> prompts = new ArrayList<>();
        for (int i = 0; i < n; i++) {
            prompts.add(random.ints(random.nextInt(1, 13), 2, VOCAB).toArray());
        }
        return prompts;
    }

    static long[] ids(int n) {
        final long[] ids = new long[n];
        for (int i = 0; i < n; i++) {
            ids[i] = 1000 + 7 * i;
        }
        return ids;
    }

    /** Messages of a policy, with advantages of both signs. */
    static Batch batch(TorchPolicy policy, int n, int maxNewTokens, long seed) {
        return batch(policy.generate(prompts(n, seed), generation(0.8, maxNewTokens), seed, ids(n)));
    }

    /** Messages in groups with one prompt each, of which two are of one length. */
    static Batch groups(TorchPolicy policy, int groups, int each, int maxNewTokens, long seed) {
        final List<int[]> prompts = new ArrayList<>(prompts(groups - 1, seed));
        prompts.add(prompts.get(0).clone());
        prompts.get(0)[0] = prompts.get(0)[0] == 2 ? 3 : 2;
        final List<int[]> all = IntStream.range(0, groups * each).mapToObj(m -> prompts.get(m / each)).toList();
        return batch(policy.generate(all, generation(0.8, maxNewTokens), seed, ids(all.size())));
    }

    static Batch batch(List<Utterance> messages) {
        final float[] advantages = new float[messages.size()];
        for (int i = 0; i < advantages.length; i++) {
            advantages[i] = (i % 2 == 0 ? 1 : -1) * (0.5f + 0.25f * i);
        }
        return Batch.of(messages, advantages, advantages.clone());
    }
}
