/*
 * Maximum, sum of exponentials and entropy of a row in one sweep, by a block, or by a cluster where rows are few.
 *
 * A row is divided into chunks of 128 vectors of 16 bytes. Of W warps, warp w processes the chunks w, w + W, ...; for f32 these are
 * pairs of chunks, so that they are 1,024 tokens in any dtype. In each chunk lane l processes the vectors l, l + 32, l + 64 and l + 96
 * and keeps four sums, one for each of these places. The vector-to-lane mapping and the order of the sums depend only on the row's
 * length and dtype, so results do not depend on the row's position, its alignment, the other rows, or on whether a cluster shares it.
 * Sampling computes the same sums with fewer warps (sampling.cu), so its log-probs have the same bits.
 *
 * The sweep. e = 2^(x c + k), c = log2(e) / T, with an integer k that the warp determines from its first chunk: one multiply-add
 * and one exp2 per element, nothing is rescaled, and the scales of the warps' sums differ by exact powers of two. The maximum is kept
 * in the packed format of the logits. So a bf16 element costs some 5 instructions without entropy, 7 with it.
 *
 * After the sweep. log p near 0 and 1 - p keep their digits only if the largest e is left out of the sum. Where it may be more
 * than a third of the sum, the warp that has found it sums the vectors of that one lane again (1 / threads of the row) without it.
 * If a warp's k was too far off (its first chunk masked or far below later ones, or logits whose exponents do not fit), the warp
 * processes its chunks again with a running maximum.
 */
#ifndef TEAMTR_STATISTICS_CUH
#define TEAMTR_STATISTICS_CUH

#include "rows.cuh"

