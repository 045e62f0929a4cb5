package org.teamtr.chat;

import ai.djl.huggingface.tokenizers.HuggingFaceTokenizer;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.SerializationFeature;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.ByteArrayInputStream;
import java.io.FileNotFoundException;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.zip.CRC32C;
import org.teamtr.kernels.internal.NativeFolders;
import org.teamtr.model.LfsPointer;
import org.teamtr.team.ChatTurn;

/**
 * Text to token ids and back: Hugging Face's own tokenizer library, over a model folder's {@code tokenizer.json}.
 *
 * <p>The library's native part comes from DJL's jar, which unpacks it into {@code DJL_CACHE_DIR}, or {@code ~/.djl.ai} without. DJL may
 * query a cloud's metadata service and look for natives on the network; this class prevents that with the system property {@code
 * ai.djl.offline}, unless the property is already set.
 *
 * <p>Any number of threads may encode and decode at once.
 */
public final class Tokenizer implements AutoCloseable {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final String TOKENIZER = "tokenizer.json";
    private static final String TOKENIZER_CONFIG = "tokenizer_config.json";
    private static final String TEMPLATE = "chat_template.jinja";

    static {
        if (System.getProperty("ai.djl.offline") == null) {
            System.setProperty("ai.djl.offline", "true");
        }
    }

    /** The special tokens that have names of their own in transformers. */
    private static final List<String> NAMES = List.of("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token",
            "mask_token");
    private static final List<String> FLAGS = List.of("single_word", "lstrip", "rstrip", "normalized", "special");

    private final Path folder;
    private final JsonNode config; // tokenizer_config.json
    private final ObjectNode root; // tokenizer.json, and the tokens that only tokenizer_config.json has
    private final HuggingFaceTokenizer tokenizer;
    private final int vocab;
    private final Map<String, Object> specialTokens;
    private final int[] endTokens;
    private final String template; // null for none
    private final Path templateFile;
    private final long checksum;

    /**
     * Opens the tokenizer of a model folder: {@code tokenizer.json}, and where they are there {@code tokenizer_config.json},
     * {@code generation_config.json}, {@code config.json} and {@code chat_template.jinja}.
     *
     * @throws IOException if a file is missing, unreadable or wrong, naming it
     */
    public static Tokenizer open(Path folder) throws IOException {
        return new Tokenizer(folder);
    }

