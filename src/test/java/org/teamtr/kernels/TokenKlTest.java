package org.teamtr.kernels;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.teamtr.kernels.Reference.Softmax;
import org.teamtr.kernels.TestData.Forward;
import org.teamtr.kernels.TestData.Matrix;
import org.teamtr.kernels.TestData.Worst;

/** The exact KL in both directions and its gradients against {@link Reference}, from a KL of 1 down to 1e-6. */
class TokenKlTest extends TestData.Scoped {
    private static final double[] KLS = {1, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6};

    /** The two methods, each without and with statistics from which the gradient is made, and what they should give. */
    enum Direction {
        OLD_NEW(true, false), NEW_OLD(false, false), OLD_NEW_STATISTICS(true, true), NEW_OLD_STATISTICS(false, true);

        private final boolean oldFirst;
        private final boolean withStatistics;

        Direction(boolean oldFirst, boolean withStatistics) {
            this.oldFirst = oldFirst;
            this.withStatistics = withStatistics;
        }

        float[] of(Logits oldLogits, Logits newLogits, Indices targets, Temperature temperature, Floats... outputs) {
            final Floats kl = Floats.allocate(oldLogits.rows());
            final KlStatistics statistics = withStatistics ? statistics(oldLogits.rows()) : null;
            forward(oldLogits, newLogits, targets, temperature, kl, statistics, Arrays.copyOf(outputs, 4));
            return kl.toArray();
        }

        float[] of(Matrix oldLogits, Matrix newLogits, double temperature) {
            return of(oldLogits.logits, newLogits.logits, null, Temperature.of((float) temperature));
        }

        private static KlStatistics statistics(long rows) {
            return new KlStatistics(Floats.allocate(rows), Floats.allocate(rows), Floats.allocate(rows));
        }

        private void forward(Logits oldLogits, Logits newLogits, Indices targets, Temperature temperature, Floats kl,
                KlStatistics statistics, Floats... more) {
            if (oldFirst) {
                TokenKl.oldNew(oldLogits, newLogits, targets, temperature, kl, more[0], more[1], more[2], more[3], statistics);
            } else {
                TokenKl.newOld(oldLogits, newLogits, targets, temperature, kl, more[0], more[1], more[2], more[3], statistics);
            }
        }

        void backward(Logits oldLogits, Logits newLogits, Indices targets, Temperature temperature, Floats gradKl, Logits dNew) {
            final Floats kl = Floats.allocate(oldLogits.rows());
            final KlStatistics statistics = withStatistics ? statistics(oldLogits.rows()) : null;
            if (withStatistics) {
                forward(oldLogits, newLogits, targets, temperature, kl, statistics, new Floats[4]);
            }
            if (oldFirst) {
                TokenKl.oldNewBackward(oldLogits, newLogits, targets, temperature, statistics, gradKl, dNew);
            } else {
                TokenKl.newOldBackward(oldLogits, newLogits, targets, temperature, withStatistics ? kl : null, statistics, gradKl,
                        dNew);
            }
        }

        double expected(Softmax ofOld, Softmax ofNew) {
            return oldFirst ? Reference.kl(ofOld, ofNew) : Reference.kl(ofNew, ofOld);
        }

        /**
         * What f32 statistics may cost an element of the gradient of a row: each is rounded by up to 2^-24 of its size, and an
         * exponent of P or Q, or a log-ratio, is off by as much.
         */
        double rounding(Softmax ofOld, Softmax ofNew, double g) {
            if (!withStatistics) {
                return 0;
            }
            final Softmax p = oldFirst ? ofOld : ofNew;
            final Softmax q = oldFirst ? ofNew : ofOld;
            final double kl = oldFirst ? 0 : Reference.kl(p, q);
            final double exponents = 0x1p-24 * (Math.abs(p.lse) + Math.abs(q.lse) + Math.abs(p.lse - q.lse) + kl);
            // To first order: the error of the exponents, times the element's terms.
            return Math.abs(g) / p.temperature * exponents * largest(TestData.row(p.logP.length, v -> Math.max(p.p(v), q.p(v))
                    * (oldFirst ? 1 : 1 + Math.abs(p.logP[v] - q.logP[v]) + kl)));
        }

        double[] gradient(Softmax ofOld, Softmax ofNew, double g) {
            return oldFirst ? Reference.klGradientOfSecond(ofOld, ofNew, g) : Reference.klGradientOfFirst(ofNew, ofOld, g);
        }
    }

