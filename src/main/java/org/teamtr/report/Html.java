package org.teamtr.report;

import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;

/** Parts that pages share, and text as HTML. */
public final class Html {
    private Html() {
    }

    /**
     * {@return the beginning of a page, with the report's style, up to the element main}
     *
     * @param title plain text
     */
    public static String head(String title) throws IOException {
        try (InputStream css = Html.class.getResourceAsStream("report.css")) {
            return "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                    + "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>" + escape(title) + " · TeamTR</title>\n"
                    + "<style>\n" + new String(css.readAllBytes(), StandardCharsets.UTF_8) + "</style>\n</head>\n<body>\n<main>\n";
        }
    }

    /** {@return a number with its name above and a remark below, an item of a list of tiles} */
    static String tile(String what, String value, String more) {
        return "<div><dt>" + escape(what) + "</dt><dd>" + escape(value) + "<small>" + escape(more) + "</small></dd></div>\n";
    }

    /**
     * {@return text that shows verbatim in element content and in quoted attributes} Control characters, which HTML forbids or
     * swallows, become their Unicode pictures; line breaks and tabs stay.
     */
    public static String escape(String text) {
        final StringBuilder out = new StringBuilder(text.length() + 16);
        for (int i = 0; i < text.length(); i++) {
            final char c = text.charAt(i);
            switch (c) {
                case '&' -> out.append("&amp;");
                case '<' -> out.append("&lt;");
                case '>' -> out.append("&gt;");
                case '"' -> out.append("&quot;");
                case '\'' -> out.append("&#39;");
                case '\n', '\t' -> out.append(c);
                case 0x7f -> out.append('\u2421');
                default -> out.append(c < 0x20 ? (char) (0x2400 + c) : c >= 0x80 && c < 0xa0 ? '\ufffd' : c);
            }
        }
        return out.toString();
    }
}
