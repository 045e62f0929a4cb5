package org.teamtr.train;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.stream.IntStream;
import org.teamtr.distributed.Ranks;
import org.teamtr.team.KeyedRandom;
import org.teamtr.team.Episode;
import org.teamtr.team.Generation;
import org.teamtr.team.Prompt;
import org.teamtr.team.Prompts;
import org.teamtr.team.Rollout;
import org.teamtr.team.Team;
import org.teamtr.team.Verifier;

/** Provides the episodes that updates learn from: the team plays them, or they are read from {@link Conversations}. */
final class RolloutSource {
    private final Config config;
    private final Team team;
    private final List<Learner> learners;
    private final Prompts prompts;
    private final Generation sampling;
    private final Verifier verifier;
    private final Ranks ranks;
    private final int promptsEach;
    private final int learnt;
    private Path conversations; // to learn from instead of playing; null to play

    RolloutSource(Config config, Team team, List<Learner> learners, Prompts prompts, Generation sampling, Verifier verifier, Ranks ranks) {
        this.config = config;
        this.team = team;
        this.learners = learners;
        this.prompts = prompts;
        this.sampling = sampling;
        this.verifier = verifier;
        this.ranks = ranks;
        final Config.Rollout r = config.rollout();
        this.promptsEach = r.promptsEach(config.train().joint() ? 1 : learners.size());
        final int validation = (int) Math.round(r.validationFraction() * promptsEach);
        if (validation >= promptsEach) {
            throw new IllegalArgumentException(
                    "rollout.validation_fraction: expected to leave prompts to learn from, given " + r.validationFraction() + " of "
                            + promptsEach);
        }
        this.learnt = (promptsEach - validation) * r.group();
    }

    /** {@return the stage's prompts}: every pass over the set is in a new random order. */
    List<Prompt> draw(int stage) {
        final int count = promptsEach;
        final int size = prompts.size();
        final List<Prompt> drawn = new ArrayList<>(count);
        int[] order = null;
        for (int j = 0; j < count; j++) {
            final long position = (stage - 1L) * count + j;
            final int at = (int) (position % size);
            if (size < Integer.MAX_VALUE && (order == null || at == 0)) {
                order = KeyedRandom.permutation(size, config.seed(), Draw.PROMPTS, position / size);
            }
            drawn.add(prompts.get(order == null ? at : order[at]));
        }
        return drawn;
    }

    /**
     * {@return the rollouts that update i of a stage, from 0 on, learns from}
     *
     * @param latest rollouts of the stage; null before the first
     */
    Rollouts next(Rollouts latest, Learner learner, List<Prompt> b, int stage, int i) {
        if (conversations != null) {
            return recorded(learner, i);
        }
        return latest == null || resamples(i, latest) ? play(b, stage, i) : latest;
    }

    /** Whether new episodes are due before update i of a stage, and the shift of the latest ones is too large to reuse them. */
    private boolean resamples(int i, Rollouts rollouts) {
        final int every = config.rollout().resampleEvery();
        return !config.train().joint() && every > 0 && i % every == 0 && rollouts.shift() >= config.rollout().reuseShift();
    }

    /** {@return episodes that the current team plays for update i of a stage} */
    Rollouts play(List<Prompt> b, int stage, int i) {
        final long started = System.nanoTime();
        final Map<Learner, Long> versions = Rollouts.versions(learners);
        final int group = config.rollout().group();
        final List<Episode> episodes = new ArrayList<>(Rollout.play(team, b, group, sampling, verifier,
                KeyedRandom.seed(config.seed(), Draw.EPISODES, stage, i), ranks));
        final List<Episode> dropped = new ArrayList<>(); // by dynamic sampling
        for (int round = 1; round <= config.rollout().dynamicSampling(); round++) {
            final List<List<Episode>> equal = equalGroups(episodes);
            final SplittableRandom random = KeyedRandom.of(config.seed(), Draw.REPLACEMENTS, stage, i, round);
            final List<Prompt> others = equal.stream().map(old -> prompts.get(random.nextInt(prompts.size()))).toList();
            final List<Episode> more = Rollout.play(team, others, group, sampling, verifier,
                    KeyedRandom.seed(config.seed(), Draw.EPISODES, stage, i, round), ranks);
            for (int g = 0; g < equal.size(); g++) {
                dropped.addAll(equal.get(g));
                Collections.copy(equal.get(g), more.subList(g * group, (g + 1) * group));
            }
        }
        return new Rollouts(config, learnt, episodes, dropped, versions, i, (System.nanoTime() - started) * 1e-9);
    }

    /** The groups whose returns are all equal, as parts of the list. Validation groups are not among them. */
    private List<List<Episode>> equalGroups(List<Episode> episodes) {
        final int group = config.rollout().group();
        return IntStream.range(0, learnt / group).mapToObj(g -> episodes.subList(g * group, (g + 1) * group))
                .filter(g -> g.stream().mapToDouble(Episode::reward).distinct().count() == 1).toList();
    }

    /** From now on episodes are read from this folder. */
    void read(Path folder) {
        conversations = folder;
    }

    /** {@return the learners for which there are episodes} */
    List<Learner> withEpisodes() {
        if (conversations == null) {
            return learners;
        }
        final List<Learner> some = learners.stream().filter(l -> Conversations.has(conversations, l)).toList();
        if (some.isEmpty()) {
            throw new IllegalArgumentException(conversations + ": expected conversations of one or more of "
                    + learners.stream().map(Learner::name).toList() + ", found none");
        }
        return some;
    }

    private Rollouts recorded(Learner learner, int i) {
        final long started = System.nanoTime();
        final Conversations.Recorded recorded;
        try {
            recorded = Conversations.read(conversations, learner, learners, config);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        final int expected = promptsEach * config.rollout().group();
        if (recorded.episodes().size() != expected) {
            throw new IllegalArgumentException(conversations + ": rollout.prompts: expected " + recorded.episodes().size() / config.rollout().group()
                    + ", as in the file of " + learner.name + ", given " + promptsEach);
        }
        final Map<Learner, Long> versions = Rollouts.versions(learners);
        if (!recorded.fresh()) {
            versions.replaceAll((other, now) -> other == learner ? now : Long.valueOf(-1)); // whose versions are not recorded
        }
        return new Rollouts(config, learnt, recorded.episodes(), List.of(), versions, i, (System.nanoTime() - started) * 1e-9);
    }
}
