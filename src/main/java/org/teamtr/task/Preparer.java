package org.teamtr.task;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.teamtr.team.KeyedRandom;
import org.teamtr.team.Prompt;

/**
 * Brings data sets as they are published into one form, JSON objects on lines: {@code {id, source, prompt, answer, meta}}. Columns that
 * have no place there are kept in {@code meta}.
 */
public final class Preparer {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final String BOX = "\n\nReason step by step, and put your final answer in \\boxed{}.";

    /**
     * How a data set is read.
     *
     * @param source what its rows say they are of
     * @param prompt columns of which the first that is there holds the prompt; likewise the others
     * @param added text appended to every prompt
     */
    private record Format(String source, List<String> prompt, List<String> answer, List<String> id, String added) {
    }

    private static final Map<String, Format> FORMATS = new LinkedHashMap<>();

    static {
        final List<String> problem = List.of("problem", "Problem", "question", "prompt", "context");
        final List<String> id = List.of("unique_id", "id", "ID", "idx", "index");
        // The answer column, never the solution: of a worked solution nothing is equal to a reply.
        final List<String> answer = List.of("answer", "Answer", "expected_answer", "reward_model.ground_truth");
        for (String aime : List.of("aime24", "aime25", "aime")) {
            FORMATS.put(aime, new Format(aime, problem, answer, id, BOX));
        }
        FORMATS.put("math500", new Format("math500", problem, answer, id, BOX));
        FORMATS.put("gsm8k", new Format("gsm8k", problem, answer, id, ""));
        FORMATS.put("zebralogic", new Format("zebralogic", List.of("puzzle", "prompt"), List.of("solution", "answer"), id, ""));
        FORMATS.put("autologi", new Format("autologi", List.of("prompt", "question"), List.of(), id, ""));
        FORMATS.put("guess_number", new Format("guess_number", List.of("prompt"), List.of("secret", "answer"), id, ""));
        FORMATS.put("planbench",
                new Format("planbench", List.of("query", "statement", "prompt"), List.of("ground_truth_plan", "ground_truth", "answer"),
                        List.of("instance_id", "id"), ""));
        FORMATS.put("detective", new Format("detective", List.of("prompt"), List.of("label", "answer"), id, ""));
        FORMATS.put("situation", new Format("overlap", List.of("surface", "prompt"), List.of("bottom", "answer"), id, ""));
        FORMATS.put("verl",
                new Format(null, List.of("prompt", "context"), List.of("reward_model.ground_truth"), List.of("extra_info.index", "id"), ""));
    }

    /** {@return the names of the data sets that are known} */
    public static List<String> names() {
        return List.copyOf(FORMATS.keySet());
    }

    /**
     * What was done.
     *
     * @param files by name what was written, with the number of rows
     * @param checksums SHA-256 of what was read and written, by path
     * @param repeated prompts that stand more than once in what was read; one of each is kept
     * @param shared prompts that would be in training and test both; they are kept for testing alone
     * @param unusable rows that were left out, and the first of the reasons
     */
    public record Summary(Map<String, Integer> files, Map<String, String> checksums, int repeated, int shared, Map<String, Integer> unusable) {
    }

    private Preparer() {
    }

