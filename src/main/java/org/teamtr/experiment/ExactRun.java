package org.teamtr.experiment;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.teamtr.config.ConfigException;
import org.teamtr.config.ConfigFile;
import org.teamtr.config.Setup;
import org.teamtr.report.Report;
import org.teamtr.report.RunFiles;
import org.teamtr.report.RunSummary;
import org.teamtr.report.RunWriter;
import org.teamtr.report.Version;
import org.teamtr.train.Config;
import org.teamtr.train.RunLog;
import org.teamtr.train.Trainer;

/** Runs a point that is marked exact: writes the same files as other runs, in a second or two, within this process. */
public final class ExactRun {
    private ExactRun() {
    }

    public static void make(Config config, Path folder, String command) throws IOException, ConfigException {
        final List<String> roles = config.team().agents().stream().map(Config.Agent::role).toList();
        if (!Setup.isBudget(config) || config.trustRegion().delta().byRole() != null
                || config.team().turns() != roles.size()) {
            throw new ConfigException(List.of("exact: expected the task budget, a turn for each agent and one trust_region.delta for"
                    + " all, given the task " + config.task().name() + ", " + config.team().turns() + " turns of " + roles.size()
                    + " agents and " + config.trustRegion().delta()));
        }
        Files.createDirectories(folder);
        ConfigFile.write(config, folder.resolve(RunFiles.CONFIG));
        final ExactRelay relay = new ExactRelay(config, Setup.budget(config), roles,
                config.trustRegion().deltaFactor() * config.trustRegion().delta().all());
        try (RunWriter writer = new RunWriter(folder)) {
            writer.truncateAfterStage(-1);
            relay.train(new Trainer.Listener() {
                @Override
                public void updated(RunLog.Update update) {
                    RunWriter.io(() -> writer.update(update));
                }

                @Override
                public void diagnosed(RunLog.Diagnosis diagnosis) {
                    RunWriter.io(() -> writer.diagnosis(diagnosis));
                }

                @Override
                public void staged(RunLog.Stage stage, List<RunLog.Transcript> transcripts) {
                    RunWriter.io(() -> writer.stage(stage));
                }
            });
            writer.summary(RunSummary.of(Version.read(), command, config.seed(), roles,
                    new double[] {Double.NaN, Double.NaN}, RunFiles.updates(folder), RunFiles.stages(folder),
                    RunFiles.diagnoses(folder)));
        }
        Report.write(folder);
    }
}
