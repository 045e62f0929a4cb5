package org.teamtr.torch;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.net.ServerSocket;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.stream.IntStream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.teamtr.TestJvm;
import org.teamtr.distributed.RankEnvironment;
import org.teamtr.distributed.RanksException;

/** Ranks that meet within one process, each in a thread of its own: c10d does not mind. */
@Tag("cpu")
@Timeout(60)
class TorchRanksTest {
    private static final Map<String, String> SAME = Map.of("version", "1");

    /** What each rank does. */
    private interface Work {
        Object on(TorchRanks ranks) throws Exception;
    }

    private final ConcurrentLinkedQueue<String> lost = new ConcurrentLinkedQueue<>();

    @BeforeAll
    static void load() {
        Libtorch.load();
    }

    private static RankEnvironment environment(int rank, int size, int port) {
        return new RankEnvironment(rank, size, rank, size, "127.0.0.1", port, false, 0);
    }

    /** {@return what comes of each rank, or what it throws} */
    private List<Object> ranks(int size, Duration patience, Work work) throws Exception {
        return ranks(size, patience, work, IntStream.range(0, size).mapToObj(r -> SAME).toList());
    }

    private List<Object> ranks(int size, Duration patience, Work work, List<Map<String, String>> facts) throws Exception {
        final int port = TestJvm.freePort();
        final ExecutorService threads = Executors.newFixedThreadPool(size);
        final List<Future<Object>> all = new ArrayList<>();
        for (int r = 0; r < size; r++) {
            final int rank = r;
            all.add(threads.submit(() -> {
                try (TorchRanks ranks = TorchRanks.join(environment(rank, size, port), patience, facts.get(rank), lost::add)) {
                    try {
                        return work.on(ranks);
                    } catch (Exception e) {
                        ranks.fail(e.getMessage());
                        return e;
                    }
                } catch (RanksException e) {
                    return e;
                }
            }));
        }
        final List<Object> results = new ArrayList<>();
        for (Future<Object> one : all) {
            results.add(one.get());
        }
        threads.shutdown();
        return results;
    }

    private static float[] numbers(int rank, int n) {
        final SplittableRandom random = new SplittableRandom(rank);
        final float[] numbers = new float[n];
        for (int i = 0; i < n; i++) {
            numbers[i] = (float) (random.nextGaussian() * Math.pow(10, random.nextInt(-6, 7)));
        }
        return numbers;
    }

    /** Numbers of all sizes, whose sum depends on the order: what one rank gets, all get, and as often as one asks. */
    @Test
    void sumsHaveTheSameBitsOnAllRanks() throws Exception {
        final int n = 10_007; // no multiple of the number of ranks
        final List<Object> sums = ranks(4, Duration.ofSeconds(30), ranks -> {
            final float[] sum = numbers(ranks.rank(), n);
            final float[] few = {ranks.rank() + 1, Float.NaN, Float.POSITIVE_INFINITY};
            ranks.sum("numbers", sum, few);
            assertArrayEquals(new float[] {10, Float.NaN, Float.POSITIVE_INFINITY}, few);
            final float[] again = numbers(ranks.rank(), n);
            ranks.sum("numbers", again);
            final double[] doubles = {0.1 * ranks.rank(), 1};
            ranks.sum("doubles", doubles);
            assertEquals(0.6, doubles[0], 1e-15);
            return List.of(sum, again);
        });
        final float[] expected = (float[]) ((List<?>) sums.get(0)).get(0);
        for (Object one : sums) {
            assertArrayEquals(expected, (float[]) ((List<?>) one).get(0));
        }
        final float[][] given = IntStream.range(0, 4).mapToObj(r -> numbers(r, n)).toArray(float[][]::new);
        for (int i = 0; i < n; i++) {
            double exact = 0;
            double most = 0;
            for (float[] one : given) {
                exact += one[i];
                most += Math.abs(one[i]);
            }
            assertEquals(exact, expected[i], 3 * 0x1p-24 * most);
        }
        assertTrue(lost.isEmpty(), lost.toString());
    }

