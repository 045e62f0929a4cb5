package org.teamtr.torch;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.function.IntFunction;
import org.bytedeco.javacpp.Pointer;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.BoolOptional;
import org.bytedeco.pytorch.Device;
import org.bytedeco.pytorch.DeviceOptional;
import org.bytedeco.pytorch.DoubleOptional;
import org.bytedeco.pytorch.LayoutOptional;
import org.bytedeco.pytorch.MemoryFormatOptional;
import org.bytedeco.pytorch.NoGradGuard;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.ScalarTypeOptional;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorOptional;
import org.bytedeco.pytorch.TensorVector;
import org.bytedeco.pytorch.global.torch;
import org.teamtr.model.ModelConfig;

/**
 * The decoder of the Qwen3, Qwen2.5, Llama and Mistral families: RMS norm, rotary positions, grouped-query attention (full, or within
 * a sliding window), SwiGLU. The weights are arguments of each call, so training, generation and the anchor of the exact KL use the
 * same decoder.
 *
 * <p>The caller's PointerScope owns returned tensors. Thread-safe.
 */
final class Decoder implements AutoCloseable {
    /** The least number of positions of a rotary table, unless the model has fewer. */
    private static final long FEWEST_POSITIONS = 256;
    /** Number of queries whose attention is computed at once where it needs a mask; the mask has this many rows. */
    private static final int BLOCK = 256;
    /** Prefixes of the names of the tensors that belong to no layer. */
    static final String EMBEDDING = "model.embed_tokens.";
    static final String NORM = "model.norm.";
    private static final String HEAD = "lm_head.";
    private static final String WEIGHT = "weight";
    private final ModelConfig c;
    private final ModelConfig.Attention a;
    private final double loraScale;
    /** Whether the inputs of products are rounded to TF32 in this class; on CUDA libtorch does that. */
    private final boolean rounds;
    private final torch.ScalarType dtype;
    private final Device device;
    private final TensorOptional none = kept(new TensorOptional());
    /** The last one is long enough for the longest text so far; shorter ones are kept for threads that still use them. */
    private final List<Rotary> rotaries = new ArrayList<>();
    private final List<Masks> masks = new ArrayList<>();
    /** Computes the attention of packed sequences in one call; null: in one call for the sequences of each length. */
    private final FlashAttention.VariableLength atOnce;

    /**
     * Rotary tables [positions, headDim]; {@code sin} contains the signs of the rotation. The wide tables have the same numbers in f32,
     * that is, rounded to the decoder's format.
     */
    private record Rotary(int positions, Tensor cos, Tensor sin, Tensor wideCos, Tensor wideSin) {
    }

    /**
     * Masks to add to the scores of the last {@link #BLOCK} queries of a sequence of {@code keys} keys, [BLOCK, keys]: -inf for keys after the
     * query, else 0. Their last rows and columns are the masks for fewer queries and keys. {@code sliding} also has -inf for keys before
     * the window.
     */
    private record Masks(long keys, Tensor causal, Tensor sliding) {
    }

    Decoder(ModelConfig config, torch.ScalarType dtype, Device device, double loraScale) {
        this(config, dtype, device, loraScale, false, null);
    }

    /**
     * @param tf32 whether products of f32 numbers are those of TF32
     * @param atOnce computes the attention of packed sequences in one call; null for one call for the sequences of each length
     */
    Decoder(ModelConfig config, torch.ScalarType dtype, Device device, double loraScale, boolean tf32, FlashAttention.VariableLength atOnce) {
        this.c = config;
        this.a = config.attention();
        this.loraScale = loraScale;
        this.rounds = tf32 && device.is_cpu();
        this.dtype = dtype;
        this.device = device;
        this.atOnce = atOnce;
    }

