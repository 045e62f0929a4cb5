package org.teamtr.kernels.internal;

import java.io.IOException;
import java.util.Locale;
import java.util.function.Supplier;
import org.bytedeco.javacpp.Loader;
import org.teamtr.kernels.internal.global.teamtr;

/**
 * Loads JavaCPP and the library of the kernels, and reports what is missing; sets the CPU level and the number of threads.
 * Not part of the API.
 */
public final class Natives {
    private static final String PLATFORM = "linux-x86_64";
    private static final int ABI = 3;
    private static final int MAX_THREADS = 1024;

    private Natives() {
    }

    /**
     * Loads the library of the kernels.
     *
     * @return the number of the interface between the Java classes and the library
     * @throws IllegalStateException if it is missing or of another build
     */
    public static int load() {
        requireJavaCpp();
        final int abi;
        try {
            abi = uninterrupted(teamtr::teamtr_abi); // the first touch of the generated class, which loads the library
        } catch (LinkageError e) {
            throw new IllegalStateException(missing("TeamTR kernels", e), e);
        }
        if (abi != ABI) {
            throw new IllegalStateException("TeamTR kernels: expected a native library of ABI " + ABI + ", given ABI " + abi
                    + "; teamtr.jar and its " + PLATFORM + " jar are of different versions");
        }
        return abi;
    }

    /** {@return the version of TeamTR, or {@code development} when it does not run from its jar} */
    public static String version() {
        return version("org.teamtr", "teamtr", "development");
    }

    /** {@return the number of threads that the settings ask for, by default the machine's processors} */
    public static int threadSetting() {
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
            // the message below says it
        }
        throw new IllegalStateException(source + ": expected 1 to " + MAX_THREADS + ", given " + value);
    }

    /** {@return the name of a CPU level of the C ABI} */
    public static String levelName(int level) {
        return switch (level) {
            case teamtr.TEAMTR_PORTABLE -> "portable";
            case teamtr.TEAMTR_AVX2 -> "avx2";
            case teamtr.TEAMTR_AVX512 -> "avx512";
            default -> throw new IllegalStateException("TeamTR kernels: unknown CPU level " + level);
        };
    }

    /** Chooses the CPU level of all later calls. Tests also use it, to compare levels in one process. */
    public static void forceLevel(String name) {
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

    /** Chooses the number of threads of all later calls; tests also use it. */
    public static void forceThreads(int threads) {
        if (teamtr.teamtr_threads_set(threads) != teamtr.TEAMTR_OK) {
            throw new IllegalStateException("org.teamtr.threads: " + teamtr.teamtr_last_error());
        }
    }

    /** Throws unless JavaCPP can allocate and read native memory. */
    public static void requireJavaCpp() {
        if (JavaCpp.FAILURE != null) {
            throw new IllegalStateException(JavaCpp.FAILURE, JavaCpp.CAUSE);
        }
    }

    /** Apart from the library of the kernels: views need JavaCPP, but choose no backend. */
    private static final class JavaCpp {
        static final String FAILURE;
        static final Throwable CAUSE;

        static {
            Throwable cause = null;
            try {
                uninterrupted(() -> Loader.load(org.bytedeco.javacpp.presets.javacpp.class));
            } catch (LinkageError e) {
                cause = e;
            }
            CAUSE = cause;
            FAILURE = cause == null ? null : missing("JavaCPP", cause);
        }
    }

    /**
     * {@return what {@code load} returns} JavaCPP locks the folder that it unpacks libraries to, which fails in a thread that was interrupted, and
     * a library that could not be loaded cannot be loaded again: so the thread is interrupted again only after it.
     */
    public static <T> T uninterrupted(Supplier<T> load) {
        final boolean interrupted = Thread.interrupted();
        try {
            return load.get();
        } finally {
            if (interrupted) {
                Thread.currentThread().interrupt();
            }
        }
    }

    /** {@return why a library was not loaded: it is not there, or cannot be unpacked, or has another class loader than JavaCPP} */
    public static String missing(String what, Throwable cause) {
        final String reason = NativeFolders.words(cause);
        final boolean notThere = reason.startsWith("Could not find ");
        if (!notThere && Loader.class.getClassLoader() != Natives.class.getClassLoader()) {
            return what + ": the native library could not be loaded (" + reason + "): JavaCPP has another class loader than TeamTR; put both and"
                    + " their natives into the same";
        } else if (!notThere) {
            return NativeFolders.reason(what + ": the native library", cause);
        }
        final String machine = Loader.Detector.getPlatform();
        final boolean module = Natives.class.getModule().isNamed();
        return what + ": the native library could not be loaded (" + reason + "). "
                + (machine.equals(PLATFORM) ? "" : "This machine is " + machine + ", TeamTR has natives for " + PLATFORM + " only. ")
                + "The " + (module ? "module" : "class") + " path needs both org.teamtr:teamtr:" + version("org.teamtr", "teamtr", "<its version>")
                + ":" + PLATFORM + " and org.bytedeco:javacpp:" + version("org.bytedeco", "javacpp", "1.5.13") + ":" + PLATFORM
                + (module ? ", and the JVM the option --add-modules ALL-MODULE-PATH" : "");
    }

    private static String version(String group, String artifact, String otherwise) {
        try {
            final String version = Loader.getVersion(group, artifact, Natives.class);
            return version == null ? otherwise : version;
        } catch (IOException | RuntimeException e) {
            return otherwise; // not run from a jar
        }
    }
}
