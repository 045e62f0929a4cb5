package org.teamtr.torch;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNotSame;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.AdamWOptions;
import org.bytedeco.pytorch.Device;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.ScalarOptional;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorVector;
import org.bytedeco.pytorch.global.torch.ScalarType;
import org.bytedeco.pytorch.global.torch;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.api.io.TempDir;
import org.teamtr.chat.Tokenizer;
import org.teamtr.kernels.SurrogateConfig.Aggregation;
import org.teamtr.kernels.SurrogateConfig.KlTerm;
import org.teamtr.kernels.SurrogateConfig.Ratio;
import org.teamtr.kernels.SurrogateConfig;
import org.teamtr.model.ModelConfig;
import org.teamtr.team.ChatTurn;
import org.teamtr.team.Utterance;
import org.teamtr.train.Batch;
import org.teamtr.train.Policy;
import org.teamtr.train.Sharding;

/** Learning: gradients against libtorch's autograd of the same loss in double, the optimiser against libtorch's, going back. */
class TorchPolicyTest {
    private static final double TEMPERATURE = 0.8;

    @TempDir
    private static Path folder;

    private static TorchPolicy policy(ModelConfig config) throws IOException {
        return Tiny.policy(folder, config, Tiny.settings(), 5);
    }

    /** Messages whose recorded log-probs are shifted, so that some ratios are clipped, on both sides, and others are not. */
    private static Batch shifted(TorchPolicy policy, int n) {
        final double[] shifts = {0.02, 0.5, -0.03, -0.6, 0.1, -0.1, 0.7};
        final List<Utterance> messages = new ArrayList<>();
        for (Utterance m : policy.generate(Tiny.prompts(n, 8), Tiny.generation(TEMPERATURE, 12), 3, Tiny.ids(n))) {
            final float[] logProbs = m.logProbs().clone();
            for (int t = 0; t < logProbs.length; t++) {
                logProbs[t] -= (float) (shifts[messages.size() % shifts.length] / logProbs.length * (1 + (t % 3 - 1) * 0.5));
            }
            messages.add(new Utterance(m.prompt(), m.tokens(), logProbs, m.text(), m.ended(), m.version()));
        }
        return Tiny.batch(messages);
    }

    /** Small random changes of everything that is trained. */
    private static void move(TorchPolicy policy, double size) {
        final SplittableRandom random = new SplittableRandom(4);
        final float[] values = Tiny.floats(policy.state.weights.master);
        for (int i = 0; i < values.length; i++) {
            values[i] += (float) (size * random.nextGaussian());
        }
        Tiny.write(policy.state.weights, values);
    }

    // ---- autograd ----

    /** Weights in double, those that are trained as leaves. */
    private static Map<String, Tensor> leaves(TorchPolicy policy) {
        final Map<String, Tensor> leaves = new HashMap<>();
        if (policy.state.base != null) {
            policy.state.base.compute().forEach((name, w) -> leaves.put(name, w.to(ScalarType.Double)));
        }
        policy.state.weights.compute().forEach((name, w) -> leaves.put(name, w.to(ScalarType.Double).clone().set_requires_grad(true)));
        return leaves;
    }

    private static Tensor logits(ModelConfig config, Decoder decoder, Map<String, Tensor> w, Utterance m) {
        final long[] ids = new long[m.prompt().length + m.tokens().length];
        for (int i = 0; i < ids.length; i++) {
            ids[i] = i < m.prompt().length ? m.prompt()[i] : m.tokens()[i - m.prompt().length];
        }
        final Tensor hidden = decoder.hidden(w, Tensor.create(ids, 1, ids.length), null, null, null)
                .view(ids.length, config.hidden());
        return decoder.logits(w, hidden.narrow(0, m.prompt().length - 1, m.tokens().length)).narrow(1, 0, Tiny.VOCAB);
    }

    private static Tensor logSoftmax(Tensor logits) {
        return torch.log_softmax(logits.div(new Scalar(TEMPERATURE)), 1);
    }

    private static Tensor targets(Utterance m) {
        return Tensor.create(Arrays.stream(m.tokens()).asLongStream().toArray(), m.tokens().length);
    }

    private static Decoder decoder(TorchPolicy policy, Device cpu) {
        return new Decoder(policy.config, ScalarType.Double, cpu,
                policy.state.base == null ? 0 : policy.settings.lora().alpha() / policy.settings.lora().rank());
    }

    /** Composed of torch's operations, message by message. {@code old} are the anchor's weights, or null. */
    private static Tensor loss(TorchPolicy policy, Decoder decoder, Map<String, Tensor> w, Map<String, Tensor> old, Batch batch,
            SurrogateConfig config) {
        Tensor loss = null;
        for (int i = 0; i < batch.size(); i++) {
            final Utterance m = batch.messages().get(i);
            final int n = m.tokens().length;
            final Tensor logProbs = logSoftmax(logits(policy.config, decoder, w, m));
            final Tensor picked = logProbs.gather(1, targets(m).unsqueeze(1)).squeeze(1);
            final Tensor difference = picked.sub(Tensor.create(m.logProbs(), n).to(ScalarType.Double));
            final Tensor ratio = (config.ratio() == Ratio.MESSAGE ? difference.sum().expand(n) : difference).exp();
            final Tensor clipped = torch.clamp(ratio, new ScalarOptional(new Scalar(1 - config.epsLow())),
                    new ScalarOptional(new Scalar(1 + config.epsHigh())));
            final Scalar a = new Scalar((double) batch.advantages()[i]);
            Tensor perToken = torch.minimum(ratio.mul(a), clipped.mul(a)).neg();
            if (config.entropyCoef() != 0) {
                perToken = perToken.add(logProbs.exp().mul(logProbs).sum(1), new Scalar(config.entropyCoef()));
            }
            final double share = config.aggregation() == Aggregation.TOKEN_MEAN ? batch.tokens() : (double) n * batch.size();
            Tensor part = perToken.sum().div(new Scalar(share));
            if (old != null && config.beta() != 0) {
                final Tensor then = logSoftmax(logits(policy.config, decoder, old, m)).detach();
                final Tensor kl = then.exp().mul(then.sub(logProbs)).sum();
                part = part.add(kl.div(new Scalar((double) batch.size())), new Scalar(config.beta()));
            }
            loss = loss == null ? part : loss.add(part);
        }
        return loss;
    }

