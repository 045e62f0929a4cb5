package org.teamtr.config;

import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.function.Consumer;
import java.util.stream.IntStream;
import org.teamtr.kernels.SamplingConfig;
import org.teamtr.task.Budget;
import org.teamtr.task.RowProblems;
import org.teamtr.task.PromptFile;
import org.teamtr.task.Verifiers;
import org.teamtr.task.environment.Environments;
import org.teamtr.task.generated.GeneratedTask;
import org.teamtr.team.Agent;
import org.teamtr.team.Context;
import org.teamtr.team.Environment;
import org.teamtr.team.Generation;
import org.teamtr.team.Oracle;
import org.teamtr.team.Prompts;
import org.teamtr.team.Rollout;
import org.teamtr.team.Router;
import org.teamtr.team.Team;
import org.teamtr.team.Truncation;
import org.teamtr.team.Verifier;
import org.teamtr.train.Config;

/**
 * The prompts of a configuration's task and the verifier that scores their episodes. Prompts are checked here, so that a run fails at its
 * start and not in the stage that draws a faulty prompt.
 *
 * @param train to train on
 * @param heldOut to evaluate on
 */
public record TaskData(Prompts train, Prompts heldOut, Verifier verifier) {
    /**
     * Reads them.
     *
     * @param oracle answers the environment's questions; null for none
     * @throws IOException if a file cannot be read, rows in it cannot be used, or answers are none that the verifier can compare with
     */
    public static TaskData read(Config config, Oracle oracle) throws IOException {
        if (Setup.isBudget(config)) {
            final Budget budget = Setup.budget(config);
            return new TaskData(budget.prompts("train", Integer.MAX_VALUE, config.seed()),
                    budget.prompts("held-out", config.task().budget().heldOut(), config.seed()), budget);
        }
        final Config.Files f = config.task().files();
        if (Setup.isGenerated(config)) {
            final GeneratedTask task = Setup.generated(config);
            return new TaskData(task.prompts(false, Integer.MAX_VALUE, config.seed()), task.prompts(true, config.task().generated().heldOut(),
                    config.seed()), environment(config, Verifiers.of(task.verifier(), scoring(f)), oracle));
        }
        final Verifier verifier = environment(config, Verifiers.of(f.verifier(), scoring(f)), oracle);
        final Prompts all = prompts(config, verifier, Path.of(f.train()));
        if (f.eval() != null) {
            return new TaskData(all, prompts(config, verifier, Path.of(f.eval())), verifier);
        }
        if (all.size() < 2) {
            throw new IOException(f.train() + ": expected 2 prompts or more, some of them to hold out where there is no"
                    + " task.files.eval, given " + all.size());
        }
        final int kept = Math.max(1, Math.min(config.eval().prompts(), all.size() / 5));
        return new TaskData(all.part(0, all.size() - kept), all.part(all.size() - kept, all.size()), verifier);
    }

    private static Verifiers.Settings scoring(Config.Files f) {
        return new Verifiers.Settings(f.votes(), f.wrong(), f.dense(), f.lenient(), f.python());
    }

    private static Verifier environment(Config config, Verifier scoring, Oracle oracle) {
        final Config.Environment e = config.task().environment();
        if (e.name().equals("none")) {
            return scoring;
        }
        final List<String> agents = e.agents().named();
        return Environments.of(e.name(), new Environments.Settings(e.turns(), e.earlyStop(), e.tools(), agents, oracle,
                e.database() == null ? null : Path.of(e.database()), e.toolSchemas() == null ? null : Path.of(e.toolSchemas())),
                scoring(config.task().files()), scoring);
    }

    /**
     * {@return the prompts of a file, in the columns of the task, with answers that its verifier can compare with}
     *
     * @param verifier of the task
     */
    static Prompts prompts(Config config, Verifier verifier, Path file) throws IOException {
        final Config.Files f = config.task().files();
        final Environment environment = verifier instanceof Environment e ? e : null;
        final Prompts all = PromptFile.read(file, new PromptFile.Columns(f.promptColumn(), f.answerColumn(), f.idColumn(), f.sourceColumn(),
                Verifiers.needsRows(f.verifier()) || environment != null));
        // Of a verifier of one's own we do not know what it makes of an empty message, and most environments score by themselves.
        final boolean compares = !f.verifier().contains(".") && (environment == null || config.task().environment().name().equals("tools"));
        final Verifier scoring = compares ? Verifiers.of(f.verifier(), scoring(f)) : null;
        final RowProblems problems = new RowProblems();
        for (int i = 0; i < all.size(); i++) {
            try {
                if (environment != null) {
                    environment.start(all.get(i), 0); // it knows what its prompts need
                }
                if (compares) {
                    scoring.score(Context.of(all.get(i), List.of("")));
                }
            } catch (IllegalArgumentException e) {
                problems.add(e.getMessage());
            }
        }
        problems.check(all.size(), "prompts of " + file + (environment != null ? " do not suit task.environment or task.files.verifier"
                : " have no answer that task.files.verifier = " + f.verifier() + " can compare with"));
        return all;
    }

