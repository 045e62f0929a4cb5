/*
 * simt.cuh on the host: each thread of a cluster is a fiber with a stack of its own; they take turns, and one gives up its
 * turn where it has to wait for others. For tests only.
 */
#include <cstdio>
#include <cstdlib>
#include <functional>

#define SIMT_KERNEL static inline
#define SIMT_DEVICE static inline
#define SIMT_DEVICE_MEMBER inline
#define SIMT_UNROLL
#define SIMT_NO_UNROLL
#define SIMT_BOUNDS(threads, blocks_per_multiprocessor)

namespace teamtr {
namespace cuda {

/* ---- simt_host.cpp ---- */

struct HostThread; /* the one whose turn it is knows its place */
struct HostPlace {
  int thread, threads, rank, cluster;
  int64_t block, blocks;
  char* shared;
  char* const* shared_of; /* of each block in the cluster */
};
const HostPlace& here();
void host_barrier();
void host_cluster_barrier();
/* Puts 8 bytes where the warp's other lanes see them, waits for all 32, and answers those of lane `from`. */
uint64_t host_exchange(uint64_t mine, int from);
uint32_t host_ballot(bool mine);
/* Runs body once for each thread of each block. */
void host_launch(const Launch& l, const std::function<void()>& body);
/* Whether threads take their turns in descending order. */
extern bool host_backwards;

/* ---- the functions of simt.cuh ---- */

constexpr int64_t kMostBlocks = 7; /* few, so that tests see blocks that take several rows */

SIMT_DEVICE int thread() { return here().thread; }
SIMT_DEVICE int threads() { return here().threads; }
SIMT_DEVICE int64_t block() { return here().block; }
SIMT_DEVICE int64_t blocks() { return here().blocks; }

SIMT_DEVICE void barrier() { host_barrier(); }
template <class T> SIMT_DEVICE T exchange_from(T v, int lane) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "exchanges are of 4 or 8 bytes");
  uint64_t bits = 0;
  memcpy(&bits, &v, sizeof v);
  bits = host_exchange(bits, lane & 31);
  memcpy(&v, &bits, sizeof v);
  return v;
}
template <class T> SIMT_DEVICE T exchange_xor(T v, int distance) {
  return exchange_from(v, (here().thread % 32) ^ distance);
}
SIMT_DEVICE void warp_barrier() { host_exchange(0, 0); }
SIMT_DEVICE uint32_t ballot(bool b) { return host_ballot(b); }

SIMT_DEVICE char* shared() { return here().shared; }
SIMT_DEVICE int cluster_rank() { return here().rank; }
SIMT_DEVICE int cluster_blocks() { return here().cluster; }
SIMT_DEVICE void cluster_barrier() { host_cluster_barrier(); }
template <class T> SIMT_DEVICE T* cluster_at(T* mine, int rank) {
  const HostPlace& p = here();
  return reinterpret_cast<T*>(p.shared_of[rank] + (reinterpret_cast<char*>(mine) - p.shared));
}

static inline void host_aligned(const void* p) {
  if (reinterpret_cast<uintptr_t>(p) % 16 == 0) return;
  std::fprintf(stderr, "simt: a 16-byte access at %p\n", p);
  std::abort();
}
SIMT_DEVICE Vec16 load16(const void* p) {
  host_aligned(p);
  Vec16 v;
  memcpy(&v, p, 16);
  return v;
}
SIMT_DEVICE void store16(void* p, Vec16 v) {
  host_aligned(p);
  memcpy(p, &v, 16);
}

SIMT_DEVICE float exp2_approx(float x) { return x < -126.0f ? 0.0f : exp2f(x); }
SIMT_DEVICE float log2_approx(float x) { return log2f(x); }

SIMT_DEVICE float f16_to_float(uint16_t h) {
  Matrix m(0, TEAMTR_F16, 1, 1, 1, 1, 0);
  return m.value(reinterpret_cast<const char*>(&h), 0);
}
static inline uint32_t host_to_f16(float x) {
  uint32_t u;
  memcpy(&u, &x, 4);
  const uint32_t sign = u >> 16 & 0x8000, magnitude = u & 0x7fffffff;
  if (magnitude > 0x7f800000) return 0x7fff;
  if (magnitude >= 0x477ff000) return sign | 0x7c00; /* 65,520 and more */
  if (magnitude < 0x38800000) { /* subnormal: a multiple of 2^-24 */
    const float scaled = fabsf(x) * 0x1p24f;
    return sign | (uint32_t)nearbyintf(scaled);
  }
  const uint32_t rounded = magnitude + 0xfff + (magnitude >> 13 & 1);
  return sign | ((rounded - 0x38000000) >> 13);
}
static inline uint32_t host_to_bf16(float x) {
  uint32_t u;
  memcpy(&u, &x, 4);
  return x != x ? 0x7fff : (u + 0x7fff + (u >> 16 & 1)) >> 16;
}
SIMT_DEVICE uint32_t to_f16x2(float low, float high) { return host_to_f16(low) | host_to_f16(high) << 16; }
SIMT_DEVICE uint32_t to_bf16x2(float low, float high) { return host_to_bf16(low) | host_to_bf16(high) << 16; }

SIMT_DEVICE uint32_t multiply_high(uint32_t a, uint32_t b) { return (uint32_t)((uint64_t)a * b >> 32); }
SIMT_DEVICE int count_bits(uint32_t bits) { return __builtin_popcount(bits); }
SIMT_DEVICE int lowest_bit(uint32_t bits) { return __builtin_ctz(bits); }
SIMT_DEVICE void atomic_add(uint32_t* p, uint32_t v) { *p += v; }
SIMT_DEVICE void atomic_add(uint64_t* p, uint64_t v) { *p += v; }

template <auto kKernel, class... A> int32_t launch(const Launch& l, const A&... arguments) {
  host_launch(l, [&] { kKernel(arguments...); });
  return TEAMTR_OK;
}

}  // namespace cuda
}  // namespace teamtr
