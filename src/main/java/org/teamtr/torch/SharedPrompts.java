package org.teamtr.torch;

import java.util.Arrays;
import org.bytedeco.pytorch.Device;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorVector;
import org.bytedeco.pytorch.global.torch;
import org.teamtr.model.ModelConfig;

/**
 * Attention of messages to prompts that several of them share, as those of a group do: a prompt's tokens go through the model once,
 * and the gradients of all its messages meet in its keys and values. What goes through is one row of tokens, {@link MicroBatch#ids}: the
 * prompts, then the messages, both padded on the right. A token of a prompt attends as in plain causal attention, one of a message to
 * its prompt and to its own message up to itself; the values are those of whole sequences but for the order of sums.
 *
 * @param prompts how many
 * @param promptWidth of the padded prompts
 * @param of [messages] int64, which prompt a message follows
 * @param positions [tokens] int64, of all tokens
 * @param longest more than any position
 * @param mask added to the scores of messages, [messages, 1, width, promptWidth + width], or [1, ...] where all prompts are of one length
 * @param slidingMask the same within a sliding window; {@code mask} where there is none
 * @param slidingPromptMask [promptWidth, promptWidth], of the prompts within a sliding window; null where it hides nothing
 */
record SharedPrompts(int prompts, int promptWidth, Tensor of, Tensor positions, int longest, Tensor mask, Tensor slidingMask,
        Tensor slidingPromptMask) {
    /** Softmax attention as {@link Decoder} has it; without a mask, plain causal attention. */
    interface Attend {
        Tensor of(Tensor q, Tensor k, Tensor v, Tensor mask);
    }

    /** {@return that of a micro-batch with shared prompts; its tensors are the caller's PointerScope's} @param window may be null */
    static SharedPrompts of(MicroBatch micro, ModelConfig.Window window, torch.ScalarType dtype, Device device) {
        final MicroBatch.Prompts prompts = micro.prompts();
        final int[] lengths = Arrays.stream(prompts.of()).map(p -> prompts.different().get(p).length).toArray();
        final long[] positions = new long[prompts.different().size() * prompts.width() + lengths.length * micro.width()];
        int at = 0;
        for (int p = 0; p < prompts.different().size(); p++) {
            for (int i = 0; i < prompts.width(); i++) {
                positions[at++] = i;
            }
        }
        for (int length : lengths) {
            for (int i = 0; i < micro.width(); i++) {
                positions[at++] = length + i;
            }
        }
        final boolean slides = window != null && prompts.width() + micro.width() > window.tokens();
        final Tensor mask = mask(lengths, prompts.width(), micro.width(), Integer.MAX_VALUE, dtype, device);
        return new SharedPrompts(prompts.different().size(), prompts.width(), longs(Arrays.stream(prompts.of()).asLongStream().toArray(), device),
                longs(positions, device), prompts.width() + micro.width(), mask,
                slides ? mask(lengths, prompts.width(), micro.width(), window.tokens(), dtype, device) : mask,
                slides && prompts.width() > window.tokens() ? tensor(causal(prompts.width(), window.tokens()), dtype, device, prompts.width(),
                        prompts.width()) : null);
    }

    private static Tensor mask(int[] lengths, int promptWidth, int width, int window, torch.ScalarType dtype, Device device) {
        final int[] different = Arrays.stream(lengths).distinct().count() == 1 ? new int[] {lengths[0]} : lengths;
        final float[] all = new float[Math.multiplyExact(different.length, width * (promptWidth + width))];
        int at = 0;
        for (int length : different) {
            for (int i = 0; i < width; i++) {
                for (int k = 0; k < promptWidth; k++) { // at position k
                    all[at++] = k < length && length + i - k < window ? 0 : Float.NEGATIVE_INFINITY;
                }
                for (int k = 0; k < width; k++) {
                    all[at++] = k <= i && i - k < window ? 0 : Float.NEGATIVE_INFINITY;
                }
            }
        }
        return tensor(all, dtype, device, different.length, 1, width, promptWidth + (long) width);
    }

    private static float[] causal(int width, int window) {
        final float[] mask = new float[Math.multiplyExact(width, width)];
        for (int i = 0; i < width; i++) {
            for (int k = 0; k < width; k++) {
                mask[i * width + k] = k <= i && i - k < window ? 0 : Float.NEGATIVE_INFINITY;
            }
        }
        return mask;
    }

    private static Tensor tensor(float[] values, torch.ScalarType dtype, Device device, long... shape) {
        return Tensor.create(values, shape).to(device, dtype);
    }

    private static Tensor longs(long[] values, Device device) {
        return Tensor.create(values, values.length).to(device, torch.ScalarType.Long);
    }

    /**
     * {@return what attention makes of all tokens, [1, heads, tokens, headDim]}
     *
     * @param q [1, heads, tokens, headDim], as are k and v, with as many heads as keys have
     * @param sliding whether the layer has the window
     */
    Tensor attended(Attend attend, Tensor q, Tensor k, Tensor v, boolean sliding) {
        final Tensor[] ofPrompts = new Tensor[3];
        final Tensor[] ofMessages = new Tensor[3];
        final Tensor[] all = {q, k, v};
        final long before = (long) prompts * promptWidth;
        for (int i = 0; i < all.length; i++) {
            ofPrompts[i] = rows(all[i], 0, prompts, promptWidth);
            ofMessages[i] = rows(all[i], before, of.size(0), (all[i].size(2) - before) / of.size(0));
        }
        final Tensor then = flat(attend.of(ofMessages[0], joined(ofPrompts[1], ofMessages[1]), joined(ofPrompts[2], ofMessages[2]),
                sliding ? slidingMask : mask));
        return before == 0 ? then : torch.cat(new TensorVector(flat(attend.of(ofPrompts[0], ofPrompts[1], ofPrompts[2],
                sliding ? slidingPromptMask : null)), then), 2);
    }

    /** Some of the tokens, [rows, heads, width, headDim]. */
    private static Tensor rows(Tensor x, long from, long rows, long width) {
        return x.narrow(2, from, rows * width).view(x.size(1), rows, width, x.size(3)).transpose(0, 1);
    }

    /** Of each message the prompt's, then its own. */
    private Tensor joined(Tensor ofPrompts, Tensor ofMessages) {
        return torch.cat(new TensorVector(ofPrompts.index_select(0, of), ofMessages), 2);
    }

    private static Tensor flat(Tensor x) {
        return x.transpose(0, 1).reshape(1, x.size(1), x.size(0) * x.size(2), x.size(3));
    }
}
