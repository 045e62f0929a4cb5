package org.teamtr.config;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.util.Map;

/** Keys that were renamed. Their old names are still read, with a warning that gives the new one. */
final class RenamedKeys {
    /** Old key paths, section.name, and the current name. */
    static final Map<String, String> ALL = Map.of(
            "rollout.held_back", "validation_fraction",
            "rollout.budget", "prompts_per");

    private RenamedKeys() {
    }

    /** {@return the path of a key with its current name} */
    static String path(ConfigTree tree, String path) {
        final String name = ALL.get(path);
        if (name == null) {
            return path;
        }
        final String now = path.substring(0, path.indexOf('.') + 1) + name;
        tree.renamed(path, now);
        return now;
    }

    /**
     * Replaces old names of keys by the current ones.
     *
     * @param node a whole configuration, or one of its sections
     * @param at the path of {@code node}, empty for a whole configuration
     */
    static void in(ConfigTree tree, JsonNode node, String at) {
        ALL.forEach((old, name) -> {
            final int dot = old.indexOf('.');
            final String section = old.substring(0, dot);
            final JsonNode holder = at.isEmpty() ? node.path(section) : at.equals(section) ? node : null;
            final String key = old.substring(dot + 1);
            if (holder instanceof ObjectNode keys && keys.has(key)) {
                if (keys.has(name)) {
                    tree.problem(old, "expected " + section + "." + name + " alone, which is its current name, given both");
                }
                path(tree, old);
                keys.set(name, keys.remove(key));
            }
        });
    }
}
