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
import org.teamtr.model.ModelConfig;
import org.teamtr.task.Budget;
import org.teamtr.team.Chance;
import org.teamtr.team.Utterance;
import org.teamtr.team.View;
import org.teamtr.torch.TorchPolicy;
import org.teamtr.train.Config;
import org.teamtr.train.Trainer;

/**
 * The built-in model: a small Qwen3, taught from nothing to imitate the budget task's teachers. Written once per run in the Hugging
 * Face layout, {@code warm-start/}; all agents start from it.
 */
public final class TinyModel {
    private static final int HIDDEN = 64;
    private static final int LESSONS = 99; // key of the lessons' random numbers
    /** Where in a run directory it is. */
    public static final String FOLDER = "warm-start";
    private static final String UNTRAINED = "untrained.json";

    /** How the team does before any training at all. */
    public record Untrained(double returnMean, double accuracy) {
    }

    private TinyModel() {
    }

    /** Whether two configurations make the same model and measure the same of it, but for the number of threads. */
    public static boolean same(Config a, Config b) {
        return Setup.isBudget(a) && Setup.isBudget(b) && a.seed() == b.seed() && a.task().equals(b.task()) && a.team().equals(b.team())
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
        final Budget budget = Setup.budget(config);
        Tokenizer.writeCharacters(folder, Budget.CHARACTERS, List.of("<pad>", "<end>"), "<pad>", "<end>");
        final Tokenizer tokenizer = Tokenizer.open(folder);
        final ModelConfig size = ModelConfig.qwen3(tokenizer.vocab(), HIDDEN, 5 * HIDDEN / 2, config.warmStart().layers(), 4, 2, HIDDEN / 4,
                budget.contextLength(config.rollout().maxNewTokens()));
        final Config.Model model = new Config.Model("tiny", false, DType.F32, new Config.Lora(0, 1, List.of()), false);
        try (TorchPolicy policy = TorchPolicy.random(size, tokenizer, Setup.settings(config, model), config.seed())) {
            final View view = View.valueOf(config.task().budget().view().toUpperCase(Locale.ROOT));
            final Untrained untrained = Setup.isBudget(config) ? evaluate(config, budget, policy) : null;
            final Config.WarmStart warm = config.warmStart();
            double likelihood = 0;
            for (int step = 0; step < warm.steps(); step++) {
                final List<Utterance> lessons = new ArrayList<>(warm.batch());
                for (int i = 0; i < warm.batch(); i++) {
                    final Budget.Lesson lesson = budget.lesson(view, Chance.seed(config.seed(), LESSONS, step, i));
                    lessons.add(new Utterance(policy.encode(lesson.asked()), policy.encodeMessage(lesson.answer()), new float[0],
                            lesson.answer(), true, 0));
                }
                likelihood = policy.imitate(lessons);
                // Down to nothing over the last third, so that it ends where the noise of single batches averages out.
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

    /** The team as it would be if this policy spoke for everybody. */
    private static Untrained evaluate(Config config, Budget budget, TorchPolicy policy) {
        final Map<String, TorchPolicy> everybody = new HashMap<>();
        config.policies().keySet().forEach(name -> everybody.put(name, policy));
        try (Trainer trainer = new Trainer(config, Setup.team(config, everybody), List.of(), null,
                budget.prompts("held-out", config.task().budget().heldOut(), config.seed()), budget)) {
            final Trainer.Evaluation e = trainer.evaluate();
            return new Untrained(e.returnMean(), e.accuracy());
        }
    }
}
