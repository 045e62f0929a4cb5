package org.teamtr.config;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.teamtr.chat.Tokenizer;
import org.teamtr.model.ModelConfig;
import org.teamtr.train.Config;

/** What a run is said to need, of sizes that are never loaded here. */
class MemoryPlanTest {
    /** Of Qwen3-0.6B: 596,049,920 of them. */
    private static final double PARAMETERS = 596_049_920;

    @TempDir
    private Path folder;

    /** The plan of a process that has no memory yet. The one that runs the tests grows with them. */
    private static MemoryPlan plan(Config config, int processes) throws IOException {
        return MemoryPlan.of(config, processes, processes, 0);
    }

    private MemoryPlan plan(String... sets) throws IOException, ConfigException {
        return plan(configuration(sets), 1);
    }

    private Config configuration(String... sets) throws IOException, ConfigException {
        final Path model = Files.createDirectories(folder.resolve("model"));
        Tokenizer.writeCharacters(model, "abcdefghijklmnopqrstuvwxyz .0123456789:\n", List.of("<pad>", "<end>"), "<pad>", "<end>");
        ModelConfig.qwen3(151_936, 1024, 3072, 28, 16, 8, 128, 40_960).write(model.resolve("config.json"), "bfloat16", 1);
        final Path prompts = Files.writeString(folder.resolve("prompts.jsonl"), """
                {"question": "how many apples", "answer": "1"}
                {"question": "how many apples are left", "answer": "2"}
                """);
        final Path file = Files.writeString(folder.resolve("run.yaml"), """
                task: {name: files, files: {train: %s, verifier: number}}
                team:
                  agents:
                    - {role: a, policy: a, template: "{prompt}", message: "{text}"}
                    - {role: b, policy: b, template: "{prompt}{transcript}", message: "{text}"}
                    - {role: c, policy: c, template: "{prompt}{transcript}", message: "{text}"}
                policies: {a: {model: %s, dtype: f16}, b: {model: %s, dtype: f16}, c: {model: %s, dtype: f16}}
                rollout: {prompts: 24, group: 8, max_new_tokens: 128}
                hardware: {device: cuda, memory: {device: 24, host: 64}}
                """.formatted(prompts, model, model, model));
        return Setup.resolved(ConfigFile.load(file, Arrays.asList(sets)));
    }

    private static double gigabytes(MemoryPlan plan, String row, int column) {
        final String line = plan.table().lines().filter(l -> l.startsWith(row)).findFirst().orElseThrow();
        final String[] numbers = line.substring(52).strip().split(" +");
        return numbers[column].equals("-") ? 0 : Double.parseDouble(numbers[column]);
    }

    /** The configuration that docs/memory.md names beside its figures. */
    @Test
    void thePageOnMemorySaysWhatTheTableDoes() throws Exception {
        final MemoryPlan small = plan("certificate.bound=paper", "trust_region.monitor_dtype=f32", "optimiser.micro_batch_tokens=1024");
        final MemoryPlan large = plan("certificate.bound=paper", "trust_region.monitor_dtype=f32", "optimiser.micro_batch_tokens=16384");
        final Matcher said = Pattern.compile("says ([0-9.]+) GB of the device and ([0-9.]+) GB of the host with `micro_batch_tokens: 1024`,"
                + " and ([0-9.]+) GB of the device with 16,384").matcher(Files.readString(Path.of("docs/memory.md")));
        assertTrue(said.find());
        assertEquals(Double.parseDouble(said.group(1)), 1e-9 * small.most()[0], 0.051);
        assertEquals(Double.parseDouble(said.group(2)), 1e-9 * small.most()[1], 0.051);
        assertEquals(Double.parseDouble(said.group(3)), 1e-9 * large.most()[0], 0.051);
    }

    @Test
    void threePoliciesOfSixHundredMillionFitIntoTwentyFourGigabytes() throws Exception {
        final MemoryPlan plan = plan("optimiser.micro_batch_tokens=1024");
        plan.check();
        assertTrue(plan.most()[0] < 24e9, plan.table());
        assertEquals(2 * PARAMETERS * 1e-9, gigabytes(plan, "b: weights", 0), 0.01);
        assertEquals(12 * PARAMETERS * 1e-9, gigabytes(plan, "b: f32 weights, optimiser", 1), 0.01);
        assertEquals(4 * PARAMETERS * 1e-9, gigabytes(plan, "learning: gradient ", 0), 0.01);
        // 28 layers, keys and values of 8 heads of 128 numbers of 2 bytes
        assertEquals(28 * 2 * 8 * 128 * 2.0 * 192 * (24 + 16 + 2 * 136 + 128) * 1e-9,
                gigabytes(plan, "generating: keys and values", 0), 0.05);
    }

