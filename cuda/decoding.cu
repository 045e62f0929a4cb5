/*
 * A decoder's layers, without the matrix products, for one new token of each row: RMS norm, SwiGLU, and attention together with the norms
 * of heads, the rotation and the cache in one launch.
 *
 * Bytes of device memory, per row with elements of b bytes; instructions are counted by cuda/sass.py for sm_90:
 *   attend      2 n kv_heads head_dim b read, for the row's n columns of the cache, and 2 kv_heads head_dim b written to it. qkv, y and
 *               two lines of the tables are small in comparison. As many lanes of a warp as a column's key has vectors of 16 bytes
 *               load the key, and multiply it with up to four queries that share it, which are in registers; likewise the value. So a
 *               column of a bf16 head of 128 elements takes 51 instructions of a warp for two queries, as in Qwen3-0.6B,
 *               and 80 for four. An H200 issues some 120 in the time in which it reads the column's 512
 *               bytes: with eight queries, instructions would limit the speed, and tensor cores would be needed.
 *   rms_norm    2 width b, and the weight once; with 192 rows of 1,024 elements the launch takes longer than the memory accesses.
 *   swiglu      3 width b.
 * Measured: not yet run on a GPU.
 *
 * The order of attend's sums. A row's columns are divided into parts of about kPartColumns columns, or into kParts longer ones; which
 * depends only on the number of columns. Within a part, each of four warps processes every fourth chunk of columns, and merges
 * the part's sums with those of the parts before. At the end the four warps' sums are merged, and the new column is added. Where there are
 * few rows, the blocks of a cluster process the parts of a row and head at the same time; otherwise one block processes them one after the
 * other. The order of the sums is the same in both cases, so a row's bits depend only on its number of columns.
 *
 * Contract: teamtr.h. Positions and starts are read on the device, and launches are sized by shapes alone: a launch that is
 * repeated with other contents of these vectors, as by a CUDA graph, computes another token.
 */
#include "rows.cuh"

