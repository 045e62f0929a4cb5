package org.teamtr.task.environment;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.teamtr.team.ChatTurn;
import org.teamtr.team.Context;
import org.teamtr.team.Environment;
import org.teamtr.team.Message;
import org.teamtr.team.Observation;
import org.teamtr.team.Oracle;
import org.teamtr.team.Prompt;

/**
 * tau-bench's retail tasks: the team serves a customer, whom an oracle plays by {@code meta.instruction}; the prompt's text is the shop's
 * policy. A message is a call of one tool, whose result comes back, or a reply to the customer. The episode ends when the customer says
 * {@code ###STOP###}, at a transfer to a human, or after {@code turns} messages, which is then no success.
 *
 * <p>Solved if the shop is in the state that the calls of {@code meta.actions} leave it in, and every text of {@code meta.outputs} was said
 * to the customer, case and commas aside. Figures: {@code calls}, {@code state}, {@code outputs}.
 */
public final class Retail implements Environment {
    private static final String STOP = "###STOP###";

    private final RetailShop shop;
    private final List<Map<String, Object>> tools;
    private final Oracle oracle;
    private final int turns;

    /**
     * @param shop as every episode finds it
     * @param tools descriptions for chat templates; empty where the prompt describes them
     * @param turns messages at most, 1 or more; 30 as published
     */
    public Retail(RetailShop shop, List<Map<String, Object>> tools, Oracle oracle, int turns) {
        this.shop = shop;
        this.tools = List.copyOf(tools);
        this.oracle = oracle;
        this.turns = turns;
    }

    @Override
    public Oracle oracle() {
        return oracle;
    }

    @Override
    public List<Map<String, Object>> tools() {
        return tools;
    }

    @Override
    public Range range() {
        return new Range(0, 1);
    }

    @Override
    public Course start(Prompt prompt, long seed) {
        if (!(prompt.meta().get("instruction") instanceof String instruction) || !(prompt.meta().get("actions") instanceof List<?> actions)) {
            throw new IllegalArgumentException(prompt.id() + ": expected the columns instruction and actions, given " + prompt.meta().keySet());
        }
        final List<ChatTurn> chat = new ArrayList<>(List.of(new ChatTurn("system",
                "You are a customer who talks to a shop's agent. Say one line at a time,"
                        + " nothing that your instruction does not say, and do not give all of it away at once. When it is done, say " + STOP
                        + " alone.\nInstruction: " + instruction),
                new ChatTurn("user", "Hi! How can I help you today?")));
        return new Course() {
            private final RetailShop own = shop.copy();
            private final List<String> said = new ArrayList<>();
            private boolean opened;
            private boolean late;
            private int messages;
            private int calls;

            @Override
            public List<ChatTurn> openingQuestion() {
                return chat;
            }

            @Override
            public Step step(Message message, Context context) {
                messages++;
                final List<ToolCalls.Call> made = ToolCalls.of(message.text());
                if (made.isEmpty() || made.get(0).name() == null) {
                    said.add(message.text());
                    chat.add(new ChatTurn("user", message.text()));
                    return messages >= turns ? limit() : Step.ask(chat);
                }
                calls++;
                final ToolCalls.Call call = made.get(0); // only the first is run
                final String result = own.call(call.name(), call.arguments());
                final Observation seen = new Observation("tool", result == null ? "Unknown action " + call.name() : result);
                return call.name().equals("transfer_to_human_agents") ? Step.end(seen) : messages >= turns ? limit() : Step.of(seen);
            }

            private Step limit() {
                late = true;
                return Step.end(null);
            }

            @Override
            public Step answered(String answer) {
                chat.add(new ChatTurn("assistant", answer));
                final boolean stop = answer.contains(STOP) && opened;
                opened = true;
                return stop ? Step.end(null) : Step.of(new Observation("customer", answer));
            }

            @Override
            public Score score(Context context) {
                final RetailShop gold = shop.copy();
                for (Object action : actions) {
                    if (!(action instanceof Map<?, ?> map) || !(map.get("arguments") instanceof Map<?, ?> arguments)
                            || gold.call(String.valueOf(map.get("name")), strings(arguments)) == null) {
                        throw new IllegalStateException(prompt.id() + ": actions: expected calls of tools, given " + action);
                    }
                }
                final boolean state = own.sameAs(gold);
                boolean outputs = true;
                if (prompt.meta().get("outputs") instanceof List<?> wanted) {
                    for (Object output : wanted) {
                        final String text = output.toString().toLowerCase(Locale.ROOT);
                        outputs &= said.stream().anyMatch(s -> s.toLowerCase(Locale.ROOT).replace(",", "").contains(text));
                    }
                }
                final boolean solved = state && outputs && !late;
                return new Score(solved ? 1 : 0, solved, Map.of("calls", (double) calls, "state", state ? 1.0 : 0, "outputs", outputs ? 1.0 : 0));
            }
        };
    }

    private static Map<String, Object> strings(Map<?, ?> map) {
        final Map<String, Object> copy = new LinkedHashMap<>();
        map.forEach((key, value) -> copy.put(key.toString(), value));
        return copy;
    }
}
