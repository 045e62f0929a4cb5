package org.teamtr.torch;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.FileNotFoundException;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.WritableByteChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
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

/** Weights and optimiser state between vectors and safetensors files. */
final class ModelFiles {
    static final String CONFIG = "config.json";
    static final String ADAPTER = "adapter_model.safetensors";
    static final String ADAPTER_CONFIG = "adapter_config.json";
    /** What other programs do not need: the f32 weights below rounded ones, AdamW's moments, counters. */
    static final String TRAINING = "training.safetensors";
    /** How PEFT calls the model inside its own. */
    static final String ADAPTER_PREFIX = "base_model.model.";
    private static final long SHARD = 5_000_000_000L;
    private static final int CHUNK = 256 << 20;

    private ModelFiles() {
    }

    /**
     * Reads a model's weights, each in any of f32, f16 and bf16.
     *
     * @throws IOException if a tensor is missing, of another shape, or there is one that this decoder would leave out
     */
    static void readModel(Path folder, ModelConfig config, Weights weights) throws IOException {
        try (SafeTensors tensors = SafeTensors.open(folder)) {
            read(tensors, "", weights,
                    name -> name.endsWith("rotary_emb.inv_freq") || config.tied() && name.equals("lm_head.weight"));
        }
    }

    private static void read(SafeTensors tensors, String prefix, Weights weights, Predicate<String> ignored) throws IOException {
        final TreeMap<String, SafeTensors.Entry> unknown = new TreeMap<>(tensors.entries());
        unknown.keySet().removeIf(ignored);
        for (Map.Entry<String, Layout.Part> part : weights.layout.parts.entrySet()) {
            final SafeTensors.Entry entry = tensors.entry(prefix + part.getKey());
            unknown.remove(entry.name());
            if (!Arrays.equals(entry.shape(), part.getValue().shape())) {
                throw new IOException(entry.file() + ": " + entry.name() + ": expected shape " + Arrays.toString(part.getValue().shape())
                        + ", given " + Arrays.toString(entry.shape()));
            }
            try (PointerScope scope = new PointerScope()) {
                read(tensors, entry, weights.stored().narrow(0, part.getValue().offset(), part.getValue().length()));
            }
        }
        if (!unknown.isEmpty()) {
            throw new IOException(unknown.firstEntry().getValue().file()
                    + ": expected the tensors of the model that is described beside it, given also " + unknown.keySet());
        }
        weights.refresh();
    }

    /** Fills a vector, of any device, chunk by chunk. */
    private static void read(SafeTensors tensors, SafeTensors.Entry entry, Tensor into) throws IOException {
        final torch.ScalarType dtype = switch (entry.type()) {
            case F32 -> torch.ScalarType.Float;
            case F16 -> torch.ScalarType.Half;
            case BF16 -> torch.ScalarType.BFloat16;
            default -> throw new IOException(entry.file() + ": " + entry.name() + ": expected F32, F16 or BF16, given " + entry.dtype());
        };
        final int width = entry.type().bytes();
        final long length = entry.bytes() / width;
        for (long from = 0; from < length; from += CHUNK / width) {
            final long n = Math.min(CHUNK / width, length - from);
            try (NoGradGuard guard = new NoGradGuard(); PointerScope scope = new PointerScope(); Device cpu = new Device("cpu")) {
                final Tensor chunk = Decoder.empty(new long[] {n}, dtype, cpu);
                tensors.read(entry.name(), from * width, bytes(chunk));
                into.narrow(0, from, n).copy_(chunk);
            }
        }
    }

    /** The memory of a contiguous tensor on the CPU, of less than 2 GiB. */
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
                out -> write(out, weights.compute().get(name)))));
        return tensors;
    }

    private static SafeTensorsWriter.Tensor vector(String name, Tensor vector) {
        return new SafeTensorsWriter.Tensor(name, SafeTensors.DType.F32, new long[] {vector.numel()}, out -> write(out, vector));
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

    static void writeAdapter(Path folder, Weights adapter, TorchPolicy.Settings settings) throws IOException {
        SafeTensorsWriter.write(folder.resolve(ADAPTER), tensors(ADAPTER_PREFIX, adapter), Map.of("format", "pt"));
        final ObjectMapper mapper = new ObjectMapper();
        final ObjectNode json = mapper.createObjectNode();
        json.put("peft_type", "LORA").put("task_type", "CAUSAL_LM").put("r", settings.loraRank()).put("lora_alpha", settings.loraAlpha())
                .put("lora_dropout", 0.0).put("bias", "none").put("fan_in_fan_out", false).put("inference_mode", true);
        settings.loraTargets().forEach(json.putArray("target_modules")::add);
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
        if (json.path("r").asInt() != settings.loraRank() || json.path("lora_alpha").asDouble() != settings.loraAlpha()) {
            throw new IOException(file + ": expected r = " + settings.loraRank() + " and lora_alpha = " + settings.loraAlpha() + ", given "
                    + json.path("r") + " and " + json.path("lora_alpha"));
        }
        try (SafeTensors tensors = SafeTensors.open(folder.resolve(ADAPTER))) {
            read(tensors, ADAPTER_PREFIX, adapter, name -> false);
        }
    }

    /** @param lossScale null where there is none */
    static void writeTraining(Path folder, Weights weights, AdamW optimiser, LossScale lossScale, long version, long versions)
            throws IOException {
        final List<SafeTensorsWriter.Tensor> vectors = new ArrayList<>();
        vectors.add(vector("exp_avg", optimiser.mean));
        vectors.add(vector("exp_avg_sq", optimiser.square));
        if (weights.dtype != torch.ScalarType.Float) {
            vectors.add(vector("master", weights.master));
        }
        final Map<String, String> numbers = new TreeMap<>(Map.of("steps", Long.toString(optimiser.steps),
                "version", Long.toString(version), "versions", Long.toString(versions)));
        if (lossScale != null) {
            numbers.putAll(lossScale.state());
        }
        SafeTensorsWriter.write(folder.resolve(TRAINING), vectors, numbers);
    }

    /**
     * Returns version and versions.
     *
     * @param lossScale null where there is none
     */
    static long[] readTraining(Path folder, Weights weights, AdamW optimiser, LossScale lossScale) throws IOException {
        final Path file = folder.resolve(TRAINING);
        try (SafeTensors tensors = SafeTensors.open(file)) {
            vector(tensors, file, "exp_avg", optimiser.mean);
            vector(tensors, file, "exp_avg_sq", optimiser.square);
            if (weights.dtype != torch.ScalarType.Float) {
                vector(tensors, file, "master", weights.master);
                weights.refresh();
            }
            optimiser.steps = Long.parseLong(tensors.metadata().getOrDefault("steps", ""));
            if (lossScale != null && tensors.metadata().containsKey(LossScale.SCALE)) { // not of weights that were f32 or bf16 then
                lossScale.set(tensors.metadata());
            }
            return new long[] {Long.parseLong(tensors.metadata().getOrDefault("version", "")),
                Long.parseLong(tensors.metadata().getOrDefault("versions", ""))};
        } catch (NumberFormatException e) {
            throw new IOException(file + ": expected numbers for steps, version, versions and the loss scale in its metadata", e);
        }
    }

    private static void vector(SafeTensors tensors, Path file, String name, Tensor into) throws IOException {
        final SafeTensors.Entry entry = tensors.entry(name);
        if (!Arrays.equals(entry.shape(), new long[] {into.numel()})) {
            throw new IOException(file + ": " + name + ": expected shape [" + into.numel() + "], given " + Arrays.toString(entry.shape()));
        }
        read(tensors, entry, into);
    }
}
