package org.teamtr.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.teamtr.cli.TrainCommandTest.assertSameRun;
import static org.teamtr.cli.TrainCommandTest.copy;
import static org.teamtr.cli.TrainCommandTest.failed;
import static org.teamtr.cli.TrainCommandTest.lines;
import static org.teamtr.cli.TrainCommandTest.names;
import static org.teamtr.cli.TrainCommandTest.ok;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.teamtr.chat.Tokenizer;
import org.teamtr.config.ConfigFile;
import org.teamtr.config.Setup;
import org.teamtr.model.ModelConfig;
import org.teamtr.report.RunFiles;
import org.teamtr.task.Budget;
import org.teamtr.torch.TorchPolicy;
import org.teamtr.train.Config;
import org.teamtr.train.RunLog;

/** {@code replace} as it is typed, on a run of two small agents and one stage. */
@Timeout(120)
class ReplaceCommandTest {
    private static final String SMALL = """
            task: {budget: {agents: 2}}
            warm_start: {steps: 60, batch: 32}
            train: {stages: 1}
            rollout: {prompts: 8, group: 4, validation_fraction: 0.25, max_new_tokens: 3}
            trust_region: {delta: 0.05, beta: 0.3}
            eval: {prompts: 64, group: 2, transcripts: 1}
            certificate: {prompts: 16}
            hardware: {threads: 1}
            """;

    @TempDir
    private static Path shared;
    private static Path run;
    /** Models with random weights that are narrower and deeper: with the run's tokenizer, and with one of other ids. */
    private static Path narrow;
    private static Path foreign;

    @TempDir
    private Path folder;

    @BeforeAll
    static void train() throws Exception {
        run = shared.resolve("run");
        ok("train", Files.writeString(shared.resolve("small.yaml"), SMALL), "--out", run);
        narrow = model("narrow", run.resolve("warm-start"), 40);
        final Path tokens = Files.createDirectories(shared.resolve("tokens"));
        Tokenizer.writeCharacters(tokens, "=+9876543210", List.of("<end>", "<pad>"), "<pad>", "<end>");
        foreign = model("foreign", tokens, 40);
    }

    private static Path model(String name, Path tokenizer, int positions) throws Exception {
        final Path model = Files.createDirectories(shared.resolve(name));
        final Config config = Setup.resolved(ConfigFile.read(run.resolve(RunFiles.CONFIG)));
        final Tokenizer tokens = Tokenizer.open(tokenizer);
        try (TorchPolicy policy = TorchPolicy.random(ModelConfig.qwen3(tokens.vocab(), 24, 48, 3, 2, 1, 12, positions), tokens,
                Setup.settings(config, config.policies().get("solver")), 11)) {
            policy.save(model);
        }
        return model;
    }

    private static RunLog.Replacement log(Path replaced) throws IOException {
        final List<RunLog.Replacement> all = RunFiles.replacements(replaced);
        return all.get(all.size() - 1);
    }

    private static void assertSameFiles(Path expected, Path given) throws IOException {
        assertEquals(names(expected), names(given));
        for (String name : names(expected)) {
            assertArrayEquals(Files.readAllBytes(expected.resolve(name)), Files.readAllBytes(given.resolve(name)), name);
        }
    }

    private static JsonNode saved(Path of, String learner) throws IOException {
        return new ObjectMapper().readTree(of.resolve("checkpoints/stage-0001/state.json").toFile())
                .path("learners").path(learner);
    }

    // ---- what comes of it ----

