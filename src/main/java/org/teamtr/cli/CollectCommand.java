package org.teamtr.cli;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.Callable;
import org.teamtr.config.ConfigException;
import org.teamtr.config.ConfigFile;
import org.teamtr.config.Setup;
import org.teamtr.report.RunFiles;
import org.teamtr.team.Episode;
import org.teamtr.train.Checkpoints;
import org.teamtr.train.Config;
import org.teamtr.train.Conversations;
import org.teamtr.train.Trainer;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;

/** Plays the episodes of a stage and writes them to files, for training later or elsewhere. */
@Command(name = "collect", mixinStandardHelpOptions = true, description = {
    "Plays the episodes of the next stage of a run (from its latest checkpoint) or of a configuration, and writes a file for each agent.",
    "train --from DIR learns from them."})
final class CollectCommand implements Callable<Integer> {
    @Parameters(paramLabel = "RUN|FILE", description = "Run directory or configuration.")
    private Path what;

    @Option(names = "--out", required = true, paramLabel = "DIR", description = "Where to write. Files of the same names are replaced.")
    private Path out;

    @Option(names = "--set", paramLabel = "KEY=VALUE", description = "Overrides a key, e.g. rollout.prompts=64. Repeatable.")
    private List<String> sets = List.of();

    @Override
    public Integer call() throws IOException, ConfigException {
        final boolean isRun = Files.isDirectory(what);
        final Config config = Setup.resolved(ConfigFile.load(isRun ? what.resolve(RunFiles.CONFIG) : what, sets));
        CommandLines.folder("--out", out);
        final Path latest = isRun ? new Checkpoints(what, 1).latest() : null;
        final Path scratch = isRun ? null : Files.createTempDirectory("teamtr-collect-" + ProcessHandle.current().pid() + "-");
        try (Setup setup = new Setup(config, isRun ? what : scratch, System.err::println)) {
            final Trainer trainer = setup.trainer();
            final int stage = 1 + (latest == null ? 0 : Checkpoints.load(latest, setup.learners));
            setup.checkPrompts(System.err::println);
            final List<Episode> episodes = trainer.collect(stage);
            final List<Path> files = Conversations.write(episodes, setup.learners, config, stage, out);
            System.out.printf(Locale.ROOT, "stage %d: %,d episodes of %,d prompts, mean return %.4f, %,d tokens%n", stage, episodes.size(),
                    episodes.size() / config.rollout().group(), episodes.stream().mapToDouble(Episode::reward).average().orElse(0),
                    episodes.stream().mapToLong(Episode::tokens).sum());
            files.forEach(System.out::println);
        } finally {
            if (scratch != null) {
                Checkpoints.remove(scratch);
            }
        }
        return 0;
    }
}
