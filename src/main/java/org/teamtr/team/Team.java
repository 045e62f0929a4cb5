package org.teamtr.team;

import java.util.List;
import java.util.Objects;
import java.util.function.Predicate;

/**
 * Agents, the order in which they write, and the end of an episode.
 *
 * @param agents one or more
 * @param router which agent writes next
 * @param maxTurns the largest number of messages of an episode, 1 or more
 * @param stop evaluated after every message; true ends the episode before {@code maxTurns}
 */
public record Team(List<Agent> agents, Router router, int maxTurns, Predicate<Context> stop) {
    /** @throws IllegalArgumentException if there is no agent, two share a name, or maxTurns is less than 1 */
    public Team {
        agents = List.copyOf(agents);
        Objects.requireNonNull(router, "router");
        Objects.requireNonNull(stop, "stop");
        if (agents.isEmpty()) {
            throw new IllegalArgumentException("agents: expected one or more, given none");
        }
        if (agents.stream().map(Agent::role).distinct().count() < agents.size()) {
            throw new IllegalArgumentException("agents: expected roles that differ, given "
                    + agents.stream().map(Agent::role).toList());
        }
        if (maxTurns < 1) {
            throw new IllegalArgumentException("maxTurns: expected 1 or more, given " + maxTurns);
        }
    }

    /** {@return the agents in turn, each once} */
    public static Team of(List<Agent> agents) {
        return new Team(agents, Router.ROUND_ROBIN, agents.size(), context -> false);
    }
}
