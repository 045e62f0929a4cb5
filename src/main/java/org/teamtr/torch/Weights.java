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
 * The weights of a model: an f32 vector that is trained (the master), and the tensors that the decoder computes with. In f32 these are
 * views of the vector; in bf16 and f16 rounded copies of it, so that small updates are not lost. Frozen weights have no master in 16 bits.
 */
final class Weights implements AutoCloseable {
    /** Elements of a piece, where a temporary copy is needed: 256 MB of f32. */
    private static final long CHUNK = 64L << 20;

    final Layout layout;
    final torch.ScalarType dtype;
    private final Device device;
    /**
     * f32; null for frozen weights in 16 bits. May be on another device than the tensors that the decoder computes with. Its length is
     * layout.length(), or, for 16-bit weights with a shard, that of this rank's part.
     */
    Tensor master;
    /** This rank's part of the master; null if the master is not divided. */
    final Shard shard;
    /** Whether the weights that the decoder computes with are divided, too; {@link #gather} and {@link #divide} switch between all and a part. */
    final boolean divided;
    /** This rank's part of these in {@link #dtype}, on the device. In f32, the master. Made when first needed. */
    private Tensor own;
    /**
     * All weights in {@link #dtype}, on the device; in a copy of weights, made when first needed. In f32, the master or a copy of it. Null
     * for divided weights that are not gathered.
     */
    private Tensor flat;
    private Map<String, Tensor> compute;
    /** The master on the device, and its tensors; made when first needed. */
    private Tensor masterThere;
    private Map<String, Tensor> masters;
    /** Of frozen weights, once it was asked for; see {@link TrainingState#frozenChecksum}. */
    Long checksum;
    private int owners = 1;
    private long changes;

    /**
     * Makes weights that are zeros.
     *
     * @param masters the device of the f32 vector until {@link #moveMaster}; for f32 weights it is always on the device
     */
    Weights(Layout layout, torch.ScalarType dtype, Device device, Device masters, boolean trained) {
        this(layout, dtype, device, new Placement(masters), trained, null, false);
    }

    /**
     * @param shard this rank's part of the f32 vector; null for all of it
     * @param divided whether the weights that the decoder computes with are divided as well; if not, f32 weights are whole
     */
    Weights(Layout layout, torch.ScalarType dtype, Device device, Placement placement, boolean trained, Shard shard, boolean divided) {
        this(layout, dtype, device, divided || dtype != torch.ScalarType.Float ? shard : null, divided);
        try (PointerScope scope = new PointerScope()) {
            final boolean f32 = dtype == torch.ScalarType.Float;
            final long length = this.shard == null ? layout.length() : this.shard.length;
            master = f32 ? zeros(length, device) : trained ? placement.zeros(length) : null;
            final Tensor there = f32 ? master
                    : Decoder.kept(Decoder.empty(new long[] {divided ? length : layout.length()}, dtype, device).zero_());
            own = divided ? there : null;
            flat = divided ? null : there;
        }
    }

    /** Makes weights without any vector. */
    private Weights(Layout layout, torch.ScalarType dtype, Device device, Shard shard, boolean divided) {
        this.layout = layout;
        this.shard = shard;
        this.divided = divided;
        this.dtype = dtype;
        try (PointerScope scope = new PointerScope()) { // a new object, since frozen weights may live longer than the policy that made them
            this.device = Decoder.kept(new Device(device.str()));
        }
    }

    /** {@return these weights, for another owner, who must close them as well} */
    Weights shared() {
        owners++;
        return this;
    }

    /** {@return whether an owner has not closed them yet} */
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

    /** {@return the vector to which new values are written, before {@link #refresh}} */
    Tensor stored() {
        return master != null ? master : divided ? own() : flat;
    }

    /** Writes those of some new values that belong to this rank's part, before {@link #refresh}. */
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

    /** {@return the tensors that the decoder computes with, without gradients} */
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

