package org.teamtr.config;

import static java.util.Map.entry;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.function.DoublePredicate;
import java.util.function.Predicate;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;
import org.teamtr.kernels.DType;
import org.teamtr.kernels.SurrogateConfig;
import org.teamtr.task.Verifiers;
import org.teamtr.task.environment.Environments;
import org.teamtr.task.generated.GeneratedTask;
import org.teamtr.team.Truncation;
import org.teamtr.team.View;
import org.teamtr.train.Config;
import org.teamtr.train.Matmul;
import org.teamtr.train.Policy;
import org.teamtr.train.Sharding;
import org.teamtr.train.StepLength;

/** The range of each key of a configuration; {@link ConfigConflicts} has the combinations of keys that are refused. */
public final class ConfigRules {
    private static final String UNFILTERED = ": the ratios of Eq. 10 and the KL of Eq. 11 are of the unfiltered softmax; eval may filter";
    /** With its package, since a misspelt built-in name has no dot. */
    private static final Pattern CLASS_NAME = Pattern.compile("(\\p{javaJavaIdentifierPart}+\\.)+\\p{javaJavaIdentifierPart}+");

    /** The value of every key that holds one; {@code []} stands for any index and {@code <name>} for any name. */
    private static final Map<String, Rule> RULES = Map.ofEntries(
            entry("seed", whole(Long.MIN_VALUE, Long.MAX_VALUE)),
            entry("task.name", oneOf(Config.TaskName.class)),
            entry("task.generated.name", oneOf(GeneratedTask.Name.class)),
            entry("task.generated.size", whole(1)),
            entry("task.generated.choices", whole(1)),
            entry("task.generated.held_out", whole(1)),
            entry("task.budget.agents", whole(1, 1000)),
            entry("task.budget.view", oneOf("none", "predecessor", "transcript")),
            entry("task.budget.width", notNegative()),
            entry("task.budget.held_out", whole(1)),
            entry("task.files.train", text().orNull()),
            entry("task.files.eval", text().orNull()),
            entry("task.files.prompt_column", text()),
            entry("task.files.answer_column", text().orNull()),
            entry("task.files.id_column", text().orNull()),
            entry("task.files.source_column", text().orNull()),
            entry("task.files.verifier", oneOf(Verifiers.names().toArray(String[]::new)).orClassOf("org.teamtr.team.Verifier")),
            entry("task.files.votes", whole(1)),
            entry("task.files.wrong", number("a number less than 1", d -> d < 1 && Double.isFinite(d))),
            entry("task.files.dense", flag()),
            entry("task.files.lenient", flag()),
            entry("task.files.python", text()),
            entry("task.environment.name", oneOf(Stream.concat(Stream.of("none"), Environments.NAMES.stream()).toArray(String[]::new))
                    .orClassOf("org.teamtr.team.Environment")),
            entry("task.environment.turns", whole(1)),
            entry("task.environment.early_stop", flag()),
            entry("task.environment.tools", new Rule("a list of class names", v -> v.isArray() && stream(v).allMatch(
                    t -> t.isTextual() && CLASS_NAME.matcher(t.textValue()).matches()))),
            entry("task.environment.agents", oneOf("all").orRoles()),
            entry("task.environment.oracle", text().orNull()),
            entry("task.environment.oracle_model", text().orNull()),
            entry("task.environment.oracle_key", text().orNull()),
            entry("task.environment.oracle_timeout", whole(1)),
            entry("task.environment.oracle_retries", whole(0, 100)),
            entry("task.environment.database", text().orNull()),
            entry("task.environment.tool_schemas", text().orNull()),
            entry("team.agents[].role", text()),
            entry("team.agents[].policy", text()),
            entry("team.agents[].system", text().orNull()),
            entry("team.agents[].template", text()),
            entry("team.agents[].message", text()),
            entry("team.agents[].view", oneOf(View.class)),
            entry("team.agents[].frozen", flag()),
            entry("team.router", oneOf("round_robin", "random", "random_batch").orRoles().orClassOf("org.teamtr.team.Router")),
            entry("team.turns", whole(0)),
            entry("team.stop", text().orNull()),
            entry("policies.<name>.model", text()),
            entry("policies.<name>.random", flag()),
            entry("policies.<name>.dtype", oneOf(DType.class)),
            entry("policies.<name>.lora.rank", whole(0)),
            entry("policies.<name>.lora.alpha", positive()),
            entry("policies.<name>.lora.targets",
                    listOf("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")),
            entry("policies.<name>.thinking", flag()),
            entry("policies.<name>.device", new Rule("cpu, cuda or cuda:N", v -> v.isTextual() && v.textValue().matches("cpu|cuda(:[0-9]{1,3})?"))
                    .orNull()),
            entry("warm_start.layers", whole(1, 1000)),
            entry("warm_start.width", new Rule("a multiple of 8, of 8 or more", v -> v.isIntegralNumber() && v.canConvertToInt()
                    && v.intValue() >= 8 && v.intValue() % 8 == 0)),
            entry("warm_start.mistakes", number("a number from 0 to 1", d -> d >= 0 && d <= 1)),
            entry("warm_start.steps", whole(0)),
            entry("warm_start.batch", whole(1)),
            entry("warm_start.learning_rate", positive()),
            entry("train.stages", whole(0)),
            entry("train.order", oneOf("fixed", "reversed", "random").orRoles()),
            entry("train.agents", oneOf("all").orRoles()),
            entry("train.joint", flag()),
            entry("rollout.prompts", whole(1)),
            entry("rollout.group", whole(2)),
            entry("rollout.validation_fraction", number("a number of 0 or more and less than 1", d -> d >= 0 && d < 1)),
            entry("rollout.temperature", positive()),
            entry("rollout.top_k", number("0 (no filter)" + UNFILTERED, d -> d == 0)),
            entry("rollout.top_p", number("1 (no filter)" + UNFILTERED, d -> d == 1)),
            entry("rollout.min_p", number("0 (no filter)" + UNFILTERED, d -> d == 0)),
            entry("rollout.max_new_tokens", whole(1)),
            entry("rollout.truncation", oneOf(Truncation.class)),
            entry("rollout.resample_every", whole(0)),
            entry("rollout.reuse_shift", number("a number of 0 or more, .inf for no limit,", d -> d >= 0)),
            entry("rollout.dynamic_sampling", whole(0)),
            entry("rollout.importance_weighting", flag()),
            entry("rollout.importance_cap", notNegative()),
            entry("rollout.prompts_per", oneOf(Config.PromptsPer.class)),
            entry("trust_region.delta", positiveOrNone().orByRole()),
            entry("trust_region.delta_factor", positive()),
            entry("trust_region.unit", oneOf(Config.Unit.class)),
            entry("trust_region.delta_rule", oneOf(Config.DeltaRule.class)),
            entry("trust_region.delta_target", notNegative()),
            entry("trust_region.monitor", oneOf(Config.KlEstimator.class)),
            entry("trust_region.monitor_dtype", oneOf(Policy.Precision.class)),
            entry("trust_region.floor", oneOf(Config.FloorRule.class)),
            entry("trust_region.fraction", number("a number more than 0 and at most 1", d -> d > 0 && d <= 1)),
            entry("trust_region.early_stop", flag()),
            entry("trust_region.rollback", flag()),
            entry("trust_region.step_length", oneOf(StepLength.class)),
            entry("trust_region.halvings", whole(0)),
            entry("trust_region.beta", notNegative()),
            entry("trust_region.beta_rule", oneOf(Config.BetaRule.class)),
            entry("trust_region.beta_min", positive()),
            entry("trust_region.beta_max", positive()),
            entry("trust_region.accept", oneOf(Config.Accept.class)),
            entry("loss.ratio", oneOf(SurrogateConfig.Ratio.class)),
            entry("loss.clip_low", number("a number from 0 to 1, or .inf for none",
                    d -> d >= 0 && d <= 1 || d == Double.POSITIVE_INFINITY)),
            entry("loss.clip_high", number("a number of 0 or more, or .inf for none", d -> d >= 0)),
            entry("loss.aggregation", oneOf("token_mean", "seq_mean_token_sum", "seq_mean_token_mean")),
            entry("loss.kl_term", oneOf("none", "k1", "k2", "k3", "exact")),
            entry("loss.kl_aggregation", oneOf(Config.KlAggregation.class)),
            entry("loss.entropy", notNegative()),
            entry("loss.advantage_clip", positiveOrNone()),
            entry("loss.eps_norm", positive()),
            entry("loss.normalise", flag()),
            entry("optimiser.learning_rate", positive()),
            entry("optimiser.steps", whole(1)),
            entry("optimiser.beta1", number("a number of 0 or more and less than 1", d -> d >= 0 && d < 1)),
            entry("optimiser.beta2", number("a number of 0 or more and less than 1", d -> d >= 0 && d < 1)),
            entry("optimiser.eps", positive()),
            entry("optimiser.weight_decay", notNegative()),
            entry("optimiser.max_grad_norm", positiveOrNone()),
            entry("optimiser.micro_batch_tokens", whole(1)),
            entry("eval.every", whole(0)),
            entry("eval.prompts", whole(1)),
            entry("eval.group", whole(1)),
            entry("eval.temperature", notNegative()),
            entry("eval.top_p", number("a number more than 0 and at most 1", d -> d > 0 && d <= 1)),
            entry("eval.transcripts", whole(0)),
            entry("checkpoint.every", whole(1)),
            entry("checkpoint.keep", whole(1)),
            entry("hardware.device", oneOf("cpu", "cuda")),
            entry("hardware.threads", whole(0, 1024)), // a mistyped number would start as many
            entry("hardware.matmul", oneOf(Matmul.class)),
            entry("hardware.cuda_graphs", flag()),
            entry("hardware.flash_attention", flag()),
            entry("hardware.memory.offload", flag()),
            entry("hardware.memory.pinned", flag()),
            entry("hardware.memory.rows", whole(0)),
            entry("hardware.memory.logits", notNegative()),
            entry("hardware.memory.device", notNegative()),
            entry("hardware.memory.host", notNegative()),
            entry("hardware.ranks.timeout", positive()),
            entry("hardware.ranks.shard", oneOf(Sharding.class)),
            entry("certificate.bound", oneOf(Config.BoundKind.class)),
            entry("certificate.level", number("a number more than 0 and less than 1", d -> d > 0 && d < 1)),
            entry("certificate.prompts", whole(1)),
            entry("certificate.budget", whole(0)),
            entry("certificate.halvings", whole(0)),
            entry("certificate.return_min", number("a finite number", Double::isFinite).orNull()),
            entry("certificate.return_max", number("a finite number", Double::isFinite).orNull()),
            entry("certificate.check", flag()),
            entry("certificate.gamma",
                    number("a number of 0 or more and less than 1 (at 1, c = sqrt(2) gamma A_max / (1 - gamma)^2 has no value)",
                            d -> d >= 0 && d < 1).orNull()),
            entry("certificate.a_max", positive().orNull()),
            entry("diagnostics.occupancy", flag()),
            entry("diagnostics.monitor", flag()),
            entry("diagnostics.logits", flag()),
            entry("diagnostics.coordination", flag()));

