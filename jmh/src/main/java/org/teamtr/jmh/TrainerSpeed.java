package org.teamtr.jmh;

import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.lang.reflect.Constructor;
import java.lang.reflect.Method;
import java.lang.reflect.RecordComponent;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.SplittableRandom;
import java.util.stream.LongStream;
import org.teamtr.kernels.SamplingConfig;
import org.teamtr.kernels.SurrogateConfig;
import org.teamtr.team.Generation;
import org.teamtr.team.Truncation;
import org.teamtr.team.Utterance;
import org.teamtr.torch.TorchPolicy;
import org.teamtr.train.Batch;

/**
 * A policy's tokens per second: decoding over the number of rows, scoring, an update's gradient and step. Also of older commits, by
 * their classes before these on the class path; what they lack of the settings is left out. Lines are appended to a CSV, whose
 * {@code seconds_cpu}, of all threads, tell more than the clock where others use the machine too.
 */
public final class TrainerSpeed {
    private static final int SHORT = 4;
    private static final int LONG = 20;
    private static final int TRAINED_ROWS = 8;

    private final TorchPolicy policy;
    private final String label;
    private final List<String> lines = new ArrayList<>();

    private TrainerSpeed(TorchPolicy policy, String label) {
        this.policy = policy;
        this.label = label;
    }

    /** Arguments: the CSV, the commit, the model's folder, its name, the rank of its adapters (0: none), the numbers of rows. */
    public static void main(String[] args) throws IOException, ReflectiveOperationException {
        final int rank = Integer.parseInt(args[4]);
        try (TorchPolicy policy = TorchPolicy.random(Path.of(args[2]), settings(TorchPolicy.Settings.class, rank), 1)) {
            final TrainerSpeed speed = new TrainerSpeed(policy, String.join(",", args[1], args[3], args[4]));
            for (String rows : args[5].split("-")) {
                speed.decode(Integer.parseInt(rows));
            }
            speed.learn();
            Files.write(Path.of(args[0]), speed.lines, StandardOpenOption.CREATE, StandardOpenOption.APPEND);
        }
    }

    /** By the names of the record's components, and of theirs, since commits have different ones. */
    private static <T> T settings(Class<T> record, int rank) throws ReflectiveOperationException {
        final RecordComponent[] components = record.getRecordComponents();
        final Object[] values = new Object[components.length];
        final Class<?>[] types = new Class<?>[components.length];
        for (int i = 0; i < components.length; i++) {
            types[i] = components[i].getType();
            values[i] = types[i].isRecord() ? settings(types[i], rank) : switch (components[i].getName()) {
                case "dtype", "matmul" -> constant(types[i], "f32");
                case "device" -> "cpu";
                case "threads" -> Runtime.getRuntime().availableProcessors();
                case "loraRank", "rank" -> rank;
                case "loraAlpha", "alpha" -> 2.0 * rank;
                case "loraTargets", "targets" -> List.of("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj");
                case "thinking", "cudaGraphs", "flashAttention" -> false;
                case "beta1" -> 0.9;
                case "beta2" -> 0.999;
                case "eps" -> 1e-8;
                case "weightDecay" -> 0.0;
                case "maxGradNorm" -> 1.0;
                case "microBatchTokens" -> 4096;
                case "rows" -> 0;
                default -> throw new IllegalStateException("settings: " + components[i].getName() + " is new; add it here");
            };
        }
        final Constructor<T> constructor = record.getDeclaredConstructor(types);
        return constructor.newInstance(values);
    }

    private static Object constant(Class<?> type, String name) {
        return type == String.class ? name : Arrays.stream(type.getEnumConstants())
                .filter(constant -> ((Enum<?>) constant).name().equalsIgnoreCase(name)).findFirst().orElseThrow();
    }

    private List<Utterance> generate(int rows, int tokens) {
        final SplittableRandom random = new SplittableRandom(1);
        final List<int[]> prompts = new ArrayList<>();
        for (int i = 0; i < rows; i++) {
            prompts.add(random.ints(24 + i % 9, 3, 1000).toArray());
        }
        return policy.generate(prompts, new Generation(1, SamplingConfig.ALL, tokens, Truncation.ERROR), 7, LongStream.range(0, rows).toArray());
    }

    /** The difference of long and short messages: prompts cost both the same. */
    private void decode(int rows) {
        generate(rows, 2);
        final double[] few = timed(() -> generate(rows, SHORT));
        final double[] many = timed(() -> generate(rows, LONG));
        line("decoding", rows, (long) rows * (LONG - SHORT), many[0] - few[0], many[1] - few[1]);
    }

    private void learn() {
        final List<Utterance> messages = generate(TRAINED_ROWS, LONG);
        final float[] advantages = new float[messages.size()];
        for (int i = 0; i < advantages.length; i++) {
            advantages[i] = i % 2 == 0 ? 1 : -1;
        }
        final Batch batch = Batch.of(messages, advantages, advantages.clone());
        policy.score(batch, 1, null);
        final double[] score = timed(() -> policy.score(batch, 1, null));
        line("scoring", TRAINED_ROWS, batch.tokens(), score[0], score[1]);
        final Method gradient = Arrays.stream(TorchPolicy.class.getMethods())
                .filter(m -> m.getName().equals("gradient") && m.getParameterCount() == 4 && !m.isBridge()).findFirst().orElseThrow();
        final double[] update = timed(() -> {
            try {
                gradient.invoke(policy, batch, 1, SurrogateConfig.PAPER, null); // what it returns has changed
            } catch (ReflectiveOperationException e) {
                throw new IllegalStateException(e);
            }
            policy.step(1e-6);
        });
        line("update", TRAINED_ROWS, batch.tokens(), update[0], update[1]);
    }

    private static double[] timed(Runnable run) {
        final com.sun.management.OperatingSystemMXBean system =
                (com.sun.management.OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
        final long cpu = system.getProcessCpuTime();
        final long clock = System.nanoTime();
        run.run();
        return new double[] {(System.nanoTime() - clock) * 1e-9, (system.getProcessCpuTime() - cpu) * 1e-9};
    }

    private void line(String what, int rows, long tokens, double seconds, double cpu) {
        lines.add(String.format(Locale.ROOT, "%s,%s,%d,%d,%.4f,%.4f,%.1f", label, what, rows, tokens, seconds, cpu, tokens / seconds));
        System.out.println(lines.get(lines.size() - 1));
    }
}
