package org.teamtr.config;

import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;
import org.teamtr.task.environment.ScriptedOracle;
import org.teamtr.team.Speaker;
import org.teamtr.torch.ModelPreview;
import org.teamtr.train.Config;

/** Checks all files and devices that a configuration names, without loading a model's weights. */
public final class ConfigFiles {
    private ConfigFiles() {
    }

    /**
     * {@return all that is wrong with them, a line or more each; empty if a run can start}
     *
     * @param config as {@link Setup#resolved} gives it
     * @param note receives notes to the user that are not errors
     */
    public static List<String> problems(Config config, Consumer<String> note) {
        final List<String> problems = new ArrayList<>();
        // With hardware.memory.device the configuration is for another machine, so a device that this one lacks is no error.
        Setup.missingDevices(config).forEach(config.hardware().memory().device() > 0 ? missing -> note.accept("on this machine, " + missing)
                : problems::add);
        TaskData data = null;
        try {
            data = TaskData.read(config, config.task().environment().oracle() == null ? null : new ScriptedOracle()); // no episode is played
        } catch (IOException | RuntimeException e) {
            problems.add(e.getMessage());
        }
        final Map<String, ModelPreview> models = new LinkedHashMap<>();
        try {
            boolean all = true;
            for (String name : config.policies().keySet()) {
                final Config.Model m = config.policies().get(name);
                final boolean used = config.team().agents().stream().anyMatch(a -> a.policy().equals(name));
                if (used && !m.model().equals("tiny")) {
                    final ModelPreview model = ModelPreview.open(Path.of(m.model()), m.thinking(),
                            m.lora().rank() > 0 ? m.lora().targets() : null, !m.random(),
                            problem -> problems.add("policies." + name + ": " + problem),
                            sentence -> note.accept("policies." + name + ": " + sentence));
                    if (model != null) {
                        models.put(name, model);
                    }
                }
                all &= !used || models.containsKey(name);
            }
            if (data != null && all) { // the built-in model is made by the run
                final Map<String, Speaker> speakers = new LinkedHashMap<>(models);
                data.check(config, Setup.team(config, speakers), note);
            }
        } catch (IOException | RuntimeException e) {
            problems.add(e.getMessage());
        } finally {
            models.values().forEach(ModelPreview::close);
        }
        return problems;
    }
}
