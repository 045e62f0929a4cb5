package org.teamtr.torch;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Device;
import org.bytedeco.pytorch.NoGradGuard;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch.ScalarType;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.teamtr.model.ModelConfig;
import org.teamtr.team.Utterance;

/** The decoders of one token at a time against the one of whole sequences, and rows that come and go. */
class NextTokenTest {
    private static final int LENGTH = 9;
    private static final int PROMPT = 4;

    @TempDir
    private static Path folder;

    private static Map<String, Tensor> weights(TorchPolicy policy) {
        return policy.state.base == null ? policy.state.weights.compute() : new LazyTensors(name -> policy.state.weights.compute()
                .getOrDefault(name, policy.state.base.compute().get(name)));
    }

    private static Tensor ids() {
        final long[] ids = new long[3 * LENGTH];
        Arrays.setAll(ids, i -> 2 + (7L * i * i + i) % (Tiny.VOCAB - 2));
        return Tensor.create(ids, 3, LENGTH);
    }

    /** [token][row * vocab], one row after the other; the last row has two columns of padding before it. */
    private static List<float[]> logits(ModelConfig c, Map<String, Tensor> w, double scale, ScalarType dtype, String how) {
        final List<float[]> logits = new ArrayList<>();
        final int rows = 3;
        try (NoGradGuard guard = new NoGradGuard(); PointerScope scope = new PointerScope(); Device cpu = new Device("cpu");
                Decoder decoder = new Decoder(c, dtype, cpu, scale); KvCache cache = new KvCache(c, dtype, cpu);
                NextToken next = how.equals("host") ? new HostDecoder(c, decoder, w, dtype, cpu, scale, Tiny.VOCAB, rows)
                        : new StackedDecoder(c, decoder, w, dtype, cpu, scale, Tiny.VOCAB, rows + 1, false)) {
            final Tensor all = ids();
            if (how.equals("whole")) {
                for (int t = PROMPT; t < LENGTH; t++) {
                    final float[] step = new float[rows * Tiny.VOCAB];
                    for (int r = 0; r < rows; r++) {
                        final long from = r == rows - 1 ? 2 : 0;
                        final Tensor hidden = decoder.hidden(w, all.narrow(0, r, 1).narrow(1, from, t + 1 - from), null, null, null);
                        final Tensor row = decoder.logits(w, hidden.select(1, t - from)).narrow(1, 0, Tiny.VOCAB);
                        System.arraycopy(Tiny.floats(row), 0, step, r * Tiny.VOCAB, Tiny.VOCAB);
                    }
                    logits.add(step);
                }
                return logits;
            }
            cache.arrange(Tensor.create(new long[0]), rows, 0, PROMPT, LENGTH);
            decoder.hidden(w, all.narrow(0, 0, 2).narrow(1, 0, PROMPT), null, null, cache.part(0, 2, PROMPT));
            decoder.hidden(w, all.narrow(0, 2, 1).narrow(1, 2, PROMPT - 2), null, null, cache.part(2, 1, PROMPT - 2));
            final Tensor starts = Tensor.create(0L, 0L, 2L);
            for (int t = PROMPT; t < LENGTH; t++) {
                cache.reserve(t + 1);
                logits.add(Tiny.floats(next.logits(all.select(1, t).contiguous(), Tensor.create(t, t, t - 2L), starts, cache)));
            }
        }
        return logits;
    }

    @Test
    void aTokenAtATimeIsTheWholeSequence() throws IOException {
        final Map<String, ModelConfig> configs = new TreeMap<>(Map.of("qwen3", Tiny.qwen3(2), "qwen2", Tiny.qwen2(2), "llama", Tiny.llama(2),
                "mistral", Tiny.mistral(2), "sliding", Tiny.sliding(2)));
        for (Map.Entry<String, ModelConfig> config : configs.entrySet()) {
            for (TorchPolicy.Settings settings : new TorchPolicy.Settings[] {Tiny.settings(), Tiny.settings("f32", 1, 3, 8192),
                Tiny.lora(3, "k_proj", "up_proj", "down_proj"), Tiny.settings("bf16", 1, 3, 8192)}) {
                try (TorchPolicy policy = Tiny.policy(folder, config.getValue(), settings, 5)) {
                    if (policy.state.base != null) {
                        Tiny.scramble(policy.state.weights, 6);
                    }
                    final Map<String, Tensor> w = weights(policy);
                    final double scale = settings.lora().rank() == 0 ? 0 : 2;
                    final List<float[]> whole = logits(config.getValue(), w, scale, settings.scalarType(), "whole");
                    final boolean halves = settings.scalarType() != ScalarType.Float;
                    final List<float[]> exact = halves ? logits(config.getValue(), new LazyTensors(name -> w.get(name) == null ? null
                            : w.get(name).to(ScalarType.Float)), scale, ScalarType.Float, "whole") : whole;
                    final double bound = halves ? 1.5 * distance(exact, whole) : 1e-5;
                    for (String how : HostDecoder.serves(new Device("cpu")) ? new String[] {"host", "stacked"} : new String[] {"stacked"}) {
                        final double distance = distance(exact, logits(config.getValue(), w, scale, settings.scalarType(), how));
                        assertTrue(distance <= bound, config.getKey() + ", " + settings + ", " + how + ": " + distance + " beyond " + bound);
                    }
                }
            }
        }
    }

