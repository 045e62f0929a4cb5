package org.teamtr.kernels;

import java.io.IOException;
import java.util.Locale;
import org.bytedeco.javacpp.Loader;
import org.teamtr.kernels.global.teamtr;

/**
 * What the kernels run on, chosen once, when the first kernel is called, and logged in one line to the System.Logger
 * {@code org.teamtr.kernels}: {@code TeamTR kernels: cpu avx512, 2 threads}.
 *
 * <table>
 * <caption>Settings, read once</caption>
 * <tr><th>property</th><th>values</th><th>default</th></tr>
 * <tr><td>{@code org.teamtr.backend}</td><td>{@code cpu} (this build has no CUDA kernels)</td><td>{@code cpu}</td></tr>
 * <tr><td>{@code org.teamtr.cpu}</td><td>{@code avx512}, {@code avx2}, {@code portable}</td><td>the best this machine has</td></tr>
 * <tr><td>{@code org.teamtr.threads}, else environment {@code TEAMTR_THREADS}</td><td>1 to 1024</td>
 * <td>{@link Runtime#availableProcessors()}</td></tr>
 * </table>
 *
 * <p>If the kernels cannot be loaded or a setting is wrong, {@link #current()} and every kernel throw the same
 * {@link IllegalStateException}, each time, with what to do about it.
 *
 * <p>Immutable; any number of threads may use it.
 */
public final class Backend {
    private static final String PLATFORM = "linux-x86_64";
    private static final int ABI = 2;
    private static final int MAX_THREADS = 1024;

    private final String name;
    private final String level;
    private final int threads;
    private final int abi;
    private final String version;

    private Backend(String level, int threads, int abi, String version) {
        this.name = "cpu";
        this.level = level;
        this.threads = threads;
        this.abi = abi;
        this.version = version;
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

    /** {@return {@code cpu}} */
    public String name() {
        return name;
    }

    /** {@return the CPU level: {@code avx512}, {@code avx2} or {@code portable}} */
    public String level() {
        return level;
    }

    /** {@return the threads that share the work of one call, the caller included} */
    public int threads() {
        return threads;
    }

    /** {@return the number of the interface between this class and the native library} */
    public int abi() {
        return abi;
    }

    /** {@return the version of TeamTR, or {@code development} when it does not run from its jar} */
    public String version() {
        return version;
    }

    /** {@return for example {@code cpu avx512, 2 threads}} */
    @Override
    public String toString() {
        return name + " " + level + ", " + threads + (threads == 1 ? " thread" : " threads");
    }

    // ---- the choice ----

    /** A class of its own: whoever asks first initialises it and the others wait, and a failure is kept, not thrown here. */
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
        final String backend = System.getProperty("org.teamtr.backend", "cpu");
        if (backend.equals("cuda")) {
            throw new IllegalStateException("org.teamtr.backend=cuda: this build has no CUDA kernels; set cpu, or leave it out");
        }
        if (!backend.equals("cpu")) {
            throw new IllegalStateException("org.teamtr.backend: expected cpu or cuda, given " + backend);
        }
        requireJavaCpp();
        final int abi;
        try {
            abi = teamtr.teamtr_abi(); // the first touch of the generated class, which loads the library
        } catch (LinkageError e) {
            throw new IllegalStateException(missing("TeamTR kernels", e), e);
        }
        if (abi != ABI) {
            throw new IllegalStateException("TeamTR kernels: expected a native library of ABI " + ABI + ", given ABI " + abi
                    + "; teamtr.jar and its " + PLATFORM + " jar are of different versions");
        }
        final String forced = System.getProperty("org.teamtr.cpu");
        if (forced != null) {
            forceLevel(forced);
        }
        forceThreads(threadSetting());
        final Backend chosen = new Backend(levelName(teamtr.teamtr_cpu_level()), teamtr.teamtr_threads(), abi,
                version("org.teamtr", "teamtr", "development"));
        chosen.log(levelName(teamtr.teamtr_cpu_best()));
        return chosen;
    }

