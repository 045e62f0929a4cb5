package org.teamtr.team;

import java.util.List;
import java.util.Map;

/** A policy as a team uses it: it gets a prompt and generates a message. A trainable one is an {@code org.teamtr.train.Policy}. */
public interface Speaker {
    /**
     * {@return the tokens of the model's prompt}, by the tokenizer's chat template where it has one, otherwise the turns'
     * contents one after the other
     */
    int[] encode(List<ChatTurn> turns);

    /**
     * {@return the same with tools that the model may call}, in the form in which its chat template describes them
     *
     * @param tools descriptions as in OpenAI's interface: {@code {type: function, function: {name, description, parameters}}}
     * @throws IllegalArgumentException if there are tools and the model has no chat template that could describe them
     */
    default int[] encode(List<ChatTurn> turns, List<Map<String, Object>> tools) {
        if (!tools.isEmpty()) {
            throw new IllegalArgumentException("tools: expected a model whose chat template describes tools, given one without");
        }
        return encode(turns);
    }

    /** {@return the longest prompt and message together, in tokens} */
    int contextLength();

    /**
     * Prepares for {@link #generate}. It is called before every rollout, by all ranks where several train together, since weights that are
     * divided among ranks are gathered here. After learning or scoring it has to be called again.
     */
    default void ready() {
    }

    /**
     * Samples one message for every prompt, all at once.
     *
     * @param prompts token sequences of any lengths of 1 or more
     * @param seed of this turn
     * @param rowIds [prompts], the keys of the rows' random numbers; a message depends on its prompt, the seed and its
     *     row id, not on the other rows
     */
    List<Utterance> generate(List<int[]> prompts, Generation generation, long seed, long[] rowIds);

    /** {@return the device that it computes on} Speakers on different devices may be asked to generate at once, by a thread each. */
    default String device() {
        return "cpu";
    }

    /** {@return the largest number of messages that it generates at once; 0 for no limit} */
    default int atOnce() {
        return 0;
    }

    /** {@return a number that changes whenever the parameters do, and only then; 0 at the start of a run} */
    long version();
}
