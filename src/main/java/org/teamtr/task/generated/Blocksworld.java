package org.teamtr.task.generated;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.TreeSet;
import org.teamtr.task.PlanBench;
import org.teamtr.task.plan.BlocksEnglish;
import org.teamtr.task.plan.Strips;
import org.teamtr.team.KeyedRandom;
import org.teamtr.team.Context;
import org.teamtr.team.Prompt;

/**
 * Plans for blocks in PlanBench's English. A teacher who is right says a shortest plan, one who is wrong a plan for another goal, or one
 * without its last step.
 */
final class Blocksworld extends GeneratedTask {
    private final int size;
    private final int choices;

    Blocksworld(int size, int choices) {
        check("choices", choices, 2, 12, "blocksworld");
        check("size", size, 2, Math.min(6, choices), "blocksworld with " + choices + " names of blocks");
        this.size = size;
        this.choices = choices;
    }

    @Override
    public List<String> phrases() {
        final List<String> phrases = new ArrayList<>(List.of("[STATEMENT]\nAs initial conditions I have that, ", ".\nMy goal is to have that ",
                ".\n\nMy plan is as follows:\n\n[PLAN]", "the hand is empty", " is clear", " is on the table", " is on top of ",
                "the hand is currently holding ", "pick up ", "put down ", "stack ", "unstack ", " on top of ", " from on top of ", ", ", " and ",
                "The above plan is invalid. ", "This is the unmet goal condition:\n", "These are the unmet goal conditions:\n",
                "The following action at step ", " has an unmet precondition:\n", " has unmet preconditions:\n",
                "\nThe unmet precondition is:\n", "\nThe unmet preconditions are:\n", "Every line is to be one action, as in the example."));
        for (int i = 0; i < choices; i++) {
            final String block = BlocksEnglish.say("clear " + (char) ('a' + i)).replace(" is clear", "");
            phrases.addAll(List.of(block, block.replace("the ", "")));
        }
        return phrases;
    }

    @Override
    public String verifier() {
        return "planbench";
    }

    @Override
    protected Prompt draw(int number, long set, SplittableRandom random) {
        final List<String> blocks = new ArrayList<>();
        for (int i : KeyedRandom.permutation(choices, random.nextLong())) {
            if (blocks.size() < size) {
                blocks.add(String.valueOf((char) ('a' + i)));
            }
        }
        final TreeSet<String> init = state(blocks, random);
        final TreeSet<String> goal = new TreeSet<>();
        while (goal.isEmpty() || init.containsAll(goal)) {
            goal.clear();
            state(blocks, random).stream().filter(fact -> fact.startsWith("on ")).forEach(goal::add);
        }
        final Strips.Problem problem = new Strips.Problem(new TreeSet<>(blocks), init, goal);
        return new Prompt("", BlocksEnglish.statement(problem), plan(problem), "planbench",
                Map.of("task", "t1", "domain", "blocksworld", "init", List.copyOf(init), "goal", List.copyOf(goal)));
    }

    /** Every block is put on the table or on the block that was put down before it. */
    private static TreeSet<String> state(List<String> blocks, SplittableRandom random) {
        final TreeSet<String> facts = new TreeSet<>(List.of("handempty"));
        String below = null;
        for (int i : KeyedRandom.permutation(blocks.size(), random.nextLong())) {
            final String block = blocks.get(i);
            final boolean stacked = below != null && random.nextBoolean();
            facts.add(stacked ? "on " + block + " " + below : "ontable " + block);
            if (stacked) {
                facts.remove("clear " + below);
            }
            facts.add("clear " + block);
            below = block;
        }
        return facts;
    }

    private static String plan(Strips.Problem problem) {
        return english(PlanBench.BLOCKS.shortestPlan(problem, 1_000_000));
    }

    private static String english(List<String> plan) {
        return String.join("\n", plan.stream().map(BlocksEnglish::say).toList());
    }

    @Override
    protected String right(Context context, SplittableRandom random) {
        return context.prompt().answer();
    }

    @Override
    protected String wrong(Context context, SplittableRandom random) {
        final Strips.Problem problem = PlanBench.problem(context.prompt());
        if (random.nextBoolean()) {
            final List<String> plan = PlanBench.BLOCKS.shortestPlan(problem, 1_000_000);
            return english(plan.subList(0, plan.size() - 1));
        }
        final TreeSet<String> goal = new TreeSet<>();
        while (goal.isEmpty() || problem.init().containsAll(goal)) {
            goal.clear();
            state(List.copyOf(problem.objects()), random).stream().filter(fact -> fact.startsWith("on ")).forEach(goal::add);
        }
        return plan(new Strips.Problem(problem.objects(), problem.init(), goal));
    }
}
