package org.teamtr.torch;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Device;
import org.bytedeco.pytorch.DoubleOptional;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorOptional;
import org.bytedeco.pytorch.TensorVector;
import org.bytedeco.pytorch.global.torch;
import org.bytedeco.pytorch.global.torch.ScalarType;
import org.teamtr.model.ModelConfig;

/**
 * What {@link Decoder} computes for one new token of each row, in fewer operations of libtorch, since a GPU waits for each of them to
 * be launched: queries, keys and values are one product, gate and up another, each with the adapters of all its parts in two more;
 * products add to the residual stream in place; queries that share a head of keys attend as one sequence, so that nothing is repeated.
 *
 * <p>Weights that lie side by side are stacked as a view; others, and adapters, are copied, into the PointerScope around the
 * constructor. The weights must stay as they are while it is used. One call at a time.
 */
final class StackedDecoder implements NextToken {
    /** Linear layers of one input, stacked; bias and adapters may be null. Transposed, as products take them. */
    private record Linear(Tensor weight, Tensor bias, Tensor a, Tensor b) {
    }

    /** @param heads the weights of the norms of queries and keys, [heads + kvHeads, headDim], or null */
    private record Layer(TensorOptional norm, Linear qkv, Tensor heads, Linear o, TensorOptional norm2, Linear gateUp, Linear down) {
    }

    private final ModelConfig c;
    private final ModelConfig.Attention a;
    private final Decoder decoder;
    private final Map<String, Tensor> w;
    private final int vocab;
    private final Layer[] layers;
    private final TensorOptional norm;
    private final Scalar one = new Scalar(1);
    private final Scalar loraScale;
    private final DoubleOptional eps;
    private final DoubleOptional noScale = new DoubleOptional();
    private final TensorOptional none = new TensorOptional();

    /** @param vocab logit columns that count */
    StackedDecoder(ModelConfig c, Decoder decoder, Map<String, Tensor> w, ScalarType dtype, Device device, double loraScale, int vocab) {
        this.c = c;
        this.a = c.attention();
        this.decoder = decoder;
        this.w = w;
        this.vocab = vocab;
        this.loraScale = new Scalar(loraScale);
        this.eps = new DoubleOptional(c.normEps());
        this.layers = new Layer[c.layers()];
        for (int i = 0; i < layers.length; i++) {
            final String layer = "model.layers." + i + ".";
            final String self = layer + "self_attn.";
            layers[i] = new Layer(new TensorOptional(w.get(layer + "input_layernorm.weight")),
                    linear(dtype, device, self + "q_proj", self + "k_proj", self + "v_proj"), heads(self), linear(dtype, device, self + "o_proj"),
                    new TensorOptional(w.get(layer + "post_attention_layernorm.weight")),
                    linear(dtype, device, layer + "mlp.gate_proj", layer + "mlp.up_proj"), linear(dtype, device, layer + "mlp.down_proj"));
        }
        this.norm = new TensorOptional(w.get("model.norm.weight"));
    }

    private Tensor heads(String self) {
        return !a.qkNorm() ? null : cat(List.of(w.get(self + "q_norm.weight").expand(a.heads(), a.headDim()),
                w.get(self + "k_norm.weight").expand(a.kvHeads(), a.headDim())), 0);
    }

    private static Tensor cat(List<Tensor> parts, long dimension) {
        return parts.size() == 1 ? parts.get(0) : torch.cat(new TensorVector(parts.toArray(Tensor[]::new)), dimension);
    }

    private Linear linear(ScalarType dtype, Device device, String... names) {
        final List<Tensor> weights = Arrays.stream(names).map(name -> w.get(name + ".weight")).toList();
        final List<Tensor> biases = new ArrayList<>();
        final List<Tensor> as = new ArrayList<>();
        long rank = 0;
        for (String name : names) {
            final Tensor bias = w.get(name + ".bias");
            if (bias != null) {
                biases.add(bias);
            }
            final Tensor a = w.get(name + ".lora_A.weight");
            if (a != null) {
                as.add(a);
                rank += a.size(0);
            }
        }
        final long out = weights.stream().mapToLong(weight -> weight.size(0)).sum();
        Tensor b = null;
        if (rank > 0) { // a block for each part that has an adapter, and zeros
            b = Decoder.empty(new long[] {out, rank}, dtype, device).zero_();
            long row = 0;
            long column = 0;
            for (int i = 0; i < names.length; i++) {
                final Tensor part = w.get(names[i] + ".lora_B.weight");
                if (part != null) {
                    b.narrow(0, row, part.size(0)).narrow(1, column, part.size(1)).copy_(part);
                    column += part.size(1);
                }
                row += weights.get(i).size(0);
            }
        }
        return new Linear(stacked(weights).t(), biases.isEmpty() ? null : cat(biases, 0), rank == 0 ? null : cat(as, 0).t(),
                rank == 0 ? null : b.t());
    }

