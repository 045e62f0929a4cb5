package org.teamtr.kernels;

import org.teamtr.kernels.internal.global.teamtr;

/**
 * The layers of a decoder (RMS norm, grouped-query attention with rotary positions, SwiGLU) for a few rows of one new token each.
 * Matrices are {@link Logits} of [rows, columns]; vectors of a model's own format are matrices of one row. {@link #linear} is for the
 * CPU: a BLAS packs a weight before it multiplies, which for a few rows costs more than the multiplication; here a weight is read
 * where it lies. The others run where their memory is, on the CPU or a CUDA device.
 *
 * <p><b>Formats.</b> All matrices of a call have one dtype, f32, bf16 or f16. Sums are f32 and rounded once.
 *
 * <p><b>Bits.</b> A row's results depend on that row alone: not on its neighbours, its place, where its columns of the cache lie, or
 * threads; but the sums of {@link #linear} have one order up to 23 rows and another, faster for many, from 24 on. AVX-512 and AVX2 agree
 * to the bit, CUDA has bits of its own. NaN and infinity stay in their row.
 *
 * <p><b>Devices.</b> On CUDA a call is enqueued on the stream of its first argument, and sized by shapes alone: the contents of vectors
 * are read on the device, so that a call may be captured in a CUDA graph and computes, when that is launched again, with what they
 * are by then. The CUDA kernels have been tested on the host, and have not run on a GPU yet.
 *
 * <p><b>Threads.</b> Any number at once, on outputs and work memory of their own. Calls allocate nothing and own no memory.
 *
 * <p>Every method throws {@link IllegalArgumentException} if shapes or dtypes do not agree, an output overlaps an input, or memory is
 * not all of one device, and {@link IllegalStateException} if memory of an argument was closed or the kernels cannot be loaded.
 *
 * <pre>{@code
 * try (Floats work = Floats.allocate(Math.max(x.rows() * x.vocab(), Decoding.work(x.dtype(), x.rows(), x.vocab(), 0)))) {
 *     Decoding.rmsNorm(x, norm, 1e-6, x, work);                          // in place
 *     Decoding.linear(x, weight, null, null, null, 0, y, false, work); // y = x weight^T
 * }
 * }</pre>
 */
public final class Decoding {
    private Decoding() {
    }

    /** {@return how much work memory, in f32 numbers, {@link #linear} needs} */
    public static long work(DType dtype, long rows, long in, long rank) {
        return rows * (rank + (Check.given(dtype, "dtype") == DType.F32 ? 0 : in));
    }

    /**
     * y = x weightᵀ + bias + loraScale (x loraAᵀ) loraBᵀ
     *
     * @param x [rows, in]
     * @param weight [out, in], without gaps
     * @param bias [1, out], or null
     * @param loraA [rank, in], without gaps, or null for no adapter
     * @param loraB [out, rank], without gaps, or null for no adapter
     * @param loraScale what the adapter counts
     * @param y [rows, out], written; f32, or of the dtype of {@code x}
     * @param add whether {@code y}, of the dtype of {@code x}, is added to
     * @param work overwritten; at least {@link #work} numbers, or null where these are 0
     */
    public static void linear(Logits x, Logits weight, Logits bias, Logits loraA, Logits loraB, double loraScale, Logits y, boolean add,
            Floats work) {
        final DType dtype = Check.given(x, "x").dtype();
        final long out = whole(weight, "weight", dtype, -1, x.vocab()).rows();
        matrix(x, "x", dtype, x.rows(), x.vocab());
        matrix(y, "y", add || Check.given(y, "y").dtype() != DType.F32 ? dtype : DType.F32, x.rows(), out);
        if (bias != null) {
            whole(bias, "bias", dtype, 1, out);
        }
        if ((loraA == null) != (loraB == null)) {
            throw new IllegalArgumentException("loraA, loraB: expected both or neither, given one");
        }
        final long rank = loraA == null ? 0 : whole(loraA, "loraA", dtype, -1, x.vocab()).rows();
        if (loraA != null) {
            whole(loraB, "loraB", dtype, out, rank);
        }
        work(work, work(dtype, x.rows(), x.vocab(), rank));
        output(y, "y", x, "x", weight, "weight");
        output(y, "y", loraA, "loraA", loraB, "loraB");
        output(y, "y", bias, "bias", work, "work");
        output(work, "work", x, "x", weight, "weight");
        output(work, "work", loraA, "loraA", loraB, "loraB");
        output(work, "work", bias, "bias", null, null);
        Backend.current();
        final int status = teamtr.teamtr_linear(dtype.code, host(x, "x"), x.rows(), x.vocab(), x.rowStride(), host(weight, "weight"), out,
                host(bias, "bias"), host(loraA, "loraA"), host(loraB, "loraB"), rank, loraScale, host(y, "y"), y.dtype().code,
                y.rowStride(), add ? 1 : 0, host(work, "work"));
        Check.alive(x, weight, bias, y);
        Check.alive(loraA, loraB, work, null);
        Check.status(status);
    }