    @Test
    void gathersWhatEachGave() throws Exception {
        for (Object all : ranks(3, Duration.ofSeconds(30), ranks -> {
            assertEquals(List.of("", "", ""), ranks.gather("nothing", new byte[0]).stream().map(String::new).toList());
            assertEquals("0", new String(ranks.broadcast("number", Integer.toString(ranks.rank()).getBytes())));
            ranks.barrier("a barrier");
            ranks.agree("a number", 7);
            assertArrayEquals(IntStream.range(0, 7).filter(i -> i % 3 == ranks.rank()).toArray(), ranks.share(IntStream.range(0, 7).toArray()));
            return ranks.gather("texts", "x".repeat(1000 * ranks.rank()).getBytes()).stream().map(b -> b.length).toList();
        })) {
            assertEquals(List.of(0, 1000, 2000), all);
        }
    }

    /** An elastic job may shrink to one rank. */
    @Test
    void one() throws Exception {
        assertEquals(List.of(3f), ranks(1, Duration.ofSeconds(30), ranks -> {
            ranks.barrier("a barrier");
            ranks.agree("a number", 1);
            assertEquals(List.of("text"), ranks.gather("texts", "text".getBytes()).stream().map(String::new).toList());
            final float[] sum = {3};
            ranks.sum("numbers", sum);
            return sum[0];
        }));
    }

    /** Whoever differs is named: the one among three, or the other than rank 0 among two. */
    @Test
    void namesWhoDiffers() throws Exception {
        for (Object told : ranks(3, Duration.ofSeconds(30), ranks -> {
            ranks.agree("stage 1, update of solver", ranks.rank() == 1 ? 8 : 7);
            return null;
        })) {
            final String message = assertInstanceOf(RanksException.class, told).getMessage();
            assertTrue(message.matches("stage 1, update of solver: rank 1 \\(.*\\) computed other numbers than the other ranks"
                    + " \\(checksum 8, expected 7\\).*"), message);
        }
        for (Object told : ranks(2, Duration.ofSeconds(30), ranks -> {
            ranks.agree("it", ranks.rank());
            return null;
        })) {
            assertTrue(((RanksException) told).getMessage().matches("it: rank 1 \\(.*\\) computed other numbers than rank 0 \\(.*"), told.toString());
        }
    }

    /** A rank that fails says why, and the others end with its words. */
    @Test
    void aFailureIsToldToAll() throws Exception {
        final List<Object> told = ranks(3, Duration.ofSeconds(30), ranks -> {
            if (ranks.rank() == 1) {
                throw new IOException("no room on the disk");
            }
            ranks.barrier("a barrier");
            return null;
        });
        for (int r : new int[] {0, 2}) {
            final boolean said = told.get(r) instanceof RanksException e && e.getMessage().matches("rank 1 \\(.*\\): no room on the disk");
            assertTrue(said, told.get(r) + " " + lost);
        }
    }

    /** A rank that does not come is waited for, then named. */
    @Test
    void aRankThatHangsIsNamed() throws Exception {
        final List<Object> told = ranks(2, Duration.ofSeconds(3), ranks -> {
            ranks.barrier("a barrier");
            if (ranks.rank() == 1) {
                Thread.sleep(6_000);
                return null;
            }
            ranks.barrier("the gradient");
            return null;
        });
        final String message = ((Exception) told.get(0)).getMessage();
        assertTrue(message.matches("rank 1 \\(.*\\) \\(working, after: a barrier\\) has not come to: the gradient within 3 s"
                + " \\(hardware.ranks.timeout\\)"), message);
    }

    @Test
    void ranksOfAnotherVersionOrConfigurationAreRefused() throws Exception {
        final List<Map<String, String>> facts = List.of(Map.of("version", "1", "seed", "3"), Map.of("version", "1", "seed", "4"));
        for (Object told : ranks(2, Duration.ofSeconds(30), ranks -> null, facts)) {
            final String message = ((RanksException) told).getMessage();
            assertTrue(message.matches("seed: expected 3, as rank 0 has, given 4 on rank 1 \\(.*\\)"), message);
        }
        for (Object told : ranks(2, Duration.ofSeconds(30), ranks -> null, List.of(SAME, Map.of("version", "2")))) {
            assertTrue(((RanksException) told).getMessage().startsWith("version: expected 1, as rank 0 has, given 2 on rank 1"), told.toString());
        }
    }

