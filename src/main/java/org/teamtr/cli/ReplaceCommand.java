package org.teamtr.cli;

import java.io.FileNotFoundException;
import java.io.IOException;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.IdentityHashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.teamtr.config.ConfigException;
import org.teamtr.config.ConfigFile;
import org.teamtr.config.Setup;
import org.teamtr.kernels.SamplingConfig;
import org.teamtr.report.Report;
import org.teamtr.report.RunFiles;
import org.teamtr.report.RunWriter;
import org.teamtr.team.KeyedRandom;
import org.teamtr.team.Generation;
import org.teamtr.team.Team;
import org.teamtr.team.Utterance;
import org.teamtr.team.Verifier;
import org.teamtr.torch.TorchPolicy;
import org.teamtr.train.Alignment;
import org.teamtr.train.Checkpoints;
import org.teamtr.train.Config;
import org.teamtr.train.Draw;
import org.teamtr.train.Estimate;
import org.teamtr.train.HeldOutScores;
import org.teamtr.train.Learner;
import org.teamtr.train.Policy;
import org.teamtr.train.RunLog;
import org.teamtr.train.Trainer;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;
import picocli.CommandLine;

/** Replaces an agent's model by another one, aligned with it, and makes a run that continues with the new team. */
@Command(name = "replace", mixinStandardHelpOptions = true, description = {
    "Replaces the model of an agent of a run's latest checkpoint, and makes a run directory that train --resume continues.",
    "The old run is not changed. In the new one that agent's optimiser and beta start anew; the other agents are the same to the bit."})
final class ReplaceCommand implements Callable<Integer> {
    private static final List<String> PROTOCOL = List.of("system", "thinking");

    @Spec
    private CommandSpec spec;

    @Parameters(paramLabel = "RUN", description = "Run directory.")
    private Path run;

    @Option(names = "--agent", required = true, paramLabel = "AGENT",
            description = "The agent whose model is replaced: a role, or a number from 1 on.")
    private String agent;

    @Option(names = "--with", required = true, paramLabel = "MODEL",
            description = "A folder in the Hugging Face layout, such as a"
                    + " checkpoint RUN/checkpoints/stage-0007/ROLE; tiny for the built-in model after its warm start; random for the"
                    + " agent's own model with random weights.")
    private String with;

    @Option(names = "--align", paramLabel = "HOW",
            description = "stage0: the new model is trained on the old one's messages until its KL is"
                    + " within delta0. none: a direct swap. scratch: only the new model's shape and tokenizer, with random weights."
                    + " Default: stage0.")
    private String align = "stage0";

    @Option(names = "--unify", split = ",", paramLabel = "PART",
            description = "The parts of the agent's protocol that the new model takes over:"
                    + " system (the system turn) and thinking (enable_thinking of the chat template), or none. Otherwise the model has no"
                    + " system turn, and thinking on. Default: system,thinking.")
    private List<String> unify = PROTOCOL;

    @Option(names = "--system", paramLabel = "TEXT", description = "The system turn of the new model, instead of the agent's own.")
    private String system;

    @Option(names = "--probes", description = "Number of the agent's messages for the alignment, a fifth of them for validation. Default: 500.")
    private int probes = 500;

    @Option(names = "--delta0", description = "Radius in nats, in the unit of trust_region.delta, more than 0. Default: the agent's own delta.")
    private Double delta0;

    @Option(names = "--steps", description = "The largest number of optimiser steps of stage0, 1 or more. Default: 1000.")
    private int steps = 1000;

    @Option(names = "--batch", description = "Probes in a step, 1 or more. Default: 64.")
    private int batch = 64;

    @Option(names = "--learning-rate",
            description = "Learning rate of stage0, more than 0. Default: optimiser.learning_rate; imitation"
                    + " often allows ten times that.")
    private Double learningRate;

    @Option(names = "--out", paramLabel = "DIR", description = "The new run directory, new or empty. Default: RUN-AGENT-HOW.")
    private Path out;