    private static void sameGradient(TorchPolicy policy, Map<String, Tensor> leaves, String what) {
        final float[] given = Tiny.floats(policy.state.gradient);
        double largest = 0;
        for (float g : given) {
            largest = Math.max(largest, Math.abs(g));
        }
        assertTrue(largest > 1e-4, what + ": a gradient that says something");
        for (Map.Entry<String, Layout.Part> part : policy.state.weights.layout.parts.entrySet()) {
            final float[] expected = Tiny.floats(leaves.get(part.getKey()).grad());
            double of = 0;
            for (float e : expected) {
                of = Math.max(of, Math.abs(e));
            }
            for (int i = 0; i < expected.length; i++) {
                assertEquals(expected[i], given[(int) part.getValue().offset() + i], 2e-5 * of + 1e-6 * largest,
                        what + ", " + part.getKey() + "[" + i + "]");
            }
        }
    }

    private static void gradientIsThatOfAutograd(TorchPolicy policy) {
        final Batch batch = shifted(policy, 7);
        try (Policy.Snapshot anchor = policy.snapshot()) {
            final Map<String, Tensor> old = new HashMap<>();
            try (PointerScope all = new PointerScope(); Device cpu = new Device("cpu"); Decoder decoder = decoder(policy, cpu)) {
                leaves(policy).forEach((name, w) -> old.put(name, w.detach()));
                move(policy, 0.01);
                final SurrogateConfig withKl = SurrogateConfig.PAPER.withKl(KlTerm.EXACT, 0.3).withEntropyCoef(0.05);
                final SurrogateConfig perToken = SurrogateConfig.PAPER.withRatio(Ratio.TOKEN).withAggregation(Aggregation.TOKEN_MEAN)
                        .withClip(0.02, 0.03);
                for (SurrogateConfig config : List.of(SurrogateConfig.PAPER, withKl, perToken)) {
                    final Map<String, Tensor> leaves = leaves(policy);
                    loss(policy, decoder, leaves, old, batch, config).backward();
                    policy.gradient(batch, TEMPERATURE, config, config == withKl ? anchor : null);
                    sameGradient(policy, leaves, policy.config.modelType() + ", " + config);
                }
            }
        }
    }

    @Test
    void gradientIsThatOfAutogradForQwen3() throws IOException {
        try (TorchPolicy policy = policy(Tiny.qwen3(2))) {
            gradientIsThatOfAutograd(policy);
        }
    }

    @Test
    void gradientIsThatOfAutogradForQwen2() throws IOException {
        try (TorchPolicy policy = policy(Tiny.qwen2(2))) {
            gradientIsThatOfAutograd(policy);
        }
    }

    @Test
    void gradientIsThatOfAutogradForLlama() throws IOException {
        try (TorchPolicy policy = policy(Tiny.llama(2))) {
            gradientIsThatOfAutograd(policy);
        }
    }

    @Test
    void gradientIsThatOfAutogradForAdapters() throws IOException {
        try (TorchPolicy policy = Tiny.policy(folder, Tiny.qwen3(2), Tiny.settings("f32", 1, 3, 8192), 5)) {
            move(policy, 0.1); // B is zero no longer
            gradientIsThatOfAutograd(policy);
        }
    }

    /** What the batch above is made for: without clipped and unclipped messages of both signs the comparison would say less. */
    @Test
    void theBatchHasRatiosInsideAndOutsideTheClip() throws IOException {
        try (TorchPolicy policy = policy(Tiny.qwen3(2))) {
            final Batch batch = shifted(policy, 7);
            final float[] now = policy.score(batch, TEMPERATURE, null).logProbs();
            int inside = 0;
            int above = 0;
            int below = 0;
            for (int m = 0; m < batch.size(); m++) {
                double log = 0;
                for (int t = (int) batch.cuSeqlens()[m]; t < batch.cuSeqlens()[m + 1]; t++) {
                    log += now[t] - batch.logProbsOld()[t];
                }
                inside += Math.abs(log) < Math.log(1.2) ? 1 : 0;
                above += Math.exp(log) > 1.2 && batch.advantages()[m] > 0 ? 1 : 0;
                below += Math.exp(log) < 0.8 && batch.advantages()[m] < 0 ? 1 : 0;
            }
            assertTrue(inside >= 2 && above + below >= 1, inside + " inside, " + above + " above, " + below + " below");
        }
    }

    @Test
    void imitationIsCrossEntropy() throws IOException {
        try (TorchPolicy policy = policy(Tiny.qwen3(2)); PointerScope scope = new PointerScope(); Device cpu = new Device("cpu");
                Decoder decoder = decoder(policy, cpu)) {
            final List<Utterance> messages = shifted(policy, 7).messages();
            final long tokens = messages.stream().mapToLong(m -> m.tokens().length).sum();
            final Map<String, Tensor> leaves = leaves(policy);
            Tensor loss = null;
            for (Utterance m : messages) {
                final Tensor part = torch.cross_entropy_loss(logits(policy.config, decoder, leaves, m), targets(m))
                        .mul(new Scalar(m.tokens().length / (double) tokens));
                loss = loss == null ? part : loss.add(part);
            }
            loss.backward();
            assertEquals(loss.item_double(), policy.imitate(messages), 1e-5);
            sameGradient(policy, leaves, "imitate");
        }
    }

    private static Utterance message(int prompt, int... tokens) {
        return new Utterance(new int[prompt], tokens, new float[tokens.length], "", false, 0);
    }