namespace teamtr {
namespace cuda {
namespace {

/* ---- vectors of any row ---- */

/* Vector i of a row of n elements, followed by zeros. */
template <class D> __device__ __forceinline__ Vec16 load_zeros(const char* row, int i, int64_t n) {
  const int64_t first = (int64_t)i * D::kPerVector;
  if (aligned16(row) && first + D::kPerVector <= n) return load16(row + (int64_t)i * 16);
  Vec16 v = {};
#pragma unroll
  for (int k = 0; k < D::kPerVector; k++) {
    if (first + k >= n) continue;
    if (D::kBytes == 4) v.w[k] = reinterpret_cast<const uint32_t*>(row)[first + k];
    else v.w[k / 2] |= (uint32_t) reinterpret_cast<const uint16_t*>(row)[first + k] << (k % 2 * 16);
  }
  return v;
}

template <class D> __device__ __forceinline__ void store_any(char* row, int i, int64_t n, const float* x) {
  if (aligned16(row)) store_vector<D, true>(row, i, n, x);
  else store_vector<D, false>(row, i, n, x);
}

/* ---- norm and gate ---- */

constexpr int kNormThreads = 256;

struct Norm {
  const char *x, *weight;
  int64_t rows, width, x_bytes;
  float eps;
  char* y;
  int64_t y_bytes;
};

/* One block per row. */
template <class D> __global__ void __launch_bounds__(kNormThreads, 4) rms_norm_kernel(const Norm a) {
  float* sums = reinterpret_cast<float*>(shared_memory());
  const int vectors = vectors_of<D>(a.width);
  for (int64_t r = blockIdx.x; r < a.rows; r += gridDim.x) {
    const char* row = a.x + r * a.x_bytes;
    float x[D::kPerVector], w[D::kPerVector], squares = 0;
    for (int i = threadIdx.x; i < vectors; i += blockDim.x) {
      D::unpack(load_zeros<D>(row, i, a.width), x);
      for (int e = 0; e < D::kPerVector; e++) squares = fmaf(x[e], x[e], squares);
    }
    squares = warp_fold(squares, [](float mine, float theirs) { return mine + theirs; });
    if (lane() == 0) sums[warp()] = squares;
    __syncthreads();
    squares = 0;
    for (int i = 0; i < warps(); i++) squares += sums[i];
    const float scale = 1 / sqrtf(squares / (float)a.width + a.eps);
    for (int i = threadIdx.x; i < vectors; i += blockDim.x) {
      D::unpack(load_zeros<D>(row, i, a.width), x);
      D::unpack(load_zeros<D>(a.weight, i, a.width), w);
      for (int e = 0; e < D::kPerVector; e++) x[e] = x[e] * scale * w[e];
      store_any<D>(a.y + r * a.y_bytes, i, a.width, x);
    }
    __syncthreads(); /* before the sums are overwritten */
  }
}

struct Gate {
  const char* gate_up;
  int64_t rows, width, bytes;
  char* y;
  int64_t y_bytes;
};

/* One thread per vector. */
template <class D> __global__ void __launch_bounds__(kNormThreads, 4) swiglu_kernel(const Gate a) {
  const int vectors = vectors_of<D>(a.width);
  for (int64_t v = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; v < a.rows * vectors; v += (int64_t)gridDim.x * blockDim.x) {
    const int64_t r = v / vectors;
    const int i = (int)(v % vectors);
    const char* gate = a.gate_up + r * a.bytes;
    float x[D::kPerVector], up[D::kPerVector];
    D::unpack(load_zeros<D>(gate, i, a.width), x);
    D::unpack(load_zeros<D>(gate + a.width * D::kBytes, i, a.width), up);
    for (int e = 0; e < D::kPerVector; e++) x[e] = x[e] / (1 + exp2_approx(-1.44269504f * x[e])) * up[e];
    store_any<D>(a.y + r * a.y_bytes, i, a.width, x);
  }
}

/* ---- attention ---- */

constexpr int kAttendWarps = 4, kAttendThreads = kAttendWarps * kWarp;
constexpr int kParts = 8; /* the most parts of a row, and the number of blocks of a cluster */
constexpr int kPartColumns = 256;

/* How columns are processed: kLanes lanes process a column, each kVectors of its vectors, for kQueries queries at once. kWhole: a head
 * consists of whole aligned vectors; otherwise a lane processes single elements, kWarp apart. */
template <class D_, int kLanes_, int kVectors_, int kQueries_, bool kWhole_> struct Walk {
  using D = D_;
  static constexpr int kLanes = kLanes_, kVectors = kVectors_, kQueries = kQueries_;
  static constexpr bool kWhole = kWhole_;
  static constexpr int kElements = kVectors * D::kPerVector; /* of a lane */
  static constexpr int kColumns = kWarp / kLanes;            /* columns that a warp processes at once */
  static constexpr int kAtOnce = !kWhole ? 1 : kVectors > 1 ? 2 : 4; /* number of such steps whose loads are issued together */
  static constexpr int kChunk = kColumns * kAtOnce;

  /* The element of a head that is a lane's element e. */
  static __device__ __forceinline__ int at(int e) {
    if (!kWhole) return lane() + e * kWarp;
    return (lane() % kLanes + e / D::kPerVector * kLanes) * D::kPerVector + e % D::kPerVector;
  }
};

/* Merges two sums that are relative to their largest scores: both are rescaled to the larger score. A score of -inf: no sum yet. */
struct Moved {
  float most, mine, theirs;
  __device__ __forceinline__ Moved(float a, float b) : most(fmaxf(a, b)) {
    const float shift = most == -kInfinity ? 0 : most;
    mine = exp2_approx(a - shift);
    theirs = exp2_approx(b - shift);
  }
  __device__ __forceinline__ float operator()(float a, float b) const { return fmaf(a, mine, b * theirs); }
};

/* The state of a query in shared memory: sums of the weighted elements, the sum of weights, the largest score (an exponent of two). */
__device__ __forceinline__ int state_size(int d) { return d + 2; }

/* A warp's sums over the columns of a head that it has processed. */
template <class W> struct Sums {
  using D = typename W::D;
  float of[W::kQueries][W::kElements], weights[W::kQueries], most[W::kQueries];

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int q = 0; q < W::kQueries; q++) {
      weights[q] = 0;
      most[q] = -kInfinity;
#pragma unroll
      for (int e = 0; e < W::kElements; e++) of[q][e] = 0;
    }
  }

