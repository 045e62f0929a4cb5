package org.teamtr.task.math;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.SplittableRandom;
import java.util.TreeSet;
import org.teamtr.task.math.Expression.Op;

/**
 * A reference answer of a mathematical task, and the comparison of another answer with it.
 *
 * <p>What is equal, by the kind of the reference answer:
 * <ul>
 *   <li>Numbers: the same fraction, exactly; 0.5 is 1/2. A decimal is also equal to a number whose decimals do not end if it has seven
 *       digits or more and all of them are right. Thousands separated by commas, percent, currency, degrees and units are read and do
 *       not count; two different units do.
 *   <li>Constants such as \sqrt{2} or \pi/4: the same number to forty-five digits, relatively.
 *   <li>Formulas: the same value at twelve points, exactly where they are rational; all variables positive.
 *   <li>Equations: left side minus right side differ by a constant factor. Inequalities in one variable are intervals.
 *   <li>Tuples, points, intervals: in order, with the same brackets; unions of intervals: the same set.
 *   <li>Lists and sets: the same elements; 1 \pm 2 is two of them.
 *   <li>Matrices: entry by entry. Numbers of another base: digit by digit; the base may be left out.
 *   <li>Words: without case, brackets and article.
 * </ul>
 * A name before the answer (x = 5 for 5) does not count, nor does it count if it is missing. An interval is accepted where an
 * inequality is asked for, but not an inequality where an interval is: that may be the question itself. An answer that cannot be parsed is
 * equal only to one with the same text.
 *
 * <p>It takes a bounded number of steps, not of seconds: a verdict never depends on the machine. Immutable.
 */
public final class MathAnswer {
    private static final int POINTS = 12;
    private static final int FEWEST = 6;

    private final String written;
    private final Form form;

    private MathAnswer(String written, Form form) {
        this.written = written;
        this.form = form;
    }

    /**
     * {@return a reference answer}
     *
     * @param gold LaTeX or plain text, without {@code \boxed}
     * @throws IllegalArgumentException if it cannot be read
     */
    public static MathAnswer of(String gold) {
        final Steps steps = new Steps();
        try {
            final Form form = new AnswerParser(steps).parse(LatexText.clean(gold, steps));
            if (form instanceof Form.Words words && words.key().isEmpty()) {
                throw new Unreadable("no letter and no digit");
            }
            return new MathAnswer(compact(gold), form);
        } catch (Unreadable e) {
            throw new IllegalArgumentException("answer: expected mathematics or words, given \""
                    + (gold.length() > 80 ? gold.substring(0, 77) + "..." : gold) + "\": " + e.getMessage(), e);
        }
    }

    /** {@return whether an answer, taken out of its text, means the same} */
    public boolean accepts(String answer) {
        return compare(answer, new Steps());
    }

    /** {@return how many steps that takes; for tests} */
    int steps(String answer) {
        final Steps steps = new Steps();
        compare(answer, steps);
        return steps.taken();
    }

    private boolean compare(String answer, Steps steps) {
        if (compact(answer).equals(written)) {
            return true;
        }
        try {
            return equal(form, new AnswerParser(steps).parse(LatexText.clean(answer, steps)), steps);
        } catch (Unreadable e) {
            return false;
        }
    }

    /**
     * {@return the number that a text is, as a fraction {@code top/bottom}, or null if it is none: no calculation, no formula, no list}
     * A name before it and units behind it do not count.
     */
    public static String number(String answer) {
        final Steps steps = new Steps();
        try {
            Form form = new AnswerParser(steps).parse(LatexText.clean(answer, steps));
            form = form instanceof Form.Named named ? named.value() : form;
            if (form instanceof Form.Scalar scalar && scalar.value().isPlainNumber()) {
                final Numeric value = scalar.value().value(Map.of(), steps);
                return value.isExact() ? value.toString() : null;
            }
        } catch (Unreadable e) { // no number
        }
        return null;
    }

    /** {@return the value of an expression of numbers, as a decimal where that ends, else as a fraction; null if it has none exactly} */
    public static String value(String expression) {
        final Steps steps = new Steps();
        try {
            final Numeric value = ExpressionParser.parse(LatexText.clean(expression, steps), 1, steps).value(Map.of(), steps);
            return value.isExact() ? value.plain() : null;
        } catch (Unreadable e) {
            return null;
        }
    }