    @Test
    void messagesThatDoNotFitAreNamed() throws IOException {
        try (TorchPolicy policy = policy(Tiny.qwen3(1))) {
            final Utterance good = message(95, 4, 5); // the last token is not read
            assertTrue(Double.isFinite(policy.imitate(List.of(good))));
            final String lengths = "messages[1]: expected a prompt and a message of 1 token or more and of 97 at most together, given ";
            final Map<Utterance, String> wrong = Map.of(
                    message(96, 4, 5), lengths + "96 and 2",
                    message(0, 4), lengths + "0 and 1",
                    message(3), lengths + "3 and 0",
                    message(3, 40), "messages[1].tokens: expected tokens from 0 to 39, given 40",
                    message(3, -1, 4), "messages[1].tokens: expected tokens from 0 to 39, given -1",
                    new Utterance(new int[] {77}, new int[1], new float[1], "", false, 0),
                    "messages[1].prompt: expected tokens from 0 to 39, given 77");
            wrong.forEach((message, expected) -> {
                final List<Utterance> messages = List.of(good, message);
                for (Executable call : List.<Executable>of(() -> policy.imitate(messages),
                        () -> policy.score(Tiny.batch(messages), 1, null),
                        () -> policy.gradient(Tiny.batch(messages), 1, SurrogateConfig.PAPER, null))) {
                    assertEquals(expected, assertThrows(IllegalArgumentException.class, call).getMessage());
                }
            });
        }
    }

    @Test
    void messagesAreEncodedWithTheirEnd() throws IOException {
        try (TorchPolicy policy = policy(Tiny.qwen3(1))) {
            assertArrayEquals(new int[] {2, 3, 28, 1}, policy.encodeMessage("ab "));
            assertArrayEquals(new int[] {2, 3, 4, 28},
                    policy.encode(List.of(new ChatTurn("user", "abc "))));
            assertEquals(96, policy.contextLength());
        }
    }

    // ---- the same gradient however it is computed ----

    /** One step of the optimiser. */
    private static void learn(TorchPolicy policy, Batch batch, double rate) {
        gradient(policy, batch);
        policy.step(rate);
    }

    private static float[] gradient(TorchPolicy policy, Batch batch) {
        policy.gradient(batch, TEMPERATURE, SurrogateConfig.PAPER, null);
        return Tiny.floats(policy.state.gradient);
    }

    private static void close(float[] expected, float[] given, double ofLargest) {
        double largest = 0;
        for (float e : expected) {
            largest = Math.max(largest, Math.abs(e));
        }
        assertArrayEquals(expected, given, (float) (ofLargest * largest));
    }

    @Test
    void gradientDoesNotDependOnMicroBatches() throws IOException {
        try (TorchPolicy whole = policy(Tiny.qwen3(2))) {
            final Batch batch = shifted(whole, 12);
            final float[] expected = gradient(whole, batch);
            for (int tokens : new int[] {1, 24, 60}) { // one message each, some, many
                try (TorchPolicy parts = Tiny.policy(folder, Tiny.qwen3(2), Tiny.settings("f32", 1, 0, tokens), 5)) {
                    final float[] given = gradient(parts, batch);
                    assertFalse(Arrays.equals(expected, given), "it was cut at all");
                    close(expected, given, 1e-5);
                    assertArrayEquals(whole.score(batch, TEMPERATURE, null).logProbs(),
                            parts.score(batch, TEMPERATURE, null).logProbs(), 2e-5f);
                }
            }
        }
    }

    @Test
    void gradientDoesNotDependOnThreads() throws IOException {
        try (TorchPolicy one = policy(Tiny.qwen3(2)); TorchPolicy two = Tiny.policy(folder, Tiny.qwen3(2),
                Tiny.settings("f32", 2, 0, 100), 5)) {
            final Batch batch = shifted(one, 12);
            final float[] expected = gradient(one, batch);
            final float[] given = gradient(two, batch);
            close(expected, given, 5e-6);
            for (int again = 0; again < 5; again++) { // the sum goes by micro-batch, whichever thread is done first
                assertArrayEquals(given, gradient(two, batch), "to the bit");
            }
            assertArrayEquals(one.score(batch, TEMPERATURE, null).entropy(), two.score(batch, TEMPERATURE, null).entropy(), 2e-5f);
        }
    }

    /** Where the policy is still its own anchor, hidden states and logits of the anchor are not computed. Nothing shows it. */
    @Test
    void theFirstStepsAnchorIsThePolicyItself() throws IOException {
        final SurrogateConfig withKl = SurrogateConfig.PAPER.withKl(KlTerm.EXACT, 0.3);
        for (SurrogateConfig loss : List.of(SurrogateConfig.PAPER, withKl)) {
            try (TorchPolicy a = policy(Tiny.qwen3(2)); TorchPolicy b = policy(Tiny.qwen3(2))) {
                final Batch batch = shifted(a, 12);
                try (Policy.Snapshot own = a.snapshot(); Policy.Snapshot other = b.snapshot()) {
                    b.restore(other); // the same weights, written once more
                    assertTrue(a.state.isAt(own) && !b.state.isAt(other) && !a.state.isAt(other));
                    for (int step = 0; step < 2; step++) {
                        a.gradient(batch, TEMPERATURE, loss, own);
                        b.gradient(batch, TEMPERATURE, loss, other);
                        close(Tiny.floats(b.state.gradient), Tiny.floats(a.state.gradient), step == 0 ? 1e-6 : 1e-3);
                        assertArrayEquals(b.score(batch, TEMPERATURE, other).kl(), a.score(batch, TEMPERATURE, own).kl(), 1e-6f);
                        a.step(1e-3);
                        b.step(1e-3);
                        assertFalse(a.state.isAt(own));
                    }
                    for (float kl : a.score(batch, TEMPERATURE, own).kl()) {
                        assertTrue(kl > 1e-6, "two steps away");
                    }
                }
            }
        }
    }

