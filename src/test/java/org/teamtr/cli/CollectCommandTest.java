package org.teamtr.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.teamtr.cli.TrainCommandTest.failed;
import static org.teamtr.cli.TrainCommandTest.ok;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.teamtr.config.ConfigException;
import org.teamtr.config.ConfigFile;
import org.teamtr.config.Setup;
import org.teamtr.report.RunFiles;
import org.teamtr.team.Episode;
import org.teamtr.team.Message;
import org.teamtr.team.Utterance;
import org.teamtr.train.Conversations;
import org.teamtr.train.Learner;
import org.teamtr.train.RunLog;
import org.teamtr.train.Trainer;

/** {@code collect}, and {@code train --from}: a stage whose conversations were written down before. */
@Timeout(240)
class CollectCommandTest {
    private static final String TEAM = """
            seed: 3
            task: {budget: {agents: 2}}
            warm_start: {steps: 20, batch: 16}
            train: {stages: 2}
            rollout: {prompts: 4, group: 4, validation_fraction: 0.25, max_new_tokens: 3}
            eval: {prompts: 8, transcripts: 2}
            hardware: {threads: 1}
            """;

    @TempDir
    private static Path folder;
    private static Path config;
    private static Path start; // a run of no stages: its warm start is shared

    @BeforeAll
    static void begin() throws IOException {
        config = Files.writeString(folder.resolve("team.yaml"), TEAM);
        start = folder.resolve("start");
        ok("train", config, "--out", start, "--set", "train.stages=0");
    }

    /** A run that begins from the shared warm start. */
    private static Path run(String name) throws IOException {
        final Path run = Files.createDirectories(folder.resolve(name).resolve("warm-start")).getParent();
        try (Stream<Path> files = Files.list(start.resolve("warm-start"))) {
            for (Path file : files.toList()) {
                Files.copy(file, run.resolve("warm-start").resolve(file.getFileName()));
            }
        }
        Files.copy(start.resolve(RunFiles.CONFIG), run.resolve(RunFiles.CONFIG));
        return run;
    }

    private static JsonNode learners(Path run, int stage) throws IOException {
        return new ObjectMapper().readTree(run.resolve("checkpoints/stage-000" + stage + "/state.json").toFile()).get("learners");
    }

    /** A stage that plays once, at its start, is the stage that reads what was played there, to the bit. */
    @Test
    void aStageFromFilesIsTheStageThatPlays() throws IOException {
        final Path online = run("online");
        final Path offline = run("offline");
        final Path files = folder.resolve("files");
        ok("train", "--resume", online, "--set", "train.stages=2", "--set", "rollout.resample_every=0");
        for (int stage = 1; stage <= 2; stage++) {
            final String said = ok("collect", offline, "--out", files);
            assertTrue(said.contains("stage " + stage + ": 16 episodes of 4 prompts"), said);
            ok("train", "--resume", offline, "--from", files);
            assertEquals(learners(online, stage), learners(offline, stage), "checksums of the parameters behind stage " + stage);
        }
        final List<RunLog.Update> a = RunFiles.updates(online);
        final List<RunLog.Update> b = RunFiles.updates(offline);
        assertEquals(4, b.size());
        for (int i = 0; i < 4; i++) {
            assertEquals(a.get(i).kl(), b.get(i).kl());
            assertEquals(a.get(i).predictedGain(), b.get(i).predictedGain());
            assertEquals(i % 2 == 0, b.get(i).fresh(), "the second update of a stage has another team than the episodes");
        }
        assertFalse(learners(online, 1).equals(learners(online, 2)), "something was learnt");
    }

