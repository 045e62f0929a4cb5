package org.teamtr.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.teamtr.config.ConfigException;
import org.teamtr.config.ConfigFile;
import org.teamtr.config.ConfigTree;
import org.teamtr.config.Setup;
import org.teamtr.config.Variants;
import org.teamtr.kernels.SamplingConfig;
import org.teamtr.report.RunFiles;
import org.teamtr.task.Verifiers;
import org.teamtr.team.Episode;
import org.teamtr.team.Generation;
import org.teamtr.team.Prompt;
import org.teamtr.team.Rollout;
import org.teamtr.team.ScriptedSpeaker;
import org.teamtr.team.Truncation;
import org.teamtr.train.Config;
import org.teamtr.train.RunLog;

/** Each baseline and ablation differs from TeamTR in what it is called by, and in nothing else. */
@Timeout(120)
class VariantsTest {
    private static final String SMALL = """
            task: {budget: {agents: 2}}
            warm_start: {steps: 20, batch: 16}
            train: {stages: 2}
            rollout: {prompts: 4, group: 8, validation_fraction: 0.25}
            eval: {prompts: 8, transcripts: 2}
            certificate: {prompts: 16}
            hardware: {threads: 1}
            """;
    private static final String FILES = """
            task: {name: files, files: {train: a.jsonl, wrong: -1}}
            team: {agents: [{role: solo, policy: own, template: "{prompt}"}], turns: 3, stop: done}
            policies: {own: {model: models/own}}
            """;

    @TempDir
    private Path folder;

    private Path file(String text) throws IOException {
        return Files.writeString(folder.resolve("c.yaml"), text);
    }

    // ---- configurations ----

    @Test
    void everyFileIsListedAndSaysWhatItIs() throws IOException {
        try (Stream<Path> files = Files.list(Path.of("src/main/resources/org/teamtr/config/variants"))) {
            final List<String> names = files.map(p -> p.getFileName().toString().replace(".yaml", "")).toList();
            assertEquals(new TreeSet<>(Variants.NAMES), new TreeSet<>(names));
        }
        for (String name : Variants.NAMES) {
            assertTrue(Variants.about(name).matches(".*(Table|Fig\\.|not in the paper).*[.)]+"), name + ": " + Variants.about(name));
        }
        final String list = TrainCommandTest.teamtr("check-config", "--variants").out();
        assertEquals(Variants.NAMES, list.lines().map(line -> line.split(" ")[0]).toList());
        assertTrue(list.contains("naive                  Naive sequential"), list);
        final String method = Files.readString(Path.of("docs/method.md"));
        assertTrue(Variants.NAMES.stream().allMatch(name -> method.contains("| `" + name + "` |")), "docs/method.md has them all");
    }

