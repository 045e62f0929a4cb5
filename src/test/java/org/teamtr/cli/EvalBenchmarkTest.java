package org.teamtr.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.teamtr.cli.TrainCommandTest.failed;
import static org.teamtr.cli.TrainCommandTest.ok;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Set;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.teamtr.chat.Tokenizer;
import org.teamtr.model.ModelConfig;
import org.teamtr.report.RunFiles;
import org.teamtr.team.KeyedRandom;
import org.teamtr.team.Context;
import org.teamtr.team.Environment;
import org.teamtr.team.Message;
import org.teamtr.team.Observation;
import org.teamtr.team.Prompt;
import org.teamtr.train.RunLog;

/** {@code eval --benchmark}, and training with an environment, as they are typed. */
@Timeout(240)
class EvalBenchmarkTest {
    private static final String TEAM = """
            team:
              turns: 4
              agents:
                - {role: a, policy: p, template: "{prompt}{transcript}", message: "{text}+", view: predecessor}
                - {role: b, policy: q, template: "{prompt}{transcript}", message: "{text}+", view: predecessor}
            policies: {p: {model: tiny}, q: {model: tiny}}
            warm_start: {steps: 5, batch: 8}
            train: {stages: 2}
            rollout: {prompts: 3, group: 4, validation_fraction: 0, max_new_tokens: 3}
            loss: {entropy: 0.01}
            eval: {prompts: 4, transcripts: 1}
            hardware: {threads: 1}
            """;

    @TempDir
    private Path folder;

    /** Says a digit that depends on its seed alone, and ends an episode whose message has one; messages are worth their length. */
    public static final class Dice implements Environment {
        @Override
        public Course start(Prompt prompt, long seed) {
            return new Course() {
                private int heard;

                @Override
                public Step step(Message message, Context context) {
                    heard++;
                    final String digit = Integer.toString(KeyedRandom.of(seed, heard).nextInt(10));
                    return message.text().contains("7") ? Step.end(null) : Step.of(new Observation("dice", digit));
                }

                @Override
                public Score score(Context context) {
                    return new Score(context.messages().stream().mapToInt(m -> m.text().length()).sum(), heard < 4);
                }
            };
        }
    }

    private Path config(String environment) throws IOException {
        final StringBuilder prompts = new StringBuilder();
        for (int i = 0; i < 12; i++) {
            prompts.append("{\"question\": \"").append(10 + i).append("=\", \"answer\": \"").append(i % 10).append("\"}\n");
        }
        final Path file = Files.writeString(folder.resolve("prompts.jsonl"), prompts);
        return Files.writeString(folder.resolve("run.yaml"),
                TEAM + "task: {name: files, environment: {name: " + environment + "}, files: {train: " + file
                        + "}}\n");
    }

    /** A run that stops and goes on plays the same episodes, observations and all. */
    @Test
    void aRunWithAnEnvironmentGoesOnToTheBit() throws IOException {
        final Path config = config(Dice.class.getName());
        final Path whole = folder.resolve("whole");
        final Path parts = folder.resolve("parts");
        ok("train", config, "--out", whole);
        ok("train", config, "--out", parts, "--set", "train.stages=1");
        ok("train", "--resume", parts, "--set", "train.stages=2");
        final List<RunLog.Update> a = RunFiles.updates(whole);
        final List<RunLog.Update> b = RunFiles.updates(parts);
        assertEquals(4, a.size());
        for (int i = 0; i < a.size(); i++) {
            assertEquals(a.get(i).tokens(), b.get(i).tokens());
            assertEquals(a.get(i).returnMean(), b.get(i).returnMean());
            assertEquals(a.get(i).kl(), b.get(i).kl());
        }
        assertEquals(learners(whole), learners(parts), "checksums of the parameters");
        assertTrue(a.get(0).messages() > 0);
    }

    private static JsonNode learners(Path run) throws IOException {
        return new ObjectMapper().readTree(run.resolve("checkpoints/stage-0002/state.json").toFile()).get("learners");
    }