    @Override
    public Integer call() throws IOException, ConfigException {
        final Config config = Setup.resolved(ConfigFile.read(TrainCommand.configOf(run)));
        final Path latest = new Checkpoints(run, 1).latest();
        if (latest == null) {
            throw new IOException(run + ": there is no checkpoint yet");
        }
        final int k = slot(config);
        check(config);
        final String role = config.team().agents().get(k).role();
        final Path to = out != null ? out : run.resolveSibling(run.toAbsolutePath().normalize().getFileName() + "-"
                + role.replaceAll("[^A-Za-z0-9_+.-]", "_") + "-" + align);
        if (Files.exists(to) && !Files.isDirectory(to)) {
            CommandLines.folder("--out", to); // throws
        }
        if (Files.isDirectory(to)) {
            try (Stream<Path> inside = Files.list(to)) {
                if (inside.findAny().isPresent()) {
                    throw new IOException(to + ": expected a new or empty folder");
                }
            }
        }
        // Written under another name and renamed: a folder of this name is complete.
        final Path absolute = to.toAbsolutePath().normalize();
        final Path next = absolute.resolveSibling("." + absolute.getFileName() + ".next");
        try (FileChannel lock = TrainCommand.lock(run)) { // a run in progress removes its older checkpoints
            Checkpoints.remove(next);
            try {
                Files.createDirectories(next);
                final RunLog.Replacement done = replace(config, k, latest, next, to);
                Files.deleteIfExists(to);
                Files.move(next, to, StandardCopyOption.ATOMIC_MOVE);
                say(done, to, Report.write(to));
            } finally {
                Checkpoints.remove(next);
            }
        }
        return 0;
    }

    // ---- checks of the arguments ----

    private CommandLine.ParameterException wrong(String message) {
        return new CommandLine.ParameterException(spec.commandLine(), message);
    }

    /** The agent's index. */
    private int slot(Config config) {
        final List<Config.Agent> agents = config.team().agents();
        final List<String> roles = agents.stream().map(Config.Agent::role).toList();
        final boolean number = !roles.contains(agent) && agent.matches("[0-9]{1,4}");
        final int k = number ? Integer.parseInt(agent) - 1 : roles.indexOf(agent);
        if (k < 0 || k >= agents.size()) {
            throw wrong("--agent: expected one of " + String.join(", ", roles) + ", or a number from 1 to " + agents.size()
                    + ", given " + agent);
        }
        final String policy = agents.get(k).policy();
        final List<String> sharing = agents.stream().filter(a -> a.policy().equals(policy)).map(Config.Agent::role).toList();
        if (sharing.size() > 1) {
            throw wrong("--agent: expected an agent with a policy of its own, given " + agent + ", whose policy " + policy
                    + " is that of "
                    + String.join(", ", sharing));
        }
        final boolean trained = !agents.get(k).frozen()
                && config.train().agents().contains(roles.get(k));
        if (!trained) { // no checkpoint has it: it is what the configuration names
            throw wrong("--agent: expected an agent that is trained, given " + agent + "; of another, change the model in "
                    + RunFiles.CONFIG);
        }
        return k;
    }

