package org.teamtr.cli;

import com.fasterxml.jackson.annotation.JsonUnwrapped;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.Callable;
import org.teamtr.config.ConfigException;
import org.teamtr.config.ConfigFile;
import org.teamtr.config.Setup;
import org.teamtr.kernels.SamplingConfig;
import org.teamtr.report.BenchmarkTable;
import org.teamtr.report.Json;
import org.teamtr.report.RunFiles;
import org.teamtr.task.Benchmark;
import org.teamtr.task.Preparer;
import org.teamtr.team.KeyedRandom;
import org.teamtr.team.Episode;
import org.teamtr.team.Generation;
import org.teamtr.team.Prompt;
import org.teamtr.team.Prompts;
import org.teamtr.team.Rollout;
import org.teamtr.train.Checkpoints;
import org.teamtr.train.Config;
import org.teamtr.train.Draw;
import org.teamtr.train.Estimate;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;
import picocli.CommandLine;

/** Plays held-out episodes with the latest checkpoint of a run, or with the models of a configuration as they are. */
@Command(name = "eval", mixinStandardHelpOptions = true,
        description = "Evaluates the team of a run (its latest checkpoint) or of a configuration (its models as they are).")
final class EvalCommand implements Callable<Integer> {
    @Spec
    private CommandSpec spec;

    @Parameters(paramLabel = "RUN|FILE", description = "Run directory or configuration.")
    private Path what;

    @Option(names = "--k", description = "Episodes for each prompt, 1 or more. Default: 1, for a benchmark as many as in the paper.")
    private Integer givenK;

    private int k = 1;

    @Option(names = "--benchmark", paramLabel = "NAME", split = ",", description = "Benchmarks of the paper instead of the held-out prompts:"
            + " aime24, aime25, math500, zebralogic, autologi, detective, situation, guess_number, planbench, retail. NAME=FILE for a file of its own.")
    private List<String> benchmarks = List.of();

    @Option(names = "--data-dir", paramLabel = "DIR", description = "Folder with NAME.jsonl of the benchmarks, as data prepare writes them."
            + " Default: data.")
    private Path dataDir = Path.of("data");

    @Option(names = "--mode", paramLabel = "MODE", description = "For benchmarks. chain: the whole team. single:ROLE: that agent alone."
            + " judge:ROLE: that agent chooses one of an episode's messages. best-of: the best of them, chosen by the reference answer. Default:"
            + " chain.")
    private String givenMode = "chain";

    private BenchmarkTable.Mode mode;

    @Option(names = "--seeds", paramLabel = "N", description = "For benchmarks: how often all items are played, 1 or more. Default: 1.")
    private int seeds = 1;

    @Option(names = "--out", paramLabel = "DIR", description = "For benchmarks: folder for eval.html, eval.csv and failures.jsonl.")
    private Path out;

    @Option(names = "--data", paramLabel = "FILE", description = "Prompts instead of the held-out ones, in the same columns.")
    private Path data;

    @Option(names = "--set", paramLabel = "KEY=VALUE", description = "Overrides a key, e.g. eval.temperature=0. Repeatable.")
    private List<String> sets = List.of();

    @Option(names = "--variant", paramLabel = "NAME",
            description = "With a configuration: another team, such as debate; check-config --variants lists them.")
    private String variant;

    @Option(names = "--episode-tokens", paramLabel = "N",
            description = "Tokens an episode may generate, in equal shares for its turns, instead of rollout.max_new_tokens for"
                    + " each: to compare teams at the same cost.")
    private Integer episodeTokens;

    @Option(names = "--json", description = "One JSON object instead of text.")
    private boolean json;

    /** The output, with the names of the JSON. */
    record Result(String team, int prompts, int k, @JsonUnwrapped Scores scores, long tokens, double seconds) {
    }

    /**
     * How good the episodes were.
     *
     * @param avgAtK mean share of correct episodes
     * @param passAtK share of prompts with at least one correct episode
     * @param allOfK share of prompts with nothing but correct episodes
     */
    record Scores(double returnMean, double returnError, double avgAtK, double passAtK, double allOfK) {
    }

