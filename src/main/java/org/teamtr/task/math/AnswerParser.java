package org.teamtr.task.math;

import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.function.IntPredicate;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Tells what kind of thing a cleaned answer is, and reads it as such. */
final class AnswerParser {
    private static final int DEEPEST = 12;
    private static final String[] RELATIONS = {"\\le", "\\ge", "\\ne", "<=", ">=", "!=", "=", "<", ">", "\\equiv", "\\approx", "\\in", "\\sim"};
    private static final Pattern THOUSANDS = Pattern.compile("(?<![\\d.])(\\d{1,3}(?:,\\d{3})++)(?!\\d|,\\d)");
    private static final Pattern BASED = Pattern.compile("([0-9A-Z]+)_\\{?\\s?(\\d{1,2})\\s?}?");
    private static final Pattern BASE_IN_WORDS = Pattern.compile("([0-9A-Z]+)\\s*\\u27E6\\s*base (\\d{1,2})\\s*\\u27E7");
    private static final Pattern UNIT = Pattern.compile("(?:\\s*/?\\s*\\u27E6([^\\u27E7]*)\\u27E7\\s*(?:\\^\\s?\\{?-?[1234]}?)?)+\\s*$");
    private static final Pattern CLOCK = Pattern.compile("(\\d{1,3})\\s?:\\s?(\\d{1,3})(?:\\s?:\\s?(\\d{1,3}))?");
    private static final Pattern MATRIX = Pattern.compile(
            "\\(?\\s*\\\\begin\\s?\\{([bpvBV]?matrix|smallmatrix|array)}(.*)\\\\end\\s?\\{\\1}\\s*\\)?", Pattern.DOTALL);
    /** Words that a value may not lose. */
    private static final Set<String> MEANT = Set.of("or", "more", "less", "least", "most", "not", "than", "over", "under", "to", "plus", "minus",
            "remainder", "half", "halves", "third", "thirds", "quarter", "quarters", "and", "no", "if", "when", "for", "only", "between",
            "except", "mod", "modulo", "times", "is", "are");
    /** Powers of ten, and the dozen. */
    private static final Map<String, String> MULTIPLES = Map.of("dozen", "12", "hundred", "10^{2}", "thousand", "10^{3}", "million", "10^{6}",
            "billion", "10^{9}", "trillion", "10^{12}");

    private final Steps steps;

    AnswerParser(Steps steps) {
        this.steps = steps;
    }

    /** {@return what an answer is; never null} */
    Form parse(String clean) {
        return parse(clean, 0);
    }

    private Form parse(String given, int depth) {
        steps.take(5 + given.length() / 8);
        if (depth > DEEPEST) {
            throw new Unreadable("lists inside lists");
        }
        final String s = given.strip();
        if (s.isEmpty()) {
            throw new Unreadable("nothing");
        }
        if (s.indexOf(LatexText.OPEN) >= 0) {
            return withWords(s, depth);
        }
        final Matcher matrix = MATRIX.matcher(s);
        if (matrix.matches() && matrix.group(2).indexOf("\\begin") < 0) {
            return matrix(matrix.group(1), matrix.group(2), depth);
        }
        final String joined = depth == 0 ? thousands(s) : s;
        final List<String> items = split(joined, ",;");
        if (items.size() > 1) {
            return several(items, depth);
        }
        final List<String> parts = splitCommand(joined, "\\cup");
        if (parts.size() > 1) {
            return union(parts, depth);
        }
        final Form relation = relation(joined, depth);
        if (relation != null) {
            return relation;
        }
        final Form bracketed = bracketed(joined, depth);
        if (bracketed != null) {
            return bracketed;
        }
        final Matcher based = BASED.matcher(joined);
        if (based.matches() && Character.isDigit(joined.charAt(0))) {
            return new Form.Based(based.group(1), Integer.parseInt(based.group(2)));
        }
        final Matcher clock = CLOCK.matcher(joined);
        if (clock.matches()) { // a time or a ratio: as it is written
            return new Form.Words(clock.group(1) + ":" + clock.group(2) + (clock.group(3) == null ? "" : ":" + clock.group(3)));
        }
        return scalar(joined, null);
    }

