package org.teamtr.chat;

import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;

/** Splits a template into text and the tokens of its tags, with trim_blocks and lstrip_blocks. */
final class JinjaLexer {
    enum Type { TEXT, VARIABLE_BEGIN, VARIABLE_END, BLOCK_BEGIN, BLOCK_END, NAME, STRING, INTEGER, FLOAT, OPERATOR, END }

    /**
     * @param text of text, names and operators as they stand; of strings with escapes resolved
     */
    record Token(Type type, String text, int line) {
        boolean is(Type type, String text) {
            return this.type == type && this.text.equals(text);
        }

        @Override
        public String toString() {
            return switch (type) {
                case END -> "the end of the template";
                case VARIABLE_BEGIN, VARIABLE_END, BLOCK_BEGIN, BLOCK_END -> text;
                default -> "'" + text + "'";
            };
        }
    }

    private static final List<String> OPERATORS = List.of("//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(",
            ")", "{", "}", ">", "<", "=", ".", ":", "|", ",", ";");

    private final String source;
    private final List<Token> tokens = new ArrayList<>();
    private int at;
    private int line = 1;
    private int counted; // up to where lines are counted

    private JinjaLexer(String source) {
        this.source = source;
    }

    static List<Token> tokens(String template) {
        String source = template.replace("\r\n", "\n").replace('\r', '\n');
        if (source.endsWith("\n")) {
            source = source.substring(0, source.length() - 1);
        }
        final JinjaLexer lexer = new JinjaLexer(source);
        lexer.run();
        return lexer.tokens;
    }

    static IllegalArgumentException error(int line, String message) {
        return new IllegalArgumentException("chat template, line " + line + ": " + message);
    }

    /** Whitespace as Python sees it. */
    static boolean isSpace(int c) {
        return c >= 9 && c <= 13 || c >= 28 && c <= 32 || c == 0x85 || c == 0xA0 || c == 0x1680 || c >= 0x2000 && c <= 0x200A
                || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
    }

    private void run() {
        while (at < source.length()) {
            final int begin = nextTag();
            final char kind = begin < source.length() ? source.charAt(begin + 1) : 0;
            text(begin, kind);
            if (kind == 0) {
                break;
            }
            at = begin + 2;
            final boolean sign = at < source.length() && (source.charAt(at) == '-' || source.charAt(at) == '+');
            at += sign ? 1 : 0;
            switch (kind) {
                case '{' -> {
                    add(Type.VARIABLE_BEGIN, "{{");
                    inside("}}", Type.VARIABLE_END);
                }
                case '%' -> {
                    add(Type.BLOCK_BEGIN, "{%");
                    inside("%}", Type.BLOCK_END);
                }
                default -> comment();
            }
        }
        at = source.length();
        add(Type.END, "");
    }

    private int nextTag() {
        for (int i = source.indexOf('{', at); i >= 0 && i + 1 < source.length(); i = source.indexOf('{', i + 1)) {
            final char c = source.charAt(i + 1);
            if (c == '{' || c == '%' || c == '#') {
                return i;
            }
        }
        return source.length();
    }

    private void text(int begin, char kind) {
        int end = begin;
        final char sign = begin + 2 < source.length() ? source.charAt(begin + 2) : 0;
        if (kind != 0 && sign == '-') {
            while (end > at && isSpace(source.charAt(end - 1))) {
                end--;
            }
        } else if (kind != 0 && kind != '{' && sign != '+') {
            // lstrip_blocks: what stands before a tag on its line goes if it is only whitespace
            int from = begin;
            while (from > at && source.charAt(from - 1) != '\n' && isSpace(source.charAt(from - 1))) {
                from--;
            }
            end = from == 0 || source.charAt(from - 1) == '\n' ? from : begin;
        }
        if (end > at) {
            tokens.add(new Token(Type.TEXT, source.substring(at, end), lineAt(at)));
        }
    }

    private void comment() {
        final int start = at;
        final int end = source.indexOf("#}", at);
        if (end < 0) {
            throw error(lineAt(start), "a comment without #}");
        }
        at = end;
        // A sign belongs to the end, but not the one of the beginning: "{#-#}" has only that.
        final char sign = end > start ? source.charAt(end - 1) : 0;
        finish(sign, true);
    }

    /** Steps over the two characters of a tag's end and over the whitespace that goes with it. */
    private void finish(char sign, boolean trim) {
        at += 2;
        if (sign == '-') {
            while (at < source.length() && isSpace(source.charAt(at))) {
                at++;
            }
        } else if (trim && sign != '+' && at < source.length() && source.charAt(at) == '\n') {
            at++;
        }
    }

