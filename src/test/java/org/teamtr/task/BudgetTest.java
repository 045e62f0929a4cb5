package org.teamtr.task;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.Collections;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.teamtr.kernels.SamplingConfig;
import org.teamtr.team.Agent;
import org.teamtr.team.Context;
import org.teamtr.team.Generation;
import org.teamtr.team.Prompt;
import org.teamtr.team.Prompts;
import org.teamtr.team.Rollout;
import org.teamtr.team.ScriptedSpeaker;
import org.teamtr.team.Team;
import org.teamtr.team.Truncation;
import org.teamtr.team.Verifier;
import org.teamtr.team.View;

class BudgetTest {
    private static Prompt goal(int goal) {
        return new Prompt("p", goal + "=", Integer.toString(goal));
    }

    /** Width 4, goal 12. */
    @ParameterizedTest
    @CsvSource({"'7 5', 1, true", "'12 0', 1, true", "'07 05', 1, true", "'7 4', 0.75, false", "'7 6', 0.75, false", "'9 0', 0.25, false",
        "'8 0', 0, false", "'16 0', 0, false", "'99 99', 0, false", "'12', 1, true", "'+7 5', 0, false", "'7 -', 0, false",
        "'12 =', 0, false", "'120 0', 0, false", "'7 5=', 0, false", "'\u0667 5', 0, false"})
    void scoreByHand(String said, double reward, boolean correct) {
        assertEquals(new Verifier.Score(reward, correct), new Budget(2, 4).score(Context.of(goal(12), List.of(said.split(" ")))));
    }

    @Test
    void anEmptyMessageIsNoNumber() {
        assertEquals(new Verifier.Score(0, false), new Budget(2, 4).score(Context.of(goal(12), List.of("12", ""))));
    }

    /** A message that the length limit cut is none, even if what is there would meet the goal. */
    @Test
    void aMessageWithoutItsEndEarnsNothing() {
        final Budget budget = new Budget(2, 4);
        for (boolean ends : new boolean[] {true, false}) {
            final Team team = Team.of(List.of(new Agent("a", new ScriptedSpeaker(ends, "12"), Budget.TEMPLATE, View.TRANSCRIPT, false)));
            assertEquals(new Verifier.Score(ends ? 1 : 0, ends), Rollout.play(team, List.of(goal(12)), 1,
                    new Generation(1, SamplingConfig.ALL, 3, Truncation.ERROR), budget, 1).get(0).score());
        }
    }

