package org.teamtr.torch;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Device;
import org.bytedeco.pytorch.NoGradGuard;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch;
import org.teamtr.kernels.Sampling;
import org.teamtr.kernels.Temperature;
import org.teamtr.model.ModelConfig;
import org.teamtr.team.Generation;

/**
 * Batched generation with a key-value cache. When a message ends, the next prompt takes its place. Prompts are padded on the left,
 * so that all rows write to the same column; padding has no position and is masked. Tokens and their log-probs come from
 * the sampling kernel. Tokens stay on the device as the model's next input; each step makes one small copy to the host.
 *
 * <p>A step is computed by {@link HostDecoder} on the CPU and by {@link StackedDecoder} elsewhere; prompts by {@link Decoder}.
 */
final class Generator {
    /** The message of one row. */
    static final class Row {
        int[] tokens;
        float[] logProbs;
        int length;
        boolean ended;
        /** Number of tokens drawn for it, including those drawn after its end. */
        private int age;

        private Row(int room) {
            tokens = new int[Math.min(room, 16)];
            logProbs = new float[tokens.length];
        }

        private void add(int token, float logProb) {
            if (length == tokens.length) {
                tokens = Arrays.copyOf(tokens, 2 * length);
                logProbs = Arrays.copyOf(logProbs, 2 * length);
            }
            tokens[length] = token;
            logProbs[length++] = logProb;
        }
    }

    private final ModelConfig config;
    private final Decoder decoder;
    private final double loraScale;
    private final Map<String, Tensor> weights;
    private final torch.ScalarType dtype;
    private final Device device;
    private final int vocab;
    private final int[] ends;
    private final int tokensAtOnce;
    private final boolean graphs;

    /**
     * @param ends token ids that end a message
     * @param tokensAtOnce the most tokens of prompts, padding included, that go through the model at once
     * @param cudaGraphs whether steps on CUDA are launched as graphs
     */
    Generator(ModelConfig config, Decoder decoder, double loraScale, Map<String, Tensor> weights, torch.ScalarType dtype, Device device,
            int vocab, int[] ends, int tokensAtOnce, boolean cudaGraphs) {
        this.config = config;
        this.decoder = decoder;
        this.loraScale = loraScale;
        this.weights = weights;
        this.dtype = dtype;
        this.device = device;
        this.vocab = vocab;
        this.ends = ends;
        this.tokensAtOnce = tokensAtOnce;
        this.graphs = cudaGraphs && device.is_cuda();
    }

    /**
     * Generates one message per prompt, of at most {@link Generation#maxNewTokens} tokens.
     *
     * @param atOnce the most messages that are generated at the same time
     * @throws ArithmeticException if the logits of a row are NaN or infinite
     */
    List<Row> generate(List<int[]> prompts, Generation generation, long seed, long[] rowIds, int atOnce) {
        try (NoGradGuard guard = new NoGradGuard(); PointerScope all = new PointerScope();
                CudaGraph.Recordable stream = graphs ? new CudaGraph.Recordable(device) : null;
                Batch batch = new Batch(prompts, generation, seed, rowIds, Math.min(atOnce, prompts.size()))) {
            while (batch.going() > 0 || batch.waiting()) {
                if (batch.hasRoom()) {
                    batch.arrange();
                } else {
                    batch.step();
                }
            }
            return batch.rows;
        }
    }

    /** The messages that are being generated, each in a line (a row of the batch's tensors), and the prompts that wait. */
    private final class Batch implements AutoCloseable {
        final List<Row> rows = new ArrayList<>();
        private final List<int[]> prompts;
        private final Generation generation;
        private final long seed;
        private final long[] rowIds;
        private final int most;
        private final KvCache cache = new KvCache(config, dtype, device);
        /** Null where inputs must be rounded to TF32, which only {@link Decoder} does. */
        private final NextToken decoding;
        /** The row of each line. Rows of one age are adjacent, since new rows are added at the end. */
        private int[] lines = {};
        private int next;
        private Tensor ids;
        /** Positions of the next tokens, and the cache columns at which lines begin; their sum is the cache's length. */
        private Tensor positions;
        private Tensor starts;
        /** [2, lines] int32: the latest token of each line, which is the next input, and the bits of its log-prob; so one copy takes both. */
        private Tensor drawn;
        /** The mask for {@link Decoder}, [lines, 1, 1, columns]; null where no row is padded. */
        private Tensor mask;

