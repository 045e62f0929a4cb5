package org.teamtr.kernels;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.BitSet;
import java.util.List;
import java.util.SplittableRandom;
import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.javacpp.Pointer;
import org.teamtr.kernels.SurrogateConfig.AdvantagePer;
import org.teamtr.kernels.SurrogateConfig.Aggregation;
import org.teamtr.kernels.SurrogateConfig.KlTerm;
import org.teamtr.kernels.SurrogateConfig.Ratio;

/**
 * Arguments for {@link FuzzTest}: views into one arena, right ones, until {@link #hit} says that this one shall be wrong. What is
 * wrong is noted in words, and whether a call with it may not be accepted.
 */
abstract class FuzzArguments {
    static final int SIZE = 1 << 20;
    /** Bytes behind the last argument that are compared as well. */
    static final int BEYOND = 512;
    static final byte SENTINEL = (byte) 0xa5;
    static final long[] WRONG_SIZES = {0, 1, -1, -100, 1L << 31, 1L << 32, 1L << 61, 1L << 62, Long.MAX_VALUE, Long.MIN_VALUE};
    static final long[] WRONG_IDS = {-1, -99, -101, Integer.MAX_VALUE, Integer.MIN_VALUE, Long.MAX_VALUE, Long.MIN_VALUE, 1L << 32};
    static final double[] WRONG_NUMBERS = {Double.NaN, -1, Double.NEGATIVE_INFINITY, -1e300, -Double.MIN_VALUE};
    static final float[] SPECIAL = {Float.NaN, Float.POSITIVE_INFINITY, Float.NEGATIVE_INFINITY, 3e38f, -3e38f, 1e-42f, -0f};

    final ByteBuffer arena = ByteBuffer.allocateDirect(SIZE).order(ByteOrder.nativeOrder());
    final long address = new Pointer(arena).address();
    final byte[] sentinels = new byte[SIZE];

    // ---- of the call in hand ----

    record Use(String name, NativeView view, boolean output) {
    }

    SplittableRandom random;
    int used;
    int wrongLeft;
    boolean mustBeRefused;
    boolean wrongInside;
    String what;
    final List<Use> uses = new ArrayList<>();

    FuzzArguments() {
        Arrays.fill(sentinels, SENTINEL);
    }

    /** A new call: all that the one before used is sentinels again. */
    final void start(long seed) {
        random = new SplittableRandom(seed);
        arena.put(0, sentinels, 0, used + BEYOND);
        used = 0;
        wrongLeft = new int[] {0, 0, 1, 1, 1, 2, 2, 3}[random.nextInt(8)];
        mustBeRefused = false;
        wrongInside = false;
        what = "";
        uses.clear();
    }

    byte[] bytes() {
        final byte[] bytes = new byte[used + BEYOND];
        arena.get(0, bytes);
        return bytes;
    }

    static boolean inPlace(Use output, Use other) {
        return output.view instanceof Logits gradient && other.view instanceof Logits logits && gradient.sameLayout(logits);
    }

    /** The bytes of a view's own elements, as places in the arena. */
    BitSet elements(NativeView view) {
        final BitSet set = new BitSet();
        final int at = (int) (view.start - address);
        if (at < 0 || at >= SIZE || view.extent == 0) {
            return set; // memory of its own
        }
        if (view instanceof Logits m) {
            for (long r = 0; r < m.rows(); r++) {
                final int row = at + (int) ((r / m.rowsPerBatch() * m.batchStride()
                        + r % m.rowsPerBatch() * m.rowStride()) * m.dtype().bytes());
                set.set(row, row + (int) m.vocab() * m.dtype().bytes());
            }
        } else {
            set.set(at, at + (int) view.extent);
        }
        return set;
    }

    // ---- making things wrong ----

    boolean hit(String name) {
        if (wrongLeft == 0 || random.nextInt(5) != 0) {
            return false;
        }
        wrongLeft--;
        what += " " + name;
        return true;
    }

    <T> T note(String detail, T value) {
        what += "(" + detail + ")";
        return value;
    }

    /** What must hold in a call that is accepted. */
    void require(boolean holds) {
        mustBeRefused |= !holds;
    }

    /** The same of the contents of a vector, which an argument laid over it may have overwritten. */
    void requireInside(boolean holds) {
        wrongInside |= !holds;
    }

