package org.teamtr.config;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.StringReader;
import java.math.BigInteger;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.regex.Pattern;
import org.yaml.snakeyaml.DumperOptions;
import org.yaml.snakeyaml.LoaderOptions;
import org.yaml.snakeyaml.Yaml;
import org.yaml.snakeyaml.constructor.SafeConstructor;
import org.yaml.snakeyaml.error.Mark;
import org.yaml.snakeyaml.error.MarkedYAMLException;
import org.yaml.snakeyaml.error.YAMLException;
import org.yaml.snakeyaml.nodes.MappingNode;
import org.yaml.snakeyaml.nodes.Node;
import org.yaml.snakeyaml.nodes.NodeTuple;
import org.yaml.snakeyaml.nodes.ScalarNode;
import org.yaml.snakeyaml.nodes.SequenceNode;
import org.yaml.snakeyaml.nodes.Tag;
import org.yaml.snakeyaml.representer.Representer;
import org.yaml.snakeyaml.resolver.Resolver;

/** YAML texts as one tree that knows where each value was written, and collects what is wrong. */
public final class ConfigTree {
    /** Deeper than any configuration; YAML can refer to itself. */
    private static final int DEEPEST = 32;
    private static final JsonNodeFactory JSON = JsonNodeFactory.instance;

    private final Map<String, Location> locations = new HashMap<>();
    private final List<Problem> problems = new ArrayList<>();
    private final List<String> warnings = new ArrayList<>();

    /** Where something was written. Lines and columns count from 1; line 0 for an option of the command line. */
    private record Location(String source, int line, int column) {
        @Override
        public String toString() {
            return line == 0 ? source : source + ":" + line + ":" + column;
        }
    }

    private record Problem(Location location, String text) {
    }

    /**
     * What a plain scalar is, by YAML 1.2's core schema: {@code no} and {@code on} are text, {@code 1e-3} is a number. Used to read
     * and to write, so that text is quoted exactly where it would be read as something else.
     */
    private static final class CoreSchema extends Resolver {
        @Override
        protected void addImplicitResolvers() {
            addImplicitResolver(Tag.BOOL, Pattern.compile("true|True|TRUE|false|False|FALSE"), "tTfF");
            addImplicitResolver(Tag.INT, Pattern.compile("[-+]?[0-9]+"), "-+0123456789");
            addImplicitResolver(Tag.FLOAT, Pattern.compile("[-+]?(\\.[0-9]+|[0-9]+(\\.[0-9]*)?)([eE][-+]?[0-9]+)?"
                    + "|[-+]?\\.(inf|Inf|INF)|\\.(nan|NaN|NAN)"), "-+.0123456789");
            addImplicitResolver(Tag.NULL, Pattern.compile("~|null|Null|NULL"), "~nN");
            addImplicitResolver(Tag.NULL, EMPTY, null);
        }
    }

    /** {@return a reader and writer of YAML} One thread's, one use. */
    public static Yaml yaml() {
        final DumperOptions how = new DumperOptions();
        how.setDefaultFlowStyle(DumperOptions.FlowStyle.BLOCK);
        how.setSplitLines(false);
        final LoaderOptions limits = new LoaderOptions();
        limits.setMaxAliasesForCollections(20);
        return new Yaml(new SafeConstructor(limits), new Representer(how), how, limits, new CoreSchema());
    }

    /**
     * Reads one YAML text.
     *
     * @param source what it is called in problems
     * @param path the key path of its root, empty for that of a file
     * @param option whether it is an option of the command line, which has no lines
     * @return null if it is no YAML, which is a problem then
     */
    public JsonNode read(String text, String source, String path, boolean option) {
        try {
            final Node root = yaml().compose(new StringReader(text));
            return root == null ? JSON.nullNode() : convert(root, source, path, option, 0);
        } catch (MarkedYAMLException e) {
            final Mark mark = e.getProblemMark();
            problems.add(new Problem(mark == null ? new Location(source, 0, 0) : location(mark, source, option), "no YAML: "
                    + e.getProblem() + (e.getContext() == null ? "" : " (" + e.getContext() + ")")));
        } catch (YAMLException e) {
            problems.add(new Problem(new Location(source, 0, 0), "no YAML: " + e.getMessage().lines().findFirst().orElse("")));
        }
        return null;
    }

