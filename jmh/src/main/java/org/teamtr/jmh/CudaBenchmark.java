package org.teamtr.jmh;

import java.util.concurrent.TimeUnit;
import org.openjdk.jmh.annotations.AuxCounters;
import org.openjdk.jmh.annotations.Benchmark;
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
import org.openjdk.jmh.annotations.TearDown;
import org.openjdk.jmh.annotations.Warmup;
import org.teamtr.kernels.Backend;
import org.teamtr.kernels.CudaEvent;
import org.teamtr.kernels.CudaMemory;
import org.teamtr.kernels.CudaStream;
import org.teamtr.kernels.DType;
import org.teamtr.kernels.Floats;
import org.teamtr.kernels.Indices;
import org.teamtr.kernels.LogProbs;
import org.teamtr.kernels.Logits;
import org.teamtr.kernels.Device;
import org.teamtr.kernels.PolicyLoss;
import org.teamtr.kernels.Sampling;
import org.teamtr.kernels.SamplingConfig;
import org.teamtr.kernels.SurrogateConfig.Aggregation;
import org.teamtr.kernels.SurrogateConfig.Ratio;
import org.teamtr.kernels.SurrogateConfig;
import org.teamtr.kernels.Temperature;
import org.teamtr.kernels.TokenKl;

/**
 * The kernels on a CUDA device, where there is one. {@code device} is a call and the wait for it, with {@code deviceMillis}
 * beside it, the time between two events on the device's clock; {@code call} is the call alone, best seen with
 * {@code -p rows=1 -p vocab=8}.
 *
 * <p>Needs the natives of the classifier {@code linux-x86_64-gpu} and {@code org.bytedeco:cuda} on the class path:
 *
 * <pre>
 * java -cp GPU-NATIVES.jar:CUDA-PRESETS.jar:jmh/target/benchmarks.jar org.openjdk.jmh.Main CudaBenchmark -p dtype=BF16
 * </pre>
 *
 * <p>Results are compared with the CPU's, which the other classes compare with sums in double. Peers on the device are in
 * {@code cuda/bench.py}, since libtorch's CUDA build is no dependency of this project.
 */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.MILLISECONDS)
@Warmup(iterations = 3, time = 500, timeUnit = TimeUnit.MILLISECONDS)
@Measurement(iterations = 5, time = 500, timeUnit = TimeUnit.MILLISECONDS)
@Fork(value = 3, jvmArgs = {"-Xms1g", "-Xmx1g", "-Dorg.bytedeco.javacpp.maxPhysicalBytes=0"})
public class CudaBenchmark {
    /** Gradients are written in place, as in the classes of the CPU. */
    public enum Kernel {
        LOG_PROBS, LOG_PROBS_BACKWARD, KL_NEAR, KL_FAR, KL_BACKWARD, POLICY_LOSS, SAMPLING
    }

    /** The mean over an iteration's calls of what two events are apart. */
    @State(Scope.Thread)
    @AuxCounters(AuxCounters.Type.EVENTS)
    public static class DeviceTime {
        public double deviceMillis;
        private long calls;

        @Setup(Level.Iteration)
        public void start() {
            calls = 0;
        }

        void add(double millis) {
            deviceMillis += (millis - deviceMillis) / ++calls;
        }
    }

    @Param({"LOG_PROBS", "LOG_PROBS_BACKWARD", "KL_NEAR", "KL_FAR", "KL_BACKWARD", "POLICY_LOSS", "SAMPLING"})
    Kernel kernel;
    @Param({"F32", "BF16"})
    DType dtype;
    @Param("4096")
    int rows;
    @Param("151936")
    int vocab;

    private CudaStream stream;
    private CudaEvent begin;
    private CudaEvent end;
    private Arguments arguments;

    /** What a call reads and writes, at some place. */
    private static final class Arguments {
        private static final SurrogateConfig LOSS = SurrogateConfig.PAPER.withRatio(Ratio.TOKEN)
                .withAggregation(Aggregation.TOKEN_MEAN).withClip(Double.POSITIVE_INFINITY, Double.POSITIVE_INFINITY);

        final Kernel kernel;
        final Logits logits;
        final Logits other;
        final Indices targets;
        final Indices tokens;
        final Indices bounds;
        final Floats logProbs;
        final Floats lse;
        final Floats entropy;
        final Floats slopes;
        final Floats advantages;
        final PolicyLoss loss;
        private int step;

