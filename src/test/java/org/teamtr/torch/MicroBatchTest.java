package org.teamtr.torch;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
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

    private static int length(Utterance message) {
        return message.prompt().length + message.tokens().length - 1;
    }

    /** Tokens that go through the model. */
    private static long computed(List<MicroBatch> micros) {
        return micros.stream().flatMap(m -> m.sequences().stream()).mapToLong(s -> s.tokens().length).sum();
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
                    final long tokens = micro.messages().stream().mapToLong(MicroBatchTest::length).sum();
                    assertTrue(count == 1 || tokens <= most, count + " messages of " + tokens);
                    assertEquals(micro.tokens(), micro.targets().length);
                    for (int m = 0; m < count; m++) {
                        assertEquals(messages.get(micro.indices()[m]), micro.messages().get(m));
                    }
                }
            }
        }
    }

    /** Messages of prompts of their own: what goes through the model is their tokens, and nothing else. */
    @Test
    void nothingIsPadding() {
        final List<Utterance> messages = messages(256, 50, 700, 3);
        final List<MicroBatch> micros = MicroBatch.split(messages, 16_384, 1);
        final long all = messages.stream().mapToLong(MicroBatchTest::length).sum();
        assertEquals(all, computed(micros));
        assertEquals(7, micros.size(), "as few as " + all + " tokens allow");
    }

    /** Each worker has as many, and as much. */
    @Test
    void workIsDividedEqually() {
        final List<Utterance> messages = messages(256, 50, 100, 3);
        final long all = messages.stream().mapToLong(MicroBatchTest::length).sum();
        for (int workers : new int[] {1, 2, 3, 8}) {
            for (int most : new int[] {900, 4096, 100_000}) {
                final List<MicroBatch> micros = MicroBatch.split(messages, most, workers);
                assertEquals(0, micros.size() % workers, micros.size() + " for " + workers);
                final double equal = (double) all / micros.size();
                for (MicroBatch micro : micros) {
                    final long used = computed(List.of(micro));
                    assertTrue(Math.abs(used - equal) <= 100, used + " tokens of " + equal);
                }
            }
        }
        assertEquals(1, MicroBatch.split(messages.subList(0, 5), 4096, 8).size(), "a few tokens are not worth a second worker");
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

    /** The figures of docs/trainer-speed.md: as many messages as a stage has of GSM8K, with lengths spread as answers' are. */
    @Test
    void sharedPromptsOfMessagesOfManyLengths() {
        final Random random = new Random(5);
        final List<Utterance> messages = new ArrayList<>();
        for (int g = 0; g < 24; g++) {
            final int prompt = g;
            final int[] ids = IntStream.range(0, 60 + random.nextInt(120)).map(i -> i == 0 ? prompt : i).toArray();
            for (int m = 0; m < 8; m++) {
                final int length = (int) Math.min(512, Math.max(10, Math.exp(5 + 0.6 * random.nextGaussian())));
                messages.add(new Utterance(ids.clone(), new int[length], new float[length], "", true, 0));
            }
        }
        assertEquals(55_363, messages.stream().mapToLong(MicroBatchTest::length).sum());
        assertEquals(37_833, computed(MicroBatch.split(messages, 16_384, 1)));
    }

    /** All sequences are there, whichever part of them goes through the model once for several messages; so is the token before each token. */
    @Test
    void sequencesAreComplete() {
        for (int most : new int[] {1, 700, 4096}) {
            final List<Utterance> messages = groups(6, 8, 150, most);
            final List<MicroBatch> micros = MicroBatch.split(messages, most, 1);
            assertArrayEquals(IntStream.range(0, 48).toArray(), micros.stream().flatMapToInt(m -> Arrays.stream(m.indices())).sorted().toArray());
            for (MicroBatch micro : micros) {
                final List<MicroBatch.Sequence> sequences = micro.sequences();
                final int[] ids = sequences.stream().flatMapToInt(s -> Arrays.stream(s.tokens())).toArray();
                final long[] asked = micro.asked();
                final long[] bounds = micro.cuSeqlens();
                final int prompts = micro.shared().size();
                assertEquals(prompts + micro.messages().size(), sequences.size());
                for (int m = 0; m < micro.messages().size(); m++) {
                    final Utterance message = micro.messages().get(m);
                    final MicroBatch.Sequence own = sequences.get(prompts + m);
                    final int[] before = own.prompt() < 0 ? new int[0] : sequences.get(own.prompt()).tokens();
                    assertEquals(before.length, own.before());
                    assertEquals(before.length + own.tokens().length, own.keys());
                    assertArrayEquals(IntStream.concat(Arrays.stream(message.prompt()), Arrays.stream(message.tokens()))
                            .limit(length(message)).toArray(), IntStream.concat(Arrays.stream(before), Arrays.stream(own.tokens())).toArray());
                    for (int u = 0; u < message.tokens().length; u++) {
                        final int last = u == 0 ? message.prompt()[message.prompt().length - 1] : message.tokens()[u - 1];
                        assertEquals(last, ids[(int) asked[(int) bounds[m] + u]]);
                    }
                }
            }
        }
    }

    /** Those of one length are side by side, so that they can be computed in one call. */
    @Test
    void sequencesOfOneLengthAreNeighbours() {
        for (MicroBatch micro : MicroBatch.split(groups(12, 8, 30, 1), 16_384, 1)) {
            final List<MicroBatch.Sequence> sequences = micro.sequences();
            final List<String> kinds = new ArrayList<>();
            for (int s = 0; s < sequences.size(); s++) {
                final String kind = (s < micro.shared().size()) + " " + sequences.get(s).before() + " " + sequences.get(s).tokens().length;
                if (kinds.isEmpty() || !kinds.get(kinds.size() - 1).equals(kind)) {
                    kinds.add(kind);
                }
            }
            assertEquals(kinds.stream().distinct().toList(), kinds);
            assertTrue(kinds.size() < sequences.size());
        }
    }

    @Test
    void promptsAreSharedWhereThatSavesATenth() {
        final List<Utterance> messages = groups(8, 8, 200, 1);
        final long apart = messages.stream().mapToLong(MicroBatchTest::length).sum();
        final long shared = computed(MicroBatch.split(messages, 16_384, 1));
        assertTrue(shared < 0.6 * apart, shared + " of " + apart);
        final List<Utterance> brief = groups(8, 8, 3, 1);
        assertTrue(MicroBatch.split(brief, 16_384, 1).stream().allMatch(m -> m.shared().isEmpty()), "two tokens are not worth it");
        assertTrue(MicroBatch.split(messages(64, 50, 700, 3), 16_384, 1).stream().allMatch(m -> m.shared().isEmpty()), "nothing is shared");
        // Of some only: each prompt for itself.
        final List<Utterance> mixed = new ArrayList<>(groups(1, 8, 200, 5));
        mixed.addAll(brief);
        final MicroBatch both = MicroBatch.split(mixed, 16_384, 1).get(0);
        assertEquals(1, both.shared().size());
        assertEquals(8, Arrays.stream(both.of()).filter(of -> of == 0).count());
        assertEquals(64, Arrays.stream(both.of()).filter(of -> of < 0).count());
    }
}
