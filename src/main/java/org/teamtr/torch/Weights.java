package org.teamtr.torch;

import java.util.HashMap;
import java.util.Map;
import java.util.SplittableRandom;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Device;
import org.bytedeco.pytorch.NoGradGuard;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch;
import org.teamtr.team.Chance;

/**
 * The numbers of a model: an f32 vector that is trained, and what the decoder computes with. In f32 these are views of the vector; in
 * bf16 and f16 rounded copies of it, so that small updates are not lost.
 */
final class Weights implements AutoCloseable {
    final Layout layout;
    final torch.ScalarType dtype;
    /** [layout.length()] f32. */
    final Tensor master;
    private final Map<String, Tensor> compute = new HashMap<>();
    private Map<String, Tensor> views; // made when they are first asked for

    /** Zeros. */
    Weights(Layout layout, torch.ScalarType dtype, Device device) {
        this(layout, dtype, zeros(layout.length(), device));
    }

    /** Takes {@code master} over. */
    private Weights(Layout layout, torch.ScalarType dtype, Tensor master) {
        this.layout = layout;
        this.dtype = dtype;
        this.master = master;
        try (NoGradGuard guard = new NoGradGuard(); PointerScope scope = new PointerScope()) {
            layout.parts.forEach((name, part) -> {
                final Tensor view = view(master, part);
                compute.put(name, Decoder.kept(dtype == torch.ScalarType.Float ? view.detach() : view.to(dtype)));
            });
        }
    }

    static Tensor zeros(long n, Device device) {
        try (PointerScope scope = new PointerScope()) {
            return Decoder.kept(Decoder.empty(new long[] {n}, torch.ScalarType.Float, device).zero_());
        }
    }

    static Tensor view(Tensor flat, Layout.Part part) {
        return flat.narrow(0, part.offset(), part.length()).view(part.shape());
    }

    /** What the decoder computes with, without gradients. */
    Map<String, Tensor> compute() {
        return compute;
    }

    /** The vector itself, unrounded, by name. */
    synchronized Map<String, Tensor> masters() {
        if (dtype == torch.ScalarType.Float) {
            return compute;
        }
        if (views == null) {
            views = new HashMap<>();
            try (PointerScope scope = new PointerScope()) {
                layout.parts.forEach((name, part) -> views.put(name, Decoder.kept(view(master, part).detach())));
            }
        }
        return views;
    }

    /** The same numbers as leaves of a new graph, each call its own, so that threads do not share gradients. */
    Map<String, Tensor> leaves() {
        final Map<String, Tensor> leaves = new HashMap<>();
        compute.forEach((name, tensor) -> leaves.put(name, tensor.detach().set_requires_grad(true)));
        return leaves;
    }

    /** Brings rounded copies up to date; to be called whenever the vector was written. */
    void refresh() {
        if (dtype != torch.ScalarType.Float) {
            try (NoGradGuard guard = new NoGradGuard(); PointerScope scope = new PointerScope()) {
                layout.parts.forEach((name, part) -> compute.get(name).copy_(view(master, part)));
            }
        }
    }

    Weights copy() {
        try (NoGradGuard guard = new NoGradGuard(); PointerScope scope = new PointerScope()) {
            return new Weights(layout, dtype, Decoder.kept(master.clone()));
        }
    }

    void set(Weights other) {
        try (NoGradGuard guard = new NoGradGuard(); PointerScope scope = new PointerScope()) {
            master.copy_(other.master);
        }
        refresh();
    }

    /** other + share (this - other). */
    void shorten(Weights other, double share) {
        try (NoGradGuard guard = new NoGradGuard(); PointerScope scope = new PointerScope()) {
            master.lerp_(other.master, new Scalar(1 - share));
        }
        refresh();
    }

    /** Moves every number by {@code size}, up or down as the seed says. */
    void nudge(double size, long seed) {
        final SplittableRandom random = new SplittableRandom(seed);
        final float[] moves = new float[(int) Math.min(master.numel(), 1 << 20)];
        try (NoGradGuard guard = new NoGradGuard()) {
            for (long from = 0; from < master.numel(); from += moves.length) {
                try (PointerScope scope = new PointerScope()) {
                    final int n = (int) Math.min(moves.length, master.numel() - from);
                    long bits = 0;
                    for (int i = 0; i < n; i++, bits >>>= 1) {
                        bits = i % Long.SIZE == 0 ? random.nextLong() : bits;
                        moves[i] = (float) ((bits & 1) == 0 ? -size : size);
                    }
                    final Tensor part = master.narrow(0, from, n);
                    part.add_(Tensor.create(moves, moves.length).narrow(0, 0, n).to(part.device(), torch.ScalarType.Float));
                }
            }
        }
        refresh();
    }

    /**
     * Random numbers that depend on the seed and the tensor's name alone: norms are 1, biases and the second halves of adapters
     * 0, embeddings N(0, 0.02²), matrices N(0, 1 / fan-in).
     */
    void random(long seed) {
        layout.parts.forEach((name, part) -> {
            final float[] values = new float[(int) Math.min(part.length(), 1 << 20)];
            final SplittableRandom random = Chance.of(seed, name.hashCode());
            final double deviation = name.equals("model.embed_tokens.weight") ? 0.02 : 1 / Math.sqrt(part.shape()[part.shape().length - 1]);
            for (long from = 0; from < part.length(); from += values.length) {
                final int n = (int) Math.min(values.length, part.length() - from);
                for (int i = 0; i < n; i++) {
                    values[i] = name.endsWith("norm.weight") ? 1 : name.endsWith(".bias") || name.endsWith("lora_B.weight") ? 0
                            : (float) (deviation * random.nextGaussian());
                }
                try (NoGradGuard guard = new NoGradGuard(); PointerScope scope = new PointerScope()) {
                    master.narrow(0, part.offset() + from, n).copy_(Tensor.create(values, values.length).narrow(0, 0, n));
                }
            }
        });
        refresh();
    }

    @Override
    public void close() {
        compute.values().forEach(Tensor::close);
        if (views != null) {
            views.values().forEach(Tensor::close);
        }
        master.close();
    }
}