    private void inside(String end, Type endType) {
        final boolean block = endType == Type.BLOCK_END;
        final Deque<Character> open = new ArrayDeque<>();
        while (true) {
            while (at < source.length() && isSpace(source.charAt(at))) {
                at++;
            }
            if (at == source.length()) {
                throw error(lineAt(at), "a tag without " + end);
            }
            final char c = source.charAt(at);
            if (open.isEmpty()) {
                final boolean sign = (c == '-' || block && c == '+') && source.startsWith(end, at + 1);
                if (sign || source.startsWith(end, at)) {
                    add(endType, end);
                    at += sign ? 1 : 0;
                    finish(sign ? c : 0, block);
                    return;
                }
            }
            if (c >= '0' && c <= '9') {
                number();
            } else if (Character.isLetter(c) || c == '_') {
                final int start = at;
                while (at < source.length() && (Character.isLetterOrDigit(source.charAt(at)) || source.charAt(at) == '_')) {
                    at++;
                }
                tokens.add(new Token(Type.NAME, source.substring(start, at), lineAt(start)));
            } else if (c == '"' || c == '\'') {
                string(c);
            } else {
                operator(open);
            }
        }
    }

    private void number() {
        final int start = at;
        digits();
        Type type = Type.INTEGER;
        final boolean member = start > 0 && source.charAt(start - 1) == '.'; // a.0.1 has no 0.1 in it
        if (!member && at + 1 < source.length() && source.charAt(at) == '.' && digit(at + 1)) {
            type = Type.FLOAT;
            at++;
            digits();
        }
        if (!member && at < source.length() && (source.charAt(at) == 'e' || source.charAt(at) == 'E')) {
            final int sign = at + 1 < source.length() && (source.charAt(at + 1) == '-' || source.charAt(at + 1) == '+') ? 1 : 0;
            if (digit(at + 1 + sign)) {
                type = Type.FLOAT;
                at += 1 + sign;
                digits();
            }
        }
        if (at < source.length() && (Character.isLetterOrDigit(source.charAt(at)) || source.charAt(at) == '_')) {
            throw error(lineAt(at), "a number like " + source.substring(start, at + 1) + " is not supported");
        }
        tokens.add(new Token(type, source.substring(start, at), lineAt(start)));
    }

    private void digits() {
        while (digit(at)) {
            at++;
        }
    }

    private boolean digit(int i) {
        return i < source.length() && source.charAt(i) >= '0' && source.charAt(i) <= '9';
    }

    private void string(char quote) {
        final int start = at++;
        final StringBuilder text = new StringBuilder();
        while (at < source.length() && source.charAt(at) != quote) {
            final char c = source.charAt(at++);
            if (c == '\\' && at < source.length()) {
                escape(text);
            } else {
                text.append(c);
            }
        }
        if (at == source.length()) {
            throw error(lineAt(start), "a string without its end");
        }
        at++;
        tokens.add(new Token(Type.STRING, text.toString(), lineAt(start)));
    }

    private void escape(StringBuilder text) {
        final char c = source.charAt(at++);
        switch (c) {
            case 'n' -> text.append('\n');
            case 't' -> text.append('\t');
            case 'r' -> text.append('\r');
            case 'a' -> text.append('\u0007');
            case 'b' -> text.append('\b');
            case 'f' -> text.append('\f');
            case 'v' -> text.append('\u000B');
            case '\\', '\'', '"' -> text.append(c);
            case '\n' -> {
                // a line that goes on
            }
            case 'x' -> hex(text, 2);
            case 'u' -> hex(text, 4);
            case 'U' -> hex(text, 8);
            default -> {
                if (c == 'N' || c >= '0' && c <= '7') {
                    throw error(lineAt(at), "the escape \\" + c + " is not supported");
                }
                text.append('\\').append(c); // as Python leaves it
            }
        }
    }

    private void hex(StringBuilder text, int digits) {
        int value = 0;
        for (int i = 0; i < digits; i++) {
            final int d = at < source.length() ? Character.digit(source.charAt(at), 16) : -1;
            if (d < 0 || value > 0x10FFFF) {
                throw error(lineAt(at), "an escape without its " + digits + " hexadecimal digits");
            }
            value = 16 * value + d;
            at++;
        }
        if (!Character.isValidCodePoint(value)) {
            throw error(lineAt(at), "an escape beyond U+10FFFF");
        }
        text.appendCodePoint(value);
    }

    private void operator(Deque<Character> open) {
        final String op = OPERATORS.stream().filter(o -> source.startsWith(o, at)).findFirst()
                .orElseThrow(() -> error(lineAt(at), "unexpected character '" + Character.toString(source.codePointAt(at)) + "'"));
        add(Type.OPERATOR, op);
        at += op.length();
        switch (op) {
            case "(" -> open.push(')');
            case "[" -> open.push(']');
            case "{" -> open.push('}');
            case ")", "]", "}" -> {
                if (open.isEmpty() || open.pop() != op.charAt(0)) {
                    throw error(lineAt(at), "unexpected '" + op + "'");
                }
            }
            default -> {
                // no bracket
            }
        }
    }

    private void add(Type type, String text) {
        tokens.add(new Token(type, text, lineAt(at)));
    }

    /** The line of a position; positions never go back by more than a token. */
    private int lineAt(int position) {
        final int p = Math.min(position, source.length());
        for (; counted < p; counted++) {
            line += source.charAt(counted) == '\n' ? 1 : 0;
        }
        int back = 0;
        for (int i = p; i < counted; i++) {
            back += source.charAt(i) == '\n' ? 1 : 0;
        }
        return line - back;
    }
}
