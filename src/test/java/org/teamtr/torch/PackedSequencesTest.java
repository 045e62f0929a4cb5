package org.teamtr.torch;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.function.Function;
import java.util.stream.IntStream;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Device;
import org.bytedeco.pytorch.LongOptional;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorVector;
import org.bytedeco.pytorch.global.torch;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.teamtr.kernels.SurrogateConfig;
import org.teamtr.model.ModelConfig;
import org.teamtr.team.Utterance;
import org.teamtr.train.Batch;
import org.teamtr.train.Policy;

/**
 * Packed sequences, with shared prompts and without, against the same messages one by one, against padded ones, and, in one call for all of
 * them, against one call for those of one length.
 */
class PackedSequencesTest {
    private static final SurrogateConfig LOSS = SurrogateConfig.PAPER.withKl(SurrogateConfig.KlTerm.EXACT, 0.3).withEntropyCoef(0.1);

    @TempDir
    private Path folder;

    private record Seen(Policy.Scores scores, float[] gradient) {
    }

    private Seen seen(ModelConfig config, int loraRank, int microBatchTokens, Batch given) throws IOException {
        try (TorchPolicy policy = Tiny.policy(folder, config, Tiny.settings("f32", 1, loraRank, microBatchTokens), 5);
                Policy.Snapshot anchor = policy.snapshot()) {
            Tiny.scramble(policy.state.weights, 6); // away from the anchor, whose hidden states are then computed too
            final Policy.Scores scores = policy.gradient(given, 0.8, LOSS, anchor).scores();
            return new Seen(scores, Tiny.floats(policy.state.gradient));
        }
    }

    private static void close(float[] expected, float[] given, double ofLargest, String what) {
        final double largest = IntStream.range(0, expected.length).mapToDouble(i -> Math.abs(expected[i])).max().orElseThrow();
        assertTrue(largest > 0, what);
        assertArrayEquals(expected, given, (float) (ofLargest * largest), what);
    }

    @ParameterizedTest
    @ValueSource(strings = {"qwen3", "qwen2", "llama", "mistral", "sliding", "adapters"})
    void areWholeSequences(String which) throws IOException {
        final ModelConfig config = switch (which) {
            case "qwen2" -> Tiny.qwen2(3);
            case "llama" -> Tiny.llama(3);
            case "mistral" -> Tiny.mistral(3);
            case "sliding" -> Tiny.sliding(3);
            default -> Tiny.qwen3(3);
        };
        final int rank = which.equals("adapters") ? 4 : 0;
        final Batch batch;
        try (TorchPolicy policy = Tiny.policy(folder, config, Tiny.settings(), 5)) {
            batch = Tiny.groups(policy, 4, 5, 9, 3);
        }
        assertTrue(MicroBatch.split(batch.messages(), 8192, 1).stream().allMatch(m -> m.shared().size() > 1), "they are shared");
        assertTrue(MicroBatch.split(batch.messages(), 1, 1).stream().allMatch(m -> m.shared().isEmpty()), "one by one they are not");
        final Seen alone = seen(config, rank, 1, batch);
        for (int tokens : new int[] {8192, 60}) { // all together, and some
            final Seen shared = seen(config, rank, tokens, batch);
            final String what = which + ", " + tokens;
            close(alone.scores.logProbs(), shared.scores.logProbs(), 5e-6, what);
            close(alone.scores.kl(), shared.scores.kl(), 2e-5, what);
            close(alone.scores.entropy(), shared.scores.entropy(), 5e-6, what);
            close(alone.gradient, shared.gradient, 2e-5, what);
        }
    }

