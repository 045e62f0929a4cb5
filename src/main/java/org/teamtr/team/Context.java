package org.teamtr.team;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;

/**
 * The shared context of one episode: the prompt, every message so far, and what an environment answered to it, verbatim. Only
 * {@link Rollout} appends. Observations are not messages: they take no turn and are not counted as messages.
 */
public final class Context {
    private final Prompt prompt;
    private final long episode;
    private final List<Message> messages = new ArrayList<>();
    private final List<Message> view = Collections.unmodifiableList(messages);
    private final List<Observation> observations = new ArrayList<>(); // to each message, null where there is none
    private final long seed;
    private Observation opening;

    /** @param episode a number that tells it from the other episodes of its batch; random choices are keyed by it */
    public Context(Prompt prompt, long episode) {
        this(prompt, episode, 0);
    }

    /** @param seed of the environment; that of all episodes of a group is the same */
    public Context(Prompt prompt, long episode, long seed) {
        this.prompt = prompt;
        this.episode = episode;
        this.seed = seed;
    }

    /** {@return a context with these texts as messages of no policy, for supervised examples and tests} */
    public static Context of(Prompt prompt, List<String> texts) {
        final Context context = new Context(prompt, 0);
        for (String text : texts) {
            context.append(new Message(context.turn(), context.turn(), "agent" + (context.turn() + 1),
                    new Utterance(new int[0], new int[0], new float[0], text, true, 0)));
        }
        return context;
    }

    /** {@return a context with these messages, which were recorded earlier, and no environment} */
    public static Context of(Prompt prompt, long episode, List<Message> messages) {
        final Context context = new Context(prompt, episode);
        messages.forEach(context::append);
        return context;
    }

    /** {@return what the episode started from} */
    public Prompt prompt() {
        return prompt;
    }

    /** {@return the episode's number in its batch} */
    public long episode() {
        return episode;
    }

    /** {@return the seed of the episode's environment} */
    public long seed() {
        return seed;
    }

    /** {@return the environment's observation before the first message, or null} */
    public Observation opening() {
        return opening;
    }

    /** {@return what the environment answered to the message of a turn, or null} */
    public Observation observation(int turn) {
        return observations.get(turn);
    }

    /** {@return all messages, the oldest first; unmodifiable, grows with the episode} */
    public List<Message> messages() {
        return view;
    }

    /** {@return the latest message, or null before the first} */
    public Message last() {
        return messages.isEmpty() ? null : messages.get(messages.size() - 1);
    }

    /** {@return how many messages there are: the number of the next turn} */
    public int turn() {
        return messages.size();
    }

    /** {@return the context as it was before that turn, 0 to {@link #turn()}; a copy} */
    public Context before(int turn) {
        final Context then = new Context(prompt, episode, seed);
        then.opening = opening;
        then.messages.addAll(messages.subList(0, turn));
        then.observations.addAll(observations.subList(0, turn));
        return then;
    }

    void append(Message message) {
        messages.add(message);
        observations.add(null);
    }

    void open(Observation observation) {
        opening = observation;
    }

    /** To the latest message. */
    void observe(Observation observation) {
        observations.set(observations.size() - 1, observation);
    }
}
