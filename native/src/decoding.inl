/*
 * The layers of a decoder for a few rows of one new token each, written with the sixteen-lane vectors of simd_*.h. Included after
 * kernels.inl, once per CPU level.
 *
 * Products. A BLAS packs the weight into tiles before it multiplies. For a few rows this costs more than the multiplication: the
 * weight is read, written and read again. Here each row of the weight is read in place. An element of the result is summed in
 * sixteen lanes, in the order of the columns, and the lanes are then added in double. This order depends only on the number of
 * columns, so a row's bits do not depend on the other rows. With many rows a different order is faster (see "products of many
 * rows" below); it also depends only on the number of columns.
 *
 * Attention. The columns of a row are processed in blocks of 64, from the row's first column on, with a running maximum. The result
 * does not depend on where in the cache that first column is.
 */
namespace teamtr {
namespace TEAMTR_ISA {

/* Rows of x and rows of the weight that are multiplied at once: as many sums as registers can hold. With AVX2 the registers hold
 * half of the lanes, so the two halves are computed one after the other. */
#if defined(__AVX512F__)
static constexpr int kTileRows = 6, kTileOut = 4;
#else
static constexpr int kTileRows = 4, kTileOut = 3;
#endif
static constexpr int64_t kColumnBlock = 512; /* columns of a tile, read a second time for the other half; they fit into an L1 cache */

/* ---- single elements, and the end of a row ---- */

template <class D> TEAMTR_INLINE float get(const typename D::T* p) {
  if constexpr (std::is_same<D, F32>::value) {
    return *p;
  } else if constexpr (std::is_same<D, Bf16>::value) {
    const uint32_t u = (uint32_t)*p << 16;
    float f;
    std::memcpy(&f, &u, 4);
    return f;
  } else {
    return one<D>(p);
  }
}

template <class D> TEAMTR_INLINE void put(typename D::T* p, float a) {
  if constexpr (std::is_same<D, F32>::value) {
    *p = a;
  } else if constexpr (std::is_same<D, Bf16>::value) {
    uint32_t u;
    a = quiet(a);
    std::memcpy(&u, &a, 4);
    *p = (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
  } else {
    put_one<D>(p, a);
  }
}

/* The n elements at p, padded with zeros to sixteen. */
template <class D> TEAMTR_INLINE F load_part(const typename D::T* p, int64_t n) {
  typename D::T v[16] = {};
  std::memcpy(v, p, (size_t)n * sizeof(v[0]));
  return D::load(v);
}

template <class D> TEAMTR_INLINE F load_up_to(const typename D::T* p, int64_t n) { return n >= 16 ? D::load(p) : load_part<D>(p, n); }

TEAMTR_INLINE void store_up_to(float* p, F x, int64_t n) {
  if (n >= 16) return store(p, x);
  float v[16];
  store(v, x);
  std::memcpy(p, v, (size_t)n * sizeof(float));
}

template <class D> static void widen(const void* from, int64_t n, float* to) {
  const auto* x = static_cast<const typename D::T*>(from);
  for (int64_t i = 0; i < n; i += 16) store_up_to(to + i, load_up_to<D>(x + i, n - i), n - i);
}

/* ---- products ---- */

#if defined(__AVX2__) && !defined(__AVX512F__)
using Part = __m256;
static constexpr int kParts = 2;
TEAMTR_INLINE Part& part(F& x, int p) { return p ? x.b : x.a; }
TEAMTR_INLINE Part fma(Part x, Part y, Part z) { return _mm256_fmadd_ps(x, y, z); }
template <class D> TEAMTR_INLINE Part load_lanes(const typename D::T* p) {
  if constexpr (std::is_same<D, F32>::value) return _mm256_loadu_ps(p);
  else if constexpr (std::is_same<D, Bf16>::value) return bf16_half(p);
  else return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p));
}
#else
using Part = F;
static constexpr int kParts = 1;
TEAMTR_INLINE Part& part(F& x, int) { return x; }
template <class D> TEAMTR_INLINE Part load_lanes(const typename D::T* p) { return D::load(p); }
#endif

/* acc[r][o] += x[r] w[o], lane by lane. */
template <class D, int R, int O>
TEAMTR_INLINE void multiply(const float* x, int64_t x_stride, const typename D::T* w, int64_t n, F acc[R][O]) {
  const int64_t whole = n / 16 * 16;
  for (int64_t from = 0; from < whole; from += kColumnBlock) {
    const int64_t to = from + kColumnBlock < whole ? from + kColumnBlock : whole;
    for (int p = 0; p < kParts; p++) {
      Part sums[R][O];
      for (int r = 0; r < R; r++)
        for (int o = 0; o < O; o++) sums[r][o] = part(acc[r][o], p);
      for (int64_t i = from + p * (16 / kParts); i < to; i += 16) {
        Part ws[O];
        for (int o = 0; o < O; o++) ws[o] = load_lanes<D>(w + o * n + i);
        for (int r = 0; r < R; r++) {
          const Part xs = load_lanes<F32>(x + r * x_stride + i);
          for (int o = 0; o < O; o++) sums[r][o] = fma(xs, ws[o], sums[r][o]);
        }
      }
      for (int r = 0; r < R; r++)
        for (int o = 0; o < O; o++) part(acc[r][o], p) = sums[r][o];
    }
  }
  if (whole < n)
    for (int o = 0; o < O; o++) {
      const F ws = load_part<D>(w + o * n + whole, n - whole);
      for (int r = 0; r < R; r++) acc[r][o] = fma(load_part<F32>(x + r * x_stride + whole, n - whole), ws, acc[r][o]);
    }
}

/* Scales a sum, adds the bias, and stores it in or adds it to y. */
template <class D> TEAMTR_INLINE void finish(const Linear& a, int64_t row, int64_t out, double sum) {
  using T = typename D::T;
  sum = a.scale * sum + (a.bias ? get<D>(static_cast<const T*>(a.bias) + out) : 0);
  const int64_t at = row * a.y_stride + out;
  if (a.wide) {
    static_cast<float*>(a.y)[at] = (float)sum;
  } else {
    T* y = static_cast<T*>(a.y) + at;
    put<D>(y, (float)(a.add ? sum + get<D>(y) : sum));
  }
}

template <class D, int R, int O> static void tile(const Linear& a, int64_t row, int64_t out) {
  using T = typename D::T;
  F acc[R][O];
  for (int r = 0; r < R; r++)
    for (int o = 0; o < O; o++) acc[r][o] = set(0);
  multiply<D, R, O>(a.x + row * a.x_stride, a.x_stride, static_cast<const T*>(a.weight) + out * a.in, a.in, acc);
  if (a.rank) multiply<D, R, O>(a.low + row * a.rank, a.rank, static_cast<const T*>(a.b) + out * a.rank, a.rank, acc);
  for (int r = 0; r < R; r++)
    for (int o = 0; o < O; o++) finish<D>(a, row + r, out + o, sum(acc[r][o]));
}

template <class D, int O> static void tiles(const Linear& a, int64_t out) {
  int64_t row = 0;
  for (; row + kTileRows <= a.rows; row += kTileRows) tile<D, kTileRows, O>(a, row, out);
  for (; row < a.rows; row++) tile<D, 1, O>(a, row, out);
}

/* ---- products of many rows ---- */

/* From kManyRows rows on it pays to transpose the weight: sixteen of its rows, kColumnBlock columns at a time, become a panel in which
 * each lane is a row. The panel is multiplied with single elements of x, so each sum is made in one lane, in the order of the columns. */
#if defined(__AVX512F__)
static constexpr int kPanelRows = 12;
#else
static constexpr int kPanelRows = 6;
#endif
static constexpr int64_t kManyRowBlock = 192;

#if defined(__AVX2__)
template <class D> TEAMTR_INLINE __m256 load_eight(const typename D::T* p) {
  if constexpr (std::is_same<D, F32>::value) return _mm256_loadu_ps(p);
  else if constexpr (std::is_same<D, Bf16>::value)
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p)), 16));
  else return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p));
}