  /* The vectors of a column that a lane loads. Several columns are loaded before the first is used, so that their latencies overlap. */
  struct Part {
    const char* head; /* null: no column */
    Vec16 v[W::kWhole ? W::kVectors : 1];

    __device__ __forceinline__ void load(const char* column, bool inside, int d) {
      head = inside ? column : nullptr;
      if constexpr (W::kWhole) {
#pragma unroll
        for (int k = 0; k < W::kVectors; k++) {
          const int i = lane() % W::kLanes + k * W::kLanes;
          v[k] = Vec16{};
          if (inside && i < d / D::kPerVector) v[k] = load16(column + i * 16);
        }
      }
    }
    __device__ __forceinline__ void elements(int d, float* x) const {
      if constexpr (W::kWhole) {
#pragma unroll
        for (int k = 0; k < W::kVectors; k++) D::unpack(v[k], x + k * D::kPerVector);
      } else {
#pragma unroll
        for (int e = 0; e < W::kElements; e++) x[e] = head && W::at(e) < d ? element<D>(head, W::at(e)) : 0;
      }
    }
  };

  /* Processes the warp's chunks of the columns begin .. end. */
  __device__ __forceinline__ void walk(const char* keys, const char* values, int d, int64_t begin, int64_t end,
                                       const float (*query)[W::kElements]) {
    const int bytes = d * D::kBytes;
    for (int64_t from = begin + warp() * W::kChunk; from < end; from += kAttendWarps * W::kChunk) {
      Part k[W::kAtOnce], v[W::kAtOnce];
      const int64_t mine = from + lane() / W::kLanes;
#pragma unroll
      for (int u = 0; u < W::kAtOnce; u++) k[u].load(keys + (mine + u * W::kColumns) * bytes, mine + u * W::kColumns < end, d);
#pragma unroll
      for (int u = 0; u < W::kAtOnce; u++) v[u].load(values + (mine + u * W::kColumns) * bytes, mine + u * W::kColumns < end, d);
      float score[W::kAtOnce][W::kQueries], x[W::kElements];
#pragma unroll
      for (int u = 0; u < W::kAtOnce; u++) {
        k[u].elements(d, x);
#pragma unroll
        for (int q = 0; q < W::kQueries; q++) {
          float dot = 0;
#pragma unroll
          for (int e = 0; e < W::kElements; e++) dot = fmaf(query[q][e], x[e], dot);
#pragma unroll
          for (int distance = W::kLanes / 2; distance > 0; distance /= 2) dot += __shfl_xor_sync(kFullMask, dot, distance);
          score[u][q] = mine + u * W::kColumns < end ? dot : -kInfinity;
        }
      }
#pragma unroll
      for (int q = 0; q < W::kQueries; q++) {
        float m = most[q];
#pragma unroll
        for (int u = 0; u < W::kAtOnce; u++) m = fmaxf(m, score[u][q]); /* ignores NaNs, which the sums keep */
        if (m > most[q]) {
          const float shrink = exp2_approx(most[q] - m);
          weights[q] *= shrink;
#pragma unroll
          for (int e = 0; e < W::kElements; e++) of[q][e] *= shrink;
          most[q] = m;
        }
        const float shift = m == -kInfinity ? 0 : m;
#pragma unroll
        for (int u = 0; u < W::kAtOnce; u++) {
          score[u][q] = exp2_approx(score[u][q] - shift);
          weights[q] += score[u][q];
        }
      }
#pragma unroll
      for (int u = 0; u < W::kAtOnce; u++) {
        v[u].elements(d, x);
#pragma unroll
        for (int q = 0; q < W::kQueries; q++)
#pragma unroll
          for (int e = 0; e < W::kElements; e++) of[q][e] = fmaf(score[u][q], x[e], of[q][e]);
      }
    }
  }

