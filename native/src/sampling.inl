/*
 * One row of teamtr_sample, over the sixteen lanes of simd_*.h. Included after kernels.inl, once per CPU level.
 *
 * Job. Statistics, exactly those of log-probs; the token that wins the race below; where the filters cut the row. Memory
 * is read once, by the statistics; the row is in the L2 cache for the sweeps that follow: one for the race, mostly a part
 * of one for filters, or all of one to four where log-probs among the kept are asked for. Nothing is allocated: scratch
 * is 75 KiB of stack, however long the row.
 *
 * The race. Token v's clock rings at E_v / e_v, with E_v exponential and e_v = exp((x_v - max) / T); the first to ring
 * is a draw from the softmax. That is Gumbel-max: -log E_v is Gumbel noise, and argmax x_v / T - log E_v is argmax
 * e_v / E_v, which needs one logarithm less per token. Equal scores e_v / E_v go to the lower id.
 *
 * The noise. Tokens come in groups of 64, those of one lane in 64 vectors: token v is member
 * (v >> 6 & 31) * 2 + (v >> 4 & 1) of group g = (v >> 11) * 32 + (v >> 5 & 1) * 16 + (v & 15). The first clock of a group
 * to ring, before the weights, is one exponential over 64, and each member is as likely to be it; the others ring later
 * by exponentials of their own (they have no memory). So with independent M_g, J_g and D_v
 *     E_v = M_g / 64                 if v is member J_g of its group,
 *           M_g / 64 + D_v           otherwise,
 * are independent exponentials, as if drawn one by one; but now a group's best score is at most max e_v / (M_g / 64),
 * and that costs a maximum per vector and 1/32 of the random numbers. Only groups that may still win are looked into:
 * for V = 151,936 and logits N(0, 3), 40 of 2,374; for flat ones, 3.
 *
 * Its bits. Philox4x32-10 of key (seed) and counter (c0, step, row id low, row id high):
 *     M_g, J_g   c0 = (v >> 11) * 16 + (v & 15), words 0, 1, or 2, 3 if v has bit 5; J_g is the word's low 6 bits
 *     D_v        c0 = 2^31 + g * 16 + member % 16, word member / 16
 * and word k stands for -log(1 - (k + 1/2) / 2^32): never 0, at most 22.9.
 *
 * The filters. All three keep a prefix of the tokens ordered by logit, largest first, and then id. So what is kept is a
 * cut: the logits above some t, and the first few that equal t. Nothing is sorted. With F(t) the weight of the logits
 * above t, where a logit weighs 1 for top-k and e_v for top-p, t is the smallest with F(t) < target. A sample of the row
 * brackets it, one sweep sums what is above the bracket and collects the few thousand logits within, and bisection over
 * these finds it. A bracket that misses or holds too much costs more sweeps: of about one row in a hundred up to
 * V = 262,144, of most beyond, a few; of no row more than some 60, as there are 2^32 values of f32 to bisect.
 */
#include "noise.h"

