package org.teamtr.task;

import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;
import java.util.regex.Pattern;
import org.teamtr.team.KeyedRandom;
import org.teamtr.team.ChatTurn;
import org.teamtr.team.Context;
import org.teamtr.team.Prompt;
import org.teamtr.team.PromptTemplate;
import org.teamtr.team.Prompts;
import org.teamtr.team.Verifier;
import org.teamtr.team.View;

/**
 * The budget relay: the team is given a number, each agent in turn writes a number, and their sum should equal it.
 *
 * <p>With n agents, the goal T is uniform in 2 n .. 7 n. The return is max(0, 1 - |sum - T| / width), the episode is correct if the
 * sum is T. A message that is not one or two digits makes the return 0.
 *
 * <p>It shows the error that the method avoids. Before training every agent imitates a cautious teacher, who writes {@link #SHORT} / n less
 * than a fair share: the team as a whole falls short, and every agent can correct the whole shortfall alone. Agents that learn from the
 * same old episodes all do so, and the team overshoots by n - 1 times the shortfall.
 */
public final class Budget implements Verifier {
    /** The characters of prompts and messages, beside the end of a message. */
    public static final String CHARACTERS = "0123456789=+";
    /** The form of an agent's prompt: {@code 18=5+4+}. */
    public static final PromptTemplate TEMPLATE = new PromptTemplate(null, "{prompt}{transcript}", "{text}+");
    /** By how much the teachers' team falls short on average; a little less, since no number is under 0. */
    public static final double SHORT = 2.4;

    /** Standard deviation of a teacher's number around what it aims at. */
    private static final double NOISE = 1.2;
    private static final Pattern NUMBER = Pattern.compile("[0-9]{1,2}");
    private static final List<String> ROLES = List.of("planner", "solver", "critic", "executor", "reviewer", "editor", "tester", "closer");

    private final int agents;
    private final double width;

    /**
     * @param agents 1 or more
     * @param width distance at which the return reaches 0; 0 for max(3, 1.9 sqrt(agents))
     */
    public Budget(int agents, double width) {
        if (agents < 1) {
            throw new IllegalArgumentException("agents: expected 1 or more, given " + agents);
        }
        if (!(width >= 0 && width < Double.POSITIVE_INFINITY)) {
            throw new IllegalArgumentException("width: expected 0 or more and finite, given " + width);
        }
        this.agents = agents;
        this.width = width > 0 ? width : Math.max(3, 1.9 * Math.sqrt(agents));
    }

    /** {@return the name of agent i} */
    public static String role(int i) {
        return i < ROLES.size() ? ROLES.get(i) : "agent" + (i + 1);
    }

    /** {@return the tokens that the longest episode needs, if messages have at most this many} */
    public int contextLength(int maxNewTokens) {
        return 4 + (maxNewTokens + 1) * agents;
    }

    /** {@return prompts without end; two sets of different names have different prompts} */
    public Prompts prompts(String name, int size, long seed) {
        return Prompts.of(size, i -> {
            final int goal = goal(KeyedRandom.of(seed, name.hashCode(), i));
            return new Prompt(name + ":" + i, goal + "=", Integer.toString(goal));
        });
    }

    private int goal(SplittableRandom random) {
        return goals()[0] + random.nextInt(goals()[1] - goals()[0] + 1);
    }

    @Override
    public Score score(Context episode) {
        int sum = 0;
        for (var message : episode.messages()) {
            if (!NUMBER.matcher(message.text()).matches() || !message.utterance().ended()) {
                return new Score(0, false);
            }
            sum += Integer.parseInt(message.text());
        }
        final int goal = Integer.parseInt(episode.prompt().answer());
        return new Score(reward(sum, goal), sum == goal);
    }

    @Override
    public Range range() {
        return new Range(0, 1);
    }

    /** {@return the smallest and the largest goal there is; all between are as likely} */
    public int[] goals() {
        return new int[] {2 * agents, 7 * agents};
    }

    /** {@return the return of numbers with this sum} */
    public double reward(int sum, int goal) {
        return Math.max(0, 1 - Math.abs(sum - goal) / width);
    }

    /**
     * {@return how likely a teacher is to write 0, 1, 2, ..., of which the last stands for all larger numbers too}
     *
     * @param numbers how many there are
     */
    public double[] teacher(int goal, int numbers) {
        final int steps = 20_000; // of the trapezoidal rule, from -8 to 8 standard deviations: right to 1e-7
        final double[] p = new double[numbers];
        double sum = 0;
        for (int j = 0; j <= steps; j++) {
            final double z = 16.0 * j / steps - 8;
            final double density = Math.exp(-z * z / 2);
            final double aim = aim(goal, z);
            final int below = (int) Math.floor(aim);
            p[Math.max(0, Math.min(numbers - 1, below))] += density * (below + 1 - aim);
            p[Math.max(0, Math.min(numbers - 1, below + 1))] += density * (aim - below);
            sum += density;
        }
        for (int k = 0; k < numbers; k++) {
            p[k] /= sum;
        }
        return p;
    }

    private double aim(int goal, double noise) {
        return (goal - SHORT) / agents + NOISE * noise;
    }

    /** What a teacher was asked and what it wrote. */
    public record Lesson(List<ChatTurn> asked, String answer) {
    }

    /** {@return a turn of a team of teachers, at a random place of an episode, as an agent with this view sees it} */
    public Lesson lesson(View view, long seed) {
        final SplittableRandom random = KeyedRandom.of(seed);
        final int goal = goal(random);
        final List<String> said = new ArrayList<>();
        final int turn = random.nextInt(agents);
        for (int i = 0; i <= turn; i++) {
            final double aim = aim(goal, random.nextGaussian());
            final double up = random.nextDouble(); // rounded to either side so that the mean stays
            said.add(Integer.toString((int) Math.min(99, Math.max(0, Math.floor(aim + up)))));
        }
        final Prompt prompt = new Prompt("lesson", goal + "=", Integer.toString(goal));
        return new Lesson(TEMPLATE.render(Context.of(prompt, said.subList(0, turn)), role(turn), view), said.get(turn));
    }
}
