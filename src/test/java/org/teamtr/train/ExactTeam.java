package org.teamtr.train;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;

/**
 * A discounted message MDP that can be enumerated whole: occupancies, values, advantages and surrogates as the paper defines
 * them, in double. Nothing of the trainer and nothing of the kernels is in it.
 *
 * <p>A state is a context; one agent speaks in it, the next state follows from what it says. -1 is the end, after which nothing
 * is said and nothing is earned.
 */
final class ExactTeam {
    /** All messages of at most so many tokens; token 0 ends one. */
    static final class Language {
        final int vocab;
        final int[][] messages;
        /** [message][token]: the row of a table that the token is drawn from. */
        final int[][] rows;
        final int rowCount;

        Language(int vocab, int length) {
            this.vocab = vocab;
            final List<int[]> all = new ArrayList<>();
            TabularPolicy.extend(vocab, new int[0], length, all);
            messages = all.toArray(int[][]::new);
            final Map<String, Integer> prefixes = new HashMap<>();
            rows = new int[messages.length][];
            for (int m = 0; m < messages.length; m++) {
                rows[m] = new int[messages[m].length];
                for (int u = 0; u < rows[m].length; u++) {
                    rows[m][u] = prefixes.computeIfAbsent(Arrays.toString(Arrays.copyOf(messages[m], u)), k -> prefixes.size());
                }
            }
            rowCount = prefixes.size();
        }
    }

    /** One agent: [view][row][token], probabilities. */
    record Table(double[][][] p) {
        /** {@return another table, its logits moved by {@code size} times noise} */
        Table moved(double size, SplittableRandom random) {
            return new Table(Arrays.stream(p).map(rows -> Arrays.stream(rows).map(row -> softmax(
                    Arrays.stream(row).map(x -> Math.log(x) + size * (2 * random.nextDouble() - 1)).toArray()))
                    .toArray(double[][]::new))
                    .toArray(double[][][]::new));
        }
    }

    final int agents;
    final double gamma;
    final Language language;
    final double[] start;
    final int[] speaker;
    final int[] view;
    final int[][] next;
    final double[][] reward;

    ExactTeam(int agents, double gamma, Language language, double[] start, int[] speaker, int[] view, int[][] next,
            double[][] reward) {
        this.agents = agents;
        this.gamma = gamma;
        this.language = language;
        this.start = start;
        this.speaker = speaker;
        this.view = view;
        this.next = next;
        this.reward = reward;
    }

    /**
     * The shared transcript: a state for every sequence of messages of up to {@code turns}, agents in turn, paid at the end.
     *
     * @param blind whether agents see nothing, otherwise all
     */
    static ExactTeam transcripts(int agents, int turns, boolean blind, double gamma, SplittableRandom random) {
        final Language language = new Language(2, 2);
        final int messages = language.messages.length;
        int states = 0;
        int width = 1;
        for (int t = 0; t < turns; t++, width *= messages) {
            states += width;
        }
        final int[] speaker = new int[states];
        final int[] view = new int[states];
        final int[][] next = new int[states][messages];
        final double[][] reward = new double[states][messages];
        int first = 0;
        width = 1;
        for (int t = 0; t < turns; t++, width *= messages) {
            for (int s = first; s < first + width; s++) {
                speaker[s] = t % agents;
                view[s] = blind ? 0 : s;
                for (int m = 0; m < messages; m++) {
                    next[s][m] = t == turns - 1 ? -1 : first + width + (s - first) * messages + m;
                    reward[s][m] = t == turns - 1 ? 2 * random.nextDouble() - 1 : 0;
                }
            }
            first += width;
        }
        final double[] start = new double[states];
        start[0] = 1;
        return new ExactTeam(agents, gamma, language, start, speaker, view, next, reward);
    }

    /** Talk without end: agents in turn, each sees its predecessor's message alone, every message is paid. */
    static ExactTeam predecessors(int agents, double gamma, SplittableRandom random) {
        final Language language = new Language(3, 2);
        final int messages = language.messages.length;
        final int states = agents * messages;
        final int[] speaker = new int[states];
        final int[] view = new int[states];
        final int[][] next = new int[states][messages];
        final double[][] reward = new double[states][messages];
        for (int s = 0; s < states; s++) {
            speaker[s] = s / messages;
            view[s] = s % messages;
            for (int m = 0; m < messages; m++) {
                next[s][m] = (speaker[s] + 1) % agents * messages + m;
                reward[s][m] = random.nextDouble();
            }
        }
        final double[] start = new double[states];
        Arrays.fill(start, 0, messages, 1.0 / messages);
        return new ExactTeam(agents, gamma, language, start, speaker, view, next, reward);
    }

    static ExactTeam random(int agents, SplittableRandom random) {
        final double gamma = random.nextDouble(0.1, 0.9);
        return random.nextInt(2) == 0 ? predecessors(agents, gamma, random)
                : transcripts(agents, random.nextInt(agents, 6), random.nextInt(3) == 0, gamma, random);
    }

