package org.teamtr.torch;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.function.IntPredicate;
import org.bytedeco.pytorch.Device;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorVector;
import org.bytedeco.pytorch.global.torch;

/**
 * The sequences of a micro-batch on a device, as one row of tokens, one sequence after the other. Only attention depends on their bounds:
 * a token attends to the tokens of its own sequence up to itself, and to all tokens of its sequence's shared prompt. Results equal those
 * of each sequence computed alone, except for the order of sums. The caller's PointerScope owns the tensors.
 */
final class PackedSequences {
    final MicroBatch micro;
    /** The number of messages' tokens in the micro-batches before it. */
    final int tokensBefore;
    /** The number of messages in these. */
    final int messagesBefore;
    /** [tokens] int64, as the following tensors. */
    final Tensor ids;
    /** [tokens] the position of each token in its sequence, after the shared prompt if there is one. */
    final Tensor positions;
    /** [keys] the positions of the tokens to which each sequence attends, one sequence after the other; null if there is no shared prompt. */
    final Tensor keys;
    /** [tokens of the messages] the position, among all tokens, whose hidden state predicts each of them. */
    final Tensor asked;
    /** [tokens of the messages] these tokens. */
    final Tensor targets;
    /** [messages + 1] bounds of the messages' tokens. */
    final Tensor messages;
    /** [sequences + 1] int32, bounds of the sequences' tokens. */
    final Tensor cuQueries;
    /** [sequences + 1] int32, bounds of {@link #keys}. */
    final Tensor cuKeys;
    /** The number of tokens of the longest sequence. */
    final int mostQueries;
    /** The same with shared prompts counted. */
    final int mostKeys;
    private final List<Run> runs = new ArrayList<>();

    /**
     * Adjacent sequences of one length.
     *
     * @param queries number of tokens of each
     * @param keys number of tokens to which the last token of each attends
     */
    private record Run(int count, int queries, int keys) {
    }

    /** Attention of sequences of one length, whose last query attends to all keys, [sequences, heads, tokens, headDim]. */
    interface Attend {
        Tensor of(Tensor q, Tensor k, Tensor v);
    }

    /** @param here whether a micro-batch is computed by this rank; for others there is only {@link #micro} */
    static List<PackedSequences> of(List<MicroBatch> micros, IntPredicate here, Device device) {
        final List<Numbers> numbers = new ArrayList<>();
        for (int part = 0; part < micros.size(); part++) {
            numbers.add(here.test(part) ? new Numbers(micros.get(part)) : null);
        }
        // One copy for all micro-batches, before the first: the host waits for every copy.
        final long[] all = numbers.stream().filter(n -> n != null).flatMap(n -> n.vectors().stream()).flatMapToLong(Arrays::stream).toArray();
        final Tensor there = HostCopies.onDevice(all, device);
        final List<PackedSequences> packed = new ArrayList<>();
        long at = 0;
        for (int part = 0; part < micros.size(); part++) {
            packed.add(new PackedSequences(micros.get(part), part == 0 ? null : packed.get(part - 1), numbers.get(part), there, at));
            at += numbers.get(part) == null ? 0 : numbers.get(part).vectors().stream().mapToLong(v -> v.length).sum();
        }
        return packed;
    }

    /** The contents of the tensors, still on the host. */
    private static final class Numbers {
        final List<MicroBatch.Sequence> sequences;
        final long[] ids;
        final long[] positions;
        final long[] keys;
        final long[] asked;
        final long[] targets;
        final long[] messages;
        final long[] cuQueries;
        final long[] cuKeys;

        Numbers(MicroBatch micro) {
            this.sequences = micro.sequences();
            this.cuQueries = bounds(sequences.stream().mapToInt(s -> s.tokens().length).toArray());
            this.cuKeys = bounds(sequences.stream().mapToInt(MicroBatch.Sequence::keys).toArray());
            this.ids = sequences.stream().flatMapToInt(s -> Arrays.stream(s.tokens())).asLongStream().toArray();
            this.positions = new long[ids.length];
            this.keys = new long[micro.shared().isEmpty() ? 0 : (int) cuKeys[sequences.size()]];
            for (int s = 0, token = 0, key = 0; s < sequences.size(); s++) {
                final MicroBatch.Sequence sequence = sequences.get(s);
                for (int i = 0; keys.length > 0 && i < sequence.keys(); i++) {
                    keys[key++] = i < sequence.before() ? cuQueries[sequence.prompt()] + i : cuQueries[s] + i - sequence.before();
                }
                for (int i = 0; i < sequence.tokens().length; i++) {
                    positions[token++] = sequence.before() + i;
                }
            }
            this.asked = micro.asked();
            this.targets = Arrays.stream(micro.targets()).asLongStream().toArray();
            this.messages = micro.cuSeqlens();
        }

