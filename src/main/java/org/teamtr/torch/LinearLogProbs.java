package org.teamtr.torch;

import java.util.Arrays;
import java.util.BitSet;
import java.util.List;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.BoolOptional;
import org.bytedeco.pytorch.Device;
import org.bytedeco.pytorch.DeviceOptional;
import org.bytedeco.pytorch.LayoutOptional;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.ScalarTypeOptional;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch.ScalarType;
import org.bytedeco.pytorch.global.torch;
import org.teamtr.kernels.Floats;
import org.teamtr.kernels.Indices;
import org.teamtr.kernels.KlStatistics;
import org.teamtr.kernels.LogProbs;
import org.teamtr.kernels.Logits;
import org.teamtr.kernels.PolicyLoss;
import org.teamtr.kernels.Temperature;
import org.teamtr.kernels.TokenKl;

/**
 * Per-token log-probs, entropies and exact KL from hidden states and a linear head, and their gradient. Logits are never held for more
 * than a chunk of rows:
 * <pre>
 *   logits  = hidden weightᵀ                                      [rows, vocab]
 *   logProb, lse, entropy                                         as {@link LogProbs} has them, with a KL as {@link TokenKl} has them
 *   kl      = KL(old || new), old logits = oldHidden oldWeightᵀ   as {@link TokenKl#oldNew}
 *   dHidden = dLogits weight,   dWeight += dLogitsᵀ hidden
 * </pre>
 * libtorch computes the logits of one chunk after the other in the same memory; the kernels read them there and overwrite them with
 * their gradient, from which both products of the gradient are computed before the next chunk.
 *
 * <p>One object is one such computation. If the gradients are known beforehand, {@link #backward(Tensor, Tensor, Tensor, Tensor, Tensor)
 * backward} computes all in one pass. If the gradient of a token depends only on the results of its own sequence, as with a ratio per
 * message, {@link #backward(long[], SequenceLoss, Tensor, Tensor, Tensor, Tensor, Tensor) backward with a SequenceLoss} does, too: it
 * processes as many sequences at a time as fit into a chunk; the logits of a longer sequence, except its last chunk's, are computed
 * twice. If a gradient depends on all results, call {@link #forward}, compute the loss, and call {@code backward}: all logits except the
 * last chunk's are computed twice.
 * <pre>{@code
 * try (LinearLogProbs rows = new LinearLogProbs(hidden, weight, null, null, vocab, targets, 0.8, LinearLogProbs.CHUNK_BYTES)) {
 *     rows.backward(cuSeqlens, (first, last) -> {
 *         // ... Surrogate.compute of these sequences, from their rows of rows.logProbs() to their rows of gradLogProbs
 *     }, gradLogProbs, null, null, dHidden, dWeight);
 * }
 * hidden.backward(dHidden, new BoolOptional(), false, new TensorArrayRefOptional()); // continues by autograd
 * }</pre>
 *
 * <p><b>Shapes and formats.</b> Hidden states and weights are f32, bf16 or f16, and dHidden has the same format. Logits are always
 * f32: the product's sums are never rounded to 16 bits. Results, per-token gradients and dWeight are f32. All are on one
 * device. Only the first {@code vocab} rows of the weight are used: no logits are computed for the padding of a model's head.
 *
 * <p><b>Memory</b> in addition to the arguments: one chunk of f32 logits, two with old hidden states; for bf16
 * and f16, 16 MB of weight converted to f32 on the CPU, and on CUDA half a chunk while dHidden is computed; 12 bytes per row, 24 with
 * old hidden states. A chunk has at least one row. libtorch's GEMM may pack operands into memory of its own, about a quarter more.
 *
 * <p><b>Bits.</b> The same calls give the same bits with the same number of threads. Results depend only on a row's logits. Whether the
 * logits depend on the chunk, that is, on {@code chunkBytes} and the row's position, depends on the GEMM: the order of
 * OpenBLAS's f32 sums, and so their last bits, depends on the number of rows and a row's position among them. dWeight is a sum over
 * rows, chunk by chunk.
 *
 * <p><b>Threads and ownership.</b> One call at a time on one object; objects are independent. An object shares the memory of its
 * arguments and keeps it alive; they must not be changed until its last call. The object owns its results; {@link #close()} frees
 * them and the chunks.
 */
