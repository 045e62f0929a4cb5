package org.teamtr.train;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.function.Function;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.teamtr.distributed.Ranks;
import org.teamtr.kernels.Advantages;
import org.teamtr.kernels.Floats;
import org.teamtr.kernels.SamplingConfig;
import org.teamtr.kernels.SurrogateConfig;
import org.teamtr.team.Chance;
import org.teamtr.team.Episode;
import org.teamtr.team.Generation;
import org.teamtr.team.Message;
import org.teamtr.team.Prompt;
import org.teamtr.team.Prompts;
import org.teamtr.team.Rollout;
import org.teamtr.team.Team;
import org.teamtr.team.Truncation;
import org.teamtr.team.Utterance;
import org.teamtr.team.Verifier;

/**
 * TeamTR, Algorithm 1 (arXiv 2605.15207): stage-wise sequential fine-tuning of a team within a token-level KL trust region.
 *
 * <pre>
 *   for stage k = 1, 2, ...
 *       draw prompts B; choose an order sigma of the learners
 *       for i = 1 .. n
 *           roll out G episodes per prompt with the team as it is now, pihat^(i-1)            play
 *           group-normalised clipped advantages                                    (Eq. 9)    batch
 *           ascend the clipped surrogate of learner sigma(i) alone                 (Eq. 10)   update
 *               until its token KL leaves the radius delta_i                       (Eq. 11)   Monitor
 *           pihat^i is pihat^(i-1) with that learner replaced
 * </pre>
 *
 * <p>Everything random is keyed by (seed, stage, update), see {@link Chance}: a run that goes on from a checkpoint draws what it would
 * have drawn. One thread at a time.
 */
public final class Trainer implements AutoCloseable {
    // What a random draw is for, so that no two share a key.
    private static final int ORDER = 1;
    private static final int PROMPTS = 2;
    private static final int EPISODES = 3;
    private static final int HELD_OUT = 4;
    private static final int MONITOR = 5;
    private static final int REPLACEMENTS = 6;
    private static final int PROBE = 7;
    private static final int FLOOR = 8;
    private static final int CERTIFICATE = 9;

    /** Is told what happens, as it happens. What it throws ends the training. */
    public interface Listener {
        /** After every update. */
        void updated(RunLog.Update update);

        /** What the monitor makes of no step at all was measured: at a learner's first update, and when much has changed. */
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
    private final Prompts prompts;
    private final HeldOut heldOut;
    private final Verifier verifier;
    private final Generation sampling;
    private final int promptsEach;
    private final Certificate certificate; // null where no bound on advantages is known
    private final Certifier certifier; // null unless asked for, and where nobody knows what returns can be
    private final Monitor monitor;
    private final Ranks ranks;
    private final RankWatch rankWatch;
    private List<Verifier.Score> checked; // of held-out episodes after the latest update
    private List<Verifier.Score> latest; // of the held-out episodes
    private Path conversations; // to learn from instead of playing; null to play

    /**
     * @param learners the policies to train; policies of the team that are not among them stay as they are
     * @param prompts to train on
     * @param heldOut to evaluate on
     */
    public Trainer(Config config, Team team, List<Learner> learners, Prompts prompts, Prompts heldOut, Verifier verifier) {
        this(config, team, learners, prompts, heldOut, verifier, Ranks.ONE);
    }

