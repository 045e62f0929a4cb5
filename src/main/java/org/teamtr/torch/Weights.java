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
import org.teamtr.team.KeyedRandom;

/**
 * The numbers of a model: an f32 vector that is trained, and what the decoder computes with. In f32 these are views of the vector; in
 * bf16 and f16 rounded copies of it, so that small updates are not lost. Frozen weights have the numbers to compute with alone.
 */
final class Weights implements AutoCloseable {
    /** Numbers that are worked on at once where a copy is needed: 256 MB. */
    private static final long CHUNK = 64L << 20;

    final Layout layout;
    final torch.ScalarType dtype;
    private final Device device;
    /**
     * f32; null of frozen weights in 16 bits. May be on another device than what the decoder computes with. [layout.length()], or of
     * weights in 16 bits this rank's part of them where there is a shard.
     */
    Tensor master;
    /** Null where the master is whole. */
    final Shard shard;
    /** Whether this rank has no more than its part of what is computed with, either, but between {@link #gather} and {@link #divide}. */
    final boolean divided;
    /** Of those: this rank's part in {@link #dtype}, on the device. In f32, the master. Made when it is first asked for. */
    private Tensor own;
    /**
     * The same in {@link #dtype}, on the device; of a copy, made when it is first asked for. In f32, the master or a copy. Null
     * of divided weights that are not gathered.
     */
    private Tensor flat;
    private Map<String, Tensor> compute;
    /** The master on the device, and its parts; made when they are first asked for. */
    private Tensor masterThere;
    private Map<String, Tensor> masters;
    private int owners = 1;
    private long changes;

    /**
     * Zeros.
     *
     * @param home where the f32 vector is until {@link #moveMaster}; of f32 weights it is always on the device
     */
    Weights(Layout layout, torch.ScalarType dtype, Device device, Device home, boolean trained) {
        this(layout, dtype, device, new Home(home), trained, null, false);
    }

    /**
     * @param shard what this rank keeps of the f32 vector; null for all of it
     * @param divided whether it keeps no more of what is computed with; without, f32 weights are whole
     */
    Weights(Layout layout, torch.ScalarType dtype, Device device, Home home, boolean trained, Shard shard, boolean divided) {
        this(layout, dtype, device, divided || dtype != torch.ScalarType.Float ? shard : null, divided);
        try (PointerScope scope = new PointerScope()) {
            final boolean f32 = dtype == torch.ScalarType.Float;
            final long length = this.shard == null ? layout.length() : this.shard.length;
            master = f32 ? zeros(length, device) : trained ? home.zeros(length) : null;
            final Tensor there = f32 ? master
                    : Decoder.kept(Decoder.empty(new long[] {divided ? length : layout.length()}, dtype, device).zero_());
            own = divided ? there : null;
            flat = divided ? null : there;
        }
    }

    /** No vector is there yet. */
    private Weights(Layout layout, torch.ScalarType dtype, Device device, Shard shard, boolean divided) {
        this.layout = layout;
        this.shard = shard;
        this.divided = divided;
        this.dtype = dtype;
        try (PointerScope scope = new PointerScope()) { // its own, since frozen weights outlive whoever made them
            this.device = Decoder.kept(new Device(device.str()));
        }
    }

    /** For another owner, who closes them too. */
    Weights shared() {
        owners++;
        return this;
    }

    /** {@return whether there is an owner left} */
    boolean open() {
        return owners > 0;
    }

    static Tensor zeros(long n, Device device) {
        try (PointerScope scope = new PointerScope()) {
            return Decoder.kept(Decoder.empty(new long[] {n}, torch.ScalarType.Float, device).zero_());
        }
    }

    static Tensor view(Tensor flat, Layout.Part part) {
        return flat.narrow(0, part.offset(), part.length()).view(part.shape());
    }

    private Map<String, Tensor> views(Tensor of) {
        final Map<String, Tensor> views = new HashMap<>();
        try (NoGradGuard guard = new NoGradGuard(); PointerScope scope = new PointerScope()) {
            layout.parts.forEach((name, part) -> views.put(name, Decoder.kept(view(of, part).detach())));
        }
        return views;
    }

    /** {@return the vector that new numbers are written to, before a {@link #refresh}} */
    Tensor stored() {
        return master != null ? master : divided ? own() : flat;
    }

    /** Writes new numbers, as far as they are this rank's, before a {@link #refresh}. */
    void put(long at, Tensor numbers) {
        if (shard == null) {
            stored().narrow(0, at, numbers.numel()).copy_(numbers);
            return;
        }
        final long from = Math.max(at, shard.from);
        final long to = Math.min(at + numbers.numel(), shard.from + shard.length);
        if (from < to) {
            stored().narrow(0, from - shard.from, to - from).copy_(numbers.narrow(0, from - at, to - from));
        }
    }

    /** What the decoder computes with, without gradients. */
    synchronized Map<String, Tensor> compute() {
        if (flat == null && divided) {
            throw new IllegalStateException("weights: they are divided among ranks; expected a call of ready() before generate");
        }
        if (flat == null) {
            flat = there(dtype);
        }
        if (compute == null) {
            compute = views(flat);
        }
        return compute;
    }

