package org.teamtr.report;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.teamtr.TestJvm;
import org.teamtr.train.Config;
import org.teamtr.train.Diagnostics;
import org.teamtr.train.GainBound;
import org.teamtr.train.RunLog;
import org.teamtr.train.UnchangedReason;

class ReportTest {
    @TempDir
    private Path run;

    @Test
    void aRunOnOnePage() throws IOException {
        SyntheticRun.write(run, 12, 3, 1.4);
        final String html = report();
        // 2 of learning, 2 of the gains, 3 agents, β, δ, 3 of health, 1 of time.
        assertEquals(13, count(html, "<svg viewBox=\"0 0 440 236\""));
        assertEquals(13, count(html, "</svg>"));
        assertTrue(html.contains("currentColor") && !html.contains("rgb(1,2,3)"), "the page's own text colour");
        final RunSummary s = RunFiles.summary(run);
        assertTrue(Pattern.compile("<h1>Accuracy from 12\\.0 % to \\d\\d\\.\\d % over 36 updates; (no update left its trust region|"
                + s.monitored().outOfRegionUpdates() + " of 36 left the trust region)</h1>").matcher(html).find(), html.substring(0, 9000));
        // Six prompts, before and after, each marked in the line above it and beside it; one is still wrong after.
        assertEquals(2 * 7, count(html, "✗ wrong</b>"));
        assertEquals(2 * 5, count(html, "✓ right</b>"));
        assertTrue(html.contains("seed: 7\ntask:\n  name: synthetic # &lt;made up&gt; &amp; nothing else"));
        selfContained(html);
    }

    @Test
    void nothingOfATranscriptBecomesHtml() throws IOException {
        SyntheticRun.write(run, 1, 1, 1);
        final String hostile = "</div><script>alert('1')</script><img src=x onerror=\"alert(2)\">&lt;\u0000\u001b[31m\u007f\u0085";
        try (RunWriter writer = new RunWriter(run)) {
            writer.transcript(new RunLog.Transcript(0, hostile, hostile, hostile, 0, false,
                    List.of(new RunLog.Said(hostile, hostile, 1, true, hostile))));
        }
        Files.writeString(run.resolve("config.yaml"), hostile);
        final String html = report();
        final String escaped = "&lt;/div&gt;&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&lt;img src=x onerror=&quot;alert(2)&quot;&gt;"
                + "&amp;lt;␀␛[31m␡\ufffd";
        assertEquals(7, count(html, escaped)); // id, text, answer, role, message, configuration
        assertEquals(0, count(html, "<script"));
        assertEquals(0, count(html, "<img"));
        assertFalse(Pattern.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f]").matcher(html).find());
    }

    /** A run that learns nothing looks like one that trains, so that is what its page begins with. */
    @Test
    void updatesThatChangedNothingComeFirst() throws IOException {
        SyntheticRun.write(run, 2, 2, 1);
        assertFalse(report().contains("changed nothing"));
        final RunLog.Update u = RunFiles.updates(run).get(3);
        try (RunWriter writer = new RunWriter(run)) {
            for (RunLog.Outcome o : List.of(new RunLog.Outcome(Config.Unit.TOKEN, 2 * u.delta(), 0, UnchangedReason.ROLLED_BACK),
                    new RunLog.Outcome(Config.Unit.TOKEN, Double.NaN, 0, UnchangedReason.EQUAL_RETURNS))) {
                writer.update(SyntheticRun.with(u, o));
            }
        }
        Files.delete(run.resolve("summary.json"));
        final String html = report();
        final int first = html.indexOf("<p class=\"note\">1 of 6 updates changed nothing: all episodes of each prompt earned the same");
        final int second = html.indexOf("<p class=\"note\">1 of 6 updates changed nothing: no part of the first step stayed within "
                + "trust_region.delta, so all of it was rolled back. Rounding alone gives a KL of up to 2.0 times delta (kl_floor). What "
                + "may help: a finer policies.&lt;name&gt;.dtype");
        assertTrue(first > 0 && second > first && html.indexOf("<dl class=\"tiles\">") > second, html.substring(0, 9000));
        assertTrue(html.contains("The floor is the monitor’s value without a step, which is rounding"));
        final RunSummary s = RunSummary.of("", "", 1, List.of(), new double[2], RunFiles.updates(run), RunFiles.stages(run), List.of());
        assertEquals(new UnchangedReason.Counts(0, 1, 0, 1, 0, 0), s.monitored().unchanged());
        assertEquals(2 * u.delta(), s.monitored().klFloor());
    }

