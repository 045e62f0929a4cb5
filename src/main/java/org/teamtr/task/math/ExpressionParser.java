package org.teamtr.task.math;

import java.math.BigDecimal;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.teamtr.task.math.Expression.Op;

/**
 * Reads a formula by recursive descent, from text that {@link LatexText} has cleaned.
 *
 * <p>Factors stand side by side; a number beside a fraction of two numbers is a mixed number, as answers mean it; two numbers side by
 * side are nothing.
 */
final class ExpressionParser {
    private static final int DEEPEST = 60;
    private static final Set<String> FUNCTIONS = Set.of("sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "arccot",
            "sinh", "cosh", "tanh", "exp", "ln", "log", "lg");
    private static final Map<String, String> INVERSE = Map.of("sin", "arcsin", "cos", "arccos", "tan", "arctan", "cot", "arccot");

    private final String text;
    private final int sign; // of \pm: 1 or -1
    private final Steps steps;
    private int at;
    private int depth;
    private int bars; // of absolute values that are open

    private ExpressionParser(String text, int sign, Steps steps) {
        this.text = text;
        this.sign = sign;
        this.steps = steps;
    }

    /**
     * {@return a formula}
     *
     * @param sign what {@code \pm} stands for, 1 or -1; {@code \mp} stands for the other
     * @throws Unreadable if the text is none
     */
    static Expression parse(String text, int sign, Steps steps) {
        final ExpressionParser parser = new ExpressionParser(text, sign, steps);
        final Expression expression = parser.sum();
        parser.blanks();
        if (parser.at < text.length()) {
            throw new Unreadable("unexpected \"" + text.charAt(parser.at) + "\"");
        }
        return expression;
    }

    private Expression sum() {
        if (++depth > DEEPEST) {
            throw new Unreadable("brackets too deep");
        }
        final List<Expression> terms = new ArrayList<>();
        boolean minus = false;
        boolean first = true;
        while (true) {
            boolean signed = false;
            for (int s = sign(); s != 0; s = sign()) {
                minus ^= s < 0;
                signed = true;
            }
            if (!first && !signed) {
                break;
            }
            final Expression term = product();
            terms.add(minus ? Expression.of(Op.NEGATIVE, term) : term);
            minus = false;
            first = false;
        }
        depth--;
        return terms.size() == 1 ? terms.get(0) : new Expression(Op.SUM, null, null, List.copyOf(terms));
    }

    /** 1, -1, or 0 for none. */
    private int sign() {
        return take("+") ? 1 : take("-") ? -1 : takeCommand("\\pm") ? sign : takeCommand("\\mp") ? -sign : 0;
    }

    private Expression product() {
        final List<Expression> factors = new ArrayList<>();
        factors.add(factor());
        while (true) {
            steps.take(1);
            blanks();
            if (takeCommand("\\times") || takeCommand("\\cdot") || takeCommand("\\ast") || peek() == '*' && !text.startsWith("**", at) && take("*")) {
                factors.add(signedFactor());
            } else if (take("/") || takeCommand("\\div")) {
                final Expression below = signedFactor(); // what follows it multiplies: 1/2x is half of x
                final Expression quotient = Expression.of(Op.QUOTIENT, product(factors), below);
                factors.clear();
                factors.add(quotient);
            } else if (startsFactor()) {
                juxtapose(factors);
            } else {
                return product(factors);
            }
        }
    }

    private Expression signedFactor() {
        final int s = sign();
        final Expression factor = factor();
        return s < 0 ? Expression.of(Op.NEGATIVE, factor) : factor;
    }

    private static Expression product(List<Expression> factors) {
        return factors.size() == 1 ? factors.get(0) : new Expression(Op.PRODUCT, null, null, List.copyOf(factors));
    }

    private void juxtapose(List<Expression> factors) {
        final Expression before = factors.get(factors.size() - 1);
        final boolean digits = Character.isDigit(peek());
        final boolean fraction = text.startsWith("\\frac", at);
        final Expression next = factor();
        final boolean integer = before.op() == Op.NUMBER && before.name().chars().allMatch(Character::isDigit) && factors.size() == 1;
        if (integer && fraction && isProper(next)) {
            factors.set(0, new Expression(Op.MIXED, null, null, List.of(before, next)));
            return;
        }
        if (digits) { // 1 1/2 is a mixed number, 2 3 is nothing
            if (integer && next.op() == Op.NUMBER && take("/")) {
                final Expression below = factor();
                final Expression quotient = Expression.of(Op.QUOTIENT, next, below);
                if (isProper(quotient)) {
                    factors.set(0, new Expression(Op.MIXED, null, null, List.of(before, quotient)));
                    return;
                }
            }
            throw new Unreadable("a number beside another factor");
        }
        factors.add(next);
    }

    private static boolean isProper(Expression e) {
        if (e.op() != Op.QUOTIENT || !e.parts().stream().allMatch(p -> p.op() == Op.NUMBER && p.value().isInteger())) {
            return false;
        }
        return e.parts().get(0).value().compare(e.parts().get(1).value()) < 0;
    }

