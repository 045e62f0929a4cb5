package org.teamtr.task;

import java.lang.reflect.InvocationTargetException;

/** A user's own verifier or router, by the name of its class. */
public final class UserClass {
    private UserClass() {
    }

    /**
     * {@return a new object of a class}
     *
     * @param name full name of a public class with a public constructor without parameters
     * @param type what it has to implement
     * @param key of the configuration, for errors
     * @throws IllegalArgumentException if there is no such class, it does not implement the type, or cannot be constructed
     */
    public static <T> T make(String name, Class<T> type, String key) {
        final String expected = key + ": expected the name of a class that implements " + type.getName();
        try {
            final Class<?> own = Class.forName(name);
            if (!type.isAssignableFrom(own)) {
                throw new IllegalArgumentException(expected + ", given " + name + ", which does not");
            }
            return type.cast(own.getConstructor().newInstance());
        } catch (ClassNotFoundException e) {
            throw new IllegalArgumentException(expected + ", given " + name + ": no such class on the class path, to which"
                    + " ./teamtr adds the folders and jars of the environment variable TEAMTR_CLASSPATH", e);
        } catch (LinkageError e) { // compiled for a newer Java, or without what it needs
            throw new IllegalArgumentException(key + ": the class " + name + " cannot be loaded: " + e, e);
        } catch (NoSuchMethodException | InstantiationException | IllegalAccessException e) {
            throw new IllegalArgumentException(expected + " and is public with a public constructor without parameters, given " + name, e);
        } catch (InvocationTargetException e) {
            throw new IllegalArgumentException(key + ": the constructor of " + name + " failed: " + e.getCause(), e);
        }
    }
}