    private ConfigRules() {
    }

    /** @param expected what is right, in words */
    private record Rule(String expected, Predicate<JsonNode> holds) {
        Rule or(String more, Predicate<JsonNode> alternative) {
            return new Rule(expected + " or " + more, holds.or(alternative));
        }

        Rule orNull() {
            return or("null", JsonNode::isNull);
        }

        Rule orRoles() {
            return or("a list of roles", ConfigRules::isTexts);
        }

        Rule orClassOf(String type) {
            return or("the full name of a class that implements " + type, v -> v.isTextual() && CLASS_NAME.matcher(v.textValue()).matches());
        }

        Rule orByRole() {
            return or("a map from roles to such", v -> v.isObject() && !v.isEmpty() && stream(v).allMatch(holds));
        }
    }

    private static Rule whole(long least) {
        return whole(least, Integer.MAX_VALUE);
    }

    private static Rule whole(long least, long most) {
        final String range = least == Long.MIN_VALUE ? "from -2^63 to 2^63 - 1" : most == Integer.MAX_VALUE ? "of " + least + " or more"
                : "from " + least + " to " + most;
        return new Rule("a whole number " + range, v -> {
            // 1e3 is whole too; a double holds every whole number up to 2^53.
            final boolean exact = v.isIntegralNumber() ? v.canConvertToLong()
                    : v.isDouble() && v.doubleValue() == Math.rint(v.doubleValue()) && Math.abs(v.doubleValue()) <= 0x1p53;
            return exact && v.longValue() >= least && v.longValue() <= most;
        });
    }

