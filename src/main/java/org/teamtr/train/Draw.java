package org.teamtr.train;

/**
 * The purposes of random draws. A purpose is part of the key of its random numbers, behind the run's seed, so that no two draws share a key;
 * other numbers would make another run of the same seed.
 */
public final class Draw {
    static final int ORDER = 1;
    static final int PROMPTS = 2;
    static final int EPISODES = 3;
    static final int HELD_OUT = 4;
    static final int MONITOR = 5;
    static final int REPLACEMENTS = 6;
    static final int PROBE = 7;
    static final int FLOOR = 8;
    static final int CERTIFICATE = 9;
    /** What the teacher says in a warm start. */
    public static final int LESSONS = 99;
    /** Everything that {@code replace} draws. */
    public static final int REPLACEMENT = 100;
    static final int ALIGNMENT_CONTEXTS = 101;
    static final int ALIGNMENT_BATCHES = 102;
    /** The episodes of {@code eval}. */
    public static final int EVALUATION = -1;
    /** The episodes of {@code eval --benchmark}. */
    public static final int BENCHMARK = -2;
    /** What a judge of {@code eval --mode judge:ROLE} says. */
    public static final int JUDGE = 0x6A7564;

    private Draw() {
    }
}
