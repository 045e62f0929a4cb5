package org.teamtr.chat;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.FileNotFoundException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.teamtr.team.ChatTurn;

class TokenizerTest {
    private static final String CHARACTERS = "0123456789+=; \nä😀\"\\";

    @TempDir
    private Path folder;

    @BeforeEach
    void write() throws IOException {
        Tokenizer.writeCharacters(folder, CHARACTERS, List.of("<pad>", "<end>"), "<pad>", "<end>");
    }

    private void config(String name, String json) throws IOException {
        Files.writeString(folder.resolve(name), json);
    }

    @Test
    void idsGoByPosition() throws IOException {
        try (Tokenizer tokenizer = Tokenizer.open(folder)) {
            assertArrayEquals(new int[] {5, 9, 13, 7}, tokenizer.encode("37=5"));
            assertArrayEquals(IntStream.range(2, 21).toArray(), tokenizer.encode(CHARACTERS));
            assertArrayEquals(new int[] {3, 1, 0, 16, 15, 15}, tokenizer.encode("1<end><pad>\n  "));
            assertArrayEquals(new int[0], tokenizer.encode(""));
            assertEquals(21, tokenizer.vocab());
            assertArrayEquals(new int[] {1}, tokenizer.endTokens());
            assertEquals(Map.of("pad_token", "<pad>", "eos_token", "<end>"), tokenizer.specialTokens());
            assertNull(tokenizer.chatTemplate());
        }
    }

    @Test
    void decodingGivesTheTextBack() throws IOException {
        try (Tokenizer tokenizer = Tokenizer.open(folder)) {
            assertEquals(CHARACTERS, tokenizer.decode(tokenizer.encode(CHARACTERS)));
            final int[] ids = tokenizer.encode("37=5<end><pad>1");
            assertEquals("37=51", tokenizer.decode(ids));
            assertEquals("37=5<end><pad>1", tokenizer.decodeWithSpecial(ids));
            assertEquals("", tokenizer.decode(new int[0]));
            assertEquals("3", tokenizer.decode(new int[] {21, 5, Integer.MAX_VALUE}));
            assertEquals("ids: expected 0 or more, given -1 at 1",
                    assertThrows(IllegalArgumentException.class, () -> tokenizer.decode(new int[] {5, -1})).getMessage());
        }
    }

    @Test
    void longTextsAreNotCut() throws IOException {
        config("tokenizer_config.json", "{\"model_max_length\": 8, \"eos_token\": \"<end>\"}");
        try (Tokenizer tokenizer = Tokenizer.open(folder)) {
            assertEquals(100_000, tokenizer.encode("1".repeat(100_000)).length);
        }
    }

    @Test
    void anUnknownCharacterIsAnErrorThatNamesIt() throws IOException {
        try (Tokenizer tokenizer = Tokenizer.open(folder)) {
            final String message = assertThrows(IllegalArgumentException.class, () -> tokenizer.encode("😀12x4y")).getMessage();
            assertTrue(message.contains("character 3 of the text, 'x' (U+0078), has no token"), message);
            final String half = assertThrows(IllegalArgumentException.class, () -> tokenizer.encode("😀1\uD800")).getMessage();
            assertTrue(half.contains("half a surrogate pair, U+D800, at index 3"), half);
        }
    }

    @Test
    void endTokensComeFromAllFiles() throws IOException {
        config("tokenizer_config.json", "{\"eos_token\": {\"content\": \"<end>\"}, \"pad_token\": null}");
        config("generation_config.json", "{\"eos_token_id\": [7, 1, 5]}");
        config("config.json", "{\"eos_token_id\": 3}");
        try (Tokenizer tokenizer = Tokenizer.open(folder)) {
            assertArrayEquals(new int[] {1, 7, 5, 3}, tokenizer.endTokens());
        }
        config("tokenizer_config.json", "{\"pad_token\": \"7\"}"); // of the model's own vocabulary, not an added token
        config("generation_config.json", "{}");
        config("config.json", "{\"eos_token_id\": null}");
        try (Tokenizer tokenizer = Tokenizer.open(folder)) {
            assertArrayEquals(new int[0], tokenizer.endTokens());
        }
    }

