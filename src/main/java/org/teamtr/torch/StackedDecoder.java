package org.teamtr.torch;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.function.UnaryOperator;
import org.bytedeco.javacpp.Pointer;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Device;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorVector;
import org.bytedeco.pytorch.global.torch;
import org.bytedeco.pytorch.global.torch.ScalarType;
import org.teamtr.kernels.Decoding;
import org.teamtr.kernels.Floats;
import org.teamtr.kernels.Indices;
import org.teamtr.kernels.Logits;
import org.teamtr.model.ModelConfig;

/**
 * Computes what {@link Decoder} does, for one new token of each row, in few calls, since on a GPU each launch takes time:
 * queries, keys and values are one product of libtorch's, gate and up another, and the adapters of each take two more products;
 * products are added to the residual stream in place; the kernels of {@link Decoding} do the rest.
 *
 * <p>A step reads nothing from the host: tokens, positions and starts are read on the device, memory is allocated once, and launches
 * depend only on shapes. So the same launches, repeated after the contents of these vectors have changed, compute the next step.
 *
 * <p>Adjacent weights are stacked as a view; others, and adapters, are copied, into the PointerScope around the
 * constructor. The weights must not be changed while it is used. One call at a time.
 */
final class StackedDecoder implements NextToken {
    /** Linear layers with the same input, stacked and transposed; bias and adapters may be null. */
    private record Linear(Tensor weight, Tensor bias, Tensor a, Tensor b, int rank) {
    }

    /** The memory that a step writes, each [rows, columns]: the residual stream, then intermediate results in the order of computation. */
    private record Memory(Tensor x, Tensor normed, Tensor qkv, Tensor attended, Tensor gateUp, Tensor activated, Tensor logits) {
        Memory map(UnaryOperator<Tensor> of) {
            return new Memory(of.apply(x), of.apply(normed), of.apply(qkv), of.apply(attended), of.apply(gateUp), of.apply(activated),
                    of.apply(logits));
        }
    }

    private record Layer(Logits norm, Linear qkv, Logits qNorm, Logits kNorm, Linear o, Logits norm2, Linear gateUp, Linear down) {
        List<Linear> linears() {
            return List.of(qkv, o, gateUp, down);
        }
    }

    private final ModelConfig c;
    private final Decoder decoder;
    private final Map<String, Tensor> w;
    private final ScalarType dtype;
    private final Device device;
    private final Tensor embeddings;
    private final Tensor head;
    private final Layer[] layers;
    private final Logits norm;
    private final Scalar one = new Scalar(1);
    private final Scalar loraScale;
    /** For the largest number of rows; a step with fewer uses the first rows. */
    private final Memory memory;
    /** Outputs of the adapters' first matrices. */
    private final Tensor low;
    private final Floats work;
    private final boolean graphs;
    private Step step;

    /**
     * @param vocab the size of the vocabulary; columns of the head beyond it are left out
     * @param most the most rows of a call
     * @param graphs whether the launches of a step are recorded and repeated as a CUDA graph; needs a stream that can be recorded
     */
    StackedDecoder(ModelConfig c, Decoder decoder, Map<String, Tensor> w, ScalarType dtype, Device device, double loraScale, int vocab,
            long most, boolean graphs) {
        this.c = c;
        this.decoder = decoder;
        this.w = w;
        this.dtype = dtype;
        this.device = device;
        this.graphs = graphs;
        this.loraScale = new Scalar(loraScale);
        this.embeddings = w.get("model.embed_tokens.weight");
        this.head = w.get(decoder.head()).narrow(0, 0, vocab);
        this.layers = new Layer[c.layers()];
        int rank = 0;
        for (int i = 0; i < layers.length; i++) {
            final String layer = "model.layers." + i + ".";
            final String self = layer + "self_attn.";
            layers[i] = new Layer(vector(layer + "input_layernorm.weight"), linear(self + "q_proj", self + "k_proj", self + "v_proj"),
                    vector(self + "q_norm.weight"), vector(self + "k_norm.weight"), linear(self + "o_proj"),
                    vector(layer + "post_attention_layernorm.weight"), linear(layer + "mlp.gate_proj", layer + "mlp.up_proj"),
                    linear(layer + "mlp.down_proj"));
            for (Linear linear : layers[i].linears()) {
                rank = Math.max(rank, linear.rank);
            }
        }
        this.norm = vector("model.norm.weight");
        final ModelConfig.Attention a = c.attention();
        final long inside = c.feedForward().width();
        this.memory = new Memory(empty(most, c.hidden()), empty(most, c.hidden()), empty(most, a.qWidth() + 2 * a.kvWidth()),
                empty(most, a.qWidth()), empty(most, 2 * inside), empty(most, inside),
                Decoder.empty(new long[] {most, vocab}, ScalarType.Float, device));
        this.low = empty(most, rank);
        this.work = TensorViews.floats(Decoder.empty(new long[] {most, c.hidden()}, ScalarType.Float, device));
    }

