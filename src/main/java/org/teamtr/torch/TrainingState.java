package org.teamtr.torch;

import java.nio.ByteBuffer;
import java.util.Map;
import java.util.function.UnaryOperator;
import java.util.zip.CRC32;
import java.util.zip.CRC32C;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Device;
import org.bytedeco.pytorch.NoGradGuard;
import org.bytedeco.pytorch.Tensor;
import org.teamtr.kernels.DType;
import org.teamtr.model.ModelConfig;
import org.teamtr.train.Policy;
import org.teamtr.train.Sharding;

/**
 * What a policy is at the moment, and what its next step needs: frozen and trained weights, AdamW's moments, the gradient, the loss scale
 * of f16, and the counter of versions. With snapshots of it, and with its moves between device and host.
 */
final class TrainingState implements AutoCloseable {
    /** Frozen weights below the adapters; null if all weights are trained. */
    final Weights base;
    /** What is trained. */
    final Weights weights;
    final AdamW optimiser;
    /** What of the optimiser's state, and of f32 weights beside others, is here; null for all. */
    final Shard shard;
    /** Of f16; null where gradients need none. */
    final LossScale lossScale;
    /** Null while the policy does not learn; where gradients are divided, this rank's part. */
    Tensor gradient;
    private boolean hasGradient;
    private long version;
    private long versions; // ever given out
    private final TeamMemory memory;
    private final Workers workers;
    private final Device device;
    /** Where the f32 weights and the optimiser's moments are while the policy does not learn, and snapshots. */
    private final Home home;
    /** The latest one, whose copies the next shares as long as nothing has changed; null before the first. */
    private TorchSnapshot latest;

    /**
     * Weights are zeros until somebody sets them.
     *
     * @param trained where each trained tensor lies
     * @param device that the policy computes on; it stays the caller's
     * @param base frozen weights for adapters to go over, which it takes over; null to make them, if there are to be adapters
     */
    TrainingState(ModelConfig config, TorchPolicy.Settings settings, Layout trained, Device device, TeamMemory memory, Workers workers,
            Weights base) {
        this.memory = memory;
        this.workers = workers;
        this.device = device;
        final boolean offload = memory.offload() && device.is_cuda();
        this.home = new Home(Decoder.kept(offload ? new Device("cpu") : device(settings)), offload && memory.pinned());
        this.lossScale = settings.dtype() == DType.F16 ? new LossScale() : null;
        this.base = settings.lora().rank() == 0 ? null : base != null ? base : frozen(config, settings, memory);
        this.shard = memory.shard(trained.length(), Sharding.STATE);
        this.weights = new Weights(trained, settings.scalarType(), device, home, true, shard, memory.sharding.divides(Sharding.WEIGHTS));
        this.optimiser = new AdamW(settings.adamW(), shard == null ? trained.length() : shard.length, home);
    }

    /** With its number, as tensors that are there have it. */
    static Device device(TorchPolicy.Settings settings) {
        return new Device(settings.device().equals("cuda") ? "cuda:0" : settings.device());
    }

    static Weights frozen(ModelConfig config, TorchPolicy.Settings settings, TeamMemory memory) {
        try (Device device = device(settings)) {
            final Layout layout = Layout.of(config);
            return new Weights(layout, settings.scalarType(), device, new Home(device), false, memory.shard(layout.length(), Sharding.WEIGHTS),
                    memory.sharding.divides(Sharding.WEIGHTS));
        }
    }

    long version() {
        return version;
    }

    // ---- what the decoder computes with ----

    /** {@return the trained weights, over the frozen ones where there are such} */
    Map<String, Tensor> all() {
        return all(weights.compute());
    }

    /** {@return these trained weights, over the frozen ones where there are such} */
    Map<String, Tensor> all(Map<String, Tensor> trained) {
        return over(base == null ? null : base.compute(), trained);
    }

    /** {@return what is evaluated in a precision} */
    Map<String, Tensor> all(Weights trained, Policy.Precision precision) {
        return precision == Policy.Precision.SAME ? all(trained.compute())
                : over(base == null ? null : base.masters(), trained.masters());
    }

    /** {@return the tensors whose names begin so, which all ranks ask for at once}: see {@link Weights#unit} */
    Map<String, Tensor> unit(Weights trained, Policy.Precision precision, String prefix) {
        final boolean unrounded = precision != Policy.Precision.SAME;
        return over(base == null ? null : base.unit(prefix, unrounded), trained.unit(prefix, unrounded));
    }

