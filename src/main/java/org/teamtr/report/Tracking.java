package org.teamtr.report;

import java.util.ArrayList;
import java.util.List;
import org.teamtr.train.Diagnostics;
import org.teamtr.train.RunLog;

/** What the certificates bounded beside what held-out episodes gained, in units of return: the paper's Fig. 4. */
final class Tracking {
    /**
     * From one measurement to the next.
     *
     * @param stage the last stage it covers
     * @param certificate sum of the certificates of all stages since the measurement before
     * @param radius the same with the radii
     * @param improvement gain of the mean held-out return since then
     */
    record Entry(int stage, double certificate, double radius, double improvement) {
        boolean violated() {
            return improvement < certificate;
        }
    }

    private Tracking() {
    }

    /** {@return one entry for each stage that has a realised gain; none where there is no certificate} */
    static List<Entry> of(List<RunLog.Stage> stages) {
        final List<Entry> entries = new ArrayList<>();
        double certificate = 0;
        double radius = 0;
        for (RunLog.Stage s : stages) {
            if (s.stage() > 0) {
                certificate += s.certified().certificate();
                radius += s.certified().certificateRadius();
            }
            if (s.realisedGain() != null) {
                if (Double.isFinite(certificate)) {
                    entries.add(new Entry(s.stage(), certificate, radius, s.realisedGain()));
                }
                certificate = 0;
                radius = 0;
            }
        }
        return entries;
    }

    /** {@return running sums} */
    static List<Entry> cumulated(List<Entry> entries) {
        final List<Entry> sums = new ArrayList<>();
        Entry sum = new Entry(0, 0, 0, 0);
        for (Entry e : entries) {
            sum = new Entry(e.stage(), sum.certificate() + e.certificate(), sum.radius() + e.radius(),
                    sum.improvement() + e.improvement());
            sums.add(sum);
        }
        return sums;
    }

    /** {@return Spearman's rank correlation of certificate and improvement} */
    static double rankCorrelation(List<Entry> entries) {
        return Diagnostics.spearman(entries.stream().mapToDouble(Entry::certificate).toArray(),
                entries.stream().mapToDouble(Entry::improvement).toArray());
    }

    /** {@return the share of the entries whose improvement is less than their certificate; NaN of none} */
    static double violationRate(List<Entry> entries) {
        return entries.stream().mapToDouble(e -> e.violated() ? 1 : 0).average().orElse(Double.NaN);
    }
}
