package org.teamtr.experiment;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.SplittableRandom;
import java.util.stream.IntStream;
import org.teamtr.task.Budget;
import org.teamtr.team.KeyedRandom;
import org.teamtr.team.View;
import org.teamtr.train.Certificate;
import org.teamtr.train.Config;
import org.teamtr.train.Diagnostics;
import org.teamtr.train.Estimate;
import org.teamtr.train.GainBound;
import org.teamtr.train.RunLog;
import org.teamtr.train.Trainer;
import org.teamtr.train.UnchangedReason;

/**
 * Algorithm 1 on the budget relay with nothing estimated: policies are tables, expectations are sums. Predicted and realised gain then
 * differ only by the effect of old rollouts.
 *
 * <p>An agent's table holds, for each goal and each sum of the numbers before it, the probabilities of saying 0, 1, .. 15. Goal and sum are
 * all that matters of a transcript, since the return depends on them alone; agents who do not see the transcript have a row for each goal.
 * The tables of the untrained team are the task's teachers. An update follows the natural gradient of E [A] over the states
 * of its rollouts as far as their radius,
 *
 * <pre>
 *   new(a | s) = old(a | s) exp(x A(s, a)) / Z(s)      with the x at which E KL(old || new) = δ,       (Eq. 10, 11)
 * </pre>
 *
 * or, where no x comes to δ, to the best answer. Every agent writes once, so the surrogate of fresh rollouts is the gain:
 * predicted and realised are then the same number. One thread at a time.
 */
public final class ExactRelay {
    /** An agent says 0 .. NUMBERS - 1: teachers aim at 7 at most, with a deviation of 1.2. */
    private static final int NUMBERS = 16;
    /** Beyond this x a policy is the best answer to every state and does not change any more. */
    private static final double SURE = 1e6;
    // What a random draw is for.
    private static final int GOALS = 1;
    private static final int EPISODES = 2;

    private final Config config;
    private final Budget budget;
    private final double delta;
    private final List<String> roles;
    private final int agents;
    private final int firstGoal;
    private final int goals;
    private final int sums;
    private final boolean blind;

    /**
     * @param config of it seed, task.budget.view, train.stages, train.order, train.joint, rollout.resample_every, rollout.reuse_shift and
     *     certificate count; the rest is about models and samples. The view predecessor is refused: a table of it would need its own
     *     message beside the sum
     * @param budget the game
     * @param roles of the agents, which write in this order, once; as many as the game has turns
     * @param delta radius of every agent in nats, finite and more than 0
     */
    public ExactRelay(Config config, Budget budget, List<String> roles, double delta) {
        if (!(delta > 0 && delta < Double.POSITIVE_INFINITY)) {
            throw new IllegalArgumentException("delta: expected a finite number more than 0, given " + delta);
        }
        final View view = config.task().budget().view();
        if (view != View.NONE && view != View.TRANSCRIPT) {
            throw new IllegalArgumentException("task.budget.view: expected none or transcript, given " + view.name().toLowerCase(Locale.ROOT));
        }
        this.config = config;
        this.budget = budget;
        this.delta = delta;
        this.roles = List.copyOf(roles);
        this.agents = roles.size();
        this.firstGoal = budget.goals()[0];
        this.goals = budget.goals()[1] - firstGoal + 1;
        this.sums = agents * (NUMBERS - 1) + 1;
        this.blind = view == View.NONE;
    }

    /**
     * A team: its tables and what follows from them.
     *
     * @param policies [agent][goal][sum before][number]
     * @param occupancy [agent][goal][sum before], probability
     * @param values [agent][goal][sum before], expected return; a last row, of the sum at the end, is the return
     */
    private record Team(double[][][][] policies, double[][][] occupancy, double[][][] values) {
        /** A(s, a) of what agent i says. */
        double advantage(int i, int g, int s, int a) {
            return values[i + 1][g][s + a] - values[i][g][s];
        }

