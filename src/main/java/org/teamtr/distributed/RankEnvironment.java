package org.teamtr.distributed;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/**
 * Which rank this process is, from the environment variables that torchrun sets, and that Kubeflow's PyTorchJob, Ray Train and a
 * line of shell under Slurm set likewise.
 *
 * @param rank RANK, from 0 on
 * @param size WORLD_SIZE
 * @param localRank LOCAL_RANK: its number among its machine's ranks, and the number of its GPU
 * @param localSize LOCAL_WORLD_SIZE, the ranks of its machine; where it is not set, 1
 * @param host MASTER_ADDR, where the ranks meet
 * @param port MASTER_PORT
 * @param served whether the launcher itself listens there, as torchrun does; otherwise rank 0 does
 * @param attempt how often the launcher has restarted the ranks
 */
public record RankEnvironment(int rank, int size, int localRank, int localSize, String host, int port, boolean served, int attempt) {
    /** Set by {@link Launcher}: the process that a rank should not outlive. */
    static final String LAUNCHER = "TEAMTR_LAUNCHER";

    /**
     * {@return what the variables say, or null where they name only one rank} One rank of torchrun counts, since an elastic job may have
     * shrunk to it, and may grow again.
     *
     * @throws RanksException if one is missing or invalid, naming it
     */
    public static RankEnvironment of(Map<String, String> variables) {
        final boolean served = variables.getOrDefault("TORCHELASTIC_USE_AGENT_STORE", "").equals("True");
        if (!variables.containsKey("WORLD_SIZE") || variables.get("WORLD_SIZE").equals("1") && !served) {
            return null;
        }
        final List<String> missing = new ArrayList<>();
        for (String name : List.of("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")) {
            if (variables.getOrDefault(name, "").isEmpty()) {
                missing.add(name);
            }
        }
        if (!missing.isEmpty()) {
            throw new RanksException("environment: WORLD_SIZE=" + variables.get("WORLD_SIZE") + " asks for several ranks; expected "
                    + String.join(", ", missing) + " too, as torchrun sets them (docs/devices.md)");
        }
        final int size = number(variables, "WORLD_SIZE", 1, 1 << 20, null);
        final int rank = number(variables, "RANK", 0, size - 1, null);
        final int localSize = number(variables, "LOCAL_WORLD_SIZE", 1, size, 1);
        final int localRank = number(variables, "LOCAL_RANK", 0, Integer.MAX_VALUE, 0);
        return new RankEnvironment(rank, size, localRank, localSize, variables.get("MASTER_ADDR"),
                number(variables, "MASTER_PORT", 1, 65535, null), served,
                number(variables, "TORCHELASTIC_RESTART_COUNT", 0, Integer.MAX_VALUE, 0));
    }

    private static int number(Map<String, String> variables, String name, int least, int most, Integer otherwise) {
        final String text = variables.getOrDefault(name, "");
        if (text.isEmpty() && otherwise != null) {
            return otherwise;
        }
        final int value;
        try {
            value = Integer.parseInt(text.trim());
        } catch (NumberFormatException e) {
            throw new RanksException("environment: " + name + ": expected a whole number, given " + text, e);
        }
        if (value < least || value > most) {
            throw new RanksException("environment: " + name + ": expected " + least + " to " + most + ", given " + value);
        }
        return value;
    }

    /** {@return whether all ranks are on one machine} */
    public boolean oneMachine() {
        return localSize == size;
    }
}
