package org.teamtr.task.environment;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Executors;
import java.util.stream.LongStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.teamtr.team.ChatTurn;
import org.teamtr.team.Oracle;

/** Against a server of our own in this process. */
@Timeout(60)
class ChatEndpointTest {
    private static final ObjectMapper JSON = new ObjectMapper();

    /** What the server does with a request; the question's last turn says which. */
    private interface Answer {
        void to(HttpExchange exchange, String question, int tries) throws IOException;
    }

    private HttpServer server;
    private final List<JsonNode> bodies = Collections.synchronizedList(new ArrayList<>());
    private final List<String> keys = Collections.synchronizedList(new ArrayList<>());
    private final Map<String, Integer> tries = new ConcurrentHashMap<>();
    private final CountDownLatch done = new CountDownLatch(1);
    private Answer answer = (exchange, question, n) -> say(exchange, 200, completion("to " + question));

    @BeforeEach
    void start() throws IOException {
        server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
        server.setExecutor(Executors.newCachedThreadPool());
        server.createContext("/v1/chat/completions", exchange -> {
            final JsonNode body = JSON.readTree(exchange.getRequestBody().readAllBytes());
            bodies.add(body);
            keys.add(String.valueOf(exchange.getRequestHeaders().getFirst("Authorization")));
            assertNull(exchange.getRequestHeaders().getFirst("Upgrade"), "some servers refuse it");
            final String question = body.at("/messages").get(body.at("/messages").size() - 1).get("content").asText();
            answer.to(exchange, question, tries.merge(question, 1, Integer::sum));
        });
        server.start();
    }

    @AfterEach
    void stop() {
        done.countDown();
        server.stop(0);
    }

    private String url() {
        return "http://127.0.0.1:" + server.getAddress().getPort() + "/v1";
    }

    private static void say(HttpExchange exchange, int status, String body) throws IOException {
        final byte[] bytes = body.getBytes(StandardCharsets.UTF_8);
        exchange.getResponseHeaders().set("Content-Type", "application/json");
        exchange.sendResponseHeaders(status, bytes.length);
        exchange.getResponseBody().write(bytes);
        exchange.close();
    }

    /** As the interface is described: with fields that nobody here reads. */
    private static String completion(String text) throws IOException {
        return "{\"id\": \"chatcmpl-1\", \"object\": \"chat.completion\", \"created\": 1, \"model\": \"m\", \"choices\": [{\"index\": 0, \"message\": {\"role\":"
                + " \"assistant\", \"content\": " + JSON.writeValueAsString(text) + ", \"refusal\": null, \"tool_calls\": []}, \"logprobs\": null,"
                + " \"finish_reason\": \"stop\"}], \"usage\": {\"prompt_tokens\": 9, \"completion_tokens\": 2, \"total_tokens\": 11}}";
    }

    private ChatEndpoint endpoint(int retries, Duration timeout) {
        return new ChatEndpoint(url() + "/", "referee-1", "secret", new ChatEndpoint.Patience(timeout, retries, Duration.ofMillis(5)));
    }

    private ChatEndpoint endpoint(int retries) {
        return endpoint(retries, Duration.ofSeconds(20));
    }

    private static List<List<ChatTurn>> questions(String... texts) {
        final List<List<ChatTurn>> questions = new ArrayList<>();
        for (String text : texts) {
            questions.add(List.of(new ChatTurn("system", "You are a referee. \u00fc\ud83d\ude00"), new ChatTurn("user", text)));
        }
        return questions;
    }

    private static List<String> ask(Oracle oracle, String... texts) {
        return oracle.answer(questions(texts), 5, LongStream.range(0, texts.length).toArray());
    }

    @Test
    void questionsAreSentAndAnswersComeInTheirOrder() {
        final String[] texts = new String[20];
        final List<String> expected = new ArrayList<>();
        for (int i = 0; i < texts.length; i++) {
            texts[i] = "question " + i + " \u00e9";
            expected.add("to " + texts[i]);
        }
        assertEquals(expected, ask(endpoint(0), texts));
        for (JsonNode body : bodies) {
            assertEquals("referee-1", body.get("model").asText());
            assertEquals("system", body.at("/messages/0/role").asText());
            assertEquals("You are a referee. \u00fc\ud83d\ude00", body.at("/messages/0/content").asText());
            assertEquals(0.7, body.get("temperature").asDouble());
            assertEquals(0.7, body.get("top_p").asDouble());
            assertTrue(body.get("seed").canConvertToInt() && body.get("seed").asInt() >= 0, "some servers want 31 bits");
        }
        assertEquals(20, bodies.stream().map(b -> b.get("seed").asInt()).distinct().count());
        assertTrue(keys.stream().allMatch("Bearer secret"::equals));
        final List<JsonNode> before = List.copyOf(bodies);
        bodies.clear();
        ask(endpoint(0), texts);
        assertEquals(before.stream().map(b -> b.get("seed").asInt()).sorted().toList(),
                bodies.stream().map(b -> b.get("seed").asInt()).sorted().toList());
        keys.clear();
        ask(new ChatEndpoint(url(), "m", null, ChatEndpoint.Patience.of(20, 0)), "x");
        assertEquals(List.of("null"), keys);
    }

