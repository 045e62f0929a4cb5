package org.teamtr.task.math;

import java.math.BigInteger;
import java.text.Normalizer;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Brings the many ways to write an answer to one: Unicode signs become commands, layout goes, words become {@code ⟦words⟧}, and words
 * that join answers become commas.
 *
 * <p>Every step is a pass without backtracking over text of at most {@link #LONGEST} characters.
 */
final class LatexText {
    /** A longer answer is compared as it stands and not read. */
    static final int LONGEST = 2000;
    /** Around words. */
    static final char OPEN = '\u27E6';
    static final char CLOSE = '\u27E7';

    private static final Map<String, String> SIGNS = Map.ofEntries(Map.entry("\u2212", "-"), Map.entry("\u2013", "-"), Map.entry("\u2014", "-"),
            Map.entry("\u2010", "-"), Map.entry("\u2011", "-"), Map.entry("\u00D7", "\\times "), Map.entry("\u22C5", "\\cdot "),
            Map.entry("\u00B7", "\\cdot "), Map.entry("\u00F7", "\\div "), Map.entry("\u03C0", "\\pi "), Map.entry("\u221E", "\\infty "),
            Map.entry("\u221A", "\\sqrt "), Map.entry("\u2264", "\\le "), Map.entry("\u2265", "\\ge "), Map.entry("\u2260", "\\ne "),
            Map.entry("\u00B1", "\\pm "), Map.entry("\u2213", "\\mp "), Map.entry("\u222A", "\\cup "), Map.entry("\u2208", "\\in "),
            Map.entry("\u00B0", ""), Map.entry("\u2032", "'"), Map.entry("\u2220", "\\angle "), Map.entry("\u00B2", "^2"), Map.entry("\u00B3", "^3"),
            Map.entry("\u2074", "^4"), Map.entry("\u00BD", "\\frac{1}{2}"), Map.entry("\u00BC", "\\frac{1}{4}"), Map.entry("\u00BE", "\\frac{3}{4}"),
            Map.entry("\u2153", "\\frac{1}{3}"), Map.entry("\u2154", "\\frac{2}{3}"), Map.entry("\u2044", "/"), Map.entry("\u20AC", " "),
            Map.entry("\u00A3", " "), Map.entry("\u00A5", " "), Map.entry("\u3001", ","), Map.entry("\u3002", "."), Map.entry("\u03B8", "\\theta "),
            Map.entry("\u03B1", "\\alpha "), Map.entry("\u03B2", "\\beta "), Map.entry("\u03BB", "\\lambda "),
            Map.entry("\u2261", "\\equiv "), Map.entry("\u22C3", "\\cup "), Map.entry("\u27E8", "\\langle "), Map.entry("\u27E9", "\\rangle "),
            Map.entry("\u230A", "\\lfloor "), Map.entry("\u230B", "\\rfloor "), Map.entry("\u2308", "\\lceil "), Map.entry("\u2309", "\\rceil "));
    /** Commands that mean the same as another, or nothing. */
    private static final Map<String, String> COMMANDS = Map.ofEntries(Map.entry("dfrac", "\\frac"), Map.entry("tfrac", "\\frac"),
            Map.entry("cfrac", "\\frac"), Map.entry("dbinom", "\\binom"), Map.entry("tbinom", "\\binom"), Map.entry("leq", "\\le"),
            Map.entry("leqslant", "\\le"), Map.entry("geq", "\\ge"), Map.entry("geqslant", "\\ge"), Map.entry("neq", "\\ne"),
            Map.entry("lt", "<"), Map.entry("gt", ">"), Map.entry("lbrace", "\\{"), Map.entry("rbrace", "\\}"), Map.entry("lbrack", "["),
            Map.entry("rbrack", "]"), Map.entry("displaystyle", ""), Map.entry("textstyle", ""), Map.entry("scriptstyle", ""),
            Map.entry("limits", ""), Map.entry("left", ""), Map.entry("right", ""), Map.entry("big", ""), Map.entry("Big", ""),
            Map.entry("bigg", ""), Map.entry("Bigg", ""), Map.entry("bigl", ""), Map.entry("bigr", ""), Map.entry("Bigl", ""),
            Map.entry("Bigr", ""), Map.entry("biggl", ""), Map.entry("biggr", ""), Map.entry("Biggl", ""), Map.entry("Biggr", ""),
            Map.entry("quad", " "), Map.entry("qquad", " "), Map.entry("thinspace", " "), Map.entry("nobreak", ""), Map.entry("cdotp", "\\cdot"),
            Map.entry("ast", "\\cdot"), Map.entry("degree", ""), Map.entry("circ", ""), Map.entry("percent", ""), Map.entry("mid", "|"),
            Map.entry("lor", ","), Map.entry("vee", ","), Map.entry("varnothing", "\\emptyset"), Map.entry("bigcup", "\\cup"),
            Map.entry("bf", ""), Map.entry("rm", ""), Map.entry("it", ""), Map.entry("euro", ""), Map.entry("pounds", ""),
            Map.entry("ang", "\\angle"), Map.entry("implies", "\\Rightarrow"), Map.entry("rightarrow", "\\to"));
    /** Commands around text. */
    private static final Set<String> TEXT = Set.of("text", "textbf", "textit", "textrm", "textnormal", "textsf", "texttt", "mbox", "hbox",
            "mathrm", "mathbf", "mathit", "mathsf", "mathtt", "operatorname", "boldsymbol", "bm", "emph", "mathbb", "mathcal", "underline",
            "boxed", "fbox", "ensuremath", "pmb");
    private static final Set<String> STRUCTURE = Set.of("begin", "end", "cup", "cap", "in", "le", "ge", "ne", "times", "cdot", "div", "rangle",
            "langle", "rfloor", "rceil", "rvert", "pm", "mp", "to", "Rightarrow", "equiv", "approx", "ldots", "dots", "cdots", "setminus",
            "hline", "color", "textcolor", "sum", "int", "prod", "lim", "not", "quad", "forall", "exists", "hat", "bar", "vec",
            "overrightarrow", "tilde", "over", "under", "stackrel", "substack", "underbrace", "phantom", "hspace", "vspace", "rule");
    private static final Map<String, String> NAMES = Map.ofEntries(Map.entry("pi", "\\pi "), Map.entry("sqrt", "\\sqrt "),
            Map.entry("infinity", "\\infty "), Map.entry("inf", "\\infty "), Map.entry("infty", "\\infty "), Map.entry("oo", "\\infty "),
            Map.entry("theta", "\\theta "), Map.entry("alpha", "\\alpha "), Map.entry("beta", "\\beta "), Map.entry("gamma", "\\gamma "),
            Map.entry("lambda", "\\lambda "), Map.entry("phi", "\\phi "), Map.entry("sin", "\\sin "), Map.entry("cos", "\\cos "),
            Map.entry("tan", "\\tan "), Map.entry("cot", "\\cot "), Map.entry("sec", "\\sec "), Map.entry("csc", "\\csc "),
            Map.entry("arcsin", "\\arcsin "), Map.entry("arccos", "\\arccos "), Map.entry("arctan", "\\arctan "), Map.entry("log", "\\log "),
            Map.entry("ln", "\\ln "), Map.entry("exp", "\\exp "), Map.entry("frac", "\\frac "), Map.entry("binom", "\\binom "));
    /** Units that are no product of variables, though they are short. */
    private static final Set<String> UNITS = Set.of("cm", "mm", "km", "nm", "ft", "in", "mi", "yd", "kg", "mg", "lb", "lbs", "oz", "hr", "hrs",
            "min", "mins", "sec", "secs", "ms", "mph", "kmh", "kph", "mL", "ml", "dm", "rad", "deg", "Hz", "kHz", "GB", "MB", "USD", "EUR", "am",
            "pm",
            "AM", "PM", "pts", "sq", "cu", "day", "cup", "pie", "way", "car", "egg", "box", "pen", "men", "boy", "cow", "dog", "cat", "bag");

    private static final Pattern THIN =
            Pattern.compile("(?<=\\d)(?:\\{,}|,\\s?\\\\!\\s?|\\\\[,;! ]|[\\u00A0\\u202F\\u2009~]|\\\\thinspace )(?=\\d{3}(?!\\d))");
    private static final Pattern ORDINAL =
            Pattern.compile("(?<=\\d)\\s?(?:\\^\\s?\\{?\\s?)?\\\\(?:text|mathrm|textrm|mbox)\\{\\s?(?:st|nd|rd|th)\\s?}}?"
                    + "|(?<=\\d)\\^?\\{?(?:st|nd|rd|th)}?(?![a-zA-Z])");
    private static final Pattern REPEATING = Pattern.compile("(\\d{0,30})\\.(\\d{0,30})\\\\overline\\{\\s?(\\d{1,30})\\s?}");
    private static final Pattern SECONDS = Pattern.compile("(?<=\\d)\\s?secs?\\s*+[.]?\\s*+$");
    private static final Pattern WORDS = Pattern.compile("(?<![\\\\\\p{L}_'])\\p{L}{2,}+(?:[ '’/-]{1,2}\\p{L}++)*+");
    private static final Pattern LONG_WORD = Pattern.compile("\\p{L}{4}");
    private static final Pattern NUMBER_AND_UNIT = Pattern.compile("([-+]?\\d[\\d.,/]*+)\\s?(\\p{L}[^\\d]*)");
    private static final Pattern RATE =
            Pattern.compile("(?<=\\d)\\s?(?:m|g|l|L|s|h)\\s?/\\s?(?:s|h|m|g|l|L|hr|min|sec|day|hour|second|minute)(?![\\p{L}(^])");
    private static final Pattern JOIN = Pattern.compile("(?<!\\p{L})(?:,\\s?)?(?:and|or)(?!\\p{L})");
    private static final Pattern SPACES = Pattern.compile("\\s+");

    private LatexText() {
    }

    static boolean isStructure(String command) {
        return STRUCTURE.contains(command);
    }

    /**
     * {@return the answer in its one way}
     *
     * @throws Unreadable if it is too long, or has braces that do not match inside text
     */
    static String clean(String answer, Steps steps) {
        if (answer.length() > LONGEST) {
            throw new Unreadable("an answer of more than " + LONGEST + " characters");
        }
        steps.take(10 + answer.length() / 4);
        String s = THIN.matcher(answer.replace("\\$", "$")).replaceAll("");
        s = ORDINAL.matcher(s).replaceAll("");
        s = REPEATING.matcher(s).replaceAll(m -> Matcher.quoteReplacement(repeating(m.group(1), m.group(2), m.group(3))));
        s = SECONDS.matcher(s).replaceAll(" \\\\text{seconds}");
        s = signs(s);
        s = commands(s, 0);
        s = RATE.matcher(s).replaceAll(" " + OPEN + "rate" + CLOSE);
        s = words(s);
        s = SPACES.matcher(s).replaceAll(" ").strip();
        return unquote(s);
    }

    /** 0.1\overline{6} is 16 - 1 over 90. */
    private static String repeating(String whole, String first, String again) {
        final BigInteger all = new BigInteger("0" + whole + first + again);
        return "\\frac{" + all.subtract(new BigInteger("0" + whole + first)) + "}{" + "9".repeat(again.length()) + "0".repeat(first.length()) + "}";
    }

    private static String signs(String s) {
        final StringBuilder out = new StringBuilder(s.length() + 16);
        for (int i = 0; i < s.length(); i++) {
            final char c = s.charAt(i);
            final String sign = c < 128 ? null : SIGNS.get(String.valueOf(c));
            if (c == '$' || c == '~' || c == '\u00A0') {
                out.append(' ');
            } else if (c == '%' || c == OPEN || c == CLOSE) {
                trimBackslash(out);
            } else if (sign != null) {
                out.append(sign);
            } else if (c >= 128) {
                out.append(Normalizer.normalize(String.valueOf(c), Normalizer.Form.NFKC));
            } else {
                out.append(c);
            }
        }
        return out.toString();
    }

    private static void trimBackslash(StringBuilder out) {
        if (out.length() > 0 && out.charAt(out.length() - 1) == '\\') {
            out.setLength(out.length() - 1);
        }
    }

    /** Renames and drops commands, and takes text out of its command. */
    private static String commands(String s, int depth) {
        if (depth > 8) {
            throw new Unreadable("text inside text inside text");
        }
        final StringBuilder out = new StringBuilder(s.length());
        int i = 0;
        while (i < s.length()) {
            final char c = s.charAt(i);
            if (c == '^' && isDegree(s, i)) {
                i = s.indexOf("circ", i) + 4;
                i += i < s.length() && s.charAt(i) == '}' ? 1 : 0;
                continue;
            }
            if (c != '\\' || i + 1 == s.length()) {
                out.append(c == '\\' ? ' ' : c);
                i++;
                continue;
            }
            int end = i + 1;
            while (end < s.length() && isAsciiLetter(s.charAt(end))) {
                end++;
            }
            if (end == i + 1) {
                final char sign = s.charAt(end);
                out.append(switch (sign) {
                    case '{', '}', '\\', '|' -> "\\" + sign;
                    case ',', ';', ':', ' ', '\n', '(', ')', '[', ']', '&', '#' -> " ";
                    case '!', '/' -> "";
                    default -> String.valueOf(sign);
                });
                i = end + 1;
                continue;
            }
            final String name = s.substring(i + 1, end);
            if (TEXT.contains(name)) {
                int open = end;
                while (open < s.length() && s.charAt(open) == ' ') {
                    open++;
                }
                final int close = open < s.length() && s.charAt(open) == '{' ? closing(s, open) : -1;
                if (close < 0) {
                    i = end; // \mathrm e: the next sign stands for itself
                    continue;
                }
                out.append(text(commands(s.substring(open + 1, close), depth + 1), name));
                i = close + 1;
                continue;
            }
            final String other = COMMANDS.get(name);
            if (other == null) {
                out.append('\\').append(name);
            } else {
                out.append(other);
                if ((name.startsWith("left") || name.startsWith("right")) && end < s.length() && s.charAt(end) == '.') {
                    end++; // \left. is no delimiter
                }
                if (!other.isEmpty() && other.charAt(0) == '\\' && end < s.length() && isAsciiLetter(s.charAt(end))) {
                    out.append(' ');
                }
            }
            i = end;
        }
        return out.toString();
    }

    private static boolean isDegree(String s, int i) {
        return s.startsWith("^\\circ", i) || s.startsWith("^{\\circ}", i) || s.startsWith("^ \\circ", i);
    }

    private static boolean isAsciiLetter(char c) {
        return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z';
    }

    /** {@return the brace that closes the one at {@code open}, or -1} */
    static int closing(String s, int open) {
        int depth = 0;
        for (int i = open; i < s.length(); i++) {
            final char c = s.charAt(i);
            if (c == '\\') {
                i++;
            } else if (c == '{') {
                depth++;
            } else if (c == '}' && --depth == 0) {
                return i;
            }
        }
        return -1;
    }

    /** Numbers, formulas and single letters stand for themselves, names of functions too; the rest is words. */
    private static String text(String inside, String command) {
        final String plain = inside.strip();
        if (plain.length() <= 1 || plain.indexOf('\\') >= 0 || plain.indexOf(OPEN) >= 0 || !plain.chars().anyMatch(Character::isLetter)
                || command.equals("boxed") || command.equals("fbox") || command.equals("ensuremath")) {
            return inside;
        }
        if (NAMES.containsKey(plain)) {
            return NAMES.get(plain);
        }
        if (plain.chars().anyMatch(c -> Character.isDigit(c) || c == '=' || c == '^') && plain.chars().filter(Character::isLetter).count() < 4) {
            return inside; // \mathbf{2x}
        }
        final Matcher joins = JOIN.matcher(inside);
        if (joins.find() && joins.start() == inside.length() - inside.stripLeading().length() && joins.end() == inside.stripTrailing().length()) {
            return ",";
        }
        final Matcher unit = NUMBER_AND_UNIT.matcher(plain);
        return unit.matches() ? unit.group(1) + " " + OPEN + unit.group(2) + CLOSE + " " : " " + OPEN + plain + CLOSE + " ";
    }

    private static String words(String s) {
        final Matcher m = WORDS.matcher(s);
        final StringBuilder out = new StringBuilder(s.length());
        int at = 0;
        int open = 0; // whether inside ⟦ ⟧ already
        while (m.find()) {
            for (int i = at; i < m.start(); i++) {
                open += s.charAt(i) == OPEN ? 1 : s.charAt(i) == CLOSE ? -1 : 0;
            }
            out.append(s, at, m.start());
            out.append(open > 0 ? m.group() : word(m.group(), m.start() >= 6 && s.startsWith("\\begin{", m.start() - 7) || m.start() >= 5
                    && s.startsWith("\\end{", m.start() - 5)));
            at = m.end();
        }
        return out.append(s, at, s.length()).toString();
    }

    private static String word(String phrase, boolean environment) {
        if (environment) {
            return phrase;
        }
        final int end = endOfWord(phrase);
        final String first = phrase.substring(0, end);
        final String rest = phrase.substring(end);
        final String lower = first.toLowerCase(Locale.ROOT);
        if (lower.equals("and") || lower.equals("or")) {
            return "," + again(rest);
        }
        if (NAMES.containsKey(lower)) {
            return NAMES.get(lower) + again(rest);
        }
        if (first.length() >= 4 || UNITS.contains(first) || LONG_WORD.matcher(rest).find()) {
            final String split = functions(first);
            return split != null ? split + again(rest) : " " + OPEN + phrase + CLOSE + " ";
        }
        return first + again(rest);
    }

    /** 3sinx and the like: a name of a function with one letter behind it. */
    private static String functions(String word) {
        if (word.length() > 1) {
            final String start = NAMES.get(word.substring(0, word.length() - 1));
            if (start != null) {
                return start + word.charAt(word.length() - 1);
            }
            final String tail = NAMES.get(word.substring(1));
            if (tail != null && word.length() <= 5) {
                return word.charAt(0) + tail;
            }
        }
        return null;
    }

    private static String again(String rest) {
        int start = 0;
        while (start < rest.length() && !Character.isLetter(rest.charAt(start))) {
            start++;
        }
        if (start == rest.length()) {
            return rest;
        }
        final String tail = rest.substring(start);
        final int end = endOfWord(tail);
        return rest.substring(0, start) + (end >= 2 ? word(tail, false) : tail.substring(0, end) + again(tail.substring(end)));
    }

    private static int endOfWord(String phrase) {
        int end = 0;
        while (end < phrase.length() && Character.isLetter(phrase.charAt(end))) {
            end++;
        }
        return end;
    }

    /** Without marks of bold type and punctuation around it. */
    private static String unquote(String s) {
        int from = 0;
        int to = s.length();
        while (from < to && (s.charAt(from) == ' ' || s.charAt(from) == ':' || s.charAt(from) == ';' || s.charAt(from) == ','
                || s.startsWith("**", from))) {
            from += s.startsWith("**", from) ? 2 : 1;
        }
        while (to > from && (" .,;:".indexOf(s.charAt(to - 1)) >= 0 || to - from >= 2 && s.startsWith("**", to - 2)
                || to - from >= 2 && s.startsWith("\\\\", to - 2))) {
            to -= s.startsWith("**", to - 2) || s.startsWith("\\\\", to - 2) ? 2 : 1;
        }
        return s.substring(from, to);
    }
}
