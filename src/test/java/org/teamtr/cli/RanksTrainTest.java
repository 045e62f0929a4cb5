package org.teamtr.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.function.ToDoubleFunction;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.teamtr.TestJvm;
import org.teamtr.config.ConfigFile;
import org.teamtr.config.Setup;
import org.teamtr.distributed.RankEnvironment;
import org.teamtr.experiment.ExperimentData;
import org.teamtr.report.RunFiles;
import org.teamtr.train.Config;
import org.teamtr.train.RunLog;

/** Several processes train one team, started by the variables that torchrun sets, or by {@code --processes}. */
@Timeout(300)
class RanksTrainTest {
    private static final String SMALL = """
            seed: 3
            task: {budget: {agents: 2}}
            warm_start: {steps: 60, batch: 32}
            train: {stages: 3}
            rollout: {prompts: 8, group: 8, validation_fraction: 0.25, max_new_tokens: 3}
            eval: {prompts: 32, transcripts: 4}
            hardware: {threads: 1}
            """;

    @TempDir
    private Path folder;
    private final List<Process> started = new ArrayList<>();

    @AfterEach
    void end() {
        started.forEach(process -> {
            process.descendants().forEach(ProcessHandle::destroyForcibly);
            process.destroyForcibly();
        });
    }

    private Path small() throws IOException {
        return Files.writeString(folder.resolve("small.yaml"), SMALL);
    }

    private Process start(Map<String, String> variables, Path said, Object... args) throws IOException {
        final List<String> command = RankSetup.command(Stream.of(args).map(Object::toString).toList());
        command.add(1, "-Xmx512m");
        final ProcessBuilder builder = new ProcessBuilder(command).redirectErrorStream(true).redirectOutput(said.toFile())
                .redirectInput(new File("/dev/null"));
        builder.environment().putAll(variables);
        builder.environment().put("TORCH_CPP_LOG_LEVEL", "FATAL");
        builder.environment().put("OMP_WAIT_POLICY", "PASSIVE");
        final Process process = builder.start();
        started.add(process);
        return process;
    }

    /** Starts so many ranks; what they say is in said-RANK. */
    private List<Process> ranks(int size, Object... args) throws IOException {
        final int port = TestJvm.freePort();
        final List<Process> ranks = new ArrayList<>();
        for (int r = 0; r < size; r++) {
            final String rank = "1" + r;
            ranks.add(start(Map.of("RANK", "" + r, "WORLD_SIZE", "" + size, "LOCAL_RANK", "" + r, "LOCAL_WORLD_SIZE", "" + size, "MASTER_ADDR",
                    "127.0.0.1", "MASTER_PORT", "" + port), said(r),
                    Stream.of(args).map(arg -> arg.toString().replace("${RANK}", rank)).toArray()));
        }
        return ranks;
    }

    private Path said(int rank) {
        return folder.resolve("said-" + rank);
    }

    private void ok(List<Process> ranks) throws IOException, InterruptedException {
        for (int r = 0; r < ranks.size(); r++) {
            assertEquals(0, ranks.get(r).waitFor(), Files.readString(said(r)));
        }
    }

    private static void assertClose(List<RunLog.Update> one, List<RunLog.Update> many, String what, ToDoubleFunction<RunLog.Update> of) {
        for (int i = 0; i < one.size(); i++) {
            final double expected = of.applyAsDouble(one.get(i));
            assertEquals(expected, of.applyAsDouble(many.get(i)), 1e-6 + 1e-3 * Math.abs(expected), what + " of update " + (i + 1));
        }
    }

