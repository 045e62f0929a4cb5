package org.teamtr.team;

import java.util.function.IntFunction;

/** A set of prompts, by number. The same number always gives the same prompt. Thread-safe. */
public interface Prompts {
    /** {@return how many there are; {@link Integer#MAX_VALUE} for a generator without end} */
    int size();

    /** {@return prompt number i, 0 to size - 1} */
    Prompt get(int i);

    /** {@return a set of {@code size} prompts, each made when it is requested} */
    static Prompts of(int size, IntFunction<Prompt> make) {
        return new Prompts() {
            @Override
            public int size() {
                return size;
            }

            @Override
            public Prompt get(int i) {
                return make.apply(i);
            }
        };
    }

    /** {@return prompts {@code from} .. {@code to}, the last one excluded} */
    default Prompts part(int from, int to) {
        return of(to - from, i -> get(from + i));
    }
}