public final class LinearLogProbs implements AutoCloseable {
    /** The default: small compared with a model, and so large that reading the head's weight for each chunk takes little of the time. */
    public static final long CHUNK_BYTES = 128L << 20;

    private final long rows;
    private final long vocab;
    private final long padded; // rows of the weight
    private final long chunkBytes;
    private final long chunkRows;
    private final Head now;
    private final Head old; // or null
    private final Tensor targets;
    private final Temperature temperature; // or null: one per row
    private final Tensor temperatures; // or null
    private final Tensor logProbs;
    private final Tensor lse;
    private final Tensor entropy;
    private final Tensor kl; // or null
    private final List<Tensor> klStatistics; // lseP, lseQ, logRatio; null without old hidden states
    /** Whether all results have been computed. */
    private boolean known;

    /** The logits of the first rows, kept for other objects with the same rows and weight, so that they are computed once. */
    static final class Kept implements AutoCloseable {
        private final Tensor logits;
        private final BitSet there = new BitSet();

        /** Allocates memory; no logits have been computed yet. */
        Kept(long rows, long vocab, Device device) {
            this.logits = Decoder.kept(Decoder.empty(new long[] {rows, vocab}, ScalarType.Float, device));
        }

        private boolean hasRoom(long from, long n) {
            return from + n <= logits.size(0);
        }

        @Override
        public void close() {
            logits.close();
        }
    }

    /** Hidden states, the head's weight, and memory with the logits of some rows. */
    private static final class Head implements AutoCloseable {
        final Tensor hidden;
        final Tensor weight;
        final Tensor memory;
        Kept kept; // or null
        private long held = -1; // the first of the rows whose logits are in memory; -1 for none
        private long rows; // how many these are

        Head(Tensor hidden, Tensor weight, long vocab, long chunkRows) {
            this.hidden = Decoder.kept(hidden.detach());
            this.weight = Decoder.kept(weight.detach().narrow(0, 0, vocab));
            this.memory = Decoder.kept(empty(hidden, ScalarType.Float, chunkRows, vocab));
        }

        /** {@return the logits of some rows, computed unless they are still there} */
        Tensor logits(long from, long n) {
            if (keeps(from, n)) {
                final Tensor logits = kept.logits.narrow(0, from, n);
                if (kept.there.nextClearBit((int) from) < from + n) {
                    HeadProduct.logits(logits, hidden.narrow(0, from, n), weight);
                    kept.there.set((int) from, (int) (from + n));
                }
                return logits;
            }
            final Tensor logits = memory.narrow(0, 0, n);
            if (held != from || rows != n) {
                held = -1;
                HeadProduct.logits(logits, hidden.narrow(0, from, n), weight);
                held = from;
                rows = n;
            }
            return logits;
        }

        /** {@return whether the logits of these rows are kept} */
        boolean keeps(long from, long n) {
            return kept != null && kept.hasRoom(from, n);
        }

        @Override
        public void close() {
            hidden.close();
            weight.close();
            memory.close();
        }
    }