    /**
     * The same as one of several ranks, all of which make the same calls. Each plays the episodes of its share of the prompts; policies
     * divide scoring and gradients by themselves. Whatever decides something is computed on every rank from the same numbers.
     */
    public Trainer(Config config, Team team, List<Learner> learners, Prompts prompts, Prompts heldOut, Verifier verifier, Ranks ranks) {
        this.config = config;
        this.ranks = ranks;
        this.rankWatch = new RankWatch(ranks);
        this.team = team;
        this.learners = List.copyOf(learners);
        this.prompts = prompts;
        this.heldOut = new HeldOut(config, team, heldOut, verifier, truncation(), Chance.seed(config.seed(), HELD_OUT), ranks);
        this.verifier = verifier;
        learners.forEach(learner -> learner.check(team));
        final Config.Rollout r = config.rollout();
        this.promptsEach = r.promptsEach(config.train().joint() ? 1 : learners.size());
        if (Math.round(r.heldBack() * promptsEach) >= promptsEach) {
            throw new IllegalArgumentException("rollout.held_back: expected to leave prompts to learn from, given " + r.heldBack() + " of "
                    + promptsEach);
        }
        final Config.Bound bound = config.certificate();
        this.certificate = bound.gamma() == null || bound.aMax() == null ? null : new Certificate(bound.gamma(), bound.aMax());
        this.sampling = new Generation(r.temperature(), SamplingConfig.ALL, r.maxNewTokens(), truncation());
        this.monitor = new Monitor(config, r.temperature());
        final Verifier.Range range = returns(bound, verifier);
        this.certifier = bound.bound() != Config.Kind.HORIZON || range == null ? null
                : new Certifier(config, team, prompts, sampling, verifier, range, Chance.seed(config.seed(), CERTIFICATE), ranks);
        if (certifier == null && config.trustRegion().accept() == Config.Accept.CERTIFIED) {
            throw new IllegalArgumentException("trust_region.accept: expected region where nobody knows what returns can be, given certified;"
                    + " certificate.return_min and certificate.return_max say it");
        }
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
     * Trains from behind stage {@code done} (0: from the start) to the last.
     *
     * @param heldOut what {@link #heldOut} was after that stage; null from the start. Of other prompts than the configuration's, it is
     *     measured again
     */
    public void train(int done, List<Verifier.Score> heldOut, Listener listener) {
        rankWatch.loaded(learners);
        final int episodes = this.heldOut.episodes();
        final boolean known = heldOut != null && heldOut.size() == episodes;
        Evaluation before = known ? new Evaluation(heldOut, List.of(), List.of(), 0) : evaluate();
        latest = before.scores();
        if (done == 0) {
            final RunLog.Stage start = stageLog(0, List.of(), List.of(), 0, before, null, before.seconds());
            listener.staged(start, before.transcripts(0));
        }
        for (int stage = done + 1; stage <= config.train().stages(); stage++) {
            final long started = System.nanoTime();
            final List<Learner> sigma = order(stage);
            final List<Prompt> b = draw(stage);
            final List<RunLog.Update> updates = new ArrayList<>();
            Rollouts rollouts = null;
            final Probe probe = config.diagnostics().ofUpdates() ? probe(b, stage) : null;
            checked = before.scores();
            if (certifier != null) {
                certifier.begin(stage, sigma.size());
            }
            for (int i = 0; i < sigma.size(); i++) {
                if (conversations != null) {
                    rollouts = recorded(sigma.get(i), i);
                } else if (rollouts == null || resamples(i, rollouts)) {
                    rollouts = play(b, stage, i);
                }
                measureFloor(stage, i, sigma.get(i), rollouts, listener);
                final RunLog.Update update = update(stage, i, sigma, rollouts, probe);
                updates.add(update);
                final RunLog.Ranks ranked = rankWatch.updated(update, sigma.get(i));
                listener.updated(update);
                if (ranked != null) {
                    listener.ranked(ranked);
                }
                if (probe != null) {
                    listener.diagnosed(probe.diagnosis(update));
                }
            }
            final boolean measured = stage == config.train().stages() || config.eval().every() > 0 && stage % config.eval().every() == 0;
            final Evaluation after = measured ? evaluate() : null;
            latest = measured ? after.scores() : latest;
            listener.staged(stageLog(stage, names(sigma), updates, tokens(updates), after, before, seconds(started)),
                    measured ? after.transcripts(stage) : List.of());
            before = measured ? after : before;
        }
    }

    /** {@return the scores of the latest held-out episodes: what a checkpoint keeps for the next realised gain} */
    public List<Verifier.Score> heldOut() {
        return latest;
    }

    // ---- line 2: prompts and order ----

    private List<Learner> order(int stage) {
        final List<Learner> some = conversations == null ? learners : learners.stream().filter(l -> Conversations.has(conversations, l)).toList();
        if (some.isEmpty()) {
            throw new IllegalArgumentException(conversations + ": expected conversations of one or more of "
                    + learners.stream().map(Learner::name).toList() + ", found none");
        }
        return order(config, some, learner -> learner.agents.stream().map(a -> team.agents().get(a).role()).toList(), stage);
    }

    /** Those to update in the order of the stage; {@code roles} says as whom one speaks. */
    public static <T> List<T> order(Config config, List<T> learners, Function<T, List<String>> roles, int stage) {
        final List<T> sigma = new ArrayList<>(learners);
        if (config.train().order() instanceof List<?> list) {
            sigma.sort(Comparator.comparingInt(learner -> roles.apply(learner).stream().mapToInt(list::indexOf).min().orElseThrow()));
        } else if (config.train().order().equals("reversed")) {
            Collections.reverse(sigma);
        } else if (config.train().order().equals("random")) {
            final int[] p = Chance.permutation(learners.size(), config.seed(), ORDER, stage);
            sigma.replaceAll(learner -> learners.get(p[learners.indexOf(learner)]));
        }
        return sigma;
    }

    /** The stage's prompts: the set is gone through in a new random order each time. */
    private List<Prompt> draw(int stage) {
        final int count = promptsEach;
        final int size = prompts.size();
        final List<Prompt> drawn = new ArrayList<>(count);
        int[] order = null;
        for (int j = 0; j < count; j++) {
            final long position = (stage - 1L) * count + j;
            final int at = (int) (position % size);
            if (size < Integer.MAX_VALUE && (order == null || at == 0)) {
                order = Chance.permutation(size, config.seed(), PROMPTS, position / size);
            }
            drawn.add(prompts.get(order == null ? at : order[at]));
        }
        return drawn;
    }

    // ---- line 4: rollouts ----

    /** Whether new episodes are due before update i of a stage, from 0 on, and those there are have shifted too far to serve. */
    private boolean resamples(int i, Rollouts rollouts) {
        final int every = config.rollout().resampleEvery();
        return !config.train().joint() && every > 0 && i % every == 0 && shift(rollouts) >= config.rollout().reuseShift();
    }

    /** Episodes, with what it takes to go on using them after the team has changed. */
    private static final class Rollouts {
        final List<Episode> episodes;
        final Map<Learner, Long> versions;
        final int madeFor;
        /** How many episodes were played and not kept, and the tokens of all that were played. */
        final int dropped;
        final long tokens;
        final double seconds;
        /** Log of the weight W of each episode: what learners that were updated since say of their messages, new over old. */
        final double[] logWeights;
        /** Sums of sqrt(KL) and sqrt(δ) of the updates since: how far off the team is by Prop. 3.3. */
        double roots;
        double radii;

        Rollouts(List<Episode> episodes, List<Episode> dropped, Map<Learner, Long> versions, int madeFor, double seconds) {
            this.episodes = episodes;
            this.versions = versions;
            this.madeFor = madeFor;
            this.dropped = dropped.size();
            this.tokens = Stream.of(episodes, dropped).flatMap(List::stream).mapToLong(Episode::tokens).sum();
            this.seconds = seconds;
            this.logWeights = new double[episodes.size()];
        }
    }

    private Rollouts play(List<Prompt> b, int stage, int i) {
        final long started = System.nanoTime();
        final Map<Learner, Long> versions = versions();
        final int group = config.rollout().group();
        final List<Episode> episodes = new ArrayList<>(Rollout.play(team, b, group, sampling, verifier,
                Chance.seed(config.seed(), EPISODES, stage, i), ranks));
        final List<Episode> dropped = new ArrayList<>(); // by dynamic sampling
        for (int round = 1; round <= config.rollout().dynamicSampling(); round++) {
            final List<List<Episode>> equal = equalGroups(episodes);
            final SplittableRandom random = Chance.of(config.seed(), REPLACEMENTS, stage, i, round);
            final List<Prompt> others = equal.stream().map(old -> prompts.get(random.nextInt(prompts.size()))).toList();
            final List<Episode> more = Rollout.play(team, others, group, sampling, verifier,
                    Chance.seed(config.seed(), EPISODES, stage, i, round), ranks);
            for (int g = 0; g < equal.size(); g++) {
                dropped.addAll(equal.get(g));
                Collections.copy(equal.get(g), more.subList(g * group, (g + 1) * group));
            }
        }
        return new Rollouts(episodes, dropped, versions, i, seconds(started));
    }

    /** {@return the episodes that a stage's first update learns from, played by the team as it is} */
    public List<Episode> collect(int stage) {
        return play(draw(stage), stage, 0).episodes;
    }

    /**
     * From now on nothing is played to learn from: updates read what was said before, see {@link Conversations}. Who has no file there is
     * not trained. All files are read once to see that they fit.
     */
    public void learnFrom(Path folder) {
        conversations = folder;
        order(1).forEach(learner -> recorded(learner, 0));
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
                    + ", as many as there are of " + learner.name + ", given " + promptsEach);
        }
        final Map<Learner, Long> versions = versions();
        if (!recorded.fresh()) {
            versions.replaceAll((other, now) -> other == learner ? now : Long.valueOf(-1)); // of which nobody knows more
        }
        return new Rollouts(recorded.episodes(), List.of(), versions, i, seconds(started));
    }

