package org.teamtr.kernels;

import org.bytedeco.javacpp.DoublePointer;
import org.teamtr.kernels.internal.global.teamtr;

/**
 * The loss and the statistics of a surrogate call. One object serves any number of calls, one at a time; each
 * call overwrites it. NaN before the first.
 *
 * <p>Only tokens that count enter, and only messages with such a token. w is the ratio the configuration names, except in the
 * monitors and zetas, which are always about whole messages. Where nothing counts, statistics are 0.
 *
 * <p>On a CUDA device calls write to its memory. The first getter after a call copies all statistics to the host, and so waits for the
 * stream: read them where waiting does no harm. A getter may then throw {@link DeviceException}.
 *
 * <p>Owns its native memory, freed by {@link #close()}; a getter then throws {@link IllegalStateException}.
 *
 * <pre>{@code
 * System.out.println("loss " + stats.loss() + ", KL of a message about " + stats.monitorK1() + " nats");
 * }</pre>
 */
public final class SurrogateStats implements AutoCloseable {
    /** How many f64 numbers a call writes. */
    public static final int COUNT = teamtr.TEAMTR_STATS;

    /** What the getters read; null of a copy. */
    private final Memory memory;
    private final DoublePointer values;
    /** What the getters of a copy read; null of others. */
    private final double[] copy;
    /** What calls write: the same, or a device's. */
    private final Memory written;
    private boolean copied = true;

    /** Room for the statistics of one call on the CPU. */
    public SurrogateStats() {
        this(Device.CPU);
    }

    /**
     * Room for the statistics of one call on a device.
     *
     * @throws DeviceException if the device has no such memory
     * @throws IllegalStateException if device memory is requested and not available; see {@link CudaMemory}
     */
    public SurrogateStats(Device device) {
        this(Check.given(device, "device").isCuda() ? Memory.allocate(device, COUNT, Double.BYTES) : null);
        if (written != memory) {
            copy(written, memory);
        }
    }

    /** @param written by calls; null for the host's own */
    private SurrogateStats(Memory written) {
        this.copy = null;
        this.memory = Memory.allocate(Device.CPU, COUNT, Double.BYTES);
        this.values = new DoublePointer(new Memory.Raw(memory.address, COUNT));
        for (int i = 0; i < COUNT; i++) {
            values.put(i, Double.NaN);
        }
        this.written = written == null ? memory : written;
    }

    /**
     * Room for the statistics of one call in memory of another framework, on any device: its allocator may be faster than a device's, which
     * waits for all work.
     *
     * @param capacityBytes of the memory at {@code address}: room for {@link #COUNT} f64 numbers
     * @param owner kept reachable; see {@link Logits#ofAddress}
     * @throws IllegalArgumentException if there is no such room, or the address is misaligned or not one of the device
     */
    public static SurrogateStats ofAddress(Device device, long address, long capacityBytes, Object owner) {
        if (capacityBytes < (long) COUNT * Double.BYTES) {
            throw new IllegalArgumentException("capacityBytes: expected room for " + COUNT + " numbers of " + Double.BYTES + " bytes, given "
                    + capacityBytes);
        }
        return new SurrogateStats(Memory.at(device, address, capacityBytes, Double.BYTES, owner));
    }

    private SurrogateStats(double[] copy) {
        this.copy = copy;
        this.memory = null;
        this.values = null;
        this.written = null;
    }

    /**
     * {@return the statistics of the latest call on the Java heap} Later calls do not change it and none can write to it; it has no
     * native memory, and need not be closed.
     */
    public SurrogateStats copy() {
        final double[] all = new double[COUNT];
        for (int i = 0; i < all.length; i++) {
            all[i] = get(i);
        }
        return new SurrogateStats(all);
    }

    private static void copy(Memory to, Memory from) {
        final Device copier = Memory.copier(to, from);
        Memory.copy(copier, to.address, from.address, (long) COUNT * Double.BYTES);
        copier.synchronize();
    }

    /** {@return -objective + beta * kl - entropyCoef * entropy: what is minimised} */
    public double loss() {
        return get(teamtr.TEAMTR_STAT_LOSS);
    }

    /** {@return the aggregated min(w A, clip(w) A), before the sign} */
    public double objective() {
        return get(teamtr.TEAMTR_STAT_OBJECTIVE);
    }

    /** {@return the aggregated KL term in nats, before beta} */
    public double kl() {
        return get(teamtr.TEAMTR_STAT_KL);
    }

    /** {@return the aggregated entropy in nats, before its coefficient; NaN if entropies were not given} */
    public double entropy() {
        return get(teamtr.TEAMTR_STAT_ENTROPY);
    }

    /** {@return messages with at least one token that counts} */
    public long messages() {
        return (long) get(teamtr.TEAMTR_STAT_MESSAGES);
    }