    /**
     * At one temperature for all rows.
     *
     * @param hidden [rows, H], float32, bfloat16 or float16
     * @param weight [at least vocab, H], of the same dtype
     * @param oldHidden [rows, any width], the same rows under the policy from which the KL is measured, of the same dtype; null for
     *     no KL
     * @param oldWeight [at least vocab, that width], its head; null for no KL
     * @param vocab the number of columns of the logits that count, 1 or more
     * @param targets [rows], contiguous int32 or int64: 0 to vocab - 1, or {@link Indices#IGNORE}: results and gradient are 0
     * @param temperature more than 0 and finite
     * @param chunkBytes of one chunk of logits, more than 0; usually {@link #CHUNK_BYTES}
     * @throws IllegalArgumentException if shapes, dtypes or devices do not agree, one of {@code oldHidden} and {@code oldWeight}
     *     is missing, or a target, temperature or size is out of range
     */
    public LinearLogProbs(Tensor hidden, Tensor weight, Tensor oldHidden, Tensor oldWeight, long vocab, Tensor targets,
            double temperature, long chunkBytes) {
        this(hidden, weight, oldHidden, oldWeight, vocab, targets, temperature, null, chunkBytes, true);
    }

    /**
     * At a temperature for each row.
     *
     * @param temperatures [rows], contiguous float32, each more than 0 and finite
     * @throws IllegalArgumentException as the other constructor
     */
    public LinearLogProbs(Tensor hidden, Tensor weight, Tensor oldHidden, Tensor oldWeight, long vocab, Tensor targets,
            Tensor temperatures, long chunkBytes) {
        this(hidden, weight, oldHidden, oldWeight, vocab, targets, 1, given(temperatures, "temperatures"), chunkBytes, true);
    }

    /** {@return the same, at one temperature, without a check that targets are from 0 to vocab - 1, for which the host would wait for the device} */
    static LinearLogProbs ofTokens(Tensor hidden, Tensor weight, Tensor oldHidden, Tensor oldWeight, long vocab, Tensor targets,
            double temperature) {
        return new LinearLogProbs(hidden, weight, oldHidden, oldWeight, vocab, targets, temperature, null, CHUNK_BYTES, false);
    }

    private LinearLogProbs(Tensor hidden, Tensor weight, Tensor oldHidden, Tensor oldWeight, long vocab, Tensor targets,
            double temperature, Tensor temperatures, long chunkBytes, boolean checksTargets) {
        try (PointerScope scope = new PointerScope()) {
            checkMatrix(hidden, "hidden");
            this.rows = hidden.size(0);
            checkHead(weight, "weight", hidden, vocab);
            if ((oldHidden == null) != (oldWeight == null)) {
                throw new IllegalArgumentException("oldHidden, oldWeight: expected both or neither, given only "
                        + (oldHidden == null ? "oldWeight" : "oldHidden"));
            }
            if (oldHidden != null) {
                checkMatrix(oldHidden, "oldHidden");
                checkAs(oldHidden, "oldHidden", type(hidden), hidden, rows, oldHidden.size(1));
                checkHead(oldWeight, "oldWeight", oldHidden, vocab);
            }
            if (checksTargets) {
                checkTargets(targets, hidden, vocab);
            }
            if (temperatures != null) {
                checkTemperatures(temperatures, hidden);
            } else if (!((float) temperature > 0 && (float) temperature < Float.POSITIVE_INFINITY)) {
                throw new IllegalArgumentException("temperature: expected more than 0 and finite, given " + temperature);
            }
            if (chunkBytes < 1) {
                throw new IllegalArgumentException("chunkBytes: expected 1 or more, given " + chunkBytes);
            }
            this.vocab = vocab;
            this.padded = weight.size(0);
            this.chunkBytes = chunkBytes;
            this.chunkRows = Math.max(1, Math.min(rows, chunkBytes / (vocab * Float.BYTES)));
            this.targets = Decoder.kept(targets.detach());
            this.temperature = temperatures == null ? Temperature.of((float) temperature) : null;
            this.temperatures = temperatures == null ? null : Decoder.kept(temperatures.detach());
            this.logProbs = vector(hidden);
            this.entropy = vector(hidden);
            this.kl = oldHidden == null ? null : vector(hidden);
            this.klStatistics = oldHidden == null ? null : List.of(vector(hidden), vector(hidden), vector(hidden));
            this.lse = oldHidden == null ? vector(hidden) : klStatistics.get(1);
            this.now = new Head(hidden, weight, vocab, chunkRows);
            this.old = oldHidden == null ? null : new Head(oldHidden, oldWeight, vocab, chunkRows);
        }
    }

