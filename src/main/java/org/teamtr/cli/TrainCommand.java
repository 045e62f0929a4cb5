package org.teamtr.cli;

import java.io.IOException;
import java.io.PrintStream;
import java.nio.channels.FileChannel;
import java.nio.channels.FileLock;
import java.nio.channels.OverlappingFileLockException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.LocalDateTime;
import java.time.format.DateTimeFormatter;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.stream.Stream;
import org.teamtr.config.ConfigException;
import org.teamtr.config.ConfigFile;
import org.teamtr.config.MemoryPlan;
import org.teamtr.config.Setup;
import org.teamtr.config.TinyModel;
import org.teamtr.report.Progress;
import org.teamtr.report.Report;
import org.teamtr.report.RunFiles;
import org.teamtr.report.RunSummary;
import org.teamtr.report.RunWriter;
import org.teamtr.report.Version;
import org.teamtr.train.Checkpoints;
import org.teamtr.train.Config;
import org.teamtr.train.RunLog;
import org.teamtr.train.Trainer;
import org.teamtr.train.Unchanged;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;
import picocli.CommandLine;

/** Trains a team, from the start or from the latest checkpoint of a run. */
@Command(name = "train", mixinStandardHelpOptions = true, description = {"Trains a team.",
    "Without a file: the built-in team of four small models, in a few minutes on two cores."})
final class TrainCommand implements Callable<Integer> {
    @Spec
    private CommandSpec spec;

    @Parameters(arity = "0..1", paramLabel = "FILE", description = "Configuration; check-config shows all keys.")
    private Path file;

    @Option(names = "--set", paramLabel = "KEY=VALUE", description = "Overrides a key, e.g. train.stages=10. Repeatable.")
    private List<String> sets = List.of();

    @Option(names = "--variant", paramLabel = "NAME",
            description = "A baseline or ablation of the paper, over the file; check-config --variants lists them.")
    private String variant;

    @Option(names = "--out", paramLabel = "DIR", description = "Run directory, new or empty. Default: runs/TASK-DATE-TIME.")
    private Path out;

    @Option(names = "--resume", paramLabel = "DIR", description = "Goes on with this run from its latest checkpoint.")
    private Path resume;

    @Override
    public Integer call() throws IOException, ConfigException {
        if (resume != null && (file != null || out != null || variant != null)) {
            throw new CommandLine.ParameterException(spec.commandLine(), "--resume goes on with the run's own configuration: expected no "
                    + (file != null ? "FILE" : out != null ? "--out" : "--variant") + " beside it");
        }
        final Config config = Setup.resolved(ConfigFile.load(resume == null ? file : configOf(resume), variant, sets));
        final Path run = resume != null ? resume : newRun(config);
        try (FileChannel lock = lock(run)) {
            if (resume == null) {
                ConfigFile.write(config, run.resolve(RunFiles.CONFIG)); // first, so that a run killed in its warm start can be resumed
            }
            train(config, run);
        }
        return 0;
    }

    static Path configOf(Path run) throws IOException {
        final Path config = run.resolve(RunFiles.CONFIG);
        if (!Files.exists(config)) {
            throw new IOException(run + ": expected a run directory with " + RunFiles.CONFIG + " in it");
        }
        return config;
    }

    private Path newRun(Config config) throws IOException {
        final Path run = out != null ? out : Path.of("runs", config.task().name() + "-"
                + LocalDateTime.now().format(DateTimeFormatter.ofPattern("yyyyMMdd-HHmmss")));
        if (Files.isDirectory(run)) {
            try (Stream<Path> inside = Files.list(run)) {
                // A start that failed, for want of a model say, leaves no more than these.
                if (inside.anyMatch(p -> !Set.of(".lock", RunFiles.CONFIG).contains(p.getFileName().toString()))) {
                    throw new IOException(run + ": expected a new or empty folder; --resume " + run + " goes on with a run");
                }
            }
        }
        return Files.createDirectories(run);
    }

    /** Two processes that write the same run would spoil it. */
    static FileChannel lock(Path run) throws IOException {
        final FileChannel channel = FileChannel.open(run.resolve(".lock"), StandardOpenOption.CREATE, StandardOpenOption.WRITE);
        try {
            final FileLock lock = channel.tryLock();
            if (lock != null) {
                return channel;
            }
        } catch (OverlappingFileLockException e) {
            // held by this very process
        }
        channel.close();
        throw new IOException(run + ": another process is writing this run");
    }

