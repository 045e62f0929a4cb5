package org.teamtr.train;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.function.Supplier;
import java.util.stream.IntStream;
import org.teamtr.team.Episode;

/**
 * Diagnoses the updates of one stage. For the occupancy it plays episodes of every team of the stage, pihat^0 .. pihat^n, from which no
 * update learns: numbers from the episodes that determined an update would be biased. All are played with the same random numbers, so that
 * only the team differs.
 *
 * <p>Does not change any policy.
 */
final class Probe {
    /** The largest number of messages for the shift of logits, since sorting a vocabulary takes time. */
    private static final int SHIFTED = 64;

    private final Config.Diagnostics config;
    private final double temperature;
    private final int group;
    private final Supplier<List<Episode>> play;
    /** Index i: the team after i updates. */
    private final List<Played> teams = new ArrayList<>();
    private double monitor25;
    private double monitor50;
    private Diagnostics.Difference gap;
    private Diagnostics.Difference deltaStale;
    private double dOcc;
    private Diagnostics.Weights weights;
    private List<Double> logitShift;
    private int episodes;
    private long tokens;
    private double seconds;

    /** Episodes, and the log of each one's weight W: the probability ratio, new over old, of the agents that were updated since. */
    private record Played(List<Episode> episodes, double[] logWeights) {
    }

    /**
     * @param group episodes of each prompt
     * @param play plays the stage's prompts with the current team
     */
    Probe(Config.Diagnostics config, double temperature, int group, Supplier<List<Episode>> play) {
        this.config = config;
        this.temperature = temperature;
        this.group = group;
        this.play = play;
        clear();
        if (config.occupancy()) {
            final long started = System.nanoTime();
            play();
            seconds += (System.nanoTime() - started) * 1e-9;
        }
    }

    private void clear() {
        monitor25 = monitor50 = dOcc = Double.NaN;
        gap = deltaStale = new Diagnostics.Difference(Double.NaN, Double.NaN);
        weights = Diagnostics.Weights.NONE;
        logitShift = List.of();
        episodes = 0;
        tokens = 0;
        seconds = 0;
    }

    private Played play() {
        final List<Episode> played = play.get();
        teams.add(new Played(played, new double[played.size()]));
        episodes += played.size();
        tokens += played.stream().mapToLong(Episode::tokens).sum();
        return teams.get(teams.size() - 1);
    }

    /**
     * An update has reached its largest KL.
     *
     * @param kl the contribution of each monitored message to the monitor
     * @param order in which a part of the messages would have been drawn
     */
    void reached(double[] kl, int[] order) {
        if (config.monitor()) {
            monitor25 = part(kl, order, 0.25);
            monitor50 = part(kl, order, 0.5);
        }
    }

    private static double part(double[] kl, int[] order, double share) {
        return Arrays.stream(order).limit((int) Math.ceil(share * kl.length)).mapToDouble(m -> kl[m]).average().orElse(0);
    }

    /**
     * An update is done.
     *
     * @param batch that it learnt from
     * @param before the learner's policy before it
     * @param madeFor the update, from 0 on, whose rollouts it used: pihat^madeFor is b_i
     */
    void updated(Learner learner, Batch batch, Policy.Snapshot before, int madeFor) {
        final long started = System.nanoTime();
        if (config.logits() && batch.size() > 0) {
            final int count = Math.min(batch.size(), SHIFTED);
            final int[] some = IntStream.range(0, count).map(m -> (int) ((long) m * batch.size() / count)).toArray();
            logitShift = Arrays.stream(learner.policy.logitShift(batch.subset(some), before)).boxed().toList();
        }
        if (config.occupancy()) {
            final int i = teams.size() - 1; // updates of this stage that came before
            weights = Diagnostics.Weights.of(teams.get(0).logWeights);
            final double[][] surrogates = new double[i + 1][];
            for (int k : IntStream.of(0, madeFor, i).distinct().toArray()) {
                surrogates[k] = surrogate(learner, teams.get(k));
            }
            gap = Diagnostics.Difference.of(surrogates[i], surrogates[0]);
            dOcc = Diagnostics.totalVariation(teams.get(madeFor).logWeights);
            deltaStale = Diagnostics.Difference.of(surrogates[madeFor], surrogateAfter(learner, play(), before));
        }
        seconds += (System.nanoTime() - started) * 1e-9;
    }

    /** L_i on episodes of a team that had the learner's old policy. The ratio of the new one is put into their weights. */
    private double[] surrogate(Learner learner, Played played) {
        final SpokenMessages said = SpokenMessages.of(learner, played.episodes);
        final Batch batch = batch(said, played.episodes);
        final double[] after = batch.logRatios(learner.policy.score(batch, temperature, null).logProbs());
        said.addTo(played.logWeights, after);
        return surrogates(said, batch, after, new double[after.length], played);
    }

    /** L_i on episodes of the team with the learner's new policy. */
    private double[] surrogateAfter(Learner learner, Played played, Policy.Snapshot before) {
        final SpokenMessages said = SpokenMessages.of(learner, played.episodes);
        final Batch batch = batch(said, played.episodes);
        final Policy.Scores old = learner.withParameters(before, () -> learner.policy.score(batch, temperature, null));
        return surrogates(said, batch, new double[batch.size()], batch.logRatios(old.logProbs()), played);
    }

    private Batch batch(SpokenMessages said, List<Episode> episodes) {
        final float[] centred = new float[episodes.size()];
        for (int e = 0; e < centred.length; e++) {
            final int first = e - e % group; // of the same prompt
            centred[e] = (float) (episodes.get(e).reward()
                    - episodes.subList(first, first + group).stream().mapToDouble(Episode::reward).average().orElseThrow());
        }
        return said.batch(new float[episodes.size()], centred);
    }

    private double[] surrogates(SpokenMessages said, Batch batch, double[] after, double[] before, Played played) {
        final double[] centred = IntStream.range(0, batch.size()).mapToDouble(m -> batch.centredReturns()[m]).toArray();
        return Diagnostics.surrogates(after, before, centred, said.promptOf(group), played.episodes.size() / group, group);
    }

    /** {@return the diagnosis of the update that was reported last} */
    RunLog.Diagnosis diagnosis(RunLog.Update u) {
        final RunLog.Diagnosis diagnosis = new RunLog.Diagnosis(u.stage(), u.step(), u.agent(),
                new RunLog.Staleness(gap.value(), gap.error(), deltaStale.value(), deltaStale.error(), dOcc), weights,
                new RunLog.Monitored(u.outOfRegion(), u.klReached(), u.delta(), monitor25, monitor50), logitShift,
                new RunLog.Played(episodes, tokens, seconds));
        clear();
        return diagnosis;
    }
}
