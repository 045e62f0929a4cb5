package org.teamtr.kernels;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.function.Predicate;
import java.util.function.Supplier;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.bytedeco.javacpp.Loader;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.teamtr.kernels.internal.Natives;
import org.teamtr.kernels.internal.global.teamtr;

/** {@link Backend}: what it says of itself here, and, each in a JVM of its own, its settings and what happens without natives. */
@CpuOnly("settings, which need no second run")
class BackendTest {
    private static final List<String> LEVELS = List.of("portable", "avx2", "avx512");
    private static final String BEST = LEVELS.get(teamtr.teamtr_cpu_best());
    /** Without the bridge to SLF4J, which only the command line brings: what a program sees that links the kernels alone. */
    private static final String CLASS_PATH = Arrays
            .stream(System.getProperty("surefire.test.class.path", System.getProperty("java.class.path")).split(File.pathSeparator))
            .filter(entry -> !entry.contains("slf4j-jdk-platform-logging")).collect(Collectors.joining(File.pathSeparator));

    /** What follows the CPU in words, where the natives have CUDA kernels and the machine a GPU. */
    private static final String DEVICES = IntStream.range(0, Backend.current().cudaDevices().size())
            .mapToObj(i -> "; cuda:" + i + " " + Backend.current().cudaDevices().get(i)).collect(Collectors.joining());

    @TempDir
    Path folder;

    /** What the other JVM runs: everything that may answer or refuse, twice, and from several threads at once. */
    static final class Probe {
        private Probe() {
        }

        public static void main(String[] args) throws InterruptedException {
            final CountDownLatch start = new CountDownLatch(1);
            final List<String> answers = new ArrayList<>();
            final List<Thread> threads = new ArrayList<>();
            for (int i = 0; i < 4; i++) {
                final Thread thread = new Thread(() -> {
                    try {
                        start.await();
                    } catch (InterruptedException e) {
                        throw new AssertionError(e);
                    }
                    for (int again = 0; again < 2; again++) {
                        final String answer = answer(() -> "backend " + Backend.current());
                        synchronized (answers) {
                            answers.add(answer);
                        }
                    }
                });
                threads.add(thread);
                thread.start();
            }
            start.countDown();
            for (Thread thread : threads) {
                thread.join();
            }
            answers.stream().distinct().forEach(System.out::println);
            System.out.println(answer(() -> {
                try (Floats two = Floats.ofFloats(0, 0); Floats one = Floats.allocate(1)) {
                    LogProbs.forward(Logits.ofAddress(two.address(), 8, DType.F32, 1, 1, 2, 0, 2, two), null, Temperature.ONE,
                            null, one, null);
                    return "kernel " + one.get(0);
                }
            }));
            System.out.println("memory " + answer(() -> {
                try (Floats many = Floats.allocate(100_000)) {
                    return many.toString();
                } catch (OutOfMemoryError e) {
                    return e.getMessage();
                }
            }));
            System.out.println("device " + answer(() -> {
                try (Floats memory = Floats.allocate(Device.cuda(0), 1)) {
                    return memory.toString();
                } catch (DeviceException e) {
                    return e.getMessage();
                }
            }));
        }

        private static String answer(Supplier<String> call) {
            if (Boolean.getBoolean("interrupted")) {
                Thread.currentThread().interrupt();
            }
            try {
                return call.get();
            } catch (IllegalStateException e) {
                return "refused " + e.getMessage() + (e.getCause() instanceof LinkageError ? " (with its cause)" : "");
            } finally {
                if (Thread.interrupted() != Boolean.getBoolean("interrupted")) {
                    System.out.println("the interrupt was lost");
                }
            }
        }
    }

