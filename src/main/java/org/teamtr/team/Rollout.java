package org.teamtr.team;

import java.util.ArrayList;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.function.IntUnaryOperator;
import java.util.function.Supplier;
import java.util.stream.IntStream;
import org.teamtr.distributed.Ranks;

/**
 * Plays episodes, many at once: in every turn, all rows whose next speakers share a policy are generated together. Where policies of a
 * team are on different devices, episodes are played in {@link Groups}, so that one policy generates while another does.
 */
public final class Rollout {
    /** Keys of the random numbers of environments and oracles. */
    private static final long ENVIRONMENT = 0x656E76;
    private static final long ORACLE = 0x6F7261;
    private static final long TEACHER = 0x746561;
    /** The key of the division of prompts among ranks. */
    private static final long DIVIDED = 0x646976;
    /** A longer observation is cut, with a note. */
    private static final int LONGEST_OBSERVATION = 50_000;

    private Rollout() {
    }

    /**
     * Plays {@code group} episodes for every prompt.
     *
     * @param seed of this batch; the same seed, prompts and parameters give the same episodes
     * @param verifier what scores them; an {@link Environment} also answers their messages
     * @return the episodes, those of one prompt next to each other
     * @throws IllegalArgumentException if a prompt leaves no room for a message of {@link Generation#maxNewTokens} tokens and may not
     *     be cut, or the router names an agent that does not exist
     */
    public static List<Episode> play(Team team, List<Prompt> prompts, int group, Generation generation, Verifier verifier, long seed) {
        return play(team, prompts, group, generation, verifier, seed, Ranks.ONE);
    }

    /**
     * The same, divided among ranks: each plays the episodes of its share of the prompts, drawn by {@code seed}, and all get all of
     * them. Draws are keyed by the numbers of prompts and episodes, so that they are what one rank alone would draw.
     */
    public static List<Episode> play(Team team, List<Prompt> prompts, int group, Generation generation, Verifier verifier, long seed,
            Ranks ranks) {
        team.agents().stream().map(Agent::speaker).distinct().forEach(Speaker::ready);
        ready(verifier);
        return play(team, prompts, group, generation, verifier, seed, ranks, episodes -> Groups.count(team, episodes),
                (speaker, rows, asked, turn) -> speaker.generate(asked, generation, KeyedRandom.seed(seed, turn),
                        rows.stream().mapToLong(row -> row.context().episode()).toArray()));
    }

    /**
     * Plays an episode for every prompt in which a teacher writes the messages of all agents, as supervised examples.
     *
     * @return the episodes; of their messages the prompts' tokens and the texts count, they have no tokens of their own
     */
    public static List<Episode> demonstrate(Team team, List<Prompt> prompts, Generation generation, Verifier verifier, long seed, Teacher teacher) {
        return play(team, prompts, 1, generation, verifier, seed, Ranks.ONE, episodes -> 1, (speaker, rows, asked, turn) -> {
            final List<Utterance> said = new ArrayList<>(rows.size());
            for (int i = 0; i < rows.size(); i++) {
                final Context context = rows.get(i).context();
                said.add(new Utterance(asked.get(i), new int[0], new float[0], teacher.say(context, team.agents().get(rows.get(i).agent()).role(),
                        KeyedRandom.of(seed, TEACHER, turn, context.episode())), true, 0));
            }
            return said;
        });
    }

    /** An episode, and the agent that writes next in it. */
    private record Row(Context context, int agent) {
    }

    /** Gives the next messages of episodes whose next speakers share a policy. */
    private interface Voice {
        List<Utterance> speak(Speaker speaker, List<Row> rows, List<int[]> asked, int turn);
    }

    private static List<Episode> play(Team team, List<Prompt> prompts, int group, Generation generation, Verifier verifier, long seed,
            Ranks ranks, IntUnaryOperator groups, Voice voice) {
        final List<Context> contexts = new ArrayList<>(prompts.size() * group);
        final int[] mine = ranks.size() == 1 ? IntStream.range(0, prompts.size()).toArray()
                : ranks.share(KeyedRandom.permutation(prompts.size(), seed, DIVIDED));
        for (int p : mine) {
            for (int g = 0; g < group; g++) {
                contexts.add(new Context(prompts.get(p), (long) p * group + g, KeyedRandom.seed(seed, ENVIRONMENT, p)));
            }
        }
        final World world = new World(verifier, contexts, seed);
        Groups.play(contexts, groups.applyAsInt(contexts.size()), (some, turns) -> {
            List<Context> open = some;
            for (int turn = 0; turn < team.maxTurns() && !open.isEmpty(); turn++) {
                open = turn(team, open, turn, generation, seed, world, voice, turns);
            }
        });
        final Episode[] episodes = new Episode[prompts.size() * group];
        for (Context context : contexts) {
            episodes[(int) context.episode()] = new Episode(context, world.score(context));
        }
        if (ranks.size() > 1) {
            ranks.gather("episodes", EpisodeBytes.of(episodes)).forEach(bytes -> EpisodeBytes.into(episodes, bytes, prompts, group));
        }
        return List.of(episodes);
    }

