/*
 * What the translation units of the CPU backend share.
 *
 * teamtr.cpp       the C ABI: checks, error words, CPUID, the loop over rows
 * kernels_*.cpp    one row of every vocab-sized kernel, compiled once per CPU level from kernels.inl
 * token_kernels.cpp  work on per-token vectors (surrogate, sampled KL, advantages), in double
 * pool.cpp         the threads
 * rows.h           what a row is and what is computed of it once, for the CPU and for CUDA
 */
#ifndef TEAMTR_KERNELS_H
#define TEAMTR_KERNELS_H

#include "rows.h"

namespace teamtr {

/* ---- pool.cpp ---- */

/* Calls body(context, begin, end) over [0, count) in pieces of at most `grain`, on the pool and the caller. */
void parallel_for(int64_t count, int64_t grain, void (*body)(void*, int64_t, int64_t), void* context);
int pool_threads();
void pool_resize(int threads);

template <class F>
void parallel_for(int64_t count, int64_t grain, F&& f) {
  parallel_for(count, grain, [](void* c, int64_t b, int64_t e) { (*static_cast<F*>(c))(b, e); }, &f);
}

/* ---- token_kernels.cpp: arguments are checked by the caller ---- */

struct Surrogate {
  const float *log_probs_new, *log_probs_old;
  int64_t tokens;
  const float* advantages;
  bool advantage_per_token;
  Ids cu_seqlens;
  int64_t messages;
  const uint8_t* mask;     /* or null */
  Ids targets;             /* or null: TEAMTR_IGNORE acts as a mask of 0 */
  const float* kl;         /* or null */
  const float* entropy;    /* or null */
  const float* centred_returns; /* or null */
  int32_t ratio_level;
  double eps_low, eps_high, dual_clip;
  int32_t kl_term;
  double beta;
  int32_t kl_aggregation;
  double entropy_coef;
  int32_t aggregation;
  double fixed_length;
  int64_t total_tokens, total_messages;
  float *d_log_probs, *d_kl, *d_entropy; /* each or null; may alias none of the inputs */
  double* stats;
};

void surrogate(const Surrogate& a);
void sampled_kl(int32_t estimator, const float* log_probs_old, const float* log_probs_new, int64_t tokens,
                Ids cu_seqlens, int64_t messages, float* per_token, float* per_message);
void group_advantages(const float* returns, int64_t count, int64_t group_size, double eps_norm, double clip,
                      bool normalise, float* advantages, float* centred);

/* ---- kernels_*.cpp: one row ---- */

struct SampleArgs {
  double temperature;   /* 0: the largest logit */
  int64_t top_k;        /* 0: all */
  double top_p, min_p;
  uint64_t seed;
  int32_t step;
  int64_t row_id;
  bool rest_kept;       /* is asked for */
};

struct RowSample {
  RowStats stats;   /* at the temperature, or at 1 where that is 0 */
  int64_t token;    /* -1: no distribution; nothing below is set */
  float logit;      /* its own */
  double rest_kept; /* as stats.rest, of the kept tokens alone; only if asked for */
};

/* The vocab-sized kernels of one CPU level, indexed by dtype. Pointers need only their element's alignment; d may
 * be the row it is the gradient of. */
struct RowKernels {
  RowStats (*stats[3])(const void* x, int64_t vocab, double temperature, bool entropy);
  void (*gradient[3])(const void* x, int64_t vocab, const RowGradient& g, void* d);
  void (*kl[3])(const void* p, const void* q, int64_t vocab, double temperature, bool stats_of_q, KlRow* out);
  void (*kl_gradient[3])(const void* p, const void* q, int64_t vocab, const KlGradient& g, void* d);
  void (*sample[3])(const void* x, int64_t vocab, const SampleArgs& a, RowSample* out);
  uint32_t (*floor_sweep)(void* data, int64_t bytes, bool write);
  void (*philox)(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]); /* for tests: its noise */
};
extern const RowKernels kRowKernelsPortable, kRowKernelsAvx2, kRowKernelsAvx512;

}  // namespace teamtr
#endif