    private Tensor vector(Tensor like) {
        return Decoder.kept(empty(like, ScalarType.Float, rows));
    }

    private static Tensor empty(Tensor like, ScalarType dtype, long... shape) {
        return like.new_empty(shape, new ScalarTypeOptional(dtype), new LayoutOptional(), new DeviceOptional(like.device()),
                new BoolOptional());
    }

    /** Uses logits that are kept, and keeps those it computes. @param logits of the same rows, hidden states and weight; null for none */
    void keep(Kept logits) {
        now.kept = logits;
    }

    /** The same for the old logits. */
    void keepOld(Kept logits) {
        old.kept = logits;
    }

    // ---- results ----

    /** {@return [rows] f32, log-probs of the targets} This object owns its memory, as that of all results. */
    public Tensor logProbs() {
        return result(logProbs);
    }

    /** {@return [rows] f32, log-normalisers: log sum exp(logits / T)} */
    public Tensor lse() {
        return result(lse);
    }

    /** {@return [rows] f32, entropies in nats} */
    public Tensor entropy() {
        return result(entropy);
    }

    /** {@return [rows] f32, exact KL(old || new) in nats; null without old hidden states} */
    public Tensor kl() {
        return result(kl);
    }

    private Tensor result(Tensor result) {
        checkOpen();
        if (!known) {
            throw new IllegalStateException("there is no result yet: call forward or backward first");
        }
        return result;
    }

    // ---- passes ----

    /**
     * Computes the results.
     *
     * @throws IllegalStateException if this object was closed, or the kernels cannot be loaded
     */
    public void forward() {
        checkOpen();
        results(0, rows);
        known = true;
    }

    /**
     * Computes the results, in the same chunks as {@link #backward(long[], SequenceLoss, Tensor, Tensor, Tensor, Tensor, Tensor) backward with a
     * SequenceLoss}, and so to the same bits.
     *
     * @param cuSeqlens [sequences + 1], bounds of the sequences, ascending from 0 to the number of rows
     * @throws IllegalArgumentException if {@code cuSeqlens} does not ascend from 0 to the number of rows
     * @throws IllegalStateException if this object was closed, or the kernels cannot be loaded
     */
    public void forward(long[] cuSeqlens) {
        checkOpen();
        checkBounds(cuSeqlens);
        for (int first = 0; first < cuSeqlens.length - 1;) {
            final int last = together(cuSeqlens, first);
            results(cuSeqlens[first], cuSeqlens[last]);
            first = last;
        }
        known = true;
    }

    /** {@return the end of the longest range of sequences from {@code first} on that fits into a chunk; at least {@code first + 1}} */
    private int together(long[] cuSeqlens, int first) {
        int last = first + 1;
        while (last < cuSeqlens.length - 1 && cuSeqlens[last + 1] - cuSeqlens[first] <= chunkRows) {
            last++;
        }
        return last;
    }

    /**
     * Computes the gradient of a loss, from its gradients with respect to the results; and the results, if {@link #forward} has
     * not.
     *
     * @param gradLogProbs [rows], contiguous f32, or null for zeros
     * @param gradEntropy [rows], likewise
     * @param gradKl [rows], likewise; only with old hidden states, whose own gradient is not computed
     * @param dHidden written; contiguous, shape and dtype of {@code hidden}; or null
     * @param dWeight <b>added to</b>; contiguous f32, of the shape of {@code weight}, rows beyond vocab left as they are; or null
     *     where the head is frozen
     * @throws IllegalArgumentException if no gradient is given, or one of another shape, dtype or device, or an output shares
     *     memory with hidden states, weights, gradients or the other output
     * @throws IllegalStateException if this object was closed, or the kernels cannot be loaded
     */
    public void backward(Tensor gradLogProbs, Tensor gradEntropy, Tensor gradKl, Tensor dHidden, Tensor dWeight) {
        checkOpen();
        try (PointerScope scope = new PointerScope()) {
            checkGradients(gradLogProbs, gradEntropy, gradKl, dHidden, dWeight);
            gradient(0, rows, !known, gradLogProbs, gradEntropy, gradKl, dHidden, dWeight);
        }
        known = true;
    }

