package org.teamtr.chat;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.regex.Pattern;
import org.teamtr.chat.JinjaValues.Args;
import org.teamtr.chat.JinjaValues.Fault;
import org.teamtr.chat.JinjaValues.Loop;
import org.teamtr.chat.JinjaValues.Run;
import org.teamtr.chat.JinjaValues.Safe;
import org.teamtr.chat.JinjaValues.Stream;
import org.teamtr.chat.JinjaValues.Undefined;

/** Jinja's filters and tests, by name, as far as chat templates use them. */
final class JinjaFilters {
    /** A filter. */
    @FunctionalInterface
    interface Filter {
        Object apply(Run run, Object value, Args args);
    }

    /** A test. */
    @FunctionalInterface
    interface Test {
        boolean holds(Run run, Object value, Args args);
    }

    static final Map<String, Filter> FILTERS = new HashMap<>();
    static final Map<String, Test> TESTS = new HashMap<>();

    private static final Pattern INTEGER = Pattern.compile("[+-]?[0-9]{1,18}");
    private static final Pattern DECIMAL = Pattern.compile("[+-]?([0-9]+\\.?[0-9]*|\\.[0-9]+)([eE][+-]?[0-9]+)?");
    /** What Python may take for a number in ways that are not here. */
    private static final Pattern UNSURE = Pattern.compile("(?is)[+-]?(inf|infinity|nan)|.*[_\\P{ASCII}].*");

    static {
        FILTERS.put("length", (run, v, args) -> JinjaValues.length(v));
        FILTERS.put("count", (run, v, args) -> JinjaValues.length(v));
        FILTERS.put("trim", (run, v, args) -> JinjaMethods.strip(JinjaText.str(run, v), args.get(0, "chars", null), true, true));
        FILTERS.put("tojson", JinjaText::toJson);
        FILTERS.put("join", JinjaFilters::join);
        FILTERS.put("upper", (run, v, args) -> JinjaText.str(run, v).toUpperCase(Locale.ROOT));
        FILTERS.put("lower", (run, v, args) -> JinjaText.str(run, v).toLowerCase(Locale.ROOT));
        FILTERS.put("capitalize", (run, v, args) -> JinjaMethods.capitalize(JinjaText.str(run, v)));
        FILTERS.put("title", (run, v, args) -> title(JinjaText.str(run, v)));
        FILTERS.put("string", (run, v, args) -> JinjaText.str(run, v));
        FILTERS.put("int", (run, v, args) -> toInt(v, args.get(0, "default", 0L)));
        FILTERS.put("float", (run, v, args) -> toFloat(v, args.get(0, "default", 0.0)));
        FILTERS.put("list", (run, v, args) -> JinjaValues.iterate(run, v));
        FILTERS.put("items", (run, v, args) -> {
            if (v instanceof Undefined) {
                return new Stream(List.of(), true);
            }
            return new Stream(JinjaValues.pairs(run, JinjaValues.map(v, "items")), true);
        });
        FILTERS.put("first", (run, v, args) -> {
            final List<Object> all = JinjaValues.iterate(run, v);
            return all.isEmpty() ? new Undefined("the first of nothing") : all.get(0);
        });
        FILTERS.put("last", (run, v, args) -> {
            if (v instanceof Stream s && s.once) {
                throw new Fault("filter 'last' needs a list, given a generator");
            }
            final List<Object> all = JinjaValues.iterate(run, v);
            return all.isEmpty() ? new Undefined("the last of nothing") : all.get(all.size() - 1);
        });
        final Filter standard = (run, v, args) -> {
            final Object other = args.get(0, "default_value", "");
            final boolean falseToo = JinjaValues.truth(args.get(1, "boolean", false));
            return v instanceof Undefined || falseToo && !JinjaValues.truth(v) ? other : v;
        };
        FILTERS.put("default", standard);
        FILTERS.put("d", standard);
        FILTERS.put("replace", (run, v, args) -> JinjaMethods.replace(run, JinjaText.str(run, v), JinjaText.str(run, args.get(0, "old")),
                JinjaText.str(run, args.get(1, "new")),
                args.get(2, "count", null)));
        FILTERS.put("safe", (run, v, args) -> new Safe(JinjaText.str(run, v)));
        FILTERS.put("map", JinjaFilters::mapFilter);
        FILTERS.put("select", (run, v, args) -> select(run, v, args, false, true));
        FILTERS.put("reject", (run, v, args) -> select(run, v, args, false, false));
        FILTERS.put("selectattr", (run, v, args) -> select(run, v, args, true, true));
        FILTERS.put("rejectattr", (run, v, args) -> select(run, v, args, true, false));

        TESTS.put("defined", (run, v, args) -> !(v instanceof Undefined));
        TESTS.put("undefined", (run, v, args) -> v instanceof Undefined);
        TESTS.put("none", (run, v, args) -> v == null);
        TESTS.put("string", (run, v, args) -> v instanceof String || v instanceof Safe);
        TESTS.put("mapping", (run, v, args) -> v instanceof Map);
        TESTS.put("iterable", (run, v, args) -> v instanceof String || v instanceof Safe || v instanceof List || v instanceof Map
                || v instanceof Stream || v instanceof Undefined || v instanceof Loop);
        TESTS.put("sequence", (run, v, args) -> {
            if (v instanceof Stream || v instanceof Loop) {
                throw new Fault("test 'sequence' of " + JinjaValues.kind(v) + " is not supported");
            }
            return v instanceof String || v instanceof Safe || v instanceof List || v instanceof Map || v instanceof Undefined;
        });
        TESTS.put("number", (run, v, args) -> v instanceof Long || v instanceof Double || v instanceof Boolean);
        TESTS.put("integer", (run, v, args) -> v instanceof Long);
        TESTS.put("float", (run, v, args) -> v instanceof Double);
        TESTS.put("boolean", (run, v, args) -> v instanceof Boolean);
        TESTS.put("true", (run, v, args) -> Boolean.TRUE.equals(v));
        TESTS.put("false", (run, v, args) -> Boolean.FALSE.equals(v));
        TESTS.put("odd", (run, v, args) -> JinjaValues.equal(run, JinjaValues.arithmetic(run, "%", v, 2L), 1L, 0));
        TESTS.put("even", (run, v, args) -> JinjaValues.equal(run, JinjaValues.arithmetic(run, "%", v, 2L), 0L, 0));
        TESTS.put("divisibleby", (run, v, args) -> JinjaValues.equal(run, JinjaValues.arithmetic(run, "%", v, args.get(0, "num")), 0L, 0));
        TESTS.put("in", (run, v, args) -> JinjaValues.compare(run, "in", v, args.get(0, "seq")));
        for (String[] names : new String[][] {{"==", "eq", "equalto"}, {"!=", "ne"}, {">", "gt", "greaterthan"}, {">=", "ge"},
            {"<", "lt", "lessthan"}, {"<=", "le"}}) {
            for (int i = 1; i < names.length; i++) {
                TESTS.put(names[i], (run, v, args) -> JinjaValues.compare(run, names[0], v, args.get(0, "other")));
            }
        }
    }

