package org.teamtr;

import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import org.junit.jupiter.api.Test;

/** Figures in README.md and docs that no command writes there, against the data they are of. */
class ReadmeFiguresTest {
    private static double secondsOf(String who) throws IOException {
        return Files.readAllLines(Path.of("docs/data/trl.csv")).stream().filter(line -> line.startsWith(who))
                .mapToDouble(line -> Double.parseDouble(line.split(",")[1])).average().orElseThrow();
    }

    @Test
    void anUpdateBesideTrls() throws IOException {
        final String said = String.format(Locale.ROOT, "An update takes %.1f s where TRL's takes %.0f", secondsOf("TeamTR"), secondsOf("TRL"));
        assertTrue(Files.readString(Path.of("README.md")).contains(said), said);
    }

    @Test
    void kernelsBesideThoseOfAnotherCommit() throws IOException {
        final String page = Files.readString(Path.of("docs/kernels.md"));
        final List<String> rows = Files.readAllLines(Path.of("docs/data/compare-times.txt")).stream().filter(line -> line.startsWith("|")).toList();
        assertTrue(rows.size() > 10);
        assertTrue(page.contains(String.join("\n", rows)), "docs/kernels.md has other rows");
    }
}