    /** A loss that is a sum over sequences, whose terms depend on whole sequences. */
    @FunctionalInterface
    public interface SequenceLoss {
        /**
         * Writes the gradients with respect to the results of some sequences into the tensors that {@code backward} was given, to the
         * rows from {@code cuSeqlens[first]} to {@code cuSeqlens[last]}. The results of these and of earlier rows have been computed.
         *
         * @param first the first of the sequences
         * @param last one more than the last of them
         */
        void gradients(int first, int last);
    }

    /**
     * Computes the results and the gradient of a loss in one pass, for some whole sequences at a time.
     *
     * @param cuSeqlens [sequences + 1], bounds of the sequences, ascending from 0 to the number of rows
     * @param loss is called once for each range of sequences, in ascending order, when their results have been computed; its exceptions
     *     are passed on
     * @param gradLogProbs this and the following parameters are those of the other {@code backward}, but {@code loss} writes the gradients
     * @throws IllegalArgumentException as the other {@code backward}, and if {@code cuSeqlens} does not ascend from 0 to the number of rows
     * @throws IllegalStateException as the other {@code backward}
     */
    public void backward(long[] cuSeqlens, SequenceLoss loss, Tensor gradLogProbs, Tensor gradEntropy, Tensor gradKl, Tensor dHidden,
            Tensor dWeight) {
        checkOpen();
        checkBounds(cuSeqlens);
        try (PointerScope scope = new PointerScope()) {
            checkGradients(gradLogProbs, gradEntropy, gradKl, dHidden, dWeight);
            known = true; // so that the loss can read the results; those of later rows are not computed yet
            for (int first = 0; first < cuSeqlens.length - 1;) {
                final int last = together(cuSeqlens, first);
                results(cuSeqlens[first], cuSeqlens[last]);
                loss.gradients(first, last);
                gradient(cuSeqlens[first], cuSeqlens[last], false, gradLogProbs, gradEntropy, gradKl, dHidden, dWeight);
                first = last;
            }
        } catch (RuntimeException | Error e) {
            known = false;
            throw e;
        }
    }

    private void results(long from, long to) {
        for (long at = from; at < to; at += chunkRows) {
            try (PointerScope scope = new PointerScope()) {
                final Rows chunk = new Rows(at, Math.min(chunkRows, to - at));
                chunk.results(now.logits(at, chunk.n));
            }
        }
    }

    /** @param results whether the results must be computed as well */
    private void gradient(long from, long to, boolean results, Tensor gradLogProbs, Tensor gradEntropy, Tensor gradKl, Tensor dHidden,
            Tensor dWeight) {
        final Tensor d = dHidden == null ? null : dHidden.detach();
        final WeightGradient weightGradient = dWeight == null ? null : new WeightGradient(dWeight.detach());
        // From the last chunk on, since its logits are still in memory.
        for (long at = to == from ? -1 : from + (to - from - 1) / chunkRows * chunkRows; at >= from; at -= chunkRows) {
            try (PointerScope inner = new PointerScope()) {
                final Rows chunk = new Rows(at, Math.min(chunkRows, to - at));
                final Tensor logits = now.logits(at, chunk.n);
                if (results) {
                    chunk.results(logits);
                }
                final Tensor dLogits = chunk.gradient(logits, gradLogProbs, gradEntropy, gradKl);
                if (weightGradient != null) {
                    weightGradient.add(dLogits, now.hidden.narrow(0, at, chunk.n));
                }
                if (d != null) {
                    HeadProduct.gradient(d.narrow(0, at, chunk.n), dLogits, now.weight);
                }
            }
        }
    }

