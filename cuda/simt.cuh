/*
 * The few things a kernel needs of the machine: its place in the grid, barriers, an exchange within a warp, shared memory
 * of the block and of its cluster, 16-byte accesses, the hardware's exp2. Kernels in this folder use nothing else of
 * CUDA, so they can be compiled for two machines:
 *
 *   nvcc           each function below is one instruction or two; the launch is cudaLaunchKernelEx
 *   a C++ compiler the threads of a block, and the blocks of a cluster, run in lockstep on the host. A testing aid, so that
 *                  the bodies of the kernels run where there is no GPU: slow, and as strict as it can be. Shared memory starts
 *                  as NaNs; a barrier that not all threads reach, and an exchange that not all lanes reach, end the process
 *                  with a message; and simt_backwards() runs threads in descending order, so that a result that depends on
 *                  a missing barrier changes.
 *
 * Rules that make both the same: whole warps take part in exchanges, whole blocks in barriers, whole clusters in cluster
 * barriers; blocks have one dimension and at most 1,024 threads; shared memory is dynamic, from shared() on.
 */
#ifndef TEAMTR_SIMT_CUH
#define TEAMTR_SIMT_CUH

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "abi.h"

namespace teamtr {
namespace cuda {

constexpr int kWarp = 32;

struct alignas(16) Vec16 {
  uint32_t w[4];
};

/* How a kernel is launched: blocks of threads, in clusters of `cluster` blocks, each with bytes of shared memory. */
struct Launch {
  Place place;
  int64_t blocks;
  int threads;
  size_t shared_bytes = 0;
  int cluster = 1;
};

/* What of a device a launch is sized by. */
struct DeviceLimits {
  int32_t multiprocessors;
  size_t shared_per_block;          /* bytes a block may ask for */
  size_t shared_per_multiprocessor;
  int32_t largest_cluster;          /* 8 from sm_90 on, 1 before */
};
int32_t limits(int32_t device, DeviceLimits* out);

}  // namespace cuda
}  // namespace teamtr

#if defined(__CUDACC__)
#include "simt_device.cuh"
#else
#include "simt_host.h"
#endif

namespace teamtr {
namespace cuda {

SIMT_DEVICE int lane() { return thread() % kWarp; }
SIMT_DEVICE int warp() { return thread() / kWarp; }
SIMT_DEVICE int warps() { return threads() / kWarp; }

SIMT_DEVICE float as_float(uint32_t u) {
  float f;
  memcpy(&f, &u, 4);
  return f;
}
SIMT_DEVICE uint32_t as_bits(float f) {
  uint32_t u;
  memcpy(&u, &f, 4);
  return u;
}

/* Folds the lanes' values with f(mine, theirs), a butterfly: after it all lanes hold the fold, to the bit the same one
 * where f is symmetric to the bit. T has 4 or 8 bytes. */
template <class T, class F> SIMT_DEVICE T warp_fold(T value, F&& f) {
  for (int distance = kWarp / 2; distance > 0; distance /= 2) value = f(value, exchange_xor(value, distance));
  return value;
}

}  // namespace cuda
}  // namespace teamtr
#endif
