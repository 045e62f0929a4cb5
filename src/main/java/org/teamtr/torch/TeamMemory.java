package org.teamtr.torch;

import java.io.IOException;
import java.util.Collections;
import java.util.HashMap;
import java.util.IdentityHashMap;
import java.util.Map;
import java.util.Set;
import org.teamtr.train.Sharding;

/**
 * What the policies of a team share, so that a team fits where one policy does:
 * <ul>
 * <li>Only the policy that learns has a gradient. On a CUDA device, with {@code offload}, it alone has its f32 weights and
 * its optimiser's moments there, too; those of the others are in the host's memory, as are the copies that an update may go back to.
 * They change places when another policy learns, and make room while messages are generated.
 * <li>Policies with adapters over the same frozen weights have these once.
 * </ul>
 * None of it changes a number. Copies between host and device are made one after the other on the current stream; those out of
 * page-locked memory ({@code pinned}) are not waited for, see {@link Home}.
 *
 * <p>For policies of which one learns at a time, as the trainer uses them. It holds nothing that closing the policies does
 * not free.
 */
public final class TeamMemory {
    private final boolean offload;
    private final boolean pinned;
    /** Bytes of the old policy's logits that are kept during an update, of a policy on the CPU. */
    final long keptLogits;
    /** The processes that train the team together; null where that is one. */
    final TorchRanks ranks;
    /** What of a policy that learns each rank has a part of alone. */
    final Sharding sharding;
    private final Map<String, Weights> frozen = new HashMap<>();
    /** One, unless another has a gradient that waits. */
    private final Set<TrainingState> learning = Collections.newSetFromMap(new IdentityHashMap<>());

    /** @param offload whether what a policy does not need at the moment leaves a CUDA device */
    public TeamMemory(boolean offload) {
        this(offload, false, 0, null, Sharding.NONE);
    }

    /**
     * @param offload as above
     * @param pinned whether the host memory that holds what leaves the device is page-locked; without effect where nothing leaves it
     * @param keptLogits bytes of host memory in which a policy on the CPU may keep the logits of the old policy during an update, so that they
     *     are not multiplied again; 0 for none. It changes no number
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

    /** {@return this process's part of a flat vector that this stage divides, or null where it has the whole} */
    Shard shard(long length, Sharding stage) {
        return sharding.divides(stage) ? new Shard(ranks, length) : null;
    }

    /** Makes weights. */
    interface Maker {
        Weights make() throws IOException;
    }

    /** {@return frozen weights, those of an earlier call with the same key} To be closed by every caller. */
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

    /** Gives a policy the room that one has, whoever had it before. */
    synchronized void learns(TrainingState policy) {
        if (learning.contains(policy)) {
            return;
        }
        rest();
        learning.add(policy);
        policy.arrive();
    }

    /** Frees the room; a policy with a gradient that waits for its step keeps its own. */
    synchronized void rest() {
        learning.removeIf(TrainingState::depart);
    }

    synchronized void closed(TrainingState policy) {
        learning.remove(policy);
    }
}
