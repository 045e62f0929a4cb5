package org.teamtr.cli;

import com.fasterxml.jackson.annotation.JsonUnwrapped;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.SerializationFeature;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.Callable;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.bytedeco.javacpp.Loader;
import org.teamtr.kernels.Backend;
import org.teamtr.torch.Libtorch;
import org.teamtr.report.Version;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

/** Reports what is installed and whether it works: every kernel is run once against plain double arithmetic. */
@Command(name = "doctor", mixinStandardHelpOptions = true,
        description = "Shows what TeamTR found on this machine, and runs every kernel once against fp64.")
final class DoctorCommand implements Callable<Integer> {
    @Option(names = "--json", description = "One JSON object instead of text.")
    private boolean json;

    /** The whole output, with the names of the JSON. */
    record Report(@JsonUnwrapped Installation installation, @JsonUnwrapped Kernels natives, List<Found> backends, List<Found> libraries,
            List<SelfCheck.Result> checks, boolean ok) {
    }

    /** What runs, and on what. */
    record Installation(String version, String platform, String java) {
        static Installation here() {
            return new Installation(Version.read(), Loader.getPlatform(),
                    System.getProperty("java.vm.name") + " " + System.getProperty("java.version"));
        }
    }

    /** The native library, or the reason that there is none. */
    record Kernels(String kernels, String cpuLevel, int threads) {
    }

    /** A component that was found, with its description, or was not found, with the reason. */
    record Found(String name, boolean found, String detail) {
    }

    @Override
    public Integer call() throws JsonProcessingException {
        final Report report = examine();
        if (json) {
            System.out.println(new ObjectMapper().enable(SerializationFeature.INDENT_OUTPUT).writeValueAsString(report));
        } else {
            print(report);
        }
        return report.ok() ? 0 : 1;
    }

    private static Report examine() {
        String kernels;
        String level = null;
        int threads = 0;
        List<SelfCheck.Result> checks = List.of();
        Found cuda;
        try {
            final Backend backend = Backend.current();
            kernels = "ABI " + backend.abi();
            level = backend.level();
            threads = backend.threads();
            cuda = cuda(backend);
            checks = SelfCheck.run();
        } catch (IllegalStateException e) {
            kernels = e.getMessage();
            cuda = new Found("cuda", false, kernels);
        }
        final List<Found> backends = List.of(
                new Found("cpu", level != null, level != null ? level + ", " + threads + (threads == 1 ? " thread" : " threads") : kernels),
                cuda);
        final List<Found> libraries = List.of(javaCpp(), libtorch());
        final boolean ok = level != null && checks.stream().allMatch(SelfCheck.Result::ok);
        return new Report(Installation.here(), new Kernels(kernels, level, threads), backends, libraries, checks, ok);
    }

    /** The devices, or the reason that there is none: no CUDA kernels in this build, no driver, no device. */
    private static Found cuda(Backend backend) {
        final List<String> devices = backend.cudaDevices();
        return new Found("cuda", !devices.isEmpty(), devices.isEmpty() ? backend.whyNoCuda()
                : IntStream.range(0, devices.size()).mapToObj(i -> i + ": " + devices.get(i)).collect(Collectors.joining("; ")));
    }

    private static Found javaCpp() {
        try {
            return new Found("JavaCPP", true, Loader.getVersion());
        } catch (IOException e) {
            return new Found("JavaCPP", true, "of unknown version");
        }
    }

    /** Loads libtorch, which takes a few seconds the first time, since a file that is present may still fail to load. */
    private static Found libtorch() {
        try {
            final String version = Loader.getVersion("org.bytedeco", "pytorch", org.bytedeco.pytorch.global.torch.class);
            Libtorch.load();
            return new Found("libtorch", true, version + (Libtorch.forCuda() ? ", with CUDA" : ", without CUDA (docs/devices.md)"));
        } catch (UncheckedIOException e) {
            return new Found("libtorch", false, e.getMessage());
        } catch (LinkageError e) {
            return new Found("libtorch", false, e instanceof NoClassDefFoundError
                    ? "not on the class path; the trainer needs org.bytedeco:pytorch and its natives, the kernels do not"
                    : String.valueOf(e.getMessage()));
        } catch (IOException e) {
            return new Found("libtorch", true, "of unknown version");
        }
    }

    private static void print(Report r) {
        System.out.printf(Locale.ROOT, "TeamTR %s on %s, %s%n%n", r.installation().version(), r.installation().platform(), r.installation().java());
        for (Found f : r.backends()) {
            System.out.printf(Locale.ROOT, "  %-4s backend %-10s %s%n", f.found() ? "yes" : "no", f.name(), f.detail());
        }
        for (Found f : r.libraries()) {
            System.out.printf(Locale.ROOT, "  %-4s library %-10s %s%n", f.found() ? "yes" : "no", f.name(), f.detail());
        }
        if (!r.checks().isEmpty()) {
            System.out.printf(Locale.ROOT, "%nEvery kernel against fp64, vocabulary %,d (error relative to its bound's scale):%n", SelfCheck.VOCAB);
        }
        for (SelfCheck.Result c : r.checks()) {
            System.out.printf(Locale.ROOT, "  %-4s %-34s error %.1e   bound %.0e%n", c.ok() ? "ok" : "BAD", c.kernel(), c.error(), c.bound());
        }
        System.out.println(r.ok() ? "\nAll well." : "\nNot well: see above.");
    }
}
