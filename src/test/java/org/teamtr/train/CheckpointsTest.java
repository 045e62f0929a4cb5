package org.teamtr.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.lang.reflect.Proxy;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.teamtr.distributed.Ranks;
import org.teamtr.report.Json;
import org.teamtr.team.Agent;
import org.teamtr.team.PromptTemplate;
import org.teamtr.team.Prompts;
import org.teamtr.team.Team;
import org.teamtr.team.Verifier;
import org.teamtr.team.View;

class CheckpointsTest {
    @TempDir
    private Path run;
    private List<Learner> learners;
    private Checkpoints checkpoints;

    @BeforeEach
    void open() {
        learners = learners();
        checkpoints = new Checkpoints(run, 2);
    }

    /** Two learners, the second of two agents. */
    private static List<Learner> learners() {
        return List.of(new Learner("planner", new TabularPolicy(4, 1, 1), List.of(0), 0.5, 0.1),
                new Learner("solver+the judge/2", new TabularPolicy(4, 2, 1), List.of(1, 2), 0.5, 0.1));
    }

    private static void change(Learner learner, double by) {
        ((TabularPolicy) learner.policy).logits(new int[] {7}, new int[0], 0)[1] += by;
        learner.delta += by;
        learner.beta *= 2;
    }

    private List<String> names() throws IOException {
        try (Stream<Path> all = Files.list(run.resolve("checkpoints"))) {
            return all.map(p -> p.getFileName().toString()).sorted().toList();
        }
    }

    private IOException failure(Path checkpoint) {
        return assertThrows(IOException.class, () -> Checkpoints.load(checkpoint, learners()));
    }

    @Test
    void loadBringsBackParametersAndDeltaAndBeta() throws IOException {
        change(learners.get(0), 0.25);
        change(learners.get(1), 1.0 / 3);
        checkpoints.save(3, learners, HeldOutScores.NONE);
        final List<Learner> others = learners();
        assertNotEquals(learners.get(1).policy.fingerprint(), others.get(1).policy.fingerprint());
        assertEquals(3, Checkpoints.load(checkpoints.latest(), others));
        for (int i = 0; i < 2; i++) {
            assertEquals(learners.get(i).policy.fingerprint(), others.get(i).policy.fingerprint());
            assertEquals(learners.get(i).delta, others.get(i).delta);
            assertEquals(learners.get(i).beta, others.get(i).beta);
            assertEquals(0.5, others.get(i).delta0, "the radius that an adaptive one stays near");
        }
    }

    @Test
    void infiniteRadiusComesBackToo() throws IOException {
        final Learner free = new Learner("free", new TabularPolicy(4, 1, 1), List.of(0), Double.POSITIVE_INFINITY, 0);
        checkpoints.save(1, List.of(free), HeldOutScores.NONE);
        free.delta = 1;
        Checkpoints.load(checkpoints.latest(), List.of(free));
        assertEquals(Double.POSITIVE_INFINITY, free.delta);
    }

    @Test
    void namesOfLearnersAreNamesOfFolders() throws IOException {
        checkpoints.save(3, learners, HeldOutScores.NONE);
        try (Stream<Path> all = Files.list(checkpoints.latest())) {
            assertEquals(List.of("planner", "solver+the_judge_2-b9d6d750", "state.json"), all.map(p -> p.getFileName().toString()).sorted().toList());
        }
    }

