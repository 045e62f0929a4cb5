/*
 * Sampling: draws a token of each row, and computes its log-prob, also renormalised over the tokens that the filters keep.
 *
 * The method and the random bits are those of native/src/sampling.inl: exponential races among the row's blocks of 2,048
 * tokens, among the 32 segments of the block drawn, among the 64 tokens of the segment drawn; with filters up to four attempts, then
 * one race among all kept tokens. So the main sweep needs no random numbers.
 *
 * Passes over device memory, V b bytes each for V tokens of b bytes:
 *   no filter    one; for bf16, 4 KiB are read again.
 *   filters      the same. Whether a drawn token is kept follows from the segments' sums and maxima in shared memory, or from
 *                the tokens of only those segments that may contain a token that precedes it (has a larger logit).
 *   the cut      is needed only for renormalised log-probs, for top-k together with top-p, or after four attempts: one to four passes
 *                over the segments that may contain it.
 *
 * The main sweep computes the sums of the log-probs kernel (statistics.cuh) in the same order with fewer warps: a warp does the work of
 * several warps of that kernel, one after the other. So log-probs have the same bits as those of LogProbs. For each chunk of 1,024
 * consecutive tokens it also stores the maximum m and the sum of exp2((x - m) log2 e / T), from which tokens are drawn. In a chunk of
 * 16-bit tokens, lane l processes the tokens k * 256 + l * 8 + e, k from 0 to 3 and e from 0 to 7, which are one half of segment l of a
 * block; in f32, two lanes process the halves of two segments, and exchange their sums where filters need them.
 *
 * Instructions for a bf16 element (cuda/sass.py, sm_90): 6.3, with filters 6.5. Measured: not yet run on a GPU. The kernel before this
 * one (commit 3590011, H200), with 31, ran at 37 % of copy, at 15 % with top-p.
 *
 * The cut. Weights are 64-bit fixed-point numbers, scaled so that the row's sum just fits: sums of integers are the same in any
 * order, so atomics in shared memory do not make the bits depend on the order. A histogram of the keys (order-preserving integers)
 * between two bounds gives the bin that contains the cut; the next histogram divides that bin, until it is a single key: 11 bits per
 * histogram. Bounds shorten the search: for top-p, all tokens below a bound weigh less than is left out; for top-k with k up to the
 * number of threads, the bound is the k-th largest of the threads' maxima. Only segments with a logit between the bounds are read.
 *
 * Blocks: 128 threads, or fewer for short rows; four blocks per multiprocessor, with filters three, so that one draws while others
 * sweep. A block computes a row; where there are fewer rows than multiprocessors, a cluster of up to four blocks does. Its first
 * block receives the results of the sweep through distributed shared memory and does the rest.
 * Shared memory: 8 bytes per chunk and 10 KiB; with filters 328 bytes per chunk, and 24 KiB of bins. Where that does not fit, there are
 * no records of segments, and all of the row is read instead of some segments.
 * Contract: teamtr.h.
 */
#include <cfloat>
#include <climits>

#include "noise.h"
#include "statistics.cuh"

