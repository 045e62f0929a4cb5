/*
 * One row of every vocab-sized kernel, written with the sixteen-lane vectors of simd_*.h. Included once per CPU level.
 *
 * Order of the sums. A row is divided into blocks of 2,048 elements, a block into groups of four vectors of 16, one vector for
 * each of four accumulators. At the end of a block the f32 accumulators are added in double. This order depends only on the row's
 * length, so a row's bits do not depend on its position or on the thread that computes it. Loads need no alignment. The
 * last len % 64 elements are copied into a group padded with -inf, which adds exactly 0.
 *
 * Why blocks. A block is summed relative to the maximum of the blocks before it, while its own maximum is determined. Only if its
 * maximum is larger than or equal to that one is the block summed again; it is in the L1 cache by then. So a row is read from
 * memory once, and on average about log(blocks) of its blocks are summed twice.
 *
 * exp. exp2 of (x - max) c, c = log2 e / T, with one rounding: fma(x, c, -(max c)). The rounding error of max c is the same for
 * every element, so the sums are corrected for it, in double; see Exponent. Below 2^-126 the result is 0, so that
 * nothing depends on subnormals.
 *
 * NaN. max(a, b) is b when either is NaN: max(x, m) ignores a NaN in x, max(limit, x) keeps it. The sums carry a NaN to the
 * end of the row.
 */
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "inline.h"
#include "kernels.h"

