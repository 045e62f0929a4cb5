package org.teamtr.config;

import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.function.Consumer;
import org.teamtr.chat.Tokenizer;
import org.teamtr.kernels.DType;
import org.teamtr.kernels.SamplingConfig;
import org.teamtr.model.ModelConfig;
import org.teamtr.task.Budget;
import org.teamtr.task.generated.GeneratedTask;
import org.teamtr.team.KeyedRandom;
import org.teamtr.team.Episode;
import org.teamtr.team.Generation;
import org.teamtr.team.Message;
import org.teamtr.team.Prompt;
import org.teamtr.team.Prompts;
import org.teamtr.team.Rollout;
import org.teamtr.team.Speaker;
import org.teamtr.team.Team;
import org.teamtr.team.Truncation;
import org.teamtr.team.Utterance;
import org.teamtr.team.Verifier;
import org.teamtr.team.View;
import org.teamtr.torch.TorchPolicy;
import org.teamtr.train.Config;
import org.teamtr.train.Draw;
import org.teamtr.train.Evaluation;
import org.teamtr.train.Trainer;

/**
 * The built-in model: a small Qwen3, trained from random weights to imitate the task's teachers. Written once per run in the Hugging
 * Face layout, {@code warm-start/}; all agents start from it.
 */
public final class TinyModel {
    /** Longest prompt and message together, of tasks whose prompts are generated. */
    private static final int POSITIONS = 2048;
    private static final List<String> SPECIALS = List.of("<pad>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>");
    /** A turn is its role, its text and the end; tools are named with their arguments before the first. */
    private static final String TEMPLATE = "{% if tools %}<|system|>{% for tool in tools %}{{ tool.function.name }}("
            + "{{ tool.function.parameters.properties | join(',') }}){% endfor %}<|end|>{% endif %}"
            + "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}";
    /** Its folder in a run directory. */
    public static final String FOLDER = "warm-start";
    private static final String UNTRAINED = "untrained.json";

    /** Accuracy and return of the team before any training. */
    public record Untrained(double returnMean, double accuracy) {
    }

    private TinyModel() {
    }

    /** Whether two configurations make the same model and measure the same of it, but for the number of threads. */
    public static boolean same(Config a, Config b) {
        return a.task().name() != Config.TaskName.FILES && a.seed() == b.seed() && a.task().equals(b.task()) && a.team().equals(b.team())
                && a.warmStart().equals(b.warmStart()) && a.rollout().maxNewTokens() == b.rollout().maxNewTokens()
                && a.eval().equals(b.eval()) && a.optimiser().equals(b.optimiser());
    }

    /** The folder of the model, made if it is not there. */
    static Path folder(Config config, Path run, Consumer<String> note) throws IOException {
        final Path folder = run.resolve(FOLDER);
        if (!Files.exists(folder)) {
            final Path next = run.resolve(".warm-start");
            Files.createDirectories(next);
            make(config, next, note);
            Files.move(next, folder, StandardCopyOption.ATOMIC_MOVE);
        }
        return folder;
    }

    /** What {@link #folder} measured when it made the model, or null. */
    public static Untrained untrained(Path run) throws IOException {
        final Path file = run.resolve(FOLDER).resolve(UNTRAINED);
        return Files.exists(file) ? new ObjectMapper().readValue(Files.readAllBytes(file), Untrained.class) : null;
    }