    private static Rule number(String expected, DoublePredicate holds) {
        return new Rule(expected, v -> v.isNumber() && holds.test(v.doubleValue()));
    }

    private static Rule positive() {
        return number("a number more than 0", d -> d > 0 && Double.isFinite(d));
    }

    private static Rule positiveOrNone() {
        return number("a number more than 0, .inf for none,", d -> d > 0);
    }

    private static Rule notNegative() {
        return number("a number of 0 or more", d -> d >= 0 && Double.isFinite(d));
    }

    private static Rule flag() {
        return new Rule("true or false", JsonNode::isBoolean);
    }

    private static Rule text() {
        return new Rule("text", v -> v.isTextual() && !v.textValue().isEmpty());
    }

    private static Rule oneOf(String... names) {
        return new Rule(names.length == 1 ? names[0] : "one of " + String.join(", ", names),
                v -> v.isTextual() && List.of(names).contains(v.textValue()));
    }

    private static Rule oneOf(Class<? extends Enum<?>> type) {
        return oneOf(Arrays.stream(type.getEnumConstants()).map(e -> e.name().toLowerCase(Locale.ROOT)).toArray(String[]::new));
    }

    private static Rule listOf(String... names) {
        final Set<String> allowed = Set.of(names);
        return new Rule("a list of one or more of " + String.join(", ", names) + ", each once", v -> isTexts(v)
                && stream(v).allMatch(t -> allowed.contains(t.textValue())) && stream(v).distinct().count() == v.size());
    }

