package org.teamtr.torch;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.bytedeco.javacpp.Pointer;
import org.bytedeco.pytorch.Tensor;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;
import org.teamtr.TestJvm;
import org.teamtr.kernels.SurrogateConfig;
import org.teamtr.model.ModelConfig;
import org.teamtr.train.Batch;
import org.teamtr.train.Policy;

/** Native memory is freed when it is not needed any more, not when the garbage collector happens to find its Java object. */
class MemoryTest {
    private static final int WARM_UP = 200;
    private static final int PARTS = 4;
    private static final int UPDATES = 100;

    @TempDir
    private Path folder;

    /** All that a run does, time and again. */
    private static final class Run implements AutoCloseable {
        private final TorchPolicy policy;
        private final Batch batch;

        Run(Path folder, TorchPolicy.Settings settings) throws IOException {
            this.policy = Tiny.policy(folder, ModelConfig.qwen3(Tiny.VOCAB, 16, 24, 1, 2, 1, 8, 32), settings, 5);
            this.batch = Tiny.batch(policy, 4, 6, 1);
        }

        void update(int i) {
            try (Policy.Snapshot anchor = policy.snapshot()) {
                policy.gradient(batch, 0.8, SurrogateConfig.PAPER.withKl(SurrogateConfig.KlTerm.EXACT, 0.1), anchor);
                policy.step(1e-3);
                policy.score(batch, 0.8, anchor);
                policy.shorten(anchor, 0.5);
                policy.imitate(batch.messages());
                policy.restore(anchor);
            }
            policy.fingerprint();
            policy.generate(Tiny.prompts(4, i), Tiny.generation(1, 6), i, Tiny.ids(4));
        }

        @Override
        public void close() {
            policy.close();
        }
    }

    /** JavaCPP counts native objects that some Java object is to free. */
    @Test
    void updatesCloseWhatTheyMake() throws IOException {
        for (TorchPolicy.Settings settings : List.of(Tiny.settings("f32", 1, 0, 8192), Tiny.settings("f32", 2, 0, 8),
                Tiny.settings("bf16", 1, 0, 8192), Tiny.settings("f32", 2, 2, 8192))) {
            try (Run run = new Run(folder, settings)) {
                for (int i = 0; i < 20; i++) {
                    final long before = Pointer.totalCount();
                    run.update(i);
                    final long left = Pointer.totalCount() - before; // less than 0 if the collector found another test's
                    assertTrue(i == 0 || left <= 0, settings + ": " + left + " native objects are left over from update " + i); // the first makes rotary tables
                }
            }
        }
    }

    @Test
    void policiesAndFilesCloseWhatTheyMake() throws IOException {
        final Path saved = Files.createDirectory(folder.resolve("saved"));
        final Path adapters = Files.createDirectory(folder.resolve("adapters"));
        try (Run run = new Run(folder, Tiny.settings()); Run lora = new Run(folder, Tiny.settings("f32", 1, 2, 8192))) {
            run.policy.save(saved);
            lora.policy.save(adapters);
        }
        for (int i = 0; i < 5; i++) {
            final long before = Pointer.totalCount();
            try (TorchPolicy policy = TorchPolicy.load(saved, Tiny.settings());
                    TorchPolicy lora = TorchPolicy.load(saved, Tiny.settings("bf16", 2, 2, 8192))) {
                policy.load(saved);
                policy.save(Files.createDirectory(folder.resolve("again" + i)));
                lora.save(Files.createDirectory(folder.resolve("adapters" + i)));
                assertTrue(Pointer.totalCount() > before, "an open policy counts");
            }
            final long left = Pointer.totalCount() - before;
            assertTrue(i == 0 || left <= 0, left + " native objects are left over from round " + i); // the first loads classes
        }
    }

    @Test
    void theCountSeesOneTensor() {
        final long before = Pointer.totalCount();
        try (Tensor tensor = Tensor.create(new float[] {1})) {
            assertTrue(Pointer.totalCount() > before, tensor.toString());
        }
    }

    /**
     * What no Java object stands for shows in the size of the process alone: here of one whose heap has a fixed size and is touched
     * beforehand, and which does not compile in the background at length.
     */
    @Test
    @EnabledOnOs(OS.LINUX)
    void manyUpdatesLeaveTheProcessAsLargeAsItWas() throws Exception {
        final List<String> command = TestJvm.command(MemoryTest.class, "-Xms64m", "-Xmx64m", "-XX:+AlwaysPreTouch", "-XX:+UseSerialGC");
        command.add(folder.toString());
        final Process process = new ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.DISCARD).start();
        try {
            final String out = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
            assertTrue(process.waitFor(10, TimeUnit.SECONDS), "it ends");
            assertEquals(0, process.exitValue(), out);
            final long[] sizes = Arrays.stream(out.strip().split("\\s+")).mapToLong(Long::parseLong).toArray();
            assertEquals(PARTS + 1, sizes.length, out);
            double least = Double.POSITIVE_INFINITY; // a leak is in every part, what the JVM does once in a while is not
            for (int part = 0; part < PARTS; part++) {
                least = Math.min(least, (sizes[part + 1] - sizes[part]) / 1e6);
            }
            System.out.printf("%d updates: the process grew by %.2f MB, and by %.2f MB in the calmest %d%n", PARTS * UPDATES,
                    (sizes[PARTS] - sizes[0]) / 1e6, least, UPDATES);
            assertTrue(least < 0.3, "expected the process to stay as large as it was, given " + least + " MB more at least every "
                    + UPDATES + " updates");
        } finally {
            process.destroyForcibly();
        }
    }

    /** Prints its own resident size, in bytes, after the warm-up and after each part. Losing 3 kB an update fails the test. */
    public static void main(String[] args) throws Exception {
        final List<Tensor> filling = new ArrayList<>();
        try (Run run = new Run(Path.of(args[0]), Tiny.settings())) {
            for (int i = 0; i < WARM_UP + PARTS * UPDATES; i++) {
                if (i == WARM_UP) {
                    settle();
                    for (int length : new int[] {1024, 64}) { // fills holes that the start has left, where a leak would hide
                        final long full = resident() + 2_000_000;
                        while (resident() < full) {
                            filling.add(Tensor.create(new float[length]));
                        }
                    }
                }
                if (i >= WARM_UP && (i - WARM_UP) % UPDATES == 0) {
                    settle();
                    System.out.println(resident());
                }
                run.update(i);
            }
            settle();
            System.out.println(resident());
        }
        filling.forEach(Tensor::close);
    }

    private static void settle() throws InterruptedException {
        for (int i = 0; i < 3; i++) {
            System.gc();
            Thread.sleep(50);
        }
    }

    private static long resident() throws IOException {
        return Long.parseLong(Files.readString(Path.of("/proc/self/statm")).split(" ")[1]) * 4096;
    }
}