    // ---- pairs of rows ----

    /** A pair for each of {@link #KLS}: old rows and new rows. */
    private static Matrix[] pairs(DType dtype, double[] old, double shift, double temperature) {
        final Matrix a = TestData.matrix(dtype, KLS.length, old.length);
        final Matrix b = TestData.matrix(dtype, KLS.length, old.length);
        for (int r = 0; r < KLS.length; r++) {
            a.setRow(r, old);
            b.setRow(r, TestData.plus(TestData.near(dtype, a.row(r), KLS[r], temperature, 100 + r), shift));
        }
        return new Matrix[] {a, b};
    }

    private static Matrix[] pairs(DType dtype, double[] old) {
        return pairs(dtype, old, 0, 1);
    }

    /** Relative error of the KL, and of each gradient element to the largest of its row. */
    private static void check(Matrix[] pair, double temperature, String what) {
        check(pair, temperature, 0, what);
    }

    /** @param ratio absolute error of the log-ratios that is conceded to the gradient */
    private static void check(Matrix[] pair, double temperature, double ratio, String what) {
        final Matrix old = pair[0];
        final Matrix fresh = pair[1];
        final float t = (float) temperature;
        final Softmax[] p = new Softmax[old.rows];
        final Softmax[] q = new Softmax[old.rows];
        for (int r = 0; r < old.rows; r++) {
            p[r] = old.softmax(r, t);
            q[r] = fresh.softmax(r, t);
        }
        for (Direction direction : Direction.values()) {
            final String name = direction + ", " + what;
            final Worst kls = new Worst("KL " + name + ", relative");
            final Worst gradients = new Worst("KL gradient " + name);
            final float[] given = direction.of(old, fresh, t);
            final Matrix d = fresh.like();
            final float[] g = new float[old.rows];
            for (int r = 0; r < old.rows; r++) {
                g[r] = r % 2 == 0 ? 1 : -3;
            }
            direction.backward(old.logits, fresh.logits, null, Temperature.of(t), Floats.ofFloats(g), d.logits);
            for (int r = 0; r < old.rows; r++) {
                final double kl = direction.expected(p[r], q[r]);
                assertEquals(0, Math.log10(kl / KLS[r]), KLS[r] < 0.1 ? 0.5 : 1, "the KL that the test means to construct");
                kls.see(given[r], kl, 1e-4 * kl, r, 0);
                final double[] expected = direction.gradient(p[r], q[r], g[r]);
                final double limit = 1e-5 * largest(expected) + ratio * Math.abs(g[r]) / t * largest(p[r].p())
                        + direction.rounding(p[r], q[r], g[r]);
                for (int v = 0; v < old.vocab; v++) {
                    final double rounding = d.dtype == DType.F32 ? 0 : Reference.ulp(d.dtype, expected[v]);
                    gradients.see(d.get(r, v), Reference.round(d.dtype, expected[v]), limit + rounding, r, v);
                }
            }
            kls.check();
            gradients.check();
        }
    }

    private static double largest(double[] values) {
        return Arrays.stream(values).map(Math::abs).max().getAsDouble();
    }

    // ---- forward and backward ----

    @ParameterizedTest
    @ValueSource(ints = {2, 7, 63, 5003, 50257, 151937})
    void agreesWithDoublesFrom1Downto1eMinus6(int vocab) {
        check(pairs(DType.F32, TestData.gaussian(1, vocab, vocab < 10 ? 0.5 : 3)), 1, "V = " + vocab);
    }

    @ParameterizedTest
    @EnumSource(value = DType.class, names = {"BF16", "F16"})
    void agreesWithDoublesOfRoundedRows(DType dtype) {
        check(pairs(dtype, TestData.gaussian(2, 50257, 2)), 1, dtype.toString());
    }

    @ParameterizedTest
    @ValueSource(doubles = {0.3, 1.7, 5})
    void agreesWithDoublesAtOtherTemperatures(double temperature) {
        check(pairs(DType.F32, TestData.gaussian(3, 10007, 3), 0, temperature), temperature, "T = " + temperature);
    }