    private void check(Config config) throws IOException {
        if (!List.of("stage0", "none", "scratch").contains(align)) {
            throw wrong("--align: expected stage0, none or scratch, given " + align);
        }
        unify = unify.equals(List.of("none")) ? List.of() : unify;
        if (!PROTOCOL.containsAll(unify)) {
            throw wrong("--unify: expected none, or of " + String.join(", ", PROTOCOL) + ", given " + String.join(",", unify)
                    + (unify.contains("tools") ? "; agents call no tools, so there is no tool protocol to unify" : ""));
        }
        if (system != null && !unify.contains("system")) {
            throw wrong("--system: expected system in --unify, given " + String.join(",", unify));
        }
        if (probes < 2) {
            throw wrong("--probes: expected 2 or more, given " + probes);
        }
        if (steps < 1) {
            throw wrong("--steps: expected 1 or more, given " + steps);
        }
        if (batch < 1) {
            throw wrong("--batch: expected 1 or more, given " + batch);
        }
        if (delta0 != null && !(delta0 > 0 && Double.isFinite(delta0))) {
            throw wrong("--delta0: expected more than 0 and finite, given " + delta0);
        }
        if (learningRate != null && !(learningRate > 0 && Double.isFinite(learningRate))) {
            throw wrong("--learning-rate: expected more than 0 and finite, given " + learningRate);
        }
        if (with.equals("tiny") && config.task().name() == Config.TaskName.FILES) {
            throw wrong("--with: expected a folder or random, given tiny, which can be trained for the tasks budget and generated, and not for "
                    + config.task().name());
        }
        final boolean named = List.of("tiny", "random").contains(with);
        if (!named && !Files.isRegularFile(Path.of(with, "config.json"))) {
            throw new FileNotFoundException("--with: expected tiny, random, or a model folder with config.json in it, given "
                    + with
                    + (Files.exists(Path.of(with, "adapter_config.json")) ? ", which has adapters without their model" : ""));
        }
    }

    /** The configuration with the agent's new model. */
    private Config changed(Config c, int k, String model) {
        final Config.Agent a = c.team().agents().get(k);
        final String turn = !unify.contains("system") ? null : system != null ? system : a.system();
        final List<Config.Agent> agents = new ArrayList<>(c.team().agents());
        agents.set(k, new Config.Agent(a.role(), a.policy(), turn, a.template(), a.message(), a.view(), a.frozen()));
        final Config.Team team = new Config.Team(agents, c.team().router(), c.team().turns(), c.team().stop());
        final Config.Model m = c.policies().get(a.policy());
        final boolean random = with.equals("random");
        final Map<String, Config.Model> policies = new LinkedHashMap<>(c.policies());
        policies.put(a.policy(), new Config.Model(random ? m.model() : model, random || align.equals("scratch"), m.dtype(),
                m.lora(), !unify.contains("thinking") || m.thinking(), m.device()));
        return c.with(team, policies);
    }

    // ---- what is done ----

    /** Fills {@code next}, which will be {@code to}. */
    private RunLog.Replacement replace(Config config, int k, Path latest, Path next, Path to) throws IOException {
        final long started = System.nanoTime();
        final String name = config.team().agents().get(k).policy();
        final Config changed = changed(config, k, with);
        final Path warmStart = run.resolve("warm-start");
        if (Files.isDirectory(warmStart)) {
            copy(warmStart, next.resolve("warm-start"), Set.of());
        }
        try (Setup setup = new Setup(config, run, System.err::println);
                TorchPolicy fresh = Setup.policy(changed, name, next, Setup.memory(changed), System.err::println)) {
            final int stage = Checkpoints.load(latest, setup.learners);
            fresh.startOver(); // a checkpoint of another run would bring its own
            final Map<String, TorchPolicy> policies = new LinkedHashMap<>(setup.policies);
            final TorchPolicy incumbent = policies.put(name, fresh);
            final Team team = Setup.team(changed, policies);
            final List<Learner> learners = Setup.learners(changed, team, policies);
            learners.replaceAll(l -> l.policy() == fresh ? l // delta and beta as configured
                    : setup.learners.stream().filter(old -> old.policy() == l.policy()).findFirst().orElseThrow());
            final Learner learner = learners.stream().filter(l -> l.policy() == fresh).findFirst().orElseThrow();
            final double radius = delta0 != null ? delta0 : learner.radius();
            if (!Double.isFinite(radius)) {
                throw wrong("--delta0: expected a number, since " + learner.name()
                        + " has no trust_region.delta to take it from, given none");
            }
            final Trainer before = setup.trainer();
            final Trainer after = new Trainer(changed, team, learners, setup.prompts, setup.heldOut, setup.verifier);
            final List<Verifier.Score> old = before.evaluate().scores();
            final List<Verifier.Score> swapped = after.evaluate().scores();
            final boolean same = fresh.sameTokens(incumbent);
            final Alignment.Result result = align(setup, team, k, incumbent, fresh, radius, stage, same);
            final List<Verifier.Score> now = result.steps() == 0 ? swapped : after.evaluate().scores();
            fresh.startOver();
            final RunLog.Replacement log = log(config, k, stage, same, radius, result, old, swapped, now,
                    (System.nanoTime() - started) * 1e-9);
            write(changed(config, k, kept(name, next, to)), learners, after.heldOut(now), log, next);
            return log;
        }
    }

