package org.teamtr.torch;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.FileNotFoundException;
import java.io.IOException;
import java.io.OutputStream;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.channels.Channels;
import java.nio.channels.WritableByteChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.function.Consumer;
import java.util.function.Predicate;
import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.javacpp.Pointer;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Device;
import org.bytedeco.pytorch.NoGradGuard;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch;
import org.teamtr.model.ModelConfig;
import org.teamtr.model.SafeTensors;
import org.teamtr.model.SafeTensorsWriter;

/** Reads and writes weights and optimiser state in safetensors files. */
final class ModelFiles {
    static final String CONFIG = "config.json";
    static final String ADAPTER = "adapter_model.safetensors";
    static final String ADAPTER_CONFIG = "adapter_config.json";
    /** The file of what other programs do not need: the f32 weights of rounded ones, AdamW's moments after its first step, counters. */
    static final String TRAINING = "training.safetensors";
    /** The prefix of the model's tensor names in PEFT's files. */
    static final String ADAPTER_PREFIX = "base_model.model.";
    static final String EMBEDDING = "model.embed_tokens.weight";
    static final String HEAD = "lm_head.weight";
    private static final String MEAN = "exp_avg";
    private static final String SQUARE = "exp_avg_sq";
    private static final long SHARD = 5_000_000_000L;
    private static final int CHUNK = 256 << 20;

    private ModelFiles() {
    }

    /**
     * Reads the configuration of a model folder. If the configuration ties the head to the embedding but the files have a head that
     * differs from the embedding, that head is used.
     *
     * @param note is called with each thing that a user should know, a sentence
     * @throws IOException if there is no such folder, or something in it is wrong or not supported
     */
    static ModelConfig config(Path folder, Consumer<String> note) throws IOException {
        final ModelConfig config = ModelConfig.read(folder.resolve(CONFIG), note);
        if (!config.embedding().tied()) {
            return config;
        }
        try (SafeTensors tensors = SafeTensors.open(folder)) {
            final SafeTensors.Entry head = tensors.entries().get(HEAD);
            if (head == null || same(tensors, head, tensors.entry(EMBEDDING))) {
                return config;
            }
            note.accept(head.file() + ": " + HEAD + " differs from " + EMBEDDING + ", although " + CONFIG + " says tie_word_embeddings:"
                    + " true; both are used as they are");
            return config.untied();
        }
    }

    private static boolean same(SafeTensors tensors, SafeTensors.Entry a, SafeTensors.Entry b) throws IOException {
        if (!a.dtype().equals(b.dtype()) || !Arrays.equals(a.shape(), b.shape())) {
            return false;
        }
        for (long from = 0; from < a.bytes(); from += CHUNK) {
            final int n = (int) Math.min(CHUNK, a.bytes() - from);
            if (tensors.map(a.name(), from, n).mismatch(tensors.map(b.name(), from, n)) >= 0) {
                return false;
            }
        }
        return true;
    }

    /**
     * Reads a model's weights, each of which may be f32, f16 or bf16.
     *
     * @throws IOException if a tensor is missing or of another shape, or there is one that this decoder does not use
     */
    static void readModel(Path folder, ModelConfig config, Weights weights) throws IOException {
        try (SafeTensors tensors = SafeTensors.open(folder)) {
            read(tensors, "", weights, name -> isDerived(name, config));
        }
    }

    /**
     * Checks the names, shapes and types of a model's tensors, without reading the weights.
     *
     * @throws IOException as {@link #readModel}
     */
    static void checkModel(Path folder, ModelConfig config, Layout layout) throws IOException {
        try (SafeTensors tensors = SafeTensors.open(folder)) {
            for (SafeTensors.Entry entry : entries(tensors, "", layout, name -> isDerived(name, config)).values()) {
                type(entry);
            }
        }
    }

    /** Whether a tensor is computed from other tensors or from the configuration. */
    private static boolean isDerived(String name, ModelConfig config) {
        return name.endsWith("rotary_emb.inv_freq") || config.embedding().tied() && name.equals(HEAD); // equal to the embedding, or not tied
    }

    private static void read(SafeTensors tensors, String prefix, Weights weights, Predicate<String> ignored) throws IOException {
        for (Map.Entry<String, SafeTensors.Entry> entry : entries(tensors, prefix, weights.layout, ignored).entrySet()) {
            final Layout.Part part = weights.layout.parts.get(entry.getKey());
            try (PointerScope scope = new PointerScope()) {
                read(tensors, entry.getValue(), 0, part.length(), (from, chunk) -> weights.put(part.offset() + from, chunk));
            }
        }
        weights.refresh();
    }

