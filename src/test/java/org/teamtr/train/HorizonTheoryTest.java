package org.teamtr.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.SplittableRandom;
import java.util.stream.IntStream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.teamtr.team.KeyedRandom;

/**
 * The bound of docs/theory.md on 1,000 random teams whose expectations are sums: agents that speak once, in turn again and again, and
 * where a router chooses by the context; rollouts that are fresh, of the stage's start, of every second update, and used again while
 * the team has moved little. Values, visits and ranges are computed here from the definitions; nothing of the trainer is in it.
 */
class HorizonTheoryTest {
    private static final int TEAMS = 1000;
    private static final double ROUNDING = 1e-10;
    /** How far a team may move before episodes are not used again. */
    private static final double REUSED = 0.1;
    private static final List<Stage> STAGES = new ArrayList<>();

    /**
     * One stage, index i - 1 being update i.
     *
     * @param single whether every agent speaks once in an episode
     * @param seen [update][rollouts of pihat^b] the surrogate L_i^b
     * @param moved [step] total variation of the agent's messages, summed over its turns
     * @param roots [step] sqrt(delta) of the paper, in the discounted occupancy; null without a discount
     */
    private record Stage(boolean single, double gamma, double[] values, double[][] seen, Shifts shifts, double[] moved, double[] roots,
            double aMax) {
        int n() {
            return moved.length;
        }

        double gain(int i) {
            return values[i + 1] - values[i];
        }

        /** The penalty of update i for rollouts of pihat^b. */
        double penalty(double[][] bound, int i, int b) {
            return Arrays.stream(bound[i], b, i + 1).sum();
        }

        double c() {
            return Math.sqrt(2) * gamma * aMax / Math.pow(1 - gamma, 2);
        }
    }

    /**
     * What the shift of step k adds to the gain of update i beyond the surrogate.
     *
     * @param exact [update][step k]
     * @param tight [update][step k] its bound: total variation times the range of the remaining gain
     * @param coarse [update][step k] the same with the range of the remaining advantages, whatever the team does
     */
    private record Shifts(double[][] exact, double[][] tight, double[][] coarse) {
    }

    /** Which rollouts an update learns from: those of pihat^b. */
    private enum Schedule {
        FRESH, STALE, EVERY_2, REUSE;

        int rollouts(Stage s, int i) {
            return switch (this) {
                case FRESH -> i;
                case STALE -> 0;
                case EVERY_2 -> i - i % 2;
                case REUSE -> {
                    int b = 0;
                    for (int k = 1; k <= i; k++) {
                        b = Arrays.stream(s.moved, b, k).sum() < REUSED ? b : k;
                    }
                    yield b;
                }
            };
        }
    }

    // ---- exact quantities ----

    /** Sum over turns of gamma^t P(s_t = s), without the end. */
    private static double[] visits(ExactTeam world, double[][] p) {
        final double[] visits = new double[world.start.length];
        double[] now = world.start.clone();
        double weight = 1;
        while (weight * Arrays.stream(now).sum() > 1e-17) {
            final double[] then = new double[now.length];
            for (int s = 0; s < now.length; s++) {
                visits[s] += weight * now[s];
                for (int m = 0; m < p[s].length && now[s] > 0; m++) {
                    if (world.next[s][m] >= 0) {
                        then[world.next[s][m]] += now[s] * p[s][m];
                    }
                }
            }
            now = then;
            weight *= world.gamma;
        }
        return visits;
    }

    /** What follows a message, for each: the discounted sum of g from the next context on. Of a team, or {most, least} of any team. */
    private static double[][] after(ExactTeam world, double[][] p, double[] g, int extreme) {
        double[] v = new double[g.length];
        final double[][] after = new double[g.length][world.language.messages.length];
        for (double change = 1; change > 1e-15;) {
            change = 0;
            final double[] w = g.clone();
            for (int s = 0; s < w.length; s++) {
                double best = extreme * Double.NEGATIVE_INFINITY;
                double mean = 0;
                for (int m = 0; m < after[s].length; m++) {
                    final double x = world.next[s][m] < 0 ? 0 : world.gamma * v[world.next[s][m]];
                    after[s][m] = x;
                    best = extreme > 0 ? Math.max(best, x) : Math.min(best, x);
                    mean += p == null ? 0 : p[s][m] * x;
                }
                w[s] += extreme == 0 ? mean : best;
                change = Math.max(change, Math.abs(w[s] - v[s]));
            }
            v = w;
        }
        return after;
    }

