package example;

import dev.langchain4j.model.chat.ChatModel;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.teamtr.config.ConfigException;
import org.teamtr.config.ConfigFile;
import org.teamtr.config.Setup;
import org.teamtr.team.Agent;
import org.teamtr.train.Checkpoints;
import org.teamtr.train.Config;
import org.teamtr.train.RunLog;
import org.teamtr.train.Trainer;

/**
 * The agents of a run of {@code teamtr train} as chat models that write in turn. The run's task is the built-in relay: the team is given a
 * number, each agent in turn writes one, and their sum is to meet it.
 */
public final class TeamChat {
    private static final int[] GOALS = {6, 8, 10, 12, 14, 16, 18, 20};

    private TeamChat() {
    }

    /** @param args a run directory; made by a short training if there is no checkpoint in it */
    public static void main(String[] args) throws IOException, ConfigException {
        final Path run = Path.of(args[0]);
        if (new Checkpoints(run, 1).latest() == null) {
            train(run);
        }
        try (Setup setup = new Setup(ConfigFile.load(run.resolve("config.yaml"), List.of()), run, System.err::println)) {
            Checkpoints.load(new Checkpoints(run, 1).latest(), setup.learners);
            final Map<String, ChatModel> agents = new LinkedHashMap<>();
            for (Agent agent : setup.team.agents()) {
                agents.put(agent.role(), new PolicyChatModel(agent.speaker(), setup.config.rollout().maxNewTokens()));
            }
            System.out.println("agents: " + String.join(", ", agents.keySet()));
            int near = 0;
            for (int goal : GOALS) {
                near += Math.abs(goal - play(agents, goal)) <= 3 ? 1 : 0;
            }
            System.out.println(near >= GOALS.length - 2 ? "the team's sums are near their goals" : "only " + near + " sums are near");
            System.exit(near >= GOALS.length - 2 ? 0 : 1);
        }
    }

    /** {@return what the agents' numbers come to} Each sees the goal and the numbers before its own: {@code 18=5+4+}. */
    private static int play(Map<String, ChatModel> agents, int goal) {
        final StringBuilder transcript = new StringBuilder(goal + "=");
        int sum = 0;
        final List<String> said = new ArrayList<>();
        for (Map.Entry<String, ChatModel> agent : agents.entrySet()) {
            final String number = agent.getValue().chat(transcript.toString());
            said.add(agent.getKey() + " " + number);
            transcript.append(number).append('+');
            sum += Integer.parseInt(number);
        }
        System.out.println(goal + ": " + String.join(", ", said) + ", in all " + sum);
        return sum;
    }

    /** What {@code ./teamtr train} does, in Java: a small team, two stages, one checkpoint. */
    private static void train(Path run) throws IOException, ConfigException {
        final Config config = Setup.resolved(ConfigFile.load(null, List.of("task.budget.agents=3", "warm_start.steps=150",
                "train.stages=2", "rollout.prompts=32", "eval.prompts=32")));
        Files.createDirectories(run);
        ConfigFile.write(config, run.resolve("config.yaml"));
        try (Setup setup = new Setup(config, run, System.err::println)) {
            final Trainer trainer = setup.trainer();
            trainer.train(0, null, new Trainer.Listener() {
                @Override
                public void updated(RunLog.Update update) {
                    System.err.println("stage " + update.stage() + ": " + update.agent() + " updated");
                }

                @Override
                public void staged(RunLog.Stage stage, List<RunLog.Transcript> transcripts) {
                    // saved below, once
                }
            });
            new Checkpoints(run, 1).save(config.train().stages(), setup.learners, trainer.heldOut());
        }
    }
}
