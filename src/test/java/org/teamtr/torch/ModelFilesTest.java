package org.teamtr.torch;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assertions.fail;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.TreeSet;
import java.util.stream.Stream;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch.ScalarType;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.teamtr.chat.Tokenizer;
import org.teamtr.kernels.SurrogateConfig;
import org.teamtr.model.SafeTensors;
import org.teamtr.team.ChatTurn;
import org.teamtr.team.Utterance;
import org.teamtr.train.Batch;

/** A checkpoint in the Hugging Face layout, its bytes written here. */
class ModelFilesTest {
    /** That of {@link Tiny#qwen3} with two layers. */
    private static final String CONFIG = """
            {"architectures": ["Qwen3ForCausalLM"], "attention_bias": false, "head_dim": 10, "hidden_act": "silu", "hidden_size": 32,
             "intermediate_size": 48, "max_position_embeddings": 96, "model_type": "qwen3", "num_attention_heads": 4,
             "num_hidden_layers": 2, "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_scaling": null, "rope_theta": 1000000,
             "tie_word_embeddings": true, "torch_dtype": "float32", "use_sliding_window": false, "vocab_size": 40}
            """;
    private static final int HIDDEN = 32;
    /** The keys of the adapter_config.json of published LoRA adapters, as PEFT 0.14 writes them. */
    private static final List<String> PUBLISHED_ADAPTER = List.of("alpha_pattern", "auto_mapping", "base_model_name_or_path", "bias",
            "fan_in_fan_out", "inference_mode", "init_lora_weights", "layer_replication", "layers_pattern", "layers_to_transform",
            "loftq_config", "lora_alpha", "lora_bias", "lora_dropout", "megatron_config", "megatron_core", "modules_to_save", "peft_type", "r",
            "rank_pattern", "revision", "target_modules", "task_type", "use_dora", "use_rslora");

    @TempDir
    private Path temp;
    private Path folder;
    private Path saved;

    /** A tensor of a checkpoint. */
    private record Given(int[] shape, float[] values) {
    }

    @BeforeEach
    void folders() throws IOException {
        folder = Files.createDirectory(temp.resolve("model"));
        saved = Files.createDirectory(temp.resolve("saved"));
        Tiny.tokenizer(folder).close();
        Files.writeString(folder.resolve("config.json"), CONFIG);
    }

    private static Map<String, Given> checkpoint() {
        final Map<String, Given> tensors = new LinkedHashMap<>();
        add(tensors, "model.embed_tokens.weight", 40, HIDDEN);
        for (int i = 0; i < 2; i++) {
            final String layer = "model.layers." + i + ".";
            add(tensors, layer + "self_attn.q_proj.weight", 40, HIDDEN);
            add(tensors, layer + "self_attn.k_proj.weight", 20, HIDDEN);
            add(tensors, layer + "self_attn.v_proj.weight", 20, HIDDEN);
            add(tensors, layer + "self_attn.o_proj.weight", HIDDEN, 40);
            add(tensors, layer + "self_attn.q_norm.weight", 10);
            add(tensors, layer + "self_attn.k_norm.weight", 10);
            add(tensors, layer + "mlp.gate_proj.weight", 48, HIDDEN);
            add(tensors, layer + "mlp.up_proj.weight", 48, HIDDEN);
            add(tensors, layer + "mlp.down_proj.weight", HIDDEN, 48);
            add(tensors, layer + "input_layernorm.weight", HIDDEN);
            add(tensors, layer + "post_attention_layernorm.weight", HIDDEN);
        }
        add(tensors, "model.norm.weight", HIDDEN);
        return tensors;
    }

    private static void add(Map<String, Given> tensors, String name, int... shape) {
        final SplittableRandom random = new SplittableRandom(name.hashCode());
        final float[] values = new float[Arrays.stream(shape).reduce(1, (a, b) -> a * b)];
        for (int i = 0; i < values.length; i++) {
            values[i] = (float) (shape.length == 1 ? 1 + 0.3 * random.nextGaussian() : 0.2 * random.nextGaussian());
        }
        tensors.put(name, new Given(shape, values));
    }

