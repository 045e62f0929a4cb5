package org.teamtr.train;

import com.fasterxml.jackson.annotation.JsonProperty;
import com.fasterxml.jackson.annotation.JsonUnwrapped;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/** The records of a run's files; docs/metrics.md explains every name. Sums over a message, means over messages, nats, seconds. */
public final class RunLog {
    private RunLog() {
    }

    /** One update, a line of {@code metrics.jsonl}. */
    public record Update(int stage, int step, String agent, List<String> order, Map<String, Long> policyVersions, int episodes,
            int dropped, int messages, long tokens, long trainedTokens, double returnMean, double accuracy, double surrogate,
            double predictedGain, double objective,
            double kl, double klMax, double klReached, double delta, double beta, double betaNext, int innerSteps, String stoppedBy,
            boolean rolledBack,
            int halvings, boolean outOfRegion, double clipFraction, double ess, double ratioMax, double scoreGap, double entropy,
            double gradNorm, boolean fresh, double shift, double secondsRollout, double secondsUpdate, double secondsKl,
            @JsonUnwrapped Certificate.Terms bound, @JsonUnwrapped Outcome outcome) {
        /** Builds the log of an update by name; fields that are not set have the values of an update that changed nothing. */
        public static final class Builder {
            public int stage;
            public int step;
            public String agent;
            public List<String> order = List.of();
            public Map<String, Long> policyVersions = Map.of();
            public int episodes;
            public int dropped;
            public int messages;
            public long tokens;
            public long trainedTokens;
            public double returnMean;
            public double accuracy;
            public double surrogate;
            public double predictedGain;
            public double objective;
            public double kl;
            public double klMax;
            public double klReached;
            public double delta;
            public double beta;
            public double betaNext;
            public int innerSteps;
            public String stoppedBy = "none";
            public boolean rolledBack;
            public int halvings;
            public boolean outOfRegion;
            public double clipFraction;
            public double ess = 1;
            public double ratioMax = 1;
            public double scoreGap;
            public double entropy = Double.NaN;
            public double gradNorm;
            public boolean fresh;
            public double shift = Double.NaN;
            public double secondsRollout;
            public double secondsUpdate;
            public double secondsKl;
            public Certificate.Terms bound = Certificate.Terms.NONE;
            public Outcome outcome = Outcome.PLAIN;

            /** {@return the log with what has been set} */
            public Update build() {
                return new Update(stage, step, agent, order, policyVersions, episodes, dropped, messages, tokens, trainedTokens, returnMean,
                        accuracy, surrogate, predictedGain, objective, kl, klMax, klReached, delta, beta, betaNext, innerSteps,
                        stoppedBy, rolledBack, halvings, outOfRegion, clipFraction, ess, ratioMax, scoreGap, entropy, gradNorm, fresh,
                        shift, secondsRollout, secondsUpdate, secondsKl, bound, outcome);
            }
        }
    }

    /**
     * The unit and the floor of an update's KL, and whether the update changed the policy.
     *
     * @param klFloor NaN where it was not measured
     * @param unchangedBy null where the policy was changed
     */
    public record Outcome(Config.Unit klUnit, double klFloor, int overflows, UnchangedReason unchangedBy) {
        /** Of an update that changed something, in a trust region of messages, with no floor measured. */
        public static final Outcome PLAIN = new Outcome(Config.Unit.MESSAGE, Double.NaN, 0, null);
    }

    /**
     * The monitor's value without a training step, beside δ.
     *
     * @param length mean tokens of the messages it was measured on
     */
    public record Floor(int stage, String agent, double kl, double delta, Config.Unit unit, double length) {
        /** {@return it in a line} */
        public String plainly() {
            return String.format(Locale.ROOT, "%s: delta %.3g, KL floor %.2g nat a %s by rounding alone (%.0f tokens each)", agent, delta,
                    kl, unit.name().toLowerCase(Locale.ROOT), length);
        }

        /** {@return a warning in one line, or null where it is far below δ} */
        public String warning() {
            return kl <= Monitor.WARNED * delta ? null : String.format(Locale.ROOT,
                    "%s: rounding is %.0f %% of delta: finer dtype or monitor_dtype, larger delta, or unit: token", agent, 100 * kl / delta);
        }
    }

    /** The times of each rank in one update, a line of {@code ranks.jsonl}, which only runs of several ranks have. */
    public record Ranks(int stage, int step, String agent, List<Rank> ranks) {
    }

