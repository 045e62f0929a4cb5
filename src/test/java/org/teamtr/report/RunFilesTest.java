package org.teamtr.report;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.Arrays;
import java.util.List;
import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.teamtr.train.RunLog;

class RunFilesTest {
    private static final List<String> ROLES = List.of("planner", "solver");

    @TempDir
    private Path run;

    @Test
    void whatIsWrittenIsReadBack() throws IOException {
        final RunLog.Update update = update(3);
        final RunLog.Stage start = stage(0, null);
        final RunLog.Stage stage = stage(1, 0.25);
        final RunLog.Transcript transcript = transcript(1, "line\nbreak \"quoted\" \\ \u0000 ü 🙂");
        try (RunWriter writer = new RunWriter(run)) {
            writer.update(update);
            writer.stage(start);
            writer.stage(stage);
            writer.transcript(transcript);
            // Before close: a line is there as soon as it is written.
            assertEquals(List.of(update), RunFiles.updates(run));
        }
        assertEquals(List.of(start, stage), RunFiles.stages(run));
        assertEquals(List.of(transcript), RunFiles.transcripts(run));
    }

    @Test
    void namesAreSnakeCaseAndALineIsOneObject() throws IOException {
        try (RunWriter writer = new RunWriter(run)) {
            writer.stage(stage(1, 0.25));
        }
        assertEquals("{\"stage\":1,\"order\":[\"planner\",\"solver\"],\"return_mean\":0.5,\"accuracy\":0.25,\"predicted_gain\":0.25,"
                + "\"realised_gain\":0.25,\"realised_gain_error\":0.01,\"held_out_episodes\":64,\"out_of_region_rate\":0.5,"
                + "\"episodes\":10,\"tokens\":1000,\"seconds_rollout\":2.0,\"seconds_update\":3.0,\"seconds_kl\":0.5,"
                + "\"seconds_eval\":1.0,\"seconds\":7.0}\n", Files.readString(run.resolve("stages.jsonl")));
    }

    @Test
    void numbersThatAreNotFiniteAreNullAndComeBackAsNan() throws IOException {
        final RunLog.Stage odd = new RunLog.Stage(1, ROLES, Double.NaN, Double.POSITIVE_INFINITY, Double.NEGATIVE_INFINITY, null,
                Double.NaN, 0, 0, 0, 0, 0, 0, 0, 0, 0);
        try (RunWriter writer = new RunWriter(run)) {
            writer.stage(odd);
        }
        final String line = Files.readString(run.resolve("stages.jsonl"));
        assertTrue(line.contains("\"return_mean\":null,\"accuracy\":null,\"predicted_gain\":null,\"realised_gain\":null"), line);
        final RunLog.Stage back = RunFiles.stages(run).get(0);
        assertTrue(Double.isNaN(back.returnMean()) && Double.isNaN(back.accuracy()), back.toString());
        assertEquals(null, back.predictedGain());
        assertEquals(null, back.realisedGainError());
    }

    @Test
    void aLastLineThatWasCutOffIsPassedOverAndTakenAwayBeforeMoreIsWritten() throws IOException {
        final byte[] whole;
        try (RunWriter writer = new RunWriter(run)) {
            writer.transcript(transcript(1, "first"));
            writer.transcript(transcript(1, "zweites, ü"));
            whole = Files.readAllBytes(run.resolve("transcripts.jsonl"));
        }
        final int second = new String(whole, StandardCharsets.ISO_8859_1).indexOf('\n') + 1;
        for (int length = second; length < whole.length - 1; length++) { // at every byte, within the ü too
            Files.write(run.resolve("transcripts.jsonl"), Arrays.copyOf(whole, length));
            assertEquals(List.of(transcript(1, "first")), RunFiles.transcripts(run), "cut after byte " + length);
        }
        try (RunWriter writer = new RunWriter(run)) {
            writer.transcript(transcript(2, "third"));
        }
        assertEquals(List.of(transcript(1, "first"), transcript(2, "third")), RunFiles.transcripts(run));
    }

    @Test
    void aWholeLastLineThatLacksItsEndIsKept() throws IOException {
        try (RunWriter writer = new RunWriter(run)) {
            writer.transcript(transcript(1, "first"));
        }
        final Path file = run.resolve("transcripts.jsonl");
        final byte[] whole = Files.readAllBytes(file);
        Files.write(file, Arrays.copyOf(whole, whole.length - 1));
        assertEquals(1, RunFiles.transcripts(run).size());
        try (RunWriter writer = new RunWriter(run)) {
            writer.transcript(transcript(1, "second"));
        }
        assertEquals(2, RunFiles.transcripts(run).size());
    }

