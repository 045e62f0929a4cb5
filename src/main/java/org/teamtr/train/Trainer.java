package org.teamtr.train;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Comparator;
import java.util.List;
import java.util.function.Function;
import org.teamtr.distributed.Ranks;
import org.teamtr.kernels.SamplingConfig;
import org.teamtr.team.KeyedRandom;
import org.teamtr.team.Episode;
import org.teamtr.team.Generation;
import org.teamtr.team.Prompt;
import org.teamtr.team.Prompts;
import org.teamtr.team.Rollout;
import org.teamtr.team.Team;
import org.teamtr.team.Verifier;

/**
 * TeamTR, Algorithm 1 (arXiv 2605.15207): stage-wise sequential fine-tuning of a team within a token-level KL trust region.
 *
 * <pre>
 *   for stage k = 1, 2, ...
 *       draw prompts B; choose an order sigma of the learners
 *       for i = 1 .. n
 *           roll out G episodes per prompt with the current team, pihat^(i-1)                 RolloutSource
 *           group-normalised clipped advantages                                    (Eq. 9)    Rollouts
 *           ascend the clipped surrogate of learner sigma(i) alone                 (Eq. 10)   TrustRegionUpdate
 *               until its token KL leaves the radius delta_i                       (Eq. 11)   Monitor
 *           pihat^i is pihat^(i-1) with that learner replaced
 * </pre>
 *
 * <p>Everything random is keyed by (seed, stage, update), see {@link KeyedRandom}: a resumed run draws the same numbers as one that was not
 * interrupted. One thread at a time. Team and policies are the caller's, who closes them.
 */
public final class Trainer {
    /** Receives the records of a run as they are made. An exception from it ends the training. */
    public interface Listener {
        /** After every update. */
        void updated(RunLog.Update update);

        /** The KL floor was measured: at a learner's first update, and when much has changed. */
        default void floor(RunLog.Floor floor) {
        }

        /** After every update of which the configuration has something diagnosed. */
        default void diagnosed(RunLog.Diagnosis diagnosis) {
        }

        /** After every update of several ranks, once they agree on it. */
        default void ranked(RunLog.Ranks ranks) {
        }

        /** After every stage, and as stage 0 before the first; the team is then as a checkpoint should keep it. */
        void staged(RunLog.Stage stage, List<RunLog.Transcript> transcripts);
    }

    private final Config config;
    private final Team team;
    private final List<Learner> learners;
    private final Verifier verifier;
    private final Generation sampling;
    private final Ranks ranks;
    private final RankWatch rankWatch;
    private final RolloutSource rollouts;
    private final Certifier certifier; // null unless configured, and where the range of returns is not known
    private final TrustRegionUpdate update;
    private final HeldOut heldOut;
    private List<Verifier.Score> afterUpdate; // scores of held-out episodes after the latest update, where each is measured
    private List<Verifier.Score> latest; // the latest scores of held-out episodes

    /**
     * @param learners the policies to train; other policies of the team are not trained
     * @param prompts to train on
     * @param heldOut to evaluate on
     */
    public Trainer(Config config, Team team, List<Learner> learners, Prompts prompts, Prompts heldOut, Verifier verifier) {
        this(config, team, learners, prompts, heldOut, verifier, Ranks.ONE);
    }

    /**
     * The same as one of several ranks, all of which make the same calls. Each plays the episodes of its share of the prompts; policies
     * divide scoring and gradients by themselves. Decisions are computed on every rank from the same numbers.
     */
    public Trainer(Config config, Team team, List<Learner> learners, Prompts prompts, Prompts heldOut, Verifier verifier, Ranks ranks) {
        this.config = config;
        this.ranks = ranks;
        this.rankWatch = new RankWatch(ranks);
        this.team = team;
        this.learners = List.copyOf(learners);
        this.verifier = verifier;
        learners.forEach(learner -> learner.check(team));
        final Config.Rollout r = config.rollout();
        this.heldOut = new HeldOut(config, team, heldOut, verifier, KeyedRandom.seed(config.seed(), Draw.HELD_OUT), ranks);
        this.sampling = new Generation(r.temperature(), SamplingConfig.ALL, r.maxNewTokens(), r.truncation());
        this.rollouts = new RolloutSource(config, team, this.learners, prompts, sampling, verifier, ranks);
        this.certifier = certifier(prompts);
        this.update = new TrustRegionUpdate(config, certifier, this::gainOfUpdate);
    }

    private Certifier certifier(Prompts prompts) {
        final Config.Bound bound = config.certificate();
        final Verifier.Range range = returns(bound, verifier);
        final Certifier certifier = bound.bound() != Config.BoundKind.HORIZON || range == null ? null
                : new Certifier(config, team, prompts, sampling, verifier, range, KeyedRandom.seed(config.seed(), Draw.CERTIFICATE), ranks);
        if (certifier == null && config.trustRegion().accept() == Config.Accept.CERTIFIED) {
            throw new IllegalArgumentException("trust_region.accept: expected region where the range of returns is not known, given certified;"
                    + " certificate.return_min and certificate.return_max say it");
        }
        return certifier;
    }

    private static Verifier.Range returns(Config.Bound bound, Verifier verifier) {
        final Verifier.Range own = verifier.range();
        final Double least = bound.returnMin() != null || own == null ? bound.returnMin() : Double.valueOf(own.least());
        final Double most = bound.returnMax() != null || own == null ? bound.returnMax() : Double.valueOf(own.most());
        return least == null || most == null ? null : new Verifier.Range(least, most);
    }

