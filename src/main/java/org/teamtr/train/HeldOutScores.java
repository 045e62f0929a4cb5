package org.teamtr.train;

import java.util.List;
import org.teamtr.team.Verifier;

/**
 * Scores of held-out episodes, which a checkpoint keeps: the next realised gain is the difference from them.
 *
 * @param checksum of all that they depend on beside the policies' parameters: prompts, sampling, team, verifier. Scores with different
 *     checksums cannot be compared. Null if it is not known
 * @param scores of all episodes
 */
public record HeldOutScores(Long checksum, List<Verifier.Score> scores) {
    /** Of no episodes. */
    public static final HeldOutScores NONE = new HeldOutScores(null, List.of());
}
