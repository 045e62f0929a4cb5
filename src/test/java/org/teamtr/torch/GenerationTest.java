package org.teamtr.torch;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.function.IntFunction;
import java.util.stream.Stream;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Device;
import org.bytedeco.pytorch.NoGradGuard;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch.ScalarType;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.api.io.TempDir;
import org.teamtr.kernels.Indices;
import org.teamtr.kernels.LogProbs;
import org.teamtr.kernels.Sampling;
import org.teamtr.kernels.SamplingConfig;
import org.teamtr.kernels.SurrogateConfig;
import org.teamtr.kernels.Temperature;
import org.teamtr.model.ModelConfig;
import org.teamtr.team.Generation;
import org.teamtr.team.Truncation;
import org.teamtr.team.Utterance;
import org.teamtr.train.Batch;
import org.teamtr.train.Policy;

/** Generation against a loop that computes the whole sequence anew for every token, with the same noise. */
class GenerationTest {
    private static final long SEED = 77;

    @TempDir
    private static Path folder;

    private static TorchPolicy policy(ModelConfig config) throws IOException {
        return Tiny.policy(folder, config, Tiny.settings(), 5);
    }

    /** Without cache, padding or neighbours; it checks on its way that the sampler's log-probs are those of {@link LogProbs}. */
    private static Utterance uncached(TorchPolicy policy, int[] prompt, Generation generation, long rowId) {
        int[] sequence = prompt;
        final float[] recorded = new float[generation.maxNewTokens()];
        boolean ended = false;
        final int vocab = Math.min(policy.config.embedding().vocab(), Tiny.VOCAB);
        try (NoGradGuard guard = new NoGradGuard(); Device cpu = new Device("cpu");
                Decoder decoder = new Decoder(policy.config, ScalarType.Float, cpu, 0)) {
            for (int step = 0; step < generation.maxNewTokens() && !ended; step++) {
                try (PointerScope scope = new PointerScope()) {
                    final Tensor ids = Tensor.create(Arrays.stream(sequence).asLongStream().toArray(), 1, sequence.length);
                    final Tensor hidden = decoder.hidden(policy.state.weights.compute(), ids, null, null, null);
                    final Tensor logits = decoder.logits(policy.state.weights.compute(), hidden.select(1, sequence.length - 1))
                            .narrow(1, 0, vocab);
                    final Tensor drawn = Tensor.create(new long[1]);
                    final Tensor logProb = Tensor.create(new float[1]);
                    final Indices token = TensorViews.indices(drawn);
                    Sampling.sample(TensorViews.logits(logits), Temperature.of((float) generation.temperature()),
                            generation.filter(), SEED, step, TensorViews.indices(Tensor.create(new long[] {rowId})), token,
                            TensorViews.floats(logProb), null);
                    final Tensor scored = Tensor.create(new float[1]);
                    final float t = generation.temperature() == 0 ? 1 : (float) generation.temperature();
                    LogProbs.forward(TensorViews.logits(logits), token, Temperature.of(t), TensorViews.floats(scored), null, null);
                    assertEquals(HostCopies.floats(scored)[0], HostCopies.floats(logProb)[0], PolicyDevice.CUDA ? 1e-6f : 0f,
                            "to the bit, but on CUDA, where sums are in another order");
                    sequence = Arrays.copyOf(sequence, sequence.length + 1);
                    sequence[sequence.length - 1] = (int) HostCopies.longs(drawn)[0];
                    recorded[step] = HostCopies.floats(logProb)[0];
                    ended = sequence[sequence.length - 1] == Tiny.END;
                }
            }
        }
        final int[] tokens = Arrays.copyOfRange(sequence, prompt.length, sequence.length);
        return new Utterance(prompt, tokens, Arrays.copyOf(recorded, tokens.length), "", ended, 0);
    }

    private static void same(Utterance expected, Utterance given, String what) {
        assertArrayEquals(expected.tokens(), given.tokens(), what);
        assertEquals(expected.ended(), given.ended(), what);
        assertArrayEquals(expected.logProbs(), given.logProbs(), 1e-4f, what);
    }

