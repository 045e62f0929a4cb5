package org.teamtr.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.teamtr.report.RunWriter;
import org.teamtr.train.RunLog;
import org.teamtr.train.UnchangedReason;
import picocli.CommandLine;

/** {@code report} and {@code compare}: what they print where, and their exit codes. */
class ReportCommandsTest {
    @TempDir
    private Path folder;

    @Test
    void reportWritesThePageAndPrintsWhereItIs() throws IOException {
        final Path run = run("a");
        assertEquals(new Said(0, run.resolve("report.html") + System.lineSeparator(), ""),
                teamtr(new ReportCommand(), run.toString()));
        assertTrue(Files.readString(run.resolve("report.html")).startsWith("<!DOCTYPE html>"));
    }

    @Test
    void reportOfSomethingElseFails() {
        assertEquals(new Said(1, "", "teamtr report: " + folder.resolve("metrics.jsonl")
                + ": no such file; is its folder a run directory?" + System.lineSeparator()),
                teamtr(new ReportCommand(), folder.toString()));
    }

    @Test
    void compareWritesTableAndPicture() throws IOException {
        final Path csv = folder.resolve("c.csv");
        final Path picture = folder.resolve("c.png");
        final Said said = teamtr(new CompareCommand(), "n = 4, fresh=" + run("a"), "n = 4, stale=" + run("b"), "--csv", csv.toString(),
                "--picture",
                picture.toString());
        assertEquals(new Said(0, csv + System.lineSeparator() + picture + System.lineSeparator(), ""), said);
        assertEquals(List.of("\"n = 4, fresh\"", "\"n = 4, stale\""),
                Files.readAllLines(csv).stream().skip(1).map(l -> l.substring(0, l.lastIndexOf('"') + 1)).toList());
        assertTrue(Files.size(picture) > 1000);
    }

    @Test
    void compareWithoutALabelIsWrongUsage() {
        final Said said = teamtr(new CompareCommand(), "runs/a", "--csv", folder.resolve("c.csv").toString());
        assertEquals(2, said.code());
        assertTrue(said.err().startsWith("LABEL=RUN: expected a label, =, and a run directory, given runs/a"), said.err());
    }

    @Test
    void compareOfSomethingElseFails() {
        final Said said = teamtr(new CompareCommand(), "a=" + folder, "--csv", folder.resolve("c.csv").toString());
        assertEquals(1, said.code());
        assertTrue(said.err().startsWith("teamtr compare: " + folder.resolve("stages.jsonl") + ": no such file"), said.err());
    }

    private Path run(String name) throws IOException {
        final Path run = folder.resolve(name);
        try (RunWriter writer = new RunWriter(run)) {
            writer.stage(new RunLog.Stage(0, List.of(), new RunLog.HeldOut(0.1, 0.1, 8, RunLog.Coordination.NONE), RunLog.Gain.NONE, 0,
                    new RunLog.Spent(0, 0, 0, 0, 0, 1, 1), UnchangedReason.Counts.NONE, RunLog.Certified.NONE));
            writer.stage(new RunLog.Stage(1, List.of("a"), new RunLog.HeldOut(0.3, 0.3, 8, RunLog.Coordination.NONE),
                    new RunLog.Gain(0.25, 0.2, 0.01), 0, new RunLog.Spent(8, 80, 1, 1, 0, 1, 3), UnchangedReason.Counts.NONE, RunLog.Certified.NONE));
        }
        return run;
    }

    private static Said teamtr(Object command, String... args) {
        final StringWriter usage = new StringWriter();
        final Said said = Said.of(() -> new CommandLine(command).setErr(new PrintWriter(usage)).execute(args));
        return new Said(said.code(), said.out(), said.err() + usage);
    }
}