    private static double most(double[] x) {
        return Arrays.stream(x).max().orElseThrow();
    }

    private static double least(double[] x) {
        return Arrays.stream(x).min().orElseThrow();
    }

    private static double totalVariation(double[] p, double[] q) {
        return IntStream.range(0, p.length).mapToDouble(m -> Math.abs(p[m] - q[m])).sum() / 2;
    }

    private static Stage stage(ExactTeam world, boolean single, ExactTeam.Table[] team, int[] order, ExactTeam.Table[] to) {
        final int n = order.length;
        final ExactTeam.Table[][] teams = new ExactTeam.Table[n + 1][];
        final double[][][] p = new double[n + 1][][];
        final double[][] visits = new double[n + 1][];
        final double[] values = new double[n + 1];
        teams[0] = team;
        for (int i = 0; i <= n; i++) {
            teams[i] = i == 0 ? team : ExactTeam.with(teams[i - 1], order[i - 1], to[order[i - 1]]);
            p[i] = world.probabilities(teams[i]);
            visits[i] = visits(world, p[i]);
            values[i] = world.value(teams[i]);
        }
        final double[][] seen = new double[n][n];
        final double[][] exact = new double[n][n];
        final double[][] tight = new double[n][n];
        final double[][] coarse = new double[n][n];
        final double[] moved = new double[n];
        final double[] roots = new double[n];
        double aMax = 0;
        for (int i = 0; i < n; i++) {
            final double[][] a = world.advantages(teams[i]);
            aMax = Math.max(aMax, ExactTeam.largest(a));
            final double[] g = new double[world.start.length]; // what the new message is worth, by context
            for (int s = 0; s < g.length; s++) {
                g[s] = world.speaker[s] == order[i] ? ExactTeam.dot(p[i + 1][s], a[s]) : 0;
            }
            for (int b = 0; b <= i; b++) {
                seen[i][b] = ExactTeam.dot(visits[b], g);
            }
            final double[][] high = after(world, null, g, 1);
            final double[][] low = after(world, null, g, -1);
            for (int k = 0; k <= i; k++) {
                final double[][] remaining = after(world, p[k + 1], g, 0);
                for (int s = 0; s < g.length; s++) {
                    if (world.speaker[s] == order[k]) {
                        final double tv = totalVariation(p[k][s], p[k + 1][s]);
                        exact[i][k] += visits[k][s] * (ExactTeam.dot(p[k + 1][s], remaining[s]) - ExactTeam.dot(p[k][s], remaining[s]));
                        tight[i][k] += visits[k][s] * tv * (most(remaining[s]) - least(remaining[s]));
                        coarse[i][k] += visits[k][s] * tv * (most(high[s]) - least(low[s]));
                        moved[i] += k == i ? visits[k][s] * tv : 0;
                    }
                }
            }
            roots[i] = world.gamma < 1 ? Math.sqrt(world.kl(world.occupancy(teams[i]), teams[i], teams[i + 1])) : Double.NaN;
        }
        return new Stage(single, world.gamma, values, seen, new Shifts(exact, tight, coarse), moved, roots, aMax);
    }

    /** Contexts are all transcripts; who speaks is drawn for each, so that the router goes by what was said. */
    private static ExactTeam routed(int n, SplittableRandom random) {
        final ExactTeam t = ExactTeam.transcripts(n, random.nextInt(2, 6), random.nextInt(3) == 0, 1, random);
        final int[] speaker = IntStream.range(0, t.speaker.length).map(s -> random.nextInt(n)).toArray();
        return new ExactTeam(n, t.gamma, t.language, t.start, speaker, t.view, t.next, t.reward);
    }

