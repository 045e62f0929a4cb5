package org.teamtr.torch;

import java.util.ArrayList;
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

    /**
     * Rotary tables [positions, headDim]; the signs of the rotation stand in {@code sin}. The wide ones are f32 with the same numbers,
     * rounded to the decoder's format as these are.
     */
    private record Rotary(int positions, Tensor cos, Tensor sin, Tensor wideCos, Tensor wideSin) {
    }

    Decoder(ModelConfig config, torch.ScalarType dtype, Device device, double loraScale) {
        this(config, dtype, device, loraScale, false);
    }

    /** @param tf32 whether products of f32 numbers are those of TF32 */
    Decoder(ModelConfig config, torch.ScalarType dtype, Device device, double loraScale, boolean tf32) {
        this.c = config;
        this.a = config.attention();
        this.loraScale = loraScale;
        this.rounds = tf32 && device.is_cpu();
        this.dtype = dtype;
        this.device = device;
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
        final Tensor cosine = table(rotary.cos(), positions, rows, length);
        final Tensor sine = table(rotary.sin(), positions, rows, length);
        final Tensor windowed = a.window() == null || before + length <= a.window().tokens() ? mask
                : windowed(mask, before, length);
        final Tensor x = layers(w, embedded(w, ids), cosine, sine, i -> (q, k, v) -> attend(q,
                cache == null ? k : cache.appended(cache.keys, i, k), cache == null ? v : cache.appended(cache.values, i, v),
                a.slides(i) ? windowed : mask));
        if (cache != null) {
            cache.length += (int) length;
        }
        return normed(w, x);
    }

    /**
     * The last hidden states of messages and of the prompts that they share, [1, tokens, hidden].
     *
     * @param ids [1, tokens], as {@link SharedPrompts} has them
     */
    Tensor hidden(Map<String, Tensor> w, Tensor ids, SharedPrompts shared) {
        final Rotary rotary = rotary(shared.longest());
        return normed(w, layers(w, embedded(w, ids), table(rotary.cos(), shared.positions(), 1, ids.size(1)),
                table(rotary.sin(), shared.positions(), 1, ids.size(1)), i -> attention(shared, i)));
    }

    private Attention attention(SharedPrompts shared, int i) {
        return (q, k, v) -> shared.attended(this::attend, q, k, v, a.slides(i));
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

    /** What goes into the first layer, [rows, length, hidden], of ids [rows, length]. */
    Tensor embedded(Map<String, Tensor> w, Tensor ids) {
        return torch.embedding(w.get(EMBEDDING + WEIGHT), ids);
    }

    /**
     * What comes out of a layer.
     *
     * @param shared what {@link #hidden} of the same tokens has; null of whole sequences with plain causal attention
     */
    Tensor layer(Map<String, Tensor> w, int i, Tensor x, SharedPrompts shared) {
        final long length = x.size(1);
        if (shared != null) {
            final Rotary rotary = rotary(shared.longest());
            return layer(w, layer(i), x, table(rotary.cos(), shared.positions(), 1, length), table(rotary.sin(), shared.positions(), 1, length),
                    attention(shared, i));
        }
        final Rotary rotary = rotary(length);
        final Tensor mask = a.window() == null || !a.slides(i) || length <= a.window().tokens() ? null : windowed(null, 0, length);
        return layer(w, layer(i), x, table(rotary.cos(), null, 1, length), table(rotary.sin(), null, 1, length),
                (q, k, v) -> attend(q, k, v, mask));
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
        final long[] shape = {length, before + length};
        final Tensor ones = empty(shape, dtype, device).fill_(new Scalar(1));
        final Tensor hidden = ones.triu(before + 1).add(ones.tril(before - a.window().tokens())).gt(new Scalar(0));
        final Tensor window = empty(shape, dtype, device).zero_().masked_fill_(hidden, new Scalar(Double.NEGATIVE_INFINITY))
                .view(1, 1, length, before + length);
        return mask == null ? window : window.add(mask);
    }

    /** What a layer makes of queries, keys and values, [rows, heads, length, headDim], of which the first two are rotated. */
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
        final long rows = x.size(0);
        final long length = x.size(1);
        Tensor q = linear(w, name + "q_proj", x).view(rows, length, a.heads(), a.headDim());
        Tensor k = linear(w, name + "k_proj", x).view(rows, length, a.kvHeads(), a.headDim());
        final Tensor v = linear(w, name + "v_proj", x).view(rows, length, a.kvHeads(), a.headDim()).transpose(1, 2);
        if (a.qkNorm()) {
            q = norm(q, w.get(name + "q_norm.weight"));
            k = norm(k, w.get(name + "k_norm.weight"));
        }
        final Tensor out = attention.of(rotated(q.transpose(1, 2), cosine, sine), rotated(k.transpose(1, 2), cosine, sine), v);
        return linear(w, name + "o_proj", out.transpose(1, 2).reshape(rows, length, a.qWidth()));
    }

    /** @param mask as for {@link #hidden} */
    private Tensor attend(Tensor q, Tensor k, Tensor v, Tensor mask) {
        return torch.scaled_dot_product_attention(input(q), input(perHead(k)), input(perHead(v)), mask == null ? none : new TensorOptional(mask),
                0, mask == null && q.size(2) > 1, new DoubleOptional(), false);
    }

    /** Repeats each head of keys or values for the heads of queries that share it. */
    private Tensor perHead(Tensor kv) {
        if (a.kvHeads() == a.heads()) {
            return kv;
        }
        final long share = a.heads() / a.kvHeads();
        return kv.unsqueeze(2).expand(kv.size(0), a.kvHeads(), share, kv.size(2), a.headDim())
                .reshape(kv.size(0), a.heads(), kv.size(2), a.headDim());
    }

    /** (a, b) becomes (a cos - b sin, b cos + a sin), a and b the halves of a head: rolling by a half swaps them. */
    private Tensor rotated(Tensor x, Tensor cosine, Tensor sine) {
        final Tensor swapped = x.roll(new long[] {a.headDim() / 2}, -1);
        return x.mul(cosine).add(swapped.mul(sine));
    }

    private Tensor table(Tensor table, Tensor positions, long rows, long length) {
        return positions == null ? table.narrow(0, 0, length).view(1, 1, length, a.headDim())
                : table.index_select(0, positions).view(rows, 1, length, a.headDim());
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
        none.close();
    }
}