    @Test
    void templatesComeFromEitherPlace() throws IOException {
        final List<ChatTurn> turns = List.of(new ChatTurn("user", "1+1"));
        config("tokenizer_config.json", "{\"eos_token\": \"<end>\", \"chat_template\": \"one {{ messages[0].content }}{{ eos_token }}\"}");
        assertEquals("one 1+1<end>", render(turns));
        config("tokenizer_config.json", "{\"chat_template\": [{\"name\": \"tool_use\", \"template\": \"no\"},"
                + "{\"name\": \"default\", \"template\": \"two {{ messages|length }}\"}]}");
        assertEquals("two 1", render(turns));
        config("chat_template.jinja", "three\n");
        assertEquals("three", render(turns));
        config("chat_template.jinja", "\n{% nonesuch %}");
        final String message = assertThrows(IllegalArgumentException.class, () -> render(turns)).getMessage();
        assertTrue(message.contains("chat_template.jinja: chat template, line 2: tag 'nonesuch'"), message);
    }

    private static final String TWO = """
            {"eos_token": "<end>", "chat_template": "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}",
             "added_tokens_decoder": {"21": {"content": "<|im_start|>", "special": true}, "22": {"content": "<|im_end|>", "special": true}}}
            """;

    /** As transformers does it; spelt out, no character of theirs would even have a token here. */
    @Test
    void tokensOfTokenizerConfigAreAdded() throws IOException {
        config("tokenizer_config.json", TWO);
        try (Tokenizer tokenizer = Tokenizer.open(folder)) {
            assertArrayEquals(new int[] {21, 3, 22}, tokenizer.encode("<|im_start|>1<|im_end|>"));
            assertEquals("1", tokenizer.decode(new int[] {21, 3, 22}));
            assertEquals("<|im_start|>1<|im_end|>", tokenizer.decodeWithSpecial(new int[] {21, 3, 22}));
            assertEquals(23, tokenizer.vocab());
            final Path other = Files.createDirectory(folder.resolve("other"));
            tokenizer.copyTo(other);
            try (Tokenizer copy = Tokenizer.open(other)) {
                assertTrue(copy.sameTokens(tokenizer));
                assertArrayEquals(new int[] {21}, copy.encode("<|im_start|>"));
            }
        }
        config("tokenizer_config.json",
                "{\"eos_token\": \"<end>\", \"bos_token\": \"<begin>\", \"extra_special_tokens\": [\"<think>\", \"+\"]}");
        try (Tokenizer tokenizer = Tokenizer.open(folder)) {
            assertArrayEquals(new int[] {21, 3, 12, 22}, tokenizer.encode("<begin>1+<think>"), "the next ids, and those of the vocabulary");
            assertEquals("1", tokenizer.decode(new int[] {21, 3, 12, 22}), "all of them special");
        }
    }

    @Test
    void idsThatDoNotFitAreRefused() throws IOException {
        config("tokenizer_config.json", TWO.replace("\"22\"", "\"40\""));
        assertNames("tokenizer_config.json: <|im_end|>: expected the id 40, but with tokenizer.json it is [22]");
        config("tokenizer_config.json", TWO.replace("\"22\": {\"content\": \"<|im_end|>\"", "\"22\": {\"content\": \"<end>\""));
        assertNames("tokenizer_config.json: added_tokens_decoder: <end>: expected the id 1 of tokenizer.json, given 22");
        config("tokenizer_config.json", TWO.replace("\"22\"", "\"x\""));
        assertNames("tokenizer_config.json: added_tokens_decoder: expected ids, given x");
    }