    /** {@return whether a text is the number that {@link #number} gave of another, or abbreviates it with seven digits or more} */
    public static boolean isNumber(String fraction, String answer) {
        final String given = number(answer);
        if (given == null || given.equals(fraction)) {
            return given != null;
        }
        return new MathAnswer(fraction, new AnswerParser(new Steps()).parse(fraction)).accepts(answer);
    }

    /** Blanks and the commands that only lay out do not make an answer another. */
    private static String compact(String answer) {
        final StringBuilder out = new StringBuilder(answer.length());
        for (int i = 0; i < answer.length(); i++) {
            final char c = answer.charAt(i);
            if (!Character.isWhitespace(c) && c != '$') {
                out.append(c);
            }
        }
        String s = out.toString().replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac").replaceAll("\\\\(?:left|right)(?=[^a-zA-Z])", "");
        while (s.endsWith(".")) {
            s = s.substring(0, s.length() - 1);
        }
        return s;
    }

    // ---- by kind ----

    private static boolean equal(Form gold, Form given, Steps steps) {
        steps.take(1);
        if (gold instanceof Form.Named g) {
            if (given instanceof Form.Named p) {
                return sameName(g.name(), p.name()) ? equal(g.value(), p.value(), steps)
                        : g.asRelation() != null && p.asRelation() != null && relations(g.asRelation(), p.asRelation(), steps);
            }
            if (given instanceof Form.Relation p) {
                return g.asRelation() != null ? relations(g.asRelation(), p, steps) // x in [0, 1] may be answered 0 <= x <= 1
                        : !p.isEquation() && Intervals.same(Intervals.of(g.value(), steps), Intervals.of(p, steps));
            }
            return equal(g.value(), given, steps);
        }
        if (given instanceof Form.Named p && !(gold instanceof Form.Relation)) {
            return equal(gold, p.value(), steps);
        }
        if (gold instanceof Form.Scalar g) {
            if (given instanceof Form.Several several && several.items().size() == 1) {
                return equal(gold, several.items().get(0), steps);
            }
            if (given instanceof Form.Words words) {
                return g.value().op() == Op.VARIABLE && words.key().equalsIgnoreCase(g.value().name());
            }
            return given instanceof Form.Scalar p && units(g.unit(), p.unit()) && scalars(g.value(), p.value(), steps);
        }
        if (gold instanceof Form.Based g) {
            return given instanceof Form.Based p ? g.base() == p.base() && digits(g.digits()).equals(digits(p.digits()))
                    : given instanceof Form.Scalar bare && bare.value().op() == Op.NUMBER
                            && digits(bare.value().name()).equals(digits(g.digits()));
        }
        if (gold instanceof Form.Words g) {
            return given instanceof Form.Words p && g.key().equals(p.key())
                    || given instanceof Form.Scalar name && name.value().op() == Op.VARIABLE && name.value().name().equalsIgnoreCase(g.key());
        }
        if (gold instanceof Form.Several g) {
            return several(g, given, steps);
        }
        if (gold instanceof Form.Matrix g) {
            return given instanceof Form.Matrix p && matrices(g, p, steps);
        }
        if (gold instanceof Form.Bracketed g) {
            if (given instanceof Form.Bracketed p && lists(g, p, steps)) {
                return true;
            }
            return g.hasEnds() && given instanceof Form.Union
                    && Intervals.same(Intervals.of(gold, steps), Intervals.of(given, steps));
        }
        if (gold instanceof Form.Union) {
            return (given instanceof Form.Union || given instanceof Form.Bracketed p && p.hasEnds())
                    && Intervals.same(Intervals.of(gold, steps), Intervals.of(given, steps));
        }
        return relation((Form.Relation) gold, given, steps);
    }

    private static boolean sameName(String a, String b) {
        return a.equalsIgnoreCase(b) && (a.length() > 1 || a.equals(b));
    }

    /** The same digits; of another base leading zeros do not count either. */
    private static String digits(String digits) {
        return digits.replaceFirst("^0+(?=.)", "").toUpperCase(java.util.Locale.ROOT);
    }