    /** The groups to learn from whose returns are all equal, as parts of the list. Those that only measure stay what they are. */
    private List<List<Episode>> equalGroups(List<Episode> episodes) {
        final int group = config.rollout().group();
        return IntStream.range(0, learnt() / group).mapToObj(g -> episodes.subList(g * group, (g + 1) * group))
                .filter(g -> g.stream().mapToDouble(Episode::reward).distinct().count() == 1).toList();
    }

    private Map<Learner, Long> versions() {
        final Map<Learner, Long> versions = new LinkedHashMap<>();
        learners.forEach(learner -> versions.put(learner, learner.policy.version()));
        return versions;
    }

    /** Every message must come from the policy that the bookkeeping says it came from. */
    private void checkVersions(Rollouts rollouts) {
        for (Episode episode : rollouts.episodes) {
            for (Message message : episode.messages()) {
                for (Learner learner : learners) {
                    final long expected = rollouts.versions.get(learner);
                    if (learner.speaksAs(message.agent()) && message.utterance().version() != expected) {
                        throw new IllegalStateException("rollouts: expected version " + expected + " of " + learner.name + ", given "
                                + message.utterance().version() + " in turn " + message.turn() + " of " + episode.prompt().id());
                    }
                }
            }
        }
    }

    // ---- line 5: advantages, Eq. 9 ----

