package org.teamtr.torch;

import java.nio.IntBuffer;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * Prompts without repetitions.
 *
 * @param prompts in the order of their first occurrence
 * @param of for each of the given prompts, its index in {@code prompts}
 */
record DistinctPrompts(List<int[]> prompts, int[] of) {
    static DistinctPrompts of(List<int[]> given) {
        final Map<IntBuffer, Integer> numbers = new LinkedHashMap<>(); // buffers are compared by their contents
        final int[] of = given.stream().mapToInt(prompt -> numbers.computeIfAbsent(IntBuffer.wrap(prompt), p -> numbers.size())).toArray();
        return new DistinctPrompts(numbers.keySet().stream().map(IntBuffer::array).toList(), of);
    }

    boolean repeat() {
        return prompts.size() < of.length;
    }
}
