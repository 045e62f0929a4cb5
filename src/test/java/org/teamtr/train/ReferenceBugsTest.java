package org.teamtr.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.teamtr.cli.Main;
import org.teamtr.cli.Said;
import org.teamtr.team.Agent;
import org.teamtr.team.Context;
import org.teamtr.team.Message;
import org.teamtr.team.PromptTemplate;
import org.teamtr.team.Prompts;
import org.teamtr.team.Team;
import org.teamtr.team.Verifier;
import org.teamtr.team.View;

/**
 * Critical defects of the published reference implementation of TeamTR, each with a test that it is not here. For 4, episodes that are thrown
 * away, it is {@code TrainerTest.everyEpisodeIsGeneratedOnce}; for 5, a round robin of one agent, {@code RouterTest}.
 */
class ReferenceBugsTest {
    private static final int PROMPTS = 3;
    private static final int GROUP = 4;
    private static final int AGENTS = 3;
    private static final int VOCAB = 4;
    private static final int LENGTH = 4;

    /** A team of tables, and for every update what it learnt from and the policies before and after it. */
    private static final class Game implements Trainer.Listener, Verifier {
        final List<TabularPolicy> policies = new ArrayList<>();
        final List<Context> seen = new ArrayList<>(); // every episode that was scored, in order
        final List<RunLog.Update> updates = new ArrayList<>();
        final List<List<Context>> episodes = new ArrayList<>();
        final List<List<TabularPolicy>> after = new ArrayList<>();
        final List<TabularPolicy> atFirst;

        Game(int stages) {
            final PromptTemplate template = new PromptTemplate(null, "{role}:{prompt}{transcript}", "[{text}]");
            final List<Agent> agents = new ArrayList<>();
            final List<Learner> learners = new ArrayList<>();
            for (int a = 0; a < AGENTS; a++) {
                policies.add(new TabularPolicy(VOCAB, 17 + a, 0.7));
                agents.add(new Agent("agent" + a, policies.get(a), template, View.TRANSCRIPT, false));
                learners.add(new Learner("agent" + a, policies.get(a), List.of(a), 0.05, 0.1));
            }
            atFirst = copies();
            final TrainerTest.Settings s = new TrainerTest.Settings();
            s.stages = stages;
            s.prompts = PROMPTS;
            s.group = GROUP;
            s.length = LENGTH;
            s.eval = new Config.Eval(0, 2, 1, 1, 1, 0);
            final Prompts prompts = TrainerTest.prompts();
            final Trainer trainer = new Trainer(s.config(), Team.of(agents), learners, prompts, prompts, this);
            trainer.train(0, null, this);
        }

        private List<TabularPolicy> copies() {
            final List<TabularPolicy> copies = new ArrayList<>();
            for (int a = 0; a < AGENTS; a++) {
                copies.add(new TabularPolicy(VOCAB, 17 + a, 0.7));
                copies.get(a).restore(policies.get(a).snapshot());
            }
            return copies;
        }

        /** The policies that the episodes of an update came from, if they came from where they should. */
        List<TabularPolicy> before(int update) {
            return update == 0 ? atFirst : after.get(update - 1);
        }

        @Override
        public Score score(Context episode) {
            seen.add(episode);
            return new Score(episode.messages().stream().mapToDouble(m -> m.text().chars().filter(c -> c == 'a').count()).sum(), false);
        }

        @Override
        public void updated(RunLog.Update update) {
            updates.add(update);
            episodes.add(List.copyOf(seen.subList(seen.size() - PROMPTS * GROUP, seen.size())));
            after.add(copies());
        }

        @Override
        public void staged(RunLog.Stage stage, List<RunLog.Transcript> transcripts) {
        }
    }

    @TempDir
    private Path folder;

    /** 1: without models and data, the reference made up accuracies from a hash of its arguments and exited with 0. */
    @Test
    void defect1NoNumberWithoutAMeasurement() throws IOException {
        final Path missing = folder.resolve("no-such");
        final String team = "team: {agents: [{role: a, policy: p, template: '{prompt}{transcript}', message: '{text}+'}]}\n";
        final Path noModel = Files.writeString(folder.resolve("model.yaml"),
                team + "policies: {p: {model: " + missing + "}}\n");
        final Path noData = Files.writeString(folder.resolve("data.yaml"),
                team + "policies: {p: {model: tiny}}\ntask: {name: files, files: {train: " + missing + ".jsonl}}\n");
        for (Path config : List.of(noModel, noData)) {
            final Path run = folder.resolve(config.getFileName() + "-run");
            for (String[] command : new String[][] {{"train", config.toString(), "--out", run.toString()},
                {"eval", config.toString(), "--json"}}) {
                final Said said = Said.of(() -> Main.run(command));
                assertEquals(1, said.code(), said.err());
                assertEquals("", said.out());
                assertTrue(said.err().contains(missing.toString()), said.err());
            }
            for (String file : List.of("summary.json", "metrics.jsonl", "stages.jsonl", "report.html")) {
                assertFalse(Files.exists(run.resolve(file)), file);
            }
        }
    }