namespace teamtr {
namespace TEAMTR_ISA {

/* ---- noise ---- */

struct Words { U w[4]; };

TEAMTR_INLINE Words philox(U c0, U c1, U c2, U c3, uint32_t k0, uint32_t k1) {
  const U m0 = set_u(kPhiloxM0), m1 = set_u(kPhiloxM1);
  for (int round = 0; round < kPhiloxRounds; round++, k0 += kPhiloxKey0, k1 += kPhiloxKey1) {
    U hi0, lo0, hi1, lo1;
    mul_wide(m0, c0, &hi0, &lo0);
    mul_wide(m1, c2, &hi1, &lo1);
    c0 = xor_u(xor_u(hi1, c1), set_u(k0));
    c1 = lo1;
    c2 = xor_u(xor_u(hi0, c3), set_u(k1));
    c3 = lo0;
  }
  return {{c0, c1, c2, c3}};
}

/* Lane i has counter first + i. */
TEAMTR_INLINE Words words(const SampleArgs& a, uint32_t first) {
  const uint64_t id = (uint64_t)a.row_id;
  return philox(add_u(set_u(first), iota_u()), set_u((uint32_t)a.step), set_u((uint32_t)id), set_u((uint32_t)(id >> 32)),
                (uint32_t)a.seed, (uint32_t)(a.seed >> 32));
}

/* -log(1 - u), u = (k + 1/2) / 2^32, to 2 ulp: winners have small ones. With f = min(u, 1 - u), rounded once, it is
 * -log(1 - f) or -log f; the first as log of the rounded 1 - f and what the rounding lost. log m = 2 atanh(z / (2 + z)). */
TEAMTR_INLINE F exponential(U k) {
  const M upper = lt(to_float(k), set(0.0f));
  const F f = fma(to_float(select_u(upper, xor_u(k, set_u(~0u)), k)), set(0x1p-32f), set(0x1p-33f));
  const F a = select(upper, f, sub(set(1.0f), f));
  const F lost = zero_if(upper, sub(sub(set(1.0f), a), f));
  const U shifted = add_u(as_u(a), set_u(kOne - kSqrtHalf)); /* m in [sqrt 1/2, sqrt 2) */
  const F n = to_float(sub_u(shr<23>(shifted), set_u(127)));
  const F z = sub(as_f(add_u(and_u(shifted, set_u(0x7fffff)), set_u(kSqrtHalf))), set(1.0f));
  const F s = div(z, add(set(2.0f), z)), s2 = mul(s, s);
  F r = fma(s2, set(kLog9), set(kLog7));
  r = fma(r, s2, set(kLog5));
  r = mul(fma(r, s2, set(kLog3)), s2);
  const F log_m = sub(z, mul(s, sub(z, r)));
  return sub(set(0.0f), fma(n, set(kLn2Float), add(log_m, div(lost, a))));
}

static void philox_of(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
  const Words w = philox(set_u(counter[0]), set_u(counter[1]), set_u(counter[2]), set_u(counter[3]), key[0], key[1]);
  for (int i = 0; i < 4; i++) {
    uint32_t lanes[16];
    store_u(lanes, w.w[i]);
    out[i] = lanes[15];
  }
}

/* ---- the race ---- */

/* Logits above t, and those equal to t with ids up to last; rest: the sum of their e_v, less 1. */
struct Cut {
  float t;
  int64_t last;
  double rest;
};

struct Weight {
  float max, scale;
  F of(F x) const { return exp2_of(mul(sub(x, set(max)), set(scale))); }
  double of(float x) const {
    float e[16];
    store(e, of(set(x)));
    return e[0];
  }
};

struct Best {
  float score;
  int64_t token;
};

/* One group: its members' scores, against the best so far. leader: M_g / 64. */
template <class D>
static void race_group(const Row<D>& row, const SampleArgs& a, const Weight& w, const Cut& cut, int64_t group, float leader,
                       uint32_t j, Best* best) {
  typename D::T x[64];
  const int64_t begin = group / 32 * kBlockGroups;
  const int lane = (int)(group % 32 / 16 * 32 + group % 16);
  const int n = (int)(end_of(group / 32, row.groups()) - begin) * 2; /* members */
  for (int i = 0; i < 64; i += 2) {
    const typename D::T* p = row.group(begin + i / 2) + lane;
    x[i] = i < n ? p[0] : D::kMasked;
    x[i + 1] = i < n ? p[16] : D::kMasked;
  }
  const Words d = words(a, 0x80000000u + (uint32_t)group * 16);
  const F member = to_float(iota_u());
  for (int k = 0; k * 16 < n; k++) {
    const F v = D::load(x + k * 16);
    const F e = add(set(leader), zero_if(eq(member, set((float)((int)j - k * 16))), exponential(d.w[k])));
    const F score = div(w.of(v), e);
    uint32_t hits = bits(both(ge(score, set(best->score)), ge(v, set(cut.t))));
    if (!hits) continue;
    float scores[16], values[16];
    store(scores, score);
    store(values, v);
    for (; hits; hits &= hits - 1) {
      const int i = __builtin_ctz(hits), m = k * 16 + i;
      const int64_t token = (begin + m / 2) * kGroup + m % 2 * 16 + lane;
      if (values[i] == cut.t && token > cut.last) continue;
      if (scores[i] > best->score || (scores[i] == best->score && token < best->token)) *best = {scores[i], token};
    }
  }
}

/* The token of the best score above `bar` in the cut, or -1. */
template <class D>
static int64_t race(const Row<D>& row, const SampleArgs& a, const Weight& w, const Cut& cut, float bar) {
  Best best{bar, -1};
  for (int64_t b = 0; b < row.blocks(); b++) {
    Max m(-kInf);
    for (int64_t g = b * kBlockGroups, end = end_of(b, row.groups()); g < end; g++)
      for (int k = 0; k < 4; k++) m.a[k] = max(D::load(row.group(g) + 16 * k), m.a[k]);
    const Words noise = words(a, (uint32_t)b * 16);
    for (int half = 0; half < 2; half++) {
      const F largest = max(m.a[half * 2], m.a[half * 2 + 1]);
      const F leader = mul(exponential(noise.w[half * 2]), set(1.0f / 64));
      /* more than rounding can make of a member's score */
      const F bound = mul(div(w.of(largest), leader), set(1 + 0x1p-20f));
      uint32_t hits = bits(both(lt(set(best.score), bound), ge(largest, set(cut.t))));
      if (!hits) continue;
      float bounds[16], leaders[16];
      uint32_t first[16];
      store(bounds, bound);
      store(leaders, leader);
      store_u(first, noise.w[half * 2 + 1]);
      for (; hits; hits &= hits - 1) {
        const int i = __builtin_ctz(hits);
        if (bounds[i] > best.score)
          race_group(row, a, w, cut, b * 32 + half * 16 + i, leaders[i], first[i] & 63, &best);
      }
    }
  }
  return best.token;
}

/* ---- cuts ---- */

static constexpr int kCandidates = 8192;
static constexpr int kEnough = 32; /* logits of a sample, where it need not look closer */

struct Scratch {
  alignas(64) float x[kCandidates + kGroup], w[kCandidates + kGroup]; /* logits and their weights */
};

/* Order-preserving integers for the values of a dtype, neighbours where its values are; 0 for both zeros. */
template <class D> struct Key {
  static constexpr int kShift = std::is_same<D, F32>::value ? 0 : std::is_same<D, Bf16>::value ? 16 : 13;
  static int64_t of(float x) {
    uint32_t u;
    std::memcpy(&u, &x, 4);
    const int64_t magnitude = (u & 0x7fffffff) >> kShift;
    return u >> 31 ? -magnitude : magnitude;
  }
  static float value(int64_t key) {
    const uint32_t u = (uint32_t)(key < 0 ? -key : key) << kShift | (key < 0 ? 0x80000000u : 0);
    float x;
    std::memcpy(&x, &u, 4);
    return x;
  }
};

/* The smallest key in (lo, hi] of which is_high is true; hi is taken to be one, lo not. */
template <class P> static int64_t bisect(int64_t lo, int64_t hi, P&& is_high) {
  while (hi - lo > 1) {
    const int64_t mid = lo + (hi - lo) / 2;
    (is_high(mid) ? hi : lo) = mid;
  }
  return hi;
}

/* Writes the lanes of m to out, and garbage behind them up to sixteen; how many they are. */
#if defined(__AVX512F__)
TEAMTR_INLINE int compress(float* out, M m, F x) {
  store(out, _mm512_maskz_compress_ps(m, x));
  return count(m);
}
#elif defined(__AVX2__)
struct Lanes { /* of the set bits of a byte */
  uint8_t of[256][8];
  constexpr Lanes() : of{} {
    for (int m = 0; m < 256; m++)
      for (int i = 0, n = 0; i < 8; i++)
        if (m >> i & 1) of[m][n++] = (uint8_t)i;
  }
};
static constexpr Lanes kLanes;
TEAMTR_INLINE int compress(float* out, M m, F x) {
  const int a = _mm256_movemask_ps(m.a), b = _mm256_movemask_ps(m.b), n = __builtin_popcount(a);
  const auto lanes = [](int bits) { return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)kLanes.of[bits])); };
  _mm256_storeu_ps(out, _mm256_permutevar8x32_ps(x.a, lanes(a)));
  _mm256_storeu_ps(out + n, _mm256_permutevar8x32_ps(x.b, lanes(b)));
  return n + __builtin_popcount(b);
}
#else
TEAMTR_INLINE int compress(float* out, M m, F x) {
  float lanes[16];
  int n = 0;
  store(lanes, x);
  for (uint32_t left = bits(m); left; left &= left - 1) out[n++] = lanes[__builtin_ctz(left)];
  return n;
}
#endif

