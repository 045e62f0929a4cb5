package org.teamtr.train;

import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.TreeMap;
import org.bytedeco.javacpp.FloatPointer;
import org.bytedeco.javacpp.PointerScope;
import org.teamtr.kernels.DType;
import org.teamtr.kernels.Floats;
import org.teamtr.kernels.Indices;
import org.teamtr.kernels.Logits;
import org.teamtr.kernels.PolicyLoss;
import org.teamtr.kernels.SurrogateConfig;
import org.teamtr.kernels.SurrogateStats;
import org.teamtr.kernels.Temperature;
import org.teamtr.team.KeyedRandom;
import org.teamtr.team.ChatTurn;
import org.teamtr.team.Generation;
import org.teamtr.team.Utterance;

/**
 * A policy that can be enumerated: a table of logits for every sequence of tokens it has met. Token 0 ends a message, token v is
 * written as the letter a, b, ... Learns by plain gradient steps. Scores are computed in double, gradients by the kernels.
 */
class TabularPolicy implements Policy {
    private final int vocab;
    private final long seed;
    private final double spread;
    private Map<String, double[]> table = new TreeMap<>();
    private Map<String, double[]> gradient;
    private long version;
    private long versions;
    /** Rows of every call of generate. */
    final List<Integer> generated = new ArrayList<>();

    /** @param spread deviation of the random logits a context starts with */
    TabularPolicy(int vocab, long seed, double spread) {
        this.vocab = vocab;
        this.seed = seed;
        this.spread = spread;
    }

    double[] logits(int[] prompt, int[] tokens, int upTo) {
        final String key = key(prompt, tokens, upTo);
        return table.computeIfAbsent(key, k -> {
            final SplittableRandom random = KeyedRandom.of(seed, k.hashCode());
            return random.doubles(vocab).map(x -> spread * (2 * x - 1)).toArray();
        });
    }

    private static String key(int[] prompt, int[] tokens, int upTo) {
        return Arrays.toString(prompt) + "|" + Arrays.toString(Arrays.copyOf(tokens, upTo));
    }

    /** Log-probs over the vocabulary after a prefix of a message, in double. */
    double[] logProbs(int[] prompt, int[] tokens, int upTo, double temperature) {
        final double[] x = Arrays.stream(logits(prompt, tokens, upTo)).map(v -> v / temperature).toArray();
        final double max = Arrays.stream(x).max().orElseThrow();
        final double lse = max + Math.log(Arrays.stream(x).map(v -> Math.exp(v - max)).sum());
        return Arrays.stream(x).map(v -> v - lse).toArray();
    }

    /** All messages of at most {@code length} tokens that the policy can say, those that are cut included. */
    List<int[]> messages(int length) {
        final List<int[]> all = new ArrayList<>();
        extend(vocab, new int[0], length, all);
        return all;
    }

    /** All messages that begin with a prefix: they end with token 0 or at the length. */
    static void extend(int vocab, int[] prefix, int length, List<int[]> all) {
        for (int v = 0; v < vocab; v++) {
            final int[] next = Arrays.copyOf(prefix, prefix.length + 1);
            next[prefix.length] = v;
            if (v == 0 || next.length == length) {
                all.add(next);
            } else {
                extend(vocab, next, length, all);
            }
        }
    }

    double logProb(int[] prompt, int[] message, double temperature) {
        double sum = 0;
        for (int u = 0; u < message.length; u++) {
            sum += logProbs(prompt, message, u, temperature)[message[u]];
        }
        return sum;
    }

    /** An utterance as if it had been sampled from the policy as it is. */
    Utterance utterance(int[] prompt, int[] message, double temperature) {
        final float[] logProbs = new float[message.length];
        for (int u = 0; u < message.length; u++) {
            logProbs[u] = (float) logProbs(prompt, message, u, temperature)[message[u]];
        }
        final boolean ended = message[message.length - 1] == 0;
        return new Utterance(prompt, message, logProbs, text(message), ended, version);
    }

    private static String text(int[] message) {
        final StringBuilder text = new StringBuilder();
        for (int token : message) {
            if (token != 0) {
                text.append((char) ('a' + token - 1));
            }
        }
        return text.toString();
    }

    @Override
    public int[] encode(List<ChatTurn> turns) {
        return turns.stream().flatMapToInt(t -> t.content().chars()).toArray();
    }

