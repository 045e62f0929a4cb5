package org.teamtr.torch;

import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.teamtr.model.ModelConfig;

/**
 * The places of a model's tensors in one vector, so that optimiser, snapshots and checksums work on a single tensor instead of
 * hundreds.
 */
final class Layout {
    /** A tensor's place, in elements. */
    record Part(long offset, long length, long[] shape) {
    }

    final Map<String, Part> parts = new LinkedHashMap<>();
    private long length;

    /** All weights of a model under their Hugging Face names. */
    static Layout of(ModelConfig c) {
        final Layout layout = new Layout();
        final ModelConfig.Attention a = c.attention();
        final boolean bias = c.feedForward().bias();
        final int inside = c.feedForward().width();
        layout.add("model.embed_tokens.weight", c.embedding().vocab(), c.hidden());
        for (int i = 0; i < c.layers(); i++) {
            final String layer = "model.layers." + i + ".";
            layout.add(layer + "input_layernorm.weight", c.hidden());
            layout.linear(layer + "self_attn.q_proj", a.qWidth(), c.hidden(), a.qkvBias());
            layout.linear(layer + "self_attn.k_proj", a.kvWidth(), c.hidden(), a.qkvBias());
            layout.linear(layer + "self_attn.v_proj", a.kvWidth(), c.hidden(), a.qkvBias());
            layout.linear(layer + "self_attn.o_proj", c.hidden(), a.qWidth(), a.outBias());
            if (a.qkNorm()) {
                layout.add(layer + "self_attn.q_norm.weight", a.headDim());
                layout.add(layer + "self_attn.k_norm.weight", a.headDim());
            }
            layout.add(layer + "post_attention_layernorm.weight", c.hidden());
            layout.linear(layer + "mlp.gate_proj", inside, c.hidden(), bias);
            layout.linear(layer + "mlp.up_proj", inside, c.hidden(), bias);
            layout.linear(layer + "mlp.down_proj", c.hidden(), inside, bias);
        }
        layout.add("model.norm.weight", c.hidden());
        if (!c.embedding().tied()) {
            layout.add("lm_head.weight", c.embedding().vocab(), c.hidden());
        }
        return layout;
    }

    /**
     * The adapters of those linear layers of {@code base} whose names end in one of {@code targets}; embedding and head have none.
     *
     * @throws IllegalArgumentException if there are no targets, or one is the name of no such layer
     */
    static Layout lora(Layout base, int rank, List<String> targets) {
        final Layout layout = new Layout();
        final Set<String> modules = new LinkedHashSet<>();
        base.parts.forEach((name, part) -> {
            if (part.shape().length == 2 && name.startsWith("model.layers.")) {
                final String path = name.replaceFirst("\\.weight$", "");
                final String module = path.substring(path.lastIndexOf('.') + 1);
                modules.add(module);
                if (targets.contains(module)) {
                    layout.add(path + ".lora_A.weight", rank, part.shape()[1]);
                    layout.add(path + ".lora_B.weight", part.shape()[0], rank);
                }
            }
        });
        if (targets.isEmpty()) {
            throw new IllegalArgumentException("lora.targets: expected some of " + modules + ", given none");
        }
        for (String target : targets) {
            if (!modules.contains(target)) {
                throw new IllegalArgumentException("lora.targets: expected some of " + modules + ", given " + target);
            }
        }
        return layout;
    }

    private void linear(String name, long out, long in, boolean bias) {
        add(name + ".weight", out, in);
        if (bias) {
            add(name + ".bias", out);
        }
    }

    private void add(String name, long... shape) {
        long n = 1;
        for (long s : shape) {
            n = Math.multiplyExact(n, s);
        }
        parts.put(name, new Part(length, n, shape));
        length = Math.addExact(length, n);
    }

    /** Adjacent tensors: the elements {@code from} up to, not including, {@code to}. */
    record Unit(long from, long to, Map<String, Part> parts) {
        long length() {
            return to - from;
        }
    }

    /** {@return the tensors whose names begin with a prefix, such as those of a layer; null if there are none} */
    Unit unit(String prefix) {
        final Map<String, Part> some = new LinkedHashMap<>();
        long from = Long.MAX_VALUE;
        long to = 0;
        for (Map.Entry<String, Part> entry : parts.entrySet()) {
            if (entry.getKey().startsWith(prefix)) {
                final Part part = entry.getValue();
                some.put(entry.getKey(), part);
                from = Math.min(from, part.offset);
                to = Math.max(to, part.offset + part.length);
            }
        }
        return some.isEmpty() ? null : new Unit(from, to, some);
    }

    /** {@return the number of elements of the vector} */
    long length() {
        return length;
    }
}
