/*
 * Sixteen f32 lanes on AVX-512 (F, BW, DQ, VL). simd_avx2.h and simd_portable.h offer the same names; kernels.inl
 * is written over them. Operations are chosen so that AVX2 gives the same bits lane for lane.
 */
#ifndef TEAMTR_SIMD_AVX512_H
#define TEAMTR_SIMD_AVX512_H

#include <immintrin.h>

#include <cstdint>

#include "inline.h"

namespace teamtr {
namespace TEAMTR_ISA {

using F = __m512;
using U = __m512i;   /* sixteen u32 */
using M = __mmask16;

TEAMTR_INLINE F set(float a) { return _mm512_set1_ps(a); }
TEAMTR_INLINE F load(const float* p) { return _mm512_loadu_ps(p); }
TEAMTR_INLINE F load_bf16(const uint16_t* p) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p)), 16));
}
TEAMTR_INLINE F load_f16(const uint16_t* p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p)); }
TEAMTR_INLINE void store(float* p, F a) { _mm512_storeu_ps(p, a); }
TEAMTR_INLINE void store_u16(uint16_t* p, U a) { _mm256_storeu_si256((__m256i*)p, _mm512_cvtepi32_epi16(a)); }
TEAMTR_INLINE void store_f16(uint16_t* p, F a) {
  _mm256_storeu_si256((__m256i*)p, _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

TEAMTR_INLINE F add(F a, F b) { return _mm512_add_ps(a, b); }
TEAMTR_INLINE F sub(F a, F b) { return _mm512_sub_ps(a, b); }
TEAMTR_INLINE F mul(F a, F b) { return _mm512_mul_ps(a, b); }
TEAMTR_INLINE F div(F a, F b) { return _mm512_div_ps(a, b); }
TEAMTR_INLINE F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
TEAMTR_INLINE F max(F a, F b) { return _mm512_max_ps(a, b); } /* a > b ? a : b, so b when either is NaN */
TEAMTR_INLINE F min(F a, F b) { return _mm512_min_ps(a, b); } /* a < b ? a : b */
TEAMTR_INLINE F abs(F a) { return _mm512_abs_ps(a); }
TEAMTR_INLINE F round(F a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
/* a * 2^n for whole n; the caller keeps the result a normal number or throws it away */
TEAMTR_INLINE F scale2(F a, F n) { return _mm512_scalef_ps(a, n); }

TEAMTR_INLINE M eq(F a, F b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
TEAMTR_INLINE M le(F a, F b) { return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ); }
TEAMTR_INLINE M lt(F a, F b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); } /* false on NaN */
TEAMTR_INLINE M ge(F a, F b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }
TEAMTR_INLINE M both(M a, M b) { return a & b; }
TEAMTR_INLINE M either(M a, M b) { return a | b; }
TEAMTR_INLINE bool any(M m) { return m != 0; }
TEAMTR_INLINE bool all(M m) { return m == 0xffff; }
TEAMTR_INLINE int count(M m) { return __builtin_popcount(m); }
TEAMTR_INLINE uint32_t bits(M m) { return m; } /* lane i in bit i */
TEAMTR_INLINE F select(M m, F yes, F no) { return _mm512_mask_blend_ps(m, no, yes); }
TEAMTR_INLINE F zero_if(M m, F a) { return _mm512_maskz_mov_ps((M)~m, a); }

TEAMTR_INLINE U as_u(F a) { return _mm512_castps_si512(a); }
TEAMTR_INLINE F as_f(U a) { return _mm512_castsi512_ps(a); }
TEAMTR_INLINE U set_u(uint32_t a) { return _mm512_set1_epi32((int)a); }
TEAMTR_INLINE U add_u(U a, U b) { return _mm512_add_epi32(a, b); }
TEAMTR_INLINE U sub_u(U a, U b) { return _mm512_sub_epi32(a, b); }
TEAMTR_INLINE U and_u(U a, U b) { return _mm512_and_si512(a, b); }
TEAMTR_INLINE U or_u(U a, U b) { return _mm512_or_si512(a, b); }
TEAMTR_INLINE U xor_u(U a, U b) { return _mm512_xor_si512(a, b); }
template <int N> TEAMTR_INLINE U shr(U a) { return _mm512_srli_epi32(a, N); }
template <int N> TEAMTR_INLINE U shl(U a) { return _mm512_slli_epi32(a, N); }
TEAMTR_INLINE U select_u(M m, U yes, U no) { return _mm512_mask_blend_epi32(m, no, yes); }
TEAMTR_INLINE U iota_u() { return _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0); }
TEAMTR_INLINE U load_u(const uint32_t* p) { return _mm512_loadu_si512(p); }
TEAMTR_INLINE void store_u(uint32_t* p, U a) { _mm512_storeu_si512(p, a); }
TEAMTR_INLINE F to_float(U a) { return _mm512_cvtepi32_ps(a); } /* signed */
/* the high and low halves of the sixteen 64-bit products a * b */
TEAMTR_INLINE void mul_wide(U a, U b, U* hi, U* lo) {
  const __m512i even = _mm512_mul_epu32(a, b);
  const __m512i odd = _mm512_mul_epu32(_mm512_srli_epi64(a, 32), _mm512_srli_epi64(b, 32));
  *lo = _mm512_mask_blend_epi32(0xaaaa, even, _mm512_slli_epi64(odd, 32));
  *hi = _mm512_mask_blend_epi32(0xaaaa, _mm512_srli_epi64(even, 32), odd);
}

/* Sums lanes in double: lane i with i + 8, then i + 4, i + 2, i + 1. */
TEAMTR_INLINE double sum(F a) {
  const __m512d s = _mm512_add_pd(_mm512_cvtps_pd(_mm512_castps512_ps256(a)),
                                  _mm512_cvtps_pd(_mm512_extractf32x8_ps(a, 1)));
  const __m256d q = _mm256_add_pd(_mm512_castpd512_pd256(s), _mm512_extractf64x4_pd(s, 1));
  const __m128d d = _mm_add_pd(_mm256_castpd256_pd128(q), _mm256_extractf128_pd(q, 1));
  return _mm_cvtsd_f64(d) + _mm_cvtsd_f64(_mm_unpackhi_pd(d, d));
}
TEAMTR_INLINE float max_lane(F a) { return _mm512_reduce_max_ps(a); } /* of numbers, not NaN */

}  // namespace TEAMTR_ISA
}  // namespace teamtr
#endif