    /**
     * Of one rank.
     *
     * @param secondsRollout of the latest rollout, including waits for the others' episodes
     * @param secondsUpdate of the update, including waits
     * @param secondsExchange since the previous update, of both and of evaluations: sending to the others and waiting for them
     * @param bytesSent counted from the sizes of what was exchanged
     */
    public record Rank(int rank, String name, double secondsRollout, double secondsUpdate, double secondsExchange, long bytesSent,
            long exchanges) {
    }

    /** One stage, a line of {@code stages.jsonl}; stage 0 is the team before the first update. */
    public record Stage(int stage, List<String> order, @JsonUnwrapped HeldOut heldOut, @JsonUnwrapped Gain gain, double outOfRegionRate,
            @JsonUnwrapped Spent spent, @JsonUnwrapped UnchangedReason.Counts unchanged, @JsonUnwrapped Certified certified) {
    }

    /** Held-out episodes after a stage, or the latest before it where none were played after it; then there are 0 of them. */
    public record HeldOut(double returnMean, double accuracy, int heldOutEpisodes, @JsonUnwrapped Coordination coordination) {
    }

    /** Of a stage, null where not measured. */
    public record Gain(Double predictedGain, Double realisedGain, Double realisedGainError) {
        public static final Gain NONE = new Gain(null, null, null);
    }

    /** The episodes, tokens and times of a stage. */
    public record Spent(long episodes, long tokens, double secondsRollout, double secondsUpdate, double secondsKl, double secondsEval,
            double seconds) {
    }

    /**
     * Sums of a stage's certificates in units of return, and the share of its updates whose bound by the paper is vacuous; NaN
     * without updates.
     */
    public record Certified(double lSeq, double zeta, double certificate, double certificateRadius, double vacuousRate,
            @JsonUnwrapped GainBound.Sum horizon) {
        public static final Certified NONE = new Certified(Double.NaN, Double.NaN, Double.NaN, Double.NaN, Double.NaN, GainBound.Sum.NONE);
    }

    /** Of held-out episodes, in percent; NaN where not measured. */
    public record Coordination(double coord, double coordHandOffs) {
        public static final Coordination NONE = new Coordination(Double.NaN, Double.NaN);
    }

    /**
     * The diagnosis of one update, a line of {@code diagnostics.jsonl}: NaN and empty where the configuration does not
     * ask for it.
     */
    public record Diagnosis(int stage, int step, String agent, @JsonUnwrapped Staleness staleness,
            @JsonUnwrapped Diagnostics.Weights weights, @JsonUnwrapped Monitored monitored, List<Double> logitShift,
            @JsonUnwrapped Played played) {
    }

    /** The staleness of the episodes that the update learnt from. */
    public record Staleness(double gap, double gapError, double deltaStale, double deltaStaleError, double dOcc) {
    }

    /** The monitor's KL after the update, of all messages and of a quarter and a half of them. */
    public record Monitored(boolean outOfRegion, double klReached, double delta, @JsonProperty("monitor_25") double monitor25,
            @JsonProperty("monitor_50") double monitor50) {
    }

    /** The episodes, tokens and time of a diagnosis. */
    public record Played(int episodes, long tokens, double seconds) {
    }

    /** An agent's new model, a line of {@code replacements.jsonl}; {@link Alignment} brought it into its place. */
    public record Replacement(int stage, String agent, @JsonUnwrapped Models models, @JsonUnwrapped Probes probing,
            @JsonUnwrapped Aligned aligned, @JsonUnwrapped Moments moments, double seconds, String command) {
    }

    /** The incumbent and its replacement, and how they were aligned. */
    public record Models(String incumbent, String replacement, String align, List<String> unify, String system) {
    }

    /** The messages on which the KL of a replacement was measured, and its radius. */
    public record Probes(String measure, Config.Unit klUnit, int probes, int probesHeldBack, double delta0) {
    }

    /** KL from the incumbent at the swap and after the alignment. */
    public record Aligned(double klSwapped, double klSwappedError, double kl, double klError, int steps, String stoppedBy) {
    }

    /** The team before, at the swap and after the alignment; a shock is the accuracy lost since before. */
    public record Moments(int heldOutEpisodes, Measured before, Measured swapped, Measured after, double shockSwapped,
            double shockSwappedError, double shock, double shockError) {
    }

    /** Held-out episodes of the team of a {@link Replacement} at one moment, with standard errors over the prompts. */
    public record Measured(double accuracy, double accuracyError, double returnMean, double returnError) {
    }

    /** One held-out episode, a line of {@code transcripts.jsonl}; the same prompts in every stage. */
    public record Transcript(int stage, String prompt, String text, String answer, double reward, boolean correct, List<Said> messages) {
    }

    /** One message of a {@link Transcript}. {@code observation}: what the environment answered to it, or null. */
    public record Said(String role, String text, int tokens, boolean ended, String observation) {
    }
}
