package org.teamtr.cli;

import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.Callable;
import org.teamtr.task.Preparer;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;

/** Data sets. */
@Command(name = "data", mixinStandardHelpOptions = true, description = "Prepares data sets.", subcommands = DataCommand.Prepare.class)
final class DataCommand implements Callable<Integer> {
    @Override
    public Integer call() {
        picocli.CommandLine.usage(this, System.out);
        return 0;
    }

    /** Brings a published data set into the form that training and evaluation read. */
    @Command(name = "prepare", mixinStandardHelpOptions = true,
            description = "Writes a published data set as lines {id, source, prompt, answer, meta}.")
    static final class Prepare implements Callable<Integer> {
        @Parameters(index = "0", paramLabel = "NAME",
                description = "The data set: aime24, aime25, aime, math500, gsm8k, zebralogic, autologi, detective, situation,"
                        + " guess_number, planbench, or verl for files in verl's columns.")
        private String name;

        @Parameters(index = "1..*", arity = "1..*", paramLabel = "SOURCE",
                description = "The data set's files: JSON lines, a JSON array, or Parquet.")
        private List<Path> sources;

        @Option(names = "--out", required = true, paramLabel = "DIR", description = "Where to write.")
        private Path out;

        @Option(names = "--held-out", paramLabel = "N",
                description = "Number of rows for testing, which are chosen by their prompts alone. Default: no split.")
        private int heldOut;

        @Option(names = "--against", paramLabel = "FILE", description = "A file of test prompts, which are left out of this data set and counted.")
        private Path against;

        @Override
        public Integer call() throws IOException {
            final Preparer.Summary summary = Preparer.prepare(name, sources, out, heldOut, against);
            summary.files().forEach((file, rows) -> System.out.printf(Locale.ROOT, "%s: %,d rows%n", out.resolve(file), rows));
            System.out.printf(Locale.ROOT, "repeated prompts: %,d left out%n", summary.repeated());
            if (against != null) {
                System.out.printf(Locale.ROOT, "prompts that are test prompts of %s: %,d left out%n", against, summary.shared());
            }
            summary.unusable().forEach((reason, rows) -> System.out.printf(Locale.ROOT, "%,d rows cannot be used: %s%n", rows, reason));
            summary.checksums().forEach((file, sum) -> System.out.printf(Locale.ROOT, "sha256 %s  %s%n", sum, file));
            return 0;
        }
    }
}