    /** Where the mass is decides which block the kernel measures from. */
    @Test
    void theOrderOfTheMassDoesNotMatter() {
        final double[] x = TestData.gaussian(4, 20011, 2);
        check(pairs(DType.F32, TestData.row(x.length, v -> x[v] + (v < 500 ? 12 : 0))), 1, "mass in the first block");
        check(pairs(DType.F32, TestData.row(x.length, v -> x[v] + (v >= 19800 ? 12 : 0))), 1, "mass in the last block");
        check(pairs(DType.F32, TestData.row(x.length, v -> x[v] + 12.0 * v / x.length)), 1, "mass growing");
        check(pairs(DType.F32, TestData.row(x.length, v -> x[v] - 12.0 * v / x.length)), 1, "mass shrinking");
        check(pairs(DType.F32, TestData.row(x.length, v -> 1.5)), 1, "uniform");
        check(pairs(DType.F32, TestData.with(x, 20010, 9)), 1, "a likely token in the tail");
    }

    @Test
    void oneTokenMayHaveNearlyAllTheMass() {
        for (int at : new int[] {0, 9000, 10006}) {
            final double[] x = TestData.with(TestData.gaussian(5, 10007, 1), at, 16);
            check(pairs(DType.F32, x), 1, "p = 0.999, token " + at);
        }
    }

    /**
     * The rows of one policy may lie anywhere: their constant is not part of the distribution. Differences of f32 numbers that are
     * 8 or more apart are rounded to 5e-7 or more, though, which the KL's sum averages out, but not a single element of the gradient.
     */
    @ParameterizedTest
    @ValueSource(doubles = {0.25, 3, -8, 40, -100})
    void aShiftOfOneRowChangesNothing(double shift) {
        final double[] x = TestData.gaussian(6, 10007, 2);
        check(pairs(DType.F32, x, shift, 1), 1, Math.abs(shift) < 4 ? 0 : 2e-6, "shifted by " + shift);
        final double[] steps = TestData.row(10007, v -> Math.rint(x[v] * 1024) / 1024); // x + shift is then exact
        final Matrix p = TestData.matrix(DType.F32, steps);
        final Matrix q = TestData.matrix(DType.F32, TestData.plus(steps, shift));
        for (Direction direction : Direction.values()) {
            assertEquals(0, direction.of(p, q, 1)[0], 1e-12);
        }
    }

    /** Few tokens, so that no average over many hides the rounding of a difference. */
    @ParameterizedTest
    @ValueSource(doubles = {0, 1, -2, 5, -8, 15, 40, 300})
    void aShiftLeavesAKlOf1eMinus6ItsDigits(double shift) {
        final Worst kls = new Worst("KL 1.3e-6, shifted by " + shift + ", relative");
        for (int vocab : new int[] {2, 3, 7, 63, 1000}) {
            final double[][] rows = new double[20][];
            for (int r = 0; r < rows.length; r++) {
                rows[r] = TestData.rounded(DType.F32, TestData.gaussian(31 * r + vocab, vocab, 2));
            }
            final Matrix p = TestData.matrix(DType.F32, rows);
            final Matrix q = p.like();
            for (int r = 0; r < rows.length; r++) {
                q.setRow(r, TestData.plus(TestData.near(DType.F32, rows[r], 1.3e-6, 1, 7 * r), shift));
            }
            for (Direction direction : Direction.values()) {
                final float[] given = direction.of(p, q, 1);
                for (int r = 0; r < rows.length; r++) {
                    final double kl = direction.expected(p.softmax(r, 1), q.softmax(r, 1));
                    if (kl >= 1e-6) {
                        kls.see(given[r], kl, 1e-4 * kl, r, vocab);
                    }
                }
            }
        }
        kls.check();
    }

