package org.teamtr.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.IntSummaryStatistics;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.SplittableRandom;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.teamtr.TestJvm;
import org.teamtr.config.ConfigFile;
import org.teamtr.config.Setup;
import org.teamtr.report.RunFiles;
import org.teamtr.report.RunSummary;
import org.teamtr.team.Context;
import org.teamtr.team.Prompts;
import org.teamtr.team.Router;
import org.teamtr.team.Verifier;
import org.teamtr.train.Checkpoints;
import org.teamtr.train.Diagnostics;
import org.teamtr.train.RunLog;
import org.teamtr.train.UnchangedReason;

/** {@code train}, {@code eval} and {@code report} as they are typed, with the built-in model made very small work of. */
@Timeout(120)
class TrainCommandTest {
    private static final String SMALL = """
            seed: 3 # with which every update has something to learn from
            task: {budget: {agents: 2}}
            warm_start: {steps: 20, batch: 16}
            train: {stages: 3}
            rollout: {prompts: 4, group: 4, validation_fraction: 0.25, max_new_tokens: 3}
            eval: {prompts: 8, transcripts: 2}
            certificate: {prompts: 16}
            hardware: {threads: 1}
            """;
    /** Three agents with names, for the budget task; what is missing is appended. */
    private static final String OWN = """
            warm_start: {steps: 5, batch: 8}
            train: {stages: 1}
            rollout: {prompts: 3, group: 3, validation_fraction: 0, max_new_tokens: 3}
            loss: {entropy: 0.01} # so that there is something to learn where all returns are 0
            eval: {prompts: 4, transcripts: 1}
            certificate: {prompts: 16}
            hardware: {threads: 1}
            policies: {p: {model: tiny}, q: {model: tiny}, r: {model: tiny}}
            """;

    /** The configuration of {@link #SMALL}, and its run from start to end. */
    @TempDir
    private static Path shared;
    private static Path small;
    private static Path whole;
    private static Said said;

    @TempDir
    private Path folder;

    static Said teamtr(Object... args) {
        return Said.of(() -> Main.run(Stream.of(args).map(Object::toString).toArray(String[]::new)));
    }

    /** A command that has to succeed. */
    static String ok(Object... args) {
        final Said done = teamtr(args);
        assertEquals(0, done.code(), done.err());
        return done.out();
    }

    /** A command that has to fail; returns what it says. */
    static String failed(int code, Object... args) {
        final Said done = teamtr(args);
        assertEquals(code, done.code(), done.err());
        assertEquals("", done.out());
        assertFalse(done.err().contains("\tat "), done.err());
        return done.err();
    }

    @BeforeAll
    static void train() throws IOException {
        small = Files.writeString(shared.resolve("small.yaml"), SMALL);
        whole = shared.resolve("whole");
        said = teamtr("train", small, "--out", whole);
        assertEquals(0, said.code(), said.err());
    }

    // ---- a run ----

