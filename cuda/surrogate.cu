/*
 * Kernels on per-token vectors: the trust-region surrogate with its gradient and statistics, the sampled KL, group-normalised
 * advantages. The formulas are in native/src/surrogate.h, which the CPU uses as well; a warp computes a message, or a group.
 *
 * Passes over device memory, and bytes per token:
 *   surrogate    one block computes the whole call, since its denominators and statistics are sums over all tokens, and there is
 *                no scratch memory through which blocks could exchange them. It checks the message bounds and counts tokens by mask
 *                and targets; then each warp computes its messages. Reads 8 bytes of log-probs, and 4 each of kl, entropy and
 *                advantages where they are per token; writes up to 12 bytes of gradients. A message is read two or three times; if
 *                it fits into the cache, from memory once. The speed is limited by the double-precision arithmetic of one
 *                multiprocessor: an expm1 and up to two more exponentials per token.
 *   sampled KL   8 bytes read, 4 written. Uses the whole grid: one warp per message or, without messages, per few tokens.
 *                Afterwards one block checks all message bounds, and overwrites the results with NaN if any is bad.
 *   advantages   4 bytes, read three times, from memory once if a group fits into the cache; 4 or 8 written.
 * Instructions are not counted, since no logits are read. Measured: the surrogate only as a part of the policy loss, see
 * policy_loss.cu; the others not at all.
 *
 * Contract: teamtr.h. All arithmetic is in doubles. Messages are assigned to warps, and tokens to lanes, by their numbers, and
 * sums are taken over lanes, then warps, in a fixed order: the same bits in every run. A message's ratio does not depend on other
 * messages, and its gradients only through the denominators. Bad bounds make every result of the call NaN, and are not used.
 */
#include "rows.cuh"
#include "surrogate.h"

