package org.teamtr.train;

/** The purposes of random draws: each is part of the key of its random numbers, so that no two draws share a key. */
final class Draw {
    static final int ORDER = 1;
    static final int PROMPTS = 2;
    static final int EPISODES = 3;
    static final int HELD_OUT = 4;
    static final int MONITOR = 5;
    static final int REPLACEMENTS = 6;
    static final int PROBE = 7;
    static final int FLOOR = 8;
    static final int CERTIFICATE = 9;

    private Draw() {
    }
}
