package org.teamtr.cli;

import java.io.IOException;
import java.io.PrintStream;
import java.io.UncheckedIOException;
import java.lang.management.ManagementFactory;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import me.tongfei.progressbar.ConsoleProgressBarConsumer;
import me.tongfei.progressbar.ProgressBar;
import me.tongfei.progressbar.ProgressBarBuilder;
import org.teamtr.config.ConfigException;
import org.teamtr.config.ConfigFile;
import org.teamtr.config.TinyModel;
import org.teamtr.distributed.Launcher;
import org.teamtr.distributed.RankEnvironment;
import org.teamtr.distributed.Ranks;
import org.teamtr.experiment.ExactRun;
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
                String.join(" ", spec.commandLine().getParseResult().originalArgs())), WHILE_OTHERS_RUN, () -> "");
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

    /** A planned run, with its folder. {@code start} is the folder of the run that it continues, or null. */
    private record Job(ExperimentFile.Setting setting, long seed, Path folder, Config config, Path start) {
        String name() {
            return folder.getFileName().toString();
        }

        boolean done() {
            return Files.exists(folder.resolve(RunFiles.SUMMARY));
        }
    }

    private final Set<Process> processes = ConcurrentHashMap.newKeySet();
    private final Map<Path, Object> reading = new ConcurrentHashMap<>(); // one at a time of those that continue the same run

    private boolean run(ExperimentFile file, Ranks ranks, int here) throws IOException, ConfigException, InterruptedException {
        final String name = file.experiment.name();
        final Path folder = CommandLines.folder("--out", out.resolve(quick ? name + "-quick" : name));
        final int runs = seeds != null ? seeds : file.seeds;
        final int processors = Math.max(1, Runtime.getRuntime().availableProcessors() / here);
        final int atOnce = Math.min(workers != null ? Math.max(1, workers) : processors, runs * file.settings.size());
        final int threads = Math.max(1, processors / atOnce);
        final List<Job> starts = new ArrayList<>();
        final List<Job> points = new ArrayList<>();
        for (long seed = 1; seed <= runs; seed++) {
            final Path start = file.starts() ? folder.resolve(START + "-seed" + seed) : null;
            if (start != null) {
                starts.add(checked(new Job(null, seed, start, file.start(seed, threads), null)));
            }
            for (ExperimentFile.Setting setting : file.settings) {
                points.add(checked(new Job(setting, seed, folder.resolve(setting.point().name() + "-seed" + seed),
                        setting.config(seed, threads), start)));
            }
        }
        final ExperimentData.Info before = ExperimentData.info(folder);
        final long started = System.nanoTime();
        final boolean news = Stream.concat(starts.stream(), points.stream()).anyMatch(job -> !job.done());
        final List<String> failed = new ArrayList<>();
        final List<Job> ownStarts = share(starts, ranks);
        final List<Job> ownPoints = share(points, ranks);
        checkSees(folder, ranks);
        try (Progress progress = new Progress((ranks.size() > 1 ? "rank " + ranks.rank() + ": " : "") + name,
                ownStarts.size() + ownPoints.size())) {
            failed.addAll(all(work(ownStarts, atOnce, threads, progress), ranks));
            failed.addAll(all(work(ownPoints, atOnce, threads, progress), ranks));
        }
        if (ranks.rank() > 0) {
            return failed.isEmpty();
        }
        final double seconds = (news ? (System.nanoTime() - started) * 1e-9 : 0) + (before == null ? 0 : before.seconds());
        final String command = "./teamtr experiment " + name + (quick ? " --quick" : "")
                + (seeds != null ? " --seeds " + seeds : "");
        final ExperimentData.Info info = new ExperimentData.Info(name, new ExperimentData.Origin(command, Version.read(), machine()),
                new ExperimentData.Extent(quick, runs, atOnce * ranks.size()), seconds, starts.size() + points.size(), failed);
        final List<ExperimentData.Made> made = points.stream().filter(Job::done)
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
    private static List<Job> share(List<Job> jobs, Ranks ranks) {
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
    private Job checked(Job job) throws IOException, ConfigException {
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

    private static String comparable(Config c, Job job) {
        final Config agents = job.start() == null ? c : job.config();
        return ConfigFile.text(c.with(agents.team(), agents.policies())
                .with(new Config.Hardware(c.hardware().device(), 0, c.hardware().matmul(), c.hardware().memory())));
    }

    // ---- the runs ----

    /** {@return the names of those that failed} */
    private List<String> work(List<Job> jobs, int atOnce, int threads, Progress progress) throws InterruptedException {
        final ExecutorService pool = Executors.newFixedThreadPool(atOnce);
        final Runnable end = () -> processes.forEach(Process::destroy); // workers end with us
        Exit.add(end);
        final List<String> failed = new ArrayList<>();
        try {
            final List<Future<String>> results = jobs.stream().map(job -> pool.submit(() -> {
                final boolean there = job.done();
                final long started = System.nanoTime();
                final String problem = there ? null : make(job, jobs, threads);
                progress.done(job.name(), there ? "was there" : problem != null ? "FAILED"
                        : seconds(System.nanoTime() - started));
                return problem;
            })).toList();
            for (int i = 0; i < jobs.size(); i++) {
                String problem;
                try {
                    problem = results.get(i).get();
                } catch (ExecutionException e) {
                    problem = e.getCause().toString();
                }
                if (problem != null) {
                    failed.add(jobs.get(i).name());
                    progress.note(jobs.get(i).name() + ": " + problem);
                }
            }
        } finally {
            pool.shutdownNow();
            processes.forEach(Process::destroy);
            Exit.remove(end);
        }
        return failed;
    }

    private static String seconds(long nanos) {
        return String.format(Locale.ROOT, "%.0f s", nanos * 1e-9);
    }

    /** Makes or resumes a run. {@return null, or the error} */
    private String make(Job job, List<Job> all, int threads) throws IOException, ConfigException, InterruptedException {
        if (job.setting() != null && job.setting().exact()) {
            try {
                ExactRun.make(job.config(), job.folder(),
                        "./teamtr " + CommandLines.quoted(spec.commandLine().getParseResult().originalArgs()));
                return null;
            } catch (ConfigException | IllegalArgumentException e) {
                return e.getMessage();
            }
        }
        final Path log = job.folder().resolveSibling(job.name() + ".log");
        Files.deleteIfExists(log);
        Config config = job.config();
        if (job.start() != null) {
            if (!Files.exists(job.folder().resolve(RunFiles.CONFIG))) {
                if (!Files.exists(job.start().resolve(RunFiles.SUMMARY))) {
                    return "there is no " + job.start().getFileName() + " to go on from";
                }
                final List<String> replace = new ArrayList<>(List.of("replace", job.start().toString(), "--out", job.folder()
                        .toString()));
                job.setting().replace().forEach((option, value) -> replace.addAll(List.of("--" + option, value)));
                synchronized (reading.computeIfAbsent(job.start(), start -> new Object())) { // which replace locks
                    final String problem = command(replace, log, threads);
                    if (problem != null) {
                        return problem;
                    }
                }
            }
            final Config replaced = ConfigFile.read(job.folder().resolve(RunFiles.CONFIG));
            config = config.with(replaced.team(), replaced.policies());
        } else if (!Files.exists(job.folder().resolve(RunFiles.CONFIG))) {
            Files.createDirectories(job.folder());
            borrow(job, all);
        }
        ConfigFile.write(config, job.folder().resolve(RunFiles.CONFIG));
        return command(List.of("train", "--resume", job.folder().toString()), log, threads);
    }

    /** All agents start from the same small model; runs that would make the same model share it. */
    private static void borrow(Job job, List<Job> all) throws IOException {
        final Path own = job.folder().resolve(TinyModel.FOLDER);
        for (Job other : all) {
            final Path theirs = other.folder().resolve(TinyModel.FOLDER);
            if (other != job && !Files.exists(own) && Files.exists(theirs) && TinyModel.same(job.config(), other.config())) {
                final Path next = Files.createDirectories(job.folder().resolve("." + TinyModel.FOLDER));
                try (Stream<Path> files = Files.list(theirs)) {
                    for (Path file : files.toList()) {
                        Files.copy(file, next.resolve(file.getFileName()), StandardCopyOption.REPLACE_EXISTING);
                    }
                }
                Files.move(next, own, StandardCopyOption.ATOMIC_MOVE);
            }
        }
    }

    /** Runs a command of this program with its output in a file. {@return null, or the error} */
    private String command(List<String> command, Path log, int threads) throws IOException, InterruptedException {
        final int code = workers != null && workers == 0 ? here(command, log) : process(command, log, threads);
        if (code == 0) {
            return null;
        }
        final List<String> said = Files.readAllLines(log);
        return "exit code " + code + (said.isEmpty() ? "" : ": " + said.get(said.size() - 1)) + " (" + log + ")";
    }

    /** {@return the exit code} */
    private static int here(List<String> command, Path log) throws IOException {
        final PrintStream out = System.out;
        final PrintStream err = System.err;
        try (PrintStream file = new PrintStream(Files.newOutputStream(log, StandardOpenOption.CREATE, StandardOpenOption.APPEND), true,
                StandardCharsets.UTF_8)) {
            System.setOut(file);
            System.setErr(file);
            return Main.run(command.toArray(String[]::new));
        } finally {
            System.setOut(out);
            System.setErr(err);
        }
    }

    /** Runs a command in another process. {@return the exit code} */
    private int process(List<String> command, Path log, int threads) throws IOException, InterruptedException {
        final List<String> line = new ArrayList<>(List.of(Path.of(System.getProperty("java.home"), "bin", "java").toString()));
        ManagementFactory.getRuntimeMXBean().getInputArguments().stream()
                .filter(a -> a.startsWith("-X") || a.startsWith("-D") || a.startsWith("--enable-native-access"))
                .forEach(line::add);
        line.addAll(List.of("-cp", System.getProperty("java.class.path"), Main.class.getName()));
        line.addAll(command);
        final ProcessBuilder builder = new ProcessBuilder(line).redirectErrorStream(true)
                .redirectOutput(ProcessBuilder.Redirect.appendTo(log.toFile()));
        for (String pool : List.of("TEAMTR_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")) {
            builder.environment().put(pool, Integer.toString(threads));
        }
        builder.environment().putIfAbsent("OMP_WAIT_POLICY", "PASSIVE"); // as ./teamtr has it
        builder.environment().remove("WORLD_SIZE"); // this command may be a rank; the run is not
        final Process process = builder.start();
        processes.add(process);
        try {
            return process.waitFor();
        } finally {
            process.destroy();
            processes.remove(process);
        }
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

    /** Shows progress: a bar on a terminal, otherwise a line for each run. */
    private static final class Progress implements AutoCloseable {
        private final String name;
        private final int runs;
        private final ProgressBar bar;
        private int done;

        Progress(String name, int runs) {
            this.name = name;
            this.runs = runs;
            bar = System.console() == null ? null : new ProgressBarBuilder().setTaskName(name).setInitialMax(runs)
                    .setUnit(" runs", 1)
                    .setConsumer(new ConsoleProgressBarConsumer(System.err)).build();
        }

        synchronized void done(String run, String how) {
            done++;
            if (bar == null) {
                System.err.printf(Locale.ROOT, "%s %d/%d  %s  %s%n", name, done, runs, run, how);
            } else {
                bar.step().setExtraMessage(run);
            }
        }

        synchronized void note(String line) {
            System.err.println((bar == null ? "" : System.lineSeparator()) + "teamtr: " + line);
        }

        @Override
        public void close() {
            if (bar != null) {
                bar.close();
            }
        }
    }
}