    /** A role may have any name: of another script, of a folder's own, a whole sentence. */
    @Test
    void rolesOfAnyNameHaveFoldersOfTheirOwn() throws IOException {
        final List<Learner> team = Stream.of("解答者", "评论者", "a/b", "a_b", ".", "..", "state.json", "Prüfer", "Präfer", "x".repeat(300),
                "思".repeat(300)).map(name -> new Learner(name, new TabularPolicy(4, 1, 1), List.of(0), 0.5, 0.1)).toList();
        for (int i = 0; i < team.size(); i++) {
            change(team.get(i), i + 1);
        }
        checkpoints.save(3, team, HeldOutScores.NONE);
        final List<Learner> others = team.stream().map(l -> new Learner(l.name, new TabularPolicy(4, 1, 1), List.of(0), 0.5, 0.1)).toList();
        assertEquals(3, Checkpoints.load(checkpoints.latest(), others));
        for (int i = 0; i < team.size(); i++) {
            assertEquals(team.get(i).policy.fingerprint(), others.get(i).policy.fingerprint(), team.get(i).name);
            assertEquals(team.get(i).delta, others.get(i).delta, team.get(i).name);
        }
        try (Stream<Path> all = Files.list(checkpoints.latest())) {
            final List<String> names = all.map(p -> p.getFileName().toString()).toList();
            assertEquals(team.size() + 1, names.size());
            names.forEach(name -> assertTrue(name.matches("[A-Za-z0-9_+.-]{1,120}"), name));
        }
    }

    @Test
    void theNewestAreKept() throws IOException {
        assertNull(checkpoints.latest());
        for (int stage : new int[] {1, 2, 9, 10, 10_000}) {
            checkpoints.save(stage, learners, HeldOutScores.NONE);
        }
        assertEquals(List.of("stage-0010", "stage-10000"), names());
        assertEquals(run.resolve("checkpoints/stage-10000"), checkpoints.latest());
        new Checkpoints(run, 1).save(10_001, learners, HeldOutScores.NONE);
        assertEquals(List.of("stage-10001"), names());
    }

    @Test
    void aStageIsReplaced() throws IOException {
        checkpoints.save(3, learners, HeldOutScores.NONE);
        change(learners.get(0), 1);
        checkpoints.save(3, learners, HeldOutScores.NONE);
        final List<Learner> others = learners();
        Checkpoints.load(checkpoints.latest(), others);
        assertEquals(learners.get(0).policy.fingerprint(), others.get(0).policy.fingerprint());
        assertEquals(List.of("stage-0003"), names());
    }

    /** What a kill leaves half written is no checkpoint, and no obstacle. */
    @Test
    void whatAKillLeavesIsIgnoredAndReplaced() throws IOException {
        checkpoints.save(1, learners, HeldOutScores.NONE);
        final Path half = Files.createDirectories(run.resolve("checkpoints/.next/planner"));
        Files.writeString(half.resolve("table.json"), "{\"tab");
        Files.writeString(run.resolve("checkpoints/.next/state.json"), "");
        assertEquals(run.resolve("checkpoints/stage-0001"), checkpoints.latest());
        checkpoints.save(2, learners, HeldOutScores.NONE);
        assertEquals(List.of("stage-0001", "stage-0002"), names());
        assertEquals(2, Checkpoints.load(checkpoints.latest(), learners()));
    }

    @Test
    void otherFoldersAreLeftAlone() throws IOException {
        for (String other : List.of("stage-", "stage-0001.bak", "best", "stage-x")) {
            Files.createDirectories(run.resolve("checkpoints").resolve(other));
        }
        assertNull(checkpoints.latest());
        for (int stage = 1; stage < 5; stage++) {
            checkpoints.save(stage, learners, HeldOutScores.NONE);
        }
        assertEquals(List.of("best", "stage-", "stage-0001.bak", "stage-0003", "stage-0004", "stage-x"), names());
    }

    /** Names are read back wherever they were written. */
    @Test
    void theLocaleDoesNotMatter() throws IOException {
        final Locale before = Locale.getDefault();
        try {
            Locale.setDefault(Locale.forLanguageTag("ar-EG-u-nu-arab"));
            checkpoints.save(12, learners, HeldOutScores.NONE);
        } finally {
            Locale.setDefault(before);
        }
        assertEquals(List.of("stage-0012"), names());
    }

