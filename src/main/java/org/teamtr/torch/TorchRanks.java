package org.teamtr.torch;

import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.net.UnknownHostException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.function.Consumer;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.javacpp.DoublePointer;
import org.bytedeco.javacpp.FloatPointer;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.javacpp.chrono.Milliseconds;
import org.bytedeco.pytorch.Backend;
import org.bytedeco.pytorch.BroadcastOptions;
import org.bytedeco.pytorch.ByteVector;
import org.bytedeco.pytorch.Device;
import org.bytedeco.pytorch.GlooDeviceVector;
import org.bytedeco.pytorch.NoGradGuard;
import org.bytedeco.pytorch.PrefixStore;
import org.bytedeco.pytorch.ProcessGroupGloo;
import org.bytedeco.pytorch.ReduceOptions;
import org.bytedeco.pytorch.Store;
import org.bytedeco.pytorch.StringVector;
import org.bytedeco.pytorch.TCPStore;
import org.bytedeco.pytorch.TCPStoreOptions;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorVector;
import org.bytedeco.pytorch.Work;
import org.bytedeco.pytorch.global.torch;
import org.bytedeco.pytorch.nccl.ProcessGroupNCCL;
import org.teamtr.distributed.RankEnvironment;
import org.teamtr.distributed.Ranks;
import org.teamtr.distributed.RanksException;

/**
 * Ranks over libtorch's c10d: a {@code TCPStore} as meeting point, {@code ProcessGroupGloo} for tensors in host memory and
 * {@code ProcessGroupNCCL} for tensors on a GPU. Both sum in the same order for all ranks, so that all get the same bits.
 *
 * <p>A separate thread reports every second to the store that this process is alive. If a rank dies, fails, or does not reach a call in
 * which the others wait, all ranks report which one it is.
 *
 * <p>The part on NCCL has not been run: no machine with two GPUs was at hand. {@code src/conformance/ranks.sh cuda} runs it.
 */
public final class TorchRanks implements Ranks {
    /** A rank that has reported nothing for this long counts as dead. */
    private static final Duration SILENCE = Duration.ofSeconds(10);
    private static final String FAILED = "failed";
    private static final String HELLO = "hello/";
    private static final String BEAT = "beat/";
    private static final String LEFT = "left";

    private final RankEnvironment environment;
    private final Duration patience;
    private final Consumer<String> lost;
    private final String prefix;
    private final TCPStore store; // on rank 0 also the server, unless the launcher has one
    private final TCPStore watched; // for the watching thread, since a client must be used by one thread at a time
    private final Thread watch;
    private List<String> names;
    private ProcessGroupGloo gloo;
    private Backend nccl;
    private volatile boolean leaving;
    private volatile boolean reported;
    private volatile String doing = "starting";
    private volatile long calls;
    private long bytes;
    private double seconds;

    /**
     * Connects to the other ranks.
     *
     * @param patience how long a rank waits for another, here and in every call
     * @param facts values that must be the same on all ranks: version, configuration
     * @param lost is called by another thread, with a sentence, when the ranks cannot continue; it should end the process
     * @throws RanksException if they cannot connect, or their facts differ
     */
    public static TorchRanks join(RankEnvironment environment, Duration patience, Map<String, String> facts, Consumer<String> lost) {
        Libtorch.load();
        final long until = System.nanoTime() + patience.toNanos();
        final boolean serves = environment.rank() == 0 && !environment.served();
        if (serves) {
            checkFree(environment);
        } else {
            awaitListener(environment, until, patience);
        }
        try {
            return new TorchRanks(environment, patience, facts, lost, serves, until);
        } catch (RuntimeException e) {
            throw e instanceof RanksException ? e : new RanksException("rank " + environment.rank() + ": " + firstLine(e), e);
        }
    }

    private TorchRanks(RankEnvironment environment, Duration patience, Map<String, String> facts, Consumer<String> lost, boolean serves,
            long until) {
        this.environment = environment;
        this.patience = patience;
        this.lost = lost;
        // The launcher's store may still have the keys of an earlier attempt; this prefix keeps them apart.
        this.prefix = "teamtr/" + environment.attempt() + "/" + environment.size() + "/";
        this.store = client(serves);
        this.watched = client(false);
        this.names = IntStream.range(0, environment.size()).mapToObj(r -> "rank " + r).toList();
        this.watch = new Thread(this::watch, "teamtr-ranks");
        watch.setDaemon(true);
        try {
            handshake(facts, until);
            watch.start();
            gloo = connected();
        } catch (RuntimeException e) {
            fail(firstLine(e));
            leaving = true;
            throw e;
        }
    }

