package org.teamtr.team;

/**
 * One message of an episode.
 *
 * @param turn 0, 1, 2, ...
 * @param agent index of the speaker in its team
 * @param role of the speaker
 * @param utterance what was said
 */
public record Message(int turn, int agent, String role, Utterance utterance) {
    /** {@return what was said, verbatim} */
    public String text() {
        return utterance.text();
    }
}
