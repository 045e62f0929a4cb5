/*
 * One row of every vocab-sized kernel, over the sixteen lanes of simd_*.h. Included once per CPU level.
 *
 * How a row is walked. A row is cut into blocks of 2,048 elements, a block into groups of four vectors of 16, one for
 * each of four accumulators; a block's f32 accumulators are then added in double. This order depends on the row's
 * length alone, so a row has the same bits wherever it stands and whoever computes it. Loads need no alignment. The
 * last len % 64 elements are copied into a group padded with -inf, which contributes exactly nothing.
 *
 * Why blocks. A running maximum is kept; a block is summed against the maximum so far while its own maximum is
 * being found, and only if that is a new one (or a tie) is the block, by now in the L1 cache, summed again. So a
 * row is read from memory once, and the second look is rare: about log(blocks) times a row.
 *
 * exp. exp2 of (x - max) * (log2 e / T): the difference first, since x * log2 e - max * log2 e would put one common
 * rounding error into every term. Below 2^-126 the result is 0, so that nothing depends on a subnormal.
 *
 * NaN. max(a, b) answers b when either is NaN. As max(x, m) it forgets NaNs, as max(limit, x) it keeps them; the
 * sums then carry a row's NaN to its end.
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
static constexpr double kLog2e = 1.44269504088896340736;
static constexpr float kInf = std::numeric_limits<float>::infinity();
static constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
static constexpr int kBlockGroups = 32; /* 2,048 elements: 8 KiB of f32, twice in an L1 cache with room to spare */
static constexpr float kLow = -1.7e38f;   /* stands in for -inf where a difference of two must stay a number */

/* ---- dtypes ---- */

struct F32 {
  using T = float;
  static constexpr T kMasked = -std::numeric_limits<float>::infinity();
  TEAMTR_INLINE F load(const T* p) { return TEAMTR_ISA::load(p); }
  TEAMTR_INLINE void store(T* p, F a) { TEAMTR_ISA::store(p, a); }
};

struct Bf16 {
  using T = uint16_t;
  static constexpr T kMasked = 0xff80;
  TEAMTR_INLINE F load(const T* p) { return load_bf16(p); }
  /* Round to nearest even in integers rather than with the avx512_bf16 instruction: that one flushes subnormals, so
   * its bits would differ from other machines', and the store is bound by memory either way. */
  TEAMTR_INLINE void store(T* p, F a) {
    const U u = as_u(a);
    const U rounded = add_u(add_u(u, set_u(0x7fff)), and_u(shr<16>(u), set_u(1)));
    store_u16(p, shr<16>(select_u(eq(a, a), rounded, set_u(0x7fc00000))));
  }
};

struct F16 {
  using T = uint16_t;
  static constexpr T kMasked = 0xfc00;
  TEAMTR_INLINE F load(const T* p) { return load_f16(p); }
  TEAMTR_INLINE void store(T* p, F a) { store_f16(p, a); }
};

template <class D> static inline float one(const typename D::T* p) {
  typename D::T v[16];
  float f[16];
  for (auto& e : v) e = *p;
  store(f, D::load(v));
  return f[0];
}

/* A row in groups of four vectors. What is left over is copied and padded with -inf to one more group. */
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
};

static inline int64_t end_of(int64_t block, int64_t groups) {
  const int64_t end = (block + 1) * kBlockGroups;
  return end < groups ? end : groups;
}

/* Calls step(k, p) for the vectors of block b; vector k of each group goes to accumulator k. */
template <class D, class Step> TEAMTR_INLINE void walk(const Row<D>& row, int64_t b, Step&& step) {
  for (int64_t g = b * kBlockGroups, end = end_of(b, row.groups()); g < end; g++) {
    const typename D::T* p = row.group(g);
    step(0, p);
    step(1, p + 16);
    step(2, p + 32);
    step(3, p + 48);
  }
}

