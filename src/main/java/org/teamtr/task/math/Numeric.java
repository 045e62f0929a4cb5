package org.teamtr.task.math;

import java.math.BigDecimal;
import java.math.BigInteger;
import java.math.MathContext;
import java.math.RoundingMode;

/**
 * A number: a fraction, exactly, as long as that is possible, and otherwise a complex number to seventy digits.
 *
 * <p>All operations take steps, and throw {@link Unreadable} where there is no value (1/0, the logarithm of 0) or where it would be
 * too large to work with.
 */
final class Numeric {
    static final Numeric ZERO = of(0);
    static final Numeric ONE = of(1);

    private static final MathContext DIGITS = new MathContext(70, RoundingMode.HALF_EVEN);
    private static final MathContext MORE = new MathContext(90, RoundingMode.HALF_EVEN);
    /** Two approximations that agree to this are equal: what seventy digits leave after a few cancellations. */
    private static final BigDecimal RELATIVE = new BigDecimal("1e-45");
    /** An approximation smaller than this is zero where the other side is exactly zero. */
    private static final BigDecimal NOTHING = new BigDecimal("1e-55");
    /** Bits of the largest numerator or denominator. */
    private static final int LARGEST = 4096;
    private static final BigDecimal TWO = BigDecimal.valueOf(2);
    private static final BigDecimal PI = new BigDecimal(
            "3.14159265358979323846264338327950288419716939937510582097494459230781640628620899862803482534211706798214808651");
    private static final BigDecimal LN10 = new BigDecimal(
            "2.30258509299404568401799145468436420760110148862877297603332790096757260967735248023599720508959830");

    private final BigInteger top; // null for an approximation
    private final BigInteger bottom;
    private final BigDecimal re;
    private final BigDecimal im;

    private Numeric(BigInteger top, BigInteger bottom, BigDecimal re, BigDecimal im) {
        this.top = top;
        this.bottom = bottom;
        this.re = re;
        this.im = im;
    }

    static Numeric of(long value) {
        return new Numeric(BigInteger.valueOf(value), BigInteger.ONE, null, null);
    }

    static Numeric fraction(BigInteger top, BigInteger bottom, Steps steps) {
        if (bottom.signum() == 0) {
            throw new Unreadable("division by zero");
        }
        final int bits = Math.max(top.bitLength(), bottom.bitLength());
        if (bits > LARGEST) {
            throw new Unreadable("a number of more than " + LARGEST + " bits");
        }
        steps.take(1 + (int) ((long) bits * bits >> 13)); // Euclid's algorithm
        final BigInteger d = top.gcd(bottom).multiply(BigInteger.valueOf(bottom.signum()));
        return new Numeric(top.divide(d), bottom.divide(d), null, null);
    }

    static Numeric decimal(BigDecimal value, Steps steps) {
        if (Math.abs((long) value.scale()) > LARGEST / 3 || value.precision() > LARGEST / 3) {
            throw new Unreadable("a number too long");
        }
        return value.scale() <= 0 ? fraction(value.toBigIntegerExact(), BigInteger.ONE, steps)
                : fraction(value.unscaledValue(), BigInteger.TEN.pow(value.scale()), steps);
    }

    static Numeric pi() {
        return new Numeric(null, null, PI.round(DIGITS), BigDecimal.ZERO);
    }

    static Numeric e(Steps steps) {
        return new Numeric(null, null, exp(BigDecimal.ONE, steps), BigDecimal.ZERO);
    }

    static Numeric i() {
        return new Numeric(null, null, BigDecimal.ZERO, BigDecimal.ONE);
    }

    private static Numeric about(BigDecimal re, BigDecimal im) {
        if (Math.abs((long) re.precision() - re.scale()) > 1_000_000 || Math.abs((long) im.precision() - im.scale()) > 1_000_000) {
            throw new Unreadable("a number too large or too small");
        }
        return new Numeric(null, null, re.round(DIGITS), im.round(DIGITS));
    }

    boolean isExact() {
        return top != null;
    }

    boolean isInteger() {
        return isExact() && bottom.equals(BigInteger.ONE);
    }

