/*
 * One row of teamtr_sample, written with the sixteen-lane vectors of simd_*.h. Included after kernels.inl, once per CPU level.
 *
 * What is computed: the statistics, exactly those of log-probs; a token drawn from the softmax; the cut, that is, which tokens the
 * filters keep. The statistics read the row from memory. What follows reads it from the L2 cache: a block for each draw, usually a
 * part of the row for filters, and the whole row one to four times where log-probs renormalised over the kept tokens are wanted.
 * Nothing is allocated: scratch is 88 KiB of stack, however long the row.
 *
 * The draw. An exponential race (Gumbel-max): of candidates with weights w_i and independent exponential variates E_i, candidate i
 * has the largest score w_i / E_i with probability w_i / sum w. (log w_i - log E_i is a log-weight plus Gumbel noise.)
 * A draw consists of three races: among the row's blocks of 2,048 tokens, weighted with the sums that the statistics have computed;
 * among the 32 segments of the block drawn; among the 64 tokens of the segment drawn. The product of the three probabilities is the
 * token's. So a row of 151,936 tokens needs 75 + 32 + 64 variates instead of one for each token, and none in the sweep. Of equal
 * scores the lower index wins. The random bits depend only on seed, row id and step; noise.h defines them.
 *
 * With filters. Up to four attempts draw from the whole row, each with its own variates, and the first token that the filters keep is
 * the result: conditioned on being kept, it has the right distribution. After four attempts, one race among all kept tokens
 * decides. Usually the first token is kept, and often this can be shown without computing the cut.
 *
 * The filters. Each of them keeps a prefix of the tokens in the order of descending logits, then ascending ids. So the kept tokens
 * are given by a cut: the logits above some t, and the first few that equal t. Nothing is sorted. Let F(t) be the weight of the
 * logits above t, where a logit weighs 1 for top-k and e_v for top-p; t is the smallest value with F(t) < target. A sample of the row
 * gives an interval for t; one sweep sums the weights above it and collects the few thousand logits within; t is found by bisection
 * over these. If the interval does not contain t or contains too many logits, more sweeps follow: a few for about one row in a
 * hundred up to V = 262,144, a few for most rows beyond, and never more than some 60, as f32 has 2^32 values to bisect.
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

/* -log(1 - u), u = (k + 1/2) / 2^32, to 2 ulp, also where it is small, as a race is won by small variates. With f = min(u, 1 - u),
 * rounded once, it is -log(1 - f) or -log f; the first from the log of the rounded 1 - f and the rounding error.
 * log m = 2 atanh(z / (2 + z)). */
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

/* ---- draws ---- */

/* The tokens that filters keep: logits above t, and those equal to t with ids up to last. rest: the sum of their e_v, less 1. */
struct Cut {
  float t;
  int64_t last;
  double rest;
  bool keeps(float x, int64_t token) const { return x > t || (x == t && token <= last); }
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

/* n vectors, at most four, of a sequence's exponential variates from number i on; i is a multiple of 64. */
TEAMTR_INLINE void exponentials(const SampleArgs& a, uint32_t first, int64_t i, int n, F* e) {
  const Words w = words(a, first + (uint32_t)(i / 4));
  for (int k = 0; k < n; k++) e[k] = exponential(w.w[k]);
}

/* The races among a row's blocks, one for each attempt. The race of the first attempt is run while the statistics are computed. The others
 * are usually not needed, so the blocks' weights are stored for them; only if a row has too many blocks to store are all of them run
 * while the statistics are computed. */
class BlockRaces {
 public:
  BlockRaces(const SampleArgs& a, int64_t blocks, int attempts) : a(a), blocks(blocks), at_once(blocks > kKept || attempts < 1 ? attempts : 1) {}

  void operator()(int64_t block, double weight, double factor) {
    if (block < kKept) kept[block] = {weight, factor};
    for (int i = 0; i < at_once; i++) enter(i, block, {weight, factor});
  }

  /* The block that wins an attempt's race. */
  int64_t winner(int attempt) {
    if (attempt >= at_once)
      for (int64_t b = 0; b < blocks; b++) enter(attempt, b, kept[b]);
    return best[attempt].block;
  }

 private:
  static constexpr int kKept = 256;
  struct Entry {
    double weight, factor; /* of stats_of */
  };
  struct Candidate {
    double score = 0; /* relative to the maximum so far */
    int64_t block = -1;
  };

  void enter(int i, int64_t block, Entry entry) {
    if (blocks == 1) {
      best[i].block = 0;
      return;
    }
    if (block % 64 == 0) {
      const int vectors = (int)((blocks - block + 15) / 16), n = vectors < 4 ? vectors : 4;
      F v[4];
      exponentials(a, first_counter(Sequence::kBlocks, i), block, n, v);
      for (int k = 0; k < n; k++) store(e[i] + 16 * k, v[k]);
    }
    best[i].score *= entry.factor;
    const double score = entry.weight / (double)e[i][block % 64];
    if (score > best[i].score) best[i] = {score, block};
  }

