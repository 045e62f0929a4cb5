package org.teamtr.config;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.teamtr.cli.CheckConfigCommand;
import org.teamtr.cli.Said;
import org.teamtr.kernels.DType;
import org.teamtr.team.View;
import org.teamtr.train.Config;
import org.teamtr.train.Matmul;
import org.teamtr.train.Policy;
import org.teamtr.train.StepLength;
import picocli.CommandLine;

class ConfigFileTest {
    private static final String TEAM = """
            policies:
              small: {model: tiny}
              still: {model: tiny}
            team:
              agents:
                - {role: planner, policy: small}
                - {role: solver, policy: small, view: predecessor}
                - {role: judge, policy: still, frozen: true}
            """;

    @TempDir
    private Path folder;

    private Path file(String text) throws IOException {
        return Files.writeString(folder.resolve("c.yaml"), text);
    }

    private Config load(String text, String... sets) throws IOException, ConfigException {
        return ConfigFile.load(file(text), List.of(sets));
    }

    /** The problems of a configuration that must have some, the folder cut off. */
    private List<String> problems(String text, String... sets) {
        return assertThrows(ConfigException.class, () -> load(text, sets)).problems().stream()
                .map(p -> p.replace(folder + "/", "")).toList();
    }

    @Test
    void withoutAnythingTheDefaultsHold() throws ConfigException {
        final Config c = ConfigFile.load(null, List.of());
        assertEquals(1, c.seed());
        assertEquals(List.of(), c.team().agents());
        assertEquals(Map.of(), c.policies());
        assertEquals(new Config.Optimiser(2e-3, 16, 0.9, 0.999, 1e-8, 0, 1, 16384), c.optimiser());
        assertEquals(Config.Radius.of(0.1), c.trustRegion().delta());
        assertEquals(Config.Order.of("random"), c.train().order());
    }

    /** What the certificate's constants are where nobody says: those of the episode's turns and of Eq. 9. */
    @Test
    void theCertificatesConstantsFollowFromTheRest() throws Exception {
        assertEquals(Config.Bound.paper(0.75, 2.0), bound()); // four agents, a clip of 2 in groups of 8
        assertEquals(Config.Bound.paper(0.8, Math.sqrt(3)), bound("task.budget.agents=5", "rollout.group=4"));
        assertEquals(Config.Bound.paper(0.75, null), bound("loss.normalise=false", "loss.advantage_clip=.inf"));
        assertEquals(Config.Bound.paper(0.75, 0.5), bound("loss.normalise=false", "loss.advantage_clip=0.5"));
        assertEquals(Config.Bound.paper(0.75, null), bound("rollout.resample_every=0", "rollout.importance_weighting=true"));
        assertEquals(Config.Bound.paper(0.75, 20.0), bound("rollout.resample_every=0", "rollout.importance_weighting=true",
                "rollout.importance_cap=10"));
        assertEquals(Config.Bound.paper(0.5, 3.0), bound("certificate.gamma=0.5", "certificate.a_max=3"));
        final String message = assertThrows(ConfigException.class, () -> bound("certificate.gamma=1")).getMessage();
        assertTrue(message.contains("certificate.gamma: expected a number of 0 or more and less than 1 (at 1, c = "), message);
    }

    private static Config.Bound bound(String... sets) throws Exception {
        final Config.Bound bound = Setup.resolved(ConfigFile.load(null, List.of(sets))).certificate();
        return Config.Bound.paper(bound.gamma(), bound.aMax());
    }

    @Test
    void aFileGoesOverTheDefaultsAndOptionsOverTheFile() throws Exception {
        final Config c = load(TEAM + """
                rollout:
                  group: 4
                  prompts: 16
                optimiser: {learning_rate: 3e-4, steps: 1e1}
                train:
                """, "rollout.group=6", "team.agents[1].role=writer", "policies.small.lora={rank: 8}", "trust_region.delta=1e-2",
                "policies.small.lora.targets=[q_proj, k_proj]", "policies.small.lora.targets[1]=v_proj");
        assertEquals(6, c.rollout().group());
        assertEquals(16, c.rollout().prompts());
        assertEquals(1.0, c.rollout().temperature());
        assertEquals(3e-4, c.optimiser().learningRate());
        assertEquals(10, c.optimiser().steps());
        assertEquals(24, c.train().stages(), "a section whose lines are all commented out changes nothing");
        assertEquals(Config.Radius.of(0.01), c.trustRegion().delta());
        assertEquals(new Config.Agent("writer", "small", null, "{prompt}\n{transcript}", "{role}: {text}\n", View.PREDECESSOR, false),
                c.team().agents().get(1));
        assertEquals(new Config.Lora(8, 64, List.of("q_proj", "v_proj")), c.policies().get("small").lora());
    }