    /** Prompts of one token leave nothing to share; an anchor may have others all the same. */
    @Test
    void anAnchorsPromptsMayBeOthers() throws IOException {
        try (TorchPolicy policy = Tiny.policy(folder, Tiny.qwen3(2), Tiny.settings(), 5)) {
            final Batch batch = Tiny.groups(policy, 3, 4, 6, 3);
            final MicroBatch micro = MicroBatch.split(batch.messages(), 8192, 1).get(0);
            for (int length : new int[] {1, 7}) {
                final MicroBatch other = micro.withPrompts(m -> new Utterance(
                        IntStream.range(0, length).map(i -> 2 + (i + m.prompt().length) % 30).toArray(), m.tokens(), m.logProbs(), m.text(), true,
                        0));
                final float[] together = hidden(policy, other);
                final List<MicroBatch> alone = MicroBatch.split(other.messages(), 1, 1);
                int at = 0;
                for (int m = 0; m < other.messages().size(); m++) {
                    final int index = m;
                    final float[] one = hidden(policy, alone.stream().filter(a -> a.indices()[0] == index).findFirst().orElseThrow());
                    for (float x : one) {
                        assertTrue(Math.abs(x - together[at]) < 2e-5, "message " + m + ": " + x + " is not " + together[at]);
                        at++;
                    }
                }
            }
        }
    }

    private static float[] hidden(TorchPolicy policy, MicroBatch micro) {
        try (PointerScope scope = new PointerScope()) {
            return Tiny.floats(policy.forward.hidden(policy.forward.decoder(Policy.Precision.SAME), policy.state.all(), packed(micro)));
        }
    }

    private static PackedSequences packed(MicroBatch micro) {
        return PackedSequences.of(List.of(micro), part -> true, new Device("cpu")).get(0);
    }

    /** A model with room for more queries than are masked at once. */
    private static ModelConfig wide(boolean sliding) {
        final ModelConfig c = sliding ? Tiny.sliding(2) : Tiny.qwen3(2);
        final ModelConfig.Attention a = c.attention();
        return new ModelConfig("qwen3", c.embedding(), c.hidden(), 2, new ModelConfig.Attention(a.heads(), a.kvHeads(), a.headDim(), false, false,
                true, sliding ? new ModelConfig.Window(70, List.of(true, false)) : null), c.feedForward(), new ModelConfig.Rope(2048, 1e6, null),
                c.normEps());
    }

    private static Utterance message(SplittableRandom random, int[] prompt, int tokens) {
        return new Utterance(prompt, random.ints(tokens, 0, Tiny.VOCAB).toArray(), new float[tokens], "", true, 0);
    }

    /** Two long messages after one long prompt, a message of one token after another prompt, two of one length, one longer than all. */
    private static List<Utterance> messages(long seed) {
        final SplittableRandom random = new SplittableRandom(seed);
        final int[] prompt = random.ints(330, 0, Tiny.VOCAB).toArray();
        return List.of(message(random, prompt, 520), message(random, prompt, 31), message(random, new int[] {3}, 1),
                message(random, new int[] {4, 5}, 40), message(random, new int[] {5, 4}, 40), message(random, new int[] {6}, 700));
    }

    /** [tokens of the messages, hidden], by the decoder's own way for rows of one length, each padded on the right to the longest. */
    private static Tensor padded(Decoder decoder, Map<String, Tensor> w, MicroBatch micro) {
        final int width = micro.messages().stream().mapToInt(m -> m.prompt().length + m.tokens().length).max().orElseThrow();
        final long[] ids = new long[micro.messages().size() * width];
        final List<Long> asked = new ArrayList<>();
        for (int m = 0; m < micro.messages().size(); m++) {
            final Utterance message = micro.messages().get(m);
            final int[] whole = IntStream.concat(Arrays.stream(message.prompt()), Arrays.stream(message.tokens())).toArray();
            for (int i = 0; i < whole.length; i++) {
                ids[m * width + i] = whole[i];
            }
            for (int u = 0; u < message.tokens().length; u++) {
                asked.add((long) m * width + message.prompt().length - 1 + u);
            }
        }
        final Tensor hidden = decoder.hidden(w, Tensor.create(ids, micro.messages().size(), width), null, null, null);
        return hidden.reshape(-1, hidden.size(2)).index_select(0,
                Tensor.create(asked.stream().mapToLong(Long::longValue).toArray(), asked.size()));
    }