    /** The keys that differ from the built-in team's configuration, and their values: stated here, not read from the files. */
    @ParameterizedTest
    @CsvSource(delimiter = '|', value = {
        "naive | rollout.resample_every 0", "joint | train.joint true", "resample-2 | rollout.resample_every 2",
        "importance | rollout.resample_every 0, rollout.importance_weighting true",
        "no-trust-region | trust_region.early_stop false, trust_region.rollback false, trust_region.beta_rule none",
        "fixed-penalty | trust_region.early_stop false, trust_region.rollback false, trust_region.beta_rule fixed",
        "adaptive-penalty | trust_region.early_stop false, trust_region.rollback false",
        "no-rollback | trust_region.rollback false",
        "delta-small | trust_region.delta_factor 0.1", "delta-large | trust_region.delta_factor 10.0",
        "delta-adaptive | trust_region.delta_rule adaptive",
        "order-fixed | train.order fixed", "order-reversed | train.order reversed", "order-random | ''",
        "no-normalisation | loss.normalise false", "no-clip | loss.advantage_clip Infinity",
        "sequential-ppo | rollout.resample_every 0, trust_region.early_stop false, trust_region.rollback false,"
                + " trust_region.beta_rule none, loss.ratio token, loss.aggregation token_mean, loss.clip_low 0.2,"
                + " loss.clip_high 0.2, loss.advantage_clip Infinity, loss.normalise false",
        "sequential-grpo | rollout.resample_every 0, trust_region.early_stop false, trust_region.rollback false,"
                + " trust_region.beta_rule fixed, trust_region.beta 0.04, loss.ratio token, loss.clip_low 0.2, loss.clip_high 0.2,"
                + " loss.kl_aggregation seq_mean_token_mean, loss.advantage_clip Infinity",
        "sequential-dapo | rollout.resample_every 0, rollout.dynamic_sampling 4, trust_region.early_stop false,"
                + " trust_region.rollback false, trust_region.beta_rule none, loss.ratio token, loss.aggregation token_mean,"
                + " loss.clip_low 0.2, loss.clip_high 0.28, loss.advantage_clip Infinity",
        "single-agent-grpo | task.budget.agents 1, team.turns 4, rollout.resample_every 0, trust_region.early_stop false,"
                + " trust_region.rollback false, trust_region.beta_rule fixed, trust_region.beta 0.04, loss.ratio token,"
                + " loss.clip_low 0.2, loss.clip_high 0.2, loss.kl_aggregation seq_mean_token_mean, loss.advantage_clip Infinity",
        "single-agent-dapo | task.budget.agents 1, team.turns 4, rollout.resample_every 0, rollout.dynamic_sampling 4,"
                + " trust_region.early_stop false, trust_region.rollback false, trust_region.beta_rule none, loss.ratio token,"
                + " loss.aggregation token_mean, loss.clip_low 0.2, loss.clip_high 0.28, loss.advantage_clip Infinity"})
    void aVariantDiffersInTheStatedKeysAlone(String name, String stated) throws Exception {
        final Map<String, String> expected = new TreeMap<>();
        Arrays.stream(stated.split(", ")).filter(s -> !s.isEmpty()).forEach(s -> expected.put(s.split(" ")[0], s.split(" ")[1]));
        final Map<String, String> base = keys(ConfigFile.load(null, List.of()));
        final Map<String, String> with = keys(ConfigFile.load(null, name, List.of()));
        final Map<String, String> differing = new TreeMap<>();
        with.forEach((key, value) -> {
            if (!Objects.equals(base.get(key), value)) {
                differing.put(key, value);
            }
        });
        assertEquals(base.keySet(), with.keySet());
        assertEquals(expected, differing);
        // The file has no key that changes nothing, but for the order that is the default and agents of which there are none.
        final Set<String> written = new TreeSet<>();
        try (var in = Variants.class.getResourceAsStream("variants/" + name + ".yaml")) {
            final Map<String, String> flat = new TreeMap<>();
            flatten("", ConfigTree.yaml().load(in), flat);
            written.addAll(flat.keySet());
        }
        written.removeAll(Set.of("team.agents"));
        assertEquals(name.equals("order-random") ? Set.of("train.order") : expected.keySet(), written);
    }

    /** One model that plays the game of four: the same goals, as many messages. */
    @ParameterizedTest
    @ValueSource(strings = {"single-agent-grpo", "single-agent-dapo"})
    void aSingleAgentIsATeamOfOneInTheTeamsGame(String name) throws Exception {
        final Config team = Setup.resolved(ConfigFile.load(null, List.of()));
        final Config one = Setup.resolved(ConfigFile.load(null, name, List.of()));
        assertEquals(1, one.team().agents().size());
        assertEquals(1, one.policies().size());
        assertEquals(team.team().turns(), one.team().turns());
        assertEquals(team.team().agents().get(0), one.team().agents().get(0));
        for (int i = 0; i < 50; i++) {
            assertEquals(Setup.budget(team).prompts("train", 50, 1).get(i), Setup.budget(one).prompts("train", 50, 1).get(i));
        }
        assertTrue(refused(file(FILES), name).contains("team.agents: expected one or more with task.name files, given none"));
    }