    @Test
    void conversationsComeBackTokenForToken() throws IOException, ConfigException {
        final Path run = run("tokens");
        final Path files = Files.createDirectories(folder.resolve("token-files"));
        try (Setup setup = new Setup(Setup.resolved(ConfigFile.load(run.resolve(RunFiles.CONFIG), List.of())), run, note -> {})) {
            final Trainer trainer = setup.trainer();
            final List<Episode> played = trainer.collect(1);
            Conversations.write(played, setup.learners, setup.config, 1, files);
            for (Learner learner : setup.learners) {
                final Conversations.Recorded read = Conversations.read(files, learner, setup.learners, setup.config);
                assertTrue(read.fresh());
                assertEquals(played.size(), read.episodes().size());
                int messages = 0;
                for (int e = 0; e < played.size(); e++) {
                    assertEquals(played.get(e).prompt().id(), read.episodes().get(e).prompt().id());
                    assertEquals(played.get(e).reward(), read.episodes().get(e).reward());
                    final List<Message> own = new ArrayList<>(played.get(e).messages());
                    own.removeIf(m -> !setup.team.agents().get(m.agent()).role().equals(learner.name()));
                    for (int m = 0; m < own.size(); m++) {
                        final Utterance before = own.get(m).utterance();
                        final Utterance after = read.episodes().get(e).messages().get(m).utterance();
                        assertArrayEquals(before.prompt(), after.prompt());
                        assertArrayEquals(before.tokens(), after.tokens());
                        assertArrayEquals(before.logProbs(), after.logProbs());
                        assertEquals(before.text(), after.text());
                        assertEquals(before.ended(), after.ended());
                        assertEquals(own.get(m).turn(), read.episodes().get(e).messages().get(m).turn());
                        messages++;
                    }
                    assertEquals(own.size(), read.episodes().get(e).messages().size());
                }
                assertEquals(16, messages);
            }
        }
    }

    /** Who has no file is left alone. */
    @Test
    void oneAgentAtATime() throws IOException {
        final Path run = run("one");
        final Path files = folder.resolve("one-files");
        ok("collect", run, "--out", files);
        Files.delete(files.resolve("solver.jsonl"));
        ok("train", "--resume", run, "--from", files);
        assertEquals(List.of("planner"), RunFiles.updates(run).stream().map(RunLog.Update::agent).toList());
        // The planner has been trained since; what it said before is not what it would say.
        final String refused = failed(1, "train", "--resume", run, "--from", files);
        assertTrue(refused.contains("planner.jsonl: expected messages of the current parameters of planner") && refused.contains("./teamtr collect"),
                refused);
    }

    private static String names(String line) throws IOException {
        final List<String> names = new ArrayList<>();
        new ObjectMapper().readTree(line).fieldNames().forEachRemaining(names::add);
        return String.join(" ", names);
    }

    @Test
    void whatDoesNotFitIsRefused() throws IOException {
        final Path run = run("refused");
        final Path files = folder.resolve("refused-files");
        ok("collect", run, "--out", files);
        assertTrue(failed(1, "train", "--resume", run, "--from", files, "--set", "rollout.temperature=0.5")
                .contains("rollout.temperature: expected 1.0, at which they were sampled, given 0.5"));
        assertTrue(failed(1, "train", "--resume", run, "--from", files, "--set", "rollout.group=2")
                .contains("rollout.group: expected 4, as many episodes"));
        assertTrue(failed(1, "train", "--resume", run, "--from", files, "--set", "rollout.prompts=8")
                .contains("rollout.prompts: expected 4, as in the file of "));
        assertTrue(failed(1, "train", "--resume", run, "--from", Files.createDirectories(folder.resolve("nothing")))
                .contains("expected conversations of one or more of [planner, solver], found none"));
        final Path file = files.resolve("planner.jsonl");
        final List<String> lines = Files.readAllLines(file);
        assertEquals("format learner policy others stage temperature group prompts returns correct", names(lines.get(0)));
        assertEquals("episode turn agent role prompt tokens logProbs text ended", names(lines.get(1)));
        final List<String> broken = new ArrayList<>(lines);
        broken.set(2, lines.get(2).substring(0, lines.get(2).length() / 2));
        Files.delete(files.resolve("solver.jsonl"));
        Files.write(file, broken);
        final String cut = failed(1, "train", "--resume", run, "--from", files);
        assertTrue(cut.contains("planner.jsonl:3: expected a line of a file of conversations: "), cut);
        broken.set(2, lines.get(2).replaceFirst("\"episode\":[0-9]+", "\"episode\":99"));
        Files.write(file, broken);
        assertTrue(failed(1, "train", "--resume", run, "--from", files)
                .contains("planner.jsonl:3: expected a message of planner in one of 16 episodes"));
        Files.write(file, lines.subList(1, lines.size()));
        assertTrue(failed(1, "train", "--resume", run, "--from", files).contains("planner.jsonl:1: expected a line of a file of conversations"));
    }
}
