package org.teamtr.team;

import java.util.SplittableRandom;

/**
 * Decides which agent writes next. It sees the whole context and keeps no state of its own, so that nothing has to be reset or saved.
 *
 * <p>A router of your own can be a lambda: {@code (context, agents, seed) -> context.last() != null && context.last().text().contains("?")
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

    /** No agent: the episode is over. */
    int STOP = -1;

    /** Agents 0, 1, 2, ... in turn, over and over. */
    Router ROUND_ROBIN = (context, agents, seed) -> context.turn() % agents;

    /** The next speaker is drawn for each episode separately. */
    Router RANDOM = (context, agents, seed) -> KeyedRandom.of(seed, context.turn(), context.episode()).nextInt(agents);

    /** One draw per turn for all episodes of the batch. */
    Router RANDOM_BATCH = (context, agents, seed) -> {
        final SplittableRandom random = KeyedRandom.of(seed, context.turn());
        return random.nextInt(agents);
    };

    /** {@return these speakers in this order, then the end} */
    static Router sequence(int... speakers) {
        final int[] order = speakers.clone();
        return (context, agents, seed) -> context.turn() < order.length ? order[context.turn()] : STOP;
    }
}
