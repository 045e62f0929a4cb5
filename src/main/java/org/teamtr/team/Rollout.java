package org.teamtr.team;

import java.util.ArrayList;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Map;

/**
 * Plays episodes, many at once: in every turn, all rows whose next speakers share a policy are generated together.
 */
public final class Rollout {
    private Rollout() {
    }

    /**
     * Plays {@code group} episodes for every prompt.
     *
     * @param seed of this batch; the same seed, prompts and parameters give the same episodes
     * @return the episodes, those of one prompt next to each other
     * @throws IllegalArgumentException if a prompt leaves no room for a message of {@link Generation#maxNewTokens} tokens and may not
     *     be cut, or the router names an agent that does not exist
     */
    public static List<Episode> play(Team team, List<Prompt> prompts, int group, Generation generation, Verifier verifier, long seed) {
        final List<Context> contexts = new ArrayList<>(prompts.size() * group);
        for (Prompt prompt : prompts) {
            for (int g = 0; g < group; g++) {
                contexts.add(new Context(prompt, contexts.size()));
            }
        }
        List<Context> open = contexts;
        for (int turn = 0; turn < team.maxTurns() && !open.isEmpty(); turn++) {
            open = turn(team, open, turn, generation, seed);
        }
        final List<Episode> episodes = new ArrayList<>(contexts.size());
        for (Context context : contexts) {
            episodes.add(new Episode(context, verifier.score(context)));
        }
        return episodes;
    }

    /**
     * {@return the tokens that an agent is asked with at this point of a context}
     *
     * @throws IllegalArgumentException if they leave no room for a message and may not be cut
     */
    public static int[] ask(Agent agent, Context context, Generation generation) {
        final Speaker speaker = agent.speaker();
        final int[] tokens = speaker.encode(agent.template().render(context, agent.role(), agent.view()));
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

    /** One turn of all open episodes; returns those that go on. */
    private static List<Context> turn(Team team, List<Context> open, int turn, Generation generation, long seed) {
        record Row(Context context, int agent) {
        }
        final Map<Speaker, List<Row>> rows = new IdentityHashMap<>();
        final List<Speaker> order = new ArrayList<>(); // that of first appearance: an IdentityHashMap has none of its own
        for (Context context : open) {
            final int agent = team.router().next(context, team.agents().size(), seed);
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
        final List<Context> going = new ArrayList<>();
        for (Speaker speaker : order) {
            final List<Row> said = rows.get(speaker);
            final List<int[]> prompts = new ArrayList<>(said.size());
            final long[] ids = new long[said.size()];
            for (int i = 0; i < ids.length; i++) {
                final Context context = said.get(i).context();
                final Agent agent = team.agents().get(said.get(i).agent());
                prompts.add(ask(agent, context, generation));
                ids[i] = context.episode();
            }
            final List<Utterance> utterances = speaker.generate(prompts, generation, Chance.seed(seed, turn), ids);
            for (int i = 0; i < ids.length; i++) {
                final Context context = said.get(i).context();
                final int agent = said.get(i).agent();
                context.append(new Message(turn, agent, team.agents().get(agent).role(), utterances.get(i)));
            }
        }
        for (Context context : open) {
            if (context.turn() == turn + 1 && !team.stop().test(context)) {
                going.add(context);
            }
        }
        return going;
    }
}