  const SampleArgs& a;
  const int64_t blocks;
  const int at_once; /* races */
  Entry kept[kKept];
  Candidate best[kAttempts];
  alignas(64) float e[kAttempts][64]; /* of the blocks from the last multiple of 64 on */
};

/* The index of the largest of n * 16 scores, the first of equal ones. */
static int winner_of(const F* scores, int n) {
  F best = scores[0];
  for (int k = 1; k < n; k++) best = max(best, scores[k]);
  const F top = set(max_lane(best));
  for (int k = 0;; k++)
    if (const uint32_t hits = bits(ge(scores[k], top))) return k * 16 + __builtin_ctz(hits);
}

/* A token of a block. kept: its weights in the order of D::load, or null. */
template <class D>
static int64_t draw_in_block(const Row<D>& row, const SampleArgs& a, const Weight& w, int attempt, int64_t block, const float* kept) {
  constexpr int kLanes = D::kPairs ? 4 : 8; /* of a segment's eight tokens in a group; of pairs, two in each, whose vectors are added */
  const int64_t begin = block * kBlockGroups, end = end_of(block, row.groups());
  F e[4], scores[4];
  alignas(64) float lanes[kGroup], of_segments[kSegments];
  for (int i = 0; i < 4; i++) { /* every fourth group has tokens of the same eight segments */
    F sums[4] = {set(0.0f), set(0.0f), set(0.0f), set(0.0f)};
    for (int64_t g = begin + i; g < end; g += 4) {
      F x[4];
      if (!kept) D::load(row.group(g), x);
      for (int k = 0; k < 4; k++) sums[k] = add(sums[k], kept ? load(kept + (g * 4 + k) * 16) : w.of(x[k]));
    }
    for (int k = 0; k < 4; k++) {
      if (!D::kPairs) store(lanes + 16 * k, sums[k]);
      else if (k % 2) store(lanes + 8 * (k - 1), add(sums[k - 1], sums[k]));
    }
    for (int s = 0; s < 8; s++) {
      const float* l = lanes + s * kLanes;
      const float sum = (l[0] + l[1]) + (l[2] + l[3]);
      of_segments[i * 8 + s] = D::kPairs ? sum : sum + ((l[4] + l[5]) + (l[6] + l[7]));
    }
  }
  exponentials(a, first_counter(Sequence::kOfSegments, attempt), 0, kSegments / 16, e);
  for (int k = 0; k < kSegments / 16; k++) scores[k] = div(load(of_segments + 16 * k), e[k]);
  const int segment = winner_of(scores, kSegments / 16);

  typename D::T x[kSegmentTokens];
  const auto token_of = [&](int i) { return block * kDrawBlock + i / 8 * 256 + segment * 8 + i % 8; };
  for (int i = 0; i < kSegmentTokens; i += 8) {
    const int64_t token = token_of(i), g = token / kGroup;
    for (int n = 0; n < 8; n++) x[i + n] = g < end ? row.group(g)[token % kGroup + n] : D::kMasked;
  }
  exponentials(a, first_counter(Sequence::kOfTokens, attempt), 0, 4, e);
  for (int k = 0; k < 4; k++) scores[k] = div(w.of(D::load(x + 16 * k)), e[k]);
  return token_of(winner_of(scores, 4));
}

/* Draws a token by one race among all kept tokens. */
template <class D> static int64_t draw_kept(const Row<D>& row, const SampleArgs& a, const Weight& w, const Cut& cut) {
  const F threshold = set(cut.t);
  float best = 0;
  int64_t token = -1;
  for (int64_t g = 0; g < row.groups(); g++) {
    F x[4], e[4];
    for (int k = 0; k < 4; k++) x[k] = D::load(row.group(g) + 16 * k);
    if (!any(ge(max(max(x[0], x[1]), max(x[2], x[3])), threshold))) continue;
    exponentials(a, first_counter(Sequence::kKept, 0), g * kGroup, 4, e);
    for (int k = 0; k < 4; k++) {
      const F score = div(w.of(x[k]), e[k]);
      uint32_t hits = bits(both(lt(set(best), score), ge(x[k], threshold)));
      if (!hits) continue;
      float scores[16], values[16];
      store(scores, score);
      store(values, x[k]);
      for (; hits; hits &= hits - 1) {
        const int i = __builtin_ctz(hits);
        const int64_t v = g * kGroup + k * 16 + i;
        if (scores[i] <= best || !cut.keeps(values[i], v)) continue;
        best = scores[i];
        token = v;
      }
    }
  }
  return token;
}

/* ---- cuts ---- */

static constexpr int kCandidates = 8192;
static constexpr int kEnough = 32; /* sampled logits in an interval that is not narrowed further */

struct Scratch {
  alignas(64) float x[kCandidates + kGroup], w[kCandidates + kGroup]; /* logits and their weights */
};

/* Integers in the order of a dtype's values; adjacent values have adjacent integers. Both zeros have 0. */
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

/* The smallest key in (lo, hi] for which is_high is true; it is assumed to be true for hi and false for lo. */
template <class P> static int64_t bisect(int64_t lo, int64_t hi, P&& is_high) {
  while (hi - lo > 1) {
    const int64_t mid = lo + (hi - lo) / 2;
    (is_high(mid) ? hi : lo) = mid;
  }
  return hi;
}

/* Writes the lanes in m to out, followed by arbitrary values up to sixteen, and returns the number of lanes in m. */
#if defined(__AVX512F__)
TEAMTR_INLINE int compress(float* out, M m, F x) {
  store(out, _mm512_maskz_compress_ps(m, x));
  return count(m);
}
#elif defined(__AVX2__)
struct Lanes { /* the positions of the set bits of each byte */
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

/* What one sweep finds for bounds lo <= hi. */
struct Swept {
  double above;  /* F(hi) - 1: without one maximum, so that the rest stays exact as p -> 1 */
  double inside; /* weight of the logits in (lo, hi] */
  int64_t n;     /* their number; the first kCandidates of them are in scratch.x */
};

/* In each block the logits above lo are first moved together: usually there are few of them, and exp is computed for these alone. */
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

/* Number and weight of the elements in scratch above t, or of those not above t. n: a multiple of kGroup. */
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

/* Narrows (lo, hi] by a sample to an interval that probably contains the cut: the weight of the logits up to the cut is `tail`. The
 * weight of the tail is estimated and not that of the head, since the head consists of a few large weights, which a sample estimates
 * badly. The margin is two standard deviations, with sum w^2 bounded by the largest w times sum w, and four tokens that the sample
 * may have missed. */
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

/* The id of the n-th logit equal to t; there are at least n. */
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

/* The tokens above t and the first `ties` of the `of` tokens that equal t. rest: the sum of their e_v, less 1 (unused for counts). */
struct Prefix {
  float t;
  int64_t ties, of;
  double rest;
};

/* The shortest prefix whose weight reaches target; at most `within`. */
template <class D, bool kCount>
static Prefix prefix(const Row<D>& row, const Weight& w, double target, double total, const Prefix& within,
                     Scratch* scratch) {
  const int64_t bottom = Key<D>::of(-kInf), top = Key<D>::of(w.max) - 1;
  /* The cut is in (lo, hi], or at the maximum if hi is still top. The next sweep collects the logits in (from, to]. */
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
      return within; /* even all tokens do not reach the target: some are masked, or rounding */
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

/* Whether it is certain, without the cut, that a token of logit x is kept. For top-p alone it is if the less likely tokens
 * weigh more than top-p leaves out. This is usually known after a part of the row, since the token was drawn by weight: on average
 * after 1 - p of the row, plus -log(1 - p) times as much. */
template <class D>
static bool surely_kept(const Row<D>& row, int64_t vocab, const SampleArgs& a, const Weight& w, double rest, float x,
                        Scratch* scratch) {
  if (a.min_p > 0 && x < min_p_logit(a, w)) return false;
  if (has_top_k(a, vocab))
    return a.top_p == 1 && 1 + sweep<D, true>(row, w, below(x), below(x), scratch).above <= (double)a.top_k;
  /* sums have relative errors of about 1e-6 */
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
  const bool greedy = a.temperature == 0, filtered = has_top_k(a, vocab) || a.top_p < 1 || a.min_p > 0;
  const Row<D> row(x, vocab);
  BlockRaces races(a, row.blocks(), greedy ? 0 : filtered ? kAttempts : 1);
  alignas(64) float of_block[kDrawBlock];
  const float* kept = row.blocks() == 1 ? of_block : nullptr;
  const RowStats s = kept ? stats_of<D, false, true>(x, vocab, temperature, races, of_block) : stats_of<D, false>(x, vocab, temperature, races);
  *out = {s, -1, 0.0f, 0.0};
  if (!(s.max > -kInf && s.max < kInf) || std::isnan(s.rest)) return;
  const auto take = [&](int64_t token, double rest) {
    out->token = token;
    out->logit = one<D>(row.x + token);
    out->rest_kept = rest;
  };
  if (greedy) return take(nth_equal(row, s.max, 1), 0);
  const Weight w{s.max, scale_of(temperature)};
  if (!filtered) return take(draw_in_block(row, a, w, 0, races.winner(0), kept), s.rest);
  Scratch scratch;
  Cut cut;
  bool known = a.rest_kept || a.top_p < 0.75; /* whether the cut is computed before the first draw; below, whether it has been */
  if (known) cut = cut_of(row, vocab, a, w, s.rest, &scratch);
  for (int attempt = 0; attempt < kAttempts; attempt++) {
    const int64_t token = draw_in_block(row, a, w, attempt, races.winner(attempt), kept);
    const float logit = one<D>(row.x + token);
    if (!known) {
      if (surely_kept(row, vocab, a, w, s.rest, logit, &scratch)) return take(token, 0);
      cut = cut_of(row, vocab, a, w, s.rest, &scratch);
      known = true;
    }
    if (cut.keeps(logit, token)) return take(token, cut.rest);
  }
  take(draw_kept(row, a, w, cut), cut.rest);
}

}  // namespace TEAMTR_ISA
}  // namespace teamtr