    /** A learner's messages in episodes {@code from} .. {@code to} (whole groups), each with its episode's advantage. */
    private Batch batch(Learner learner, Rollouts rollouts, int from, int to) {
        final int n = to - from;
        final float[] returns = new float[n];
        for (int g = 0; g < n; g++) {
            returns[g] = (float) rollouts.episodes.get(from + g).reward();
        }
        final Config.Loss c = config.loss();
        final float[] advantages;
        final float[] centred;
        try (Floats r = Floats.ofFloats(returns); Floats a = Floats.allocate(n); Floats a0 = Floats.allocate(n)) {
            Advantages.groupNormalised(r, config.rollout().group(), c.epsNorm(), c.advantageClip(), c.normalise(), a, a0);
            advantages = a.toArray();
            centred = a0.toArray();
        }
        final List<Utterance> messages = new ArrayList<>();
        final List<Integer> episodeOf = new ArrayList<>();
        for (int g = 0; g < n; g++) {
            for (Message message : rollouts.episodes.get(from + g).messages()) {
                if (learner.speaksAs(message.agent())) {
                    messages.add(message.utterance());
                    episodeOf.add(g);
                }
            }
        }
        final float[] a = new float[messages.size()];
        final float[] a0 = new float[messages.size()];
        for (int m = 0; m < a.length; m++) {
            final int g = episodeOf.get(m);
            final double w = weighs() ? weight(rollouts.logWeights[from + g]) : 1;
            a[m] = (float) (w * advantages[g]);
            a0[m] = (float) (w * centred[g]);
        }
        return Batch.of(messages, a, a0);
    }

    /** Whether episodes that are no longer fresh are weighed. An update of all at once has nothing to weigh them by. */
    private boolean weighs() {
        return config.rollout().importanceWeighting() && !config.train().joint();
    }

    private double weight(double log) {
        final double cap = config.rollout().importanceCap();
        final double w = OccupancyShift.weight(log);
        return cap > 0 ? Math.min(w, cap) : w;
    }

    /** Whether the weights are kept up to date: where episodes are weighed by them, or used again as long as they are near 1. */
    private boolean metered() {
        return weighs() || config.rollout().reuseShift() > 0;
    }

    /** Measured on the episodes that were held back: on those that chose the steps, the team has moved further than elsewhere. */
    private double shift(Rollouts rollouts) {
        return OccupancyShift.of(Arrays.copyOfRange(rollouts.logWeights, firstMeasured(rollouts), rollouts.logWeights.length));
    }

    /** The first of the episodes that were held back, or of all where none were. */
    private int firstMeasured(Rollouts rollouts) {
        return learnt() < rollouts.episodes.size() ? learnt() : 0;
    }

    /** Takes into the weights of all episodes, or of those measured, how the learner, just updated, sees what it said before. */
    private void reweigh(Learner learner, Rollouts rollouts) {
        final int from = weighs() ? 0 : firstMeasured(rollouts);
        final Batch batch = batch(learner, rollouts, from, rollouts.episodes.size());
        if (batch.size() == 0) {
            return; // it did not speak in them
        }
        final float[] logProbs = learner.policy.score(batch, sampling.temperature(), null).logProbs();
        int m = 0;
        for (int g = from; g < rollouts.episodes.size(); g++) {
            for (Message message : rollouts.episodes.get(g).messages()) {
                if (learner.speaksAs(message.agent())) {
                    rollouts.logWeights[g] += Monitor.logRatio(batch, logProbs, m++);
                }
            }
        }
    }

    // ---- lines 6 and 7: the update, Eq. 10 within Eq. 11 ----

