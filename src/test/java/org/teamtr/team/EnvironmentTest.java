package org.teamtr.team;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;

class EnvironmentTest {
    private static final PromptTemplate RELAY = new PromptTemplate(null, "{prompt}>{transcript}", "{role}:{text};");

    private static Agent agent(String role, Speaker speaker, View view) {
        return new Agent(role, speaker, RELAY, view, false);
    }

    /** Repeats messages, ends after three of them; one that asks asks the oracle after the second. */
    private static class Echo implements Environment {
        private final List<Long> seeds = new ArrayList<>();
        private final boolean asks;

        Echo(boolean asks) {
            this.asks = asks;
        }

        @Override
        public Course start(Prompt prompt, long seed) {
            seeds.add(seed);
            return new Course() {
                private int heard;

                @Override
                public Observation opening() {
                    return new Observation("world", "hello " + prompt.id());
                }

                @Override
                public Step step(Message message, Context context) {
                    assertEquals(message, context.last());
                    heard++;
                    if (asks && heard == 2) {
                        return Step.ask(List.of(new ChatTurn("user", message.text())));
                    }
                    return heard == 3 ? Step.end(new Observation("world", "bye")) : Step.of(new Observation("world", "heard " + message.text()));
                }

                @Override
                public Step answered(String answer) {
                    return Step.of(new Observation("world", "oracle says " + answer));
                }

                @Override
                public Score score(Context context) {
                    return new Score(heard, heard == 3);
                }
            };
        }

        @Override
        public Oracle oracle() {
            return asks ? (questions, seed, ids) -> {
                final List<String> answers = new ArrayList<>();
                for (int i = 0; i < questions.size(); i++) {
                    answers.add(ids[i] + "/" + questions.get(i).get(0).content());
                }
                return answers;
            } : null;
        }
    }

    private static List<Episode> play(Environment environment, int turns, View view) {
        final Talker counter = new Talker(1 << 20, (prompt, noise) -> Long.toString(prompt.chars().filter(c -> c == ';').count()));
        final Team team = new Team(List.of(agent("a", counter, view), agent("b", counter, view)), Router.ROUND_ROBIN, turns, c -> false);
        return Rollout.play(team, List.of(new Prompt("p0", "q", null), new Prompt("p1", "q", null)), 2, Talker.generation(Truncation.ERROR),
                environment, 5);
    }

    /** What is said and answered stands in the next agent's input, in its order; observations are no messages and take no turns. */
    @Test
    void observationsEnterTheContextAndNothingElse() {
        final Echo echo = new Echo(false);
        final List<Episode> episodes = play(echo, 9, View.TRANSCRIPT);
        for (Episode e : episodes) {
            final String opening = "world:hello " + e.prompt().id() + ";";
            assertEquals(List.of("1", "3", "5"), e.messages().stream().map(Message::text).toList());
            assertEquals(List.of("a", "b", "a"), e.messages().stream().map(Message::role).toList(), "agents take turns as without it");
            final int[] asked = e.messages().get(2).utterance().prompt();
            assertEquals("q>" + opening + "a:1;world:heard 1;b:3;world:heard 3;", new String(asked, 0, asked.length));
            assertEquals("bye", e.context().observation(2).text());
            assertEquals(3, e.reward());
            assertEquals(e.messages().stream().mapToLong(m -> m.utterance().tokens().length).sum(), e.tokens(), "only what was generated counts");
            assertEquals(new Verifier.Score(3, true), echo.score(e.context()), "played again it is the same");
            assertEquals(2, e.context().before(2).turn());
            assertEquals("heard 1", e.context().before(2).observation(0).text());
        }
        assertEquals(echo.seeds.get(0), echo.seeds.get(1), "episodes of a group have one seed");
        assertNotEquals(echo.seeds.get(1), echo.seeds.get(2), "those of another prompt have another");
    }

    @Test
    void theTeamsTurnsEndAnEpisodeToo() {
        assertEquals(List.of(2.0, 2.0, 2.0, 2.0), play(new Echo(false), 2, View.TRANSCRIPT).stream().map(Episode::reward).toList());
    }

    @Test
    void anOracleAnswersWhatTheEnvironmentAsks() {
        final List<Episode> episodes = play(new Echo(true), 9, View.TRANSCRIPT);
        for (int e = 0; e < 4; e++) {
            assertEquals("oracle says " + e + "/3", episodes.get(e).context().observation(1).text());
        }
        final Echo asking = new Echo(true);
        assertEquals("p0: the environment asks an oracle and has none",
                assertThrows(IllegalStateException.class, () -> play(asking::start, 9, View.NONE)).getMessage());
    }