    /** The safetensors format: the header's length, the header, the data. */
    private static void write(Path file, Map<String, Given> tensors, String dtype) throws IOException {
        final StringBuilder header = new StringBuilder("{\"__metadata__\": {\"format\": \"pt\"}");
        final ByteArrayOutputStream data = new ByteArrayOutputStream();
        for (Map.Entry<String, Given> t : tensors.entrySet()) {
            final int from = data.size();
            data.write(bytes(t.getValue().values(), dtype));
            header.append(", \"").append(t.getKey()).append("\": {\"dtype\": \"").append(dtype).append("\", \"shape\": ")
                    .append(Arrays.toString(t.getValue().shape())).append(", \"data_offsets\": [").append(from).append(", ")
                    .append(data.size()).append("]}");
        }
        while (header.length() % 8 != 7) {
            header.append(' ');
        }
        final byte[] json = header.append('}').toString().getBytes(StandardCharsets.UTF_8);
        final ByteBuffer all = ByteBuffer.allocate(8 + json.length + data.size()).order(ByteOrder.LITTLE_ENDIAN);
        all.putLong(json.length).put(json).put(data.toByteArray());
        Files.write(file, all.array());
    }

    private static byte[] bytes(float[] values, String dtype) {
        final ByteBuffer out = ByteBuffer.allocate(values.length * (dtype.equals("F32") ? 4 : 2)).order(ByteOrder.LITTLE_ENDIAN);
        if (dtype.equals("F32")) {
            out.asFloatBuffer().put(values);
        } else if (dtype.equals("BF16")) {
            for (float v : values) {
                out.putShort((short) (Float.floatToRawIntBits(v) >>> 16)); // cut, not rounded: as good a checkpoint as any
            }
        } else {
            try (PointerScope scope = new PointerScope()) {
                final Tensor half = Tensor.create(values, values.length).to(ScalarType.Half);
                out.put(ModelFiles.bytes(half));
            }
        }
        return out.array();
    }

    /** What a file holds of a value, up to {@link #error}. */
    private static float held(float value, String dtype) {
        return dtype.equals("BF16") ? Float.intBitsToFloat(Float.floatToRawIntBits(value) & 0xFFFF0000) : value;
    }

    /** F16 rounds to 11 bits, and below 2^-14 to multiples of 2^-24. */
    private static double error(float value, String dtype) {
        return dtype.equals("F16") ? Math.max(Math.abs(value) / 2048, Math.scalb(1.0, -25)) : 0;
    }

    private TorchPolicy load() throws IOException {
        return TorchPolicy.load(folder, Tiny.settings());
    }

    private static void train(TorchPolicy policy, long seed) {
        final Batch batch = Tiny.batch(policy, 5, 8, seed);
        policy.gradient(batch, 0.8, SurrogateConfig.PAPER, null);
        policy.step(1e-3);
    }

    private static TreeSet<String> files(Path folder) throws IOException {
        try (Stream<Path> files = Files.list(folder)) {
            final TreeSet<String> names = new TreeSet<>();
            files.forEach(f -> names.add(f.getFileName().toString()));
            return names;
        }
    }

    /** Two shards and an index instead of one file. */
    private void writeShards(Map<String, Given> tensors, String dtype) throws IOException {
        final Map<String, Given> first = new LinkedHashMap<>();
        final Map<String, Given> second = new LinkedHashMap<>();
        final List<String> map = new ArrayList<>();
        tensors.forEach((name, t) -> {
            final boolean left = first.size() <= second.size();
            (left ? first : second).put(name, t);
            map.add("\"" + name + "\": \"model-0000" + (left ? 1 : 2) + "-of-00002.safetensors\"");
        });
        write(folder.resolve("model-00001-of-00002.safetensors"), first, dtype);
        write(folder.resolve("model-00002-of-00002.safetensors"), second, dtype);
        Files.writeString(folder.resolve("model.safetensors.index.json"),
                "{\"metadata\": {\"total_size\": 1}, \"weight_map\": {" + String.join(", ", map) + "}}");
    }

