package org.teamtr.task;

import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import org.teamtr.task.plan.BlocksEnglish;
import org.teamtr.task.plan.Pddl;
import org.teamtr.task.plan.Strips;
import org.teamtr.team.Prompt;

/**
 * The tasks of PlanBench (Valmeekam et al., 2023), judged by simulation.
 *
 * <p>{@code meta.task} is one of
 * <ul>
 *   <li>{@code t1} (a plan), {@code t4}, {@code t5}, {@code t6}, {@code t8_1}, {@code t8_2}, {@code t8_3}: right if the plan is valid
 *   <li>{@code t2} (a cheapest plan): and if it has no more steps than {@code meta.optimal_length}, or without that the plan of the
 *       reference answer
 *   <li>{@code t3} (whether a plan is valid, and why not): right if all that is said is as in the reference answer: figures
 *       {@code binary}, {@code type}, {@code explanation}
 *   <li>{@code t7} (the state after some steps): right if the facts are those of the reference answer
 * </ul>
 * {@code meta.init} and {@code meta.goal} are lists of facts, each a list {@code [on, a, b]} or a text {@code "on a b"};
 * {@code meta.objects} are those that facts do not name. Without {@code meta.init} the problem is read from {@code meta.pddl}, and
 * without that from the English of the prompt. {@code meta.domain} is {@code blocksworld} (also with a suffix, as in
 * {@code blocksworld_3}) or {@code mystery_blocksworld}, or {@code meta.domain_pddl} has one's own.
 */
public final class PlanBench implements Grader {
    /** The blocks world of four actions. */
    public static final Strips BLOCKS = builtIn("blocksworld");
    private static final Strips MYSTERY = builtIn("mystery_blocksworld");
    private static final Set<String> PLANS = Set.of("t1", "t2", "t4", "t5", "t6", "t8_1", "t8_2", "t8_3");

    private final boolean official;

    /** @param official whether plans are read as PlanBench reads them; otherwise every line must be an action */
    public PlanBench(boolean official) {
        this.official = official;
    }

    private static Strips builtIn(String name) {
        try (InputStream in = PlanBench.class.getResourceAsStream("plan/" + name + ".pddl")) {
            return Pddl.domain(new String(in.readAllBytes(), StandardCharsets.UTF_8));
        } catch (IOException e) {
            throw new java.io.UncheckedIOException(e);
        }
    }

    /** {@return the domain of a prompt} */
    public static Strips domain(Prompt prompt) {
        final Object own = prompt.meta().get("domain_pddl");
        if (own != null) {
            return Pddl.domain(own.toString());
        }
        final String name = String.valueOf(prompt.meta().getOrDefault("domain", "blocksworld"));
        if (name.startsWith("mystery")) {
            return MYSTERY;
        }
        if (!name.startsWith("blocksworld")) {
            throw new IllegalArgumentException("meta.domain: expected blocksworld or mystery_blocksworld, or meta.domain_pddl, given " + name);
        }
        return BLOCKS;
    }

    /** {@return the problem of a prompt} */
    public static Strips.Problem problem(Prompt prompt) {
        final Map<String, Object> meta = prompt.meta();
        if (meta.get("init") == null) {
            return meta.get("pddl") != null ? Pddl.problem(meta.get("pddl").toString()) : BlocksEnglish.problem(prompt.text());
        }
        final Set<String> init = facts(meta.get("init"), "meta.init");
        final Set<String> goal = facts(meta.getOrDefault("goal", meta.get("goal_partial")), "meta.goal");
        final Set<String> objects = new TreeSet<>();
        if (meta.get("objects") instanceof Collection<?> names) {
            names.forEach(name -> objects.add(name.toString()));
        }
        for (Set<String> some : List.of(init, goal)) {
            some.forEach(fact -> objects.addAll(List.of(fact.split(" ")).subList(1, fact.split(" ").length)));
        }
        return new Strips.Problem(objects, init, goal);
    }

    private static Set<String> facts(Object given, String name) {
        if (!(given instanceof Collection<?> list)) {
            throw new IllegalArgumentException(name + ": expected a list of facts, given " + given);
        }
        final Set<String> facts = new TreeSet<>();
        for (Object fact : list) {
            facts.add(fact instanceof Collection<?> words ? String.join(" ", words.stream().map(Object::toString).toList()) : fact.toString());
        }
        return facts;
    }

    private static String task(Prompt prompt) {
        final String task = String.valueOf(prompt.meta().getOrDefault("task", "t1"));
        if (!PLANS.contains(task) && !task.equals("t3") && !task.equals("t7")) {
            throw new IllegalArgumentException("meta.task: expected one of " + new TreeSet<>(PLANS) + ", t3 and t7, given " + task);
        }
        return task;
    }

    @Override
    public void check(Prompt prompt) {
        switch (task(prompt)) {
            case "t3" -> {
                if (BlocksEnglish.verdict(Verifiers.gold(prompt)).valid() == null) {
                    throw new IllegalArgumentException("answer: expected a text that says \"plan is valid\" or \"plan is invalid\", given \""
                            + Verifiers.shortened(prompt.answer()) + "\"");
                }
            }
            case "t7" -> goldState(prompt);
            case "t2" -> {
                problem(prompt);
                optimal(prompt);
            }
            default -> problem(prompt);
        }
        domain(prompt);
    }

