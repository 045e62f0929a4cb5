package org.teamtr.torch;

import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;
import org.teamtr.chat.ChatEncoder;
import org.teamtr.chat.Tokenizer;
import org.teamtr.model.ModelConfig;
import org.teamtr.team.ChatTurn;
import org.teamtr.team.Generation;
import org.teamtr.team.Speaker;
import org.teamtr.team.Utterance;

/**
 * A model folder without its weights: sizes, tokenizer, chat template, names and shapes of the tensors. It encodes prompts, so that their
 * length is known, but cannot generate.
 */
public final class ModelPreview implements Speaker, AutoCloseable {
    private final Tokenizer tokenizer;
    private final ChatEncoder encoder;
    private final ModelConfig config;

    private ModelPreview(Tokenizer tokenizer, ChatEncoder encoder, ModelConfig config) {
        this.tokenizer = tokenizer;
        this.encoder = encoder;
        this.config = config;
    }

    /** Reads a part of a model. */
    private interface Part<T> {
        T read() throws IOException;
    }

    /**
     * Checks a model folder.
     *
     * @param thinking the chat template's {@code enable_thinking}
     * @param lora targets of the adapters to train, to check that there are such layers; null for none
     * @param weights whether its weights will be used
     * @param problem is called with each thing that is wrong
     * @param note is called with each thing that a user should know though it is not wrong, a sentence: those of {@link TorchPolicy#notes}
     * @return the model, or null if prompts cannot be encoded
     */
    public static ModelPreview open(Path folder, boolean thinking, List<String> lora, boolean weights, Consumer<String> problem,
            Consumer<String> note) {
        final ModelConfig config = read(problem, () -> config(folder, weights, note));
        if (config != null) {
            final Layout layout = Layout.of(config);
            if (lora != null) {
                read(problem, () -> Layout.lora(layout, 1, lora));
            }
            if (weights) {
                read(problem, () -> {
                    ModelFiles.checkModel(folder, config, layout);
                    return null;
                });
            }
        }
        final Tokenizer tokenizer = read(problem, () -> Tokenizer.open(folder));
        final ChatEncoder encoder = tokenizer == null ? null : read(problem, () -> new ChatEncoder(tokenizer, thinking));
        if (config == null || encoder == null) {
            if (tokenizer != null) {
                tokenizer.close();
            }
            return null;
        }
        tokenizer.notes().forEach(note);
        return new ModelPreview(tokenizer, encoder, config);
    }

    /**
     * {@return the configuration of a model folder}
     *
     * @param weights whether its weights will be used: they may contain a head that differs from the embedding
     * @param note is called with each thing that a user should know, a sentence
     * @throws IOException if there is no such folder, or something in it is wrong or not supported
     */
    public static ModelConfig config(Path folder, boolean weights, Consumer<String> note) throws IOException {
        return weights ? ModelFiles.config(folder, note) : ModelConfig.read(folder.resolve(ModelFiles.CONFIG), note);
    }

    private static <T> T read(Consumer<String> problem, Part<T> part) {
        try {
            return part.read();
        } catch (IOException | RuntimeException e) {
            problem.accept(e.getMessage());
            return null;
        }
    }

    @Override
    public int[] encode(List<ChatTurn> turns) {
        return encode(turns, List.of());
    }

    @Override
    public int[] encode(List<ChatTurn> turns, List<Map<String, Object>> tools) {
        return encoder.encode(turns, tools);
    }

    @Override
    public int contextLength() {
        return config.rope().positions();
    }

    @Override
    public List<Utterance> generate(List<int[]> prompts, Generation generation, long seed, long[] rowIds) {
        throw new UnsupportedOperationException("a model without its weights does not speak");
    }

    @Override
    public long version() {
        return 0;
    }

    @Override
    public void close() {
        tokenizer.close();
    }
}
