package org.teamtr.task.math;

import java.util.List;

/** What kind of thing an answer is. */
sealed interface Form {
    /**
     * A number or formula.
     *
     * @param unit that was written behind it and does not count, or null
     */
    record Scalar(Expression value, String unit) implements Form {
    }

    /** A number in another base, such as 52_8. */
    record Based(String digits, int base) implements Form {
    }

    /** Things in brackets: a tuple, a point, an interval. */
    record Bracketed(char open, char close, List<Form> items) implements Form {
        boolean hasEnds() {
            return items.size() == 2 && items.stream().allMatch(Scalar.class::isInstance) && open != '<';
        }
    }

    /** A union of intervals. */
    record Union(List<Bracketed> parts) implements Form {
    }

    /** Several things in any order: a list or a set. */
    record Several(List<Form> items) implements Form {
    }

    /** Rows of a matrix. */
    record Matrix(List<List<Form>> rows) implements Form {
    }

    /**
     * An equation, an inequality, or a chain of these.
     *
     * @param written the sides as they were written
     */
    record Relation(List<Expression> sides, List<String> written, List<String> signs) implements Form {
        boolean isEquation() {
            return signs.stream().allMatch("="::equals);
        }
    }

    /** Something that is said to be equal to a name: x = 5, f(x) = 2 x, n = 2, 3, 4, x in [0, 1]. */
    record Named(String name, Form value, Relation asRelation) implements Form {
    }

    /** Words, and whatever else has no other reading; equal by its letters and digits. */
    record Words(String key) implements Form {
    }
}
