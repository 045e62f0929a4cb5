/*
 * Sampling: a token of each row, its log-prob, and that among what the filters keep.
 *
 * The definition, and the noise to the bit, is native/src/sampling.inl's: E_v, the exponential that token v's clock rings
 * at, is M_g / 64 for one member of each group of 64 tokens, and M_g / 64 + D_v for the others; argmax e_v / E_v wins.
 *
 * Passes over device memory, of V b bytes for V tokens of b bytes:
 *   no filter    one. The statistics are log_probs.cu's, element by element in the same order, so log-probs have its bits;
 *                the race is run by the same threads on the same registers, for some three instructions an element, which
 *                fit in what the memory leaves free. A second sweep would come from L2 only while the rows under way fit
 *                there: 264 rows of bf16 at V = 151,936 are 80 MB.
 *   top-k alone  that, and one to see whether the winner is kept: mostly it is, and being kept is the winner of those kept.
 *   or top-p     Where it is not, what follows.
 *   otherwise    that, one to four for each of top-k and top-p to find the cut, one more if the cut parts equal logits or
 *                if min-p's log-prob is asked for, and, only if the winner of all is not kept, one for the race in the cut.
 *                These come right after the first, and from L2 as far as rows still lie there.
 * A gather goes before each race: the groups' leaders, of 1/64 of the elements, whose lines the sweep then finds in L2.
 *
 * The race in the log domain, score = x log2 e / T - log2 E_v, needs no maximum beforehand. With L_g = -log2(M_g / 64) a
 * score is at most x log2 e / T + L_g, and exactly that for the leader. So the leaders run first, and set a bar; then an
 * element costs a multiply-add and a maximum, and only those that may reach the bar (some 64 a row, of whatever length)
 * have their D_v made. Runners are compared by their difference, in double: x need not be near 0 for that to be exact.
 * At temperature 0 all clocks ring at once, and the race is for the largest logit.
 *
 * The cut. Weights are 64-bit fixed point, scaled so that the row's sum just fits: sums of integers are the same in any
 * order, so atomics in shared memory do no harm to the promise of bits. A histogram of the keys (order-preserving integers)
 * between two bounds tells in which bin the cut lies, and the next one looks into that bin, to a single key: 11 bits a
 * sweep. Bounds make it short: for top-p what weighs together less than is left out, for top-k up to the number of
 * threads, the k-th largest of the threads' maxima. So bf16 takes one sweep, mostly, and f32 two or three. Slower: top-k
 * beyond the number of threads, whose first histogram is of all tokens.
 *
 * Registers: 64 without filters, two blocks to a multiprocessor; with them one block, as in 64 the search would spill.
 * Shared memory: a float for each group, up to 2^18 tokens at a time, 16 KiB; with filters 24 KiB of bins in the same place.
 * Contract: teamtr.h. A block has a row, so a row's draw does not depend on the others, nor on how many there are.
 */
#include <cfloat>
#include <climits>

#include "noise.h"
#include "rows.cuh"

namespace teamtr {
namespace cuda {
namespace {

constexpr int kChunk = 1 << 18; /* tokens whose leaders are held at a time: a multiple of what kThreads threads step over */
constexpr int kBins = 2048;     /* of a histogram */

/* The vectors that can be read as such: none of a row that is not aligned. One path through the code for both kinds of row,
 * since two would not share the registers well. */
template <class D> __device__ __forceinline__ int whole_of(const char* row, int64_t vocab) {
  return aligned16(row) ? (int)(vocab / D::kPerVector) : 0;
}
template <class D> __device__ __forceinline__ Vec16 load(const char* row, int i, int whole, int64_t vocab) {
  return i < whole ? load16(row + (int64_t)i * 16) : load_elements<D>(row, i, vocab);
}

/* ---- the race ---- */

__device__ __forceinline__ bool greedy(const Sample& a, int64_t r) { return a.temperature[r] == 0; }
__device__ __forceinline__ double row_temperature(const Sample& a, int64_t r) { return greedy(a, r) ? 1 : a.temperature[r]; }

__device__ __forceinline__ int group_of(int token) { return (token >> 11) * 32 + (token >> 1 & 16) + (token & 15); }
__device__ __forceinline__ uint32_t member_of(int token) { return (token >> 5 & 62) + (token >> 4 & 1); }

/* The logits above t, and those equal to t with ids up to last. */
struct Cut {
  float t;
  int last;
  __device__ __forceinline__ bool keeps(float x, int token) const { return x > t || (x == t && token <= last); }
};
__device__ __forceinline__ Cut everything() { return {-FLT_MAX, INT_MAX}; } /* but masked tokens */

/* A runner: the score is x scale + noise. */
struct Best {
  float x = 0, noise = 0;
  int token = -1; /* none yet */

