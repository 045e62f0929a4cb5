package org.teamtr.train;

import java.util.List;
import java.util.function.Supplier;
import org.teamtr.team.Team;

/**
 * A policy that an update changes, with the agents that use it, and the state of its trust region. Agents that share a
 * policy learn together, as one.
 */
public final class Learner {
    final String name;
    final Policy policy;
    final List<Integer> agents;
    /** The configured radius and the current one, which differ if it is adapted. */
    final double delta0;
    double delta;
    double beta;
    /** Null until it is measured. */
    Floor floor;

    /**
     * The monitor's value without a training step, which is rounding.
     *
     * @param kl in the unit of the trust region
     * @param length mean tokens of the messages it was measured on
     * @param moved sum of the KL of the updates since
     */
    record Floor(double kl, double length, double moved) {
        /** Whether it is still valid: messages are about as long, and the policy is about the same. */
        boolean holds(double lengthNow, double delta) {
            return lengthNow <= 1.25 * length && length <= 1.25 * lengthNow && moved <= 10 * delta;
        }
    }

    /**
     * @param name of the agents, for logs
     * @param agents indices in the team
     * @param delta radius δ of Eq. 11 in nats, +inf for none
     * @param beta first weight β of the KL term
     */
    public Learner(String name, Policy policy, List<Integer> agents, double delta, double beta) {
        if (!(delta > 0)) {
            throw new IllegalArgumentException("delta: expected more than 0, given " + delta + " for " + name);
        }
        this.name = name;
        this.policy = policy;
        this.agents = List.copyOf(agents);
        this.delta0 = delta;
        this.delta = delta;
        this.beta = beta;
    }

    /** {@return the agents' names, joined by +} */
    public String name() {
        return name;
    }

    /** {@return the policy} */
    public Policy policy() {
        return policy;
    }

    /** {@return the radius δ as configured, in nats, +inf for none} */
    public double radius() {
        return delta0;
    }

    /** An update has changed the policy by this KL. */
    void addUpdate(double kl) {
        floor = floor == null ? null : new Floor(floor.kl, floor.length, floor.moved + Math.max(0, kl));
    }

    /** {@return what {@code work} gives with the parameters of a snapshot} The current ones are restored. */
    <T> T withParameters(Policy.Snapshot old, Supplier<T> work) {
        try (Policy.Snapshot now = policy.snapshot()) {
            policy.restore(old);
            try {
                return work.get();
            } finally {
                policy.restore(now);
            }
        }
    }

    static List<String> names(List<Learner> learners) {
        return learners.stream().map(learner -> learner.name).toList();
    }

    boolean speaksAs(int agent) {
        return agents.contains(agent);
    }

    /** Checks that exactly the learner's agents use its policy. */
    void check(Team team) {
        for (int a = 0; a < team.agents().size(); a++) {
            if ((team.agents().get(a).speaker() == policy) != speaksAs(a)) {
                throw new IllegalArgumentException("learner " + name + ": expected it to hold exactly the agents of its policy, given "
                        + agents + ", which is wrong about agent " + a + " (" + team.agents().get(a).role() + ")");
            }
        }
    }
}