namespace teamtr {
namespace TEAMTR_ISA {

static constexpr double kLn2 = 0.693147180559945309417;
static constexpr float kInf = std::numeric_limits<float>::infinity();
static constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
static constexpr size_t kAhead = 4096;
static constexpr int kBlockGroups = 32; /* 2,048 elements: 8 KiB of f32; two rows' blocks fit into an L1 cache */
static constexpr float kLow = -1.7e38f;   /* replaces -inf where the difference of two logits must not be NaN */

/* ---- dtypes ---- */

/* load(p): sixteen elements in order. load(p, x): a group of 64 as four vectors, in the order that is cheapest for the dtype;
 * store(p, x) stores four vectors in that order. */

struct F32 {
  using T = float;
  static constexpr bool kPairs = false;
  static constexpr T kMasked = -std::numeric_limits<float>::infinity();
  TEAMTR_INLINE F load(const T* p) { return TEAMTR_ISA::load(p); }
  TEAMTR_INLINE void load(const T* p, F* x) {
    for (int k = 0; k < 4; k++) x[k] = load(p + 16 * k);
  }
  TEAMTR_INLINE void store(T* p, const F* x) {
    for (int k = 0; k < 4; k++) TEAMTR_ISA::store(p + 16 * k, x[k]);
  }
};

struct Bf16 {
  using T = uint16_t;
  static constexpr bool kPairs = true; /* load(p, x) gives the even elements of 32, then the odd ones */
  static constexpr T kMasked = 0xff80;
  TEAMTR_INLINE F load(const T* p) { return load_bf16(p); }
  /* Of each 32 elements the even ones, then the odd ones: a shift and a mask, and nothing crosses lanes. */
  TEAMTR_INLINE void load(const T* p, F* x) {
    for (int k = 0; k < 4; k += 2) {
      const U pairs = load_u(p + 16 * k);
      x[k] = as_f(shl<16>(pairs));
      x[k + 1] = as_f(and_u(pairs, set_u(0xffff0000)));
    }
  }
  /* Rounds to nearest even in integers rather than with the avx512_bf16 instruction, which flushes subnormals and so would give
   * other bits than other CPUs. In a NaN the carry does not reach the sign unless the payload's low half is all ones, which it
   * is not in a NaN that was loaded as bf16 or made by arithmetic; for others see quiet. */
  TEAMTR_INLINE U rounded(F a) {
    const U u = as_u(a);
    return add_u(add_u(u, set_u(0x7fff)), and_u(shr<16>(u), set_u(1)));
  }
  TEAMTR_INLINE void store(T* p, const F* x) {
    for (int k = 0; k < 4; k += 2) store_u(p + 16 * k, high_halves(rounded(x[k]), rounded(x[k + 1])));
  }
};

struct F16 {
  using T = uint16_t;
  static constexpr bool kPairs = false;
  static constexpr T kMasked = 0xfc00;
  TEAMTR_INLINE F load(const T* p) { return load_f16(p); }
  TEAMTR_INLINE void load(const T* p, F* x) {
    for (int k = 0; k < 4; k++) x[k] = load(p + 16 * k);
  }
  TEAMTR_INLINE void store(T* p, const F* x) {
    for (int k = 0; k < 4; k++) store_f16(p + 16 * k, x[k]);
  }
};

template <class D> static inline float one(const typename D::T* p) {
  typename D::T v[16];
  float f[16];
  for (auto& e : v) e = *p;
  store(f, D::load(v));
  return f[0];
}

template <class D> static inline void put_one(typename D::T* p, float a) {
  typename D::T v[64];
  const F x[4] = {set(a), set(a), set(a), set(a)};
  D::store(v, x);
  *p = v[0];
}

/* Replaces a NaN, which from a caller may have any payload, by the one that arithmetic makes. */
static inline float quiet(float a) { return a == a ? a : std::numeric_limits<float>::quiet_NaN(); }

/* A row in groups of four vectors. The elements after the last whole group are copied and padded with -inf to one more group. */
static constexpr int kGroup = 64;

template <class D> struct Row {
  using T = typename D::T;
  const T* x;
  int64_t whole; /* groups */
  int tail;      /* elements after them */
  T last[kGroup];

  Row(const void* data, int64_t vocab) : x(static_cast<const T*>(data)), whole(vocab / kGroup), tail((int)(vocab % kGroup)) {
    for (auto& e : last) e = D::kMasked;
    if (tail) std::memcpy(last, x + whole * kGroup, tail * sizeof(T));
  }
  int64_t groups() const { return whole + (tail ? 1 : 0); }
  int64_t blocks() const { return (groups() + kBlockGroups - 1) / kBlockGroups; }
  const T* group(int64_t g) const { return g < whole ? x + g * kGroup : last; }

  /* Prefetches the group kAhead bytes after group g. The hardware prefetcher stops at the end of a page, and between blocks, where
   * nothing is loaded for a while. An address beyond the row is harmless: a prefetch does not fault. */
  __attribute__((always_inline)) void prefetch(int64_t g) const {
    for (size_t i = 0; i < kGroup * sizeof(T); i += 64)
      __builtin_prefetch(reinterpret_cast<const char*>(x) + g * kGroup * sizeof(T) + kAhead + i);
  }
};

static inline int64_t end_of(int64_t block, int64_t groups) {
  const int64_t end = (block + 1) * kBlockGroups;
  return end < groups ? end : groups;
}

/* Calls step(k, x) for the vectors of block b; vector k of each group goes to accumulator k. */
template <class D, class Step> TEAMTR_INLINE void walk(const Row<D>& row, int64_t b, Step&& step) {
  for (int64_t g = b * kBlockGroups, end = end_of(b, row.groups()); g < end; g++) {
    F x[4];
    row.prefetch(g);
    D::load(row.group(g), x);
    step(0, x[0]);
    step(1, x[1]);
    step(2, x[2]);
    step(3, x[3]);
  }
}

/* The same over two rows of one shape. */
template <class D, class Step> TEAMTR_INLINE void walk(const Row<D>& row_p, const Row<D>& row_q, int64_t b, Step&& step) {
  for (int64_t g = b * kBlockGroups, end = end_of(b, row_p.groups()); g < end; g++) {
    F p[4], q[4];
    row_p.prefetch(g);
    row_q.prefetch(g);
    D::load(row_p.group(g), p);
    D::load(row_q.group(g), q);
    step(0, p[0], q[0]);
    step(1, p[1], q[1]);
    step(2, p[2], q[2]);
    step(3, p[3], q[3]);
  }
}

/* Four accumulators, added in double at the end of a block. */
struct Sum {
  F a[4];
  Sum() { for (auto& v : a) v = set(0.0f); }
  double total() const { return (sum(a[0]) + sum(a[1])) + (sum(a[2]) + sum(a[3])); }
};

struct Max {
  F a[4];
  explicit Max(float start) { for (auto& v : a) v = set(start); }
  float total() const { return max_lane(max(max(a[0], a[1]), max(a[2], a[3]))); }
};

/* ---- exp2 and the terms of the KL ---- */

/* 2^y for y <= 127, 0 below -126, NaN for NaN. 2^f = 1 + f q(f) on [-1/2, 1/2], relative error 2e-9 before rounding;
 * exactly 1 at 0. *normal: where y is not below -126. */
TEAMTR_INLINE F exp2_of(F y, M* normal) {
  *normal = not_lt(y, set(-126.0f));
  const F n = round(y);
  const F f = sub(y, n);
  F q = set(0x1.41fbbcp-13f);
  q = fma(q, f, set(0x1.5f3e52p-10f));
  q = fma(q, f, set(0x1.3b2d4cp-7f));
  q = fma(q, f, set(0x1.c6aee8p-5f));
  q = fma(q, f, set(0x1.ebfbdcp-3f));
  q = fma(q, f, set(0x1.62e430p-1f));
  return scale2_if(*normal, fma(q, f, set(1.0f)), n);
}

TEAMTR_INLINE F exp2_of(F y) {
  M normal;
  return exp2_of(y, &normal);
}

/* y = (x - shift) * scale + offset, the argument of exp2 for an element x of a row.
 * fused: y is computed as fma(x, scale, offset - shift * scale). The rounding of that constant changes every y of the row by the same
 * amount, `lost`, which is known in double, and so every 2^y by the same factor; take_back() corrects the sums. Not used where the
 * constant is so large that its rounding error would be large, nor without an FMA, where x * scale would be rounded as well. */
struct Exponent {
  float shift = 0, scale = 0, offset = 0, constant = 0;
  bool fused = false;
  double lost = 0, factor = 1; /* 2^-lost */

