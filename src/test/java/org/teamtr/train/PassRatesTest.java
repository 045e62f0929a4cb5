package org.teamtr.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;

class PassRatesTest {
    /** Against all subsets of k of n. */
    @Test
    void sharesOfSubsets() {
        for (int n = 1; n <= 8; n++) {
            for (int c = 0; c <= n; c++) {
                for (int k = 1; k <= n; k++) {
                    int subsets = 0;
                    int any = 0;
                    int all = 0;
                    for (int set = 0; set < 1 << n; set++) {
                        if (Integer.bitCount(set) == k) {
                            final int right = Integer.bitCount(set & (1 << c) - 1);
                            subsets++;
                            any += right > 0 ? 1 : 0;
                            all += right == k ? 1 : 0;
                        }
                    }
                    assertEquals((double) any / subsets, PassRates.passAt(n, c, k), 1e-12);
                    assertEquals((double) all / subsets, PassRates.allOf(n, c, k), 1e-12);
                }
            }
        }
        assertThrows(IllegalArgumentException.class, () -> PassRates.passAt(3, 1, 4));
    }

    @Test
    void theMajorityOfEqualAnswers() {
        assertEquals(1,
                PassRates.majority(Arrays.asList(null, "1/2", "3", "0.5", "3", "2/4"), (a, b) -> a.equals(b) || !a.equals("3") && !b.equals("3")));
        assertEquals(0, PassRates.majority(List.of("a", "b", "b", "a"), String::equals), "of equally many the first");
        assertEquals(-1, PassRates.majority(Arrays.asList(null, null), String::equals));
    }

    /** Of n items each right with p, 95 percent lie within 1.96 sqrt(p (1 - p) / n). */
    @Test
    void intervals() {
        final List<boolean[]> items = new ArrayList<>();
        for (int i = 0; i < 400; i++) {
            items.add(new boolean[] {i % 4 != 0});
        }
        final PassRates.Interval interval = PassRates.bootstrap(items, r -> PassRates.count(r), 3);
        assertEquals(0.75, interval.value(), 1e-12);
        assertEquals(0.75 - 1.96 * Math.sqrt(0.75 * 0.25 / 400), interval.low(), 0.01);
        assertEquals(0.75 + 1.96 * Math.sqrt(0.75 * 0.25 / 400), interval.high(), 0.01);
        assertEquals(interval, PassRates.bootstrap(items, r -> PassRates.count(r), 3));
        assertTrue(Double.isNaN(PassRates.bootstrap(List.of(), r -> 0, 3).value()));
    }

    /** Cells right of all cells: items with more of them weigh more. Of ones it is the mean. */
    @Test
    void ratiosOfSums() {
        final List<double[]> had = List.of(new double[] {4, 4}, new double[0], new double[] {0});
        final List<double[]> all = List.of(new double[] {4, 4}, new double[0], new double[] {16});
        final PassRates.Interval cells = PassRates.ratio(had, all, 3);
        assertEquals(8 / 24.0, cells.value(), 1e-12);
        assertEquals(0, cells.low(), "the second item alone, in a quarter of the draws");
        assertEquals(1, cells.high(), "the first one alone");
        assertTrue(Double.isNaN(PassRates.ratio(List.of(), List.of(), 3).value()));
        final List<boolean[]> items = new ArrayList<>();
        final List<double[]> numbers = new ArrayList<>();
        final List<double[]> ones = new ArrayList<>();
        for (int i = 0; i < 50; i++) {
            items.add(new boolean[] {i % 3 == 0, i % 5 == 0});
            numbers.add(new double[] {i % 3 == 0 ? 1 : 0, i % 5 == 0 ? 1 : 0});
            ones.add(new double[] {1, 1});
        }
        final PassRates.Interval expected = PassRates.bootstrap(items, r -> PassRates.count(r) / 2.0, 9);
        final PassRates.Interval mean = PassRates.ratio(numbers, ones, 9);
        assertEquals(expected.value(), mean.value(), 1e-12);
        assertEquals(expected.low(), mean.low(), 1e-12);
        assertEquals(expected.high(), mean.high(), 1e-12);
    }
}
