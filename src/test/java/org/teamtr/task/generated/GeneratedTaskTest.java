package org.teamtr.task.generated;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.teamtr.kernels.SamplingConfig;
import org.teamtr.task.Verifiers;
import org.teamtr.task.environment.Calculator;
import org.teamtr.task.environment.Environments;
import org.teamtr.team.Agent;
import org.teamtr.team.ChatTurn;
import org.teamtr.team.KeyedRandom;
import org.teamtr.team.Context;
import org.teamtr.team.Environment;
import org.teamtr.team.Episode;
import org.teamtr.team.Generation;
import org.teamtr.team.Message;
import org.teamtr.team.Prompt;
import org.teamtr.team.PromptTemplate;
import org.teamtr.team.Prompts;
import org.teamtr.team.Rollout;
import org.teamtr.team.ScriptedSpeaker;
import org.teamtr.team.Router;
import org.teamtr.team.Speaker;
import org.teamtr.team.Team;
import org.teamtr.team.Truncation;
import org.teamtr.team.View;

/** Prompts that programs make, and the teachers that come with them, in the environments that they are made for. */
class GeneratedTaskTest {
    private static final Map<GeneratedTask.Name, String> ENVIRONMENT = Map.of(GeneratedTask.Name.GUESS_NUMBER, "guess_number",
            GeneratedTask.Name.BLOCKSWORLD, "plan_feedback", GeneratedTask.Name.ARITHMETIC, "tools");

    private static List<Prompt> prompts(GeneratedTask task, boolean heldOut, int n, long seed) {
        final Prompts prompts = task.prompts(heldOut, n, seed);
        return IntStream.range(0, n).mapToObj(prompts::get).toList();
    }

    /** Episodes in which two agents say what the task's teacher says. */
    private static List<Episode> taught(GeneratedTask.Name name, GeneratedTask task, int turns, double mistakes, List<Prompt> prompts, long seed) {
        final List<String> tools = List.of(Calculator.class.getName());
        final Environments.Settings settings = new Environments.Settings(turns, true, tools, List.of(), null, null, null);
        final Environment environment = Environments.of(ENVIRONMENT.get(name), settings, Verifiers.Settings.DEFAULT,
                Verifiers.of(task.verifier(), Verifiers.Settings.DEFAULT));
        final Speaker mute = new ScriptedSpeaker() { // the teacher speaks in its place
            @Override
            public int[] encode(List<ChatTurn> turns, List<Map<String, Object>> descriptions) {
                return encode(turns);
            }
        };
        final PromptTemplate template = new PromptTemplate(null, "{prompt}\n{transcript}", "{text}\n");
        final Team team =
                new Team(List.of(new Agent("a", mute, template, View.TRANSCRIPT, false), new Agent("b", mute, template, View.TRANSCRIPT, false)),
                        Router.ROUND_ROBIN, turns + 1, context -> false);
        final Generation generation = new Generation(1, SamplingConfig.ALL, 64, Truncation.ERROR);
        return Rollout.demonstrate(team, prompts, generation, environment, seed, task.teacher(mistakes));
    }

    private static double solved(List<Episode> episodes) {
        return episodes.stream().filter(e -> e.score().correct()).count() / (double) episodes.size();
    }

    /** Who is always right solves everything, as the environment sees it; who is always wrong does not; half the mistakes lie between. */
    @ParameterizedTest
    @CsvSource({"GUESS_NUMBER,1,5,4", "GUESS_NUMBER,2,4,6", "BLOCKSWORLD,3,3,2", "BLOCKSWORLD,4,12,2", "ARITHMETIC,2,9,2", "ARITHMETIC,4,99,2"})
    void teachersSolveTheirTasks(GeneratedTask.Name name, int size, int choices, int turns) {
        final GeneratedTask task = GeneratedTask.named(name, size, choices);
        for (boolean heldOut : new boolean[] {false, true}) {
            final List<Prompt> prompts = prompts(task, heldOut, 100, 5);
            assertEquals(1, solved(taught(name, task, turns, 0, prompts, 1)), heldOut ? "held-out prompts" : "prompts to train on");
            final double wrong = solved(taught(name, task, turns, 1, prompts, 1));
            final double half = solved(taught(name, task, turns, 0.5, prompts, 1));
            assertTrue(wrong < half && half < 1, wrong + ", " + half);
        }
    }

