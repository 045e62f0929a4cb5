package org.teamtr.task.environment;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.net.ConnectException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.net.http.HttpTimeoutException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.teamtr.team.KeyedRandom;
import org.teamtr.team.ChatTurn;
import org.teamtr.team.Oracle;

/**
 * An oracle behind an endpoint with OpenAI's protocol, {@code POST URL/chat/completions}. Questions of a turn are sent concurrently, a few
 * at a time. Temporary errors are retried: status 408, 409, 429 and those from 500 on, connections that fail, answers that take too long.
 *
 * <p>Answers of an endpoint are not reproducible: a run that is resumed from a checkpoint may get other answers.
 */
public final class ChatEndpoint implements Oracle {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final int AT_ONCE = 8;
    /** The longest wait that a server may ask for before another try. */
    private static final Duration PATIENCE = Duration.ofMinutes(2);

    private final HttpClient client;
    private final URI uri;
    private final String model;
    private final String key;
    private final Patience patience;

    /**
     * Time limits and retries.
     *
     * @param timeout for an answer
     * @param retries tries after the first, 0 or more
     * @param pause before the second try; twice as long before each further one, unless the server says how long
     */
    public record Patience(Duration timeout, int retries, Duration pause) {
        /** Pauses that begin with a second. */
        public static Patience of(int timeoutSeconds, int retries) {
            return new Patience(Duration.ofSeconds(timeoutSeconds), retries, Duration.ofSeconds(1));
        }
    }

    /**
     * @param url up to and without {@code /chat/completions}
     * @param key sent as a bearer token; null for none
     */
    public ChatEndpoint(String url, String model, String key, Patience patience) {
        this.uri = URI.create(url.replaceFirst("/+$", "") + "/chat/completions");
        this.model = model;
        this.key = key;
        this.patience = patience;
        // Some servers of models take a request to go over to HTTP/2 for an error.
        this.client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).connectTimeout(patience.timeout()).build();
    }

    @Override
    public List<String> answer(List<List<ChatTurn>> questions, long seed, long[] ids) {
        final ExecutorService threads = Executors.newFixedThreadPool(Math.min(AT_ONCE, questions.size()));
        try {
            final List<Future<String>> sent = new ArrayList<>();
            for (int i = 0; i < questions.size(); i++) {
                final List<ChatTurn> question = questions.get(i);
                final long own = KeyedRandom.seed(seed, ids[i]) & Integer.MAX_VALUE;
                sent.add(threads.submit(() -> ask(question, own)));
            }
            final List<String> answers = new ArrayList<>();
            for (int i = 0; i < sent.size(); i++) {
                try {
                    answers.add(sent.get(i).get());
                } catch (ExecutionException e) {
                    throw new Failure(i, uri + ": " + e.getCause().getMessage(), e.getCause());
                } catch (InterruptedException e) {
                    Thread.currentThread().interrupt();
                    throw new Failure(i, uri + ": interrupted", e);
                }
            }
            return answers;
        } finally {
            threads.shutdownNow(); // requests in progress are no longer needed
        }
    }

    private HttpRequest request(List<ChatTurn> question, long seed) {
        final ObjectNode body = JSON.createObjectNode().put("model", model).put("temperature", 0.7).put("top_p", 0.7).put("seed", seed);
        final ArrayNode messages = body.putArray("messages");
        question.forEach(turn -> messages.addObject().put("role", turn.role()).put("content", turn.content()));
        final HttpRequest.Builder request = HttpRequest.newBuilder(uri).timeout(patience.timeout()).header("Content-Type", "application/json")
                .header("Accept", "application/json").POST(HttpRequest.BodyPublishers.ofString(body.toString()));
        return (key == null ? request : request.header("Authorization", "Bearer " + key)).build();
    }

    private String ask(List<ChatTurn> question, long seed) throws IOException, InterruptedException {
        final HttpRequest request = request(question, seed);
        String failed = "";
        for (int t = 0; t <= patience.retries(); t++) {
            Duration wait = patience.pause().multipliedBy(1L << Math.min(t, 16));
            try {
                final HttpResponse<String> response = client.send(request, HttpResponse.BodyHandlers.ofString(StandardCharsets.UTF_8));
                final int status = response.statusCode();
                if (status == 200) {
                    return content(response.body());
                }
                failed = "status " + status + ": " + shortened(response.body());
                if (status != 408 && status != 409 && status != 429 && status < 500) {
                    throw new Settled("no answer: " + failed); // the answer to a second request would be the same
                }
                final String after = response.headers().firstValue("Retry-After").orElse("");
                wait = after.matches("[0-9]{1,6}") ? Duration.ofSeconds(Long.parseLong(after)) : wait;
            } catch (Settled e) {
                throw e;
            } catch (HttpTimeoutException e) {
                failed = "nothing came within " + patience.timeout().toMillis() / 1000.0 + " s";
            } catch (ConnectException e) {
                failed = "no connection" + (e.getMessage() == null ? "" : ": " + e.getMessage());
            } catch (IOException e) {
                failed = e.toString();
            }
            if (t < patience.retries()) {
                Thread.sleep((wait.compareTo(PATIENCE) > 0 ? PATIENCE : wait).toMillis());
            }
        }
        throw new IOException("no answer after " + (patience.retries() + 1) + " tries: " + failed);
    }

    /** An error that another try would not change. */
    private static final class Settled extends IOException {
        private static final long serialVersionUID = 1;

        Settled(String message) {
            super(message);
        }
    }

    private static String content(String body) throws Settled {
        try {
            final JsonNode content = JSON.readTree(body).at("/choices/0/message/content");
            if (content.isTextual()) {
                return content.textValue();
            }
        } catch (JsonProcessingException e) {
            throw new Settled("expected JSON, given " + shortened(body));
        }
        throw new Settled("expected a text at choices[0].message.content, given " + shortened(body));
    }

    private static String shortened(String text) {
        final String line = text.strip().replaceAll("\\s+", " ");
        return line.length() > 300 ? line.substring(0, 297) + "..." : line;
    }
}