    /**
     * Writes {@code NAME.jsonl}, or with held-out rows {@code NAME-train.jsonl} and {@code NAME-test.jsonl}.
     *
     * @param heldOut how many rows are for testing; which, depends on their prompts alone. 0 for no split
     * @param against a file of test prompts, as written here, that training must not hold; null for none
     * @throws IOException if something cannot be read or written
     * @throws IllegalArgumentException if the name is unknown, or nothing is left
     */
    public static Summary prepare(String name, List<Path> sources, Path out, int heldOut, Path against) throws IOException {
        final Format format = FORMATS.get(name);
        if (format == null) {
            throw new IllegalArgumentException("name: expected one of " + String.join(", ", FORMATS.keySet()) + ", given " + name);
        }
        final Map<String, String> checksums = new LinkedHashMap<>();
        final Map<String, Integer> unusable = new LinkedHashMap<>();
        final Map<String, Map<String, Object>> rows = new LinkedHashMap<>(); // by prompt
        int repeated = 0;
        for (Path source : sources) {
            checksums.put(source.toString(), sha256(source));
            int number = 0;
            for (Map<String, Object> raw : raw(name, source)) {
                number++;
                try {
                    final Map<String, Object> row = row(name, format, raw, source.getFileName() + ":" + number);
                    repeated += rows.putIfAbsent(key(row), row) == null ? 0 : 1;
                } catch (IllegalArgumentException e) {
                    unusable.merge(e.getMessage().length() > 150 ? e.getMessage().substring(0, 147) + "..." : e.getMessage(), 1, Integer::sum);
                }
            }
        }
        int shared = 0;
        if (against != null) {
            checksums.put(against.toString(), sha256(against));
            for (Map<String, Object> row : PromptFile.rows(against)) {
                shared += rows.remove(key(row)) != null ? 1 : 0;
            }
        }
        if (rows.isEmpty() || heldOut >= rows.size()) {
            throw new IllegalArgumentException(sources + ": expected more than " + heldOut + " rows that can be used, found " + rows.size()
                    + (unusable.isEmpty() ? "" : "; " + unusable.keySet().iterator().next()));
        }
        Files.createDirectories(out);
        final Map<String, Integer> files = new LinkedHashMap<>();
        final List<Map<String, Object>> all = new ArrayList<>(rows.values());
        if (heldOut == 0) {
            write(out.resolve(name + ".jsonl"), all, files, checksums);
        } else {
            final List<String> keys = new ArrayList<>(rows.keySet());
            keys.sort(Comparator.comparingLong((String k) -> KeyedRandom.seed(hash(k))).thenComparing(k -> k));
            final List<String> test = keys.subList(0, heldOut);
            final Map<String, Boolean> isTest = new HashMap<>();
            test.forEach(k -> isTest.put(k, true));
            write(out.resolve(name + "-train.jsonl"), all.stream().filter(r -> !isTest.containsKey(key(r))).toList(), files, checksums);
            write(out.resolve(name + "-test.jsonl"), all.stream().filter(r -> isTest.containsKey(key(r))).toList(), files, checksums);
        }
        final Summary summary = new Summary(files, checksums, repeated, shared, unusable);
        Files.writeString(out.resolve(name + "-summary.json"), JSON.writerWithDefaultPrettyPrinter().writeValueAsString(summary) + "\n");
        return summary;
    }

    private static long hash(String key) {
        long h = 1125899906842597L;
        for (int i = 0; i < key.length(); i++) {
            h = 31 * h + key.charAt(i);
        }
        return h;
    }

    private static void write(Path file, List<Map<String, Object>> rows, Map<String, Integer> files, Map<String, String> checksums)
            throws IOException {
        final StringBuilder text = new StringBuilder();
        for (Map<String, Object> row : rows) {
            text.append(JSON.writeValueAsString(row)).append('\n');
        }
        Files.writeString(file, text);
        files.put(file.getFileName().toString(), rows.size());
        checksums.put(file.toString(), sha256(file));
    }

    /** Two rows with the same prompt, blanks and case aside, are the same; of guessing games, with the same secret. */
    private static String key(Map<String, Object> row) {
        return (row.get("prompt") + ("guess_number".equals(row.get("source")) ? " " + row.get("answer") : "")).toLowerCase(Locale.ROOT)
                .replaceAll("\\s+", " ").strip();
    }

    /** The rows of a file; AR-Bench's secrets are an array of texts, PlanBench's items stand under {@code instances}. */
    private static List<Map<String, Object>> raw(String name, Path source) throws IOException {
        if (name.equals("guess_number") || name.equals("planbench")) {
            final JsonNode whole;
            try {
                whole = JSON.readTree(Files.readString(source));
            } catch (JsonProcessingException e) {
                return PromptFile.rows(source);
            }
            final List<Map<String, Object>> rows = new ArrayList<>();
            if (whole.isArray() && whole.path(0).isTextual()) {
                whole.forEach(secret -> rows.add(new LinkedHashMap<>(Map.of("secret", secret.textValue()))));
                return rows;
            }
            if (whole.path("instances").isArray()) {
                for (JsonNode item : whole.path("instances")) {
                    final Map<String, Object> row = new LinkedHashMap<>();
                    item.properties().forEach(e -> row.put(e.getKey(), JSON.convertValue(e.getValue(), Object.class)));
                    row.put("task", whole.path("task").asText().replaceFirst("^task_(\\d)_.*", "t$1"));
                    row.put("domain", whole.path("domain").asText("blocksworld"));
                    rows.add(row);
                }
                return rows;
            }
        }
        return PromptFile.rows(source);
    }