  __device__ __forceinline__ double score(float scale) const { return token < 0 ? -kInfinity : (double)x * scale + noise; }
  /* By the difference of the scores, which is exact however far the logits are from 0. */
  __device__ __forceinline__ void take(const Best& o, float scale) {
    const double lead = ((double)o.x - x) * scale + ((double)o.noise - noise);
    if (o.token >= 0 && (token < 0 || lead > 0 || (lead == 0 && o.token < token))) *this = o;
  }
};

/* The race of a row, as a thread sees it. What only the few that are looked into need is not kept in registers. */
struct Race {
  const Sample& a;
  int64_t r;
  float scale;   /* log2 e / T */
  const Cut* cut; /* in shared memory, there from the first leaders on */
  Best best;      /* this thread's so far */

  __device__ __forceinline__ double warp_best() const {
    return warp_fold(best.score(scale), [](double a, double b) { return a > b ? a : b; });
  }
  __device__ __forceinline__ Noise noise() const { return {a.seed, (uint64_t)(a.row_ids ? a.row_ids[r] : r), a.step}; }

  __device__ __forceinline__ void run(float x, int v) {
    float log2_clock = 0;
    if (!greedy(a, r)) {
      const Noise noise = this->noise();
      const int group = group_of(v);
      const uint32_t member = member_of(v);
      const Noise::Words lead = noise.words((uint32_t)(group / 32 * 16 + group % 16));
      const bool half = group & 16;
      float clock = exponential(half ? lead.w[2] : lead.w[0]) * (1.0f / 64);
      if (((half ? lead.w[3] : lead.w[1]) & 63) != member) {
        const Noise::Words d = noise.words(0x80000000u + (uint32_t)group * 16 + member % 16);
        clock += exponential(member < 32 ? (member < 16 ? d.w[0] : d.w[1]) : (member < 48 ? d.w[2] : d.w[3]));
      }
      log2_clock = log2f(clock);
    }
    best.take({x, -log2_clock, v}, scale);
  }

