package org.teamtr.task.math;

/**
 * The limit on the work of one comparison, counted in steps instead of time, so that the same answer always has the same verdict. A step is
 * about one operation on numbers of seventy digits.
 */
final class Steps {
    /** For one comparison: enough for hundreds of functions to seventy digits, and a few milliseconds at most. */
    static final int MOST = 20_000;

    private int left = MOST;

    void take(int steps) {
        left -= steps;
        if (left < 0) {
            throw new Unreadable("more than " + MOST + " steps");
        }
    }

    int taken() {
        return MOST - Math.max(0, left);
    }
}
