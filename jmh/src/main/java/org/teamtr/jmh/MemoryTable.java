package org.teamtr.jmh;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import org.teamtr.config.ConfigException;
import org.teamtr.config.ConfigFile;
import org.teamtr.config.MemoryPlan;
import org.teamtr.config.Setup;
import org.teamtr.report.RunFiles;
import org.teamtr.train.Config;

/**
 * What the table of a run's memory says beside the largest resident size that the process had: a CSV, and a table between
 * {@code <!-- memory -->} and {@code <!-- /memory -->} of a page.
 */
public final class MemoryTable {
    private MemoryTable() {
    }

    /** Arguments: the CSV to write, the page, LABEL=RUN... */
    public static void main(String[] args) throws IOException, ConfigException {
        final List<String> lines = new ArrayList<>(List.of("run,table_bytes,resident_bytes"));
        final StringBuilder table = new StringBuilder("| run | table, GB | resident at most, GB | resident to table |\n|---|---|---|---|\n");
        for (int i = 2; i < args.length; i++) {
            final String label = args[i].substring(0, args[i].indexOf('='));
            final Path run = Path.of(args[i].substring(args[i].indexOf('=') + 1));
            final Config config = Setup.resolved(ConfigFile.load(run.resolve(RunFiles.CONFIG), List.of()));
            final long said = MemoryPlan.of(config).most()[1];
            final long resident = RunFiles.summary(run).spent().peakResidentBytes();
            lines.add(String.format(Locale.ROOT, "%s,%d,%d", label.replace(',', ';'), said, resident));
            table.append(String.format(Locale.ROOT, "| %s | %.2f | %.2f | %.2f |%n", label, 1e-9 * said, 1e-9 * resident, (double) resident / said));
        }
        Files.write(Path.of(args[0]), lines);
        Tables.between(Path.of(args[1]), "memory", table.toString());
    }
}