    /** Values are the constants of the code, in the spelling of files. */
    @Test
    void numbersAndTheTrustRegionsUnits() throws Exception {
        final Config plain = load("""
                task: {name: files, files: {train: x}}
                team: {agents: [{role: a, policy: a}]}
                policies: {a: {model: m}}
                """);
        assertEquals(StepLength.MEASURED, plain.trustRegion().stepLength());
        assertEquals(Config.Unit.MESSAGE, plain.trustRegion().unit());
        assertEquals(Policy.Precision.SAME, plain.trustRegion().monitorDtype());
        assertEquals(Config.FloorRule.REFUSE, plain.trustRegion().floor());
        assertEquals(StepLength.HALVING, ConfigFile.load(null, List.of()).trustRegion().stepLength(), "of the built-in task");
        final Config c = ConfigFile.load(null, List.of("policies.a={model: tiny, dtype: f16}", "hardware.matmul=tf32",
                "trust_region={unit: token, monitor_dtype: f32, floor: warn, step_length: measured}"));
        assertEquals(DType.F16, c.policies().get("a").dtype());
        assertEquals(Matmul.TF32, c.hardware().matmul());
        assertEquals(List.of(Config.Unit.TOKEN, Policy.Precision.F32, Config.FloorRule.WARN, StepLength.MEASURED),
                List.of(c.trustRegion().unit(), c.trustRegion().monitorDtype(), c.trustRegion().floor(), c.trustRegion().stepLength()));
        final Path file = folder.resolve("numbers.yaml");
        ConfigFile.write(c, file);
        assertTrue(Files.readString(file).contains("dtype: f16") && Files.readString(file).contains("monitor_dtype: f32"));
        assertEquals(c, ConfigFile.read(file));
    }

    @Test
    void whatIsWrittenIsReadBackEqual() throws Exception {
        for (Config c : List.of(ConfigFile.load(null, List.of()), load(TEAM + """
                seed: -9223372036854775808
                trust_region: {delta: {planner: 1, solver: .inf}}
                loss: {clip_low: .inf}
                train: {order: [solver, planner]}
                """, "team.stop='1e-3'", "team.router=[planner, solver, judge, planner]",
                "team.agents[0].system=\" # no: 'ünï' \\u2028 \\t\\\"{role}\\\"\\n\\n\"", "team.agents[1].message='null'"))) {
            final Path file = folder.resolve("resolved.yaml");
            ConfigFile.write(c, file);
            assertEquals(c, ConfigFile.read(file), Files.readString(file));
        }
    }

    @Test
    void everythingWrongIsReportedTogetherWithItsPlace() {
        assertEquals(List.of(
                "c.yaml:1:1: seed: expected a whole number from -2^63 to 2^63 - 1, given 9223372036854775808",
                "c.yaml:3:3: train.stagse: unknown key; did you mean train.stages?",
                "c.yaml:4:3: train.joint: expected true or false, given \"no\"",
                "c.yaml:5:1: delta: unknown key; did you mean trust_region.delta?",
                "c.yaml:7:3: rollout.topK: unknown key; did you mean rollout.top_k?",
                "c.yaml:8:3: rollout.prompts: expected a whole number of 1 or more, given \"1_000\"",
                "c.yaml:9:3: rollout.group: given twice, first in line 6",
                "c.yaml:10:1: colour: unknown key; known here: seed, task, team, policies, warm_start, train, rollout, trust_region, loss,"
                        + " optimiser, eval, checkpoint, hardware, certificate, diagnostics",
                "c.yaml:11:1: eval: expected a section with the keys every, prompts, group, temperature, top_p, transcripts, given 3",
                "--set checkpoint.keep=0: checkpoint.keep: expected a whole number of 1 or more, given 0",
                "--set hardware.gpus=1: hardware.gpus: unknown key; known here: device, threads, matmul, cuda_graphs, flash_attention, memory, ranks"),
                problems("""
                seed: 9223372036854775808
                train:
                  stagse: 3
                  joint: no
                delta: 0.1
                rollout: {group: 4,
                  topK: 3,
                  prompts: 1_000,
                  group: 5}
                colour: red
                eval: 3
                """, "checkpoint.keep=0", "hardware.gpus=1"));
    }

