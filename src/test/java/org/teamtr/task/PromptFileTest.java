package org.teamtr.task;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.apache.parquet.schema.PrimitiveType.PrimitiveTypeName.BINARY;
import static org.apache.parquet.schema.PrimitiveType.PrimitiveTypeName.DOUBLE;
import static org.apache.parquet.schema.PrimitiveType.PrimitiveTypeName.INT32;
import static org.apache.parquet.schema.PrimitiveType.PrimitiveTypeName.INT64;

import blue.strategic.parquet.ParquetWriter;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;
import org.apache.hadoop.conf.Configuration;
import org.apache.parquet.bytes.BytesInput;
import org.apache.parquet.compression.CompressionCodecFactory;
import org.apache.parquet.example.data.Group;
import org.apache.parquet.example.data.simple.SimpleGroupFactory;
import org.apache.parquet.hadoop.example.ExampleParquetWriter;
import org.apache.parquet.hadoop.metadata.CompressionCodecName;
import org.apache.parquet.io.LocalOutputFile;
import org.apache.parquet.schema.LogicalTypeAnnotation;
import org.apache.parquet.schema.MessageType;
import org.apache.parquet.schema.MessageTypeParser;
import org.apache.parquet.schema.Types;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;
import org.teamtr.team.ChatTurn;
import org.teamtr.team.Prompt;
import org.teamtr.team.Prompts;

class PromptFileTest {
    @TempDir
    private Path folder;

    private Path file(String name, String text) throws IOException {
        return Files.writeString(folder.resolve(name), text);
    }

    private static List<Prompt> all(Prompts prompts) {
        return IntStream.range(0, prompts.size()).mapToObj(prompts::get).toList();
    }

    /** The error of a file that cannot be read so, the folder cut off. */
    private String error(Path file, String prompt, String answer, String id) {
        return assertThrows(IOException.class, () -> PromptFile.read(file, prompt, answer, id)).getMessage().replace(folder + "/", "");
    }

    @Test
    void eachLineIsAPromptVerbatim() throws IOException {
        final Path file = file("a.jsonl", "\uFEFF" + """
                {"question": " 1+1?\\n", "answer": "two: <<1+1=2>>2\\n#### 2", "n": 7}

                {"question": "für {prompt} \\ud83d\\ude00", "answer": 0.10, "n": 8}\r
                {"question": "huge", "answer": 1e999999999}
                {"n": 9, "answer": 12345678901234567890, "question": "last, without a line's end"}""");
        assertEquals(List.of(new Prompt("a.jsonl:1", " 1+1?\n", "two: <<1+1=2>>2\n#### 2"),
                new Prompt("a.jsonl:3", "für {prompt} \uD83D\uDE00", "0.10"),
                new Prompt("a.jsonl:4", "huge", "1E+999999999"), new Prompt("a.jsonl:5", "last, without a line's end", "12345678901234567890")),
                all(PromptFile.read(file, "question", "answer", null)));
    }

    /** An answer that follows the question, as in files for supervised training, is not shown. */
    @Test
    void turnsAfterTheLastUsersAreLeftOut() throws IOException {
        final Path file = file("sft.jsonl",
                "{\"q\": [{\"role\": \"user\", \"content\": \"1+1\"}, {\"role\": \"assistant\", \"content\": \"2\"}]}");
        assertEquals(List.of(new Prompt("sft.jsonl:1", "1+1", null)), all(PromptFile.read(file, "q", null, null)));
    }

    @Test
    void columnsMayLieInObjectsAndPromptsBeLists() throws IOException {
        final Path file = file("verl.json", """
                {"prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "one"}, {"role": "assistant", "content": "a"},\
                 {"role": "user", "content": "two"}], "reward_model": {"ground_truth": "42"}, "extra_info": {"question": "q", "index": 3}}
                """);
        assertEquals(List.of(new Prompt("3", "two", "42", null, Map.of(), List.of(new ChatTurn("system", "s"), new ChatTurn("user", "one"),
                new ChatTurn("assistant", "a")))),
                all(PromptFile.read(file, "prompt", "reward_model.ground_truth", "extra_info.index")));
        assertEquals("q", PromptFile.read(file, "extra_info.question", null, null).get(0).text());
        assertEquals("dotted", PromptFile.read(file("dot.jsonl", "{\"a.b\": \"dotted\", \"a\": {\"b\": \"deep\"}}"), "a.b", null, null)
                .get(0).text());
    }