    // ---- connecting ----

    private static void checkFree(RankEnvironment e) {
        try (ServerSocket socket = new ServerSocket()) {
            socket.setReuseAddress(true);
            socket.bind(new InetSocketAddress(e.port()));
        } catch (IOException problem) {
            throw new RanksException("rank 0: MASTER_PORT " + e.port() + ": " + problem.getMessage()
                    + "; expected a port that no other program listens at", problem);
        }
    }

    /** Waits until somebody listens. By Java's sockets, since c10d's client prints pages about every attempt. */
    private static void awaitListener(RankEnvironment e, long until, Duration patience) {
        while (true) {
            String problem;
            try (Socket socket = new Socket()) {
                final InetSocketAddress address = new InetSocketAddress(e.host(), e.port());
                if (address.isUnresolved()) {
                    throw new UnknownHostException("no such host");
                }
                socket.connect(address, 5_000);
                return;
            } catch (IOException failed) {
                problem = failed.getMessage();
            }
            if (System.nanoTime() > until) {
                throw new RanksException(String.format(Locale.ROOT, "rank %d: nobody answers at MASTER_ADDR %s, MASTER_PORT %d for %d s (%s);"
                        + " expected rank 0 or torchrun to listen there", e.rank(), e.host(), e.port(), patience.toSeconds(), problem));
            }
            sleep(200);
        }
    }

    private TCPStore client(boolean serves) {
        try (PointerScope scope = new PointerScope()) {
            final TCPStoreOptions options = new TCPStoreOptions().port((short) environment.port()).isServer(serves).waitWorkers(false)
                    .timeout(new Milliseconds(patience.toMillis()));
            return Decoder.kept(new TCPStore(serves ? "localhost" : environment.host(), options));
        }
    }

    /** Rank 0 checks that all ranks have the same facts, and tells the others the result. */
    private void handshake(Map<String, String> facts, long until) {
        final StringBuilder hello = new StringBuilder(ownName()).append('\n');
        all(facts).forEach((key, value) -> hello.append(key).append('\t').append(value.replace("\n", "\\n")).append('\n'));
        set(store, HELLO + rank(), hello.toString());
        if (rank() == 0) {
            final List<String> there = new ArrayList<>();
            String verdict = null;
            for (int r = 0; r < size() && verdict == null; r++) {
                final String other = await(HELLO + r, until);
                if (other == null) {
                    verdict = String.format(Locale.ROOT, "rank %d of %d has not come within %d s (hardware.ranks.timeout)", r, size(),
                            patience.toSeconds());
                } else {
                    there.add(other.lines().findFirst().orElseThrow());
                    verdict = difference(there.get(r), hello.toString(), other);
                }
            }
            set(store, "names", String.join("\n", there));
            set(store, "verdict", verdict == null ? "" : verdict);
        }
        final String verdict = await("verdict", until + Duration.ofSeconds(5).toNanos());
        if (verdict == null) {
            throw new RanksException("rank " + rank() + ": rank 0 has not come within " + patience.toSeconds() + " s (hardware.ranks.timeout)");
        }
        if (!verdict.isEmpty()) {
            if (rank() == 0) {
                sleep(1_000); // so that the others have read it
            }
            throw new RanksException(verdict);
        }
        names = read(store, "names").lines().toList();
    }

    private Map<String, String> all(Map<String, String> facts) {
        final Map<String, String> all = new LinkedHashMap<>();
        all.put("WORLD_SIZE", Integer.toString(size()));
        all.putAll(facts);
        return all;
    }

    private String ownName() {
        String machine;
        try {
            machine = InetAddress.getLocalHost().getHostName();
        } catch (UnknownHostException e) {
            machine = "localhost";
        }
        return "rank " + rank() + " (" + machine + ", process " + ProcessHandle.current().pid() + ")";
    }

    private static String difference(String name, String first, String other) {
        final Map<String, String> expected = facts(first);
        final Map<String, String> given = facts(other);
        final List<String> keys = new ArrayList<>(expected.keySet());
        given.keySet().stream().filter(key -> !expected.containsKey(key)).forEach(keys::add);
        final List<String> different = keys.stream().filter(key -> !String.valueOf(expected.get(key)).equals(given.get(key))).toList();
        return different.isEmpty() ? null : different.stream().limit(3).map(key -> key + ": expected " + expected.get(key)
                + ", as rank 0 has, given " + given.get(key) + " on " + name).collect(Collectors.joining("; "))
                + (different.size() > 3 ? "; and " + (different.size() - 3) + " more" : "");
    }

