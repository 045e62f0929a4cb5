package org.teamtr.train;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.function.ObjIntConsumer;
import org.teamtr.kernels.SurrogateConfig;
import org.teamtr.team.Agent;
import org.teamtr.team.KeyedRandom;
import org.teamtr.team.Context;
import org.teamtr.team.Episode;
import org.teamtr.team.Generation;
import org.teamtr.team.Message;
import org.teamtr.team.Prompt;
import org.teamtr.team.Prompts;
import org.teamtr.team.Rollout;
import org.teamtr.team.Team;
import org.teamtr.team.Utterance;
import org.teamtr.team.Verifier;

/**
 * Stage-0: aligns a new policy with an agent's old one, before training continues with it.
 * <pre>
 *   collect contexts at which the agent writes, and the incumbent's messages there        probes
 *   minimise KL(incumbent || new), summed over the tokens of a message                    align
 *       until its mean over validation probes is within delta_0           (Eq. 11 with pi_cur := incumbent)
 * </pre>
 * It stops as soon as it is inside, so that the new policy changes no more than the trust region requires. Policies are the caller's; one
 * thread at a time, as for policies.
 */
public final class Alignment {
    private static final int PLAYED_AT_ONCE = 64;
    /** Episodes per probe after which collecting fails, because the agent writes too rarely. */
    private static final int PATIENCE = 20;
    private static final int VALIDATION = 5; // one probe of so many, from the end

    private Alignment() {
    }

    /** The context of an agent's message, and the message. */
    public record Probe(Context context, Utterance said) {
    }

    /**
     * The settings of an alignment.
     *
     * @param delta0 radius in nats, per message or token as {@code unit} says, more than 0 and finite
     * @param unit whether the KL is summed or averaged over a message's tokens
     * @param steps the most optimiser steps, 0 to measure only
     * @param batch probes in one step, 1 or more
     * @param learningRate at the start; over the last third of the steps it falls to 0
     * @param seed of the order of the probes
     */
    public record Settings(double delta0, Config.Unit unit, int steps, int batch, double learningRate, long seed) {
        /** @throws IllegalArgumentException if a number is out of range */
        public Settings {
            require(delta0 > 0 && Double.isFinite(delta0), "delta0", "more than 0 and finite", delta0);
            require(steps >= 0, "steps", "0 or more", steps);
            require(batch >= 1, "batch", "1 or more", batch);
            require(learningRate > 0 && Double.isFinite(learningRate), "learningRate", "more than 0 and finite", learningRate);
        }

        private static void require(boolean holds, String name, String expected, Object given) {
            if (!holds) {
                throw new IllegalArgumentException(name + ": expected " + expected + ", given " + given);
            }
        }
    }

    /**
     * The result of an alignment.
     *
     * @param probes that were learnt from
     * @param validation probes that the KL is measured on
     * @param klSwapped KL(incumbent || new) before the first step, in nats per message, with its standard error over the messages
     * @param kl the same of the policy as it is left: the best that was measured
     * @param steps that were taken
     * @param stoppedBy delta0: the KL is within the radius; steps: it is not, and there were no more; none: there were none to
     *     take
     */
    public record Result(int probes, int validation, Estimate klSwapped, Estimate kl, int steps, String stoppedBy) {
    }

    /**
     * Plays episodes of the current team, one for each prompt, and collects the messages of an agent, at most {@code count}.
     *
     * @param agent index in the team
     * @throws IllegalArgumentException if it does not write that often in 20 times as many episodes
     */
    public static List<Probe> probes(Team team, int agent, Prompts prompts, int count, Generation sampling, Verifier verifier,
            long seed) {
        final int[] order = prompts.size() == Integer.MAX_VALUE ? null : KeyedRandom.permutation(prompts.size(), seed, Draw.ALIGNMENT_CONTEXTS);
        final List<Probe> probes = new ArrayList<>();
        int played = 0;
        while (probes.size() < count) {
            if (played >= (long) PATIENCE * count) {
                throw new IllegalArgumentException("probes: expected " + team.agents().get(agent).role() + " to speak " + count
                        + " times, given " + probes.size() + " in " + played + " episodes");
            }
            final List<Prompt> some = new ArrayList<>();
            for (int i = 0; i < PLAYED_AT_ONCE; i++, played++) {
                some.add(prompts.get(order == null ? played : order[played % order.length]));
            }
            for (Episode episode : Rollout.play(team, some, 1, sampling, verifier, KeyedRandom.seed(seed, Draw.ALIGNMENT_CONTEXTS, played))) {
                for (Message message : episode.messages()) {
                    if (message.agent() == agent && probes.size() < count) {
                        probes.add(new Probe(episode.context().before(message.turn()), message.utterance()));
                    }
                }
            }
        }
        return probes;
    }