    /** The rows of one chunk, as views for the kernels. */
    private final class Rows {
        final long from;
        final long n;
        private final Indices target;
        private final Temperature t;

        Rows(long from, long n) {
            this.from = from;
            this.n = n;
            this.target = TensorViews.indices(targets.narrow(0, from, n));
            this.t = temperature != null ? temperature : Temperature.perRow(of(temperatures));
        }

        private Floats of(Tensor vector) {
            return vector == null ? null : TensorViews.floats(vector.narrow(0, from, n));
        }

        /** The KL's statistics, from which its gradient is computed. */
        private KlStatistics statistics() {
            return new KlStatistics(of(klStatistics.get(0)), of(klStatistics.get(1)), of(klStatistics.get(2)));
        }

        void results(Tensor logits) {
            final Logits view = TensorViews.logits(logits);
            if (old == null) {
                LogProbs.forward(view, target, t, of(logProbs), of(lse), of(entropy));
            } else {
                TokenKl.oldNew(TensorViews.logits(old.logits(from, n)), view, target, t, of(kl), null, of(logProbs), null, of(entropy),
                        statistics());
            }
        }

        /** {@return the gradient with respect to the logits}, which overwrites them unless they are kept. */
        Tensor gradient(Tensor logits, Tensor gradLogProbs, Tensor gradEntropy, Tensor gradKl) {
            final Logits view = TensorViews.logits(logits);
            now.held = -1;
            final Tensor dLogits = now.keeps(from, n) ? now.memory.narrow(0, 0, n) : logits;
            final Logits out = dLogits == logits ? view : TensorViews.logits(dLogits);
            if (gradKl == null) {
                LogProbs.backward(view, target, t, of(logProbs), of(lse), of(entropy), of(gradLogProbs), of(gradEntropy), out);
            } else {
                PolicyLoss.backward(view, TensorViews.logits(old.logits(from, n)), target, t, of(logProbs), of(entropy), statistics(),
                        of(gradLogProbs), of(gradEntropy), of(gradKl), out);
            }
            return dLogits;
        }
    }

    /** dWeight += dLogitsᵀ hidden, summed in f32, for a range of the vocabulary at a time. */
    private final class WeightGradient {
        private final Tensor sum;
        private final long most; // elements of dLogits at a time: a quarter of a chunk

        WeightGradient(Tensor sum) {
            this.sum = sum;
            this.most = Math.max(chunkRows, Math.min(chunkRows * vocab, chunkBytes / 4 / Float.BYTES));
        }

        /** Adds a chunk's product. The GEMM copies its operands into packed memory, whose size the ranges bound. */
        void add(Tensor dLogits, Tensor hidden) {
            final long n = dLogits.size(0);
            final Tensor wide = hidden.to(ScalarType.Float);
            final long columns = most / n;
            for (long v = 0; v < vocab; v += columns) {
                try (PointerScope scope = new PointerScope()) {
                    final long m = Math.min(columns, vocab - v);
                    sum.narrow(0, v, m).addmm_(dLogits.narrow(1, v, m).t(), wide);
                }
            }
        }
    }

    // ---- checks ----

    private void checkOpen() {
        if (logProbs.isNull()) {
            throw new IllegalStateException("linearLogProbs: closed");
        }
    }

    private static Tensor given(Tensor tensor, String name) {
        if (tensor == null || tensor.isNull() || !tensor.defined()) {
            throw new IllegalArgumentException(name + ": expected a tensor, given "
                    + (tensor == null ? "null" : tensor.isNull() ? "one that was closed" : "an undefined one"));
        }
        if (tensor.layout().intern() != torch.Layout.Strided) {
            throw new IllegalArgumentException(name + ": expected a strided tensor, given " + describe(tensor));
        }
        return tensor;
    }

