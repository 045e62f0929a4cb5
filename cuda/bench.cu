/*
 * Measures the kernels on a GPU of a machine without PyTorch. cuda/bench.py measures them beside other libraries; it describes the
 * method, which is the same here. Results are checked on the first 64 rows against the CPU kernels of the same library.
 *
 *   nvcc -std=c++17 -O2 -arch=native -cudart=static -I native/include -o bench cuda/bench.cu libteamtr.so
 *   ./bench [ROWS VOCAB]     bf16 logits of this shape, ROWS a multiple of 64; the shapes of cuda/bench.py without
 *
 * Prints a Markdown table. Exit code 1 if a result is wrong or a call fails.
 */
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include "teamtr.h"

#define CUDA(call)                                                                     \
  do {                                                                                 \
    const cudaError_t e_ = (call);                                                     \
    if (e_ != cudaSuccess) std::printf("%s: %s\n", #call, cudaGetErrorString(e_)), std::exit(1); \
  } while (0)

constexpr int64_t kLength = 64; /* tokens of a message, and rows that are checked */
constexpr int kRounds = 40;

/* ---- data: about N(0, 3), from a hash of the element's number ---- */

__device__ float normal(uint64_t i, uint64_t seed) {
  uint64_t z = i * 0x9e3779b97f4a7c15u + seed * 0xbf58476d1ce4e5b9u + 0x94d049bb133111ebu;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  z ^= z >> 31;
  const float u = ((uint32_t)z + 1.0f) * 0x1p-32f, v = (uint32_t)(z >> 32) * 0x1p-32f;
  return sqrtf(-2 * logf(fminf(u, 1.0f))) * cospif(2 * v);
}
__device__ void put(float* p, float v) { *p = v; }
__device__ void put(__nv_bfloat16* p, float v) { *p = __float2bfloat16(v); }
__device__ float get(const float* p) { return *p; }
__device__ float get(const __nv_bfloat16* p) { return __bfloat162float(*p); }
/* scale * normal, added to base if it is given; in every row of vocab elements one token is far above the others. */
template <class T> __global__ void fill(T* x, const T* base, int64_t n, int64_t vocab, float scale, uint64_t seed) {
  for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < n; i += (int64_t)gridDim.x * blockDim.x) {
    const bool peak = vocab && !base && i % vocab == i / vocab * 7919 % vocab;
    put(x + i, (base ? get(base + i) : peak ? 14.0f : 0.0f) + scale * normal(i, seed));
  }
}
__global__ void fill_ids(int64_t* ids, int64_t n, int64_t vocab) {
  const int64_t r = blockIdx.x * (int64_t)blockDim.x + threadIdx.x;
  if (r < n) ids[r] = r % 2 ? r * 7919 % vocab : r * 104729 % vocab; /* the likeliest token of every other row */
}
__global__ void read(const uint4* p, int64_t n, uint32_t* never) {
  uint32_t sum = 0;
  for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < n; i += (int64_t)gridDim.x * blockDim.x) {
    const uint4 v = p[i];
    sum += v.x ^ v.y ^ v.z ^ v.w;
  }
  if (sum == 0x9e3779b9) *never = sum;
}
__global__ void spin(long long cycles) {
  const long long start = clock64();
  while (clock64() - start < cycles) {
  }
}

/* ---- one set of arguments, on the device or, of its first rows, on the host ---- */

struct Arguments {
  int32_t device, dtype;
  int64_t rows, vocab;
  char *x, *q, *d;
  int64_t *targets, *tokens;
  int32_t* cu;
  float *g, *h, *lp, *lse, *entropy, *kl, *lp_old, *advantages, *work;
  double* stats;