/* What one sweep tells of lo <= hi. */
struct Swept {
  double above;  /* F(hi) - 1: the maximum left out, so that the rest stays exact as p -> 1 */
  double inside; /* weight of the logits in (lo, hi] */
  int64_t n;     /* and how many, the first kCandidates of them in scratch.x */
};

/* Per block, what is above lo is squeezed together first: mostly it is little, and exp costs more. */
template <class D, bool kCount>
static Swept sweep(const Row<D>& row, const Weight& w, float lo, float hi, Scratch* scratch) {
  alignas(64) float found[kBlockGroups * kGroup + 16];
  int64_t counted = 0, n_inside = 0;
  double rest = 0, inside = 0;
  const F low = set(lo), high = set(hi), top = set(w.max);
  for (int64_t b = 0; b < row.blocks(); b++) {
    int n = 0;
    for (int64_t g = b * kBlockGroups, end = end_of(b, row.groups()); g < end; g++) {
      const typename D::T* p = row.group(g);
      F x[4];
      D::load(p, x);
      if (!any(lt(low, max(max(x[0], x[1]), max(x[2], x[3]))))) continue;
      for (const F v : x) n += compress(found + n, lt(low, v), v);
    }
    if (n == 0) continue;
    store(found + n, set(-kInf));
    F rest_of = set(0.0f), inside_of = rest_of;
    for (int i = 0; i < n; i += 16) {
      const F x = load(found + i);
      const M above = lt(high, x), in = both(lt(low, x), le(x, high));
      if (kCount) {
        counted += count(above);
      } else {
        const F e = w.of(x);
        const M is_top = ge(x, top);
        counted += count(is_top);
        rest_of = add(rest_of, zero_if(is_top, select(above, e, set(0.0f))));
        inside_of = add(inside_of, zero_if(above, e));
      }
      if (any(in)) n_inside += compress(scratch->x + (n_inside < kCandidates ? n_inside : kCandidates), in, x);
    }
    rest += sum(rest_of);
    inside += sum(inside_of);
  }
  return {(double)(counted - 1) + rest, kCount ? (double)n_inside : inside, n_inside};
}