  Exponent() = default;
  Exponent(float shift, float scale, float offset) : shift(shift), scale(scale), offset(offset) {
    const double exact = (double)offset - (double)shift * scale;
    if (!kHasFma || !(std::fabs(exact) <= 0x1p20)) return;
    fused = true;
    constant = (float)exact;
    lost = (double)constant - exact;
    factor = std::exp2(-lost);
  }
  explicit Exponent(const Softmax& s) : Exponent(quiet(s.shift), quiet(s.scale), quiet(s.offset)) {}

  /* The sums of 2^y and 2^y y, as if y had not been shifted. */
  void take_back(double* e, double* ey) const {
    *e *= factor;
    *ey = factor * *ey - lost * *e;
  }
};

/* The same in vectors of sixteen. */
template <bool kFused> struct Exponents {
  F shift, scale, constant;
  explicit Exponents(const Exponent& y) : shift(set(y.shift)), scale(set(y.scale)), constant(set(kFused ? y.constant : y.offset)) {}
  __attribute__((always_inline)) F of(F x) const { return fma(kFused ? x : sub(x, shift), scale, constant); }
};

TEAMTR_INLINE F phi_over_u2(F u) {
  F r = set(kPhi6);
  r = fma(r, u, set(kPhi5));
  r = fma(r, u, set(kPhi4));
  r = fma(r, u, set(kPhi3));
  r = fma(r, u, set(kPhi2));
  r = fma(r, u, set(kPhi1));
  return fma(r, u, set(kPhi0));
}

/* phi(d) = d + expm1(-d) in double, without cancellation */
static inline double phi(double d) {
  if (std::fabs(d) < 1e-2) return d * d * (0.5 - d * (1.0 / 6 - d * (1.0 / 24 - d * (1.0 / 120 - d / 720))));
  return d + std::expm1(-d);
}

/* ---- statistics of one row: the forward of log-probs and entropy ----
 * One read. Per block: sum of e, sum of e * y, maximum. */

template <class D> static float block_max(const Row<D>& row, int64_t b) {
  Max m(-kInf);
  walk(row, b, [&](int k, F x) TEAMTR_INLINE_LAMBDA { m.a[k] = max(x, m.a[k]); });
  return m.total();
}

struct BlockSums {
  double e, ey;
  float max;
  int64_t at_reference; /* with kStrict: elements equal to the reference, which are in neither sum */
};

/* kStrict: leave elements equal to the reference out, and count them. kKeep: store e in `kept`, in the order of D::load. */
template <class D, bool kStrict, bool kEntropy, bool kFused, bool kKeep>
static BlockSums block_sums(const Row<D>& row, int64_t b, const Exponent& reference, float* kept) {
  Sum e, ey;
  Max m(-kInf);
  int64_t ties = 0;
  const Exponents<kFused> exponents(reference);
  const F ref = exponents.shift;
  walk(row, b, [&](int k, F x) TEAMTR_INLINE_LAMBDA {
    M normal;
    const F y = exponents.of(x);
    F v = exp2_of(y, &normal);
    if (kKeep) {
      store(kept, v);
      kept += 16;
    }
    if (kStrict) {
      const M tie = ge(x, ref);
      ties += count(tie);
      v = zero_if(tie, v);
    } else {
      m.a[k] = max(x, m.a[k]);
    }
    e.a[k] = add(e.a[k], v);
    if (kEntropy) ey.a[k] = fma_if(normal, v, y, ey.a[k]);
  });
  BlockSums s{e.total(), kEntropy ? ey.total() : 0.0, kStrict ? reference.shift : m.total(), ties};
  reference.take_back(&s.e, &s.ey);
  return s;
}

template <class D, bool kStrict, bool kEntropy, bool kKeep = false>
static BlockSums block_sums(const Row<D>& row, int64_t b, const Exponent& reference, float* kept = nullptr) {
  return kHasFma && reference.fused ? block_sums<D, kStrict, kEntropy, kHasFma, kKeep>(row, b, reference, kept)
                                    : block_sums<D, kStrict, kEntropy, false, kKeep>(row, b, reference, kept);
}

/* The running state: sum of e = ties + rest, everything relative to max. */
struct Running {
  float c;
  float max = -kInf;
  Exponent reference = {};           /* y = (x - max) c */
  double ties = 0, rest = 0, ey = 0; /* ey in units of log2 */