    private static boolean isTexts(JsonNode v) {
        return v.isArray() && !v.isEmpty() && stream(v).allMatch(JsonNode::isTextual);
    }

    private static Stream<JsonNode> stream(JsonNode v) {
        return StreamSupport.stream(v.spliterator(), false);
    }

    /** {@return a value as problems show it} */
    public static String shown(JsonNode v) {
        final String text = v.isNull() ? "nothing" : v.isTextual() ? "\"" + v.textValue() + "\"" : v.toString();
        return text.length() > 80 ? text.substring(0, 77) + "..." : text;
    }

    /**
     * Checks every key and value by itself.
     *
     * @param known all keys with their defaults, with one entry in lists and maps of entries
     * @return what is right of {@code given}, and the defaults for what is not, so that the rest can still be checked
     */
    static ObjectNode values(ConfigTree tree, ObjectNode given, ObjectNode known) {
        return (ObjectNode) values(tree, given, known, known, "", "");
    }

    private static JsonNode values(ConfigTree tree, JsonNode given, JsonNode known, ObjectNode all, String path, String pattern) {
        final Rule rule = RULES.get(pattern);
        if (rule != null) {
            if (rule.holds().test(given)) {
                return given;
            }
            final boolean quotes = rule.expected().startsWith("text") && given.isValueNode() && !given.isNull() && !given.isTextual();
            tree.problem(path, "expected " + rule.expected() + (quotes ? " (in quotes)" : "") + ", given " + shown(given));
            return known;
        }
        if (known instanceof ArrayNode pair) {
            final ArrayNode right = pair.arrayNode();
            if (!given.isArray()) {
                tree.problem(path, "expected a list, given " + shown(given));
                return right;
            }
            for (int i = 0; i < given.size(); i++) {
                right.add(values(tree, given.get(i), known.get(0), all, path + "[" + i + "]", pattern + "[]"));
            }
            return right;
        }
        if (!(given instanceof ObjectNode section)) {
            tree.problem(path, "expected a section with the keys " + names(known) + ", given " + shown(given));
            return known.has("<name>") ? ((ObjectNode) known).objectNode() : known;
        }
        final ObjectNode right = section.objectNode();
        final JsonNode any = known.get("<name>");
        section.properties().forEach(entry -> {
            final String name = entry.getKey();
            final String child = path.isEmpty() ? name : path + "." + name;
            if (any != null) {
                if (!name.matches("[A-Za-z0-9][A-Za-z0-9._-]*")) { // a checkpoint has a folder of this name
                    tree.problem(child, "expected a name of letters, digits, '.', '_' and '-' that starts with a letter or digit");
                }
                right.set(name, values(tree, entry.getValue(), any, all, child, pattern + ".<name>"));
            } else if (known.has(name)) {
                right.set(name, values(tree, entry.getValue(), known.get(name), all, child,
                        pattern.isEmpty() ? name : pattern + "." + name));
            } else {
                tree.problem(child, "unknown key; " + suggestion(name, path, known, all));
            }
        });
        return right;
    }

