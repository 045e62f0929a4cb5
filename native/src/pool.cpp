/*
 * The thread pool, which divides the rows of one call among its threads.
 *
 * The pool runs one job at a time: a call that finds it busy runs on the calling thread alone, with the same result.
 * Workers sleep between jobs. They are detached and the pool is never destroyed, so that a process or a
 * JVM can exit at any moment without waiting for them.
 */
#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>

#include "kernels.h"

namespace teamtr {
namespace {

struct Job {
  void (*body)(void*, int64_t, int64_t);
  void* context;
  int64_t count, grain;
  std::atomic<int64_t> next{0};

  void work() {
    for (;;) {
      const int64_t begin = next.fetch_add(grain, std::memory_order_relaxed);
      if (begin >= count) return;
      body(context, begin, std::min(begin + grain, count));
    }
  }
};

struct Pool {
  std::mutex one_job; /* held by the caller whose job is on the pool */
  std::mutex lock;    /* guards what follows */
  std::condition_variable work_came, worker_left;
  Job* job = nullptr;
  uint64_t jobs = 0;   /* number of jobs so far, so that a worker takes each at most once */
  int active = 0;      /* workers inside the job */
  int workers = 0;     /* threads started */
  int wanted = 0;      /* workers there should be; a worker with a number from here on ends */
  std::atomic<int> threads{1};

  void run(int number) {
    std::unique_lock<std::mutex> hold(lock);
    uint64_t seen = jobs;
    for (;;) {
      work_came.wait(hold, [&] { return number >= wanted || (job && jobs != seen); });
      if (number >= wanted) {
        workers--;
        worker_left.notify_all();
        return;
      }
      seen = jobs;
      Job* mine = job;
      active++;
      hold.unlock();
      mine->work();
      hold.lock();
      if (--active == 0) worker_left.notify_all();
    }
  }

  /* The caller holds `one_job`. Ends all workers, then starts n - 1, or fewer if the system refuses to start more. */
  void resize(int n) {
    std::unique_lock<std::mutex> hold(lock);
    wanted = 0;
    work_came.notify_all();
    worker_left.wait(hold, [&] { return workers == 0; });
    wanted = n - 1;
    try {
      for (; workers < wanted; workers++) std::thread([this, i = workers] { run(i); }).detach();
    } catch (const std::system_error&) {
      wanted = workers;
    }
    threads.store(workers + 1);
  }
};

Pool& pool() {
  static Pool* p = new Pool;
  return *p;
}

}  // namespace

int pool_threads() { return pool().threads.load(); }

void pool_resize(int threads) {
  Pool& p = pool();
  const std::lock_guard<std::mutex> mine(p.one_job);
  p.resize(threads);
}

void parallel_for(int64_t count, int64_t grain, void (*body)(void*, int64_t, int64_t), void* context) {
  Pool& p = pool();
  if (count <= grain || p.threads.load(std::memory_order_relaxed) == 1 || !p.one_job.try_lock()) {
    if (count > 0) body(context, 0, count);
    return;
  }
  const std::lock_guard<std::mutex> mine(p.one_job, std::adopt_lock);
  Job job{body, context, count, grain};
  {
    const std::lock_guard<std::mutex> hold(p.lock);
    p.job = &job;
    p.jobs++;
  }
  p.work_came.notify_all();
  job.work();
  std::unique_lock<std::mutex> hold(p.lock);
  p.job = nullptr; /* a worker that wakes up only now finds no job */
  p.worker_left.wait(hold, [&] { return p.active == 0; });
}

}  // namespace teamtr
