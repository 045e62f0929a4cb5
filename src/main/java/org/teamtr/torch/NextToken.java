package org.teamtr.torch;

import org.bytedeco.pytorch.Tensor;

/** A decoder for one new token of each row. */
interface NextToken extends AutoCloseable {
    /**
     * Computes the logits of the next tokens, [rows, vocab], in f32 for 16-bit models. The caller's PointerScope owns them; the next
     * call may overwrite their memory.
     *
     * @param tokens [rows] integers
     * @param positions [rows] int64
     * @param starts [rows] int64: the column of the cache where a row begins, so that start and position add up to the cache's length
     * @param cache of the earlier tokens, with room for one more column, which is appended
     */
    Tensor logits(Tensor tokens, Tensor positions, Tensor starts, KvCache cache);

    @Override
    void close();
}
