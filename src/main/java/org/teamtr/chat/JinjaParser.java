package org.teamtr.chat;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.teamtr.chat.JinjaLexer.Token;
import org.teamtr.chat.JinjaLexer.Type;
import org.teamtr.chat.JinjaValues.Args;
import org.teamtr.chat.JinjaValues.Callable;
import org.teamtr.chat.JinjaValues.Fault;
import org.teamtr.chat.JinjaValues.Loop;
import org.teamtr.chat.JinjaValues.Scope;
import org.teamtr.chat.JinjaValues.Tuple;
import org.teamtr.chat.JinjaValues.Undefined;

/** Parses a template into a tree whose nodes render themselves. The grammar is Jinja's, rule by rule, precedence included. */
final class JinjaParser {
    /** A piece of template. */
    @FunctionalInterface
    interface Node {
        void render(Scope scope, StringBuilder out);
    }

    /** An expression. */
    @FunctionalInterface
    interface Expr {
        Object eval(Scope scope);
    }

    /** The target of an assignment: a name, several names, or a namespace's attribute. */
    @FunctionalInterface
    private interface Target {
        void assign(Scope scope, Object value);
    }

    /** {@code break} or {@code continue}. */
    private static final class Jump extends RuntimeException {
        private static final long serialVersionUID = 1;
        static final Jump BREAK = new Jump();
        static final Jump CONTINUE = new Jump();

        private Jump() {
            super(null, null, false, false);
        }
    }

    private record Parameter(String name, Expr standard) {
    }

    private static final int MACRO_DEPTH = 100;
    private static final Set<String> RESERVED = Set.of("and", "or", "not", "if", "else", "in", "is");
    private static final Set<String> COMPARISONS = Set.of("==", "!=", "<", "<=", ">", ">=");

    private final List<Token> tokens;
    private int at;
    private int loops; // for-loops around, within the innermost macro

    JinjaParser(String template) {
        tokens = JinjaLexer.tokens(template);
    }

    // ---- statements ----

    Node parse() {
        return statements(Set.of());
    }

    /** Everything up to one of these tags, whose name is then the current token, or up to the end if there are none. */
    private Node statements(Set<String> ends) {
        final List<Node> nodes = new ArrayList<>();
        while (true) {
            final Token token = tokens.get(at++);
            switch (token.type()) {
                case TEXT -> nodes.add((scope, out) -> {
                    scope.run().charge(token.text().length());
                    out.append(token.text());
                });
                case VARIABLE_BEGIN -> {
                    final Expr value = tuple(true, false);
                    expect(Type.VARIABLE_END, "}}");
                    nodes.add(located(token.line(), (scope, out) -> {
                        final String text = JinjaText.str(scope.run(), value.eval(scope));
                        scope.run().charge(text.length() + 1);
                        out.append(text);
                    }));
                }
                case BLOCK_BEGIN -> {
                    final Token name = current();
                    if (name.type() == Type.NAME && ends.contains(name.text())) {
                        return sequence(nodes);
                    }
                    at++;
                    nodes.add(located(name.line(), statement(name)));
                }
                default -> {
                    if (!ends.isEmpty()) {
                        throw error(token, "unexpected end of the template, expected " + tags(ends));
                    }
                    return sequence(nodes);
                }
            }
        }
    }

    private static Node sequence(List<Node> nodes) {
        final Node[] all = nodes.toArray(new Node[0]);
        return (scope, out) -> {
            for (Node node : all) {
                node.render(scope, out);
            }
        };
    }

    /** Gives a fault that has no line yet this one. */
    private static Node located(int line, Node node) {
        return (scope, out) -> {
            scope.run().charge(1);
            try {
                node.render(scope, out);
            } catch (Fault e) {
                throw e.at(line);
            }
        };
    }