    boolean isZero() {
        return isExact() && top.signum() == 0;
    }

    /** {@return whether its decimals end} */
    boolean terminates() {
        if (!isExact()) {
            return false;
        }
        BigInteger rest = bottom.shiftRight(bottom.getLowestSetBit());
        final BigInteger five = BigInteger.valueOf(5);
        while (rest.mod(five).signum() == 0) {
            rest = rest.divide(five);
        }
        return rest.equals(BigInteger.ONE);
    }

    boolean isReal() {
        return isExact() || im.signum() == 0 || im.abs().compareTo(re.abs().multiply(RELATIVE)) <= 0;
    }

    /** {@return the sign of a real number} */
    int signum() {
        return isExact() ? top.signum() : re.signum();
    }

    private BigDecimal real() {
        return isExact() ? new BigDecimal(top).divide(new BigDecimal(bottom), DIGITS) : re;
    }

    private BigDecimal imaginary() {
        return isExact() ? BigDecimal.ZERO : im;
    }

    private BigDecimal onlyReal() {
        if (!isReal()) {
            throw new Unreadable("a function of a complex number");
        }
        return real();
    }

    boolean same(Numeric other) {
        if (isExact() && other.isExact()) {
            return top.equals(other.top) && bottom.equals(other.bottom);
        }
        final BigDecimal a = max(real().abs(), imaginary().abs());
        final BigDecimal b = max(other.real().abs(), other.imaginary().abs());
        if (isZero() || other.isZero()) {
            return max(a, b).compareTo(NOTHING) < 0;
        }
        final BigDecimal gap = max(real().subtract(other.real(), DIGITS).abs(), imaginary().subtract(other.imaginary(), DIGITS).abs());
        return gap.compareTo(max(a, b).multiply(RELATIVE, DIGITS)) <= 0;
    }

    /** {@return whether this, as it was written with so many digits after the point, is what {@code exact} starts with} */
    boolean abbreviates(Numeric exact, int scale) {
        if (!exact.isReal()) {
            return false;
        }
        return real().subtract(exact.real(), DIGITS).abs().compareTo(BigDecimal.ONE.scaleByPowerOfTen(-scale)) < 0;
    }

    /** {@return negative, 0 or positive as this is less, the same or more; both real} */
    int compare(Numeric other) {
        return same(other) ? 0 : onlyReal().compareTo(other.onlyReal());
    }

    private static BigDecimal max(BigDecimal a, BigDecimal b) {
        return a.compareTo(b) >= 0 ? a : b;
    }

    // ---- arithmetic ----

    Numeric negate() {
        return isExact() ? new Numeric(top.negate(), bottom, null, null) : new Numeric(null, null, re.negate(), im.negate());
    }

    Numeric add(Numeric b, Steps steps) {
        if (isExact() && b.isExact()) {
            return fraction(top.multiply(b.bottom).add(b.top.multiply(bottom)), bottom.multiply(b.bottom), steps);
        }
        steps.take(2);
        return about(real().add(b.real(), DIGITS), imaginary().add(b.imaginary(), DIGITS));
    }

    Numeric multiply(Numeric b, Steps steps) {
        if (isExact() && b.isExact()) {
            return fraction(top.multiply(b.top), bottom.multiply(b.bottom), steps);
        }
        steps.take(4);
        return about(real().multiply(b.real(), DIGITS).subtract(imaginary().multiply(b.imaginary(), DIGITS), DIGITS),
                real().multiply(b.imaginary(), DIGITS).add(imaginary().multiply(b.real(), DIGITS), DIGITS));
    }

    Numeric divide(Numeric b, Steps steps) {
        if (isExact() && b.isExact()) {
            return fraction(top.multiply(b.bottom), bottom.multiply(b.top), steps);
        }
        steps.take(10);
        final BigDecimal square = b.real().multiply(b.real(), DIGITS).add(b.imaginary().multiply(b.imaginary(), DIGITS), DIGITS);
        if (square.signum() == 0) {
            throw new Unreadable("division by zero");
        }
        final Numeric conjugate = about(b.real(), b.imaginary().negate());
        final Numeric product = multiply(conjugate, steps);
        return about(product.real().divide(square, DIGITS), product.imaginary().divide(square, DIGITS));
    }

