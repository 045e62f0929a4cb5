package org.teamtr.torch;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.function.UnaryOperator;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.teamtr.team.Utterance;

/**
 * Some whole messages of a batch that go through the model together: their tokens one after the other, without padding ("packing"). A
 * prompt of several messages goes through the model once, before all messages, if that saves a tenth of these messages' tokens.
 *
 * @param indices the messages' indices in the batch
 * @param tokens the number of tokens of all messages
 * @param shared prompts of several messages, without their last token; that token comes before each message, since its hidden state
 *     predicts the message's first token
 * @param of for each message, the index of its shared prompt; -1 if its prompt is not shared
 */
record MicroBatch(List<Utterance> messages, int[] indices, int tokens, List<int[]> shared, int[] of) {
    /** The fewest tokens for which another worker is used. */
    private static final int FEW = 256;

    /**
     * Consecutive tokens, which attend to each other and to those of a shared prompt.
     *
     * @param tokens the tokens
     * @param prompt the index of the shared prompt before them; -1 for none
     * @param before the number of tokens of that prompt; 0 for none
     */
    record Sequence(int[] tokens, int prompt, int before) {
        /** {@return the number of tokens to which its last token attends} */
        int keys() {
            return before + tokens.length;
        }
    }

    /**
     * Divides a batch into micro-batches of about equal size, in which messages of one prompt are adjacent.
     *
     * @param most the most sequence tokens of a micro-batch, where a prompt counts for each of its messages, since each has a copy of its
     *     keys and values; a micro-batch of a single message may have more
     * @param workers the number of workers, each of which should have work
     */
    static List<MicroBatch> split(List<Utterance> messages, long most, int workers) {
        final int[] prompt = DistinctPrompts.of(messages.stream().map(Utterance::prompt).toList()).of();
        final int[] order = sorted(messages.size(), Comparator.<Integer>comparingInt(m -> messages.get(m).prompt().length)
                .thenComparingInt(m -> prompt[m]).thenComparingInt(m -> messages.get(m).tokens().length));
        long left = messages.stream().mapToLong(MicroBatch::length).sum();
        final long busy = Math.max(1, Math.min(workers, left / FEW));
        final int longest = messages.stream().mapToInt(MicroBatch::length).max().orElse(0);
        final long each = busy * Math.max(1, most - longest / 2); // so that a part that is too large by half a message still fits
        long parts = (left + each - 1) / each * busy;
        final List<MicroBatch> micros = new ArrayList<>();
        int from = 0;
        while (from < order.length) {
            final long share = left / Math.max(1, parts--);
            int to = from;
            long used = 0;
            while (to < order.length) {
                final int next = length(messages.get(order[to]));
                if (to > from && (used + next > most || used + next / 2 > share)) {
                    break;
                }
                used += next;
                to++;
            }
            micros.add(of(messages, Arrays.copyOfRange(order, from, to)).byLength(messages));
            left -= used;
            from = to;
        }
        return micros;
    }

    private static int[] sorted(int count, Comparator<Integer> by) {
        return IntStream.range(0, count).boxed().sorted(by).mapToInt(Integer::intValue).toArray();
    }

    /** {@return the messages of a batch that have these indices} */
    private static MicroBatch of(List<Utterance> batch, int[] indices) {
        return of(indices, Arrays.stream(indices).mapToObj(batch::get).toList());
    }

    private static MicroBatch of(int[] indices, List<Utterance> messages) {
        final DistinctPrompts distinct = DistinctPrompts.of(messages.stream().map(Utterance::prompt).toList());
        final int count = distinct.prompts().size();
        final long[] following = new long[count];
        final long[] tokens = new long[count];
        for (int m = 0; m < messages.size(); m++) {
            following[distinct.of()[m]]++;
            tokens[distinct.of()[m]] += length(messages.get(m));
        }
        final List<int[]> shared = new ArrayList<>();
        final int[] number = new int[count]; // among the shared ones
        for (int p : sorted(count, Comparator.comparingInt(p -> distinct.prompts().get(p).length))) {
            final int[] prompt = distinct.prompts().get(p);
            final long saved = (following[p] - 1) * (prompt.length - 1);
            number[p] = saved > 0 && 10 * saved >= tokens[p] ? shared.size() : -1;
            if (number[p] >= 0) {
                shared.add(Arrays.copyOf(prompt, prompt.length - 1));
            }
        }
        return new MicroBatch(messages, indices, messages.stream().mapToInt(m -> m.tokens().length).sum(), shared,
                Arrays.stream(distinct.of()).map(p -> number[p]).toArray());
    }

