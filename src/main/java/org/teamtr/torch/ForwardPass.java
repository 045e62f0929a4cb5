package org.teamtr.torch;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.Callable;
import java.util.function.UnaryOperator;
import org.bytedeco.pytorch.Device;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch;
import org.teamtr.kernels.DType;
import org.teamtr.model.ModelConfig;
import org.teamtr.team.Utterance;
import org.teamtr.train.Batch;
import org.teamtr.train.Matmul;
import org.teamtr.train.Policy;

/** The forward pass: from the messages of a batch, by micro-batches, to hidden states and log-probs, in a given precision. */
final class ForwardPass implements AutoCloseable {
    final ModelConfig config;
    /** Number of logit columns that count. */
    final int vocab;
    final Device device;
    final Workers workers;
    private final TorchPolicy.Settings settings;
    private final TorchRanks ranks;
    /** Where hidden states are kept between the forward and the backward pass: the host with {@code hardware.memory.offload}, else the device. */
    private final Device offload;
    /** How many bytes of an anchor's logits may be kept. */
    final long keptLogits;
    private final Decoder decoder;
    /** Decoders of other precisions, made when the monitor first evaluates the f32 weights in them. */
    private final Map<Policy.Precision, Decoder> finer = new EnumMap<>(Policy.Precision.class);

    /** @param memory has the ranks that share the micro-batches with this process, if there are any */
    ForwardPass(ModelConfig config, TorchPolicy.Settings settings, int vocab, TeamMemory memory) {
        this.config = config;
        this.settings = settings;
        this.vocab = vocab;
        this.ranks = memory.ranks;
        this.device = Decoder.kept(TrainingState.device(settings));
        this.offload = memory.offload() ? Decoder.kept(new Device("cpu")) : device;
        this.keptLogits = device.is_cpu() ? memory.keptLogits : 0;
        this.decoder = newDecoder(settings.scalarType(), settings.dtype() == DType.F32 && settings.matmul() == Matmul.TF32);
        this.workers = new Workers(Layout.of(config).length(), settings.threads(), !device.is_cuda());
        workers.use();
    }

    private Decoder newDecoder(torch.ScalarType dtype, boolean tf32) {
        return new Decoder(config, dtype, device, loraScale(), tf32,
                settings.atOnce().flashAttention() && device.is_cuda() ? FlashAttention::attended : null);
    }

    double loraScale() {
        return settings.lora().rank() > 0 ? settings.lora().alpha() / settings.lora().rank() : 0;
    }

    boolean computesIn(Policy.Precision precision) {
        return switch (precision) {
            case SAME -> true;
            case F32 -> settings.dtype() == DType.F32 && settings.matmul() == Matmul.F32;
            case TF32 -> settings.dtype() == DType.F32 && settings.matmul() == Matmul.TF32;
        };
    }

    /** {@return the decoder for a precision} Also sets libtorch's TF32 switch, which is global to the process. */
    Decoder decoder(Policy.Precision precision) {
        final Decoder used = computesIn(precision) ? decoder
                : finer.computeIfAbsent(precision, p -> newDecoder(torch.ScalarType.Float, p == Policy.Precision.TF32));
        if (device.is_cuda()) {
            Tf32.use(precision == Policy.Precision.SAME ? settings.matmul() == Matmul.TF32 : precision == Policy.Precision.TF32);
        }
        return used;
    }

    // ---- micro-batches ----

    /**
     * {@return the micro-batches of some messages; those that this rank computes are copied to the device, into tensors that the caller's
     * PointerScope owns}
     */
    List<PackedSequences> packed(List<Utterance> messages) {
        return packed(split(messages), UnaryOperator.identity());
    }

    /**
     * {@return the same micro-batches with other prompts, on the device}
     *
     * @param prompted gives, for each message, the same tokens after another prompt
     */
    List<PackedSequences> packed(List<MicroBatch> micros, UnaryOperator<Utterance> prompted) {
        return PackedSequences.of(micros.stream().map(micro -> micro.withPrompts(prompted)).toList(), this::isHere, device);
    }

    private List<MicroBatch> split(List<Utterance> messages) {
        for (int m = 0; m < messages.size(); m++) {
            check("messages[" + m + "]", messages.get(m));
        }
        return MicroBatch.split(messages, settings.atOnce().microBatchTokens(), workers.count() * (ranks == null ? 1 : ranks.size()));
    }

    private void check(String name, Utterance message) {
        final int prompt = message.prompt().length;
        final int tokens = message.tokens().length;
        if (prompt < 1 || tokens < 1 || prompt + tokens - 1 > config.rope().positions()) {
            throw new IllegalArgumentException(name + ": expected a prompt and a message of 1 token or more and of "
                    + (config.rope().positions() + 1) + " at most together, given " + prompt + " and " + tokens);
        }
        checkIds(name + ".prompt", message.prompt(), config.embedding().vocab());
        checkIds(name + ".tokens", message.tokens(), vocab);
    }

