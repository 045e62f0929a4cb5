package org.teamtr.task;

import blue.strategic.parquet.ParquetReader;
import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonLocation;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.core.StreamReadConstraints;
import com.fasterxml.jackson.core.type.TypeReference;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.ObjectReader;
import com.fasterxml.jackson.databind.cfg.JsonNodeFeature;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.MissingNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.PushbackReader;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Collectors;
import org.apache.parquet.column.page.PageReadStore;
import org.apache.parquet.example.data.Group;
import org.apache.parquet.example.data.simple.convert.GroupRecordConverter;
import org.apache.parquet.hadoop.ParquetFileReader;
import org.apache.parquet.hadoop.metadata.ColumnChunkMetaData;
import org.apache.parquet.hadoop.metadata.CompressionCodecName;
import org.apache.parquet.io.ColumnIOFactory;
import org.apache.parquet.io.RecordReader;
import org.apache.parquet.schema.GroupType;
import org.apache.parquet.schema.LogicalTypeAnnotation;
import org.apache.parquet.schema.MessageType;
import org.apache.parquet.schema.Type;
import org.teamtr.model.LfsPointer;
import org.teamtr.team.ChatTurn;
import org.teamtr.team.Prompt;
import org.teamtr.team.Prompts;

/**
 * Prompts of a file: JSON objects, one a line or in one array, or a Parquet table.
 *
 * <p>A column is a name, or a path such as {@code extra_info.question} into objects. The prompt is a text, or a list of
 * {@code {role, content}} as in verl's files: the content of its last user turn is the text, the turns before are
 * {@link Prompt#before}, and those after it, which would give the answer away, are left out. Answers and ids are texts or numbers,
 * kept verbatim.
 */