    @ParameterizedTest
    @CsvSource(delimiter = '|', quoteCharacter = '~', value = {
        "{\"q\": \"x\"} | bad.jsonl:2: expected a column a, given columns [q]",
        "{\"a\": 1} | bad.jsonl:2: expected a column q, given columns [a]",
        "{\"q\": \"\", \"a\": 1} | bad.jsonl:2: q: expected a prompt, given empty text",
        "{\"q\": \" \\n\", \"a\": 1} | bad.jsonl:2: q: expected a prompt, given empty text",
        "{\"q\": 3, \"a\": 1} | bad.jsonl:2: q: expected text, or a list of {role, content} with such, given a number",
        "{\"q\": null, \"a\": 1} | bad.jsonl:2: q: expected text, or a list of {role, content} with such, given nothing",
        "{\"q\": [{\"role\": \"system\", \"content\": \"s\"}], \"a\": 1} | bad.jsonl:2: q: expected a list with a turn {role: user,",
        "{\"q\": [{\"role\": \"user\"}], \"a\": 1} | bad.jsonl:2: q: expected text, or a list of {role, content} with such, given nothing",
        "{\"q\": [{\"role\": \"tool\", \"content\": \"t\"}, {\"role\": \"user\", \"content\": \"x\"}], \"a\": 1} | bad.jsonl:2: q[0]: expected a "
                + "role of [system, user, assistant] with text, given role tool with text",
        "{\"q\": [{\"role\": \"user\", \"content\": [1]}, {\"role\": \"user\", \"content\": \"x\"}], \"a\": 1} | bad.jsonl:2: q[0]: expected a "
                + "role of [system, user, assistant] with text, given role user with a list",
        "{\"q\": \"x\", \"a\": null} | bad.jsonl:2: a: expected text or a number, given nothing",
        "{\"q\": \"x\", \"a\": [1]} | bad.jsonl:2: a: expected text or a number, given a list",
        "{\"q\": \"x\", \"a\": true} | bad.jsonl:2: a: expected text or a number, given true or false",
        "[1] | bad.jsonl:2: expected a JSON object, given a list",
        "{\"q\": \"x\", \"q\": \"y\", \"a\": 1} | bad.jsonl:2: expected a JSON object on one line: Duplicate",
        "{\"q\": \"x\", \"a\": 1e99999999999} | bad.jsonl:2:",
        "{\"q\": \"x\", \"a\": 1} {} | bad.jsonl:2: expected a JSON object on one line: Trailing token",
        "{\"q\": | bad.jsonl:2: expected a JSON object on one line: Unexpected end-of-input"})
    void aBadRowIsNamed(String row, String message) throws IOException {
        final String error = error(file("bad.jsonl", "{\"q\": \"fine\", \"a\": \"1\"}\n" + row + "\n"), "q", "a", null);
        assertTrue(error.startsWith(message), error);
    }

    /** All that is wrong at once: how many lines, and the first of them with their reasons. */
    @Test
    void badRowsAreCounted() throws IOException {
        final StringBuilder rows = new StringBuilder("{\"q\": \"fine\", \"a\": \"1\"}\n\n");
        rows.append("{\"q\": \"half a pair \\ud83d.\", \"a\": 1}\n").append("{\"q\": [{\"role\": \"user\", \"content\": \"\\ude00\"}], \"a\": 1}\n")
                .append("{\"q\": \"x\", \"a\": \"\ud83d\ude00\\ud83d\"}\n").append("[1]\n").append("{\"q\": \"x\"}\n").append("nonsense\n".repeat(3));
        assertEquals("""
                8 of 9 lines of bad.jsonl cannot be used:
                  bad.jsonl:3: q: expected text, given half a surrogate pair, \\ud83d, as character 13
                  bad.jsonl:4: q: expected text, given half a surrogate pair, \\ude00, as character 1
                  bad.jsonl:5: a: expected text, given half a surrogate pair, \\ud83d, as character 2
                  bad.jsonl:6: expected a JSON object, given a list
                  bad.jsonl:7: expected a column a, given columns [q]
                  and 3 more""", error(file("bad.jsonl", rows.toString()), "q", "a", null));
    }

    /** A column of 20,000,001 characters, more than Jackson reads by default, which nobody asks for. */
    @Test
    void aLongLineIsRead() throws IOException {
        final Path file = file("long.jsonl", "{\"q\": \"1+1=\", \"image\": \"" + "A".repeat(20_000_001) + "\"}\n{\"q\": \"1+2=\"}\n");
        assertEquals(List.of(new Prompt("long.jsonl:1", "1+1=", null), new Prompt("long.jsonl:2", "1+2=", null)),
                all(PromptFile.read(file, "q", null, null)));
        // A limit that is left: nesting. Jackson has no place in the line to go with it.
        final String deep = error(file("deep.jsonl", "{\"q\": \"x\", \"d\": " + "[".repeat(2000) + "]".repeat(2000) + "}"), "q", null, null);
        assertTrue(deep.startsWith("deep.jsonl:1: expected a JSON object on one line: Document nesting depth"), deep);
    }