    @Override
    public int[] encodeMessage(String text) {
        return java.util.stream.IntStream.concat(text.chars().map(c -> c - 'a' + 1), java.util.stream.IntStream.of(0)).toArray();
    }

    @Override
    public int contextLength() {
        return 1 << 20;
    }

    @Override
    public List<Utterance> generate(List<int[]> prompts, Generation generation, long key, long[] rowIds) {
        generated.add(prompts.size());
        final List<Utterance> out = new ArrayList<>();
        for (int i = 0; i < prompts.size(); i++) {
            final SplittableRandom random = KeyedRandom.of(key, rowIds[i]);
            int[] message = new int[0];
            do {
                final double[] logProbs = logProbs(prompts.get(i), message, message.length, generation.temperature());
                double left = random.nextDouble();
                int v = -1;
                while (left >= 0 && v < vocab - 1) {
                    left -= Math.exp(logProbs[++v]);
                }
                message = Arrays.copyOf(message, message.length + 1);
                message[message.length - 1] = v;
            } while (message[message.length - 1] != 0 && message.length < generation.maxNewTokens());
            out.add(utterance(prompts.get(i), message, generation.temperature()));
        }
        return out;
    }

    @Override
    public long version() {
        return version;
    }

    @Override
    public Scores score(Batch batch, double temperature, Snapshot anchor) {
        final Scores s = new Scores(new float[batch.tokens()], anchor == null ? null : new float[batch.tokens()], new float[batch.tokens()]);
        int t = 0;
        for (Utterance m : batch.messages()) {
            for (int u = 0; u < m.tokens().length; u++, t++) {
                final double[] now = logProbs(m.prompt(), m.tokens(), u, temperature);
                s.logProbs()[t] = (float) now[m.tokens()[u]];
                s.entropy()[t] = (float) -Arrays.stream(now).map(l -> l * Math.exp(l)).sum();
                if (anchor != null) {
                    final double[] then = ((Tables) anchor).policy().logProbs(m.prompt(), m.tokens(), u, temperature);
                    double kl = 0;
                    for (int v = 0; v < vocab; v++) {
                        kl += Math.exp(then[v]) * (then[v] - now[v]);
                    }
                    s.kl()[t] = (float) kl;
                }
            }
        }
        return s;
    }

    @Override
    public Gradient gradient(Batch batch, double temperature, SurrogateConfig loss, Snapshot anchor) {
        final int rows = batch.tokens();
        final float[] now = new float[rows * vocab];
        final float[] then = new float[rows * vocab];
        final int[] targets = new int[rows];
        final String[] keys = new String[rows];
        int t = 0;
        for (Utterance m : batch.messages()) {
            for (int u = 0; u < m.tokens().length; u++, t++) {
                keys[t] = key(m.prompt(), m.tokens(), u);
                targets[t] = m.tokens()[u];
                for (int v = 0; v < vocab; v++) {
                    now[t * vocab + v] = (float) logits(m.prompt(), m.tokens(), u)[v];
                    then[t * vocab + v] = anchor == null ? 0 : (float) ((Tables) anchor).policy().logits(m.prompt(), m.tokens(), u)[v];
                }
            }
        }
        final float[] slope = new float[now.length];
        final SurrogateStats stats;
        try (PointerScope scope = new PointerScope(); PolicyLoss policyLoss = new PolicyLoss(rows, true)) {
            final FloatPointer data = new FloatPointer(now);
            final Logits view = Logits.of(data, DType.F32, rows, vocab);
            policyLoss.forwardBackward(loss, view, anchor == null ? null : Logits.of(new FloatPointer(then), DType.F32, rows, vocab),
                    Indices.ofInts(targets), Temperature.of((float) temperature), Floats.ofFloats(batch.logProbsOld()),
                    Floats.ofFloats(batch.advantages()), Indices.ofLongs(batch.cuSeqlens()), null,
                    Floats.ofFloats(batch.centredReturns()), view);
            data.get(slope);
            stats = policyLoss.stats().copy();
        }
        gradient = new LinkedHashMap<>();
        for (t = 0; t < rows; t++) {
            final double[] g = gradient.computeIfAbsent(keys[t], k -> new double[vocab]);
            for (int v = 0; v < vocab; v++) {
                g[v] += slope[t * vocab + v];
            }
        }
        return new Gradient(score(batch, temperature, anchor), stats);
    }