namespace teamtr {
namespace cuda {
namespace {

constexpr int kChunk = 1024;       /* tokens; two are a block of the draw */
constexpr int kMostChunks = 8192;  /* chunks whose records are in shared memory at a time */
constexpr int kBins = 2048;        /* of a histogram */
constexpr int kSampleThreads = 128; /* the most threads of a block */
constexpr int kSampleWarps = kSampleThreads / kWarp;
template <bool kFilters> constexpr int kSampleBlocks = kFilters ? 3 : 4; /* per multiprocessor */
static_assert(kMostChunks % kMostWarps == 0, "a part of a row begins with the first warp's chunk");
constexpr uint32_t kNone = 0xffffffffu;

__device__ __forceinline__ bool greedy(const Sample& a, int64_t r) { return a.temperature[r] == 0; }
__device__ __forceinline__ double row_temperature(const Sample& a, int64_t r) { return greedy(a, r) ? 1 : a.temperature[r]; }

/* A row. `whole`: how many of its vectors can be loaded as 16 aligned bytes; 0 in an unaligned row. */
template <class D> struct Row {
  const char* data;
  int64_t vocab;
  int vectors, whole;

  __device__ __forceinline__ Row(const char* data, int64_t vocab)
      : data(data), vocab(vocab), vectors(vectors_of<D>(vocab)), whole(aligned16(data) ? whole_vectors_of<D>(vocab) : 0) {}
  __device__ __forceinline__ int chunks() const { return (int)((vocab + kChunk - 1) / kChunk); }
  /* Loads a vector through the L1 cache, as it may be read again soon; -inf after the row's end. */
  __device__ __forceinline__ Vec16 vector(int i) const {
    return i < whole ? *reinterpret_cast<const Vec16*>(data + (int64_t)i * 16) : load_vector<D, false>(data, i, vocab);
  }
  __device__ __forceinline__ float logit(int64_t token) const { return token < vocab ? element<D>(data, token) : -kInfinity; }
};

/* ---- chunks ---- */

struct Chunk {
  float max, sum; /* sum of exp2((x - max) scale) */
};

/* The maximum of one half of a segment, and its share of its chunk's sum. */
struct Half {
  float max, sum;
};

/* The number of vectors of a lane in a chunk, 32 elements. lane_vector: the row's vector that is the n-th of lane `half` in a chunk. */
template <class D> constexpr int kLaneVectors = 32 / D::kPerVector;
template <class D> __device__ __forceinline__ int lane_vector(int chunk, int half, int n) {
  constexpr int wide = 8 / D::kPerVector; /* vectors of eight elements */
  return chunk * (kChunk / D::kPerVector) + n / wide * (256 / D::kPerVector) + half * wide + n % wide;
}

template <class D> __device__ __forceinline__ void load_any(const Row<D>& row, int chunk, Vec16* v) {
#pragma unroll
  for (int n = 0; n < kLaneVectors<D>; n++) {
    v[n] = row.vector(lane_vector<D>(chunk, lane(), n));
    __syncwarp(); /* so that nvcc loads one vector after the other; together they need too many registers */
  }
}

/* Ignores NaNs, which the sums keep. */
template <class D> __device__ __forceinline__ float lane_max(const Vec16* v) {
  uint32_t m[4];
#pragma unroll
  for (int i = 0; i < 4; i++) {
    m[i] = v[0].w[i];
#pragma unroll
    for (int n = 1; n < kLaneVectors<D>; n++) m[i] = D::max_words(m[i], v[n].w[i]);
  }
  return D::largest(D::max_words(D::max_words(m[0], m[1]), D::max_words(m[2], m[3])));
}

/* The sum of exp2(exponent(x)) over a lane's elements, in an order that is the same for all dtypes. */
template <class D, class Exponent> __device__ __forceinline__ float lane_sum(const Vec16* v, Exponent&& exponent) {
  float s[4] = {};
#pragma unroll
  for (int n = 0; n < kLaneVectors<D>; n++) {
    float x[D::kPerVector];
    D::unpack(v[n], x);
#pragma unroll
    for (int e = 0; e < D::kPerVector; e++) s[e % 4] += exp2_approx(exponent(x[e]));
  }
  return (s[0] + s[1]) + (s[2] + s[3]);
}

__device__ __forceinline__ float warp_max(float x) { return value_of(__reduce_max_sync(kFullMask, key_of(x))); }

/* exp2((x - max) scale); 0 for masked tokens, also if all tokens are masked and max is -inf. */
__device__ __forceinline__ float weight_at(float x, float max, float scale) {
  return exp2_approx(x == max ? 0.0f : (x - max) * scale);
}
/* A chunk's weight relative to `max`, which is not less than the chunk's maximum. */
__device__ __forceinline__ float weight_of(const Chunk& c, float max, float scale) { return c.sum * weight_at(c.max, max, scale); }

/* The record of a chunk whose vectors the warp's lanes hold, in all lanes; *mine: this lane's half of a segment. */
template <class D> __device__ __forceinline__ Chunk record_of(const Vec16* v, float scale, Half* mine) {
  const float own = lane_max<D>(v), m = warp_max(own), at = m * scale;
  float part;
  if (fabsf(at) <= 0x1p20f) {
    part = lane_sum<D>(v, [&](float x) { return fmaf(x, scale, -at); }) * exp2_approx(-fmaf(m, scale, -at));
  } else {
    const float top = m > -kInfinity ? m : 0;
    part = lane_sum<D>(v, [&](float x) { return (x - top) * scale; });
  }
  *mine = {own, part};
  return {m, warp_sum(part)};
}

struct Worked {
  Chunk record;
  Half mine;
};
/* Loads and computes any chunk, also at the row's end or in an unaligned row. */
template <class D> __device__ __forceinline__ Worked work_on(const char* data, int64_t vocab, int chunk, float scale) {
  Vec16 v[kLaneVectors<D>];
  load_any<D>(Row<D>(data, vocab), chunk, v);
  Worked w;
  w.record = record_of<D>(v, scale, &w.mine);
  return w;
}
/* ---- the main sweep ---- */

/* A lane's sums for one warp of the statistics. */
struct LaneSums {
  float e[kPlaces];
  uint32_t max;
};

/* The number of halves of segments for which a lane keeps sums during a sweep: two for f32 with filters, else one. */
template <class D, bool kFilters> constexpr int kLaneHalves = D::kBytes == 4 && kFilters ? 2 : 1;

/* The sweep of warp w of the statistics over its chunks in the given tokens. Stores the warp's sums and reference in *kept and *k_kept,
 * which with `more` are those of earlier tokens and are added to; the key of its largest logit; the chunks' records; and the halves of
 * segments where `table` is not null. */
template <class D, bool kFilters, bool kAligned>
__device__ __forceinline__ void sweep(const char* row, int64_t vocab, const WarpOf& w, float scale, bool more, LaneSums* kept,
                                      float* k_kept, int* key, Chunk* records, Half* table) {
  constexpr int halves = kLaneHalves<D, kFilters>;
  Sums sums;
  float k = 0, part[halves] = {};
  uint32_t max[halves];
  sums.max = D::kMasked;
#pragma unroll
  for (int h = 0; h < halves; h++) max[h] = D::kMasked;
  if (more) {
    k = *k_kept;
    sums.max = kept->max;
#pragma unroll
    for (int i = 0; i < kPlaces; i++) sums.e[i] = kept->e[i];
  }
  bool again = false; /* for some chunk the reference was too far off */
  const auto of_use = [&](float y) { return fabsf(y) <= kLargestPower; };
  const auto finish_chunk = [&](int chunk) {
    float own[halves];
#pragma unroll
    for (int h = 0; h < halves; h++) {
      own[h] = D::largest(max[h]);
      sums.max = D::max_words(sums.max, max[h]);
      max[h] = D::kMasked;
    }
    const float m = warp_max(halves == 2 ? fmaxf(own[0], own[halves - 1]) : own[0]), y = fmaf(m, scale, k);
    again |= !of_use(y);
    const float factor = exp2_approx(-y), sum = warp_sum(halves == 2 ? part[0] + part[halves - 1] : part[0]) * factor;
    if (lane() == 0) records[chunk] = {m, sum};
    if (kFilters && table) {
      Half mine{own[0], part[0]};
      int segment = lane();
      if (halves == 2) { /* two lanes have the halves of two segments, at even and odd places */
        const bool odd = lane() & 1;
        mine.max = fmaxf(odd ? own[halves - 1] : own[0], __shfl_xor_sync(kFullMask, odd ? own[0] : own[halves - 1], 1));
        mine.sum = (odd ? part[halves - 1] : part[0]) + __shfl_xor_sync(kFullMask, odd ? part[0] : part[halves - 1], 1);
        segment = odd * (kWarp / 2) + lane() / 2;
      }
      mine.sum *= factor;
      table[chunk * kWarp + segment] = mine;
    }
#pragma unroll
    for (int h = 0; h < halves; h++) part[h] = 0;
  };
  const char* const rows[] = {row};
  walk_chunks<D, kAligned, kPlaces, 1, 1, kRun<D>>(
      rows, vocab, w,
      [&](const Vec16 (&v)[kPlaces][1]) {
        if (!more) k = first_reference<D>(v, scale);
      },
      [&](int place, const Vec16 (*v)[1], int number, auto) {
        const int h = place % halves;
#pragma unroll
        for (int i = 0; i < 4; i++) max[h] = D::max_words(max[h], v[0][0].w[i]);
        part[h] += sums.add<D, false>(place, v[0][0], scale, k);
        if (place == kPlaces - 1 && number / (kPlaces * kWarp) % kRun<D> == kRun<D> - 1)
          finish_chunk(number / (kLaneVectors<D> * kWarp));
      });
  if (again) {
    __syncwarp();
#pragma unroll 1
    for (int c = w.index; (int64_t)c * kChunk < vocab; c += w.count) {
      if (of_use(fmaf(records[c].max, scale, k))) continue;
      const Worked worked = work_on<D>(row, vocab, c, scale);
      if (lane() == 0) records[c] = worked.record;
      if (kFilters && table) table[c * kWarp + lane()] = worked.mine;
      __syncwarp();
    }
  }
  const int mine = key_of(D::largest(sums.max)), most = __reduce_max_sync(kFullMask, mine);
#pragma unroll
  for (int i = 0; i < kPlaces; i++) kept->e[i] = sums.e[i];
  kept->max = sums.max;
  if (lane() == 0) {
    *k_kept = k;
    *key = most;
  }
}

/* The winner so far of a race among blocks; its score is relative to `max`. */
struct Candidate {
  float score, max;
  int block; /* -1: none */
};

/* The largest logit so far, and the first chunk that contains it. */
struct Top {
  float max;
  int chunk; /* -1: none yet */