struct Sums {
  int64_t n;
  double w;
};

/* Of the n elements in scratch, a multiple of kGroup, those above t, or those not above. */
template <bool kAbove> static Sums sums(const Scratch& scratch, int n, float t) {
  Sum w;
  int others = 0;
  const F at = set(t);
  for (int i = 0; i < n; i += kGroup) {
    for (int k = 0; k < 4; k++) {
      const F x = load(scratch.x + i + k * 16);
      const M other = kAbove ? le(x, at) : lt(at, x);
      others += count(other);
      w.a[k] = add(w.a[k], zero_if(other, load(scratch.w + i + k * 16)));
    }
  }
  return {n - others, w.total()};
}

template <bool kCount> static void weigh(const Weight& w, int n, Scratch* scratch) {
  for (int i = 0; i < n; i += 16) store(scratch->w + i, kCount ? set(1.0f) : w.of(load(scratch->x + i)));
}

/* Narrows (lo, hi] to where the cut probably is, by a sample: up to the cut, the logits' weight passes `tail`. The tail's
 * and not the head's, since of the few large weights a sample has too many or too few, and the tail has only small ones.
 * The doubt is two standard deviations, where a sum of w^2 is at most that of w times the largest, and four tokens
 * that were not seen. */
template <class D, bool kCount>
static void guess(const Row<D>& row, const Weight& w, double tail, Scratch* scratch, int64_t* lo, int64_t* hi) {
  const int64_t vectors = row.whole * 4;
  const int sampled = vectors < 16384 ? 256 : 512, n = sampled * 16;
  const double ratio = (double)vectors / sampled;
  for (int i = 0; i < sampled; i++) store(scratch->x + i * 16, D::load(row.x + vectors * i / sampled * 16));
  weigh<kCount>(w, n, scratch);
  const auto narrow = [&](int64_t* from, int64_t* to, double side) {
    int64_t below = 0, upto = sums<false>(*scratch, n, Key<D>::value(*to)).n;
    while (*to - *from > 1 && upto - below > kEnough) {
      const int64_t mid = *from + (*to - *from) / 2;
      const float t = Key<D>::value(mid);
      const Sums s = sums<false>(*scratch, n, t);
      const double largest = kCount ? 1.0 : w.of(t), deviation = std::sqrt(std::fmax(0.0, s.w * (largest - s.w / n)));
      const bool high = ratio * (s.w + side * (2 * deviation + 4 * largest)) > tail;
      (high ? *to : *from) = mid;
      (high ? upto : below) = s.n;
    }
  };
  int64_t from = *lo, to = *hi;
  narrow(&from, hi, -1);
  to = *hi;
  narrow(lo, &to, +1);
}

