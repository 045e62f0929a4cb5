package org.teamtr.config;

import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.MapperFeature;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.PropertyNamingStrategies;
import com.fasterxml.jackson.databind.SerializerProvider;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.module.SimpleModule;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import com.fasterxml.jackson.databind.ser.std.StdScalarSerializer;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;
import java.util.regex.MatchResult;
import java.util.regex.Pattern;
import org.teamtr.train.Config;
import org.teamtr.train.Sharding;

/**
 * Configurations as files: {@code defaults.yaml}, over it {@code budget.yaml} where that is the task, the user's file, a variant
 * of {@link Variants}, and the {@code --set} options. Keys are the names of {@link Config}'s components in snake_case. A key that was
 * renamed is read by its old name too, with a warning in the System.Logger {@code org.teamtr.config}.
 */
public final class ConfigFile {
    /** A key path such as {@code team.agents[0].role}, and its steps: a name, or an index as {@code [0}. */
    private static final Pattern PATH = Pattern.compile("[^.\\[\\]=]+(\\.[^.\\[\\]=]+|\\[[0-9]{1,6}])*");
    private static final String BUDGET = "budget.yaml";
    private static final System.Logger LOGGER = System.getLogger("org.teamtr.config");
    private static final Pattern STEP = Pattern.compile("[^.\\[\\]]+|\\[[0-9]+");
    private static final ObjectMapper MAPPER = JsonMapper.builder().propertyNamingStrategy(PropertyNamingStrategies.SNAKE_CASE)
            .enable(DeserializationFeature.FAIL_ON_NULL_FOR_PRIMITIVES).enable(MapperFeature.ACCEPT_CASE_INSENSITIVE_ENUMS)
            .addModule(new SimpleModule().addSerializer(new LowerCase())).build();

    private ConfigFile() {
    }

    /** Constants as files have them: f32. */
    private static final class LowerCase extends StdScalarSerializer<Enum<?>> {
        LowerCase() {
            super(Enum.class, false);
        }

        @Override
        public void serialize(Enum<?> value, JsonGenerator out, SerializerProvider provider) throws IOException {
            out.writeString(value.name().toLowerCase(Locale.ROOT));
        }
    }

    /**
     * Reads a configuration.
     *
     * @param fileOrNull the user's file; null for none. Unless it names another task than budget, {@code budget.yaml} lies between it
     *     and the defaults
     * @param sets options such as {@code rollout.group=4} or {@code team.agents[0].role=planner}, values in YAML; later ones win
     * @throws ConfigException with everything that is wrong: file, line and column, key, expected, given
     */
    public static Config load(Path fileOrNull, List<String> sets) throws ConfigException {
        return load(fileOrNull, null, sets);
    }

    /**
     * The same with a baseline or ablation of the paper.
     *
     * @param variantOrNull one of {@link Variants#NAMES}, which goes over the file and under the options; null for none
     */
    public static Config load(Path fileOrNull, String variantOrNull, List<String> sets) throws ConfigException {
        final ConfigTree tree = new ConfigTree();
        final JsonNode user = fileOrNull == null ? MAPPER.nullNode() : readFile(tree, fileOrNull);
        if (user == null) {
            tree.check(); // throws: with nothing read, all else would be reported as missing
        }
        return load(tree, user, variantOrNull, sets);
    }

    /** The same of keys that do not come from a file of their own. */
    public static Config of(JsonNode user, String variantOrNull, List<String> sets) throws ConfigException {
        return load(new ConfigTree(), user, variantOrNull, sets);
    }

    private static Config load(ConfigTree tree, JsonNode user, String variantOrNull, List<String> sets) throws ConfigException {
        final ObjectNode known = builtIn("defaults.yaml");
        final ObjectNode root = known.deepCopy();
        RenamedKeys.in(tree, user, "");
        ((ArrayNode) root.path("team").path("agents")).removeAll(); // the two entries that only show an entry's defaults
        ((ObjectNode) root.path("policies")).removeAll();
        if (user.isObject()) {
            if (user.path("task").path("name").asText("budget").equals("budget")) {
                merge(root, builtIn(BUDGET));
            }
            merge(root, user);
        } else if (user.isNull()) {
            merge(root, builtIn(BUDGET)); // no file, or nothing but comments
        } else {
            tree.problem("", "expected keys with values, given " + ConfigRules.shown(user));
        }
        if (variantOrNull != null) {
            final JsonNode variant = Variants.read(tree, variantOrNull);
            if (variant == null) {
                tree.check(); // throws: without its keys this would be another configuration
            }
            merge(root, variant);
        }
        fillEntries(root, known);
        for (String set : sets) {
            set(tree, root, set);
        }
        fillEntries(root, known);
        if (root.at("/hardware/ranks/shard").isBoolean()) { // as it was written when there was one stage
            final ObjectNode ranks = (ObjectNode) root.at("/hardware/ranks");
            ranks.put("shard", (ranks.get("shard").asBoolean() ? Sharding.STATE : Sharding.NONE).name().toLowerCase(Locale.ROOT));
        }
        final Config config = MAPPER.convertValue(ConfigRules.values(tree, root, known), Config.class);
        ConfigConflicts.check(tree, config);
        tree.check();
        tree.warnings().forEach(warning -> LOGGER.log(System.Logger.Level.WARNING, warning));
        return config;
    }

    /**
     * Reads what {@link #write} wrote.
     *
     * @throws ConfigException as {@link #load}
     */
    public static Config read(Path resolved) throws ConfigException {
        return load(Objects.requireNonNull(resolved, "resolved"), List.of());
    }