    @Test
    void theTeamBeforeItsFirstUpdate() throws IOException {
        SyntheticRun.write(run, 0, 3, 1);
        final String html = report();
        assertTrue(html.contains("<h1>Before the first update: accuracy 12.0 %, return 0.12</h1>"));
        assertTrue(html.contains("Charts appear with the first updates."));
        assertEquals(0, count(html, "<svg"));
        assertEquals(0, count(html, "NaN"));
        selfContained(html);
    }

    @Test
    void aRunThatWasKilledHasAReportOfWhatItGotTo() throws IOException {
        SyntheticRun.write(run, 3, 2, 1);
        Files.delete(run.resolve("summary.json"));
        Files.delete(run.resolve("config.yaml"));
        Files.writeString(run.resolve("metrics.jsonl"), "{\"stage\":4,", StandardOpenOption.APPEND);
        assertTrue(report().contains("over 6 updates"));
    }

    @Test
    void aRunWithoutATrustRegionSaysSo() throws IOException {
        SyntheticRun.write(run, 3, 2, 1);
        final Path metrics = run.resolve("metrics.jsonl");
        Files.writeString(metrics, Files.readString(metrics).replaceAll("\"delta\":[0-9.]+", "\"delta\":null"));
        final String html = report();
        assertTrue(html.contains("over 6 updates; without a trust region</h1>"));
        assertEquals(0, count(html, "NaN"));
    }

    @Test
    void certificatesAndDiagnosesHaveTheirCharts() throws IOException {
        SyntheticRun.write(run, 4, 2, 1);
        final String before = report();
        assertFalse(before.contains("Certified gain") || before.contains("Staleness and locality"));
        Files.writeString(run.resolve("stages.jsonl"), "");
        try (RunWriter writer = new RunWriter(run)) {
            for (int s = 1; s <= 4; s++) {
                writer.stage(RunFilesTest.certified(s, -0.1 * s, 0.1 * s - 0.35));
                for (int i = 1; i <= 2; i++) {
                    writer.diagnosis(new RunLog.Diagnosis(s, i, "planner", new RunLog.Staleness(0.1, 0.01, 0.2, 0.01, 0.3),
                            new Diagnostics.Weights(1, 1, 1, 1, 0), new RunLog.Monitored(i == 2, 0.1, 0.1, 0.1, 0.1), List.of(0.5, 0.2, 0.1),
                            new RunLog.Played(10, 100, 1)));
                }
            }
        }
        final String html = report();
        assertEquals(count(before, "<svg viewBox") + 5, count(html, "<svg viewBox"));
        assertTrue(html.contains("The bound of 25.0 % of the updates is vacuous"), html);
        // Certificates -0.1 .. -0.4 beside gains -0.25 .. 0.05: one of four gained less, and the more the less it was certified.
        assertTrue(html.contains("Stages that gained less than certified: 25.0 %."));
        assertTrue(html.contains("\u22121.00 stage by stage") || html.contains("-1.00 stage by stage"));
        assertTrue(html.contains("out of the region"));
        selfContained(html);
    }

    /** Bound, estimate, predicted and realised gain of each update, and sentences on how often the bound held and what it does not cover. */
    @Test
    void boundsOnGainsHaveTheirCharts() throws IOException {
        SyntheticRun.write(run, 4, 2, 1);
        final String before = report();
        final List<RunLog.Update> updates = RunFiles.updates(run);
        Files.writeString(run.resolve("metrics.jsonl"), "");
        Files.writeString(run.resolve("stages.jsonl"), "");
        try (RunWriter writer = new RunWriter(run)) {
            for (RunLog.Update u : updates) {
                writer.update(SyntheticRun.with(u, new GainBound(new GainBound.Bound(0.01 * u.stage(), 0.02, 0.003, 0.025, 512, 0.2), null, 1,
                        new GainBound.Realised(0.01 * u.stage(), 0.004), new GainBound.Cost(1024, 6000, 1.5))));
            }
            for (int s = 1; s <= 4; s++) { // bounds 0.02 .. 0.08, gains 0.03, 0.06, 0.09 and, one less, 0.07
                writer.stage(RunFilesTest.bounded(s, 0.02 * s, s == 4 ? 0.07 : 0.03 * s));
            }
        }
        final String html = report();
        assertEquals(count(before, "<svg viewBox") + 3, count(html, "<svg viewBox"));
        assertTrue(html.contains("Stages that gained less than their bound: 25.0 % (1 of 4; 95 % interval 4.6 % to 69.9 %)."), html);
        assertTrue(html.contains("Bounds above 0: 100.0 % of the updates, 100.0 % of those that helped on held-out episodes."));
        assertTrue(html.contains("+0.80 by stage"));
        assertTrue(html.contains("They say nothing about other kinds of prompts"));
        assertTrue(html.contains("<i style=\"--c:#8a93a0\"></i>estimate</li><li><i class=\"dashes\" style=\"--c:#8a93a0\"></i>predicted</li>"),
                "two grey lines, which the legend tells apart");
        assertFalse(html.contains("alarm"));
        selfContained(html);
    }

