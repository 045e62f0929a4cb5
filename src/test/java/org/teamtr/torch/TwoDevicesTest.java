package org.teamtr.torch;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.teamtr.team.Agent;
import org.teamtr.team.ChatTurn;
import org.teamtr.team.Episode;
import org.teamtr.team.Generation;
import org.teamtr.team.Message;
import org.teamtr.team.Prompt;
import org.teamtr.team.PromptTemplate;
import org.teamtr.team.Rollout;
import org.teamtr.team.Router;
import org.teamtr.team.Speaker;
import org.teamtr.team.Team;
import org.teamtr.team.Utterance;
import org.teamtr.team.Verifier;
import org.teamtr.team.View;

/** Two models that share what a team shares and are taken to be on two devices, so that they generate at once, by threads of their own. */
@Tag("cpu")
class TwoDevicesTest {
    @TempDir
    private Path folder;

    /** A policy under the name of a device that this machine does not have. */
    private record On(String device, int atOnce, TorchPolicy policy, Set<String> threads) implements Speaker {
        @Override
        public int[] encode(List<ChatTurn> turns) {
            return policy.encode(turns);
        }

        @Override
        public int contextLength() {
            return policy.contextLength();
        }

        @Override
        public List<Utterance> generate(List<int[]> prompts, Generation generation, long seed, long[] rowIds) {
            threads.add("thread " + Thread.currentThread().getId());
            return policy.generate(prompts, generation, seed, rowIds);
        }

        @Override
        public long version() {
            return policy.version();
        }
    }

    private static List<Message> said(TorchPolicy a, TorchPolicy b, String other, int atOnce, Set<String> threads) {
        final PromptTemplate template = new PromptTemplate(null, "{prompt} {transcript}", "{text}");
        final Team team = new Team(List.of(new Agent("a", new On("cuda:0", atOnce, a, threads), template, View.TRANSCRIPT, false),
                new Agent("b", new On(other, atOnce, b, threads), template, View.TRANSCRIPT, false)), Router.ROUND_ROBIN, 4, context -> false);
        final List<Prompt> prompts = IntStream.range(0, 6).mapToObj(i -> new Prompt("p" + i, "prompt " + "abcdef".substring(0, i), "1")).toList();
        final List<Message> said = new ArrayList<>();
        for (Episode episode : Rollout.play(team, prompts, 4, Tiny.generation(0.8, 6), context -> new Verifier.Score(context.turn(), true), 9)) {
            said.addAll(episode.messages());
        }
        return said;
    }

    @Test
    void overlappingRolloutsSayWhatTheySayOneAfterTheOther() throws Exception {
        final TorchPolicy.Settings settings = Tiny.settings();
        final TeamMemory memory = new TeamMemory(true);
        final Path model = Tiny.saved(folder);
        try (TorchPolicy a = TorchPolicy.load(model, settings, memory); TorchPolicy b = TorchPolicy.load(model, settings, memory)) {
            final Set<String> threads = ConcurrentHashMap.newKeySet();
            final List<Message> overlapping = said(a, b, "cuda:1", 6, threads);
            assertEquals(4, threads.size(), threads.toString());
            final List<Message> alone = said(a, b, "cuda:0", 6, ConcurrentHashMap.newKeySet());
            final List<Message> again = said(a, b, "cuda:1", 6, threads);
            assertEquals(6 * 4 * 4, overlapping.size());
            for (int m = 0; m < alone.size(); m++) {
                final Utterance one = alone.get(m).utterance();
                final Utterance two = overlapping.get(m).utterance();
                assertEquals(one.text(), two.text());
                assertArrayEquals(one.prompt(), two.prompt());
                assertArrayEquals(one.tokens(), two.tokens());
                assertArrayEquals(one.logProbs(), two.logProbs(), 1e-5f); // how many go through a product at once is last bits
                assertArrayEquals(two.logProbs(), again.get(m).utterance().logProbs()); // whoever was first
            }
            assertTrue(alone.stream().anyMatch(m -> m.utterance().tokens().length > 1));
        }
    }
}
