package org.teamtr.team;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.ArrayList;
import java.util.List;
import java.util.stream.Collectors;

/** Says the lines of a script, one after the other, and remembers what it was asked. One episode at a time. */
public class ScriptedSpeaker implements Speaker {
    /** The prompt of each line: of every turn its role and content, unless a subclass encodes otherwise. */
    public final List<String> asked = new ArrayList<>();
    private final List<String> lines;
    private final boolean ends;

    public ScriptedSpeaker(String... lines) {
        this(true, lines);
    }

    /** @param ends whether messages end before the length limit */
    public ScriptedSpeaker(boolean ends, String... lines) {
        this.ends = ends;
        this.lines = List.of(lines);
    }

    @Override
    public int[] encode(List<ChatTurn> turns) {
        return turns.stream().map(t -> t.role() + ": " + t.content()).collect(Collectors.joining("\n")).codePoints().toArray();
    }

    @Override
    public int contextLength() {
        return 1 << 20;
    }

    @Override
    public List<Utterance> generate(List<int[]> prompts, Generation generation, long seed, long[] rowIds) {
        assertEquals(1, prompts.size());
        final int[] prompt = prompts.get(0);
        final String line = lines.get(asked.size());
        asked.add(new String(prompt, 0, prompt.length));
        return List.of(new Utterance(prompt, new int[] {1}, new float[1], line, ends, 0));
    }

    @Override
    public long version() {
        return 0;
    }
}
