package org.teamtr.report;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.stream.IntStream;
import org.teamtr.train.Certificate;
import org.teamtr.train.GainBound;
import org.teamtr.train.RunLog;
import org.teamtr.train.UnchangedReason;

/** Run directories of made-up numbers, to try out what reads them. Nothing in them was measured. */
final class SyntheticRun {
    private SyntheticRun() {
    }

    /** Writes a run of {@code stages} stages; {@code promise} is how much more the surrogate promises than comes. */
    static void write(Path run, int stages, int agents, double promise) throws IOException {
        final SplittableRandom random = new SplittableRandom(7);
        final List<String> roles = IntStream.range(0, agents)
                .mapToObj(i -> List.of("planner", "solver", "critic", "editor", "judge", "scout", "scribe", "checker").get(i))
                .toList();
        final ArrayList<RunLog.Update> updates = new ArrayList<>();
        final ArrayList<RunLog.Stage> done = new ArrayList<>();
        try (RunWriter writer = new RunWriter(run)) {
            double reward = 0.12;
            done.add(new RunLog.Stage(0, List.of(), new RunLog.HeldOut(reward, reward, 256, RunLog.Coordination.NONE), RunLog.Gain.NONE, 0,
                    new RunLog.Spent(0, 0, 0, 0, 0, 4.2, 4.2), UnchangedReason.Counts.NONE, RunLog.Certified.NONE));
            writer.stage(done.get(0));
            transcripts(writer, 0, roles);
            for (int s = 1; s <= stages; s++) {
                final double gain = (0.95 - reward) * 6 / (stages + 6) + random.nextDouble(-0.02, 0.02);
                double predicted = 0;
                for (int i = 0; i < agents; i++) {
                    final RunLog.Update u = update(s, i, roles, reward, promise * Math.abs(gain) / agents, random);
                    predicted += u.predictedGain();
                    updates.add(u);
                    writer.update(u);
                }
                reward += gain;
                done.add(new RunLog.Stage(s, roles, new RunLog.HeldOut(reward, Math.min(1, reward * 1.02), 256, RunLog.Coordination.NONE),
                        new RunLog.Gain(predicted, gain, 0.015), 0, new RunLog.Spent(512L * agents, 40_000L * agents, 3.1, 5.4, 0.4, 4.1, 13.2),
                        UnchangedReason.Counts.NONE, RunLog.Certified.NONE));
                writer.stage(done.get(done.size() - 1));
                if (s == stages || s % 50 == 0) {
                    transcripts(writer, s, roles);
                }
            }
            writer.summary(RunSummary.of("0.0-synthetic", "./teamtr train --set seed=7", 7, roles, new double[] {0.01, 0.1},
                    updates, done, List.of()));
        }
        Files.writeString(run.resolve(RunFiles.CONFIG), "seed: 7\ntask:\n  name: synthetic # <made up> & nothing else\n");
    }

    static RunLog.Update update(int stage, int step, List<String> roles, double reward, double predicted,
            SplittableRandom random) {
        final double delta = 0.05;
        final double kl = random.nextInt(60) == 0 ? delta * 1.2 : delta * random.nextDouble(0.3, 1);
        final Map<String, Long> versions = new LinkedHashMap<>();
        roles.forEach(r -> versions.put(r, (long) stage));
        return new RunLog.Update(stage, step, roles.get(step), roles, versions, 512, 0, 512, 40_000, 9_876, reward, reward, 0.21,
                predicted, 0.2, kl,
                3 * kl, 1.1 * kl, delta, 0.1 * Math.pow(2, random.nextInt(-2, 3)), 0.1, 4, kl > 0.9 * delta ? "kl" : "steps",
                kl > 0.95 * delta,
                random.nextInt(2), kl > delta, random.nextDouble(0.02, 0.2), random.nextDouble(0.7, 1), 2.5, 3e-6,
                1.4 / Math.sqrt(stage) + random.nextDouble(0.1), 0.8, true, Double.NaN, 0.7, 1.3, 0.1, Certificate.Terms.NONE, RunLog.Outcome.PLAIN);
    }

    static final RunLog.Spent NOTHING_SPENT = new RunLog.Spent(0, 0, 0, 0, 0, 0, 0);

    static RunLog.Stage stage(int stage, double reward, double accuracy, int episodes) {
        return stage(stage, reward, accuracy, episodes, RunLog.Gain.NONE);
    }

    static RunLog.Stage stage(int stage, double reward, double accuracy, int episodes, RunLog.Gain gain) {
        return new RunLog.Stage(stage, List.of(), new RunLog.HeldOut(reward, accuracy, episodes, RunLog.Coordination.NONE), gain, 0, NOTHING_SPENT,
                UnchangedReason.Counts.NONE, RunLog.Certified.NONE);
    }

    /** The same update with another outcome. */
    static RunLog.Update with(RunLog.Update u, RunLog.Outcome outcome) {
        return with(u, u.bound(), outcome);
    }

    /** The same update with a bound on its gain. */
    static RunLog.Update with(RunLog.Update u, GainBound gain) {
        return with(u, Certificate.Terms.NONE.with(gain), u.outcome());
    }

    static RunLog.Update with(RunLog.Update u, Certificate.Terms bound, RunLog.Outcome outcome) {
        return new RunLog.Update(u.stage(), u.step(), u.agent(), u.order(), u.policyVersions(), u.episodes(), u.dropped(),
                u.messages(), u.tokens(), u.trainedTokens(), u.returnMean(), u.accuracy(), u.surrogate(), u.predictedGain(),
                u.objective(), u.kl(), u.klMax(), u.klReached(), u.delta(), u.beta(), u.betaNext(), u.innerSteps(), u.stoppedBy(),
                u.rolledBack(), u.halvings(), u.outOfRegion(), u.clipFraction(), u.ess(), u.ratioMax(), u.scoreGap(), u.entropy(),
                u.gradNorm(), u.fresh(), u.shift(), u.secondsRollout(), u.secondsUpdate(), u.secondsKl(), bound, outcome);
    }

    private static void transcripts(RunWriter writer, int stage, List<String> roles) throws IOException {
        for (int p = 0; p < 6; p++) {
            final int prompt = p;
            writer.transcript(new RunLog.Transcript(stage, "synthetic:" + p, "Share " + (12 + p)
                    + " coins so that nobody is left out.\n"
                    + "Each says a number; the sum counts.", String.valueOf(12 + p), stage == 0 ? 0.25 : 1, stage > 0 && p != 4,
                    roles.stream().map(r -> new RunLog.Said(r, stage == 0 ? "I take " + (prompt * 7 % 5) + " <maybe>"
                            : "I take " + (12 + prompt) / roles.size(), 5, stage > 0, prompt == 1 ? "noted" : null)).toList()));
        }
    }
}