  teamtr_address a(const void* p) const { return reinterpret_cast<uintptr_t>(p); }
  size_t element() const { return dtype == TEAMTR_F32 ? 4 : 2; }
  size_t bytes() const { return rows * vocab * element(); }
#define X(p) a(p), dtype, rows, vocab, vocab, rows, 0
#define Y(p) a(p), vocab, rows, 0
  int32_t log_probs(const char* p) const {
    return teamtr_log_probs(device, 0, X(p), a(targets), TEAMTR_I64, 1, 0, a(lp), a(lse), a(entropy));
  }
  int32_t backward() const { /* in place, in d */
    return teamtr_log_probs_backward(device, 0, X(d), a(targets), TEAMTR_I64, 0, vocab, 1, 0, a(lp), a(lse), a(entropy), a(g),
                                     a(h), Y(d));
  }
  int32_t token_kl() const { /* the log-probs and entropies of both policies are also computed */
    return teamtr_kl(device, 0, X(x), Y(q), a(targets), TEAMTR_I64, 1, 0, a(kl), a(lp), a(work), a(entropy), a(work + rows));
  }
  int32_t kl_backward() const { return teamtr_kl_backward(device, 0, X(x), Y(q), 0, TEAMTR_I64, 1, 0, a(g), 1, Y(d)); }
  int32_t policy_loss(bool exact, int64_t messages) const { /* messages: of the whole batch */
    return teamtr_policy_loss(device, 0, X(x), exact ? a(q) : 0, vocab, rows, 0, a(targets), TEAMTR_I64, 1, 0, a(lp_old),
                              a(advantages), 0, a(cu), TEAMTR_I32, rows / kLength, 0, 0, TEAMTR_RATIO_MESSAGE, 0.2, 0.2, INFINITY,
                              exact ? TEAMTR_KL_EXACT : TEAMTR_KL_NONE, exact ? 0.1 : 0, TEAMTR_SEQ_MEAN_TOKEN_SUM, 0,
                              TEAMTR_SEQ_MEAN_TOKEN_MEAN, 0, messages * kLength, messages, a(lp), a(lse), a(entropy),
                              exact ? a(kl) : 0, a(work), Y(d), a(stats));
  }
  int32_t sample(float top_p) const {
    return teamtr_sample(device, 0, X(x), 1, 0, 0, top_p, 0, 17, 3, 0, a(tokens), TEAMTR_I64, a(lp), 0);
  }
};

template <class T> T* memory(bool on_device, int64_t n) {
  void* p = nullptr;
  if (on_device) CUDA(cudaMalloc(&p, n * sizeof(T)));
  else p = std::calloc(n, sizeof(T));
  return static_cast<T*>(p);
}

Arguments allocate(int32_t device, int32_t dtype, int64_t rows, int64_t vocab) {
  Arguments s{device, dtype, rows, vocab};
  const bool on = device >= 0;
  for (char** p : {&s.x, &s.q, &s.d}) *p = memory<char>(on, s.bytes());
  for (int64_t** p : {&s.targets, &s.tokens}) *p = memory<int64_t>(on, rows);
  for (float** p : {&s.g, &s.h, &s.lp, &s.lse, &s.entropy, &s.kl, &s.lp_old, &s.advantages}) *p = memory<float>(on, rows);
  s.work = memory<float>(on, 5 * rows);
  s.cu = memory<int32_t>(on, rows / kLength + 1);
  s.stats = memory<double>(on, TEAMTR_STATS);
  return s;
}
void release(const Arguments& s) {
  const std::vector<void*> all = {s.x, s.q, s.d, s.targets, s.tokens, s.cu, s.g, s.h, s.lp, s.lse, s.entropy, s.kl, s.lp_old,
                                  s.advantages, s.work, s.stats};
  for (void* p : all) s.device >= 0 ? (void)cudaFree(p) : std::free(p);
}

void require(int32_t status) {
  if (status != TEAMTR_OK) std::printf("%s\n", teamtr_last_error()), std::exit(1);
}

template <class T> void fill_set(const Arguments& s, uint64_t seed) {
  const int64_t n = s.rows * s.vocab;
  fill<<<2048, 256>>>((T*)s.x, (const T*)nullptr, n, s.vocab, 3.0f, seed);
  fill<<<2048, 256>>>((T*)s.q, (const T*)s.x, n, s.vocab, 0.02f, seed + 100);
  fill_ids<<<(s.rows + 255) / 256, 256>>>(s.targets, s.rows, s.vocab);
  const float* none = nullptr;
  fill<<<64, 256>>>(s.g, none, s.rows, (int64_t)0, 1.0f, seed + 200);
  fill<<<64, 256>>>(s.h, none, s.rows, (int64_t)0, 0.01f, seed + 300);
  fill<<<64, 256>>>(s.advantages, none, s.rows, (int64_t)0, 1.0f, seed + 400);
  require(s.log_probs(s.x));
  fill<<<64, 256>>>(s.lp_old, (const float*)s.lp, s.rows, (int64_t)0, 0.002f, seed + 500); /* so near that nothing is clipped */
  std::vector<int32_t> cu;
  for (int64_t m = 0; m <= s.rows / kLength; m++) cu.push_back(m * kLength);
  CUDA(cudaMemcpy(s.cu, cu.data(), cu.size() * 4, cudaMemcpyHostToDevice));
  CUDA(cudaGetLastError());
}

float value(const char* p, int64_t i, int32_t dtype) {
  float f;
  if (dtype == TEAMTR_F32) return std::memcpy(&f, p + 4 * i, 4), f;
  uint16_t h;
  std::memcpy(&h, p + 2 * i, 2);
  const uint32_t u = (uint32_t)h << 16;
  return std::memcpy(&f, &u, 4), f;
}