    @Test
    void anEndOfTurnThatDoesNotEndGenerationIsSaid() throws IOException {
        final String template = "\"chat_template\": \"{% for m in messages %}{{ m.content }}<pad>{% endfor %}\"}";
        config("tokenizer_config.json", "{\"eos_token\": \"<end>\", " + template);
        try (Tokenizer tokenizer = Tokenizer.open(folder)) {
            assertEquals(List.of(folder + ": the chat template ends a message with <pad>, which does not end generation: eos_token and"
                    + " eos_token_id have only [<end>]. Messages will go on after it; name it in generation_config.json if it should end"
                    + " them"), tokenizer.notes());
        }
        config("generation_config.json", "{\"eos_token_id\": [0, 1]}");
        try (Tokenizer tokenizer = Tokenizer.open(folder)) {
            assertEquals(List.of(), tokenizer.notes());
        }
        Files.delete(folder.resolve("generation_config.json"));
        config("tokenizer_config.json", "{\"eos_token\": \"<end>\", " + template.replace("{% for", "{{ raise_exception('no') }}{% for"));
        try (Tokenizer tokenizer = Tokenizer.open(folder)) {
            assertEquals(List.of(), tokenizer.notes(), "nothing is known of it");
        }
    }

    @Test
    void textsWithoutATemplate() throws IOException {
        try (Tokenizer tokenizer = Tokenizer.open(folder)) {
            assertArrayEquals(tokenizer.encode("1+1"), tokenizer.encodeText("1+1"));
            assertEquals(List.of(folder + ": there is no chat template; the turns of a prompt are joined by line breaks, with no special"
                    + " tokens"), tokenizer.notes());
        }
        config("tokenizer_config.json",
                "{\"eos_token\": \"<end>\", \"bos_token\": \"<pad>\", \"add_bos_token\": true, \"add_eos_token\": true}");
        try (Tokenizer tokenizer = Tokenizer.open(folder)) {
            assertArrayEquals(new int[] {0, 3, 1}, tokenizer.encodeText("1"));
        }
    }

    private String render(List<ChatTurn> turns) throws IOException {
        try (Tokenizer tokenizer = Tokenizer.open(folder)) {
            return tokenizer.chatTemplate().render(turns, tokenizer.specialTokens());
        }
    }

    @Test
    void wrongFilesAreNamed() throws IOException {
        config("tokenizer_config.json", "{\"eos_token\": \"<nonesuch>\"}");
        assertNames("tokenizer_config.json: eos_token: tokenizer.json has no token <nonesuch>");
        config("tokenizer_config.json", "{");
        assertNames("tokenizer_config.json: ");
        Files.delete(folder.resolve("tokenizer_config.json"));
        config("config.json", "{\"eos_token_id\": 21}");
        assertNames("config.json: eos_token_id: expected ids from 0 to 20, given 21");
        config("config.json", "[]");
        assertNames("config.json: expected a JSON object");
        Files.delete(folder.resolve("config.json"));
        config("tokenizer.json", "{\"model\": {\"type\": \"Nonesuch\", \"vocab\": {\"a\": 0}}}");
        assertNames("tokenizer.json: ");
        config("tokenizer.json", "{}");
        assertNames("tokenizer.json: expected ids from 0 to ");
        Files.delete(folder.resolve("tokenizer.json"));
        assertThrows(FileNotFoundException.class, () -> Tokenizer.open(folder));
    }

    private void assertNames(String expected) {
        final String message = assertThrows(IOException.class, () -> Tokenizer.open(folder)).getMessage();
        assertTrue(message.contains(expected), message);
    }

    @Test
    void wrongSymbolsAreErrors() {
        assertThrows(IllegalArgumentException.class, () -> Tokenizer.writeCharacters(folder, "010", List.of("<e>"), "<e>", "<e>"));
        assertThrows(IllegalArgumentException.class, () -> Tokenizer.writeCharacters(folder, "01", List.of("<e>", ""), "<e>", "<e>"));
        assertThrows(IllegalArgumentException.class, () -> Tokenizer.writeCharacters(folder, "01", List.of("<e>"), "<p>", "<e>"));
        assertThrows(IllegalArgumentException.class, () -> Tokenizer.writeCharacters(folder, "01", List.of("1"), "1", "1"));
    }

    @Test
    void manyThreadsMayEncode() throws IOException {
        try (Tokenizer tokenizer = Tokenizer.open(folder)) {
            final long wrong = IntStream.range(0, 2000).parallel()
                    .filter(i -> !tokenizer.decode(tokenizer.encode("" + i)).equals("" + i)).count();
            assertEquals(0, wrong);
        }
    }
}