    @Override
    public Integer call() throws IOException, ConfigException {
        final boolean isRun = Files.isDirectory(what);
        if (isRun && variant != null) {
            throw wrong("--variant: expected a configuration, given the run " + what);
        }
        final Config config = Setup.resolved(ConfigFile.load(isRun ? what.resolve(RunFiles.CONFIG) : what, variant, sets));
        if (episodeTokens != null && episodeTokens < config.team().turns()) {
            throw wrong("--episode-tokens: expected one for each of the " + config.team().turns() + " turns or more, given " + episodeTokens);
        }
        k = givenK == null ? 1 : givenK;
        if (k < 1) {
            throw wrong("--k: expected 1 or more, given " + k);
        }
        if (seeds < 1) {
            throw wrong("--seeds: expected 1 or more, given " + seeds);
        }
        try {
            mode = BenchmarkTable.Mode.of(givenMode);
        } catch (IllegalArgumentException e) {
            throw wrong(e.getMessage());
        }
        if (!benchmarks.isEmpty() && Setup.isBudget(config)) {
            throw wrong("--benchmark: expected a team whose task.name is files, given " + config.task().name());
        }
        if (data != null && Setup.isBudget(config)) {
            throw wrong("--data: expected a team whose task.name is files, given " + config.task().name());
        }
        final Path latest = isRun ? new Checkpoints(what, 1).latest() : null;
        if (isRun && latest == null) {
            throw new IOException(what + ": there is no checkpoint yet");
        }
        final Path scratch = isRun ? null : Files.createTempDirectory("teamtr-eval-" + ProcessHandle.current().pid() + "-");
        try (Setup setup = new Setup(config, isRun ? what : scratch, line -> System.err.println(line))) {
            if (isRun) {
                Checkpoints.load(latest, setup.learners);
            }
            if (!benchmarks.isEmpty()) {
                evaluateBenchmarks(setup);
                return 0;
            }
            final Prompts prompts = data == null ? setup.evaluated(System.err::println) : setup.prompts(data, System.err::println);
            final Result result = evaluate(setup, prompts, isRun ? latest.toString() : "as configured");
            if (json) {
                System.out.println(Json.MAPPER.writeValueAsString(result));
            } else {
                say("%s: %,d %s x %d", result.team(), result.prompts(), result.prompts() == 1 ? "prompt" : "prompts", k);
                final Scores scores = result.scores();
                say("return  %s", new Estimate(scores.returnMean(), scores.returnError()).text("%.4f"));
                say("avg@%d   %.2f %%", k, 100 * scores.avgAtK());
                say("pass@%d  %.2f %%   (any of %d correct)", k, 100 * scores.passAtK(), k);
                say("pass^%d  %.2f %%   (all %d correct)", k, 100 * scores.allOfK(), k);
                say("%,d tokens in %.1f s", result.tokens(), result.seconds());
            }
        } finally {
            if (scratch != null) {
                Checkpoints.remove(scratch);
            }
        }
        return 0;
    }

    private CommandLine.ParameterException wrong(String message) {
        return new CommandLine.ParameterException(spec.commandLine(), message);
    }

    private void evaluateBenchmarks(Setup setup) throws IOException {
        final Path failures = out == null ? null : out.resolve(BenchmarkTable.FAILURES);
        if (out != null) {
            CommandLines.folder("--out", out);
            Files.deleteIfExists(failures);
        }
        final BenchmarkRun run = new BenchmarkRun(setup, generation(setup.config), mode, failures);
        final List<BenchmarkTable.Result> results = new ArrayList<>();
        for (String name : benchmarks) {
            final int equals = name.indexOf('=');
            final Benchmark benchmark = Benchmark.named(equals < 0 ? name : name.substring(0, equals));
            final Path file = equals < 0 ? dataDir.resolve(name + ".jsonl") : Path.of(name.substring(equals + 1));
            if (!Files.exists(file)) {
                throw new IOException(file + ": no such file; " + (Preparer.names().contains(benchmark.name()) ? "teamtr data prepare "
                        + benchmark.name() + " SOURCE --out " + dataDir + " makes it" : "docs/benchmarks.md says what its lines are"));
            }
            results.add(run.play(benchmark, file, givenK == null ? benchmark.k() : givenK, seeds));
        }
        System.out.print(json ? Json.MAPPER.writeValueAsString(results) + System.lineSeparator() : BenchmarkTable.text(results));
        if (out != null) {
            BenchmarkTable.write(results, what.toAbsolutePath().normalize().getFileName().toString(), out);
        }
    }

    private Generation generation(Config c) {
        return new Generation(c.eval().temperature(), SamplingConfig.ALL.withTopP((float) c.eval().topP()),
                episodeTokens == null ? c.rollout().maxNewTokens() : episodeTokens / c.team().turns(),
                c.rollout().truncation());
    }

    private static void say(String format, Object... values) {
        System.out.printf(Locale.ROOT, format + "%n", values);
    }

    private Result evaluate(Setup setup, Prompts prompts, String team) {
        final Config c = setup.config;
        final long started = System.nanoTime();
        final int n = prompts.size();
        final List<Prompt> some = new ArrayList<>();
        for (int i = 0; i < n; i++) {
            some.add(prompts.get(i));
        }
        final Generation generation = generation(c);
        final List<Episode> episodes = Rollout.play(setup.team, some, k, generation, setup.verifier, KeyedRandom.seed(c.seed(), Draw.EVALUATION));
        final double[] returns = new double[n];
        double correct = 0;
        int any = 0;
        int all = 0;
        for (int p = 0; p < n; p++) {
            int right = 0;
            for (Episode e : episodes.subList(p * k, (p + 1) * k)) {
                returns[p] += e.reward() / k;
                right += e.score().correct() ? 1 : 0;
            }
            correct += right;
            any += right > 0 ? 1 : 0;
            all += right == k ? 1 : 0;
        }
        final Estimate reward = Estimate.of(returns);
        final Scores scores = new Scores(reward.mean(), reward.error(), correct / ((double) n * k), (double) any / n, (double) all / n);
        return new Result(team, n, k, scores, episodes.stream().mapToLong(Episode::tokens).sum(), (System.nanoTime() - started) * 1e-9);
    }
}
