package org.teamtr.train;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.SplittableRandom;
import org.teamtr.distributed.Ranks;
import org.teamtr.team.KeyedRandom;
import org.teamtr.team.Episode;
import org.teamtr.team.Generation;
import org.teamtr.team.Prompt;
import org.teamtr.team.Prompts;
import org.teamtr.team.Rollout;
import org.teamtr.team.Team;
import org.teamtr.team.Verifier;

/**
 * Bounds the gain of updates from episodes that no update learns from, and decides whether an update is kept where
 * {@code trust_region.accept} is certified. Prompts are drawn from the training prompts, independently of the rollouts; each is played once
 * by the team before the update and once by the team after it.
 *
 * <p>Where updates are kept whatever the bound, policies do not depend on these episodes: all updates of a stage use the same prompts,
 * and what the team after an update played is what the team before the next one did. Where the bound decides about updates, each has
 * prompts of its own.
 */
final class Certifier {
    // What a random draw is for.
    private static final int PROMPTS = 1;
    private static final int EPISODES = 2;

    private final Config config;
    private final Team team;
    private final Prompts prompts;
    private final Generation sampling;
    private final Verifier verifier;
    private final Ranks ranks;
    private final Verifier.Range range;
    private final long seed;
    private int stage;
    private int updates;
    private List<Prompt> shared; // of the stage
    private List<Episode> before; // of these prompts, by the team as it is; null where they are to be played
    private int played;
    private long tokens;

    /** @param seed that no other draw has */
    Certifier(Config config, Team team, Prompts prompts, Generation sampling, Verifier verifier, Verifier.Range range, long seed,
            Ranks ranks) {
        this.config = config;
        this.team = team;
        this.prompts = prompts;
        this.sampling = sampling;
        this.verifier = verifier;
        this.range = range;
        this.seed = seed;
        this.ranks = ranks;
    }

    private boolean decides() {
        return config.trustRegion().accept() == Config.Accept.CERTIFIED;
    }

    /** Called at the start of a stage, with the number of its updates. */
    void begin(int stage, int updates) {
        this.stage = stage;
        this.updates = updates;
        shared = draw(0, 0);
        before = null;
    }

    /** Prompts drawn with replacement, so that they are independent of each other. */
    private List<Prompt> draw(int update, int batch) {
        final SplittableRandom random = KeyedRandom.of(seed, PROMPTS, stage, update, batch);
        final List<Prompt> drawn = new ArrayList<>();
        for (int p = 0; p < config.certificate().prompts(); p++) {
            drawn.add(prompts.get(random.nextInt(prompts.size())));
        }
        return drawn;
    }

    /**
     * Bounds the gain of an update, and undoes or shortens it where that is configured.
     *
     * @param i the update, from 0 on
     * @param old the policy before it
     * @param v about the mean return, from episodes of the rollouts
     */
    GainBound judge(Learner learner, int i, Policy.Snapshot old, double v) {
        final long started = System.nanoTime();
        final int episodes = played;
        final long generated = tokens;
        final GainBound found = decides() ? decide(learner, i, old, v) : look(learner, i, old, v);
        return found.cost(played - episodes, tokens - generated, (System.nanoTime() - started) * 1e-9);
    }

    private GainBound look(Learner learner, int i, Policy.Snapshot old, double v) {
        if (before == null) {
            before = learner.withParameters(old, () -> play(shared, 0, i, 0));
        }
        final List<Episode> after = play(shared, 0, i, 1);
        final GainBound found = found(learner, old, before, after, v, config.certificate().level() / updates);
        before = after;
        return found;
    }

    /** More prompts until the bound is positive or the budget is spent; then the same with a step of half the length. */
    private GainBound decide(Learner learner, int i, Policy.Snapshot old, double v) {
        final Config.Bound c = config.certificate();
        final double level = c.level() / updates / (1 + c.halvings());
        final List<Prompt> asked = new ArrayList<>();
        final List<Episode> first = new ArrayList<>(); // by the team before
        GainBound found = null;
        for (int t = 0; t <= c.halvings(); t++) {
            if (t > 0) {
                learner.policy.shorten(old, 0.5);
            }
            final List<Episode> second = new ArrayList<>();
            do {
                final int batch = second.size() / c.prompts();
                if (second.size() == asked.size()) {
                    final List<Prompt> more = draw(i + 1, batch);
                    asked.addAll(more);
                    first.addAll(learner.withParameters(old, () -> play(more, batch, i, 0)));
                }
                second.addAll(play(asked.subList(second.size(), second.size() + c.prompts()), batch, i, 1 + t));
                found = found(learner, old, first.subList(0, second.size()), second, v, level);
            } while (found.bound().gainBound() <= 0 && second.size() + c.prompts() <= c.budget());
            if (found.bound().gainBound() > 0) {
                return found.decided(t == 0 ? GainBound.Decision.KEPT : GainBound.Decision.SHORTENED, t + 1);
            }
        }
        learner.policy.restore(old);
        return found.decided(GainBound.Decision.SKIPPED, 1 + c.halvings());
    }

    private GainBound found(Learner learner, Policy.Snapshot old, List<Episode> first, List<Episode> second, double v, double level) {
        final double[] oldRatios = SpokenMessages.logRatios(learner, first, sampling.temperature());
        final double[] newRatios = learner.withParameters(old, () -> SpokenMessages.logRatios(learner, second, sampling.temperature()));
        Arrays.setAll(newRatios, p -> -newRatios[p]); // recorded by the new policy, scored by the old
        return GainBound.of(oldRatios, returns(first), newRatios, returns(second), v, range, level, config.certificate().prompts());
    }

    private static double[] returns(List<Episode> episodes) {
        return episodes.stream().mapToDouble(Episode::reward).toArray();
    }

    private List<Episode> play(List<Prompt> some, int batch, int i, int which) {
        final List<Episode> episodes = Rollout.play(team, some, 1, sampling, verifier, KeyedRandom.seed(seed, EPISODES, stage, i, batch, which),
                ranks);
        for (Episode episode : episodes) {
            if (!range.holds(episode.reward())) {
                throw new IllegalStateException("certificate.return_min, certificate.return_max: expected returns from " + range.least() + " to "
                        + range.most() + ", given " + episode.reward() + " of " + episode.prompt().id()
                        + "; the bound would not hold");
            }
            tokens += episode.tokens();
        }
        played += episodes.size();
        return episodes;
    }
}
