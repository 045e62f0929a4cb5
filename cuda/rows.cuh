/*
 * How a block, or a cluster of blocks, walks a row of logits, and the running statistics of a row.
 *
 * A row is cut into vectors of 16 bytes. Of the n threads that share a row, thread t has the vectors t, t + n, t + 2n, ...:
 * who has what depends on the row's length alone, so a row has the same bits wherever it stands. A step takes kUnroll
 * vectors at once, loaded before any is used, since what is in flight is what fills the memory's bandwidth: 512 threads with
 * 64 bytes each, two blocks to a multiprocessor, have 64 KiB under way. A row whose address is not a multiple of 16 is
 * read in elements, in the same order. Elements behind the row's end are -inf, which contributes exactly nothing.
 */
#ifndef TEAMTR_ROWS_CUH
#define TEAMTR_ROWS_CUH

#include "simt.cuh"

namespace teamtr {
namespace cuda {

constexpr int kThreads = 512; /* of a block at most */
constexpr int kUnroll = 4;    /* vectors of a thread under way */
constexpr float kInfinity = INFINITY;
constexpr float kLow = -1.7e38f; /* stands in for -inf where a difference of two must stay a number */

/* ---- dtypes ---- */

struct F32 {
  static constexpr int kDtype = TEAMTR_F32, kBytes = 4, kPerVector = 4;
  SIMT_DEVICE void unpack(const Vec16& v, float* x) {
    for (int i = 0; i < 4; i++) x[i] = as_float(v.w[i]);
  }
  SIMT_DEVICE void pack(const float* x, Vec16* v) {
    for (int i = 0; i < 4; i++) v->w[i] = as_bits(x[i]);
  }
  static constexpr uint32_t kMasked = 0xff800000;
};

struct Bf16 {
  static constexpr int kDtype = TEAMTR_BF16, kBytes = 2, kPerVector = 8;
  SIMT_DEVICE void unpack(const Vec16& v, float* x) {
    for (int i = 0; i < 4; i++) {
      x[2 * i] = as_float(v.w[i] << 16);
      x[2 * i + 1] = as_float(v.w[i] & 0xffff0000u);
    }
  }
  SIMT_DEVICE void pack(const float* x, Vec16* v) {
    for (int i = 0; i < 4; i++) v->w[i] = to_bf16x2(x[2 * i], x[2 * i + 1]);
  }
  static constexpr uint32_t kMasked = 0xff80ff80;
};

struct F16 {
  static constexpr int kDtype = TEAMTR_F16, kBytes = 2, kPerVector = 8;
  SIMT_DEVICE void unpack(const Vec16& v, float* x) {
    for (int i = 0; i < 4; i++) {
      x[2 * i] = f16_to_float((uint16_t)v.w[i]);
      x[2 * i + 1] = f16_to_float((uint16_t)(v.w[i] >> 16));
    }
  }
  SIMT_DEVICE void pack(const float* x, Vec16* v) {
    for (int i = 0; i < 4; i++) v->w[i] = to_f16x2(x[2 * i], x[2 * i + 1]);
  }
  static constexpr uint32_t kMasked = 0xfc00fc00;
};

/* One element of a row. */
template <class D> SIMT_DEVICE float element(const char* row, int64_t v) {
  Vec16 one = {};
  if (D::kBytes == 4) one.w[0] = reinterpret_cast<const uint32_t*>(row)[v];
  else one.w[0] = reinterpret_cast<const uint16_t*>(row)[v];
  float x[D::kPerVector];
  D::unpack(one, x);
  return x[0];
}

template <class D> SIMT_DEVICE void set_element(char* row, int64_t v, float value) {
  float x[D::kPerVector] = {value};
  Vec16 one;
  D::pack(x, &one);
  if (D::kBytes == 4) reinterpret_cast<uint32_t*>(row)[v] = one.w[0];
  else reinterpret_cast<uint16_t*>(row)[v] = (uint16_t)one.w[0];
}

/* ---- vectors of a row ---- */

SIMT_DEVICE bool aligned16(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

/* Vectors are counted in 32 bits, of which 2^31 elements need 29; elements and bytes in 64. */
template <class D> SIMT_DEVICE int vectors_of(int64_t vocab) { return (int)((vocab + D::kPerVector - 1) / D::kPerVector); }
template <class D> SIMT_DEVICE int whole_vectors_of(int64_t vocab) { return (int)(vocab / D::kPerVector); }

/* Vector i, element by element: of a row that is not aligned, or the last of one whose length does not divide. */
template <class D> SIMT_DEVICE Vec16 load_elements(const char* row, int i, int64_t vocab) {
  Vec16 v;
  for (int k = 0; k < 4; k++) v.w[k] = D::kMasked;
  const int64_t first = (int64_t)i * D::kPerVector;
  SIMT_UNROLL
  for (int k = 0; k < D::kPerVector; k++) {
    if (first + k >= vocab) continue;
    if (D::kBytes == 4) {
      v.w[k] = reinterpret_cast<const uint32_t*>(row)[first + k];
    } else {
      const uint32_t e = reinterpret_cast<const uint16_t*>(row)[first + k];
      v.w[k / 2] = k % 2 ? (v.w[k / 2] & 0xffffu) | e << 16 : (v.w[k / 2] & 0xffff0000u) | e;
    }
  }
  return v;
}

/* Vector i, or -inf where the row has none. kAligned: the row's address is a multiple of 16. */
template <class D, bool kAligned> SIMT_DEVICE Vec16 load_vector(const char* row, int i, int64_t vocab) {
  if (kAligned && i < whole_vectors_of<D>(vocab)) return load16(row + (int64_t)i * 16);
  return load_elements<D>(row, i, vocab);
}

template <class D, bool kAligned> SIMT_DEVICE void store_vector(char* row, int i, int64_t vocab, const float* x) {
  Vec16 v;
  D::pack(x, &v);
  const int64_t first = (int64_t)i * D::kPerVector;
  if (kAligned && i < whole_vectors_of<D>(vocab)) {
    store16(row + (int64_t)i * 16, v);
    return;
  }
  SIMT_UNROLL
  for (int k = 0; k < D::kPerVector; k++) { /* an array indexed by constants alone stays in registers */
    if (first + k >= vocab) continue;
    if (D::kBytes == 4) reinterpret_cast<uint32_t*>(row)[first + k] = v.w[k];
    else reinterpret_cast<uint16_t*>(row)[first + k] = (uint16_t)(v.w[k / 2] >> (k % 2 * 16));
  }
}

/* The threads that share a row: `count` of them, this one being `rank`. */
struct Team {
  int rank, count;
};
SIMT_DEVICE Team block_team() { return {thread(), threads()}; }
SIMT_DEVICE Team cluster_team() {
  return {cluster_rank() * threads() + thread(), cluster_blocks() * threads()};
}

/* Calls step(first, vectors) with the thread's next kUnroll vectors, `first` being the number of the first one and the
 * others `team.count` apart. */
template <class D, bool kAligned, class Step>
SIMT_DEVICE void walk(const char* row, int64_t vocab, const Team& team, Step&& step) {
  const int n = vectors_of<D>(vocab);
  for (int i = team.rank; i < n; i += team.count * kUnroll) {
    Vec16 v[kUnroll];
    for (int k = 0; k < kUnroll; k++) v[k] = load_vector<D, kAligned>(row, i + k * team.count, vocab);
    step(i, v);
  }
}

/* ---- running statistics ---- */

/* softmax(x / T) of what a thread has seen. While max is -inf nothing has been; else the sum of exp2((x - max) scale) is
 * 1 + rest: one occurrence of the maximum is left out, so that log p and 1 - p stay exact as p -> 1. */
struct Online {
  float max = -kInfinity, rest = 0, ey = 0; /* ey: sum of e y, y = (x - max) scale, in bits */

  /* Moves the reference up to m; what has been the maximum is then one of the rest. The factor by which sums of e shrink. */
  SIMT_DEVICE_MEMBER float raise(float m, float scale) {
    float f = 0;
    if (max > -kInfinity) {
      const float y = (max - m) * scale;
      f = exp2_approx(y);
      ey = f > 0 ? f * fmaf(rest + 1, y, ey) : 0 * rest;
      rest = f * (rest + 1);
    }
    max = m;
    return f;
  }

  /* n elements more. */
  template <int n, bool kEntropy> SIMT_DEVICE_MEMBER void add(const float* x, float scale) {
    float m = max;
    for (int i = 0; i < n; i++) m = fmaxf(m, x[i]); /* forgets NaNs; the sums below keep them */
    const bool higher = m > max;
    if (higher) raise(m, scale);
    if (m == -kInfinity) { /* all masked so far, or NaN */
      for (int i = 0; i < n; i++) rest = x[i] != x[i] ? x[i] : rest;
      return;
    }
    float sums[4] = {}, eys[4] = {};
    int ties = higher ? -1 : 0;
    for (int i = 0; i < n; i++) {
      const bool tie = x[i] >= m;
      const float y = (x[i] - m) * scale, e = exp2_approx(y);
      ties += tie;
      sums[i % 4] += tie ? 0.0f : e;
      if (kEntropy) eys[i % 4] = fmaf(e, fmaxf(y, -127.0f), eys[i % 4]);
    }
    rest += ((sums[0] + sums[1]) + (sums[2] + sums[3])) + (float)ties;
    if (kEntropy) ey += (eys[0] + eys[1]) + (eys[2] + eys[3]);
  }

  /* What two threads have seen together; symmetric but for ties. */
  static SIMT_DEVICE_MEMBER Online merged(Online a, Online b, float scale) {
    if (b.max > a.max) {
      const Online c = a;
      a = b;
      b = c;
    }
    if (b.max == -kInfinity) { /* only a possible NaN */
      a.rest += b.rest;
      return a;
    }
    const float y = (b.max - a.max) * scale, f = exp2_approx(y);
    a.rest += f * (1 + b.rest);
    a.ey += f > 0 ? f * fmaf(1 + b.rest, y, b.ey) : 0.0f;
    return a;
  }

  SIMT_DEVICE_MEMBER RowStats finish() const { return {max, (double)rest, (double)ey * 0.693147180559945309417}; }
};

SIMT_DEVICE Online warp_merged(Online o, float scale) {
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    Online other;
    other.max = exchange_xor(o.max, distance);
    other.rest = exchange_xor(o.rest, distance);
    other.ey = exchange_xor(o.ey, distance);
    o = Online::merged(o, other, scale);
  }
  return o;
}

/* The block's, in all threads. `slots` are warps() places in shared memory, free again after the next barrier. */
SIMT_DEVICE Online block_merged(Online o, float scale, Online* slots) {
  o = warp_merged(o, scale);
  if (lane() == 0) slots[warp()] = o;
  barrier();
  Online all = slots[0];
  for (int w = 1; w < warps(); w++) all = Online::merged(all, slots[w], scale);
  return all;
}

SIMT_DEVICE float scale_of(double temperature) {
  const double c = 1.44269504088896340736 / temperature;
  return c < 3.4028234663852886e38 ? (float)c : 3.4028234663852886e38f;
}

/* ---- what a row is asked ---- */

SIMT_DEVICE bool good_temperature(double t) { return t > 0 && t < kInfinity; }

/* What is known of a row before it is looked at. */
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

/* The gradient at an element that is not the target, from its logit. */
SIMT_DEVICE float gradient_at(float x, const RowGradient& g) {
  const float y = fmaf(x - g.softmax.shift, g.softmax.scale, g.softmax.offset);
  return exp2_approx(y) * fmaf(g.h, fmaxf(y, -127.0f), g.b);
}

/* The target's element is written again, by the thread that wrote its vector, so that the order is the program's. */
template <class D> SIMT_DEVICE void write_target(char* d, const Team& team, const RowGradient& g) {
  if (g.target >= 0 && g.target / D::kPerVector % team.count == team.rank) set_element<D>(d, g.target, g.at_target);
}

template <class D> SIMT_DEVICE void fill_row(char* d, int64_t vocab, const Team& team, float value) {
  float x[D::kPerVector];
  for (int e = 0; e < D::kPerVector; e++) x[e] = value;
  const bool aligned = aligned16(d);
  for (int i = team.rank; i < vectors_of<D>(vocab); i += team.count) {
    if (aligned) store_vector<D, true>(d, i, vocab, x);
    else store_vector<D, false>(d, i, vocab, x);
  }
}

/* Threads for rows of a length: few for short ones, that their reductions may be short too. */
static inline int threads_for(int64_t vocab, int dtype) {
  const int64_t vectors = (vocab * (int64_t)bytes_of(dtype) + 15) / 16, wanted = (vectors + kUnroll - 1) / kUnroll;
  if (wanted >= kThreads) return kThreads;
  return (int)((wanted + kWarp - 1) / kWarp * kWarp);
}

/* Rows are the grid's only dimension; beyond what a grid may have, a block takes several. */
static inline int64_t blocks_for(int64_t rows) { return rows < kMostBlocks ? rows : kMostBlocks; }

}  // namespace cuda
}  // namespace teamtr
#endif