    @Test
    void whatCannotFitIsRefusedWithSettingsThatDo() throws Exception {
        final String wrong = assertThrows(ConfigException.class, () -> plan().check()).getMessage();
        assertTrue(wrong.startsWith("memory: expected at most 24.0 GB of the device, given a need of"), wrong);
        assertTrue(wrong.endsWith("It fits with optimiser.micro_batch_tokens 2048")
                || wrong.endsWith("It fits with optimiser.micro_batch_tokens 1024"), wrong);
        plan("optimiser.micro_batch_tokens=" + wrong.replaceAll(".* ", "")).check();
        final String apart = assertThrows(ConfigException.class, () -> plan("hardware.memory.offload=false",
                "optimiser.micro_batch_tokens=1024").check()).getMessage();
        assertTrue(apart.contains("It fits with hardware.memory.offload true"), apart);
        final String small = assertThrows(ConfigException.class, () -> plan("hardware.memory.device=10").check()).getMessage();
        assertTrue(small.contains("policies.<name>.lora.rank"), small);
        final String rows = assertThrows(ConfigException.class, () -> plan("optimiser.micro_batch_tokens=1024",
                "rollout.prompts=96").check()).getMessage();
        assertTrue(rows.contains("hardware.memory.rows"), rows);
        final String host = assertThrows(ConfigException.class, () -> plan("hardware.memory.host=8").check()).getMessage();
        assertTrue(host.contains("of the host"), host);
    }

    /** Three vectors of 4 bytes a parameter: 2,384,199,680 bytes are rounded up to 2^32. The device has what it had. */
    @Test
    void pageLockedMemoryComesInPowersOfTwo() throws Exception {
        final MemoryPlan plan = plan("optimiser.micro_batch_tokens=1024");
        final MemoryPlan pinned = plan("optimiser.micro_batch_tokens=1024", "hardware.memory.pinned=true");
        assertEquals(3 * 0x1p32 * 1e-9, gigabytes(pinned, "b: f32 weights, optimiser", 1), 0.01);
        assertEquals(plan.most()[0], pinned.most()[0]);
        // a policy to measure from and to go back to, and those before and after an update: 36 bytes a parameter
        assertEquals(9 * 0x1p32 * 1e-9, gigabytes(pinned, "learning: copies for roll-back", 1), 0.01);
        assertEquals(36 * PARAMETERS * 1e-9, gigabytes(plan, "learning: copies for roll-back", 1), 0.01);
        assertEquals(plan("hardware.memory.offload=false").most()[1],
                plan("hardware.memory.offload=false", "hardware.memory.pinned=true").most()[1], "nothing goes there");
    }

    /** Of a single step, the policy before the update is also what it is undone to. */
    @Test
    void copiesAreThoseThatAnUpdateMakes() throws Exception {
        for (String[] steps : new String[][] {{"4", "36", "16"}, {"1", "24", "12"}}) {
            for (int paper = 0; paper < 2; paper++) {
                final MemoryPlan plan = plan("optimiser.micro_batch_tokens=1024", "optimiser.steps=" + steps[0],
                        "certificate.bound=" + (paper == 0 ? "horizon" : "paper"));
                assertEquals(Integer.parseInt(steps[1 + paper]) * PARAMETERS * 1e-9, gigabytes(plan, "learning: copies for roll-back", 1), 0.01,
                        plan.table());
            }
        }
    }

    /** What no machine has is refused, and not taken for little. */
    @Test
    void hugeNumbersStayNumbers() throws Exception {
        for (String huge : List.of("rollout.prompts=200000000", "rollout.max_new_tokens=2147483647", "eval.prompts=2147483647",
                "certificate.prompts=2147483647", "team.turns=2147483647", "optimiser.micro_batch_tokens=2147483647")) {
            final MemoryPlan plan = plan("hardware.device=cpu", "rollout.group=8", huge);
            assertTrue(plan.most()[1] > 30e9, huge + "\n" + plan.table());
            assertFalse(plan.table().contains(" -"), huge + "\n" + plan.table());
        }
        assertTrue(assertThrows(ConfigException.class, () -> configuration("rollout.prompts=300000000")).getMessage().contains(
                "rollout.group: expected at most 2,147,483,647 episodes with rollout.prompts = 300,000,000, given 8 for each"));
    }