    private RunLog.Update update(int stage, int i, List<Learner> sigma, Rollouts rollouts, Probe probe) {
        final Learner learner = sigma.get(i);
        final Policy policy = learner.policy;
        final Config.TrustRegion region = config.trustRegion();
        final double temperature = sampling.temperature();
        checkVersions(rollouts);
        final boolean fresh = rollouts.versions.equals(versions());
        final Batch batch = batch(learner, rollouts, 0, learnt());
        if (hasNothingToLearn(batch)) {
            return unchanged(stage, i, sigma, rollouts, fresh, batch, probe);
        }
        final long started = System.nanoTime();
        final SurrogateConfig loss = loss(learner.beta);
        final double delta = learner.delta;
        double scoreGap = 0;
        double gradNorm = 0;
        double largestNorm = 0;
        int steps = 0;
        int halvings = 0;
        int overflows = 0;
        Monitor.Measure now = null; // of the parameters as they are
        Policy.Snapshot inside = null; // the latest parameters within the region, and of them
        double klInside = 0;
        int stepsInside = 0;
        final boolean exact = monitor.exact() || loss.klTerm() == SurrogateConfig.KlTerm.EXACT;
        try (Policy.Snapshot before = probe != null || certifier != null ? policy.snapshot() : exact ? policy.anchor() : null) { // pi_cur of Eq. 11
            final Monitor.Watched watched = monitor.new Watched(policy, batch, watched(batch, stage, i), loss, before,
                    messagesPerEpisode(batch));
            final Policy.Snapshot anchor = exact && !watched.apart || loss.klTerm() == SurrogateConfig.KlTerm.EXACT ? before : null;
            while (steps < config.optimiser().steps()) {
                if (watched.apart && steps > 0 && now == null && region.earlyStop()) {
                    now = watched.look();
                    if (leaves(now, delta)) {
                        break;
                    }
                }
                final Policy.Scores scores = policy.gradient(batch, temperature, loss, anchor); // Eq. 10, and Eq. 11 with it
                now = watched.apart ? now : watched.of(scores);
                scoreGap = steps == 0 ? gap(batch, scores) : scoreGap;
                if (steps > 0 && region.earlyStop() && leaves(now, delta)) {
                    break;
                }
                if (region.rollback()) {
                    close(inside);
                    inside = policy.snapshot();
                    klInside = now == null ? 0 : now.kl();
                    stepsInside = steps;
                }
                final double norm = step(learner, stage, steps + 1);
                if (Double.isNaN(norm)) {
                    overflows++; // no step was taken; the next gradient is computed with a smaller loss scale
                    continue;
                }
                gradNorm = norm;
                largestNorm = Math.max(largestNorm, norm);
                steps++;
                now = null;
            }
            if (now == null) { // the last step has not been looked at yet
                now = watched.look();
            }
            final double reached = now.kl();
            if (probe != null) {
                probe.reached(now.perMessage(), Chance.permutation(now.perMessage().length, config.seed(), MONITOR, stage, i, PROBE));
            }
            final boolean left = leaves(now, delta);
            while (region.rollback() && leaves(now, delta) && halvings < region.halvings()) {
                policy.shorten(inside, region.stepLength().share(klInside, now.kl(), delta, learner.floor == null ? 0 : learner.floor.kl()));
                halvings++;
                now = watched.look();
            }
            Unchanged unchanged = largestNorm == 0 ? Unchanged.ZERO_GRADIENT : null;
            if (region.rollback() && leaves(now, delta)) {
                policy.restore(inside);
                now = watched.look();
                unchanged = stepsInside == 0 ? Unchanged.ROLLED_BACK : unchanged;
            }
            GainBound gain = GainBound.NONE;
            final long apart = System.nanoTime(); // what is looked at beside the update is no part of its time
            if (certifier != null) {
                gain = certifier.judge(learner, i, before, meanReturn(rollouts.episodes.subList(0, learnt())));
                final boolean skipped = gain.decision() == GainBound.Decision.SKIPPED;
                if (skipped || gain.decision() == GainBound.Decision.SHORTENED) {
                    now = watched.look();
                    unchanged = skipped && unchanged == null ? Unchanged.NOT_CERTIFIED : unchanged;
                }
                gain = config.certificate().check() ? gain.realised(check()) : gain;
            }
            final double beside = certifier == null ? 0 : seconds(apart);
            final int episodes = rollouts.episodes.size();
            final double predictedGain = learnt() == episodes ? now.predictedGain()
                    : predictedGain(learner, batch(learner, rollouts, learnt(), episodes), episodes - learnt());
            final double beta = learner.beta;
            final Certificate.Terms bound = certify(now, delta, rollouts, batch).with(gain);
            adapt(learner, reached, now.kl());
            learner.moved(now.kl());
            if (metered()) {
                reweigh(learner, rollouts);
            }
            if (probe != null) {
                probe.updated(learner, batch, before, rollouts.madeFor);
            }
            return new RunLog.Update(stage, i + 1, learner.name, names(sigma), named(rollouts.versions), rollouts.episodes.size(),
                    rollouts.madeFor == i ? rollouts.dropped : 0, batch.size(), rollouts.madeFor == i ? rollouts.tokens : 0,
                    batch.tokens(), meanReturn(rollouts.episodes), accuracy(rollouts.episodes), now.surrogate(), predictedGain,
                    now.objective(), now.kl(), now.klMax(), reached, delta, beta, learner.beta, steps,
                    left && region.earlyStop() ? "kl" : "steps", left && region.rollback(), halvings, now.kl() > delta,
                    now.clipFraction(), now.ess(), now.ratioMax(), scoreGap, now.entropy(), gradNorm, fresh,
                    metered() ? shift(rollouts) : Double.NaN, rollouts.madeFor == i ? rollouts.seconds : 0,
                    seconds(started) - watched.seconds - beside, watched.seconds, bound,
                    new RunLog.Outcome(region.unit(), klFloor(learner), overflows, unchanged));
        } finally {
            close(inside);
        }
    }

