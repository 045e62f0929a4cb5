package org.teamtr.train;

import com.fasterxml.jackson.annotation.JsonProperty;
import java.util.List;
import java.util.Map;
import org.teamtr.kernels.DType;
import org.teamtr.kernels.SurrogateConfig;

/**
 * Everything a run is made of, as in its {@code config.yaml}; the file with all defaults, {@code org/teamtr/config/defaults.yaml},
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

    /** What is to be done: the built-in game, prompts of a file with a verifier, or prompts that a program makes. */
    public record Task(String name, Budget budget, Files files, Generated generated, Environment environment) {
    }

    /** Prompts that a program makes, with a teacher. */
    public record Generated(String name, int size, int choices, int heldOut) {
    }

    /**
     * What answers the messages of an episode. {@code tools}: class names. {@code agents}: all, or a list of the roles that it hears.
     * {@code oracle}: script, a policy or an address; {@code oracleKey}: the environment variable that holds its key.
     */
    public record Environment(String name, int turns, boolean earlyStop, List<String> tools, Object agents, String oracle,
            String oracleModel, String oracleKey, int oracleTimeout, int oracleRetries, String database, String toolSchemas) {
    }

    /** The built-in "budget relay". */
    public record Budget(int agents, String view, double width, int heldOut) {
    }

    /**
     * Prompts of files. {@code votes}: how many of an episode's last messages give its answer. {@code dense}: whether a wrong answer
     * earns the share of it that is right. {@code lenient}: whether answers are looked for outside of boxes, too.
     */
    public record Files(String train, String eval, String promptColumn, String answerColumn, String idColumn, String sourceColumn,
            String verifier, int votes, double wrong, boolean dense, boolean lenient, String python) {
    }

    /** Who speaks when. {@code router}: round_robin, random, random_batch, a list of roles such as [planner, solver], or a class name. */
    public record Team(List<Agent> agents, Object router, int turns, String stop) {
    }

    /** One member. */
    public record Agent(String role, String policy, String system, String template, String message, String view, boolean frozen) {
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
    public record Train(int stages, Object order, Object agents, boolean joint) {
    }

    /**
     * What an update learns from. {@code resampleEvery}: 1 for fresh rollouts before every update, m for every m-th, 0 for the
     * stage's start only. {@code reuseShift}: the occupancy shift from which on rollouts are not used again.
     * {@code dynamicSampling}: how often groups of equal returns are replaced. {@code heldBack}: share of the prompts whose
     * episodes only measure the predicted gain. {@code budget}: update or stage, what {@code prompts} is the measure of.
     */
    public record Rollout(int prompts, int group, double heldBack, double temperature, long topK, double topP, double minP, int maxNewTokens,
            String truncation, int resampleEvery, double reuseShift, int dynamicSampling, boolean importanceWeighting,
            double importanceCap, String budget) {
        /**
         * {@return the prompts of each rollout}
         *
         * @param updates of a stage
         */
        public int promptsEach(int updates) {
            if (budget.equals("update")) {
                return prompts;
            }
            final int rollouts = resampleEvery == 0 ? 1 : (updates + resampleEvery - 1) / resampleEvery;
            return Math.max(1, prompts / Math.max(1, rollouts)); // a team that is only measured has no updates
        }
    }

    /**
     * δ, its monitor, and what keeps it. {@code delta}: a number, or a map from roles to numbers; {@code deltaFactor} times that
     * is the radius. {@code monitorDtype}: in which numbers the monitor evaluates policies. {@code floor}: what happens where
     * rounding alone passes δ.
     */
    public record TrustRegion(Object delta, double deltaFactor, Unit unit, String deltaRule, double deltaTarget, String monitor,
            Policy.Precision monitorDtype, double fraction, FloorRule floor, boolean earlyStop, boolean rollback,
            StepLength stepLength, int halvings, double beta, String betaRule, double betaMin, double betaMax, Accept accept) {
    }

    /** Which updates are kept. */
    public enum Accept {
        /** Those within the trust region. */
        REGION,
        /** Of these, the ones that the certificate's bound says gain. */
        CERTIFIED
    }

    /** What δ and the KL that it bounds are of. */
    public enum Unit {
        /** The sum over a message's tokens, mean over messages: Eq. 11. */
        @JsonProperty("message") MESSAGE,
        /** The mean over a message's tokens, mean over messages. */
        @JsonProperty("token") TOKEN;

        /** {@return how the tokens of a penalty of that unit become one number} */
        public SurrogateConfig.Aggregation aggregation() {
            return this == MESSAGE ? SurrogateConfig.Aggregation.SEQ_MEAN_TOKEN_SUM : SurrogateConfig.Aggregation.SEQ_MEAN_TOKEN_MEAN;
        }
    }

    /** What happens where rounding alone makes a KL of more than δ. */
    public enum FloorRule {
        /** The run ends. */
        REFUSE,
        /** It is said. */
        WARN,
        /** It is not measured. */
        IGNORE
    }

    /** Eq. 9 and 10. */
    public record Loss(String ratio, double clipLow, double clipHigh, String aggregation, String klTerm, String klAggregation,
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

    /** {@code threads}: 0 for the machine's processors. {@code device}: cpu or cuda. {@code matmul}: of f32 numbers. */
    public record Hardware(String device, int threads, Matmul matmul, Memory memory, Ranks ranks) {
        /** With the defaults for several ranks. */
        public Hardware(String device, int threads, Matmul matmul, Memory memory) {
            this(device, threads, matmul, memory, Ranks.DEFAULT);
        }
    }

    /**
     * Where several processes train together. {@code timeout}: seconds that one waits for another. {@code shard}: whether each
     * keeps a part of what the optimiser needs.
     */
    public record Ranks(double timeout, boolean shard) {
        /** What the defaults say. */
        public static final Ranks DEFAULT = new Ranks(600, false);
    }

    /**
     * {@code offload}: whether what only the learning policy needs leaves a CUDA device in between. {@code rows}: messages generated
     * at once, 0 for all. {@code device}, {@code host}: GB there are, 0 for what is free.
     */
    public record Memory(boolean offload, int rows, double device, double host) {
        /** What the defaults say. */
        public static final Memory DEFAULT = new Memory(true, 0, 0, 0);
    }

    /**
     * The certificate. {@code bound}: horizon or paper. {@code level}: with which probability a stage's bounds may be wrong.
     * {@code prompts}: that each bound is found from; {@code budget}: of a decision, with more of them. {@code halvings}: how often an update
     * that is not certified is shortened. {@code returnMin}, {@code returnMax}: null for what the verifier says. {@code check}: whether every
     * update's gain is measured on held-out episodes. {@code gamma}, {@code aMax}: of the paper's bound; null for what the rest of the
     * configuration says, and no such bound where that says nothing.
     */
    public record Bound(Kind bound, double level, int prompts, int budget, int halvings, Double returnMin, Double returnMax,
            boolean check, Double gamma, Double aMax) {
        /** {@return the paper's alone} */
        public static Bound paper(Double gamma, Double aMax) {
            return new Bound(Kind.PAPER, 0.05, 0, 0, 0, null, null, false, gamma, aMax);
        }
    }

    /** Which bound on an update's gain is the certificate. The paper's is always logged: it costs nothing. */
    public enum Kind {
        /** That of docs/theory.md, from episodes that nobody learns from. */
        HORIZON,
        /** That of Theorems 3.4 and 3.6, from the episodes that were learnt from. */
        PAPER
    }

    /** What is measured beside the training, at a price; it changes nothing of the run. */
    public record Diagnostics(boolean occupancy, boolean monitor, boolean logits, boolean coordination) {
        /** {@return whether something is to be measured of updates} */
        boolean ofUpdates() {
            return occupancy || monitor || logits;
        }
    }
}
