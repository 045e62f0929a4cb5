package org.teamtr.report;

import java.io.PrintStream;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.function.LongSupplier;
import me.tongfei.progressbar.ConsoleProgressBarConsumer;
import me.tongfei.progressbar.ProgressBar;
import me.tongfei.progressbar.ProgressBarBuilder;
import me.tongfei.progressbar.ProgressState;
import org.teamtr.train.RunLog;
import org.teamtr.train.UnchangedReason;

/**
 * Shows the progress of a training run: on a terminal one live line of at most 100 columns, with the latest update; otherwise a plain line
 * for each stage, with all of its updates. One thread at a time. Meant for standard error, so that standard output holds results
 * only.
 */
public final class Progress implements AutoCloseable {
    private static final int COLUMNS = 100;
    private static final int BAR = 24;
    private static final int ROLE = 12;

    private final PrintStream out;
    private final int stages;
    private final int updatesPerStage;
    private final LongSupplier nanos;
    private final long start;
    private final int columns;
    private final ProgressBar bar;
    private volatile int first = -1; // updates of earlier processes, for a run that was resumed; the bar's thread reads it
    private volatile int done;
    private volatile String live = "starting";
    private final List<RunLog.Update> updates = new ArrayList<>(); // of this stage
    private long tokens;
    private long since; // when this stage began, and what had been generated until then
    private long before;
    private double rate; // tokens a second, as of this stage's latest update

    private Progress(PrintStream out, boolean terminal, int stages, int updatesPerStage, LongSupplier nanos) {
        this.out = out;
        this.stages = stages;
        this.updatesPerStage = updatesPerStage;
        this.nanos = nanos;
        start = nanos.getAsLong();
        since = start;
        // A consumer of which only the width is used: the library finds the terminal's width this way.
        columns = terminal ? Math.min(COLUMNS, new ConsoleProgressBarConsumer(out).getMaxRenderedLength()) : COLUMNS;
        bar = terminal ? bar() : null; // last: its thread reads the fields above
    }

    /**
     * {@return progress that writes there}
     *
     * @param out usually {@link System#err}
     * @param terminal whether it is one
     * @param stages of the whole run
     * @param updatesPerStage updates of each
     */
    public static Progress open(PrintStream out, boolean terminal, int stages, int updatesPerStage) {
        return open(out, terminal, stages, updatesPerStage, System::nanoTime);
    }

    static Progress open(PrintStream out, boolean terminal, int stages, int updatesPerStage, LongSupplier nanos) {
        return new Progress(out, terminal, stages, updatesPerStage, nanos);
    }

    private ProgressBar bar() {
        return new ProgressBarBuilder().setTaskName("").setInitialMax((long) stages * updatesPerStage)
                .setConsumer(new ConsoleProgressBarConsumer(out, columns) {
                    @Override
                    public void close() {
                        // The library ends the line on its own thread, and now and then not at all: see Progress.close.
                    }
                }).setRenderer(this::render).build();
    }

    /** The live line: a bar as long as there is room for, then the same numbers as in the plain lines. */
    private String render(ProgressState state, int width) {
        final String text = live + time();
        final int room = Math.min(BAR, width - text.length() - 3);
        final int full = (int) Math.round(room * Math.min(1, state.getNormalizedProgress()));
        final String line = room < 4 ? text : "[" + "#".repeat(full) + " ".repeat(room - full) + "] " + text;
        return line.length() > width ? line.substring(0, width) : line + " ".repeat(width - line.length());
    }

    /**
     * An update is done.
     *
     * @param tokensSoFar generated since this was opened
     */
    public void update(RunLog.Update u, long tokensSoFar) {
        if (first < 0) {
            first = (u.stage() - 1) * updatesPerStage;
        }
        updates.add(u);
        tokens = tokensSoFar;
        rate = (tokens - before) / Math.max(1e-9, (nanos.getAsLong() - since) * 1e-9);
        live = "stage " + numbers(u.stage(), u.returnMean(), List.of(u));
        done = done + 1;
        if (bar != null) {
            bar.stepTo(first + done);
        }
    }