    /** What is not a number is not within the region either. */
    private static boolean leaves(Monitor.Measure now, double delta) {
        return !(now.kl() <= delta);
    }

    private static double klFloor(Learner learner) {
        return learner.floor == null ? Double.NaN : learner.floor.kl();
    }

    /**
     * Measures what the monitor makes of no step at all, unless that was done and neither the policy nor the length of its
     * messages has changed much since; and sees that δ is more.
     */
    private void measureFloor(int stage, int i, Learner learner, Rollouts rollouts, Listener listener) {
        final Config.TrustRegion region = config.trustRegion();
        final Batch batch = batch(learner, rollouts, 0, learnt());
        if (region.floor() == Config.FloorRule.IGNORE || Double.isInfinite(learner.delta) || hasNothingToLearn(batch) || batch.size() == 0) {
            return;
        }
        final double length = (double) batch.tokens() / batch.size();
        if (learner.floor != null && learner.floor.holds(length, learner.delta)) {
            return;
        }
        learner.floor = new Learner.Floor(monitor.floor(learner.policy, batch, config.seed(), FLOOR, stage, i), length, 0);
        final RunLog.Floor measured = new RunLog.Floor(stage, learner.name, learner.floor.kl(), learner.delta, region.unit(), length);
        listener.floor(measured);
        if (measured.kl() > measured.delta() && region.floor() == Config.FloorRule.REFUSE && (region.earlyStop() || region.rollback())) {
            throw new ArithmeticException(measured.plainly() + ". Expected less than delta: no update could be told from rounding. "
                    + "What helps: policies.<name>.dtype f16 or f32, trust_region.monitor_dtype f32, a larger trust_region.delta, or "
                    + "trust_region.unit token; with trust_region.floor warn it goes on all the same");
        }
    }

    private double step(Learner learner, int stage, int step) {
        try {
            return learner.policy.step(config.optimiser().learningRate());
        } catch (ArithmeticException e) {
            throw new ArithmeticException("stage " + stage + ", agent " + learner.name + ", step " + step + ": " + e.getMessage()
                    + "; the step was not taken. Try a smaller optimiser.learning_rate, dtype: f32 if it is bf16, and rewards that are"
                    + " finite");
        }
    }

    /** β and δ for the learner's next update: PPO's doubling and halving, by the KL that was reached before any way back. */
    private void adapt(Learner learner, double reached, double kept) {
        final Config.TrustRegion region = config.trustRegion();
        if (region.betaRule().equals("adaptive")) {
            final double factor = reached > 1.5 * learner.delta ? 2 : reached < learner.delta / 1.5 ? 0.5 : 1;
            learner.beta = Math.min(region.betaMax(), Math.max(region.betaMin(), learner.beta * factor));
        }
        if (region.deltaRule().equals("adaptive")) {
            final double target = region.deltaTarget() > 0 ? region.deltaTarget() : learner.delta0;
            final double factor = Math.min(1.5, Math.max(1 / 1.5, target / Math.max(kept, 1e-12)));
            learner.delta = Math.min(10 * learner.delta0, Math.max(learner.delta0 / 10, learner.delta * factor));
        }
    }

    SurrogateConfig loss(double beta) {
        final Config.Loss c = config.loss();
        final boolean penalty = !config.trustRegion().betaRule().equals("none");
        return SurrogateConfig.PAPER.withRatio(SurrogateConfig.Ratio.valueOf(constant(c.ratio())))
                .withClip(c.clipLow(), c.clipHigh())
                .withAggregation(SurrogateConfig.Aggregation.valueOf(constant(c.aggregation())))
                .withKl(penalty ? SurrogateConfig.KlTerm.valueOf(constant(c.klTerm())) : SurrogateConfig.KlTerm.NONE, penalty ? beta : 0)
                .withKlAggregation(c.klAggregation().equals("unit") ? config.trustRegion().unit().aggregation()
                        : SurrogateConfig.Aggregation.valueOf(constant(c.klAggregation())))
                .withEntropyCoef(c.entropy());
    }

