package org.teamtr.config;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.List;

/**
 * The paper's baselines and ablations by name. Each is a YAML file of the keys in which it differs from TeamTR and no others,
 * {@code org/teamtr/config/variants/NAME.yaml}, whose first line says what it is. One trainer runs them all.
 */
public final class Variants {
    /** All, in the order of the paper's tables: ablations, update rules, single agents, teams that are not trained. */
    public static final List<String> NAMES = List.of("adaptive-penalty", "fixed-penalty", "resample-2", "importance", "naive",
            "joint", "no-trust-region", "no-rollback", "delta-small", "delta-large", "delta-adaptive", "order-fixed",
            "order-reversed", "order-random", "no-normalisation", "no-clip", "sequential-ppo", "sequential-grpo",
            "sequential-dapo", "single-agent-grpo", "single-agent-dapo", "debate", "debate-judge", "role-play");

    private Variants() {
    }

    /** {@return the first line of a variant's file, with its description and its place in the paper} */
    public static String about(String name) {
        return text(name).lines().findFirst().orElseThrow().substring("# ".length());
    }

    /** {@return the keys of a variant; null if there is none of this name, which is a problem then} */
    static JsonNode read(ConfigTree tree, String name) {
        if (!NAMES.contains(name)) {
            tree.problemOf("--variant " + name, "expected one of " + String.join(", ", NAMES));
            return null;
        }
        return tree.read(text(name), "variant " + name, "", false);
    }

    private static String text(String name) {
        try (InputStream in = Variants.class.getResourceAsStream("variants/" + name + ".yaml")) {
            return new String(in.readAllBytes(), StandardCharsets.UTF_8);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }
}
