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

    /** Groups of messages of up to 40 tokens, with one prompt for each group. */
    private static List<Utterance> groups(int groups, int each, int prompt, long seed) {
        final SplittableRandom random = new SplittableRandom(seed);
        final List<Utterance> messages = new ArrayList<>();
        for (int g = 0; g < groups; g++) {
            final int[] ids = random.ints(random.nextInt(1, prompt), 0, 100).toArray();
            for (int m = 0; m < each; m++) {
                final int length = random.nextInt(1, 41);
                messages.add(new Utterance(ids.clone(), random.ints(length, 0, 100).toArray(), new float[length], "", true, 0));
            }
        }
        return messages;
    }

    /** All sequences are there, whichever part of them goes through the model once for several messages. */
    @Test
    void sequencesWithSharedPromptsAreComplete() {
        for (int most : new int[] {700, 4096}) {
            final List<Utterance> messages = groups(6, 8, 150, most);
            final List<MicroBatch> micros = MicroBatch.split(messages, most, 1);
            assertArrayEquals(IntStream.range(0, 48).toArray(), micros.stream().flatMapToInt(m -> Arrays.stream(m.indices())).sorted().toArray());
            for (MicroBatch micro : micros) {
                final MicroBatch.Prompts prompts = micro.prompts();
                final int count = micro.messages().size();
                assertTrue(count == 1 || (long) count * (prompts.width() + micro.width()) <= most, "keys of " + count + " messages");
                final long[] ids = micro.ids();
                assertEquals(micro.computed(), ids.length);
                final long[] positions = micro.positions();
                final long[] bounds = micro.cuSeqlens();
                for (int m = 0; m < count; m++) {
                    final Utterance message = micro.messages().get(m);
                    final int n = message.tokens().length;
                    final int[] whole = IntStream.concat(Arrays.stream(message.prompt()), Arrays.stream(message.tokens(), 0, n - 1)).toArray();
                    final int shared = prompts.of()[m] * prompts.width();
                    final long own = positions[(int) bounds[m]];
                    for (int i = 0; i < whole.length; i++) {
                        final int behind = i - (message.prompt().length - 1);
                        assertEquals(whole[i], ids[behind < 0 ? shared + i : (int) own + behind]);
                    }
                    for (int u = 0; u < n; u++) {
                        assertEquals(own + u, positions[(int) bounds[m] + u]);
                    }
                }
            }
        }
    }

    @Test
    void promptsAreSharedWhereThatSavesATenth() {
        final List<Utterance> messages = groups(8, 8, 200, 1);
        final long apart = MicroBatch.split(messages.stream().map(m -> new Utterance(IntStream.concat(IntStream.of(messages.indexOf(m)),
                Arrays.stream(m.prompt()).skip(1)).toArray(), m.tokens(), m.logProbs(), "", true, 0)).toList(), 16_384, 1).stream()
                .mapToLong(MicroBatch::computed).sum();
        final long shared = MicroBatch.split(messages, 16_384, 1).stream().mapToLong(MicroBatch::computed).sum();
        assertTrue(shared < 0.6 * apart, shared + " of " + apart);
        final List<Utterance> brief = groups(8, 8, 3, 1);
        assertTrue(MicroBatch.split(brief, 16_384, 1).stream().allMatch(m -> m.prompts() == null), "two tokens are not worth it");
        assertTrue(MicroBatch.split(messages(64, 50, 700, 3), 16_384, 1).stream().allMatch(m -> m.prompts() == null), "nothing is shared");
    }
}