    /**
     * {@return the incumbent's message with the prompt and in the tokens of a new policy, and with the incumbent's log-probs} Of
     * other tokens only their sum has a meaning, and they get equal shares of it. Null where nothing is left to say, or it does not fit
     * the new policy's context.
     *
     * @param agent the team's, which uses the new policy; a {@link Policy}
     * @param sameTokens whether both policies have the same tokens
     */
    public static Utterance lesson(Probe probe, Agent agent, Generation sampling, boolean sameTokens) {
        final int[] prompt = Rollout.ask(agent, probe.context, sampling);
        final Utterance said = probe.said;
        if (sameTokens) {
            return new Utterance(prompt, said.tokens(), said.logProbs(), said.text(), said.ended(), 0);
        }
        final int[] ended = ((Policy) agent.speaker()).encodeMessage(said.text());
        final int[] tokens = said.ended() ? ended : Arrays.copyOf(ended, ended.length - 1);
        if (tokens.length == 0 || prompt.length + tokens.length > agent.speaker().contextLength()) {
            return null;
        }
        double sum = 0;
        for (float logProb : said.logProbs()) {
            sum += logProb;
        }
        final float[] logProbs = new float[tokens.length];
        Arrays.fill(logProbs, (float) (sum / tokens.length));
        return new Utterance(prompt, tokens, logProbs, said.text(), said.ended(), 0);
    }

    /**
     * Trains a policy towards the incumbent; its optimiser keeps the state of this training.
     *
     * @param lessons what the incumbent said, in tokens of the policy, with the prompts that the policy is asked with and the
     *     log-probs of the incumbent; the last fifth is for validation
     * @param temperature at which they were sampled, and at which the policies are compared
     * @param incumbent gives the full distributions of the incumbent at the lessons' tokens, for the exact KL; null where it has
     *     other tokens. Then the KL is measured by k1, the mean of log incumbent - log new of whole messages, which is unbiased, but noisy
     *     and at times negative
     * @param watch receives every measurement, with the number of steps before it
     * @throws IllegalArgumentException if there are fewer than two lessons
     */
    public static Result align(Policy policy, List<Utterance> lessons, double temperature, Policy.Snapshot incumbent,
            Settings settings, ObjIntConsumer<Estimate> watch) {
        if (lessons.size() < 2) {
            throw new IllegalArgumentException("lessons: expected 2 or more, to learn from and to measure on, given "
                    + lessons.size());
        }
        final int learnt = lessons.size() - Math.max(1, lessons.size() / VALIDATION);
        final Batch validation = batch(lessons.subList(learnt, lessons.size()));
        final SurrogateConfig loss = SurrogateConfig.PAPER.withKl(incumbent == null ? SurrogateConfig.KlTerm.K1
                : SurrogateConfig.KlTerm.EXACT, 1).withKlAggregation(settings.unit.aggregation()); // advantages are 0, which leaves the KL term alone
        final int perRound = (learnt + settings.batch - 1) / settings.batch;
        final Estimate swapped = kl(policy, validation, temperature, incumbent, settings.unit);
        watch.accept(swapped, 0);
        Estimate best = swapped;
        int steps = 0;
        Policy.Snapshot kept = policy.snapshot(); // the best so far
        try {
            while (best.mean() > settings.delta0 && steps < settings.steps) {
                final int[] order = KeyedRandom.permutation(learnt, settings.seed, Draw.ALIGNMENT_BATCHES, steps);
                for (int b = 0; b < perRound && steps < settings.steps; b++, steps++) {
                    final int from = b * settings.batch;
                    final int to = Math.min(learnt, from + settings.batch);
                    final List<Utterance> some = Arrays.stream(order, from, to).mapToObj(lessons::get).toList();
                    // A gradient that overflowed is computed again, with a smaller loss scale.
                    do {
                        policy.gradient(batch(some), temperature, loss, incumbent);
                    } while (Double.isNaN(policy.step(settings.learningRate * Math.min(1, 3.0 * (settings.steps - steps) / settings.steps))));
                }
                final Estimate now = kl(policy, validation, temperature, incumbent, settings.unit);
                watch.accept(now, steps);
                if (now.mean() < best.mean()) {
                    best = now;
                    kept.close();
                    kept = policy.snapshot();
                }
            }
            policy.restore(kept);
        } finally {
            kept.close();
        }
        final String stoppedBy = settings.steps == 0 ? "none" : best.mean() <= settings.delta0 ? "delta0" : "steps";
        return new Result(learnt, validation.size(), swapped, best, steps, stoppedBy);
    }

    private static Batch batch(List<Utterance> lessons) {
        return Batch.of(lessons, new float[lessons.size()], new float[lessons.size()]);
    }

    /** Eq. 11 with the incumbent as pi_cur: its mean over the messages, and the standard error of that. */
    private static Estimate kl(Policy policy, Batch batch, double temperature, Policy.Snapshot incumbent, Config.Unit unit) {
        final Policy.Scores scores = policy.score(batch, temperature, incumbent);
        return Estimate.of(batch.kl(incumbent == null ? Config.KlEstimator.K1 : Config.KlEstimator.EXACT, unit, scores.logProbs(), scores.kl()));
    }
}