    private static boolean several(Form.Several gold, Form given, Steps steps) {
        final List<Form> g = gold.items();
        final List<Form> p = given instanceof Form.Several other ? other.items() : List.of(given);
        if (relationsOnly(g)) { // x < 1 or x > 2
            return (given instanceof Form.Union || given instanceof Form.Bracketed b && b.hasEnds() || relationsOnly(p))
                    && Intervals.same(Intervals.of(gold, steps), Intervals.of(given, steps));
        }
        return among(p, g, steps) && among(g, p, steps);
    }

    private static boolean relationsOnly(List<Form> items) {
        return !items.isEmpty() && items.stream().allMatch(item -> item instanceof Form.Relation r && !r.isEquation());
    }

    /** Whether each of these is among those. */
    private static boolean among(List<Form> some, List<Form> all, Steps steps) {
        for (Form item : some) {
            boolean found = false;
            for (int i = 0; i < all.size() && !found; i++) {
                found = equal(item, all.get(i), steps);
            }
            if (!found) {
                return false;
            }
        }
        return true;
    }

    private static boolean matrices(Form.Matrix gold, Form.Matrix given, Steps steps) {
        if (gold.rows().size() != given.rows().size()) {
            return false;
        }
        for (int r = 0; r < gold.rows().size(); r++) {
            if (!inOrder(gold.rows().get(r), given.rows().get(r), steps)) {
                return false;
            }
        }
        return true;
    }

    private static boolean lists(Form.Bracketed gold, Form.Bracketed given, Steps steps) {
        return gold.open() == given.open() && gold.close() == given.close() && inOrder(gold.items(), given.items(), steps);
    }

    private static boolean inOrder(List<Form> gold, List<Form> given, Steps steps) {
        if (gold.size() != given.size()) {
            return false;
        }
        for (int i = 0; i < gold.size(); i++) {
            if (!equal(gold.get(i), given.get(i), steps)) {
                return false;
            }
        }
        return true;
    }

    private static boolean units(String gold, String given) {
        final String a = Units.of(gold);
        final String b = Units.of(given);
        return a == null || b == null || a.equals(b);
    }

    private static boolean relation(Form.Relation gold, Form given, Steps steps) {
        if (given instanceof Form.Named named) {
            return named.asRelation() != null && relations(gold, named.asRelation(), steps);
        }
        if (given instanceof Form.Relation p) {
            return relations(gold, p, steps);
        }
        return !gold.isEquation() && (given instanceof Form.Union || given instanceof Form.Bracketed b && b.hasEnds())
                && Intervals.same(Intervals.of(gold, steps), Intervals.of(given, steps));
    }

    private static boolean relations(Form.Relation gold, Form.Relation given, Steps steps) {
        if (gold.isEquation() && given.isEquation() && gold.sides().size() == 2 && given.sides().size() == 2) {
            return proportional(difference(gold), difference(given), false, steps);
        }
        if (!gold.isEquation() && !given.isEquation()) {
            try {
                return Intervals.same(Intervals.of(gold, steps), Intervals.of(given, steps));
            } catch (Unreadable e) { // no interval in one variable
            }
        }
        if (gold.sides().size() == 2 && given.sides().size() == 2) {
            final Form.Relation turned = turned(given);
            return gold.signs().equals(given.signs()) && proportional(difference(gold), difference(given), true, steps)
                    || gold.signs().equals(turned.signs()) && proportional(difference(gold), difference(turned), true, steps);
        }
        return gold.signs().equals(given.signs()) && sides(gold, given, steps) || gold.signs().equals(turned(given).signs())
                && sides(gold, turned(given), steps);
    }

    private static boolean sides(Form.Relation gold, Form.Relation given, Steps steps) {
        for (int i = 0; i < gold.sides().size(); i++) {
            if (!scalars(gold.sides().get(i), given.sides().get(i), steps)) {
                return false;
            }
        }
        return true;
    }

    private static Expression difference(Form.Relation relation) {
        return Expression.of(Op.SUM, relation.sides().get(0), Expression.of(Op.NEGATIVE, relation.sides().get(1)));
    }

