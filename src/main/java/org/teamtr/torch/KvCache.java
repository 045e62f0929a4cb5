package org.teamtr.torch;

import java.util.function.UnaryOperator;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Device;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch;
import org.teamtr.model.ModelConfig;

/**
 * Keys and values of the tokens so far, [rows, kvHeads, room, headDim] for each layer. Its room grows with the messages, one tensor
 * after the other, so that short messages do not take the memory of the longest that are allowed.
 */
final class KvCache implements AutoCloseable {
    final Tensor[] keys;
    final Tensor[] values;
    /** Columns in use. */
    int length;
    private int room;
    private final int most;
    private final torch.ScalarType dtype;
    private final Device device;

    /**
     * @param room columns to begin with
     * @param most columns that will ever be asked for
     */
    KvCache(ModelConfig c, long rows, int room, int most, torch.ScalarType dtype, Device device) {
        this(c.layers(), room, most, dtype, device);
        final long[] shape = {rows, c.kvHeads(), room, c.headDim()};
        for (int i = 0; i < keys.length; i++) {
            keys[i] = Decoder.kept(Decoder.empty(shape, dtype, device));
            values[i] = Decoder.kept(Decoder.empty(shape, dtype, device));
        }
    }

    private KvCache(int layers, int room, int most, torch.ScalarType dtype, Device device) {
        this.keys = new Tensor[layers];
        this.values = new Tensor[layers];
        this.room = room;
        this.most = most;
        this.dtype = dtype;
        this.device = device;
    }

    /** Some rows, in the same memory, as a cache that is still empty; it belongs to the caller's PointerScope. */
    KvCache rows(long from, long rows) {
        final KvCache part = new KvCache(keys.length, room, room, dtype, device);
        for (int i = 0; i < keys.length; i++) {
            part.keys[i] = keys[i].narrow(0, from, rows);
            part.values[i] = values[i].narrow(0, from, rows);
        }
        return part;
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

    /** Keeps these rows only. */
    void select(Tensor rows) {
        replace(old -> old.index_select(0, rows));
    }

    private void replace(UnaryOperator<Tensor> with) {
        for (Tensor[] tensors : new Tensor[][] {keys, values}) {
            for (int i = 0; i < tensors.length; i++) {
                final Tensor old = tensors[i];
                try (PointerScope scope = new PointerScope()) {
                    tensors[i] = Decoder.kept(with.apply(old));
                }
                old.close();
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
