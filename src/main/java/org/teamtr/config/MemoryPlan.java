package org.teamtr.config;

import java.io.FileNotFoundException;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.function.ToLongFunction;
import java.util.function.UnaryOperator;
import java.util.stream.IntStream;
import org.teamtr.chat.Tokenizer;
import org.teamtr.kernels.DType;
import org.teamtr.kernels.SurrogateConfig;
import org.teamtr.model.ModelConfig;
import org.teamtr.task.PromptFile;
import org.teamtr.team.Context;
import org.teamtr.team.Prompt;
import org.teamtr.team.PromptTemplate;
import org.teamtr.team.Prompts;
import org.teamtr.team.View;
import org.teamtr.torch.LinearLogProbs;
import org.teamtr.torch.Machine;
import org.teamtr.torch.ModelPreview;
import org.teamtr.torch.TorchPolicy;
import org.teamtr.train.Config;
import org.teamtr.train.Policy;
import org.teamtr.train.Sharding;

/**
 * The memory that a run needs, computed before anything is loaded from the sizes in config.json files and the configuration, for messages
 * that all have their maximum length. Weights, f32 weights, optimiser, gradient and keys and values are counted exactly; activations are
 * counted from the shapes that this decoder's operations keep for the backward pass; the memory of libraries is estimated by a factor.
 * (The copies that an optimiser step and the f32 logits of a decoding step make are smaller than the others and not shown.)
 */
public final class MemoryPlan {
    /** The share for libraries, fragmentation and small tensors beside what is counted. */
    private static final double BESIDE = 1.05;
    private static final long CUDA_CONTEXT = 700L << 20;
    /** Of the process without models, at least: Java's heap, libtorch and the other libraries, of which not all are loaded yet. */
    private static final long PROCESS = 400L << 20;
    private static final int LEAST_MICRO_BATCH = 256;
    private static final int LEAST_ROWS = 8;
    /** The most that a line says: more than any machine has, and so little that sums do not overflow. */
    private static final long MOST = 1L << 56;

    /** A line of the table: bytes in both places, and when they are there. {@code on}: which device, null for none. */
    private record Row(String what, String on, long device, long host, When when) {
    }

    private enum When {
        ALWAYS, GENERATING, LEARNING
    }

    /** A policy, and what its folder says. */
    private record PlannedPolicy(String name, Config.Model model, ModelConfig size, TorchPolicy.Settings settings, long trained, long frozen,
            boolean learns) {
        /** Where it computes; {@code cuda} is the first of its kind. */
        String on() {
            return settings.device().equals("cuda") ? "cuda:0" : settings.device();
        }

        int width() {
            return model.dtype() == DType.F32 ? Float.BYTES : Short.BYTES;
        }
    }

    private final Config config;
    private final List<PlannedPolicy> policies;
    private final int longest;
    /** Processes that train together, and how many of them share this machine's memory. */
    private final int processes;
    private final int here;
    /** CUDA devices that policies are on. */
    private final List<String> devices;
    private final List<Row> rows = new ArrayList<>();
    /** Resident bytes of this process; free bytes of each device, and of the host under the key null. Read once, since they change. */
    private final long resident;
    private final Map<String, Long> free;

    private MemoryPlan(Config config, List<PlannedPolicy> policies, int longest, int processes, int here, long resident, Map<String, Long> free) {
        this.config = config;
        this.policies = policies;
        this.longest = longest;
        this.processes = processes;
        this.here = here;
        this.resident = resident;
        this.free = free;
        this.devices = policies.stream().map(PlannedPolicy::on).filter(d -> !d.equals("cpu")).distinct().toList();
        final List<String> places = policies.stream().map(PlannedPolicy::on).distinct().toList();
        places.forEach(on -> count(on, places.size() == 1 ? "" : " on " + on));
        final long process = Math.max(PROCESS, resident);
        if (devices.size() == 1) {
            rows.add(new Row("this process and its libraries", devices.get(0), CUDA_CONTEXT, process, When.ALWAYS));
        } else {
            devices.forEach(on -> add("libraries on " + on, on, CUDA_CONTEXT, 0, When.ALWAYS));
            rows.add(new Row("this process and its libraries", null, 0, process, When.ALWAYS));
        }
    }

