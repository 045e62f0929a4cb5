package org.teamtr.train;

import java.util.List;
import java.util.Locale;

/**
 * Whether bounds fail more often than their level allows. Failures are numbers of 0 or 1 whose mean is the level at most; where a lower
 * bound on that mean, which holds while looking after every stage, is above the level, something is wrong with what the bounds assume.
 */
public final class LevelAlarm {
    /** With this probability an alarm is raised although nothing is wrong. */
    public static final double FALSE_ALARM = 0.01;

    private LevelAlarm() {
    }

    /**
     * {@return what to say, or null where nothing is wrong or cannot be told}
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