/* The id of the n-th logit equal to t, which there is. */
template <class D> static int64_t nth_equal(const Row<D>& row, float t, int64_t n) {
  const F at = set(t);
  for (int64_t g = 0;; g++) {
    const typename D::T* p = row.group(g);
    uint64_t hits = 0;
    for (int k = 0; k < 4; k++) hits |= (uint64_t)bits(eq(D::load(p + k * 16), at)) << (k * 16);
    const int found = __builtin_popcountll(hits);
    if (n > found) {
      n -= found;
      continue;
    }
    for (; n > 1; n--) hits &= hits - 1;
    return g * kGroup + __builtin_ctzll(hits);
  }
}

/* The tokens above t and the first `ties` of the `of` that equal t; rest: their e_v, less 1 (not of use for counts). */
struct Prefix {
  float t;
  int64_t ties, of;
  double rest;
};

/* The shortest prefix whose weight reaches target, within another prefix. */
template <class D, bool kCount>
static Prefix prefix(const Row<D>& row, const Weight& w, double target, double total, const Prefix& within,
                     Scratch* scratch) {
  const int64_t bottom = Key<D>::of(-kInf), top = Key<D>::of(w.max) - 1;
  /* The cut is in (lo, hi], or at the maximum if hi is still top; from..to is what the next sweep looks into. */
  int64_t lo = within.t == -kInf ? bottom : Key<D>::of(within.t) - 1, hi = top, from = lo, to = hi;
  if (lo == bottom && row.whole * kGroup > kCandidates) guess<D, kCount>(row, w, total - target, scratch, &from, &to);
  Swept s;
  for (;;) {
    s = sweep<D, kCount>(row, w, Key<D>::value(from), Key<D>::value(to), scratch);
    if (1 + s.above >= target) {
      if (to == top) { /* the maxima alone */
        const double ties = std::fmin(std::fmax(std::ceil(target), 1.0), 1 + s.above);
        return {w.max, (int64_t)ties, (int64_t)(1 + s.above), ties - 1};
      }
      const int64_t step = 4 * (to - from);
      lo = from = to;
      to = hi - to > step ? to + step : hi;
    } else if (1 + s.above + s.inside < target && from > lo) {
      const int64_t step = 4 * (to - from);
      hi = to = from;
      from = from - lo > step ? from - step : lo;
    } else if (1 + s.above + s.inside < target && lo == bottom) {
      return within; /* all there is, and not enough: masked tokens, or rounding */
    } else if (s.n > kCandidates && to - from > 1) {
      hi = to;
      lo = from;
      from = lo + (hi - lo) / 2;
    } else {
      break;
    }
  }
  float t = Key<D>::value(to);
  int64_t of = s.n;
  if (to - from > 1) {
    const int n = (int)s.n, padded = (n + kGroup - 1) / kGroup * kGroup;
    for (int i = 0; i < kGroup; i += 16) store(scratch->x + n + i, set(-kInf));
    weigh<kCount>(w, padded, scratch);
    const auto above = [&](float t) { return s.above + sums<true>(*scratch, padded, t).w; };
    t = Key<D>::value(bisect(from, to, [&](int64_t key) { return 1 + above(Key<D>::value(key)) < target; }));
    s.above = above(t);
    of = 0;
    for (int i = 0; i < n; i++) of += scratch->x[i] == t;
  }
  const double each = kCount ? 1.0 : w.of(t), wanted = std::ceil((target - (1 + s.above)) / each);
  const double ties = each > 0 ? std::fmin(std::fmax(wanted, 1.0), (double)of) : (double)of;
  return {t, (int64_t)ties, of, s.above + ties * each};
}

static inline bool has_top_k(const SampleArgs& a, int64_t vocab) { return a.top_k > 0 && a.top_k < vocab; }

/* The smallest logit that min-p keeps. */
static inline float min_p_logit(const SampleArgs& a, const Weight& w) {
  const double least = (double)w.max + a.temperature * std::log(a.min_p);
  const float t = std::fmax((float)least, -std::numeric_limits<float>::max());
  return (double)t < least ? Key<F32>::value(Key<F32>::of(t) + 1) : t;
}