    /** From right to left. */
    private static Form.Relation turned(Form.Relation r) {
        final List<Expression> sides = new ArrayList<>(r.sides());
        final List<String> written = new ArrayList<>(r.written());
        final List<String> signs = new ArrayList<>();
        java.util.Collections.reverse(sides);
        java.util.Collections.reverse(written);
        for (int i = r.signs().size() - 1; i >= 0; i--) {
            signs.add(switch (r.signs().get(i)) {
                case "<" -> ">";
                case ">" -> "<";
                case "\\le" -> "\\ge";
                case "\\ge" -> "\\le";
                default -> r.signs().get(i);
            });
        }
        return new Form.Relation(sides, written, signs);
    }

    // ---- formulas ----

    private static boolean scalars(Expression gold, Expression given, Steps steps) {
        final Set<String> variables = variables(gold, given);
        if (variables.isEmpty()) {
            return constants(gold, given, steps);
        }
        int tried = 0;
        for (Map<String, Numeric> point : points(variables, gold, given, steps)) {
            final Numeric a = at(gold, point, steps);
            final Numeric b = at(given, point, steps);
            if (a != null && b != null) {
                if (!a.same(b)) {
                    return false;
                }
                tried++;
            }
        }
        return tried >= FEWEST;
    }

    private static boolean constants(Expression gold, Expression given, Steps steps) {
        if (infinity(gold) != 0 || infinity(given) != 0) {
            return infinity(gold) == infinity(given);
        }
        final Numeric a = gold.value(Map.of(), steps);
        final Numeric b = given.value(Map.of(), steps);
        if (a.same(b)) {
            return true;
        }
        final int decimals = given.longDecimal();
        return decimals >= 0 && !a.terminates() && b.abbreviates(a, decimals);
    }

    /** 1, -1, or 0 for what is no infinity. */
    static int infinity(Expression e) {
        if (e.op() == Op.INFINITY) {
            return 1;
        }
        return e.op() == Op.NEGATIVE ? -infinity(e.parts().get(0)) : 0;
    }

    /** Whether one is the other times a constant other than 0, a positive one if so wished. */
    private static boolean proportional(Expression gold, Expression given, boolean positive, Steps steps) {
        Numeric factor = null;
        int tried = 0;
        for (Map<String, Numeric> point : points(variables(gold, given), gold, given, steps)) {
            final Numeric a = at(gold, point, steps);
            final Numeric b = at(given, point, steps);
            if (a == null || b == null) {
                continue;
            }
            if (a.same(Numeric.ZERO) || b.same(Numeric.ZERO)) {
                if (a.same(Numeric.ZERO) != b.same(Numeric.ZERO)) {
                    return false;
                }
                continue;
            }
            final Numeric quotient = b.divide(a, steps);
            if (factor != null && !quotient.same(factor) || positive && !(quotient.isReal() && quotient.signum() > 0)) {
                return false;
            }
            factor = quotient;
            tried++;
        }
        return tried >= FEWEST;
    }

    private static Numeric at(Expression e, Map<String, Numeric> point, Steps steps) {
        try {
            return e.value(point, steps);
        } catch (Unreadable undefined) {
            steps.take(1); // ends it where it is for want of steps
            return null;
        }
    }

    private static Set<String> variables(Expression a, Expression b) {
        final Set<String> variables = new TreeSet<>();
        a.variables(variables);
        b.variables(variables);
        return variables;
    }

    /** Always the same: fractions from 0 to 1 and from 1 to 4, negative ones where absolute values are told apart by them. */
    private static List<Map<String, Numeric>> points(Set<String> variables, Expression a, Expression b, Steps steps) {
        final boolean negative = a.has("abs") || b.has("abs");
        final SplittableRandom random = new SplittableRandom(20_605);
        final List<Map<String, Numeric>> points = new ArrayList<>();
        for (int p = 0; p < POINTS; p++) {
            final Map<String, Numeric> point = new HashMap<>();
            for (String variable : variables) {
                final long bottom = 97L + random.nextInt(30);
                long top = p % 3 == 0 ? 1L + random.nextInt(90) : p % 3 == 1 ? bottom + random.nextInt(300) : 1L + random.nextInt(400);
                top = negative && random.nextBoolean() ? -top : top;
                point.put(variable, Numeric.of(top).divide(Numeric.of(bottom), steps));
            }
            points.add(point);
        }
        return points;
    }
}