    /**
     * Rows of every kind against each other, at KLs up to 70. The gradient of KL(new || old) is new (log-ratio - KL): where one token
     * has nearly all the mass its log-ratio nearly is the KL, so that element is measured against the two terms of the difference.
     */
    @Test
    void arbitraryPoliciesAgreeWithThePlainSum() {
        final Worst kls = new Worst("KL of arbitrary policies, relative");
        final Worst gradients = new Worst("KL gradient of arbitrary policies");
        final int vocab = 7001;
        final Matrix x = TestData.matrix(DType.F32, Arrays.stream(TestData.shapes(vocab, 7))
                .filter(row -> row[1] != TestData.MASKED).toArray(double[][]::new));
        final Matrix y = x.like();
        for (int by = 1; by < x.rows; by++) {
            for (int r = 0; r < x.rows; r++) {
                y.setRow(r, x.row((r + by) % x.rows));
            }
            for (Direction direction : Direction.values()) {
                final float[] given = direction.of(x, y, 1);
                final Matrix d = y.like();
                direction.backward(x.logits, y.logits, null, Temperature.ONE, Floats.ofFloats(TestData.constant(x.rows, 1)), d.logits);
                for (int r = 0; r < x.rows; r++) {
                    final Softmax p = x.softmax(r, 1);
                    final Softmax q = y.softmax(r, 1);
                    final double plain = direction.oldFirst ? Reference.klPlain(p, q) : Reference.klPlain(q, p);
                    assertEquals(plain, direction.expected(p, q), 1e-12 + 1e-12 * plain, "the two references");
                    kls.see(given[r], plain, 2e-6 * plain + 1e-12, r, by);
                    final double[] expected = direction.gradient(p, q, 1);
                    final double limit = direction.rounding(p, q, 1) + (direction.oldFirst ? 1e-5 * largest(expected) + 3e-7 * largest(p.p())
                            : 1e-6 * largest(TestData.row(vocab, v -> q.p(v) * (Math.abs(q.logP[v] - p.logP[v]) + plain))) + 1e-7);
                    for (int v = 0; v < vocab; v += 4) {
                        gradients.see(d.get(r, v), expected[v], limit, r, v);
                    }
                }
            }
        }
        kls.check();
        gradients.check();
    }

    /**
     * From a KL of 0.01, which no single sweep does, over the 0.25 from which one does, to some 30; peaked and flat rows, logits that lie a
     * constant apart, maxima that come late, and temperatures. Both directions, with gradients, at the size of a real vocabulary.
     */
    @Test
    void policiesFromNotSoNearToFarAgreeWithThePlainSum() {
        final Worst kls = new Worst("KL from 0.01 to 30, relative");
        final Worst gradients = new Worst("its gradient, relative to the largest element");
        final int vocab = 50_257;
        final double[] steps = {0.15, 0.4, 0.7, 0.75, 0.8, 1, 2, 6};
        final SplittableRandom random = new SplittableRandom(10);
        for (double temperature : new double[] {1, 0.7, 3}) {
            for (double offset : new double[] {0, 40, -3000}) {
                final Matrix p = TestData.matrix(DType.F32, steps.length, vocab);
                final Matrix q = p.like();
                for (int r = 0; r < steps.length; r++) {
                    final double step = steps[r];
                    final double peak = r % 2 == 0 ? 12 : 0;
                    final int late = vocab - 1 - r * 999;
                    p.setRow(r, TestData.row(vocab, v -> 2 * random.nextGaussian() + (v == late ? peak : 0)));
                    final double[] from = p.row(r);
                    q.setRow(r, TestData.row(vocab, v -> from[v] + offset + temperature * step * random.nextGaussian()));
                }
                final Softmax[] old = new Softmax[steps.length];
                final Softmax[] now = new Softmax[steps.length];
                for (int r = 0; r < steps.length; r++) {
                    old[r] = p.softmax(r, (float) temperature);
                    now[r] = q.softmax(r, (float) temperature);
                }
                for (Direction direction : Direction.values()) {
                    final float[] given = direction.of(p, q, (float) temperature);
                    final Matrix d = q.like();
                    direction.backward(p.logits, q.logits, null, Temperature.of((float) temperature),
                            Floats.ofFloats(TestData.constant(steps.length, 1)), d.logits);
                    for (int r = 0; r < steps.length; r++) {
                        final Softmax a = old[r];
                        final Softmax b = now[r];
                        final double plain = direction.oldFirst ? Reference.klPlain(a, b) : Reference.klPlain(b, a);
                        kls.see(given[r], plain, (TestDevice.CUDA ? 1e-5 : 2e-6) * plain, r, (int) offset);
                        final double[] expected = direction.gradient(a, b, 1);
                        final double limit = 1e-5 * largest(expected) + direction.rounding(a, b, 1);
                        for (int v = 0; v < vocab; v += 3) {
                            gradients.see(d.get(r, v), expected[v], limit, r, v);
                        }
                    }
                }
            }
        }
        kls.check();
        gradients.check();
    }

    // ---- exact answers ----

