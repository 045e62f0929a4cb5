/*
 * simt.cuh on the host: each CUDA thread of a cluster is a fiber with its own stack. One fiber runs at a time, until it reaches a
 * barrier or a shuffle where it must wait for others. For tests only.
 */
#include <cstdio>
#include <cstdlib>
#include <functional>

#define __global__
#define __grid_constant__
#define __host__
#define __device__
#define __forceinline__ inline
#define __noinline__ /* defined as empty, since headers of libraries use __attribute__((__noinline__)) */
#define __launch_bounds__(...)

namespace teamtr {
namespace cuda {

/* ---- simt_host.cpp ---- */

struct HostThread; /* a fiber and its indices */
struct HostThreadIndices {
  int thread, threads, rank, cluster;
  int64_t block, blocks;
  char* shared;
  char* const* shared_of; /* of each block in the cluster */
};
/* The indices of the CUDA thread that is running. Kernels read them often, hence initial-exec: without it, every access to a
 * thread-local variable of a library that was loaded by dlopen is a function call. */
extern __thread const HostThreadIndices* host_indices __attribute__((tls_model("initial-exec")));
inline const HostThreadIndices& here() { return *host_indices; }
void host_barrier();
void host_cluster_barrier();
void host_warp_barrier();
/* A shuffle: gives 8 bytes to the warp's other lanes, waits for all 32 lanes, and returns the bytes of lane `from`. */
uint64_t host_exchange(uint64_t mine, int from);
uint32_t host_ballot(bool mine);
/* Runs body once for each thread of each block. */
void host_launch(const Launch& l, const std::function<void()>& body);
/* Whether threads run in descending order of their numbers. */
extern bool host_backwards;
extern int host_largest_cluster; /* the largest cluster that limits() reports */

/* ---- CUDA's names ---- */

constexpr int64_t kMostBlocks = 7; /* few, so that in tests a block processes several rows */

struct HostIndex {
  struct X {
    unsigned (*value)();
    operator unsigned() const { return value(); }
  } x;
};
static constexpr HostIndex threadIdx{{[] { return (unsigned)here().thread; }}};
static constexpr HostIndex blockDim{{[] { return (unsigned)here().threads; }}};
static constexpr HostIndex blockIdx{{[] { return (unsigned)here().block; }}};
static constexpr HostIndex gridDim{{[] { return (unsigned)here().blocks; }}};

inline void __syncthreads() { host_barrier(); }

/* The mask is ignored: in these kernels all lanes of a warp take part. */
template <class T> inline T __shfl_sync(unsigned, T v, int lane) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles are of 4 or 8 bytes");
  uint64_t bits = 0;
  memcpy(&bits, &v, sizeof v);
  bits = host_exchange(bits, lane & 31);
  memcpy(&v, &bits, sizeof v);
  return v;
}
template <class T> inline T __shfl_xor_sync(unsigned mask, T v, int distance) {
  return __shfl_sync(mask, v, (here().thread % 32) ^ distance);
}
inline void __syncwarp() { host_warp_barrier(); }
inline unsigned __ballot_sync(unsigned, bool b) { return host_ballot(b); }

inline int __all_sync(unsigned, bool b) { return host_ballot(b) == kFullMask; }
inline int __any_sync(unsigned, bool b) { return host_ballot(b) != 0; }
template <class T> inline T __reduce_max_sync(unsigned mask, T v) {
  for (int distance = 16; distance > 0; distance /= 2) {
    const T other = __shfl_xor_sync(mask, v, distance);
    v = other > v ? other : v;
  }
  return v;
}
template <class T> inline T __reduce_min_sync(unsigned mask, T v) {
  for (int distance = 16; distance > 0; distance /= 2) {
    const T other = __shfl_xor_sync(mask, v, distance);
    v = other < v ? other : v;
  }
  return v;
}

inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned bits) {
  return (unsigned)((((uint64_t)high << 32) | low) >> (bits & 31));
}
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(unsigned bits) { return __builtin_ffs((int)bits); }
inline float __uint_as_float(unsigned u) {
  float f;
  memcpy(&f, &u, 4);
  return f;
}
inline unsigned __float_as_uint(float f) {
  unsigned u;
  memcpy(&u, &f, 4);
  return u;
}
inline unsigned atomicAdd(unsigned* p, unsigned v) { return __atomic_fetch_add(p, v, __ATOMIC_RELAXED); }

