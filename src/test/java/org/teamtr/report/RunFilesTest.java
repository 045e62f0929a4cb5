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
import org.teamtr.train.Certificate;
import org.teamtr.train.GainBound;
import org.teamtr.train.Diagnostics;
import org.teamtr.train.Config;
import org.teamtr.train.RunLog;
import org.teamtr.train.UnchangedReason;

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
    void certificatesAndDiagnosesAreReadBack() throws IOException {
        final RunLog.Update u = update(3);
        final Certificate.Terms bound = new Certificate.Terms(0.5, 5.7, 0.3, new Certificate.Zetas(0.01, 0.02, 0.03),
                new Certificate.Bounds(-1.5, -1.7, true), 0.25, new GainBound(new GainBound.Bound(0.01, 0.02, 0.003, 0.0125, 512, 0.2),
                        GainBound.Decision.SHORTENED, 2, new GainBound.Realised(0.015, 0.004), new GainBound.Cost(1024, 6000, 1.5)));
        final RunLog.Update certified = SyntheticRun.with(u, bound, new RunLog.Outcome(Config.Unit.TOKEN, 0.001, 2, UnchangedReason.ROLLED_BACK));
        final RunLog.Diagnosis diagnosis = new RunLog.Diagnosis(3, 1, "planner", new RunLog.Staleness(0.1, 0.01, 0.2, 0.02, Double.NaN),
                new Diagnostics.Weights(0.5, 1, 2, 3, 0.1), new RunLog.Monitored(false, 0.01, 0.05, 0.2, 0.3), List.of(1.0, 0.5),
                new RunLog.Played(64, 1000, 2));
        try (RunWriter writer = new RunWriter(run)) {
            assertEquals(List.of(), RunFiles.diagnoses(run), "no file where nothing is diagnosed");
            writer.update(certified);
            writer.diagnosis(diagnosis);
        }
        assertEquals(List.of(certified), RunFiles.updates(run));
        assertEquals(List.of(diagnosis), RunFiles.diagnoses(run));
        final String line = Files.readString(run.resolve("metrics.jsonl"));
        assertTrue(line.contains("\"l_seq\":0.3,\"zeta_clip\":0.01,"), line);
        assertTrue(line.contains("\"kl_unit\":\"token\",\"kl_floor\":0.001,\"overflows\":2,\"unchanged_by\":\"rolled_back\""), line);
        final String diagnosed = Files.readString(run.resolve("diagnostics.jsonl"));
        assertTrue(diagnosed.contains("\"weight_ess\":0.5,") && diagnosed.contains("\"monitor_25\":0.2,"), diagnosed);
        try (RunWriter writer = new RunWriter(run)) {
            writer.truncateAfterStage(2);
        }
        assertEquals(List.of(), RunFiles.diagnoses(run));
    }

    @Test
    void namesAreSnakeCaseAndALineIsOneObject() throws IOException {
        try (RunWriter writer = new RunWriter(run)) {
            writer.stage(stage(1, 0.25));
        }
        assertEquals("{\"stage\":1,\"order\":[\"planner\",\"solver\"],\"return_mean\":0.5,\"accuracy\":0.25,\"held_out_episodes\":64,"
                + "\"coord\":null,\"coord_hand_offs\":null,"
                + "\"predicted_gain\":0.25,\"realised_gain\":0.25,\"realised_gain_error\":0.01,\"out_of_region_rate\":0.5,"
                + "\"episodes\":10,\"tokens\":1000,\"seconds_rollout\":2.0,\"seconds_update\":3.0,\"seconds_kl\":0.5,"
                + "\"seconds_eval\":1.0,\"seconds\":7.0,\"unchanged_silent\":0,\"unchanged_equal_returns\":0,"
                + "\"unchanged_zero_gradient\":0,\"unchanged_rolled_back\":0,\"unchanged_not_certified\":0,\"overflows\":0,"
                + "\"l_seq\":null,\"zeta\":null,\"certificate\":null,"
                + "\"certificate_radius\":null,\"vacuous_rate\":null,\"gain_bound\":null,\"gain_estimate\":null,\"bound_level\":null,"
                + "\"informative\":0,\"skipped\":0,\"bound_episodes\":0,\"bound_tokens\":0,\"seconds_bound\":0.0}\n",
                Files.readString(run.resolve("stages.jsonl")));
    }

    @Test
    void numbersThatAreNotFiniteAreNullAndComeBackAsNan() throws IOException {
        final RunLog.Stage odd = SyntheticRun.stage(1, Double.NaN, Double.POSITIVE_INFINITY, 0,
                new RunLog.Gain(Double.NEGATIVE_INFINITY, null, Double.NaN));
        try (RunWriter writer = new RunWriter(run)) {
            writer.stage(odd);
        }
        final String line = Files.readString(run.resolve("stages.jsonl"));
        assertTrue(line.contains("\"return_mean\":null,\"accuracy\":null,") && line.contains("\"predicted_gain\":null,\"realised_gain\":null"), line);
        final RunLog.Stage back = RunFiles.stages(run).get(0);
        assertTrue(Double.isNaN(back.heldOut().returnMean()) && Double.isNaN(back.heldOut().accuracy()), back.toString());
        assertEquals(null, back.gain().predictedGain());
        assertEquals(null, back.gain().realisedGainError());
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
        final RunSummary s = RunSummary.of("1", "train", 7, ROLES, new double[] {0.01, Double.NaN}, updates, stages, List.of());
        assertEquals(2, s.run().stages());
        assertEquals(4, s.run().updates());
        assertEquals(0.20, s.returns().realisedGain(), 1e-15);
        assertEquals(0.50, s.returns().predictedGain(), 1e-15);
        assertEquals(3000, s.spent().tokens());
        assertEquals(30, s.spent().episodes());
        assertEquals(500, s.spent().tokensPerSecond(), 1e-12);
        assertEquals(21, s.spent().seconds());
        assertEquals(6 / 21.0, s.spent().shares().shareRollout(), 1e-15);
        assertEquals(9 / 21.0, s.spent().shares().shareUpdate(), 1e-15);
        assertEquals(1.5 / 21, s.spent().shares().shareMonitor(), 1e-15);
        assertEquals(3 / 21.0, s.spent().shares().shareEval(), 1e-15);
        assertEquals(1.5 / 16.5, s.spent().shares().monitorShareOfUpdate(), 1e-15);
        assertEquals(0.5, s.returns().returnBefore());
        assertEquals(0, s.accuracies().bestStage()); // equal everywhere: the first
        assertEquals(updates.stream().filter(RunLog.Update::outOfRegion).count() / 4.0, s.monitored().outOfRegionRate());
        try (RunWriter writer = new RunWriter(run)) {
            writer.summary(s);
        }
        assertEquals(s, RunFiles.summary(run));
    }

    /** Certificates -0.1, 0.2 (two stages of -0.3 and 0.5, one measurement) and 0.3 beside gains 0.2, 0.1 and 0.25. */
    @Test
    void theSummaryTracksTheCertificate() {
        final List<RunLog.Stage> stages = List.of(stage(0, null), certified(1, -0.1, 0.2), certified(2, -0.3, null),
                certified(3, 0.5, 0.1), certified(4, 0.3, 0.25));
        final RunSummary s = RunSummary.of("1", "train", 7, ROLES, new double[] {0.01, 0}, List.of(), stages, List.of());
        assertEquals(0.4, s.certified().certificate(), 1e-12);
        assertEquals(1, s.certified().certificateRankCorrelation(), 1e-12); // sums -0.1, 0.1, 0.4 and 0.2, 0.3, 0.55
        assertEquals(0.5, s.certified().certificateRankCorrelationStages(), 1e-12); // ranks 1, 2, 3 and 2, 1, 3
        assertEquals(2 / 3.0, s.certified().certificateViolationRate(), 1e-12);
        assertEquals(0.25, s.certified().vacuousRate(), 1e-12);
        final RunSummary.Certified none = RunSummary.of("1", "", 7, ROLES, new double[2], List.of(),
                List.of(stage(0, null), stage(1, 0.1)), List.of()).certified();
        assertTrue(Double.isNaN(none.certificate()) && Double.isNaN(none.certificateViolationRate()));
    }

    /** With the bound of docs/theory.md alone. */
    static RunLog.Stage bounded(int stage, double bound, Double realised) {
        final RunLog.Stage s = stage(stage, realised);
        return new RunLog.Stage(s.stage(), s.order(), s.heldOut(), s.gain(), s.outOfRegionRate(), s.spent(), s.unchanged(),
                new RunLog.Certified(Double.NaN, Double.NaN, Double.NaN, Double.NaN, Double.NaN,
                        new GainBound.Sum(bound, bound + 0.01, 0.05, 2, 0, 1024, 6000, 1)));
    }

    static RunLog.Stage certified(int stage, double certificate, Double realised) {
        return new RunLog.Stage(stage, ROLES, new RunLog.HeldOut(0.5, 0.25, realised == null ? 0 : 64, RunLog.Coordination.NONE),
                new RunLog.Gain(0.25, realised, realised == null ? null : 0.01), 0.5, new RunLog.Spent(10, 1000, 2, 3, 0.5, 1, 7),
                UnchangedReason.Counts.NONE, new RunLog.Certified(0.6, 0.1, certificate, certificate - 1, 0.25, GainBound.Sum.NONE));
    }

    /** Two stages of two updates, and all that is said of their diagnoses together. */
    @Test
    void theSummaryIsMadeOfTheDiagnoses() {
        final List<RunLog.Diagnosis> all = List.of(diagnosis(1, 1, 0, 0.2, 0.0100, 0.0106),
                diagnosis(1, 2, 0.3, 0.4, 0.0104, 0.0096),
                diagnosis(2, 1, 0, 0.1, 0.0020, 0.0024), diagnosis(2, 2, 0.1, 0.3, 0.0020, 0.0020));
        final RunSummary.Diagnosed d = RunSummary.of("1", "train", 7, ROLES, new double[2], List.of(),
                List.of(stage(0, null), stage(1, 0.1)), all).diagnosed();
        assertEquals(0.2, d.gap(), 1e-12); // of second updates
        assertEquals(0.5, d.deltaStale(), 1e-12); // 0.6 and 0.4
        assertEquals(0.5, d.dOcc(), 1e-12);
        assertEquals(0.05, d.monitorErrors().error25(), 1e-12); // 0.06, 0.08, 0.04, 0
        assertEquals(0.074, d.monitorErrors().error25P90(), 1e-12);
        assertEquals(1, d.monitorErrors().flipRate25(), 0);
        assertEquals(0, d.monitorErrors().error50(), 0);
        assertEquals(40, d.played().diagnosticEpisodes());
        assertEquals(400, d.played().diagnosticTokens());
        final RunSummary.Diagnosed none = RunSummary.of("1", "", 7, ROLES, new double[2], List.of(), List.of(stage(0, null)),
                List.of())
                .diagnosed();
        assertTrue(Double.isNaN(none.deltaStale()) && Double.isNaN(none.monitorErrors().error25()) && Double.isNaN(none.coordination().coord()));
    }

    private static RunLog.Diagnosis diagnosis(int stage, int step, double gap, double stale, double kl, double quarter) {
        return new RunLog.Diagnosis(stage, step, "planner", new RunLog.Staleness(gap, 0.1, stale, 0.1, 0.25),
                new Diagnostics.Weights(1, 1, 1, 1, 0), new RunLog.Monitored(kl > 0.01, kl, 0.01, quarter, kl), List.of(1.0, 0.5),
                new RunLog.Played(10, 100, 1));
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
        return new RunLog.Stage(stage, ROLES, new RunLog.HeldOut(0.5, 0.25, 64, RunLog.Coordination.NONE), realised == null ? RunLog.Gain.NONE
                : new RunLog.Gain(0.25, realised, 0.01), 0.5, new RunLog.Spent(10, 1000, 2, 3, 0.5, 1, 7), UnchangedReason.Counts.NONE,
                RunLog.Certified.NONE);
    }

    private static RunLog.Transcript transcript(int stage, String text) {
        return new RunLog.Transcript(stage, "p:1", text, null, 1, true, List.of(new RunLog.Said("planner", text, 3, true, null)));
    }
}
