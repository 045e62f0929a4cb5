package org.teamtr.torch;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.UnaryOperator;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.NoGradGuard;
import org.bytedeco.pytorch.Scalar;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.teamtr.chat.Tokenizer;
import org.teamtr.kernels.SurrogateConfig.KlTerm;
import org.teamtr.kernels.SurrogateConfig;
import org.teamtr.model.ModelConfig;
import org.teamtr.team.Utterance;
import org.teamtr.train.Batch;
import org.teamtr.train.Policy;

/** The exact KL of a policy from another one: of other sizes, family and head, and asked with other prompts. */
class AnchorTest {
    private static final double TEMPERATURE = 0.8;

    @TempDir
    private static Path folder;

    /** What the incumbent said and, of the same tokens, what the new policy is asked. */
    private static List<Utterance> lessons(TorchPolicy incumbent, Map<Utterance, Utterance> said) {
        final List<Utterance> lessons = new ArrayList<>();
        final List<int[]> others = Tiny.prompts(7, 21);
        for (Utterance m : incumbent.generate(Tiny.prompts(7, 8), Tiny.generation(TEMPERATURE, 6), 3, Tiny.ids(7))) {
            final Utterance lesson = new Utterance(others.get(lessons.size()), m.tokens(), m.logProbs(), m.text(), m.ended(), 0);
            lessons.add(lesson);
            said.put(lesson, m);
        }
        return lessons;
    }

    private static Batch batch(List<Utterance> lessons) {
        return Batch.of(lessons, new float[lessons.size()], new float[lessons.size()]);
    }

    /** log-probs of every token after a prompt, each asked for as a message of its own. */
    private static double[] distribution(TorchPolicy policy, int[] prompt, int[] message, int upTo) {
        final int[] asked = new int[prompt.length + upTo];
        System.arraycopy(prompt, 0, asked, 0, prompt.length);
        System.arraycopy(message, 0, asked, prompt.length, upTo);
        final List<Utterance> one = new ArrayList<>();
        for (int v = 0; v < Tiny.VOCAB; v++) {
            one.add(new Utterance(asked, new int[] {v}, new float[1], "", true, 0));
        }
        final float[] logProbs = policy.score(batch(one), TEMPERATURE, null).logProbs();
        final double[] wide = new double[logProbs.length];
        for (int v = 0; v < wide.length; v++) {
            wide[v] = logProbs[v];
        }
        return wide;
    }

    @Test
    @Tag("slow")
    void klFromAPolicyOfAnotherShape() throws IOException {
        for (ModelConfig other : List.of(Tiny.qwen2(1), Tiny.llama(2))) {
            try (TorchPolicy incumbent = Tiny.policy(folder, other, Tiny.settings(), 5);
                    TorchPolicy fresh = Tiny.policy(folder, Tiny.qwen3(2), Tiny.settings("f32", 1, 0, 40), 6)) {
                final Map<Utterance, Utterance> said = new IdentityHashMap<>();
                final List<Utterance> lessons = lessons(incumbent, said);
                final Batch batch = batch(lessons);
                final float[] kl;
                try (Policy.Snapshot anchor = incumbent.anchor(said::get)) {
                    kl = fresh.score(batch, TEMPERATURE, anchor).kl();
                    assertArrayEquals(kl, fresh.gradient(batch, TEMPERATURE, SurrogateConfig.PAPER.withKl(KlTerm.EXACT, 1),
                            anchor).scores().kl());
                }
                for (int m = 0; m < lessons.size(); m++) {
                    final Utterance lesson = lessons.get(m);
                    for (int u = 0; u < lesson.tokens().length; u++) {
                        final double[] p = distribution(incumbent, said.get(lesson).prompt(), lesson.tokens(), u);
                        final double[] q = distribution(fresh, lesson.prompt(), lesson.tokens(), u);
                        double expected = 0;
                        for (int v = 0; v < p.length; v++) {
                            expected += Math.exp(p[v]) * (p[v] - q[v]);
                        }
                        assertTrue(expected > 0.01, "two unrelated policies differ");
                        assertEquals(expected, kl[(int) batch.cuSeqlens()[m] + u], 1e-4 * Math.max(1, expected));
                    }
                }
            }
        }
    }

