package org.teamtr.kernels;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import org.bytedeco.javacpp.Pointer;
import org.bytedeco.javacpp.ShortPointer;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.teamtr.kernels.TestData.Forward;
import org.teamtr.kernels.TestData.Matrix;

/** Trap 1: offsets that do not fit 32 bits. */
class LargeTest extends TestData.Scoped {
    private static final int VOCAB = 1000;
    private static final int QWEN = 151_936;
    private static final int ROWS = 14_150;

    /**
     * Four bf16 rows so far apart that the last starts beyond element 2^31 (byte 2^32) or element 2^32. The memory between them is
     * never touched, so the system never provides it: calloc takes whole pages of zeros from it, and makes them real when written.
     *
     * <p>A 32-bit element offset would be negative, and a 32-bit byte offset would land on other rows' numbers.
     */
    @ParameterizedTest(name = "{0} batches, row stride {1}, batch stride {2}")
    @CsvSource({
        "1, 715827883, 0", // 3 rows on: 2^31 + 1 elements
        "2, 3000, 2147483651", // a batch on: 2^31 + 3 elements
        "2, 1073741824, 2200000000", // both: 3.3e9 elements
        "1, 1500000001, 0", // 3 rows on: 4.5e9 elements, beyond 2^32
    })
    void trap01_rowOffsetsOf64Bits(int batch, long rowStride, long batchStride) {
        final int length = 4 / batch;
        final long elements = (batch - 1) * batchStride + (length - 1) * rowStride + VOCAB;
        final Pointer x = Pointer.calloc(elements, 2);
        final Pointer y = Pointer.calloc(elements, 2);
        try {
            assumeTrue(x != null && !x.isNull() && y != null && !y.isNull(), "no address space for " + 4 * elements + " bytes");
            final Matrix old = TestData.matrix(DType.BF16, 4, VOCAB);
            final Matrix fresh = TestData.matrix(DType.BF16, 4, VOCAB);
            for (int r = 0; r < 4; r++) {
                old.setRow(r, TestData.gaussian(r, VOCAB, 2));
                fresh.setRow(r, TestData.gaussian(10 + r, VOCAB, 2));
                final long at = r / length * batchStride + r % length * rowStride;
                copy(old, r, x, at);
                copy(fresh, r, y, at);
            }
            final Logits far = view(x, elements, batch, length, batchStride, rowStride);
            final Logits alsoFar = view(y, elements, batch, length, batchStride, rowStride);
            compare(old, fresh, far, alsoFar);
        } finally {
            Pointer.free(x);
            Pointer.free(y);
        }
    }

    private static Logits view(Pointer memory, long elements, int batch, int length, long batchStride, long rowStride) {
        return Logits.ofAddress(memory.address(), 2 * elements, DType.BF16, batch, length, VOCAB, batchStride, rowStride, null);
    }

    private static void copy(Matrix from, int row, Pointer to, long element) {
        final ShortPointer target = new ShortPointer(new Memory.Raw(to.address() + 2 * element, VOCAB));
        for (int v = 0; v < VOCAB; v++) {
            target.put(v, (short) from.bits(row, v));
        }
    }

