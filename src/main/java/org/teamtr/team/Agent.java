package org.teamtr.team;

import java.util.Objects;

/**
 * A member of a team.
 *
 * @param role its name, in transcripts and templates
 * @param speaker its policy; several agents may share one
 * @param template of its prompts
 * @param view which of the earlier messages it sees
 * @param frozen whether it is not trained
 */
public record Agent(String role, Speaker speaker, PromptTemplate template, View view, boolean frozen) {
    /** @throws NullPointerException if something is null */
    public Agent {
        Objects.requireNonNull(role, "role");
        Objects.requireNonNull(speaker, "speaker");
        Objects.requireNonNull(template, "template");
        Objects.requireNonNull(view, "view");
    }
}
