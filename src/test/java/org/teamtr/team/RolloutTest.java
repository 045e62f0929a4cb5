package org.teamtr.team;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.teamtr.kernels.SamplingConfig;

class RolloutTest {
    private static final PromptTemplate RELAY = new PromptTemplate(null, "{prompt}>{transcript}", "{text};");

    private static Agent agent(String role, Speaker speaker) {
        return new Agent(role, speaker, RELAY, View.TRANSCRIPT, false);
    }

    private static List<Prompt> prompts(int n) {
        return IntStream.range(0, n).mapToObj(i -> new Prompt("p" + i, "question " + i, null)).toList();
    }

    private static List<Episode> play(Team team, int prompts, int group, long seed) {
        return Rollout.play(team, prompts(prompts), group, Talker.generation(Truncation.ERROR),
                context -> new Verifier.Score(context.turn(), true), seed);
    }

    private static List<List<String>> texts(List<Episode> episodes) {
        return episodes.stream().map(e -> e.messages().stream().map(Message::text).toList()).toList();
    }

    /** Every agent reads, verbatim, what all agents before it wrote in its own episode. */
    @ParameterizedTest
    @ValueSource(ints = {1, 2, 3, 4, 5, 6, 7, 8, 12})
    void theNextAgentsInputHoldsThePreviousMessages(int n) {
        final List<Talker> talkers = IntStream.range(0, n).mapToObj(a -> Talker.named("agent" + a + ":")).toList();
        final Team team = Team.of(IntStream.range(0, n).mapToObj(a -> agent("agent" + a, talkers.get(a))).toList());
        final List<Episode> episodes = play(team, 5, 4, 1);
        assertEquals(20, episodes.size());
        final HashSet<String> all = new HashSet<>();
        for (int e = 0; e < 20; e++) {
            final Episode episode = episodes.get(e);
            assertEquals("p" + e / 4, episode.prompt().id(), "episodes of a prompt stand together");
            assertEquals(n, episode.messages().size());
            assertEquals(n, episode.reward());
            String transcript = "";
            for (int t = 0; t < n; t++) {
                final Message m = episode.messages().get(t);
                final int[] prompt = m.utterance().prompt();
                assertEquals("question " + e / 4 + ">" + transcript, new String(prompt, 0, prompt.length));
                assertEquals(t, m.turn());
                assertEquals(t, m.agent());
                assertEquals("agent" + t, m.role());
                assertTrue(m.text().startsWith("agent" + t + ":"), "the policy that was asked: " + m.text());
                assertTrue(all.add(m.text()), "said twice: " + m.text()); // noise of 32 bits tells rows and turns apart
                transcript += m.text() + ";";
            }
        }
    }

    /** One call per turn and policy, with all rows of it, and every row's answer goes to its own episode. */
    @Test
    void rowsOfOnePolicyAreGeneratedTogether() {
        final Talker shared = new Talker(1 << 20, (prompt, noise) -> "re " + prompt.substring(9, prompt.indexOf('>')));
        final Talker own = new Talker(1 << 20, (prompt, noise) -> "RE " + prompt.substring(9, prompt.indexOf('>')));
        // In every turn, agents 0 and 2 (one policy) and 1 speak in different episodes.
        final Router mixed = (context, agents, seed) -> (int) ((context.episode() + context.turn()) % 3);
        final Team team = new Team(List.of(agent("a", shared), agent("b", own), agent("c", shared)), mixed, 3, context -> false);
        final List<Episode> episodes = play(team, 6, 2, 1);
        assertEquals(3, shared.calls.size());
        assertEquals(3, own.calls.size());
        for (Talker.Call call : shared.calls) {
            assertEquals(8, call.prompts().size());
        }
        for (Talker.Call call : own.calls) {
            assertEquals(4, call.prompts().size());
        }
        for (int e = 0; e < 12; e++) {
            for (Message m : episodes.get(e).messages()) {
                assertEquals((m.agent() == 1 ? "RE " : "re ") + e / 2, m.text());
                assertEquals((e + m.turn()) % 3, m.agent());
            }
        }
        // No two rows of a turn share their noise, whichever policy they are of.
        for (int turn = 0; turn < 3; turn++) {
            final List<Long> ids = new ArrayList<>(shared.calls.get(turn).rowIds());
            ids.addAll(own.calls.get(turn).rowIds());
            assertEquals(12, new HashSet<>(ids).size());
            assertEquals(shared.calls.get(turn).seed(), own.calls.get(turn).seed());
        }
        assertEquals(3, shared.calls.stream().map(Talker.Call::seed).distinct().count());
    }

    /** Each policy has its own tokens and its own context length; nothing of one reaches another but text. */
    @Test
    void policiesMayDiffer() {
        final Talker small = new Talker(40, (prompt, noise) -> "small:" + prompt.length());
        final Talker large = new Talker(1 << 20, (prompt, noise) -> "large:" + prompt.length());
        final List<Episode> episodes = play(Team.of(List.of(agent("a", small), agent("b", large))), 1, 2, 1);
        assertEquals(List.of(List.of("small:11", "large:20"), List.of("small:11", "large:20")), texts(episodes));
        assertEquals(16, episodes.get(0).tokens());
    }

