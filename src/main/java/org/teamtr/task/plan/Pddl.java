package org.teamtr.task.plan;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;

/**
 * Reads PDDL: domains and problems with {@code :strips} alone, that is, untyped, with conjunctions of facts as conditions and of facts
 * and their negations as effects. Names are read without case. Anything else is an error that names it.
 */
public final class Pddl {
    private static final int DEEPEST = 100;

    private final String text;
    private int at;

    private Pddl(String text) {
        this.text = text.toLowerCase(Locale.ROOT);
    }

    /**
     * {@return a domain}
     *
     * @throws IllegalArgumentException if the text is none, or needs more than STRIPS
     */
    public static Strips domain(String text) {
        final List<?> define = list(new Pddl(text).whole(), "a (define (domain ...) ...)");
        final String name = head(define, "domain");
        final Map<String, Strips.Action> actions = new LinkedHashMap<>();
        final Map<String, Integer> predicates = new LinkedHashMap<>();
        for (Object part : define.subList(2, define.size())) {
            final List<?> section = list(part, "a section");
            switch (String.valueOf(section.get(0))) {
                case ":requirements" -> section.stream().skip(1).filter(r -> !r.equals(":strips")).findFirst().ifPresent(r -> {
                    throw new IllegalArgumentException("requirements: expected :strips alone, given " + r);
                });
                case ":predicates" -> section.stream().skip(1).map(p -> list(p, "a predicate"))
                        .forEach(p -> predicates.put(String.valueOf(p.get(0)), untyped(p).size() - 1));
                case ":action" -> {
                    final Strips.Action action = action(section, predicates);
                    actions.put(action.name(), action);
                }
                default -> throw new IllegalArgumentException("domain: expected :requirements, :predicates or :action, given " + section.get(0));
            }
        }
        return new Strips(name, Map.copyOf(predicates), actions);
    }

    /**
     * {@return a problem of a domain}
     *
     * @throws IllegalArgumentException if the text is none
     */
    public static Strips.Problem problem(String text) {
        final List<?> define = list(new Pddl(text).whole(), "a (define (problem ...) ...)");
        head(define, "problem");
        final Set<String> objects = new TreeSet<>();
        final Set<String> init = new TreeSet<>();
        final Set<String> goal = new TreeSet<>();
        for (Object part : define.subList(2, define.size())) {
            final List<?> section = list(part, "a section");
            switch (String.valueOf(section.get(0))) {
                case ":objects" -> untyped(section).stream().skip(1).forEach(o -> objects.add(String.valueOf(o)));
                case ":init" -> section.stream().skip(1).forEach(f -> init.add(fact(f)));
                case ":goal" -> facts(section.get(1), goal, null);
                case ":domain", ":requirements" -> {}
                default -> throw new IllegalArgumentException("problem: expected :objects, :init or :goal, given " + section.get(0));
            }
        }
        return new Strips.Problem(objects, init, goal);
    }

    private static Strips.Action action(List<?> section, Map<String, Integer> predicates) {
        final String name = String.valueOf(section.get(1));
        List<?> parameters = List.of();
        final Set<String> needs = new TreeSet<>();
        final Set<String> adds = new TreeSet<>();
        final Set<String> deletes = new TreeSet<>();
        for (int i = 2; i + 1 < section.size(); i += 2) {
            switch (String.valueOf(section.get(i))) {
                case ":parameters" -> parameters = untyped(list(section.get(i + 1), "parameters"));
                case ":precondition" -> facts(section.get(i + 1), needs, null);
                case ":effect" -> facts(section.get(i + 1), adds, deletes);
                default -> throw new IllegalArgumentException(name + ": expected :parameters, :precondition or :effect, given " + section.get(i));
            }
        }
        for (Set<String> facts : List.of(needs, adds, deletes)) {
            for (String fact : facts) {
                final String[] words = fact.split(" ");
                if (!predicates.isEmpty() && !Integer.valueOf(words.length - 1).equals(predicates.get(words[0]))) {
                    throw new IllegalArgumentException(name + ": expected a fact of the domain's predicates, given (" + fact + ")");
                }
            }
        }
        return new Strips.Action(name, parameters.stream().map(String::valueOf).toList(), needs, adds, deletes);
    }

    private static List<?> untyped(List<?> names) {
        if (names.contains("-")) {
            throw new IllegalArgumentException("PDDL: expected names without types, given " + names);
        }
        return names;
    }

    private static void facts(Object condition, Set<String> into, Set<String> negated) {
        final List<?> list = list(condition, "a condition");
        if (list.isEmpty()) {
            return;
        }
        if (list.get(0).equals("and")) {
            list.stream().skip(1).forEach(part -> facts(part, into, negated));
        } else if (list.get(0).equals("not") && negated != null && list.size() == 2) {
            negated.add(fact(list.get(1)));
        } else {
            into.add(fact(condition));
        }
    }

    private static String fact(Object part) {
        final List<?> list = list(part, "a fact");
        if (list.isEmpty() || !list.stream().allMatch(String.class::isInstance) || Set.of("or", "not", "forall", "exists", "when", "imply", "=")
                .contains(list.get(0))) {
            throw new IllegalArgumentException("PDDL: expected a fact, given " + part);
        }
        return String.join(" ", list.stream().map(String::valueOf).toList());
    }

    private static String head(List<?> define, String kind) {
        final List<?> head = define.size() < 2 || !define.get(0).equals("define") ? List.of() : list(define.get(1), kind);
        if (head.size() != 2 || !head.get(0).equals(kind)) {
            throw new IllegalArgumentException("PDDL: expected (define (" + kind + " NAME) ...), given "
                    + define.subList(0, Math.min(2, define.size())));
        }
        return String.valueOf(head.get(1));
    }

    private static List<?> list(Object part, String what) {
        if (!(part instanceof List<?> list)) {
            throw new IllegalArgumentException("PDDL: expected " + what + " in brackets, given " + part);
        }
        return list;
    }

    private Object whole() {
        final Object read = read(0);
        blanks();
        if (at < text.length()) {
            throw new IllegalArgumentException("PDDL: expected the end, given \"" + text.charAt(at) + "\" at character " + (at + 1));
        }
        return read;
    }

    private Object read(int depth) {
        blanks();
        if (depth > DEEPEST || at >= text.length() || text.charAt(at) == ')') {
            throw new IllegalArgumentException("PDDL: expected a name or a list at character " + (at + 1));
        }
        if (text.charAt(at) != '(') {
            final int start = at;
            while (at < text.length() && "() \t\r\n;".indexOf(text.charAt(at)) < 0) {
                at++;
            }
            return text.substring(start, at);
        }
        at++;
        final List<Object> list = new ArrayList<>();
        for (blanks(); at >= text.length() || text.charAt(at) != ')'; blanks()) {
            list.add(read(depth + 1));
        }
        at++;
        return list;
    }

    /** And comments, from a semicolon to the end of the line. */
    private void blanks() {
        while (at < text.length() && (Character.isWhitespace(text.charAt(at)) || text.charAt(at) == ';')) {
            if (text.charAt(at) == ';') {
                final int end = text.indexOf('\n', at);
                at = end < 0 ? text.length() : end;
            } else {
                at++;
            }
        }
    }
}