    private static void cachedIsUncached(IntFunction<ModelConfig> config) throws IOException {
        try (TorchPolicy policy = policy(config.apply(2))) {
            final List<int[]> prompts = Tiny.prompts(8, 1); // of different lengths: padded on the left
            final long[] ids = Tiny.ids(8);
            assertTrue(prompts.stream().mapToInt(p -> p.length).distinct().count() > 3);
            for (Generation generation : new Generation[] {Tiny.generation(1, 24), Tiny.generation(0.7, 24),
                new Generation(1.2, SamplingConfig.ALL.withTopK(5).withTopP(0.9f), 16, Truncation.ERROR), Tiny.generation(0, 16)}) {
                final List<Utterance> batch = policy.generate(prompts, generation, SEED, ids);
                for (int i = 0; i < prompts.size(); i++) {
                    final String what = policy.config.modelType() + ", T = " + generation.temperature() + ", row " + i;
                    same(uncached(policy, prompts.get(i), generation, ids[i]), batch.get(i), what);
                    assertArrayEquals(prompts.get(i), batch.get(i).prompt());
                    assertEquals(0, batch.get(i).version());
                    assertEquals(policy.tokenizer.decode(batch.get(i).tokens()), batch.get(i).text());
                }
            }
        }
    }

    @Test
    void cachedIsUncachedOfQwen3() throws IOException {
        cachedIsUncached(Tiny::qwen3);
    }

    @Test
    @Tag("slow")
    void cachedIsUncachedOfQwen2() throws IOException {
        cachedIsUncached(Tiny::qwen2);
    }

    @Test
    @Tag("slow")
    void cachedIsUncachedOfLlama() throws IOException {
        cachedIsUncached(Tiny::llama);
    }

    @Test
    void cachedIsUncachedOfWindows() throws IOException {
        cachedIsUncached(Tiny::mistral);
        cachedIsUncached(Tiny::sliding);
    }

    @Test
    void promptsOfOneLengthNeedNoPadding() throws IOException {
        try (TorchPolicy policy = policy(Tiny.qwen3(2))) {
            final List<int[]> prompts = List.of(new int[] {5, 6, 7}, new int[] {8, 9, 10}, new int[] {11, 12, 13});
            final List<Utterance> batch = policy.generate(prompts, Tiny.generation(1, 20), SEED, Tiny.ids(3));
            for (int i = 0; i < 3; i++) {
                same(uncached(policy, prompts.get(i), Tiny.generation(1, 20), Tiny.ids(3)[i]), batch.get(i), "row " + i);
            }
        }
    }

    /** A prompt of several rows goes in once: every row stays what it is alone, also where rows come when others have ended. */
    @Test
    void promptsThatRowsHaveInCommon() throws IOException {
        final List<int[]> three = Tiny.prompts(3, 4);
        final List<int[]> prompts = Stream.of(0, 0, 1, 2, 1, 0, 2, 2).map(three::get).toList();
        final long[] ids = Tiny.ids(prompts.size());
        final Generation generation = Tiny.generation(1, 20);
        for (ModelConfig config : List.of(Tiny.qwen3(2), Tiny.mistral(2))) {
            for (int rows : new int[] {0, 4}) {
                try (TorchPolicy policy = Tiny.policy(folder, config, Tiny.settings().with(new TorchPolicy.AtOnce(25, rows)), 5)) {
                    final List<Utterance> batch = policy.generate(prompts, generation, SEED, ids);
                    for (int i = 0; i < prompts.size(); i++) {
                        same(uncached(policy, prompts.get(i), generation, ids[i]), batch.get(i), config.modelType() + ", row " + i);
                    }
                }
            }
        }
    }

    /** Prompts go in a few at a time, and the cache grows: neither shows in what is said. */
    @Test
    @Tag("slow")
    void promptsInPartsAndACacheThatGrows() throws IOException {
        final ModelConfig longer = ModelConfig.qwen3(Tiny.VOCAB, 16, 24, 2, 2, 1, 8, 400);
        for (boolean padded : new boolean[] {true, false}) {
            final List<int[]> prompts = padded ? Tiny.prompts(5, 9) : List.of(new int[] {5, 6}, new int[] {7, 8}, new int[] {9, 3});
            final long[] ids = Tiny.ids(prompts.size());
            final Generation generation = Tiny.generation(0, 110);
            try (TorchPolicy policy = Tiny.policy(folder, longer, Tiny.settings("f32", 1, 0, 13), 5)) {
                final float[] values = Tiny.floats(policy.state.weights.master);
                Arrays.fill(values, Tiny.END * longer.hidden(), (Tiny.END + 1) * longer.hidden(), 0f); // never the likeliest
                Tiny.write(policy.state.weights, values);
                final List<Utterance> batch = policy.generate(prompts, generation, SEED, ids);
                assertTrue(batch.stream().allMatch(m -> m.tokens().length == 110), "beyond the room that it begins with");
                for (int i = 0; i < prompts.size(); i++) {
                    same(uncached(policy, prompts.get(i), generation, ids[i]), batch.get(i), "row " + i);
                }
            }
        }
    }

