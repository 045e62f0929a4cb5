package org.teamtr;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.spi.ToolProvider;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;

/** Arrows between packages go one way: see the picture in CONTRIBUTING.md. Records are small. */
class LayoutTest {
    /** A package may use those before it. */
    private static final List<String> ORDER = List.of("kernels.internal.presets", "kernels.internal.global", "kernels.internal",
            "kernels", "model", "distributed", "team", "task.math", "task.plan", "task", "task.environment", "task.generated", "chat", "train",
            "torch", "report",
            "config", "experiment", "cli");
    private static final Pattern ARROW = Pattern.compile("^ +org\\.teamtr\\.(\\S+) +-> org\\.teamtr\\.(\\S+)", Pattern.MULTILINE);

    /** Components of a record, unless it is one of {@link #LONG_RECORDS}. */
    private static final int MOST_COMPONENTS = 8;
    private static final String SECTION = "a section of config.yaml, whose keys are its components; only ConfigFile makes one from a file";
    private static final Map<String, String> LONG_RECORDS =
            Map.of("Update", "a line of metrics.jsonl and metrics.csv, whose fields are its components",
                    "SurrogateConfig", "made from PAPER by its with methods", "Config", "config.yaml, whose sections are its components",
                    "TrustRegion", SECTION, "Rollout", SECTION, "Loss", SECTION, "Bound", SECTION, "Files", SECTION, "Environment", SECTION);
    private static final Pattern RECORD = Pattern.compile("\\brecord (\\w+)(?:<[^(]*>)?\\(((?:[^()]|\\([^()]*\\))*)\\)[^;{]*\\{");

    private static String jdeps(String... arguments) {
        final StringWriter out = new StringWriter();
        final int code = ToolProvider.findFirst("jdeps").orElseThrow()
                .run(new PrintWriter(out), new PrintWriter(out), arguments);
        assertEquals(0, code, out.toString());
        return out.toString();
    }

    @Test
    void arrowsBetweenPackagesGoOneWay() {
        final List<String> wrong = new ArrayList<>();
        final TreeSet<String> packages = new TreeSet<>();
        final Matcher arrow = ARROW.matcher(jdeps("-verbose:package", "--ignore-missing-deps", "-filter:none",
                Path.of("target", "classes").toString()));
        while (arrow.find()) {
            final String from = arrow.group(1);
            final String to = arrow.group(2);
            packages.add(from);
            if (ORDER.indexOf(to) > ORDER.indexOf(from)) {
                wrong.add(from + " -> " + to);
            }
        }
        assertEquals(List.of(), wrong);
        assertTrue(ORDER.containsAll(packages), "a new package needs a place in ORDER, and in CONTRIBUTING.md: " + packages);
        assertTrue(packages.size() > 10, "jdeps found too little: " + packages);
    }

    /** What has more components than a reader tells apart by their order is grouped. */
    @Test
    void recordsAreSmall() throws IOException {
        final TreeSet<String> longer = new TreeSet<>();
        int records = 0;
        for (String root : List.of("src", "jmh/src", "examples")) {
            try (Stream<Path> files = Files.walk(Path.of(root))) {
                for (Path file : files.filter(f -> f.toString().endsWith(".java") && !f.toString().contains("/target/")).toList()) {
                    final Matcher record = RECORD.matcher(Files.readString(file));
                    while (record.find()) {
                        records++;
                        final String components = record.group(2).replaceAll("\\([^()]*\\)|<[^<>]*(<[^<>]*(<[^<>]*>[^<>]*)*>[^<>]*)*>", "");
                        if (components.split(",").length > MOST_COMPONENTS) {
                            longer.add(record.group(1));
                        }
                    }
                }
            }
        }
        assertEquals(new TreeSet<>(LONG_RECORDS.keySet()), longer, "group components, or add the record to LONG_RECORDS with a reason");
        assertTrue(records > 200, "found too little: " + records);
    }

    @Test
    void benchmarksAreInAPackageOfTheirOwn() throws IOException {
        try (Stream<Path> files = Files.walk(Path.of("jmh", "src"))) {
            assertEquals(List.of(), files.filter(f -> f.toString().endsWith(".java") && !f.getParent().endsWith("org/teamtr/jmh")).toList());
        }
    }

    /** Who links the kernels gets JavaCPP and nothing else; device memory of one's own needs the CUDA presets besides. */
    @Test
    void theKernelsNeedNothingButJavaCpp() {
        final TreeSet<String> others = new TreeSet<>();
        final Matcher arrow = Pattern.compile("^ +org\\.teamtr\\.kernels\\S* +-> (\\S+)", Pattern.MULTILINE).matcher(
                jdeps("-verbose:package", "--ignore-missing-deps", "-filter:none", Path.of("target", "classes").toString()));
        while (arrow.find()) {
            if (!arrow.group(1).matches("java\\..*|org\\.teamtr\\.kernels.*|org\\.bytedeco\\.javacpp.*|org\\.bytedeco\\.cuda.*")) {
                others.add(arrow.group(1));
            }
        }
        assertEquals(new TreeSet<String>(), others);
    }
}
