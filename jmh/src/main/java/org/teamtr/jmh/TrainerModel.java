package org.teamtr.jmh;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.teamtr.chat.Tokenizer;
import org.teamtr.model.ModelConfig;
import org.teamtr.task.Budget;

/** Writes the folder of a model of 0.1 billion parameters and 32,000 tokens, for {@code random: true}: no weights. */
public final class TrainerModel {
    private static final int VOCAB = 32_000;

    private TrainerModel() {
    }

    /** Argument: the folder. */
    public static void main(String[] args) throws IOException {
        final Path folder = Files.createDirectories(Path.of(args[0]));
        final List<String> specials = List.of("<pad>", "<end>");
        final int more = VOCAB - specials.size() - Budget.CHARACTERS.length();
        // A token is a character here. Beside those of the task, ideographs and syllables, of which there are enough.
        final String characters = Budget.CHARACTERS + IntStream.concat(IntStream.range(0x4E00, 0x9FA6), IntStream.range(0xAC00,
                0xD7A4))
                .limit(more).mapToObj(Character::toString).collect(Collectors.joining());
        Tokenizer.writeCharacters(folder, characters, specials, specials.get(0), specials.get(1));
        ModelConfig.qwen3(VOCAB, 640, 1792, 16, 10, 5, 64, 256).write(folder.resolve("config.json"), "float32", 1);
    }
}
