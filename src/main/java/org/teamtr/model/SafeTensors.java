package org.teamtr.model;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.core.StreamReadFeature;
import com.fasterxml.jackson.databind.util.ByteBufferBackedInputStream;
import java.io.FileNotFoundException;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.Reader;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/**
 * Tensors in the safetensors format: one file, or a model folder with {@code model.safetensors} or with shards and their
 * {@code model.safetensors.index.json}.
 *
 * <p>A file is not trusted. Opening it checks the whole header; anything wrong is an {@link IOException} that names the file, the
 * tensor and the numbers. Data is read only when it is requested, by any number of threads at once.
 */
public final class SafeTensors implements AutoCloseable {
    /** The file that holds a model which is in one piece. */
    public static final String SINGLE = "model.safetensors";
    /** The file that says which tensor of a model is in which shard. */
    public static final String INDEX = "model.safetensors.index.json";

    static final String METADATA = "__metadata__";
    static final int MAX_HEADER = 100_000_000; // that of the format's own reader

    private static final JsonFactory JSON = JsonFactory.builder().enable(StreamReadFeature.STRICT_DUPLICATE_DETECTION).build();

    /** Types that can be read. Names are those of the format, except that of booleans, which are a byte each. */
    public enum DType {
        /** fp64. */
        F64(8),
        /** fp32. */
        F32(4),
        /** fp16. */
        F16(2),
        /** bfloat16. */
        BF16(2),
        /** Signed, 64 bits. */
        I64(8),
        /** Signed, 32 bits. */
        I32(4),
        /** Signed, 16 bits. */
        I16(2),
        /** Signed, 8 bits. */
        I8(1),
        /** Unsigned, 8 bits. */
        U8(1),
        /** 0 or 1 in a byte. */
        BOOL(1);

        private final int bytes;

        DType(int bytes) {
            this.bytes = bytes;
        }

        /** {@return bytes of one element} */
        public int bytes() {
            return bytes;
        }

        private static DType of(String name) {
            for (DType d : values()) {
                if (d.name().equals(name)) {
                    return d;
                }
            }
            return null;
        }
    }

    /**
     * Location, type and shape of a tensor.
     *
     * @param dtype as the file has it, also one that is not among {@link DType}
     * @param shape outermost first; empty for a scalar
     * @param file that holds it
     * @param offset of its first byte from the file's beginning
     * @param bytes in all
     */
    public record Entry(String name, String dtype, long[] shape, Path file, long offset, long bytes) {
        /**
         * {@return its type}
         *
         * @throws IOException if it is not one of those that can be read
         */
        public DType type() throws IOException {
            final DType d = DType.of(dtype);
            if (d == null) {
                throw new IOException(file + ": " + name + ": expected a dtype among " + Arrays.toString(DType.values()) + ", given "
                        + dtype);
            }
            return d;
        }
    }

    /** A file with its header read: tensors in the order of their data. */
    private record Shard(FileChannel channel, Map<String, Entry> entries, Map<String, String> metadata) {
    }

    private final Map<Path, Shard> shards = new LinkedHashMap<>();
    private final Map<String, Entry> entries = new LinkedHashMap<>();

    private SafeTensors() {
    }

    /**
     * Opens a file, or a model folder.
     *
     * @throws IOException if something is missing or wrong, naming it
     */
    public static SafeTensors open(Path path) throws IOException {
        final SafeTensors tensors = new SafeTensors();
        try {
            if (!Files.isDirectory(path)) {
                tensors.entries.putAll(tensors.shard(path).entries());
            } else if (Files.exists(path.resolve(SINGLE))) {
                tensors.entries.putAll(tensors.shard(path.resolve(SINGLE)).entries());
            } else if (Files.exists(path.resolve(INDEX))) {
                tensors.openShards(path);
            } else {
                throw new FileNotFoundException(path + ": expected " + SINGLE + " or " + INDEX + " in it");
            }
            return tensors;
        } catch (IOException | RuntimeException | Error e) {
            tensors.close();
            throw e;
        }
    }

    /** {@return all tensors by name; unmodifiable} */
    public Map<String, Entry> entries() {
        return Collections.unmodifiableMap(entries);
    }