        Batch(List<int[]> prompts, Generation generation, long seed, long[] rowIds, int most) {
            this.prompts = prompts;
            this.generation = generation;
            this.seed = seed;
            this.rowIds = rowIds;
            this.most = most;
            for (int i = 0; i < prompts.size(); i++) {
                rows.add(new Row(generation.maxNewTokens()));
            }
            this.decoding = !decoder.exact() ? null
                    : HostDecoder.serves(device) ? new HostDecoder(config, decoder, weights, dtype, device, loraScale, vocab, most)
                    : new StackedDecoder(config, decoder, weights, dtype, device, loraScale, vocab, most, graphs);
        }

        private boolean goes(int row) {
            return !rows.get(row).ended && rows.get(row).length < generation.maxNewTokens();
        }

        int going() {
            return (int) Arrays.stream(lines).filter(this::goes).count();
        }

        boolean waiting() {
            return next < prompts.size();
        }

        /** {@return whether to remove ended rows}: when they are a quarter of the batch and prompts wait, or else half of the batch. */
        boolean hasRoom() {
            final int going = going();
            return waiting() ? going == 0 || 4 * (most - going) >= most : going <= lines.length / 2;
        }

        /** Removes the rows that have ended, and adds waiting prompts. */
        void arrange() {
            final int[] old = lines;
            final int[] kept = IntStream.range(0, old.length).filter(i -> goes(old[i])).toArray();
            final int first = next;
            next = Math.min(prompts.size(), next + most - kept.length);
            final int come = next - first;
            lines = IntStream.concat(Arrays.stream(kept).map(i -> old[i]), IntStream.range(first, next)).toArray();
            final int begin = Arrays.stream(kept).map(i -> cache.length - tokens(old[i])).min().orElse(cache.length);
            final int width = Arrays.stream(lines).map(this::tokens).max().orElseThrow();
            final int room = width + Arrays.stream(lines).map(row -> generation.maxNewTokens() - rows.get(row).length).max().orElseThrow();
            try (PointerScope scope = new PointerScope()) {
                final Tensor keep = longs(Arrays.stream(kept).asLongStream().toArray());
                cache.arrange(keep, lines.length, begin, width, room);
                ids = replaced(ids, longs(Arrays.stream(lines).mapToLong(row -> rowIds[row]).toArray()));
                positions = replaced(positions, longs(Arrays.stream(lines).mapToLong(this::tokens).toArray()));
                final Tensor fresh = Tensor.create(new int[2 * lines.length], 2, lines.length).to(device, torch.ScalarType.Int);
                if (kept.length > 0) {
                    fresh.narrow(1, 0, kept.length).copy_(drawn.index_select(1, keep));
                }
                drawn = replaced(drawn, fresh);
                starts = replaced(starts, longs(Arrays.stream(lines).mapToLong(row -> width - tokens(row)).toArray()));
                final boolean padded = Arrays.stream(lines).anyMatch(row -> tokens(row) < width);
                mask = replaced(mask, decoding == null && padded ? stepMask(starts, room) : null);
                if (come > 0) {
                    final Tensor hidden = prefilled(prompts.subList(first, next), kept.length, cache);
                    sample(decoder.logits(weights, hidden).narrow(1, 0, vocab), kept.length, come);
                    take(kept.length);
                }
            }
        }

        /** {@return the number of a row's tokens in the cache}: all but the latest that was drawn. */
        private int tokens(int row) {
            return prompts.get(row).length + Math.max(0, rows.get(row).length - 1);
        }

        private Tensor replaced(Tensor old, Tensor with) {
            if (old != null) {
                old.close();
            }
            return with == null ? null : Decoder.kept(with);
        }

