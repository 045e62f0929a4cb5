package org.teamtr.task.environment;

import java.math.BigDecimal;
import java.math.MathContext;
import java.math.RoundingMode;
import java.util.List;
import java.util.Locale;
import java.util.Map;

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
                text(e.getKey().toString(), out);
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
            text(s, out);
        } else {
            out.append(value == null ? "null" : value instanceof Double d ? number(d) : value.toString());
        }
    }

    /** {@return a double as Python shows it}: the fewest digits that mean it, 1e+16 from there on */
    static String number(double d) {
        if (d == 0) {
            return 1 / d < 0 ? "-0.0" : "0.0";
        }
        BigDecimal shortest = new BigDecimal(d);
        for (int digits = 1; digits <= 17; digits++) {
            final BigDecimal rounded = new BigDecimal(d).round(new MathContext(digits, RoundingMode.HALF_EVEN));
            if (rounded.doubleValue() == d) {
                shortest = rounded;
                break;
            }
        }
        final int exponent = shortest.precision() - shortest.scale() - 1;
        if (exponent >= 16 || exponent < -4) {
            final String digits = shortest.unscaledValue().abs().toString().replaceFirst("0+$", "");
            return (d < 0 ? "-" : "") + digits.charAt(0) + (digits.length() > 1 ? "." + digits.substring(1) : "") + "e" + (exponent < 0 ? "-" : "+")
                    + (Math.abs(exponent) < 10 ? "0" : "") + Math.abs(exponent);
        }
        final String plain = shortest.toPlainString();
        return plain.indexOf('.') < 0 ? plain + ".0" : plain.replaceFirst("0+$", "").replaceFirst("\\.$", ".0");
    }

    private static void text(String s, StringBuilder out) {
        out.append('"');
        for (int i = 0; i < s.length(); i++) {
            final char c = s.charAt(i);
            switch (c) {
                case '"' -> out.append("\\\"");
                case '\\' -> out.append("\\\\");
                case '\n' -> out.append("\\n");
                case '\r' -> out.append("\\r");
                case '\t' -> out.append("\\t");
                case '\b' -> out.append("\\b");
                case '\f' -> out.append("\\f");
                default -> out.append(c < 0x20 || c > 0x7e ? String.format(Locale.ROOT, "\\u%04x", (int) c) : String.valueOf(c));
            }
        }
        out.append('"');
    }
}