    @Test
    void aModelOfAnotherShapeIsAligned() throws Exception {
        final Path out = folder.resolve("out");
        final byte[] metrics = Files.readAllBytes(run.resolve(RunFiles.METRICS));
        final String said = ok("replace", run, "--agent", "solver", "--with", narrow, "--out", out, "--learning-rate", 5e-3);
        final RunLog.Replacement r = log(out);
        assertEquals("delta0", r.aligned().stoppedBy(), r.toString());
        assertEquals("exact", r.probing().measure());
        assertEquals(0.05, r.probing().delta0(), "the agent's own radius");
        assertTrue(r.aligned().klSwapped() > 0.5 && r.aligned().kl() <= 0.05 && r.aligned().kl() > 0.01, r.toString());
        assertTrue(r.aligned().steps() > 0 && r.aligned().steps() < 1000, r.toString());
        assertEquals(400, r.probing().probes());
        assertEquals(100, r.probing().probesHeldBack());
        assertEquals(1, r.stage());
        assertEquals("solver", r.agent());
        assertEquals("tiny", r.models().incumbent());
        assertEquals(narrow.toString(), r.models().replacement());
        assertEquals(128, r.moments().heldOutEpisodes());
        final RunLog.Stage last = RunFiles.stages(run).get(1);
        assertEquals(last.heldOut().accuracy(), r.moments().before().accuracy(), 1e-12, "the same held-out episodes as the stages'");
        assertEquals(last.heldOut().returnMean(), r.moments().before().returnMean(), 1e-12);
        assertEquals(r.moments().before().accuracy() - r.moments().after().accuracy(), r.moments().shock(), 1e-12);
        assertEquals(r.moments().before().accuracy() - r.moments().swapped().accuracy(), r.moments().shockSwapped(), 1e-12);
        assertTrue(r.moments().swapped().returnMean() < r.moments().before().returnMean() - 0.05, "random weights do worse: " + r);
        assertTrue(r.moments().after().returnMean() > r.moments().swapped().returnMean() + 0.05, "aligned ones less so: " + r);
        assertTrue(said.contains(String.format(Locale.ROOT, "before:           return %.3f", r.moments().before().returnMean())), said);
        assertTrue(said.contains(String.format(Locale.ROOT, "aligned:          return %.3f", r.moments().after().returnMean())), said);
        assertTrue(said.contains("./teamtr train --resume " + out), said);
        // The others are the same to the bit; the new one has nothing of an optimiser, and β and δ as configured.
        assertSameFiles(run.resolve("checkpoints/stage-0001/planner"), out.resolve("checkpoints/stage-0001/planner"));
        assertEquals(saved(run, "planner"), saved(out, "planner"));
        assertNotEquals(0.3, saved(run, "solver").path("beta").asDouble(), "what is reset has moved");
        assertEquals(0.3, saved(out, "solver").path("beta").asDouble());
        assertEquals(0.05, saved(out, "solver").path("delta").asDouble());
        final String header = Files.readString(out.resolve("checkpoints/stage-0001/solver/training.safetensors"),
                StandardCharsets.ISO_8859_1);
        assertTrue(header.contains("\"steps\":\"0\"") && header.contains("\"version\":\"0\""), "a new optimiser");
        assertArrayEquals(metrics, Files.readAllBytes(run.resolve(RunFiles.METRICS)), "the old run is as it was");
        assertArrayEquals(metrics, Files.readAllBytes(out.resolve(RunFiles.METRICS)));
        assertTrue(Files.readString(out.resolve(RunFiles.REPORT)).contains("<h2>Replaced agents</h2>"));
        assertFalse(Files.readString(run.resolve(RunFiles.REPORT)).contains("<h2>Replaced agents</h2>"));
    }

    /** Twice the same, and a run that goes on from it is the run that was interrupted once more. */
    @Test
    void trainingGoesOnToTheSameBits() throws Exception {
        final Path a = folder.resolve("a");
        final Path b = folder.resolve("b");
        for (Path out : List.of(a, b)) {
            ok("replace", run, "--agent", 2, "--with", narrow, "--out", out, "--steps", 30, "--probes", 100, "--learning-rate",
                    5e-3);
        }
        assertSameFiles(a.resolve("checkpoints/stage-0001/solver"), b.resolve("checkpoints/stage-0001/solver"));
        assertEquals("steps", log(a).aligned().stoppedBy(), "30 are too few, and it says so");
        ok("train", "--resume", a, "--set", "train.stages=3");
        ok("train", "--resume", b, "--set", "train.stages=2");
        ok("train", "--resume", b, "--set", "train.stages=3");
        assertSameRun(a, b, "");
        assertEquals(lines(run, RunFiles.METRICS), lines(a, RunFiles.METRICS).subList(0, 2));
        final List<RunLog.Stage> stages = RunFiles.stages(a);
        assertEquals(stages.get(2).heldOut().returnMean() - log(a).moments().after().returnMean(), stages.get(2).gain().realisedGain(), 1e-12,
                "the next gain counts from the team with its new member");
        assertEquals(List.of(3L, 0L), List.of((long) RunFiles.summary(a).run().stages(), RunFiles.updates(a).stream()
                .filter(u -> u.stage() == 2 && u.step() == 1).findFirst().orElseThrow().policyVersions().get("solver")));
        assertTrue(Files.readString(a.resolve(RunFiles.REPORT)).contains("<h2>Replaced agents</h2>"));
        ok("eval", a);
        // And once more, of a team that has a new member already.
        final Path c = folder.resolve("c");
        ok("replace", a, "--agent", "planner", "--with", "tiny", "--align", "none", "--probes", 20, "--out", c);
        assertEquals(List.of("solver", "planner"), RunFiles.replacements(c).stream().map(RunLog.Replacement::agent).toList());
    }