    /** The vector itself, unrounded, by name, on the device; of frozen weights what they are rounded to. */
    synchronized Map<String, Tensor> masters() {
        if (dtype == torch.ScalarType.Float) {
            return compute();
        }
        if (master == null) {
            return new Lookup(name -> { // each widened when it is asked for, and left to the caller's PointerScope
                final Tensor narrow = compute().get(name);
                return narrow == null ? null : narrow.to(torch.ScalarType.Float);
            });
        }
        if (masters == null) {
            masterThere = there(torch.ScalarType.Float);
            masters = views(masterThere);
        }
        return masters;
    }

    // ---- where they are divided ----

    /** This rank's part of what is computed with. */
    synchronized Tensor own() {
        if (own == null) {
            if (flat != null) {
                try (PointerScope scope = new PointerScope()) {
                    own = copied(shard.own(flat), device);
                }
            } else if (dtype == torch.ScalarType.Float) {
                own = master;
            } else {
                try (NoGradGuard guard = new NoGradGuard(); PointerScope scope = new PointerScope()) {
                    own = Decoder.kept(Decoder.empty(new long[] {shard.length}, dtype, device));
                    round(master, own);
                }
            }
        }
        return own;
    }

    /** Brings divided weights together: every rank calls it, and has all of them until they change or it calls {@link #divide}. */
    void gather() {
        if (!divided || flat != null) {
            return;
        }
        try (NoGradGuard guard = new NoGradGuard(); PointerScope scope = new PointerScope()) {
            final Tensor whole = Decoder.kept(Decoder.empty(new long[] {layout.length()}, dtype, device));
            shard.own(whole).copy_(own());
            shard.gather("weights", whole);
            flat = whole;
            if (own != master) {
                own.close();
                own = null;
            }
        }
    }

    /** Keeps no more than this rank's part. */
    void divide() {
        if (divided && flat != null) {
            own();
            forgetGathered();
        }
    }

    private void forgetGathered() {
        if (compute != null) {
            compute.values().forEach(Tensor::close);
            compute = null;
        }
        if (flat != null) {
            flat.close();
            flat = null;
        }
    }

    /**
     * {@return the tensors whose names begin so, by name}, which every rank asks for at once where they are divided; they are then
     * owned by the caller's PointerScope
     *
     * @param unrounded the f32 numbers
     */
    Map<String, Tensor> unit(String prefix, boolean unrounded) {
        final Layout.Unit unit = layout.unit(prefix);
        if (unit == null) {
            return Map.of();
        }
        final Map<String, Tensor> tensors = new HashMap<>();
        final boolean ofMaster = unrounded && master != null;
        if (!divided || flat != null && !(ofMaster && dtype != torch.ScalarType.Float)) {
            final Map<String, Tensor> all = unrounded && !divided ? masters() : compute();
            unit.parts().keySet().forEach(name -> tensors.put(name, unrounded ? all.get(name).to(torch.ScalarType.Float) : all.get(name)));
            return tensors;
        }
        try (NoGradGuard guard = new NoGradGuard()) {
            final Tensor range = shard.gathered("weights of " + prefix, ofMaster ? master : own(), unit.from(), unit.to(), device);
            final Tensor numbers = unrounded ? range.to(torch.ScalarType.Float) : range;
            unit.parts().forEach((name, part) -> tensors.put(name, numbers.narrow(0, part.offset() - unit.from(), part.length())
                    .view(part.shape()).detach()));
        }
        return tensors;
    }

    // ---- masters ----

    /** The master in a dtype on the device, or the master itself where it is that already. */
    private Tensor there(torch.ScalarType type) {
        if (type == torch.ScalarType.Float && isOn(master, device) && shard == null) {
            return master;
        }
        try (NoGradGuard guard = new NoGradGuard(); PointerScope scope = new PointerScope()) {
            final Tensor copy = Decoder.kept(Decoder.empty(new long[] {layout.length()}, type, device));
            roundAll(copy);
            return copy;
        }
    }

    /** The master, rounded, into a vector of all. */
    private void roundAll(Tensor to) {
        round(master, shard == null ? to : shard.own(to));
        if (shard != null) {
            shard.gather("weights", to);
        }
    }

    /** A part after the other: from device to device, libtorch converts in memory of its own. */
    private static void round(Tensor from, Tensor to) {
        for (long at = 0; at < from.numel(); at += CHUNK) {
            try (PointerScope scope = new PointerScope()) {
                final long n = Math.min(CHUNK, from.numel() - at);
                to.narrow(0, at, n).copy_(from.narrow(0, at, n));
            }
        }
    }

    /** Moves the f32 vector. Of f32 weights, which the decoder computes with, it stays. */
    void moveMaster(Device to) {
        if (dtype != torch.ScalarType.Float && !isOn(master, to)) {
            forgetMasters();
            master = moved(master, to);
        }
    }

    /** The way back. */
    void moveMaster(Home to) {
        if (dtype != torch.ScalarType.Float && !isOn(master, to.device())) {
            forgetMasters();
            master = moved(master, to);
        }
    }

