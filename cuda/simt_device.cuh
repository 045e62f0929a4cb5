/* simt.cuh on the GPU. */
#include <atomic>

#include <cooperative_groups.h>
#include <cuda_runtime.h>

#define SIMT_KERNEL __global__
#define SIMT_DEVICE static __device__ __forceinline__
#define SIMT_DEVICE_MEMBER __device__ __forceinline__
#define SIMT_UNROLL _Pragma("unroll")
#define SIMT_NO_UNROLL _Pragma("unroll 1")
#define SIMT_BOUNDS(threads, blocks_per_multiprocessor) __launch_bounds__(threads, blocks_per_multiprocessor)

namespace teamtr {
namespace cuda {

SIMT_DEVICE int thread() { return threadIdx.x; }
SIMT_DEVICE int threads() { return blockDim.x; }
SIMT_DEVICE int64_t block() { return blockIdx.x; }
SIMT_DEVICE int64_t blocks() { return gridDim.x; }

SIMT_DEVICE void barrier() { __syncthreads(); }
SIMT_DEVICE void warp_barrier() { __syncwarp(); }

template <class T> SIMT_DEVICE T exchange_xor(T v, int distance) { return __shfl_xor_sync(0xffffffffu, v, distance); }
template <class T> SIMT_DEVICE T exchange_from(T v, int lane) { return __shfl_sync(0xffffffffu, v, lane); }
SIMT_DEVICE uint32_t ballot(bool b) { return __ballot_sync(0xffffffffu, b); }

SIMT_DEVICE char* shared() {
  extern __shared__ __align__(16) char memory[];
  return memory;
}

/* The block's number in its cluster, whose blocks are consecutive ones of the grid. */
SIMT_DEVICE int cluster_rank() {
#if __CUDA_ARCH__ >= 900
  return cooperative_groups::this_cluster().block_rank();
#else
  return 0;
#endif
}
SIMT_DEVICE int cluster_blocks() {
#if __CUDA_ARCH__ >= 900
  return cooperative_groups::this_cluster().num_blocks();
#else
  return 1;
#endif
}
SIMT_DEVICE void cluster_barrier() {
#if __CUDA_ARCH__ >= 900
  cooperative_groups::this_cluster().sync();
#else
  __syncthreads();
#endif
}
/* A place in this block's shared memory, as the block of that rank has it. Valid between two cluster barriers. */
template <class T> SIMT_DEVICE T* cluster_at(T* mine, int rank) {
#if __CUDA_ARCH__ >= 900
  return cooperative_groups::this_cluster().map_shared_rank(mine, rank);
#else
  return mine;
#endif
}

/* 16 aligned bytes that are read once: they need not stay in the L1 cache. */
SIMT_DEVICE Vec16 load16(const void* p) {
  Vec16 v;
  asm volatile("ld.global.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.w[0]), "=r"(v.w[1]), "=r"(v.w[2]), "=r"(v.w[3])
               : "l"(p));
  return v;
}
/* 16 aligned bytes that nobody will read soon. */
SIMT_DEVICE void store16(void* p, Vec16 v) {
  __stcs(reinterpret_cast<uint4*>(p), make_uint4(v.w[0], v.w[1], v.w[2], v.w[3]));
}

/* 2^x to 2 ulp, 0 below -126; exactly 1 at 0. */
SIMT_DEVICE float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
/* log2 x to 2^-22, for normal x. */
SIMT_DEVICE float log2_approx(float x) {
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

SIMT_DEVICE float f16_to_float(uint16_t h) {
  float f;
  asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h));
  return f;
}
/* Two values rounded to nearest even, low half first. */
SIMT_DEVICE uint32_t to_f16x2(float low, float high) {
  uint32_t u;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(u) : "f"(high), "f"(low));
  return u;
}
SIMT_DEVICE uint32_t to_bf16x2(float low, float high) {
  uint32_t u;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(u) : "f"(high), "f"(low));
  return u;
}

SIMT_DEVICE uint32_t multiply_high(uint32_t a, uint32_t b) { return __umulhi(a, b); }
SIMT_DEVICE int count_bits(uint32_t bits) { return __popc(bits); }
SIMT_DEVICE int lowest_bit(uint32_t bits) { return __ffs(bits) - 1; } /* of at least one */

/* In shared memory. Integers: the sum does not depend on who comes first. */
SIMT_DEVICE void atomic_add(uint32_t* p, uint32_t v) { atomicAdd(p, v); }
/* Two additions of 32 bits, which shared memory does by itself; one of 64 would be a loop of compare-and-swap. */
SIMT_DEVICE void atomic_add(uint64_t* p, uint64_t v) {
  uint32_t* half = reinterpret_cast<uint32_t*>(p);
  const uint32_t low = (uint32_t)v, before = atomicAdd(half, low), high = (uint32_t)(v >> 32) + (before + low < before);
  if (high) atomicAdd(half + 1, high);
}

/* ---- launch ---- */

int32_t fail_cuda(const char* doing, cudaError_t e);

/* The device of a call, for as long as this lives; the caller's own is then restored. */
class OnDevice {
 public:
  explicit OnDevice(int32_t device) {
    status = cudaGetDevice(&before);
    if (status == cudaSuccess && before != device) status = cudaSetDevice(device), changed = status == cudaSuccess;
  }
  ~OnDevice() {
    if (changed) cudaSetDevice(before);
  }
  cudaError_t status;

 private:
  int before = 0;
  bool changed = false;
};

/* kKernel is a template argument so that each kernel has its own flag below. */
template <auto kKernel, class... A> int32_t launch(const Launch& l, const A&... arguments) {
  if (l.blocks == 0) return TEAMTR_OK;
  const OnDevice on(l.place.device);
  if (on.status != cudaSuccess) return fail_cuda("choosing the device", on.status);
  if (l.shared_bytes > 48 * 1024) {
    static std::atomic<uint64_t> allowed{0}; /* a bit per device; more than 64 ask each time */
    const uint64_t bit = l.place.device < 64 ? 1ull << l.place.device : 0;
    if (!bit || !(allowed.load(std::memory_order_relaxed) & bit)) {
      DeviceLimits device;
      TEAMTR_TRY(limits(l.place.device, &device));
      const cudaError_t e =
          cudaFuncSetAttribute(kKernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)device.shared_per_block);
      if (e != cudaSuccess) return fail_cuda("asking for shared memory", e);
      allowed.fetch_or(bit, std::memory_order_relaxed);
    }
  }
  cudaLaunchAttribute attribute;
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim = {(unsigned)l.cluster, 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = dim3((unsigned)l.blocks);
  config.blockDim = dim3((unsigned)l.threads);
  config.dynamicSmemBytes = l.shared_bytes;
  config.stream = reinterpret_cast<cudaStream_t>(static_cast<uintptr_t>(l.place.stream));
  config.attrs = &attribute;
  config.numAttrs = l.cluster > 1 ? 1 : 0;
  const cudaError_t e = cudaLaunchKernelEx(&config, kKernel, arguments...);
  return e == cudaSuccess ? TEAMTR_OK : fail_cuda("launching a kernel", e);
}

}  // namespace cuda
}  // namespace teamtr