    // ---- Eq. 11 and what else there is to know about an update ----

    /** The messages the monitor looks at: all, or a random share. */
    private int[] watched(Batch batch, int stage, int i) {
        final int count = (int) Math.ceil(config.trustRegion().fraction() * batch.size());
        final int[] some = Arrays.copyOf(Chance.permutation(batch.size(), config.seed(), MONITOR, stage, i), count);
        Arrays.sort(some);
        return some;
    }

    /** Theorem 3.4. Old rollouts are off by the updates since they were made, too: Prop. 3.3. */
    private Certificate.Terms certify(Monitor.Measure now, double delta, Rollouts rollouts, Batch batch) {
        rollouts.roots += Math.sqrt(Math.max(0, now.klMessage()));
        // The bound is on messages. Of a mean over tokens, one has at most as many times that as the longest has tokens.
        rollouts.radii += Math.sqrt(delta * (config.trustRegion().unit() == Config.Unit.TOKEN ? batch.longest() : 1));
        if (certificate == null) {
            return Certificate.Terms.NONE;
        }
        double squares = 0;
        for (float a0 : batch.centredReturns()) {
            squares += (double) a0 * a0;
        }
        final double scale = config.loss().normalise() ? Math.sqrt(squares / Math.max(1, batch.size())) : 1;
        final double turns = rollouts.episodes.stream().mapToInt(e -> e.messages().size()).average().orElse(1);
        return certificate.terms(now.surrogate(), turns, now.zetas(), rollouts.roots, rollouts.radii, scale);
    }

    private double messagesPerEpisode(Batch batch) {
        return (double) batch.size() / learnt();
    }

    /** Episodes that are learnt from: those of the first prompts. */
    private int learnt() {
        final Config.Rollout r = config.rollout();
        return (promptsEach - (int) Math.round(r.heldBack() * promptsEach)) * r.group();
    }

    /**
     * What the surrogate promises in units of return, from episodes of the same rollouts that the update has not seen. From those it has
     * seen it would promise too much: they chose the step.
     */
    private double predictedGain(Learner learner, Batch heldBack, int episodes) {
        if (heldBack.size() == 0) {
            return 0;
        }
        final float[] logProbs = learner.policy.score(heldBack, sampling.temperature(), null).logProbs();
        double sum = 0;
        for (int m = 0; m < heldBack.size(); m++) {
            sum += Monitor.gain(heldBack, logProbs, m) * heldBack.centredReturns()[m];
        }
        return sum / episodes;
    }

    /** Cached decoding and full scoring are the same function computed in another order: by how much they differ, at most. */
    private static double gap(Batch batch, Policy.Scores scores) {
        double gap = 0;
        for (int u = 0; u < batch.tokens(); u++) {
            gap = Math.max(gap, Math.abs((double) scores.logProbs()[u] - batch.logProbsOld()[u]));
        }
        return gap;
    }

    /**
     * Where no message is better than another, the objective's gradient is rounding noise, which AdamW would blow up to full steps.
     */
    private boolean hasNothingToLearn(Batch batch) {
        for (float advantage : batch.advantages()) {
            if (advantage != 0) {
                return false;
            }
        }
        return config.loss().entropy() == 0 || batch.size() == 0;
    }

    /** The log of an update that left everything as it was. */
    private RunLog.Update unchanged(int stage, int i, List<Learner> sigma, Rollouts rollouts, boolean fresh, Batch batch,
            Probe probe) {
        final Learner learner = sigma.get(i);
        final Monitor.Measure same = Monitor.Measure.unchanged(batch.size());
        if (probe != null) {
            try (Policy.Snapshot before = learner.policy.snapshot()) {
                probe.reached(same.perMessage(), IntStream.range(0, batch.size()).toArray());
                probe.updated(learner, batch, before, rollouts.madeFor);
            }
        }
        return new RunLog.Update(stage, i + 1, learner.name, names(sigma), named(rollouts.versions), rollouts.episodes.size(),
                rollouts.madeFor == i ? rollouts.dropped : 0, batch.size(), rollouts.madeFor == i ? rollouts.tokens : 0, 0,
                meanReturn(rollouts.episodes), accuracy(rollouts.episodes), 0, 0, 0, 0, 0, 0, learner.delta, learner.beta,
                learner.beta, 0, "none", false, 0, false, 0, 1, 1, 0, Double.NaN, 0, fresh,
                metered() ? shift(rollouts) : Double.NaN, rollouts.madeFor == i ? rollouts.seconds : 0, 0, 0,
                certify(same, learner.delta, rollouts, batch).with(certifier == null ? GainBound.NONE
                        : GainBound.unchanged(config.certificate().check())), new RunLog.Outcome(config.trustRegion().unit(), klFloor(learner), 0,
                batch.size() == 0 ? Unchanged.SILENT : Unchanged.EQUAL_RETURNS));
    }

