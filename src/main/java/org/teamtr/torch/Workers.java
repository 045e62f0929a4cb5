package org.teamtr.torch;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.function.Consumer;
import org.bytedeco.openblas.global.openblas_nolapack;
import org.bytedeco.pytorch.global.torch;

/**
 * The threads of a policy. A small model is fastest with several threads that each run whole operations, since dividing a small
 * operation costs more than it saves; a large model with one thread whose operations are divided (docs/method.md has the
 * measurement).
 */
final class Workers implements AutoCloseable {
    /** Parameters up to which a model counts as small. */
    private static final long SMALL = 8_000_000;

    private final int count;
    private final int perOperation;
    private final ExecutorService pool;
    private final boolean host;

    /** @param host whether products are computed by OpenBLAS */
    Workers(long parameters, int threads, boolean host) {
        this.host = host;
        this.count = count(parameters, threads);
        this.perOperation = threads / count;
        this.pool = count == 1 ? null : Executors.newFixedThreadPool(count, task -> {
            final Thread thread = new Thread(task, "teamtr-worker");
            thread.setDaemon(true);
            return thread;
        });
    }

    static int count(long parameters, int threads) {
        return parameters <= SMALL ? threads : 1;
    }

    /** {@return the number of tasks that run at once} */
    int count() {
        return count;
    }

    /**
     * Sets the number of threads per operation. libtorch has it for each calling thread, OpenBLAS for the whole process: the latter is set
     * only by policies on the CPU, since policies on GPUs may run in other threads at the same time.
     */
    void use() {
        if (host && openblas_nolapack.blas_get_num_threads() != perOperation) { // its threads wait busily, so setting it is slow
            openblas_nolapack.blas_set_num_threads(perOperation);
        }
        if (torch.get_num_threads() != perOperation) {
            torch.set_num_threads(perOperation);
        }
    }

    /**
     * Runs the tasks and passes on their results in the order of the tasks, whichever ends first.
     *
     * @param what is being done, for the message of {@link OutOfMemory}
     */
    <T> void run(String what, List<Callable<T>> tasks, Consumer<T> inOrder) {
        try {
            run(tasks, inOrder);
        } catch (RuntimeException e) {
            throw OutOfMemory.told(e, what);
        }
    }

    private <T> void run(List<Callable<T>> tasks, Consumer<T> inOrder) {
        if (pool == null || tasks.size() == 1) {
            use();
            for (Callable<T> task : tasks) {
                inOrder.accept(call(task));
            }
            return;
        }
        final List<Future<T>> futures = new ArrayList<>(tasks.size());
        for (Callable<T> task : tasks) {
            futures.add(pool.submit(() -> {
                use();
                return task.call();
            }));
        }
        RuntimeException failure = null;
        for (Future<T> future : futures) { // waits for all tasks, also after a failure, since they use the caller's memory
            try {
                final T result = future.get();
                if (failure == null) {
                    inOrder.accept(result);
                }
            } catch (ExecutionException e) {
                failure = failure == null ? asRuntime(e.getCause()) : failure;
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
                failure = new IllegalStateException("interrupted", e);
            }
        }
        if (failure != null) {
            throw failure;
        }
    }

    private static <T> T call(Callable<T> task) {
        try {
            return task.call();
        } catch (Exception e) {
            throw asRuntime(e);
        }
    }

    private static RuntimeException asRuntime(Throwable t) {
        if (t instanceof OutOfMemoryError && OutOfMemory.is(t)) { // JavaCPP throws it if native memory is exhausted
            return new IllegalStateException(t.getMessage(), t);
        }
        if (t instanceof Error error) {
            throw error;
        }
        return t instanceof RuntimeException e ? e : new IllegalStateException(t);
    }

    @Override
    public void close() {
        if (pool != null) {
            pool.shutdown();
        }
    }
}