    /**
     * {@return the plan of a configuration, or null where there is nothing to plan: the built-in small models}
     *
     * @param config as {@link Setup#resolved} gives it
     * @throws IOException if a model's config.json or tokenizer, or the prompts, cannot be read
     */
    public static MemoryPlan of(Config config) throws IOException {
        return of(config, 1, 1);
    }

    /**
     * {@return the same of one of several processes that train together}
     *
     * @param processes how many
     * @param here how many of them share this machine's memory; each is taken to have a GPU of its own
     */
    public static MemoryPlan of(Config config, int processes, int here) throws IOException {
        return of(config, processes, here, Machine.resident());
    }

    /** @param resident bytes that this process has already */
    static MemoryPlan of(Config config, int processes, int here, long resident) throws IOException {
        final List<PlannedPolicy> policies = new ArrayList<>();
        for (Map.Entry<String, Config.Model> entry : config.policies().entrySet()) {
            final List<Config.Agent> agents = config.team().agents().stream().filter(a -> a.policy().equals(entry.getKey())).toList();
            if (agents.isEmpty() || entry.getValue().model().equals("tiny")) {
                continue;
            }
            final ModelConfig size = size(entry.getValue());
            final TorchPolicy.Settings settings = Setup.settings(config, entry.getValue());
            final long[] parameters = TorchPolicy.parameters(size, settings);
            policies.add(new PlannedPolicy(entry.getKey(), entry.getValue(), size, settings, parameters[0], parameters[1],
                    agents.stream().anyMatch(a -> !a.frozen() && config.train().agents().contains(a.role()))));
        }
        return policies.isEmpty() ? null
                : new MemoryPlan(config, policies, longestPrompt(config, policies), processes, here, resident, new HashMap<>());
    }

    /** A folder without weights has a size, too: what is missing is for {@link ConfigFiles} to say. */
    private static ModelConfig size(Config.Model model) throws IOException {
        final Path folder = Path.of(model.model());
        try {
            return ModelPreview.config(folder, !model.random(), note -> {});
        } catch (FileNotFoundException e) {
            return ModelPreview.config(folder, false, note -> {});
        }
    }

    /** Tokens of the longest prompt of an agent: the longest texts are encoded, and messages have their maximum length. */
    private static int longestPrompt(Config config, List<PlannedPolicy> policies) throws IOException {
        final Config.Files f = config.task().files();
        final Prompts prompts = Setup.isBudget(config) ? Setup.budget(config).prompts("train", 64, config.seed())
                : Setup.isGenerated(config) ? Setup.generated(config).prompts(false, 64, config.seed())
                : PromptFile.read(Path.of(f.train()), f.promptColumn(), f.answerColumn(), f.idColumn());
        final List<Prompt> texts = IntStream.range(0, prompts.size()).mapToObj(prompts::get)
                .sorted(Comparator.comparingInt((Prompt p) -> -p.text().length())).limit(8).toList();
        int longest = 1;
        for (PlannedPolicy policy : policies) {
            try (Tokenizer tokenizer = Tokenizer.open(Path.of(policy.model.model()))) {
                for (Config.Agent agent : config.team().agents()) {
                    if (!agent.policy().equals(policy.name)) {
                        continue;
                    }
                    final View view = agent.view();
                    final int seen = view == View.NONE ? 0 : view == View.PREDECESSOR ? 1 : config.team().turns() - 1;
                    final PromptTemplate template = new PromptTemplate(agent.system(), agent.template(), agent.message());
                    for (Prompt prompt : texts) {
                        final StringBuilder text = new StringBuilder();
                        template.render(Context.of(prompt, List.of()), agent.role(), view).forEach(turn -> text.append(turn.content()));
                        final int asked;
                        try {
                            asked = tokenizer.encode(text.toString()).length;
                        } catch (IllegalArgumentException e) {
                            continue; // TaskData.check says whose it is
                        }
                        final long tokens = asked + 16 // of a chat template
                                + seen * (config.rollout().maxNewTokens() + 8L);
                        longest = (int) Math.max(longest, Math.min(tokens, policy.size.rope().positions() - config.rollout().maxNewTokens()));
                    }
                }
            }
        }
        return longest;
    }

    // ---- what there is to count ----