    /** A policy whose disk is full. */
    private static Learner full() {
        final TabularPolicy table = new TabularPolicy(4, 3, 1);
        final Policy policy = (Policy) Proxy.newProxyInstance(Policy.class.getClassLoader(), new Class<?>[] {Policy.class},
                (proxy, method, arguments) -> {
                    if (method.getName().equals("save")) {
                        Files.writeString(((Path) arguments[0]).resolve("model.safetensors"), "some of it");
                        throw new IOException("No space left on device");
                    }
                    return method.invoke(table, arguments);
                });
        return new Learner("full", policy, List.of(3), 1, 0);
    }

    @Test
    void aFailedSaveLeavesTheEarlierOneAndNamesIt() throws IOException {
        final List<Learner> some = List.of(learners.get(0), full());
        assertEquals("checkpoint of stage 1: No space left on device; there is no earlier one",
                assertThrows(IOException.class, () -> checkpoints.save(1, some, HeldOutScores.NONE)).getMessage());
        change(learners.get(0), 1);
        checkpoints.save(1, learners, HeldOutScores.NONE);
        change(learners.get(0), 1);
        assertEquals("checkpoint of stage 2: No space left on device; " + run.resolve("checkpoints/stage-0001") + " is complete",
                assertThrows(IOException.class, () -> checkpoints.save(2, some, HeldOutScores.NONE)).getMessage());
        assertEquals(List.of("stage-0001"), names(), "what was half written takes no room");
        assertEquals(1, Checkpoints.load(checkpoints.latest(), learners()));
        checkpoints.save(2, learners, HeldOutScores.NONE);
        assertEquals(2, Checkpoints.load(checkpoints.latest(), learners()));
    }

    @Test
    void parametersThatAreNotThoseThatWereSavedAreFoundOut() throws IOException {
        change(learners.get(1), 0.5);
        checkpoints.save(1, learners, HeldOutScores.NONE);
        final Path file = run.resolve("checkpoints/stage-0001/solver+the_judge_2-b9d6d750/table.json");
        final String before = Files.readString(file);
        final double row = ((TabularPolicy) learners.get(1).policy).logits(new int[] {7}, new int[0], 0)[1];
        final String after = before.replace(Double.toString(row), Double.toString(Math.nextUp(row)));
        assertNotEquals(before, after);
        Files.writeString(file, after);
        final String message = failure(checkpoints.latest()).getMessage();
        assertTrue(message.startsWith(file.getParent() + ": the parameters are not those that were saved (checksum "), message);
    }

    @ParameterizedTest
    @CsvSource({"state.json", "planner/table.json", "solver+the_judge_2-b9d6d750/table.json"})
    void aMissingFileIsNamed(String name) throws IOException {
        checkpoints.save(1, learners, HeldOutScores.NONE);
        final Path file = checkpoints.latest().resolve(name);
        Files.delete(file);
        final String message = failure(checkpoints.latest()).getMessage();
        assertTrue(message.startsWith(file + ": "), message);
    }

    @ParameterizedTest
    @CsvSource({"state.json, 0", "state.json, 1", "state.json, 40", "planner/table.json, 5", "planner/table.json, 0"})
    void aTruncatedFileIsNamed(String name, int length) throws IOException {
        checkpoints.save(1, learners, HeldOutScores.NONE);
        final Path file = checkpoints.latest().resolve(name);
        assertTrue(Files.size(file) > length);
        Files.writeString(file, Files.readString(file).substring(0, length));
        final String message = failure(checkpoints.latest()).getMessage();
        assertTrue(message.startsWith(file + ": "), message);
    }

    @ParameterizedTest
    @CsvSource(delimiter = '|', value = {"{}", "{\"stage\": 3}", "{\"stage\": 1, \"learners\": {\"planner\": {\"delta\": 1}}}", "[]"})
    void aStateThatIsNoneIsNamed(String state) throws IOException {
        checkpoints.save(1, learners, HeldOutScores.NONE);
        final Path file = checkpoints.latest().resolve("state.json");
        Files.writeString(file, state);
        final String message = failure(checkpoints.latest()).getMessage();
        assertTrue(message.startsWith(file + ": ") && !message.contains("\n"), message);
    }

