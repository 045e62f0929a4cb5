package org.teamtr.chat;

import java.time.Clock;
import java.time.LocalDateTime;
import java.util.AbstractList;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

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
    record Method(Object object, String name) {
    }

    /** An object with attributes that can be set. */
    record Namespace(Map<String, Object> attributes) {
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
    static final class Stream {
        private final List<Object> items;
        final boolean once;
        private boolean used;

        Stream(List<Object> items, boolean once) {
            this.items = items;
            this.once = once;
        }
    }

    /** A string marked safe. It can be printed; concatenation, for which Jinja would escape, is not supported. */
    record Safe(String text) {
    }

    // ---- arguments of calls ----

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

        List<Object> positional() {
            return positional;
        }

        boolean has(String name) {
            return named.containsKey(name);
        }

        /** {@return the same arguments for another call, none of them read} */
        Args copy() {
            return new Args(what, positional, new LinkedHashMap<>(named));
        }

        Args from(int i, String newWhat) {
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

    private JinjaValues() {
    }

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

    static Object defined(Object v) {
        if (v instanceof Undefined u) {
            throw u.fault();
        }
        return v;
    }

    static String string(Object v, String what) {
        if (defined(v) instanceof String s) {
            return s;
        }
        throw new Fault(what + ": expected a string, given " + kind(v));
    }

    static Map<?, ?> map(Object v, String what) {
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

    static long length(Object v) {
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

    static List<Object> pairs(Run run, Map<?, ?> map) {
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
        if (JinjaMethods.methods(object).contains(name)) {
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

    static boolean equal(Run run, Object a, Object b, int depth) {
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
    static void search(Run run, String all, String part) {
        run.charge(all.length() + (long) all.length() * part.length() / 16);
    }
}