/* Transposes eight rows of eight elements; the eight resulting rows are sixteen floats apart. */
template <class D> TEAMTR_INLINE void turn(const typename D::T* w, int64_t stride, float* to) {
  __m256 a[8], b[8];
  for (int i = 0; i < 8; i++) a[i] = load_eight<D>(w + i * stride);
  for (int i = 0; i < 8; i += 2) {
    b[i] = _mm256_unpacklo_ps(a[i], a[i + 1]);
    b[i + 1] = _mm256_unpackhi_ps(a[i], a[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    a[i] = _mm256_shuffle_ps(b[i], b[i + 2], 0x44);
    a[i + 1] = _mm256_shuffle_ps(b[i], b[i + 2], 0xee);
    a[i + 2] = _mm256_shuffle_ps(b[i + 1], b[i + 3], 0x44);
    a[i + 3] = _mm256_shuffle_ps(b[i + 1], b[i + 3], 0xee);
  }
  for (int i = 0; i < 4; i++) {
    _mm256_storeu_ps(to + i * 16, _mm256_permute2f128_ps(a[i], a[i + 4], 0x20));
    _mm256_storeu_ps(to + (i + 4) * 16, _mm256_permute2f128_ps(a[i], a[i + 4], 0x31));
  }
}
#endif

/* panel[k][o] = w[o][k] of n columns; rows beyond `outs` are 0. */
template <class D> static void turn_panel(const typename D::T* w, int64_t stride, int64_t n, int outs, float* panel) {
  int64_t k = 0;
#if defined(__AVX2__)
  if (outs == 16)
    for (; k + 8 <= n; k += 8) {
      turn<D>(w + k, stride, panel + k * 16);
      turn<D>(w + 8 * stride + k, stride, panel + k * 16 + 8);
    }
#endif
  for (; k < n; k++)
    for (int o = 0; o < 16; o++) panel[k * 16 + o] = o < outs ? get<D>(w + o * stride + k) : 0;
}

template <int R> static void times_panel(const float* x, int64_t x_stride, const float* panel, int64_t n, float* sums) {
  F acc[R];
  for (int r = 0; r < R; r++) acc[r] = load(sums + r * 16);
  for (int64_t k = 0; k < n; k++) {
    const F w = load(panel + k * 16);
    for (int r = 0; r < R; r++) acc[r] = fma(set(x[r * x_stride + k]), w, acc[r]);
  }
  for (int r = 0; r < R; r++) store(sums + r * 16, acc[r]);
}

/* The same for the last rows, at most R of them. */
template <int R> static void last_times_panel(int64_t rows, const float* x, int64_t x_stride, const float* panel, int64_t n, float* sums) {
  if (rows == R) return times_panel<R>(x, x_stride, panel, n, sums);
  if constexpr (R > 1) last_times_panel<R - 1>(rows, x, x_stride, panel, n, sums);
}

/* sums += x w^T, for up to sixteen rows of w. */
template <class D>
static void add_products(const float* x, int64_t x_stride, int64_t rows, const typename D::T* w, int64_t n, int outs, float* sums) {
  float panel[kColumnBlock * 16];
  for (int64_t k = 0; k < n; k += kColumnBlock) {
    const int64_t m = n - k < kColumnBlock ? n - k : kColumnBlock;
    turn_panel<D>(w + k, n, m, outs, panel);
    int64_t r = 0;
    for (; r + kPanelRows <= rows; r += kPanelRows) times_panel<kPanelRows>(x + r * x_stride + k, x_stride, panel, m, sums + r * 16);
    if (r < rows) last_times_panel<kPanelRows - 1>(rows - r, x + r * x_stride + k, x_stride, panel, m, sums + r * 16);
  }
}

/* The same as finish() for all sums of a panel: sixteen at a time where they are stored in f32 without scale and bias. */
template <class D> static void finish_panel(const Linear& a, int64_t row, int64_t rows, int64_t out, int outs, const float* sums) {
  if (outs == 16 && a.scale == 1 && !a.bias && (a.wide || std::is_same<D, F32>::value)) {
    float* y = static_cast<float*>(a.y) + row * a.y_stride + out;
    for (int64_t r = 0; r < rows; r++) {
      const F sum = load(sums + r * 16);
      store(y + r * a.y_stride, add(sum, a.add ? load(y + r * a.y_stride) : set(0)));
    }
    return;
  }
  for (int64_t r = 0; r < rows; r++)
    for (int o = 0; o < outs; o++) finish<D>(a, row + r, out + o, sums[r * 16 + o]);
}

template <class D> static void many_rows(const Linear& a, int64_t from, int64_t to) {
  using T = typename D::T;
  float sums[kManyRowBlock * 16];
  for (int64_t row = 0; row < a.rows; row += kManyRowBlock) {
    const int64_t rows = a.rows - row < kManyRowBlock ? a.rows - row : kManyRowBlock;
    for (int64_t out = from; out < to; out += 16) {
      const int outs = (int)(to - out < 16 ? to - out : 16);
      std::memset(sums, 0, (size_t)rows * 16 * sizeof(float));
      add_products<D>(a.x + row * a.x_stride, a.x_stride, rows, static_cast<const T*>(a.weight) + out * a.in, a.in, outs, sums);
      if (a.rank) add_products<D>(a.low + row * a.rank, a.rank, rows, static_cast<const T*>(a.b) + out * a.rank, a.rank, outs, sums);
      finish_panel<D>(a, row, rows, out, outs, sums);
    }
  }
}

/* Computes the columns from .. to of y, for all rows. */
template <class D> static void linear(const Linear& a, int64_t from, int64_t to) {
  if (a.rows >= kManyRows) return many_rows<D>(a, from, to);
  int64_t out = from;
  for (; out + kTileOut <= to; out += kTileOut) tiles<D, kTileOut>(a, out);
  for (; out < to; out++) tiles<D, 1>(a, out);
}

/* ---- element by element ---- */

/* y = x / sqrt(mean x^2 + eps) weight; y may be x. */
template <class D> static void norm_of(const float* x, int64_t n, const typename D::T* weight, double eps, float* y) {
  F squares = set(0);
  for (int64_t i = 0; i < n; i += 16) {
    const F v = load_up_to<F32>(x + i, n - i);
    squares = fma(v, v, squares);
  }
  const F scale = set((float)(1 / std::sqrt(sum(squares) / (double)n + eps)));
  for (int64_t i = 0; i < n; i += 16)
    store_up_to(y + i, mul(mul(load_up_to<F32>(x + i, n - i), scale), load_up_to<D>(weight + i, n - i)), n - i);
}

/* One row. `work` has room for n floats. */
template <class D> static void rms_norm(const void* x, int64_t n, const void* weight, double eps, void* y, float* work) {
  using T = typename D::T;
  widen<D>(x, n, work);
  norm_of<D>(work, n, static_cast<const T*>(weight), eps, work);
  for (int64_t i = 0; i < n; i++) put<D>(static_cast<T*>(y) + i, work[i]);
}

/* y = gate / (1 + exp(-gate)) up, of n elements; y may be either. */
template <class D> static void swiglu(const void* gate, const void* up, int64_t n, void* y) {
  using T = typename D::T;
  const T *g = static_cast<const T*>(gate), *u = static_cast<const T*>(up);
  for (int64_t i = 0; i < n; i += 16) {
    const int64_t m = n - i < 16 ? n - i : 16;
    const F x = load_up_to<D>(g + i, m);
    const F e = exp2_of(mul(abs(x), set((float)-kLog2e))); /* at most 1 */
    const F half = div(set(1), add(set(1), e));
    float v[16];
    store(v, mul(mul(x, select(lt(x, set(0)), mul(e, half), half)), load_up_to<D>(u + i, m)));
    for (int64_t k = 0; k < m; k++) put<D>(static_cast<T*>(y) + i + k, v[k]);
  }
}

/* ---- attention ---- */

/* Normalises a head of a query or key, where the model does, and rotates it by its position: its halves (a, b) become
 * (a cos - b sin, b cos + a sin). The table `sine` holds the signs. The result is padded with zeros to a multiple of 16. */
template <class D> static void turned(const Attend& a, const void* head, const void* norm, int64_t position, float* to) {
  float x[kMaxHeadDim];
  const int64_t d = a.head_dim, half = d / 2;
  widen<D>(head, d, x);
  if (norm) norm_of<D>(x, d, static_cast<const typename D::T*>(norm), a.eps, x);
  const float *cosine = a.cosine + position * d, *sine = a.sine + position * d;
  for (int64_t i = 0; i < d; i++) to[i] = std::fma(x[i], cosine[i], x[i < half ? i + half : i - half] * sine[i]);
  for (int64_t i = d; i % 16; i++) to[i] = 0;
}

template <class D> static void attend(const Attend& a, int64_t row, int64_t kv_head) {
  using T = typename D::T;
  constexpr int kBlock = 64;
  const int64_t d = a.head_dim, vectors = (d + 15) / 16, share = a.heads / a.kv_heads, position = a.positions[row];
  const int64_t column = a.starts[row] + position;
  const T* in = static_cast<const T*>(a.qkv) + row * a.qkv_stride;
  const int64_t cache = (row * a.kv_heads + kv_head) * a.room * d;
  T *keys = static_cast<T*>(a.keys) + cache, *values = static_cast<T*>(a.values) + cache;
  float x[kMaxHeadDim];

  turned<D>(a, in + (a.heads + kv_head) * d, a.k_norm, position, x);
  for (int64_t i = 0; i < d; i++) put<D>(keys + column * d + i, x[i]);
  std::memcpy(values + column * d, in + (a.heads + a.kv_heads + kv_head) * d, (size_t)d * sizeof(T));

  const int64_t first = a.window && position >= a.window ? column + 1 - a.window : a.starts[row];
  const F scale = set((float)(kLog2e / std::sqrt((double)d))); /* so that scores are exponents of two */
  for (int64_t h = kv_head * share; h < (kv_head + 1) * share; h++) {
    F sums[kMaxHeadDim / 16];
    for (int64_t v = 0; v < vectors; v++) sums[v] = set(0);
    float greatest = -kInf;
    double total = 0;
    turned<D>(a, in + h * d, a.q_norm, position, x);
    for (int64_t from = first; from <= column; from += kBlock) {
      const int64_t n = column + 1 - from < kBlock ? column + 1 - from : kBlock;
      float score[kBlock];
      for (int64_t c = 0; c < n; c++) {
        F dot = set(0);
        for (int64_t v = 0; v < vectors; v++) dot = fma(load(x + 16 * v), load_up_to<D>(keys + (from + c) * d + 16 * v, d - 16 * v), dot);
        score[c] = (float)sum(dot);
      }
      for (int64_t c = n; c % 16; c++) score[c] = -kInf;
      float most = greatest;
      for (int64_t c = 0; c < n; c += 16) {
        const F s = mul(load(score + c), scale);
        store(score + c, s);
        most = std::fmax(most, max_lane(s));
      }
      const F shift = set(most);
      F weights = set(0);
      for (int64_t c = 0; c < n; c += 16) {
        const F p = exp2_of(sub(load(score + c), shift));
        store(score + c, p);
        weights = add(weights, p);
      }
      if (most > greatest) { /* in the first block all sums are still 0 */
        const float shrink = std::exp2(greatest - most);
        total *= shrink;
        for (int64_t v = 0; v < vectors; v++) sums[v] = mul(sums[v], set(shrink));
        greatest = most;
      }
      total += sum(weights);
      for (int64_t c = 0; c < n; c++) {
        const F p = set(score[c]);
        for (int64_t v = 0; v < vectors; v++)
          sums[v] = fma(p, load_up_to<D>(values + (from + c) * d + 16 * v, d - 16 * v), sums[v]);
      }
    }
    const F inverse = set((float)(1 / total));
    T* y = static_cast<T*>(a.y) + row * a.y_stride + h * d;
    float out[kMaxHeadDim];
    for (int64_t v = 0; v < vectors; v++) store(out + 16 * v, mul(sums[v], inverse));
    for (int64_t i = 0; i < d; i++) put<D>(y + i, out[i]);
  }
}

}  // namespace TEAMTR_ISA
}  // namespace teamtr