        /** Generates one more token of every line. */
        void step() {
            try (PointerScope scope = new PointerScope()) {
                cache.reserve(cache.length + 1);
                final Tensor tokens = drawn.select(0, 0).clamp_min_(new Scalar(0)); // a row that has ended may have -1
                final Tensor logits = decoding != null ? decoding.logits(tokens, positions, starts, cache)
                        : decoder.logits(weights, decoder.hidden(weights, tokens.view(lines.length, 1), positions,
                                mask == null ? null : mask.narrow(3, 0, cache.length + 1L), cache).select(1, 0)).narrow(1, 0, vocab);
                positions.add_(new Scalar(1));
                for (int from = 0; from < lines.length;) {
                    int to = from + 1;
                    while (to < lines.length && rows.get(lines[to]).age == rows.get(lines[from]).age) {
                        to++;
                    }
                    sample(logits.narrow(0, from, to - from), from, to - from);
                    from = to;
                }
                take(0);
            }
        }

        /** Draws a token for each of some lines of the same age, and stores it and its log-prob in {@link #drawn}. */
        private void sample(Tensor logits, int from, int count) {
            final Tensor tokens = drawn.select(0, 0).narrow(0, from, count);
            final Tensor logProbs = drawn.select(0, 1).view(torch.ScalarType.Float).narrow(0, from, count);
            Sampling.sample(TensorViews.logits(logits), Temperature.of((float) generation.temperature()), generation.filter(), seed,
                    rows.get(lines[from]).age, TensorViews.indices(ids.narrow(0, from, count)), TensorViews.indices(tokens),
                    TensorViews.floats(logProbs), null);
        }

        /** Adds the tokens drawn to their rows; what was drawn for a row that has ended is ignored. */
        private void take(int from) {
            final int[] values = HostCopies.ints(drawn);
            for (int i = from; i < lines.length; i++) {
                final Row row = rows.get(lines[i]);
                final int step = row.age++;
                if (!goes(lines[i])) {
                    continue;
                }
                if (values[i] < 0) {
                    throw new ArithmeticException("logits: expected numbers, given NaN or infinity in row " + lines[i] + " at token "
                            + step);
                }
                row.add(values[i], Float.intBitsToFloat(values[lines.length + i]));
                row.ended = isEnd(values[i]);
            }
        }

        @Override
        public void close() {
            for (Tensor tensor : new Tensor[] {ids, positions, starts, drawn, mask}) {
                replaced(tensor, null);
            }
            cache.close();
            if (decoding != null) {
                decoding.close();
            }
        }
    }

    /**
     * Processes each distinct prompt once, and copies its keys and values to every row that begins with it. {@return the last hidden states,
     * [prompts, hidden]}
     *
     * @param line the line of the first prompt; prompts end at the cache's last column
     */
    private Tensor prefilled(List<int[]> prompts, int line, KvCache cache) {
        final DistinctPrompts distinct = DistinctPrompts.of(prompts);
        if (!distinct.repeat()) {
            return prefill(prompts, line, cache);
        }
        final List<int[]> different = distinct.prompts();
        final int width = different.stream().mapToInt(prompt -> prompt.length).max().orElseThrow();
        final Tensor index = longs(Arrays.stream(distinct.of()).asLongStream().toArray());
        try (KvCache once = new KvCache(config, dtype, device)) {
            once.arrange(longs(new long[0]), different.size(), 0, width, width);
            final Tensor last = prefill(different, 0, once);
            cache.part(line, prompts.size(), width).copy(once, index);
            return last.index_select(0, index);
        }
    }