    @Test
    void aRunLeavesFilesThatAgree() throws Exception {
        final List<RunLog.Update> updates = RunFiles.updates(whole);
        final List<RunLog.Stage> stages = RunFiles.stages(whole);
        final RunSummary s = RunFiles.summary(whole);
        assertEquals(List.of(1, 1, 2, 2, 3, 3), updates.stream().map(RunLog.Update::stage).toList());
        assertEquals(List.of(0, 1, 2, 3), stages.stream().map(RunLog.Stage::stage).toList());
        for (RunLog.Update u : updates) {
            assertTrue(u.kl() <= u.delta(), u.toString());
            assertEquals(16, u.episodes());
            assertEquals(12, u.messages(), "those of a quarter of the prompts are held back");
            assertTrue(u.trainedTokens() >= 12 && u.trainedTokens() < u.tokens(), u.toString());
            assertTrue(u.scoreGap() < 1e-4, u.toString());
        }
        assertEquals(0, s.monitored().outOfRegionUpdates());
        assertEquals(0, s.monitored().outOfRegionRate());
        assertEquals(List.of("planner", "solver"), s.run().agents());
        assertEquals(3, s.run().stages());
        assertEquals(6, s.run().updates());
        assertEquals(stages.get(0).heldOut().accuracy(), s.accuracies().accuracyBefore());
        assertEquals(stages.get(3).heldOut().returnMean(), s.returns().returnLast());
        assertEquals(stages.stream().mapToDouble(v -> v.heldOut().returnMean()).max().orElseThrow(), s.returns().returnBest());
        assertEquals(updates.stream().mapToLong(RunLog.Update::tokens).sum(), s.spent().tokens());
        assertEquals(6 * 16, s.spent().episodes());
        assertEquals(updates.stream().mapToDouble(RunLog.Update::predictedGain).sum(), s.returns().predictedGain(), 1e-12);
        assertEquals(s.returns().returnLast() - s.returns().returnBefore(), s.returns().realisedGain(), 1e-12);
        assertEquals(CommandLines.quoted(List.of("./teamtr", "train", small.toString(), "--out", whole.toString())), s.run().command());
        assertEquals(Setup.resolved(ConfigFile.load(small, List.of())), ConfigFile.read(whole.resolve(RunFiles.CONFIG)));
        final List<RunLog.Transcript> transcripts = RunFiles.transcripts(whole);
        assertEquals(List.of("held-out:0", "held-out:1", "held-out:0"),
                transcripts.stream().map(RunLog.Transcript::prompt).limit(3).toList());
        assertEquals(8, transcripts.size());
        for (RunLog.Transcript t : transcripts) {
            assertEquals(List.of("planner", "solver"), t.messages().stream().map(RunLog.Said::role).toList());
        }
        assertEquals(Set.of("stage-0002", "stage-0003"), names(whole.resolve("checkpoints")), "the two newest are kept");
        assertTrue(Files.readString(whole.resolve(RunFiles.REPORT)).startsWith("<!DOCTYPE html>"));
        assertTrue(said.out().contains(String.format(Locale.ROOT, "before stage 1:   return %.3f", s.returns().returnBefore())), said.out());
        assertTrue(said.out().contains("trust region:     0 of 6 updates left it"), said.out());
        assertTrue(said.out().contains("report:           " + whole.resolve(RunFiles.REPORT)), said.out());
    }

    @Test
    void reportIsWrittenAgain() throws IOException {
        final Path page = whole.resolve(RunFiles.REPORT);
        final byte[] before = Files.readAllBytes(page);
        Files.delete(page);
        assertEquals(page + System.lineSeparator(), ok("report", whole));
        assertArrayEquals(before, Files.readAllBytes(page));
    }

    // ---- rounding ----

    /** Rounding of bf16 is more than a small radius: the run ends and says what would help, and that helps. */
    @Test
    void aRadiusBelowTheRoundingIsRefused() throws IOException {
        final Said refused = teamtr(coarse(folder.resolve("refused")));
        assertEquals(1, refused.code(), refused.err());
        assertTrue(Pattern.compile("teamtr: (planner|solver): delta 1\\.00e-06, KL floor .* nat a message by rounding alone .*"
                + "policies\\.<name>\\.dtype f16 or f32").matcher(refused.err()).find(), refused.err());
        assertFalse(Files.exists(folder.resolve("refused").resolve(RunFiles.SUMMARY)));
        for (String set : List.of("trust_region.monitor_dtype=f32", "trust_region.floor=warn")) {
            final Path run = folder.resolve(set);
            final String out = ok(with(List.of("--set", set), coarse(run)));
            final boolean fine = set.contains("f32");
            for (RunLog.Update u : RunFiles.updates(run)) {
                assertTrue(u.kl() <= 1e-6, u.toString());
                assertEquals(fine, u.outcome().klFloor() < 1e-6, u.toString());
                assertEquals(fine ? null : UnchangedReason.ROLLED_BACK, u.outcome().unchangedBy(), u.toString());
            }
            assertEquals(!fine, out.contains("2 of 2 updates changed nothing"), out);
        }
    }

    private static Object[] coarse(Path run) {
        return new Object[] {"train", small, "--out", run, "--set", "policies.planner={model: tiny, dtype: bf16}", "--set",
            "policies.solver={model: tiny, dtype: bf16}", "--set", "trust_region.delta=1e-6", "--set", "trust_region.step_length=measured",
            "--set", "loss.entropy=0.01", "--set",
            "train.stages=1"};
    }

    // ---- going on ----