    /** {@return whether the weights are divided among ranks, so that what all ranks compute goes a layer after the other} */
    boolean divided() {
        return weights.divided;
    }

    /** {@return whether gradients are divided, so that they are made a layer after the other} */
    boolean byLayer() {
        return memory.sharding.divides(Sharding.GRADIENTS);
    }

    /** Brings divided weights together, to speak; every rank calls it. */
    void ready() {
        if (divided()) {
            rest();
            weights.gather();
            if (base != null) {
                base.gather();
            }
        }
    }

    /** Lets go of what other ranks have of divided weights, to learn or to be scored. */
    void divide() {
        weights.divide();
        if (base != null) {
            base.divide();
        }
    }

    static Map<String, Tensor> over(Map<String, Tensor> frozen, Map<String, Tensor> trained) {
        if (frozen == null) {
            return trained;
        }
        return new Lookup(name -> {
            final Tensor own = trained.get(name);
            return own != null ? own : frozen.get(name);
        });
    }

    // ---- gradient and step ----

    /** Makes room for learning. */
    void arrive() {
        if (divided()) { // then a step brings its vectors to the device a piece at a time
            divide();
        } else {
            weights.moveMaster(device);
            optimiser.move(device);
        }
        gradient = Weights.zeros(byLayer() ? shard.length : weights.layout.length(), device);
    }

    /** Leaves that room, unless there is a gradient that waits for its step. {@return whether it did} */
    boolean depart() {
        if (hasGradient) {
            return false;
        }
        gradient.close();
        gradient = null;
        optimiser.move(home);
        weights.moveMaster(home);
        return true;
    }

    /** Leaves the room that learning needs to those who generate. */
    void rest() {
        memory.rest();
    }

    /** Makes room for a gradient and sets it to zero. */
    void clearGradient() {
        hasGradient = false;
        try {
            memory.learns(this);
        } catch (RuntimeException e) {
            throw OutOfMemory.told(e, OutOfMemory.LEARNING);
        }
        try (NoGradGuard guard = new NoGradGuard()) {
            gradient.zero_();
        }
    }

    /** Adds a micro-batch's gradients, by name, and closes them. */
    void addGradients(Map<String, Tensor> gradients) {
        try (NoGradGuard guard = new NoGradGuard(); PointerScope scope = new PointerScope()) {
            gradients.forEach((name, grad) -> {
                Weights.view(gradient, weights.layout.parts.get(name)).add_(grad);
                grad.close();
            });
        }
    }

    /** Adds what all ranks have of some tensors to the parts that each has of the gradient. Every rank calls it. */
    void addGradients(Layout.Unit unit, Tensor sum) {
        shard.addSum("gradient", sum, unit.from(), gradient);
    }

    /** All micro-batches have been added: adds those of other ranks, too. */
    void completeGradient() {
        if (byLayer()) {
            hasGradient = true;
            return;
        }
        if (shard != null) {
            shard.sum("gradient", gradient);
        } else if (memory.ranks != null) {
            memory.ranks.sum("gradient", gradient);
        }
        hasGradient = true;
    }

    double step(double learningRate) {
        if (!hasGradient) {
            throw new IllegalStateException("step: there is no gradient; call gradient or imitate first");
        }
        workers.use();
        hasGradient = false;
        final double norm = shard == null ? step(weights.master, gradient, learningRate) : shardedStep(learningRate);
        if (Double.isNaN(norm)) {
            return norm;
        }
        weights.refresh();
        version = ++versions;
        return norm;
    }

    private double step(Tensor master, Tensor gradient, double learningRate) {
        return lossScale != null && !lossScale.unscale(gradient) ? Double.NaN : optimiser.step(master, gradient, learningRate);
    }

    /** Of this rank's part; the others step theirs. */
    private double shardedStep(double learningRate) {
        try (PointerScope scope = new PointerScope()) {
            final Tensor own = byLayer() ? gradient : shard.own(gradient);
            if (lossScale != null && !lossScale.unscale(own, shard::finite)) {
                return Double.NaN;
            }
            final boolean whole = weights.shard == null; // f32 weights, which are computed with, are there as a whole
            final double norm = optimiser.step(whole ? shard.own(weights.master) : weights.master, own, learningRate, shard::norm);
            if (whole) {
                shard.gather("weights", weights.master);
            }
            return norm;
        }
    }