  /* Stores the sums in shared memory, merged with those that the warp has stored there before unless `first`. */
  __device__ __forceinline__ void leave(float* states, int d, bool first) {
#pragma unroll
    for (int q = 0; q < W::kQueries; q++) {
#pragma unroll
      for (int distance = W::kLanes; distance < kWarp; distance *= 2) { /* sums over the lanes that process other columns */
        const Moved moved(most[q], __shfl_xor_sync(kFullMask, most[q], distance));
#pragma unroll
        for (int e = 0; e < W::kElements; e++) of[q][e] = moved(of[q][e], __shfl_xor_sync(kFullMask, of[q][e], distance));
        weights[q] = moved(weights[q], __shfl_xor_sync(kFullMask, weights[q], distance));
        most[q] = moved.most;
      }
      float* state = states + q * state_size(d);
      const Moved moved(first ? -kInfinity : state[d + 1], most[q]);
      __syncwarp();
      if (lane() < W::kLanes) {
#pragma unroll
        for (int e = 0; e < W::kElements; e++) {
          const int at = W::at(e);
          if (at < d) state[at] = first ? of[q][e] : moved(state[at], of[q][e]);
        }
      }
      if (lane() == 0) {
        state[d] = first ? weights[q] : moved(state[d], weights[q]);
        state[d + 1] = moved.most;
      }
      __syncwarp();
    }
  }
};

/* Merges a state into `mine`, with the arithmetic of leave(). Called by all lanes of a warp; `theirs` may be in another block's memory. */
__device__ __forceinline__ void merge_states(float* mine, const float* theirs, int d) {
  const Moved moved(mine[d + 1], theirs[d + 1]);
  __syncwarp();
  for (int i = lane(); i <= d; i += kWarp) mine[i] = moved(mine[i], theirs[i]);
  if (lane() == 0) mine[d + 1] = moved.most;
  __syncwarp();
}

/* Normalises a head of a query or key, where the model does, and rotates it: of its halves a and b it makes a cos - b sin and
 * b cos + a sin. The table `sine` holds the signs. A warp computes it, and calls put(element, value) for each element. */
template <class D, class Put>
__device__ __forceinline__ void turn_head(const Attend& a, const char* head, const void* weight, int64_t position, Put&& put) {
  const char* norm = static_cast<const char*>(weight);
  const int d = (int)a.head_dim, half = d / 2;
  float scale = 1;
  if (norm) {
    float squares = 0;
    for (int i = lane(); i < d; i += kWarp) {
      const float x = element<D>(head, i);
      squares = fmaf(x, x, squares);
    }
    squares = warp_fold(squares, [](float mine, float theirs) { return mine + theirs; });
    scale = 1 / sqrtf(squares / (float)d + (float)a.eps);
  }
  const float *cosine = a.cosine + position * d, *sine = a.sine + position * d;
  for (int i = lane(); i < half; i += kWarp) {
    float x = element<D>(head, i), y = element<D>(head, i + half);
    if (norm) {
      x = x * scale * element<D>(norm, i);
      y = y * scale * element<D>(norm, i + half);
    }
    put(i, fmaf(x, cosine[i], y * sine[i]));
    put(i + half, fmaf(y, cosine[i + half], x * sine[i + half]));
  }
}

/* The columns of a row in the cache: `older` columns from `first` on, then the new one. Parts of part_columns columns begin at `first`. */
struct Columns {
  int64_t position, column, first, older, part_columns;
  int parts;