    private static Map<String, String> facts(String hello) {
        return hello.lines().skip(1).map(line -> line.split("\t", 2)).collect(Collectors.toMap(f -> f[0], f -> f[1], (a, b) -> b,
                LinkedHashMap::new));
    }

    /** {@return the value of a key of the store, or null if it is not there in time} */
    private String await(String key, long until) {
        for (int wait = 5; System.nanoTime() < until; wait = Math.min(200, 2 * wait)) {
            final String value = read(store, key);
            if (value != null) {
                return value;
            }
            sleep(wait);
        }
        return null;
    }

    private String read(TCPStore from, String name) {
        return readKey(from, prefix + name);
    }

    private static String readKey(TCPStore from, String key) {
        try (PointerScope scope = new PointerScope()) {
            return from.check(new StringVector(key)) ? from.get_to_str(key) : null;
        }
    }

    private void set(TCPStore to, String name, String value) {
        setKey(to, prefix + name, value);
    }

    private static void setKey(TCPStore to, String key, String value) {
        try (PointerScope scope = new PointerScope()) {
            to.set(key, new ByteVector(value.getBytes(StandardCharsets.UTF_8)));
        }
    }

    private long count(String name, long more) {
        return store.add(prefix + name, more);
    }

    /**
     * {@return a store for a process group} Clones are reference-counted in C++. Stores that are made by Java constructors are not: the process
     * group would use them after they are freed.
     */
    private Store counted(String name) {
        return new PrefixStore(prefix + name, client(false).clone()).clone();
    }

    private ProcessGroupGloo gloo() {
        try (PointerScope scope = new PointerScope()) {
            final String wanted = System.getenv("GLOO_SOCKET_IFNAME");
            final GlooDeviceVector devices = new GlooDeviceVector();
            devices.push_back(wanted != null ? ProcessGroupGloo.createDeviceForInterface(wanted)
                    : environment.oneMachine() ? ProcessGroupGloo.createDeviceForHostname("127.0.0.1") : ProcessGroupGloo.createDefaultDevice());
            final ProcessGroupGloo.Options options = ProcessGroupGloo.Options.create(new Milliseconds(patience.toMillis()));
            options.devices(devices);
            return Decoder.kept(new ProcessGroupGloo(counted("gloo"), rank(), size(), options));
        }
    }

    /** Connects Gloo. If another rank fails meanwhile, the error is that rank's reason, not Gloo's message about a closed connection. */
    private ProcessGroupGloo connected() {
        try {
            return gloo();
        } catch (RuntimeException e) {
            throw failureOf("the start", e);
        }
    }

    private Backend group(Tensor tensor) {
        if (!tensor.is_cuda()) {
            return gloo;
        }
        if (nccl == null) {
            try (PointerScope scope = new PointerScope()) {
                nccl = Decoder.kept(new ProcessGroupNCCL(counted("nccl"), rank(), size()));
                nccl.setTimeout(new Milliseconds(patience.toMillis()));
            }
        }
        return nccl;
    }

    // ---- which ranks are alive ----

    private void watch() {
        final int next = (rank() + 1) % size();
        String latest = null;
        long heard = System.nanoTime();
        long beats = 0;
        while (!leaving) {
            try {
                set(watched, BEAT + rank(), ++beats + "\t" + calls + "\t" + doing);
                String failed = read(watched, FAILED);
                final String beat = read(watched, BEAT + next);
                if (beat != null && !beat.equals(latest)) {
                    latest = beat;
                    heard = System.nanoTime();
                } else if (failed == null && System.nanoTime() - heard > SILENCE.toNanos() && read(watched, LEFT) == null) {
                    failed = name(next) + " is gone: no sign of life for " + SILENCE.toSeconds() + " s";
                    set(watched, FAILED, failed);
                }
                if (failed != null) {
                    reportLoss(failed);
                    return;
                }
            } catch (RuntimeException e) {
                if (!leaving) {
                    reportLoss(storeIsGone());
                }
                return;
            }
            sleep(1_000);
        }
    }

    /** The message for a store that no longer answers. */
    private String storeIsGone() {
        return (environment.served() ? "the launcher" : name(0)) + " is gone: it no longer answers at " + environment.host() + ":"
                + environment.port();
    }

    private void reportLoss(String failed) {
        if (!reported && !leaving) {
            reported = true;
            lost.accept(failed);
        }
    }

