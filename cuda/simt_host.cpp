/*
 * The fibers of simt_host.h, and the queries about devices, for the host.
 *
 * A cluster's CUDA threads are fibers. One runs until it waits (for its warp, its block or its cluster), then the next one that
 * is not waiting. Clusters are independent, so they are divided among the threads of the pool, each of which has its own fibers.
 *
 * With TEAMTR_RACES each fiber is reported to ThreadSanitizer as a thread (this file itself is compiled without the sanitizer). It
 * then finds data races in shared and global memory: two accesses to one address, at least one of them a write, that are not ordered,
 * whatever order the fibers happened to run in. Accesses are ordered by what CUDA guarantees: __syncthreads, __syncwarp, the barrier of a
 * cluster and the launch, but not shuffles and votes, which are no memory barriers. One limit: clusters that the same thread of the pool
 * runs one after the other count as ordered, too.
 */
#include <sys/mman.h>

#include <vector>

#include "simt.cuh"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(TEAMTR_RACES)
#include <sanitizer/tsan_interface.h>
#endif

/* Pushes the callee-saved registers, stores the stack pointer at *rdi, and continues on the stack rsi. */
extern "C" void teamtr_switch(void** from, void* to);
asm(R"(
.text
.type teamtr_switch, @function
teamtr_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size teamtr_switch, .-teamtr_switch
)");

namespace teamtr {
namespace cuda {

bool host_backwards = false;
int host_largest_cluster = 8;

#if defined(TEAMTR_RACES)
static void released(void* order) { __tsan_release(order); }
static void acquired(void* order) { __tsan_acquire(order); }
#else
static void released(void*) {}
static void acquired(void*) {}
#endif

/* A barrier for a number of threads. */
struct Meeting {
  int members = 0, here = 0;
  uint64_t times = 0;
  char order[2]; /* addresses that ThreadSanitizer's release and acquire refer to, used alternately */
};

struct HostThread {
  HostThreadIndices at;
  void* stack = nullptr; /* stack pointer where it stopped */
  bool done = false;
  Meeting* waits_for = nullptr;
  uint64_t times = 0; /* it continues when the barrier has been passed more than this number of times */
#if defined(__SANITIZE_ADDRESS__)
  void* fake_stack = nullptr;
#endif
#if defined(TEAMTR_RACES)
  void* thread = nullptr; /* ThreadSanitizer's */
#endif
};

struct Warp {
  Meeting meeting;
  uint64_t slots[2][kWarp]; /* used alternately, as a lane is at most one exchange ahead of the others */
};

/* The clusters that one thread of the pool runs, one after the other. */
class Scheduler {
 public:
  static constexpr size_t kStack = 128 * 1024, kStackStep = 320;

  ~Scheduler() {
    if (stacks) munmap(stacks, stacks_bytes);
#if defined(TEAMTR_RACES)
    for (void* thread : threads) __tsan_destroy_fiber(thread);
#endif
  }

  /* A warp runs until all its lanes wait, then the block's next warp; a block runs until all its warps wait, then the cluster's next
   * block. So where a barrier is missing, accesses happen much too early, and results change. */
  void run(const Launch& l, int64_t first_block, const std::function<void()>& kernel) {
    body = &kernel;
    prepare(l, first_block, l.threads * l.cluster);
    for (int finished = 0; finished < l.cluster;) {
      bool moved = false;
      for (int i = 0; i < l.cluster; i++) {
        const int rank = turn(i, l.cluster);
        if (running[rank] == 0) continue;
        moved |= run_block(l, rank);
        if (running[rank] > 0) continue;
        finished++;
        acquired(&ended[rank]);
        for (int k = 0; k < kGuardBytes; k++)
          if (shared_of[rank][l.shared_bytes + k] != kGuard) stuck("shared memory was written behind its end");
        memset(shared_of[rank], 0xff, l.shared_bytes); /* a later read finds NaNs */
      }
      if (!moved) stuck("threads wait for others that wait elsewhere or have returned");
    }
  }