    private Tokenizer(Path folder) throws IOException {
        this.folder = folder;
        final Path file = folder.resolve(TOKENIZER);
        if (!Files.isRegularFile(file)) {
            final boolean older = Files.exists(folder.resolve("tokenizer.model")) || Files.exists(folder.resolve("vocab.json"));
            throw new FileNotFoundException(file + ": there is no such file" + (older ? "; transformers writes it from the older files beside it:"
                    + " AutoTokenizer.from_pretrained(folder).save_pretrained(folder)" : ""));
        }
        LfsPointer.refuse(file);
        config = json(folder.resolve(TOKENIZER_CONFIG));
        final byte[] bytes = Files.readAllBytes(file);
        root = (ObjectNode) parse(file, bytes);
        specialTokens = specialTokens(config);
        largestId(file, root);
        final Map<String, Integer> added = addTokens();
        vocab = largestId(file, root) + 1;
        final Set<Integer> ends = new LinkedHashSet<>();
        final int end = id(root, "eos_token");
        if (end >= 0) {
            ends.add(end);
        }
        for (String name : new String[] {"generation_config.json", "config.json"}) {
            final JsonNode ids = json(folder.resolve(name)).path("eos_token_id");
            for (JsonNode id : ids.isArray() ? ids : List.of(ids)) {
                if (id.isMissingNode() || id.isNull()) {
                    continue;
                }
                if (!id.canConvertToInt() || !id.isIntegralNumber() || id.asInt() < 0 || id.asInt() >= vocab) {
                    throw new IOException(folder.resolve(name) + ": eos_token_id: expected ids from 0 to " + (vocab - 1) + ", given " + id);
                }
                ends.add(id.asInt());
            }
        }
        endTokens = ends.stream().mapToInt(Integer::intValue).toArray();
        final boolean own = Files.isRegularFile(folder.resolve(TEMPLATE));
        templateFile = folder.resolve(own ? TEMPLATE : TOKENIZER_CONFIG);
        template = own ? Files.readString(templateFile) : template(config.path("chat_template"));
        final CRC32C crc = new CRC32C();
        crc.update(bytes);
        crc.update((added + Arrays.toString(endTokens)).getBytes(StandardCharsets.UTF_8));
        checksum = crc.getValue();
        try {
            // From a stream: from a path, DJL would also read tokenizer_config.json and cut texts at its model_max_length.
            tokenizer = HuggingFaceTokenizer.newInstance(
                    new ByteArrayInputStream(added.isEmpty() ? bytes : JSON.writeValueAsBytes(root)),
                    Map.of("addSpecialTokens", "false", "truncation", "false", "padding", "false"));
        } catch (RuntimeException e) {
            final boolean unpacking = e.getCause() instanceof IOException; // of the native library
            throw new IOException(unpacking ? NativeFolders.reason("the tokenizer's native library", e) : file + ": " + e.getMessage(), e);
        } catch (LinkageError e) {
            throw new IOException(NativeFolders.reason("the tokenizer's native library", e), e);
        }
        for (Map.Entry<String, Integer> token : added.entrySet()) {
            final long[] ids = tokenizer.encode(token.getKey(), false, false).getIds();
            if (ids.length != 1 || ids[0] != token.getValue()) { // the library gives out ids in order, whatever a file says
                tokenizer.close();
                throw new IOException(folder.resolve(TOKENIZER_CONFIG) + ": " + token.getKey() + ": expected the id " + token.getValue()
                        + ", but with " + TOKENIZER + " it is " + Arrays.toString(ids));
            }
        }
    }

    /** {@return a checksum of all that decides which tokens a text has, and which end a message} The chat template, which is text, is not in it. */
    public long checksum() {
        return checksum;
    }

    /**
     * Adds to {@code tokenizer.json} the tokens that only {@code tokenizer_config.json} has, as transformers does: those of
     * {@code added_tokens_decoder} with their ids, then named special tokens under the ids that they have in the vocabulary, or the
     * next free ones.
     *
     * @return what was added or changed, by content
     */
    private Map<String, Integer> addTokens() throws IOException {
        final Path file = folder.resolve(TOKENIZER_CONFIG);
        final ArrayNode tokens = root.withArray("added_tokens");
        final Map<String, ObjectNode> known = new HashMap<>();
        tokens.forEach(token -> known.put(token.path("content").asText(), (ObjectNode) token));
        final Map<String, Integer> added = new LinkedHashMap<>();
        final TreeMap<Integer, JsonNode> decoder = new TreeMap<>();
        for (Map.Entry<String, JsonNode> field : config.path("added_tokens_decoder").properties()) {
            try {
                decoder.put(Integer.parseInt(field.getKey()), field.getValue());
            } catch (NumberFormatException e) {
                throw new IOException(file + ": added_tokens_decoder: expected ids, given " + field.getKey(), e);
            }
        }
        for (Map.Entry<Integer, JsonNode> field : decoder.entrySet()) {
            final JsonNode given = field.getValue();
            final String content = given.path("content").asText();
            final int id = known.containsKey(content) ? known.get(content).path("id").asInt() : idInVocab(content);
            if (id >= 0 && id != field.getKey()) {
                throw new IOException(file + ": added_tokens_decoder: " + content + ": expected the id " + id + " of " + TOKENIZER + ", given "
                        + field.getKey());
            }
            final ObjectNode token = known.computeIfAbsent(content, c -> tokens.addObject().put("id", field.getKey()).put("content", c));
            for (String flag : FLAGS) {
                if (!token.has(flag) || given.has(flag) && given.path(flag).asBoolean() != token.path(flag).asBoolean()) {
                    token.put(flag, given.path(flag).asBoolean());
                    added.put(content, field.getKey());
                }
            }
        }
        final List<String> named = new ArrayList<>();
        for (String name : NAMES) {
            if (specialTokens.get(name) != null) {
                named.add((String) specialTokens.get(name));
            }
        }
        final String more = config.has("extra_special_tokens") ? "extra_special_tokens" : "additional_special_tokens";
        for (JsonNode token : config.path(more)) {
            named.add(token.isObject() ? token.path("content").asText() : token.asText());
        }
        for (String content : named) {
            final boolean needed = content.equals(specialTokens.get("eos_token")) || content.equals(specialTokens.get("pad_token"));
            final int id = idInVocab(content);
            if (!known.containsKey(content) && !content.isEmpty() && (id >= 0 || !needed)) { // what is needed and nowhere is an error
                final ObjectNode token = tokens.addObject().put("id", id >= 0 ? id : largestId(file, root) + 1).put("content", content);
                for (String flag : FLAGS) {
                    token.put(flag, flag.equals("special"));
                }
                known.put(content, token);
                added.put(content, token.path("id").asInt());
            }
        }
        return added;
    }