        double value() {
            return Arrays.stream(values[0]).mapToDouble(v -> v[0]).average().orElseThrow();
        }
    }

    private Team team(double[][][][] policies) {
        final double[][][] d = new double[agents + 1][goals][sums];
        final double[][][] v = new double[agents + 1][goals][sums];
        for (int g = 0; g < goals; g++) {
            d[0][g][0] = 1.0 / goals;
            for (int i = 0; i < agents; i++) {
                for (int s = 0; s <= i * (NUMBERS - 1); s++) {
                    for (int a = 0; a < NUMBERS; a++) {
                        d[i + 1][g][s + a] += d[i][g][s] * policies[i][g][s][a];
                    }
                }
            }
            for (int s = 0; s < sums; s++) {
                v[agents][g][s] = budget.reward(s, firstGoal + g);
            }
            for (int i = agents - 1; i >= 0; i--) {
                for (int s = 0; s <= i * (NUMBERS - 1); s++) {
                    for (int a = 0; a < NUMBERS; a++) {
                        v[i][g][s] += policies[i][g][s][a] * v[i + 1][g][s + a];
                    }
                }
            }
        }
        return new Team(policies, d, v);
    }

    private Team teachers() {
        final double[][][][] policies = new double[agents][goals][sums][];
        for (int g = 0; g < goals; g++) {
            final double[] p = budget.teacher(firstGoal + g, NUMBERS);
            for (double[][][] policy : policies) {
                Arrays.fill(policy[g], p);
            }
        }
        return team(policies);
    }

    /**
     * Trains from the teachers to the last stage. Of an update's log only what has a meaning here is filled in; accuracy is that
     * of all goals.
     */
    public void train(Trainer.Listener listener) {
        Team now = teachers();
        listener.staged(staged(0, List.of(), now, null, null, List.of(), 0), List.of());
        for (int stage = 1; stage <= config.train().stages(); stage++) {
            final long started = System.nanoTime();
            final List<Integer> sigma =
                    Trainer.order(config, IntStream.range(0, agents).boxed().toList(), i -> List.of(roles.get(i)), stage);
            final List<String> names = sigma.stream().map(roles::get).toList();
            final int every = config.train().joint() ? 0 : config.rollout().resampleEvery();
            final Team first = now;
            Team rollouts = now;
            int madeFor = 0;
            final List<Double> promised = new ArrayList<>();
            final List<GainBound> gains = new ArrayList<>();
            for (int k = 0; k < agents; k++) {
                final int i = sigma.get(k);
                if (every > 0 && k % every == 0 && (k == 0 || shift(rollouts, now) >= config.rollout().reuseShift())) {
                    rollouts = now;
                    madeFor = k;
                }
                final double[][][] old = now.policies[i];
                final double[][][] updated = step(i, rollouts);
                final double[][][][] policies = now.policies.clone();
                policies[i] = updated;
                final Team then = team(policies);
                final GainBound gain = config.certificate().bound() != Config.BoundKind.HORIZON ? GainBound.NONE
                        : bound(i, now, then, stage, k).realised(new Estimate(then.value() - now.value(), 0));
                gains.add(gain);
                final double predicted = surrogate(i, old, updated, rollouts);
                final double gap = Math.abs(surrogate(i, old, updated, now) - surrogate(i, old, updated, first));
                final double stale = Math.abs(predicted - surrogate(i, old, updated, then));
                final double kl = kl(i, old, updated, rollouts);
                promised.add(predicted);
                listener.updated(log(stage, k, roles.get(i), names, rollouts, predicted, kl, madeFor == k, gain));
                listener.diagnosed(new RunLog.Diagnosis(stage, k + 1, roles.get(i), new RunLog.Staleness(gap, 0, stale, 0, Double.NaN),
                        Diagnostics.Weights.NONE, new RunLog.Monitored(kl > delta, kl, delta, Double.NaN, Double.NaN), List.of(),
                        new RunLog.Played(0, 0, 0)));
                now = then;
            }
            listener.staged(staged(stage, names, now, first, promised, gains, (System.nanoTime() - started) * 1e-9), List.of());
        }
    }

