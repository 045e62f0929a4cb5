package org.teamtr.cli;

import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import org.teamtr.report.GainsPicture;
import org.teamtr.report.RunTable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;

/** Compares the predicted and realised gains of several runs, as data, a picture and a table. */
@Command(name = "compare", mixinStandardHelpOptions = true,
        description = "Compares several runs: predicted and realised gain as CSV and picture, summaries as CSV and table.")
final class CompareCommand implements Callable<Integer> {
    @Parameters(arity = "1..*", paramLabel = "LABEL=RUN", description = "A run directory and its label.")
    private List<String> runs;

    @Option(names = "--csv", paramLabel = "FILE", description = "File for the gains, averaged over runs of the same label.")
    private Path csv;

    @Option(names = "--picture", paramLabel = "FILE", description = "File for the picture of the gains: .svg or .png. Needs --csv.")
    private Path picture;

    @Option(names = "--summaries", paramLabel = "FILE", description = "CSV file for the runs' summaries.")
    private Path summaries;

    @Option(names = "--table", paramLabel = "FILE",
            description = "A Markdown file; a table of the summaries is put between its lines <!-- runs --> and <!-- /runs -->.")
    private Path table;

    @Spec
    private CommandSpec spec;

    @Override
    public Integer call() {
        try {
            final List<GainsPicture.Labelled> labelled = new ArrayList<>();
            for (String run : runs) {
                final int at = run.lastIndexOf('='); // the last: "n = 4, stale=runs/a" is a label too
                if (at < 0) {
                    throw new IllegalArgumentException("LABEL=RUN: expected a label, =, and a run directory, given " + run);
                }
                labelled.add(new GainsPicture.Labelled(run.substring(0, at), Path.of(run.substring(at + 1))));
            }
            if (csv == null && summaries == null && table == null || csv == null && picture != null) {
                throw new IllegalArgumentException("expected --csv, --summaries or --table, and --csv beside --picture");
            }
            if (csv != null) {
                GainsPicture.csv(labelled, csv);
                System.out.println(csv);
            }
            if (picture != null) {
                GainsPicture.draw(csv, picture);
                System.out.println(picture);
            }
            if (summaries != null) {
                RunTable.csv(labelled, summaries);
                System.out.println(summaries);
            }
            if (table != null) {
                RunTable.markdown(labelled, table);
                System.out.println(table);
            }
            return 0;
        } catch (IllegalArgumentException e) {
            throw new ParameterException(spec.commandLine(), e.getMessage(), e);
        } catch (IOException e) {
            System.err.println("teamtr compare: " + UserErrors.line(e));
            return 1;
        }
    }
}
