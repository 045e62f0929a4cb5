package org.teamtr.kernels.internal;

import java.io.File;
import java.io.IOException;
import org.bytedeco.javacpp.Loader;

/**
 * Why a native library could not be unpacked or loaded, and what to do about it. Two libraries unpack theirs: JavaCPP (libtorch and the
 * kernels) and DJL (the tokenizers).
 */
public final class NativeFolders {
    /** With less room, a library that is not there was not written. */
    private static final long LITTLE_ROOM = 4 << 20;

    private NativeFolders() {
    }

    /** {@return a line: what failed, the reason of its innermost cause, and the remedy} */
    public static String reason(String what, Throwable problem) {
        String said = "";
        for (Throwable t = problem; t != null; t = t.getCause()) {
            said += t.getMessage() + "\n";
        }
        final boolean djl = said.contains(".djl.ai") || what.contains("okenizer");
        final String folder = djl ? djlFolder() : javaCppFolder();
        final String another = djl ? "name another folder with the environment variable DJL_CACHE_DIR=DIR"
                : "name another folder with the Java option -Dorg.bytedeco.javacpp.cachedir=DIR (of ./teamtr: in TEAMTR_JAVA_OPTS)";
        final String cannot = what + " cannot be unpacked to " + folder + " and loaded from there: ";
        if (said.contains("failed to map segment")) {
            return cannot + "programs may not be run from there (mounted noexec); " + another;
        } else if (said.contains("No space left")
                || said.contains("cannot open shared object file") && new File(folder).getUsableSpace() < LITTLE_ROOM) {
            return cannot + "no space left on the device (libtorch takes half a gigabyte, the kernels 3 MB); make room, or " + another;
        } else if (said.contains("Read-only") || said.contains("denied") || said.contains("Could not create the cache")) {
            return cannot + "it cannot be written to; " + another;
        }
        return cannot + words(problem);
    }

    /** {@return what the innermost cause says, without the list of all folders that were looked in} */
    static String words(Throwable problem) {
        Throwable innermost = problem;
        while (innermost.getCause() != null) {
            innermost = innermost.getCause();
        }
        return String.valueOf(innermost.getMessage()).replaceFirst("(java\\S*path): \\S+", "$1");
    }

    private static String javaCppFolder() {
        try {
            return Loader.getCacheDir().toString();
        } catch (IOException e) {
            return "~/.javacpp/cache";
        }
    }

    private static String djlFolder() {
        final String named = System.getenv("DJL_CACHE_DIR") != null ? System.getenv("DJL_CACHE_DIR") : System.getProperty("DJL_CACHE_DIR");
        return named != null ? named : System.getProperty("user.home") + "/.djl.ai";
    }
}
