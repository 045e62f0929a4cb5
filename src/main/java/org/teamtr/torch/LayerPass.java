package org.teamtr.torch;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.function.Function;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.BoolOptional;
import org.bytedeco.pytorch.NoGradGuard;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorArrayRefOptional;

/**
 * A forward and backward pass layer by layer: all micro-batches of a rank go through a layer before any goes through the next (layered
 * gradient accumulation: Lamy-Poirier, 2021, "Layered gradient accumulation and modular pipeline parallelism", arXiv 2106.02679). So a
 * layer's weights are needed once in each direction, its gradient is complete at once, and ranks with different numbers of
 * micro-batches exchange the same weights and gradients. The inputs of all layers are kept; the backward pass computes a layer again
 * from them, one micro-batch after the other, so that there are activations of only one layer and one micro-batch at a time.
 *
 * <p>The results have the bits of {@link Decoder#hidden} and of its gradient.
 */
final class LayerPass implements AutoCloseable {
    /** Returns the weights whose names begin with a prefix. All ranks must call it with the same prefixes in the same order. */
    interface Units extends Function<String, Map<String, Tensor>> {
    }

    /** Computes a part of the model for a micro-batch, and backpropagates through it to the weights and to {@code x}. */
    interface BackwardStep {
        /**
         * {@return gradients, by name, in addition to those that autograd has added to the weights}
         *
         * @param w the weights; trained ones are leaves
         * @param x the input, a leaf; null where the input are tokens
         * @param part the micro-batch's number
         */
        Map<String, Tensor> through(Map<String, Tensor> w, Tensor x, int part, PackedSequences packed);
    }

    private final ForwardPass forward;
    private final Decoder decoder;
    private final Units units;
    private final List<PackedSequences> micros;
    /** The inputs of each layer and, last, the output of the last one, by micro-batch; null for other ranks' or when no longer needed. */
    private final Tensor[][] inputs;
    /** Gradients with respect to the outputs of the backward pass's current layer, by micro-batch. */
    private final Tensor[] outputGradients;

    LayerPass(ForwardPass forward, Decoder decoder, Units units, List<PackedSequences> micros) {
        this.forward = forward;
        this.decoder = decoder;
        this.units = units;
        this.micros = micros;
        this.inputs = new Tensor[forward.config.layers() + 1][micros.size()];
        this.outputGradients = new Tensor[micros.size()];
    }

    /** Computes a part of the model for a micro-batch. */
    private interface Step {
        Tensor of(Map<String, Tensor> w, int part, PackedSequences packed);
    }

    private void forward(String unit, Tensor[] into, Step step) {
        try (PointerScope scope = new PointerScope()) {
            final Map<String, Tensor> w = units.apply(unit);
            forward.workers.run(OutOfMemory.LEARNING, forward.tasks(micros, (part, packed) -> {
                try (NoGradGuard guard = new NoGradGuard(); PointerScope inner = new PointerScope()) {
                    into[part] = Decoder.kept(forward.offloaded(step.of(w, part, packed)));
                }
                return null;
            }), nothing -> {});
        }
    }

    /** Computes all layers for all micro-batches. @param keeps whether to keep what {@link #backward} needs */
    void forward(boolean keeps) {
        forward(Decoder.EMBEDDING, inputs[0], (w, part, packed) -> decoder.embedded(w, packed.ids));
        for (int i = 0; i < inputs.length - 1; i++) {
            final int layer = i;
            forward(Decoder.layer(i), inputs[i + 1], (w, part, packed) -> decoder.layer(w, layer, forward.onDevice(inputs[layer][part]),
                    packed));
            if (!keeps) {
                close(inputs[i]);
            }
        }
    }

    /** {@return the last hidden states at the messages' tokens, by micro-batch, without a gradient} The caller owns them; null for other ranks'. */
    static Tensor[] hidden(ForwardPass forward, Decoder decoder, Units units, List<PackedSequences> micros) {
        try (LayerPass pass = new LayerPass(forward, decoder, units, micros)) {
            pass.forward(false);
            return pass.hidden();
        }
    }

    /** {@return the last hidden states at the messages' tokens, by micro-batch} The caller owns them; null for other ranks'. */
    private Tensor[] hidden() {
        final Tensor[] hidden = new Tensor[micros.size()];
        forward(Decoder.NORM, hidden,
                (w, part, packed) -> decoder.normed(w, forward.onDevice(inputs[inputs.length - 1][part])).index_select(0, packed.asked));
        return hidden;
    }

