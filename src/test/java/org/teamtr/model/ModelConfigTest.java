package org.teamtr.model;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
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

    private Path file(String json) throws IOException {
        return Files.writeString(folder.resolve("config.json"), json);
    }

    private ModelConfig read(String json) throws IOException {
        return ModelConfig.read(file(json));
    }

    @Test
    void qwen3() throws IOException {
        assertEquals(new ModelConfig("qwen3", 151_936, 1024, 3072, 28, 16, 8, 128, 40_960, 1e-6, 1e6, null, true, false, false,
                true), read(QWEN3));
    }

    @Test
    void qwen2() throws IOException {
        assertEquals(new ModelConfig("qwen2", 151_936, 896, 4864, 24, 14, 2, 64, 32_768, 1e-6, 1e6, null, true, true, false, false),
                read(QWEN2));
    }

    @Test
    void llama() throws IOException {
        assertEquals(new ModelConfig("llama", 128_256, 2048, 8192, 16, 32, 8, 64, 131_072, 1e-5, 5e5,
                new ModelConfig.RopeScaling("llama3", 32, 1, 4, 8192), true, false, false, false), read(LLAMA));
        assertTrue(read(LLAMA.replace("\"attention_bias\": false", "\"attention_bias\": true")).outBias());
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
        assertEquals(new ModelConfig("llama", 100, 64, 128, 2, 4, 4, 16, 2048, 1e-6, 1e4, null, false, false, false, false), c);
    }

    @Test
    void whatIsWrittenReadsTheSame() throws IOException {
        for (ModelConfig c : new ModelConfig[] {read(QWEN3), read(QWEN2), read(LLAMA), Tiny.qwen3(2), Tiny.qwen2(1), Tiny.llama(3)}) {
            final Path out = folder.resolve("written.json");
            c.write(out, "float32");
            assertEquals(c, ModelConfig.read(out));
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
        "\"use_sliding_window\": false | \"use_sliding_window\": true | use_sliding_window: expected false | given true",
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
        "\"rope_scaling\": null | \"rope_scaling\": {\"type\": \"yarn\"} | rope_type: expected default, linear or llama3 | given yarn",
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
        final String message = assertThrows(IOException.class, () -> ModelConfig.read(file)).getMessage();
        assertTrue(message.startsWith(file + ": "), message);
        assertTrue(message.contains(expected) && message.contains(given), message);
    }

    @Test
    void brokenAndMissingFilesAreNamed() throws IOException {
        final Path broken = file("{\"model_type\": ");
        assertTrue(assertThrows(IOException.class, () -> ModelConfig.read(broken)).getMessage().startsWith(broken + ": "));
        final Path missing = folder.resolve("none.json");
        assertEquals(missing + ": there is no such file",
                assertThrows(IOException.class, () -> ModelConfig.read(missing)).getMessage());
    }
}