    /** Tells the other ranks in a sentence why this one ends. */
    public void fail(String words) {
        if (size() == 1 || reported) {
            return;
        }
        reported = true;
        try {
            if (read(store, FAILED) == null) {
                set(store, FAILED, name(rank()) + ": " + String.valueOf(words).lines().findFirst().orElse(""));
                if (rank() == 0 && !environment.served()) {
                    sleep(2_500); // the others read it once a second, and the store ends with this rank
                }
            }
        } catch (RuntimeException e) {
            // the store has ended, so nobody can be told
        }
    }

    /**
     * {@return the value stored under a name, by this attempt or, if the launcher has the store, an earlier one; null if there is none}
     *
     * @param value the value to store if there is none yet; null to store nothing
     */
    public String kept(String name, String value) {
        final String key = "teamtr/" + name; // without the attempt
        final String there = readKey(store, key);
        if (there == null && value != null) {
            setKey(store, key, value);
            return value;
        }
        return there;
    }

    // ---- collective operations ----

    /** An operation of a process group on tensors of one device. */
    private interface Collective {
        Work start(Backend group);
    }

    /** @param sent bytes that each rank sends with ring algorithms */
    private void run(String what, Tensor tensor, double sent, Collective collective) {
        final long started = System.nanoTime();
        doing = "waiting for the others at: " + what;
        calls++;
        try (PointerScope scope = new PointerScope(); NoGradGuard guard = new NoGradGuard()) {
            collective.start(group(tensor))._wait();
        } catch (RuntimeException e) {
            throw failureOf(what, e);
        }
        doing = "working, after: " + what;
        seconds += (System.nanoTime() - started) * 1e-9;
        bytes += (long) sent;
    }

    /** {@return the reason why an operation failed, with the rank that caused it} */
    private RanksException failureOf(String what, RuntimeException e) {
        final boolean late = firstLine(e).matches("(?is).*time.?out.*|.*timed out.*");
        String failed = null;
        try {
            final List<String> beats = late ? null : beats();
            final long until = System.nanoTime() + Duration.ofSeconds(4).toNanos(); // several reports
            while (failed == null && System.nanoTime() < until) {
                failed = read(store, FAILED);
                if (failed == null && late) {
                    failed = behind(what);
                    set(store, FAILED, failed);
                }
                sleep(100);
            }
            if (failed == null) {
                failed = silent(beats, beats());
                if (failed != null) {
                    set(store, FAILED, failed);
                }
            }
        } catch (RuntimeException again) {
            failed = storeIsGone();
        }
        if (reported) {
            sleep(5_000); // the process is being ended
        }
        reported = true;
        if (rank() == 0 && !environment.served()) {
            sleep(2_500); // as in fail
        }
        return new RanksException(failed != null ? failed : what + ": " + firstLine(e), e);
    }

    private List<String> beats() {
        return IntStream.range(0, size()).mapToObj(r -> String.valueOf(read(store, BEAT + r))).toList();
    }

    /** {@return which ranks have reported nothing between two readings; null if none} */
    private String silent(List<String> then, List<String> now) {
        final String gone = IntStream.range(0, size()).filter(r -> r != rank() && then.get(r).equals(now.get(r))).mapToObj(this::name)
                .collect(Collectors.joining(" and "));
        return gone.isEmpty() ? null : gone + " is gone: a connection was closed, and there is no sign of life";
    }

    /** {@return which ranks have made fewer calls than this one} */
    private String behind(String what) {
        final List<String> late = new ArrayList<>();
        for (int r = 0; r < size(); r++) {
            final String beat = r == rank() ? null : read(store, BEAT + r);
            final String[] parts = beat == null ? null : beat.split("\t", 3);
            if (parts != null && Long.parseLong(parts[1]) < calls) {
                late.add(name(r) + " (" + parts[2] + ")");
            }
        }
        return String.format(Locale.ROOT, "%s has not come to: %s within %d s (hardware.ranks.timeout)", late.isEmpty() ? "another rank"
                : String.join(" and ", late), what, patience.toSeconds());
    }

    @Override
    public int rank() {
        return environment.rank();
    }

    @Override
    public int size() {
        return environment.size();
    }

    @Override
    public String name(int rank) {
        return names.get(rank);
    }

    /** {@return the ranks of this machine} */
    public int here() {
        return environment.localSize();
    }

    private double ring(long ofBytes) {
        return ofBytes * (size() - 1.0) / size();
    }

    /** Sums a tensor over the ranks, in place. */
    void sum(String what, Tensor tensor) {
        run(what, tensor, 2 * ring(tensor.nbytes()), group -> group.allreduce(new TensorVector(tensor)));
    }