    private int optimal(Prompt prompt) {
        if (prompt.meta().get("optimal_length") instanceof Number given) {
            return given.intValue();
        }
        final List<String> gold = goldPlan(Verifiers.gold(prompt), domain(prompt));
        if (gold.isEmpty()) {
            throw new IllegalArgumentException(
                    "answer: expected a plan, or meta.optimal_length, given \"" + Verifiers.shortened(prompt.answer()) + "\"");
        }
        return gold.size();
    }

    /** Steps in English or PDDL, on lines or one after the other. */
    private static List<String> goldPlan(String answer, Strips domain) {
        final List<String> plan = BlocksEnglish.strict(answer.replace(")(", ")\n(").replace(") (", ")\n("), domain);
        return plan == null ? List.of() : plan;
    }

    private static List<String> goldState(Prompt prompt) {
        final String gold = Verifiers.gold(prompt);
        final List<String> facts = new ArrayList<>();
        if (gold.strip().startsWith("[")) { // ["clear_a", "on_a_b"]
            for (String fact : gold.replaceAll("[\\[\\]\"'\\s]", "").split(",")) {
                facts.add(fact.replace('_', ' '));
            }
        } else {
            facts.addAll(BlocksEnglish.state(gold));
        }
        if (facts.isEmpty()) {
            throw new IllegalArgumentException("answer: expected facts, given \"" + Verifiers.shortened(gold) + "\"");
        }
        return facts.stream().sorted().toList();
    }

    @Override
    public Grade grade(Prompt prompt, String text) {
        return switch (task(prompt)) {
            case "t3" -> verdict(prompt, text);
            case "t7" -> state(prompt, text);
            default -> plan(prompt, text);
        };
    }

    /** {@return the plan of a reply; null if it has none that could be read} */
    public List<String> read(Prompt prompt, String text) {
        return official ? BlocksEnglish.official(text) : BlocksEnglish.strict(text, domain(prompt));
    }

    private Grade plan(Prompt prompt, String text) {
        final Strips.Problem problem = problem(prompt);
        final List<String> plan = text.isBlank() ? null : read(prompt, text);
        if (plan == null) {
            return new Grade(false, 0, false, Map.of("valid", 0.0));
        }
        final Strips.Result result = domain(prompt).run(problem, plan);
        final boolean right = result.valid() && (!task(prompt).equals("t2") || plan.size() == optimal(prompt));
        final Map<String, Double> figures = new LinkedHashMap<>();
        figures.put("valid", result.valid() ? 1.0 : 0.0);
        figures.put("steps", (double) plan.size());
        if (prompt.meta().get("goal_full") != null) { // t8_3 asks for the full state and is graded on part of it
            final Strips.Problem full =
                    new Strips.Problem(problem.objects(), problem.init(), facts(prompt.meta().get("goal_full"), "meta.goal_full"));
            figures.put("full_goal", domain(prompt).run(full, plan).valid() ? 1.0 : 0.0);
        }
        return new Grade(right, right ? 1 : progress(problem, result, plan.size()), true, figures);
    }

    /** Of a plan that is not valid, less than 1: the share of steps that could be taken, or of goals that were reached, halved. */
    private static double progress(Strips.Problem problem, Strips.Result result, int steps) {
        if (result.failedStep() >= 0) {
            return 0.5 * result.failedStep() / steps;
        }
        return result.unmet().isEmpty() ? 0.5 : 0.5 * (problem.goal().size() - result.unmet().size()) / problem.goal().size();
    }

    private static Grade verdict(Prompt prompt, String text) {
        final BlocksEnglish.Verdict gold = BlocksEnglish.verdict(prompt.answer());
        final BlocksEnglish.Verdict given = BlocksEnglish.verdict(text);
        final boolean binary = gold.valid().equals(given.valid());
        final boolean type = binary && (gold.unmetGoal() == null) == (given.unmetGoal() == null)
                && (gold.failedAction() == null) == (given.failedAction() == null);
        final boolean explanation = type && (gold.unmetGoal() == null || meet(gold.unmetGoal(), given.unmetGoal()))
                && (gold.failedAction() == null || gold.failedAction().equals(given.failedAction()) && meet(gold.unmetNeeds(), given.unmetNeeds()));
        return new Grade(explanation, (binary ? 1 : 0) / 3.0 + (type ? 1 : 0) / 3.0 + (explanation ? 1 : 0) / 3.0, given.valid() != null,
                Map.of("binary", binary ? 1.0 : 0, "type", type ? 1.0 : 0, "explanation", explanation ? 1.0 : 0));
    }

    private static boolean meet(Set<String> a, Set<String> b) {
        return a != null && b != null && a.stream().anyMatch(b::contains);
    }

    private static Grade state(Prompt prompt, String text) {
        final List<String> gold = goldState(prompt);
        final List<String> given = BlocksEnglish.state(text).stream().sorted().toList();
        final Set<String> union = new TreeSet<>(gold);
        union.addAll(given);
        final long both = new TreeSet<>(gold).stream().filter(given::contains).count();
        final boolean right = gold.equals(given);
        return new Grade(right, right ? 1 : 0.5 * both / union.size(), !given.isEmpty(), Map.of());
    }

    @Override
    public String answer(Prompt prompt, String text) {
        return switch (task(prompt)) {
            case "t3" -> BlocksEnglish.verdict(text).toString();
            case "t7" -> BlocksEnglish.state(text).stream().sorted().toList().toString();
            default -> {
                final List<String> plan = read(prompt, text);
                yield plan == null ? null : String.join("\n", plan);
            }
        };
    }
}
