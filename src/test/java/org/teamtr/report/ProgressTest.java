package org.teamtr.report;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.util.Arrays;
import java.util.List;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;
import org.teamtr.train.RunLog;
import org.teamtr.train.UnchangedReason;

class ProgressTest {
    private final ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    private final PrintStream out = new PrintStream(bytes, true);
    private long nanos;

    @Test
    void oneLineForEachStageWithoutATerminal() {
        try (Progress progress = Progress.open(out, false, 4, 2, () -> nanos)) {
            progress.note("warm start: 200 steps\u001b[2J");
            progress.stage(stage(0, 0.125, 0.25));
            nanos = 30_000_000_000L;
            progress.update(update(1, "planner", 0.012, 0.05), 15_000);
            nanos = 60_000_000_000L;
            progress.update(update(1, "solver", 0.031, 0.05), 30_000);
            progress.stage(stage(1, 0.4125, 0.41));
            nanos = 3_600_000_000_000L;
            progress.update(update(2, "planner", 0.2, Double.NaN), 3_600_000);
            progress.stage(SyntheticRun.stage(2, 0.9, 0.9, 0)); // not measured
        }
        assertEquals("""
                warm start: 200 steps [2J
                stage 0/4  reward 0.125  accuracy 25.0 %  0:00
                stage 1/4  reward 0.413  KL planner 0.0120 solver 0.0310 of 0.0500  500 tok/s  accuracy 41.0 %  1:00, 3:00 left
                stage 2/4  reward 0.300  KL planner 0.200  1008 tok/s  accuracy 20.0 %  1:00:00, 1:40:00 left
                """, bytes.toString());
    }

    /** The rate of the stage that ends, and not since the start; without the time that measuring on held-out episodes takes. */
    @Test
    void theRateIsTheStages() {
        try (Progress progress = Progress.open(out, false, 2, 2, () -> nanos)) {
            nanos = 100_000_000_000L; // a model was loaded
            progress.stage(stage(0, 0, 0));
            nanos = 110_000_000_000L;
            progress.update(update(1, "a", 0.01, 0.05), 1_000);
            nanos = 120_000_000_000L;
            progress.update(update(1, "b", 0.02, 0.04), 3_000);
            nanos = 150_000_000_000L;
            progress.stage(stage(1, 0, 0));
            nanos = 160_000_000_000L;
            progress.update(update(2, "a", 0.01, 0.05), 3_700);
            progress.stage(stage(2, 0, 0));
        }
        final List<String> lines = bytes.toString().lines().toList();
        assertEquals("stage 1/2  reward 0.000  KL a 0.0100/0.0500 b 0.0200/0.0400  150 tok/s  accuracy 0.0 %  2:30, 2:30 left",
                lines.get(1));
        assertTrue(lines.get(2).contains("  70 tok/s  "), lines.get(2));
    }

    /** What came to nothing is on the stage's line, and on a terminal, which has none, in a line of its own. */
    @Test
    void updatesThatChangedNothingAreSaid() {
        for (boolean terminal : new boolean[] {false, true}) {
            bytes.reset();
            try (Progress progress = Progress.open(out, terminal, 4, 3, () -> nanos)) {
                nanos = 10_000_000_000L;
                progress.update(update(1, "s", 0.012, 0.05), 5_000);
                progress.stage(new RunLog.Stage(1, List.of(), new RunLog.HeldOut(0.4, 0.4, 8, RunLog.Coordination.NONE), RunLog.Gain.NONE, 0,
                        SyntheticRun.NOTHING_SPENT, new UnchangedReason.Counts(0, 1, 0, 2, 0, 5), RunLog.Certified.NONE));
            }
            final String all = bytes.toString();
            assertTrue(all.contains("  unchanged 2 rolled back 1 equal returns 5 overflows"), all);
            assertTrue(terminal ? all.contains("\rstage 1/4  unchanged") : all.startsWith("stage 1/4  reward 0.400  KL s "), all);
        }
    }