    private JinjaFilters() {
    }

    static Object filter(Run run, String name, Object value, Args args) {
        final Filter filter = FILTERS.get(name);
        if (filter == null) {
            throw new Fault("filter '" + name + "' is not supported");
        }
        if (value instanceof Safe && !Set.of("safe", "string", "trim", "length", "count", "default", "d", "tojson").contains(name)) {
            throw new Fault("filter '" + name + "' of a value that is marked safe is not supported");
        }
        final Object result = filter.apply(run, value, args);
        args.done();
        if (result instanceof String s) {
            run.charge(s.length());
            return value instanceof Safe && !name.equals("tojson") ? new Safe(s) : s;
        }
        return result;
    }

    static boolean test(Run run, String name, Object value, Args args) {
        final Test test = TESTS.get(name);
        if (test == null) {
            throw new Fault("test '" + name + "' is not supported");
        }
        final boolean result = test.holds(run, value, args);
        args.done();
        return result;
    }

    private static Object mapFilter(Run run, Object v, Args args) {
        final List<Object> result = new ArrayList<>();
        if (args.positional().isEmpty()) {
            final Object attribute = args.get(0, "attribute");
            final boolean standard = args.has("default");
            final Object other = args.get(1, "default", null);
            for (Object item : JinjaValues.iterate(run, v)) {
                final Object value = path(item, attribute);
                result.add(standard && value instanceof Undefined ? other : value);
            }
        } else {
            final String name = JinjaValues.string(args.get(0, ""), "filter 'map'");
            final Args rest = args.from(1, "filter '" + name + "'");
            for (Object item : JinjaValues.iterate(run, v)) {
                result.add(filter(run, name, item, rest.copy()));
            }
        }
        return new Stream(result, true);
    }

