package org.teamtr.chat;

import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import org.teamtr.chat.JinjaValues.Args;
import org.teamtr.chat.JinjaValues.Callable;
import org.teamtr.chat.JinjaValues.Fault;
import org.teamtr.chat.JinjaValues.Method;
import org.teamtr.chat.JinjaValues.Run;
import org.teamtr.chat.JinjaValues.Stream;
import org.teamtr.chat.JinjaValues.Tuple;

/** Calls, and Python's methods of strings, lists and maps, as far as chat templates use them. */
final class JinjaMethods {
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

    private JinjaMethods() {
    }

    static Set<String> methods(Object object) {
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

    static Object call(Run run, Object function, Args args) {
        if (function instanceof Callable f) {
            return f.call(run, args);
        }
        if (!(function instanceof Method m)) {
            throw new Fault("cannot call " + JinjaValues.kind(JinjaValues.defined(function)));
        }
        final Object result = method(run, m, args);
        args.done();
        return result;
    }

    private static Object method(Run run, Method m, Args args) {
        if (m.object() instanceof Map<?, ?> map) {
            switch (m.name()) {
                case "get":
                    final Object found = JinjaValues.key(args.get(0, ""));
                    final Object other = args.get(1, "", null);
                    return map.containsKey(found) ? map.get(found) : other;
                case "items":
                    return new Stream(JinjaValues.pairs(run, map), false);
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
                    return replace(run, s, JinjaValues.string(args.get(0, ""), "replace"), JinjaValues.string(args.get(1, ""), "replace"),
                            args.get(2, "", null));
                case "upper":
                    return s.toUpperCase(Locale.ROOT);
                case "lower":
                    return s.toLowerCase(Locale.ROOT);
                case "capitalize":
                    return capitalize(s);
                case "title":
                    return methodTitle(s);
                case "removeprefix":
                    final String prefix = JinjaValues.string(args.get(0, ""), m.name());
                    return s.startsWith(prefix) ? s.substring(prefix.length()) : s;
                case "removesuffix":
                    final String suffix = JinjaValues.string(args.get(0, ""), m.name());
                    return s.endsWith(suffix) ? s.substring(0, s.length() - suffix.length()) : s;
                case "join":
                    final StringBuilder text = new StringBuilder();
                    String between = "";
                    for (Object item : JinjaValues.iterate(run, JinjaValues.defined(args.get(0, "")))) {
                        final String next = JinjaValues.string(item, "join");
                        run.charge((long) between.length() + next.length());
                        text.append(between).append(next);
                        between = s;
                    }
                    return text.toString();
                default:
                    break;
            }
        }
        throw new Fault("method '" + m.name() + "' of " + JinjaValues.kind(m.object()) + " is not supported");
    }

    private static List<String> affixes(Object value, String what) {
        if (value instanceof Tuple t) {
            return t.stream().map(v -> JinjaValues.string(v, what)).toList();
        }
        return List.of(JinjaValues.string(value, what));
    }

    static String strip(String s, Object characters, boolean left, boolean right) {
        final Set<Integer> set = new HashSet<>();
        if (characters != null) {
            JinjaValues.string(characters, "strip").codePoints().forEach(set::add);
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
        final int max = JinjaValues.smallInt(most, "split");
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
        final String sep = JinjaValues.string(separator, "split");
        if (sep.isEmpty()) {
            throw new Fault("split: expected a separator that is not empty");
        }
        JinjaValues.search(run, s, sep);
        int at = 0;
        for (int next = s.indexOf(sep); next >= 0 && (max < 0 || parts.size() < max); next = s.indexOf(sep, at)) {
            parts.add(s.substring(at, next));
            at = next + sep.length();
        }
        parts.add(s.substring(at));
        run.charge(parts.size());
        return parts;
    }

    static String replace(Run run, String s, String old, String by, Object count) {
        final int most = count == null ? -1 : JinjaValues.smallInt(count, "replace");
        if (old.isEmpty()) {
            throw new Fault("replace: expected something to look for that is not empty");
        }
        JinjaValues.search(run, s, old);
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
}