  /* A part's length is a multiple of kStep. */
  template <int kStep> static __device__ __forceinline__ bool find(const Attend& a, int64_t row, Columns* out) {
    const int64_t position = a.positions[row], start = a.starts[row];
    if (position < 0 || position >= a.table_rows || start < 0 || start >= a.room || position >= a.room - start) return false;
    const int64_t column = start + position, first = a.window && position >= a.window ? column + 1 - a.window : start;
    const int64_t older = column - first, asked = (older + kPartColumns - 1) / kPartColumns;
    const int64_t parts = asked < 1 ? 1 : asked < kParts ? asked : kParts, even = (older + parts - 1) / parts;
    const int64_t part_columns = even < 1 ? kStep : (even + kStep - 1) / kStep * kStep;
    *out = {position, column, first, older, part_columns, older < 1 ? 1 : (int)((older + part_columns - 1) / part_columns)};
    return true;
  }
};

/* One block, or one cluster of kParts blocks, for each row, each head of keys, and each kQueries of the queries that share the head. The
 * blocks of one head are adjacent in the grid, so that all but the first read the columns from the L2 cache. The new column is not read
 * from the cache but added at the end. */
template <class D, int kLanes, int kVectors, int kQueries, bool kWhole>
__global__ void __launch_bounds__(kAttendThreads, !kWhole || kVectors > 1 ? 2 : kQueries == 2 ? 4 : 3) attend_kernel(const Attend a) {
  using W = Walk<D, kLanes, kVectors, kQueries, kWhole>;
  static_assert(kQueries <= kAttendWarps, "a warp for each query's score of the new column");
  const int blocks = (int)this_cluster().num_blocks(), rank = (int)this_cluster().block_rank();
  const int d = (int)a.head_dim, size = state_size(d), share = (int)(a.heads / a.kv_heads), groups = (share + kQueries - 1) / kQueries;
  float* queries = reinterpret_cast<float*>(shared_memory()); /* [kQueries][d] */
  float* key = queries + kQueries * d;                        /* of the new column, rounded to the cache's dtype; then its value */
  float* value = key + d;
  float* newest = value + d;                                  /* the new column's scores, [kQueries] */
  float* states = newest + kQueries;                          /* [warps][kQueries][size] */
  float* mine = states + warp() * kQueries * size;
  const float scale = 1.44269504f / sqrtf((float)d); /* so that scores are exponents of two */
  for (int64_t i = blockIdx.x / blocks; i < a.rows * a.kv_heads * groups; i += gridDim.x / blocks) {
    const int64_t head = i / groups, row = head / a.kv_heads, g = head % a.kv_heads; /* head: over all rows' heads of keys */
    const int from = (int)(i % groups) * kQueries, count = share - from < kQueries ? share - from : kQueries;
    const char* in = static_cast<const char*>(a.qkv) + row * a.qkv_stride * D::kBytes;
    char* y = static_cast<char*>(a.y) + (row * a.y_stride + (g * share + from) * d) * D::kBytes;
    char* keys = static_cast<char*>(a.keys) + head * a.room * d * D::kBytes;
    char* values = static_cast<char*>(a.values) + head * a.room * d * D::kBytes;
    Columns c;
    if (!Columns::find<kAttendWarps * W::kChunk>(a, row, &c)) {
      if (rank == 0)
        for (int e = threadIdx.x; e < count * d; e += blockDim.x) set_element<D>(y, e, NAN);
      continue;
    }
    for (int n = warp(); n < kQueries + 2; n += kAttendWarps) {
      if (n < count) {
        turn_head<D>(a, in + (g * share + from + n) * d * D::kBytes, a.q_norm, c.position,
                     [&](int e, float x) { queries[n * d + e] = x * scale; });
      } else if (n < kQueries) {
        for (int e = lane(); e < d; e += kWarp) queries[n * d + e] = 0;
      } else if (rank == 0 && n == kQueries) {
        turn_head<D>(a, in + (a.heads + g) * d * D::kBytes, a.k_norm, c.position, [&](int e, float x) {
          float rounded[D::kPerVector] = {x};
          D::unpack(packed<D>(rounded), rounded);
          key[e] = rounded[0];
          if (from == 0) set_element<D>(keys + c.column * d * D::kBytes, e, x);
        });
      } else if (rank == 0) {
        for (int e = lane(); e < d; e += kWarp) {
          value[e] = element<D>(in + (a.heads + a.kv_heads + g) * d * D::kBytes, e);
          if (from == 0) set_element<D>(values + c.column * d * D::kBytes, e, value[e]);
        }
      }
    }
    __syncthreads();
    if (rank == 0 && warp() < kQueries) {
      float dot = 0;
      for (int e = lane(); e < d; e += kWarp) dot = fmaf(queries[warp() * d + e], key[e], dot);
      dot = warp_fold(dot, [](float mine, float theirs) { return mine + theirs; });
      if (lane() == 0) newest[warp()] = dot;
    }
    {
      float query[kQueries][W::kElements];
#pragma unroll
      for (int q = 0; q < kQueries; q++)
#pragma unroll
        for (int e = 0; e < W::kElements; e++) query[q][e] = W::at(e) < d ? queries[q * d + W::at(e)] : 0;
      Sums<W> sums;
      for (int part = rank; part < c.parts; part += blocks) {
        const int64_t begin = part * c.part_columns, end = begin + c.part_columns;
        sums.clear();
        sums.walk(keys + c.first * d * D::kBytes, values + c.first * d * D::kBytes, d, begin, end < c.older ? end : c.older, query);
        sums.leave(mine, d, part == rank);
      }
    }
    sync_row(blocks);
    if (rank == 0) {
      if (blocks > 1) {
        for (int part = 1; part < c.parts; part++)
          for (int q = 0; q < kQueries; q++) merge_states(mine + q * size, this_cluster().map_shared_rank(mine, part) + q * size, d);
        __syncthreads();
      }
      for (int n = threadIdx.x; n < count * d; n += blockDim.x) {
        const int q = n / d, e = n % d;
        const float* of = states + q * size;
        float most = newest[q];
        for (int w = 0; w < kAttendWarps; w++) most = fmaxf(most, of[w * kQueries * size + d + 1]);
        const float shift = most == -kInfinity ? 0 : most, last = exp2_approx(newest[q] - shift);
        float sum = last * value[e], weights = last;
        for (int w = 0; w < kAttendWarps; w++) {
          const float* state = of + w * kQueries * size;
          const float factor = exp2_approx(state[d + 1] - shift);
          sum = fmaf(state[e], factor, sum);
          weights = fmaf(state[d], factor, weights);
        }
        set_element<D>(y, n, sum / weights);
      }
    }
    sync_row(blocks); /* before shared memory is overwritten, or the block ends */
  }
}

template <class D, int kLanes, int kVectors, int kQueries, bool kWhole> int32_t run_attend(const Device& dev, const Attend& a) {
  DeviceLimits device;
  TEAMTR_TRY(limits(dev.device, &device));
  const int64_t pieces = a.rows * a.kv_heads * ((a.heads / a.kv_heads + kQueries - 1) / kQueries);
  const bool few = device.largest_cluster >= kParts && a.room > kPartColumns && pieces <= 2 * device.multiprocessors;
  const int cluster = few ? kParts : 1;
  const int64_t d = a.head_dim, floats = kQueries * d + 2 * d + kQueries + kAttendWarps * kQueries * (d + 2);
  return launch<attend_kernel<D, kLanes, kVectors, kQueries, kWhole>>(
      {dev, (few ? pieces : blocks_for(pieces)) * cluster, kAttendThreads, (size_t)floats * sizeof(float), cluster}, a);
}

template <class D, int kLanes, int kVectors> int32_t run_attend(const Device& dev, const Attend& a) {
  if (a.heads <= 2 * a.kv_heads) return run_attend<D, kLanes, kVectors, 2, true>(dev, a);
  return run_attend<D, kLanes, kVectors, 4, true>(dev, a);
}

template <class D> int32_t run_attend(const Device& dev, const Attend& a) {
  const int64_t bytes = a.head_dim * D::kBytes, vectors = bytes / 16;
  constexpr bool kHalf = D::kBytes == 2;
  if (bytes % 16 || !aligned16(a.keys) || !aligned16(a.values) || vectors > (kHalf ? 32 : 64)) {
    if (a.head_dim <= kWarp * D::kPerVector) return run_attend<D, kWarp, 1, 1, false>(dev, a);
    return run_attend<D, kWarp, (int)kMaxHeadDim / kWarp / D::kPerVector, 1, false>(dev, a);
  }
  if (vectors <= (kHalf ? 8 : 16)) return run_attend<D, kHalf ? 8 : 16, 1>(dev, a);
  return vectors <= (kHalf ? 16 : 32) ? run_attend<D, kHalf ? 16 : 32, 1>(dev, a) : run_attend<D, 32, kHalf ? 1 : 2>(dev, a);
}

template <class D> int32_t run_norm(const Device& dev, const Norm& a) {
  const int64_t vectors = (a.width + D::kPerVector - 1) / D::kPerVector, warps = (vectors + kWarp - 1) / kWarp;
  const int threads = warps * kWarp < kNormThreads ? (int)warps * kWarp : kNormThreads;
  return launch<rms_norm_kernel<D>>({dev, blocks_for(a.rows), threads, kNormThreads / kWarp * sizeof(float)}, a);
}

template <class D> int32_t run_gate(const Device& dev, const Gate& a) {
  const int64_t vectors = a.rows * ((a.width + D::kPerVector - 1) / D::kPerVector), warps = (vectors + kWarp - 1) / kWarp;
  const int threads = warps * kWarp < kNormThreads ? (int)warps * kWarp : kNormThreads;
  return launch<swiglu_kernel<D>>({dev, blocks_for((vectors + kNormThreads - 1) / kNormThreads), threads}, a);
}

}  // namespace