    /** Its own messages are the assistant's turns, a tool's results the tool's, all else the user's; two of the user's become one. */
    @Test
    void conversations() {
        final Context context = new Context(new Prompt("p", "q", null), 0);
        context.open(new Observation("world", "hello"));
        context.append(new Message(0, 0, "a", said("one")));
        context.observe(new Observation("tool", "result"));
        context.append(new Message(1, 1, "b", said("two")));
        context.observe(new Observation("world", "seen"));
        context.append(new Message(2, 0, "a", said("three")));
        assertEquals(List.of(new ChatTurn("user", "q>world:hello;"), new ChatTurn("assistant", "one"), new ChatTurn("tool", "result"),
                new ChatTurn("user", "b:two;\nworld:seen;"), new ChatTurn("assistant", "three")), RELAY.render(context, "a", View.CONVERSATION));
        assertEquals(List.of(new ChatTurn("user", "q>world:hello;\na:one;\ntool:result;"), new ChatTurn("assistant", "two"),
                new ChatTurn("user", "world:seen;\na:three;")), RELAY.render(context, "b", View.CONVERSATION));
        assertEquals(List.of(new ChatTurn("user", "q>world:hello;")), RELAY.render(context, "a", View.NONE));
        assertEquals(List.of(new ChatTurn("user", "q>world:hello;a:three;")), RELAY.render(context, "a", View.PREDECESSOR));
        assertNull(context.observation(2));
    }

    private static Utterance said(String text) {
        return new Utterance(new int[0], new int[0], new float[0], text, true, 0);
    }

    @Test
    void faultsNameThePrompt() {
        final Environment broken = (prompt, seed) -> {
            throw new IllegalStateException("the database is gone");
        };
        assertEquals("p0: the database is gone", assertThrows(IllegalStateException.class, () -> play(broken, 1, View.NONE)).getMessage());
        faults("p0: java.lang.ArithmeticException in org.teamtr.team.EnvironmentTest.", Router.ROUND_ROBIN, context -> {
            throw new ArithmeticException();
        });
        faults("p0: java.lang.StackOverflowError: brackets in org.teamtr.team.EnvironmentTest.", Router.ROUND_ROBIN, context -> {
            throw new StackOverflowError("brackets");
        });
        faults("p0: java.lang.NullPointerException: no score from org.teamtr.team.EnvironmentTest", Router.ROUND_ROBIN, context -> null);
        faults("p0: java.lang.NullPointerException", (context, agents, seed) -> context.last().agent(), context -> null);
    }

    private static void faults(String expected, Router router, Verifier verifier) {
        final Team team = new Team(List.of(agent("a", Talker.named("a"), View.NONE)), router, 1, context -> false);
        final String message = assertThrows(EpisodeException.class, () -> Rollout.play(team,
                List.of(new Prompt("p0", "q", null)), 1, Talker.generation(Truncation.ERROR), verifier, 1)).getMessage();
        assertTrue(message.startsWith(expected), message);
    }

    /** The question that was not answered says which item it is of. */
    @Test
    void faultsOfOraclesNameTheirPrompt() {
        final Oracle second = (questions, seed, ids) -> {
            throw new Oracle.Failure(2, "nobody there", null);
        };
        final Echo echo = new Echo(true) {
            @Override
            public Oracle oracle() {
                return second;
            }
        };
        assertEquals("p1: nobody there", assertThrows(EpisodeException.class, () -> play(echo, 9, View.NONE)).getMessage());
        final Echo short1 = new Echo(true) {
            @Override
            public Oracle oracle() {
                return (questions, seed, ids) -> List.of("one");
            }
        };
        assertEquals("p0: the oracle was asked 4 questions and gave 1 answers",
                assertThrows(EpisodeException.class, () -> play(short1, 9, View.NONE)).getMessage());
    }

    @Test
    void longObservationsAreCutAndSaySo() {
        assertEquals("ab\n[3 characters cut]", new Observation("r", "abcde").cut(2).text());
        assertEquals("a\n[2 characters cut]", new Observation("r", "a\uD83D\uDE00").cut(2).text());
        assertEquals("ab", new Observation("r", "ab").cut(2).text());
        assertEquals(List.of("ab\n[1 characters cut]", "ab"), Observation.tools(List.of("abc", "ab")).cut(2).results());
    }
}
