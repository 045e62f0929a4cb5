/*
 * The kernels on per-token vectors on the CPU: the trust-region surrogate (Eq. 10) with its gradient and statistics, the sampled
 * KL (Eq. 11), group-normalised advantages (Eq. 9). The formulas are in surrogate.h.
 *
 * Passes over memory: the surrogate first counts tokens and messages (from mask and targets), for the denominators. Then it
 * processes one message after the other in three passes: the message's ratio and monitors, the terms of the objective, the gradient.
 * A message fits into the cache, so each log-prob is read from memory once. sampled_kl reads once. A group of returns is read
 * three times (mean, variance, result). Nothing is allocated.
 *
 * Contract: arguments are checked by the caller, the values in vectors are not. Sums are in token order on the calling thread, so
 * the bits depend only on the values.
 */
#include "surrogate.h"

namespace teamtr {
namespace {

/* The calling thread, a group of one. */
struct OneThread {
  static constexpr int kLanes = 1, kAtOnce = 1;
  static int lane() { return 0; }
  static bool leads() { return true; }
  template <class T> static T sum(T x) { return x; }
  static double leaders(double x) { return x; }
};

}  // namespace

void surrogate(const Surrogate& a) {
  Counted counted;
  for (int64_t m = 0; m < a.messages; ++m) count_message(a, m, OneThread(), &counted);
  TokenSums tokens;
  MessageSums messages;
  for (int64_t m = 0; m < a.messages; ++m) take_message(a, counted, m, OneThread(), &tokens, &messages);
  report(a, counted, tokens, messages);
}

void sampled_kl(int32_t estimator, const float* log_probs_old, const float* log_probs_new, int64_t tokens,
                Ids cu_seqlens, int64_t messages, float* per_token, float* per_message) {
  const auto sum = [&](int64_t begin, int64_t end) {
    return sum_of_estimates(estimator, log_probs_old, log_probs_new, begin, end, per_token, OneThread());
  };
  if (!per_message || !cu_seqlens) {
    sum(0, tokens);
    return;
  }
  for (int64_t m = 0; m < messages; ++m) {
    per_message[m] = static_cast<float>(sum(cu_seqlens[m], cu_seqlens[m + 1]));
  }
}

void group_advantages(const float* returns, int64_t count, int64_t group_size, double eps_norm, double clip,
                      bool normalise, float* advantages, float* centred) {
  for (int64_t g = 0; g < count; g += group_size) {
    group_advantages(returns + g, group_size, {eps_norm, clip, normalise}, advantages + g, centred ? centred + g : nullptr,
                     OneThread());
  }
}

}  // namespace teamtr