    long wrongSize(long right) {
        final int k = random.nextInt(WRONG_SIZES.length + 2);
        final long size = k < WRONG_SIZES.length ? WRONG_SIZES[k] : k == WRONG_SIZES.length ? right + 1 : right - 1;
        return note("size " + size, size);
    }

    boolean chance(double p) {
        return random.nextDouble() < p;
    }

    // ---- memory and views in it ----

    int region(int bytes, int align) {
        final int at = (used + 32 + random.nextInt(16) * align) / align * align;
        used = at + bytes + 32;
        return at;
    }

    /** Where another argument is, shifted a little; or a place of its own. */
    int over(int bytes, int align) {
        if (uses.isEmpty()) {
            return region(bytes, align);
        }
        final long start = uses.get(random.nextInt(uses.size())).view.start - address;
        final int at = (int) Math.max(0, Math.min(start, used) / align * align + random.nextInt(3) * align);
        used = Math.max(used, at + bytes + 32);
        return note("overlap", at);
    }

    <V extends NativeView> V use(String name, V view, boolean output) {
        uses.add(new Use(name, view, output));
        return view;
    }

    /** The owner of a closed view: a Pointer that is closed as soon as the view is made. */
    <V extends NativeView> V closed(BytePointer owner, V view) {
        owner.close();
        require(false);
        return note("closed", view);
    }

    Logits logits(String name, long rows, long vocab, DType dtype, boolean output, boolean needed) {
        final boolean blocks = rows > 1 && rows % 2 == 0 && chance(0.4);
        long batch = blocks ? 2 : 1;
        long length = rows / batch;
        long rowStride = vocab + (chance(0.4) ? random.nextInt(5) : 0);
        long batchStride = (length + (chance(0.5) ? 1 : 0)) * rowStride;
        DType type = dtype;
        final int bytes = (int) (batch * batchStride * dtype.bytes());
        int at = -1;
        long capacity = bytes;
        boolean readOnly = false;
        boolean close = false;
        if (hit(name)) {
            switch (random.nextInt(10)) {
                case 0 -> {
                    require(!needed);
                    return note("null", null);
                }
                case 1 -> close = true;
                case 2 -> length = wrongSize(length);
                case 3 -> vocab = wrongSize(vocab);
                case 4 -> type = note("dtype", DType.values()[random.nextInt(3)]);
                case 5 -> rowStride = wrongSize(rowStride);
                case 6 -> batchStride = wrongSize(batchStride);
                case 7 -> capacity = note("short", Math.max(0, capacity - 1 - random.nextInt(8)));
                case 8 -> at = over(bytes, dtype.bytes());
                default -> readOnly = note("read-only", true);
            }
        }
        at = at < 0 ? region(bytes, dtype.bytes()) : at;
        for (int i = at; i + dtype.bytes() <= at + bytes; i += dtype.bytes()) {
            putElement(i, dtype, (float) (4 * random.nextDouble() - 2));
        }
        if (bytes > 0 && chance(0.06)) {
            for (int k = 0; k < 3; k++) {
                putElement(at + random.nextInt(bytes / dtype.bytes()) * dtype.bytes(), dtype,
                        SPECIAL[random.nextInt(SPECIAL.length)]);
            }
        }
        final Logits view;
        if (close) {
            final BytePointer owner = new BytePointer(1);
            view = closed(owner, Logits.ofAddress(address + at, capacity, type, batch, length, vocab, batchStride, rowStride,
                    owner));
        } else if (readOnly || chance(0.3)) {
            final ByteBuffer part = arena.slice(at, (int) capacity);
            view = Logits.ofBatch((readOnly ? part.asReadOnlyBuffer() : part).order(ByteOrder.nativeOrder()), type, batch,
                    length, vocab, batchStride, rowStride);
            require(!readOnly || !output);
        } else {
            view = Logits.ofAddress(address + at, capacity, type, batch, length, vocab, batchStride, rowStride, arena);
        }
        final long all = view.rows();
        return use(name, all > 0 && hit(name + ".rows") ? view.rows(random.nextInt(3) - 1L, all - random.nextInt(3) + 1) : view,
                output);
    }