    /** Hidden states, then the gradients of all weights, of a sum of the states with random factors. */
    private static List<float[]> statesAndGradients(Weights weights, Function<Map<String, Tensor>, Tensor> pass) {
        final List<float[]> all = new ArrayList<>();
        try (PointerScope scope = new PointerScope()) {
            final Map<String, Tensor> leaves = weights.leaves();
            final Tensor hidden = pass.apply(leaves);
            final SplittableRandom random = new SplittableRandom(9);
            final float[] slope = new float[(int) hidden.numel()];
            for (int i = 0; i < slope.length; i++) {
                slope[i] = (float) random.nextGaussian();
            }
            LayerPass.backpropagate(hidden, Tensor.create(slope, hidden.size(0), hidden.size(1)));
            all.add(Tiny.floats(hidden));
            weights.layout.parts.keySet().forEach(name -> all.add(Tiny.floats(leaves.get(name).grad())));
        }
        return all;
    }

    private static void close(List<float[]> expected, List<float[]> given, String what) {
        assertEquals(expected.size(), given.size());
        for (int i = 0; i < expected.size(); i++) {
            close(expected.get(i), given.get(i), 3e-5, what + ", " + i);
        }
    }

    @ParameterizedTest
    @ValueSource(booleans = {false, true})
    void arePaddedOnes(boolean sliding) throws IOException {
        try (TorchPolicy policy = Tiny.policy(folder, wide(sliding), Tiny.settings(), 5)) {
            final MicroBatch micro = MicroBatch.split(messages(1), 8192, 1).get(0);
            assertEquals(6, micro.messages().size());
            assertEquals(1, micro.shared().size());
            final Decoder decoder = policy.forward.decoder(Policy.Precision.SAME);
            close(statesAndGradients(policy.state.weights, w -> padded(decoder, w, micro)),
                    statesAndGradients(policy.state.weights, w -> policy.forward.hidden(decoder, w, packed(micro))), "sliding " + sliding);
        }
    }

    /**
     * What the CUDA kernels are documented to compute, from the same arguments: each sequence's last query attends to its last key, and none to
     * more than {@code window} keys.
     */
    private static Tensor inOneCall(Tensor q, Tensor k, Tensor v, PackedSequences s, long window) {
        final int[] cuQueries = HostCopies.ints(s.cuQueries);
        final int[] cuKeys = HostCopies.ints(s.cuKeys);
        final long share = q.size(1) / k.size(1);
        final TensorVector out = new TensorVector();
        for (int i = 1; i < cuQueries.length; i++) {
            final int queries = cuQueries[i] - cuQueries[i - 1];
            final int keys = cuKeys[i] - cuKeys[i - 1];
            assertTrue(queries <= s.mostQueries && keys <= s.mostKeys);
            final float[] mask = new float[queries * keys];
            for (int a = 0; a < queries; a++) {
                for (int b = 0; b < keys; b++) {
                    final int ahead = keys - queries + a - b; // of the key
                    mask[a * keys + b] = ahead >= 0 && ahead < window ? 0 : Float.NEGATIVE_INFINITY;
                }
            }
            final Tensor own = q.narrow(0, cuQueries[i - 1], queries).transpose(0, 1);
            final Tensor ks = k.narrow(0, cuKeys[i - 1], keys).transpose(0, 1).repeat_interleave(share, new LongOptional(0), new LongOptional());
            final Tensor vs = v.narrow(0, cuKeys[i - 1], keys).transpose(0, 1).repeat_interleave(share, new LongOptional(0), new LongOptional());
            final Tensor scores = own.matmul(ks.transpose(1, 2)).div(new Scalar(Math.sqrt(q.size(2)))).add(Tensor.create(mask, queries, keys));
            out.push_back(scores.softmax(-1).matmul(vs).transpose(0, 1));
        }
        return torch.cat(out, 0);
    }

