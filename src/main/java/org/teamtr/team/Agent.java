package org.teamtr.team;

import java.util.Objects;

/**
 * A member of a team.
 *
 * @param role what it is called, in transcripts and templates
 * @param speaker its policy; several agents may share one
 * @param template what it is asked
 * @param view how much of the messages so far it sees
 * @param frozen whether it is left as it is in training
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
