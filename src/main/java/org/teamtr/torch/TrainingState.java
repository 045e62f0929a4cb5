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
 * The state of a policy: frozen and trained weights, AdamW's moments, the gradient, the loss scale of f16, and the version counter.
 * Makes and restores snapshots of it, and moves it between device and host.
 */
final class TrainingState implements AutoCloseable {
    /** Frozen weights below the adapters; null if all weights are trained. */
    final Weights base;
    /** The trained weights. */
    final Weights weights;
    final AdamW optimiser;
    /** The part of the optimiser's state, and of the f32 weights of 16-bit ones, that this rank has; null for all. */
    final Shard shard;
    /** For f16; null for other formats. */
    final LossScale lossScale;
    /** Null while the policy does not learn; where gradients are divided, this rank's part. */
    Tensor gradient;
    private boolean hasGradient;
    private long version;
    private long versions; // number of versions so far
    private final TeamMemory memory;
    private final Workers workers;
    private final Device device;
    /** Where snapshots are kept, and the f32 weights and optimiser's moments while the policy does not learn. */
    private final Placement atRest;
    /** The latest one, whose copies the next shares as long as nothing has changed; null before the first. */
    private TorchSnapshot latest;

    /**
     * Makes a state whose weights are zeros.
     *
     * @param trained the places of the trained tensors
     * @param device the device that the policy computes on; the caller owns the object
     * @param base frozen weights below adapters, which the state then owns; null to make them, if there are adapters
     */
    TrainingState(ModelConfig config, TorchPolicy.Settings settings, Layout trained, Device device, TeamMemory memory, Workers workers,
            Weights base) {
        this.memory = memory;
        this.workers = workers;
        this.device = device;
        final boolean offload = memory.offload() && device.is_cuda();
        this.atRest = new Placement(Decoder.kept(offload ? new Device("cpu") : device(settings)), offload && memory.pinned());
        this.lossScale = settings.dtype() == DType.F16 ? new LossScale() : null;
        this.base = settings.lora().rank() == 0 ? null : base != null ? base : frozen(config, settings, memory);
        this.shard = memory.shard(trained.length(), Sharding.STATE);
        this.weights = new Weights(trained, settings.scalarType(), device, atRest, true, shard, memory.sharding.divides(Sharding.WEIGHTS));
        this.optimiser = new AdamW(settings.adamW(), shard == null ? trained.length() : shard.length, atRest);
    }

    /** {@return the device with its index, as the devices of tensors have it} */
    static Device device(TorchPolicy.Settings settings) {
        return new Device(settings.device().equals("cuda") ? "cuda:0" : settings.device());
    }

    static Weights frozen(ModelConfig config, TorchPolicy.Settings settings, TeamMemory memory) {
        try (Device device = device(settings)) {
            final Layout layout = Layout.of(config);
            return new Weights(layout, settings.scalarType(), device, new Placement(device), false, memory.shard(layout.length(), Sharding.WEIGHTS),
                    memory.sharding.divides(Sharding.WEIGHTS));
        }
    }

    long version() {
        return version;
    }

    // ---- the weights that the decoder computes with ----

    /** {@return the trained weights, and the frozen ones if there are any} */
    Map<String, Tensor> all() {
        return all(weights.compute());
    }

    /** {@return these trained weights, and the frozen ones if there are any} */
    Map<String, Tensor> all(Map<String, Tensor> trained) {
        return over(base == null ? null : base.compute(), trained);
    }

    /** {@return the weights for computing in a precision} */
    Map<String, Tensor> all(Weights trained, Policy.Precision precision) {
        return precision == Policy.Precision.SAME ? all(trained.compute())
                : over(base == null ? null : base.masters(), trained.masters());
    }

    /** {@return the tensors whose names begin with a prefix} All ranks must call it at the same time; see {@link Weights#unit}. */
    Map<String, Tensor> unit(Weights trained, Policy.Precision precision, String prefix) {
        final boolean unrounded = precision != Policy.Precision.SAME;
        return over(base == null ? null : base.unit(prefix, unrounded), trained.unit(prefix, unrounded));
    }

    /** {@return whether the weights are divided among ranks, so that all ranks compute layer by layer} */
    boolean divided() {
        return weights.divided;
    }

    /** {@return whether gradients are divided among ranks, so that they are computed layer by layer} */
    boolean byLayer() {
        return memory.sharding.divides(Sharding.GRADIENTS);
    }

    /** Gathers divided weights, for generating; every rank must call it. */
    void ready() {
        if (divided()) {
            rest();
            weights.gather();
            if (base != null) {
                base.gather();
            }
        }
    }