    @BeforeAll
    static void play() {
        for (int t = 0; t < TEAMS; t++) {
            final SplittableRandom random = KeyedRandom.of(51, t);
            final int n = 2 + t % 4;
            final boolean single = t % 3 == 0;
            final ExactTeam world = single ? ExactTeam.transcripts(n, n, random.nextInt(3) == 0, random.nextBoolean() ? 1
                    : random.nextDouble(0.1, 0.9), random) : t % 3 == 1 ? ExactTeam.random(n, random) : routed(n, random);
            final double spread = random.nextDouble(0, 3);
            final ExactTeam.Table[] team = IntStream.range(0, n).mapToObj(j -> world.table(spread, random)).toArray(ExactTeam.Table[]::new);
            final double size = random.nextDouble(-2, 1);
            final ExactTeam.Table[] to = Arrays.stream(team).map(table -> table.moved(Math.pow(10, size), random))
                    .toArray(ExactTeam.Table[]::new);
            STAGES.add(stage(world, single, team, KeyedRandom.permutation(n, 52, t), to));
        }
    }

    // ---- what they show ----

    /** Surrogate and shifts add up to the gain, whatever rollouts were used. */
    @Test
    void theGainIsTheSurrogateAndTheShifts() {
        for (Stage s : STAGES) {
            for (int i = 0; i < s.n(); i++) {
                for (int b = 0; b <= i; b++) {
                    assertEquals(s.gain(i), s.seen[i][b] + s.penalty(s.shifts.exact, i, b), ROUNDING);
                }
            }
        }
    }

    /** Never violated, by any team under any schedule; nor is the sum over a stage. */
    @Test
    void theBoundHolds() {
        for (Schedule schedule : Schedule.values()) {
            int updates = 0;
            int stages = 0;
            int positive = 0;
            int helped = 0;
            for (Stage s : STAGES) {
                double sum = 0;
                for (int i = 0; i < s.n(); i++) {
                    final int b = schedule.rollouts(s, i);
                    final double bound = s.seen[i][b] - s.penalty(s.shifts.tight, i, b);
                    assertTrue(bound <= s.gain(i) + ROUNDING, schedule + ", update " + (i + 1) + " of " + s);
                    assertTrue(s.penalty(s.shifts.tight, i, b) <= s.penalty(s.shifts.coarse, i, b) + ROUNDING);
                    sum += bound;
                    updates++;
                    helped += s.gain(i) > ROUNDING ? 1 : 0;
                    positive += s.gain(i) > ROUNDING && bound > 0 ? 1 : 0;
                }
                assertTrue(sum <= s.values[s.n()] - s.values[0] + ROUNDING);
                stages++;
            }
            System.out.printf("horizon, %s: holds for %d updates of %d stages; positive for %.0f %% of the updates that helped%n", schedule,
                    updates, stages, 100.0 * positive / helped);
        }
    }

    /** Fresh rollouts and an agent that speaks once: no penalty, and the bound is the gain. */
    @Test
    void ofAgentsThatSpeakOnceItIsTheGain() {
        int cases = 0;
        for (Stage s : STAGES) {
            for (int i = 0; i < s.n() && s.single; i++) {
                assertEquals(0, s.shifts.tight[i][i], 0);
                assertEquals(0, s.shifts.coarse[i][i], 0);
                assertEquals(s.gain(i), s.seen[i][i], ROUNDING);
                cases++;
            }
        }
        assertTrue(cases > TEAMS / 2);
    }

