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

/** Writes the folder of a model for {@code random: true}: sizes and a tokenizer, no weights. */
public final class TrainerModel {
    private TrainerModel() {
    }

    /** Arguments: the folder; 0.1b (the default, 32,000 tokens); 0.6b, Qwen3-0.6B's shape with its 151,936; 0.3b, 9 of its 28 layers; 45m. */
    public static void main(String[] args) throws IOException {
        final Path folder = Files.createDirectories(Path.of(args[0]));
        final String size = args.length > 1 ? args[1] : "0.1b";
        final int vocab = size.equals("0.1b") ? 32_000 : 151_936;
        final List<String> specials = List.of("<pad>", "<end>");
        final int more = vocab - specials.size() - Budget.CHARACTERS.length();
        // A token is a character here. Beside those of the task, ideographs and syllables, and characters for private use, of which there
        // are enough.
        final String characters = Budget.CHARACTERS + IntStream.concat(IntStream.concat(IntStream.range(0x4E00, 0x9FA6),
                IntStream.range(0xAC00, 0xD7A4)), IntStream.concat(IntStream.range(0xF0000, 0xFFFFE), IntStream.range(0x100000, 0x10FFFE)))
                .limit(more).mapToObj(Character::toString).collect(Collectors.joining());
        Tokenizer.writeCharacters(folder, characters, specials, specials.get(0), specials.get(1));
        final ModelConfig config = switch (size) {
            case "0.1b" -> ModelConfig.qwen3(vocab, 640, 1792, 16, 10, 5, 64, 256);
            case "0.6b" -> ModelConfig.qwen3(vocab, 1024, 3072, 28, 16, 8, 128, 40_960);
            case "0.3b" -> ModelConfig.qwen3(vocab, 1024, 3072, 9, 16, 8, 128, 40_960);
            case "45m" -> ModelConfig.qwen3(vocab, 256, 768, 8, 4, 2, 64, 1024);
            default -> throw new IllegalArgumentException("expected 0.1b, 0.3b, 0.6b or 45m, given " + size);
        };
        config.write(folder.resolve("config.json"), "float32", 1);
    }
}