    /** The incumbent in its own place is no change at all: KL and shock are exactly 0. */
    @Test
    void theIncumbentItselfChangesNothing() throws Exception {
        final Path own = run.resolve("checkpoints/stage-0001/solver");
        final Path out = folder.resolve("out");
        ok("replace", run, "--agent", "solver", "--with", own, "--align", "none", "--probes", 50, "--out", out);
        final RunLog.Replacement r = log(out);
        assertEquals(List.of(0.0, 0.0, 0.0, 0.0), List.of(r.aligned().klSwapped(), r.aligned().kl(), r.moments().shock(),
                r.moments().shockSwapped()));
        assertEquals(r.moments().before(), r.moments().after());
        assertEquals("none", r.aligned().stoppedBy());
        assertArrayEquals(Files.readAllBytes(own.resolve("model.safetensors")),
                Files.readAllBytes(out.resolve("checkpoints/stage-0001/solver/model.safetensors")));
        // The old run will throw its checkpoint away: the new one has a copy.
        assertEquals(out.resolve("models/solver").toString(), ConfigFile.read(out.resolve(RunFiles.CONFIG))
                .policies().get("solver").model());
        assertFalse(names(out.resolve("models/solver")).contains("training.safetensors"));
        ok("eval", out);
    }

    @Test
    void scratchHasTheShapeAndNothingElse() throws Exception {
        final Path out = folder.resolve("out");
        ok("replace", run, "--agent", "solver", "--with", narrow, "--align", "scratch", "--probes", 50, "--out", out);
        final RunLog.Replacement r = log(out);
        assertEquals(0, r.aligned().steps());
        assertEquals(r.moments().swapped(), r.moments().after());
        assertTrue(r.aligned().klSwapped() > 0.5, r.toString());
        final byte[] weights = Files.readAllBytes(out.resolve("checkpoints/stage-0001/solver/model.safetensors"));
        final byte[] given = Files.readAllBytes(narrow.resolve("model.safetensors"));
        assertEquals(given.length, weights.length);
        assertFalse(java.util.Arrays.equals(given, weights));
        assertTrue(ConfigFile.read(out.resolve(RunFiles.CONFIG)).policies().get("solver").random());
        ok("train", "--resume", out, "--set", "train.stages=2");
        // The same by its other name: the incumbent's own shape.
        final Path random = folder.resolve("random");
        ok("replace", run, "--agent", "solver", "--with", "random", "--align", "none", "--probes", 50, "--out", random);
        final Config.Model model = ConfigFile.read(random.resolve(RunFiles.CONFIG)).policies().get("solver");
        assertEquals("tiny", model.model());
        assertTrue(model.random());
    }

    /** Other ids for the same characters: per-token KL is not defined, and the likelihood of the texts has to do. */
    @Test
    void aModelOfOtherTokensIsAlignedByText() throws Exception {
        final Path out = folder.resolve("out");
        ok("replace", run, "--agent", "solver", "--with", foreign, "--out", out, "--learning-rate", 5e-3, "--delta0", 0.1);
        final RunLog.Replacement r = log(out);
        assertEquals("text", r.probing().measure());
        assertEquals("delta0", r.aligned().stoppedBy(), r.toString());
        assertTrue(r.aligned().klSwapped() > 0.5 && r.aligned().kl() <= 0.1, r.toString());
        assertTrue(r.moments().after().returnMean() > r.moments().swapped().returnMean() + 0.05, r.toString());
        ok("train", "--resume", out, "--set", "train.stages=2");
    }