    void putElement(int at, DType dtype, float x) {
        final int bits = Float.floatToRawIntBits(x);
        switch (dtype) {
            case F32 -> arena.putInt(at, bits);
            case BF16 -> arena.putShort(at, (short) (bits >> 16));
            case F16 -> {
                final int sign = bits >> 16 & 0x8000;
                final int size = Math.max(0, Math.min(30, Math.getExponent(x) + 15)) << 10 | bits >> 13 & 0x3ff;
                arena.putShort(at, (short) (Float.isNaN(x) ? 0x7e00 : sign | (Float.isInfinite(x) ? 0x7c00 : size)));
            }
        }
    }

    Floats floats(String name, long length, boolean output, boolean needed, double low, double high) {
        final int bytes = (int) (4 * length);
        int at = -1;
        long size = length;
        int kind = 0;
        if (hit(name)) {
            switch (random.nextInt(6)) {
                case 0 -> {
                    require(!needed);
                    return note("null", null);
                }
                case 1 -> kind = 1;
                case 2 -> size = wrongSize(size);
                case 3 -> at = over(bytes, 4);
                case 4 -> kind = note("read-only", 2);
                default -> kind = 3;
            }
        }
        at = at < 0 ? region(bytes, 4) : at;
        for (int i = 0; i < length; i++) {
            arena.putFloat(at + 4 * i, (float) (low + (high - low) * random.nextDouble()));
        }
        if (kind == 3 && length > 0) {
            arena.putFloat(at + 4 * random.nextInt((int) length), note("value", SPECIAL[random.nextInt(SPECIAL.length)]));
        }
        if (kind == 1) {
            final BytePointer owner = new BytePointer(1);
            return use(name, closed(owner, Floats.ofAddress(address + at, bytes, size, owner)), output);
        }
        if (kind == 2) {
            require(!output);
            return use(name, Floats.of(arena.slice(at, bytes).asReadOnlyBuffer().order(ByteOrder.nativeOrder()).asFloatBuffer()),
                    output);
        }
        return use(name, Floats.ofAddress(address + at, bytes, size, arena), output);
    }

    /** @param bound of the values; for targets, of which some are IGNORE */
    Indices ids(String name, long length, int width, long bound, boolean output, boolean needed, boolean checked) {
        final int bytes = (int) (width * length);
        int at = -1;
        long size = length;
        int kind = 0;
        if (hit(name)) {
            switch (random.nextInt(6)) {
                case 0 -> {
                    require(!needed);
                    return note("null", null);
                }
                case 1 -> kind = 1;
                case 2 -> size = wrongSize(size);
                case 3 -> at = over(bytes, width);
                case 4 -> kind = note("read-only", 2);
                default -> kind = 3;
            }
        }
        at = at < 0 ? region(bytes, width) : at;
        for (int i = 0; i < length; i++) {
            put(at, width, i, chance(0.1) ? Indices.IGNORE : random.nextLong(bound));
        }
        if (kind == 3 && length > 0) {
            final long bad = chance(0.5) ? bound : WRONG_IDS[random.nextInt(WRONG_IDS.length)];
            put(at, width, random.nextInt((int) length), bad);
            what += "(id " + bad + ")";
            // One past the vocabulary is in it if that has grown meanwhile; int32 vectors hold what is left of the larger ones.
            requireInside(!checked || bad == bound && what.contains("size") || width == 4 && bad != (int) bad);
        }
        return vector(name, at, bytes, width, size, kind, output);
    }

    void put(int at, int width, int i, long value) {
        if (width == 4) {
            arena.putInt(at + 4 * i, (int) value);
        } else {
            arena.putLong(at + 8 * i, value);
        }
    }

    Indices vector(String name, int at, int bytes, int width, long size, int kind, boolean output) {
        if (kind == 1) {
            final BytePointer owner = new BytePointer(1);
            return use(name, closed(owner, Indices.ofAddress(address + at, bytes, width, size, owner)), output);
        }
        if (kind == 2) {
            require(!output);
            final ByteBuffer part = arena.slice(at, bytes).asReadOnlyBuffer().order(ByteOrder.nativeOrder());
            return use(name, width == 4 ? Indices.of(part.asIntBuffer()) : Indices.of(part.asLongBuffer()), output);
        }
        return use(name, Indices.ofAddress(address + at, bytes, width, size, arena), output);
    }

    Indices targets(long rows, long vocab, boolean needed, boolean checked) {
        return ids("targets", rows, width(), vocab, false, needed, checked);
    }

    int width() {
        return chance(0.5) ? 4 : 8;
    }

