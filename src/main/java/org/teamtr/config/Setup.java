package org.teamtr.config;

import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;
import java.util.function.Predicate;
import java.util.stream.IntStream;
import org.teamtr.distributed.Ranks;
import org.teamtr.kernels.DType;
import org.teamtr.kernels.SamplingConfig;
import org.teamtr.task.Budget;
import org.teamtr.task.UserClass;
import org.teamtr.task.environment.ChatEndpoint;
import org.teamtr.task.environment.ScriptedOracle;
import org.teamtr.task.generated.GeneratedTask;
import org.teamtr.team.Agent;
import org.teamtr.team.KeyedRandom;
import org.teamtr.team.Context;
import org.teamtr.team.Generation;
import org.teamtr.team.Oracle;
import org.teamtr.team.PromptTemplate;
import org.teamtr.team.Prompts;
import org.teamtr.team.Router;
import org.teamtr.team.Speaker;
import org.teamtr.team.Team;
import org.teamtr.team.Truncation;
import org.teamtr.team.Verifier;
import org.teamtr.torch.AdamWSettings;
import org.teamtr.torch.Libtorch;
import org.teamtr.torch.TeamMemory;
import org.teamtr.torch.TorchPolicy;
import org.teamtr.torch.TorchRanks;
import org.teamtr.train.Config;
import org.teamtr.train.Learner;
import org.teamtr.train.Trainer;

/** Loads what a configuration describes: policies, team, prompts, verifier. */
public final class Setup implements AutoCloseable {
    public final Config config;
    private final TorchRanks ranks;
    private final TaskData data;
    public final Map<String, TorchPolicy> policies = new LinkedHashMap<>();
    public final Team team;
    public final List<Learner> learners;
    public final Prompts prompts;
    public final Prompts heldOut;
    /** Scores episodes: the environment where there is one, otherwise the verifier. */
    public final Verifier verifier;

    /**
     * @param config as {@link #resolved} gives it
     * @param run the run directory; the built-in model is kept there
     * @param note receives a line before each step that takes long
     */
    public Setup(Config config, Path run, Consumer<String> note) throws IOException {
        this(config, run, note, null);
    }

    /** @param ranks that train the team together; null for one process */
    public Setup(Config config, Path run, Consumer<String> note, TorchRanks ranks) throws IOException {
        this.config = config;
        this.ranks = ranks;
        final List<String> missing = missingDevices(config);
        if (!missing.isEmpty()) {
            throw new IOException(String.join(System.lineSeparator(), missing));
        }
        final TeamMemory memory = memory(config, ranks);
        this.data = TaskData.read(config, oracle(config, run, memory, note));
        this.prompts = data.train();
        this.heldOut = data.heldOut();
        this.verifier = data.verifier();
        try {
            for (String name : config.policies().keySet()) {
                final boolean speaks = config.team().agents().stream().anyMatch(a -> a.policy().equals(name));
                if (speaks && !policies.containsKey(name)) { // a variant may bring a team of its own
                    policies.put(name, policy(config, name, run, memory, note));
                }
            }
            team = team(config, policies);
            learners = learners(config, team, policies);
        } catch (IOException | RuntimeException e) {
            close();
            throw e;
        }
    }

    /** Null where none is configured. */
    private Oracle oracle(Config config, Path run, TeamMemory memory, Consumer<String> note) throws IOException {
        final Config.Environment e = config.task().environment();
        if (e.oracle() == null || e.oracle().equals("script")) {
            return e.oracle() == null ? null : new ScriptedOracle();
        }
        if (e.oracle().matches("https?://.+")) {
            final String key = e.oracleKey() == null ? null : System.getenv(e.oracleKey());
            if (e.oracleKey() != null && key == null) {
                throw new IOException("task.environment.oracle_key: expected an environment variable that is set, given " + e.oracleKey());
            }
            return new ChatEndpoint(e.oracle(), e.oracleModel(), key, ChatEndpoint.Patience.of(e.oracleTimeout(), e.oracleRetries()));
        }
        final TorchPolicy policy = policy(config, e.oracle(), run, memory, note);
        policies.put(e.oracle(), policy);
        return Oracle.of(policy, new Generation(0.7, SamplingConfig.ALL.withTopP(0.7f), config.rollout().maxNewTokens(), Truncation.LEFT));
    }

    public Trainer trainer() {
        return new Trainer(config, team, learners, prompts, heldOut, verifier, ranks == null ? Ranks.ONE : ranks);
    }