    /** The same prompts, draws, messages and decisions; what is measured within a thousandth, since f32 sums are in another order. */
    private static void assertSame(Path one, Path many) throws IOException {
        final List<RunLog.Update> a = RunFiles.updates(one);
        final List<RunLog.Update> b = RunFiles.updates(many);
        assertEquals(a.size(), b.size());
        for (int i = 0; i < a.size(); i++) {
            final RunLog.Update x = a.get(i);
            final RunLog.Update y = b.get(i);
            assertEquals(List.of(x.stage(), x.agent(), x.order(), x.policyVersions(), x.episodes(), x.messages(), x.tokens(), x.returnMean(),
                    x.accuracy(), x.innerSteps(), x.stoppedBy(), x.halvings(), x.delta(), x.betaNext()),
                    List.of(y.stage(), y.agent(), y.order(), y.policyVersions(), y.episodes(), y.messages(), y.tokens(), y.returnMean(),
                            y.accuracy(), y.innerSteps(), y.stoppedBy(), y.halvings(), y.delta(), y.betaNext()),
                    "update " + (i + 1));
        }
        assertClose(a, b, "KL", RunLog.Update::kl);
        assertClose(a, b, "surrogate", RunLog.Update::surrogate);
        assertClose(a, b, "predicted gain", RunLog.Update::predictedGain);
        assertClose(a, b, "gradient norm", RunLog.Update::gradNorm);
        assertClose(a, b, "certificate", u -> u.bound().bounds().certificate());
        assertEquals(RunFiles.transcripts(one), RunFiles.transcripts(many)); // what was said, word for word
        assertEquals(RunFiles.stages(one).stream().map(v -> v.heldOut().accuracy()).toList(),
                RunFiles.stages(many).stream().map(v -> v.heldOut().accuracy()).toList());
    }

    /** Of the first rank that said something of this kind. */
    private void assertSaid(int rank, String pattern) throws IOException {
        final String said = Files.readString(said(rank));
        assertTrue(said.lines().anyMatch(line -> line.matches(pattern)), "rank " + rank + " said: " + said);
    }

    @Test
    void twoProcessesTrainAsOneDoes() throws Exception {
        final Path file = small();
        final Path one = folder.resolve("one");
        final Path two = folder.resolve("two");
        TrainCommandTest.ok("train", file, "--out", one);
        ok(ranks(2, "train", file, "--out", two));
        assertSame(one, two);
        assertEquals(RunFiles.updates(two).size(), RunFiles.ranks(two).size());
        for (RunLog.Ranks update : RunFiles.ranks(two)) {
            assertEquals(List.of(0, 1), update.ranks().stream().map(RunLog.Rank::rank).toList());
            for (RunLog.Rank rank : update.ranks()) {
                assertTrue(rank.secondsUpdate() > 0 && rank.bytesSent() > 0 && rank.exchanges() > 0, rank.toString());
            }
        }
        assertTrue(RunFiles.ranks(one).isEmpty());
        assertTrue(Files.readString(two.resolve(RunFiles.REPORT)).contains("<h2>Processes</h2>"));
        assertFalse(Files.readString(one.resolve(RunFiles.REPORT)).contains("Processes"));
        assertEquals("", Files.readString(said(1)).replaceAll("\\[Gloo].*\\R|INFO .*\\R", "")); // rank 1 does not speak
    }

    @Test
    @Tag("large")
    void fourProcessesTrainAsOneDoes() throws Exception {
        final Path file = small();
        TrainCommandTest.ok("train", file, "--out", folder.resolve("one"));
        ok(ranks(4, "train", file, "--out", folder.resolve("four"), "--set", "hardware.threads=1"));
        assertSame(folder.resolve("one"), folder.resolve("four"));
    }

    /** State, gradients, weights in parts: the same run, and a checkpoint that others go on from, with more or fewer processes. */
    @ParameterizedTest
    @CsvSource({"true, 1, false", "gradients, 1, none", "weights, 3, weights", "weights, 1, none"})
    @Tag("large")
    void shardedProcessesTrainAsOneDoes(String shard, int next, String then) throws Exception {
        final Path file = small();
        final Path one = folder.resolve("one");
        final Path two = folder.resolve("two");
        TrainCommandTest.ok("train", file, "--out", one, "--set", "train.stages=4");
        ok(ranks(2, "train", file, "--out", two, "--set", "hardware.ranks.shard=" + shard));
        final Object[] resume = {"train", "--resume", two, "--set", "train.stages=4", "--set", "hardware.ranks.shard=" + then};
        if (next == 1) {
            TrainCommandTest.ok(resume);
        } else {
            ok(ranks(next, resume));
        }
        assertSame(one, two);
    }