    /** Without the agent's own earlier messages it fails where it speaks again; without the others' where rollouts are old. */
    @Test
    void noneOfItsTermsCanBeLeftOut() {
        int own = 0;
        int others = 0;
        int ownOfStale = 0;
        int cases = 0;
        for (Stage s : STAGES) {
            for (int i = 1; i < s.n(); i++) {
                cases++;
                own += s.seen[i][i] > s.gain(i) + ROUNDING ? 1 : 0;
                others += s.seen[i][0] - s.shifts.tight[i][i] > s.gain(i) + ROUNDING ? 1 : 0;
                ownOfStale += s.seen[i][0] - s.penalty(s.shifts.tight, i, 0) + s.shifts.tight[i][i] > s.gain(i) + ROUNDING ? 1 : 0;
            }
        }
        System.out.printf("horizon, of %d updates: violated %d times without the agent's own messages, %d times without those of others, "
                + "%d times by stale rollouts without its own%n", cases, own, others, ownOfStale);
        assertTrue(own > cases / 10 && others > cases / 10 && ownOfStale > 0);
    }

    /** One state, one message each way: the penalty is needed to the last digit. */
    @Test
    void theConstantIsNeeded() {
        // Agent 0 speaks, then again; after "a" its second word earns +1 or -1, after "b" -1 or +1, and it always says the first.
        final double epsilon = 1e-3;
        final ExactTeam world = new ExactTeam(1, 1, new ExactTeam.Language(2, 1), new double[] {1, 0, 0}, new int[] {0, 0, 0},
                new int[] {0, 1, 2}, new int[][] {{1, 2}, {-1, -1}, {-1, -1}}, new double[][] {{0, 0}, {1, -1}, {-1, 1}});
        final double[][] half = {{0.5, 0.5}};
        final double[][] sure = {{1 - 1e-12, 1e-12}};
        final ExactTeam.Table flat = new ExactTeam.Table(new double[][][] {half, half, half});
        final ExactTeam.Table moved = new ExactTeam.Table(new double[][][] {{{0.5 - epsilon, 0.5 + epsilon}}, sure, sure});
        final Stage s = stage(world, false, new ExactTeam.Table[] {flat}, new int[] {0}, new ExactTeam.Table[] {moved});
        assertEquals(2 * epsilon, s.shifts.tight[0][0], 1e-9);
        assertEquals(s.shifts.tight[0][0], s.seen[0][0] - s.gain(0), 1e-9);
    }

    /** Pinsker: what is not measured as total variation is at most sqrt(KL / 2). Then the paper's bounds follow and say less. */
    @Test
    void thePapersBoundsAreCoarser() {
        double least = Double.POSITIVE_INFINITY;
        int cases = 0;
        for (Stage s : STAGES) {
            if (s.gamma == 1) {
                continue;
            }
            cases++;
            double fresh = 0;
            double stale = 0;
            for (int i = 0; i < s.n(); i++) {
                final double paper = s.c() * s.roots[i];
                assertTrue(s.shifts.coarse[i][i] <= paper + ROUNDING, "Thm 3.4");
                least = s.shifts.coarse[i][i] > 1e-6 ? Math.min(least, paper / s.shifts.coarse[i][i]) : least;
                assertTrue(Math.abs(s.seen[i][i] - s.seen[i][0]) <= s.penalty(s.shifts.tight, i, 0) - s.shifts.tight[i][i] + ROUNDING, "Prop. 3.3");
                final double before = IntStream.range(0, i).mapToDouble(k -> s.roots[k]).sum();
                assertTrue(s.penalty(s.shifts.coarse, i, 0) - s.shifts.coarse[i][i] <= s.c() * before + ROUNDING, "Prop. 3.3");
                fresh += s.shifts.coarse[i][i];
                stale += s.penalty(s.shifts.coarse, i, 0);
            }
            final double roots = Arrays.stream(s.roots).sum();
            assertTrue(fresh <= s.c() * roots + ROUNDING, "Thm 3.6");
            assertTrue(stale <= s.c() * s.n() * roots + ROUNDING, "Thm 3.7");
        }
        System.out.printf("horizon: the paper's penalty is at least %.2f times as large, in %d stages%n", least, cases);
        assertTrue(cases > TEAMS / 4 && least >= 1);
    }
}
