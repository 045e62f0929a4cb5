package org.teamtr.config;

import java.util.List;

/** A configuration that cannot be used. The message holds all that is wrong with it, a line each. */
public final class ConfigException extends Exception {
    private static final long serialVersionUID = 1;

    private final transient List<String> problems;

    public ConfigException(List<String> problems) {
        super(String.join("\n", problems));
        this.problems = List.copyOf(problems);
    }

    /** {@return what is wrong, in the order of the file} */
    public List<String> problems() {
        return problems;
    }
}
