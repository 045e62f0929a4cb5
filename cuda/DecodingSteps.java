package org.teamtr.torch;

import java.nio.file.Path;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Locale;
import java.util.Map;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Device;
import org.bytedeco.pytorch.GeneratorOptional;
import org.bytedeco.pytorch.LongOptional;
import org.bytedeco.pytorch.NoGradGuard;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch.ScalarType;
import org.teamtr.model.ModelConfig;

/**
 * Milliseconds of a decoding step, each with the copy of its tokens to the host that generation needs:
 * {@code DecodingSteps CONFIG.json DEVICE DTYPE ROWS CONTEXT STEPS HOW}, called by train.sh. HOW is {@code libtorch}, the operations
 * that prompts go through, {@code kernels}, or {@code graphs}: the kernels, recorded and launched as a CUDA graph. Weights and the
 * tokens so far are random. What the first two steps compute is compared with {@code libtorch}; the largest difference of a row's
 * logits from it, of their root mean square, decides the exit code.
 */
public final class DecodingSteps {
    private DecodingSteps() {
    }

    /** One step of all rows. */
    private interface Stepper {
        Tensor logits(Tensor tokens, Tensor positions, KvCache cache);
    }

    public static void main(String[] args) throws Exception {
        final ModelConfig config = ModelConfig.read(Path.of(args[0]));
        final ScalarType dtype = switch (args[2]) {
            case "f32" -> ScalarType.Float;
            case "bf16" -> ScalarType.BFloat16;
            case "f16" -> ScalarType.Half;
            default -> throw new IllegalArgumentException("DTYPE: expected f32, bf16 or f16, given " + args[2]);
        };
        final int rows = Integer.parseInt(args[3]);
        final int context = Integer.parseInt(args[4]);
        final int steps = Integer.parseInt(args[5]);
        final String how = args[6];
        try (NoGradGuard guard = new NoGradGuard(); PointerScope scope = new PointerScope()) {
            final Device device = new Device(args[1]);
            final CudaGraph.Recordable stream = how.equals("graphs") ? new CudaGraph.Recordable(device) : null;
            final Map<String, Tensor> w = new HashMap<>();
            Layout.of(config).parts.forEach((name, part) -> {
                final Tensor weight = Decoder.empty(part.shape(), dtype, device);
                w.put(name, part.shape().length == 1 ? weight.fill_(new Scalar(1))
                        : weight.normal_(0, 1 / Math.sqrt(part.shape()[1]), new GeneratorOptional()));
            });
            final KvCache cache = new KvCache(config, dtype, device);
            cache.arrange(longs(device, new long[0]), rows, 0, context, context + steps + 4);
            cache.reserve(context + steps + 4); // all at once: what it is to grow is not measured
            for (int i = 0; i < cache.keys.length; i++) {
                cache.keys[i].normal_(0, 1, new GeneratorOptional());
                cache.values[i].normal_(0, 1, new GeneratorOptional());
            }
            final long[] ids = new long[rows];
            Arrays.setAll(ids, r -> (7919L * r + 13) % config.embedding().vocab());
            final Tensor tokens = longs(device, ids);
            final Tensor starts = longs(device, new long[rows]);
            final Tensor positions = longs(device, new long[rows]).add_(new Scalar(context));
            final Decoder decoder = new Decoder(config, dtype, device, 0);
            final Stepper libtorch = (in, at, of) -> decoder.logits(w, decoder.hidden(w, in.view(rows, 1), at, null, of).select(1, 0));
            final StackedDecoder stacked = how.equals("libtorch") ? null
                    : new StackedDecoder(config, decoder, w, dtype, device, 0, config.embedding().vocab(), rows, how.equals("graphs"));
            final Stepper own = stacked == null ? libtorch : (in, at, of) -> stacked.logits(in, at, starts, of);
            double worst = 0;
            for (int step = 0; step < 2; step++) {
                try (PointerScope inner = new PointerScope()) {
                    final Tensor expected = libtorch.logits(tokens, positions, cache);
                    cache.length--; // the same column once more
                    final Tensor given = own.logits(tokens, positions, cache);
                    worst = Math.max(worst, difference(expected, given));
                    next(given, tokens, positions);
                }
            }
            final double[] milliseconds = new double[steps];
            for (int step = 0; step < steps; step++) {
                try (PointerScope inner = new PointerScope()) {
                    final long began = System.nanoTime();
                    next(own.logits(tokens, positions, cache), tokens, positions);
                    milliseconds[step] = (System.nanoTime() - began) * 1e-6;
                }
            }
            Arrays.sort(milliseconds);
            final double bound = dtype == ScalarType.BFloat16 ? 0.2 : dtype == ScalarType.Half ? 0.03 : 1e-4;
            System.out.printf(Locale.ROOT, "%-9s %8.3f ms a step (%.3f to %.3f), %.0f tokens/s; %d rows, %d tokens before; logits differ by"
                    + " %.2g of their size%s%n", how, milliseconds[steps / 2], milliseconds[steps / 5], milliseconds[steps * 4 / 5],
                    1e3 * rows / milliseconds[steps / 2], rows, context, worst, worst <= bound ? "" : ": WRONG, at most " + bound);
            if (stacked != null) {
                stacked.close();
            }
            cache.close();
            decoder.close();
            if (stream != null) {
                stream.close();
            }
            System.exit(worst <= bound ? 0 : 1);
        }
    }

    /** The likeliest tokens go in next, once the host has seen them. */
    private static void next(Tensor logits, Tensor tokens, Tensor positions) {
        tokens.copy_(logits.argmax(new LongOptional(1), false));
        positions.add_(new Scalar(1));
        Host.longs(tokens);
    }

    private static double difference(Tensor expected, Tensor given) {
        final Tensor e = expected.to(ScalarType.Float);
        final Tensor rms = e.square().mean(new long[] {1}).sqrt_();
        return e.sub(given.to(ScalarType.Float)).square_().mean(new long[] {1}).sqrt_().div_(rms).max().item_float();
    }

    private static Tensor longs(Device device, long[] values) {
        return Tensor.create(values, values.length).to(device, ScalarType.Long);
    }
}
