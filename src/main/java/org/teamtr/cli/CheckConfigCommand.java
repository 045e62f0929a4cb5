package org.teamtr.cli;

import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.Callable;
import org.teamtr.config.ConfigException;
import org.teamtr.config.ConfigFile;
import org.teamtr.config.ConfigFiles;
import org.teamtr.config.MemoryPlan;
import org.teamtr.config.Setup;
import org.teamtr.config.Variants;
import org.teamtr.train.Config;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;

/** Prints the resolved configuration, or everything that is wrong with it. */
@Command(name = "check-config", mixinStandardHelpOptions = true,
        description = {"Prints a configuration with all defaults filled in, or everything that is wrong (exit code 2): with the",
            "configuration, or with the data files, model folders and tokenizers that it names. Loads no weights."})
public final class CheckConfigCommand implements Callable<Integer> {
    @Parameters(arity = "0..1", paramLabel = "FILE", description = "The configuration; without one, the defaults.")
    private Path file;

    @Option(names = "--set", paramLabel = "KEY=VALUE", description = "Overrides a key, for example --set rollout.group=4.")
    private List<String> sets = List.of();

    @Option(names = "--variant", paramLabel = "NAME", description = "A baseline or ablation of the paper, applied to the file.")
    private String variant;

    @Option(names = "--processes", paramLabel = "N",
            description = "Computes the memory of one of N processes of a machine, as with train --processes.")
    private int processes = 1;

    @Option(names = "--variants", description = "Lists the variants instead of printing a configuration.")
    private boolean list;

    @Override
    public Integer call() {
        if (list) {
            Variants.NAMES.forEach(name -> System.out.printf(Locale.ROOT, "%-22s %s%n", name, Variants.about(name)));
            return 0;
        }
        try {
            final Config config = ConfigFile.load(file, variant, sets);
            final List<String> problems = ConfigFiles.problems(Setup.resolved(config), note -> System.err.println("note: " + note));
            if (!problems.isEmpty()) {
                throw new ConfigException(problems.stream().map(UserErrors::withoutSource).toList());
            }
            System.out.print(ConfigFile.text(config));
            memory(Setup.resolved(config), Math.max(1, processes));
            return 0;
        } catch (ConfigException e) {
            System.err.println(e.getMessage());
            return 2;
        }
    }

    /** What the run would need, as comments, so that what is printed is still a configuration. */
    private static void memory(Config config, int processes) throws ConfigException {
        final MemoryPlan plan;
        try {
            plan = MemoryPlan.of(config, processes, processes);
        } catch (IOException | IllegalArgumentException e) {
            System.out.println("# memory: not known, " + e.getMessage());
            return;
        }
        if (plan != null) {
            plan.table().lines().forEach(line -> System.out.println("# " + line));
            plan.check();
        }
    }
}