    /** Rows end at different steps, so the batch is cut down several times; every row stays what it is alone. */
    @Test
    @Tag("slow")
    void rowsThatEndEarlyLeaveTheBatch() throws IOException {
        try (TorchPolicy policy = policy(Tiny.qwen3(1)); TorchPolicy two = Tiny.policy(folder, Tiny.qwen3(1),
                Tiny.settings("f32", 2, 0, 8192), 5)) {
            final int n = 16;
            final List<int[]> prompts = Tiny.prompts(n, 3);
            final long[] ids = Tiny.ids(n);
            final Generation generation = Tiny.generation(1.5, 80);
            final List<Utterance> batch = policy.generate(prompts, generation, SEED, ids);
            final List<Utterance> halves = two.generate(prompts, generation, SEED, ids);
            for (int i = 0; i < n; i++) {
                final List<Utterance> alone = policy.generate(prompts.subList(i, i + 1), generation, SEED, new long[] {ids[i]});
                assertEquals(1, alone.size());
                same(alone.get(0), batch.get(i), "row " + i);
                same(alone.get(0), halves.get(i), "row " + i + " with two threads");
                for (int t = 0; t < batch.get(i).tokens().length - 1; t++) {
                    assertNotEquals(Tiny.END, batch.get(i).tokens()[t], "nothing comes after the end");
                }
                assertEquals(batch.get(i).ended(), batch.get(i).tokens()[batch.get(i).tokens().length - 1] == Tiny.END);
            }
            final int[] lengths = batch.stream().mapToInt(u -> u.tokens().length).sorted().toArray();
            assertTrue(lengths[n / 2 - 1] < lengths[3 * n / 4 - 1] && lengths[3 * n / 4 - 1] < lengths[n - 1],
                    "expected at least two halvings, given " + Arrays.toString(lengths));
        }
    }

    @Test
    void lengthLimitCuts() throws IOException {
        try (TorchPolicy policy = policy(Tiny.qwen3(1))) {
            final List<Utterance> longer = policy.generate(Tiny.prompts(12, 4), Tiny.generation(1, 30), SEED, Tiny.ids(12));
            for (int limit : new int[] {1, 2, 17}) {
                final List<Utterance> cut = policy.generate(Tiny.prompts(12, 4), Tiny.generation(1, limit), SEED, Tiny.ids(12));
                for (int i = 0; i < 12; i++) {
                    final int[] all = longer.get(i).tokens();
                    assertArrayEquals(Arrays.copyOf(all, Math.min(limit, all.length)), cut.get(i).tokens());
                    assertEquals(longer.get(i).ended() && all.length <= limit, cut.get(i).ended());
                }
            }
            assertTrue(policy.generate(List.of(), Tiny.generation(1, 3), SEED, new long[0]).isEmpty());
        }
    }

    @Test
    void temperatureZeroTakesTheLikeliestWhateverTheNoise() throws IOException {
        try (TorchPolicy policy = policy(Tiny.qwen2(2))) {
            final List<Utterance> a = policy.generate(Tiny.prompts(6, 2), Tiny.generation(0, 12), 1, Tiny.ids(6));
            final List<Utterance> b = policy.generate(Tiny.prompts(6, 2), Tiny.generation(0, 12), 2, new long[] {6, 5, 4, 3, 2, 1});
            final DecoderReference reference = new DecoderReference(policy.config, Tiny.doubles(policy.state.weights));
            for (int i = 0; i < 6; i++) {
                assertArrayEquals(a.get(i).tokens(), b.get(i).tokens());
                int[] sequence = a.get(i).prompt();
                for (int token : a.get(i).tokens()) {
                    final double[] logits = reference.logits(sequence)[sequence.length - 1];
                    for (double x : logits) {
                        assertTrue(x <= logits[token] + 1e-5, "row " + i);
                    }
                    sequence = Arrays.copyOf(sequence, sequence.length + 1);
                    sequence[sequence.length - 1] = token;
                }
            }
        }
    }

