package org.teamtr.torch;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Device;
import org.bytedeco.pytorch.NoGradGuard;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch;
import org.teamtr.kernels.Floats;
import org.teamtr.kernels.Indices;
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

    private final ModelConfig config;
    private final Decoder decoder;
    private final Map<String, Tensor> weights;
    private final torch.ScalarType dtype;
    private final Device device;
    private final int vocab;
    private final int[] ends;

    /** @param ends token ids that end a message */
    Generator(ModelConfig config, Decoder decoder, Map<String, Tensor> weights, torch.ScalarType dtype, Device device, int vocab,
            int[] ends) {
        this.config = config;
        this.decoder = decoder;
        this.weights = weights;
        this.dtype = dtype;
        this.device = device;
        this.vocab = vocab;
        this.ends = ends;
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
        try (NoGradGuard guard = new NoGradGuard(); PointerScope all = new PointerScope()) {
            final Decoder.Cache cache = new Decoder.Cache(config, n, room, dtype, device);
            Tensor mask = padded ? stepMask(prompts, width, room) : null;
            int[] lines = IntStream.range(0, n).toArray(); // which row each line of the batch is
            long[] tokens = null;
            for (int step = 0; step < generation.maxNewTokens(); step++) {
                try (PointerScope scope = new PointerScope()) {
                    final Tensor hidden = step == 0 ? prefill(prompts, width, padded, cache)
                            : advance(prompts, lines, tokens, step, mask, cache);
                    final Tensor logits = decoder.logits(weights, hidden.select(1, hidden.size(1) - 1)).narrow(1, 0, vocab);
                    tokens = sample(logits, generation, seed, step, lines, rowIds, rows);
                }
                final int[] current = lines;
                final int[] going = IntStream.range(0, lines.length).filter(i -> !rows.get(current[i]).ended).toArray();
                if (going.length == 0) {
                    break;
                }
                if (going.length <= lines.length / 2) { // rows that have ended ride along until they are half of the batch
                    final long[] sampled = tokens;
                    final Tensor index = longs(Arrays.stream(going).asLongStream().toArray());
                    cache.select(index);
                    mask = mask == null ? null : mask.index_select(0, index);
                    lines = Arrays.stream(going).map(i -> current[i]).toArray();
                    tokens = Arrays.stream(going).mapToLong(i -> sampled[i]).toArray();
                }
            }
        }
        return rows;
    }

    private Tensor prefill(List<int[]> prompts, int width, boolean padded, Decoder.Cache cache) {
        final int n = prompts.size();
        final long[] ids = new long[n * width];
        final long[] positions = new long[n * width];
        for (int b = 0; b < n; b++) {
            final int[] prompt = prompts.get(b);
            final int start = width - prompt.length;
            for (int i = 0; i < prompt.length; i++) {
                ids[b * width + start + i] = prompt[i];
                positions[b * width + start + i] = i;
            }
        }
        if (!padded) {
            return decoder.hidden(weights, longs(ids, n, width), null, null, cache);
        }
        // A padded column attends to itself, since a row of nothing but -inf has no softmax.
        final float[] mask = new float[n * width * width];
        for (int b = 0; b < n; b++) {
            final int start = width - prompts.get(b).length;
            for (int i = 0; i < width; i++) {
                for (int j = 0; j < width; j++) {
                    final boolean seen = j == i || j < i && j >= start;
                    mask[(b * width + i) * width + j] = seen ? 0 : Float.NEGATIVE_INFINITY;
                }
            }
        }
        return decoder.hidden(weights, longs(ids, n, width), longs(positions), floats(mask, n, 1, width, width), cache);
    }

    /** Feeds the tokens just sampled. */
    private Tensor advance(List<int[]> prompts, int[] lines, long[] tokens, int step, Tensor mask, Decoder.Cache cache) {
        final long[] positions = Arrays.stream(lines).mapToLong(row -> prompts.get(row).length + step - 1).toArray();
        final Tensor seen = mask == null ? null : mask.narrow(3, 0, cache.length + 1L);
        return decoder.hidden(weights, longs(tokens, lines.length, 1), longs(positions), seen, cache);
    }

    /** [rows, 1, 1, room]: everything but the padding is seen. */
    private Tensor stepMask(List<int[]> prompts, int width, int room) {
        final int n = prompts.size();
        final float[] mask = new float[n * room];
        for (int b = 0; b < n; b++) {
            Arrays.fill(mask, b * room, b * room + width - prompts.get(b).length, Float.NEGATIVE_INFINITY);
        }
        return floats(mask, n, 1, 1, room);
    }

    private long[] sample(Tensor logits, Generation generation, long seed, int step, int[] lines, long[] rowIds, List<Row> rows) {
        try (Indices ids = Indices.ofLongs(Arrays.stream(lines).mapToLong(row -> rowIds[row]).toArray());
                Indices drawn = Indices.allocateLongs(lines.length);
                Floats logProbs = Floats.allocate(lines.length)) {
            Sampling.sample(TensorViews.logits(logits), Temperature.of((float) generation.temperature()), generation.filter(), seed,
                    step, ids, drawn, logProbs, null);
            final long[] tokens = drawn.toArray();
            final float[] lp = logProbs.toArray();
            for (int i = 0; i < lines.length; i++) {
                final Row row = rows.get(lines[i]);
                if (row.ended) {
                    tokens[i] = ends[0]; // rides along, whatever was drawn
                    continue;
                }
                if (tokens[i] < 0) {
                    throw new ArithmeticException("logits: expected numbers, given NaN or infinity in row " + lines[i] + " at token " + step);
                }
                row.add((int) tokens[i], lp[i]);
                row.ended = isEnd(tokens[i]);
            }
            return tokens;
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

    private Tensor floats(float[] values, long... shape) {
        return Tensor.create(values, shape).to(device, dtype);
    }
}
