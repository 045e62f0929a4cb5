package org.teamtr.torch;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.TreeMap;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.NoGradGuard;
import org.bytedeco.pytorch.Scalar;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledIfSystemProperty;
import org.junit.jupiter.api.io.TempDir;
import org.teamtr.chat.Tokenizer;
import org.teamtr.model.ModelConfig;
import org.teamtr.model.Published;
import org.teamtr.team.Utterance;

/** Log-probs beside those of transformers and PEFT: src/conformance says how to run it. */
@EnabledIfSystemProperty(named = "conformance.python", matches = ".+", disabledReason = "needs torch, transformers and peft in Python")
class ConformanceTest {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final int LENGTH = 48;
    /** Columns beyond the tokenizer's. */
    private static final int PADDED = 8;
    private static final double TOLERANCE = 2e-5;

    @TempDir
    private Path work;
    private final ArrayNode cases = JSON.createArrayNode();
    private final Map<String, float[]> ours = new LinkedHashMap<>();
    private final int[] ids = new SplittableRandom(5).ints(LENGTH, 2, Tiny.VOCAB).toArray();

    @Test
    void logProbsAreThoseOfTransformers() throws Exception {
        for (Map.Entry<String, Path> model : Published.files().entrySet()) {
            final ObjectNode json = Published.shrunk(model.getValue(), Tiny.VOCAB + PADDED);
            if (loads(model.getValue())) {
                model(model.getKey(), json);
            }
        }
        final Map<String, Path> files = Published.files();
        for (String[] variation : new String[][] {
            {"Qwen3-8B", "YaRN as its card says", "rope_scaling", "{\"rope_type\": \"yarn\", \"factor\": 4.0, "
                    + "\"original_max_position_embeddings\": 32}"},
            {"Qwen3-8B", "YaRN beside rope_parameters", "rope_parameters", "{\"rope_type\": \"default\", \"rope_theta\": 1000000}",
                "rope_scaling", "{\"rope_type\": \"yarn\", \"factor\": 4.0, \"original_max_position_embeddings\": 32}"},
            {"Qwen3-8B", "YaRN with all of its numbers", "rope_scaling", "{\"rope_type\": \"yarn\", \"factor\": 8.0, \"beta_fast\": 4, "
                    + "\"beta_slow\": 0.5, \"mscale\": 0.7, \"mscale_all_dim\": 0.3, \"truncate\": false, "
                    + "\"original_max_position_embeddings\": 32}"},
            {"DeepSeek-R1-0528-Qwen3-8B", "attention_factor for attn_factor", "rope_scaling", "{\"rope_type\": \"yarn\", \"factor\": 4.0, "
                    + "\"original_max_position_embeddings\": 32, \"attention_factor\": 0.8782488562869419}"},
            {"Qwen3-4B", "linear positions", "rope_scaling", "{\"type\": \"linear\", \"factor\": 3.0}"},
            {"Qwen3-4B", "dynamic positions", "rope_scaling", "{\"rope_type\": \"dynamic\", \"factor\": 3.0}"},
            {"Qwen3-4B", "as transformers 5 saves it", "rope_parameters", "{\"rope_type\": \"default\", \"rope_theta\": 1000000}",
                "rope_theta", "null"},
            {"Qwen3-4B", "attention_bias", "attention_bias", "true"},
            {"Qwen3-4B", "a window by layer_types", "use_sliding_window", "true", "sliding_window", "5", "layer_types",
                "[\"sliding_attention\", \"full_attention\", \"full_attention\", \"sliding_attention\"]"},
            {"Qwen2.5-7B", "a window from max_window_layers on", "use_sliding_window", "true", "sliding_window", "5"},
            {"Llama-3.1-8B", "attention_bias and mlp_bias", "attention_bias", "true", "mlp_bias", "true"},
            {"Llama-2-7b-chat-hf", "head_dim that is not hidden / heads", "head_dim", "24"}}) {
            final ObjectNode json = Published.shrunk(files.get(variation[0]), Tiny.VOCAB + PADDED);
            for (int i = 2; i < variation.length; i += 2) {
                json.set(variation[i], JSON.readTree(variation[i + 1]));
            }
            model(variation[0] + ", " + variation[1], json);
        }
        ownHead();
        adapter();
        compare();
    }

    private boolean loads(Path config) {
        try {
            ModelConfig.read(config, note -> {});
            return true;
        } catch (IOException e) {
            return false;
        }
    }

    private Path folder(String name) throws IOException {
        final Path folder = Files.createDirectory(work.resolve(name.replaceAll("[^\\w.-]", "_")));
        Tokenizer.writeCharacters(folder, "abcdefghijklmnopqrstuvwxyz .0123456789", List.of("<pad>", "<end>"), "<pad>", "<end>");
        return folder;
    }