    @Test
    void recordedLogProbsAreThoseOfScoring() throws IOException {
        double worst = 0;
        for (ModelConfig config : new ModelConfig[] {Tiny.qwen3(2), Tiny.qwen2(2), Tiny.llama(2)}) {
            try (TorchPolicy policy = policy(config)) {
                for (double temperature : new double[] {1, 0.6}) {
                    final Batch batch = Tiny.batch(policy.generate(Tiny.prompts(12, 6), Tiny.generation(temperature, 40), SEED,
                            Tiny.ids(12)));
                    final Policy.Scores scores = policy.score(batch, temperature, null);
                    for (int t = 0; t < batch.tokens(); t++) {
                        worst = Math.max(worst, Math.abs(batch.logProbsOld()[t] - scores.logProbs()[t]));
                    }
                }
            }
        }
        System.out.printf("recorded and scored log-probs differ by at most %.1e%n", worst);
        assertTrue(worst <= 1e-4, "given " + worst);
    }

    /** In the reference implementation every row of a batch got the output of row 0. */
    @Test
    void rowsDoNotGetTheOutputOfRow0() throws IOException {
        try (TorchPolicy policy = policy(Tiny.qwen3(2))) {
            final int[] prompt = {5, 6, 7, 8};
            final List<Utterance> batch = policy.generate(List.of(prompt, prompt, prompt, prompt, prompt, prompt),
                    Tiny.generation(1, 24), SEED, new long[] {1, 2, 3, 4, 5, 1});
            final Set<List<Integer>> different = new HashSet<>();
            for (int i = 0; i < 5; i++) {
                assertTrue(different.add(Arrays.stream(batch.get(i).tokens()).boxed().toList()), "row " + i + " is another row");
            }
            assertArrayEquals(batch.get(0).tokens(), batch.get(5).tokens(), "one prompt and one row id are one message");
            // And each of the different prompts gets an answer to itself.
            final List<int[]> prompts = List.of(new int[] {2, 3}, new int[] {20, 21, 22}, new int[] {30});
            final List<Utterance> greedy = policy.generate(prompts, Tiny.generation(0, 8), SEED, new long[] {0, 0, 0});
            for (int i = 0; i < 3; i++) {
                same(uncached(policy, prompts.get(i), Tiny.generation(0, 8), 0), greedy.get(i), "row " + i);
            }
            assertFalse(Arrays.equals(greedy.get(0).tokens(), greedy.get(1).tokens()));
        }
    }

    /** A model with more columns than the tokenizer has tokens; the columns beyond are made the likeliest by far. */
    @Test
    void paddedColumnsDoNotCount() throws IOException {
        for (boolean tied : new boolean[] {true, false}) {
            final ModelConfig more = ModelConfig.qwen3(Tiny.VOCAB + 24, 32, 48, 2, 4, 2, 10, 96);
            final ModelConfig c = tied ? more : more.untied();
            try (TorchPolicy policy = policy(c)) {
                final Layout.Part head = policy.state.weights.layout.parts.get(tied ? "model.embed_tokens.weight" : "lm_head.weight");
                final int from = (int) head.offset() + Tiny.VOCAB * c.hidden();
                final int to = (int) (head.offset() + head.length());
                final float[] values = Tiny.floats(policy.state.weights.master);
                for (int i = from; i < to; i++) {
                    values[i] *= 100;
                }
                Tiny.write(policy.state.weights, values);
                final List<Utterance> messages = policy.generate(Tiny.prompts(8, 7), Tiny.generation(1, 20), SEED, Tiny.ids(8));
                final DecoderReference reference = new DecoderReference(c, Tiny.doubles(policy.state.weights));
                double beyond = Double.NEGATIVE_INFINITY;
                for (Utterance message : messages) {
                    final int[] sequence = Arrays.copyOf(message.prompt(), message.prompt().length + message.tokens().length);
                    System.arraycopy(message.tokens(), 0, sequence, message.prompt().length, message.tokens().length);
                    final double[][] logits = reference.logits(sequence);
                    for (int t = 0; t < message.tokens().length; t++) {
                        assertTrue(message.tokens()[t] < Tiny.VOCAB, "token " + message.tokens()[t]);
                        final double[] row = logits[message.prompt().length - 1 + t];
                        beyond = Math.max(beyond, Arrays.stream(row, Tiny.VOCAB, row.length).max().orElseThrow());
                        final double sum = Arrays.stream(row, 0, Tiny.VOCAB).map(Math::exp).sum();
                        assertEquals(row[message.tokens()[t]] - Math.log(sum), message.logProbs()[t], 1e-4);
                    }
                }
                assertTrue(beyond > 20, "they would have been sampled: largest logit " + beyond);

                final Batch batch = Tiny.batch(messages);
                policy.gradient(batch, 1, SurrogateConfig.PAPER, null);
                noGradientBeyond(policy, from, to);
                policy.imitate(messages);
                noGradientBeyond(policy, from, to);
            }
        }
    }

