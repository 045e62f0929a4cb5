package example;

import dev.langchain4j.data.message.AiMessage;
import dev.langchain4j.data.message.ChatMessage;
import dev.langchain4j.data.message.SystemMessage;
import dev.langchain4j.data.message.UserMessage;
import dev.langchain4j.model.chat.ChatModel;
import dev.langchain4j.model.chat.request.ChatRequest;
import dev.langchain4j.model.chat.response.ChatResponse;
import dev.langchain4j.model.output.FinishReason;
import dev.langchain4j.model.output.TokenUsage;
import java.util.List;
import org.teamtr.kernels.SamplingConfig;
import org.teamtr.team.ChatTurn;
import org.teamtr.team.Generation;
import org.teamtr.team.Speaker;
import org.teamtr.team.Truncation;
import org.teamtr.team.Utterance;

/**
 * A policy that this trainer has trained, as a {@link ChatModel} of LangChain4j.
 *
 * <p>One thread at a time, as a {@link Speaker}. Requests with tools, images or stop sequences are refused.
 */
public final class PolicyChatModel implements ChatModel {
    private final Speaker speaker;
    private final int maxNewTokens;
    private long requests;

    /** @param maxNewTokens of a message, where a request names no other number */
    public PolicyChatModel(Speaker speaker, int maxNewTokens) {
        this.speaker = speaker;
        this.maxNewTokens = maxNewTokens;
    }

    @Override
    public ChatResponse doChat(ChatRequest request) {
        if (!request.toolSpecifications().isEmpty() || !request.stopSequences().isEmpty()) {
            throw new UnsupportedOperationException("expected a request without tools and stop sequences, given " + request);
        }
        final double temperature = request.temperature() == null ? 0 : request.temperature();
        final float topP = request.topP() == null ? 1 : request.topP().floatValue();
        final int longest = request.maxOutputTokens() == null ? maxNewTokens : request.maxOutputTokens();
        final int[] tokens = speaker.encode(request.messages().stream().map(PolicyChatModel::turn).toList()); // by its chat template
        final Utterance said = speaker.generate(List.of(tokens),
                new Generation(temperature, SamplingConfig.ALL.withTopP(topP), longest, Truncation.ERROR), requests++, new long[] {0})
                .get(0);
        return ChatResponse.builder().aiMessage(AiMessage.from(said.text()))
                .tokenUsage(new TokenUsage(tokens.length, said.tokens().length))
                .finishReason(said.ended() ? FinishReason.STOP : FinishReason.LENGTH).build();
    }

    private static ChatTurn turn(ChatMessage message) {
        if (message instanceof SystemMessage system) {
            return new ChatTurn("system", system.text());
        }
        if (message instanceof UserMessage user) {
            return new ChatTurn("user", user.singleText());
        }
        if (message instanceof AiMessage ai && ai.text() != null) {
            return new ChatTurn("assistant", ai.text());
        }
        throw new IllegalArgumentException("expected messages of text from the system, the user or the assistant, given " + message);
    }
}
