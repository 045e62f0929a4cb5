package org.teamtr.model;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.teamtr.model.ModelConfig.Attention;
import org.teamtr.model.ModelConfig.Embedding;
import org.teamtr.model.ModelConfig.FeedForward;
import org.teamtr.model.ModelConfig.Rope;
import org.teamtr.torch.Tiny;

/** What {@code config.json} says. */
class ModelConfigTest {
    /** The sizes of Qwen3-0.6B. */
    private static final String QWEN3 = """
            {"architectures": ["Qwen3ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 151643,
             "eos_token_id": 151645, "head_dim": 128, "hidden_act": "silu", "hidden_size": 1024, "initializer_range": 0.02,
             "intermediate_size": 3072, "max_position_embeddings": 40960, "max_window_layers": 28, "model_type": "qwen3",
             "num_attention_heads": 16, "num_hidden_layers": 28, "num_key_value_heads": 8, "rms_norm_eps": 1e-06,
             "rope_scaling": null, "rope_theta": 1000000, "sliding_window": null, "tie_word_embeddings": true,
             "torch_dtype": "bfloat16", "use_cache": true, "use_sliding_window": false, "vocab_size": 151936}
            """;
    /** Those of Qwen2.5-0.5B, without head_dim. */
    private static final String QWEN2 = """
            {"model_type": "qwen2", "hidden_act": "silu", "hidden_size": 896, "intermediate_size": 4864,
             "max_position_embeddings": 32768, "num_attention_heads": 14, "num_hidden_layers": 24, "num_key_value_heads": 2,
             "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": 32768, "use_sliding_window": false,
             "tie_word_embeddings": true, "vocab_size": 151936}
            """;
    /** Those of Llama-3.2-1B. */
    private static final String LLAMA = """
            {"model_type": "llama", "attention_bias": false, "head_dim": 64, "hidden_act": "silu", "hidden_size": 2048,
             "intermediate_size": 8192, "max_position_embeddings": 131072, "mlp_bias": false, "num_attention_heads": 32,
             "num_hidden_layers": 16, "num_key_value_heads": 8, "pretraining_tp": 1, "rms_norm_eps": 1e-05,
             "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
             "original_max_position_embeddings": 8192, "rope_type": "llama3"}, "rope_theta": 500000.0,
             "tie_word_embeddings": true, "vocab_size": 128256}
            """;

    @TempDir
    private Path folder;
    private final List<String> notes = new ArrayList<>();

    private Path file(String json) throws IOException {
        return Files.writeString(folder.resolve("config.json"), json);
    }

    private ModelConfig read(String json) throws IOException {
        return ModelConfig.read(file(json), notes::add);
    }

    @Test
    void qwen3() throws IOException {
        assertEquals(new ModelConfig("qwen3", new Embedding(151_936, true), 1024, 28, new Attention(16, 8, 128, false, false, true, null),
                new FeedForward(3072, false), new Rope(40_960, 1e6, null), 1e-6), read(QWEN3));
    }

    @Test
    void qwen2() throws IOException {
        assertEquals(new ModelConfig("qwen2", new Embedding(151_936, true), 896, 24, new Attention(14, 2, 64, true, false, false, null),
                new FeedForward(4864, false), new Rope(32_768, 1e6, null), 1e-6), read(QWEN2));
    }

    @Test
    void llama() throws IOException {
        assertEquals(new ModelConfig("llama", new Embedding(128_256, true), 2048, 16, new Attention(32, 8, 64, false, false, false, null),
                new FeedForward(8192, false), new Rope(131_072, 5e5, new RopeScaling.Llama3(32, 1, 4, 8192)), 1e-5), read(LLAMA));
        assertTrue(read(LLAMA.replace("\"attention_bias\": false", "\"attention_bias\": true")).attention().outBias());
    }

    /** Newer files have the base beside the scaling. */
    @Test
    void ropeParameters() throws IOException {
        assertEquals(read(QWEN3), read(QWEN3.replace("\"rope_scaling\": null, \"rope_theta\": 1000000",
                "\"rope_parameters\": {\"rope_theta\": 1000000, \"rope_type\": \"default\"}")));
        final String newer = LLAMA.replace("\"rope_scaling\": {", "\"rope_parameters\": {\"rope_theta\": 500000.0, ")
                .replace("\"rope_theta\": 500000.0,\n", "\n");
        assertTrue(newer.contains("rope_parameters") && newer.split("rope_theta").length == 2, newer);
        assertEquals(read(LLAMA), read(newer));
    }

    @Test
    void defaultsOfWhatIsLeftOut() throws IOException {
        final ModelConfig c = read("""
                {"model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_hidden_layers": 2,
                 "vocab_size": 100}
                """);
        assertEquals(new ModelConfig("llama", new Embedding(100, false), 64, 2, new Attention(4, 4, 16, false, false, false, null),
                new FeedForward(128, false), new Rope(2048, 1e4, null), 1e-6), c);
    }

