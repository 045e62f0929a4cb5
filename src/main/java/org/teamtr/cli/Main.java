package org.teamtr.cli;

import java.io.IOException;
import java.io.InputStream;
import java.util.Properties;
import picocli.CommandLine;
import picocli.CommandLine.Command;

/** {@code teamtr COMMAND}. Exit codes: 0 done, 1 failed, 2 wrong usage. */
@Command(name = "teamtr", description = "Trust-region training of teams of language-model agents.",
        subcommands = {Doctor.class, CommandLine.HelpCommand.class},
        mixinStandardHelpOptions = true, versionProvider = Main.Version.class)
public final class Main {
    private Main() {
    }

    /** Runs a command and ends the JVM with its exit code. */
    public static void main(String[] args) {
        System.exit(new CommandLine(new Main()).execute(args.length == 0 ? new String[] {"--help"} : args));
    }

    static final class Version implements CommandLine.IVersionProvider {
        @Override
        public String[] getVersion() {
            return new String[] {"teamtr " + read()};
        }

        /** The version the build wrote down. */
        static String read() {
            final Properties properties = new Properties();
            try (InputStream in = Main.class.getResourceAsStream("/org/teamtr/version.properties")) {
                properties.load(in);
            } catch (IOException | NullPointerException e) {
                throw new IllegalStateException("org/teamtr/version.properties is missing from the class path", e);
            }
            return properties.getProperty("version");
        }
    }
}
