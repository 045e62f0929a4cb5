package org.teamtr.torch;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertDoesNotThrow;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeFalse;

import java.util.List;
import java.util.concurrent.CompletableFuture;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch.ScalarType;
import org.bytedeco.pytorch.global.torch;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.teamtr.kernels.DType;
import org.teamtr.kernels.Device;
import org.teamtr.kernels.Floats;
import org.teamtr.kernels.Indices;
import org.teamtr.kernels.LogProbs;
import org.teamtr.kernels.Logits;
import org.teamtr.kernels.Mask;
import org.teamtr.kernels.Surrogate;
import org.teamtr.kernels.SurrogateConfig;
import org.teamtr.kernels.SurrogateStats;
import org.teamtr.kernels.Temperature;

/** Which tensors the kernels take in place, and what they say of the others. */
class TensorViewsTest {
    private PointerScope scope;

    @BeforeEach
    void open() {
        scope = new PointerScope();
        torch.manual_seed(6);
    }

    @AfterEach
    void close() {
        scope.close();
    }

    private static float[] lse(Tensor logits) {
        final Logits view = TensorViews.logits(logits);
        final Floats lse = Floats.allocate(view.rows());
        LogProbs.forward(view, null, Temperature.ONE, null, lse, null);
        return lse.toArray();
    }

    private static void assertRefused(String words, Executable call) {
        final String given = assertThrows(IllegalArgumentException.class, call).getMessage();
        assertTrue(given.startsWith("tensor: expected ") && given.contains(words), given);
    }

    // ---- CUDA ----

    /** What a CUDA tensor's view asks libtorch, with natives that have no CUDA. */
    @Test
    void withoutLibtorchsCudaNatives() {
        assumeFalse(torch.hasCUDA(), "these natives have CUDA");
        final IllegalStateException e = assertThrows(IllegalStateException.class, () -> TensorViews.Cuda.current((byte) 0));
        assertTrue(e.getMessage().startsWith("tensor: libtorch's CUDA streams could not be loaded ("), e.getMessage());
        assertTrue(e.getMessage().contains("linux-x86_64-gpu"), e.getMessage());
        assertTrue(e.getCause() instanceof LinkageError);
    }

    // ---- logits ----

    @Test
    void theThreeDtypesOfLogits() {
        final ScalarType[] types = {ScalarType.Float, ScalarType.BFloat16, ScalarType.Half};
        for (int i = 0; i < 3; i++) {
            final Tensor tensor = torch.randn(4, 33).to(types[i]);
            final Logits view = TensorViews.logits(tensor);
            assertEquals(DType.values()[i], view.dtype());
            assertEquals(4, view.rows());
            assertEquals(33, view.vocab());
            assertEquals(tensor.data_ptr().address(), view.address());
            final float[] lse = lse(tensor);
            final Tensor expected = torch.logsumexp(tensor.to(ScalarType.Float), 1);
            for (int r = 0; r < 4; r++) {
                assertEquals(expected.select(0, r).item_double(), lse[r], 1e-5);
            }
        }
    }

    /** logits[:, :-1], columns without the padding, rows of every second step, [length, batch, vocab] as [batch, length, vocab]. */
    @ParameterizedTest
    @EnumSource(value = ScalarType.class, names = {"Float", "BFloat16", "Half"})
    void stridedViewsAreReadInPlace(ScalarType dtype) {
        final Tensor tensor = torch.randn(3, 5, 37).to(dtype);
        final Tensor[] views = {
            tensor.narrow(1, 0, 4),
            tensor.narrow(1, 1, 4),
            tensor.narrow(2, 0, 30),
            tensor.narrow(2, 7, 30).narrow(1, 0, 2),
            tensor.permute(1, 0, 2),
            tensor.select(0, 1),
            tensor.select(1, 4),
            tensor.narrow(0, 2, 1),
        };
        for (Tensor view : views) {
            final Logits logits = TensorViews.logits(view);
            assertEquals(view.data_ptr().address(), logits.address());
            assertEquals(view.numel() / view.size(view.dim() - 1), logits.rows());
            assertArrayEquals(lse(view.contiguous()), lse(view));
        }
        assertFalse(views[0].is_contiguous());
        assertEquals(4, TensorViews.logits(views[0]).rowsPerBatch());
        assertEquals(5 * 37, TensorViews.logits(views[0]).batchStride());
    }

