package org.teamtr.cli;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.teamtr.config.ConfigException;
import org.teamtr.config.ConfigFile;
import org.teamtr.distributed.Launcher;
import org.teamtr.distributed.RankEnvironment;
import org.teamtr.distributed.Ranks;
import org.teamtr.experiment.Experiment;
import org.teamtr.experiment.ExperimentData;
import org.teamtr.experiment.ExperimentFile;
import org.teamtr.experiment.ExperimentPage;
import org.teamtr.report.RunFiles;
import org.teamtr.report.Version;
import org.teamtr.team.KeyedRandom;
import org.teamtr.torch.TorchRanks;
import org.teamtr.train.Config;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;
import picocli.CommandLine;

/**
 * Runs named experiments: every point with every seed, a process each, as many at once as there are processors. Ranks, as torchrun starts
 * them, divide the runs; rank 0 writes the page.
 */
@Command(name = "experiment", mixinStandardHelpOptions = true, description = {
    "Runs experiments: every point with every seed, in processes of their own. Writes a page, pictures, and CSV files.",
    "A second start makes only the runs that are missing. Without a name: lists what there is.",
    "Started several times by torchrun or the like, on machines that share --out, the processes divide the runs."})
final class ExperimentCommand implements Callable<Integer> {
    private static final String START = "start";
    /** A rank that has made its runs waits for those of the others. One that dies is noticed long before. */
    private static final Duration WHILE_OTHERS_RUN = Duration.ofDays(30);

    @Spec
    private CommandSpec spec;

    @Parameters(arity = "0..*", paramLabel = "NAME",
            description = "The name of an experiment, all for every experiment, or a file that ends in .yaml.")
    private List<String> names = List.of();

    @Option(names = "--seeds", paramLabel = "S",
            description = "Number of runs of each point, with the seeds 1 to S. Default: the experiment's.")
    private Integer seeds;

    @Option(names = "--quick",
            description = "Smaller settings, within five minutes on two cores: a test that it works, too small to decide a claim.")
    private boolean quick;

    @Option(names = "--out", paramLabel = "DIR",
            description = "Folder for the results, with a folder for each experiment. Default: runs/experiments.")
    private Path out = Path.of("runs", "experiments");

    @Option(names = "--workers", paramLabel = "N",
            description = "Number of runs at once, each in a process. Default: the number of processors. 0: one run after the other in"
                    + " this process.")
    private Integer workers;

    @Option(names = "--results", paramLabel = "FILE",
            description = "Runs nothing: writes the page of all results, a Markdown file, from the data that --data holds.")
    private Path results;

    @Option(names = "--data", paramLabel = "DIR",
            description = "With --results: the folder that has a folder of data for each experiment. Default: docs/data/experiments.")
    private Path data = Path.of("docs", "data", "experiments");

    @Override
    public Integer call() throws IOException, ConfigException, InterruptedException {
        if (seeds != null && seeds < 1) {
            throw new CommandLine.ParameterException(spec.commandLine(), "--seeds: expected 1 or more, given " + seeds);
        }
        if (workers != null && workers < 0) {
            throw new CommandLine.ParameterException(spec.commandLine(), "--workers: expected 0 or more, given " + workers);
        }
        if (results != null) {
            final List<Experiment> all = new ArrayList<>();
            for (String name : ExperimentFile.NAMES) {
                all.add(ExperimentFile.load(name, false).experiment);
            }
            ExperimentPage.results(all, data, results);
            System.out.println(results);
            return 0;
        }
        if (names.isEmpty()) {
            for (String name : ExperimentFile.NAMES) {
                final Experiment e = ExperimentFile.load(name, false).experiment;
                System.out.printf(Locale.ROOT, "%-14s %s (%s)%n", name, e.text().title(), e.text().paper());
            }
            return 0;
        }
        final List<ExperimentFile> experiments = new ArrayList<>();
        for (String name : names.equals(List.of("all")) ? ExperimentFile.NAMES : names) {
            experiments.add(ExperimentFile.load(name, quick));
        }
        final RankEnvironment environment = RankEnvironment.of(System.getenv());
        if (environment == null) {
            return run(experiments, Ranks.ONE, 1);
        }
        if (workers != null && workers == 0) { // a run would take itself for one of the ranks
            throw new CommandLine.ParameterException(spec.commandLine(), "--workers: expected 1 or more with WORLD_SIZE set, given 0");
        }
        Launcher.onEnd(System.getenv(), () -> Exit.now(1));
        final TorchRanks ranks = RankSetup.join(environment, Map.of("version", Version.read(), "arguments",
                String.join(" ", arguments())), WHILE_OTHERS_RUN, () -> "");
        try {
            final int code = run(experiments, ranks, environment.localSize());
            ranks.close();
            return code;
        } catch (IOException | ConfigException | RuntimeException | Error e) {
            throw RankSetup.failed(ranks, e);
        }
    }

    /** @param here how many ranks share this machine */
    private int run(List<ExperimentFile> experiments, Ranks ranks, int here) throws IOException, ConfigException, InterruptedException {
        boolean ok = true;
        for (ExperimentFile experiment : experiments) {
            ok &= run(experiment, ranks, here);
        }
        return ok ? CommandLine.ExitCode.OK : CommandLine.ExitCode.SOFTWARE;
    }

    // ---- one experiment ----