  /* Fills bounds with L_g of the chunk that begins with token `first`, and runs the leaders. The best score so far of all
   * threads; a barrier before and one behind. */
  template <class D>
  __device__ __forceinline__ double lead(const char* row, int64_t vocab, int64_t first, uint32_t* bounds, double* bars) {
    __syncthreads(); /* the chunk before is done with */
    const bool noisy = !greedy(a, r);
    const Noise noise = this->noise();
    const int64_t left = (vocab - first + 2047) / 2048;
    const int pairs = left < kChunk / 2048 ? (int)left * 16 : kChunk / 2048 * 16;
    for (int pair = threadIdx.x; pair < pairs; pair += blockDim.x) {
      const Noise::Words w = noise.words((uint32_t)(first / 128 + pair));
      const int block = (int)(first / 2048) + pair / 16;
      #pragma unroll 1 /* for the registers' sake */
      for (int half = 0; half < 2; half++) {
        const float log2_clock = noisy ? log2f(exponential(half ? w.w[2] : w.w[0]) * (1.0f / 64)) : 0;
        bounds[pair / 16 * 32 + half * 16 + pair % 16] = __float_as_uint(-log2_clock);
        const int member = (half ? w.w[3] : w.w[1]) & 63;
        const int64_t v = (int64_t)block * 2048 + member / 2 * 64 + half * 32 + member % 2 * 16 + pair % 16;
        if (v >= vocab) continue;
        const float x = element<D>(row, v);
        if (cut->keeps(x, (int)v)) best.take({x, -log2_clock, (int)v}, scale);
      }
    }
    double bar = warp_best();
    if (lane() == 0) bars[warp()] = bar;
    __syncthreads();
    for (int w = 0; w < warps(); w++) bar = bars[w] > bar ? bars[w] : bar;
    return bar;
  }
};

/* What a bound in f32 reaches if the score reaches the bar: all of rounding is 2^-23 of |score| + 64. */
__device__ __forceinline__ float threshold_of(double bar) {
  const double low = bar - 0x1p-21 * (fabs(bar) + 64);
  if (!(low > -FLT_MAX)) return -kInfinity;
  return low < FLT_MAX ? (float)low : FLT_MAX;
}

template <int n> __device__ __forceinline__ void unpack_bounds(const uint32_t* from, float* to) {
  #pragma unroll
  for (int i = 0; i < n; i += 4) {
    const Vec16 v = *reinterpret_cast<const Vec16*>(from + i);
    F32::unpack(v, to + i);
  }
}

/* One sweep: the statistics, and the race in its cut. All threads take the same number of steps, unlike in walk(): elements
 * behind the row's end change nothing. */
template <class D, bool kAligned>
__device__ __forceinline__ void sweep(const char* row, int64_t vocab, Race* race, Online* o, uint32_t* bounds, double* bars) {
  constexpr int n = D::kPerVector;
  const int vectors = (int)vectors_of<D>(vocab), step = blockDim.x * kUnroll;
  float threshold = 0;
  for (int begin = 0; begin < vectors; begin += step) {
    const int at = begin % (kChunk / n);
    if (at == 0) threshold = threshold_of(race->template lead<D>(row, vocab, (int64_t)begin * n, bounds, bars));
    Vec16 v[kUnroll];
    #pragma unroll
    for (int k = 0; k < kUnroll; k++) v[k] = load_vector<D, kAligned>(row, begin + threadIdx.x + k * blockDim.x, vocab);

    const auto leaders = [&](int k) { return bounds + group_of((at + threadIdx.x + k * blockDim.x) * n); };
    float highest = NAN; /* which fmaxf() forgets; behind the row's end L may be anything */
    #pragma unroll
    for (int k = 0; k < kUnroll; k++) {
      float x[n], L[n];
      D::unpack(v[k], x);
      unpack_bounds<n>(leaders(k), L);
      #pragma unroll
      for (int e = 0; e < n; e++) highest = fmaxf(highest, fmaf(x[e], race->scale, L[e]));
      __syncwarp(); /* the bounds of one vector at a time, or the registers do not suffice; as below */
    }
    uint32_t hits = 0;
    const bool any = __ballot_sync(kFullMask, highest >= threshold);
    if (any) {
      __syncwarp();
      #pragma unroll
      for (int k = 0; k < kUnroll; k++) {
        float x[n], L[n];
        D::unpack(v[k], x);
        unpack_bounds<n>(leaders(k), L);
        #pragma unroll
        for (int e = 0; e < n; e++)
          hits |= (uint32_t)(x[e] >= race->cut->t && fmaf(x[e], race->scale, L[e]) >= threshold) << (k * n + e);
      }
    }
    float x[kUnroll * n];
    #pragma unroll
    for (int k = 0; k < kUnroll; k++) D::unpack(v[k], x + k * n);
    o->add<kUnroll * n, false>(x, race->scale); /* before what follows, which needs the registers */
    if (any) {
      for (; hits; hits &= hits - 1) {
        const int hit = __ffs(hits) - 1, token = (begin + threadIdx.x + hit / n * blockDim.x) * n + hit % n;
        const float value = element<D>(row, token);
        if (race->cut->keeps(value, token)) race->run(value, token);
      }
      threshold = fmaxf(threshold, threshold_of(race->warp_best()));
    }
  }
}

/* The race's winner, in all threads. `slots` are free again after the next barrier. */
__device__ __forceinline__ int winner_of(const Race& race, Best* slots) {
  Best best = race.best;
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    Best other;
    other.x = __shfl_xor_sync(kFullMask, best.x, distance);
    other.noise = __shfl_xor_sync(kFullMask, best.noise, distance);
    other.token = __shfl_xor_sync(kFullMask, best.token, distance);
    best.take(other, race.scale);
  }
  if (lane() == 0) slots[warp()] = best;
  __syncthreads();
  for (int w = 0; w < warps(); w++) best.take(slots[w], race.scale);
  return best.token;
}

/* ---- the cut ---- */

/* Order-preserving integers for the values of a dtype, neighbours where its values are; one for both zeros. */
template <class D> struct Key {
  static constexpr int kShift = D::kDtype == TEAMTR_F32 ? 0 : D::kDtype == TEAMTR_BF16 ? 16 : 13;
  static __device__ __forceinline__ uint32_t of(float x) {
    const uint32_t u = __float_as_uint(x + 0.0f);
    return (u >> 31 ? ~u : u | 0x80000000u) >> kShift;
  }
  static __device__ __forceinline__ float value(uint32_t key) {
    const uint32_t u = key << kShift;
    return __uint_as_float(u >> 31 ? u & 0x7fffffffu : ~u >> kShift << kShift);
  }
};

/* e_v = exp((x - max) / T) in units of 2^-bits. */
struct Weight {
  float max, scale, unit;
  Weight() = default;
  __device__ __forceinline__ Weight(const RowStats& s, float scale) : max(s.max), scale(scale) {
    const int log2_sum = (int)(__float_as_uint((float)(1 + s.rest)) >> 23) - 127;
    unit = __uint_as_float((uint32_t)(127 + 61 - log2_sum) << 23); /* so that the sum is below 2^63 */
  }
  __device__ __forceinline__ uint64_t of(float x) const { return (uint64_t)(exp2_approx((x - max) * scale) * unit); }
  /* As integers, the sum that a share of the tokens of this rest has to reach. */
  __device__ __forceinline__ uint64_t target(double share, double rest) const {
    const double wanted = ceil(share * (1 + rest) * unit);
    return wanted > 1 ? (uint64_t)wanted : 1;
  }
  /* What a sum is, less one occurrence of the maximum. */
  __device__ __forceinline__ double rest(uint64_t sum) const { return (double)(int64_t)(sum - (uint64_t)unit) / unit; }
};

struct Sums {
  uint32_t count;
  uint64_t weight;
  __device__ __forceinline__ void add(const Sums& o) {
    count += o.count;
    weight += o.weight;
  }
};

__device__ __forceinline__ uint64_t measure(const Sums& s, bool by_weight) { return by_weight ? s.weight : s.count; }

struct Bin {
  int at; /* -1: the target is beyond them all */
  Sums above, inside;
};

struct Bins {
  uint64_t weight[kBins];
  uint32_t count[kBins];