    /** The gradient's length is the slope of the loss along it. */
    @Test
    void gradientOfThatKl() throws IOException {
        try (TorchPolicy incumbent = Tiny.policy(folder, Tiny.qwen2(1), Tiny.settings(), 5);
                TorchPolicy fresh = Tiny.policy(folder, Tiny.qwen3(1), Tiny.settings(), 6)) {
            final Map<Utterance, Utterance> said = new IdentityHashMap<>();
            final Batch batch = batch(lessons(incumbent, said));
            try (Policy.Snapshot anchor = incumbent.anchor(said::get)) {
                fresh.gradient(batch, TEMPERATURE, SurrogateConfig.PAPER.withKl(KlTerm.EXACT, 1), anchor);
                final double h = 2e-3;
                final double length = along(fresh, 0);
                along(fresh, h / length);
                final double up = loss(fresh, batch, anchor);
                along(fresh, -2 * h / length);
                final double down = loss(fresh, batch, anchor);
                assertEquals(length, (up - down) / (2 * h), 0.01 * length);
            }
        }
    }

    /** Moves the weights so many gradients up; returns the gradient's length. */
    private static double along(TorchPolicy policy, double by) {
        try (NoGradGuard guard = new NoGradGuard(); PointerScope scope = new PointerScope()) {
            policy.state.weights.master.add_(policy.state.gradient, new Scalar(by));
            return policy.state.gradient.norm().item_double();
        }
    }

    private static double loss(TorchPolicy policy, Batch batch, Policy.Snapshot anchor) {
        double sum = 0;
        for (float kl : policy.score(batch, TEMPERATURE, anchor).kl()) {
            sum += kl;
        }
        return sum / batch.size();
    }

    @Test
    void anAnchorFollowsItsPolicyAndASnapshotDoesNot() throws IOException {
        try (TorchPolicy policy = Tiny.policy(folder, Tiny.qwen3(1), Tiny.settings(), 5)) {
            final Batch batch = batch(lessons(policy, new IdentityHashMap<>()));
            try (Policy.Snapshot anchor = policy.anchor(UnaryOperator.identity()); Policy.Snapshot snapshot = policy.snapshot()) {
                assertArrayEquals(new float[batch.tokens()], policy.score(batch, TEMPERATURE, anchor).kl());
                policy.imitate(batch.messages());
                policy.step(0.01);
                try (Policy.Snapshot again = policy.anchor(UnaryOperator.identity())) {
                    assertArrayEquals(new float[batch.tokens()], policy.score(batch, TEMPERATURE, again).kl());
                }
                for (float kl : policy.score(batch, TEMPERATURE, snapshot).kl()) {
                    assertTrue(kl > 0);
                }
            }
        }
    }

    @Test
    void tokensHaveToBeTheSame() throws IOException {
        final Path permuted = Files.createDirectories(folder.resolve("permuted"));
        Tokenizer.writeCharacters(permuted, "zyxwvutsrqponmlkjihgfedcba .0123456789", List.of("<pad>", "<end>"), "<pad>",
                "<end>");
        final Path fewer = Files.createDirectories(folder.resolve("fewer"));
        Tokenizer.writeCharacters(fewer, "abc", List.of("<pad>", "<end>"), "<pad>", "<end>");
        final Path otherEnd = Files.createDirectories(folder.resolve("end"));
        Tokenizer.writeCharacters(otherEnd, "abcdefghijklmnopqrstuvwxyz .0123456789", List.of("<pad>", "<end>"), "<end>",
                "<pad>");
        try (TorchPolicy policy = Tiny.policy(folder, Tiny.qwen3(1), Tiny.settings(), 5);
                TorchPolicy same = Tiny.policy(folder, Tiny.llama(1), Tiny.settings(), 6);
                TorchPolicy other = TorchPolicy.random(Tiny.qwen3(1), Tokenizer.open(permuted), Tiny.settings(), 7);
                TorchPolicy end = TorchPolicy.random(Tiny.qwen3(1), Tokenizer.open(otherEnd), Tiny.settings(), 7);
                TorchPolicy small = TorchPolicy.random(Tiny.qwen3(1), Tokenizer.open(fewer), Tiny.settings(), 7)) {
            assertTrue(policy.sameTokens(same) && same.sameTokens(policy));
            assertFalse(policy.sameTokens(other));
            assertFalse(policy.sameTokens(end), "another token ends a message");
            assertFalse(policy.sameTokens(small) || small.sameTokens(policy));
            final Batch batch = batch(lessons(policy, new IdentityHashMap<>()));
            try (Policy.Snapshot anchor = small.anchor(UnaryOperator.identity())) {
                assertEquals("anchor: expected a policy of 40 tokens, as this one has, given one of 5",
                        assertThrows(IllegalArgumentException.class, () -> policy.score(batch, TEMPERATURE,
                                anchor)).getMessage());
            }
        }
    }
}
