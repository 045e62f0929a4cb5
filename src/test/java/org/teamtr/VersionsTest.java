package org.teamtr;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;

/** The version stands in pom.xml; projects that are built by themselves, and the README, have to name the same. */
class VersionsTest {
    private static String first(Path file, String pattern) throws IOException {
        final Matcher found = Pattern.compile(pattern, Pattern.MULTILINE).matcher(Files.readString(file));
        return found.find() ? found.group(1) : null;
    }

    @Test
    void allSayTheSame() throws IOException {
        final String version = first(Path.of("pom.xml"), "^  <version>(.+)</version>$");
        assertEquals(version, first(Path.of("jmh/pom.xml"), "^  <version>(.+)</version>$"), "jmh/pom.xml");
        final List<Path> examples;
        try (Stream<Path> files = Files.list(Path.of("examples"))) {
            examples = files.map(f -> f.resolve("pom.xml")).filter(Files::exists).toList();
        }
        assertFalse(examples.isEmpty());
        for (Path pom : examples) {
            assertEquals(version, first(pom, "<teamtr.version>(.+)</teamtr.version>"), pom.toString());
        }
        final Matcher coordinates = Pattern.compile("<artifactId>teamtr</artifactId> <version>(.+?)</version>")
                .matcher(Files.readString(Path.of("README.md")));
        final List<String> named = new ArrayList<>();
        while (coordinates.find()) {
            named.add(coordinates.group(1));
        }
        assertFalse(named.isEmpty());
        named.forEach(given -> assertEquals(version, given, "README.md"));
    }
}
