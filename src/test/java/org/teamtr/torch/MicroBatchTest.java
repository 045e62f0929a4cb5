package org.teamtr.torch;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.SplittableRandom;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.teamtr.team.Utterance;

class MicroBatchTest {
    private static List<Utterance> messages(int count, int shortest, int longest, long seed) {
        final SplittableRandom random = new SplittableRandom(seed);
        final List<Utterance> messages = new ArrayList<>();
        for (int m = 0; m < count; m++) {
            final int length = random.nextInt(shortest, longest + 1);
            final int prompt = 1 + random.nextInt(length - 1);
            messages.add(new Utterance(random.ints(prompt, 0, 100).toArray(), random.ints(length - prompt, 0, 100).toArray(),
                    new float[length - prompt], "", true, 0));
        }
        return messages;
    }

    private static long tokens(MicroBatch micro) {
        return micro.messages().stream().mapToLong(m -> m.prompt().length + m.tokens().length - 1).sum();
    }

    @Test
    void everyMessageIsInOneOfThemAndNoneIsTooLarge() {
        for (int most : new int[] {1, 300, 4096, 16_384}) {
            for (int workers : new int[] {1, 2, 7}) {
                final List<Utterance> messages = messages(128, 2, 500, most + workers);
                final List<MicroBatch> micros = MicroBatch.split(messages, most, workers);
                assertArrayEquals(IntStream.range(0, 128).toArray(), micros.stream().flatMapToInt(m -> Arrays.stream(m.indices())).sorted()
                        .toArray());
                for (MicroBatch micro : micros) {
                    final int count = micro.messages().size();
                    assertTrue(count == 1 || (long) micro.width() * count <= most, count + " messages of " + micro.width());
                    assertEquals(micro.tokens(), micro.targets().length);
                    for (int m = 0; m < count; m++) {
                        assertEquals(messages.get(micro.indices()[m]), micro.messages().get(m));
                    }
                }
            }
        }
    }

    /** The token before each token of a message is where it is asked for, whatever the padding. */
    @Test
    void positionsAreThoseBeforeTheTokens() {
        for (MicroBatch micro : MicroBatch.split(messages(20, 3, 40, 1), 200, 1)) {
            final long[] ids = micro.ids();
            final long[] positions = micro.positions();
            final long[] bounds = micro.cuSeqlens();
            for (int m = 0; m < micro.messages().size(); m++) {
                final Utterance message = micro.messages().get(m);
                assertEquals(message.prompt()[message.prompt().length - 1], ids[(int) positions[(int) bounds[m]]]);
                for (int u = 1; u < message.tokens().length; u++) {
                    assertEquals(message.tokens()[u - 1], ids[(int) positions[(int) bounds[m] + u]]);
                }
            }
        }
    }

    /** Of lengths like those of a group's messages, less than a sixteenth of what a micro-batch computes is padding, once it is large enough. */
    @Test
    void littleIsPadding() {
        final List<MicroBatch> micros = MicroBatch.split(messages(256, 50, 700, 3), 16_384, 2);
        long padded = 0;
        long used = 0;
        for (MicroBatch micro : micros) {
            final long all = (long) micro.width() * micro.messages().size();
            padded += all;
            used += tokens(micro);
            final Utterance longest = micro.messages().get(micro.messages().size() - 1);
            final long before = tokens(micro) - (longest.prompt().length + longest.tokens().length - 1);
            assertTrue(before < 2048 || all - tokens(micro) <= all / 16.0, before + " tokens of " + all);
        }
        assertTrue(padded - used < 0.08 * padded, (padded - used) + " of " + padded + " are padding");
        assertTrue(micros.size() < 30, micros.size() + " micro-batches");
    }
}