    /** Fields that are not set are not measured here. */
    private RunLog.Update log(int stage, int k, String agent, List<String> order, Team rollouts, double predicted, double kl, boolean fresh,
            GainBound gain) {
        final RunLog.Update.Builder log = new RunLog.Update.Builder();
        log.stage = stage;
        log.step = k + 1;
        log.agent = agent;
        log.order = order;
        log.returnMean = rollouts.value();
        log.accuracy = accuracy(rollouts);
        log.surrogate = predicted;
        log.predictedGain = predicted;
        log.objective = predicted;
        log.kl = kl;
        log.klMax = Double.NaN;
        log.klReached = kl;
        log.delta = delta;
        log.innerSteps = 1;
        log.stoppedBy = "kl";
        log.outOfRegion = kl > delta;
        log.ratioMax = Double.NaN;
        log.gradNorm = Double.NaN;
        log.fresh = fresh;
        log.bound = Certificate.Terms.NONE.with(gain);
        return log.build();
    }

    private RunLog.Stage staged(int stage, List<String> order, Team now, Team before, List<Double> promised, List<GainBound> gains,
            double seconds) {
        return new RunLog.Stage(stage, order, new RunLog.HeldOut(now.value(), accuracy(now), goals, RunLog.Coordination.NONE),
                new RunLog.Gain(promised == null ? null : promised.stream().mapToDouble(p -> p).sum(),
                        before == null ? null : now.value() - before.value(), before == null ? null : 0.0),
                0,
                new RunLog.Spent(0, 0, 0, 0, 0, 0, seconds), UnchangedReason.Counts.NONE, new RunLog.Certified(Double.NaN, Double.NaN, Double.NaN,
                        Double.NaN, Double.NaN, GainBound.Sum.of(gains, config.certificate().level())));
    }

    private double accuracy(Team team) {
        return IntStream.range(0, goals).mapToDouble(g -> team.occupancy[agents][g][firstGoal + g]).sum();
    }

    /** The most that the running sum of a turn has shifted, in total variation: what stands here for the shift of whole episodes. */
    private double shift(Team then, Team now) {
        double most = 0;
        for (int i = 1; i <= agents; i++) {
            double sum = 0;
            for (int g = 0; g < goals; g++) {
                for (int s = 0; s < sums; s++) {
                    sum += Math.abs(now.occupancy[i][g][s] - then.occupancy[i][g][s]) / 2;
                }
            }
            most = Math.max(most, sum);
        }
        return most;
    }

    // ---- the bound on what an update gains: the only thing here that is drawn by chance ----

    private GainBound bound(int i, Team now, Team then, int stage, int k) {
        final int prompts = config.certificate().prompts();
        final double[][] ratios = new double[2][prompts];
        final double[][] returns = new double[2][prompts];
        for (int p = 0; p < prompts; p++) {
            final int g = KeyedRandom.of(config.seed(), GOALS, stage, p).nextInt(goals);
            for (int side = 0; side < 2; side++) {
                final SplittableRandom random = KeyedRandom.of(config.seed(), EPISODES, stage, k, p, side);
                final Team team = side == 0 ? now : then;
                int sum = 0;
                for (int j = 0; j < agents; j++) {
                    final int said = draw(team.policies[j][g][sum], random);
                    ratios[side][p] += j != i ? 0 : Math.log(then.policies[i][g][sum][said] / now.policies[i][g][sum][said]);
                    sum += said;
                }
                returns[side][p] = budget.reward(sum, firstGoal + g);
            }
        }
        return GainBound.of(ratios[0], returns[0], ratios[1], returns[1], now.value(), budget.range(),
                config.certificate().level() / agents, prompts);
    }

    private static int draw(double[] p, SplittableRandom random) {
        double left = random.nextDouble();
        int a = 0;
        while ((left -= p[a]) >= 0 && a < p.length - 1) {
            a++;
        }
        return a;
    }

