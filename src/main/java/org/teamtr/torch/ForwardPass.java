package org.teamtr.torch;

import java.util.ArrayList;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import org.bytedeco.pytorch.Device;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch;
import org.teamtr.kernels.DType;
import org.teamtr.model.ModelConfig;
import org.teamtr.team.Utterance;
import org.teamtr.train.Batch;
import org.teamtr.train.Matmul;
import org.teamtr.train.Policy;

/** The way from the messages of a batch to hidden states and on to log-probs, by micro-batches, in the precision that is asked for. */
final class ForwardPass implements AutoCloseable {
    final ModelConfig config;
    /** Logit columns that count. */
    final int vocab;
    final Device device;
    final Workers workers;
    private final TorchPolicy.Settings settings;
    private final TorchRanks ranks;
    private final Decoder decoder;
    /** Those that the monitor had evaluate the f32 weights so far. */
    private final Map<Policy.Precision, Decoder> finer = new EnumMap<>(Policy.Precision.class);

    /** @param ranks that compute micro-batches with this process; null for none */
    ForwardPass(ModelConfig config, TorchPolicy.Settings settings, int vocab, TorchRanks ranks) {
        this.config = config;
        this.settings = settings;
        this.vocab = vocab;
        this.ranks = ranks;
        this.device = Decoder.kept(TrainingState.device(settings));
        this.decoder = newDecoder(settings.scalarType(), settings.dtype() == DType.F32 && settings.matmul() == Matmul.TF32);
        this.workers = new Workers(Layout.of(config).length(), settings.threads());
        workers.use();
    }

    private Decoder newDecoder(torch.ScalarType dtype, boolean tf32) {
        return new Decoder(config, dtype, device, loraScale(), tf32);
    }

    double loraScale() {
        return settings.loraRank() > 0 ? settings.loraAlpha() / settings.loraRank() : 0;
    }

    boolean computesIn(Policy.Precision precision) {
        return switch (precision) {
            case SAME -> true;
            case F32 -> settings.dtype() == DType.F32 && settings.matmul() == Matmul.F32;
            case TF32 -> settings.dtype() == DType.F32 && settings.matmul() == Matmul.TF32;
        };
    }

    /** {@return what computes in a precision} Sets what libtorch keeps for the whole process. */
    Decoder decoder(Policy.Precision precision) {
        final Decoder used = computesIn(precision) ? decoder
                : finer.computeIfAbsent(precision, p -> newDecoder(torch.ScalarType.Float, p == Policy.Precision.TF32));
        if (device.is_cuda()) {
            Tf32.use(precision == Policy.Precision.SAME ? settings.matmul() == Matmul.TF32 : precision == Policy.Precision.TF32);
        }
        return used;
    }

    // ---- micro-batches ----

    List<MicroBatch> split(List<Utterance> messages) {
        for (int m = 0; m < messages.size(); m++) {
            check("messages[" + m + "]", messages.get(m));
        }
        return MicroBatch.split(messages, settings.microBatchTokens(), workers.count() * (ranks == null ? 1 : ranks.size()));
    }

    private void check(String name, Utterance message) {
        final int prompt = message.prompt().length;
        final int tokens = message.tokens().length;
        if (prompt < 1 || tokens < 1 || prompt + tokens - 1 > config.positions()) {
            throw new IllegalArgumentException(name + ": expected a prompt and a message of 1 token or more and of "
                    + (config.positions() + 1) + " at most together, given " + prompt + " and " + tokens);
        }
        checkIds(name + ".prompt", message.prompt(), config.vocab());
        checkIds(name + ".tokens", message.tokens(), vocab);
    }

    static void checkIds(String name, int[] tokens, int vocab) {
        for (int token : tokens) {
            if (token < 0 || token >= vocab) {
                throw new IllegalArgumentException(name + ": expected tokens from 0 to " + (vocab - 1) + ", given " + token);
            }
        }
    }

    /** What is done with one micro-batch. */
    interface Work<T> {
        /** @param part its number in the batch */
        T of(int part, MicroBatch micro) throws Exception;
    }

    /** {@return a task for each micro-batch that is computed here}: each rank has every n-th of them, which are of about equal size. */
    <T> List<Callable<T>> tasks(List<MicroBatch> micros, Work<T> work) {
        final List<Callable<T>> tasks = new ArrayList<>();
        for (int i = 0; i < micros.size(); i++) {
            final MicroBatch micro = micros.get(i);
            final int part = i;
            if (ranks == null || part % ranks.size() == ranks.rank()) {
                tasks.add(() -> work.of(part, micro));
            }
        }
        return tasks;
    }

    /** Adds what other ranks have computed, which is zeros here. */
    void sum(String what, float[]... parts) {
        if (ranks != null) {
            ranks.sum(what, parts);
        }
    }

    /** The same. */
    void sum(String what, double[] parts) {
        if (ranks != null) {
            ranks.sum(what, parts);
        }
    }

    // ---- from tokens to log-probs ----

    /** Hidden states at the tokens of the messages, [tokens, hidden], by one forward pass over the padded sequences. */
    Tensor hidden(Decoder decoder, Map<String, Tensor> w, MicroBatch micro) {
        final int rows = micro.messages().size();
        final Tensor all = decoder.hidden(w, longs(micro.ids(), rows, micro.width()), null, null, null);
        final long[] at = micro.positions();
        return all.view((long) rows * micro.width(), config.hidden()).index_select(0, longs(at, at.length));
    }

    private Tensor longs(long[] values, long... shape) {
        return Tensor.create(values, shape).to(device, torch.ScalarType.Long);
    }

    /** @param anchor hidden states to take the exact KL from; null for none */
    LinearLogProbs head(Decoder decoder, Tensor hidden, Map<String, Tensor> w, Anchor.HiddenStates anchor, int part, MicroBatch micro,
            double temperature) {
        final Tensor targets = Tensor.create(micro.targets()).to(device, torch.ScalarType.Int);
        return new LinearLogProbs(decoder.input(hidden), decoder.input(w.get(decoder.head())),
                anchor == null ? null : decoder.input(anchor.of(part, micro)), anchor == null ? null : decoder.input(anchor.head()), vocab,
                targets, temperature, LinearLogProbs.CHUNK_BYTES);
    }

    /** What the exact KL of this policy is taken from: hidden states of an anchor that counts the same columns. */
    Anchor.HiddenStates anchorStates(Policy.Snapshot anchor, Batch batch, int micros, Policy.Precision precision) {
        if (anchor == null) {
            return null;
        }
        final Anchor a = (Anchor) anchor;
        if (a.vocab() != vocab) {
            throw new IllegalArgumentException("anchor: expected a policy of " + vocab + " tokens, as this one has, given one of "
                    + a.vocab());
        }
        return a.hiddenStates(batch, micros, precision);
    }

    @Override
    public void close() {
        workers.close();
        decoder.close();
        finer.values().forEach(Decoder::close);
        device.close();
    }
}