    /** Root mean square of the differences, of that of the numbers. */
    private static double distance(List<float[]> expected, List<float[]> given) {
        double sum = 0;
        double size = 0;
        for (int t = 0; t < expected.size(); t++) {
            assertEquals(expected.get(t).length, given.get(t).length);
            for (int i = 0; i < expected.get(t).length; i++) {
                sum += Math.pow(expected.get(t)[i] - given.get(t)[i], 2);
                size += Math.pow(expected.get(t)[i], 2);
            }
        }
        return Math.sqrt(sum / size);
    }

    /** The calls of one step, made again after tokens and positions have changed where they lie, are those of the next step. */
    @Test
    void aStepIsReplayed() throws IOException {
        for (ModelConfig c : new ModelConfig[] {Tiny.qwen3(2), Tiny.sliding(2)}) {
            for (TorchPolicy.Settings settings : new TorchPolicy.Settings[] {Tiny.settings(), Tiny.settings("bf16", 1, 3, 8192)}) {
                try (TorchPolicy policy = Tiny.policy(folder, c, settings, 5); NoGradGuard guard = new NoGradGuard();
                        PointerScope scope = new PointerScope(); Device cpu = new Device("cpu")) {
                    final ScalarType dtype = settings.scalarType();
                    final Map<String, Tensor> w = weights(policy);
                    final List<float[]> expected = logits(c, w, 2, dtype, "stacked");
                    try (Decoder decoder = new Decoder(c, dtype, cpu, 2); KvCache cache = new KvCache(c, dtype, cpu);
                            StackedDecoder stacked = new StackedDecoder(c, decoder, w, dtype, cpu, 2, Tiny.VOCAB, 3, false)) {
                        cache.arrange(Tensor.create(new long[0]), 3, 0, PROMPT, LENGTH);
                        final Tensor all = ids();
                        decoder.hidden(w, all.narrow(0, 0, 2).narrow(1, 0, PROMPT), null, null, cache.part(0, 2, PROMPT));
                        decoder.hidden(w, all.narrow(0, 2, 1).narrow(1, 2, PROMPT - 2), null, null, cache.part(2, 1, PROMPT - 2));
                        final Tensor tokens = all.select(1, PROMPT).contiguous();
                        final Tensor positions = Tensor.create(PROMPT, PROMPT, PROMPT - 2L);
                        final Tensor first = stacked.logits(tokens, positions, Tensor.create(0L, 0L, 2L), cache);
                        assertArrayEquals(expected.get(0), Tiny.floats(first));
                        for (int t = PROMPT + 1; t < LENGTH; t++) {
                            tokens.copy_(all.select(1, t));
                            positions.add_(new Scalar(1));
                            stacked.replay();
                            assertArrayEquals(expected.get(t - PROMPT), Tiny.floats(first), "token " + t);
                        }
                    }
                }
            }
        }
    }

    /** With fewer places than prompts, a row is what it is alone: whoever it shares the batch with, and whenever it comes. */
    @Test
    @Tag("slow") // where the kernels are CUDA's, on the host
    void rowsThatComeAndGo() throws IOException {
        final int n = 23;
        final List<int[]> prompts = Tiny.prompts(n, 3);
        try (TorchPolicy all = Tiny.policy(folder, Tiny.sliding(2), Tiny.settings(), 5)) {
            final List<Utterance> expected = all.generate(prompts, Tiny.generation(1.5, 40), 77, Tiny.ids(n));
            assertTrue(expected.stream().mapToInt(u -> u.tokens().length).distinct().count() > 5, "of many lengths");
            for (int rows : new int[] {1, 4, 7}) {
                for (int tokensAtOnce : new int[] {3, 8192}) { // long prompts go in piece by piece
                    final TorchPolicy.Settings s = all.settings;
                    final TorchPolicy.Settings fewer = new TorchPolicy.Settings(s.dtype(), s.matmul(), s.device(), 1 + rows % 2, s.lora(),
                            s.thinking(), s.adamW(), new TorchPolicy.AtOnce(tokensAtOnce, rows));
                    try (TorchPolicy policy = Tiny.policy(folder, Tiny.sliding(2), fewer, 5)) {
                        final List<Utterance> given = policy.generate(prompts, Tiny.generation(1.5, 40), 77, Tiny.ids(n));
                        for (int i = 0; i < n; i++) {
                            final String what = "row " + i + ", " + rows + " at once, " + tokensAtOnce + " tokens";
                            assertArrayEquals(expected.get(i).tokens(), given.get(i).tokens(), what);
                            assertArrayEquals(expected.get(i).logProbs(), given.get(i).logProbs(), 1e-4f, what);
                            assertEquals(expected.get(i).ended(), given.get(i).ended(), what);
                        }
                    }
                }
            }
        }
    }
}
