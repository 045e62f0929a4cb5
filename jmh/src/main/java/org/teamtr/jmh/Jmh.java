package org.teamtr.jmh;

import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.profile.GCProfiler;
import org.openjdk.jmh.results.format.ResultFormatType;
import org.openjdk.jmh.runner.Runner;
import org.openjdk.jmh.runner.RunnerException;
import org.openjdk.jmh.runner.options.ChainedOptionsBuilder;
import org.openjdk.jmh.runner.options.OptionsBuilder;
import org.openjdk.jmh.runner.options.TimeValue;
import org.openjdk.jmh.runner.options.VerboseMode;

/**
 * Runs JMH, one fork at a time, and reads the JSON it writes.
 *
 * @param warmups iterations before those that count
 * @param iterations that count
 * @param millis of each
 */
record Jmh(int warmups, int iterations, int millis) {
    /** Kernels that write over their logits. Their time is that of single calls, each on logits as they were at first. */
    private static final Set<String> IN_PLACE = Set.of("LogProbsBackward", "TokenKlBackward", "PolicyLoss");
    private static final int CALLS = 12;

    /**
     * One fork.
     *
     * @param params that differ from the benchmark's own
     * @param allocations whether to count what is allocated on the Java heap
     * @param jvmArguments of the fork beside the usual ones
     */
    Run fork(String kernel, String side, Map<String, String> params, boolean allocations, String... jvmArguments) {
        try {
            final Path json = Files.createTempFile("jmh", ".json");
            final Path error = Files.createTempFile("jmh", ".error");
            try {
                final ChainedOptionsBuilder options = new OptionsBuilder()
                        .include("^org\\.teamtr\\.jmh\\." + kernel + "Benchmark\\." + side + "$").forks(1)
                        .warmupIterations(warmups).warmupTime(TimeValue.milliseconds(millis))
                        .measurementIterations(iterations).measurementTime(TimeValue.milliseconds(millis))
                        .shouldFailOnError(true).verbosity(VerboseMode.SILENT)
                        .resultFormat(ResultFormatType.JSON).result(json.toString());
                final String cache = System.getProperty("org.bytedeco.javacpp.cachedir");
                final List<String> arguments = new ArrayList<>(List.of(jvmArguments));
                arguments.add("-D" + KernelBenchmark.ERROR_FILE + "=" + error);
                if (cache != null) {
                    arguments.add("-Dorg.bytedeco.javacpp.cachedir=" + cache);
                }
                options.jvmArgsAppend(arguments.toArray(String[]::new));
                params.forEach((name, value) -> options.param(name, value));
                if (IN_PLACE.contains(kernel) && !"1".equals(params.get("rows"))) {
                    options.mode(Mode.SingleShotTime).warmupIterations(CALLS / 3).measurementIterations(CALLS);
                }
                if (allocations) {
                    options.addProfiler(GCProfiler.class);
                }
                new Runner(options.build()).run();
                final List<Run> runs = Run.read(new ObjectMapper().readTree(json.toFile()));
                if (runs.size() != 1) {
                    throw new IllegalArgumentException(kernel + "." + side + params + ": expected one benchmark, given "
                            + runs.size());
                }
                return runs.get(0).withError(Double.parseDouble(Files.readString(error)));
            } finally {
                Files.delete(error);
                Files.delete(json);
            }
        } catch (RunnerException e) {
            throw new IllegalStateException(kernel + "." + side + params + ": " + e.getMessage(), e);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }
}