    private static String suggestion(String name, String path, JsonNode known, ObjectNode all) {
        final String prefix = path.isEmpty() ? "" : path + ".";
        final List<String> siblings = new ArrayList<>();
        known.fieldNames().forEachRemaining(siblings::add);
        final String sibling = nearest(name, siblings);
        if (distance(name, sibling) <= Math.max(2, name.length() / 3)) {
            return "did you mean " + prefix + sibling + "?";
        }
        final List<String> everywhere = new ArrayList<>();
        collect(all, "", everywhere);
        final String elsewhere = nearest(name, everywhere);
        if (distance(name, last(elsewhere)) <= 1) {
            return "did you mean " + elsewhere + "?";
        }
        return "known here: " + names(known);
    }

    private static void collect(JsonNode node, String path, List<String> paths) {
        if (node.isArray() && node.path(0).isObject()) {
            collect(node.get(0), path + "[]", paths);
        }
        node.properties().forEach(entry -> {
            final String child = path.isEmpty() ? entry.getKey() : path + "." + entry.getKey();
            paths.add(child);
            collect(entry.getValue(), child, paths);
        });
    }

    private static String nearest(String name, List<String> paths) {
        return paths.stream().min(Comparator.comparingInt(p -> distance(name, last(p)))).orElseThrow();
    }

    private static String last(String path) {
        return path.substring(path.lastIndexOf('.') + 1);
    }

    private static String names(JsonNode known) {
        final List<String> names = new ArrayList<>();
        known.fieldNames().forEachRemaining(names::add);
        return String.join(", ", names);
    }

    /** Levenshtein's, blind to case and separators: topK is top_k. */
    private static int distance(String given, String known) {
        final String a = given.toLowerCase(Locale.ROOT).replaceAll("[-_ ]", "");
        final String b = known.toLowerCase(Locale.ROOT).replaceAll("[-_ ]", "");
        int[] above = new int[b.length() + 1];
        for (int j = 0; j <= b.length(); j++) {
            above[j] = j;
        }
        for (int i = 1; i <= a.length(); i++) {
            final int[] row = new int[b.length() + 1];
            row[0] = i;
            for (int j = 1; j <= b.length(); j++) {
                row[j] = Math.min(Math.min(row[j - 1], above[j]) + 1, above[j - 1] + (a.charAt(i - 1) == b.charAt(j - 1) ? 0 : 1));
            }
            above = row;
        }
        return above[b.length()];
    }
}
