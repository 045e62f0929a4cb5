package org.teamtr.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.teamtr.cli.TrainCommandTest.failed;
import static org.teamtr.cli.TrainCommandTest.ok;

import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import javax.imageio.ImageIO;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.teamtr.config.TinyModel;
import org.teamtr.experiment.Claim;
import org.teamtr.experiment.ExperimentData;
import org.teamtr.experiment.ExperimentFile;
import org.teamtr.report.RunFiles;
import org.teamtr.train.Checkpoints;

/** {@code experiment} as it is typed, with experiments of two agents and a stage or two. */
@Timeout(180)
class ExperimentCommandTest {
    private static final String SMALL = """
            title: A small one
            paper: Table 0
            question: Does it run?
            seeds: 2
            config:
              task: {budget: {agents: 2}}
              warm_start: {steps: 20, batch: 16}
              train: {stages: 2}
              rollout: {prompts: 4, group: 4, validation_fraction: 0.25, max_new_tokens: 3}
              eval: {prompts: 8, transcripts: 1}
              certificate: {prompts: 16}
            columns:
              accuracy: {label: accuracy, of: summary.accuracy_last, scale: 100, unit: "%"}
              episodes: {label: episodes, of: summary.episodes}
            curves:
              returns: {label: return, of: stages.return_mean}
            """;

    @TempDir
    private Path folder;

    @Test
    void schedulesSideBySide() throws Exception {
        final Path file = Files.writeString(folder.resolve("schedules.yaml"), SMALL + """
                axes:
                  delta:
                    0.1: {trust_region: {delta: 0.1}}
                    0.2: {trust_region: {delta: 0.2}}
                  schedule:
                    naive: {variant: naive}
                    TeamTR: {}
                picture: {x: delta, columns: [accuracy, episodes]}
                published:
                  columns: [accuracy]
                  delta0.1-naive: [71.1]
                  delta0.2-naive: [70]
                claims:
                  - {says: Fresh episodes are more., order: episodes, points: [delta0.1-TeamTR, delta0.1-naive]}
                """);
        final Path out = folder.resolve("schedules");
        final String said = ok("experiment", file, "--seeds", 1, "--out", folder);
        assertEquals(out.resolve("schedules.html").toString(), said.strip());
        // 4 prompts of 4 episodes before each of 2 updates in 2 stages, or once in each stage.
        assertTrue(Files.readString(out.resolve(ExperimentData.POINTS)).contains("delta0.1-TeamTR,1,"));
        for (String line : Files.readAllLines(out.resolve(ExperimentData.RUNS)).subList(1, 5)) {
            assertTrue(line.endsWith(line.contains("naive") ? ",32.0" : ",64.0"), line);
        }
        final String page = Files.readString(out.resolve("schedules.html"));
        for (String part : List.of("Fresh episodes are more.", "agrees in shape", "[71.1]", "<svg", "delta0.2-naive-seed1",
                "A small one: reproduced in shape")) {
            assertTrue(page.contains(part), part);
        }
        assertFalse(page.contains("http://") && page.contains("src=\"http"), "it needs nothing but itself");
        assertEquals(2 * 2 * 420, ImageIO.read(out.resolve("schedules.png").toFile()).getWidth());
        final String svg = Files.readString(out.resolve("schedules.svg"));
        assertTrue(svg.contains("width=\"840\"") && svg.contains("height=\"960\""), "ours and the paper's, two columns and a curve");

        // What is there is not made again, what is missing is: as if one run had been killed in its second stage.
        final Path killed = out.resolve("delta0.1-naive-seed1");
        final Path kept = out.resolve("delta0.2-naive-seed1").resolve(RunFiles.SUMMARY);
        final FileTime then = Files.getLastModifiedTime(kept);
        final List<String> before = Files.readAllLines(out.resolve(ExperimentData.POINTS));
        Files.delete(killed.resolve(RunFiles.SUMMARY));
        Checkpoints.remove(killed.resolve("checkpoints/stage-0002"));
        ok("experiment", file, "--seeds", 1, "--out", folder, "--workers", 1);
        assertEquals(then, Files.getLastModifiedTime(kept));
        assertTrue(Files.readString(out.resolve("delta0.1-naive-seed1.log")).contains("going on from"));
        assertEquals(before, Files.readAllLines(out.resolve(ExperimentData.POINTS)), "the same numbers as in one go");

        // Other settings in the same place would be mixed up with these.
        Files.writeString(file, Files.readString(file).replace("stages: 2", "stages: 3"));
        final String refused = failed(1, "experiment", file, "--seeds", 1, "--out", folder);
        assertTrue(refused.contains("holds a run of other settings; remove it, or put these elsewhere with --out"), refused);
    }