int32_t rms_norm(const Device& dev, int32_t dtype, const void* x, int64_t rows, int64_t width, int64_t x_stride, const void* weight,
                 double eps, void* y, int64_t y_stride) {
  const int64_t bytes = (int64_t)bytes_of(dtype);
  const Norm a{static_cast<const char*>(x), static_cast<const char*>(weight), rows, width, x_stride * bytes, (float)eps,
               static_cast<char*>(y), y_stride * bytes};
  if (dtype == TEAMTR_F32) return run_norm<F32>(dev, a);
  return dtype == TEAMTR_BF16 ? run_norm<Bf16>(dev, a) : run_norm<F16>(dev, a);
}

int32_t swiglu(const Device& dev, int32_t dtype, const void* gate_up, int64_t rows, int64_t width, int64_t stride, void* y,
               int64_t y_stride) {
  const int64_t bytes = (int64_t)bytes_of(dtype);
  const Gate a{static_cast<const char*>(gate_up), rows, width, stride * bytes, static_cast<char*>(y), y_stride * bytes};
  if (dtype == TEAMTR_F32) return run_gate<F32>(dev, a);
  return dtype == TEAMTR_BF16 ? run_gate<Bf16>(dev, a) : run_gate<F16>(dev, a);
}

int32_t attend(const Device& dev, int32_t dtype, const Attend& a) {
  if (dtype == TEAMTR_F32) return run_attend<F32>(dev, a);
  return dtype == TEAMTR_BF16 ? run_attend<Bf16>(dev, a) : run_attend<F16>(dev, a);
}

}  // namespace cuda
}  // namespace teamtr