    private Alignment.Result align(Setup setup, Team team, int k, TorchPolicy incumbent, TorchPolicy fresh, double radius,
            int stage, boolean same) {
        final Config c = setup.config;
        final Config.Rollout r = c.rollout();
        final Generation sampling = new Generation(r.temperature(), SamplingConfig.ALL, r.maxNewTokens(),
                r.truncation());
        final long seed = KeyedRandom.seed(c.seed(), Draw.REPLACEMENT, stage);
        final Map<Utterance, Utterance> asked = new IdentityHashMap<>(); // the incumbent, where the new one has the lesson
        final List<Utterance> lessons = new ArrayList<>();
        for (Alignment.Probe probe : Alignment.probes(setup.team, k, setup.prompts, probes, sampling, setup.verifier, seed)) {
            final Utterance lesson = Alignment.lesson(probe, team.agents().get(k), sampling, same);
            if (lesson != null) {
                lessons.add(lesson);
                asked.put(lesson, probe.said());
            }
        }
        final Alignment.Settings settings = new Alignment.Settings(radius, c.trustRegion().unit(), align.equals("stage0") ? steps : 0, batch,
                learningRate != null ? learningRate : c.optimiser().learningRate(), seed);
        try (Policy.Snapshot anchor = same ? incumbent.anchor(asked::get) : null) {
            final long[] said = {System.nanoTime()};
            return Alignment.align(fresh, lessons, sampling.temperature(), anchor, settings, (kl, step) -> {
                if (System.nanoTime() - said[0] > 5e9) { // with large models this happens every time
                    System.err.printf(Locale.ROOT, "stage 0: %.4g nats per %s after %d steps, delta0 = %.4g%n", kl.mean(),
                            c.trustRegion().unit().name().toLowerCase(Locale.ROOT), step, radius);
                    said[0] = System.nanoTime();
                }
            });
        }
    }

    /** What the new run's configuration names as the model: a run throws its checkpoints away, so one of them is copied. */
    private String kept(String name, Path next, Path to) throws IOException {
        if (List.of("tiny", "random").contains(with)
                || !Files.exists(Path.of(with).toAbsolutePath().normalize().resolveSibling("state.json"))) {
            return with;
        }
        copy(Path.of(with), next.resolve("models").resolve(name), Set.of("training.safetensors"));
        return to.resolve("models").resolve(name).toString();
    }

    private void write(Config changed, List<Learner> learners, HeldOutScores heldOut, RunLog.Replacement log, Path next)
            throws IOException {
        ConfigFile.write(changed, next.resolve(RunFiles.CONFIG));
        for (String file : List.of(RunFiles.METRICS, RunFiles.STAGES, RunFiles.TRANSCRIPTS, RunFiles.REPLACEMENTS)) {
            if (Files.exists(run.resolve(file))) {
                Files.copy(run.resolve(file), next.resolve(file));
            }
        }
        try (RunWriter writer = new RunWriter(next)) {
            writer.truncateAfterStage(log.stage());
            writer.replacement(log);
        }
        new Checkpoints(next, 1).save(log.stage(), learners, heldOut);
    }

    private static void copy(Path from, Path to, Set<String> without) throws IOException {
        Files.createDirectories(to);
        try (Stream<Path> files = Files.list(from)) {
            for (Path file : files.filter(Files::isRegularFile).toList()) {
                if (!without.contains(file.getFileName().toString())) {
                    Files.copy(file, to.resolve(file.getFileName()));
                }
            }
        }
    }

    // ---- what it did ----