  void wait(Meeting* m, bool orders) {
    HostThread* me = current;
    char* order = &m->order[m->times & 1];
    if (orders) released(order);
    if (++m->here == m->members) {
      m->here = 0;
      m->times++;
    } else {
      me->waits_for = m;
      me->times = m->times;
      leave();
    }
    if (orders) acquired(order);
  }

  Warp& warp() { return warps[(current->at.rank * current->at.threads + current->at.thread) / kWarp]; }

  HostThread* current = nullptr;
  std::vector<Meeting> blocks;
  Meeting cluster;

 private:
  static int turn(int i, int count) { return host_backwards ? count - 1 - i : i; }

  bool run_block(const Launch& l, int rank) {
    bool moved = false, again = true;
    while (again) {
      again = false;
      for (int w = 0; w < l.threads / kWarp; w++)
        while (run_warp(rank * l.threads + turn(w, l.threads / kWarp) * kWarp)) again = true;
      moved |= again;
    }
    return moved;
  }

  bool run_warp(int first) {
    bool moved = false;
    for (int i = 0; i < kWarp; i++) {
      current = &fibers[first + turn(i, kWarp)];
      if (current->done || (current->waits_for && current->waits_for->times == current->times)) continue;
      current->waits_for = nullptr;
      moved = true;
      enter();
      running[current->at.rank] -= current->done;
    }
    return moved;
  }

  static constexpr char kGuard = 0x5a;
  static constexpr int kGuardBytes = 64;

  [[noreturn]] static void stuck(const char* why) {
    std::fprintf(stderr, "simt: %s\n", why);
    std::abort();
  }