    /** The environment of every episode that has one. */
    private static final class World {
        private final Verifier verifier;
        private final Environment environment; // null where there is none
        private final Map<Context, Environment.Course> courses = new IdentityHashMap<>();
        private final long seed;

        World(Verifier verifier, List<Context> contexts, long seed) {
            this.verifier = verifier;
            this.environment = verifier instanceof Environment e ? e : null;
            this.seed = seed;
            for (Context context : environment == null ? List.<Context>of() : contexts) {
                final Environment.Course course = naming(context, () -> environment.start(context.prompt(), context.seed()));
                if (course != null) {
                    courses.put(context, course);
                    context.open(cut(naming(context, course::opening)));
                }
            }
            final List<Context> asking = contexts.stream().filter(c -> courses.get(c) != null && courses.get(c).openingQuestion() != null).toList();
            if (!asking.isEmpty()) {
                final List<String> answers = ask(asking, asking.stream().map(c -> courses.get(c).openingQuestion()).toList(), -1);
                for (int i = 0; i < answers.size(); i++) {
                    final Context context = asking.get(i);
                    final String answer = answers.get(i);
                    context.open(cut(naming(context, () -> courses.get(context).answered(answer)).observation()));
                }
            }
        }

        List<Map<String, Object>> tools() {
            return environment == null ? List.of() : environment.tools();
        }

        /** Gives the latest messages of these episodes to their environments; returns the episodes that continue. */
        List<Context> step(List<Context> spoken, int turn) {
            final Map<Context, Environment.Step> steps = new IdentityHashMap<>();
            for (Context context : spoken) {
                final Environment.Course course = courses.get(context);
                if (course != null) {
                    steps.put(context, naming(context, () -> course.step(context.last(), context)));
                }
            }
            while (true) { // all questions of a round are answered together
                final List<Context> asking = spoken.stream().filter(c -> steps.get(c) != null && steps.get(c).question() != null).toList();
                if (asking.isEmpty()) {
                    break;
                }
                final List<String> answers = ask(asking, asking.stream().map(c -> steps.get(c).question()).toList(), turn);
                for (int i = 0; i < asking.size(); i++) {
                    final Context context = asking.get(i);
                    final String answer = answers.get(i);
                    steps.put(context, naming(context, () -> courses.get(context).answered(answer)));
                }
            }
            final List<Context> going = new ArrayList<>();
            for (Context context : spoken) {
                final Environment.Step step = steps.get(context);
                if (step != null && step.observation() != null) {
                    context.observe(cut(step.observation()));
                }
                if (step == null || !step.done()) {
                    going.add(context);
                }
            }
            return going;
        }

        private List<String> ask(List<Context> asking, List<List<ChatTurn>> questions, int turn) {
            final Oracle oracle = environment.oracle();
            if (oracle == null) {
                throw new EpisodeException(asking.get(0).prompt().id(), new IllegalStateException("the environment asks an oracle and has none"));
            }
            final List<String> answers;
            try {
                answers = oracle.answer(questions, KeyedRandom.seed(seed, ORACLE, turn), asking.stream().mapToLong(Context::episode).toArray());
            } catch (Oracle.Failure e) {
                throw new EpisodeException(asking.get(e.question()).prompt().id(), e);
            } catch (RuntimeException e) {
                throw new EpisodeException(asking.get(0).prompt().id(), e);
            }
            if (answers.size() != asking.size()) {
                throw new EpisodeException(asking.get(0).prompt().id(), new IllegalStateException("the oracle was asked " + asking.size()
                        + " questions and gave " + answers.size() + " answers"));
            }
            return answers;
        }

        Verifier.Score score(Context context) {
            final Environment.Course course = courses.get(context);
            return naming(context, () -> Objects.requireNonNull(course != null ? course.score(context) : verifier.score(context),
                    () -> "no score from " + (course != null ? course : verifier).getClass().getName()));
        }

