package org.teamtr.torch;

import java.util.Map;
import java.util.stream.Stream;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Device;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch;
import org.bytedeco.pytorch.global.torch.ScalarType;
import org.teamtr.kernels.DType;
import org.teamtr.kernels.Decoding;
import org.teamtr.kernels.Floats;
import org.teamtr.kernels.Indices;
import org.teamtr.kernels.Logits;
import org.teamtr.model.ModelConfig;

/**
 * Computes what {@link Decoder} does, for one new token of each row, by the kernels of {@link Decoding}: eleven calls per layer, with
 * adapters or without, into memory that the constructor allocates. On the CPU only.
 *
 * <p>While it is used, the weights must not be moved, and neither they nor the cache may be closed. One call at a time.
 */
final class HostDecoder implements NextToken {
    /** A linear layer; bias and adapter may be null. */
    private record Linear(Logits weight, Logits bias, Logits a, Logits b) {
        long rank() {
            return a == null ? 0 : a.rows();
        }
    }

    private record Attention(Linear q, Linear k, Linear v, Logits qNorm, Logits kNorm, Linear o) {
        static Attention of(Map<String, Tensor> w, String name) {
            return new Attention(linear(w, name + "q_proj"), linear(w, name + "k_proj"), linear(w, name + "v_proj"),
                    vector(w, name + "q_norm.weight"), vector(w, name + "k_norm.weight"), linear(w, name + "o_proj"));
        }
    }

    private record FeedForward(Linear gate, Linear up, Linear down) {
        static FeedForward of(Map<String, Tensor> w, String name) {
            return new FeedForward(linear(w, name + "gate_proj"), linear(w, name + "up_proj"), linear(w, name + "down_proj"));
        }
    }

    /** The two halves of a layer, each with the norm before it. */
    private record Layer(Logits norm, Attention attention, Logits norm2, FeedForward feedForward) {
        long rank() {
            return Stream.of(attention.q, attention.k, attention.v, attention.o, feedForward.gate, feedForward.up, feedForward.down)
                    .mapToLong(Linear::rank).max().orElseThrow();
        }
    }

    private final ModelConfig c;
    private final ModelConfig.Attention a;
    private final double loraScale;
    private final Decoder decoder;
    private final Tensor embeddings;
    private final Layer[] layers;
    private final Logits norm;
    private final Logits head;
    /** The most rows, and memory for them; with fewer rows, a part of it is used. */
    private final long most;
    private final Tensor[] memory = new Tensor[8];
    private final Tensor x;
    private final Logits xs;
    private final Logits normed;
    private final Logits qkv;
    private final Logits attended;
    private final Logits gateUp;
    private final Logits activated;
    private final Tensor logits;
    private final Logits logitsOut;
    private final Floats work;
    private final Logits[] keys;
    private final Logits[] values;
    private KvCache viewed;
    private int viewedVersion;

    /** {@return whether it can be used for tensors on a device} In tests, CPU tensors may stand for GPU memory; then it cannot. */
    static boolean serves(Device device) {
        return device.is_cpu() && TensorViews.cpu == org.teamtr.kernels.Device.CPU;
    }

    /**
     * @param vocab number of logit columns that count
     * @param most the most rows of a call
     */
    HostDecoder(ModelConfig c, Decoder decoder, Map<String, Tensor> w, ScalarType dtype, Device device, double loraScale, int vocab,
            long most) {
        this.c = c;
        this.a = c.attention();
        this.decoder = decoder;
        this.loraScale = loraScale;
        this.most = most;
        this.embeddings = w.get("model.embed_tokens.weight");
        this.layers = new Layer[c.layers()];
        this.keys = new Logits[c.layers()];
        this.values = new Logits[c.layers()];
        try (PointerScope scope = new PointerScope()) { // a view keeps its tensor alive
            long rank = 0;
            for (int i = 0; i < layers.length; i++) {
                final String layer = "model.layers." + i + ".";
                layers[i] = new Layer(vector(w, layer + "input_layernorm.weight"), Attention.of(w, layer + "self_attn."),
                        vector(w, layer + "post_attention_layernorm.weight"), FeedForward.of(w, layer + "mlp."));
                rank = Math.max(rank, layers[i].rank());
            }
            norm = vector(w, "model.norm.weight");
            head = TensorViews.logits(w.get(decoder.head())).rows(0, vocab);
            final long q = a.qWidth();
            x = memory(0, c.hidden(), dtype, device);
            xs = TensorViews.logits(x);
            normed = TensorViews.logits(memory(1, c.hidden(), dtype, device));
            qkv = TensorViews.logits(memory(2, q + 2 * a.kvWidth(), dtype, device));
            attended = TensorViews.logits(memory(3, q, dtype, device));
            gateUp = TensorViews.logits(memory(4, 2L * c.feedForward().width(), dtype, device));
            activated = TensorViews.logits(memory(5, c.feedForward().width(), dtype, device));
            logits = memory(6, vocab, ScalarType.Float, device);
            logitsOut = TensorViews.logits(logits);
            work = TensorViews.floats(memory(7, Math.max(c.hidden(), Math.max(q, c.feedForward().width())) + rank, ScalarType.Float, device));
        }
    }