    private Node statement(Token tag) {
        if (tag.type() != Type.NAME) {
            throw error(tag, "expected the name of a tag, given " + tag);
        }
        return switch (tag.text()) {
            case "if" -> ifTag();
            case "for" -> forTag();
            case "set" -> setTag(tag);
            case "macro" -> macroTag();
            case "break", "continue" -> {
                if (loops == 0) {
                    throw error(tag, "'" + tag.text() + "' outside of a loop");
                }
                endTag();
                final Jump jump = tag.text().equals("break") ? Jump.BREAK : Jump.CONTINUE;
                yield (scope, out) -> {
                    throw jump;
                };
            }
            case "generation" -> {
                // A generation block marks the assistant's text for loss masks; its content is rendered unchanged.
                endTag();
                final int around = loops;
                loops = 0;
                final Node body = statements(Set.of("endgeneration"));
                loops = around;
                at++;
                endTag();
                yield (scope, out) -> body.render(new Scope(scope), out);
            }
            default -> throw error(tag, "tag '" + tag.text() + "' is not supported here");
        };
    }

    private Node ifTag() {
        final Expr test = tuple(false, false);
        endTag();
        final Node then = statements(Set.of("elif", "else", "endif"));
        final Token next = tokens.get(at++);
        final Node otherwise;
        if (next.text().equals("elif")) {
            otherwise = located(next.line(), ifTag());
        } else if (next.text().equals("else")) {
            endTag();
            otherwise = statements(Set.of("endif"));
            at++;
            endTag();
        } else {
            endTag();
            otherwise = (scope, out) -> {
            };
        }
        return (scope, out) -> (JinjaValues.truth(test.eval(scope)) ? then : otherwise).render(scope, out);
    }

    private Node forTag() {
        final Target target = target(false);
        expectName("in");
        final Expr source = tuple(false, false);
        final Expr filter = skipName("if") ? expression(true) : null;
        if (current().is(Type.NAME, "recursive")) {
            throw error(current(), "a recursive loop is not supported");
        }
        endTag();
        loops++;
        final Node body = statements(Set.of("endfor", "else"));
        loops--;
        Node otherwise = null;
        if (tokens.get(at++).text().equals("else")) {
            endTag();
            otherwise = statements(Set.of("endfor"));
            at++;
        }
        endTag();
        final Node none = otherwise;
        return (scope, out) -> {
            List<Object> items = JinjaValues.iterate(scope.run(), source.eval(scope));
            if (filter != null) {
                final List<Object> kept = new ArrayList<>();
                for (Object item : items) {
                    final Scope inner = new Scope(scope);
                    inner.set("loop", new Undefined("the loop variable, which the filter of a loop does not have"));
                    target.assign(inner, item);
                    scope.run().charge(1);
                    if (JinjaValues.truth(filter.eval(inner))) {
                        kept.add(item);
                    }
                }
                items = kept;
            }
            if (items.isEmpty() && none != null) {
                none.render(new Scope(scope), out);
            }
            for (int i = 0; i < items.size(); i++) {
                scope.run().charge(20); // a scope costs more than a step
                final Scope inner = new Scope(scope);
                target.assign(inner, items.get(i));
                inner.set("loop", new Loop(items, i));
                try {
                    body.render(inner, out);
                } catch (Jump jump) {
                    if (jump == Jump.BREAK) {
                        break;
                    }
                }
            }
        };
    }

    private Node setTag(Token tag) {
        final Target target = target(true);
        if (skip("=")) {
            final Expr value = tuple(true, false);
            endTag();
            return (scope, out) -> target.assign(scope, value.eval(scope));
        }
        if (current().is(Type.OPERATOR, "|")) {
            throw error(current(), "a filter on a block set is not supported");
        }
        endTag();
        final Node body = statements(Set.of("endset"));
        at++;
        endTag();
        return (scope, out) -> {
            final StringBuilder text = new StringBuilder();
            body.render(new Scope(scope), text);
            target.assign(scope, text.toString());
        };
    }