    @Test
    void whatIsWrittenReadsTheSame() throws IOException {
        for (ModelConfig c : new ModelConfig[] {read(QWEN3), read(QWEN2), read(LLAMA), Tiny.qwen3(2), Tiny.qwen2(1), Tiny.llama(3),
            Tiny.mistral(2), Tiny.sliding(3), Tiny.yarn(false)}) {
            final Path out = folder.resolve("written.json");
            c.write(out, "float32");
            assertEquals(c, ModelConfig.read(out, notes::add));
            final JsonNode json = new ObjectMapper().readTree(out.toFile());
            assertEquals(c.modelType(), json.path("model_type").asText());
            assertEquals("float32", json.path("torch_dtype").asText());
            assertTrue(json.path("architectures").path(0).asText().endsWith("ForCausalLM"), json.toString());
        }
    }

    @ParameterizedTest
    @CsvSource(delimiter = '|', value = {
        "\"model_type\": \"qwen3\" | \"model_type\": \"gpt2\" | model_type: expected one of | given gpt2",
        "\"model_type\": \"qwen3\" | \"model\": \"qwen3\" | model_type: expected one of | given none",
        "\"hidden_act\": \"silu\" | \"hidden_act\": \"gelu\" | hidden_act: expected silu | given \"gelu\"",
        "\"use_sliding_window\": false | \"layer_types\": [\"sliding_attention\"] | layer_types: expected num_hidden_layers = 28 | given 1",
        "\"attention_bias\": false | \"attention_bias\": \"no\" | attention_bias: expected true or false | given \"no\"",
        "\"use_cache\": true | \"mlp_bias\": true | mlp_bias: expected false, which is what qwen3 has | given true",
        "\"hidden_size\": 1024 | \"hidden\": 1024 | hidden_size: expected a number | given none",
        "\"hidden_size\": 1024 | \"hidden_size\": \"wide\" | hidden_size: expected an integer | given \"wide\"",
        "\"hidden_size\": 1024 | \"hidden_size\": 10.5 | hidden_size: expected an integer | given 10.5",
        "\"hidden_size\": 1024 | \"hidden_size\": -4 | hidden_size: expected 1 or more | given -4",
        "\"vocab_size\": 151936 | \"vocab_size\": 1 | vocab_size: expected 2 or more | given 1",
        "\"num_key_value_heads\": 8 | \"num_key_value_heads\": 5 | num_key_value_heads: expected a divisor of | given 5",
        "\"num_key_value_heads\": 8 | \"num_key_value_heads\": 0 | num_key_value_heads: expected a divisor of | given 0",
        "\"head_dim\": 128 | \"head_dim\": 127 | head_dim: expected an even number | given 127",
        "\"rms_norm_eps\": 1e-06 | \"rms_norm_eps\": 0 | rms_norm_eps: expected more than 0 | given 0",
        "\"rms_norm_eps\": 1e-06 | \"rms_norm_eps\": \"small\" | rms_norm_eps: expected a number | given \"small\"",
        "\"rope_theta\": 1000000 | \"rope_theta\": -1 | rope_theta: expected more than 0 | given -1",
        "\"rope_theta\": 1000000 | \"rope_theta\": \"big\" | rope_theta: expected a number | given \"big\"",
        "\"rope_scaling\": null | \"rope_scaling\": {\"type\": \"longrope\"} | rope_scaling.rope_type: expected one of | given longrope",
        "\"rope_scaling\": null | \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4, \"attn_factor\": 0.9} | rope_scaling.attn_factor: "
                + "expected attention_factor in its place | given 0.9",
        "\"rope_scaling\": null | \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4, \"finetuned\": true} | rope_scaling.finetuned: "
                + "expected one of | given true",
        "\"rope_scaling\": null | \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4, \"truncate\": 1} | rope_scaling.truncate: expected | 1",
        "\"rope_scaling\": null | \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4, \"beta_fast\": 0.5} | rope_scaling.beta_fast: expected | 0.5",
        "\"rope_scaling\": null | \"rope_scaling\": {\"type\": \"dynamic\", \"factor\": 2, \"original_max_position_embeddings\": 9} | "
                + "rope_scaling.original_max_position_embeddings: expected max_position_embeddings = 40960 | given 9",
        "\"rope_scaling\": null | \"rope_scaling\": 4 | rope_scaling: expected an object | given 4",
        "\"rope_scaling\": null | \"original_max_position_embeddings\": 8, \"rope_parameters\": {\"rope_type\": \"yarn\", \"factor\": 2, "
                + "\"original_max_position_embeddings\": 9} | rope_scaling.original_max_position_embeddings: expected the same | given 9",
        "\"rope_scaling\": null | \"rope_scaling\": {\"rope_type\": \"linear\"} | factor: expected a number | given none",
        "\"rope_scaling\": null | \"rope_scaling\": {\"type\": \"linear\", \"factor\": 0} | factor: expected more than 0 | given 0",
        "\"rope_scaling\": null | \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 4, "
                + "\"high_freq_factor\": 4, \"original_max_position_embeddings\": 8192} | high_freq_factor: expected more than "
                + "low_freq_factor = 4.0 | given 4",
        "\"tie_word_embeddings\": true | \"tie_word_embeddings\": \"yes\" | tie_word_embeddings: expected true or false | \"yes\"",
    })
    void errorsNameKeyExpectedAndGiven(String from, String to, String expected, String given) throws IOException {
        assertTrue(QWEN3.contains(from), from);
        final Path file = file(QWEN3.replace(from, to));
        final String message = assertThrows(IOException.class, () -> ModelConfig.read(file, notes::add)).getMessage();
        assertTrue(message.startsWith(file + ": "), message);
        assertTrue(message.contains(expected) && message.contains(given), message);
    }

