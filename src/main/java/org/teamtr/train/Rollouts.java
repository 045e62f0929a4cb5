package org.teamtr.train;

import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.teamtr.kernels.Advantages;
import org.teamtr.kernels.Floats;
import org.teamtr.team.Episode;
import org.teamtr.team.Message;

/**
 * The episodes that updates learn from, and the data for reusing them after the team has changed: the version of each policy that generated
 * them, and the probability ratio of each episode under policies that were updated since.
 */
final class Rollouts {
    private final Config config;
    /** The number of episodes that are learnt from, the first ones. The others are for validation. */
    private final int learnt;
    final List<Episode> episodes;
    final Map<Learner, Long> versions;
    /** The update of the stage, from 0 on, that they were made for. */
    final int madeFor;
    /** How many episodes were played and discarded, and the tokens of all that were played. */
    final int dropped;
    final long tokens;
    final double seconds;
    /** Log of the weight W of each episode: the ratio, new over old, of the messages of learners that were updated since. */
    private final double[] logWeights;
    /** Sums of sqrt(KL) and sqrt(δ) of the updates since, for Prop. 3.3. */
    private double sumSqrtKl;
    private double sumSqrtDelta;

    /**
     * @param learnt how many of the episodes are learnt from
     * @param dropped episodes that were played and are not among them
     * @param seconds that playing took
     */
    Rollouts(Config config, int learnt, List<Episode> episodes, List<Episode> dropped, Map<Learner, Long> versions, int madeFor,
            double seconds) {
        this.config = config;
        this.learnt = learnt;
        this.episodes = episodes;
        this.versions = versions;
        this.madeFor = madeFor;
        this.dropped = dropped.size();
        this.tokens = Stream.of(episodes, dropped).flatMap(List::stream).mapToLong(Episode::tokens).sum();
        this.seconds = seconds;
        this.logWeights = new double[episodes.size()];
    }

    // ---- whose they are ----

    static Map<Learner, Long> versions(List<Learner> learners) {
        final Map<Learner, Long> versions = new LinkedHashMap<>();
        learners.forEach(learner -> versions.put(learner, learner.policy.version()));
        return versions;
    }

    /** {@return whether no policy has changed since the episodes were generated} */
    boolean fresh() {
        return versions.equals(versions(List.copyOf(versions.keySet())));
    }

    /** {@return the versions by the learners' names} */
    Map<String, Long> namedVersions() {
        final Map<String, Long> named = new LinkedHashMap<>();
        versions.forEach((learner, version) -> named.put(learner.name, version));
        return named;
    }

    /** Checks that every message comes from the recorded policy version. */
    void checkVersions() {
        for (Episode episode : episodes) {
            for (Message message : episode.messages()) {
                versions.forEach((learner, expected) -> {
                    if (learner.speaksAs(message.agent()) && message.utterance().version() != expected) {
                        throw new IllegalStateException("rollouts: expected version " + expected + " of " + learner.name + ", given "
                                + message.utterance().version() + " in turn " + message.turn() + " of " + episode.prompt().id());
                    }
                });
            }
        }
    }

    // ---- advantages, Eq. 9 ----

    /** {@return the messages that a learner learns from} */
    Batch batch(Learner learner) {
        return batch(learner, 0, learnt);
    }

    /** {@return a learner's messages in the validation episodes; empty where there are none} */
    Batch validation(Learner learner) {
        return batch(learner, learnt, episodes.size());
    }

    /** A learner's messages in episodes {@code from} .. {@code to} (whole groups), each with its episode's advantage. */
    private Batch batch(Learner learner, int from, int to) {
        final int n = to - from;
        final float[] returns = new float[n];
        for (int g = 0; g < n; g++) {
            returns[g] = (float) episodes.get(from + g).reward();
        }
        final Config.Loss c = config.loss();
        final float[] advantages;
        final float[] centred;
        try (Floats r = Floats.ofFloats(returns); Floats a = Floats.allocate(n); Floats a0 = Floats.allocate(n)) {
            Advantages.groupNormalised(r, config.rollout().group(), c.epsNorm(), c.advantageClip(), c.normalise(), a, a0);
            advantages = a.toArray();
            centred = a0.toArray();
        }
        if (weighs()) {
            for (int g = 0; g < n; g++) {
                final double w = weight(logWeights[from + g]);
                advantages[g] = (float) (w * advantages[g]);
                centred[g] = (float) (w * centred[g]);
            }
        }
        return SpokenMessages.of(learner, episodes.subList(from, to)).batch(advantages, centred);
    }

    // ---- use after the team has changed ----

    /** Whether episodes that are no longer fresh are weighted. In a joint update all weights are 1. */
    private boolean weighs() {
        return config.rollout().importanceWeighting() && !config.train().joint();
    }

    private double weight(double log) {
        final double cap = config.rollout().importanceCap();
        final double w = Diagnostics.ratio(log);
        return cap > 0 ? Math.min(w, cap) : w;
    }

    /** {@return whether the weights are kept up to date}: where episodes are weighted by them, or reused while they are near 1. */
    boolean tracksWeights() {
        return weighs() || config.rollout().reuseShift() > 0;
    }

    /** Measured on the validation episodes: on those that determined the steps, the policies have changed more than elsewhere. */
    double shift() {
        return Diagnostics.totalVariation(Arrays.copyOfRange(logWeights, firstMeasured(), logWeights.length));
    }

    /** The first of the validation episodes, or of all where there are none. */
    private int firstMeasured() {
        return learnt < episodes.size() ? learnt : 0;
    }

    /** Multiplies the weights of all episodes, or of the validation episodes, by the ratio of the learner that was just updated. */
    void updateWeights(Learner learner) {
        final int from = weighs() ? 0 : firstMeasured();
        final double[] ratios = SpokenMessages.logRatios(learner, episodes.subList(from, episodes.size()), config.rollout().temperature());
        for (int e = 0; e < ratios.length; e++) {
            logWeights[from + e] += ratios[e];
        }
    }

    /** Records an update with this KL and radius, both of whole messages. */
    void addUpdate(double kl, double radius) {
        sumSqrtKl += Math.sqrt(Math.max(0, kl));
        sumSqrtDelta += Math.sqrt(radius);
    }

    /** {@return the sum of sqrt(KL) over the updates since they were played} */
    double sumSqrtKl() {
        return sumSqrtKl;
    }

    /** {@return the sum of sqrt(δ) over the updates since they were played} */
    double sumSqrtDelta() {
        return sumSqrtDelta;
    }

    // ---- what they say of the team ----

    /** {@return how many episodes are learnt from} */
    int learnt() {
        return learnt;
    }

    double meanReturn() {
        return meanReturn(episodes);
    }

    /** {@return the mean return of the episodes that are learnt from} */
    double meanReturnLearnt() {
        return meanReturn(episodes.subList(0, learnt));
    }

    private static double meanReturn(List<Episode> episodes) {
        return episodes.stream().mapToDouble(Episode::reward).average().orElse(0);
    }

    double accuracy() {
        return episodes.stream().mapToDouble(e -> e.score().correct() ? 1 : 0).average().orElse(0);
    }

    double meanTurns() {
        return episodes.stream().mapToInt(e -> e.messages().size()).average().orElse(1);
    }
}