    /** The backward pass: {@code last}, from the loss to the output of the last layer, with the weights {@code lastUnits}; then all layers. */
    void backward(TrainingState state, List<String> lastUnits, BackwardStep last) {
        backward(state, lastUnits, inputs[inputs.length - 1], last);
        for (int i = inputs.length - 2; i >= 0; i--) {
            final int layer = i;
            backward(state, List.of(Decoder.layer(i)), inputs[i], (w, x, part, packed) -> {
                backpropagate(decoder.layer(w, layer, x, packed), forward.onDevice(outputGradients[part]));
                return Map.of();
            });
        }
        if (state.weights.layout.unit(Decoder.EMBEDDING) != null) {
            backward(state, List.of(Decoder.EMBEDDING), null, (w, x, part, packed) -> {
                backpropagate(decoder.embedded(w, packed.ids), forward.onDevice(outputGradients[part]));
                return Map.of();
            });
        }
    }

    static void backpropagate(Tensor y, Tensor gradient) {
        y.backward(gradient, new BoolOptional(), false, new TensorArrayRefOptional());
    }

    /** @param in the inputs, which are freed; null where the input are tokens */
    private void backward(TrainingState state, List<String> names, Tensor[] in, BackwardStep step) {
        try (PointerScope scope = new PointerScope()) {
            final List<Map<String, Tensor>> given = names.stream().map(units).toList();
            final Map<String, Tensor> w = new LazyTensors(name -> given.stream().map(some -> some.get(name)).filter(Objects::nonNull).findFirst()
                    .orElse(null));
            final List<Layout.Unit> trained = new ArrayList<>();
            final List<Tensor> sums = new ArrayList<>();
            for (String name : names) {
                final Layout.Unit unit = state.weights.layout.unit(name);
                if (unit != null) {
                    trained.add(unit);
                    sums.add(Weights.zeros(unit.length(), forward.device));
                }
            }
            forward.workers.run(OutOfMemory.LEARNING, forward.tasks(micros, (part, packed) -> {
                try (PointerScope inner = new PointerScope()) {
                    final Map<String, Tensor> leaves = new HashMap<>();
                    trained.forEach(unit -> unit.parts().keySet().forEach(name -> leaves.put(name, w.get(name).detach().set_requires_grad(true))));
                    final Tensor x = in == null ? null : forward.onDevice(in[part]).detach().set_requires_grad(true);
                    final Map<String, Tensor> gradients = new HashMap<>();
                    step.through(TrainingState.over(w, leaves), x, part, packed).forEach((name, grad) -> gradients.put(name, Decoder.kept(grad)));
                    leaves.forEach((name, leaf) -> {
                        if (leaf.grad().defined()) {
                            gradients.put(name, Decoder.kept(leaf.grad().detach())); // grad itself belongs to the leaf
                        }
                    });
                    if (x != null) {
                        replace(outputGradients, part, Decoder.kept(forward.offloaded(x.grad().detach())));
                        replace(in, part, null);
                    }
                    return gradients;
                }
            }), gradients -> add(gradients, trained, sums));
            for (int i = 0; i < sums.size(); i++) {
                state.addGradients(trained.get(i), sums.get(i));
                sums.get(i).close();
            }
        }
    }

    private static void add(Map<String, Tensor> gradients, List<Layout.Unit> units, List<Tensor> sums) {
        try (NoGradGuard guard = new NoGradGuard(); PointerScope scope = new PointerScope()) {
            for (int i = 0; i < sums.size(); i++) {
                final Layout.Unit unit = units.get(i);
                final Tensor sum = sums.get(i);
                unit.parts().forEach((name, part) -> {
                    final Tensor grad = gradients.get(name);
                    if (grad != null) {
                        sum.narrow(0, part.offset() - unit.from(), part.length()).view(part.shape()).add_(grad);
                    }
                });
            }
        }
        gradients.values().forEach(Tensor::close);
    }

    private static void replace(Tensor[] tensors, int at, Tensor with) {
        if (tensors[at] != null) {
            tensors[at].close();
        }
        tensors[at] = with;
    }

    private static void close(Tensor[] tensors) {
        Arrays.stream(tensors).filter(Objects::nonNull).forEach(Tensor::close);
        Arrays.fill(tensors, null);
    }

    @Override
    public void close() {
        Arrays.stream(inputs).forEach(LayerPass::close);
        close(outputGradients);
    }
}