    /**
     * y = x / sqrt(mean(x²) + eps) weight, row by row
     *
     * @param x [rows, width]
     * @param weight [1, width]
     * @param eps added to the mean
     * @param y [rows, width], written; may be {@code x}
     * @param work overwritten; at least rows * width numbers on the CPU, not used on a device and may be null there
     */
    public static void rmsNorm(Logits x, Logits weight, double eps, Logits y, Floats work) {
        final DType dtype = Check.given(x, "x").dtype();
        matrix(x, "x", dtype, x.rows(), x.vocab());
        matrix(y, "y", dtype, x.rows(), x.vocab());
        whole(weight, "weight", dtype, 1, x.vocab());
        final Device device = x.device();
        work(work, device.isCuda() ? 0 : x.rows() * x.vocab());
        Check.apartOrSame(y, "y", x, "x");
        output(y, "y", weight, "weight", work, "work");
        output(work, "work", x, "x", weight, "weight");
        Backend.current();
        final int status = teamtr.teamtr_rms_norm(device.index(), device.stream(), dtype.code, Check.address(x, "x", device), x.rows(),
                x.vocab(), x.rowStride(), Check.address(weight, "weight", device), eps, Check.address(y, "y", device), y.rowStride(),
                Check.address(work, "work", device));
        Check.alive(x, weight, y, work);
        Check.status(status);
    }

    /**
     * y = silu(gate) up
     *
     * @param gateUp [rows, 2 width]: of each row the gate, then up
     * @param y [rows, width], written
     */
    public static void swiglu(Logits gateUp, Logits y) {
        final DType dtype = Check.given(gateUp, "gateUp").dtype();
        final long width = Check.given(y, "y").vocab();
        matrix(gateUp, "gateUp", dtype, y.rows(), 2 * width);
        matrix(y, "y", dtype, y.rows(), width);
        output(y, "y", gateUp, "gateUp", null, null);
        Backend.current();
        final Device device = gateUp.device();
        final int status = teamtr.teamtr_swiglu(device.index(), device.stream(), dtype.code, Check.address(gateUp, "gateUp", device), y.rows(),
                width, gateUp.rowStride(), Check.address(y, "y", device), y.rowStride());
        Check.alive(gateUp, y, null, null);
        Check.status(status);
    }

