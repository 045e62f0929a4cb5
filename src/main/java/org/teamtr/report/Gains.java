package org.teamtr.report;

import java.util.ArrayList;
import java.util.List;
import java.util.function.ToDoubleFunction;
import org.teamtr.train.Diagnostics;
import org.teamtr.train.LevelAlarm;
import org.teamtr.train.RunLog;

/** Gains of held-out episodes beside those that surrogates predicted, or beside lower bounds (the paper's Fig. 4), in units of return. */
public final class Gains {
    /**
     * From one measurement to the next, or one update.
     *
     * @param stage the last stage it covers
     * @param expected sum of the predicted gains, or of the bounds, of all stages since the measurement before
     * @param realised gain of the mean held-out return since then
     * @param error standard error of {@code realised}
     */
    record Entry(int stage, double expected, double realised, double error) {
        /** For bounds. */
        boolean violated() {
            return realised < expected;
        }

        boolean clearlyViolated() {
            return realised + 2 * error < expected;
        }
    }

    private Gains() {
    }

    /** {@return predicted gains, one entry for each stage that has a realised gain; without a standard error it is 0} */
    static List<Entry> predicted(List<RunLog.Stage> stages) {
        return of(stages, s -> s.gain().predictedGain() == null ? 0 : s.gain().predictedGain(), 0);
    }

    /** {@return the paper's bounds, one entry for each stage that has a realised gain; none where there is no bound} */
    static List<Entry> paper(List<RunLog.Stage> stages) {
        return of(stages, s -> s.stage() > 0 ? s.certified().certificate() : 0, Double.NaN);
    }

    /** {@return likewise, the bounds of docs/theory.md} */
    static List<Entry> horizon(List<RunLog.Stage> stages) {
        return of(stages, s -> s.stage() > 0 ? s.certified().horizon().gainBound() : 0, Double.NaN);
    }

    private static List<Entry> of(List<RunLog.Stage> stages, ToDoubleFunction<RunLog.Stage> expected, double noError) {
        final List<Entry> entries = new ArrayList<>();
        double sum = 0;
        for (RunLog.Stage s : stages) {
            sum += expected.applyAsDouble(s);
            if (s.gain().realisedGain() != null) {
                if (Double.isFinite(sum)) {
                    entries.add(new Entry(s.stage(), sum, s.gain().realisedGain(),
                            s.gain().realisedGainError() == null ? noError : s.gain().realisedGainError()));
                }
                sum = 0;
            }
        }
        return entries;
    }

    /** {@return bounds of docs/theory.md, an entry for each update whose own gain was measured} */
    static List<Entry> updates(List<RunLog.Update> updates) {
        return updates.stream().filter(u -> u.bound().horizon().bound().boundPrompts() > 0)
                .map(u -> new Entry(u.stage(), u.bound().horizon().bound().gainBound(), u.bound().horizon().realised().realisedGain(),
                        u.bound().horizon().realised().realisedGainError()))
                .filter(e -> Double.isFinite(e.expected()) && Double.isFinite(e.realised())).toList();
    }

    /** {@return the mean over several runs of the same stages, as long as the shortest} */
    static List<Entry> mean(List<List<Entry>> runs) {
        final List<Entry> means = new ArrayList<>();
        final int length = runs.stream().mapToInt(List::size).min().orElse(0);
        for (int i = 0; i < length; i++) {
            double expected = 0;
            double realised = 0;
            double error = 0;
            for (List<Entry> run : runs) {
                expected += run.get(i).expected() / runs.size();
                realised += run.get(i).realised() / runs.size();
                error = Math.hypot(error, run.get(i).error() / runs.size());
            }
            means.add(new Entry(runs.get(0).get(i).stage(), expected, realised, error));
        }
        return means;
    }

    /** {@return running sums; errors are added in squares, as if measurements were independent} */
    static List<Entry> cumulated(List<Entry> entries) {
        final List<Entry> sums = new ArrayList<>();
        Entry sum = new Entry(0, 0, 0, 0);
        for (Entry e : entries) {
            sum = new Entry(e.stage(), sum.expected() + e.expected(), sum.realised() + e.realised(), Math.hypot(sum.error(), e.error()));
            sums.add(sum);
        }
        return sums;
    }

    /** {@return Spearman's rank correlation of bound and realised gain} */
    static double rankCorrelation(List<Entry> entries) {
        return Diagnostics.spearman(entries.stream().mapToDouble(Entry::expected).toArray(),
                entries.stream().mapToDouble(Entry::realised).toArray());
    }

    /** {@return the share of the entries whose realised gain is less than their bound; NaN of none} */
    static double violationRate(List<Entry> entries) {
        return entries.stream().mapToDouble(e -> e.violated() ? 1 : 0).average().orElse(Double.NaN);
    }

    /** {@return the share whose realised gain is less than their bound by more than twice its error; NaN of none} */
    static double clearViolationRate(List<Entry> entries) {
        return entries.stream().mapToDouble(e -> e.clearlyViolated() ? 1 : 0).average().orElse(Double.NaN);
    }

    /** {@return the share of the entries with a positive realised gain whose bound is positive; NaN of none} */
    static double informativeRate(List<Entry> entries) {
        return entries.stream().filter(e -> e.realised() > 0).mapToDouble(e -> e.expected() > 0 ? 1 : 0).average().orElse(Double.NaN);
    }

    /** {@return the alarm where stages gain less than their bound too often, or null} */
    public static String alarm(List<RunLog.Stage> stages) {
        final List<Entry> entries = horizon(stages);
        final double level = stages.stream().mapToDouble(s -> s.certified().horizon().boundLevel()).filter(Double::isFinite).max().orElse(1);
        return LevelAlarm.of(entries.stream().map(Entry::violated).toList(), level);
    }
}
