package org.teamtr.torch;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.bytedeco.javacpp.Loader;
import org.bytedeco.pytorch.global.torch;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.teamtr.TestJvm;
import org.teamtr.kernels.internal.NativeFolders;

/** What happens on a machine where libtorch has never been unpacked. */
class LibtorchTest {
    @TempDir
    private Path folder;

    /** What the other JVMs run. */
    static final class Start {
        private Start() {
        }

        public static void main(String[] args) {
            Libtorch.load();
            System.out.println("sum " + torch.ones(3).sum().item_float());
        }
    }

    /**
     * Two processes start at once where a third was killed while it unpacked the largest library: of that there is the beginning, with
     * whose header the linker maps more than there is. Opened like this, it ends the JVM with SIGBUS.
     */
    @Test
    @Timeout(240)
    void twoProcessesStartWhereAThirdWasKilled() throws Exception {
        final String library = "org/bytedeco/pytorch/" + Loader.getPlatform() + "/libtorch_cpu.so";
        final File jar = Arrays.stream(System.getProperty("surefire.test.class.path", System.getProperty("java.class.path"))
                .split(File.pathSeparator)).map(File::new)
                .filter(f -> f.getName().matches("pytorch-.*-" + Loader.getPlatform() + "\\.jar")).findFirst().orElseThrow();
        final Path half = folder.resolve("cache").resolve(jar.getName()).resolve(library);
        Files.createDirectories(half.getParent());
        try (InputStream in = torch.class.getResourceAsStream("/" + library)) {
            Files.write(half, in.readNBytes(1 << 20));
        }
        final List<Process> processes = new ArrayList<>();
        for (int i = 0; i < 2; i++) {
            processes.add(start(folder.resolve("log" + i)));
        }
        for (int i = 0; i < 2; i++) {
            final String said = Files.exists(folder.resolve("log" + i)) && processes.get(i).waitFor(220, TimeUnit.SECONDS)
                    ? Files.readString(folder.resolve("log" + i)) : "still running";
            processes.get(i).destroyForcibly();
            assertTrue(said.contains("sum 3.0"), said);
            assertEquals(0, processes.get(i).exitValue(), said);
        }
        assertTrue(Files.size(half) > 100_000_000, half + ": " + Files.size(half));
    }

    private Process start(Path log) throws IOException {
        return new ProcessBuilder(TestJvm.command(Start.class, "-Xmx256m", "-XX:ErrorFile=" + folder.resolve("hs_err.log"),
                "-Dorg.bytedeco.javacpp.cachedir=" + folder.resolve("cache")))
                .redirectErrorStream(true).redirectOutput(log.toFile()).start();
    }

    /** Folders that it cannot be unpacked to or run from are named, with the remedy. */
    @Test
    void aFolderThatDoesNotServeIsNamed() throws IOException {
        final String folder = Loader.getCacheDir().toString();
        final String another = "; name another folder with the Java option -Dorg.bytedeco.javacpp.cachedir=DIR (of ./teamtr: in"
                + " TEAMTR_JAVA_OPTS)";
        final String missing = assertThrows(UnsatisfiedLinkError.class, () -> System.loadLibrary("jnitorch")).getMessage();
        final Throwable noexec = new UnsatisfiedLinkError(missing).initCause(
                new UnsatisfiedLinkError(folder + "/libc10.so: failed to map segment from shared object"));
        assertEquals("libtorch cannot be unpacked to " + folder + " and loaded from there: programs may not be run from there (mounted"
                + " noexec)" + another, NativeFolders.reason("libtorch", noexec));
        assertTrue(NativeFolders.reason("libtorch", new IOException("No space left on device")).contains("make room, or name another"));
        assertTrue(NativeFolders.reason("libtorch", new IOException("x: Read-only file system")).endsWith("be written to" + another));
        assertTrue(NativeFolders.reason("the tokenizer's native library", new UnsatisfiedLinkError(
                "/home/a/.djl.ai/tokenizers/libtokenizers.so: failed to map segment from shared object"))
                .endsWith("(mounted noexec); name another folder with the environment variable DJL_CACHE_DIR=DIR"));
        assertTrue(missing.startsWith("no jnitorch in ") && missing.contains(": "), missing);
        assertEquals("libtorch cannot be unpacked to " + folder + " and loaded from there: " + missing.substring(0, missing.indexOf(": ")),
                NativeFolders.reason("libtorch", new UnsatisfiedLinkError(missing)), "without all the folders that were looked in");
    }
}