    /** Fields that change what other models, or other programs, compute: refused unless they change nothing, with the reason. */
    @ParameterizedTest
    @CsvSource(delimiter = '|', nullValues = {}, value = {
        "quantization_config | null | {\"quant_method\": \"gptq\"} | quantised", "num_experts | 0 | 128 | mixture of experts",
        "num_local_experts | null | 8 | mixture of experts", "final_logit_softcapping | null | 30.0 | cap",
        "attn_logit_softcapping | null | 50.0 | cap", "logits_scaling | 1.0 | 8.0 | scale", "residual_multiplier | 1 | 0.22 | scale",
        "embedding_multiplier | 1 | 12 | scale", "partial_rotary_factor | 1.0 | 0.75 | rotates whole heads",
        "rope_interleaved | false | true | two halves", "no_rope_layers | [] | [1, 0] | rotary positions",
        "rope_local_base_freq | null | 10000 | rotary positions", "attention_chunk_size | null | 8192 | sliding window",
        "is_encoder_decoder | false | true | what came before", "is_causal | true | false | what came before",
        "vision_config | null | {\"depth\": 3} | text alone", "use_mrope | false | true | rotary positions",
        "auto_map | {\"AutoConfig\": \"a.B\"} | {\"AutoModelForCausalLM\": \"a.B\"} | not run", "pruned_heads | {} | {\"1\": [0]} | heads"})
    void neutralFields(String name, String neutral, String other, String why) throws IOException {
        final String field = "\"use_cache\": true, \"" + name + "\": ";
        assertEquals(read(QWEN3), read(QWEN3.replace("\"use_cache\": true", field + neutral)));
        assertEquals(List.of(), notes);
        final Path file = file(QWEN3.replace("\"use_cache\": true", field + other));
        final String message = assertThrows(IOException.class, () -> ModelConfig.read(file, notes::add)).getMessage();
        assertTrue(message.startsWith(file + ": " + name) && message.contains(why), message);
    }

    @Test
    void unknownFieldsAreSaidAndHarmlessOnesAreNot() throws IOException {
        final String json = QWEN3.replace("\"use_cache\": true", "\"use_cache\": true, \"unsloth_version\": \"2025.1\", \"temperature\": 0.6,"
                + "\"finetuning_task\": \"x\", \"nonesuch\": 3, \"off\": false, \"other\": [1]");
        assertEquals(read(QWEN3), read(json));
        assertEquals(1, notes.size());
        assertTrue(notes.get(0).startsWith(folder.resolve("config.json") + ": unknown, and ignored: nonesuch, other;"),
                notes.get(0));
    }