    /** {@return the id of a token of the model's own vocabulary, or -1} */
    private int idInVocab(String content) {
        final JsonNode vocabulary = root.path("model").path("vocab");
        for (int i = 0; vocabulary.isArray() && i < vocabulary.size(); i++) {
            if (vocabulary.get(i).path(0).asText().equals(content)) {
                return i;
            }
        }
        return vocabulary.path(content).asInt(-1);
    }

    /**
     * {@return the tokens of a text that no chat template was applied to: with what the tokenizer puts around texts, such as a token for
     * their beginning} As transformers: what {@code add_bos_token} and {@code add_eos_token} of {@code tokenizer_config.json} say where
     * there is one of them, or else the post-processor of {@code tokenizer.json}.
     *
     * @throws IllegalArgumentException as {@link #encode} does
     */
    public int[] encodeText(String text) {
        if (!config.has("add_bos_token") && !config.has("add_eos_token")) {
            return encode(text, true);
        }
        final String begin = config.path("add_bos_token").asBoolean() ? (String) specialTokens.get("bos_token") : null;
        final String end = config.path("add_eos_token").asBoolean() ? (String) specialTokens.get("eos_token") : null;
        final List<int[]> parts = new ArrayList<>();
        parts.add(begin == null ? new int[0] : encode(begin));
        parts.add(encode(text));
        parts.add(end == null ? new int[0] : encode(end));
        return parts.stream().flatMapToInt(Arrays::stream).toArray();
    }

    /** {@return notes to the user about how texts are encoded for this model, one sentence each; may be empty} */
    public List<String> notes() {
        final ChatTemplate chat = chatTemplate();
        if (chat == null) {
            final String around = decodeWithSpecial(encodeText(""));
            return List.of(folder + ": there is no chat template; the turns of a prompt are joined by line breaks, "
                    + (around.isEmpty() ? "with no special tokens" : "with the tokenizer's " + around));
        }
        final String turn = endOfTurn(chat);
        return turn == null ? List.of() : List.of(folder + ": the chat template ends a message with " + turn + ", which does not end"
                + " generation: eos_token and eos_token_id have only "
                + Arrays.stream(endTokens).mapToObj(id -> decodeWithSpecial(new int[] {id})).toList()
                + ". Messages will go on after it; name it in generation_config.json if it should end them");
    }

    /** {@return the special token that a template writes after an assistant's message, if it is no end of generation; else null} */
    private String endOfTurn(ChatTemplate chat) {
        final String said = "7531902468";
        final Map<String, Object> variables = new HashMap<>(specialTokens);
        variables.put("add_generation_prompt", false);
        variables.put("tools", null);
        variables.put("documents", null);
        final int[] after;
        try {
            final String text = chat.render(List.of(new ChatTurn("user", "1"), new ChatTurn("assistant", said)), variables);
            after = encode(text.substring(text.lastIndexOf(said) + said.length()));
        } catch (IllegalArgumentException e) {
            return null; // not a conversation that this template has
        }
        for (int id : after) {
            final String token = decodeWithSpecial(new int[] {id});
            if (!token.isEmpty() && decode(new int[] {id}).isEmpty()) {
                return Arrays.stream(endTokens).anyMatch(end -> end == id) ? null : token;
            }
        }
        return null;
    }

