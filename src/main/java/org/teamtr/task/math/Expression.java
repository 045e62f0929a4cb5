package org.teamtr.task.math;

import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * A formula as a tree.
 *
 * @param op what it is
 * @param name of a variable or function; what a number was written as
 * @param value of a number
 * @param parts what it is made of
 */
record Expression(Op op, String name, Numeric value, List<Expression> parts) {
    enum Op {
        /** A number, with how it was written in {@code name}. */
        NUMBER,
        /** A fraction of two numbers, written as one; an integer and such a fraction beside it, a mixed number. */
        MIXED,
        PI, E, I, INFINITY,
        VARIABLE,
        SUM, NEGATIVE, PRODUCT, QUOTIENT, POWER, ROOT, FACTORIAL, FUNCTION
    }

    static Expression leaf(Op op, String name) {
        return new Expression(op, name, null, List.of());
    }

    static Expression of(Op op, Expression... parts) {
        return new Expression(op, null, null, List.of(parts));
    }

    static Expression function(String name, List<Expression> parts) {
        return new Expression(Op.FUNCTION, name, null, parts);
    }

    /**
     * {@return whether it is a number and no calculation: a sign, digits, a fraction of two such, a mixed number, a number times a power
     * of ten}
     */
    boolean isPlainNumber() {
        return switch (op) {
            case NUMBER, MIXED -> true;
            case NEGATIVE -> parts.get(0).op != Op.NEGATIVE && parts.get(0).isPlainNumber();
            case QUOTIENT -> parts.stream().allMatch(p -> p.op == Op.NUMBER || p.op == Op.NEGATIVE && p.parts.get(0).op == Op.NUMBER);
            case PRODUCT -> parts.size() == 2 && parts.get(0).op == Op.NUMBER && parts.get(1).op == Op.POWER
                    && "10".equals(parts.get(1).parts.get(0).name);
            default -> false;
        };
    }

    /** {@return the digits after the point if it is written as a decimal of at least seven significant digits, otherwise -1} */
    int longDecimal() {
        if (op == Op.NEGATIVE) {
            return parts.get(0).longDecimal();
        }
        final int point = op == Op.NUMBER ? name.indexOf('.') : -1;
        if (point < 0 || name.indexOf('e') >= 0) {
            return -1;
        }
        return name.replace(".", "").replaceFirst("^0+", "").length() >= 7 ? name.length() - point - 1 : -1;
    }

    /** Adds its variables. */
    void variables(Set<String> into) {
        if (op == Op.VARIABLE) {
            into.add(name);
        }
        parts.forEach(part -> part.variables(into));
    }

    boolean has(Op wanted) {
        return op == wanted || parts.stream().anyMatch(part -> part.has(wanted));
    }

    boolean has(String function) {
        return op == Op.FUNCTION && name.equals(function) || parts.stream().anyMatch(part -> part.has(function));
    }

    /**
     * {@return its value}
     *
     * @throws Unreadable if it has none, or only after too many steps
     */
    Numeric value(Map<String, Numeric> variables, Steps steps) {
        steps.take(1);
        switch (op) {
            case NUMBER:
                return value;
            case PI:
                return Numeric.pi();
            case E:
                return Numeric.e(steps);
            case I:
                return Numeric.i();
            case VARIABLE:
                final Numeric given = variables.get(name);
                if (given == null) {
                    throw new Unreadable("a variable without value");
                }
                return given;
            case SUM:
            case MIXED:
                Numeric sum = Numeric.ZERO;
                for (Expression part : parts) {
                    sum = sum.add(part.value(variables, steps), steps);
                }
                return sum;
            case NEGATIVE:
                return at(0, variables, steps).negate();
            case PRODUCT:
                Numeric product = Numeric.ONE;
                for (Expression part : parts) {
                    product = product.multiply(part.value(variables, steps), steps);
                }
                return product;
            case QUOTIENT:
                return at(0, variables, steps).divide(at(1, variables, steps), steps);
            case POWER:
                return parts.get(0).op == Op.E ? at(1, variables, steps).exp(steps)
                        : at(0, variables, steps).power(at(1, variables, steps), steps);
            case ROOT:
                return root(at(0, variables, steps), at(1, variables, steps), steps);
            case FACTORIAL:
                return at(0, variables, steps).factorial(steps);
            case FUNCTION:
                return function(at(0, variables, steps), variables, steps);
            default:
                throw new Unreadable("infinity");
        }
    }

    private Numeric at(int part, Map<String, Numeric> variables, Steps steps) {
        return parts.get(part).value(variables, steps);
    }

    private static Numeric root(Numeric x, Numeric order, Steps steps) {
        for (int n = 2; n <= 64; n++) {
            if (order.same(Numeric.of(n))) {
                return x.root(n, steps);
            }
        }
        return x.power(Numeric.ONE.divide(order, steps), steps);
    }

    private Numeric function(Numeric x, Map<String, Numeric> variables, Steps steps) {
        return switch (name) {
            case "sin" -> x.sin(steps);
            case "cos" -> x.cos(steps);
            case "tan" -> x.sin(steps).divide(x.cos(steps), steps);
            case "cot" -> x.cos(steps).divide(x.sin(steps), steps);
            case "sec" -> Numeric.ONE.divide(x.cos(steps), steps);
            case "csc" -> Numeric.ONE.divide(x.sin(steps), steps);
            case "arcsin" -> x.asin(steps);
            case "arccos" -> Numeric.pi().divide(Numeric.of(2), steps).add(x.asin(steps).negate(), steps);
            case "arctan" -> x.atan(steps);
            case "arccot" -> Numeric.pi().divide(Numeric.of(2), steps).add(x.atan(steps).negate(), steps);
            case "sinh" -> x.exp(steps).add(x.negate().exp(steps).negate(), steps).divide(Numeric.of(2), steps);
            case "cosh" -> x.exp(steps).add(x.negate().exp(steps), steps).divide(Numeric.of(2), steps);
            case "tanh" -> x.exp(steps).add(x.negate().exp(steps).negate(), steps)
                    .divide(x.exp(steps).add(x.negate().exp(steps), steps), steps);
            case "exp" -> x.exp(steps);
            case "ln" -> x.ln(steps);
            case "log" -> x.ln(steps).divide(parts.size() > 1 ? at(1, variables, steps).ln(steps) : Numeric.of(10).ln(steps), steps);
            case "abs" -> x.abs(steps);
            case "floor" -> x.floor();
            case "ceil" -> x.ceiling();
            case "binom" -> x.binomial(at(1, variables, steps), steps);
            default -> throw new Unreadable("a function " + name);
        };
    }
}