    /** The model's tokenizer has a token for every character that is read or written, and its phrases occur. */
    @ParameterizedTest
    @CsvSource({"GUESS_NUMBER,1,5,4", "GUESS_NUMBER,3,4,9", "BLOCKSWORLD,4,6,2", "ARITHMETIC,3,99,2"})
    void textsAreMadeOfTheCharactersThereAre(GeneratedTask.Name name, int size, int choices, int turns) {
        final GeneratedTask task = GeneratedTask.named(name, size, choices);
        final StringBuilder all = new StringBuilder();
        for (Episode e : taught(name, task, turns, 0.5, prompts(task, false, 100, 3), 2)) {
            all.append(e.prompt().text());
            for (Message m : e.messages()) {
                all.append(m.text()).append(e.context().observation(m.turn()) == null ? "" : e.context().observation(m.turn()).text());
            }
        }
        all.chars().forEach(c -> assertTrue(GeneratedTask.CHARACTERS.indexOf(c) >= 0, "character " + c));
        final long seen = task.phrases().stream().filter(phrase -> all.indexOf(phrase) >= 0).count();
        assertTrue(seen > 1, seen + " of " + task.phrases());
        assertEquals(task.phrases().size(), new HashSet<>(task.phrases()).size(), "no phrase twice");
    }

    /** Prompts depend on set, seed and number alone, and none to train on is held out. */
    @ParameterizedTest
    @CsvSource({"GUESS_NUMBER,1,5", "BLOCKSWORLD,3,4", "ARITHMETIC,2,30"})
    void promptsAreDrawnByNumberAndKeptApart(GeneratedTask.Name name, int size, int choices) {
        final GeneratedTask task = GeneratedTask.named(name, size, choices);
        final List<Prompt> train = prompts(task, false, 200, 7);
        final List<Prompt> heldOut = prompts(task, true, 200, 7);
        assertEquals(train, prompts(task, false, 200, 7));
        assertEquals(train.subList(0, 50), prompts(task, false, 50, 7));
        assertNotEquals(train, prompts(task, false, 200, 8));
        assertEquals("train:17", train.get(17).id());
        assertEquals("held-out:17", heldOut.get(17).id());
        final Set<String> both = new HashSet<>(train.stream().map(Prompt::text).toList());
        assertTrue(both.size() > 1 || name == GeneratedTask.Name.GUESS_NUMBER);
        both.retainAll(heldOut.stream().map(Prompt::text).toList());
        assertEquals(!task.apart(), !both.isEmpty(), "of both sets: " + both);
    }

    /** The share of mistakes is that of messages which follow the wrong rule. */
    @Test
    void mistakesAreAShareOfTheMessages() {
        final GeneratedTask task = GeneratedTask.named(GeneratedTask.Name.ARITHMETIC, 2, 9);
        final Prompt prompt = task.prompts(false, 1, 1).get(0);
        int wrong = 0;
        for (int i = 0; i < 4000; i++) {
            wrong += task.teacher(0.3).say(new Context(prompt, i), "a", KeyedRandom.of(9, i)).startsWith("Answer") ? 1 : 0;
        }
        assertEquals(0.3, wrong / 4000.0, 4 * Math.sqrt(0.3 * 0.7 / 4000));
    }

    @Test
    void sumsAreRight() {
        final Pattern sum = Pattern.compile("(\\d+)([-+*])(\\d+)([-+*])(\\d+) = \\?");
        for (Prompt p : prompts(GeneratedTask.named(GeneratedTask.Name.ARITHMETIC, 3, 99), false, 300, 2)) {
            final Matcher m = sum.matcher(p.text());
            assertTrue(m.matches(), p.text());
            final long a = Long.parseLong(m.group(1));
            final long b = Long.parseLong(m.group(3));
            final long c = Long.parseLong(m.group(5));
            final boolean late = m.group(4).equals("*") && !m.group(2).equals("*");
            assertEquals(late ? of(a, m.group(2), of(b, "*", c)) : of(of(a, m.group(2), b), m.group(4), c), Long.parseLong(p.answer()), p.text());
        }
    }

    private static long of(long a, String operator, long b) {
        return operator.equals("+") ? a + b : operator.equals("-") ? a - b : a * b;
    }

