package org.teamtr.torch;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.BufferedReader;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.IntStream;
import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.javacpp.IntPointer;
import org.bytedeco.javacpp.Loader;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;
import org.teamtr.TestJvm;
import org.teamtr.chat.Tokenizer;
import org.teamtr.distributed.RankEnvironment;
import org.teamtr.kernels.SurrogateConfig;
import org.teamtr.model.ModelConfig;
import org.teamtr.team.Utterance;
import org.teamtr.train.Batch;
import org.teamtr.train.Sharding;

/**
 * The bytes of all tensors that a rank has at most during an update, as libtorch's allocator counts them, with a model of 52 million
 * parameters: what each stage of sharding saves is really not there. Every rank is a process.
 */
@Tag("large")
@Timeout(400)
@EnabledOnOs(OS.LINUX)
class ShardMemoryTest {
    private static final ModelConfig MODEL = ModelConfig.qwen3(16_000, 512, 1408, 12, 8, 4, 64, 512).untied();
    private static final int RANKS = 4;
    private static final int MESSAGES = 16;
    private static final String LEARNS = "an update begins";
    private static final Pattern ALLOCATED = Pattern.compile(".*C10 alloc \\d+ bytes, total alloc (\\d+) bytes.*");

    @TempDir
    private Path folder;

    @Test
    void eachStageNeedsLess() throws Exception {
        Tokenizer.writeCharacters(folder, "abcdefghijklmnopqrstuvwxyz .0123456789", List.of("<pad>", "<end>"), "<pad>", "<end>");
        MODEL.write(folder.resolve("config.json"), "bfloat16", 1);
        final Map<Sharding, Long> most = new EnumMap<>(Sharding.class);
        for (Sharding sharding : Sharding.values()) {
            most.put(sharding, most(sharding));
            System.out.printf("shard: %s: at most %,d MB of tensors on a rank of %d%n", sharding, most.get(sharding) / 1_000_000, RANKS);
        }
        final double n = Layout.of(MODEL).length();
        final double layer = Layout.of(MODEL).unit("model.layers.0.").length();
        final double head = 16_000.0 * 512;
        // What is there at once, by the rules of MemoryPlan, but for activations: bf16 weights, f32 weights and moments, gradients.
        final double share = n / RANKS;
        assertTrue(most.get(Sharding.NONE) > n * (2 + 12 + 4 + 2), "none");
        assertTrue(most.get(Sharding.STATE) > n * (2 + 4 + 2) + 12 * share, "state");
        final double gathering = (1 + 2 * RANKS) * 2.0 * (8 << 20); // a piece of rounded weights on its way: ours, all, and Gloo's copy
        assertTrue(most.get(Sharding.GRADIENTS) < n * 2 + share * (12 + 4) + Math.max(head * 8, gathering) + 60e6, most.toString());
        assertTrue(most.get(Sharding.WEIGHTS) < share * (2 + 12 + 4) + head * (2 + 8) + layer * 2 + 60e6, most.toString());
    }

    /** {@return the bytes of the rank that has most} */
    private long most(Sharding sharding) throws Exception {
        final int port = TestJvm.freePort();
        final List<Process> ranks = new ArrayList<>();
        try {
            for (int r = 0; r < RANKS; r++) {
                final List<String> command = TestJvm.command(ShardMemoryTest.class, "-Xmx256m", "-XX:+UseSerialGC");
                command.addAll(List.of(sharding.name(), "" + r, "" + port, folder.toString()));
                final ProcessBuilder builder = new ProcessBuilder(command)
                        .redirectErrorStream(true).redirectOutput(folder.resolve("said-" + r).toFile());
                builder.environment().put("OMP_NUM_THREADS", "1");
                ranks.add(builder.start());
            }
            long most = 0;
            for (int r = 0; r < RANKS; r++) {
                assertEquals(0, ranks.get(r).waitFor(), Files.readString(folder.resolve("said-" + r)).lines().filter(l -> !l.contains("C10 "))
                        .reduce("", (a, b) -> a + "\n" + b));
                most = Math.max(most, most(folder.resolve("said-" + r)));
            }
            return most;
        } finally {
            ranks.forEach(Process::destroyForcibly);
        }
    }

    private static long most(Path said) throws IOException {
        long most = 0;
        boolean learns = false;
        try (BufferedReader lines = Files.newBufferedReader(said)) {
            for (String line = lines.readLine(); line != null; line = lines.readLine()) {
                learns |= line.contains(LEARNS);
                final Matcher allocated = ALLOCATED.matcher(line);
                most = learns && allocated.matches() ? Math.max(most, Long.parseLong(allocated.group(1))) : most;
            }
        }
        assertTrue(most > 0, "libtorch has said nothing of what it allocates");
        return most;
    }

    /** A rank: makes the policy, and an update of two steps. */
    public static void main(String[] args) throws Exception {
        final int rank = Integer.parseInt(args[1]);
        final TorchPolicy.Settings settings = Tiny.settings("bf16", 1, 0, 64);
        Libtorch.load();
        final RankEnvironment environment = new RankEnvironment(rank, RANKS, rank, RANKS, "127.0.0.1", Integer.parseInt(args[2]), false, 0);
        reportAllocations();
        try (TorchRanks ranks = TorchRanks.join(environment, Duration.ofSeconds(100), Map.of(), said -> System.exit(3))) {
            try {
                update(Path.of(args[3]), settings, new TeamMemory(true, false, 0, ranks, Sharding.valueOf(args[0])));
            } catch (Exception | Error e) {
                ranks.fail(e.toString());
                throw e;
            }
        }
    }

    private static void update(Path model, TorchPolicy.Settings settings, TeamMemory memory) throws IOException {
        try (TorchPolicy policy = TorchPolicy.random(model, settings, 7, memory)) {
            policy.ready();
            final Batch batch = Tiny.batch(IntStream.range(0, MESSAGES).mapToObj(m -> new Utterance(new int[] {2, 3 + m, 4},
                    new int[] {5, 6 + m, 7, 8}, new float[] {-1, -1, -1, -1}, "", true, 0)).toList());
            policy.gradient(batch, 0.8, SurrogateConfig.PAPER, null); // makes room
            System.err.println("\n" + LEARNS);
            policy.gradient(batch, 0.8, SurrogateConfig.PAPER, null);
            policy.step(1e-3);
        }
    }

    /** Makes libtorch report each allocation, and the bytes of all that are live. */
    private static void reportAllocations() throws IOException {
        final String library = Files.readAllLines(Path.of("/proc/self/maps")).stream().filter(line -> line.endsWith("libc10.so")).findFirst()
                .orElseThrow().replaceFirst(".* ", "");
        Loader.loadGlobal(library);
        new IntPointer(Loader.addressof("FLAGS_caffe2_log_level")).capacity(1).put(0); // what informs is said, too
        new BytePointer(Loader.addressof("FLAGS_caffe2_report_cpu_memory_usage")).capacity(1).put((byte) 1);
    }
}