    /** A model in a folder with this config.json, and the same with the config.json that this program writes. */
    private void model(String name, ObjectNode json) throws IOException {
        final Path folder = folder(name);
        final Path config = folder.resolve("config.json");
        JSON.writeValue(config.toFile(), json);
        final Path written = folder(name + " as written");
        try (TorchPolicy policy = TorchPolicy.random(folder, Tiny.settings(), 1)) {
            Tiny.scramble(policy.state.weights, name.hashCode());
            policy.save(written);
        }
        Files.copy(written.resolve("model.safetensors"), folder.resolve("model.safetensors"));
        try (TorchPolicy policy = TorchPolicy.load(folder, Tiny.settings())) {
            add(name, folder, policy);
        }
        try (TorchPolicy policy = TorchPolicy.load(written, Tiny.settings())) {
            add(name + ", as written", written, policy);
        }
    }

    /** A config.json that ties the head, and a file with another head. */
    private void ownHead() throws IOException {
        final Path folder = folder("own head");
        final ObjectNode json = Published.shrunk(Published.files().get("Qwen3-4B"), Tiny.VOCAB + PADDED);
        JSON.writeValue(folder.resolve("config.json").toFile(), json.put("tie_word_embeddings", false));
        final Path written = folder("own head as written");
        try (TorchPolicy policy = TorchPolicy.random(folder, Tiny.settings(), 1)) {
            Tiny.scramble(policy.state.weights, 3);
            policy.save(written);
        }
        Files.copy(written.resolve("model.safetensors"), folder.resolve("model.safetensors"));
        JSON.writeValue(folder.resolve("config.json").toFile(), json.put("tie_word_embeddings", true));
        try (TorchPolicy policy = TorchPolicy.load(folder, Tiny.settings())) {
            assertEquals(1, policy.notes().stream().filter(note -> note.contains("lm_head.weight")).count());
            add("Qwen3-4B, tied, with a head of its own", folder, policy);
        }
    }

    private void adapter() throws IOException {
        final Path base = folder("base");
        JSON.writeValue(base.resolve("config.json").toFile(), Published.shrunk(Published.files().get("Qwen3-4B"), Tiny.VOCAB + PADDED));
        final Path written = folder("base as written");
        try (TorchPolicy policy = TorchPolicy.random(base, Tiny.settings(), 1)) {
            Tiny.scramble(policy.state.weights, 4);
            policy.save(written);
        }
        final Path adapter = Files.createDirectory(work.resolve("adapter"));
        try (TorchPolicy policy = TorchPolicy.load(written, Tiny.settings("f32", 1, 3, 8192))) {
            Tiny.scramble(policy.state.weights, 5);
            try (NoGradGuard guard = new NoGradGuard(); PointerScope scope = new PointerScope()) {
                policy.state.weights.master.mul_(new Scalar(0.3)); // log-probs of a size that f32 holds to 2e-5
            }
            policy.save(adapter);
            add("Qwen3-4B, an adapter with PEFT", adapter, policy);
        }
    }

    private void add(String name, Path folder, TorchPolicy policy) {
        final Utterance text = new Utterance(new int[] {ids[0]}, Arrays.copyOfRange(ids, 1, LENGTH), new float[LENGTH - 1], "", false, 0);
        ours.put(name, policy.score(Tiny.batch(List.of(text)), 1, null).logProbs());
        final ObjectNode one = cases.addObject().put("name", name).put("folder", folder.toString()).put("columns", Tiny.VOCAB);
        Arrays.stream(ids).forEach(one.putArray("ids")::add);
    }

    private void compare() throws Exception {
        JSON.writeValue(work.resolve("cases.json").toFile(), cases);
        final Process python = new ProcessBuilder(System.getProperty("conformance.python"), "src/conformance/log_probs.py", work.toString())
                .inheritIO().start();
        assertEquals(0, python.waitFor(), "log_probs.py");
        final JsonNode theirs = JSON.readTree(work.resolve("log_probs.json").toFile());
        final TreeMap<String, Double> differences = new TreeMap<>(String.CASE_INSENSITIVE_ORDER);
        ours.forEach((name, mine) -> {
            double worst = 0;
            for (int i = 0; i < mine.length; i++) {
                worst = Math.max(worst, Math.abs(mine[i] - theirs.path("log_probs").path(name).get(i).asDouble()));
            }
            System.out.printf("%-60s %.1e%n", name, worst);
            differences.put(name, worst);
        });
        final double worst = differences.values().stream().mapToDouble(d -> d).max().orElseThrow();
        assertTrue(worst <= TOLERANCE, "off by " + worst);
        if (Boolean.getBoolean("conformance.write")) {
            final ObjectNode results = JSON.createObjectNode();
            results.set("versions", theirs.path("versions"));
            final ObjectNode all = results.putObject("differences");
            differences.forEach((name, d) -> {
                if (name.endsWith(", as written")) {
                    all.put(name.replace(", as written", ""), Math.max(d, differences.get(name.replace(", as written", ""))));
                } else if (!all.has(name)) {
                    all.put(name, d);
                }
            });
            Files.write(Path.of("src/conformance/results.json"), JSON.writerWithDefaultPrettyPrinter().writeValueAsBytes(results));
        }
    }
}