    private boolean divides(Sharding stage) {
        return config.hardware().ranks().shard().divides(stage) && processes > 1;
    }

    /** The share of a rank in numbers that a stage divides among ranks. */
    private long part(long numbers, Sharding stage) {
        return divides(stage) ? (numbers + processes - 1) / processes : numbers;
    }

    /**
     * The most bytes that one layer, the embedding or the head takes while an update goes through the model layer by layer: its gathered
     * weights where these are divided among ranks, the f32 sum of its gradient over micro-batches, and its gradients of each micro-batch
     * that is computed at once.
     */
    private long ofALayer(PlannedPolicy p, int micros) {
        final ModelConfig s = p.size;
        final long vocab = (long) s.embedding().vocab() * s.hidden();
        final long layer = ((p.frozen > 0 ? p.frozen : p.trained) - (s.embedding().tied() ? 1 : 2) * vocab) / s.layers();
        final long trained = p.frozen > 0 ? p.trained / s.layers() : layer;
        final int c = p.width();
        final boolean weights = divides(Sharding.WEIGHTS);
        final long gathered = weights ? c : 0;
        final long heads = weights && exactKl() ? vocab * c : 0; // of the old policy, meanwhile
        final long ofLayer = (layer + (p.frozen > 0 ? trained : 0)) * gathered + trained * (Float.BYTES + (long) micros * c);
        final long ofVocab = vocab * gathered + (p.frozen > 0 ? 0 : vocab * Float.BYTES * (1L + micros));
        final long measuring = weights && finer(p) ? vocab * (2L * Float.BYTES + c) : 0;
        return Math.max(heads + Math.max(ofLayer, ofVocab), measuring);
    }

    /**
     * Adds the rows of one device. Of what only the learning policy or a batch has, the largest of its policies counts.
     *
     * @param suffix appended to the names of this device's rows where there are several devices
     */
    private void count(String on, String suffix) {
        final List<PlannedPolicy> there = policies.stream().filter(p -> p.on().equals(on)).toList();
        final List<PlannedPolicy> learners = there.stream().filter(PlannedPolicy::learns).toList();
        final boolean offload = offloads(on);
        final boolean byLayer = divides(Sharding.GRADIENTS);
        final boolean dividesWeights = divides(Sharding.WEIGHTS);
        final Set<String> bases = new HashSet<>();
        final long weights = there.stream().mapToLong(p -> addState(p, bases)).sum();
        if (dividesWeights) {
            add("learning: weights, a rank's part" + suffix, on, weights - learners.stream().mapToLong(this::elsewhere).min().orElse(0), 0,
                    When.LEARNING);
        }
        if (offload && !dividesWeights) {
            final long state = largest(learners, p -> masters(p) + moments(p));
            add("learning: f32 weights, optimiser of one" + suffix, on, state, -state, When.LEARNING);
        }
        add("learning: gradient" + suffix, on, largest(learners, p -> part(p.trained, Sharding.GRADIENTS) * Float.BYTES), 0, When.LEARNING);
        final long microGradients = largest(learners, this::microGradients);
        add((!byLayer ? "learning: gradients of a micro-batch" : dividesWeights ? "learning: weights, gradients of a layer"
                : "learning: gradients of a layer") + suffix, on, microGradients, 0, When.LEARNING);
        final long inputs = byLayer ? largest(learners, this::layerInputs) : 0;
        add("learning: inputs of the layers" + suffix, on, offload ? 0 : inputs, offload ? inputs : 0, When.LEARNING);
        add("learning: the old policy" + suffix, on, largest(learners, this::oldPolicy), 0, When.LEARNING);
        final long copies = largest(learners, p -> copies(p, microGradients));
        add("learning: copies for roll-back" + suffix, on, offload ? 0 : copies, offload ? copies : 0, When.LEARNING);
        add(String.format(Locale.ROOT, "learning: activations of %,d tokens%s", microTokens(), suffix), on, largest(learners, this::activations), 0,
                When.LEARNING);
        add("learning: chunks of logits, hidden states" + suffix, on, largest(learners, this::chunks), 0, When.LEARNING);
        add("learning: logits of the old policy" + suffix, on, on.equals("cpu") ? largest(learners, this::keptLogits) : 0, 0, When.LEARNING);
        add(String.format(Locale.ROOT, "generating: keys and values of %,d x %,d tokens%s", generated(), length(), suffix), on,
                largest(there, this::cache), 0, When.GENERATING);
        add("generating: activations, logits of a step" + suffix, on, largest(there, this::prefill), 0, When.GENERATING);
    }