    /** 1,000 is a number, (1,000) is not: in brackets a comma stands between two things. */
    private static String thousands(String s) {
        final Matcher m = THOUSANDS.matcher(s);
        final StringBuilder out = new StringBuilder();
        int open = 0;
        int at = 0;
        while (m.find()) {
            for (; at < m.start(); at++) {
                final char c = s.charAt(at);
                open += c == '(' || c == '[' || c == '{' ? 1 : c == ')' || c == ']' || c == '}' ? -1 : 0;
            }
            m.appendReplacement(out, open > 0 ? m.group() : m.group().replace(",", ""));
        }
        return m.appendTail(out).toString();
    }

    private Form scalar(String s, String unit) {
        final Expression plus = ExpressionParser.parse(s, 1, steps);
        if (!s.contains("\\pm") && !s.contains("\\mp")) {
            return new Form.Scalar(plus, unit);
        }
        return new Form.Several(List.of(new Form.Scalar(plus, unit), new Form.Scalar(ExpressionParser.parse(s, -1, steps), unit)));
    }

    // ---- words ----

    private Form withWords(String s, int depth) {
        final Matcher base = BASE_IN_WORDS.matcher(s);
        if (base.matches()) {
            return new Form.Based(base.group(1), Integer.parseInt(base.group(2)));
        }
        final Form.Words asWords = new Form.Words(key(s));
        final Matcher unit = UNIT.matcher(s);
        if (unit.find() && unit.start() > 0 && s.lastIndexOf(LatexText.OPEN, unit.start() - 1) < 0) {
            final String words = s.substring(unit.start()).replaceAll("[^\\p{L}' ]+", " ").strip().toLowerCase(Locale.ROOT);
            final String[] each = words.split("[ /]+");
            for (String word : each) {
                if (MEANT.contains(word)) {
                    return asWords;
                }
            }
            final String multiple = MULTIPLES.get(each[0]);
            final String value = s.substring(0, unit.start());
            try {
                return multiple == null ? withUnit(parse(value, depth), words) : parse("(" + value + ")*" + multiple, depth + 1);
            } catch (Unreadable e) {
                return asWords;
            }
        }
        if (s.charAt(0) == LatexText.OPEN) { // ⟦Area⟧ = 5
            final int close = s.indexOf(LatexText.CLOSE);
            final String rest = s.substring(close + 1).strip();
            final String label = s.substring(1, close).strip().toLowerCase(Locale.ROOT);
            if (rest.startsWith("=") && rest.length() > 1 || label.endsWith(" is") || label.endsWith(":")) {
                try {
                    return new Form.Named(label, parse(rest.startsWith("=") ? rest.substring(1) : rest, depth + 1), null);
                } catch (Unreadable e) {
                    return asWords;
                }
            }
        }
        final List<String> items = split(s, ",;");
        if (items.size() > 1) {
            return several(items, depth);
        }
        final int equals = s.indexOf('=');
        if (equals > 0 && s.indexOf('=', equals + 1) < 0 && s.lastIndexOf(LatexText.OPEN) < equals) {
            return new Form.Named(key(s.substring(0, equals)), parse(s.substring(equals + 1), depth + 1), null);
        }
        return asWords;
    }

    private static Form withUnit(Form value, String unit) {
        if (value instanceof Form.Scalar scalar) {
            return new Form.Scalar(scalar.value(), unit);
        }
        if (value instanceof Form.Named named && named.value() instanceof Form.Scalar scalar) {
            return new Form.Named(named.name(), new Form.Scalar(scalar.value(), unit), named.asRelation());
        }
        return value;
    }

    /** Letters and digits alone, without case, brackets and articles. */
    static String key(String s) {
        return s.toLowerCase(Locale.ROOT).replaceAll("\\\\[a-z]+\\s?(?=\\{)", "").replaceFirst("^[^\\p{L}\\p{N}]*(?:the|an|a) (?=\\p{L}{2})", "")
                .replaceAll("[^\\p{L}\\p{N}+=<>/.:-]", "").replaceAll("[.:]+$", "");
    }

    // ---- lists, brackets, unions ----

    private Form several(List<String> items, int depth) {
        final List<Form> forms = new ArrayList<>();
        String name = null;
        for (int i = 0; i < items.size(); i++) {
            if (items.get(i).isBlank()) {
                continue;
            }
            final Form form = parse(items.get(i), depth + 1);
            if (form instanceof Form.Named named && i == 0) {
                name = named.name();
                forms.add(named.value());
            } else if (form instanceof Form.Named named && named.name().equals(name)) {
                forms.add(named.value()); // x = 1 or x = 2
            } else {
                forms.add(form);
            }
        }
        final Form all = forms.size() == 1 ? forms.get(0) : new Form.Several(flat(forms));
        return name == null ? all : new Form.Named(name, all, null);
    }

