package org.teamtr.torch;

import java.util.function.UnaryOperator;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Device;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch;
import org.teamtr.model.ModelConfig;

/**
 * Keys and values of earlier tokens, [rows, kvHeads, room, headDim] for each layer. All rows end at the same column, so that one
 * token of each is written at once; the columns before a row's tokens hold finite numbers and are masked. Room is added as messages
 * grow, one tensor at a time, so that short messages do not take the memory of the longest allowed ones.
 */
final class KvCache implements AutoCloseable {
    /** Free columns that {@link #arrange} adds. */
    private static final int MORE = 64;

    final Tensor[] keys;
    final Tensor[] values;
    /** Columns in use. */
    int length;
    /** Increased whenever tensors are replaced. */
    int version;
    private int room;
    private int most;
    private final ModelConfig config;
    private final torch.ScalarType dtype;
    private final Device device;

    /** Makes a cache without rows; see {@link #arrange}. */
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
     * Keeps some rows and makes room for new rows after them.
     *
     * @param kept int64 indices of the rows to keep, which become the first rows
     * @param rows number of rows, kept and new
     * @param first the first column of the kept rows that is still needed
     * @param length number of columns in use afterwards; the kept rows' columns are moved to their end
     * @param most the most columns that will ever be needed
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

    /** {@return the last columns of some rows, in the same memory, as an empty cache} The caller's PointerScope owns it. */
    KvCache part(long from, long rows, int width) {
        final KvCache part = new KvCache(this, width);
        for (int i = 0; i < keys.length; i++) {
            part.keys[i] = keys[i].narrow(0, from, rows).narrow(2, length - width, width);
            part.values[i] = values[i].narrow(0, from, rows).narrow(2, length - width, width);
        }
        return part;
    }

    /** Overwrites all rows with rows of another cache of as many columns. @param which int64, the other cache's row for each row here */
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

    /** Makes room for so many columns. */
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

    /** Appends keys or values of a layer. {@return all of the layer's, [rows, kvHeads, tokens so far, headDim]} */
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