    /** d loss / d logits of the context after a prefix of a message, as gradient left it. */
    double[] gradientAt(int[] prompt, int[] tokens, int upTo) {
        return gradient.get(key(prompt, tokens, upTo));
    }

    @Override
    public double imitate(List<Utterance> messages) {
        throw new AssertionError("not asked of a table");
    }

    @Override
    public double step(double learningRate) {
        double norm = 0;
        for (Map.Entry<String, double[]> e : gradient.entrySet()) {
            final double[] row = table.get(e.getKey());
            for (int v = 0; v < vocab; v++) {
                row[v] -= learningRate * e.getValue()[v];
                norm += e.getValue()[v] * e.getValue()[v];
            }
        }
        version = ++versions;
        return Math.sqrt(norm);
    }

    @Override
    public double[] logitShift(Batch batch, Snapshot anchor) {
        final double[] mean = new double[32 - Integer.numberOfLeadingZeros(vocab)];
        for (Utterance m : batch.messages()) {
            for (int u = 0; u < m.tokens().length; u++) {
                final double[] shift = Diagnostics.logitShift(floats(((Tables) anchor).policy()
                        .logits(m.prompt(), m.tokens(), u)), floats(logits(m.prompt(), m.tokens(), u)));
                Arrays.setAll(mean, k -> mean[k] + shift[k] / batch.tokens());
            }
        }
        return mean;
    }

    private static float[] floats(double[] values) {
        final float[] floats = new float[values.length];
        for (int i = 0; i < floats.length; i++) {
            floats[i] = (float) values[i];
        }
        return floats;
    }

    /** A table as it was. */
    private record Tables(TabularPolicy policy) implements Snapshot {
        @Override
        public void close() {
        }
    }

    @Override
    public Snapshot snapshot() {
        final TabularPolicy copy = new TabularPolicy(vocab, seed, spread);
        table.forEach((key, row) -> copy.table.put(key, row.clone()));
        copy.version = version;
        return new Tables(copy);
    }

    @Override
    public void restore(Snapshot snapshot) {
        final TabularPolicy then = ((Tables) snapshot).policy();
        table = new TreeMap<>();
        then.table.forEach((key, row) -> table.put(key, row.clone()));
        version = then.version;
    }

    @Override
    public void shorten(Snapshot snapshot, double share) {
        final TabularPolicy then = ((Tables) snapshot).policy();
        table.forEach((key, row) -> {
            final double[] old = then.table.get(key);
            for (int v = 0; old != null && v < vocab; v++) {
                row[v] = old[v] + share * (row[v] - old[v]);
            }
        });
        version = ++versions;
    }

    @Override
    public void nudge(double size, long key) {
        final SplittableRandom random = new SplittableRandom(key);
        table.values().forEach(row -> Arrays.setAll(row, v -> row[v] + (random.nextBoolean() ? size : -size)));
        version = -1;
    }

    /** Of the parameters that are not as they were drawn: a context that was only met does not count. */
    @Override
    public long fingerprint() {
        long h = 1;
        for (Map.Entry<String, double[]> e : table.entrySet()) {
            final double[] fresh = KeyedRandom.of(seed, e.getKey().hashCode()).doubles(vocab).map(x -> spread * (2 * x - 1)).toArray();
            if (!Arrays.equals(fresh, e.getValue())) {
                h = 31 * h + e.getKey().hashCode();
                h = 31 * h + Arrays.hashCode(e.getValue());
            }
        }
        return h;
    }

    /** What a table is as a file. */
    private record Saved(Map<String, double[]> table, long version, long versions) {
    }

    @Override
    public void save(Path folder) throws IOException {
        new ObjectMapper().writeValue(folder.resolve("table.json").toFile(), new Saved(table, version, versions));
    }

    @Override
    public void load(Path folder) throws IOException {
        final Path file = folder.resolve("table.json");
        final Saved saved;
        try {
            saved = new ObjectMapper().readValue(file.toFile(), Saved.class);
        } catch (IOException e) {
            throw new IOException(file + ": " + e.getMessage(), e);
        }
        table = new TreeMap<>(saved.table());
        version = saved.version();
        versions = saved.versions();
    }

    @Override
    public void close() {
    }
}