    /** {@return tables of at least so many positions} They grow with the texts, as a model's longest context may be far longer than a run's. */
    private synchronized Rotary rotary(long positions) {
        final int have = rotaries.isEmpty() ? 0 : rotaries.get(rotaries.size() - 1).positions();
        if (positions > have) {
            rotaries.add(tables((int) Math.max(positions, Math.min(Math.max(FEWEST_POSITIONS, 2L * have), c.rope().positions()))));
        }
        return rotaries.get(rotaries.size() - 1);
    }

    /** {@return cosines of at least so many positions, [positions, headDim] f32, owned by the decoder} */
    Tensor cosine(long positions) {
        return rotary(positions).wideCos();
    }

    /** {@return sines, likewise, with the signs of the rotation} */
    Tensor sine(long positions) {
        return rotary(positions).wideSin();
    }

    /** {@return whether the inputs of products are not rounded in this class} */
    boolean exact() {
        return !rounds;
    }

    private Rotary tables(int positions) {
        final double[] frequencies = c.rope().frequencies(a.headDim());
        final double factor = c.rope().attentionFactor();
        final int half = frequencies.length;
        final float[] cosTable = new float[Math.multiplyExact(positions, 2 * half)];
        final float[] sinTable = new float[cosTable.length];
        for (int p = 0; p < positions; p++) {
            for (int i = 0; i < half; i++) {
                // The product is rounded to f32, as in the implementation that the models were trained with.
                final double angle = (float) p * (float) frequencies[i];
                final int at = p * 2 * half + i;
                cosTable[at] = cosTable[at + half] = (float) (factor * Math.cos(angle));
                sinTable[at + half] = (float) (factor * Math.sin(angle));
                sinTable[at] = -sinTable[at + half];
            }
        }
        try (NoGradGuard guard = new NoGradGuard(); PointerScope scope = new PointerScope()) {
            final Tensor cos = Tensor.create(cosTable, positions, 2L * half).to(device, dtype);
            final Tensor sin = Tensor.create(sinTable, positions, 2L * half).to(device, dtype);
            return new Rotary(positions, kept(cos), kept(sin), kept(cos.to(torch.ScalarType.Float)), kept(sin.to(torch.ScalarType.Float)));
        }
    }

    /** Keeps an object after the end of the scope in which it was made. */
    static <P extends Pointer> P kept(P pointer) {
        return pointer.retainReference();
    }

    /** Passes the ownership of a kept tensor to the innermost scope. */
    static Tensor handed(Tensor tensor) {
        final PointerScope scope = PointerScope.getInnerScope();
        if (scope != null) {
            scope.attach(tensor);
            tensor.releaseReference();
        }
        return tensor;
    }

    static Tensor empty(long[] shape, torch.ScalarType dtype, Device device) {
        return torch.empty(shape, new ScalarTypeOptional(dtype), new LayoutOptional(), new DeviceOptional(device), new BoolOptional(),
                new MemoryFormatOptional());
    }

    /**
     * The last hidden states, [rows, length, hidden].
     *
     * @param w weights by name, with {@code .lora_A.weight} and {@code .lora_B.weight} beside those that have an adapter
     * @param ids [rows, length] int64
     * @param positions [rows * length] int64, none of them more than the number of tokens before it, padding included; or null for
     *     0, 1, 2, ... in every row
     * @param mask added to the attention's scores, [rows, 1, length, keys]; null for plain causal attention, or, with a cache
     *     and length 1, for no mask
     * @param cache of earlier tokens, to which these are appended; null for none
     */
    Tensor hidden(Map<String, Tensor> w, Tensor ids, Tensor positions, Tensor mask, KvCache cache) {
        final long rows = ids.size(0);
        final long length = ids.size(1);
        final long before = cache == null ? 0 : cache.length;
        final Rotary rotary = rotary(before + length);
        final Tensor windowed = a.window() == null || before + length <= a.window().tokens() ? mask
                : windowed(mask, before, length);
        final Tensor x = layers(w, embedded(w, ids.reshape(rows * length)), table(rotary.cos(), positions, rows, length),
                table(rotary.sin(), positions, rows, length), i -> (q, k, v) -> {
                    final Tensor keys = rows(k, rows);
                    final Tensor values = rows(v, rows);
                    return attend(rows(q, rows), perHead(cache == null ? keys : cache.appended(cache.keys, i, keys)),
                            perHead(cache == null ? values : cache.appended(cache.values, i, values)), a.slides(i) ? windowed : mask)
                            .transpose(1, 2);
                });
        if (cache != null) {
            cache.length += (int) length;
        }
        return normed(w, x).view(rows, length, c.hidden());
    }

