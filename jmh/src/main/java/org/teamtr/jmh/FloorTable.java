package org.teamtr.jmh;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.SplittableRandom;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.teamtr.chat.Tokenizer;
import org.teamtr.kernels.DType;
import org.teamtr.model.ModelConfig;
import org.teamtr.team.Utterance;
import org.teamtr.torch.AdamWSettings;
import org.teamtr.torch.TorchPolicy;
import org.teamtr.train.Batch;
import org.teamtr.train.Matmul;
import org.teamtr.train.Policy;

/**
 * What rounding makes of the KL of a message: exact KL between a policy and itself after a step of 1e-8, summed over excerpts of 16,
 * 128 and 1,024 tokens, in every format that a policy can compute in. Of a small model as deep as Qwen3-0.6B, with random weights and
 * taught to write this repository's documentation, character by character.
 */
public final class FloorTable {
    private static final int LAYERS = 28;
    private static final int HIDDEN = 64;
    private static final int[] LENGTHS = {16, 128, 1024};
    private static final int LONGEST = 1024;
    private static final int PROMPT = 16;
    private static final int MESSAGES = 2;
    private static final int STEPS = 100;
    private static final int LESSONS = 4; // a step
    private static final int LESSON = 128; // tokens of one; the last steps are of whole messages
    /** At which the weights of a step of nothing move; and one whose KL is a KL, which f32 shows. */
    private static final double NOTHING = 1e-8;
    private static final double SMALL = 1e-6;

    private FloorTable() {
    }

    /** Arguments: the CSV to write, the page with {@code <!-- floor -->}, a folder for the models, the texts to learn. */
    public static void main(String[] args) throws IOException {
        final Path random = Files.createDirectories(Path.of(args[2], "random"));
        final Path trained = Files.createDirectories(Path.of(args[2], "trained"));
        final StringBuilder text = new StringBuilder();
        for (int i = 3; i < args.length; i++) {
            text.append(Files.readString(Path.of(args[i])));
        }
        final String characters = text.codePoints().distinct().sorted().mapToObj(Character::toString).collect(Collectors.joining());
        Tokenizer.writeCharacters(random, characters, List.of("<pad>", "<end>"), "<pad>", "<end>");
        final Tokenizer tokenizer = Tokenizer.open(random);
        final ModelConfig config = ModelConfig.qwen3(tokenizer.vocab(), HIDDEN, 5 * HIDDEN / 2, LAYERS, 4, 2, HIDDEN / 4, PROMPT + LONGEST);
        final int[] tokens = tokenizer.encode(text.toString());
        try (TorchPolicy policy = TorchPolicy.random(config, tokenizer, settings(DType.F32, Matmul.F32), 1)) {
            policy.save(random);
            teach(policy, tokens);
            policy.save(trained);
        }
        final List<String> lines = new ArrayList<>(List.of("model,format,tokens,kl_message,kl_token,kl_composition,kl_step_1e-6,entropy"));
        final StringBuilder table = new StringBuilder("| " + LAYERS + " layers, width " + HIDDEN + " | entropy, nat a token | format |");
        for (int length : LENGTHS) {
            table.append(String.format(Locale.ROOT, " %,d tokens |", length));
        }
        table.append(" per token | the true KL per token of a step of 1e-6 |\n|---|---|---|---|---|---|---|---|\n");
        final SplittableRandom places = new SplittableRandom(4);
        final Batch batch = Batch.of(IntStream.range(0, MESSAGES)
                .mapToObj(i -> excerpt(tokens, places.nextInt(tokens.length - PROMPT - LONGEST), LONGEST)).toList(), new float[MESSAGES],
                new float[MESSAGES]);
        for (Path folder : List.of(random, trained)) {
            for (String format : List.of("f32", "tf32", "f16", "bf16")) {
                final DType dtype = format.equals("tf32") ? DType.F32 : DType.valueOf(format.toUpperCase(Locale.ROOT));
                try (TorchPolicy policy = TorchPolicy.load(folder, settings(dtype, format.equals("tf32") ? Matmul.TF32 : Matmul.F32))) {
                    final Policy.Scores scores = policy.score(batch, 1, null);
                    final float[] kl = kl(policy, batch, NOTHING);
                    final double step = mean(kl(policy, batch, SMALL), batch, LONGEST) / LONGEST;
                    final double entropy = mean(scores.entropy(), batch, LONGEST) / LONGEST;
                    final String name = folder.getFileName().toString();
                    table.append(String.format(Locale.ROOT, "| %s | %.2f | %s |", name, entropy, format));
                    for (int length : LENGTHS) {
                        final double message = mean(kl, batch, length);
                        lines.add(String.format(Locale.ROOT, "%s,%s,%d,%.4g,%.4g,%.4g,%.4g,%.4g", name, format, length, message,
                                message / length, composed(policy, batch, scores, length), step, entropy));
                        System.out.println(lines.get(lines.size() - 1));
                        table.append(String.format(Locale.ROOT, " %.1e |", message));
                    }
                    table.append(String.format(Locale.ROOT, " %.1e | %s |%n", mean(kl, batch, LONGEST) / LONGEST,
                            format.equals("f32") ? String.format(Locale.ROOT, "%.1e", step) : ""));
                }
            }
        }
        Files.write(Path.of(args[0]), lines);
        Tables.between(Path.of(args[1]), "floor", table.toString());
    }

