package org.teamtr.task.environment;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import org.teamtr.team.Chance;
import org.teamtr.team.ChatTurn;
import org.teamtr.team.Oracle;

/**
 * An oracle behind an endpoint in OpenAI's form, {@code POST URL/chat/completions}. Questions of a turn are sent at once, a few at a time.
 * What an endpoint answers is its own affair: a run that goes on from a checkpoint may hear other answers.
 */
public final class ChatEndpoint implements Oracle {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final int AT_ONCE = 8;
    private static final int TRIES = 4;

    private final HttpClient client = HttpClient.newBuilder().connectTimeout(Duration.ofSeconds(20)).build();
    private final URI uri;
    private final String model;
    private final String key;

    /**
     * @param url up to and without {@code /chat/completions}
     * @param key sent as a bearer token; null for none
     */
    public ChatEndpoint(String url, String model, String key) {
        this.uri = URI.create(url.replaceFirst("/+$", "") + "/chat/completions");
        this.model = model;
        this.key = key;
    }

    @Override
    public List<String> answer(List<List<ChatTurn>> questions, long seed, long[] ids) {
        final List<String> answers = new ArrayList<>();
        for (int from = 0; from < questions.size(); from += AT_ONCE) {
            final List<CompletableFuture<String>> sent = new ArrayList<>();
            for (int i = from; i < Math.min(questions.size(), from + AT_ONCE); i++) {
                final List<ChatTurn> question = questions.get(i);
                final long own = Chance.seed(seed, ids[i]) & Integer.MAX_VALUE;
                sent.add(CompletableFuture.supplyAsync(() -> ask(question, own)));
            }
            sent.forEach(answer -> answers.add(answer.join()));
        }
        return answers;
    }

    private String ask(List<ChatTurn> question, long seed) {
        final ObjectNode body = JSON.createObjectNode().put("model", model).put("temperature", 0.7).put("top_p", 0.7).put("seed", seed);
        final ArrayNode messages = body.putArray("messages");
        question.forEach(turn -> messages.addObject().put("role", turn.role()).put("content", turn.content()));
        final HttpRequest.Builder request = HttpRequest.newBuilder(uri).timeout(Duration.ofMinutes(5)).header("Content-Type", "application/json")
                .POST(HttpRequest.BodyPublishers.ofString(body.toString()));
        if (key != null) {
            request.header("Authorization", "Bearer " + key);
        }
        String failed = "";
        for (int t = 0; t < TRIES; t++) {
            try {
                final HttpResponse<String> response = client.send(request.build(), HttpResponse.BodyHandlers.ofString());
                if (response.statusCode() == 200) {
                    final JsonNode content = JSON.readTree(response.body()).at("/choices/0/message/content");
                    if (content.isTextual()) {
                        return content.textValue();
                    }
                    throw new IllegalStateException(uri + ": expected choices[0].message.content, given " + response.body());
                }
                failed = "status " + response.statusCode() + ": " + response.body();
                if (response.statusCode() != 429 && response.statusCode() < 500) {
                    break; // asked again it would say the same
                }
                Thread.sleep(1000L << t);
            } catch (IOException e) {
                failed = e.toString();
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
                throw new IllegalStateException(uri + ": interrupted", e);
            }
        }
        throw new IllegalStateException(uri + ": no answer: " + (failed.length() > 300 ? failed.substring(0, 297) + "..." : failed));
    }
}