    private static void noGradientBeyond(TorchPolicy policy, int from, int to) {
        final float[] gradient = Tiny.floats(policy.state.gradient);
        for (int i = from; i < to; i++) {
            assertEquals(0f, gradient[i]);
        }
        assertTrue(Arrays.stream(new int[] {0, 1, 2}).anyMatch(i -> gradient[from - 1 - i] != 0), "the last row that counts");
    }

    @Test
    void weightsThatAreNoNumbersAreAnArithmeticException() throws IOException {
        for (int threads : new int[] {1, 2}) {
            for (float bad : new float[] {Float.NaN, Float.POSITIVE_INFINITY}) {
                try (TorchPolicy policy = Tiny.policy(folder, Tiny.qwen3(2), Tiny.settings("f32", threads, 0, 8192), 5)) {
                    final float[] values = Tiny.floats(policy.state.weights.master);
                    values[(int) policy.state.weights.layout.parts.get("model.layers.1.mlp.up_proj.weight").offset() + 3] = bad;
                    final float[] good = Tiny.floats(policy.state.weights.master);
                    Tiny.write(policy.state.weights, values);
                    final String logits = assertThrows(ArithmeticException.class, () -> policy.generate(Tiny.prompts(4, 1),
                            Tiny.generation(1, 4), SEED, Tiny.ids(4))).getMessage();
                    assertTrue(logits.startsWith("logits: expected numbers"), logits);
                    policy.imitate(List.of(new Utterance(new int[] {3}, new int[] {4, 5}, new float[2], "", false, 0)));
                    final String gradient = assertThrows(ArithmeticException.class, () -> policy.step(1e-3)).getMessage();
                    assertTrue(gradient.startsWith("gradient: "), gradient);
                    assertEquals(0, policy.version());
                    Tiny.write(policy.state.weights, good);
                    assertEquals(4, policy.generate(Tiny.prompts(4, 1), Tiny.generation(1, 4), SEED, Tiny.ids(4)).size());
                }
            }
        }
    }

    @Test
    void argumentsThatDoNotFitAreNamed() throws IOException {
        try (TorchPolicy policy = policy(Tiny.qwen3(1))) {
            assertMessage("rowIds: expected 3, one per prompt, given 2",
                    () -> policy.generate(Tiny.prompts(3, 1), Tiny.generation(1, 4), SEED, new long[2]));
            assertMessage("prompts[1]: expected 1 to 76 tokens, which leave room for 20 of the context's 96, given 77",
                    () -> policy.generate(List.of(new int[3], new int[77]), Tiny.generation(1, 20), SEED, new long[2]));
            assertMessage("prompts[0]: expected 1 to 76 tokens, which leave room for 20 of the context's 96, given 0",
                    () -> policy.generate(List.of(new int[0], new int[7]), Tiny.generation(1, 20), SEED, new long[2]));
            assertMessage("prompts[0]: expected tokens from 0 to 39, given 40",
                    () -> policy.generate(List.of(new int[] {3, 40}), Tiny.generation(1, 20), SEED, new long[1]));
            assertEquals(1, policy.generate(List.of(new int[76]), Tiny.generation(1, 20), SEED, new long[1]).size());
        }
    }

    private static void assertMessage(String expected, Executable call) {
        assertEquals(expected, assertThrows(IllegalArgumentException.class, call).getMessage());
    }
}
