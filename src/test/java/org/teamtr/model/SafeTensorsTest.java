package org.teamtr.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.teamtr.model.SafeTensors.DType;
import org.teamtr.model.SafeTensorsWriter.Tensor;

/** Against files made by hand, byte by byte, and the format's description. */
class SafeTensorsTest {
    @TempDir
    private Path folder;

    /** A file of this header, or what is meant to be one, and so many bytes 0, 1, 2, ... */
    private Path file(String name, byte[] header, int data) throws IOException {
        final ByteArrayOutputStream out = new ByteArrayOutputStream();
        out.write(ByteBuffer.allocate(8).order(ByteOrder.LITTLE_ENDIAN).putLong(header.length).array());
        out.write(header);
        for (int i = 0; i < data; i++) {
            out.write(i);
        }
        return Files.write(folder.resolve(name), out.toByteArray());
    }

    private Path file(String name, String header, int data) throws IOException {
        return file(name, header.getBytes(StandardCharsets.UTF_8), data);
    }

    private static String entry(String name, String dtype, String shape, int from, int to) {
        return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":[" + from + "," + to + "]}";
    }

    private static Tensor tensor(String name, DType dtype, byte[] bytes, long... shape) {
        return new Tensor(name, dtype, shape, out -> {
            // in two pieces, one of them direct
            final int half = bytes.length / 2;
            out.write(ByteBuffer.wrap(bytes, 0, half));
            out.write(ByteBuffer.allocateDirect(bytes.length - half).put(bytes, half, bytes.length - half).flip());
        });
    }

    private static byte[] bytes(int n, long seed) {
        final byte[] bytes = new byte[n];
        new Random(seed).nextBytes(bytes);
        return bytes;
    }

    private static byte[] read(SafeTensors tensors, String name) throws IOException {
        final ByteBuffer all = ByteBuffer.allocate((int) tensors.entry(name).bytes());
        tensors.read(name, 0, all);
        return all.array();
    }

