package org.teamtr.task.environment;

import java.util.List;
import java.util.Map;
import org.teamtr.model.PythonText;

/** JSON as Python's {@code json.dumps} writes it: blanks behind commas and colons, ASCII alone, numbers as Python shows them. */
final class PythonJson {
    private PythonJson() {
    }

    static String dumps(Object value) {
        final StringBuilder out = new StringBuilder();
        write(value, out);
        return out.toString();
    }

    private static void write(Object value, StringBuilder out) {
        if (value instanceof Map<?, ?> map) {
            String comma = "{";
            for (Map.Entry<?, ?> e : map.entrySet()) {
                out.append(comma);
                PythonText.quote(e.getKey().toString(), true, out);
                out.append(": ");
                write(e.getValue(), out);
                comma = ", ";
            }
            out.append(map.isEmpty() ? "{}" : "}");
        } else if (value instanceof List<?> list) {
            String comma = "[";
            for (Object item : list) {
                out.append(comma);
                write(item, out);
                comma = ", ";
            }
            out.append(list.isEmpty() ? "[]" : "]");
        } else if (value instanceof String s) {
            PythonText.quote(s, true, out);
        } else {
            out.append(value == null ? "null" : value instanceof Double d ? PythonText.number(d, "Infinity", "NaN") : value.toString());
        }
    }
}