    /** A run that ended after a stage and is told to do more is the run that did all at once. */
    @ParameterizedTest
    @CsvSource(delimiter = '|', nullValues = "-", value = {"1 | -", "2 | -", "1 | hardware.threads=2",
        "1 | policies.solver={model: tiny, dtype: bf16, lora: {rank: 2}}",
        "1 | policies.solver={model: tiny, dtype: f16}", "2 | trust_region.delta_rule=adaptive"})
    void anExtendedRunIsTheSameToTheBit(int stages, String set) throws Exception {
        final List<Object> more = set == null ? List.of() : List.of("--set", set);
        final Path reference = set == null ? whole : folder.resolve("whole");
        if (set != null) {
            ok(with(more, "train", small, "--out", reference));
        }
        assertEquals(set != null && set.contains("lora"),
                Files.exists(reference.resolve("checkpoints/stage-0003/solver/adapter_model.safetensors")));
        final Path run = folder.resolve("run");
        ok(with(more, "train", small, "--out", run, "--set", "train.stages=" + stages));
        assertEquals(stages, RunFiles.summary(run).run().stages());
        ok("train", "--resume", run, "--set", "train.stages=3");
        assertSameRun(reference, run, "");
        assertEquals(3, ConfigFile.read(run.resolve(RunFiles.CONFIG)).train().stages());
    }

    /** To diagnose a run changes nothing of it, weights and optimiser states included; its diagnoses go on with it. */
    @Test
    void aDiagnosedRunIsTheSameRun() throws IOException {
        final Path run = folder.resolve("run");
        ok("train", small, "--out", run, "--set", "train.stages=2", "--set",
                "diagnostics={occupancy: true, monitor: true, logits: true, coordination: true}");
        final String before = Files.readString(run.resolve(RunFiles.DIAGNOSTICS));
        ok("train", "--resume", run, "--set", "train.stages=3");
        assertTrue(Files.readString(run.resolve(RunFiles.DIAGNOSTICS)).startsWith(before));
        assertEquals(lines(whole, RunFiles.METRICS), lines(run, RunFiles.METRICS));
        final Path last = whole.resolve("checkpoints/stage-0003");
        try (Stream<Path> all = Files.walk(last)) {
            for (Path file : all.filter(Files::isRegularFile).toList()) {
                assertArrayEquals(Files.readAllBytes(file), Files.readAllBytes(run.resolve(whole.relativize(file))),
                        file.toString());
            }
        }
        final List<RunLog.Diagnosis> diagnoses = RunFiles.diagnoses(run);
        assertEquals(List.of(1, 1, 2, 2, 3, 3), diagnoses.stream().map(RunLog.Diagnosis::stage).toList());
        for (RunLog.Diagnosis d : diagnoses) {
            assertEquals(d.step() == 1 ? 32 : 16, d.played().episodes());
            assertTrue(d.step() > 1 || d.staleness().gap() == 0 && d.weights().equals(new Diagnostics.Weights(1, 1, 1, 1, 0)), d.toString());
            assertTrue(d.staleness().dOcc() > 0 && d.logitShift().get(0) > 0 && Double.isFinite(d.monitored().monitor25()), d.toString());
        }
        final RunSummary s = RunFiles.summary(run);
        assertEquals(3 * 48, s.diagnosed().played().diagnosticEpisodes());
        assertEquals(6 * 16, s.spent().episodes(), "without those");
        assertEquals(diagnoses.stream().mapToDouble(v -> v.staleness().deltaStale()).sum() / 3, s.diagnosed().deltaStale(), 1e-12);
        assertEquals(RunFiles.stages(run).stream().mapToDouble(t -> t.stage() == 0 ? 0 : t.certified().certificate()).sum(),
                s.certified().certificate(), 1e-12);
        assertTrue(s.certified().certificate() < s.returns().realisedGain());
        final String page = Files.readString(run.resolve(RunFiles.REPORT));
        assertTrue(page.contains("Certified gain") && page.contains("Staleness and locality"));
        assertFalse(Files.exists(whole.resolve(RunFiles.DIAGNOSTICS)));
        assertFalse(Files.readString(whole.resolve(RunFiles.REPORT)).contains("Staleness and locality"));
    }

    @Test
    void aFinishedRunGoesOnToMoreStages() throws IOException {
        final Path run = folder.resolve("run");
        copy(whole, run);
        ok("train", "--resume", run);
        assertSameRun(whole, run, "");
        ok("train", "--resume", run, "--set", "train.stages=5");
        assertEquals(5, RunFiles.summary(run).run().stages());
        assertEquals(lines(whole, RunFiles.METRICS), lines(run, RunFiles.METRICS).subList(0, 6));
        assertEquals(Set.of("stage-0004", "stage-0005"), names(run.resolve("checkpoints")));
    }

