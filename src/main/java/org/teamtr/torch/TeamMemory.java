package org.teamtr.torch;

import java.io.IOException;
import java.util.Collections;
import java.util.HashMap;
import java.util.IdentityHashMap;
import java.util.Map;
import java.util.Set;
import org.teamtr.train.Sharding;

/**
 * Memory that the policies of a team share, so that a team fits where one policy does:
 * <ul>
 * <li>Only the policy that learns has a gradient. On a CUDA device, with {@code offload}, only its f32 weights and
 * its optimiser's moments are on the device; those of the other policies are in host memory, as are snapshots. They are exchanged when
 * another policy learns, and leave the device while messages are generated.
 * <li>Policies with adapters over the same frozen weights share these.
 * </ul>
 * Results are the same as without. Copies between host and device are made one after the other on the current stream; nothing waits for
 * those from page-locked memory ({@code pinned}), see {@link Placement}.
 *
 * <p>For policies of which one learns at a time, as the trainer uses them. Closing the policies frees everything.
 */
public final class TeamMemory {
    private final boolean offload;
    private final boolean pinned;
    /** The most bytes of the old policy's logits that a policy on the CPU keeps during an update. */
    final long keptLogits;
    /** The processes that train the team together; null for one process. */
    final TorchRanks ranks;
    /** What of a learning policy is divided among the ranks. */
    final Sharding sharding;
    private final Map<String, Weights> frozen = new HashMap<>();
    /** The policy that learns; more than one if others have a gradient and have not stepped yet. */
    private final Set<TrainingState> learning = Collections.newSetFromMap(new IdentityHashMap<>());

    /** @param offload whether what a policy does not need at the moment is moved from a CUDA device to host memory */
    public TeamMemory(boolean offload) {
        this(offload, false, 0, null, Sharding.NONE);
    }

    /**
     * @param offload as above
     * @param pinned whether that host memory is page-locked; without effect if nothing is moved there
     * @param keptLogits bytes of host memory in which a policy on the CPU may keep the logits of the old policy during an update, so that they
     *     are not computed again; 0 for none. Results are the same
     * @param ranks among which scoring and gradients of the policies are divided; null for one process
     * @param sharding what else is divided among them
     */
    public TeamMemory(boolean offload, boolean pinned, long keptLogits, TorchRanks ranks, Sharding sharding) {
        this.offload = offload;
        this.pinned = pinned;
        this.keptLogits = keptLogits;
        this.ranks = ranks;
        this.sharding = ranks == null ? Sharding.NONE : sharding;
    }

    /** {@return this process's part of a flat vector that this stage divides; null if it is not divided} */
    Shard shard(long length, Sharding stage) {
        return sharding.divides(stage) ? new Shard(ranks, length) : null;
    }

    /** Makes weights. */
    interface Maker {
        Weights make() throws IOException;
    }

    /** {@return frozen weights; the same for calls with the same key} Every caller must close them. */
    Weights frozen(String key, Maker maker) throws IOException {
        final Weights known = frozen.get(key);
        if (known != null && known.open()) {
            return known.shared();
        }
        final Weights made = maker.make();
        frozen.put(key, made);
        return made;
    }

    boolean offload() {
        return offload;
    }

    boolean pinned() {
        return pinned;
    }

    /** Makes a policy the one that learns; the one before it leaves the device. */
    synchronized void learns(TrainingState policy) {
        if (learning.contains(policy)) {
            return;
        }
        rest();
        learning.add(policy);
        policy.arrive();
    }

    /** Frees the memory of the policy that learns, unless it has a gradient and has not stepped yet. */
    synchronized void rest() {
        learning.removeIf(TrainingState::depart);
    }

    synchronized void closed(TrainingState policy) {
        learning.remove(policy);
    }
}
