package org.teamtr.train;

import com.fasterxml.jackson.annotation.JsonCreator;
import com.fasterxml.jackson.annotation.JsonProperty;
import com.fasterxml.jackson.annotation.JsonValue;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.teamtr.kernels.DType;
import org.teamtr.kernels.SurrogateConfig;
import org.teamtr.task.generated.GeneratedTask;
import org.teamtr.team.Truncation;
import org.teamtr.team.View;

/**
 * The configuration of a run, as in its {@code config.yaml}; the file with all defaults, {@code org/teamtr/config/defaults.yaml},
 * says what each key means. {@code org.teamtr.config.ConfigFile} reads and checks it.
 */
public record Config(long seed, Task task, Team team, Map<String, Model> policies, WarmStart warmStart, Train train, Rollout rollout,
        TrustRegion trustRegion, Loss loss, Optimiser optimiser, Eval eval, Checkpoint checkpoint, Hardware hardware,
        Bound certificate, Diagnostics diagnostics) {

    /** {@return the same for another team} */
    public Config with(Team others, Map<String, Model> models) {
        return new Config(seed, task, others, models, warmStart, train, rollout, trustRegion, loss, optimiser, eval, checkpoint, hardware,
                certificate, diagnostics);
    }

    /** {@return the same on another machine} */
    public Config with(Hardware other) {
        return new Config(seed, task, team, policies, warmStart, train, rollout, trustRegion, loss, optimiser, eval, checkpoint, other,
                certificate, diagnostics);
    }

    /** {@return the same with another optimiser} */
    public Config with(Optimiser other) {
        return new Config(seed, task, team, policies, warmStart, train, rollout, trustRegion, loss, other, eval, checkpoint, hardware,
                certificate, diagnostics);
    }

    /** The task: the built-in game, prompts of a file with a verifier, or prompts that a program generates. */
    public record Task(TaskName name, Budget budget, Files files, Generated generated, Environment environment) {
    }

    /** Where prompts come from. */
    public enum TaskName {
        /** The built-in game. */
        BUDGET,
        /** Files, with a verifier. */
        FILES,
        /** A program. */
        GENERATED;

        /** {@return its name in files} */
        @Override
        public String toString() {
            return key(this);
        }
    }

    private static String key(Enum<?> constant) {
        return constant.name().toLowerCase(Locale.ROOT);
    }

    /** All agents, or those with some roles. In YAML {@code all} or a list. */
    public record Roles(List<String> some) {
        /** All agents. */
        public static final Roles ALL = new Roles(null);

        @JsonCreator(mode = JsonCreator.Mode.DELEGATING)
        static Roles of(Object yaml) {
            return yaml instanceof List<?> list ? new Roles(texts(list)) : ALL;
        }

        @JsonValue
        Object yaml() {
            return some == null ? "all" : some;
        }

        /** {@return whether an agent with this role is one of them} */
        public boolean contains(String role) {
            return some == null || some.contains(role);
        }

        /** {@return the roles that are named; empty for all} */
        public List<String> named() {
            return some == null ? List.of() : some;
        }

        @Override
        public String toString() {
            return yaml().toString();
        }
    }

    /**
     * In which order agents are updated. In YAML {@code fixed}, {@code reversed}, {@code random}, or a list of roles.
     *
     * @param roles of {@link Kind#LISTED}, otherwise empty
     */
    public record Order(Kind kind, List<String> roles) {
        /** How it is said. */
        public enum Kind {
            /** That of the team. */
            FIXED,
            /** The other way round. */
            REVERSED,
            /** Drawn anew in every stage. */
            RANDOM,
            /** That of {@link Order#roles}. */
            LISTED
        }

        @JsonCreator(mode = JsonCreator.Mode.DELEGATING)
        public static Order of(Object yaml) {
            return yaml instanceof List<?> list ? new Order(Kind.LISTED, texts(list))
                    : new Order(Kind.valueOf(yaml.toString().toUpperCase(Locale.ROOT)), List.of());
        }

        @JsonValue
        Object yaml() {
            return kind == Kind.LISTED ? roles : key(kind);
        }
    }

    /**
     * Which agent writes next. In YAML {@code round_robin}, {@code random}, {@code random_batch}, a list of roles, or a class name.
     *
     * @param roles of {@link Kind#SEQUENCE}, otherwise empty
     * @param type of {@link Kind#CLASS}, otherwise null
     */
    public record Routing(Kind kind, List<String> roles, String type) {
        /** How it is said. */
        public enum Kind {
            /** In the order of the team, repeatedly. */
            ROUND_ROBIN,
            /** Drawn for each episode separately. */
            RANDOM,
            /** One draw for all episodes of a batch. */
            RANDOM_BATCH,
            /** The roles in this order, once. */
            SEQUENCE,
            /** A class that implements {@link org.teamtr.team.Router}. */
            CLASS
        }

        @JsonCreator(mode = JsonCreator.Mode.DELEGATING)
        static Routing of(Object yaml) {
            if (yaml instanceof List<?> list) {
                return new Routing(Kind.SEQUENCE, texts(list), null);
            }
            for (Kind kind : List.of(Kind.ROUND_ROBIN, Kind.RANDOM, Kind.RANDOM_BATCH)) {
                if (key(kind).equals(yaml)) {
                    return new Routing(kind, List.of(), null);
                }
            }
            return new Routing(Kind.CLASS, List.of(), yaml.toString());
        }

        @JsonValue
        Object yaml() {
            return kind == Kind.SEQUENCE ? roles : kind == Kind.CLASS ? type : key(kind);
        }
    }

    /**
     * δ of Eq. 11 in nats. In YAML a number, or a map from roles to numbers.
     *
     * @param all of every agent, unless there is a map
     * @param byRole null where all have the same
     */
    public record Radius(double all, Map<String, Double> byRole) {
        @JsonCreator(mode = JsonCreator.Mode.DELEGATING)
        public static Radius of(Object yaml) {
            if (yaml instanceof Number number) {
                return new Radius(number.doubleValue(), null);
            }
            final Map<String, Double> byRole = new LinkedHashMap<>();
            ((Map<?, ?>) yaml).forEach((role, delta) -> byRole.put(role.toString(), ((Number) delta).doubleValue()));
            return new Radius(Double.NaN, byRole);
        }

        @JsonValue
        Object yaml() {
            return byRole == null ? (Object) all : byRole;
        }

        /** {@return that of an agent with this role} */
        public double forRole(String role) {
            return byRole == null ? all : byRole.get(role);
        }

        /** {@return all that are given} */
        public Collection<Double> values() {
            return byRole == null ? List.of(all) : byRole.values();
        }

        @Override
        public String toString() {
            return yaml().toString();
        }
    }

    private static List<String> texts(List<?> list) {
        return list.stream().map(String::valueOf).toList();
    }

    /** Prompts that a program generates, with a teacher. */
    public record Generated(GeneratedTask.Name name, int size, int choices, int heldOut) {
    }

    /**
     * The environment that answers the messages of an episode. {@code tools}: class names. {@code agents}: all, or a list of the roles
     * whose messages it receives. {@code oracle}: script, a policy or an address; {@code oracleKey}: the environment variable that holds
     * its key.
     */
    public record Environment(String name, int turns, boolean earlyStop, List<String> tools, Roles agents, String oracle,
            String oracleModel, String oracleKey, int oracleTimeout, int oracleRetries, String database, String toolSchemas) {
    }

    /** The built-in "budget relay". */
    public record Budget(int agents, View view, double width, int heldOut) {
    }

    /**
     * Prompts of files. {@code votes}: how many of an episode's last messages give its answer. {@code dense}: whether the reward of a wrong
     * answer grows with the part of it that is right. {@code lenient}: whether answers outside of boxes are read, too.
     */
    public record Files(String train, String eval, String promptColumn, String answerColumn, String idColumn, String sourceColumn,
            String verifier, int votes, double wrong, boolean dense, boolean lenient, String python) {
    }

    /**
     * The agents and the order in which they write. {@code router}: round_robin, random, random_batch, a list of roles such as [planner,
     * solver], or a class name.
     */
    public record Team(List<Agent> agents, Routing router, int turns, String stop) {
    }

    /** One member. */
    public record Agent(String role, String policy, String system, String template, String message, View view, boolean frozen) {
    }

    /**
     * A model: {@code tiny} for the built-in one, otherwise a folder in the Hugging Face layout, of which random takes no weights.
     * {@code device}: cpu, cuda or cuda:N, or null for that of {@link Hardware}.
     */
    public record Model(String model, boolean random, DType dtype, Lora lora, boolean thinking, String device) {
        /** On the device of {@link Hardware}. */
        public Model(String model, boolean random, DType dtype, Lora lora, boolean thinking) {
            this(model, random, dtype, lora, thinking, null);
        }
    }

    /** Low-rank adaptation; rank 0 for none. */
    public record Lora(int rank, double alpha, List<String> targets) {
    }

    /**
     * Supervised imitation before the first stage, of the built-in model. {@code layers}, {@code width}: of that model. {@code mistakes}:
     * the share of a teacher's messages that are wrong.
     */
    public record WarmStart(int layers, int width, int steps, int batch, double learningRate, double mistakes) {
    }

    /** The stage loop. {@code order}: fixed, reversed, random, or a list of roles. {@code agents}: all, or a list of roles. */
    public record Train(int stages, Order order, Roles agents, boolean joint) {
    }

    /**
     * The episodes that an update learns from. {@code resampleEvery}: 1 for fresh rollouts before every update, m for every m-th, 0 for the
     * stage's start only. {@code reuseShift}: rollouts are reused while their occupancy shift is less. {@code dynamicSampling}: how often
     * groups of equal returns are replaced. {@code validationFraction}: share of the prompts whose episodes are not learnt from, and only
     * measure the predicted gain.
     */
    public record Rollout(int prompts, int group, double validationFraction, double temperature, long topK, double topP, double minP,
            int maxNewTokens, Truncation truncation, int resampleEvery, double reuseShift, int dynamicSampling, boolean importanceWeighting,
            double importanceCap, PromptsPer promptsPer) {
        /**
         * {@return the prompts of each rollout}
         *
         * @param updates of a stage
         */
        public int promptsEach(int updates) {
            if (promptsPer == PromptsPer.UPDATE) {
                return prompts;
            }
            final int rollouts = resampleEvery == 0 ? 1 : (updates + resampleEvery - 1) / resampleEvery;
            return Math.max(1, prompts / Math.max(1, rollouts)); // a team that is only measured has no updates
        }
    }

    /** The meaning of {@link Rollout#prompts}. */
    public enum PromptsPer {
        /** The prompts of every rollout. */
        UPDATE,
        /** Those of all rollouts of a stage together. */
        STAGE
    }

    /**
     * δ, its monitor, and how it is enforced. {@code deltaFactor} times {@code delta} is the radius. {@code monitorDtype}: the format in
     * which the monitor evaluates policies. {@code floor}: what happens where rounding alone exceeds δ.
     */
    public record TrustRegion(Radius delta, double deltaFactor, Unit unit, DeltaRule deltaRule, double deltaTarget, KlEstimator monitor,
            Policy.Precision monitorDtype, double fraction, FloorRule floor, boolean earlyStop, boolean rollback,
            StepLength stepLength, int halvings, double beta, BetaRule betaRule, double betaMin, double betaMax, Accept accept) {
    }

    /** How δ changes after an update. */
    public enum DeltaRule {
        /** It stays. */
        FIXED,
        /** It is adapted to the KL that was reached. */
        ADAPTIVE
    }

    /** How β changes after an update. */
    public enum BetaRule {
        /** β is 0. */
        NONE,
        /** It stays. */
        FIXED,
        /** It doubles or halves by the KL that was reached. */
        ADAPTIVE
    }

    /** How Eq. 11 is measured. */
    public enum KlEstimator {
        /** Mean of log old - log new of the tokens that were sampled. */
        K1,
        /** Mean of r - 1 - log r, r = new / old. */
        K3,
        /** Over the full vocabulary. */
        EXACT
    }

    /** How the KL term's tokens are aggregated. */
    public enum KlAggregation {
        /** By the unit of the trust region. */
        UNIT,
        /** The mean over all tokens. */
        TOKEN_MEAN,
        /** The mean over messages of the sum over their tokens. */
        SEQ_MEAN_TOKEN_SUM,
        /** The mean over messages of the mean over their tokens. */
        SEQ_MEAN_TOKEN_MEAN;

        /** {@return the same for the kernels} */
        public SurrogateConfig.Aggregation of(Unit unit) {
            return this == UNIT ? unit.aggregation() : SurrogateConfig.Aggregation.valueOf(name());
        }
    }

    /** Which updates are kept. */
    public enum Accept {
        /** Those within the trust region. */
        REGION,
        /** Of these, the ones whose bound on the gain is positive. */
        CERTIFIED
    }

    /** The unit of δ and of the KL that it bounds. */
    public enum Unit {
        /** The sum over a message's tokens, mean over messages: Eq. 11. */
        @JsonProperty("message") MESSAGE,
        /** The mean over a message's tokens, mean over messages. */
        @JsonProperty("token") TOKEN;

        /** {@return how the tokens of a penalty of that unit are aggregated} */
        public SurrogateConfig.Aggregation aggregation() {
            return this == MESSAGE ? SurrogateConfig.Aggregation.SEQ_MEAN_TOKEN_SUM : SurrogateConfig.Aggregation.SEQ_MEAN_TOKEN_MEAN;
        }
    }

    /** What happens where rounding alone gives a KL of more than δ. */
    public enum FloorRule {
        /** The run ends. */
        REFUSE,
        /** The run continues with a warning. */
        WARN,
        /** It is not measured. */
        IGNORE
    }

    /** Eq. 9 and 10. */
    public record Loss(SurrogateConfig.Ratio ratio, double clipLow, double clipHigh, SurrogateConfig.Aggregation aggregation,
            SurrogateConfig.KlTerm klTerm, KlAggregation klAggregation,
            double entropy, double advantageClip, double epsNorm, boolean normalise) {
    }

    /** AdamW. */
    public record Optimiser(double learningRate, int steps, double beta1, double beta2, double eps, double weightDecay,
            double maxGradNorm, int microBatchTokens) {
    }

    /** Held-out episodes, for accuracy and realised gain. {@code every}: stages between two; 0 for the start and the end only. */
    public record Eval(int every, int prompts, int group, double temperature, double topP, int transcripts) {
    }

    /** Stages between two checkpoints, and how many are kept. */
    public record Checkpoint(int every, int keep) {
    }

    /**
     * {@code threads}: 0 for the machine's processors. {@code device}: cpu or cuda. {@code matmul}: of f32 numbers. {@code cudaGraphs}:
     * whether a decoding step on CUDA is launched as a graph. {@code flashAttention}: whether an update on CUDA computes the attention of all
     * sequences of a micro-batch in one call.
     */
    public record Hardware(String device, int threads, Matmul matmul, boolean cudaGraphs, boolean flashAttention, Memory memory, Ranks ranks) {
        /** With the defaults for several ranks, and without what has never run on a GPU. */
        public Hardware(String device, int threads, Matmul matmul, Memory memory) {
            this(device, threads, matmul, false, false, memory, Ranks.DEFAULT);
        }

        /** {@return the same on another device, with other threads} */
        public Hardware on(String other, int count) {
            return new Hardware(other, count, matmul, cudaGraphs, flashAttention, memory, ranks);
        }

        /** {@return the same with other memory} */
        public Hardware with(Memory other) {
            return new Hardware(device, threads, matmul, cudaGraphs, flashAttention, other, ranks);
        }
    }

    /**
     * Where several processes train together. {@code timeout}: seconds that one waits for another. {@code shard}: which parts of the
     * learning policy's state are divided among them.
     */
    public record Ranks(double timeout, Sharding shard) {
        /** What the defaults say. */
        public static final Ranks DEFAULT = new Ranks(600, Sharding.NONE);
    }

    /**
     * {@code offload}: whether data that only a learning policy needs is moved from a CUDA device to the host in between. {@code pinned}:
     * whether it goes to page-locked memory. {@code rows}: messages generated at once, 0 for all. {@code logits}: GB of the host for the
     * old policy's logits during an update, of policies on the CPU. {@code device}, {@code host}: GB there are, 0 for what is free.
     */
    public record Memory(boolean offload, boolean pinned, int rows, double logits, double device, double host) {
        /** What the defaults say. */
        public static final Memory DEFAULT = new Memory(true, false, 0, 3, 0, 0);
    }

    /**
     * The certificate. {@code bound}: horizon or paper. {@code level}: the probability with which a stage's bounds may be wrong.
     * {@code prompts}: from which each bound is computed; {@code budget}: the largest number of prompts for a decision. {@code halvings}:
     * how often an update that is not certified is shortened. {@code returnMin}, {@code returnMax}: null for the verifier's range.
     * {@code check}: whether every update's gain is measured on held-out episodes. {@code gamma}, {@code aMax}: of the paper's bound; null
     * for values implied by the rest of the configuration, and no such bound where there are none.
     */
    public record Bound(BoundKind bound, double level, int prompts, int budget, int halvings, Double returnMin, Double returnMax,
            boolean check, Double gamma, Double aMax) {
        /** {@return the paper's alone} */
        public static Bound paper(Double gamma, Double aMax) {
            return new Bound(BoundKind.PAPER, 0.05, 0, 0, 0, null, null, false, gamma, aMax);
        }
    }

    /** Which bound on an update's gain is the certificate. The paper's is always logged: it costs nothing. */
    public enum BoundKind {
        /** That of docs/theory.md, from episodes that no update learns from. */
        HORIZON,
        /** That of Theorems 3.4 and 3.6, from the episodes that were learnt from. */
        PAPER
    }

    /** Additional measurements, which take time but do not change the training. */
    public record Diagnostics(boolean occupancy, boolean monitor, boolean logits, boolean coordination) {
        /** {@return whether updates are measured} */
        boolean ofUpdates() {
            return occupancy || monitor || logits;
        }
    }
}