    /** Concatenates the tensors of all ranks, by rank. */
    void allGather(String what, Tensor all, Tensor own) {
        run(what, own, (size() - 1.0) * own.nbytes(), group -> group._allgather_base(all, own));
    }

    /** Sums tensors that have a part for each rank; this rank gets its part of the sum. */
    void reduceScatter(String what, Tensor own, Tensor all) {
        run(what, own, ring(all.nbytes()), group -> group._reduce_scatter_base(own, all));
    }

    /** Sums a tensor over the ranks, in place on one rank; on the others it is undefined afterwards. */
    void reduce(String what, Tensor tensor, int root) {
        run(what, tensor, ring(tensor.nbytes()), group -> group.reduce(new TensorVector(tensor), new ReduceOptions().rootRank(root)));
    }

    /** Sends one rank's tensor to all. */
    void broadcast(String what, Tensor tensor, int root) {
        run(what, tensor, ring(tensor.nbytes()), group -> group.broadcast(new TensorVector(tensor), new BroadcastOptions().rootRank(root)));
    }

    @Override
    public void sum(String what, float[]... vectors) {
        final float[] all = new float[Arrays.stream(vectors).mapToInt(v -> v.length).sum()];
        int at = 0;
        for (float[] vector : vectors) {
            System.arraycopy(vector, 0, all, at, vector.length);
            at += vector.length;
        }
        if (all.length > 0) {
            try (PointerScope scope = new PointerScope()) {
                final Tensor tensor = Tensor.create(all);
                sum(what, tensor);
                new FloatPointer(tensor.data_ptr_float()).get(all);
            }
        }
        at = 0;
        for (float[] vector : vectors) {
            System.arraycopy(all, at, vector, 0, vector.length);
            at += vector.length;
        }
    }

    @Override
    public void sum(String what, double[] vector) {
        try (PointerScope scope = new PointerScope()) {
            final Tensor tensor = Tensor.create(vector);
            sum(what, tensor);
            new DoublePointer(tensor.data_ptr_double()).get(vector);
        }
    }

    @Override
    public List<byte[]> gather(String what, byte[] own) {
        final long[] lengths = new long[size()];
        lengths[rank()] = own.length;
        try (PointerScope scope = new PointerScope()) {
            final Tensor tensor = Tensor.create(lengths);
            sum(what, tensor);
            System.arraycopy(HostCopies.longs(tensor), 0, lengths, 0, lengths.length);
        }
        final long longest = Arrays.stream(lengths).max().orElseThrow();
        final List<byte[]> all = new ArrayList<>(size());
        if (longest == 0) {
            Arrays.stream(lengths).forEach(length -> all.add(new byte[0]));
            return all;
        }
        try (PointerScope scope = new PointerScope(); Device cpu = new Device("cpu")) {
            final Tensor mine = Decoder.empty(new long[] {longest}, torch.ScalarType.Byte, cpu).zero_();
            new BytePointer(mine.data_ptr()).capacity(longest).put(own, 0, own.length);
            final Tensor gathered = Decoder.empty(new long[] {size() * longest}, torch.ScalarType.Byte, cpu);
            run(what, mine, (size() - 1.0) * longest, group -> group._allgather_base(gathered, mine));
            final BytePointer from = new BytePointer(gathered.data_ptr()).capacity(size() * longest);
            for (int r = 0; r < size(); r++) {
                final byte[] given = new byte[Math.toIntExact(lengths[r])];
                from.position(r * longest).get(given, 0, given.length);
                all.add(given);
            }
        }
        return all;
    }

    @Override
    public Traffic traffic() {
        return new Traffic(seconds, bytes, calls);
    }

    @Override
    public void close() {
        try {
            if (!reported) {
                barrier("the end");
                leaving = true;
                set(store, LEFT, "all");
                if (count("leaving", 1) < size() && rank() == 0 && !environment.served()) {
                    for (int i = 0; i < 100 && count("leaving", 0) < size(); i++) {
                        sleep(20); // the store ends with this rank
                    }
                }
            }
        } finally {
            leaving = true;
            if (nccl != null) {
                nccl.close();
            }
            if (gloo != null) {
                gloo.close();
            }
        }
    }

    // ---- helpers ----

    /** {@return libtorch's message, without the C++ stack trace that follows it} */
    private static String firstLine(Throwable e) {
        return e.getMessage() == null ? e.toString() : e.getMessage().lines().findFirst().orElse("").trim();
    }

    private static void sleep(long milliseconds) {
        try {
            Thread.sleep(milliseconds);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }
}