namespace teamtr {
namespace cuda {

constexpr int kPlaces = 4;            /* vectors of a lane in a chunk, which are loaded together; sums of a thread */
constexpr float kLargestPower = 60;   /* the largest exponent of two by which an element may differ from its warp's reference */
constexpr int kMostWarps = kThreads / kWarp;

/* Number of threads for a row: about eight chunks for each warp, so that the fixed cost of a row is small in comparison. */
__host__ __device__ static inline int statistics_threads(int64_t vocab, int dtype) {
  const int64_t vectors = (vocab * (int64_t)bytes_of(dtype) + 15) / 16, each = 8 * kPlaces * kWarp;
  int warps = 1;
  while (warps < kMostWarps && warps * each < vectors) warps *= 2;
  return warps * kWarp;
}

/* One of the warps that share a row. */
struct WarpOf {
  int index, count;
};
__device__ __forceinline__ WarpOf this_warp() { return {warp(), warps()}; }
/* On devices with clusters, where kernels need more registers, the index is read from lane 0 by a shuffle: nvcc then computes what
 * depends on it where it is used, instead of keeping it in registers from row to row. All lanes call this. */
__device__ __forceinline__ WarpOf warp_of_cluster() {
  const int index = (int)this_cluster().block_rank() * warps() + warp();
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
  return {index, warps()};
#else
  return {__shfl_sync(kFullMask, index, 0), (int)this_cluster().num_blocks() * warps()};
#endif
}

/* Number of consecutive chunks that a warp processes in the statistics: those of 1,024 tokens. */
template <class D> constexpr int kRun = D::kBytes / 2;

/* The row's vector that the lane processes at place i of the warp's chunk j, with n places in a chunk. */
template <int n, int kRun> __device__ __forceinline__ int vector_number(const WarpOf& w, int j, int i) {
  return (((j / kRun * w.count + w.index) * kRun + j % kRun) * n + i) * kWarp + lane();
}

/* Whether the calling thread processes the vector of that number. */
template <int n> __device__ __forceinline__ bool owns_vector(const WarpOf& w, int64_t number) {
  return number / (n * kWarp) % w.count == w.index && number % kWarp == lane();
}

/* The launch of a gradient kernel with blocks of at most `threads` threads: one block per row, or, if rows are long and so few that all
 * clusters fit on the multiprocessors at once, one cluster per row. An element's gradient does not depend on it. */
static inline int32_t gradient_launch(const Device& dev, const Matrix& x, int threads, size_t shared, Launch* out) {
  const int wanted = statistics_threads(x.vocab, x.dtype), cluster = 4 * kThreads / threads;
  DeviceLimits device;
  TEAMTR_TRY(limits(dev.device, &device));
  const bool few = wanted >= kThreads && device.largest_cluster >= cluster && x.rows * cluster <= 2 * device.multiprocessors;
  const int blocks = few ? cluster : 1;
  *out = {dev, (few ? x.rows : blocks_for(x.rows)) * blocks, wanted < threads ? wanted : threads, shared, blocks};
  return TEAMTR_OK;
}

struct Whole {
  static constexpr bool value = true;
};
struct NotKnown {
  static constexpr bool value = false;
};

/* Calls begin(vectors of the first chunk), then step(place, vectors, number, whole) for the lane's vectors in ascending order,
 * kStep places at a time. vectors[0][0] is the vector at the first of these places in the first of kRows rows, which have the same
 * length. `whole` is Whole() where no vector of the chunk reaches beyond the row's end. For aligned rows a chunk is loaded while the
 * one before it is used; for others this would take too many registers. Elements after the row's end are -inf. A warp processes
 * kRun consecutive chunks at a time, and all of these if the row reaches into the first. */
template <class D, bool kAligned, int n, int kRows, int kStep = 1, int kRun = 1, class Begin, class Step>
__device__ __forceinline__ void walk_chunks(const char* const (&rows)[kRows], int64_t vocab, const WarpOf& w, Begin&& begin,
                                            Step&& step) {
  static_assert(n % kStep == 0, "a chunk is a number of steps");
  const int vectors = vectors_of<D>(vocab);
  int end = vectors;
#pragma unroll
  for (int k = 0; k < kRows; k++) {
    const WholeVectors<D, kAligned> whole(rows[k], vocab);
    end = whole.end < end ? whole.end : end;
  }
  const int chunks = end / (n * kWarp), runs = chunks / kRun;
  const int full = (runs > w.index ? (runs - w.index - 1) / w.count + 1 : 0) * kRun + (runs % w.count == w.index ? chunks % kRun : 0);
  const auto stride = [&](int j) { return (j % kRun == kRun - 1 ? (w.count - 1) * kRun + 1 : 1) * n * kWarp; };
  int number = vector_number<n, kRun>(w, 0, 0), j = 0;
  Vec16 v[n][kRows];
#pragma unroll
  for (int i = 0; i < n; i++)
#pragma unroll
    for (int k = 0; k < kRows; k++) v[i][k] = load_vector<D, kAligned>(rows[k], number + i * kWarp, vocab);
  begin(v);
#pragma unroll 1
  for (; j < full - 1; j++) {
    const char* next[kRows];
#pragma unroll
    for (int k = 0; k < kRows; k++) next[k] = rows[k] + (int64_t)(number + stride(j)) * 16;
    const auto load = [&](int first, int last) {
#pragma unroll
      for (int i = first; i < last; i++)
#pragma unroll
        for (int k = 0; k < kRows; k++) v[i][k] = load_whole<D, kAligned>(next[k], i * kWarp);
    };
#pragma unroll
    for (int i = 0; i < n; i += kStep) {
      step(i, &v[i], number + i * kWarp, Whole());
      if (kAligned) load(i, i + kStep);
    }
    if (!kAligned) load(0, n);
    number += stride(j);
  }
#pragma unroll 1
  for (; number - lane() - j % kRun * n * kWarp < vectors; j++) { /* usually one or two times kRun chunks */
#pragma unroll
    for (int i = 0; i < n; i += kStep) {
      step(i, &v[i], number + i * kWarp, NotKnown());
#pragma unroll
      for (int s = i; s < i + kStep; s++)
#pragma unroll
        for (int k = 0; k < kRows; k++) v[s][k] = load_vector<D, kAligned>(rows[k], number + stride(j) + s * kWarp, vocab);
    }
    number += stride(j);
  }
}

/* k for a warp whose largest element so far is m: the integer nearest to -m c, or 0 if that is 2^20 or more or NaN. */
__device__ __forceinline__ float reference_of(float m, float scale) {
  const float k = -rintf(m * scale);
  return fabsf(k) < 0x1p20f ? k : 0.0f;
}

/* An order-preserving integer for a float, and its inverse. */
__device__ __forceinline__ int key_of(float f) {
  const int i = (int)__float_as_uint(f);
  return i ^ (i >> 31 & 0x7fffffff);
}
__device__ __forceinline__ float value_of(int key) { return __uint_as_float((uint32_t)(key ^ (key >> 31 & 0x7fffffff))); }

template <class T> __device__ __forceinline__ T warp_sum(T value) {
  return warp_fold(value, [](T mine, T theirs) { return mine + theirs; });
}

/* A thread's sums of e and e y at each place, relative to k, and the packed maximum. */
struct Sums {
  float e[kPlaces] = {}, ey[kPlaces] = {};
  uint32_t max;

