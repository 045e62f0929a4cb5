package org.teamtr.torch;

import java.io.IOException;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.function.UnaryOperator;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.global.torch;
import org.teamtr.chat.ChatEncoder;
import org.teamtr.chat.Tokenizer;
import org.teamtr.kernels.DType;
import org.teamtr.kernels.SurrogateConfig;
import org.teamtr.model.ModelConfig;
import org.teamtr.team.ChatTurn;
import org.teamtr.team.Generation;
import org.teamtr.team.Utterance;
import org.teamtr.train.Batch;
import org.teamtr.train.Config;
import org.teamtr.train.Matmul;
import org.teamtr.train.Policy;

/**
 * A policy on libtorch: a decoder with the sizes of {@code config.json}, its tokenizer, AdamW. Sampling, scoring and gradients use the
 * kernels; logits exist for only a chunk of rows at a time, and gradients are passed to the model by {@code hidden.backward(dHidden)}.
 *
 * <p>Logit columns beyond the tokenizer's vocabulary, with which models are padded, do not count: they are never sampled, belong to no
 * sum, and have gradient 0.
 *
 * <p><b>Bits.</b> On the CPU, the same calls give the same bits with the same number of threads. <b>Memory.</b> Native; bounded by
 * parameters, optimiser, snapshots and one micro-batch per thread, and freed by {@link #close()}.
 */
public final class TorchPolicy implements Policy {
    /**
     * How a policy computes.
     *
     * @param dtype the format of the weights that it computes with; the weights that are trained and the optimiser's state are f32
     * @param matmul the precision of f32 products
     * @param device cpu, cuda or cuda:N
     * @param threads of the CPU, 1 or more
     * @param lora rank 0 to train all weights; targets are the last parts of the names of linear layers
     * @param thinking the chat template's {@code enable_thinking}
     */
    public record Settings(DType dtype, Matmul matmul, String device, int threads, Config.Lora lora, boolean thinking, AdamWSettings adamW,
            AtOnce atOnce) {
        /** {@return all weights trained in f32 on a device, with the optimiser and micro-batches of the configuration's defaults} */
        public static Settings on(String device, int threads) {
            return new Settings(DType.F32, Matmul.F32, device, threads, new Config.Lora(0, 64, List.of()), false,
                    new AdamWSettings(0.9, 0.999, 1e-8, 0, 1), new AtOnce(16_384, 0));
        }

        /** {@return the same with other formats} */
        public Settings with(DType numbers, Matmul products) {
            return new Settings(numbers, products, device, threads, lora, thinking, adamW, atOnce);
        }

        /** {@return the same with adapters; with rank 0, without} */
        public Settings with(Config.Lora adapters) {
            return new Settings(dtype, matmul, device, threads, adapters, thinking, adamW, atOnce);
        }

        /** {@return the same with or without thinking} */
        public Settings withThinking(boolean thinks) {
            return new Settings(dtype, matmul, device, threads, lora, thinks, adamW, atOnce);
        }

        /** {@return the same with another optimiser} */
        public Settings with(AdamWSettings optimiser) {
            return new Settings(dtype, matmul, device, threads, lora, thinking, optimiser, atOnce);
        }

        /** {@return the same with other limits of what is computed at once} */
        public Settings with(AtOnce most) {
            return new Settings(dtype, matmul, device, threads, lora, thinking, adamW, most);
        }

        torch.ScalarType scalarType() {
            return switch (dtype) {
                case F32 -> torch.ScalarType.Float;
                case BF16 -> torch.ScalarType.BFloat16;
                case F16 -> torch.ScalarType.Half;
            };
        }
    }

    /**
     * How much is computed at once, which determines the memory that it needs.
     *
     * @param microBatchTokens the most prompt and message tokens of a micro-batch
     * @param rows the most messages that are generated at the same time, 0 for all
     * @param cudaGraphs whether the launches of a decoding step on CUDA are one graph; this has never run on a GPU
     * @param flashAttention whether the attention of all sequences of a micro-batch on CUDA is one call; this has never run on a GPU
     */
    public record AtOnce(int microBatchTokens, int rows, boolean cudaGraphs, boolean flashAttention) {
        /** Without graphs, and with one call of attention for the sequences of each length. */
        public AtOnce(int microBatchTokens, int rows) {
            this(microBatchTokens, rows, false, false);
        }
    }