    @ParameterizedTest
    @ValueSource(booleans = {false, true})
    void areThoseOfOneCall(boolean sliding) throws IOException {
        final ModelConfig config = wide(sliding);
        try (Device cpu = new Device("cpu");
                TorchPolicy policy = Tiny.policy(folder, config, Tiny.settings(), 5);
                Decoder atOnce = new Decoder(config, torch.ScalarType.Float, cpu, 0, false, PackedSequencesTest::inOneCall)) {
            final MicroBatch micro = MicroBatch.split(messages(2), 8192, 1).get(0);
            close(statesAndGradients(policy.state.weights,
                    w -> policy.forward.hidden(policy.forward.decoder(Policy.Precision.SAME), w, packed(micro))),
                    statesAndGradients(policy.state.weights, w -> policy.forward.hidden(atOnce, w, packed(micro))), "sliding " + sliding);
        }
    }

    /** Without a GPU, libtorch takes the arguments of both operators, and then says that these have no kernel for the CPU. */
    @ParameterizedTest
    @ValueSource(strings = {"Half", "BFloat16", "Float"})
    void flashAttentionReachesLibtorch(String dtype) {
        final MicroBatch micro = MicroBatch.split(messages(3), 8192, 1).get(0);
        try (PointerScope scope = new PointerScope()) {
            final PackedSequences packed = packed(micro);
            final Tensor x = Decoder.empty(new long[] {packed.ids.numel(), 4, 16}, torch.ScalarType.valueOf(dtype), new Device("cpu")).zero_()
                    .set_requires_grad(true);
            final Tensor keys = packed.ofKeys(x);
            for (long window : new long[] {Long.MAX_VALUE, 40}) {
                final String told = assertThrows(RuntimeException.class, () -> FlashAttention.attended(x, keys, keys, packed, window)).getMessage();
                assertTrue(told.contains(dtype.equals("Float") ? "'aten::_efficient_attention_forward'" : "'aten::_flash_attention_forward'")
                        && told.contains("'CPU' backend"), told);
            }
        }
        assertTrue(FlashAttention.takes(torch.ScalarType.Half, 64, true));
        assertFalse(FlashAttention.takes(torch.ScalarType.BFloat16, 10, false));
        assertTrue(FlashAttention.takes(torch.ScalarType.Float, 10, false));
        assertFalse(FlashAttention.takes(torch.ScalarType.Float, 64, true));
    }

    /** How often the host waits for the device does not depend on the number of micro-batches. */
    @ParameterizedTest
    @ValueSource(ints = {0, 4})
    void microBatchesDoNotWait(int loraRank) throws IOException {
        final List<Long> waits = new ArrayList<>();
        final Batch batch;
        try (TorchPolicy policy = Tiny.policy(folder, Tiny.qwen3(2), Tiny.settings(), 5)) {
            batch = Tiny.groups(policy, 4, 5, 9, 3);
        }
        for (int tokens : new int[] {8192, 60, 1}) {
            try (TorchPolicy policy = Tiny.policy(folder, Tiny.qwen3(2), Tiny.settings("f32", 1, loraRank, tokens), 5);
                    Policy.Snapshot anchor = policy.snapshot()) {
                final long before = HostCopies.WAITS.sum();
                policy.gradient(batch, 0.8, LOSS, anchor);
                final long first = HostCopies.WAITS.sum();
                policy.step(1e-3);
                final long step = HostCopies.WAITS.sum();
                policy.gradient(batch, 0.8, LOSS, anchor);
                final long second = HostCopies.WAITS.sum();
                policy.score(batch, 0.8, anchor);
                final long score = HostCopies.WAITS.sum();
                policy.imitate(batch.messages());
                waits.add(HostCopies.WAITS.sum() - score);
                // Sequences, log-probs, advantages and the scores; the norm; sequences and scores; sequences and log-probs.
                assertEquals(List.of(4L, 1L, 4L, 2L), List.of(first - before, step - first, second - step, score - second), tokens + " tokens");
            }
        }
        assertEquals(List.of(2L, 2L, 2L), waits);
    }
}