    Numeric power(Numeric exponent, Steps steps) {
        if (exponent.isInteger() && exponent.top.bitLength() < 31) {
            return power(exponent.top.intValue(), steps);
        }
        if (isZero()) {
            if (exponent.isReal() && exponent.signum() > 0) {
                return ZERO;
            }
            throw new Unreadable("zero to a power");
        }
        if (exponent.isExact() && isExact() && exponent.bottom.bitLength() < 7 && exponent.top.bitLength() < 31 && top.signum() > 0) {
            final Numeric root = exactRoot(exponent.bottom.intValue(), steps);
            if (root != null) {
                return root.power(exponent.top.intValue(), steps);
            }
        }
        return ln(steps).multiply(exponent, steps).exp(steps);
    }

    private Numeric power(int n, Steps steps) {
        if (n < 0) {
            return ONE.divide(power(-(n + 1) + 1, steps), steps); // -(n + 1) + 1: also of the smallest int
        }
        if (isExact() && (long) Math.max(top.bitLength(), bottom.bitLength()) * n <= LARGEST) {
            steps.take(1 + 32 - Integer.numberOfLeadingZeros(n));
            return fraction(top.pow(n), bottom.pow(n), steps);
        }
        if (isExact() && (top.signum() == 0 || top.abs().equals(BigInteger.ONE) && bottom.equals(BigInteger.ONE))) {
            return top.signum() < 0 && n % 2 != 0 ? of(-1) : top.signum() == 0 ? ZERO : ONE;
        }
        if (n > 1_000_000) {
            throw new Unreadable("a power too large");
        }
        Numeric result = ONE;
        Numeric square = about(real(), imaginary());
        for (int left = n; left > 0; left >>= 1) {
            result = (left & 1) == 1 ? result.multiply(square, steps) : result;
            square = left > 1 ? square.multiply(square, steps) : square;
        }
        return result;
    }

    /** {@return the real n-th root where there is one, otherwise the principal one} */
    Numeric root(int n, Steps steps) {
        if (n < 2 || n > 64) {
            throw new Unreadable("a root of order " + n);
        }
        if (isReal() && signum() < 0 && n % 2 == 1) {
            return negate().root(n, steps).negate();
        }
        final Numeric exact = isExact() && top.signum() >= 0 ? exactRoot(n, steps) : null;
        if (exact != null) {
            return exact;
        }
        if (isReal() && signum() >= 0) {
            steps.take(60);
            return n == 2 ? about(real().sqrt(DIGITS), BigDecimal.ZERO)
                    : about(exp(ln(real(), steps).divide(BigDecimal.valueOf(n), MORE), steps), BigDecimal.ZERO);
        }
        if (n == 2 && isReal()) {
            return negate().root(2, steps).multiply(i(), steps);
        }
        return ln(steps).divide(of(n), steps).exp(steps);
    }

    private Numeric exactRoot(int n, Steps steps) {
        final BigInteger a = integerRoot(top, n, steps);
        final BigInteger b = a == null ? null : integerRoot(bottom, n, steps);
        return b == null ? null : fraction(a, b, steps);
    }

    /** Null where the root is no integer. */
    private static BigInteger integerRoot(BigInteger value, int n, Steps steps) {
        if (value.signum() == 0 || value.equals(BigInteger.ONE)) {
            return value;
        }
        BigInteger x = BigInteger.ONE.shiftLeft((value.bitLength() + n - 1) / n); // Newton's method from above
        while (true) {
            steps.take(2 + value.bitLength() / 64);
            final BigInteger next = x.multiply(BigInteger.valueOf(n - 1)).add(value.divide(x.pow(n - 1))).divide(BigInteger.valueOf(n));
            if (next.compareTo(x) >= 0) {
                return x.pow(n).equals(value) ? x : null;
            }
            x = next;
        }
    }