    private Node macroTag() {
        final String name = name();
        expect(Type.OPERATOR, "(");
        final List<Parameter> parameters = new ArrayList<>();
        while (!current().is(Type.OPERATOR, ")")) {
            if (!parameters.isEmpty()) {
                expect(Type.OPERATOR, ",");
            }
            final String parameter = name();
            Expr standard = null;
            if (skip("=")) {
                standard = expression(true);
            } else if (!parameters.isEmpty() && parameters.get(parameters.size() - 1).standard() != null) {
                throw error(current(), "a parameter without a default after one with a default");
            }
            parameters.add(new Parameter(parameter, standard));
        }
        at++;
        endTag();
        final int around = loops;
        loops = 0;
        final Node body = statements(Set.of("endmacro"));
        loops = around;
        at++;
        endTag();
        return (defined, ignored) -> defined.set(name, (Callable) (run, args) -> {
            final Scope inner = new Scope(defined);
            for (int i = 0; i < parameters.size(); i++) {
                final Parameter p = parameters.get(i);
                final Object missing = new Undefined("parameter '" + p.name() + "' of macro '" + name + "'");
                Object value = args.get(i, p.name(), missing);
                if (value == missing && p.standard() != null) {
                    value = p.standard().eval(inner);
                }
                inner.set(p.name(), value);
            }
            args.done();
            run.enter(MACRO_DEPTH);
            final StringBuilder text = new StringBuilder();
            body.render(inner, text);
            run.leave();
            return text.toString();
        });
    }

    // ---- what is assigned to ----

    private Target target(boolean attribute) {
        final List<Target> targets = new ArrayList<>();
        boolean several = false;
        do {
            if (skip("(")) {
                targets.add(target(attribute));
                expect(Type.OPERATOR, ")");
            } else if (current().type() == Type.NAME && !current().text().equals("in")) {
                targets.add(single(attribute));
            } else {
                break;
            }
            several |= current().is(Type.OPERATOR, ",");
        } while (skip(","));
        if (targets.isEmpty()) {
            throw error(current(), "expected a name, given " + current());
        }
        if (!several) {
            return targets.get(0);
        }
        return (scope, value) -> {
            final List<Object> parts = JinjaValues.iterate(scope.run(), value);
            if (parts.size() != targets.size()) {
                throw new Fault("expected " + targets.size() + " values to unpack, given " + parts.size());
            }
            for (int i = 0; i < parts.size(); i++) {
                targets.get(i).assign(scope, parts.get(i));
            }
        };
    }

    private Target single(boolean attribute) {
        final Token token = current();
        final String name = name();
        if (attribute && skip(".")) {
            final String member = name();
            return (scope, value) -> JinjaValues.setAttribute(scope.get(name), name, member, value);
        }
        if (Set.of("true", "false", "none", "True", "False", "None", "loop").contains(name)) {
            throw error(token, "'" + name + "' cannot be set");
        }
        return (scope, value) -> scope.set(name, value);
    }

    // ---- expressions, from the loosest binding to the tightest ----

    /** One expression, or several with commas between them, which are a tuple. */
    private Expr tuple(boolean conditional, boolean parentheses) {
        final List<Expr> parts = new ArrayList<>();
        boolean several = false;
        while (!tupleEnds()) {
            parts.add(expression(conditional));
            if (!skip(",")) {
                break;
            }
            several = true;
        }
        if (!several && parts.size() == 1) {
            return parts.get(0);
        }
        if (parts.isEmpty() && !parentheses) {
            throw error(current(), "expected an expression, given " + current());
        }
        return scope -> new Tuple(all(parts, scope));
    }

    private boolean tupleEnds() {
        final Token token = current();
        return token.type() == Type.VARIABLE_END || token.type() == Type.BLOCK_END || token.is(Type.OPERATOR, ")");
    }

    private static List<Object> all(List<Expr> parts, Scope scope) {
        final List<Object> values = new ArrayList<>(parts.size());
        for (Expr part : parts) {
            values.add(part.eval(scope));
        }
        scope.run().charge(parts.size());
        return values;
    }

    private Expr expression(boolean conditional) {
        Expr value = or();
        while (conditional && skipName("if")) {
            final Expr then = value;
            final Expr test = or();
            final Expr otherwise = skipName("else") ? expression(true)
                    : scope -> new Undefined("the value of an if-expression without else, whose condition is false");
            value = scope -> (JinjaValues.truth(test.eval(scope)) ? then : otherwise).eval(scope);
        }
        return value;
    }

    private Expr or() {
        Expr left = and();
        while (skipName("or")) {
            final Expr a = left;
            final Expr b = and();
            left = scope -> {
                final Object value = a.eval(scope);
                return JinjaValues.truth(value) ? value : b.eval(scope);
            };
        }
        return left;
    }

    private Expr and() {
        Expr left = not();
        while (skipName("and")) {
            final Expr a = left;
            final Expr b = not();
            left = scope -> {
                final Object value = a.eval(scope);
                return JinjaValues.truth(value) ? b.eval(scope) : value;
            };
        }
        return left;
    }

