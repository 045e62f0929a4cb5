package org.teamtr.torch;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.Callable;
import org.teamtr.chat.Tokenizer;
import org.teamtr.team.Generation;
import org.teamtr.team.Utterance;
import org.teamtr.train.Policy;

/** Generates messages: divides the prompts among the workers, each of which runs a {@link Generator}. */
final class Sampler {
    private final ForwardPass forward;
    private final TrainingState state;
    private final TorchPolicy.Settings settings;
    private final Tokenizer tokenizer;

    Sampler(ForwardPass forward, TrainingState state, TorchPolicy.Settings settings, Tokenizer tokenizer) {
        this.forward = forward;
        this.state = state;
        this.settings = settings;
        this.tokenizer = tokenizer;
    }

    List<Utterance> generate(List<int[]> prompts, Generation generation, long seed, long[] rowIds) {
        check(prompts, generation, rowIds);
        if (prompts.isEmpty()) {
            return List.of();
        }
        state.rest();
        final Workers workers = forward.workers;
        final Generator generator = new Generator(forward.config, forward.decoder(Policy.Precision.SAME), forward.loraScale(), state.all(),
                settings.scalarType(), forward.device, forward.vocab, tokenizer.endTokens(), settings.atOnce().microBatchTokens(),
                settings.atOnce().cudaGraphs());
        final int parts = Math.min(workers.count(), prompts.size());
        final int atOnce = settings.atOnce().rows() == 0 ? prompts.size() : Math.max(1, settings.atOnce().rows() / parts);
        final List<Callable<List<Generator.Row>>> tasks = new ArrayList<>(parts);
        for (int part = 0; part < parts; part++) {
            final int from = (int) ((long) prompts.size() * part / parts);
            final int to = (int) ((long) prompts.size() * (part + 1) / parts);
            tasks.add(() -> generator.generate(prompts.subList(from, to), generation, seed, Arrays.copyOfRange(rowIds, from, to), atOnce));
        }
        final List<Utterance> utterances = new ArrayList<>(prompts.size());
        workers.run(OutOfMemory.GENERATING, tasks, rows -> {
            for (Generator.Row row : rows) {
                final int[] tokens = Arrays.copyOf(row.tokens, row.length);
                utterances.add(new Utterance(prompts.get(utterances.size()), tokens, Arrays.copyOf(row.logProbs, row.length),
                        tokenizer.decode(tokens), row.ended, state.version()));
            }
        });
        return utterances;
    }

    private void check(List<int[]> prompts, Generation generation, long[] rowIds) {
        if (rowIds.length != prompts.size()) {
            throw new IllegalArgumentException("rowIds: expected " + prompts.size() + ", one per prompt, given " + rowIds.length);
        }
        final int positions = forward.config.rope().positions();
        final int room = positions - generation.maxNewTokens();
        for (int i = 0; i < prompts.size(); i++) {
            final int length = prompts.get(i).length;
            if (length < 1 || length > room) {
                throw new IllegalArgumentException("prompts[" + i + "]: expected 1 to " + room + " tokens, which leave room for "
                        + generation.maxNewTokens() + " of the context's " + positions + ", given " + length);
            }
            ForwardPass.checkIds("prompts[" + i + "]", prompts.get(i), forward.config.embedding().vocab());
        }
    }
}
