package org.teamtr.cli;

import java.io.IOException;
import java.io.UncheckedIOException;
import org.teamtr.config.ConfigException;
import org.teamtr.report.Version;
import picocli.CommandLine.Command;
import picocli.CommandLine;

/** {@code teamtr COMMAND}. Exit codes: 0 done, 1 failed, 2 wrong usage. */
@Command(name = "teamtr", description = "Trust-region training of teams of language-model agents.",
        subcommands = {TrainCommand.class, EvalCommand.class, ReplaceCommand.class, ExperimentCommand.class, ReportCommand.class,
            CompareCommand.class, CheckConfigCommand.class, DataCommand.class, DoctorCommand.class, CommandLine.HelpCommand.class},
        mixinStandardHelpOptions = true, versionProvider = Main.VersionProvider.class)
public final class Main {
    private Main() {
    }

    /** Runs a command and ends the JVM with its exit code. */
    public static void main(String[] args) {
        logging("defaultLogLevel", "warn");
        logging("log.org.teamtr", "info");
        logging("log.ai.djl", "error"); // it warns of every machine without a GPU
        logging("showThreadName", "false");
        logging("showLogName", "false");
        System.exit(run(args));
    }

    /** {@return the exit code of a command, run within this JVM} */
    public static int run(String... args) {
        return new CommandLine(new Main()).setExecutionExceptionHandler(Main::failed)
                .execute(args.length == 0 ? new String[] {"--help"} : args);
    }

    private static void logging(String key, String value) {
        final String property = "org.slf4j.simpleLogger." + key;
        System.setProperty(property, System.getProperty(property, value));
    }

    /** What a user can mend is said in a line; anything else is a defect, and its stack trace helps to find it. */
    private static int failed(Exception e, CommandLine command, CommandLine.ParseResult arguments) {
        final boolean foreseen = e instanceof ConfigException || e instanceof IOException || e instanceof UncheckedIOException
                || e instanceof IllegalArgumentException || e instanceof ArithmeticException;
        if (foreseen) {
            System.err.println("teamtr: " + (e instanceof IOException && e.getClass() != IOException.class
                    ? e.getClass().getSimpleName() + ": " : "") + e.getMessage());
        } else {
            e.printStackTrace();
        }
        return e instanceof ConfigException ? CommandLine.ExitCode.USAGE : CommandLine.ExitCode.SOFTWARE;
    }

    static final class VersionProvider implements CommandLine.IVersionProvider {
        @Override
        public String[] getVersion() {
            return new String[] {"teamtr " + Version.read()};
        }
    }
}
