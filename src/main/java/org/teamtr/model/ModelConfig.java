package org.teamtr.model;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;
import java.util.function.Consumer;
import java.util.stream.Collectors;

/**
 * The sizes of a decoder of the Qwen3, Qwen2.5, Llama or Mistral family, as a Hugging Face {@code config.json} gives them.
 *
 * @param modelType qwen3, qwen2, llama or mistral
 * @param hidden width
 * @param layers number of layers
 * @param normEps of the RMS norms
 */
public record ModelConfig(String modelType, Embedding embedding, int hidden, int layers, Attention attention, FeedForward feedForward,
        Rope rope, double normEps) {
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

    /**
     * The table of token vectors.
     *
     * @param vocab its rows
     * @param tied whether the head, which makes logits, is the same matrix
     */
    public record Embedding(int vocab, boolean tied) {
        /** @throws IllegalArgumentException if the vocabulary is too small */
        public Embedding {
            require(vocab >= 2, "vocab_size", "2 or more", vocab);
        }
    }

    /**
     * The attention of every layer.
     *
     * @param heads of queries
     * @param kvHeads of keys and values; divides {@code heads}
     * @param headDim width of a head, even
     * @param qkvBias whether q, k and v have a bias
     * @param outBias whether the output has one
     * @param qkNorm whether q and k are normalised per head
     * @param window of the layers that see the last tokens only, or null if all layers see all
     */
    public record Attention(int heads, int kvHeads, int headDim, boolean qkvBias, boolean outBias, boolean qkNorm, Window window) {
        /** @throws IllegalArgumentException if a number is out of range */
        public Attention {
            require(heads >= 1, "num_attention_heads", "1 or more", heads);
            require(kvHeads >= 1 && heads % kvHeads == 0, "num_key_value_heads", "a divisor of num_attention_heads = " + heads, kvHeads);
            require(headDim >= 2 && headDim % 2 == 0, "head_dim", "an even number", headDim);
        }

        /** {@return columns of q, all heads together} */
        public long qWidth() {
            return (long) heads * headDim;
        }

        /** {@return columns of k, and of v} */
        public long kvWidth() {
            return (long) kvHeads * headDim;
        }

        /** {@return whether a layer has the sliding window} */
        public boolean slides(int layer) {
            return window != null && window.layers().get(layer);
        }
    }

    /**
     * The feed-forward layer (SwiGLU).
     *
     * @param width its intermediate size
     * @param bias whether its three matrices have one
     */
    public record FeedForward(int width, boolean bias) {
        /** @throws IllegalArgumentException if it is empty */
        public FeedForward {
            require(width >= 1, "intermediate_size", "1 or more", width);
        }
    }

    /**
     * Rotary positions.
     *
     * @param positions the longest context
     * @param theta base of the frequencies
     * @param scaling of the frequencies, or null for none
     */
    public record Rope(int positions, double theta, RopeScaling scaling) {
        /** @throws IllegalArgumentException if a number is out of range */
        public Rope {
            require(positions >= 1, "max_position_embeddings", "1 or more", positions);
            require(theta > 0 && theta < Double.POSITIVE_INFINITY, "rope_theta", "more than 0", theta);
        }

        /** {@return the frequencies of a head, [headDim / 2]} */
        public double[] frequencies(int headDim) {
            final double[] f = new double[headDim / 2];
            for (int i = 0; i < f.length; i++) {
                f[i] = Math.pow(theta, -2.0 * i / headDim);
            }
            return scaling == null ? f : scaling.frequencies(f, theta);
        }

        /** {@return what the cosines and sines are multiplied by} */
        public double attentionFactor() {
            return scaling == null ? 1 : scaling.attentionFactor();
        }
    }

    /** @throws IllegalArgumentException if a number is out of range */
    public ModelConfig {
        require(TYPES.contains(modelType), "model_type", "one of " + TYPES, modelType);
        require(hidden >= 1, "hidden_size", "1 or more", hidden);
        require(layers >= 1, "num_hidden_layers", "1 or more", layers);
        require(normEps > 0 && normEps < 1, "rms_norm_eps", "more than 0 and less than 1", normEps);
        final Window window = attention.window();
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
        return new ModelConfig("qwen3", new Embedding(vocab, true), hidden, layers,
                new Attention(heads, kvHeads, headDim, false, false, true, null), new FeedForward(intermediate, false),
                new Rope(positions, 1e6, null), 1e-6);
    }

    /**
     * Reads a {@code config.json}. Every field that changes what the model computes is either computed or refused; {@link ConfigJson}
     * lists them.
     *
     * @param note receives notes on ignored fields, one sentence each
     * @throws IOException if it cannot be read, or describes a model this decoder does not compute
     */
    public static ModelConfig read(Path file, Consumer<String> note) throws IOException {
        return ConfigJson.read(file, note);
    }

    /**
     * Reads a {@code config.json} as {@link #read(Path, Consumer)} does, for a caller that has already received the notes.
     *
     * @throws IOException likewise
     */
    public static ModelConfig read(Path file) throws IOException {
        return read(file, note -> {});
    }

    /** {@return the same model with a head that is not tied to the embedding} */
    public ModelConfig untied() {
        return new ModelConfig(modelType, new Embedding(embedding.vocab(), false), hidden, layers, attention, feedForward, rope, normEps);
    }

    /**
     * Writes what {@link #read} reads, and other programs too.
     *
     * @param endTokens ids that end a message
     */
    public void write(Path file, String torchDtype, int... endTokens) throws IOException {
        final ObjectNode json = json().put("torch_dtype", torchDtype);
        if (endTokens.length > 0) {
            final ArrayNode ends = json.putArray("eos_token_id");
            for (int end : endTokens) {
                ends.add(end);
            }
        }
        Files.write(file, new ObjectMapper().writerWithDefaultPrettyPrinter().writeValueAsBytes(json));
    }

    /** {@return the fields of {@code config.json} in which another model differs from this one, which is expected} */
    public String differences(ModelConfig given) {
        final ObjectNode mine = json();
        final ObjectNode others = given.json();
        final Set<String> names = new LinkedHashSet<>();
        mine.fieldNames().forEachRemaining(names::add);
        others.fieldNames().forEachRemaining(names::add);
        return names.stream().filter(name -> !name.equals("architectures") && !mine.path(name).equals(others.path(name)))
                .map(name -> name + ": expected " + (mine.has(name) ? mine.get(name) : "none") + ", given "
                        + (others.has(name) ? others.get(name) : "none"))
                .collect(Collectors.joining("; "));
    }

    private ObjectNode json() {
        final ObjectNode json = new ObjectMapper().createObjectNode();
        json.putArray("architectures").add(switch (modelType) {
            case "qwen3" -> "Qwen3ForCausalLM";
            case "qwen2" -> "Qwen2ForCausalLM";
            case "mistral" -> "MistralForCausalLM";
            default -> "LlamaForCausalLM";
        });
        json.put("model_type", modelType).put("vocab_size", embedding.vocab()).put("hidden_size", hidden)
                .put("intermediate_size", feedForward.width()).put("num_hidden_layers", layers)
                .put("num_attention_heads", attention.heads()).put("num_key_value_heads", attention.kvHeads())
                .put("head_dim", attention.headDim()).put("max_position_embeddings", rope.positions())
                .put("rms_norm_eps", normEps).put("rope_theta", rope.theta()).put("tie_word_embeddings", embedding.tied())
                .put("hidden_act", "silu");
        if (modelType.equals("qwen3") || modelType.equals("llama")) {
            json.put("attention_bias", attention.outBias());
        }
        if (modelType.equals("llama")) {
            json.put("mlp_bias", feedForward.bias());
        }
        final Window window = attention.window();
        if (modelType.equals("mistral") || window != null) {
            json.put("sliding_window", window == null ? null : window.tokens()); // without the key, Mistral's is 4096
        }
        if (window != null && !modelType.equals("mistral")) {
            json.put("use_sliding_window", true);
            final ArrayNode types = json.putArray("layer_types");
            window.layers().forEach(slides -> types.add(slides ? "sliding_attention" : "full_attention"));
        }
        if (rope.scaling() != null) {
            rope.scaling().write(json.putObject("rope_scaling").put("rope_type", rope.scaling().type()));
        }
        return json;
    }
}