    /** A rank is killed; the others end and name it; then the run goes on with another number of ranks. */
    @ParameterizedTest
    @ValueSource(ints = {1, 2, 3})
    @Tag("large")
    void aKilledRankEndsTheOthersAndTheRunGoesOn(int next) throws Exception {
        final Path file = small();
        final Path run = folder.resolve("run");
        final List<Process> ranks = ranks(2, "train", file, "--out", run, "--set", "train.stages=1000");
        while (!Files.exists(run.resolve("checkpoints/stage-0002"))) {
            assertTrue(ranks.get(0).isAlive(), Files.readString(said(0)));
            Thread.sleep(50);
        }
        ranks.get(1).destroyForcibly().waitFor();
        assertTrue(ranks.get(0).waitFor(15, TimeUnit.SECONDS), "rank 0 goes on without rank 1");
        assertEquals(1, ranks.get(0).exitValue());
        assertSaid(0, "teamtr: rank 1 \\(.*, process " + ranks.get(1).pid() + "\\) is gone.*--resume .* goes on from behind stage \\d+");
        final int done = RunFiles.stages(run).size() - 1;
        final Object[] resume = {"train", "--resume", run, "--set", "train.stages=" + (done + 2)};
        if (next == 1) {
            TrainCommandTest.ok(resume);
        } else {
            ok(ranks(next, resume));
        }
        assertEquals(done + 2, RunFiles.stages(run).size() - 1);
        // as a run that was never killed
        final Path whole = folder.resolve("whole");
        TrainCommandTest.ok("train", file, "--out", whole, "--set", "train.stages=" + Math.min(4, done + 2));
        assertSame(whole, firstStages(run, Math.min(4, done + 2)));
    }

    private Path firstStages(Path run, int stages) throws IOException {
        final Path some = Files.createDirectories(folder.resolve("first"));
        for (String name : List.of(RunFiles.METRICS, RunFiles.STAGES, RunFiles.TRANSCRIPTS)) {
            Files.write(some.resolve(name), Files.readAllLines(run.resolve(name)).stream()
                    .filter(line -> Integer.parseInt(line.replaceFirst(".*?\"stage\":(\\d+).*", "$1")) <= stages).toList());
        }
        return some;
    }

    /** The runs of an experiment are divided, each is made once, and rank 0 writes the page of all of them. */
    @Test
    void ranksDivideTheRunsOfAnExperiment() throws Exception {
        final Path file = Files.writeString(folder.resolve("exact.yaml"), """
                title: Divided
                paper: none
                question: Who makes which run?
                seeds: 3
                config: {train: {stages: 2}}
                axes:
                  n:
                    2: {exact: true, task: {budget: {agents: 2}}}
                    3: {exact: true, task: {budget: {agents: 3}}}
                columns:
                  kept: {label: kept, of: summary.realised_gain / summary.predicted_gain}
                curves: {}
                picture: {columns: [kept]}
                published: {}
                claims: []
                """);
        ok(ranks(2, "experiment", file, "--out", folder.resolve("divided")));
        final Path out = folder.resolve("divided/exact");
        final List<String> made = new ArrayList<>();
        for (int r = 0; r < 2; r++) {
            final String name = "rank " + r + ": exact ";
            final List<String> own = Files.readAllLines(said(r)).stream().filter(line -> line.startsWith(name)).toList();
            assertEquals(3, own.size(), "half of them: " + own);
            own.forEach(line -> made.add(line.replaceFirst(".*/3  (\\S+)  .*", "$1")));
        }
        assertEquals(List.of("n2-seed1", "n2-seed2", "n2-seed3", "n3-seed1", "n3-seed2", "n3-seed3"), made.stream().sorted().toList());
        assertEquals(7, Files.readAllLines(out.resolve(ExperimentData.RUNS)).size());
        assertTrue(Files.readString(said(0)).contains(out.resolve("exact.html").toString()));
        assertFalse(Files.readString(said(1)).contains("exact.html"), "one of them writes the page");
        TrainCommandTest.ok("experiment", file, "--out", folder.resolve("alone"));
        for (String run : List.of("n2-seed3", "n3-seed1")) {
            assertEquals(Files.readString(folder.resolve("alone/exact").resolve(run).resolve(RunFiles.METRICS)),
                    Files.readString(out.resolve(run).resolve(RunFiles.METRICS)), "as by one process");
        }
    }

