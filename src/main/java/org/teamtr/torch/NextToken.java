package org.teamtr.torch;

import org.bytedeco.pytorch.Tensor;

/** A decoder for one new token of each row. */
interface NextToken extends AutoCloseable {
    /**
     * The logits of the tokens after these, [rows, vocab], in f32 where the model is of 16 bits. They belong to the caller's
     * PointerScope, and may stand in memory that the next call overwrites.
     *
     * @param tokens [rows] integers
     * @param positions [rows] int64
     * @param starts [rows] int64: the column of the cache where a row begins, so that start and position add up to the cache's length
     * @param cache of the tokens before these, with room for one more column, which is appended
     */
    Tensor logits(Tensor tokens, Tensor positions, Tensor starts, KvCache cache);

    @Override
    void close();
}
