package org.teamtr.chat;

import java.time.LocalDateTime;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.teamtr.chat.JinjaValues.Args;
import org.teamtr.chat.JinjaValues.Fault;
import org.teamtr.chat.JinjaValues.Run;
import org.teamtr.chat.JinjaValues.Safe;
import org.teamtr.chat.JinjaValues.Tuple;
import org.teamtr.chat.JinjaValues.Undefined;
import org.teamtr.model.PythonText;

/** Values as text, to the character as Python writes them: str(), repr(), json.dumps() and strftime(). */
final class JinjaText {
    private JinjaText() {
    }

    /** Python's str(). */
    static String str(Run run, Object v) {
        if (v instanceof String s) {
            return s;
        } else if (v instanceof Safe s) {
            return s.text();
        } else if (v instanceof Undefined) {
            return "";
        }
        final StringBuilder out = new StringBuilder();
        repr(run, v, out, 0);
        return out.toString();
    }

    private static void repr(Run run, Object v, StringBuilder out, int depth) {
        run.charge(8);
        if (depth > 100) {
            throw new Fault("expected lists and maps at most 100 deep");
        }
        if (v == null) {
            out.append("None");
        } else if (v instanceof Boolean b) {
            out.append(b ? "True" : "False");
        } else if (v instanceof Long) {
            out.append(v);
        } else if (v instanceof Double d) {
            out.append(PythonText.number(d, "inf", "nan"));
        } else if (v instanceof String s) {
            run.charge(s.length());
            out.append(repr(s));
        } else if (v instanceof List<?> list) {
            final boolean tuple = v instanceof Tuple;
            String between = tuple ? "(" : "[";
            for (Object item : list) {
                out.append(between);
                repr(run, item, out, depth + 1);
                between = ", ";
            }
            out.append(list.isEmpty() ? between : "").append(tuple ? list.size() == 1 ? ",)" : ")" : "]");
        } else if (v instanceof Map<?, ?> map) {
            String between = "{";
            for (Map.Entry<?, ?> e : map.entrySet()) {
                out.append(between);
                repr(run, e.getKey(), out, depth + 1);
                out.append(": ");
                repr(run, e.getValue(), out, depth + 1);
                between = ", ";
            }
            out.append(map.isEmpty() ? "{" : "").append('}');
        } else {
            throw new Fault("writing " + JinjaValues.kind(v) + " is not supported");
        }
    }