    @Test
    void aResumedRunCountsFromWhereItWas() {
        try (Progress progress = Progress.open(out, false, 10, 1, () -> nanos)) {
            nanos = 10_000_000_000L;
            progress.update(update(9, "solver", 0.01, 0.05), 100);
            progress.stage(stage(9, 0.5, 0.5));
        }
        assertEquals("stage 9/10  reward 0.500  KL solver 0.0100/0.0500  10 tok/s  accuracy 50.0 %  0:10, 0:10 left\n",
                bytes.toString());
    }

    /** The live line is no longer than the terminal is wide; of notes, and of what goes to a file, nothing is cut. */
    @Test
    void onlyTheLiveLineIsCut() {
        final String note = "x".repeat(200);
        for (boolean terminal : new boolean[] {false, true}) {
            bytes.reset();
            nanos = 0;
            try (Progress progress = Progress.open(out, terminal, 100_000, 8, () -> nanos)) {
                nanos = 1_000_000_000_000_000L;
                for (String role : List.of("a-role-with-a-name-of-some-length", "b", "c", "d", "e", "f", "g", "h")) {
                    progress.update(update(1, role, 0.0312345, 0.05), Long.MAX_VALUE / 1000);
                }
                progress.stage(stage(1, -1234567.891, 1));
                progress.note(note);
            }
            final List<String> lines = Arrays.stream(bytes.toString().split("[\\r\\n]+")).toList();
            assertEquals(terminal, lines.stream().filter(l -> !l.equals(note)).allMatch(l -> l.length() <= 100), lines.toString());
            assertTrue(lines.contains(note), lines.toString());
            assertEquals(!terminal, lines.get(0).contains("KL a-role-with- 0.0312 b 0.0312 c 0.0312"), lines.get(0));
        }
    }

    @Test
    void oneLiveLineOnATerminal() {
        try (Progress progress = Progress.open(out, true, 4, 2, () -> nanos)) {
            nanos = 10_000_000_000L;
            progress.update(update(1, "s", 0.012, 0.05), 5_000);
            progress.note("a note");
            progress.stage(stage(1, 0.4, 0.4));
        }
        final String all = bytes.toString();
        assertTrue(all.contains("\ra note" + " ".repeat(60)), all);
        assertTrue(all.endsWith("\n"), all);
        // 80 columns or more, whatever the test's terminal is. 1 of 8 updates is done, 7 of 10 s are left.
        assertTrue(Pattern.compile("\r\\[#+ +] stage 1/4  reward 0\\.300  KL s 0\\.0120/0\\.0500  500 tok/s  0:10, 1:10 left")
                .matcher(all).find(), all);
        assertTrue(Arrays.stream(all.split("[\\r\\n]+")).allMatch(l -> l.length() <= 100), all);
        assertEquals(2, all.chars().filter(c -> c == '\n').count(), all); // the note's, and the last
    }

    private static RunLog.Update update(int stage, String agent, double kl, double delta) {
        final RunLog.Update.Builder u = new RunLog.Update.Builder();
        u.stage = stage;
        u.step = 1;
        u.agent = agent;
        u.order = List.of(agent);
        u.episodes = u.messages = 10;
        u.tokens = u.trainedTokens = 100;
        u.returnMean = 0.3;
        u.accuracy = 0.2;
        u.kl = u.klMax = u.klReached = kl;
        u.delta = delta;
        u.innerSteps = 1;
        u.stoppedBy = "steps";
        u.entropy = u.gradNorm = 1;
        u.fresh = true;
        u.shift = 0;
        u.secondsRollout = u.secondsUpdate = 1;
        return u.build();
    }

    private static RunLog.Stage stage(int stage, double reward, double accuracy) {
        return SyntheticRun.stage(stage, reward, accuracy, 8);
    }
}
