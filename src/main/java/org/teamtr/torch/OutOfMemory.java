package org.teamtr.torch;

import java.util.Locale;
import java.util.stream.Stream;

/** An allocation on the host or on a device has failed. The message says in one line what to change. */
public final class OutOfMemory extends RuntimeException {
    private static final long serialVersionUID = 1;

    static final String LOADING = "loading a model: use hardware.memory.offload true, policies.<name>.dtype bf16 or f16, lora.rank more"
            + " than 0, or a smaller model";
    static final String GENERATING = "generating messages: set hardware.memory.rows, to half of the messages that are generated at once"
            + " for a start";
    static final String LEARNING = "an update: lower optimiser.micro_batch_tokens, to half for a start";

    OutOfMemory(String what, Throwable cause) {
        super("out of memory in " + what + " (" + brief(cause) + ")", cause);
    }

    /** {@return for a failed allocation, an exception that says what to change; any other exception as it is} */
    static RuntimeException told(RuntimeException e, String what) {
        return is(e) ? new OutOfMemory(what, e) : e;
    }

    /** {@return whether an exception reports a failed allocation}: by the messages of libtorch, cuBLAS, CUDA, C++ and JavaCPP. */
    static boolean is(Throwable e) {
        final String message = String.valueOf(e.getMessage()).toLowerCase(Locale.ROOT);
        return !(e instanceof OutOfMemory) && Stream.of("out of memory", "can't allocate memory", "not enough memory",
                "alloc_failed", "bad_alloc", "memory usage is too high").anyMatch(message::contains);
    }

    private static String brief(Throwable cause) {
        final String line = String.valueOf(cause.getMessage()).lines().findFirst().orElse("").strip();
        return line.length() <= 160 ? line : line.substring(0, 160) + "…";
    }
}
