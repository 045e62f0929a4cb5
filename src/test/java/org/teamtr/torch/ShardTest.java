package org.teamtr.torch;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorVector;
import org.bytedeco.pytorch.global.torch;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.teamtr.TestJvm;
import org.teamtr.distributed.RankEnvironment;
import org.teamtr.kernels.SurrogateConfig;
import org.teamtr.team.Utterance;
import org.teamtr.train.Batch;
import org.teamtr.train.Policy;
import org.teamtr.train.Sharding;

/** What is divided among ranks is what one process has, number by number. */
@Tag("cpu")
@Timeout(120)
class ShardTest {
    @TempDir
    private Path folder;

    /** What each rank does. */
    private interface Work<T> {
        T on(TorchRanks ranks) throws Exception;
    }

    private static <T> List<T> ranks(int size, Work<T> work) throws Exception {
        final int port = TestJvm.freePort();
        final ExecutorService threads = Executors.newFixedThreadPool(size);
        final List<Future<T>> all = new ArrayList<>();
        for (int r = 0; r < size; r++) {
            final RankEnvironment e = new RankEnvironment(r, size, r, size, "127.0.0.1", port, false, 0);
            all.add(threads.submit(() -> {
                try (TorchRanks ranks = TorchRanks.join(e, Duration.ofSeconds(60), Map.of(), said -> {})) {
                    try {
                        return work.on(ranks);
                    } catch (Exception | Error problem) {
                        ranks.fail(problem.toString());
                        throw problem;
                    }
                }
            }));
        }
        final List<T> results = new ArrayList<>();
        for (Future<T> one : all) {
            results.add(one.get());
        }
        threads.shutdown();
        return results;
    }

    /** Lengths that divide and do not, shorter than the ranks, in pieces that divide and do not. */
    @Test
    void partsAreSummedGatheredAndStreamed() throws Exception {
        ranks(3, ranks -> {
            for (int n : new int[] {1, 192, 200, 1000}) {
                for (int piece : new int[] {100, 1 << 20}) {
                    final Shard shard = new Shard(ranks, n, piece);
                    final float[] mine = new float[n];
                    for (int i = 0; i < n; i++) {
                        mine[i] = (ranks.rank() + 1) * i;
                    }
                    try (PointerScope scope = new PointerScope()) {
                        final Tensor vector = Tensor.create(mine);
                        shard.sum("sum", vector);
                        shard.gather("gather", vector);
                        final float[] all = Tiny.floats(vector);
                        for (int i = 0; i < n; i++) {
                            assertEquals(6f * i, all[i], "number " + i + " of " + n);
                        }
                        final float[] streamed = new float[n];
                        final int[] at = {0};
                        shard.stream("stream", shard.own(vector), numbers -> {
                            for (float number : Tiny.floats(numbers)) {
                                streamed[at[0]++] = number;
                            }
                        });
                        assertEquals(n, at[0]);
                        assertArrayEquals(all, streamed);
                    }
                }
            }
            assertEquals(5, shard(ranks).norm(ranks.rank() == 0 ? 3 : ranks.rank() == 1 ? 4 : 0));
            assertTrue(Double.isInfinite(shard(ranks).finite(ranks.rank() == 2 ? Double.NaN : 1)));
            assertEquals(7, shard(ranks).finite(7));
            return null;
        });
    }

    private static Shard shard(TorchRanks ranks) {
        return new Shard(ranks, 10);
    }

    /** Steps, a snapshot gone back to, a step shortened, a nudge taken back; then what is there. */
    private static List<Object> trained(TorchPolicy policy, Path save, boolean saves, List<Double> norms) throws IOException {
        policy.ready();
        final Batch batch = Tiny.batch(policy, 4, 6, 1);
        final List<Object> seen = new ArrayList<>();
        for (int update = 0; update < 2; update++) {
            try (Policy.Snapshot before = policy.snapshot(); Policy.Snapshot anchor = policy.anchor()) {
                double norm;
                do {
                    policy.gradient(batch, 0.8, SurrogateConfig.PAPER, anchor);
                    norm = policy.step(1e-3);
                } while (Double.isNaN(norm)); // of f16, too large for the first loss scales
                norms.add(norm);
                final long there = policy.fingerprint();
                policy.nudge(1e-3, 9);
                seen.add(policy.fingerprint());
                policy.restore(before);
                seen.add(policy.fingerprint());
                do {
                    policy.gradient(batch, 0.8, SurrogateConfig.PAPER, anchor);
                } while (Double.isNaN(policy.step(1e-3)));
                assertEquals(there, policy.fingerprint());
                policy.shorten(before, 0.5);
                for (Policy.Precision precision : List.of(Policy.Precision.SAME, Policy.Precision.F32)) {
                    final Policy.Scores scores = policy.score(batch, 0.8, anchor, precision);
                    seen.add(List.of(scores.logProbs()[3], scores.kl()[3], scores.entropy()[3]));
                }
                seen.add(Arrays.stream(policy.logitShift(batch, anchor)).boxed().toList());
            }
            seen.add(policy.imitate(batch.messages()));
            policy.ready();
            seen.add(policy.generate(Tiny.prompts(3, 4), Tiny.generation(0.8, 4), 5, Tiny.ids(3)).stream().map(Utterance::text).toList());
        }
        if (saves) {
            Files.createDirectories(save);
            policy.save(save);
            seen.add(policy.fingerprint());
        } else {
            policy.sendParts();
        }
        return seen;
    }

