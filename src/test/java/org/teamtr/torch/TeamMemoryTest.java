package org.teamtr.torch;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNotSame;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.Tensor;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.teamtr.kernels.SurrogateConfig;
import org.teamtr.train.Batch;
import org.teamtr.train.Policy;

/** What policies of a team share changes where numbers are, and none of them. */
class TeamMemoryTest {
    @TempDir
    private Path folder;

    @Test
    void adaptersOverOneFolderHaveItsWeightsOnce() throws IOException {
        final TeamMemory memory = new TeamMemory(true);
        final TorchPolicy.Settings settings = Tiny.settings("bf16", 1, 2, 8192);
        try (TorchPolicy one = TorchPolicy.load(Tiny.saved(folder), settings, memory)) {
            try (TorchPolicy two = TorchPolicy.load(Tiny.saved(folder), settings, memory);
                    TorchPolicy apart = TorchPolicy.load(Tiny.saved(folder), settings);
                    TorchPolicy other = TorchPolicy.load(Tiny.saved(folder), Tiny.settings("f32", 1, 2, 8192), memory)) {
                assertSame(one.state.base, two.state.base);
                assertNotSame(one.state.base, apart.state.base);
                assertNotSame(one.state.base, other.state.base, "of another dtype");
                assertNull(one.state.base.master, "frozen weights are kept in 16 bits alone");
                assertArrayEquals(update(apart, 1), update(two, 1), "to the bit");
            }
            update(one, 2); // the weights are still there
        }
    }

    /** Batch, gradient and two steps; what is trained afterwards. */
    private static float[] update(TorchPolicy policy, long seed) {
        final Batch batch = Tiny.batch(policy, 4, 6, seed);
        for (int step = 0; step < 2; step++) {
            policy.gradient(batch, 0.8, SurrogateConfig.PAPER, null);
            policy.step(1e-2);
        }
        return Tiny.floats(policy.state.weights.master);
    }

    @Test
    void oneOfATeamHasAGradient() throws IOException {
        final TeamMemory memory = new TeamMemory(true);
        try (TorchPolicy a = TorchPolicy.load(Tiny.saved(folder), Tiny.settings(), memory);
                TorchPolicy b = TorchPolicy.load(Tiny.saved(folder), Tiny.settings(), memory);
                TorchPolicy apart = TorchPolicy.load(Tiny.saved(folder), Tiny.settings())) {
            final float[] expected = update(apart, 1);
            assertArrayEquals(expected, update(a, 1));
            assertNotNull(a.state.gradient);
            final Batch batch = Tiny.batch(b, 4, 6, 1);
            assertNull(a.state.gradient, "while messages are generated nobody has one");
            b.gradient(batch, 0.8, SurrogateConfig.PAPER, null);
            a.gradient(batch, 0.8, SurrogateConfig.PAPER, null);
            assertTrue(a.state.gradient != null && b.state.gradient != null, "one that waits for its step stays");
            b.step(1e-2);
            b.gradient(batch, 0.8, SurrogateConfig.PAPER, null);
            b.step(1e-2);
            assertArrayEquals(expected, Tiny.floats(b.state.weights.master));
            a.step(1e-2);
            a.generate(Tiny.prompts(2, 1), Tiny.generation(1, 2), 1, Tiny.ids(2));
            assertTrue(a.state.gradient == null && b.state.gradient == null);
            assertThrows(IllegalStateException.class, () -> a.step(1e-2));
        }
    }

    /** Half of what a snapshot holds, and the same KL. */
    @Test
    void anAnchorIsMeasuredFromAndNotGoneBackTo() throws IOException {
        for (String dtype : List.of("f32", "bf16", "f16")) {
            try (TorchPolicy policy = Tiny.policy(folder, Tiny.qwen3(2), Tiny.settings(dtype, 1, 0, 8192), 5)) {
                final Batch batch = Tiny.batch(policy, 4, 6, 1);
                try (Policy.Snapshot snapshot = policy.snapshot(); Policy.Snapshot anchor = policy.anchor()) {
                    do {
                        policy.gradient(batch, 0.8, SurrogateConfig.PAPER, null);
                    } while (Double.isNaN(policy.step(1e-2))); // of f16, too large for the first loss scales
                    for (Policy.Precision precision : Policy.Precision.values()) {
                        final float[] kl = policy.score(batch, 0.8, anchor, precision).kl();
                        assertArrayEquals(policy.score(batch, 0.8, snapshot, precision).kl(), kl);
                        assertFalse(kl[0] == 0, precision.toString());
                    }
                    final String wrong = assertThrows(IllegalArgumentException.class, () -> policy.restore(anchor)).getMessage();
                    assertTrue(wrong.startsWith("snapshot: expected one of snapshot()"), wrong);
                    policy.restore(snapshot);
                }
            }
        }
    }

