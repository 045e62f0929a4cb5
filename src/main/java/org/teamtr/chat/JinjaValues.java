package org.teamtr.chat;

import java.time.Clock;
import java.time.LocalDateTime;
import java.util.AbstractList;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.regex.Pattern;

/**
 * The values of a template's expressions, with Python's semantics: {@code null} is None; strings count code points; integers are longs,
 * and one that does not fit is a fault; lists and maps are never changed.
 */
final class JinjaValues {
    // ---- a rendering, its names, and the kinds of values ----

    /** Something the template does that is an error, or that is not supported. */
    static final class Fault extends RuntimeException {
        private static final long serialVersionUID = 1;
        private final boolean located;

        Fault(String message) {
            this(message, false, null);
        }

        private Fault(String message, boolean located, Fault cause) {
            super(message, cause);
            this.located = located;
        }

        /** {@return this fault with its line; the first that is given stays} */
        Fault at(int line) {
            return located ? this : new Fault("line " + line + ": " + getMessage(), true, this);
        }
    }

    /** The state of one rendering: its time and the work that it may still do. */
    static final class Run {
        private static final long WORK = 50_000_000; // some seconds, and some 100 MB of text at most
        private final Clock clock;
        private long left = WORK;
        private int depth;

        Run(Clock clock) {
            this.clock = clock;
        }

        /** Counts steps, characters or elements before they are made. */
        void charge(long work) {
            left -= work;
            if (left < 0) {
                throw new Fault("expected at most " + WORK + " steps and characters, and the template wants more");
            }
        }

        void enter(int most) {
            if (++depth > most) {
                throw new Fault("expected macros within macros at most " + most + " deep");
            }
        }

        void leave() {
            depth--;
        }
    }

    /** Names and their values; what an inner scope sets is not visible outside. */
    static final class Scope {
        private static final Map<String, Callable> GLOBALS = Map.of(
                "raise_exception", (run, args) -> {
                    final Object message = args.get(0, "message");
                    args.done();
                    throw new Fault("the template says: " + JinjaText.str(run, message));
                },
                "strftime_now", (run, args) -> {
                    final String format = string(args.get(0, "format"), "strftime_now");
                    args.done();
                    return JinjaText.strftime(LocalDateTime.now(run.clock), format);
                },
                "range", (run, args) -> range(run, args),
                "namespace", (run, args) -> new Namespace(fields(args)),
                "dict", (run, args) -> new LinkedHashMap<Object, Object>(fields(args)));
        private static final Set<String> NOT_HERE = Set.of("lipsum", "cycler", "joiner", "self", "super", "caller", "varargs", "kwargs");

        private final Run run;
        private final Scope parent;
        private final Map<String, Object> names;

        Scope(Run run, Map<String, ?> variables) {
            this.run = run;
            parent = null;
            names = new HashMap<>();
            variables.forEach((name, value) -> names.put(name, given(run, name, value, 0)));
        }

        Scope(Scope parent) {
            run = parent.run;
            this.parent = parent;
            names = new HashMap<>();
        }

        Run run() {
            return run;
        }

        void set(String name, Object value) {
            names.put(name, value);
        }

        Object get(String name) {
            for (Scope s = this; s != null; s = s.parent) {
                final Object value = s.names.get(name);
                if (value != null || s.names.containsKey(name)) {
                    return value;
                }
            }
            final Callable global = GLOBALS.get(name);
            if (global != null) {
                return global;
            }
            if (NOT_HERE.contains(name)) {
                throw new Fault("'" + name + "' is not supported");
            }
            return new Undefined("'" + name + "'");
        }
    }

    /** An undefined value: it prints nothing and is false; almost every other use of it is a fault. */
    record Undefined(String what) {
        Fault fault() {
            return new Fault(what + " is undefined");
        }
    }

    /** A function or macro. */
    @FunctionalInterface
    interface Callable {
        Object call(Run run, Args args);
    }

    /** {@code x.name} where Python has a method of that name; it can only be called. */
    private record Method(Object object, String name) {
    }

    /** An object with attributes that can be set. */
    private record Namespace(Map<String, Object> attributes) {
    }

    /** The variable {@code loop} at one item of a for-loop. */
    record Loop(List<Object> items, int index) {
        private Object attribute(String name) {
            final int n = items.size();
            return switch (name) {
                case "index" -> index + 1L;
                case "index0" -> (long) index;
                case "revindex" -> (long) n - index;
                case "revindex0" -> n - index - 1L;
                case "first" -> index == 0;
                case "last" -> index == n - 1;
                case "length" -> (long) n;
                case "previtem" -> index > 0 ? items.get(index - 1) : new Undefined("the item before the first");
                case "nextitem" -> index < n - 1 ? items.get(index + 1) : new Undefined("the item after the last");
                default -> throw new Fault("loop." + name + " is not supported");
            };
        }
    }

    /** A list that prints in parentheses and equals no list. */
    static final class Tuple extends AbstractList<Object> {
        private final List<Object> items;

        Tuple(List<Object> items) {
            this.items = items;
        }

