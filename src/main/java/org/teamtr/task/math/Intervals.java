package org.teamtr.task.math;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.teamtr.task.math.Expression.Op;

/**
 * A set of real numbers, as intervals from left to right that neither overlap nor touch.
 *
 * @param parts the intervals
 */
record Intervals(List<Part> parts) {
    /**
     * An end of an interval.
     *
     * @param infinity -1, 1, or 0 for one that is at {@code value}
     */
    private record End(int infinity, Numeric value) {
        int compare(End other) {
            return infinity != 0 || other.infinity != 0 ? Integer.compare(infinity, other.infinity) : value.compare(other.value);
        }
    }

    /** From {@code low} to {@code high}, with or without these. */
    record Part(End low, boolean withLow, End high, boolean withHigh) {
    }

    private static final Expression INFINITY = Expression.leaf(Op.INFINITY, "infty");

    static boolean same(Intervals a, Intervals b) {
        if (a.parts.size() != b.parts.size()) {
            return false;
        }
        for (int i = 0; i < a.parts.size(); i++) {
            final Part p = a.parts.get(i);
            final Part q = b.parts.get(i);
            if (p.low.compare(q.low) != 0 || p.high.compare(q.high) != 0 || p.withLow != q.withLow || p.withHigh != q.withHigh) {
                return false;
            }
        }
        return true;
    }

    /**
     * {@return the set that an interval, a union or inequalities in one variable stand for}
     *
     * @throws Unreadable if it stands for none
     */
    static Intervals of(Form form, Steps steps) {
        final List<Part> parts = new ArrayList<>();
        collect(form, parts, null, steps);
        parts.sort((p, q) -> p.low.compare(q.low) != 0 ? p.low.compare(q.low) : Boolean.compare(q.withLow, p.withLow));
        final List<Part> merged = new ArrayList<>();
        for (Part part : parts) {
            steps.take(4);
            final int width = part.low.compare(part.high);
            if (width > 0 || width == 0 && !(part.withLow && part.withHigh)) {
                continue;
            }
            final Part last = merged.isEmpty() ? null : merged.get(merged.size() - 1);
            final int gap = last == null ? 1 : part.low.compare(last.high);
            if (gap > 0 || gap == 0 && !part.withLow && !last.withHigh) {
                merged.add(part);
            } else {
                final int further = part.high.compare(last.high);
                merged.set(merged.size() - 1, new Part(last.low, last.withLow, further > 0 ? part.high : last.high,
                        further > 0 ? part.withHigh : further < 0 ? last.withHigh : last.withHigh || part.withHigh));
            }
        }
        return new Intervals(merged);
    }

    private static String collect(Form form, List<Part> into, String variable, Steps steps) {
        if (form instanceof Form.Bracketed b && b.hasEnds()) {
            into.add(new Part(end(((Form.Scalar) b.items().get(0)).value(), steps), b.open() == '[',
                    end(((Form.Scalar) b.items().get(1)).value(), steps), b.close() == ']'));
            return variable;
        }
        if (form instanceof Form.Union union) {
            union.parts().forEach(part -> collect(part, into, variable, steps));
            return variable;
        }
        if (form instanceof Form.Several several) {
            String name = variable;
            for (Form item : several.items()) {
                name = collect(item, into, name, steps);
            }
            return name;
        }
        if (form instanceof Form.Relation relation) {
            return inequality(relation, into, variable, steps);
        }
        throw new Unreadable("no interval");
    }

    /** x < 2, 2 > x, 1 < x <= 2, from either side. */
    private static String inequality(Form.Relation r, List<Part> into, String variable, Steps steps) {
        final int n = r.sides().size();
        final int at = n == 3 ? 1 : r.sides().get(0).op() == Op.VARIABLE ? 0 : 1;
        final Expression x = r.sides().get(at);
        if (n > 3 || x.op() != Op.VARIABLE || variable != null && !variable.equals(x.name())) {
            throw new Unreadable("no inequality in one variable");
        }
        Expression low = Expression.of(Op.NEGATIVE, INFINITY);
        Expression high = INFINITY;
        boolean withLow = false;
        boolean withHigh = false;
        int lows = 0;
        int highs = 0;
        for (int i = 0; i < n; i++) {
            if (i == at) {
                continue;
            }
            final String sign = r.signs().get(Math.min(i, at));
            if (!sign.equals("<") && !sign.equals(">") && !sign.equals("\\le") && !sign.equals("\\ge")) {
                throw new Unreadable("no inequality");
            }
            final boolean less = sign.equals("<") || sign.equals("\\le"); // left side < right side
            final boolean with = sign.startsWith("\\");
            if (less == i < at) { // this side is the smaller one
                low = r.sides().get(i);
                withLow = with;
                lows++;
            } else {
                high = r.sides().get(i);
                withHigh = with;
                highs++;
            }
        }
        if (lows > 1 || highs > 1) {
            throw new Unreadable("an inequality in two directions");
        }
        into.add(new Part(end(low, steps), withLow, end(high, steps), withHigh));
        return x.name();
    }

    private static End end(Expression e, Steps steps) {
        final int infinity = MathAnswer.infinity(e);
        return infinity != 0 ? new End(infinity, null) : new End(0, e.value(Map.of(), steps));
    }
}
