package org.teamtr.torch;

import java.util.function.UnaryOperator;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Device;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch;
import org.teamtr.model.ModelConfig;

/**
 * Keys and values of the tokens so far, [rows, kvHeads, room, headDim] for each layer. All rows end at the same column, so that one
 * token of each is written at once; what stands before a row's own tokens is finite and nobody attends to it. Its room grows with the
 * messages, one tensor after the other, so that short messages do not take the memory of the longest that are allowed.
 */
final class KvCache implements AutoCloseable {
    /** Columns behind those in use that are made room for at once. */
    private static final int MORE = 64;

    final Tensor[] keys;
    final Tensor[] values;
    /** Columns in use. */
    int length;
    /** Another one whenever the tensors are others. */
    int version;
    private int room;
    private int most;
    private final ModelConfig config;
    private final torch.ScalarType dtype;
    private final Device device;

    /** Without rows; see {@link #arrange}. */
    KvCache(ModelConfig config, torch.ScalarType dtype, Device device) {
        this.config = config;
        this.dtype = dtype;
        this.device = device;
        this.keys = new Tensor[config.layers()];
        this.values = new Tensor[config.layers()];
        replace(nothing -> zeros(0));
    }

    private Tensor zeros(long rows) {
        return Decoder.empty(new long[] {rows, config.attention().kvHeads(), room, config.attention().headDim()}, dtype, device).zero_();
    }

    /**
     * Keeps some rows and makes room for others behind them.
     *
     * @param kept int64 indices of the rows to keep, which become the first ones
     * @param rows altogether
     * @param first the first column that is still needed of those
     * @param length columns in use from here on: the kept ones move to their end
     * @param most columns that will ever be asked for
     */
    void arrange(Tensor kept, long rows, int first, int length, int most) {
        final int width = this.length - first;
        this.most = most;
        this.room = Math.min(most, length + MORE);
        replace(old -> {
            final Tensor arranged = zeros(rows);
            if (kept.numel() > 0) {
                arranged.narrow(0, 0, kept.numel()).narrow(2, length - width, width).copy_(old.narrow(2, first, width).index_select(0, kept));
            }
            return arranged;
        });
        this.length = length;
    }

    /** The last columns of some rows, in the same memory, as a cache that is still empty; it belongs to the caller's PointerScope. */
    KvCache part(long from, long rows, int width) {
        final KvCache part = new KvCache(this, width);
        for (int i = 0; i < keys.length; i++) {
            part.keys[i] = keys[i].narrow(0, from, rows).narrow(2, length - width, width);
            part.values[i] = values[i].narrow(0, from, rows).narrow(2, length - width, width);
        }
        return part;
    }

    /** Writes rows of another one, which has as many columns, over the columns of this. @param which int64, for each row here */
    void copy(KvCache from, Tensor which) {
        try (PointerScope scope = new PointerScope()) {
            for (int i = 0; i < keys.length; i++) {
                keys[i].copy_(from.keys[i].narrow(2, 0, room).index_select(0, which));
                values[i].copy_(from.values[i].narrow(2, 0, room).index_select(0, which));
            }
        }
    }

    private KvCache(KvCache of, int room) {
        this.config = of.config;
        this.dtype = of.dtype;
        this.device = of.device;
        this.keys = new Tensor[of.keys.length];
        this.values = new Tensor[of.keys.length];
        this.room = room;
        this.most = room;
    }

    /** Sees to it that so many columns have room. */
    void reserve(int columns) {
        if (columns <= room) {
            return;
        }
        room = Math.min(most, Math.max(columns, room + room / 2));
        replace(old -> {
            final Tensor wider = Decoder.empty(new long[] {old.size(0), old.size(1), room, old.size(3)}, dtype, device);
            wider.narrow(2, 0, length).copy_(old.narrow(2, 0, length));
            return wider;
        });
    }

    private void replace(UnaryOperator<Tensor> with) {
        version++;
        for (Tensor[] tensors : new Tensor[][] {keys, values}) {
            for (int i = 0; i < tensors.length; i++) {
                final Tensor old = tensors[i];
                try (PointerScope scope = new PointerScope()) {
                    tensors[i] = Decoder.kept(with.apply(old));
                }
                if (old != null) {
                    old.close();
                }
            }
        }
    }

    /** Writes a layer's keys or values behind the others. {@return all of them, [rows, kvHeads, tokens so far, headDim]} */
    Tensor appended(Tensor[] to, int layer, Tensor more) {
        final long n = more.size(2);
        to[layer].narrow(2, length, n).copy_(more);
        return to[layer].narrow(2, 0, length + n);
    }

    @Override
    public void close() {
        for (int i = 0; i < keys.length; i++) {
            keys[i].close();
            values[i].close();
        }
    }
}
