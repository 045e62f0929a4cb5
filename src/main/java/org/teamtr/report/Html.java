package org.teamtr.report;

/** Text as HTML. */
public final class Html {
    private Html() {
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