    /** A stage is done; stage 0 is the team before its first update. */
    public void stage(RunLog.Stage s) {
        if (bar == null) {
            final RunLog.Update last = updates.isEmpty() ? null : updates.get(updates.size() - 1);
            final boolean measured = s.heldOut().heldOutEpisodes() > 0 || last == null; // otherwise what the training episodes say
            final double reward = measured ? s.heldOut().returnMean() : last.returnMean();
            final double accuracy = measured ? s.heldOut().accuracy() : last.accuracy();
            out.println("stage " + numbers(s.stage(), reward, updates)
                    + (Double.isFinite(accuracy) ? String.format(Locale.ROOT, "  accuracy %.1f %%", 100 * accuracy) : "") + nothing(s.unchanged())
                    + time());
            out.flush();
        } else if (!nothing(s.unchanged()).isEmpty()) {
            note("stage " + s.stage() + "/" + stages + nothing(s.unchanged()));
        }
        updates.clear();
        since = nanos.getAsLong();
        before = tokens;
    }

    /** How many updates came to nothing, and why. */
    private static String nothing(UnchangedReason.Counts n) {
        return n.unchanged() + n.overflows() == 0 ? "" : "  unchanged" + why(n.unchangedRolledBack(), "rolled back")
                + why(n.unchangedEqualReturns(), "equal returns") + why(n.unchangedZeroGradient(), "zero gradient")
                + why(n.unchangedSilent(), "silent") + why(n.unchangedNotCertified(), "not certified") + why(n.overflows(), "overflows");
    }

    private static String why(int count, String what) {
        return count == 0 ? "" : " " + count + " " + what;
    }

    /** Prints a line above the progress bar. */
    public void note(String line) {
        final String plain = line.replaceAll("\\p{Cntrl}", " ");
        if (bar == null) {
            out.println(plain);
            out.flush();
        } else {
            // In one call, since another thread draws the bar; blanks overwrite the rest of the bar.
            out.print("\r" + plain + " ".repeat(Math.max(0, columns - plain.length())) + System.lineSeparator());
            bar.refresh();
        }
    }

    /** Ends the live line. */
    @Override
    public void close() {
        if (bar != null) {
            bar.close();
            out.println();
            out.flush();
        }
    }

    private String numbers(int stage, double reward, List<RunLog.Update> some) {
        final StringBuilder text = new StringBuilder(stage + "/" + stages);
        if (Double.isFinite(reward)) {
            text.append(String.format(Locale.ROOT, "  reward %.3f", reward));
        }
        if (!some.isEmpty()) {
            final double[] radii = some.stream().mapToDouble(RunLog.Update::delta).distinct().toArray();
            final boolean oneRadius = some.size() > 1 && radii.length == 1;
            text.append("  KL");
            for (RunLog.Update u : some) {
                final String role = u.agent().length() <= ROLE ? u.agent() : u.agent().substring(0, ROLE);
                text.append(' ').append(role).append(String.format(Locale.ROOT, " %.3g", u.kl()))
                        .append(oneRadius ? "" : radius("/", u.delta()));
            }
            text.append(oneRadius ? radius(" of ", radii[0]) : "").append(String.format(Locale.ROOT, "  %.0f tok/s", rate));
        }
        return text.toString();
    }

    private static String radius(String before, double delta) {
        return Double.isFinite(delta) ? before + String.format(Locale.ROOT, "%.3g", delta) : "";
    }

    private String time() {
        final Duration left = left();
        return "  " + clock(elapsed()) + (left == null ? "" : ", " + clock(left) + " left");
    }

    private Duration elapsed() {
        return Duration.ofNanos(nanos.getAsLong() - start);
    }

    /** The remaining time at the present rate, or null before there is one. */
    private Duration left() {
        final long rest = (long) stages * updatesPerStage - Math.max(0, first) - done;
        return done == 0 ? null : Duration.ofNanos((long) ((double) elapsed().toNanos() / done * Math.max(0, rest)));
    }

    private static String clock(Duration d) {
        final long s = Math.round(d.toNanos() / 1e9);
        return s < 3600 ? String.format(Locale.ROOT, "%d:%02d", s / 60, s % 60)
                : String.format(Locale.ROOT, "%d:%02d:%02d", s / 3600, s / 60 % 60, s % 60);
    }
}