    /**
     * Killed three times, at random moments of the warm start and behind a checkpoint, it is the run that nobody killed. Where it is
     * only told to end, as by Ctrl-C, it says how to go on.
     */
    @Test
    @Timeout(240)
    void aKilledRunGoesOnToTheSameBits() throws Exception {
        final Path run = folder.resolve("run");
        final SplittableRandom random = new SplittableRandom();
        final List<String> kills = new ArrayList<>();
        kill(run, run.resolve(RunFiles.CONFIG), true, random.nextInt(2500), kills, "train", small.toString(), "--out", run.toString());
        for (int stage = 1; stage <= 2; stage++) {
            final Path checkpoint = run.resolve("checkpoints/stage-000" + stage);
            final Path latest = new Checkpoints(run, 1).latest(); // a later one may have taken the place of this
            if (latest == null || latest.compareTo(checkpoint) < 0) {
                kill(run, checkpoint, false, random.nextInt(250), kills, "train", "--resume", run.toString());
            }
        }
        ok("train", "--resume", run);
        assertSameRun(whole, run, kills.toString());
    }

    /** Starts a JVM with a command, waits for a file, and some milliseconds more, and kills it. */
    private static void kill(Path run, Path awaited, boolean beside, int milliseconds, List<String> kills, String... command)
            throws Exception {
        final List<String> line = TestJvm.command(Main.class, "-Xmx512m");
        line.addAll(List.of(command));
        final Path log = run.resolveSibling("child.log");
        final Process child = new ProcessBuilder(line).redirectErrorStream(true).redirectOutput(log.toFile()).start();
        try {
            while (!Files.exists(awaited)) {
                assertTrue(child.isAlive() || Files.exists(awaited), () -> said(log));
                Thread.sleep(1);
            }
            if (beside) { // a second process is refused meanwhile
                assertEquals("teamtr: " + run + ": another process is writing this run" + System.lineSeparator(),
                        failed(1, "train", "--resume", run));
            }
            Thread.sleep(milliseconds);
            if (!beside && child.isAlive()) {
                child.destroy();
                assertTrue(child.waitFor(20, TimeUnit.SECONDS));
                final String stopped = "teamtr: stopped; " + CommandLines.resume(run) + " goes on from"; // a stage may end behind it
                assertTrue(child.exitValue() == 0 || said(log).lines().anyMatch(said -> said.startsWith(stopped)), said(log));
            }
        } finally {
            child.destroyForcibly();
            assertTrue(child.waitFor(20, TimeUnit.SECONDS));
        }
        kills.add(awaited.getFileName() + " + " + milliseconds + " ms");
    }

    private static String said(Path log) {
        try {
            return Files.readString(log);
        } catch (IOException e) {
            return e.toString();
        }
    }

    @Test
    void aDamagedCheckpointIsNamed() throws IOException {
        final Path run = folder.resolve("run");
        copy(whole, run);
        final Path weights = run.resolve("checkpoints/stage-0003/solver/model.safetensors");
        final byte[] bytes = Files.readAllBytes(weights);
        final byte[] logs = Files.readAllBytes(run.resolve(RunFiles.METRICS));
        final byte[] flipped = bytes.clone();
        flipped[bytes.length - 5] ^= 1;
        for (byte[] wrong : new byte[][] {flipped, Arrays.copyOf(bytes, bytes.length - 4), new byte[0]}) {
            Files.write(weights, wrong);
            for (String[] command : new String[][] {{"train", "--resume", run.toString()}, {"eval", run.toString()}}) {
                final String damaged = failed(1, (Object[]) command);
                assertTrue(damaged.contains("teamtr: " + (wrong == flipped ? weights.getParent() : weights)), damaged);
            }
        }
        Files.delete(weights);
        final String error = failed(1, "eval", run);
        assertTrue(error.contains(weights.getParent() + "") && error.contains("model.safetensors"), error);
        assertArrayEquals(logs, Files.readAllBytes(run.resolve(RunFiles.METRICS)), "the logs are as they were");
        Files.write(weights, bytes);
        ok("eval", run);
    }

    // ---- what is refused ----

