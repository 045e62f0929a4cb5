package org.teamtr.report;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.annotation.JsonProperty;
import com.fasterxml.jackson.annotation.JsonUnwrapped;
import java.lang.reflect.RecordComponent;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;
import org.teamtr.train.RunLog;

/** docs/metrics.md has every name of the files, and no other. */
class MetricsDocTest {
    @Test
    void everyFieldIsInTheDocumentAndNothingElseIs() throws Exception {
        final Map<String, List<Class<?>>> files = new LinkedHashMap<>();
        files.put("metrics.jsonl", List.of(RunLog.Update.class));
        files.put("diagnostics.jsonl", List.of(RunLog.Diagnosis.class));
        files.put("ranks.jsonl", List.of(RunLog.Ranks.class, RunLog.Rank.class));
        files.put("stages.jsonl", List.of(RunLog.Stage.class));
        files.put("transcripts.jsonl", List.of(RunLog.Transcript.class, RunLog.Said.class));
        files.put("replacements.jsonl", List.of(RunLog.Replacement.class, RunLog.Measured.class));
        files.put("summary.json", List.of(RunSummary.class));
        final Map<String, Set<String>> documented = tables(Files.readString(Path.of("docs/metrics.md")));
        assertEquals(files.keySet(), documented.keySet());
        files.forEach((file, records) -> {
            final Set<String> fields = new TreeSet<>();
            records.forEach(r -> fields(r, fields));
            assertEquals(fields, documented.get(file), file);
        });
    }

    private static void fields(Class<?> record, Set<String> fields) {
        for (RecordComponent c : record.getRecordComponents()) {
            if (c.getAccessor().isAnnotationPresent(JsonUnwrapped.class)) {
                fields(c.getType(), fields);
            } else {
                final JsonProperty named = c.getAccessor().getAnnotation(JsonProperty.class);
                fields.add(named == null ? snake(c.getName()) : named.value());
            }
        }
    }

    /** The first column of each section's table, by the file in the section's title; sections without a file have no table. */
    private static Map<String, Set<String>> tables(String document) {
        final Map<String, Set<String>> tables = new LinkedHashMap<>();
        for (String section : document.split("(?m)^## ")) {
            final Matcher file = Pattern.compile("^`([^`]+)`").matcher(section);
            final Set<String> names = new LinkedHashSet<>();
            final Matcher row = Pattern.compile("(?m)^\\| `([^`]+)` \\|").matcher(section);
            while (row.find()) {
                assertTrue(names.add(row.group(1)), "twice: " + row.group(1));
            }
            if (file.find()) {
                tables.put(file.group(1), new TreeSet<>(names));
            } else {
                assertEquals(Set.of(), names);
            }
        }
        return tables;
    }

    private static String snake(String camel) {
        return camel.replaceAll("([A-Z])", "_$1").toLowerCase(Locale.ROOT);
    }
}