    /**
     * {@return the tokens of a text; special tokens written in it are recognised, none are added}
     *
     * @throws IllegalArgumentException if a character has no token, or is half of a surrogate pair, naming it
     */
    public int[] encode(String text) {
        return encode(text, false);
    }

    private int[] encode(String text, boolean around) {
        for (int i = 0; i < text.length(); i += Character.charCount(text.codePointAt(i))) {
            if (Character.getType(text.codePointAt(i)) == Character.SURROGATE) { // the native part would take it for other characters
                throw new IllegalArgumentException(String.format(Locale.ROOT, "%s: half a surrogate pair, U+%04X, at index %d of the text", folder,
                        text.codePointAt(i), i));
            }
        }
        final long[] ids;
        try {
            ids = tokenizer.encode(text, around, false).getIds();
        } catch (RuntimeException e) {
            throw new IllegalArgumentException(folder + ": " + unknown(text) + ": " + e.getMessage(), e);
        }
        return Arrays.stream(ids).mapToInt(Math::toIntExact).toArray();
    }

    /** {@return the first character that cannot be encoded} */
    private String unknown(String text) {
        int at = 0;
        for (int c : text.codePoints().toArray()) {
            try {
                tokenizer.encode(Character.toString(c), false, false);
            } catch (RuntimeException e) {
                return String.format(Locale.ROOT, "character %d of the text, '%s' (U+%04X), has no token", at, Character.toString(c), c);
            }
            at++;
        }
        return "the text has no tokens";
    }

    /**
     * {@return the text of tokens, without the special ones; an id that has no token stands for no text}
     *
     * @throws IllegalArgumentException if an id is negative
     */
    public String decode(int[] ids) {
        return decode(ids, true);
    }

    /**
     * {@return the text of tokens, special ones included; an id that has no token stands for no text}
     *
     * @throws IllegalArgumentException if an id is negative
     */
    public String decodeWithSpecial(int[] ids) {
        return decode(ids, false);
    }

    private String decode(int[] ids, boolean skipSpecial) {
        final long[] wide = new long[ids.length];
        for (int i = 0; i < ids.length; i++) {
            if (ids[i] < 0) {
                throw new IllegalArgumentException("ids: expected 0 or more, given " + ids[i] + " at " + i);
            }
            wide[i] = ids[i];
        }
        return tokenizer.decode(wide, skipSpecial);
    }

    /** {@return the largest id + 1, added tokens included; a model's own vocabulary may be larger} */
    public int vocab() {
        return vocab;
    }

    /**
     * {@return the ids that end a message: the {@code eos_token} of {@code tokenizer_config.json}, then the {@code eos_token_id}s of
     * {@code generation_config.json} and {@code config.json}, each once; a new array, empty if no file names one}
     */
    public int[] endTokens() {
        return endTokens.clone();
    }

    /** {@return the special tokens by their names in {@code tokenizer_config.json}, such as {@code bos_token}: templates ask for them} */
    public Map<String, Object> specialTokens() {
        return specialTokens;
    }

    /**
     * {@return the model's chat template, or null if it has none; from {@code chat_template.jinja}, or else from
     * {@code tokenizer_config.json}, there the one named {@code default} if there are several}
     *
     * @throws IllegalArgumentException if it is wrong or not supported, naming the file and the line
     */
    public ChatTemplate chatTemplate() {
        try {
            return template == null ? null : ChatTemplate.compile(template);
        } catch (IllegalArgumentException e) {
            throw new IllegalArgumentException(templateFile + ": " + e.getMessage(), e);
        }
    }

