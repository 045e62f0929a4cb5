package org.teamtr.torch;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.IntStream;
import org.bytedeco.javacpp.PointerScope;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.teamtr.kernels.SurrogateConfig;
import org.teamtr.model.ModelConfig;
import org.teamtr.team.Utterance;
import org.teamtr.train.Batch;
import org.teamtr.train.Policy;

/** Messages that share prompts, against the same messages one by one, of which each goes through the model with its own prompt. */
class SharedPromptsTest {
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
        assertTrue(MicroBatch.split(batch.messages(), 8192, 1).stream().allMatch(m -> m.prompts() != null), "they are shared");
        assertTrue(MicroBatch.split(batch.messages(), 1, 1).stream().allMatch(m -> m.prompts() == null), "one by one they are not");
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
            return Tiny.floats(policy.forward.hidden(policy.forward.decoder(Policy.Precision.SAME), policy.state.all(), micro));
        }
    }
}