    /** Reshapes [tokens, heads, headDim] to [rows, heads, length, headDim]. */
    private static Tensor rows(Tensor x, long rows) {
        return x.view(rows, x.size(0) / rows, x.size(1), x.size(2)).transpose(1, 2);
    }

    /** The last hidden states of packed sequences, [tokens, hidden]. */
    Tensor hidden(Map<String, Tensor> w, PackedSequences packed) {
        final Tensor[] tables = tables(packed);
        return normed(w, layers(w, embedded(w, packed.ids), tables[0], tables[1], i -> attention(packed, i)));
    }

    /** Cosines and sines of the sequences' positions. */
    private Tensor[] tables(PackedSequences packed) {
        final Rotary rotary = rotary(packed.mostKeys);
        return new Tensor[] {table(rotary.cos(), packed.positions), table(rotary.sin(), packed.positions)};
    }

    private Attention attention(PackedSequences packed, int i) {
        final long window = a.window() != null && a.slides(i) ? a.window().tokens() : Long.MAX_VALUE;
        return (q, k, v) -> {
            final Tensor keys = packed.ofKeys(k);
            final Tensor values = packed.ofKeys(v);
            if (atOnce != null && FlashAttention.takes(dtype, a.headDim(), window < packed.mostKeys)) {
                final boolean alike = dtype == torch.ScalarType.Float; // its kernel requires as many heads of keys as of queries
                return atOnce.of(q, alike ? perHead(keys) : keys, alike ? perHead(values) : values, packed, window);
            }
            return packed.attended((qs, ks, vs) -> causal(qs, ks, vs, window), q, perHead(keys), perHead(values));
        };
    }

    /** Softmax attention of sequences of one length, [sequences, heads, tokens, headDim], whose last query attends to the last key. */
    private Tensor causal(Tensor q, Tensor k, Tensor v, long window) {
        final long queries = q.size(2);
        final long keys = k.size(2);
        if (queries == keys && keys <= window) {
            return attend(q, k, v, null);
        }
        final Masks all = masks(keys);
        final Tensor mask = window < keys ? all.sliding : all.causal;
        final TensorVector blocks = new TensorVector();
        for (long from = 0; from < queries; from += BLOCK) {
            final long n = Math.min(BLOCK, queries - from);
            final long end = keys - queries + from + n; // one after the last key of these queries
            final long first = Math.max(0, end - n + 1 - window);
            blocks.push_back(attend(q.narrow(2, from, n), k.narrow(2, first, end - first), v.narrow(2, first, end - first),
                    mask.narrow(0, BLOCK - n, n).narrow(1, all.keys - (end - first), end - first)));
        }
        return blocks.size() == 1 ? blocks.get(0) : torch.cat(blocks, 2);
    }

    /** {@return masks of at least so many keys} */
    private synchronized Masks masks(long keys) {
        final long have = masks.isEmpty() ? BLOCK : masks.get(masks.size() - 1).keys;
        if (masks.isEmpty() || keys > have) {
            final long most = (Math.max(keys, masks.isEmpty() ? BLOCK : 2 * have) + 63) / 64 * 64; // the CUDA kernels require aligned rows
            try (NoGradGuard guard = new NoGradGuard(); PointerScope scope = new PointerScope()) {
                masks.add(new Masks(most, kept(masked(most - BLOCK, BLOCK, Long.MAX_VALUE)),
                        a.window() == null ? null : kept(masked(most - BLOCK, BLOCK, a.window().tokens()))));
            }
        }
        return masks.get(masks.size() - 1);
    }

