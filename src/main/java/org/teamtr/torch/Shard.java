package org.teamtr.torch;

import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Device;
import org.bytedeco.pytorch.NoGradGuard;
import org.bytedeco.pytorch.Tensor;

/**
 * The part of a flat vector that one rank keeps (ZeRO: Rajbhandari et al., 2020). Rank r has the s elements from r s on; the
 * last ranks may have fewer. Exchanges are done in pieces, so that they need little memory.
 */
final class Shard {
    /** Shards begin at multiples of this, since {@link Weights#nudge} draws so many random bits at a time. */
    private static final long ALIGNED = Long.SIZE;
    /** The most elements of each rank that are exchanged at once. */
    private final long piece;

    private final TorchRanks ranks;
    private final long whole;
    private final long each;
    /** Beginning and length of this rank's part. */
    final long from;
    final long length;

    /** @param whole length of the vector */
    Shard(TorchRanks ranks, long whole) {
        this(ranks, whole, 8L << 20);
    }

    Shard(TorchRanks ranks, long whole, long piece) {
        this.ranks = ranks;
        this.whole = whole;
        this.piece = piece;
        this.each = length(whole, ranks.size());
        this.from = start(ranks.rank());
        this.length = start(ranks.rank() + 1) - from;
    }

    /** {@return the length of the longest part} */
    static long length(long whole, int ranks) {
        return (whole + ranks * ALIGNED - 1) / (ranks * ALIGNED) * ALIGNED;
    }

    private long start(int rank) {
        return Math.min(whole, rank * each);
    }

    /** {@return this rank's part of a whole vector, a view} */
    Tensor own(Tensor vector) {
        return vector.narrow(0, from, length);
    }

    /** Receives the next elements of a vector. */
    interface Numbers<E extends Exception> {
        void accept(Tensor numbers) throws E;
    }

    /** Processes a piece: the elements of every rank's part from {@code within} on, at most n of each. */
    private interface Piece {
        void at(long within, long n);
    }

    private void pieces(Piece todo) {
        for (long within = 0; within < each; within += piece) {
            try (NoGradGuard guard = new NoGradGuard(); PointerScope scope = new PointerScope()) {
                todo.at(within, Math.min(piece, each - within));
            }
        }
    }

    /** Copies between a whole vector and a buffer with n elements of each rank's part, from {@code within} on. */
    private void copy(Tensor vector, Tensor buffer, long within, long n, boolean out) {
        for (int r = 0; r < ranks.size(); r++) {
            final long at = start(r) + within;
            final long there = Math.min(n, start(r + 1) - at);
            if (there > 0) {
                final Tensor here = vector.narrow(0, at, there);
                final Tensor piece = buffer.narrow(0, r * n, there);
                if (out) {
                    here.copy_(piece);
                } else {
                    piece.copy_(here);
                }
            }
        }
    }

    /** Sends every rank's own part of a vector to all ranks. */
    void gather(String what, Tensor vector) {
        pieces((within, n) -> {
            final Tensor mine = buffer(n, vector);
            final long there = Math.min(n, length - within);
            if (there > 0) {
                mine.narrow(0, 0, there).copy_(vector.narrow(0, from + within, there));
            }
            final Tensor all = buffer(n * ranks.size(), vector);
            ranks.allGather(what, all, mine);
            copy(vector, all, within, n, true);
        });
    }

    /** Sums this rank's part of a vector over the ranks. The other parts of the vector are undefined afterwards. */
    void sum(String what, Tensor vector) {
        pieces((within, n) -> {
            final Tensor all = buffer(n * ranks.size(), vector).zero_();
            copy(vector, all, within, n, false);
            final Tensor mine = buffer(n, vector);
            ranks.reduceScatter(what, mine, all);
            final long there = Math.min(n, length - within);
            if (there > 0) {
                vector.narrow(0, from + within, there).copy_(mine.narrow(0, 0, there));
            }
        });
    }

    /** Processes n elements from the index {@code at} on, which one rank owns. */
    private interface Owned<E extends Exception> {
        void of(int rank, long at, long n) throws E;
    }

    /** Processes a range of the vector in order, in pieces that belong to one rank each. */
    private <E extends Exception> void owners(long first, long last, Owned<E> todo) throws E {
        for (long at = first; at < last;) {
            final int rank = (int) (at / each);
            final long n = Math.min(piece, Math.min(last, start(rank + 1)) - at);
            try (NoGradGuard guard = new NoGradGuard(); PointerScope scope = new PointerScope()) {
                todo.of(rank, at, n);
            }
            at += n;
        }
    }

    /**
     * Reads a vector of which every rank has its part, from beginning to end.
     *
     * @param own this rank's part
     * @param then is called with the next elements, on the CPU; on every rank
     */
    <E extends Exception> void stream(String what, Tensor own, Numbers<E> then) throws E {
        stream(what, own, 0, whole, then);
    }

    /** The same for a range of the vector. */
    <E extends Exception> void stream(String what, Tensor own, long first, long last, Numbers<E> then) throws E {
        try (Device cpu = new Device("cpu")) {
            owners(first, last, (rank, at, n) -> {
                final Tensor numbers = Decoder.empty(new long[] {n}, own.scalar_type().intern(), cpu);
                if (rank == ranks.rank()) {
                    numbers.copy_(own.narrow(0, at - from, n));
                }
                ranks.broadcast(what, numbers, rank);
                then.accept(numbers);
            });
        }
    }

    /**
     * Gathers a range of a vector, whose parts the ranks hold, on every rank.
     *
     * @param own part, on any device
     * @return [last - first] on a device, owned by the caller's PointerScope
     */
    Tensor gathered(String what, Tensor own, long first, long last, Device device) {
        final Tensor range = Decoder.empty(new long[] {last - first}, own.scalar_type().intern(), device);
        owners(first, last, (rank, at, n) -> {
            final Tensor numbers = range.narrow(0, at - first, n);
            if (rank == ranks.rank()) {
                numbers.copy_(own.narrow(0, at - from, n));
            }
            ranks.broadcast(what, numbers, rank);
        });
        return range;
    }

    /** Sums a range over the ranks, and adds the sum to the parts of the vector that the ranks hold. Overwrites the range. */
    void addSum(String what, Tensor range, long first, Tensor own) {
        owners(first, first + range.numel(), (rank, at, n) -> {
            final Tensor numbers = range.narrow(0, at - first, n);
            ranks.reduce(what, numbers, rank);
            if (rank == ranks.rank()) {
                own.narrow(0, at - from, n).add_(numbers);
            }
        });
    }

    /** {@return the root of the sum of squares over the ranks} */
    double norm(double own) {
        final double[] square = {own * own};
        ranks.sum("norm of the gradient", square);
        return Math.sqrt(square[0]);
    }

    /** {@return a number that is finite if the numbers of all ranks are} */
    double finite(double own) {
        final double[] wrong = {Double.isFinite(own) ? 0 : 1};
        ranks.sum("overflow of the gradient", wrong);
        return wrong[0] == 0 ? own : Double.POSITIVE_INFINITY;
    }

    private static Tensor buffer(long n, Tensor like) {
        try (Device device = like.device()) {
            return Decoder.empty(new long[] {n}, like.scalar_type().intern(), device);
        }
    }
}