/* The largest |given - expected| / (|expected| + floor); floor 0: the mean of the row. NaN if there is any. */
double worst(const std::vector<char>& given, const char* expected, int64_t rows, int64_t vocab, int32_t dtype, double floor) {
  double w = 0;
  for (int64_t r = 0; r < rows; r++) {
    double mean = 0;
    for (int64_t v = 0; v < vocab; v++) mean += std::fabs(value(expected, r * vocab + v, dtype)) / vocab;
    for (int64_t v = 0; v < vocab; v++) {
      const double e = value(expected, r * vocab + v, dtype), d = std::fabs(value(given.data(), r * vocab + v, dtype) - e);
      const double error = d == 0 ? 0 : d / (std::fabs(e) + (floor ? floor : mean));
      if (!(error <= w)) w = error;
      if (w != w) return w;
    }
  }
  return w;
}
std::vector<char> fetch(const void* p, size_t n) {
  std::vector<char> bytes(n);
  CUDA(cudaMemcpy(bytes.data(), p, n, cudaMemcpyDeviceToHost));
  return bytes;
}

struct Case {
  const char* name;
  double bytes;
  std::function<int32_t(const Arguments&)> call;    /* timed */
  std::function<void(const Arguments&)> before;     /* not timed */
  char kind;                                        /* what is checked: l(og-probs), d, k(l), t(okens) */
};

double error_of(const Case& c, const Arguments& s, const Arguments& host) {
  const int64_t n = host.rows;
  const auto copy = [&](void* to, const void* from, size_t bytes) { CUDA(cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToHost)); };
  copy(host.x, s.x, host.bytes()), copy(host.q, s.q, host.bytes());
  for (auto [to, from] : {std::pair{host.g, s.g}, {host.h, s.h}, {host.lp_old, s.lp_old}, {host.advantages, s.advantages}})
    copy(to, from, n * 4);
  copy(host.targets, c.kind == 't' ? s.tokens : s.targets, n * 8);
  host.cu[1] = (int32_t)n;
  require(host.log_probs(host.x)); /* of drawn tokens: log-probs of the tokens that the GPU drew */
  if (c.kind == 't') return worst(fetch(s.lp, n * 4), (const char*)host.lp, n, 1, TEAMTR_F32, 1);
  if (c.kind == 'd') std::memcpy(host.d, host.x, host.bytes());
  if (c.kind != 'l') require(c.call(host));
  if (c.kind == 'l') /* the sum, so that a NaN in either is found */
    return worst(fetch(s.lp, n * 4), (const char*)host.lp, n, 1, TEAMTR_F32, 1) +
           worst(fetch(s.entropy, n * 4), (const char*)host.entropy, n, 1, TEAMTR_F32, 1);
  if (c.kind == 'k') return worst(fetch(s.kl, n * 4), (const char*)host.kl, n, 1, TEAMTR_F32, 1e-6);
  return worst(fetch(s.d, host.bytes()), host.d, n, s.vocab, s.dtype, 0);
}

int wrong = 0;

