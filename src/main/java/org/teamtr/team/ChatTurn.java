package org.teamtr.team;

/**
 * One turn of what a model is asked, in the form that chat templates take.
 *
 * @param role {@code system}, {@code user} or {@code assistant}
 */
public record ChatTurn(String role, String content) {
}
