package org.teamtr.model;

import java.math.BigDecimal;
import java.math.MathContext;
import java.util.Locale;

/** Numbers and texts to the character as Python writes them, which is how models have read them. */
public final class PythonText {
    private PythonText() {
    }

    /** {@return repr() of a float: the fewest digits that give it back, 1e+16 from there on} */
    public static String number(double d, String infinite, String notANumber) {
        if (Double.isNaN(d)) {
            return notANumber;
        }
        if (Double.isInfinite(d)) {
            return d > 0 ? infinite : "-" + infinite;
        }
        if (d == 0) {
            return 1 / d < 0 ? "-0.0" : "0.0";
        }
        // Double.toString of Java 17 does not always find the shortest
        String digits = null;
        int exponent = 0;
        for (int precision = 1; precision <= 17 && digits == null; precision++) {
            final BigDecimal rounded = new BigDecimal(Math.abs(d)).round(new MathContext(precision));
            if (rounded.doubleValue() == Math.abs(d)) {
                final BigDecimal shortest = rounded.stripTrailingZeros();
                digits = shortest.unscaledValue().toString();
                exponent = digits.length() - 1 - shortest.scale();
            }
        }
        final StringBuilder out = new StringBuilder(d < 0 ? "-" : "");
        if (exponent < -4 || exponent >= 16) {
            out.append(digits.charAt(0)).append(digits.length() > 1 ? "." : "").append(digits, 1, digits.length());
            return out.append(String.format(Locale.ROOT, "e%s%02d", exponent < 0 ? "-" : "+", Math.abs(exponent))).toString();
        }
        if (exponent < 0) {
            return out.append("0.").append("0".repeat(-exponent - 1)).append(digits).toString();
        }
        if (digits.length() <= exponent + 1) {
            return out.append(digits).append("0".repeat(exponent + 1 - digits.length())).append(".0").toString();
        }
        return out.append(digits, 0, exponent + 1).append('.').append(digits, exponent + 1, digits.length()).toString();
    }

    /**
     * Writes a text as json.dumps() does, in quotes.
     *
     * @param ascii whether all beyond ASCII is escaped: ensure_ascii
     */
    public static void quote(String s, boolean ascii, StringBuilder out) {
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
                default -> {
                    if (c < 0x20 || ascii && c > 0x7e) {
                        out.append(String.format(Locale.ROOT, "\\u%04x", (int) c));
                    } else {
                        out.append(c);
                    }
                }
            }
        }
        out.append('"');
    }
}