    static boolean isOn(Tensor tensor, Device device) {
        try (Device at = tensor.device()) {
            return at.equals(device);
        }
    }

    /** {@return the tensor on a device}, the old one closed where it is another; see {@link Home} for when the copy has ended */
    static Tensor moved(Tensor tensor, Device to) {
        if (isOn(tensor, to)) {
            return tensor;
        }
        final Tensor there = copied(tensor, to, tensor.is_pinned());
        tensor.close();
        return there;
    }

    /** {@return the tensor at home}, the old one closed where it is another */
    static Tensor moved(Tensor tensor, Home to) {
        if (isOn(tensor, to.device())) {
            return tensor;
        }
        final Tensor there = to.copied(tensor);
        tensor.close();
        return there;
    }

    private void forgetMasters() {
        if (masters != null) {
            masters.values().forEach(Tensor::close);
            if (masterThere != master) {
                masterThere.close();
            }
            masters = null;
        }
    }

    /** The same numbers as leaves of a new graph, each call its own, so that threads do not share gradients. */
    Map<String, Tensor> leaves() {
        final Map<String, Tensor> leaves = new HashMap<>();
        compute().forEach((name, tensor) -> leaves.put(name, tensor.detach().set_requires_grad(true)));
        return leaves;
    }

    /** {@return how often the vector was written}: while it stays the same, so do the weights */
    long changes() {
        return changes;
    }

    /** Brings rounded copies up to date; to be called whenever the vector was written. */
    void refresh() {
        changes++;
        if (divided) {
            forgetGathered(); // without a look at it: it is what was
            if (own != null && master != null && own != master) {
                try (NoGradGuard guard = new NoGradGuard()) {
                    round(master, own);
                }
            }
            return;
        }
        if (dtype != torch.ScalarType.Float && master != null && flat != null) {
            try (NoGradGuard guard = new NoGradGuard(); PointerScope scope = new PointerScope()) {
                roundAll(flat);
            }
        }
        if (masterThere != master) {
            forgetMasters();
        }
    }

    /** @param home where the copy's f32 vector is to be */
    Weights copy(Home home) {
        final Weights copy = new Weights(layout, dtype, device, shard, divided);
        try (NoGradGuard guard = new NoGradGuard(); PointerScope scope = new PointerScope()) {
            copy.master = home.copied(master);
        }
        return copy;
    }

    /** {@return a new tensor on a device with the same numbers} */
    static Tensor copied(Tensor tensor, Device to) {
        return copied(tensor, to, false);
    }

    /** @param queued whether the copy may still be under way on the current stream */
    private static Tensor copied(Tensor tensor, Device to, boolean queued) {
        try (NoGradGuard guard = new NoGradGuard(); PointerScope scope = new PointerScope()) {
            final long[] shape = {tensor.numel()};
            return Decoder.kept(Decoder.empty(shape, tensor.scalar_type().intern(), to).copy_(tensor, queued));
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
        try (NoGradGuard guard = new NoGradGuard(); Device here = master.device()) {
            for (long at = 0; at < master.numel(); at += CHUNK) {
                try (PointerScope scope = new PointerScope()) {
                    final long n = Math.min(CHUNK, master.numel() - at);
                    master.narrow(0, at, n).lerp_(other.master.narrow(0, at, n).to(here, torch.ScalarType.Float), new Scalar(1 - share));
                }
            }
        }
        refresh();
    }

    /** Moves every number by {@code size}, up or down as the seed says. */
    void nudge(double size, long seed) {
        final SplittableRandom random = new SplittableRandom(seed);
        for (long skipped = 0; shard != null && skipped < shard.from; skipped += Long.SIZE) {
            random.nextLong();
        }
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
        layout.parts.entrySet().parallelStream().forEach(entry -> random(entry.getKey(), entry.getValue(), KeyedRandom.of(seed,
                entry.getKey().hashCode())));
        refresh();
    }

    private void random(String name, Layout.Part part, SplittableRandom random) {
        final float[] values = new float[(int) Math.min(part.length(), 1 << 20)];
        final double deviation = name.equals("model.embed_tokens.weight") ? 0.02 : 1 / Math.sqrt(part.shape()[part.shape().length - 1]);
        for (long from = 0; from < part.length(); from += values.length) {
            final int n = (int) Math.min(values.length, part.length() - from);
            for (int i = 0; i < n; i++) {
                values[i] = name.endsWith("norm.weight") ? 1 : name.endsWith(".bias") || name.endsWith("lora_B.weight") ? 0
                        : (float) (deviation * random.nextGaussian());
            }
            try (NoGradGuard guard = new NoGradGuard(); PointerScope scope = new PointerScope()) {
                put(part.offset() + from, Tensor.create(values, values.length).narrow(0, 0, n));
            }
        }
    }

    /** By the last owner. */
    @Override
    public void close() {
        if (--owners > 0) {
            return;
        }
        forgetMasters();
        if (compute != null) {
            compute.values().forEach(Tensor::close);
        }
        if (flat != null && flat != master) {
            flat.close();
        }
        if (own != null && own != master) {
            own.close();
        }
        device.close();
        if (master != null) {
            master.close();
        }
    }
}