    private static long largest(List<PlannedPolicy> some, ToLongFunction<PlannedPolicy> bytes) {
        return some.stream().mapToLong(bytes).max().orElse(0);
    }

    private boolean offloads(String on) {
        return !on.equals("cpu") && config.hardware().memory().offload();
    }

    /**
     * Adds a policy's rows: its weights, f32 weights and optimiser. {@return the bytes of its weights in its dtype}
     *
     * @param bases the frozen weights that are counted already
     */
    private long addState(PlannedPolicy p, Set<String> bases) {
        final boolean shared = p.frozen > 0 && !bases.add(String.join("|", p.model.model(), p.model.dtype().toString(),
                Boolean.toString(p.model.random())));
        final long weights = (p.trained + (shared ? 0 : p.frozen)) * p.width();
        add(p.name + ": weights" + (shared ? " (the frozen ones are another's)" : ""), p.on(), weights, 0,
                divides(Sharding.WEIGHTS) ? When.GENERATING : When.ALWAYS);
        final boolean offload = offloads(p.on());
        final long state = atRest(p, masters(p), 1) + atRest(p, moments(p), 2);
        add(p.name + (p.learns ? ": f32 weights, optimiser" : ": f32 weights"), p.on(), offload ? 0 : state, offload ? state : 0, When.ALWAYS);
        return weights;
    }

    // ---- the parts of a policy, in bytes ----

    /** The f32 weights beside those in 16 bits. */
    private long masters(PlannedPolicy p) {
        return p.width() == Float.BYTES ? 0 : part(p.trained, Sharding.STATE) * Float.BYTES;
    }

    /** AdamW's, which are made at the first step. */
    private long moments(PlannedPolicy p) {
        return p.learns ? part(p.trained, Sharding.STATE) * 2 * Float.BYTES : 0;
    }

    /** What vectors take that are kept where a policy is at rest: libtorch gives page-locked memory in powers of two. */
    private long atRest(PlannedPolicy p, long bytes, int vectors) {
        final long one = bytes / vectors;
        return !offloads(p.on()) || !config.hardware().memory().pinned() || one == 0 ? bytes : vectors * Long.highestOneBit(2 * one - 1);
    }

    /** The weights of a learning policy that other ranks have. */
    private long elsewhere(PlannedPolicy p) {
        return (p.trained + p.frozen - part(p.trained, Sharding.WEIGHTS) - part(p.frozen, Sharding.WEIGHTS)) * p.width();
    }

    /** Autograd's gradients of the micro-batches that are computed at once, and the f32 gradient of their heads. */
    private long microGradients(PlannedPolicy p) {
        final int micros = TorchPolicy.micros(p.size, p.settings);
        final long head = p.frozen > 0 ? 0 : (long) p.size.embedding().vocab() * p.size.hidden() * Float.BYTES;
        return divides(Sharding.GRADIENTS) ? ofALayer(p, micros) : micros * (p.trained * p.width() + head);
    }

    /** The copy of the parameters from which the exact KL is measured. */
    private long oldPolicy(PlannedPolicy p) {
        final long computed = part(p.trained, Sharding.WEIGHTS);
        final int c = p.width();
        return !exactKl() ? 0 : offloads(p.on()) ? computed * (c + (finer(p) && !divides(Sharding.WEIGHTS) ? Float.BYTES : 0))
                : c == Float.BYTES ? computed * Float.BYTES : masters(p) + computed * c;
    }

    /** The input of each layer, which is kept for the backward pass where that goes layer by layer. */
    private long layerInputs(PlannedPolicy p) {
        return batchTokens() / config.rollout().maxNewTokens() * length() * (p.size.layers() + 2L) * p.size.hidden() * p.width();
    }

    private long activations(PlannedPolicy p) {
        final long all = TorchPolicy.micros(p.size, p.settings) * microTokens() * kept(p.size, p.width(), p.width() != Float.BYTES);
        return divides(Sharding.GRADIENTS) ? all / (p.size.layers() + 1) : all;
    }