    /** Teams that only speak: another team, another vote, and nothing of the training. */
    @ParameterizedTest
    @CsvSource({"debate, 3, 6", "debate-judge, 1, 7", "role-play, 1, 3"})
    void aTeamOfAVariantReplacesTheFiles(String name, int votes, int turns) throws Exception {
        final Config base = Setup.resolved(ConfigFile.load(file(FILES), List.of()));
        final Config with = Setup.resolved(ConfigFile.load(file(FILES), name, List.of("policies.base.model=models/base")));
        final Map<String, String> expected = keys(base);
        final Map<String, String> given = keys(with);
        assertEquals(Integer.toString(votes), given.remove("task.files.votes"));
        expected.remove("task.files.votes");
        final List<Map<String, String>> both = List.of(expected, given);
        // The certificate's discount follows from the turns.
        both.forEach(keys -> keys.keySet().removeIf(key -> key.startsWith("team.") || key.startsWith("policies.base.")
                || key.equals("certificate.gamma")));
        assertEquals(expected, given);
        assertEquals(turns, with.team().turns());
        assertEquals(turns, with.team().agents().size());
        assertEquals(null, with.team().stop());
        assertTrue(with.team().agents().stream().allMatch(a -> a.policy().equals("base")));
        final String missing = refused(file(FILES), name);
        assertTrue(missing.matches("variant " + name + ":\\d+:\\d+: policies.base.model: expected text, given nothing"), missing);
        final String noFile = refused(null, name, "policies.base.model=tiny");
        assertTrue(noFile.contains("task.files.train: expected a file with task.name files"), noFile);
    }

    @Test
    void aVariantLiesOverTheFileAndUnderTheOptions() throws Exception {
        final Path file = file("rollout: {resample_every: 3}\ntask: {budget: {agents: 2}}\n"
                + "trust_region: {delta: {planner: 0.3, solver: .inf}}");
        assertEquals(2, ConfigFile.load(file, "resample-2", List.of()).rollout().resampleEvery());
        assertEquals(4, ConfigFile.load(file, "resample-2", List.of("rollout.resample_every=4")).rollout().resampleEvery());
        final Config small = ConfigFile.load(file, "delta-small", List.of());
        assertEquals(0.1, small.trustRegion().deltaFactor());
        assertEquals(Map.of("planner", 0.3, "solver", Double.POSITIVE_INFINITY), small.trustRegion().delta().byRole());
        assertEquals("--variant naif: expected one of " + String.join(", ", Variants.NAMES), refused(file, "naif"));
        assertEquals(2, TrainCommandTest.teamtr("train", "--variant", "naif").code());
        assertEquals(ConfigFile.text(ConfigFile.load(null, "no-clip", List.of())),
                TrainCommandTest.teamtr("check-config", "--variant", "no-clip").out());
    }

    @Test
    void whatDoesNotGoTogetherIsRefused() {
        for (List<String> sets : List.of(List.of("rollout.reuse_shift=0.1", "rollout.resample_every=0"),
                List.of("rollout.reuse_shift=.inf", "train.joint=true"))) {
            final String problem = refused(null, null, sets.toArray(String[]::new));
            assertTrue(problem.contains("rollout.reuse_shift: expected 0 with "), problem);
        }
        for (String set : List.of("rollout.reuse_shift=-1", "rollout.dynamic_sampling=-1", "trust_region.delta_factor=0",
                "loss.kl_aggregation=mean", "task.files.votes=0")) {
            assertThrows(ConfigException.class, () -> ConfigFile.load(null, List.of(set)), set);
        }
    }

    @Test
    void episodesThatAreUsedAgainMayBeWeighed() throws ConfigException {
        assertTrue(ConfigFile.load(null, List.of("rollout.reuse_shift=0.1", "rollout.importance_weighting=true")).rollout()
                .importanceWeighting());
    }

    private static String refused(Path file, String variant, String... sets) {
        return assertThrows(ConfigException.class, () -> ConfigFile.load(file, variant, List.of(sets))).getMessage();
    }

    private static Map<String, String> keys(Config config) {
        final Map<String, String> flat = new TreeMap<>();
        flatten("", ConfigTree.yaml().load(ConfigFile.text(config)), flat);
        return flat;
    }

    private static void flatten(String path, Object value, Map<String, String> flat) {
        if (value instanceof Map<?, ?> map && !map.isEmpty()) {
            map.forEach((key, v) -> flatten(path.isEmpty() ? key.toString() : path + "." + key, v, flat));
        } else {
            flat.put(path, String.valueOf(value));
        }
    }