    /** What the stage's updates are diagnosed from: episodes of their own, with the same noise for every team. */
    private Probe probe(List<Prompt> b, int stage) {
        final int group = config.rollout().group();
        return new Probe(config.diagnostics(), sampling.temperature(), group,
                () -> Rollout.play(team, b, group, sampling, verifier, Chance.seed(config.seed(), PROBE, stage), ranks));
    }

    // ---- held-out episodes ----

    /** {@return held-out episodes} The same prompts and the same sampling noise every time, so that what differs is the team. */
    public Evaluation evaluate() {
        return heldOut.evaluate();
    }

    private RunLog.Stage stageLog(int stage, List<String> order, List<RunLog.Update> updates, long tokens, Evaluation after,
            Evaluation before, double seconds) {
        final Evaluation now = after == null ? before : after;
        Double realised = null;
        Double error = null;
        if (after != null && before != null) {
            final Estimate gain = heldOut.gain(now.scores(), before.scores());
            realised = gain.mean();
            error = Double.isNaN(gain.error()) ? null : gain.error();
        }
        return new RunLog.Stage(stage, order, now.returnMean(), now.accuracy(),
                updates.isEmpty() ? null : updates.stream().mapToDouble(RunLog.Update::predictedGain).sum(), realised, error,
                after == null ? 0 : now.scores().size(),
                updates.stream().mapToDouble(u -> u.outOfRegion() ? 1 : 0).average().orElse(0),
                updates.stream().mapToLong(u -> u.secondsRollout() > 0 ? u.episodes() + u.dropped() : 0).sum(), tokens,
                updates.stream().mapToDouble(RunLog.Update::secondsRollout).sum(),
                updates.stream().mapToDouble(RunLog.Update::secondsUpdate).sum(),
                updates.stream().mapToDouble(RunLog.Update::secondsKl).sum(), after == null ? 0 : after.seconds(), seconds,
                Unchanged.Counts.of(updates), certified(updates), after == null ? RunLog.Coordination.NONE : after.coordination());
    }

    /** What the latest update gained. */
    private Estimate check() {
        final List<Verifier.Score> before = checked;
        checked = evaluate().scores();
        return heldOut.gain(checked, before);
    }

    /** Theorem 3.6, in units of return, and the bound that takes its place. */
    private RunLog.Certified certified(List<RunLog.Update> updates) {
        final List<Certificate.Terms> terms = updates.stream().map(RunLog.Update::bound).toList();
        return terms.isEmpty() ? RunLog.Certified.NONE : new RunLog.Certified(
                terms.stream().mapToDouble(t -> t.advantageScale() * t.lSeq()).sum(),
                terms.stream().mapToDouble(t -> t.advantageScale() * t.zeta()).sum(),
                terms.stream().mapToDouble(t -> t.advantageScale() * t.certificate()).sum(),
                terms.stream().mapToDouble(t -> t.advantageScale() * t.certificateRadius()).sum(),
                terms.stream().mapToDouble(t -> t.vacuous() ? 1 : 0).average().orElseThrow(),
                GainBound.Sum.of(terms.stream().map(Certificate.Terms::horizon).toList(), config.certificate().level()));
    }

    // ---- small things ----

    private Truncation truncation() {
        return Truncation.valueOf(constant(config.rollout().truncation()));
    }

    private static String constant(String name) {
        return name.toUpperCase(Locale.ROOT);
    }

    private static List<String> names(List<Learner> sigma) {
        return sigma.stream().map(learner -> learner.name).toList();
    }

    private static Map<String, Long> named(Map<Learner, Long> versions) {
        final Map<String, Long> named = new LinkedHashMap<>();
        versions.forEach((learner, version) -> named.put(learner.name, version));
        return named;
    }

    private static long tokens(List<RunLog.Update> updates) {
        return updates.stream().mapToLong(RunLog.Update::tokens).sum();
    }

    private static double meanReturn(List<Episode> episodes) {
        return episodes.stream().mapToDouble(Episode::reward).average().orElse(0);
    }

    private static double accuracy(List<Episode> episodes) {
        return episodes.stream().mapToDouble(e -> e.score().correct() ? 1 : 0).average().orElse(0);
    }

    private static double seconds(long since) {
        return (System.nanoTime() - since) * 1e-9;
    }

    private static void close(Policy.Snapshot snapshot) {
        if (snapshot != null) {
            snapshot.close();
        }
    }

    /** Frees its own memory; team and policies stay. */
    @Override
    public void close() {
        monitor.close();
    }
}
