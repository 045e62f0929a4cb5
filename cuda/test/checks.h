/* Shared by the test programs of this folder: counted checks, conversions of each dtype, and settings of the host's emulation. */
#ifndef TEAMTR_CHECKS_H
#define TEAMTR_CHECKS_H

#include <cmath>
#include <string>

#include "device_memory.h"

static int64_t checks = 0, failures = 0;

inline void expect(bool good, const std::string& what) {
  checks++;
  if (!good && ++failures <= 30) std::printf("FAILED: %s\n", what.c_str());
}

inline void expect_status(int32_t status) {
  expect(status == TEAMTR_OK, status == TEAMTR_OK ? "" : teamtr_last_error());
  expect(teamtr_cuda_synchronize(0, 0) == TEAMTR_OK, "synchronize");
}

/* Prints the sum of it; the program's exit code. */
inline int report_checks() {
  std::printf("%lld checks, %lld failed\n", (long long)checks, (long long)failures);
  return failures ? 1 : 0;
}

/* ---- numbers ---- */

inline size_t bytes_of(int dtype) { return dtype == TEAMTR_F32 ? 4 : 2; }

inline float value_of(int dtype, uint32_t bits) {
  float f;
  if (dtype == TEAMTR_F16) {
    const uint32_t e = bits >> 10 & 31, m = bits & 0x3ff;
    const float magnitude = e == 0 ? (float)m * 0x1p-24f : e == 31 ? (m ? NAN : INFINITY) : std::ldexp((float)(m + 1024), (int)e - 25);
    return bits & 0x8000 ? -magnitude : magnitude;
  }
  if (dtype == TEAMTR_BF16) bits <<= 16;
  std::memcpy(&f, &bits, 4);
  return f;
}

/* Towards 0 for the 16-bit formats: which number a test reads does not matter. */
inline uint32_t bits_of(int dtype, float f) {
  uint32_t u;
  std::memcpy(&u, &f, 4);
  if (dtype == TEAMTR_F32) return u;
  if (dtype == TEAMTR_BF16) return f != f ? 0x7fc0 : u >> 16;
  const uint32_t sign = u >> 16 & 0x8000;
  if (f != f) return 0x7e00;
  if (std::fabs(f) > 65504) return sign | 0x7c00;
  if (std::fabs(f) < 0x1p-14f) return sign | (uint32_t)(std::fabs(f) * 0x1p24f);
  return sign | ((u & 0x7fffffff) - 0x38000000) >> 13;
}

/* ---- what the host's execution is like ---- */

#if defined(TEAMTR_TEST_ON_GPU)
inline void turn_backwards(bool) {}
inline void largest_cluster(int) {}
#else
namespace teamtr {
namespace cuda {
extern bool host_backwards;
extern int host_largest_cluster;
}  // namespace cuda
}  // namespace teamtr
/* On the host: whether the threads of a block run from the last to the first. */
inline void turn_backwards(bool backwards) { teamtr::cuda::host_backwards = backwards; }
/* On the host: the most blocks of a cluster, initially 8; some GPUs have fewer, and those without clusters 1. */
inline void largest_cluster(int blocks) { teamtr::cuda::host_largest_cluster = blocks; }
#endif

#endif
