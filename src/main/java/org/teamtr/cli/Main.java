package org.teamtr.cli;

import java.util.Locale;
import org.teamtr.config.ConfigException;
import org.teamtr.report.Version;
import picocli.CommandLine.Command;
import picocli.CommandLine;

/** {@code teamtr COMMAND}. Exit codes: 0 done, 1 failed, 2 wrong usage. */
@Command(name = "teamtr", description = "Trust-region training of teams of language-model agents.",
        subcommands = {TrainCommand.class, EvalCommand.class, CollectCommand.class, ReplaceCommand.class, ExperimentCommand.class,
            ReportCommand.class, CompareCommand.class, CheckConfigCommand.class, DataCommand.class, DoctorCommand.class,
            CommandLine.HelpCommand.class},
        mixinStandardHelpOptions = true, versionProvider = Main.VersionProvider.class)
public final class Main {
    private Main() {
    }

    /** Runs a command and ends the JVM with its exit code. */
    public static void main(String[] args) {
        Locale.setDefault(Locale.Category.FORMAT, Locale.ROOT); // for what libraries write; what is ours names it
        logging("defaultLogLevel", "warn");
        logging("log.org.teamtr", "info");
        logging("log.ai.djl", "error"); // it warns of every machine without a GPU
        logging("showThreadName", "false");
        logging("showLogName", "false");
        property("org.bytedeco.javacpp.maxPhysicalBytes", "0"); // a limit of twice the Java heap, which has nothing to do with models
        property("org.bytedeco.javacpp.maxBytes", "0");
        Exit.onSignals();
        System.exit(run(args));
    }

    /** {@return the exit code of a command, run within this JVM} */
    public static int run(String... args) {
        try {
            return new CommandLine(new Main()).setExecutionExceptionHandler(Main::failed)
                    .execute(args.length == 0 ? new String[] {"--help"} : args);
        } catch (OutOfMemoryError e) {
            System.err.printf(Locale.ROOT, "teamtr: out of memory (%s): the Java heap is limited to %.1f GB; raise it with TEAMTR_JAVA_OPTS=-Xmx8g%n",
                    e.getMessage(), Runtime.getRuntime().maxMemory() * 1e-9);
            return CommandLine.ExitCode.SOFTWARE;
        }
    }

    private static void logging(String key, String value) {
        property("org.slf4j.simpleLogger." + key, value);
    }

    /** Unless the user has set it. */
    private static void property(String name, String value) {
        System.setProperty(name, System.getProperty(name, System.getProperty(name.toLowerCase(Locale.ROOT), value)));
    }

    /** An error that the user can fix is printed in one line; anything else is a defect and is printed with its stack trace. */
    private static int failed(Exception e, CommandLine command, CommandLine.ParseResult arguments) {
        if (UserErrors.isForeseen(e)) {
            System.err.println("teamtr: " + UserErrors.line(e));
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