  __device__ __forceinline__ void clear(int used) {
    for (int i = threadIdx.x; i < used; i += blockDim.x) {
      weight[i] = 0;
      count[i] = 0;
    }
    __syncthreads();
  }

  __device__ __forceinline__ void add(uint32_t bin, const Sums& s) {
    atomic_add_64(&weight[bin], s.weight);
    atomicAdd(&count[bin], s.count);
  }

  /* A token of each lane that `in` is true of. Bins that many lanes share are added up first: of a row with few different
   * logits all tokens go to few bins. */
  __device__ __forceinline__ void add_lanes(bool in, uint32_t bin, uint64_t w) {
    for (uint32_t left = __ballot_sync(kFullMask, in); left;) {
      const uint32_t first = __shfl_sync(kFullMask, bin, (__ffs(left) - 1)), same = __ballot_sync(kFullMask, in && bin == first);
      if (__popc(same) < 8) break;
      const bool mine = same >> lane() & 1;
      const uint64_t sum = warp_fold(mine ? w : 0, [](uint64_t a, uint64_t b) { return a + b; });
      if (lane() == 0) add(first, {(uint32_t)__popc(same), sum});
      in = in && !mine;
      left &= ~same;
    }
    if (in) add(bin, {1, w});
  }

  /* For thread 0: the first bin up to which counts, or weights, sum to `wanted`, or -1; and the sum of all. */
  __device__ __forceinline__ void find(int used, bool by_weight, uint64_t wanted, Bin* found, Sums* all, Sums* slots) {
    const int each = (used + blockDim.x - 1) / blockDim.x, from = threadIdx.x * each;
    const int to = from + each < used ? from + each : used;
    if (threadIdx.x == 0) found->at = -1;
    __syncthreads(); /* also: the bins are full */
    Sums mine{0, 0};
    for (int i = from; i < to; i++) mine.add({count[i], weight[i]});
    Sums before = mine; /* of the lanes up to this one; then, of all threads before */
    for (int distance = 1; distance < kWarp; distance *= 2) {
      const int other = lane() >= distance ? lane() - distance : 0;
      const Sums s{__shfl_sync(kFullMask, before.count, other), __shfl_sync(kFullMask, before.weight, other)};
      if (lane() >= distance) before.add(s);
    }
    if (lane() == kWarp - 1) slots[warp()] = before;
    before = {before.count - mine.count, before.weight - mine.weight};
    __syncthreads();
    for (int w = 0; w < warp(); w++) before.add(slots[w]);
    if (threadIdx.x == blockDim.x - 1) {
      *all = before;
      all->add(mine);
    }
    if (measure(before, by_weight) < wanted) {
      for (int i = from; i < to; i++) {
        const Sums inside{count[i], weight[i]};
        Sums upto = before;
        upto.add(inside);
        if (measure(upto, by_weight) >= wanted) {
          *found = {i, before, inside};
          break;
        }
        before = upto;
      }
    }
    __syncthreads();
  }
};

/* The tokens ahead of one of logit t and this id: of larger logits, or lower ids among the equal ones. */
template <class D>
__device__ __forceinline__ Sums ahead(const char* row, int64_t vocab, const Weight& w, float t, int id, Sums* slots) {
  constexpr int n = D::kPerVector;
  const int vectors = (int)vectors_of<D>(vocab), whole = whole_of<D>(row, vocab);
  Sums s{0, 0};
  for (int i = threadIdx.x; i < vectors; i += blockDim.x * kUnroll) {
    Vec16 v[kUnroll];
    #pragma unroll
    for (int k = 0; k < kUnroll; k++) v[k] = load<D>(row, i + k * blockDim.x, whole, vocab);
    #pragma unroll
    for (int k = 0; k < kUnroll; k++) {
      float x[n], largest = -kInfinity;
      D::unpack(v[k], x);
      #pragma unroll
      for (int e = 0; e < n; e++) largest = fmaxf(largest, x[e]);
      if (largest < t) continue; /* most are */
      const int first = (i + k * blockDim.x) * n;
      #pragma unroll
      for (int e = 0; e < n; e++)
        if (x[e] > t || (x[e] == t && first + e < id)) s.add({1, w.of(x[e])});
    }
  }
  s.count = warp_fold(s.count, [](uint32_t a, uint32_t b) { return a + b; });
  s.weight = warp_fold(s.weight, [](uint64_t a, uint64_t b) { return a + b; });
  if (lane() == 0) slots[warp()] = s;
  __syncthreads();
  s = {0, 0};
  for (int k = 0; k < warps(); k++) s.add(slots[k]);
  __syncthreads(); /* before the slots are written again */
  return s;
}

struct Filters {
  int64_t top_k; /* 0: none */
  double top_p, min_p;
};
enum Stage { kTopK, kTopP, kMinP, kIds, kStages };

/* The search for the cut, in stages that narrow it. Thread 0 keeps it in shared memory and the others see it behind a
 * barrier: in registers it would not fit. */
struct Search {
  Weight w;
  double temperature, rest; /* rest: the sum of the kept e_v, less 1 */
  float min_p_logit;        /* the smallest that min-p keeps */
  /* What is kept: the tokens above t and the first `ties` of the `of` that equal t, ids up to `last`. */
  float t;
  uint32_t ties, of;
  int last;
  /* What is looked for: the shortest prefix of the tokens whose count, or weight, is `wanted`. */
  bool going, by_weight, ids;
  bool unknown; /* is rest */
  uint64_t wanted;
  /* Where: the keys lo to hi, in bins of 2^shift. With ids they are those of the ids of the logits equal to t. */
  uint32_t lo, hi, top, bottom;
  int shift, bins;
  int of_maxima; /* sweeps left over the threads' maxima instead of the row */
  Sums above;    /* of keys above hi */