    /** transformers: rope_scaling or rope_parameters. */
    @Test
    void ropeScalingBeforeRopeParameters() throws IOException {
        final String yarn = "{\"rope_type\": \"yarn\", \"factor\": 4.0, \"original_max_position_embeddings\": 32768}";
        final ModelConfig c = read(QWEN3.replace("\"rope_scaling\": null", "\"rope_scaling\": " + yarn
                + ", \"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": 10}"));
        assertEquals(new RopeScaling.Yarn(4, 32_768, 0.1 * Math.log(4) + 1, 32, 1, true), c.rope().scaling());
        assertEquals(1e6, c.rope().theta());
        assertEquals(c, read(QWEN3.replace("\"rope_scaling\": null", "\"rope_parameters\": " + yarn)));
        assertEquals(List.of(), notes);
        read(QWEN3.replace("\"rope_scaling\": null", "\"rope_scaling\": {\"rope_type\": \"default\", \"factor\": 4}"));
        assertTrue(notes.get(0).contains("rope_scaling.factor: ignored, since rope_type is default"), notes.toString());
    }

    @Test
    void windows() throws IOException {
        final String on = QWEN3.replace("\"use_sliding_window\": false", "\"use_sliding_window\": true")
                .replace("\"num_hidden_layers\": 28", "\"num_hidden_layers\": 3").replace("\"sliding_window\": null", "\"sliding_window\": 7");
        assertNull(read(on).attention().window(), "max_window_layers is 28");
        assertEquals(new ModelConfig.Window(7, List.of(false, true, true)),
                read(on.replace("\"max_window_layers\": 28", "\"max_window_layers\": 1")).attention().window());
        final String types = "\"layer_types\": [\"sliding_attention\", \"full_attention\", \"sliding_attention\"]";
        final String listed = on.replace("\"max_window_layers\": 28", types);
        assertEquals(new ModelConfig.Window(7, List.of(true, false, true)), read(listed).attention().window());
        final Path off = file(listed.replace("\"use_sliding_window\": true", "\"is_decoder\": true"));
        assertTrue(assertThrows(IOException.class, () -> ModelConfig.read(off, notes::add)).getMessage()
                .contains("layer_types: expected full_attention alone, since use_sliding_window is not true"));
        final Path none = file(listed.replace("\"sliding_window\": 7", "\"sliding_window\": null"));
        assertTrue(assertThrows(IOException.class, () -> ModelConfig.read(none, notes::add)).getMessage()
                .contains("sliding_window: expected a number"));

        final String mistral = LLAMA.replace("\"model_type\": \"llama\"", "\"model_type\": \"mistral\"")
                .replace("\"num_hidden_layers\": 16", "\"num_hidden_layers\": 2");
        assertEquals(new ModelConfig.Window(4096, List.of(true, true)), read(mistral).attention().window(), "the default of transformers");
        assertNull(read(mistral.replace("\"pretraining_tp\": 1", "\"sliding_window\": null")).attention().window());
        assertEquals(new ModelConfig.Window(9, List.of(true, true)),
                read(mistral.replace("\"pretraining_tp\": 1", "\"sliding_window\": 9")).attention().window());
        final Path llama = file(LLAMA.replace("\"pretraining_tp\": 1", "\"use_sliding_window\": true"));
        assertTrue(assertThrows(IOException.class, () -> ModelConfig.read(llama, notes::add)).getMessage()
                .contains("sliding_window: expected none"));
    }

    @Test
    void whatIsLeftOutIsWhatTransformersTakes() throws IOException {
        final String sizes = "\"vocab_size\": 9, \"hidden_size\": 64, \"intermediate_size\": 8, \"num_hidden_layers\": 1, "
                + "\"num_attention_heads\": 32}";
        final ModelConfig qwen3 = read("{\"model_type\": \"qwen3\", " + sizes);
        assertEquals(128, qwen3.attention().headDim());
        assertEquals(32, qwen3.attention().kvHeads());
        assertEquals(32_768, qwen3.rope().positions());
        assertEquals(8, read("{\"model_type\": \"mistral\", " + sizes).attention().kvHeads());
        assertEquals(2, read("{\"model_type\": \"qwen2\", " + sizes).attention().headDim());
    }

    @Test
    void anotherArchitectureIsSaidOrRefused() throws IOException {
        read(QWEN3.replace("Qwen3ForCausalLM", "Qwen2ForCausalLM"));
        assertTrue(notes.get(0).contains("architectures says Qwen2ForCausalLM and model_type qwen3: computed as model_type says"),
                notes.toString());
        final Path file = file(QWEN3.replace("\"model_type\": \"qwen3\"", "\"model_type\": \"qwen3_moe\""));
        assertTrue(assertThrows(IOException.class, () -> ModelConfig.read(file, notes::add)).getMessage().endsWith(
                "given qwen3_moe, which is another architecture: a mixture of experts"));
    }

    @Test
    void pointersOfGitLfsAreNamedAsSuch() throws IOException {
        final Path file = file("version https://git-lfs.github.com/spec/v1\noid sha256:0000\nsize 988097824\n");
        assertTrue(assertThrows(IOException.class, () -> ModelConfig.read(file, notes::add)).getMessage().startsWith(
                file + ": this is a Git LFS pointer, not the file itself; run git lfs pull"));
    }

    @Test
    void brokenAndMissingFilesAreNamed() throws IOException {
        final Path broken = file("{\"model_type\": ");
        assertTrue(assertThrows(IOException.class, () -> ModelConfig.read(broken, notes::add)).getMessage().startsWith(broken + ": "));
        final Path missing = folder.resolve("none.json");
        assertEquals(missing + ": there is no such file",
                assertThrows(IOException.class, () -> ModelConfig.read(missing, notes::add)).getMessage());
    }
}
