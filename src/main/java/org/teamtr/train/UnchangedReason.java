package org.teamtr.train;

import com.fasterxml.jackson.annotation.JsonProperty;
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/** Why an update did not change its policy. */
public enum UnchangedReason {
    /** The agent said nothing. */
    @JsonProperty("silent") SILENT("the agent said nothing in the episodes", "team.router and team.turns say who speaks"),
    /** Every advantage was 0. */
    @JsonProperty("equal_returns") EQUAL_RETURNS("all episodes of each prompt earned the same, so there was nothing to learn from",
            "prompts that are neither too easy nor too hard, a larger rollout.group, or rollout.dynamic_sampling"),
    /** The gradient was 0. */
    @JsonProperty("zero_gradient") ZERO_GRADIENT("the gradient was 0",
            "a higher rollout.temperature if the policy is sure of every token, or another policies.<name>.dtype if gradients are too"
                    + " small for it"),
    /** No part of the first step was within δ. */
    @JsonProperty("rolled_back") ROLLED_BACK("no part of the first step stayed within trust_region.delta, so all of it was rolled back",
            "a smaller optimiser.learning_rate"),
    /** The bound on its gain was not positive. */
    @JsonProperty("not_certified") NOT_CERTIFIED("their gain was not certified, and trust_region.accept is certified",
            "more certificate.prompts, a certificate.budget, or a larger rollout for updates that gain more");

    private static final String FINER = "a finer policies.<name>.dtype (f16 or f32), trust_region.monitor_dtype: f32, or a larger"
            + " trust_region.delta";

    private final String why;
    private final String remedy;

    UnchangedReason(String why, String remedy) {
        this.why = why;
        this.remedy = remedy;
    }

    /** How many updates of some changed nothing, by reason, and how many gradients overflowed in all of them. */
    public record Counts(int unchangedSilent, int unchangedEqualReturns, int unchangedZeroGradient, int unchangedRolledBack,
            int unchangedNotCertified, int overflows) {
        /** No updates. */
        public static final Counts NONE = new Counts(0, 0, 0, 0, 0, 0);

        /** {@return the counts of these updates} */
        public static Counts of(List<RunLog.Update> updates) {
            final Map<UnchangedReason, Integer> n = new EnumMap<>(UnchangedReason.class);
            updates.stream().map(u -> u.outcome().unchangedBy()).filter(why -> why != null).forEach(why -> n.merge(why, 1, Integer::sum));
            return new Counts(n.getOrDefault(SILENT, 0), n.getOrDefault(EQUAL_RETURNS, 0), n.getOrDefault(ZERO_GRADIENT, 0),
                    n.getOrDefault(ROLLED_BACK, 0), n.getOrDefault(NOT_CERTIFIED, 0), updates.stream().mapToInt(u -> u.outcome().overflows()).sum());
        }

        /** {@return the updates that changed nothing} */
        public int unchanged() {
            return unchangedSilent + unchangedEqualReturns + unchangedZeroGradient + unchangedRolledBack + unchangedNotCertified;
        }
    }

    /** {@return a sentence for every reason why some of these updates changed nothing, with what to do about it; empty if all changed} */
    public static List<String> plainly(List<RunLog.Update> updates) {
        final List<String> sentences = new ArrayList<>();
        for (UnchangedReason reason : values()) {
            final List<RunLog.Update> some = updates.stream().filter(u -> u.outcome().unchangedBy() == reason).toList();
            if (!some.isEmpty()) {
                // With a floor this large the monitor cannot distinguish a step from rounding.
                final double floor = some.stream().mapToDouble(u -> u.outcome().klFloor() / u.delta()).filter(Double::isFinite).max()
                        .orElse(0);
                final boolean rounding = reason == ROLLED_BACK && floor > Monitor.WARNED;
                sentences.add(String.format(Locale.ROOT, "%d of %d updates changed nothing: %s. %s", some.size(), updates.size(),
                        reason.why, rounding ? String.format(Locale.ROOT, "Rounding alone gives a KL of up to %.2g times delta (kl_floor). "
                                + "What may help: %s.", floor, FINER) : "What may help: " + reason.remedy + "."));
            }
        }
        return sentences;
    }
}