    /** 3: the reference gave every row of an agent the answer of its first row. */
    @Test
    void defect3EveryRowKeepsItsOwnMessage() {
        final Game game = new Game(1);
        int different = 0;
        for (int u = 0; u < AGENTS; u++) {
            for (Context episode : game.episodes.get(u)) {
                String transcript = "";
                for (Message m : episode.messages()) {
                    final String asked = "agent" + m.agent() + ":" + episode.prompt().text() + transcript;
                    assertEquals(asked, new String(m.utterance().prompt(), 0, m.utterance().prompt().length));
                    // The log-probs are those of these tokens after this prompt, and of no other row's.
                    final float[] expected = game.before(u).get(m.agent()).utterance(m.utterance().prompt(), m.utterance().tokens(), 1)
                            .logProbs();
                    assertArrayEquals(expected, m.utterance().logProbs());
                    transcript += "[" + m.text() + "]";
                }
            }
            final int update = u;
            different += (int) IntStream.range(0, AGENTS).mapToLong(a -> game.episodes.get(update).stream()
                    .map(e -> e.messages().get(a).text()).distinct().count()).sum();
            assertTrue(game.updates.get(u).gradNorm() > 0, "a group of equal rows would teach nothing");
        }
        assertTrue(different > 3 * AGENTS * 3, different + " different messages in " + AGENTS * AGENTS + " batches");
    }

    /** 6: in the reference no agent read another's message, and all were updated from one batch of the old team. */
    @Test
    void defect6AgentsReadEachOtherAndUpdatesAreFromTheUpdatedTeam() {
        final Game game = new Game(2);
        int changed = 0;
        final Set<List<Context>> batches = new HashSet<>();
        for (int u = 0; u < game.updates.size(); u++) {
            final Map<Integer, Long> versions = new HashMap<>();
            for (Context episode : game.episodes.get(u)) {
                for (Message m : episode.messages()) {
                    final String asked = new String(m.utterance().prompt(), 0, m.utterance().prompt().length);
                    for (Message earlier : episode.messages().subList(0, m.turn())) {
                        assertTrue(asked.contains("[" + earlier.text() + "]"));
                    }
                    versions.put(m.agent(), m.utterance().version());
                    // What the updated team says with which probability, not what the team of the stage's start does.
                    assertArrayEquals(game.before(u).get(m.agent()).utterance(m.utterance().prompt(), m.utterance().tokens(), 1).logProbs(),
                            m.utterance().logProbs());
                }
            }
            assertTrue(batches.add(game.episodes.get(u)), "the same episodes twice");
            for (int a = 0; a < AGENTS; a++) {
                assertEquals(versions.get(a), game.updates.get(u).policyVersions().get("agent" + a));
                if (u > 0 && game.updates.get(u - 1).agent().equals("agent" + a)) {
                    changed += versions.get(a) > game.updates.get(u - 1).policyVersions().get("agent" + a) ? 1 : 0;
                }
            }
        }
        assertTrue(changed >= 4, changed + " of 5 updates are seen by the next one's rollouts");
    }

    /** 10: the reference's KL was to the initial model, KL(new || old) by a clipped estimator, and a mean over tokens. */
    @Test
    void defect10KlIsFromThePolicyOfTheRolloutsSummedOverAMessage() {
        final Game game = new Game(10);
        int apart = 0;
        for (int u = 0; u < game.updates.size(); u++) {
            final RunLog.Update update = game.updates.get(u);
            final int a = Integer.parseInt(update.agent().substring(5));
            final TabularPolicy old = game.before(u).get(a);
            final TabularPolicy now = game.after.get(u).get(a);
            final List<Message> messages = game.episodes.get(u).stream().flatMap(e -> e.messages().stream())
                    .filter(m -> m.agent() == a).toList();
            assertEquals(messages.size(), update.messages());
            final double kl = kl(old, now, messages, false);
            assertEquals(kl, update.kl(), 1e-6);
            // What it must not be, and would not be: other numbers than this one.
            final double reverse = kl(now, old, messages, false);
            final double perToken = kl(old, now, messages, true);
            final double initial = kl(game.atFirst.get(a), now, messages, false);
            if (Math.abs(reverse - kl) > 1e-4 && Math.abs(perToken - kl) > 1e-4 && Math.abs(initial - kl) > 1e-4) {
                apart++;
            }
        }
        assertTrue(apart >= 3, "updates in which the four differ: " + apart);
    }

    /** KL(p || q) over the vocabulary in every position of a message; sum, or mean, over its tokens; mean over messages. */
    private static double kl(TabularPolicy p, TabularPolicy q, List<Message> messages, boolean perToken) {
        double sum = 0;
        long tokens = 0;
        for (Message m : messages) {
            final int[] prompt = m.utterance().prompt();
            final int[] said = m.utterance().tokens();
            tokens += said.length;
            for (int t = 0; t < said.length; t++) {
                final double[] logP = p.logProbs(prompt, said, t, 1);
                final double[] logQ = q.logProbs(prompt, said, t, 1);
                for (int v = 0; v < VOCAB; v++) {
                    sum += Math.exp(logP[v]) * (logP[v] - logQ[v]);
                }
            }
        }
        return sum / (perToken ? tokens : messages.size());
    }
}