    /**
     * Processes prompts in groups of at most {@link #tokensAtOnce} tokens, which bounds the memory of activations and masks; a longer
     * prompt in pieces. {@return the prompts' last hidden states, [prompts, hidden]}
     *
     * @param line the line of the first prompt; prompts end at the cache's last column
     */
    private Tensor prefill(List<int[]> prompts, int line, KvCache cache) {
        final Tensor last = Decoder.empty(new long[] {prompts.size(), config.hidden()}, dtype, device);
        for (int from = 0; from < prompts.size();) {
            int to = from + 1;
            int width = prompts.get(from).length;
            while (to < prompts.size() && (long) Math.max(width, prompts.get(to).length) * (to + 1 - from) <= tokensAtOnce) {
                width = Math.max(width, prompts.get(to++).length);
            }
            try (PointerScope scope = new PointerScope()) {
                last.narrow(0, from, to - from).copy_(through(prompts.subList(from, to), width, cache.part(line + from, to - from, width)));
            }
            from = to;
        }
        return last;
    }

    /** @param width of the longest of these prompts */
    private Tensor through(List<int[]> prompts, int width, KvCache cache) {
        final int rows = prompts.size();
        final long[] ids = new long[rows * width];
        final long[] positions = new long[rows * width];
        boolean plain = (long) rows * width <= tokensAtOnce || width == 1;
        for (int b = 0; b < rows; b++) {
            final int[] prompt = prompts.get(b);
            final int start = (b + 1) * width - prompt.length;
            plain &= prompt.length == width;
            for (int i = 0; i < prompt.length; i++) {
                ids[start + i] = prompt[i];
                positions[start + i] = i;
            }
        }
        final Tensor tokens = longs(ids, rows, width);
        if (plain) {
            return decoder.hidden(weights, tokens, null, null, cache).select(1, width - 1L);
        }
        final Tensor at = longs(positions, rows, width);
        final Tensor starts = longs(prompts.stream().mapToLong(p -> width - p.length).toArray());
        final int piece = Math.max(1, tokensAtOnce / rows);
        Tensor hidden = null;
        for (int from = 0; from < width; from += piece) {
            final int n = Math.min(piece, width - from);
            if (hidden != null) {
                hidden.close();
            }
            try (PointerScope scope = new PointerScope()) {
                hidden = Decoder.kept(decoder.hidden(weights, tokens.narrow(1, from, n), at.narrow(1, from, n).reshape((long) rows * n),
                        prefillMask(starts, from, n), cache).select(1, n - 1L));
            }
        }
        return Decoder.handed(hidden);
    }

    /**
     * {@return the mask for the columns of a piece, [rows, 1, columns, from + columns]} A padded column attends to itself, since a row of
     * nothing but -inf has no softmax.
     */
    private Tensor prefillMask(Tensor starts, int from, int columns) {
        final long rows = starts.size(0);
        final long all = (long) from + columns;
        final Tensor keys = columns(from + columns).view(1, 1, all);
        final Tensor queries = columns(from + columns).narrow(0, from, columns).view(1, columns, 1);
        final Tensor hidden = keys.lt(starts.view(rows, 1, 1)).logical_or(keys.gt(queries)).logical_and(keys.ne(queries));
        return masked(hidden).view(rows, 1, columns, all);
    }

    /** {@return a mask that hides only padding, [rows, 1, 1, room]} */
    private Tensor stepMask(Tensor starts, int room) {
        final long rows = starts.size(0);
        return masked(columns(room).view(1, room).lt(starts.view(rows, 1))).view(rows, 1, 1, room);
    }

    private Tensor columns(int count) {
        return longs(IntStream.range(0, count).asLongStream().toArray());
    }

    /** {@return -inf where {@code hidden}, else 0} */
    private Tensor masked(Tensor hidden) {
        final long[] shape = new long[(int) hidden.dim()];
        Arrays.setAll(shape, hidden::size);
        return Decoder.empty(shape, dtype, device).zero_().masked_fill_(hidden, new Scalar(Double.NEGATIVE_INFINITY));
    }

    private boolean isEnd(long token) {
        for (int end : ends) {
            if (end == token) {
                return true;
            }
        }
        return false;
    }

    private Tensor longs(long[] values, long... shape) {
        return Tensor.create(values, shape.length == 0 ? new long[] {values.length} : shape).to(device, torch.ScalarType.Long);
    }
}
