package org.teamtr.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;
import static org.teamtr.cli.TrainCommandTest.failed;
import static org.teamtr.cli.TrainCommandTest.ok;
import static org.teamtr.cli.TrainCommandTest.teamtr;

import java.io.FileNotFoundException;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.AccessDeniedException;
import java.nio.file.FileSystemException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.teamtr.kernels.Backend;
import org.teamtr.report.RunFiles;
import org.teamtr.torch.TorchPolicy;

/** What a user who made a mistake is told: early, plainly, and all of it. */
@Timeout(120)
class MessagesTest {
    /** A model in files: that of a run of no stages. */
    @TempDir
    private static Path shared;
    private static Path run;
    private static Path model;

    @TempDir
    private Path folder;

    @BeforeAll
    static void model() throws IOException {
        final Path config = Files.writeString(shared.resolve("m.yaml"), """
                task: {budget: {agents: 2}}
                warm_start: {steps: 1, batch: 4}
                train: {stages: 0}
                rollout: {prompts: 4, group: 2, max_new_tokens: 3}
                eval: {prompts: 4, transcripts: 1}
                certificate: {prompts: 16}
                hardware: {threads: 1}
                """);
        run = shared.resolve("run");
        ok("train", config, "--set", "train.stages=1", "--out", run);
        model = run.resolve("warm-start");
    }

    private Path config(String more) throws IOException {
        return Files.writeString(folder.resolve("c.yaml"), """
                task: {name: files, files: {train: %s, verifier: number}}
                team: {agents: [{role: solver, policy: solver, template: "{prompt}"}]}
                policies: {solver: {model: %s}}
                train: {stages: 1}
                rollout: {prompts: 2, group: 2, validation_fraction: 0, max_new_tokens: 3}
                eval: {prompts: 2, transcripts: 1}
                certificate: {prompts: 16}
                hardware: {threads: 1}
                """.formatted(folder.resolve("p.jsonl"), model) + more);
    }

    private void prompts(String... questions) throws IOException {
        final StringBuilder rows = new StringBuilder();
        for (String q : questions) {
            rows.append("{\"question\": \"").append(q).append("\", \"answer\": \"2\"}\n");
        }
        Files.writeString(folder.resolve("p.jsonl"), rows);
    }

    // ---- the machine ----

    /** Said before anything is loaded, not by libtorch in the middle of it. */
    @Test
    void aGpuThatIsNotThere() throws IOException {
        final String why = Backend.current().whyNoCuda();
        assumeTrue(why != null, "there is a GPU");
        prompts("1+1=", "2+2=");
        final Path c = config("");
        final String said = "hardware.device: expected cpu, given cuda: " + why + System.lineSeparator();
        assertTrue(failed(2, "check-config", c, "--set", "hardware.device=cuda").endsWith(System.lineSeparator() + said));
        assertEquals("teamtr: " + said, failed(2, "train", c, "--set", "hardware.device=cuda", "--out", folder.resolve("run")));
        assertEquals("teamtr: " + said, failed(1, "eval", run, "--set", "hardware.device=cuda"));
        assertTrue(failed(2, "check-config", c, "--set", "policies.solver.device=cuda:7").endsWith(System.lineSeparator()
                + "policies.solver.device: expected cpu, given cuda:7: " + why + System.lineSeparator()));
        // For a machine that has one, the memory is computed all the same.
        final Said elsewhere = teamtr("check-config", c, "--set", "hardware.device=cuda", "--set", "hardware.memory.device=24");
        assertEquals(0, elsewhere.code(), elsewhere.err());
        assertTrue(elsewhere.err().contains("note: on this machine, " + said), elsewhere.err());
        assertTrue(elsewhere.out().matches("(?s).*# there is +24.00 +[0-9.]+\\R"), elsewhere.out());
        assertEquals("settings.device: expected cpu, given cuda:1: " + why, assertThrows(IllegalArgumentException.class,
                () -> TorchPolicy.load(model, TorchPolicy.Settings.on("cuda:1", 1)).close()).getMessage());
    }

    // ---- prompts ----

