package org.teamtr.torch;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.function.UnaryOperator;
import java.util.stream.IntStream;
import org.teamtr.team.Utterance;

/**
 * Some whole messages of a batch that go through the model together, padded on the right. Causal attention never looks there, so
 * padding needs no mask.
 *
 * @param indices of the messages in the batch
 * @param width of the padded sequences
 * @param tokens of all messages
 */
record MicroBatch(List<Utterance> messages, int[] indices, int width, int tokens) {
    /** As many sequence tokens are enough to be computed at once: from there on less padding is worth more than a larger micro-batch. */
    private static final int ENOUGH = 2048;
    /** The share of padding from which on that is so. */
    private static final double MUCH = 1.0 / 16;

    /**
     * Cuts a batch into micro-batches of messages of about the same length.
     *
     * @param most sequence tokens of one, padding included; a single message may have more
     * @param workers that should all have something to do
     */
    static List<MicroBatch> split(List<Utterance> messages, long most, int workers) {
        final Integer[] order = IntStream.range(0, messages.size()).boxed().toArray(Integer[]::new);
        Arrays.sort(order, Comparator.comparingInt(m -> width(messages.get(m))));
        final long all = messages.stream().mapToLong(MicroBatch::width).sum();
        final long room = Math.min(most, Math.max(256, all / workers + 1));
        final List<MicroBatch> micros = new ArrayList<>();
        int from = 0;
        while (from < order.length) {
            int to = from;
            int tokens = 0;
            int width = 0;
            long used = 0; // without padding
            while (to < order.length) {
                final Utterance next = messages.get(order[to]);
                final int wider = Math.max(width, width(next));
                final long padded = (long) wider * (to - from + 1);
                if (to > from && (padded > room || used >= ENOUGH && padded - used - width(next) > MUCH * padded)) {
                    break;
                }
                width = wider;
                used += width(next);
                tokens += next.tokens().length;
                to++;
            }
            final int[] indices = Arrays.stream(order, from, to).mapToInt(Integer::intValue).toArray();
            micros.add(new MicroBatch(Arrays.stream(indices).mapToObj(messages::get).toList(), indices, width, tokens));
            from = to;
        }
        return micros;
    }

    /** {@return the same messages, tokens and places after other prompts} */
    MicroBatch withPrompts(UnaryOperator<Utterance> prompted) {
        final List<Utterance> others = messages.stream().map(prompted).toList();
        return new MicroBatch(others, indices, others.stream().mapToInt(MicroBatch::width).max().orElseThrow(), tokens);
    }

    /** What goes into the model: prompt and message, but for the last token, after which nothing is asked. */
    private static int width(Utterance message) {
        return message.prompt().length + message.tokens().length - 1;
    }

    /** [messages, width] token ids. */
    long[] ids() {
        final long[] ids = new long[messages.size() * width];
        for (int b = 0; b < messages.size(); b++) {
            final Utterance message = messages.get(b);
            int at = b * width;
            for (int id : message.prompt()) {
                ids[at++] = id;
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
            final long first = (long) b * width + messages.get(b).prompt().length - 1;
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
