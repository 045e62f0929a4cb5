package org.teamtr.experiment;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.teamtr.config.ConfigException;
import org.teamtr.train.Config;

/** Experiments as files: those that come with the program, and what is said of wrong ones. */
class ExperimentFileTest {
    private static final String GOOD = """
            title: A title
            paper: Table 5
            question: A question?
            seeds: 3
            config: {train: {stages: 7}}
            axes:
              n:
                2: {task: {budget: {agents: 2}}}
                4: {task: {budget: {agents: 4}}}
              method:
                naive: {variant: naive}
                TeamTR: {trust_region: {delta: 0.3}}
            quick:
              seeds: 1
              axes: {n: [4]}
              config: {train: {stages: 2}}
            columns:
              accuracy: {label: accuracy, of: summary.accuracy_last, scale: 100, unit: "%"}
              ratio: {label: ratio, of: summary.realised_gain / summary.predicted_gain}
            curves: {}
            picture: {x: n, columns: [accuracy]}
            published:
              columns: [accuracy, ratio]
              n2-naive: [70, null]
            claims:
              - {says: It falls., order: accuracy, points: [n4-TeamTR, n4-naive]}
              - {says: It grows., slope: accuracy, over: n, where: [naive], from: 1, to: 2, most: 3}
            """;

    @TempDir
    private Path folder;

    private ExperimentFile load(String text, boolean quick) throws Exception {
        return ExperimentFile.load(Files.writeString(folder.resolve("mine.yaml"), text).toString(), quick);
    }

    private static List<String> names(ExperimentFile file) {
        return file.experiment.points().stream().map(Experiment.Point::name).toList();
    }

    @Test
    void everyCombinationIsAPoint() throws Exception {
        final ExperimentFile file = load(GOOD, false);
        assertEquals("mine", file.experiment.name());
        assertEquals(3, file.seeds);
        assertEquals(List.of("n2-naive", "n2-TeamTR", "n4-naive", "n4-TeamTR"), names(file));
        final Config naive = file.settings.get(2).config(5, 1);
        assertEquals(5, naive.seed());
        assertEquals(1, naive.hardware().threads());
        assertEquals(4, naive.team().agents().size());
        assertEquals(7, naive.train().stages());
        assertEquals(0, naive.rollout().resampleEvery());
        assertEquals(Config.Radius.of(0.1), naive.trustRegion().delta());
        final Config ours = file.settings.get(3).config(5, 1);
        assertEquals(1, ours.rollout().resampleEvery());
        assertEquals(Config.Radius.of(0.3), ours.trustRegion().delta());
        assertEquals(new Claim.Slope("It grows.", "accuracy", "n", List.of("naive"), 1, 2, 1, 3), file.experiment.claims()
                .get(1));
        assertFalse(file.starts());
    }

    /** What all points have becomes less; what a point sets itself, and so is compared, stays. */
    @Test
    void quickGoesOverWhatAllPointsHave() throws Exception {
        final ExperimentFile file =
                load(GOOD.replace("config: {train: {stages: 2}}", "config: {train: {stages: 2}, trust_region: {delta: 0.2}}"), true);
        assertEquals(1, file.seeds);
        assertEquals(List.of("n4-naive", "n4-TeamTR"), names(file));
        final Config naive = file.settings.get(0).config(1, 1);
        assertEquals(2, naive.train().stages());
        assertEquals(Config.Radius.of(0.2), naive.trustRegion().delta());
        assertEquals(Config.Radius.of(0.3), file.settings.get(1).config(1, 1).trustRegion().delta());
    }

    @Test
    void aStartHasItsOwnConfiguration() throws Exception {
        final ExperimentFile file = load(GOOD.replace("axes:\n  n:", "start: {train: {stages: 4}}\naxes:\n  n:")
                .replace("{variant: naive}", "{replace: {agent: solver, with: tiny}}")
                .replace("{trust_region: {delta: 0.3}}", "{replace: {agent: solver, with: random}}"), false);
        assertTrue(file.starts());
        assertEquals(4, file.start(1, 1).train().stages());
        assertEquals("tiny", file.settings.get(0).replace().get("with"));
    }