  void prepare(const Launch& l, int64_t first_block, int count) {
    if (l.threads % kWarp || l.threads > 1024 || l.blocks % l.cluster) stuck("a launch that CUDA would refuse");
    if (stacks_bytes < count * kStack) {
      if (stacks) munmap(stacks, stacks_bytes);
      stacks_bytes = count * kStack;
      void* p = mmap(nullptr, stacks_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (p == MAP_FAILED) stuck("no memory for stacks");
      stacks = static_cast<char*>(p);
    }
    memory.resize(l.cluster);
    shared_of.resize(l.cluster);
    for (int b = 0; b < l.cluster; b++) {
      memory[b].assign(l.shared_bytes + kGuardBytes + 16, (char)0xff); /* NaNs, in every format */
      shared_of[b] = memory[b].data() + (16 - reinterpret_cast<uintptr_t>(memory[b].data()) % 16) % 16;
      memset(shared_of[b] + l.shared_bytes, kGuard, kGuardBytes);
    }
    running.assign(l.cluster, l.threads);
    ended.assign(l.cluster, 0);
    fibers.assign(count, HostThread());
#if defined(TEAMTR_RACES)
    of_pool = __tsan_get_current_fiber();
    while ((int)threads.size() < count) threads.push_back(__tsan_create_fiber(0));
    for (int i = 0; i < count; i++) fibers[i].thread = threads[i];
#endif
    warps.assign(count / kWarp, Warp());
    for (Warp& w : warps) w.meeting.members = kWarp;
    blocks.assign(l.cluster, Meeting());
    for (Meeting& m : blocks) m.members = l.threads;
    cluster = Meeting();
    cluster.members = count;
    for (int i = 0; i < count; i++) {
      const int rank = i / l.threads;
      fibers[i].at = {i % l.threads, l.threads, rank, l.cluster, first_block + rank, l.blocks, shared_of[rank],
                         shared_of.data()};
      /* Stack tops at the same offset of a page would share a few sets of the L1 cache, and evict each other. */
      void** top = reinterpret_cast<void**>(stacks + (i + 1) * kStack - i % 64 * kStackStep);
      *--top = nullptr; /* as after a call, where the stack pointer is 8 more than a multiple of 16 */
      *--top = reinterpret_cast<void*>(&Scheduler::start);
      top -= 6; /* the registers */
      fibers[i].stack = top;
    }
    released(&begun);
  }

  static void start();

  void enter();

  void leave() {
    HostThread* me = current;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(me->done ? nullptr : &me->fake_stack, bottom, bottom_size);
#elif defined(TEAMTR_RACES)
    __tsan_switch_to_fiber(of_pool, __tsan_switch_to_fiber_no_sync);
#endif
    teamtr_switch(&me->stack, stack);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(me->fake_stack, &bottom, &bottom_size);
#endif
  }

  const std::function<void()>* body = nullptr;
  std::vector<HostThread> fibers;
  std::vector<Warp> warps;
  std::vector<int> running; /* threads of each block that have not returned */
  char begun = 0;           /* like Meeting::order, for the start of the kernel; ended: for the end of each block */
  std::vector<char> ended;
#if defined(TEAMTR_RACES)
  std::vector<void*> threads;
  void* of_pool = nullptr;
#endif
  std::vector<std::vector<char>> memory;
  std::vector<char*> shared_of;
  char* stacks = nullptr;
  size_t stacks_bytes = 0;
  void* stack = nullptr; /* the pool thread's own */
#if defined(__SANITIZE_ADDRESS__)
  void* fake_stack = nullptr;
  const void* bottom = nullptr;
  size_t bottom_size = 0;
#endif
};

__thread const HostThreadIndices* host_indices = nullptr;
static __thread Scheduler* scheduler __attribute__((tls_model("initial-exec"))) = nullptr; /* the pool thread's own */

void Scheduler::enter() {
  host_indices = &current->at;
#if defined(__SANITIZE_ADDRESS__)
  const size_t i = current - fibers.data();
  __sanitizer_start_switch_fiber(&fake_stack, stacks + i * kStack, kStack);
#elif defined(TEAMTR_RACES)
  __tsan_switch_to_fiber(current->thread, __tsan_switch_to_fiber_no_sync);
#endif
  teamtr_switch(&stack, current->stack);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#endif
}

void Scheduler::start() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &scheduler->bottom, &scheduler->bottom_size);
#endif
  acquired(&scheduler->begun);
  (*scheduler->body)();
  released(&scheduler->ended[scheduler->current->at.rank]);
  scheduler->current->done = true;
  scheduler->leave();
}

void host_barrier() { scheduler->wait(&scheduler->blocks[here().rank], true); }
void host_cluster_barrier() { scheduler->wait(&scheduler->cluster, true); }
void host_warp_barrier() { scheduler->wait(&scheduler->warp().meeting, true); }

/* The warp's 32 values; valid until the calling lane's second next exchange. */
static const uint64_t* exchange(uint64_t mine) {
  Warp& w = scheduler->warp();
  uint64_t* slots = w.slots[w.meeting.times & 1];
  slots[here().thread % kWarp] = mine;
  scheduler->wait(&w.meeting, false);
  return slots;
}
uint64_t host_exchange(uint64_t mine, int from) { return exchange(mine)[from]; }
uint32_t host_ballot(bool mine) {
  const uint64_t* slots = exchange(mine);
  uint32_t bits = 0;
  for (int i = 0; i < kWarp; i++) bits |= (uint32_t)slots[i] << i;
  return bits;
}

void host_launch(const Launch& l, const std::function<void()>& body) {
  static thread_local Scheduler own;
  parallel_for(l.blocks / l.cluster, 1, [&](int64_t begin, int64_t end) {
    scheduler = &own;
    for (int64_t c = begin; c < end; c++) scheduler->run(l, c * l.cluster, body);
  });
}

/* ---- queries about devices: the host is the only one ---- */

int32_t count() { return 1; }

int32_t describe(int32_t, char* words) {
  std::snprintf(words, kErrorSize, "no GPU: CUDA kernels compiled for the host, for tests");
  return TEAMTR_OK;
}

int32_t check_address(int32_t, teamtr_address) { return TEAMTR_OK; }
int32_t synchronize(const Device&) { return TEAMTR_OK; }

/* The limits of an H100. */
int32_t limits(int32_t, DeviceLimits* out) {
  *out = {132, 227 * 1024, 228 * 1024, host_largest_cluster};
  return TEAMTR_OK;
}

}  // namespace cuda
}  // namespace teamtr
