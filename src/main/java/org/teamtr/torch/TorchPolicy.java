package org.teamtr.torch;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.EnumMap;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.Callable;
import java.util.function.UnaryOperator;
import java.util.zip.CRC32;
import java.util.zip.CRC32C;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.BoolOptional;
import org.bytedeco.pytorch.Device;
import org.bytedeco.pytorch.NoGradGuard;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorArrayRefOptional;
import org.bytedeco.pytorch.global.torch;
import org.teamtr.chat.ChatEncoder;
import org.teamtr.chat.Tokenizer;
import org.teamtr.kernels.DType;
import org.teamtr.kernels.Floats;
import org.teamtr.kernels.Indices;
import org.teamtr.kernels.Surrogate;
import org.teamtr.kernels.SurrogateConfig;
import org.teamtr.kernels.SurrogateStats;
import org.teamtr.model.ModelConfig;
import org.teamtr.team.ChatTurn;
import org.teamtr.team.Generation;
import org.teamtr.team.Utterance;
import org.teamtr.train.Batch;
import org.teamtr.train.Diagnostics;
import org.teamtr.train.Matmul;
import org.teamtr.train.Policy;

/**
 * A policy on libtorch: a decoder sized by {@code config.json}, its tokenizer, AdamW. Sampling, scoring and gradients go through the
 * kernels; logits are never there but for a chunk of rows, and the gradient reaches the model by {@code hidden.backward(dHidden)}.
 *
 * <p>Logit columns beyond the tokenizer's vocabulary, with which models are padded, do not count: never sampled, no part of any
 * sum, gradient 0.
 *
 * <p><b>Bits.</b> On the CPU, the same calls give the same bits at the same number of threads. <b>Memory.</b> Native; bounded by
 * parameters, optimiser, snapshots and one micro-batch per thread, and freed by {@link #close()}.
 */
public final class TorchPolicy implements Policy {
    /**
     * How a policy computes.
     *
     * @param dtype of the weights it computes with; what is trained and the optimiser are f32
     * @param matmul of products of f32 numbers
     * @param device cpu, cuda or cuda:N
     * @param threads of the CPU, 1 or more
     * @param loraRank 0 to train all weights
     * @param loraAlpha the adapters count alpha / rank
     * @param loraTargets last parts of the names of the linear layers that get an adapter
     * @param thinking the chat template's {@code enable_thinking}
     * @param microBatchTokens prompt and message tokens, padding included, that are computed at once
     * @param rows messages that are generated at once, 0 for all
     */
    public record Settings(DType dtype, Matmul matmul, String device, int threads, int loraRank, double loraAlpha, List<String> loraTargets,
            boolean thinking, double beta1, double beta2, double eps, double weightDecay, double maxGradNorm, int microBatchTokens,
            int rows) {
        torch.ScalarType scalarType() {
            return switch (dtype) {
                case F32 -> torch.ScalarType.Float;
                case BF16 -> torch.ScalarType.BFloat16;
                case F16 -> torch.ScalarType.Half;
            };
        }
    }

    private static final String LOAD = "load";

    final ModelConfig config;
    final Settings settings;
    final Tokenizer tokenizer;
    private final ChatEncoder encoder;
    /** Where the model was read, as the caller gave it; null if its weights are in no file. */
    private String folder;
    private List<String> notes = List.of();
    private final Device device;
    private final Decoder decoder;
    /** Those that the monitor had evaluate the f32 weights so far. */
    private final Map<Precision, Decoder> finer = new EnumMap<>(Precision.class);
    private final Workers workers;
    /** Logit columns that count. */
    private final int vocab;
    /** Frozen weights below the adapters; null if all weights are trained. */
    final Weights base;
    /** What is trained. */
    final Weights weights;
    final AdamW optimiser;
    /** What of the optimiser's state, and of f32 weights beside others, is here; null for all. */
    private final Shard shard;
    /** Null while the policy does not learn. */
    Tensor gradient;
    private final TeamMemory memory;
    /** Where the f32 weights and the optimiser's moments are while the policy does not learn, and snapshots. */
    private final Device home;
    /** Of f16; null where gradients need none. */
    final LossScale lossScale;
    private boolean hasGradient;
    private long version;
    private long versions; // ever given out

    /** Takes the tokenizer over; weights are zeros until somebody sets them. */
    TorchPolicy(ModelConfig config, Tokenizer tokenizer, Settings settings) {
        this(config, tokenizer, settings, new TeamMemory(false), null);
    }