    /** Copies the files it was opened from, as far as they concern text, into another model folder. */
    public void copyTo(Path other) throws IOException {
        for (String name : List.of(TOKENIZER, TOKENIZER_CONFIG, TEMPLATE, "special_tokens_map.json", "generation_config.json",
                "vocab.json", "merges.txt")) {
            if (Files.exists(folder.resolve(name)) && !Files.exists(other.resolve(name))) {
                Files.copy(folder.resolve(name), other.resolve(name));
            }
        }
    }

    /** {@return whether another tokenizer has the same tokens under the same ids, and the same of them end a message} */
    public boolean sameTokens(Tokenizer other) {
        final int[] ends = Arrays.stream(endTokens).sorted().toArray();
        return vocab == other.vocab && Arrays.equals(ends, Arrays.stream(other.endTokens).sorted().toArray())
                && tokens().equals(other.tokens());
    }

    /** The model's tokens with their ids, and the added ones. */
    private List<Object> tokens() {
        final Map<Integer, String> added = new HashMap<>();
        root.path("added_tokens").forEach(token -> added.put(token.path("id").asInt(), token.path("content").asText()));
        return List.of(root.path("model").path("vocab"), added);
    }

    /** Frees the native tokenizer. */
    @Override
    public void close() {
        tokenizer.close();
    }

    /**
     * Writes the files of a tokenizer of single characters, which Hugging Face's libraries load as well. Ids go by position: first the
     * special tokens, then the characters. Encoding any other character is an error, and decoding puts nothing between characters.
     *
     * @param folder exists
     * @param characters each a token; code points, so a letter outside the basic plane is one
     * @param specials tokens that stand for no text, for example {@code <end>}
     * @param padToken one of them, which fills up short rows
     * @param endToken one of them, which ends a message
     * @throws IllegalArgumentException if a token is there twice or empty, or padToken or endToken is not a special token
     */
    public static void writeCharacters(Path folder, String characters, List<String> specials, String padToken, String endToken)
            throws IOException {
        writeCharacters(folder, characters, List.of(), specials, padToken, endToken, null);
    }

    /**
     * The same with tokens for whole phrases: where one stands in a text it is one token, the longest that stands there. Their ids follow
     * those of the characters.
     *
     * @param template the chat template; null for none
     */
    public static void writeCharacters(Path folder, String characters, List<String> phrases, List<String> specials, String padToken,
            String endToken, String template) throws IOException {
        final Map<String, Integer> vocab = new LinkedHashMap<>();
        final List<Map<String, Object>> added = new ArrayList<>();
        for (String special : specials) {
            added.add(addedToken(vocab.size(), special, true));
            token(vocab, special);
        }
        for (String name : new String[] {padToken, endToken}) {
            if (!specials.contains(name)) {
                throw new IllegalArgumentException("padToken, endToken: expected one of " + specials + ", given " + name);
            }
        }
        characters.codePoints().forEach(c -> token(vocab, Character.toString(c)));
        for (String phrase : phrases) {
            added.add(addedToken(vocab.size(), phrase, false));
            token(vocab, phrase);
        }

        final Map<String, Object> split = new LinkedHashMap<>();
        split.put("type", "Split");
        split.put("pattern", Map.of("Regex", "[\\s\\S]"));
        split.put("behavior", "Isolated");
        split.put("invert", false);
        final Map<String, Object> model = new LinkedHashMap<>();
        model.put("type", "WordLevel");
        model.put("vocab", vocab);
        model.put("unk_token", ""); // which is in no vocabulary, so an unknown character is an error
        final Map<String, Object> root = new LinkedHashMap<>();
        root.put("version", "1.0");
        root.put("truncation", null);
        root.put("padding", null);
        root.put("added_tokens", added);
        root.put("normalizer", null);
        root.put("pre_tokenizer", split);
        root.put("post_processor", null);
        root.put("decoder", Map.of("type", "Fuse"));
        root.put("model", model);
        final Map<String, Object> config = new LinkedHashMap<>();
        config.put("tokenizer_class", "PreTrainedTokenizerFast");
        config.put("pad_token", padToken);
        config.put("eos_token", endToken);
        config.put("clean_up_tokenization_spaces", false);
        if (template != null) {
            config.put("chat_template", template);
        }
        Files.write(folder.resolve(TOKENIZER), JSON.writer(SerializationFeature.INDENT_OUTPUT).writeValueAsBytes(root));
        Files.write(folder.resolve(TOKENIZER_CONFIG), JSON.writer(SerializationFeature.INDENT_OUTPUT).writeValueAsBytes(config));
    }