    @ParameterizedTest
    @CsvSource(delimiter = '|', value = {
        "task.name | bugdet | one of budget, files", "task.budget.agents | 1001 | from 1 to 1000", "hardware.threads | 100000 | from 0 to 1024",
        "task.budget.width | -1 | 0 or more",
        "task.budget.view | all | predecessor", "task.budget.held_out | 0 | 1 or more", "task.files.wrong | 1 | less than 1",
        "task.files.verifier | nubmer | one of number, choice", "task.files.prompt_column | 3 | in quotes",
        "team.router | round-robin | class", "team.turns | -1 | 0 or more", "team.stop | \"\" | text", "policies | 3 | section",
        "policies.a.dtype | f64 | one of f32, bf16, f16", "policies.a.model | ~ | text", "policies.a.lora.rank | -1 | 0 or more",
        "policies.a.lora.targets | [q_proj, q_proj] | each once", "policies.a.lora.targets | [] | one or more",
        "warm_start.steps | 2147483648 | whole number", "warm_start.learning_rate | 0 | more than 0", "train.stages | 1.5 | whole number",
        "train.order | [] | list of roles", "train.order | sideways | random", "rollout.group | 1 | 2 or more",
        "rollout.temperature | 0 | more than 0", "rollout.top_k | 5 | unfiltered softmax", "rollout.top_p | 0.9 | unfiltered softmax",
        "rollout.min_p | 0.1 | unfiltered softmax", "rollout.truncation | centre | middle", "rollout.importance_cap | .inf | 0 or more",
        "trust_region.delta | 0 | more than 0", "trust_region.delta | .nan | more than 0", "trust_region.delta | {a: 0} | more than 0",
        "trust_region.delta | {} | map", "trust_region.monitor | k2 | k1, k3, exact", "trust_region.fraction | 0 | more than 0",
        "trust_region.unit | word | one of message, token", "trust_region.monitor_dtype | bf16 | one of same, tf32, f32",
        "trust_region.floor | stop | one of refuse, warn, ignore", "trust_region.step_length | half | one of measured, halving",
        "hardware.matmul | bf16 | one of f32, tf32", "loss.kl_aggregation | sum | unit, token_mean", "warm_start.layers | 0 | from 1 to 1000",
        "trust_region.fraction | 1.01 | at most 1", "trust_region.halvings | -1 | 0 or more", "trust_region.beta_min | 0 | more than 0",
        "trust_region.beta_max | 1e-5 | beta_min", "trust_region.beta | 0 | beta_rule is none", "loss.ratio | tokens | message_mean",
        "loss.clip_low | 1.1 | 0 to 1", "loss.clip_high | -0.1 | 0 or more", "loss.eps_norm | 0 | more than 0",
        "loss.normalise | 'yes' | true or false", "optimiser.steps | 0 | 1 or more", "optimiser.beta2 | 1 | less than 1",
        "optimiser.max_grad_norm | 0 | more than 0", "eval.temperature | -1 | 0 or more", "eval.top_p | 0 | more than 0",
        "checkpoint.every | 0 | 1 or more", "hardware.device | gpu | cpu, cuda", "policies.a.device | gpu | cuda:N",
        "hardware.ranks.timeout | 0 | more than 0",
        "train | [1] | section"})
    void eachKeyHasItsRange(String key, String value, String expected) {
        final List<String> problems = assertThrows(ConfigException.class,
                () -> ConfigFile.load(null, List.of("policies.a.model=tiny", key + "=" + value))).problems();
        assertEquals(1, problems.size(), problems.toString());
        assertTrue(problems.get(0).startsWith("--set " + key + "=" + value + ": " + key + ": expected ")
                && problems.get(0).contains(expected), problems.toString());
    }