    /** One of those that come with the program, with still less to do than its quick settings have it do. */
    private Path smaller(String name) throws IOException {
        try (InputStream in = ExperimentFile.class.getResourceAsStream("experiments/" + name + ".yaml")) {
            final String text = new String(in.readAllBytes(), StandardCharsets.UTF_8);
            final int quick = text.indexOf("\nquick:");
            // With entropy there is something to learn even where all returns are 0.
            final String less = text.substring(quick).replace("rollout: {prompts: 64}", "rollout: {prompts: 16, max_new_tokens: 3}\n"
                    + "    loss: {entropy: 0.01}").replace("warm_start: {steps: 150}", "warm_start: {steps: 10, batch: 8}")
                    .replace("optimiser: {steps: 8}", "optimiser: {steps: 2}").replaceFirst("eval: \\{prompts: [0-9]+}", "eval: {prompts: 16}")
                    .replace("train: {stages: 4}", "train: {stages: 1}")
                    .replace("n: [2, 6]", "schedule: [stale, fresh, fresh-equal], n: [2, 3]")
                    .replaceFirst("(\\nquick:\\n  seeds: 2\\n)(  config)", "$1  axes: {method: [TeamTR, PPO]}\n$2");
            return Files.writeString(folder.resolve(name + ".yaml"), text.substring(0, quick) + less);
        }
    }

    /** Two of those that come with the program, as a reader would try them, but within this process, which is quicker. */
    @Test
    @Timeout(600)
    void quickOnes() throws Exception {
        final Map<String, Path> files = Map.of("stale-gap", smaller("stale-gap"), "out-of-region", smaller("out-of-region"));
        ok("experiment", files.get("stale-gap"), files.get("out-of-region"), "--quick", "--seeds", 1, "--workers", 0, "--out",
                folder);
        for (String name : List.of("stale-gap", "out-of-region")) {
            final ExperimentFile file = ExperimentFile.load(files.get(name).toString(), true);
            final Path out = folder.resolve(name + "-quick");
            final List<String> points = file.settings.stream().map(s -> s.point().name()).toList();
            assertEquals(points, Files.readAllLines(out.resolve(ExperimentData.RUNS)).stream().skip(1)
                    .map(line -> line.substring(0, line.indexOf(','))).toList());
            assertEquals(points, Files.readAllLines(out.resolve(ExperimentData.POINTS)).stream().skip(1)
                    .map(line -> line.substring(0, line.indexOf(','))).toList());
            final ExperimentData.Info info = ExperimentData.info(out);
            assertEquals("./teamtr experiment " + name + " --quick --seeds 1", info.origin().command());
            assertTrue(info.extent().quick() && info.failed().isEmpty() && info.seconds() > 0 && info.runs() == points.size(),
                    info.toString());
            for (String point : points) {
                assertTrue(Files.exists(out.resolve(point + "-seed1").resolve(RunFiles.REPORT)), point);
            }
            final String page = Files.readString(out.resolve(name + ".html"));
            assertTrue(page.contains("Quick settings") && page.contains("<svg"));
            for (Claim claim : file.experiment.claims()) {
                assertTrue(page.contains(claim.says().replace("'", "&#39;")), claim.says());
            }
            assertTrue(ImageIO.read(out.resolve(name + ".png").toFile()).getHeight() > 0);
            assertTrue(Files.readString(out.resolve(name + ".svg")).contains("<svg"));
        }
        // What has to be so, however small the runs: as many episodes where they are to be equal, and as many times as agents where not.
        final Map<String, Long> episodes = new HashMap<>();
        for (String point : List.of("n2-delta0.2-stale", "n2-delta0.2-fresh", "n2-delta0.2-fresh-equal", "n3-delta0.2-stale",
                "n3-delta0.2-fresh")) {
            episodes.put(point, RunFiles.summary(folder.resolve("stale-gap-quick").resolve(point + "-seed1")).spent().episodes());
        }
        assertEquals(episodes.get("n2-delta0.2-stale"), episodes.get("n2-delta0.2-fresh-equal"));
        assertEquals(2 * episodes.get("n2-delta0.2-stale"), episodes.get("n2-delta0.2-fresh"));
        assertEquals(3 * episodes.get("n3-delta0.2-stale"), episodes.get("n3-delta0.2-fresh"));
        assertEquals(0, RunFiles.summary(folder.resolve("out-of-region-quick").resolve("TeamTR-seed1")).monitored().outOfRegionUpdates());
        double share = 0;
        for (String line : Files.readAllLines(folder.resolve("out-of-region-quick").resolve(ExperimentData.STAGES))) {
            share += line.startsWith("PPO,kl,") ? Double.parseDouble(line.split(",")[3]) : 0;
        }
        assertEquals(100, share, 1e-9, "every update is in a bin");
    }