    @Test
    void whatTrainRefuses() throws IOException {
        assertEquals("teamtr: " + folder + ": expected a run directory with config.yaml in it" + System.lineSeparator(),
                failed(1, "train", "--resume", folder));
        assertTrue(failed(1, "train", "--resume", folder.resolve("none")).contains("expected a run directory"));
        final String full = failed(1, "train", small, "--out", whole);
        assertEquals("teamtr: " + whole + ": expected a new or empty folder; " + CommandLines.resume(whole) + " goes on with a run"
                + System.lineSeparator(), full);
        assertTrue(failed(2, "train", small, "--resume", whole).contains("expected no FILE beside it"));
        assertTrue(failed(2, "train", "--out", folder, "--resume", whole).contains("expected no --out beside it"));
        assertEquals("teamtr: --set rollout.gruop=3: rollout.gruop: unknown key; did you mean rollout.group?" + System.lineSeparator(),
                failed(2, "train", "--set", "rollout.gruop=3", "--out", folder.resolve("x")));
        assertTrue(failed(2, "train", "--set", "train.agents=[judge]", "--out", folder.resolve("x"))
                .contains("train.agents: expected roles"));
        assertTrue(failed(2, "train", folder.resolve("none.yaml"), "--out", folder.resolve("x")).contains("none.yaml: no such file"));
        assertFalse(Files.exists(folder.resolve("x")), "nothing is made of a wrong configuration");
    }

    @Test
    void aRunThatIsBeingWrittenIsRefused() throws IOException {
        try (FileChannel lock = FileChannel.open(whole.resolve(".lock"), StandardOpenOption.WRITE)) {
            lock.lock();
            assertTrue(failed(1, "train", "--resume", whole).endsWith("another process is writing this run" + System.lineSeparator()));
        }
    }

    /** What a resumed run cannot use is not written into it. */
    @Test
    void aResumeThatFailsLeavesTheRunAsItWas() throws IOException {
        final String before = Files.readString(whole.resolve(RunFiles.CONFIG));
        assertTrue(failed(1, "train", "--resume", whole, "--set", "policies.solver.model=" + folder.resolve("none")).contains("none"));
        assertEquals(before, Files.readString(whole.resolve(RunFiles.CONFIG)));
    }

    // ---- eval ----

    @Test
    void evaluationIsConsistent() throws IOException {
        final JsonNode four = json(ok("eval", whole, "--k", 4, "--json"));
        assertEquals(Set.of("team", "prompts", "k", "return_mean", "return_error", "avg_at_k", "pass_at_k", "all_of_k", "tokens",
                "seconds"),
                four.properties().stream().map(Map.Entry::getKey).collect(Collectors.toSet()));
        assertEquals(whole.resolve("checkpoints/stage-0003").toString(), four.path("team").asText());
        assertEquals(8, four.path("prompts").asInt());
        assertEquals(4, four.path("k").asInt());
        assertTrue(four.path("all_of_k").asDouble() <= four.path("avg_at_k").asDouble());
        assertTrue(four.path("avg_at_k").asDouble() <= four.path("pass_at_k").asDouble());
        assertEquals(four.path("pass_at_k").asDouble() * 8, Math.rint(four.path("pass_at_k").asDouble() * 8), 1e-12);
        final ObjectNode again = json(ok("eval", whole, "--k", 4, "--json"));
        again.set("seconds", four.path("seconds"));
        assertEquals(four, again);
        final JsonNode greedy = json(ok("eval", whole, "--k", 3, "--json", "--set", "eval.temperature=0", "--set", "eval.prompts=20"));
        assertEquals(20, greedy.path("prompts").asInt());
        assertEquals(greedy.path("pass_at_k"), greedy.path("all_of_k"), "the likeliest tokens are the same in every episode");
        assertEquals(greedy.path("pass_at_k").asDouble(), greedy.path("avg_at_k").asDouble(), 1e-12);
        final String text = ok("eval", whole, "--k", 4);
        assertTrue(text.contains(String.format(Locale.ROOT, "return  %.4f", four.path("return_mean").asDouble())), text);
    }

    /** The models of a configuration are evaluated as they are, and nothing is left behind. */
    @Test
    void aConfigurationCanBeEvaluated() throws IOException {
        final Set<String> before = scratch();
        final JsonNode result = json(ok("eval", small, "--json", "--set", "eval.prompts=16"));
        assertEquals("as configured", result.path("team").asText());
        assertEquals(16, result.path("prompts").asInt());
        assertEquals(before, scratch());
    }

    /** Ours: the machine's folder for temporary files is that of other processes, too, which come and go. */
    private static Set<String> scratch() throws IOException {
        final String ours = "teamtr-eval-" + ProcessHandle.current().pid() + "-";
        return names(Path.of(System.getProperty("java.io.tmpdir"))).stream().filter(n -> n.startsWith(ours)).collect(Collectors.toSet());
    }