    Numeric factorial(Steps steps) {
        if (!isInteger() || top.signum() < 0 || top.bitLength() > 10 || top.intValue() > 500) {
            throw new Unreadable("a factorial");
        }
        BigInteger product = BigInteger.ONE;
        for (int k = 2; k <= top.intValue(); k++) {
            product = product.multiply(BigInteger.valueOf(k));
        }
        steps.take(1 + top.intValue());
        return fraction(product, BigInteger.ONE, steps);
    }

    Numeric binomial(Numeric below, Steps steps) {
        if (!isInteger() || !below.isInteger() || below.top.bitLength() > 10 || top.bitLength() > 31) {
            throw new Unreadable("a binomial coefficient");
        }
        final int k = below.top.intValue();
        BigInteger product = BigInteger.ONE;
        for (int j = 0; j < k; j++) {
            steps.take(1 + product.bitLength() / 64);
            product = product.multiply(top.subtract(BigInteger.valueOf(j))).divide(BigInteger.valueOf(j + 1));
        }
        return k < 0 ? ZERO : fraction(product, BigInteger.ONE, steps);
    }

    Numeric abs(Steps steps) {
        if (isReal()) {
            return signum() < 0 ? negate() : this;
        }
        steps.take(60);
        return about(re.multiply(re, DIGITS).add(im.multiply(im, DIGITS), DIGITS).sqrt(DIGITS), BigDecimal.ZERO);
    }

    Numeric floor() {
        return new Numeric(whole(RoundingMode.FLOOR), BigInteger.ONE, null, null);
    }

    Numeric ceiling() {
        return new Numeric(whole(RoundingMode.CEILING), BigInteger.ONE, null, null);
    }

    private BigInteger whole(RoundingMode mode) {
        if (real().precision() - real().scale() > 60) {
            throw new Unreadable("a number too large to round");
        }
        return onlyReal().setScale(0, mode).toBigIntegerExact();
    }

    // ---- functions ----

    Numeric exp(Steps steps) {
        if (isZero()) {
            return ONE;
        }
        final BigDecimal size = exp(real(), steps);
        if (imaginary().signum() == 0) {
            return about(size, BigDecimal.ZERO);
        }
        return about(size.multiply(cos(imaginary(), steps), DIGITS), size.multiply(sin(imaginary(), steps), DIGITS));
    }

    Numeric ln(Steps steps) {
        if (isExact() && top.equals(BigInteger.ONE) && bottom.equals(BigInteger.ONE)) {
            return ZERO;
        }
        final Numeric size = abs(steps);
        if (size.signum() == 0) {
            throw new Unreadable("the logarithm of zero");
        }
        final BigDecimal ln = ln(size.real(), steps);
        if (isReal()) {
            return about(ln, signum() > 0 ? BigDecimal.ZERO : PI);
        }
        BigDecimal angle = re.signum() == 0 ? PI.divide(TWO, MORE).multiply(BigDecimal.valueOf(im.signum()))
                : atan(im.divide(re, MORE), steps);
        angle = re.signum() < 0 ? angle.add(im.signum() >= 0 ? PI : PI.negate()) : angle;
        return about(ln, angle);
    }

    Numeric sin(Steps steps) {
        return isZero() ? ZERO : about(sin(onlyReal(), steps), BigDecimal.ZERO);
    }

    Numeric cos(Steps steps) {
        return isZero() ? ONE : about(cos(onlyReal(), steps), BigDecimal.ZERO);
    }

    Numeric atan(Steps steps) {
        return isZero() ? ZERO : about(atan(onlyReal(), steps), BigDecimal.ZERO);
    }

    Numeric asin(Steps steps) {
        final BigDecimal x = onlyReal();
        final BigDecimal rest = BigDecimal.ONE.subtract(x.multiply(x, MORE), MORE);
        if (rest.signum() < 0) {
            throw new Unreadable("the arc sine of more than 1");
        }
        if (rest.signum() == 0) {
            return about(PI.divide(TWO, MORE).multiply(BigDecimal.valueOf(x.signum())), BigDecimal.ZERO);
        }
        return isZero() ? ZERO : about(atan(x.divide(rest.sqrt(MORE), MORE), steps), BigDecimal.ZERO);
    }