    /** {@return the free-form text in the header, for example {@code format=pt}; that of the first shard; may be empty} */
    public Map<String, String> metadata() {
        return shards.isEmpty() ? Map.of() : Collections.unmodifiableMap(shards.values().iterator().next().metadata());
    }

    /**
     * {@return what is known of a tensor}
     *
     * @throws IOException if there is none of this name, or its type cannot be read
     */
    public Entry entry(String name) throws IOException {
        final Entry entry = entries.get(name);
        if (entry == null) {
            throw new IOException(String.join(", ", shards.keySet().stream().map(Path::toString).toList()) + ": no tensor " + name);
        }
        entry.type();
        return entry;
    }

    /**
     * Fills a buffer with bytes of a tensor, little-endian, from its position to its limit. A tensor of more than 2 GiB is read by
     * several calls. A direct buffer is filled without another copy.
     *
     * @param from the first byte wanted, counted from the tensor's beginning
     * @throws IOException if there is no such tensor or its file has become shorter
     * @throws IllegalArgumentException if the tensor has fewer bytes
     */
    public void read(String name, long from, ByteBuffer destination) throws IOException {
        final Entry entry = entry(name);
        checkRange(entry, from, destination.remaining());
        final FileChannel channel = shards.get(entry.file()).channel();
        for (long at = entry.offset() + from; destination.hasRemaining();) {
            final int n = channel.read(destination, at);
            if (n < 0) {
                throw new IOException(entry.file() + ": " + name + ": expected " + destination.remaining() + " more bytes at " + at
                        + ", but the file ends there; it was longer when it was opened");
            }
            at += n;
        }
    }

    /**
     * Maps bytes of a tensor into memory, which costs nothing until they are read.
     *
     * @param from the first byte wanted, counted from the tensor's beginning
     * @return read-only, direct, little-endian; valid after {@link #close}, but not if the file is cut
     * @throws IOException if there is no such tensor or it cannot be mapped
     * @throws IllegalArgumentException if the tensor has fewer bytes
     */
    public ByteBuffer map(String name, long from, int bytes) throws IOException {
        final Entry entry = entry(name);
        checkRange(entry, from, bytes);
        return shards.get(entry.file()).channel().map(FileChannel.MapMode.READ_ONLY, entry.offset() + from, bytes)
                .order(ByteOrder.LITTLE_ENDIAN);
    }

    /** Closes the files. */
    @Override
    public void close() throws IOException {
        for (Shard shard : shards.values()) {
            shard.channel().close();
        }
    }

    private static void checkRange(Entry entry, long from, int bytes) {
        if (from < 0 || bytes < 0 || from > entry.bytes() - bytes) {
            throw new IllegalArgumentException(entry.name() + ": expected a range within 0 to " + entry.bytes() + ", given " + bytes
                    + " bytes from " + from + " on");
        }
    }

    private void openShards(Path folder) throws IOException {
        final Path index = folder.resolve(INDEX);
        for (Map.Entry<String, String> e : weightMap(index).entrySet()) {
            final String name = e.getKey();
            final String file = e.getValue();
            // A plain name: with a separator or ".." it could lead anywhere. Symbolic links are the folder owner's own choice.
            if (file.isEmpty() || file.equals(".") || file.equals("..") || file.chars().anyMatch(c -> c == '/' || c == '\\' || c == 0)) {
                throw new IOException(index + ": " + name + ": expected the name of a file in the same folder, given \"" + file + "\"");
            }
            final Path path = folder.resolve(file);
            if (!Files.exists(path)) {
                throw new FileNotFoundException(index + ": " + name + ": there is no shard " + path);
            }
            final Entry entry = shard(path).entries().get(name);
            if (entry == null) {
                throw new IOException(index + ": " + name + ": shard " + path + " has no such tensor");
            }
            entries.put(name, entry);
        }
    }