    @Test
    void benchmarksAreCountedAndShown() throws IOException {
        final Path config = config("none");
        final Path aime =
                Files.writeString(folder.resolve("aime.jsonl"), "{\"id\": \"x1\", \"source\": \"aime24\", \"prompt\": \"12=\", \"answer\": \"5\","
                        + " \"meta\": {\"level\": 1}}\n{\"id\": \"x2\", \"source\": \"aime24\", \"prompt\": \"13=\", \"answer\": 6, \"meta\": {\"level\": 2}}\n");
        final Path out = folder.resolve("out");
        final String said = ok("eval", config, "--benchmark", "aime24=" + aime, "--k", "3", "--seeds", "2", "--out", out);
        assertTrue(said.contains("aime24, chain, judged by integer, 3 episodes for each item, 2 times"), said);
        assertTrue(said.contains("avg@3") && said.contains("pass@3") && said.contains("pass^3") && said.contains("maj@3") && said.contains("level 2"),
                said);
        assertTrue(said.contains("episodes: 12") && said.contains("without answer: 12"), said);
        assertTrue(said.contains("not comparable: the paper has k = 64, here it is 3"), said);
        assertEquals(12, Files.readAllLines(out.resolve("failures.jsonl")).size());
        assertTrue(Files.readString(out.resolve("eval.csv"))
                .startsWith("benchmark,mode,verifier,k,seeds,part,metric,value,low,high,items\naime24,chain,"));
        final String page = Files.readString(out.resolve("eval.html"));
        assertTrue(page.contains("Comparison with the paper\u2019s Table 1</h2>") && page.contains("<td>88.1</td>"), page);
        assertTrue(page.contains("<li>AIME 2024: the paper has k = 64, here it is 3</li>") && page.contains("<th>level</th>"), page);
        assertTrue(page.contains("the first 8 of 12; <code>failures.jsonl</code> has all"), page);
        final String single = ok("eval", config, "--benchmark", "aime24=" + aime, "--k", "2", "--mode", "single:b");
        assertTrue(single.contains("single:b"), single);
        assertTrue(ok("eval", config, "--benchmark", "aime24=" + aime, "--k", "2", "--mode", "best-of").contains("an oracle"));
        assertTrue(failed(1, "eval", config, "--benchmark", "aime24=" + aime, "--mode", "single:x")
                .contains("expected single: and one of [a, b], given x"));
        assertTrue(failed(1, "eval", config, "--benchmark", "aime24=" + aime, "--mode", "judge:x")
                .contains("expected judge: and one of [a, b], given x"));
        assertTrue(failed(1, "eval", config, "--benchmark", "chess").contains("benchmark: expected one of aime24, aime25, math500"));
        assertTrue(failed(1, "eval", config, "--benchmark", "math500", "--data-dir", folder).contains("teamtr data prepare math500 SOURCE --out"));
        assertTrue(failed(1, "eval", config, "--benchmark", "retail", "--data-dir", folder).contains("docs/benchmarks.md says what its lines are"));
        assertTrue(failed(1, "eval", config, "--benchmark", "retail=" + aime)
                .contains("expected a configuration whose task.environment.name is retail"));
        assertTrue(failed(2, "eval", config, "--benchmark", "aime24", "--mode", "judge")
                .contains("--mode: expected chain, best-of, single:ROLE or judge:ROLE"));
    }

    /** The judge is asked, what it says counts, and where it says no number of a message the last one stays. */
    @Test
    void aJudgeChoosesAmongTheMessages() throws IOException {
        final Path config = Files.writeString(folder.resolve("judge.yaml"), TEAM.replace("max_new_tokens: 3", "max_new_tokens: 64")
                .replace("warm_start: {steps: 5,", "warm_start: {steps: 1,") + "task: {name: generated, generated: {held_out: 8}}\n");
        final Path aime = Files.writeString(folder.resolve("aime.jsonl"),
                "{\"id\": \"x1\", \"source\": \"aime24\", \"prompt\": \"12 = ?\", \"answer\": \"5\"}\n");
        final String judged =
                ok("eval", config, "--benchmark", "aime24=" + aime, "--k", "3", "--mode", "judge:b", "--set", "rollout.max_new_tokens=8");
        assertTrue(judged.contains("aime24, judge:b, judged by integer") && judged.contains("without a choice of the judge: "), judged);
        assertTrue(judged.contains("not comparable: an agent of the team chooses among the messages of an episode"), judged);
        assertEquals(2, BenchmarkRun.choice("Answer 1 is wrong. Answer 2."));
        assertEquals(0, BenchmarkRun.choice("none of them"));
        assertEquals(3, BenchmarkRun.choice("It is 3"));
    }

    private static final String GAME = """
            task:
              name: files
              environment: {name: %s, turns: %d, oracle: %s}
              files: {train: %s, prompt_column: prompt, answer_column: answer}
            team:
              turns: %d
              agents:
                - {role: a, policy: p, template: "{prompt} {transcript}", message: "{text} "}
                - {role: b, policy: q, template: "{prompt} {transcript}", message: "{text} "}
            policies:
              p: {model: %6$s, random: true}
              q: {model: %6$s, random: true}
              %7$s
            train: {stages: 2}
            rollout: {prompts: 3, group: 4, validation_fraction: 0, max_new_tokens: %8$d}
            loss: {entropy: 0.01}
            optimiser: {steps: 2}
            certificate: {bound: paper}
            eval: {prompts: 2, transcripts: 2}
            hardware: {threads: 1}
            """;