  template <class D> __device__ __forceinline__ void see(const Vec16& v) {
#pragma unroll
    for (int w = 0; w < 4; w++) max = D::max_words(max, v.w[w]);
  }
  /* Adds a vector, and returns its sum of e. */
  template <class D, bool kEntropy> __device__ __forceinline__ float add(int place, const Vec16& v, float scale, float k) {
    float x[D::kPerVector], even = 0, odd = 0;
    D::unpack(v, x);
#pragma unroll
    for (int i = 0; i < D::kPerVector; i++) {
      const float y = fmaf(x[i], scale, k), power = exp2_approx(y);
      if (i < 2) (i ? odd : even) = power;
      else (i % 2 ? odd : even) += power;
      if (kEntropy) ey[place] = fmaf(power, fmaxf(y, -127.0f), ey[place]);
    }
    const float sum = even + odd;
    e[place] += sum;
    return sum;
  }
  __device__ __forceinline__ float all() const { return (e[0] + e[1]) + (e[2] + e[3]); }
};

/* k of a warp from the vectors of its first chunk. */
template <class D> __device__ __forceinline__ float first_reference(const Vec16 (*v)[1], float scale) {
  uint32_t m = D::kMasked;
#pragma unroll
  for (int i = 0; i < kPlaces; i++)
#pragma unroll
    for (int w = 0; w < 4; w++) m = D::max_words(m, v[i][0].w[w]);
  return reference_of(value_of(__reduce_max_sync(kFullMask, key_of(D::largest(m)))), scale);
}

/* The data that the warps of a block exchange. */
struct StatisticsShared {
  int key[kMostWarps];
  float k[kMostWarps + 1], e[kMostWarps + 1], ey[kMostWarps + 1]; /* the last: of the lane whose vectors were summed again */
  int left_out;
};

/* The first of the warps that have found the row's maximum. */
struct Owner {
  int key, index; /* of the maximum; of the warp */
  __device__ __forceinline__ Owner(const StatisticsShared* shared, int count) {
    const int other = lane() < count ? shared->key[lane()] : INT32_MIN;
    key = __reduce_max_sync(kFullMask, other);
    index = __ffs(__ballot_sync(kFullMask, lane() < count && other == key)) - 1;
  }
};

/* Stores a warp's share of the statistics in shared, from the sums of its lanes; the keys of all warps must be there. */
template <class D, bool kAligned, bool kEntropy>
__device__ __forceinline__ void share_of_warp(const char* row, int64_t vocab, float scale, const WarpOf& warp_of, float k, float e,
                                              float ey, int key, StatisticsShared* shared) {
  const int w = warp_of.index, count = warp_of.count, warp_key = shared->key[w], vectors = vectors_of<D>(vocab);
  const Owner of(shared, count);
  const int owner = of.index;
  const float max = value_of(of.key), warp_max = value_of(warp_key);
  const bool proper = fabsf(max) < kInfinity;
  const auto number = [&](int i) { return vector_number<kPlaces, kRun<D>>(warp_of, i / kPlaces, i % kPlaces) - lane(); };

  bool left_out = false;
  if (proper && warp_max > -kInfinity && !(fabsf(fmaf(warp_max, scale, k)) <= kLargestPower)) { /* k was too far off */
    Online o;
#pragma unroll 1
    for (int i = 0; number(i) < vectors; i++) {
      float x[D::kPerVector];
      D::unpack(load_vector<D, kAligned>(row, number(i) + lane(), vocab), x);
      o.add<D::kPerVector, true>(x, scale);
    }
    o = warp_merged(o, scale);
    left_out = w == owner; /* o.rest does not include its maximum */
    const float y = (o.max - max) * scale, f = exp2_approx(y);
    k = NAN; /* relative to the row's maximum */
    e = lane() ? 0.0f : left_out ? o.rest : f * (1 + o.rest);
    ey = lane() || !(f > 0) ? 0.0f : f * fmaf(1 + o.rest, y, o.ey);
    if (lane() == 0 && left_out) {
      shared->k[count] = k;
      shared->e[count] = shared->ey[count] = 0;
    }
  } else if (proper && w == owner) {
    const int source = __ffs(__ballot_sync(kFullMask, key == warp_key)) - 1;
    const float y_max = fmaf(max, scale, k), e_max = exp2_approx(y_max);
    left_out = warp_sum(e) < 3 * e_max; /* the same in all lanes */
    if (left_out) {
      float again = 0, again_y = 0;
      int ties = 0;
#pragma unroll 1
      for (int i = lane(); number(i) + source < vectors; i += kWarp) {
        float x[D::kPerVector];
        D::unpack(load_vector<D, kAligned>(row, number(i) + source, vocab), x);
#pragma unroll
        for (int j = 0; j < D::kPerVector; j++) {
          const float y = fmaf(x[j], scale, k);
          const bool tie = x[j] == max;
          const float power = tie ? 0.0f : exp2_approx(y);
          ties += tie;
          again += power;
          again_y = fmaf(power, fmaxf(y, -127.0f), again_y);
        }
      }
      ties = warp_sum(ties) - 1;
      again = warp_sum(again) + (float)ties * e_max;
      again_y = warp_sum(again_y) + (float)ties * e_max * y_max;
      if (lane() == source) e = ey = 0;
      if (lane() == 0) {
        shared->k[count] = k;
        shared->e[count] = again;
        shared->ey[count] = again_y;
      }
    }
  }
  e = warp_sum(e);
  if (kEntropy) ey = warp_sum(ey);
  __syncwarp(); /* all lanes have read what is overwritten here */
  if (lane() == 0) {
    shared->k[w] = k;
    shared->e[w] = e;
    shared->ey[w] = ey;
    if (w == owner) shared->left_out = left_out;
  }
}

/* The row's statistics from the shares of all warps. Called by one warp. */
template <bool kEntropy>
__device__ __forceinline__ RowStats merged_shares(int count, float scale, const StatisticsShared* shared) {
  const float max = value_of(Owner(shared, count).key);
  const bool proper = fabsf(max) < kInfinity;
  double rest = 0, weighted = 0;
  if (lane() < count + (shared->left_out ? 1 : 0)) {
    const float of = shared->k[lane()], sum = shared->e[lane()];
    const double y_max = of == of && proper ? (double)max * scale + of : 0, f = exp2(-y_max);
    rest = sum == 0 ? 0 : f * sum; /* an empty sum is 0 even where f is infinite */
    weighted = sum == 0 ? 0 : f * (shared->ey[lane()] - y_max * sum);
  }
  rest = warp_sum(rest);
  if (kEntropy) weighted = warp_sum(weighted);
  return {max, shared->left_out ? rest : rest - 1, weighted * 0.693147180559945309417};
}

/* The row's statistics in thread 0, from each thread's sums. All threads of the block call this; shared may be overwritten
 * after the next barrier. */
template <class D, bool kAligned, bool kEntropy>
__device__ __forceinline__ RowStats finished(const char* row, int64_t vocab, float scale, float k, const Sums& sums,
                                             StatisticsShared* shared) {
  const int key = key_of(D::largest(sums.max)), warp_key = __reduce_max_sync(kFullMask, key);
  if (lane() == 0) shared->key[warp()] = warp_key;
  __syncthreads();
  share_of_warp<D, kAligned, kEntropy>(row, vocab, scale, this_warp(), k, sums.all(),
                                       (sums.ey[0] + sums.ey[1]) + (sums.ey[2] + sums.ey[3]), key, shared);
  __syncthreads();
  if (warp() != 0) return {};
  return merged_shares<kEntropy>(warps(), scale, shared);
}

/* What a cluster's blocks send to the first one: a thread's sums at the one place that its block processes. */
struct OnePlace {
  float e, ey;
  uint32_t max;
};

/* Bytes of shared memory that statistics<> needs in a block, or in each block of a cluster. */
static inline size_t statistics_bytes(int threads, int cluster) {
  return sizeof(StatisticsShared) + (cluster > 1 ? threads * sizeof(OnePlace) : 0);
}

/* The statistics of a row in thread 0 of a block, or of a cluster of kPlaces blocks, each of which processes one place of every
 * chunk. All threads call this; `memory` may be overwritten after the next barrier of the block. */
template <class D, bool kAligned, bool kEntropy>
__device__ __forceinline__ RowStats statistics(const char* row, int64_t vocab, float scale, char* memory) {
  StatisticsShared* shared = reinterpret_cast<StatisticsShared*>(memory);
  Sums sums;
  sums.max = D::kMasked;
  float k = 0;
  if (this_cluster().num_blocks() == 1) {
    const char* const rows[] = {row};
    walk_chunks<D, kAligned, kPlaces, 1, 1, kRun<D>>(
        rows, vocab, this_warp(), [&](const Vec16 (&v)[kPlaces][1]) { k = first_reference<D>(v, scale); },
        [&](int place, const Vec16 (*v)[1], int, auto) {
          sums.see<D>(v[0][0]);
          sums.add<D, kEntropy>(place, v[0][0], scale, k);
        });
    return finished<D, kAligned, kEntropy>(row, vocab, scale, k, sums, shared);
  }

  prefetch_row(row, vocab * D::kBytes);
  OnePlace* places = reinterpret_cast<OnePlace*>(shared + 1);
  const int rank = (int)this_cluster().block_rank(), vectors = vectors_of<D>(vocab);
  const auto load = [&](int j, int place) {
    return load_vector<D, kAligned>(row, vector_number<kPlaces, kRun<D>>(this_warp(), j, place), vocab);
  };
  Vec16 v[kPlaces][1];
#pragma unroll
  for (int i = 0; i < kPlaces; i++) v[i][0] = load(0, i);
  k = first_reference<D>(v, scale);
#pragma unroll 1
  for (int j = 0; vector_number<kPlaces, kRun<D>>(this_warp(), j, 0) - lane() < vectors; j += kPlaces) {
#pragma unroll
    for (int i = 0; i < kPlaces; i++) v[i][0] = load(j + i, rank);
#pragma unroll
    for (int i = 0; i < kPlaces; i++) {
      sums.see<D>(v[i][0]);
      sums.add<D, kEntropy>(0, v[i][0], scale, k);
    }
  }
  places[threadIdx.x] = {sums.e[0], sums.ey[0], sums.max};
  this_cluster().sync();
  const int zero = __shfl_sync(kFullMask, rank, 0); /* so that nvcc computes addresses here, not before the sweep */
  if (rank == 0) {
#pragma unroll
    for (int i = 0; i < kPlaces; i++) {
      const OnePlace p = this_cluster().map_shared_rank(places, zero + i)[threadIdx.x];
      sums.e[i] = p.e;
      sums.ey[i] = p.ey;
      sums.max = D::max_words(sums.max, p.max);
    }
  }
  this_cluster().sync(); /* before the other blocks overwrite their sums, or end */
  if (rank != 0) return {};
  return finished<D, kAligned, kEntropy>(row, vocab, scale, k, sums, shared);
}

}  // namespace cuda
}  // namespace teamtr
#endif