    private Tensor empty(long rows, long columns) {
        return Decoder.empty(new long[] {rows, columns}, dtype, device);
    }

    private Logits vector(String name) {
        final Tensor vector = w.get(name);
        return vector == null ? null : TensorViews.logits(vector.view(1, vector.numel()));
    }

    private static Tensor cat(List<Tensor> parts, long dimension) {
        return parts.size() == 1 ? parts.get(0) : torch.cat(new TensorVector(parts.toArray(Tensor[]::new)), dimension);
    }

    private Linear linear(String... names) {
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
        if (rank > 0) { // block-diagonal: a block for each part that has an adapter
            b = empty(out, rank).zero_();
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
                rank == 0 ? null : b.t(), (int) rank);
    }

    /** Stacks weights: a view if they are adjacent, else a copy. */
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
    public Tensor logits(Tensor tokens, Tensor positions, Tensor starts, KvCache cache) {
        if (step == null || !step.serves(tokens, positions, starts, cache)) {
            closeStep();
            step = new Step(tokens, positions, starts, cache);
        }
        step.next();
        cache.length++;
        return memory.logits.narrow(0, 0, tokens.numel());
    }

    /** Repeats the calls of the latest step; if tokens and positions have been changed in place, this computes the next step. */
    void replay() {
        step.run();
    }

    /** A step for a number of rows and a cache: views of all memory that it reads and writes. */
    private final class Step {
        private final KvCache cache;
        private final int version;
        private final long[] inputs;
        private final List<Pointer> held = new ArrayList<>();
        private final Tensor tokens;
        private final Memory m;
        /** Memory for the results of adapters' first matrices, by rank. */
        private final Tensor[] lows;
        private final Logits xs;
        private final Logits normedOut;
        private final Logits qkvIn;
        private final Logits attendedOut;
        private final Logits gateUpIn;
        private final Logits activatedOut;
        private final Indices positions;
        private final Indices starts;
        private final Floats cosine;
        private final Floats sine;
        private final Logits[] keys;
        private final Logits[] values;
        private boolean ran;
        private CudaGraph graph;

        Step(Tensor tokens, Tensor positions, Tensor starts, KvCache cache) {
            this.cache = cache;
            this.version = cache.version;
            this.inputs = addresses(tokens, positions, starts);
            final long rows = tokens.numel();
            try (PointerScope scope = new PointerScope()) {
                this.tokens = held(tokens.alias());
                this.m = memory.map(all -> held(all.narrow(0, 0, rows)));
                this.lows = new Tensor[(int) low.size(1) + 1];
                for (Layer layer : layers) {
                    for (Linear linear : layer.linears()) {
                        final int rank = linear.rank;
                        if (rank > 0 && lows[rank] == null) {
                            lows[rank] = held(low.view(low.numel()).narrow(0, 0, rows * rank).view(rows, rank));
                        }
                    }
                }
                this.xs = TensorViews.logits(m.x);
                this.normedOut = TensorViews.logits(m.normed);
                this.qkvIn = TensorViews.logits(m.qkv);
                this.attendedOut = TensorViews.logits(m.attended);
                this.gateUpIn = TensorViews.logits(m.gateUp);
                this.activatedOut = TensorViews.logits(m.activated);
                this.positions = TensorViews.indices(held(positions.alias()));
                this.starts = TensorViews.indices(held(starts.alias()));
                final long room = cache.keys[0].size(2); // tables for all columns of the cache, since steps are repeated up to its last one
                this.cosine = TensorViews.floats(decoder.cosine(room));
                this.sine = TensorViews.floats(decoder.sine(room));
                this.keys = Arrays.stream(cache.keys).map(this::columns).toArray(Logits[]::new);
                this.values = Arrays.stream(cache.values).map(this::columns).toArray(Logits[]::new);
            }
        }

