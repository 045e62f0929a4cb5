/*
 * What a row is, and what is computed of it once rather than for each of its elements: shared by the CPU's kernels and
 * CUDA's, so that a formula stands in one place. In double, since it costs nothing at once a row.
 */
#ifndef TEAMTR_ROWS_H
#define TEAMTR_ROWS_H

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "teamtr.h"

#if defined(__CUDACC__)
#define TEAMTR_HD __host__ __device__
#else
#define TEAMTR_HD
#endif

namespace teamtr {

/* Where the arguments of a call live, and in which order a device's calls run. */
struct Place {
  int32_t device; /* TEAMTR_CPU, or a CUDA device */
  teamtr_address stream;
  bool on_cpu() const { return device == TEAMTR_CPU; }
};

template <class T> TEAMTR_HD inline T* at(teamtr_address a) { return reinterpret_cast<T*>(static_cast<uintptr_t>(a)); }

TEAMTR_HD inline size_t bytes_of(int32_t dtype) { return dtype == TEAMTR_F32 ? 4 : 2; }

/* An index vector of either width. */
struct Ids {
  const void* data = nullptr;
  int32_t type = TEAMTR_I64;
  TEAMTR_HD int64_t operator[](int64_t i) const {
    return type == TEAMTR_I32 ? static_cast<const int32_t*>(data)[i] : static_cast<const int64_t*>(data)[i];
  }
  TEAMTR_HD explicit operator bool() const { return data != nullptr; }
};

struct Temperature {
  float scalar;
  const float* per_row;
  TEAMTR_HD double operator[](int64_t r) const { return per_row ? per_row[r] : scalar; }
};

struct Matrix {
  char* data;
  int32_t dtype;
  int64_t rows, vocab, row_stride, rows_per_batch, batch_stride;
  Matrix(teamtr_address a, int32_t dtype, int64_t rows, int64_t vocab, int64_t row_stride, int64_t rows_per_batch,
         int64_t batch_stride)
      : data(at<char>(a)), dtype(dtype), rows(rows), vocab(vocab), row_stride(row_stride),
        rows_per_batch(rows_per_batch), batch_stride(batch_stride) {}
  TEAMTR_HD char* row(int64_t r) const { /* 64-bit: rows * vocab goes beyond 2^31 */
    const int64_t batch = r / rows_per_batch;
    return data + (batch * batch_stride + (r - batch * rows_per_batch) * row_stride) * (int64_t)bytes_of(dtype);
  }
  TEAMTR_HD float value(int64_t r, int64_t v) const { return value(row(r), v); }
  TEAMTR_HD float value(const char* row, int64_t v) const {
    if (dtype == TEAMTR_F32) return reinterpret_cast<const float*>(row)[v];
    const uint16_t h = reinterpret_cast<const uint16_t*>(row)[v];
    uint32_t u;
    if (dtype == TEAMTR_BF16) {
      u = (uint32_t)h << 16;
    } else {
      const uint32_t sign = (uint32_t)(h & 0x8000) << 16, e = (h >> 10) & 31, m = h & 0x3ff;
      if (e == 0) return (sign ? -1.0f : 1.0f) * (float)m * 0x1p-24f;
      u = sign | (e == 31 ? 0x7f800000u : (e + 112) << 23) | (m << 13);
    }
    float f;
    memcpy(&f, &u, 4);
    return f;
  }
};

/* ---- one row ---- */

/* What one read of a row leaves: all of softmax(x / T) that needs no second look. `rest` leaves one occurrence of
 * the maximum out of the sum, so that log p and 1 - p stay exact as p -> 1. */
struct RowStats {
  float max;       /* of x; -inf: a fully masked row, +inf or a NaN in rest: no distribution either */
  double rest;     /* sum exp((x - max) / T) - 1 */
  double weighted; /* sum exp((x - max) / T) * (x - max) / T; only if asked for */
};

/* p_v = exp2((x_v - shift) * scale + offset): a normalised row, from statistics or from a saved log-sum-exp. */
struct Softmax {
  float shift, scale, offset;
};

/* d_v = p_v * (b + h * log2 p_v), and at the target the value formed in double beforehand. */
struct RowGradient {
  Softmax softmax;
  float b, h;
  int64_t target; /* -1: none in this row */
  float at_target;
};

struct KlRow {
  double kl;
  double log_ratio; /* log-normaliser of p minus that of q: log P_v - log Q_v = (p_v - q_v) / T - log_ratio */
  RowStats p, q;
  bool has_q;       /* q's log-normaliser is that of its statistics; otherwise it follows from p's and log_ratio */
};

/* d_v = grad * d KL(P || Q) / d row, plus, in the row of Q, the terms of `extra`. */
struct KlGradient {
  Softmax p, q;
  double temperature, log_ratio, kl;
  float grad;
  bool wrt_q;
  const RowGradient* extra; /* only with wrt_q; its softmax is q */
};

/* log-prob, lse and entropy from a row's statistics; NaN for a row without a distribution. */
struct Finished {
  bool proper;
  double log_z, lse, entropy, max, temperature;
  TEAMTR_HD Finished(const RowStats& s, double t)
      : proper(s.max > -INFINITY && s.max < INFINITY && !(s.rest != s.rest)), log_z(log1p(s.rest)),
        lse(s.max / t + log_z), entropy(log_z - s.weighted / (1 + s.rest)), max(s.max), temperature(t) {
    if (!proper) log_z = lse = entropy = NAN;
  }
  TEAMTR_HD double log_prob(float x) const { return proper ? ((double)x - max) / temperature - log_z : NAN; }
};

/* Q's log-prob of the target: from its own statistics where they were taken, else from P's and the log-ratio. */
TEAMTR_HD inline double kl_log_prob_q(const KlRow& k, const Finished& p, double t, float p_target, float q_target) {
  if (k.has_q) return Finished(k.q, t).log_prob(q_target);
  if (q_target == -INFINITY) return -INFINITY;
  return p.log_prob(p_target) - (((double)p_target - q_target) / t - k.log_ratio);
}

/* phi(u) = u + expm1(-u): what KL sums. phi(u) / u^2 = 1/2 - u/6 + u^2/24 - ... on [-1, 1], relative error 9e-8. */
constexpr float kPhi6 = 0x1.a2c5e0p-16f, kPhi5 = -0x1.aa419cp-13f, kPhi4 = 0x1.6c272cp-10f, kPhi3 = -0x1.10fce8p-7f,
                kPhi2 = 0x1.555504p-5f, kPhi1 = -0x1.55557cp-3f, kPhi0 = 0.5f;

/* KL from one sweep, by the identity in kernels.inl: n = sum of e_v = exp((p_v - max) / T), eu and ephi the sums of e u and
 * e phi(u), u = (p - q) / T - a. False if a was too far off for it. out->p is the caller's. */
TEAMTR_HD inline bool near_kl(double n, double eu, double ephi, double a, KlRow* out) {
  const double G = ephi / n, x = G - eu / n, log_x = log1p(x);
  const double psi = fabs(x) < 1e-2 ? x * x * (0.5 - x * (1.0 / 3 - x * (0.25 - x * (0.2 - x / 6)))) : x - log_x;
  const double kl = G - psi;
  if (!(G == G) || (G > 1e-12 && !(kl * 64 >= G))) return false;
  out->kl = kl > 0 ? kl : 0;
  out->log_ratio = a - log_x;
  out->has_q = false;
  return true;
}

TEAMTR_HD inline Softmax softmax_of(const RowStats& s, double temperature) {
  const double c = 1.44269504088896340736 / temperature, most = 3.4028234663852886e38;
  return {s.max, (float)(c < most ? c : most), (float)(-log1p(s.rest) * 1.44269504088896340736)};
}

TEAMTR_HD inline Softmax softmax_from_lse(double lse, double temperature) {
  const double c = 1.44269504088896340736 / temperature;
  const float shift = (float)(lse * temperature); /* what its rounding loses, the offset keeps */
  return {shift, (float)c, (float)(((double)shift / temperature - lse) * 1.44269504088896340736)};
}

/* The gradient of one row from saved per-token results; see teamtr_log_probs_backward. */
TEAMTR_HD inline RowGradient row_gradient(double t, int64_t target, float target_logit, double log_prob, double lse,
                                          double entropy, double g, double h) {
  RowGradient out;
  /* Saved f32 results are exact to 6e-8 of their size: measure from whichever is smaller. */
  if (target >= 0 && fabs(log_prob) < fabs(lse))
    out.softmax = {target_logit, (float)(1.44269504088896340736 / t), (float)(log_prob * 1.44269504088896340736)};
  else
    out.softmax = softmax_from_lse(lse, t);
  if (h == 0) entropy = 0;
  out.b = (float)(-(g + h * entropy) / t);
  out.h = (float)(-h * 0.693147180559945309417 / t);
  out.target = target;
  const double p = exp(log_prob);
  out.at_target = (float)((-g * expm1(log_prob) - (p > 0 ? h * p * (log_prob + entropy) : 0)) / t);
  return out;
}

/* Q - P at the target of a policy loss, from its saved per-token results. */
TEAMTR_HD inline double kl_target_difference(double t, float p_target, float q_target, double log_prob_q, double lse_p,
                                             double log_ratio) {
  if (p_target == -INFINITY) return exp(log_prob_q);
  const double ratio = ((double)p_target - q_target) / t - log_ratio;
  return exp((double)p_target / t - lse_p) * expm1(-ratio);
}

/* The statistics of a whole row from its shards' parts, which lie `stride` floats apart; see teamtr_log_probs_parts. */
TEAMTR_HD inline RowStats merged_parts(const float* parts, int64_t shards, int64_t stride, double t, float* target) {
  int64_t top = 0;
  *target = -INFINITY;
  for (int64_t s = 0; s < shards; s++) {
    const float* part = parts + s * stride;
    if (part[0] > parts[top * stride]) top = s;
    if (!(part[3] <= *target)) *target = part[3];
  }
  const float* first = parts + top * stride;
  RowStats all{first[0], first[1], first[2]};
  for (int64_t s = 0; s < shards; s++) {
    const float* part = parts + s * stride;
    if (s == top || (part[0] == -INFINITY && part[1] == part[1])) continue; /* or nothing but masked tokens in it */
    const double y = ((double)part[0] - all.max) / t, f = exp(y), n = 1 + (double)part[1];
    all.rest += f * n;
    all.weighted += f > 0 ? f * (part[2] + n * y) : 0;
  }
  return all;
}

}  // namespace teamtr
#endif