    @Test
    void whatEvalRefuses() throws IOException {
        final Path run = Files.createDirectories(folder.resolve("run"));
        Files.copy(whole.resolve(RunFiles.CONFIG), run.resolve(RunFiles.CONFIG));
        assertEquals("teamtr: " + run + ": there is no checkpoint yet" + System.lineSeparator(), failed(1, "eval", run));
        assertEquals(Set.of(RunFiles.CONFIG), names(run));
        assertTrue(failed(2, "eval", folder).contains("config.yaml: no such file"));
        assertTrue(failed(2, "eval", whole, "--k", 0).contains("--k: expected 1 or more, given 0"));
        assertTrue(failed(2, "eval", whole, "--data", small).contains("--data: expected a team whose task.name is files"));
    }

    // ---- switches ----

    /** Who speaks, when rollouts are fresh, and that they are weighted: as the log has it, for a team of three. */
    @ParameterizedTest
    @CsvSource(delimiter = '|', value = {
        "team.router=round_robin | true true true", "team.router=random | true true true", "team.router=random_batch | true true true",
        "team.router=[b, c, a, b] | true true true", "team.router=org.teamtr.cli.TrainCommandTest$Backwards | true true true",
        "rollout.resample_every=0 | true false false", "rollout.resample_every=2 | true false true",
        "rollout={resample_every: 0, importance_weighting: true} | true false false",
        "rollout={resample_every: 2, importance_weighting: true, importance_cap: 1.5} | true false true",
        "team={stop: '7', turns: 5} | true true true",
        "train.joint=true | true false false", "train={order: [c, a, b]} | true true true", "train.order=reversed | true true true",
        "trust_region={delta: {a: 0.01, b: 0.02, c: 0.03}, monitor: k1, fraction: 0.5} | true true true",
        "trust_region={rollback: false, monitor: k3, delta_rule: adaptive} | true true true",
        "loss={ratio: token, aggregation: token_mean, kl_term: exact, normalise: false} | true true true"})
    void switchesRunThrough(String set, String fresh) throws IOException {
        final Path config = Files.writeString(folder.resolve("own.yaml"), OWN + agents("p", "q", "r"));
        final Path run = folder.resolve("run");
        ok("train", config, "--out", run, "--set", set);
        final List<RunLog.Update> updates = RunFiles.updates(run);
        assertEquals(fresh, updates.stream().map(u -> Boolean.toString(u.fresh())).collect(Collectors.joining(" ")));
        final int[] order = set.contains("[c, a, b]") ? new int[] {2, 0, 1} : set.contains("reversed") ? new int[] {2, 1, 0} : null;
        if (order != null) {
            assertEquals(IntStream.of(order).mapToObj(a -> "abc".substring(a, a + 1)).toList(),
                    updates.stream().map(RunLog.Update::agent).toList());
        }
        if (!set.contains("rollback: false")) {
            assertTrue(updates.stream().noneMatch(RunLog.Update::outOfRegion));
        }
        for (RunLog.Update u : updates) {
            if (set.contains("delta: {")) {
                assertEquals((u.agent().charAt(0) - 'a' + 1) * 0.01, u.delta());
            }
        }
        final List<List<String>> roles = RunFiles.transcripts(run).stream().map(t -> t.messages().stream().map(RunLog.Said::role).toList())
                .toList();
        if (set.contains("[b, c, a, b]")) {
            assertEquals(List.of(List.of("b", "c", "a", "b")), roles.stream().distinct().toList());
        } else if (set.contains("Backwards")) {
            assertEquals(List.of(List.of("c", "b", "a")), roles.stream().distinct().toList());
        } else if (set.contains("random")) {
            assertEquals(3, roles.get(0).size());
        } else if (set.contains("stop")) {
            for (RunLog.Transcript t : RunFiles.transcripts(run)) {
                final List<RunLog.Said> all = t.messages();
                assertTrue(all.size() == 5 || all.get(all.size() - 1).text().contains("7"), t.toString());
                assertTrue(all.subList(0, all.size() - 1).stream().noneMatch(m -> m.text().contains("7")), t.toString());
            }
        } else {
            assertEquals(List.of(List.of("a", "b", "c")), roles.stream().distinct().toList());
        }
    }