    private Tensor layers(Map<String, Tensor> w, Tensor embedded, Tensor cosine, Tensor sine, IntFunction<Attention> attention) {
        Tensor x = embedded;
        for (int i = 0; i < c.layers(); i++) {
            final Tensor input = x;
            try (PointerScope scope = new PointerScope()) { // frees the layer's intermediate tensors
                x = kept(layer(w, layer(i), input, cosine, sine, attention.apply(i)));
            }
            handed(x);
            input.close();
        }
        return x;
    }

    // ---- the same without a cache, layer by layer ----

    /** {@return the input of the first layer, [tokens, hidden], for ids [tokens]} */
    Tensor embedded(Map<String, Tensor> w, Tensor ids) {
        return torch.embedding(w.get(EMBEDDING + WEIGHT), ids);
    }

    /** {@return the output of a layer for the input x, [tokens, hidden]} */
    Tensor layer(Map<String, Tensor> w, int i, Tensor x, PackedSequences packed) {
        final Tensor[] tables = tables(packed);
        return layer(w, layer(i), x, tables[0], tables[1], attention(packed, i));
    }

    /** {@return the last hidden states, from the output of the last layer} */
    Tensor normed(Map<String, Tensor> w, Tensor x) {
        return norm(x, w.get(NORM + WEIGHT));
    }

    /** {@return the prefix of the names of a layer's tensors} */
    static String layer(int i) {
        return "model.layers." + i + ".";
    }

    /**
     * {@return a mask that also hides keys before the sliding window} Rows are padded on the left, so columns differ by as much as
     * positions.
     */
    private Tensor windowed(Tensor mask, long before, long length) {
        final Tensor window = masked(before, length, a.window().tokens()).view(1, 1, length, before + length);
        return mask == null ? window : window.add(mask);
    }

    /** {@return a causal mask, [length, before + length], for queries after {@code before} earlier keys} */
    private Tensor masked(long before, long length, long window) {
        final long[] shape = {length, before + length};
        final Tensor ones = empty(shape, dtype, device).fill_(new Scalar(1));
        final Tensor behind = ones.triu(before + 1);
        final Tensor hidden = (window > before + length ? behind : behind.add(ones.tril(before - window))).gt(new Scalar(0));
        return empty(shape, dtype, device).zero_().masked_fill_(hidden, new Scalar(Double.NEGATIVE_INFINITY));
    }

    /** The attention of a layer, from queries, keys and values, [tokens, heads, headDim]; queries and keys are already rotated. */
    private interface Attention {
        Tensor of(Tensor q, Tensor k, Tensor v);
    }

    private Tensor layer(Map<String, Tensor> w, String name, Tensor x, Tensor cosine, Tensor sine, Attention attention) {
        final Tensor h = norm(x, w.get(name + "input_layernorm.weight"));
        final Tensor y = x.add(attention(w, name + "self_attn.", h, cosine, sine, attention));
        final Tensor m = norm(y, w.get(name + "post_attention_layernorm.weight"));
        final Tensor gate = torch.silu(linear(w, name + "mlp.gate_proj", m));
        return y.add(linear(w, name + "mlp.down_proj", gate.mul(linear(w, name + "mlp.up_proj", m))));
    }

    /** {@return the name of the head's weight, [vocab, hidden]} */
    String head() {
        return headUnit() + WEIGHT;
    }

    /** {@return the prefix of that name} */
    String headUnit() {
        return c.embedding().tied() ? EMBEDDING : HEAD;
    }

    /** {@return logits [n, vocab] of hidden states [n, hidden]; in f32 also for 16-bit hidden states} */
    Tensor logits(Map<String, Tensor> w, Tensor hidden) {
        return HeadProduct.logits(input(hidden), input(w.get(head())));
    }

