package org.teamtr.jmh;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.TimeUnit;
import java.util.logging.Logger;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Level;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.Warmup;
import org.openjdk.jmh.infra.BenchmarkParams;

/**
 * One kernel, by four sides in one class and one run:
 * <ul>
 * <li>{@code teamtr}: the kernel;
 * <li>{@code libtorch}: the operations a user of libtorch writes for the same result today. Where there are several ways
 *     it is the faster one;
 * <li>{@code plainJava}: a scalar loop over float arrays on the heap, rows in parallel, on a share of the rows ({@link #share});
 * <li>{@code roofline}: the same bytes read, or read and written back, by as many threads, and nothing done with them.
 * </ul>
 * Before a side is timed its result is compared with sums in double; a wrong one ends the benchmark. The largest error is measured as
 * cuda/bench.py measures it: absolute for log-probs and entropies, relative to the KL (or to 1e-6 nat, where it is smaller), and of a
 * gradient's element relative to its absolute value plus the row's mean absolute value.
 */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.MILLISECONDS)
@Warmup(iterations = 3, time = 500, timeUnit = TimeUnit.MILLISECONDS)
@Measurement(iterations = 5, time = 500, timeUnit = TimeUnit.MILLISECONDS)
@Fork(value = 3, jvmArgs = {"-Xms1g", "-Xmx1g", "-Dorg.bytedeco.javacpp.maxPhysicalBytes=0"})
public abstract class KernelBenchmark {
    /** Share of the rows that plain Java computes: it would take seconds for all of them. */
    static final int JAVA_SHARE = 16;

    /** System property: the file into which a fork writes the largest error that its check found. */
    static final String ERROR_FILE = "org.teamtr.jmh.error";

    private static final Logger KERNELS = Logger.getLogger("org.teamtr.kernels");

    /** Of every side; 0 for the machine's processors. */
    @Param("0")
    int threads;
    /** Of the kernel and the roofline: avx512, avx2, portable, or best. libtorch takes the best it has. */
    @Param("best")
    String cpu;

    private double largestError = Double.NaN;

    /** Sets threads and level, which the kernels read once, before their first call; then data and the comparison. */
    @Setup(Level.Trial)
    public final void start(BenchmarkParams benchmark) {
        threads = threads > 0 ? threads : Runtime.getRuntime().availableProcessors();
        System.setProperty("org.teamtr.threads", Integer.toString(threads));
        if (!cpu.equals("best")) {
            System.setProperty("org.teamtr.cpu", cpu);
        }
        // Beside the caller, which works as well.
        System.setProperty("java.util.concurrent.ForkJoinPool.common.parallelism", Integer.toString(threads - 1));
        KERNELS.setLevel(java.util.logging.Level.OFF); // a line for every fork
        final String name = benchmark.getBenchmark();
        final String side = name.substring(name.lastIndexOf('.') + 1);
        if (side.startsWith("libtorch") || side.equals("roofline")) {
            Libtorch.threads(threads);
        }
        prepare();
        if (!side.equals("roofline")) {
            check(side);
        }
        final String file = System.getProperty(ERROR_FILE);
        if (file != null) {
            try {
                Files.writeString(Path.of(file), Double.toString(largestError));
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        }
    }

    /** Called by {@link #check} with each error that it measures. */
    final void measured(double error) {
        largestError = Double.isNaN(largestError) ? error : Math.max(largestError, error);
    }

    /** Before every iteration, which for these kernels is a single call: see {@link Jmh}. */
    @Setup(Level.Iteration)
    public final void renew() {
        restore();
    }

    /** Fills the memory. */
    abstract void prepare();

    /** Writes back what calls have overwritten. */
    void restore() {
    }

    /** Runs a side once and compares what it gives with sums in double. */
    abstract void check(String side);

    /** {@return bytes a call has to move between memory and processor: each input and output once per pass that the job needs} */
    abstract long bytes();

    /** {@return the share of the call's rows that this side computes, by which its time is to be divided} */
    double share(String side) {
        return 1;
    }

    /** Throws unless {@code got} is within {@code tolerance} of {@code want}. */
    static void require(String what, double got, double want, double tolerance) {
        if (!(Math.abs(got - want) <= tolerance)) {
            throw new IllegalStateException(what + ": expected " + want + " ± " + tolerance + ", given " + got);
        }
    }
}