    @Test
    void anyOtherBadLineIsAnErrorWithFileAndLine() throws IOException {
        try (RunWriter writer = new RunWriter(run)) {
            writer.stage(stage(0, null));
        }
        final Path file = run.resolve("stages.jsonl");
        final String good = Files.readString(file);
        for (String bad : List.of("{\"stage\":\n", "\n", good.replace("\"episodes\"", "\"episodez\""),
                good.replace("\"episodes\":10,", ""),
                good.replace("}", "} {}"), good.replace(":10", ":\"ten\""), good.replace(":10", ":null"))) {
            Files.writeString(file, good + bad + good);
            final String message = assertThrows(IOException.class, () -> RunFiles.stages(run), bad).getMessage();
            assertTrue(message.startsWith(file + ", line 2: expected a Stage, given "), message);
        }
        Files.writeString(file, good + "{\"stage\":\n");
        assertTrue(assertThrows(IOException.class, () -> new RunWriter(run)).getMessage().startsWith(file + ", line 2: "));
    }

    @Test
    void aFolderWithoutTheFilesIsNoRunDirectory() {
        final String message = assertThrows(IOException.class, () -> RunFiles.updates(run)).getMessage();
        assertEquals(run.resolve("metrics.jsonl") + ": no such file; is its folder a run directory?", message);
    }

    @Test
    void resumingDropsLaterStagesAndLeavesTheOthersAsTheyAre() throws IOException {
        SyntheticRun.write(run, 5, 2, 1);
        final String[] before = {Files.readString(run.resolve("metrics.jsonl")), Files.readString(run.resolve("stages.jsonl"))};
        Files.writeString(run.resolve("metrics.jsonl"), "{\"stage\":6,\"st", StandardOpenOption.APPEND);
        try (RunWriter writer = new RunWriter(run)) {
            writer.truncateAfterStage(3);
            assertEquals(List.of(0, 1, 2, 3), RunFiles.stages(run).stream().map(RunLog.Stage::stage).toList());
            assertEquals(6, RunFiles.updates(run).size());
            assertTrue(RunFiles.transcripts(run).stream().allMatch(t -> t.stage() == 0));
            assertTrue(before[0].startsWith(Files.readString(run.resolve("metrics.jsonl"))));
            assertTrue(before[1].startsWith(Files.readString(run.resolve("stages.jsonl"))));
            writer.stage(stage(4, 0.1));
        }
        assertEquals(4, RunFiles.stages(run).get(4).stage());
        try (var files = Files.list(run)) {
            assertTrue(files.noneMatch(f -> f.toString().endsWith(".tmp")));
        }
    }

    @Test
    void theSummaryIsMadeOfTheLogs() throws IOException {
        final List<RunLog.Stage> stages = List.of(stage(0, null), stage(1, 0.25), stage(2, -0.05));
        final List<RunLog.Update> updates = List.of(update(1), update(1), update(2), update(2));
        final RunSummary s = RunSummary.of("1", "train", 7, ROLES, new double[] {0.01, Double.NaN}, updates, stages);
        assertEquals(2, s.stages());
        assertEquals(4, s.updates());
        assertEquals(0.20, s.realisedGain(), 1e-15);
        assertEquals(0.50, s.predictedGain(), 1e-15);
        assertEquals(3000, s.tokens());
        assertEquals(30, s.episodes());
        assertEquals(500, s.tokensPerSecond(), 1e-12);
        assertEquals(21, s.seconds());
        assertEquals(6 / 21.0, s.shareRollout(), 1e-15);
        assertEquals(9 / 21.0, s.shareUpdate(), 1e-15);
        assertEquals(1.5 / 21, s.shareMonitor(), 1e-15);
        assertEquals(3 / 21.0, s.shareEval(), 1e-15);
        assertEquals(1.5 / 16.5, s.monitorShareOfUpdate(), 1e-15);
        assertEquals(0.5, s.returnBefore());
        assertEquals(0, s.bestStage()); // equal everywhere: the first
        assertEquals(updates.stream().filter(RunLog.Update::outOfRegion).count() / 4.0, s.outOfRegionRate());
        try (RunWriter writer = new RunWriter(run)) {
            writer.summary(s);
        }
        assertEquals(s, RunFiles.summary(run));
    }

    @Test
    void peakMemoryIsTheKernelsNumber() throws IOException {
        final Path status = Files.writeString(run.resolve("status"), "Name:\tjava\nVmPeak:\t  9 kB\nVmHWM:\t  123456 kB\n");
        assertEquals(123456L * 1024, RunSummary.peakResident(status));
        assertEquals(null, RunSummary.peakResident(run.resolve("none")));
    }

    private static RunLog.Update update(int stage) {
        return SyntheticRun.update(stage, 0, ROLES, 0.5, 0.1, new SplittableRandom(1));
    }

    private static RunLog.Stage stage(int stage, Double realised) {
        return new RunLog.Stage(stage, ROLES, 0.5, 0.25, realised == null ? null : 0.25, realised, realised == null ? null : 0.01,
                64, 0.5,
                10, 1000, 2, 3, 0.5, 1, 7);
    }

    private static RunLog.Transcript transcript(int stage, String text) {
        return new RunLog.Transcript(stage, "p:1", text, null, 1, true, List.of(new RunLog.Said("planner", text, 3, true)));
    }
}
