/*
 * Memory of the device under test: device 0 of a CUDA build, or the host where the kernels run in lockstep. Each buffer is an
 * allocation of its own of just its size, so that a sanitizer sees the first byte beyond.
 */
#ifndef TEAMTR_DEVICE_MEMORY_H
#define TEAMTR_DEVICE_MEMORY_H

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "teamtr.h"

#if defined(TEAMTR_TEST_ON_GPU)
#include <cuda_runtime.h>
#define TEAMTR_CUDA(call)                                                        \
  do {                                                                           \
    const cudaError_t e_ = (call);                                               \
    if (e_ != cudaSuccess) {                                                     \
      std::fprintf(stderr, "%s: %s\n", #call, cudaGetErrorString(e_));           \
      std::exit(1);                                                              \
    }                                                                            \
  } while (0)
static inline void* device_allocate(size_t bytes) { void* p; TEAMTR_CUDA(cudaMalloc(&p, bytes)); return p; }
static inline void device_free(void* p) { cudaFree(p); }
static inline void to_device(void* to, const void* from, size_t n) { TEAMTR_CUDA(cudaMemcpy(to, from, n, cudaMemcpyHostToDevice)); }
static inline void to_host(void* to, const void* from, size_t n) { TEAMTR_CUDA(cudaMemcpy(to, from, n, cudaMemcpyDeviceToHost)); }
#else
static inline void* device_allocate(size_t bytes) { return std::malloc(bytes); }
static inline void device_free(void* p) { std::free(p); }
static inline void to_device(void* to, const void* from, size_t n) { std::memcpy(to, from, n); }
static inline void to_host(void* to, const void* from, size_t n) { std::memcpy(to, from, n); }
#endif

/* A vector on the host and its copy on the device. `skip` elements lie before the first, to choose its alignment. */
template <class T> struct Mirrored {
  std::vector<T> host;
  explicit Mirrored(size_t n, T value = T(), size_t skip = 0) : host(n, value), skip_(skip) {
    memory_ = static_cast<T*>(device_allocate((n + skip) * sizeof(T) + (n + skip == 0)));
    upload();
  }
  Mirrored(const std::vector<T>& values) : Mirrored(values.size()) {
    host = values;
    upload();
  }
  Mirrored(const Mirrored&) = delete;
  ~Mirrored() { device_free(memory_); }
  void upload() { if (!host.empty()) to_device(memory_ + skip_, host.data(), host.size() * sizeof(T)); }
  void download() { if (!host.empty()) to_host(host.data(), memory_ + skip_, host.size() * sizeof(T)); }
  teamtr_address on_device() const { return reinterpret_cast<uintptr_t>(memory_ + skip_); }
  teamtr_address on_host() const { return reinterpret_cast<uintptr_t>(host.data()); }

 private:
  T* memory_;
  size_t skip_;
};

#endif