    /** Goals are for as many numbers as an episode has, not for as many as there are agents by default. */
    @ParameterizedTest
    @CsvSource(delimiter = '|', value = {"seed=1 | 3", "team.turns=6 | 6", "team.router=[a, b] | 2"})
    void theGameIsAsLongAsTheEpisode(String set, int turns) throws Exception {
        final Path config = Files.writeString(folder.resolve("own.yaml"), OWN + agents("p", "q", "r"));
        final Prompts prompts = Setup.budget(Setup.resolved(ConfigFile.load(config, List.of(set)))).prompts("train", 2000, 1);
        final IntSummaryStatistics goals = IntStream.range(0, 2000).map(i -> Integer.parseInt(prompts.get(i).answer())).summaryStatistics();
        assertEquals(2 * turns, goals.getMin());
        assertEquals(7 * turns, goals.getMax());
    }

    private static String agents(String... policies) {
        final StringBuilder yaml = new StringBuilder("team:\n  agents:\n");
        for (int a = 0; a < policies.length; a++) {
            yaml.append(
                    String.format(Locale.ROOT, "    - {role: %c, policy: %s, template: \"{prompt}{transcript}\", message: \"{text}+\"}%n", 'a' + a,
                            policies[a]));
        }
        return yaml.toString();
    }

    /** Speaks last to first. */
    public static final class Backwards implements Router {
        @Override
        public int next(Context context, int agents, long seed) {
            return context.turn() < agents ? agents - 1 - context.turn() : STOP;
        }
    }

    @Test
    void rolesMayShareAPolicy() throws IOException {
        final Path config = Files.writeString(folder.resolve("own.yaml"), OWN + agents("p", "q", "p"));
        final Path run = folder.resolve("run");
        ok("train", config, "--out", run);
        final Set<String> learners = Set.of("a+c", "b");
        assertEquals(learners, RunFiles.updates(run).stream().map(RunLog.Update::agent).collect(Collectors.toSet()));
        final Set<String> files = names(run.resolve("checkpoints/stage-0001"));
        assertEquals(Set.of("a+c", "b", "state.json"), files);
        for (RunLog.Update u : RunFiles.updates(run)) {
            assertEquals(u.agent().equals("b") ? 9 : 18, u.messages());
            assertEquals(learners, u.policyVersions().keySet());
        }
        ok("eval", run);
    }

    /** Who is frozen, or not among those that are trained, speaks as the warm start does, before and after. */
    @Test
    void whoIsNotTrainedStaysAsTheWarmStart() throws IOException {
        final Path config = Files.writeString(folder.resolve("own.yaml"), OWN + agents("p", "q", "r"));
        final Path run = folder.resolve("run");
        ok("train", config, "--out", run, "--set", "team.agents[1].frozen=true", "--set", "train.agents=[a, b]");
        assertEquals(Set.of("a", "state.json"), names(run.resolve("checkpoints/stage-0001")));
        assertEquals(List.of("a"), RunFiles.updates(run).stream().map(RunLog.Update::agent).toList());
        final byte[] start = Files.readAllBytes(run.resolve("warm-start/model.safetensors"));
        assertFalse(Arrays.equals(start, Files.readAllBytes(run.resolve("checkpoints/stage-0001/a/model.safetensors"))));
        final Path other = folder.resolve("other");
        ok("train", config, "--out", other, "--set", "train.stages=0");
        assertArrayEquals(start, Files.readAllBytes(other.resolve("warm-start/model.safetensors")));
        ok("eval", run);
    }

    // ---- prompts of files ----

    /** Right is whoever says an even number. */
    public static final class Even implements Verifier {
        @Override
        public Score score(Context episode) {
            final boolean even = episode.last().text().matches("[0-9]*[02468]");
            return new Score(even ? 2.5 : -0.5, even);
        }
    }

    private Path prompts(String... rows) throws IOException {
        return Files.write(folder.resolve("prompts.jsonl"), List.of(rows));
    }

    private Path files(String more) throws IOException {
        return Files.writeString(folder.resolve("files.yaml"), OWN + agents("p", "q")
                + "task: {name: files, files: {train: " + folder.resolve("prompts.jsonl") + more + "}}\n");
    }