    // ---- one update ----

    /** L_i on the states of a team: E of the sum over what agent i may say of (new - old) A. */
    private double surrogate(int i, double[][][] old, double[][][] updated, Team team) {
        double sum = 0;
        for (int g = 0; g < goals; g++) {
            for (int s = 0; s <= i * (NUMBERS - 1); s++) {
                for (int a = 0; a < NUMBERS; a++) {
                    sum += team.occupancy[i][g][s] * (updated[g][s][a] - old[g][s][a]) * team.advantage(i, g, s, a);
                }
            }
        }
        return sum;
    }

    /** Eq. 11 */
    private double kl(int i, double[][][] old, double[][][] updated, Team rollouts) {
        double kl = 0;
        for (int g = 0; g < goals; g++) {
            for (int s = 0; s <= i * (NUMBERS - 1); s++) {
                for (int a = 0; a < NUMBERS && rollouts.occupancy[i][g][s] > 0; a++) {
                    final double p = old[g][s][a];
                    kl += p == 0 ? 0 : rollouts.occupancy[i][g][s] * p * Math.log(p / updated[g][s][a]);
                }
            }
        }
        return kl;
    }

    /** The largest step within δ. The rollouts' team has the agent's policy of today: it is updated once a stage. */
    private double[][][] step(int i, Team rollouts) {
        final double[][][] old = rollouts.policies[i];
        double low = 0;
        double high = 1;
        while (high < SURE && kl(i, old, tilted(i, rollouts, high), rollouts) <= delta) {
            low = high;
            high *= 2;
        }
        for (int halving = 0; halving < 50 && high < SURE; halving++) {
            final double middle = (low + high) / 2;
            if (kl(i, old, tilted(i, rollouts, middle), rollouts) <= delta) {
                low = middle;
            } else {
                high = middle;
            }
        }
        return tilted(i, rollouts, low);
    }

    private double[][][] tilted(int i, Team rollouts, double x) {
        final double[][][] old = rollouts.policies[i];
        final double[][][] tilted = new double[goals][sums][];
        for (int g = 0; g < goals; g++) {
            if (blind) {
                Arrays.fill(tilted[g], tilted(old[g][0], x, advantages(i, g, 0, sums - 1, rollouts)));
                continue;
            }
            for (int s = 0; s < sums; s++) {
                tilted[g][s] = rollouts.occupancy[i][g][s] == 0 ? old[g][s]
                        : tilted(old[g][s], x, advantages(i, g, s, s, rollouts));
            }
        }
        return tilted;
    }

    /** [number]: E [A] over the sums from first to last. */
    private double[] advantages(int i, int g, int first, int last, Team rollouts) {
        final double[] mean = new double[NUMBERS];
        double weight = 0;
        for (int s = first; s <= Math.min(last, i * (NUMBERS - 1)); s++) {
            final double d = rollouts.occupancy[i][g][s];
            weight += d;
            for (int a = 0; a < NUMBERS; a++) {
                mean[a] += d * rollouts.advantage(i, g, s, a);
            }
        }
        for (int a = 0; a < NUMBERS; a++) {
            mean[a] /= weight;
        }
        return mean;
    }

    private static double[] tilted(double[] old, double x, double[] advantages) {
        final double[] p = new double[NUMBERS];
        double max = Double.NEGATIVE_INFINITY;
        for (int a = 0; a < NUMBERS; a++) {
            p[a] = Math.log(old[a]) + x * advantages[a];
            max = Math.max(max, p[a]);
        }
        double sum = 0;
        for (int a = 0; a < NUMBERS; a++) {
            // No number ever becomes impossible: nothing could bring it back, and its KL would be infinite.
            p[a] = Math.max(Math.exp(p[a] - max), 1e-300);
            sum += p[a];
        }
        for (int a = 0; a < NUMBERS; a++) {
            p[a] /= sum;
        }
        return p;
    }
}