    private long chunks(PlannedPolicy p) {
        final long chunk = Math.min(LinearLogProbs.CHUNK_BYTES, microTokens() * p.size.embedding().vocab() * Float.BYTES);
        final long each = chunk * (exactKl() ? 2 : 1) + chunk / 2;
        return TorchPolicy.micros(p.size, p.settings) * each + (exactKl() ? batchTokens() * p.size.hidden() * p.width() : 0);
    }

    /** On the CPU, of the old policy. */
    private long keptLogits(PlannedPolicy p) {
        return !exactKl() ? 0
                : Math.min((long) (config.hardware().memory().logits() * 1e9), batchTokens() * p.size.embedding().vocab() * Float.BYTES);
    }

    /** Keys and values. */
    private long cache(PlannedPolicy p) {
        return (long) (2.0 * p.size.layers() * p.size.attention().kvWidth() * p.width() * generated()
                * Math.min(length(), p.size.rope().positions()));
    }

    /** Activations and masks of prompts, and the f32 logits of a step. */
    private long prefill(PlannedPolicy p) {
        final long through = Math.min((long) config.optimiser().microBatchTokens(), (long) generated() * longest);
        return through * (longest + 4L * p.size.hidden() + 4 * p.size.attention().qWidth() + 3L * p.size.feedForward().width()) * p.width()
                + (long) generated() * p.size.embedding().vocab() * Float.BYTES;
    }

    /** Whether the KL over the full vocabulary is needed, and so the old policy. */
    private boolean exactKl() {
        return config.trustRegion().monitor() == Config.KlEstimator.EXACT || config.loss().klTerm() == SurrogateConfig.KlTerm.EXACT;
    }

    /** Whether the monitor evaluates the f32 weights of a policy in 16 bits. */
    private boolean finer(PlannedPolicy p) {
        return p.width() != Float.BYTES && config.trustRegion().monitorDtype() != Policy.Precision.SAME;
    }

    /**
     * The copies that an update makes besides the old policy of the exact KL, which on the device has a line of its own.
     *
     * @param microGradients bytes that are free while the KL floor is measured
     */
    private long copies(PlannedPolicy p, long microGradients) {
        final boolean offload = offloads(p.on());
        final boolean exact = exactKl();
        final long weights = atRest(p, p.width() == Float.BYTES ? part(p.trained, Sharding.WEIGHTS) * Float.BYTES : masters(p), 1);
        final long moments = atRest(p, moments(p), 2);
        // To bound an update's gain, the policy before it is restored with its optimiser to score episodes; the one after it is kept.
        final boolean bounded = config.certificate().bound() == Config.BoundKind.HORIZON;
        final boolean oneStep = config.optimiser().steps() == 1; // then the policy before the update is that before its last step
        long copies = exact && offload || !exact && bounded ? weights : 0; // parameters before the update
        if (config.trustRegion().rollback() && !(oneStep && bounded)) { // before the last step
            copies += (oneStep && exact ? 0 : weights) + moments;
        }
        if (bounded) { // parameters after the update, moments before and after it
            copies += weights + 2 * moments;
        }
        if (config.trustRegion().floor() != Config.FloorRule.IGNORE) { // measured from a copy of the parameters, before the first gradient
            copies = Math.max(copies, offload ? weights : weights - microGradients);
        }
        return copies;
    }

    private void add(String what, String on, long device, long host, When when) {
        final boolean cuda = !on.equals("cpu");
        if (device != 0 || host != 0) {
            rows.add(new Row(what, cuda ? on : null, Math.min(MOST, cuda ? device : 0), Math.min(MOST, cuda ? host : host + device), when));
        }
    }

    /** Messages that are generated at once. */
    private int generated() {
        final int bounded = config.certificate().bound() == Config.BoundKind.HORIZON ? config.certificate().prompts() : 0;
        final int evaluated = Math.max(bounded, config.eval().prompts() * config.eval().group());
        final int all = Math.max(episodes(), (int) ((evaluated + processes - 1L) / processes));
        final int most = config.hardware().memory().rows();
        return most == 0 ? all : Math.min(all, most);
    }

    /** {@return the most tokens of a prompt and its message} */
    private long length() {
        return (long) longest + config.rollout().maxNewTokens();
    }

