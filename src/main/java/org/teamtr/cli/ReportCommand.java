package org.teamtr.cli;

import java.io.IOException;
import java.nio.file.Path;
import java.util.concurrent.Callable;
import org.teamtr.report.Report;
import picocli.CommandLine.Command;
import picocli.CommandLine.Parameters;

/** Writes the page of a run again. */
@Command(name = "report", mixinStandardHelpOptions = true,
        description = "Writes report.html of a run from its other files, and prints its path.")
final class ReportCommand implements Callable<Integer> {
    @Parameters(paramLabel = "RUN", description = "A run directory.")
    private Path run;

    @Override
    public Integer call() {
        try {
            System.out.println(Report.write(run));
            return 0;
        } catch (IOException e) {
            System.err.println("teamtr report: " + UserErrors.line(e));
            return 1;
        }
    }
}