    private void log(String best) {
        final System.Logger logger = System.getLogger("org.teamtr.kernels");
        logger.log(System.Logger.Level.INFO, "TeamTR kernels: " + this);
        if (!level.equals(best)) {
            logger.log(System.Logger.Level.WARNING, "TeamTR kernels: " + level + " is slower than the " + best
                    + " this machine has; remove -Dorg.teamtr.cpu=" + level);
        } else if (level.equals(levelName(teamtr.TEAMTR_PORTABLE))) {
            logger.log(System.Logger.Level.WARNING, "TeamTR kernels: this machine shows neither AVX-512 nor AVX2, so the kernels are"
                    + " several times slower; run on such a machine, or let the virtual machine pass its CPU through");
        }
    }

    private static int threadSetting() {
        String source = "org.teamtr.threads";
        String value = System.getProperty(source);
        if (value == null) {
            source = "TEAMTR_THREADS";
            value = System.getenv(source);
        }
        if (value == null || value.isBlank()) {
            return Math.min(Runtime.getRuntime().availableProcessors(), MAX_THREADS);
        }
        try {
            final int threads = Integer.parseInt(value.strip());
            if (threads >= 1 && threads <= MAX_THREADS) {
                return threads;
            }
        } catch (NumberFormatException e) {
            // the words below say it
        }
        throw new IllegalStateException(source + ": expected 1 to " + MAX_THREADS + ", given " + value);
    }

    private static String levelName(int level) {
        return switch (level) {
            case teamtr.TEAMTR_PORTABLE -> "portable";
            case teamtr.TEAMTR_AVX2 -> "avx2";
            case teamtr.TEAMTR_AVX512 -> "avx512";
            default -> throw new IllegalStateException("TeamTR kernels: unknown CPU level " + level);
        };
    }

    /** For tests, too, which compare levels in one process; {@link #current()} goes on describing the choice made at start. */
    static void forceLevel(String name) {
        final int level = switch (name.toLowerCase(Locale.ROOT)) {
            case "portable" -> teamtr.TEAMTR_PORTABLE;
            case "avx2" -> teamtr.TEAMTR_AVX2;
            case "avx512" -> teamtr.TEAMTR_AVX512;
            default -> throw new IllegalStateException("org.teamtr.cpu: expected avx512, avx2 or portable, given " + name);
        };
        if (teamtr.teamtr_cpu_force(level) != teamtr.TEAMTR_OK) {
            throw new IllegalStateException("org.teamtr.cpu: expected at most " + levelName(teamtr.teamtr_cpu_best())
                    + ", the best this machine has, given " + name);
        }
    }

    /** For tests, too; see {@link #forceLevel}. */
    static void forceThreads(int threads) {
        if (teamtr.teamtr_threads_set(threads) != teamtr.TEAMTR_OK) {
            throw new IllegalStateException("org.teamtr.threads: " + teamtr.teamtr_last_error());
        }
    }

    // ---- the natives ----

    /** Throws unless JavaCPP can allocate and read native memory. */
    static void requireJavaCpp() {
        if (JavaCpp.FAILURE != null) {
            throw new IllegalStateException(JavaCpp.FAILURE, JavaCpp.CAUSE);
        }
    }

    /** Apart from {@link Holder}: views need JavaCPP, but choose no backend. */
    private static final class JavaCpp {
        static final String FAILURE;
        static final Throwable CAUSE;

        static {
            Throwable cause = null;
            try {
                Loader.load(org.bytedeco.javacpp.presets.javacpp.class);
            } catch (LinkageError e) {
                cause = e;
            }
            CAUSE = cause;
            FAILURE = cause == null ? null : missing("JavaCPP", cause);
        }
    }

    private static String missing(String what, Throwable cause) {
        final String machine = Loader.Detector.getPlatform();
        final String reason = String.valueOf(cause.getMessage()).replaceFirst("(java.library.path): \\S+", "$1"); // the path is long
        return what + ": the native library could not be loaded (" + reason + "). "
                + (machine.equals(PLATFORM) ? "" : "This machine is " + machine + ", TeamTR has natives for " + PLATFORM + " only. ")
                + "The class path needs both org.teamtr:teamtr:" + version("org.teamtr", "teamtr", "<its version>") + ":" + PLATFORM
                + " and org.bytedeco:javacpp:" + version("org.bytedeco", "javacpp", "1.5.13") + ":" + PLATFORM;
    }

    private static String version(String group, String artifact, String otherwise) {
        try {
            final String version = Loader.getVersion(group, artifact, Backend.class);
            return version == null ? otherwise : version;
        } catch (IOException | RuntimeException e) {
            return otherwise; // not run from a jar
        }
    }
}
