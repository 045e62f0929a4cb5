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
 * The decoder of the Qwen3, Qwen2.5, Llama and Mistral family: RMS norm, rotary positions, grouped-query attention (full, or within
 * a sliding window), SwiGLU. A function of the weights it is handed, so that training, generation and the anchor of the exact KL
 * share it.
 *
 * <p>What a method returns belongs to the caller's PointerScope. Thread-safe.
 */
final class Decoder implements AutoCloseable {
    /** Of a rotary table, where the model has as many. */
    private static final long FEWEST_POSITIONS = 256;
    /** Queries whose attention is computed at once where it takes a mask, which has so many rows. */
    private static final int BLOCK = 256;
    /** What the names of the tensors begin with that are in no layer. */
    static final String EMBEDDING = "model.embed_tokens.";
    static final String NORM = "model.norm.";
    private static final String HEAD = "lm_head.";
    private static final String WEIGHT = "weight";
    private final ModelConfig c;
    private final ModelConfig.Attention a;
    private final double loraScale;
    /** Whether the inputs of products are rounded to TF32 here: on CUDA libtorch does it. */
    private final boolean rounds;
    private final torch.ScalarType dtype;
    private final Device device;
    private final TensorOptional none = kept(new TensorOptional());
    /** As long as the longest text so far; those that were too short are kept for threads that still use them. */
    private final List<Rotary> rotaries = new ArrayList<>();
    private final List<Masks> masks = new ArrayList<>();
    /** What attends to all keys of packed sequences in one call; null where that is done for sequences of one length at a time. */
    private final FlashAttention.VariableLength atOnce;

    /**
     * Rotary tables [positions, headDim]; the signs of the rotation stand in {@code sin}. The wide ones are f32 with the same numbers,
     * rounded to the decoder's format as these are.
     */
    private record Rotary(int positions, Tensor cos, Tensor sin, Tensor wideCos, Tensor wideSin) {
    }

    /**
     * What is added to the scores of the last {@link #BLOCK} queries of a sequence of so many keys, [BLOCK, keys]: 0 or, for keys behind a
     * query, -inf. Its last rows and columns are the mask of fewer queries and keys. {@code sliding} hides what the window has left behind, too.
     */
    private record Masks(long keys, Tensor causal, Tensor sliding) {
    }

    Decoder(ModelConfig config, torch.ScalarType dtype, Device device, double loraScale) {
        this(config, dtype, device, loraScale, false, null);
    }

    /**
     * @param tf32 whether products of f32 numbers are those of TF32
     * @param atOnce what attends to all keys of packed sequences in one call; null for one call for all sequences of a length
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

    /** Tables of at least so many positions: a model's longest context may be thousands of times what a run has. */
    private synchronized Rotary rotary(long positions) {
        final int have = rotaries.isEmpty() ? 0 : rotaries.get(rotaries.size() - 1).positions();
        if (positions > have) {
            rotaries.add(tables((int) Math.max(positions, Math.min(Math.max(FEWEST_POSITIONS, 2L * have), c.rope().positions()))));
        }
        return rotaries.get(rotaries.size() - 1);
    }

    /** {@return of at least so many positions, [positions, headDim] f32; the decoder's own} */
    Tensor cosine(long positions) {
        return rotary(positions).wideCos();
    }

    /** Likewise, with the signs of the rotation. */
    Tensor sine(long positions) {
        return rotary(positions).wideSin();
    }

    torch.ScalarType dtype() {
        return dtype;
    }

    /** {@return whether what goes into products is what it is, and not rounded before} */
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
                // The product in f32, as the models were trained with.
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

    /** Keeps an object beyond the scope it was made in. */
    static <P extends Pointer> P kept(P pointer) {
        return pointer.retainReference();
    }

    /** Hands an object that was kept to the scope around. */
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
     *     and length 1, for none
     * @param cache of the tokens before these, which are appended; null without
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

    /** Of [tokens, heads, headDim], [rows, heads, length, headDim]. */
    private static Tensor rows(Tensor x, long rows) {
        return x.view(rows, x.size(0) / rows, x.size(1), x.size(2)).transpose(1, 2);
    }

    /** The last hidden states of packed sequences, [tokens, hidden]. */
    Tensor hidden(Map<String, Tensor> w, PackedSequences packed) {
        final Tensor[] tables = tables(packed);
        return normed(w, layers(w, embedded(w, packed.ids), tables[0], tables[1], i -> attention(packed, i)));
    }