    private static ScalarType type(Tensor tensor) {
        return tensor.scalar_type().intern();
    }

    private static void checkMatrix(Tensor tensor, String name) {
        final ScalarType type = type(given(tensor, name));
        if (tensor.dim() != 2 || type != ScalarType.Float && type != ScalarType.BFloat16 && type != ScalarType.Half) {
            throw new IllegalArgumentException(name + ": expected 2 dimensions of float32, bfloat16 or float16, given "
                    + describe(tensor));
        }
    }

    private static void checkHead(Tensor weight, String name, Tensor hidden, long vocab) {
        checkMatrix(weight, name);
        checkAs(weight, name, type(hidden), hidden, weight.size(0), hidden.size(1));
        if (vocab < 1 || vocab > weight.size(0)) {
            throw new IllegalArgumentException("vocab: expected 1 to " + weight.size(0) + ", the rows of " + name + ", given "
                    + vocab);
        }
    }

    /** Checks shape, dtype, and that the device is that of the hidden states. */
    private static void checkAs(Tensor tensor, String name, ScalarType dtype, Tensor hidden, long... shape) {
        given(tensor, name);
        boolean same = type(tensor) == dtype && tensor.dim() == shape.length && tensor.device().equals(hidden.device());
        for (int d = 0; same && d < shape.length; d++) {
            same = tensor.size(d) == shape[d];
        }
        if (!same) {
            throw new IllegalArgumentException(name + ": expected " + dtype + " " + Arrays.toString(shape) + " on "
                    + hidden.device().str().getString() + ", as hidden is, given " + describe(tensor) + " on "
                    + tensor.device().str().getString());
        }
    }

    private static void checkContiguous(Tensor tensor, String name) {
        if (!tensor.is_contiguous()) {
            throw new IllegalArgumentException(name + ": expected a contiguous tensor, given " + describe(tensor));
        }
    }

    /** Checked here rather than by the kernels, whose message would have the row's number in its chunk. */
    private static void checkTargets(Tensor targets, Tensor hidden, long vocab) {
        given(targets, "targets");
        checkAs(targets, "targets", type(targets) == ScalarType.Int ? ScalarType.Int : ScalarType.Long, hidden, hidden.size(0));
        checkContiguous(targets, "targets");
        final Tensor right = targets.ge(new Scalar(0)).logical_and(targets.lt(new Scalar(vocab)))
                .logical_or(targets.eq(new Scalar(Indices.IGNORE)));
        final long wrong = firstFalse(right);
        if (wrong >= 0) {
            throw new IllegalArgumentException("targets[" + wrong + "]: expected 0 to " + (vocab - 1) + ", or " + Indices.IGNORE
                    + " for a row to ignore, given " + (long) HostCopies.number(targets.select(0, wrong)));
        }
    }

    private static void checkTemperatures(Tensor temperatures, Tensor hidden) {
        checkAs(temperatures, "temperatures", ScalarType.Float, hidden, hidden.size(0));
        checkContiguous(temperatures, "temperatures");
        final long wrong = firstFalse(temperatures.gt(new Scalar(0))
                .logical_and(temperatures.lt(new Scalar(Double.POSITIVE_INFINITY))));
        if (wrong >= 0) {
            throw new IllegalArgumentException("temperatures[" + wrong + "]: expected more than 0 and finite, given "
                    + (float) HostCopies.number(temperatures.select(0, wrong)));
        }
    }

    /** {@return the index of the first false element; -1 if there is none} */
    private static long firstFalse(Tensor right) {
        return HostCopies.number(right.all()) != 0 ? -1 : (long) HostCopies.number(right.logical_not().nonzero().min());
    }