    /** Played with piles of blocks instead of facts: every action can be done, and what the prompt wants on what is so in the end. */
    @Test
    void plansAreRight() {
        for (Prompt p : prompts(GeneratedTask.named(GeneratedTask.Name.BLOCKSWORLD, 4, 8), false, 200, 4)) {
            final Map<String, String> under = new HashMap<>(); // what each block stands on
            final String[] halves = p.text().split("My goal is to have that ");
            final Matcher m = Pattern.compile("the (\\w+) block is on (?:top of the (\\w+) block|the table)").matcher(halves[0].substring(
                    halves[0].lastIndexOf("[STATEMENT]")));
            while (m.find()) {
                under.put(m.group(1), m.group(2) == null ? "table" : m.group(2));
            }
            assertEquals(4, under.size(), p.text());
            String held = null;
            for (String line : p.answer().split("\n")) {
                final Matcher a =
                        Pattern.compile("(pick up|put down|stack|unstack) the (\\w+) block(?: (?:from )?on top of the (\\w+) block)?").matcher(line);
                assertTrue(a.matches(), line);
                final String block = a.group(2);
                if (a.group(1).equals("pick up") || a.group(1).equals("unstack")) {
                    assertTrue(held == null && !under.containsValue(block), line);
                    assertEquals(a.group(3) == null ? "table" : a.group(3), under.remove(block), line);
                    held = block;
                } else {
                    assertEquals(held, block, line);
                    assertTrue(a.group(3) == null || under.containsKey(a.group(3)) && !under.containsValue(a.group(3)), line);
                    under.put(block, a.group(3) == null ? "table" : a.group(3));
                    held = null;
                }
            }
            final Matcher goal = Pattern.compile("the (\\w+) block is on top of the (\\w+) block").matcher(halves[halves.length - 1]);
            int wanted = 0;
            while (goal.find()) {
                assertEquals(goal.group(2), under.get(goal.group(1)), p.text());
                wanted++;
            }
            assertTrue(wanted > 0, p.text());
        }
    }

    /** Every number is the secret once in every six prompts, in an order that changes. */
    @Test
    void secretsAreEven() {
        final GeneratedTask task = GeneratedTask.named(GeneratedTask.Name.GUESS_NUMBER, 2, 3);
        final List<String> secrets = prompts(task, false, 60, 1).stream().map(Prompt::answer).toList();
        final Set<List<String>> orders = new HashSet<>();
        for (int round = 0; round < 10; round++) {
            final List<String> order = secrets.subList(6 * round, 6 * round + 6);
            assertEquals(Set.of("12", "13", "21", "23", "31", "32"), new HashSet<>(order));
            orders.add(order);
        }
        assertTrue(orders.size() > 5, orders.toString());
    }

    /** Who is right says all that answers allow, who is wrong anything; 12 for 31 has one digit, in another place. */
    @ParameterizedTest
    @CsvSource({"0,I guess 12,23 31", "1,I guess 12,12 13 21 23 31 32", "0,I do not know,12 13 21 23 31 32", "0,so 12 and then 23,31 12"})
    void guessesAreThoseThatAnswersAllow(double mistakes, String before, String expected) {
        final GeneratedTask task = GeneratedTask.named(GeneratedTask.Name.GUESS_NUMBER, 2, 3);
        final Context context = Context.of(new Prompt("x", "?", "31"), List.of(before));
        final Map<String, Integer> said = new HashMap<>();
        for (int i = 0; i < 1000; i++) {
            said.merge(task.teacher(mistakes).say(context, "a", KeyedRandom.of(4, i)), 1, Integer::sum);
        }
        final List<String> numbers = List.of(expected.split(" "));
        assertEquals(new HashSet<>(numbers), said.keySet());
        said.values().forEach(n -> assertEquals(1000.0 / numbers.size(), n, 5 * Math.sqrt(1000.0 / numbers.size())));
    }

    @ParameterizedTest
    @CsvSource(delimiter = '|', value = {
        "GUESS_NUMBER | 5 | 9 | task.generated.size: expected 1 to 4 for guess_number with 9 digits to choose from, given 5",
        "GUESS_NUMBER | 1 | 10 | task.generated.choices: expected 2 to 9 for guess_number, given 10",
        "BLOCKSWORLD | 3 | 2 | task.generated.size: expected 2 to 2 for blocksworld with 2 names of blocks, given 3",
        "ARITHMETIC | 1 | 9 | task.generated.size: expected 2 to 6 for arithmetic, given 1"})
    void whatCannotBeMadeIsSaid(GeneratedTask.Name name, int size, int choices, String message) {
        assertEquals(message, assertThrows(IllegalArgumentException.class, () -> GeneratedTask.named(name, size, choices)).getMessage());
    }
}