    /** @param base frozen weights for adapters to go over, which it takes over; null to make them, if there are to be adapters */
    private TorchPolicy(ModelConfig config, Tokenizer tokenizer, Settings settings, TeamMemory memory, Weights base) {
        Libtorch.load();
        this.config = config;
        this.settings = settings;
        this.tokenizer = tokenizer;
        this.encoder = new ChatEncoder(tokenizer, settings.thinking());
        this.vocab = Math.min(config.vocab(), tokenizer.vocab());
        this.memory = memory;
        final boolean lora = settings.loraRank() > 0;
        try (PointerScope scope = new PointerScope()) {
            final Layout layout = Layout.of(config);
            final Layout trained = lora ? Layout.lora(layout, settings.loraRank(), settings.loraTargets()) : layout; // throws first
            this.device = Decoder.kept(device(settings));
            this.home = Decoder.kept(memory.offload() && device.is_cuda() ? new Device("cpu") : device(settings));
            this.decoder = decoder(settings.scalarType(), settings.dtype() == DType.F32 && settings.matmul() == Matmul.TF32);
            this.lossScale = settings.dtype() == DType.F16 ? new LossScale() : null;
            this.workers = new Workers(layout.length(), settings.threads());
            workers.use();
            this.base = !lora ? null : base != null ? base : frozen(config, settings);
            this.shard = memory.shard(trained.length());
            this.weights = new Weights(trained, settings.scalarType(), device, home, true, shard);
            this.optimiser = new AdamW(new AdamW.Settings(settings.beta1(), settings.beta2(), settings.eps(), settings.weightDecay(),
                    settings.maxGradNorm()), shard == null ? trained.length() : shard.length, home);
        }
    }

    /** With its number, as tensors that are there have it. */
    private static Device device(Settings settings) {
        return new Device(settings.device().equals("cuda") ? "cuda:0" : settings.device());
    }

    private static Weights frozen(ModelConfig config, Settings settings) {
        try (Device device = device(settings)) {
            return new Weights(Layout.of(config), settings.scalarType(), Decoder.kept(device), device, false);
        }
    }

    /** Makes room for learning. */
    void arrive() {
        weights.moveMaster(device);
        optimiser.move(device);
        gradient = Weights.zeros(weights.layout.length(), device);
    }

    /** Leaves that room, unless there is a gradient that waits for its step. {@return whether it did} */
    boolean depart() {
        if (hasGradient) {
            return false;
        }
        gradient.close();
        gradient = null;
        optimiser.move(home);
        weights.moveMaster(home);
        return true;
    }

    private Decoder decoder(torch.ScalarType dtype, boolean tf32) {
        return new Decoder(config, dtype, device, loraScale(), tf32);
    }

    private double loraScale() {
        return settings.loraRank() > 0 ? settings.loraAlpha() / settings.loraRank() : 0;
    }

    /** {@return a model with random weights} The tokenizer is the policy's from here on. */
    public static TorchPolicy random(ModelConfig config, Tokenizer tokenizer, Settings settings, long seed) {
        final TorchPolicy policy = new TorchPolicy(config, tokenizer, settings);
        if (policy.base != null) {
            policy.base.random(seed);
        }
        policy.weights.random(seed);
        return policy;
    }

    /** {@return a model of the sizes and with the tokenizer of a folder, but with random weights} The folder needs none. */
    public static TorchPolicy random(Path folder, Settings settings, long seed) throws IOException {
        return random(folder, settings, seed, new TeamMemory(false));
    }

    /** The same, with what it can share with others. Of one folder and seed, adapters go over the same random weights. */
    public static TorchPolicy random(Path folder, Settings settings, long seed, TeamMemory memory) throws IOException {
        return open(folder, settings, memory, "random " + seed, (config, weights) -> weights.random(seed), seed);
    }

    /**
     * {@return what a user should know of how the model's files were taken, a sentence each; empty if they are as they are meant to be}
     */
    public List<String> notes() {
        return notes;
    }

    /** {@return the number of parameters} */
    public long parameters() {
        return weights.layout.length() + (base == null ? 0 : base.layout.length());
    }

    /** {@return the number of parameters that are trained} */
    public long trained() {
        return weights.layout.length();
    }

    /** {@return how many parameters a policy of these sizes has} First those that are trained, then those that are frozen. */
    public static long[] parameters(ModelConfig config, Settings settings) {
        final Layout layout = Layout.of(config);
        return settings.loraRank() == 0 ? new long[] {layout.length(), 0}
                : new long[] {Layout.lora(layout, settings.loraRank(), settings.loraTargets()).length(), layout.length()};
    }

    /** {@return how many micro-batches of such a policy are computed at once} */
    public static int micros(ModelConfig config, Settings settings) {
        return Workers.count(Layout.of(config).length(), settings.threads());
    }

    /** Forgets what the optimiser has gathered, and counts versions from 0 again. */
    public void startOver() {
        optimiser.clear();
        if (lossScale != null) {
            lossScale.clear();
        }
        version = 0;
        versions = 0;
        hasGradient = false;
    }