    /**
     * Attention of one new token of each row to the tokens of its row. Queries and keys are normed, where there are weights for it,
     * and rotated by their position p, t[j] cosine[p, j] + t[(j + headDim / 2) mod headDim] sine[p, j]; keys and values are written
     * to the column start + p of the cache, where start is the row's own; queries attend, with softmax(q k / √headDim), to the columns
     * from start to that one. One launch on CUDA, where a row whose position or start is out of range gets NaN, and nothing is written
     * to its cache.
     *
     * @param qkv [rows, (heads + 2 kvHeads) headDim]: of each row the queries, the keys, the values
     * @param qNorm [1, headDim], or null for none
     * @param kNorm [1, headDim], or null for none
     * @param eps of the norms
     * @param cosine [positions, headDim]
     * @param sine likewise, with the signs of the rotation
     * @param positions [rows] int64, of the new tokens
     * @param starts [rows] int64: the column of the row's first token, so that start + position is less than room
     * @param window how many columns are attended to at most, the new one among them; 0 for all
     * @param keys [rows, kvHeads, room, headDim] as a matrix of rows * kvHeads * room rows; one column of each row is written
     * @param values likewise
     * @param y [rows, heads headDim], written
     */
    public static void attend(Logits qkv, Logits qNorm, Logits kNorm, double eps, Floats cosine, Floats sine, Indices positions,
            Indices starts, long window, Logits keys, Logits values, Logits y) {
        final DType dtype = Check.given(qkv, "qkv").dtype();
        final long rows = qkv.rows();
        final long d = Check.given(keys, "keys").vocab();
        final long out = Check.given(y, "y").vocab();
        final long heads = out / d;
        final long kvHeads = (qkv.vocab() - out) / 2 / d;
        if (heads < 1 || kvHeads < 1 || heads * d != out || (heads + 2 * kvHeads) * d != qkv.vocab() || heads % kvHeads != 0) {
            throw new IllegalArgumentException("qkv, y: expected (heads + 2 kvHeads) * " + d + " and heads * " + d
                    + " columns, heads a multiple of kvHeads, given " + qkv.vocab() + " and " + out);
        }
        final long room = rows == 0 ? 1 : keys.rows() / rows / kvHeads;
        matrix(qkv, "qkv", dtype, rows, qkv.vocab());
        matrix(y, "y", dtype, rows, out);
        whole(keys, "keys", dtype, rows * kvHeads * room, d);
        whole(values, "values", dtype, keys.rows(), d);
        if (qNorm != null) {
            whole(qNorm, "qNorm", dtype, 1, d);
        }
        if (kNorm != null) {
            whole(kNorm, "kNorm", dtype, 1, d);
        }
        final long table = Check.given(cosine, "cosine").length();
        if (table % d != 0) {
            throw new IllegalArgumentException("cosine: expected a length that is a multiple of headDim = " + d + ", given " + table);
        }
        Check.length(Check.given(sine, "sine"), "sine", table, "that of cosine");
        Check.length(Check.given(positions, "positions"), "positions", rows, "the rows of qkv");
        Check.length(Check.given(starts, "starts"), "starts", rows, "the rows of qkv");
        longs(positions, "positions");
        longs(starts, "starts");
        Check.notNegative(window, "window");
        output(y, "y", keys, "keys", values, "values");
        output(keys, "keys", values, "values", null, null);
        apart(y, "y", qkv, qNorm, kNorm, cosine, sine, positions, starts);
        apart(keys, "keys", qkv, qNorm, kNorm, cosine, sine, positions, starts);
        apart(values, "values", qkv, qNorm, kNorm, cosine, sine, positions, starts);
        Backend.current();
        final Device device = qkv.device();
        final int status = teamtr.teamtr_attend(device.index(), device.stream(), dtype.code, Check.address(qkv, "qkv", device), rows,
                qkv.rowStride(), heads, kvHeads, d, Check.address(qNorm, "qNorm", device), Check.address(kNorm, "kNorm", device), eps,
                Check.address(cosine, "cosine", device), Check.address(sine, "sine", device), table / d,
                Check.address(positions, "positions", device), Check.address(starts, "starts", device), window,
                Check.address(keys, "keys", device), Check.address(values, "values", device), room, Check.address(y, "y", device),
                y.rowStride());
        Check.alive(qkv, qNorm, kNorm, y);
        Check.alive(cosine, sine, positions, starts);
        Check.alive(keys, values, null, null);
        Check.status(status);
    }

    private static void longs(Indices given, String name) {
        if (given.bytes() != Long.BYTES) {
            throw new IllegalArgumentException(name + ": expected int64, given int32");
        }
    }

    /** @param rows -1 for any number */
    private static Logits matrix(Logits given, String name, DType dtype, long rows, long columns) {
        Check.given(given, name);
        if (given.dtype() != dtype || rows >= 0 && given.rows() != rows || given.vocab() != columns) {
            throw new IllegalArgumentException(name + ": expected " + (rows < 0 ? "any" : rows) + " x " + columns + " " + dtype
                    + ", given " + given.shape());
        }
        if (given.rowsPerBatch() < given.rows()) {
            throw new IllegalArgumentException(name + ": expected rows at one stride, given " + given);
        }
        return given;
    }

    private static Logits whole(Logits given, String name, DType dtype, long rows, long columns) {
        matrix(given, name, dtype, rows, columns);
        if (given.rows() > 1 && given.rowStride() != columns) {
            throw new IllegalArgumentException(name + ": expected rows without gaps, given " + given);
        }
        return given;
    }

    private static void work(Floats work, long least) {
        if (least > 0 && (work == null || work.length() < least)) {
            throw new IllegalArgumentException("work: expected at least " + least + " numbers, given "
                    + (work == null ? "null" : work.length()));
        }
        Check.writable(work, "work");
    }

    private static void apart(NativeView output, String name, Logits qkv, Logits qNorm, Logits kNorm, Floats cosine, Floats sine,
            Indices positions, Indices starts) {
        output(output, name, qkv, "qkv", qNorm, "qNorm");
        output(output, name, kNorm, "kNorm", cosine, "cosine");
        output(output, name, sine, "sine", positions, "positions");
        output(output, name, starts, "starts", null, null);
    }

    private static void output(NativeView output, String name, NativeView a, String aName, NativeView b, String bName) {
        Check.writable(output, name);
        Check.apart(output, name, a, aName);
        Check.apart(output, name, b, bName);
    }

    private static long host(NativeView view, String name) {
        return Check.address(view, name, Device.CPU);
    }
}