    private static Object select(Run run, Object v, Args args, boolean attribute, boolean keep) {
        final int first = attribute ? 1 : 0;
        final Object path = attribute ? args.get(0, "") : null;
        final Object test = args.get(first, "", null);
        final Args rest = args.from(first + 1, "test '" + test + "'");
        final List<Object> result = new ArrayList<>();
        for (Object item : JinjaValues.iterate(run, v)) {
            final Object value = attribute ? path(item, path) : item;
            final boolean holds = test == null ? JinjaValues.truth(value) : test(run, JinjaValues.string(test, "the name of a test"), value,
                    rest.copy());
            if (holds == keep) {
                result.add(item);
            }
        }
        return new Stream(result, true);
    }

    /** a.b.0, as filters take attributes. */
    private static Object path(Object object, Object path) {
        if (path instanceof Long) {
            return JinjaValues.item(object, path);
        }
        Object value = object;
        for (String part : JinjaValues.string(path, "an attribute").split("\\.", -1)) {
            value = JinjaValues.item(value, INTEGER.matcher(part).matches() ? (Object) Long.parseLong(part) : part);
        }
        return value;
    }

    private static String join(Run run, Object v, Args args) {
        final String between = JinjaText.str(run, args.get(0, "d", ""));
        final Object attribute = args.get(1, "attribute", null);
        final StringBuilder text = new StringBuilder();
        boolean first = true;
        for (Object item : JinjaValues.iterate(run, v)) {
            final Object value = attribute == null ? item : path(item, attribute);
            if (value instanceof Safe) {
                throw new Fault("filter 'join' with a value that is marked safe is not supported");
            }
            final String s = JinjaText.str(run, value);
            run.charge((long) s.length() + between.length());
            text.append(first ? "" : between).append(s);
            first = false;
        }
        return text.toString();
    }

    private static Object toInt(Object v, Object standard) {
        if (v instanceof Long) {
            return v;
        } else if (v instanceof Boolean b) {
            return b ? 1L : 0L;
        } else if (v instanceof Double d) {
            return truncate(d, standard);
        } else if (JinjaValues.defined(v) instanceof String s) {
            final String text = JinjaMethods.strip(s, null, true, true);
            if (INTEGER.matcher(text).matches()) {
                return Long.parseLong(text);
            }
            final Object number = toFloat(text, null);
            return number == null ? standard : truncate((Double) number, standard);
        }
        return standard;
    }

    private static Object truncate(double d, Object standard) {
        if (Double.isNaN(d) || Double.isInfinite(d)) {
            return standard;
        }
        if (Math.abs(d) >= 1L << 53) {
            throw new Fault("filter 'int': expected a number below 2^53, given " + d);
        }
        return (long) d;
    }

    private static Object toFloat(Object v, Object standard) {
        if (v instanceof Number n) {
            return n.doubleValue();
        } else if (v instanceof Boolean b) {
            return b ? 1.0 : 0.0;
        } else if (JinjaValues.defined(v) instanceof String s) {
            final String text = JinjaMethods.strip(s, null, true, true);
            if (text.length() <= 400 && DECIMAL.matcher(text).matches()) {
                return Double.parseDouble(text);
            }
            if (text.length() > 400 || UNSURE.matcher(text).matches()) {
                throw new Fault("whether " + JinjaText.repr(text) + " is a number is not supported");
            }
        }
        return standard;
    }

    /** The filter: words begin after a space, a hyphen or an opening bracket. */
    private static String title(String s) {
        final StringBuilder text = new StringBuilder();
        int word = 0;
        for (int i = 0; i <= s.length(); i++) {
            final boolean boundary = i == s.length() || JinjaLexer.isSpace(s.charAt(i)) || "-({[<".indexOf(s.charAt(i)) >= 0;
            if (!boundary) {
                continue;
            }
            if (i > word) {
                final int first = Character.charCount(s.codePointAt(word));
                text.append(s.substring(word, word + first).toUpperCase(Locale.ROOT))
                        .append(s.substring(word + first, i).toLowerCase(Locale.ROOT));
            }
            if (i < s.length()) {
                text.append(s.charAt(i));
            }
            word = i + 1;
        }
        return text.toString();
    }
}