    /** Cosines and sines of their positions. */
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
                final boolean alike = dtype == torch.ScalarType.Float; // wants as many heads of keys as of queries
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
            final long end = keys - queries + from + n; // behind the last key of these queries
            final long first = Math.max(0, end - n + 1 - window);
            blocks.push_back(attend(q.narrow(2, from, n), k.narrow(2, first, end - first), v.narrow(2, first, end - first),
                    mask.narrow(0, BLOCK - n, n).narrow(1, all.keys - (end - first), end - first)));
        }
        return blocks.size() == 1 ? blocks.get(0) : torch.cat(blocks, 2);
    }

    /** Of at least so many keys. */
    private synchronized Masks masks(long keys) {
        final long have = masks.isEmpty() ? BLOCK : masks.get(masks.size() - 1).keys;
        if (masks.isEmpty() || keys > have) {
            final long most = (Math.max(keys, masks.isEmpty() ? BLOCK : 2 * have) + 63) / 64 * 64; // CUDA wants rows of whole vectors
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
            try (PointerScope scope = new PointerScope()) { // without it, every layer's intermediates would live to the end
                x = kept(layer(w, layer(i), input, cosine, sine, attention.apply(i)));
            }
            handed(x);
            input.close();
        }
        return x;
    }

    // ---- the same without a cache, a step after the other ----

    /** What goes into the first layer, [tokens, hidden], of ids [tokens]. */
    Tensor embedded(Map<String, Tensor> w, Tensor ids) {
        return torch.embedding(w.get(EMBEDDING + WEIGHT), ids);
    }

    /** What comes out of a layer, of what goes into it, [tokens, hidden]. */
    Tensor layer(Map<String, Tensor> w, int i, Tensor x, PackedSequences packed) {
        final Tensor[] tables = tables(packed);
        return layer(w, layer(i), x, tables[0], tables[1], attention(packed, i));
    }

    /** The last hidden states, of what comes out of the last layer. */
    Tensor normed(Map<String, Tensor> w, Tensor x) {
        return norm(x, w.get(NORM + WEIGHT));
    }

    /** What the names of a layer's tensors begin with. */
    static String layer(int i) {
        return "model.layers." + i + ".";
    }

    /**
     * A mask that hides what a sliding window has left behind as well. Rows are padded on the left, so columns are as far from each
     * other as positions.
     */
    private Tensor windowed(Tensor mask, long before, long length) {
        final Tensor window = masked(before, length, a.window().tokens()).view(1, 1, length, before + length);
        return mask == null ? window : window.add(mask);
    }

    /** [length, before + length], of queries with so many keys before the first one. */
    private Tensor masked(long before, long length, long window) {
        final long[] shape = {length, before + length};
        final Tensor ones = empty(shape, dtype, device).fill_(new Scalar(1));
        final Tensor behind = ones.triu(before + 1);
        final Tensor hidden = (window > before + length ? behind : behind.add(ones.tril(before - window))).gt(new Scalar(0));
        return empty(shape, dtype, device).zero_().masked_fill_(hidden, new Scalar(Double.NEGATIVE_INFINITY));
    }

    /** What a layer makes of queries, keys and values, [tokens, heads, headDim], of which the first two are rotated. */
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

    /** The name of the weight that makes logits of hidden states, [vocab, hidden]. */
    String head() {
        return headUnit() + WEIGHT;
    }

    /** What that name begins with. */
    String headUnit() {
        return c.embedding().tied() ? EMBEDDING : HEAD;
    }

    /** Logits [n, vocab] of hidden states [n, hidden]; in f32 where those are of 16 bits. */
    Tensor logits(Map<String, Tensor> w, Tensor hidden) {
        return HeadProduct.logits(input(hidden), input(w.get(head())));
    }

    /** What goes into a product. */
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
     * [rows, heads, length, headDim], also of keys and values.
     *
     * @param mask as for {@link #hidden}
     */
    private Tensor attend(Tensor q, Tensor k, Tensor v, Tensor mask) {
        return torch.scaled_dot_product_attention(input(q), input(k), input(v), mask == null ? none : new TensorOptional(mask), 0,
                mask == null && q.size(2) > 1, new DoubleOptional(), false);
    }

    /** Repeats each head of keys or values, which is their second dimension, for the heads of queries that share it. */
    private Tensor perHead(Tensor kv) {
        if (a.kvHeads() == a.heads()) {
            return kv;
        }
        final long[] shape = new long[(int) kv.dim() + 1];
        Arrays.fill(shape, -1); // as it is
        shape[2] = a.heads() / a.kvHeads();
        return kv.unsqueeze(2).expand(shape).flatten(1, 2);
    }

    /** (a, b) becomes (a cos - b sin, b cos + a sin), a and b the halves of a head: rolling by a half swaps them. */
    private Tensor rotated(Tensor x, Tensor cosine, Tensor sine) {
        final Tensor swapped = x.roll(new long[] {a.headDim() / 2}, -1);
        return x.mul(cosine).add(swapped.mul(sine));
    }

    /** [tokens, 1, headDim] */
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
