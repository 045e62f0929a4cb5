package org.teamtr.cli;

import java.io.IOException;
import java.io.PrintStream;
import java.io.UncheckedIOException;
import java.nio.channels.FileChannel;
import java.nio.channels.FileLock;
import java.nio.channels.OverlappingFileLockException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.LocalDateTime;
import java.time.ZoneId;
import java.time.format.DateTimeFormatter;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.function.Consumer;
import java.util.stream.Stream;
import org.teamtr.config.ConfigException;
import org.teamtr.config.ConfigFile;
import org.teamtr.config.MemoryPlan;
import org.teamtr.config.Setup;
import org.teamtr.config.TinyModel;
import org.teamtr.distributed.Launcher;
import org.teamtr.distributed.RankEnvironment;
import org.teamtr.distributed.RanksException;
import org.teamtr.report.Gains;
import org.teamtr.report.Progress;
import org.teamtr.report.Report;
import org.teamtr.report.RunFiles;
import org.teamtr.report.RunSummary;
import org.teamtr.report.RunWriter;
import org.teamtr.report.Version;
import org.teamtr.team.EpisodeException;
import org.teamtr.torch.TorchRanks;
import org.teamtr.train.Checkpoints;
import org.teamtr.train.Config;
import org.teamtr.train.RunLog;
import org.teamtr.train.Trainer;
import org.teamtr.train.UnchangedReason;
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
            description = "A baseline or ablation of the paper, applied to the file; check-config --variants lists them.")
    private String variant;

    @Option(names = "--out", paramLabel = "DIR", description = "Run directory, new or empty. Default: runs/TASK-DATE-TIME.")
    private Path out;

    @Option(names = "--resume", paramLabel = "DIR", description = "Resumes this run from its latest checkpoint.")
    private Path resume;

    @Option(names = "--from", paramLabel = "DIR", description = {"Trains one stage from conversations that collect wrote,",
        "instead of playing: those agents whose files are there."})
    private Path from;

    @Option(names = "--processes", paramLabel = "N", description = {"Trains in N processes of this machine, each with its part of the"
            + " prompts; on CUDA each with a GPU of its own. As torchrun starts them: docs/devices.md."})
    private int processes = 1;

    /** This process among the ranks; null where one process trains alone. */
    private TorchRanks ranks;
    /** The run directory, once this process writes it. */
    private volatile Path writing;

    @Override
    public Integer call() throws IOException, ConfigException, InterruptedException {
        if (resume != null && (file != null || out != null || variant != null)) {
            throw new CommandLine.ParameterException(spec.commandLine(), "--resume goes on with the run's own configuration: expected no "
                    + (file != null ? "FILE" : out != null ? "--out" : "--variant") + " beside it");
        }
        final List<String> all = new ArrayList<>(sets);
        if (from != null) {
            all.add("train.stages=" + (resume == null ? 1 : new Checkpoints(resume, 1).stage() + 1));
        }
        if (processes < 1) {
            throw new CommandLine.ParameterException(spec.commandLine(), "--processes: expected 1 or more, given " + processes);
        }
        if (from != null && (processes > 1 || RankEnvironment.of(System.getenv()) != null)) {
            throw new CommandLine.ParameterException(spec.commandLine(),
                    "--from trains in one process: start it without --processes, torchrun or the like");
        }
        if (processes > 1) {
            ConfigFile.load(resume == null ? file : configOf(resume), variant, all); // reports problems once
            try (Launcher launcher = new Launcher(System.err)) {
                Exit.add(launcher::close);
                return launcher.run(processes, RankSetup.command(spec.commandLine().getParseResult().originalArgs()));
            }
        }
        final RankEnvironment environment = RankEnvironment.of(System.getenv());
        if (environment == null) {
            final Config config = Setup.resolved(ConfigFile.load(resume == null ? file : configOf(resume), variant, all));
            run(config, config, resume != null ? resume : newRun(config), resume != null);
            return 0;
        }
        Launcher.onEnd(System.getenv(), () -> Exit.now(1));
        final Config config = RankSetup.resolved(ConfigFile.load(resume == null ? file : configOf(resume), variant, all), environment);
        ranks = RankSetup.join(environment, config, () -> writing == null ? "" : goOn(writing));
        try {
            final RankSetup.Where where = RankSetup.where(ranks, environment, resume != null ? resume : out, resume != null, () -> newRun(config));
            run(config, RankSetup.local(config, environment), where.run(), where.goesOn());
            ranks.close();
        } catch (IOException | ConfigException | RuntimeException | Error e) {
            throw RankSetup.failed(ranks, e);
        }
        return 0;
    }

    /** @param local the configuration with the devices of this process */
    private void run(Config config, Config local, Path run, boolean goesOn) throws IOException, ConfigException {
        if (!writes()) {
            RankSetup.checkSees(run);
            train(config, local, run, goesOn);
            return;
        }
        writing = run;
        try (FileChannel lock = lock(run)) {
            trainLocked(config, local, run, goesOn);
        }
    }

    /** Trains with the run folder locked. Since no other process writes to it, failures say how the run can be resumed. */
    private void trainLocked(Config config, Config local, Path run, boolean goesOn) throws IOException, ConfigException {
        final Runnable goodbye = () -> System.err.println(System.lineSeparator() + "teamtr: stopped" + goOn(run));
        try {
            if (!goesOn) {
                ConfigFile.write(config, run.resolve(RunFiles.CONFIG)); // first, so that a run killed in its warm start can be resumed
            }
            Exit.add(goodbye);
            train(config, local, run, goesOn);
        } catch (RanksException e) {
            throw new RanksException(e.getMessage() + goOn(run), e);
        } catch (IOException | UncheckedIOException | ArithmeticException | IllegalArgumentException | EpisodeException e) {
            throw new IOException(UserErrors.line(e) + (hasBegun(run) ? goOn(run) : ""), e);
        } finally {
            Exit.remove(goodbye);
        }
    }

    /** Whether this process writes the run directory and prints. */
    private boolean writes() {
        return ranks == null || ranks.rank() == 0;
    }

    private static boolean hasBegun(Path run) throws IOException {
        final Path stages = run.resolve(RunFiles.STAGES);
        return Files.exists(stages) && Files.size(stages) > 0;
    }

    /** How a run that ends early can be resumed, for messages; empty where it cannot. */
    private static String goOn(Path run) {
        try {
            final Path latest = new Checkpoints(run, 1).latest();
            return "; " + CommandLines.resume(run) + " goes on " + (latest == null ? "from the start" : "from behind "
                    + latest.getFileName().toString().replaceFirst("stage-0*", "stage "));
        } catch (IOException e) {
            return "";
        }
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
                + LocalDateTime.now(ZoneId.systemDefault()).format(DateTimeFormatter.ofPattern("yyyyMMdd-HHmmss", Locale.ROOT)));
        CommandLines.folder("--out", run);
        if (Files.isDirectory(run)) {
            try (Stream<Path> inside = Files.list(run)) {
                // A start that failed, for example because a model is missing, leaves only these files.
                if (inside.anyMatch(p -> !Set.of(".lock", RunFiles.CONFIG).contains(p.getFileName().toString()))) {
                    throw new IOException(run + ": expected a new or empty folder; " + CommandLines.resume(run) + " goes on with a run");
                }
            }
        }
        return run;
    }

    /** Two processes that write the same run would corrupt it. */
    static FileChannel lock(Path run) throws IOException {
        final FileChannel channel = FileChannel.open(run.resolve(".lock"), StandardOpenOption.CREATE, StandardOpenOption.WRITE);
        try {
            final FileLock lock = channel.tryLock();
            if (lock != null) {
                return channel;
            }
        } catch (OverlappingFileLockException e) {
            // held by this process itself
        }
        channel.close();
        throw new IOException(run + ": another process is writing this run");
    }

    private void train(Config config, Config local, Path run, boolean goesOn) throws IOException, ConfigException {
        final PrintStream err = System.err;
        final List<String> missing = Setup.missingDevices(local);
        if (!missing.isEmpty()) {
            throw new ConfigException(missing);
        }
        final MemoryPlan plan = ranks == null ? MemoryPlan.of(local) : MemoryPlan.of(local, ranks.size(), ranks.here());
        if (plan != null) {
            if (writes()) {
                err.print(plan.table());
            }
            plan.check();
        }
        if (!writes()) {
            trainSilently(local, run);
            return;
        }
        try (Progress progress = Progress.open(err, System.console() != null, config.train().stages(), config.team().agents().size());
                Setup setup = setup(local, run, progress::note);
                RunWriter writer = new RunWriter(run)) {
            final Trainer trainer = setup.trainer();
            final Checkpoints checkpoints = new Checkpoints(run, config.checkpoint().keep());
            final Path latest = goesOn ? checkpoints.latest() : null;
            if (ranks != null) {
                ranks.broadcast("checkpoint", (latest == null ? "" : latest.getFileName().toString()).getBytes(StandardCharsets.UTF_8));
            }
            final int done = latest == null ? 0 : Checkpoints.load(latest, setup.learners);
            if (from != null) {
                trainer.learnFrom(from);
            }
            ConfigFile.write(config, run.resolve(RunFiles.CONFIG)); // with the changes of --set, now that all it names is there
            writer.truncateAfterStage(latest == null ? -1 : done);
            if (goesOn) {
                progress.note(latest == null ? "no checkpoint yet: from the start" : "going on from " + latest);
            }
            setup.checkPrompts(progress::note);
            progress.note(plan(config, setup, run) + (ranks == null || ranks.size() == 1 ? "" : ", by " + ranks.size() + " processes"));
            if (config.certificate().bound() == Config.BoundKind.HORIZON && !trainer.certifies()) {
                progress.note("no bound on gains: the range of returns is not known; set certificate.return_min and return_max");
            }
            final List<RunLog.Stage> stages = new ArrayList<>(latest == null ? List.of() : RunFiles.stages(run));
            final long[] tokens = {0}; // since this process began: for tokens per second
            trainer.train(done, done == 0 ? null : Checkpoints.heldOut(latest), new Trainer.Listener() {
                @Override
                public void updated(RunLog.Update update) {
                    tokens[0] += update.tokens();
                    RunWriter.io(() -> writer.update(update));
                    progress.update(update, tokens[0]);
                }

                @Override
                public void ranked(RunLog.Ranks ranks) {
                    RunWriter.io(() -> writer.ranks(ranks));
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
                        if (saves(config, stage)) {
                            checkpoints.save(stage.stage(), setup.learners, trainer.heldOut());
                        }
                    });
                    progress.stage(stage);
                    stages.add(stage);
                    final String alarm = Gains.alarm(stages);
                    if (alarm != null) {
                        progress.note(alarm);
                    }
                }
            });
            final TinyModel.Untrained u = TinyModel.untrained(run);
            final double[] untrained = {u == null ? Double.NaN : u.accuracy(), u == null ? Double.NaN : u.returnMean()};
            final List<String> command = new ArrayList<>(List.of("./teamtr"));
            command.addAll(spec.commandLine().getParseResult().originalArgs());
            if (ranks != null && ranks.size() > 1) {
                command.addAll(List.of("--processes", Integer.toString(ranks.size()))); // or however else they were started
            }
            writer.summary(RunSummary.of(Version.read(), CommandLines.quoted(command), config.seed(),
                    config.team().agents().stream().map(Config.Agent::role).toList(), untrained, RunFiles.updates(run),
                    RunFiles.stages(run), RunFiles.diagnoses(run)));
        }
        final Path report = Report.write(run);
        say(run, report);
        UnchangedReason.plainly(RunFiles.updates(run)).forEach(System.out::println);
    }

    /** Ranks other than 0 do the same without output. */
    private void trainSilently(Config config, Path run) throws IOException {
        try (Setup setup = setup(config, run, note -> {})) {
            final Trainer trainer = setup.trainer();
            final String latest = new String(ranks.broadcast("checkpoint", new byte[0]), StandardCharsets.UTF_8);
            final Path checkpoint = latest.isEmpty() ? null : new Checkpoints(run, 1).folder().resolve(latest);
            final int done = checkpoint == null ? 0 : Checkpoints.load(checkpoint, setup.learners);
            setup.checkPrompts(note -> {});
            trainer.train(done, done == 0 ? null : Checkpoints.heldOut(checkpoint), new Trainer.Listener() {
                @Override
                public void updated(RunLog.Update update) {
                }

                @Override
                public void staged(RunLog.Stage stage, List<RunLog.Transcript> transcripts) {
                    if (saves(config, stage)) {
                        Checkpoints.sendParts(setup.learners);
                    }
                }
            });
        }
    }

    private static boolean saves(Config config, RunLog.Stage stage) {
        final boolean last = stage.stage() == config.train().stages();
        return stage.stage() > 0 && (last || stage.stage() % config.checkpoint().every() == 0);
    }

    private Setup setup(Config local, Path run, Consumer<String> note) throws IOException {
        if (ranks != null) {
            if (writes()) {
                Setup.prepare(local, run, note);
            }
            ranks.barrier("the warm start");
        }
        return new Setup(local, run, note, ranks);
    }

    /** Describes the training that is about to start, in one line. */
    private static String plan(Config config, Setup setup, Path run) {
        final int updates = setup.learners.size();
        final int prompts = config.rollout().promptsEach(config.train().joint() ? 1 : updates);
        return String.format(Locale.ROOT, "training %s: %d %s of %s, each on %d %s x %d episodes", run,
                config.train().stages(), config.train().stages() == 1 ? "stage" : "stages",
                config.train().joint() ? "one joint update" : updates + (updates == 1 ? " update" : " updates"),
                prompts, prompts == 1 ? "prompt" : "prompts", config.rollout().group());
    }

    private static void say(Path run, Path report) throws IOException {
        final RunSummary s = RunFiles.summary(run);
        if (!Double.isNaN(s.accuracies().accuracyUntrained())) {
            say("untrained:        return %.3f, accuracy %.1f %%", s.returns().returnUntrained(), 100 * s.accuracies().accuracyUntrained());
        }
        say("before stage 1:   return %.3f, accuracy %.1f %%", s.returns().returnBefore(), 100 * s.accuracies().accuracyBefore());
        say("after stage %-4d  return %.3f, accuracy %.1f %%", s.run().stages(), s.returns().returnLast(), 100 * s.accuracies().accuracyLast());
        say("gain in all:      predicted %.3f, realised %.3f", s.returns().predictedGain(), s.returns().realisedGain());
        say("trust region:     %d of %d updates left it", s.monitored().outOfRegionUpdates(), s.run().updates());
        if (Double.isFinite(s.bounded().gainBound())) {
            say("certificate:      a gain of at least %.3f in all, by bounds that hold for a stage at %.3g %%; %d updates undone",
                    s.bounded().gainBound(), 100 * (1 - s.bounded().boundLevel()), s.bounded().boundSkipped());
        } else if (s.certified().vacuousRate() == 1) {
            say("certificate:      none: at radii of this size its bound is vacuous (docs/method.md)");
        } else if (Double.isFinite(s.certified().certificate())) {
            say("certificate:      a gain of at least %.3f in all; its bound is vacuous in %.0f %% of the updates",
                    s.certified().certificate(), 100 * s.certified().vacuousRate());
        }
        say("report:           %s", report);
    }

    private static void say(String format, Object... values) {
        System.out.printf(Locale.ROOT, format + "%n", values);
    }
}
