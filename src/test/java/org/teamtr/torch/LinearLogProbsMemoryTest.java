package org.teamtr.torch;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.stream.Stream;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.GeneratorOptional;
import org.bytedeco.pytorch.NoGradGuard;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch.ScalarType;
import org.bytedeco.pytorch.global.torch;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.teamtr.TestJvm;

/**
 * What linear log-probs cost at the size of a real head, beside libtorch's composition of the same. Prints the tables of
 * docs/kernels.md. Every line is a process of its own, which says by how much its peak exceeds its inputs and the two gradients.
 */
@Tag("large")
@EnabledOnOs(OS.LINUX)
class LinearLogProbsMemoryTest {
    private static final int ROWS = 4096;
    /** For the table of chunks: whole chunks of 64, 128 and 256 MiB. */
    private static final int FEWER = 440;
    private static final int REPEATS = 5;
    private static final int H = 1024;
    private static final int VOCAB = 151_936;
    /** Rows and tokens whose gradients are compared with double. */
    private static final int SOME = 256;

    /** @param error largest of the sampled gradients, relative to the largest of each; NaN if not computed */
    private record Cost(double extra, double seconds, double error) {
        @Override
        public String toString() {
            return String.format(Locale.ROOT, "%,.0f MB | %.1f s", extra / 1e6, seconds);
        }
    }