    /**
     * A batch of one micro-batch, which one rank computes: nothing is added up that is not 0, so that two and three ranks come to the
     * bits of one process, and write the same files. Gradients are not clipped: their norm is added up in another order.
     */
    @ParameterizedTest
    @CsvSource({"f32, 0, 2, STATE", "bf16, 0, 3, STATE", "f16, 0, 2, STATE", "bf16, 2, 2, STATE", "f32, 0, 2, GRADIENTS", "bf16, 2, 3, GRADIENTS",
        "f32, 0, 2, WEIGHTS", "bf16, 0, 3, WEIGHTS", "f16, 0, 2, WEIGHTS", "bf16, 2, 2, WEIGHTS", "f32, 2, 3, WEIGHTS"})
    void ranksTrainToTheBitsOfOne(String dtype, int lora, int size, Sharding sharding) throws Exception {
        final TorchPolicy.Settings settings = Tiny.settings(dtype, 1, lora, 8192)
                .with(new AdamWSettings(0.9, 0.999, 1e-8, 0.01, Double.POSITIVE_INFINITY));
        final Path model = Tiny.saved(folder);
        final List<Object> expected;
        final List<Double> norms = new ArrayList<>();
        try (TorchPolicy one = TorchPolicy.load(model, settings)) {
            expected = trained(one, folder.resolve("one"), true, norms);
        }
        final List<List<Object>> all = ranks(size, ranks -> {
            try (TorchPolicy policy = TorchPolicy.load(model, settings, new TeamMemory(true, false, 0, ranks, sharding))) {
                final List<Double> own = new ArrayList<>();
                final List<Object> seen = trained(policy, folder.resolve("many"), ranks.rank() == 0, own);
                final long trained = policy.trained();
                final long part = policy.state.optimiser.mean.numel();
                assertTrue(part <= Shard.length(trained, size) && part < trained, part + " of " + trained);
                assertEquals(dtype.equals("f32") && sharding != Sharding.WEIGHTS ? trained : part, policy.state.weights.master.numel());
                for (int i = 0; i < norms.size(); i++) {
                    assertEquals(norms.get(i), own.get(i), 1e-5 * norms.get(i));
                }
                if (sharding.divides(Sharding.GRADIENTS)) {
                    assertEquals(part, policy.state.gradient == null ? part : policy.state.gradient.numel());
                }
                policy.load(folder.resolve("one")); // of another number of ranks
                assertEquals(expected.get(expected.size() - 1), policy.fingerprint());
                return seen;
            }
        });
        for (List<Object> seen : all) {
            assertEquals(expected.subList(0, expected.size() - 1), seen.subList(0, expected.size() - 1));
        }
        assertEquals(expected, all.get(0));
        try (Stream<Path> files = Files.list(folder.resolve("one"))) {
            for (Path file : files.toList()) {
                assertArrayEquals(Files.readAllBytes(file), Files.readAllBytes(folder.resolve("many").resolve(file.getFileName())), file.toString());
            }
        }
    }

