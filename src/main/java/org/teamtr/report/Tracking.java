package org.teamtr.report;

import java.util.ArrayList;
import java.util.List;
import java.util.function.ToDoubleFunction;
import org.teamtr.train.Diagnostics;
import org.teamtr.train.LevelAlarm;
import org.teamtr.train.RunLog;

/** Lower bounds beside the gains of held-out episodes, in units of return: the paper's Fig. 4. */
public final class Tracking {
    /**
     * From one measurement to the next, or one update.
     *
     * @param stage the last stage it covers
     * @param bound sum of the bounds of all stages since the measurement before
     * @param improvement gain of the mean held-out return since then
     * @param error its standard error; NaN where there is none
     */
    record Entry(int stage, double bound, double improvement, double error) {
        boolean violated() {
            return improvement < bound;
        }

        boolean clearlyViolated() {
            return improvement + 2 * error < bound;
        }
    }

    private Tracking() {
    }

    /** {@return one entry for each stage that has a realised gain; none where there is no bound} */
    static List<Entry> of(List<RunLog.Stage> stages, ToDoubleFunction<RunLog.Certified> bound) {
        final List<Entry> entries = new ArrayList<>();
        double sum = 0;
        for (RunLog.Stage s : stages) {
            if (s.stage() > 0) {
                sum += bound.applyAsDouble(s.certified());
            }
            if (s.gain().realisedGain() != null) {
                if (Double.isFinite(sum)) {
                    entries.add(new Entry(s.stage(), sum, s.gain().realisedGain(), s.gain().realisedGainError() == null ? Double.NaN
                            : s.gain().realisedGainError()));
                }
                sum = 0;
            }
        }
        return entries;
    }

    /** {@return by the paper's bound} */
    static List<Entry> paper(List<RunLog.Stage> stages) {
        return of(stages, RunLog.Certified::certificate);
    }

    /** {@return by the bound of docs/theory.md} */
    static List<Entry> horizon(List<RunLog.Stage> stages) {
        return of(stages, c -> c.horizon().gainBound());
    }

    /** {@return likewise, an entry for each update whose own gain was measured} */
    static List<Entry> updates(List<RunLog.Update> updates) {
        return updates.stream().filter(u -> u.bound().horizon().bound().boundPrompts() > 0)
                .map(u -> new Entry(u.stage(), u.bound().horizon().bound().gainBound(), u.bound().horizon().realised().realisedGain(),
                        u.bound().horizon().realised().realisedGainError()))
                .filter(e -> Double.isFinite(e.bound()) && Double.isFinite(e.improvement())).toList();
    }

    /** {@return running sums} */
    static List<Entry> cumulated(List<Entry> entries) {
        final List<Entry> sums = new ArrayList<>();
        Entry sum = new Entry(0, 0, 0, 0);
        for (Entry e : entries) {
            sum = new Entry(e.stage(), sum.bound() + e.bound(), sum.improvement() + e.improvement(), Double.NaN);
            sums.add(sum);
        }
        return sums;
    }

    /** {@return Spearman's rank correlation of bound and improvement} */
    static double rankCorrelation(List<Entry> entries) {
        return Diagnostics.spearman(entries.stream().mapToDouble(Entry::bound).toArray(),
                entries.stream().mapToDouble(Entry::improvement).toArray());
    }

    /** {@return the share of the entries whose improvement is less than their bound; NaN of none} */
    static double violationRate(List<Entry> entries) {
        return entries.stream().mapToDouble(e -> e.violated() ? 1 : 0).average().orElse(Double.NaN);
    }

    /** {@return the share whose improvement is less than their bound by more than twice its error; NaN of none} */
    static double clearViolationRate(List<Entry> entries) {
        return entries.stream().mapToDouble(e -> e.clearlyViolated() ? 1 : 0).average().orElse(Double.NaN);
    }

    /** {@return the share of the entries with an improvement whose bound is positive; NaN of none} */
    static double informativeRate(List<Entry> entries) {
        return entries.stream().filter(e -> e.improvement() > 0).mapToDouble(e -> e.bound() > 0 ? 1 : 0).average().orElse(Double.NaN);
    }

    /** {@return what to say where stages gain less than their bound too often, or null} */
    public static String alarm(List<RunLog.Stage> stages) {
        final List<Entry> entries = horizon(stages);
        final double level = stages.stream().mapToDouble(s -> s.certified().horizon().boundLevel()).filter(Double::isFinite).max().orElse(1);
        return LevelAlarm.of(entries.stream().map(Entry::violated).toList(), level);
    }
}