    private static Cost cost(Object... arguments) throws Exception {
        final List<String> command = TestJvm.command(LinearLogProbsMemoryTest.class, "-Xmx256m", "-XX:+UseSerialGC");
        Stream.of(arguments).map(Object::toString).forEach(command::add);
        final Process process = new ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.DISCARD).start();
        try {
            final String out = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
            assertEquals(0, process.waitFor(), String.join(" ", command) + "\n" + out);
            final String[] numbers = out.strip().split("\\s+");
            return new Cost(Double.parseDouble(numbers[0]), Double.parseDouble(numbers[1]), Double.parseDouble(numbers[2]));
        } finally {
            process.destroyForcibly();
        }
    }

    @Test
    void aTenthOfTheMemoryOfTheComposition() throws Exception {
        final long needed = 11_000; // MB: inputs, gradients and three times the logits
        assumeTrue(kilobytes("/proc/meminfo", "MemAvailable") / 1000 > needed, "fewer than " + needed + " MB are free");
        final Cost unfused = cost("unfused", "f32", ROWS, 0);
        final Cost chunked = cost("twoPasses", "f32", ROWS, LinearLogProbs.CHUNK_BYTES);
        System.out.printf("| rows %d, H %d, V %d, f32 | beside inputs and gradients | forward and backward |%n|---|---|---|%n",
                ROWS, H, VOCAB);
        System.out.printf("| libtorch: log_softmax, gather, autograd | %s |%n| LinearLogProbs | %s |%n", unfused, chunked);
        System.out.printf("gradients of %d rows and %d tokens are within %.1e of double%n", SOME, SOME, chunked.error);
        assertTrue(10 * chunked.extra < unfused.extra, "expected a tenth of " + unfused + ", given " + chunked);
        assertTrue(chunked.error < 1e-5, "gradients are off by " + chunked.error);
    }

    @Test
    void memoryIsThatOfAChunkWhateverTheRows() throws Exception {
        System.out.printf("| H %d, V %d | chunk | beside inputs and gradients | ms a row |%n|---|---|---|---|%n", H, VOCAB);
        for (String dtype : new String[] {"f32", "bf16"}) {
            for (long chunk = 32L << 20; chunk <= 256L << 20; chunk *= 2) {
                final Cost cost = cost("onePass", dtype, FEWER, chunk);
                System.out.printf(Locale.ROOT, "| %s | %d MiB | %,.0f MB | %.2f |%n", dtype, chunk >> 20, cost.extra / 1e6,
                        1e3 * cost.seconds / FEWER);
                assertTrue(cost.extra < 2.0 * chunk + 64e6, dtype + ", a chunk of " + chunk + " bytes: " + cost);
            }
        }
    }

    // ---- what is measured ----

    /** @param args unfused, twoPasses, or onePass (the best of some), f32 or bf16, rows, bytes of a chunk */
    public static void main(String[] args) throws IOException {
        final ScalarType dtype = args[1].equals("f32") ? ScalarType.Float : ScalarType.BFloat16;
        final int rows = Integer.parseInt(args[2]);
        try (PointerScope scope = new PointerScope()) {
            new Workers(Long.MAX_VALUE, Runtime.getRuntime().availableProcessors(), true).use();
            torch.manual_seed(3);
            final Tensor hidden = random(rows, 1, dtype);
            final Tensor weight = random(VOCAB, 0.06, dtype);
            final Tensor targets = torch.randint(VOCAB, new long[] {rows}).to(ScalarType.Long);
            final Tensor g = torch.randn(rows);
            final long inputs = kilobytes("/proc/self/status", "VmRSS") * 1024;
            Tensor[] gradients = null;
            double seconds = Double.POSITIVE_INFINITY;
            for (int i = 0; i < (args[0].equals("onePass") ? REPEATS : 1); i++) {
                final long start = System.nanoTime();
                gradients = args[0].equals("unfused") ? unfused(hidden, weight, targets, g)
                        : linear(gradients, hidden, weight, targets, g, args[0].equals("twoPasses"), Long.parseLong(args[3]));
                seconds = Math.min(seconds, (System.nanoTime() - start) * 1e-9);
            }
            final long peak = kilobytes("/proc/self/status", "VmHWM") * 1024;
            long own = 0;
            for (Tensor gradient : gradients) {
                own += gradient.numel() * gradient.element_size();
            }
            System.out.println((peak - inputs - own) + " " + seconds + " "
                    + (args[0].equals("twoPasses") ? error(hidden, weight, targets, g, gradients) : Double.NaN));
        }
    }

    /** Filled in parts, so that making them needs no more than they do. */
    private static Tensor random(int rows, double size, ScalarType dtype) {
        final Tensor out = torch.empty(0, H).to(dtype).new_empty(rows, H);
        for (int from = 0; from < rows; from += 256) {
            try (PointerScope scope = new PointerScope()) {
                out.narrow(0, from, Math.min(256, rows - from)).normal_(0, size, new GeneratorOptional());
            }
        }
        return out;
    }

    /** @param gradients of a call before, whose memory is used again, or null */
    private static Tensor[] linear(Tensor[] gradients, Tensor hidden, Tensor weight, Tensor targets, Tensor g, boolean twoPasses,
            long chunkBytes) {
        final Tensor[] d = gradients != null ? gradients : new Tensor[] {torch.empty_like(hidden), torch.zeros(VOCAB, H)};
        try (LinearLogProbs head = new LinearLogProbs(hidden, weight, null, null, VOCAB, targets, 1, chunkBytes)) {
            if (twoPasses) {
                head.forward();
            }
            head.backward(g, null, null, d[0], d[1]);
        }
        return d;
    }

    /** Every intermediate is freed as soon as autograd lets go of it. */
    private static Tensor[] unfused(Tensor hidden, Tensor weight, Tensor targets, Tensor g) {
        hidden.set_requires_grad(true);
        weight.set_requires_grad(true);
        final Tensor logits = hidden.mm(weight.t());
        final Tensor logSoftmax = torch.log_softmax(logits, 1);
        logits.close();
        final Tensor logProbs = logSoftmax.gather(1, targets.unsqueeze(1)).squeeze(1);
        logSoftmax.close();
        logProbs.mul(g).sum().backward();
        return new Tensor[] {hidden.grad(), weight.grad()};
    }

    /** In double: dHidden of the first rows, and dWeight, which sums over all rows, of some tokens. */
    private static double error(Tensor hidden, Tensor weight, Tensor targets, Tensor g, Tensor[] gradients) {
        try (NoGradGuard guard = new NoGradGuard(); PointerScope scope = new PointerScope()) {
            final Tensor wide = weight.to(ScalarType.Double);
            final Tensor tokens = targets.narrow(0, 0, SOME);
            final Tensor dWeight = torch.zeros(SOME, H).to(ScalarType.Double);
            Tensor dHidden = null;
            for (int from = 0; from < ROWS; from += SOME) {
                try (PointerScope inner = new PointerScope()) {
                    final Tensor h = hidden.narrow(0, from, SOME).to(ScalarType.Double);
                    final Tensor p = torch.softmax(h.mm(wide.t()), 1);
                    final Tensor d = p.neg_().scatter_add_(1, targets.narrow(0, from, SOME).unsqueeze(1),
                            torch.ones(SOME, 1).to(ScalarType.Double)).mul_(g.narrow(0, from, SOME).unsqueeze(1));
                    dWeight.add_(d.index_select(1, tokens).t().mm(h));
                    if (from == 0) {
                        dHidden = Decoder.kept(d.mm(wide));
                    }
                }
            }
            final double ofHidden = error(dHidden, gradients[0].narrow(0, 0, SOME));
            dHidden.close();
            return Math.max(ofHidden, error(dWeight, gradients[1].index_select(0, tokens)));
        }
    }

    private static double error(Tensor expected, Tensor given) {
        return given.to(ScalarType.Double).sub(expected).abs().max().div(expected.abs().max()).item_double();
    }

    private static long kilobytes(String file, String name) throws IOException {
        try (Stream<String> lines = Files.lines(Path.of(file))) {
            return Long.parseLong(lines.filter(line -> line.startsWith(name + ":")).findFirst().orElseThrow()
                    .replaceAll("\\D", ""));
        }
    }
}
