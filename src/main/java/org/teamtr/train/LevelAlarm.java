package org.teamtr.train;

import java.util.List;
import java.util.Locale;

/**
 * Whether bounds fail more often than their level allows. Failures are numbers of 0 or 1 whose mean is at most the level; where a lower
 * confidence bound on that mean, which is valid after every stage, is above the level, an assumption of the bounds does not hold.
 */
public final class LevelAlarm {
    /** The probability of a false alarm. */
    public static final double FALSE_ALARM = 0.01;

    private LevelAlarm() {
    }

    /**
     * {@return the alarm's text, or null where there is none}
     *
     * @param failed for each bound, the oldest first
     * @param level the probability that one fails
     */
    public static String of(List<Boolean> failed, double level) {
        final double[] x = failed.stream().mapToDouble(f -> f ? 1 - level : -level).toArray(); // mean 0 at most
        if (level >= 1 || MeanBound.lower(x, -level, FALSE_ALARM, 1) <= 0) {
            return null;
        }
        return String.format(Locale.ROOT, "alarm: %d of %d measured gains are below their bound, where %.1f %% may be: held-out prompts are of"
                + " another kind than training prompts, log-probs are rounded, or returns are not what certificate.return_min and"
                + " return_max say", failed.stream().filter(f -> f).count(), failed.size(), 100 * level);
    }
}
