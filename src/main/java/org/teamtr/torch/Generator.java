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
 * Batched generation with a key-value cache. Prompts are padded on the left, so that all rows write to the same column; padding has
 * no position and nobody attends to it. Tokens and their log-probs come from the sampling kernel.
 */
final class Generator {
    /** What one row generated. */
    static final class Row {
        int[] tokens;
        float[] logProbs;
        int length;
        boolean ended;

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

    /** Columns behind the prompts that the cache has at first: it grows while messages do. */
    private static final int FIRST_ROOM = 64;

    private final ModelConfig config;
    private final Decoder decoder;
    private final Map<String, Tensor> weights;
    private final torch.ScalarType dtype;
    private final Device device;
    private final int vocab;
    private final int[] ends;
    private final int tokensAtOnce;

    /**
     * @param ends token ids that end a message
     * @param tokensAtOnce of prompts, padding included
     */
    Generator(ModelConfig config, Decoder decoder, Map<String, Tensor> weights, torch.ScalarType dtype, Device device, int vocab,
            int[] ends, int tokensAtOnce) {
        this.config = config;
        this.decoder = decoder;
        this.weights = weights;
        this.dtype = dtype;
        this.device = device;
        this.vocab = vocab;
        this.ends = ends;
        this.tokensAtOnce = tokensAtOnce;
    }

    /**
     * One message per prompt, of at most {@link Generation#maxNewTokens} tokens.
     *
     * @throws ArithmeticException if the logits of a row are not numbers
     */
    List<Row> generate(List<int[]> prompts, Generation generation, long seed, long[] rowIds) {
        final int n = prompts.size();
        final int width = prompts.stream().mapToInt(p -> p.length).max().orElseThrow();
        final int room = width + generation.maxNewTokens();
        final boolean padded = prompts.stream().anyMatch(p -> p.length < width);
        final List<Row> rows = new ArrayList<>(n);
        for (int i = 0; i < n; i++) {
            rows.add(new Row(generation.maxNewTokens()));
        }
        try (NoGradGuard guard = new NoGradGuard(); PointerScope all = new PointerScope();
                KvCache cache = new KvCache(config, n, Math.min(room, width + FIRST_ROOM), room, dtype, device)) {
            final Tensor starts = padded ? longs(prompts.stream().mapToLong(p -> width - p.length).toArray()) : null;
            Tensor mask = padded ? stepMask(starts, room) : null;
            int[] lines = IntStream.range(0, n).toArray(); // which row each line of the batch is
            Tensor ids = longs(rowIds);
            Tensor positions = longs(prompts.stream().mapToLong(p -> p.length - 1).toArray()); // of the tokens that go in next
            Tensor tokens = longs(new long[n]); // the latest of every line: the sampler writes them, and they go in again
            Tensor logProbs = Decoder.empty(new long[] {n}, torch.ScalarType.Float, device);
            for (int step = 0; step < generation.maxNewTokens(); step++) {
                try (PointerScope scope = new PointerScope()) {
                    final Tensor hidden = step == 0 ? prefill(prompts, width, starts, cache) : advance(tokens, positions, mask, cache);
                    final Tensor logits = decoder.logits(weights, hidden).narrow(1, 0, vocab);
                    sample(logits, generation, seed, step, ids, tokens, logProbs);
                    take(tokens, logProbs, step, lines, rows);
                    tokens.clamp_min_(new Scalar(0)); // -1 of a row that has ended
                    positions.add_(new Scalar(1));
                }
                final int[] current = lines;
                final int[] going = IntStream.range(0, lines.length).filter(i -> !rows.get(current[i]).ended).toArray();
                if (going.length == 0) {
                    break;
                }
                if (going.length <= lines.length / 2) { // rows that have ended ride along until they are half of the batch
                    final Tensor index = longs(Arrays.stream(going).asLongStream().toArray());
                    cache.select(index);
                    mask = mask == null ? null : mask.index_select(0, index);
                    ids = ids.index_select(0, index);
                    positions = positions.index_select(0, index);
                    tokens = tokens.index_select(0, index);
                    logProbs = logProbs.index_select(0, index);
                    lines = Arrays.stream(going).map(i -> current[i]).toArray();
                }
            }
        }
        return rows;
    }