    /** Bounds on gains are less than 1, and stages are whole numbers. */
    @Test
    void theHorizontalAxisHasSeveralNumbers() {
        assertEquals(6, labelsBelow(new double[] {-0.25, 0.02}));
        assertEquals(6, labelsBelow(new double[] {0, 100}));
        assertEquals(3, labelsBelow(new double[] {1, 2, 3}));
    }

    private static int labelsBelow(double[] x) {
        final String svg = Charts.svg(Charts.Drawing.of(Charts.xy(List.of(Charts.Series.line("a", x, x, Charts.GREY)), Charts.Scale.LINEAR)), "a");
        return (int) Pattern.compile("matrix\\(1,0,0,1,[0-9.]+,([0-9.]+)\\)").matcher(svg).results()
                .filter(m -> Double.parseDouble(m.group(1)) > 0.93 * Charts.HEIGHT).count();
    }

    @Test
    void aLongRunIsStillAPage() throws IOException {
        SyntheticRun.write(run, 1000, 8, 2);
        final String html = report();
        assertTrue(html.length() < 3_000_000, html.length() + " characters");
        assertTrue(html.contains("1\u202f000 updates; the largest of every 5"));
        assertTrue(html.contains("; 25 stages to a bar"));
    }

    /** In a JVM of its own, whose fontconfig knows no fonts. */
    @Test
    void withoutFontsASentenceStandsInsteadOfTheCharts() throws Exception {
        SyntheticRun.write(run, 2, 2, 1);
        final List<String> command = TestJvm.command(Main.class, "-Duser.home=" + run); // in ~/.java Java keeps which fonts it found last
        command.add(run.toString());
        final ProcessBuilder java = new ProcessBuilder(command);
        final Path fonts = Files.writeString(run.resolve("fonts.conf"), "<fontconfig></fontconfig>");
        java.environment().put("FONTCONFIG_FILE", fonts.toString());
        final Process process = java.redirectErrorStream(true).start();
        final String said = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        assertTrue(process.waitFor(60, TimeUnit.SECONDS) && process.exitValue() == 0, said);
        final String html = Files.readString(run.resolve("report.html"));
        assertTrue(html.contains("apt-get install fontconfig fonts-dejavu-core"), said);
        assertEquals(0, count(html, "<svg"));
        assertTrue(html.contains("Transcripts"));
    }

    /** Writes the report of the run it is given. */
    static final class Main {
        private Main() {
        }

        public static void main(String[] args) throws IOException {
            Report.write(Path.of(args[0]));
        }
    }

    @Test
    void aFolderThatIsNoRunIsAnError() {
        final String message = assertThrows(IOException.class, () -> Report.write(run)).getMessage();
        assertTrue(message.startsWith(run + "/metrics.jsonl: no such file"), message);
    }

    @Test
    void numbersAreShort() {
        assertEquals("0.0312", Charts.number(0.031249));
        assertEquals("−0.5", Charts.number(-0.5));
        assertEquals("12300", Charts.number(12345));
        assertEquals("3e−6", Charts.number(3e-6));
        assertEquals("1.23e7", Charts.number(12_345_678));
        assertEquals("0", Charts.number(-0.0));
        assertEquals("–", Charts.number(Double.NaN));
    }

    private String report() throws IOException {
        return Files.readString(Report.write(run));
    }

    /** Nothing in it makes a browser ask for another file. */
    private static void selfContained(String html) {
        for (String load : List.of("://", "src=", "href=", "@import", "url(", "<link", "<script", "<iframe", "<object")) {
            // The one url() is SVG's way to name a clip path of the same page.
            assertEquals(0, count(html.replaceAll("url\\(#[\\w-]+\\)", ""), load), load);
        }
    }

    private static int count(String text, String part) {
        return text.split(Pattern.quote(part), -1).length - 1;
    }
}