    /** The old policy's logits are multiplied once, or again for every step and for the monitor: with the same bits. */
    @Test
    void keptLogitsChangeNoNumber() throws IOException {
        final Path model = Tiny.saved(folder);
        final List<List<Object>> seen = new ArrayList<>();
        for (long rows : new long[] {0, 1, 9, 1_000_000}) {
            final TeamMemory memory = new TeamMemory(false, false, rows * Tiny.VOCAB * Float.BYTES, null, Sharding.NONE);
            try (TorchPolicy policy = TorchPolicy.load(model, Tiny.settings("f32", 2, 0, 60), memory)) {
                final Batch batch = shifted(policy, 12);
                final List<Object> numbers = new ArrayList<>();
                try (Policy.Snapshot anchor = policy.anchor()) {
                    for (int step = 0; step < 3; step++) {
                        policy.gradient(batch, TEMPERATURE, SurrogateConfig.PAPER.withKl(KlTerm.EXACT, 0.3).withEntropyCoef(0.1), anchor);
                        numbers.add(policy.step(1e-3));
                        numbers.add(policy.fingerprint());
                    }
                    for (float kl : policy.score(batch, TEMPERATURE, anchor).kl()) {
                        numbers.add(kl);
                    }
                    assertTrue((float) numbers.get(8) > 0, "it has moved");
                }
                seen.add(numbers);
            }
        }
        for (List<Object> numbers : seen) {
            assertEquals(seen.get(0), numbers);
        }
    }

    @Test
    void equalCallsGiveEqualBits() throws IOException {
        try (TorchPolicy a = policy(Tiny.qwen3(2)); TorchPolicy b = policy(Tiny.qwen3(2))) {
            final Batch batch = shifted(a, 12);
            for (int step = 0; step < 3; step++) {
                final Policy.Scores x = a.gradient(batch, TEMPERATURE, SurrogateConfig.PAPER, null).scores();
                final Policy.Scores y = b.gradient(batch, TEMPERATURE, SurrogateConfig.PAPER, null).scores();
                assertArrayEquals(x.logProbs(), y.logProbs());
                assertArrayEquals(x.entropy(), y.entropy());
                assertArrayEquals(Tiny.floats(a.state.gradient), Tiny.floats(b.state.gradient));
                assertEquals(a.step(1e-3), b.step(1e-3));
                assertEquals(a.fingerprint(), b.fingerprint());
                assertArrayEquals(Tiny.floats(a.state.weights.master), Tiny.floats(b.state.weights.master));
            }
        }
    }

    /** A second call replaces the gradient of the first. */
    @Test
    void gradientsDoNotAddUp() throws IOException {
        try (TorchPolicy policy = policy(Tiny.qwen3(1))) {
            final Batch batch = shifted(policy, 4);
            final float[] first = gradient(policy, batch);
            policy.imitate(batch.messages());
            assertArrayEquals(first, gradient(policy, batch));
        }
    }

    // ---- scores ----

    @Test
    void scoresAreThoseOfDoubleArithmetic() throws IOException {
        try (TorchPolicy policy = policy(Tiny.qwen3(2)); Policy.Snapshot anchor = policy.snapshot()) {
            final Batch batch = shifted(policy, 9);
            final DecoderReference old = new DecoderReference(policy.config, Tiny.doubles(policy.state.weights));
            for (float kl : policy.score(batch, TEMPERATURE, anchor).kl()) {
                assertEquals(0, kl, "of a policy from itself");
            }
            move(policy, 0.02);
            final DecoderReference now = new DecoderReference(policy.config, Tiny.doubles(policy.state.weights));
            final Policy.Scores scores = policy.score(batch, TEMPERATURE, anchor);
            final SurrogateConfig withKl = SurrogateConfig.PAPER.withKl(KlTerm.EXACT, 0.1);
            final Policy.Scores again = policy.gradient(batch, TEMPERATURE, withKl, anchor).scores();
            double largest = 0;
            for (int m = 0; m < batch.size(); m++) {
                final Utterance message = batch.messages().get(m);
                final int[] sequence = Arrays.copyOf(message.prompt(), message.prompt().length + message.tokens().length);
                System.arraycopy(message.tokens(), 0, sequence, message.prompt().length, message.tokens().length);
                final double[][] then = old.logits(sequence);
                final double[][] here = now.logits(sequence);
                for (int t = 0; t < message.tokens().length; t++) {
                    final double[] p = logProbs(then[message.prompt().length - 1 + t]);
                    final double[] q = logProbs(here[message.prompt().length - 1 + t]);
                    double kl = 0;
                    double entropy = 0;
                    for (int v = 0; v < p.length; v++) {
                        kl += Math.exp(p[v]) * (p[v] - q[v]);
                        entropy -= Math.exp(q[v]) * q[v];
                    }
                    final int at = (int) batch.cuSeqlens()[m] + t;
                    for (Policy.Scores s : List.of(scores, again)) {
                        assertEquals(kl, s.kl()[at], 1e-6 + 1e-3 * kl); // f32 logits, of differences that are small
                        assertEquals(entropy, s.entropy()[at], 2e-5);
                        assertEquals(q[message.tokens()[t]], s.logProbs()[at], 2e-5);
                    }
                    largest = Math.max(largest, kl);
                }
            }
            assertTrue(largest > 1e-3, "a KL that says something, given " + largest);
            assertEquals(null, policy.score(batch, TEMPERATURE, null).kl());
        }
    }