    private void checkBounds(long[] cuSeqlens) {
        boolean right = cuSeqlens.length > 0 && cuSeqlens[0] == 0 && cuSeqlens[cuSeqlens.length - 1] == rows;
        for (int s = 1; right && s < cuSeqlens.length; s++) {
            right = cuSeqlens[s] >= cuSeqlens[s - 1];
        }
        if (!right) {
            throw new IllegalArgumentException("cuSeqlens: expected bounds from 0, rising, to the " + rows + " rows, given "
                    + (cuSeqlens.length <= 20 ? Arrays.toString(cuSeqlens) : cuSeqlens.length + " bounds from " + cuSeqlens[0] + " to "
                            + cuSeqlens[cuSeqlens.length - 1]));
        }
    }

    private void checkGradients(Tensor gradLogProbs, Tensor gradEntropy, Tensor gradKl, Tensor dHidden, Tensor dWeight) {
        if (gradLogProbs == null && gradEntropy == null && gradKl == null) {
            throw new IllegalArgumentException("gradLogProbs, gradEntropy, gradKl: expected at least one, given null for all");
        }
        if (gradKl != null && old == null) {
            throw new IllegalArgumentException("gradKl: expected null, since there are no old hidden states, given a tensor");
        }
        checkGradient(gradLogProbs, "gradLogProbs", dHidden, dWeight);
        checkGradient(gradEntropy, "gradEntropy", dHidden, dWeight);
        checkGradient(gradKl, "gradKl", dHidden, dWeight);
        checkOutput(dHidden, "dHidden", type(now.hidden), rows);
        checkOutput(dWeight, "dWeight", ScalarType.Float, padded);
        apart(dHidden, "dHidden", dWeight, "dWeight");
    }

    private void checkGradient(Tensor gradient, String name, Tensor dHidden, Tensor dWeight) {
        if (gradient != null) {
            checkAs(gradient, name, ScalarType.Float, now.hidden, rows);
            checkContiguous(gradient, name);
            apart(dHidden, "dHidden", gradient, name);
            apart(dWeight, "dWeight", gradient, name);
        }
    }

    private void checkOutput(Tensor output, String name, ScalarType dtype, long size) {
        if (output != null) {
            checkAs(output, name, dtype, now.hidden, size, now.hidden.size(1));
            checkContiguous(output, name);
            for (Head head : new Head[] {now, old}) {
                if (head != null) {
                    apart(output, name, head.hidden, head == now ? "hidden" : "oldHidden");
                    apart(output, name, head.weight, head == now ? "weight" : "oldWeight");
                }
            }
        }
    }

    private static void apart(Tensor output, String name, Tensor other, String otherName) {
        if (output == null || other == null || output.numel() == 0 || other.numel() == 0) {
            return;
        }
        final long from = output.data_ptr().address();
        final long begin = other.data_ptr().address();
        if (from < begin + bytes(other) && begin < from + bytes(output)) {
            throw new IllegalArgumentException(name + ": expected memory apart from " + otherName + ", given an overlap");
        }
    }

    /** {@return the number of bytes from the first element to the end of the last} */
    private static long bytes(Tensor tensor) {
        long last = 0;
        for (int d = 0; d < tensor.dim(); d++) {
            last += (tensor.size(d) - 1) * tensor.stride(d);
        }
        return (last + 1) * tensor.element_size();
    }

    private static String describe(Tensor tensor) {
        final long[] shape = new long[(int) tensor.dim()];
        Arrays.setAll(shape, tensor::size);
        return type(tensor) + " " + Arrays.toString(shape);
    }

    /** Frees results and chunks. */
    @Override
    public void close() {
        for (Tensor tensor : new Tensor[] {targets, temperatures, logProbs, lse, entropy, kl}) {
            if (tensor != null) {
                tensor.close();
            }
        }
        now.close();
        if (old != null) {
            klStatistics.forEach(Tensor::close);
            old.close();
        }
    }
}
