package org.teamtr.team;

import java.util.SplittableRandom;

/**
 * Who speaks next. Sees the whole context and keeps no state, so there is nothing to reset or to save: what it needs to remember
 * stands in the context.
 *
 * <p>One's own router is a lambda: {@code (context, agents, seed) -> context.last() != null && context.last().text().contains("?")
 * ? 1 : 0}.
 */
@FunctionalInterface
public interface Router {
    /**
     * @param context of the episode
     * @param agents how many agents the team has
     * @param seed of this batch of episodes; random routers key their draws by it and by the turn
     * @return the index of the next speaker, 0 to agents - 1, or {@link #STOP}
     */
    int next(Context context, int agents, long seed);

    /** Nobody: the episode is over. */
    int STOP = -1;

    /** Agents 0, 1, 2, ... in turn, over and over. */
    Router ROUND_ROBIN = (context, agents, seed) -> context.turn() % agents;

    /** Each episode draws its next speaker by itself. */
    Router RANDOM = (context, agents, seed) -> Chance.of(seed, context.turn(), context.episode()).nextInt(agents);

    /** One draw per turn for all episodes of the batch. */
    Router RANDOM_BATCH = (context, agents, seed) -> {
        final SplittableRandom random = Chance.of(seed, context.turn());
        return random.nextInt(agents);
    };

    /** {@return these speakers in this order, then the end} */
    static Router sequence(int... speakers) {
        final int[] order = speakers.clone();
        return (context, agents, seed) -> context.turn() < order.length ? order[context.turn()] : STOP;
    }
}
