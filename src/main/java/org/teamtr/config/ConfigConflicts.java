package org.teamtr.config;

import java.util.Collection;
import java.util.HashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import org.teamtr.team.PromptTemplate;
import org.teamtr.train.Config;

/** The combinations of keys of a configuration that are refused. */
final class ConfigConflicts {
    private ConfigConflicts() {
    }

    /** Checks combinations of keys. */
    static void check(ConfigTree tree, Config config) {
        team(tree, Setup.resolved(config)); // the budget task's own team has roles too
        final Config.Rollout rollout = config.rollout();
        if (rollout.importanceWeighting() && rollout.resampleEvery() == 1 && rollout.reuseShift() == 0) {
            tree.problem("rollout.importance_weighting",
                    "expected false with rollout.resample_every 1, given true: fresh rollouts have nothing to weigh");
        }
        if (rollout.reuseShift() > 0 && (rollout.resampleEvery() == 0 || config.train().joint())) {
            tree.problem("rollout.reuse_shift", "expected 0 with "
                    + (config.train().joint() ? "train.joint" : "rollout.resample_every 0") + ", given "
                    + rollout.reuseShift() + ": all of a stage learns from the same rollouts then");
        }
        episodes(tree, "rollout", rollout.prompts(), rollout.group());
        episodes(tree, "eval", config.eval().prompts(), config.eval().group());
        final Config.TrustRegion region = config.trustRegion();
        if (region.rollback() && !region.earlyStop()) {
            tree.problem("trust_region.rollback", "expected false with trust_region.early_stop false, given true:"
                    + " only an update that ends where it leaves the region can go back");
        }
        if (region.betaMax() < region.betaMin()) {
            tree.problem("trust_region.beta_max", "expected trust_region.beta_min = " + region.betaMin() + " or more, given "
                    + region.betaMax());
        } else if (region.betaRule() == Config.BetaRule.ADAPTIVE && (region.beta() < region.betaMin() || region.beta() > region.betaMax())) {
            tree.problem("trust_region.beta", "expected " + region.betaMin() + " to " + region.betaMax()
                    + " (beta_min to beta_max) with beta_rule adaptive, given " + region.beta()
                    + "; for no KL term, beta_rule is none");
        }
        if (region.deltaRule() == Config.DeltaRule.ADAPTIVE && region.delta().values().contains(Double.POSITIVE_INFINITY)) {
            tree.problem("trust_region.delta", "expected a finite number with trust_region.delta_rule adaptive, given .inf");
        }
        if (region.accept() == Config.Accept.CERTIFIED && config.certificate().bound() != Config.BoundKind.HORIZON) {
            tree.problem("trust_region.accept", "expected region with certificate.bound paper, given certified: the paper's bound is taken from"
                    + " the episodes that chose the update");
        }
        final Config.Bound bound = config.certificate();
        if (bound.returnMin() != null && bound.returnMax() != null && bound.returnMin() >= bound.returnMax()) {
            tree.problem("certificate.return_max", "expected more than certificate.return_min = " + bound.returnMin() + ", given "
                    + bound.returnMax());
        }
        if (config.task().name() == Config.TaskName.FILES) {
            if (config.task().files().train() == null) {
                tree.problem("task.files.train", "expected a file with task.name files, given nothing");
            }
        }
        if (config.task().name() != Config.TaskName.BUDGET && config.team().agents().isEmpty()) {
            tree.problem("team.agents", "expected one or more with task.name " + config.task().name() + ", given none");
        }
        if (Setup.isGenerated(config)) {
            try {
                Setup.generated(config);
            } catch (IllegalArgumentException e) {
                final int colon = e.getMessage().indexOf(": ");
                tree.problem(e.getMessage().substring(0, colon), e.getMessage().substring(colon + 2));
            }
        }
    }

    /** Episodes are counted as {@code int}. */
    private static void episodes(ConfigTree tree, String section, int prompts, int group) {
        if ((long) prompts * group > Integer.MAX_VALUE) {
            tree.problem(section + ".group", String.format(Locale.ROOT, "expected at most %,d episodes with %s.prompts = %,d, given %,d for each",
                    Integer.MAX_VALUE, section, prompts, group));
        }
    }

