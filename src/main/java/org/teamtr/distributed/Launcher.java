package org.teamtr.distributed;

import java.io.BufferedReader;
import java.io.File;
import java.io.IOException;
import java.io.PrintStream;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.nio.charset.Charset;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/**
 * Starts the ranks of one machine, which differ only in the variables of {@link RankEnvironment}, and ends all of them when one fails. Rank
 * 0's output is passed on; of another rank, the last lines if it fails.
 */
public final class Launcher implements AutoCloseable {
    /** Lines that are kept of each rank. */
    private static final int LAST = 20;

    private final PrintStream err;
    private final List<Process> ranks = new CopyOnWriteArrayList<>(); // close() may come from another thread
    private final List<Deque<String>> words = new ArrayList<>();
    private final List<Thread> readers = new ArrayList<>();

    /** @param err where failures are printed */
    public Launcher(PrintStream err) {
        this.err = err;
    }

    /**
     * Starts a command as so many ranks, and waits for them; once.
     *
     * @return 0, or the exit code of the first rank that failed
     */
    public int run(int size, List<String> command) throws IOException, InterruptedException {
        final int port = freePort();
        final BlockingQueue<Integer> ended = new LinkedBlockingQueue<>();
        for (int rank = 0; rank < size; rank++) {
            final int number = rank;
            start(rank, size, port, command).onExit().thenRun(() -> ended.add(number));
        }
        for (int i = 0; i < size; i++) {
            final int rank = ended.take();
            if (ranks.get(rank).exitValue() != 0) {
                final int first = firstCause(rank, ended);
                tell(first);
                return ranks.get(first).exitValue();
            }
        }
        return 0;
    }

    private static int freePort() throws IOException {
        try (ServerSocket socket = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
            return socket.getLocalPort();
        }
    }

    private Process start(int rank, int size, int port, List<String> command) throws IOException {
        final ProcessBuilder builder = new ProcessBuilder(command).redirectInput(ProcessBuilder.Redirect.from(new File("/dev/null")));
        final Map<String, String> variables = builder.environment();
        variables.put("RANK", Integer.toString(rank));
        variables.put("LOCAL_RANK", Integer.toString(rank));
        variables.put("WORLD_SIZE", Integer.toString(size));
        variables.put("LOCAL_WORLD_SIZE", Integer.toString(size));
        variables.put("MASTER_ADDR", "127.0.0.1");
        variables.put("MASTER_PORT", Integer.toString(port));
        variables.put(RankEnvironment.LAUNCHER, Long.toString(ProcessHandle.current().pid()));
        variables.putIfAbsent("TORCH_CPP_LOG_LEVEL", "FATAL"); // what it has to say comes as exceptions, too
        final Deque<String> last = new ArrayDeque<>();
        if (rank == 0) {
            builder.redirectOutput(ProcessBuilder.Redirect.INHERIT).redirectError(ProcessBuilder.Redirect.INHERIT);
        } else {
            builder.redirectOutput(ProcessBuilder.Redirect.DISCARD);
        }
        final Process process = builder.start();
        ranks.add(process);
        words.add(last);
        final Thread reader = new Thread(() -> read(process, last), "teamtr-rank-" + rank);
        reader.setDaemon(true);
        readers.add(reader);
        reader.start();
        return process;
    }

    /** Reads to the end in any case: a rank whose output is not read would block. */
    private static void read(Process process, Deque<String> last) {
        try (BufferedReader lines = process.errorReader(Charset.defaultCharset())) {
            for (String line = lines.readLine(); line != null; line = lines.readLine()) {
                synchronized (last) {
                    last.add(line);
                    if (last.size() > LAST) {
                        last.remove();
                    }
                }
            }
        } catch (IOException e) {
            // the process is gone
        }
    }

    /** When one rank is killed, others may fail at the same time because of it. A rank that ended by a signal is taken as the cause. */
    private int firstCause(int rank, BlockingQueue<Integer> ended) throws InterruptedException {
        for (int other = rank;;) {
            if (ranks.get(other).exitValue() > 128) {
                return other;
            }
            final Integer next = ended.poll(200, TimeUnit.MILLISECONDS);
            if (next == null) {
                return rank;
            }
            other = next;
        }
    }

    private void tell(int rank) throws InterruptedException {
        final Process process = ranks.get(rank);
        final int code = process.exitValue();
        readers.get(rank).join(1_000);
        final List<String> last;
        synchronized (words.get(rank)) {
            last = List.copyOf(words.get(rank));
        }
        err.println("teamtr: rank " + rank + " (process " + process.pid() + ") ended with " + (code > 128 ? "signal " + (code - 128)
                : "exit code " + code) + (last.isEmpty() ? "" : "; its last words:"));
        last.forEach(line -> err.println("rank " + rank + ": " + line));
    }

    /** Asks the remaining processes to end, and kills them if they have not ended after five seconds. */
    @Override
    public void close() {
        ranks.forEach(Process::destroy);
        final long until = System.nanoTime() + TimeUnit.SECONDS.toNanos(5);
        for (Process rank : ranks) {
            try {
                if (!rank.waitFor(Math.max(0, until - System.nanoTime()), TimeUnit.NANOSECONDS)) {
                    rank.destroyForcibly().waitFor();
                }
            } catch (InterruptedException e) {
                rank.destroyForcibly();
                Thread.currentThread().interrupt();
            }
        }
    }

    /** Has an action run when the launcher that started this process is gone; never where there is none. */
    public static void onEnd(Map<String, String> variables, Runnable action) {
        final String launcher = variables.get(RankEnvironment.LAUNCHER);
        if (launcher != null) {
            ProcessHandle.of(Long.parseLong(launcher)).ifPresentOrElse(process -> process.onExit().thenRun(action), action);
        }
    }
}