    /** {@return whether updates get a bound on their gain beside the paper's} */
    public boolean certifies() {
        return certifier != null;
    }

    /**
     * Trains from after stage {@code done} (0: from the start) to the last.
     *
     * @param heldOut what {@link #heldOut} was after that stage; null from the start. Where other prompts, another way to
     *     sample or another verifier is configured, it is measured again
     */
    public void train(int done, HeldOutScores heldOut, Listener listener) {
        rankWatch.loaded(learners);
        final boolean known = heldOut != null && this.heldOut.compares(heldOut);
        Evaluation before = known ? new Evaluation(heldOut.scores(), List.of(), List.of(), 0) : evaluate();
        latest = before.scores();
        if (done == 0) {
            listener.staged(stageLog(0, List.of(), List.of(), before, null, before.seconds()), before.transcripts(0));
        }
        for (int stage = done + 1; stage <= config.train().stages(); stage++) { // line 1
            final long started = System.nanoTime();
            final List<Learner> sigma = order(stage); // line 2
            final List<Prompt> b = rollouts.draw(stage);
            final List<RunLog.Update> updates = new ArrayList<>();
            Rollouts episodes = null;
            final Probe probe = config.diagnostics().ofUpdates() ? probe(b, stage) : null;
            afterUpdate = before.scores();
            if (certifier != null) {
                certifier.begin(stage, sigma.size());
            }
            for (int i = 0; i < sigma.size(); i++) { // line 3
                final Learner learner = sigma.get(i);
                episodes = rollouts.next(episodes, learner, b, stage, i); // line 4
                update.measureFloor(stage, i, learner, episodes, listener);
                final RunLog.Update log = update.run(stage, i, sigma, episodes, probe); // lines 5 to 7: Eq. 9, 10 and 11
                updates.add(log);
                final RunLog.Ranks ranked = rankWatch.updated(log, learner);
                listener.updated(log);
                if (ranked != null) {
                    listener.ranked(ranked);
                }
                if (probe != null) {
                    listener.diagnosed(probe.diagnosis(log));
                }
            }
            final boolean measured = stage == config.train().stages() || config.eval().every() > 0 && stage % config.eval().every() == 0;
            final Evaluation after = measured ? evaluate() : null;
            latest = measured ? after.scores() : latest;
            listener.staged(stageLog(stage, Learner.names(sigma), updates, after, before, (System.nanoTime() - started) * 1e-9),
                    measured ? after.transcripts(stage) : List.of());
            before = measured ? after : before;
        }
    }

    /** {@return the scores of the latest held-out episodes: what a checkpoint keeps for the next realised gain} */
    public HeldOutScores heldOut() {
        return heldOut.kept(latest);
    }

    /** {@return the same of these scores of {@link #evaluate}} */
    public HeldOutScores heldOut(List<Verifier.Score> scores) {
        return heldOut.kept(scores);
    }

    private List<Learner> order(int stage) {
        return order(config, rollouts.withEpisodes(), learner -> learner.agents.stream().map(a -> team.agents().get(a).role()).toList(), stage);
    }

    /** The learners to update in the order of the stage; {@code roles} gives a learner's roles. */
    public static <T> List<T> order(Config config, List<T> learners, Function<T, List<String>> roles, int stage) {
        final List<T> sigma = new ArrayList<>(learners);
        final Config.Order order = config.train().order();
        switch (order.kind()) {
            case FIXED -> {}
            case REVERSED -> Collections.reverse(sigma);
            case RANDOM -> {
                final int[] p = KeyedRandom.permutation(learners.size(), config.seed(), Draw.ORDER, stage);
                sigma.replaceAll(learner -> learners.get(p[learners.indexOf(learner)]));
            }
            case LISTED -> sigma.sort(Comparator.comparingInt(
                    learner -> roles.apply(learner).stream().mapToInt(order.roles()::indexOf).min().orElseThrow()));
        }
        return sigma;
    }

    /** {@return the episodes that a stage's first update learns from, played by the current team} */
    public List<Episode> collect(int stage) {
        return rollouts.play(rollouts.draw(stage), stage, 0).episodes;
    }

    /**
     * From now on updates learn from recorded episodes, see {@link Conversations}. A learner without a file there is not trained. All files
     * are read once to check them.
     */
    public void learnFrom(Path folder) {
        rollouts.read(folder);
        order(1).forEach(learner -> rollouts.next(null, learner, List.of(), 1, 0));
    }

    /** Plays the separate episodes from which the stage's updates are diagnosed, with the same random numbers for every team. */
    private Probe probe(List<Prompt> b, int stage) {
        final int group = config.rollout().group();
        return new Probe(config.diagnostics(), sampling.temperature(), group,
                () -> Rollout.play(team, b, group, sampling, verifier, KeyedRandom.seed(config.seed(), Draw.PROBE, stage), ranks));
    }

    /** {@return held-out episodes} The same prompts and random numbers every time, so that only the team differs. */
    public Evaluation evaluate() {
        return heldOut.evaluate();
    }

    /** The gain of the latest update. */
    private Estimate gainOfUpdate() {
        final List<Verifier.Score> before = afterUpdate;
        afterUpdate = evaluate().scores();
        return heldOut.gain(afterUpdate, before);
    }

    private RunLog.Stage stageLog(int stage, List<String> order, List<RunLog.Update> updates, Evaluation after, Evaluation before,
            double seconds) {
        final Estimate gain = after == null || before == null ? null : heldOut.gain(after.scores(), before.scores());
        return StageLog.of(stage, order, updates, after, before, gain, config.certificate().level(), seconds);
    }
}
