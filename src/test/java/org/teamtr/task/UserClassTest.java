package org.teamtr.task;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class UserClassTest {
    /** One that is as it should be. */
    public static final class Good implements Comparable<String> {
        @Override
        public int compareTo(String other) {
            return 7;
        }
    }

    /** One that wants something. */
    public static final class Wants implements Comparable<String> {
        public Wants(int size) {
        }

        @Override
        public int compareTo(String other) {
            return 0;
        }
    }

    /** One that breaks. */
    public static final class Breaks implements Comparable<String> {
        public Breaks() {
            throw new IllegalStateException("no licence");
        }

        @Override
        public int compareTo(String other) {
            return 0;
        }
    }

    /** One that cannot even be loaded. */
    public static final class Unloadable implements Comparable<String> {
        static final int SIZE = Integer.parseInt("large");

        @Override
        public int compareTo(String other) {
            return SIZE;
        }
    }

    @Test
    @SuppressWarnings("unchecked")
    void oneIsMadeByItsName() {
        assertEquals(7, UserClass.make(Good.class.getName(), Comparable.class, "key").compareTo(""));
    }

    @ParameterizedTest
    @CsvSource(delimiter = '|', value = {
        "org.nobody.None | key: expected the name of a class that implements java.lang.Comparable, given org.nobody.None: no such class on the class path,"
                + " to which ./teamtr adds the folders and jars of the environment variable TEAMTR_CLASSPATH",
        "org.teamtr.task.UserClassTest$Unloadable | key: the class org.teamtr.task.UserClassTest$Unloadable cannot be loaded:"
                + " java.lang.ExceptionInInitializerError",
        "java.lang.Object | key: expected the name of a class that implements java.lang.Comparable, given java.lang.Object, which does not",
        "org.teamtr.task.UserClassTest$Wants | key: expected the name of a class that implements java.lang.Comparable and is public with a public"
                + " constructor without parameters, given org.teamtr.task.UserClassTest$Wants",
        "org.teamtr.task.UserClassTest$Breaks | key: the constructor of org.teamtr.task.UserClassTest$Breaks failed: java.lang.IllegalStateException: no"
                + " licence"})
    void whatCannotBeMadeIsSaid(String name, String message) {
        assertEquals(message, assertThrows(IllegalArgumentException.class, () -> UserClass.make(name, Comparable.class, "key")).getMessage());
    }
}