    // ---- runs ----

    private List<RunLog.Update> train(Path run, Object... more) throws IOException {
        final List<Object> args = new ArrayList<>(List.of("train", file(SMALL), "--out", run));
        args.addAll(List.of(more));
        final Said done = TrainCommandTest.teamtr(args.toArray());
        assertEquals(0, done.code(), done.err());
        return RunFiles.updates(run);
    }

    /** Dynamic sampling and the meter of the shift are keyed like all else: a run that is taken up again has the same bits. */
    @ParameterizedTest
    @CsvSource({"sequential-dapo, 0", "no-rollback, 0.05"})
    void aRunGoesOnToTheSameBits(String variant, double reuse) throws IOException {
        final Path whole = folder.resolve("whole");
        final List<RunLog.Update> updates = train(whole, "--variant", variant, "--set", "rollout.reuse_shift=" + reuse);
        final Path run = folder.resolve("run");
        train(run, "--variant", variant, "--set", "rollout.reuse_shift=" + reuse, "--set", "train.stages=1");
        final Said refused = TrainCommandTest.teamtr("train", "--resume", run, "--variant", variant);
        assertTrue(refused.code() == 2 && refused.err().contains("expected no --variant beside it"), refused.err());
        assertEquals(0, TrainCommandTest.teamtr("train", "--resume", run, "--set", "train.stages=2").code());
        for (String model : List.of("planner", "solver")) {
            final String weights = "checkpoints/stage-0002/" + model + "/model.safetensors";
            assertEquals(-1, Files.mismatch(whole.resolve(weights), run.resolve(weights)));
        }
        final List<RunLog.Update> again = RunFiles.updates(run);
        assertEquals(updates.stream().map(RunLog.Update::shift).toList(), again.stream().map(RunLog.Update::shift).toList());
        assertEquals(updates.stream().map(RunLog.Update::dropped).toList(), again.stream().map(RunLog.Update::dropped).toList());
        assertEquals(reuse == 0, updates.stream().allMatch(u -> Double.isNaN(u.shift())));
    }

    /** A_clip is 2 and the group 8, whose advantages reach 2.65: in the built-in team's runs some are clipped. */
    @Test
    void theHardClipActsInTheBuiltInTeam() throws Exception {
        final Config c = ConfigFile.load(null, List.of());
        assertTrue(c.loss().advantageClip() < Math.sqrt(c.rollout().group() - 1));
        final Object[] same = {"--set", "train.stages=1", "--set", "rollout.prompts=32", "--set", "optimiser.steps=2"};
        final List<RunLog.Update> clipped = train(folder.resolve("clipped"), same);
        final List<RunLog.Update> free = train(folder.resolve("free"), Stream.concat(Stream.of("--variant", "no-clip"),
                Arrays.stream(same)).toArray());
        assertEquals(clipped.get(0).returnMean(), free.get(0).returnMean(), 0, "the same episodes");
        assertNotEquals(clipped.get(0).gradNorm(), free.get(0).gradNorm());
    }

    @Test
    void radiiAndSingleAgents() throws IOException {
        for (RunLog.Update u : train(folder.resolve("small"), "--variant", "delta-small", "--set", "train.stages=1")) {
            assertEquals(0.01, u.delta(), 1e-12);
        }
        final Path run = folder.resolve("single");
        final List<RunLog.Update> updates = train(run, "--variant", "single-agent-dapo");
        assertEquals(List.of("planner", "planner"), updates.stream().map(RunLog.Update::agent).toList());
        for (RunLog.Transcript t : RunFiles.transcripts(run)) {
            assertEquals(Collections.nCopies(4, "planner"), t.messages().stream().map(RunLog.Said::role).toList());
        }
        final Said refused = TrainCommandTest.teamtr("eval", run, "--variant", "naive");
        assertEquals(2, refused.code());
        assertTrue(refused.err().contains("--variant: expected a configuration, given the run"), refused.err());
    }

    // ---- teams that only speak ----