    /** {@return the tensors of a layout's parts} Throws if one is missing or of another shape, or if there are others. */
    private static Map<String, SafeTensors.Entry> entries(SafeTensors tensors, String prefix, Layout layout, Predicate<String> ignored)
            throws IOException {
        final Map<String, SafeTensors.Entry> entries = new LinkedHashMap<>();
        final TreeMap<String, SafeTensors.Entry> unknown = new TreeMap<>(tensors.entries());
        unknown.keySet().removeIf(ignored);
        for (Map.Entry<String, Layout.Part> part : layout.parts.entrySet()) {
            final SafeTensors.Entry entry = tensors.entry(prefix + part.getKey());
            unknown.remove(entry.name());
            if (!Arrays.equals(entry.shape(), part.getValue().shape())) {
                throw new IOException(entry.file() + ": " + entry.name() + ": expected shape " + Arrays.toString(part.getValue().shape())
                        + ", given " + Arrays.toString(entry.shape()));
            }
            entries.put(part.getKey(), entry);
        }
        if (!unknown.isEmpty()) {
            throw new IOException(unknown.firstEntry().getValue().file()
                    + ": expected the tensors of the model that is described beside it, given also " + unknown.keySet());
        }
        return entries;
    }

    private static torch.ScalarType type(SafeTensors.Entry entry) throws IOException {
        return switch (entry.type()) {
            case F32 -> torch.ScalarType.Float;
            case F16 -> torch.ScalarType.Half;
            case BF16 -> torch.ScalarType.BFloat16;
            default -> throw new IOException(entry.file() + ": " + entry.name() + ": expected F32, F16 or BF16, given " + entry.dtype());
        };
    }

    /** Receives a part of a tensor, which begins at the index {@code from}. */
    private interface Into {
        void put(long from, Tensor chunk);
    }

    /** Reads a range of a tensor chunk by chunk. */
    private static void read(SafeTensors tensors, SafeTensors.Entry entry, long first, long length, Into into) throws IOException {
        final torch.ScalarType dtype = type(entry);
        final int width = entry.type().bytes();
        for (long from = 0; from < length; from += CHUNK / width) {
            final long n = Math.min(CHUNK / width, length - from);
            try (NoGradGuard guard = new NoGradGuard(); PointerScope scope = new PointerScope(); Device cpu = new Device("cpu")) {
                final Tensor chunk = Decoder.empty(new long[] {n}, dtype, cpu);
                tensors.read(entry.name(), (first + from) * width, bytes(chunk));
                into.put(from, chunk);
            }
        }
    }

    /** {@return the memory of a contiguous tensor on the CPU, of less than 2 GiB} */
    static ByteBuffer bytes(Tensor tensor) {
        final Pointer data = tensor.data_ptr();
        return new BytePointer(data).capacity(tensor.numel() * tensor.element_size()).asByteBuffer();
    }

    static void writeModel(Path folder, Weights weights) throws IOException {
        SafeTensorsWriter.writeModel(folder, tensors("", weights), Map.of("format", "pt"), SHARD);
    }

    private static List<SafeTensorsWriter.Tensor> tensors(String prefix, Weights weights) {
        final List<SafeTensorsWriter.Tensor> tensors = new ArrayList<>();
        final SafeTensors.DType dtype = switch (weights.dtype) {
            case Float -> SafeTensors.DType.F32;
            case Half -> SafeTensors.DType.F16;
            default -> SafeTensors.DType.BF16;
        };
        weights.layout.parts.forEach((name, part) -> tensors.add(new SafeTensorsWriter.Tensor(prefix + name, dtype, part.shape(),
                !weights.divided ? out -> write(out, weights.compute().get(name)) : out -> weights.shard.stream("weights", weights.own(),
                        part.offset(), part.offset() + part.length(), numbers -> write(out, numbers)))));
        return tensors;
    }

    private static SafeTensorsWriter.Tensor vector(String name, Tensor vector, long length, Shard shard) {
        return new SafeTensorsWriter.Tensor(name, SafeTensors.DType.F32, new long[] {length}, shard == null ? out -> write(out, vector)
                : out -> shard.stream(name, vector, numbers -> write(out, numbers)));
    }

