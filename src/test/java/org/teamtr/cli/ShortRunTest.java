package org.teamtr.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.teamtr.report.RunFiles;
import org.teamtr.train.RunLog;

/**
 * The commands from end to end, so small that the build also runs them with tensors that stand for memory of a GPU, on CUDA kernels
 * compiled for the host ({@code org.teamtr.torch.PolicyDevice}): imitation, rollouts, scoring, gradients, exact KL, evaluation,
 * checkpoints, alignment.
 */
class ShortRunTest {
    @TempDir
    private Path folder;

    @Test
    void trainResumeEvalReplace() throws IOException {
        final Path file = Files.writeString(folder.resolve("run.yaml"), """
                task: {budget: {agents: 2}}
                warm_start: {steps: 3, batch: 8}
                train: {stages: 1}
                rollout: {prompts: 2, group: 3, validation_fraction: 0.5, max_new_tokens: 3}
                loss: {entropy: 0.01, kl_term: exact}
                trust_region: {monitor: exact, fraction: 0.5}
                diagnostics: {logits: true}
                eval: {prompts: 2, transcripts: 1}
                certificate: {prompts: 16}
                hardware: {threads: 2}
                """);
        final Path run = folder.resolve("run");
        TrainCommandTest.ok("train", file, "--out", run);
        TrainCommandTest.ok("train", "--resume", run, "--set", "train.stages=2");
        final List<RunLog.Update> updates = RunFiles.updates(run);
        assertEquals(4, updates.size());
        for (RunLog.Update u : updates) {
            assertTrue(u.kl() <= u.delta() && u.gradNorm() > 0 && u.scoreGap() < 1e-4, u.toString());
        }
        TrainCommandTest.ok("eval", run, "--set", "eval.temperature=0");
        TrainCommandTest.ok("replace", run, "--agent", "solver", "--with", "random", "--probes", "4", "--steps", "1", "--out",
                folder.resolve("next"));
    }
}