    @ParameterizedTest
    @CsvSource({"F32, false", "F16, false", "BF16, false", "F32, true", "BF16, true"})
    void loadsGeneratesTrainsSavesAndReloadsToTheSameBits(String dtype, boolean sharded) throws IOException {
        final Map<String, Given> tensors = checkpoint();
        if (sharded) {
            writeShards(tensors, dtype);
        } else {
            write(folder.resolve("model.safetensors"), tensors, dtype);
        }
        try (TorchPolicy policy = load()) {
            assertEquals(Tiny.qwen3(2), policy.config);
            assertEquals(tensors.keySet(), policy.state.weights.compute().keySet());
            tensors.forEach((name, t) -> {
                final float[] given = Tiny.floats(policy.state.weights.compute().get(name));
                for (int i = 0; i < given.length; i++) {
                    assertEquals(held(t.values()[i], dtype), given[i], error(t.values()[i], dtype), name + "[" + i + "]");
                }
            });
            final DecoderReference reference = new DecoderReference(policy.config, Tiny.doubles(policy.state.weights));
            final int[] prompt = policy.tokenizer.encode("abc");
            final Utterance message = policy.generate(List.of(prompt), Tiny.generation(1, 5), 1, new long[1]).get(0);
            final double[] row = reference.logits(prompt)[2];
            assertEquals(row[message.tokens()[0]] - Math.log(Arrays.stream(row).map(Math::exp).sum()), message.logProbs()[0], 1e-5);

            train(policy, 1);
            train(policy, 2);
            policy.save(saved);
            assertEquals(new TreeSet<>(List.of("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
                    "training.safetensors")), files(saved));
            try (TorchPolicy resumed = TorchPolicy.load(saved, Tiny.settings()); TorchPolicy other = load()) {
                assertEquals(policy.fingerprint(), resumed.fingerprint());
                assertArrayEquals(Tiny.floats(policy.state.weights.master), Tiny.floats(resumed.state.weights.master));
                assertEquals(0, resumed.version(), "a model is the start of a run");
                other.load(saved);
                assertEquals(2, other.version());
                assertEquals(2, other.state.optimiser.steps);
                assertThrows(IllegalStateException.class, () -> other.step(1));
                train(policy, 3);
                train(other, 3);
                assertEquals(policy.version(), other.version());
                assertArrayEquals(Tiny.floats(policy.state.weights.master), Tiny.floats(other.state.weights.master), "goes on to the same bits");
                assertNotEquals(policy.fingerprint(), resumed.fingerprint());
                assertArrayEquals(Tiny.floats(policy.state.optimiser.square), Tiny.floats(other.state.optimiser.square));
            }
        }
    }

    @Test
    void bf16TrainingGoesOnFromTheWeightsBelowTheRounding() throws IOException {
        write(folder.resolve("model.safetensors"), checkpoint(), "BF16");
        try (TorchPolicy policy = TorchPolicy.load(folder, Tiny.settings("bf16", 1, 0, 8192));
                TorchPolicy other = TorchPolicy.load(folder, Tiny.settings("bf16", 1, 0, 8192))) {
            train(policy, 1);
            policy.save(saved);
            other.load(saved);
            assertEquals(policy.fingerprint(), other.fingerprint());
            train(policy, 2);
            train(other, 2);
            assertEquals(policy.fingerprint(), other.fingerprint());
        }
        assertTrue(Files.readString(saved.resolve("config.json")).contains("bfloat16"));
        try (SafeTensors tensors = SafeTensors.open(saved)) {
            assertEquals("BF16", tensors.entry("model.norm.weight").dtype());
        }
    }