    /** Frees the other ranks' parts of divided weights, before learning or scoring. */
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
        return new LazyTensors(name -> {
            final Tensor own = trained.get(name);
            return own != null ? own : frozen.get(name);
        });
    }

    // ---- gradient and step ----

    /** Moves to the device what learning needs. */
    void arrive() {
        if (divided()) { // then a step copies its vectors to the device a piece at a time
            divide();
        } else {
            weights.moveMaster(device);
            optimiser.move(device);
        }
        gradient = Weights.zeros(byLayer() ? shard.length : weights.layout.length(), device);
    }

    /** Moves it back, unless there is a gradient and no step has been done with it. {@return whether it was moved} */
    boolean depart() {
        if (hasGradient) {
            return false;
        }
        gradient.close();
        gradient = null;
        optimiser.move(atRest);
        weights.moveMaster(atRest);
        return true;
    }

    /** Frees the memory that learning needs, before generating. */
    void rest() {
        memory.rest();
    }

    /** Allocates the gradient and sets it to zero. */
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

    /** Sums the gradient of some tensors over all ranks, into the part of the gradient that each rank has. Every rank must call it. */
    void addGradients(Layout.Unit unit, Tensor sum) {
        shard.addSum("gradient", sum, unit.from(), gradient);
    }

    /** Called when all micro-batches of this rank have been added: adds the gradients of other ranks. */
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

    /** Does a step of this rank's part; the other ranks do theirs. */
    private double shardedStep(double learningRate) {
        try (PointerScope scope = new PointerScope()) {
            final Tensor own = byLayer() ? gradient : shard.own(gradient);
            if (lossScale != null && !lossScale.unscale(own, shard::finite)) {
                return Double.NaN;
            }
            final boolean whole = weights.shard == null; // f32 weights, which the decoder computes with, are not divided
            final double norm = optimiser.step(whole ? shard.own(weights.master) : weights.master, own, learningRate, shard::norm);
            if (whole) {
                shard.gather("weights", weights.master);
            }
            return norm;
        }
    }

    /** Resets the optimiser's state, and counts versions from 0 again. */
    void startOver() {
        optimiser.clear();
        if (lossScale != null) {
            lossScale.clear();
        }
        version = 0;
        versions = 0;
        hasGradient = false;
    }

    // ---- snapshots ----

    private static final class TorchSnapshot extends Anchor {
        final AdamW optimiser;
        final long version;
        private final long changes;
        private final long steps; // changes of the optimiser

        /** @param optimiser null if the snapshot serves only as an anchor */
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
     * {@return a copy, from which the exact KL can be measured and to which the policy can be restored} Copies of the same numbers are made once.
     *
     * @param forward evaluates it
     * @param whole false for the parameters alone, to which the policy can be restored as long as the optimiser has not changed
     */
    Anchor snapshot(ForwardPass forward, boolean whole) {
        try {
            final Weights copy = latest != null && isAt(latest) && latest.weights.open() ? latest.weights.shared() : weights.copy(atRest);
            final AdamW moments = !whole ? null
                    : latest != null && latest.optimiser != null && latest.optimiser.isStill(optimiser) ? latest.optimiser.shared()
                    : optimiser.copy(atRest);
            latest = new TorchSnapshot(forward, this, copy, moments, version);
            return latest;
        } catch (RuntimeException e) {
            throw OutOfMemory.told(e, OutOfMemory.LEARNING);
        }
    }

    /** {@return whether the weights have not changed since the snapshot} */
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
        return checksum(weights.shard, weights.master);
    }

    /** @param shard this rank's part; null where {@code data} is the whole vector. Otherwise all ranks must make the same call */
    private static long checksum(Shard shard, Tensor data) {
        final CRC32C castagnoli = new CRC32C();
        final CRC32 ieee = new CRC32();
        final Shard.Numbers<RuntimeException> update = numbers -> {
            final ByteBuffer bytes = ModelFiles.bytes(numbers);
            castagnoli.update(bytes.duplicate());
            ieee.update(bytes);
        };
        if (shard != null) {
            shard.stream("fingerprint", data, update);
        } else {
            final long chunk = 64 << 20;
            for (long from = 0; from < data.numel(); from += chunk) {
                try (PointerScope part = new PointerScope()) {
                    update.accept(data.narrow(0, from, Math.min(chunk, data.numel() - from)).cpu());
                }
            }
        }
        return castagnoli.getValue() << 32 | ieee.getValue();
    }

    /** {@return a checksum, by name, of what checkpoints of adapters do not hold: the frozen weights in their dtype; empty without adapters} */
    Map<String, String> frozenChecksum() {
        if (base == null) {
            return Map.of();
        }
        if (base.checksum == null) { // once: they never change
            base.checksum = checksum(base.shard, base.stored());
        }
        return Map.of("frozen weights in " + base.dtype, Long.toHexString(base.checksum));
    }

    /** {@return the current version, and the number of versions so far} */
    long[] counters() {
        return new long[] {version, versions};
    }

    /** Sets the counters to those of the checkpoint that has been read; see {@link #counters}. */
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
        atRest.close();
        memory.closed(this);
    }
}
