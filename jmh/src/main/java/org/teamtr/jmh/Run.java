package org.teamtr.jmh;

import com.fasterxml.jackson.databind.JsonNode;
import java.lang.reflect.Field;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/**
 * One line of JMH's JSON.
 *
 * @param kernel its class, without "Benchmark"
 * @param side teamtr, libtorch, plainJava or roofline
 * @param forks milliseconds per call, the mean of each fork's iterations
 * @param allocated bytes per call on the Java heap; NaN where they were not counted
 * @param error the largest against sums in double ({@link KernelBenchmark}); NaN where it was not measured
 */
record Run(String kernel, String side, Map<String, String> params, double[] forks, double allocated, Double error) {
    private static final String SUFFIX = "Benchmark";

    Run {
        error = error == null ? Double.NaN : error; // files that were written before errors were measured have none
    }

    static List<Run> read(JsonNode results) {
        final List<Run> runs = new ArrayList<>();
        for (JsonNode result : results) {
            final String[] name = result.get("benchmark").asText().split("\\.");
            final Map<String, String> params = new TreeMap<>();
            result.path("params").fields().forEachRemaining(p -> params.put(p.getKey(), p.getValue().asText()));
            final JsonNode metric = result.get("primaryMetric");
            if (!metric.get("scoreUnit").asText().equals("ms/op")) {
                throw new IllegalArgumentException(result.get("benchmark").asText() + ": expected ms/op, given "
                        + metric.get("scoreUnit").asText());
            }
            final List<Double> forks = new ArrayList<>();
            for (JsonNode fork : metric.get("rawData")) {
                double sum = 0;
                for (JsonNode iteration : fork) {
                    sum += iteration.asDouble();
                }
                forks.add(sum / fork.size());
            }
            runs.add(new Run(name[name.length - 2].replace(SUFFIX, ""), name[name.length - 1], params,
                    forks.stream().mapToDouble(d -> d).toArray(),
                    result.path("secondaryMetrics").path("gc.alloc.rate.norm").path("score").asDouble(Double.NaN), Double.NaN));
        }
        return runs;
    }

    /** {@return the same measured once more} */
    Run with(Run more) {
        final double[] both = Arrays.copyOf(forks, forks.length + more.forks.length);
        System.arraycopy(more.forks, 0, both, forks.length, more.forks.length);
        return new Run(kernel, side, params, both, Double.isNaN(allocated) ? more.allocated : allocated,
                Double.isNaN(error) ? more.error : error);
    }

    Run withError(double found) {
        return new Run(kernel, side, params, forks, allocated, found);
    }

    /** {@return whether these are forks of one measurement} */
    boolean same(Run other) {
        return kernel.equals(other.kernel) && side.equals(other.side) && params.equals(other.params);
    }

    /** {@return milliseconds of a call on all rows: the median of the forks} */
    double millis() {
        return median(forks) / benchmark().share(side);
    }

    /**
     * {@return how many times as long another side took: the median over the rounds, in each of which the two were measured one
     * right after the other. The speed of memory is not the machine's own where others share it, and changes within minutes}
     */
    double against(Run other) {
        final double[] ratios = new double[Math.min(forks.length, other.forks.length)];
        for (int round = 0; round < ratios.length; round++) {
            ratios[round] = other.forks[round] / other.benchmark().share(other.side) / (forks[round] / benchmark().share(side));
        }
        return median(ratios);
    }

    /** {@return how far the forks lie apart, as a share of their median} */
    double spread() {
        return (Arrays.stream(forks).max().orElseThrow() - Arrays.stream(forks).min().orElseThrow()) / median(forks);
    }

    /** {@return by the benchmark's own formula, 10^9 bytes per second} */
    double gigabytesPerSecond() {
        return benchmark().bytes() / millis() / 1e6;
    }

    /** The benchmark's class with these parameters, which knows the formulas; it holds no data. */
    private KernelBenchmark benchmark() {
        try {
            final Class<?> type = Class.forName(getClass().getPackageName() + '.' + kernel + SUFFIX);
            final KernelBenchmark benchmark = (KernelBenchmark) type.getDeclaredConstructor().newInstance();
            for (Map.Entry<String, String> param : params.entrySet()) {
                set(benchmark, type, param.getKey(), param.getValue());
            }
            return benchmark;
        } catch (ReflectiveOperationException e) {
            throw new IllegalArgumentException(kernel + params + ": there is no such benchmark", e);
        }
    }

    private static void set(KernelBenchmark benchmark, Class<?> type, String name, String value)
            throws ReflectiveOperationException {
        for (Class<?> c = type; c != null; c = c.getSuperclass()) {
            for (Field field : c.getDeclaredFields()) {
                if (field.getName().equals(name)) {
                    field.setAccessible(true);
                    field.set(benchmark, field.getType() == int.class ? (Object) Integer.valueOf(value)
                            : field.getType() == String.class ? value : constant(field.getType(), value));
                    return;
                }
            }
        }
        throw new NoSuchFieldException(name);
    }

    private static Object constant(Class<?> type, String name) {
        return Arrays.stream(type.getEnumConstants()).filter(c -> c.toString().equals(name)).findFirst().orElseThrow();
    }

    static double median(double[] values) {
        final double[] sorted = values.clone();
        Arrays.sort(sorted);
        final int n = sorted.length;
        return (sorted[(n - 1) / 2] + sorted[n / 2]) / 2;
    }
}