    final ModelConfig config;
    final Settings settings;
    final Tokenizer tokenizer;
    final TrainingState state;
    private final ChatEncoder encoder;
    final ForwardPass forward;
    private final Sampler sampler;
    private final Scorer scorer;
    private final Gradients gradients;
    /** The folder from which the model was read, as the caller gave it; null if its weights are in no file. */
    private final String folder;
    private final List<String> notes;

    /** The policy owns the tokenizer. Its weights are zeros until they are set. */
    TorchPolicy(ModelConfig config, Tokenizer tokenizer, Settings settings) {
        this(config, tokenizer, settings, new TeamMemory(false), null, null, List.of());
    }

    /**
     * @param base frozen weights below adapters, which the policy then owns; null to make them, if there are adapters
     * @param folder the folder from which the model was read; null if its weights are in no file
     * @param notes what a user should know about the model's files
     */
    TorchPolicy(ModelConfig config, Tokenizer tokenizer, Settings settings, TeamMemory memory, Weights base, String folder,
            List<String> notes) {
        Libtorch.load();
        final String missing = Libtorch.missing(settings.device());
        if (missing != null) {
            throw new IllegalArgumentException("settings.device: " + missing);
        }
        this.config = config;
        this.settings = settings;
        this.tokenizer = tokenizer;
        this.encoder = new ChatEncoder(tokenizer, settings.thinking());
        this.folder = folder;
        this.notes = List.copyOf(notes);
        try (PointerScope scope = new PointerScope()) {
            final Layout layout = Layout.of(config);
            final Layout trained = settings.lora().rank() > 0 ? Layout.lora(layout, settings.lora().rank(), settings.lora().targets())
                    : layout; // throws first
            this.forward = new ForwardPass(config, settings, Math.min(config.embedding().vocab(), tokenizer.vocab()), memory);
            this.state = new TrainingState(config, settings, trained, forward.device, memory, forward.workers, base);
        }
        this.sampler = new Sampler(forward, state, settings, tokenizer);
        this.scorer = new Scorer(forward, state);
        this.gradients = new Gradients(forward, state, scorer);
    }

    /** {@return a model with random weights} The policy owns the tokenizer. */
    public static TorchPolicy random(ModelConfig config, Tokenizer tokenizer, Settings settings, long seed) {
        final TorchPolicy policy = new TorchPolicy(config, tokenizer, settings);
        if (policy.state.base != null) {
            policy.state.base.random(seed);
        }
        policy.state.weights.random(seed);
        return policy;
    }

    /** {@return a model of the sizes and with the tokenizer of a folder, but with random weights} The folder needs no weights. */
    public static TorchPolicy random(Path folder, Settings settings, long seed) throws IOException {
        return random(folder, settings, seed, new TeamMemory(false));
    }

    /** The same, sharing memory with other policies: adapters of one folder and seed have the same random weights below them. */
    public static TorchPolicy random(Path folder, Settings settings, long seed, TeamMemory memory) throws IOException {
        return PolicyFiles.random(folder, settings, seed, memory);
    }

    /**
     * Loads a model in the Hugging Face layout: {@code config.json}, {@code tokenizer.json}, {@code model.safetensors} or its shards.
     *
     * @throws IOException if a file is missing, wrong, or of a model that this decoder does not support; the message names the file
     */
    public static TorchPolicy load(Path folder, Settings settings) throws IOException {
        return load(folder, settings, new TeamMemory(false));
    }

    /** The same, sharing memory with other policies: adapters over the same folder share its weights. */
    public static TorchPolicy load(Path folder, Settings settings, TeamMemory memory) throws IOException {
        return PolicyFiles.load(folder, settings, memory);
    }

    /**
     * {@return what a user should know about the model's files, a sentence each; empty if there is nothing unusual}
     */
    public List<String> notes() {
        return notes;
    }

    /** {@return the number of parameters} */
    public long parameters() {
        return state.weights.layout.length() + (state.base == null ? 0 : state.base.layout.length());
    }

    /** {@return the number of parameters that are trained} */
    public long trained() {
        return state.weights.layout.length();
    }

    /** {@return the numbers of trained and of frozen parameters of a policy of these sizes} */
    public static long[] parameters(ModelConfig config, Settings settings) {
        final Layout layout = Layout.of(config);
        return settings.lora().rank() == 0 ? new long[] {layout.length(), 0}
                : new long[] {Layout.lora(layout, settings.lora().rank(), settings.lora().targets()).length(), layout.length()};
    }

    /** {@return the number of micro-batches of such a policy that are computed at once} */
    public static int micros(ModelConfig config, Settings settings) {
        return Workers.count(Layout.of(config).length(), settings.threads());
    }

