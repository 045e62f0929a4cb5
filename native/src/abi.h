/*
 * What the functions of the C ABI share: error words, and checks of arguments. The Java side checks everything
 * before it calls; these checks are for other callers, and for contents (targets) that only a look can tell.
 */
#ifndef TEAMTR_ABI_H
#define TEAMTR_ABI_H

#include <cmath>
#include <cstdio>

#include "kernels.h"

namespace teamtr {

char* error_words();
constexpr size_t kErrorSize = 512;

template <class... A> int32_t fail(int32_t status, const char* format, A... a) {
  std::snprintf(error_words(), kErrorSize, format, a...);
  return status;
}
static inline int32_t fail(int32_t status, const char* words) { return fail(status, "%s", words); }

/* Returns from the calling function when a check has failed. */
#define TEAMTR_TRY(check)                    \
  do {                                       \
    if (int32_t status_ = (check)) return status_; \
  } while (0)

const RowKernels& row_kernels();

template <class T> T* at(teamtr_address a) { return reinterpret_cast<T*>(static_cast<uintptr_t>(a)); }

static inline size_t bytes_of(int32_t dtype) { return dtype == TEAMTR_F32 ? 4 : 2; }

struct Matrix {
  char* data;
  int32_t dtype;
  int64_t rows, vocab, row_stride, rows_per_batch, batch_stride;
  Matrix(teamtr_address a, int32_t dtype, int64_t rows, int64_t vocab, int64_t row_stride, int64_t rows_per_batch,
         int64_t batch_stride)
      : data(at<char>(a)), dtype(dtype), rows(rows), vocab(vocab), row_stride(row_stride),
        rows_per_batch(rows_per_batch), batch_stride(batch_stride) {}
  char* row(int64_t r) const { /* 64-bit: rows * vocab goes beyond 2^31 */
    const int64_t batch = r / rows_per_batch;
    return data + (batch * batch_stride + (r - batch * rows_per_batch) * row_stride) * (int64_t)bytes_of(dtype);
  }
  float value(int64_t r, int64_t v) const { return value(row(r), v); }
  float value(const char* row, int64_t v) const;
};

int32_t check(const char* name, const Matrix& m);
int32_t check_targets(Ids targets, int64_t rows, int64_t vocab);
int32_t check_index_type(const char* name, int32_t type);
int32_t check_temperature(float scalar, const float* per_row, int64_t rows, bool zero_allowed);
int32_t check_cu_seqlens(Ids cu, int64_t messages, int64_t tokens);
int32_t check_given(const char* name, teamtr_address a, int64_t count);

struct Temperature {
  float scalar;
  const float* per_row;
  double operator[](int64_t r) const { return per_row ? per_row[r] : scalar; }
};

/* Rows a thread takes at a time: enough work to be worth the hand-over, few enough to share out evenly. */
static inline int64_t rows_at_a_time(int64_t vocab) { return vocab >= 16384 ? 1 : 16384 / vocab; }

/* log-prob, lse and entropy from a row's statistics; NaN for a row without a distribution. */
struct Finished {
  bool proper;
  double log_z, lse, entropy, max, temperature;
  Finished(const RowStats& s, double t)
      : proper(s.max > -INFINITY && s.max < INFINITY && !std::isnan(s.rest)), log_z(std::log1p(s.rest)),
        lse(s.max / t + log_z), entropy(log_z - s.weighted / (1 + s.rest)), max(s.max), temperature(t) {
    if (!proper) log_z = lse = entropy = NAN;
  }
  double log_prob(float x) const { return proper ? ((double)x - max) / temperature - log_z : NAN; }
};

/* Q's log-prob of the target: from its own statistics where they were taken, else from P's and the log-ratio. */
static inline double kl_log_prob_q(const KlRow& k, const Finished& p, double t, float p_target, float q_target) {
  if (k.has_q) return Finished(k.q, t).log_prob(q_target);
  if (q_target == -INFINITY) return -INFINITY;
  return p.log_prob(p_target) - (((double)p_target - q_target) / t - k.log_ratio);
}

/* The gradient of one row from saved per-token results; see teamtr_log_probs_backward. */
RowGradient row_gradient(double temperature, int64_t target, float target_logit, double log_prob, double lse,
                         double entropy, double grad_log_prob, double grad_entropy);
Softmax softmax_from_lse(double lse, double temperature);

}  // namespace teamtr
#endif
