package org.teamtr.kernels;

import java.util.List;
import java.util.ServiceConfigurationError;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.teamtr.kernels.internal.Natives;
import org.teamtr.kernels.internal.global.teamtr;

/**
 * What the kernels can run on here, found out once, when the first kernel is called or the first view of device memory made, and
 * logged in one line to the System.Logger {@code org.teamtr.kernels}: {@code TeamTR kernels: cpu avx512, 2 threads}, followed by
 * the CUDA devices or, where the natives have CUDA kernels, the reason that there is none. A call runs where its views are: {@link Device}.
 *
 * <table>
 * <caption>Settings, read once</caption>
 * <tr><th>property</th><th>values</th><th>default</th></tr>
 * <tr><td>{@code org.teamtr.backend}</td><td>{@code cpu}: views of device memory are refused, CUDA is never touched;
 * {@code cuda}: nothing starts without a CUDA device (host views still run on the CPU)</td><td>views decide, with or without
 * CUDA</td></tr>
 * <tr><td>{@code org.teamtr.cpu}</td><td>{@code avx512}, {@code avx2}, {@code portable}</td><td>the best this machine has</td></tr>
 * <tr><td>{@code org.teamtr.threads}, else environment {@code TEAMTR_THREADS}</td><td>1 to 1024</td>
 * <td>{@link Runtime#availableProcessors()}</td></tr>
 * </table>
 *
 * <p>Asking for CUDA devices, in natives that have CUDA kernels, initialises the driver but creates nothing on a device.
 *
 * <p>If the kernels cannot be loaded or a setting is wrong, {@link #current()} and every kernel throw the same
 * {@link IllegalStateException}, each time, with what to do about it.
 *
 * <p>Immutable; any number of threads may use it.
 *
 * <pre>{@code
 * System.out.println(Backend.current()); // cpu avx512, 2 threads
 * if (Backend.current().cudaDevices().isEmpty()) {
 *     System.out.println("no GPU: " + Backend.current().whyNoCuda());
 * }
 * }</pre>
 */
public final class Backend {
    /** How the reason begins where the natives have no CUDA kernels. */
    private static final String NOT_BUILT = "this build has no CUDA kernels";

    private final String level;
    private final int threads;
    private final int abi;
    private final String version;
    private final List<String> cudaDevices;
    private final String whyNoCuda;
    private final boolean cudaForbidden;

    private Backend(String setting, String level, int threads, int abi, String version) {
        this.level = level;
        this.threads = threads;
        this.abi = abi;
        this.version = version;
        this.cudaForbidden = "cpu".equals(setting);
        final int count = cudaForbidden ? 0 : teamtr.teamtr_cuda_count();
        this.whyNoCuda = cudaForbidden ? "org.teamtr.backend=cpu forbids it" : count == 0 ? teamtr.teamtr_last_error() : null;
        this.cudaDevices = IntStream.range(0, count).mapToObj(teamtr::teamtr_cuda_device).toList();
    }

    /**
     * {@return the backend in use, chosen by the first call}
     *
     * @throws IllegalStateException if the native libraries are missing or of another build, or a setting is wrong
     */
    public static Backend current() {
        if (Holder.BACKEND == null) {
            throw new IllegalStateException(Holder.FAILURE, Holder.CAUSE);
        }
        return Holder.BACKEND;
    }

    /** {@return the CPU level: {@code avx512}, {@code avx2} or {@code portable}} */
    public String level() {
        return level;
    }

    /** {@return the threads that share the work of one call, the caller included} */
    public int threads() {
        return threads;
    }

    /** {@return the CUDA devices that kernels run on, by number, each with its name, architecture and driver; none: empty} */
    public List<String> cudaDevices() {
        return cudaDevices;
    }

    /** {@return why there are no CUDA devices, in words; null if there are} */
    public String whyNoCuda() {
        return whyNoCuda;
    }

    /** {@return the number of the interface between this class and the native library} */
    public int abi() {
        return abi;
    }