    /**
     * The last hidden states of the prompts, [rows, hidden]; some rows after the other, since activations and the mask are of all
     * tokens that go through at once.
     *
     * @param starts where each prompt begins, or null if nothing is padded
     */
    private Tensor prefill(List<int[]> prompts, int width, Tensor starts, KvCache cache) {
        final int n = prompts.size();
        final int atOnce = Math.max(1, Math.min(n, tokensAtOnce / width));
        final Tensor last = Decoder.empty(new long[] {n, config.hidden()}, dtype, device);
        for (int from = 0; from < n; from += atOnce) {
            final int rows = Math.min(atOnce, n - from);
            final long[] ids = new long[rows * width];
            final long[] positions = new long[rows * width];
            for (int b = 0; b < rows; b++) {
                final int[] prompt = prompts.get(from + b);
                final int start = (b + 1) * width - prompt.length;
                for (int i = 0; i < prompt.length; i++) {
                    ids[start + i] = prompt[i];
                    positions[start + i] = i;
                }
            }
            try (PointerScope scope = new PointerScope()) {
                final Tensor hidden = decoder.hidden(weights, longs(ids, rows, width), starts == null ? null : longs(positions),
                        starts == null ? null : prefillMask(starts.narrow(0, from, rows), width), cache.rows(from, rows));
                last.narrow(0, from, rows).copy_(hidden.select(1, width - 1L));
            }
        }
        cache.length = width;
        return last;
    }

    /** [rows, 1, width, width]. A padded column attends to itself, since a row of nothing but -inf has no softmax. */
    private Tensor prefillMask(Tensor starts, int width) {
        final long rows = starts.size(0);
        final Tensor columns = columns(width);
        final Tensor keys = columns.view(1, 1, width);
        final Tensor queries = columns.view(1, width, 1);
        final Tensor hidden = keys.lt(starts.view(rows, 1, 1)).logical_or(keys.gt(queries)).logical_and(keys.ne(queries));
        return masked(hidden).view(rows, 1, width, width);
    }

    /** [rows, 1, 1, room]: everything but the padding is seen. */
    private Tensor stepMask(Tensor starts, int room) {
        final long rows = starts.size(0);
        return masked(columns(room).view(1, room).lt(starts.view(rows, 1))).view(rows, 1, 1, room);
    }

    private Tensor columns(int count) {
        return longs(IntStream.range(0, count).asLongStream().toArray());
    }

    /** -inf where {@code hidden}, else 0. */
    private Tensor masked(Tensor hidden) {
        final long[] shape = new long[(int) hidden.dim()];
        Arrays.setAll(shape, hidden::size);
        return Decoder.empty(shape, dtype, device).zero_().masked_fill_(hidden, new Scalar(Double.NEGATIVE_INFINITY));
    }

    /** Feeds the tokens just sampled; their hidden states, [rows, hidden]. */
    private Tensor advance(Tensor tokens, Tensor positions, Tensor mask, KvCache cache) {
        cache.reserve(cache.length + 1);
        final Tensor seen = mask == null ? null : mask.narrow(3, 0, cache.length + 1L);
        return decoder.hidden(weights, tokens.view(tokens.size(0), 1), positions, seen, cache).select(1, 0);
    }

    /** Writes a token for every line of the batch, and its log-prob. */
    private static void sample(Tensor logits, Generation generation, long seed, int step, Tensor ids, Tensor tokens, Tensor logProbs) {
        Sampling.sample(TensorViews.logits(logits), Temperature.of((float) generation.temperature()), generation.filter(), seed, step,
                TensorViews.indices(ids), TensorViews.indices(tokens), TensorViews.floats(logProbs), null);
    }

    /** Takes what was drawn over into the rows; those that have ended ride along, whatever was drawn. */
    private void take(Tensor tokens, Tensor logProbs, int step, int[] lines, List<Row> rows) {
        final long[] drawn = Host.longs(tokens);
        final float[] lp = Host.floats(logProbs);
        for (int i = 0; i < lines.length; i++) {
            final Row row = rows.get(lines[i]);
            if (row.ended) {
                continue;
            }
            if (drawn[i] < 0) {
                throw new ArithmeticException("logits: expected numbers, given NaN or infinity in row " + lines[i] + " at token " + step);
            }
            row.add((int) drawn[i], lp[i]);
            row.ended = isEnd(drawn[i]);
        }
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
