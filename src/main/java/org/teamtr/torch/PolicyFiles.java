package org.teamtr.torch;

import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.teamtr.chat.Tokenizer;
import org.teamtr.model.ModelConfig;

/** Makes policies from model folders, and writes and reads their checkpoints. */
final class PolicyFiles {
    private static final String LOAD = "load";

    private PolicyFiles() {
    }

    /** Sets the weights of a model. */
    private interface Filler {
        void fill(ModelConfig config, Weights weights) throws IOException;
    }

    /** {@return the model of a folder} */
    static TorchPolicy load(Path folder, TorchPolicy.Settings settings, TeamMemory memory) throws IOException {
        return open(folder, settings, memory, LOAD, (config, weights) -> ModelFiles.readModel(folder, config, weights), 0);
    }

    /** {@return a model of the sizes and with the tokenizer of a folder, but with random weights} */
    static TorchPolicy random(Path folder, TorchPolicy.Settings settings, long seed, TeamMemory memory) throws IOException {
        return open(folder, settings, memory, "random " + seed, (config, weights) -> weights.random(seed), seed);
    }

    /** @param seed of the adapters, where A is random and B is zero, so that the model is unchanged */
    private static TorchPolicy open(Path folder, TorchPolicy.Settings settings, TeamMemory memory, String how, Filler filler, long seed)
            throws IOException {
        try {
            return opened(folder, settings, memory, how, filler, seed);
        } catch (RuntimeException e) {
            throw OutOfMemory.told(e, OutOfMemory.LOADING);
        }
    }

    private static TorchPolicy opened(Path folder, TorchPolicy.Settings settings, TeamMemory memory, String how, Filler filler, long seed)
            throws IOException {
        Libtorch.load();
        final List<String> notes = new ArrayList<>();
        final ModelConfig config = how.equals(LOAD) ? ModelFiles.config(folder, notes::add)
                : ModelConfig.read(folder.resolve(ModelFiles.CONFIG), notes::add);
        final Weights base = settings.lora().rank() == 0 ? null
                : memory.frozen(String.join("|", how, folder.toRealPath().toString(), settings.dtype().toString(), settings.device()), () -> {
                    final Weights frozen = TrainingState.frozen(config, settings, memory);
                    fill(filler, config, frozen, frozen);
                    return frozen;
                });
        final Tokenizer tokenizer;
        try {
            tokenizer = Tokenizer.open(folder);
        } catch (IOException | RuntimeException e) {
            if (base != null) {
                base.close();
            }
            throw e;
        }
        notes.addAll(tokenizer.notes());
        final TorchPolicy policy = new TorchPolicy(config, tokenizer, settings, memory, base,
                how.equals(LOAD) ? folder.toString() : null, notes);
        if (base == null) {
            fill(filler, config, policy.state.weights, policy);
        } else {
            policy.state.weights.random(seed);
        }
        return policy;
    }

    /** @param owner is closed if filling fails */
    private static void fill(Filler filler, ModelConfig config, Weights weights, AutoCloseable owner) throws IOException {
        boolean filled = false;
        try {
            filler.fill(config, weights);
            filled = true;
        } finally {
            if (!filled) {
                try {
                    owner.close();
                } catch (Exception e) {
                    throw new IllegalStateException(e);
                }
            }
        }
    }

    /**
     * Writes a policy's model, or, where only adapters are trained, the adapters; and the optimiser's state.
     *
     * @param source the folder from which the model was read, as the caller gave it; null if its weights are in no file
     */
    static void save(TorchPolicy policy, Path folder, String source) throws IOException {
        final TrainingState state = policy.state;
        final Map<String, String> outside = outside(policy);
        if (state.base == null) {
            final String dtype = switch (policy.settings.dtype()) {
                case F32 -> "float32";
                case BF16 -> "bfloat16";
                case F16 -> "float16";
            };
            policy.config.write(folder.resolve(ModelFiles.CONFIG), dtype, policy.tokenizer.endTokens());
            ModelFiles.writeModel(folder, state.weights);
            policy.tokenizer.copyTo(folder);
        } else {
            ModelFiles.writeAdapter(folder, state.weights, policy.settings, source);
        }
        ModelFiles.writeTraining(folder, state, outside);
    }

    /** Checksums of what a checkpoint does not hold, although the policy would be another one with another: the model's own files. */
    private static Map<String, String> outside(TorchPolicy policy) {
        final Map<String, String> outside = new TreeMap<>(policy.state.frozenChecksum());
        outside.put("tokenizer", Long.toHexString(policy.tokenizer.checksum()));
        return outside;
    }

    /** Reads into a policy what {@link #save} has written. */
    static void read(TorchPolicy policy, Path folder) throws IOException {
        if (policy.state.base == null) {
            final ModelConfig given = ModelConfig.read(folder.resolve(ModelFiles.CONFIG));
            if (!given.equals(policy.config)) {
                throw new IOException(folder.resolve(ModelFiles.CONFIG) + ": another model than the policy's: " + policy.config.differences(given));
            }
            ModelFiles.readModel(folder, policy.config, policy.state.weights);
        } else {
            ModelFiles.readAdapter(folder, policy.state.weights, policy.settings);
        }
        ModelFiles.readTraining(folder, policy.state, outside(policy));
    }
}
