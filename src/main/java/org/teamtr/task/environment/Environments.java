package org.teamtr.task.environment;

import com.fasterxml.jackson.core.type.TypeReference;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.teamtr.task.UserClass;
import org.teamtr.task.Verifiers;
import org.teamtr.team.ChatTurn;
import org.teamtr.team.Context;
import org.teamtr.team.Environment;
import org.teamtr.team.Message;
import org.teamtr.team.Observation;
import org.teamtr.team.Oracle;
import org.teamtr.team.Prompt;
import org.teamtr.team.Verifier;

/** Environments by name. */
public final class Environments {
    /** The built-in ones. */
    public static final List<String> NAMES = List.of("guess_number", "plan_feedback", "tools", "detective", "situation", "retail");

    private Environments() {
    }

    /**
     * Settings of the built-in environments.
     *
     * @param turns messages that are answered at most, 1 or more
     * @param earlyStop whether {@code guess_number} ends with the right guess
     * @param tools class names of {@link Tool}s, for {@code tools}
     * @param agents roles whose messages reach the environment; empty for all
     * @param oracle answers in {@code detective}, {@code situation} and {@code retail}; null where none is configured
     * @param database of {@code retail}: a JSON file with users, orders and products; null where none is named
     * @param toolSchemas of {@code retail}: a JSON file with the list of its tools' descriptions; null where the prompt has them
     */
    public record Settings(int turns, boolean earlyStop, List<String> tools, List<String> agents, Oracle oracle, Path database,
            Path toolSchemas) {
    }

    /**
     * {@return an environment}
     *
     * @param name one of {@link #NAMES}, or the full name of a class that implements {@link Environment}
     * @param verifier what scores the answers of {@code tools}
     * @throws IllegalArgumentException if there is no such environment, or something that it needs is missing
     */
    public static Environment of(String name, Settings settings, Verifiers.Settings scoring, Verifier verifier) {
        final Environment environment = switch (name) {
            case "guess_number" -> new GuessNumber(settings.turns(), settings.earlyStop(), scoring.dense());
            case "plan_feedback" -> new PlanFeedback(settings.turns(), false, scoring.dense());
            case "tools" -> {
                if (settings.tools().isEmpty()) {
                    throw new IllegalArgumentException("tools: expected the names of one class or more that implement " + Tool.class.getName()
                            + ", given none");
                }
                yield new ToolUse(settings.tools().stream().map(t -> UserClass.make(t, Tool.class, "task.environment.tools")).toList(), verifier,
                        settings.turns());
            }
            case "detective", "situation", "retail" -> {
                if (settings.oracle() == null) {
                    throw new IllegalArgumentException(
                            "task.environment.oracle: expected the oracle that answers in " + name + ": script, a policy's name, or the"
                                    + " address of an endpoint, given nothing");
                }
                if (name.equals("retail")) {
                    yield retail(settings);
                }
                yield name.equals("detective") ? new Detective(settings.turns(), settings.oracle())
                        : new SituationPuzzle(settings.turns(), settings.oracle());
            }
            default -> {
                if (!name.contains(".")) {
                    throw new IllegalArgumentException("environment: expected one of " + String.join(", ", NAMES)
                            + ", or the full name of a class, given " + name);
                }
                yield UserClass.make(name, Environment.class, "task.environment.name");
            }
        };
        return settings.agents().isEmpty() ? environment : new Some(environment, settings.agents());
    }

    private static Environment retail(Settings settings) {
        if (settings.database() == null) {
            throw new IllegalArgumentException("task.environment.database: expected the JSON file of the shop, given nothing");
        }
        try {
            final List<Map<String, Object>> tools = settings.toolSchemas() == null ? List.of() : new ObjectMapper().readValue(
                    Files.readAllBytes(settings.toolSchemas()), new TypeReference<List<Map<String, Object>>>() {});
            return new Retail(RetailShop.read(settings.database()), tools, settings.oracle(), settings.turns());
        } catch (IOException e) {
            throw new IllegalArgumentException("task.environment: the shop's files cannot be read: " + e, e);
        }
    }

    /** Receives the messages of some agents only. */
    private record Some(Environment environment, List<String> roles) implements Environment {
        @Override
        public Course start(Prompt prompt, long seed) {
            final Course course = environment.start(prompt, seed);
            return course == null ? null : new Course() {
                @Override
                public Observation opening() {
                    return course.opening();
                }

                @Override
                public List<ChatTurn> openingQuestion() {
                    return course.openingQuestion();
                }

                @Override
                public Step step(Message message, Context context) {
                    return roles.contains(message.role()) ? course.step(message, context) : Step.NOTHING;
                }

                @Override
                public Step answered(String answer) {
                    return course.answered(answer);
                }

                @Override
                public Score score(Context context) {
                    return course.score(context);
                }
            };
        }

        @Override
        public Oracle oracle() {
            return environment.oracle();
        }

        @Override
        public List<Map<String, Object>> tools() {
            return environment.tools();
        }
    }
}
