/* Sixteen f32 lanes as two AVX2 registers, with FMA and F16C. See simd_avx512.h. */
#ifndef TEAMTR_SIMD_AVX2_H
#define TEAMTR_SIMD_AVX2_H

#include <immintrin.h>

#include <cstdint>

#include "inline.h"

namespace teamtr {
namespace TEAMTR_ISA {

struct F { __m256 a, b; };
struct U { __m256i a, b; };
struct M { __m256 a, b; }; /* all ones or all zeros per lane */

TEAMTR_INLINE F set(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
TEAMTR_INLINE F load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
TEAMTR_INLINE __m256 bf16_half(const uint16_t* p) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p)), 16));
}
TEAMTR_INLINE F load_bf16(const uint16_t* p) { return {bf16_half(p), bf16_half(p + 8)}; }
TEAMTR_INLINE F load_f16(const uint16_t* p) {
  return {_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p)), _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)(p + 8)))};
}
TEAMTR_INLINE void store(float* p, F x) { _mm256_storeu_ps(p, x.a); _mm256_storeu_ps(p + 8, x.b); }
TEAMTR_INLINE void store_u16(uint16_t* p, U x) { /* values < 65536 */
  const __m256i packed = _mm256_packus_epi32(x.a, x.b); /* interleaved by 128-bit lane */
  _mm256_storeu_si256((__m256i*)p, _mm256_permute4x64_epi64(packed, 0xd8));
}
TEAMTR_INLINE void store_f16(uint16_t* p, F x) {
  _mm_storeu_si128((__m128i*)p, _mm256_cvtps_ph(x.a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  _mm_storeu_si128((__m128i*)(p + 8), _mm256_cvtps_ph(x.b, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

TEAMTR_INLINE F add(F x, F y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
TEAMTR_INLINE F sub(F x, F y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
TEAMTR_INLINE F mul(F x, F y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
TEAMTR_INLINE F div(F x, F y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
TEAMTR_INLINE F fma(F x, F y, F z) { return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)}; }
TEAMTR_INLINE F max(F x, F y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
TEAMTR_INLINE F min(F x, F y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
TEAMTR_INLINE F abs(F x) {
  const __m256 m = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  return {_mm256_and_ps(x.a, m), _mm256_and_ps(x.b, m)};
}
TEAMTR_INLINE F round(F x) {
  return {_mm256_round_ps(x.a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
          _mm256_round_ps(x.b, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
TEAMTR_INLINE __m256 scale2_half(__m256 x, __m256 n) {
  return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(x), _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23)));
}
TEAMTR_INLINE F scale2(F x, F n) { return {scale2_half(x.a, n.a), scale2_half(x.b, n.b)}; }

TEAMTR_INLINE M eq(F x, F y) { return {_mm256_cmp_ps(x.a, y.a, _CMP_EQ_OQ), _mm256_cmp_ps(x.b, y.b, _CMP_EQ_OQ)}; }
TEAMTR_INLINE M le(F x, F y) { return {_mm256_cmp_ps(x.a, y.a, _CMP_LE_OQ), _mm256_cmp_ps(x.b, y.b, _CMP_LE_OQ)}; }
TEAMTR_INLINE M lt(F x, F y) { return {_mm256_cmp_ps(x.a, y.a, _CMP_LT_OQ), _mm256_cmp_ps(x.b, y.b, _CMP_LT_OQ)}; }
TEAMTR_INLINE M ge(F x, F y) { return {_mm256_cmp_ps(x.a, y.a, _CMP_GE_OQ), _mm256_cmp_ps(x.b, y.b, _CMP_GE_OQ)}; }
TEAMTR_INLINE M both(M x, M y) { return {_mm256_and_ps(x.a, y.a), _mm256_and_ps(x.b, y.b)}; }
TEAMTR_INLINE M either(M x, M y) { return {_mm256_or_ps(x.a, y.a), _mm256_or_ps(x.b, y.b)}; }
TEAMTR_INLINE uint32_t bits(M m) { return (uint32_t)_mm256_movemask_ps(m.a) | ((uint32_t)_mm256_movemask_ps(m.b) << 8); }
TEAMTR_INLINE bool any(M m) { return bits(m) != 0; }
TEAMTR_INLINE bool all(M m) { return bits(m) == 0xffff; }
TEAMTR_INLINE int count(M m) { return __builtin_popcount(bits(m)); }
TEAMTR_INLINE F select(M m, F yes, F no) { return {_mm256_blendv_ps(no.a, yes.a, m.a), _mm256_blendv_ps(no.b, yes.b, m.b)}; }
TEAMTR_INLINE F zero_if(M m, F x) { return {_mm256_andnot_ps(m.a, x.a), _mm256_andnot_ps(m.b, x.b)}; }

TEAMTR_INLINE U as_u(F x) { return {_mm256_castps_si256(x.a), _mm256_castps_si256(x.b)}; }
TEAMTR_INLINE F as_f(U x) { return {_mm256_castsi256_ps(x.a), _mm256_castsi256_ps(x.b)}; }
TEAMTR_INLINE U set_u(uint32_t x) { return {_mm256_set1_epi32((int)x), _mm256_set1_epi32((int)x)}; }
TEAMTR_INLINE U add_u(U x, U y) { return {_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)}; }
TEAMTR_INLINE U sub_u(U x, U y) { return {_mm256_sub_epi32(x.a, y.a), _mm256_sub_epi32(x.b, y.b)}; }
TEAMTR_INLINE U and_u(U x, U y) { return {_mm256_and_si256(x.a, y.a), _mm256_and_si256(x.b, y.b)}; }
TEAMTR_INLINE U or_u(U x, U y) { return {_mm256_or_si256(x.a, y.a), _mm256_or_si256(x.b, y.b)}; }
TEAMTR_INLINE U xor_u(U x, U y) { return {_mm256_xor_si256(x.a, y.a), _mm256_xor_si256(x.b, y.b)}; }
template <int N> TEAMTR_INLINE U shr(U x) { return {_mm256_srli_epi32(x.a, N), _mm256_srli_epi32(x.b, N)}; }
template <int N> TEAMTR_INLINE U shl(U x) { return {_mm256_slli_epi32(x.a, N), _mm256_slli_epi32(x.b, N)}; }
TEAMTR_INLINE U select_u(M m, U yes, U no) { return as_u(select(m, as_f(yes), as_f(no))); }
TEAMTR_INLINE U iota_u() { return {_mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0), _mm256_set_epi32(15, 14, 13, 12, 11, 10, 9, 8)}; }
TEAMTR_INLINE U load_u(const uint32_t* p) {
  return {_mm256_loadu_si256((const __m256i*)p), _mm256_loadu_si256((const __m256i*)(p + 8))};
}
TEAMTR_INLINE void store_u(uint32_t* p, U x) {
  _mm256_storeu_si256((__m256i*)p, x.a);
  _mm256_storeu_si256((__m256i*)(p + 8), x.b);
}
TEAMTR_INLINE F to_float(U x) { return {_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
TEAMTR_INLINE void mul_wide_half(__m256i x, __m256i y, __m256i* hi, __m256i* lo) {
  const __m256i even = _mm256_mul_epu32(x, y);
  const __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64(x, 32), _mm256_srli_epi64(y, 32));
  *lo = _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
  *hi = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
}
TEAMTR_INLINE void mul_wide(U x, U y, U* hi, U* lo) {
  mul_wide_half(x.a, y.a, &hi->a, &lo->a);
  mul_wide_half(x.b, y.b, &hi->b, &lo->b);
}

TEAMTR_INLINE double sum(F x) { /* the tree of simd_avx512.h */
  const __m256d low = _mm256_add_pd(_mm256_cvtps_pd(_mm256_castps256_ps128(x.a)), _mm256_cvtps_pd(_mm256_castps256_ps128(x.b)));
  const __m256d high = _mm256_add_pd(_mm256_cvtps_pd(_mm256_extractf128_ps(x.a, 1)), _mm256_cvtps_pd(_mm256_extractf128_ps(x.b, 1)));
  const __m256d q = _mm256_add_pd(low, high);
  const __m128d d = _mm_add_pd(_mm256_castpd256_pd128(q), _mm256_extractf128_pd(q, 1));
  return _mm_cvtsd_f64(d) + _mm_cvtsd_f64(_mm_unpackhi_pd(d, d));
}
TEAMTR_INLINE float max_lane(F x) {
  const __m256 m = _mm256_max_ps(x.a, x.b);
  __m128 h = _mm_max_ps(_mm256_castps256_ps128(m), _mm256_extractf128_ps(m, 1));
  h = _mm_max_ps(h, _mm_movehl_ps(h, h));
  return _mm_cvtss_f32(_mm_max_ss(h, _mm_shuffle_ps(h, h, 1)));
}

}  // namespace TEAMTR_ISA
}  // namespace teamtr
#endif