    // ---- speaking ----

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
        return config.positions();
    }

    @Override
    public long version() {
        return version;
    }

    @Override
    public List<Utterance> generate(List<int[]> prompts, Generation generation, long seed, long[] rowIds) {
        if (rowIds.length != prompts.size()) {
            throw new IllegalArgumentException("rowIds: expected " + prompts.size() + ", one per prompt, given " + rowIds.length);
        }
        final int room = config.positions() - generation.maxNewTokens();
        for (int i = 0; i < prompts.size(); i++) {
            final int length = prompts.get(i).length;
            if (length < 1 || length > room) {
                throw new IllegalArgumentException("prompts[" + i + "]: expected 1 to " + room + " tokens, which leave room for "
                        + generation.maxNewTokens() + " of the context's " + config.positions() + ", given " + length);
            }
            checkIds("prompts[" + i + "]", prompts.get(i), config.vocab());
        }
        if (prompts.isEmpty()) {
            return List.of();
        }
        memory.rest();
        final Generator generator = new Generator(config, used(Precision.SAME), loraScale(), all(weights.compute()), settings.scalarType(),
                device, vocab, tokenizer.endTokens(), settings.microBatchTokens());
        final int parts = Math.min(workers.count(), prompts.size());
        final int atOnce = settings.rows() == 0 ? prompts.size() : Math.max(1, settings.rows() / parts);
        final List<Callable<List<Generator.Row>>> tasks = new ArrayList<>(parts);
        for (int part = 0; part < parts; part++) {
            final int from = (int) ((long) prompts.size() * part / parts);
            final int to = (int) ((long) prompts.size() * (part + 1) / parts);
            tasks.add(() -> generator.generate(prompts.subList(from, to), generation, seed, Arrays.copyOfRange(rowIds, from, to), atOnce));
        }
        final List<Utterance> utterances = new ArrayList<>(prompts.size());
        workers.run(OutOfMemory.GENERATING, tasks, rows -> {
            for (Generator.Row row : rows) {
                final int[] tokens = Arrays.copyOf(row.tokens, row.length);
                utterances.add(new Utterance(prompts.get(utterances.size()), tokens, Arrays.copyOf(row.logProbs, row.length),
                        tokenizer.decode(tokens), row.ended, version));
            }
        });
        return utterances;
    }

    private static void checkIds(String name, int[] tokens, int vocab) {
        for (int token : tokens) {
            if (token < 0 || token >= vocab) {
                throw new IllegalArgumentException(name + ": expected tokens from 0 to " + (vocab - 1) + ", given " + token);
            }
        }
    }

    /** The trained weights, over the frozen ones where there are such. */
    private Map<String, Tensor> all(Map<String, Tensor> trained) {
        return over(base == null ? null : base.compute(), trained);
    }

    /** What is evaluated in a precision. */
    private Map<String, Tensor> all(Weights trained, Precision precision) {
        return precision == Precision.SAME ? all(trained.compute()) : over(base == null ? null : base.masters(), trained.masters());
    }

    private static Map<String, Tensor> over(Map<String, Tensor> frozen, Map<String, Tensor> trained) {
        if (frozen == null) {
            return trained;
        }
        return new Lookup(name -> {
            final Tensor own = trained.get(name);
            return own != null ? own : frozen.get(name);
        });
    }

    @Override
    public boolean computesIn(Precision precision) {
        return switch (precision) {
            case SAME -> true;
            case F32 -> settings.dtype() == DType.F32 && settings.matmul() == Matmul.F32;
            case TF32 -> settings.dtype() == DType.F32 && settings.matmul() == Matmul.TF32;
        };
    }

    /** Sets what libtorch keeps for the whole process. */
    private Decoder used(Precision precision) {
        final Decoder used = computesIn(precision) ? decoder
                : finer.computeIfAbsent(precision, p -> decoder(torch.ScalarType.Float, p == Precision.TF32));
        if (device.is_cuda()) {
            Tf32.use(precision == Precision.SAME ? settings.matmul() == Matmul.TF32 : precision == Precision.TF32);
        }
        return used;
    }

    // ---- learning ----

    private List<MicroBatch> split(List<Utterance> messages) {
        for (int m = 0; m < messages.size(); m++) {
            check("messages[" + m + "]", messages.get(m));
        }
        return MicroBatch.split(messages, settings.microBatchTokens(), workers.count() * (memory.ranks == null ? 1 : memory.ranks.size()));
    }

    /** Whether a micro-batch is computed here: each rank has every n-th of them, which are of about equal size. */
    private boolean mine(int part) {
        return memory.ranks == null || part % memory.ranks.size() == memory.ranks.rank();
    }

    /** Scores that other ranks have computed are zeros here until they are added. */
    private Scores all(Scores scores) {
        if (memory.ranks != null) {
            if (scores.kl() == null) {
                memory.ranks.sum("scores", scores.logProbs(), scores.entropy());
            } else {
                memory.ranks.sum("scores", scores.logProbs(), scores.entropy(), scores.kl());
            }
        }
        return scores;
    }

    private void check(String name, Utterance message) {
        final int prompt = message.prompt().length;
        final int tokens = message.tokens().length;
        if (prompt < 1 || tokens < 1 || prompt + tokens - 1 > config.positions()) {
            throw new IllegalArgumentException(name + ": expected a prompt and a message of 1 token or more and of "
                    + (config.positions() + 1) + " at most together, given " + prompt + " and " + tokens);
        }
        checkIds(name + ".prompt", message.prompt(), config.vocab());
        checkIds(name + ".tokens", message.tokens(), vocab);
    }

    /** Hidden states at the tokens of the messages, [tokens, hidden], by one forward pass over the padded sequences. */
    private Tensor hidden(Decoder decoder, Map<String, Tensor> w, MicroBatch micro) {
        final int rows = micro.messages().size();
        final Tensor all = decoder.hidden(w, longs(micro.ids(), rows, micro.width()), null, null, null);
        final long[] at = micro.positions();
        return all.view((long) rows * micro.width(), config.hidden()).index_select(0, longs(at, at.length));
    }

    /** @param then for the exact KL, or null for none */
    private LinearLogProbs head(Decoder decoder, Tensor hidden, Map<String, Tensor> w, Then then, int part, MicroBatch micro,
            double temperature) {
        final Tensor targets = Tensor.create(micro.targets()).to(device, torch.ScalarType.Int);
        return new LinearLogProbs(decoder.input(hidden), decoder.input(w.get(decoder.head())),
                then == null ? null : decoder.input(then.hidden(part, micro)), then == null ? null : decoder.input(then.head()), vocab,
                targets, temperature, LinearLogProbs.CHUNK_BYTES);
    }

    private Tensor longs(long[] values, long... shape) {
        return Tensor.create(values, shape).to(device, torch.ScalarType.Long);
    }

    /** {@return gradients of the loss as they go back through the model: on its device, and multiplied by the loss scale} */
    private Tensor scaled(Floats vector) {
        return scaled(Tensor.create(vector.toArray()).to(device, torch.ScalarType.Float));
    }

    private Tensor scaled(Tensor vector) {
        return lossScale == null ? vector : vector.mul_(new Scalar(lossScale.scale()));
    }

    @Override
    public Scores score(Batch batch, double temperature, Snapshot anchor) {
        return score(batch, temperature, anchor, Precision.SAME);
    }

    @Override
    public Scores score(Batch batch, double temperature, Snapshot anchor, Precision precision) {
        final Scores out = scores(batch, anchor);
        final Decoder decoder = used(precision);
        final Map<String, Tensor> now = all(weights, precision);
        final List<MicroBatch> micros = split(batch.messages());
        final Then then = then(anchor, batch, micros.size(), precision);
        final List<Callable<Void>> tasks = new ArrayList<>();
        for (int i = 0; i < micros.size(); i++) {
            final MicroBatch micro = micros.get(i);
            final int part = i;
            if (!mine(part)) {
                continue;
            }
            tasks.add(() -> {
                try (NoGradGuard guard = new NoGradGuard();
                        PointerScope scope = new PointerScope();
                        LinearLogProbs head = head(decoder, hidden(decoder, now, micro), now, then, part, micro, temperature)) {
                    head.forward();
                    scatter(head, micro, batch, out);
                }
                return null;
            });
        }
        workers.run(OutOfMemory.LEARNING, tasks, nothing -> { });
        return all(out);
    }

    @Override
    public double[] logitShift(Batch batch, Snapshot anchor) {
        final Decoder decoder = used(Precision.SAME);
        final Map<String, Tensor> now = all(weights.compute());
        final List<MicroBatch> micros = split(batch.messages());
        final Then then = ((TorchSnapshot) anchor).then(batch, micros.size(), Precision.SAME);
        final int columns = vocab;
        final long chunk = Math.max(1, LinearLogProbs.CHUNK_BYTES / (4L * columns));
        final List<Callable<double[]>> tasks = new ArrayList<>();
        for (int i = 0; i < micros.size(); i++) {
            final MicroBatch micro = micros.get(i);
            final int part = i;
            if (!mine(part)) {
                continue;
            }
            tasks.add(() -> {
                final double[] sums = new double[32 - Integer.numberOfLeadingZeros(columns)];
                try (NoGradGuard guard = new NoGradGuard(); PointerScope scope = new PointerScope()) {
                    final Tensor hidden = hidden(decoder, now, micro);
                    for (long row = 0; row < micro.tokens(); row += chunk) {
                        final long n = Math.min(chunk, micro.tokens() - row);
                        final float[] before = logits(then.hidden(part, micro).narrow(0, row, n), then.weights);
                        final float[] after = logits(hidden.narrow(0, row, n), now);
                        for (int r = 0; r < n; r++) {
                            final int from = r * columns;
                            final double[] shift = Diagnostics.logitShift(Arrays.copyOfRange(before, from, from + columns),
                                    Arrays.copyOfRange(after, from, from + columns));
                            for (int k = 0; k < sums.length; k++) {
                                sums[k] += shift[k] / batch.tokens();
                            }
                        }
                    }
                }
                return sums;
            });
        }
        final double[] mean = new double[32 - Integer.numberOfLeadingZeros(columns)];
        workers.run(OutOfMemory.LEARNING, tasks, sums -> Arrays.setAll(mean, k -> mean[k] + sums[k]));
        if (memory.ranks != null) {
            memory.ranks.sum("shifts of logits", mean);
        }
        return mean;
    }

    /** [rows, vocab] */
    private float[] logits(Tensor hidden, Map<String, Tensor> w) {
        return Host.floats(HeadProduct.logits(hidden, w.get(decoder.head()).narrow(0, 0, vocab)));
    }

    private static Scores scores(Batch batch, Snapshot anchor) {
        return new Scores(new float[batch.tokens()], anchor == null ? null : new float[batch.tokens()], new float[batch.tokens()]);
    }

    private static void scatter(LinearLogProbs head, MicroBatch micro, Batch batch, Scores out) {
        micro.scatter(Host.floats(head.logProbs()), out.logProbs(), batch.cuSeqlens());
        micro.scatter(Host.floats(head.entropy()), out.entropy(), batch.cuSeqlens());
        if (out.kl() != null) {
            micro.scatter(Host.floats(head.kl()), out.kl(), batch.cuSeqlens());
        }
    }

    @Override
    public Scores gradient(Batch batch, double temperature, SurrogateConfig loss, Snapshot anchor) {
        final Scores out = scores(batch, anchor);
        final SurrogateConfig whole = loss.withTotals(batch.tokens(), batch.size());
        final boolean klCounts = loss.klTerm() == SurrogateConfig.KlTerm.EXACT && loss.beta() != 0;
        final List<MicroBatch> micros = split(batch.messages());
        used(Precision.SAME);
        final Then then = then(anchor, batch, micros.size(), Precision.SAME);
        final List<Callable<Map<String, Tensor>>> tasks = new ArrayList<>();
        for (int i = 0; i < micros.size(); i++) {
            final MicroBatch micro = micros.get(i);
            final int part = i;
            if (!mine(part)) {
                continue;
            }
            tasks.add(() -> backward(micro, then, part, temperature, (head, dHidden, dWeight) -> {
                head.forward(); // a message's ratio needs all of its log-probs
                scatter(head, micro, batch, out);
                // The surrogate, a few numbers per token, is computed on the host.
                try (Floats logProbs = Floats.ofFloats(Host.floats(head.logProbs()));
                        Floats logProbsOld = Floats.ofFloats(micro.gather(batch.logProbsOld(), batch.cuSeqlens()));
                        Floats a = Floats.ofFloats(micro.ofMessages(batch.advantages()));
                        Indices cuSeqlens = Indices.ofLongs(micro.cuSeqlens());
                        Floats kl = then == null ? null : Floats.ofFloats(Host.floats(head.kl()));
                        Floats entropy = Floats.ofFloats(Host.floats(head.entropy()));
                        Floats dLogProbs = Floats.allocate(micro.tokens());
                        Floats dKl = Floats.allocate(micro.tokens());
                        Floats dEntropy = Floats.allocate(micro.tokens());
                        SurrogateStats stats = new SurrogateStats()) {
                    Surrogate.compute(whole, logProbs, logProbsOld, a, cuSeqlens, null, kl, entropy, null, dLogProbs, dKl, dEntropy,
                            stats);
                    head.backward(scaled(dLogProbs), loss.entropyCoef() == 0 ? null : scaled(dEntropy), klCounts ? scaled(dKl) : null,
                            dHidden, dWeight);
                }
            }));
        }
        accumulate(tasks);
        return all(out);
    }

    @Override
    public double imitate(List<Utterance> messages) {
        final long tokens = messages.stream().mapToLong(m -> m.tokens().length).sum();
        final List<MicroBatch> micros = split(messages);
        final double[] sums = new double[micros.size()];
        used(Precision.SAME);
        final List<Callable<Map<String, Tensor>>> tasks = new ArrayList<>();
        for (int i = 0; i < micros.size(); i++) {
            final MicroBatch micro = micros.get(i);
            final int part = i;
            if (!mine(part)) {
                continue;
            }
            tasks.add(() -> backward(micro, null, part, 1, (head, dHidden, dWeight) -> {
                final Tensor slope = Decoder.empty(new long[] {micro.tokens()}, torch.ScalarType.Float, device)
                        .fill_(new Scalar(-1.0 / tokens));
                head.backward(scaled(slope), null, null, dHidden, dWeight);
                for (float lp : Host.floats(head.logProbs())) {
                    sums[part] -= lp;
                }
            }));
        }
        accumulate(tasks);
        if (memory.ranks != null) {
            memory.ranks.sum("likelihoods", sums);
        }
        return Arrays.stream(sums).sum() / tokens;
    }

    /** Writes a loss's gradient with respect to hidden states, and adds that to the head's weight, unless it is null. */
    private interface HeadGradient {
        void compute(LinearLogProbs head, Tensor dHidden, Tensor dWeight);
    }

    /** Forward and backward over one micro-batch; the gradients, by name, belong to the caller. */
    private Map<String, Tensor> backward(MicroBatch micro, Then then, int part, double temperature, HeadGradient loss) {
        try (PointerScope scope = new PointerScope()) {
            final Map<String, Tensor> leaves = weights.leaves();
            final Map<String, Tensor> w = all(leaves);
            final Tensor hidden = hidden(decoder, w, micro);
            final Tensor dHidden = torch.empty_like(hidden);
            final Layout.Part trainedHead = weights.layout.parts.get(decoder.head());
            final Tensor dWeight = trainedHead == null ? null
                    : Decoder.empty(trainedHead.shape(), torch.ScalarType.Float, device).zero_();
            try (LinearLogProbs head = head(decoder, hidden, w, then, part, micro, temperature)) {
                loss.compute(head, dHidden, dWeight);
            }
            hidden.backward(dHidden, new BoolOptional(), false, new TensorArrayRefOptional());
            final Map<String, Tensor> gradients = new HashMap<>();
            leaves.forEach((name, leaf) -> {
                final Tensor grad = leaf.grad();
                if (name.equals(decoder.head())) {
                    gradients.put(name, Decoder.kept(grad.defined() ? dWeight.add_(grad) : dWeight)); // of a tied embedding
                } else if (grad.defined()) {
                    gradients.put(name, Decoder.kept(grad.detach())); // grad itself is a part of the leaf
                }
            });
            return gradients;
        }
    }

    private void accumulate(List<Callable<Map<String, Tensor>>> tasks) {
        hasGradient = false;
        try {
            memory.learns(this);
        } catch (RuntimeException e) {
            throw OutOfMemory.told(e, OutOfMemory.LEARNING);
        }
        try (NoGradGuard guard = new NoGradGuard()) {
            gradient.zero_();
        }
        workers.run(OutOfMemory.LEARNING, tasks, gradients -> {
            try (NoGradGuard guard = new NoGradGuard(); PointerScope scope = new PointerScope()) {
                gradients.forEach((name, grad) -> {
                    Weights.view(gradient, weights.layout.parts.get(name)).add_(grad);
                    grad.close();
                });
            }
        });
        if (shard != null) {
            shard.sum("gradient", gradient);
        } else if (memory.ranks != null) {
            memory.ranks.sum("gradient", gradient);
        }
        hasGradient = true;
    }

    @Override
    public double step(double learningRate) {
        if (!hasGradient) {
            throw new IllegalStateException("step: there is no gradient; call gradient or imitate first");
        }
        workers.use();
        hasGradient = false;
        final double norm = shard == null ? step(weights.master, gradient, learningRate) : shardedStep(learningRate);
        if (Double.isNaN(norm)) {
            return norm;
        }
        weights.refresh();
        version = ++versions;
        return norm;
    }

    private double step(Tensor master, Tensor gradient, double learningRate) {
        return lossScale != null && !lossScale.unscale(gradient) ? Double.NaN : optimiser.step(master, gradient, learningRate);
    }

    /** Of this rank's part; the others step theirs. */
    private double shardedStep(double learningRate) {
        try (PointerScope scope = new PointerScope()) {
            final Tensor own = shard.own(gradient);
            if (lossScale != null && !lossScale.unscale(own, shard::finite)) {
                return Double.NaN;
            }
            final boolean whole = weights.shard == null; // f32 weights, which are computed with, are there as a whole
            final double norm = optimiser.step(whole ? shard.own(weights.master) : weights.master, own, learningRate, shard::norm);
            if (whole) {
                shard.gather("weights", weights.master);
            }
            return norm;
        }
    }

    // ---- going back ----

    /** What the exact KL of this policy is taken from: of an anchor that counts the same columns. */
    private Then then(Snapshot anchor, Batch batch, int micros, Precision precision) {
        if (anchor == null) {
            return null;
        }
        final Anchor a = (Anchor) anchor;
        if (a.vocab() != vocab) {
            throw new IllegalArgumentException("anchor: expected a policy of " + vocab + " tokens, as this one has, given one of "
                    + a.vocab());
        }
        return a.then(batch, micros, precision);
    }

    /** Hidden states of a batch under the parameters of an anchor, kept since every inner step asks for them. */
    private final class Then {
        final Batch batch;
        final Map<String, Tensor> weights;
        private final Decoder decoder;
        private final UnaryOperator<Utterance> asked;
        private final Tensor[] hidden;

        Then(Batch batch, Decoder decoder, Map<String, Tensor> weights, UnaryOperator<Utterance> asked, int micros) {
            this.batch = batch;
            this.decoder = decoder;
            this.weights = weights;
            this.asked = asked;
            this.hidden = new Tensor[micros];
        }

        /** The anchor's own: another policy's may have another name. */
        Tensor head() {
            return weights.get(decoder.head());
        }

        /** Each part is asked for by one thread at a time. */
        Tensor hidden(int part, MicroBatch micro) {
            if (hidden[part] == null) {
                try (NoGradGuard guard = new NoGradGuard(); PointerScope scope = new PointerScope()) {
                    hidden[part] = Decoder.kept(TorchPolicy.this.hidden(decoder, weights, micro.asked(asked)));
                }
            }
            return hidden[part];
        }

        void close() {
            Arrays.stream(hidden).filter(Objects::nonNull).forEach(Tensor::close);
        }
    }

    /** Parameters that an exact KL is taken from, and what they were asked. */
    private class Anchor implements Snapshot {
        final Weights weights;
        private final UnaryOperator<Utterance> asked;
        private final Map<Precision, Then> thens = new EnumMap<>(Precision.class);

        Anchor(Weights weights, UnaryOperator<Utterance> asked) {
            this.weights = weights;
            this.asked = asked;
        }

        int vocab() {
            return vocab;
        }

        Then then(Batch batch, int micros, Precision precision) {
            final Then then = thens.get(precision);
            if (then != null && then.batch == batch) {
                return then;
            }
            if (then != null) {
                then.close();
            }
            thens.put(precision, new Then(batch, used(precision), all(weights, precision), asked, micros));
            return thens.get(precision);
        }

        @Override
        public void close() {
            thens.values().forEach(Then::close);
        }
    }

    private final class TorchSnapshot extends Anchor {
        final AdamW optimiser;
        final long version;

        /** @param optimiser null where the snapshot is only measured from */
        TorchSnapshot(Weights weights, AdamW optimiser, long version) {
            super(weights, UnaryOperator.identity());
            this.optimiser = optimiser;
            this.version = version;
        }

        @Override
        public void close() {
            super.close();
            weights.close();
            if (optimiser != null) {
                optimiser.close();
            }
        }
    }

    @Override
    public Snapshot snapshot() {
        try {
            return new TorchSnapshot(weights.copy(home), optimiser.copy(home), version);
        } catch (RuntimeException e) {
            throw OutOfMemory.told(e, OutOfMemory.LEARNING);
        }
    }

    @Override
    public Snapshot anchor() {
        try {
            return new TorchSnapshot(weights.copy(home), null, version);
        } catch (RuntimeException e) {
            throw OutOfMemory.told(e, OutOfMemory.LEARNING);
        }
    }

    /**
     * {@return this policy, as it is whenever it is asked, for another one to take its exact KL from} The other may be of any
     * size but has to have {@link #sameTokens}. Closing it frees what was kept of a batch, not this policy, which is to be open
     * while it is used.
     *
     * @param asked for each message of the other's batches, the same tokens with the prompt that this policy is asked with
     */
    public Snapshot anchor(UnaryOperator<Utterance> asked) {
        return new Anchor(weights, asked);
    }

    /** {@return whether the same tokens have the same numbers in another policy: without, no KL per token is defined} */
    public boolean sameTokens(TorchPolicy other) {
        return vocab == other.vocab && tokenizer.sameTokens(other.tokenizer);
    }

    @Override
    public void restore(Snapshot snapshot) {
        final TorchSnapshot s = (TorchSnapshot) snapshot;
        if (s.optimiser == null) {
            throw new IllegalArgumentException("snapshot: expected one of snapshot(), given one of anchor(), which cannot be gone back to");
        }
        weights.set(s.weights);
        optimiser.set(s.optimiser);
        version = s.version;
        hasGradient = false;
    }

    @Override
    public void shorten(Snapshot snapshot, double share) {
        weights.shorten(((TorchSnapshot) snapshot).weights, share);
        version = ++versions;
    }

    @Override
    public void nudge(double size, long seed) {
        weights.nudge(size, seed);
        version = -1;
    }

    @Override
    public long fingerprint() {
        final CRC32C castagnoli = new CRC32C();
        final CRC32 ieee = new CRC32();
        if (weights.shard != null) {
            weights.shard.stream("fingerprint", weights.master, numbers -> {
                final ByteBuffer bytes = ModelFiles.bytes(numbers);
                castagnoli.update(bytes.duplicate());
                ieee.update(bytes);
            });
            return castagnoli.getValue() << 32 | ieee.getValue();
        }
        try (PointerScope scope = new PointerScope()) {
            final Tensor data = weights.master;
            final long chunk = 64 << 20;
            for (long from = 0; from < data.numel(); from += chunk) {
                try (PointerScope part = new PointerScope()) {
                    final ByteBuffer bytes = ModelFiles.bytes(data.narrow(0, from, Math.min(chunk, data.numel() - from)).cpu());
                    castagnoli.update(bytes.duplicate());
                    ieee.update(bytes);
                }
            }
        }
        return castagnoli.getValue() << 32 | ieee.getValue();
    }

    // ---- files ----

    /**
     * A model of the Hugging Face layout: {@code config.json}, {@code tokenizer.json}, {@code model.safetensors} or its shards.
     *
     * @throws IOException if a file is missing, wrong, or of a model that this decoder does not compute, naming it
     */
    public static TorchPolicy load(Path folder, Settings settings) throws IOException {
        return load(folder, settings, new TeamMemory(false));
    }

    /** The same, with what it can share with others: adapters over the same folder have its weights once. */
    public static TorchPolicy load(Path folder, Settings settings, TeamMemory memory) throws IOException {
        return open(folder, settings, memory, LOAD, (config, weights) -> ModelFiles.readModel(folder, config, weights), 0);
    }

    /** Sets the weights of a model. */
    private interface Filler {
        void fill(ModelConfig config, Weights weights) throws IOException;
    }

    /** @param seed of adapters: A random, B zero, the model as it was */
    private static TorchPolicy open(Path folder, Settings settings, TeamMemory memory, String how, Filler filler, long seed)
            throws IOException {
        try {
            return opened(folder, settings, memory, how, filler, seed);
        } catch (RuntimeException e) {
            throw OutOfMemory.told(e, OutOfMemory.LOADING);
        }
    }

    private static TorchPolicy opened(Path folder, Settings settings, TeamMemory memory, String how, Filler filler, long seed)
            throws IOException {
        Libtorch.load();
        final List<String> notes = new ArrayList<>();
        final ModelConfig config = how.equals(LOAD) ? ModelFiles.config(folder, notes::add)
                : ModelConfig.read(folder.resolve(ModelFiles.CONFIG), notes::add);
        final Weights base = settings.loraRank() == 0 ? null
                : memory.frozen(String.join("|", how, folder.toRealPath().toString(), settings.dtype().toString(), settings.device()), () -> {
                    final Weights frozen = frozen(config, settings);
                    fill(filler, config, frozen, frozen);
                    return frozen;
                });
        final Tokenizer tokenizer;
        try {
            tokenizer = Tokenizer.open(folder);
        } catch (IOException | RuntimeException e) {
            if (base != null) {
                base.close();
            }
            throw e;
        }
        final TorchPolicy policy = new TorchPolicy(config, tokenizer, settings, memory, base);
        if (base == null) {
            fill(filler, config, policy.weights, policy);
        } else {
            policy.weights.random(seed);
        }
        policy.folder = how.equals(LOAD) ? folder.toString() : null;
        notes.addAll(tokenizer.notes());
        policy.notes = List.copyOf(notes);
        return policy;
    }

    /** @param owner closed if that fails */
    private static void fill(Filler filler, ModelConfig config, Weights weights, AutoCloseable owner) throws IOException {
        boolean filled = false;
        try {
            filler.fill(config, weights);
            filled = true;
        } finally {
            if (!filled) {
                try {
                    owner.close();
                } catch (Exception e) {
                    throw new IllegalStateException(e);
                }
            }
        }
    }

    /**
     * Writes the model in the Hugging Face layout, or, where only adapters are trained, the adapters in that of PEFT; beside it the
     * optimiser's state.
     */
    @Override
    public void save(Path folder) throws IOException {
        if (base == null) {
            final String dtype = switch (settings.dtype()) {
                case F32 -> "float32";
                case BF16 -> "bfloat16";
                case F16 -> "float16";
            };
            config.write(folder.resolve(ModelFiles.CONFIG), dtype, tokenizer.endTokens());
            ModelFiles.writeModel(folder, weights);
            tokenizer.copyTo(folder);
        } else {
            ModelFiles.writeAdapter(folder, weights, settings, this.folder);
        }
        ModelFiles.writeTraining(folder, weights, optimiser, lossScale, version, versions, shard);
    }

    @Override
    public void give() {
        if (shard != null) {
            ModelFiles.give(weights, optimiser, shard);
            fingerprint();
        }
    }

    @Override
    public void load(Path folder) throws IOException {
        if (base == null) {
            final ModelConfig given = ModelConfig.read(folder.resolve(ModelFiles.CONFIG));
            if (!given.equals(config)) {
                throw new IOException(folder.resolve(ModelFiles.CONFIG) + ": expected " + config + ", given " + given);
            }
            ModelFiles.readModel(folder, config, weights);
        } else {
            ModelFiles.readAdapter(folder, weights, settings);
        }
        final long[] counters = ModelFiles.readTraining(folder, weights, optimiser, lossScale, shard);
        version = counters[0];
        versions = counters[1];
        hasGradient = false;
    }

    @Override
    public void close() {
        workers.close();
        weights.close();
        if (base != null) {
            base.close();
        }
        optimiser.close();
        if (gradient != null) {
            gradient.close();
        }
        decoder.close();
        finer.values().forEach(Decoder::close);
        tokenizer.close();
        device.close();
        home.close();
        memory.closed(this);
    }
}