void measure(int32_t dtype, int64_t rows, int64_t vocab) {
  cudaDeviceProp gpu;
  CUDA(cudaGetDeviceProperties(&gpu, 0));
  size_t free_bytes, all_bytes;
  CUDA(cudaMemGetInfo(&free_bytes, &all_bytes));
  while (rows > 128 && rows * vocab * 4 * 8 > (int64_t)free_bytes) rows /= 2;
  std::vector<Arguments> sets;
  for (int i = 0; i < 2; i++) {
    sets.push_back(allocate(0, dtype, rows, vocab));
    dtype == TEAMTR_F32 ? fill_set<float>(sets[i], i) : fill_set<__nv_bfloat16>(sets[i], i);
  }
  const Arguments host = allocate(TEAMTR_CPU, dtype, kLength, vocab);
  const double n = (double)sets[0].bytes();
  const int64_t messages = rows / kLength, other_bytes = std::max<int64_t>(2 * gpu.l2CacheSize, 128 << 20);
  const int64_t copied = std::min<int64_t>(2400000000, free_bytes / 16) / 16 * 16;
  char *other = memory<char>(true, other_bytes), *from = memory<char>(true, copied), *to = memory<char>(true, copied);
  CUDA(cudaMemset(other, 1, other_bytes));
  CUDA(cudaMemset(from, 0x5a, copied));

  const auto refresh = [](const Arguments& s) {
    require(s.log_probs(s.x));
    CUDA(cudaMemcpyAsync(s.d, s.x, s.bytes(), cudaMemcpyDefault, 0));
  };
  const auto nothing = [](const Arguments&) {};
  const auto far = [&](const Arguments& s) { /* made again each time, since the next case may use near policies */
    const int64_t count = rows * vocab;
    if (dtype == TEAMTR_F32) fill<<<2048, 256>>>((float*)s.q, (const float*)nullptr, count, vocab, 3.0f, 999);
    else fill<<<2048, 256>>>((__nv_bfloat16*)s.q, (const __nv_bfloat16*)nullptr, count, vocab, 3.0f, 999);
  };
  const std::vector<Case> cases = {
      {"log-probs + entropy", n + rows * 20, [](const Arguments& s) { return s.log_probs(s.x); }, nothing, 'l'},
      {"log-probs backward, in place", 2 * n + rows * 28, [](const Arguments& s) { return s.backward(); }, refresh, 'd'},
      {"sample", n + rows * 12, [](const Arguments& s) { return s.sample(1); }, nothing, 't'},
      {"sample, top-p 0.95", n + rows * 12, [](const Arguments& s) { return s.sample(0.95f); }, nothing, 't'},
      {"exact KL, a step apart", 2 * n + rows * 28, [](const Arguments& s) { return s.token_kl(); }, nothing, 'k'},
      {"KL backward", 3 * n + rows * 4, [](const Arguments& s) { return s.kl_backward(); }, nothing, 'd'},
      {"policy loss, fwd + bwd", 3 * n + rows * 12, [=](const Arguments& s) { return s.policy_loss(false, messages); },
       nothing, 'd'},
      {"policy loss, fwd + bwd, exact KL", 5 * n + rows * 12, [=](const Arguments& s) { return s.policy_loss(true, messages); },
       nothing, 'd'},
      {"exact KL, arbitrary policies", 2 * n + rows * 28, [](const Arguments& s) { return s.token_kl(); }, far, 'k'}};

  cudaEvent_t start, end;
  CUDA(cudaEventCreate(&start));
  CUDA(cudaEventCreate(&end));
  const auto timed = [&](const std::function<void()>& call) {
    read<<<2048, 256>>>((const uint4*)other, other_bytes / 16, (uint32_t*)to); /* fills L2 with other, clean lines */
    spin<<<1, 1>>>(200000);
    CUDA(cudaEventRecord(start));
    call();
    CUDA(cudaEventRecord(end));
    CUDA(cudaEventSynchronize(end));
    float ms;
    CUDA(cudaEventElapsedTime(&ms, start, end));
    return (double)ms;
  };
  for (const Case& c : cases) {
    const double allowed = c.kind == 'd' ? dtype == TEAMTR_F32 ? 1e-3 : 1e-2 : 1e-4; /* bf16: each may round to its side */
    c.before(sets[0]);
    require(c.call(sets[0]));
    require(teamtr_cuda_synchronize(0, 0));
    const double error = error_of(c, sets[0], host);
    if (!(error <= allowed)) wrong++;
    std::vector<double> ms, copy;
    for (int r = 0; r < kRounds; r++) {
      const Arguments& s = sets[r % sets.size()];
      c.before(s);
      ms.push_back(timed([&] { require(c.call(s)); }));
      copy.push_back(timed([&] { CUDA(cudaMemcpyAsync(to, from, copied, cudaMemcpyDeviceToDevice)); }));
    }
    std::sort(ms.begin(), ms.end());
    std::sort(copy.begin(), copy.end());
    const double rate = c.bytes / ms[kRounds / 2] / 1e6, copy_rate = 2.0 * copied / copy[kRounds / 2] / 1e6;
    std::printf("| %s | %s [%lld, %lld] | %.3f (%.3f to %.3f) | %.0f | %.1f %% of %.0f | %.1e%s |\n", c.name,
                dtype == TEAMTR_F32 ? "f32" : "bf16", (long long)rows, (long long)vocab, ms[kRounds / 2], ms[kRounds / 5],
                ms[kRounds * 4 / 5], rate, 100 * rate / copy_rate, copy_rate, error, error <= allowed ? "" : " WRONG");
    std::fflush(stdout);
  }
  for (const Arguments& s : sets) release(s);
  release(host);
  for (char* p : {other, from, to}) CUDA(cudaFree(p));
  CUDA(cudaEventDestroy(start));
  CUDA(cudaEventDestroy(end));
}

int main(int count, char** given) {
  if (teamtr_cuda_count() < 1) return std::printf("%s\n", teamtr_last_error()), 1;
  std::printf("%s\n\n| case | shape | ms (p20 to p80) | GB/s | of copy | error |\n|---|---|---|---|---|---|\n",
              teamtr_cuda_device(0));
  if (count == 3) {
    measure(TEAMTR_BF16, std::atoll(given[1]), std::atoll(given[2]));
  } else {
    measure(TEAMTR_BF16, 8192, 151936);
    measure(TEAMTR_BF16, 256, 151936);
    measure(TEAMTR_BF16, 8192, 32000);
    measure(TEAMTR_F32, 2048, 151936);
  }
  if (wrong) std::printf("\n%d wrong\n", wrong);
  return wrong ? 1 : 0;
}
