package org.teamtr.train;

import java.util.List;
import java.util.Map;

/** What a run writes down; docs/metrics.md explains every name. Sums over a message, means over messages, nats, seconds. */
public final class RunLog {
    private RunLog() {
    }

    /** One update, a line of {@code metrics.jsonl}. */
    public record Update(int stage, int step, String agent, List<String> order, Map<String, Long> policyVersions, int episodes,
            int dropped, int messages, long tokens, long trainedTokens, double returnMean, double accuracy, double surrogate,
            double predictedGain, double objective,
            double kl, double klMax, double klReached, double delta, double beta, double betaNext, int innerSteps, String stoppedBy, boolean rolledBack,
            int halvings, boolean outOfRegion, double clipFraction, double ess, double ratioMax, double scoreGap, double entropy,
            double gradNorm, boolean fresh, double shift, double secondsRollout, double secondsUpdate, double secondsKl) {
    }

    /** One stage, a line of {@code stages.jsonl}; stage 0 is the team before the first update. Gains are null where not measured. */
    public record Stage(int stage, List<String> order, double returnMean, double accuracy, Double predictedGain, Double realisedGain,
            Double realisedGainError, int heldOutEpisodes, double outOfRegionRate, long episodes, long tokens, double secondsRollout,
            double secondsUpdate, double secondsKl, double secondsEval, double seconds) {
    }

    /** An agent's new model, a line of {@code replacements.jsonl}; {@link Alignment} brought it into its place. */
    public record Replacement(int stage, String agent, String incumbent, String replacement, String align, List<String> unify,
            String system, String measure, int probes, int probesHeldBack, double delta0, double klSwapped, double klSwappedError,
            double kl, double klError, int steps, String stoppedBy, int heldOutEpisodes, Measured before, Measured swapped,
            Measured after, double shockSwapped, double shockSwappedError, double shock, double shockError, double seconds,
            String command) {
    }

    /** Held-out episodes of the team of a {@link Replacement} at one moment, with standard errors over the prompts. */
    public record Measured(double accuracy, double accuracyError, double returnMean, double returnError) {
    }

    /** One held-out episode, a line of {@code transcripts.jsonl}; the same prompts in every stage. */
    public record Transcript(int stage, String prompt, String text, String answer, double reward, boolean correct, List<Said> messages) {
    }

    /** One message of a {@link Transcript}. */
    public record Said(String role, String text, int tokens, boolean ended) {
    }
}
