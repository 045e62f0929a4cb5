/*
 * Calls one kernel on one thread: once, for callgrind to count its instructions (jmh/instructions.sh), or with PASSES so
 * many times, for the shortest time of a call, in ns per 1,000 logits (docs/data/tuning.sh).
 *   instructions KERNEL LEVEL DTYPE ROWS VOCAB [PASSES]
 * KERNEL as the classes of the benchmarks are called, TokenKl-far beside TokenKl.
 */
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>
#include <vector>

#include "teamtr.h"

static teamtr_address at(const void* p) { return reinterpret_cast<teamtr_address>(p); }

/* Aligned as the benchmarks' logits are: a vector that straddles two cache lines costs two loads. */
template <class T> struct Aligned {
  using value_type = T;
  Aligned() = default;
  template <class U> Aligned(const Aligned<U>&) {}
  T* allocate(size_t n) { return static_cast<T*>(::operator new(n * sizeof(T), std::align_val_t(64))); }
  void deallocate(T* p, size_t) { ::operator delete(p, std::align_val_t(64)); }
  bool operator==(const Aligned&) const { return true; }
  bool operator!=(const Aligned&) const { return false; }
};
using Bytes = std::vector<unsigned char, Aligned<unsigned char>>;

static void put(Bytes& logits, size_t i, int32_t dtype, float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  const auto half = static_cast<uint16_t>(bits >> 16); /* rounded down: any logits will do */
  if (dtype == TEAMTR_F32) std::memcpy(&logits[4 * i], &x, 4);
  else std::memcpy(&logits[2 * i], &half, 2);
}

int main(int argc, char** argv) {
  if (argc != 6 && argc != 7) return std::fprintf(stderr, "usage: instructions KERNEL LEVEL DTYPE ROWS VOCAB [PASSES]\n"), 2;
  const std::string kernel = argv[1], level = argv[2];
  const int32_t dtype = std::strcmp(argv[3], "F32") == 0 ? TEAMTR_F32 : TEAMTR_BF16;
  const int64_t rows = std::atoll(argv[4]), vocab = std::atoll(argv[5]);
  const int passes = argc == 7 ? std::atoi(argv[6]) : 1;
  if (teamtr_cpu_force(level == "portable" ? TEAMTR_PORTABLE : level == "avx2" ? TEAMTR_AVX2 : TEAMTR_AVX512) != TEAMTR_OK || teamtr_threads_set(1) != TEAMTR_OK)
    return std::fprintf(stderr, "%s\n", teamtr_last_error()), 77;

  /* The benchmarks' logits: about N(0, 3), and a policy a small step away or another one. */
  const auto n = static_cast<size_t>(rows * vocab);
  const bool far = kernel == "TokenKl-far" || kernel == "TokenKlBackward";
  Bytes p(n * (dtype == TEAMTR_F32 ? 4 : 2)), q(p.size());
  uint64_t s = 0x9E3779B97F4A7C15u;
  const auto normal = [&] {
    s ^= s << 13, s ^= s >> 7, s ^= s << 17;
    return static_cast<float>((s & 0xffff) + (s >> 16 & 0xffff) + (s >> 32 & 0xffff) + (s >> 48)) / 65536 - 2;
  };
  for (size_t i = 0; i < n; ++i) {
    const float x = 5.2f * normal() + (i % static_cast<size_t>(vocab) == 7 ? 15 : 0);
    put(p, i, dtype, x), put(q, i, dtype, far ? 5.2f * normal() : x + 0.01f * normal());
  }
  const auto r = static_cast<size_t>(rows);
  std::vector<int64_t> targets(r, 3), tokens(r), bounds = {0, rows};
  std::vector<float> log_probs(r, -9), lse(r, 17), entropy(r), kl(r), slopes(r, -0.25f), work(5 * r), advantages(1, 0.7f);
  std::vector<double> stats(TEAMTR_STATS);

  int32_t status = TEAMTR_INVALID;
  double best = INFINITY;
  const auto first = p; /* what calls in place write over */
  for (int pass = 0; pass < passes; ++pass) {
    p = first;
    const auto start = std::chrono::steady_clock::now();
    if (kernel == "LogProbs")
      status = teamtr_log_probs(TEAMTR_CPU, 0, at(p.data()), dtype, rows, vocab, vocab, rows, 0, at(targets.data()), TEAMTR_I64, 1, 0,
                                at(log_probs.data()), at(lse.data()), at(entropy.data()));
    else if (kernel == "LogProbsBackward")
      status = teamtr_log_probs_backward(TEAMTR_CPU, 0, at(p.data()), dtype, rows, vocab, vocab, rows, 0, at(targets.data()), TEAMTR_I64,
                                         0, vocab, 1, 0, at(log_probs.data()), at(lse.data()), 0, at(slopes.data()), 0, at(p.data()),
                                         vocab, rows, 0);
    else if (kernel == "TokenKl" || kernel == "TokenKl-far")
      status = teamtr_kl(TEAMTR_CPU, 0, at(p.data()), dtype, rows, vocab, vocab, rows, 0, at(q.data()), vocab, rows, 0, 0, TEAMTR_I64, 1,
                         0, at(kl.data()), 0, 0, 0, 0);
    else if (kernel == "TokenKlBackward")
      status = teamtr_kl_backward(TEAMTR_CPU, 0, at(p.data()), dtype, rows, vocab, vocab, rows, 0, at(q.data()), vocab, rows, 0, 0,
                                  TEAMTR_I64, 1, 0, at(slopes.data()), 1, at(q.data()), vocab, rows, 0);
    else if (kernel == "PolicyLoss")
      status = teamtr_policy_loss(TEAMTR_CPU, 0, at(p.data()), dtype, rows, vocab, vocab, rows, 0, 0, 0, 0, 0, at(targets.data()),
                                  TEAMTR_I64, 1, 0, at(log_probs.data()), at(advantages.data()), 0, at(bounds.data()), TEAMTR_I64, 1, 0,
                                  0, TEAMTR_RATIO_TOKEN, INFINITY, INFINITY, INFINITY, TEAMTR_KL_NONE, 0, TEAMTR_TOKEN_MEAN, 0,
                                  TEAMTR_TOKEN_MEAN, 0, 0, 0, at(slopes.data()), at(lse.data()), 0, 0, at(work.data()), at(p.data()),
                                  vocab, rows, 0, at(stats.data()));
    else if (kernel == "Sampling")
      status = teamtr_sample(TEAMTR_CPU, 0, at(p.data()), dtype, rows, vocab, vocab, rows, 0, 0.8f, 0, 0, 0.95f, 0, 1, 0, 0,
                             at(tokens.data()), TEAMTR_I64, at(log_probs.data()), 0);
    const std::chrono::duration<double, std::nano> time = std::chrono::steady_clock::now() - start;
    best = std::min(best, time.count());
    if (status != TEAMTR_OK) return std::fprintf(stderr, "%s: %s\n", argv[1], teamtr_last_error()), 1;
  }
  if (argc == 7) std::printf("%.1f\n", best / static_cast<double>(rows * vocab) * 1000);
  return 0;
}
