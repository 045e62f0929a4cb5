package org.teamtr.task;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;

/** The cases that stand in files of src/test/resources/org/teamtr/task, a JSON object a line. */
public final class Rows {
    private static final ObjectMapper JSON = new ObjectMapper();

    private Rows() {
    }

    public static List<JsonNode> rows(String file) {
        try (BufferedReader in = new BufferedReader(new InputStreamReader(Rows.class.getResourceAsStream(file), StandardCharsets.UTF_8))) {
            final List<JsonNode> rows = new ArrayList<>();
            for (String line = in.readLine(); line != null; line = in.readLine()) {
                rows.add(JSON.readTree(line));
            }
            return rows;
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }
}