    /** The first turn's length is known before the first stage, and so is whether a character has a token. */
    @Test
    void allPromptsAreAskedForBeforeTheFirstStage() throws IOException {
        final String fine = "1+1=";
        final String tooLong = "1".repeat(300);
        prompts(fine, tooLong, fine, "1\u4e16", fine, tooLong, fine, fine);
        final Path config = config("");
        final Path out = folder.resolve("out");
        for (String said : List.of(failed(1, "train", config, "--out", out), failed(2, "check-config", config))) {
            final List<String> lines = said.lines().dropWhile(l -> !l.contains("cannot be asked:")).toList(); // behind the memory
            assertTrue(lines.get(0).endsWith("3 of 7 prompts to train on cannot be asked:"), said);
            assertTrue(lines.get(1).matches("  p.jsonl:2: expected 1 to [0-9]+ tokens \\(the context of solver, [0-9]+, less"
                    + " rollout.max_new_tokens = 3\\), given 300"), said);
            assertTrue(lines.get(2).startsWith("  p.jsonl:4: ") && lines.get(2).contains("U+4E16"), said);
            assertTrue(lines.get(3).startsWith("  p.jsonl:6: ") && lines.get(3).endsWith("; shorten them or leave them out, or set"
                    + " rollout.max_new_tokens lower or rollout.truncation to left, right or middle"), said);
        }
        assertEquals(0, Files.size(out.resolve(RunFiles.STAGES)));
        prompts(fine, fine, fine, fine, fine, tooLong); // the last is held out
        assertTrue(failed(1, "train", config, "--out", out.resolveSibling("b")).contains("p.jsonl:6: expected 1 to "));
        assertTrue(failed(1, "eval", config).contains("p.jsonl:6: expected 1 to "));
        assertTrue(failed(1, "eval", config, "--data", folder.resolve("p.jsonl")).contains("p.jsonl:6: expected 1 to "));
        // Not that every prompt is too long.
        final String room = failed(2, "check-config", config, "--set", "rollout.max_new_tokens=1000");
        assertTrue(room.matches("(?s).*rollout.max_new_tokens: expected less than [0-9]+, the context of solver, given 1000\\R.*"), room);
        // Where it is configured they are cut, and it is said how many.
        final Said cut = teamtr("check-config", config, "--set", "rollout.truncation=left");
        final List<String> notes = cut.err().lines().toList();
        assertEquals(2, notes.size(), cut.err());
        assertTrue(notes.get(0).startsWith("note: policies.solver: ") && notes.get(0).endsWith("there is no chat template; the turns of"
                + " a prompt are joined by line breaks, with no special tokens"), notes.get(0));
        assertEquals("note: 1 of 1 held-out prompts are longer than the context leaves room for and are cut (rollout.truncation = left),"
                + " p.jsonl:6 first", notes.get(1));
        assertEquals(0, cut.code());
        prompts(fine, fine, fine);
        assertEquals(0, teamtr("check-config", config).code());
    }

    @Test
    void answersThatAreNoneAreCounted() throws IOException {
        Files.writeString(folder.resolve("p.jsonl"), """
                {"question": "1=", "answer": "1"}
                {"question": "2=", "answer": "two"}
                {"question": "3=", "answer": ""}
                """);
        final String said = failed(1, "train", config(""), "--out", folder.resolve("out"));
        assertTrue(said.contains("teamtr: 2 of 3 prompts of " + folder.resolve("p.jsonl") + " have no answer that task.files.verifier ="
                + " number can compare with:" + System.lineSeparator() + "  p.jsonl:2: "), said);
        assertTrue(said.contains("  p.jsonl:3: "), said);
    }

    /** Data, sizes, weights, tokenizer: what is wrong with each of them, in one go. */
    @Test
    void checkConfigSaysAllThatIsWrongWithTheFiles() throws IOException {
        final Path broken = folder.resolve("broken");
        TrainCommandTest.copy(model, broken);
        Files.writeString(broken.resolve("model.safetensors"), "not a model");
        Files.writeString(broken.resolve("tokenizer.json"), "{");
        final String said = failed(2, "check-config", config(""), "--set", "policies.solver.model=" + broken);
        for (String part : List.of("p.jsonl: no such file of prompts", "policies.solver: " + broken.resolve("model.safetensors") + ": ",
                "policies.solver: " + broken.resolve("tokenizer.json") + ": ")) {
            assertTrue(said.contains(part), said);
        }
        assertEquals(3, said.lines().count(), said);
        assertFalse(said.contains("Source"), said);
        prompts("1+1=", "2+2=");
        final Path other = folder.resolve("other");
        TrainCommandTest.copy(model, other);
        Files.writeString(other.resolve("config.json"), Files.readString(other.resolve("config.json"))
                .replaceAll("\"intermediate_size\"\\s*:\\s*[0-9]+", "\"intermediate_size\": 8"));
        assertTrue(failed(2, "check-config", config(""), "--set", "policies.solver.model=" + other).contains("expected shape [8, 64], given"));
    }