    private static Map<String, String> weightMap(Path index) throws IOException {
        if (Files.size(index) > MAX_HEADER) {
            throw new IOException(index + ": expected at most " + MAX_HEADER + " bytes, given " + Files.size(index));
        }
        Map<String, String> map = null;
        try (InputStream in = Files.newInputStream(index); JsonParser json = JSON.createParser(strict(in))) {
            expect(json, json.nextToken(), JsonToken.START_OBJECT, "the index");
            while (json.nextToken() == JsonToken.FIELD_NAME) {
                final boolean weights = json.currentName().equals("weight_map");
                json.nextToken();
                if (weights) {
                    map = strings(json, "weight_map");
                } else {
                    json.skipChildren();
                }
            }
            end(json);
        } catch (JsonProcessingException | CharacterCodingException e) {
            throw new IOException(index + ": " + describe(e), e);
        }
        if (map == null) {
            throw new IOException(index + ": expected a weight_map, which names the file of every tensor");
        }
        return map;
    }

    private Shard shard(Path file) throws IOException {
        final Shard known = shards.get(file);
        if (known != null) {
            return known;
        }
        if (!Files.exists(file)) {
            throw new FileNotFoundException(file + ": there is no such file");
        }
        if (!Files.isRegularFile(file)) {
            throw new IOException(file + ": not a regular file");
        }
        LfsPointer.refuse(file);
        final FileChannel channel = FileChannel.open(file, StandardOpenOption.READ);
        try {
            final Shard shard = header(file, channel);
            shards.put(file, shard);
            return shard;
        } catch (IOException | RuntimeException | Error e) {
            channel.close();
            throw e;
        }
    }

    private static Shard header(Path file, FileChannel channel) throws IOException {
        final long size = channel.size();
        if (size < Long.BYTES) {
            throw new IOException(file + ": expected at least 8 bytes, which give the header's length, given " + size);
        }
        final ByteBuffer prefix = ByteBuffer.allocate(Long.BYTES).order(ByteOrder.LITTLE_ENDIAN);
        for (int n = 0; n >= 0 && prefix.hasRemaining();) {
            n = channel.read(prefix, prefix.position());
        }
        final long length = prefix.getLong(0);
        if (length < 2 || length > Math.min(MAX_HEADER, size - Long.BYTES)) {
            throw new IOException(file + ": expected a header of 2 to " + Math.min(MAX_HEADER, size - Long.BYTES) + " bytes in a file of "
                    + size + ", given " + Long.toUnsignedString(length));
        }
        final ByteBuffer header = channel.map(FileChannel.MapMode.READ_ONLY, Long.BYTES, length);
        if (header.get(0) != '{') {
            throw new IOException(file + ": expected a header that begins with {, given byte " + (header.get(0) & 0xFF));
        }
        final long data = Long.BYTES + length;
        final List<Entry> found = new ArrayList<>();
        Map<String, String> metadata = Map.of();
        try (JsonParser json = JSON.createParser(strict(new ByteBufferBackedInputStream(header)))) {
            json.nextToken();
            while (json.nextToken() == JsonToken.FIELD_NAME) {
                final String name = json.currentName();
                json.nextToken();
                if (name.equals(METADATA)) {
                    metadata = strings(json, METADATA);
                } else {
                    found.add(tensor(json, name, file, data, size));
                }
            }
            end(json);
        } catch (JsonProcessingException | CharacterCodingException e) {
            throw new IOException(file + ": header: " + describe(e), e);
        }
        // The data has no holes and no byte belongs to two tensors; empty ones come before what begins where they are.
        found.sort(Comparator.comparingLong(Entry::offset).thenComparingLong(Entry::bytes));
        final Map<String, Entry> entries = new LinkedHashMap<>();
        long at = data;
        for (Entry entry : found) {
            if (entry.offset() != at) {
                throw new IOException(file + ": " + entry.name() + ": expected data from " + (at - data) + " on, where the tensor before it"
                        + " ends, given " + (entry.offset() - data));
            }
            at += entry.bytes();
            entries.put(entry.name(), entry);
        }
        if (at != size) {
            throw new IOException(file + ": expected " + at + " bytes by the header, given " + size);
        }
        return new Shard(channel, entries, metadata);
    }