namespace teamtr {
namespace cuda {
namespace {

constexpr int kSurrogateThreads = 512; /* 128 registers each */
constexpr int kTokenThreads = 256;

struct WarpThreads {
  static constexpr int kLanes = kWarp, kAtOnce = 4;
  static __device__ __forceinline__ int lane() { return cuda::lane(); }
  static __device__ __forceinline__ bool leads() { return cuda::lane() == 0; }
  template <class T> static __device__ __forceinline__ T sum(T x) {
    return warp_fold(x, [](T mine, T theirs) { return mine + theirs; });
  }
  static __device__ __forceinline__ double leaders(double x) { return __shfl_sync(kFullMask, x, 0); }
};

/* The data that a warp gives to the others. */
struct WarpSlot {
  uint32_t bad_bounds;
  Counted counted;
  TokenSums tokens;
  MessageSums messages;
};

/* Whether the message bounds are ascending from 0 to `tokens`. Called by all threads of the block; all get the answer. */
__device__ __forceinline__ bool good_bounds(Ids cu, int64_t messages, int64_t tokens, WarpSlot* slots) {
  bool bad = cu[0] != 0 || cu[messages] != tokens;
  for (int64_t m = threadIdx.x; m < messages; m += blockDim.x) bad |= cu[m + 1] < cu[m];
  const uint32_t lanes = __ballot_sync(kFullMask, bad);
  if (lane() == 0) slots[warp()].bad_bounds = lanes;
  __syncthreads();
  bad = false;
  for (int w = 0; w < warps(); w++) bad |= slots[w].bad_bounds != 0;
  return !bad;
}

__device__ __forceinline__ void fill(float* vector, int64_t count, float value) {
  if (!vector) return;
  for (int64_t i = threadIdx.x; i < count; i += blockDim.x) vector[i] = value;
}

__device__ __forceinline__ TokenSums warp_total(TokenSums s) {
  s.objective = WarpThreads::sum(s.objective);
  s.kl = WarpThreads::sum(s.kl);
  s.entropy = WarpThreads::sum(s.entropy);
  s.ratio_sum = WarpThreads::sum(s.ratio_sum);
  s.ratio_squares = WarpThreads::sum(s.ratio_squares);
  s.ratio_min = warp_fold(s.ratio_min, lesser);
  s.ratio_max = warp_fold(s.ratio_max, greater);
  for (int b = LOW; b < BOUNDS; b++) s.bound[b] = WarpThreads::sum(s.bound[b]);
  return s;
}

__global__ void __launch_bounds__(kSurrogateThreads, 1) surrogate_kernel(const Surrogate a) {
  WarpSlot* slots = reinterpret_cast<WarpSlot*>(shared_memory());
  WarpSlot* mine = slots + warp();
  if (!good_bounds(a.cu_seqlens, a.messages, a.tokens, slots)) {
    fill(a.d_log_probs, a.tokens, NAN);
    fill(a.d_kl, a.tokens, NAN);
    fill(a.d_entropy, a.tokens, NAN);
    for (int i = threadIdx.x; i < TEAMTR_STATS; i += blockDim.x) a.stats[i] = NAN;
    return;
  }

  Counted counted;
  for (int64_t m = warp(); m < a.messages; m += warps()) count_message(a, m, WarpThreads(), &counted);
  if (lane() == 0) mine->counted = counted;
  __syncthreads();
  counted = Counted();
  for (int w = 0; w < warps(); w++) {
    counted.tokens += slots[w].counted.tokens;
    counted.messages += slots[w].counted.messages;
  }

  TokenSums tokens;
  if (lane() == 0) mine->messages = MessageSums();
  for (int64_t m = warp(); m < a.messages; m += warps()) take_message(a, counted, m, WarpThreads(), &tokens, &mine->messages);
  tokens = warp_total(tokens);
  if (lane() == 0) mine->tokens = tokens;
  __syncthreads();
  if (threadIdx.x != 0) return;
  MessageSums messages = mine->messages;
  for (int w = 1; w < warps(); w++) {
    tokens.add(slots[w].tokens);
    messages.add(slots[w].messages);
  }
  report(a, counted, tokens, messages);
}

/* The number of tokens that a warp processes at a time where there are no messages. */
constexpr int64_t kTile = WarpThreads::kLanes * WarpThreads::kAtOnce;

struct SampledKl {
  int32_t estimator;
  const float *log_probs_old, *log_probs_new;
  int64_t tokens;
  Ids cu_seqlens;
  int64_t messages;
  float *per_token, *per_message; /* each or null */
};

__global__ void __launch_bounds__(kTokenThreads, 2) kl_tokens_kernel(const SampledKl a) {
  for (int64_t tile = (int64_t)blockIdx.x * warps() + warp(); tile * kTile < a.tokens; tile += (int64_t)gridDim.x * warps()) {
    const int64_t begin = tile * kTile, end = begin + kTile < a.tokens ? begin + kTile : a.tokens;
    sum_of_estimates(a.estimator, a.log_probs_old, a.log_probs_new, begin, end, a.per_token, WarpThreads());
  }
}

__global__ void __launch_bounds__(kTokenThreads, 2) kl_messages_kernel(const SampledKl a) {
  for (int64_t m = (int64_t)blockIdx.x * warps() + warp(); m < a.messages; m += (int64_t)gridDim.x * warps()) {
    const int64_t begin = a.cu_seqlens[m], end = a.cu_seqlens[m + 1];
    if (begin < 0 || begin > end || end > a.tokens) continue; /* kl_bounds_kernel will write NaN */
    const double sum =
        sum_of_estimates(a.estimator, a.log_probs_old, a.log_probs_new, begin, end, a.per_token, WarpThreads());
    if (lane() == 0) a.per_message[m] = (float)sum;
  }
}

/* Launched with one block. */
__global__ void __launch_bounds__(kTokenThreads, 1) kl_bounds_kernel(const SampledKl a) {
  if (good_bounds(a.cu_seqlens, a.messages, a.tokens, reinterpret_cast<WarpSlot*>(shared_memory()))) return;
  fill(a.per_token, a.tokens, NAN);
  fill(a.per_message, a.messages, NAN);
}

__global__ void __launch_bounds__(kTokenThreads, 2)
    advantages_kernel(const float* returns, int64_t groups, int64_t size, const Normalisation n, float* advantages,
                      float* centred) {
  for (int64_t g = (int64_t)blockIdx.x * warps() + warp(); g < groups; g += (int64_t)gridDim.x * warps()) {
    const int64_t first = g * size;
    group_advantages(returns + first, size, n, advantages + first, centred ? centred + first : nullptr, WarpThreads());
  }
}

/* A launch with one warp per piece of work. */
Launch over_warps(const Device& dev, int64_t pieces) {
  constexpr int kWarps = kTokenThreads / kWarp;
  return {dev, blocks_for((pieces + kWarps - 1) / kWarps), kTokenThreads};
}

}  // namespace

int32_t surrogate(const Device& dev, const Surrogate& a) {
  return launch<surrogate_kernel>({dev, 1, kSurrogateThreads, kSurrogateThreads / kWarp * sizeof(WarpSlot)}, a);
}

int32_t sampled_kl(const Device& dev, int32_t estimator, const float* log_probs_old, const float* log_probs_new,
                   int64_t tokens, Ids cu_seqlens, int64_t messages, float* per_token, float* per_message) {
  const SampledKl a{estimator, log_probs_old, log_probs_new, tokens, cu_seqlens, messages, per_token, per_message};
  if (per_message) TEAMTR_TRY(launch<kl_messages_kernel>(over_warps(dev, messages), a));
  else if (per_token) TEAMTR_TRY(launch<kl_tokens_kernel>(over_warps(dev, (tokens + kTile - 1) / kTile), a));
  if (!cu_seqlens) return TEAMTR_OK;
  return launch<kl_bounds_kernel>({dev, 1, kTokenThreads, kTokenThreads / kWarp * sizeof(WarpSlot)}, a);
}

int32_t group_advantages(const Device& dev, const float* returns, int64_t count, int64_t group_size, double eps_norm,
                         double clip, bool normalise, float* advantages, float* centred) {
  const int64_t groups = count / group_size;
  return launch<advantages_kernel>(over_warps(dev, groups), returns, groups, group_size,
                                   Normalisation{eps_norm, clip, normalise}, advantages, centred);
}

}  // namespace cuda
}  // namespace teamtr