    // ---- generating ----

    @Override
    public int[] encode(List<ChatTurn> turns) {
        return encode(turns, List.of());
    }

    @Override
    public int[] encode(List<ChatTurn> turns, List<Map<String, Object>> tools) {
        return encoder.encode(turns, tools);
    }

    @Override
    public int[] encodeMessage(String text) {
        final int[] ends = tokenizer.endTokens();
        if (ends.length == 0) {
            throw new IllegalStateException("the tokenizer has no token that ends a message: expected an eos_token in its files");
        }
        final int[] tokens = tokenizer.encode(text);
        final int[] message = Arrays.copyOf(tokens, tokens.length + 1);
        message[tokens.length] = ends[0];
        return message;
    }

    @Override
    public int contextLength() {
        return config.rope().positions();
    }

    @Override
    public String device() {
        return settings.device().equals("cuda") ? "cuda:0" : settings.device();
    }

    @Override
    public int atOnce() {
        return settings.atOnce().rows();
    }

    @Override
    public void ready() {
        state.ready();
    }

    @Override
    public List<Utterance> generate(List<int[]> prompts, Generation generation, long seed, long[] rowIds) {
        return sampler.generate(prompts, generation, seed, rowIds);
    }

    // ---- scoring ----

    @Override
    public boolean computesIn(Precision precision) {
        return forward.computesIn(precision);
    }

    @Override
    public boolean hasFrozenWeights() {
        return state.base != null;
    }

    @Override
    public Scores score(Batch batch, double temperature, Snapshot anchor) {
        return score(batch, temperature, anchor, Precision.SAME);
    }

    @Override
    public Scores score(Batch batch, double temperature, Snapshot anchor, Precision precision) {
        return scorer.score(batch, temperature, anchor, precision);
    }

    @Override
    public double[] logitShift(Batch batch, Snapshot anchor) {
        return scorer.logitShift(batch, anchor);
    }

    /** {@return whether another policy has the same token ids; otherwise no KL per token is defined} */
    public boolean sameTokens(TorchPolicy other) {
        return forward.vocab == other.forward.vocab && tokenizer.sameTokens(other.tokenizer);
    }

    // ---- learning ----

    @Override
    public Gradient gradient(Batch batch, double temperature, SurrogateConfig loss, Snapshot anchor) {
        return gradients.surrogate(batch, temperature, loss, anchor);
    }

    @Override
    public double imitate(List<Utterance> messages) {
        return gradients.likelihood(messages);
    }

    @Override
    public double step(double learningRate) {
        return state.step(learningRate);
    }

    @Override
    public long version() {
        return state.version();
    }

    /** Resets the optimiser's state, and counts versions from 0 again. */
    public void startOver() {
        state.startOver();
    }

    // ---- snapshots ----

    @Override
    public Snapshot snapshot() {
        return state.snapshot(forward, true);
    }

    @Override
    public Snapshot anchor() {
        return state.snapshot(forward, false);
    }

    /**
     * {@return an anchor that always has this policy's parameters, from which another policy can measure its exact KL} The other policy may be
     * of any size but must have {@link #sameTokens}. Closing the anchor frees what was kept of a batch, not this policy, which must be open
     * while the anchor is used.
     *
     * @param prompted gives, for each message of the other policy's batches, the same tokens after the prompt that this policy is given
     */
    public Snapshot anchor(UnaryOperator<Utterance> prompted) {
        return new Anchor(forward, state, state.weights, prompted);
    }

    @Override
    public void restore(Snapshot snapshot) {
        state.restore(snapshot);
    }

    @Override
    public void shorten(Snapshot snapshot, double share) {
        state.shorten(snapshot, share);
    }

    @Override
    public void nudge(double size, long seed) {
        state.nudge(size, seed);
    }

    @Override
    public long fingerprint() {
        return state.fingerprint();
    }

    // ---- files ----

    /**
     * Writes the model in the Hugging Face layout, or, where only adapters are trained, the adapters in that of PEFT; and the
     * optimiser's state.
     */
    @Override
    public void save(Path into) throws IOException {
        PolicyFiles.save(this, into, folder);
    }

    @Override
    public void sendParts() {
        if (state.shard != null) {
            state.frozenChecksum();
            ModelFiles.sendParts(state);
            fingerprint();
        }
    }

    @Override
    public void load(Path from) throws IOException {
        PolicyFiles.read(this, from);
    }

    @Override
    public void close() {
        state.close();
        forward.close();
        tokenizer.close();
    }
}
