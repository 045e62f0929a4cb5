package org.teamtr.chat;

import java.time.Clock;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.teamtr.team.ChatTurn;

/**
 * A chat template of Hugging Face: the Jinja program in a model's {@code tokenizer_config.json} that turns a conversation into the
 * text the model was trained on.
 *
 * <p>It is rendered as {@code transformers} does (trim_blocks, lstrip_blocks, loop controls, {@code tojson} without escapes for
 * letters beyond ASCII, {@code raise_exception}, {@code strftime_now}). The part of Jinja that chat templates use is supported; anything
 * else is an error that names it and its line, never another prompt. A template is not trusted: how much it may compute and write is
 * bounded.
 *
 * <p>Immutable; any number of threads may render at once.
 */
public final class ChatTemplate {
    private final JinjaParser.Node root;

    private ChatTemplate(JinjaParser.Node root) {
        this.root = root;
    }

    /**
     * {@return the template, ready to be rendered}
     *
     * @throws IllegalArgumentException if something in it is wrong or not supported, naming it and its line
     */
    public static ChatTemplate compile(String template) {
        try {
            return new ChatTemplate(new JinjaParser(template).parse());
        } catch (StackOverflowError e) {
            throw new IllegalArgumentException("chat template: nested too deeply", e);
        }
    }

    /**
     * Renders a conversation.
     *
     * @param variables what the template may refer to besides {@code messages}: strings, numbers, booleans, nulls, and lists and maps
     *     of them. {@code transformers} always gives {@code add_generation_prompt}, {@code tools} and {@code documents} (null without)
     *     and the special tokens ({@link Tokenizer#specialTokens}); templates may ask for others, such as {@code enable_thinking}
     * @throws IllegalArgumentException if the template raises an error or does something that is not supported, naming it and its line
     */
    public String render(List<ChatTurn> turns, Map<String, ?> variables) {
        final List<Map<String, Object>> messages = new ArrayList<>(turns.size());
        for (ChatTurn turn : turns) {
            final Map<String, Object> message = new LinkedHashMap<>();
            message.put("role", turn.role());
            message.put("content", turn.content());
            messages.add(message);
        }
        return renderMessages(messages, variables);
    }

    /**
     * Renders a conversation whose messages have more than a role and a content, such as {@code tool_calls}.
     *
     * @param variables as in {@link #render}
     * @throws IllegalArgumentException as {@link #render} does
     */
    public String renderMessages(List<? extends Map<String, ?>> messages, Map<String, ?> variables) {
        return render(messages, variables, Clock.systemDefaultZone());
    }

    String render(List<? extends Map<String, ?>> messages, Map<String, ?> variables, Clock clock) {
        final Map<String, Object> all = new LinkedHashMap<>(variables);
        all.put("messages", messages);
        final JinjaValues.Run run = new JinjaValues.Run(clock);
        try {
            final StringBuilder out = new StringBuilder();
            root.render(new JinjaValues.Scope(run, all), out);
            return out.toString();
        } catch (JinjaValues.Fault e) {
            throw new IllegalArgumentException("chat template: " + e.getMessage(), e);
        } catch (StackOverflowError e) {
            throw new IllegalArgumentException("chat template: nested too deeply", e);
        }
    }
}