    private static Map<String, Object> row(String name, Format format, Map<String, Object> raw, String where) {
        final Map<String, Object> meta = new LinkedHashMap<>(raw);
        final Object answer = first(raw, format.answer(), meta);
        final Object id = first(raw, format.id(), meta);
        final Object source = format.source() != null ? format.source() : raw.getOrDefault("data_source", name);
        final String prompt = switch (name) {
            case "guess_number" -> guessing(String.valueOf(answer));
            case "detective" -> detecting(raw);
            default -> prompt(first(raw, format.prompt(), meta), format);
        };
        final Map<String, Object> row = new LinkedHashMap<>();
        row.put("id", id == null ? where : name + "-" + id);
        row.put("source", source);
        row.put("prompt", name.equals("zebralogic") ? prompt + template(answer) : prompt + format.added());
        row.put("answer", answer);
        row.put("meta", meta);
        final String text = answer == null ? null : answer instanceof Map || answer instanceof List ? json(answer) : String.valueOf(answer);
        final Prompt whole = new Prompt(String.valueOf(row.get("id")), String.valueOf(row.get("prompt")), text, source.toString(), meta);
        if (name.equals("guess_number")) {
            if (text == null || !text.matches("[0-9]{1,18}")) {
                throw new IllegalArgumentException("answer: expected a secret of 1 to 18 digits, given " + text);
            }
        } else if (name.equals("autologi")) {
            if (!(meta.get("code") instanceof Map)) {
                throw new IllegalArgumentException("code: expected the item's verifier, given nothing");
            }
        } else if (!name.equals("verl")) {
            Verifiers.grader(source.toString(), Verifiers.Settings.DEFAULT).check(whole);
        }
        return row;
    }

    private static String json(Object value) {
        try {
            return JSON.writeValueAsString(value);
        } catch (JsonProcessingException e) {
            throw new UncheckedIOException(e);
        }
    }

    /** The value of the first column that is there, which is taken out of {@code meta}; null for none. */
    private static Object first(Map<String, Object> raw, List<String> columns, Map<String, Object> meta) {
        for (String column : columns) {
            Object at = raw;
            for (String step : column.split("\\.")) {
                at = at instanceof Map<?, ?> map ? map.get(step) : null;
            }
            if (at != null) {
                meta.remove(column);
                return at;
            }
        }
        return null;
    }

    private static String prompt(Object given, Format format) {
        Object text = given;
        if (given instanceof List<?> turns) {
            for (Object turn : turns) {
                text = turn instanceof Map<?, ?> map && "user".equals(map.get("role")) ? map.get("content") : text;
            }
        }
        if (!(text instanceof String prompt) || prompt.isBlank()) {
            throw new IllegalArgumentException("prompt: expected a text in one of the columns " + format.prompt() + ", given "
                    + (given == null ? "nothing" : given));
        }
        return prompt;
    }

    private static String guessing(String secret) {
        return "I have thought of a number of " + secret.length()
                + " digits, all of them different; it may begin with 0. In each turn you guess, in the form"
                + " Guess: [number], and I answer how many digits are present in the answer and in the correct positions, and how many are present but in"
                + " different positions. Find the number.";
    }

    private static String detecting(Map<String, Object> raw) {
        if (!(raw.get("initial_information") instanceof Map<?, ?> known) || !(known.get("suspect") instanceof List<?> suspects)) {
            throw new IllegalArgumentException(
                    "initial_information: expected an object with a list suspect, given " + raw.get("initial_information"));
        }
        final StringBuilder text =
                new StringBuilder("You are a detective who has to find the murderer among five suspects. In each turn you first name"
                        + " a suspect, then ask one question.\n");
        known.forEach((key, value) -> {
            if (!key.equals("suspect")) {
                text.append(key).append(": ").append(value instanceof Map<?, ?> map ? map.toString().replaceAll("[{}]", "") : value).append('\n');
            }
        });
        for (int i = 0; i < suspects.size(); i++) {
            text.append((char) ('A' + i)).append(". ")
                    .append(suspects.get(i) instanceof Map<?, ?> map ? map.get("name") + ": " + map.get("introduction")
                            : suspects.get(i))
                    .append('\n');
        }
        return text.toString();
    }

    /** The form of the answer, with the columns of the puzzle. */
    private static String template(Object answer) {
        if (!(answer instanceof Map<?, ?> grid) || !(grid.get("header") instanceof List<?> header) || !(grid.get("rows") instanceof List<?> rows)) {
            throw new IllegalArgumentException("solution: expected an object with header and rows, given " + answer);
        }
        final Map<String, Object> houses = new LinkedHashMap<>();
        for (int h = 1; h <= rows.size(); h++) {
            final Map<String, Object> house = new LinkedHashMap<>();
            header.stream().skip(1).forEach(column -> house.put(String.valueOf(column), "___"));
            houses.put("House " + h, house);
        }
        final Map<String, Object> all = new LinkedHashMap<>();
        all.put("reasoning", "___");
        all.put("solution", houses);
        try {
            return "\n\nPresent your reasoning and solution in this JSON format:\n\n"
                    + JSON.writerWithDefaultPrettyPrinter().writeValueAsString(all);
        } catch (JsonProcessingException e) {
            throw new UncheckedIOException(e);
        }
    }

    private static String sha256(Path file) throws IOException {
        try {
            return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(Files.readAllBytes(file)));
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException(e);
        }
    }
}