/* cooperative_groups::cluster_group */
struct HostCluster {
  static unsigned block_rank() { return here().rank; }
  static unsigned num_blocks() { return here().cluster; }
  static void sync() { host_cluster_barrier(); }
  template <class T> static T* map_shared_rank(T* mine, int rank) {
    const HostThreadIndices& p = here();
    return reinterpret_cast<T*>(p.shared_of[rank] + (reinterpret_cast<char*>(mine) - p.shared));
  }
};
inline HostCluster this_cluster() { return {}; }

/* ---- the functions of simt_device.cuh ---- */

inline char* shared_memory() { return here().shared; }

inline void host_aligned(const void* p) {
  if (reinterpret_cast<uintptr_t>(p) % 16 == 0) return;
  std::fprintf(stderr, "simt: a 16-byte access at %p\n", p);
  std::abort();
}
inline Vec16 load16(const void* p) {
  host_aligned(p);
  Vec16 v;
  memcpy(&v, p, 16);
  return v;
}
/* For an unaligned row, only the bytes that belong to the vector are accesses for ThreadSanitizer; another thread may write the others. */
#if defined(__SANITIZE_THREAD__)
inline void uses16(const void* p) {
  for (int i = 0; i < 16; i++) (void)static_cast<const volatile char*>(p)[i];
}
__attribute__((no_sanitize("thread"))) inline Vec16 load16_neighbour(const void* p) {
  host_aligned(p);
  return *static_cast<const Vec16*>(p);
}
#else
inline void uses16(const void*) {}
inline Vec16 load16_neighbour(const void* p) { return load16(p); }
#endif
inline void store16(void* p, Vec16 v) {
  host_aligned(p);
  memcpy(p, &v, 16);
}

/* Reads a byte, so that AddressSanitizer reports an address outside of the caller's memory. */
inline void prefetch_l2(const void* p) { (void)*static_cast<const volatile char*>(p); }

/* The larger of two, NaN where one is. */
inline float max_nan(float a, float b) { return a != a || b != b ? NAN : a > b ? a : b; }

inline float exp2_approx(float x) { return x < -126.0f ? 0.0f : exp2f(x); }

inline float exp2_unless(bool first, float a, float x) { return first ? a : exp2_approx(x); }
inline void add_to_one(bool first, float& a, float x, float& b, float z) { first ? a += x : b += z; }
inline void add_to_one(bool first, float& a, float x, float y, float& b, float z, float t) {
  first ? a = fmaf(x, y, a) : b = fmaf(z, t, b);
}
inline void add_one_of(bool first, float& sum, float x, float y, float z) { sum = first ? fmaf(x, y, sum) : sum + z; }

inline float f16_to_float(uint16_t h) {
  Matrix m(0, TEAMTR_F16, 1, 1, 1, 1, 0);
  return m.value(reinterpret_cast<const char*>(&h), 0);
}
inline uint32_t host_to_f16(float x) {
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
inline uint32_t host_to_bf16(float x) {
  uint32_t u;
  memcpy(&u, &x, 4);
  return x != x ? 0x7fff : (u + 0x7fff + (u >> 16 & 1)) >> 16;
}
/* The larger halves; of a number and a NaN the number. */
inline uint32_t max_f16x2(uint32_t a, uint32_t b) {
  const auto half = [](uint16_t x, uint16_t y) { return f16_to_float(y) > f16_to_float(x) || f16_to_float(x) != f16_to_float(x) ? y : x; };
  return half((uint16_t)a, (uint16_t)b) | (uint32_t)half((uint16_t)(a >> 16), (uint16_t)(b >> 16)) << 16;
}
inline uint32_t max_bf16x2(uint32_t a, uint32_t b) {
  const auto half = [](uint32_t x, uint32_t y) {
    const float f = __uint_as_float(x), g = __uint_as_float(y);
    return g > f || f != f ? y : x;
  };
  return half(a << 16, b << 16) >> 16 | half(a & 0xffff0000u, b & 0xffff0000u);
}
inline uint32_t to_f16x2(float low, float high) { return host_to_f16(low) | host_to_f16(high) << 16; }
inline uint32_t to_bf16x2(float low, float high) { return host_to_bf16(low) | host_to_bf16(high) << 16; }

inline void atomic_add_64(uint64_t* p, uint64_t v) { __atomic_fetch_add(p, v, __ATOMIC_RELAXED); }

template <auto kKernel, class... A> int32_t launch(const Launch& l, const A&... arguments) {
  host_launch(l, [&] { kKernel(arguments...); });
  return TEAMTR_OK;
}

}  // namespace cuda
}  // namespace teamtr