    /** The two values of a \pm are two of the list. */
    private static List<Form> flat(List<Form> forms) {
        final List<Form> flat = new ArrayList<>();
        for (Form form : forms) {
            if (form instanceof Form.Several several) {
                flat.addAll(several.items());
            } else {
                flat.add(form);
            }
        }
        return List.copyOf(flat);
    }

    private Form union(List<String> parts, int depth) {
        final List<Form.Bracketed> intervals = new ArrayList<>();
        String name = null;
        for (String part : parts) {
            Form form = parse(part, depth + 1);
            if (form instanceof Form.Named named && intervals.isEmpty()) {
                name = named.name();
                form = named.value();
            }
            if (form instanceof Form.Several set) { // a set of points
                for (Form item : set.items()) {
                    intervals.add(new Form.Bracketed('[', ']', List.of(item, item)));
                }
            } else if (form instanceof Form.Bracketed interval && interval.hasEnds()) {
                intervals.add(interval);
            } else {
                throw new Unreadable("a union of something else than intervals");
            }
        }
        final Form union = new Form.Union(List.copyOf(intervals));
        return name == null ? union : new Form.Named(name, union, null);
    }

    private Form bracketed(String s, int depth) {
        final char first = s.charAt(0);
        if (s.startsWith("\\{") && s.endsWith("\\}") && s.length() >= 4) {
            final String inside = s.substring(2, s.length() - 2);
            return new Form.Several(inside.isBlank() ? List.of() : flat(forms(split(inside, ",;"), depth)));
        }
        final boolean angle = s.startsWith("\\langle") && s.endsWith("\\rangle");
        final char last = s.charAt(s.length() - 1);
        if (s.length() < 2 || !angle && !((first == '(' || first == '[' || first == ']') && (last == ')' || last == ']' || last == '['))) {
            return null;
        }
        final String inside = angle ? s.substring(7, s.length() - 7) : s.substring(1, s.length() - 1);
        if (!isClosed(inside)) {
            return null; // (1 + 2)(3 + 4)
        }
        final List<String> items = split(inside, ",;");
        if (items.size() == 1 && !angle) {
            return first == '(' && last == ')' || first == '[' && last == ']' ? parse(inside, depth + 1) : null;
        }
        final char open = angle ? '<' : first == ']' ? '(' : first;
        final char close = angle ? '>' : last == '[' ? ')' : last;
        return new Form.Bracketed(open, close, forms(items, depth));
    }

    private List<Form> forms(List<String> items, int depth) {
        final List<Form> forms = new ArrayList<>();
        for (String item : items) {
            forms.add(parse(item, depth + 1));
        }
        return List.copyOf(forms);
    }

    private static boolean isClosed(String s) {
        int open = 0;
        for (int i = 0; i < s.length(); i++) {
            final char c = s.charAt(i);
            open += c == '(' || c == '[' ? 1 : c == ')' || c == ']' ? -1 : 0;
            if (open < 0) {
                return false;
            }
        }
        return open == 0;
    }

    private Form matrix(String kind, String inside, int depth) {
        final String body = kind.equals("array") ? inside.replaceFirst("^\\s*\\{[^{}]*}", "") : inside;
        final List<List<Form>> rows = new ArrayList<>();
        for (String row : body.split("\\\\\\\\")) {
            if (row.isBlank()) {
                continue;
            }
            final List<Form> cells = new ArrayList<>();
            for (String cell : row.split("&", -1)) {
                cells.add(parse(cell, depth + 1));
            }
            rows.add(List.copyOf(cells));
        }
        if (rows.isEmpty()) {
            throw new Unreadable("a matrix without rows");
        }
        return new Form.Matrix(List.copyOf(rows));
    }

    // ---- relations ----