        private static Observation cut(Observation observation) {
            return observation == null ? null : observation.cut(LONGEST_OBSERVATION);
        }

    }

    /** Failures of a user's own classes name the prompt. */
    private static <T> T naming(Context context, Supplier<T> work) {
        try {
            return work.get();
        } catch (EpisodeException e) {
            throw e;
        } catch (RuntimeException | AssertionError | LinkageError | StackOverflowError e) {
            throw new EpisodeException(context.prompt().id(), e);
        }
    }

    private static void ready(Verifier verifier) {
        if (verifier instanceof Environment environment && environment.oracle() != null) {
            environment.oracle().ready();
        }
    }

    /** {@return the context that an episode of this prompt begins with} What an environment says first is in it. */
    public static Context begin(Prompt prompt, long episode, Verifier verifier, long seed) {
        ready(verifier);
        final Context context = new Context(prompt, episode, KeyedRandom.seed(seed, ENVIRONMENT, 0));
        new World(verifier, List.of(context), seed); // which opens it
        return context;
    }

    /**
     * {@return the tokens of an agent's prompt at this point of a context}
     *
     * @throws IllegalArgumentException if they leave no room for a message and may not be cut
     */
    public static int[] ask(Agent agent, Context context, Generation generation) {
        return ask(agent, context, generation, List.of());
    }

    private static int[] ask(Agent agent, Context context, Generation generation, List<Map<String, Object>> tools) {
        final Speaker speaker = agent.speaker();
        final int[] tokens = speaker.encode(agent.template().render(context, agent.role(), agent.view()), tools);
        final int room = speaker.contextLength() - generation.maxNewTokens();
        if (room < 1) {
            throw new IllegalArgumentException("max_new_tokens: expected less than the context of " + speaker.contextLength()
                    + " tokens of " + agent.role() + ", given " + generation.maxNewTokens());
        }
        final boolean cut = tokens.length > room && generation.truncation() != Truncation.ERROR;
        if (tokens.length == 0 || tokens.length > room && !cut) {
            throw new IllegalArgumentException("prompt: expected 1 to " + room + " tokens (a context of "
                    + speaker.contextLength() + " less max_new_tokens = " + generation.maxNewTokens() + "), given "
                    + tokens.length + " for " + agent.role() + " in turn " + context.turn() + " of " + context.prompt().id()
                    + "; truncation may be left, right or middle");
        }
        return cut ? generation.truncation().cut(tokens, room) : tokens;
    }

    /** Plays one turn of all open episodes; returns those that continue. */
    private static List<Context> turn(Team team, List<Context> open, int turn, Generation generation, long seed,
            World world, Voice voice, Groups.Turns turns) {
        final Map<Speaker, List<Row>> rows = new IdentityHashMap<>();
        final List<Speaker> order = new ArrayList<>(); // that of first appearance: an IdentityHashMap has none of its own
        turns.on(Groups.REST, () -> {
            for (Context context : open) {
                final int agent = naming(context, () -> team.router().next(context, team.agents().size(), seed));
                if (agent == Router.STOP) {
                    continue;
                }
                if (agent < 0 || agent >= team.agents().size()) {
                    throw new IllegalArgumentException("router: expected an agent from 0 to " + (team.agents().size() - 1)
                            + ", or STOP = " + Router.STOP + ", given " + agent + " in turn " + turn + " of " + context.prompt().id());
                }
                final Speaker speaker = team.agents().get(agent).speaker();
                rows.computeIfAbsent(speaker, s -> {
                    order.add(s);
                    return new ArrayList<>();
                }).add(new Row(context, agent));
            }
        });
        for (Speaker speaker : order) {
            final List<Row> said = rows.get(speaker);
            turns.on(speaker.device(), () -> {
                final List<int[]> prompts = new ArrayList<>(said.size());
                for (Row row : said) {
                    prompts.add(ask(team.agents().get(row.agent()), row.context(), generation, world.tools()));
                }
                final List<Utterance> utterances = voice.speak(speaker, said, prompts, turn);
                for (int i = 0; i < said.size(); i++) {
                    final Context context = said.get(i).context();
                    final int agent = said.get(i).agent();
                    context.append(new Message(turn, agent, team.agents().get(agent).role(), utterances.get(i)));
                }
            });
        }
        final List<Context> going = new ArrayList<>();
        turns.on(Groups.REST, () -> {
            for (Context context : world.step(open.stream().filter(context -> context.turn() == turn + 1).toList(), turn)) {
                if (!team.stop().test(context)) {
                    going.add(context);
                }
            }
        });
        return going;
    }
}
