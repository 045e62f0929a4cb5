package org.teamtr.torch;

import java.util.AbstractMap;
import java.util.Set;
import java.util.function.Function;
import org.bytedeco.pytorch.Tensor;

/** A map from names to tensors that finds or makes a tensor when it is looked up; its entries cannot be listed. */
final class LazyTensors extends AbstractMap<String, Tensor> {
    private final Function<String, Tensor> find;

    LazyTensors(Function<String, Tensor> find) {
        this.find = find;
    }

    @Override
    public Tensor get(Object name) {
        return find.apply((String) name);
    }

    @Override
    public Set<Entry<String, Tensor>> entrySet() {
        throw new UnsupportedOperationException("tensors are looked up one by one");
    }
}
