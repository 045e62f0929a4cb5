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
 * Some whole messages of a batch that go through the model together: their tokens end to end, without padding ("packing"). A prompt that
 * several of them follow goes through once, before all messages, where that saves a tenth of its messages' tokens.
 *
 * @param indices of the messages in the batch
 * @param tokens of all messages
 * @param shared prompts that several messages follow, without their last token, which stands before each message, as the token after
 *     which its first is asked for
 * @param of each message, which of these it follows; -1 where its own prompt goes through with it
 */
record MicroBatch(List<Utterance> messages, int[] indices, int tokens, List<int[]> shared, int[] of) {
    /** The fewest tokens for which another worker is used. */
    private static final int FEW = 256;

    /**
     * Tokens that go through the model in a row, and attend to each other and to those of a shared prompt.
     *
     * @param tokens that go through
     * @param prompt which of the shared prompts they come after; -1 for none
     * @param before how many tokens that one has, 0 without
     */
    record Sequence(int[] tokens, int prompt, int before) {
        /** {@return how many tokens its last token attends to} */
        int keys() {
            return before + tokens.length;
        }
    }

    /**
     * Cuts a batch into micro-batches of about equal size, in which messages of one prompt are side by side.
     *
     * @param most sequence tokens of one, a prompt counted for each of its messages, since each has a copy of its keys and values; a single
     *     message may have more
     * @param workers that should all have something to do
     */
    static List<MicroBatch> split(List<Utterance> messages, long most, int workers) {
        final int[] prompt = DistinctPrompts.of(messages.stream().map(Utterance::prompt).toList()).of();
        final int[] order = sorted(messages.size(), Comparator.<Integer>comparingInt(m -> messages.get(m).prompt().length)
                .thenComparingInt(m -> prompt[m]).thenComparingInt(m -> messages.get(m).tokens().length));
        long left = messages.stream().mapToLong(MicroBatch::length).sum();
        final long busy = Math.max(1, Math.min(workers, left / FEW));
        final int longest = messages.stream().mapToInt(MicroBatch::length).max().orElse(0);
        final long each = busy * Math.max(1, most - longest / 2); // what a part has too much, by half a message, still fits
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

    /** @param batch whose messages of these indices it has */
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

    /** {@return the same with sequences of one length side by side}, whose attention is then computed in one call. */
    private MicroBatch byLength(List<Utterance> batch) {
        final List<Sequence> sequences = sequences();
        final int first = shared.size();
        final int[] order = sorted(indices.length, Comparator.<Integer>comparingInt(m -> sequences.get(first + m).keys())
                .thenComparingInt(m -> sequences.get(first + m).before()));
        return of(batch, Arrays.stream(order).map(m -> indices[m]).toArray());
    }

    /** {@return the same messages, tokens and places after other prompts} */
    MicroBatch withPrompts(UnaryOperator<Utterance> prompted) {
        return of(indices, messages.stream().map(prompted).toList());
    }

    /** What goes into the model: prompt and message, but for the last token, after which nothing is asked. */
    private static int length(Utterance message) {
        return message.prompt().length + message.tokens().length - 1;
    }

    /** {@return what goes through the model, in this order: the shared prompts, then the messages} */
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

    /** [tokens] where among the tokens of all sequences each token of the messages is asked for: at the one before it. */
    long[] asked() {
        final List<Sequence> sequences = sequences();
        final long[] asked = new long[tokens];
        int t = 0;
        long end = 0; // of a sequence, which ends with the message but for its last token
        for (int s = 0; s < sequences.size(); s++) {
            end += sequences.get(s).tokens.length;
            final int said = s < shared.size() ? 0 : messages.get(s - shared.size()).tokens().length;
            for (int u = 0; u < said; u++) {
                asked[t++] = end - said + u;
            }
        }
        return asked;
    }

    /** [tokens] the tokens of the messages. */
    int[] targets() {
        return messages.stream().flatMapToInt(m -> Arrays.stream(m.tokens())).toArray();
    }

    /** [messages + 1] */
    long[] cuSeqlens() {
        final long[] bounds = new long[messages.size() + 1];
        for (int m = 0; m < messages.size(); m++) {
            bounds[m + 1] = bounds[m] + messages.get(m).tokens().length;
        }
        return bounds;
    }

    /** Their values of a vector of the batch that has one for each message. */
    float[] ofMessages(float[] values) {
        final float[] out = new float[indices.length];
        for (int m = 0; m < out.length; m++) {
            out[m] = values[indices[m]];
        }
        return out;
    }

    /** Their values of a per-token vector of the batch, whose messages {@code cuSeqlens} bounds. */
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

    /** Puts their values, which stand in {@code values} from some place on, back to their places in the batch. */
    void scatter(float[] values, int from, float[] into, long[] cuSeqlens) {
        int at = from;
        for (int m : indices) {
            final int n = (int) (cuSeqlens[m + 1] - cuSeqlens[m]);
            System.arraycopy(values, at, into, (int) cuSeqlens[m], n);
            at += n;
        }
    }
}