    private boolean run(ExperimentFile file, Ranks ranks, int here) throws IOException, ConfigException, InterruptedException {
        final String name = file.experiment.name();
        final Path folder = CommandLines.folder("--out", out.resolve(quick ? name + "-quick" : name));
        final int runs = seeds != null ? seeds : file.seeds;
        final int processors = Math.max(1, Runtime.getRuntime().availableProcessors() / here);
        final int atOnce = Math.min(workers != null ? Math.max(1, workers) : processors, runs * file.settings.size());
        final int threads = Math.max(1, processors / atOnce);
        final List<ExperimentRuns.Job> starts = new ArrayList<>();
        final List<ExperimentRuns.Job> points = new ArrayList<>();
        for (long seed = 1; seed <= runs; seed++) {
            final Path start = file.starts() ? folder.resolve(START + "-seed" + seed) : null;
            if (start != null) {
                starts.add(checked(new ExperimentRuns.Job(null, seed, start, file.start(seed, threads), null)));
            }
            for (ExperimentFile.Setting setting : file.settings) {
                points.add(checked(new ExperimentRuns.Job(setting, seed, folder.resolve(setting.point().name() + "-seed" + seed),
                        setting.config(seed, threads), start)));
            }
        }
        final ExperimentData.Info before = ExperimentData.info(folder);
        final long started = System.nanoTime();
        final boolean news = Stream.concat(starts.stream(), points.stream()).anyMatch(job -> !job.done());
        final List<String> failed = new ArrayList<>();
        final List<ExperimentRuns.Job> ownStarts = share(starts, ranks);
        final List<ExperimentRuns.Job> ownPoints = share(points, ranks);
        checkSees(folder, ranks);
        try (ExperimentRuns.Progress progress = new ExperimentRuns.Progress((ranks.size() > 1 ? "rank " + ranks.rank() + ": " : "") + name,
                ownStarts.size() + ownPoints.size())) {
            final ExperimentRuns maker = new ExperimentRuns(arguments(), workers != null && workers == 0, atOnce, threads, progress);
            failed.addAll(all(maker.make(ownStarts), ranks));
            failed.addAll(all(maker.make(ownPoints), ranks));
        }
        if (ranks.rank() > 0) {
            return failed.isEmpty();
        }
        final double seconds = (news ? (System.nanoTime() - started) * 1e-9 : 0) + (before == null ? 0 : before.seconds());
        final String command = "./teamtr experiment " + name + (quick ? " --quick" : "")
                + (seeds != null ? " --seeds " + seeds : "");
        final ExperimentData.Info info = new ExperimentData.Info(name, new ExperimentData.Origin(command, Version.read(), machine()),
                new ExperimentData.Extent(quick, runs, atOnce * ranks.size()), seconds, starts.size() + points.size(), failed);
        final List<ExperimentData.Made> made = points.stream().filter(ExperimentRuns.Job::done)
                .map(job -> new ExperimentData.Made(job.setting().point().name(), job.seed(), job.folder())).toList();
        final ExperimentData measured = ExperimentData.read(file.experiment, info, made);
        measured.write(file.experiment, folder);
        final Path page = ExperimentPage.write(file.experiment, measured, folder);
        if (failed.isEmpty()) {
            System.out.println(page);
        } else {
            System.err.println("teamtr: " + failed.size() + " of " + info.runs() + " runs failed; the others are in " + page);
        }
        return failed.isEmpty();
    }

    /** {@return this rank's runs} They are assigned in random order, since neighbours in the list take about equally long. */
    private static List<ExperimentRuns.Job> share(List<ExperimentRuns.Job> jobs, Ranks ranks) {
        return ranks.size() == 1 ? jobs : IntStream.of(ranks.share(KeyedRandom.permutation(jobs.size(), 0))).mapToObj(jobs::get).toList();
    }

    /** {@return the names that the ranks report, joined} */
    private static List<String> all(List<String> names, Ranks ranks) {
        return ranks.gather("the names of runs that failed", String.join("\n", names).getBytes(StandardCharsets.UTF_8)).stream()
                .flatMap(those -> new String(those, StandardCharsets.UTF_8).lines()).toList();
    }

    /** The runs of all ranks go to one folder. */
    private static void checkSees(Path folder, Ranks ranks) throws IOException {
        if (ranks.size() > 1) {
            if (ranks.rank() == 0) {
                Files.createDirectories(folder);
            }
            ranks.barrier("the folder of the experiment");
            RankSetup.checkSees(folder);
        }
    }

    /** Refuses a folder with runs of other settings, which would be mixed up with these. Keys that a replacement changes are not compared. */
    private ExperimentRuns.Job checked(ExperimentRuns.Job job) throws IOException, ConfigException {
        final Path config = job.folder().resolve(RunFiles.CONFIG);
        if (Files.exists(config) && (job.start() == null || job.done())) {
            final Config old = ConfigFile.read(config);
            if (!comparable(old, job).equals(comparable(job.config(), job))) {
                throw new IOException(job.folder()
                        + ": holds a run of other settings; remove it, or put these elsewhere with --out");
            }
        }
        return job;
    }

    private static String comparable(Config c, ExperimentRuns.Job job) {
        final Config agents = job.start() == null ? c : job.config();
        return ConfigFile.text(c.with(agents.team(), agents.policies())
                .with(new Config.Hardware(c.hardware().device(), 0, c.hardware().matmul(), c.hardware().memory())));
    }

    private List<String> arguments() {
        return spec.commandLine().getParseResult().originalArgs();
    }

    private static String machine() {
        String cpu = System.getProperty("os.arch");
        try (Stream<String> lines = Files.lines(Path.of("/proc/cpuinfo"))) {
            cpu = lines.filter(l -> l.startsWith("model name")).map(l -> l.substring(l.indexOf(':') + 1).strip()).findFirst()
                    .orElse(cpu);
        } catch (IOException | UncheckedIOException e) {
            // another system: the architecture has to do
        }
        return cpu + ", " + Runtime.getRuntime().availableProcessors() + " processors, Java "
                + System.getProperty("java.version");
    }
}
