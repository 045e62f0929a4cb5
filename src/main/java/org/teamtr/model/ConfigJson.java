package org.teamtr.model;

import static org.teamtr.model.ModelConfig.require;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.FileNotFoundException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.function.Consumer;
import java.util.function.Predicate;
import org.teamtr.model.ModelConfig.Attention;
import org.teamtr.model.ModelConfig.Embedding;
import org.teamtr.model.ModelConfig.FeedForward;
import org.teamtr.model.ModelConfig.Rope;

/**
 * Reads a {@code config.json} field by field. There are four kinds of fields:
 *
 * <ul>
 * <li>{@link #COMPUTED}: the decoder does what they say, or the reader refuses the value.
 * <li>{@link #NEUTRAL}: they change what other architectures compute, or what other programs make of this one. Only the value that
 * changes nothing is accepted.
 * <li>{@link #HARMLESS}: known, and without effect on log-probs: names, versions, token ids, dropout (which is off outside
 * pretraining), defaults of generation.
 * <li>All others are ignored, with a note unless the value is null, false, or empty. They are not refused:
 * transformers, which defines these architectures, computes them from the fields of the first kind alone, and fine-tuning programs
 * leave fields of their own in this file.
 * </ul>
 */
final class ConfigJson {
    /** What the decoder computes, or refuses to. */
    static final Set<String> COMPUTED = Set.of("model_type", "architectures", "auto_map", "vocab_size", "hidden_size",
            "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
            "max_position_embeddings", "original_max_position_embeddings", "rms_norm_eps", "hidden_act", "rope_theta", "rope_scaling",
            "rope_parameters", "tie_word_embeddings", "attention_bias", "mlp_bias", "use_sliding_window", "sliding_window", "max_window_layers",
            "layer_types");

    /** Fields without effect here. */
    static final Set<String> HARMLESS = Set.of("_name_or_path", "name_or_path", "_commit_hash", "transformers_version",
            "transformers.js_config", "torch_dtype", "dtype", "use_cache", "initializer_range", "attention_dropout", "pretraining_tp",
            "bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "unk_token_id", "decoder_start_token_id", "is_llama_config",
            "output_attentions", "output_hidden_states", "output_scores", "return_dict", "return_dict_in_generate", "use_return_dict",
            "torchscript", "use_bfloat16", "tf_legacy_loss", "id2label", "label2id", "problem_type", "task_specific_params",
            "finetuning_task", "tokenizer_class", "prefix", "chunk_size_feed_forward", "is_decoder", "remove_invalid_values",
            "exponential_decay_length_penalty", "max_length", "min_length", "do_sample", "early_stopping", "num_beams",
            "num_beam_groups", "diversity_penalty", "temperature", "top_k", "top_p", "typical_p", "repetition_penalty", "length_penalty",
            "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids", "num_return_sequences", "suppress_tokens",
            "begin_suppress_tokens", "forced_bos_token_id", "forced_eos_token_id", "_attn_implementation_autoset",
            "_attn_implementation", "attn_implementation", "attn_pdrop", "embd_pdrop", "resid_pdrop", "unsloth_fixed", "unsloth_version",
            "unsloth_force_compile", "model_max_length");

    /** A field that has to have the value which changes nothing. */
    private record Neutral(Predicate<JsonNode> accepted, String expected, String why) {
    }

    private static final Map<String, Neutral> NEUTRAL = new LinkedHashMap<>();