    private int episodes() {
        final int learners = config.train().joint() ? 1 : (int) policies.stream().filter(PlannedPolicy::learns).count();
        return (int) ((config.rollout().promptsEach(learners) + processes - 1L) / processes) * config.rollout().group();
    }

    /** Of one learner's messages of a batch; agents that share a policy are assumed to write one after the other. */
    private long batchTokens() {
        final int turns = Math.max(1, config.team().turns() / Math.max(1, (int) policies.stream().filter(PlannedPolicy::learns).count()));
        return (long) Math.min(1e12, (double) episodes() * turns * config.rollout().maxNewTokens());
    }

    /** The tokens that go through the model at once: at least a message, and no more than there are. */
    private long microTokens() {
        return Math.max(length(), Math.min(config.optimiser().microBatchTokens(), episodes() * length()));
    }

    /**
     * Bytes for each token that a layer's operations keep for the way back, all layers together, and those of one layer's gradients:
     * in both norms input, normalised and output; q before and after its norm and rotated; k and v before, and repeated for every
     * head; attention's output twice; four of the MLP. Norms of 16-bit numbers keep two of these in f32.
     */
    private static long kept(ModelConfig c, int width, boolean halves) {
        final long h = c.hidden();
        final ModelConfig.Attention a = c.attention();
        final long q = a.qWidth();
        final long kv = a.kvWidth();
        final long normed = halves ? 5 : 3;
        final long headNorms = !a.qkNorm() ? 0 : halves ? 4 : 2;
        final long repeated = a.kvHeads() == a.heads() ? kv : q;
        return (c.layers() + 1L) * width * (2 * normed * h + (1 + headNorms) * q + headNorms * kv + 2 * repeated + 2 * q
                + 4L * c.feedForward().width());
    }

    // ---- sums and the table ----

    /** @param on a device, or null for the host */
    private long total(When when, String on) {
        return (long) (BESIDE * rows.stream().filter(r -> r.when == When.ALWAYS || r.when == when)
                .mapToLong(r -> on == null ? Math.max(r.host, 0) : on.equals(r.on) ? r.device : 0).sum());
    }

    private long most(String on) {
        return Math.max(total(When.GENERATING, on), total(When.LEARNING, on));
    }

    /** {@return bytes of the device that needs most, 0 without one, and of the host, at the most} */
    public long[] most() {
        return new long[] {devices.stream().mapToLong(this::most).max().orElse(0), most(null)};
    }

    private long has(String on) {
        final Config.Memory memory = config.hardware().memory();
        final double given = on == null ? memory.host() : memory.device();
        return given > 0 ? (long) (given * 1e9) / (on == null ? here : 1)
                : free.computeIfAbsent(on, d -> d == null ? Machine.hostFree() / here + resident : Machine.deviceFree(d));
    }

    /** {@return the table, a line for each thing, and below what there is} */
    public String table() {
        final String of = processes == 1 ? "memory in GB" : "GB of each process";
        final StringBuilder table = new StringBuilder(line(of + ", all messages of maximum length",
                on -> devices.size() == 1 ? "device" : on, "host"));
        for (Row row : rows) {
            table.append(line(row.what, on -> gb(on.equals(row.on) ? row.device : 0), row.host < 0 ? "" : gb(row.host)));
        }
        for (When when : List.of(When.GENERATING, When.LEARNING)) {
            table.append(line("in all, " + when.name().toLowerCase(Locale.ROOT) + " (" + Math.round(100 * (BESIDE - 1)) + " % for the rest)",
                    on -> gb(total(when, on)), gb(total(when, null))));
        }
        table.append(line("there is", on -> known(has(on)), known(has(null))));
        return table.toString();
    }

    private static String known(long bytes) {
        return bytes == 0 ? "?" : gb(bytes);
    }

    /** @param ofDevice gives the text of a device's column */
    private String line(String what, UnaryOperator<String> ofDevice, String host) {
        final StringBuilder line = new StringBuilder(String.format(Locale.ROOT, "%-52s", what));
        (devices.isEmpty() ? List.of("") : devices).forEach(on -> line.append(String.format(Locale.ROOT, " %8s", on.isEmpty() ? ""
                : ofDevice.apply(on))));
        return line.append(String.format(Locale.ROOT, " %8s%n", host)).toString();
    }