    /** Everything on the rows that lie far apart as on the same rows side by side. Gradients go in place: to old, then to new. */
    private static void compare(Matrix old, Matrix fresh, Logits far, Logits alsoFar) {
        final Indices targets = Indices.ofInts(1, 200, 999, 0);
        final Forward near = Forward.of(fresh.logits, targets, Temperature.ONE);
        final Forward given = Forward.of(alsoFar, targets, Temperature.ONE);
        assertArrayEquals(near.logProbs(), given.logProbs());
        assertArrayEquals(near.entropy(), given.entropy());
        final Floats kl = Floats.allocate(4);
        TokenKl.oldNew(old.logits, fresh.logits, kl);
        final float[] expected = kl.toArray();
        TokenKl.oldNew(far, alsoFar, kl);
        assertArrayEquals(expected, kl.toArray());
        assertEquals(Reference.kl(old.softmax(3, 1), fresh.softmax(3, 1)), expected[3], 1e-5);

        final Floats g = Floats.ofFloats(1, 2, 3, 4);
        final Matrix d = old.like();
        TokenKl.oldNewBackward(old.logits, fresh.logits, null, Temperature.ONE, g, d.logits);
        TokenKl.oldNewBackward(far, alsoFar, null, Temperature.ONE, g, far);
        assertSame(d, far);
        final Floats logProbs = Floats.ofFloats(near.logProbs());
        final Floats lse = Floats.ofFloats(near.lse());
        final Floats entropy = Floats.ofFloats(near.entropy());
        LogProbs.backward(fresh.logits, targets, Temperature.ONE, logProbs, lse, entropy, g, g, d.logits);
        LogProbs.backward(alsoFar, targets, Temperature.ONE, logProbs, lse, entropy, g, g, alsoFar);
        assertSame(d, alsoFar);
    }

    private static void assertSame(Matrix expected, Logits given) {
        for (int r = 0; r < 4; r++) {
            final long row = r / given.rowsPerBatch() * given.batchStride() + r % given.rowsPerBatch() * given.rowStride();
            final ShortPointer bits = new ShortPointer(new Memory.Raw(given.address() + 2 * row, VOCAB));
            for (int v = 0; v < VOCAB; v++) {
                assertEquals(expected.bits(r, v), bits.get(v) & 0xffff);
            }
        }
    }

    /** 14,150 full rows of Qwen3's vocabulary: 2.15e9 elements, 4.3 GB, all of them read and all overwritten. */
    @Test
    @Tag("large")
    void trap01_moreThan2To31ElementsAllOfThemUsed() {
        final Pointer memory = Pointer.malloc(2L * ROWS * QWEN); // JavaCPP's own allocations end at the size of the Java heap
        try {
            assumeTrue(memory != null && !memory.isNull(), "not enough memory");
            fullSize(memory.address());
        } finally {
            Pointer.free(memory);
        }
    }

    private static void fullSize(long memory) {
        final Matrix patterns = TestData.matrix(DType.BF16, 5, QWEN);
        for (int r = 0; r < 5; r++) {
            patterns.setRow(r, TestData.gaussian(r, QWEN, 2));
        }
        final int[] targets = new int[ROWS];
        for (int r = 0; r < ROWS; r++) {
            Pointer.memcpy(row(memory, r), row(patterns.logits.address(), r % 5), 2L * QWEN);
            targets[r] = r % 5 * 10_000;
        }
        final Logits x = Logits.ofAddress(memory, 2L * ROWS * QWEN, DType.BF16, 1, ROWS, QWEN, 0, QWEN, null);
        final Indices ids = Indices.ofInts(targets);
        final Forward expected = Forward.of(patterns.logits, ids.slice(0, 5), Temperature.ONE);
        final Forward given = Forward.of(x, ids, Temperature.ONE);
        for (int r = 0; r < ROWS; r++) {
            assertEquals(expected.logProbs()[r % 5], given.logProbs()[r]);
            assertEquals(expected.lse()[r % 5], given.lse()[r]);
            assertEquals(expected.entropy()[r % 5], given.entropy()[r]);
        }
        backward(x, ids, given);
        backward(patterns.logits, ids.slice(0, 5), expected);
        for (int r = 0; r < ROWS; r++) {
            assertEquals(0, Pointer.memcmp(row(memory, r), row(patterns.logits.address(), r % 5), 2L * QWEN), "row " + r);
        }
    }

    private static void backward(Logits x, Indices targets, Forward forward) {
        final Floats ones = Floats.ofFloats(TestData.constant(forward.lse().length, 1));
        LogProbs.backward(x, targets, Temperature.ONE, Floats.ofFloats(forward.logProbs()), Floats.ofFloats(forward.lse()),
                Floats.ofFloats(forward.entropy()), ones, ones, x);
    }

    private static Pointer row(long matrix, int row) {
        return new Memory.Raw(matrix + 2L * row * QWEN, 2L * QWEN);
    }
}