    @Test
    void aFileInPlaceOfAFolderIsNamed() throws IOException {
        checkpoints.save(1, learners, HeldOutScores.NONE);
        final Path folder = checkpoints.latest().resolve("planner");
        Checkpoints.remove(folder);
        Files.writeString(folder, "");
        assertTrue(failure(checkpoints.latest()).getMessage().startsWith(folder.toString()));
        Checkpoints.remove(checkpoints.latest());
        Files.writeString(run.resolve("checkpoints/stage-0001"), "");
        assertTrue(failure(run.resolve("checkpoints/stage-0001")).getMessage().contains("stage-0001"));
    }

    @Test
    void aLearnerThatIsNotThereIsNamed() throws IOException {
        checkpoints.save(1, learners.subList(0, 1), HeldOutScores.NONE);
        assertEquals(checkpoints.latest() + ": expected a checkpoint of solver+the judge/2, given [planner]",
                failure(checkpoints.latest()).getMessage());
        checkpoints.save(2, learners, HeldOutScores.NONE);
        assertEquals(2, Checkpoints.load(checkpoints.latest(), learners().subList(0, 1)), "others may be there");
    }

    // ---- a run that goes on ----

    /** The realised gain is a difference: scores of another way to sample, or of other prompts, are measured again. */
    @Test
    void heldOutScoresAreKeptWithWhatTheyDependOn() throws IOException {
        final Config config = config(2, 1, 0, 0, "fixed");
        final HeldOutScores kept = held(config, PROMPTS).kept(List.of(new Verifier.Score(1, true), new Verifier.Score(0, false),
                new Verifier.Score(1, true), new Verifier.Score(0, false), new Verifier.Score(1, true), new Verifier.Score(0, false),
                new Verifier.Score(1, true), new Verifier.Score(0, false)));
        checkpoints.save(1, learners, kept);
        final HeldOutScores back = Checkpoints.heldOut(checkpoints.latest());
        assertEquals(kept, back);
        assertTrue(held(config(9, 2, 0, 1, "adaptive"), PROMPTS).compares(back), "it does not matter how the team is trained");
        assertFalse(held(config, PROMPTS.part(1, PROMPTS.size())).compares(back), "other prompts");
        final TrainerTest.Settings greedy = new TrainerTest.Settings();
        greedy.seed = 3;
        greedy.eval = new Config.Eval(2, 4, 2, 0, 1, 2);
        assertFalse(held(greedy.config(), PROMPTS).compares(back), "another temperature");
        final Path state = checkpoints.latest().resolve("state.json");
        final ObjectNode earlier = Json.MAPPER.readValue(state.toFile(), ObjectNode.class);
        earlier.remove("heldOutChecksum");
        Json.MAPPER.writeValue(state.toFile(), earlier);
        assertTrue(held(config, PROMPTS).compares(Checkpoints.heldOut(checkpoints.latest())), "an earlier version did not say of what");
        assertFalse(held(config, PROMPTS).compares(HeldOutScores.NONE));
    }

    private static HeldOut held(Config config, Prompts prompts) {
        return new HeldOut(config, null, prompts, null, 1, Ranks.ONE);
    }

    private static final Prompts PROMPTS = TrainerTest.prompts();

    /** Of a stage: three updates, their diagnoses, and itself. */
    private static final int LINES = 7;

    private static Config config(int stages, int resampleEvery, double reuseShift, int dynamicSampling, String deltaRule) {
        final TrainerTest.Settings s = new TrainerTest.Settings();
        s.seed = 3;
        s.stages = stages;
        s.order = "random";
        s.resampleEvery = resampleEvery;
        s.reuseShift = reuseShift;
        s.dynamicSampling = dynamicSampling;
        s.importanceWeighting = resampleEvery != 1;
        s.deltaRule = deltaRule;
        s.fraction = 0.5;
        s.eval = new Config.Eval(2, 4, 2, 1, 1, 2);
        s.diagnostics = new Config.Diagnostics(resampleEvery == 2, true, false, true);
        return s.config();
    }