    /** Every turn has its share of the tokens: two turns of one token each. */
    @Test
    void anEpisodesTokensAreShared() throws IOException {
        final String out = TrainCommandTest.teamtr("eval", file(SMALL), "--json", "--episode-tokens", "3").out();
        assertEquals(8 * 2, new ObjectMapper().readTree(out).path("tokens").asInt());
        final Said refused = TrainCommandTest.teamtr("eval", file(SMALL), "--episode-tokens", 1);
        assertEquals(2, refused.code());
        assertTrue(refused.err().contains("--episode-tokens: expected one for each of the 2 turns or more, given 1"),
                refused.err());
    }

    private Episode play(String variant, ScriptedSpeaker script) throws Exception {
        final Config config = Setup.resolved(ConfigFile.load(file(FILES), variant, List.of("policies.base.model=models/base")));
        final Config.Files f = config.task().files();
        return Rollout.play(Setup.team(config, Map.of("base", script)), List.of(new Prompt("p", "What is 6 * 7?", "42")), 1,
                new Generation(1, SamplingConfig.ALL, 20, Truncation.ERROR),
                Verifiers.of(f.verifier(), new Verifiers.Settings(f.votes(), f.wrong(), false, false, "python3")), 1)
                .get(0);
    }

    private static List<String> roles(Episode episode) {
        return episode.messages().stream().map(m -> m.role()).toList();
    }

    @Test
    void aDebate() throws Exception {
        final ScriptedSpeaker script = new ScriptedSpeaker("\\boxed{41}", "\\boxed{42}", "\\boxed{13}", "Second is right: \\boxed{42}",
                "\\boxed{42}", "I stay with \\boxed{13}");
        final Episode episode = play("debate", script);
        assertEquals(List.of("answer 1", "answer 2", "answer 3", "revision 1", "revision 2", "revision 3"), roles(episode));
        final String first = "system: Solve the problem step by step. Give the answer in \\boxed{}.\nuser: What is 6 * 7?";
        assertEquals(List.of(first, first, first), script.asked.subList(0, 3), "the first three answer apart");
        assertEquals("""
                system: Others have answered the problem too. Say where they are wrong and where they are right, then answer \
                anew. Give the answer in \\boxed{}.
                user: What is 6 * 7?

                answer 1:
                \\boxed{41}

                answer 2:
                \\boxed{42}

                answer 3:
                \\boxed{13}

                revision 1:
                Second is right: \\boxed{42}

                """, script.asked.get(4));
        assertTrue(episode.score().correct(), "two of the last three say 42");
        assertEquals(-1, play("debate", new ScriptedSpeaker("\\boxed{42}", "\\boxed{42}", "\\boxed{42}", "\\boxed{41}", "\\boxed{40}",
                "\\boxed{42}")).reward(), "one of the last three is not most of them");
    }

    @Test
    void aDebateWithAJudge() throws Exception {
        final ScriptedSpeaker script = new ScriptedSpeaker("\\boxed{42}", "\\boxed{42}", "\\boxed{42}", "\\boxed{42}", "\\boxed{42}", "\\boxed{42}",
                "No: \\boxed{43}");
        final Episode episode = play("debate-judge", script);
        assertEquals("judge", roles(episode).get(6));
        assertTrue(script.asked.get(6).startsWith("system: You are the judge of a debate."), script.asked.get(6));
        assertEquals(6, script.asked.get(6).split("(answer|revision) [123]:\n").length - 1);
        assertEquals(-1, episode.reward(), "the judge's word counts");
    }

    @Test
    void rolePlay() throws Exception {
        final ScriptedSpeaker script = new ScriptedSpeaker("Multiply.", "\\boxed{41}", "It is \\boxed{42}.");
        final Episode episode = play("role-play", script);
        assertEquals(List.of("planner", "solver", "critic"), roles(episode));
        assertTrue(script.asked.get(0).endsWith("user: What is 6 * 7?"), script.asked.get(0));
        final String critic = script.asked.get(2);
        assertTrue(critic.endsWith("What is 6 * 7?\n\nplanner:\nMultiply.\n\nsolver:\n\\boxed{41}\n\n"), critic);
        assertTrue(episode.score().correct());
    }
}
