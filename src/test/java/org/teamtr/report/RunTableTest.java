package org.teamtr.report;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Tables of several runs, and gains averaged over runs of the same label. */
class RunTableTest {
    @TempDir
    private Path folder;
    private List<GainsPicture.Labelled> runs;

    @BeforeEach
    void write() throws IOException {
        SyntheticRun.write(folder.resolve("a"), 4, 2, 1);
        SyntheticRun.write(folder.resolve("b"), 3, 2, 2);
        SyntheticRun.write(folder.resolve("c"), 5, 3, 1);
        runs = List.of(new GainsPicture.Labelled("two, \"quoted\"", folder.resolve("a")),
                new GainsPicture.Labelled("two, \"quoted\"", folder.resolve("b")), new GainsPicture.Labelled("three", folder.resolve("c")));
    }

    @Test
    void aLineForEachRun() throws IOException {
        final Path csv = folder.resolve("runs.csv");
        RunTable.csv(runs, csv);
        final List<String> lines = Files.readAllLines(csv);
        assertEquals(4, lines.size());
        assertTrue(lines.get(0).startsWith("label,seed,stages,updates,accuracy_untrained,accuracy_before,"), lines.get(0));
        assertTrue(lines.get(1).startsWith("\"two, \"\"quoted\"\"\",7,4,8,0.01,0.12,"), lines.get(1));
        assertTrue(lines.get(3).startsWith("\"three\",7,5,15,0.01,0.12,"), lines.get(3));
        final double last = RunFiles.summary(folder.resolve("c")).accuracies().accuracyLast();
        assertTrue(lines.get(3).contains("," + last + ","), lines.get(3));
        assertTrue(lines.get(3).endsWith(",\"./teamtr train --set seed=7\""), lines.get(3));
    }

    @Test
    void theTableGoesBetweenItsMarksAndNowhereElse() throws IOException {
        final Path page = folder.resolve("page.md");
        Files.writeString(page, "# Before\n<!-- runs -->\nold\n<!-- /runs -->\nafter\n");
        RunTable.markdown(runs, page);
        final List<String> lines = Files.readAllLines(page);
        assertEquals(List.of("# Before", "<!-- runs -->"), lines.subList(0, 2));
        assertEquals(List.of("<!-- /runs -->", "after"), lines.subList(6, 8));
        final RunSummary a = RunFiles.summary(folder.resolve("a"));
        final RunSummary b = RunFiles.summary(folder.resolve("b"));
        final String row = lines.get(4);
        assertTrue(row.startsWith("| two, \"quoted\" | 1.0 % | 12.0 % | **" + String.format(java.util.Locale.ROOT, "%.1f %%** | %.1f, %.1f |",
                50 * (a.accuracies().accuracyLast() + b.accuracies().accuracyLast()),
                100 * a.accuracies().accuracyLast(), 100 * b.accuracies().accuracyLast())), row);
        assertTrue(row.contains(" | " + (a.monitored().outOfRegionUpdates() + b.monitored().outOfRegionUpdates()) + " of 14 | "), row);
        RunTable.markdown(runs, page);
        assertEquals(lines, Files.readAllLines(page), "written again, it is the same");
        Files.writeString(page, "no marks\n");
        assertEquals(page + ": expected the lines <!-- runs --> and <!-- /runs -->",
                assertThrows(IOException.class, () -> RunTable.markdown(runs, page)).getMessage());
    }

    /** The mean of two gains, as far as both go; errors of a mean add in squares. */
    @Test
    void runsOfOneLabelAreAveraged() throws IOException {
        final Path csv = folder.resolve("gains.csv");
        GainsPicture.csv(runs, csv);
        final List<String> lines = Files.readAllLines(csv);
        assertEquals(1 + 3 + 5, lines.size());
        final List<Gains.Entry> a = Gains.predicted(RunFiles.stages(folder.resolve("a")));
        final List<Gains.Entry> b = Gains.predicted(RunFiles.stages(folder.resolve("b")));
        for (int k = 0; k < 3; k++) {
            final String line = lines.get(1 + k);
            final String[] numbers = line.substring(line.lastIndexOf('"') + 2).split(",");
            assertEquals(k + 1, Integer.parseInt(numbers[0]));
            assertEquals((a.get(k).expected() + b.get(k).expected()) / 2, Double.parseDouble(numbers[1]), 1e-15);
            assertEquals((a.get(k).realised() + b.get(k).realised()) / 2, Double.parseDouble(numbers[2]), 1e-15);
            assertEquals(0.015 / Math.sqrt(2), Double.parseDouble(numbers[3]), 1e-15);
        }
    }
}