    private boolean startsFactor() {
        final char c = peek();
        return Character.isLetterOrDigit(c) || c == '(' || c == '[' || c == '{' || c == '.' && Character.isDigit(peek(1))
                || c == '|' && bars == 0 || c == '\\' && !startsOperator();
    }

    private boolean startsOperator() {
        for (String op : new String[] {"\\pm", "\\mp", "\\rfloor", "\\rceil", "\\right", "\\end", "\\}", "\\\\", "\\rangle", "\\rvert"}) {
            if (text.startsWith(op, at)) {
                return true;
            }
        }
        return false;
    }

    /** A primary with what stands behind it: factorials, powers. */
    private Expression factor() {
        if (++depth > DEEPEST) {
            throw new Unreadable("brackets too deep");
        }
        Expression base = primary();
        while (true) {
            blanks();
            if (peek() == '!' && peek(1) != '=') {
                at++;
                base = Expression.of(Op.FACTORIAL, base);
            } else if (peek() == '^' || text.startsWith("**", at)) {
                at += peek() == '^' ? 1 : 2;
                base = Expression.of(Op.POWER, base, exponent());
            } else {
                depth--;
                return base;
            }
        }
    }

    private Expression exponent() {
        blanks();
        if (peek() == '{') {
            return braces();
        }
        final int s = sign();
        final boolean whole = s != 0 || peek() == '\\' || peek() == '(' || at > 1 && text.startsWith("**", at - 2);
        final Expression e = whole || Character.isDigit(peek()) && isPlain() ? primary() : single();
        return s < 0 ? Expression.of(Op.NEGATIVE, e) : e;
    }

    /** 10^12 in plain text has an exponent of two digits; TeX would take one. Answers mean the former. */
    private boolean isPlain() {
        int end = at;
        while (end < text.length() && Character.isDigit(text.charAt(end))) {
            end++;
        }
        return end > at + 1 && (end == text.length() || !Character.isLetter(text.charAt(end)) && text.charAt(end) != '\\');
    }

    private Expression primary() {
        steps.take(1);
        blanks();
        final char c = peek();
        if (Character.isDigit(c) || c == '.') {
            return number();
        }
        if (c == '(' || c == '[') {
            at++;
            final Expression inside = sum();
            expect(c == '(' ? ")" : "]");
            return inside;
        }
        if (c == '{') {
            return braces();
        }
        if (c == '|') {
            at++;
            bars++;
            final Expression inside = sum();
            bars--;
            expect("|");
            return Expression.function("abs", List.of(inside));
        }
        if (c == '\\') {
            return command();
        }
        if (Character.isLetter(c)) {
            at++;
            return letter(String.valueOf(c));
        }
        throw new Unreadable(at >= text.length() ? "a formula that breaks off" : "unexpected \"" + c + "\"");
    }

    private Expression letter(String name) {
        String full = name;
        if (peek() == '_') {
            at++;
            final int start = at;
            if (peek() == '{') {
                skipBraces();
            } else {
                at++;
            }
            full += "_" + text.substring(start, Math.min(at, text.length())).replaceAll("[{}\\s]", "");
        }
        while (peek() == '\'') {
            at++;
            full += "'";
        }
        return switch (full) {
            case "e" -> Expression.leaf(Op.E, full);
            case "i" -> Expression.leaf(Op.I, full);
            default -> Expression.leaf(Op.VARIABLE, full);
        };
    }

    private void skipBraces() {
        int open = 0;
        do {
            if (at >= text.length()) {
                throw new Unreadable("a brace that is never closed");
            }
            open += text.charAt(at) == '{' ? 1 : text.charAt(at) == '}' ? -1 : 0;
            at++;
        } while (open > 0);
    }

    private Expression number() {
        final int start = at;
        while (Character.isDigit(peek())) {
            at++;
        }
        if (peek() == '.' && (Character.isDigit(peek(1)) || at > start)) {
            at++;
            while (Character.isDigit(peek())) {
                at++;
            }
        }
        if (at > start && startsExponent(text.substring(start, at))) {
            final int mark = at;
            at += 2;
            while (Character.isDigit(peek())) {
                at++;
            }
            if (at - mark > 6) {
                throw new Unreadable("an exponent of more than four digits");
            }
        }
        final String digits = text.substring(start, at);
        if (digits.isEmpty() || digits.equals(".")) {
            throw new Unreadable("unexpected \".\"");
        }
        if (digits.length() > 1000) {
            throw new Unreadable("a number of more than 1000 digits");
        }
        return new Expression(Op.NUMBER, digits, Numeric.decimal(new BigDecimal(digits.endsWith(".") ? digits + "0" : digits), steps), List.of());
    }

    /** 1E-1, 1e5 and 1.5e-3 are numbers; 2e-1 is 2 e - 1, as in LaTeX. */
    private boolean startsExponent(String before) {
        if (peek() != 'e' && peek() != 'E') {
            return false;
        }
        final boolean signed = peek(1) == '-' || peek(1) == '+';
        return Character.isDigit(peek(signed ? 2 : 1)) && (!signed || peek() == 'E' || before.indexOf('.') >= 0);
    }

