package org.teamtr.model;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.SerializationFeature;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.ClosedChannelException;
import java.nio.channels.FileChannel;
import java.nio.channels.WritableByteChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;

/**
 * Writes tensors in the safetensors format. The same tensors and metadata give the same bytes, in whatever order they are given.
 * Files are on the disk when a call returns.
 */
public final class SafeTensorsWriter {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final int CHUNK = 8 << 20; // the JDK copies a heap buffer to a direct one of the same size before it writes

    private SafeTensorsWriter() {
    }

    /** Writes the bytes of a tensor, little-endian, in any number of pieces. */
    @FunctionalInterface
    public interface Data {
        /** Called once, when the tensor's turn comes. */
        void writeTo(WritableByteChannel out) throws IOException;
    }

    /**
     * A tensor to be written.
     *
     * @param shape outermost first; empty for a scalar
     */
    public record Tensor(String name, SafeTensors.DType dtype, long[] shape, Data data) {
        /** @throws IllegalArgumentException if the name is that of the metadata, or the shape negative or too large */
        public Tensor {
            if (name.equals(SafeTensors.METADATA)) {
                throw new IllegalArgumentException("name: " + name + " is not one that a tensor can have");
            }
            if (Arrays.stream(shape).anyMatch(d -> d < 0)) {
                throw new IllegalArgumentException(name + ": expected a shape of 0 or more, given " + Arrays.toString(shape));
            }
            try {
                SafeTensors.bytes(dtype, shape);
            } catch (ArithmeticException e) {
                throw new IllegalArgumentException(name + ": expected at most 2^63 - 1 bytes, given shape " + Arrays.toString(shape)
                        + " of " + dtype, e);
            }
        }

        long bytes() {
            return SafeTensors.bytes(dtype, shape);
        }
    }

    /**
     * Writes one file, replacing any that is there.
     *
     * @param metadata free-form text; Hugging Face's libraries expect {@code format=pt}
     * @throws IOException if it cannot be written, or a tensor writes another number of bytes than its shape says
     * @throws IllegalArgumentException if two tensors have the same name
     */
    public static void write(Path file, Collection<Tensor> tensors, Map<String, String> metadata) throws IOException {
        byName(tensors);
        final List<Tensor> order = order(tensors);
        final Map<String, Object> header = new LinkedHashMap<>();
        if (!metadata.isEmpty()) {
            header.put(SafeTensors.METADATA, new TreeMap<>(metadata));
        }
        long at = 0;
        for (Tensor t : order) {
            final Map<String, Object> entry = new LinkedHashMap<>();
            entry.put("dtype", t.dtype().name());
            entry.put("shape", t.shape());
            entry.put("data_offsets", new long[] {at, at = Math.addExact(at, t.bytes())});
            header.put(t.name(), entry);
        }
        final byte[] json = JSON.writeValueAsBytes(header);
        final int length = (json.length + 7) / 8 * 8;
        if (length > SafeTensors.MAX_HEADER) {
            throw new IOException(file + ": expected a header of at most " + SafeTensors.MAX_HEADER + " bytes, given " + length);
        }
        final ByteBuffer head = ByteBuffer.allocate(Long.BYTES + length).order(ByteOrder.LITTLE_ENDIAN).putLong(length).put(json);
        while (head.hasRemaining()) {
            head.put((byte) ' ');
        }
        try (FileChannel channel = FileChannel.open(file, StandardOpenOption.CREATE, StandardOpenOption.TRUNCATE_EXISTING,
                StandardOpenOption.WRITE)) {
            new Counted(channel, file + ": header", head.capacity()).write(head.flip());
            for (Tensor t : order) {
                final Counted out = new Counted(channel, file + ": " + t.name(), t.bytes());
                t.data().writeTo(out);
                out.close();
                if (out.left != 0) {
                    throw new IOException(out.what + ": expected " + t.bytes() + " bytes, given " + (t.bytes() - out.left));
                }
            }
            channel.force(true);
        }
    }

    /** Large elements first: then every tensor begins at a multiple of its element. */
    private static List<Tensor> order(Collection<Tensor> tensors) {
        final List<Tensor> order = new ArrayList<>(tensors);
        order.sort(Comparator.comparingInt((Tensor t) -> -t.dtype().bytes()).thenComparing(Tensor::name));
        return order;
    }