    /** What is logged of stages {@code from} .. {@code to}, without what depends on the clock; a checkpoint is left behind. */
    private List<JsonNode> play(Config config, int to, Path from, int saveAt) throws IOException {
        final List<Learner> team = List.of(new Learner("a", new TabularPolicy(4, 1, 0.7), List.of(0), 0.05, 0.1),
                new Learner("b+d", new TabularPolicy(4, 2, 0.7), List.of(1, 3), 0.05, 0.1),
                new Learner("c", new TabularPolicy(4, 3, 0.7), List.of(2), 0.05, 0.1));
        final PromptTemplate template = new PromptTemplate(null, "{role}:{prompt}{transcript}", "[{text}]");
        final List<Agent> agents = List.of(new Agent("a", team.get(0).policy, template, View.TRANSCRIPT, false),
                new Agent("b", team.get(1).policy, template, View.TRANSCRIPT, false),
                new Agent("c", team.get(2).policy, template, View.TRANSCRIPT, false),
                new Agent("d", team.get(1).policy, template, View.TRANSCRIPT, false));
        final int done = from == null ? 0 : Checkpoints.load(from, team);
        final List<JsonNode> updates = new ArrayList<>();
        final Trainer trainer = new Trainer(config, Team.of(agents), team, PROMPTS, PROMPTS,
                c -> new Verifier.Score(c.messages().stream().mapToInt(m -> m.text().length()).sum(), false));
        trainer.train(done, from == null ? null : Checkpoints.heldOut(from), new Trainer.Listener() {
            @Override
            public void updated(RunLog.Update u) {
                final ObjectNode line = Json.MAPPER.valueToTree(u);
                updates.add(line.remove(List.of("seconds_rollout", "seconds_update", "seconds_kl", "seconds_bound")));
            }

            @Override
            public void diagnosed(RunLog.Diagnosis d) {
                final ObjectNode line = Json.MAPPER.valueToTree(d);
                updates.add(line.remove(List.of("seconds")));
            }

            @Override
            public void staged(RunLog.Stage stage, List<RunLog.Transcript> transcripts) {
                if (stage.stage() > 0) {
                    final ObjectNode line = Json.MAPPER.valueToTree(stage);
                    updates.add(line.remove(List.of("seconds_rollout", "seconds_update", "seconds_kl", "seconds_eval", "seconds",
                            "seconds_bound")));
                }
                if (stage.stage() == saveAt) {
                    try {
                        checkpoints.save(saveAt, team, trainer.heldOut());
                    } catch (IOException e) {
                        throw new AssertionError(e);
                    }
                }
            }
        });
        assertEquals(LINES * (to - done), updates.size());
        return updates;
    }

    /** Order, prompts, episodes, versions, beta, delta, halvings: everything goes on as if nothing had happened. */
    @ParameterizedTest
    @CsvSource({"1, 0, 0, fixed", "1, 0, 0, adaptive", "0, 0, 0, adaptive", "2, 0, 0, fixed", "1, 0.1, 0, fixed",
        "1, 0, 3, fixed", "0, 0, 3, fixed"})
    void aRunGoesOnToTheSameBits(int resampleEvery, double reuseShift, int dynamicSampling, String deltaRule) throws IOException {
        final Config config = config(4, resampleEvery, reuseShift, dynamicSampling, deltaRule);
        final List<JsonNode> whole = play(config, 4, null, -1);
        for (int stage = 1; stage < 4; stage++) {
            play(config, 4, null, stage);
            final List<JsonNode> rest = play(config, 4, checkpoints.latest(), -1);
            assertEquals(whole.subList(LINES * stage, 4 * LINES), rest);
            assertFalse(rest.stream().allMatch(u -> u.path("kl").doubleValue() == 0));
            Checkpoints.remove(run.resolve("checkpoints"));
        }
    }
}