public final class PromptFile implements Prompts {
    /** Texts of any length: a column that is not read may hold an image. */
    private static final StreamReadConstraints LIMITS = StreamReadConstraints.builder().maxStringLength(Integer.MAX_VALUE).build();
    private static final ObjectMapper JSON = JsonMapper.builder(JsonFactory.builder().streamReadConstraints(LIMITS).build())
            .enable(DeserializationFeature.USE_BIG_DECIMAL_FOR_FLOATS)
            .disable(JsonNodeFeature.STRIP_TRAILING_BIGDECIMAL_ZEROES).enable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS)
            .enable(JsonParser.Feature.STRICT_DUPLICATE_DETECTION).build();

    private static final List<String> ROLES = List.of("system", "user", "assistant");

    /** What is read without Hadoop. */
    private static final List<CompressionCodecName> CODECS = List.of(CompressionCodecName.UNCOMPRESSED, CompressionCodecName.SNAPPY,
            CompressionCodecName.ZSTD, CompressionCodecName.LZ4_RAW);

    /** What Jackson says of a source that it was told not to show. */
    private static final String SOURCE = "\\s*\\(start marker at \\[Source: [^\\]]*]\\)";

    private static final TypeReference<LinkedHashMap<String, Object>> ROW = new TypeReference<>() {};

    /**
     * The columns to read.
     *
     * @param prompt column of the prompt
     * @param answer of the reference answer; null for prompts without answers
     * @param id of a name; null for {@code file:line}, in arrays and Parquet {@code file:row}, both counted from 1
     * @param source of the name of the data set; null for none
     * @param rows whether all columns are kept as {@link Prompt#meta}; an answer may then be missing, a list or an object
     */
    public record Columns(String prompt, String answer, String id, String source, boolean rows) {
    }

    private final String name;
    private final Columns columns;
    private final List<Prompt> prompts = new ArrayList<>();
    private final RowProblems problems = new RowProblems();

    private PromptFile(String name, Columns columns) {
        this.name = name;
        this.columns = columns;
    }

    /** Reads prompts, answers and ids alone, as {@link #read(Path, Columns)} does. */
    public static Prompts read(Path file, String promptColumn, String answerColumn, String idColumn) throws IOException {
        return read(file, new Columns(promptColumn, answerColumn, idColumn, null, false));
    }

    /**
     * Reads a file whole.
     *
     * @param file ends in {@code .jsonl}, {@code .json} (objects, one a line, or one array of objects) or {@code .parquet}
     * @throws IOException if the file cannot be read, or rows are not as they should be: how many, and for the first of them file, line
     *     (or row), column and reason
     */
    public static Prompts read(Path file, Columns columns) throws IOException {
        final PromptFile prompts = new PromptFile(file.getFileName().toString(), columns);
        final String lower = prompts.name.toLowerCase(Locale.ROOT);
        if (!Files.exists(file)) {
            throw new NoSuchFileException(file.toString(), null, "no such file of prompts");
        }
        LfsPointer.refuse(file);
        if (lower.endsWith(".parquet")) {
            prompts.readParquet(file);
        } else if (lower.endsWith(".jsonl") || lower.endsWith(".json")) {
            if (isArray(file)) {
                prompts.readArray(file);
            } else {
                prompts.readLines(file);
            }
        } else {
            throw new IOException(file + ": expected a name that ends in .jsonl, .json or .parquet");
        }
        final int rows = prompts.prompts.size() + prompts.problems.count();
        prompts.problems.check(rows, (lower.endsWith(".parquet") || isArray(file) ? "rows of " : "lines of ") + file + " cannot be used");
        if (rows == 0) {
            throw new IOException(file + ": expected one prompt or more, found none");
        }
        return prompts;
    }

    @Override
    public int size() {
        return prompts.size();
    }

    @Override
    public Prompt get(int i) {
        return prompts.get(i);
    }

    private void readLines(Path file) throws IOException {
        try (InputStream in = new BufferedInputStream(Files.newInputStream(file), 1 << 16)) {
            final ByteArrayOutputStream bytes = new ByteArrayOutputStream();
            int line = 1;
            for (int b = in.read(); b >= 0 || bytes.size() > 0; b = in.read()) {
                if (b != '\n' && b >= 0) {
                    bytes.write(b);
                    continue;
                }
                try {
                    readLine(bytes.toByteArray(), line, file + ":" + line);
                } catch (RowException e) {
                    problems.add(e.getMessage());
                }
                bytes.reset();
                line++;
            }
        }
    }

    private static boolean isArray(Path file) throws IOException {
        try (InputStream in = new BufferedInputStream(Files.newInputStream(file))) {
            int b = in.read();
            for (int i = 1; i < 1 << 12 && (b <= ' ' && b >= 0 || b > 0x7f); i++) { // blanks, and the bytes of a byte order mark
                b = in.read();
            }
            return b == '[';
        }
    }

    /** One array of objects, one after the other. What is wrong inside of one is said of its row; no array at all, of the file. */
    private void readArray(Path file) throws IOException {
        int row = 1;
        final ObjectReader rows = JSON.reader().without(DeserializationFeature.FAIL_ON_TRAILING_TOKENS);
        final PushbackReader text = new PushbackReader(new InputStreamReader(new BufferedInputStream(Files.newInputStream(file)),
                StandardCharsets.UTF_8.newDecoder()));
        final int mark = text.read();
        if (mark >= 0 && mark != 0xFEFF) {
            text.unread(mark);
        }
        try (JsonParser parser = JSON.createParser(text)) {
            parser.nextToken();
            for (JsonToken t = parser.nextToken(); t != JsonToken.END_ARRAY; t = parser.nextToken(), row++) {
                if (t == null) {
                    throw new IOException(file + ": expected the end of the JSON array, ], found the end of the file");
                }
                try {
                    add(rows.readTree(parser), row, file + ": row " + row);
                } catch (RowException e) {
                    problems.add(e.getMessage());
                }
            }
            if (parser.nextToken() != null) {
                throw new IOException(file + ": expected nothing behind the JSON array");
            }
        } catch (JsonProcessingException | NumberFormatException e) {
            final String reason = e instanceof JsonProcessingException j ? j.getOriginalMessage().replaceAll(SOURCE, "") : e.getMessage();
            throw new IOException(file + ": row " + row + ": expected a JSON object: " + reason, e);
        } catch (CharacterCodingException e) {
            throw new IOException(file + ": row " + row + ": expected text in UTF-8, given bytes that are none", e);
        }
    }

    private void readLine(byte[] bytes, int line, String where) throws RowException {
        final String text = utf8(bytes);
        if (text == null) {
            throw new RowException(where + ": expected text in UTF-8, given bytes that are none");
        }
        final String row = line == 1 && text.startsWith("\uFEFF") ? text.substring(1) : text;
        if (row.isBlank()) {
            return;
        }
        try {
            add(JSON.readTree(row), line, where);
        } catch (JsonProcessingException e) {
            final JsonLocation at = e.getLocation(); // none where a limit of the parser's was met
            throw new RowException(where + ": expected a JSON object on one line: " + e.getOriginalMessage().replaceAll(SOURCE, "")
                    + (at == null ? "" : " (column " + at.getColumnNr() + ")"), e);
        } catch (NumberFormatException e) { // an exponent beyond BigDecimal's
            throw new RowException(where + ": expected a JSON object on one line: " + e.getMessage(), e);
        }
    }

    private void readParquet(Path file) throws IOException {
        try (ParquetFileReader reader = ParquetFileReader.open(ParquetReader.makeInputFile(file.toFile()))) {
            final MessageType schema = reader.getFileMetaData().getSchema();
            // Only the requested columns are read: others may be large, or of unsupported types.
            final Set<Type> wanted = new LinkedHashSet<>();
            for (String column : new String[] {columns.prompt(), columns.answer(), columns.id(), columns.source()}) {
                if (column != null) {
                    final String top = schema.containsField(column) ? column : column.replaceFirst("\\..*", "");
                    if (!schema.containsField(top)) {
                        throw new IOException(file + ": expected a column " + column + ", given columns "
                                + schema.getFields().stream().map(Type::getName).toList());
                    }
                    wanted.add(schema.getType(top));
                }
            }
            if (columns.rows()) {
                wanted.addAll(schema.getFields());
            }
            final Set<CompressionCodecName> codecs = reader.getFooter().getBlocks().stream().flatMap(b -> b.getColumns().stream())
                    .map(ColumnChunkMetaData::getCodec).collect(Collectors.toCollection(TreeSet::new));
            codecs.removeAll(CODECS);
            if (!codecs.isEmpty()) {
                throw new IOException(file + ": expected columns compressed by one of " + CODECS + ", given " + codecs);
            }
            final MessageType some = new MessageType(schema.getName(), List.copyOf(wanted));
            reader.setRequestedSchema(some);
            int row = 1;
            for (PageReadStore pages = reader.readNextRowGroup(); pages != null; pages = reader.readNextRowGroup()) {
                final RecordReader<Group> rows =
                        new ColumnIOFactory().getColumnIO(some, schema).getRecordReader(pages, new GroupRecordConverter(some));
                for (long i = 0; i < pages.getRowCount(); i++, row++) {
                    final JsonNode json = json(rows.read());
                    try {
                        add(json, row, file + ": row " + row);
                    } catch (RowException e) {
                        problems.add(e.getMessage());
                    }
                }
            }
        } catch (RuntimeException e) { // what parquet throws at bytes that are not as they should be
            throw new IOException(file + ": expected a Parquet file: " + e.getMessage(), e);
        }
    }

    /** One row, or one object or list inside it. */
    private static JsonNode json(Group group) {
        final GroupType type = group.getType();
        if (type.getLogicalTypeAnnotation() instanceof LogicalTypeAnnotation.ListLogicalTypeAnnotation) {
            final ArrayNode list = JsonNodeFactory.instance.arrayNode();
            for (int i = 0; i < group.getFieldRepetitionCount(0); i++) {
                // The usual form has a group around each item; older files have the item itself.
                final boolean wrapped = !type.getType(0).isPrimitive() && type.getType(0).asGroupType().getFieldCount() == 1;
                final JsonNode item = value(group, 0, i);
                list.add(wrapped ? item.path(type.getType(0).asGroupType().getFieldName(0)) : item);
            }
            return list;
        }
        final ObjectNode object = JsonNodeFactory.instance.objectNode();
        for (int field = 0; field < type.getFieldCount(); field++) {
            final int count = group.getFieldRepetitionCount(field);
            if (type.getType(field).isRepetition(Type.Repetition.REPEATED)) {
                final ArrayNode list = object.putArray(type.getFieldName(field));
                for (int i = 0; i < count; i++) {
                    list.add(value(group, field, i));
                }
            } else if (count > 0) {
                object.set(type.getFieldName(field), value(group, field, 0));
            }
        }
        return object;
    }

    private static JsonNode value(Group group, int field, int index) {
        final Type type = group.getType().getType(field);
        if (!type.isPrimitive()) {
            return json(group.getGroup(field, index));
        }
        final JsonNodeFactory factory = JsonNodeFactory.instance;
        final LogicalTypeAnnotation logical = type.getLogicalTypeAnnotation();
        final boolean plain = logical == null || logical instanceof LogicalTypeAnnotation.IntLogicalTypeAnnotation;
        return switch (type.asPrimitiveType().getPrimitiveTypeName()) {
            case BOOLEAN -> factory.booleanNode(group.getBoolean(field, index));
            case INT32 -> plain ? factory.numberNode(group.getInteger(field, index)) : factory.pojoNode("a value of type " + logical);
            case INT64 -> plain ? factory.numberNode(group.getLong(field, index)) : factory.pojoNode("a value of type " + logical);
            case FLOAT -> factory.numberNode(group.getFloat(field, index));
            case DOUBLE -> factory.numberNode(group.getDouble(field, index));
            case BINARY -> logical == null || logical instanceof LogicalTypeAnnotation.StringLogicalTypeAnnotation
                    || logical instanceof LogicalTypeAnnotation.EnumLogicalTypeAnnotation
                            ? text(group.getBinary(field, index).getBytes()) : factory.pojoNode("a value of type " + logical);
            case FIXED_LEN_BYTE_ARRAY, INT96 -> factory.pojoNode("a value of type " + type);
        };
    }

    private static JsonNode text(byte[] bytes) {
        final String text = utf8(bytes);
        return text == null ? JsonNodeFactory.instance.pojoNode("bytes that are not UTF-8") : JsonNodeFactory.instance.textNode(text);
    }

    /** Null for bytes that are no UTF-8; {@code new String} would put other characters in their place. */
    private static String utf8(byte[] bytes) {
        try {
            return StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(bytes)).toString();
        } catch (CharacterCodingException e) {
            return null;
        }
    }

    private void add(JsonNode row, int number, String where) throws RowException {
        if (!row.isObject()) {
            throw new RowException(where + ": expected a JSON object, given " + kind(row));
        }
        final String id = columns.id() == null ? name + ":" + number : text(column(row, columns.id(), where), columns.id(), where);
        final String answer = columns.answer() == null ? null : answer(row, where);
        final String source = columns.source() == null ? null : text(column(row, columns.source(), where), columns.source(), where);
        final JsonNode given = columns.prompt() == null ? MissingNode.getInstance() : column(row, columns.prompt(), where);
        final List<ChatTurn> before = new ArrayList<>();
        final String prompt = columns.prompt() == null ? "" : prompt(given.isArray() ? lastTurn(given, before, where) : given, where);
        prompts.add(new Prompt(id, prompt, answer, source, columns.rows() ? meta(row) : Map.of(), before));
    }

    /** All columns; what stands in one named {@code meta}, as {@code teamtr data prepare} writes it, by its own names. */
    private static Map<String, Object> meta(JsonNode row) {
        final Map<String, Object> all = JSON.convertValue(row, ROW);
        if (all.get("meta") instanceof Map<?, ?> inner) {
            inner.forEach((name, value) -> all.putIfAbsent(name.toString(), value));
        }
        return all;
    }

    /**
     * {@return all rows of a file, by column}
     *
     * @throws IOException as {@link #read(Path, Columns)} does
     */
    static List<Map<String, Object>> rows(Path file) throws IOException {
        final Prompts all = read(file, new Columns(null, null, null, null, true));
        final List<Map<String, Object>> rows = new ArrayList<>();
        for (int i = 0; i < all.size(); i++) {
            rows.add(all.get(i).meta());
        }
        return rows;
    }

    /** Text or a number. Where rows are kept also a list or object, as JSON, or nothing, since the answer may be in another column. */
    private String answer(JsonNode row, String where) throws RowException {
        if (columns.rows()) {
            final JsonNode own = row.path(columns.answer());
            if (own.isNull() || own.isMissingNode() && !columns.answer().contains(".")) {
                return null;
            }
            if (own.isContainerNode()) {
                return own.toString();
            }
        }
        return text(column(row, columns.answer(), where), columns.answer(), where);
    }

    private static JsonNode column(JsonNode row, String column, String where) throws RowException {
        JsonNode at = row.get(column); // a column's own name may have a dot
        if (at == null) {
            at = row;
            for (String step : column.split("\\.", -1)) {
                if (!at.isObject() || at.get(step) == null) {
                    final List<String> there = new ArrayList<>();
                    at.fieldNames().forEachRemaining(there::add);
                    throw new RowException(where + ": expected a column " + column + ", given " + (at.isObject()
                            ? "columns " + there : kind(at)) + (column.contains(".") ? " where " + step + " should be" : ""));
                }
                at = at.get(step);
            }
        }
        return at;
    }

    /** The content of the last user turn; adds the turns before it to {@code before}. */
    private JsonNode lastTurn(JsonNode turns, List<ChatTurn> before, String where) throws RowException {
        int last = turns.size() - 1;
        while (last >= 0 && !turns.get(last).path("role").asText().equals("user")) {
            last--;
        }
        if (last < 0) {
            throw new RowException(where + ": " + columns.prompt() + ": expected a list with a turn {role: user, content: ...}, given "
                    + turns.size() + " turns, none of them the user's");
        }
        for (int i = 0; i < last; i++) {
            final String role = turns.get(i).path("role").asText();
            final JsonNode content = turns.get(i).path("content");
            if (!ROLES.contains(role) || !content.isTextual()) {
                throw new RowException(where + ": " + columns.prompt() + "[" + i + "]: expected a role of " + ROLES + " with text, given role "
                        + (role.isEmpty() ? "none" : role) + " with " + kind(content));
            }
            before.add(new ChatTurn(role, content.textValue()));
        }
        return turns.get(last).path("content");
    }

    private String prompt(JsonNode prompt, String where) throws RowException {
        if (!prompt.isTextual()) {
            throw new RowException(where + ": " + columns.prompt() + ": expected text, or a list of {role, content} with such, given "
                    + kind(prompt));
        }
        if (prompt.textValue().isBlank()) {
            throw new RowException(where + ": " + columns.prompt() + ": expected a prompt, given empty text");
        }
        return whole(prompt.textValue(), columns.prompt(), where);
    }

    private static String text(JsonNode value, String column, String where) throws RowException {
        if (!value.isTextual() && !value.isNumber()) {
            throw new RowException(where + ": " + column + ": expected text or a number, given " + kind(value));
        }
        return value.isBigDecimal() ? value.decimalValue().toString() // never in full: 1e999999999
                : whole(value.asText(), column, where);
    }

    /** JSON can write one half of a surrogate pair, which is no character: no tokenizer has a token for it. */
    private static String whole(String text, String column, String where) throws RowException {
        for (int i = 0; i < text.length(); i += Character.charCount(text.codePointAt(i))) {
            if (Character.getType(text.codePointAt(i)) == Character.SURROGATE) {
                throw new RowException(where + ": " + column + ": expected text, given half a surrogate pair, \\u"
                        + Integer.toHexString(text.charAt(i)) + ", as character " + (text.codePointCount(0, i) + 1));
            }
        }
        return text;
    }

    /** A row that is not as it should be. Those after it are read all the same. */
    private static final class RowException extends Exception {
        private static final long serialVersionUID = 1;

        RowException(String message, Throwable cause) {
            super(message, cause);
        }

        RowException(String message) {
            this(message, null);
        }
    }

    private static String kind(JsonNode node) {
        return switch (node.getNodeType()) {
            case MISSING, NULL -> "nothing";
            case ARRAY -> "a list";
            case OBJECT -> "an object";
            case BOOLEAN -> "true or false";
            case NUMBER -> "a number";
            case STRING -> "text";
            case BINARY, POJO -> node.asText();
        };
    }
}