    /** Fig. 5's means over all tokens of a batch, from logits in double; micro-batches, threads and adapters included. */
    @Test
    void shiftOfLogitsIsThatOfDoubleArithmetic() throws IOException {
        for (TorchPolicy.Settings settings : List.of(Tiny.settings(), Tiny.settings("f32", 2, 0, 60))) {
            try (TorchPolicy policy = Tiny.policy(folder, Tiny.qwen3(2), settings, 1);
                    Policy.Snapshot anchor = policy.snapshot()) {
                final Batch batch = Tiny.batch(policy, 9, 12, 3);
                final DecoderReference old = new DecoderReference(policy.config, Tiny.doubles(policy.state.weights));
                for (double none : policy.logitShift(batch, anchor)) {
                    assertEquals(0, none, 1e-6);
                }
                move(policy, 0.02);
                final DecoderReference now = new DecoderReference(policy.config, Tiny.doubles(policy.state.weights));
                final double[] expected = new double[6]; // ranks of 40 tokens: 1, 2-3, 4-7, 8-15, 16-31, 32-40
                for (Utterance message : batch.messages()) {
                    final int[] sequence = Arrays.copyOf(message.prompt(), message.prompt().length + message.tokens().length);
                    System.arraycopy(message.tokens(), 0, sequence, message.prompt().length, message.tokens().length);
                    final double[][] then = old.logits(sequence);
                    final double[][] here = now.logits(sequence);
                    for (int t = 0; t < message.tokens().length; t++) {
                        final double[] a = then[message.prompt().length - 1 + t];
                        final double[] b = here[message.prompt().length - 1 + t];
                        final double mean = Arrays.stream(b).average().orElseThrow() - Arrays.stream(a).average().orElseThrow();
                        for (int v = 0; v < a.length; v++) {
                            final double own = a[v];
                            final int bucket = 31 - Integer.numberOfLeadingZeros(1 + (int) Arrays.stream(a).filter(x -> x > own)
                                    .count());
                            final int size = Math.min(1 << bucket, a.length + 1 - (1 << bucket));
                            expected[bucket] += Math.abs(b[v] - a[v] - mean) / size / batch.tokens();
                        }
                    }
                }
                assertArrayEquals(expected, policy.logitShift(batch, anchor), 1e-4 * expected[0]);
            }
        }
    }

    private static double[] logProbs(double[] logits) {
        double sum = 0;
        for (double x : logits) {
            sum += Math.exp(x / TEMPERATURE);
        }
        final double lse = Math.log(sum);
        return Arrays.stream(logits).map(x -> x / TEMPERATURE - lse).toArray();
    }

    // ---- the optimiser ----

    @Test
    void adamWIsThatOfLibtorch() {
        final int n = 1000;
        final SplittableRandom random = new SplittableRandom(6);
        final float[] start = new float[n];
        for (int i = 0; i < n; i++) {
            start[i] = (float) random.nextGaussian();
        }
        final double rate = 0.01;
        try (PointerScope scope = new PointerScope(); Device cpu = new Device("cpu");
                AdamW ours = new AdamW(new AdamWSettings(0.8, 0.95, 1e-6, 0.1, 1.5), n, new Placement(cpu))) {
            final Tensor weights = Tensor.create(start, n);
            final Tensor theirs = Tensor.create(start, n).set_requires_grad(true);
            final AdamWOptions options = new AdamWOptions(rate);
            final int first = options.betas().get(0) == 0.9 ? 0 : 1; // a std::tuple, which some C++ libraries keep backwards
            options.betas().put(first, 0.8);
            options.betas().put(1 - first, 0.95);
            options.eps().put(1e-6);
            options.weight_decay().put(0.1);
            final TensorVector parameters = new TensorVector(theirs);
            final org.bytedeco.pytorch.AdamW reference = new org.bytedeco.pytorch.AdamW(parameters, options);
            int clipped = 0;
            for (int step = 0; step < 5; step++) {
                final float[] g = new float[n];
                for (int i = 0; i < n; i++) {
                    g[i] = (float) ((step % 2 == 0 ? 0.1 : 0.01) * random.nextGaussian());
                }
                reference.zero_grad();
                theirs.mul(Tensor.create(g, n)).sum().backward();
                final double norm = torch.clip_grad_norm_(parameters, 1.5);
                reference.step();
                assertEquals(norm, ours.step(weights, Tensor.create(g, n), rate), 1e-5 * norm);
                clipped += norm > 1.5 ? 1 : 0;
                assertArrayEquals(Tiny.floats(theirs), Tiny.floats(weights), 2e-6f, "step " + step);
            }
            assertEquals(3, clipped, "some steps clip, some do not");
            assertEquals(5, ours.steps);
            assertTrue(Math.abs(Tiny.floats(weights)[0] - start[0]) > 0.01, "it moved");
        }
    }

    @Test
    void stepNeedsAGradient() throws IOException {
        try (TorchPolicy policy = policy(Tiny.qwen3(1)); Policy.Snapshot snapshot = policy.snapshot()) {
            assertThrows(IllegalStateException.class, () -> policy.step(1e-3));
            final Batch batch = shifted(policy, 3);
            final float[] gradient = gradient(policy, batch);
            double norm = 0;
            for (float g : gradient) {
                norm += (double) g * g;
            }
            assertEquals(Math.sqrt(norm), policy.step(1e-3), 1e-5 * Math.sqrt(norm));
            assertThrows(IllegalStateException.class, () -> policy.step(1e-3), "it has been used");
            gradient(policy, batch);
            policy.restore(snapshot);
            assertThrows(IllegalStateException.class, () -> policy.step(1e-3), "it was of other parameters");
        }
    }

    // ---- going back ----

    @Test
    void restoreGoesBackToTheBit() throws IOException {
        try (TorchPolicy policy = policy(Tiny.qwen3(2))) {
            final Batch batch = shifted(policy, 6);
            learn(policy, batch, 1e-2);
            final long fingerprint = policy.fingerprint();
            final float[] weights = Tiny.floats(policy.state.weights.master);
            final float[] mean = Tiny.floats(policy.state.optimiser.mean);
            final float[] square = Tiny.floats(policy.state.optimiser.square);
            try (Policy.Snapshot snapshot = policy.snapshot()) {
                learn(policy, batch, 1e-2);
                final long next = policy.fingerprint();
                final float[] nextWeights = Tiny.floats(policy.state.weights.master);
                final float[] nextMean = Tiny.floats(policy.state.optimiser.mean);
                assertNotEquals(fingerprint, next);
                for (int again = 0; again < 2; again++) { // what is done after it leaves a snapshot as it is
                    policy.restore(snapshot);
                    assertEquals(fingerprint, policy.fingerprint());
                    assertEquals(1, policy.version());
                    assertEquals(1, policy.state.optimiser.steps);
                    assertArrayEquals(weights, Tiny.floats(policy.state.weights.master));
                    assertArrayEquals(mean, Tiny.floats(policy.state.optimiser.mean));
                    assertArrayEquals(square, Tiny.floats(policy.state.optimiser.square));
                    learn(policy, batch, 1e-2);
                    assertEquals(next, policy.fingerprint());
                    assertArrayEquals(nextWeights, Tiny.floats(policy.state.weights.master));
                    assertArrayEquals(nextMean, Tiny.floats(policy.state.optimiser.mean));
                }
            }
        }
    }

