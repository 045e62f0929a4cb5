package org.teamtr.task.plan;

import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.BitSet;
import java.util.Deque;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;

/**
 * A planning domain of STRIPS: a state is a set of facts; an action may be taken where all its needs are facts, and makes of the state
 * (state minus what it deletes) plus what it adds.
 *
 * <p>Facts and steps are written without brackets: {@code on a b}, {@code unstack a b}. Immutable.
 *
 * @param name of the domain
 * @param predicates how many objects each takes
 * @param actions by name
 */
public record Strips(String name, Map<String, Integer> predicates, Map<String, Action> actions) {
    /** An action with variables such as {@code ?x}. */
    public record Action(String name, List<String> parameters, Set<String> needs, Set<String> adds, Set<String> deletes) {
        Set<String> of(Set<String> facts, String[] step) {
            final Set<String> bound = new TreeSet<>();
            for (String fact : facts) {
                final String[] words = fact.split(" ");
                for (int i = 1; i < words.length; i++) {
                    final int parameter = parameters.indexOf(words[i]);
                    words[i] = parameter < 0 ? words[i] : step[parameter + 1];
                }
                bound.add(String.join(" ", words));
            }
            return bound;
        }
    }

    /** Where a plan starts and what it is for. */
    public record Problem(Set<String> objects, Set<String> init, Set<String> goal) {
        /** Sorted copies. */
        public Problem {
            objects = new TreeSet<>(objects);
            init = new TreeSet<>(init);
            goal = new TreeSet<>(goal);
        }
    }

    /**
     * What became of a plan.
     *
     * @param failedStep the first step that could not be taken, from 0 on, or -1
     * @param unmet what was missing: needs of that step, or parts of the goal at the end
     * @param state in which it ended
     */
    public record Result(int failedStep, Set<String> unmet, Set<String> state) {
        /** {@return whether every step could be taken and the goal was reached} */
        public boolean valid() {
            return failedStep < 0 && unmet.isEmpty();
        }
    }

    /** {@return what becomes of a plan} A step that is none of the domain, or of other objects, fails with nothing unmet but itself. */
    public Result run(Problem problem, List<String> plan) {
        Set<String> state = new TreeSet<>(problem.init());
        for (int i = 0; i < plan.size(); i++) {
            final String[] step = plan.get(i).split(" ");
            final Action action = actions.get(step[0]);
            if (action == null || step.length != action.parameters().size() + 1
                    || !problem.objects().containsAll(List.of(step).subList(1, step.length))) {
                return new Result(i, Set.of(plan.get(i)), state);
            }
            final Set<String> unmet = action.of(action.needs(), step);
            unmet.removeAll(state);
            if (!unmet.isEmpty()) {
                return new Result(i, unmet, state);
            }
            state = after(action, step, state);
        }
        final Set<String> unmet = new TreeSet<>(problem.goal());
        unmet.removeAll(state);
        return new Result(-1, unmet, state);
    }

    private static Set<String> after(Action action, String[] step, Set<String> state) {
        final Set<String> next = new TreeSet<>(state);
        next.removeAll(action.of(action.deletes(), step));
        next.addAll(action.of(action.adds(), step));
        return next;
    }

    /**
     * {@return a shortest plan, by breadth first; null if there is none}
     *
     * @param states the largest number of states that are visited
     * @throws IllegalArgumentException if these do not suffice
     */
    public List<String> shortestPlan(Problem problem, int states) {
        final Map<String, Integer> numbers = new HashMap<>(); // of facts: a state is a set of bits, of which thousands are compared
        final List<Ground> steps = every(problem).stream().map(step -> {
            final Action action = actions.get(step[0]);
            return new Ground(String.join(" ", step), bits(action.of(action.needs(), step), numbers), bits(action.of(action.adds(), step), numbers),
                    bits(action.of(action.deletes(), step), numbers));
        }).toList();
        final BitSet init = bits(problem.init(), numbers);
        final BitSet goal = bits(problem.goal(), numbers);
        final Map<BitSet, String> came = new HashMap<>();
        final Map<BitSet, BitSet> from = new HashMap<>();
        final Deque<BitSet> open = new ArrayDeque<>();
        open.add(init);
        came.put(init, "");
        while (!open.isEmpty()) {
            final BitSet state = open.poll();
            if (holds(state, goal)) {
                final List<String> plan = new ArrayList<>();
                for (BitSet s = state; from.get(s) != null; s = from.get(s)) {
                    plan.add(0, came.get(s));
                }
                return plan;
            }
            for (Ground step : steps) {
                if (holds(state, step.needs())) {
                    final BitSet next = (BitSet) state.clone();
                    next.andNot(step.deletes());
                    next.or(step.adds());
                    if (came.putIfAbsent(next, step.step()) == null) {
                        from.put(next, state);
                        open.add(next);
                    }
                }
            }
            if (came.size() > states) {
                throw new IllegalArgumentException("problem: expected a plan within " + states + " states, found none");
            }
        }
        return null;
    }

    /** An action with objects, its facts as bits. */
    private record Ground(String step, BitSet needs, BitSet adds, BitSet deletes) {
    }

    private static BitSet bits(Set<String> facts, Map<String, Integer> numbers) {
        final BitSet bits = new BitSet();
        for (String fact : facts) {
            Integer number = numbers.get(fact);
            if (number == null) {
                number = numbers.size();
                numbers.put(fact, number);
            }
            bits.set(number);
        }
        return bits;
    }

    private static boolean holds(BitSet state, BitSet facts) {
        final BitSet missing = (BitSet) facts.clone();
        missing.andNot(state);
        return missing.isEmpty();
    }

    /** Every action with every choice of objects, in the order of their names. */
    private List<String[]> every(Problem problem) {
        final List<String[]> steps = new ArrayList<>();
        for (String name : new TreeSet<>(actions.keySet())) {
            bind(actions.get(name).parameters().size(), problem, new ArrayList<>(List.of(name)), steps);
        }
        return steps;
    }

    private static void bind(int parameters, Problem problem, List<String> step, List<String[]> into) {
        if (step.size() == parameters + 1) {
            into.add(step.toArray(String[]::new));
            return;
        }
        for (String object : problem.objects()) {
            step.add(object);
            bind(parameters, problem, step, into);
            step.remove(step.size() - 1);
        }
    }
}
