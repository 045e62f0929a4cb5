package org.teamtr.jmh;

import com.fasterxml.jackson.annotation.JsonUnwrapped;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.SerializationFeature;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.LocalDate;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import org.bytedeco.javacpp.Loader;

/**
 * A measurement as it is committed: jmh/results/MACHINE-COMMIT.json.
 *
 * @param commit with a + where the work tree differed from it
 * @param loadBefore the machine's load average before the first fork
 * @param loadMost the largest seen between two forks; the benchmarks' own two threads included
 * @param shape rows and vocabulary of the main table
 */
record Results(String commit, String date, @JsonUnwrapped Host host, int threads, double loadBefore, double loadMost, int[] shape,
        List<Run> runs) {
    /**
     * Where it was measured.
     *
     * @param machine the processor's name, family and model, and the number of CPUs
     * @param level the best CPU level of the kernels there
     */
    record Host(String machine, String os, String jdk, String libtorch, String level) {
    }

    private static final ObjectMapper JSON = new ObjectMapper().enable(SerializationFeature.INDENT_OUTPUT);

    static Results here(String level, int threads, int rows, int vocab, double load) throws IOException {
        final Host host = new Host(processor(), System.getProperty("os.name"), System.getProperty("java.runtime.version"),
                Loader.getVersion("org.bytedeco", "pytorch"), level);
        return new Results(git(), LocalDate.now().toString(), host, threads, load, load, new int[] {rows, vocab}, List.of());
    }

    static double load() {
        return ManagementFactory.getOperatingSystemMXBean().getSystemLoadAverage();
    }

    /** {@return these with one more; forks of one measurement come together} */
    Results with(Run run) {
        final List<Run> more = new ArrayList<>();
        boolean there = false;
        for (Run r : runs) {
            final boolean same = r.same(run);
            more.add(same ? r.with(run) : r);
            there |= same;
        }
        if (!there) {
            more.add(run);
        }
        return new Results(commit, date, host, threads, loadBefore, Math.max(loadMost, load()), shape, more);
    }

    Optional<Run> find(Run like, String side) {
        return runs.stream().filter(r -> r.same(new Run(like.kernel(), side, like.params(), like.forks(), 0, null))).findFirst();
    }

    void write(Path file) throws IOException {
        JSON.writeValue(file.toFile(), this);
    }

    static Results read(Path file) throws IOException {
        return JSON.readValue(file.toFile(), Results.class);
    }

    private static String git() throws IOException {
        return run("git", "rev-parse", "--short", "HEAD") + (run("git", "status", "--porcelain", "-uno").isEmpty() ? "" : "+");
    }

    private static String run(String... command) throws IOException {
        return new String(new ProcessBuilder(command).start().getInputStream().readAllBytes()).strip();
    }

    private static String processor() throws IOException {
        String name = "?";
        String family = "?";
        String model = "?";
        for (String line : Files.readAllLines(Path.of("/proc/cpuinfo"))) {
            final String value = line.substring(line.indexOf(':') + 1).strip();
            name = line.startsWith("model name") ? value : name;
            family = line.startsWith("cpu family") ? value : family;
            model = line.matches("model\\s*:.*") ? value : model;
        }
        return name + " (family " + family + ", model " + model + "), " + Runtime.getRuntime().availableProcessors() + " CPUs";
    }
}
