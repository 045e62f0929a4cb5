package org.teamtr.train;

import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;
import java.util.zip.CRC32C;
import org.teamtr.distributed.Ranks;
import org.teamtr.kernels.SamplingConfig;
import org.teamtr.team.Episode;
import org.teamtr.team.Generation;
import org.teamtr.team.Prompt;
import org.teamtr.team.Prompts;
import org.teamtr.team.Rollout;
import org.teamtr.team.Team;
import org.teamtr.team.Verifier;

/** Evaluates a team on prompts that it does not learn from: the same prompts and random numbers every time, so that only the team differs. */
final class HeldOut {
    private final Config config;
    private final Team team;
    private final Prompts prompts;
    private final Verifier verifier;
    private final long seed;
    private final Ranks ranks;

    /** @param seed that no other draw has */
    HeldOut(Config config, Team team, Prompts prompts, Verifier verifier, long seed, Ranks ranks) {
        this.config = config;
        this.team = team;
        this.prompts = prompts;
        this.verifier = verifier;
        this.seed = seed;
        this.ranks = ranks;
    }

    private int size() {
        return Math.min(config.eval().prompts(), prompts.size());
    }

    /** {@return the scores of an evaluation, with a checksum of what they depend on} */
    HeldOutScores kept(List<Verifier.Score> scores) {
        final Config.Eval e = config.eval();
        final Config.Rollout r = config.rollout();
        final CRC32C crc = new CRC32C(); // of nothing in which ranks differ, such as their devices
        crc.update(Arrays.asList(e.prompts(), e.group(), e.temperature(), e.topP(), r.maxNewTokens(), r.truncation(), config.seed(), config.task(),
                config.team(), config.policies().values().stream().map(m -> List.of(m.dtype(), m.thinking())).toList()).toString()
                .getBytes(StandardCharsets.UTF_8));
        for (int i = 0; i < size(); i++) {
            final Prompt prompt = prompts.get(i);
            crc.update(Arrays.asList(prompt.text(), prompt.answer()).toString().getBytes(StandardCharsets.UTF_8));
        }
        return new HeldOutScores(crc.getValue(), scores);
    }

    /** {@return whether the realised gain can be the difference from scores that a checkpoint kept} */
    boolean compares(HeldOutScores kept) {
        return kept.scores().size() == size() * config.eval().group()
                && (kept.checksum() == null || kept.checksum().equals(kept(List.of()).checksum()));
    }

    Evaluation evaluate() {
        final long started = System.nanoTime();
        final Config.Eval e = config.eval();
        final List<Prompt> some = IntStream.range(0, size()).mapToObj(prompts::get).toList();
        final Generation generation = new Generation(e.temperature(), SamplingConfig.ALL.withTopP((float) e.topP()),
                config.rollout().maxNewTokens(), config.rollout().truncation());
        final List<Episode> episodes = Rollout.play(team, some, e.group(), generation, verifier, seed, ranks);
        return new Evaluation(episodes.stream().map(Episode::score).toList(),
                IntStream.range(0, Math.min(size(), e.transcripts())).mapToObj(i -> episodes.get(i * e.group())).toList(),
                config.diagnostics().coordination() ? episodes.stream().map(this::rightAfterEach).toList() : List.of(),
                (System.nanoTime() - started) * 1e-9);
    }

    private boolean[] rightAfterEach(Episode episode) {
        final boolean[] right = new boolean[episode.messages().size()];
        for (int t = 0; t < right.length; t++) {
            right[t] = t == right.length - 1 ? episode.score().correct()
                    : verifier.score(episode.context().before(t + 1)).correct();
        }
        return right;
    }

    /** {@return by how much returns have grown, with the standard error over prompts} */
    Estimate gain(List<Verifier.Score> after, List<Verifier.Score> before) {
        final int group = config.eval().group();
        final double[] gains = new double[after.size() / group];
        for (int g = 0; g < after.size(); g++) {
            gains[g / group] += (after.get(g).reward() - before.get(g).reward()) / group;
        }
        return Estimate.of(gains);
    }
}