    /** The lines that another JVM printed, of both streams. */
    private List<String> run(String classPath, Map<String, String> environment, String... options) throws IOException,
            InterruptedException {
        final List<String> command = new ArrayList<>(List.of(Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-Duser.language=en", "-cp", classPath));
        command.addAll(Arrays.asList(options));
        command.add(Probe.class.getName());
        final File output = Files.createTempFile(folder, "probe", ".txt").toFile();
        final ProcessBuilder builder = new ProcessBuilder(command).redirectErrorStream(true).redirectOutput(output);
        builder.environment().remove("TEAMTR_THREADS");
        builder.environment().remove("JAVA_TOOL_OPTIONS");
        builder.environment().putAll(environment);
        final Process process = builder.start();
        if (!process.waitFor(60, TimeUnit.SECONDS)) {
            process.destroyForcibly();
            throw new AssertionError("still running after a minute: " + command);
        }
        final List<String> lines = Files.readAllLines(output.toPath());
        assertEquals(0, process.exitValue(), String.join("\n", lines));
        return lines;
    }

    private List<String> run(String... options) throws IOException, InterruptedException {
        return run(CLASS_PATH, Map.of(), options);
    }

    private static long count(List<String> lines, String part) {
        return lines.stream().filter(line -> line.contains(part)).count();
    }

    private static void accepted(List<String> lines, String description) {
        assertEquals(1, count(lines, "backend "), String.join("\n", lines));
        assertTrue(lines.contains("backend " + description + DEVICES), String.join("\n", lines));
        assertTrue(lines.contains("kernel " + (float) Math.log(2)), String.join("\n", lines));
        assertEquals(1, count(lines, "INFO: TeamTR kernels: " + description + DEVICES), "the one line in the log:\n"
                + String.join("\n", lines));
        assertEquals(1, count(lines, "INFO: "), String.join("\n", lines));
    }

    /** Eight askers from four threads, a kernel and a view of device memory hear the same. */
    private static void refused(List<String> lines, String message) {
        assertEquals(3, count(lines, "refused "), String.join("\n", lines));
        assertEquals(1, count(lines, "device refused " + message), String.join("\n", lines));
        assertEquals(2, lines.stream().filter(line -> line.equals("refused " + message)).count(), "expected " + message + "\ngiven "
                + String.join("\n", lines));
        assertEquals(0, count(lines, "INFO: "), String.join("\n", lines));
    }

    // ---- here ----

    @Test
    void describesItself() {
        final Backend backend = Backend.current();
        assertSame(backend, Backend.current());
        assertTrue(LEVELS.contains(backend.level()), backend.level());
        assertEquals(LEVELS.get(teamtr.teamtr_cpu_level()), backend.level());
        assertTrue(backend.threads() >= 1 && backend.threads() <= 1024);
        assertEquals(teamtr.teamtr_abi(), backend.abi());
        assertFalse(backend.version().isBlank());
        assertEquals(backend.cudaDevices().isEmpty(), backend.whyNoCuda() != null);
        // Kernels for CUDA, and a machine without the driver: that is no old driver, which CUDA would call it.
        if (teamtr.teamtr_cuda_count() == 0 && !teamtr.teamtr_last_error().startsWith("this build has no CUDA kernels")
                && !Files.exists(Path.of("/proc/driver/nvidia/version"))) {
            assertTrue(backend.whyNoCuda().startsWith("no GPU found"), backend.whyNoCuda());
        }
        if (backend.whyNoCuda() != null && backend.whyNoCuda().startsWith("this build has no CUDA kernels")) {
            assertTrue(backend.whyNoCuda().contains("linux-x86_64-gpu"), backend.whyNoCuda());
        }
        assertEquals("cpu " + backend.level() + ", " + backend.threads() + (backend.threads() == 1 ? " thread" : " threads")
                + DEVICES, backend.toString());
    }

    @Test
    void forcingALevelTheMachineLacksIsRefused() {
        final String level = LEVELS.get(teamtr.teamtr_cpu_level());
        try {
            for (String wanted : LEVELS) {
                if (LEVELS.indexOf(wanted) > LEVELS.indexOf(BEST)) {
                    final String message = assertThrows(IllegalStateException.class, () -> Natives.forceLevel(wanted)).getMessage();
                    assertEquals("org.teamtr.cpu: expected at most " + BEST + ", the best this machine has, given " + wanted,
                            message);
                    assertEquals(level, LEVELS.get(teamtr.teamtr_cpu_level()), "unchanged");
                } else {
                    Natives.forceLevel(wanted);
                    assertEquals(wanted, LEVELS.get(teamtr.teamtr_cpu_level()));
                    Natives.forceLevel(level);
                }
            }
            assertThrows(IllegalStateException.class, () -> Natives.forceThreads(0));
            assertThrows(IllegalStateException.class, () -> Natives.forceThreads(1025));
        } finally {
            Natives.forceLevel(level);
        }
    }

    // ---- in another JVM ----

    @Test
    void withoutSettings() throws Exception {
        final int processors = Runtime.getRuntime().availableProcessors();
        final List<String> lines = run();
        accepted(lines, "cpu " + BEST + ", " + processors + (processors == 1 ? " thread" : " threads"));
        assertEquals(BEST.equals("portable") ? 1 : 0, count(lines, "WARNING: TeamTR"), String.join("\n", lines));
    }

    @Test
    void levelByProperty() throws Exception {
        for (String level : LEVELS.subList(0, LEVELS.indexOf(BEST) + 1)) {
            final List<String> lines = run("-Dorg.teamtr.cpu=" + level, "-Dorg.teamtr.threads=1");
            accepted(lines, "cpu " + level + ", 1 thread");
            assertEquals(level.equals(BEST) && !BEST.equals("portable") ? 0 : 1, count(lines, "WARNING: TeamTR"),
                    String.join("\n", lines));
            if (!level.equals(BEST)) {
                assertEquals(1, count(lines, level + " is slower than the " + BEST
                        + " this machine has; remove -Dorg.teamtr.cpu=" + level));
            }
        }
        refused(run("-Dorg.teamtr.cpu=nonsense"), "org.teamtr.cpu: expected avx512, avx2 or portable, given nonsense");
    }

    @Test
    void threadsByPropertyElseByEnvironment() throws Exception {
        accepted(run(CLASS_PATH, Map.of("TEAMTR_THREADS", "3")), "cpu " + BEST + ", 3 threads");
        accepted(run(CLASS_PATH, Map.of("TEAMTR_THREADS", "x"), "-Dorg.teamtr.threads=5"), "cpu " + BEST + ", 5 threads");
        refused(run(CLASS_PATH, Map.of("TEAMTR_THREADS", "x")), "TEAMTR_THREADS: expected 1 to 1024, given x");
        refused(run("-Dorg.teamtr.threads=0"), "org.teamtr.threads: expected 1 to 1024, given 0");
        refused(run("-Dorg.teamtr.threads=x"), "org.teamtr.threads: expected 1 to 1024, given x");
        refused(run("-Dorg.teamtr.threads=1025"), "org.teamtr.threads: expected 1 to 1024, given 1025");
    }

    @Test
    void backendByProperty() throws Exception {
        final List<String> cuda = run("-Dorg.teamtr.backend=cuda");
        if (DEVICES.isEmpty()) {
            refused(cuda, "org.teamtr.backend=cuda: " + Backend.current().whyNoCuda() + "; set cpu, or leave it out");
        } else {
            accepted(cuda, "cpu " + BEST + ", " + Backend.current().threads() + " threads");
        }
        final List<String> cpu = run("-Dorg.teamtr.backend=cpu");
        assertTrue(cpu.stream().anyMatch(line -> line.matches("backend cpu " + BEST + ", [0-9]+ threads?")),
                String.join("\n", cpu));
        assertEquals(1, count(cpu, "device refused device: expected cpu, which org.teamtr.backend=cpu allows alone, given cuda:0"),
                String.join("\n", cpu));
        refused(run("-Dorg.teamtr.backend=nonsense"), "org.teamtr.backend: expected cpu or cuda, given nonsense");
    }

    /** As a program may bring one. */
    public static final class BrokenLogging extends System.LoggerFinder {
        @Override
        public System.Logger getLogger(String name, Module module) {
            throw new IllegalArgumentException("no logger today");
        }
    }

    @Test
    void aBrokenLoggerStopsNothing() throws Exception {
        final Path services = Files.createDirectories(folder.resolve("META-INF/services"));
        Files.writeString(services.resolve("java.lang.System$LoggerFinder"), BrokenLogging.class.getName());
        final List<String> lines = run(folder + File.pathSeparator + CLASS_PATH, Map.of(), "-Dorg.teamtr.threads=1");
        assertTrue(lines.contains("backend cpu " + BEST + ", 1 thread" + DEVICES), String.join("\n", lines));
        assertTrue(lines.contains("kernel " + (float) Math.log(2)), String.join("\n", lines));
    }

    /** Both jars by their coordinates, the reason, and the LinkageError as the cause; from kernels and, for JavaCPP, from views. */
    @Test
    void withoutNatives() throws Exception {
        final List<String> kernels = run(without(entry -> Stream.of("linux-x86_64", "linux-x86_64-gpu")
                .anyMatch(platform -> Files.exists(Path.of(entry, "org/teamtr/kernels/internal", platform)))), Map.of());
        missing(kernels, "TeamTR kernels: the native library could not be loaded (");
        final List<String> javaCpp = run(without(entry -> entry.matches(".*javacpp-[^/]*-linux-x86_64\\.jar")), Map.of());
        missing(javaCpp, "JavaCPP: the native library could not be loaded (");
    }

    /** A small Java heap and a large model in native memory are common: JavaCPP's limits are named. */
    @Test
    void theLimitsOfJavaCppAreNamed() throws Exception {
        final List<String> lines = run("-Dorg.bytedeco.javacpp.maxBytes=100k", "-Dorg.bytedeco.javacpp.maxRetries=1");
        final String words = lines.stream().filter(line -> line.startsWith("memory ")).findFirst().orElseThrow();
        assertTrue(words.startsWith("memory 400000 bytes of native memory: ") && words.contains("maxBytes") && words.endsWith(
                "raise -Xmx, or set -Dorg.bytedeco.javacpp.maxBytes=0 and -Dorg.bytedeco.javacpp.maxPhysicalBytes=0 for none"), words);
    }

    /** JavaCPP locks a file to unpack a library, which fails in an interrupted thread, and does not try again. An empty folder makes it unpack. */
    @Test
    void aThreadThatWasInterruptedLoadsThemToo() throws Exception {
        final List<String> lines = run("-Dinterrupted=true", "-Dorg.teamtr.threads=1", "-Dorg.bytedeco.javacpp.cachedir=" + folder.resolve("cache"));
        accepted(lines, "cpu " + BEST + ", 1 thread");
        assertEquals(0, count(lines, "the interrupt was lost"), String.join("\n", lines));
    }

    /** Where the jars are there, the folder that they are unpacked to is what is wrong, and is named. */
    @Test
    void nativesThatCannotBeUnpackedAreNotMissing() throws IOException {
        final String folder = Loader.getCacheDir().toString();
        final String starts = "TeamTR kernels: the native library cannot be unpacked to " + folder + " and loaded from there: ";
        final String ends = "name another folder with the Java option -Dorg.bytedeco.javacpp.cachedir=DIR (of ./teamtr: in TEAMTR_JAVA_OPTS)";
        final Throwable noexec = notLoaded(new UnsatisfiedLinkError(folder + "/a.so: failed to map segment from shared object"));
        assertEquals(starts + "programs may not be run from there (mounted noexec); " + ends, Natives.missing("TeamTR kernels", noexec));
        final Throwable full = notLoaded(new IOException("No space left on device"));
        assertTrue(Natives.missing("TeamTR kernels", full).startsWith(starts + "no space left on the device"));
        final Throwable other = notLoaded(new UnsatisfiedLinkError(folder + "/a.so: undefined symbol"));
        assertEquals(starts + folder + "/a.so: undefined symbol", Natives.missing("TeamTR kernels", other));
    }

    /** As JavaCPP says it. */
    private static Throwable notLoaded(Throwable cause) {
        return new UnsatisfiedLinkError("no jniteamtr in java.library.path: a:b").initCause(cause);
    }

    private static String without(Predicate<String> natives) {
        final List<String> entries = List.of(CLASS_PATH.split(File.pathSeparator));
        final String rest = entries.stream().filter(natives.negate()).collect(Collectors.joining(File.pathSeparator));
        assertTrue(rest.length() < CLASS_PATH.length(), "the natives are not where they are looked for: " + CLASS_PATH);
        return rest;
    }

    private static void missing(List<String> lines, String starts) {
        final List<String> refusals = lines.stream().filter(line -> line.startsWith("refused ")).toList();
        assertEquals(2, refusals.size(), String.join("\n", lines));
        assertEquals(refusals.get(0), refusals.get(1), "the same words each time");
        for (String part : new String[] {"refused " + starts, "The class path needs both org.teamtr:teamtr:",
            ":linux-x86_64 and org.bytedeco:javacpp:",
            "(with its cause)"}) {
            assertTrue(refusals.get(0).contains(part), "expected " + part + "\ngiven " + refusals.get(0));
        }
        assertTrue(refusals.get(0).matches(".*org\\.bytedeco:javacpp:[0-9.]+:linux-x86_64.*"), refusals.get(0));
        assertTrue(refusals.get(0).length() < 400, "words, not a path: " + refusals.get(0));
    }
}
