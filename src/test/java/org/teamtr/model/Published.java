package org.teamtr.model;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.TreeMap;
import java.util.stream.Stream;

/** Published {@code config.json} files, and the same shrunk to models that take no time. */
public final class Published {
    private static final Path FOLDER = Path.of("src/test/resources/org/teamtr/model/published");
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final int LAYERS = 4;
    private static final int HEAD_DIM = 16;

    private Published() {
    }

    /** By name. */
    public static TreeMap<String, Path> files() throws IOException {
        final TreeMap<String, Path> files = new TreeMap<>(String.CASE_INSENSITIVE_ORDER);
        try (Stream<Path> all = Files.list(FOLDER)) {
            for (Path file : all.toList()) {
                files.put(file.getFileName().toString().replaceFirst("\\.json$", ""), file);
            }
        }
        return files;
    }

    /** The same fields with smaller sizes: windows and original lengths so short that a text of a few tokens is beyond them. */
    public static ObjectNode shrunk(Path file, int vocab) throws IOException {
        final ObjectNode json = (ObjectNode) JSON.readTree(file.toFile());
        final int heads = json.path("num_attention_heads").asInt();
        final int share = heads / json.path("num_key_value_heads").asInt(heads);
        final int kvHeads = share == 1 ? 4 : 2;
        json.put("num_attention_heads", kvHeads * share).put("hidden_size", kvHeads * share * HEAD_DIM).put("intermediate_size", 96)
                .put("num_hidden_layers", LAYERS).put("vocab_size", vocab);
        replace(json, "num_key_value_heads", kvHeads);
        replace(json, "head_dim", HEAD_DIM);
        replace(json, "sliding_window", 7);
        replace(json, "max_window_layers", 2);
        if (json.path("rope_scaling").isObject()) {
            replace((ObjectNode) json.path("rope_scaling"), "original_max_position_embeddings", 16);
        }
        for (String id : List.of("bos_token_id", "eos_token_id")) {
            replace(json, id, 1);
        }
        final JsonNode types = json.path("layer_types");
        if (types.isArray()) {
            final ArrayNode some = json.putArray("layer_types");
            for (int i = 0; i < LAYERS; i++) {
                some.add(types.get(i));
            }
        }
        return json;
    }

    private static void replace(ObjectNode json, String name, int value) {
        if (json.hasNonNull(name)) {
            json.put(name, value);
        }
    }
}