        @Override
        public Object get(int i) {
            return items.get(i);
        }

        @Override
        public int size() {
            return items.size();
        }
    }

    /** An iterable that is not a list: a generator (only once), a view of a map, a range. */
    private static final class Stream {
        private final List<Object> items;
        private final boolean once;
        private boolean used;

        Stream(List<Object> items, boolean once) {
            this.items = items;
            this.once = once;
        }
    }

    /** A string marked safe. It can be printed; concatenation, for which Jinja would escape, is not supported. */
    record Safe(String text) {
    }

    // ---- arguments; the tables of filters and tests ----

    /** The arguments of a call of a function, filter or test. An argument that is not read is a fault. */
    static final class Args {
        private final String what;
        private final List<Object> positional;
        private final Map<String, Object> named;
        private int asked;

        Args(String what, List<Object> positional, Map<String, Object> named) {
            this.what = what;
            this.positional = positional;
            this.named = named;
        }

        /** {@return argument i, which may also be given by name, or else the standard} */
        Object get(int i, String name, Object standard) {
            asked = Math.max(asked, i + 1);
            if (i < positional.size()) {
                return positional.get(i);
            }
            if (!named.containsKey(name)) {
                return standard;
            }
            return named.remove(name);
        }

        Object get(int i, String name) {
            if (i >= positional.size() && !named.containsKey(name)) {
                throw new Fault(what + ": missing argument '" + name + "'");
            }
            return get(i, name, null);
        }

        private Args from(int i, String newWhat) {
            asked = Math.max(asked, positional.size());
            final Args rest = new Args(newWhat, positional.subList(Math.min(i, positional.size()), positional.size()),
                    new LinkedHashMap<>(named));
            named.clear();
            return rest;
        }

        void done() {
            if (positional.size() > asked) {
                throw new Fault(what + ": expected at most " + asked + " arguments, given " + positional.size());
            }
            if (!named.isEmpty()) {
                throw new Fault(what + ": argument '" + named.keySet().iterator().next() + "' is not supported");
            }
        }
    }

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
    private static final Set<String> STRING_METHODS = Set.of("capitalize", "casefold", "center", "count", "encode", "endswith",
            "expandtabs", "find", "format", "format_map", "index", "isalnum", "isalpha", "isascii", "isdecimal", "isdigit",
            "isidentifier", "islower", "isnumeric", "isprintable", "isspace", "istitle", "isupper", "join", "ljust", "lower", "lstrip",
            "maketrans", "partition", "removeprefix", "removesuffix", "replace", "rfind", "rindex", "rjust", "rpartition", "rsplit",
            "rstrip", "split", "splitlines", "startswith", "strip", "swapcase", "title", "translate", "upper", "zfill");
    private static final Set<String> LIST_METHODS = Set.of("append", "clear", "copy", "count", "extend", "index", "insert", "pop",
            "remove", "reverse", "sort");
    private static final Set<String> DICT_METHODS = Set.of("clear", "copy", "fromkeys", "get", "items", "keys", "pop", "popitem",
            "setdefault", "update", "values");
    private static final Set<String> NUMBER_METHODS = Set.of("as_integer_ratio", "bit_count", "bit_length", "conjugate", "denominator",
            "from_bytes", "fromhex", "hex", "imag", "is_integer", "numerator", "real", "to_bytes");

