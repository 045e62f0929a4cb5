package org.teamtr.team;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.locks.ReentrantLock;

/**
 * Episodes of a team whose policies are on different devices, in groups, each played by a thread: while one agent generates for one group
 * on its device, another agent generates for another group on its own. A device serves one group at a time; routers, environments, oracles
 * and the ends of episodes are also processed for one group at a time.
 *
 * <p>Episodes are in groups only where a policy cannot take all of a turn at once ({@link Speaker#atOnce}): a group has so many episodes at
 * least, so that no device has fewer messages to generate at once than without groups. Random numbers are keyed by episode and do not
 * depend on groups.
 */
final class Groups {
    /** Stands for everything except policies, where devices take turns. */
    static final String REST = "";
    /** The largest number of groups for each device: with g groups and two devices, a device waits for one in g + 1 parts of the time. */
    private static final int EACH = 2;

    private Groups() {
    }

    /** Runs an action when it is the thread's turn on a device, or on {@link #REST}. */
    interface Turns {
        void on(String device, Runnable work);
    }

    /** Plays some episodes from beginning to end. */
    interface Play {
        void all(List<Context> episodes, Turns turns);
    }

    /** {@return in how many groups so many episodes of a team are played} */
    static int count(Team team, int episodes) {
        final long devices = team.agents().stream().map(agent -> agent.speaker().device()).distinct().count();
        final boolean bounded = team.agents().stream().allMatch(agent -> agent.speaker().atOnce() > 0);
        if (devices < 2 || !bounded) {
            return 1;
        }
        final int atOnce = team.agents().stream().mapToInt(agent -> agent.speaker().atOnce()).max().orElseThrow();
        return (int) Math.max(1, Math.min(episodes / atOnce, EACH * devices));
    }

    /** Plays all episodes, in so many groups. What a group throws is thrown, and ends the others before their next turn. */
    static void play(List<Context> episodes, int groups, Play play) {
        if (groups == 1) {
            play.all(episodes, (device, work) -> work.run());
            return;
        }
        final Map<String, ReentrantLock> locks = new ConcurrentHashMap<>();
        final AtomicBoolean failed = new AtomicBoolean();
        final Turns turns = (device, work) -> {
            final ReentrantLock lock = locks.computeIfAbsent(device, d -> new ReentrantLock(true)); // who comes first, is first
            lock.lock();
            try {
                if (failed.get()) {
                    throw new Ended();
                }
                work.run();
            } catch (RuntimeException | Error e) {
                failed.set(true);
                throw e;
            } finally {
                lock.unlock();
            }
        };
        final ExecutorService threads = Executors.newFixedThreadPool(groups, task -> {
            final Thread thread = new Thread(task, "teamtr-rollout");
            thread.setDaemon(true);
            return thread;
        });
        final List<Future<?>> playing = new ArrayList<>();
        final long all = episodes.size();
        for (int g = 0; g < groups; g++) {
            final List<Context> group = episodes.subList((int) (all * g / groups), (int) (all * (g + 1) / groups));
            playing.add(threads.submit(() -> play.all(group, turns)));
        }
        threads.shutdown();
        await(playing, failed);
    }

    /** Of a group that ends because another has failed. */
    private static final class Ended extends RuntimeException {
        private static final long serialVersionUID = 1;
    }

    /** All end before anything is thrown: they use the policies. */
    private static void await(List<Future<?>> playing, AtomicBoolean failed) {
        Throwable failure = null;
        boolean interrupted = false;
        for (int g = 0; g < playing.size();) {
            try {
                playing.get(g).get();
                g++;
            } catch (ExecutionException e) {
                failure = failure == null && !(e.getCause() instanceof Ended) ? e.getCause() : failure;
                g++;
            } catch (InterruptedException e) {
                interrupted = true;
                failed.set(true);
            }
        }
        if (interrupted) {
            Thread.currentThread().interrupt();
            throw new IllegalStateException("interrupted while episodes were played");
        }
        if (failure instanceof Error error) {
            throw error;
        }
        if (failure != null) {
            throw (RuntimeException) failure;
        }
    }
}