    /** {@return tokens that count} */
    public long tokens() {
        return (long) get(teamtr.TEAMTR_STAT_TOKENS);
    }

    /** {@return share of the ratios held by the lower clip (A &lt; 0, w &lt; 1 - epsLow)} */
    public double clipLow() {
        return get(teamtr.TEAMTR_STAT_CLIP_LOW);
    }

    /** {@return share of the ratios held by the upper clip (A &gt; 0, w &gt; 1 + epsHigh)} */
    public double clipHigh() {
        return get(teamtr.TEAMTR_STAT_CLIP_HIGH);
    }

    /** {@return share of the ratios held by the dual clip (A &lt; 0, w &gt; dualClip)} */
    public double clipDual() {
        return get(teamtr.TEAMTR_STAT_CLIP_DUAL);
    }

    /** {@return the mean of w} */
    public double ratioMean() {
        return get(teamtr.TEAMTR_STAT_RATIO_MEAN);
    }

    /** {@return the smallest w} */
    public double ratioMin() {
        return get(teamtr.TEAMTR_STAT_RATIO_MIN);
    }

    /** {@return the largest w} */
    public double ratioMax() {
        return get(teamtr.TEAMTR_STAT_RATIO_MAX);
    }

    /** {@return the effective sample size as a share, (sum w)<sup>2</sup> / (N sum w<sup>2</sup>): 1 at equal weights} */
    public double ess() {
        return get(teamtr.TEAMTR_STAT_ESS);
    }

    /**
     * {@return the trust-region monitor of Eq. 11, an estimate of KL(old || new) in nats: mean over messages of the sum over tokens
     * of log old - log new; may be negative}
     */
    public double monitorK1() {
        return get(teamtr.TEAMTR_STAT_MONITOR_K1);
    }

    /** {@return the monitor from the k3 estimator: never negative} */
    public double monitorK3() {
        return get(teamtr.TEAMTR_STAT_MONITOR_K3);
    }

    /** {@return the monitor from the exact per-token KL; NaN if that was not given} */
    public double monitorExact() {
        return get(teamtr.TEAMTR_STAT_MONITOR_EXACT);
    }

    /** {@return the largest sum of log old - log new of a single message, in nats} */
    public double monitorMax() {
        return get(teamtr.TEAMTR_STAT_MONITOR_MAX);
    }

    /** {@return |mean(w A) - mean(min(w A, clip(w) A))| over messages: the bias of clipping, a part of the certificate's zeta} */
    public double zetaClip() {
        return get(teamtr.TEAMTR_STAT_ZETA_CLIP);
    }

    /** {@return |mean(w) - 1| * max |A| over messages: the error of the ratios, a part of zeta} */
    public double zetaRatio() {
        return get(teamtr.TEAMTR_STAT_ZETA_RATIO);
    }

    /**
     * {@return |mean(w A) - mean(w A0 / s)| over messages, s<sup>2</sup> = mean A0<sup>2</sup>: the bias of normalising advantages, a
     * part of zeta; NaN if the centred returns A0 were not given}
     */
    public double zetaNorm() {
        return get(teamtr.TEAMTR_STAT_ZETA_NORM);
    }

    private double get(int statistic) {
        if (copy != null) {
            return copy[statistic];
        }
        memory.check("stats");
        if (!copied) {
            written.check("stats");
            copy(memory, written);
            copied = true;
        }
        final double value = values.get(statistic);
        Check.alive(memory, null, null, null);
        return value;
    }

    /** Throws if the view lies where calls write, which in memory of another framework it may. */
    void checkApart(NativeView view, String name) {
        if (view != null && written != null && view.extent > 0 && view.start < written.address + (long) COUNT * Double.BYTES
                && written.address < view.start + view.extent) {
            view.open(name); // memory that was closed may have been reused by now: then that is the error
            throw new IllegalArgumentException("stats: expected memory apart from " + name + ", given an overlap");
        }
    }

    /** For a call on that device, whose results the next getter shows. */
    long address(Device device) {
        if (copy != null) {
            throw new IllegalArgumentException("stats: expected room for the statistics of a call, given a copy of others");
        }
        final long address = written.open("stats", device, written.address);
        copied = written == memory;
        return address;
    }

    /** Frees the memory. */
    @Override
    public void close() {
        if (copy == null) {
            memory.close();
            written.close();
        }
    }

    @Override
    public String toString() {
        return "SurrogateStats[loss " + loss() + ", objective " + objective() + ", kl " + kl() + ", entropy " + entropy()
                + ", messages " + messages() + ", tokens " + tokens() + ", clip " + clipLow() + "/" + clipHigh() + "/" + clipDual()
                + ", ratio " + ratioMin() + "/" + ratioMean() + "/" + ratioMax() + ", ess " + ess() + ", monitor " + monitorK1()
                + ", k3 " + monitorK3() + ", exact " + monitorExact() + ", max " + monitorMax() + "]";
    }
}