    /** Each is what replaces what in the good file, and what is then said. */
    @ParameterizedTest
    @CsvSource(delimiter = '|', quoteCharacter = '"', value = {
        "title: A title | titel: A title | titel: unknown key; known here: title, paper, question",
        "title: A title | titel: A title | title: expected text, given nothing",
        "seeds: 3 | seeds: 0 | seeds: expected a whole number of 1 or more, given 0",
        "{variant: naive} | {variant: naiv} | axes.method.naive.variant: expected one of adaptive-penalty, fixed-penalty",
        "{variant: naive} | 3 | axes.method.naive: expected keys of a configuration, given 3",
        "2: {task: {budget: {agents: 2}}} | 2: {variant: joint} | expected one axis with variants, given two",
        "axes: {n: [4]} | axes: {n: [5]} | quick.axes.n[0]: expected one of 2, 4, given 5",
        "axes: {n: [4]} | axes: {m: [4]} | quick.axes.m: unknown key; known here: n, method",
        "of: summary.accuracy_last | of: accuracy_last | columns.accuracy.of: expected FILE.NAME of summary",
        "of: summary.accuracy_last | of: summary.accuracy_last@2 | columns.accuracy.of: expected FILE.NAME of summary",
        "scale: 100 | scale: much | columns.accuracy.scale: expected a number, given \"much\"",
        "ratio: {label | seconds: {label | columns.seconds: expected another name than point, seed, stages, seconds",
        "{variant: naive} | {variant: naive, exact: 1} | axes.method.naive.exact: expected true or false, given 1",
        "x: n, | x: n, where: [naife], | picture.where[0]: expected one of 2, 4, naive, TeamTR, given \"naife\"",
        "curves: {} | curves: {k: {label: k, of: stages.kl, bin: 1}} | curves.k.of: expected metrics.NAME or diagnostics.NAME",
        "x: n | x: method | picture.x: expected an axis of numbers, given method, which has naive",
        "columns: [accuracy]} | columns: [speed]} | picture.columns[0]: expected one of accuracy, ratio, given \"speed\"",
        "n2-naive: [70, null] | n3-naive: [70, null] | published.n3-naive: expected a point, one of n2-naive, n2-TeamTR",
        "n2-naive: [70, null] | n2-naive: [70] | published.n2-naive: expected 2 numbers, one for each of",
        "order: accuracy, | order: speed, | claims[0].order: expected one of accuracy, ratio, given \"speed\"",
        "order: accuracy, | ordre: accuracy, | claims[0]: expected one of order, range, slope, ranks, untestable",
        "over: n, | over: n, form: 2, | claims[1].form: unknown key",
        "config: {train: {stages: 7}} | start: {train: {stages: 7}} | expected a value with replace in every point"})
    void whatIsWrongIsNamed(String good, String bad, String said) {
        assertTrue(GOOD.contains(good), good);
        final String message = assertThrows(ConfigException.class, () -> load(GOOD.replace(good, bad), true)).getMessage();
        assertTrue(message.contains(said), message);
    }

    @Test
    void aWrongKeyOfAConfigurationNamesThePoint() throws Exception {
        final ExperimentFile file = load(GOOD.replace("delta: 0.3", "delat: 0.3"), false);
        assertEquals("n4-TeamTR: trust_region.delat: unknown key; did you mean trust_region.delta?",
                assertThrows(ConfigException.class, () -> file.settings.get(3).config(1, 1)).getMessage());
        assertTrue(assertThrows(ConfigException.class, () -> ExperimentFile.load("stalegap", false)).getMessage()
                .startsWith("stalegap: expected a file that ends in .yaml, or one of stale-gap, team-size"));
    }

    /** Every point of every experiment that comes with the program has a configuration that is right. */
    @Test
    void thoseThatComeWithItAreRight() throws Exception {
        for (String name : ExperimentFile.NAMES) {
            for (boolean quick : new boolean[] {false, true}) {
                final ExperimentFile file = ExperimentFile.load(name, quick);
                assertTrue(quick || file.seeds >= 5, name);
                assertFalse(file.experiment.claims().isEmpty(), name);
                for (ExperimentFile.Setting setting : file.settings) {
                    setting.config(1, 1);
                }
                if (file.starts()) {
                    file.start(1, 1);
                }
            }
        }
    }
}