    @Test
    void exactPointsNeedNoModel() throws Exception {
        final Path file = Files.writeString(folder.resolve("exact.yaml"), SMALL.replace(
                "  episodes: {label: episodes, of: summary.episodes}",
                "  kept: {label: kept, of: summary.realised_gain / summary.predicted_gain}") + """
                axes:
                  n:
                    2: {task: {budget: {agents: 2}}}
                    5: {task: {budget: {agents: 5}}}
                  schedule:
                    stale: {variant: naive, exact: true}
                    fresh: {exact: true}
                picture: {x: n, where: [stale], columns: [kept]}
                published: {}
                claims: []
                """);
        ok("experiment", file, "--out", folder);
        final Path out = folder.resolve("exact");
        for (String line : Files.readAllLines(out.resolve(ExperimentData.RUNS)).subList(1, 9)) {
            assertEquals(line.contains("fresh"), Math.abs(Double.parseDouble(line.replaceAll(".*,", "")) - 1) < 1e-12, line);
        }
        final Path run = out.resolve("n5-stale-seed2");
        assertFalse(Files.exists(run.resolve(TinyModel.FOLDER)));
        assertEquals(10, RunFiles.updates(run).size());
        assertTrue(Files.exists(run.resolve(RunFiles.REPORT)));
        final String svg = Files.readString(out.resolve("exact.svg"));
        assertTrue(svg.contains("height=\"320\"") && !svg.contains("fresh,"), "a chart and a curve side by side");

        final String refused = failed(1, "experiment", Files.writeString(folder.resolve("map.yaml"), Files.readString(file)
                .replace("fresh: {exact: true}", "fresh: {exact: true, trust_region: {delta: {planner: 0.1, solver: 0.1}}}")
                .replace("    5: {task: {budget: {agents: 5}}}\n", "")), "--out", folder);
        assertTrue(refused.contains("fresh-seed1: exact: expected the task budget, a turn for each agent and one trust_region.delta"),
                refused);
    }

    @Test
    void aReplacementGoesOnFromAStart() throws Exception {
        final Path file = Files.writeString(folder.resolve("swap.yaml"), SMALL.replace("seeds: 2", "seeds: 1")
                .replace("  episodes: {label: episodes, of: summary.episodes}",
                        "  shock: {label: shock, of: replacements.shock}\n  done: {label: stages, of: summary.stages}")
                + """
                start: {train: {stages: 1}}
                axes:
                  swap:
                    direct: {replace: {agent: solver, with: random, align: none}}
                    nobody: {replace: {agent: nobody, with: random, align: none}}
                picture: {columns: [accuracy]}
                published: {}
                claims: []
                """);
        final String said = failed(1, "experiment", file, "--workers", 0, "--out", folder);
        final Path out = folder.resolve("swap");
        assertTrue(said.contains("nobody-seed1: exit code 2"), said);
        assertTrue(said.contains(out.resolve("nobody-seed1.log").toString()), said);
        assertTrue(Files.readString(out.resolve("nobody-seed1.log")).contains("--agent: expected one of planner, solver"));
        // The other came through: one stage before the swap, one after it.
        final List<String> runs = Files.readAllLines(out.resolve(ExperimentData.RUNS));
        assertEquals(2, runs.size());
        assertTrue(runs.get(1).startsWith("direct,1,2,"), runs.get(1));
        assertEquals(1, RunFiles.replacements(out.resolve("direct-seed1")).size());
        assertEquals(List.of("nobody-seed1"), ExperimentData.info(out).failed());
        assertTrue(Files.readString(out.resolve("swap.html")).contains("Missing, because they failed: nobody-seed1."));
    }

    @Test
    void withoutANameItSaysWhatThereIs() throws Exception {
        final List<String> lines = ok("experiment").lines().toList();
        assertEquals(ExperimentFile.NAMES.size(), lines.size());
        assertTrue(lines.get(1).startsWith("team-size"), lines.get(1));
    }
}
