package org.teamtr.torch;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.bytedeco.cuda.global.cudart;
import org.bytedeco.javacpp.IntPointer;
import org.bytedeco.javacpp.SizeTPointer;

/** How much memory is free on this machine. */
public final class Machine {
    private static final Path CGROUP = Path.of("/sys/fs/cgroup");

    private Machine() {
    }

    /** {@return bytes of host memory that are free, within what a container may use; 0 if the system does not say} */
    public static long hostFree() {
        try {
            long free = 1024 * number(Files.readString(Path.of("/proc/meminfo")), "MemAvailable:");
            final Path limit = CGROUP.resolve("memory.max");
            if (Files.isReadable(limit) && !Files.readString(limit).strip().equals("max")) {
                final long used = Long.parseLong(Files.readString(CGROUP.resolve("memory.current")).strip())
                        - number(Files.readString(CGROUP.resolve("memory.stat")), "inactive_file"); // which the kernel frees when memory is needed
                free = Math.min(free, Long.parseLong(Files.readString(limit).strip()) - used);
            }
            return free;
        } catch (IOException | RuntimeException e) {
            return 0;
        }
    }

    /** {@return the resident size of this process in bytes; 0 if the system does not say} */
    public static long resident() {
        try {
            return 1024 * number(Files.readString(Path.of("/proc/self/status")), "VmRSS:");
        } catch (IOException | RuntimeException e) {
            return 0;
        }
    }

    private static long number(String text, String name) {
        return text.lines().filter(line -> line.startsWith(name)).map(line -> line.replaceAll("[^0-9]", "")).mapToLong(Long::parseLong)
                .findFirst().orElse(0);
    }

    /**
     * {@return bytes that are free on a CUDA device; 0 if there is none of its number, or CUDA's natives are not on the class path}
     *
     * @param device cuda or cuda:N
     */
    public static long deviceFree(String device) {
        final int index = device.contains(":") ? Integer.parseInt(device.substring(device.indexOf(':') + 1)) : 0;
        try (SizeTPointer free = new SizeTPointer(1); SizeTPointer all = new SizeTPointer(1); IntPointer current = new IntPointer(1)) {
            if (cudart.cudaGetDevice(current) != 0 || cudart.cudaSetDevice(index) != 0) {
                return 0;
            }
            final boolean told = cudart.cudaMemGetInfo(free, all) == 0;
            cudart.cudaSetDevice(current.get());
            return told ? free.get() : 0;
        } catch (LinkageError e) {
            return 0;
        }
    }
}
