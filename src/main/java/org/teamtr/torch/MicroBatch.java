package org.teamtr.torch;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.function.ToIntFunction;
import java.util.function.UnaryOperator;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.teamtr.team.Utterance;

/**
 * Some whole messages of a batch that go through the model together, padded on the right. Causal attention never looks there, so
 * padding needs no mask. Where messages have prompts in common and that saves a tenth or more, a prompt goes through the model once
 * ({@link SharedPrompts}).
 *
 * @param indices of the messages in the batch
 * @param width of the padded sequences; with prompts of their own, of the padded messages
 * @param tokens of all messages
 * @param prompts that messages share; null where each message follows its own
 */
record MicroBatch(List<Utterance> messages, int[] indices, int width, int tokens, Prompts prompts) {
    /** As many sequence tokens are enough to be computed at once: from there on less padding is worth more than a larger micro-batch. */
    private static final int ENOUGH = 2048;
    /** The share of padding from which on that is so. */
    private static final double MUCH = 1.0 / 16;
    /** What sharing prompts must leave, of the tokens that are computed without, to be worth the mask and the copies of keys that it takes. */
    private static final double LESS = 0.9;
    /** Numbers of the mask of a micro-batch with shared prompts: 64 MB in f32. */
    private static final long MASK = 16L << 20;

    /**
     * Prompts without their last token, which stands before each message, as the token after which its first is asked for.
     *
     * @param different ones, in the order in which messages have them
     * @param of each message, which of these it follows
     * @param width of the longest
     */
    record Prompts(List<int[]> different, int[] of, int width) {
        static Prompts of(List<Utterance> messages) {
            final DistinctPrompts distinct = DistinctPrompts.of(messages.stream().map(Utterance::prompt).toList());
            final List<int[]> different = distinct.prompts().stream().map(prompt -> Arrays.copyOf(prompt, prompt.length - 1)).toList();
            return new Prompts(different, distinct.of(), different.stream().mapToInt(p -> p.length).max().orElse(0));
        }
    }

    /**
     * Cuts a batch into micro-batches of messages of about the same length.
     *
     * @param most sequence tokens of one, padding included, a prompt counted for each of its messages, whose keys have room for it; a single
     *     message may have more
     * @param workers that should all have something to do
     */
    static List<MicroBatch> split(List<Utterance> messages, long most, int workers) {
        final Prompts prompts = Prompts.of(messages);
        final List<MicroBatch> apart = split(messages, Comparator.comparingInt(m -> width(messages.get(m))), null, most, workers);
        if (prompts.different.size() == messages.size()) {
            return apart;
        }
        final Comparator<Integer> byLength = Comparator.comparingInt(m -> messages.get(m).tokens().length);
        final Comparator<Integer> byPrompt = Comparator.<Integer>comparingInt(m -> messages.get(m).prompt().length)
                .thenComparingInt(m -> prompts.of[m]);
        // With the first there is less padding, with the second a prompt is in fewer micro-batches, where there are many.
        final List<MicroBatch> shared = Stream.of(byLength.thenComparing(byPrompt), byPrompt.thenComparing(byLength))
                .map(order -> split(messages, order, prompts, most, workers)).min(Comparator.comparingLong(MicroBatch::computed)).orElseThrow();
        return computed(shared) <= LESS * computed(apart) ? shared : apart;
    }

    private static long computed(List<MicroBatch> micros) {
        return micros.stream().mapToLong(MicroBatch::computed).sum();
    }

    /** {@return sequence tokens that go through the model, padding included} */
    long computed() {
        return (long) width * messages.size() + (prompts == null ? 0 : (long) prompts.width * prompts.different.size());
    }

