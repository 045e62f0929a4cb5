package org.teamtr.distributed;

import java.nio.ByteBuffer;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import java.util.stream.IntStream;

/**
 * The processes that train one team together, seen from one of them. Every rank calls the same methods in the same order; a call
 * returns when all ranks have made it. One thread at a time.
 *
 * <p>Results are the same on all ranks, to the bit, and so are decisions that depend on them alone.
 */
public interface Ranks extends AutoCloseable {
    /** A single process, which exchanges nothing. */
    Ranks ONE = new Ranks() {
    };

    /** What ranks have exchanged since they connected. */
    record Traffic(double seconds, long bytes, long calls) {
        /** {@return what has been exchanged since an earlier moment} */
        public Traffic since(Traffic then) {
            return new Traffic(seconds - then.seconds, bytes - then.bytes, calls - then.calls);
        }
    }

    /** {@return this rank's number, from 0 on} */
    default int rank() {
        return 0;
    }

    /** {@return the number of ranks} */
    default int size() {
        return 1;
    }

    /** {@return a rank as messages name it: its number, its machine and process} */
    default String name(int rank) {
        return "rank " + rank;
    }

    /**
     * Adds up vectors over the ranks, element by element, in place.
     *
     * @param what they are, for messages
     * @param vectors of the same lengths on all ranks
     */
    default void sum(String what, float[]... vectors) {
    }

    /** The same of f64. */
    default void sum(String what, double[] vector) {
    }

    /** {@return each rank's bytes, by rank} Their lengths may differ; none may be 2 GB or more. */
    default List<byte[]> gather(String what, byte[] own) {
        return List.of(own);
    }

    /** {@return rank 0's bytes} Those of other ranks are ignored. */
    default byte[] broadcast(String what, byte[] own) {
        return size() == 1 ? own : gather(what, rank() == 0 ? own : new byte[0]).get(0);
    }

    /** Waits for all ranks. */
    default void barrier(String what) {
        if (size() > 1) {
            gather(what, new byte[0]);
        }
    }

    /**
     * Checks that a number is the same on all ranks.
     *
     * @throws RanksException if it is not, with the ranks that have another one than most of the others, or than rank 0
     */
    default void agree(String what, long number) {
        if (size() == 1) {
            return;
        }
        final List<Long> all = gather(what, ByteBuffer.allocate(Long.BYTES).putLong(number).array()).stream()
                .map(b -> ByteBuffer.wrap(b).getLong()).toList();
        final Map<Long, Integer> votes = new HashMap<>();
        all.forEach(n -> votes.merge(n, 1, Integer::sum));
        if (votes.size() == 1) {
            return;
        }
        final long usual = all.stream().max((a, b) -> votes.get(a) - votes.get(b)).orElseThrow();
        final long expected = votes.get(all.get(0)).equals(votes.get(usual)) ? all.get(0) : usual;
        throw new RanksException(what + ": " + IntStream.range(0, all.size()).filter(r -> all.get(r) != expected).mapToObj(this::name)
                .collect(Collectors.joining(" and ")) + " computed other numbers than "
                + (IntStream.range(0, all.size()).filter(r -> all.get(r) == expected).count() == 1 ? name(all.indexOf(expected)) : "the other ranks")
                + " (checksum " + IntStream.range(0, all.size()).filter(r -> all.get(r) != expected)
                        .mapToObj(r -> Long.toHexString(all.get(r))).collect(Collectors.joining(", "))
                + ", expected " + Long.toHexString(expected)
                + "). All ranks need the same model files, the same kind of processor or GPU and the same hardware.threads");
    }

    /** {@return what this rank has exchanged with the others} Its seconds include those that it waited for them. */
    default Traffic traffic() {
        return new Traffic(0, 0, 0);
    }

    /** {@return which of n things are this rank's, in ascending order}: by the order given, every {@link #size}-th of it. */
    default int[] share(int[] order) {
        final int[] mine = IntStream.range(0, order.length).filter(i -> i % size() == rank()).map(i -> order[i]).toArray();
        Arrays.sort(mine);
        return mine;
    }

    /** Leaves the group, once all other ranks are ready to. */
    @Override
    default void close() {
    }
}
