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
 * The episodes that updates learn from, and what it takes to go on using them after the team has changed: the version of each policy
 * that spoke, and by how much policies that were updated since give each episode another probability.
 */
final class Rollouts {
    private final Config config;
    /** Episodes that are learnt from: the first ones. The others only measure. */
    private final int learnt;
    final List<Episode> episodes;
    final Map<Learner, Long> versions;
    /** The update of the stage, from 0 on, that they were made for. */
    final int madeFor;
    /** How many episodes were played and not kept, and the tokens of all that were played. */
    final int dropped;
    final long tokens;
    final double seconds;
    /** Log of the weight W of each episode: what learners that were updated since say of their messages, new over old. */
    private final double[] logWeights;
    /** Sums of sqrt(KL) and sqrt(δ) of the updates since: how far off the team is by Prop. 3.3. */
    private double roots;
    private double radii;

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

    /** {@return whether all policies are as they were when they spoke} */
    boolean fresh() {
        return versions.equals(versions(List.copyOf(versions.keySet())));
    }

    /** {@return the versions by the learners' names} */
    Map<String, Long> namedVersions() {
        final Map<String, Long> named = new LinkedHashMap<>();
        versions.forEach((learner, version) -> named.put(learner.name, version));
        return named;
    }

    /** Every message must come from the policy that the bookkeeping says it came from. */
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

    /** {@return what a learner learns from} */
    Batch batch(Learner learner) {
        return batch(learner, 0, learnt);
    }

    /** {@return a learner's messages in the episodes that nobody learns from; empty where all are learnt from} */
    Batch heldBack(Learner learner) {
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

    /** Whether episodes that are no longer fresh are weighed. An update of all at once has nothing to weigh them by. */
    private boolean weighs() {
        return config.rollout().importanceWeighting() && !config.train().joint();
    }

    private double weight(double log) {
        final double cap = config.rollout().importanceCap();
        final double w = Diagnostics.ratio(log);
        return cap > 0 ? Math.min(w, cap) : w;
    }

    /** {@return whether the weights are kept up to date}: where episodes are weighed by them, or used again as long as they are near 1. */
    boolean metered() {
        return weighs() || config.rollout().reuseShift() > 0;
    }

    /** Measured on the episodes that were held back: on those that chose the steps, the team has moved further than elsewhere. */
    double shift() {
        return Diagnostics.totalVariation(Arrays.copyOfRange(logWeights, firstMeasured(), logWeights.length));
    }

    /** The first of the episodes that were held back, or of all where none were. */
    private int firstMeasured() {
        return learnt < episodes.size() ? learnt : 0;
    }

    /** Takes into the weights of all episodes, or of those measured, how the learner, just updated, sees what it said before. */
    void reweigh(Learner learner) {
        final int from = weighs() ? 0 : firstMeasured();
        final SpokenMessages said = SpokenMessages.of(learner, episodes.subList(from, episodes.size()));
        if (said.messages().isEmpty()) {
            return;
        }
        final Batch batch = said.batch();
        final double[] seen = new double[episodes.size() - from];
        said.addTo(seen, batch.logRatios(learner.policy.score(batch, config.rollout().temperature(), null).logProbs()));
        for (int e = 0; e < seen.length; e++) {
            logWeights[from + e] += seen[e];
        }
    }

    /** The team has moved by an update of that KL within that radius, both of whole messages. */
    void moved(double kl, double radius) {
        roots += Math.sqrt(Math.max(0, kl));
        radii += Math.sqrt(radius);
    }

    /** {@return the sum of sqrt(KL) over the updates since they were played} */
    double roots() {
        return roots;
    }

    /** {@return the sum of sqrt(δ) over the updates since they were played} */
    double radii() {
        return radii;
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