    private static void write(WritableByteChannel out, Tensor tensor) throws IOException {
        final long length = tensor.numel();
        final long step = CHUNK / tensor.element_size();
        for (long from = 0; from < length; from += step) {
            try (PointerScope scope = new PointerScope()) {
                final Tensor chunk = tensor.view(length).narrow(0, from, Math.min(step, length - from)).cpu();
                out.write(bytes(chunk));
            }
        }
    }

    /**
     * Writes adapters as PEFT does, with the keys of its {@code LoraConfig}.
     *
     * @param baseModel the folder or name of the base model as the user gave it; null if it is in no file
     */
    static void writeAdapter(Path folder, Weights adapter, TorchPolicy.Settings settings, String baseModel) throws IOException {
        SafeTensorsWriter.write(folder.resolve(ADAPTER), tensors(ADAPTER_PREFIX, adapter), Map.of("format", "pt"));
        final ObjectMapper mapper = new ObjectMapper();
        final ObjectNode json = mapper.createObjectNode();
        json.putObject("alpha_pattern");
        json.putNull("auto_mapping").put("base_model_name_or_path", baseModel).put("bias", "none").put("fan_in_fan_out", false)
                .put("inference_mode", true).put("init_lora_weights", true).putNull("layer_replication").putNull("layers_pattern")
                .putNull("layers_to_transform").putObject("loftq_config");
        if (settings.lora().alpha() == Math.rint(settings.lora().alpha())) {
            json.put("lora_alpha", (long) settings.lora().alpha()); // an integer if it is whole, as PEFT declares it
        } else {
            json.put("lora_alpha", settings.lora().alpha());
        }
        json.put("lora_bias", false).put("lora_dropout", 0.0).putNull("megatron_config").put("megatron_core", "megatron.core")
                .putNull("modules_to_save").put("peft_type", "LORA").put("r", settings.lora().rank()).putObject("rank_pattern");
        json.putNull("revision");
        settings.lora().targets().forEach(json.putArray("target_modules")::add);
        json.put("task_type", "CAUSAL_LM").put("use_dora", false).put("use_rslora", false);
        Files.write(folder.resolve(ADAPTER_CONFIG), mapper.writerWithDefaultPrettyPrinter().writeValueAsBytes(json));
    }

    static void readAdapter(Path folder, Weights adapter, TorchPolicy.Settings settings) throws IOException {
        final Path file = folder.resolve(ADAPTER_CONFIG);
        if (!Files.isRegularFile(file)) {
            throw new FileNotFoundException(file + ": there is no such file");
        }
        final JsonNode json;
        try {
            json = new ObjectMapper().readTree(Files.readAllBytes(file));
        } catch (IOException e) {
            throw new IOException(file + ": " + e.getMessage(), e);
        }
        if (json.path("r").asInt() != settings.lora().rank() || json.path("lora_alpha").asDouble() != settings.lora().alpha()) {
            throw new IOException(file + ": expected r = " + settings.lora().rank() + " and lora_alpha = " + settings.lora().alpha() + ", given "
                    + json.path("r") + " and " + json.path("lora_alpha"));
        }
        for (String key : new String[] {"use_rslora", "use_dora", "lora_bias", "fan_in_fan_out", "rank_pattern", "alpha_pattern"}) {
            if (json.path(key).asBoolean() || !json.path(key).isEmpty()) { // with these the same tensors compute something else
                throw new IOException(file + ": " + key + ": expected none, given " + json.path(key));
            }
        }
        try (SafeTensors tensors = SafeTensors.open(folder.resolve(ADAPTER))) {
            read(tensors, ADAPTER_PREFIX, adapter, name -> false);
        }
    }

    /**
     * Writes what a policy needs to resume; for vectors that are divided among ranks, the other ranks must call {@link #sendParts}.
     *
     * @param outside checksums by name of what the policy also needs and is not in the folder
     */
    static void writeTraining(Path folder, TrainingState state, Map<String, String> outside) throws IOException {
        final Weights weights = state.weights;
        final long length = weights.layout.length();
        final List<SafeTensorsWriter.Tensor> vectors = new ArrayList<>();
        if (state.optimiser.steps > 0) {
            vectors.add(vector(MEAN, state.optimiser.mean, length, state.shard));
            vectors.add(vector(SQUARE, state.optimiser.square, length, state.shard));
        }
        if (weights.dtype != torch.ScalarType.Float) {
            vectors.add(vector("master", weights.master, length, weights.shard));
        }
        final long[] counters = state.counters();
        final Map<String, String> numbers = new TreeMap<>(Map.of("steps", Long.toString(state.optimiser.steps),
                "version", Long.toString(counters[0]), "versions", Long.toString(counters[1])));
        if (state.lossScale != null) {
            numbers.putAll(state.lossScale.state());
        }
        numbers.putAll(outside);
        SafeTensorsWriter.write(folder.resolve(TRAINING), vectors, numbers);
    }

