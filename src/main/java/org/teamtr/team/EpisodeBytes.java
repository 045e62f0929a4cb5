package org.teamtr.team;

import com.fasterxml.jackson.core.json.JsonWriteFeature;
import com.fasterxml.jackson.databind.json.JsonMapper;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.List;
import java.util.stream.IntStream;

/** Episodes as bytes (JSON), which ranks send to each other. The prompts are known on both sides. */
final class EpisodeBytes {
    /** ASCII only: UTF-8 has no lone surrogates, which tokens may decode to. */
    private static final JsonMapper JSON = JsonMapper.builder().enable(JsonWriteFeature.ESCAPE_NON_ASCII).build();

    /**
     * An episode without its prompt.
     *
     * @param number its index among the episodes
     * @param observations of the messages, null where there is none
     */
    private record Line(int number, long seed, Observation opening, List<Message> messages, Observation[] observations, Verifier.Score score) {
        static Line of(int number, Episode episode) {
            final Context context = episode.context();
            return new Line(number, context.seed(), context.opening(), context.messages(),
                    IntStream.range(0, context.turn()).mapToObj(context::observation).toArray(Observation[]::new), episode.score());
        }

        Episode episode(Prompt prompt) {
            final Context context = new Context(prompt, number, seed);
            context.open(opening);
            messages.forEach(message -> {
                context.append(message);
                context.observe(observations[message.turn()]);
            });
            return new Episode(context, score);
        }
    }

    private EpisodeBytes() {
    }

    /** @param episodes by their numbers; those that are null are left out */
    static byte[] of(Episode[] episodes) {
        try {
            return JSON.writeValueAsBytes(IntStream.range(0, episodes.length).filter(number -> episodes[number] != null)
                    .mapToObj(number -> Line.of(number, episodes[number])).toList());
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /** Puts the episodes into their places. */
    static void into(Episode[] episodes, byte[] bytes, List<Prompt> prompts, int group) {
        try {
            for (Line line : JSON.readValue(bytes, Line[].class)) {
                episodes[line.number] = line.episode(prompts.get(line.number / group));
            }
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }
}
