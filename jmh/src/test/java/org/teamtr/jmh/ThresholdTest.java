package org.teamtr.jmh;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.teamtr.jmh.Threshold.Verdict;

class ThresholdTest {
    private static final Threshold HALF_THE_ROOFLINE =
            Threshold.parse("LogProbs | dtype=F32 cpu=avx512 | roofline | >= 0.50 | one read");
    private static final Threshold NO_BYTES = Threshold.parse("Surrogate | - | bytes | <= 1 | allocates nothing");

    private static Verdict judge(double... rounds) {
        return HALF_THE_ROOFLINE.judge(rounds);
    }

    @Test
    void holdsWhereTheMedianReachesTheBound() {
        assertEquals(Verdict.HELD, judge(0.8, 0.81));
        assertEquals(Verdict.HELD, judge(0.5, 0.5, 0.5));
        assertEquals(Verdict.HELD, judge(0.1, 0.8, 0.9), "one disturbed round");
    }

    @Test
    void fallsWhereEveryRoundSaysSoAndTheyAgree() {
        assertEquals(Verdict.FELL, judge(0.4, 0.42, 0.41));
        assertEquals(Verdict.FELL, judge(0.49, 0.49, 0.49, 0.49, 0.49));
        assertEquals(Verdict.FELL, judge(0.04, 0.04, 0.041), "lost its threads");
    }

    @Test
    void abstainsWhereTheRoundsDoNotAgree() {
        assertEquals(Verdict.UNCLEAR, judge(0.2, 0.45, 0.3), "all below, far apart");
        assertEquals(Verdict.UNCLEAR, judge(0.45, 0.46, 0.51), "one above");
        assertEquals(Verdict.UNCLEAR, judge(0.4, 0.41), "too few");
    }

    @Test
    void countsAreExact() {
        assertEquals(Verdict.HELD, NO_BYTES.judge(new double[] {0.001}));
        assertEquals(Verdict.FELL, NO_BYTES.judge(new double[] {24}));
        assertEquals(Verdict.FELL, NO_BYTES.judge(new double[] {Double.NaN}), "not counted is not held");
        final Threshold instructions = Threshold.parse("LogProbs | cpu=avx2 dtype=F32 | instructions | <= 4.1 | 3.5 with GCC 12");
        assertEquals(Verdict.HELD, instructions.judge(new double[] {3.5}));
        assertEquals(Verdict.FELL, instructions.judge(new double[] {4.2}));
    }

    @Test
    void saysWhatFellAndWhatToDo() {
        final String report = HALF_THE_ROOFLINE.report(new double[] {0.4, 0.42, 0.41}, Path.of("thresholds.txt"));
        for (String part : List.of("fell", "LogProbs", "F32", "avx512", "0.41", "0.50", "one read", "thresholds.txt",
                "benchmarks.jar LogProbs")) {
            assertTrue(report.contains(part), report);
        }
        assertTrue(HALF_THE_ROOFLINE.report(new double[] {0.2, 0.45, 0.3}, Path.of("f")).contains("could not be judged"));
    }

    @ParameterizedTest
    @ValueSource(strings = {"LogProbs | - | roofline | >= 0.5", "LogProbs | - | roofline | <= 0.5 | r",
        "LogProbs | - | speed | >= 1 | r",
        "LogProbs | F32 | roofline | >= 0.5 | r", "LogProbs | - | bytes | >= 0 | r", "LogProbs | - | roofline | >= half | r"})
    void refusesALineItCannotRead(String line, @TempDir Path folder) throws IOException {
        assertThrows(IllegalArgumentException.class, () -> Threshold.parse(line));
        final Path file = Files.writeString(folder.resolve("thresholds.txt"), "# a comment\n\n" + line + "\n");
        assertTrue(assertThrows(IOException.class, () -> Threshold.read(file)).getMessage().contains(":3: "));
    }

    /** The file itself: readable, no line twice, every line about a benchmark that exists. */
    @Test
    void theFileIsInOrder() throws IOException {
        final Set<List<Object>> seen = new HashSet<>();
        for (Threshold t : Threshold.read(Path.of("thresholds.txt"))) {
            assertTrue(seen.add(List.of(t.kernel(), t.params(), t.what())), t.name() + " " + t.what() + " stands there twice");
            if (!t.what().equals("instructions")) {
                assertTrue(new Run(t.kernel(), "teamtr", t.params(), new double[] {1}, 0, null).millis() > 0, t.name());
            }
        }
        assertTrue(seen.size() > 20);
    }

    @Test
    void timeAndBytesByTheBenchmarksOwnFormulas() {
        final Map<String, String> params = Map.of("dtype", "BF16", "rows", "512", "vocab", "1000", "policies", "near");
        final Run kl = new Run("TokenKl", "teamtr", params, new double[] {2, 4, 3}, 0, null);
        assertEquals(3, kl.millis());
        assertEquals(2.0 / 3, kl.spread(), 1e-12);
        assertEquals(2 * 512 * 1000 * 2 / 3.0 / 1e6, kl.gigabytesPerSecond(), 1e-12);
        assertEquals(3 * 16, new Run("TokenKl", "plainJava", params, new double[] {3}, 0, null).millis(), 1e-12);
    }

    @Test
    void sixteenBitNumbersRoundToNearest() {
        assertEquals(0x3f80, Halves.toBf16(1));
        assertEquals(0x3f80, Halves.toBf16(1 + 0x1p-8f), "a tie goes to even");
        assertEquals(0x3f82, Halves.toBf16(1 + 0x3p-8f));
        assertEquals(0x3c00, Halves.toF16(1));
        assertEquals((short) 0xfbff, Halves.toF16(-65504));
        assertEquals(1, Halves.toF16(0x1p-24f));
        for (int bits = 0; bits < 0x7c00; bits++) {
            assertEquals((short) bits, Halves.toF16(Halves.ofF16((short) bits)));
            assertEquals((short) bits, Halves.toBf16(Halves.ofBf16((short) bits)));
        }
    }
}