    static {
        FILTERS.put("length", (run, v, args) -> length(v));
        FILTERS.put("count", (run, v, args) -> length(v));
        FILTERS.put("trim", (run, v, args) -> strip(JinjaText.str(run, v), args.get(0, "chars", null), true, true));
        FILTERS.put("tojson", JinjaText::toJson);
        FILTERS.put("join", JinjaValues::join);
        FILTERS.put("upper", (run, v, args) -> JinjaText.str(run, v).toUpperCase(Locale.ROOT));
        FILTERS.put("lower", (run, v, args) -> JinjaText.str(run, v).toLowerCase(Locale.ROOT));
        FILTERS.put("capitalize", (run, v, args) -> capitalize(JinjaText.str(run, v)));
        FILTERS.put("title", (run, v, args) -> title(JinjaText.str(run, v)));
        FILTERS.put("string", (run, v, args) -> JinjaText.str(run, v));
        FILTERS.put("int", (run, v, args) -> toInt(v, args.get(0, "default", 0L)));
        FILTERS.put("float", (run, v, args) -> toFloat(v, args.get(0, "default", 0.0)));
        FILTERS.put("list", (run, v, args) -> iterate(run, v));
        FILTERS.put("items", (run, v, args) -> {
            if (v instanceof Undefined) {
                return new Stream(List.of(), true);
            }
            return new Stream(pairs(run, map(v, "items")), true);
        });
        FILTERS.put("first", (run, v, args) -> {
            final List<Object> all = iterate(run, v);
            return all.isEmpty() ? new Undefined("the first of nothing") : all.get(0);
        });
        FILTERS.put("last", (run, v, args) -> {
            if (v instanceof Stream s && s.once) {
                throw new Fault("filter 'last' needs a list, given a generator");
            }
            final List<Object> all = iterate(run, v);
            return all.isEmpty() ? new Undefined("the last of nothing") : all.get(all.size() - 1);
        });
        final Filter standard = (run, v, args) -> {
            final Object other = args.get(0, "default_value", "");
            final boolean falseToo = truth(args.get(1, "boolean", false));
            return v instanceof Undefined || falseToo && !truth(v) ? other : v;
        };
        FILTERS.put("default", standard);
        FILTERS.put("d", standard);
        FILTERS.put("replace", (run, v, args) -> replace(run, JinjaText.str(run, v), JinjaText.str(run, args.get(0, "old")),
                JinjaText.str(run, args.get(1, "new")),
                args.get(2, "count", null)));
        FILTERS.put("safe", (run, v, args) -> new Safe(JinjaText.str(run, v)));
        FILTERS.put("map", JinjaValues::mapFilter);
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
                throw new Fault("test 'sequence' of " + kind(v) + " is not supported");
            }
            return v instanceof String || v instanceof Safe || v instanceof List || v instanceof Map || v instanceof Undefined;
        });
        TESTS.put("number", (run, v, args) -> v instanceof Long || v instanceof Double || v instanceof Boolean);
        TESTS.put("integer", (run, v, args) -> v instanceof Long);
        TESTS.put("float", (run, v, args) -> v instanceof Double);
        TESTS.put("boolean", (run, v, args) -> v instanceof Boolean);
        TESTS.put("true", (run, v, args) -> Boolean.TRUE.equals(v));
        TESTS.put("false", (run, v, args) -> Boolean.FALSE.equals(v));
        TESTS.put("odd", (run, v, args) -> equal(run, arithmetic(run, "%", v, 2L), 1L, 0));
        TESTS.put("even", (run, v, args) -> equal(run, arithmetic(run, "%", v, 2L), 0L, 0));
        TESTS.put("divisibleby", (run, v, args) -> equal(run, arithmetic(run, "%", v, args.get(0, "num")), 0L, 0));
        TESTS.put("in", (run, v, args) -> compare(run, "in", v, args.get(0, "seq")));
        for (String[] names : new String[][] {{"==", "eq", "equalto"}, {"!=", "ne"}, {">", "gt", "greaterthan"}, {">=", "ge"},
            {"<", "lt", "lessthan"}, {"<=", "le"}}) {
            for (int i = 1; i < names.length; i++) {
                TESTS.put(names[i], (run, v, args) -> compare(run, names[0], v, args.get(0, "other")));
            }
        }
    }

    private JinjaValues() {
    }

    // From outside

    // ---- what callers hand in; truth, kinds, iteration ----

    /** A value of a caller, checked and in the types used here. */
    private static Object given(Run run, String name, Object value, int depth) {
        run.charge(1);
        if (depth > 100) {
            throw new Fault("variable '" + name + "': expected lists and maps at most 100 deep");
        }
        if (value == null || value instanceof Boolean || value instanceof Long || value instanceof Double) {
            return value;
        }
        if (value instanceof CharSequence s) {
            return s.toString();
        }
        if (value instanceof Integer || value instanceof Short || value instanceof Byte) {
            return ((Number) value).longValue();
        }
        if (value instanceof Collection<?> items) {
            final List<Object> list = new ArrayList<>(items.size());
            items.forEach(item -> list.add(given(run, name, item, depth + 1)));
            return list;
        }
        if (value instanceof Map<?, ?> items) {
            final Map<Object, Object> map = new LinkedHashMap<>();
            items.forEach((k, v) -> map.put(key(given(run, name, k, depth + 1)), given(run, name, v, depth + 1)));
            return map;
        }
        throw new Fault("variable '" + name + "': expected strings, integers of 64 bits, doubles, booleans, nulls, lists and maps, given "
                + value.getClass().getName());
    }

    /** A key of a map: a string or an integer. */
    static Object key(Object value) {
        if (value instanceof String || value instanceof Long) {
            return value;
        }
        throw new Fault("expected a string or an integer as the key of a map, given " + kind(value));
    }

    private static Map<String, Object> fields(Args args) {
        final Map<String, Object> fields = new LinkedHashMap<>(args.named);
        args.named.clear();
        args.done();
        return fields;
    }

    // Basics

    static boolean truth(Object v) {
        if (v == null || v instanceof Undefined) {
            return false;
        }
        if (v instanceof Boolean b) {
            return b;
        }
        if (v instanceof Long n) {
            return n != 0;
        }
        if (v instanceof Double d) {
            return d != 0;
        }
        if (v instanceof String s) {
            return !s.isEmpty();
        }
        if (v instanceof Safe s) {
            return !s.text().isEmpty();
        }
        if (v instanceof Collection<?> c) {
            return !c.isEmpty();
        }
        if (v instanceof Map<?, ?> m) {
            return !m.isEmpty();
        }
        if (v instanceof Stream s && !s.once) {
            return !s.items.isEmpty();
        }
        if (v instanceof Namespace || v instanceof Callable) {
            return true;
        }
        throw new Fault("whether " + kind(v) + " is true is not supported");
    }

    static String kind(Object v) {
        if (v == null) {
            return "none";
        } else if (v instanceof String || v instanceof Safe) {
            return "a string";
        } else if (v instanceof Boolean) {
            return "a boolean";
        } else if (v instanceof Long) {
            return "an integer";
        } else if (v instanceof Double) {
            return "a float";
        } else if (v instanceof Tuple) {
            return "a tuple";
        } else if (v instanceof List) {
            return "a list";
        } else if (v instanceof Map) {
            return "a map";
        } else if (v instanceof Undefined u) {
            return u.what() + ", which is undefined,";
        } else if (v instanceof Stream s) {
            return s.once ? "a generator" : "a view or range";
        } else if (v instanceof Method m) {
            return "the method '" + m.name() + "'";
        } else if (v instanceof Namespace) {
            return "a namespace";
        } else if (v instanceof Loop) {
            return "a loop variable";
        }
        return "a function";
    }

    private static Object defined(Object v) {
        if (v instanceof Undefined u) {
            throw u.fault();
        }
        return v;
    }

    private static String string(Object v, String what) {
        if (defined(v) instanceof String s) {
            return s;
        }
        throw new Fault(what + ": expected a string, given " + kind(v));
    }

    private static Map<?, ?> map(Object v, String what) {
        if (defined(v) instanceof Map<?, ?> m) {
            return m;
        }
        throw new Fault(what + ": expected a map, given " + kind(v));
    }

    static int smallInt(Object v, String what) {
        if (v instanceof Long n) {
            return (int) Math.max(-Integer.MAX_VALUE, Math.min(Integer.MAX_VALUE, n));
        }
        throw new Fault(what + ": expected an integer, given " + kind(v));
    }

    private static long length(Object v) {
        if (v instanceof Undefined) {
            return 0;
        } else if (v instanceof String s) {
            return s.codePointCount(0, s.length());
        } else if (v instanceof Safe s) {
            return s.text().codePointCount(0, s.text().length());
        } else if (v instanceof Collection<?> c) {
            return c.size();
        } else if (v instanceof Map<?, ?> m) {
            return m.size();
        } else if (v instanceof Stream s && !s.once) {
            return s.items.size();
        } else if (v instanceof Loop loop) {
            return loop.items().size();
        }
        throw new Fault("the length of " + kind(v) + " is not there");
    }

    /** The items of an iterable: of a string its characters, of a map its keys. */
    static List<Object> iterate(Run run, Object v) {
        final List<Object> items;
        if (v instanceof Undefined) {
            items = List.of();
        } else if (v instanceof List<?> list) {
            items = Collections.unmodifiableList(list);
        } else if (v instanceof Map<?, ?> m) {
            items = new ArrayList<>(m.keySet());
        } else if (v instanceof String s) {
            run.charge(s.length());
            items = new ArrayList<>(s.length());
            s.codePoints().forEach(c -> items.add(Character.toString(c)));
        } else if (v instanceof Stream s) {
            if (s.once && s.used) {
                throw new Fault("a generator is gone through twice; the second time it would be empty");
            }
            s.used = true;
            items = s.items;
        } else {
            throw new Fault("cannot go through " + kind(v));
        }
        run.charge(items.size());
        return items;
    }

    private static List<Object> pairs(Run run, Map<?, ?> map) {
        run.charge(map.size());
        final List<Object> pairs = new ArrayList<>(map.size());
        map.forEach((k, v) -> {
            final List<Object> pair = new ArrayList<>(2);
            pair.add(k);
            pair.add(v);
            pairs.add(new Tuple(pair));
        });
        return pairs;
    }

    private static Object range(Run run, Args args) {
        final int n = args.positional.size();
        if (n < 1 || n > 3) {
            throw new Fault("range: expected 1 to 3 arguments, given " + n);
        }
        final long[] numbers = new long[n];
        for (int i = 0; i < n; i++) {
            if (!(args.get(i, "") instanceof Long number)) {
                throw new Fault("range: expected integers, given " + kind(args.get(i, "")));
            }
            numbers[i] = number;
        }
        args.done();
        final long start = n == 1 ? 0 : numbers[0];
        final long stop = n == 1 ? numbers[0] : numbers[1];
        final long step = n == 3 ? numbers[2] : 1;
        if (step == 0) {
            throw new Fault("range: expected a step other than 0");
        }
        final List<Object> items = new ArrayList<>();
        final int most = 100_000; // the limit of Jinja's sandbox
        if (Math.max(Math.abs(start), Math.max(Math.abs(stop), Math.abs(step))) > 1L << 53) {
            throw new Fault("range: expected numbers of at most 2^53");
        }
        for (long i = start; step > 0 ? i < stop : i > stop; i += step) {
            if (items.size() == most) {
                throw new Fault("range: expected at most " + most + " numbers");
            }
            run.charge(1);
            items.add(i);
        }
        return new Stream(items, false);
    }

    // Members

    // ---- attributes, items, slices ----

    static Object attribute(Object object, String name) {
        if (name.startsWith("__")) {
            throw new Fault("attribute '" + name + "' is not supported");
        }
        defined(object);
        if (object instanceof Loop loop) {
            return loop.attribute(name);
        }
        if (object instanceof Namespace ns) {
            return ns.attributes().containsKey(name) ? ns.attributes().get(name) : new Undefined("attribute '" + name + "' of a namespace");
        }
        if (methods(object).contains(name)) {
            return new Method(object, name);
        }
        if (object instanceof Map<?, ?> m && m.containsKey(name)) {
            return m.get(name);
        }
        if (object instanceof Stream || object instanceof Callable || object instanceof Method || object instanceof Safe) {
            throw new Fault("attribute '" + name + "' of " + kind(object) + " is not supported");
        }
        return new Undefined("attribute '" + name + "' of " + kind(object));
    }

    private static Set<String> methods(Object object) {
        if (object instanceof String) {
            return STRING_METHODS;
        } else if (object instanceof List) {
            return LIST_METHODS;
        } else if (object instanceof Map) {
            return DICT_METHODS;
        } else if (object instanceof Long || object instanceof Double || object instanceof Boolean) {
            return NUMBER_METHODS;
        }
        return Set.of();
    }

    static Object item(Object object, Object index) {
        defined(object);
        if (object instanceof Map<?, ?> m && (index instanceof String || index instanceof Long) && m.containsKey(index)) {
            return m.get(index);
        }
        if (index instanceof String name) {
            return attribute(object, name);
        }
        if (index instanceof Long n && object instanceof List<?> list) {
            final long i = n < 0 ? n + list.size() : n;
            return i >= 0 && i < list.size() ? list.get((int) i) : new Undefined("item " + n + " of a list of " + list.size());
        }
        if (index instanceof Long n && object instanceof String s) {
            final int length = s.codePointCount(0, s.length());
            final long i = n < 0 ? n + length : n;
            return i >= 0 && i < length ? Character.toString(s.codePointAt(s.offsetByCodePoints(0, (int) i)))
                    : new Undefined("character " + n + " of a string of " + length);
        }
        if (index instanceof Long && (object instanceof Map || object == null || object instanceof Long)) {
            return new Undefined("item " + index + " of " + kind(object));
        }
        throw new Fault("taking " + kind(index) + " as an index of " + kind(object) + " is not supported");
    }

    static Object slice(Run run, Object object, Object[] bounds) {
        defined(object);
        final int[] characters = object instanceof String s ? s.codePoints().toArray() : null;
        if (characters == null && !(object instanceof List)) {
            throw new Fault("a slice of " + kind(object) + " is not supported");
        }
        final int n = characters != null ? characters.length : ((List<?>) object).size();
        run.charge(n);
        final int step = bounds[2] == null ? 1 : smallInt(bounds[2], "the step of a slice");
        if (step == 0) {
            throw new Fault("expected a slice's step other than 0");
        }
        final int first = step > 0 ? 0 : n - 1;
        final int end = step > 0 ? n : -1;
        final int start = bounds[0] == null ? first : bound(bounds[0], n, step);
        final int stop = bounds[1] == null ? end : bound(bounds[1], n, step);
        final StringBuilder text = new StringBuilder();
        final List<Object> items = new ArrayList<>();
        for (long i = start; step > 0 ? i < stop : i > stop; i += step) {
            if (characters != null) {
                text.appendCodePoint(characters[(int) i]);
            } else {
                items.add(((List<?>) object).get((int) i));
            }
        }
        return characters != null ? text.toString() : object instanceof Tuple ? new Tuple(items) : items;
    }

    private static int bound(Object value, int n, int step) {
        final int i = smallInt(value, "a slice");
        final int least = step > 0 ? 0 : -1;
        return Math.max(least, Math.min(i < 0 ? i + n : i, step > 0 ? n : n - 1));
    }

    static void setAttribute(Object object, String name, String member, Object value) {
        if (!(object instanceof Namespace ns)) {
            throw new Fault("cannot set " + name + "." + member + ": expected a namespace, given " + kind(object));
        }
        ns.attributes().put(member, value);
    }

    // Operators

    // ---- operators and comparisons ----

    static Object negate(Object value) {
        return value instanceof Double d ? -d : arithmetic(null, "-", 0L, value);
    }

    static Object arithmetic(Run run, String operator, Object a, Object b) {
        final Object left = defined(a) instanceof Boolean x ? (Object) (x ? 1L : 0L) : a;
        final Object right = defined(b) instanceof Boolean x ? (Object) (x ? 1L : 0L) : b;
        try {
            if (left instanceof Long x && right instanceof Long y) {
                return integers(operator, x, y);
            } else if (left instanceof Number x && right instanceof Number y) {
                return floats(operator, x.doubleValue(), y.doubleValue());
            }
        } catch (ArithmeticException e) {
            throw new Fault(left + " " + operator + " " + right + ": " + e.getMessage());
        }
        if (operator.equals("+") && left instanceof String x && right instanceof String y) {
            run.charge((long) x.length() + y.length());
            return x + y;
        }
        if (operator.equals("+") && left instanceof List<?> x && right instanceof List<?> y && x instanceof Tuple == y instanceof Tuple) {
            run.charge((long) x.size() + y.size());
            final List<Object> both = new ArrayList<>(x);
            both.addAll(y);
            return x instanceof Tuple ? new Tuple(both) : both;
        }
        if (operator.equals("*") && left instanceof String x && right instanceof Long n) {
            return repeat(run, x, n);
        }
        if (operator.equals("*") && left instanceof Long n && right instanceof String x) {
            return repeat(run, x, n);
        }
        throw new Fault("operator '" + operator + "' between " + kind(a) + " and " + kind(b) + " is not supported");
    }

    private static String repeat(Run run, String text, long times) {
        final long n = Math.max(0, Math.min(times, Integer.MAX_VALUE));
        run.charge(n * text.length());
        return text.repeat((int) n);
    }

    private static Object integers(String operator, long a, long b) {
        return switch (operator) {
            case "+" -> Math.addExact(a, b);
            case "-" -> Math.subtractExact(a, b);
            case "*" -> Math.multiplyExact(a, b);
            case "/" -> {
                if (b == 0) {
                    throw new ArithmeticException("/ by zero");
                }
                if (Math.abs(a) > 1L << 53 || Math.abs(b) > 1L << 53) {
                    throw new ArithmeticException("expected integers of at most 2^53");
                }
                yield (double) a / b;
            }
            case "//" -> {
                if (a == Long.MIN_VALUE && b == -1) {
                    throw new ArithmeticException("long overflow");
                }
                yield Math.floorDiv(a, b);
            }
            default -> Math.floorMod(a, b);
        };
    }

    private static Object floats(String operator, double a, double b) {
        return switch (operator) {
            case "+" -> a + b;
            case "-" -> a - b;
            case "*" -> a * b;
            case "/" -> {
                if (b == 0) {
                    throw new ArithmeticException("/ by zero");
                }
                yield a / b;
            }
            default -> throw new ArithmeticException("not supported for floats");
        };
    }

    static boolean compare(Run run, String operator, Object a, Object b) {
        switch (operator) {
            case "==":
                return equal(run, a, b, 0);
            case "!=":
                return !equal(run, a, b, 0);
            case "in":
                return contains(run, b, a);
            case "not in":
                return !contains(run, b, a);
            default:
                break;
        }
        final Object left = defined(a) instanceof Boolean x ? (Object) (x ? 1L : 0L) : a;
        final Object right = defined(b) instanceof Boolean x ? (Object) (x ? 1L : 0L) : b;
        final int order;
        if (left instanceof Long x && right instanceof Long y) {
            order = Long.compare(x, y);
        } else if (left instanceof Number x && right instanceof Number y) {
            final double d = x.doubleValue();
            final double e = y.doubleValue();
            if (Double.isNaN(d) || Double.isNaN(e)) {
                return false;
            }
            order = d < e ? -1 : d > e ? 1 : 0;
        } else if (left instanceof String x && right instanceof String y) {
            run.charge(Math.min(x.length(), y.length()));
            order = compareCodePoints(x, y);
        } else {
            throw new Fault("operator '" + operator + "' between " + kind(a) + " and " + kind(b) + " is not supported");
        }
        return switch (operator) {
            case "<" -> order < 0;
            case "<=" -> order <= 0;
            case ">" -> order > 0;
            default -> order >= 0;
        };
    }

    private static int compareCodePoints(String a, String b) {
        for (int i = 0; i < Math.min(a.length(), b.length()); i++) {
            final char x = a.charAt(i);
            final char y = b.charAt(i);
            if (x != y) {
                // a surrogate stands for a code point above all others
                return Character.isSurrogate(x) == Character.isSurrogate(y) ? x - y : Character.isSurrogate(x) ? 1 : -1;
            }
        }
        return a.length() - b.length();
    }

    private static boolean equal(Run run, Object a, Object b, int depth) {
        run.charge(8);
        if (depth > 100) {
            throw new Fault("expected lists and maps at most 100 deep");
        }
        if (a == b) {
            return true;
        }
        if (a instanceof Undefined && b instanceof Undefined) {
            return true;
        }
        if (a instanceof String x && b instanceof String y) {
            run.charge(Math.min(x.length(), y.length()));
            return x.equals(y);
        }
        final Object left = a instanceof Boolean x ? (Object) (x ? 1L : 0L) : a;
        final Object right = b instanceof Boolean x ? (Object) (x ? 1L : 0L) : b;
        if (left instanceof Long && right instanceof Long) {
            return left.equals(right);
        }
        if (left instanceof Number x && right instanceof Number y) {
            return x.doubleValue() == y.doubleValue();
        }
        if (a instanceof List<?> x && b instanceof List<?> y && x instanceof Tuple == y instanceof Tuple) {
            boolean same = x.size() == y.size();
            for (int i = 0; same && i < x.size(); i++) {
                same = equal(run, x.get(i), y.get(i), depth + 1);
            }
            return same;
        }
        if (a instanceof Map<?, ?> x && b instanceof Map<?, ?> y) {
            boolean same = x.size() == y.size();
            for (Object k : same ? x.keySet() : List.of()) {
                same = same && y.containsKey(k) && equal(run, x.get(k), y.get(k), depth + 1);
            }
            return same;
        }
        if (a instanceof Safe || b instanceof Safe || a instanceof Stream || b instanceof Stream) {
            throw new Fault("comparing " + kind(a) + " with " + kind(b) + " is not supported");
        }
        return false;
    }

    private static boolean contains(Run run, Object all, Object one) {
        if (all instanceof String s) {
            final String part = string(one, "what is looked for in a string");
            search(run, s, part);
            return s.contains(part);
        }
        if (all instanceof Map<?, ?> m) {
            return (one instanceof String || one instanceof Long) ? m.containsKey(one) : m.containsKey(key(one));
        }
        boolean found = false;
        for (Object item : iterate(run, all)) {
            found = found || equal(run, one, item, 0);
        }
        return found;
    }

    /** Counts the worst-case work of finding a string in another. */
    private static void search(Run run, String all, String part) {
        run.charge(all.length() + (long) all.length() * part.length() / 16);
    }

    // Calls

    // ---- calls; methods of strings, lists and maps ----

    static Object call(Run run, Object function, Args args) {
        if (function instanceof Callable f) {
            return f.call(run, args);
        }
        if (!(function instanceof Method m)) {
            throw new Fault("cannot call " + kind(defined(function)));
        }
        final Object result = method(run, m, args);
        args.done();
        return result;
    }

    private static Object method(Run run, Method m, Args args) {
        if (m.object() instanceof Map<?, ?> map) {
            switch (m.name()) {
                case "get":
                    final Object found = key(args.get(0, ""));
                    final Object other = args.get(1, "", null);
                    return map.containsKey(found) ? map.get(found) : other;
                case "items":
                    return new Stream(pairs(run, map), false);
                case "keys":
                    return new Stream(new ArrayList<>(map.keySet()), false);
                case "values":
                    return new Stream(new ArrayList<>(map.values()), false);
                default:
                    break;
            }
        } else if (m.object() instanceof String s) {
            run.charge(s.length());
            switch (m.name()) {
                case "startswith":
                    return affixes(args.get(0, ""), m.name()).stream().anyMatch(s::startsWith);
                case "endswith":
                    return affixes(args.get(0, ""), m.name()).stream().anyMatch(s::endsWith);
                case "strip":
                    return strip(s, args.get(0, "", null), true, true);
                case "lstrip":
                    return strip(s, args.get(0, "", null), true, false);
                case "rstrip":
                    return strip(s, args.get(0, "", null), false, true);
                case "split":
                    return split(run, s, args.get(0, "sep", null), args.get(1, "maxsplit", -1L));
                case "replace":
                    return replace(run, s, string(args.get(0, ""), "replace"), string(args.get(1, ""), "replace"), args.get(2, "", null));
                case "upper":
                    return s.toUpperCase(Locale.ROOT);
                case "lower":
                    return s.toLowerCase(Locale.ROOT);
                case "capitalize":
                    return capitalize(s);
                case "title":
                    return methodTitle(s);
                case "removeprefix":
                    final String prefix = string(args.get(0, ""), m.name());
                    return s.startsWith(prefix) ? s.substring(prefix.length()) : s;
                case "removesuffix":
                    final String suffix = string(args.get(0, ""), m.name());
                    return s.endsWith(suffix) ? s.substring(0, s.length() - suffix.length()) : s;
                case "join":
                    final StringBuilder text = new StringBuilder();
                    String between = "";
                    for (Object item : iterate(run, defined(args.get(0, "")))) {
                        final String next = string(item, "join");
                        run.charge((long) between.length() + next.length());
                        text.append(between).append(next);
                        between = s;
                    }
                    return text.toString();
                default:
                    break;
            }
        }
        throw new Fault("method '" + m.name() + "' of " + kind(m.object()) + " is not supported");
    }

    private static List<String> affixes(Object value, String what) {
        if (value instanceof Tuple t) {
            return t.stream().map(v -> string(v, what)).toList();
        }
        return List.of(string(value, what));
    }

    private static String strip(String s, Object characters, boolean left, boolean right) {
        final Set<Integer> set = new HashSet<>();
        if (characters != null) {
            string(characters, "strip").codePoints().forEach(set::add);
        }
        int start = 0;
        int end = s.length();
        while (left && start < end && stripped(s.codePointAt(start), characters, set)) {
            start += Character.charCount(s.codePointAt(start));
        }
        while (right && end > start && stripped(s.codePointBefore(end), characters, set)) {
            end -= Character.charCount(s.codePointBefore(end));
        }
        return s.substring(start, end);
    }

    private static boolean stripped(int c, Object characters, Set<Integer> set) {
        return characters == null ? JinjaLexer.isSpace(c) : set.contains(c);
    }

    private static Object split(Run run, String s, Object separator, Object most) {
        final int max = smallInt(most, "split");
        final List<Object> parts = new ArrayList<>();
        if (separator == null) {
            int at = 0;
            while (true) {
                while (at < s.length() && JinjaLexer.isSpace(s.charAt(at))) {
                    at++;
                }
                if (at == s.length()) {
                    return parts;
                }
                int end = at;
                while (end < s.length() && !JinjaLexer.isSpace(s.charAt(end))) {
                    end++;
                }
                if (max >= 0 && parts.size() == max) {
                    parts.add(s.substring(at));
                    return parts;
                }
                parts.add(s.substring(at, end));
                at = end;
            }
        }
        final String sep = string(separator, "split");
        if (sep.isEmpty()) {
            throw new Fault("split: expected a separator that is not empty");
        }
        search(run, s, sep);
        int at = 0;
        for (int next = s.indexOf(sep); next >= 0 && (max < 0 || parts.size() < max); next = s.indexOf(sep, at)) {
            parts.add(s.substring(at, next));
            at = next + sep.length();
        }
        parts.add(s.substring(at));
        run.charge(parts.size());
        return parts;
    }

    private static String replace(Run run, String s, String old, String by, Object count) {
        final int most = count == null ? -1 : smallInt(count, "replace");
        if (old.isEmpty()) {
            throw new Fault("replace: expected something to look for that is not empty");
        }
        search(run, s, old);
        final StringBuilder text = new StringBuilder();
        int at = 0;
        int done = 0;
        for (int next = s.indexOf(old); next >= 0 && (most < 0 || done < most); next = s.indexOf(old, at)) {
            run.charge((long) next - at + by.length());
            text.append(s, at, next).append(by);
            at = next + old.length();
            done++;
        }
        return text.append(s, at, s.length()).toString();
    }

    static String capitalize(String s) {
        if (s.isEmpty()) {
            return s;
        }
        final int first = Character.charCount(s.codePointAt(0));
        return Character.toString(Character.toTitleCase(s.codePointAt(0))) + s.substring(first).toLowerCase(Locale.ROOT);
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

    /** The method: words begin after whatever is no letter with case. */
    private static String methodTitle(String s) {
        final StringBuilder text = new StringBuilder();
        boolean inside = false;
        for (int c : s.codePoints().toArray()) {
            text.appendCodePoint(inside ? Character.toLowerCase(c) : Character.toTitleCase(c));
            inside = Character.isUpperCase(c) || Character.isLowerCase(c) || Character.isTitleCase(c);
        }
        return text.toString();
    }

    // Filters and tests

    // ---- filters and tests ----

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
        if (args.positional.isEmpty()) {
            final Object attribute = args.get(0, "attribute");
            final boolean standard = args.named.containsKey("default");
            final Object other = args.get(1, "default", null);
            for (Object item : iterate(run, v)) {
                final Object value = path(item, attribute);
                result.add(standard && value instanceof Undefined ? other : value);
            }
        } else {
            final String name = string(args.get(0, ""), "filter 'map'");
            final Args rest = args.from(1, "filter '" + name + "'");
            for (Object item : iterate(run, v)) {
                result.add(filter(run, name, item, new Args(rest.what, rest.positional, new LinkedHashMap<>(rest.named))));
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
        for (Object item : iterate(run, v)) {
            final Object value = attribute ? path(item, path) : item;
            final boolean holds = test == null ? truth(value) : test(run, string(test, "the name of a test"), value,
                    new Args(rest.what, rest.positional, new LinkedHashMap<>(rest.named)));
            if (holds == keep) {
                result.add(item);
            }
        }
        return new Stream(result, true);
    }

    /** a.b.0, as filters take attributes. */
    private static Object path(Object object, Object path) {
        if (path instanceof Long) {
            return item(object, path);
        }
        Object value = object;
        for (String part : string(path, "an attribute").split("\\.", -1)) {
            value = item(value, INTEGER.matcher(part).matches() ? (Object) Long.parseLong(part) : part);
        }
        return value;
    }

    private static String join(Run run, Object v, Args args) {
        final String between = JinjaText.str(run, args.get(0, "d", ""));
        final Object attribute = args.get(1, "attribute", null);
        final StringBuilder text = new StringBuilder();
        boolean first = true;
        for (Object item : iterate(run, v)) {
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
        } else if (defined(v) instanceof String s) {
            final String text = strip(s, null, true, true);
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
        } else if (defined(v) instanceof String s) {
            final String text = strip(s, null, true, true);
            if (text.length() <= 400 && DECIMAL.matcher(text).matches()) {
                return Double.parseDouble(text);
            }
            if (text.length() > 400 || UNSURE.matcher(text).matches()) {
                throw new Fault("whether " + JinjaText.repr(text) + " is a number is not supported");
            }
        }
        return standard;
    }
}