    /** {@return the same with adjacent sequences of each length}, so that their attention is computed in one call. */
    private MicroBatch byLength(List<Utterance> batch) {
        final List<Sequence> sequences = sequences();
        final int first = shared.size();
        final int[] order = sorted(indices.length, Comparator.<Integer>comparingInt(m -> sequences.get(first + m).keys())
                .thenComparingInt(m -> sequences.get(first + m).before()));
        return of(batch, Arrays.stream(order).map(m -> indices[m]).toArray());
    }

    /** {@return the same messages, in the same order, after other prompts} */
    MicroBatch withPrompts(UnaryOperator<Utterance> prompted) {
        return of(indices, messages.stream().map(prompted).toList());
    }

    /** The number of tokens that go through the model: prompt and message without the last token, as no token after it is needed. */
    private static int length(Utterance message) {
        return message.prompt().length + message.tokens().length - 1;
    }

    /** {@return the sequences that go through the model: first the shared prompts, then the messages} */
    List<Sequence> sequences() {
        return Stream.concat(shared.stream().map(prompt -> new Sequence(prompt, -1, 0)), IntStream.range(0, of.length).mapToObj(this::sequence))
                .toList();
    }

    private Sequence sequence(int message) {
        final int[] prompt = messages.get(message).prompt();
        final int[] said = messages.get(message).tokens();
        final int before = of[message] < 0 ? 0 : prompt.length - 1;
        final int own = prompt.length - before;
        final int[] tokens = Arrays.copyOfRange(prompt, before, prompt.length + said.length - 1);
        System.arraycopy(said, 0, tokens, own, said.length - 1);
        return new Sequence(tokens, of[message], before);
    }

    /** {@return [tokens] for each token of the messages, the position of the token before it, among the tokens of all sequences} */
    long[] asked() {
        final List<Sequence> sequences = sequences();
        final long[] asked = new long[tokens];
        int t = 0;
        long end = 0; // of the sequence, whose last token is the message's last but one
        for (int s = 0; s < sequences.size(); s++) {
            end += sequences.get(s).tokens.length;
            final int said = s < shared.size() ? 0 : messages.get(s - shared.size()).tokens().length;
            for (int u = 0; u < said; u++) {
                asked[t++] = end - said + u;
            }
        }
        return asked;
    }

    /** {@return [tokens] the tokens of the messages} */
    int[] targets() {
        return messages.stream().flatMapToInt(m -> Arrays.stream(m.tokens())).toArray();
    }

    /** {@return [messages + 1] the bounds of the messages' tokens} */
    long[] cuSeqlens() {
        final long[] bounds = new long[messages.size() + 1];
        for (int m = 0; m < messages.size(); m++) {
            bounds[m + 1] = bounds[m] + messages.get(m).tokens().length;
        }
        return bounds;
    }

    /** {@return the values of these messages, from a vector with a value for each message of the batch} */
    float[] ofMessages(float[] values) {
        final float[] out = new float[indices.length];
        for (int m = 0; m < out.length; m++) {
            out[m] = values[indices[m]];
        }
        return out;
    }

    /** {@return the values of these messages' tokens, from a per-token vector of the batch, in which {@code cuSeqlens} bounds messages} */
    float[] gather(float[] values, long[] cuSeqlens) {
        final float[] out = new float[tokens];
        int at = 0;
        for (int m : indices) {
            final int n = (int) (cuSeqlens[m + 1] - cuSeqlens[m]);
            System.arraycopy(values, (int) cuSeqlens[m], out, at, n);
            at += n;
        }
        return out;
    }

    /** Copies the values of these messages' tokens, which begin at {@code values[from]}, to the messages' places in the batch. */
    void scatter(float[] values, int from, float[] into, long[] cuSeqlens) {
        int at = from;
        for (int m : indices) {
            final int n = (int) (cuSeqlens[m + 1] - cuSeqlens[m]);
            System.arraycopy(values, at, into, (int) cuSeqlens[m], n);
            at += n;
        }
    }
}