    /** The launcher sets the variables, passes on what rank 0 says, and ends all when one dies, with its last words. */
    @Test
    @Tag("large")
    void processes() throws Exception {
        final Path file = small();
        final Path run = folder.resolve("run");
        final List<String> plain = RankSetup.command(List.of("train", file.toString(), "--out", run.toString()));
        plain.addAll(List.of("--processes", "2"));
        final Process launcher = new ProcessBuilder(plain).redirectErrorStream(true).redirectOutput(said(0).toFile()).start();
        started.add(launcher);
        assertEquals(0, launcher.waitFor(), Files.readString(said(0)));
        assertSaid(0, "training .*, by 2 processes");
        assertEquals(6, RunFiles.updates(run).size());
        plain.addAll(List.of("--set", "train.stages=1000", "--set", "checkpoint.keep=1"));
        plain.set(plain.indexOf("--out") + 1, folder.resolve("killed").toString());
        final Process second = new ProcessBuilder(plain).redirectErrorStream(true).redirectOutput(said(1).toFile()).start();
        started.add(second);
        while (!Files.exists(folder.resolve("killed/checkpoints/stage-0001"))) {
            assertTrue(second.isAlive(), Files.readString(said(1)));
            Thread.sleep(50);
        }
        final List<ProcessHandle> children = second.children().sorted().toList();
        children.get(1).destroyForcibly();
        assertTrue(second.waitFor(15, TimeUnit.SECONDS));
        assertEquals(137, second.exitValue());
        assertSaid(1, "teamtr: rank 1 \\(process " + children.get(1).pid() + "\\) ended with signal 9.*");
        assertTrue(children.stream().noneMatch(ProcessHandle::isAlive));
    }

    /** What keeps the ranks from training together is said by each of them, in one line. */
    @Test
    @Tag("large")
    void ranksThatDoNotFitTogether() throws Exception {
        final Path file = small();
        final List<Process> ranks = ranks(2, "train", file, "--out", folder.resolve("run"), "--set", "seed=${RANK}");
        for (int r = 0; r < 2; r++) {
            assertEquals(1, ranks.get(r).waitFor());
            assertSaid(r, "teamtr: seed: expected 10, as rank 0 has, given 11 on rank 1 \\(.*\\)");
        }
    }

    /** Each rank of a machine has a GPU of its own; policies are on what their configuration says, or the team's. */
    @Test
    void devices() throws Exception {
        final RankEnvironment third = new RankEnvironment(6, 8, 2, 4, "node0", 29500, false, 0);
        final Config cuda = RankSetup.resolved(ConfigFile.load(null, List.of("hardware.device=cuda", "policies.planner={model: tiny, device: cpu}",
                "policies.solver={model: tiny, device: cuda}")), third);
        final Config own = RankSetup.local(cuda, third);
        assertEquals("cuda:2", own.hardware().device());
        assertEquals("cpu", Setup.settings(own, own.policies().get("planner")).device());
        assertEquals("cuda:2", Setup.settings(own, own.policies().get("solver")).device());
        assertEquals("cuda:2", Setup.settings(own, own.policies().get("critic")).device());
        assertEquals(Math.max(1, Runtime.getRuntime().availableProcessors() / 4), own.hardware().threads());
        final Config named = ConfigFile.load(null, List.of("policies.planner={model: tiny, device: cuda:1}"));
        assertEquals("cuda:1", Setup.settings(named, named.policies().get("planner")).device());
        assertEquals("policies.planner.device: expected cuda or cpu where a machine has 4 ranks, each of which has a GPU of its own, given cuda:1",
                assertThrows(IOException.class, () -> RankSetup.local(named, third)).getMessage());
        assertEquals("cuda:1", RankSetup.local(named, new RankEnvironment(1, 2, 0, 1, "node0", 29500, false, 0)).policies().get("planner").device());
        assertTrue(TrainCommandTest.failed(2, "train", "--set", "policies.planner={model: tiny, device: gpu}")
                .contains("policies.planner.device: expected cpu, cuda or cuda:N or null, given \"gpu\""));
    }

    @Test
    void processesAreCheckedFirst() throws IOException {
        assertTrue(TrainCommandTest.failed(2, "train", "--processes", "0").contains("--processes: expected 1 or more, given 0"));
        assertTrue(TrainCommandTest.failed(2, "train", "--processes", "2", "--set", "seed=x").contains("seed: expected a whole number"));
    }
}
