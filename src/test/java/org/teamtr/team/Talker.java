package org.teamtr.team;

import java.util.ArrayList;
import java.util.List;
import java.util.function.BiFunction;
import java.util.stream.Collectors;
import org.teamtr.kernels.SamplingConfig;

/** Says what a function of its prompt and of the row's noise says, a token per character, and remembers what it was asked. */
final class Talker implements Speaker {
    /** One call of {@link #generate}: all rows that were asked at once. */
    record Call(List<String> prompts, long seed, List<Long> rowIds) {
    }

    private final int contextLength;
    private final BiFunction<String, Long, String> words;
    final List<Call> calls = new ArrayList<>();

    Talker(int contextLength, BiFunction<String, Long, String> words) {
        this.contextLength = contextLength;
        this.words = words;
    }

    /** Says a name and eight digits of noise. */
    static Talker named(String name) {
        return new Talker(1 << 20, (prompt, noise) -> String.format("%s%08x", name, noise.intValue()));
    }

    /** Messages of up to 20 tokens. */
    static Generation generation(Truncation truncation) {
        return new Generation(1, SamplingConfig.ALL, 20, truncation);
    }

    @Override
    public int[] encode(List<ChatTurn> turns) {
        return turns.stream().map(ChatTurn::content).collect(Collectors.joining()).chars().toArray();
    }

    @Override
    public int contextLength() {
        return contextLength;
    }

    @Override
    public List<Utterance> generate(List<int[]> prompts, Generation generation, long seed, long[] rowIds) {
        final List<String> texts = prompts.stream().map(p -> new String(p, 0, p.length)).toList();
        final List<Utterance> said = new ArrayList<>();
        final List<Long> ids = new ArrayList<>();
        for (int i = 0; i < texts.size(); i++) {
            final String text = words.apply(texts.get(i), KeyedRandom.seed(seed, rowIds[i]));
            final int[] tokens = text.chars().limit(generation.maxNewTokens()).toArray();
            said.add(new Utterance(prompts.get(i), tokens, new float[tokens.length], new String(tokens, 0, tokens.length),
                    tokens.length == text.length(), 0));
            ids.add(rowIds[i]);
        }
        calls.add(new Call(texts, seed, ids));
        return said;
    }

    @Override
    public long version() {
        return 0;
    }
}