    @Test
    void whatPassesIsTriedAgain() {
        final int[] statuses = {503, 429, 500, 408};
        answer = (exchange, question, n) -> {
            if (n <= statuses.length) {
                exchange.getResponseHeaders().set("Retry-After", "0");
                say(exchange, statuses[n - 1], "{\"error\": {\"message\": \"later\"}}");
            } else {
                say(exchange, 200, completion("at last"));
            }
        };
        assertEquals(List.of("at last", "at last"), ask(endpoint(4), "a", "b"));
        assertEquals(Map.of("a", 5, "b", 5), tries);
        tries.clear();
        final Oracle.Failure e = assertThrows(Oracle.Failure.class, () -> ask(endpoint(2), "a"));
        assertEquals(url() + "/chat/completions: no answer after 3 tries: status 500: {\"error\": {\"message\": \"later\"}}", e.getMessage());
        assertEquals(3, tries.get("a"));
    }

    @Test
    void connectionsThatBreakAreTriedAgain() {
        answer = (exchange, question, n) -> {
            if (n == 1) {
                exchange.close(); // without an answer
            } else {
                say(exchange, 200, completion("here"));
            }
        };
        assertEquals(List.of("here"), ask(endpoint(1), "a"));
    }

    @Test
    void whatDoesNotPassIsSaidAtOnce() {
        answer = (exchange, question, n) -> {
            if (question.equals("good")) {
                say(exchange, 200, completion("yes"));
            } else {
                say(exchange, 401, "{\"error\": {\"message\":\n \"Incorrect API key\"}}");
            }
        };
        final Oracle.Failure e = assertThrows(Oracle.Failure.class, () -> ask(endpoint(3), "good", "bad", "good"));
        assertEquals(1, e.question(), "which of them");
        assertEquals(url() + "/chat/completions: no answer: status 401: {\"error\": {\"message\": \"Incorrect API key\"}}", e.getMessage());
        assertEquals(1, tries.get("bad"), "asked again it would say the same");
    }

    @Test
    void answersInAnotherForm() {
        final String[] bodies = {"<html>gateway</html>", "{}", "{\"choices\": []}", "{\"choices\": [{\"message\": {\"content\": null}}]}", ""};
        answer = (exchange, question, n) -> say(exchange, 200, bodies[Integer.parseInt(question)]);
        for (int i = 0; i < bodies.length; i++) {
            final String text = Integer.toString(i);
            final String message = assertThrows(Oracle.Failure.class, () -> ask(endpoint(3), text)).getMessage();
            assertTrue(message.contains(i == 0 ? ": expected JSON, given <html>gateway</html>"
                    : ": expected a text at choices[0].message.content, given " + bodies[i]), message);
            assertEquals(1, tries.get(text));
        }
    }

    @Test
    void whoDoesNotAnswerInTime() {
        answer = (exchange, question, n) -> {
            if (n == 1) {
                await();
            }
            say(exchange, 200, completion("late"));
        };
        assertEquals(List.of("late"), ask(endpoint(1, Duration.ofMillis(400)), "a"));
        answer = (exchange, question, n) -> await();
        assertEquals(url() + "/chat/completions: no answer after 2 tries: nothing came within 0.2 s",
                assertThrows(Oracle.Failure.class, () -> ask(endpoint(1, Duration.ofMillis(200)), "b")).getMessage());
    }

    private void await() {
        try {
            done.await();
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    @Test
    void nobodyThere() {
        final String nowhere = url();
        server.stop(0);
        final String message = assertThrows(Oracle.Failure.class, () -> ask(new ChatEndpoint(nowhere, "m", null,
                new ChatEndpoint.Patience(Duration.ofSeconds(5), 1, Duration.ofMillis(1))), "a")).getMessage();
        assertTrue(message.startsWith(nowhere + "/chat/completions: no answer after 2 tries: no connection"), message);
    }
}
