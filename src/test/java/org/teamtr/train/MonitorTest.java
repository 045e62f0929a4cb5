package org.teamtr.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.SplittableRandom;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.teamtr.chat.Tokenizer;
import org.teamtr.config.ConfigFile;
import org.teamtr.kernels.DType;
import org.teamtr.model.ModelConfig;
import org.teamtr.team.Utterance;
import org.teamtr.torch.TorchPolicy;

/** The floor of models of 28 layers in 16 bits; see also TrustRegionTest. */
class MonitorTest {
    private static final double TEMPERATURE = 0.1;
    private static final double RATE = 3e-5;

    @TempDir
    private Path folder;

    /** Adapters whose steps are lost in the rounding of the weights beside them have the floor of whole steps all the same. */
    @Test
    void theFloorOfAdaptersIsThatOfTheirSteps() throws Exception {
        final Batch batch = modelAndMessages(28);
        final Config config = ConfigFile.load(null, List.of("rollout.temperature=" + TEMPERATURE, "optimiser.learning_rate=" + RATE));
        final TorchPolicy.Settings settings = TorchPolicy.Settings.on("cpu", 1);
        final Config.Lora adapters = new Config.Lora(4, 8, List.of("q_proj", "v_proj", "up_proj", "down_proj"));
        for (DType dtype : List.of(DType.BF16, DType.F32)) {
            try (TorchPolicy policy = TorchPolicy.random(folder, settings.with(dtype, Matmul.F32).with(adapters), 3)) {
                final long before = policy.fingerprint();
                final double floor = new Monitor(config, TEMPERATURE).floor(policy, batch, 0.05, 1, 2);
                assertEquals(before, policy.fingerprint());
                final double tiny = ofAStep(policy, batch, 1e-3 * RATE, Policy.Precision.SAME);
                final double step = ofAStep(policy, batch, RATE / 3, Policy.Precision.SAME);
                final double exact = ofAStep(policy, batch, RATE / 3, Policy.Precision.F32);
                final String all = dtype + ": floor " + floor + ", tiny step " + tiny + ", step " + step + ", in f32 " + exact;
                System.out.println(all);
                if (dtype == DType.F32) {
                    assertTrue(floor < 1e-8 && Math.abs(step - exact) < 1e-3 * exact, all);
                } else {
                    assertTrue(exact < 0.1 * step && tiny < 0.1 * step, all); // nearly all of the KL is rounding, which a tiny step does not show
                    assertTrue(floor > 0.5 * step && floor < 3 * step, all);
                }
            }
        }
    }

    /** With a learning rate of 10 even a thousandth of a step changes the policy. Its KL is not rounding, and no other dtype would lower it. */
    @Test
    void theFloorInF32IsOfRoundingWhateverTheLearningRate() throws Exception {
        final Batch batch = modelAndMessages(2);
        try (TorchPolicy policy = TorchPolicy.random(folder, TorchPolicy.Settings.on("cpu", 1), 3)) {
            for (double rate : new double[] {1e-6, 10}) {
                final Config config = ConfigFile.load(null, List.of("rollout.temperature=" + TEMPERATURE, "optimiser.learning_rate=" + rate));
                final double floor = new Monitor(config, TEMPERATURE).floor(policy, batch, 0.01, 1, 2);
                assertTrue(floor < 1e-4, rate + ": " + floor);
            }
        }
    }

    /** Writes a model folder; random messages. */
    private Batch modelAndMessages(int layers) throws IOException {
        final int vocab = 24;
        Tokenizer.writeCharacters(folder, "abcdefghijklmnopqrstuv", List.of("<pad>", "<end>"), "<pad>", "<end>");
        ModelConfig.qwen3(vocab, 32, 48, layers, 4, 2, 10, 96).write(folder.resolve("config.json"), "float32", 1);
        final SplittableRandom random = new SplittableRandom(8);
        return Batch.of(IntStream.range(0, 8).mapToObj(i -> new Utterance(random.ints(5, 2, vocab).toArray(),
                random.ints(8, 2, vocab).toArray(), new float[8], "", true, 0)).toList(), new float[8], new float[8]);
    }

    private static double ofAStep(Policy policy, Batch batch, double length, Policy.Precision precision) {
        try (Policy.Snapshot before = policy.snapshot()) {
            policy.nudge(length, 77);
            final float[] kl = policy.score(batch, TEMPERATURE, before, precision).kl();
            policy.restore(before);
            return IntStream.range(0, kl.length).mapToDouble(t -> kl[t]).sum() / batch.size();
        }
    }
}
