/*
 * Log-probs, log-sum-exp and entropy of rows of logits; their gradient; a shard's parts and their merge.
 *
 * Passes over device memory, bytes per row of V elements of b bytes, and what bounds them:
 *   forward     one read, V b. A thread keeps running statistics (rows.cuh) and the block merges them: two barriers a row.
 *               Some nine instructions and one exp2 an element, about half of what the multiprocessors of an H100 issue
 *               while its memory delivers bf16.
 *   backward    one read, one write, 2 V b; in place it is the same lines. All that is per row, in double, is done by one
 *               thread while the block's first vectors are on their way.
 *   merge       16 bytes per row and shard.
 *
 * Contract: teamtr.h. A block has a row, so a row's results do not depend on the others, nor on how many there are.
 */
#include "rows.cuh"

namespace teamtr {
namespace cuda {
namespace {

struct Forward {
  Matrix x;
  Ids targets;
  Temperature temperature;
  const uint8_t* mask; /* or null: rows to leave out besides ignored ones */
  float *log_probs, *lse, *entropy; /* each or null */
  float* parts;                     /* not null: a shard's, and none of the above */
  int64_t vocab_start, global_vocab;
};

/* What a row is to get before it is looked at. */
enum RowKind { kProper, kIgnored, kBad };

SIMT_DEVICE RowKind row_kind(Ids targets, int64_t vocab, const uint8_t* mask, double temperature, int64_t r,
                             int64_t* target) {
  *target = targets ? targets[r] : 0;
  if (*target == TEAMTR_IGNORE || (mask && !mask[r])) return kIgnored;
  return *target >= 0 && *target < vocab && good_temperature(temperature) ? kProper : kBad;
}

SIMT_DEVICE void write(float* vector, int64_t r, double value) {
  if (vector) vector[r] = (float)value;
}

template <class D, bool kAligned, bool kEntropy>
SIMT_DEVICE Online thread_statistics(const char* row, int64_t vocab, float scale) {
  Online o;
  walk<D, kAligned>(row, vocab, block_team(), [&](int64_t, const Vec16* v) {
    float x[kUnroll * D::kPerVector];
    for (int k = 0; k < kUnroll; k++) D::unpack(v[k], x + k * D::kPerVector);
    o.add<kUnroll * D::kPerVector, kEntropy>(x, scale);
  });
  return o;
}

template <class D, bool kEntropy> SIMT_KERNEL void SIMT_BOUNDS(kThreads, 2) forward_kernel(const Forward a) {
  Online* slots = reinterpret_cast<Online*>(shared());
  for (int64_t r = block(); r < a.x.rows; r += blocks()) {
    const double temperature = a.temperature[r];
    int64_t target;
    const RowKind kind = row_kind(a.targets, a.parts ? a.global_vocab : a.x.vocab, a.mask, temperature, r, &target);
    if (kind != kProper) {
      if (thread() == 0) {
        const double value = kind == kIgnored ? 0 : NAN;
        write(a.log_probs, r, value);
        write(a.lse, r, value);
        write(a.entropy, r, value);
        if (a.parts)
          for (int i = 0; i < 4; i++) a.parts[r * 4 + i] = (float)value;
      }
      continue;
    }
    const char* row = a.x.row(r);
    const float scale = scale_of(temperature);
    Online o = aligned16(row) ? thread_statistics<D, true, kEntropy>(row, a.x.vocab, scale)
                              : thread_statistics<D, false, kEntropy>(row, a.x.vocab, scale);
    o = block_merged(o, scale, slots);
    if (thread() == 0) {
      const RowStats s = o.finish();
      if (a.parts) {
        const int64_t local = a.targets ? target - a.vocab_start : -1;
        float* out = a.parts + r * 4;
        out[0] = s.max;
        out[1] = s.max == -kInfinity && !(s.rest != s.rest) ? -1.0f : (float)s.rest;
        out[2] = (float)s.weighted;
        out[3] = local >= 0 && local < a.x.vocab ? element<D>(row, local) : -kInfinity;
      } else {
        const Finished f(s, temperature);
        if (a.log_probs) a.log_probs[r] = (float)f.log_prob(element<D>(row, target));
        write(a.lse, r, f.lse);
        write(a.entropy, r, f.entropy);
      }
    }
    barrier(); /* before the slots are written again */
  }
}

struct Backward {
  Matrix x;
  Ids targets;
  int64_t vocab_start, global_vocab;
  Temperature temperature;
  const uint8_t* mask;
  const float *log_probs, *lse, *entropy, *grad_log_probs, *grad_entropy;
  Matrix d;
};

template <class D, bool kAligned, bool kEntropy>
SIMT_DEVICE void write_gradient(const char* row, char* d, int64_t vocab, const RowGradient& g, bool d_aligned) {
  walk<D, kAligned>(row, vocab, block_team(), [&](int64_t i, const Vec16* v) {
    for (int k = 0; k < kUnroll; k++) {
      const int64_t vector = i + k * threads();
      if (vector >= vectors_of<D>(vocab)) break;
      float x[D::kPerVector];
      D::unpack(v[k], x);
      for (int e = 0; e < D::kPerVector; e++) {
        const float y = fmaf(x[e] - g.softmax.shift, g.softmax.scale, g.softmax.offset);
        x[e] = exp2_approx(y) * (kEntropy ? fmaf(g.h, fmaxf(y, -127.0f), g.b) : g.b);
        if (vector * D::kPerVector + e == g.target) x[e] = g.at_target;
      }
      if (d_aligned) store_vector<D, true>(d, vector, vocab, x);
      else store_vector<D, false>(d, vector, vocab, x);
    }
  });
}

template <class D> SIMT_DEVICE void fill_row(char* d, int64_t vocab, float value) {
  float x[D::kPerVector];
  for (int e = 0; e < D::kPerVector; e++) x[e] = value;
  const bool whole = aligned16(d);
  for (int64_t i = thread(); i < vectors_of<D>(vocab); i += threads()) {
    if (whole) store_vector<D, true>(d, i, vocab, x);
    else store_vector<D, false>(d, i, vocab, x);
  }
}

template <class D> SIMT_KERNEL void SIMT_BOUNDS(kThreads, 2) backward_kernel(const Backward a) {
  RowGradient* gradient = reinterpret_cast<RowGradient*>(shared());
  for (int64_t r = block(); r < a.x.rows; r += blocks()) {
    const double temperature = a.temperature[r];
    int64_t target;
    const RowKind kind = row_kind(a.targets, a.global_vocab, a.mask, temperature, r, &target);
    const float g = a.grad_log_probs ? a.grad_log_probs[r] : 0, h = a.grad_entropy ? a.grad_entropy[r] : 0;
    char* d = a.d.row(r);
    if (kind != kProper || (g == 0 && h == 0)) {
      fill_row<D>(d, a.d.vocab, kind == kBad ? NAN : 0.0f);
      continue;
    }
    const char* row = a.x.row(r);
    if (thread() == 0) {
      const int64_t local = a.grad_log_probs ? target - a.vocab_start : -1;
      const int64_t at = local >= 0 && local < a.x.vocab ? local : -1;
      *gradient = row_gradient(temperature, at, at >= 0 ? element<D>(row, at) : 0.0f,
                               a.grad_log_probs ? a.log_probs[r] : 0, a.lse[r], a.entropy ? a.entropy[r] : 0, g, h);
    }
    barrier();
    const RowGradient mine = *gradient;
    barrier(); /* before the next row's is written, and the target's logit overwritten */
    const bool d_aligned = aligned16(d);
    if (h != 0) {
      if (aligned16(row)) write_gradient<D, true, true>(row, d, a.x.vocab, mine, d_aligned);
      else write_gradient<D, false, true>(row, d, a.x.vocab, mine, d_aligned);
    } else {
      if (aligned16(row)) write_gradient<D, true, false>(row, d, a.x.vocab, mine, d_aligned);
      else write_gradient<D, false, false>(row, d, a.x.vocab, mine, d_aligned);
    }
  }
}

/* A thread has a row. */
SIMT_KERNEL void SIMT_BOUNDS(kThreads, 1)
    merge_kernel(const float* parts, int64_t shards, int64_t rows, Ids targets, Temperature temperatures, float* log_probs,
                 float* lse, float* entropy) {
  for (int64_t r = block() * threads() + thread(); r < rows; r += blocks() * threads()) {
    const double temperature = temperatures[r];
    const bool ignored = targets && targets[r] == TEAMTR_IGNORE;
    if (ignored || !good_temperature(temperature)) {
      const double value = ignored ? 0 : NAN;
      write(log_probs, r, value);
      write(lse, r, value);
      write(entropy, r, value);
      continue;
    }
    float target;
    const Finished f(merged_parts(parts + r * 4, shards, rows * 4, temperature, &target), temperature);
    write(log_probs, r, f.log_prob(target));
    write(lse, r, f.lse);
    write(entropy, r, f.entropy);
  }
}

template <class D> int32_t run_forward(const Place& place, const Forward& a) {
  const Launch l{place, blocks_for(a.x.rows), threads_for(a.x.vocab, D::kDtype), kThreads / kWarp * sizeof(Online)};
  if (a.entropy || a.parts) return launch<forward_kernel<D, true>>(l, a);
  return launch<forward_kernel<D, false>>(l, a);
}

int32_t run_forward(const Place& place, const Forward& a) {
  if (a.x.dtype == TEAMTR_F32) return run_forward<F32>(place, a);
  return a.x.dtype == TEAMTR_BF16 ? run_forward<Bf16>(place, a) : run_forward<F16>(place, a);
}

int32_t run_backward(const Place& place, const Backward& a) {
  const Launch l{place, blocks_for(a.x.rows), threads_for(a.x.vocab, a.x.dtype), sizeof(RowGradient)};
  if (a.x.dtype == TEAMTR_F32) return launch<backward_kernel<F32>>(l, a);
  return a.x.dtype == TEAMTR_BF16 ? launch<backward_kernel<Bf16>>(l, a) : launch<backward_kernel<F16>>(l, a);
}

}  // namespace

int32_t log_probs(const Place& place, const Matrix& x, Ids targets, Temperature temperature, float* log_probs, float* lse,
                  float* entropy) {
  return run_forward(place, {x, targets, temperature, nullptr, log_probs, lse, entropy, nullptr, 0, x.vocab});
}

int32_t log_probs_parts(const Place& place, const Matrix& x, Ids targets, int64_t vocab_start, int64_t global_vocab,
                        Temperature temperature, float* parts) {
  return run_forward(place, {x, targets, temperature, nullptr, nullptr, nullptr, nullptr, parts, vocab_start, global_vocab});
}

int32_t log_probs_backward(const Place& place, const Matrix& x, Ids targets, int64_t vocab_start, int64_t global_vocab,
                           Temperature temperature, const float* log_probs, const float* lse, const float* entropy,
                           const float* grad_log_probs, const float* grad_entropy, const Matrix& d) {
  return run_backward(place, {x, targets, vocab_start, global_vocab, temperature, nullptr, log_probs, lse, entropy,
                              grad_log_probs, grad_entropy, d});
}

int32_t log_probs_merge(const Place& place, const float* parts, int64_t shards, int64_t rows, Ids targets,
                        Temperature temperature, float* log_probs, float* lse, float* entropy) {
  const Launch l{place, blocks_for((rows + 255) / 256), 256};
  return launch<merge_kernel>(l, parts, shards, rows, targets, temperature, log_probs, lse, entropy);
}

int32_t log_probs_of_policy_loss(const Place& place, const PolicyLoss& a) {
  return run_forward(place, {a.x, a.targets, a.temperature, a.mask, a.log_probs, a.lse, a.entropy, nullptr, 0, a.x.vocab});
}

int32_t gradient_of_policy_loss(const Place& place, const PolicyLoss& a) {
  return run_backward(place, {a.x, a.targets, 0, a.x.vocab, a.temperature, a.mask, a.log_probs, a.lse, a.entropy,
                              a.d_log_probs, a.d_entropy, a.d});
}

}  // namespace cuda
}  // namespace teamtr
