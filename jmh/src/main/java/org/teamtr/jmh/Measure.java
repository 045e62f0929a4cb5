package org.teamtr.jmh;

import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.teamtr.kernels.Backend;

/**
 * Measures all that the tables show and writes it into one file: jmh/measure.sh. About a quarter of an hour, which wants a
 * machine that does nothing else.
 */
public final class Measure {
    private static final int ROUNDS = 5;
    /** The kernels over logits, with the parameters that tell their cases apart. */
    static final List<Map.Entry<String, Map<String, String>>> KERNELS = List.of(
            Map.entry("LogProbs", Map.of()), Map.entry("LogProbsBackward", Map.of()),
            Map.entry("TokenKl", Map.of("policies", "near")), Map.entry("TokenKl", Map.of("policies", "far")),
            Map.entry("TokenKlBackward", Map.of()), Map.entry("PolicyLoss", Map.of()),
            Map.entry("Sampling", Map.of("topP", "1")), Map.entry("Sampling", Map.of("topP", "0.95")),
            Map.entry("VocabParallel", Map.of()));
    static final List<String> TOKEN_KERNELS = List.of("Surrogate", "SampledKl", "Advantages");

    private final Path file;
    private final String rows;
    private final Jmh times;
    private Results results;

    private Measure(Path file, int rows, int millis) throws IOException {
        this.file = file;
        this.rows = Integer.toString(rows);
        this.times = new Jmh(1, 4, millis);
        this.results = Results.here(Backend.current().level(), Backend.current().threads(), rows, 151936, Results.load());
    }

    /** Arguments: the file, and, to try it out, fewer rows than 512 and shorter iterations than 200 ms. */
    public static void main(String[] args) throws IOException {
        final int rows = args.length > 1 ? Integer.parseInt(args[1]) : 512;
        final int millis = args.length > 2 ? Integer.parseInt(args[2]) : 200;
        final Measure measure = new Measure(Path.of(args[0]), rows, millis);
        measure.everything();
    }

    private void everything() throws IOException {
        // Rounds go over everything, so that a slow minute of the machine touches one fork of each.
        for (int round = 0; round < ROUNDS; round++) {
            for (Map.Entry<String, Map<String, String>> kernel : KERNELS) {
                for (String dtype : List.of("F32", "BF16")) {
                    final Map<String, String> params = params(kernel.getValue(), "dtype", dtype, "rows", rows);
                    fork(kernel.getKey(), "teamtr", params);
                    fork(kernel.getKey(), "roofline", params);
                    if (round == 0) {
                        fork(kernel.getKey(), "libtorch", params);
                        if (kernel.getKey().equals("LogProbsBackward")) {
                            fork(kernel.getKey(), "libtorchAutograd", params);
                        }
                        fork(kernel.getKey(), "plainJava", params);
                    }
                }
            }
            for (String kernel : TOKEN_KERNELS) {
                for (String side : List.of("teamtr", "roofline", "libtorch", "plainJava")) {
                    fork(kernel, side, Map.of());
                }
            }
        }
        for (String side : List.of("teamtr", "roofline", "libtorch", "plainJava")) {
            for (String dtype : List.of("F32", "BF16")) {
                fork("LinearLogProbs", side, Map.of("dtype", dtype));
            }
        }
        for (Map.Entry<String, Map<String, String>> kernel : KERNELS) {
            for (String dtype : List.of("F32", "BF16")) {
                for (String level : lower(results.host().level())) {
                    fork(kernel.getKey(), "teamtr", params(kernel.getValue(), "dtype", dtype, "rows", rows, "cpu", level));
                }
                final Map<String, String> alone = params(kernel.getValue(), "dtype", dtype, "rows", rows, "threads", "1");
                fork(kernel.getKey(), "teamtr", alone);
                fork(kernel.getKey(), "roofline", alone);
            }
        }
        for (String kernel : List.of("LogProbs", "TokenKl")) {
            final Map<String, String> near = kernel.equals("TokenKl") ? Map.of("policies", "near") : Map.of();
            for (String vocab : List.of("32000", "50257", "128256")) {
                growth(kernel, params(near, "dtype", "F32", "rows", rows, "vocab", vocab));
            }
            for (int factor : new int[] {2, 4}) {
                growth(kernel, params(near, "dtype", "F32", "rows", Integer.toString(Integer.parseInt(rows) / factor)));
            }
        }
        for (Map.Entry<String, Map<String, String>> kernel : KERNELS) {
            call(kernel.getKey(), "teamtr", params(kernel.getValue(), "dtype", "F32", "rows", "1", "vocab", "8"));
        }
        for (String kernel : TOKEN_KERNELS) {
            call(kernel, "teamtr", Map.of("tokens", "8"));
        }
        for (String side : List.of("libtorch", "plainJava")) {
            call("LogProbs", side, params(Map.of(), "dtype", "F32", "rows", "1", "vocab", "8"));
        }
    }

    /** {@return the CPU levels below a level} */
    static List<String> lower(String level) {
        final List<String> levels = List.of("avx512", "avx2", "portable");
        return levels.subList(levels.indexOf(level) + 1, levels.size());
    }

    private void growth(String kernel, Map<String, String> params) throws IOException {
        fork(kernel, "teamtr", params);
        fork(kernel, "roofline", params);
    }

    private void call(String kernel, String side, Map<String, String> params) throws IOException {
        take(times.fork(kernel, side, params, true));
    }

    private void fork(String kernel, String side, Map<String, String> params) throws IOException {
        take(times.fork(kernel, side, params, false));
    }

    private void take(Run run) throws IOException {
        System.out.printf("%s.%s %s: %.4f ms, load %.1f%n", run.kernel(), run.side(), run.params(), run.millis(), Results.load());
        results = results.with(run);
        results.write(file); // as it goes: what was measured stays when the rest is not
    }

    private static Map<String, String> params(Map<String, String> more, String... pairs) {
        final Map<String, String> params = new TreeMap<>(more);
        for (int i = 0; i < pairs.length; i += 2) {
            params.put(pairs[i], pairs[i + 1]);
        }
        return params;
    }
}