    private static void make(Config config, Path folder, Consumer<String> note) throws IOException {
        final Config.WarmStart warm = config.warmStart();
        final TaskData data = Setup.isGenerated(config) ? TaskData.read(config, null) : null;
        final Budget budget = Setup.budget(config);
        if (data == null) {
            Tokenizer.writeCharacters(folder, Budget.CHARACTERS, List.of("<pad>", "<end>"), "<pad>", "<end>");
        } else {
            Tokenizer.writeCharacters(folder, GeneratedTask.CHARACTERS, Setup.generated(config).phrases(), SPECIALS, "<pad>", "<|end|>", TEMPLATE);
        }
        final Tokenizer tokenizer = Tokenizer.open(folder);
        final ModelConfig size = ModelConfig.qwen3(tokenizer.vocab(), warm.width(), 5 * warm.width() / 2, warm.layers(), 4, 2, warm.width() / 4,
                data == null ? budget.contextLength(config.rollout().maxNewTokens()) : POSITIONS);
        final Config.Model model = new Config.Model("tiny", false, DType.F32, new Config.Lora(0, 1, List.of()), false);
        try (TorchPolicy policy = TorchPolicy.random(size, tokenizer, Setup.settings(config, model), config.seed())) {
            final Untrained untrained = data != null ? evaluate(config, data.heldOut(), data.verifier(), policy) : Setup.isBudget(config)
                    ? evaluate(config, budget.prompts("held-out", config.task().budget().heldOut(), config.seed()), budget, policy) : null;
            double likelihood = 0;
            for (int step = 0; step < warm.steps(); step++) {
                final List<Utterance> lessons = data == null ? lessons(config, budget, policy, step) : lessons(config, data, policy, step);
                likelihood = policy.imitate(lessons);
                // The learning rate falls to 0 over the last third, so that the noise of single batches averages out.
                policy.step(warm.learningRate() * Math.min(1, 3.0 * (warm.steps() - step) / warm.steps()));
                if ((step + 1) % 100 == 0 || step + 1 == warm.steps()) {
                    note.accept(String.format(Locale.ROOT, "warm start %d/%d: %.3f nats per token", step + 1, warm.steps(), likelihood));
                }
            }
            policy.startOver();
            policy.save(folder);
            if (untrained != null) {
                Files.write(folder.resolve(UNTRAINED), new ObjectMapper().writeValueAsBytes(untrained));
            }
        }
    }

    /** Messages of the relay's teachers, each from a random turn of an episode of its own. */
    private static List<Utterance> lessons(Config config, Budget budget, TorchPolicy policy, int step) {
        final View view = config.task().budget().view();
        final List<Utterance> lessons = new ArrayList<>(config.warmStart().batch());
        for (int i = 0; i < config.warmStart().batch(); i++) {
            final Budget.Lesson lesson = budget.lesson(view, KeyedRandom.seed(config.seed(), Draw.LESSONS, step, i));
            lessons.add(new Utterance(policy.encode(lesson.asked()), policy.encodeMessage(lesson.answer()), new float[0],
                    lesson.answer(), true, 0));
        }
        return lessons;
    }

    /** Messages of a teacher in whole episodes, with the environment's answers. */
    private static List<Utterance> lessons(Config config, TaskData data, TorchPolicy policy, int step) {
        final int episodes = Math.max(1, config.warmStart().batch() / config.team().turns());
        final List<Utterance> lessons = new ArrayList<>();
        for (Episode episode : demonstrate(config, data, policy, episodes, step)) {
            for (Message message : episode.messages()) {
                final int[] tokens = policy.encodeMessage(message.text());
                if (tokens.length > config.rollout().maxNewTokens()) {
                    throw new IllegalArgumentException("rollout.max_new_tokens: expected " + tokens.length + " or more, as many as a teacher of "
                            + config.task().generated().name() + " says, given " + config.rollout().maxNewTokens());
                }
                lessons.add(new Utterance(message.utterance().prompt(), tokens, new float[0], message.text(), true, 0));
            }
        }
        return lessons;
    }

    private static List<Episode> demonstrate(Config config, TaskData data, Speaker speaker, int episodes, int step) {
        final List<Prompt> prompts = new ArrayList<>(episodes);
        for (int i = 0; i < episodes; i++) {
            prompts.add(data.train().get(step * episodes + i));
        }
        return Rollout.demonstrate(everybody(config, speaker), prompts, new Generation(1, SamplingConfig.ALL, config.rollout().maxNewTokens(),
                Truncation.ERROR), data.verifier(), KeyedRandom.seed(config.seed(), Draw.LESSONS, step),
                Setup.generated(config).teacher(config.warmStart().mistakes()));
    }

    private static Team everybody(Config config, Speaker speaker) {
        final Map<String, Speaker> everybody = new HashMap<>();
        config.policies().keySet().forEach(name -> everybody.put(name, speaker));
        return Setup.team(config, everybody);
    }

    /** The team in which every agent uses this policy. */
    private static Untrained evaluate(Config config, Prompts heldOut, Verifier verifier, TorchPolicy policy) {
        final Trainer trainer = new Trainer(config, everybody(config, policy), List.of(), null, heldOut, verifier);
        final Evaluation e = trainer.evaluate();
        return new Untrained(e.returnMean(), e.accuracy());
    }
}