    /**
     * Checks every prompt as the first agent will receive it: whether all of its characters have tokens, and whether it leaves room for a
     * message. Prompts that are generated when they are drawn are not checked.
     *
     * @param note is told how many prompts will be truncated, where that is configured
     * @throws IOException if some cannot be asked: how many, and which
     */
    public void check(Config config, Team team, Consumer<String> note) throws IOException {
        if (!Setup.isBudget(config)) {
            check(config, team, verifier, train, Setup.isGenerated(config) ? 0 : train.size(), "prompts to train on", note);
            check(config, team, verifier, heldOut, Math.min(config.eval().prompts(), heldOut.size()), "held-out prompts", note);
        }
    }

    /** The same of some prompts, the first {@code most} of them, called {@code what}. */
    static void check(Config config, Team team, Verifier verifier, Prompts prompts, int most, String what, Consumer<String> note)
            throws IOException {
        final Config.Rollout r = config.rollout();
        final Generation generation = new Generation(r.temperature(), SamplingConfig.ALL, r.maxNewTokens(),
                r.truncation());
        for (Agent agent : team.agents()) { // otherwise every prompt would be said to be too long
            if (generation.maxNewTokens() >= agent.speaker().contextLength()) {
                throw new IOException("rollout.max_new_tokens: expected less than " + agent.speaker().contextLength() + ", the context of "
                        + agent.role() + ", given " + generation.maxNewTokens());
            }
        }
        final List<Map<String, Object>> tools = verifier instanceof Environment e ? e.tools() : List.of();
        final RowProblems problems = new RowProblems();
        final List<String> cut = new ArrayList<>();
        int tooLong = 0;
        for (int i = 0; i < most; i++) {
            final Context context = Rollout.begin(prompts.get(i), i, verifier, config.seed());
            String problem = null;
            boolean isCut = false;
            for (int speaker : first(team, context, config.seed())) {
                final Agent agent = team.agents().get(speaker);
                final int room = agent.speaker().contextLength() - generation.maxNewTokens();
                try {
                    final int length = agent.speaker().encode(agent.template().render(context, agent.role(), agent.view()), tools).length;
                    isCut |= length > room && generation.truncation() != Truncation.ERROR;
                    if (length == 0 || length > room && generation.truncation() == Truncation.ERROR) {
                        problem = "expected 1 to " + room + " tokens (the context of " + agent.role() + ", "
                                + agent.speaker().contextLength() + ", less rollout.max_new_tokens = " + generation.maxNewTokens()
                                + "), given " + length;
                        tooLong += length > room ? 1 : 0;
                        break;
                    }
                } catch (IllegalArgumentException e) { // a character without a token, or a template that refuses it
                    problem = e.getMessage();
                    break;
                }
            }
            if (problem != null) {
                problems.add(context.prompt().id() + ": " + problem);
            }
            if (isCut) {
                cut.add(context.prompt().id());
            }
        }
        if (problems.count() > 0) {
            throw new IOException(problems.message(most, what + " cannot be asked") + (tooLong == 0 ? "" : "; shorten them or leave"
                    + " them out, or set rollout.max_new_tokens lower or rollout.truncation to left, right or middle"));
        }
        if (!cut.isEmpty()) {
            note.accept(cut.size() + " of " + most + " " + what + " are longer than the context leaves room for and are cut"
                    + " (rollout.truncation = " + r.truncation().name().toLowerCase(Locale.ROOT) + "), " + cut.get(0) + " first");
        }
    }

    /** The agents that may write first. A random router can name any of them. */
    private static int[] first(Team team, Context context, long seed) {
        final int agents = team.agents().size();
        if (team.router() == Router.RANDOM || team.router() == Router.RANDOM_BATCH) {
            return IntStream.range(0, agents).toArray();
        }
        final int next = team.router().next(context, agents, seed);
        return next >= 0 && next < agents ? new int[] {next} : new int[0]; // a wrong number is found where it is drawn
    }
}