/* The same over two rows of one shape. */
template <class D, class Step> TEAMTR_INLINE void walk(const Row<D>& row_p, const Row<D>& row_q, int64_t b, Step&& step) {
  for (int64_t g = b * kBlockGroups, end = end_of(b, row_p.groups()); g < end; g++) {
    const typename D::T *p = row_p.group(g), *q = row_q.group(g);
    step(0, p, q);
    step(1, p + 16, q + 16);
    step(2, p + 32, q + 32);
    step(3, p + 48, q + 48);
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

/* ---- functions ---- */

/* 2^y for y <= 127, 0 below -126, NaN for NaN. 2^f = 1 + f q(f) on [-1/2, 1/2], relative error 2e-9 before rounding;
 * exactly 1 at 0. *held is y kept from -inf, so that 0 * *held is 0. */
TEAMTR_INLINE F exp2_of(F y, F* held) {
  const F h = max(set(-127.0f), y);
  const F n = round(h);
  const F f = sub(h, n);
  F q = set(0x1.41fbbcp-13f);
  q = fma(q, f, set(0x1.5f3e52p-10f));
  q = fma(q, f, set(0x1.3b2d4cp-7f));
  q = fma(q, f, set(0x1.c6aee8p-5f));
  q = fma(q, f, set(0x1.ebfbdcp-3f));
  q = fma(q, f, set(0x1.62e430p-1f));
  *held = h;
  return zero_if(lt(y, set(-126.0f)), scale2(fma(q, f, set(1.0f)), n));
}

TEAMTR_INLINE F exp2_of(F y) {
  F held;
  return exp2_of(y, &held);
}

TEAMTR_INLINE F phi_over_u2(F u) {
  F r = set(kPhi6);
  r = fma(r, u, set(kPhi5));
  r = fma(r, u, set(kPhi4));
  r = fma(r, u, set(kPhi3));
  r = fma(r, u, set(kPhi2));
  r = fma(r, u, set(kPhi1));
  return fma(r, u, set(kPhi0));
}

static inline float scale_of(double temperature) {
  const double c = kLog2e / temperature;
  return c < std::numeric_limits<float>::max() ? (float)c : std::numeric_limits<float>::max();
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
  walk(row, b, [&](int k, const typename D::T* p) TEAMTR_INLINE_LAMBDA { m.a[k] = max(D::load(p), m.a[k]); });
  return m.total();
}

struct BlockSums {
  double e, ey;
  float max;
  int64_t at_reference; /* with kStrict: elements equal to the reference, which are in neither sum */
};

/* kStrict: leave elements equal to the reference out, and count them. */
template <class D, bool kStrict, bool kEntropy>
static BlockSums block_sums(const Row<D>& row, int64_t b, float reference, float c) {
  Sum e, ey;
  Max m(-kInf);
  int64_t ties = 0;
  const F ref = set(reference), scale = set(c);
  walk(row, b, [&](int k, const typename D::T* p) TEAMTR_INLINE_LAMBDA {
    const F x = D::load(p);
    F held;
    F v = exp2_of(mul(sub(x, ref), scale), &held);
    if (kStrict) {
      const M tie = ge(x, ref);
      ties += count(tie);
      v = zero_if(tie, v);
    } else {
      m.a[k] = max(x, m.a[k]);
    }
    e.a[k] = add(e.a[k], v);
    if (kEntropy) ey.a[k] = fma(v, held, ey.a[k]);
  });
  return {e.total(), kEntropy ? ey.total() : 0.0, kStrict ? reference : m.total(), ties};
}

/* The running state: sum of e = ties + rest, everything relative to max. */
struct Running {
  float max = -kInf;
  double ties = 0, rest = 0, ey = 0; /* ey in units of log2 */

  /* Moves the reference up from max to m. */
  void raise(float m, double c) {
    if (max == -kInf) {
      max = m;
      return; /* nothing but a possible NaN has been summed */
    }
    const double y = ((double)max - (double)m) * c, f = std::exp2(y);
    ey = f > 0 ? f * (ey + (ties + rest) * y) : 0 * rest;
    rest = f * (ties + rest);
    ties = 0;
    max = m;
  }
};

template <class D, bool kEntropy> static RowStats stats_of(const void* x, int64_t vocab, double temperature) {
  const Row<D> row(x, vocab);
  const float c = scale_of(temperature);
  Running r;
  for (int64_t b = 0; b < row.blocks(); b++) {
    BlockSums s;
    float m;
    if (r.max == -kInf) {
      m = block_max(row, b);
    } else {
      s = block_sums<D, false, kEntropy>(row, b, r.max, c);
      m = s.max;
    }
    if (m == kInf) return {kInf, kNaN, kNaN};
    if (m == -kInf && r.max == -kInf) { /* all masked so far; 0 as the reference finds a NaN */
      r.rest += block_sums<D, false, false>(row, b, 0.0f, c).e;
      continue;
    }
    if (m >= r.max) {
      if (m > r.max) r.raise(m, c);
      s = block_sums<D, true, kEntropy>(row, b, m, c);
      r.ties += (double)s.at_reference;
    }
    r.rest += s.e;
    r.ey += s.ey;
    if (std::isnan(r.rest)) return {r.max, kNaN, kNaN};
  }
  return {r.max, (r.ties - 1) + r.rest, r.ey * kLn2};
}

template <class D> static RowStats stats(const void* x, int64_t vocab, double temperature, bool entropy) {
  return entropy ? stats_of<D, true>(x, vocab, temperature) : stats_of<D, false>(x, vocab, temperature);
}

/* ---- gradient of log-prob and entropy ----
 * One read, one write; the target's element is overwritten with the value formed in double. */

template <class D, bool kEntropy> static void gradient_of(const void* x, int64_t vocab, const RowGradient& g, void* d) {
  using T = typename D::T;
  const Row<D> row(x, vocab); /* holds a copy of the tail, so d may be x */
  T* out = static_cast<T*>(d);
  const F shift = set(g.softmax.shift), scale = set(g.softmax.scale), offset = set(g.softmax.offset), b = set(g.b),
          h = set(g.h);
  const auto value = [&](const T* p) TEAMTR_INLINE_LAMBDA {
    F held;
    const F e = exp2_of(fma(sub(D::load(p), shift), scale, offset), &held);
    return mul(e, kEntropy ? fma(h, held, b) : b);
  };
  for (int64_t n = 0; n < row.groups(); n++) {
    T last[kGroup];
    T* to = n < row.whole ? out + n * kGroup : last;
    for (int i = 0; i < kGroup; i += 16) D::store(to + i, value(row.group(n) + i));
    if (to == last) std::memcpy(out + n * kGroup, last, row.tail * sizeof(T));
  }
  if (g.target >= 0) {
    T at[16];
    D::store(at, set(g.at_target));
    out[g.target] = at[0];
  }
}

template <class D> static void gradient(const void* x, int64_t vocab, const RowGradient& g, void* d) {
  g.h != 0.0f ? gradient_of<D, true>(x, vocab, g, d) : gradient_of<D, false>(x, vocab, g, d);
}

/* ---- exact KL(P || Q) of one row ----
 *
 * With r_v = log P_v - log Q_v the sum is taken termwise as sum_v P_v (r_v + expm1(-r_v)): every term is >= 0, equal
 * rows give 0, and nothing cancels. It seems to need both log-normalisers first. It does not, when the policies are
 * near: with u_v = (p_v - q_v) / T - a for any constant a,
 *     G = E_P[u + expm1(-u)],  m = E_P[u],  KL = G - (x - log1p(x)),  x = G - m,  a's error = log1p(x),
 * an identity (E_P[exp(-u)] = 1 + x). If a is about right, x - log1p(x) is small against G, and one sweep is enough.
 * a is p - q at the likeliest token so far; when a likelier one turns up, the sums are moved to its a in closed form.
 * The sweep is given up, and the row done in two, if some |u| > 1 (arbitrary policies show in the first block), if
 * only one of p and q is masked, or if G turns out to be over 64 times KL. Which way a row goes depends on the row. */

struct NearSums {
  BlockSums p;
  double eu, ephi; /* sums of e u and of e (u + expm1(-u)) */
  float largest;   /* of |u| */
};

/* p - q - a. With kShifted the rounding of p - q is added back: harmless where p - q is about as small as what is left
 * of it, it would be all that is left of a small difference between policies whose logits are a constant apart. */
template <bool kShifted> TEAMTR_INLINE F difference(F p, F q, F a) {
  const F d = sub(p, q);
  if (!kShifted) return sub(d, a);
  const F back = sub(d, p); /* -q, but for rounding */
  const F lost = sub(sub(p, sub(d, back)), add(q, back));
  return add(sub(d, a), lost);
}

template <class D, bool kStrict, bool kShifted>
static NearSums near_block(const Row<D>& P, const Row<D>& Q, int64_t b, float reference, float c, float a, float inv_t) {
  Sum e, ey, eu, ephi;
  Max m(-kInf), largest(0.0f);
  int64_t ties = 0;
  const F ref = set(reference), scale = set(c), base = set(a), inverse = set(inv_t), low = set(kLow);
  walk(P, Q, b, [&](int k, const typename D::T* pp, const typename D::T* pq) TEAMTR_INLINE_LAMBDA {
          const F p = max(low, D::load(pp)), q = max(low, D::load(pq));
          F u = mul(difference<kShifted>(p, q, base), inverse);
          u = zero_if(both(le(p, low), le(q, low)), u); /* masked in both */
          largest.a[k] = max(abs(u), largest.a[k]);
          F held;
          const F v = exp2_of(mul(sub(p, ref), scale), &held);
          F rest = v;
          if (kStrict) {
            const M tie = ge(p, ref);
            ties += count(tie);
            rest = zero_if(tie, v);
          } else {
            m.a[k] = max(p, m.a[k]);
          }
          e.a[k] = add(e.a[k], rest);
          ey.a[k] = fma(v, held, ey.a[k]);
          const F vu = mul(v, u);
          eu.a[k] = add(eu.a[k], vu);
          ephi.a[k] = fma(mul(vu, u), phi_over_u2(u), ephi.a[k]);
        });
  return {{e.total(), ey.total(), kStrict ? reference : m.total(), ties}, eu.total(), ephi.total(), largest.total()};
}

template <class D, bool kStrict>
static NearSums near_block_of(const Row<D>& P, const Row<D>& Q, int64_t b, float reference, float c, float a, float inv_t) {
  return std::fabs(a) <= 0.0625f ? near_block<D, kStrict, false>(P, Q, b, reference, c, a, inv_t)
                                 : near_block<D, kStrict, true>(P, Q, b, reference, c, a, inv_t);
}

/* The value of q at the first element of block b of p that equals m. */
template <class D> static float partner(const Row<D>& P, const Row<D>& Q, int64_t b, float m) {
  for (int64_t g = b * kBlockGroups;; g++)
    for (int i = 0; i < kGroup; i += 16) {
      const uint32_t hit = bits(eq(D::load(P.group(g) + i), set(m)));
      if (hit) return one<D>(Q.group(g) + i + __builtin_ctz(hit));
    }
}

template <class D>
static bool kl_near(const Row<D>& P, const Row<D>& Q, double temperature, KlRow* out) {
  const float c = scale_of(temperature), inv_t = (float)(1 / temperature);
  Running r;
  double eu = 0, ephi = 0;
  float a = 0;
  for (int64_t b = 0; b < P.blocks(); b++) {
    NearSums s;
    float m;
    if (b == 0) {
      m = block_max(P, 0);
      if (!(m > kLow)) return false;
    } else {
      s = near_block_of<D, false>(P, Q, b, r.max, c, a, inv_t);
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
          const double f = std::exp2(((double)r.max - (double)m) * c);
          ephi = f * (std::exp(-d) * ephi - eu * std::expm1(-d) + n * phi(d));
          eu = f * (eu + d * n);
        }
        r.raise(m, c);
        a = to;
      }
      s = near_block_of<D, true>(P, Q, b, m, c, a, inv_t);
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

/* r_v = log P_v - log Q_v = (p_v - q_v) / T - log_ratio */
struct LogRatio {
  F a, b, inverse;
  LogRatio(double temperature, double log_ratio) {
    const float high = (float)(log_ratio * temperature);
    a = set(high);
    b = set((float)(log_ratio - (double)high / temperature));
    inverse = set((float)(1 / temperature));
  }
  __attribute__((always_inline)) F of(F p, F q) const {
    F d = difference<true>(p, q, a);
    d = select(eq(d, d), d, sub(p, q)); /* p - q was infinite, so what it lost is NaN */
    const F r = sub(mul(d, inverse), b);
    return max(set(-1e30f), min(set(1e30f), r)); /* 0 * r must be 0 */
  }
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
      walk(P, Q, b, [&](int k, const typename D::T* pp, const typename D::T* pq) TEAMTR_INLINE_LAMBDA {
            const F p = max(low, D::load(pp)), q = max(low, D::load(pq));
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
  out->log_ratio = log_ratio - excess; /* sum Q - P = 0 fixes what rounding left in the normalisers */
}

template <class D>
static void kl(const void* p, const void* q, int64_t vocab, double temperature, bool stats_of_q, KlRow* out) {
  const Row<D> P(p, vocab), Q(q, vocab);
  if (!kl_near<D>(P, Q, temperature, out)) return kl_two_sweeps<D>(P, Q, vocab, temperature, out);
  /* A second look at q, in cache, for its entropy alone: what else is asked for must not change a result's bits. */
  if (stats_of_q) out->q = stats_of<D, true>(q, vocab, temperature);
}

/* ---- gradient of KL(P || Q) ----
 * wrt q: grad (Q - P) / T, as P expm1(-r) where |r| <= 1 so that nothing cancels; wrt p: grad P (r - KL) / T.
 * Two reads, one write; d may be either row. */

template <class D, bool kWrtQ, bool kExtra>
static void kl_gradient_of(const void* p, const void* q, int64_t vocab, const KlGradient& g, void* d) {
  using T = typename D::T;
  const Row<D> P(p, vocab), Q(q, vocab);
  T* out = static_cast<T*>(d);
  const LogRatio ratio(g.temperature, g.log_ratio);
  const F low = set(kLow), one_f = set(1.0f), grad = set((float)(g.grad / g.temperature)), kl = set((float)g.kl);
  const F sp = set(g.p.shift), cp = set(g.p.scale), op = set(g.p.offset);
  const F sq = set(g.q.shift), cq = set(g.q.scale), oq = set(g.q.offset);
  const F eb = set(kExtra ? g.extra->b : 0.0f), eh = set(kExtra ? g.extra->h : 0.0f);
  const auto value = [&](const T* pp, const T* pq) TEAMTR_INLINE_LAMBDA {
    const F x = max(low, D::load(pp)), z = max(low, D::load(pq));
    const F vp = exp2_of(fma(sub(x, sp), cp, op));
    const F r = ratio.of(x, z);
    if (!kWrtQ) return mul(grad, mul(vp, sub(r, kl)));
    F held;
    const F vq = exp2_of(fma(sub(z, sq), cq, oq), &held);
    const F near = mul(vp, sub(mul(mul(r, r), phi_over_u2(r)), r));
    const F difference = mul(grad, select(le(abs(r), one_f), near, sub(vq, vp)));
    return kExtra ? fma(vq, fma(eh, held, eb), difference) : difference;
  };
  for (int64_t n = 0; n < P.groups(); n++) {
    T last[kGroup];
    T* to = n < P.whole ? out + n * kGroup : last;
    for (int i = 0; i < kGroup; i += 16) D::store(to + i, value(P.group(n) + i, Q.group(n) + i));
    if (to == last) std::memcpy(out + n * kGroup, last, P.tail * sizeof(T));
  }
  if (kExtra && g.extra->target >= 0) {
    T at[16];
    D::store(at, set(g.extra->at_target));
    out[g.extra->target] = at[0];
  }
}

template <class D> static void kl_gradient(const void* p, const void* q, int64_t vocab, const KlGradient& g, void* d) {
  if (!g.wrt_q) kl_gradient_of<D, false, false>(p, q, vocab, g, d);
  else if (g.extra) kl_gradient_of<D, true, true>(p, q, vocab, g, d);
  else kl_gradient_of<D, true, false>(p, q, vocab, g, d);
}

/* ---- the floor: every byte read once (and written back), and nothing done with it ---- */

static uint32_t floor_sweep(void* data, int64_t bytes, bool write) {
  U a[4];
  for (auto& v : a) v = set_u(0);
  uint32_t* p = static_cast<uint32_t*>(data);
  for (int64_t i = 0; i + 256 <= bytes; i += 256, p += 64)
    for (int k = 0; k < 4; k++) {
      const U v = load_u(p + 16 * k);
      a[k] = xor_u(a[k], v);
      if (write) store_u(p + 16 * k, v);
    }
  uint32_t lanes[16], sum = 0;
  store_u(lanes, xor_u(xor_u(a[0], a[1]), xor_u(a[2], a[3])));
  for (uint32_t lane : lanes) sum ^= lane;
  return sum;
}

}  // namespace TEAMTR_ISA
}  // namespace teamtr