    /** @param prompts of all messages, to share them; null not to */
    private static List<MicroBatch> split(List<Utterance> messages, Comparator<Integer> by, Prompts prompts, long most, int workers) {
        final ToIntFunction<Utterance> ofMessage = m -> prompts == null ? width(m) : m.tokens().length;
        final Integer[] order = IntStream.range(0, messages.size()).boxed().toArray(Integer[]::new);
        Arrays.sort(order, by);
        final long all = messages.stream().mapToLong(MicroBatch::width).sum();
        final long room = Math.min(most, Math.max(256, all / workers + 1));
        final List<MicroBatch> micros = new ArrayList<>();
        int from = 0;
        while (from < order.length) {
            final Set<Integer> before = new HashSet<>(); // prompts
            int to = from;
            int tokens = 0;
            int width = 0;
            int promptWidth = 0;
            long used = 0; // without padding
            while (to < order.length) {
                final Utterance next = messages.get(order[to]);
                final int prompt = prompts == null ? 0 : next.prompt().length - 1;
                final boolean another = prompts != null && !before.contains(prompts.of[order[to]]);
                final int wider = Math.max(width, ofMessage.applyAsInt(next));
                final int widerPrompt = Math.max(promptWidth, prompt);
                final long adds = ofMessage.applyAsInt(next) + (another ? prompt : 0);
                final long padded = (long) wider * (to - from + 1) + (long) widerPrompt * (before.size() + (another ? 1 : 0));
                final long columns = (long) (wider + widerPrompt) * (to - from + 1);
                if (to > from
                        && (columns > room || prompts != null && columns * wider > MASK || used >= ENOUGH && padded - used - adds > MUCH * padded)) {
                    break;
                }
                if (prompts != null) {
                    before.add(prompts.of[order[to]]);
                }
                width = wider;
                promptWidth = widerPrompt;
                used += adds;
                tokens += next.tokens().length;
                to++;
            }
            final int[] indices = Arrays.stream(order, from, to).mapToInt(Integer::intValue).toArray();
            final List<Utterance> together = Arrays.stream(indices).mapToObj(messages::get).toList();
            final Prompts own = prompts == null ? null : Prompts.of(together);
            micros.add(own != null && own.different.size() < together.size() ? new MicroBatch(together, indices, width, tokens, own)
                    : new MicroBatch(together, indices, together.stream().mapToInt(MicroBatch::width).max().orElseThrow(), tokens, null));
            from = to;
        }
        return micros;
    }

    /** {@return the same messages, tokens and places after other prompts} */
    MicroBatch withPrompts(UnaryOperator<Utterance> prompted) {
        final List<Utterance> others = messages.stream().map(prompted).toList();
        return prompts != null ? new MicroBatch(others, indices, width, tokens, Prompts.of(others))
                : new MicroBatch(others, indices, others.stream().mapToInt(MicroBatch::width).max().orElseThrow(), tokens, null);
    }

    /** What goes into the model: prompt and message, but for the last token, after which nothing is asked. */
    private static int width(Utterance message) {
        return message.prompt().length + message.tokens().length - 1;
    }

    /** Where the messages begin in {@link #ids}: behind the prompts that they share. */
    private int first() {
        return prompts == null ? 0 : prompts.different.size() * prompts.width;
    }

    /** [messages, width] token ids; before them the prompts that they share, [prompts, width of the prompts]. */
    long[] ids() {
        final long[] ids = new long[first() + messages.size() * width];
        for (int p = 0; prompts != null && p < prompts.different.size(); p++) {
            final int[] prompt = prompts.different.get(p);
            for (int i = 0; i < prompt.length; i++) {
                ids[p * prompts.width + i] = prompt[i];
            }
        }
        for (int b = 0; b < messages.size(); b++) {
            final Utterance message = messages.get(b);
            int at = first() + b * width;
            for (int i = prompts == null ? 0 : message.prompt().length - 1; i < message.prompt().length; i++) {
                ids[at++] = message.prompt()[i];
            }
            for (int u = 0; u < message.tokens().length - 1; u++) {
                ids[at++] = message.tokens()[u];
            }
        }
        return ids;
    }

    /** [tokens] where in {@link #ids} each token of the messages is asked for: at the one before it. */
    long[] positions() {
        final long[] positions = new long[tokens];
        int t = 0;
        for (int b = 0; b < messages.size(); b++) {
            final long first = first() + (long) b * width + (prompts == null ? messages.get(b).prompt().length - 1 : 0);
            for (int u = 0; u < messages.get(b).tokens().length; u++) {
                positions[t++] = first + u;
            }
        }
        return positions;
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

    /** Puts their values back to their places in the batch. */
    void scatter(float[] values, float[] into, long[] cuSeqlens) {
        int at = 0;
        for (int m : indices) {
            final int n = (int) (cuSeqlens[m + 1] - cuSeqlens[m]);
            System.arraycopy(values, at, into, (int) cuSeqlens[m], n);
            at += n;
        }
    }
}