    /** Adapters learn over the new model's weights, which stay in their folder; an adapter alone is no model. */
    @Test
    void adaptersAreAligned() throws Exception {
        final Path lora = folder.resolve("lora");
        ok("train", shared.resolve("small.yaml"), "--out", lora, "--set", "policies.solver={model: tiny, lora: {rank: 4}}");
        final Path out = folder.resolve("out");
        final Path planner = run.resolve("checkpoints/stage-0001/planner");
        ok("replace", lora, "--agent", "solver", "--with", planner, "--out", out, "--delta0", 1e-7, "--steps", 100);
        final RunLog.Replacement r = log(out);
        assertTrue(r.aligned().kl() < 0.5 * r.aligned().klSwapped(), r.toString());
        assertEquals(Set.of("adapter_config.json", "adapter_model.safetensors", "training.safetensors"),
                names(out.resolve("checkpoints/stage-0001/solver")));
        assertArrayEquals(Files.readAllBytes(planner.resolve("model.safetensors")),
                Files.readAllBytes(out.resolve("models/solver/model.safetensors")));
        ok("train", "--resume", out, "--set", "train.stages=2");
        final Path adapters = lora.resolve("checkpoints/stage-0001/solver");
        assertTrue(failed(1, "replace", lora, "--agent", "planner", "--with", adapters).contains("given " + adapters
                + ", which has adapters without their model"));
    }

    // ---- protocol ----

    /** What a switch leaves to the new model is what its chat template makes of it. */
    @ParameterizedTest
    @CsvSource(delimiter = '|', nullValues = "-", value = {"none | - | - | true", "system | - | - | true",
        "thinking | - | - | false",
        "system,thinking | - | - | false", "system | 7 | 7 | true"})
    void protocolSwitches(String unify, String system, String expected, boolean thinking) throws Exception {
        final Path templated = Files.createDirectories(folder.resolve("templated"));
        try (Stream<Path> files = Files.list(narrow)) {
            for (Path file : files.toList()) {
                Files.copy(file, templated.resolve(file.getFileName()));
            }
        }
        Files.writeString(templated.resolve("chat_template.jinja"), "{% if messages[0].role != 'system' %}={% endif %}"
                + "{% if enable_thinking %}+{% endif %}{% for m in messages %}{{ m.content }}{% endfor %}");
        final Path out = folder.resolve("out");
        final List<Object> command = new ArrayList<>(List.of("replace", run, "--agent", "solver", "--with", templated, "--align",
                "none",
                "--probes", 20, "--out", out, "--unify", unify));
        command.addAll(system == null ? List.of() : List.of("--system", system));
        ok(command.toArray());
        final Config config = ConfigFile.read(out.resolve(RunFiles.CONFIG));
        assertEquals(expected, config.team().agents().get(1).system());
        assertEquals(thinking, config.policies().get("solver").thinking());
        assertNull(config.team().agents().get(0).system());
        assertFalse(config.policies().get("planner").thinking());
        assertEquals(unify.equals("none") ? List.of() : List.of(unify.split(",")), log(out).models().unify());
        assertEquals(system, log(out).models().system());
    }

    @Test
    void aSystemTurnOfTheAgentIsTakenOverOrNot() throws Exception {
        final Path other = folder.resolve("run");
        copy(run, other);
        Files.writeString(other.resolve(RunFiles.CONFIG), Files.readString(run.resolve(RunFiles.CONFIG)).replace("system: null",
                "system: '='"));
        // Without a template, turns are joined by line breaks, for which this vocabulary has no token.
        final Path with = folder.resolve("with");
        copy(narrow, with);
        for (Path model : List.of(with, other.resolve("warm-start"))) {
            Files.writeString(model.resolve("chat_template.jinja"), "{% for m in messages %}{{ m.content }}{% endfor %}");
        }
        for (String unify : List.of("none", "system")) {
            final Path out = folder.resolve(unify);
            ok("replace", other, "--agent", "solver", "--with", with, "--align", "none", "--probes", 20, "--out", out,
                    "--unify", unify);
            final List<Config.Agent> agents = ConfigFile.read(out.resolve(RunFiles.CONFIG)).team().agents();
            assertEquals("=", agents.get(0).system());
            assertEquals(unify.equals("none") ? null : "=", agents.get(1).system());
        }
        assertNotEquals(log(folder.resolve("none")).aligned().klSwapped(), log(folder.resolve("system")).aligned().klSwapped(),
                "it is asked otherwise");
    }

    // ---- what is refused ----

    private void refused(int code, String expected, Object... more) {
        final Path out = folder.resolve("refused");
        final List<Object> command = new ArrayList<>(List.of("replace", run, "--out", out));
        command.addAll(List.of(more));
        final String error = failed(code, command.toArray());
        assertTrue(error.contains(expected), error);
        assertFalse(Files.exists(out), "nothing is left");
    }