    @Test
    void whoDoesNotLearnHasNoMoments() throws Exception {
        final MemoryPlan plan = plan("optimiser.micro_batch_tokens=1024", "train.agents=[a, b]");
        assertEquals(12 * PARAMETERS * 1e-9, gigabytes(plan, "b: f32 weights, optimiser", 1), 0.01);
        assertEquals(4 * PARAMETERS * 1e-9, gigabytes(plan, "c: f32 weights", 1), 0.01);
    }

    @Test
    void keptLogitsAreCountedOnTheCpuAndGivenUpFirst() throws Exception {
        final String row = "learning: logits of the old policy";
        final String[] sets = {"hardware.device=cpu", "optimiser.micro_batch_tokens=1024", "hardware.memory.host=256", "hardware.memory.logits=3"};
        final MemoryPlan plan = plan(sets);
        assertEquals(3, gigabytes(plan, row, 0), 0.01);
        sets[3] = "hardware.memory.logits=1000"; // all there are
        assertEquals(24L * 8 * 128 * 151_936 * 4e-9, gigabytes(plan(sets), row, 0), 0.01);
        sets[3] = "hardware.memory.logits=0";
        final MemoryPlan without = plan(sets);
        assertFalse(without.table().contains(row), without.table());
        assertFalse(plan("optimiser.micro_batch_tokens=1024").table().contains(row), "on a GPU nothing is kept");
        sets[2] = "hardware.memory.host=" + (without.most()[1] * 1e-9 + 0.1);
        plan(sets).check();
        sets[3] = "hardware.memory.logits=3";
        final String refused = assertThrows(ConfigException.class, () -> plan(sets).check()).getMessage();
        assertTrue(refused.endsWith("It fits with hardware.memory.logits 0"), refused);
    }

    @Test
    void adaptersShareTheirModel() throws Exception {
        final MemoryPlan plan = plan("policies.a.lora.rank=16", "policies.b.lora.rank=16", "policies.c.lora.rank=16",
                "optimiser.micro_batch_tokens=1024");
        assertEquals(2 * PARAMETERS * 1e-9, gigabytes(plan, "a: weights", 0), 0.05);
        assertTrue(gigabytes(plan, "b: weights", 0) < 0.05, plan.table());
        assertTrue(plan.most()[0] < 17e9, plan.table());
    }

    /** A policy on a GPU of its own: a column for each, and what is there is not on the other. */
    @Test
    void policiesOnTwoDevices() throws Exception {
        final MemoryPlan one = plan("optimiser.micro_batch_tokens=1024");
        final MemoryPlan two = plan("optimiser.micro_batch_tokens=1024", "policies.a.device=cuda:0", "policies.b.device=cuda:0",
                "policies.c.device=cuda:1");
        assertTrue(two.table().lines().findFirst().orElseThrow().endsWith("  cuda:0   cuda:1     host"), two.table());
        assertEquals(2 * PARAMETERS * 1e-9, gigabytes(two, "b: weights", 0), 0.01);
        assertEquals(0, gigabytes(two, "b: weights", 1));
        assertEquals(2 * PARAMETERS * 1e-9, gigabytes(two, "c: weights", 1), 0.01);
        assertEquals(gigabytes(one, "learning: gradient ", 0), gigabytes(two, "learning: gradient on cuda:1", 1));
        assertEquals(one.most()[0] - 1.05 * 2 * PARAMETERS, two.most()[0], 0.01e9); // without c's weights
        final String wrong =
                assertThrows(ConfigException.class, () -> plan("policies.c.device=cuda:1", "hardware.memory.host=256").check()).getMessage();
        assertTrue(wrong.matches("memory: expected at most 24.0 GB of device cuda:0, given a need of .*"), wrong);
        final MemoryPlan host = plan("optimiser.micro_batch_tokens=1024", "policies.a.device=cpu");
        assertEquals(2 * PARAMETERS * 1e-9, gigabytes(host, "a: weights", 1), 0.01);
    }

