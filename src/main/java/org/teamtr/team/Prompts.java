package org.teamtr.team;

/** A set of prompts, by number. The same number is the same prompt, always. Any number of threads may ask. */
public interface Prompts {
    /** {@return how many there are; {@link Integer#MAX_VALUE} for a generator without end} */
    int size();

    /** {@return prompt number i, 0 to size - 1} */
    Prompt get(int i);

    /** {@return prompts {@code from} .. {@code to}, the last one excluded} */
    default Prompts part(int from, int to) {
        final Prompts all = this;
        return new Prompts() {
            @Override
            public int size() {
                return to - from;
            }

            @Override
            public Prompt get(int i) {
                return all.get(from + i);
            }
        };
    }
}