  template <class D> __device__ __forceinline__ void open(const RowStats& s, float scale, const Filters& f, double t_row) {
    w = Weight(s, scale);
    temperature = t_row;
    rest = s.rest;
    t = min_p_logit = -FLT_MAX;
    ties = of = 1;
    last = INT_MAX;
    if (f.min_p == 0) return;
    const double least = (double)s.max + temperature * log(f.min_p);
    min_p_logit = fmaxf((float)least, -FLT_MAX);
    if ((double)min_p_logit < least) min_p_logit = Key<F32>::value(Key<F32>::of(min_p_logit) + 1);
  }

  template <class D> __device__ __forceinline__ void begin(Stage stage, const Filters& f, int64_t vocab) {
    going = (stage == kTopK && f.top_k) || (stage == kTopP && f.top_p < 1) || (stage == kIds && ties < of);
    by_weight = stage == kTopP;
    ids = stage == kIds;
    lo = bottom = ids ? UINT32_MAX - (uint32_t)vocab : Key<D>::of(-FLT_MAX);
    hi = top = ids ? UINT32_MAX : Key<D>::of(w.max);
    wanted = stage == kTopK ? (uint64_t)f.top_k : ties;
    /* As many tokens as there are threads' maxima are at least as large as the k-th of these. To 22 bits, that is enough. */
    of_maxima = stage == kTopK && f.top_k <= blockDim.x ? 2 : 0;
    if (stage == kTopP) {
      wanted = w.target(f.top_p, rest);
      /* Logits that even all together weigh less than what is left out are below the cut. */
      const double tail = 0.99 * (1 - f.top_p) * (1 + rest) / (double)(f.top_k ? f.top_k : vocab);
      const float least = fmaxf(t, w.max + (float)(temperature * (double)logf((float)tail)));
      lo = Key<D>::of(fminf(least, w.max));
    }
    unknown = stage == kMinP && min_p_logit > t;
    if (unknown) {
      t = min_p_logit;
      ties = of = 1;
    }
    above = {0, 0};
    part();
  }