    private void train(Config config, Path run) throws IOException, ConfigException {
        final PrintStream err = System.err;
        final MemoryPlan plan = MemoryPlan.of(config);
        if (plan != null) {
            err.print(plan.table());
            plan.check();
        }
        try (Progress progress = Progress.open(err, System.console() != null, config.train().stages(), config.team().agents().size());
                Setup setup = new Setup(config, run, progress::note);
                Trainer trainer = setup.trainer();
                RunWriter writer = new RunWriter(run)) {
            final Checkpoints checkpoints = new Checkpoints(run, config.checkpoint().keep());
            final Path latest = resume == null ? null : checkpoints.latest();
            final int done = latest == null ? 0 : Checkpoints.load(latest, setup.learners);
            ConfigFile.write(config, run.resolve(RunFiles.CONFIG)); // with the changes of --set, now that all it names is there
            writer.truncateAfterStage(latest == null ? -1 : done);
            if (resume != null) {
                progress.note(latest == null ? "no checkpoint yet: from the start" : "going on from " + latest);
            }
            progress.note(trainer.certificate());
            final long[] tokens = {0}; // since this process began: for tokens per second
            trainer.train(done, done == 0 ? null : Checkpoints.heldOut(latest), new Trainer.Listener() {
                @Override
                public void updated(RunLog.Update update) {
                    tokens[0] += update.tokens();
                    RunWriter.io(() -> writer.update(update));
                    progress.update(update, tokens[0]);
                }

                @Override
                public void floor(RunLog.Floor floor) {
                    progress.note(floor.plainly());
                    if (floor.warning() != null) {
                        progress.note(floor.warning());
                    }
                }

                @Override
                public void diagnosed(RunLog.Diagnosis diagnosis) {
                    RunWriter.io(() -> writer.diagnosis(diagnosis));
                }

                @Override
                public void staged(RunLog.Stage stage, List<RunLog.Transcript> transcripts) {
                    RunWriter.io(() -> {
                        for (RunLog.Transcript transcript : transcripts) {
                            writer.transcript(transcript);
                        }
                        writer.stage(stage);
                        final boolean last = stage.stage() == config.train().stages();
                        if (stage.stage() > 0 && (last || stage.stage() % config.checkpoint().every() == 0)) {
                            checkpoints.save(stage.stage(), setup.learners, trainer.heldOut());
                        }
                    });
                    progress.stage(stage);
                }
            });
            final TinyModel.Untrained u = TinyModel.untrained(run);
            final double[] untrained = {u == null ? Double.NaN : u.accuracy(), u == null ? Double.NaN : u.returnMean()};
            final List<String> command = new ArrayList<>(List.of("./teamtr"));
            command.addAll(spec.commandLine().getParseResult().originalArgs());
            writer.summary(RunSummary.of(Version.read(), String.join(" ", command), config.seed(),
                    config.team().agents().stream().map(Config.Agent::role).toList(), untrained, RunFiles.updates(run),
                    RunFiles.stages(run), RunFiles.diagnoses(run)));
        }
        final Path report = Report.write(run);
        say(run, report);
        Unchanged.plainly(RunFiles.updates(run)).forEach(System.out::println);
    }

    private static void say(Path run, Path report) throws IOException {
        final RunSummary s = RunFiles.summary(run);
        if (!Double.isNaN(s.accuracyUntrained())) {
            System.out.printf("untrained:        return %.3f, accuracy %.1f %%%n", s.returnUntrained(), 100 * s.accuracyUntrained());
        }
        System.out.printf("before stage 1:   return %.3f, accuracy %.1f %%%n", s.returnBefore(), 100 * s.accuracyBefore());
        System.out.printf("after stage %-4d  return %.3f, accuracy %.1f %%%n", s.stages(), s.returnLast(), 100 * s.accuracyLast());
        System.out.printf("gain in all:      predicted %.3f, realised %.3f%n", s.predictedGain(), s.realisedGain());
        System.out.printf("trust region:     %d of %d updates left it%n", s.outOfRegionUpdates(), s.updates());
        if (Double.isFinite(s.certified().certificate())) {
            System.out.printf("certificate:      %.3f in all, vacuous in %.0f %% of the updates%n", s.certified().certificate(),
                    100 * s.certified().vacuousRate());
        }
        System.out.printf("report:           %s%n", report);
    }
}