    private Expr not() {
        if (skipName("not")) {
            final Expr value = not();
            return scope -> !JinjaValues.truth(value.eval(scope));
        }
        return comparison();
    }

    /** As in Python, a chain holds if each of its links does: 1 &lt; x &lt; 3. */
    private Expr comparison() {
        final Expr first = sum();
        final List<String> operators = new ArrayList<>();
        final List<Expr> operands = new ArrayList<>();
        while (true) {
            final Token token = current();
            if (token.type() == Type.OPERATOR && COMPARISONS.contains(token.text())) {
                at++;
                operators.add(token.text());
            } else if (skipName("in")) {
                operators.add("in");
            } else if (token.is(Type.NAME, "not") && tokens.get(at + 1).is(Type.NAME, "in")) {
                at += 2;
                operators.add("not in");
            } else {
                break;
            }
            operands.add(sum());
        }
        if (operators.isEmpty()) {
            return first;
        }
        return scope -> {
            Object left = first.eval(scope);
            for (int i = 0; i < operators.size(); i++) {
                final Object right = operands.get(i).eval(scope);
                if (!JinjaValues.compare(scope.run(), operators.get(i), left, right)) {
                    return false;
                }
                left = right;
            }
            return true;
        };
    }

    private Expr sum() {
        Expr left = concatenation();
        while (current().is(Type.OPERATOR, "+") || current().is(Type.OPERATOR, "-")) {
            left = binary(tokens.get(at++).text(), left, concatenation());
        }
        return left;
    }

    private Expr concatenation() {
        final List<Expr> parts = new ArrayList<>(List.of(product()));
        while (skip("~")) {
            parts.add(product());
        }
        if (parts.size() == 1) {
            return parts.get(0);
        }
        return scope -> {
            final StringBuilder text = new StringBuilder();
            for (Object value : all(parts, scope)) {
                if (value instanceof JinjaValues.Safe) {
                    throw new Fault("'~' with a value that is marked safe is not supported");
                }
                final String s = JinjaText.str(scope.run(), value);
                scope.run().charge(s.length());
                text.append(s);
            }
            return text.toString();
        };
    }

    private Expr product() {
        Expr left = power();
        while (current().type() == Type.OPERATOR && Set.of("*", "/", "//", "%").contains(current().text())) {
            left = binary(tokens.get(at++).text(), left, power());
        }
        return left;
    }

    private Expr power() {
        final Expr value = unary(true);
        if (current().is(Type.OPERATOR, "**")) {
            throw error(current(), "operator '**' is not supported");
        }
        return value;
    }

    private static Expr binary(String operator, Expr a, Expr b) {
        return scope -> {
            scope.run().charge(1);
            final Object left = a.eval(scope);
            return JinjaValues.arithmetic(scope.run(), operator, left, b.eval(scope));
        };
    }

    private Expr unary(boolean filters) {
        Expr value;
        if (skip("-")) {
            final Expr operand = unary(false);
            value = scope -> JinjaValues.negate(operand.eval(scope));
        } else if (skip("+")) {
            final Expr operand = unary(false);
            value = scope -> JinjaValues.arithmetic(scope.run(), "+", 0L, operand.eval(scope));
        } else {
            value = primary();
        }
        value = postfix(value);
        while (filters) {
            if (skip("|")) {
                value = filter(value);
            } else if (skipName("is")) {
                value = test(value);
            } else if (current().is(Type.OPERATOR, "(")) {
                value = call(value);
            } else {
                break;
            }
        }
        return value;
    }

