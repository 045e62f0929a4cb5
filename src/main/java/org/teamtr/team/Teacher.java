package org.teamtr.team;

import java.util.SplittableRandom;

/** Gives a message for an agent at any point of an episode: a program that solves the task, for models that imitate it. */
@FunctionalInterface
public interface Teacher {
    /**
     * {@return the next message}
     *
     * @param role of the agent whose turn it is
     * @param random what it draws from
     */
    String say(Context context, String role, SplittableRandom random);
}