    static {
        neutral(ConfigJson::isEmpty, "none", "quantised weights are not read; take the model in bf16, f16 or f32", "quantization_config",
                "quantization", "compression_config");
        neutral(ConfigJson::isEmpty, "none", "this decoder has no mixture of experts", "num_experts", "num_local_experts",
                "n_routed_experts", "n_shared_experts", "num_experts_per_tok", "moe_intermediate_size", "mlp_only_layers");
        neutral(ConfigJson::isEmpty, "none", "this decoder does not cap logits", "attn_logit_softcapping", "final_logit_softcapping",
                "logit_softcapping", "logits_soft_cap");
        neutral(v -> isEmpty(v) || v.isNumber() && v.asDouble() == 1, "1", "this decoder does not scale by it", "logit_scale",
                "logits_scaling", "embedding_multiplier", "residual_multiplier", "attention_multiplier", "lm_head_multiplier",
                "embedding_scale", "scale_emb", "scale_depth", "rope_ratio");
        neutral(v -> v.isNull() || v.isNumber() && v.asDouble() == 1, "1", "this decoder rotates whole heads", "partial_rotary_factor",
                "rotary_pct");
        neutral(ConfigJson::isEmpty, "false", "this decoder rotates the two halves of a head", "rope_interleaved", "rope_traditional");
        neutral(ConfigJson::isEmpty, "false", "all layers of this decoder have the same rotary positions", "use_mrope",
                "mrope_section", "no_rope_layers", "no_rope_layer_interval", "rope_local_base_freq", "use_dynamic_ntk");
        neutral(ConfigJson::isEmpty, "none", "this decoder attends to what came before, all of it or a sliding window",
                "attention_chunk_size", "use_bidirectional_attention", "is_encoder_decoder", "add_cross_attention",
                "cross_attention_hidden_size", "tie_encoder_decoder", "use_logn_attn", "attention_sink_size", "log_scale");
        neutral(v -> v.isNull() || v.asBoolean(false), "true", "this decoder attends to what came before alone", "is_causal");
        neutral(ConfigJson::isEmpty, "none", "this decoder has all of its heads and layers, and reads text alone", "pruned_heads",
                "text_config", "vision_config", "audio_config", "num_nextn_predict_layers", "query_pre_attn_scalar");
    }

    /** What the architecture's name says; defaults are those of transformers. */
    private enum Family {
        LLAMA("LlamaForCausalLM", 0, 0, 2048), MISTRAL("MistralForCausalLM", 8, 0, 131_072), QWEN2("Qwen2ForCausalLM", 32, 0, 32_768),
        QWEN3("Qwen3ForCausalLM", 32, 128, 32_768);

        final String architecture;
        final int kvHeads; // 0: as many as heads
        final int headDim; // 0: hidden / heads
        final int positions;

        Family(String architecture, int kvHeads, int headDim, int positions) {
            this.architecture = architecture;
            this.kvHeads = kvHeads;
            this.headDim = headDim;
            this.positions = positions;
        }
    }

    /** Why a model of another type is refused, for those that people are likely to try. */
    private static final Map<String, String> OTHER_TYPES = Map.ofEntries(
            Map.entry("qwen3_moe", "a mixture of experts"), Map.entry("qwen2_moe", "a mixture of experts"),
            Map.entry("mixtral", "a mixture of experts"), Map.entry("gpt_oss", "a mixture of experts"),
            Map.entry("phimoe", "a mixture of experts"), Map.entry("deepseek_v2", "a mixture of experts with latent attention"),
            Map.entry("deepseek_v3", "a mixture of experts with latent attention"),
            Map.entry("llama4", "a mixture of experts with chunked attention"),
            Map.entry("llama4_text", "a mixture of experts with chunked attention"),
            Map.entry("phi", "layer norms, a plain feed-forward layer, parallel attention and partial rotary embeddings"),
            Map.entry("phi3", "query, key and value in one matrix, gate and up in another; some have LongRoPE or partial rotary embeddings"),
            Map.entry("gemma", "norms that multiply by 1 + weight, scaled embeddings and gated GELU"),
            Map.entry("gemma2", "norms that multiply by 1 + weight, scaled embeddings, gated GELU and soft-capped logits"),
            Map.entry("gemma3", "norms that multiply by 1 + weight, scaled embeddings, gated GELU and two kinds of rotary positions"),
            Map.entry("gemma3_text", "norms that multiply by 1 + weight, scaled embeddings, gated GELU and two kinds of rotary positions"),
            Map.entry("smollm3", "layers without rotary positions"), Map.entry("gpt2", "layer norms and learnt positions"),
            Map.entry("gpt_neox", "layer norms and parallel attention"), Map.entry("olmo2", "norms after the layers instead of before"),
            Map.entry("ministral", "layers of two kinds"), Map.entry("granite", "multipliers of embeddings, residuals, attention and logits"),
            Map.entry("qwen3_next", "linear attention"), Map.entry("qwen2_vl", "pictures"), Map.entry("qwen2_5_vl", "pictures"));