    @Test
    void messagesMayBeGeneratedAFewAtATime() throws IOException {
        final TorchPolicy.Settings s = Tiny.settings();
        final TorchPolicy.Settings few = Tiny.settings("f32", 2, 0, 8192).with(new TorchPolicy.AtOnce(8192, 3));
        try (TorchPolicy all = Tiny.policy(folder, Tiny.qwen3(1), s, 5); TorchPolicy parts = Tiny.policy(folder, Tiny.qwen3(1), few, 5)) {
            final var expected = all.generate(Tiny.prompts(8, 1), Tiny.generation(1, 9), 7, Tiny.ids(8));
            final var given = parts.generate(Tiny.prompts(8, 1), Tiny.generation(1, 9), 7, Tiny.ids(8));
            for (int i = 0; i < 8; i++) {
                assertArrayEquals(expected.get(i).tokens(), given.get(i).tokens());
                assertArrayEquals(expected.get(i).logProbs(), given.get(i).logProbs(), 1e-4f);
            }
        }
    }

    /** Where there is no GPU, libtorch has no such memory, and says so: it was asked for it. */
    @Test
    void homeAsksForPageLockedMemory() {
        try (Placement plain = new Placement(new org.bytedeco.pytorch.Device("cpu")); Tensor zeros = plain.zeros(3)) {
            zeros.fill_(new Scalar(2));
            try (Tensor copy = plain.copied(zeros)) {
                zeros.fill_(new Scalar(5));
                assertArrayEquals(new float[] {2, 2, 2}, Tiny.floats(copy));
                assertSame(zeros, Weights.moved(zeros, plain), "it is there already");
            }
        }
        if (Machine.deviceFree("cuda") == 0) {
            try (Placement pinned = new Placement(new org.bytedeco.pytorch.Device("cpu"), true)) {
                final String wrong = assertThrows(RuntimeException.class, () -> pinned.zeros(3)).getMessage();
                assertTrue(wrong.contains("pin") || wrong.contains("accelerator"), wrong);
            }
        }
    }

    /** The words of each allocator, and those of no one. */
    @Test
    void outOfMemoryNamesASettingToChange() {
        for (String words : List.of("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to"
                + " allocate 99 bytes. Error code 12 (Cannot allocate memory)\nException raised from",
                "CUDA out of memory. Tried to allocate"
                        + " 2.00 GiB. GPU 0 has a total capacity of 23.52 GiB",
                "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`",
                "std::bad_alloc", "Physical memory usage is too high: physicalBytes (8001M) > maxPhysicalBytes (8000M)")) {
            final RuntimeException told = OutOfMemory.told(new IllegalStateException(words), OutOfMemory.LEARNING);
            assertTrue(told.getMessage().startsWith("out of memory in an update: lower optimiser.micro_batch_tokens"), told.getMessage());
            assertEquals(1, told.getMessage().lines().count());
            assertSame(told, OutOfMemory.told(told, OutOfMemory.GENERATING));
        }
        final RuntimeException other = new IllegalStateException("logits: expected numbers");
        assertSame(other, OutOfMemory.told(other, OutOfMemory.LEARNING));
    }

    /** libtorch's own, of a size that no machine has. */
    @Test
    void libtorchsOwnWordsAreKnown() {
        final RuntimeException e = assertThrows(RuntimeException.class, () -> {
            try (org.bytedeco.pytorch.Device cpu = new org.bytedeco.pytorch.Device("cpu")) {
                Decoder.empty(new long[] {1L << 50}, org.bytedeco.pytorch.global.torch.ScalarType.Float, cpu).close();
            }
        });
        assertTrue(OutOfMemory.told(e, OutOfMemory.LOADING).getMessage().startsWith("out of memory in loading a model"), e.getMessage());
    }
}
