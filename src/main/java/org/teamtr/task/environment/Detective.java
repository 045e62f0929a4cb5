package org.teamtr.task.environment;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.teamtr.team.ChatTurn;
import org.teamtr.team.Message;
import org.teamtr.team.Observation;
import org.teamtr.team.Oracle;
import org.teamtr.team.Prompt;

/**
 * AR-Bench's detective cases: a turn is two messages, the full name of a suspect and a question, which an oracle answers that plays the
 * suspect. A wrong name uses up the turn. After {@code turns} of these comes the final answer, {@code Answer: [A-E]}.
 *
 * <p>The prompt's row holds the case: {@code suspects}, each with {@code name}, {@code task} and {@code story}. Figures: {@code turns},
 * {@code wrong_names}.
 */
public final class Detective extends Inquiry {
    public Detective(int turns, Oracle oracle) {
        super("detective", turns, oracle);
    }

    @Override
    Game game(Prompt prompt) {
        final Map<String, Map<?, ?>> suspects = new LinkedHashMap<>();
        if (prompt.meta().get("suspects") instanceof List<?> list) {
            for (Object suspect : list) {
                if (suspect instanceof Map<?, ?> map && map.get("name") instanceof String name) {
                    suspects.put(name, map);
                }
            }
        }
        if (suspects.isEmpty()) {
            throw new IllegalArgumentException(
                    prompt.id() + ": suspects: expected a list of objects with a name, given " + prompt.meta().get("suspects"));
        }
        return new Game(prompt) {
            private final Map<String, List<ChatTurn>> chats = new LinkedHashMap<>();
            private String asked; // the suspect who is to be asked
            private int wrongNames;

            @Override
            public Observation opening() {
                return new Observation("case", "Turn 1: name the suspect to question, one of " + String.join(", ", suspects.keySet()) + ".");
            }

            @Override
            Step heard(Message message) {
                if (asked == null) {
                    final String name = message.text().strip().replaceFirst("^\\p{Punct}", "").replaceFirst("\\p{Punct}$", "").strip();
                    if (!suspects.containsKey(name)) {
                        wrongNames++;
                        return next("There is no suspect of that name.\n");
                    }
                    asked = name;
                    return Step.of(new Observation("case", "Ask " + name + " one question."));
                }
                final List<ChatTurn> chat = chats.computeIfAbsent(asked, name -> new ArrayList<>(List.of(new ChatTurn("system", "You are " + name
                        + ", a suspect who is questioned by a detective. Answer in one sentence. " + text(suspects.get(name), "task") + " "
                        + text(suspects.get(name), "story")))));
                chat.add(new ChatTurn("user", message.text()));
                return Step.ask(chat);
            }

            private Step next(String said) {
                return next("case", said, "Turn %d: name the suspect to question.", "Who is it? Answer in the form\nReason: ...\nAnswer: [A-E]");
            }

            @Override
            public Step answered(String answer) {
                chats.get(asked).add(new ChatTurn("assistant", answer));
                final String said = asked + ": " + answer.strip() + "\n";
                asked = null;
                return next(said);
            }

            @Override
            Map<String, Double> figures() {
                return Map.of("wrong_names", (double) wrongNames);
            }
        };
    }

    private static String text(Map<?, ?> suspect, String key) {
        return suspect.get(key) == null ? "" : suspect.get(key).toString();
    }
}