    static void checkIds(String name, int[] tokens, int vocab) {
        for (int token : tokens) {
            if (token < 0 || token >= vocab) {
                throw new IllegalArgumentException(name + ": expected tokens from 0 to " + (vocab - 1) + ", given " + token);
            }
        }
    }

    /** A computation on one micro-batch. */
    interface Work<T> {
        /** @param part its number in the batch */
        T of(int part, PackedSequences packed) throws Exception;
    }

    /** {@return a task for each micro-batch of this rank}: of n ranks, each computes every n-th micro-batch; they are of about equal size. */
    <T> List<Callable<T>> tasks(List<PackedSequences> micros, Work<T> work) {
        final List<Callable<T>> tasks = new ArrayList<>();
        for (int i = 0; i < micros.size(); i++) {
            final PackedSequences packed = micros.get(i);
            final int part = i;
            if (isHere(part)) {
                tasks.add(() -> work.of(part, packed));
            }
        }
        return tasks;
    }

    /** {@return whether this rank computes the micro-batch of this number} */
    boolean isHere(int part) {
        return ranks == null || part % ranks.size() == ranks.rank();
    }

    /** Sums arrays over ranks; each rank has zeros where another rank has computed the values. */
    void sum(String what, float[]... parts) {
        if (ranks != null) {
            ranks.sum(what, parts);
        }
    }

    /** Sums an array over ranks, likewise. */
    void sum(String what, double[] parts) {
        if (ranks != null) {
            ranks.sum(what, parts);
        }
    }

    // ---- from tokens to log-probs ----

    /** Hidden states at the tokens of the messages, [tokens, hidden], by one forward pass over all sequences. */
    Tensor hidden(Decoder decoder, Map<String, Tensor> w, PackedSequences packed) {
        return decoder.hidden(w, packed).index_select(0, packed.asked);
    }

    /** {@return a copy in host memory with {@code hardware.memory.offload}, else the tensor itself} For tensors that are needed only later. */
    Tensor offloaded(Tensor tensor) {
        return Weights.isOn(tensor, offload) ? tensor : tensor.to(offload, tensor.scalar_type().intern());
    }

    /** {@return the tensor, copied to the device if it was offloaded} */
    Tensor onDevice(Tensor tensor) {
        return Weights.isOn(tensor, device) ? tensor : tensor.to(device, tensor.scalar_type().intern());
    }

    /** Hidden states of micro-batches at the tokens of the messages. */
    interface Hidden {
        Tensor of(int part, PackedSequences packed);
    }

    /** Hidden states under some weights, and the weight of their head. */
    record States(Hidden hidden, Tensor head) {
    }

    /**
     * {@return a policy's hidden states of this rank's micro-batches, without a gradient} Each is computed when it is first used; but where
     * weights are divided among ranks all are computed here, so every rank must call this. The caller's PointerScope owns the tensors.
     */
    States states(Decoder decoder, TrainingState state, Weights weights, Policy.Precision precision, List<PackedSequences> micros) {
        if (!state.divided()) {
            final Map<String, Tensor> w = state.all(weights, precision);
            return new States((part, packed) -> hidden(decoder, w, packed), w.get(decoder.head()));
        }
        state.divide();
        final LayerPass.Units units = unit -> state.unit(weights, precision, unit);
        final Tensor[] hidden = LayerPass.hidden(this, decoder, units, micros);
        Arrays.stream(hidden).filter(Objects::nonNull).forEach(Decoder::handed);
        return new States((part, packed) -> onDevice(hidden[part]), units.apply(decoder.headUnit()).get(decoder.head()));
    }

    /**
     * {@return the log-probs of a micro-batch's tokens, from hidden states through the head}
     *
     * @param weight of the head
     * @param anchor hidden states of the policy from which the exact KL is measured; null for no KL
     * @param anchorWeight of the anchor's head
     */
    LinearLogProbs head(Decoder decoder, Tensor hidden, Tensor weight, Anchor.HiddenStates anchor, Tensor anchorWeight, int part,
            PackedSequences packed, double temperature) {
        final LinearLogProbs head = LinearLogProbs.ofTokens(decoder.input(hidden), decoder.input(weight),
                anchor == null ? null : decoder.input(anchor.of(part)), anchor == null ? null : decoder.input(anchorWeight), vocab,
                packed.targets, temperature);
        if (anchor != null) {
            head.keepOld(anchor.logits(part));
        }
        return head;
    }

    /** {@return the hidden states from which the exact KL is measured; null without an anchor} The anchor must have the same vocabulary. */
    Anchor.HiddenStates anchorStates(Policy.Snapshot anchor, Batch batch, List<PackedSequences> micros, Policy.Precision precision) {
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
        if (offload != device) {
            offload.close();
        }
        device.close();
    }
}