    /** {@return which devices of the team's policies are not there, and why; a line for each key} */
    public static List<String> missingDevices(Config config) {
        final Map<String, String> devices = new LinkedHashMap<>();
        config.policies().forEach((name, model) -> {
            if (config.team().agents().stream().anyMatch(a -> a.policy().equals(name))) {
                devices.put(model.device() == null ? "hardware.device" : "policies." + name + ".device", settings(config, model).device());
            }
        });
        final List<String> missing = new ArrayList<>();
        devices.forEach((key, device) -> {
            final String reason = Libtorch.missing(device);
            if (reason != null) {
                missing.add(key + ": " + reason);
            }
        });
        return missing;
    }

    /** Makes the built-in model, where it is used; one rank makes it for all. */
    public static void prepare(Config config, Path run, Consumer<String> note) throws IOException {
        if (config.policies().values().stream().anyMatch(model -> model.model().equals("tiny"))) {
            TinyModel.folder(config, run, note);
        }
    }

    public static boolean isBudget(Config config) {
        return config.task().name() == Config.TaskName.BUDGET;
    }

    public static boolean isGenerated(Config config) {
        return config.task().name() == Config.TaskName.GENERATED;
    }

    /** {@return the task whose prompts a program makes} */
    public static GeneratedTask generated(Config config) {
        final Config.Generated g = config.task().generated();
        return GeneratedTask.named(g.name(), g.size(), g.choices());
    }

    /** {@return the game for as many numbers as the team has turns} */
    public static Budget budget(Config config) {
        return new Budget(config.team().turns(), config.task().budget().width());
    }

    /** {@return the prompts of a file, in the columns of the task, which the team can be asked and the verifier can score} */
    public Prompts prompts(Path file, Consumer<String> note) throws IOException {
        final Prompts all = TaskData.prompts(config, verifier, file);
        TaskData.check(config, team, verifier, all, all.size(), "prompts of " + file, note);
        return all;
    }

    /** {@return the held-out prompts that are evaluated}, which the team can be asked */
    public Prompts evaluated(Consumer<String> note) throws IOException {
        final int n = Math.min(config.eval().prompts(), heldOut.size());
        TaskData.check(config, team, verifier, heldOut, n, "held-out prompts", note);
        return heldOut.part(0, n);
    }

    /** Checks every prompt before the first is drawn; see {@link TaskData#check}. */
    public void checkPrompts(Consumer<String> note) throws IOException {
        data.check(config, team, note);
    }

    /**
     * Fills in what a configuration leaves to the program: the team of the budget task, turns, threads, the certificate's
     * constants.
     */
    public static Config resolved(Config c) {
        List<Config.Agent> agents = c.team().agents();
        Map<String, Config.Model> policies = c.policies();
        if (isBudget(c) && agents.isEmpty()) {
            final PromptTemplate t = Budget.TEMPLATE;
            final Config.Lora none = new Config.Lora(0, 64,
                    List.of("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"));
            final List<String> roles = IntStream.range(0, c.task().budget().agents()).mapToObj(Budget::role).toList();
            agents = roles.stream().map(role -> new Config.Agent(role, role, t.system(), t.user(), t.message(), c.task().budget().view(),
                    false)).toList();
            policies = new LinkedHashMap<>(policies);
            for (String role : roles) {
                policies.putIfAbsent(role, new Config.Model("tiny", false, DType.F32, none, false));
            }
        }
        final int turns = c.team().turns() > 0 ? c.team().turns()
                : c.team().router().kind() == Config.Routing.Kind.SEQUENCE ? c.team().router().roles().size() : agents.size();
        final int threads = c.hardware().threads() > 0 ? c.hardware().threads() : Runtime.getRuntime().availableProcessors();
        return new Config(c.seed(), c.task(), new Config.Team(agents, c.team().router(), turns, c.team().stop()), policies,
                c.warmStart(), c.train(), c.rollout(), c.trustRegion(), c.loss(), c.optimiser(), c.eval(), c.checkpoint(),
                c.hardware().on(c.hardware().device(), threads),
                bound(c.certificate(), 1 - 1.0 / turns, aMax(c)), c.diagnostics());
    }

    private static Config.Bound bound(Config.Bound b, double gamma, Double aMax) {
        return new Config.Bound(b.bound(), b.level(), b.prompts(), b.budget(), b.halvings(), b.returnMin(), b.returnMax(), b.check(),
                b.gamma() != null ? b.gamma() : Double.valueOf(gamma), b.aMax() != null ? b.aMax() : aMax);
    }

    /**
     * The largest possible advantage, or null where nothing bounds it. A normalised one of a group of G is never more than sqrt(G - 1).
     */
    private static Double aMax(Config c) {
        final double most = Math.min(c.loss().advantageClip(), c.loss().normalise() ? Math.sqrt(c.rollout().group() - 1)
                : Double.POSITIVE_INFINITY);
        final double weight = !c.rollout().importanceWeighting() ? 1
                : c.rollout().importanceCap() > 0 ? Math.max(1, c.rollout().importanceCap()) : Double.POSITIVE_INFINITY;
        return Double.isInfinite(most * weight) ? null : Double.valueOf(most * weight);
    }