    @Test
    void aGradientIsWrittenIntoTheViewAlone() {
        final Tensor logits = torch.randn(2, 3, 10);
        final Tensor whole = torch.ones(2, 4, 12).mul(new Scalar(7.0));
        final Tensor view = whole.narrow(1, 0, 3).narrow(2, 1, 10);
        final Floats lse = Floats.ofFloats(lse(logits));
        final Floats entropy = Floats.allocate(6);
        LogProbs.forward(TensorViews.logits(logits), null, Temperature.ONE, null, null, entropy);
        LogProbs.backward(TensorViews.logits(logits), null, Temperature.ONE, null, lse, entropy, null,
                Floats.ofFloats(1, 1, 1, 1, 1, 1), TensorViews.logits(view));
        assertEquals(0, view.sum().item_double(), 1e-5); // each row's gradient sums to 0
        assertTrue(view.abs().max().item_double() > 0.01);
        assertEquals(7.0 * (2 * 4 * 12 - 2 * 3 * 10), whole.sum().item_double(), 1e-4);
    }

    @Test
    void requiresGradIsNoObstacle() {
        final Tensor tensor = torch.randn(2, 8).set_requires_grad(true);
        assertArrayEquals(lse(tensor.detach()), lse(tensor));
    }

    @Test
    void emptyAndSmallTensors() {
        assertEquals(0, lse(torch.randn(0, 7)).length);
        assertEquals(0, lse(torch.randn(3, 0, 7)).length);
        assertArrayEquals(new float[] {0, 0}, lse(torch.zeros(2, 1)));
        assertEquals(2, lse(torch.zeros(2, 9).narrow(1, 0, 1)).length);
        assertEquals(2, lse(torch.zeros(1, 2).t()).length); // a vocabulary of 1 has no stride that matters
        assertThrows(IllegalArgumentException.class, () -> TensorViews.logits(torch.randn(3, 0)));
    }

    @Test
    void logitsThatAreRefused() {
        final Tensor tensor = torch.randn(4, 6);
        assertRefused("stride 1", () -> TensorViews.logits(tensor.t()));
        assertRefused("call tensor.contiguous()", () -> TensorViews.logits(torch.randn(2, 3, 4).transpose(1, 2)));
        assertRefused("share memory", () -> TensorViews.logits(torch.randn(1, 6).expand(4, 6)));
        assertRefused("share memory", () -> TensorViews.logits(torch.randn(1, 3, 6).expand(4, 3, 6)));
        assertRefused("[rows, vocab] or [batch, length, vocab]", () -> TensorViews.logits(torch.randn(6)));
        assertRefused("[rows, vocab] or [batch, length, vocab]", () -> TensorViews.logits(torch.randn(2, 2, 2, 2)));
        assertRefused("float32, bfloat16 or float16, given Double", () -> TensorViews.logits(tensor.to(ScalarType.Double)));
        assertRefused("float32, bfloat16 or float16, given Long", () -> TensorViews.logits(tensor.to(ScalarType.Long)));
        assertRefused("strided", () -> TensorViews.logits(tensor.to_sparse()));
        assertRefused("given null", () -> TensorViews.logits(null));
        assertRefused("undefined", () -> TensorViews.logits(new Tensor()));
    }

    // ---- vectors ----

    @Test
    void floatsOfAnyShape() {
        final Tensor tensor = torch.randn(2, 3);
        final Floats floats = TensorViews.floats(tensor);
        assertEquals(6, floats.length());
        assertEquals(tensor.select(0, 1).select(0, 2).item_double(), floats.get(5));
        floats.set(5, 42); // the tensor's own memory
        assertEquals(42, tensor.max().item_double());
        assertEquals(1, TensorViews.floats(torch.zeros(new long[0])).length());
        assertEquals(0, TensorViews.floats(torch.zeros(0)).length());
        assertRefused("contiguous", () -> TensorViews.floats(tensor.t()));
        assertRefused("contiguous", () -> TensorViews.floats(torch.zeros(1).expand(3)));
        assertRefused("float32", () -> TensorViews.floats(tensor.to(ScalarType.Double)));
        assertRefused("float32", () -> TensorViews.floats(tensor.to(ScalarType.BFloat16)));
        assertRefused("given null", () -> TensorViews.floats(null));
    }

    @Test
    void indicesOfBothWidths() {
        final Tensor tensor = torch.arange(new Scalar(5L)).sub(new Scalar(2L));
        final Indices longs = TensorViews.indices(tensor.to(ScalarType.Long));
        final Indices ints = TensorViews.indices(tensor.to(ScalarType.Int));
        assertEquals(8, longs.bytes());
        assertEquals(4, ints.bytes());
        assertArrayEquals(new long[] {-2, -1, 0, 1, 2}, longs.toArray());
        assertArrayEquals(new long[] {-2, -1, 0, 1, 2}, ints.toArray());
        assertRefused("int32 or int64", () -> TensorViews.indices(tensor.to(ScalarType.Float)));
        assertRefused("int32 or int64", () -> TensorViews.indices(tensor.to(ScalarType.Short)));
        assertRefused("contiguous", () -> TensorViews.indices(torch.zeros(4, 2).to(ScalarType.Long).select(1, 0)));
    }