    private Expr primary() {
        final Token token = tokens.get(at++);
        final String text = token.text();
        switch (token.type()) {
            case NAME -> {
                if (RESERVED.contains(text)) {
                    throw error(token, "expected an expression, given " + token);
                }
                return switch (text) {
                    case "true", "True" -> scope -> true;
                    case "false", "False" -> scope -> false;
                    case "none", "None" -> scope -> null;
                    default -> scope -> scope.get(text);
                };
            }
            case STRING -> {
                final StringBuilder all = new StringBuilder(text);
                while (current().type() == Type.STRING) {
                    all.append(tokens.get(at++).text());
                }
                final String value = all.toString();
                return scope -> value;
            }
            case INTEGER -> {
                final long value = integer(token);
                return scope -> value;
            }
            case FLOAT -> {
                final double value = Double.parseDouble(text);
                return scope -> value;
            }
            default -> {
                if (token.is(Type.OPERATOR, "(")) {
                    final Expr value = tuple(true, true);
                    expect(Type.OPERATOR, ")");
                    return value;
                } else if (token.is(Type.OPERATOR, "[")) {
                    return list();
                } else if (token.is(Type.OPERATOR, "{")) {
                    return dict();
                }
                throw error(token, "expected an expression, given " + token);
            }
        }
    }

    private static long integer(Token token) {
        try {
            return Long.parseLong(token.text());
        } catch (NumberFormatException e) {
            throw error(token, "expected an integer of at most 2^63 - 1, given " + token.text());
        }
    }

    private Expr list() {
        final List<Expr> items = new ArrayList<>();
        while (!skip("]")) {
            items.add(expression(true));
            if (!current().is(Type.OPERATOR, "]")) {
                expect(Type.OPERATOR, ",");
            }
        }
        return scope -> all(items, scope);
    }

    private Expr dict() {
        final List<Expr> keys = new ArrayList<>();
        final List<Expr> values = new ArrayList<>();
        while (!skip("}")) {
            keys.add(expression(true));
            expect(Type.OPERATOR, ":");
            values.add(expression(true));
            if (!current().is(Type.OPERATOR, "}")) {
                expect(Type.OPERATOR, ",");
            }
        }
        return scope -> {
            final Map<Object, Object> map = new LinkedHashMap<>();
            for (int i = 0; i < keys.size(); i++) {
                final Object key = JinjaValues.key(keys.get(i).eval(scope));
                map.put(key, values.get(i).eval(scope));
            }
            scope.run().charge(keys.size());
            return map;
        };
    }

    private Expr postfix(Expr value) {
        Expr result = value;
        while (true) {
            if (skip(".")) {
                final Expr object = result;
                final Token member = tokens.get(at++);
                if (member.type() == Type.INTEGER) {
                    final long index = integer(member);
                    result = scope -> JinjaValues.item(object.eval(scope), index);
                } else if (member.type() == Type.NAME) {
                    result = scope -> JinjaValues.attribute(object.eval(scope), member.text());
                } else {
                    throw error(member, "expected a name after '.', given " + member);
                }
            } else if (skip("[")) {
                result = subscript(result);
            } else if (current().is(Type.OPERATOR, "(")) {
                result = call(result);
            } else {
                return result;
            }
        }
    }

    private Expr subscript(Expr object) {
        final Expr[] parts = new Expr[3];
        int n = 0;
        boolean slice = false;
        while (!current().is(Type.OPERATOR, "]")) {
            if (skip(":")) {
                slice = true;
                if (++n > 2) {
                    throw error(current(), "a slice of more than three parts");
                }
            } else if (parts[n] == null) {
                parts[n] = expression(true);
            } else {
                throw error(current(), "expected ']', given " + current());
            }
        }
        if (!slice && parts[0] == null) {
            throw error(current(), "expected an expression, given " + current());
        }
        at++;
        if (!slice) {
            return scope -> {
                final Object o = object.eval(scope);
                return JinjaValues.item(o, parts[0].eval(scope));
            };
        }
        return scope -> {
            final Object o = object.eval(scope);
            final Object[] bounds = new Object[3];
            for (int i = 0; i < 3; i++) {
                bounds[i] = parts[i] == null ? null : parts[i].eval(scope);
            }
            return JinjaValues.slice(scope.run(), o, bounds);
        };
    }

    // ---- calls, filters, tests ----

    private Expr call(Expr function) {
        final int line = current().line();
        final ArgExprs arguments = arguments();
        return scope -> {
            scope.run().charge(1);
            try {
                final Object f = function.eval(scope);
                return JinjaMethods.call(scope.run(), f, arguments.eval(scope, "the call"));
            } catch (Fault e) {
                throw e.at(line);
            }
        };
    }

