package org.teamtr.cli;

import com.sun.jna.NativeLibrary;
import java.util.Deque;
import java.util.List;
import java.util.concurrent.ConcurrentLinkedDeque;
import sun.misc.Signal;

/**
 * Ends the process while threads may be computing within libtorch. The JVM's own end, also {@link Runtime#halt}, runs the destructors of
 * libtorch's globals while those threads still use them, and they crash; C's {@code _exit} runs none.
 */
final class Exit {
    private static final Deque<Runnable> ACTIONS = new ConcurrentLinkedDeque<>();

    private Exit() {
    }

    /** From now on SIGINT (Ctrl-C), SIGTERM and SIGHUP run the actions, the last added first, and end the process. Shutdown hooks do not run. */
    static void onSignals() {
        for (String name : List.of("INT", "TERM", "HUP")) {
            try {
                Signal.handle(new Signal(name), signal -> {
                    try {
                        ACTIONS.forEach(Runnable::run);
                    } finally {
                        now(128 + signal.getNumber()); // as shells say it
                    }
                });
            } catch (IllegalArgumentException e) {
                // no such signal here, or java -Xrs keeps it: what the JVM does then has to serve
            }
        }
    }

    /** The actions that run before a signal ends the process. */
    static void add(Runnable action) {
        ACTIONS.addFirst(action);
    }

    static void remove(Runnable action) {
        ACTIONS.remove(action);
    }

    /** Ends the process at once. */
    static void now(int status) {
        System.out.flush();
        System.err.flush();
        try {
            NativeLibrary.getProcess().getFunction("_exit").invokeVoid(new Object[] {status});
        } catch (LinkageError e) { // JNA finds no folder to unpack its library in
            Runtime.getRuntime().halt(status);
        }
    }
}