    private Form relation(String s, int depth) {
        final List<String> sides = new ArrayList<>();
        final List<String> signs = new ArrayList<>();
        int start = 0;
        int open = 0;
        for (int i = 0; i < s.length(); i++) {
            final char c = s.charAt(i);
            if (s.startsWith("\\{", i) || s.startsWith("\\}", i)) {
                open += s.charAt(i + 1) == '{' ? 1 : -1;
                i++;
                continue;
            }
            open += c == '(' || c == '[' || c == '{' ? 1 : c == ')' || c == ']' || c == '}' ? -1 : 0;
            final String sign = open == 0 ? sign(s, i) : null;
            if (sign != null) {
                sides.add(s.substring(start, i).strip());
                signs.add(sign.equals("<=") ? "\\le" : sign.equals(">=") ? "\\ge" : sign.equals("!=") ? "\\ne" : sign);
                i += sign.length() - 1;
                start = i + 1;
            }
        }
        if (signs.isEmpty()) {
            return null;
        }
        sides.add(s.substring(start).strip());
        if (signs.get(0).equals("\\in") && signs.size() == 1) {
            return new Form.Named(sides.get(0).replaceAll("\\s", ""), parse(sides.get(1), depth + 1), null);
        }
        final String last = sides.get(sides.size() - 1);
        if (sides.stream().anyMatch(String::isEmpty)) {
            throw new Unreadable("a relation with an empty side");
        }
        Form.Relation relation = null;
        try {
            final List<Expression> read = new ArrayList<>();
            for (String side : sides) {
                if (side.contains("\\pm") || side.contains("\\mp")) {
                    throw new Unreadable("more than one value in a relation");
                }
                read.add(ExpressionParser.parse(side, 1, steps));
            }
            relation = new Form.Relation(List.copyOf(read), List.copyOf(sides), List.copyOf(signs));
        } catch (Unreadable e) {
            if (!signs.stream().allMatch(sign -> sign.equals("=") || sign.equals("\\approx"))) {
                throw e;
            }
        }
        if (signs.stream().allMatch(sign -> sign.equals("=")) && isName(sides, relation)) {
            try {
                return new Form.Named(sides.get(0).replaceAll("\\s", ""), parse(last, depth + 1), relation);
            } catch (Unreadable e) {
                if (relation == null) {
                    throw e;
                }
            }
        }
        if (relation == null) {
            throw new Unreadable("a relation");
        }
        return relation;
    }

    /** x, f(x), |AB|, 9 * 2 (of 9 * 2 = 18): what may stand before a value without being part of the answer. */
    private static boolean isName(List<String> sides, Form.Relation relation) {
        for (String side : sides.subList(0, sides.size() - 1)) {
            if (side.chars().noneMatch(Character::isDigit)
                    || side.matches("\\\\?[a-zA-Z]+\\s?_\\s?\\{?[0-9a-z,]+}?(?:\\([^()]*\\))?|[a-zA-Z]\\([^()]*\\)")) {
                continue;
            }
            if (relation == null || relation.sides().stream().anyMatch(e -> !variables(e).isEmpty())) {
                return false;
            }
        }
        return true;
    }

    static Set<String> variables(Expression e) {
        final Set<String> variables = new TreeSet<>();
        e.variables(variables);
        return variables;
    }

    private static String sign(String s, int i) {
        for (String relation : RELATIONS) {
            if (s.startsWith(relation, i) && (relation.charAt(0) != '\\' || i + relation.length() == s.length()
                    || !Character.isLetter(s.charAt(i + relation.length())))) {
                return relation;
            }
        }
        return null;
    }

    // ---- splitting at depth 0 ----

    private static List<String> split(String s, String separators) {
        return split(s, i -> separators.indexOf(s.charAt(i)) >= 0, 1);
    }

    private static List<String> splitCommand(String s, String command) {
        if (!s.contains(command)) {
            return List.of(s);
        }
        return split(s, i -> s.startsWith(command, i) && (i + command.length() == s.length()
                || !Character.isLetter(s.charAt(i + command.length()))), command.length());
    }

    private static List<String> split(String s, IntPredicate separator, int length) {
        final List<String> parts = new ArrayList<>();
        int open = 0;
        int start = 0;
        for (int i = 0; i < s.length(); i++) {
            final char c = s.charAt(i);
            open += c == '(' || c == '[' || c == '{' || c == LatexText.OPEN ? 1
                    : c == ')' || c == ']' || c == '}' || c == LatexText.CLOSE ? -1 : 0;
            if (s.startsWith("\\langle", i) || s.startsWith("\\rangle", i)) {
                open += s.charAt(i + 1) == 'l' ? 1 : -1;
            }
            if (open <= 0 && separator.test(i)) {
                parts.add(s.substring(start, i));
                start = i + length;
                i += length - 1;
            }
        }
        parts.add(s.substring(start));
        return parts;
    }
}