    /** {@return x as an input of a product: rounded to TF32 if this class does that} */
    Tensor input(Tensor x) {
        return rounds ? Tf32.rounded(x) : x;
    }

    private Tensor attention(Map<String, Tensor> w, String name, Tensor x, Tensor cosine, Tensor sine, Attention attention) {
        Tensor q = linear(w, name + "q_proj", x).view(-1, a.heads(), a.headDim());
        Tensor k = linear(w, name + "k_proj", x).view(-1, a.kvHeads(), a.headDim());
        final Tensor v = linear(w, name + "v_proj", x).view(-1, a.kvHeads(), a.headDim());
        if (a.qkNorm()) {
            q = norm(q, w.get(name + "q_norm.weight"));
            k = norm(k, w.get(name + "k_norm.weight"));
        }
        final Tensor out = attention.of(rotated(q, cosine, sine), rotated(k, cosine, sine), v);
        return linear(w, name + "o_proj", out.reshape(-1, a.qWidth()));
    }

    /**
     * Softmax attention; q, k, v and the result are [rows, heads, length, headDim].
     *
     * @param mask as for {@link #hidden}
     */
    private Tensor attend(Tensor q, Tensor k, Tensor v, Tensor mask) {
        return torch.scaled_dot_product_attention(input(q), input(k), input(v), mask == null ? none : new TensorOptional(mask), 0,
                mask == null && q.size(2) > 1, new DoubleOptional(), false);
    }

    /** Repeats each head (dimension 1) of keys or values for the heads of queries that share it. */
    private Tensor perHead(Tensor kv) {
        if (a.kvHeads() == a.heads()) {
            return kv;
        }
        final long[] shape = new long[(int) kv.dim() + 1];
        Arrays.fill(shape, -1); // -1: unchanged
        shape[2] = a.heads() / a.kvHeads();
        return kv.unsqueeze(2).expand(shape).flatten(1, 2);
    }

    /** Rotates heads: with halves a and b, (a, b) becomes (a cos - b sin, b cos + a sin). Rolling by half a head swaps a and b. */
    private Tensor rotated(Tensor x, Tensor cosine, Tensor sine) {
        final Tensor swapped = x.roll(new long[] {a.headDim() / 2}, -1);
        return x.mul(cosine).add(swapped.mul(sine));
    }

    /** {@return the rows of a table at some positions, [tokens, 1, headDim]} */
    private static Tensor table(Tensor table, Tensor positions) {
        return table.index_select(0, positions).unsqueeze(1);
    }

    private static Tensor table(Tensor table, Tensor positions, long rows, long length) {
        return positions == null ? table.narrow(0, 0, length).repeat(rows, 1).unsqueeze(1) : table(table, positions);
    }

    private Tensor norm(Tensor x, Tensor weight) {
        return torch.rms_norm(x, new long[] {weight.size(0)}, new TensorOptional(weight), new DoubleOptional(c.normEps()));
    }

    private Tensor linear(Map<String, Tensor> w, String name, Tensor x) {
        final Tensor bias = w.get(name + ".bias");
        final Tensor weight = w.get(name + ".weight");
        final Tensor in = input(x);
        final Tensor y = bias == null ? torch.linear(in, input(weight)) : torch.linear(in, input(weight), new TensorOptional(bias));
        final Tensor a = w.get(name + ".lora_A.weight");
        if (a == null) {
            return y;
        }
        final Tensor low = torch.linear(in, input(a));
        return y.add(torch.linear(input(low), input(w.get(name + ".lora_B.weight"))), new Scalar(loraScale));
    }

    @Override
    public void close() {
        for (Rotary rotary : rotaries) {
            for (Tensor table : new Tensor[] {rotary.cos(), rotary.sin(), rotary.wideCos(), rotary.wideSin()}) {
                table.close();
            }
        }
        for (Masks mask : masks) {
            mask.causal.close();
            if (mask.sliding != null) {
                mask.sliding.close();
            }
        }
        none.close();
    }
}