    /** Sends this rank's parts to the rank that writes the files. */
    static void sendParts(TrainingState state) {
        if (state.divided()) {
            try (WritableByteChannel nowhere = Channels.newChannel(OutputStream.nullOutputStream())) {
                for (SafeTensorsWriter.Tensor tensor : SafeTensorsWriter.order(tensors("", state.weights),
                        state.base == null ? SHARD : Long.MAX_VALUE)) {
                    tensor.data().writeTo(nowhere);
                }
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        }
        if (state.optimiser.steps > 0) {
            state.shard.stream(MEAN, state.optimiser.mean, numbers -> {});
            state.shard.stream(SQUARE, state.optimiser.square, numbers -> {});
        }
        final Weights weights = state.weights;
        if (weights.shard != null && weights.dtype != torch.ScalarType.Float) {
            weights.shard.stream("master", weights.master, numbers -> {});
        }
    }

    /**
     * Reads what {@link #writeTraining} has written; of divided vectors only this rank's part.
     *
     * @throws IOException also if what is not in the folder has changed since; what it has no checksum of is not checked
     */
    static void readTraining(Path folder, TrainingState state, Map<String, String> outside) throws IOException {
        final Weights weights = state.weights;
        final long length = weights.layout.length();
        final Path file = folder.resolve(TRAINING);
        try (SafeTensors tensors = SafeTensors.open(file)) {
            for (Map.Entry<String, String> now : outside.entrySet()) {
                final String then = tensors.metadata().getOrDefault(now.getKey(), now.getValue());
                if (!then.equals(now.getValue())) {
                    throw new IOException(file + ": " + now.getKey() + ": expected the one with which it was trained (checksum " + then
                            + "), given another (" + now.getValue() + "); the files of the model have changed since");
                }
            }
            final boolean f32 = weights.dtype == torch.ScalarType.Float;
            if (tensors.entries().containsKey("master") == f32) { // rounding to 16 bits, or from them, would be a change of its own
                throw new IOException(
                        file + ": expected a checkpoint of a policy in " + (f32 ? "f32, given one in 16 bits" : "16 bits, given one in f32")
                                + "; a run goes on with the policies.<name>.dtype that it began with");
            }
            state.optimiser.clear();
            state.optimiser.steps = Long.parseLong(tensors.metadata().getOrDefault("steps", ""));
            if (state.optimiser.steps > 0) {
                state.optimiser.make();
                vector(tensors, file, MEAN, length, state.optimiser.mean, state.shard);
                vector(tensors, file, SQUARE, length, state.optimiser.square, state.shard);
            }
            if (!f32) {
                vector(tensors, file, "master", length, weights.master, weights.shard);
                weights.refresh();
            }
            if (state.lossScale != null && tensors.metadata().containsKey(LossScale.SCALE)) { // not if the weights were f32 or bf16
                state.lossScale.set(tensors.metadata());
            }
            state.loaded(Long.parseLong(tensors.metadata().getOrDefault("version", "")),
                    Long.parseLong(tensors.metadata().getOrDefault("versions", "")));
        } catch (NumberFormatException e) {
            throw new IOException(file + ": expected numbers for steps, version, versions and the loss scale in its metadata", e);
        }
    }

    private static void vector(SafeTensors tensors, Path file, String name, long length, Tensor into, Shard shard) throws IOException {
        final SafeTensors.Entry entry = tensors.entry(name);
        if (!Arrays.equals(entry.shape(), new long[] {length})) {
            throw new IOException(file + ": " + name + ": expected shape [" + length + "], given " + Arrays.toString(entry.shape()));
        }
        read(tensors, entry, shard == null ? 0 : shard.from, into.numel(), (from, chunk) -> into.narrow(0, from, chunk.numel()).copy_(chunk));
    }
}