    @Test
    void headBesideTiedEmbeddingsIsAccepted() throws IOException {
        final Map<String, Given> tensors = checkpoint();
        tensors.put("lm_head.weight", tensors.get("model.embed_tokens.weight"));
        write(folder.resolve("model.safetensors"), tensors, "F32");
        try (TorchPolicy policy = load()) {
            assertFalse(policy.state.weights.compute().containsKey("lm_head.weight"));
        }
        Files.writeString(folder.resolve("config.json"),
                CONFIG.replace("\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false"));
        try (TorchPolicy policy = load()) {
            assertTrue(policy.state.weights.compute().containsKey("lm_head.weight"));
        }
    }

    @Test
    void headThatDiffersFromATiedEmbeddingIsUsed() throws IOException {
        final Map<String, Given> tensors = checkpoint();
        add(tensors, "lm_head.weight", 40, HIDDEN);
        write(folder.resolve("model.safetensors"), tensors, "BF16");
        try (TorchPolicy policy = load()) {
            assertFalse(policy.config.embedding().tied());
            assertEquals(1, policy.notes().stream().filter(n -> n.contains("lm_head.weight differs from model.embed_tokens.weight")).count());
            assertEquals(policy.config, ModelPreview.config(folder, true, note -> {}), "what memory is counted by, before it is loaded");
            final List<String> notes = new ArrayList<>();
            ModelPreview.open(folder, false, null, true, problem -> fail(problem), notes::add).close();
            assertEquals(policy.notes(), notes, "said before it is loaded as well");
            final int[] prompt = policy.tokenizer.encode("abc");
            final Utterance message = policy.generate(List.of(prompt), Tiny.generation(1, 1), 1, new long[1]).get(0);
            final double[] row = new DecoderReference(policy.config, Tiny.doubles(policy.state.weights)).logits(prompt)[2];
            assertEquals(row[message.tokens()[0]] - Math.log(Arrays.stream(row).map(Math::exp).sum()), message.logProbs()[0], 1e-5);
            policy.save(saved);
            try (TorchPolicy again = TorchPolicy.load(saved, Tiny.settings())) {
                assertEquals(policy.fingerprint(), again.fingerprint());
                assertEquals(policy.config, again.config);
            }
            policy.load(saved);
        }
    }

    /** Tables for 1,073,741,824 positions would take 80 GB. */
    @Test
    void aLongContextCostsNothing() throws IOException {
        write(folder.resolve("model.safetensors"), checkpoint(), "F32");
        Files.writeString(folder.resolve("config.json"),
                CONFIG.replace("\"max_position_embeddings\": 96", "\"max_position_embeddings\": 1073741824"));
        try (TorchPolicy policy = load()) {
            assertEquals(1 << 30, policy.contextLength());
            assertTrue(policy.generate(List.of(new int[] {5, 6}), Tiny.generation(1, 3), 1, new long[1]).get(0).tokens().length > 0);
        }
    }

    @Test
    void aNameOfTheHubIsToldFromAFolder() throws IOException {
        final String name = message(() -> TorchPolicy.load(Path.of("Qwen/Qwen3-0.6B"), Tiny.settings()));
        assertTrue(name.startsWith("Qwen/Qwen3-0.6B: there is no such folder") && name.endsWith(
                "hf download Qwen/Qwen3-0.6B --local-dir Qwen3-0.6B, then give the folder Qwen3-0.6B"), name);
        final String place = message(() -> TorchPolicy.load(Path.of("models/Qwen3-0.6B"), Tiny.settings()));
        assertTrue(place.startsWith("models/Qwen3-0.6B: there is no such folder") && !place.contains("hf download"), "a place for models: " + place);
        final Path file = Files.writeString(temp.resolve("model.gguf"), "GGUF");
        assertTrue(message(() -> TorchPolicy.load(file, Tiny.settings())).startsWith(file + ": expected a model folder"));
        final Path missing = temp.resolve("none");
        final String path = message(() -> TorchPolicy.random(missing, Tiny.settings(), 1));
        assertTrue(path.startsWith(missing + ": there is no such folder") && !path.contains("hf download"), path);
    }