    /** Roles and policies exist, and agents that share a policy are trained together. */
    private static void team(ConfigTree tree, Config config) {
        final List<Config.Agent> agents = config.team().agents();
        if (agents.isEmpty()) {
            return;
        }
        final Set<String> roles = new HashSet<>();
        for (int i = 0; i < agents.size(); i++) {
            final Config.Agent agent = agents.get(i);
            final String path = "team.agents[" + i + "].";
            if (agent.role() != null && !roles.add(agent.role())) {
                tree.problem(path + "role", "expected roles that differ, given " + agent.role() + " twice");
            }
            if (agent.policy() != null && !config.policies().containsKey(agent.policy())) {
                tree.problem(path + "policy", "expected a name under policies (there " + (config.policies().isEmpty() ? "is none"
                        : "are " + String.join(", ", config.policies().keySet())) + "), given " + agent.policy());
            }
            template(tree, path + "system", () -> new PromptTemplate(agent.system(), "", ""));
            template(tree, path + "template", () -> new PromptTemplate(null, agent.template(), ""));
            template(tree, path + "message", () -> new PromptTemplate(null, "", agent.message()));
        }
        roles(tree, "team.router", config.team().router().roles(), roles);
        roles(tree, "train.agents", config.train().agents().named(), roles);
        roles(tree, "task.environment.agents", config.task().environment().agents().named(), roles);
        oracle(tree, config);
        final List<String> trained = agents.stream().filter(a -> !a.frozen()).map(Config.Agent::role)
                .filter(role -> role != null && config.train().agents().contains(role)).toList();
        final List<String> some = config.train().agents().named();
        if (new HashSet<>(some).size() < some.size()) {
            tree.problem("train.agents", "expected each role once, given " + some);
        }
        if (trained.isEmpty() && agents.stream().allMatch(a -> a.role() != null)) {
            tree.problem("team.agents", "expected one agent or more that is trained, given none: all are frozen or not in train.agents");
        }
        for (int i = 0; i < agents.size(); i++) {
            final Config.Agent agent = agents.get(i);
            if (!trained.contains(agent.role()) && agent.policy() != null && agents.stream().anyMatch(
                    a -> agent.policy().equals(a.policy()) && trained.contains(a.role()))) {
                tree.problem("team.agents[" + i + "].policy", "expected a policy of its own, or that of agents that are not trained"
                        + " either, given " + agent.policy() + ", which training changes");
            }
        }
        final List<String> order = config.train().order().roles();
        if (roles(tree, "train.order", order, roles) && config.train().order().kind() == Config.Order.Kind.LISTED
                && !(order.size() == trained.size() && new HashSet<>(order).equals(new HashSet<>(trained)))) {
            tree.problem("train.order", "expected every trained agent once, " + trained + " in some order, given " + order);
        }
        final Map<String, Double> deltas = config.trustRegion().delta().byRole();
        if (deltas != null && roles(tree, "trust_region.delta", deltas.keySet(), roles)
                && !deltas.keySet().containsAll(trained)) {
            tree.problem("trust_region.delta", "expected a number for every trained agent, " + trained + ", given " + deltas.keySet());
        }
    }

    private static void oracle(ConfigTree tree, Config config) {
        final Config.Environment e = config.task().environment();
        final boolean needed = List.of("detective", "situation", "retail").contains(e.name());
        if (needed && e.oracle() == null) {
            tree.problem("task.environment.oracle", "expected the oracle that answers in " + e.name()
                    + ": script, a name under policies, or the address of an endpoint, given nothing");
        } else if (e.oracle() != null && !e.oracle().equals("script") && !e.oracle().matches("https?://.+")
                && !config.policies().containsKey(e.oracle())) {
            tree.problem("task.environment.oracle",
                    "expected script, a name under policies, or an address that begins with http, given " + e.oracle());
        } else if (e.oracle() != null && e.oracle().matches("https?://.+") && e.oracleModel() == null) {
            tree.problem("task.environment.oracle_model", "expected the name of a model that the endpoint has, given nothing");
        } else if (e.oracle() != null && config.team().agents().stream().anyMatch(a -> e.oracle().equals(a.policy()) && !a.frozen())) {
            tree.problem("task.environment.oracle", "expected a policy that no trained agent uses, given " + e.oracle());
        }
    }

    private static boolean roles(ConfigTree tree, String path, Collection<String> given, Set<String> roles) {
        if (!roles.containsAll(given)) {
            tree.problem(path, "expected roles among " + roles.stream().sorted().toList() + ", given " + given);
            return false;
        }
        return true;
    }

    private static void template(ConfigTree tree, String path, Runnable make) {
        try {
            make.run();
        } catch (IllegalArgumentException e) {
            tree.problem(path, e.getMessage().replaceFirst("^\\w+: ", ""));
        }
    }
}