    private static String gb(long bytes) {
        return bytes == 0 ? "-" : bytes < 5_000_000 ? "<0.01" : String.format(Locale.ROOT, "%.2f", bytes * 1e-9);
    }

    /**
     * Refuses a run that does not fit.
     *
     * @throws ConfigException with the settings that would make it fit
     */
    public void check() throws ConfigException {
        if (fits()) {
            return;
        }
        final boolean host = has(null) > 0 && most(null) > has(null);
        final String full = host ? null : devices.stream().filter(on -> has(on) > 0 && most(on) > has(on)).findFirst().orElseThrow();
        final List<String> remedies = new ArrayList<>();
        MemoryPlan plan = this;
        if (!devices.isEmpty() && !config.hardware().memory().offload()) {
            plan = plan.with(true, plan.config.optimiser().microBatchTokens(), plan.config.hardware().memory().rows());
            remedies.add("hardware.memory.offload true");
        }
        if (host && !plan.fits(When.LEARNING, null) && rows.stream().anyMatch(row -> row.what.startsWith("learning: logits of the old policy"))) {
            plan = plan.with(0);
            remedies.add("hardware.memory.logits 0");
        }
        final int before = plan.config.optimiser().microBatchTokens();
        while (!plan.fits(When.LEARNING) && plan.config.optimiser().microBatchTokens() > LEAST_MICRO_BATCH) {
            plan = plan.with(plan.config.hardware().memory().offload(), plan.config.optimiser().microBatchTokens() / 2,
                    plan.config.hardware().memory().rows());
        }
        if (plan.config.optimiser().microBatchTokens() != before) {
            remedies.add("optimiser.micro_batch_tokens " + plan.config.optimiser().microBatchTokens());
        }
        int most = plan.generated();
        while (!plan.fits(When.GENERATING) && most > LEAST_ROWS) {
            most = Math.max(LEAST_ROWS, most / 2);
            plan = plan.with(plan.config.hardware().memory().offload(), plan.config.optimiser().microBatchTokens(), most);
        }
        if (plan.config.hardware().memory().rows() != config.hardware().memory().rows()) {
            remedies.add("hardware.memory.rows " + most);
        }
        final String where = String.format(Locale.ROOT, "memory: expected at most %.1f GB of %s, given a need of %.1f GB. ",
                has(full) * 1e-9, host ? "the host" : devices.size() == 1 ? "the device" : "device " + full, most(full) * 1e-9);
        throw new ConfigException(List.of(where + (plan.fits() ? "It fits with " + String.join(" and ", remedies)
                : "What there is to change: policies.<name>.lora.rank more than 0, policies.<name>.dtype bf16 or f16,"
                        + " rollout.max_new_tokens, a smaller model" + (remedies.isEmpty() ? "" : "; beside " + String.join(" and ", remedies)))));
    }

    private boolean fits() {
        return fits(When.GENERATING) && fits(When.LEARNING);
    }

    private boolean fits(When when) {
        return fits(when, null) && devices.stream().allMatch(on -> fits(when, on));
    }

    private boolean fits(When when, String on) {
        return has(on) == 0 || total(when, on) <= has(on);
    }

    /** @param logits GB of the old policy's that are kept */
    private MemoryPlan with(double logits) {
        final Config.Memory m = config.hardware().memory();
        return with(new Config.Memory(m.offload(), m.pinned(), m.rows(), logits, m.device(), m.host()), config.optimiser().microBatchTokens());
    }

    private MemoryPlan with(boolean offload, int microBatchTokens, int rowsAtOnce) {
        final Config.Memory m = config.hardware().memory();
        return with(new Config.Memory(offload, m.pinned(), rowsAtOnce, m.logits(), m.device(), m.host()), microBatchTokens);
    }

    private MemoryPlan with(Config.Memory memory, int microBatchTokens) {
        final Config c = config;
        final Config.Optimiser o = c.optimiser();
        final Config other = c.with(new Config.Optimiser(o.learningRate(), o.steps(), o.beta1(), o.beta2(), o.eps(), o.weightDecay(),
                o.maxGradNorm(), microBatchTokens)).with(c.hardware().with(memory));
        return new MemoryPlan(other, policies, longest, processes, here, resident, free);
    }
}