    /** The width that is chosen: max(3, 1.9 sqrt n). */
    @ParameterizedTest
    @CsvSource({"1, 3", "2, 3", "4, 3.8", "9, 5.7"})
    void widthByTheNumberOfAgents(int agents, double width) {
        final int goal = 3 * agents;
        assertEquals(1 - 2 / width, new Budget(agents, 0).score(Context.of(goal(goal), List.of(Integer.toString(goal - 2)))).reward(), 1e-15);
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 4, 8})
    void goalsAreUniformFrom2nTo7n(int agents) {
        final Prompts prompts = new Budget(agents, 0).prompts("train", Integer.MAX_VALUE, 3);
        final int[] counts = new int[7 * agents + 1];
        final int each = 400;
        for (int i = 0; i < each * (5 * agents + 1); i++) {
            final Prompt prompt = prompts.get(i);
            assertEquals("train:" + i, prompt.id());
            assertEquals(prompt.answer() + "=", prompt.text());
            counts[Integer.parseInt(prompt.answer())]++;
        }
        for (int goal = 0; goal < counts.length; goal++) {
            if (goal < 2 * agents) {
                assertEquals(0, counts[goal]);
            } else {
                assertTrue(Math.abs(counts[goal] - each) < 5 * Math.sqrt(each), goal + ": " + counts[goal]);
            }
        }
    }

    @Test
    void promptsAreTheSameAgainAndDifferWithNameAndSeed() {
        final Budget budget = new Budget(8, 0);
        final List<String> train = texts(budget.prompts("train", Integer.MAX_VALUE, 1));
        assertEquals(train, texts(new Budget(8, 0).prompts("train", 7, 1)));
        assertNotEquals(train, texts(budget.prompts("train", Integer.MAX_VALUE, 2)));
        final List<String> heldOut = texts(budget.prompts("held-out", 4096, 1));
        // 41 goals: two sets that have nothing to do with each other agree in 1 of 41 places.
        final long alike = IntStream.range(0, 1000).filter(i -> train.get(i).equals(heldOut.get(i))).count();
        assertTrue(alike < 60, alike + " of 1000 prompts alike");
        assertEquals(4096, budget.prompts("held-out", 4096, 1).size());
    }

    private static List<String> texts(Prompts prompts) {
        return IntStream.range(0, 1000).mapToObj(i -> prompts.get(i).text()).toList();
    }

    /** Whoever's turn it is, n times what a number falls short of a fair share is 2.4, less what numbers under 0 would take away. */
    @ParameterizedTest
    @ValueSource(ints = {1, 2, 4, 8})
    void theTeachersTeamFallsShortBy24(int agents) {
        final Budget budget = new Budget(agents, 0);
        final int n = 60_000;
        final double[] missing = new double[n];
        for (int i = 0; i < n; i++) {
            final Budget.Lesson lesson = budget.lesson(View.NONE, 1000 + i);
            final double share = Double.parseDouble(lesson.asked().get(0).content().replace("=", "")) / agents;
            missing[i] = share - Integer.parseInt(lesson.answer());
        }
        final double mean = IntStream.range(0, n).mapToDouble(i -> missing[i]).average().orElseThrow();
        final double deviation = Math.sqrt(IntStream.range(0, n).mapToDouble(i -> Math.pow(missing[i] - mean, 2)).average().orElseThrow());
        final double cut = cutAtZero(agents);
        assertTrue(agents * cut < 0.18, "cut " + agents * cut);
        assertEquals(2.4 - agents * cut, agents * mean, agents * 4 * deviation / Math.sqrt(n));
    }

    /** Mean of max(0, -a) over the goals, a normal around (goal - 2.4) / agents with deviation 1.2, by the midpoint rule. */
    private static double cutAtZero(int agents) {
        double sum = 0;
        for (int goal = 2 * agents; goal <= 7 * agents; goal++) {
            for (double z = -7.995; z < 8; z += 0.01) {
                final double a = (goal - 2.4) / agents + 1.2 * z;
                sum += Math.max(0, -a) * Math.exp(-z * z / 2) / Math.sqrt(2 * Math.PI) * 0.01 / (5 * agents + 1);
            }
        }
        return sum;
    }

    /** Lessons are asked as the team's agents are: same template, every place of the episode, the view's messages. */
    @Test
    void lessonsAreTurnsOfEpisodes() {
        final Budget budget = new Budget(3, 0);
        final List<Set<Integer>> turns = new ArrayList<>();
        for (View view : List.of(View.NONE, View.PREDECESSOR, View.TRANSCRIPT)) { // a conversation's turns are not of this game
            final Set<Integer> met = new HashSet<>();
            for (int i = 0; i < 200; i++) {
                final Budget.Lesson lesson = budget.lesson(view, i);
                assertEquals(1, lesson.asked().size());
                final String asked = lesson.asked().get(0).content();
                assertTrue(asked.matches("[0-9]{1,2}=([0-9]{1,2}\\+){0,2}"), asked);
                assertTrue(lesson.answer().matches("[0-9]{1,2}"), lesson.answer());
                met.add((int) asked.chars().filter(c -> c == '+').count());
            }
            turns.add(met);
        }
        assertEquals(List.of(Set.of(0), Set.of(0, 1), Set.of(0, 1, 2)), turns);
        assertEquals(budget.lesson(View.TRANSCRIPT, 5), budget.lesson(View.TRANSCRIPT, 5));
    }

    /** All that is said fits, in the longest messages. */
    @ParameterizedTest
    @CsvSource({"1, 3", "4, 3", "8, 3", "30, 3"})
    void contextLengthIsThatOfTheLongestEpisode(int agents, int maxNewTokens) {
        final Budget budget = new Budget(agents, 0);
        final int goal = 7 * agents;
        final Prompt prompt = goal(goal);
        // The last agent reads the goal and all messages of two digits, then writes three tokens.
        final Context context = Context.of(prompt, Collections.nCopies(agents - 1, "99"));
        final int longest = Budget.TEMPLATE.render(context, Budget.role(agents - 1), View.TRANSCRIPT).get(0).content().length() + maxNewTokens;
        assertTrue(budget.contextLength(maxNewTokens) >= longest, budget.contextLength(maxNewTokens) + " for " + longest);
        assertTrue(prompt.text().chars().allMatch(c -> Budget.CHARACTERS.indexOf(c) >= 0));
    }

    @Test
    void rolesDiffer() {
        assertEquals(40, IntStream.range(0, 40).mapToObj(Budget::role).distinct().count());
        assertEquals("planner", Budget.role(0));
    }

    @Test
    void argumentsOutOfRange() {
        assertEquals("agents: expected 1 or more, given 0",
                assertThrows(IllegalArgumentException.class, () -> new Budget(0, 0)).getMessage());
        for (double width : new double[] {-1, Double.NaN, Double.POSITIVE_INFINITY}) {
            assertEquals("width: expected 0 or more and finite, given " + width,
                    assertThrows(IllegalArgumentException.class, () -> new Budget(2, width)).getMessage());
        }
    }
}