    @Test
    void stopsWhereItIsToldTo() {
        // Says 1, 2, 3, ...: what it is asked tells it where it is.
        final Talker counter = new Talker(1 << 20, (prompt, noise) -> Long.toString(1 + prompt.chars().filter(c -> c == ';').count()));
        final List<Agent> agents = List.of(agent("a", counter), agent("b", counter));
        assertEquals(List.of("1", "2", "3"), texts(play(new Team(agents, Router.ROUND_ROBIN, 9, c -> c.last().text().equals("3")), 1, 1, 1))
                .get(0), "stop condition");
        assertEquals(List.of("1", "2", "3", "4", "5"), texts(play(new Team(agents, Router.ROUND_ROBIN, 5, c -> false), 1, 1, 1)).get(0),
                "most turns");
        final Router early = (context, n, seed) -> context.turn() < 2 + context.episode() ? 0 : Router.STOP;
        assertEquals(List.of(2, 3, 4),
                play(new Team(agents, early, 9, c -> false), 3, 1, 1).stream().map(e -> e.messages().size()).toList(),
                "STOP, for each episode by itself");
        final List<Episode> silent = play(new Team(agents, (context, n, seed) -> Router.STOP, 9, c -> false), 2, 2, 1);
        assertEquals(List.of(0, 0, 0, 0), silent.stream().map(e -> e.messages().size()).toList());
    }

    /** A context of 30 tokens less 20 for the message leaves 10 of the prompt's 26. */
    @ParameterizedTest
    @CsvSource({"LEFT, qrstuvwxyz", "RIGHT, abcdefghij", "MIDDLE, abcdevwxyz"})
    void longPromptsAreCut(Truncation truncation, String kept) {
        final Talker talker = new Talker(30, (prompt, noise) -> prompt);
        final Team team = Team.of(List.of(new Agent("a", talker, new PromptTemplate(null, "{prompt}", ""), View.NONE, false)));
        final List<Prompt> prompts = List.of(new Prompt("long", "abcdefghijklmnopqrstuvwxyz", null),
                new Prompt("fits", "0123456789", null));
        final List<Episode> episodes = Rollout.play(team, prompts, 1, Talker.generation(truncation), c -> new Verifier.Score(0, false), 1);
        assertEquals(List.of(List.of(kept), List.of("0123456789")), texts(episodes));
    }

    @ParameterizedTest
    @CsvSource({"9, MIDDLE, abcdwxyz_", "1, MIDDLE, _", "1, LEFT, _", "1, RIGHT, a", "100, MIDDLE, abcdefghijklmnopqrstuvwxyz_"})
    void cutsOfOtherLengths(int room, Truncation truncation, String kept) {
        final int[] cut = truncation.cut("abcdefghijklmnopqrstuvwxyz_".chars().toArray(), room);
        assertEquals(kept, new String(cut, 0, cut.length));
    }

    @Test
    void promptsThatDoNotFitAreErrors() {
        final Talker talker = new Talker(30, (prompt, noise) -> "x");
        final Team team = Team.of(List.of(agent("a", Talker.named("")), agent("solver", talker)));
        final String error = assertThrows(IllegalArgumentException.class, () -> play(team, 3, 1, 1)).getMessage();
        assertEquals("prompt: expected 1 to 10 tokens (a context of 30 less max_new_tokens = 20), given 20 for solver in turn 1 of p0;"
                + " truncation may be left, right or middle", error);
        final Generation all = new Generation(1, SamplingConfig.ALL, 30, Truncation.LEFT);
        final String none = assertThrows(IllegalArgumentException.class,
                () -> Rollout.play(team, prompts(1), 1, all, c -> new Verifier.Score(0, false), 1)).getMessage();
        assertEquals("max_new_tokens: expected less than the context of 30 tokens of solver, given 30", none);
    }

    @Test
    void theSeedDecides() {
        final List<Agent> agents = IntStream.range(0, 3).mapToObj(a -> agent("agent" + a, Talker.named("m"))).toList();
        final Team team = new Team(agents, Router.RANDOM, 4, c -> c.last().text().endsWith("0"));
        final List<List<String>> once = texts(play(team, 8, 4, 7));
        assertEquals(once, texts(play(team, 8, 4, 7)));
        assertNotEquals(once, texts(play(team, 8, 4, 8)));
        assertEquals(32, once.stream().map(t -> t.get(0)).collect(Collectors.toSet()).size(), "episodes of a group differ");
    }

    /** An episode's noise is that of its place in the batch, whatever the others do. */
    @Test
    void anEpisodeDoesNotDependOnWhenOthersEnd() {
        final List<Agent> agents = List.of(agent("a", Talker.named("m")));
        final List<List<String>> all = texts(play(new Team(agents, Router.ROUND_ROBIN, 4, c -> false), 8, 1, 7));
        final List<List<String>> some = texts(play(new Team(agents, Router.ROUND_ROBIN, 4, c -> c.episode() % 2 == 0), 8, 1, 7));
        for (int e = 0; e < 8; e++) {
            assertEquals(all.get(e).subList(0, e % 2 == 0 ? 1 : 4), some.get(e));
        }
    }

    @Test
    void whatATeamMayNotBe() {
        final Talker talker = Talker.named("");
        assertTrue(assertThrows(IllegalArgumentException.class, () -> Team.of(List.of())).getMessage().startsWith("agents: expected one"));
        assertEquals("agents: expected roles that differ, given [a, b, a]", assertThrows(IllegalArgumentException.class,
                () -> Team.of(List.of(agent("a", talker), agent("b", talker), agent("a", talker)))).getMessage());
        assertEquals("maxTurns: expected 1 or more, given 0", assertThrows(IllegalArgumentException.class,
                () -> new Team(List.of(agent("a", talker)), Router.ROUND_ROBIN, 0, c -> false)).getMessage());
        assertEquals("reward: expected a finite number, given NaN",
                assertThrows(IllegalArgumentException.class, () -> new Verifier.Score(Double.NaN, false)).getMessage());
    }
}