    @Test
    void whatItRefuses() throws Exception {
        refused(2, "--agent: expected one of planner, solver, or a number from 1 to 2, given judge", "--agent", "judge",
                "--with", "tiny");
        refused(2, "or a number from 1 to 2, given 3", "--agent", "3", "--with", "tiny");
        refused(2, "given 0", "--agent", "0", "--with", "tiny");
        refused(2, "Missing required option: '--with=MODEL'", "--agent", "solver");
        refused(2, "--align: expected stage0, none or scratch, given stage1", "--agent", "solver", "--with", "tiny", "--align",
                "stage1");
        refused(2, "--unify: expected none, or of system, thinking, given system,tools; agents call no tools", "--agent",
                "solver", "--with",
                "tiny", "--unify", "system,tools");
        refused(2, "--system: expected system in --unify, given thinking", "--agent", "solver", "--with", "tiny", "--unify",
                "thinking",
                "--system", "x");
        refused(2, "--probes: expected 2 or more, given 1", "--agent", "solver", "--with", "tiny", "--probes", 1);
        refused(2, "--steps: expected 1 or more, given 0", "--agent", "solver", "--with", "tiny", "--steps", 0);
        refused(2, "--batch: expected 1 or more, given 0", "--agent", "solver", "--with", "tiny", "--batch", 0);
        refused(2, "--delta0: expected more than 0 and finite, given -1.0", "--agent", "solver", "--with", "tiny", "--delta0",
                -1);
        refused(2, "--learning-rate: expected more than 0 and finite, given NaN", "--agent", "solver", "--with", "tiny",
                "--learning-rate", "NaN");
        refused(1, "--with: expected tiny, random, or a model folder with config.json in it, given " + run, "--agent", "solver",
                "--with",
                run);
        final Path unlike = model("short", run.resolve("warm-start"), 6);
        refused(1, "a context of 6 less max_new_tokens = 3", "--agent", "solver", "--with", unlike);
        final Path letters = Files.createDirectories(folder.resolve("letters"));
        Tokenizer.writeCharacters(letters, "abc", List.of("<pad>", "<end>"), "<pad>", "<end>");
        refused(1, "has no token", "--agent", "solver", "--with", model("letters-model", letters, 40));
        assertTrue(failed(1, "replace", run, "--agent", "solver", "--with", narrow, "--out",
                run).contains("expected a new or empty folder"));
        assertTrue(failed(1, "replace", folder, "--agent", "solver", "--with", narrow).contains("expected a run directory"));
        try (FileChannel lock = FileChannel.open(run.resolve(".lock"), StandardOpenOption.WRITE)) {
            lock.lock();
            refused(1, "another process is writing this run", "--agent", "solver", "--with", narrow);
        }
        final Path young = Files.createDirectories(folder.resolve("young"));
        Files.copy(run.resolve(RunFiles.CONFIG), young.resolve(RunFiles.CONFIG));
        assertTrue(failed(1, "replace", young, "--agent", "solver", "--with", narrow).contains("there is no checkpoint yet"));
        assertEquals(Set.of("run", "small.yaml", "narrow", "tokens", "foreign", "short", "letters-model"), names(shared));
    }

    @Test
    void whoHasNoPolicyOfTheirOwnOrIsNotTrainedIsRefused() throws Exception {
        final String agent = "    - {role: %s, policy: %s, template: \"" + Budget.TEMPLATE.user()
                + "\", message: \"{text}+\", frozen: %s}%n";
        final Path config = Files.writeString(folder.resolve("own.yaml"), SMALL.replace("steps: 60", "steps: 5")
                + "policies: {p: {model: tiny}, q: {model: tiny}}\nteam:\n  agents:\n" + String.format(agent, "a", "p", "false")
                + String.format(agent, "b", "p", "false") + String.format(agent, "c", "q", "true"));
        final Path team = folder.resolve("team");
        ok("train", config, "--out", team);
        assertTrue(failed(2, "replace", team, "--agent", "b", "--with", "tiny")
                .contains("--agent: expected an agent with a policy of its own, given b, whose policy p is that of a, b"));
        assertTrue(failed(2, "replace", team, "--agent", "c", "--with", "tiny")
                .contains("--agent: expected an agent that is trained, given c"));
    }

    @Test
    void theResultLiesBesideTheRun() throws Exception {
        final Path other = folder.resolve("run");
        copy(run, other);
        ok("replace", other, "--agent", "solver", "--with", "tiny", "--align", "none", "--probes", 20);
        assertEquals(Set.of("run", "run-solver-none"), names(folder));
    }
}
