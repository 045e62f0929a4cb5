package org.teamtr.kernels;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.TreeSet;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.teamtr.kernels.internal.global.teamtr;

/** The C ABI: what is declared, what the native libraries export and what Java calls are the same functions, and these alone. */
@CpuOnly("reads files")
class ExportsTest {
    private static final TreeSet<String> FUNCTIONS = new TreeSet<>(List.of("abi", "attend", "cpu_best", "cpu_force", "cpu_level", "cuda_check",
            "cuda_count", "cuda_device", "cuda_synchronize", "group_advantages", "kl", "kl_backward", "kl_backward_from_statistics",
            "kl_with_statistics", "last_error", "linear", "log_probs", "log_probs_backward", "log_probs_merge", "log_probs_parts",
            "policy_loss", "policy_loss_backward", "rms_norm", "sample", "sampled_kl", "surrogate", "swiglu", "threads", "threads_set"));

    private static TreeSet<String> names(Stream<String> names) {
        return names.filter(name -> name.startsWith("teamtr_")).map(name -> name.substring("teamtr_".length()))
                .collect(Collectors.toCollection(TreeSet::new));
    }

    @Test
    void theHeaderDeclaresThem() throws IOException {
        final Matcher declared = Pattern.compile("^TEAMTR_API .*?\\b(teamtr_\\w+)\\(", Pattern.MULTILINE)
                .matcher(Files.readString(Path.of("native", "include", "teamtr.h")));
        assertEquals(FUNCTIONS, names(declared.results().map(r -> r.group(1))));
    }

    @Test
    void javaCallsThem() {
        assertEquals(FUNCTIONS, names(Arrays.stream(teamtr.class.getDeclaredMethods()).map(method -> method.getName())));
    }

    /** Dynamic symbols, as binutils, which every C++ compiler needs, list them. */
    @Test
    void everyLibraryExportsThemAlone() throws IOException, InterruptedException {
        final List<Path> libraries;
        try (Stream<Path> files = Files.walk(Path.of("target", "native-install"))) {
            libraries = files.filter(file -> file.endsWith("libteamtr.so")).toList();
        }
        assertTrue(!libraries.isEmpty(), "no library under target/native-install");
        for (Path library : libraries) {
            final Process nm = new ProcessBuilder("nm", "-D", "--defined-only", "--format=posix", library.toString())
                    .redirectError(ProcessBuilder.Redirect.INHERIT).start();
            final List<String> symbols = nm.inputReader().lines().map(line -> line.split(" ")[0]).toList();
            assertEquals(0, nm.waitFor());
            assertEquals(FUNCTIONS, names(symbols.stream()), library.toString());
            if (!library.getParent().endsWith("simt")) { // for tests alone, with parts of the C++ library
                assertEquals(FUNCTIONS.size(), symbols.size(), library + ": " + symbols);
            }
        }
    }
}