    /**
     * {@return a model of the configuration; parameters as in {@link #Setup}}
     *
     * @param memory of its team
     */
    public static TorchPolicy policy(Config config, String name, Path run, TeamMemory memory, Consumer<String> note) throws IOException {
        final Config.Model model = config.policies().get(name);
        final Path folder = model.model().equals("tiny") ? TinyModel.folder(config, run, note) : Path.of(model.model());
        final TorchPolicy.Settings settings = settings(config, model);
        // Random adapters go over random weights that are the folder's and not the policy's, as those that are read are.
        final long seed = KeyedRandom.seed(config.seed(), (model.lora().rank() > 0 ? model.model() : name).hashCode());
        final TorchPolicy policy = model.random() ? TorchPolicy.random(folder, settings, seed, memory)
                : TorchPolicy.load(folder, settings, memory);
        if (!model.model().equals("tiny")) {
            policy.notes().forEach(sentence -> note.accept(name + ": " + sentence));
        }
        return policy;
    }

    /** {@return what policies of a configuration share} */
    public static TeamMemory memory(Config config) {
        return memory(config, null);
    }

    private static TeamMemory memory(Config config, TorchRanks ranks) {
        final Config.Memory m = config.hardware().memory();
        return new TeamMemory(m.offload(), m.pinned(), (long) (m.logits() * 1e9), ranks, config.hardware().ranks().shard());
    }

    public static TorchPolicy.Settings settings(Config c, Config.Model m) {
        final Config.Optimiser o = c.optimiser();
        return TorchPolicy.Settings.on(m.device() != null ? m.device() : c.hardware().device(), c.hardware().threads())
                .with(m.dtype(), c.hardware().matmul())
                .with(m.lora())
                .withThinking(m.thinking())
                .with(new AdamWSettings(o.beta1(), o.beta2(), o.eps(), o.weightDecay(), o.maxGradNorm()))
                .with(new TorchPolicy.AtOnce(o.microBatchTokens(), c.hardware().memory().rows(), c.hardware().cudaGraphs(),
                        c.hardware().flashAttention()));
    }

    public static Team team(Config c, Map<String, ? extends Speaker> policies) {
        final List<Agent> agents = new ArrayList<>();
        for (Config.Agent a : c.team().agents()) {
            agents.add(new Agent(a.role(), policies.get(a.policy()), new PromptTemplate(a.system(), a.template(), a.message()),
                    a.view(), a.frozen()));
        }
        final String stop = c.team().stop();
        final Predicate<Context> stops = stop == null ? context -> false : context -> context.last().text().contains(stop);
        return new Team(agents, router(c), c.team().turns(), stops);
    }

    private static Router router(Config c) {
        final Config.Routing turns = c.team().router();
        return switch (turns.kind()) {
            case ROUND_ROBIN -> Router.ROUND_ROBIN;
            case RANDOM -> Router.RANDOM;
            case RANDOM_BATCH -> Router.RANDOM_BATCH;
            case SEQUENCE -> {
                final List<String> all = c.team().agents().stream().map(Config.Agent::role).toList();
                yield Router.sequence(turns.roles().stream().mapToInt(all::indexOf).toArray());
            }
            case CLASS -> UserClass.make(turns.type(), Router.class, "team.router");
        };
    }

    /** One learner for every policy that a trained agent uses. */
    public static List<Learner> learners(Config c, Team team, Map<String, TorchPolicy> policies) {
        final List<Learner> learners = new ArrayList<>();
        policies.forEach((name, policy) -> {
            final List<Integer> agents = IntStream.range(0, team.agents().size()).filter(a -> team.agents().get(a).speaker() == policy)
                    .boxed().toList();
            final List<String> roles = agents.stream().map(a -> team.agents().get(a).role()).toList();
            final boolean trained = agents.stream().anyMatch(a -> !team.agents().get(a).frozen()
                    && c.train().agents().contains(team.agents().get(a).role()));
            if (trained) {
                final double radius = roles.stream().mapToDouble(c.trustRegion().delta()::forRole).min().orElseThrow();
                learners.add(new Learner(String.join("+", roles), policy, agents, c.trustRegion().deltaFactor() * radius,
                        c.trustRegion().beta()));
            }
        });
        return learners;
    }

    @Override
    public void close() {
        policies.values().forEach(TorchPolicy::close);
    }
}
