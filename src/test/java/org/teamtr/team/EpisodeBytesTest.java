package org.teamtr.team;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;

import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;

/** What a rank gets of another's episodes is what they were. */
class EpisodeBytesTest {
    private static Utterance said(String text) {
        return new Utterance(new int[] {1, 2, 3}, new int[] {7, -1}, new float[] {-0.5f, Float.NEGATIVE_INFINITY}, text, true, 42);
    }

    @Test
    void everythingComesBack() {
        final List<Prompt> prompts = List.of(new Prompt("p0", "q", null), new Prompt("p1", "q", "a"));
        final Context context = new Context(prompts.get(1), 3, 99);
        context.open(new Observation("environment", "begin"));
        context.append(new Message(0, 1, "solver", said("lone \ud800, ünï, \u0000")));
        context.observe(Observation.tools(List.of("one\nline", "two")));
        context.append(new Message(1, 0, "planner", said("")));
        final Episode episode = new Episode(context, new Verifier.Score(0.25, true, Map.of("b", 2.0, "a", Double.NaN)));
        final Episode[] back = new Episode[4];
        EpisodeBytes.into(back, EpisodeBytes.of(new Episode[] {null, null, null, episode}), prompts, 2);
        assertNull(back[2]);
        assertEquals(episode.score(), back[3].score());
        final Context c = back[3].context();
        assertEquals(prompts.get(1), c.prompt());
        assertEquals(3, c.episode());
        assertEquals(99, c.seed());
        assertEquals(context.opening(), c.opening());
        assertEquals(context.observation(0), c.observation(0));
        assertNull(c.observation(1));
        assertEquals(2, c.turn());
        for (int t = 0; t < 2; t++) {
            final Message was = context.messages().get(t);
            final Message is = c.messages().get(t);
            assertEquals(List.of(was.turn(), was.agent(), was.role(), was.text(), was.utterance().ended(), was.utterance().version()),
                    List.of(is.turn(), is.agent(), is.role(), is.text(), is.utterance().ended(), is.utterance().version()));
            assertArrayEquals(was.utterance().prompt(), is.utterance().prompt());
            assertArrayEquals(was.utterance().tokens(), is.utterance().tokens());
            assertArrayEquals(was.utterance().logProbs(), is.utterance().logProbs());
        }
    }

    /** Of any exponent: a decimal that is first rounded to a double would now and then be another float. */
    @Test
    void logProbsKeepTheirBits() {
        final SplittableRandom random = new SplittableRandom(1);
        final float[] logProbs = new float[200_000];
        for (int i = 0; i < logProbs.length; i++) {
            logProbs[i] = Float.intBitsToFloat(random.nextInt());
        }
        final List<Prompt> prompts = List.of(new Prompt("p0", "q", null));
        final Context context = new Context(prompts.get(0), 0, 0);
        context.append(new Message(0, 0, "solver", new Utterance(new int[0], new int[0], logProbs, "", true, 0)));
        final Episode[] back = new Episode[1];
        EpisodeBytes.into(back, EpisodeBytes.of(new Episode[] {new Episode(context, new Verifier.Score(0, false))}), prompts, 1);
        assertArrayEquals(logProbs, back[0].messages().get(0).utterance().logProbs());
    }
}