    /** {@return a table for an agent of this team, of logits from -spread to spread} */
    Table table(double spread, SplittableRandom random) {
        final int views = Arrays.stream(view).max().orElseThrow() + 1;
        final double[][] flat = new double[language.rowCount][language.vocab];
        Arrays.stream(flat).forEach(row -> Arrays.fill(row, 1.0 / language.vocab));
        final double[][][] p = new double[views][][];
        Arrays.fill(p, flat);
        return new Table(p).moved(spread, random);
    }

    /** pi(m | s) of the agent that speaks in s: the product over the message's tokens. */
    double probability(Table[] team, int s, int m) {
        double p = 1;
        for (int u = 0; u < language.messages[m].length; u++) {
            p *= row(team, s, m, u)[language.messages[m][u]];
        }
        return p;
    }

    /** The distribution that token u of message m is drawn from. */
    double[] row(Table[] team, int s, int m, int u) {
        return team[speaker[s]].p[view[s]][language.rows[m][u]];
    }

    /** [states][messages] */
    double[][] probabilities(Table[] team) {
        final double[][] p = new double[speaker.length][language.messages.length];
        for (int s = 0; s < p.length; s++) {
            for (int m = 0; m < p[s].length; m++) {
                p[s][m] = probability(team, s, m);
            }
        }
        return p;
    }

    /** d(s) = (1 - gamma) sum over t of gamma^t P(s_t = s), without the end. */
    double[] occupancy(Table[] team) {
        final double[][] p = probabilities(team);
        final double[] d = new double[start.length];
        double[] now = start.clone();
        double weight = 1 - gamma;
        while (weight * Arrays.stream(now).sum() > 1e-17) {
            final double[] then = new double[now.length];
            for (int s = 0; s < now.length; s++) {
                d[s] += weight * now[s];
                for (int m = 0; m < p[s].length && now[s] > 0; m++) {
                    if (next[s][m] >= 0) {
                        then[next[s][m]] += now[s] * p[s][m];
                    }
                }
            }
            now = then;
            weight *= gamma;
        }
        return d;
    }

    double[] values(Table[] team) {
        final double[][] p = probabilities(team);
        double[] v = new double[start.length];
        double change = 1;
        while (change > 1e-15) {
            final double[] w = new double[v.length];
            change = 0;
            for (int s = 0; s < v.length; s++) {
                for (int m = 0; m < p[s].length; m++) {
                    w[s] += p[s][m] * (reward[s][m] + (next[s][m] < 0 ? 0 : gamma * v[next[s][m]]));
                }
                change = Math.max(change, Math.abs(w[s] - v[s]));
            }
            v = w;
        }
        return v;
    }

    /** J(pi) */
    double value(Table[] team) {
        return dot(start, values(team));
    }

    /** A(s, m) of the team. */
    double[][] advantages(Table[] team) {
        final double[] v = values(team);
        final double[][] a = new double[v.length][language.messages.length];
        for (int s = 0; s < v.length; s++) {
            for (int m = 0; m < a[s].length; m++) {
                a[s][m] = reward[s][m] + (next[s][m] < 0 ? 0 : gamma * v[next[s][m]]) - v[s];
            }
        }
        return a;
    }

    /** 1 / (1 - gamma) E over s of d and a of the team of A(s, a). */
    double surrogate(double[] d, Table[] team, double[][] a) {
        final double[][] p = probabilities(team);
        double sum = 0;
        for (int s = 0; s < d.length; s++) {
            sum += d[s] * dot(p[s], a[s]);
        }
        return sum / (1 - gamma);
    }

    /** KL(old || new) of the messages said in s. */
    double kl(Table[] old, Table[] now, int s) {
        double kl = 0;
        for (int m = 0; m < language.messages.length; m++) {
            final double p = probability(old, s, m);
            kl += p * Math.log(p / probability(now, s, m));
        }
        return kl;
    }

    /** E over s of d of KL(old || new). */
    double kl(double[] d, Table[] old, Table[] now) {
        double kl = 0;
        for (int s = 0; s < d.length; s++) {
            kl += d[s] * kl(old, now, s);
        }
        return kl;
    }

    static Table[] with(Table[] team, int agent, Table table) {
        final Table[] changed = team.clone();
        changed[agent] = table;
        return changed;
    }

    static double largest(double[][] a) {
        return Arrays.stream(a).flatMapToDouble(Arrays::stream).map(Math::abs).max().orElseThrow();
    }

    static double dot(double[] a, double[] b) {
        double sum = 0;
        for (int i = 0; i < a.length; i++) {
            sum += a[i] * b[i];
        }
        return sum;
    }

    static double[] softmax(double[] x) {
        final double max = Arrays.stream(x).max().orElseThrow();
        final double[] e = Arrays.stream(x).map(v -> Math.exp(v - max)).toArray();
        final double sum = Arrays.stream(e).sum();
        return Arrays.stream(e).map(v -> v / sum).toArray();
    }
}
