package org.teamtr.team;

import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Makes the prompt of an agent from the context.
 *
 * <p>In {@code system} and {@code user}, {@code {prompt}} stands for the prompt's text, {@code {role}} for the agent's role,
 * {@code {turn}} for the turn's number from 1 on, and {@code {transcript}} for the messages the agent sees, each written by
 * {@code message}, where {@code {role}} is the message's speaker and {@code {text}} its text. In a template, {@code {{} and {@code }}}
 * stand for single braces: {@code \\boxed{{7}}}. Texts are put in verbatim: a brace in a message is only a brace. An environment's answer
 * to a message follows it, written by {@code message} too, with its own role; its observation before the first message precedes all
 * messages, with every view.
 *
 * <p>A prompt that continues a conversation ({@link Prompt#before}) keeps it: its system turns follow the agent's own system turn,
 * within that turn, and its other turns stand before the user turn.
 *
 * @param system the system turn, or null for none
 * @param user the user turn
 * @param message how one message is written
 */
public record PromptTemplate(String system, String user, String message) {
    private static final Pattern FIELD = Pattern.compile("\\{\\{|}}|\\{([a-z]+)}");

    /** @throws IllegalArgumentException if a template has a {field} that it cannot have, or half a surrogate pair */
    public PromptTemplate {
        Objects.requireNonNull(user, "user");
        Objects.requireNonNull(message, "message");
        check(system, "system", List.of("prompt", "role", "turn", "transcript"));
        check(user, "user", List.of("prompt", "role", "turn", "transcript"));
        check(message, "message", List.of("role", "text", "turn"));
    }

    /** {@return the turns for the agent of this role, at this point of the context} */
    public List<ChatTurn> render(Context context, String role, View view) {
        final List<Message> all = context.messages();
        final List<Message> seen = switch (view) {
            case NONE -> List.of();
            case PREDECESSOR -> all.subList(Math.max(0, all.size() - 1), all.size());
            case TRANSCRIPT -> all;
            case CONVERSATION -> List.of();
        };
        final StringBuilder transcript = new StringBuilder();
        if (context.opening() != null) {
            transcript.append(write(context.opening(), 1));
        }
        for (Message m : seen) {
            transcript.append(write(m));
            if (context.observation(m.turn()) != null) {
                transcript.append(write(context.observation(m.turn()), m.turn() + 1));
            }
        }
        final String said = transcript.toString();
        final List<String> systems = new ArrayList<>();
        if (system != null) {
            systems.add(fill(system, role, context.turn() + 1, "prompt", context.prompt().text(), "transcript", said));
        }
        final List<ChatTurn> before = new ArrayList<>();
        for (ChatTurn turn : context.prompt().before()) {
            if (turn.role().equals("system")) {
                systems.add(turn.content());
            } else {
                before.add(turn);
            }
        }
        final List<ChatTurn> turns = new ArrayList<>();
        if (!systems.isEmpty()) {
            turns.add(new ChatTurn("system", String.join("\n\n", systems)));
        }
        turns.addAll(before);
        turns.add(new ChatTurn("user", fill(user, role, context.turn() + 1, "prompt", context.prompt().text(), "transcript", said)));
        if (view == View.CONVERSATION) {
            converse(context, role, turns);
        }
        return turns;
    }

    /** Two turns of the user in a row become one: chat templates want them to alternate. */
    private void converse(Context context, String role, List<ChatTurn> turns) {
        for (Message m : context.messages()) {
            final boolean own = m.role().equals(role);
            add(turns, own ? "assistant" : "user", own ? m.text() : write(m));
            final Observation o = context.observation(m.turn());
            if (o != null) {
                if (own && o.role().equals("tool")) {
                    o.results().forEach(result -> add(turns, "tool", result));
                } else {
                    add(turns, "user", write(o, m.turn() + 1));
                }
            }
        }
    }

    private static void add(List<ChatTurn> turns, String role, String text) {
        final ChatTurn last = turns.get(turns.size() - 1);
        if (role.equals("user") && last.role().equals("user")) {
            turns.set(turns.size() - 1, new ChatTurn("user", last.content() + "\n" + text));
        } else {
            turns.add(new ChatTurn(role, text));
        }
    }

    private String write(Message m) {
        return fill(message, m.role(), m.turn() + 1, "text", m.text(), null, null);
    }

    private String write(Observation o, int turn) {
        return fill(message, o.role(), turn, "text", o.text(), null, null);
    }

    private static String fill(String template, String role, int turn, String name1, String text1, String name2, String text2) {
        final Matcher m = FIELD.matcher(template);
        final StringBuilder out = new StringBuilder();
        while (m.find()) {
            final String field = m.group(1);
            final String value = field == null ? m.group().substring(1) : field.equals("role") ? role : field.equals("turn") ? Integer.toString(turn)
                    : field.equals(name1) ? text1 : field.equals(name2) ? text2 : m.group();
            m.appendReplacement(out, Matcher.quoteReplacement(value));
        }
        return m.appendTail(out).toString();
    }

    private static void check(String template, String name, List<String> fields) {
        if (template == null) {
            return;
        }
        if (template.codePoints().anyMatch(c -> Character.getType(c) == Character.SURROGATE)) { // no character: no tokenizer has it
            throw new IllegalArgumentException(name + ": expected text, given half a surrogate pair in \"" + template + "\"");
        }
        final Matcher m = FIELD.matcher(template);
        while (m.find()) {
            if (m.group(1) != null && !fields.contains(m.group(1))) {
                throw new IllegalArgumentException(name + ": expected fields among " + fields + ", given {" + m.group(1) + "} in \""
                        + template + "\"; braces that are only braces are written {{ and }}");
            }
        }
    }
}