    /** A policy that does not learn has none, neither in memory nor in its files. */
    @Test
    void momentsAreMadeAtTheFirstStep() throws IOException {
        try (TorchPolicy policy = policy(Tiny.qwen3(2)); Policy.Snapshot start = policy.snapshot();
                TorchPolicy other = policy(Tiny.qwen3(2))) {
            final Path untrained = Files.createDirectories(folder.resolve("untrained"));
            final Path trained = Files.createDirectories(folder.resolve("trained"));
            assertNull(policy.state.optimiser.mean);
            policy.save(untrained);
            assertTrue(Files.size(untrained.resolve(ModelFiles.TRAINING)) < 1000);
            final Batch batch = shifted(policy, 6);
            learn(policy, batch, 1e-2);
            final long first = policy.fingerprint();
            policy.save(trained);
            other.load(trained);
            assertArrayEquals(Tiny.floats(policy.state.optimiser.mean), Tiny.floats(other.state.optimiser.mean));
            policy.restore(start);
            other.load(untrained);
            for (TorchPolicy back : List.of(policy, other)) {
                assertNull(back.state.optimiser.mean);
                assertEquals(0, back.state.optimiser.steps);
                learn(back, batch, 1e-2);
                assertEquals(first, back.fingerprint(), "as if the moments had been 0");
            }
        }
    }

    /** It has no moments: what was moved without a step is undone, a step is not. */
    @Test
    void anAnchorIsGoneBackToUntilTheNextStep() throws IOException {
        try (TorchPolicy policy = policy(Tiny.qwen3(2))) {
            final Batch batch = shifted(policy, 6);
            learn(policy, batch, 1e-2);
            final long fingerprint = policy.fingerprint();
            final float[] mean = Tiny.floats(policy.state.optimiser.mean);
            try (Policy.Snapshot anchor = policy.anchor()) {
                policy.nudge(1e-3, 5);
                assertNotEquals(fingerprint, policy.fingerprint());
                policy.restore(anchor);
                assertEquals(fingerprint, policy.fingerprint());
                assertEquals(1, policy.version());
                assertArrayEquals(mean, Tiny.floats(policy.state.optimiser.mean));
                learn(policy, batch, 1e-2);
                assertTrue(assertThrows(IllegalArgumentException.class, () -> policy.restore(anchor)).getMessage().endsWith("after a step"));
            }
        }
    }

    @Test
    void snapshotsOfTheSameNumbersShareTheirCopies() throws IOException {
        try (TorchPolicy policy = policy(Tiny.qwen3(2))) {
            final Batch batch = shifted(policy, 6);
            learn(policy, batch, 1e-2);
            final long fingerprint = policy.fingerprint();
            final float[] mean = Tiny.floats(policy.state.optimiser.mean);
            final Anchor measured = (Anchor) policy.anchor();
            final Anchor first = (Anchor) policy.snapshot();
            final Anchor second = (Anchor) policy.snapshot();
            assertSame(measured.weights, first.weights);
            assertSame(first.weights, second.weights);
            measured.close();
            first.close();
            learn(policy, batch, 1e-2);
            try (Anchor moved = (Anchor) policy.snapshot()) {
                assertNotSame(second.weights, moved.weights);
                final long next = policy.fingerprint();
                policy.restore(second);
                assertEquals(fingerprint, policy.fingerprint());
                assertArrayEquals(mean, Tiny.floats(policy.state.optimiser.mean));
                policy.restore(moved);
                assertEquals(next, policy.fingerprint());
                assertFalse(Arrays.equals(mean, Tiny.floats(policy.state.optimiser.mean)));
            }
            second.close();
            try (Anchor again = (Anchor) policy.snapshot()) { // of what has been closed nothing is shared
                final long now = policy.fingerprint();
                learn(policy, batch, 1e-2);
                policy.restore(again);
                assertEquals(now, policy.fingerprint());
            }
        }
    }

    @Test
    void halveGoesHalfTheWay() throws IOException {
        try (TorchPolicy policy = policy(Tiny.qwen3(1)); Policy.Snapshot then = policy.snapshot()) {
            final float[] before = Tiny.floats(policy.state.weights.master);
            gradient(policy, shifted(policy, 6));
            policy.step(0.05);
            final float[] after = Tiny.floats(policy.state.weights.master);
            final float[] mean = Tiny.floats(policy.state.optimiser.mean);
            policy.shorten(then, 0.5);
            final float[] half = Tiny.floats(policy.state.weights.master);
            for (int i = 0; i < half.length; i++) {
                final double ulp = Math.ulp(Math.max(Math.abs(before[i]), Math.abs(after[i])));
                assertEquals(((double) before[i] + after[i]) / 2, half[i], ulp);
            }
            assertFalse(Arrays.equals(before, after));
            assertArrayEquals(mean, Tiny.floats(policy.state.optimiser.mean));
            assertEquals(1, policy.state.optimiser.steps);
        }
    }

    @Test
    void versionsTellParametersApart() throws IOException {
        try (TorchPolicy policy = policy(Tiny.qwen3(1))) {
            assertEquals(0, policy.version());
            final Batch batch = shifted(policy, 4);
            policy.score(batch, 1, null);
            gradient(policy, batch);
            assertEquals(0, policy.version(), "nothing has changed yet");
            try (Policy.Snapshot start = policy.snapshot()) {
                policy.step(1e-3);
                final long first = policy.version();
                assertNotEquals(0, first);
                assertEquals(first, policy.generate(Tiny.prompts(2, 1), Tiny.generation(1, 2), 1, Tiny.ids(2)).get(1).version());
                policy.shorten(start, 0.5);
                final long half = policy.version();
                assertTrue(half != first && half != 0);
                policy.restore(start);
                assertEquals(0, policy.version());
                learn(policy, batch, 2e-3);
                assertFalse(List.of(0L, first, half).contains(policy.version()), "other parameters, another number");
                policy.startOver();
                assertEquals(0, policy.version());
                assertEquals(0, policy.state.optimiser.steps);
            }
        }
    }