    /** {@return the f32 tensors by name, on the device; for frozen 16-bit weights, these converted to f32} */
    synchronized Map<String, Tensor> masters() {
        if (dtype == torch.ScalarType.Float) {
            return compute();
        }
        if (master == null) {
            return new LazyTensors(name -> { // each is converted when it is looked up, and owned by the caller's PointerScope
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

    // ---- divided weights ----

    /** {@return this rank's part of the weights that the decoder computes with} */
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

    /** Gathers divided weights; every rank must call it. They stay until they change or {@link #divide} is called. */
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

    /** Frees all but this rank's part. */
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
     * {@return the tensors whose names begin with a prefix, by name} If the weights are divided, every rank must call it at the same time, and
     * the caller's PointerScope owns the tensors.
     *
     * @param unrounded whether to return the f32 weights
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

    /** {@return the master in a dtype on the device; the master itself if it is that already} */
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

    /** Rounds the master, all parts of it, into a vector. */
    private void roundAll(Tensor to) {
        round(master, shard == null ? to : shard.own(to));
        if (shard != null) {
            shard.gather("weights", to);
        }
    }

    /** Rounds in pieces: for copies between devices, libtorch converts in temporary memory. */
    private static void round(Tensor from, Tensor to) {
        for (long at = 0; at < from.numel(); at += CHUNK) {
            try (PointerScope scope = new PointerScope()) {
                final long n = Math.min(CHUNK, from.numel() - at);
                to.narrow(0, at, n).copy_(from.narrow(0, at, n));
            }
        }
    }

    /** Moves the f32 vector, unless the decoder computes with it (f32 weights). */
    void moveMaster(Device to) {
        if (dtype != torch.ScalarType.Float && !isOn(master, to)) {
            forgetMasters();
            master = moved(master, to);
        }
    }

    /** Moves the f32 vector back. */
    void moveMaster(Placement to) {
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

    /** {@return the tensor on a device} Closes the old one if it is copied; {@link Placement} says when the copy is complete. */
    static Tensor moved(Tensor tensor, Device to) {
        if (isOn(tensor, to)) {
            return tensor;
        }
        final Tensor there = copied(tensor, to, tensor.is_pinned());
        tensor.close();
        return there;
    }

    /** {@return the tensor in a place} Closes the old one if it is copied. */
    static Tensor moved(Tensor tensor, Placement to) {
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

    /** {@return the weights as leaves of a new autograd graph}; a different one for each call, so that threads do not share gradients. */
    Map<String, Tensor> leaves() {
        final Map<String, Tensor> leaves = new HashMap<>();
        compute().forEach((name, tensor) -> leaves.put(name, tensor.detach().set_requires_grad(true)));
        return leaves;
    }

    /** {@return how often the vector has been written}: while this is the same, so are the weights. */
    long changes() {
        return changes;
    }

    /** Updates rounded copies; must be called whenever the vector has been written. */
    void refresh() {
        changes++;
        if (divided) {
            forgetGathered(); // it has the old values
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

    /** @param placement where the copy's f32 vector is kept */
    Weights copy(Placement placement) {
        final Weights copy = new Weights(layout, dtype, device, shard, divided);
        try (NoGradGuard guard = new NoGradGuard(); PointerScope scope = new PointerScope()) {
            copy.master = placement.copied(master);
        }
        return copy;
    }

    /** {@return a copy of a tensor on a device} */
    static Tensor copied(Tensor tensor, Device to) {
        return copied(tensor, to, false);
    }

    /** @param queued whether the method may return before the copy, on the current stream, is complete */
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

    /** this = other + share (this - other) */
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

    /** Adds {@code size} or {@code -size} to every weight, at random by the seed. */
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
     * Sets random weights, which depend only on the seed and the tensor's name: norms are 1, biases and the B matrices of adapters
     * 0, embeddings N(0, 0.02²), other matrices N(0, 1 / fan-in).
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

    /** Frees the memory when the last owner calls it. */
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