    /** Forgets what the optimiser has gathered, and counts versions from 0 again. */
    void startOver() {
        optimiser.clear();
        if (lossScale != null) {
            lossScale.clear();
        }
        version = 0;
        versions = 0;
        hasGradient = false;
    }

    // ---- going back ----

    private static final class TorchSnapshot extends Anchor {
        final AdamW optimiser;
        final long version;
        private final long changes;
        private final long steps; // changes of the optimiser

        /** @param optimiser null where the snapshot is only measured from */
        TorchSnapshot(ForwardPass forward, TrainingState state, Weights weights, AdamW optimiser, long version) {
            super(forward, state, weights, UnaryOperator.identity());
            this.optimiser = optimiser;
            this.version = version;
            this.changes = state.weights.changes();
            this.steps = state.optimiser.changes();
        }

        @Override
        public void close() {
            super.close();
            weights.close();
            if (optimiser != null) {
                optimiser.close();
            }
        }
    }

    /**
     * {@return a copy, to take the exact KL from and to go back to} Copies of the same numbers are made once.
     *
     * @param forward that evaluates it
     * @param whole false for the parameters alone, which can be gone back to as long as the optimiser has not changed
     */
    Anchor snapshot(ForwardPass forward, boolean whole) {
        try {
            final Weights copy = latest != null && isAt(latest) && latest.weights.open() ? latest.weights.shared() : weights.copy(home);
            final AdamW moments = !whole ? null
                    : latest != null && latest.optimiser != null && latest.optimiser.isStill(optimiser) ? latest.optimiser.shared()
                    : optimiser.copy(home);
            latest = new TorchSnapshot(forward, this, copy, moments, version);
            return latest;
        } catch (RuntimeException e) {
            throw OutOfMemory.told(e, OutOfMemory.LEARNING);
        }
    }

    /** {@return whether these are still the weights that the snapshot was made of} */
    boolean isAt(Policy.Snapshot snapshot) {
        return snapshot instanceof TorchSnapshot s && s.isOf(this) && s.changes == weights.changes();
    }

    void restore(Policy.Snapshot snapshot) {
        final TorchSnapshot s = (TorchSnapshot) snapshot;
        if (s.optimiser == null && s.steps != optimiser.changes()) {
            throw new IllegalArgumentException("snapshot: expected one of snapshot(), given one of anchor(), which cannot be gone back to"
                    + " after a step");
        }
        weights.set(s.weights);
        if (s.optimiser != null) {
            optimiser.set(s.optimiser);
        }
        version = s.version;
        hasGradient = false;
    }

    void shorten(Policy.Snapshot snapshot, double share) {
        weights.shorten(((TorchSnapshot) snapshot).weights, share);
        version = ++versions;
    }

    void nudge(double size, long seed) {
        weights.nudge(size, seed);
        version = -1;
    }

    // ---- files ----

    long fingerprint() {
        final CRC32C castagnoli = new CRC32C();
        final CRC32 ieee = new CRC32();
        if (weights.shard != null) {
            weights.shard.stream("fingerprint", weights.master, numbers -> {
                final ByteBuffer bytes = ModelFiles.bytes(numbers);
                castagnoli.update(bytes.duplicate());
                ieee.update(bytes);
            });
            return castagnoli.getValue() << 32 | ieee.getValue();
        }
        try (PointerScope scope = new PointerScope()) {
            final Tensor data = weights.master;
            final long chunk = 64 << 20;
            for (long from = 0; from < data.numel(); from += chunk) {
                try (PointerScope part = new PointerScope()) {
                    final ByteBuffer bytes = ModelFiles.bytes(data.narrow(0, from, Math.min(chunk, data.numel() - from)).cpu());
                    castagnoli.update(bytes.duplicate());
                    ieee.update(bytes);
                }
            }
        }
        return castagnoli.getValue() << 32 | ieee.getValue();
    }

    /** The counters of versions: that of now, and how many were ever given out. */
    long[] counters() {
        return new long[] {version, versions};
    }

    /** Goes on from what {@link #counters} said when weights and moments were those that have just been read. */
    void loaded(long version, long versions) {
        this.version = version;
        this.versions = versions;
        hasGradient = false;
    }

    @Override
    public void close() {
        weights.close();
        if (base != null) {
            base.close();
        }
        optimiser.close();
        if (gradient != null) {
            gradient.close();
        }
        home.close();
        memory.closed(this);
    }
}