    /** {@return the version of TeamTR, or {@code development} when it does not run from its jar} */
    public String version() {
        return version;
    }

    /** {@return for example {@code cpu avx512, 2 threads}, and behind it the CUDA devices: {@code ; cuda:0 ...}} */
    @Override
    public String toString() {
        return "cpu " + level + ", " + threads + (threads == 1 ? " thread" : " threads")
                + IntStream.range(0, cudaDevices.size()).mapToObj(i -> "; cuda:" + i + " " + cudaDevices.get(i))
                        .collect(Collectors.joining());
    }

    /**
     * Throws unless kernels run there.
     *
     * @throws IllegalArgumentException if there are devices, and none of that number
     * @throws DeviceException if there is none
     * @throws IllegalStateException if there is none because of the setting
     */
    static void require(Device device) {
        final Backend backend = current();
        if (device.index() < backend.cudaDevices.size()) {
            return;
        }
        if (backend.cudaForbidden) {
            throw new IllegalStateException("device: expected cpu, which org.teamtr.backend=cpu allows alone, given " + device);
        }
        if (backend.cudaDevices.isEmpty()) {
            throw new DeviceException("device: expected cpu, given " + device + ": " + backend.whyNoCuda);
        }
        final int last = backend.cudaDevices.size() - 1;
        throw new IllegalArgumentException("device: expected cuda:0 to cuda:" + last + ", given " + device);
    }

    // ---- the choice ----

    /** A nested class, so that the JVM initialises it once, while other threads wait. A failure is stored, not thrown here. */
    private static final class Holder {
        static final Backend BACKEND;
        static final String FAILURE;
        static final Throwable CAUSE;

        static {
            Backend backend = null;
            String failure = null;
            Throwable cause = null;
            try {
                backend = start();
            } catch (IllegalStateException e) {
                failure = e.getMessage();
                cause = e.getCause();
            }
            BACKEND = backend;
            FAILURE = failure;
            CAUSE = cause;
        }
    }

    private static Backend start() {
        final String backend = System.getProperty("org.teamtr.backend");
        if (backend != null && !backend.equals("cpu") && !backend.equals("cuda")) {
            throw new IllegalStateException("org.teamtr.backend: expected cpu or cuda, given " + backend);
        }
        final int abi = Natives.load();
        final String forced = System.getProperty("org.teamtr.cpu");
        if (forced != null) {
            Natives.forceLevel(forced);
        }
        Natives.forceThreads(Natives.threadSetting());
        final Backend chosen = new Backend(backend, Natives.levelName(teamtr.teamtr_cpu_level()), teamtr.teamtr_threads(), abi,
                Natives.version());
        if ("cuda".equals(backend) && chosen.cudaDevices.isEmpty()) {
            throw new IllegalStateException("org.teamtr.backend=cuda: " + chosen.whyNoCuda + "; set cpu, or leave it out");
        }
        try {
            chosen.log(Natives.levelName(teamtr.teamtr_cpu_best()));
        } catch (RuntimeException | ServiceConfigurationError e) {
            // The program's logging is broken, which is no reason for not computing.
        }
        return chosen;
    }

    private void log(String best) {
        final System.Logger logger = System.getLogger("org.teamtr.kernels");
        final boolean silent = whyNoCuda == null || cudaForbidden || whyNoCuda.startsWith(NOT_BUILT);
        logger.log(System.Logger.Level.INFO, "TeamTR kernels: " + this + (silent ? "" : "; " + whyNoCuda));
        if (!level.equals(best)) {
            logger.log(System.Logger.Level.WARNING, "TeamTR kernels: " + level + " is slower than the " + best
                    + " this machine has; remove -Dorg.teamtr.cpu=" + level);
        } else if (level.equals(Natives.levelName(teamtr.TEAMTR_PORTABLE))) {
            logger.log(System.Logger.Level.WARNING, "TeamTR kernels: this machine shows neither AVX-512 nor AVX2, so the kernels are"
                    + " several times slower; run on such a machine, or let the virtual machine pass its CPU through");
        }
    }
}
