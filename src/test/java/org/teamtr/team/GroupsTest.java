package org.teamtr.team;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.teamtr.kernels.SamplingConfig;

/** Episodes of a team on two devices. */
@Timeout(60)
class GroupsTest {
    private static final Generation GENERATION = new Generation(1, SamplingConfig.ALL, 4, Truncation.ERROR);
    private static final Verifier VERIFIER = context -> new Verifier.Score(context.turn(), true);

    /** Says what depends on the row, the seed and the prompt; counts who speaks meanwhile. */
    private static final class Voice implements Speaker {
        private final String device;
        private final int atOnce;
        private final AtomicInteger speaking = new AtomicInteger();
        private final List<Integer> asked = new ArrayList<>();
        /** Met by the speakers of two devices: passed where both speak at once. */
        CyclicBarrier together;
        int meetings;
        RuntimeException failure;

        Voice(String device, int atOnce) {
            this.device = device;
            this.atOnce = atOnce;
        }

        @Override
        public int[] encode(List<ChatTurn> turns) {
            return turns.get(turns.size() - 1).content().chars().toArray();
        }

        @Override
        public int contextLength() {
            return 10_000;
        }

        @Override
        public List<Utterance> generate(List<int[]> prompts, Generation generation, long seed, long[] rowIds) {
            assertEquals(1, speaking.incrementAndGet(), "a device serves one group at a time");
            asked.add(prompts.size());
            if (failure != null) {
                speaking.decrementAndGet();
                throw failure;
            }
            if (together != null && asked.size() > 1 == device.equals("cuda:0") && meetings++ == 0) {
                try {
                    together.await(30, TimeUnit.SECONDS);
                } catch (Exception e) {
                    throw new IllegalStateException("nobody spoke on the other device meanwhile", e);
                }
            }
            speaking.decrementAndGet();
            return IntStream.range(0, prompts.size()).mapToObj(i -> {
                final int token = Math.floorMod(KeyedRandom.of(seed, rowIds[i], prompts.get(i).length).nextInt(), 100);
                return new Utterance(prompts.get(i), new int[] {token}, new float[] {-token}, device + " " + token, true, 0);
            }).toList();
        }

        @Override
        public long version() {
            return 0;
        }

        @Override
        public String device() {
            return device;
        }

        @Override
        public int atOnce() {
            return atOnce;
        }
    }

    private static Team team(Speaker first, Speaker second) {
        final PromptTemplate template = new PromptTemplate("", "{prompt}{transcript}", "{text}");
        return new Team(List.of(new Agent("a", first, template, View.TRANSCRIPT, false), new Agent("b", second, template, View.TRANSCRIPT, false)),
                Router.ROUND_ROBIN, 4, context -> false);
    }

    private static List<Episode> play(Speaker first, Speaker second) {
        final List<Prompt> prompts = IntStream.range(0, 10).mapToObj(i -> new Prompt("p" + i, "prompt " + i, "1")).toList();
        return Rollout.play(team(first, second), prompts, 2, GENERATION, VERIFIER, 7);
    }

    /** Prompts of messages, texts and numbers alike. */
    private static String said(List<Episode> episodes) {
        final StringBuilder said = new StringBuilder();
        episodes.forEach(e -> {
            said.append(e.prompt().id()).append(' ').append(e.reward());
            e.messages().forEach(m -> said.append(' ').append(m.turn()).append(' ').append(m.role()).append(' ').append(m.utterance().text())
                    .append(' ').append(m.utterance().prompt().length));
            said.append('\n');
        });
        return said.toString();
    }

    @Test
    void theOneSpeaksWhileTheOtherDoesAndAllIsAsWithoutGroups() {
        final Voice first = new Voice("cuda:0", 8);
        final Voice second = new Voice("cuda:1", 8);
        first.together = new CyclicBarrier(2);
        second.together = first.together;
        final String grouped = said(play(first, second));
        assertEquals(List.of(10, 10, 10, 10), first.asked); // two groups of 20 episodes, two turns of each agent
        assertEquals(List.of(10, 10, 10, 10), second.asked);
        final Voice alone = new Voice("cuda:0", 0);
        assertEquals(grouped.replace("cuda:1", "cuda:0"), said(play(alone, new Voice("cuda:0", 0))));
        assertEquals(List.of(20, 20), alone.asked);
    }

    /** One device, all of a turn at once, or too few episodes: nothing changes. */
    @Test
    void whereThereIsNothingToGainThereIsOneGroup() {
        assertEquals(1, Groups.count(team(new Voice("cuda:0", 8), new Voice("cuda:0", 8)), 100));
        assertEquals(1, Groups.count(team(new Voice("cuda:0", 0), new Voice("cuda:1", 8)), 100));
        assertEquals(1, Groups.count(team(new Voice("cuda:0", 8), new Voice("cuda:1", 8)), 15));
        assertEquals(2, Groups.count(team(new Voice("cuda:0", 8), new Voice("cuda:1", 4)), 16));
        assertEquals(4, Groups.count(team(new Voice("cuda:0", 8), new Voice("cuda:1", 8)), 1000));
    }

    @Test
    void whatFailsIsThrownAndNobodyGoesOn() {
        final Voice first = new Voice("cuda:0", 5);
        final Voice second = new Voice("cuda:1", 5);
        second.failure = new IllegalArgumentException("the second cannot");
        assertEquals("the second cannot", assertThrows(IllegalArgumentException.class, () -> play(first, second)).getMessage());
        assertTrue(first.asked.size() <= 4, first.asked + " after a failure"); // the first turn of four groups
        assertEquals(1, second.asked.size());
    }
}
