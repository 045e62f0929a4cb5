package org.teamtr.torch;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.Callable;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Device;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch;
import org.teamtr.model.ModelConfig;

/**
 * What the rule of {@link Workers} rests on: forward and backward over micro-batches of 512 tokens, by as many workers as
 * there are threads with one thread per operation, and by one worker whose operations have all threads. {@code jmh/trainer.sh} runs it.
 */
public final class ThreadRule {
    private static final int VOCAB = 1024;
    private static final int ROWS = 16;
    private static final int LENGTH = 32;
    private static final int ROUNDS = 3;
    /** Hidden sizes; a model has four layers. */
    private static final int[] HIDDEN = {64, 128, 256, 384, 512, 640};

    private ThreadRule() {
    }

    /** Argument: the CSV file to write. */
    public static void main(String[] args) throws IOException {
        final int threads = Runtime.getRuntime().availableProcessors();
        final List<String> lines = new ArrayList<>(List.of("parameters,threads,tokens,seconds_workers,seconds_one"));
        for (int hidden : HIDDEN) {
            final ModelConfig config = ModelConfig.qwen3(VOCAB, hidden, 5 * hidden / 2, 4, 4, 2, hidden / 4, LENGTH);
            try (PointerScope scope = new PointerScope();
                    Workers several = new Workers(1, threads, true); Workers one = new Workers(Long.MAX_VALUE, threads, true)) {
                final Device device = new Device("cpu");
                final Weights weights = new Weights(Layout.of(config), torch.ScalarType.Float, device, device, true);
                weights.random(1);
                final Decoder decoder = new Decoder(config, torch.ScalarType.Float, device, 0);
                final double[][] seconds = new double[2][ROUNDS];
                for (int round = -1; round < ROUNDS; round++) { // the first warms up
                    final double s = seconds(several, decoder, weights, threads);
                    final double o = seconds(one, decoder, weights, threads);
                    if (round >= 0) {
                        seconds[0][round] = s;
                        seconds[1][round] = o;
                    }
                }
                Arrays.sort(seconds[0]);
                Arrays.sort(seconds[1]);
                lines.add(String.format(Locale.ROOT, "%d,%d,%d,%.4f,%.4f", weights.layout.length(), threads,
                        threads * ROWS * LENGTH,
                        seconds[0][ROUNDS / 2], seconds[1][ROUNDS / 2]));
                System.out.println(lines.get(lines.size() - 1));
                weights.close();
                decoder.close();
            }
        }
        Files.write(Path.of(args[0]), lines);
    }

    private static double seconds(Workers workers, Decoder decoder, Weights weights, int micros) {
        final List<Callable<Void>> tasks = new ArrayList<>();
        for (int i = 0; i < micros; i++) {
            tasks.add(() -> {
                try (PointerScope scope = new PointerScope()) {
                    final Map<String, Tensor> leaves = weights.leaves();
                    final Tensor ids = Tensor.create(new long[ROWS * LENGTH], ROWS, LENGTH);
                    final Tensor hidden = decoder.hidden(leaves, ids, null, null, null);
                    decoder.logits(leaves, hidden).logsumexp(-1).sum().backward();
                }
                return null;
            });
        }
        final long started = System.nanoTime();
        workers.run("micro-batches", tasks, nothing -> {});
        return (System.nanoTime() - started) * 1e-9;
    }
}