    /** Two tokens, by hand: P = (1/5, 4/5), Q = (1/2, 1/2). */
    @Test
    void theMethodNamesSayTheDirection() {
        final Matrix old = TestData.matrix(DType.F32, new double[] {0, Math.log(4)});
        final Matrix fresh = TestData.matrix(DType.F32, new double[] {7, 7});
        final double ofOld = 0.2 * Math.log(0.4) + 0.8 * Math.log(1.6);
        final double ofNew = 0.5 * Math.log(2.5) + 0.5 * Math.log(0.625);
        final Floats kl = Floats.allocate(1);
        TokenKl.oldNew(old.logits, fresh.logits, kl);
        assertEquals(ofOld, kl.get(0), 1e-7);
        TokenKl.newOld(old.logits, fresh.logits, kl);
        assertEquals(ofNew, kl.get(0), 1e-7);
        assertEquals(ofOld, Direction.OLD_NEW.of(old, fresh, 1)[0], 1e-7);
        assertEquals(ofNew, Direction.NEW_OLD.of(old, fresh, 1)[0], 1e-7);
        final Matrix d = fresh.like();
        Direction.OLD_NEW.backward(old.logits, fresh.logits, null, Temperature.ONE, Floats.ofFloats(1), d.logits);
        assertArrayEquals(new double[] {0.5 - 0.2, 0.5 - 0.8}, d.row(0), 1e-7);
        Direction.NEW_OLD.backward(old.logits, fresh.logits, null, Temperature.ONE, Floats.ofFloats(1), d.logits);
        assertArrayEquals(new double[] {0.5 * (Math.log(2.5) - ofNew), 0.5 * (Math.log(0.625) - ofNew)}, d.row(0), 1e-7);
    }

    @ParameterizedTest
    @EnumSource(DType.class)
    void equalRowsGiveExactlyZero(DType dtype) {
        for (int vocab : new int[] {1, 7, 64, 5003}) {
            final Matrix x = TestData.matrix(dtype, TestData.shapes(vocab, 8)); // one of them has masked tokens
            for (Direction direction : Direction.values()) {
                for (Matrix other : new Matrix[] {x, x.copy()}) {
                    final Matrix d = x.like();
                    assertAllZero(direction.of(x, other, 0.7));
                    assertAllZero(direction.of(x.logits, other.logits, null, Temperature.of(0.7f), null, null,
                            Floats.allocate(x.rows), Floats.allocate(x.rows))); // with both entropies it takes another way
                    direction.backward(x.logits, other.logits, null, Temperature.of(0.7f),
                            Floats.ofFloats(TestData.constant(x.rows, 1)), d.logits);
                    for (int r = 0; r < x.rows; r++) {
                        assertTrue(Arrays.stream(d.row(r)).allMatch(g -> Math.abs(g) < 1e-9));
                    }
                }
            }
        }
    }

    private static void assertAllZero(float[] values) {
        assertArrayEquals(new float[values.length], values);
    }

    @Test
    void isNeverNegative() {
        final SplittableRandom random = new SplittableRandom(9);
        final int rows = 400;
        final Matrix p = TestData.matrix(DType.F32, rows, 257);
        final Matrix q = TestData.matrix(DType.F32, rows, 257);
        for (int r = 0; r < rows; r++) {
            final double size = Math.pow(10, random.nextDouble(-9, 1)); // down to where rounding is all there is
            final double[] x = TestData.gaussian(r, 257, random.nextDouble(0.1, 8));
            p.setRow(r, TestData.plus(x, r % 3 * 500));
            q.setRow(r, TestData.plus(TestData.row(257, v -> x[v] + size * random.nextGaussian()), r % 5 * 300));
        }
        for (Direction direction : Direction.values()) {
            for (double t : new double[] {0.1, 1, 10}) {
                for (float kl : direction.of(p, q, t)) {
                    assertTrue(kl >= 0, () -> "KL " + kl);
                }
            }
        }
    }

    // ---- masked tokens ----