    private static TorchPolicy.Settings settings(DType dtype, Matmul matmul) {
        return TorchPolicy.Settings.on("cpu", Runtime.getRuntime().availableProcessors()).with(dtype, matmul)
                .with(new AdamWSettings(0.9, 0.95, 1e-8, 0, 1)).with(new TorchPolicy.AtOnce(2048, 0));
    }

    private static void teach(TorchPolicy policy, int[] tokens) {
        final SplittableRandom random = new SplittableRandom(3);
        for (int step = 0; step < STEPS; step++) {
            final int length = step < STEPS * 9 / 10 ? LESSON : LONGEST; // positions are learnt at their end
            final List<Utterance> lessons = IntStream.range(0, Math.max(1, LESSONS * LESSON / length))
                    .mapToObj(i -> excerpt(tokens, random.nextInt(tokens.length - PROMPT - LONGEST), length)).toList();
            final double nats = policy.imitate(lessons);
            policy.step(3e-3 * Math.min(1, Math.min((step + 1) / 20.0, 2.0 * (STEPS - step) / STEPS)));
            if ((step + 1) % 20 == 0) {
                System.out.printf(Locale.ROOT, "step %d of %d: %.3f nats per character%n", step + 1, STEPS, nats);
            }
        }
        policy.startOver();
    }

    private static Utterance excerpt(int[] tokens, int from, int length) {
        return new Utterance(Arrays.copyOfRange(tokens, from, from + PROMPT),
                Arrays.copyOfRange(tokens, from + PROMPT, from + PROMPT + length), new float[length], "", true, 0);
    }

    private static float[] kl(TorchPolicy policy, Batch batch, double size) {
        try (Policy.Snapshot before = policy.snapshot()) {
            policy.nudge(size, 5);
            final float[] kl = policy.score(batch, 1, before).kl();
            policy.restore(before);
            return kl;
        }
    }

    /** Mean over messages of the sum over their first tokens. */
    private static double mean(float[] perToken, Batch batch, int length) {
        double sum = 0;
        for (int m = 0; m < batch.size(); m++) {
            for (int u = 0; u < length; u++) {
                sum += perToken[(int) batch.cuSeqlens()[m] + u];
            }
        }
        return sum / batch.size();
    }

    /** k3 between the same parameters, messages together and one by one. */
    private static double composed(TorchPolicy policy, Batch batch, Policy.Scores together, int length) {
        double sum = 0;
        for (int m = 0; m < batch.size(); m++) {
            final float[] alone = policy.score(batch.subset(m), 1, null).logProbs();
            for (int u = 0; u < length; u++) {
                final double log = (double) alone[u] - together.logProbs()[(int) batch.cuSeqlens()[m] + u];
                sum += Math.expm1(log) - log;
            }
        }
        return sum / batch.size();
    }
}