    @Test
    void aFileMadeByHandIsRead() throws IOException {
        final Path file = file("x.safetensors", "{\"__metadata__\":{\"format\":\"pt\",\"ü\":\"\"}, " + entry("b.weight", "BF16", "[2,3]", 4, 16)
                + "," + entry("a", "F32", "[]", 0, 4) + "," + entry("none", "I64", "[3,0]", 16, 16) + "," + entry("8", "F8_E4M3", "[2]", 16, 18)
                + "}   ", 18);
        try (SafeTensors tensors = SafeTensors.open(file)) {
            assertEquals(Set.of("a", "b.weight", "none", "8"), tensors.entries().keySet());
            assertEquals(Map.of("format", "pt", "ü", ""), tensors.metadata());
            final SafeTensors.Entry b = tensors.entry("b.weight");
            assertEquals(DType.BF16, b.type());
            assertArrayEquals(new long[] {2, 3}, b.shape());
            assertEquals(12, b.bytes());
            assertEquals(Files.size(file) - 14, b.offset());
            assertArrayEquals(new byte[] {4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, read(tensors, "b.weight"));
            assertEquals(0x03020100, tensors.map("a", 0, 4).getInt());
            assertEquals(0, tensors.entry("none").bytes());
            final ByteBuffer part = ByteBuffer.allocateDirect(5);
            part.position(1).limit(4);
            tensors.read("b.weight", 7, part);
            assertEquals(ByteBuffer.wrap(new byte[] {0, 11, 12, 13, 0}), part.clear());
            assertTrue(tensors.map("b.weight", 6, 6).isReadOnly());
            assertEquals((byte) 10, tensors.map("b.weight", 6, 6).get(0));
            assertMessage("b.weight: expected a range within 0 to 12, given 6 bytes from 7 on",
                    assertThrows(IllegalArgumentException.class, () -> tensors.map("b.weight", 7, 6)));
            assertThrows(IllegalArgumentException.class, () -> tensors.read("b.weight", -1, part));
            assertThrows(IllegalArgumentException.class, () -> tensors.read("b.weight", Long.MAX_VALUE, part.clear()));
            assertMessage("x.safetensors: no tensor c", assertThrows(IOException.class, () -> tensors.entry("c")));
            assertMessage("8: expected a dtype among [F64, F32, F16, BF16, I64, I32, I16, I8, U8, BOOL], given F8_E4M3",
                    assertThrows(IOException.class, () -> tensors.read("8", 0, ByteBuffer.allocate(2))));
        }
    }

    private static void assertMessage(String expected, Exception e) {
        assertTrue(e.getMessage().contains(expected), e.getMessage());
    }

    @ParameterizedTest
    @CsvSource(delimiter = '|', textBlock = """
            {"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}} | a: expected 8 bytes for shape [2] of F32, given data_offsets [0, 4]
            {"a":{"dtype":"F32","shape":[1],"data_offsets":[0,12]}} | a: expected data_offsets [begin, end] within 0 to 8, given [0, 12]
            {"a":{"dtype":"F32","shape":[1],"data_offsets":[8,4]}} | a: expected data_offsets [begin, end] within 0 to 8, given [8, 4]
            {"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}} | a: data_offsets: expected 0 or more, given -4
            {"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}} | a: expected data from 0 on, where the tensor before it ends, given 4
            {"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}} | by the header, given
            {"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"I8","shape":[4],"data_offsets":[4,8]}} | b: expected data from 8 on
            {"a":{"dtype":"I8","shape":[3],"data_offsets":[0,3]},"b":{"dtype":"I8","shape":[4],"data_offsets":[4,8]}} | b: expected data from 3 on
            {"a":{"dtype":"F64","shape":[4294967296,4294967296],"data_offsets":[0,8]}} | a: expected at most 2^63 - 1 bytes, given shape [4294967296, 42
            {"a":{"dtype":"F64","shape":[4294967296,0,4294967296],"data_offsets":[0,8]}} | a: expected at most 2^63 - 1 bytes
            {"a":{"dtype":"I8","shape":[8],"data_offsets":[0,99999999999999999999]}} | header: Numeric value (99999999999999999999) out of range of long
            {"a":{"dtype":"I8","shape":[-8],"data_offsets":[0,8]}} | a: shape: expected 0 or more, given -8
            {"a":{"dtype":"I8","shape":[8.0],"data_offsets":[0,8]}} | a: shape: expected VALUE_NUMBER_INT, given VALUE_NUMBER_FLOAT
            {"a":{"dtype":"I8","shape":8,"data_offsets":[0,8]}} | a: shape: expected START_ARRAY
            {"a":{"dtype":8,"shape":[8],"data_offsets":[0,8]}} | a: dtype: expected VALUE_STRING
            {"a":{"dtype":"I8","shape":[8],"data_offsets":[0]}} | a: expected data_offsets [begin, end]
            {"a":{"dtype":"I8","shape":[8]}} | a: expected dtype, shape and data_offsets, missing data_offsets
            {"a":{"dtype":"I8","shape":[8],"data_offsets":[0,8],"x":1}} | a: expected dtype, shape and data_offsets, given x
            {"a":{"dtype":"I8","shape":[8],"data_offsets":[0,8]},"a":{"dtype":"I8","shape":[8],"data_offsets":[0,8]}} | header: Duplicate field 'a'
            {"a":{"dtype":"I8","dtype":"U8","shape":[8],"data_offsets":[0,8]}} | header: Duplicate field 'dtype'
            {"a":7} | a: expected START_OBJECT
            {"__metadata__":{"x":1}} | __metadata__: x: expected VALUE_STRING
            {"a":{"dtype":"I8","shape":[8],"data_offsets":[0,8]} | header: Unexpected end-of-input
            {"a":{"dtype":"I8","shape":[8],"data_offsets":[0,8]}} {} | header: expected nothing after the object
            [] | expected a header that begins with {, given byte 91
            {a} | header: Unexpected character
            {} | expected 10 bytes by the header, given 18
            """)
    void wrongHeadersAreErrors(String header, String expected) throws IOException {
        final Path file = file("bad.safetensors", header, 8);
        final IOException e = assertThrows(IOException.class, () -> SafeTensors.open(file));
        assertMessage(file + ": ", e);
        assertMessage(expected, e);
    }

    @Test
    void wrongLengthsAreErrors() throws IOException {
        for (long length : new long[] {-1, Long.MIN_VALUE, 0, 1, 3, 100_000_001}) {
            final Path file = Files.write(folder.resolve("bad"), ByteBuffer.allocate(10).order(ByteOrder.LITTLE_ENDIAN).putLong(length)
                    .put((byte) '{').put((byte) '}').array());
            assertMessage("expected a header of 2 to 2 bytes in a file of 10, given " + Long.toUnsignedString(length),
                    assertThrows(IOException.class, () -> SafeTensors.open(file)));
        }
        final Path small = Files.write(folder.resolve("bad"), new byte[7]);
        assertMessage("expected at least 8 bytes", assertThrows(IOException.class, () -> SafeTensors.open(small)));
        try (RandomAccessFile sparse = new RandomAccessFile(small.toFile(), "rw")) {
            sparse.write(ByteBuffer.allocate(8).order(ByteOrder.LITTLE_ENDIAN).putLong(100_000_001).array());
            sparse.setLength(1L << 32);
        }
        assertMessage("expected a header of 2 to 100000000 bytes in a file of 4294967296, given 100000001",
                assertThrows(IOException.class, () -> SafeTensors.open(small)));
    }

    @Test
    void otherEncodingsAndNestingAreErrors() throws IOException {
        final byte[] header = "{\"\u00e9\":7}".getBytes(StandardCharsets.ISO_8859_1);
        assertMessage("header: not UTF-8", assertThrows(IOException.class, () -> SafeTensors.open(file("latin", header, 0))));
        final byte[] utf16 = "{}".getBytes(StandardCharsets.UTF_16LE);
        assertThrows(IOException.class, () -> SafeTensors.open(file("utf16", utf16, 0)));
        assertThrows(IOException.class, () -> SafeTensors.open(file("deep", "{\"a\":" + "[".repeat(100_000), 0)));
        assertThrows(IOException.class, () -> SafeTensors.open(file("deep", "{\"a\":{\"shape\":[" + "[".repeat(100_000), 0)));
    }

    /** Any change of a good file's header is read or an IOException, and nothing else. */
    @Test
    void damagedFilesAreReadOrAnIoException() throws IOException {
        final Path good = folder.resolve("good");
        SafeTensorsWriter.write(good, List.of(tensor("a", DType.F32, bytes(24, 1), 2, 3), tensor("b", DType.I8, bytes(5, 2), 5)),
                Map.of("format", "pt"));
        final byte[] bytes = Files.readAllBytes(good);
        final Random random = new Random(3);
        int errors = 0;
        for (int i = 0; i < 600; i++) {
            final byte[] damaged = i % 3 == 0 ? Arrays.copyOf(bytes, random.nextInt(bytes.length)) : bytes.clone();
            for (int k = 0; i % 3 != 0 && k <= i % 4; k++) {
                damaged[random.nextInt(damaged.length - 29)] =
                        (byte) (i % 2 == 0 ? random.nextInt() : "0123456789[]{},:\"".charAt(random.nextInt(17)));
            }
            Files.write(good, damaged);
            try (SafeTensors tensors = SafeTensors.open(good)) {
                for (String name : tensors.entries().keySet()) {
                    read(tensors, name);
                }
            } catch (IOException e) {
                errors++;
            }
        }
        assertTrue(errors > 400, "errors: " + errors);
    }

    @Test
    void writtenIsReadBack() throws IOException {
        final List<Tensor> tensors = new ArrayList<>();
        for (DType dtype : DType.values()) {
            tensors.add(tensor("t." + dtype, dtype, bytes(6 * dtype.bytes(), dtype.ordinal()), 2, 3));
        }
        tensors.add(tensor("scalar", DType.F32, bytes(4, 77)));
        tensors.add(tensor("empty \"ü\"", DType.F32, new byte[0], 0, 5));
        final Path file = folder.resolve("x.safetensors");
        SafeTensorsWriter.write(file, tensors, Map.of("format", "pt", "a", "b"));
        try (SafeTensors read = SafeTensors.open(file)) {
            assertEquals(tensors.size(), read.entries().size());
            assertEquals(Map.of("format", "pt", "a", "b"), read.metadata());
            for (DType dtype : DType.values()) {
                assertArrayEquals(bytes(6 * dtype.bytes(), dtype.ordinal()), read(read, "t." + dtype));
                assertEquals(0, read.entry("t." + dtype).offset() % dtype.bytes());
            }
            assertArrayEquals(bytes(4, 77), read(read, "scalar"));
            assertArrayEquals(new long[] {0, 5}, read.entry("empty \"ü\"").shape());
        }
        final byte[] first = Files.readAllBytes(file);
        assertEquals(0, ByteBuffer.wrap(first).order(ByteOrder.LITTLE_ENDIAN).getLong() % 8);
        Collections.shuffle(tensors, new Random(1));
        SafeTensorsWriter.write(file, tensors, Map.of("a", "b", "format", "pt"));
        assertArrayEquals(first, Files.readAllBytes(file));
    }

    /** The whole file, as the format's description has it. */
    @Test
    void theBytesAreThoseOfTheFormat() throws IOException {
        final Path file = folder.resolve("x");
        SafeTensorsWriter.write(file, List.of(tensor("a", DType.U8, new byte[] {1, 2}, 2), tensor("w", DType.F32, new byte[] {9, 8, 7, 6}, 1)),
                Map.of("format", "pt"));
        final String header = "{\"__metadata__\":{\"format\":\"pt\"},\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
                + "\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[4,6]}}";
        final int padded = (header.length() + 7) / 8 * 8;
        final ByteBuffer expected = ByteBuffer.allocate(8 + padded + 6).order(ByteOrder.LITTLE_ENDIAN).putLong(padded)
                .put(String.format("%-" + padded + "s", header).getBytes(StandardCharsets.US_ASCII)).put(new byte[] {9, 8, 7, 6, 1, 2});
        assertArrayEquals(expected.array(), Files.readAllBytes(file));
    }

    @Test
    void wrongTensorsAreNotWritten() {
        final Path file = folder.resolve("x");
        assertMessage("a: expected 8 bytes, given 5", assertThrows(IOException.class,
                () -> SafeTensorsWriter.write(file, List.of(tensor("a", DType.F32, bytes(5, 1), 2)), Map.of())));
        assertMessage("a: expected 8 bytes, given at least 9", assertThrows(IOException.class,
                () -> SafeTensorsWriter.write(file, List.of(tensor("a", DType.F32, bytes(9, 1), 2)), Map.of())));
        assertMessage("given a twice", assertThrows(IllegalArgumentException.class, () -> SafeTensorsWriter.write(file,
                List.of(tensor("a", DType.I8, bytes(1, 1), 1), tensor("a", DType.I8, bytes(1, 1), 1)), Map.of())));
        assertThrows(IllegalArgumentException.class, () -> tensor("__metadata__", DType.I8, bytes(1, 1), 1));
        assertThrows(IllegalArgumentException.class, () -> tensor("a", DType.I8, bytes(1, 1), -1));
        assertThrows(IllegalArgumentException.class, () -> tensor("a", DType.I8, bytes(1, 1), 1L << 32, 1L << 32));
    }

    @Test
    void shardsAndTheirIndex() throws IOException {
        final List<Tensor> tensors = new ArrayList<>();
        for (int i = 0; i < 5; i++) {
            tensors.add(tensor("layer." + i, DType.F32, bytes(i == 2 ? 400 : 40, i), i == 2 ? 100 : 10));
        }
        SafeTensorsWriter.writeModel(folder, tensors, Map.of("format", "pt"), 1000);
        assertTrue(Files.exists(folder.resolve("model.safetensors")));
        SafeTensorsWriter.writeModel(folder, tensors, Map.of("format", "pt"), 100);
        assertFalse(Files.exists(folder.resolve("model.safetensors")));
        final var index = new ObjectMapper().readTree(
                folder.resolve("model.safetensors.index.json").toFile());
        assertEquals(560, index.get("metadata").get("total_size").asLong());
        assertEquals("model-00001-of-00003.safetensors", index.get("weight_map").get("layer.1").asText());
        assertEquals("model-00002-of-00003.safetensors", index.get("weight_map").get("layer.2").asText());
        assertEquals("model-00003-of-00003.safetensors", index.get("weight_map").get("layer.3").asText());
        try (SafeTensors read = SafeTensors.open(folder)) {
            assertEquals(5, read.entries().size());
            for (int i = 0; i < 5; i++) {
                assertArrayEquals(bytes(i == 2 ? 400 : 40, i), read(read, "layer." + i));
            }
        }
        Files.delete(folder.resolve("model-00002-of-00003.safetensors"));
        assertMessage("layer.2: there is no shard", assertThrows(IOException.class, () -> SafeTensors.open(folder)));
    }

    @ParameterizedTest
    @CsvSource(delimiter = '|', textBlock = """
            {"weight_map":{"a":"../x.safetensors"}} | a: expected the name of a file in the same folder, given "../x.safetensors"
            {"weight_map":{"a":"/etc/passwd"}} | a: expected the name of a file in the same folder
            {"weight_map":{"a":".."}} | a: expected the name of a file in the same folder
            {"weight_map":{"a":""}} | a: expected the name of a file in the same folder
            {"weight_map":{"a":"x\\u0000"}} | a: expected the name of a file in the same folder
            {"weight_map":{"a":"sub"}} | sub: not a regular file
            {"weight_map":{"a":"y.safetensors"}} | a: there is no shard
            {"weight_map":{"b":"x.safetensors"}} | b: shard
            {"weight_map":{"a":"x.safetensors","a":"x.safetensors"}} | Duplicate field 'a'
            {"weight_map":{"a":7}} | weight_map: a: expected VALUE_STRING
            {"metadata":{}} | expected a weight_map
            {"weight_map":{"a":"x.safetensors"} | Unexpected end-of-input
            7 | the index: expected START_OBJECT
            """)
    void wrongIndexesAreErrors(String index, String expected) throws IOException {
        file("x.safetensors", "{" + entry("a", "I8", "[1]", 0, 1) + "}", 1);
        Files.createDirectory(folder.resolve("sub"));
        Files.writeString(folder.resolve("model.safetensors.index.json"), index);
        assertMessage(expected, assertThrows(IOException.class, () -> SafeTensors.open(folder)));
    }

    @Test
    void missingFilesAreNamed() {
        assertMessage("expected model.safetensors or model.safetensors.index.json", assertThrows(IOException.class,
                () -> SafeTensors.open(folder)));
        assertMessage("x: there is no such file", assertThrows(IOException.class, () -> SafeTensors.open(folder.resolve("x"))));
    }

    @Test
    void aFileThatBecameShorterIsAnError() throws IOException {
        final Path file = file("x.safetensors", "{" + entry("a", "I8", "[100]", 0, 100) + "}", 100);
        try (SafeTensors tensors = SafeTensors.open(file)) {
            try (RandomAccessFile cut = new RandomAccessFile(file.toFile(), "rw")) {
                cut.setLength(cut.length() - 10);
            }
            assertMessage("a: expected 10 more bytes", assertThrows(IOException.class, () -> read(tensors, "a")));
        }
    }

    /** A tensor of 3 GiB, of which only the end is on the disk. */
    @Test
    void tensorsLargerThanTwoGigabytes() throws IOException {
        final long bytes = 3L << 30;
        final String header = "{\"a\":{\"dtype\":\"F32\",\"shape\":[" + bytes / 4 + "],\"data_offsets\":[0," + bytes + "]}}";
        final Path file = file("large.safetensors", header, 0);
        try (RandomAccessFile sparse = new RandomAccessFile(file.toFile(), "rw")) {
            sparse.setLength(sparse.length() + bytes);
            sparse.seek(sparse.length() - 4);
            sparse.write(new byte[] {1, 2, 3, 4});
        }
        try (SafeTensors tensors = SafeTensors.open(file)) {
            assertEquals(bytes, tensors.entry("a").bytes());
            final ByteBuffer end = ByteBuffer.allocate(8).order(ByteOrder.LITTLE_ENDIAN);
            tensors.read("a", bytes - 8, end);
            assertEquals(0x04030201_00000000L, end.getLong(0));
            assertEquals(0x04030201, tensors.map("a", bytes - 4, 4).getInt(0));
        }
    }
}