    @Test
    void aJsonArrayIsRead() throws IOException {
        for (String text : List.of("[{\"q\": \"x\"}, {\"q\": \"y\"}]", "\uFEFF \n [\n  {\n    \"q\": \"x\"\n  }\n,{\"q\": \"y\"}]\n")) {
            assertEquals(List.of(new Prompt("list.json:1", "x", null), new Prompt("list.json:2", "y", null)),
                    all(PromptFile.read(file("list.json", text), "q", null, null)));
        }
        final String bad = error(file("bad.json", "[{\"q\": \"x\"}, {\"p\": 1}, 7]"), "q", null, null);
        assertTrue(bad.contains("bad.json: row 2: expected a column q, given columns [p]")
                && bad.contains("bad.json: row 3: expected a JSON object, given a number"), bad);
        assertEquals("open.json: row 1: expected a JSON object: Unexpected end-of-input: expected close marker for Array",
                error(file("open.json", "[{\"q\": \"x\"}"), "q", null, null).replaceAll(" \\(.*", ""));
        assertEquals("two.json: expected nothing behind the JSON array", error(file("two.json", "[{\"q\": \"x\"}] 1"), "q", null, null));
        assertEquals("one.json:1: expected a JSON object on one line: Unexpected end-of-input: expected close marker for Object (column 2)",
                error(file("one.json", "{\n"), "q", null, null));
    }

    @Test
    void aPointerOfGitLfsIsNamed() throws IOException {
        final String pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
        for (String name : List.of("p.parquet", "p.jsonl")) {
            assertEquals(name + ": this is a Git LFS pointer, not the file itself; run git lfs pull in its folder, or download the file again",
                    error(file(name, pointer), "q", null, null));
        }
    }

    @Test
    void aBadFileIsNamed() throws IOException {
        final byte[] bytes = "{\"q\": \"x\"}\n{\"q\": \"?\"}\n".getBytes(StandardCharsets.UTF_8);
        bytes[bytes.length - 4] = (byte) 0xC3;
        assertEquals("u.jsonl:2: expected text in UTF-8, given bytes that are none",
                error(Files.write(folder.resolve("u.jsonl"), bytes), "q", null, null));
        assertEquals("e.jsonl: expected one prompt or more, found none", error(file("e.jsonl", "\n \n"), "q", null, null));
        assertEquals("a.csv: expected a name that ends in .jsonl, .json or .parquet", error(file("a.csv", "q\n1"), "q", null, null));
        assertEquals("none.jsonl: no such file of prompts", error(folder.resolve("none.jsonl"), "q", null, null));
        assertTrue(error(file("no.parquet", "PAR1, but not really"), "q", null, null).startsWith("no.parquet: expected a Parquet file"));
        assertEquals("n.jsonl:1: expected a column a.c, given columns [b] where c should be",
                error(file("n.jsonl", "{\"a\": {\"b\": 1}}"), "a.c", null, null));
    }

    @Test
    void aFlatParquetFileIsRead() throws IOException {
        record Row(String question, int answer, long id, double score) {
        }
        final MessageType schema = Types.buildMessage()
                .required(BINARY).as(LogicalTypeAnnotation.stringType()).named("question")
                .required(INT32).named("answer").required(INT64).named("id").required(DOUBLE).named("score").named("rows");
        final Path file = folder.resolve("flat.parquet");
        try (ParquetWriter<Row> writer = ParquetWriter.writeFile(schema, file.toFile(), (row, out) -> {
            out.write("question", row.question());
            out.write("answer", row.answer());
            out.write("id", row.id());
            out.write("score", row.score());
        })) {
            writer.write(new Row("wie groß?", 42, 7, 0.25));
            writer.write(new Row("again?", -1, 8, 1));
        }
        final PrintStream err = System.err;
        final ByteArrayOutputStream noise = new ByteArrayOutputStream();
        try {
            System.setErr(new PrintStream(noise, true, StandardCharsets.UTF_8));
            assertEquals(List.of(new Prompt("flat.parquet:1", "wie groß?", "42"), new Prompt("flat.parquet:2", "again?", "-1")),
                    all(PromptFile.read(file, "question", "answer", null)));
        } finally {
            System.setErr(err);
        }
        assertEquals("", noise.toString(StandardCharsets.UTF_8));
        assertEquals(new Prompt("8", "again?", "1.0"), PromptFile.read(file, "question", "score", "id").get(1));
        assertEquals("flat.parquet: expected a column prompt, given columns [question, answer, id, score]",
                error(file, "prompt", null, null));
        final String why = ": answer: expected text, or a list of {role, content} with such, given a number";
        assertEquals("2 of 2 rows of flat.parquet cannot be used:\n  flat.parquet: row 1" + why + "\n  flat.parquet: row 2" + why,
                error(file, "answer", null, null));
        final byte[] bytes = Files.readAllBytes(file);
        assertTrue(error(Files.write(folder.resolve("cut.parquet"), Arrays.copyOf(bytes, bytes.length / 2)), "question", null, null)
                .startsWith("cut.parquet: expected a Parquet file"));
    }