    /** With a micro-batch or more for each rank: within rounding of what one process comes to. */
    @Test
    void gradientsOfManyMicroBatches() throws Exception {
        final TorchPolicy.Settings settings = Tiny.settings("f32", 1, 0, 64);
        final Path model = Tiny.saved(folder);
        final float[] expected;
        final double norm;
        try (TorchPolicy one = TorchPolicy.load(model, settings)) {
            one.gradient(Tiny.batch(one, 8, 6, 1), 0.8, SurrogateConfig.PAPER, null);
            norm = one.step(1e-3);
            expected = Tiny.floats(one.state.weights.master);
        }
        for (Sharding sharding : List.of(Sharding.NONE, Sharding.STATE, Sharding.WEIGHTS)) {
            for (float[] got : ranks(3, ranks -> {
                try (TorchPolicy policy = TorchPolicy.load(model, settings, new TeamMemory(true, false, 0, ranks, sharding))) {
                    policy.ready();
                    policy.gradient(Tiny.batch(policy, 8, 6, 1), 0.8, SurrogateConfig.PAPER, null);
                    assertEquals(norm, policy.step(1e-3), 1e-5 * norm);
                    policy.ready();
                    return Tiny.floats(flat(policy));
                }
            })) {
                final double worst = IntStream.range(0, expected.length).mapToDouble(i -> Math.abs(expected[i] - got[i])).max().orElseThrow();
                assertTrue(worst < 2e-3, "parameters are " + worst + " apart"); // twice a step, where a gradient is rounding
                final double mean = IntStream.range(0, expected.length).mapToDouble(i -> Math.abs(expected[i] - got[i])).average().orElseThrow();
                assertTrue(mean < 1e-6, "parameters are " + mean + " apart in the mean");
            }
        }
    }

    /** All f32 weights, behind each other. */
    private static Tensor flat(TorchPolicy policy) {
        return torch.cat(new TensorVector(policy.state.weights.layout.parts.keySet().stream()
                .map(name -> policy.state.weights.compute().get(name).flatten()).toArray(Tensor[]::new)), 0);
    }

    /**
     * Many micro-batches and layers, a sliding window, two threads, prompts of a message each and of several, micro-batches that ranks have different numbers of: what is made
     * a layer after the other has the bits of what is made a micro-batch after the other. Two ranks, since sums of more may be in
     * another order; a head of its own, since that of a tied embedding is summed apart from it.
     */
    @ParameterizedTest
    @CsvSource({"f32, 0", "bf16, 0", "bf16, 4"})
    void layerByLayerHasTheBitsOfMicroBatchByMicroBatch(String dtype, int lora) throws Exception {
        final TorchPolicy.Settings settings = Tiny.settings(dtype, 2, lora, 40);
        final Path model = Files.createDirectories(folder.resolve("untied"));
        try (TorchPolicy policy = Tiny.policy(folder, Tiny.sliding(3).untied(), Tiny.settings(), 5)) {
            policy.save(model);
        }
        final List<List<List<Object>>> seen = new ArrayList<>();
        for (Sharding sharding : List.of(Sharding.STATE, Sharding.GRADIENTS, Sharding.WEIGHTS)) {
            seen.add(ranks(2, ranks -> {
                try (TorchPolicy policy = TorchPolicy.load(model, settings, new TeamMemory(false, false, 0, ranks, sharding))) {
                    policy.ready();
                    final List<Object> numbers = new ArrayList<>();
                    for (Batch batch : List.of(Tiny.batch(policy, 9, 6, 1), Tiny.groups(policy, 3, 4, 4, 1))) {
                        try (Policy.Snapshot anchor = policy.anchor()) {
                            for (int step = 0; step < 3; step++) {
                                final Policy.Gradient gradient = policy.gradient(batch, 0.8,
                                        SurrogateConfig.PAPER.withKl(SurrogateConfig.KlTerm.EXACT, 0.1), anchor);
                                numbers.add(gradient.scores().kl()[7]);
                                numbers.add(policy.step(1e-3));
                                numbers.add(policy.fingerprint());
                            }
                            numbers.add(policy.score(batch, 0.8, anchor, Policy.Precision.F32).kl()[5]);
                        }
                    }
                    return numbers;
                }
            }));
        }
        // f32 weights are whole in the first two, and checksums the same all the same: they are of the same bytes
        assertEquals(seen.get(0), seen.get(1));
        assertEquals(seen.get(0), seen.get(2));
    }

    /** Where nobody has made ready, weights that are divided are not guessed. */
    @Test
    void dividedWeightsDoNotSpeakUntilTheyAreReady() throws Exception {
        final Path model = Tiny.saved(folder);
        ranks(2, ranks -> {
            try (TorchPolicy policy = TorchPolicy.load(model, Tiny.settings(), new TeamMemory(true, false, 0, ranks, Sharding.WEIGHTS))) {
                final String said = assertThrows(IllegalStateException.class, () -> Tiny.batch(policy, 1, 2, 1)).getMessage();
                assertTrue(said.contains("expected a call of ready() before generate"), said);
                policy.ready();
                return Tiny.batch(policy, 1, 2, 1).tokens();
            }
        });
    }
}