    @Test
    void pointersOfGitLfsAreNamedAsSuch() throws IOException {
        final String pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0000\nsize 988097824\n";
        Files.writeString(folder.resolve("model.safetensors"), pointer);
        assertNames(folder.resolve("model.safetensors"), "this is a Git LFS pointer, not the file itself; run git lfs pull");
        write(folder.resolve("model.safetensors"), checkpoint(), "F32");
        Files.writeString(folder.resolve("tokenizer.json"), pointer);
        assertNames(folder.resolve("tokenizer.json"), "this is a Git LFS pointer");
    }

    /** The turns stand apart, and the text begins as the tokenizer's texts do. */
    @Test
    void promptsWithoutAChatTemplate() throws IOException {
        write(folder.resolve("model.safetensors"), checkpoint(), "F32");
        final Path file = folder.resolve("tokenizer.json");
        final ObjectNode tokenizer = (ObjectNode) new ObjectMapper().readTree(file.toFile());
        ((ObjectNode) tokenizer.path("model").path("vocab")).remove("9");
        ((ObjectNode) tokenizer.path("model").path("vocab")).put("\n", 39);
        tokenizer.set("post_processor", new ObjectMapper().readTree("""
                {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<pad>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                 "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                 "special_tokens": {"<pad>": {"id": "<pad>", "ids": [0], "tokens": ["<pad>"]}}}"""));
        new ObjectMapper().writeValue(file.toFile(), tokenizer);
        final List<ChatTurn> turns = List.of(new ChatTurn("system", "ab"), new ChatTurn("user", "c"));
        try (TorchPolicy policy = load()) {
            assertArrayEquals(new int[] {0, 2, 3, 39, 4}, policy.encode(turns));
            assertEquals(List.of(folder + ": there is no chat template; the turns of a prompt are joined by line breaks, with the"
                    + " tokenizer's <pad>"), policy.notes());
        }
        final Path config = folder.resolve("tokenizer_config.json");
        Files.writeString(config, "{\"eos_token\": \"<end>\", \"add_bos_token\": false, \"bos_token\": \"<pad>\"}");
        try (TorchPolicy policy = load()) {
            assertArrayEquals(new int[] {2, 3, 39, 4}, policy.encode(turns), "add_bos_token says so");
        }
        Files.writeString(config, "{\"eos_token\": \"<end>\", \"chat_template\": \"{{ messages[-1].content }}<end>\"}");
        try (TorchPolicy policy = load()) {
            assertArrayEquals(new int[] {4, 1}, policy.encode(turns), "a template writes its own");
            assertEquals(List.of(), policy.notes());
        }
    }

    private static String message(Executable call) {
        return assertThrows(IOException.class, call).getMessage();
    }

    private void assertNames(Path file, String... parts) {
        final String message = message(this::load);
        assertTrue(message.startsWith(file.toString()), message);
        for (String part : parts) {
            assertTrue(message.contains(part), message);
        }
    }

    @Test
    void wrongTensorsAreNamed() throws IOException {
        final Path file = folder.resolve("model.safetensors");
        final String name = "model.layers.1.mlp.up_proj.weight";
        final Map<String, Given> wrong = checkpoint();
        wrong.put(name, new Given(new int[] {32, 48}, wrong.get(name).values()));
        write(file, wrong, "F32");
        assertNames(file, name + ": expected shape [48, 32], given [32, 48]");

        final Map<String, Given> missing = checkpoint();
        missing.remove(name);
        write(file, missing, "F32");
        assertNames(file, name);

        final Map<String, Given> extra = checkpoint();
        add(extra, "model.layers.0.self_attn.q_proj.bias", 40);
        write(file, extra, "F32");
        assertNames(file, "model.layers.0.self_attn.q_proj.bias");

        final Map<String, Given> deeper = checkpoint();
        add(deeper, "model.layers.2.input_layernorm.weight", HIDDEN);
        writeShards(deeper, "F32");
        Files.delete(file);
        assertNames(folder, "-of-00002.safetensors", "model.layers.2.input_layernorm.weight");

        final Map<String, Given> narrow = checkpoint();
        add(narrow, "model.embed_tokens.weight", 39, HIDDEN);
        writeShards(narrow, "F32");
        assertNames(folder.resolve("model-00001-of-00002.safetensors"),
                "model.embed_tokens.weight: expected shape [40, 32], given [39, 32]");
    }