        Arguments(Kernel kernel, Device device, Logits logits, Logits other, int rows) {
            this.kernel = kernel;
            this.logits = logits;
            this.other = other;
            final Indices ids = Indices.allocateLongs(rows);
            final Floats slope = Floats.allocate(rows);
            for (int r = 0; r < rows; r++) {
                ids.set(r, r % (int) logits.vocab());
                slope.set(r, -0.25f);
            }
            targets = Indices.allocateLongs(device, rows).copyFrom(ids);
            tokens = Indices.allocateLongs(device, rows);
            bounds = Indices.allocateLongs(device, 2).copyFrom(Indices.ofLongs(0, rows));
            logProbs = Floats.allocate(device, rows);
            lse = Floats.allocate(device, rows);
            entropy = Floats.allocate(device, rows);
            slopes = Floats.allocate(device, rows).copyFrom(slope);
            advantages = Floats.allocate(device, 1).copyFrom(Floats.ofFloats(0.7f));
            loss = new PolicyLoss(device, rows, false);
            LogProbs.forward(logits, targets, Temperature.ONE, logProbs, lse, entropy);
        }

        void call() {
            switch (kernel) {
                case LOG_PROBS -> LogProbs.forward(logits, targets, Temperature.ONE, logProbs, lse, entropy);
                case LOG_PROBS_BACKWARD -> LogProbs.backward(logits, targets, Temperature.ONE, logProbs, lse, null, slopes, null,
                        logits);
                case KL_NEAR, KL_FAR -> TokenKl.oldNew(logits, other, entropy);
                case KL_BACKWARD -> TokenKl.oldNewBackward(other, logits, null, Temperature.ONE, slopes, logits);
                case POLICY_LOSS -> loss.forwardBackward(LOSS, logits, null, targets, Temperature.ONE, logProbs, advantages, bounds,
                        null, null, logits);
                default -> Sampling.sample(logits, Temperature.ONE, SamplingConfig.ALL.withTopP(0.95f), 1,
                        step++ & Integer.MAX_VALUE, null, tokens, logProbs, null);
            }
        }
    }

    @Setup(Level.Trial)
    public void start() {
        final Backend backend = Backend.current();
        if (backend.cudaDevices().isEmpty()) {
            throw new IllegalStateException("CudaBenchmark: no CUDA device: " + backend.whyNoCuda());
        }
        stream = new CudaStream(0);
        begin = new CudaEvent(0);
        end = new CudaEvent(0);
        final Data data = new Data(dtype, rows, vocab, 1, null);
        final Data other = new Data(dtype, rows, vocab, 2, kernel == Kernel.KL_NEAR ? data : null);
        arguments = new Arguments(kernel, stream.device(), copy(data.logits), copy(other.logits), rows);
        final Arguments host = new Arguments(kernel, Device.CPU, data.logits, other.logits, rows);
        host.call();
        arguments.call();
        stream.synchronize();
        compare(host.logProbs, arguments.logProbs);
        compare(host.entropy, arguments.entropy);
        final Data result = new Data(dtype, rows, vocab, 3, null);
        result.logits.copyFrom(arguments.logits);
        for (int r = 0; r < Math.min(rows, 3); r++) {
            final float[] expected = data.row(r);
            final float[] given = result.row(r);
            for (int v = 0; v < vocab; v++) {
                KernelBenchmark.require("logits or gradient", given[v], expected[v], 1e-8 + Math.abs(expected[v]) / 64);
            }
        }
    }

    private Logits copy(Logits host) {
        final CudaMemory memory = CudaMemory.allocate(stream.device(), host.rows() * host.vocab() * dtype.bytes());
        return Logits.of(stream.device(), memory, dtype, host.rows(), host.vocab()).copyFrom(host);
    }

    private static void compare(Floats host, Floats device) {
        final float[] expected = host.toArray();
        final float[] given = device.toHost().toArray();
        for (int r = 0; r < expected.length; r++) {
            KernelBenchmark.require("row " + r, given[r], expected[r], 1e-5 * (1 + Math.abs(expected[r])));
        }
    }

    @Benchmark
    public void device(DeviceTime time) {
        begin.record(stream.device());
        arguments.call();
        end.record(stream.device());
        time.add(end.elapsedMillis(begin));
    }

    @Benchmark
    public void call() {
        arguments.call();
    }

    /** Calls may run ahead of the device; their time is not to be the next iteration's. */
    @TearDown(Level.Iteration)
    public void finish() {
        stream.synchronize();
    }

    @TearDown(Level.Trial)
    public void close() {
        arguments.loss.close();
        end.close();
        begin.close();
        stream.close();
    }
}