  __device__ __forceinline__ void part() {
    for (shift = 0; (hi - lo) >> shift >= (uint32_t)kBins;) shift++;
    bins = (int)((hi - lo) >> shift) + 1;
  }
  __device__ __forceinline__ uint64_t left() const { return wanted - measure(above, by_weight); }

  /* After a sweep. */
  template <class D> __device__ __forceinline__ void advance(const Bin& bin, const Sums& all) {
    if (bin.at < 0) {
      if (of_maxima) {
        of_maxima = 0;
        hi = top;
        above = {0, 0};
      } else if (lo == bottom) { /* all there is, and not enough: masked tokens, or rounding */
        going = false;
      } else {
        above.add(all);
        hi = lo - 1;
      }
      lo = bottom;
    } else {
      const uint32_t width = ((uint32_t)1 << shift) - 1;
      hi -= (uint32_t)bin.at << shift;
      lo = hi - lo > width ? hi - width : lo;
      above.add(bin.above);
      if (of_maxima) {
        of_maxima = shift > 0 ? of_maxima - 1 : 0;
        if (!of_maxima) {
          hi = top;
          above = {0, 0};
        }
      } else if (shift == 0) {
        going = false;
        if (ids) last = (int)(UINT32_MAX - hi);
        else end<D>(bin.inside);
      }
    }
    part();
  }

