package org.teamtr.model;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.Map;
import java.util.TreeSet;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Reads trained adapters with the JDK alone, sharing nothing with the program that wrote them: {@code java AdapterReader.java BASE
 * ADAPTER}, a model folder and a folder in PEFT's layout. Every adapter has to fit a weight of the base, and to move it.
 */
public final class AdapterReader {
    private static final Pattern TENSOR = Pattern.compile(
            "\"([^\"]+)\":\\{\"dtype\":\"(\\w+)\",\"shape\":\\[([0-9,]*)],\"data_offsets\":\\[([0-9]+),([0-9]+)]}");

    private record Tensor(String dtype, int[] shape, ByteBuffer data) {
        double at(int i) {
            return dtype.equals("F32") ? data.getFloat(4 * i) : Float.intBitsToFloat(data.getShort(2 * i) << 16); // BF16
        }
    }

    private AdapterReader() {
    }

    public static void main(String[] args) throws IOException {
        final Map<String, Tensor> base = read(Path.of(args[0], "model.safetensors"));
        final Map<String, Tensor> adapters = read(Path.of(args[1], "adapter_model.safetensors"));
        final String config = Files.readString(Path.of(args[1], "adapter_config.json"));
        final int rank = (int) number(config, "r");
        final double scale = number(config, "lora_alpha") / rank;
        final TreeSet<String> layers = new TreeSet<>();
        double largest = 0;
        for (Map.Entry<String, Tensor> entry : adapters.entrySet()) {
            final Matcher name = Pattern.compile("base_model\\.model\\.(.*)\\.lora_A\\.weight").matcher(entry.getKey());
            if (!name.matches()) {
                require(entry.getKey().endsWith(".lora_B.weight"), entry.getKey());
                continue;
            }
            final Tensor a = entry.getValue();
            final Tensor b = adapters.get(entry.getKey().replace("lora_A", "lora_B"));
            final Tensor w = base.get(name.group(1) + ".weight");
            require(w != null && b != null && a.shape[0] == rank && b.shape[1] == rank && a.shape[1] == w.shape[1]
                    && b.shape[0] == w.shape[0], entry.getKey() + " fits no weight of the base");
            double moved = 0;
            for (int o = 0; o < w.shape[0]; o++) {
                for (int i = 0; i < w.shape[1]; i++) {
                    double delta = 0;
                    for (int r = 0; r < rank; r++) {
                        delta += b.at(o * rank + r) * a.at(r * w.shape[1] + i);
                    }
                    final double merged = w.at(o * w.shape[1] + i) + scale * delta;
                    require(Double.isFinite(merged), entry.getKey() + " is not finite");
                    moved = Math.max(moved, Math.abs(scale * delta));
                }
            }
            require(moved > 0, entry.getKey() + " moves nothing");
            largest = Math.max(largest, moved);
            layers.add(name.group(1));
        }
        require(2 * layers.size() == adapters.size(), "expected pairs of lora_A and lora_B, given " + adapters.keySet());
        System.out.printf(Locale.ROOT, "%d adapters of rank %d, which move weights by up to %.2g%n", layers.size(), rank, largest);
    }

    private static void require(boolean holds, String otherwise) {
        if (!holds) {
            throw new IllegalStateException(otherwise);
        }
    }

    private static double number(String json, String key) {
        final Matcher m = Pattern.compile("\"" + key + "\"\\s*:\\s*([0-9.eE+-]+)").matcher(json);
        require(m.find(), "no " + key + " in " + json);
        return Double.parseDouble(m.group(1));
    }

    private static Map<String, Tensor> read(Path file) throws IOException {
        final ByteBuffer bytes = ByteBuffer.wrap(Files.readAllBytes(file)).order(ByteOrder.LITTLE_ENDIAN);
        final int length = Math.toIntExact(bytes.getLong(0));
        final String header = new String(bytes.array(), 8, length, StandardCharsets.UTF_8).replaceAll("\\s", "");
        final Map<String, Tensor> tensors = new LinkedHashMap<>();
        for (Matcher m = TENSOR.matcher(header); m.find();) {
            final int from = 8 + length + Integer.parseInt(m.group(4));
            final int to = 8 + length + Integer.parseInt(m.group(5));
            tensors.put(m.group(1), new Tensor(m.group(2), Arrays.stream(m.group(3).split(",")).mapToInt(Integer::parseInt).toArray(),
                    bytes.slice(from, to - from).order(ByteOrder.LITTLE_ENDIAN)));
        }
        require(!tensors.isEmpty(), file + ": no tensors in " + header);
        return tensors;
    }
}
