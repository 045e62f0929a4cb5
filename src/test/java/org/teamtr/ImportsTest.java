package org.teamtr;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;

/** Unused imports in the sources that Error Prone does not see, since other builds compile them. */
class ImportsTest {
    private static final Pattern IMPORT = Pattern.compile("(?m)^import (?:static )?[\\w.]+\\.(\\w+);?$");

    private static List<String> unused(String source) {
        final String rest = IMPORT.matcher(source).replaceAll("");
        return IMPORT.matcher(source).results().map(found -> found.group(1))
                .filter(name -> !Pattern.compile("\\b" + name + "\\b").matcher(rest).find()).toList();
    }

    @Test
    void benchmarksAndExamples() throws IOException {
        int read = 0;
        final List<String> wrong = new ArrayList<>();
        for (String folder : List.of("jmh/src", "examples", "src/it")) {
            final List<Path> sources;
            try (Stream<Path> files = Files.walk(Path.of(folder))) {
                sources = files.filter(f -> f.toString().matches(".*\\.(java|kt)") && !f.toString().contains("/target/")).toList();
            }
            for (Path source : sources) {
                unused(Files.readString(source)).forEach(name -> wrong.add(source + ": " + name));
                read++;
            }
        }
        assertTrue(read > 40, read + " sources");
        assertEquals(List.of(), wrong);
    }

    @Test
    void anUnusedImportIsFound() {
        assertEquals(List.of("b"), unused("import a.List;\nimport static a.C.b;\n\n/** c */\nclass X {\n    List<String> x;\n}\n"));
    }
}
