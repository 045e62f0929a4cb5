package org.teamtr.model;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Set;
import java.util.function.Consumer;

/**
 * The sizes of a decoder of the Qwen3, Qwen2.5, Llama or Mistral family, as a Hugging Face {@code config.json} gives them.
 *
 * @param modelType qwen3, qwen2, llama or mistral
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
 * @param window of the layers that see the last tokens only, or null if all layers see all
 * @param tied whether the head is the embedding
 * @param qkvBias whether q, k and v have a bias
 * @param outBias whether the attention's output has one
 * @param mlpBias whether the three matrices of the gated layer have one
 * @param qkNorm whether q and k are normalised per head
 */
public record ModelConfig(String modelType, int vocab, int hidden, int intermediate, int layers, int heads, int kvHeads, int headDim,
        int positions, double normEps, double ropeTheta, RopeScaling rope, Window window, boolean tied, boolean qkvBias,
        boolean outBias, boolean mlpBias, boolean qkNorm) {
    static final Set<String> TYPES = Set.of("qwen3", "qwen2", "llama", "mistral");

    /**
     * A sliding window: a token sees itself and the {@code tokens - 1} before it.
     *
     * @param layers for every layer, whether it has the window
     */
    public record Window(int tokens, List<Boolean> layers) {
        /** @throws IllegalArgumentException if the window is empty */
        public Window {
            require(tokens >= 1, "sliding_window", "1 or more", tokens);
            layers = List.copyOf(layers);
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
        require(window == null || window.layers().size() == layers, "layer_types", "num_hidden_layers = " + layers,
                window == null ? 0 : window.layers().size());
    }

    static void require(boolean holds, String name, String expected, Object given) {
        if (!holds) {
            throw new IllegalArgumentException(name + ": expected " + expected + ", given " + given);
        }
    }

    /** {@return a Qwen3-shaped model with tied embeddings} */
    public static ModelConfig qwen3(int vocab, int hidden, int intermediate, int layers, int heads, int kvHeads, int headDim,
            int positions) {
        return new ModelConfig("qwen3", vocab, hidden, intermediate, layers, heads, kvHeads, headDim, positions, 1e-6, 1e6, null, null,
                true, false, false, false, true);
    }

    /**
     * Reads a {@code config.json}. Every field that changes what the model computes is either computed or refused; {@link ConfigJson}
     * lists them.
     *
     * @param note hears what was left out of account, a sentence each
     * @throws IOException if it cannot be read, or describes a model this decoder does not compute
     */
    public static ModelConfig read(Path file, Consumer<String> note) throws IOException {
        return ConfigJson.read(file, note);
    }

    /**
     * Reads a {@code config.json} as {@link #read(Path, Consumer)} does, for a caller that has heard of it what is to be said.
     *
     * @throws IOException likewise
     */
    public static ModelConfig read(Path file) throws IOException {
        return read(file, note -> { });
    }

    /** {@return the same model with a head of its own} */
    public ModelConfig untied() {
        return new ModelConfig(modelType, vocab, hidden, intermediate, layers, heads, kvHeads, headDim, positions, normEps, ropeTheta,
                rope, window, false, qkvBias, outBias, mlpBias, qkNorm);
    }

    /** {@return whether a layer has the sliding window} */
    public boolean slides(int layer) {
        return window != null && window.layers().get(layer);
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
            case "mistral" -> "MistralForCausalLM";
            default -> "LlamaForCausalLM";
        });
        json.put("model_type", modelType).put("vocab_size", vocab).put("hidden_size", hidden)
                .put("intermediate_size", intermediate).put("num_hidden_layers", layers).put("num_attention_heads", heads)
                .put("num_key_value_heads", kvHeads).put("head_dim", headDim).put("max_position_embeddings", positions)
                .put("rms_norm_eps", normEps).put("rope_theta", ropeTheta).put("tie_word_embeddings", tied)
                .put("hidden_act", "silu").put("torch_dtype", torchDtype);
        if (modelType.equals("qwen3") || modelType.equals("llama")) {
            json.put("attention_bias", outBias);
        }
        if (modelType.equals("llama")) {
            json.put("mlp_bias", mlpBias);
        }
        if (modelType.equals("mistral") || window != null) {
            json.put("sliding_window", window == null ? null : window.tokens()); // without the key, Mistral's is 4096
        }
        if (window != null && !modelType.equals("mistral")) {
            json.put("use_sliding_window", true);
            final ArrayNode types = json.putArray("layer_types");
            window.layers().forEach(slides -> types.add(slides ? "sliding_attention" : "full_attention"));
        }
        if (endTokens.length > 0) {
            final ArrayNode ends = json.putArray("eos_token_id");
            for (int end : endTokens) {
                ends.add(end);
            }
        }
        if (rope != null) {
            rope.write(json.putObject("rope_scaling").put("rope_type", rope.type()));
        }
        Files.write(file, mapper.writerWithDefaultPrettyPrinter().writeValueAsBytes(json));
    }

    /** {@return the rotary frequencies, [headDim / 2]} */
    public double[] frequencies() {
        final double[] f = new double[headDim / 2];
        for (int i = 0; i < f.length; i++) {
            f[i] = Math.pow(ropeTheta, -2.0 * i / headDim);
        }
        return rope == null ? f : rope.frequencies(f, ropeTheta);
    }

    /** {@return what the rotary cosines and sines are multiplied by} */
    public double attentionFactor() {
        return rope == null ? 1 : rope.attentionFactor();
    }
}
