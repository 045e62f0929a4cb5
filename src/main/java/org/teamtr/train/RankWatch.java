package org.teamtr.train;

import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.ArrayList;
import java.util.List;
import org.teamtr.distributed.Ranks;
import org.teamtr.team.KeyedRandom;

/** Checks after each update that all ranks have done the same, and gathers their times. */
final class RankWatch {
    private static final ObjectMapper JSON = new ObjectMapper();

    private final Ranks ranks;
    private Ranks.Traffic then;

    RankWatch(Ranks ranks) {
        this.ranks = ranks;
        this.then = ranks.traffic();
    }

    /** Before the first update: the parameters that were loaded. */
    void loaded(List<Learner> learners) {
        if (ranks.size() > 1) {
            ranks.agree("the policies as they were loaded", KeyedRandom.seed(learners.stream().mapToLong(l -> l.policy.fingerprint()).toArray()));
            then = ranks.traffic(); // what came before, waiting for the warm start say, is no update's
        }
    }

    /**
     * After an update.
     *
     * @return a line for the log; null of a single process
     * @throws org.teamtr.distributed.RanksException if ranks differ, naming them
     */
    RunLog.Ranks updated(RunLog.Update u, Learner learner) {
        if (ranks.size() == 1) {
            return null;
        }
        ranks.agree("stage " + u.stage() + ", update of " + u.agent(), KeyedRandom.seed(learner.policy.fingerprint(), learner.policy.version(),
                u.episodes(), u.dropped(), u.messages(), u.tokens(), u.trainedTokens(), bits(u.returnMean()), bits(u.accuracy()),
                bits(u.surrogate()), bits(u.predictedGain()), bits(u.objective()), bits(u.kl()), bits(u.klMax()), bits(u.klReached()),
                bits(u.betaNext()), bits(learner.delta), u.innerSteps(), u.stoppedBy().hashCode(), u.rolledBack() ? 1 : 0, u.halvings(),
                bits(u.clipFraction()), bits(u.ess()), bits(u.ratioMax()), bits(u.scoreGap()), bits(u.entropy()), bits(u.gradNorm()),
                bits(u.shift()), bits(u.bound().bounds().certificate()), bits(u.outcome().klFloor()), u.outcome().overflows()));
        final Ranks.Traffic now = ranks.traffic();
        final Ranks.Traffic since = now.since(then);
        then = now;
        try {
            final List<RunLog.Rank> all = new ArrayList<>();
            for (byte[] one : ranks.gather("timings", JSON.writeValueAsBytes(new RunLog.Rank(ranks.rank(), ranks.name(ranks.rank()),
                    u.secondsRollout(), u.secondsUpdate() + u.secondsKl(), since.seconds(), since.bytes(), since.calls())))) {
                all.add(JSON.readValue(one, RunLog.Rank.class));
            }
            return new RunLog.Ranks(u.stage(), u.step(), u.agent(), all);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private static long bits(double number) {
        return Double.doubleToLongBits(number); // all that are not a number alike
    }
}