    @Test
    void masksOfBoolAndUint8() {
        final Tensor tensor = torch.arange(new Scalar(3L));
        for (ScalarType type : new ScalarType[] {ScalarType.Bool, ScalarType.Byte}) {
            final Mask mask = TensorViews.mask(tensor.to(type));
            assertArrayEquals(new boolean[] {false, true, true}, mask.toArray());
        }
        assertRefused("bool or uint8", () -> TensorViews.mask(tensor));
        assertRefused("bool or uint8", () -> TensorViews.mask(tensor.to(ScalarType.Char)));
        assertRefused("contiguous", () -> TensorViews.mask(torch.zeros(4, 2).to(ScalarType.Bool).select(1, 0)));
    }

    @Test
    void targetsAsATensorOfAnyShape() {
        final Tensor logits = torch.randn(2, 3, 9);
        final Floats logProbs = Floats.allocate(6);
        final Tensor targets = torch.randint(9, new long[] {2, 3}).to(ScalarType.Int);
        LogProbs.forward(TensorViews.logits(logits), TensorViews.indices(targets), Temperature.ONE, logProbs, null, null);
        assertTrue(logProbs.get(5) < 0);
    }

    /** As in memory of their own; a closed tensor is an error, for the call and for who looks at what it wrote. */
    @Test
    void statisticsInATensor() {
        final Floats now = Floats.ofFloats(-1.1f, -0.4f, -2);
        final Floats before = Floats.ofFloats(-1, -0.5f, -2.5f);
        final Tensor tensor = torch.zeros(SurrogateStats.COUNT).to(ScalarType.Double);
        final Tensor other = tensor.add(new Scalar(0));
        final Floats advantages = Floats.ofFloats(1, -1);
        final Indices bounds = Indices.ofLongs(0, 1, 3);
        try (SurrogateStats own = new SurrogateStats(); SurrogateStats there = TensorViews.statistics(tensor);
                SurrogateStats closed = TensorViews.statistics(other)) {
            for (SurrogateStats stats : List.of(own, there, closed)) {
                Surrogate.compute(SurrogateConfig.PAPER, now, before, advantages, bounds, null, null, null, null, null, null, null, stats);
            }
            assertEquals(own.toString(), there.toString());
            assertEquals(3, there.tokens());
            other.close();
            assertEquals("stats: its memory was closed", assertThrows(IllegalStateException.class, closed::loss).getMessage());
            assertThrows(IllegalStateException.class, () -> Surrogate.compute(SurrogateConfig.PAPER, now, before, advantages, bounds, null, null,
                    null, null, null, null, null, closed));
        }
        assertRefused("float64", () -> TensorViews.statistics(torch.zeros(SurrogateStats.COUNT)));
        assertRefused("float64", () -> TensorViews.statistics(torch.zeros(SurrogateStats.COUNT - 1).to(ScalarType.Double)));
        assertThrows(IllegalArgumentException.class, () -> SurrogateStats.ofAddress(Device.CPU, 64, SurrogateStats.COUNT * Double.BYTES - 1, null));
    }

    // ---- closed tensors ----

    @Test
    void aClosedTensorIsAnErrorAndNotACrash() {
        for (int closed = 0; closed < 3; closed++) {
            final Tensor[] tensors = {torch.randn(2, 5), torch.zeros(2).to(ScalarType.Long), torch.zeros(2)};
            final Logits logits = TensorViews.logits(tensors[0]);
            final Indices targets = TensorViews.indices(tensors[1]);
            final Floats logProbs = TensorViews.floats(tensors[2]);
            final Executable call = () -> LogProbs.forward(logits, targets, Temperature.ONE, logProbs, null, null);
            assertDoesNotThrow(call);
            final Tensor tensor = tensors[closed];
            tensor.close();
            final String words = assertThrows(IllegalStateException.class, call).getMessage();
            assertEquals(new String[] {"logits", "targets", "logProbs"}[closed] + ": its memory was closed", words);
            assertRefused("closed", () -> TensorViews.logits(tensor));
        }
    }

    /** A view keeps its tensor: nothing else does here, and the collector may run. */
    @Test
    void aViewKeepsItsTensorAlive() {
        final Logits view = CompletableFuture.supplyAsync(() -> TensorViews.logits(torch.zeros(64, 1000))).join(); // no scope there
        for (int i = 0; i < 3; i++) {
            System.gc();
            torch.ones(64, 1000).close(); // would take the freed memory
        }
        final Floats lse = Floats.allocate(64);
        LogProbs.forward(view, null, Temperature.ONE, null, lse, null);
        assertEquals(Math.log(1000), lse.get(63), 1e-6);
    }
}