  explicit Running(float c) : c(c) {}

  /* Moves the reference up from max to m; what the sums are multiplied by. */
  double raise(float m) {
    const float from = max;
    max = m;
    reference = Exponent(m, c, 0);
    if (from == -kInf) return 1; /* nothing but a possible NaN has been summed */
    const double y = ((double)from - (double)m) * c, f = std::exp2(y);
    ey = f > 0 ? f * (ey + (ties + rest) * y) : 0 * rest;
    rest = f * (ties + rest);
    ties = 0;
    return f;
  }
};

/* blocks(b, weight, factor) is called for each block b: its sum of e, relative to the maximum so far, and what sums of the blocks before
 * are to be multiplied by because that has risen. kKeep: `kept` gets the e of the last block with a new maximum, in the order of D::load. */
template <class D, bool kEntropy, bool kKeep = false, class Blocks>
static RowStats stats_of(const void* x, int64_t vocab, double temperature, Blocks&& blocks, float* kept = nullptr) {
  const Row<D> row(x, vocab);
  Running r(scale_of(temperature));
  for (int64_t b = 0; b < row.blocks(); b++) {
    BlockSums s{};
    float m;
    double factor = 1;
    if (r.max == -kInf) {
      m = block_max(row, b);
    } else {
      s = block_sums<D, false, kEntropy>(row, b, r.reference);
      m = s.max;
    }
    if (m == kInf) return {kInf, kNaN, kNaN};
    if (m == -kInf && r.max == -kInf) { /* all masked so far; summed with reference 0 so that a NaN is found */
      r.rest += block_sums<D, false, false>(row, b, Exponent(0, r.c, 0)).e;
      blocks(b, 0.0, 1.0);
      continue;
    }
    if (m >= r.max) {
      if (m > r.max) factor = r.raise(m);
      s = block_sums<D, true, kEntropy, kKeep>(row, b, r.reference, kept);
      r.ties += (double)s.at_reference;
    }
    blocks(b, s.e + (double)s.at_reference, factor);
    r.rest += s.e;
    r.ey += s.ey;
    if (std::isnan(r.rest)) return {r.max, kNaN, kNaN};
  }
  return {r.max, (r.ties - 1) + r.rest, r.ey * kLn2};
}

template <class D, bool kEntropy> static RowStats stats_of(const void* x, int64_t vocab, double temperature) {
  return stats_of<D, kEntropy>(x, vocab, temperature, [](int64_t, double, double) {});
}

template <class D> static RowStats stats(const void* x, int64_t vocab, double temperature, bool entropy) {
  return entropy ? stats_of<D, true>(x, vocab, temperature) : stats_of<D, false>(x, vocab, temperature);
}

/* ---- gradient of log-prob and entropy ----
 * One read, one write; the target's element is overwritten with the value formed in double. */

/* Calls value(g, to) for each group g of a row, which puts the group's four vectors into `to`, and writes them to out. */
template <class D, class Value> TEAMTR_INLINE void write(const Row<D>& row, typename D::T* out, Value&& value) {
  F v[4];
  for (int64_t g = 0; g < row.whole; g++) {
    value(g, v);
    D::store(out + g * kGroup, v);
  }
  if (row.tail) {
    typename D::T last[kGroup];
    value(row.whole, v);
    D::store(last, v);
    std::memcpy(out + row.whole * kGroup, last, row.tail * sizeof(*out));
  }
}

template <class D, bool kEntropy, bool kFused>
static void gradient_of(const Row<D>& row, const RowGradient& g, const Exponent& y, typename D::T* out) {
  /* the exact 2^y is the computed one times y.factor, and the exact y is the computed one less y.lost */
  const double b0 = y.factor * ((double)g.b - (kEntropy ? g.h * y.lost : 0)), h0 = y.factor * g.h;
  const F b = set(quiet((float)b0)), h = set(quiet((float)h0));
  const Exponents<kFused> exponents(y);
  write(row, out, [&](int64_t n, F* v) TEAMTR_INLINE_LAMBDA {
    F x[4];
    row.prefetch(n);
    D::load(row.group(n), x);
    for (int k = 0; k < 4; k++) {
      M normal;
      const F exponent = exponents.of(x[k]);
      const F e = exp2_of(exponent, &normal);
      v[k] = kEntropy ? mul_if(normal, e, fma(h, exponent, b)) : mul(e, b);
    }
  });
}

template <class D> static void gradient(const void* x, int64_t vocab, const RowGradient& g, void* d) {
  const Row<D> row(x, vocab); /* holds a copy of the tail, so d may be x */
  const Exponent y(g.softmax);
  typename D::T* out = static_cast<typename D::T*>(d);
  if (g.h != 0.0f)
    kHasFma && y.fused ? gradient_of<D, true, kHasFma>(row, g, y, out) : gradient_of<D, true, false>(row, g, y, out);
  else
    kHasFma && y.fused ? gradient_of<D, false, kHasFma>(row, g, y, out) : gradient_of<D, false, false>(row, g, y, out);
  if (g.target >= 0) put_one<D>(out + g.target, quiet(g.at_target));
}

/* ---- exact KL(P || Q) of one row ----
 *
 * With r_v = log P_v - log Q_v the KL is sum_v P_v (r_v + expm1(-r_v)): every term is >= 0, equal rows give 0, and nothing
 * cancels. Written so, it needs both log-normalisers before the first term. A row is computed in one of three ways; which
 * one depends only on the row.
 *
 * Near policies, one sweep. With u_v = (p_v - q_v) / T - a for any constant a,
 *     G = E_P[u + expm1(-u)],  m = E_P[u],  KL = G - (x - log1p(x)),  x = G - m,  the error of a = log1p(x),
 * which is an identity (E_P[exp(-u)] = 1 + x). If a is nearly right, x - log1p(x) is small compared with G.
 * a is p - q at the likeliest token so far; when a likelier one is found, the sums are converted to the new a in closed form.
 * The sweep is abandoned if some |u| > 1 (for most policies that are far apart, in the first block), if a token is masked in only
 * one of p and q, or if G is more than 64 times the KL.
 *
 * Far policies, one sweep: KL = E_P[(p - q) / T] - (log Z_p - log Z_q), with both rows' statistics. This is accurate enough where the
 * KL is not small compared with the two terms; otherwise its result is discarded.
 *
 * All others, two sweeps: both rows' statistics, then the sum of the terms. */

struct NearSums {
  BlockSums p;
  double eu, ephi; /* sums of e u and of e (u + expm1(-u)) */
  float largest;   /* of |u| */
};

/* p - q - a; 0 where both are kLow, that is, for a token masked in both. With kShifted the rounding error of p - q is added back: for
 * policies whose logits differ by nearly a constant, p - q - a is so small that this error would dominate it. */
template <bool kShifted> TEAMTR_INLINE F difference(F p, F q, F a) {
  const F d = sub(p, q);
  const M unmasked = lt(set(kLow), p);
  if (!kShifted) return sub_if(unmasked, d, a);
  const F back = sub(d, p); /* -q, up to rounding */
  const F lost = sub(sub(p, sub(d, back)), add(q, back));
  return add(sub_if(unmasked, d, a), lost);
}

template <class D, bool kStrict, bool kShifted>
static NearSums near_block(const Row<D>& P, const Row<D>& Q, int64_t b, const Exponent& reference, float a, float inv_t) {
  Sum e, ey, eu, ephi;
  Max m(-kInf), largest(0.0f);
  int64_t ties = 0;
  const Exponents<kHasFma> exponents(reference);
  const F ref = exponents.shift, base = set(a), inverse = set(inv_t), low = set(kLow);
  walk(P, Q, b, [&](int k, F x, F z) TEAMTR_INLINE_LAMBDA {
    const F p = max(low, x), q = max(low, z);
    const F u = mul(difference<kShifted>(p, q, base), inverse);
    largest.a[k] = max_abs(u, largest.a[k]);
    M normal;
    const F y = exponents.of(p);
    const F v = exp2_of(y, &normal);
    F rest = v;
    if (kStrict) {
      const M tie = ge(p, ref);
      ties += count(tie);
      rest = zero_if(tie, v);
    } else {
      m.a[k] = max(p, m.a[k]);
    }
    e.a[k] = add(e.a[k], rest);
    ey.a[k] = fma_if(normal, rest, y, ey.a[k]);
    const F vu = mul(v, u);
    eu.a[k] = add(eu.a[k], vu);
    ephi.a[k] = fma(mul(vu, u), phi_over_u2(u), ephi.a[k]);
  });
  NearSums s{{e.total(), ey.total(), kStrict ? reference.shift : m.total(), ties}, eu.total(), ephi.total(), largest.total()};
  reference.take_back(&s.p.e, &s.p.ey);
  s.eu *= reference.factor;
  s.ephi *= reference.factor;
  return s;
}

template <class D, bool kStrict>
static NearSums near_block_of(const Row<D>& P, const Row<D>& Q, int64_t b, const Exponent& reference, float a, float inv_t) {
  return std::fabs(a) <= 0.0625f ? near_block<D, kStrict, false>(P, Q, b, reference, a, inv_t)
                                 : near_block<D, kStrict, true>(P, Q, b, reference, a, inv_t);
}

/* The value of q at an element of block b where p equals m. */
template <class D> static float partner(const Row<D>& P, const Row<D>& Q, int64_t b, float m) {
  for (int64_t g = b * kBlockGroups;; g++) {
    F p[4], q[4];
    D::load(P.group(g), p);
    D::load(Q.group(g), q);
    for (int k = 0; k < 4; k++) {
      const uint32_t hits = bits(eq(p[k], set(m)));
      if (!hits) continue;
      float lanes[16];
      store(lanes, q[k]);
      return lanes[__builtin_ctz(hits)];
    }
  }
}

template <class D>
static bool kl_near(const Row<D>& P, const Row<D>& Q, double temperature, KlRow* out) {
  const float inv_t = (float)(1 / temperature);
  Running r(scale_of(temperature));
  double eu = 0, ephi = 0;
  float a = 0;
  for (int64_t b = 0; b < P.blocks(); b++) {
    NearSums s;
    float m;
    if (b == 0) {
      m = block_max(P, 0);
      if (!(m > kLow)) return false;
    } else {
      s = near_block_of<D, false>(P, Q, b, r.reference, a, inv_t);
      m = s.p.max;
    }
    if (m >= r.max) {
      if (m == kInf) return false;
      if (m > r.max) {
        const float q = partner(P, Q, b, m);
        const float to = m - q;
        if (!(std::fabs(to) <= -kLow)) return false;
        if (b > 0) { /* u' = u + d in every term so far */
          const double d = ((double)a - (double)to) / temperature, n = r.ties + r.rest;
          if (std::fabs(d) > 4) return false;
          const double f = std::exp2(((double)r.max - (double)m) * r.c);
          ephi = f * (std::exp(-d) * ephi - eu * std::expm1(-d) + n * phi(d));
          eu = f * (eu + d * n);
        }
        r.raise(m);
        if (r.reference.fused != kHasFma) return false;
        a = to;
      }
      s = near_block_of<D, true>(P, Q, b, r.reference, a, inv_t);
      r.ties += (double)s.p.at_reference;
    }
    if (!(s.largest <= 1.0f)) return false;
    r.rest += s.p.e;
    r.ey += s.p.ey;
    eu += s.eu;
    ephi += s.ephi;
    if (std::isnan(eu) || std::isnan(r.rest)) return false;
  }
  if (!near_kl(r.ties + r.rest, eu, ephi, (double)a / temperature, out)) return false;
  out->p = {r.max, (r.ties - 1) + r.rest, r.ey * kLn2};
  return true;
}

struct FarSums {
  BlockSums p, q;
  double cross;  /* sum of e_p y_q */
  bool infinite; /* a token has a probability in P and none in Q */
};

template <class D, bool kStrict>
static FarSums far_block(const Row<D>& P, const Row<D>& Q, int64_t b, const Exponent& p, const Exponent& q) {
  Sum ep, eyp, eq, eyq, cross;
  Max mp(-kInf), mq(-kInf);
  int64_t ties_p = 0, ties_q = 0;
  const Exponents<kHasFma> exponents_p(p), exponents_q(q);
  const F low = set(kLow);
  M alone = lt(low, low);
  walk(P, Q, b, [&](int k, F x, F z) TEAMTR_INLINE_LAMBDA {
    M normal_p, normal_q;
    const F yp = exponents_p.of(x), yq = exponents_q.of(z);
    F vp = exp2_of(yp, &normal_p), vq = exp2_of(yq, &normal_q);
    alone = either(alone, both(le(z, low), lt(low, x)));
    cross.a[k] = fma_if(normal_p, vp, max(set(-1e30f), yq), cross.a[k]);
    if (kStrict) {
      const M tie_p = ge(x, exponents_p.shift), tie_q = ge(z, exponents_q.shift);
      ties_p += count(tie_p);
      ties_q += count(tie_q);
      vp = zero_if(tie_p, vp);
      vq = zero_if(tie_q, vq);
    } else {
      mp.a[k] = max(x, mp.a[k]);
      mq.a[k] = max(z, mq.a[k]);
    }
    ep.a[k] = add(ep.a[k], vp);
    eyp.a[k] = fma_if(normal_p, vp, yp, eyp.a[k]);
    eq.a[k] = add(eq.a[k], vq);
    eyq.a[k] = fma_if(normal_q, vq, yq, eyq.a[k]);
  });
  FarSums s{{ep.total(), eyp.total(), kStrict ? p.shift : mp.total(), ties_p},
            {eq.total(), eyq.total(), kStrict ? q.shift : mq.total(), ties_q},
            cross.total(),
            any(alone)};
  p.take_back(&s.p.e, &s.p.ey);
  q.take_back(&s.q.e, &s.q.ey);
  s.cross = p.factor * s.cross - q.lost * (s.p.e + (double)ties_p);
  return s;
}

template <class D>
static bool kl_far(const Row<D>& P, const Row<D>& Q, double temperature, KlRow* out) {
  Running p(scale_of(temperature)), q(p.c);
  double cross = 0;
  bool infinite = false;
  for (int64_t b = 0; b < P.blocks(); b++) {
    FarSums s;
    if (b == 0) {
      s.p.max = block_max(P, 0);
      s.q.max = block_max(Q, 0);
      if (!(s.p.max > kLow) || !(s.q.max > kLow)) return false;
    } else {
      s = far_block<D, false>(P, Q, b, p.reference, q.reference);
    }
    if (s.p.max >= p.max || s.q.max >= q.max) {
      if (s.p.max == kInf || s.q.max == kInf) return false;
      if (s.p.max > p.max) cross *= p.raise(s.p.max);
      if (s.q.max > q.max) {
        if (b > 0) cross += ((double)q.max - (double)s.q.max) * q.c * (p.ties + p.rest);
        q.raise(s.q.max);
      }
      if (p.reference.fused != kHasFma || q.reference.fused != kHasFma) return false;
      s = far_block<D, true>(P, Q, b, p.reference, q.reference);
      p.ties += (double)s.p.at_reference;
      q.ties += (double)s.q.at_reference;
    }
    p.rest += s.p.e, p.ey += s.p.ey;
    q.rest += s.q.e, q.ey += s.q.ey;
    cross += s.cross;
    infinite |= s.infinite;
    if (std::isnan(p.rest) || std::isnan(q.rest)) return false;
  }
  out->p = {p.max, (p.ties - 1) + p.rest, p.ey * kLn2};
  out->q = {q.max, (q.ties - 1) + q.rest, q.ey * kLn2};
  out->has_q = true;
  const double log_z = std::log1p(out->p.rest) - std::log1p(out->q.rest);
  const double mean = (p.ey - cross) * kLn2 / (1 + out->p.rest), kl = mean - log_z;
  out->log_ratio = ((double)p.max - (double)q.max) / temperature + log_z;
  out->kl = infinite ? (double)kInf : kl;
  return infinite || (kl >= 0.25 && kl * 64 >= std::fabs(log_z));
}

/* r_v = log P_v - log Q_v = (p_v - q_v) / T - log_ratio */
struct LogRatio {
  F a, b, inverse;
  LogRatio(double temperature, double log_ratio) {
    const float high = (float)(log_ratio * temperature);
    a = set(quiet(high));
    b = set(quiet((float)(log_ratio - (double)high / temperature)));
    inverse = set(quiet((float)(1 / temperature)));
  }
  /* p - q - a, corrected for the rounding error of p - q; NaN where p or q is infinite */
  __attribute__((always_inline)) F accurate(F p, F q) const {
    const F d = sub(p, q), back = sub(d, p);
    return add(sub(d, a), sub(sub(p, sub(d, back)), add(q, back)));
  }
  /* for p and q that are not NaN */
  __attribute__((always_inline)) F of(F p, F q) const {
    F d = accurate(p, q);
    d = select(eq(d, d), d, sub(p, q)); /* p - q was infinite, so its rounding error is NaN */
    const F r = sub(mul(d, inverse), b);
    return max(set(-1e30f), min(set(1e30f), r)); /* 0 * r must be 0 */
  }
  /* NaN where one is infinite */
  __attribute__((always_inline)) F plain(F p, F q) const { return sub(mul(accurate(p, q), inverse), b); }
};

template <class D> static void kl_two_sweeps(const Row<D>& P, const Row<D>& Q, int64_t vocab, double temperature, KlRow* out) {
  out->p = stats_of<D, true>(P.x, vocab, temperature);
  out->q = stats_of<D, true>(Q.x, vocab, temperature);
  out->has_q = true;
  out->kl = out->log_ratio = kNaN;
  const auto proper = [](const RowStats& s) { return s.max > -kInf && s.max < kInf && !std::isnan(s.rest); };
  if (!proper(out->p) || !proper(out->q)) return;
  const Softmax sp = softmax_of(out->p, temperature), sq = softmax_of(out->q, temperature);
  const double log_ratio = ((double)out->p.max - (double)out->q.max) / temperature +
                           (std::log1p(out->p.rest) - std::log1p(out->q.rest));
  const LogRatio ratio(temperature, log_ratio);
  const F low = set(kLow), one_f = set(1.0f), scale = set(sp.scale);
  double kl = 0, excess = 0;
  bool infinite = false;
  for (int64_t b = 0; b < P.blocks(); b++) {
    Sum terms, differences;
    walk(P, Q, b, [&](int k, F x, F z) TEAMTR_INLINE_LAMBDA {
      const F p = max(low, x), q = max(low, z);
      const F vp = exp2_of(fma(sub(p, set(sp.shift)), scale, set(sp.offset)));
      const F vq = exp2_of(fma(sub(q, set(sq.shift)), scale, set(sq.offset)));
      const F r = ratio.of(p, q);
      infinite |= any(both(le(q, low), lt(low, p)));
      const M small = le(abs(r), one_f);
      const F r2p = mul(mul(r, r), phi_over_u2(r));
      const F far_diff = sub(vq, vp);
      terms.a[k] = add(terms.a[k], select(small, mul(vp, r2p), fma(vp, r, far_diff)));
      differences.a[k] = add(differences.a[k], select(small, mul(vp, sub(r2p, r)), far_diff));
    });
    kl += terms.total();
    excess += differences.total();
  }
  out->kl = infinite ? (double)kInf : (kl > 0 ? kl : 0);
  out->log_ratio = log_ratio - excess; /* sum Q - P is 0, so the excess is the rounding error of the normalisers */
}

template <class D>
static void kl(const void* p, const void* q, int64_t vocab, double temperature, bool stats_of_q, KlRow* out) {
  const Row<D> P(p, vocab), Q(q, vocab);
  if (kl_near<D>(P, Q, temperature, out)) {
    /* q, which is in the cache, is read again for its entropy alone: which results are wanted must not change the bits of the others. */
    if (stats_of_q) out->q = stats_of<D, true>(q, vocab, temperature);
  } else if (!kl_far<D>(P, Q, temperature, out)) {
    kl_two_sweeps<D>(P, Q, vocab, temperature, out);
  }
}

/* ---- gradient of KL(P || Q) ----
 * wrt q: grad (Q - P) / T, as P expm1(-r) where |r| <= 1 so that nothing cancels; wrt p: grad P (r - KL) / T.
 * Two reads, one write; d may be either row. */

template <class D, bool kWrtQ, bool kExtra>
static void kl_gradient_of(const void* p, const void* q, int64_t vocab, const KlGradient& g, void* d) {
  const Row<D> P(p, vocab), Q(q, vocab);
  typename D::T* out = static_cast<typename D::T*>(d);
  const LogRatio ratio(g.temperature, g.log_ratio);
  const F low = set(kLow), one_f = set(1.0f), grad = set(quiet((float)(g.grad / g.temperature))), kl = set(quiet((float)g.kl));
  const Exponent of_p(g.p), of_q(g.q);
  const Exponents<false> yp(of_p), yq(of_q);
  const F eb = set(quiet(kExtra ? g.extra->b : 0.0f)), eh = set(quiet(kExtra ? g.extra->h : 0.0f));
  write(P, out, [&](int64_t n, F* v) TEAMTR_INLINE_LAMBDA {
    F x[4], z[4];
    P.prefetch(n);
    Q.prefetch(n);
    D::load(P.group(n), x);
    D::load(Q.group(n), z);
    if (kWrtQ && !kExtra) { /* a group in which P and Q are near each other at every token needs no exp for q */
      F r[4];
      for (int k = 0; k < 4; k++) r[k] = ratio.plain(x[k], z[k]);
      if (all(both(both(le(abs(r[0]), one_f), le(abs(r[1]), one_f)), both(le(abs(r[2]), one_f), le(abs(r[3]), one_f))))) {
        for (int k = 0; k < 4; k++) {
          const F vp = exp2_of(yp.of(x[k]));
          v[k] = mul(grad, mul(vp, sub(mul(mul(r[k], r[k]), phi_over_u2(r[k])), r[k])));
        }
        return;
      }
    }
    for (int k = 0; k < 4; k++) {
      const F a = max(low, x[k]), b = max(low, z[k]);
      const F vp = exp2_of(yp.of(a));
      const F r = ratio.of(a, b);
      if (!kWrtQ) {
        v[k] = mul(grad, mul(vp, sub(r, kl)));
        continue;
      }
      M normal;
      const F exponent = yq.of(b);
      const F vq = exp2_of(exponent, &normal);
      const F near = mul(vp, sub(mul(mul(r, r), phi_over_u2(r)), r));
      v[k] = mul(grad, select(le(abs(r), one_f), near, sub(vq, vp)));
      if (kExtra) v[k] = add(v[k], mul_if(normal, vq, fma(eh, exponent, eb)));
    }
  });
  if (kExtra && g.extra->target >= 0) put_one<D>(out + g.extra->target, quiet(g.extra->at_target));
}

template <class D> static void kl_gradient(const void* p, const void* q, int64_t vocab, const KlGradient& g, void* d) {
  if (!g.wrt_q) kl_gradient_of<D, false, false>(p, q, vocab, g, d);
  else if (g.extra) kl_gradient_of<D, true, true>(p, q, vocab, g, d);
  else kl_gradient_of<D, true, false>(p, q, vocab, g, d);
}

}  // namespace TEAMTR_ISA
}  // namespace teamtr