    @ParameterizedTest
    @CsvSource(delimiter = '|', value = {
        "team.agents[1].role=planner | team.agents[1].role: expected roles that differ, given planner twice",
        "team.agents[1].policy=large | team.agents[1].policy: expected a name under policies (there are small, still), given large",
        "team.agents[0].template='{promt}' | team.agents[0].template: expected fields among",
        "team.agents[3].policy=small | team.agents[3].role: expected text, given nothing",
        "team.agents[5].role=x | team.agents[5].role: expected an index from 0 to 3, given 5",
        "team.router=[planner, nobody] | team.router: expected roles among [judge, planner, solver], given [planner, nobody]",
        "train.agents=[judge] | team.agents: expected one agent or more that is trained, given none",
        "train.agents=[solver, solver] | train.agents: expected each role once",
        "train.order=[planner] | train.order: expected every trained agent once, [planner, solver] in some order, given [planner]",
        "train.order=[planner, solver, judge] | train.order: expected every trained agent once",
        "trust_region.delta={solver: 0.1} | trust_region.delta: expected a number for every trained agent",
        "trust_region.delta={sovler: 0.1} | trust_region.delta: expected roles among",
        "trust_region={delta: .inf, delta_rule: adaptive} | trust_region.delta: expected a finite number",
        "trust_region.early_stop=false | trust_region.rollback: expected false",
        "rollout.importance_weighting=true | rollout.importance_weighting: expected false with rollout.resample_every 1",
        "team.agents[2].policy=small | team.agents[2].policy: expected a policy of its own",
        "train.agents=[solver] | team.agents[0].policy: expected a policy of its own",
        "task.name=files | task.files.train: expected a file"})
    void whatDoesNotGoTogetherIsRefused(String set, String expected) {
        final List<String> problems = problems(TEAM, set);
        assertEquals(1, problems.stream().filter(p -> p.contains(expected)).count(), problems.toString());
    }

    /** The team that the budget task makes has roles like any other. */
    @ParameterizedTest
    @CsvSource(delimiter = '|', value = {
        "team.router=[planner, judge] | team.router: expected roles among [planner, solver], given [planner, judge]",
        "train.agents=[judge] | train.agents: expected roles among [planner, solver], given [judge]",
        "train.order=[planner] | train.order: expected every trained agent once, [planner, solver] in some order, given [planner]",
        "trust_region.delta={planner: 0.1} | trust_region.delta: expected a number for every trained agent, [planner, solver], given [planner]",
        "trust_region.delta={planer: 0.1} | trust_region.delta: expected roles among [planner, solver], given [planer]"})
    void theBudgetTasksOwnTeamHasRolesToo(String set, String expected) {
        assertTrue(problems("task: {budget: {agents: 2}}", set).contains("--set " + set + ": " + expected),
                problems("task: {budget: {agents: 2}}", set).toString());
    }

    @Test
    void filesNeedATeam() {
        assertEquals(List.of("c.yaml: team.agents: expected one or more with task.name files, given none"),
                problems("task: {name: files, files: {train: a.jsonl}}"));
    }

    @Test
    void staleRolloutsMayBeWeighted() throws Exception {
        assertEquals(0, load("rollout: {importance_weighting: true, resample_every: 0}").rollout().resampleEvery());
    }

    @ParameterizedTest
    @ValueSource(strings = {"foo", "=1", "a..b=1", "a.=1", "rollout.group[0]=1", "seed.x=1", "rollout=[1"})
    void anOptionMustNameAKey(String set) {
        assertTrue(problems("", set).get(0).startsWith("--set " + set + ": "), set);
    }

    @Test
    void whatIsNoYamlSaysWhere() throws IOException {
        assertEquals(List.of("c.yaml:2:6: no YAML: expected ',' or ']', but got <stream end> (while parsing a flow sequence)"),
                problems("a: [1,\n b: 2"));
        assertTrue(problems("a: &a [*a]").get(0).contains("nested deeper"));
        assertEquals(List.of("c.yaml:1:1: expected keys with values, given [\"a\"]"), problems("- a"));
        final Path bytes = Files.write(folder.resolve("bytes.yaml"), new byte[] {'a', ':', (byte) 0xff});
        assertTrue(assertThrows(ConfigException.class, () -> ConfigFile.read(bytes)).getMessage().contains("UTF-8"));
        assertTrue(assertThrows(ConfigException.class, () -> ConfigFile.read(folder.resolve("none.yaml"))).getMessage()
                .endsWith("none.yaml: no such file"));
    }

    @Test
    void theCommandPrintsTheWholeConfigurationOrTheProblems() throws Exception {
        final Path file = file("seed: 7");
        final Said whole = Said.of(() -> new CommandLine(new CheckConfigCommand()).execute(file.toString(), "--set", "rollout.group=3"));
        assertEquals(new Said(0, ConfigFile.text(load("seed: 7", "rollout.group=3")), ""), whole);
        final Said problem = Said.of(() -> new CommandLine(new CheckConfigCommand()).execute("--set", "rollout.group=1"));
        assertEquals(2, problem.code());
        assertEquals("--set rollout.group=1: rollout.group: expected a whole number of 2 or more, given 1\n", problem.out() + problem.err());
    }

