package org.teamtr.train;

import java.util.List;
import org.teamtr.team.Episode;
import org.teamtr.team.Verifier;

/**
 * Held-out episodes of a team.
 *
 * @param scores of all
 * @param shown those that are written to transcripts
 * @param right for each, whether the answer after its first, second, ... message is right; empty unless diagnosed
 * @param seconds they took
 */
public record Evaluation(List<Verifier.Score> scores, List<Episode> shown, List<boolean[]> right, double seconds) {
    /** {@return the mean return} */
    public double returnMean() {
        return scores.stream().mapToDouble(Verifier.Score::reward).average().orElse(0);
    }

    /** {@return the share of the episodes that are correct} */
    public double accuracy() {
        return scores.stream().mapToDouble(s -> s.correct() ? 1 : 0).average().orElse(0);
    }

    RunLog.Coordination coordination() {
        return right.isEmpty() ? RunLog.Coordination.NONE
                : new RunLog.Coordination(Diagnostics.coordination(right), Diagnostics.handOffs(right));
    }

    List<RunLog.Transcript> transcripts(int stage) {
        return shown.stream().map(e -> new RunLog.Transcript(stage, e.prompt().id(), e.prompt().text(), e.prompt().answer(),
                e.reward(), e.score().correct(), e.messages().stream().map(m -> new RunLog.Said(m.role(), m.text(),
                        m.utterance().tokens().length, m.utterance().ended(), observed(e, m.turn()))).toList()))
                .toList();
    }

    private static String observed(Episode episode, int turn) {
        return episode.context().observation(turn) == null ? null : episode.context().observation(turn).text();
    }
}