    @Test
    void aVerifierOfOnesOwn() throws IOException {
        prompts("{\"question\": \"1=\"}", "{\"question\": \"2=\"}", "{\"question\": \"3=\"}", "{\"question\": \"12=\"}");
        final Path config = files(", answer_column: null, verifier: org.teamtr.cli.TrainCommandTest$Even");
        final Path run = folder.resolve("run");
        ok("train", config, "--out", run);
        for (RunLog.Transcript t : RunFiles.transcripts(run)) {
            assertEquals("prompts.jsonl:4", t.prompt(), "the last is held out");
            final boolean even = t.messages().get(1).text().matches("[0-9]*[02468]");
            assertEquals(even ? 2.5 : -0.5, t.reward());
            assertEquals(even, t.correct());
        }
        final Path data = Files.writeString(folder.resolve("more.jsonl"), "{\"question\": \"5=\"}\n{\"question\": \"6=\"}\n");
        assertEquals(2, json(ok("eval", run, "--data", data, "--json")).path("prompts").asInt());
        assertTrue(failed(1, "train", config, "--out", folder.resolve("x"), "--set", "task.files.verifier=org.teamtr.cli.Main")
                .contains("given org.teamtr.cli.Main, which does not"));
    }

    /** Found before the first episode, and not in the middle of the night. */
    @Test
    void anAnswerThatCannotBeComparedWithIsNamed() throws IOException {
        prompts("{\"question\": \"1=\", \"answer\": \"1\"}", "{\"question\": \"2=\", \"answer\": \"two\"}",
                "{\"question\": \"3=\", \"answer\": 3}");
        final Path run = folder.resolve("run");
        assertEquals("teamtr: prompts.jsonl:2: answer: expected a number, given \"two\"" + System.lineSeparator(),
                failed(1, "train", files(""), "--out", run));
        assertFalse(Files.exists(run.resolve(RunFiles.METRICS)));
        assertFalse(Files.exists(run.resolve("warm-start")));
        assertTrue(failed(1, "train", files(", answer_column: null"), "--out", folder.resolve("x"))
                .contains("prompts.jsonl:1: answer: expected an answer"));
        prompts("{\"question\": \"1=\", \"answer\": \"1\"}");
        assertTrue(failed(1, "train", files(""), "--out", folder.resolve("y")).contains("prompts.jsonl: expected 2 prompts or more"));
    }

    // ---- small things ----

    private static Object[] with(List<Object> more, Object... args) {
        return Stream.concat(Stream.of(args), more.stream()).toArray();
    }

    private static ObjectNode json(String text) throws IOException {
        return (ObjectNode) new ObjectMapper().readTree(text);
    }

    static Set<String> names(Path folder) throws IOException {
        try (Stream<Path> all = Files.list(folder)) {
            return all.map(p -> p.getFileName().toString()).collect(Collectors.toSet());
        }
    }

    static void copy(Path from, Path to) throws IOException {
        try (Stream<Path> all = Files.walk(from)) {
            for (Path p : all.toList()) {
                Files.copy(p, to.resolve(from.relativize(p)));
            }
        }
    }

    /** The lines of a log without what depends on the clock. */
    static List<JsonNode> lines(Path run, String file) throws IOException {
        final List<JsonNode> lines = new ArrayList<>();
        for (String line : Files.readAllLines(run.resolve(file))) {
            final ObjectNode node = json(line);
            node.remove(node.properties().stream().map(Map.Entry::getKey).filter(k -> k.startsWith("seconds")).toList());
            lines.add(node);
        }
        return lines;
    }

    /** Logs, weights and optimiser states are those of another run. */
    static void assertSameRun(Path expected, Path run, String how) throws IOException {
        for (String file : List.of(RunFiles.METRICS, RunFiles.STAGES, RunFiles.TRANSCRIPTS)) {
            assertEquals(lines(expected, file), lines(run, file), file + " " + how);
        }
        final Path last = expected.resolve("checkpoints/stage-0003");
        try (Stream<Path> all = Files.walk(last)) {
            final List<Path> files = all.filter(Files::isRegularFile).toList();
            assertTrue(files.size() > 6, files.toString());
            for (Path file : files) {
                final Path same = run.resolve(expected.relativize(file));
                if (file.endsWith("adapter_config.json")) { // names its base model, which lies in the run
                    assertEquals(Files.readString(file).replace(expected.toString(), "RUN"),
                            Files.readString(same).replace(run.toString(), "RUN"), file + " " + how);
                } else {
                    assertArrayEquals(Files.readAllBytes(file), Files.readAllBytes(same), file + " " + how);
                }
            }
        }
    }
}