    private Expr filter(Expr value) {
        final Token name = current();
        name();
        if (!JinjaFilters.FILTERS.containsKey(name.text())) {
            throw error(name, "filter '" + name.text() + "' is not supported");
        }
        final ArgExprs arguments = current().is(Type.OPERATOR, "(") ? arguments() : ArgExprs.NONE;
        return scope -> {
            scope.run().charge(1);
            final Object v = value.eval(scope);
            return JinjaFilters.filter(scope.run(), name.text(), v, arguments.eval(scope, "filter '" + name.text() + "'"));
        };
    }

    private Expr test(Expr value) {
        final boolean negated = skipName("not");
        final Token name = current();
        name();
        if (!JinjaFilters.TESTS.containsKey(name.text())) {
            throw error(name, "test '" + name.text() + "' is not supported");
        }
        final ArgExprs arguments;
        final Token next = current();
        if (next.is(Type.OPERATOR, "(")) {
            arguments = arguments();
        } else if (next.is(Type.NAME, "else") || next.is(Type.NAME, "or") || next.is(Type.NAME, "and")) {
            arguments = ArgExprs.NONE;
        } else if (next.is(Type.OPERATOR, "[") || next.is(Type.OPERATOR, "{") || next.type() == Type.NAME || next.type() == Type.STRING
                || next.type() == Type.INTEGER || next.type() == Type.FLOAT) {
            arguments = new ArgExprs(List.of(postfix(primary())), Map.of());
        } else {
            arguments = ArgExprs.NONE;
        }
        return scope -> {
            scope.run().charge(1);
            final Object v = value.eval(scope);
            return negated != JinjaFilters.test(scope.run(), name.text(), v, arguments.eval(scope, "test '" + name.text() + "'"));
        };
    }

    private record ArgExprs(List<Expr> positional, Map<String, Expr> named) {
        static final ArgExprs NONE = new ArgExprs(List.of(), Map.of());

        Args eval(Scope scope, String what) {
            final Map<String, Object> values = new LinkedHashMap<>();
            final List<Object> first = all(positional, scope);
            named.forEach((name, value) -> values.put(name, value.eval(scope)));
            return new Args(what, first, values);
        }
    }

    private ArgExprs arguments() {
        expect(Type.OPERATOR, "(");
        final List<Expr> positional = new ArrayList<>();
        final Map<String, Expr> named = new LinkedHashMap<>();
        while (!skip(")")) {
            final Token token = current();
            if (token.is(Type.OPERATOR, "*") || token.is(Type.OPERATOR, "**")) {
                throw error(token, "'" + token.text() + "' before an argument is not supported");
            }
            if (token.type() == Type.NAME && tokens.get(at + 1).is(Type.OPERATOR, "=")) {
                at += 2;
                if (named.put(token.text(), expression(true)) != null) {
                    throw error(token, "argument '" + token.text() + "' is given twice");
                }
            } else if (named.isEmpty()) {
                positional.add(expression(true));
            } else {
                throw error(token, "an argument without a name after one with a name");
            }
            if (!current().is(Type.OPERATOR, ")")) {
                expect(Type.OPERATOR, ",");
            }
        }
        return new ArgExprs(positional, named);
    }

    // ---- tokens ----

    private Token current() {
        return tokens.get(at);
    }

    private boolean skip(String operator) {
        final boolean found = current().is(Type.OPERATOR, operator);
        at += found ? 1 : 0;
        return found;
    }

    private boolean skipName(String name) {
        final boolean found = current().is(Type.NAME, name);
        at += found ? 1 : 0;
        return found;
    }

    private String name() {
        if (current().type() != Type.NAME) {
            throw error(current(), "expected a name, given " + current());
        }
        return tokens.get(at++).text();
    }

    private void expectName(String name) {
        if (!skipName(name)) {
            throw error(current(), "expected '" + name + "', given " + current());
        }
    }

    private void expect(Type type, String text) {
        if (!current().is(type, text)) {
            throw error(current(), "expected '" + text + "', given " + current());
        }
        at++;
    }

    private void endTag() {
        expect(Type.BLOCK_END, "%}");
    }

    private static String tags(Set<String> names) {
        return String.join(" or ", names.stream().sorted().map(n -> "{% " + n + " %}").toList());
    }

    private static IllegalArgumentException error(Token token, String message) {
        return JinjaLexer.error(token.line(), message);
    }
}