    private Expression braces() {
        expect("{");
        final Expression inside = sum();
        expect("}");
        return inside;
    }

    /** An argument: braces, or the very next sign, as TeX takes it. */
    private Expression argument() {
        blanks();
        return peek() == '{' ? braces() : single();
    }

    private Expression single() {
        blanks();
        final char c = peek();
        if (Character.isDigit(c)) {
            at++;
            return new Expression(Op.NUMBER, String.valueOf(c), Numeric.of(c - '0'), List.of());
        }
        if (Character.isLetter(c)) {
            at++;
            return letter(String.valueOf(c));
        }
        if (c == '\\') {
            return command();
        }
        if (c == '(') {
            return primary();
        }
        throw new Unreadable("an argument that is missing");
    }

    private Expression command() {
        int end = at + 1;
        while (end < text.length() && Character.isLetter(text.charAt(end))) {
            end++;
        }
        final String name = text.substring(at + 1, end);
        at = end;
        switch (name) {
            case "frac": {
                final Expression top = argument();
                return Expression.of(Op.QUOTIENT, top, argument());
            }
            case "binom": {
                final Expression above = argument();
                return Expression.function("binom", List.of(above, argument()));
            }
            case "sqrt":
                blanks();
                Expression order = null;
                if (take("[")) {
                    order = sum();
                    expect("]");
                }
                blanks();
                final Expression inside = Character.isDigit(peek()) && order == null ? digitsOfRoot() : argument();
                return Expression.of(Op.ROOT, inside, order != null ? order : new Expression(Op.NUMBER, "2", Numeric.of(2), List.of()));
            case "pi":
                return Expression.leaf(Op.PI, name);
            case "infty":
                return Expression.leaf(Op.INFINITY, name);
            case "lfloor":
                return bracketed("floor", "\\rfloor");
            case "lceil":
                return bracketed("ceil", "\\rceil");
            case "lvert":
            case "vert":
                return bracketed("abs", name.equals("vert") ? "\\vert" : "\\rvert");
            default:
                if (FUNCTIONS.contains(name)) {
                    return function(name.equals("lg") ? "log" : name);
                }
                if (name.isEmpty() || LatexText.isStructure(name)) {
                    throw new Unreadable("unexpected \\" + name);
                }
                return letter("\\" + name); // Greek and the like
        }
    }

    /** \sqrt2 takes one digit, as TeX does; \sqrt 13 out of Unicode or plain text means 13. */
    private Expression digitsOfRoot() {
        return text.charAt(at - 1) == ' ' ? number() : single();
    }

    private Expression bracketed(String function, String close) {
        final Expression inside = sum();
        expect(close);
        return Expression.function(function, List.of(inside));
    }

    private Expression function(String name) {
        String function = name;
        Expression base = null;
        Expression power = null;
        blanks();
        for (int k = 0; k < 2; k++) {
            if (peek() == '_' && base == null) {
                at++;
                base = argument();
            } else if (peek() == '^' && power == null) {
                at++;
                power = exponent();
            }
            blanks();
        }
        if (power != null && power.op() == Op.NEGATIVE && power.parts().get(0).op() == Op.NUMBER && INVERSE.containsKey(name)
                && "1".equals(power.parts().get(0).name())) {
            function = INVERSE.get(name);
            power = null;
        }
        final Expression inside = functionArgument();
        final Expression value = Expression.function(function, base == null ? List.of(inside) : List.of(inside, base));
        return power == null ? value : Expression.of(Op.POWER, value, power);
    }

    /** In brackets, or the factors up to the next sign or function: \sin 2x, \ln 2. */
    private Expression functionArgument() {
        if (peek() == '(' || peek() == '{' || peek() == '[') {
            return primary();
        }
        final List<Expression> factors = new ArrayList<>();
        factors.add(signedFactor());
        while (true) {
            blanks();
            if (!startsFactor() || peek() == '(' || peek() == '\\' && startsFunction()) {
                return product(factors);
            }
            juxtapose(factors);
        }
    }

    private boolean startsFunction() {
        int end = at + 1;
        while (end < text.length() && Character.isLetter(text.charAt(end))) {
            end++;
        }
        return FUNCTIONS.contains(text.substring(at + 1, end));
    }

    // ---- characters ----

    private void blanks() {
        while (at < text.length() && Character.isWhitespace(text.charAt(at))) {
            at++;
        }
    }

    private char peek() {
        return peek(0);
    }

    private char peek(int ahead) {
        return at + ahead < text.length() ? text.charAt(at + ahead) : 0;
    }

    private boolean take(String what) {
        blanks();
        final boolean there = text.startsWith(what, at);
        at += there ? what.length() : 0;
        return there;
    }

    private boolean takeCommand(String command) {
        blanks();
        final int end = at + command.length();
        final boolean there = text.startsWith(command, at) && (end >= text.length() || !Character.isLetter(text.charAt(end)));
        at += there ? command.length() : 0;
        return there;
    }

    private void expect(String what) {
        if (!take(what)) {
            throw new Unreadable("expected \"" + what + "\"");
        }
    }
}
