package org.teamtr.model;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.junit.jupiter.api.Test;

/** The tables of docs/models.md are what the program does with the files. */
class PublishedModelsTest {
    private static final Path DOCUMENT = Path.of("docs/models.md");

    private static JsonNode results() throws IOException {
        return new ObjectMapper().readTree(Path.of("src/conformance/results.json").toFile());
    }

    @Test
    void theTableIsWhatHappens() throws IOException {
        final JsonNode differences = results().path("differences");
        final StringBuilder table =
                new StringBuilder("| `config.json` of | `model_type` | loads | difference from transformers |\n|---|---|---|---|\n");
        int loaded = 0;
        for (Map.Entry<String, Path> model : Published.files().entrySet()) {
            final Path file = model.getValue();
            final String type = new ObjectMapper().readTree(file.toFile()).path("model_type").asText();
            final List<String> notes = new ArrayList<>();
            String loads;
            String difference = "–";
            try {
                ModelConfig.read(file, notes::add);
                loads = "yes" + (notes.isEmpty() ? "" : "; says: " + String.join("; ", notes).replace(file + ": ", ""));
                assertTrue(differences.has(model.getKey()), model.getKey() + ": not in src/conformance/results.json; see its README");
                difference = difference(differences.path(model.getKey()));
                loaded++;
            } catch (IOException e) {
                loads = "no: " + e.getMessage().replace(file + ": ", "").replaceFirst("(given \\{.{40}).*", "$1…");
            }
            table.append("| ").append(model.getKey()).append(" | ").append(type).append(" | ").append(loads).append(" | ").append(difference)
                    .append(" |\n");
        }
        assertTrue(loaded >= 15, loaded + " load");
        same("models", table.toString());
    }

    @Test
    void variationsOfThem() throws IOException {
        final StringBuilder table = new StringBuilder("| model | difference from transformers |\n|---|---|\n");
        results().path("differences").properties().forEach(entry -> {
            if (entry.getKey().contains(",")) {
                table.append("| ").append(entry.getKey()).append(" | ").append(difference(entry.getValue())).append(" |\n");
            }
        });
        same("variations", table.toString());
    }

    @Test
    void versions() throws IOException {
        final JsonNode versions = results().path("versions");
        same("versions", "transformers " + versions.path("transformers").asText() + ", PEFT " + versions.path("peft").asText() + ", torch "
                + versions.path("torch").asText() + "\n");
    }

    private static String difference(JsonNode value) {
        assertTrue(value.asDouble() <= 2e-5, value + ": more than 2e-5");
        return String.format(Locale.ROOT, "%.1e", value.asDouble());
    }

    /** Compares a part of the document, or writes it with -Dmodels.write=true. */
    private static void same(String part, String expected) throws IOException {
        final String document = Files.readString(DOCUMENT);
        final String begin = "<!-- " + part + " -->\n";
        final String end = "<!-- /" + part + " -->";
        final int from = document.indexOf(begin) + begin.length();
        final int to = document.indexOf(end);
        if (Boolean.getBoolean("models.write")) {
            Files.writeString(DOCUMENT, document.substring(0, from) + expected + document.substring(to));
            return;
        }
        assertEquals(expected, document.substring(from, to), DOCUMENT + " is stale: run this test with -Dmodels.write=true");
    }
}