    @Test
    void fingerprintSeesOneBit() throws IOException {
        try (TorchPolicy policy = policy(Tiny.qwen3(1)); TorchPolicy other = Tiny.policy(folder, Tiny.qwen3(1), Tiny.settings(), 6)) {
            final long fingerprint = policy.fingerprint();
            assertNotEquals(fingerprint, other.fingerprint());
            final float[] values = Tiny.floats(policy.state.weights.master);
            for (int i : new int[] {0, values.length / 2, values.length - 1}) {
                final float[] changed = values.clone();
                changed[i] = Math.nextUp(changed[i]);
                Tiny.write(policy.state.weights, changed);
                assertNotEquals(fingerprint, policy.fingerprint());
            }
            Tiny.write(policy.state.weights, values);
            assertEquals(fingerprint, policy.fingerprint());
        }
    }

    // ---- bf16 ----

    @Test
    @Tag("slow")
    void smallUpdatesOfBf16WeightsAreNotLost() throws IOException {
        try (TorchPolicy policy = Tiny.policy(folder, Tiny.qwen3(1), Tiny.settings("bf16", 1, 0, 8192), 5)) {
            final Batch batch = shifted(policy, 4);
            final Layout.Part norm = policy.state.weights.layout.parts.get("model.norm.weight");
            final int at = (int) norm.offset();
            final float[] start = Tiny.floats(policy.state.weights.compute().get("model.norm.weight"));
            final float[] master = Tiny.floats(policy.state.weights.master);
            policy.imitate(batch.messages());
            policy.step(1e-4);
            final float[] afterOne = Tiny.floats(policy.state.weights.compute().get("model.norm.weight"));
            int moved = 0;
            int seen = 0;
            for (int i = 0; i < start.length; i++) {
                moved += Tiny.floats(policy.state.weights.master)[at + i] != master[at + i] ? 1 : 0;
                seen += afterOne[i] != start[i] ? 1 : 0;
            }
            assertEquals(start.length, moved, "every f32 weight moves");
            assertTrue(seen < start.length / 4, "one step is below the resolution of bf16, 0.004 to 0.008 around 1: " + seen + " changed");
            for (int step = 0; step < 120; step++) {
                policy.imitate(batch.messages());
                policy.step(1e-4);
            }
            final float[] end = Tiny.floats(policy.state.weights.compute().get("model.norm.weight"));
            seen = 0;
            for (int i = 0; i < end.length; i++) {
                seen += end[i] != start[i] ? 1 : 0;
                assertEquals(Tiny.floats(policy.state.weights.master)[at + i], end[i], Math.abs(end[i]) / 256, "rounded from f32");
            }
            assertTrue(seen > end.length / 2, "many steps are seen, in " + seen + " of " + end.length);
        }
    }

    /**
     * The cached and the whole forward pass round differently: bf16 keeps 8 bits, so activations are off by 0.4 % at every step, and
     * logits of up to about 5 by some hundredths.
     */
    @Test
    void bf16RecordedLogProbsAreNearThoseOfScoring() throws IOException {
        try (TorchPolicy policy = Tiny.policy(folder, Tiny.qwen3(2), Tiny.settings("bf16", 1, 0, 8192), 5);
                TorchPolicy exact = policy(Tiny.qwen3(2))) {
            final Batch batch = Tiny.batch(policy, 12, 40, 9);
            final float[] scored = policy.score(batch, 0.8, null).logProbs();
            final float[] f32 = exact.score(batch, 0.8, null).logProbs();
            double worst = 0;
            double mean = 0;
            double fromF32 = 0;
            for (int t = 0; t < scored.length; t++) {
                final double difference = Math.abs(scored[t] - batch.logProbsOld()[t]);
                worst = Math.max(worst, difference);
                mean += difference / scored.length;
                fromF32 = Math.max(fromF32, Math.abs(scored[t] - f32[t]));
            }
            System.out.printf("bf16: recorded and scored log-probs differ by at most %.3f, %.4f on average; from f32 by at most %.3f%n",
                    worst, mean, fromF32);
            assertTrue(worst < 0.3 && mean < 0.03, "given " + worst + ", " + mean);
            assertTrue(fromF32 < 0.5, "given " + fromF32);
            assertTrue(policy.gradient(batch, 0.8, SurrogateConfig.PAPER, null).scores().logProbs()[0] < 0);
            assertTrue(Double.isFinite(policy.step(1e-3)));
        }
    }

    // ---- adapters ----

    /** Adapters over other weights, or tokens that are other pieces of text, would be another policy without a word. */
    @Test
    void whatACheckpointNeedsBesideItsFilesMustBeTheSame() throws IOException {
        final TorchPolicy.Settings lora = Tiny.settings("bf16", 1, 4, 8192);
        final Path saved = Files.createDirectories(folder.resolve("saved"));
        final Path digits = Files.createDirectories(folder.resolve("digits"));
        Tokenizer.writeCharacters(digits, "0123456789abcdefghijklmnopqrstuvwxyz .", List.of("<pad>", "<end>"), "<pad>", "<end>");
        try (TorchPolicy policy = Tiny.policy(folder, Tiny.qwen3(2), lora, 5); TorchPolicy same = Tiny.policy(folder, Tiny.qwen3(2), lora, 5);
                TorchPolicy other = Tiny.policy(folder, Tiny.qwen3(2), lora, 6);
                TorchPolicy finer = Tiny.policy(folder, Tiny.qwen3(2), Tiny.settings("f16", 1, 4, 8192), 5);
                TorchPolicy wider = Tiny.policy(folder, Tiny.qwen3(2), Tiny.settings("f32", 1, 4, 8192), 5);
                TorchPolicy reads = TorchPolicy.random(Tiny.qwen3(2), Tokenizer.open(digits), lora, 5)) {
            Tiny.scramble(reads.state.base, 5);
            policy.save(saved);
            same.load(saved);
            finer.load(saved); // of weights in another dtype nothing is known
            final String dtype = assertThrows(IOException.class, () -> wider.load(saved)).getMessage();
            assertTrue(dtype.contains(": expected a checkpoint of a policy in f32, given one in 16 bits; "), dtype);
            final String weights = assertThrows(IOException.class, () -> other.load(saved)).getMessage();
            assertTrue(weights.contains("frozen weights in BFloat16: expected the one"), weights);
            final String tokens = assertThrows(IOException.class, () -> reads.load(saved)).getMessage();
            assertTrue(tokens.contains("tokenizer: expected the one with which it was trained (checksum "), tokens);
        }
    }

