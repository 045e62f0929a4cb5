package org.teamtr.team;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Who speaks next, as seen in the episodes that a team plays. */
class RouterTest {
    private static final int EPISODES = 40;

    /** For every episode the agents that spoke, in order. */
    private static List<List<Integer>> speakers(Router router, int agents, int turns, long seed) {
        final List<Agent> team = new ArrayList<>();
        for (int a = 0; a < agents; a++) {
            team.add(new Agent("agent" + a, Talker.named("m"), new PromptTemplate(null, "{prompt}{transcript}", "{text}"),
                    View.TRANSCRIPT, false));
        }
        final List<Prompt> prompts = IntStream.range(0, EPISODES / 2).mapToObj(i -> new Prompt("p" + i, "q" + i, null)).toList();
        final List<Episode> episodes = Rollout.play(new Team(team, router, turns, context -> false), prompts, 2,
                Talker.generation(Truncation.ERROR), context -> new Verifier.Score(0, false), seed);
        return episodes.stream().map(e -> e.messages().stream().map(Message::agent).toList()).toList();
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 2, 3, 8})
    void roundRobinGoesAroundAndAround(int agents) {
        final List<Integer> expected = IntStream.range(0, 10).map(t -> t % agents).boxed().toList();
        assertEquals(List.of(expected), speakers(Router.ROUND_ROBIN, agents, 10, 5).stream().distinct().toList());
    }

    @Test
    void randomDrawsForEveryEpisodeAndTurnByItself() {
        final List<List<Integer>> drawn = speakers(Router.RANDOM, 3, 50, 5);
        assertEquals(drawn, speakers(Router.RANDOM, 3, 50, 5));
        assertNotEquals(drawn, speakers(Router.RANDOM, 3, 50, 6));
        assertEquals(EPISODES, new HashSet<>(drawn).size(), "episodes of which no two are alike");
        for (int a = 0; a < 3; a++) {
            final int agent = a;
            final long count = drawn.stream().flatMap(List::stream).filter(x -> x == agent).count();
            // 2000 draws: 667, deviation 21
            assertTrue(Math.abs(count - 2000 / 3.0) < 5 * 21, "agent " + a + ": " + count);
        }
    }

    @Test
    void randomBatchDrawsOnceForAll() {
        final List<List<Integer>> drawn = speakers(Router.RANDOM_BATCH, 3, 50, 5);
        assertEquals(1, new HashSet<>(drawn).size());
        assertEquals(List.of(0, 1, 2), drawn.get(0).stream().distinct().sorted().toList());
        assertEquals(drawn, speakers(Router.RANDOM_BATCH, 3, 50, 5));
        assertNotEquals(drawn, speakers(Router.RANDOM_BATCH, 3, 50, 6));
    }

    @Test
    void aSequenceIsSpokenOnce() {
        final int[] order = {2, 0, 0, 1};
        final Router router = Router.sequence(order);
        order[0] = 1; // its own from the start
        assertEquals(List.of(List.of(2, 0, 0, 1)), speakers(router, 3, 10, 5).stream().distinct().toList());
        assertEquals(List.of(List.of(2, 0)), speakers(router, 3, 2, 5).stream().distinct().toList());
    }

    @Test
    void onesOwnSeesTheWholeContext() {
        // Prompts that end in 3 are answered twice by agent 1; all others by agent 0 until somebody says an odd digit.
        final Router own = (context, agents, seed) -> {
            assertEquals(3, agents);
            assertEquals(99, seed);
            assertEquals(context.messages().size(), context.turn());
            if (context.prompt().text().endsWith("3")) {
                return context.turn() < 2 ? 1 : Router.STOP;
            }
            return context.last() != null && context.last().text().matches(".*[13579]") ? Router.STOP : 0;
        };
        final List<List<Integer>> spoken = speakers(own, 3, 30, 99);
        for (int e = 0; e < EPISODES; e++) {
            if (("q" + e / 2).endsWith("3")) {
                assertEquals(List.of(1, 1), spoken.get(e));
            } else {
                assertEquals(List.of(0), spoken.get(e).stream().distinct().toList());
            }
        }
        assertTrue(spoken.stream().map(List::size).distinct().count() > 2, "lengths that depend on what was said: " + spoken);
    }

    @ParameterizedTest
    @ValueSource(ints = {3, -2, Integer.MAX_VALUE})
    void anAgentThatDoesNotExistIsAnError(int given) {
        final Router wrong = (context, agents, seed) -> context.turn() == 2 && context.prompt().id().equals("p7") ? given : 0;
        assertEquals("router: expected an agent from 0 to 2, or STOP = -1, given " + given + " in turn 2 of p7",
                assertThrows(IllegalArgumentException.class, () -> speakers(wrong, 3, 5, 1)).getMessage());
    }
}