    /** Old files, old options and resolved configurations of old runs mean what they meant, and the new name is said. */
    @Test
    void keysThatWereRenamedAreReadByTheirOldNames(@TempDir Path folder) throws Exception {
        final Path file = folder.resolve("old.yaml");
        Files.writeString(file, "rollout:\n  held_back: 0.5\n  budget: stage\n");
        final Config.Rollout old = ConfigFile.load(file, List.of()).rollout();
        assertEquals(0.5, old.validationFraction());
        assertEquals(Config.PromptsPer.STAGE, old.promptsPer());
        final Config byOption = ConfigFile.load(null, List.of("rollout.held_back=0.25", "rollout={budget: stage}"));
        assertEquals(0.25, byOption.rollout().validationFraction());
        assertEquals(Config.PromptsPer.STAGE, byOption.rollout().promptsPer());
        final Path resolved = folder.resolve("config.yaml");
        Files.writeString(resolved, ConfigFile.text(byOption).replace("validation_fraction", "held_back").replace("prompts_per", "budget"));
        assertEquals(byOption, ConfigFile.read(resolved));

        final ConfigTree tree = new ConfigTree();
        RenamedKeys.in(tree, tree.read("rollout:\n  held_back: 0.5\n", "old.yaml", "", false), "");
        assertEquals(List.of("old.yaml:2:3: rollout.held_back is called rollout.validation_fraction now"), tree.warnings());
    }

    @Test
    void whatIsWrongWithARenamedKeyIsSaidByItsNewName(@TempDir Path folder) throws Exception {
        final Path file = folder.resolve("old.yaml");
        Files.writeString(file, "rollout:\n  held_back: 2\n");
        assertEquals(file + ":2:3: rollout.validation_fraction: expected a number of 0 or more and less than 1, given 2",
                assertThrows(ConfigException.class, () -> ConfigFile.load(file, List.of())).getMessage().lines().filter(l -> l.contains(":2:3"))
                        .findFirst().orElseThrow().strip());
        Files.writeString(file, "rollout:\n  held_back: 0.5\n  validation_fraction: 0.25\n");
        assertTrue(assertThrows(ConfigException.class, () -> ConfigFile.load(file, List.of())).getMessage()
                .contains("rollout.held_back: expected rollout.validation_fraction alone, which is its current name, given both"));
    }

    /** Every old name leads to a key that there is. */
    @Test
    void oldNamesLeadToKeys() throws Exception {
        final Map<String, String> keys = ConfigFile.flat(ConfigFile.load(null, List.of()));
        RenamedKeys.ALL.forEach((old, name) -> {
            assertFalse(keys.containsKey(old), old);
            assertTrue(keys.containsKey(old.substring(0, old.indexOf('.') + 1) + name), name);
        });
    }

    /** Types are written as they are read: the files of a run are files for another one. */
    @Test
    void choicesAreWrittenAsTheyAreRead() throws Exception {
        for (String[] set : new String[][] {
            {"train.order=[solver, planner]", "train.order=reversed"}, {"train.agents=[solver]", "train.agents=all"},
            {"team.router=[planner, solver]", "team.router=random_batch", "team.router=org.example.Own"},
            {"trust_region.delta={planner: 0.1, solver: 1}", "trust_region.delta=.inf"}, {"rollout.truncation=middle"},
            {"trust_region.monitor=k3"}, {"loss.kl_term=exact"}, {"loss.kl_aggregation=token_mean"}, {"task.budget.view=none"}}) {
            for (String option : set) {
                final Config config = ConfigFile.load(null, List.of("task.budget.agents=2", option));
                final int equals = option.indexOf('=');
                assertEquals(ConfigFile.flat(config).get(option.substring(0, equals)) == null, option.contains("={"), option);
                final ConfigTree tree = new ConfigTree();
                assertEquals(config, ConfigFile.of(tree.read(ConfigFile.text(config), "config.yaml", "", false), null, List.of()), option);
            }
        }
        assertEquals(Map.of("planner", 0.1, "solver", 1.0), ConfigFile.load(null, List.of("task.budget.agents=2",
                "trust_region.delta={planner: 0.1, solver: 1}")).trustRegion().delta().byRole());
    }

    /** The warm start measures a team of which nobody is trained. */
    @Test
    void aStagesPromptsAreSharedByItsRollouts() throws Exception {
        final Config.Rollout rollout = ConfigFile.load(null, List.of("rollout.prompts_per=stage", "rollout.prompts=12")).rollout();
        assertEquals(3, rollout.promptsEach(4));
        assertEquals(1, rollout.promptsEach(24));
        assertEquals(12, rollout.promptsEach(0));
    }
}
