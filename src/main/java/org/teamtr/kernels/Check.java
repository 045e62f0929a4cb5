package org.teamtr.kernels;

import java.lang.ref.Reference;
import org.teamtr.kernels.internal.global.teamtr;

/**
 * The checks of every kernel before a call, and of the status after it. A vector that may be null may be null
 * in every method here but {@link #given}. Messages are made only for errors, so that a valid call allocates nothing.
 */
final class Check {
    static final String ROWS = "the rows of logits";

    private Check() {
    }

    static <T> T given(T value, String name) {
        if (value == null) {
            throw new IllegalArgumentException(name + ": expected a value, given null");
        }
        return value;
    }

    static void notNegative(long value, String name) {
        if (value < 0) {
            throw new IllegalArgumentException(name + ": expected 0 or more, given " + value);
        }
    }

    static void positive(long value, String name) {
        if (value < 1) {
            throw new IllegalArgumentException(name + ": expected 1 or more, given " + value);
        }
    }

    /** A token id is an int32 inside the kernels. */
    static void vocab(long value, String name) {
        if (value < 1 || value > Integer.MAX_VALUE) {
            throw new IllegalArgumentException(name + ": expected 1 .. " + Integer.MAX_VALUE + ", given " + value);
        }
    }

    static void index(long i, long length) {
        if (i < 0 || i >= length) {
            throw new IndexOutOfBoundsException("index: expected 0 .. " + (length - 1) + ", given " + i);
        }
    }

    static int arraySize(long length) {
        if (length > Integer.MAX_VALUE - 8) {
            throw new IllegalArgumentException("length: expected at most " + (Integer.MAX_VALUE - 8) + " for a Java array, given "
                    + length + "; take a slice");
        }
        return (int) length;
    }

    static void arrayLength(long given, long expected) {
        if (given != expected) {
            throw new IllegalArgumentException("values: expected length " + expected + ", given " + given);
        }
    }

    /** {@code why} ends the sentence "expected a value, given null: ". */
    static void needed(Object value, String name, String why) {
        if (value == null) {
            throw new IllegalArgumentException(name + ": expected a value, given null: " + why);
        }
    }

    // ---- shapes ----

    static void length(Floats vector, String name, long expected, String meaning) {
        if (vector != null && vector.length() != expected) {
            throw length(name, expected, meaning, vector.length());
        }
    }

    static void length(Indices vector, String name, long expected, String meaning) {
        if (vector != null && vector.length() != expected) {
            throw length(name, expected, meaning, vector.length());
        }
    }

    static void length(Mask vector, String name, long expected, String meaning) {
        if (vector != null && vector.length() != expected) {
            throw length(name, expected, meaning, vector.length());
        }
    }

    private static IllegalArgumentException length(String name, long expected, String meaning, long given) {
        return new IllegalArgumentException(name + ": expected length " + expected + " (" + meaning + "), given " + given);
    }

    static void sameShape(Logits given, String name, Logits expected, String expectedName) {
        if (given.rows() != expected.rows() || given.vocab() != expected.vocab() || given.dtype() != expected.dtype()) {
            throw new IllegalArgumentException(name + ": expected " + expected.shape() + " (as " + expectedName + "), given "
                    + given.shape());
        }
    }

    /** {@return the number of messages that {@code cuSeqlens} bounds} */
    static long messages(Indices cuSeqlens) {
        if (cuSeqlens.length() < 1) {
            throw new IllegalArgumentException("cuSeqlens: expected length messages + 1, so at least 1, given 0");
        }
        return cuSeqlens.length() - 1;
    }

    static void temperature(Temperature temperature, long rows) {
        given(temperature, "temperature");
        length(temperature.vector(), "temperature", rows, ROWS);
        if (temperature.isGreedy()) {
            throw new IllegalArgumentException("temperature: expected more than 0, given 0 (only Sampling takes 0)");
        }
    }

    // ---- outputs ----

