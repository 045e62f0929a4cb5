package org.teamtr.task.plan;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * PlanBench's English of the blocks world (Valmeekam et al., 2023), to and fro.
 *
 * <p>Two readers of plans: {@link #official} finds what PlanBench's own finds, with its oddities, for figures that are to be compared;
 * {@link #strict} wants every line of the plan to be an action, and is what to train with.
 */
public final class BlocksEnglish {
    /** Names of blocks, by PDDL object. */
    private static final Map<String, String> BLOCKS = new LinkedHashMap<>();
    private static final Pattern LINE_START = Pattern.compile("(?:\\s|[-*•]|\\d{1,3}[.):]|step \\d{1,3}[:.])+");
    private static final Pattern PDDL = Pattern.compile("\\(\\s*([a-z][a-z0-9-]*)((?:\\s+[a-z][a-z0-9_-]*)*)\\s*\\)");

    static {
        final String[] colours = {"red", "blue", "orange", "yellow", "white", "magenta", "black", "cyan", "green", "violet", "silver", "gold"};
        for (int i = 0; i < colours.length; i++) {
            BLOCKS.put(String.valueOf((char) ('a' + i)), colours[i] + " block");
        }
    }

    private BlocksEnglish() {
    }

    // ---- to English ----

    /** {@return a step or fact in English}, {@code unstack a b} or {@code on a b} */
    public static String say(String words) {
        final String[] w = words.split(" ");
        final String x = w.length > 1 ? BLOCKS.getOrDefault(w[1], w[1]) : "";
        final String y = w.length > 2 ? BLOCKS.getOrDefault(w[2], w[2]) : "";
        return switch (w[0]) {
            case "pick-up" -> "pick up the " + x;
            case "put-down" -> "put down the " + x;
            case "stack" -> "stack the " + x + " on top of the " + y;
            case "unstack" -> "unstack the " + x + " from on top of the " + y;
            case "ontable" -> "the " + x + " is on the table";
            case "clear" -> "the " + x + " is clear";
            case "handempty" -> "the hand is empty";
            case "holding" -> "the hand is currently holding " + x;
            case "on" -> "the " + x + " is on top of the " + y;
            default -> words;
        };
    }

    /** {@return facts in one sentence, in their order} */
    public static String say(Set<String> facts) {
        final List<String> all = facts.stream().map(BlocksEnglish::say).toList();
        return all.size() < 2 ? String.join("", all) : String.join(", ", all.subList(0, all.size() - 1)) + " and " + all.get(all.size() - 1);
    }

    /** {@return PlanBench's statement of a problem, up to where the plan begins} */
    public static String statement(Strips.Problem problem) {
        return "[STATEMENT]\nAs initial conditions I have that, " + say(problem.init()) + ".\nMy goal is to have that " + say(problem.goal())
                + ".\n\nMy plan is as follows:\n\n[PLAN]";
    }

    /** {@return what validation says of a plan that is not valid, as in PlanBench's verification task; null of a valid one} */
    public static String fault(Strips.Result result, List<String> plan) {
        if (result.valid()) {
            return null;
        }
        final boolean one = result.unmet().size() == 1;
        if (result.failedStep() < 0) {
            return "The above plan is invalid. " + (one ? "This is the unmet goal condition:" : "These are the unmet goal conditions:") + "\n"
                    + say(result.unmet());
        }
        return "The above plan is invalid. The following action at step " + (result.failedStep() + 1) + " has "
                + (one ? "an unmet precondition:" : "unmet preconditions:") + "\n" + say(plan.get(result.failedStep())) + "\n"
                + (one ? "The unmet precondition is:" : "The unmet preconditions are:") + "\n" + say(result.unmet());
    }

    /**
     * {@return the problem that the last statement of a prompt describes}
     *
     * @throws IllegalArgumentException if there is none
     */
    public static Strips.Problem problem(String prompt) {
        final int start = prompt.lastIndexOf("[STATEMENT]");
        final String text = prompt.substring(Math.max(0, start)).toLowerCase(Locale.ROOT);
        final int init = text.indexOf("as initial conditions i have that,");
        final int goal = text.indexOf("my goal is to have that ");
        if (init < 0) {
            throw new IllegalArgumentException("prompt: expected a statement with initial conditions, given none");
        }
        final Set<String> facts = new TreeSet<>(state(upToStop(text.substring(init + 34))));
        final Set<String> goals = goal < 0 ? Set.of() : new TreeSet<>(state(upToStop(text.substring(goal + 24))));
        final Set<String> objects = new TreeSet<>();
        for (Set<String> some : List.of(facts, goals)) {
            some.forEach(fact -> objects.addAll(List.of(fact.split(" ")).subList(1, fact.split(" ").length)));
        }
        return new Strips.Problem(objects, facts, goals);
    }

    private static String upToStop(String text) {
        final int stop = text.indexOf('.');
        return stop < 0 ? text : text.substring(0, stop);
    }

    // ---- plans ----

    /** {@return the plan that PlanBench's own reader finds in a reply} */
    public static List<String> official(String reply) {
        final List<String> plan = new ArrayList<>();
        for (String line : reply.toLowerCase(Locale.ROOT).replace("pick up", "pick-up").replace("put down", "put-down").split("\n", -1)) {
            String verb = null;
            for (String word : line.split("\\s+")) {
                if (word.equals("pick-up") || word.equals("put-down") || word.equals("stack") || word.equals("unstack")) {
                    verb = verb == null ? word : verb;
                }
            }
            if (verb == null) {
                continue;
            }
            final TreeMap<Integer, String> found = new TreeMap<>();
            BLOCKS.forEach((object, name) -> {
                final int at = line.indexOf(name);
                if (at >= 0) {
                    found.put(at, object);
                }
            });
            if (found.size() == (verb.endsWith("stack") ? 2 : 1)) {
                plan.add(verb + " " + String.join(" ", found.values()));
            }
        }
        return plan;
    }

    /**
     * {@return the plan of a reply of which every line is an action; null if one is not}
     *
     * <p>The plan is what stands between the last {@code [PLAN]} and {@code [PLAN END]}, either of which may be missing, behind the end
     * of a reasoning. Lines may be numbered; an action may be written as in PDDL, {@code (unstack a b)}. Empty lines do not count.
     */
    public static List<String> strict(String reply, Strips domain) {
        String text = reply.toLowerCase(Locale.ROOT);
        text = text.substring(text.lastIndexOf("</think>") < 0 ? 0 : text.lastIndexOf("</think>") + 8);
        if (text.contains("<think>")) {
            return null;
        }
        final int end = text.indexOf("[plan end]", Math.max(0, text.lastIndexOf("[plan]")));
        text = text.substring(0, end < 0 ? text.length() : end);
        text = text.substring(text.lastIndexOf("[plan]") < 0 ? 0 : text.lastIndexOf("[plan]") + 6);
        final List<String> plan = new ArrayList<>();
        for (String line : text.split("\n", -1)) {
            final Matcher number = LINE_START.matcher(line);
            final String rest = (number.lookingAt() ? line.substring(number.end()) : line).replaceAll("[.,;]?\\s*$", "");
            if (rest.isEmpty()) {
                continue;
            }
            final String step = step(rest, domain);
            if (step == null) {
                return null;
            }
            plan.add(step);
        }
        return plan;
    }

    private static String step(String line, Strips domain) {
        final Matcher pddl = PDDL.matcher(line);
        if (pddl.matches()) {
            return domain.actions().containsKey(pddl.group(1)) ? (pddl.group(1) + pddl.group(2)).replaceAll("\\s+", " ") : null;
        }
        for (String action : domain.actions().keySet()) {
            for (String x : BLOCKS.keySet()) {
                if (line.equals(say(action + " " + x))) {
                    return action + " " + x;
                }
            }
        }
        for (String action : List.of("unstack", "stack")) {
            if (domain.actions().containsKey(action) && line.startsWith(action + " the ")) {
                final Matcher m = (action.equals("stack") ? STACK : UNSTACK).matcher(line);
                final String x = m.matches() ? object(m.group(1)) : null;
                final String y = x == null ? null : object(m.group(2));
                return y == null ? null : action + " " + x + " " + y;
            }
        }
        final String[] words = line.split("\\s+"); // feast object a from object b, as the obfuscated domain speaks
        if (domain.actions().containsKey(words[0])) {
            final StringBuilder step = new StringBuilder(words[0]);
            for (int i = 1; i < words.length; i++) {
                if (words[i].equals("object") && i + 1 < words.length) {
                    step.append(' ').append(words[++i]);
                } else if (!words[i].equals("from")) {
                    return null;
                }
            }
            return step.toString();
        }
        return null;
    }

    private static final Pattern STACK = Pattern.compile("stack the ([a-z]+ block) on top of the ([a-z]+ block)");
    private static final Pattern UNSTACK = Pattern.compile("unstack the ([a-z]+ block) from on top of the ([a-z]+ block)");

    private static String object(String name) {
        return BLOCKS.entrySet().stream().filter(e -> e.getValue().equals(name)).map(Map.Entry::getKey).findFirst().orElse(null);
    }

    // ---- states ----

    /** {@return the facts that PlanBench's own reader finds in a text, in their order, repeated ones too} */
    public static List<String> state(String text) {
        final List<String> facts = new ArrayList<>();
        for (String piece : text.toLowerCase(Locale.ROOT).replace(" and ", ",").split(",", -1)) {
            if (piece.contains(" not ")) {
                continue;
            }
            if (piece.contains("on the table")) {
                fact(facts, "ontable", colour(piece), null, 1);
            } else if (piece.contains("clear")) {
                fact(facts, "clear", colour(piece), null, 1);
            } else if (piece.contains("hand is empty")) {
                facts.add("handempty");
            } else if (piece.contains("holding")) {
                fact(facts, "holding", colour(piece.substring(piece.indexOf("holding"))), null, 1);
            } else if (piece.contains("on top of")) {
                final int at = piece.indexOf("on top of");
                fact(facts, "on", colour(piece.substring(0, at)), colour(piece.substring(at)), 2);
            }
        }
        return facts;
    }

    private static void fact(List<String> facts, String predicate, String x, String y, int arity) {
        facts.add(predicate + (x == null ? "" : " " + x) + (arity < 2 || y == null ? "" : " " + y));
    }

    private static String colour(String part) {
        return BLOCKS.entrySet().stream().filter(e -> part.contains(e.getValue())).map(Map.Entry::getKey).findFirst().orElse(null);
    }

    // ---- verdicts on plans ----

    /**
     * What a text says of a plan.
     *
     * @param valid null if it says nothing
     * @param unmetGoal facts, or null
     * @param failedAction a step, or null
     * @param unmetNeeds facts, or null
     */
    public record Verdict(Boolean valid, Set<String> unmetGoal, String failedAction, Set<String> unmetNeeds) {
    }

    /** {@return what a text says of a plan, as PlanBench reads it} */
    public static Verdict verdict(String text) {
        final String[] lines = text.toLowerCase(Locale.ROOT).split("\n", -1);
        final Boolean valid = text.toLowerCase(Locale.ROOT).contains("plan is valid") ? Boolean.TRUE
                : text.toLowerCase(Locale.ROOT).contains("plan is invalid") ? Boolean.FALSE : null;
        Set<String> goal = null;
        Set<String> needs = null;
        String action = null;
        for (int i = 0; i < lines.length; i++) {
            final String next = i + 1 < lines.length ? lines[i + 1] : "";
            if (lines[i].contains("unmet goal condition")) {
                goal = new TreeSet<>(state(next));
            } else if (lines[i].contains("the unmet precondition")) {
                needs = needs == null ? new TreeSet<>(state(next)) : needs;
            } else if (lines[i].contains("unmet precondition")) {
                final List<String> steps = official(next);
                action = steps.isEmpty() ? "" : steps.get(0);
                needs = null;
            }
        }
        return Boolean.TRUE.equals(valid) ? new Verdict(true, null, null, null) : new Verdict(valid, goal, action, needs);
    }
}