        private <P extends Pointer> P held(P pointer) {
            held.add(Decoder.kept(pointer));
            return pointer;
        }

        private Logits columns(Tensor of) {
            return TensorViews.logits(held(of.view(of.numel() / of.size(3), of.size(3))));
        }

        boolean serves(Tensor tokens, Tensor positions, Tensor starts, KvCache of) {
            return of == cache && of.version == version && Arrays.equals(addresses(tokens, positions, starts), inputs);
        }

        private static long[] addresses(Tensor tokens, Tensor positions, Tensor starts) {
            return new long[] {tokens.numel(), tokens.data_ptr().address(), positions.data_ptr().address(), starts.data_ptr().address()};
        }

        /** Runs the step. With graphs, the first call only runs it, since libraries allocate in their first call; the second records it. */
        void next() {
            if (!graphs || !ran) {
                run();
                ran = true;
                return;
            }
            if (graph == null) {
                graph = CudaGraph.of(device, this::run);
            }
            graph.launch();
        }

        /** Computes the logits of the next tokens, and writes each row's new column of the cache. */
        void run() {
            try (PointerScope scope = new PointerScope()) {
                torch.index_select_out(m.x, embeddings, 0, tokens);
                for (int i = 0; i < layers.length; i++) {
                    final Layer layer = layers[i];
                    Decoding.rmsNorm(xs, layer.norm, c.normEps(), normedOut, work);
                    product(m.qkv, layer.qkv, m.normed);
                    Decoding.attend(qkvIn, layer.qNorm, layer.kNorm, c.normEps(), cosine, sine, positions, starts,
                            c.attention().slides(i) ? c.attention().window().tokens() : 0, keys[i], values[i], attendedOut);
                    add(layer.o, m.attended);
                    Decoding.rmsNorm(xs, layer.norm2, c.normEps(), normedOut, work);
                    product(m.gateUp, layer.gateUp, m.normed);
                    Decoding.swiglu(gateUpIn, activatedOut);
                    add(layer.down, m.activated);
                }
                Decoding.rmsNorm(xs, norm, c.normEps(), normedOut, work);
                HeadProduct.logits(m.logits, m.normed, head);
            }
        }

        /** y = linear(in) */
        private void product(Tensor y, Linear linear, Tensor in) {
            torch.mm_out(y, in, linear.weight);
            more(y, linear, in);
        }

        /** x += linear(in) */
        private void add(Linear linear, Tensor in) {
            m.x.addmm_(in, linear.weight);
            more(m.x, linear, in);
        }

        /** Adds bias and adapter. The bias is added separately: as a part of the product, cuBLASLt would allocate memory. */
        private void more(Tensor y, Linear linear, Tensor in) {
            if (linear.bias != null) {
                y.add_(linear.bias);
            }
            if (linear.a != null) {
                final Tensor between = lows[linear.rank];
                torch.mm_out(between, in, linear.a);
                y.addmm_(between, linear.b, one, StackedDecoder.this.loraScale);
            }
        }
    }

    private void closeStep() {
        if (step != null) {
            step.held.forEach(Pointer::close);
            if (step.graph != null) {
                step.graph.close();
            }
        }
    }

    @Override
    public void close() {
        closeStep(); // everything else is owned by the PointerScope around the constructor
    }
}
