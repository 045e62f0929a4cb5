package org.teamtr.kernels;

import org.teamtr.kernels.internal.global.teamtr;

/**
 * Number format of logits and of their gradients. Everything else the kernels take or give is f32.
 *
 * <pre>{@code
 * ByteBuffer memory = ByteBuffer.allocateDirect(2 * 4 * DType.BF16.bytes()).order(ByteOrder.nativeOrder());
 * Logits bf16 = Logits.of(memory, DType.BF16, 2, 4);
 * }</pre>
 */
public enum DType {
    /** IEEE single precision. */
    F32(teamtr.TEAMTR_F32, 4),
    /** bfloat16: the upper half of an f32. */
    BF16(teamtr.TEAMTR_BF16, 2),
    /** IEEE half precision. */
    F16(teamtr.TEAMTR_F16, 2);

    final int code;
    private final int bytes;

    DType(int code, int bytes) {
        this.code = code;
        this.bytes = bytes;
    }

    /** {@return the size of one element in bytes} */
    public int bytes() {
        return bytes;
    }
}