    private JsonNode convert(Node node, String source, String path, boolean option, int depth) {
        locations.put(path, location(node.getStartMark(), source, option));
        if (depth > DEEPEST) {
            problem(path, "nested deeper than " + DEEPEST);
            return JSON.nullNode();
        }
        if (node instanceof MappingNode map) {
            final ObjectNode object = JSON.objectNode();
            for (NodeTuple entry : map.getValue()) {
                if (!(entry.getKeyNode() instanceof ScalarNode key)) {
                    problems.add(new Problem(location(entry.getKeyNode().getStartMark(), source, option), "expected a name as key"));
                    continue;
                }
                final String name = key.getValue();
                final String child = path.isEmpty() ? name : path + "." + name;
                final Location here = location(key.getStartMark(), source, option);
                if (object.has(name)) {
                    problems.add(new Problem(here, child + ": given twice, first in line " + locations.get(child).line()));
                }
                object.set(name, convert(entry.getValueNode(), source, child, option, depth + 1));
                locations.put(child, here);
            }
            return object;
        }
        if (node instanceof SequenceNode list) {
            final ArrayNode array = JSON.arrayNode();
            for (Node item : list.getValue()) {
                array.add(convert(item, source, path + "[" + array.size() + "]", option, depth + 1));
            }
            return array;
        }
        return scalar((ScalarNode) node, path);
    }

    private JsonNode scalar(ScalarNode node, String path) {
        final String text = node.getValue();
        final Tag tag = node.getTag();
        try {
            if (tag.equals(Tag.NULL)) {
                return JSON.nullNode();
            }
            if (tag.equals(Tag.BOOL)) {
                return JSON.booleanNode(Boolean.parseBoolean(text));
            }
            if (tag.equals(Tag.INT)) {
                final BigInteger whole = new BigInteger(text);
                return whole.bitLength() < Long.SIZE ? JSON.numberNode(whole.longValue()) : JSON.numberNode(whole);
            }
            if (tag.equals(Tag.FLOAT)) {
                final String lower = text.toLowerCase(Locale.ROOT);
                return JSON.numberNode(Double.parseDouble(lower.endsWith(".inf") ? lower.replace(".inf", "Infinity")
                        : lower.equals(".nan") ? "NaN" : lower));
            }
        } catch (NumberFormatException e) { // an explicit tag: !!int x
            problem(path, "expected a number, given " + text);
            return JSON.nullNode();
        }
        return JSON.textNode(text);
    }

    private static Location location(Mark mark, String source, boolean option) {
        return option ? new Location(source, 0, 0) : new Location(source, mark.getLine() + 1, mark.getColumn() + 1);
    }

    /** Notes what is wrong with the value of this key, or with its absence. */
    public void problem(String path, String text) {
        // What is not there is wrong where what should hold it is.
        String at = path;
        while (!at.isEmpty() && !locations.containsKey(at)) {
            at = at.substring(0, Math.max(0, Math.max(at.lastIndexOf('.'), at.lastIndexOf('['))));
        }
        final Location location = locations.get(at);
        problems.add(new Problem(location != null && at.isEmpty() && !path.isEmpty() ? new Location(location.source(), 0, 0) : location,
                path.isEmpty() ? text : path + ": " + text));
    }

    /** Records that a key was renamed: problems are reported with the new name, and a note gives both. */
    void renamed(String old, String now) {
        final Location location = locations.get(old);
        if (location != null) {
            locations.put(now, location);
        }
        warnings.add((location == null ? "" : location + ": ") + old + " is called " + now + " now");
    }

    /** {@return notes to the user about keys that were read, a line each} */
    List<String> warnings() {
        return warnings;
    }

    /** Notes what is wrong with a source as a whole. */
    void problemOf(String source, String text) {
        problems.add(new Problem(new Location(source, 0, 0), text));
    }

    /** @throws ConfigException if something is wrong */
    public void check() throws ConfigException {
        if (!problems.isEmpty()) {
            final Comparator<Problem> byLine =
                    Comparator.comparingInt(p -> p.location() == null || p.location().line() == 0 ? Integer.MAX_VALUE : p.location().line());
            throw new ConfigException(problems.stream().sorted(byLine).map(p -> p.location() == null ? p.text() : p.location() + ": " + p.text())
                    .toList());
        }
    }
}
