package org.teamtr.chat;

import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import org.teamtr.team.ChatTurn;

/**
 * Encodes a conversation into the prompt of a model: with the tokenizer's chat template where it has one, otherwise the turns' contents
 * joined by line breaks, with the special tokens that the tokenizer adds to texts. Any number of threads may encode at once.
 */
public final class ChatEncoder {
    private final Tokenizer tokenizer;
    private final ChatTemplate template;
    private final boolean thinking;

    /**
     * @param tokenizer stays the caller's
     * @param thinking the chat template's {@code enable_thinking}
     * @throws IllegalArgumentException if the chat template cannot be used
     */
    public ChatEncoder(Tokenizer tokenizer, boolean thinking) {
        this.tokenizer = tokenizer;
        this.template = tokenizer.chatTemplate();
        this.thinking = thinking;
    }

    /**
     * {@return the tokens of a conversation whose next turn is the model's}
     *
     * @param tools that the model may call, as the chat template describes them; empty for none
     * @throws IllegalArgumentException if the template refuses the conversation, a character has no token, or there are tools and no
     *     template that could describe them
     */
    public int[] encode(List<ChatTurn> turns, List<Map<String, Object>> tools) {
        if (template == null) {
            if (!tools.isEmpty()) {
                throw new IllegalArgumentException("tools: expected a model whose chat template describes tools, given one without a chat"
                        + " template");
            }
            return tokenizer.encodeText(turns.stream().map(ChatTurn::content).collect(Collectors.joining("\n")));
        }
        final Map<String, Object> variables = new HashMap<>(tokenizer.specialTokens());
        variables.put("add_generation_prompt", true);
        variables.put("enable_thinking", thinking);
        variables.put("tools", tools.isEmpty() ? null : tools);
        variables.put("documents", null);
        return tokenizer.encode(template.render(turns, variables));
    }
}