    private static List<List<Tensor>> files(Collection<Tensor> tensors, long maxShardBytes) {
        final List<List<Tensor>> files = new ArrayList<>();
        long room = 0;
        for (Tensor t : byName(tensors).values()) {
            if (files.isEmpty() || t.bytes() > room) {
                files.add(new ArrayList<>());
                room = maxShardBytes;
            }
            files.get(files.size() - 1).add(t);
            room -= t.bytes();
        }
        return files;
    }

    /**
     * {@return tensors in the order in which their data is written} by {@link #writeModel} with this limit, or by {@link #write} with
     * {@code Long.MAX_VALUE}. Processes that each hold a part of the data follow the one that writes in this order.
     */
    public static List<Tensor> order(Collection<Tensor> tensors, long maxShardBytes) {
        return files(tensors, maxShardBytes).stream().flatMap(file -> order(file).stream()).toList();
    }

    /**
     * Writes a model into a folder: {@code model.safetensors}, or shards with their index if it is larger than one shard may be.
     * A model that is there is replaced.
     *
     * @param maxShardBytes of tensor data in a file; a tensor that is larger has a file of its own
     * @throws IOException as {@link #write} does
     * @throws IllegalArgumentException as {@link #write} does
     */
    public static void writeModel(Path folder, Collection<Tensor> tensors, Map<String, String> metadata, long maxShardBytes)
            throws IOException {
        final List<List<Tensor>> shards = files(tensors, maxShardBytes);
        final long total = tensors.stream().mapToLong(Tensor::bytes).reduce(0, Math::addExact);
        // Readers look for the single file first, so one that is left over would hide the shards.
        Files.deleteIfExists(folder.resolve(SafeTensors.SINGLE));
        Files.deleteIfExists(folder.resolve(SafeTensors.INDEX));
        if (shards.size() <= 1) {
            write(folder.resolve(SafeTensors.SINGLE), tensors, metadata);
            return;
        }
        final Map<String, String> weightMap = new TreeMap<>();
        for (int i = 0; i < shards.size(); i++) {
            final String file = String.format(Locale.ROOT, "model-%05d-of-%05d.safetensors", i + 1, shards.size());
            write(folder.resolve(file), shards.get(i), metadata);
            shards.get(i).forEach(t -> weightMap.put(t.name(), file));
        }
        final Map<String, Object> index = new LinkedHashMap<>();
        index.put("metadata", Map.of("total_size", total));
        index.put("weight_map", weightMap);
        final byte[] json = JSON.writer(SerializationFeature.INDENT_OUTPUT).writeValueAsBytes(index);
        try (FileChannel channel = FileChannel.open(folder.resolve(SafeTensors.INDEX), StandardOpenOption.CREATE_NEW,
                StandardOpenOption.WRITE)) {
            new Counted(channel, SafeTensors.INDEX, json.length).write(ByteBuffer.wrap(json));
            channel.force(true);
        }
    }

    private static TreeMap<String, Tensor> byName(Collection<Tensor> tensors) {
        final TreeMap<String, Tensor> map = new TreeMap<>();
        for (Tensor t : tensors) {
            if (map.put(t.name(), t) != null) {
                throw new IllegalArgumentException("tensors: expected each name once, given " + t.name() + " twice");
            }
        }
        return map;
    }

    /** Takes exactly the bytes of one tensor, all of every buffer. */
    private static final class Counted implements WritableByteChannel {
        private final FileChannel channel;
        private final String what;
        private final long expected;
        private long left;
        private boolean open = true;

        Counted(FileChannel channel, String what, long bytes) {
            this.channel = channel;
            this.what = what;
            expected = bytes;
            left = bytes;
        }

        @Override
        public int write(ByteBuffer from) throws IOException {
            if (!open) {
                throw new ClosedChannelException();
            }
            final int n = from.remaining();
            if (n > left) {
                throw new IOException(what + ": expected " + expected + " bytes, given at least " + (expected - left + n));
            }
            final int limit = from.limit();
            while (from.position() < limit) {
                from.limit(from.position() + Math.min(CHUNK, limit - from.position()));
                channel.write(from);
            }
            left -= n;
            return n;
        }

        @Override
        public boolean isOpen() {
            return open;
        }

        @Override
        public void close() {
            open = false;
        }
    }
}