  /* The cut is at hi, of which `inside` is all. */
  template <class D> __device__ __forceinline__ void end(const Sums& inside) {
    const float found = Key<D>::value(hi);
    const uint64_t each = inside.weight / inside.count, n = by_weight ? (left() + each - 1) / each : left();
    if (found < t || (found == t && n >= ties)) return; /* rounding may make it one token longer than what was kept */
    t = found;
    ties = (uint32_t)n;
    of = inside.count;
    rest = w.rest(above.weight + n * each);
  }
};

/* Element e of a vector. */
template <class D> __device__ __forceinline__ float pick(const Vec16& v, int e) {
  const int bit = e * D::kBytes * 8;
  Vec16 one = v;
  #pragma unroll
  for (int i = 1; i < 4; i++) one.w[0] = bit / 32 == i ? v.w[i] : one.w[0];
  one.w[0] >>= bit % 32;
  float x[D::kPerVector];
  D::unpack(one, x);
  return x[0];
}

/* One sweep of a search. */
template <class D> __device__ __forceinline__ void fill(const char* row, int64_t vocab, const Search& s, Bins* bins) {
  constexpr int n = D::kPerVector;
  const float from = s.ids ? s.t : Key<D>::value(s.lo), to = s.ids ? s.t : Key<D>::value(s.hi);
  const int vectors = (int)vectors_of<D>(vocab), whole = whole_of<D>(row, vocab);
  Vec16 next = load<D>(row, threadIdx.x, whole, vocab);
  for (int begin = 0; begin < vectors; begin += blockDim.x) { /* all threads take the same number of steps */
    const int i = begin + threadIdx.x;
    const Vec16 v = next;
    next = load<D>(row, i + blockDim.x, whole, vocab);
    float x[n];
    D::unpack(v, x);
    uint32_t left = 0;
    #pragma unroll
    for (int e = 0; e < n; e++) left |= (uint32_t)(x[e] >= from && x[e] <= to) << e;
    while (__ballot_sync(kFullMask, left != 0)) { /* each lane its next one */
      const int e = left ? __ffs(left) - 1 : 0;
      const float value = pick<D>(v, e);
      const uint32_t key = s.ids ? UINT32_MAX - (uint32_t)(i * n + e) : Key<D>::of(value);
      const bool in = left && key >= s.lo && key <= s.hi;
      bins->add_lanes(in, (s.hi - key) >> s.shift, in ? s.w.of(value) : 0);
      left &= left - 1;
    }
  }
}

/* What the block shares. */
struct alignas(16) Shared {
  Online online[kThreads / kWarp];
  Best best[kThreads / kWarp];
  Sums sums[kThreads / kWarp];
  double bars[kThreads / kWarp];
  Bin bin;
  Sums all;
  Search search;
  Cut cut;     /* of the race under way */
  double rest; /* the sum of the kept e_v, less 1 */
  /* behind it the bounds of a race, or Bins */
};

/* Leaves the cut and the rest in shared->search, for all to see. own_max: of what this thread has of the row. */
template <class D>
__device__ __forceinline__ void find_cut(const char* row, int64_t vocab, const Filters& f, bool rest_wanted, float own_max,
                                         Shared* shared,
                          Bins* bins) {
  Search& s = shared->search;
  #pragma unroll 1
  for (int stage = kTopK; stage < kStages; stage++) {
    __syncthreads(); /* all have seen how the stage before ended */
    if (threadIdx.x == 0) s.begin<D>((Stage)stage, f, vocab);
    __syncthreads();
    while (s.going) {
      bins->clear(s.bins);
      if (s.of_maxima) {
        const uint32_t key = Key<D>::of(own_max);
        bins->add_lanes(key >= s.lo && key <= s.hi, (s.hi - key) >> s.shift, 0);
      } else {
        fill<D>(row, vocab, s, bins);
      }
      bins->find(s.bins, s.by_weight, s.left(), &shared->bin, &shared->all, shared->sums);
      if (threadIdx.x == 0) s.advance<D>(shared->bin, shared->all);
      __syncthreads();
    }
    if (s.unknown && rest_wanted) {
      const Sums kept = ahead<D>(row, vocab, s.w, s.t, INT_MAX, shared->sums);
      if (threadIdx.x == 0) s.rest = s.w.rest(kept.weight);
    }
  }
}

/* Whether the winner of all is kept, where that is known without the cut. */
template <class D>
__device__ __forceinline__ bool surely_kept(const char* row, int64_t vocab, const Search& s, const Filters& f, float x,
                                            int token,
                             Sums* slots) {
  if (x < s.min_p_logit || (f.top_k && f.top_p < 1)) return false;
  if (!f.top_k && f.top_p == 1) return true;
  const Sums before = ahead<D>(row, vocab, s.w, x, token, slots);
  return f.top_k ? before.count < (uint64_t)f.top_k : before.weight < s.w.target(f.top_p, s.rest);
}

/* ---- a row ---- */

__device__ __forceinline__ void write(const Sample& a, int64_t r, int64_t token, double log_prob, double log_prob_kept) {
  if (a.token_type == TEAMTR_I32) static_cast<int32_t*>(a.tokens)[r] = (int32_t)token;
  else static_cast<int64_t*>(a.tokens)[r] = token;
  if (a.log_probs) a.log_probs[r] = (float)log_prob;
  if (a.log_probs_kept) a.log_probs_kept[r] = (float)log_prob_kept;
}

template <class D, bool kFilters>
__global__ void __launch_bounds__(kThreads, kFilters ? 1 : 2) sample_kernel(const Sample a, const Filters f) {
  Shared* mine = reinterpret_cast<Shared*>(shared_memory());
  uint32_t* bounds = reinterpret_cast<uint32_t*>(mine + 1);
  bool again = false; /* the second race of a row, in its cut */
  for (int64_t r = blockIdx.x; r < a.x.rows; r += again ? 0 : gridDim.x) {
    if (!good_temperature(row_temperature(a, r))) {
      if (threadIdx.x == 0) write(a, r, -1, NAN, NAN);
      continue;
    }
    if (threadIdx.x == 0 && !again) mine->cut = everything();
    const char* row = a.x.row(r);
    Race race{a, r, scale_of(row_temperature(a, r)), &mine->cut, {}};
    Online o;
    if (aligned16(row)) sweep<D, true>(row, a.x.vocab, &race, &o, bounds, mine->bars);
    else sweep<D, false>(row, a.x.vocab, &race, &o, bounds, mine->bars);
    const float own_max = o.max;
    o = block_merged(o, race.scale, mine->online);
    const int token = winner_of(race, mine->best);
    const RowStats s = o.finish();
    const bool proper = s.max > -kInfinity && s.max < kInfinity && s.rest == s.rest;
    if (threadIdx.x == 0 && !again) mine->rest = greedy(a, r) ? 0 : s.rest;
    if (again) {
      again = false;
    } else if (kFilters && proper && !greedy(a, r)) {
      Search& search = mine->search;
      if (threadIdx.x == 0) search.open<D>(s, race.scale, f, row_temperature(a, r));
      __syncthreads();
      const float x = element<D>(row, token);
      const bool asked = a.log_probs_kept != nullptr;
      if (asked || !surely_kept<D>(row, a.x.vocab, search, f, x, token, mine->sums)) {
        find_cut<D>(row, a.x.vocab, f, asked, own_max, mine, reinterpret_cast<Bins*>(mine + 1));
        const Cut cut{search.t, search.last};
        if (threadIdx.x == 0) {
          mine->cut = cut;
          mine->rest = search.rest;
        }
        again = !cut.keeps(x, token);
        if (again) continue;
      }
    }
    if (threadIdx.x == 0) {
      const double temperature = row_temperature(a, r);
      const float x = proper ? element<D>(row, token) : 0;
      write(a, r, proper ? token : -1, RowResult(s, temperature).log_prob(x),
            RowResult({s.max, proper ? mine->rest : NAN, 0}, temperature).log_prob(x));
    }
  }
}

template <class D> int32_t run(const Place& place, const Sample& a, const Filters& f) {
  const int threads = threads_for(a.x.vocab, D::kDtype);
  const int64_t step = (int64_t)threads * kUnroll * D::kPerVector, tokens = (a.x.vocab + step - 1) / step * step;
  const int64_t blocks = ((tokens < kChunk ? tokens : kChunk) + 2047) / 2048;
  const size_t bounds = (size_t)blocks * 32 * sizeof(float);
  Launch l{place, blocks_for(a.x.rows), threads, sizeof(Shared) + bounds};
  if (!f.top_k && f.top_p == 1 && f.min_p == 0) return launch<sample_kernel<D, false>>(l, a, f);
  if (bounds < sizeof(Bins)) l.shared_bytes = sizeof(Shared) + sizeof(Bins);
  return launch<sample_kernel<D, true>>(l, a, f);
}

}  // namespace

int32_t sample(const Place& place, const Sample& a) {
  const Filters f{a.top_k < a.x.vocab ? a.top_k : 0, a.top_p, a.min_p};
  if (a.x.dtype == TEAMTR_F32) return run<F32>(place, a, f);
  return a.x.dtype == TEAMTR_BF16 ? run<Bf16>(place, a, f) : run<F16>(place, a, f);
}

}  // namespace cuda
}  // namespace teamtr