  /* Adds the records of n chunks, of which `first` is the first. Called by one warp. */
  __device__ __forceinline__ void add(const Chunk* records, int first, int n) {
    float m = -kInfinity;
    for (int i = lane(); i < n; i += kWarp) m = fmaxf(m, records[i].max);
    m = warp_max(m);
    uint32_t at = kNone;
    for (int i = lane(); i < n; i += kWarp)
      if (records[i].max == m && (uint32_t)i < at) at = i;
    at = __reduce_min_sync(kFullMask, at);
    if (chunk >= 0 && !(m > max)) return;
    max = m;
    chunk = at == kNone ? first : first + (int)at;
  }
};

/* ---- draws, each by one warp ---- */

/* The index of the largest of the lanes' scores, the lowest index of equal ones; in all lanes. Scores are not negative. */
__device__ __forceinline__ uint32_t winner_of(float score, uint32_t index) {
  const uint32_t bits = __float_as_uint(score), most = __reduce_max_sync(kFullMask, bits);
  return __reduce_min_sync(kFullMask, bits == most ? index : kNone);
}

/* Continues a race with the blocks of n chunks, of which `first` is the first; `best` is the winner so far. */
__device__ __forceinline__ Candidate race_blocks(const Chunk* records, int first, int n, float scale, const Noise noise, int attempt,
                                    const Candidate best) {
  float m = -kInfinity;
  for (int i = lane(); i < n; i += kWarp) m = fmaxf(m, records[i].max);
  m = warp_max(m);
  float most = 0;
  uint32_t at = kNone;
#pragma unroll 1
  for (int b = lane(); 2 * b < n; b += kWarp) {
    float w = weight_of(records[2 * b], m, scale);
    if (2 * b + 1 < n) w += weight_of(records[2 * b + 1], m, scale);
    const float score = w / exponential(noise.word(first_counter(Sequence::kBlocks, attempt), first / 2 + b));
    if (score > most) {
      most = score;
      at = b;
    }
  }
  at = winner_of(most, at);
  if (at == kNone) return best; /* all masked */
  most = value_of(__reduce_max_sync(kFullMask, key_of(most)));
  if (best.block >= 0) { /* of equal scores, the earlier block's wins */
    const float top = fmaxf(m, best.max);
    if (most * weight_at(m, top, scale) <= best.score * weight_at(best.max, top, scale)) return best;
  }
  return {most, m, first / 2 + (int)at};
}

struct Drawn {
  int token;
  float logit;
};

/* Draws a token of a block. */
template <class D>
__device__ __forceinline__ Drawn draw_in_block(const char* data, int64_t vocab, int block, float scale, const Noise noise, int attempt) {
  const Row<D> row(data, vocab);
  float m = -kInfinity, sum = 0;
#pragma unroll 1
  for (int half = 0; half < 2; half++) {
    const Worked w = work_on<D>(data, vocab, 2 * block + half, scale);
    const float top = fmaxf(m, w.record.max);
    sum = sum * weight_at(m, top, scale) + w.mine.sum * weight_at(w.record.max, top, scale);
    m = top;
  }
  const int segment = (int)winner_of(sum / exponential(noise.word(first_counter(Sequence::kOfSegments, attempt), lane())), lane());
  const auto token_of = [&](int i) { return block * kDrawBlock + i / 8 * 256 + segment * 8 + i % 8; };
  float most = 0;
  uint32_t at = kNone;
#pragma unroll 1
  for (int i = lane(); i < kSegmentTokens; i += kWarp) {
    const float score = weight_at(row.logit(token_of(i)), m, scale) /
                        exponential(noise.word(first_counter(Sequence::kOfTokens, attempt), i));
    if (score > most) {
      most = score;
      at = i;
    }
  }
  const int token = token_of((int)winner_of(most, at));
  return {token, row.logit(token)};
}

/* The lowest id of the largest logit. */
template <class D> __device__ __forceinline__ Drawn largest(const Row<D>& row, const Top& t) {
  uint32_t at = kNone;
  for (int i = lane(); i < kChunk; i += kWarp) {
    const int64_t token = (int64_t)t.chunk * kChunk + i;
    if (token < row.vocab && row.logit(token) == t.max && (uint32_t)token < at) at = (uint32_t)token;
  }
  return {(int)__reduce_min_sync(kFullMask, at), t.max};
}

/* ---- the cut ---- */

/* Integers in the order of a dtype's values; adjacent values have adjacent integers, and both zeros have the same. */
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
  /* The fixed-point sum that a share of tokens with this rest must reach, less the rounding error that rest may contain, so that 9 of 10
   * equal logits reach a share of 0.9. */
  __device__ __forceinline__ uint64_t target(double share, double rest) const {
    const double wanted = ceil(share * (1 - 0x1p-21) * (1 + rest) * unit);
    return wanted > 1 ? (uint64_t)wanted : 1;
  }
  /* A fixed-point sum less one occurrence of the maximum, as a double. */
  __device__ __forceinline__ double rest(uint64_t sum) const { return (double)(int64_t)(sum - (uint64_t)unit) / unit; }
};

struct Tally {
  uint32_t count;
  uint64_t weight;
  __device__ __forceinline__ void add(const Tally& o) {
    count += o.count;
    weight += o.weight;
  }
};

__device__ __forceinline__ uint64_t measure(const Tally& s, bool by_weight) { return by_weight ? s.weight : s.count; }

struct Bin {
  int at; /* -1: all bins together do not reach the target */
  Tally above, inside;
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