    /** The layout that verl writes: lists in the standard three levels, structs, missing values. */
    @ParameterizedTest
    @EnumSource(names = {"UNCOMPRESSED", "SNAPPY", "ZSTD", "LZ4_RAW"})
    void aNestedParquetFileIsRead(CompressionCodecName codec) throws IOException {
        final MessageType schema = MessageTypeParser.parseMessageType("""
                message schema {
                  optional binary data_source (STRING);
                  optional group prompt (LIST) { repeated group list { optional group element {
                    optional binary content (STRING); optional binary role (STRING); } } }
                  optional group reward_model { optional binary ground_truth (STRING); optional int32 day (DATE); }
                  optional group extra_info { optional int64 index; optional binary question (STRING); }
                }""");
        final Path file = folder.resolve("verl.parquet");
        final SimpleGroupFactory rows = new SimpleGroupFactory(schema);
        try (org.apache.parquet.hadoop.ParquetWriter<Group> writer = ExampleParquetWriter.builder(new LocalOutputFile(file))
                .withType(schema).withConf(new Configuration()).withCompressionCodec(codec).build()) {
            for (int i = 0; i < 3; i++) {
                final Group row = rows.newGroup().append("data_source", "test");
                final Group prompt = row.addGroup("prompt");
                prompt.addGroup("list").addGroup("element").append("content", "You are terse.").append("role", "system");
                prompt.addGroup("list").addGroup("element").append("content", "How many, " + i + "?").append("role", "user");
                final Group reward = row.addGroup("reward_model").append("day", 1);
                if (i < 2) {
                    reward.append("ground_truth", "4" + i);
                }
                row.addGroup("extra_info").append("index", 100L + i).append("question", "q" + i);
                writer.write(row);
            }
        }
        final List<ChatTurn> terse = List.of(new ChatTurn("system", "You are terse."));
        assertEquals(
                List.of(new Prompt("100", "How many, 0?", null, null, Map.of(), terse),
                        new Prompt("101", "How many, 1?", null, null, Map.of(), terse),
                        new Prompt("102", "How many, 2?", null, null, Map.of(), terse)),
                all(PromptFile.read(file, "prompt", null, "extra_info.index")));
        assertEquals("q2", PromptFile.read(file, "extra_info.question", null, null).get(2).text());
        assertEquals("verl.parquet: row 3: expected a column reward_model.ground_truth, given columns [day] where ground_truth should be",
                error(file, "prompt", "reward_model.ground_truth", null));
        assertTrue(error(file, "prompt", "reward_model.day", null).startsWith("3 of 3 rows of verl.parquet cannot be used:\n"
                + "  verl.parquet: row 1: reward_model.day: expected text or a number, given a value of type DATE"));
        assertTrue(error(file, "prompt", "extra_info", null).endsWith(
                "\n  verl.parquet: row 3: extra_info: expected text or a number, given an object"));
    }

    /** Columns said to be compressed by GZIP, which only Hadoop's codecs could read (and write: these are not compressed at all). */
    @Test
    void anUnknownCompressionIsNamed() throws IOException {
        final CompressionCodecFactory none = new CompressionCodecFactory() {
            @Override
            public BytesInputCompressor getCompressor(CompressionCodecName codec) {
                return new BytesInputCompressor() {
                    @Override
                    public BytesInput compress(BytesInput bytes) {
                        return bytes;
                    }

                    @Override
                    public CompressionCodecName getCodecName() {
                        return codec;
                    }

                    @Override
                    public void release() {
                    }
                };
            }

            @Override
            public BytesInputDecompressor getDecompressor(CompressionCodecName codec) {
                throw new AssertionError("the test only writes");
            }

            @Override
            public void release() {
            }
        };
        final MessageType schema = MessageTypeParser.parseMessageType("message m { required binary q (STRING); }");
        final Path file = folder.resolve("z.parquet");
        try (org.apache.parquet.hadoop.ParquetWriter<Group> writer = ExampleParquetWriter.builder(new LocalOutputFile(file)).withType(schema)
                .withConf(new Configuration()).withCodecFactory(none).withCompressionCodec(CompressionCodecName.GZIP).build()) {
            writer.write(new SimpleGroupFactory(schema).newGroup().append("q", "x"));
        }
        assertEquals("z.parquet: expected columns compressed by one of [UNCOMPRESSED, SNAPPY, ZSTD, LZ4_RAW], given [GZIP]",
                error(file, "q", null, null));
    }
}