    private static BigDecimal exp(BigDecimal x, Steps steps) {
        if (x.abs().compareTo(BigDecimal.valueOf(5000)) > 0) {
            throw new Unreadable("an exponential too large");
        }
        steps.take(60);
        int halvings = 8;
        for (double size = Math.abs(x.doubleValue()); size > 1; size /= 2) {
            halvings++;
        }
        final BigDecimal small = x.divide(TWO.pow(halvings), MORE);
        BigDecimal sum = BigDecimal.ONE;
        BigDecimal term = BigDecimal.ONE;
        for (int k = 1; term.signum() != 0 && term.precision() - term.scale() > -95; k++) {
            term = term.multiply(small, MORE).divide(BigDecimal.valueOf(k), MORE);
            sum = sum.add(term, MORE);
        }
        for (int h = 0; h < halvings; h++) {
            sum = sum.multiply(sum, MORE);
        }
        return sum;
    }

    /** Newton's method with the third order, from a double. */
    private static BigDecimal ln(BigDecimal x, Steps steps) {
        final int shift = x.precision() - x.scale();
        final BigDecimal near = x.scaleByPowerOfTen(-shift); // 0.1 to 1
        BigDecimal y = new BigDecimal(Math.log(near.doubleValue()));
        for (int k = 0; k < 2; k++) {
            final BigDecimal e = exp(y, steps);
            y = y.add(near.subtract(e, MORE).multiply(TWO).divide(near.add(e, MORE), MORE), MORE);
        }
        return y.add(LN10.multiply(BigDecimal.valueOf(shift)), MORE);
    }

    private static BigDecimal sin(BigDecimal x, Steps steps) {
        return series(reduced(x), 1, steps);
    }

    private static BigDecimal cos(BigDecimal x, Steps steps) {
        return series(reduced(x), 0, steps);
    }

    private static BigDecimal reduced(BigDecimal x) {
        if (x.precision() - x.scale() > 15) {
            throw new Unreadable("an angle too large");
        }
        final BigDecimal turn = PI.multiply(TWO);
        return x.subtract(turn.multiply(x.divide(turn, 0, RoundingMode.HALF_EVEN)));
    }

    /** x^first / first! - x^(first + 2) / (first + 2)! + ... */
    private static BigDecimal series(BigDecimal x, int first, Steps steps) {
        steps.take(60);
        final BigDecimal square = x.multiply(x, MORE).negate();
        BigDecimal term = first == 0 ? BigDecimal.ONE : x;
        BigDecimal sum = term;
        for (int k = first + 1; term.signum() != 0 && term.precision() - term.scale() > -95; k += 2) {
            term = term.multiply(square, MORE).divide(BigDecimal.valueOf((long) k * (k + 1)), MORE);
            sum = sum.add(term, MORE);
        }
        return sum;
    }

    private static BigDecimal atan(BigDecimal x, Steps steps) {
        steps.take(120);
        BigDecimal small = x;
        for (int k = 0; k < 4; k++) { // atan x = 2 atan(x / (1 + sqrt(1 + x x)))
            small = small.divide(BigDecimal.ONE.add(BigDecimal.ONE.add(small.multiply(small, MORE)).sqrt(MORE)), MORE);
        }
        final BigDecimal square = small.multiply(small, MORE).negate();
        BigDecimal power = small;
        BigDecimal sum = small;
        for (int k = 3; power.signum() != 0 && power.precision() - power.scale() > -95; k += 2) {
            power = power.multiply(square, MORE);
            sum = sum.add(power.divide(BigDecimal.valueOf(k), MORE), MORE);
        }
        return sum.multiply(BigDecimal.valueOf(16));
    }

    /** {@return an exact number as a decimal where that ends, else as a fraction} */
    String plain() {
        return isInteger() ? top.toString() : terminates() ? new BigDecimal(top).divide(new BigDecimal(bottom)).toPlainString() : top + "/" + bottom;
    }

    @Override
    public String toString() {
        return isExact() ? top + "/" + bottom : re + " + " + im + " i";
    }
}
