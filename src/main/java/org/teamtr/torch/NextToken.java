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
     * @param mask added to the attention's scores, [rows, 1, 1, tokens so far and these]; null where nothing stands in the cache before
     *     a row's own columns. Not read by a decoder that goes by positions
     * @param cache of the tokens before these, with room for one more column, which is appended
     */
    Tensor logits(Tensor tokens, Tensor positions, Tensor mask, KvCache cache);

    @Override
    void close();
}