    /** Writes every key with its value; {@link #read} gives an equal configuration. A file that is there is replaced at once. */
    public static void write(Config config, Path file) throws IOException {
        final Path next = file.resolveSibling(file.getFileName() + ".tmp"); // a part of a configuration is one too, a different one
        Files.writeString(next, text(config));
        Files.move(next, file, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
    }

    /** {@return every key with its value, as YAML} */
    public static String text(Config config) {
        return ConfigTree.yaml().dump(MAPPER.convertValue(config, Map.class));
    }

    /** {@return every key with its value, by its path} */
    public static Map<String, String> flat(Config config) {
        final Map<String, String> flat = new LinkedHashMap<>();
        flatten("", MAPPER.valueToTree(config), flat);
        return flat;
    }

    private static void flatten(String path, JsonNode node, Map<String, String> flat) {
        if (node.isObject() && !node.isEmpty()) {
            node.properties().forEach(e -> flatten(path.isEmpty() ? e.getKey() : path + "." + e.getKey(), e.getValue(), flat));
        } else {
            flat.put(path, ConfigRules.shown(node));
        }
    }

    private static ObjectNode builtIn(String name) {
        try (InputStream in = ConfigFile.class.getResourceAsStream(name)) {
            final ConfigTree tree = new ConfigTree();
            final String text = new String(Objects.requireNonNull(in, name + " is missing from the class path").readAllBytes(),
                    StandardCharsets.UTF_8);
            final JsonNode root = tree.read(text, name, "", false);
            tree.check();
            return (ObjectNode) root;
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        } catch (ConfigException e) {
            throw new IllegalStateException(e);
        }
    }

    private static JsonNode readFile(ConfigTree tree, Path file) {
        try {
            final String text = Files.readString(file);
            return tree.read(text.startsWith("\uFEFF") ? text.substring(1) : text, file.toString(), "", false);
        } catch (NoSuchFileException e) {
            tree.problemOf(file.toString(), "no such file");
        } catch (CharacterCodingException e) {
            tree.problemOf(file.toString(), "expected text in UTF-8, found bytes that are none");
        } catch (IOException e) {
            tree.problemOf(file.toString(), Files.isDirectory(file) ? "expected a file, given a folder" : "cannot be read: " + e);
        }
        return null;
    }

    /** Puts {@code over} into {@code base}. A section without content, all its lines commented out, changes nothing. */
    public static void merge(ObjectNode base, JsonNode over) {
        over.properties().forEach(entry -> {
            final JsonNode old = base.get(entry.getKey());
            if (old instanceof ObjectNode section && entry.getValue().isObject()) {
                merge(section, entry.getValue());
            } else if (old == null || !old.isContainerNode() || !entry.getValue().isNull()) {
                base.set(entry.getKey(), entry.getValue().deepCopy());
            }
        });
    }

    /** Gives every agent and policy the keys it leaves out. */
    private static void fillEntries(ObjectNode root, ObjectNode known) {
        if (root.path("team").path("agents") instanceof ArrayNode agents) {
            for (int i = 0; i < agents.size(); i++) {
                agents.set(i, filled(known.at("/team/agents/0"), agents.get(i)));
            }
        }
        if (root.path("policies") instanceof ObjectNode policies) {
            policies.properties().forEach(entry -> entry.setValue(filled(known.at("/policies/<name>"), entry.getValue())));
        }
    }

    private static JsonNode filled(JsonNode pattern, JsonNode entry) {
        if (!entry.isObject() && !entry.isNull()) {
            return entry; // an error that the rules report
        }
        final ObjectNode full = pattern.deepCopy();
        merge(full, entry);
        return full;
    }

    private static void set(ConfigTree tree, ObjectNode root, String option) {
        final String source = "--set " + option;
        final int equals = option.indexOf('=');
        final String given = option.substring(0, Math.max(equals, 0));
        if (!PATH.matcher(given).matches()) {
            tree.problemOf(source, "expected key.path=value");
            return;
        }
        final JsonNode value = tree.read(option.substring(equals + 1), source, given, true);
        if (value == null) {
            return;
        }
        final String path = RenamedKeys.path(tree, given);
        RenamedKeys.in(tree, value, path);
        final List<String> steps = STEP.matcher(path).results().map(MatchResult::group).toList();
        JsonNode at = root;
        for (int i = 0; i < steps.size(); i++) {
            final String step = steps.get(i);
            final boolean last = i == steps.size() - 1;
            if (step.startsWith("[")) {
                final int index = Integer.parseInt(step.substring(1));
                if (!(at instanceof ArrayNode list) || index > list.size()) {
                    tree.problemOf(source, path + ": expected " + (at.isArray() ? "an index from 0 to " + at.size() : "no index")
                            + ", given " + index);
                    return;
                }
                if (index == list.size()) {
                    list.addNull();
                }
                at = last ? value : inside(list.get(index), steps.get(i + 1));
                list.set(index, at);
            } else if (!(at instanceof ObjectNode section)) {
                tree.problemOf(source, path + ": expected no key " + step + " here, where " + ConfigRules.shown(at) + " stands");
                return;
            } else if (last) {
                merge(section, MAPPER.createObjectNode().set(step, value));
            } else {
                at = inside(section.get(step), steps.get(i + 1));
                section.set(step, at);
            }
        }
    }

    private static JsonNode inside(JsonNode old, String step) {
        return old != null && !old.isNull() ? old : step.startsWith("[") ? MAPPER.createArrayNode() : MAPPER.createObjectNode();
    }
}