    /** A model of no weights with a token for each character: what it says is as good as drawn from a hat. */
    private Path model() throws IOException {
        final Path model = Files.createDirectories(folder.resolve("model"));
        Tokenizer.writeCharacters(model, "abcdefghijklmnopqrstuvwxyzAEINRTUWY .:,?-[]12\n", List.of("<pad>", "<end>"), "<pad>", "<end>");
        ModelConfig.qwen3(48, 16, 24, 1, 2, 1, 8, 512).write(model.resolve("config.json"), "float32", 1);
        return model;
    }

    private Path rows(int count, String row) throws IOException {
        return Files.write(folder.resolve("games.jsonl"), IntStream.range(0, count).mapToObj(i -> row.replace("#", i % 2 == 0 ? "b" : "c")).toList());
    }

    private static List<RunLog.Said> said(Path run) throws IOException {
        return RunFiles.transcripts(run).stream().flatMap(t -> t.messages().stream()).toList();
    }

    /** Situation puzzles whose referee is a policy of the run: it answers, stays as it is, and says the same when the run goes on. */
    @Test
    void aPolicyIsTheReferee() throws IOException {
        final Path config = Files.writeString(folder.resolve("puzzle.yaml"), GAME.formatted("situation", 2, "judge", rows(10,
                "{\"prompt\": \"a man is in #\", \"answer\": \"he went # by train\"}"), 3, model(), "judge: {model: " + model() + ", random: true}",
                4));
        final Path whole = folder.resolve("whole");
        final Path parts = folder.resolve("parts");
        ok("train", config, "--out", whole);
        ok("train", config, "--out", parts, "--set", "train.stages=1");
        ok("train", "--resume", parts, "--set", "train.stages=2");
        assertEquals(learners(whole), learners(parts), "checksums of the parameters");
        assertEquals(Set.of("a", "b"), RunFiles.updates(whole).stream().map(RunLog.Update::agent).collect(Collectors.toSet()));
        assertEquals(RunFiles.transcripts(whole), RunFiles.transcripts(parts), "what the referee said, too");
        final List<RunLog.Said> said = said(whole);
        final Set<String> heard = said.stream().map(RunLog.Said::observation).filter(o -> o != null && !o.isBlank()).collect(Collectors.toSet());
        assertTrue(heard.size() > 3 && heard.stream().anyMatch(o -> o.endsWith("\nNow say what happened.")), heard.toString());
        assertTrue(RunFiles.updates(whole).stream().allMatch(u -> u.messages() == 12 * (u.agent().equals("a") ? 2 : 1)),
                "observations are no messages");
    }

    /** Detective cases with the script: suspects have names of a letter, so that a model of no weights meets some. */
    @Test
    void aScriptAnswersForTheSuspects() throws IOException {
        final String suspects =
                "abcdefghij".chars().mapToObj(c -> "{\"name\": \"" + (char) c + "\", \"task\": \"be calm.\", \"story\": \"i was in.\"}")
                        .collect(Collectors.joining(", "));
        final Path config = Files.writeString(folder.resolve("case.yaml"), GAME.formatted("detective", 2, "script", rows(40,
                "{\"prompt\": \"who took #?\", \"answer\": \"2\", \"suspects\": [" + suspects + "]}"), 5, model(), "", 1)
                .replace("eval: {prompts: 2, transcripts: 2}", "eval: {prompts: 8, transcripts: 8}"));
        final Path run = folder.resolve("run");
        ok("train", config, "--out", run);
        assertEquals(4, RunFiles.updates(run).size());
        final List<String> seen = said(run).stream().map(RunLog.Said::observation).toList();
        assertTrue(seen.stream().anyMatch(o -> o != null && o.startsWith("There is no suspect of that name.\n")), seen.toString());
        assertTrue(seen.stream().anyMatch(o -> o != null && o.matches("Ask [a-j] one question.")), seen.toString());
        assertTrue(seen.stream().anyMatch(o -> o != null && o.matches("(?s)[a-j]: .+\\.\n.*")), seen.toString());
        assertTrue(seen.stream().anyMatch(o -> o != null && o.endsWith("Answer: [A-E]")), seen.toString());
    }
}