    private Tensor memory(int i, long columns, ScalarType dtype, Device device) {
        memory[i] = Decoder.kept(Decoder.empty(new long[] {most, columns}, dtype, device));
        return memory[i];
    }

    private static Logits vector(Map<String, Tensor> w, String name) {
        final Tensor vector = w.get(name);
        return vector == null ? null : matrix(vector, 1, vector.numel());
    }

    private static Logits matrix(Tensor tensor, long rows, long columns) {
        return Logits.ofAddress(tensor.data_ptr().address(), rows * columns * tensor.element_size(), dtype(tensor), 1, rows, columns, 0,
                columns, tensor);
    }

    private static DType dtype(Tensor tensor) {
        return switch (tensor.scalar_type().intern()) {
            case Float -> DType.F32;
            case BFloat16 -> DType.BF16;
            case Half -> DType.F16;
            default -> throw new IllegalArgumentException("weights: expected float32, bfloat16 or float16, given "
                    + tensor.scalar_type().intern());
        };
    }

    private static Linear linear(Map<String, Tensor> w, String name) {
        final Tensor weight = w.get(name + ".weight");
        final Tensor a = w.get(name + ".lora_A.weight");
        final Tensor b = w.get(name + ".lora_B.weight");
        return new Linear(matrix(weight, weight.size(0), weight.size(1)), vector(w, name + ".bias"),
                a == null ? null : matrix(a, a.size(0), a.size(1)), b == null ? null : matrix(b, b.size(0), b.size(1)));
    }

    @Override
    public Tensor logits(Tensor tokens, Tensor positions, Tensor starts, KvCache cache) {
        final long rows = tokens.numel();
        view(cache);
        torch.index_select_out(x.narrow(0, 0, rows), embeddings, 0, tokens);
        final Indices at = TensorViews.indices(positions);
        final Indices from = TensorViews.indices(starts);
        final Floats cos = TensorViews.floats(decoder.cosine(cache.length + 1L));
        final Floats sin = TensorViews.floats(decoder.sine(cache.length + 1L));
        final long q = a.qWidth();
        final long kv = a.kvWidth();
        final Logits in = xs.rows(0, rows);
        final Logits h = normed.rows(0, rows);
        final Logits together = qkv.rows(0, rows);
        final Logits[] parts = {columns(memory[2], rows, 0, q), columns(memory[2], rows, q, kv), columns(memory[2], rows, q + kv, kv)};
        final Logits out = attended.rows(0, rows);
        final Logits both = gateUp.rows(0, rows);
        final int inside = c.feedForward().width();
        final Logits gate = columns(memory[4], rows, 0, inside);
        final Logits up = columns(memory[4], rows, inside, inside);
        final Logits act = activated.rows(0, rows);
        for (int i = 0; i < layers.length; i++) {
            final Layer layer = layers[i];
            final Attention attention = layer.attention;
            Decoding.rmsNorm(in, layer.norm, c.normEps(), h, work);
            apply(attention.q, h, parts[0], false);
            apply(attention.k, h, parts[1], false);
            apply(attention.v, h, parts[2], false);
            Decoding.attend(together, attention.qNorm, attention.kNorm, c.normEps(), cos, sin, at, from,
                    a.slides(i) ? a.window().tokens() : 0, keys[i], values[i], out);
            apply(attention.o, out, in, true);
            Decoding.rmsNorm(in, layer.norm2, c.normEps(), h, work);
            apply(layer.feedForward.gate, h, gate, false);
            apply(layer.feedForward.up, h, up, false);
            Decoding.swiglu(both, act);
            apply(layer.feedForward.down, act, in, true);
        }
        cache.length++;
        Decoding.rmsNorm(in, norm, c.normEps(), h, work);
        Decoding.linear(h, head, null, null, null, 0, logitsOut.rows(0, rows), false, work);
        return logits.narrow(0, 0, rows);
    }

    private void apply(Linear linear, Logits in, Logits to, boolean add) {
        Decoding.linear(in, linear.weight, linear.bias, linear.a, linear.b, loraScale, to, add, work);
    }

    private static Logits columns(Tensor of, long rows, long from, long count) {
        return TensorViews.logits(of.narrow(0, 0, rows).narrow(1, from, count));
    }

    private void view(KvCache cache) {
        if (viewed == cache && viewedVersion == cache.version) {
            return;
        }
        for (int i = 0; i < keys.length; i++) {
            keys[i] = whole(cache.keys[i]);
            values[i] = whole(cache.values[i]);
        }
        viewed = cache;
        viewedVersion = cache.version;
    }

    private static Logits whole(Tensor tensor) {
        return matrix(tensor, tensor.size(0) * tensor.size(1) * tensor.size(2), tensor.size(3));
    }

    @Override
    public void close() {
        for (Tensor tensor : memory) {
            tensor.close();
        }
    }
}