    @Test
    void missingFilesAreNamed() throws IOException {
        assertTrue(message(this::load).contains("model.safetensors"));
        write(folder.resolve("model.safetensors"), checkpoint(), "F32");
        load().close();
        Files.move(folder.resolve("tokenizer.json"), temp.resolve("tokenizer.json"));
        assertEquals(folder.resolve("tokenizer.json") + ": there is no such file", message(this::load));
        Files.move(temp.resolve("tokenizer.json"), folder.resolve("tokenizer.json"));
        Files.delete(folder.resolve("config.json"));
        assertEquals(folder.resolve("config.json") + ": there is no such file", message(this::load));
    }

    @Test
    void checkpointsOfAnotherModelAreRefused() throws IOException {
        write(folder.resolve("model.safetensors"), checkpoint(), "F32");
        final Path other = Files.createDirectory(temp.resolve("other"));
        try (TorchPolicy policy = load(); TorchPolicy smaller = Tiny.policy(other, Tiny.qwen3(1), Tiny.settings(), 1)) {
            train(smaller, 1);
            smaller.save(saved);
            assertEquals(saved.resolve("config.json") + ": another model than the policy's: num_hidden_layers: expected 2, given 1",
                    message(() -> policy.load(saved)));
            final Path own = Files.createDirectory(temp.resolve("own"));
            policy.save(own);
            Files.delete(own.resolve("training.safetensors"));
            assertTrue(message(() -> policy.load(own)).startsWith(own.resolve("training.safetensors").toString()));
            Files.copy(saved.resolve("training.safetensors"), own.resolve("training.safetensors"));
            assertTrue(message(() -> policy.load(own)).startsWith(own.resolve("training.safetensors") + ": exp_avg: expected"));
        }
    }

    /** A model may name the tokens that end a message in config.json alone. */
    @Test
    void endTokensSurviveSaving() throws IOException {
        write(folder.resolve("model.safetensors"), checkpoint(), "F32");
        Files.writeString(folder.resolve("config.json"), CONFIG.replace("{\"arch", "{\"eos_token_id\": [1, 7], \"arch"));
        try (TorchPolicy policy = load()) {
            assertArrayEquals(new int[] {1, 7}, policy.tokenizer.endTokens());
            policy.save(saved);
        }
        try (Tokenizer tokenizer = Tokenizer.open(saved)) {
            assertArrayEquals(new int[] {1, 7}, tokenizer.endTokens());
        }
    }

    // ---- adapters ----