    // ---- files and folders ----

    @Test
    void aFileInAFoldersPlaceIsNamed() throws IOException {
        final Path file = Files.writeString(folder.resolve("taken"), "");
        final String end = ", which is a file" + System.lineSeparator();
        assertEquals("teamtr: --out: expected a folder, given " + file + end, failed(1, "train", "--out", file));
        assertEquals("teamtr: --out: expected a folder, given " + file.resolve("run") + ", and " + file + " is a file"
                + System.lineSeparator(), failed(1, "train", "--out", file.resolve("run")));
        assertEquals("teamtr: --out: expected a folder, given " + file + end, failed(1, "replace", run, "--agent", "solver", "--with",
                "random", "--out", file));
        assertEquals("teamtr: --out: expected a folder, given " + file.resolve("team-size-quick") + ", and " + file + " is a file"
                + System.lineSeparator(), failed(1, "experiment", "team-size", "--quick", "--out", file));
    }

    @Test
    void aFolderInAFilesPlaceIsNamed() throws IOException {
        prompts("1+1=", "2+2=");
        final Path c = config("");
        final Path place = Files.createDirectory(folder.resolve("place"));
        final String said = place + ": expected a file, given a folder" + System.lineSeparator();
        assertTrue(failed(2, "check-config", c, "--set", "task.files.train=" + place).endsWith(said));
        assertTrue(failed(1, "eval", c, "--data", place).endsWith(said));
        assertEquals(said, failed(2, "check-config", place));
    }

    /** Without class names, and with a remedy where there is one. */
    @Test
    void whatTheSystemRefusesIsSaidInWords() {
        assertEquals("a: there is no such file or folder", UserErrors.line(new NoSuchFileException("a")));
        assertEquals("a: permission denied", UserErrors.line(new AccessDeniedException("a")));
        assertEquals("a: Read-only file system; use a folder that can be written to",
                UserErrors.line(new FileSystemException("a", null, "Read-only file system")));
        assertEquals("No space left on device; make room there, or use another folder",
                UserErrors.line(new UncheckedIOException("", new IOException("No space left on device"))));
        assertEquals("a (No such file or directory)", UserErrors.line(new FileNotFoundException("a (No such file or directory)")));
        assertEquals("./teamtr train --resume 'runs/it'\\''s here'", CommandLines.resume(Path.of("runs/it's here")));
        assertEquals("./teamtr train --resume runs/größe-1", CommandLines.resume(Path.of("runs/größe-1")));
    }

    /** Agent, stage, remedy, and how to go on. */
    @Test
    void aGradientThatIsNoNumberSaysWhose() throws IOException {
        final String said =
                failed(1, "train", run.resolveSibling("m.yaml"), "--set", "train.stages=3", "--set", "optimiser={learning_rate: 1e30, steps: 5}",
                        "--set", "trust_region={rollback: false, early_stop: false}", "--set", "loss.entropy=0.01", "--out", folder.resolve("out"));
        assertTrue(said.contains("teamtr: stage 1, agent planner, step 2: gradient: expected a finite norm, given NaN; the step was not"
                + " taken. Try a smaller optimiser.learning_rate"), said);
        assertTrue(said.contains("; " + CommandLines.resume(folder.resolve("out")) + " goes on from the start"), said);
    }

    // ---- numbers ----

    /** Numbers have a point and Western digits whatever the locale is, and no error where there is none. */
    @Test
    void numbersAreWrittenAlikeEverywhere() throws IOException {
        final Locale before = Locale.getDefault();
        try {
            for (String tag : List.of("de-DE", "ar-EG-u-nu-arab", "tr-TR")) {
                Locale.setDefault(Locale.forLanguageTag(tag));
                final String said = ok("eval", run, "--k", 2, "--set", "eval.prompts=1");
                assertTrue(said.matches("(?s).*1 prompt x 2\\R" + "return  -?[0-9]\\.[0-9]{4}\\R" + "avg@2   [0-9.]+ %\\R.*"), said);
                assertTrue(ok("eval", run, "--k", 2).matches("(?s).*return  -?[0-9]\\.[0-9]{4} \\+- [0-9]\\.[0-9]{4}\\R.*"));
                assertFalse(teamtr("doctor").out().matches("(?s).*(\\p{IsArabic}|[0-9],[0-9]e).*"));
            }
        } finally {
            Locale.setDefault(before);
        }
    }
}