static inline float below(float t) { return Key<F32>::value(Key<F32>::of(t) - 1); }

template <class D>
static Cut cut_of(const Row<D>& row, int64_t vocab, const SampleArgs& a, const Weight& w, double rest, Scratch* scratch) {
  const auto rest_above = [&](float t) { return sweep<D, false>(row, w, t, t, scratch).above; };
  Prefix kept{-kInf, 1, 1, rest};
  if (has_top_k(a, vocab)) {
    kept = prefix<D, true>(row, w, (double)a.top_k, (double)vocab, kept, scratch);
    kept.rest = rest_above(kept.t) + (double)kept.ties * w.of(kept.t);
  }
  if (a.top_p < 1) {
    const Prefix p = prefix<D, false>(row, w, a.top_p * (1 + kept.rest), 1 + rest, kept, scratch);
    if (p.t > kept.t || (p.t == kept.t && p.ties < kept.ties)) kept = p; /* rounding may make it one token longer */
  }
  if (a.min_p > 0) {
    const float t = min_p_logit(a, w);
    if (t > kept.t) kept = {t, 1, 1, rest_above(below(t))};
  }
  return {kept.t, kept.ties < kept.of ? nth_equal(row, kept.t, kept.ties) : vocab, kept.rest};
}

/* Whether a token of logit x is kept beyond doubt, without knowing the cut. For top-p alone: if what is less likely
 * weighs more than top-p leaves out. That is known after a part of the row, since the token was drawn by weight: 1 - p
 * of the row, plus -log(1 - p) times as much, on average. */
template <class D>
static bool surely_kept(const Row<D>& row, int64_t vocab, const SampleArgs& a, const Weight& w, double rest, float x,
                        Scratch* scratch) {
  if (a.min_p > 0 && x < min_p_logit(a, w)) return false;
  if (has_top_k(a, vocab))
    return a.top_p == 1 && 1 + sweep<D, true>(row, w, below(x), below(x), scratch).above <= (double)a.top_k;
  /* sums are good to some 1e-6 */
  double left_out = a.top_p == 1 ? -1 : (1 - a.top_p + 1e-4) * (1 + rest) - w.of(x);
  const F at = set(x);
  for (int64_t b = 0; b < row.blocks() && left_out >= 0; b++) {
    Sum less;
    walk(row, b, [&](int k, F v) TEAMTR_INLINE_LAMBDA {
      less.a[k] = add(less.a[k], zero_if(ge(v, at), w.of(v)));
    });
    left_out -= less.total();
  }
  return left_out < 0;
}

template <class D> static void sample(const void* x, int64_t vocab, const SampleArgs& a, RowSample* out) {
  const double temperature = a.temperature > 0 ? a.temperature : 1;
  const Row<D> row(x, vocab);
  const RowStats s = stats_of<D, false>(x, vocab, temperature);
  *out = {s, -1, 0.0f, 0.0};
  if (!(s.max > -kInf && s.max < kInf) || std::isnan(s.rest)) return;
  const auto take = [&](int64_t token, double rest) {
    out->token = token;
    out->logit = one<D>(row.x + token);
    out->rest_kept = rest;
  };
  if (a.temperature == 0) return take(nth_equal(row, s.max, 1), 0);
  const Weight w{s.max, scale_of(temperature)};
  const auto draw = [&](const Cut& cut) {
    /* The winner's score is the kept weight over an exponential: at least a quarter of it, but one time in 55. */
    int64_t token = race(row, a, w, cut, (float)((1 + cut.rest) / 4));
    take(token >= 0 ? token : race(row, a, w, cut, 0.0f), cut.rest);
  };
  /* Filters rarely have a say: the winner of all is found first, and only if it may have been left out is the cut. */
  Scratch scratch;
  const bool filtered = has_top_k(a, vocab) || a.top_p < 1 || a.min_p > 0;
  if (!filtered || !(a.rest_kept || a.top_p < 0.75)) {
    draw({-kInf, vocab, s.rest});
    if (!filtered || surely_kept(row, vocab, a, w, s.rest, out->logit, &scratch)) return;
  }
  draw(cut_of(row, vocab, a, w, s.rest, &scratch));
}

}  // namespace TEAMTR_ISA
}  // namespace teamtr