        private static long[] bounds(int[] lengths) {
            final long[] bounds = new long[lengths.length + 1];
            for (int s = 0; s < lengths.length; s++) {
                bounds[s + 1] = bounds[s] + lengths[s];
            }
            return bounds;
        }

        List<long[]> vectors() {
            return List.of(ids, positions, keys, asked, targets, messages, cuQueries, cuKeys);
        }
    }

    private PackedSequences(MicroBatch micro, PackedSequences before, Numbers numbers, Tensor there, long from) {
        this.micro = micro;
        this.tokensBefore = before == null ? 0 : before.tokensBefore + before.micro.tokens();
        this.messagesBefore = before == null ? 0 : before.messagesBefore + before.micro.messages().size();
        final Tensor[] tensors = new Tensor[8];
        if (numbers != null) {
            long at = from;
            for (int i = 0; i < tensors.length; i++) {
                final int n = numbers.vectors().get(i).length;
                tensors[i] = there.narrow(0, at, n);
                at += n;
            }
            numbers.sequences.forEach(this::add);
        }
        this.ids = tensors[0];
        this.positions = tensors[1];
        this.keys = numbers == null || numbers.keys.length == 0 ? null : tensors[2];
        this.asked = tensors[3];
        this.targets = tensors[4];
        this.messages = tensors[5];
        this.cuQueries = numbers == null ? null : tensors[6].to(torch.ScalarType.Int);
        this.cuKeys = numbers == null ? null : tensors[7].to(torch.ScalarType.Int);
        this.mostQueries = runs.stream().mapToInt(Run::queries).max().orElse(0);
        this.mostKeys = runs.stream().mapToInt(Run::keys).max().orElse(0);
    }

    private void add(MicroBatch.Sequence sequence) {
        final int last = runs.size() - 1;
        final Run before = runs.isEmpty() ? null : runs.get(last);
        if (before != null && before.queries == sequence.tokens().length && before.keys == sequence.keys()) {
            runs.set(last, new Run(before.count + 1, before.queries, before.keys));
        } else {
            runs.add(new Run(1, sequence.tokens().length, sequence.keys()));
        }
    }

    /**
     * {@return the keys or values to which the sequences attend, one sequence after the other, each after its shared prompt, [keys,
     * heads, headDim]}
     *
     * @param x the keys or values of all tokens, [tokens, heads, headDim]
     */
    Tensor ofKeys(Tensor x) {
        return keys == null ? x : x.view(x.size(0), x.size(1) * x.size(2)).index_select(0, keys).view(-1, x.size(1), x.size(2));
    }

    /**
     * {@return the attention of all tokens, [tokens, heads, headDim]}
     *
     * @param q [tokens, heads, headDim]
     * @param k [keys, heads, headDim], see {@link #ofKeys}
     * @param v as {@code k}
     */
    Tensor attended(Attend attend, Tensor q, Tensor k, Tensor v) {
        final long[] queries = runs.stream().mapToLong(run -> (long) run.count * run.queries).toArray();
        final long[] attendedTo = runs.stream().mapToLong(run -> (long) run.count * run.keys).toArray();
        final TensorVector qs = torch.split_with_sizes(q, queries);
        final TensorVector ks = torch.split_with_sizes(k, attendedTo);
        final TensorVector vs = torch.split_with_sizes(v, attendedTo);
        final TensorVector out = new TensorVector();
        for (int r = 0; r < runs.size(); r++) {
            final int count = runs.get(r).count;
            out.push_back(attend.of(rows(qs.get(r), count), rows(ks.get(r), count), rows(vs.get(r), count)).transpose(1, 2)
                    .reshape(queries[r], q.size(1), q.size(2)));
        }
        return runs.size() == 1 ? out.get(0) : torch.cat(out, 0);
    }

    /** [rows, heads, tokens, headDim] */
    private static Tensor rows(Tensor x, long rows) {
        return x.view(rows, x.size(0) / rows, x.size(1), x.size(2)).transpose(1, 2);
    }
}
