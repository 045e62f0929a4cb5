package org.teamtr.task;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import java.util.Map;
import java.util.Set;
import org.junit.jupiter.api.Test;

class BenchmarkTest {
    /** Each can be judged here, and has a figure of all of the paper's methods, of which its own is the best. */
    @Test
    void thePapersBenchmarks() {
        assertEquals(
                List.of("aime24", "aime25", "math500", "zebralogic", "autologi", "detective", "situation", "guess_number", "planbench", "retail"),
                Benchmark.PAPER.stream().map(Benchmark::name).toList());
        for (Benchmark b : Benchmark.PAPER) {
            final boolean scoredByShop = b.name().equals("retail");
            assertTrue(scoredByShop ? b.verifier() == null : Verifiers.names().contains(b.verifier()), b.name());
            assertEquals(scoredByShop ? Set.of("naive sequential (3x8B)", "TeamTR (3x8B)") : Benchmark.PAPER.get(0).published().keySet(),
                    b.published().keySet(), b.name());
            final double best = b.published().values().stream().mapToDouble(p -> p).max().orElseThrow();
            assertEquals(best, b.published().get("TeamTR (3x8B)"), b.name());
            assertTrue(b.published().values().stream().allMatch(p -> p > 0 && p < 100), b.name());
            assertEquals(b, Benchmark.named(b.name()));
        }
        assertEquals(Map.of("TeamTR (3x8B)", 88.1, "GRPO (single, 8B)", 39.1, "DAPO (single, 8B)", 41.3, "Debate (3x8B)", 68.7, "Debate+Judge (3x8B)",
                71.1, "Role-play (3x8B)", 69.9), Benchmark.named("aime24").published());
        assertEquals("f1_word", Benchmark.named("situation").figure(), "a share of right texts would be a figure of another kind");
    }

    @Test
    void anUnknownOneIsAnErrorThatListsTheOthers() {
        assertEquals(
                "benchmark: expected one of aime24, aime25, math500, zebralogic, autologi, detective, situation, guess_number, planbench, retail, given"
                        + " gsm8k",
                assertThrows(IllegalArgumentException.class, () -> Benchmark.named("gsm8k")).getMessage());
    }
}
