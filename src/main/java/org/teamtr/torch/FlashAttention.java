package org.teamtr.torch;

import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Dispatcher;
import org.bytedeco.pytorch.IValue;
import org.bytedeco.pytorch.IValueVector;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch;

/**
 * Attention of all sequences of a micro-batch in one call, by libtorch's CUDA kernels for sequences of different lengths: FlashAttention-2
 * (Dao, 2023) for 16-bit formats, CUTLASS's memory-efficient attention for f32. Both are differentiable by autograd.
 *
 * <p>The JavaCPP preset has no methods for operators whose names begin with an underscore, so they are called through libtorch's
 * dispatcher by name.
 *
 * <p><b>This has never run on a GPU.</b> It is off unless {@code hardware.flash_attention} asks for it.
 */
final class FlashAttention {
    /** The kind of causal mask with which the last query of a sequence attends to its last key. */
    private static final int CAUSAL_FROM_BOTTOM_RIGHT = 2;

    private FlashAttention() {
    }

    /** Attention within sequences that are stored one after the other in one tensor. */
    interface VariableLength {
        /**
         * {@return [tokens, heads, headDim]}
         *
         * @param q [tokens, heads, headDim]
         * @param k [keys, kvHeads, headDim], see {@link PackedSequences#ofKeys}
         * @param v as {@code k}
         * @param window how many tokens one attends to, itself included
         */
        Tensor of(Tensor q, Tensor k, Tensor v, PackedSequences sequences, long window);
    }

    /** {@return whether there is a kernel for these}: FlashAttention requires head sizes that are multiples of 8, the other supports no window. */
    static boolean takes(torch.ScalarType dtype, long headDim, boolean window) {
        return dtype == torch.ScalarType.Float ? !window : headDim % 8 == 0;
    }

    /** As {@link VariableLength#of}; for f32, k and v must have as many heads as q. */
    static Tensor attended(Tensor q, Tensor k, Tensor v, PackedSequences s, long window) {
        final IValue none = new IValue();
        if (q.scalar_type().intern() != torch.ScalarType.Float) {
            final boolean slides = window < s.mostKeys;
            return called("aten::_flash_attention_forward", new IValue(q), new IValue(k), new IValue(v), new IValue(s.cuQueries),
                    new IValue(s.cuKeys), new IValue((long) s.mostQueries), new IValue((long) s.mostKeys), new IValue(0.0) /* dropout */,
                    new IValue(true) /* causal */, new IValue(false) /* the mask of dropout */, none /* 1 / sqrt(headDim) */,
                    slides ? new IValue(window - 1) : none /* to the left */, slides ? new IValue(0L) : none /* to the right */, none, none);
        }
        return called("aten::_efficient_attention_forward", new IValue(q.unsqueeze(0)), new IValue(k.unsqueeze(0)), new IValue(v.unsqueeze(0)),
                none, new IValue(s.cuQueries), new IValue(s.cuKeys), new IValue((long) s.mostQueries), new IValue((long) s.mostKeys),
                new IValue(0.0), new IValue((long) CAUSAL_FROM_BOTTOM_RIGHT), new IValue(true) /* what the backward pass needs */, none, none, none)
                .squeeze(0);
    }

    /** {@return the operator's first result} */
    private static Tensor called(String operator, IValue... arguments) {
        final Tensor result;
        try (PointerScope scope = new PointerScope()) {
            final IValueVector stack = new IValueVector(arguments);
            Dispatcher.singleton().findSchemaOrThrow(operator, "").callBoxed(stack);
            result = Decoder.kept(new Tensor(stack.get(0).toTensor()));
        }
        return Decoder.handed(result);
    }
}
