package org.teamtr.task;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.json.JsonReadFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.json.JsonMapper;
import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.Map;
import org.teamtr.team.Prompt;

/**
 * ZebraLogic's grid puzzles (Lin et al., 2024): the reply's last JSON object holds {@code solution}, houses by name with their attributes.
 *
 * <p>The reference answer is {@code {"header": ["House", "Name", ...], "rows": [["1", "Eric", ...], ...]}}. A cell is right if it is the
 * same text without case and blanks around it. The grade's share is that of right cells above chance (the others' share of a row of
 * guesses), so that a constant grid earns nothing; figures {@code cells_right} and {@code cells}.
 */
final class ZebraLogic implements Grader {
    private static final ObjectMapper JSON = JsonMapper.builder().enable(JsonReadFeature.ALLOW_NON_NUMERIC_NUMBERS).build();

    private final boolean tolerant;

    /** @param tolerant whether objects before the last one, and braces inside texts, are minded; the published score does not */
    ZebraLogic(boolean tolerant) {
        this.tolerant = tolerant;
    }

    @Override
    public void check(Prompt prompt) {
        gold(prompt);
    }

    private static JsonNode gold(Prompt prompt) {
        final String gold = Verifiers.gold(prompt);
        JsonNode grid;
        try {
            grid = JSON.readTree(gold);
        } catch (JsonProcessingException e) {
            throw new IllegalArgumentException("answer: expected a JSON object with header and rows: " + e.getOriginalMessage(), e);
        }
        final int width = grid == null ? 0 : grid.path("header").size();
        boolean whole = width > 1 && grid.path("rows").size() > 0;
        if (whole) {
            for (JsonNode row : grid.path("rows")) {
                whole &= row.size() == width;
            }
        }
        if (!whole) {
            throw new IllegalArgumentException("answer: expected a JSON object with a header of two columns or more and rows as long, given \""
                    + Verifiers.shortened(gold) + "\"");
        }
        return grid;
    }

    @Override
    public Grade grade(Prompt prompt, String text) {
        final JsonNode grid = gold(prompt);
        final JsonNode solution = solution(text);
        final JsonNode header = grid.path("header");
        final int houses = grid.path("rows").size();
        int right = 0;
        for (JsonNode row : grid.path("rows")) {
            for (int c = 1; c < header.size(); c++) {
                final String cell = solution == null ? null : cell(solution.path("House " + row.get(0).asText()).path(header.get(c).asText()));
                right += cell != null && cell.equals(normal(row.get(c).asText())) ? 1 : 0;
            }
        }
        final int cells = houses * (header.size() - 1);
        final double chance = 1.0 / houses;
        final Map<String, Double> figures = new LinkedHashMap<>();
        figures.put("cells_right", (double) right);
        figures.put("cells", (double) cells);
        return new Grade(right == cells, Math.max(0, ((double) right / cells - chance) / (1 - chance)), solution != null, figures);
    }

    private static String normal(String cell) {
        return cell.strip().toLowerCase(Locale.ROOT);
    }

    /** Null for what is no text; of a list, the first. */
    private static String cell(JsonNode given) {
        final JsonNode first = given.isArray() ? given.path(0) : given;
        return first.isTextual() && !first.textValue().isEmpty() ? normal(first.textValue()) : null;
    }

    private JsonNode solution(String text) {
        return tolerant ? tolerant(text) : solutionOf(lastObject(text));
    }

    private static JsonNode solutionOf(String object) {
        if (object == null) {
            return null;
        }
        try {
            final JsonNode read = JSON.readTree(object.replace("\n", ""));
            final JsonNode solution = read == null ? null : read.get("solution");
            return solution != null && solution.isObject() ? solution : null;
        } catch (JsonProcessingException e) {
            return null;
        }
    }

    /** The last complete one at the top, braces counted wherever they stand. */
    private static String lastObject(String text) {
        int open = 0;
        int start = -1;
        String last = null;
        for (int i = 0; i < text.length(); i++) {
            if (text.charAt(i) == '{') {
                start = open == 0 ? i : start;
                open++;
            } else if (text.charAt(i) == '}' && open > 0) {
                open--;
                last = open == 0 ? text.substring(start, i + 1) : last;
            }
        }
        return last;
    }

    /** The last object with a solution; braces inside strings do not count. At most a hundred objects are read. */
    private static JsonNode tolerant(String text) {
        JsonNode last = null;
        int looked = 0;
        for (int i = text.indexOf('{'); i >= 0 && looked < 100; i = text.indexOf('{', i)) {
            final int end = closing(text, i);
            final JsonNode solution = end < 0 ? null : solutionOf(text.substring(i, end + 1));
            last = solution != null ? solution : last;
            i = solution != null ? end + 1 : i + 1;
            looked++;
        }
        return last;
    }

    private static int closing(String text, int from) {
        int open = 0;
        boolean quoted = false;
        for (int i = from; i < text.length(); i++) {
            final char c = text.charAt(i);
            if (quoted) {
                i += c == '\\' ? 1 : 0;
                quoted = c != '"';
            } else if (c == '"') {
                quoted = true;
            } else if (c == '{') {
                open++;
            } else if (c == '}' && --open == 0) {
                return i;
            }
        }
        return -1;
    }

    @Override
    public String answer(Prompt prompt, String text) {
        final JsonNode solution = solution(text);
        return solution == null ? null : solution.toString().toLowerCase(Locale.ROOT);
    }
}