    @Test
    void aRankThatNeverComesIsMissed() throws Exception {
        final int port = TestJvm.freePort();
        final RanksException e = failure(environment(0, 2, port), Duration.ofSeconds(1));
        assertEquals("rank 1 of 2 has not come within 1 s (hardware.ranks.timeout)", e.getMessage());
    }

    @Test
    void portsInUseAndMastersOutOfReachAreSaidInALine() throws Exception {
        try (ServerSocket taken = new ServerSocket(0)) {
            final String inUse = failure(environment(0, 2, taken.getLocalPort()), Duration.ofSeconds(1)).getMessage();
            assertEquals("rank 0: MASTER_PORT " + taken.getLocalPort() + ": Address already in use; expected a port that no other program"
                    + " listens at", inUse.replace(" (Bind failed)", ""));
        }
        final int port = TestJvm.freePort();
        final String nobody = failure(environment(1, 2, port), Duration.ofSeconds(1)).getMessage();
        assertTrue(nobody.startsWith("rank 1: nobody answers at MASTER_ADDR 127.0.0.1, MASTER_PORT " + port + " for 1 s (Connection refused"),
                nobody);
        final String unknown = failure(new RankEnvironment(1, 2, 0, 1, "no.such.host.invalid", port, false, 0), Duration.ofSeconds(1)).getMessage();
        assertTrue(unknown.contains("no such host"), unknown);
    }

    private RanksException failure(RankEnvironment environment, Duration patience) {
        try (TorchRanks ranks = TorchRanks.join(environment, patience, SAME, lost::add)) {
            throw new AssertionError("joined as rank " + ranks.rank());
        } catch (RanksException e) {
            assertEquals(1, e.getMessage().lines().count(), e.getMessage());
            return e;
        }
    }

    @Test
    void environment() {
        assertNull(RankEnvironment.of(Map.of()));
        assertNull(RankEnvironment.of(Map.of("WORLD_SIZE", "1", "RANK", "0")));
        assertNull(RankEnvironment.of(Map.of("RANK", "3"))); // of something else
        assertEquals(1, RankEnvironment.of(Map.of("RANK", "0", "WORLD_SIZE", "1", "MASTER_ADDR", "node0", "MASTER_PORT", "29500",
                "TORCHELASTIC_USE_AGENT_STORE", "True")).size()); // an elastic job that has shrunk
        final RankEnvironment e = RankEnvironment.of(Map.of("RANK", "5", "WORLD_SIZE", "8", "LOCAL_RANK", "1", "LOCAL_WORLD_SIZE", "4",
                "MASTER_ADDR", "node0", "MASTER_PORT", "29500", "TORCHELASTIC_USE_AGENT_STORE", "True", "TORCHELASTIC_RESTART_COUNT", "2"));
        assertEquals(new RankEnvironment(5, 8, 1, 4, "node0", 29500, true, 2), e);
        assertEquals("environment: WORLD_SIZE=2 asks for several ranks; expected RANK, MASTER_PORT too, as torchrun sets them (docs/devices.md)",
                refused("WORLD_SIZE", "2", "MASTER_ADDR", "a"));
        assertEquals("environment: RANK: expected 0 to 1, given 2", refused("WORLD_SIZE", "2", "RANK", "2", "MASTER_ADDR", "a", "MASTER_PORT", "1"));
        assertEquals("environment: MASTER_PORT: expected a whole number, given x",
                refused("WORLD_SIZE", "2", "RANK", "1", "MASTER_ADDR", "a", "MASTER_PORT", "x"));
    }

    private static String refused(String... variables) {
        final Map<String, String> map = new HashMap<>();
        IntStream.range(0, variables.length / 2).forEach(i -> map.put(variables[2 * i], variables[2 * i + 1]));
        return assertThrows(RanksException.class, () -> RankEnvironment.of(map)).getMessage();
    }
}