    private static Entry tensor(JsonParser json, String name, Path file, long data, long size) throws IOException {
        expect(json, json.currentToken(), JsonToken.START_OBJECT, name);
        String dtype = null;
        long[] shape = null;
        long[] offsets = null;
        while (json.nextToken() == JsonToken.FIELD_NAME) {
            final String field = json.currentName();
            final JsonToken value = json.nextToken();
            switch (field) {
                case "dtype" -> {
                    expect(json, value, JsonToken.VALUE_STRING, name + ": dtype");
                    dtype = json.getText();
                }
                case "shape" -> shape = numbers(json, name + ": shape");
                case "data_offsets" -> offsets = numbers(json, name + ": data_offsets");
                default -> throw new IOException(file + ": " + name + ": expected dtype, shape and data_offsets, given " + field);
            }
        }
        if (dtype == null || shape == null || offsets == null) {
            throw new IOException(file + ": " + name + ": expected dtype, shape and data_offsets, missing "
                    + (dtype == null ? "dtype" : shape == null ? "shape" : "data_offsets"));
        }
        if (offsets.length != 2 || offsets[0] > offsets[1] || offsets[1] > size - data) {
            throw new IOException(file + ": " + name + ": expected data_offsets [begin, end] within 0 to " + (size - data) + ", given "
                    + Arrays.toString(offsets));
        }
        final long bytes = offsets[1] - offsets[0];
        final DType known = DType.of(dtype);
        if (known != null) {
            long expected;
            try {
                expected = bytes(known, shape);
            } catch (ArithmeticException e) {
                throw new IOException(file + ": " + name + ": expected at most 2^63 - 1 bytes, given shape " + Arrays.toString(shape)
                        + " of " + dtype, e);
            }
            if (expected != bytes) {
                throw new IOException(file + ": " + name + ": expected " + expected + " bytes for shape " + Arrays.toString(shape) + " of "
                        + dtype + ", given data_offsets " + Arrays.toString(offsets) + ", which are " + bytes);
            }
        }
        return new Entry(name, dtype, shape, file, data + offsets[0], bytes);
    }

    /** {@return bytes of a tensor; throws ArithmeticException if a long cannot hold them} */
    static long bytes(DType dtype, long[] shape) {
        long n = dtype.bytes();
        boolean empty = false;
        for (long d : shape) {
            empty |= d == 0;
            n = d == 0 ? n : Math.multiplyExact(n, d);
        }
        return empty ? 0 : n;
    }

    private static long[] numbers(JsonParser json, String what) throws IOException {
        expect(json, json.currentToken(), JsonToken.START_ARRAY, what);
        long[] numbers = new long[4];
        int n = 0;
        while (json.nextToken() != JsonToken.END_ARRAY) {
            expect(json, json.currentToken(), JsonToken.VALUE_NUMBER_INT, what);
            if (n == numbers.length) {
                numbers = Arrays.copyOf(numbers, 2 * n);
            }
            numbers[n] = json.getLongValue(); // an InputCoercionException, hence a JsonProcessingException, if it is too large
            if (numbers[n] < 0) {
                throw new BadJson(json, what + ": expected 0 or more, given " + numbers[n]);
            }
            n++;
        }
        return Arrays.copyOf(numbers, n);
    }

    private static Map<String, String> strings(JsonParser json, String what) throws IOException {
        expect(json, json.currentToken(), JsonToken.START_OBJECT, what);
        final Map<String, String> map = new TreeMap<>();
        while (json.nextToken() == JsonToken.FIELD_NAME) {
            final String name = json.currentName();
            expect(json, json.nextToken(), JsonToken.VALUE_STRING, what + ": " + name);
            map.put(name, json.getText());
        }
        return map;
    }

    private static void expect(JsonParser json, JsonToken given, JsonToken expected, String what) throws IOException {
        if (given != expected) {
            throw new BadJson(json, what + ": expected " + expected + ", given " + given);
        }
    }

    private static void end(JsonParser json) throws IOException {
        final JsonToken more = json.nextToken();
        if (more != null) {
            throw new BadJson(json, "expected nothing after the object, given " + more);
        }
    }

    /** Bytes that are not UTF-8 are an error, not replaced. A parser of bytes would also guess UTF-16 or UTF-32. */
    private static Reader strict(InputStream in) {
        return new InputStreamReader(in, StandardCharsets.UTF_8.newDecoder());
    }

    private static String describe(IOException e) {
        return e instanceof CharacterCodingException ? "not UTF-8" : e.getMessage();
    }

    /** JSON of another shape than the format's. */
    private static final class BadJson extends JsonProcessingException {
        private static final long serialVersionUID = 1;

        BadJson(JsonParser json, String message) {
            super(message, json.currentLocation());
        }
    }
}