    @Test
    void adapterCheckpointsHoldTheAdaptersAlone() throws IOException {
        write(folder.resolve("model.safetensors"), checkpoint(), "F32");
        final TorchPolicy.Settings settings = Tiny.settings("f32", 1, 3, 8192);
        try (TorchPolicy policy = TorchPolicy.load(folder, settings); TorchPolicy other = TorchPolicy.load(folder, settings)) {
            train(policy, 1);
            train(policy, 2);
            policy.save(saved);
            assertEquals(new TreeSet<>(List.of("adapter_config.json", "adapter_model.safetensors", "training.safetensors")),
                    files(saved));
            try (SafeTensors tensors = SafeTensors.open(saved.resolve("adapter_model.safetensors"))) {
                assertEquals(2 * 2 * 7, tensors.entries().size());
                final String q = "base_model.model.model.layers.0.self_attn.q_proj.";
                assertArrayEquals(new long[] {3, 32}, tensors.entry(q + "lora_A.weight").shape());
                assertArrayEquals(new long[] {40, 3}, tensors.entry(q + "lora_B.weight").shape());
                final String down = "base_model.model.model.layers.1.mlp.down_proj.";
                assertArrayEquals(new long[] {3, 48}, tensors.entry(down + "lora_A.weight").shape());
                assertArrayEquals(new long[] {32, 3}, tensors.entry(down + "lora_B.weight").shape());
            }
            final JsonNode json = new ObjectMapper().readTree(saved.resolve("adapter_config.json").toFile());
            assertEquals("LORA", json.path("peft_type").asText());
            assertEquals("CAUSAL_LM", json.path("task_type").asText());
            assertEquals(3, json.path("r").asInt());
            assertTrue(json.path("lora_alpha").isInt());
            assertEquals(6, json.path("lora_alpha").asInt());
            assertEquals(folder.toString(), json.path("base_model_name_or_path").asText());
            final TreeSet<String> keys = new TreeSet<>();
            json.fieldNames().forEachRemaining(keys::add);
            assertTrue(keys.containsAll(PUBLISHED_ADAPTER), keys.toString());
            assertEquals(7, json.path("target_modules").size());
            other.load(saved);
            assertEquals(policy.fingerprint(), other.fingerprint());
            assertEquals(2, other.version());
            train(policy, 3);
            train(other, 3);
            assertEquals(policy.fingerprint(), other.fingerprint(), "goes on to the same bits");
            assertArrayEquals(Tiny.floats(policy.state.base.master), Tiny.floats(other.state.base.master));
        }
    }

    /** A base of random weights is in no file, so none is named. */
    @Test
    void adaptersOfARandomBaseNameNone() throws IOException {
        try (TorchPolicy policy = TorchPolicy.random(folder, Tiny.settings("f32", 1, 3, 8192), 1)) {
            policy.save(saved);
        }
        assertTrue(new ObjectMapper().readTree(saved.resolve("adapter_config.json").toFile()).path("base_model_name_or_path").isNull());
    }

    @Test
    void adaptersThatComputeOtherwiseAreRefused() throws IOException {
        write(folder.resolve("model.safetensors"), checkpoint(), "F32");
        final Path config = saved.resolve("adapter_config.json");
        try (TorchPolicy policy = TorchPolicy.load(folder, Tiny.settings("f32", 1, 3, 8192))) {
            policy.save(saved);
            final ObjectNode json = (ObjectNode) new ObjectMapper().readTree(config.toFile());
            for (String[] change : new String[][] {{"use_rslora", "true"}, {"use_dora", "true"}, {"rank_pattern", "{\"q_proj\": 8}"},
                {"alpha_pattern", "{\"q_proj\": 8}"}}) {
                new ObjectMapper().writeValue(config.toFile(), json.deepCopy().set(change[0], new ObjectMapper().readTree(change[1])));
                assertTrue(message(() -> policy.load(saved)).startsWith(config + ": " + change[0] + ": expected none"));
            }
        }
    }

    @Test
    void adaptersOfAnotherShapeAreRefused() throws IOException {
        write(folder.resolve("model.safetensors"), checkpoint(), "F32");
        try (TorchPolicy policy = TorchPolicy.load(folder, Tiny.settings("f32", 1, 3, 8192))) {
            policy.save(saved);
        }
        final Path config = saved.resolve("adapter_config.json");
        final Path file = saved.resolve("adapter_model.safetensors");
        try (TorchPolicy wider = TorchPolicy.load(folder, Tiny.settings("f32", 1, 4, 8192))) {
            assertEquals(config + ": expected r = 4 and lora_alpha = 8.0, given 3 and 6", message(() -> wider.load(saved)));
        }
        try (TorchPolicy policy = TorchPolicy.load(folder, Tiny.lora(3, "q_proj"))) {
            final String message = message(() -> policy.load(saved));
            assertTrue(message.startsWith(file + ": ") && message.contains("k_proj"), message);
        }
        Files.delete(config);
        try (TorchPolicy policy = TorchPolicy.load(folder, Tiny.settings("f32", 1, 3, 8192))) {
            assertEquals(config + ": there is no such file", message(() -> policy.load(saved)));
        }
    }
}
