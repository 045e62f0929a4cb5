package org.teamtr.report;

import java.util.ArrayList;
import java.util.List;
import org.teamtr.train.RunLog;

/** What the surrogates promised beside what held-out episodes gained. */
final class Ledger {
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

    private Ledger() {
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

    /** {@return the mean of several ledgers of the same stages, as long as the shortest} */
    static List<Entry> mean(List<List<Entry>> ledgers) {
        final List<Entry> means = new ArrayList<>();
        final int length = ledgers.stream().mapToInt(List::size).min().orElse(0);
        for (int i = 0; i < length; i++) {
            double predicted = 0;
            double realised = 0;
            double error = 0;
            for (List<Entry> ledger : ledgers) {
                predicted += ledger.get(i).predicted() / ledgers.size();
                realised += ledger.get(i).realised() / ledgers.size();
                error = Math.hypot(error, ledger.get(i).error() / ledgers.size());
            }
            means.add(new Entry(ledgers.get(0).get(i).stage(), predicted, realised, error));
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
