package org.teamtr.cli;

import java.io.IOException;
import java.io.PrintStream;
import java.lang.management.ManagementFactory;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.stream.Stream;
import me.tongfei.progressbar.ConsoleProgressBarConsumer;
import me.tongfei.progressbar.ProgressBar;
import me.tongfei.progressbar.ProgressBarBuilder;
import org.teamtr.config.ConfigException;
import org.teamtr.config.ConfigFile;
import org.teamtr.config.TinyModel;
import org.teamtr.experiment.ExactRun;
import org.teamtr.experiment.ExperimentFile;
import org.teamtr.report.RunFiles;
import org.teamtr.train.Config;

/** Makes the runs of an experiment, each by commands of this program in processes of their own. */
final class ExperimentRuns {
    /** A planned run, with its folder. {@code start} is the folder of the run that it continues, or null. */
    record Job(ExperimentFile.Setting setting, long seed, Path folder, Config config, Path start) {
        String name() {
            return folder.getFileName().toString();
        }

        boolean done() {
            return Files.exists(folder.resolve(RunFiles.SUMMARY));
        }
    }

    private final List<String> arguments;
    private final boolean inThisProcess;
    private final int atOnce;
    private final int threads;
    private final Progress progress;
    private final Set<Process> processes = ConcurrentHashMap.newKeySet();
    private final Map<Path, Object> reading = new ConcurrentHashMap<>(); // one at a time of those that continue the same run

    /**
     * @param arguments of the experiment's command
     * @param inThisProcess whether runs are made by this process, one after the other
     * @param atOnce the most runs that are made at the same time
     * @param threads of each
     */
    ExperimentRuns(List<String> arguments, boolean inThisProcess, int atOnce, int threads, Progress progress) {
        this.arguments = arguments;
        this.inThisProcess = inThisProcess;
        this.atOnce = atOnce;
        this.threads = threads;
        this.progress = progress;
    }

    /** Makes runs, several at once, unless they are finished. {@return the names of those that failed} */
    List<String> make(List<Job> jobs) throws InterruptedException {
        final ExecutorService pool = Executors.newFixedThreadPool(atOnce);
        final Runnable end = () -> processes.forEach(Process::destroy); // workers end with us
        Exit.add(end);
        final List<String> failed = new ArrayList<>();
        try {
            final List<Future<String>> results = jobs.stream().map(job -> pool.submit(() -> {
                final boolean there = job.done();
                final long started = System.nanoTime();
                final String problem = there ? null : make(job, jobs);
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
    private String make(Job job, List<Job> all) throws IOException, ConfigException, InterruptedException {
        if (job.setting() != null && job.setting().exact()) {
            try {
                ExactRun.make(job.config(), job.folder(),
                        "./teamtr " + CommandLines.quoted(arguments));
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
                    final String problem = command(replace, log);
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
        return command(List.of("train", "--resume", job.folder().toString()), log);
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
    private String command(List<String> command, Path log) throws IOException, InterruptedException {
        final int code = inThisProcess ? here(command, log) : process(command, log);
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
    private int process(List<String> command, Path log) throws IOException, InterruptedException {
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

    /** Shows progress: a bar on a terminal, otherwise a line for each run. */
    static final class Progress implements AutoCloseable {
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
