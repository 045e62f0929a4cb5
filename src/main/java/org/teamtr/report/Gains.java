package org.teamtr.report;

import java.util.ArrayList;
import java.util.List;
import org.teamtr.train.RunLog;

/** The gains that surrogates predicted, beside those that held-out episodes realised. */
final class Gains {
    /**
     * From one measurement to the next.
     *
     * @param stage the last stage it covers
     * @param predicted sum of the predicted gains of all stages since the measurement before
     * @param realised gain of the mean held-out return since then
     * @param error standard error of {@code realised}
     */
    record Entry(int stage, double predicted, double realised, double error) {
    }

    private Gains() {
    }

    /** {@return one entry for each stage that has a realised gain} */
    static List<Entry> of(List<RunLog.Stage> stages) {
        final List<Entry> entries = new ArrayList<>();
        double predicted = 0;
        for (RunLog.Stage s : stages) {
            predicted += s.gain().predictedGain() == null ? 0 : s.gain().predictedGain();
            if (s.gain().realisedGain() != null) {
                entries.add(new Entry(s.stage(), predicted, s.gain().realisedGain(),
                        s.gain().realisedGainError() == null ? 0 : s.gain().realisedGainError()));
                predicted = 0;
            }
        }
        return entries;
    }

    /** {@return the mean over several runs of the same stages, as long as the shortest} */
    static List<Entry> mean(List<List<Entry>> runs) {
        final List<Entry> means = new ArrayList<>();
        final int length = runs.stream().mapToInt(List::size).min().orElse(0);
        for (int i = 0; i < length; i++) {
            double predicted = 0;
            double realised = 0;
            double error = 0;
            for (List<Entry> run : runs) {
                predicted += run.get(i).predicted() / runs.size();
                realised += run.get(i).realised() / runs.size();
                error = Math.hypot(error, run.get(i).error() / runs.size());
            }
            means.add(new Entry(runs.get(0).get(i).stage(), predicted, realised, error));
        }
        return means;
    }

    /** {@return running sums; errors are added in squares, as if measurements were independent} */
    static List<Entry> cumulated(List<Entry> entries) {
        final List<Entry> sums = new ArrayList<>();
        Entry sum = new Entry(0, 0, 0, 0);
        for (Entry e : entries) {
            sum = new Entry(e.stage(), sum.predicted() + e.predicted(), sum.realised() + e.realised(),
                    Math.hypot(sum.error(), e.error()));
            sums.add(sum);
        }
        return sums;
    }
}