    /** Python's repr() of a string. */
    static String repr(String s) {
        final char quote = s.indexOf('\'') >= 0 && s.indexOf('"') < 0 ? '"' : '\'';
        final StringBuilder out = new StringBuilder().append(quote);
        s.codePoints().forEach(c -> {
            if (c == quote || c == '\\') {
                out.append('\\').appendCodePoint(c);
            } else if (c == '\n') {
                out.append("\\n");
            } else if (c == '\r') {
                out.append("\\r");
            } else if (c == '\t') {
                out.append("\\t");
            } else if (c == ' ' || printable(c)) {
                out.appendCodePoint(c);
            } else {
                out.append(String.format(Locale.ROOT, c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x", c));
            }
        });
        return out.append(quote).toString();
    }

    private static boolean printable(int c) {
        return switch (Character.getType(c)) {
            case Character.CONTROL, Character.FORMAT, Character.SURROGATE, Character.PRIVATE_USE, Character.UNASSIGNED,
                    Character.LINE_SEPARATOR, Character.PARAGRAPH_SEPARATOR, Character.SPACE_SEPARATOR -> false;
            default -> true;
        };
    }

    /** json.dumps(value, ensure_ascii=False), which is what {@code transformers} has under this name, not Jinja's own filter. */
    static Object toJson(Run run, Object v, Args args) {
        if (JinjaValues.truth(args.get(0, "ensure_ascii", false))) {
            throw new Fault("filter 'tojson': ensure_ascii=true is not supported");
        }
        final Object indent = args.get(1, "indent", null);
        final int width = indent == null ? -1 : JinjaValues.smallInt(indent, "filter 'tojson': indent");
        if (width > 16 || indent != null && width < 0) {
            throw new Fault("filter 'tojson': expected an indent of 0 to 16, given " + width);
        }
        final StringBuilder out = new StringBuilder();
        json(run, v, out, width, 0);
        return out.toString();
    }

    private static void json(Run run, Object v, StringBuilder out, int indent, int depth) {
        run.charge(8 + (long) Math.max(0, indent) * depth);
        if (depth > 100) {
            throw new Fault("expected lists and maps at most 100 deep");
        }
        if (v == null) {
            out.append("null");
        } else if (v instanceof Boolean || v instanceof Long) {
            out.append(v);
        } else if (v instanceof Double d) {
            out.append(PythonText.number(d, "Infinity", "NaN"));
        } else if (v instanceof String s) {
            quote(run, s, out);
        } else if (v instanceof Safe s) {
            quote(run, s.text(), out);
        } else if (v instanceof List<?> list) {
            String between = "[";
            for (Object item : list) {
                out.append(between);
                newline(out, indent, depth + 1);
                json(run, item, out, indent, depth + 1);
                between = indent < 0 ? ", " : ",";
            }
            if (list.isEmpty()) {
                out.append('[');
            } else {
                newline(out, indent, depth);
            }
            out.append(']');
        } else if (v instanceof Map<?, ?> map) {
            String between = "{";
            for (Map.Entry<?, ?> e : map.entrySet()) {
                out.append(between);
                newline(out, indent, depth + 1);
                quote(run, e.getKey().toString(), out);
                out.append(": ");
                json(run, e.getValue(), out, indent, depth + 1);
                between = indent < 0 ? ", " : ",";
            }
            if (map.isEmpty()) {
                out.append('{');
            } else {
                newline(out, indent, depth);
            }
            out.append('}');
        } else {
            throw new Fault("filter 'tojson': " + JinjaValues.kind(v) + " has no JSON");
        }
    }

    private static void newline(StringBuilder out, int indent, int depth) {
        if (indent >= 0) {
            out.append('\n').append(" ".repeat(indent * depth));
        }
    }

    private static void quote(Run run, String s, StringBuilder out) {
        run.charge(s.length());
        PythonText.quote(s, false, out);
    }

    /** The codes of strftime that prompts use, in English. */
    static String strftime(LocalDateTime now, String format) {
        final StringBuilder out = new StringBuilder();
        for (int i = 0; i < format.length(); i++) {
            if (format.charAt(i) != '%') {
                out.append(format.charAt(i));
                continue;
            }
            final char code = ++i < format.length() ? format.charAt(i) : 0;
            final String month = JinjaMethods.capitalize(now.getMonth().name());
            final String day = JinjaMethods.capitalize(now.getDayOfWeek().name());
            out.append(switch (code) {
                case 'Y' -> String.format(Locale.ROOT, "%d", now.getYear());
                case 'y' -> two(now.getYear() % 100);
                case 'm' -> two(now.getMonthValue());
                case 'd' -> two(now.getDayOfMonth());
                case 'H' -> two(now.getHour());
                case 'I' -> two((now.getHour() + 11) % 12 + 1);
                case 'M' -> two(now.getMinute());
                case 'S' -> two(now.getSecond());
                case 'p' -> now.getHour() < 12 ? "AM" : "PM";
                case 'j' -> String.format(Locale.ROOT, "%03d", now.getDayOfYear());
                case 'B' -> month;
                case 'b' -> month.substring(0, 3);
                case 'A' -> day;
                case 'a' -> day.substring(0, 3);
                case '%' -> "%";
                default -> throw new Fault("strftime_now: '%" + (code == 0 ? "" : code) + "' is not supported");
            });
        }
        return out.toString();
    }

    private static String two(int n) {
        return String.format(Locale.ROOT, "%02d", n);
    }
}