    @ParameterizedTest
    @EnumSource(DType.class)
    void masksOfOneSideAndOfBoth(DType dtype) {
        for (int vocab : new int[] {4, 9000}) {
            final double[] x = TestData.gaussian(10, vocab, 1);
            final double[] y = TestData.gaussian(11, vocab, 1);
            final int m = vocab / 2;
            final Matrix old = TestData.matrix(dtype, x, TestData.with(x, m, TestData.MASKED), TestData.with(x, m, TestData.MASKED));
            final Matrix fresh = TestData.matrix(dtype, TestData.with(y, m, TestData.MASKED), y, TestData.with(y, m, TestData.MASKED));
            final float[] oldNew = Direction.OLD_NEW.of(old, fresh, 1);
            final float[] newOld = Direction.NEW_OLD.of(old, fresh, 1);
            for (int r = 0; r < 3; r++) {
                final double ofOld = Reference.kl(old.softmax(r, 1), fresh.softmax(r, 1));
                final double ofNew = Reference.kl(fresh.softmax(r, 1), old.softmax(r, 1));
                assertTrue(r == 0 == Double.isInfinite(ofOld) && r == 1 == Double.isInfinite(ofNew));
                assertEquals(ofOld, oldNew[r], r == 0 ? 1 : 1e-5 * ofOld);
                assertEquals(ofNew, newOld[r], r == 1 ? 1 : 1e-5 * ofNew);
            }
            final Matrix d = fresh.like(); // a masked token gets no gradient, and makes none for the others
            for (Direction direction : Direction.values()) {
                direction.backward(old.logits, fresh.logits, null, Temperature.ONE, Floats.ofFloats(1, 1, 1), d.logits);
                assertTrue(d.get(2, m) == 0);
                assertEquals(0, Arrays.stream(d.row(2)).sum(), dtype == DType.F32 ? 1e-6 : 1e-2);
                assertTrue(Arrays.stream(d.row(2)).anyMatch(g -> g != 0));
            }
        }
    }

    /** The rows have four and five tokens, of 64 places: neither the masked one nor the places behind the row are taken for tokens. */
    @Test
    void masksAtTheHighestTemperature() {
        final double[] x = {1, 2, TestData.MASKED, 3, 4};
        final double[] y = {4, 3, 2, 1, 0};
        final Matrix old = TestData.matrix(DType.F32, x, y, x);
        final Matrix fresh = TestData.matrix(DType.F32, y, x, x);
        final Floats entropyOld = Floats.allocate(3);
        final Floats entropyNew = Floats.allocate(3);
        final Floats kl = Floats.allocate(3);
        TokenKl.oldNew(old.logits, fresh.logits, null, Temperature.of(1e30f), kl, null, null, entropyOld, entropyNew);
        final float four = (float) Math.log(4);
        final float five = (float) Math.log(5);
        assertArrayEquals(new float[] {four, five, four}, entropyOld.toArray(), 1e-6f);
        assertArrayEquals(new float[] {five, four, four}, entropyNew.toArray(), 1e-6f);
        assertArrayEquals(new float[] {five - four, Float.POSITIVE_INFINITY, 0}, kl.toArray(), 1e-6f);
    }

    // ---- the other outputs ----

    @ParameterizedTest
    @EnumSource(DType.class)
    void logProbsAndEntropiesAreThoseOfLogProbs(DType dtype) {
        final Matrix[] close = pairs(dtype, TestData.gaussian(12, 9001, 2));
        final Matrix shapes = TestData.matrix(dtype, TestData.shapes(9001, 13));
        final Matrix others = TestData.matrix(dtype, TestData.shapes(9001, 14));
        for (Matrix[] pair : new Matrix[][] {close, {shapes, others}}) {
            for (float t : new float[] {1, 0.6f}) {
                final int[] ids = new int[pair[0].rows];
                Arrays.setAll(ids, r -> r % 2 == 0 ? 3 * r : TestData.largest(pair[1].row(r)));
                final Indices targets = Indices.ofInts(ids);
                final Forward old = Forward.of(pair[0].logits, targets, Temperature.of(t));
                final Forward fresh = Forward.of(pair[1].logits, targets, Temperature.of(t));
                for (Direction direction : Direction.values()) {
                    for (boolean entropies : new boolean[] {false, true}) {
                        final Floats[] outputs = new Floats[entropies ? 4 : 2];
                        Arrays.setAll(outputs, i -> Floats.allocate(ids.length));
                        final float[] kl = direction.of(pair[0].logits, pair[1].logits, targets, Temperature.of(t), outputs);
                        assertArrayEquals(direction.of(pair[0].logits, pair[1].logits, null, Temperature.of(t)), kl, 0.01f);
                        final float[] first = direction.oldFirst ? old.logProbs() : fresh.logProbs();
                        if (!TestDevice.CUDA) { // where they come out of the KL's own sums
                            assertArrayEquals(first, outputs[direction.oldFirst ? 0 : 1].toArray(), "the first policy's, to the bit");
                        }
                        assertClose(old.logProbs(), outputs[0].toArray());
                        assertClose(fresh.logProbs(), outputs[1].toArray());
                        if (entropies) {
                            assertArrayEquals(old.entropy(), outputs[2].toArray(), 1e-5f);
                            assertArrayEquals(fresh.entropy(), outputs[3].toArray(), 1e-5f);
                        }
                    }
                }
            }
        }
    }