    Indices bounds(int tokens, int messages, boolean needed) {
        final long[] cu = new long[messages + 1];
        for (int m = 1; m < messages; m++) {
            cu[m] = random.nextInt(tokens + 1);
        }
        cu[messages] = messages == 0 ? 0 : tokens;
        Arrays.sort(cu);
        final int width = width();
        final int at = region(width * cu.length, width);
        int kind = 0;
        long size = cu.length;
        if (hit("cuSeqlens")) {
            switch (random.nextInt(5)) {
                case 0 -> {
                    require(!needed);
                    return note("null", null);
                }
                case 1 -> kind = 1;
                case 2 -> size = wrongSize(size);
                default -> {
                    final int m = random.nextInt(cu.length);
                    cu[m] = WRONG_IDS[random.nextInt(WRONG_IDS.length)];
                    requireInside(!needed || width == 4 && cu[m] != (int) cu[m]);
                    what += "(bound " + cu[m] + ")";
                }
            }
        }
        for (int m = 0; m < cu.length; m++) {
            put(at, width, m, cu[m]);
        }
        return vector("cuSeqlens", at, width * cu.length, width, size, kind, false);
    }

    Mask mask(long tokens) {
        if (chance(0.5)) {
            return null;
        }
        final int at = region((int) tokens, 1);
        for (int i = 0; i < tokens; i++) {
            arena.put(at + i, (byte) random.nextInt(3));
        }
        if (hit("mask")) {
            final BytePointer owner = new BytePointer(1);
            return chance(0.3) ? use("mask", closed(owner, Mask.ofAddress(address + at, tokens, tokens, owner)), false)
                    : use("mask", Mask.ofAddress(address + at, tokens, wrongSize(tokens), arena), false);
        }
        return use("mask", Mask.ofAddress(address + at, tokens, tokens, arena), false);
    }

    Temperature temperature(long rows, boolean greedy) {
        if (hit("temperature")) {
            final float bad = note("bad", chance(0.3) ? 0 : (float) WRONG_NUMBERS[random.nextInt(WRONG_NUMBERS.length)]);
            if (chance(0.3)) {
                require(false);
                return null;
            }
            if (rows == 0 || chance(0.4)) {
                require(greedy && bad == 0);
                return Temperature.of(bad);
            }
            final Floats vector = floats("temperature", rows, false, true, 0.5, 2);
            if (vector != null && vector.length() == rows) {
                requireInside(greedy && bad == 0);
                arena.putFloat((int) (vector.start - address) + 4 * random.nextInt((int) rows), bad);
            }
            return Temperature.perRow(vector);
        }
        if (chance(0.3)) {
            return Temperature.perRow(floats("temperature", rows, false, true, 0.3, 3));
        }
        return greedy && chance(0.2) ? Temperature.GREEDY : Temperature.of(new float[] {1, 0.5f, 2, 1e-3f, 100}[random.nextInt(5)]);
    }

    SurrogateConfig config() {
        final double inf = Double.POSITIVE_INFINITY;
        final double[] x = {random.nextDouble(), random.nextDouble() * 2, chance(0.5) ? inf : 1.5, random.nextDouble(),
            random.nextDouble() - 0.5, 7};
        long[] totals = {0, 0};
        if (hit("config")) {
            final int k = random.nextInt(8);
            if (k < 6) {
                x[k] = note("number " + k, k == 4 ? inf : WRONG_NUMBERS[random.nextInt(WRONG_NUMBERS.length)]);
            } else {
                totals[k - 6] = wrongSize(3);
            }
        }
        return new SurrogateConfig(any(Ratio.values()), chance(0.2) ? inf : x[0], x[1], x[2], any(KlTerm.values()), x[3],
                any(Aggregation.values()), chance(0.5) && x[4] != inf ? 0 : x[4], any(Aggregation.values()), x[5], totals[0],
                totals[1], any(AdvantagePer.values()));
    }

    <T> T any(T[] values) {
        return values[random.nextInt(values.length)];
    }

    Floats maybe(String name, long length, boolean output) {
        return chance(0.3) ? null : floats(name, length, output, false, -3, 0);
    }

    /** In place, or apart. */
    Logits gradient(String name, Logits logits, int rows, int vocab, DType dtype) {
        return logits != null && chance(0.4) ? use(name, logits, true) : logits(name, rows, vocab, dtype, true, true);
    }
}