    @Test
    void freshAdaptersChangeNothing() throws IOException {
        for (String dtype : new String[] {"f32", "bf16"}) {
            try (TorchPolicy base = Tiny.policy(folder, Tiny.qwen3(2), Tiny.settings(dtype, 1, 0, 8192), 5);
                    TorchPolicy lora = Tiny.policy(folder, Tiny.qwen3(2), Tiny.settings(dtype, 1, 4, 8192), 5)) {
                final Batch batch = Tiny.batch(base, 6, 12, 2);
                final Batch same = Tiny.batch(lora, 6, 12, 2);
                for (int m = 0; m < 6; m++) {
                    assertArrayEquals(batch.messages().get(m).tokens(), same.messages().get(m).tokens());
                }
                assertArrayEquals(batch.logProbsOld(), same.logProbsOld(), "to the bit");
                assertArrayEquals(base.score(batch, 0.8, null).logProbs(), lora.score(batch, 0.8, null).logProbs(), "to the bit");
                assertEquals(base.parameters() + lora.trained(), lora.parameters());
                // Per layer, (in + out) * rank of q, k, v, o, gate, up and down.
                assertEquals(2 * 4 * ((32 + 40) + 2 * (32 + 20) + (40 + 32) + 3 * (32 + 48)), lora.trained());
            }
        }
    }

    @Test
    void adaptersAreLowRankSumsWithTheWeights() throws IOException {
        final ModelConfig c = Tiny.qwen2(2);
        try (TorchPolicy policy = Tiny.policy(folder, c, Tiny.settings("f32", 1, 3, 8192), 5)) {
            move(policy, 0.2);
            final Map<String, double[]> merged = Tiny.doubles(policy.state.base);
            final Map<String, double[]> adapters = Tiny.doubles(policy.state.weights);
            policy.state.base.layout.parts.forEach((name, part) -> {
                final double[] a = adapters.get(name.replace(".weight", ".lora_A.weight"));
                final double[] b = adapters.get(name.replace(".weight", ".lora_B.weight"));
                if (a == null) {
                    return;
                }
                final int in = (int) part.shape()[1];
                for (int o = 0; o < part.shape()[0]; o++) {
                    for (int i = 0; i < in; i++) {
                        for (int r = 0; r < 3; r++) {
                            merged.get(name)[o * in + i] += 2 * b[o * 3 + r] * a[r * in + i]; // alpha / rank = 6 / 3
                        }
                    }
                }
            });
            final Utterance m = policy.generate(List.of(new int[] {3, 4, 5}), Tiny.generation(1, 10), 1, new long[] {1}).get(0);
            final int[] sequence = {3, 4, 5, m.tokens()[0]};
            final double[] row = new DecoderReference(c, merged).logits(sequence)[2];
            final double expected = row[m.tokens()[0]] - Math.log(Arrays.stream(row).map(Math::exp).sum());
            assertEquals(expected, m.logProbs()[0], 1e-4);
            final double[] plain = new DecoderReference(c, Tiny.doubles(policy.state.base)).logits(sequence)[2];
            assertTrue(Math.abs(plain[m.tokens()[0]] - row[m.tokens()[0]]) > 0.05, "the adapters count");
        }
    }

    @Test
    void onlyAdaptersLearn() throws IOException {
        try (TorchPolicy policy = Tiny.policy(folder, Tiny.qwen3(2), Tiny.settings("f32", 2, 4, 8192), 5)) {
            final float[] base = Tiny.floats(policy.state.base.master);
            final Map<String, double[]> before = Tiny.doubles(policy.state.weights);
            final Batch batch = shifted(policy, 8);
            for (int step = 0; step < 2; step++) { // A has a gradient once B has moved
                learn(policy, batch, 1e-2);
            }
            assertArrayEquals(base, Tiny.floats(policy.state.base.master), "to the bit");
            Tiny.doubles(policy.state.weights).forEach((name, values) -> assertFalse(Arrays.equals(before.get(name), values), name));
            assertEquals(2 * 2 * 7, before.size());
        }
    }

    @Test
    void adaptersAreForTheLayersNamed() throws IOException {
        for (String wrong : new String[] {"q_porj", "embed_tokens", "lm_head", "q_norm"}) {
            try (Tokenizer tokenizer = Tiny.tokenizer(folder)) {
                final String message = assertThrows(IllegalArgumentException.class,
                        () -> TorchPolicy.random(Tiny.llama(1), tokenizer, Tiny.lora(2, "q_proj", wrong), 1)).getMessage();
                assertTrue(message.startsWith("lora.targets: expected") && message.endsWith("given " + wrong), message);
            }
        }
        try (TorchPolicy policy = TorchPolicy.random(Tiny.llama(1), Tiny.tokenizer(folder), Tiny.lora(2, "q_proj"), 1)) {
            assertEquals(List.of("model.layers.0.self_attn.q_proj.lora_A.weight", "model.layers.0.self_attn.q_proj.lora_B.weight"),
                    List.copyOf(policy.state.weights.layout.parts.keySet()));
        }
    }
}