    private static void assertClose(float[] expected, float[] given) {
        for (int r = 0; r < expected.length; r++) {
            assertEquals(expected[r], given[r], 1e-6 + 5e-7 * Math.abs(expected[r]), "row " + r);
        }
    }

    // ---- gradients ----

    @Test
    void backwardIsTheSlopeOfTheForward() {
        final double[] x = {0.5, -1.25, 3, 0, 2.5};
        final double[] y = {1, -1.5, 2, 0.5, 1.25};
        final Matrix old = TestData.matrix(DType.F32, x);
        final Matrix fresh = TestData.matrix(DType.F32, y);
        final Matrix d = fresh.like();
        final double step = 1e-5;
        for (Direction direction : Direction.values()) {
            direction.backward(old.logits, fresh.logits, null, Temperature.of(0.75f), Floats.ofFloats(2), d.logits);
            for (int v = 0; v < x.length; v++) {
                final Softmax above = new Softmax(TestData.with(y, v, y[v] + step), 0.75);
                final Softmax below = new Softmax(TestData.with(y, v, y[v] - step), 0.75);
                final Softmax ofOld = new Softmax(x, 0.75);
                final double slope = (direction.expected(ofOld, above) - direction.expected(ofOld, below)) / (2 * step);
                assertEquals(2 * slope, d.get(0, v), 1e-6);
            }
        }
    }

    @ParameterizedTest
    @EnumSource(DType.class)
    void theGradientMayReplaceEitherPolicy(DType dtype) {
        final double[] x = TestData.gaussian(15, 5003, 2);
        for (Direction direction : Direction.values()) {
            final Matrix[] pair = pairs(dtype, x);
            final Floats g = Floats.ofFloats(TestData.constant(KLS.length, -1.5));
            final Matrix apart = pair[1].like();
            direction.backward(pair[0].logits, pair[1].logits, null, Temperature.ONE, g, apart.logits);
            apart.assertSentinelsUntouched();
            for (int into = 0; into < 2; into++) {
                final Matrix[] copy = {pair[0].copy(), pair[1].copy()};
                direction.backward(copy[0].logits, copy[1].logits, null, Temperature.ONE, g, copy[into].logits);
                for (int r = 0; r < KLS.length; r++) {
                    assertArrayEquals(apart.rowBits(r), copy[into].rowBits(r));
                }
            }
        }
    }

    @Test
    void ignoredRowsGiveZeroAndAreNotRead() {
        final double[] x = TestData.gaussian(16, 100, 1);
        final Matrix old = TestData.matrix(DType.F32, TestData.row(100, v -> Double.NaN), x, x);
        final Matrix fresh = TestData.matrix(DType.F32, TestData.gaussian(17, 100, 1), TestData.gaussian(18, 100, 1), TestData
                .row(100, v -> Double.NaN));
        final Indices targets = Indices.ofInts(Indices.IGNORE, 5, Indices.IGNORE);
        for (Direction direction : Direction.values()) {
            final Floats logProbs = Floats.ofFloats(9, 9, 9);
            final float[] kl = direction.of(old.logits, fresh.logits, targets, Temperature.ONE, logProbs);
            assertArrayEquals(new float[] {0, kl[1], 0}, kl);
            assertEquals(direction.expected(old.softmax(1, 1), fresh.softmax(1, 1)), kl[1], 1e-5);
            assertEquals(0, logProbs.get(0));
            final Matrix d = fresh.like();
            direction.backward(old.logits, fresh.logits, targets, Temperature.ONE, Floats.ofFloats(1, 1, 1), d.logits);
            assertArrayEquals(new int[100], d.rowBits(0));
            assertArrayEquals(new int[100], d.rowBits(2));
            direction.backward(old.logits, fresh.logits, null, Temperature.ONE, Floats.ofFloats(0, 0, 0), d.logits);
            assertArrayEquals(new int[100], d.rowBits(0));
        }
    }
}