    private static Map<String, Object> addedToken(int id, String content, boolean special) {
        final Map<String, Object> token = new LinkedHashMap<>();
        token.put("id", id);
        token.put("content", content);
        token.put("single_word", false);
        token.put("lstrip", false);
        token.put("rstrip", false);
        token.put("normalized", false);
        token.put("special", special);
        return token;
    }

    private static void token(Map<String, Integer> vocab, String token) {
        if (token.isEmpty() || vocab.putIfAbsent(token, vocab.size()) != null) {
            throw new IllegalArgumentException("tokens: expected each once and none empty, given \"" + token + "\"");
        }
    }

    /** {@return the content of a JSON file; a missing node if there is no such file} */
    private static JsonNode json(Path file) throws IOException {
        return Files.isRegularFile(file) ? parse(file, Files.readAllBytes(file)) : JSON.missingNode();
    }

    private static JsonNode parse(Path file, byte[] bytes) throws IOException {
        try {
            final JsonNode root = JSON.readTree(bytes);
            if (!root.isObject()) {
                throw new IOException(file + ": expected a JSON object");
            }
            return root;
        } catch (JsonProcessingException e) {
            throw new IOException(file + ": " + e.getMessage(), e);
        }
    }

    private static int largestId(Path file, JsonNode root) throws IOException {
        final JsonNode vocab = root.path("model").path("vocab");
        int largest = vocab.isArray() ? vocab.size() - 1 : -1; // a Unigram model has a list
        if (vocab.isObject()) {
            for (JsonNode id : vocab) {
                largest = Math.max(largest, id.asInt(-1));
            }
        }
        for (JsonNode token : root.path("added_tokens")) {
            largest = Math.max(largest, token.path("id").asInt(-1));
        }
        if (largest < 0 || largest == Integer.MAX_VALUE) {
            throw new IOException(file + ": expected ids from 0 to " + (Integer.MAX_VALUE - 1)
                    + " in model.vocab or added_tokens, given at most " + largest);
        }
        return largest;
    }

    private static Map<String, Object> specialTokens(JsonNode config) {
        final Map<String, Object> tokens = new LinkedHashMap<>();
        for (Map.Entry<String, JsonNode> field : config.properties()) {
            // a string, or an object of its text and how it is matched
            final JsonNode text = field.getValue().isObject() ? field.getValue().path("content") : field.getValue();
            if (field.getKey().endsWith("_token") && text.isTextual()) {
                tokens.put(field.getKey(), text.asText());
            }
        }
        return Collections.unmodifiableMap(tokens);
    }

    /** {@return the id of a special token, or -1 if the configuration has none of this name} */
    private int id(JsonNode root, String name) throws IOException {
        final Object text = specialTokens.get(name);
        if (text == null) {
            return -1;
        }
        for (JsonNode token : root.path("added_tokens")) {
            if (token.path("content").asText().equals(text)) {
                return token.path("id").asInt(-1);
            }
        }
        final int known = idInVocab((String) text);
        if (known < 0) {
            throw new IOException(folder.resolve(TOKENIZER_CONFIG) + ": " + name + ": " + TOKENIZER + " has no token " + text);
        }
        return known;
    }

    private static String template(JsonNode node) {
        if (node.isArray()) {
            for (JsonNode one : node) {
                if (one.path("name").asText().equals("default")) {
                    return one.path("template").textValue();
                }
            }
        }
        return node.textValue();
    }
}