    static void output(Floats vector, String name, long expected, String meaning) {
        length(vector, name, expected, meaning);
        writable(vector, name);
    }

    static void writable(NativeView view, String name) {
        if (view != null && !view.memory.writable) {
            throw new IllegalArgumentException(name + ": expected memory that can be written, given a read-only buffer");
        }
    }

    /** A gradient of logits: it has their shape, and is exactly their memory or apart from it; apart from targets and temperature. */
    static void gradient(Logits gradient, String name, Logits logits, String logitsName, Indices targets, Temperature temperature) {
        given(gradient, name);
        sameShape(gradient, name, logits, logitsName);
        writable(gradient, name);
        if (gradient.overlapsItself()) {
            throw new IllegalArgumentException(name + ": expected rows that do not overlap, given " + gradient);
        }
        apartOrSame(gradient, name, logits, logitsName);
        apart(gradient, name, targets, "targets");
        apart(gradient, name, temperature.vector(), "temperature");
    }

    /** An input of a gradient: one value per row of logits, apart from the gradient. */
    static void gradientInput(Floats vector, String name, Logits gradient, String gradientName) {
        length(vector, name, gradient.rows(), ROWS);
        apart(gradient, gradientName, vector, name);
    }

    static void apartOrSame(Logits gradient, String name, Logits logits, String logitsName) {
        if (gradient.overlaps(logits) && !gradient.sameLayout(logits)) {
            gradient.open(name); // memory that was closed may have been reused by now: then that is the error
            logits.open(logitsName);
            throw new IllegalArgumentException(name + ": expected memory apart from " + logitsName
                    + ", or the same address and strides, given an overlap: " + gradient + " and " + logits);
        }
    }

    static void apart(NativeView output, String name, NativeView other, String otherName) {
        if (output != null && other != null && output.overlaps(other)) {
            output.open(name); // as above
            other.open(otherName);
            throw new IllegalArgumentException(name + ": expected memory apart from " + otherName + ", given an overlap");
        }
    }

    static void allApart(NativeView a, String nameOfA, NativeView b, String nameOfB, NativeView c, String nameOfC) {
        apart(a, nameOfA, b, nameOfB);
        apart(a, nameOfA, c, nameOfC);
        apart(b, nameOfB, c, nameOfC);
    }

    /** The inputs of a kernel over logits: a matrix or its parts, ids per row, temperature. */
    static void apart(NativeView output, String name, NativeView matrix, String matrixName, Indices ids, String idsName,
            Temperature temperature) {
        apart(output, name, matrix, matrixName);
        apart(output, name, ids, idsName);
        apart(output, name, temperature.vector(), "temperature");
    }

    // ---- around the call ----

    /** {@return the address for the native call on that device, 0 for null} */
    static long address(NativeView view, String name, Device device) {
        return view == null ? 0 : view.memory.open(name, device, view.start);
    }

    static long address(Temperature temperature, Device device) {
        return address(temperature.vector(), "temperature", device);
    }

    static int type(Indices indices) {
        return indices == null ? teamtr.TEAMTR_I64 : indices.code();
    }

    /** Keeps these objects reachable up to here, so that the collector does not free memory during the native call. */
    static void alive(Object a, Object b, Object c, Object d) {
        Reference.reachabilityFence(a);
        Reference.reachabilityFence(b);
        Reference.reachabilityFence(c);
        Reference.reachabilityFence(d);
    }

    static void status(int status) {
        if (status != teamtr.TEAMTR_OK) {
            fail(status);
        }
    }

    private static void fail(int status) {
        final String words = teamtr.teamtr_last_error();
        switch (status) {
            case teamtr.TEAMTR_INVALID -> throw new IllegalArgumentException(words);
            case teamtr.TEAMTR_NO_MEMORY -> throw new OutOfMemoryError(words);
            case teamtr.TEAMTR_DEVICE -> throw new DeviceException(words);
            default -> throw new IllegalStateException("TeamTR kernels: status " + status + ": " + words);
        }
    }
}
