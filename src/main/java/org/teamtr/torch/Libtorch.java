package org.teamtr.torch;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.JarURLConnection;
import java.net.URL;
import java.util.Collections;
import java.util.List;
import java.util.jar.JarEntry;
import java.util.regex.Pattern;
import org.bytedeco.javacpp.Loader;
import org.bytedeco.pytorch.global.torch;
import org.teamtr.kernels.Backend;
import org.teamtr.kernels.internal.NativeFolders;

/**
 * Loads libtorch. JavaCPP unpacks its libraries one by one, each just before it opens it, into a folder that all processes share
 * ({@code ~/.javacpp/cache}, or the property {@code org.bytedeco.javacpp.cachedir}). But opening a library also loads the libraries it
 * depends on from that folder, and one of these may be incomplete because another process is writing it, or was killed while
 * writing. Opening an incomplete file ends the JVM with SIGBUS. So this class unpacks all libraries before the first is opened.
 */
public final class Libtorch {
    /** Libraries on which others depend: all except JavaCPP's JNI libraries. */
    private static final Pattern LIBRARY = Pattern.compile("(?!libjni)[^/]+\\.so[.0-9]*");

    private static boolean unpacked;
    private static boolean loaded;

    private Libtorch() {
    }

    /**
     * Unpacks libtorch, unless that has been done, and loads it. May be called any number of times, from any thread; a
     * {@link TorchPolicy} calls it before it does anything else.
     *
     * @throws UncheckedIOException if it cannot be unpacked or loaded, with what to do about it
     */
    public static synchronized void load() {
        if (loaded) {
            return;
        }
        try {
            unpack();
            Loader.load(torch.class);
        } catch (IOException e) {
            throw new UncheckedIOException(e.getMessage(), e);
        } catch (LinkageError e) {
            final String reason = NativeFolders.reason("libtorch", e);
            throw new UncheckedIOException(reason, new IOException(reason, e));
        }
        loaded = true;
    }

    /** {@return whether libtorch's natives on the class path are those for CUDA} */
    public static boolean forCuda() {
        return Libtorch.class.getClassLoader().getResource("org/bytedeco/pytorch/" + Loader.getPlatform() + "-gpu/libtorch_cuda.so") != null;
    }

    /**
     * {@return why no policy can be on a device, with what to do about it; null if it can} It can where the kernels find that GPU and
     * libtorch is the one with CUDA.
     *
     * @param device {@code cpu}, {@code cuda}, which is {@code cuda:0}, or {@code cuda:N}
     * @throws UncheckedIOException if libtorch cannot be loaded
     */
    public static String missing(String device) {
        if (device.equals("cpu")) {
            return null;
        }
        final String given = ", given " + device;
        final Backend kernels = Backend.current();
        final int gpus = kernels.cudaDevices().size();
        if (gpus == 0) {
            return "expected cpu" + given + ": " + kernels.whyNoCuda();
        }
        if (!forCuda()) {
            return "expected cpu" + given + ": libtorch's natives on the class path are those without CUDA; ./mvnw package -DskipTests -Pcuda "
                    + "builds with the others (docs/devices.md)";
        }
        load();
        final int both = Math.min(gpus, torch.cuda_device_count());
        if (both == 0) {
            return "expected cpu" + given + ": libtorch finds no GPU, the kernels " + gpus;
        }
        final int index = device.contains(":") ? Integer.parseInt(device.substring(device.indexOf(':') + 1)) : 0;
        return index < both ? null : "expected cuda:0" + (both == 1 ? "" : " to cuda:" + (both - 1)) + given;
    }

    /**
     * Unpacks libtorch, unless that has been done, and does not load it.
     *
     * @throws IOException if it cannot be unpacked, with what to do about it
     */
    public static synchronized void unpack() throws IOException {
        if (unpacked) {
            return;
        }
        try {
            for (String presets : List.of("openblas", "pytorch")) {
                for (String extension : List.of("", "-gpu")) {
                    unpack("org/bytedeco/" + presets + "/" + Loader.getPlatform() + extension + "/");
                }
            }
        } catch (IOException e) {
            throw new IOException(NativeFolders.reason("libtorch", e), e);
        }
        unpacked = true;
    }

    /** JavaCPP locks the folder for each file, and compares size and time with the jar's: a complete file is not written again. */
    private static void unpack(String folder) throws IOException {
        for (URL url : Collections.list(Libtorch.class.getClassLoader().getResources(folder))) {
            if (url.openConnection() instanceof JarURLConnection jar) { // libraries in a folder, not in a jar, are opened in place
                for (JarEntry entry : Collections.list(jar.getJarFile().entries())) {
                    final String name = entry.getName();
                    if (name.startsWith(folder) && LIBRARY.matcher(name.substring(folder.length())).matches()) {
                        Loader.cacheResource(new URL(url, name.substring(folder.length())));
                    }
                }
            }
        }
    }
}