    private RunLog.Replacement log(Config config, int k, int stage, boolean same, double radius, Alignment.Result r,
            List<Verifier.Score> before, List<Verifier.Score> swapped, List<Verifier.Score> after, double seconds) {
        final int group = config.eval().group();
        final Config.Agent a = config.team().agents().get(k);
        final Estimate shockSwapped = shock(before, swapped, group);
        final Estimate shock = shock(before, after, group);
        return new RunLog.Replacement(stage, a.role(),
                new RunLog.Models(config.policies().get(a.policy()).model(), with, align, unify, system),
                new RunLog.Probes(same ? "exact" : "text", config.trustRegion().unit(), r.probes(), r.validation(), radius),
                new RunLog.Aligned(r.klSwapped().mean(), r.klSwapped().error(), r.kl().mean(), r.kl().error(), r.steps(), r.stoppedBy()),
                new RunLog.Moments(after.size(), measured(before, group), measured(swapped, group), measured(after, group),
                        shockSwapped.mean(), shockSwapped.error(), shock.mean(), shock.error()),
                seconds,
                "./teamtr " + CommandLines.quoted(spec.commandLine().getParent().getParseResult().originalArgs()));
    }

    private static RunLog.Measured measured(List<Verifier.Score> scores, int group) {
        final Estimate accuracy = Estimate.of(accuracies(scores, group));
        final Estimate reward = Estimate.of(perPrompt(scores.stream().mapToDouble(Verifier.Score::reward).toArray(), group));
        return new RunLog.Measured(accuracy.mean(), accuracy.error(), reward.mean(), reward.error());
    }

    /** Accuracy lost, prompt by prompt: the same prompts and the same sampling noise before and after. */
    private static Estimate shock(List<Verifier.Score> before, List<Verifier.Score> after, int group) {
        final double[] then = accuracies(before, group);
        final double[] now = accuracies(after, group);
        return Estimate.of(IntStream.range(0, now.length).mapToDouble(p -> then[p] - now[p]).toArray());
    }

    private static double[] accuracies(List<Verifier.Score> scores, int group) {
        return perPrompt(scores.stream().mapToDouble(s -> s.correct() ? 1 : 0).toArray(), group);
    }

    private static double[] perPrompt(double[] values, int group) {
        final double[] means = new double[values.length / group];
        for (int g = 0; g < values.length; g++) {
            means[g / group] += values[g] / group;
        }
        return means;
    }

    private static void say(RunLog.Replacement r, Path to, Path report) {
        line("before:", r.moments().before());
        line("swapped:", r.moments().swapped());
        if (r.aligned().steps() > 0) {
            line("aligned:", r.moments().after());
        }
        say("swap shock:       %s points", new Estimate(100 * r.moments().shock(), 100 * r.moments().shockError()).text("%.1f"));
        say("KL(old || new):   %s at the swap, %s, on %d validation messages",
                new Estimate(r.aligned().klSwapped(), r.aligned().klSwappedError()).text("%.4g"),
                r.probing().measure().equals("exact") ? "exact" : "by the texts' likelihood", r.probing().probesHeldBack());
        if (r.models().align().equals("stage0")) {
            say("stage 0:          %s after %d steps on %d messages; delta0 = %.4g%s",
                    new Estimate(r.aligned().kl(), r.aligned().klError()).text("%.4g"),
                    r.aligned().steps(), r.probing().probes(), r.probing().delta0(),
                    r.aligned().stoppedBy().equals("delta0") ? "" : " NOT reached: the steps are used up");
        }
        say("report:           %s", report);
        say("go on with:       %s", CommandLines.resume(to));
    }

    private static void say(String format, Object... values) {
        System.out.printf(Locale.ROOT, format + "%n", values);
    }

    private static void line(String when, RunLog.Measured m) {
        say("%-17s return %s, accuracy %s %%", when, new Estimate(m.returnMean(), m.returnError()).text("%.3f"),
                new Estimate(100 * m.accuracy(), 100 * m.accuracyError()).text("%.1f"));
    }
}
