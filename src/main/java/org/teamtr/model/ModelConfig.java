package org.teamtr.model;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.FileNotFoundException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Set;

/**
 * The sizes of a decoder of the Qwen3, Qwen2.5 or Llama family, as a Hugging Face {@code config.json} gives them.
 *
 * @param modelType qwen3, qwen2 or llama
 * @param vocab rows of the embedding
 * @param hidden width
 * @param intermediate width of the gated layer
 * @param layers number of layers
 * @param heads of queries
 * @param kvHeads of keys and values; divides {@code heads}
 * @param headDim width of a head, even
 * @param positions the longest context
 * @param normEps of the RMS norms
 * @param ropeTheta base of the rotary frequencies
 * @param rope their scaling, or null for none
 * @param tied whether the head is the embedding
 * @param qkvBias whether q, k and v have a bias
 * @param outBias whether the attention's output has one
 * @param qkNorm whether q and k are normalised per head
 */
public record ModelConfig(String modelType, int vocab, int hidden, int intermediate, int layers, int heads, int kvHeads, int headDim,
        int positions, double normEps, double ropeTheta, RopeScaling rope, boolean tied, boolean qkvBias, boolean outBias,
        boolean qkNorm) {
    private static final Set<String> TYPES = Set.of("qwen3", "qwen2", "llama");

    /**
     * Scaled rotary frequencies.
     *
     * @param type linear or llama3; linear looks at the factor alone
     */
    public record RopeScaling(String type, double factor, double lowFrequency, double highFrequency, int originalPositions) {
        /** @throws IllegalArgumentException if a number is out of range */
        public RopeScaling {
            require(Set.of("linear", "llama3").contains(type), "rope_scaling.rope_type", "default, linear or llama3", type);
            require(factor > 0 && factor < Double.POSITIVE_INFINITY, "rope_scaling.factor", "more than 0", factor);
            require(lowFrequency > 0, "rope_scaling.low_freq_factor", "more than 0", lowFrequency);
            require(highFrequency > lowFrequency, "rope_scaling.high_freq_factor", "more than low_freq_factor = " + lowFrequency,
                    highFrequency);
            require(originalPositions >= 1, "rope_scaling.original_max_position_embeddings", "1 or more", originalPositions);
        }
    }

    /** @throws IllegalArgumentException if a number is out of range */
    public ModelConfig {
        require(TYPES.contains(modelType), "model_type", "one of " + TYPES, modelType);
        require(vocab >= 2, "vocab_size", "2 or more", vocab);
        require(hidden >= 1, "hidden_size", "1 or more", hidden);
        require(intermediate >= 1, "intermediate_size", "1 or more", intermediate);
        require(layers >= 1, "num_hidden_layers", "1 or more", layers);
        require(heads >= 1, "num_attention_heads", "1 or more", heads);
        require(kvHeads >= 1 && heads % kvHeads == 0, "num_key_value_heads", "a divisor of num_attention_heads = " + heads, kvHeads);
        require(headDim >= 2 && headDim % 2 == 0, "head_dim", "an even number", headDim);
        require(positions >= 1, "max_position_embeddings", "1 or more", positions);
        require(normEps > 0 && normEps < 1, "rms_norm_eps", "more than 0 and less than 1", normEps);
        require(ropeTheta > 0 && ropeTheta < Double.POSITIVE_INFINITY, "rope_theta", "more than 0", ropeTheta);
    }

    private static void require(boolean holds, String name, String expected, Object given) {
        if (!holds) {
            throw new IllegalArgumentException(name + ": expected " + expected + ", given " + given);
        }
    }

    /** {@return a Qwen3-shaped model with tied embeddings} */
    public static ModelConfig qwen3(int vocab, int hidden, int intermediate, int layers, int heads, int kvHeads, int headDim,
            int positions) {
        return new ModelConfig("qwen3", vocab, hidden, intermediate, layers, heads, kvHeads, headDim, positions, 1e-6, 1e6, null,
                true, false, false, true);
    }

    /**
     * Reads a {@code config.json}.
     *
     * @throws IOException if it cannot be read, or describes a model this decoder does not compute
     */
    public static ModelConfig read(Path file) throws IOException {
        if (!Files.isRegularFile(file)) {
            throw new FileNotFoundException(file + ": there is no such file");
        }
        final JsonNode json;
        try {
            json = new ObjectMapper().readTree(Files.readAllBytes(file));
        } catch (IOException e) {
            throw new IOException(file + ": " + e.getMessage(), e);
        }
        try {
            return of(json);
        } catch (IllegalArgumentException e) {
            throw new IOException(file + ": " + e.getMessage(), e);
        }
    }

    private static ModelConfig of(JsonNode json) {
        final String type = json.path("model_type").asText("");
        require(TYPES.contains(type), "model_type", "one of " + TYPES, type.isEmpty() ? "none" : type);
        require(json.path("hidden_act").asText("silu").equals("silu"), "hidden_act", "silu", json.path("hidden_act"));
        require(!bool(json, "use_sliding_window"), "use_sliding_window", "false", true);
        require(!bool(json, "mlp_bias"), "mlp_bias", "false", true);
        final int hidden = integer(json, "hidden_size", -1);
        final int heads = integer(json, "num_attention_heads", -1);
        // Newer files keep both in rope_parameters.
        final JsonNode parameters = json.path("rope_parameters");
        final JsonNode scaling = parameters.isObject() ? parameters : json.path("rope_scaling");
        final double theta = number(parameters.has("rope_theta") ? parameters : json, "", "rope_theta", 10_000);
        final boolean bias = bool(json, "attention_bias");
        return new ModelConfig(type, integer(json, "vocab_size", -1), hidden, integer(json, "intermediate_size", -1),
                integer(json, "num_hidden_layers", -1), heads, integer(json, "num_key_value_heads", heads),
                integer(json, "head_dim", heads > 0 ? hidden / heads : -1), integer(json, "max_position_embeddings", 2048),
                number(json, "", "rms_norm_eps", 1e-6), theta, rope(scaling), bool(json, "tie_word_embeddings"),
                type.equals("qwen2") || bias, !type.equals("qwen2") && bias, type.equals("qwen3"));
    }

    private static boolean bool(JsonNode json, String name) {
        final JsonNode value = json.path(name);
        require(value.isBoolean() || value.isMissingNode() || value.isNull(), name, "true or false", value);
        return value.asBoolean(false);
    }

    /** @param otherwise NaN if it has to be there */
    private static double number(JsonNode json, String where, String name, double otherwise) {
        final JsonNode value = json.path(name);
        if (value.isMissingNode() || value.isNull()) {
            require(!Double.isNaN(otherwise), where + name, "a number", "none");
            return otherwise;
        }
        require(value.isNumber(), where + name, "a number", value);
        return value.asDouble();
    }

    private static int integer(JsonNode json, String name, int otherwise) {
        final JsonNode value = json.path(name);
        if (value.isMissingNode() || value.isNull()) {
            require(otherwise >= 0, name, "a number", "none");
            return otherwise;
        }
        require(value.isIntegralNumber() && value.canConvertToInt(), name, "an integer", value);
        return value.asInt();
    }

    private static RopeScaling rope(JsonNode json) {
        if (!json.isObject()) {
            return null;
        }
        final String type = json.path("rope_type").asText(json.path("type").asText("default"));
        require(Set.of("default", "linear", "llama3").contains(type), "rope_scaling.rope_type", "default, linear or llama3", type);
        if (type.equals("default")) {
            return null;
        }
        final String where = "rope_scaling.";
        final boolean llama3 = type.equals("llama3");
        final double positions = number(json, where, "original_max_position_embeddings", llama3 ? Double.NaN : 8192);
        return new RopeScaling(type, number(json, where, "factor", Double.NaN),
                number(json, where, "low_freq_factor", llama3 ? Double.NaN : 1),
                number(json, where, "high_freq_factor", llama3 ? Double.NaN : 4),
                (int) positions);
    }

    /**
     * Writes what {@link #read} reads, and other programs too.
     *
     * @param endTokens ids that end a message
     */
    public void write(Path file, String torchDtype, int... endTokens) throws IOException {
        final ObjectMapper mapper = new ObjectMapper();
        final ObjectNode json = mapper.createObjectNode();
        json.putArray("architectures").add(switch (modelType) {
            case "qwen3" -> "Qwen3ForCausalLM";
            case "qwen2" -> "Qwen2ForCausalLM";
            default -> "LlamaForCausalLM";
        });
        json.put("model_type", modelType).put("vocab_size", vocab).put("hidden_size", hidden)
                .put("intermediate_size", intermediate).put("num_hidden_layers", layers).put("num_attention_heads", heads)
                .put("num_key_value_heads", kvHeads).put("head_dim", headDim).put("max_position_embeddings", positions)
                .put("rms_norm_eps", normEps).put("rope_theta", ropeTheta).put("tie_word_embeddings", tied)
                .put("hidden_act", "silu").put("torch_dtype", torchDtype);
        if (!modelType.equals("qwen2")) {
            json.put("attention_bias", outBias);
        }
        if (endTokens.length > 0) {
            final ArrayNode ends = json.putArray("eos_token_id");
            for (int end : endTokens) {
                ends.add(end);
            }
        }
        if (rope != null) {
            json.putObject("rope_scaling").put("rope_type", rope.type()).put("factor", rope.factor())
                    .put("low_freq_factor", rope.lowFrequency()).put("high_freq_factor", rope.highFrequency())
                    .put("original_max_position_embeddings", rope.originalPositions());
        }
        Files.write(file, mapper.writerWithDefaultPrettyPrinter().writeValueAsBytes(json));
    }

    /** {@return the rotary frequencies, [headDim / 2]} */
    public double[] frequencies() {
        final double[] f = new double[headDim / 2];
        for (int i = 0; i < f.length; i++) {
            f[i] = scaled(Math.pow(ropeTheta, -2.0 * i / headDim));
        }
        return f;
    }

    /** Llama 3 leaves short wavelengths alone, stretches long ones, and goes over smoothly in between. */
    private double scaled(double f) {
        if (rope == null) {
            return f;
        }
        if (rope.type().equals("linear")) {
            return f / rope.factor();
        }
        final double turns = rope.originalPositions() * f / (2 * Math.PI);
        final double share = (turns - rope.lowFrequency()) / (rope.highFrequency() - rope.lowFrequency());
        final double smooth = Math.min(1, Math.max(0, share));
        return (1 - smooth) * f / rope.factor() + smooth * f;
    }
}