    private static final Set<String> ROPE_KEYS = Set.of("rope_type", "type", "rope_theta", "factor", "original_max_position_embeddings",
            "low_freq_factor", "high_freq_factor", "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate",
            "partial_rotary_factor");
    private static final Map<String, Set<String>> ROPE_TYPES = Map.of("default", Set.of(), "linear", Set.of("factor"),
            "dynamic", Set.of("factor", "original_max_position_embeddings"),
            "llama3", Set.of("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
            "yarn", Set.of("factor", "original_max_position_embeddings", "attention_factor", "beta_fast", "beta_slow", "mscale",
                    "mscale_all_dim", "truncate"));

    private final JsonNode json;
    private final Consumer<String> note;

    private ConfigJson(JsonNode json, Consumer<String> note) {
        this.json = json;
        this.note = note;
    }

    private static void neutral(Predicate<JsonNode> accepted, String expected, String why, String... names) {
        for (String name : names) {
            NEUTRAL.put(name, new Neutral(accepted, expected, why));
        }
    }

    static ModelConfig read(Path file, Consumer<String> note) throws IOException {
        if (file.getParent() != null) {
            ModelFolder.check(file.getParent());
        }
        if (!Files.isRegularFile(file)) {
            throw new FileNotFoundException(file + ": there is no such file");
        }
        LfsPointer.refuse(file);
        final JsonNode json;
        try {
            json = new ObjectMapper().readTree(Files.readAllBytes(file));
        } catch (IOException e) {
            throw new IOException(file + ": " + e.getMessage(), e);
        }
        if (!json.isObject()) {
            throw new IOException(file + ": expected a JSON object");
        }
        try {
            return new ConfigJson(json, sentence -> note.accept(file + ": " + sentence)).read();
        } catch (IllegalArgumentException e) {
            throw new IOException(file + ": " + e.getMessage(), e);
        }
    }

    private ModelConfig read() {
        final Family family = family();
        final String type = family.name().toLowerCase(Locale.ROOT);
        checkFields();
        require(text("hidden_act", "silu").equals("silu"), "hidden_act", "silu", json.path("hidden_act"));
        final int hidden = integer("hidden_size", -1);
        final int layers = integer("num_hidden_layers", -1);
        final int heads = integer("num_attention_heads", -1);
        require(heads >= 1, "num_attention_heads", "1 or more", heads);
        final int positions = integer("max_position_embeddings", family.positions);
        final boolean bias = bool("attention_bias", family == Family.QWEN2);
        require(family != Family.QWEN2 || bias, "attention_bias", "true, which is what qwen2 has", false);
        require(family != Family.MISTRAL || !bias, "attention_bias", "false, which is what mistral has", true);
        final boolean mlpBias = bool("mlp_bias", false);
        require(family == Family.LLAMA || !mlpBias, "mlp_bias", "false, which is what " + type + " has", true);
        final JsonNode rope = rope();
        return new ModelConfig(type, new Embedding(integer("vocab_size", -1), bool("tie_word_embeddings", false)), hidden, layers,
                new Attention(heads, integer("num_key_value_heads", json.path("num_key_value_heads").isNull() || family.kvHeads == 0 ? heads
                        : family.kvHeads), integer("head_dim", family.headDim > 0 ? family.headDim : hidden / heads), bias,
                        bias && family != Family.QWEN2, family == Family.QWEN3, window(family, layers)),
                new FeedForward(integer("intermediate_size", -1), mlpBias),
                new Rope(positions, number(rope.hasNonNull("rope_theta") ? rope : json, "", "rope_theta", 10_000), scaling(rope, positions)),
                number(json, "", "rms_norm_eps", 1e-6));
    }

    private Family family() {
        final String type = text("model_type", "");
        for (Family family : Family.values()) {
            if (family.name().toLowerCase(Locale.ROOT).equals(type)) {
                final JsonNode architecture = json.path("architectures").path(0);
                if (architecture.isTextual() && !architecture.asText().equals(family.architecture)) {
                    note.accept("architectures says " + architecture.asText() + " and model_type " + type
                            + ": computed as model_type says, as transformers does");
                }
                return family;
            }
        }
        final String why = OTHER_TYPES.get(type);
        throw new IllegalArgumentException("model_type: expected one of " + new TreeSet<>(ModelConfig.TYPES) + ", given "
                + (type.isEmpty() ? "none" : type) + (why == null ? "" : ", which is another architecture: " + why));
    }

    /** Refuses or reports what is not computed. */
    private void checkFields() {
        final List<String> unknown = new ArrayList<>();
        json.fieldNames().forEachRemaining(name -> {
            final JsonNode value = json.get(name);
            final Neutral neutral = NEUTRAL.get(name);
            if (neutral != null) {
                require(neutral.accepted().test(value), name, neutral.expected() + ", since " + neutral.why(), value);
            } else if (!COMPUTED.contains(name) && !HARMLESS.contains(name) && !isEmpty(value)) {
                unknown.add(name);
            }
        });
        if (!unknown.isEmpty()) {
            note.accept("unknown, and ignored: " + String.join(", ", unknown)
                    + "; transformers ignores them in a model of this type too");
        }
        final JsonNode code = json.path("auto_map");
        for (String name : new String[] {"AutoModel", "AutoModelForCausalLM"}) {
            require(isEmpty(code.path(name)), "auto_map." + name, "none, since code that comes with a model is not run", code.path(name));
        }
    }

    /** Null, false, 0, "", [] or {}; a missing node as well. */
    private static boolean isEmpty(JsonNode value) {
        return value.isMissingNode() || value.isNull() || value.isBoolean() && !value.asBoolean()
                || value.isNumber() && value.asDouble() == 0 || value.isTextual() && value.asText().isEmpty()
                || value.isContainerNode() && value.isEmpty();
    }

    private ModelConfig.Window window(Family family, int layers) {
        final JsonNode types = json.path("layer_types");
        require(isEmpty(types) || types.isArray(), "layer_types", "a list", types);
        final boolean listed = types.isArray() && !types.isEmpty();
        require(!listed || types.size() == layers, "layer_types", "num_hidden_layers = " + layers + " of them", types.size());
        final Boolean[] slides = new Boolean[layers];
        Arrays.fill(slides, false);
        for (int i = 0; listed && i < layers; i++) {
            final String type = types.get(i).asText();
            require(type.equals("sliding_attention") || type.equals("full_attention"), "layer_types[" + i + "]",
                    "full_attention or sliding_attention", types.get(i));
            slides[i] = type.equals("sliding_attention");
        }
        final boolean any = Arrays.asList(slides).contains(true);
        final JsonNode given = json.path("sliding_window");
        switch (family) {
            case LLAMA -> {
                require(!any && !bool("use_sliding_window", false), "sliding_window", "none, which is what llama has", given);
                if (!isEmpty(given) && !json.has("use_sliding_window")) {
                    note.accept("sliding_window = " + given + " is ignored: llama has none, and transformers computes none");
                }
                return null;
            }
            case MISTRAL -> {
                require(!listed || any == (!given.isNull()) && Arrays.stream(slides).allMatch(s -> s == any), "layer_types",
                        "layers of one kind, which is what mistral has, as sliding_window says", types);
                require(!json.has("use_sliding_window") || bool("use_sliding_window", false) != given.isNull(), "use_sliding_window",
                        "true with a sliding_window, false with null", json.path("use_sliding_window"));
                Arrays.fill(slides, true);
                return given.isNull() ? null : new ModelConfig.Window(integer("sliding_window", 4096), Arrays.asList(slides));
            }
            default -> {
                final boolean use = bool("use_sliding_window", false);
                require(use || !any, "layer_types", "full_attention alone, since use_sliding_window is not true (set it, or take the"
                        + " sliding_attention out)", types);
                if (!use || given.isNull()) {
                    require(!use || !any, "sliding_window", "a number, for the sliding_attention of layer_types", "null");
                    return null;
                }
                final int from = integer("max_window_layers", 28);
                for (int i = 0; !listed && i < layers; i++) {
                    slides[i] = i >= from;
                }
                return Arrays.asList(slides).contains(true)
                        ? new ModelConfig.Window(integer("sliding_window", 4096), Arrays.asList(slides)) : null;
            }
        }
    }

    /** As transformers: rope_scaling where it is given, else rope_parameters, where newer files keep rope_theta as well. */
    private JsonNode rope() {
        final JsonNode older = json.path("rope_scaling");
        final JsonNode newer = json.path("rope_parameters");
        require(isEmpty(older) || older.isObject(), "rope_scaling", "an object", older);
        require(isEmpty(newer) || newer.isObject(), "rope_parameters", "an object", newer);
        return isEmpty(older) ? newer : older;
    }

    private RopeScaling scaling(JsonNode rope, int positions) {
        final String where = "rope_scaling.";
        final String type = isEmpty(rope.path("rope_type")) ? rope.path("type").asText("default") : rope.path("rope_type").asText();
        require(ROPE_TYPES.containsKey(type), where + "rope_type", "one of " + new TreeSet<>(ROPE_TYPES.keySet()), type);
        final Set<String> unused = new TreeSet<>();
        rope.fieldNames().forEachRemaining(key -> {
            require(!key.equals("attn_factor"), where + key, "attention_factor in its place, since programs differ on this one: transformers"
                    + " ignores it, and others multiply cosine and sine by it", rope.get(key));
            require(ROPE_KEYS.contains(key), where + key, "one of " + new TreeSet<>(ROPE_KEYS), rope.get(key));
            if (!isEmpty(rope.get(key))) {
                unused.add(key);
            }
        });
        require(isEmpty(rope.path("partial_rotary_factor")) || rope.path("partial_rotary_factor").asDouble() == 1,
                where + "partial_rotary_factor", "1, since this decoder rotates whole heads", rope.path("partial_rotary_factor"));
        unused.removeAll(ROPE_TYPES.get(type));
        unused.removeAll(Set.of("rope_type", "type", "rope_theta", "partial_rotary_factor"));
        if (!unused.isEmpty()) {
            note.accept(where + String.join(", " + where, unused) + ": ignored, since rope_type is " + type);
        }
        if (type.equals("default")) {
            return null;
        }
        final int outside = integer("original_max_position_embeddings", positions); // some files have it there
        final int original = (int) number(rope, where, "original_max_position_embeddings", outside);
        require(isEmpty(json.path("original_max_position_embeddings")) || original == outside, where + "original_max_position_embeddings",
                "the same as outside of it, " + outside, original);
        final double factor = type.equals("yarn") && isEmpty(rope.path("factor")) ? (double) positions / original
                : number(rope, where, "factor", Double.NaN);
        return switch (type) {
            case "linear" -> new RopeScaling.Linear(factor);
            case "dynamic" -> {
                require(original >= positions, where + "original_max_position_embeddings", "max_position_embeddings = " + positions
                        + ", since dynamic frequencies beyond it depend on the length of a batch", original);
                yield new RopeScaling.Dynamic(factor);
            }
            case "llama3" -> new RopeScaling.Llama3(factor, number(rope, where, "low_freq_factor", Double.NaN),
                    number(rope, where, "high_freq_factor", Double.NaN), original);
            default -> new RopeScaling.Yarn(factor, original, yarnAttention(rope, where, factor),
                    number(rope, where, "beta_fast", 32), number(rope, where, "beta_slow", 1),
                    truncate(rope, where));
        };
    }

    private static boolean truncate(JsonNode rope, String where) {
        final JsonNode value = rope.path("truncate");
        require(value.isBoolean() || value.isMissingNode(), where + "truncate", "true or false", value);
        return value.asBoolean(true);
    }

    private static double yarnAttention(JsonNode rope, String where, double factor) {
        if (!isEmpty(rope.path("attention_factor"))) {
            return number(rope, where, "attention_factor", 1);
        }
        final double mscale = number(rope, where, "mscale", 0);
        final double all = number(rope, where, "mscale_all_dim", 0);
        return mscale != 0 && all != 0 ? RopeScaling.Yarn.mscale(factor, mscale) / RopeScaling.Yarn.mscale(factor, all)
                : RopeScaling.Yarn.mscale(factor, 1);
    }

    private String text(String name, String otherwise) {
        final JsonNode value = json.path(name);
        require(value.isTextual() || value.isMissingNode() || value.isNull(), name, "text", value);
        return value.asText(otherwise);
    }

    private boolean bool(String name, boolean otherwise) {
        final JsonNode value = json.path(name);
        require(value.isBoolean() || value.isMissingNode() || value.isNull(), name, "true or false", value);
        return value.asBoolean(otherwise);
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

    /** @param otherwise negative if it has to be there */
    private int integer(String name, int otherwise) {
        final JsonNode value = json.path(name);
        if (value.isMissingNode() || value.isNull()) {
            require(otherwise >= 0, name, "a number", "none");
            return otherwise;
        }
        require(value.isIntegralNumber() && value.canConvertToInt(), name, "an integer", value);
        return value.asInt();
    }
}