    /** A view where they lie side by side. */
    private static Tensor stacked(List<Tensor> weights) {
        long rows = 0;
        boolean adjacent = true;
        for (int i = 0; i < weights.size(); i++) {
            final Tensor weight = weights.get(i);
            adjacent &= i == 0 || weights.get(i - 1).data_ptr().address() + weights.get(i - 1).numel() * weight.element_size()
                    == weight.data_ptr().address();
            rows += weight.size(0);
        }
        final Tensor first = weights.get(0);
        return adjacent ? first.as_strided(new long[] {rows, first.size(1)}, first.size(1), 1) : cat(weights, 0);
    }

    @Override
    public Tensor logits(Tensor tokens, Tensor positions, Tensor mask, KvCache cache) {
        final long rows = tokens.size(0);
        final long q = a.qWidth();
        final long kv = a.kvWidth();
        final long inside = c.feedForward().width();
        final long columns = cache.length + 1L;
        final Tensor cosine = decoder.cosine(columns).index_select(0, positions).unsqueeze(1);
        final Tensor sine = decoder.sine(columns).index_select(0, positions).unsqueeze(1);
        final TensorOptional everything = mask == null ? none : new TensorOptional(mask);
        final long seen = a.window() == null ? columns : Math.min(columns, a.window().tokens());
        final TensorOptional windowed = mask == null || seen == columns ? everything
                : new TensorOptional(mask.narrow(3, columns - seen, seen));
        final Tensor x = torch.embedding(w.get("model.embed_tokens.weight"), tokens);
        for (int i = 0; i < layers.length; i++) {
            try (PointerScope scope = new PointerScope()) {
                final Layer layer = layers[i];
                final Tensor qkv = product(layer.qkv, norm(x, layer.norm, c.hidden()));
                Tensor heads = qkv.narrow(1, 0, q + kv).view(rows, a.heads() + a.kvHeads(), a.headDim());
                if (layer.heads != null) {
                    heads = norm(heads, none, a.headDim()).mul_(layer.heads);
                }
                // (a, b) becomes (a cos - b sin, b cos + a sin), a and b the halves of a head: rolling by a half swaps them.
                final Tensor turned = heads.mul(cosine).addcmul_(heads.roll(new long[] {a.headDim() / 2}, -1), sine);
                cache.keys[i].select(2, cache.length).copy_(turned.narrow(1, a.heads(), a.kvHeads()));
                cache.values[i].select(2, cache.length).copy_(qkv.narrow(1, q + kv, kv).view(rows, a.kvHeads(), a.headDim()));
                final long n = a.slides(i) ? seen : columns;
                final Tensor attended = torch.scaled_dot_product_attention(
                        turned.narrow(1, 0, a.heads()).view(rows, a.kvHeads(), a.heads() / a.kvHeads(), a.headDim()),
                        cache.keys[i].narrow(2, columns - n, n), cache.values[i].narrow(2, columns - n, n), a.slides(i) ? windowed : everything,
                        0, false, noScale, false);
                add(x, layer.o, attended.reshape(rows, q));
                final Tensor both = product(layer.gateUp, norm(x, layer.norm2, c.hidden()));
                add(x, layer.down, torch.silu_(both.narrow(1, 0, inside)).mul_(both.narrow(1, inside, inside)));
            }
        }
        cache.length++;
        return decoder.logits(w, norm(x, norm, c.hidden())).narrow(1, 0, vocab);
    }

    private Tensor norm(Tensor x, TensorOptional weight, long width) {
        return torch.rms_norm(x, new long[] {width}, weight, eps);
    }

    private Tensor product(Linear linear, Tensor in) {
        final Tensor y = linear.bias == null ? torch.mm(in, linear.weight) : torch.addmm(linear.bias, in, linear.weight);
        return linear.a == null ? y : y.addmm_(torch.mm(in, linear.a), linear.b, one, loraScale);
    }

    /** x += what the layer makes of {@code in}. */
    private void add(Tensor x, Linear linear, Tensor in) {
        x.addmm_(in, linear.weight);
        if (linear.bias != null) {
            x.add_(linear.bias);
        }
        if (linear.a != null) {
            x.addmm_(torch.mm(in, linear.a), linear.b, one, loraScale);
        }
    }

    @Override
    public void close() {
        // All that was made is in the PointerScope around.
    }
}