  __device__ __forceinline__ void add(uint32_t bin, const Tally& s) {
    atomic_add_64(&weight[bin], s.weight);
    atomicAdd(&count[bin], s.count);
  }

  /* Adds a token of each lane for which `in` is true. Where many lanes have the same bin, their weights are summed first, since in a row
   * with few different logits most additions go to a few bins. */
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

  /* Finds the first bin up to which counts, or weights, sum to at least `wanted`, or -1, and the sum of all bins; in shared memory. */
  __device__ __forceinline__ void find(int used, bool by_weight, uint64_t wanted, Bin* found, Tally* all, Tally* slots) {
    const int each = (used + blockDim.x - 1) / blockDim.x, from = threadIdx.x * each;
    const int to = from + each < used ? from + each : used;
    if (threadIdx.x == 0) found->at = -1;
    __syncthreads(); /* also: all tokens have been added to the bins */
    Tally mine{0, 0};
    for (int i = from; i < to; i++) mine.add({count[i], weight[i]});
    Tally before = mine; /* first the sum over lanes up to this one, then over all threads before this one */
    for (int distance = 1; distance < kWarp; distance *= 2) {
      const int other = lane() >= distance ? lane() - distance : 0;
      const Tally s{__shfl_sync(kFullMask, before.count, other), __shfl_sync(kFullMask, before.weight, other)};
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
        const Tally inside{count[i], weight[i]};
        Tally upto = before;
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

struct Filters {
  int64_t top_k; /* 0: none */
  double top_p, min_p;
};
enum Stage { kTopK, kTopP, kMinP, kIds, kStages };

/* The search for the cut: one stage for each filter, and one for equal logits. Thread 0 updates it in shared memory, and the others
 * read it after a barrier; it does not fit into registers. */
struct Search {
  Weight w;
  double temperature, rest; /* rest: the sum of the kept e_v, less 1 */
  float min_p_logit;        /* the smallest logit that min-p keeps */
  /* The kept tokens: those above t, and the first `ties` of the `of` tokens that equal t, which have ids up to `last`. */
  float t;
  uint32_t ties, of;
  int last;
  /* What the stage searches: the shortest prefix of the tokens whose count, or weight, reaches `wanted`. */
  bool going, by_weight, ids;
  bool unknown; /* whether rest has not been computed yet */
  uint64_t wanted;
  /* Where it searches: keys lo to hi, in bins of 2^shift keys. With `ids`, keys are made from the ids of the logits equal to t. */
  uint32_t lo, hi, top, bottom;
  int shift, bins;
  int of_maxima; /* histograms still to be made of the threads' maxima instead of the row */
  Tally above;    /* count and weight of keys above hi */

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
    /* At least k tokens are as large as the k-th largest of the threads' maxima, which is a lower bound; 22 bits of it suffice. */
    of_maxima = stage == kTopK && f.top_k <= blockDim.x ? 2 : 0;
    if (stage == kTopP) {
      wanted = w.target(f.top_p, rest);
      /* All logits below `least` together weigh less than what top-p leaves out, so the cut is not below it. */
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

  /* Narrows the search after a histogram. */
  template <class D> __device__ __forceinline__ void advance(const Bin& bin, const Tally& all) {
    if (bin.at < 0) {
      if (of_maxima) {
        of_maxima = 0;
        hi = top;
        above = {0, 0};
      } else if (lo == bottom) { /* even all tokens do not reach the target: some are masked, or rounding */
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

  /* Ends a stage: the cut is at the key hi; `inside` is the tally of all tokens with that key. */
  template <class D> __device__ __forceinline__ void end(const Tally& inside) {
    const float found = Key<D>::value(hi);
    const uint64_t each = inside.weight / inside.count, n = by_weight ? (left() + each - 1) / each : left();
    if (found < t || (found == t && n >= ties)) return; /* by rounding it may be one token longer than what earlier filters keep */
    t = found;
    ties = (uint32_t)n;
    of = inside.count;
    rest = w.rest(above.weight + n * each);
  }
};

/* Element e of a vector. */
template <class D> __device__ __forceinline__ float pick(const Vec16& v, int e) {
  constexpr int n = D::kPerVector / 4; /* elements of a word */
  float x[n];
  unpack_word<D>(v, e / n, x);
  return e % n ? x[n - 1] : x[0];
}

/* ---- shared memory of a block ---- */

struct alignas(16) Shared {
  StatisticsShared statistics;
  RowStats stats;
  Top top;
  Candidate candidates[kAttempts];
  Drawn drawn;
  Tally sums[kSampleWarps];
  double bounds[kSampleWarps];
  Drawn winners[kSampleWarps]; /* logit: the score */
  Bin bin;
  Tally all;
  Search search;
  uint32_t listed;
  /* after it: the chunks' records; with filters, bins and, if they fit, the halves of segments and a list of halves */
};

/* The maxima of the halves of a row's segments, which show where a logit can be. For very long rows the table does not fit into shared
 * memory; then all of the row is searched. */
struct Halves {
  const Half* table; /* [chunk][lane] or null */
  uint16_t* list;
  uint32_t* listed;
  int chunks;

  /* Lists the halves that contain a logit of at least t. This and the following functions are called by all threads of the block. */
  __device__ __forceinline__ void find(float t) const {
    if (!table) return;
    __syncthreads();
    if (threadIdx.x == 0) *listed = 0;
    __syncthreads();
    for (int c = warp(); c < chunks; c += warps()) {
      const bool in = table[c * kWarp + lane()].max >= t;
      const uint32_t all = __ballot_sync(kFullMask, in);
      uint32_t at = 0;
      if (lane() == 0 && all) at = atomicAdd(listed, (uint32_t)__popc(all));
      at = __shfl_sync(kFullMask, at, 0);
      if (in) list[at + __popc(all & ((1u << lane()) - 1))] = (uint16_t)(c * kWarp + lane());
    }
    __syncthreads();
  }

  /* Calls step(first token, vector) for the vectors of the listed halves, or of the row; in all threads equally often. */
  template <class D, class Step> __device__ __forceinline__ void walk(const Row<D>& row, Step&& step) const {
    const int count = table ? (int)*listed * kLaneVectors<D> : row.vectors;
    for (int begin = 0; begin < count; begin += blockDim.x) {
      const int i = begin + threadIdx.x;
      int at = row.vectors; /* after the row's end: -inf */
      if (i < count) {
        at = i;
        if (table) {
          const int half = list[i / kLaneVectors<D>];
          at = lane_vector<D>(half / kWarp, half % kWarp, i % kLaneVectors<D>);
        }
      }
      step((int64_t)at * D::kPerVector, row.vector(at));
    }
  }
};

/* ---- what a block decides together: the cut, whether a token is kept, the last draw ---- */

/* The sum over the block's threads, in all threads. */
__device__ __forceinline__ Tally block_sum(Tally s, Tally* slots) {
  s.count = warp_sum(s.count);
  s.weight = warp_sum(s.weight);
  if (lane() == 0) slots[warp()] = s;
  __syncthreads();
  s = {0, 0};
  for (int k = 0; k < warps(); k++) s.add(slots[k]);
  __syncthreads(); /* before the slots are written again */
  return s;
}

/* The tally of the tokens that precede one with logit t and this id: those with larger logits, or equal logits and lower ids. */
template <class D>
__device__ __forceinline__ Tally ahead(const Row<D>& row, const Halves& halves, const Weight& w, float t, int id, Tally* slots) {
  Tally s{0, 0};
  halves.find(t);
  halves.walk(row, [&](int64_t first, const Vec16& v) {
    float x[D::kPerVector];
    D::unpack(v, x);
#pragma unroll
    for (int e = 0; e < D::kPerVector; e++)
      if (x[e] > t || (x[e] == t && first + e < id)) s.add({1, w.of(x[e])});
  });
  return block_sum(s, slots);
}

/* Makes one histogram of a search. */
template <class D> __device__ __forceinline__ void fill(const Row<D>& row, const Halves& halves, const Search& s, Bins* bins) {
  const float from = s.ids ? s.t : Key<D>::value(s.lo), to = s.ids ? s.t : Key<D>::value(s.hi);
  halves.find(from);
  halves.walk(row, [&](int64_t first, const Vec16& v) {
    float x[D::kPerVector];
    D::unpack(v, x);
    uint32_t left = 0;
#pragma unroll
    for (int e = 0; e < D::kPerVector; e++) left |= (uint32_t)(x[e] >= from && x[e] <= to) << e;
    while (__ballot_sync(kFullMask, left != 0)) { /* each lane adds its next token */
      const int e = left ? __ffs(left) - 1 : 0;
      const float value = pick<D>(v, e);
      const uint32_t key = s.ids ? UINT32_MAX - (uint32_t)(first + e) : Key<D>::of(value);
      const bool in = left && key >= s.lo && key <= s.hi;
      bins->add_lanes(in, (s.hi - key) >> s.shift, in ? s.w.of(value) : 0);
      left &= left - 1;
    }
  });
}

/* Computes the cut, and where it is wanted the sum of the kept weights, in shared->search; all threads may read it afterwards. */
template <class D>
__device__ __forceinline__ void find_cut(const char* data, int64_t vocab, const Halves halves, const Chunk* records, const Filters& f,
                            bool rest_wanted, Shared* shared, Bins* bins) {
  const Row<D> row(data, vocab);
  Search& s = shared->search;
  float own_max = -kInfinity; /* of this thread's part of the row */
  if (halves.table)
    for (int i = threadIdx.x; i < halves.chunks * kWarp; i += blockDim.x) own_max = fmaxf(own_max, halves.table[i].max);
  else
    for (int i = threadIdx.x; i < halves.chunks && i < kMostChunks; i += blockDim.x) own_max = fmaxf(own_max, records[i].max);
#pragma unroll 1
  for (int stage = kTopK; stage < kStages; stage++) {
    __syncthreads(); /* all threads have read the result of the previous stage */
    if (threadIdx.x == 0) s.begin<D>((Stage)stage, f, row.vocab);
    __syncthreads();
    while (s.going) {
      bins->clear(s.bins);
      if (s.of_maxima) {
        const uint32_t key = Key<D>::of(own_max);
        bins->add_lanes(key >= s.lo && key <= s.hi, (s.hi - key) >> s.shift, 0);
      } else {
        fill(row, halves, s, bins);
      }
      bins->find(s.bins, s.by_weight, s.left(), &shared->bin, &shared->all, shared->sums);
      if (threadIdx.x == 0) s.advance<D>(shared->bin, shared->all);
      __syncthreads();
    }
    if (s.unknown && rest_wanted) {
      const Tally kept = ahead(row, halves, s.w, s.t, INT_MAX, shared->sums);
      if (threadIdx.x == 0) s.rest = s.w.rest(kept.weight);
    }
  }
  __syncthreads();
}

/* Whether a token is kept, without computing the cut. Not for top-k and top-p together. */
template <class D>
__device__ __forceinline__ bool is_kept(const char* data, int64_t vocab, const Halves halves, const Chunk* records, const Filters& f,
                           const Drawn drawn, Shared* shared) {
  const Row<D> row(data, vocab);
  const Search& s = shared->search;
  const float x = drawn.logit;
  if (x < s.min_p_logit) return false;
  if (!f.top_k && f.top_p == 1) return true;
  /* f32 sums have errors of some 1e-6 of the row's sum. */
  const double all = 1 + s.rest, slack = 1e-5 * all;
  if (!f.top_k && weight_at(x, s.w.max, s.w.scale) > (1 - f.top_p) * all + slack) return true; /* it alone weighs more than what is left out */
  if (halves.table) {
    uint32_t certain = 0; /* lower bound of the number of tokens that precede it */
    double most = 0;      /* upper bound of their weight */
    for (int i = threadIdx.x; i < halves.chunks * kWarp; i += blockDim.x) {
      const Half h = halves.table[i];
      certain += h.max > x;
      if (h.max >= x) most += (double)h.sum * (double)weight_at(records[i / kWarp].max, s.w.max, s.w.scale);
    }
    most = warp_sum(most);
    if (lane() == 0) shared->bounds[warp()] = most;
    certain = block_sum({certain, 0}, shared->sums).count;
    if (f.top_k && certain >= (uint64_t)f.top_k) return false;
    most = 0;
    for (int k = 0; k < warps(); k++) most += shared->bounds[k];
    if (!f.top_k && most < f.top_p * all - slack) return true;
  }
  const Tally before = ahead(row, halves, s.w, x, drawn.token, shared->sums);
  return f.top_k ? before.count < (uint64_t)f.top_k : before.weight < s.w.target(f.top_p, s.rest);
}

/* Draws a token by one race among all kept tokens; the result is in all threads. */
template <class D>
__device__ __forceinline__ Drawn draw_kept(const char* data, int64_t vocab, const Halves halves, const Noise noise, Shared* shared) {
  const Row<D> row(data, vocab);
  const Search& s = shared->search;
  const float t = s.t, max = s.w.max, scale = s.w.scale;
  const int last = s.last;
  float most = 0;
  uint32_t token = kNone;
  halves.find(t);
  halves.walk(row, [&](int64_t first, const Vec16& v) {
    float x[D::kPerVector];
    D::unpack(v, x);
    uint32_t left = 0;
#pragma unroll
    for (int e = 0; e < D::kPerVector; e++) left |= (uint32_t)(x[e] > t || (x[e] == t && first + e <= last)) << e;
    for (; left; left &= left - 1) {
      const int e = __ffs(left) - 1;
      const uint32_t id = (uint32_t)(first + e);
      const float score = weight_at(pick<D>(v, e), max, scale) / exponential(noise.word(first_counter(Sequence::kKept, 0), id));
      if (score > most || (score == most && id < token)) {
        most = score;
        token = id;
      }
    }
  });
  token = winner_of(most, token);
  most = value_of(__reduce_max_sync(kFullMask, key_of(most)));
  if (lane() == 0) shared->winners[warp()] = {(int)token, most};
  __syncthreads();
  for (int k = 0; k < warps(); k++) {
    const Drawn o = shared->winners[k];
    if (o.logit > most || (o.logit == most && (uint32_t)o.token < token)) {
      most = o.logit;
      token = (uint32_t)o.token;
    }
  }
  __syncthreads();
  return {(int)token, row.logit((int64_t)token)};
}

/* ---- a row ---- */

__device__ __forceinline__ void write(const Sample& a, int64_t r, int64_t token, double log_prob, double log_prob_kept) {
  if (a.token_type == TEAMTR_I32) static_cast<int32_t*>(a.tokens)[r] = (int32_t)token;
  else static_cast<int64_t*>(a.tokens)[r] = token;
  if (a.log_probs) a.log_probs[r] = (float)log_prob;
  if (a.log_probs_kept) a.log_probs_kept[r] = (float)log_prob_kept;
}

/* Draws a token with filters into shared->drawn, and computes the sum of the kept weights in shared->search where it is wanted. */
template <class D>
__device__ __forceinline__ void draw_filtered(const Sample& a, const Row<D>& row, const Halves& halves, const Chunk* records,
                                              const Filters& f, const Noise& noise, float scale, double temperature,
                                              Shared* shared, Bins* bins) {
  const bool asked = a.log_probs_kept != nullptr;
  if (threadIdx.x == 0) shared->search.open<D>(shared->stats, scale, f, temperature);
  __syncthreads();
  bool known = false; /* whether the cut has been computed */
#pragma unroll 1
  for (int attempt = 0;; attempt++) {
    if (!known && (asked || (f.top_k && f.top_p < 1) || attempt == kAttempts)) {
      find_cut<D>(row.data, row.vocab, halves, records, f, asked, shared, bins);
      known = true;
    }
    if (attempt == kAttempts) {
      const Drawn drawn = draw_kept<D>(row.data, row.vocab, halves, noise, shared);
      if (threadIdx.x == 0) shared->drawn = drawn;
      break;
    }
    if (warp() == 0) {
      const Drawn drawn = draw_in_block<D>(row.data, row.vocab, shared->candidates[attempt].block, scale, noise, attempt);
      if (lane() == 0) shared->drawn = drawn;
    }
    __syncthreads();
    const Drawn drawn = shared->drawn;
    const Search& s = shared->search;
    const bool kept = known ? drawn.logit > s.t || (drawn.logit == s.t && drawn.token <= s.last)
                            : is_kept<D>(row.data, row.vocab, halves, records, f, drawn, shared);
    __syncthreads(); /* before another token is drawn */
    if (kept) break;
  }
  __syncthreads();
}

/* The layout of a block's shared memory. */
struct Layout {
  Shared* shared;
  Chunk* records;
  Half* table;     /* null without filters, or where it does not fit */
  LaneSums* lanes; /* [warp of the statistics][lane], until the sums are merged; then `bins` uses the same memory */
  Bins* bins;
  uint16_t* list;

  __device__ __forceinline__ Layout(char* memory, int chunks, bool filters, bool with_table) {
    shared = reinterpret_cast<Shared*>(memory);
    records = reinterpret_cast<Chunk*>(shared + 1);
    Half* halves = reinterpret_cast<Half*>(records + (chunks < kMostChunks ? chunks : kMostChunks));
    table = filters && with_table ? halves : nullptr;
    bins = reinterpret_cast<Bins*>(halves + (table ? chunks * kWarp : 0));
    lanes = reinterpret_cast<LaneSums*>(bins);
    list = reinterpret_cast<uint16_t*>(bins + 1);
  }
};

/* The number of warps of the log-probs kernel for such a row. */
template <class D> __device__ __forceinline__ int statistics_warps(int64_t vocab) { return statistics_threads(vocab, D::kDtype) / kWarp; }

/* The main sweep over the chunks from `begin` to `end`, by the whole cluster. */
template <class D, bool kFilters>
__device__ __forceinline__ void sweep_row(const Sample& a, bool with_table, int64_t r, int begin, int end, int blocks, int rank) {
  const int64_t vocab = a.x.vocab, tokens = ((int64_t)end * kChunk < vocab ? (int64_t)end * kChunk : vocab) - (int64_t)begin * kChunk;
  const char* part = a.x.row(r) + (int64_t)begin * kChunk * D::kBytes;
  const float scale = scale_of(row_temperature(a, r));
  const Layout at(this_cluster().map_shared_rank(shared_memory(), 0), (int)((vocab + kChunk - 1) / kChunk), kFilters,
                  with_table); /* in the first block's memory */
  StatisticsShared* s = &at.shared->statistics;
  const int count = statistics_warps<D>(vocab);
#pragma unroll 1
  for (int w = rank * warps() + warp(); w < count; w += blocks * warps()) {
    LaneSums* lanes = at.lanes + w * kWarp + lane();
    const WarpOf of{w, count};
    float* k = s->k + w;
    int* key = s->key + w;
    if (aligned16(part)) sweep<D, kFilters, true>(part, tokens, of, scale, begin > 0, lanes, k, key, at.records, at.table);
    else sweep<D, kFilters, false>(part, tokens, of, scale, begin > 0, lanes, k, key, at.records, at.table);
  }
}

/* Called by the first block after the sweep over the chunks from `begin` to `end`: continues the races among blocks. After the last
 * chunk it computes the row's statistics and draws the token. */
template <class D, bool kFilters>
__device__ __forceinline__ void finish(const Sample& a, const Filters& f, bool with_table, int64_t r, int begin, int end) {
  const Row<D> row(a.x.row(r), a.x.vocab);
  const int chunks = row.chunks();
  const Layout at(shared_memory(), chunks, kFilters, with_table);
  Shared* shared = at.shared;
  const double temperature = row_temperature(a, r);
  const float scale = scale_of(temperature);
  const Noise noise{a.seed, (uint64_t)(a.row_ids ? a.row_ids[r] : r), a.step};
  const bool last = end == chunks;
  if (last) {
    StatisticsShared* s = &shared->statistics;
#pragma unroll 1
    for (int w = warp(); w < statistics_warps<D>(row.vocab); w += warps()) {
      const LaneSums mine = at.lanes[w * kWarp + lane()];
      share_of_warp<D, false, false>(row.data, row.vocab, scale, {w, statistics_warps<D>(row.vocab)}, s->k[w],
                                     (mine.e[0] + mine.e[1]) + (mine.e[2] + mine.e[3]), 0, key_of(D::largest(mine.max)), s);
    }
  }
  if (greedy(a, r) && warp() == 0) {
    Top t{0, -1};
    if (begin > 0) t = shared->top;
    t.add(at.records, begin, end - begin);
    if (lane() == 0) shared->top = t;
  }
  __syncwarp();
  if (!greedy(a, r)) { /* by the last warps, while the first does other work */
#pragma unroll 1
    for (int attempt = 0; attempt < (kFilters ? kAttempts : 1); attempt++) {
      if (attempt % warps() != warps() - 1 - warp()) continue;
      Candidate best{0, 0, -1};
      if (begin > 0) best = shared->candidates[attempt];
      best = race_blocks(at.records, begin, end - begin, scale, noise, attempt, best);
      if (lane() == 0) shared->candidates[attempt] = best;
      if (kFilters || !last || best.block < 0) continue;
      const Drawn drawn = draw_in_block<D>(row.data, row.vocab, best.block, scale, noise, attempt);
      if (lane() == 0) shared->drawn = drawn;
    }
  }
  if (!last) return;
  __syncthreads();
  if (warp() == 0) {
    const RowStats stats = merged_shares<false>(statistics_warps<D>(row.vocab), scale, &shared->statistics);
    if (lane() == 0) shared->stats = stats;
  }
  __syncthreads();
  const RowStats t = shared->stats;
  if (!RowResult(t, temperature).proper) {
    if (threadIdx.x == 0) write(a, r, -1, NAN, NAN);
    return;
  }
  if (greedy(a, r)) {
    if (warp() == 0) {
      const Drawn drawn = largest(row, shared->top);
      if (lane() == 0) shared->drawn = drawn;
    }
  } else if (kFilters) {
    draw_filtered(a, row, {at.table, at.list, &shared->listed, chunks}, at.records, f, noise, scale, temperature, shared, at.bins);
  }
  if (threadIdx.x == 0) {
    const Drawn drawn = shared->drawn;
    const double kept = greedy(a, r) ? 0 : kFilters ? shared->search.rest : t.rest;
    write(a, r, drawn.token, RowResult(t, temperature).log_prob(drawn.logit),
          RowResult({t.max, kept, 0}, temperature).log_prob(drawn.logit));
  }
}

/* One cluster, or one block, per row. */
template <class D, bool kFilters>
__global__ void __launch_bounds__(kSampleThreads, kSampleBlocks<kFilters>)
    sample_kernel(const __grid_constant__ Sample a, const __grid_constant__ Filters f, const bool with_table) {
  const int blocks = (int)this_cluster().num_blocks(), rank = (int)this_cluster().block_rank();
  if (blocks > 1) this_cluster().sync(); /* the first block must be running before its shared memory is written */
  for (int64_t r = blockIdx.x / blocks; r < a.x.rows; r += gridDim.x / blocks) {
    if (!good_temperature(row_temperature(a, r))) {
      if (rank == 0 && threadIdx.x == 0) write(a, r, -1, NAN, NAN);
      continue;
    }
    if (blocks > 1) prefetch_row(a.x.row(r), a.x.vocab * D::kBytes);
    const int chunks = (int)((a.x.vocab + kChunk - 1) / kChunk);
    for (int begin = 0; begin < chunks; begin += kMostChunks) { /* usually once */
      const int end = chunks - begin < kMostChunks ? chunks : begin + kMostChunks;
      sweep_row<D, kFilters>(a, with_table, r, begin, end, blocks, rank);
      sync_row(blocks);
      if (rank == 0) finish<D, kFilters>(a, f, with_table, r, begin, end);
      if (end < chunks) sync_row(blocks); /* before records are written again */
    }
    if (r + gridDim.x / blocks < a.x.rows) sync_row(blocks);
  }
}

template <class D> int32_t run(const Device& dev, const Sample& a, const Filters& f) {
  DeviceLimits device;
  TEAMTR_TRY(limits(dev.device, &device));
  const int64_t chunks = (a.x.vocab + kChunk - 1) / kChunk, rows = a.x.rows;
  const int sweeping = statistics_threads(a.x.vocab, D::kDtype) / kWarp, warps = sweeping < kSampleWarps ? sweeping : kSampleWarps;
  int cluster = 1;
  while (2 * cluster <= device.largest_cluster && rows * cluster <= device.multiprocessors && 2 * cluster * warps <= sweeping) cluster *= 2;
  const bool filters = f.top_k || f.top_p < 1 || f.min_p > 0;
  size_t bytes = sizeof(Shared) + (size_t)(chunks < kMostChunks ? chunks : kMostChunks) * sizeof(Chunk);
  bool table = false;
  static_assert(sizeof(Bins) >= kMostWarps * kWarp * sizeof(LaneSums), "they share their place");
  if (!filters) bytes += (size_t)sweeping * kWarp * sizeof(LaneSums);
  if (filters) {
    bytes += sizeof(Bins);
    const size_t with_table = bytes + (size_t)chunks * kWarp * (sizeof(Half) + sizeof(uint16_t));
    table = with_table <= device.shared_per_block && chunks * kWarp <= UINT16_MAX;
    if (table) bytes = with_table;
  }
  const int64_t most = kMostBlocks / cluster > 0 ? kMostBlocks / cluster : 1;
  const Launch l{dev, (rows < most ? rows : most) * cluster, warps * kWarp, bytes, cluster};
  return filters ? launch<sample_kernel<D, true>>(l, a, f, table) : launch<sample_kernel<D, false>>(l, a, f, table);
}

}  // namespace

int32_t sample(const Device& dev, const Sample& a) {
  const Filters f{a.top_k < a.x.vocab ? a.top_k : 0, a.top_p, a.min_p};
  if (a.x.dtype == TEAMTR_F32) return run<F32>(dev, a, f);
  return a.x.dtype == TEAMTR_BF16 ? run<Bf16>(dev, a, f) : run<F16>(dev, a, f);
}

}  // namespace cuda
}  // namespace teamtr