    /** Of four processes each keeps a quarter of what the optimiser needs, and generates a quarter of the messages. */
    @Test
    void shardsOfFourProcesses() throws Exception {
        final String[] sets = {"optimiser.micro_batch_tokens=1024", "hardware.ranks.shard=true", "hardware.memory.host=256"};
        final MemoryPlan one = plan(sets);
        final MemoryPlan four = plan(configuration(sets), 4);
        assertEquals(gigabytes(one, "b: f32 weights, optimiser", 1) / 4, gigabytes(four, "b: f32 weights, optimiser", 1), 0.01);
        assertEquals(gigabytes(one, "learning: f32 weights, optimiser", 0) / 4, gigabytes(four, "learning: f32 weights, optimiser", 0), 0.01);
        assertEquals(gigabytes(one, "learning: gradient ", 0), gigabytes(four, "learning: gradient ", 0));
        assertEquals(gigabytes(one, "generating: keys and values", 0) / 4, gigabytes(four, "generating: keys and values", 0), 0.05);
        assertEquals(64, gigabytes(four, "there is", 1), 0.01); // the machine's memory is shared
        final MemoryPlan whole = plan(configuration("optimiser.micro_batch_tokens=1024"), 4);
        assertEquals(12 * PARAMETERS * 1e-9, gigabytes(whole, "b: f32 weights, optimiser", 1), 0.01);
    }

    /** Qwen3-8B's sizes, all weights trained: what docs/devices.md says of 8 GPUs of 24 GB. */
    @Test
    void eightBillionParametersTrainOnEightDevicesOfTwentyFourGigabytes() throws Exception {
        for (String shard : List.of("none", "state", "gradients", "weights")) {
            final MemoryPlan plan = plan(eightBillion(shard), 8);
            if (shard.equals("weights")) {
                plan.check();
                final double n = 8_190_735_360.0;
                assertEquals(2 * n * 1e-9, gigabytes(plan, "solver: weights", 0), 0.01);
                assertEquals(2 * n / 8 * 1e-9, gigabytes(plan, "learning: weights, a rank's part", 0), 0.01);
                assertEquals(4 * n / 8 * 1e-9, gigabytes(plan, "learning: gradient ", 0), 0.01);
                assertEquals(12 * n / 8 * 1e-9, gigabytes(plan, "solver: f32 weights, optimiser", 1), 0.01);
                // the head: gathered in 16 bits, and f32 sums of it, one of all micro-batches and one of a micro-batch
                assertEquals(151_936L * 4096 * (2 + 4 + 4) * 1e-9, gigabytes(plan, "learning: weights, gradients of a layer", 0), 0.01);
            } else {
                assertThrows(ConfigException.class, plan::check, shard);
            }
        }
    }

    private Config eightBillion(String shard) throws IOException, ConfigException {
        final Path model = Files.createDirectories(folder.resolve("model-8b"));
        Tokenizer.writeCharacters(model, "abcdefghijklmnopqrstuvwxyz .0123456789:\n", List.of("<pad>", "<end>"), "<pad>", "<end>");
        ModelConfig.qwen3(151_936, 4096, 12_288, 36, 32, 8, 128, 40_960).untied().write(model.resolve("config.json"), "bfloat16", 1);
        final Path prompts = Files.writeString(folder.resolve("prompts.jsonl"), "{\"question\": \"how many apples\", \"answer\": \"1\"}\n");
        return Setup.resolved(ConfigFile.load(Files.writeString(folder.resolve("run-8b.yaml"), """
                task: {name: files, files: {train: %s, verifier: number}}
                team: {agents: [{role: solver, policy: solver, template: "{prompt}", message: "{text}"}]}
                policies: {solver: {model: %s, dtype: bf16}}
                trust_region: {monitor: k3}
                rollout: {prompts: 16, group: 8, max_new_tokens: 512}
                certificate: {bound: paper}
                optimiser: {micro_batch_tokens: 1024}
                hardware: {device: cuda, memory: {device: 24, host: 512}, ranks: {shard: %s}}
                """.formatted(prompts, model, shard)), List.of()));
    }

    @Test
    void whatThisProcessHasIsCountedAsNeededAndAsThere() throws Exception {
        final Config config = configuration("hardware.memory.host=0", "optimiser.micro_batch_tokens=1024");
        final MemoryPlan young = MemoryPlan.of(config, 1, 1, 1_000_000_000);
        final MemoryPlan old = MemoryPlan.of(config, 1, 1, 3_000_000_000L);
        assertEquals(1, gigabytes(young, "this process", 1), 0.01);
        assertEquals(1.05 * 2e9, old.most()[1] - young.most()[1], 2);
        assertTrue(gigabytes(MemoryPlan.of(config), "this process", 1) > 0.4);
    }

    @Test
    void theBuiltInModelsNeedNoPlan() throws Exception {
        assertNull(MemoryPlan.of(Setup.resolved(ConfigFile.load(null, List.of()))));
    }
}
